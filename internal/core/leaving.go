package core

import (
	"context"
	"slices"
	"time"

	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/internal/store"
)

// StillOn names, for a link to unsubscribe, the other channels by which its citizen hears
// of the same purpose, in a locale. It tells nothing of other purposes: the link is for this one alone.
func (s *Service) StillOn(ctx context.Context, text, locale string) ([]string, error) {
	who, snap, err := s.leaver(ctx, text)
	if err != nil || who.CitizenID.IsZero() || who.Erased || who.Leaves.Type != consent.OptionSingle {
		return nil, err
	}
	state, err := s.store.State(ctx, who.Application, consent.CitizenKey{ID: who.CitizenID})
	if err != nil {
		return nil, err
	}
	left, _ := snap.NamesOf(who.Leaves, locale)
	var list []string
	for _, e := range state.Projection.Effective(consent.At(time.Now())) {
		on := e.State == consent.Granted || e.State == consent.Claimed
		purpose, channel := snap.NamesOf(consent.Key{Type: e.OptionType, ID: e.OptionID}, locale)
		if on && e.OptionType == consent.OptionSingle && e.OptionID != who.Leaves.ID && purpose == left {
			list = append(list, purpose+": "+channel)
		}
	}
	return list, nil
}

// UndoLeaving takes back, for UndoTime, what was refused by a link to unsubscribe. Where
// nobody is left, as where the link is none, there is no such transaction.
func (s *Service) UndoLeaving(ctx context.Context, text string, id consent.ID, v Visitor) (Leaving, error) {
	who, snap, err := s.leaver(ctx, text)
	if err != nil {
		return Leaving{}, err
	}
	if who.CitizenID.IsZero() || who.Erased {
		return Leaving{}, store.ErrNoTransaction
	}
	evidence := inPerson(v)
	evidence.Channel = unsubscribeChannel
	_, err = s.undo(ctx, who.Application, who.CitizenID, evidence, func(history []store.Entry, _ *consent.Projection, at consent.Instant) (undone, error) {
		i := slices.IndexFunc(history, func(e store.Entry) bool {
			return e.Transaction != nil && e.Transaction.ID == id && e.Transaction.Channel == unsubscribeChannel
		})
		switch {
		case i < 0:
			return undone{}, store.ErrNoTransaction
		case history[i].Transaction.RecordedAt.Add(UndoTime) <= at:
			return undone{}, errTooLate
		}
		return undone{transactions: []consent.ID{id}}, nil
	})
	if err != nil {
		return Leaving{}, err
	}
	return leavingOf(who, snap), nil
}
