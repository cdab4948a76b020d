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
const prefetch = 64

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
	workers       sync.WaitGroup
}

// queue is the lanes of one kind that are due, and how many are under way.
type queue struct {
	stored   bool
	slots    int          // at most; both kinds together have Options.Concurrency
	ready    []store.Lane // claimed
	underway int          // guarded by sender.mu
	next     time.Time    // when to look again; zero: when woken
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
	s.mu.Lock()
	occupied := s.quick.underway + s.stored.underway
	free := min(q.slots-q.underway, s.e.o.Concurrency-occupied)
	s.mu.Unlock()
	if free <= 0 {
		return // a slot that becomes free wakes the sender
	}
	held := s.e.held()
	if !holds(held) {
		q.next = time.Now().Add(leaseMargin)
		return
	}
	if len(q.ready) == 0 {
		now, ahead := consent.At(time.Now()), prefetch
		if q.stored {
			ahead = 0
		}
		// Rows of lanes that are under way are still there: look past them.
		lanes, err := s.e.claim(
			func() ([]store.Lane, error) {
				return s.e.store.Lanes(ctx, s.number, held, q.stored, occupied+free+ahead)
			},
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
	}
	for ; free > 0 && len(q.ready) > 0; free-- {
		lane := q.ready[0]
		q.ready = q.ready[1:]
		s.mu.Lock()
		q.underway++
		s.mu.Unlock()
		s.workers.Go(func() {
			s.send(ctx, lane)
			s.e.free(lane)
			s.mu.Lock()
			q.underway--
			s.mu.Unlock()
			s.wake()
		})
	}
}
