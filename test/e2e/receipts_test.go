package e2e_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/opencpm/opencpm/test/harness"
)

// transactionsOf is which transactions receipts tell of, one each.
func transactionsOf(messages []harness.Message) (ids []string) {
	for _, m := range messages {
		for _, p := range m.Permissions {
			ids = append(ids, p.TransactionID)
		}
	}
	return ids
}

// sets changes a subscription, which must succeed.
func (w *world) sets(t testing.TB, subscription string, to object) *answer {
	t.Helper()
	return w.api.do(t, "PATCH", "/v1/subscriptions/"+subscription, to).want(t, 200)
}

// TestReceiptsComeOneByOneAndInOrder has a slow endpoint that refuses every fourth receipt once.
func TestReceiptsComeOneByOneAndInOrder(t *testing.T) {
	harness.OnEachStore(t, func(t *testing.T, s *harness.Store) {
		l := listen(t, s, ledger)
		var mu sync.Mutex
		inFlight, tried, accepted := map[string]int{}, map[string]int{}, map[string][]harness.Message{}
		l.receipts.Respond(func(rw http.ResponseWriter, m *harness.Message) {
			mu.Lock()
			inFlight[m.ExternalRef]++
			if inFlight[m.ExternalRef] > 1 {
				t.Errorf("%s is in flight twice", m.ExternalRef)
			}
			tried[m.EventID]++
			refuse := m.Sequence%4 == 0 && tried[m.EventID] == 1
			if !refuse {
				accepted[m.ExternalRef] = append(accepted[m.ExternalRef], *m)
			}
			mu.Unlock()
			time.Sleep(5 * time.Millisecond) // the receiver works
			mu.Lock()
			inFlight[m.ExternalRef]--
			mu.Unlock()
			if refuse {
				rw.WriteHeader(http.StatusInternalServerError)
			}
		})

		const changes = 30
		refs := []string{"one", "two", "three"}
		want := map[string][]string{}
		for i := range changes {
			for _, ref := range refs {
				a := l.record(t, ref, change("surveys", "consent", []string{"GRANTED", "DENIED"}[i%2]))
				want[ref] = append(want[ref], a.text(t, "transactionId"))
			}
		}
		for _, ref := range refs {
			eventually(t, harness.Patience, "all receipts about "+ref, func() bool {
				mu.Lock()
				defer mu.Unlock()
				return len(accepted[ref]) >= changes
			})
			rising(t, accepted[ref])
			if diff := cmp.Diff(want[ref], transactionsOf(accepted[ref])); diff != "" {
				t.Errorf("%s: transactions in the order of their receipts (-recorded +received):\n%s", ref, diff)
			}
			for _, m := range l.receipts.Messages(ref) {
				if raw(t, m)["coalesced"] != float64(1) {
					t.Errorf("a receipt carries several changes: %s", m.Raw)
				}
			}
		}
		l.feedEqualsReceipts(t)
	})
}

// TestReceiptInTheFailuresStore has an endpoint refuse one receipt until its quick attempts are used up.
func TestReceiptInTheFailuresStore(t *testing.T) {
	harness.OnEachStore(t, func(t *testing.T, s *harness.Store) {
		l := listen(t, s, ledger)
		var mu sync.Mutex
		refused := ""
		l.receipts.Respond(func(rw http.ResponseWriter, m *harness.Message) {
			mu.Lock()
			defer mu.Unlock()
			if refused == "" {
				refused = m.EventID // the first that comes
			}
			if m.EventID == refused {
				rw.WriteHeader(http.StatusBadGateway)
			}
		})
		attempts := func() (list []harness.Message) {
			for _, m := range l.receipts.Messages("CUST-1") {
				mu.Lock()
				if m.EventID == refused || refused == "mended" && m.Sequence == 1 {
					list = append(list, m)
				}
				mu.Unlock()
			}
			return list
		}

		l.record(t, "CUST-1", change("surveys", "consent", "GRANTED"))
		eventually(t, harness.Patience, "three quick attempts", func() bool { return len(attempts()) == 3 })
		// Later receipts pass, at once and in order.
		began := time.Now()
		var later []string
		for _, state := range []string{"DENIED", "GRANTED", "DENIED"} {
			later = append(later, l.record(t, "CUST-1", change("surveys", "consent", state)).text(t, "transactionId"))
		}
		var passed []harness.Message
		l.receipts.Await(t, "CUST-1", "the later receipts", func(m []harness.Message) bool {
			mu.Lock()
			defer mu.Unlock()
			passed = slices.DeleteFunc(m, func(m harness.Message) bool { return m.EventID == refused })
			return len(passed) == len(later)
		})
		if took := time.Since(began); took > settled {
			t.Errorf("the later receipts waited %v for the one in the failures store", took)
		}
		rising(t, passed)
		if diff := cmp.Diff(later, transactionsOf(passed)); diff != "" {
			t.Errorf("the later receipts (-recorded +received):\n%s", diff)
		}

		// It is tried again and again as it was, and in the end delivered so.
		eventually(t, harness.Patience, "an attempt from the failures store", func() bool { return len(attempts()) >= 4 })
		mu.Lock()
		refused = "mended"
		mu.Unlock()
		n := len(attempts())
		eventually(t, harness.Patience, "its delivery", func() bool { return len(attempts()) == n+1 })
		all := attempts()
		for i, m := range all {
			if string(m.Raw) != string(all[0].Raw) || m.Header.Get("Webhook-Id") != all[0].EventID {
				t.Errorf("attempt %d differs from the first:\n%s\n%s", i+1, m.Raw, all[0].Raw)
			}
			if i >= 3 && m.At.Sub(all[i-1].At) < retryInterval-50*time.Millisecond {
				t.Errorf("attempt %d came %v after the one before, want %v at least", i+1, m.At.Sub(all[i-1].At), retryInterval)
			}
		}
		if last := all[len(all)-1]; !last.SentAt.Before(passed[0].SentAt) {
			t.Errorf("redelivered with sentAt %v, after a later receipt with %v", last.SentAt, passed[0].SentAt)
		}
		// Who goes by sentAt is not led astray.
		heard := slices.SortedFunc(slices.Values(l.receipts.Messages("CUST-1")), func(a, b harness.Message) int { return a.SentAt.Compare(b.SentAt) })
		if diff := cmp.Diff(l.states(t, "CUST-1"), harness.States(heard[len(heard)-1].Permissions)); diff != "" {
			t.Errorf("the newest receipt by sentAt (-state +receipt):\n%s", diff)
		}
		l.receipts.Quiet(t, "CUST-1", retryInterval+settled) // delivered is delivered
	})
}

func TestReceiptsWhilePaused(t *testing.T) {
	harness.OnEachStore(t, func(t *testing.T, s *harness.Store) {
		l := listen(t, s, ledger)
		l.receipts.Respond(harness.Answer(500))
		stored := l.record(t, "waiting", change("surveys", "consent", "GRANTED"))
		second := l.record(t, "waiting", change("surveys", "consent", "DENIED"))
		l.receipts.AwaitCount(t, "waiting", 6) // both are in the failures store

		before := time.Now()
		a := l.sets(t, l.receiptsID, object{"status": "paused"})
		if at := instant(t, a.at("pausedAt")); at.Sub(before).Abs() > 5*time.Second || a.at("missedChanges") != 0.0 {
			t.Errorf("pausedAt %v, missedChanges %v right after the pause began", at, a.at("missedChanges"))
		}
		seen := len(l.receipts.Messages())
		l.receipts.Respond(harness.Answer(204))
		for range 3 {
			l.record(t, "lost", change("surveys", "consent", "GRANTED"))
		}
		l.submit(t, "waiting", []object{chosen("frequency", "weekly")})
		l.record(t, "waiting", change("surveys", "consent", "GRANTED"), object{"obtainedAt": ago(time.Hour)}) // changes nothing
		l.full.Await(t, "waiting", "four changes", func(list []harness.Message) bool {                        // the other subscription goes on
			told := 0.0
			for _, m := range list {
				told += raw(t, m)["coalesced"].(float64)
			}
			return told >= 4
		})
		l.receipts.Quiet(t, "waiting", retryInterval+settled)
		if n := len(l.receipts.Messages()); n != seen {
			t.Errorf("%d messages while paused", n-seen)
		}
		for _, target := range []string{"/v1/subscriptions/" + l.receiptsID, l.subscriptions("updateType", "consent-receipts")} {
			got := l.api.do(t, "GET", target, nil).want(t, 200)
			o, _ := got.body.(object)
			if list, ok := o["subscriptions"].([]any); ok {
				o = list[0].(object)
			}
			if o["missedChanges"] != 4.0 || o["pausedAt"] != a.at("pausedAt") {
				t.Errorf("%s: missedChanges %v, pausedAt %v, want 4 and %v", target, o["missedChanges"], o["pausedAt"], a.at("pausedAt"))
			}
		}
		if again := l.sets(t, l.receiptsID, object{"name": "CRM 2"}); again.at("pausedAt") != a.at("pausedAt") {
			t.Errorf("another change of the subscription began the pause anew: %s", again.raw)
		}

		resumed := l.sets(t, l.receiptsID, object{"status": "active"})
		if resumed.at("pausedAt") != nil || resumed.at("missedChanges") != nil {
			t.Errorf("active, and pausedAt %v, missedChanges %v", resumed.at("pausedAt"), resumed.at("missedChanges"))
		}
		m := l.receipts.AwaitCount(t, "waiting", 8)
		if diff := cmp.Diff([]string{stored.text(t, "transactionId"), second.text(t, "transactionId")}, transactionsOf(m[6:])); diff != "" {
			t.Errorf("what waited before the pause (-recorded +received):\n%s", diff)
		}
		after := l.record(t, "lost", change("marker", "consent", "GRANTED"))
		if diff := cmp.Diff([]string{after.text(t, "transactionId")}, transactionsOf(l.receipts.AwaitCount(t, "lost", 1))); diff != "" {
			t.Errorf("after the pause (-recorded +received):\n%s", diff)
		}
		l.receipts.Quiet(t, "waiting", settled)
		if n := len(l.receipts.Messages("lost")); n != 1 {
			t.Errorf("%d receipts about one whose changes were made during the pause, want that of the one after it", n)
		}
	})
}

// TestSubscriptionChangesItsType turns one subscription from full states to receipts and back while its endpoint is down:
// what waited comes as it was promised, and what comes later by the new type.
func TestSubscriptionChangesItsType(t *testing.T) {
	harness.OnEachStore(t, func(t *testing.T, s *harness.Store) {
		w, r, id := hooked(t, s, ledger)
		kinds := func(messages []harness.Message) (list []string) {
			for _, m := range messages {
				options := []string{}
				for _, p := range m.Permissions {
					options = append(options, p.OptionID)
				}
				list = append(list, strings.Join(options, "+"))
			}
			return list
		}
		up := func(ref string) (seen int) {
			r.Respond(harness.Answer(204))
			return len(r.Messages(ref))
		}
		// comes requires that of the messages about ref the one after those seen says just this, and is the last.
		comes := func(ref string, seen int, want string) {
			t.Helper()
			r.AwaitCount(t, ref, seen+1)
			r.Quiet(t, ref, settled)
			if diff := cmp.Diff([]string{want}, kinds(r.Messages(ref)[seen:])); diff != "" {
				t.Errorf("%s (-want +got):\n%s", ref, diff)
			}
		}
		grant := func(ref, option string) (seen int) {
			t.Helper()
			seen = len(r.Messages(ref))
			w.record(t, ref, change(option, "consent", "GRANTED"))
			return seen
		}
		down := func(ref, option string) {
			t.Helper()
			r.Respond(harness.Answer(503))
			r.AwaitCount(t, ref, grant(ref, option)+3) // it is in the failures store
		}

		grant("one", "marker")
		r.AwaitCount(t, "one", 1)
		down("one", "surveys")
		if a := w.sets(t, id, object{"updateType": "consent-receipts"}); a.at("updateType") != "consent-receipts" {
			t.Errorf("changed to %s", a.raw)
		}
		comes("one", up("one"), "marker+surveys") // a full state waited
		comes("one", grant("one", "research"), "research")

		down("two", "surveys")
		w.sets(t, id, object{"updateType": "effective-permission"})
		comes("two", up("two"), "surveys") // a receipt waited
		comes("two", grant("two", "research"), "research+surveys")
		for _, m := range r.Messages() {
			body(t, m)
		}

		// Both kinds wait for one citizen: sentAt says which is newer.
		down("three", "surveys")
		w.sets(t, id, object{"updateType": "consent-receipts"})
		w.record(t, "three", change("surveys", "consent", "DENIED"))
		eventually(t, harness.Patience, "the attempts of the receipt", func() bool {
			return slices.ContainsFunc(r.Messages("three"), func(m harness.Message) bool {
				return fmt.Sprint(harness.States(m.Permissions)) == "map[surveys:consent DENIED]"
			})
		})
		n := up("three")
		r.AwaitCount(t, "three", n+2)
		r.Quiet(t, "three", settled)
		newest := slices.MaxFunc(r.Messages("three")[n:], func(a, b harness.Message) int { return a.SentAt.Compare(b.SentAt) })
		if got := harness.States(newest.Permissions)["surveys"]; got != "consent DENIED" {
			t.Errorf("the newest message says %q: %s", got, newest.Raw)
		}
		comes("three", grant("three", "marker"), "marker")
	})
}

// TestReceiptsAndErasure erases a citizen whose receipts wait: they end, and what is told is the erasure.
func TestReceiptsAndErasure(t *testing.T) {
	harness.OnEachStore(t, func(t *testing.T, s *harness.Store) {
		l := listen(t, s, ledger)
		l.receipts.Respond(harness.Answer(500))
		a := l.record(t, "leaving", change("surveys", "consent", "GRANTED"))
		l.record(t, "leaving", change("surveys", "consent", "DENIED"))
		l.receipts.AwaitCount(t, "leaving", 6)
		l.api.do(t, "DELETE", "/v1/citizens/"+a.text(t, "citizenId"), nil).want(t, 204)
		m := l.receipts.Await(t, "leaving", "the erasure", func(m []harness.Message) bool { return m[len(m)-1].EventType == "citizen.deleted" })
		if len(m) > 6+3+2 { // both may have been tried once more before
			t.Errorf("%d messages", len(m))
		}
		l.receipts.Respond(harness.Answer(204))
		n := len(l.receipts.Messages("leaving"))
		last := l.receipts.Await(t, "leaving", "its delivery", func(m []harness.Message) bool { return len(m) > n })
		l.receipts.Quiet(t, "leaving", retryInterval+settled)
		for _, m := range l.receipts.Messages("leaving")[n:] {
			if got := body(t, m); m.EventType != "citizen.deleted" || len(got["permissions"].([]any))+len(got["preferences"].([]any)) != 0 {
				t.Errorf("after the erasure came %s", m.Raw)
			}
		}
		if len(l.receipts.Messages("leaving")) != len(last) {
			t.Errorf("the erasure was told %d times", len(l.receipts.Messages("leaving"))-n)
		}
		l.full.Await(t, "leaving", "the erasure", func(m []harness.Message) bool { return m[len(m)-1].EventType == "citizen.deleted" })
	})
}
