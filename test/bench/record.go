package main

import (
	"context"
	"errors"
	"path/filepath"
	"time"
)

// record measures how many changes a second are recorded: each of them checked, chained, folded into the citizen's
// state, with its note to deliver, and safe on the disk before it is answered.
func (b *bench) record(ctx context.Context, s *store) error {
	var answer []byte
	err := s.during(ctx, recording, func(v *server) (err error) {
		if err := s.subscribe(ctx, v); err != nil {
			return err
		}
		if answer, err = s.sample(ctx, v, s.anyChange); err != nil {
			return err
		}
		_, err = s.recordFor(ctx, v.address, b.plan.round) // the bare loop takes its samples of these
		return err
	})
	if err != nil {
		return err
	}
	original, err := s.copy(ctx)
	if err != nil {
		return err
	}
	rows, err := newBareRows(ctx, original)
	if err != nil {
		return err
	}
	file, err := b.startYardstick("append", answer, "%s", filepath.Join(b.dir, "append.log"))
	if err != nil {
		return err
	}
	err = s.during(ctx, recording, func(v *server) error {
		figures, err := b.interleave(
			func() (float64, error) {
				return b.profiled(ctx, v, s.kind+"-record", func() (float64, error) { return s.recordFor(ctx, v.address, b.plan.round) })
			},
			func() (float64, error) { return s.recordFor(ctx, file.ready, b.plan.round) },
			func() (float64, error) { return rows.writeFor(ctx, b.plan.round) },
		)
		if err != nil {
			return err
		}
		trip := row{Trip: "record one change, 64 clients", Unit: perSecond, Judged: ratio}
		trip.Yardstick, trip.Goal = "bare server, group fsync", 0.35
		if s.kind == postgres {
			trip.Goal = 0.30
		}
		b.add(s, trip.against(figures[0], figures[1]))
		trip.Yardstick, trip.Goal = "bare loop of the same rows", 0.70
		b.add(s, trip.against(figures[0], figures[2]))
		return nil
	})
	return errors.Join(err, file.stop(), rows.close(), original.drop(ctx))
}

// recordFor records changes for a while, at the product or at what takes its place, and gives their rate.
func (s *store) recordFor(ctx context.Context, address string, d time.Duration) (float64, error) {
	return callFor(ctx, address, clients, d, s.anyChange)
}

// anyChange is the next change of a client: of any of its citizens.
func (s *store) anyChange(client int, w *writer) []byte {
	return s.change(w, s.anyOf(client), s.b.changes.Add(1))
}

// sample makes one call of the kind that a client makes, and gives the answer.
func (s *store) sample(ctx context.Context, v *server, next work) ([]byte, error) {
	c, err := dial(ctx, v.address)
	if err != nil {
		return nil, err
	}
	defer c.close()
	return c.call(next(0, new(writer)))
}
