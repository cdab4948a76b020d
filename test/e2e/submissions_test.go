package e2e_test

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/opencpm/opencpm/test/harness"
)

func TestSubmissions(t *testing.T) {
	harness.OnEachStore(t, func(t *testing.T, s *harness.Store) {
		w := start(t, s, ledger)
		current := func(ref string) []object {
			t.Helper()
			a := w.api.do(t, "GET", query("/v1/preferences", "applicationId", w.id, "externalRef", ref), nil).want(t, 200)
			if a.at("applicationId") != w.id || a.at("externalRef") != ref || a.peek("citizenId") == "" {
				t.Errorf("the preferences of %s: %s", ref, a.raw)
			}
			return a.list(t, "preferences")
		}
		history := func(more ...string) *answer {
			t.Helper()
			return w.api.do(t, "GET", query("/v1/submissions", append([]string{"applicationId", w.id}, more...)...), nil).want(t, 200)
		}

		t.Run("recorded, current, in the history", func(t *testing.T) {
			sent := object{
				"channel": "web", "campaign": "spring", "source": "site", "sourceSystem": "crm", "sourceSystemReference": "4711", "recordedBy": "agent-1",
				"recordedByName": "Zoë", "delegatedAuthorityId": "carer", "delegatedAuthorityName": "Ben", "privacyPolicyRef": "policy-01", "permissionStatementRef": "statement-01",
			}
			a := w.submit(t, "CUST-1", []object{chosen("interests", "jazz", "rock"), chosen("frequency", "weekly")}, sent)
			made := a.list(t, "submissions")
			if len(made) != 2 || a.at("externalRef") != "CUST-1" || made[0]["submissionId"] == made[1]["submissionId"] {
				t.Fatalf("answered %s", a.raw)
			}
			want := []object{
				{
					"preference": "frequency", "label": "How often", "choices": []any{object{"reference": "weekly", "label": "Weekly"}},
					"submissionId": made[1]["submissionId"], "updatedAt": made[1]["obtainedAt"],
				},
				{
					"preference": "interests", "label": "Interests", "choices": []any{object{"reference": "jazz", "label": "Jazz"}, object{"reference": "rock", "label": "Rock music"}},
					"submissionId": made[0]["submissionId"], "updatedAt": made[0]["obtainedAt"],
				},
			}
			if diff := cmp.Diff(want, current("CUST-1")); diff != "" {
				t.Errorf("the preferences (-want +got):\n%s", diff)
			}
			for i, m := range made {
				if diff := cmp.Diff(want[1-i], m["current"]); diff != "" || m["effective"] != true {
					t.Errorf("answered (-want +got):\n%s", diff)
				}
			}
			list := history("externalRef", "CUST-1").list(t, "submissions")
			if len(list) != 2 {
				t.Fatalf("%d submissions, want 2", len(list))
			}
			for i, l := range list {
				read := object{"citizenId": a.at("citizenId"), "externalRef": "CUST-1", "recordedClient": w.clientID}
				for key, v := range sent {
					read[key] = v
				}
				for _, key := range []string{"submissionId", "preference", "choices", "recordedAt", "obtainedAt"} {
					read[key] = made[i][key]
				}
				if diff := lacking(read, l); diff != "" {
					t.Errorf("submission %d (-sent +listed):\n%s", i+1, diff)
				}
			}
		})

		t.Run("the latest wins, and nothing chosen is an answer", func(t *testing.T) {
			first := w.submit(t, "latest", []object{chosen("frequency", "weekly")}, object{"obtainedAt": ago(2 * time.Hour)})
			late := w.submit(t, "latest", []object{chosen("frequency", "monthly")}, object{"obtainedAt": ago(3 * time.Hour)})
			if late.at("submissions.0.effective") != false || late.at("submissions.0.current.submissionId") != first.at("submissions.0.submissionId") {
				t.Errorf("an older answer: %s", late.raw)
			}
			if got := dig(current("latest")[0], "choices.0.reference"); got != "weekly" {
				t.Errorf("the preference is %v, want weekly", got)
			}
			w.submit(t, "latest", []object{chosen("frequency")}, object{"obtainedAt": ago(time.Hour)})
			if got := current("latest"); len(got) != 1 || len(got[0]["choices"].([]any)) != 0 {
				t.Errorf("cleared, the preferences are %v", got)
			}
			if n := len(history("externalRef", "latest").list(t, "submissions")); n != 3 {
				t.Errorf("%d submissions in the history, want 3", n)
			}
		})

		t.Run("refused", func(t *testing.T) {
			for name, c := range map[string]struct {
				answers  []object
				with     object
				location string
			}{
				"unknown preference":            {[]object{chosen("no-such", "jazz")}, nil, "body.preferences[0].preference"},
				"unknown choice":                {[]object{chosen("interests", "jazz", "polka")}, nil, "body.preferences[0].choices[1]"},
				"choice of another":             {[]object{chosen("interests", "weekly")}, nil, "body.preferences[0].choices[0]"},
				"two where one may be chosen":   {[]object{chosen("frequency", "weekly", "monthly")}, nil, "body.preferences[0].choices"},
				"one choice twice":              {[]object{chosen("interests", "jazz", "jazz")}, nil, "body.preferences[0].choices[1]"},
				"one preference twice":          {[]object{chosen("interests", "jazz"), chosen("frequency"), chosen("interests", "rock")}, nil, "body.preferences[2].preference"},
				"no choices":                    {[]object{{"preference": "interests"}}, nil, "body.preferences[0].choices"},
				"choices null":                  {[]object{{"preference": "interests", "choices": nil}}, nil, "body.preferences[0].choices"},
				"a choice that is no text":      {[]object{{"preference": "interests", "choices": []any{5}}}, nil, "body.preferences[0].choices[0]"},
				"no preference":                 {[]object{{"choices": []any{}}}, nil, "body.preferences[0].preference"},
				"no answers":                    {[]object{}, nil, "body.preferences"},
				"a right one beside":            {[]object{chosen("interests", "jazz"), chosen("no-such")}, nil, "body.preferences[1].preference"},
				"obtained in the future":        {[]object{chosen("interests", "jazz")}, object{"obtainedAt": ahead(time.Hour)}, "body.obtainedAt"},
				"no such policy":                {[]object{chosen("interests", "jazz")}, object{"privacyPolicyRef": "no-such"}, "body.privacyPolicyRef"},
				"nobody":                        {[]object{chosen("interests", "jazz")}, object{"externalRef": nil}, "body.externalRef"},
				"more answers than preferences": {slices.Repeat([]object{chosen("interests", "jazz")}, 201), nil, "body.preferences"},
			} {
				body := w.answers("refused", c.answers...)
				for k, v := range c.with {
					body[k] = v
				}
				a := w.api.do(t, "POST", "/v1/submissions", body).want(t, 422)
				if !slices.Contains(locations(a), c.location) {
					t.Errorf("%s: no fault at %s in %v", name, c.location, locations(a))
				}
			}
			w.api.do(t, "GET", w.citizenByRef("refused"), nil).want(t, 404) // and nothing was recorded
		})

		t.Run("whose", func(t *testing.T) {
			id := w.citizen(t, "whose")
			if got := current("whose"); len(got) != 0 {
				t.Errorf("never asked, the preferences are %v", got)
			}
			body := w.answers("whose", chosen("interests", "jazz"))
			body["citizenId"] = id
			w.api.do(t, "POST", "/v1/submissions", body).want(t, 200)
			delete(body, "externalRef")
			w.api.do(t, "POST", "/v1/submissions", body).want(t, 200)
			body["externalRef"] = "CUST-1"
			w.api.do(t, "POST", "/v1/submissions", body).refused(t, 422, "externalRef")
			w.api.do(t, "GET", query("/v1/preferences", "applicationId", w.id, "externalRef", "nobody"), nil).want(t, 404)
			w.api.do(t, "GET", query("/v1/preferences", "applicationId", w.id, "citizenId", id, "externalRef", "CUST-1"), nil).refused(t, 422, "externalRef")
			w.api.do(t, "GET", query("/v1/preferences", "applicationId", w.id), nil).refused(t, 422, "externalRef")
			if n := len(history("citizenId", id).list(t, "submissions")); n != 2 {
				t.Errorf("%d submissions, want 2", n)
			}
		})
	})
}

// TestCursors reads every list by cursor and by offset, and refuses cursors that are none of the list.
func TestCursors(t *testing.T) {
	harness.OnEachStore(t, func(t *testing.T, s *harness.Store) {
		w := start(t, s, ledger)
		const n = 7
		var id string
		for range n {
			id = w.record(t, "CUST-1", change("surveys", "consent", "GRANTED")).text(t, "citizenId")
			w.submit(t, "CUST-2", []object{chosen("interests", "jazz")})
			w.record(t, "other-"+long(1+len(w.transactions(t, "externalRef", "CUST-1"))), change("surveys", "consent", "GRANTED"))
			w.subscribe(t, "https://receiver.example.com/", object{"status": "paused"})
		}
		application := []string{"applicationId", w.id}
		lists := map[string]struct {
			target, key string
			base        []string
			offset      bool
		}{
			"transactions":            {"/v1/permissions/transactions", "transactions", application, true},
			"transactions of one":     {"/v1/permissions/transactions", "transactions", append(application, "externalRef", "CUST-1"), true},
			"submissions":             {"/v1/submissions", "submissions", application, true},
			"citizens who changed":    {"/v1/permissions/effective", "citizens", application, true},
			"subscriptions":           {"/v1/subscriptions", "subscriptions", application, true},
			"subscriptions of a type": {"/v1/subscriptions", "subscriptions", append(application, "updateType", "effective-permission"), true},
			"history":                 {"/v1/citizens/" + id + "/history", "history", nil, false},
		}
		cursors := map[string]string{"the feed": w.changesAfter(t, "").text(t, "nextCursor")}
		for name, l := range lists {
			get := func(more ...string) *answer {
				return w.api.do(t, "GET", query(l.target, append(l.base[:len(l.base):len(l.base)], more...)...), nil)
			}
			whole := get("limit", "100").want(t, 200)
			want := whole.list(t, l.key)
			if len(want) < n || whole.at("nextCursor") != nil {
				t.Errorf("%s: %d entries and the cursor %v on a page that holds them all", name, len(want), whole.at("nextCursor"))
			}
			for _, limit := range []string{"1", "3", "7"} {
				var paged []object
				cursor := ""
				for {
					more := []string{"limit", limit}
					if cursor != "" {
						more = append(more, "cursor", cursor)
					}
					a := get(more...).want(t, 200)
					paged = append(paged, a.list(t, l.key)...)
					if cursor = a.peek("nextCursor"); cursor == "" || len(paged) > len(want) {
						break
					}
					cursors[name] = cursor
				}
				if diff := cmp.Diff(want, paged); diff != "" {
					t.Errorf("%s by cursor, %s a page (-whole +paged):\n%s", name, limit, diff)
				}
			}
			if l.offset {
				get("cursor", cursors[name], "offset", "1").refused(t, 422, "offset")
				get("cursor", cursors[name], "offset", "0").want(t, 200)
			}
		}

		// What is added meanwhile neither shifts nor repeats an entry.
		first := w.api.do(t, "GET", query("/v1/permissions/transactions", "applicationId", w.id, "limit", "5"), nil).want(t, 200)
		w.record(t, "meanwhile", change("surveys", "consent", "GRANTED"))
		second := w.api.do(t, "GET", query("/v1/permissions/transactions", "applicationId", w.id, "limit", "100", "cursor", first.text(t, "nextCursor")), nil).want(t, 200)
		if diff := cmp.Diff(w.transactions(t), append(first.list(t, "transactions"), second.list(t, "transactions")...)); diff != "" {
			t.Errorf("in two pages (-whole +paged):\n%s", diff)
		}

		lists["the feed"] = struct {
			target, key string
			base        []string
			offset      bool
		}{"/v1/changes", "changes", application, false}
		for name, l := range lists {
			own := cursors[name]
			wrong := map[string]string{
				"a word": planted, "latest of nothing": "Latest", "too long": long(201), "not UTF-8": "_w", "cut short": own[:len(own)/2], "no base64": own + "!",
			}
			for other, cursor := range cursors {
				if lists[other].target != l.target {
					wrong["that of "+other] = cursor
				}
			}
			for what, cursor := range wrong {
				a := w.api.do(t, "GET", query(l.target, append(l.base[:len(l.base):len(l.base)], "cursor", cursor)...), nil).want(t, 422)
				if diff := cmp.Diff([]string{"query.cursor"}, locations(a)); diff != "" {
					t.Errorf("%s with a cursor that is %s (-want +got):\n%s", name, what, diff)
				}
			}
		}
	})
}
