// Package identity says who calls: API clients with their access tokens, API keys, and
// citizens with theirs.
package identity

import (
	"context"
	"time"

	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/internal/core"
	"github.com/opencpm/opencpm/internal/store"
	"github.com/opencpm/opencpm/internal/token"
)

// Service knows the credentials of one store.
type Service struct {
	store    *store.Store
	core     *core.Service
	lifetime time.Duration
}

// New makes the service; lifetime is that of an access token, at most 24 hours.
func New(st *store.Store, c *core.Service, lifetime time.Duration) *Service {
	return &Service{st, c, min(lifetime, 24*time.Hour)}
}

// ByAPIKey says who presents an API key.
func (s *Service) ByAPIKey(ctx context.Context, key string) (core.Actor, error) {
	if key == "" {
		return core.Actor{}, core.ErrUnauthenticated
	}
	c, err := s.store.CredentialByKey(ctx, token.Hash(key))
	return actor(c), err
}

// ByBearer says who presents a bearer token: a client its access token, or a citizen
// theirs.
func (s *Service) ByBearer(ctx context.Context, bearer string) (core.Actor, error) {
	if bearer == "" {
		return core.Actor{}, core.ErrUnauthenticated
	}
	if token.IsCitizen(bearer) {
		return s.core.ByCitizenToken(ctx, bearer)
	}
	c, err := s.store.CredentialByToken(ctx, token.Hash(bearer))
	return actor(c), err
}

func actor(c store.Credential) core.Actor {
	return core.Actor{ID: c.ID.String(), Name: c.Name, Applications: c.Applications, Scopes: c.Scopes}
}

// AccessToken is what a client gets for its secret.
type AccessToken struct {
	Token     string
	ExpiresIn time.Duration
	Scopes    []consent.Scope
}

// Grant exchanges a client's id and secret for an access token (RFC 6749 §4.4).
// A wrong pair is Unauthenticated, whichever part is wrong.
func (s *Service) Grant(ctx context.Context, clientID, clientSecret string) (AccessToken, error) {
	id, err := consent.ParseID(clientID)
	if err != nil {
		return AccessToken{}, core.ErrUnauthenticated
	}
	c, hash, err := s.store.CredentialByID(ctx, id)
	if err != nil {
		return AccessToken{}, err
	}
	if !token.Matches(clientSecret, hash) {
		return AccessToken{}, core.ErrUnauthenticated
	}
	access, accessHash := token.New(token.AccessToken)
	expires := consent.At(time.Now().Add(s.lifetime))
	if err := s.store.CreateAccessToken(ctx, accessHash, c.ID, expires); err != nil {
		return AccessToken{}, err
	}
	return AccessToken{Token: access, ExpiresIn: s.lifetime, Scopes: c.Scopes}, nil
}

// NewCredential is what the command line asks for.
type NewCredential struct {
	Kind         store.CredentialKind
	Name         string
	Applications []string        // ids; at least one
	Scopes       []consent.Scope // none means all
	Expires      time.Time       // of an API key; zero means never
}

// Create makes a credential and gives its id and its secret, which is shown only
// this once.
func (s *Service) Create(ctx context.Context, n NewCredential) (id consent.ID, secret string, err error) {
	c := store.Credential{ID: store.NewID(), Kind: n.Kind, Name: n.Name, Scopes: n.Scopes, ExpiresAt: consent.At(n.Expires)}
	if len(c.Scopes) == 0 {
		c.Scopes = consent.Scopes
	}
	for _, applicationID := range n.Applications {
		number, err := s.core.Number(ctx, applicationID)
		if err != nil {
			return c.ID, "", err
		}
		c.Applications = append(c.Applications, number)
	}
	kind := token.ClientSecret
	if n.Kind == store.APIKeyCredential {
		kind = token.APIKey
	}
	secret, hash := token.New(kind)
	return c.ID, secret, s.store.CreateCredential(ctx, c, hash, core.Operator)
}
