package core

import (
	"context"
	"crypto/rand"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/internal/safehttp"
	"github.com/opencpm/opencpm/internal/store"
)

// CreateSubscription registers a webhook. Its id and times are set here; unset
// fields take their defaults. Where no signing secret is given one is made, and given
// back beside the registration, this once: not to who repeats the request.
func (s *Service) CreateSubscription(ctx context.Context, a Actor, r Request, v consent.Subscription) (made store.Registered, signingSecret string, err error) {
	once := r.once(a, "create subscription")
	snap, err := s.authoriseFor(ctx, a, consent.WebhooksManage, v.ApplicationID, r.Found)
	if err != nil {
		return store.Registered{}, "", err
	}
	v.ID, v.Application = store.NewID(), snap.Application
	given := v.Secrets.SigningSecret
	if given == "" {
		v.Secrets.SigningSecret = newSigningSecret()
	}
	if err := s.checkSubscription(&v, r.Found); err != nil {
		return store.Registered{}, "", err
	}
	made, err = s.store.CreateSubscription(ctx, v, a.ID, once)
	if given == "" && made.ID == v.ID {
		signingSecret = made.Secrets.SigningSecret
	}
	return made, signingSecret, err
}

func newSigningSecret() string {
	key := make([]byte, 32)
	rand.Read(key) // never fails; see its documentation
	return consent.SigningSecret(key)
}

// RotateSigningSecret makes a new signing secret for a registration, which the answer
// holds. The present one signs beside it for as long as overlap; nil means a day.
func (s *Service) RotateSigningSecret(ctx context.Context, a Actor, r Request, id consent.ID, overlap *time.Duration) (store.Registered, error) {
	if err := a.may(consent.WebhooksManage); err != nil {
		return store.Registered{}, err
	}
	long := 24 * time.Hour
	if overlap != nil {
		long = *overlap
	}
	faults := slices.Clone(r.Found)
	if long < 0 || long > consent.MaxOverlap {
		faults.Add("overlapSeconds", "must be between 0 and %d", int64(consent.MaxOverlap/time.Second))
	}
	return s.store.ChangeSubscription(ctx, a.Applications, id, a.ID, func(v *consent.Subscription) error {
		v.Secrets.RotateSigningSecret(newSigningSecret(), consent.At(time.Now()), long)
		return faults.Err()
	})
}

// checkSubscription completes a registration with the defaults and checks it
// whole.
func (s *Service) checkSubscription(v *consent.Subscription, found consent.Faults) error {
	def(&v.UpdateType, consent.EffectivePermission)
	def(&v.Status, consent.Active)
	def(&v.AuthType, consent.AuthNone)
	def(&v.TokenLocation, consent.InHeader)
	def(&v.RetryPolicy, consent.Adaptive)
	def(&v.Format, consent.PlainFormat)
	def(&v.CitizenTokenValidity, "P30D")
	faults := slices.Clone(found)
	v.Check(&faults)
	if err := s.outbound.CheckURL(v.URL); err != nil {
		faults.Add("url", "%v", err)
	}
	for _, at := range []struct{ field, url string }{{"refreshUrl", v.RefreshURL}, {"tokenUrl", v.TokenURL}} {
		if at.url == "" {
			continue
		}
		if err := s.outbound.CheckURL(at.url); err != nil {
			faults.Add(at.field, "%v", err)
		}
	}
	for name, value := range v.Secrets.Headers {
		if err := checkStaticHeader(name, value); err != nil {
			faults.Add("headers."+name, "%v", err)
		}
	}
	if v.AuthType == consent.AuthToken && v.TokenLocation == consent.InHeader && v.TokenName != "" && !strings.EqualFold(v.TokenName, "Authorization") {
		if err := checkStaticHeader(v.TokenName, v.Secrets.Token); err != nil {
			faults.Add("tokenName", "%v", err)
		}
		for name := range v.Secrets.Headers {
			if strings.EqualFold(name, v.TokenName) {
				faults.Add("headers."+name, "carries the token: choose another name")
			}
		}
	}
	return faults.Err()
}

// checkStaticHeader refuses a header that cannot be sent, or that says something about
// the message which only the message can: no value of a client's must replace one of ours.
func checkStaticHeader(name, value string) error {
	lower := strings.ToLower(name)
	if lower == "content-type" || lower == "authorization" || strings.HasPrefix(lower, "webhook-") {
		return errors.New("this header is set for every message: choose another name")
	}
	return safehttp.CheckHeader(name, value)
}

func def[T ~string](field *T, value T) {
	if *field == "" {
		*field = value
	}
}

// ChangeSubscription changes a registration: change gets the present one and
// edits it. The application is part of what a subscription is and cannot be
// changed. What waits is sent by the new one.
func (s *Service) ChangeSubscription(ctx context.Context, a Actor, r Request, id consent.ID, change func(*consent.Subscription)) (store.Registered, error) {
	if err := a.may(consent.WebhooksManage); err != nil {
		return store.Registered{}, err
	}
	return s.store.ChangeSubscription(ctx, a.Applications, id, a.ID, func(v *consent.Subscription) error {
		faults, before := slices.Clone(r.Found), *v
		change(v)
		if v.ApplicationID != before.ApplicationID {
			faults.Add("applicationId", "cannot be changed")
		}
		v.Outdate(&before)
		return s.checkSubscription(v, faults)
	})
}

// DeleteSubscription removes a registration; what waits for it ends.
func (s *Service) DeleteSubscription(ctx context.Context, a Actor, id consent.ID) error {
	if err := a.may(consent.WebhooksManage); err != nil {
		return err
	}
	return s.store.DeleteSubscription(ctx, a.Applications, id, a.ID)
}

// Subscriptions lists the registrations of one application, or of all of the
// actor's where applicationID is empty, and how many there are.
func (s *Service) Subscriptions(ctx context.Context, a Actor, applicationID string, f store.SubscriptionFilter) ([]store.Registered, int64, error) {
	if err := a.may(consent.WebhooksManage); err != nil {
		return nil, 0, err
	}
	f.Applications = a.Applications
	if applicationID != "" {
		snap, err := s.authorise(ctx, a, consent.WebhooksManage, applicationID)
		if err != nil {
			return nil, 0, err
		}
		f.Applications = []int64{snap.Application}
	}
	return s.store.Subscriptions(ctx, f)
}
