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

// Undo undoes what the citizen that asks did themselves within UndoTime: transactions by
// reversions, answers to preferences, which cannot be reverted, by giving those before
// them again.
func (s *Service) Undo(ctx context.Context, a Actor, ids []consent.ID, o Origin) error {
	if a.Citizen.IsZero() {
		return ErrUnauthenticated
	}
	h, err := s.History(ctx, a, a.Citizen, 0, 0)
	if err != nil {
		return err
	}
	var transactions []consent.ID
	var answers []consent.Answer
	for _, id := range ids {
		i := slices.IndexFunc(h.Entries, func(e store.Entry) bool { return e.Evidence().ID == id })
		if i < 0 || !h.Entries[i].Evidence().ByCitizen {
			return store.ErrNoTransaction
		}
		e := h.Entries[i]
		switch {
		case e.Evidence().RecordedAt.Add(UndoTime) <= consent.At(time.Now()):
			return consent.Errorf(consent.Gone, "It is too late to undo this.")
		case e.Transaction != nil:
			transactions = append(transactions, id)
		case e.Submission == nil:
			return store.ErrNoTransaction
		default:
			answers = append(answers, answerBefore(h.Entries[:i], e.Submission.Answer.Preference))
		}
	}
	for _, id := range transactions {
		if _, err := s.revertOwn(ctx, a, o, id); err != nil {
			return err
		}
	}
	if len(answers) == 0 {
		return nil
	}
	return s.submitOwn(ctx, a, o, answers)
}

// answerBefore gives the last answer to a preference in a history; before any there is
// that nothing is chosen.
func answerBefore(entries []store.Entry, preference string) consent.Answer {
	for _, e := range slices.Backward(entries) {
		if e.Submission != nil && e.Submission.Answer.Preference == preference {
			return e.Submission.Answer
		}
	}
	return consent.Answer{Preference: preference}
}

// submitOwn records answers of the citizen that asks.
func (s *Service) submitOwn(ctx context.Context, a Actor, o Origin, answers []consent.Answer) error {
	snap, err := s.ownApplication(ctx, a)
	if err != nil {
		return err
	}
	var faults consent.Faults
	evidence := o.evidence(a, snap, &faults)
	evidence.ByCitizen, evidence.Client = true, consent.InPerson
	submissions := submissionsOf(evidence, snap.ResolveAnswers(answers, &faults))
	if err := faults.Err(); err != nil {
		return err
	}
	out, err := s.store.Submit(ctx, snap.Application, consent.CitizenKey{ID: a.Citizen}, submissions, store.Once{})
	if err != nil {
		return err
	}
	s.counted(len(out.Submissions))
	s.submitted(out)
	return nil
}
