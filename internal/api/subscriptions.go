package api

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/internal/core"
	"github.com/opencpm/opencpm/internal/store"
)

// subscriptionChange is what is to be changed of a subscription: what is left out
// stays, null sets the default. The secrets are never answered.
type subscriptionChange struct {
	ApplicationID optional[applicationID]              `json:"applicationId,omitempty"`
	Name          optional[string]                     `json:"name,omitempty" minLength:"1" maxLength:"200"`
	URL           optional[string]                     `json:"url,omitempty" minLength:"1" maxLength:"2048"`
	UpdateType    optional[consent.UpdateType]         `json:"updateType,omitempty" minLength:"1" maxLength:"50"`
	Status        optional[consent.SubscriptionStatus] `json:"status,omitempty" minLength:"1" maxLength:"50"`
	AuthType      optional[consent.AuthType]           `json:"authType,omitempty" minLength:"1" maxLength:"50"`
	Token         optional[string]                     `json:"token,omitempty" maxLength:"8192" writeOnly:"true"`
	TokenLocation optional[consent.TokenLocation]      `json:"tokenLocation,omitempty" minLength:"1" maxLength:"50"`
	TokenName     optional[string]                     `json:"tokenName,omitempty" maxLength:"100"`
	RefreshToken  optional[string]                     `json:"refreshToken,omitempty" maxLength:"8192" writeOnly:"true"`
	RefreshURL    optional[string]                     `json:"refreshUrl,omitempty" minLength:"1" maxLength:"2048"`
	ClientID      optional[string]                     `json:"clientId,omitempty" maxLength:"500"`
	ClientSecret  optional[string]                     `json:"clientSecret,omitempty" maxLength:"8192" writeOnly:"true"`
	TokenURL      optional[string]                     `json:"tokenUrl,omitempty" minLength:"1" maxLength:"2048"`
	Scope         optional[string]                     `json:"scope,omitempty" maxLength:"1000"`
	SigningSecret optional[string]                     `json:"signingSecret,omitempty" minLength:"1" maxLength:"200" writeOnly:"true"`

	RetryPolicy          optional[consent.RetryPolicy]   `json:"retryPolicy,omitempty" minLength:"1" maxLength:"50"`
	Format               optional[consent.MessageFormat] `json:"format,omitempty" minLength:"1" maxLength:"50"`
	MessagePerChange     optional[bool]                  `json:"messagePerChange,omitempty"`
	StrictOrder          optional[bool]                  `json:"strictOrder,omitempty"`
	OnlyOnStateChange    optional[bool]                  `json:"onlyOnStateChange,omitempty"`
	IgnoreClients        optional[[]string]              `json:"ignoreClients,omitempty" maxItems:"50"`
	Filter               optional[subscriptionFilter]    `json:"filter,omitempty"`
	IncludeCitizenToken  optional[bool]                  `json:"includeCitizenToken,omitempty"`
	CitizenTokenValidity optional[string]                `json:"citizenTokenValidity,omitempty" minLength:"1" maxLength:"50"`
	TimeoutSeconds       optional[int64]                 `json:"timeoutSeconds,omitempty" minimum:"1" maximum:"30"`
	Headers              optional[map[string]string]     `json:"headers,omitempty" writeOnly:"true"`
}

// subscriptionFilter names what a subscription is about.
type subscriptionFilter struct {
	Options     []string `json:"options" required:"false" nullable:"false" maxItems:"500"`
	Channels    []string `json:"channels" required:"false" nullable:"false" maxItems:"500"`
	Preferences []string `json:"preferences" required:"false" nullable:"false" maxItems:"500"`
}

// newSubscription is a subscription to be created.
type newSubscription subscriptionChange

// TransformSchema says what must be given.
func (newSubscription) TransformSchema(_ huma.Registry, s *huma.Schema) *huma.Schema {
	s.Required = []string{"applicationId", "name", "url"}
	return s
}

// subscriptionReplacement is all that a subscription is to be: what is left out
// takes its default, but for the secrets, which stay.
type subscriptionReplacement subscriptionChange

// TransformSchema says what must be given.
func (subscriptionReplacement) TransformSchema(_ huma.Registry, s *huma.Schema) *huma.Schema {
	s.Required = []string{"name", "url"}
	return s
}

// apply writes what is given over a subscription. Core sets the defaults.
func (c *subscriptionChange) apply(v *consent.Subscription) {
	c.Name.set(&v.Name)
	c.URL.set(&v.URL)
	c.UpdateType.set(&v.UpdateType)
	c.Status.set(&v.Status)
	c.AuthType.set(&v.AuthType)
	c.Token.set(&v.Secrets.Token)
	c.TokenLocation.set(&v.TokenLocation)
	c.TokenName.set(&v.TokenName)
	c.RefreshToken.set(&v.Secrets.RefreshToken)
	c.RefreshURL.set(&v.RefreshURL)
	c.ClientID.set(&v.ClientID)
	c.ClientSecret.set(&v.Secrets.ClientSecret)
	c.TokenURL.set(&v.TokenURL)
	c.Scope.set(&v.Scope)
	c.SigningSecret.set(&v.Secrets.SigningSecret)
	c.RetryPolicy.set(&v.RetryPolicy)
	c.Format.set(&v.Format)
	c.MessagePerChange.set(&v.MessagePerChange)
	c.StrictOrder.set(&v.StrictOrder)
	c.OnlyOnStateChange.set(&v.OnlyOnStateChange)
	c.IgnoreClients.set(&v.IgnoreClients)
	if c.Filter.given {
		v.Filter = consent.Filter(c.Filter.value)
	}
	c.IncludeCitizenToken.set(&v.IncludeCitizenToken)
	c.CitizenTokenValidity.set(&v.CitizenTokenValidity)
	c.TimeoutSeconds.set(&v.TimeoutSeconds)
	c.Headers.set(&v.Secrets.Headers)
}

// subscription is the read form.
type subscription struct {
	ID                consent.ID                 `json:"id" doc:"The subscription."`
	ApplicationID     string                     `json:"applicationId"`
	Name              string                     `json:"name"`
	URL               string                     `json:"url"`
	UpdateType        consent.UpdateType         `json:"updateType"`
	Status            consent.SubscriptionStatus `json:"status"`
	AuthType          consent.AuthType           `json:"authType"`
	TokenLast4        consent.Text               `json:"tokenLast4"`
	TokenLocation     consent.TokenLocation      `json:"tokenLocation"`
	TokenName         consent.Text               `json:"tokenName"`
	RefreshTokenLast4 consent.Text               `json:"refreshTokenLast4"`
	RefreshURL        consent.Text               `json:"refreshUrl"`
	ClientID          consent.Text               `json:"clientId"`
	ClientSecretLast4 consent.Text               `json:"clientSecretLast4"`
	TokenURL          consent.Text               `json:"tokenUrl"`
	Scope             consent.Text               `json:"scope"`

	SigningSecretLast4         consent.Text      `json:"signingSecretLast4"`
	PreviousSigningSecretUntil consent.Timestamp `json:"previousSigningSecretUntil"`

	RetryPolicy          consent.RetryPolicy   `json:"retryPolicy"`
	Format               consent.MessageFormat `json:"format"`
	MessagePerChange     bool                  `json:"messagePerChange"`
	StrictOrder          bool                  `json:"strictOrder"`
	OnlyOnStateChange    bool                  `json:"onlyOnStateChange"`
	IgnoreClients        []string              `json:"ignoreClients" nullable:"false"`
	Filter               subscriptionFilter    `json:"filter"`
	IncludeCitizenToken  bool                  `json:"includeCitizenToken"`
	CitizenTokenValidity string                `json:"citizenTokenValidity"`
	TimeoutSeconds       *int64                `json:"timeoutSeconds"`
	HeaderNames          []string              `json:"headerNames" nullable:"false"`

	CreatedAt     consent.Timestamp `json:"createdAt"`
	UpdatedAt     consent.Timestamp `json:"updatedAt"`
	PausedAt      consent.Timestamp `json:"pausedAt"`
	MissedChanges *int64            `json:"missedChanges"`
	Endpoint      endpoint          `json:"endpoint"`

	// Where one subscription is read.
	Waiting *waits   `json:"waiting,omitempty"`
	Latency *latency `json:"latency,omitempty"`
}

// waits says how much waits at a subscription.
type waits struct {
	Due     int64             `json:"due" doc:"How many messages are due, under way or tried again in a moment, counted to 10,000."`
	Stored  int64             `json:"stored" doc:"How many are tried hourly, counted to 10,000."`
	Oldest  consent.Timestamp `json:"oldestChangeAt" doc:"When the oldest change was made that they tell; null where nothing waits."`
	Seconds *float64          `json:"oldestSeconds" doc:"How long ago that was, in seconds."`
}

// latency says how long an endpoint takes to answer.
type latency struct {
	Attempts int64    `json:"attempts" doc:"Of how many answers: the last 1000 of the last hour at most."`
	P50      *float64 `json:"p50Ms" doc:"Half of them took no longer, in milliseconds; null without an answer."`
	P95      *float64 `json:"p95Ms" doc:"95 of 100 took no longer, in milliseconds."`
	P99      *float64 `json:"p99Ms" doc:"99 of 100 took no longer, in milliseconds."`
}

// endpoint is how the endpoint of a subscription has been doing.
type endpoint struct {
	State         string            `json:"state"`
	FailingSince  consent.Timestamp `json:"failingSince"`
	DownSince     consent.Timestamp `json:"downSince"`
	NextProbeAt   consent.Timestamp `json:"nextProbeAt"`
	WaitUntil     consent.Timestamp `json:"waitUntil"`
	GoneAt        consent.Timestamp `json:"goneAt"`
	LastSuccessAt consent.Timestamp `json:"lastSuccessAt"`
	LastFailureAt consent.Timestamp `json:"lastFailureAt"`
	LastReason    consent.Text      `json:"lastReason"`
	Delivered     int64             `json:"delivered"`
	Failed        int64             `json:"failed"`
}

// The states of an endpoint.
const (
	endpointHealthy = "healthy"
	endpointFailing = "failing"
	endpointDown    = "down"
	endpointPaused  = "paused"
)

func endpointOf(v store.Registered) endpoint {
	e := v.Endpoint
	state := endpointHealthy
	switch {
	case v.Status == consent.Paused:
		state = endpointPaused
	case e.DownSince != 0:
		state = endpointDown
	case e.FailingSince != 0:
		state = endpointFailing
	}
	return endpoint{
		state, consent.Timestamp(e.FailingSince), consent.Timestamp(e.DownSince), consent.Timestamp(e.ProbeAt), consent.Timestamp(e.WaitUntil), consent.Timestamp(e.GoneAt),
		consent.Timestamp(e.LastSuccessAt), consent.Timestamp(e.LastFailureAt), consent.Text(e.LastReason), e.Delivered, e.Failed,
	}
}

func subscriptionOf(v store.Registered) subscription {
	out := subscription{
		ID: v.ID, ApplicationID: v.ApplicationID, Name: v.Name, URL: v.URL, UpdateType: v.UpdateType, Status: v.Status,
		AuthType: v.AuthType, TokenLast4: last4(v.Secrets.Token), TokenLocation: v.TokenLocation, TokenName: consent.Text(v.TokenName),
		RefreshTokenLast4: last4(v.Secrets.RefreshToken), RefreshURL: consent.Text(v.RefreshURL), ClientID: consent.Text(v.ClientID), ClientSecretLast4: last4(v.Secrets.ClientSecret),
		TokenURL: consent.Text(v.TokenURL), Scope: consent.Text(v.Scope), SigningSecretLast4: last4(v.Secrets.SigningSecret),
		RetryPolicy: v.RetryPolicy, Format: v.Format, MessagePerChange: v.MessagePerChange, StrictOrder: v.StrictOrder,
		OnlyOnStateChange: v.OnlyOnStateChange, IgnoreClients: orEmpty(v.IgnoreClients),
		Filter:              subscriptionFilter{orEmpty(v.Filter.Options), orEmpty(v.Filter.Channels), orEmpty(v.Filter.Preferences)},
		IncludeCitizenToken: v.IncludeCitizenToken, CitizenTokenValidity: v.CitizenTokenValidity, HeaderNames: slices.Sorted(maps.Keys(v.Secrets.Headers)),
		CreatedAt: consent.Timestamp(v.CreatedAt), UpdatedAt: consent.Timestamp(v.UpdatedAt), PausedAt: consent.Timestamp(v.PausedAt),
		Endpoint: endpointOf(v),
	}
	out.HeaderNames = orEmpty(out.HeaderNames)
	if until := v.Secrets.PreviousUntil; until > consent.At(time.Now()) {
		out.PreviousSigningSecretUntil = consent.Timestamp(until)
	}
	if v.PausedAt != 0 {
		out.MissedChanges = &v.Missed
	}
	if v.TimeoutSeconds != 0 {
		out.TimeoutSeconds = &v.TimeoutSeconds
	}
	return out
}

func orEmpty(list []string) []string {
	if list == nil {
		return []string{}
	}
	return list
}

// last4 gives the end of a secret that is long enough to stay one.
func last4(secret string) consent.Text {
	characters := []rune(secret)
	if len(characters) < 16 {
		return ""
	}
	return consent.Text(characters[len(characters)-4:])
}

type subscriptionList struct {
	Subscriptions []subscription `json:"subscriptions"`
	Page
}

// Subscription is the read form as a part of another: only what is exported can be.
type Subscription = subscription

// subscriptionWithSecret is a subscription and the signing secret that was made for it,
// which is answered this once.
type subscriptionWithSecret struct {
	Subscription
	SigningSecret consent.Text `json:"signingSecret"`
}

type createSubscriptionInput struct{ body[newSubscription] }

func (s *server) createSubscription(ctx context.Context, actor core.Actor, in *createSubscriptionInput) (subscriptionWithSecret, error) {
	value, request := in.read()
	v := consent.Subscription{ApplicationID: string(value.ApplicationID.value)}
	(*subscriptionChange)(&value).apply(&v)
	created, secret, err := s.Core.CreateSubscription(ctx, actor, request, v)
	return subscriptionWithSecret{subscriptionOf(created), consent.Text(secret)}, err
}

type listSubscriptionsInput struct {
	ApplicationID string `query:"applicationId" maxLength:"50" doc:"Only those of this application."`
	Status        string `query:"status" enum:"active,paused" doc:"Only those of this status."`
	UpdateType    string `query:"updateType" enum:"effective-permission,consent-receipts,citizen-emails" doc:"Only those of this type."`
	Paging
}

func (s *server) listSubscriptions(ctx context.Context, actor core.Actor, in *listSubscriptionsInput) (subscriptionList, error) {
	f := store.SubscriptionFilter{Status: consent.SubscriptionStatus(in.Status), UpdateType: consent.UpdateType(in.UpdateType), Limit: in.Limit, Offset: in.Offset}
	if err := in.place("subscriptions", &f.After); err != nil {
		return subscriptionList{}, err
	}
	found, total, err := s.Core.Subscriptions(ctx, actor, in.ApplicationID, f)
	out := subscriptionList{make([]subscription, len(found)), in.page("subscriptions", len(found), total, func() []any { return []any{found[len(found)-1].Number} })}
	for i, v := range found {
		out.Subscriptions[i] = subscriptionOf(v)
	}
	return out, err
}

// SubscriptionPath names one subscription.
type SubscriptionPath struct {
	ID idParam `path:"id" doc:"The subscription."`
}

func (s *server) getSubscription(ctx context.Context, actor core.Actor, in *SubscriptionPath) (subscription, error) {
	v, err := s.Core.WatchSubscription(ctx, actor, consent.ID(in.ID))
	out := subscriptionOf(v.Registered)
	out.Waiting = &waits{Due: v.Waits.Due, Stored: v.Waits.Stored, Oldest: consent.Timestamp(v.Waits.Oldest)}
	if v.Waits.Oldest != 0 {
		age := time.Since(v.Waits.Oldest.Time()).Seconds()
		out.Waiting.Seconds = &age
	}
	out.Latency = &latency{Attempts: v.Latency.Attempts}
	if v.Latency.Attempts > 0 {
		out.Latency.P50, out.Latency.P95, out.Latency.P99 = milliseconds(v.Latency.P50), milliseconds(v.Latency.P95), milliseconds(v.Latency.P99)
	}
	return out, err
}

type replaceSubscriptionInput struct {
	SubscriptionPath
	body[subscriptionReplacement]
}

func (s *server) replaceSubscription(ctx context.Context, actor core.Actor, in *replaceSubscriptionInput) (subscription, error) {
	value, request := in.read()
	return s.editSubscription(ctx, actor, consent.ID(in.ID), subscriptionChange(value), request, func(v *consent.Subscription) {
		*v = consent.Subscription{
			ID: v.ID, Application: v.Application, ApplicationID: v.ApplicationID, Secrets: v.Secrets, CreatedAt: v.CreatedAt, UpdatedAt: v.UpdatedAt,
		}
	})
}

type changeSubscriptionInput struct {
	SubscriptionPath
	body[subscriptionChange]
}

func (s *server) changeSubscription(ctx context.Context, actor core.Actor, in *changeSubscriptionInput) (subscription, error) {
	value, request := in.read()
	return s.editSubscription(ctx, actor, consent.ID(in.ID), value, request, func(*consent.Subscription) {})
}

// editSubscription applies a change to a subscription that prepare has prepared
// for it.
func (s *server) editSubscription(ctx context.Context, actor core.Actor, id consent.ID, c subscriptionChange, request core.Request, prepare func(*consent.Subscription)) (subscription, error) {
	v, err := s.Core.ChangeSubscription(ctx, actor, request, id, func(v *consent.Subscription) {
		prepare(v)
		c.apply(v)
		if c.ApplicationID.value != "" {
			v.ApplicationID = string(c.ApplicationID.value) // core refuses another one
		}
	})
	return subscriptionOf(v), err
}

// rotation says how a signing secret is replaced.
type rotation struct {
	OverlapSeconds optional[int64] `json:"overlapSeconds,omitempty" minimum:"0" maximum:"604800"`
}

type rotateSecretInput struct {
	SubscriptionPath
	body[rotation]
}

func (s *server) rotateSecret(ctx context.Context, actor core.Actor, in *rotateSecretInput) (subscriptionWithSecret, error) {
	value, request := in.read()
	var overlap *time.Duration
	if value.OverlapSeconds.given && !value.OverlapSeconds.null {
		long := time.Duration(value.OverlapSeconds.value) * time.Second
		overlap = &long
	}
	v, err := s.Core.RotateSigningSecret(ctx, actor, request, consent.ID(in.ID), overlap)
	return subscriptionWithSecret{subscriptionOf(v), consent.Text(v.Secrets.SigningSecret)}, err
}

func (s *server) deleteSubscription(ctx context.Context, actor core.Actor, in *SubscriptionPath) (nothing, error) {
	return nothing{}, s.Core.DeleteSubscription(ctx, actor, consent.ID(in.ID))
}
