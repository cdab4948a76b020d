package api_test

import (
	"encoding/base64"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/opencpm/opencpm/internal/api"
	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/internal/identity"
	"github.com/opencpm/opencpm/internal/store"
)

const form = "Content-Type: application/x-www-form-urlencoded"

func TestAccessTokens(t *testing.T) {
	t.Parallel()
	w := newWorld(t, api.Options{})
	id, secret := w.credential(identity.NewCredential{
		Kind: store.ClientCredential, Name: "CRM", Applications: []string{"northwind"}, Scopes: []consent.Scope{consent.ConsentRead, consent.ConsentWrite},
	})
	basic := "Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(url.QueryEscape(id)+":"+url.QueryEscape(secret)))
	wrongBasic := "Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(id+":wrong"))
	inForm := url.Values{"grant_type": {"client_credentials"}, "client_id": {id}, "client_secret": {secret}, "audience": {"https://vendor.example.com"}, "unknown": {"x", "y"}}
	inJSON := map[string]any{"grant_type": "client_credentials", "client_id": id, "client_secret": secret, "audience": "https://vendor.example.com", "unknown": 5, "scope": nil}

	for name, a := range map[string]reply{
		"JSON":                   w.send("POST", "/oauth/token", inJSON),
		"form":                   w.send("POST", "/oauth/token", inForm.Encode(), form),
		"Basic":                  w.send("POST", "/oauth/token", "grant_type=client_credentials", form, basic),
		"Basic and JSON":         w.send("POST", "/oauth/token", `{"grant_type": "client_credentials"}`, basic),
		"the first value counts": w.send("POST", "/oauth/token", inForm.Encode()+"&grant_type=password", form),
	} {
		if a.StatusCode != http.StatusOK || a.json["token_type"] != "Bearer" || a.json["expires_in"] != 86400.0 || a.json["scope"] != "consent:read consent:write" {
			t.Errorf("%s: %d %s", name, a.StatusCode, a.text)
			continue
		}
		if a.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: the token may be cached", name)
		}
		w.ok(http.StatusNotFound, "GET", permissionsOfNobody, nil, "X-API-Key: ", "Authorization: Bearer "+a.json["access_token"].(string))
	}

	for _, c := range []struct {
		name   string
		reply  reply
		status int
		code   string
	}{
		{"a wrong secret", w.send("POST", "/oauth/token", strings.Replace(inForm.Encode(), secret, "wrong", 1), form), 401, "invalid_client"},
		{"a wrong id", w.send("POST", "/oauth/token", `{"grant_type": "client_credentials", "client_id": "x", "client_secret": "y"}`), 401, "invalid_client"},
		{"an API key", w.send("POST", "/oauth/token", `{"grant_type": "client_credentials", "client_id": "`+id+`", "client_secret": "`+w.key+`"}`), 401, "invalid_client"},
		{"no client", w.send("POST", "/oauth/token", `{"grant_type": "client_credentials"}`), 401, "invalid_client"},
		{"a wrong Basic", w.send("POST", "/oauth/token", inForm.Encode(), form, wrongBasic), 401, "invalid_client"},
		{"another grant", w.send("POST", "/oauth/token", `{"grant_type": "password"}`), 400, "unsupported_grant_type"},
		{"no grant", w.send("POST", "/oauth/token", `{}`), 400, "invalid_request"},
		{"a number", w.send("POST", "/oauth/token", `{"grant_type": "client_credentials", "client_id": 5}`), 400, "invalid_request"},
		{"nonsense", w.send("POST", "/oauth/token", "nonsense"), 400, "invalid_request"},
		{"a broken form", w.send("POST", "/oauth/token", "grant_type=%zz", form), 400, "invalid_request"},
		{"a form that is not UTF-8", w.send("POST", "/oauth/token", "grant_type=%ff", form), 400, "invalid_request"},
		{"an empty body", w.send("POST", "/oauth/token", "", form), 400, "invalid_request"},
		{"XML", w.send("POST", "/oauth/token", "<x/>", "Content-Type: application/xml"), 415, "invalid_request"},
		{"too much", w.send("POST", "/oauth/token", strings.Repeat("x", 1<<20+1), form), 413, "invalid_request"},
	} {
		if c.reply.StatusCode != c.status || c.reply.json["error"] != c.code || c.reply.json["error_description"] == "" || c.reply.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: %d %v %s", c.name, c.reply.StatusCode, c.reply.Header, c.reply.text)
		}
		if challenge := c.reply.Header.Get("WWW-Authenticate"); (challenge == `Basic realm="OpenCPM"`) != (c.status == 401) {
			t.Errorf("%s: the challenge is %q", c.name, challenge)
		}
	}
	if strings.Contains(w.log.String(), secret) || strings.Contains(w.log.String(), w.key) {
		t.Error("a secret is in the log")
	}
}

func TestAudienceIsCheckedWhereItIsSet(t *testing.T) {
	t.Parallel()
	w := newWorld(t, api.Options{TokenAudience: "https://consent.example.com"})
	id, secret := w.credential(identity.NewCredential{Kind: store.ClientCredential, Name: "CRM", Applications: []string{"northwind"}})
	for audience, status := range map[string]int{"https://consent.example.com": 200, "https://vendor.example.com": 400, "": 400} {
		a := w.send("POST", "/oauth/token", map[string]string{"grant_type": "client_credentials", "client_id": id, "client_secret": secret, "audience": audience})
		if a.StatusCode != status || status == 400 && a.json["error"] != "invalid_request" {
			t.Errorf("the audience %q is answered with %d %s", audience, a.StatusCode, a.text)
		}
	}
}
