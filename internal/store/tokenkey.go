package store

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"

	"github.com/go-json-experiment/json"

	"github.com/opencpm/opencpm/internal/consent"
)

// TokenKey is a key that signs citizen tokens, and what our pages hand back to us.
type TokenKey struct {
	ID        byte
	Secret    []byte
	CreatedAt consent.Instant
	CreatedBy string
	RetiredAt consent.Instant // zero: whatever it signed is good
	RetiredBy string
}

// TokenKeys are the keys of citizen tokens, the oldest first. The last one signs.
type TokenKeys []TokenKey

// Revision is another one whenever a key was made or retired.
func (k TokenKeys) Revision() int64 { return int64(len(k) + len(k.Retired())) }

// keyRevision is the SQL expression for the revision of the keys.
const keyRevision = `(SELECT count(*) + count(retired_at) FROM token_key)`

// Secrets gives the secrets by id.
func (k TokenKeys) Secrets() map[byte][]byte {
	secrets := make(map[byte][]byte, len(k))
	for _, v := range k {
		secrets[v.ID] = v.Secret
	}
	return secrets
}

// Retired gives the ids of those that are retired.
func (k TokenKeys) Retired() []byte {
	var ids []byte
	for _, v := range k {
		if v.RetiredAt != 0 {
			ids = append(ids, v.ID)
		}
	}
	return ids
}

func tokenKeyContext(id int64) string { return fmt.Sprint("token key ", id) }

// insertTokenKey inserts a key unless its id is taken.
const insertTokenKey = `INSERT INTO token_key (id, sealed, created_at, created_by) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING`

// openTokenKeys reads the keys of citizen tokens, which all nodes share. The first start
// makes one.
func (s *Store) openTokenKeys(ctx context.Context) (err error) {
	if s.tokenKeys, err = s.TokenKeys(ctx); err != nil || len(s.tokenKeys) > 0 {
		return err
	}
	first, err := s.firstTokenKeys(ctx)
	if err != nil {
		return err
	}
	for id, secret := range first {
		if _, err := s.write.ExecContext(ctx, insertTokenKey, int64(id), s.keys.Seal(tokenKeyContext(int64(id)), secret), now(), consent.Platform.ID); err != nil {
			return s.classify(err)
		}
	}
	if _, err := s.write.ExecContext(ctx, `DELETE FROM setting WHERE name = $1`, formerTokenKeys); err != nil {
		return s.classify(err)
	}
	s.tokenKeys, err = s.TokenKeys(ctx) // another process may have been first
	return err
}

// formerTokenKeys is the setting in which the keys were kept before they had a table.
const formerTokenKeys = "citizen token keys"

func (s *Store) firstTokenKeys(ctx context.Context) (map[byte][]byte, error) {
	var sealed []byte
	err := s.write.QueryRowContext(ctx, `SELECT value FROM setting WHERE name = $1`, formerTokenKeys).Scan(&sealed)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return map[byte][]byte{1: newTokenSecret()}, nil
	case err != nil:
		return nil, s.classify(err)
	}
	plain, err := s.keys.Open(formerTokenKeys, sealed)
	if err != nil {
		return nil, fmt.Errorf("the keys of citizen tokens: %w", err)
	}
	var keys map[byte][]byte
	return keys, json.Unmarshal(plain, &keys)
}

func newTokenSecret() []byte {
	secret := make([]byte, 32)
	rand.Read(secret) // never fails; see its documentation
	return secret
}

// OpenedTokenKeys gives the keys of citizen tokens as they were when the store was opened.
func (s *Store) OpenedTokenKeys() TokenKeys { return s.tokenKeys }

// TokenKeys reads the keys of citizen tokens.
func (s *Store) TokenKeys(ctx context.Context) (TokenKeys, error) {
	keys, err := collect(ctx, s.fixed, func(r *sql.Rows) (TokenKey, error) {
		var v TokenKey
		var id int64
		var sealed []byte
		var retired sql.NullInt64
		var retiredBy sql.NullString
		if err := r.Scan(&id, &sealed, &v.CreatedAt, &v.CreatedBy, &retired, &retiredBy); err != nil {
			return v, err
		}
		var err error
		if v.Secret, err = s.keys.Open(tokenKeyContext(id), sealed); err != nil {
			return v, fmt.Errorf("the key %d of citizen tokens: %w", id, err)
		}
		v.ID, v.RetiredAt, v.RetiredBy = byte(id), consent.Instant(retired.Int64), retiredBy.String
		return v, nil
	}, `SELECT id, sealed, created_at, created_by, retired_at, retired_by FROM token_key ORDER BY id`)
	return keys, s.classify(err)
}

// TokenKeysRevision reads the revision of the keys of citizen tokens.
func (s *Store) TokenKeysRevision(ctx context.Context) (revision int64, err error) {
	err = s.fixed.QueryRowContext(ctx, `SELECT `+keyRevision).Scan(&revision)
	return revision, s.classify(err)
}

// maxTokenKeys is how many keys there can ever be: a token has one byte for the id of its
// key.
const maxTokenKeys = 255

// CreateTokenKey makes the key that signs citizen tokens from now on, and gives its id.
func (s *Store) CreateTokenKey(ctx context.Context, actor string) (byte, error) {
	var id byte
	secret := newTokenSecret()
	err := s.update(ctx, func(ctx context.Context, t *tx) error {
		var next int64
		if err := t.row(ctx, `SELECT max(id) + 1 FROM token_key`).Scan(&next); err != nil {
			return err
		}
		if next > maxTokenKeys {
			return consent.Errorf(consent.Conflict, "There are %d keys already, as many as citizen tokens can name.", maxTokenKeys)
		}
		n, err := changed(ctx, t, insertTokenKey, next, s.keys.Seal(tokenKeyContext(next), secret), t.now, actor)
		if err != nil {
			return err
		}
		if n == 0 {
			return consent.Errorf(consent.Conflict, "Somebody else made the key %d at the same time; nothing was changed.", next)
		}
		id, t.rings = byte(next), t.rings|bellSetup
		return t.auditOfAll(ctx, actor, "token-key.create", fmt.Sprint(next))
	})
	return outcome(&id, err)
}

// RetireTokenKey makes a key verify nothing but links to unsubscribe, on every node at once
// and for good. The one that signs cannot be retired; one that is retired stays so.
func (s *Store) RetireTokenKey(ctx context.Context, id byte, actor string) error {
	return s.update(ctx, func(ctx context.Context, t *tx) error {
		var newest int64
		var there int
		if err := t.row(ctx, `SELECT max(id), count(CASE WHEN id = $1 THEN 1 END) FROM token_key`, int64(id)).Scan(&newest, &there); err != nil {
			return err
		}
		switch {
		case there == 0:
			return consent.Errorf(consent.NotFound, "There is no key %d of citizen tokens.", id)
		case int64(id) == newest:
			return consent.Errorf(consent.Conflict, "The key %d signs: it can be retired once another one does.", id)
		}
		n, err := changed(ctx, t, `UPDATE token_key SET retired_at = $2, retired_by = $3 WHERE id = $1 AND retired_at IS NULL`, int64(id), t.now, actor)
		if n == 0 || err != nil {
			return err
		}
		t.rings |= bellSetup
		return t.auditOfAll(ctx, actor, "token-key.retire", fmt.Sprint(id))
	})
}
