package main

import (
	"context"
	"time"
)

// saturate measures recording and delivering at once, as fast as both will go: how many changes a second have arrived.
// A change has arrived with a message that shows its citizen's state of then or later.
func (b *bench) saturate(ctx context.Context, s *store, bare *yardstick) error {
	return s.during(ctx, complete, func(v *server) error {
		if err := s.subscribe(ctx, v); err != nil {
			return err
		}
		figures, err := b.interleave(
			func() (float64, error) {
				return b.profiled(ctx, v, s.kind+"-saturate", func() (float64, error) { return b.saturateFor(ctx, s, v, b.plan.round) })
			},
			func() (float64, error) { return b.postBare(ctx, bare, b.plan.backlog) },
		)
		if err != nil {
			return err
		}
		trip := row{Trip: "record and deliver at once, 64 clients", Unit: perSecond, Judged: ratio, Yardstick: "bare POSTs", Goal: 0.25}
		b.add(s, trip.against(figures[0], figures[1]))
		return nil
	})
}

func (b *bench) saturateFor(ctx context.Context, s *store, v *server, d time.Duration) (float64, error) {
	seen := newFollow()
	b.receiver.use(seen.note)
	began := time.Now()
	calls, _, err := callAll(ctx, v.address, clients, func(client int, w *writer) []byte {
		now := time.Now()
		if now.Sub(began) >= d {
			return nil
		}
		citizen, number := s.anyOf(client), b.changes.Add(1)
		seen.begin(citizen, number, now)
		return s.change(w, citizen, number)
	})
	if err != nil {
		return 0, err
	}
	last, err := seen.await(ctx)
	return float64(calls) / last.Sub(began).Seconds(), err
}
