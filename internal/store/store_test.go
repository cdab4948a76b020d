package store_test

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/internal/store"
	"github.com/opencpm/opencpm/internal/store/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var ctx = context.Background()

func ref(s string) consent.CitizenKey { return consent.CitizenKey{ExternalRef: s} }

func grant(option string) consent.Transaction {
	return storetest.Transaction(option, consent.Consent, consent.Granted)
}

func deny(option string) consent.Transaction {
	return storetest.Transaction(option, consent.Consent, consent.Denied)
}

func record(t *testing.T, st *store.Store, application int64, key consent.CitizenKey, tx consent.Transaction) store.Recorded {
	t.Helper()
	r, err := st.Record(ctx, application, key, tx, store.Once{})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func states(t *testing.T, st *store.Store, application int64, key consent.CitizenKey) map[string]consent.State {
	t.Helper()
	s, err := st.State(ctx, application, key)
	if err != nil {
		t.Fatal(err)
	}
	m := map[string]consent.State{}
	for _, p := range s.Projection.FullState(consent.At(time.Now())).Permissions {
		m[p.OptionID] = p.State
	}
	return m
}

func check(t *testing.T, st *store.Store) (findings []store.Finding) {
	t.Helper()
	if _, _, err := st.Check(ctx, func(f store.Finding) { findings = append(findings, f) }); err != nil {
		t.Fatal(err)
	}
	return findings
}

func TestRecordIsReadBack(t *testing.T) {
	storetest.Both(t, func(t *testing.T, st *store.Store) {
		app := storetest.Application(t, st, "northwind").Application
		first := record(t, st, app, ref("CUST-1"), grant("newsletter-email"))
		if got := states(t, st, app, ref("CUST-1")); got["newsletter-email"] != consent.Granted {
			t.Fatalf("after a grant: %v", got)
		}
		second := record(t, st, app, consent.CitizenKey{ID: first.CitizenID}, deny("newsletter-email"))
		if second.ExternalRef != "CUST-1" || second.Version <= first.Version || second.Transaction.RecordedAt <= first.Transaction.RecordedAt {
			t.Fatalf("second record %+v after %+v", second, first)
		}
		if got := states(t, st, app, ref("CUST-1")); got["newsletter-email"] != consent.Denied {
			t.Fatalf("after a refusal: %v", got)
		}
		list, total, err := st.Transactions(ctx, app, store.RecordFilter{Limit: 10, Total: true})
		if err != nil || total != 2 || len(list) != 2 || list[0].Transaction.ID != first.Transaction.ID || list[0].ExternalRef != "CUST-1" {
			t.Fatalf("listed %+v (%d), %v", list, total, err)
		}
		if f := check(t, st); len(f) > 0 {
			t.Fatal(f)
		}
	})
}

// Every acknowledged change of many writers at once is there, and the times of one
// citizen's records rise strictly.
func TestConcurrentWritersLoseNothing(t *testing.T) {
	storetest.Both(t, func(t *testing.T, st *store.Store) {
		app := storetest.Application(t, st, "northwind").Application
		const writers, each, citizens = 24, 20, 7
		var all sync.WaitGroup
		errs := make(chan error, writers)
		for w := range writers {
			all.Go(func() {
				for i := range each {
					tx := grant("newsletter-email")
					if i%2 == 1 {
						tx = deny("newsletter-email")
					}
					if _, err := st.Record(ctx, app, ref(fmt.Sprintf("CUST-%d", (w+i)%citizens)), tx, store.Once{}); err != nil {
						errs <- err
						return
					}
				}
			})
		}
		all.Wait()
		close(errs)
		for err := range errs {
			t.Fatal(err)
		}
		_, total, err := st.Transactions(ctx, app, store.RecordFilter{Limit: 1, Total: true})
		if err != nil || total != writers*each {
			t.Fatalf("%d transactions of %d, %v", total, writers*each, err)
		}
		for c := range citizens {
			key := ref(fmt.Sprintf("CUST-%d", c))
			list, _, err := st.Transactions(ctx, app, store.RecordFilter{Citizen: &key, Limit: 500})
			if err != nil {
				t.Fatal(err)
			}
			for i := 1; i < len(list); i++ {
				if list[i].Transaction.RecordedAt <= list[i-1].Transaction.RecordedAt {
					t.Fatalf("records %d and %d of %v do not rise", i-1, i, key)
				}
			}
		}
		if f := check(t, st); len(f) > 0 {
			t.Fatal(f)
		}
	})
}

func TestCitizens(t *testing.T) {
	storetest.Both(t, func(t *testing.T, st *store.Store) {
		app := storetest.Application(t, st, "northwind").Application
		other := storetest.Application(t, st, "southwind").Application
		c, err := st.CreateCitizen(ctx, app, "CUST-1", consent.Details{GivenName: "Ada"}, "test", store.Once{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := st.CreateCitizen(ctx, app, "CUST-1", consent.Details{}, "test", store.Once{}); consent.KindOf(err) != consent.Conflict {
			t.Fatalf("the same reference again: %v", err)
		}
		if _, err := st.CreateCitizen(ctx, app, "cust-1", consent.Details{}, "test", store.Once{}); err != nil {
			t.Fatalf("a reference that differs by case: %v", err)
		}
		if _, err := st.CreateCitizen(ctx, other, "CUST-1", consent.Details{}, "test", store.Once{}); err != nil {
			t.Fatalf("the same reference in another application: %v", err)
		}
		if _, err := st.Citizen(ctx, other, consent.CitizenKey{ID: c.ID}); consent.KindOf(err) != consent.NotFound {
			t.Fatalf("through another application: %v", err)
		}
		if _, err := st.Record(ctx, app, consent.CitizenKey{ID: c.ID, ExternalRef: "cust-1"}, grant("newsletter-email"), store.Once{}); consent.KindOf(err) != consent.Invalid {
			t.Fatalf("an id and the reference of another: %v", err)
		}
		changed, err := st.ChangeCitizen(ctx, app, consent.CitizenKey{ID: c.ID}, "test", func(ref *string, d *consent.Details) error {
			*ref, d.FamilyName = "CUST-2", "Lovelace"
			return nil
		})
		if err != nil || changed.Details != (consent.Details{GivenName: "Ada", FamilyName: "Lovelace"}) {
			t.Fatalf("changed to %+v, %v", changed, err)
		}
		if got, err := st.Citizen(ctx, app, ref("CUST-2")); err != nil || got != changed {
			t.Fatalf("by the new reference %+v, %v", got, err)
		}
		if _, err := st.Citizen(ctx, app, ref("CUST-1")); consent.KindOf(err) != consent.NotFound {
			t.Fatalf("by the old reference: %v", err)
		}
		taken := func(ref *string, _ *consent.Details) error { *ref = "cust-1"; return nil }
		if _, err := st.ChangeCitizen(ctx, app, consent.CitizenKey{ID: c.ID}, "test", taken); consent.KindOf(err) != consent.Conflict {
			t.Fatalf("to a reference that is taken: %v", err)
		}
	})
}

func TestErasure(t *testing.T) {
	storetest.Both(t, func(t *testing.T, st *store.Store) {
		app := storetest.Application(t, st, "northwind").Application
		sub := subscribe(t, st, app)
		tx := grant("newsletter-email")
		tx.Attribution = consent.Attribution{RecordedByName: "Grace Hopper"}
		r := record(t, st, app, ref("CUST-1"), tx)
		key := consent.CitizenKey{ID: r.CitizenID}
		if err := st.EraseCitizen(ctx, app, key, "test"); err != nil {
			t.Fatal(err)
		}
		if _, err := st.Citizen(ctx, app, key); consent.KindOf(err) != consent.NotFound {
			t.Fatalf("an erased citizen is read: %v", err)
		}
		if err := st.EraseCitizen(ctx, app, key, "test"); consent.KindOf(err) != consent.NotFound {
			t.Fatalf("erased twice: %v", err)
		}
		list, _, err := st.Transactions(ctx, app, store.RecordFilter{Limit: 10})
		if err != nil || len(list) != 1 || list[0].ExternalRef != "" || list[0].Transaction.Attribution != (consent.Attribution{}) || list[0].Transaction.Changes[0].State != consent.Granted {
			t.Fatalf("the history after the erasure: %+v, %v", list, err)
		}
		if f := check(t, st); len(f) > 0 {
			t.Fatal(f)
		}
		// Subscribers are told with the reference, and then it is forgotten.
		hold := take(t, st)
		lane := lanes(t, st, sub, hold, false)[0]
		told, err := st.States(ctx, []int64{lane.Citizen})
		if err != nil || !told[lane.Citizen].Erased || told[lane.Citizen].ExternalRef != "CUST-1" {
			t.Fatalf("the farewell is %+v, %v", told, err)
		}
		if err := st.ForgetErased(ctx); err != nil {
			t.Fatal(err)
		}
		if told, _ = st.States(ctx, []int64{lane.Citizen}); len(told) != 1 {
			t.Fatal("the reference was forgotten before subscribers were told")
		}
		settle(t, st, store.Settlement{Lane: lane, Rendered: told[lane.Citizen].Version, Epoch: hold.Epochs[lane.Shard], Delivered: true})
		if err := st.ForgetErased(ctx); err != nil {
			t.Fatal(err)
		}
		if told, _ = st.States(ctx, []int64{lane.Citizen}); len(told) != 0 {
			t.Fatal("the reference was not forgotten")
		}
		// The reference is free again, for somebody new.
		if again := record(t, st, app, ref("CUST-1"), deny("newsletter-email")); again.CitizenID == r.CitizenID {
			t.Fatal("the erased citizen came back")
		}
	})
}

func subscribe(t *testing.T, st *store.Store, app int64) store.Registered {
	t.Helper()
	_, err := st.CreateSubscription(ctx, consent.Subscription{
		ID: store.NewID(), Application: app, Name: "CRM", URL: "https://crm.example/hook", UpdateType: consent.EffectivePermission,
		Status: consent.Active, AuthType: consent.AuthToken, TokenLocation: consent.InHeader, Secrets: consent.SubscriptionSecrets{Token: "planted-webhook-token"},
	}, "test", store.Once{})
	if err != nil {
		t.Fatal(err)
	}
	list, err := st.ActiveSubscriptions(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return list[len(list)-1]
}

func take(t *testing.T, st *store.Store) store.Hold {
	t.Helper()
	h, err := st.Hold(ctx, "node-1", time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func lanes(t *testing.T, st *store.Store, sub store.Registered, h store.Hold, stored bool) []store.Lane {
	t.Helper()
	kinds, list := []store.Waiting{store.WaitingPeople, store.WaitingBulk, store.WaitingBacklog}, []store.Lane{}
	if stored {
		kinds = []store.Waiting{store.WaitingStored}
	}
	for _, kind := range kinds {
		due, _, err := st.Lanes(ctx, store.LaneQuery{Subscription: sub.Number, Held: h, Kind: kind, Now: consent.At(time.Now().Add(24 * time.Hour)), Limit: 100})
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, due...)
	}
	return list
}

func settle(t *testing.T, st *store.Store, list ...store.Settlement) {
	t.Helper()
	if err := st.Settle(ctx, list); err != nil {
		t.Fatal(err)
	}
}

func TestLanes(t *testing.T) {
	storetest.Both(t, func(t *testing.T, st *store.Store) {
		app := storetest.Application(t, st, "northwind").Application
		record(t, st, app, ref("before"), grant("newsletter-email"))
		sub, h := subscribe(t, st, app), take(t, st)
		if l := lanes(t, st, sub, h, false); len(l) != 0 {
			t.Fatalf("a change from before the subscription waits: %v", l)
		}
		one := record(t, st, app, ref("CUST-1"), grant("newsletter-email"))
		two := record(t, st, app, ref("CUST-1"), deny("newsletter-email"))
		l := lanes(t, st, sub, h, false)
		if len(l) != 1 || l[0].Version != two.Version || l[0].Changes != 2 || l[0].ChangedAt > two.Transaction.RecordedAt || l[0].Attempts != 0 {
			t.Fatalf("two changes of one citizen wait as %+v", l)
		}
		epoch := h.Epochs[l[0].Shard]

		// An outcome under an old epoch is refused.
		settle(t, st, store.Settlement{Lane: l[0], Rendered: two.Version, Epoch: epoch - 1, Delivered: true})
		if got := lanes(t, st, sub, h, false); len(got) != 1 {
			t.Fatal("an outcome of a lease that was lost counted")
		}
		// The delivery of an older state does not end the lane.
		settle(t, st, store.Settlement{Lane: l[0], Rendered: one.Version, Epoch: epoch, Delivered: true})
		if got := lanes(t, st, sub, h, false); len(got) != 1 || got[0].Changes != 1 {
			t.Fatalf("after the older state was delivered: %+v", got)
		}
		// A failure with quick attempts left moves the due time.
		later := consent.At(time.Now().Add(time.Hour))
		settle(t, st, store.Settlement{Lane: l[0], Rendered: two.Version, Epoch: epoch, Retry: later, Reason: "503"})
		if got := lanes(t, st, sub, h, false); got[0].Attempts != 1 || got[0].DueAt != later {
			t.Fatalf("after a quick failure: %+v", got)
		}
		// A new change is due at once, with attempts of its own; a stale failure no
		// longer counts.
		three := record(t, st, app, ref("CUST-1"), grant("newsletter-email"))
		settle(t, st, store.Settlement{Lane: l[0], Rendered: two.Version, Epoch: epoch, Retry: later, ToStore: true, Reason: "503"})
		if got := lanes(t, st, sub, h, false); len(got) != 1 || got[0].Attempts != 0 || got[0].DueAt >= later || got[0].Version != three.Version {
			t.Fatalf("after a new change: %+v", got)
		}
		// So does the last attempt of a lane that a new change made young again before
		// the message left.
		old := lanes(t, st, sub, h, false)[0]
		old.Attempts = 2
		settle(t, st, store.Settlement{Lane: old, Rendered: three.Version, Epoch: epoch, Retry: later, ToStore: true, Reason: "503"})
		if got := lanes(t, st, sub, h, false); len(got) != 1 || got[0].Attempts != 1 || got[0].DueAt >= later {
			t.Fatalf("after the last attempt of an older change: %+v", got)
		}
		l[0] = lanes(t, st, sub, h, false)[0]
		// The last quick attempt moves it to the failures store.
		settle(t, st, store.Settlement{Lane: l[0], Rendered: three.Version, Epoch: epoch, Retry: later, ToStore: true, Reason: "503"})
		stored := lanes(t, st, sub, h, true)
		if got := lanes(t, st, sub, h, false); len(got) != 0 || len(stored) != 1 || !stored[0].Stored || stored[0].DueAt != later {
			t.Fatalf("lane %+v, failures store %+v", got, stored)
		}
		if waiting, inStore, err := st.Backlog(ctx); err != nil || waiting != 0 || inStore != 1 {
			t.Fatalf("backlog %d, %d, %v", waiting, inStore, err)
		}
		// A newer full state supersedes what is in the failures store.
		four := record(t, st, app, ref("CUST-1"), deny("newsletter-email"))
		if got := lanes(t, st, sub, h, true); len(got) != 0 {
			t.Fatalf("superseded and still stored: %+v", got)
		}
		settle(t, st, store.Settlement{Lane: l[0], Rendered: four.Version, Epoch: epoch, Delivered: true})
		if got := lanes(t, st, sub, h, false); len(got) != 0 {
			t.Fatalf("delivered and still waiting: %+v", got)
		}
	})
}

func TestPausedSubscriptionsGetNothingNew(t *testing.T) {
	storetest.Both(t, func(t *testing.T, st *store.Store) {
		app := storetest.Application(t, st, "northwind").Application
		sub, h := subscribe(t, st, app), take(t, st)
		record(t, st, app, ref("waits"), grant("newsletter-email"))
		set := func(s consent.SubscriptionStatus) {
			_, err := st.ChangeSubscription(ctx, []int64{app}, sub.ID, "test", func(v *consent.Subscription) error { v.Status = s; return nil })
			if err != nil {
				t.Fatal(err)
			}
		}
		set(consent.Paused)
		record(t, st, app, ref("lost"), grant("newsletter-email"))
		if list, err := st.ActiveSubscriptions(ctx); err != nil || len(list) != 0 {
			t.Fatalf("active while paused: %v, %v", list, err)
		}
		set(consent.Active)
		if got := lanes(t, st, sub, h, false); len(got) != 1 {
			t.Fatalf("after the pause wait %+v, want what waited before alone", got)
		}
		if err := st.DeleteSubscription(ctx, []int64{app}, sub.ID, "test"); err != nil {
			t.Fatal(err)
		}
		if got := lanes(t, st, sub, h, false); len(got) != 0 {
			t.Fatalf("after the deletion wait %+v", got)
		}
	})
}

func TestTimePasses(t *testing.T) {
	storetest.Both(t, func(t *testing.T, st *store.Store) {
		app := storetest.Application(t, st, "northwind").Application
		sub, h := subscribe(t, st, app), take(t, st)
		tx := grant("newsletter-email")
		end := consent.At(time.Now().Add(300 * time.Millisecond))
		tx.Changes[0].ValidUntil = end
		r := record(t, st, app, ref("CUST-1"), tx)
		settle(t, st, store.Settlement{Lane: lanes(t, st, sub, h, false)[0], Rendered: r.Version, Epoch: h.Epochs[lanes(t, st, sub, h, false)[0].Shard], Delivered: true})
		var due []store.Passage
		for len(due) == 0 {
			var err error
			if due, err = st.DuePassages(ctx, 10); err != nil {
				t.Fatal(err)
			}
		}
		if now := consent.At(time.Now()); now < end {
			t.Fatalf("due %v before its time", end-now)
		}
		if err := st.PassAll(ctx, due); err != nil {
			t.Fatal(err)
		}
		if got := lanes(t, st, sub, h, false); len(got) != 1 || got[0].Version <= r.Version {
			t.Fatalf("an expiry makes the lanes %+v", got)
		}
		if got := states(t, st, app, ref("CUST-1")); len(got) != 1 || got["newsletter-email"] != "" {
			t.Fatalf("after the expiry the state is %v, want one entry that ceased", got)
		}
		if due, err := st.DuePassages(ctx, 10); err != nil || len(due) != 0 {
			t.Fatalf("still due: %v, %v", due, err)
		}
		if f := check(t, st); len(f) > 0 {
			t.Fatal(f)
		}
	})
}

// Two nodes share the shards, each shard has one holder, and a dead node's shards
// are taken over with a new epoch after its lease ended, not before.
func TestLeases(t *testing.T) {
	t.Parallel()
	st := storetest.PostgreSQL(t)
	hold := func(node string, ttl time.Duration) store.Hold {
		h, err := st.Hold(ctx, node, ttl)
		if err != nil {
			t.Fatal(err)
		}
		return h
	}
	a := hold("a", 2*time.Second)
	if len(a.Epochs) != 16 || len(a.Excess) != 0 {
		t.Fatalf("a node alone holds %v", a)
	}
	if b := hold("b", 2*time.Second); len(b.Epochs) != 0 {
		t.Fatalf("b took what a holds: %v", b)
	}
	if a = hold("a", 2*time.Second); len(a.Excess) != 8 || a.Covers(a.Excess[0]) {
		t.Fatalf("with two nodes the surplus of a is %v", a.Excess)
	}
	if err := st.Release(ctx, "a", a.Excess, consent.At(time.Now())); err != nil {
		t.Fatal(err)
	}
	b := hold("b", 2*time.Second)
	if len(b.Epochs) != 8 {
		t.Fatalf("b took %d of what a released", len(b.Epochs))
	}
	for shard, epoch := range b.Epochs {
		if epoch <= a.Epochs[shard] {
			t.Fatalf("the epoch of shard %d did not rise", shard)
		}
	}
	// a dies.
	for {
		if b = hold("b", 2*time.Second); len(b.Epochs) == 16 {
			break
		}
		if b.Until > a.Until+consent.Instant(6*time.Second/time.Microsecond) {
			t.Fatal("the shards of a dead node are not taken over")
		}
	}
	for shard, floor := range b.Floors {
		if floor != a.Until {
			t.Fatalf("shard %d may be stamped from %v, but its last holder could stamp until %v", shard, floor, a.Until)
		}
	}
	// b ends well, and the next process need not wait for anything.
	if err := st.Leave(ctx, "b", slices.Collect(maps.Keys(b.Epochs)), consent.At(time.Now())); err != nil {
		t.Fatal(err)
	}
	if c := hold("c", 2*time.Second); len(c.Epochs) != 16 {
		t.Fatalf("after the only node has ended well the next one gets %d shards", len(c.Epochs))
	}
}

func TestTamperingIsFound(t *testing.T) {
	dir := t.TempDir()
	keys := storetest.Keys(t)
	for name, vandalise := range map[string]string{
		"a changed body":    `UPDATE ledger SET body = replace(body, 'DENIED', 'GRANTED') WHERE seq = 2`,
		"a changed time":    `UPDATE ledger SET recorded_at = recorded_at - 1 WHERE seq = 1`,
		"a deleted record":  `DELETE FROM ledger WHERE seq = 1`,
		"a deleted last":    `DELETE FROM ledger WHERE seq = 3`,
		"records exchanged": `UPDATE ledger SET seq = CASE seq WHEN 1 THEN -2 WHEN 2 THEN -1 ELSE seq END; UPDATE ledger SET seq = -seq WHERE seq < 0`,
		"an older state":    `UPDATE citizen_state SET projection = (SELECT projection FROM spare)`,
	} {
		t.Run(name, func(t *testing.T) {
			o := store.Options{Dir: filepath.Join(dir, strings.ReplaceAll(name, " ", "-")), Keys: keys}
			st, err := store.Open(ctx, o)
			if err != nil {
				t.Fatal(err)
			}
			app := storetest.Application(t, st, "northwind").Application
			record(t, st, app, ref("CUST-1"), grant("newsletter-email"))
			run(t, o.Dir, `CREATE TABLE spare AS SELECT projection FROM citizen_state`)
			record(t, st, app, ref("CUST-1"), deny("newsletter-email"))
			record(t, st, app, ref("CUST-1"), grant("newsletter-sms"))
			if f := check(t, st); len(f) > 0 {
				t.Fatal(f)
			}
			run(t, o.Dir, vandalise)
			if f := check(t, st); len(f) == 0 {
				t.Error("not found")
			}
			if err := st.Close(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func run(t *testing.T, dir, statement string) {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(dir, "opencpm.db")+"?_pragma=busy_timeout(10000)")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec(statement); err != nil {
		t.Fatal(err)
	}
}

// What is personal or secret stands nowhere in the files in clear.
func TestSealedAtRest(t *testing.T) {
	dir := t.TempDir()
	st := storetest.Open(t, store.Options{Dir: dir, Keys: storetest.Keys(t)})
	app := storetest.Application(t, st, "northwind").Application
	subscribe(t, st, app)
	if _, err := st.CreateCitizen(ctx, app, "PLANTED-REF", consent.Details{GivenName: "Planted-Name", Email: "planted@example.com"}, "test", store.Once{}); err != nil {
		t.Fatal(err)
	}
	tx := grant("newsletter-email")
	tx.Attribution = consent.Attribution{RecordedBy: "planted-agent", Source: "planted-source"}
	record(t, st, app, ref("PLANTED-REF"), tx)
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	marker := false
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		marker = marker || bytes.Contains(b, []byte("newsletter-email"))
		if i := bytes.Index(bytes.ToLower(b), []byte("planted")); i >= 0 {
			t.Errorf("%s holds %q", filepath.Base(f), b[i:min(len(b), i+24)])
		}
	}
	if !marker {
		t.Error("the test looks at the wrong files: not even the option is there")
	}
}

func TestAnotherKeyIsRefused(t *testing.T) {
	dir := t.TempDir()
	st, err := store.Open(ctx, store.Options{Dir: dir, Keys: storetest.Keys(t)})
	if err != nil {
		t.Fatal(err)
	}
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	if st, err := store.Open(ctx, store.Options{Dir: dir, Keys: storetest.Keys(t)}); err == nil {
		st.Close()
		t.Fatal("opened with keys that do not fit")
	}
}

func TestOneServerPerDirectory(t *testing.T) {
	dir, keys := t.TempDir(), storetest.Keys(t)
	storetest.Open(t, store.Options{Dir: dir, Keys: keys, Exclusive: true})
	if st, err := store.Open(ctx, store.Options{Dir: dir, Keys: keys, Exclusive: true}); err == nil {
		st.Close()
		t.Fatal("a second server opened the directory")
	}
	// The data commands work beside it, and it hears of what they change.
	beside := storetest.Open(t, store.Options{Dir: dir, Keys: keys})
	storetest.Application(t, beside, "northwind")
}

func TestOtherProcessesAreHeard(t *testing.T) {
	for name, options := range map[string]store.Options{
		"SQLite":     {Dir: t.TempDir(), Keys: storetest.Keys(t)},
		"PostgreSQL": {DatabaseURL: storetest.Postgres(t), Keys: storetest.Keys(t)},
	} {
		t.Run(name, func(t *testing.T) {
			server := storetest.Open(t, options)
			beside := storetest.Open(t, options)
			heard, stop := server.SetupChanged()
			defer stop()
			for { // the listener may still be starting
				storetest.Application(t, beside, store.NewID().String())
				select {
				case <-heard:
					return
				case <-time.After(time.Second):
				}
			}
		})
	}
}

func TestCatalogueIsVersioned(t *testing.T) {
	storetest.Both(t, func(t *testing.T, st *store.Store) {
		snap := storetest.Application(t, st, "northwind")
		before, _ := snap.Statement("statement-01")
		if byID, ok := snap.Statement(before.ID); !ok || byID != before {
			t.Fatalf("by id %v, by reference %v", byID, before)
		}
		items, err := snap.Catalogue.Items()
		if err != nil {
			t.Fatal(err)
		}
		i := slices.IndexFunc(items, func(it consent.Item) bool { return it.Kind == consent.KindStatement })
		items[i].Body = []byte(`{"reference":"statement-01","text":"Other words."}`)
		a := store.Application{Number: snap.Application, ID: snap.ApplicationID, Revision: snap.Revision}
		changes := []consent.Revision{{Item: items[i], Position: i}}
		written, err := st.ChangeCatalogue(ctx, a, changes, "test", store.Once{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := st.ChangeCatalogue(ctx, a, changes, "test", store.Once{}); consent.KindOf(err) != consent.Conflict {
			t.Fatalf("a change made for an old revision: %v", err)
		}
		a.Revision++
		next, err := st.Snapshot(ctx, a)
		if err != nil {
			t.Fatal(err)
		}
		after, _ := next.Statement("statement-01")
		if after.ID != before.ID || after.Version != before.Version+1 {
			t.Fatalf("the statement was %+v and is %+v", before, after)
		}
		revisions, err := st.ItemRevisions(ctx, a.Number, consent.KindStatement, "statement-01", 1<<62, 10, 0)
		if err != nil || len(revisions) != 2 || !cmp.Equal(revisions[0], written[0]) || revisions[1].Revision != before.Version {
			t.Fatalf("written %+v, revisions %+v: %v", written, revisions, err)
		}
	})
}
