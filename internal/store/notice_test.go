package store_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/internal/store"
	"github.com/opencpm/opencpm/internal/store/storetest"
)

// What the operator is told of three endpoints, each thing once, and again where it could
// not be passed on.
func TestNotices(t *testing.T) {
	storetest.Both(t, func(t *testing.T, st *store.Store) {
		app := storetest.Application(t, st, "northwind").Application
		var hooks []store.Registered
		for _, name := range []string{"A", "B", "C"} {
			v, err := st.CreateSubscription(t.Context(), consent.Subscription{
				ID: store.NewID(), Application: app, Name: name, URL: "https://crm.example/", UpdateType: consent.EffectivePermission,
				Status: consent.Active, AuthType: consent.AuthNone, TokenLocation: consent.InHeader,
			}, "test", store.Once{})
			if err != nil {
				t.Fatal(err)
			}
			hooks = append(hooks, v)
		}
		count := func(list ...store.Tally) {
			t.Helper()
			if err := st.Count(t.Context(), list); err != nil {
				t.Fatal(err)
			}
		}
		var last []store.Notice
		told := func(failing int64, want ...string) {
			t.Helper()
			var err error
			if last, err = st.Notices(t.Context()); err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, n := range last {
				got = append(got, fmt.Sprint(n.Kind, " ", n.Name))
			}
			if !slices.Equal(got, want) {
				t.Errorf("told %q, want %q", got, want)
			}
			if n, err := st.FailingLong(t.Context()); n != failing || err != nil {
				t.Errorf("%d fail for long, want %d, %v", n, failing, err)
			}
		}
		now := consent.At(time.Now())
		long, short := now.Add(-61*time.Minute), now.Add(-59*time.Minute)
		told(0)
		count(store.Tally{Subscription: hooks[0].Number, Failed: 3, FailingSince: long, LastFailureAt: now, LastReason: "R"},
			store.Tally{Subscription: hooks[1].Number, Failed: 1, FailingSince: short, LastFailureAt: now, LastReason: "R"},
			store.Tally{Subscription: hooks[2].Number, Failed: 1, FailingSince: short, LastFailureAt: now, LastReason: "R", Gone: true})
		told(1, "gone C", "failing A")
		told(1)
		if err := st.Renotice(t.Context(), store.Notice{Registered: hooks[0], Kind: store.NoticeFailing}); err != nil {
			t.Fatal(err)
		}
		told(1, "failing A")
		count(store.Tally{Subscription: hooks[0].Number, Delivered: 1, LastSuccessAt: now + 1}, store.Tally{Subscription: hooks[1].Number, Delivered: 1, LastSuccessAt: now + 1})
		told(0, "recovered A")
		if err := st.Renotice(t.Context(), last[0]); err != nil {
			t.Fatal(err)
		}
		told(0, "recovered A")
		told(0)
	})
}

func TestWaiting(t *testing.T) {
	storetest.Both(t, func(t *testing.T, st *store.Store) {
		app := storetest.Application(t, st, "northwind").Application
		var numbers []int64
		for _, u := range []consent.UpdateType{consent.EffectivePermission, consent.ConsentReceipts} {
			v, err := st.CreateSubscription(t.Context(), consent.Subscription{
				ID: store.NewID(), Application: app, Name: "CRM", URL: "https://crm.example/", UpdateType: u,
				Status: consent.Active, AuthType: consent.AuthNone, TokenLocation: consent.InHeader,
			}, "test", store.Once{})
			if err != nil {
				t.Fatal(err)
			}
			numbers = append(numbers, v.Number)
		}
		for i, ref := range []string{"A", "A", "B"} {
			state := []consent.State{consent.Granted, consent.Denied}[i%2]
			if _, err := st.Record(t.Context(), app, consent.CitizenKey{ExternalRef: ref}, storetest.Transaction("newsletter-email", consent.Consent, state), store.Once{}); err != nil {
				t.Fatal(err)
			}
		}
		for i, want := range []int64{2, 3} { // two citizens, and three receipts
			waits, err := st.Waits(t.Context(), numbers[i])
			if n, more := waits.All(); n != want || more || err != nil {
				t.Errorf("%d wait, more %v, %v; want %d", n, more, err, want)
			}
		}
	})
}
