package core

import (
	"context"
	"slices"
	"strings"

	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/internal/safehttp"
	"github.com/opencpm/opencpm/internal/store"
)

// CreateSubscription registers a webhook. Its id and times are set here; unset
// fields take their defaults.
func (s *Service) CreateSubscription(ctx context.Context, a Actor, r Request, v consent.Subscription) (consent.Subscription, error) {
	once := r.once(a, "create subscription")
	snap, err := s.authoriseFor(ctx, a, consent.WebhooksManage, v.ApplicationID, r.Found)
	if err != nil {
		return consent.Subscription{}, err
	}
	v.ID, v.Application = store.NewID(), snap.Application
	if err := s.checkSubscription(&v, r.Found); err != nil {
		return consent.Subscription{}, err
	}
	return s.store.CreateSubscription(ctx, v, a.ID, once)
}

// checkSubscription completes a registration with the defaults and checks it
// whole.
func (s *Service) checkSubscription(v *consent.Subscription, found consent.Faults) error {
	def(&v.UpdateType, consent.EffectivePermission)
	def(&v.Status, consent.Active)
	def(&v.AuthType, consent.AuthNone)
	def(&v.TokenLocation, consent.InHeader)
	faults := slices.Clone(found)
	v.Check(&faults)
	if err := s.outbound.CheckURL(v.URL); err != nil {
		faults.Add("url", "%v", err)
	}
	if v.RefreshURL != "" {
		if err := s.outbound.CheckURL(v.RefreshURL); err != nil {
			faults.Add("refreshUrl", "%v", err)
		}
	}
	if v.AuthType == consent.AuthToken && v.TokenLocation == consent.InHeader && v.TokenName != "" && !strings.EqualFold(v.TokenName, "Authorization") {
		if err := safehttp.CheckHeader(v.TokenName, v.Secrets.Token); err != nil {
			faults.Add("tokenName", "%v", err)
		}
	}
	return faults.Err()
}

func def[T ~string](field *T, value T) {
	if *field == "" {
		*field = value
	}
}

// ChangeSubscription changes a registration: change gets the present one and
// edits it. The application is part of what a subscription is and cannot be
// changed. What waits is sent by the new one.
func (s *Service) ChangeSubscription(ctx context.Context, a Actor, r Request, id consent.ID, change func(*consent.Subscription)) (consent.Subscription, error) {
	if err := a.may(consent.WebhooksManage); err != nil {
		return consent.Subscription{}, err
	}
	return s.store.ChangeSubscription(ctx, a.Applications, id, a.ID, func(v *consent.Subscription) error {
		faults, of := slices.Clone(r.Found), v.ApplicationID
		change(v)
		if v.ApplicationID != of {
			faults.Add("applicationId", "cannot be changed")
		}
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

// Subscription reads one registration.
func (s *Service) Subscription(ctx context.Context, a Actor, id consent.ID) (consent.Subscription, error) {
	if err := a.may(consent.WebhooksManage); err != nil {
		return consent.Subscription{}, err
	}
	return s.store.Subscription(ctx, a.Applications, id)
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
