package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/opencpm/opencpm/internal/consent"
)

// Captured is what somebody answered without saying who they are by a token.
type Captured struct {
	Transactions []consent.Transaction `json:"transactions,omitempty"`
	Submissions  []consent.Submission  `json:"submissions,omitempty"`
	Telephone    consent.Telephone     `json:"telephone,omitempty"` // becomes the citizen's where they have none
}

// maxParked is how many captures are parked of one citizen: what comes after them is
// forgotten.
const maxParked = 20

// Capture records answers for a reference that nobody has yet. For one that somebody has
// they are parked until they are accepted or rejected, and nothing is recorded.
func (s *Store) Capture(ctx context.Context, application int64, ref string, v Captured, inv Invitation, once Once) ([]Recorded, error) {
	key := consent.CitizenKey{ExternalRef: ref}
	var recorded []Recorded
	var invited Invited
	w := s.inviting(application, key, v.Transactions, inv, &recorded, &invited)
	w.create = true
	apply := w.apply
	w.apply = func(ctx context.Context, t *tx, c *citizenRow, created bool) error {
		if recorded = nil; !created {
			return t.park(ctx, c, v)
		}
		if err := apply(ctx, t, c, created); err != nil {
			return err
		}
		if _, err := t.offerTelephone(ctx, c, v.Telephone); err != nil || len(v.Submissions) == 0 {
			return err
		}
		var submitted Submitted
		return s.submission(application, key, v.Submissions, &submitted).apply(ctx, t, c, false)
	}
	once.guard(w, &recorded, func() { repeat(recorded) })
	err := s.do(ctx, &write{citizens: []*citizenWrite{w}})
	return outcome(&recorded, err)
}

func (c *citizenRow) captureContext(id consent.ID) string { return c.context("capture " + id.String()) }

// park keeps a capture for somebody to look at.
func (t *tx) park(ctx context.Context, c *citizenRow, v Captured) error {
	var n int
	if err := t.row(ctx, `SELECT count(*) FROM parked_capture WHERE citizen = $1`, c.id).Scan(&n); err != nil || n >= maxParked {
		return err
	}
	for i := range v.Transactions {
		v.Transactions[i].Stamp(t.now, 0) // it was obtained now, whenever it is accepted
	}
	for i := range v.Submissions {
		v.Submissions[i].Stamp(t.now, 0)
	}
	plain, err := json.Marshal(v)
	if err != nil {
		return err
	}
	id := NewID()
	_, err = t.exec(ctx, `INSERT INTO parked_capture (public_id, application, citizen, sealed, created_at) VALUES ($1, $2, $3, $4, $5)`,
		id[:], c.application, c.id, c.key.Seal(c.captureContext(id), plain), t.now)
	return err
}

// ParkedCapture is a capture that waits to be accepted or rejected.
type ParkedCapture struct {
	Captured
	ID          consent.ID
	CitizenID   consent.ID
	ExternalRef string
	CreatedAt   consent.Instant
	Number      int64 // rises with time
}

// ForgottenAt is when it is forgotten unless somebody decides about it.
func (p ParkedCapture) ForgottenAt() consent.Instant { return p.CreatedAt.Add(keepParked) }

// keepParked is for how long a capture waits.
const keepParked = 30 * 24 * time.Hour

// ErrNoCapture is the answer for a capture that does not wait, or not for the asker.
var ErrNoCapture = consent.Errorf(consent.NotFound, "There is no such capture; it may have been decided about, or forgotten.")

// ParkedCaptures lists the captures of an application that wait, the oldest first, after
// one by its number, and how many there are.
func (s *Store) ParkedCaptures(ctx context.Context, application, after int64, limit, offset int) ([]ParkedCapture, int64, error) {
	var total int64
	if err := s.fixed.QueryRowContext(ctx, `SELECT count(*) FROM parked_capture WHERE application = $1`, application).Scan(&total); err != nil {
		return nil, 0, s.classify(err)
	}
	list, err := collect(ctx, s.fixed, s.scanParked, parkedQuery+` WHERE p.application = $1 AND p.id > $2 ORDER BY p.id LIMIT $3 OFFSET $4`, application, after, limit, offset)
	return list, total, s.classify(err)
}

const parkedQuery = `SELECT p.id, p.public_id, p.sealed, p.created_at, c.public_id, c.details, k.wrapped FROM parked_capture p
	JOIN citizen c ON c.id = p.citizen JOIN citizen_key k ON k.citizen = p.citizen`

func (s *Store) scanParked(r *sql.Rows) (v ParkedCapture, err error) {
	var c citizenRow
	var sealed []byte
	if err := r.Scan(&v.Number, &v.ID, &sealed, &v.CreatedAt, &v.CitizenID, &c.details, &c.wrapped); err != nil {
		return v, err
	}
	c.publicID = v.CitizenID
	p, err := c.profile(s.keys)
	if err != nil {
		return v, err
	}
	v.ExternalRef = p.ExternalRef
	plain, err := c.key.Open(c.captureContext(v.ID), sealed)
	if err == nil {
		err = json.Unmarshal(plain, &v.Captured)
	}
	if err != nil {
		return v, fmt.Errorf("capture %s: %w", v.ID, err)
	}
	return v, nil
}

// parked finds a capture that waits among those of some applications.
func (s *Store) parked(ctx context.Context, q reader, applications []int64, id consent.ID) (v ParkedCapture, application int64, applicationID string, err error) {
	err = q.QueryRowContext(ctx, `SELECT p.application, a.public_id FROM parked_capture p JOIN application a ON a.id = p.application WHERE p.public_id = $1`, id[:]).
		Scan(&application, &applicationID)
	allowed := false
	for _, a := range applications {
		allowed = allowed || a == application
	}
	if errors.Is(err, sql.ErrNoRows) || err == nil && !allowed {
		return v, 0, "", ErrNoCapture
	}
	if err != nil {
		return v, 0, "", err
	}
	list, err := collect(ctx, q, s.scanParked, parkedQuery+` WHERE p.public_id = $1`, id[:])
	if err == nil && len(list) == 0 {
		err = ErrNoCapture
	}
	if err != nil {
		return v, 0, "", err
	}
	return list[0], application, applicationID, nil
}

// DecideCapture ends a capture that waits, once. One that is accepted is recorded as what
// accept makes of it, by the invitation that it gives where something of it is PENDING.
func (s *Store) DecideCapture(ctx context.Context, applications []int64, id consent.ID, actor string, accept func(applicationID string, v *Captured) (Invitation, error)) ([]Recorded, error) {
	v, application, applicationID, err := s.parked(ctx, s.read, applications, id)
	if err != nil {
		return nil, s.classify(err)
	}
	action, inv := "capture.reject", Invitation{}
	if accept != nil {
		action = "capture.accept"
		if inv, err = accept(applicationID, &v.Captured); err != nil {
			return nil, err
		}
	}
	key := consent.CitizenKey{ID: v.CitizenID}
	var recorded []Recorded
	err = s.do(ctx, &write{citizens: []*citizenWrite{{application: application, key: key, apply: func(ctx context.Context, t *tx, c *citizenRow, _ bool) error {
		recorded = nil
		if n, err := t.count(ctx, `DELETE FROM parked_capture WHERE public_id = $1`, id[:]); err != nil || n == 0 {
			if err == nil {
				err = ErrNoCapture
			}
			return err
		}
		if accept != nil {
			if err := t.adopt(ctx, c); err != nil {
				return err
			}
			if _, err := t.offerTelephone(ctx, c, v.Telephone); err != nil {
				return err
			}
			if len(v.Transactions) > 0 {
				var invited Invited
				if err := s.inviting(application, key, v.Transactions, inv, &recorded, &invited).apply(ctx, t, c, false); err != nil {
					return err
				}
			}
			if len(v.Submissions) > 0 {
				var submitted Submitted
				if err := s.submission(application, key, v.Submissions, &submitted).apply(ctx, t, c, false); err != nil {
					return err
				}
			}
		}
		return t.audit(ctx, application, actor, action, id.String())
	}}}})
	if errors.Is(err, ErrNoCitizen) {
		err = ErrNoCapture
	}
	if err != nil {
		return nil, err
	}
	return recorded, nil
}

// ForgetCaptures forgets captures that nobody has decided about in time.
func (s *Store) ForgetCaptures(ctx context.Context) error {
	return s.update(ctx, func(ctx context.Context, t *tx) error {
		_, err := t.exec(ctx, `DELETE FROM parked_capture WHERE created_at <= $1`, t.now.Add(-keepParked))
		return err
	})
}
