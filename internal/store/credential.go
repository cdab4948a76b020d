package store

import (
	"context"
	"database/sql"
	"strings"

	"github.com/opencpm/opencpm/internal/consent"
)

// CredentialKind says how a credential is used.
type CredentialKind string

// A client exchanges its secret for access tokens; an API key is sent as it is.
const (
	ClientCredential CredentialKind = "client"
	APIKeyCredential CredentialKind = "apikey"
)

// Credential is what a caller of the API proves to have.
type Credential struct {
	ID           consent.ID
	Kind         CredentialKind
	Name         string
	Scopes       []consent.Scope
	Applications []int64
	ExpiresAt    consent.Instant // zero: never
}

// CreateCredential stores a credential with the SHA-256 of its secret.
func (s *Store) CreateCredential(ctx context.Context, c Credential, hash []byte, actor string) error {
	return s.update(ctx, func(ctx context.Context, t *tx) error {
		scopes := make([]string, len(c.Scopes))
		for i, scope := range c.Scopes {
			scopes[i] = string(scope)
		}
		if _, err := t.exec(ctx, `INSERT INTO credential (id, kind, name, hash, scopes, expires_at, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7)`,
			c.ID[:], string(c.Kind), c.Name, hash, strings.Join(scopes, " "), orNull(c.ExpiresAt), t.now); err != nil {
			return err
		}
		for _, a := range c.Applications {
			if _, err := t.exec(ctx, `INSERT INTO credential_application (credential, application) VALUES ($1, $2)`, c.ID[:], a); err != nil {
				return err
			}
			if err := t.audit(ctx, a, actor, string(c.Kind)+".create", c.ID.String()); err != nil {
				return err
			}
		}
		t.rings |= bellSetup
		return nil
	})
}

// CreateAccessToken stores an access token of a client by its SHA-256, and
// forgets tokens that have expired.
func (s *Store) CreateAccessToken(ctx context.Context, hash []byte, credential consent.ID, expires consent.Instant) error {
	return s.update(ctx, func(ctx context.Context, t *tx) error {
		if _, err := t.exec(ctx, `DELETE FROM access_token WHERE expires_at <= $1`, t.now); err != nil {
			return err
		}
		_, err := t.exec(ctx, `INSERT INTO access_token (hash, credential, expires_at) VALUES ($1, $2, $3)`, hash, credential[:], expires)
		return err
	})
}

// A credential has one row for each of its applications.
const (
	credentialColumns = `c.id, c.kind, c.name, c.scopes, c.expires_at, a.application`
	credentialTables  = `credential c LEFT JOIN credential_application a ON a.credential = c.id`
)

// CredentialByID finds a client by id together with the SHA-256 of its secret.
func (s *Store) CredentialByID(ctx context.Context, id consent.ID) (Credential, []byte, error) {
	var hash []byte
	c, err := s.credential(ctx, &hash, `SELECT `+credentialColumns+`, c.hash FROM `+credentialTables+` WHERE c.id = $1 AND c.revoked_at IS NULL AND c.kind = 'client'`, id[:])
	return c, hash, err
}

// CredentialByKey finds an API key by the SHA-256 of it.
func (s *Store) CredentialByKey(ctx context.Context, hash []byte) (Credential, error) {
	return s.credential(ctx, &hash, `SELECT `+credentialColumns+`, c.hash FROM `+credentialTables+` WHERE c.hash = $1 AND c.revoked_at IS NULL AND c.kind = 'apikey'`, hash)
}

// CredentialByToken finds the client of an access token by the token's SHA-256.
func (s *Store) CredentialByToken(ctx context.Context, hash []byte) (Credential, error) {
	return s.credential(ctx, &hash, `SELECT c.id, c.kind, c.name, c.scopes, t.expires_at, a.application, t.hash
		FROM access_token t JOIN credential c ON c.id = t.credential LEFT JOIN credential_application a ON a.credential = c.id WHERE t.hash = $1 AND c.revoked_at IS NULL`, hash)
}

// errNoCredential is the one answer to whoever is not known.
var errNoCredential = consent.Errorf(consent.Unauthenticated, "The credential is missing or not valid.")

func (s *Store) credential(ctx context.Context, hash *[]byte, query string, arg []byte) (Credential, error) {
	var c Credential
	var scopes string
	known, err := collect(ctx, s.fixed, func(r *sql.Rows) (struct{}, error) {
		var expires, application sql.NullInt64
		err := r.Scan(&c.ID, &c.Kind, &c.Name, &scopes, &expires, &application, hash)
		c.ExpiresAt = consent.Instant(expires.Int64)
		if application.Valid {
			c.Applications = append(c.Applications, application.Int64)
		}
		return struct{}{}, err
	}, query+` ORDER BY a.application`, arg)
	switch {
	case err != nil:
		return Credential{}, s.classify(err)
	case len(known) == 0, c.ExpiresAt != 0 && c.ExpiresAt <= now():
		return Credential{}, errNoCredential
	}
	for _, scope := range strings.Fields(scopes) {
		c.Scopes = append(c.Scopes, consent.Scope(scope))
	}
	return c, nil
}
