package core

import (
	"context"
	"slices"
	"time"

	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/internal/store"
)

// UndoTime is how long a citizen can undo what they changed by one button.
const UndoTime = 10 * time.Minute

// Undo undoes what the citizen that asks did themselves within UndoTime, all or nothing:
// transactions by reversions, answers to preferences, which cannot be reverted, by giving
// those before them again. An answer that was changed since stays as it is; where that is
// all there is to undo it is a Conflict, as is what was undone already. What cannot be
// answered so any more, since the catalogue has it no longer, is Invalid.
func (s *Service) Undo(ctx context.Context, a Actor, ids []consent.ID, o Origin) error {
	_, err := s.undoOwn(ctx, a, o, func(snap *consent.Snapshot, history []store.Entry, state *consent.Projection, at consent.Instant) (undone, error) {
		return chooseUndone(snap, ids, history, state, at)
	})
	return err
}

// chooseUndone finds what undoes records of a citizen that they made themselves.
func chooseUndone(snap *consent.Snapshot, ids []consent.ID, history []store.Entry, state *consent.Projection, at consent.Instant) (undone, error) {
	var v undone
	var without consent.Projection // the answers, as if the others had never been given
	missing := slices.Clone(ids)
	for _, e := range history {
		evidence := e.Evidence()
		if !slices.Contains(ids, evidence.ID) {
			if e.Submission != nil {
				without.Answer(*e.Submission)
			}
			continue
		}
		switch {
		case !evidence.ByCitizen:
			return v, store.ErrNoTransaction
		case evidence.RecordedAt.Add(UndoTime) <= at:
			return v, errTooLate
		case e.Transaction != nil:
			v.transactions = append(v.transactions, evidence.ID)
		}
		missing = slices.DeleteFunc(missing, func(id consent.ID) bool { return id == evidence.ID })
	}
	if len(missing) > 0 {
		return v, store.ErrNoTransaction
	}
	before := without.Preferences()
	for _, now := range state.Preferences() {
		if slices.Contains(ids, now.SubmissionID) {
			v.answers = append(v.answers, answerIn(before, now.Preference))
		}
	}
	if len(v.transactions)+len(v.answers) == 0 {
		return v, consent.Errorf(consent.Conflict, "What was changed later stands; there is nothing left to undo.")
	}
	var faults consent.Faults
	v.answers = snap.ResolveAnswers(v.answers, &faults)
	return v, faults.Err()
}

var errTooLate = consent.Errorf(consent.Gone, "It is too late to undo this.")

// answerIn gives the answer to a preference; before any there is that nothing is chosen.
func answerIn(list []consent.CurrentPreference, preference string) consent.Answer {
	answer := consent.Answer{Preference: preference}
	for _, p := range list {
		if p.Preference == preference {
			for _, c := range p.Choices {
				answer.Choices = append(answer.Choices, consent.Chosen{Reference: c.Reference})
			}
		}
	}
	return answer
}

// undone is what is undone of a citizen's records: transactions, and answers, by those that
// take their place.
type undone struct {
	transactions []consent.ID
	answers      []consent.Answer
}

// undoOwn undoes what choose finds among the records of the citizen that asks.
func (s *Service) undoOwn(ctx context.Context, a Actor, o Origin,
	choose func(*consent.Snapshot, []store.Entry, *consent.Projection, consent.Instant) (undone, error),
) (store.Answered, error) {
	snap, err := s.ownApplication(ctx, a)
	if err != nil {
		return store.Answered{}, err
	}
	evidence, err := o.ownEvidence(a, snap)
	if err != nil {
		return store.Answered{}, err
	}
	return s.undo(ctx, snap.Application, a.Citizen, evidence, func(history []store.Entry, state *consent.Projection, at consent.Instant) (undone, error) {
		return choose(snap, history, state, at)
	})
}

// undo undoes what choose finds in the commit among the records of a citizen, all or
// nothing, by records that have the evidence.
func (s *Service) undo(ctx context.Context, application int64, citizen consent.ID, e consent.Evidence,
	choose func([]store.Entry, *consent.Projection, consent.Instant) (undone, error),
) (store.Answered, error) {
	done, err := s.store.Undo(ctx, application, citizen, func(history []store.Entry, state *consent.Projection, at consent.Instant) ([]consent.Transaction, []consent.Submission, error) {
		v, err := choose(history, state, at)
		reversions := make([]consent.Transaction, len(v.transactions))
		for i, id := range v.transactions {
			reversions[i] = consent.Transaction{Evidence: e, Reverts: id}
			reversions[i].ID = store.NewID()
		}
		return reversions, submissionsOf(e, v.answers), err
	})
	if err == nil {
		s.tellAnswered(done)
	}
	return done, err
}
