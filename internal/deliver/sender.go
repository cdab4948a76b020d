package deliver

import (
	"context"
	"sync"
	"time"

	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/internal/store"
)

// prefetch is how many due lanes a sender keeps at hand beyond those under way, so
// that a busy one need not ask the database for each. Of the failures store it keeps
// none: a citizen whose turn there is far off must not wait with a new change.
const prefetch = 256

// maxBatch is how many messages are read at once at most, and fresh for how long one
// may wait for a slot before it is read anew: at an endpoint that is quick many are
// read by one query, and at one that is slow none is stale.
const (
	maxBatch = 32
	fresh    = 20 * time.Millisecond
)

// maxUnsettled is how many messages the endpoint may have answered whose outcomes are
// not durable yet. A crash repeats those, besides what is on the wire.
const maxUnsettled = 64

// sender sends the messages of one subscription.
type sender struct {
	e      *Engine
	number int64
	quit   chan struct{}
	freed  chan struct{} // a slot became free, or a shard was gained

	mu  sync.Mutex
	sub store.Registered

	// Messages with quick attempts left and those of the failures store share the
	// slots of the endpoint. The latter come first and may take a quarter, so that
	// neither kind starves the other.
	quick, stored queue
	turn          bool // where there is but one slot: whose turn it is
	claimed       int  // lanes in the queues, under way or not settled; guarded by mu
	unsettled     int  // answered, and not settled; guarded by mu
	workers       sync.WaitGroup
}

// queue is the lanes of one kind that are due, and how many are under way.
type queue struct {
	stored   bool
	slots    int          // at most; both kinds together have Options.Concurrency
	ready    []store.Lane // claimed
	messages []message    // of lanes claimed before those
	read     time.Time    // when the messages were read
	batch    int          // how many to read next time: as many as leave while they are fresh
	underway int          // guarded by sender.mu
	next     time.Time    // when to look again; zero: when woken
}

// recompose gives up messages that have waited, for their lanes to be read anew.
func (q *queue) recompose() {
	q.batch = max(1, q.batch/2)
	lanes := make([]store.Lane, 0, len(q.messages)+len(q.ready))
	for _, m := range q.messages {
		lanes = append(lanes, m.lane)
	}
	q.ready, q.messages = append(lanes, q.ready...), nil
}

func newSender(e *Engine, sub store.Registered) *sender {
	return &sender{
		e: e, number: sub.Number, sub: sub, quit: make(chan struct{}), freed: make(chan struct{}, 1),
		quick:  queue{slots: e.o.Concurrency},
		stored: queue{slots: max(1, e.o.Concurrency/4), stored: true},
	}
}

// use makes the next message leave by these settings.
func (s *sender) use(sub store.Registered) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sub = sub
}

func (s *sender) settings() store.Registered {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sub
}

func (s *sender) stop() { close(s.quit) }

// wake makes the sender look for what is due.
func (s *sender) wake() {
	select {
	case s.freed <- struct{}{}:
	default:
	}
}

// run sends what is due until ctx ends or stop is called, and returns when
// nothing is under way any more.
func (s *sender) run(ctx context.Context) {
	bell, silence := s.e.store.LanesChanged()
	defer silence()
	defer s.workers.Wait()
	defer func() {
		for _, q := range []*queue{&s.quick, &s.stored} {
			q.recompose()
			for _, l := range q.ready {
				s.e.free(l)
			}
		}
	}()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.quit:
			return
		default:
		}
		first, second := &s.stored, &s.quick
		if s.turn = !s.turn; s.turn && s.e.o.Concurrency == 1 {
			first, second = second, first
		}
		s.fill(ctx, first)
		s.fill(ctx, second)
		timer.Reset(s.pause())
		select {
		case <-ctx.Done():
			return
		case <-s.quit:
			return
		case <-bell:
		case <-s.freed:
		case <-timer.C:
		}
	}
}

// lookAnyway is how long to wait at most before looking for what a bell that was
// lost would have told.
const lookAnyway = 30 * time.Second

// pause is how long to sleep unless woken: until the next lane is due, or until it
// is time to look anyway.
func (s *sender) pause() time.Duration {
	d := lookAnyway
	for _, q := range []*queue{&s.quick, &s.stored} {
		if !q.next.IsZero() {
			d = min(d, time.Until(q.next))
		}
	}
	return max(d, 0)
}

// fill puts due lanes into the free slots.
func (s *sender) fill(ctx context.Context, q *queue) {
	q.next = time.Time{}
	if !s.e.upToDate() {
		return // reconcile wakes the sender
	}
	s.mu.Lock()
	free, claimed := min(q.slots-q.underway, s.e.o.Concurrency-s.quick.underway-s.stored.underway, maxUnsettled-s.unsettled), s.claimed
	s.mu.Unlock()
	if free <= 0 {
		return // a slot that becomes free wakes the sender
	}
	held := s.e.held()
	if !holds(held) {
		q.next = time.Now().Add(leaseMargin)
		return
	}
	if len(q.messages) > 0 && time.Since(q.read) > fresh {
		q.recompose()
	}
	if len(q.ready) == 0 && len(q.messages) == 0 {
		s.claim(ctx, q, held, claimed+free)
	}
	for ; free > 0; free-- {
		m, ok := s.take(ctx, q)
		if !ok {
			return
		}
		epoch, ok := s.e.mayLeave(m.lane.Shard)
		if !ok { // the shard is another node's, or will be in a moment
			s.done(m.lane)
			continue
		}
		s.mu.Lock()
		q.underway++
		s.mu.Unlock()
		s.workers.Go(func() {
			s.send(ctx, q, m, epoch)
			s.mu.Lock()
			s.unsettled--
			s.mu.Unlock()
			s.done(m.lane)
			s.wake()
		})
	}
}

// claim reads which lanes are due, past so many that are claimed: their rows are still
// there.
func (s *sender) claim(ctx context.Context, q *queue, held store.Hold, past int) {
	now, ahead := consent.At(time.Now()), prefetch
	if q.stored {
		ahead = 0
	}
	lanes, err := s.e.claim(
		func() ([]store.Lane, error) { return s.e.store.Lanes(ctx, s.number, held, q.stored, past+ahead) },
		func(l store.Lane) bool {
			if l.DueAt <= now {
				return true
			}
			q.next = l.DueAt.Time()
			return false
		})
	if err != nil && ctx.Err() == nil {
		s.e.log.Warn("due messages cannot be read; trying again", "subscription", s.settings().ID, "error", err)
	}
	q.ready = lanes
	s.mu.Lock()
	s.claimed += len(lanes)
	s.mu.Unlock()
}

// take gives the next message of the queue.
func (s *sender) take(ctx context.Context, q *queue) (message, bool) {
	if len(q.messages) == 0 {
		n := min(len(q.ready), max(1, q.batch))
		if n == 0 {
			return message{}, false
		}
		sub := s.settings()
		list, err := s.e.compose(ctx, sub, q.ready[:n])
		if err != nil {
			if ctx.Err() == nil {
				s.e.log.Warn("messages cannot be read for sending; trying again", "subscription", sub.ID, "error", err)
			}
			q.next = time.Now().Add(time.Second)
			return message{}, false
		}
		q.messages, q.ready, q.read = list, q.ready[n:], time.Now()
		q.batch = min(maxBatch, 2*n) // unless some are left over
	}
	m := q.messages[0]
	q.messages = q.messages[1:]
	return m, true
}

// answered frees the slot of a message that the endpoint has answered.
func (s *sender) answered(q *queue) {
	s.mu.Lock()
	q.underway--
	s.unsettled++
	s.mu.Unlock()
	s.wake()
}

// done frees a lane: its next message may leave.
func (s *sender) done(l store.Lane) {
	s.e.free(l)
	s.mu.Lock()
	s.claimed--
	s.mu.Unlock()
}
