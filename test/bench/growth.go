package main

import (
	"context"
	"fmt"
	"time"
)

// growth measures the first two trips on a store that has grown, against one that has not.
func (b *bench) growth(ctx context.Context, small, large *store) error {
	return small.during(ctx, recording, func(before *server) error {
		return large.during(ctx, recording, func(after *server) error {
			if err := small.subscribe(ctx, before); err != nil {
				return err
			}
			if err := large.subscribe(ctx, after); err != nil {
				return err
			}
			for _, trip := range []struct {
				name string
				of   func(s *store, ctx context.Context, address string, d time.Duration) (float64, error)
			}{{"record", (*store).recordFor}, {"read", (*store).readFor}} {
				figures, err := b.interleave(
					func() (float64, error) { return trip.of(large, ctx, after.address, b.plan.round) },
					func() (float64, error) { return trip.of(small, ctx, before.address, b.plan.round) },
				)
				if err != nil {
					return err
				}
				r := row{Trip: "growth: " + trip.name, Unit: perSecond, Judged: ratio, Goal: 0.80}
				r.Yardstick = fmt.Sprintf("itself with %s citizens", grouped(small.citizens))
				b.add(large, r.against(figures[0], figures[1]))
			}
			return nil
		})
	})
}
