package e2e_test

import (
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/opencpm/opencpm/test/harness"
)

func TestTokenEndpoint(t *testing.T) {
	harness.OnEachStore(t, func(t *testing.T, s *harness.Store) {
		w := start(t, s, northwind)
		api := anonymous(t, w.server)
		ask := func(with ...string) object {
			o := object{"grant_type": "client_credentials", "client_id": w.clientID, "client_secret": w.clientSecret}
			for i := 0; i < len(with); i += 2 {
				o[with[i]] = with[i+1]
				if with[i+1] == "" {
					delete(o, with[i])
				}
			}
			return o
		}
		form := func(o object) url.Values {
			v := url.Values{}
			for name, value := range o {
				v.Set(name, value.(string))
			}
			return v
		}

		for name, body := range map[string]any{
			"JSON":           ask(),
			"form":           form(ask()),
			"audience":       ask("audience", "https://api.consent.eu"),
			"form audience":  form(ask("audience", "https://api.consent.eu")),
			"unknown fields": ask("resource", "x", "organisation", "y"),
		} {
			t.Run(name, func(t *testing.T) {
				a := api.do(t, "POST", "/oauth/token", body).want(t, 200)
				if kind := a.text(t, "token_type"); !strings.EqualFold(kind, "Bearer") {
					t.Errorf("token_type %q", kind)
				}
				if life, _ := a.at("expires_in").(float64); life < 1 || life > 86400 {
					t.Errorf("expires_in %v, want 1 to 86400 s", a.at("expires_in"))
				}
				if cache := a.header.Get("Cache-Control"); !strings.Contains(cache, "no-store") {
					t.Errorf("Cache-Control %q: RFC 6749 §5.1 wants no-store", cache)
				}
				token := a.text(t, "access_token")
				for _, header := range []string{"Bearer " + token, "Bearer: " + token, "bearer " + token} {
					api.with("Authorization", header).do(t, "GET", w.subscriptions(), nil).want(t, 200)
				}
			})
		}

		for name, c := range map[string]struct {
			body   any
			status int
			code   string
		}{
			"no grant type":        {ask("grant_type", ""), 400, "invalid_request"},
			"unknown grant type":   {ask("grant_type", "password"), 400, "unsupported_grant_type"},
			"form, unknown grant":  {form(ask("grant_type", "password")), 400, "unsupported_grant_type"},
			"wrong secret":         {ask("client_secret", "wrong"), 401, "invalid_client"},
			"form, wrong secret":   {form(ask("client_secret", "wrong")), 401, "invalid_client"},
			"unknown client":       {ask("client_id", "nobody"), 401, "invalid_client"},
			"another's secret":     {ask("client_id", otherClient(t, w)), 401, "invalid_client"},
			"secret of wrong type": {object{"grant_type": "client_credentials", "client_id": w.clientID, "client_secret": 5}, 400, "invalid_request"},
			"not JSON":             {`{"grant_type":`, 400, "invalid_request"},
			"empty":                {"", 400, "invalid_request"},
		} {
			t.Run(name, func(t *testing.T) {
				a := api.do(t, "POST", "/oauth/token", c.body)
				// §5.2 lets a server answer invalid_client with 400 or 401; clients look at the code.
				if c.code == "invalid_client" {
					a.want(t, 400, 401)
				} else {
					a.want(t, c.status)
				}
				if code := a.peek("error"); code != c.code {
					t.Errorf("error %q, want %q: %s", code, c.code, a.raw)
				}
				if ct := a.header.Get("Content-Type"); !strings.HasPrefix(ct, "application/json") {
					t.Errorf("Content-Type %q, want application/json as RFC 6749 §5.2 has it", ct)
				}
				if strings.Contains(string(a.raw), w.clientSecret) || a.at("access_token") != nil {
					t.Errorf("the refusal gives something away: %s", a.raw)
				}
			})
		}
		api.do(t, "GET", "/oauth/token", nil).want(t, 405)
	})
}

func otherClient(t testing.TB, w *world) string {
	t.Helper()
	id, _ := newClient(t, w.store, w.id)
	return id
}

func TestAPIKey(t *testing.T) {
	harness.OnEachStore(t, func(t *testing.T, s *harness.Store) {
		w := start(t, s, northwind)
		api := anonymous(t, w.server)
		lasting := newAPIKey(t, s, w.id)
		expiry := time.Now().Add(3 * time.Second).Truncate(time.Second)
		brief := newAPIKey(t, s, w.id, "--expires", expiry.Format(time.RFC3339))
		status := func(key string) int {
			return api.with("X-API-Key", key).do(t, "GET", w.subscriptions(), nil).status
		}

		// Both were made beside the running server, which must know them within a second.
		for name, key := range map[string]string{"without expiry": lasting, "with expiry": brief} {
			eventually(t, time.Second, "the key "+name+" is known", func() bool { return status(key) == 200 })
		}
		if !time.Now().Before(expiry) {
			t.Fatal("the machine is too slow to see the key before its expiry")
		}
		eventually(t, harness.Patience, "the key has expired", func() bool { return status(brief) == 401 })
		if time.Now().Before(expiry) {
			t.Errorf("the key was refused before %v", expiry)
		}
		if got := status(lasting); got != 200 {
			t.Errorf("the key without expiry answers %d", got)
		}
	})
}
