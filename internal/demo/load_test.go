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
	"github.com/opencpm/opencpm/internal/consent"
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
		var ours []consent.Transaction
		for _, t := range got.transactions {
			if t.Channel != "curl" {
				ours = append(ours, t)
			}
		}
		if len(ours) != len(c.History) || len(got.answers) != len(c.Answers) {
			a.t.Errorf("%s has %d transactions and %d answers, want %d and %d", c.ExternalRef, len(ours), len(got.answers), len(c.History), len(c.Answers))
			continue
		}
		for i, t := range ours {
			want := time.Duration(c.History[i].DaysAgo * 24 * float64(time.Hour))
			if age := time.Since(t.ObtainedAt.Time()); age < want-time.Hour || age > want+time.Hour {
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
	entries := 0
	for _, c := range demo.Citizens() {
		entries += len(c.History)
	}
	if most := entries - len(demo.Citizens()) + 80; a.writes > most {
		t.Errorf("%d calls, want at most %d: citizens are created in bulk", a.writes, most)
	}

	stand := func() (n int) {
		for _, c := range a.citizens {
			n += len(c.transactions) + len(c.answers)
		}
		return n
	}
	before := stand()
	if err := demo.Load(t.Context(), a.client(), "northwind", silent); err != nil {
		t.Fatal(err)
	}
	if n := stand() - before; n != 0 {
		t.Errorf("a second run recorded %d times", n)
	}
}

// Somebody may try the API on a customer before they are loaded.
func TestLoadCompletesWhatSomebodyElseCreated(t *testing.T) {
	a := newAPI(t)
	ref := demo.Citizens()[0].ExternalRef
	a.record(client.Transaction{ApplicationID: "northwind", ExternalRef: ref, Origin: client.Origin{Channel: "curl", PermissionStatementRef: "marketing"}, Changes: []client.Change{
		{OptionType: client.Option, OptionID: "newsletter-email", Justification: "consent", State: "GRANTED"},
	}})
	if err := demo.Load(t.Context(), a.client(), "northwind", silent); err != nil {
		t.Fatal(err)
	}
	a.complete()
	if n := len(a.citizens[ref].transactions); n != len(demo.Citizens()[0].History)+1 {
		t.Errorf("%s has %d transactions", ref, n)
	}
}

func TestLoadGoesOnWhereItWasStopped(t *testing.T) {
	a := newAPI(t)
	for _, after := range []int{1, 57, 1000, 2222} {
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
	var recorded []consent.Transaction
	var submitted, late, short, groups, reverted, confirmed int
	states, channels, people := map[consent.State]int{}, map[string]int{}, map[string]int{}
	synctest.Test(t, func(t *testing.T) {
		a := newAPI(t)
		if err := demo.Load(t.Context(), a.client(), "northwind", silent); err != nil {
			t.Fatal(err)
		}
		transactions, answers := map[string]int{}, map[string]int{}
		for ref, c := range a.citizens {
			transactions[ref], answers[ref] = len(c.transactions), len(c.answers)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Minute)
		defer cancel()
		start := time.Now()
		demo.Stream(ctx, a.client(), "northwind", slog.New(slog.DiscardHandler))
		if took := time.Since(start); took != 30*time.Minute {
			t.Errorf("stopped after %v", took)
		}
		for ref, c := range a.citizens {
			made := c.transactions[transactions[ref]:]
			recorded = append(recorded, made...)
			submitted += len(c.answers) - answers[ref]
			people[ref] += len(made) + len(c.answers) - answers[ref]
		}
	})
	for _, r := range recorded {
		channels[r.Channel]++
		switch {
		case !r.Reverts.IsZero():
			reverted++
		case r.RecordedAt.Time().Sub(r.ObtainedAt.Time()) > 24*time.Hour:
			late++
		case r.Channel == "confirmation link":
			confirmed++
		}
		for _, c := range r.Changes {
			states[c.State]++
			if c.OptionType == consent.OptionGroup {
				groups++
			}
			if c.ValidUntil != 0 && c.ValidUntil.Time().Sub(r.RecordedAt.Time()) < time.Minute {
				short++
			}
		}
	}
	if n := len(recorded) + submitted; n < 3000 || n > 4200 {
		t.Errorf("%d changes in 30 minutes, want about 3600", n)
	}
	// Half an hour, since all is drawn at random: the rarest comes about 24 times then.
	for what, n := range map[string]int{"answers to preferences": submitted, "late forms": late, "short validities": short, "answers to groups": groups, "reversions": reverted, "confirmations": confirmed} {
		if n < 3 || n > 600 {
			t.Errorf("%d %s in 30 minutes", n, what)
		}
	}
	if people[demo.Citizens()[0].ExternalRef] > 0 {
		t.Error("the citizen of the curl lines was not left in peace")
	}
	if len(channels) < 6 || states["GRANTED"] < 100 || states["DENIED"] < 100 || states["CLAIMED"] < 100 || states["OBJECTED"] < 5 || states["PENDING"] < 5 {
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
