package store

import (
	"context"

	"github.com/opencpm/opencpm/internal/consent"
)

// Undoing makes, from everything that was recorded of a citizen and the state as it is in
// the commit, the reversions, each of another transaction, and the answers that take the
// place of others. It may make none.
type Undoing func(history []Entry, state *consent.Projection, at consent.Instant) ([]consent.Transaction, []consent.Submission, error)

// Undo records what decide makes, all or nothing, as one change of the citizen's state.
// What was displaced by a transaction that is undone speaks again. An error of decide is
// given back, and nothing is recorded.
func (s *Store) Undo(ctx context.Context, application int64, citizen consent.ID, decide Undoing) (Answered, error) {
	var out Answered
	err := s.do(ctx, &write{citizens: []*citizenWrite{s.undoing(application, citizen, decide, &out)}})
	return outcome(&out, err)
}

// undoing is the write of reversions, and of answers in the place of others.
func (s *Store) undoing(application int64, citizen consent.ID, decide Undoing, out *Answered) *citizenWrite {
	return &citizenWrite{application: application, key: consent.CitizenKey{ID: citizen}, apply: func(ctx context.Context, t *tx, c *citizenRow, _ bool) error {
		p, err := c.profile(s.keys)
		if err != nil {
			return err
		}
		records, err := c.ledger(ctx, t)
		if err != nil {
			return err
		}
		history := make([]Entry, len(records))
		for i := range records {
			if history[i], err = records[i].entry(c); err != nil {
				return err
			}
		}
		*out = Answered{CitizenID: c.publicID, ExternalRef: p.ExternalRef}
		reversions, submissions, err := decide(history, c.projection, max(t.now, c.recordedAt))
		if err != nil || len(reversions)+len(submissions) == 0 {
			return err
		}
		undone := make([]*consent.Transaction, len(reversions))
		for i, v := range reversions {
			if undone[i], err = c.revertible(records, v.Reverts); err != nil {
				return err
			}
		}
		before, err := c.undo(t.now, records, reversions, submissions)
		if err != nil {
			return err
		}
		for i, v := range reversions {
			out.Transactions = append(out.Transactions, c.revertedOf(p.ExternalRef, v, undone[i], before, t.now))
		}
		if len(submissions) > 0 {
			submitted := c.submittedOf(p.ExternalRef, submissions)
			out.Submitted = &submitted
		}
		return nil
	}}
}

// undo appends reversions and submissions to the ledger, which has the records until now,
// stamping them, and folds it anew. It gives what was effective before.
func (c *citizenRow) undo(now consent.Instant, records []record, reversions []consent.Transaction, submissions []consent.Submission) (consent.FullState, error) {
	var by string
	for _, v := range submissions {
		by = v.Client.ID
	}
	for _, v := range reversions {
		by = v.Client.ID
	}
	return c.revise(by, now, false, nil, func() (err error) {
		known := len(c.records)
		for i := range reversions {
			v := &reversions[i]
			v.Changes = []consent.Change{}
			v.Stamp(now, c.recordedAt)
			if err := c.appendTransaction(*v); err != nil {
				return err
			}
		}
		for i := range submissions {
			v := &submissions[i]
			v.Stamp(now, c.recordedAt)
			if err := c.appendSubmission(*v); err != nil {
				return err
			}
		}
		c.projection, err = c.fold(append(records, c.records[known:]...), 0)
		return err
	})
}

// revertedOf is the outcome of a reversion that has just been recorded.
func (c *citizenRow) revertedOf(ref string, v consent.Transaction, undone *consent.Transaction, before consent.FullState, now consent.Instant) Recorded {
	of := v
	of.Changes = undone.Changes
	out := c.recordedOf(ref, of, before, now)
	for i := range out.Outcomes {
		out.Outcomes[i].Change = undone.Changes[i]
	}
	out.Transaction = v
	return out
}
