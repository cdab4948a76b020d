package e2e_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/opencpm/opencpm/test/harness"
)

func TestRulesForEveryCall(t *testing.T) {
	harness.OnEachStore(t, func(t *testing.T, s *harness.Store) {
		w := start(t, s, northwind)
		api := w.api
		granted := change("newsletter-email", "consent", "GRANTED")

		t.Run("paths are cleaned", func(t *testing.T) {
			w.record(t, "cleaned", granted)
			want := api.do(t, "GET", w.permissionsOf("cleaned"), nil).want(t, 200)
			rest := strings.TrimPrefix(w.permissionsOf("cleaned"), "/v1/")
			for _, prefix := range []string{"//v1/", "/v1//", "/v1/./", "/v1/x/../", "///v1///"} {
				got := api.do(t, "GET", prefix+rest, nil).want(t, 200)
				if diff := cmp.Diff(want.body, got.body); diff != "" {
					t.Errorf("%s:\n%s", got.call, diff)
				}
			}
			body := w.transaction("cleaned-post", []object{granted})
			api.do(t, "POST", "//v1/permissions/transactions", body).want(t, 200)
		})

		t.Run("changes may be a single object", func(t *testing.T) {
			body := w.transaction("single", nil, object{"changes": granted})
			a := api.do(t, "POST", "/v1/permissions/transactions", body).want(t, 200)
			if n := len(a.list(t, "changes")); n != 1 {
				t.Errorf("%d changes in the answer, want 1", n)
			}
			if got := w.states(t, "single")["newsletter-email"]; got != "consent GRANTED" {
				t.Errorf("state %q", got)
			}
		})

		t.Run("unknown fields are ignored", func(t *testing.T) {
			extra := object{"x-unknown": object{"deep": []any{1, nil}}, "Unknown": true}
			w.record(t, "extra", change("newsletter-email", "consent", "GRANTED", extra), extra)
			w.citizen(t, "extra-citizen", extra, object{"address": object{"planet": "Earth"}})
			w.subscribe(t, "https://receiver.example.com/", extra)
		})

		t.Run("a read sees the write before it", func(t *testing.T) {
			for i := range 20 {
				state := []string{"GRANTED", "DENIED"}[i%2]
				id := w.record(t, "reader", change("newsletter-email", "consent", state)).text(t, "transactionId")
				if p := w.permission(t, "reader", "newsletter-email"); p["state"] != state || p["transactionId"] != id {
					t.Fatalf("wrote %s in %s, read %v in %v", state, id, p["state"], p["transactionId"])
				}
			}
		})

		t.Run("every answer carries a request id", func(t *testing.T) {
			a, b := api.do(t, "GET", w.subscriptions(), nil), api.do(t, "GET", w.subscriptions(), nil)
			if a.header.Get("X-Request-Id") == b.header.Get("X-Request-Id") {
				t.Errorf("two requests share the id %q", a.header.Get("X-Request-Id"))
			}
			mine := api.with("X-Request-Id", "my-request-4711").do(t, "GET", w.subscriptions(), nil)
			if got := mine.header.Get("X-Request-Id"); got != "my-request-4711" {
				t.Errorf("sent the id my-request-4711, got %q back", got)
			}
			hostile := strings.Repeat("<script>", 500)
			if got := api.with("X-Request-Id", hostile).do(t, "GET", w.subscriptions(), nil); got.header.Get("X-Request-Id") == hostile {
				t.Error("4,000 characters of markup were taken for a request id")
			}
		})

		t.Run("problems", func(t *testing.T) {
			big := fmt.Sprintf(`{"applicationId":%q,"externalRef":"big","familyName":%q}`, w.id, long(1<<20))
			for name, c := range map[string]struct {
				method, target, body, contentType string
				status                            int
			}{
				"unknown path":          {"GET", "/v1/nothing", "", "", 404},
				"unknown path, POST":    {"POST", "/v1/nothing", "{}", "application/json", 404},
				"path of another world": {"GET", "/wp-login.php", "", "", 404},
				"wrong method":          {"DELETE", "/v1/permissions/transactions", "", "", 405},
				"wrong method, PUT":     {"PUT", "/v1/citizens", "{}", "application/json", 405},
				"too large":             {"POST", "/v1/citizens", big, "application/json", 413},
				"not JSON by type":      {"POST", "/v1/citizens", `{}`, "text/plain", 415},
				"XML":                   {"POST", "/v1/permissions/transactions", `<a/>`, "application/xml", 415},
				"cut off":               {"POST", "/v1/citizens", `{"applicationId":`, "application/json", 400},
				"no body":               {"POST", "/v1/citizens", "", "application/json", 400},
				"trailing garbage":      {"POST", "/v1/citizens", `{"applicationId":"a","externalRef":"b"} x`, "application/json", 400},
				"nested without end":    {"POST", "/v1/citizens", strings.Repeat("[", 100_000), "application/json", 400},
			} {
				t.Run(name, func(t *testing.T) {
					caller := api
					if c.contentType != "" {
						caller = api.with("Content-Type", c.contentType)
					}
					a := caller.do(t, c.method, c.target, c.body).want(t, c.status)
					if c.status == 405 && a.header.Get("Allow") == "" {
						t.Error("405 without Allow")
					}
				})
			}
			if a := api.do(t, "GET", w.citizenByRef("big"), nil); a.status != 404 {
				t.Errorf("the citizen of the request that was too large: %d", a.status)
			}
			charset := api.with("Content-Type", "application/json; charset=utf-8")
			charset.do(t, "POST", "/v1/citizens", object{"applicationId": w.id, "externalRef": "charset"}).want(t, 200)
		})

		t.Run("all errors at once, echoing nothing", func(t *testing.T) {
			const private = "Trillian-McMillan-Private"
			body := w.transaction("all-at-once", []object{
				change("newsletter-email", private, "GRANTED"),
				change("newsletter-email", "consent", "GRANTED", object{"validFrom": private}),
			}, object{"obtainedAt": private, "campaign": object{"name": private}})
			a := api.do(t, "POST", "/v1/permissions/transactions", body)
			a.refused(t, 422, "justification", "validFrom", "obtainedAt", "campaign")
			if strings.Contains(string(a.raw), private) {
				t.Errorf("the problem echoes a value: %s", a.raw)
			}
		})
	})
}

func TestApplicationIDMayBeANumber(t *testing.T) {
	harness.OnEachStore(t, func(t *testing.T, s *harness.Store) {
		// The second has more digits than a float64 holds: it is a name, not a quantity.
		ids := []string{"4711", "12345678901234567890"}
		var apps []*application
		for _, id := range ids {
			apps = append(apps, newApplication(t, s, id, northwind))
		}
		server := s.Serve(t)
		for i, app := range apps {
			w := &world{application: app, server: server, api: connect(t, server, app.clientID, app.clientSecret)}
			asNumber := object{"applicationId": json.Number(ids[i])}
			id := w.citizen(t, "by-number", asNumber)
			a := w.api.do(t, "GET", "/v1/citizens/"+id, nil).want(t, 200)
			if got := a.at("applicationDetails.0.applicationId"); got != ids[i] {
				t.Errorf("applicationId reads %v, want the string %q", got, ids[i])
			}
			w.record(t, "by-number", change("newsletter-email", "consent", "GRANTED"), asNumber)
			if got := w.states(t, "by-number")["newsletter-email"]; got != "consent GRANTED" {
				t.Errorf("state %q", got)
			}
			if got := w.subscribe(t, "https://receiver.example.com/", asNumber).at("applicationId"); got != ids[i] {
				t.Errorf("the subscription's applicationId reads %v, want the string %q", got, ids[i])
			}
		}
	})
}

func TestLists(t *testing.T) {
	harness.OnEachStore(t, func(t *testing.T, s *harness.Store) {
		w := start(t, s, northwind)
		const n = 23
		for i := range n {
			w.record(t, fmt.Sprint("citizen-", i%3), change("newsletter-email", "consent", "GRANTED"))
			w.subscribe(t, fmt.Sprintf("https://receiver.example.com/%d", i), object{"status": "paused"})
		}
		for path, key := range map[string]string{"/v1/permissions/transactions": "transactions", "/v1/subscriptions": "subscriptions"} {
			t.Run(key, func(t *testing.T) {
				list := func(more ...string) *answer {
					return w.api.do(t, "GET", query(path, append([]string{"applicationId", w.id}, more...)...), nil)
				}
				for _, c := range []struct {
					limit, offset string
					want          int
				}{
					{"", "", 20},
					{"1", "", 1},
					{"100", "", n},
					{"", "20", n - 20},
					{"10", "20", n - 20},
					{"10", "23", 0},
					{"10", "1000000", 0},
					{"23", "0", n},
				} {
					var more []string
					if c.limit != "" {
						more = append(more, "limit", c.limit)
					}
					if c.offset != "" {
						more = append(more, "offset", c.offset)
					}
					a := list(more...).want(t, 200)
					if got := len(a.list(t, key)); got != c.want {
						t.Errorf("%s: %d elements, want %d", a.call, got, c.want)
					}
					if a.at("total") != float64(n) {
						t.Errorf("%s: total %v, want %d", a.call, a.at("total"), n)
					}
				}
				if a := list("includeTotal", "false").want(t, 200); a.at("total") != nil {
					t.Errorf("includeTotal=false answers total %v", a.at("total"))
				}
				if a := list("includeTotal", "true").want(t, 200); a.at("total") != float64(n) {
					t.Errorf("includeTotal=true answers total %v", a.at("total"))
				}

				// Pages tell each element once.
				seen := map[string]bool{}
				for offset := 0; offset < n; offset += 5 {
					for _, e := range list("limit", "5", "offset", fmt.Sprint(offset)).want(t, 200).list(t, key) {
						text, _ := json.Marshal(e)
						seen[string(text)] = true
					}
				}
				if len(seen) != n {
					t.Errorf("%d elements on pages of 5, want %d", len(seen), n)
				}

				for name, values := range map[string][]string{
					"limit":        {"0", "101", "-1", "ten", "1.5", "99999999999999999999"},
					"offset":       {"-1", "ten", "1.5", "99999999999999999999"},
					"includeTotal": {"perhaps", "2"},
				} {
					for _, value := range values {
						a := list(name, value).want(t, http.StatusBadRequest, http.StatusUnprocessableEntity)
						if !a.locates(name) {
							t.Errorf("%s: no error located at %s: %s", a.call, name, a.raw)
						}
					}
				}
			})
		}
	})
}
