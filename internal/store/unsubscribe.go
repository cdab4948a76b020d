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
// It is found whatever was revoked or erased since. keys is the revision of the [TokenKeys]
// then.
func (s *Store) Leaver(ctx context.Context, citizen, link int64) (v Leaver, keys int64, err error) {
	var deleted, application sql.NullInt64
	var applicationID, optionType, optionID sql.NullString
	err = s.fixed.QueryRowContext(ctx, `SELECT k.revision, c.public_id, c.deleted_at, c.application, a.public_id, u.option_type, u.option_id FROM (SELECT `+keyRevision+` AS revision) k
		LEFT JOIN citizen c ON c.id = $1 LEFT JOIN application a ON a.id = c.application LEFT JOIN unsubscribe_link u ON u.number = $2 AND u.application = c.application`,
		citizen, link).Scan(&keys, &v.CitizenID, &deleted, &application, &applicationID, &optionType, &optionID)
	if err != nil || !optionID.Valid {
		return Leaver{}, keys, s.classify(err)
	}
	v.Application, v.ApplicationID, v.Erased = application.Int64, applicationID.String, deleted.Valid
	v.Leaves = consent.Key{Type: consent.OptionType(optionType.String), ID: optionID.String}
	return v, keys, nil
}
