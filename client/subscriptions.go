package client

import (
	"context"
	"encoding/json"
	"iter"
	"net/http"
	"net/url"
	"time"
)

// The types of a subscription.
const (
	EffectivePermission = "effective-permission" // sends the citizen's full state on every change
	ConsentReceipts     = "consent-receipts"     // sends only what changed, each change in a message of its own
)

// Secret is a value that can be written but is never read back. The zero Secret
// leaves the stored one as it is.
type Secret struct {
	set   bool
	value string
}

// SetSecret gives a Secret that stores value; an empty value removes the stored
// one.
func SetSecret(value string) Secret { return Secret{set: true, value: value} }

// MarshalJSON writes the value, or null to remove it.
func (s Secret) MarshalJSON() ([]byte, error) {
	if s.value == "" {
		return []byte("null"), nil
	}
	return json.Marshal(s.value)
}

// UnmarshalJSON takes nothing: whatever a server says of a secret is not the
// secret, and must not be written back.
func (s *Secret) UnmarshalJSON([]byte) error { return nil }

// String keeps the value out of logs.
func (s Secret) String() string { return "[secret]" }

// GoString keeps the value out of logs.
func (s Secret) GoString() string { return s.String() }

// Subscription is a webhook registration. One that was read can be changed and
// written back; its secrets then stay as they are.
type Subscription struct {
	ID            string `json:"id,omitempty"` // given by the server
	ApplicationID string `json:"applicationId"`
	Name          string `json:"name"`
	URL           string `json:"url"`
	UpdateType    string `json:"updateType"`
	Status        string `json:"status,omitempty"` // active (where empty) or paused; changes made while paused are not sent

	AuthType      string `json:"authType,omitempty"` // none or token
	Token         Secret `json:"token,omitzero"`
	TokenLocation string `json:"tokenLocation,omitempty"` // header or query
	TokenName     string `json:"tokenName,omitempty"`     // where empty: Authorization, as a bearer token

	// OAuth 2.0: the token is refreshed at RefreshURL when the endpoint answers 401, or got
	// at TokenURL by client credentials.
	RefreshToken Secret `json:"refreshToken,omitzero"`
	RefreshURL   string `json:"refreshUrl,omitempty"`
	TokenURL     string `json:"tokenUrl,omitempty"`
	Scope        string `json:"scope,omitempty"`
	ClientID     string `json:"clientId,omitempty"`
	ClientSecret Secret `json:"clientSecret,omitzero"`

	RetryPolicy       string             `json:"retryPolicy,omitempty"` // adaptive (where empty) or hourly
	Format            string             `json:"format,omitempty"`      // plain (where empty) or cloudevents
	MessagePerChange  bool               `json:"messagePerChange,omitempty"`
	StrictOrder       bool               `json:"strictOrder,omitempty"`
	OnlyOnStateChange bool               `json:"onlyOnStateChange,omitempty"`
	IgnoreClients     []string           `json:"ignoreClients,omitempty"` // whose own changes are not sent
	Filter            SubscriptionFilter `json:"filter,omitzero"`
	TimeoutSeconds    int                `json:"timeoutSeconds,omitempty"` // of an attempt; 0 for the server's own

	IncludeCitizenToken  bool   `json:"includeCitizenToken,omitempty"`
	CitizenTokenValidity string `json:"citizenTokenValidity,omitempty"` // an ISO 8601 period; where empty: P30D

	// Headers are sent with every message. They are never read back; nil leaves those that
	// are stored as they are.
	Headers map[string]string `json:"headers,omitempty"`

	// SigningSecret signs the messages after Standard Webhooks. One that is not set when the
	// subscription is created is made by the server; see CreateSubscription.
	SigningSecret              Secret    `json:"signingSecret,omitzero"`
	SigningSecretLast4         string    `json:"signingSecretLast4,omitempty"`        // set by the server
	PreviousSigningSecretUntil time.Time `json:"previousSigningSecretUntil,omitzero"` // set by the server, while the secret before lives

	// Set by the server while the subscription is paused: since when, and how many
	// changes it has lost by it so far.
	PausedAt      time.Time `json:"pausedAt,omitzero"`
	MissedChanges int       `json:"missedChanges,omitempty"`

	Endpoint Endpoint `json:"endpoint,omitzero"` // set by the server
}

// SubscriptionFilter names what a subscription is about: options and groups by id,
// options by their channels, preferences by reference. The zero one is about everything.
type SubscriptionFilter struct {
	Options     []string `json:"options,omitempty"`
	Channels    []string `json:"channels,omitempty"`
	Preferences []string `json:"preferences,omitempty"`
}

// IsZero reports whether the filter names nothing; what was read holds empty lists.
func (f SubscriptionFilter) IsZero() bool {
	return len(f.Options)+len(f.Channels)+len(f.Preferences) == 0
}

// Endpoint is how the endpoint of a subscription has been doing. Its times are zero where
// there was none.
type Endpoint struct {
	State         string    `json:"state"` // healthy, failing, down or paused
	FailingSince  time.Time `json:"failingSince,omitzero"`
	DownSince     time.Time `json:"downSince,omitzero"`
	NextProbeAt   time.Time `json:"nextProbeAt,omitzero"`
	WaitUntil     time.Time `json:"waitUntil,omitzero"`
	GoneAt        time.Time `json:"goneAt,omitzero"`
	LastSuccessAt time.Time `json:"lastSuccessAt,omitzero"`
	LastFailureAt time.Time `json:"lastFailureAt,omitzero"`
	LastReason    string    `json:"lastReason,omitempty"`
	Delivered     int64     `json:"delivered"`
	Failed        int64     `json:"failed"`
}

// SubscriptionsQuery selects subscriptions of one application.
type SubscriptionsQuery struct {
	ApplicationID string
	Status        string // active or paused; empty for both
	UpdateType    string // empty for all
	Page
}

// SubscriptionList is one page of subscriptions. Total counts all that match; it is zero
// where a Cursor led to the page. NextCursor is empty on the last one.
type SubscriptionList struct {
	Subscriptions []Subscription `json:"subscriptions"`
	Total         int            `json:"total"`
	NextCursor    string         `json:"nextCursor"`
}

// SubscriptionWithSecret is a subscription and the signing secret that the server made
// for it, in the form of Standard Webhooks. It is read this once; keep it.
type SubscriptionWithSecret struct {
	Subscription
	SigningSecret string `json:"signingSecret"`
}

// CreateSubscription registers a webhook, and gives its signing secret where none was set.
// The client does not repeat this call by itself.
func (c *Client) CreateSubscription(ctx context.Context, subscription Subscription) (SubscriptionWithSecret, error) {
	var out SubscriptionWithSecret
	err := c.do(ctx, call{method: http.MethodPost, path: "v1/subscriptions", in: subscription, out: &out})
	return out, err
}

// Subscription reads one subscription, without its secrets.
func (c *Client) Subscription(ctx context.Context, id string) (Subscription, error) {
	var out Subscription
	err := c.do(ctx, call{method: http.MethodGet, path: subscriptionPath(id), out: &out})
	return out, err
}

// Subscriptions lists subscriptions, without their secrets.
func (c *Client) Subscriptions(ctx context.Context, q SubscriptionsQuery) (SubscriptionList, error) {
	var out SubscriptionList
	err := c.do(ctx, call{
		method: http.MethodGet, path: "v1/subscriptions",
		query: q.values("applicationId", q.ApplicationID, "status", q.Status, "updateType", q.UpdateType), out: &out,
	})
	return out, err
}

// AllSubscriptions gives what Subscriptions lists, page after page. An error ends it.
func (c *Client) AllSubscriptions(ctx context.Context, q SubscriptionsQuery) iter.Seq2[Subscription, error] {
	return all(q.Page, func(p Page) ([]Subscription, string, error) {
		q.Page = p
		list, err := c.Subscriptions(ctx, q)
		return list.Subscriptions, list.NextCursor, err
	})
}

// UpdateSubscription replaces the settings of the subscription with that id.
// Secrets that are not set stay as they are.
func (c *Client) UpdateSubscription(ctx context.Context, id string, subscription Subscription) (Subscription, error) {
	subscription.ID, subscription.PausedAt, subscription.MissedChanges, subscription.Endpoint = "", time.Time{}, 0, Endpoint{}
	subscription.SigningSecretLast4, subscription.PreviousSigningSecretUntil = "", time.Time{}
	var out Subscription
	err := c.do(ctx, call{method: http.MethodPut, path: subscriptionPath(id), in: subscription, out: &out})
	return out, err
}

// RotateSigningSecret gives a new signing secret. Messages are signed with the one before
// beside it for as long as overlap, in whole seconds, at most 7 days. The client does not
// repeat this call by itself: each makes another secret.
func (c *Client) RotateSigningSecret(ctx context.Context, id string, overlap time.Duration) (SubscriptionWithSecret, error) {
	in := struct {
		OverlapSeconds int64 `json:"overlapSeconds"`
	}{int64(overlap / time.Second)}
	var out SubscriptionWithSecret
	err := c.do(ctx, call{method: http.MethodPost, path: subscriptionPath(id) + "/rotate-secret", in: in, out: &out})
	return out, err
}

// DeleteSubscription ends the subscription and whatever still waited for it.
func (c *Client) DeleteSubscription(ctx context.Context, id string) error {
	return c.do(ctx, call{method: http.MethodDelete, path: subscriptionPath(id)})
}

func subscriptionPath(id string) string { return "v1/subscriptions/" + url.PathEscape(id) }
