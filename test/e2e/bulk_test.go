package e2e_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/opencpm/opencpm/test/harness"
)

// bulk is the body that creates citizens; with holds further members.
func (w *world) bulk(citizens []object, more ...object) object {
	body := object{"applicationId": w.id, "citizens": citizens}
	for _, o := range more {
		for k, v := range o {
			body[k] = v
		}
	}
	return body
}

// newcomers are n citizens with the first answers of each.
func newcomers(prefix string, n int) []object {
	list := make([]object, n)
	for i := range list {
		list[i] = object{
			"externalRef": fmt.Sprintf("%s-%04d", prefix, i), "givenName": "Ada", "familyName": long(150),
			"changes": []object{change("surveys", "consent", "GRANTED")}, "preferences": []object{chosen("interests", "jazz")},
		}
	}
	return list
}

// locations is where a problem finds faults.
func locations(a *answer) (list []string) {
	faults, _ := a.at("errors").([]any)
	for _, f := range faults {
		list = append(list, fmt.Sprint(dig(f, "location")))
	}
	return list
}

func TestBulkCreation(t *testing.T) {
	harness.OnEachStore(t, func(t *testing.T, s *harness.Store) {
		w := start(t, s, ledger)
		post := func(body object) *answer { return w.api.do(t, "POST", "/v1/citizens/bulk", body) }
		// created counts who is there, by the feed, and all transactions and submissions.
		recorded := func() (total [2]any) {
			for i, path := range []string{"/v1/permissions/transactions", "/v1/submissions"} {
				total[i] = w.api.do(t, "GET", query(path, "applicationId", w.id, "limit", "1"), nil).want(t, 200).at("total")
			}
			return total
		}
		nobody := func(refs ...string) {
			t.Helper()
			for _, ref := range refs {
				w.api.do(t, "GET", w.citizenByRef(ref), nil).want(t, 404)
			}
		}

		t.Run("a thousand", func(t *testing.T) {
			before := recorded()
			list := newcomers("thousand", 1000)
			a := post(w.bulk(list, object{"channel": "import", "obtainedAt": "2026-02-03T04:05:06.789Z"})).want(t, 200)
			made := a.list(t, "citizens")
			if len(made) != len(list) {
				t.Fatalf("%d citizens answered, want %d", len(made), len(list))
			}
			ids := map[any]bool{}
			for i, c := range made {
				if c["externalRef"] != list[i]["externalRef"] || c["transactionId"] == nil || ids[c["citizenId"]] {
					t.Fatalf("citizen %d is answered as %v", i, c)
				}
				ids[c["citizenId"]] = true
			}
			if after := recorded(); after[0] != before[0].(float64)+1000 || after[1] != before[1].(float64)+1000 {
				t.Errorf("recorded %v before and %v after", before, after)
			}
			for _, i := range []int{0, 499, 999} {
				ref := list[i]["externalRef"].(string)
				p := w.permission(t, ref, "surveys")
				if p["transactionId"] != made[i]["transactionId"] || p["channel"] != "import" || p["obtainedAt"] != "2026-02-03T04:05:06.789Z" {
					t.Errorf("%s: %v", ref, p)
				}
				if d := w.details(t, w.api.do(t, "GET", "/v1/citizens/"+made[i]["citizenId"].(string), nil), ref); d["givenName"] != "Ada" {
					t.Errorf("%s: details %v", ref, d)
				}
				if a := w.api.do(t, "GET", query("/v1/preferences", "applicationId", w.id, "externalRef", ref), nil).want(t, 200); a.at("preferences.0.choices.0.reference") != "jazz" {
					t.Errorf("%s: preferences %s", ref, a.raw)
				}
			}
		})

		t.Run("one more, or none", func(t *testing.T) {
			before := recorded()
			post(w.bulk(newcomers("many", 1001))).refused(t, 422, "citizens")
			post(w.bulk([]object{})).refused(t, 422, "citizens")
			post(object{"applicationId": w.id}).refused(t, 422, "citizens")
			if after := recorded(); after != before {
				t.Errorf("recorded %v before and %v after", before, after)
			}
			nobody("many-0000", "many-1000")
		})

		t.Run("too large", func(t *testing.T) {
			list := newcomers("large", 10)
			list[9]["padding"] = strings.Repeat("x", 10<<20)
			post(w.bulk(list)).want(t, 413)
			nobody("large-0000")
		})

		t.Run("each may say its own", func(t *testing.T) {
			a := post(w.bulk([]object{
				{"externalRef": "own-1", "changes": change("surveys", "consent", "DENIED"), "obtainedAt": "2026-01-01T00:00:00.000Z"},
				{"externalRef": "own-2", "changes": []object{group("consent", "GRANTED")}},
				{"externalRef": "own-3", "preferences": []object{chosen("interests"), chosen("frequency", "weekly")}},
				{"externalRef": "own-4", "changes": []object{}, "preferences": nil},
			}, object{"obtainedAt": "2026-02-02T00:00:00.000Z"})).want(t, 200)
			if p := w.permission(t, "own-1", "surveys"); p["obtainedAt"] != "2026-01-01T00:00:00.000Z" {
				t.Errorf("obtained at %v", p["obtainedAt"])
			}
			if p := w.permission(t, "own-2", "research"); p["obtainedAt"] != "2026-02-02T00:00:00.000Z" {
				t.Errorf("obtained at %v", p["obtainedAt"])
			}
			if a.at("citizens.2.transactionId") != nil || a.at("citizens.3.transactionId") != nil {
				t.Errorf("transactions of those who changed nothing: %s", a.raw)
			}
			if n := len(w.api.do(t, "GET", query("/v1/preferences", "applicationId", w.id, "externalRef", "own-3"), nil).list(t, "preferences")); n != 2 {
				t.Errorf("%d preferences, want 2", n)
			}
		})

		t.Run("every conflict is named, and nothing is done", func(t *testing.T) {
			w.citizen(t, "there-1")
			w.citizen(t, "there-2")
			before := recorded()
			list := newcomers("conflict", 5)
			list = slices.Concat(list[:2], []object{{"externalRef": "there-1"}, {"externalRef": "conflict-0000"}}, list[2:],
				[]object{{"externalRef": "there-2", "changes": []object{change("surveys", "consent", "DENIED")}}})
			a := post(w.bulk(list)).want(t, 409)
			want := []string{"body.citizens[2].externalRef", "body.citizens[3].externalRef", "body.citizens[7].externalRef"}
			if diff := cmp.Diff(want, locations(a)); diff != "" {
				t.Errorf("conflicts (-want +got):\n%s", diff)
			}
			if strings.Contains(string(a.raw), "there-") {
				t.Errorf("the problem repeats a reference: %s", a.raw)
			}
			if after := recorded(); after != before {
				t.Errorf("recorded %v before and %v after", before, after)
			}
			nobody("conflict-0000", "conflict-0004")
			if got := w.states(t, "there-2"); len(got) != 0 {
				t.Errorf("one who was there before has %v", got)
			}
		})

		t.Run("every fault is named, and nothing is done", func(t *testing.T) {
			list := newcomers("fault", 6)
			list[1]["changes"] = []object{change("surveys", "consent", "GRANTED"), change("surveys", "consent", "CLAIMED")}
			list[2]["preferences"] = []object{chosen("interests", "polka")}
			list[3]["externalRef"] = ""
			list[4]["obtainedAt"] = "2999-01-01T00:00:00Z"
			list[5]["changes"] = []object{change("no-such", "consent", "GRANTED")}
			a := post(w.bulk(list, object{"privacyPolicyRef": "no-such"})).want(t, 422)
			got := locations(a)
			for _, want := range []string{
				"body.privacyPolicyRef", "body.citizens[1].changes[1].state", "body.citizens[2].preferences[0].choices[0]",
				"body.citizens[3].externalRef", "body.citizens[4].obtainedAt", "body.citizens[5].changes[0].optionId",
			} {
				if !slices.Contains(got, want) {
					t.Errorf("no fault at %s in %v", want, got)
				}
			}
			if len(got) != 6 {
				t.Errorf("%d faults, want 6: %v", len(got), got)
			}
			nobody("fault-0000", "fault-0001", "fault-0005")
		})

		t.Run("needs both scopes", func(t *testing.T) {
			for _, scope := range []string{"citizens:write", "consent:write"} {
				key := newAPIKey(t, s, w.id, "--scope", scope)
				eventually(t, harness.Patience, "the key is known", func() bool {
					return w.api.with("X-API-Key", key).do(t, "POST", "/v1/citizens/bulk", w.bulk(newcomers("scope", 1))).status == 403
				})
			}
			nobody("scope-0000")
		})
	})
}

// TestNewCallsHappenOnce repeats each call that records with its Idempotency-Key.
func TestNewCallsHappenOnce(t *testing.T) {
	harness.OnEachStore(t, func(t *testing.T, s *harness.Store) {
		w := start(t, s, ledger)
		recorded := func() (n int) {
			for _, path := range []string{"/v1/permissions/transactions", "/v1/submissions"} {
				n += int(w.api.do(t, "GET", query(path, "applicationId", w.id, "limit", "1"), nil).want(t, 200).at("total").(float64))
			}
			return n
		}
		granted := w.record(t, "CUST-1", change("surveys", "consent", "GRANTED")).text(t, "transactionId")
		for name, c := range map[string]struct {
			target      string
			body, other object
			records     int
		}{
			"bulk": {
				"/v1/citizens/bulk", w.bulk(newcomers("once", 3)), w.bulk(newcomers("twice", 3)), 6,
			},
			"submissions": {
				"/v1/submissions", w.answers("once", chosen("interests", "jazz"), chosen("frequency")), w.answers("once", chosen("interests", "rock")), 2,
			},
			"reversion": {
				"/v1/permissions/transactions/" + granted + "/reversion", object{"channel": "support"}, object{"channel": "web"}, 1,
			},
		} {
			t.Run(name, func(t *testing.T) {
				once := w.api.with("Idempotency-Key", "key of "+name)
				before := recorded()
				first := once.do(t, "POST", c.target, c.body).want(t, 200)
				again := make(chan *answer, 4)
				for range cap(again) {
					go func() { again <- once.do(t, "POST", c.target, c.body) }()
				}
				for range cap(again) {
					a := <-again
					if diff := cmp.Diff(first.body, a.want(t, 200).body); diff != "" {
						t.Errorf("repeated (-first +again):\n%s", diff)
					}
				}
				if n := recorded() - before; n != c.records {
					t.Errorf("%d records, want %d", n, c.records)
				}
				once.do(t, "POST", c.target, c.other).refused(t, 422, "Idempotency")
				if n := recorded() - before; n != c.records {
					t.Errorf("%d records after another body with the key, want %d", n, c.records)
				}
				w.api.with("Idempotency-Key", long(256)).do(t, "POST", c.target, c.body).want(t, 422)
			})
		}

		t.Run("a refusal is not kept", func(t *testing.T) {
			once := w.api.with("Idempotency-Key", "mended")
			once.do(t, "POST", "/v1/submissions", w.answers("mended", chosen("interests", "polka"))).want(t, 422)
			once.do(t, "POST", "/v1/submissions", w.answers("mended", chosen("interests", "jazz"))).want(t, 200)
		})
	})
}

func TestReversion(t *testing.T) {
	harness.OnEachStore(t, func(t *testing.T, s *harness.Store) {
		w := start(t, s, ledger)
		granted := w.record(t, "CUST-1", change("surveys", "consent", "GRANTED")).text(t, "transactionId")
		denied := w.record(t, "CUST-1", change("surveys", "consent", "DENIED")).text(t, "transactionId")
		target := func(id string) string { return "/v1/permissions/transactions/" + id + "/reversion" }

		a := w.revert(t, denied, object{"channel": "support", "recordedBy": "agent-1", "obtainedAt": ago(0)})
		if a.at("reverts") != denied || a.at("citizenId") == nil || a.at("externalRef") != "CUST-1" {
			t.Errorf("answered %s", a.raw)
		}
		c := a.list(t, "changes")
		if len(c) != 1 || c[0]["optionId"] != "surveys" || c[0]["state"] != "DENIED" || c[0]["effective"] != false || dig(c[0], "current.transactionId") != granted {
			t.Errorf("the changes that were undone: %s", a.raw)
		}
		if got := w.states(t, "CUST-1")["surveys"]; got != "consent GRANTED" {
			t.Errorf("after the reversion: %q", got)
		}
		list := w.transactions(t, "externalRef", "CUST-1")
		if len(list) != 3 || list[2]["transactionId"] != a.at("transactionId") || list[2]["reverts"] != denied || list[2]["recordedBy"] != "agent-1" || list[0]["reverts"] != nil {
			t.Errorf("the history: %v", list)
		}

		w.api.do(t, "POST", target(denied), object{}).want(t, 409)                     // once
		w.api.do(t, "POST", target(a.text(t, "transactionId")), object{}).want(t, 409) // what undoes cannot be undone
		w.api.do(t, "POST", target(neighbour(denied)), object{}).want(t, 404)          // unknown
		w.api.do(t, "POST", target("no-such-transaction"), object{}).want(t, 404)      // no id
		submission := w.submit(t, "CUST-1", []object{chosen("interests")}).text(t, "submissions.0.submissionId")
		w.api.do(t, "POST", target(submission), object{}).want(t, 404) // submissions cannot be reverted
		w.api.do(t, "POST", target(granted), object{"obtainedAt": ahead(year), "privacyPolicyRef": "no-such", "channel": 5}).
			refused(t, 422, "obtainedAt", "privacyPolicyRef", "channel")
		if got := w.states(t, "CUST-1")["surveys"]; got != "consent GRANTED" {
			t.Errorf("after refused reversions: %q", got)
		}

		// The other one, too: nothing is left.
		last := w.revert(t, granted)
		if got := w.states(t, "CUST-1"); len(got) != 0 || dig(last.body, "changes.0.current") != nil {
			t.Errorf("after both reversions: %v, %s", got, last.raw)
		}
		w.record(t, "CUST-1", change("surveys", "consent", "GRANTED"))
		if got := w.states(t, "CUST-1")["surveys"]; got != "consent GRANTED" {
			t.Errorf("granted anew: %q", got)
		}
	})
}
