// Package deliver is the webhook engine. It keeps the promise of at-least-once
// delivery, in order per citizen and never stale:
//
//   - A lane, one row per subscription and citizen, or one per receipt, is made in the
//     commit of the change. It ends only in the commit that records a 2xx answer.
//   - Of one lane one message is under way at most, and the next leaves only when
//     the outcome of the one before is durable.
//   - The body of a full state is rendered when it is sent, never earlier, and its
//     sentAt is the instant of rendering. That of a receipt is what changed, with the
//     instant of the change: the two are comparable, and the later one is newer.
//
// Nodes share the work by leases on shards of the citizens (see store.Hold); a
// node that cannot renew its leases stops sending before they end.
package deliver

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/internal/safehttp"
	"github.com/opencpm/opencpm/internal/store"
)

// Options are the numbers of the retry schedule and what the engine needs.
type Options struct {
	// Post sends one message; it is safehttp.Client.Post but in tests.
	Post func(context.Context, safehttp.Request) (safehttp.Response, error)
	// QuickAttempts is how many times a message is tried in a row before it goes to
	// the failures store; QuickDelays are the pauses between them, of which the last
	// one repeats, each ± 20 %.
	QuickAttempts int
	QuickDelays   []time.Duration
	// RetryInterval is the pause between attempts of a message in the failures
	// store, lengthened by up to RetrySpread (a fraction) so that a thousand
	// messages that failed together do not come back together.
	RetryInterval time.Duration
	RetrySpread   float64
	Timeout       time.Duration // of one attempt
	Concurrency   int           // messages under way at one endpoint
	Node          string        // names this process among the nodes; made up where empty
	Log           *slog.Logger  // nil means slog.Default
	// MintToken writes the citizen token of a message; nil means that no message has one.
	MintToken func(g store.TokenGrounds, expires consent.Instant) string
	// Attempted, where set, is told of every attempt. It must not block.
	Attempted func(Attempt)
	// TookOver, where set, is told how many shards were taken over from another
	// process.
	TookOver func(shards int)
	// Notify, where set, tells the operator of an endpoint, one at a time. Where that fails
	// it is tried again.
	Notify func(context.Context, store.Notice) error
}

// Attempt is what became of one POST.
type Attempt struct {
	Subscription consent.ID
	Citizen      consent.ID
	Version      int64
	Delivered    bool
	Class        string        // ok, status, token, erased, internal, or the class of a safehttp.Error
	Stored       bool          // moved to, or still in, the failures store
	Took         time.Duration // of the POST
	SinceChange  time.Duration // from the first change it carries to its answer
}

// leaseTTL is how long a node may send after its last sign of life. A dead node's
// shards are taken over within leaseTTL plus one renewal.
const (
	leaseTTL     = 8 * time.Second
	leaseRenewal = 2 * time.Second
	leaseMargin  = time.Second // a node stops this long before its lease ends
)

// Engine delivers the messages of one store.
type Engine struct {
	store *store.Store
	o     Options
	log   *slog.Logger

	mu     sync.Mutex
	hold   store.Hold
	busy   map[laneKey]int64         // lanes with a message under way, or about to be, and their shards
	looks  int                       // reads of due lanes that are going on
	frees  int64                     // how often a lane ceased to be busy
	freed  map[laneKey]int64         // during a read: which one did when, as frees counts
	stamps map[int64]consent.Instant // by citizen: each sentAt that the clock has not passed yet
	last   consent.Instant           // the highest sentAt
	setups int64                     // the store's count when the settings of the senders were read

	tallies map[int64]*store.Tally // by subscription: what the store has not been told yet
	tokens  tokens
	counted chan struct{} // the store was told

	settle  chan settling
	running map[int64]*sender // by number of the subscription; Run's alone
}

// laneKey names a lane, whether it has quick attempts left or is in the failures
// store.
type laneKey struct{ subscription, citizen int64 }

// New makes an engine; Run starts it.
func New(st *store.Store, o Options) *Engine {
	if o.Node == "" {
		o.Node = store.NewID().String()
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.Attempted == nil {
		o.Attempted = func(Attempt) {}
	}
	if o.TookOver == nil {
		o.TookOver = func(int) {}
	}
	if o.Notify == nil {
		o.Notify = func(context.Context, store.Notice) error { return nil }
	}
	return &Engine{
		store: st, o: o, log: o.Log,
		busy: map[laneKey]int64{}, freed: map[laneKey]int64{}, stamps: map[int64]consent.Instant{}, settle: make(chan settling),
		tallies: map[int64]*store.Tally{}, counted: make(chan struct{}, 1),
	}
}

// Run delivers until ctx ends, then lets what is under way finish and gives up
// its leases.
func (e *Engine) Run(ctx context.Context) {
	var senders, settler, notifier sync.WaitGroup
	settler.Go(func() { e.runSettler(ctx) })
	notifier.Go(func() { e.runNotifier(ctx) })
	defer func() {
		notifier.Wait()
		senders.Wait()
		close(e.settle)
		settler.Wait()
		last, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		e.report(last)
		e.release()
	}()

	setup, stop := e.store.SetupChanged()
	defer stop()
	poll := time.NewTicker(lookAnyway)
	defer poll.Stop()
	renew := time.NewTicker(leaseRenewal)
	defer renew.Stop()
	e.running = map[int64]*sender{}
	defer func() {
		for _, s := range e.running {
			s.stop()
		}
	}()
	e.renew(ctx)
	known := false
	for {
		if !known {
			known = e.reconcile(ctx, &senders)
		}
		select {
		case <-ctx.Done():
			return
		case <-setup:
			known = false
		case <-poll.C:
			known = false
		case <-renew.C: // what could not be read is read again now
			e.renew(ctx)
			e.report(ctx)
		}
	}
}

// reconcile starts a sender for every active subscription, hands changed settings
// to those that run and stops the others. Until it is done none of them begins a
// message by what may be settings of before. It reports whether they could be read.
func (e *Engine) reconcile(ctx context.Context, senders *sync.WaitGroup) bool {
	setups := e.store.Setups()
	defer func() {
		e.mu.Lock()
		waited := e.setups != setups
		e.setups = setups
		e.mu.Unlock()
		for _, s := range e.running {
			if waited {
				s.wakeAll()
			}
		}
	}()
	active, err := e.store.ActiveSubscriptions(ctx)
	if err != nil {
		if ctx.Err() == nil {
			e.log.Warn("the subscriptions cannot be read; delivery goes on with those known", "error", err)
		}
		return false
	}
	wanted := map[int64]bool{}
	for _, sub := range active {
		wanted[sub.Number] = true
		if s := e.running[sub.Number]; s != nil {
			s.use(sub)
			continue
		}
		s := newSender(e, sub)
		e.running[sub.Number] = s
		senders.Go(func() { s.run(ctx) })
	}
	for n, s := range e.running {
		if !wanted[n] {
			s.stop()
			delete(e.running, n)
		}
	}
	return true
}

// renew renews the leases, unless they hold for long. Where that fails the node
// goes on until they end.
func (e *Engine) renew(ctx context.Context) {
	if e.held().Until > consent.At(time.Now().Add(2*leaseTTL)) {
		return
	}
	e.shed(ctx)
	h, err := e.store.Hold(ctx, e.o.Node, leaseTTL)
	if err != nil {
		if ctx.Err() == nil {
			e.log.Warn("the delivery leases cannot be renewed", "error", err)
		}
		return
	}
	gained := len(h.Floors)
	e.mu.Lock()
	for shard, floor := range e.hold.Floors {
		if _, mine := h.Epochs[shard]; mine {
			h.Floors[shard] = max(h.Floors[shard], floor)
		}
	}
	e.hold = h
	e.mu.Unlock()
	if gained > 0 {
		e.o.TookOver(gained)
		for _, s := range e.running {
			s.wakeAll()
		}
	}
}

// shed gives up the shards that another node should have, once nothing is under
// way for them; nothing new was begun since they became surplus.
func (e *Engine) shed(ctx context.Context) {
	e.mu.Lock()
	excess, last := e.hold.Excess, e.last
	for _, shard := range e.busy {
		excess = slices.DeleteFunc(slices.Clone(excess), func(s int64) bool { return s == shard })
	}
	e.mu.Unlock()
	if len(excess) == 0 {
		return
	}
	if err := e.store.Release(ctx, e.o.Node, excess, last); err != nil && ctx.Err() == nil {
		e.log.Warn("surplus delivery leases cannot be released", "error", err)
	}
}

func (e *Engine) release() {
	e.mu.Lock()
	var all []int64
	for shard := range e.hold.Epochs {
		all = append(all, shard)
	}
	last := e.last
	e.hold = store.Hold{}
	e.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	if err := e.store.Leave(ctx, e.o.Node, all, last); err != nil {
		e.log.Warn("the delivery leases cannot be released; other nodes wait for their end", "error", err)
	}
}

// held gives the leases as they are now.
func (e *Engine) held() store.Hold {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.hold
}

// upToDate reports whether the senders have the settings that this process knows of.
func (e *Engine) upToDate() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.setups == e.store.Setups()
}

// holds reports whether messages may leave under the leases, which the node stops
// using a while before they end.
func holds(h store.Hold) bool {
	return consent.At(time.Now().Add(h.Ahead+leaseMargin)) < h.Until
}

// claim reads lanes and makes those busy that may be sent: not busy already, and
// not settled while they were read, for what was read of those is out of date.
func (e *Engine) claim(read func() ([]store.Lane, error)) ([]store.Lane, error) {
	e.mu.Lock()
	e.looks++
	began := e.frees
	e.mu.Unlock()
	lanes, err := read()
	e.mu.Lock()
	defer e.mu.Unlock()
	var claimed []store.Lane
	for _, l := range lanes {
		k := laneKey{l.Subscription, l.Citizen}
		if _, taken := e.busy[k]; !taken && e.freed[k] <= began {
			e.busy[k] = l.Shard
			claimed = append(claimed, l)
		}
	}
	if e.looks--; e.looks == 0 {
		clear(e.freed)
	}
	return claimed, err
}

func (e *Engine) free(l store.Lane) {
	e.mu.Lock()
	defer e.mu.Unlock()
	k := laneKey{l.Subscription, l.Citizen}
	delete(e.busy, k)
	if e.frees++; e.looks > 0 {
		e.freed[k] = e.frees
	}
}

// mayLeave gives the epoch of the lease under which a message of a shard leaves. It is
// false where the lease is gone or about to go.
func (e *Engine) mayLeave(shard int64) (epoch int64, ok bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.hold.Epochs[shard], e.hold.Covers(shard) && holds(e.hold)
}

// stampFor gives the sentAt of a message whose state was read at an instant. sentAt rises strictly per citizen, whichever process stamps: within this one
// by the stamps that the clock has not passed yet, across processes by the end of
// the lease before. It is never earlier than the last change in the state. A receipt
// was rendered in the commit of its change, and keeps that stamp whenever it leaves.
func (e *Engine) stampFor(l store.Lane, read, changed consent.Instant) consent.Instant {
	if l.Change != 0 {
		return changed
	}
	const unit = 1000 // sentAt is published in milliseconds
	e.mu.Lock()
	defer e.mu.Unlock()
	now := read.Add(e.hold.Ahead) / unit * unit
	at := max(now, changed, e.hold.Floors[l.Shard]/unit*unit+unit, e.stamps[l.Citizen]+unit)
	if len(e.stamps) > 1<<12 {
		maps.DeleteFunc(e.stamps, func(_ int64, s consent.Instant) bool { return s+unit <= now })
	}
	e.stamps[l.Citizen] = at
	e.last = max(e.last, at)
	return at
}
