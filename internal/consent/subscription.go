package consent

import "slices"

// UpdateType says what a subscription sends.
type UpdateType string

// The update types, as published.
const (
	// EffectivePermission sends the citizen's full state on every change.
	EffectivePermission UpdateType = "effective-permission"
	// ConsentReceipts sends only what changed, each change in a message of its own.
	ConsentReceipts UpdateType = "consent-receipts"
)

// UpdateTypes lists what can be subscribed to.
var UpdateTypes = []UpdateType{EffectivePermission, ConsentReceipts}

// EventType says what a message is about.
type EventType string

// The event types.
const (
	CitizenChanged EventType = "citizen.changed"
	CitizenDeleted EventType = "citizen.deleted"
)

// SubscriptionStatus says whether changes are sent.
type SubscriptionStatus string

// The statuses, as published. While a subscription is paused, changes are not
// queued for it and are lost to it; what already waited is frozen.
const (
	Active SubscriptionStatus = "active"
	Paused SubscriptionStatus = "paused"
)

// AuthType is how a webhook authenticates to its endpoint.
type AuthType string

// The ways of authentication.
const (
	AuthNone  AuthType = "none"
	AuthToken AuthType = "token"
)

// TokenLocation is where a token travels.
type TokenLocation string

// The places for a token.
const (
	InHeader TokenLocation = "header"
	InQuery  TokenLocation = "query"
)

// Subscription is a webhook registration of one application.
type Subscription struct {
	ID            ID
	Application   int64
	ApplicationID string
	Name          string
	URL           string
	UpdateType    UpdateType
	Status        SubscriptionStatus
	AuthType      AuthType
	TokenLocation TokenLocation // header where not given
	TokenName     string        // empty: Authorization
	RefreshURL    string
	ClientID      string
	Secrets       SubscriptionSecrets
	CreatedAt     Instant
	UpdatedAt     Instant
	// PausedAt is when the present pause began, zero while active; Missed counts the
	// changes made since, which are lost to the subscription.
	PausedAt Instant
	Missed   int64
}

// SubscriptionSecrets are sealed at rest and never answered or logged.
type SubscriptionSecrets struct {
	Token        string `json:"token,omitempty"`
	RefreshToken string `json:"refreshToken,omitempty"`
	ClientSecret string `json:"clientSecret,omitempty"`
}

// Check notes what is wrong with the registration, apart from its addresses and
// header name, which the rules for outbound calls judge.
func (s *Subscription) Check(faults *Faults) {
	CheckText(faults, "name", s.Name, 1, 200)
	if !slices.Contains(UpdateTypes, s.UpdateType) {
		faults.Add("updateType", "must be %s", join(UpdateTypes))
	}
	if s.Status != Active && s.Status != Paused {
		faults.Add("status", "must be %s or %s", Active, Paused)
	}
	if s.TokenLocation != InHeader && s.TokenLocation != InQuery {
		faults.Add("tokenLocation", "must be %s or %s", InHeader, InQuery)
	}
	CheckText(faults, "tokenName", s.TokenName, 0, 100)
	CheckText(faults, "clientId", s.ClientID, 0, 500)
	CheckText(faults, "token", s.Secrets.Token, 0, 8192)
	CheckText(faults, "refreshToken", s.Secrets.RefreshToken, 0, 8192)
	CheckText(faults, "clientSecret", s.Secrets.ClientSecret, 0, 8192)
	switch s.AuthType {
	case AuthNone:
	case AuthToken:
		if s.Secrets.Token == "" {
			faults.Add("token", "must be given where authType is %s", AuthToken)
		}
		if s.TokenLocation == InQuery && s.TokenName == "" {
			faults.Add("tokenName", "must be given where tokenLocation is %s", InQuery)
		}
	default:
		faults.Add("authType", "must be %s or %s", AuthNone, AuthToken)
	}
}
