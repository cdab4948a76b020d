package e2e_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/opencpm/opencpm/test/harness"
)

// recorded reads one member of a transaction in a list: the contract leaves open whether what belongs to the whole
// transaction stands beside its changes or in each of them.
func recorded(transaction object, name string) any {
	if v, ok := transaction[name]; ok {
		return v
	}
	return dig(transaction, "changes.0."+name)
}

func TestTransactionNamesItsCitizen(t *testing.T) {
	harness.OnEachStore(t, func(t *testing.T, s *harness.Store) {
		w := start(t, s, northwind)
		granted := []object{change("newsletter-email", "consent", "GRANTED")}
		post := func(body object) *answer {
			a := w.api.do(t, "POST", "/v1/permissions/transactions", body).want(t, 200)
			for _, name := range []string{"transactionId", "citizenId", "externalRef"} {
				a.text(t, name)
			}
			if !instant(t, a.at("recordedAt")).Equal(instant(t, a.at("obtainedAt"))) {
				t.Errorf("obtainedAt defaults to recordedAt: %s", a.raw)
			}
			return a
		}

		a := post(w.transaction("new", granted))
		id := a.text(t, "citizenId")
		w.details(t, w.api.do(t, "GET", "/v1/citizens/"+id, nil), "new")
		c := a.list(t, "changes")
		if len(c) != 1 || c[0]["optionId"] != "newsletter-email" || c[0]["state"] != "GRANTED" || c[0]["effective"] != true {
			t.Errorf("the answer's changes: %s", a.raw)
		}
		if _, ok := c[0]["current"]; !ok {
			t.Errorf("the answer's change does not say what is current: %s", a.raw)
		}

		body := w.transaction("", granted, object{"citizenId": id})
		delete(body, "externalRef")
		for name, a := range map[string]*answer{
			"citizenId alone": post(body),
			"both":            post(w.transaction("new", granted, object{"citizenId": id})),
		} {
			if a.at("citizenId") != id || a.at("externalRef") != "new" {
				t.Errorf("%s: answered %v %v", name, a.at("citizenId"), a.at("externalRef"))
			}
		}
		if n := len(w.transactions(t, "citizenId", id)); n != 3 {
			t.Errorf("%d transactions of the citizen, want 3: a no-op is evidence too", n)
		}
	})
}

func TestEveryTransactionFieldRoundTrips(t *testing.T) {
	harness.OnEachStore(t, func(t *testing.T, s *harness.Store) {
		w := start(t, s, northwind)
		ids := w.record(t, "ids", change("research-email", "consent", "GRANTED"),
			object{"privacyPolicyRef": "policy-01", "permissionStatementRef": "statement-01"})
		known := w.permission(t, "ids", "research-email")
		policy, statement := known["privacyPolicyId"], known["permissionStatementId"]
		if policy == nil || statement == nil {
			t.Fatalf("no ids for the documents of %s: %v", ids.raw, known)
		}

		sent := object{
			"channel": "Paper form № 7", "campaign": "spring-2026", "source": "Fair in Graz",
			"sourceSystem": "crm-eu-1", "sourceSystemReference": "case/4711#2",
			"recordedBy": "agent-17", "recordedByName": "Zoë Çelik 👩‍💼",
			"delegatedAuthorityId": "carer-3", "delegatedAuthorityName": "Ben O'Brien <ben>",
		}
		obtained, from, until := time.Now().Add(-24*time.Hour), time.Now().Add(-12*time.Hour), time.Now().Add(24*time.Hour)
		for name, documents := range map[string]object{
			"by reference":       {"privacyPolicyRef": "policy-01", "permissionStatementRef": "statement-01"},
			"by id":              {"privacyPolicyId": policy, "permissionStatementId": statement},
			"reference in an id": {"privacyPolicyId": "policy-01", "permissionStatementId": "statement-01"},
		} {
			t.Run(name, func(t *testing.T) {
				vienna := time.FixedZone("CET", 3600)
				a := w.record(t, name,
					change("research-email", "consent", "GRANTED", object{
						"validFrom": from.In(vienna).Format(time.RFC3339Nano), "validUntil": iso(until),
					}),
					sent, documents, object{"obtainedAt": iso(obtained)})

				list := w.transactions(t, "externalRef", name)
				if len(list) != 1 {
					t.Fatalf("%d transactions, want 1", len(list))
				}
				want := object{
					"transactionId": a.at("transactionId"), "citizenId": a.at("citizenId"), "externalRef": name,
					"optionType": "option", "optionId": "research-email", "justification": "consent", "state": "GRANTED",
					"privacyPolicyId": policy, "privacyPolicyRef": "policy-01",
					"permissionStatementId": statement, "permissionStatementRef": "statement-01",
					"recordedClient": w.clientID,
				}
				for n, v := range sent {
					want[n] = v
				}
				times := map[string]time.Time{
					"obtainedAt": obtained, "validFrom": from, "validUntil": until, "recordedAt": instant(t, a.at("recordedAt")),
				}
				permission := w.permission(t, name, "research-email")
				for n, v := range want {
					if got := recorded(list[0], n); got != v {
						t.Errorf("the list tells %s as %v, sent %v", n, got, v)
					}
					// The effective state has the fields of a webhook; the three of the source are the ledger's alone.
					if got := permission[n]; slices.Contains(permissionKeys, n) && got != v {
						t.Errorf("the effective state tells %s as %v, sent %v", n, got, v)
					}
				}
				for n, at := range times {
					for where, got := range map[string]any{"list": recorded(list[0], n), "effective state": permission[n]} {
						if d := instant(t, got).Sub(at); d < -time.Millisecond || d > time.Millisecond {
							t.Errorf("the %s tells %s as %v, want %v", where, n, got, at)
						}
					}
				}
			})
		}
	})
}

func TestLawfulBasisAndState(t *testing.T) {
	harness.OnEachStore(t, func(t *testing.T, s *harness.Store) {
		w := start(t, s, bases)
		allowed := map[string][]string{
			"consent":             {"GRANTED", "DENIED", "PENDING"},
			"legitimate-interest": {"CLAIMED", "OBJECTED", "OBJECTION_UPHELD"},
			"contract":            {"CLAIMED"}, "public-interest": {"CLAIMED"},
			"vital-interest": {"CLAIMED"}, "legal-obligation": {"CLAIMED"},
		}
		states := []string{"GRANTED", "DENIED", "PENDING", "CLAIMED", "OBJECTED", "OBJECTION_UPHELD"}
		for justification, good := range allowed {
			for _, state := range states {
				t.Run(justification+" "+state, func(t *testing.T) {
					ref := justification + state
					// An option that allows this basis alone, and one that allows them all, judge the pair alike.
					for _, option := range []string{justification, "any"} {
						body := w.transaction(ref, []object{change(option, justification, state)})
						a := w.api.do(t, "POST", "/v1/permissions/transactions", body)
						if slices.Contains(good, state) {
							a.want(t, 200)
							want := justification + " " + state
							if state == "OBJECTED" {
								want = justification + " OBJECTION_UPHELD" // nobody reviews objections by hand here
							}
							if got := w.states(t, ref)[option]; got != want {
								t.Errorf("%s: state %q, want %q", option, got, want)
							}
							continue
						}
						a.refused(t, 422)
						if !a.locates("state") && !a.locates("justification") {
							t.Errorf("no location: %s", a.raw)
						}
						if text := string(a.raw); !strings.Contains(text, justification) || !strings.Contains(text, state) {
							t.Errorf("the refusal does not name both %s and %s: %s", justification, state, text)
						}
					}
					if !slices.Contains(good, state) {
						w.api.do(t, "GET", w.citizenByRef(ref), nil).want(t, 404)
					}
				})
			}
			for other, good := range allowed {
				if other == justification {
					continue
				}
				t.Run(justification+" does not allow "+other, func(t *testing.T) {
					ref := justification + other
					body := w.transaction(ref, []object{change(justification, other, good[0])})
					a := w.api.do(t, "POST", "/v1/permissions/transactions", body).refused(t, 422)
					if !a.locates("justification") && !a.locates("optionId") && !a.locates("changes") {
						t.Errorf("no location: %s", a.raw)
					}
					w.api.do(t, "GET", w.citizenByRef(ref), nil).want(t, 404)
				})
			}
		}
	})
}

func TestWhichChangeWins(t *testing.T) {
	harness.OnEachStore(t, func(t *testing.T, s *harness.Store) {
		w := start(t, s, bases)
		obtained := func(at time.Duration) object { return object{"obtainedAt": ago(at)} }
		until := func(at time.Duration) object { return object{"validUntil": ago(at)} }
		type step struct {
			change    object
			with      object
			state     string // the effective state of the option "any" afterwards
			effective bool   // whether this change is the one that made it so
			warned    bool   // whether the answer carries a warning
		}
		const day = 24 * time.Hour
		consent := func(state string, with ...object) object { return change("any", "consent", state, with...) }
		interest := func(state string, with ...object) object { return change("any", "legitimate-interest", state, with...) }

		for name, steps := range map[string][]step{
			"the latest wins": {
				{change: consent("GRANTED"), state: "consent GRANTED", effective: true},
				{change: consent("DENIED"), state: "consent DENIED", effective: true},
				{change: consent("GRANTED"), state: "consent GRANTED", effective: true},
			},
			"a late import does not overturn a newer withdrawal": {
				{change: consent("DENIED"), with: obtained(day), state: "consent DENIED", effective: true},
				{change: consent("GRANTED"), with: obtained(2 * year), state: "consent DENIED"},
				{change: consent("GRANTED"), with: obtained(day + time.Minute), state: "consent DENIED"},
				{change: consent("GRANTED"), with: obtained(day - time.Minute), state: "consent GRANTED", effective: true},
			},
			"a fast clock does not beat the next withdrawal": {
				{change: consent("GRANTED"), with: object{"obtainedAt": ahead(4 * time.Minute)}, state: "consent GRANTED", effective: true},
				{change: consent("DENIED"), state: "consent DENIED", effective: true},
			},
			"an expired grant was never effective": {
				{change: consent("GRANTED", until(day)), with: obtained(2 * day), state: ""},
			},
			"an expired grant lets an older one speak": {
				{change: consent("GRANTED"), with: obtained(30 * day), state: "consent GRANTED", effective: true},
				{change: consent("GRANTED", until(day)), with: obtained(10 * day), state: "consent GRANTED"},
			},
			"a refusal drops what was obtained before it": {
				{change: consent("GRANTED"), with: obtained(30 * day), state: "consent GRANTED", effective: true},
				{change: consent("DENIED"), with: obtained(20 * day), state: "consent DENIED", effective: true},
				{change: consent("GRANTED", until(day)), with: obtained(10 * day), state: "consent DENIED"},
			},
			"DENIED has no end": {
				{change: consent("GRANTED"), with: obtained(30 * day), state: "consent GRANTED", effective: true},
				{change: consent("DENIED", until(day)), with: obtained(20 * day), state: "consent DENIED", effective: true, warned: true},
			},
			"OBJECTED has no end": {
				{change: interest("OBJECTED", until(day)), with: obtained(20 * day), state: "legitimate-interest OBJECTION_UPHELD", effective: true, warned: true},
			},
			"OBJECTION_UPHELD has no end": {
				{change: interest("OBJECTION_UPHELD", until(day)), with: obtained(20 * day), state: "legitimate-interest OBJECTION_UPHELD", effective: true, warned: true},
			},
			"a claim does not undo an objection": {
				{change: interest("CLAIMED"), state: "legitimate-interest CLAIMED", effective: true},
				{change: interest("OBJECTED"), state: "legitimate-interest OBJECTION_UPHELD", effective: true},
				{change: interest("CLAIMED"), state: "legitimate-interest OBJECTION_UPHELD"},
				{change: change("any", "contract", "CLAIMED"), state: "legitimate-interest OBJECTION_UPHELD"},
				{change: consent("GRANTED"), state: "consent GRANTED", effective: true},
			},
			"a claim does not turn a refusal into a legitimate interest": {
				{change: consent("DENIED"), state: "consent DENIED", effective: true},
				{change: interest("CLAIMED"), state: "consent DENIED"},
				{change: consent("GRANTED"), state: "consent GRANTED", effective: true},
			},
			"the same again is evidence": {
				{change: consent("GRANTED"), state: "consent GRANTED", effective: true},
				{change: consent("GRANTED"), state: "consent GRANTED", effective: true},
			},
		} {
			t.Run(name, func(t *testing.T) {
				var winner any
				for i, step := range steps {
					a := w.record(t, name, step.change, step.with)
					if got := w.states(t, name)["any"]; got != step.state {
						t.Fatalf("step %d: state %q, want %q", i+1, got, step.state)
					}
					if got := a.at("changes.0.effective"); got != step.effective {
						t.Errorf("step %d: effective %v, want %v", i+1, got, step.effective)
					}
					if warnings, _ := a.at("warnings").([]any); len(warnings) > 0 != step.warned {
						t.Errorf("step %d: warnings %v, want some: %v", i+1, a.at("warnings"), step.warned)
					}
					if step.effective {
						winner = a.at("transactionId")
					}
					if step.state == "" {
						continue
					}
					if p := w.permission(t, name, "any"); p["transactionId"] != winner {
						t.Errorf("step %d: the state comes from transaction %v, want %v", i+1, p["transactionId"], winner)
					}
				}
				if n := len(w.transactions(t, "externalRef", name)); n != len(steps) {
					t.Errorf("%d transactions in the history, want %d", n, len(steps))
				}
			})
		}

		t.Run("obtained in the future", func(t *testing.T) {
			body := w.transaction("future", []object{consent("GRANTED")}, object{"obtainedAt": ahead(6 * time.Minute)})
			w.api.do(t, "POST", "/v1/permissions/transactions", body).refused(t, 422, "obtainedAt")
			w.api.do(t, "GET", w.citizenByRef("future"), nil).want(t, 404)
		})

		t.Run("a window that ends before it begins", func(t *testing.T) {
			window := object{"validFrom": ahead(2 * time.Hour), "validUntil": ahead(time.Hour)}
			body := w.transaction("window", []object{consent("GRANTED", window)})
			a := w.api.do(t, "POST", "/v1/permissions/transactions", body).want(t, 422)
			if !a.locates("validUntil") && !a.locates("validFrom") {
				t.Errorf("no location: %s", a.raw)
			}
		})

		t.Run("several changes", func(t *testing.T) {
			body := w.transaction("several", []object{consent("GRANTED"), change("contract", "contract", "CLAIMED")})
			id := w.api.do(t, "POST", "/v1/permissions/transactions", body).want(t, 200).text(t, "transactionId")
			want := map[string]string{"any": "consent GRANTED", "contract": "contract CLAIMED"}
			if diff := cmp.Diff(want, w.states(t, "several")); diff != "" {
				t.Error(diff)
			}
			for option := range want {
				if p := w.permission(t, "several", option); p["transactionId"] != id {
					t.Errorf("%s comes from %v, want %s", option, p["transactionId"], id)
				}
			}
			if diff := cmp.Diff(map[string]string{"any": "consent GRANTED"}, w.states(t, "several", "optionId", "any")); diff != "" {
				t.Errorf("asked for one option:\n%s", diff)
			}
			// One bad change refuses them all.
			body["changes"] = []object{consent("DENIED"), change("contract", "contract", "GRANTED")}
			w.api.do(t, "POST", "/v1/permissions/transactions", body).refused(t, 422)
			if diff := cmp.Diff(want, w.states(t, "several")); diff != "" {
				t.Errorf("the refused transaction applied in part:\n%s", diff)
			}
		})
	})
}

func TestTimeAloneChangesTheState(t *testing.T) {
	harness.OnEachStore(t, func(t *testing.T, s *harness.Store) {
		w := start(t, s, bases)
		soon := time.Now().Add(3 * time.Second)
		begins, ends := object{"validFrom": iso(soon)}, object{"validUntil": iso(soon)}
		w.record(t, "begins", change("any", "consent", "GRANTED", begins))
		w.record(t, "ends", change("any", "consent", "GRANTED", ends))
		older := w.record(t, "falls back", change("any", "consent", "GRANTED"), object{"obtainedAt": ago(time.Hour)})
		w.record(t, "falls back", change("any", "consent", "GRANTED", ends))

		before := [2]map[string]string{w.states(t, "begins"), w.states(t, "ends")}
		if !time.Now().Before(soon) {
			t.Fatal("the machine is too slow to look before the instant")
		}
		if before[0]["any"] != "" || before[1]["any"] != "consent GRANTED" {
			t.Errorf("before the instant: %v", before)
		}
		// A read never waits: at the instant itself the answer is the new one.
		time.Sleep(time.Until(soon.Add(2 * time.Millisecond)))
		if got := w.states(t, "begins")["any"]; got != "consent GRANTED" {
			t.Errorf("validFrom is reached: %q", got)
		}
		if got := w.states(t, "ends")["any"]; got != "" {
			t.Errorf("validUntil has passed: %q", got)
		}
		if p := w.permission(t, "falls back", "any"); p["state"] != "GRANTED" || p["transactionId"] != older.at("transactionId") {
			t.Errorf("the older grant does not speak again: %v", p)
		}

		latest := w.api.do(t, "GET", w.permissionsOf("ends", "expiry", "latest"), nil).want(t, 200).list(t, "permissions")
		if len(latest) != 1 || latest[0]["status"] != "expired" {
			t.Errorf("expiry=latest lists %v, want the expired grant with status expired", latest)
		}
		if got := w.states(t, "ends", "expiry", "effective")["any"]; got != "" {
			t.Errorf("expiry=effective lists %q", got)
		}
	})
}

func TestPermissionsInARange(t *testing.T) {
	harness.OnEachStore(t, func(t *testing.T, s *harness.Store) {
		w := start(t, s, bases)
		// Valid from two hours ago to two hours ahead.
		window := object{"validFrom": ago(2 * time.Hour), "validUntil": ahead(2 * time.Hour)}
		w.record(t, "range", change("any", "consent", "GRANTED", window), object{"obtainedAt": ago(3 * time.Hour)})
		for _, c := range []struct {
			start, end string
			listed     bool
		}{
			{"", "", true},
			{ago(time.Hour), "", true},
			{ago(150 * time.Minute), "", false},
			{"", ahead(time.Hour), true},
			{"", ahead(3 * time.Hour), false},
			{ago(time.Hour), ahead(time.Hour), true},
			{ago(150 * time.Minute), ahead(time.Hour), false},
			{ago(time.Hour), ahead(3 * time.Hour), false},
			{ago(150 * time.Minute), ahead(3 * time.Hour), false},
		} {
			var more []string
			if c.start != "" {
				more = append(more, "validStart", c.start)
			}
			if c.end != "" {
				more = append(more, "validEnd", c.end)
			}
			if got := w.states(t, "range", more...)["any"] != ""; got != c.listed {
				t.Errorf("start %q, end %q: listed %v, want %v", c.start, c.end, got, c.listed)
			}
		}
	})
}

func TestDefaultValidity(t *testing.T) {
	harness.OnEachStore(t, func(t *testing.T, s *harness.Store) {
		w := start(t, s, northwind) // newsletter-email: consent is valid for P2Y
		w.record(t, "default", change("newsletter-email", "consent", "GRANTED"))
		p := w.permission(t, "default", "newsletter-email")
		if want, got := instant(t, p["obtainedAt"]).AddDate(2, 0, 0), instant(t, p["validUntil"]); !got.Equal(want) {
			t.Errorf("valid until %v, want %v", got, want)
		}
		own := ahead(time.Hour)
		w.record(t, "own", change("newsletter-email", "consent", "GRANTED", object{"validUntil": own}))
		if got := instant(t, w.permission(t, "own", "newsletter-email")["validUntil"]); !got.Equal(instant(t, own)) {
			t.Errorf("valid until %v, sent %v", got, own)
		}
		w.record(t, "refusal", change("newsletter-email", "consent", "DENIED"))
		if got := w.permission(t, "refusal", "newsletter-email")["validUntil"]; got != nil {
			t.Errorf("a refusal ends at %v; default validity is not for refusals", got)
		}
		w.record(t, "none", change("research-email", "consent", "GRANTED"))
		if got := w.permission(t, "none", "research-email")["validUntil"]; got != nil {
			t.Errorf("an option without default validity ends at %v", got)
		}
	})
}

func TestTransactionListFilters(t *testing.T) {
	harness.OnEachStore(t, func(t *testing.T, s *harness.Store) {
		w := start(t, s, northwind)
		var ids, at []string
		for i, ref := range []string{"a", "b", "a", "c", "a"} {
			var a *answer
			// Two instants that print alike could not be told apart by a filter.
			eventually(t, harness.Patience, "the clock moves on", func() bool {
				return len(at) == 0 || time.Since(instant(t, at[len(at)-1])) > 2*time.Millisecond
			})
			// Late imports: what was obtained first is recorded last, and the list goes by recordedAt.
			a = w.record(t, ref, change("newsletter-email", "consent", "GRANTED"),
				object{"obtainedAt": ago(time.Duration(i+1) * time.Hour)})
			ids, at = append(ids, a.text(t, "transactionId")), append(at, a.text(t, "recordedAt"))
		}
		citizen := w.api.do(t, "GET", w.citizenByRef("a"), nil).want(t, 200).text(t, "citizenId")
		for name, c := range map[string]struct {
			filter []string
			want   []int
		}{
			"all, ascending":       {nil, []int{0, 1, 2, 3, 4}},
			"since is inclusive":   {[]string{"since", at[2]}, []int{2, 3, 4}},
			"before is exclusive":  {[]string{"before", at[2]}, []int{0, 1}},
			"since and before":     {[]string{"since", at[1], "before", at[4]}, []int{1, 2, 3}},
			"nothing between":      {[]string{"since", at[3], "before", at[3]}, nil},
			"future":               {[]string{"since", ahead(time.Hour)}, nil},
			"citizenId":            {[]string{"citizenId", citizen}, []int{0, 2, 4}},
			"externalRef":          {[]string{"externalRef", "a"}, []int{0, 2, 4}},
			"both":                 {[]string{"externalRef", "a", "citizenId", citizen}, []int{0, 2, 4}},
			"externalRef and time": {[]string{"externalRef", "a", "since", at[1], "before", at[4]}, []int{2}},
			"a page":               {[]string{"limit", "2", "offset", "1"}, []int{1, 2}},
			"a page of one":        {[]string{"externalRef", "a", "limit", "1", "offset", "2"}, []int{4}},
		} {
			var want, got []string
			for _, i := range c.want {
				want = append(want, ids[i])
			}
			for _, transaction := range w.transactions(t, c.filter...) {
				got = append(got, fmt.Sprint(transaction["transactionId"]))
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", name, diff)
			}
		}
	})
}
