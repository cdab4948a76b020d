package consent

import (
	"slices"
	"time"
)

// UpdateType says what a subscription sends.
type UpdateType string

// The update types, as published.
const (
	// EffectivePermission sends the citizen's full state on every change.
	EffectivePermission UpdateType = "effective-permission"
	// ConsentReceipts sends only what changed, each change in a message of its own.
	ConsentReceipts UpdateType = "consent-receipts"
	// CitizenEmails sends the mails to citizens that are ready to be sent.
	CitizenEmails UpdateType = "citizen-emails"
)

// UpdateTypes lists what can be subscribed to.
var UpdateTypes = []UpdateType{EffectivePermission, ConsentReceipts, CitizenEmails}

// EventType says what a message is about.
type EventType string

// The event types.
const (
	CitizenChanged EventType = "citizen.changed"
	CitizenDeleted EventType = "citizen.deleted"
	// Resynced is a state that an operator asked for, without a change.
	Resynced EventType = "resync"
	// Tested is a message about nobody, sent to try an endpoint.
	Tested EventType = "test"
)

// RetryPolicy says how an endpoint that fails is treated.
type RetryPolicy string

// The retry policies.
const (
	// Adaptive spares an endpoint that is down, asks it whether it is back, and then
	// sends what waits at once.
	Adaptive RetryPolicy = "adaptive"
	// Hourly keeps to the letter: three attempts, then one an hour, whatever happens.
	Hourly RetryPolicy = "hourly"
)

// MessageFormat is the envelope of a message.
type MessageFormat string

// The formats.
const (
	// PlainFormat is the published body.
	PlainFormat MessageFormat = "plain"
	// CloudEventsFormat is the same body as the data of a CloudEvents 1.0 event in
	// structured mode.
	CloudEventsFormat MessageFormat = "cloudevents"
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
	SubscriptionOptions
	Secrets   SubscriptionSecrets
	CreatedAt Instant
	UpdatedAt Instant
	// PausedAt is when the present pause began, zero while active; Missed counts the
	// changes made since, which are lost to the subscription.
	PausedAt Instant
	Missed   int64
}

// SubscriptionOptions are what else can be asked of a subscription. Its JSON is how the
// store keeps it.
type SubscriptionOptions struct {
	RetryPolicy RetryPolicy   `json:"retryPolicy,omitempty"`
	Format      MessageFormat `json:"format,omitempty"`
	// MessagePerChange makes each change a message of its own, with the full state that
	// it led to, instead of telling changes that waited together as one.
	MessagePerChange bool `json:"messagePerChange,omitempty"`
	// StrictOrder makes a message of its own wait for the one before, even while that one
	// is in the failures store.
	StrictOrder bool `json:"strictOrder,omitempty"`
	// OnlyOnStateChange keeps quiet about what left every state and choice as it was.
	OnlyOnStateChange bool `json:"onlyOnStateChange,omitempty"`
	// IgnoreClients are the credentials whose own changes are not sent back to them,
	// where the result equals what they wrote.
	IgnoreClients []string `json:"ignoreClients,omitempty"`
	Filter        Filter   `json:"filter,omitzero"`
	// IncludeCitizenToken adds a fresh citizen token to each message, valid for
	// CitizenTokenValidity, an ISO 8601 period.
	IncludeCitizenToken  bool   `json:"includeCitizenToken,omitempty"`
	CitizenTokenValidity string `json:"citizenTokenValidity,omitempty"`
	TimeoutSeconds       int64  `json:"timeoutSeconds,omitempty"` // of an attempt; 0: the server's
	// TokenURL and Scope are those of OAuth 2.0's client credentials grant, which is used
	// where TokenURL is set.
	TokenURL string `json:"tokenUrl,omitempty"`
	Scope    string `json:"scope,omitempty"`
}

// The bounds of the options.
const (
	maxIgnored        = 50
	maxStaticHeaders  = 20
	maxAttemptTimeout = 30 // seconds
	maxFiltered       = 500
)

// MaxToken is how many characters a token or secret has at most.
const MaxToken = 8192

// SubscriptionSecrets are sealed at rest and never answered or logged.
type SubscriptionSecrets struct {
	Token        string `json:"token,omitempty"`
	RefreshToken string `json:"refreshToken,omitempty"`
	ClientSecret string `json:"clientSecret,omitempty"`
	// TokenExpiresAt is when a token ends that we got ourselves, and TokenRenewAt when it has
	// lived 80 % of its life; zero where that is not known.
	TokenExpiresAt Instant `json:"tokenExpiresAt,omitempty"`
	TokenRenewAt   Instant `json:"tokenRenewAt,omitempty"`
	// Headers are sent with every message; they may hold keys.
	Headers map[string]string `json:"headers,omitempty"`
	// SigningSecret signs every message, in the form of Standard Webhooks: whsec_ and
	// base64. Until PreviousUntil, PreviousSigningSecret signs it too.
	SigningSecret         string  `json:"signingSecret,omitempty"`
	PreviousSigningSecret string  `json:"previousSigningSecret,omitempty"`
	PreviousUntil         Instant `json:"previousUntil,omitempty"`
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
	s.checkOptions(faults)
	CheckText(faults, "tokenName", s.TokenName, 0, 100)
	CheckText(faults, "clientId", s.ClientID, 0, 500)
	CheckText(faults, "token", s.Secrets.Token, 0, MaxToken)
	CheckText(faults, "refreshToken", s.Secrets.RefreshToken, 0, MaxToken)
	CheckText(faults, "clientSecret", s.Secrets.ClientSecret, 0, MaxToken)
	if _, ok := SigningKey(s.Secrets.SigningSecret); !ok && s.Secrets.SigningSecret != "" {
		faults.Add("signingSecret", "must be %s followed by %d to %d random bytes in base64", signingPrefix, minSigningKey, maxSigningKey)
	}
	switch s.AuthType {
	case AuthNone:
	case AuthToken:
		if s.Secrets.Token == "" && s.TokenURL == "" {
			faults.Add("token", "must be given where authType is %s and there is no tokenUrl", AuthToken)
		}
		if s.TokenLocation == InQuery && s.TokenName == "" {
			faults.Add("tokenName", "must be given where tokenLocation is %s", InQuery)
		}
	default:
		faults.Add("authType", "must be %s or %s", AuthNone, AuthToken)
	}
}

func (s *Subscription) checkOptions(faults *Faults) {
	if s.RetryPolicy != Adaptive && s.RetryPolicy != Hourly {
		faults.Add("retryPolicy", "must be %s or %s", Adaptive, Hourly)
	}
	if s.Format != PlainFormat && s.Format != CloudEventsFormat {
		faults.Add("format", "must be %s or %s", PlainFormat, CloudEventsFormat)
	}
	if s.MessagePerChange && s.UpdateType != EffectivePermission {
		faults.Add("messagePerChange", "is a choice of %s alone: every other message is one of its own", EffectivePermission)
	}
	if s.UpdateType == CitizenEmails && (s.OnlyOnStateChange || !s.Filter.Empty() || s.IncludeCitizenToken || len(s.IgnoreClients) > 0) {
		faults.Add("updateType", "%s takes no filter, ignoreClients, onlyOnStateChange or includeCitizenToken", CitizenEmails)
	}
	if s.TimeoutSeconds < 0 || s.TimeoutSeconds > maxAttemptTimeout {
		faults.Add("timeoutSeconds", "must be between 1 and %d", maxAttemptTimeout)
	}
	if len(s.IgnoreClients) > maxIgnored {
		faults.Add("ignoreClients", "must name at most %d", maxIgnored)
	}
	for i, c := range s.IgnoreClients {
		CheckText(faults, at("ignoreClients", i), c, 1, 100)
	}
	s.Filter.check(faults)
	if period, err := parsePeriod(s.CitizenTokenValidity); err != nil {
		faults.Add("citizenTokenValidity", "%v", err)
	} else if from := At(time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)); after(from, period) < from.Add(10*time.Second) || after(from, period) > At(from.Time().AddDate(0, 3, 0)) {
		faults.Add("citizenTokenValidity", "must be between 10 seconds and 3 months")
	}
	CheckText(faults, "scope", s.Scope, 0, 1000)
	if s.TokenURL != "" {
		if s.AuthType != AuthToken {
			faults.Add("tokenUrl", "is for authType %s", AuthToken)
		}
		if s.ClientID == "" || s.Secrets.ClientSecret == "" {
			faults.Add("tokenUrl", "needs clientId and clientSecret")
		}
		if s.RefreshURL != "" {
			faults.Add("tokenUrl", "and refreshUrl exclude each other")
		}
	}
	if len(s.Secrets.Headers) > maxStaticHeaders {
		faults.Add("headers", "must be at most %d", maxStaticHeaders)
	}
}
