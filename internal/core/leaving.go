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

// UndoLeaving takes back, for UndoTime, what was refused by a link to unsubscribe.
func (s *Service) UndoLeaving(ctx context.Context, text string, id consent.ID, v Visitor) (Leaving, error) {
	who, snap, err := s.leaver(ctx, text)
	if err != nil || who.CitizenID.IsZero() || who.Erased {
		return Leaving{}, err
	}
	chain, err := s.store.Chain(ctx, who.Application, consent.CitizenKey{ID: who.CitizenID}, 0, 1<<30)
	if err != nil {
		return Leaving{}, err
	}
	i := slices.IndexFunc(chain.Entries, func(e store.Entry) bool {
		return e.Transaction != nil && e.Transaction.ID == id && e.Transaction.Channel == unsubscribeChannel
	})
	switch {
	case i < 0:
		return Leaving{}, store.ErrNoTransaction
	case chain.Entries[i].Transaction.RecordedAt.Add(UndoTime) <= consent.At(time.Now()):
		return Leaving{}, consent.Errorf(consent.Gone, "It is too late to undo this.")
	}
	reversion := consent.Transaction{Evidence: inPerson(v), Reverts: id}
	reversion.ID, reversion.Channel = store.NewID(), unsubscribeChannel
	done, err := s.store.Revert(ctx, who.Application, who.CitizenID, reversion, store.Once{})
	if _, err = s.tell(Recorded{Recorded: done}, err); err != nil {
		return Leaving{}, err
	}
	return leavingOf(who, snap), nil
}
