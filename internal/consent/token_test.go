package consent_test

import (
	"testing"
	"time"

	"github.com/opencpm/opencpm/internal/consent"
)

func TestTokenExpiry(t *testing.T) {
	now := consent.At(time.Date(2026, 11, 30, 9, 30, 0, 123_456_000, time.UTC))
	day := 24 * time.Hour
	at := func(month time.Month, date int) consent.Instant {
		return consent.At(time.Date(2027, month, date, 9, 30, 0, 123_000_000, time.UTC))
	}
	soon := now.Add(10*time.Second) - 456
	for name, c := range map[string]struct {
		asked, want consent.Instant // zero: refused
	}{
		"not asked":               {0, soon},
		"just enough":             {soon + 456, soon},
		"a little less":           {now.Add(9 * time.Second), soon},
		"by a slow clock":         {now.Add(-50 * time.Second), soon},
		"in the past":             {now.Add(-51 * time.Second), 0},
		"long ago":                {1, 0},
		"an hour":                 {now.Add(time.Hour), now.Add(time.Hour) - 456},
		"three months":            {at(time.March, 2), at(time.March, 2)}, // February has no 30th
		"by a fast clock":         {at(time.March, 2).Add(time.Minute), at(time.March, 2)},
		"more than three months":  {at(time.March, 2).Add(time.Minute + time.Millisecond), 0},
		"much more":               {now.Add(365 * day), 0},
		"the end of all instants": {1<<63 - 1, 0},
	} {
		var faults consent.Faults
		got := consent.TokenExpiry(c.asked, now, &faults)
		switch {
		case c.want == 0 && (len(faults) != 1 || faults[0].Location != "expiryDate"):
			t.Errorf("%s: %v is accepted", name, got)
		case c.want != 0 && (faults != nil || got != c.want):
			t.Errorf("%s: %v %v, want %v", name, got, faults, c.want)
		}
	}
	if got := (consent.SubscriptionOptions{CitizenTokenValidity: "P3M"}).TokenExpiry(now); got != at(time.March, 2) {
		t.Errorf("three months of a subscription end at %v", got)
	}
	if got := (consent.SubscriptionOptions{CitizenTokenValidity: "PT10S"}).TokenExpiry(now); got != soon {
		t.Errorf("ten seconds of a subscription end at %v", got)
	}
}
