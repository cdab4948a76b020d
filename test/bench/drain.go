package main

import (
	"context"
	"errors"
	"strconv"
)

// connections is how many messages the product has under way to one endpoint, by default.
const connections = 8

// drain measures how fast a filled backlog is delivered, and what that costs all processes together. Then it measures
// recording and delivering at once.
func (b *bench) drain(ctx context.Context, s *store) error {
	body, err := b.sampleMessage(ctx, s)
	if err != nil {
		return err
	}
	bare, err := b.startYardstick("post", body, b.receiver.url, "%s", strconv.Itoa(connections))
	if err != nil {
		return err
	}
	n := min(b.plan.backlog, s.citizens)
	var cost []float64
	figures, err := b.interleave(
		func() (float64, error) {
			rate, each, err := b.drainOnce(ctx, s, n)
			cost = append(cost, each)
			return rate, err
		},
		func() (float64, error) { return b.postBare(ctx, bare, n) },
	)
	if err != nil {
		return errors.Join(err, bare.stop())
	}
	trip := row{Trip: "drain a backlog of " + grouped(n), Unit: perSecond, Judged: ratio, Yardstick: "bare POSTs", Goal: 0.40}
	if s.kind == postgres {
		trip.Goal = 0.35
	}
	b.add(s, trip.against(figures[0], figures[1]))
	b.add(s, row{Trip: "processor time per delivery, whole stack", Unit: milliseconds, Goal: 0.25}.alone(cost[1:]...))
	return errors.Join(b.saturate(ctx, s, bare), bare.stop())
}

// drainOnce fills a backlog of n citizens and gives the rate of the deliveries and the processor time of each in
// milliseconds.
func (b *bench) drainOnce(ctx context.Context, s *store, n int) (rate, each float64, err error) {
	err = s.during(ctx, recording, func(v *server) error {
		if err := s.subscribe(ctx, v); err != nil {
			return err
		}
		return s.changeEach(ctx, v, n)
	})
	if err != nil {
		return 0, 0, err
	}
	arrived := newTally(n)
	b.receiver.use(arrived.note)
	err = s.during(ctx, complete, func(v *server) error {
		taken := b.profile(ctx, v, s.kind+"-drain")
		if err := b.await(ctx, arrived.begun); err != nil {
			return err
		}
		before, err := s.processorTime(ctx, v)
		if err != nil {
			return err
		}
		left := arrived.expected - arrived.count.Load()
		if err := b.await(ctx, arrived.done); err != nil {
			return err
		}
		if err := s.awaitDelivered(ctx); err != nil {
			return err
		}
		after, err := s.processorTime(ctx, v)
		each = inMilliseconds(after-before) / float64(left)
		return errors.Join(err, taken())
	})
	return arrived.rate(), each, err
}

// changeEach records one change of each of n citizens.
func (s *store) changeEach(ctx context.Context, v *server, n int) error {
	return s.once(ctx, v, 1, n, func(w *writer, citizen int) []byte { return s.change(w, citizen, s.b.changes.Add(1)) })
}

// postBare lets the bare loop post n messages and gives their rate.
func (b *bench) postBare(ctx context.Context, bare *yardstick, n int) (float64, error) {
	arrived := newTally(n)
	b.receiver.use(arrived.note)
	if err := bare.order(n); err != nil {
		return 0, err
	}
	err := b.await(ctx, arrived.done)
	return arrived.rate(), err
}

// sampleMessage gives the body of a message.
func (b *bench) sampleMessage(ctx context.Context, s *store) (body []byte, err error) {
	arrived := newTally(2)
	b.receiver.use(arrived.note)
	err = s.during(ctx, complete, func(v *server) error {
		if err := s.subscribe(ctx, v); err != nil {
			return err
		}
		if err := s.changeEach(ctx, v, 2); err != nil {
			return err
		}
		return b.await(ctx, arrived.done)
	})
	return arrived.sample, err
}
