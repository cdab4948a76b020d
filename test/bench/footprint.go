package main

import (
	"context"
	"time"
)

// start measures how long the server takes from its start until it is ready.
func (b *bench) start(ctx context.Context, s *store) error {
	var took []float64
	for range b.plan.starts {
		err := s.during(ctx, complete, func(v *server) error {
			took = append(took, inMilliseconds(v.took))
			return nil
		})
		if err != nil {
			return err
		}
	}
	b.add(s, row{Trip: "start until ready", Unit: milliseconds, Goal: 300}.alone(took...))
	return nil
}

// memory measures what a server occupies that has nothing to do, and one for which every citizen waits to be delivered.
func (b *bench) memory(ctx context.Context, s *store) error {
	if err := s.during(ctx, complete, func(v *server) error { return s.subscribe(ctx, v) }); err != nil {
		return err
	}
	err := s.during(ctx, complete, func(v *server) error {
		return b.memoryOf(ctx, s, v, "VmRSS", row{Trip: "memory, idle", Goal: 64})
	})
	if err != nil {
		return err
	}
	if err := s.during(ctx, recording, func(v *server) error { return s.changeEach(ctx, v, s.citizens) }); err != nil {
		return err
	}
	// Nothing gets through meanwhile: the endpoint takes messages and does not answer.
	hold := make(chan struct{})
	b.receiver.use(func([]byte, time.Time) { <-hold })
	return s.during(ctx, complete, func(v *server) error {
		defer close(hold)
		return b.memoryOf(ctx, s, v, "VmHWM", row{Trip: "memory at most, all citizens waiting", Goal: 256})
	})
}

// memoryOf looks at a line of the process's status once the server has been left alone for a while.
func (b *bench) memoryOf(ctx context.Context, s *store, v *server, line string, trip row) error {
	select {
	case <-time.After(b.plan.idle):
	case <-ctx.Done():
		return ctx.Err()
	}
	figure, err := v.memory(line)
	trip.Unit = mebibytes
	b.add(s, trip.alone(figure))
	return err
}
