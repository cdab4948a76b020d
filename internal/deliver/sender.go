package deliver

import (
	"context"
	"math"
	"sync"
	"time"

	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/internal/store"
)

// prefetch is how many batches of due lanes a sender reads ahead, so that a busy one need
// not ask the database for each. Of the failures store it keeps no more than leave at once:
// a citizen whose turn there is far off must not wait with a new change.
const prefetch = 8

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

// sender delivers to one endpoint.
type sender struct {
	e      *Engine
	number int64
	quit   chan struct{}
	freed  chan struct{} // a slot became free, or a shard was gained

	mu   sync.Mutex
	sub  store.Registered
	gate gate

	queues    [4]queue  // by store.Waiting
	looked    time.Time // when it looked for everything last
	turn      int       // where there are few slots: whose turn it is
	claimed   int       // lanes in the queues, under way or not settled; guarded by mu
	underway  int       // in all queues; guarded by mu
	unsettled int       // answered, and not settled; guarded by mu
	workers   sync.WaitGroup
}

// queue is the lanes of one kind that are due, and how many are under way.
type queue struct {
	kind     store.Waiting
	ready    []store.Lane // claimed
	messages []message    // of lanes claimed before those
	read     time.Time    // when the messages were read
	batch    int          // how many to read next time: as many as leave while they are fresh
	underway int          // guarded by sender.mu
	look     bool         // there may be something due that was not read; guarded by sender.mu
	next     time.Time    // when there will be; zero: when woken
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
	s := &sender{e: e, number: sub.Number, quit: make(chan struct{}), freed: make(chan struct{}, 1)}
	s.gate.most = e.o.Concurrency
	for kind := range s.queues {
		s.queues[kind] = queue{kind: store.Waiting(kind), look: true}
	}
	s.use(sub)
	return s
}

// use makes the next message leave by these settings.
func (s *sender) use(sub store.Registered) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if sub.Endpoint.ReleasedAt != s.gate.released {
		s.queues[store.WaitingStored].look, s.queues[store.WaitingBacklog].look = true, true
	}
	s.sub = sub
	s.gate.use(sub)
}

func (s *sender) settings() store.Registered {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sub
}

func (s *sender) stop() { close(s.quit) }

// wake makes the sender look for what is due.
func (s *sender) wake(kinds ...store.Waiting) {
	s.mu.Lock()
	for _, kind := range kinds {
		s.queues[kind].look = true
	}
	s.mu.Unlock()
	select {
	case s.freed <- struct{}{}:
	default:
	}
}

// wakeAll makes the sender look for whatever is due.
func (s *sender) wakeAll() {
	s.wake(store.WaitingPeople, store.WaitingBulk, store.WaitingStored, store.WaitingBacklog)
}

// run sends what is due until ctx ends or stop is called, and returns when
// nothing is under way any more.
func (s *sender) run(ctx context.Context) {
	people, silence := s.e.store.LanesChanged(store.WaitingPeople)
	defer silence()
	bulk, silence := s.e.store.LanesChanged(store.WaitingBulk)
	defer silence()
	stored, silence := s.e.store.LanesChanged(store.WaitingStored)
	defer silence()
	defer s.workers.Wait()
	defer func() {
		for kind := range s.queues {
			q := &s.queues[kind]
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
		again := s.pass(ctx)
		timer.Reset(again)
		select {
		case <-ctx.Done():
			return
		case <-s.quit:
			return
		case <-people:
			s.wake(store.WaitingPeople)
		case <-bulk:
			s.wake(store.WaitingBulk)
		case <-stored:
			s.wake(store.WaitingStored)
		case <-s.freed:
		case <-timer.C: // pass looks
		}
	}
}

// lookAnyway is how long to wait at most before looking for what a bell that was
// lost would have told.
const lookAnyway = 30 * time.Second

// share is up to how many messages of a queue may be under way, and how many slots they
// leave to others.
type share struct {
	kind        store.Waiting
	most, spare int
}

// shares divides the slots. What somebody waits for comes first and always finds a slot
// that the others leave to it; of these each kind has a share that it can count on, so
// that none starves another. Where there are few slots they take turns.
func (s *sender) shares(slots int) []share {
	if slots < 4 {
		s.turn = (s.turn + 1) % len(s.queues)
		list := make([]share, len(s.queues))
		for i := range list {
			list[i] = share{store.Waiting((i + s.turn) % len(list)), slots, 0}
		}
		return list
	}
	return []share{
		{store.WaitingStored, slots / 4, 0},
		{store.WaitingBacklog, slots / 4, 0},
		{store.WaitingBulk, 1, 0},
		{store.WaitingPeople, slots, 0},
		{store.WaitingBacklog, slots, 1},
		{store.WaitingBulk, slots, 1},
		{store.WaitingStored, slots, 1},
	}
}

// pass puts due lanes into the free slots and gives for how long there is nothing more to
// do, unless the sender is woken.
func (s *sender) pass(ctx context.Context) time.Duration {
	if !s.e.upToDate() {
		return lookAnyway // reconcile wakes the sender
	}
	held := s.e.held()
	if !holds(held) {
		return leaseMargin
	}
	now := time.Now()
	s.mu.Lock()
	anyway := now.Sub(s.looked) >= lookAnyway
	if anyway {
		s.looked = now
	}
	slots, probe, again := s.gate.limit(consent.At(now))
	for kind := range s.queues {
		if q := &s.queues[kind]; anyway || !q.next.IsZero() && !q.next.After(now) {
			q.look, q.next = true, time.Time{}
		}
	}
	s.mu.Unlock()
	switch {
	case again != 0:
		return max(0, min(lookAnyway, again.Time().Sub(now)))
	case probe:
		s.probe(ctx, held)
	default:
		for _, v := range s.shares(slots) {
			s.fill(ctx, held, &s.queues[v.kind], v.most, slots-v.spare)
		}
	}
	wait := time.Until(s.looked.Add(lookAnyway))
	for kind := range s.queues {
		if q := &s.queues[kind]; !q.next.IsZero() {
			wait = min(wait, time.Until(q.next))
		}
	}
	return max(0, wait)
}

// fill sends what is due in a queue while fewer than most of it and than all of everything
// are under way.
func (s *sender) fill(ctx context.Context, held store.Hold, q *queue, most, all int) {
	s.mu.Lock()
	free := min(most-q.underway, all-s.underway, maxUnsettled-s.unsettled)
	s.mu.Unlock()
	if free <= 0 {
		return // a slot that becomes free wakes the sender
	}
	if len(q.messages) > 0 && time.Since(q.read) > fresh {
		q.recompose()
	}
	if len(q.ready) == 0 && len(q.messages) == 0 {
		s.claim(ctx, q, held, free, false)
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
		s.start(ctx, q, m, epoch, false)
	}
}

// start sends a message beside others.
func (s *sender) start(ctx context.Context, q *queue, m message, epoch int64, probe bool) {
	s.mu.Lock()
	q.underway++
	s.underway++
	s.mu.Unlock()
	s.workers.Go(func() {
		s.send(ctx, q, m, epoch, probe)
		s.mu.Lock()
		s.unsettled--
		s.mu.Unlock()
		s.done(m.lane)
		s.wake(store.WaitingPeople, q.kind) // its lane may have something new
	})
}

// probe sends one message to an endpoint that is down, if no other node does. One of the
// failures store will do before its hour, where there is nothing fresh.
func (s *sender) probe(ctx context.Context, held store.Hold) {
	s.mu.Lock()
	busy := s.underway > 0 // what is still under way tells as much
	timeout := s.e.timeout(s.sub)
	s.mu.Unlock()
	if busy {
		return
	}
	for _, kind := range []store.Waiting{store.WaitingPeople, store.WaitingBacklog, store.WaitingBulk, store.WaitingStored} {
		q := &s.queues[kind]
		if len(q.messages) > 0 {
			q.recompose()
		}
		if len(q.ready) == 0 {
			s.claim(ctx, q, held, 1, true)
		}
		m, ok := s.take(ctx, q)
		if !ok {
			continue
		}
		now := consent.At(time.Now())
		until := now.Add(timeout + longestProbe)
		mine, err := s.e.store.ClaimProbe(ctx, s.number, now, until)
		epoch, leaves := s.e.mayLeave(m.lane.Shard)
		if err != nil || !mine || !leaves {
			s.done(m.lane)
			s.mu.Lock()
			q.look = true
			s.gate.probeAt = now.Add(firstProbe) // unless a change of it is heard of before
			s.mu.Unlock()
			return
		}
		s.mu.Lock()
		s.gate.probeAt = until
		s.mu.Unlock()
		s.start(ctx, q, m, epoch, true)
		return
	}
}

// claim reads which lanes are due where there may be some, beside those that are claimed:
// their rows are still there. For a probe whatever is in the failures store is due.
func (s *sender) claim(ctx context.Context, q *queue, held store.Hold, free int, probe bool) {
	s.mu.Lock()
	look, past, sub, released := q.look, s.claimed, s.sub, s.gate.released
	q.look = false
	s.mu.Unlock()
	if probe && q.kind == store.WaitingStored {
		look, released = true, ever
	}
	if !look {
		return
	}
	ahead := prefetch * max(1, q.batch)
	if q.kind == store.WaitingStored {
		ahead = max(free, q.batch)
	}
	if sub.RetryPolicy == consent.Hourly {
		released = 0
	}
	var full bool
	lanes, err := s.e.claim(func() ([]store.Lane, error) {
		query := store.LaneQuery{
			Subscription: s.number, Held: held, Kind: q.kind, Strict: sub.StrictOrder, Now: consent.At(time.Now()), Released: released, Limit: past + ahead,
		}
		due, next, err := s.e.store.Lanes(ctx, query)
		q.next = time.Time{}
		if next != 0 {
			q.next = next.Time()
		}
		full = len(due) == query.Limit
		return due, err
	})
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil && ctx.Err() == nil {
		s.e.log.Warn("due messages cannot be read; trying again", "subscription", sub.ID, "error", err)
		q.next = time.Now().Add(time.Second)
	}
	q.ready = lanes
	q.look = q.look || full || len(lanes) > 0  // read on once these are gone
	if full && q.kind == store.WaitingPeople { // some may have to wait for long
		s.queues[store.WaitingBacklog].look = true
	}
	s.claimed += len(lanes)
}

// ever is later than any failure.
const ever = consent.Instant(math.MaxInt64)

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
	s.underway--
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
