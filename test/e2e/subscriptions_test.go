package e2e_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/opencpm/opencpm/test/harness"
)

func TestSubscriptions(t *testing.T) {
	harness.OnEachStore(t, func(t *testing.T, s *harness.Store) {
		w := start(t, s, northwind)
		secrets := object{
			"token": "planted-token-0123456789", "refreshToken": "planted-refresh-0123456789", "clientSecret": "planted-secret-0123456789",
		}
		silent := func(t *testing.T, a *answer) *answer {
			t.Helper()
			for name, secret := range secrets {
				if strings.Contains(string(a.raw), secret.(string)) {
					t.Errorf("%s shows %s: %s", a.call, name, a.raw)
				}
			}
			return a
		}
		shown := object{
			"applicationId": w.id, "name": "Mail system", "url": "https://mail.example.com/hooks?tenant=7&x=%2F",
			"updateType": "effective-permission", "status": "paused", "authType": "token", "tokenLocation": "query",
			"tokenName": "api_key", "refreshUrl": "https://id.example.com/token", "clientId": "opencpm",
		}
		read := func(t *testing.T, id string) object {
			t.Helper()
			return silent(t, w.api.do(t, "GET", "/v1/subscriptions/"+id, nil).want(t, 200)).body.(object)
		}

		t.Run("create, read, replace, change, delete", func(t *testing.T) {
			a := silent(t, w.subscribe(t, "", shown, secrets))
			id := a.text(t, "id")
			if diff := lacking(shown, a.body.(object)); diff != "" {
				t.Errorf("created (-sent +answered):\n%s", diff)
			}
			if diff := lacking(shown, read(t, id)); diff != "" {
				t.Errorf("read back (-sent +read):\n%s", diff)
			}

			shown := clone(shown).(object)
			shown["name"], shown["tokenLocation"], shown["tokenName"] = "Mail system 2", "header", "X-Key"
			silent(t, w.api.do(t, "PUT", "/v1/subscriptions/"+id, shown).want(t, 200, 204))
			if diff := lacking(shown, read(t, id)); diff != "" {
				t.Errorf("replaced (-sent +read):\n%s", diff)
			}

			shown["status"] = "active"
			silent(t, w.api.do(t, "PATCH", "/v1/subscriptions/"+id, object{"status": "active"}).want(t, 200, 204))
			if diff := lacking(shown, read(t, id)); diff != "" {
				t.Errorf("changed one field (-want +read):\n%s", diff)
			}

			w.api.do(t, "DELETE", "/v1/subscriptions/"+id, nil).want(t, 200, 204)
			w.api.do(t, "GET", "/v1/subscriptions/"+id, nil).want(t, 404)
			w.api.do(t, "PUT", "/v1/subscriptions/"+id, shown).want(t, 404)
			w.api.do(t, "PATCH", "/v1/subscriptions/"+id, object{"name": "x"}).want(t, 404)
			w.api.do(t, "DELETE", "/v1/subscriptions/"+id, nil).want(t, 404)
			for _, unknown := range []string{neighbour(id), "no-such-subscription"} {
				w.api.do(t, "GET", "/v1/subscriptions/"+unknown, nil).want(t, 404)
			}
			if list := w.api.do(t, "GET", w.subscriptions(), nil).want(t, 200).list(t, "subscriptions"); len(list) != 0 {
				t.Errorf("the list still has %v", list)
			}
		})

		t.Run("list", func(t *testing.T) {
			// Names need not be unique.
			active := w.subscribe(t, "https://a.example.com/", secrets).text(t, "id")
			paused := w.subscribe(t, "https://b.example.com/", secrets, object{"status": "paused"}).text(t, "id")
			for filter, want := range map[string][]string{
				"": {active, paused}, "status active": {active}, "status paused": {paused},
				"updateType effective-permission": {active, paused}, "updateType consent-receipts": nil,
				"status paused updateType effective-permission": {paused},
			} {
				a := silent(t, w.api.do(t, "GET", w.subscriptions(strings.Fields(filter)...), nil).want(t, 200))
				got, expected := map[string]bool{}, map[string]bool{}
				for _, s := range a.list(t, "subscriptions") {
					got[s["id"].(string)] = true
				}
				for _, id := range want {
					expected[id] = true
				}
				if diff := cmp.Diff(expected, got); diff != "" {
					t.Errorf("%q (-want +got):\n%s", filter, diff)
				}
				if a.at("total") != float64(len(want)) {
					t.Errorf("%q: total %v, want %d", filter, a.at("total"), len(want))
				}
			}
		})
	})
}
