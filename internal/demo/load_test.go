package demo_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencpm/opencpm/client"
	"github.com/opencpm/opencpm/internal/demo"
)

func silent(int, int) {}

// complete fails the test unless everyone is there, with the whole history once.
func (a *api) complete() {
	a.t.Helper()
	if len(a.citizens) != len(demo.Citizens()) {
		a.t.Errorf("%d citizens, want %d", len(a.citizens), len(demo.Citizens()))
	}
	for _, c := range demo.Citizens() {
		got := a.citizens[c.ExternalRef]
		if got == nil || got.Details != c.Details {
			a.t.Errorf("%s was not loaded whole", c.ExternalRef)
			continue
		}
		var ours []client.Transaction
		for _, t := range got.transactions {
			if t.ExternalRef != "" {
				ours = append(ours, t)
			}
		}
		if len(ours) != len(c.History) {
			a.t.Errorf("%s has %d transactions, want %d", c.ExternalRef, len(ours), len(c.History))
			continue
		}
		for i, t := range ours {
			want := time.Duration(c.History[i].DaysAgo * 24 * float64(time.Hour))
			if age := time.Since(t.ObtainedAt); age < want-time.Hour || age > want+time.Hour {
				a.t.Errorf("%s: transaction %d is %v old, want %v", c.ExternalRef, i, age, want)
			}
			if len(t.Changes) != len(c.History[i].Changes) || t.Channel != c.History[i].Channel {
				a.t.Errorf("%s: transaction %d is not that of the file", c.ExternalRef, i)
			}
		}
	}
}

func TestLoad(t *testing.T) {
	a := newAPI(t)
	last := 0
	err := demo.Load(t.Context(), a.client(), "northwind", func(done, total int) {
		if done != last+1 || total != len(demo.Citizens()) {
			t.Errorf("told of %d of %d after %d", done, total, last)
		}
		last = done
	})
	if err != nil {
		t.Fatal(err)
	}
	if last != len(demo.Citizens()) {
		t.Errorf("told of %d in the end", last)
	}
	a.complete()

	a.writes = 0
	if err := demo.Load(t.Context(), a.client(), "northwind", silent); err != nil {
		t.Fatal(err)
	}
	if a.writes != 0 {
		t.Errorf("a second run wrote %d times", a.writes)
	}
}

func TestLoadGoesOnWhereItWasStopped(t *testing.T) {
	a := newAPI(t)
	for _, after := range []int{1, 57, 1000, 3333} {
		ctx, stop := context.WithCancel(t.Context())
		a.refuse = func() int {
			if after--; after == 0 {
				stop()
			}
			return 0
		}
		if err := demo.Load(ctx, a.client(), "northwind", silent); !errors.Is(err, context.Canceled) {
			t.Errorf("stopped with %v", err)
		}
		stop()
	}
	a.refuse = func() int { return 0 }
	if err := demo.Load(t.Context(), a.client(), "northwind", silent); err != nil {
		t.Fatal(err)
	}
	a.complete()
}

func TestLoadSaysWhatFailed(t *testing.T) {
	a := newAPI(t)
	n := 0
	a.refuse = func() int {
		if n++; n > 100 {
			return 507
		}
		return 0
	}
	err := demo.Load(t.Context(), a.client(), "northwind", silent)
	var p *client.Problem
	if !errors.As(err, &p) || p.Status != 507 || !strings.Contains(err.Error(), "NW-1") {
		t.Errorf("error %v", err)
	}
}

func TestStream(t *testing.T) {
	a := newAPI(t)
	if err := demo.Load(t.Context(), a.client(), "northwind", silent); err != nil {
		t.Fatal(err)
	}
	var recorded []client.Transaction
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
		defer cancel()
		before := map[string]int{}
		for ref, c := range a.citizens {
			before[ref] = len(c.transactions)
		}
		start := time.Now()
		demo.Stream(ctx, a.client(), "northwind", slog.New(slog.DiscardHandler))
		if took := time.Since(start); took != 10*time.Minute {
			t.Errorf("stopped after %v", took)
		}
		for ref, c := range a.citizens {
			for _, made := range c.transactions[before[ref]:] {
				if made.ExternalRef != "" {
					recorded = append(recorded, made)
				}
			}
		}
	})
	if n := len(recorded); n < 1000 || n > 1400 {
		t.Errorf("%d changes in 10 minutes, want about 1200", n)
	}
	states, channels, people := map[string]int{}, map[string]int{}, map[string]int{}
	for _, r := range recorded {
		channels[r.Channel]++
		people[r.ExternalRef]++
		for _, c := range r.Changes {
			states[c.State]++
		}
	}
	if people[demo.Citizens()[0].ExternalRef] > 0 {
		t.Error("the citizen of the curl lines was not left in peace")
	}
	if len(channels) < 6 || states["GRANTED"] < 100 || states["DENIED"] < 100 || states["CLAIMED"] < 100 || states["OBJECTED"] < 5 {
		t.Errorf("too uniform: %v, %v", states, channels)
	}
	twice := 0
	for _, n := range people {
		if n > 1 {
			twice++
		}
	}
	if twice < 100 {
		t.Errorf("%d people of %d came back", twice, len(people))
	}
}

func TestStreamOutlastsTheServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAPI(t)
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
		defer cancel()
		up := time.Now().Add(time.Minute)
		a.refuse = func() int {
			if time.Now().Before(up) {
				return 500
			}
			return 0
		}
		var log strings.Builder
		demo.Stream(ctx, a.client(), "northwind", slog.New(slog.NewTextHandler(io.Writer(&log), nil)))
		if n := strings.Count(log.String(), "\n"); n < 8 || n > 13 {
			t.Errorf("%d complaints in a minute, want one each 5 s:\n%s", n, log.String())
		}
		if a.writes < 300 {
			t.Errorf("%d changes in the four minutes after", a.writes)
		}
	})
}
