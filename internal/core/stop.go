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

// EndPause undoes every pause of the citizen that asks: what it had silenced speaks
// again, unless they have refused it meanwhile.
func (s *Service) EndPause(ctx context.Context, a Actor, o Origin) (Recorded, error) {
	person, err := s.Person(ctx, a)
	if err != nil {
		return Recorded{}, err
	}
	if len(person.Pauses) == 0 {
		return Recorded{}, consent.Errorf(consent.Conflict, "There is no pause.")
	}
	var out Recorded
	for _, p := range person.Pauses {
		if out, err = s.revertOwn(ctx, a, o, p.TransactionID); err != nil {
			return Recorded{}, err
		}
	}
	return out, nil
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

// revertOwn undoes a transaction of the citizen that asks.
func (s *Service) revertOwn(ctx context.Context, a Actor, o Origin, id consent.ID) (Recorded, error) {
	snap, err := s.ownApplication(ctx, a)
	if err != nil {
		return Recorded{}, err
	}
	var faults consent.Faults
	reversion := consent.Transaction{Evidence: o.evidence(a, snap, &faults), Reverts: id}
	reversion.ID, reversion.ByCitizen, reversion.Client = store.NewID(), true, consent.InPerson
	if err := faults.Err(); err != nil {
		return Recorded{}, err
	}
	done, err := s.store.Revert(ctx, snap.Application, a.Citizen, reversion, store.Once{})
	return s.tell(Recorded{Recorded: done}, err)
}
