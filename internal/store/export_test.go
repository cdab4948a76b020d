package store

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/opencpm/opencpm/internal/consent"
)

// LiftByOwner lifts what the list says of the e-mail address of a citizen, as a double
// opt-in does in its own write.
func (s *Store) LiftByOwner(ctx context.Context, application int64, key consent.CitizenKey, channels ...string) error {
	return s.do(ctx, &write{citizens: []*citizenWrite{{application: application, key: key, apply: func(ctx context.Context, t *tx, c *citizenRow, _ bool) error {
		_, err := t.liftSuppressions(ctx, c, consent.EmailContact, channels, consent.Recorder{ID: "owner", Name: "Owner"}, "confirmed")
		return err
	}}}})
}

// ListOnly puts an e-mail address on the list without telling anybody, as a process does
// that is killed after the commit.
func (s *Store) ListOnly(ctx context.Context, application int64, e consent.Email, channel string) error {
	return s.update(ctx, func(ctx context.Context, t *tx) error {
		if err := t.holdList(ctx, application, true); err != nil {
			return err
		}
		return t.list(ctx, application, s.blind(application, e.Contact()), channel, NewSuppression{Contact: e.Contact()})
	})
}

// PutBackAddress leaves the e-mail address of a citizen where earlier releases did: among
// the details.
func (s *Store) PutBackAddress(ctx context.Context, application int64, key consent.CitizenKey, text string) error {
	return s.do(ctx, &write{citizens: []*citizenWrite{{application: application, key: key, apply: func(ctx context.Context, t *tx, c *citizenRow, _ bool) error {
		p, err := c.profile(s.keys)
		if err != nil {
			return err
		}
		p.Details.Email = text
		plain, err := json.Marshal(p)
		if err != nil {
			return err
		}
		if _, err := t.exec(ctx, `UPDATE citizen SET details = $1 WHERE id = $2`, c.key.Seal(c.context("details"), plain), c.id); err != nil {
			return err
		}
		_, err = t.exec(ctx, `INSERT INTO citizen_address_backlog (citizen) VALUES ($1)`, c.id)
		return err
	}}}})
}

// CodeTries gives how many wrong codes are counted of a form that asked for one.
func (s *Store) CodeTries(ctx context.Context, application int64, address consent.Email, asker string) (n int64, err error) {
	return n, s.fixed.QueryRowContext(ctx, `SELECT tries FROM sign_in_code WHERE application = $1 AND address = $2 AND asker = $3`,
		application, s.addressIndex(application, address), linkHash(asker)).Scan(&n)
}

// CountLinkRequests gives how many requests are kept.
func (s *Store) CountLinkRequests(ctx context.Context) (n int64, err error) {
	return n, s.fixed.QueryRowContext(ctx, `SELECT count(*) FROM link_request`).Scan(&n)
}

// Queries that read page after page of all citizens.
const (
	EveryTokenSource = everyTokenSource
	EveryResync      = everyResync
	ChangedResync    = changedResync
)

// WriterSettings are those of the connections on which PostgreSQL is written to.
var WriterSettings = postgres{}.prepareWriter()

// AgeSignUps makes all sign-ups older.
func (s *Store) AgeSignUps(ctx context.Context, by time.Duration) error {
	return s.update(ctx, func(ctx context.Context, t *tx) error {
		_, err := t.exec(ctx, `UPDATE sign_up SET created_at = created_at - $1`, by.Microseconds())
		return err
	})
}

// LastChange gives the place of the last change of an application, which the feed may not
// tell of yet: on PostgreSQL it does once no older transaction runs, whosever it is.
func (s *Store) LastChange(ctx context.Context, application int64) (last Place, err error) {
	err = s.read.QueryRowContext(ctx, `SELECT position, id FROM change WHERE application = $1 ORDER BY position DESC, id DESC LIMIT 1`, application).Scan(&last.Major, &last.Minor)
	if errors.Is(err, sql.ErrNoRows) {
		err = nil
	}
	return last, err
}
