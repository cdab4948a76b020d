package core

import (
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/opencpm/opencpm/internal/consent"
)

// What anybody may ask for without being known is answered so many times in a row for
// each network address, and then once in a while.
const (
	visitorBurst = 30
	visitorPause = 2 * time.Second
	maxVisitors  = 10_000
)

// throttle bounds what visitors ask for. It forgets those who have not come for long.
type throttle struct {
	pause time.Duration
	burst int
	mu    sync.Mutex
	known map[string]*rate.Limiter
}

// newThrottle answers burst requests in a row, and then one in each pause.
func newThrottle(pause time.Duration, burst int) *throttle {
	return &throttle{pause: pause, burst: burst, known: map[string]*rate.Limiter{}}
}

// take counts a request of an address, and refuses it where it is one too many.
func (t *throttle) take(address string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	if t.known[address] == nil {
		if len(t.known) >= maxVisitors {
			t.forget(now)
		}
		t.known[address] = rate.NewLimiter(rate.Every(t.pause), t.burst)
	}
	if !t.known[address].AllowN(now, 1) {
		return &consent.Error{Kind: consent.Throttled, Message: "Too many calls; nothing was changed.", RetryAfter: t.pause}
	}
	return nil
}

func (t *throttle) forget(now time.Time) {
	for address, l := range t.known {
		if l.TokensAt(now) >= float64(t.burst) { // as good as new
			delete(t.known, address)
		}
	}
	if len(t.known) >= maxVisitors {
		clear(t.known)
	}
}
