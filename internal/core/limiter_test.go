package core

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencpm/opencpm/internal/consent"
)

func TestLimiter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewLimiter(0.5, 3)
		calls := func(caller string, allowed int, wait time.Duration) {
			t.Helper()
			for range allowed {
				if err := l.Take(caller); err != nil {
					t.Fatalf("%s: %v", caller, err)
				}
			}
			for range 2 { // a call that is refused costs nothing
				var refused *consent.Error
				if err := l.Take(caller); !errors.As(err, &refused) || refused.Kind != consent.Throttled || refused.RetryAfter != wait {
					t.Fatalf("%s: %+v", caller, err)
				}
			}
		}
		calls("ada", 3, 2*time.Second)
		calls("bob", 3, 2*time.Second)
		time.Sleep(500 * time.Millisecond)
		calls("ada", 0, 1500*time.Millisecond)
		time.Sleep(1500 * time.Millisecond)
		calls("ada", 1, 2*time.Second)
		time.Sleep(time.Hour)
		calls("ada", 3, 2*time.Second)

		var none *Limiter
		for range 1000 {
			if err := none.Take("ada"); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// A line of IPv6 has more addresses than anybody could count.
func TestLimiterTakesANetworkForOneCaller(t *testing.T) {
	l := NewLimiter(0.001, 2)
	for _, caller := range []string{"2001:db8:1:2::1", "2001:db8:1:3::1", "192.0.2.1", "192.0.2.2", "192.0.2.3", "::ffff:192.0.2.4", "a key", "2001:db8:1:2:a:b:c:d"} {
		if err := l.Take(caller); err != nil {
			t.Errorf("%s: %v", caller, err)
		}
	}
	if err := l.Take("2001:db8:1:2::ffff"); err == nil {
		t.Error("a third address of one network is let in")
	}
}

func TestLimiterForgetsIdleCallers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, busy := NewLimiter(1, 1), NewLimiter(1, 1)
		for i := range maxCallers {
			if err := errors.Join(l.Take(fmt.Sprint(i)), busy.Take(fmt.Sprint(i))); err != nil {
				t.Fatal(err)
			}
		}
		if len(l.known) != maxCallers {
			t.Fatalf("%d callers are remembered", len(l.known))
		}
		if err := busy.Take("one more"); err != nil || len(busy.known) != maxCallers*9/10+1 {
			t.Errorf("of busy callers %d are remembered: %v", len(busy.known), err)
		}
		time.Sleep(500 * time.Millisecond)
		if err := l.Take("0"); err == nil {
			t.Error("one who is known is let in too often")
		}
		time.Sleep(500 * time.Millisecond)
		if err := l.Take("one more"); err != nil || len(l.known) != 1 {
			t.Errorf("of idle callers %d are remembered: %v", len(l.known), err)
		}
	})
}
