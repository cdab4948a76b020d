package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"

	"github.com/opencpm/opencpm/internal/consent"
)

const subscriptionColumns = `s.id, s.public_id, s.application, a.public_id, s.name, s.url, s.update_type, s.status, s.auth_type,
	s.token_location, s.token_name, s.refresh_url, s.client_id, s.options, s.secrets, s.created_at, s.updated_at, s.paused_at, ` + endpointColumns

const subscriptionTables = `subscription s JOIN application a ON a.id = s.application LEFT JOIN endpoint e ON e.subscription = s.id`

// Registered is a subscription with the store's number for it and how its endpoint does.
type Registered struct {
	Number int64
	consent.Subscription
	Endpoint Endpoint
}

func (s *Store) scanSubscription(r *sql.Rows) (Registered, error) {
	var v Registered
	var secrets []byte
	var options string
	var paused sql.NullInt64
	err := r.Scan(append([]any{
		&v.Number, &v.ID, &v.Application, &v.ApplicationID, &v.Name, &v.URL, &v.UpdateType, &v.Status, &v.AuthType,
		&v.TokenLocation, &v.TokenName, &v.RefreshURL, &v.ClientID, &options, &secrets, &v.CreatedAt, &v.UpdatedAt, &paused,
	}, v.Endpoint.fields()...)...)
	if err != nil {
		return v, err
	}
	if err := json.Unmarshal([]byte(options), &v.SubscriptionOptions); err != nil {
		return v, fmt.Errorf("options of subscription %s: %w", v.ID, err)
	}
	v.PausedAt = consent.Instant(paused.Int64)
	plain, err := s.keys.Open("subscription "+v.ID.String(), secrets)
	if err != nil {
		return v, fmt.Errorf("secrets of subscription %s: %w", v.ID, err)
	}
	return v, json.Unmarshal(plain, &v.Secrets)
}

// subscriptionParts gives the options as they are kept, and the secrets, sealed.
func (s *Store) subscriptionParts(v consent.Subscription) (options string, secrets []byte, err error) {
	asJSON, err := json.Marshal(v.SubscriptionOptions)
	if err != nil {
		return "", nil, err
	}
	plain, err := json.Marshal(v.Secrets)
	if err != nil {
		return "", nil, err
	}
	return string(asJSON), s.keys.Seal("subscription "+v.ID.String(), plain), nil
}

// CreateSubscription stores a new subscription.
func (s *Store) CreateSubscription(ctx context.Context, v consent.Subscription, actor string, once Once) (Registered, error) {
	out := Registered{Subscription: v}
	err := s.update(ctx, func(ctx context.Context, t *tx) error {
		var before Registered
		if done, err := once.again(ctx, t, &before); done || err != nil {
			out = before
			return err
		}
		v := &out.Subscription
		v.CreatedAt, v.UpdatedAt = t.now, t.now
		notePause(v, t.now)
		options, secrets, err := s.subscriptionParts(*v)
		if err != nil {
			return err
		}
		if err := t.row(ctx, `INSERT INTO subscription (public_id, application, name, url, update_type, status, auth_type, token_location, token_name,
				refresh_url, client_id, options, secrets, created_at, updated_at, paused_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $14, $15) RETURNING id`,
			v.ID[:], v.Application, v.Name, v.URL, string(v.UpdateType), string(v.Status), string(v.AuthType), string(v.TokenLocation), v.TokenName,
			v.RefreshURL, v.ClientID, options, secrets, t.now, orNull(v.PausedAt)).Scan(&out.Number); err != nil {
			return err
		}
		if err := once.keep(ctx, t, out); err != nil {
			return err
		}
		t.rings |= bellSetup
		return t.audit(ctx, v.Application, actor, "subscription.create", v.ID.String())
	})
	return outcome(&out, err)
}

// notePause keeps when the present pause began.
func notePause(v *consent.Subscription, now consent.Instant) {
	switch {
	case v.Status != consent.Paused:
		v.PausedAt, v.Missed = 0, 0
	case v.PausedAt == 0:
		v.PausedAt = now
	}
}

// countMissed counts the changes made while the subscription has been paused.
func (s *Store) countMissed(ctx context.Context, q querier, v *consent.Subscription) error {
	if v.PausedAt == 0 {
		return nil
	}
	return q.QueryRowContext(ctx, `SELECT count(*) FROM change WHERE application = $1 AND changed_at > $2`, v.Application, v.PausedAt).Scan(&v.Missed)
}

var errNoSubscription = consent.Errorf(consent.NotFound, "There is no such subscription.")

// ChangeSubscription changes a subscription of one of the applications under the
// write lock, so that two changes at once cannot undo each other.
func (s *Store) ChangeSubscription(ctx context.Context, applications []int64, id consent.ID, actor string, change func(*consent.Subscription) error) (Registered, error) {
	var out Registered
	err := s.update(ctx, func(ctx context.Context, t *tx) error {
		if _, err := t.exec(ctx, `UPDATE subscription SET updated_at = updated_at WHERE public_id = $1`, id[:]); err != nil { // locks the row
			return err
		}
		v, err := s.findSubscription(ctx, t, applications, id)
		if err != nil {
			return err
		}
		before := v.Subscription
		if err := change(&v.Subscription); err != nil {
			return err
		}
		if before.URL != v.URL || !reflect.DeepEqual(before.Secrets, v.Secrets) { // what was wrong may be mended: try at once
			if _, err := t.exec(ctx, `UPDATE endpoint SET down_since = 0, probe_at = 0, wait_until = 0, gone_at = 0, released_at = $2 WHERE subscription = $1`, v.Number, t.now); err != nil {
				return err
			}
		}
		v.UpdatedAt = t.now
		notePause(&v.Subscription, t.now)
		options, secrets, err := s.subscriptionParts(v.Subscription)
		if err != nil {
			return err
		}
		if _, err := t.exec(ctx, `UPDATE subscription SET name = $2, url = $3, update_type = $4, status = $5, auth_type = $6, token_location = $7, token_name = $8,
				refresh_url = $9, client_id = $10, secrets = $11, updated_at = $12, paused_at = $13, options = $14 WHERE id = $1`,
			v.Number, v.Name, v.URL, string(v.UpdateType), string(v.Status), string(v.AuthType), string(v.TokenLocation), v.TokenName,
			v.RefreshURL, v.ClientID, secrets, t.now, orNull(v.PausedAt), options); err != nil {
			return err
		}
		t.rings |= bellAll // a resumed subscription has something to deliver
		if err := s.countMissed(ctx, t, &v.Subscription); err != nil {
			return err
		}
		out = v
		return t.audit(ctx, v.Application, actor, "subscription.change", v.ID.String())
	})
	return outcome(&out, err)
}

// DeleteSubscription removes a subscription of one of the applications and ends
// what waits for it; the audit record says how much that was.
func (s *Store) DeleteSubscription(ctx context.Context, applications []int64, id consent.ID, actor string) error {
	return s.update(ctx, func(ctx context.Context, t *tx) error {
		v, err := s.findSubscription(ctx, t, applications, id)
		if err != nil {
			return err
		}
		var ended int64
		for _, q := range []string{`DELETE FROM lane WHERE subscription = $1`, `DELETE FROM delivery_failure WHERE subscription = $1`, `DELETE FROM receipt WHERE subscription = $1`} {
			n, err := changed(ctx, t, q, v.Number)
			if err != nil {
				return err
			}
			ended += n
		}
		if _, err := t.exec(ctx, `DELETE FROM subscription WHERE id = $1`, v.Number); err != nil {
			return err
		}
		var logged int64
		if err := t.row(ctx, `SELECT count(*) FROM (SELECT 1 FROM attempt WHERE subscription = $1 LIMIT $2) AS first`, v.Number, maxBacklog).Scan(&logged); err != nil {
			return err
		}
		if _, err := t.exec(ctx, `INSERT INTO attempt_orphan (subscription) VALUES ($1)`, v.Number); err != nil {
			return err
		}
		many := ""
		if logged == maxBacklog {
			many = "at least "
		}
		t.rings |= bellSetup
		return t.audit(ctx, v.Application, actor, "subscription.delete", fmt.Sprintf("%s with %d waiting messages and %s%d entries of its log", v.ID, ended, many, logged))
	})
}

// Subscription reads one subscription of one of the applications.
func (s *Store) Subscription(ctx context.Context, applications []int64, id consent.ID) (Registered, error) {
	v, err := s.findSubscription(ctx, s.read, applications, id)
	if err == nil {
		err = s.countMissed(ctx, s.read, &v.Subscription)
	}
	return v, s.classify(err)
}

func (s *Store) findSubscription(ctx context.Context, q querier, applications []int64, id consent.ID) (Registered, error) {
	list, err := collect(ctx, q, s.scanSubscription, `SELECT `+subscriptionColumns+` FROM `+subscriptionTables+` WHERE s.public_id = $1`, id[:])
	if err != nil {
		return Registered{}, err
	}
	for _, v := range list {
		for _, a := range applications {
			if v.Application == a {
				return v, nil
			}
		}
	}
	return Registered{}, errNoSubscription
}

// SubscriptionFilter says which subscriptions to list.
type SubscriptionFilter struct {
	Applications  []int64
	Status        consent.SubscriptionStatus // empty: any
	UpdateType    consent.UpdateType         // empty: any
	After         int64                      // the list goes on after the subscription of this number
	Limit, Offset int
}

// Subscriptions lists subscriptions in the order in which they were created, and
// how many there are in all.
func (s *Store) Subscriptions(ctx context.Context, f SubscriptionFilter) ([]Registered, int64, error) {
	marks, args := places(f.Applications)
	where := "s.application IN (" + marks + ")"
	if f.Status != "" {
		args = append(args, string(f.Status))
		where += fmt.Sprintf(" AND s.status = $%d", len(args))
	}
	if f.UpdateType != "" {
		args = append(args, string(f.UpdateType))
		where += fmt.Sprintf(" AND s.update_type = $%d", len(args))
	}
	var total int64
	if err := s.read.QueryRowContext(ctx, `SELECT count(*) FROM subscription s WHERE `+where, args...).Scan(&total); err != nil {
		return nil, 0, s.classify(err)
	}
	args = append(args, f.After, f.Limit, f.Offset)
	list, err := collect(ctx, s.read, s.scanSubscription, fmt.Sprintf(`SELECT %s FROM %s WHERE %s AND s.id > $%d ORDER BY s.id LIMIT $%d OFFSET $%d`,
		subscriptionColumns, subscriptionTables, where, len(args)-2, len(args)-1, len(args)), args...)
	for i := range list {
		err = errors.Join(err, s.countMissed(ctx, s.read, &list[i].Subscription))
	}
	return list, total, s.classify(err)
}
