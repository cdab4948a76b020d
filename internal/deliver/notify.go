package deliver

import (
	"context"
	"time"

	"github.com/opencpm/opencpm/internal/store"
)

// How long telling the operator of one endpoint may take, and how long to wait at most
// after that failed.
const (
	noticeTimeout = 30 * time.Second
	noticePause   = 10 * time.Minute
)

// runNotifier tells the operator of endpoints that fail for long, are gone, or are back,
// one at a time until ctx ends. It is beside everything else, for a mail server can be
// slow.
func (e *Engine) runNotifier(ctx context.Context) {
	for pause := lookAnyway; ; {
		counted := e.counted
		if pause > lookAnyway {
			counted = nil // the mail server has trouble enough
		}
		select {
		case <-ctx.Done():
			return
		case <-counted:
		case <-time.After(pause):
		}
		if e.notify(ctx) {
			pause = lookAnyway
		} else {
			pause = min(2*pause, noticePause)
		}
	}
}

// notify passes on what the operator should be told now, and reports whether all of it
// was. What was not is due again.
func (e *Engine) notify(ctx context.Context) bool {
	notices, err := e.store.Notices(ctx)
	if err != nil && ctx.Err() == nil {
		e.log.Warn("it cannot be read which webhook endpoints fail for long", "error", err)
	}
	all := true
	for _, n := range notices {
		e.log.Warn("webhook endpoint: the operator is told", "subscription", n.ID, "notice", string(n.Kind), "failing_since", n.Endpoint.FailingSince.String(), "reason", n.Endpoint.LastReason)
		try, cancel := context.WithTimeout(ctx, noticeTimeout)
		err := e.o.Notify(try, n)
		cancel()
		if err == nil {
			continue
		}
		all = false
		e.log.Warn("the operator cannot be told of a webhook endpoint; trying again", "subscription", n.ID, "error", err)
		e.renotice(ctx, n)
	}
	return all
}

// renotice makes a notice due again, even while the process stops: the next one passes
// it on.
func (e *Engine) renotice(ctx context.Context, n store.Notice) {
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	if err := e.store.Renotice(last, n); err != nil {
		e.log.Warn("a notice to the operator is lost", "subscription", n.ID, "error", err)
	}
}
