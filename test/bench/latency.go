package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"
)

// latency measures how long a change takes until its message has arrived: on a system that does nothing else, and at a
// steady rate.
func (b *bench) latency(ctx context.Context, s *store) error {
	return s.during(ctx, complete, func(v *server) error {
		if err := s.subscribe(ctx, v); err != nil {
			return err
		}
		return errors.Join(b.idleLatency(ctx, s, v), b.steadyLatency(ctx, s, v))
	})
}

// calm is how long the system is left alone before each sample of an idle one.
const calm = 5 * time.Millisecond

// idleLatency sends changes one after another. Between two of them it takes a sample of the yardstick.
func (b *bench) idleLatency(ctx context.Context, s *store, v *server) error {
	bare, err := b.newFloor(ctx)
	if err != nil {
		return err
	}
	defer bare.close()
	c, err := dial(ctx, v.address)
	if err != nil {
		return err
	}
	defer c.close()
	seen := newFollow()
	b.receiver.use(seen.note)
	var w writer
	var floor []float64
	for i := range b.plan.changes {
		time.Sleep(calm)
		citizen, number := 1+i%s.citizens, b.changes.Add(1)
		request := s.change(&w, citizen, number)
		seen.begin(citizen, number, time.Now())
		if _, err := c.call(request); err != nil {
			return err
		}
		if _, err := seen.await(ctx); err != nil {
			return err
		}
		time.Sleep(calm)
		took, err := bare.once()
		if err != nil {
			return err
		}
		floor = append(floor, inMilliseconds(took))
	}
	trip := row{Trip: "change to webhook, idle, p50", Unit: milliseconds, Judged: difference, Yardstick: "fsync and bare POST"}
	b.add(s, trip.against(at(0.5, seen.took), at(0.5, floor)))
	trip.Trip, trip.Goal = "change to webhook, idle, p99", 5
	b.add(s, trip.against(at(0.99, seen.took), at(0.99, floor)))
	return nil
}

// at is the quantile of a list as the one round that it is.
func at(q float64, list []float64) []float64 { return []float64{quantile(list, q)} }

func inMilliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// steadyRate is how many changes a second the open loop sends, whatever becomes of them.
const steadyRate = 200

// steadyLatency sends changes at a fixed rate. One that cannot be sent in time counts from when it was due.
func (b *bench) steadyLatency(ctx context.Context, s *store, v *server) error {
	seen := newFollow()
	b.receiver.use(seen.note)
	began := time.Now()
	var sent atomic.Int64
	_, _, err := callAll(ctx, v.address, clients, func(_ int, w *writer) []byte {
		n := sent.Add(1)
		due := began.Add(time.Duration(n) * time.Second / steadyRate)
		if due.Sub(began) > b.plan.steady {
			return nil
		}
		if early := time.Until(due); early > 0 {
			time.Sleep(early)
			due = time.Now() // the clock that wakes us is a millisecond late at times
		}
		citizen, number := 1+int(n)%s.citizens, b.changes.Add(1)
		seen.begin(citizen, number, due)
		return s.change(w, citizen, number)
	})
	if err != nil {
		return err
	}
	if _, err := seen.await(ctx); err != nil {
		return err
	}
	trip := row{Trip: "change to webhook, 200 changes/s, p50", Unit: milliseconds, Goal: 5}
	b.add(s, trip.alone(at(0.5, seen.took)...))
	trip.Trip, trip.Goal = "change to webhook, 200 changes/s, p99", 20
	b.add(s, trip.alone(at(0.99, seen.took)...))
	return nil
}

// floor is the least that a message costs which must not get lost: an append that is made safe, and a POST.
type floor struct {
	log  *os.File
	post *caller
	w    writer
}

func (b *bench) newFloor(ctx context.Context) (*floor, error) {
	f := &floor{w: writer{body: []byte(strings.Repeat("x", 512))}}
	var err error
	if f.log, err = os.Create(filepath.Join(b.dir, "floor.log")); err != nil {
		return nil, err
	}
	if f.post, err = dial(ctx, b.receiver.listener.Addr().String()); err != nil {
		return nil, errors.Join(err, f.log.Close())
	}
	return f, nil
}

func (f *floor) close() {
	_ = f.log.Close()
	f.post.close()
}

// fsync appends and makes it safe.
func (f *floor) fsync() (time.Duration, error) {
	began := time.Now()
	_, err := f.log.Write(f.w.body)
	err = errors.Join(err, f.log.Sync())
	return time.Since(began), err
}

// once does all of it.
func (f *floor) once() (time.Duration, error) {
	took, err := f.fsync()
	if err != nil {
		return 0, err
	}
	request := f.w.post("/hook", "")
	began := time.Now()
	_, err = f.post.call(request)
	return took + time.Since(began), err
}
