package store

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/opencpm/opencpm/internal/consent"
)

// Once makes a write happen once, however often it is asked for: the outcome is kept
// in the commit of the write and given again to whoever repeats the request within
// 24 hours. The zero Once does nothing.
type Once struct {
	Credential, Route string
	Key               string // the caller's; empty for none
	Request           []byte // SHA-256 of the request
}

const keepOutcomes = 24 * time.Hour

func (o Once) context() string {
	return fmt.Sprintf("outcome %q %q %q", o.Credential, o.Route, o.Key)
}

// again reads the outcome of an earlier request with the same key into out. The same
// key with another request is Invalid.
func (o Once) again(ctx context.Context, t *tx, out any) (done bool, err error) {
	if o.Key == "" {
		return false, nil
	}
	var request, sealed []byte
	err = t.row(ctx, `SELECT request, outcome FROM idempotency WHERE credential = $1 AND route = $2 AND key = $3 AND created_at > $4`,
		o.Credential, o.Route, o.Key, t.now.Add(-keepOutcomes)).Scan(&request, &sealed)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return false, nil
	case err != nil:
		return false, err
	case !bytes.Equal(request, o.Request):
		return false, &consent.Error{
			Kind: consent.Invalid, Message: "This Idempotency-Key was used for another request; nothing was changed.",
			Fields: []consent.FieldError{{Location: "header.Idempotency-Key", Message: "must be a new one for a new request"}},
		}
	}
	plain, err := t.store.keys.Open(o.context(), sealed)
	if err != nil {
		return false, fmt.Errorf("outcome of an earlier request: %w", err)
	}
	return true, json.Unmarshal(plain, out)
}

// overtaken is for a write that finds the outcome of another one with its key only
// now, when somebody may have been created for it: the group runs again, and what it
// did is undone.
func (o Once) overtaken(err error) error {
	var refused *consent.Error
	if err == nil || errors.As(err, &refused) {
		return errReplay
	}
	return err
}

// keep stores the outcome in the commit of the write.
func (o Once) keep(ctx context.Context, t *tx, out any) error {
	if o.Key == "" {
		return nil
	}
	plain, err := json.Marshal(out)
	if err != nil {
		return err
	}
	r, err := t.exec(ctx, `INSERT INTO idempotency (credential, route, key, request, outcome, created_at) VALUES ($1, $2, $3, $4, $5, $6)
		ON CONFLICT (credential, route, key) DO UPDATE SET request = excluded.request, outcome = excluded.outcome, created_at = excluded.created_at
		WHERE idempotency.created_at <= $7`,
		o.Credential, o.Route, o.Key, o.Request, t.store.keys.Seal(o.context(), plain), t.now, t.now.Add(-keepOutcomes))
	if err != nil {
		return err
	}
	if n, err := r.RowsAffected(); err != nil || n == 1 {
		return err
	}
	return errReplay // another writer was first with this key
}

// ForgetOutcomes drops the outcomes that are no longer kept.
func (s *Store) ForgetOutcomes(ctx context.Context) error {
	return s.update(ctx, func(ctx context.Context, t *tx) error {
		_, err := t.exec(ctx, `DELETE FROM idempotency WHERE created_at <= $1`, t.now.Add(-keepOutcomes))
		return err
	})
}
