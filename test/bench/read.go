package main

import (
	"context"
	"errors"
	"time"
)

// read measures how many effective states a second are read, of one citizen each.
func (b *bench) read(ctx context.Context, s *store) error {
	return s.during(ctx, recording, func(v *server) error {
		answer, err := s.sample(ctx, v, s.anyState)
		if err != nil {
			return err
		}
		memory, err := b.startYardstick("answer", answer, "%s")
		if err != nil {
			return err
		}
		figures, err := b.interleave(
			func() (float64, error) {
				return b.profiled(ctx, v, s.kind+"-read", func() (float64, error) { return s.readFor(ctx, v.address, b.plan.round) })
			},
			func() (float64, error) { return s.readFor(ctx, memory.ready, b.plan.round) },
		)
		if err := errors.Join(err, memory.stop()); err != nil {
			return err
		}
		trip := row{Trip: "read one citizen, 8 options", Unit: perSecond, Judged: ratio, Yardstick: "bare server, from memory", Goal: 0.60}
		b.add(s, trip.against(figures[0], figures[1]))
		return nil
	})
}

// readFor reads states for a while, from the product or from what takes its place, and gives their rate.
func (s *store) readFor(ctx context.Context, address string, d time.Duration) (float64, error) {
	return callFor(ctx, address, clients, d, s.anyState)
}

// anyState is the next read of a client: of any citizen.
func (s *store) anyState(client int, w *writer) []byte {
	return w.get("/v1/permissions?applicationId="+application+"&externalRef="+refPrefix, s.anyOf(client), s.headers())
}
