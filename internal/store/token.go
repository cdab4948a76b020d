package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/opencpm/opencpm/internal/consent"
)

// TokenIssueKind says for what citizen tokens were made.
type TokenIssueKind string

// The kinds of issue. Those of a subscription are carried by its messages, those of a
// batch are in the file of a job.
const (
	SingleToken        TokenIssueKind = "single"
	SubscriptionTokens TokenIssueKind = "subscription"
	BatchTokens        TokenIssueKind = "batch"
)

// TokenIssue is one act of making citizen tokens, by which they can be revoked.
type TokenIssue struct {
	Number         int64
	Kind           TokenIssueKind
	CitizenID      consent.ID // of a single one
	SubscriptionID consent.ID // of a subscription's, unless it has been deleted
	JobID          consent.ID // of a batch
	Scheduled      bool       // a batch that the settings of the application asked for
	Reference      string     // the client's own
	CreatedBy      string
	CreatedAt      consent.Instant
	ExpiresAt      consent.Instant // of a single one and of a batch
	RevokedAt      consent.Instant // zero: not revoked
}

// TokenGrounds are the numbers that a new token of a citizen carries.
type TokenGrounds struct{ Issue, Application, Citizen, Generation int64 }

// IssueToken notes that a single token of a citizen is made.
func (s *Store) IssueToken(ctx context.Context, application int64, key consent.CitizenKey, reference, actor string, expires consent.Instant) (TokenGrounds, error) {
	c, err := s.readCitizen(ctx, application, key)
	if err != nil {
		return TokenGrounds{}, err
	}
	var g TokenGrounds
	err = s.update(ctx, func(ctx context.Context, t *tx) (err error) {
		g, err = t.issueSingle(ctx, application, c.id, reference, actor, expires)
		return err
	})
	return outcome(&g, err)
}

// issueSingle notes that a single token is made of a citizen, who may have been erased
// meanwhile: then it fails with ErrNoCitizen.
func (t *tx) issueSingle(ctx context.Context, application, citizen int64, reference, by string, expires consent.Instant) (TokenGrounds, error) {
	g := TokenGrounds{Application: application, Citizen: citizen}
	err := t.row(ctx, `SELECT token_generation FROM citizen WHERE id = $1 AND deleted_at IS NULL`, citizen).Scan(&g.Generation)
	if errors.Is(err, sql.ErrNoRows) {
		return g, ErrNoCitizen
	}
	if err != nil {
		return g, err
	}
	return g, t.row(ctx, `INSERT INTO token_issue (application, kind, citizen, reference, created_by, created_at, expires_at) VALUES ($1, $2, $3, $4, $5, $6, $7) RETURNING number`,
		application, string(SingleToken), citizen, reference, by, t.now, expires).Scan(&g.Issue)
}

// SubscriptionGrounds gives the grounds for tokens in the messages of a subscription, by
// the numbers of the citizens. All nodes use one issue until it is revoked, and then the
// next. Citizens who are erased are left out.
func (s *Store) SubscriptionGrounds(ctx context.Context, sub Registered, citizens []int64) (map[int64]TokenGrounds, error) {
	issue, err := s.subscriptionIssue(ctx, sub)
	if err != nil {
		return nil, err
	}
	grounds := make(map[int64]TokenGrounds, len(citizens))
	marks, args := places(citizens)
	_, err = collect(ctx, s.fixed, func(r *sql.Rows) (struct{}, error) {
		g := TokenGrounds{Issue: issue, Application: sub.Application}
		err := r.Scan(&g.Citizen, &g.Generation)
		grounds[g.Citizen] = g
		return struct{}{}, err
	}, `SELECT id, token_generation FROM citizen WHERE id IN (`+marks+`) AND deleted_at IS NULL`, args...)
	return grounds, s.classify(err)
}

func (s *Store) subscriptionIssue(ctx context.Context, sub Registered) (int64, error) {
	const inUse = `SELECT number FROM token_issue WHERE subscription = $1 AND revoked_at IS NULL`
	var number int64
	err := s.fixed.QueryRowContext(ctx, inUse, sub.Number).Scan(&number)
	if !errors.Is(err, sql.ErrNoRows) {
		return number, s.classify(err)
	}
	err = s.update(ctx, func(ctx context.Context, t *tx) error {
		if _, err := t.exec(ctx, `INSERT INTO token_issue (application, kind, subscription, reference, created_by, created_at)
			SELECT application, $2, id, '', $3, $4 FROM subscription WHERE id = $1 ON CONFLICT DO NOTHING`,
			sub.Number, string(SubscriptionTokens), consent.Platform.ID, t.now); err != nil {
			return err
		}
		err := t.row(ctx, inUse, sub.Number).Scan(&number)
		if errors.Is(err, sql.ErrNoRows) {
			return errNoSubscription // deleted meanwhile
		}
		return err
	})
	return outcome(&number, err)
}

// TokenHolder is the citizen of a token as they are now.
type TokenHolder struct {
	CitizenID   consent.ID
	Application int64
	Generation  int64 // tokens of another one are revoked
}

// TokenHolder finds the citizen for a token of an issue, and who that is by its number. It
// gives nobody where there is no such citizen or issue, or it is revoked, after the same
// look. keys is the revision of the [TokenKeys] then.
func (s *Store) TokenHolder(ctx context.Context, citizen, issue int64) (h TokenHolder, keys int64, err error) {
	var application, generation, number sql.NullInt64
	err = s.fixed.QueryRowContext(ctx, `SELECT k.revision, c.public_id, c.application, c.token_generation, i.number FROM (SELECT `+keyRevision+` AS revision) k
		LEFT JOIN citizen c ON c.id = $1 AND c.deleted_at IS NULL LEFT JOIN token_issue i ON i.number = $2 AND i.application = c.application AND i.revoked_at IS NULL`,
		citizen, issue).Scan(&keys, &h.CitizenID, &application, &generation, &number)
	if err != nil || !number.Valid {
		return TokenHolder{}, keys, s.classify(err)
	}
	h.Application, h.Generation = application.Int64, generation.Int64
	return h, keys, nil
}

// RevokeTokens revokes every token that a citizen has, however it was made.
func (s *Store) RevokeTokens(ctx context.Context, application int64, key consent.CitizenKey, actor string) error {
	return s.do(ctx, &write{citizens: []*citizenWrite{{
		application: application, key: key,
		apply: func(ctx context.Context, t *tx, c *citizenRow, _ bool) error {
			if _, err := t.exec(ctx, `UPDATE citizen SET token_generation = token_generation + 1 WHERE id = $1`, c.id); err != nil {
				return err
			}
			return t.audit(ctx, application, actor, "citizen.revoke-tokens", c.publicID.String())
		},
	}}})
}

// ErrNoTokenIssue is the answer for an issue that does not exist, or not for the asker.
var ErrNoTokenIssue = consent.Errorf(consent.NotFound, "There is no such issue of citizen tokens.")

// RevokeTokenIssue revokes every token of an issue of one of the applications. One that is
// revoked stays so.
func (s *Store) RevokeTokenIssue(ctx context.Context, applications []int64, number int64, actor string) error {
	return s.update(ctx, func(ctx context.Context, t *tx) error {
		var application int64
		err := t.row(ctx, `SELECT application FROM token_issue WHERE number = $1`, number).Scan(&application)
		switch {
		case errors.Is(err, sql.ErrNoRows), err == nil && !slices.Contains(applications, application):
			return ErrNoTokenIssue
		case err != nil:
			return err
		}
		if n, err := changed(ctx, t, `UPDATE token_issue SET revoked_at = $2 WHERE number = $1 AND revoked_at IS NULL`, number, t.now); n == 0 || err != nil {
			return err
		}
		return t.audit(ctx, application, actor, "tokens.revoke", fmt.Sprint(number))
	})
}

// TokenIssues lists the issues of an application, the newest first, from before the one of
// a number where that is not zero, and says how many there are in all.
func (s *Store) TokenIssues(ctx context.Context, application, before int64, limit, offset int) ([]TokenIssue, int64, error) {
	var total int64
	if err := s.fixed.QueryRowContext(ctx, `SELECT count(*) FROM token_issue WHERE application = $1`, application).Scan(&total); err != nil {
		return nil, 0, s.classify(err)
	}
	list, err := collect(ctx, s.fixed, func(r *sql.Rows) (TokenIssue, error) {
		var v TokenIssue
		var expires, revoked sql.NullInt64
		var scheduled int64
		err := r.Scan(&v.Number, &v.Kind, &v.CitizenID, &v.SubscriptionID, &v.JobID, &v.Reference, &v.CreatedBy, &v.CreatedAt, &expires, &revoked, &scheduled)
		v.Scheduled = scheduled != 0
		v.ExpiresAt, v.RevokedAt = consent.Instant(expires.Int64), consent.Instant(revoked.Int64)
		return v, err
	}, `SELECT i.number, i.kind, c.public_id, s.public_id, j.public_id, i.reference, i.created_by, i.created_at, i.expires_at, i.revoked_at, i.scheduled
		FROM token_issue i LEFT JOIN citizen c ON c.id = i.citizen LEFT JOIN subscription s ON s.id = i.subscription LEFT JOIN job j ON j.id = i.job
		WHERE i.application = $1 AND ($2 = 0 OR i.number < $2) ORDER BY i.number DESC LIMIT $3 OFFSET $4`, application, before, limit, offset)
	return list, total, s.classify(err)
}

// keepTokenIssues is for how long an issue is listed after its token has expired.
const keepTokenIssues = 90 * 24 * time.Hour

// ForgetTokenIssues drops the issues whose tokens expired long ago, and who was in files
// that are gone.
func (s *Store) ForgetTokenIssues(ctx context.Context) error {
	return s.update(ctx, func(ctx context.Context, t *tx) error {
		if _, err := t.exec(ctx, `DELETE FROM token_issue WHERE expires_at <= $1`, t.now.Add(-keepTokenIssues)); err != nil {
			return err
		}
		for _, table := range []string{"token_piece", "token_erased"} {
			if _, err := t.exec(ctx, `DELETE FROM `+table+` WHERE job IN (SELECT j.id FROM job j WHERE j.params IS NULL)`); err != nil {
				return err
			}
		}
		return nil
	})
}
