package e2e_test

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/opencpm/opencpm/test/harness"
)

// explain asks why the state of one option is what it is; more is further query parameters.
func (w *world) explain(t testing.TB, ref, option string, more ...string) object {
	t.Helper()
	a := w.api.do(t, "GET", query("/v1/permissions/explain", append([]string{"applicationId", w.id, "externalRef", ref, "optionId", option}, more...)...), nil).want(t, 200)
	list := a.list(t, "explanations")
	if len(list) != 1 {
		t.Fatalf("%d explanations, want 1: %s", len(list), a.raw)
	}
	return list[0]
}

// fates is what became of each candidate, by the number of the record in ids, and the records that displaced it.
func fates(t testing.TB, explanation object, ids []string) (list []string) {
	t.Helper()
	number := func(id any) string {
		for i, known := range ids {
			if known == id {
				return fmt.Sprint(i)
			}
		}
		if id == nil {
			return "-"
		}
		return fmt.Sprint(id)
	}
	for _, c := range explanation["candidates"].([]any) {
		o := c.(object)
		rule := "-"
		if o["rule"] != nil {
			rule = fmt.Sprint(o["rule"])
		}
		if why, _ := o["why"].(string); !strings.HasSuffix(why, ".") {
			t.Errorf("no sentence says why: %v", o)
		}
		list = append(list, fmt.Sprintf("%s %v %s by %s", number(o["transactionId"]), o["fate"], rule, number(o["by"])))
	}
	return list
}

func TestExplain(t *testing.T) {
	harness.OnEachStore(t, func(t *testing.T, s *harness.Store) {
		w := start(t, s, ledger)
		const day = 24 * time.Hour
		type step struct {
			change object
			with   object
		}
		obtained := func(d time.Duration) object { return object{"obtainedAt": ago(d)} }
		surveys := func(state string, with ...object) object { return change("surveys", "consent", state, with...) }
		for name, c := range map[string]struct {
			option string
			steps  []step
			revert int // which step is undone at last; 0 for none
			fates  []string
			state  string
		}{
			"the latest decides": {
				"surveys",
				[]step{{surveys("GRANTED"), obtained(2 * day)}, {surveys("GRANTED"), obtained(day)}},
				0,
				[]string{"0 superseded 2 by 1", "1 effective 2 by -"},
				"GRANTED",
			},
			"late arrivals stand where they were obtained": {
				"surveys",
				[]step{{surveys("DENIED"), obtained(day)}, {surveys("GRANTED"), obtained(2 * day)}},
				0,
				[]string{"1 dropped 4 by 0", "0 effective 2 by -"},
				"DENIED",
			},
			"a claim is overruled": {
				"research",
				[]step{{change("research", "consent", "DENIED"), obtained(day)}, {change("research", "legitimate-interest", "CLAIMED"), nil}},
				0,
				[]string{"0 effective 2 by -", "1 overruled 5 by 0"},
				"DENIED",
			},
			"PENDING waits": {
				"surveys",
				[]step{{surveys("DENIED"), obtained(day)}, {surveys("PENDING"), nil}},
				0,
				[]string{"0 effective 2 by -", "1 pending 6 by 0"},
				"DENIED",
			},
			"expired and not yet valid": {
				"surveys",
				[]step{
					{surveys("GRANTED", object{"validUntil": ago(day)}), obtained(3 * day)},
					{surveys("GRANTED"), obtained(2 * day)},
					{surveys("DENIED", object{"validFrom": ahead(day)}), nil},
				},
				0,
				[]string{"0 expired 1 by -", "1 effective 2 by -", "2 not-yet-valid 1 by -"},
				"GRANTED",
			},
			"reverted": {
				"surveys",
				[]step{{surveys("GRANTED"), obtained(day)}, {surveys("DENIED"), nil}},
				1,
				[]string{"0 effective 2 by -", "1 reverted - by 2"},
				"GRANTED",
			},
			"by a group": {
				"surveys",
				[]step{{surveys("GRANTED"), obtained(day)}, {group("consent", "DENIED"), nil}},
				0,
				[]string{"0 dropped 4 by 1", "1 effective 2 by -"},
				"DENIED",
			},
			"nothing is left": {
				"surveys",
				[]step{{surveys("GRANTED", object{"validUntil": ago(day)}), obtained(3 * day)}},
				0,
				[]string{"0 expired 1 by -"},
				"",
			},
		} {
			t.Run(name, func(t *testing.T) {
				var ids []string
				for _, s := range c.steps {
					ids = append(ids, w.record(t, name, s.change, s.with).text(t, "transactionId"))
				}
				if c.revert > 0 {
					ids = append(ids, w.revert(t, ids[c.revert]).text(t, "transactionId"))
				}
				x := w.explain(t, name, c.option)
				if diff := cmp.Diff(c.fates, fates(t, x, ids)); diff != "" {
					t.Errorf("fates (-want +got):\n%s", diff)
				}
				current, _ := x["current"].(object)
				if c.state == "" {
					if x["current"] != nil {
						t.Errorf("current is %v, want null", x["current"])
					}
					return
				}
				if current["state"] != c.state {
					t.Errorf("current is %v, want %s", x["current"], c.state)
				}
				want := w.permission(t, name, c.option)
				delete(want, "status")
				if diff := cmp.Diff(want, current); diff != "" {
					t.Errorf("current (-effective state +explained):\n%s", diff)
				}
			})
		}

		t.Run("every option, and the group", func(t *testing.T) {
			w.record(t, "all", group("consent", "GRANTED"))
			w.record(t, "all", change("contract", "contract", "CLAIMED"))
			a := w.api.do(t, "GET", query("/v1/permissions/explain", "applicationId", w.id, "externalRef", "all"), nil).want(t, 200)
			var keys []string
			for _, x := range a.list(t, "explanations") {
				via := dig(x, "candidates.0.group")
				keys = append(keys, fmt.Sprint(x["optionType"], " ", x["optionId"], " ", via))
			}
			if diff := cmp.Diff([]string{"option contract <nil>", "option newsletter all", "option research all", "option surveys all", "group all <nil>"}, keys); diff != "" {
				t.Errorf("explained (-want +got):\n%s", diff)
			}
			w.api.do(t, "GET", query("/v1/permissions/explain", "applicationId", w.id, "externalRef", "all", "optionId", "no-such"), nil).refused(t, 422, "optionId")
			w.api.do(t, "GET", query("/v1/permissions/explain", "applicationId", w.id, "externalRef", "nobody"), nil).want(t, 404)
			w.api.do(t, "GET", query("/v1/permissions/explain", "applicationId", w.id, "externalRef", "all", "asOf", "yesterday"), nil).refused(t, 422, "asOf")
		})

		t.Run("the past", func(t *testing.T) {
			// Granted three days ago, withdrawn a day ago; the withdrawal became known only now, after a claim was made.
			var ids, at []string
			for _, s := range []step{
				{surveys("GRANTED"), obtained(3 * day)}, {surveys("GRANTED"), obtained(2 * day)}, {surveys("DENIED"), obtained(day)},
			} {
				a := w.record(t, "past", s.change, s.with)
				ids, at = append(ids, a.text(t, "transactionId")), append(at, a.text(t, "recordedAt"))
				time.Sleep(2 * time.Millisecond) // knownAt is told in milliseconds
			}
			known := func(i int) []string { return []string{"knownAt", iso(instant(t, at[i]).Add(time.Millisecond))} }
			asOf := func(d time.Duration) []string { return []string{"asOf", ago(d)} }
			for name, c := range map[string]struct {
				more    []string
				fates   []string
				current any // number of the record that decides
			}{
				"now":                             {nil, []string{"0 dropped 4 by 2", "1 dropped 4 by 2", "2 effective 2 by -"}, 2},
				"before the withdrawal":           {asOf(36 * time.Hour), []string{"0 superseded 2 by 1", "1 effective 2 by -", "2 later 2 by -"}, 1},
				"before the second grant":         {asOf(60 * time.Hour), []string{"0 effective 2 by -", "1 later 2 by -", "2 later 2 by -"}, 0},
				"before anything":                 {asOf(4 * day), []string{"0 later 2 by -", "1 later 2 by -", "2 later 2 by -"}, nil},
				"as known before the withdrawal":  {known(1), []string{"0 superseded 2 by 1", "1 effective 2 by -"}, 1},
				"as known after the first record": {known(0), []string{"0 effective 2 by -"}, 0},
				"both": {
					append(asOf(60*time.Hour), known(1)...), []string{"0 effective 2 by -", "1 later 2 by -"}, 0,
				},
			} {
				t.Run(name, func(t *testing.T) {
					x := w.explain(t, "past", "surveys", c.more...)
					if diff := cmp.Diff(c.fates, fates(t, x, ids)); diff != "" {
						t.Errorf("fates (-want +got):\n%s", diff)
					}
					var want any
					if c.current != nil {
						want = ids[c.current.(int)]
					}
					if got := dig(x, "current.transactionId"); got != want {
						t.Errorf("%v decides, want %v", got, want)
					}
				})
			}
			a := w.api.do(t, "GET", query("/v1/permissions/explain", "applicationId", w.id, "externalRef", "past", "asOf", at[0], "knownAt", at[1]), nil).want(t, 200)
			if a.at("asOf") != at[0] || a.at("knownAt") != at[1] {
				t.Errorf("asked for %s and %s, answered %v and %v", at[0], at[1], a.at("asOf"), a.at("knownAt"))
			}
			a = w.api.do(t, "GET", query("/v1/permissions/explain", "applicationId", w.id, "externalRef", "past", "knownAt", ago(day)), nil).want(t, 200)
			if n := len(a.list(t, "explanations")); n != 0 {
				t.Errorf("%d explanations of what was not known", n)
			}
		})
	})
}

var sha256InHex = regexp.MustCompile(`^[0-9a-f]{64}$`)

func TestHistory(t *testing.T) {
	harness.OnEachStore(t, func(t *testing.T, s *harness.Store) {
		w := start(t, s, ledger)
		const ref = "CUST-1"
		documents := object{"privacyPolicyRef": "policy-01", "permissionStatementRef": "statement-01"}
		sent := object{
			"channel": "web", "campaign": "spring", "source": "site", "sourceSystem": "crm", "sourceSystemReference": "4711",
			"recordedBy": "agent-1", "recordedByName": "Zoë", "delegatedAuthorityId": "carer", "delegatedAuthorityName": "Ben",
		}
		first := w.record(t, ref, group("consent", "GRANTED"), documents, sent)
		id := first.text(t, "citizenId")
		second := w.submit(t, ref, []object{chosen("interests", "rock")}, documents)

		// The catalogue goes on: the words of the records before stay as they were.
		catalogue, err := os.ReadFile(ledger)
		if err != nil {
			t.Fatal(err)
		}
		edited := strings.NewReplacer(
			`versions: [{version: "1", url: "https://example.com/privacy/1"}]`, `versions: [{version: "1", url: "https://example.com/privacy/1"}, {version: "2", url: "https://example.com/privacy/2"}]`,
			"We may write to you.", "We may write to you, and call.", "Rock music", "Rock", "options: [newsletter, research, surveys]", "options: [newsletter]",
		).Replace(string(catalogue))
		file := filepath.Join(t.TempDir(), "edited.yaml")
		if err := os.WriteFile(file, []byte(edited), 0o600); err != nil {
			t.Fatal(err)
		}
		s.Do(t, "catalog", "import", "--application", w.id, file)
		eventually(t, harness.Patience, "the server knows the new words", func() bool {
			a := w.submit(t, "other", []object{chosen("interests", "rock")})
			return a.at("submissions.0.choices.0.label") == "Rock"
		})
		third := w.record(t, ref, change("research", "legitimate-interest", "OBJECTED"), documents)
		fourth := w.revert(t, first.text(t, "transactionId"))

		history := func(more ...string) *answer {
			return w.api.do(t, "GET", query("/v1/citizens/"+id+"/history", more...), nil).want(t, 200)
		}
		whole := history()
		list := whole.list(t, "history")
		if len(list) != 4 || whole.at("total") != 4.0 || whole.at("nextCursor") != nil || whole.at("applicationId") != w.id || whole.at("citizenId") != id {
			t.Fatalf("the history: %s", whole.raw)
		}
		hashes := map[any]bool{}
		for i, r := range list {
			if r["seq"] != float64(i+1) || !sha256InHex.MatchString(fmt.Sprint(r["hash"])) || hashes[r["hash"]] {
				t.Errorf("record %d has the place %v and the hash %v", i+1, r["seq"], r["hash"])
			}
			hashes[r["hash"]] = true
		}

		listed := w.transactions(t, "externalRef", ref)
		want := maps.Clone(listed[0])
		for key, v := range sent {
			if want[key] != v {
				t.Errorf("%s is %v, sent %v", key, want[key], v)
			}
		}
		cover := func(option string, until any) object { return object{"optionId": option, "validUntil": until} }
		asGroup := maps.Clone(dig(listed[0], "changes.0").(object))
		asGroup["upheld"], asGroup["covers"] = false, []any{
			cover("newsletter", iso(instant(t, first.at("obtainedAt")).AddDate(2, 0, 0))), cover("research", nil), cover("surveys", nil),
		}
		asGroup["name"], asGroup["purpose"], asGroup["channel"] = "Everything", nil, nil
		want["changes"], want["confirms"] = []any{asGroup}, nil
		if diff := cmp.Diff(want, list[0]["transaction"]); diff != "" {
			t.Errorf("the first record (-list of transactions +history):\n%s", diff)
		}
		submissions := w.api.do(t, "GET", query("/v1/submissions", "applicationId", w.id, "externalRef", ref), nil).want(t, 200)
		if diff := cmp.Diff(submissions.at("submissions.0"), list[1]["submission"]); diff != "" || submissions.at("submissions.0.submissionId") != second.at("submissions.0.submissionId") {
			t.Errorf("the second record (-list of submissions +history):\n%s", diff)
		}
		if got := dig(list[1], "submission.choices.0.label"); got != "Rock music" {
			t.Errorf("the submission was made of %v, want the words of then", got)
		}
		for i, kind := range []string{"transaction", "submission", "transaction", "transaction"} {
			none := map[string]string{"transaction": "submission", "submission": "transaction"}[kind]
			if list[i]["kind"] != kind || list[i][kind] == nil || list[i][none] != nil {
				t.Errorf("record %d is a %v: %v", i+1, list[i]["kind"], list[i])
			}
		}
		if dig(list[2], "transaction.changes.0.state") != "OBJECTED" || dig(list[2], "transaction.changes.0.upheld") != true {
			t.Errorf("the objection is recorded as %v", dig(list[2], "transaction.changes.0"))
		}
		if dig(list[2], "transaction.changes.0.purpose.name") == nil || dig(list[2], "transaction.changes.0.channel.name") == nil {
			t.Errorf("the objection is about nothing that can be named: %v", dig(list[2], "transaction.changes.0"))
		}
		if dig(list[3], "transaction.reverts") != first.at("transactionId") || dig(list[3], "transaction.transactionId") != fourth.at("transactionId") || len(dig(list[3], "transaction.changes").([]any)) != 0 {
			t.Errorf("the reversion is recorded as %v", list[3]["transaction"])
		}

		shown := func(i int, version, url, words string, revision float64) {
			t.Helper()
			policy, statement := dig(list[i], "shown.privacyPolicy"), dig(list[i], "shown.permissionStatement")
			if dig(policy, "reference") != "policy-01" || dig(policy, "version") != version || dig(policy, "url") != url || dig(policy, "revision") != revision || dig(policy, "proven") != false {
				t.Errorf("record %d: the policy %v", i+1, policy)
			}
			if dig(statement, "reference") != "statement-01" || dig(statement, "text.en") != words || dig(statement, "revision") != revision || dig(statement, "proven") != false {
				t.Errorf("record %d: the statement %v", i+1, statement)
			}
		}
		shown(0, "1", "https://example.com/privacy/1", "We may write to you.", 1)
		shown(1, "1", "https://example.com/privacy/1", "We may write to you.", 1)
		shown(2, "2", "https://example.com/privacy/2", "We may write to you, and call.", 2)
		if dig(list[3], "shown.privacyPolicy") != nil || dig(list[3], "shown.permissionStatement") != nil {
			t.Errorf("a reversion for which nothing was shown: %v", list[3]["shown"])
		}
		if _, ok := third.at("changes.0.state").(string); !ok {
			t.Errorf("the objection was answered with %s", third.raw)
		}

		// It never changes afterwards, and pages tell each record once.
		w.api.do(t, "PATCH", "/v1/citizens/"+id, object{"givenName": "Ada"}).want(t, 200)
		var paged []object
		for a := history("limit", "1"); ; a = history("limit", "1", "cursor", a.text(t, "nextCursor")) {
			paged = append(paged, a.list(t, "history")...)
			if a.at("nextCursor") == nil || len(paged) > len(list) {
				break
			}
		}
		if diff := cmp.Diff(list, paged); diff != "" {
			t.Errorf("read in pages (-before +after):\n%s", diff)
		}
		again := w.record(t, ref, change("marker", "consent", "GRANTED"))
		if diff := cmp.Diff(list, history().list(t, "history")[:4]); diff != "" {
			t.Errorf("after another record (-before +after):\n%s", diff)
		}
		if got := history().list(t, "history")[4]; dig(got, "transaction.transactionId") != again.at("transactionId") {
			t.Errorf("the fifth record is %v", got)
		}
		w.api.do(t, "GET", "/v1/citizens/"+neighbour(id)+"/history", nil).want(t, 404)
		w.api.do(t, "DELETE", "/v1/citizens/"+id, nil).want(t, 204)
		w.api.do(t, "GET", "/v1/citizens/"+id+"/history", nil).want(t, 404)
	})
}
