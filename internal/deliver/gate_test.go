package deliver

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/internal/safehttp"
	"github.com/opencpm/opencpm/internal/store"
	"github.com/opencpm/opencpm/internal/store/storetest"
)

// importMany records a change of many citizens at once, for whom nobody waits.
func (w *world) importMany(prefix string, n int) {
	w.t.Helper()
	for from := 0; from < n; from += 100 {
		list := make([]store.NewCitizen, min(100, n-from))
		for i := range list {
			v := storetest.Transaction("newsletter-email", consent.Consent, consent.Granted)
			list[i] = store.NewCitizen{ExternalRef: fmt.Sprint(prefix, from+i), Transaction: &v}
		}
		if _, _, err := w.st.CreateCitizens(ctx, w.app, list, "import", store.Once{}); err != nil {
			w.t.Fatal(err)
		}
	}
}

func (w *world) endpoint(id consent.ID) store.Endpoint {
	w.t.Helper()
	v, err := w.st.Subscription(ctx, []int64{w.app}, id)
	if err != nil {
		w.t.Fatal(err)
	}
	return v.Endpoint
}

func gone(int, arrival) (int, error) { return http.StatusGone, nil }

// An endpoint that is down is asked now and then, by one message at a time, with pauses
// that double; the quick attempts of the others stay unspent. As soon as it is back
// everything arrives, at first one at a time.
func TestDownAndBack(t *testing.T) {
	at := &endpoint{answer: gone}
	inBubble(t, at, func(t *testing.T, w *world) {
		id := w.subscribe(nil)
		w.importMany("EARLY-", 100)
		time.Sleep(40 * time.Second)
		w.record("CUST-1", consent.Granted)
		time.Sleep(time.Second)
		down := w.endpoint(id).DownSince
		if down == 0 {
			t.Fatalf("after %d failures in 40 s it is not down", len(at.seen(t)))
		}
		time.Sleep(30 * time.Minute)
		var probes []time.Duration
		for _, a := range at.seen(t) {
			if a.at.After(down.Time()) {
				probes = append(probes, a.at.Sub(down.Time()).Round(time.Second))
			}
		}
		want := []time.Duration{5, 15, 35, 75, 135, 195, 255}
		for i := range want {
			want[i] *= time.Second
		}
		if len(probes) < 30 || !slices.Equal(probes[:len(want)], want) {
			t.Fatalf("%d probes, the first after %v, want %v and then every minute", len(probes), probes[:min(len(probes), len(want))], want)
		}
		w.stop()
		w.start() // the state of the endpoint outlives the process
		before := len(at.seen(t))
		time.Sleep(10 * time.Minute)
		if n := len(at.seen(t)) - before; n < 9 || n > 11 {
			t.Fatalf("%d probes in the 10 minutes after a new start, want one a minute", n)
		}

		at.mu.Lock()
		at.answer, at.takes, at.most = nil, 10*time.Millisecond, 0
		at.mu.Unlock()
		time.Sleep(61 * time.Second)
		arrived := map[string]bool{}
		var first time.Time
		for _, a := range at.seen(t)[before:] {
			if a.at.After(time.Now().Add(-61 * time.Second)) {
				if arrived[a.body.ExternalRef] = true; first.IsZero() {
					first = a.at
				}
			}
		}
		if len(arrived) != 101 {
			t.Fatalf("%d of 101 citizens arrived within a minute of its coming back", len(arrived))
		}
		if e := w.endpoint(id); e.DownSince != 0 || at.most > 8 {
			t.Errorf("down since %v, %d at a time", e.DownSince, at.most)
		}
		var ramp []int // how many left in each 10 ms after the probe, which is how long an answer takes
		for _, a := range at.seen(t)[before:] {
			if step := int((a.at.Sub(first) + time.Millisecond) / (10 * time.Millisecond)); !a.at.Before(first) {
				for len(ramp) <= step {
					ramp = append(ramp, 0)
				}
				ramp[step]++
			}
		}
		if len(ramp) < 4 || ramp[0] != 1 || ramp[1] > 1 || ramp[2] > 2 {
			t.Errorf("it was flooded: %v messages per round trip", ramp)
		}
	})
}

// By the letter: three attempts in a row and then one an hour, of every message, whatever
// the endpoint does.
func TestHourlyToTheLetter(t *testing.T) {
	at := &endpoint{answer: fail, after: "600"}
	inBubble(t, at, func(t *testing.T, w *world) {
		w.subscribe(func(v *consent.Subscription) { v.RetryPolicy = consent.Hourly })
		w.importMany("CUST-", 40)
		time.Sleep(3*time.Hour + 30*time.Minute)
		attempts := map[string][]time.Time{}
		for _, a := range at.seen(t) {
			attempts[a.body.ExternalRef] = append(attempts[a.body.ExternalRef], a.at)
		}
		for ref, list := range attempts {
			if len(list) != 6 {
				t.Fatalf("%s was tried %d times in 3 h 30 min, want 3 times and then 3 times more", ref, len(list))
			}
			for i, bounds := range [][2]time.Duration{{800 * time.Millisecond, 1300 * time.Millisecond}, {4 * time.Second, 6100 * time.Millisecond}, {time.Hour, 67 * time.Minute}, {time.Hour, 67 * time.Minute}, {time.Hour, 67 * time.Minute}} {
				if d := list[i+1].Sub(list[i]); d < bounds[0] || d > bounds[1] {
					t.Errorf("%s: %v between attempts %d and %d, want %v to %v", ref, d, i+1, i+2, bounds[0], bounds[1])
				}
			}
		}
		before := len(at.seen(t))
		at.behave(nil)
		time.Sleep(20 * time.Minute)
		if len(attempts) != 40 || len(at.seen(t)) != before {
			t.Errorf("%d citizens; %d messages left before their hour was over", len(attempts), len(at.seen(t))-before)
		}
		time.Sleep(time.Hour)
		if n := len(at.seen(t)) - before; n != 40 {
			t.Errorf("%d messages in the hour after it was mended, want 40", n)
		}
	})
}

// An endpoint that asks for a pause gets it, and no message spends an attempt on that.
func TestRetryAfter(t *testing.T) {
	for _, c := range []struct {
		after string
		want  time.Duration
	}{{"120", 2 * time.Minute}, {"Sat, 01 Jan 2000 00:05:00 GMT", 5 * time.Minute}, {"999999999999", time.Hour}} {
		t.Run(c.after, func(t *testing.T) {
			at := &endpoint{answer: fail, after: c.after}
			inBubble(t, at, func(t *testing.T, w *world) {
				id := w.subscribe(nil)
				for i := range 20 {
					w.record(fmt.Sprint("CUST-", i), consent.Granted)
				}
				time.Sleep(time.Second)
				first := at.seen(t)
				if len(first) == 0 || len(first) > 8 {
					t.Fatalf("%d messages left before the pause", len(first))
				}
				at.behave(func(int, arrival) (int, error) { return 500, nil }) // an ordinary failure from now on
				time.Sleep(c.want - 10*time.Second)
				if n := len(at.seen(t)); n != len(first) {
					t.Fatalf("%d messages left in the pause that the endpoint asked for", n-len(first))
				}
				if e := w.endpoint(id); e.WaitUntil.Time().Sub(first[0].at).Round(time.Second) != c.want {
					t.Errorf("the pause lasts until %v", e.WaitUntil)
				}
				time.Sleep(20*time.Second + 15*time.Second)
				tries := map[string]int{}
				for _, a := range at.seen(t)[len(first):] {
					tries[a.body.ExternalRef]++
				}
				for ref, n := range tries {
					if n != 3 {
						t.Errorf("%s had %d attempts of its own after the pause, want 3", ref, n)
					}
				}
			})
		})
	}
	for _, text := range []string{"", "soon", "-5", "0", "1e9", "Sat, 01 Jan 1999 00:00:00 GMT"} {
		if d := retryAfter(text, time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)); d != 0 {
			t.Errorf("Retry-After: %s asks for %v", text, d)
		}
	}
}

// What somebody just did does not wait for what was done for many.
func TestPeopleBeforeBulk(t *testing.T) {
	many := 1000
	if testing.Short() {
		many = 250
	}
	last := fmt.Sprint("BULK-", many-1)
	for _, receiptsOnly := range []bool{false, true} {
		t.Run(fmt.Sprint(receiptsOnly), func(t *testing.T) {
			at := &endpoint{takes: time.Second}
			inBubble(t, at, func(t *testing.T, w *world) {
				if receiptsOnly {
					w.subscribeReceipts()
				} else {
					w.subscribe(nil)
				}
				w.importMany("BULK-", many)
				time.Sleep(3500 * time.Millisecond)
				w.record("PERSON", consent.Granted)
				w.record(last, consent.Denied) // somebody who waits for the import, too
				began := time.Now()
				time.Sleep(4 * time.Second)
				waited := map[string]time.Duration{}
				for _, a := range at.seen(t) {
					if ref := a.body.ExternalRef; waited[ref] == 0 && (ref == "PERSON" || ref == last) {
						waited[ref] = a.at.Sub(began) + 1
					}
				}
				if waited["PERSON"] == 0 || waited["PERSON"] > 1100*time.Millisecond || waited[last] == 0 {
					t.Errorf("with %d others waiting it took %v", many, waited)
				}
				time.Sleep(3 * time.Minute)
				if n := len(at.seen(t)); n < many+1 || n > many+2 {
					t.Errorf("%d messages in all", n)
				}
			})
		})
	}
}

// Endpoints that hang cost the others nothing, whether for people or in bulk.
func TestHangingEndpointsCostTheOthersNothing(t *testing.T) {
	at := &endpoint{answer: func(_ int, a arrival) (int, error) {
		if a.header.Get("X-Hangs") != "" {
			time.Sleep(15 * time.Second)
			return 0, &safehttp.Error{Class: safehttp.Timeout, Reason: "timed out"}
		}
		return 200, nil
	}}
	inBubble(t, at, func(t *testing.T, w *world) {
		for i := range 40 {
			w.subscribe(func(v *consent.Subscription) {
				v.URL = fmt.Sprintf("https://%d.example/", i)
				if i < 10 {
					v.Secrets.Headers = map[string]string{"X-Hangs": "yes"}
				}
			})
		}
		time.Sleep(time.Second)
		w.importMany("CUST-", 50)
		began := time.Now()
		time.Sleep(time.Second)
		arrived := 0
		for _, a := range at.seen(t) {
			if a.header.Get("X-Hangs") == "" && a.at.Sub(began) < time.Second {
				arrived++
			}
		}
		if arrived != 30*50 {
			t.Errorf("%d of %d messages arrived within a second", arrived, 30*50)
		}
	})
}

// The operator is told after an hour of failing, once a day from then on, and when it is
// over; at once where the endpoint says that it is gone.
func TestNotices(t *testing.T) {
	at := &endpoint{answer: fail}
	var mu sync.Mutex
	var all []string
	told := func() []string {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(all)
	}
	inBubble(t, at, func(t *testing.T, w *world) {
		w.stop()
		w.notify = func(_ context.Context, n store.Notice) error {
			mu.Lock()
			defer mu.Unlock()
			if all = append(all, fmt.Sprintf("%s %s", n.Kind, n.Name)); len(all) == 1 {
				return fmt.Errorf("the mail server is away")
			}
			return nil
		}
		w.start()
		w.subscribe(nil)
		other := w.subscribe(func(v *consent.Subscription) { v.Name, v.URL = "Gone", "https://gone.example/" })
		w.change(other, func(v *consent.Subscription) { v.Status = consent.Paused })
		w.record("CUST-1", consent.Granted)
		time.Sleep(55 * time.Minute)
		if told() != nil {
			t.Fatalf("told %v before the hour was over", told())
		}
		time.Sleep(10 * time.Minute)
		if n, err := w.st.FailingLong(ctx); n != 1 || err != nil {
			t.Errorf("%d endpoints fail for long, %v", n, err)
		}
		want := []string{"failing CRM", "failing CRM"} // the first was not passed on
		if !testing.Short() {                          // a day takes long under the race detector
			time.Sleep(24 * time.Hour)
			want = append(want, "failing CRM")
		}
		if !slices.Equal(told(), want) {
			t.Fatalf("told %v, want %v", told(), want)
		}
		at.behave(nil)
		time.Sleep(2 * time.Hour)
		if want = append(want, "recovered CRM"); !slices.Equal(told(), want) {
			t.Fatalf("told %v, want %v", told(), want)
		}
		at.behave(gone)
		w.change(other, func(v *consent.Subscription) { v.Status = consent.Active })
		w.record("CUST-2", consent.Granted)
		time.Sleep(2 * time.Minute)
		last := told()
		slices.Sort(last[len(want):])
		if want = append(want, "gone CRM", "gone Gone"); !slices.Equal(last, want) {
			t.Fatalf("told %v, want %v", last, want)
		}
	})
}

// A mail server that hangs delays neither deliveries nor leases, nor the end of the
// process, and the operator is told once it works.
func TestAMailServerThatHangs(t *testing.T) {
	at := &endpoint{answer: func(_ int, a arrival) (int, error) {
		if a.url == receipts {
			return http.StatusOK, nil
		}
		return gone(0, a)
	}}
	var tries, told atomic.Int64
	var hangs atomic.Bool
	hangs.Store(true)
	inBubble(t, at, func(t *testing.T, w *world) {
		w.stop()
		w.notify = func(ctx context.Context, _ store.Notice) error {
			tries.Add(1)
			if hangs.Load() {
				<-ctx.Done()
				return ctx.Err()
			}
			told.Add(1)
			return nil
		}
		w.start()
		w.subscribe(nil)
		w.subscribeReceipts()
		w.record("CUST-1", consent.Granted)
		for i := range 60 { // for an hour, in which the lease ends 450 times
			time.Sleep(time.Minute)
			before := len(at.seen(t))
			w.record("CUST-2", []consent.State{consent.Granted, consent.Denied}[i%2])
			time.Sleep(time.Second)
			if after := at.seen(t); !slices.ContainsFunc(after[before:], func(a arrival) bool { return a.url == receipts }) {
				t.Fatalf("in minute %d a change was not delivered within a second", i)
			}
		}
		// Half a minute each, with pauses that grow to ten minutes.
		if n := tries.Load(); n < 6 || n > 12 {
			t.Errorf("%d tries in an hour", n)
		}
		for before := tries.Load(); tries.Load() == before; { // until one is under way
			time.Sleep(time.Second)
		}
		began := time.Now()
		w.stop()
		if took := time.Since(began); took > time.Second {
			t.Errorf("it took %v to stop", took)
		}
		hangs.Store(false)
		w.start()
		time.Sleep(time.Minute)
		if n := told.Load(); n != 1 {
			t.Errorf("the operator was told %d times", n)
		}
	})
}

// What a subscription wants to be told of decides what leaves.
func TestWhatIsTold(t *testing.T) {
	sms := func(w *world, ref string, client string, state consent.State) {
		w.t.Helper()
		v := storetest.Transaction("newsletter-sms", consent.Consent, state)
		v.Client.ID = client
		if _, err := w.st.Record(ctx, w.app, consent.CitizenKey{ExternalRef: ref}, v, store.Once{}); err != nil {
			w.t.Fatal(err)
		}
		time.Sleep(w.between)
	}
	for _, c := range []struct {
		name string
		edit func(*consent.Subscription)
		do   func(w *world)
		want []string
	}{
		{
			"an option", func(v *consent.Subscription) { v.Filter.Options = []string{"newsletter-sms"} },
			func(w *world) {
				w.record("A", consent.Granted)
				sms(w, "A", "shop", consent.Granted)
				w.submit("A", true)
			},
			[]string{"map[newsletter-sms:GRANTED]"},
		},
		{
			"a channel", func(v *consent.Subscription) { v.Filter.Channels = []string{"email"} },
			func(w *world) {
				sms(w, "A", "shop", consent.Granted)
				w.record("A", consent.Granted)
				w.submit("A", true)
			},
			[]string{"map[newsletter-email:GRANTED]"},
		},
		{
			"a preference", func(v *consent.Subscription) { v.Filter.Preferences = []string{"interests"} },
			func(w *world) { w.record("A", consent.Granted); w.submit("A", true) },
			[]string{"map[interests:[{jazz}]]"},
		},
		{
			"states alone", func(v *consent.Subscription) { v.OnlyOnStateChange = true },
			func(w *world) {
				w.record("A", consent.Granted)
				w.record("A", consent.Granted)
				w.submit("A", true)
				w.submit("A", true)
				w.record("A", consent.Denied)
			},
			[]string{"map[newsletter-email:GRANTED]", "map[interests:[{jazz}] newsletter-email:GRANTED]", "map[interests:[{jazz}] newsletter-email:DENIED]"},
		},
		{
			"not what it wrote itself", func(v *consent.Subscription) { v.IgnoreClients = []string{"crm"} },
			func(w *world) {
				sms(w, "A", "crm", consent.Granted)
				sms(w, "A", "shop", consent.Denied)
				sms(w, "A", "crm", consent.Denied)
			},
			[]string{"map[newsletter-sms:DENIED]"},
		},
		{
			"what it wrote itself and did not win", func(v *consent.Subscription) { v.IgnoreClients, v.OnlyOnStateChange = []string{"crm"}, true },
			func(w *world) {
				sms(w, "A", "shop", consent.Denied)
				late := storetest.Transaction("newsletter-sms", consent.Consent, consent.Granted)
				late.Client.ID, late.ObtainedAt = "crm", consent.At(time.Now().Add(-time.Hour))
				if _, err := w.st.Record(ctx, w.app, consent.CitizenKey{ExternalRef: "A"}, late, store.Once{}); err != nil {
					w.t.Fatal(err)
				}
			},
			[]string{"map[newsletter-sms:DENIED]", "map[newsletter-sms:DENIED]"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			at := &endpoint{}
			inBubble(t, at, func(t *testing.T, w *world) {
				w.subscribe(c.edit)
				w.between = time.Second
				c.do(w)
				time.Sleep(time.Minute)
				var got []string
				for _, a := range at.seen(t) {
					held := copyOf{}
					held.apply(a.body)
					got = append(got, fmt.Sprint(held))
				}
				if !slices.Equal(got, c.want) {
					t.Errorf("told %q, want %q", got, c.want)
				}
			})
		})
	}
}

// Where each change is a message of its own it says the full state that it led to.
func TestMessagePerChange(t *testing.T) {
	at := &endpoint{takes: 3 * time.Second}
	inBubble(t, at, func(t *testing.T, w *world) {
		w.subscribe(func(v *consent.Subscription) { v.URL, v.MessagePerChange = receipts, true })
		w.record("A", consent.Granted)
		w.submit("A", true)
		w.record("A", consent.Denied)
		time.Sleep(time.Minute)
		var got []string
		for _, a := range at.seen(t) {
			held := copyOf{}
			held.apply(a.body)
			got = append(got, fmt.Sprint(a.body.Coalesced, held))
		}
		want := []string{"1 map[newsletter-email:GRANTED]", "1 map[interests:[{jazz}] newsletter-email:GRANTED]", "1 map[interests:[{jazz}] newsletter-email:DENIED]"}
		if !slices.Equal(got, want) {
			t.Errorf("told %q, want %q", got, want)
		}
	})
}

// In strict order a receipt waits for the one before even while that one is tried hourly.
func TestStrictOrder(t *testing.T) {
	at := &endpoint{answer: func(_ int, a arrival) (int, error) {
		if a.body.state("newsletter-email") == consent.Granted {
			return 500, nil
		}
		return 200, nil
	}}
	inBubble(t, at, func(t *testing.T, w *world) {
		w.subscribe(func(v *consent.Subscription) {
			v.URL, v.UpdateType, v.StrictOrder = receipts, consent.ConsentReceipts, true
		})
		w.record("A", consent.Granted)
		time.Sleep(time.Second)
		w.record("A", consent.Denied)
		w.record("B", consent.Denied)
		time.Sleep(2 * time.Hour)
		if got := at.seen(t); slices.ContainsFunc(got, func(a arrival) bool {
			return a.body.ExternalRef == "A" && a.body.state("newsletter-email") == consent.Denied
		}) {
			t.Fatal("a receipt overtook one that is tried hourly")
		}
		at.behave(nil)
		time.Sleep(2 * time.Hour)
		got := at.seen(t)
		if last := got[len(got)-1].body; last.ExternalRef != "A" || last.state("newsletter-email") != consent.Denied {
			t.Fatalf("the last message is %+v", last)
		}
	})
}
