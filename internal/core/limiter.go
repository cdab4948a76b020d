package core

import (
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/opencpm/opencpm/internal/consent"
)

// What anybody may ask for without being known is answered so many times in a row for
// each network address, and then once in a while.
const (
	visitorBurst = 30
	visitorRate  = 0.5 // a second
)

// maxCallers bounds the callers that a limiter remembers.
const maxCallers = 10_000

// Limiter allows each caller a number of calls at once, and then so many a second. It forgets
// those who have not come for long; where they are too many, some of the others. Its methods are safe for concurrent use.
type Limiter struct {
	rate  rate.Limit
	burst int

	mu    sync.Mutex
	known map[string]*rate.Limiter
}

// NewLimiter makes a limiter that knows nobody.
func NewLimiter(perSecond float64, burst int) *Limiter {
	return &Limiter{rate: rate.Limit(perSecond), burst: burst, known: map[string]*rate.Limiter{}}
}

// Take counts a call, and refuses it where it is one too many: it says after how long there
// is another. The nil limiter allows everything.
func (l *Limiter) Take(caller string) error {
	if l == nil {
		return nil
	}
	caller = network(caller)
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if l.known[caller] == nil {
		if len(l.known) >= maxCallers {
			l.forget(now)
		}
		l.known[caller] = rate.NewLimiter(l.rate, l.burst)
	}
	call := l.known[caller].ReserveN(now, 1)
	wait := call.DelayFrom(now)
	if wait == 0 {
		return nil
	}
	call.CancelAt(now)
	return &consent.Error{Kind: consent.Throttled, Message: "Too many calls; nothing was changed.", RetryAfter: wait}
}

func (l *Limiter) forget(now time.Time) {
	for caller, known := range l.known {
		if known.TokensAt(now) >= float64(l.burst) { // as good as new
			delete(l.known, caller)
		}
	}
	if len(l.known) < maxCallers {
		return
	}
	for caller := range l.known { // which comes in no order
		if len(l.known) <= maxCallers*9/10 {
			break
		}
		delete(l.known, caller)
	}
}

// network gives what is one caller: of IPv6, where everybody has more addresses than could be
// counted, the network of 64 bits that a line is given. What is no address stays as it is.
func network(caller string) string {
	a, err := netip.ParseAddr(caller)
	if err != nil || !a.Is6() || a.Is4In6() {
		return caller
	}
	n, _ := a.Prefix(64) // never fails for an IPv6 address
	return n.String()
}
