package store_test

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/internal/store"
	"github.com/opencpm/opencpm/internal/store/storetest"
)

// logged is a store with a subscription to the full state and somebody of whom it is told.
type logged struct {
	t   *testing.T
	st  *store.Store
	app int64
	sub store.Registered
}

func newLogged(t *testing.T, st *store.Store, updates consent.UpdateType) *logged {
	t.Helper()
	app := storetest.Application(t, st, "northwind").Application
	sub, err := st.CreateSubscription(ctx, consent.Subscription{
		ID: store.NewID(), Application: app, Name: "CRM", URL: "https://crm.example/", UpdateType: updates, Status: consent.Active, AuthType: consent.AuthNone, TokenLocation: consent.InHeader,
	}, "test", store.Once{})
	if err != nil {
		t.Fatal(err)
	}
	return &logged{t, st, app, sub}
}

func (l *logged) record(ref string) consent.ID {
	l.t.Helper()
	r, err := l.st.Record(ctx, l.app, consent.CitizenKey{ExternalRef: ref}, storetest.Transaction("newsletter-email", consent.Consent, consent.Granted), store.Once{})
	if err != nil {
		l.t.Fatal(err)
	}
	return r.CitizenID
}

// due gives the lanes that are due of a kind.
func (l *logged) due(kind store.Waiting, at consent.Instant) []store.Lane {
	l.t.Helper()
	h, err := l.st.Hold(ctx, "test", time.Minute)
	if err != nil {
		l.t.Fatal(err)
	}
	lanes, _, err := l.st.Lanes(ctx, store.LaneQuery{Subscription: l.sub.Number, Held: h, Kind: kind, Now: at, Limit: 1000})
	if err != nil {
		l.t.Fatal(err)
	}
	return lanes
}

// settle says what came of an attempt on a lane, with the content that the engine would give.
func (l *logged) settle(lane store.Lane, at consent.Instant, edit func(*store.Settlement)) {
	l.t.Helper()
	h, err := l.st.Hold(ctx, "test", time.Minute)
	if err != nil {
		l.t.Fatal(err)
	}
	states, err := l.st.States(ctx, []int64{lane.Citizen})
	if err != nil {
		l.t.Fatal(err)
	}
	state := states[lane.Citizen]
	content, err := l.st.SealExchange(state.LogKey, l.sub.Number, at, store.Exchange{
		URL: l.sub.URL, Header: map[string][]string{"Webhook-Id": {"x"}}, Body: []byte(`{"externalRef":"` + state.ExternalRef + `"}`), AnswerBody: "planted answer",
	})
	if err != nil {
		l.t.Fatal(err)
	}
	v := store.Settlement{Lane: lane, Rendered: state.Version, Epoch: h.Epochs[lane.Shard], At: at, Delivered: true, Log: &store.Attempt{
		Event: consent.EventID(l.sub.ID, state.CitizenID, state.Version), EventType: consent.CitizenChanged, Sequence: state.Version, Number: lane.Attempts + 1,
		Took: 7 * time.Millisecond, Status: 200, Class: "ok", Outcome: store.OutcomeDelivered, Coalesced: 1, Content: content,
	}}
	if edit != nil {
		edit(&v)
	}
	if err := l.st.Settle(ctx, []store.Settlement{v}); err != nil {
		l.t.Fatal(err)
	}
}

// refused makes an outcome a failure that goes to the failures store.
func refused(v *store.Settlement) {
	v.Delivered, v.ToStore, v.Reason, v.Retry = false, true, "the endpoint answered 500", v.At.Add(time.Hour)
	v.Log.Outcome, v.Log.Status, v.Log.Class, v.Log.Reason, v.Log.Next = store.OutcomeWaiting, 500, "status", v.Reason, v.Retry
}

// entries lists the whole log by pages of two.
func (l *logged) entries(f store.AttemptFilter) []store.Attempt {
	l.t.Helper()
	f.Subscription, f.Limit = l.sub.Number, 2
	var all []store.Attempt
	for {
		list, next, err := l.st.Attempts(ctx, f)
		if err != nil {
			l.t.Fatal(err)
		}
		all = append(all, list...)
		if next == 0 {
			return all
		}
		f.Under = next
	}
}

func instant() consent.Instant { return consent.At(time.Now()) }

func TestTheLogIsSearched(t *testing.T) {
	storetest.Both(t, func(t *testing.T, st *store.Store) {
		l := newLogged(t, st, consent.EffectivePermission)
		began := instant()
		var ids []consent.ID
		for i := range 5 {
			ids = append(ids, l.record(fmt.Sprint("CUST-", i)))
		}
		for i, lane := range l.due(store.WaitingPeople, instant()) {
			if i == 2 {
				l.settle(lane, instant(), refused)
			} else {
				l.settle(lane, instant(), nil)
			}
		}
		all := l.entries(store.AttemptFilter{})
		if len(all) != 5 {
			t.Fatalf("%d entries", len(all))
		}
		for i, a := range all {
			if a.CitizenID != ids[4-i] || i > 0 && (a.ID >= all[i-1].ID || a.At() > all[i-1].At()) {
				t.Errorf("entry %d is %+v", i, a)
			}
		}
		number, err := st.CitizenNumber(ctx, l.app, consent.CitizenKey{ExternalRef: "CUST-2"})
		if err != nil {
			t.Fatal(err)
		}
		none, failed := int64(0), int64(500)
		for name, test := range map[string]struct {
			filter store.AttemptFilter
			want   int
		}{
			"citizen":         {store.AttemptFilter{Citizen: number}, 1},
			"outcome":         {store.AttemptFilter{Outcome: store.OutcomeDelivered}, 4},
			"status":          {store.AttemptFilter{Status: &failed}, 1},
			"no answer":       {store.AttemptFilter{Status: &none}, 0},
			"message":         {store.AttemptFilter{Event: all[2].Event}, 1},
			"since":           {store.AttemptFilter{Since: all[1].At()}, 2},
			"before":          {store.AttemptFilter{Before: all[3].At()}, 1},
			"both":            {store.AttemptFilter{Since: began, Before: all[0].At() + 1}, 5},
			"long ago":        {store.AttemptFilter{Before: began}, 0},
			"another citizen": {store.AttemptFilter{Citizen: number, Outcome: store.OutcomeDelivered}, 0},
		} {
			if got := l.entries(test.filter); len(got) != test.want {
				t.Errorf("%s: %d entries, want %d", name, len(got), test.want)
			}
		}
		d, err := st.Delivery(ctx, l.sub, all[2].ID)
		if err != nil || d.Exchange == nil || string(d.Exchange.Body) != `{"externalRef":"CUST-2"}` || d.Exchange.AnswerBody != "planted answer" || d.State != "waiting" || len(d.Attempts) != 1 {
			t.Errorf("read %+v %+v, %v", d, d.Exchange, err)
		}
		other := l.sub
		other.Number++
		if _, err := st.Delivery(ctx, other, all[2].ID); consent.KindOf(err) != consent.NotFound {
			t.Errorf("an entry of another subscription: %v", err)
		}
		latency, err := st.Latency(ctx, l.sub.Number)
		if err != nil || latency.Attempts != 5 || latency.P50 != 7*time.Millisecond || latency.P99 != 7*time.Millisecond {
			t.Errorf("latency %+v, %v", latency, err)
		}
		// The next state supersedes what waited.
		l.record("CUST-2")
		for _, lane := range l.due(store.WaitingPeople, instant()) {
			l.settle(lane, instant(), nil)
		}
		if d, err := st.Delivery(ctx, l.sub, all[2].ID); err != nil || d.State != store.MessageSuperseded {
			t.Errorf("superseded: %v, %v", d.State, err)
		}
	})
}

// What the log says of a citizen is sealed, and gone with the citizen.
func TestTheLogIsSealedWithItsCitizen(t *testing.T) {
	storetest.Both(t, func(t *testing.T, st *store.Store) {
		l := newLogged(t, st, consent.ConsentReceipts)
		id := l.record("CUST-1")
		for _, lane := range l.due(store.WaitingPeople, instant()) {
			l.settle(lane, instant(), refused)
		}
		entry := l.entries(store.AttemptFilter{})[0]
		if err := st.EraseCitizen(ctx, l.app, consent.CitizenKey{ID: id}, "test"); err != nil {
			t.Fatal(err)
		}
		d, err := st.Delivery(ctx, l.sub, entry.ID)
		if err != nil || d.Exchange != nil || d.Status != 500 || d.CitizenID != id {
			t.Errorf("after the erasure: %+v, %v", d, err)
		}
		all := l.entries(store.AttemptFilter{Citizen: entry.Citizen})
		if len(all) != 2 || all[0].Outcome != store.OutcomeErased || all[0].Coalesced != 1 || all[0].Number != 0 {
			t.Errorf("the log does not say that a receipt ended: %+v", all)
		}
		if err := st.Redeliver(ctx, []int64{l.app}, l.sub.ID, entry.ID, "test"); consent.KindOf(err) != consent.Conflict {
			t.Errorf("delivering what was erased: %v", err)
		}
	})
}

func TestTheLogLiesSealed(t *testing.T) {
	dir := t.TempDir()
	l := newLogged(t, storetest.Open(t, store.Options{Dir: dir, Keys: storetest.Keys(t)}), consent.EffectivePermission)
	l.record("CUST-1")
	for _, lane := range l.due(store.WaitingPeople, instant()) {
		l.settle(lane, instant(), nil)
	}
	db, err := sql.Open("sqlite", "file:"+filepath.Join(dir, store.SQLiteFile)+"?_pragma=busy_timeout(10000)")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var raw []byte
	if err := db.QueryRow(`SELECT content FROM attempt`).Scan(&raw); err != nil {
		t.Fatal(err)
	}
	if len(raw) == 0 || bytes.Contains(raw, []byte("planted")) || bytes.Contains(raw, []byte("CUST-1")) {
		t.Errorf("the content of an entry is %q", raw)
	}
}

// Entries go with age and with size, the skeleton of a log without content stays.
func TestTheLogIsForgotten(t *testing.T) {
	for name, open := range map[string]func(store.LogRetention) store.Options{
		"SQLite": func(r store.LogRetention) store.Options { return store.Options{Dir: t.TempDir(), DeliveryLog: r} },
		"PostgreSQL": func(r store.LogRetention) store.Options {
			return store.Options{DatabaseURL: storetest.Postgres(t), DeliveryLog: r}
		},
	} {
		t.Run(name, func(t *testing.T) {
			o := open(store.LogRetention{Age: 3 * 24 * time.Hour, Bytes: 1000})
			o.Keys = storetest.Keys(t)
			l := newLogged(t, storetest.Open(t, o), consent.EffectivePermission)
			for i, old := range []time.Duration{10 * 24 * time.Hour, 5 * 24 * time.Hour, 24 * time.Hour, 2 * time.Hour, 0, 0, 0} {
				l.record(fmt.Sprint("CUST-", i))
				for _, lane := range l.due(store.WaitingPeople, instant()) {
					l.settle(lane, instant().Add(-old), nil)
				}
			}
			// The volumes are told every few seconds; the last entry is of another time for that.
			if err := l.st.ForgetAttempts(ctx); err != nil {
				t.Fatal(err)
			}
			all := l.entries(store.AttemptFilter{})
			for _, a := range all {
				if time.Since(a.At().Time()) > 3*24*time.Hour {
					t.Errorf("an entry of %v is kept", a.At())
				}
			}
			if len(all) < 3 {
				t.Errorf("%d entries are left", len(all))
			}
			if err := l.st.DeleteSubscription(ctx, []int64{l.app}, l.sub.ID, "test"); err != nil {
				t.Fatal(err)
			}
			if err := l.st.ForgetAttempts(ctx); err != nil {
				t.Fatal(err)
			}
			if all := l.entries(store.AttemptFilter{}); len(all) != 0 {
				t.Errorf("%d entries outlive their subscription", len(all))
			}
		})
	}
}

func TestALogWithoutContent(t *testing.T) {
	l := newLogged(t, storetest.Open(t, store.Options{Dir: t.TempDir(), Keys: storetest.Keys(t), DeliveryLog: store.LogRetention{Skeleton: true}}), consent.EffectivePermission)
	l.record("CUST-1")
	for _, lane := range l.due(store.WaitingPeople, instant()) {
		l.settle(lane, instant(), nil)
	}
	all := l.entries(store.AttemptFilter{})
	if len(all) != 1 {
		t.Fatalf("%d entries", len(all))
	}
	if d, err := l.st.Delivery(ctx, l.sub, all[0].ID); err != nil || d.Exchange != nil {
		t.Errorf("content is kept: %+v, %v", d.Exchange, err)
	}
}

func TestWhatWaitsIsListed(t *testing.T) {
	for _, updates := range []consent.UpdateType{consent.EffectivePermission, consent.ConsentReceipts} {
		t.Run(string(updates), func(t *testing.T) {
			storetest.Both(t, func(t *testing.T, st *store.Store) {
				l := newLogged(t, st, updates)
				for i := range 5 {
					l.record(fmt.Sprint("CUST-", i))
				}
				for i, lane := range l.due(store.WaitingPeople, instant()) {
					if i%2 == 0 {
						l.settle(lane, instant(), refused)
					}
				}
				var all []store.WaitingMessage
				var at store.WaitingPlace
				for {
					list, err := st.WaitingMessages(ctx, l.sub.Number, 0, at, 2)
					if err != nil {
						t.Fatal(err)
					}
					all = append(all, list...)
					if len(list) < 2 {
						break
					}
					at = store.WaitingPlace{DueAt: list[1].DueAt, Citizen: list[1].Citizen, Change: list[1].Change}
				}
				seen, stored := map[int64]bool{}, 0
				for i, w := range all {
					if seen[w.Citizen] = true; w.Stored {
						stored++
					}
					if i > 0 && w.DueAt < all[i-1].DueAt || w.Sequence == 0 || w.Stored != (w.Attempts > 0) || w.Stored != (w.Reason != "") {
						t.Errorf("listed %+v", w)
					}
				}
				if len(all) != 5 || len(seen) != 5 || stored != 3 {
					t.Errorf("%d of %d citizens, %d in the failures store", len(all), len(seen), stored)
				}
				one, err := st.WaitingMessages(ctx, l.sub.Number, all[0].Citizen, store.WaitingPlace{}, 10)
				if err != nil || len(one) != 1 || one[0].CitizenID != all[0].CitizenID {
					t.Errorf("of one citizen: %+v, %v", one, err)
				}
				waits, err := st.Waits(ctx, l.sub.Number)
				if err != nil || waits.Due != 2 || waits.Stored != 3 || waits.Oldest == 0 {
					t.Errorf("counted %+v, %v", waits, err)
				}
			})
		})
	}
}

func TestRedeliveringOne(t *testing.T) {
	for _, updates := range []consent.UpdateType{consent.EffectivePermission, consent.ConsentReceipts} {
		t.Run(string(updates), func(t *testing.T) {
			storetest.Both(t, func(t *testing.T, st *store.Store) {
				l := newLogged(t, st, updates)
				l.record("delivered")
				l.settle(l.due(store.WaitingPeople, instant())[0], instant(), nil)
				l.record("refused")
				l.settle(l.due(store.WaitingPeople, instant())[0], instant(), refused)
				if n := len(l.due(store.WaitingPeople, instant())) + len(l.due(store.WaitingStored, instant())); n != 0 {
					t.Fatalf("%d are due", n)
				}
				for _, a := range l.entries(store.AttemptFilter{}) {
					if err := st.Redeliver(ctx, []int64{l.app}, l.sub.ID, a.ID, "test"); err != nil {
						t.Fatal(err)
					}
				}
				anew, stored := l.due(store.WaitingPeople, instant()), l.due(store.WaitingStored, instant())
				if len(anew) != 1 || len(stored) != 1 || anew[0].Attempts != 0 || (anew[0].Change != 0) != (updates == consent.ConsentReceipts) {
					t.Errorf("due: %+v and %+v", anew, stored)
				}
				if err := st.Redeliver(ctx, []int64{l.app}, l.sub.ID, 1, "test"); consent.KindOf(err) != consent.NotFound {
					t.Errorf("an entry that there is not: %v", err)
				}
			})
		})
	}
}

func TestDiscarding(t *testing.T) {
	for _, updates := range []consent.UpdateType{consent.EffectivePermission, consent.ConsentReceipts} {
		t.Run(string(updates), func(t *testing.T) {
			storetest.Both(t, func(t *testing.T, st *store.Store) {
				l := newLogged(t, st, updates)
				one, two := l.record("CUST-1"), l.record("CUST-2")
				for _, lane := range l.due(store.WaitingPeople, instant()) {
					l.settle(lane, instant(), refused)
				}
				first := l.entries(store.AttemptFilter{})[1]
				discard := func(d store.Discard) int64 {
					t.Helper()
					n, err := st.Discard(ctx, []int64{l.app}, l.sub.ID, d, "test")
					if err != nil {
						t.Fatal(err)
					}
					return n
				}
				if first.CitizenID != one || discard(store.Discard{Citizen: &consent.CitizenKey{ID: one}, Before: first.At() - 10_000_000}) != 0 {
					t.Fatal("something newer was discarded")
				}
				if discard(store.Discard{Entry: first.ID}) != 1 || discard(store.Discard{Entry: first.ID}) != 0 {
					t.Error("a message is not discarded once")
				}
				if d, err := st.Delivery(ctx, l.sub, first.ID); err != nil || d.State != "discarded" || len(d.Attempts) != 2 {
					t.Errorf("after it was discarded: %v, %v", d.State, err)
				}
				l.record("CUST-2")
				want := int64(1) // the newer state took the place of the older one
				if updates == consent.ConsentReceipts {
					want = 2
				}
				if n := discard(store.Discard{Citizen: &consent.CitizenKey{ID: two}}); n != want {
					t.Errorf("%d were discarded, want %d", n, want)
				}
				if waits, err := st.Waits(ctx, l.sub.Number); err != nil || waits.Due+waits.Stored != 0 {
					t.Errorf("still waiting: %+v, %v", waits, err)
				}
			})
		})
	}
}

// runJob takes the steps of a job until it ends and gives what it has done.
func (l *logged) runJob(kind consent.JobKind, p store.RecoveryParams, step func(*store.JobTx, store.RecoveryPlace) (store.RecoveryPlace, int, error)) (done int) {
	l.t.Helper()
	if _, err := l.st.CreateJob(ctx, store.NewJob{Application: l.app, Kind: kind, Params: []byte(`{}`)}, "test", store.Once{}); err != nil {
		l.t.Fatal(err)
	}
	held, ok, err := l.st.ClaimJob(ctx, "test", []consent.JobKind{kind}, time.Minute)
	if err != nil || !ok {
		l.t.Fatal(ok, err)
	}
	var at store.RecoveryPlace
	for !held.State.Ended() {
		held, err = l.st.StepJob(ctx, held, stepOf(&at, &done, step))
		if err != nil {
			l.t.Fatal(err)
		}
	}
	return done
}

func TestResyncing(t *testing.T) {
	storetest.Both(t, func(t *testing.T, st *store.Store) {
		l := newLogged(t, st, consent.EffectivePermission)
		for i := range 4 {
			l.record(fmt.Sprint("CUST-", i))
		}
		if err := st.EraseCitizen(ctx, l.app, consent.CitizenKey{ExternalRef: "CUST-3"}, "test"); err != nil {
			t.Fatal(err)
		}
		settleAll := func() {
			for _, lane := range l.due(store.WaitingPeople, instant()) {
				l.settle(lane, instant(), nil)
			}
		}
		settleAll()
		before, err := st.State(ctx, l.app, consent.CitizenKey{ExternalRef: "CUST-1"})
		if err != nil {
			t.Fatal(err)
		}
		since := before.ChangedAt + 1 // what changed is stamped in milliseconds
		l.record("CUST-1")
		settleAll()
		l.record("CUST-2")
		l.settle(l.due(store.WaitingPeople, instant())[0], instant(), refused)
		run := func(since consent.Instant) int {
			p := store.RecoveryParams{Subscription: l.sub.ID, Since: since, At: instant()}
			return l.runJob(consent.ResyncJob, p, func(x *store.JobTx, at store.RecoveryPlace) (store.RecoveryPlace, int, error) {
				return x.Resync(ctx, p, at, 1)
			})
		}
		if n := run(since); n != 2 {
			t.Errorf("%d citizens changed since", n)
		}
		bulk, stored := l.due(store.WaitingBulk, instant()), l.due(store.WaitingStored, instant())
		if len(bulk) != 1 || !bulk[0].Resync || bulk[0].Changes != 0 || len(stored) != 1 {
			t.Fatalf("due: %+v and %+v", bulk, stored)
		}
		l.record("CUST-0") // who waits for what happened just now
		if n := run(0); n != 3 {
			t.Errorf("%d citizens", n)
		}
		if people, bulk := l.due(store.WaitingPeople, instant()), l.due(store.WaitingBulk, instant()); len(people) != 1 || people[0].Resync || len(bulk) != 1 {
			t.Errorf("due: %+v and %+v", people, bulk)
		}
		// News take the place of what was asked for.
		l.record("CUST-1")
		if people := l.due(store.WaitingPeople, instant()); len(people) != 2 || people[0].Resync || people[1].Resync {
			t.Errorf("after news: %+v", people)
		}
		if n, err := st.CountResync(ctx, l.app, 0); err != nil || n != 3 {
			t.Errorf("counted %d, %v", n, err)
		}
	})
}

func TestRecoveringMany(t *testing.T) {
	for _, updates := range []consent.UpdateType{consent.EffectivePermission, consent.ConsentReceipts} {
		t.Run(string(updates), func(t *testing.T) {
			storetest.Both(t, func(t *testing.T, st *store.Store) {
				l := newLogged(t, st, updates)
				for i := range 5 {
					l.record(fmt.Sprint("CUST-", i))
				}
				since := instant()
				for i, lane := range l.due(store.WaitingPeople, instant()) {
					if i == 0 {
						l.settle(lane, since.Add(-time.Hour), refused)
						continue
					}
					l.settle(lane, instant(), refused)
				}
				p := store.RecoveryParams{Subscription: l.sub.ID, Since: since, Before: instant() + 1, At: instant() + 1, Actor: "test"}
				if n := l.runJob(consent.RedeliverJob, p, func(x *store.JobTx, at store.RecoveryPlace) (store.RecoveryPlace, int, error) {
					n, err := x.Redeliver(ctx, p, 3)
					return at, n, err
				}); n != 4 {
					t.Errorf("%d were made due, want 4", n)
				}
				if n := len(l.due(store.WaitingStored, instant())); n != 5 && n != 4 {
					t.Errorf("%d are due", n)
				}
				l.record("CUST-0") // after the instant: it stays whole
				if n := l.runJob(consent.DiscardJob, p, func(x *store.JobTx, at store.RecoveryPlace) (store.RecoveryPlace, int, error) {
					return x.Discard(ctx, p, at, 2)
				}); n < 4 {
					t.Errorf("%d were looked at", n)
				}
				if waits, err := st.Waits(ctx, l.sub.Number); err != nil || waits.Due != 1 || waits.Stored != 0 {
					t.Errorf("still waiting: %+v, %v", waits, err)
				}
				if n := len(l.entries(store.AttemptFilter{Outcome: store.OutcomeDiscarded})); n < 4 {
					t.Errorf("the log says of %d that they were discarded", n)
				}
				// The subscription is deleted before the next step.
				if err := st.DeleteSubscription(ctx, []int64{l.app}, l.sub.ID, "test"); err != nil {
					t.Fatal(err)
				}
				if _, err := st.CreateJob(ctx, store.NewJob{Application: l.app, Kind: consent.DiscardJob, Params: []byte(`{}`)}, "test", store.Once{}); err != nil {
					t.Fatal(err)
				}
				held, _, err := st.ClaimJob(ctx, "test", []consent.JobKind{consent.DiscardJob}, time.Minute)
				if err != nil {
					t.Fatal(err)
				}
				var at store.RecoveryPlace
				var done int
				if _, err := st.StepJob(ctx, held, stepOf(&at, &done, func(x *store.JobTx, at store.RecoveryPlace) (store.RecoveryPlace, int, error) {
					return x.Discard(ctx, p, at, 2)
				})); consent.KindOf(err) != consent.NotFound || !strings.Contains(err.Error(), "deleted") {
					t.Errorf("without its subscription: %v", err)
				}
			})
		})
	}
}

// stepOf makes a step of a job that goes on from a place and counts what it has done.
func stepOf(at *store.RecoveryPlace, done *int, step func(*store.JobTx, store.RecoveryPlace) (store.RecoveryPlace, int, error)) func(context.Context, *store.JobTx) (store.Progress, error) {
	return func(_ context.Context, x *store.JobTx) (store.Progress, error) {
		next, n, err := step(x, *at)
		*at, *done = next, *done+n
		return store.Progress{Done: int64(n), Finished: n == 0}, err
	}
}

// The oldest entries go first, and no more of them than must.
func TestTheLogKeepsToItsSize(t *testing.T) {
	dir, keys := t.TempDir(), storetest.Keys(t)
	synctest.Test(t, func(t *testing.T) {
		st, err := store.Open(ctx, store.Options{Dir: dir, Keys: keys, DeliveryLog: store.LogRetention{Bytes: 3000}})
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := st.Close(); err != nil {
				t.Error(err)
			}
		}()
		l := newLogged(t, st, consent.EffectivePermission)
		const written = 20
		for i := range written {
			l.record(fmt.Sprint("CUST-", i))
			l.settle(l.due(store.WaitingPeople, instant())[0], instant(), nil)
			time.Sleep(10 * time.Minute)
		}
		if err := st.ForgetAttempts(ctx); err != nil {
			t.Fatal(err)
		}
		all := l.entries(store.AttemptFilter{})
		if len(all) < 4 || len(all) > 9 {
			t.Fatalf("%d entries of %d are kept in 3000 bytes", len(all), written)
		}
		if newest := time.Since(all[0].At().Time()); newest > 11*time.Minute {
			t.Errorf("the newest entry that is kept is %v old", newest)
		}
	})
}
