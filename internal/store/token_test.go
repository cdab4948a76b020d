package store_test

import (
	"maps"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/internal/store"
	"github.com/opencpm/opencpm/internal/store/storetest"
)

func holder(t *testing.T, st *store.Store, g store.TokenGrounds) store.TokenHolder {
	t.Helper()
	h, _, err := st.TokenHolder(ctx, g.Citizen, g.Issue)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func TestTokenIssues(t *testing.T) {
	storetest.Both(t, func(t *testing.T, st *store.Store) {
		app, other := storetest.Application(t, st, "northwind").Application, storetest.Application(t, st, "other").Application
		ada, err := st.CreateCitizen(ctx, app, "ada", consent.Details{}, "test", store.Once{})
		if err != nil {
			t.Fatal(err)
		}
		issue := func() store.TokenGrounds {
			t.Helper()
			g, err := st.IssueToken(ctx, app, ref("ada"), "spring", "client-1", 1000)
			if err != nil {
				t.Fatal(err)
			}
			return g
		}
		first, second := issue(), issue()
		if second.Issue <= first.Issue || second.Citizen != first.Citizen || first.Application != app || first.Generation != 0 {
			t.Errorf("grounds %+v and %+v", first, second)
		}
		if got, want := holder(t, st, first), (store.TokenHolder{CitizenID: ada.ID, Application: app}); got != want {
			t.Errorf("held by %+v, want %+v", got, want)
		}

		// Nobody, another citizen of an application that the issue is not of, no issue.
		bob := record(t, st, other, ref("bob"), grant("newsletter-email"))
		theirs, err := st.IssueToken(ctx, other, consent.CitizenKey{ID: bob.CitizenID}, "", "client-2", 1000)
		if err != nil {
			t.Fatal(err)
		}
		for name, g := range map[string]store.TokenGrounds{
			"zeros": {}, "no issue": {Citizen: first.Citizen, Issue: 1 << 40}, "nobody": {Citizen: 1 << 40, Issue: first.Issue},
			"another application's issue": {Citizen: first.Citizen, Issue: theirs.Issue},
		} {
			if got := holder(t, st, g); got != (store.TokenHolder{}) {
				t.Errorf("%s: held by %+v", name, got)
			}
		}
		for name, key := range map[string]consent.CitizenKey{"unknown": ref("nobody"), "of another application": {ID: bob.CitizenID}} {
			if _, err := st.IssueToken(ctx, app, key, "", "client-1", 1000); consent.KindOf(err) != consent.NotFound {
				t.Errorf("a token for a citizen who is %s: %v", name, err)
			}
			if err := st.RevokeTokens(ctx, app, key, "client-1"); consent.KindOf(err) != consent.NotFound {
				t.Errorf("revoking the tokens of a citizen who is %s: %v", name, err)
			}
		}

		// One issue is revoked, by who may, and stays so.
		if err := st.RevokeTokenIssue(ctx, []int64{other}, first.Issue, "client-2"); consent.KindOf(err) != consent.NotFound {
			t.Errorf("revoked by another application: %v", err)
		}
		for range 2 {
			if err := st.RevokeTokenIssue(ctx, []int64{other, app}, first.Issue, "client-1"); err != nil {
				t.Error(err)
			}
		}
		if holder(t, st, first).CitizenID == ada.ID || holder(t, st, second).CitizenID != ada.ID {
			t.Error("not the one issue was revoked, and no other")
		}
		// Then all of the citizen's.
		if err := st.RevokeTokens(ctx, app, ref("ada"), "client-1"); err != nil {
			t.Error(err)
		}
		if third := issue(); third.Generation != 1 || holder(t, st, second).Generation != 1 {
			t.Errorf("of generation %d: %+v", third.Generation, holder(t, st, second))
		}

		list, total, err := st.TokenIssues(ctx, app, 0, 2, 0)
		if err != nil || total != 3 || len(list) != 2 {
			t.Fatalf("%d of %d issues: %v", len(list), total, err)
		}
		rest, _, err := st.TokenIssues(ctx, app, list[1].Number, 2, 0)
		if err != nil || len(rest) != 1 || rest[0].RevokedAt == 0 {
			t.Fatalf("the rest is %+v: %v", rest, err)
		}
		want := store.TokenIssue{Number: first.Issue, Kind: store.SingleToken, CitizenID: ada.ID, Reference: "spring", CreatedBy: "client-1", ExpiresAt: 1000}
		if diff := cmp.Diff(want, rest[0], cmpopts.IgnoreFields(store.TokenIssue{}, "CreatedAt", "RevokedAt")); diff != "" {
			t.Error(diff)
		}

		// What expired long ago is forgotten.
		if err := st.ForgetTokenIssues(ctx); err != nil {
			t.Error(err)
		}
		if _, total, _ := st.TokenIssues(ctx, app, 0, 1, 0); total != 0 {
			t.Errorf("%d issues are still there", total)
		}
		// Of an erased citizen nothing is good any more.
		last := issue()
		if err := st.EraseCitizen(ctx, app, ref("ada"), "test"); err != nil {
			t.Fatal(err)
		}
		if got := holder(t, st, last); got != (store.TokenHolder{}) {
			t.Errorf("held by an erased citizen: %+v", got)
		}
	})
}

func TestSubscriptionsHaveOneTokenIssue(t *testing.T) {
	storetest.Both(t, func(t *testing.T, st *store.Store) {
		app := storetest.Application(t, st, "northwind").Application
		sub, another := subscribe(t, st, app), subscribe(t, st, app)
		ada, bob := record(t, st, app, ref("ada"), grant("newsletter-email")), record(t, st, app, ref("bob"), grant("newsletter-email"))
		var numbers []int64
		for _, id := range []consent.ID{ada.CitizenID, bob.CitizenID} {
			g, err := st.IssueToken(ctx, app, consent.CitizenKey{ID: id}, "", "test", 1000)
			if err != nil {
				t.Fatal(err)
			}
			numbers = append(numbers, g.Citizen)
		}
		if err := st.EraseCitizen(ctx, app, ref("bob"), "test"); err != nil {
			t.Fatal(err)
		}
		grounds := func(sub store.Registered) int64 {
			t.Helper()
			g, err := st.SubscriptionGrounds(ctx, sub, numbers)
			if err != nil {
				t.Fatal(err)
			}
			issue := g[numbers[0]].Issue
			want := map[int64]store.TokenGrounds{numbers[0]: {Issue: issue, Application: app, Citizen: numbers[0]}}
			if issue == 0 || !maps.Equal(g, want) {
				t.Fatalf("grounds %+v, want %+v", g, want)
			}
			return issue
		}
		all := make(chan int64)
		for range 8 { // at once, for the first time
			go func() {
				g, err := st.SubscriptionGrounds(ctx, sub, numbers)
				if err != nil {
					t.Error(err)
				}
				all <- g[numbers[0]].Issue
			}()
		}
		first := <-all
		for range 7 {
			if n := <-all; n != first {
				t.Errorf("issue %d beside %d", n, first)
			}
		}
		if grounds(another) == first {
			t.Error("two subscriptions share an issue")
		}
		if err := st.RevokeTokenIssue(ctx, []int64{app}, first, "test"); err != nil {
			t.Fatal(err)
		}
		if grounds(sub) == first {
			t.Error("tokens are made on a revoked issue")
		}
		list, _, err := st.TokenIssues(ctx, app, first+1, 1, 0)
		if err != nil || len(list) != 1 || list[0].Kind != store.SubscriptionTokens || list[0].SubscriptionID != sub.ID || list[0].CreatedBy != consent.Platform.ID {
			t.Errorf("listed as %+v: %v", list, err)
		}
		// The tokens that are out there outlive the subscription; no new ones are made.
		last := grounds(sub)
		if err := st.DeleteSubscription(ctx, []int64{app}, sub.ID, "test"); err != nil {
			t.Fatal(err)
		}
		if h := holder(t, st, store.TokenGrounds{Citizen: numbers[0], Issue: last}); h.CitizenID != ada.CitizenID {
			t.Errorf("held by %+v once the subscription is deleted", h)
		}
		if _, err := st.SubscriptionGrounds(ctx, sub, numbers); consent.KindOf(err) != consent.NotFound {
			t.Errorf("grounds of a deleted subscription: %v", err)
		}
	})
}
