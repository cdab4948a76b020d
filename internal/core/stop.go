package core

import (
	"context"
	"time"

	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/internal/store"
)

// Stopping is what a citizen wants to hear no more of: all direct marketing, or one
// purpose, or that by one channel.
type Stopping struct {
	Purpose, Channel string
	Origin
}

// Stop refuses it for the citizen that asks, in one transaction.
func (s *Service) Stop(ctx context.Context, a Actor, v Stopping) (Recorded, error) {
	return s.recordOwn(ctx, a, v.Origin, func(snap *consent.Snapshot, p *consent.Projection, now consent.Instant, _ *consent.Faults) []consent.Change {
		return snap.StopChanges(p, now, v.Purpose, v.Channel)
	})
}

// longestPause is how far away the end of a pause can be.
const longestPause = 366 * 24 * time.Hour

// Pausing is until when a citizen wants to hear nothing.
type Pausing struct {
	Until consent.Instant
	Origin
}

// Pause refuses the direct marketing that is on for the citizen that asks, and gives it
// again from the day on, in one transaction.
func (s *Service) Pause(ctx context.Context, a Actor, v Pausing) (Recorded, error) {
	return s.recordOwn(ctx, a, v.Origin, func(snap *consent.Snapshot, p *consent.Projection, now consent.Instant, faults *consent.Faults) []consent.Change {
		if v.Until <= now || v.Until > now.Add(longestPause) {
			faults.Add("until", "must be a day from tomorrow on, at most a year from now")
		}
		return snap.PauseChanges(p, now, v.Until)
	})
}

// EndPause undoes every pause of the citizen that asks, in one write: what it had silenced
// speaks again, unless they have refused it meanwhile.
func (s *Service) EndPause(ctx context.Context, a Actor, o Origin) (Recorded, error) {
	done, err := s.undoOwn(ctx, a, o, func(_ *consent.Snapshot, _ []store.Entry, state *consent.Projection, at consent.Instant) (undone, error) {
		var v undone
		for _, p := range state.Paused(at) {
			v.transactions = append(v.transactions, p.TransactionID)
		}
		if len(v.transactions) == 0 {
			return v, consent.Errorf(consent.Conflict, "There is no pause.")
		}
		return v, nil
	})
	if err != nil {
		return Recorded{}, err
	}
	return Recorded{Recorded: done.Transactions[len(done.Transactions)-1]}, nil
}

// recordOwn records changes of the citizen that asks, made of what applies to them in the
// commit.
func (s *Service) recordOwn(ctx context.Context, a Actor, o Origin, changes func(*consent.Snapshot, *consent.Projection, consent.Instant, *consent.Faults) []consent.Change) (Recorded, error) {
	snap, err := s.ownApplication(ctx, a)
	if err != nil {
		return Recorded{}, err
	}
	evidence, err := o.ownEvidence(a, snap)
	if err != nil {
		return Recorded{}, err
	}
	record := consent.Transaction{Evidence: evidence}
	record.ID = store.NewID()
	done, changed, err := s.store.RecordDecided(ctx, snap.Application, a.Citizen, record, func(state *consent.Projection, at consent.Instant) ([]consent.Change, error) {
		var faults consent.Faults
		list, _ := snap.Resolve(changes(snap, state, at, &faults), &faults)
		return list, faults.Err()
	})
	if err == nil && !changed {
		err = consent.Errorf(consent.Conflict, "There is nothing to change.")
	}
	return s.tell(Recorded{Recorded: done}, err)
}

// ownEvidence is the evidence of what the citizen that asks does themselves, without an id.
func (o Origin) ownEvidence(a Actor, snap *consent.Snapshot) (consent.Evidence, error) {
	var faults consent.Faults
	e := o.evidence(a, snap, &faults)
	e.ByCitizen, e.Client = true, consent.InPerson
	return e, faults.Err()
}
