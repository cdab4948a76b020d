package api_test

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/opencpm/opencpm/internal/api"
	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/internal/identity"
	"github.com/opencpm/opencpm/internal/store"
)

const (
	longSecret  = "planted-secret-0123456789"
	shortSecret = "planted-15-char"
)

// subscribed is the read form of a subscription with its defaults.
func subscribed(a reply, differs map[string]any) map[string]any {
	all := map[string]any{
		"id": a.json["id"], "applicationId": "northwind", "name": "CRM", "url": "https://crm.example.com/hook", "updateType": "effective-permission", "status": "active",
		"authType": "none", "tokenLast4": nil, "tokenLocation": "header", "tokenName": nil, "refreshTokenLast4": nil, "refreshUrl": nil, "clientId": nil, "clientSecretLast4": nil,
		"tokenUrl": nil, "scope": nil, "signingSecretLast4": a.json["signingSecretLast4"], "previousSigningSecretUntil": nil, "retryPolicy": "adaptive", "format": "plain", "messagePerChange": false, "strictOrder": false, "onlyOnStateChange": false,
		"ignoreClients": []any{}, "filter": map[string]any{"options": []any{}, "channels": []any{}, "preferences": []any{}}, "includeCitizenToken": false,
		"citizenTokenValidity": "P30D", "timeoutSeconds": nil, "headerNames": []any{},
		"createdAt": a.json["createdAt"], "updatedAt": a.json["updatedAt"], "pausedAt": nil, "missedChanges": nil,
	}
	if _, made := a.json["signingSecret"]; made { // it was created
		all["signingSecret"] = a.json["signingSecret"]
	}
	maps.Copy(all, differs)
	state := "healthy"
	if all["status"] == "paused" {
		state = "paused"
	}
	all["endpoint"] = map[string]any{
		"state": state, "failingSince": nil, "downSince": nil, "nextProbeAt": nil, "waitUntil": nil, "goneAt": nil, "lastSuccessAt": nil, "lastFailureAt": nil, "lastReason": nil,
		"delivered": 0.0, "failed": 0.0,
	}
	for _, watched := range []string{"waiting", "latency"} { // where one is read
		if v, ok := a.json[watched]; ok {
			all[watched] = v
		}
	}
	if since, ok := a.json["pausedAt"].(string); all["status"] == "paused" && ok && since >= a.json["createdAt"].(string) {
		all["pausedAt"], all["missedChanges"] = since, 0.0
	}
	return all
}

func (w *world) expectSubscription(a reply, differs map[string]any) {
	w.tb.Helper()
	if diff := cmp.Diff(subscribed(a, differs), a.json); diff != "" {
		w.tb.Errorf("the subscription (-want +got):\n%s", diff)
	}
	if strings.Contains(a.text, "planted") {
		w.tb.Errorf("a secret is answered: %s", a.text)
	}
}

func TestSubscriptionFromCreationToDeletion(t *testing.T) {
	t.Parallel()
	w := newWorld(t, api.Options{})
	bare := `{"applicationId": "northwind", "name": "CRM", "url": "https://crm.example.com/hook", "token": null, "status": null, "tokenLocation": null}`
	w.expectSubscription(w.ok(http.StatusCreated, "POST", "/v1/subscriptions", bare), nil)

	full := map[string]any{
		"applicationId": "northwind", "name": "CRM", "url": "https://crm.example.com/hook", "updateType": "effective-permission", "status": "paused", "authType": "token", "token": longSecret,
		"tokenLocation": "query", "tokenName": "key", "refreshToken": shortSecret, "refreshUrl": "https://crm.example.com/refresh", "clientId": "me", "clientSecret": longSecret,
	}
	created := w.ok(http.StatusCreated, "POST", "/v1/subscriptions", full)
	settings := map[string]any{
		"status": "paused", "authType": "token", "tokenLast4": "6789", "tokenLocation": "query", "tokenName": "key",
		"refreshUrl": "https://crm.example.com/refresh", "clientId": "me", "clientSecretLast4": "6789",
	}
	w.expectSubscription(created, settings)
	at := "/v1/subscriptions/" + created.json["id"].(string)
	w.expectSubscription(w.ok(http.StatusOK, "GET", at, nil), settings)

	options := map[string]any{
		"retryPolicy": "hourly", "format": "cloudevents", "messagePerChange": true, "strictOrder": true, "onlyOnStateChange": true, "ignoreClients": []any{"crm"},
		"filter": map[string]any{"options": []any{"newsletter-email"}, "channels": []any{"email"}, "preferences": []any{"interests"}}, "includeCitizenToken": true,
		"citizenTokenValidity": "P7D", "timeoutSeconds": 5.0,
	}
	maps.Copy(settings, options)
	sent := maps.Clone(options)
	sent["headers"] = map[string]any{"X-Tenant": shortSecret}
	settings["headerNames"] = []any{"X-Tenant"}
	w.expectSubscription(w.ok(http.StatusOK, "PATCH", at, sent), settings)

	// PATCH: what is left out stays, null clears or sets the default.
	w.expectSubscription(w.ok(http.StatusOK, "PATCH", at, `{}`), settings)
	settings["name"], settings["status"], settings["clientId"], settings["clientSecretLast4"] = "New", "active", nil, nil
	w.expectSubscription(w.ok(http.StatusOK, "PATCH", at, `{"name": "New", "status": null, "clientId": null, "clientSecret": null, "applicationId": "northwind"}`), settings)
	w.refused(http.StatusUnprocessableEntity, "PATCH", at, `{"token": null}`, "body.token")
	w.refused(http.StatusUnprocessableEntity, "PATCH", at, `{"name": null, "url": null}`, "body.name", "body.url")

	// PUT: what is left out takes its default, but for the secrets.
	again := `{"applicationId": "northwind", "name": "CRM", "url": "https://crm.example.com/hook", "authType": "token"}`
	w.expectSubscription(w.ok(http.StatusOK, "PUT", at, again), map[string]any{"authType": "token", "tokenLast4": "6789", "headerNames": []any{"X-Tenant"}})
	w.refused(http.StatusUnprocessableEntity, "PUT", at, strings.Replace(again, "}", `, "token": null}`, 1), "body.token")
	w.expectSubscription(w.ok(http.StatusOK, "PUT", at, `{"name": "CRM", "url": "https://crm.example.com/hook", "token": null, "refreshToken": null, "headers": null}`), nil)

	for _, method := range []string{"PUT", "PATCH"} {
		for _, application := range []string{`"globex"`, `"none"`, "7"} {
			w.refused(http.StatusUnprocessableEntity, method, at, `{"name": "CRM", "url": "https://crm.example.com/hook", "applicationId": `+application+`}`, "body.applicationId")
		}
	}
	if a := w.ok(http.StatusNoContent, "DELETE", at, nil); a.text != "" {
		t.Errorf("a deletion answers %q", a.text)
	}
	w.refused(http.StatusNotFound, "DELETE", at, nil)
	w.refused(http.StatusNotFound, "GET", at, nil)
	if strings.Contains(w.log.String(), "planted") {
		t.Error("a secret is in the log")
	}
}

func TestSubscriptionsThatBreakARule(t *testing.T) {
	t.Parallel()
	w := newWorld(t, api.Options{})
	for body, location := range map[string]string{
		`"url": "nowhere"`:           "url",
		`"updateType": "everything"`: "updateType",
		`"status": "stopped"`:        "status",
		`"authType": "magic"`:        "authType",
		`"tokenLocation": "cookie"`:  "tokenLocation",
		`"authType": "token"`:        "token",
		`"authType": "token", "token": "x", "tokenLocation": "query"`:                                                     "tokenName",
		`"authType": "token", "token": "x", "tokenName": "Host"`:                                                          "tokenName",
		`"authType": "token", "token": "x", "tokenName": "webhook-signature"`:                                             "tokenName",
		`"authType": "token", "token": "x", "tokenName": "Content-Type"`:                                                  "tokenName",
		`"authType": "token", "token": "x", "tokenName": "X-Key", "headers": {"x-key": "y"}`:                              "headers.x-key",
		`"headers": {"Webhook-Timestamp": "0"}`:                                                                           "headers.Webhook-Timestamp",
		`"headers": {"authorization": "Bearer x"}`:                                                                        "headers.authorization",
		`"refreshUrl": "nowhere"`:                                                                                         "refreshUrl",
		`"tokenUrl": "http://169.254.169.254/"`:                                                                           "tokenUrl",
		`"signingSecret": "planted-secret-0123456789"`:                                                                    "signingSecret",
		`"signingSecret": "whsec_c2hvcnQ="`:                                                                               "signingSecret",
		`"signingSecret": "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWYwMTIzNDU2Nzg5YWJjZGVmMDEyMzQ1Njc4OWFiY2RlZg"`: "signingSecret",
	} {
		given := map[string]any{"applicationId": "northwind", "name": "CRM", "url": "https://crm.example.com"}
		maps.Copy(given, decoded(t, "{"+body+"}"))
		w.refused(http.StatusUnprocessableEntity, "POST", "/v1/subscriptions", given, "body."+location)
	}
	if a := w.ok(http.StatusOK, "GET", "/v1/subscriptions", nil); a.json["total"] != 0.0 {
		t.Error(a.text)
	}
}

func TestSubscriptionsAreListed(t *testing.T) {
	t.Parallel()
	w := newWorld(t, api.Options{})
	_, w.key = w.credential(identity.NewCredential{Kind: store.APIKeyCredential, Name: "Both", Applications: []string{"northwind", "globex"}})
	for i, application := range []string{"northwind", "globex", "northwind"} {
		w.ok(http.StatusCreated, "POST", "/v1/subscriptions", map[string]string{
			"applicationId": application, "name": fmt.Sprint(i), "url": "https://crm.example.com", "status": []string{"active", "paused"}[i%2],
		})
	}
	for query, want := range map[string][]any{
		"":                                       {"0", "1", "2"},
		"?applicationId=northwind":               {"0", "2"},
		"?status=paused":                         {"1"},
		"?status=active&limit=1&offset=1":        {"2"},
		"?updateType=effective-permission":       {"0", "1", "2"},
		"?status=paused&applicationId=northwind": {},
	} {
		a := w.ok(http.StatusOK, "GET", "/v1/subscriptions"+query, nil)
		names := []any{}
		for _, s := range a.json["subscriptions"].([]any) {
			names = append(names, s.(map[string]any)["name"])
		}
		if !slices.Equal(names, want) {
			t.Errorf("%q lists %v, not %v", query, names, want)
		}
	}
	if a := w.ok(http.StatusOK, "GET", "/v1/subscriptions?includeTotal=false", nil); a.json["total"] != nil {
		t.Error(a.text)
	}
	w.refused(http.StatusUnprocessableEntity, "GET", "/v1/subscriptions?status=stopped&updateType=x&limit=0", nil, "query.status", "query.updateType", "query.limit")
	w.refused(http.StatusNotFound, "GET", "/v1/subscriptions/x", nil) // what is no id names nothing
}

// TestSigningSecrets follows the signing secret of a subscription: it is answered where it
// was made for the caller, and nowhere else.
func TestSigningSecrets(t *testing.T) {
	t.Parallel()
	w := newWorld(t, api.Options{})
	given := consent.SigningSecret([]byte("planted-planted-planted-planted"))
	hook := map[string]any{"applicationId": "northwind", "name": "CRM", "url": "https://crm.example.com/hook", "signingSecret": given}
	a := w.ok(http.StatusCreated, "POST", "/v1/subscriptions", hook)
	if a.json["signingSecret"] != nil || a.json["signingSecretLast4"] != given[len(given)-4:] {
		t.Errorf("created with a secret: %s", a.text)
	}
	delete(hook, "signingSecret")
	a = w.ok(http.StatusCreated, "POST", "/v1/subscriptions", hook)
	first := a.json["signingSecret"].(string)
	at := "/v1/subscriptions/" + a.json["id"].(string)
	known := []string{given, first}
	if _, ok := consent.SigningKey(first); !ok {
		t.Errorf("made %q", first)
	}

	silent := func(a reply, secret string, overlaps bool) {
		t.Helper()
		for _, s := range known {
			if strings.Contains(a.text, s) {
				t.Errorf("a secret is answered: %s", a.text)
			}
		}
		last4 := any(nil)
		if secret != "" {
			last4 = secret[len(secret)-4:]
		}
		if a.json["signingSecretLast4"] != last4 || (a.json["previousSigningSecretUntil"] != nil) != overlaps {
			t.Errorf("the secret ends in %v until %v, want %v, %v", a.json["signingSecretLast4"], a.json["previousSigningSecretUntil"], last4, overlaps)
		}
	}
	rotate := func(body any, overlap time.Duration) string {
		t.Helper()
		began := time.Now()
		a := w.ok(http.StatusOK, "POST", at+"/rotate-secret", body)
		secret := a.json["signingSecret"].(string)
		silent(a, secret, overlap > 0)
		if until, _ := a.json["previousSigningSecretUntil"].(string); overlap > 0 {
			end, err := time.Parse(time.RFC3339, until)
			if early := began.Add(overlap).Truncate(time.Millisecond); err != nil || end.Before(early) || end.After(early.Add(time.Minute)) {
				t.Errorf("the secret before lives until %s, not for %v", until, overlap)
			}
		}
		if slices.Contains(known, secret) {
			t.Errorf("%s was made twice", secret)
		}
		known = append(known, secret)
		return secret
	}

	silent(w.ok(http.StatusOK, "GET", at, nil), first, false)
	second := rotate(nil, 24*time.Hour)
	silent(w.ok(http.StatusOK, "GET", at, nil), second, true)
	silent(w.ok(http.StatusOK, "PATCH", at, `{"name": "CRM 2"}`), second, true)
	third := rotate(`{"overlapSeconds": 60}`, time.Minute)
	silent(w.ok(http.StatusOK, "PUT", at, `{"name": "CRM", "url": "https://crm.example.com/hook"}`), third, true)
	fourth := rotate(`{"overlapSeconds": 0}`, 0)
	silent(w.ok(http.StatusOK, "GET", at, nil), fourth, false)
	w.refused(http.StatusUnprocessableEntity, "POST", at+"/rotate-secret", `{"overlapSeconds": 604801}`, "body.overlapSeconds")
	w.refused(http.StatusUnprocessableEntity, "POST", at+"/rotate-secret", `{"overlapSeconds": -1}`, "body.overlapSeconds")
	silent(w.ok(http.StatusOK, "GET", at, nil), fourth, false)
	rotate(`{"overlapSeconds": 604800}`, 7*24*time.Hour)

	// One that is set takes the place of both at once, and null ends the signing.
	silent(w.ok(http.StatusOK, "PATCH", at, map[string]any{"signingSecret": given}), given, false)
	silent(w.ok(http.StatusOK, "PATCH", at, `{"signingSecret": null}`), "", false)
	rotate(nil, 0)
	w.refused(http.StatusNotFound, "POST", "/v1/subscriptions/x/rotate-secret", nil)
	for _, s := range known {
		if strings.Contains(w.log.String(), s) {
			t.Error("a secret is in the log")
		}
	}
}

// TestTokensOfOtherCredentials changes what a token is got with: the token of before goes
// with it. One that is static stays.
func TestTokensOfOtherCredentials(t *testing.T) {
	t.Parallel()
	w := newWorld(t, api.Options{})
	for name, grant := range map[string]map[string]any{
		"client credentials": {"tokenUrl": "https://id.example.com/token", "clientId": "me", "clientSecret": shortSecret},
		"a refresh token":    {"refreshUrl": "https://id.example.com/token", "clientId": "me", "clientSecret": shortSecret, "refreshToken": shortSecret},
	} {
		for _, change := range []map[string]any{{"clientId": "you"}, {"clientSecret": longSecret}, {"tokenUrl": "https://id.example.com/other"}, {"scope": "x"}, {"name": "New"}, {"token": "another-long-secret-0123"}} {
			if change["tokenUrl"] != nil && grant["tokenUrl"] == nil {
				continue // the two exclude each other
			}
			given := map[string]any{"applicationId": "northwind", "name": "CRM", "url": "https://crm.example.com", "authType": "token", "token": longSecret}
			maps.Copy(given, grant)
			at := "/v1/subscriptions/" + w.ok(http.StatusCreated, "POST", "/v1/subscriptions", given).json["id"].(string)
			want := any("6789")
			switch {
			case change["token"] != nil:
				want = "0123"
			case grant["tokenUrl"] != nil && change["name"] == nil:
				want = nil
			}
			if got := w.ok(http.StatusOK, "PATCH", at, change).json["tokenLast4"]; got != want {
				t.Errorf("%s: after %v the token ends in %v, want %v", name, change, got, want)
			}
		}
	}
}
