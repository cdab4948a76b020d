package store

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/go-json-experiment/json"

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

// guard makes a write of one citizen happen once: where an earlier request did it, its
// outcome is read into out and repeated, if set, is called.
func (o Once) guard(w *citizenWrite, out any, repeated func()) {
	if o.Key == "" {
		return
	}
	again := func(ctx context.Context, t *tx) (bool, error) {
		done, err := o.again(ctx, t, out)
		if done && repeated != nil {
			repeated()
		}
		return done, err
	}
	apply := w.apply
	w.repeated = again
	w.apply = func(ctx context.Context, t *tx, c *citizenRow, created bool) error {
		if done, err := again(ctx, t); done || err != nil {
			return o.overtaken(err)
		}
		if err := apply(ctx, t, c, created); err != nil {
			return err
		}
		return o.keep(ctx, t, out)
	}
}

// guardAll makes writes that happen together happen once: it asks for the first of them
// and answers so for all. Keeping the outcome is left to the caller, unless done.
func (o Once) guardAll(writes []*citizenWrite, out any) (done *bool) {
	done = new(bool)
	if o.Key == "" {
		return done
	}
	first, refused := writes[0], false
	at := first.at
	first.repeated = func(ctx context.Context, t *tx) (was bool, err error) {
		*done, err = o.again(ctx, t, out)
		first.at, refused = at, err != nil
		if refused {
			first.at = "" // it is not the first of them that is at fault
		}
		return *done, err
	}
	apply := first.apply
	first.apply = func(ctx context.Context, t *tx, c *citizenRow, created bool) error {
		if was, err := o.again(ctx, t, out); was || err != nil {
			return o.overtaken(err)
		}
		return apply(ctx, t, c, created)
	}
	for _, w := range writes[1:] {
		w.repeated = func(context.Context, *tx) (bool, error) { return *done || refused, nil }
	}
	return done
}

// Outcome reads the outcome of an earlier request with the same key into out, for a
// use case that must know it before it looks at anything else.
func (s *Store) Outcome(ctx context.Context, once Once, out any) (bool, error) {
	if once.Key == "" {
		return false, nil
	}
	var done bool
	err := s.update(ctx, func(ctx context.Context, t *tx) (err error) {
		done, err = once.again(ctx, t, out)
		return err
	})
	return outcome(&done, err)
}

// overtaken is for a write that finds the outcome of another one with its key only
// now, when somebody may have been created for it: the group runs again, and what it
// did is undone.
func (o Once) overtaken(err error) error {
	if err == nil || isRefusal(err) {
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
