package main

import (
	"context"
	"sync"
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
	hold, seen := make(chan struct{}), newFollow()
	release := sync.OnceFunc(func() { close(hold) })
	defer release()
	b.receiver.use(func(body []byte, _ time.Time) {
		<-hold
		seen.note(body, time.Now())
	})
	return s.during(ctx, complete, func(v *server) error {
		if err := b.memoryOf(ctx, s, v, "VmHWM", row{Trip: "memory at most, all citizens waiting", Goal: 256}); err != nil {
			return err
		}
		release()
		return b.drainAll(ctx, s, v, seen)
	})
}

// drainAll lets everything drain that waits, and measures how long a change takes meanwhile, one after another, and what the
// server occupies.
func (b *bench) drainAll(ctx context.Context, s *store, v *server, seen *follow) error {
	c, err := dial(ctx, v.address)
	if err != nil {
		return err
	}
	defer c.close()
	drained := make(chan error, 1)
	go func() { drained <- s.awaitDelivered(ctx) }()
	var w writer
	for i := 0; ; i++ {
		citizen, number := 1+i*7919%s.citizens, b.changes.Add(1)
		seen.begin(citizen, number, time.Now())
		if _, err := c.call(s.change(&w, citizen, number)); err != nil {
			return err
		}
		if _, err := seen.await(ctx); err != nil {
			return err
		}
		select {
		case err := <-drained:
			if err != nil {
				return err
			}
			b.add(s, row{Trip: "change to webhook while those drain, p99", Unit: milliseconds}.alone(at(0.99, seen.took)...))
			figure, err := v.memory("VmHWM")
			b.add(s, row{Trip: "memory at most, while those drain", Unit: mebibytes, Goal: 256}.alone(figure))
			return err
		case <-time.After(20 * time.Millisecond):
		}
	}
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
