package deliver

import (
	"context"
	"fmt"
	"hash/maphash"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/internal/safehttp"
	"github.com/opencpm/opencpm/internal/store"
)

// send makes one attempt on a message and returns when its outcome is durable. Its slot
// is free as soon as the endpoint has answered.
func (s *sender) send(ctx context.Context, q *queue, m message, epoch int64, probe bool) {
	// What has begun is finished when the process stops; the time-out bounds it.
	ctx, sub, l := context.WithoutCancel(ctx), s.settings(), m.lane
	r := result{class: "erased"}
	if m.ended {
		r.class = "expired"
	}
	sent := m.known && !m.ended
	if sent {
		m, r = s.e.deliver(ctx, sub, m, epoch)
	}
	outcome := store.Settlement{Lane: l, Rendered: m.Sequence, SentAt: consent.Instant(m.SentAt), Epoch: epoch}
	if !m.known {
		// Erased, and the reference forgotten after 30 days, or the receipt unreadable since:
		// nobody to tell about.
		outcome.Rendered = l.Version
	}
	s.answered(q)
	now := consent.At(time.Now())
	outcome.At, outcome.Delivered, outcome.Reason = now, r.delivered(), r.reason
	if !outcome.Delivered {
		outcome.Retry, outcome.ToStore = s.e.schedule(l, now)
		if wait := min(r.retryAfter, longestWait); wait > 0 && sub.RetryPolicy != consent.Hourly {
			outcome.Retry, outcome.ToStore, outcome.Free = now.Add(wait), false, true
			outcome.Reason += fmt.Sprintf(" and asked for a pause of %v", wait.Round(time.Second))
		}
	}
	if sent {
		s.judge(ctx, sub, r, outcome, probe)
	}
	outcome.Log = s.e.entry(sub, m, r, outcome)
	s.e.settleAndWait(outcome)
	if outcome.ToStore {
		s.wake(store.WaitingStored) // which has something to wait for
	}
	a := Attempt{
		Subscription: sub.ID, Citizen: m.CitizenID, Version: m.Sequence, Delivered: outcome.Delivered, Class: r.class, Took: r.took,
		Stored: outcome.ToStore || l.Stored, SinceChange: time.Duration(now-l.ChangedAt) * time.Microsecond,
	}
	s.e.o.Attempted(a)
	if !a.Delivered {
		s.e.log.Info("webhook not delivered", "subscription", sub.ID, "citizen", a.Citizen, "sequence", a.Version,
			"attempt", l.Attempts+1, "reason", outcome.Reason, "next", outcome.Retry.String(), "stored", a.Stored)
	}
}

// judge lets the gate know of an outcome, and the store where every node must.
func (s *sender) judge(ctx context.Context, sub store.Registered, r result, o store.Settlement, probe bool) {
	s.e.count(sub.Number, r, o.At)
	var err error
	s.mu.Lock()
	wasDown, trips := s.gate.down, false
	switch {
	case o.Delivered:
		s.gate.accepted()
	case o.Free:
		s.gate.hush(o.Retry)
	default:
		overloaded := r.class == string(safehttp.Timeout) || r.status == http.StatusTooManyRequests || r.status == http.StatusServiceUnavailable
		trips = s.gate.refused(o.At, overloaded)
	}
	s.mu.Unlock()
	switch {
	case o.Delivered && wasDown:
		var news bool
		if news, err = s.e.store.MarkBack(ctx, sub.Number, o.At); news {
			s.e.log.Info("webhook endpoint is back", "subscription", sub.ID)
		}
	case o.Free:
		err = s.e.store.Hush(ctx, sub.Number, o.Retry)
	case probe && !o.Delivered:
		_, err = s.e.store.ProbeFailed(ctx, sub.Number, o.At, longestProbe)
	case trips:
		var news bool
		if news, err = s.e.store.MarkDown(ctx, sub.Number, o.At, firstProbe); news {
			s.e.log.Warn("webhook endpoint counts as down; it is asked now and then whether it is back", "subscription", sub.ID, "reason", o.Reason)
		}
	}
	if err != nil {
		s.e.log.Warn("the state of a webhook endpoint cannot be recorded", "subscription", sub.ID, "error", err)
	}
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
