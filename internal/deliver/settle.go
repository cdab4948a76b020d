package deliver

import (
	"context"
	"net/http"
	"time"

	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/internal/store"
)

// settling is an outcome on its way to the database.
type settling struct {
	store.Settlement
	done chan struct{}
}

func (e *Engine) settleAndWait(v store.Settlement) {
	done := make(chan struct{})
	e.settle <- settling{v, done}
	<-done
}

// maxSettled is how many outcomes one commit carries at most.
const maxSettled = 512

// runSettler makes outcomes durable in groups until the channel is closed. While
// the database is away outcomes wait; once ctx has ended they are tried once more
// and given up, which costs a repeated message and nothing else.
func (e *Engine) runSettler(ctx context.Context) {
	for first := range e.settle {
		group := []settling{first}
	gather:
		for len(group) < maxSettled {
			select {
			case v, open := <-e.settle:
				if !open {
					break gather
				}
				group = append(group, v)
			default:
				break gather
			}
		}
		outcomes := make([]store.Settlement, len(group))
		for i, v := range group {
			outcomes[i] = v.Settlement
		}
		for pause := 100 * time.Millisecond; ; pause = min(2*pause, 5*time.Second) {
			try, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
			err := e.store.Settle(try, outcomes)
			cancel()
			if err == nil || ctx.Err() != nil {
				break
			}
			e.log.Warn("outcomes of deliveries cannot be recorded; trying again", "outcomes", len(outcomes), "error", err)
			time.Sleep(pause)
		}
		for _, v := range group {
			close(v.done)
		}
	}
}

// count notes what became of an attempt, for the store to be told now and then.
func (e *Engine) count(subscription int64, r result, at consent.Instant) {
	e.mu.Lock()
	defer e.mu.Unlock()
	t := e.tallies[subscription]
	if t == nil {
		t = &store.Tally{Subscription: subscription}
		e.tallies[subscription] = t
	}
	if r.delivered() {
		t.Delivered++
		t.LastSuccessAt, t.FailingSince, t.Gone = at, 0, false
		return
	}
	t.Failed++
	if t.FailingSince == 0 {
		t.FailingSince = at
	}
	t.LastFailureAt, t.LastReason, t.Gone = at, r.reason, r.status == http.StatusGone
}

// report tells the store what was counted.
func (e *Engine) report(ctx context.Context) {
	e.mu.Lock()
	list := make([]store.Tally, 0, len(e.tallies))
	for _, t := range e.tallies {
		list = append(list, *t)
	}
	clear(e.tallies)
	e.mu.Unlock()
	if len(list) == 0 {
		return
	}
	if err := e.store.Count(ctx, list); err != nil && ctx.Err() == nil {
		e.log.Warn("what was counted of the endpoints cannot be recorded", "endpoints", len(list), "error", err)
	}
	select {
	case e.counted <- struct{}{}:
	default: // the notifier has not come to the last one yet
	}
}
