package consent

import (
	"encoding/base64"
	"strings"
	"time"
)

// Grant is with what an access token of a subscription is got at a token endpoint: by its
// refresh token, or, where that is empty, by its client credentials.
type Grant struct {
	URL, ClientID, ClientSecret, RefreshToken, Scope string
}

// Grant gives with what the token is renewed. It is false where the token is static.
func (s *Subscription) Grant() (Grant, bool) {
	switch {
	case s.AuthType != AuthToken:
	case s.TokenURL != "":
		return Grant{URL: s.TokenURL, ClientID: s.ClientID, ClientSecret: s.Secrets.ClientSecret, Scope: s.Scope}, true
	case s.RefreshURL != "" && s.Secrets.RefreshToken != "":
		return Grant{URL: s.RefreshURL, ClientID: s.ClientID, ClientSecret: s.Secrets.ClientSecret, RefreshToken: s.Secrets.RefreshToken}, true
	}
	return Grant{}, false
}

// TokenDue reports whether a token must be got before the next message leaves: by client
// credentials, where there is none, or where the one there is has lived 80 % of its life.
func (s *Subscription) TokenDue(now Instant) bool {
	at := s.Secrets.TokenRenewAt
	return s.AuthType == AuthToken && s.TokenURL != "" && (s.Secrets.Token == "" || at != 0 && now >= at)
}

// TokenLives reports whether there is a token that has not expired, as far as is known.
func (s *Subscription) TokenLives(now Instant) bool {
	at := s.Secrets.TokenExpiresAt
	return s.Secrets.Token != "" && (at == 0 || now < at)
}

// SetToken takes over an access token that was got at an instant and lives that long, 0
// for unknown.
func (s *SubscriptionSecrets) SetToken(token string, got Instant, lives time.Duration) {
	s.Token, s.TokenRenewAt, s.TokenExpiresAt = token, 0, 0
	if lives > 0 {
		s.TokenRenewAt, s.TokenExpiresAt = got.Add(lives*4/5), got.Add(lives)
	}
}

// Outdate ends what belongs to the settings of before a change: when a token of before
// expires; the token that was got by other client credentials; the previous signing secret
// of one that was replaced at once.
func (s *Subscription) Outdate(before *Subscription) {
	was, _ := before.Grant()
	is, _ := s.Grant()
	switch {
	case s.Secrets.Token != before.Secrets.Token:
		s.Secrets.SetToken(s.Secrets.Token, 0, 0)
	case was != is && before.TokenURL != "":
		s.Secrets.SetToken("", 0, 0)
	}
	if s.Secrets.SigningSecret != before.Secrets.SigningSecret {
		s.Secrets.PreviousSigningSecret, s.Secrets.PreviousUntil = "", 0
	}
}

// The form of a signing secret, by Standard Webhooks.
const (
	signingPrefix = "whsec_"
	minSigningKey = 24 // bytes
	maxSigningKey = 64
)

// MaxOverlap is how long a signing secret may live beside the one that replaces it.
const MaxOverlap = 7 * 24 * time.Hour

// SigningSecret writes a key as a signing secret.
func SigningSecret(key []byte) string {
	return signingPrefix + base64.StdEncoding.EncodeToString(key)
}

// SigningKey reads the key of a signing secret. It is false where that is none.
func SigningKey(secret string) ([]byte, bool) {
	text, ok := strings.CutPrefix(secret, signingPrefix)
	key, err := base64.StdEncoding.DecodeString(text)
	return key, ok && err == nil && len(key) >= minSigningKey && len(key) <= maxSigningKey && SigningSecret(key) == secret
}

// RotateSigningSecret signs with another secret from now on, and with the present one
// beside it for as long as overlap.
func (s *SubscriptionSecrets) RotateSigningSecret(secret string, now Instant, overlap time.Duration) {
	s.PreviousSigningSecret, s.PreviousUntil = "", 0
	if s.SigningSecret != "" && overlap > 0 {
		s.PreviousSigningSecret, s.PreviousUntil = s.SigningSecret, now.Add(overlap)
	}
	s.SigningSecret = secret
}

// SigningKeys gives the keys that sign now, the newest first; none where messages are not
// signed.
func (s *SubscriptionSecrets) SigningKeys(now Instant) [][]byte {
	var keys [][]byte
	if key, ok := SigningKey(s.SigningSecret); ok {
		keys = append(keys, key)
	}
	if key, ok := SigningKey(s.PreviousSigningSecret); ok && now < s.PreviousUntil {
		keys = append(keys, key)
	}
	return keys
}
