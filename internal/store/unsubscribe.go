package store

import (
	"context"
	"database/sql"
	"errors"

	"github.com/opencpm/opencpm/internal/consent"
)

// UnsubscribeGrounds gives the grounds for a link with which a citizen leaves an option or
// a group. Its Issue is the number of what it leaves, which all such links share.
func (s *Store) UnsubscribeGrounds(ctx context.Context, application int64, key consent.CitizenKey, leaves consent.Key) (TokenGrounds, error) {
	c, err := s.readCitizen(ctx, application, key)
	if err != nil {
		return TokenGrounds{}, err
	}
	g := TokenGrounds{Application: application, Citizen: c.id}
	err = s.update(ctx, func(ctx context.Context, t *tx) (err error) {
		g.Issue, err = t.unsubscribeLink(ctx, application, leaves)
		return err
	})
	return outcome(&g, err)
}

func (t *tx) unsubscribeLink(ctx context.Context, application int64, leaves consent.Key) (number int64, err error) {
	find := func() error {
		return t.row(ctx, `SELECT number FROM unsubscribe_link WHERE application = $1 AND option_type = $2 AND option_id = $3`,
			application, string(leaves.Type), leaves.ID).Scan(&number)
	}
	if err = find(); !errors.Is(err, sql.ErrNoRows) {
		return number, err
	}
	if _, err := t.exec(ctx, `INSERT INTO unsubscribe_link (application, option_type, option_id, created_at) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING`,
		application, string(leaves.Type), leaves.ID, t.now); err != nil {
		return 0, err
	}
	return number, find()
}

// Leaver is who leaves by a link, and what.
type Leaver struct {
	CitizenID     consent.ID // zero: there is no such link
	Application   int64
	ApplicationID string
	Leaves        consent.Key
	Erased        bool // there is nobody left who could
}

// Leaver finds the citizen of a link to unsubscribe, and what it leaves, by their numbers.
// It is found whatever was revoked or erased since.
func (s *Store) Leaver(ctx context.Context, citizen, link int64) (Leaver, error) {
	var v Leaver
	var id []byte
	var deleted sql.NullInt64
	err := s.fixed.QueryRowContext(ctx, `SELECT c.public_id, c.deleted_at, c.application, a.public_id, u.option_type, u.option_id FROM citizen c
		JOIN application a ON a.id = c.application JOIN unsubscribe_link u ON u.application = c.application WHERE c.id = $1 AND u.number = $2`, citizen, link).
		Scan(&id, &deleted, &v.Application, &v.ApplicationID, &v.Leaves.Type, &v.Leaves.ID)
	if errors.Is(err, sql.ErrNoRows) {
		return Leaver{}, nil
	}
	copy(v.CitizenID[:], id)
	v.Erased = deleted.Valid
	return v, s.classify(err)
}

// RecordLeaving records the changes that decide finds in what is known of a citizen, as one
// transaction, where it finds any; left is false otherwise.
func (s *Store) RecordLeaving(ctx context.Context, application int64, citizen consent.ID, transaction consent.Transaction,
	decide func(*consent.Projection, consent.Instant) []consent.Change,
) (out Recorded, left bool, err error) {
	key := consent.CitizenKey{ID: citizen}
	err = s.do(ctx, &write{citizens: []*citizenWrite{{
		application: application, key: key,
		apply: func(ctx context.Context, t *tx, c *citizenRow, created bool) error {
			of := transaction
			of.Changes = decide(c.projection, max(t.now, c.recordedAt))
			if left = len(of.Changes) > 0; !left {
				return nil
			}
			return s.recording(application, key, of, &out).apply(ctx, t, c, created)
		},
	}}})
	out, err = outcome(&out, err)
	return out, left && err == nil, err
}
