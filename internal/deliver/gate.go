package deliver

import (
	"time"

	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/internal/store"
)

// When an endpoint counts as down, and how it is asked whether it is back.
const (
	downAfter    = 20 // failures in a row
	downWithin   = 30 * time.Second
	firstProbe   = 5 * time.Second
	longestProbe = time.Minute
	longestWait  = time.Hour // that an endpoint may ask for by Retry-After
)

// gate says how many messages may be under way to one endpoint. What all nodes must
// know, that it is down or asked for a pause, is in the store; how fast it takes
// messages is this process's own experience. The zero gate, with most set, is open.
type gate struct {
	most   int  // messages under way
	letter bool // the subscription keeps to the letter of the retry policy: always open

	open     int             // of most; 0 means all
	failures int             // in a row
	since    consent.Instant // the first of them

	down     bool            // probes alone may pass
	probeAt  consent.Instant // when the next one may
	wait     consent.Instant // nothing may pass before
	released consent.Instant // what failed before is due
}

// use takes over what the store knows.
func (g *gate) use(sub store.Registered) {
	e := sub.Endpoint
	g.letter = sub.RetryPolicy == consent.Hourly
	if g.down && e.DownSince == 0 { // it is back: gently
		g.open, g.failures = 1, 0
	}
	g.down, g.probeAt, g.released = e.DownSince != 0, e.ProbeAt, e.ReleasedAt
	g.wait = e.WaitUntil
}

// limit gives how many messages may be under way now, and where that is none, when to
// ask again. probe says that a message may leave only as a probe.
func (g *gate) limit(now consent.Instant) (n int, probe bool, again consent.Instant) {
	switch {
	case g.letter:
		return g.most, false, 0
	case g.wait > now:
		return 0, false, g.wait
	case g.down && g.probeAt > now:
		return 0, false, g.probeAt
	case g.down:
		return 1, true, 0
	case g.open == 0:
		return g.most, false, 0
	}
	return min(g.open, g.most), false, 0
}

// accepted notes a success: twice as many may be under way.
func (g *gate) accepted() {
	g.failures = 0
	if g.open *= 2; g.open >= g.most {
		g.open = 0
	}
}

// refused notes a failure, and reports whether the endpoint counts as down by it. An
// endpoint that is overloaded gets half as many at a time.
func (g *gate) refused(now consent.Instant, overloaded bool) (down bool) {
	if overloaded {
		if g.open == 0 {
			g.open = g.most
		}
		g.open = max(1, g.open/2)
	}
	if g.failures++; g.failures == 1 {
		g.since = now
	}
	return !g.letter && !g.down && g.failures >= downAfter && now >= g.since.Add(downWithin)
}

// hush notes that the endpoint asked for a pause. After it messages leave gently.
func (g *gate) hush(until consent.Instant) { g.wait, g.open = max(g.wait, until), 1 }
