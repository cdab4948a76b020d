package core

import (
	"context"
	"encoding/json"
	"slices"
	"time"

	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/internal/store"
)

// subscription reads a subscription of the actor's.
func (s *Service) subscription(ctx context.Context, a Actor, id consent.ID) (store.Registered, error) {
	if err := a.may(consent.WebhooksManage); err != nil {
		return store.Registered{}, err
	}
	return s.store.Subscription(ctx, a.Applications, id)
}

// Watched is a subscription with what an operator watches of it.
type Watched struct {
	store.Registered
	Waits   store.Waits
	Latency store.Latency
}

// WatchSubscription reads one registration, how much waits for it and how long its
// endpoint takes.
func (s *Service) WatchSubscription(ctx context.Context, a Actor, id consent.ID) (Watched, error) {
	var w Watched
	var err error
	if w.Registered, err = s.subscription(ctx, a, id); err != nil {
		return w, err
	}
	if w.Waits, err = s.store.Waits(ctx, w.Number); err != nil {
		return w, err
	}
	w.Latency, err = s.store.Latency(ctx, w.Number)
	return w, err
}

// DeliveriesQuery says which entries of the delivery log of a subscription to list.
type DeliveriesQuery struct {
	Citizen *consent.CitizenKey // nil: of all
	store.AttemptFilter
}

// Deliveries lists entries of the delivery log of a subscription, the newest first, and
// where the list goes on, 0 at its end; a page may be short before that.
func (s *Service) Deliveries(ctx context.Context, a Actor, id consent.ID, q DeliveriesQuery) ([]store.Attempt, int64, error) {
	sub, err := s.subscription(ctx, a, id)
	if err != nil {
		return nil, 0, err
	}
	var faults consent.Faults
	if q.Since != 0 && q.Before != 0 && q.Before <= q.Since {
		faults.Add("query.before", "must be later than since")
	}
	if err := faults.Err(); err != nil {
		return nil, 0, err
	}
	q.Subscription = sub.Number
	if q.Citizen != nil {
		if q.AttemptFilter.Citizen, err = s.store.CitizenNumber(ctx, sub.Application, *q.Citizen); err != nil {
			return nil, 0, err
		}
	}
	return s.store.Attempts(ctx, q.AttemptFilter)
}

// Delivery reads one entry of the delivery log of a subscription, with what was sent and
// answered, and what became of its message.
func (s *Service) Delivery(ctx context.Context, a Actor, id consent.ID, entry int64) (store.Delivery, error) {
	sub, err := s.subscription(ctx, a, id)
	if err != nil {
		return store.Delivery{}, err
	}
	return s.store.Delivery(ctx, sub, entry)
}

// Waiting lists what waits at a subscription, of one citizen or, where that is nil, of
// all, in the order in which it is due.
func (s *Service) Waiting(ctx context.Context, a Actor, id consent.ID, citizen *consent.CitizenKey, after store.WaitingPlace, limit int) ([]store.WaitingMessage, error) {
	sub, err := s.subscription(ctx, a, id)
	if err != nil {
		return nil, err
	}
	var number int64
	if citizen != nil {
		if number, err = s.store.CitizenNumber(ctx, sub.Application, *citizen); err != nil {
			return nil, err
		}
	}
	return s.store.WaitingMessages(ctx, sub.Number, number, after, limit)
}

// TrySubscription sends a message about nobody by the settings of a subscription and says
// what came of it. Nothing of it is kept.
func (s *Service) TrySubscription(ctx context.Context, a Actor, id consent.ID) (store.Trial, error) {
	sub, err := s.subscription(ctx, a, id)
	if err != nil {
		return store.Trial{}, err
	}
	return s.try(ctx, sub), nil
}

// TrySettings is TrySubscription for settings that are not saved yet.
func (s *Service) TrySettings(ctx context.Context, a Actor, r Request, v consent.Subscription) (store.Trial, error) {
	snap, err := s.authoriseFor(ctx, a, consent.WebhooksManage, v.ApplicationID, r.Found)
	if err != nil {
		return store.Trial{}, err
	}
	v.ID, v.Application = store.NewID(), snap.Application
	if err := s.checkSubscription(&v, r.Found); err != nil {
		return store.Trial{}, err
	}
	return s.try(ctx, store.Registered{Subscription: v}), nil
}

// Redelivery says what to deliver again: the message of an entry of the log, or all that
// failed since an instant and was not accepted.
type Redelivery struct {
	Entry int64
	Since consent.Instant
}

// Redeliver makes one message due at once, or begins a job that does so with many.
func (s *Service) Redeliver(ctx context.Context, a Actor, r Request, id consent.ID, v Redelivery) (*store.Job, error) {
	sub, err := s.subscription(ctx, a, id)
	if err != nil {
		return nil, err
	}
	faults := slices.Clone(r.Found)
	if (v.Entry != 0) == (v.Since != 0) && faults == nil {
		faults.Add("deliveryId", "or since must be given, and not both")
	}
	if err := faults.Err(); err != nil {
		return nil, err
	}
	if v.Entry != 0 {
		return nil, s.store.Redeliver(ctx, a.Applications, id, v.Entry, a.ID)
	}
	return s.begin(ctx, a, r, sub, consent.RedeliverJob, store.RecoveryParams{Since: v.Since}, 0)
}

// Resync says whose states to send: of everybody, or of those who changed since an
// instant, and how many a second at most, nil for no limit.
type Resync struct {
	Since     consent.Instant
	PerSecond *int64
}

// Resync begins a job that sends the present states of citizens, after all that people
// wait for.
func (s *Service) Resync(ctx context.Context, a Actor, r Request, id consent.ID, v Resync) (*store.Job, error) {
	sub, err := s.subscription(ctx, a, id)
	if err != nil {
		return nil, err
	}
	faults := slices.Clone(r.Found)
	if sub.UpdateType != consent.EffectivePermission {
		faults.Add("id", "must be a subscription to %s: no other has a state to send", consent.EffectivePermission)
	}
	var rate int64
	if v.PerSecond != nil {
		if rate = *v.PerSecond; rate < 1 || rate > maxJobRate {
			faults.Add("ratePerSecond", "must lie between 1 and %d", maxJobRate)
		}
	}
	if err := faults.Err(); err != nil {
		return nil, err
	}
	return s.begin(ctx, a, r, sub, consent.ResyncJob, store.RecoveryParams{Since: v.Since}, rate)
}

// Discarding says which waiting messages are to end: the one of an entry of the log,
// those of a citizen, or all, and of these only those whose changes were made before an
// instant, where one is given.
type Discarding struct {
	Entry   int64
	Citizen *consent.CitizenKey
	All     bool
	Before  consent.Instant
}

// Discard ends messages that wait and says how many they were, or begins a job that ends
// all of them.
func (s *Service) Discard(ctx context.Context, a Actor, r Request, id consent.ID, v Discarding) (ended int64, job *store.Job, err error) {
	sub, err := s.subscription(ctx, a, id)
	if err != nil {
		return 0, nil, err
	}
	faults := slices.Clone(r.Found)
	given := 0
	for _, is := range []bool{v.Entry != 0, v.Citizen != nil, v.All} {
		if is {
			given++
		}
	}
	if given != 1 && faults == nil {
		faults.Add("deliveryId", "or citizenId or all must be given, and one of them only")
	}
	if err := faults.Err(); err != nil {
		return 0, nil, err
	}
	if !v.All {
		ended, err = s.store.Discard(ctx, a.Applications, id, store.Discard{Entry: v.Entry, Citizen: v.Citizen, Before: v.Before}, a.ID)
		return ended, nil, err
	}
	job, err = s.begin(ctx, a, r, sub, consent.DiscardJob, store.RecoveryParams{Before: v.Before}, 0)
	return 0, job, err
}

// begin begins a job on the messages of a subscription.
func (s *Service) begin(ctx context.Context, a Actor, r Request, sub store.Registered, kind consent.JobKind, p store.RecoveryParams, rate int64) (*store.Job, error) {
	once := r.once(a, string(kind)+" "+sub.ID.String())
	if err := r.Found.Err(); err != nil {
		return nil, err
	}
	p.Subscription, p.At, p.Actor = sub.ID, consent.At(time.Now()), a.ID
	if p.Before == 0 || p.Before > p.At {
		p.Before = p.At
	}
	params, err := json.Marshal(p)
	if err != nil {
		return nil, err
	}
	job, err := s.store.CreateJob(ctx, store.NewJob{Application: sub.Application, Kind: kind, Params: params, PerSecond: rate}, a.ID, once)
	return &job, err
}
