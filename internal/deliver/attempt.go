package deliver

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"math/rand/v2"
	"time"

	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/internal/safehttp"
	"github.com/opencpm/opencpm/internal/store"
)

// send makes one attempt on a message and returns when its outcome is durable. Its slot
// is free as soon as the endpoint has answered.
func (s *sender) send(ctx context.Context, q *queue, m message, epoch int64) {
	// What has begun is finished when the process stops; the time-out bounds it.
	ctx, sub, l := context.WithoutCancel(ctx), s.settings(), m.lane
	outcome := store.Settlement{Lane: l, Rendered: m.Sequence, SentAt: consent.Instant(m.SentAt), Epoch: epoch}
	a := Attempt{Subscription: sub.ID, Citizen: m.CitizenID, Version: m.Sequence}
	if m.known {
		outcome.Reason, a.Class, a.Took = s.post(ctx, sub, m)
	} else {
		// Erased, and the reference forgotten after 30 days, or the receipt unreadable since:
		// nobody to tell about.
		outcome.Rendered, a.Class = l.Version, "erased"
	}
	s.answered(q)
	now := consent.At(time.Now())
	outcome.Delivered = outcome.Reason == ""
	if !outcome.Delivered {
		outcome.Retry, outcome.ToStore = s.e.schedule(l, now)
	}
	a.Delivered, a.Stored, a.SinceChange = outcome.Delivered, outcome.ToStore || l.Stored, time.Duration(now-l.ChangedAt)*time.Microsecond
	s.e.settleAndWait(outcome)
	s.e.o.Attempted(a)
	if !a.Delivered {
		s.e.log.Info("webhook not delivered", "subscription", sub.ID, "citizen", a.Citizen, "sequence", a.Version,
			"attempt", l.Attempts+1, "reason", outcome.Reason, "next", outcome.Retry.String(), "stored", a.Stored)
	}
}

// post sends the message. reason is empty for a 2xx answer and otherwise says in
// one sentence why it was not delivered.
func (s *sender) post(ctx context.Context, sub store.Registered, m message) (reason, class string, took time.Duration) {
	body, err := m.render()
	if err != nil {
		return "the message cannot be rendered", "internal", 0
	}
	address, header, err := authenticate(sub)
	if err != nil {
		return "the URL of the subscription cannot be read", "internal", 0
	}
	header.Set("Webhook-Id", m.EventID.String())
	began := time.Now()
	answer, err := s.e.o.Post(ctx, safehttp.Request{URL: address, Header: header, Body: body, Timeout: s.e.o.Timeout})
	took = time.Since(began)
	var failed *safehttp.Error
	switch {
	case errors.As(err, &failed):
		return failed.Reason, string(failed.Class), took
	case err != nil:
		return "the message could not be sent", "internal", took
	case answer.Status < 200 || answer.Status > 299:
		return fmt.Sprintf("the endpoint answered %d", answer.Status), "status", took
	}
	return "", "ok", took
}

// schedule says when a message that just failed is tried again, and whether that
// was the last of its quick attempts.
func (e *Engine) schedule(l store.Lane, now consent.Instant) (retry consent.Instant, toStore bool) {
	failed := l.Attempts + 1
	if !l.Stored && failed < e.o.QuickAttempts && len(e.o.QuickDelays) > 0 {
		d := e.o.QuickDelays[min(failed, len(e.o.QuickDelays))-1]
		return now.Add(time.Duration(float64(d) * (0.8 + 0.4*rand.Float64()))), false
	}
	// Spread by citizen, never sooner than promised.
	share := float64(maphash.Comparable(spread, l.Citizen)%1024) / 1024
	return now.Add(e.o.RetryInterval + time.Duration(float64(e.o.RetryInterval)*e.o.RetrySpread*share)), true
}

var spread = maphash.MakeSeed()

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
