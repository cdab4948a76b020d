package api_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/opencpm/opencpm/internal/api"
	"github.com/opencpm/opencpm/internal/identity"
	"github.com/opencpm/opencpm/internal/store"
)

// fuzzBodies throws bodies at an operation. Whatever they hold the answer is no
// failure of ours, keeps to the document, and a refused one changed nothing.
func fuzzBodies(f *testing.F, method, target, read string, bodies ...string) {
	w := newWorld(f, api.Options{})
	for _, body := range bodies {
		f.Add([]byte(body))
	}
	citizen := w.ok(http.StatusOK, "POST", "/v1/citizens", map[string]string{"applicationId": "northwind", "externalRef": "CUST-0"}).json["citizenId"].(string)
	subscription := w.ok(http.StatusCreated, "POST", "/v1/subscriptions", map[string]string{"applicationId": "northwind", "name": "CRM", "url": "https://crm.example.com"}).json["id"].(string)
	named := strings.NewReplacer("{citizenId}", citizen, "{id}", subscription)
	target, read = named.Replace(target), named.Replace(read)
	f.Fuzz(func(t *testing.T, body []byte) {
		w := w.in(t)
		before := w.ok(http.StatusOK, "GET", read, nil).text
		a := w.send(method, target, string(body))
		switch {
		case a.StatusCode >= 500:
			t.Fatalf("%d: %s\n%s", a.StatusCode, a.text, w.log)
		case a.StatusCode >= 400:
			if after := w.ok(http.StatusOK, "GET", read, nil).text; after != before {
				t.Fatalf("refused with %d and yet something changed:\n%s\n%s", a.StatusCode, before, after)
			}
		}
		w.log.Reset()
	})
}

func FuzzTransactionBody(f *testing.F) {
	fuzzBodies(f, "POST", "/v1/permissions/transactions", "/v1/permissions/transactions?applicationId=northwind&limit=1",
		grant, `{"applicationId": 42, "citizenId": "01995c3f-2a4b-7e66-b1c2-d3e4f5a6b7c8", "changes": {"optionId": "all-email", "optionType": "group", "justification": "consent", "state": "DENIED"}}`,
		strings.Replace(grant, "{", `{"obtainedAt": "2026-01-02T03:04:05+01:00", "channel": null, "privacyPolicyRef": "policy-01", "recordedBy": "agent", `, 1))
}

func FuzzCitizenBody(f *testing.F) {
	fuzzBodies(f, "POST", "/v1/citizens", "/v1/citizens/{citizenId}",
		`{"applicationId": "northwind", "externalRef": "CUST-0"}`,
		`{"applicationId": 1e2, "externalRef": "CUST-1", "email": "ada@example.com", "address": {"postalCode": null}}`)
}

func FuzzCitizenChangeBody(f *testing.F) {
	fuzzBodies(f, "PATCH", "/v1/citizens/{citizenId}", "/v1/citizens/{citizenId}",
		`{"givenName": "Ada", "telephone": null, "address": {"postalCode": "SW1Y 4JH"}}`, `{"externalRef": null, "address": null}`, `{"email": "x"}`)
}

func FuzzSubscriptionBody(f *testing.F) {
	fuzzBodies(f, "PUT", "/v1/subscriptions/{id}", "/v1/subscriptions/{id}",
		`{"name": "CRM", "url": "https://crm.example.com", "authType": "token", "token": "secret", "tokenLocation": "query", "tokenName": "key"}`,
		`{"applicationId": 7, "name": null, "url": "x", "status": "paused", "refreshUrl": "", "clientSecret": null}`)
}

func FuzzItemChangeBody(f *testing.F) {
	fuzzBodies(f, "PATCH", "/v1/configuration/options/research-email?applicationId=northwind", "/v1/configuration?applicationId=northwind",
		`{"name": "Research", "justifications": [{"basis": "legitimate-interest"}, {"basis": "consent", "validFor": "P2Y"}]}`,
		`{"name": null, "party": "nobody", "NAME": 5, "justifications": [null, {"basis": "consent", "validFor": null}]}`, `{"id": "other", "channel": ["sms"]}`)
}

func FuzzConfigurationBody(f *testing.F) {
	fuzzBodies(f, "PUT", "/v1/configuration?applicationId=northwind", "/v1/configuration?applicationId=northwind",
		`{"application": {"name": "N", "locales": ["en"]}, "parties": [{"id": "northwind", "name": "N"}], "ruleSets": [{"reference": "r", "name": "R", "maxOptions": 2, "hideStates": ["NONE"]}]}`,
		`{"application": {"name": "N"}, "templates": [{"reference": "t", "name": "T", "blocks": [{"type": "text", "text": {"en": "T", "de": null}}]}], "preferences": null}`,
		`{"application": null, "privacyPolicies": [{"reference": "policy-01", "name": "P", "versions": [{"version": "2", "url": "https://example.com"}]}]}`)
}

func FuzzTokenForm(f *testing.F) {
	w := newWorld(f, api.Options{})
	id, secret := w.credential(identity.NewCredential{Kind: store.ClientCredential, Name: "CRM", Applications: []string{"northwind"}})
	f.Add("grant_type=client_credentials&client_id="+id+"&client_secret="+secret, "", true)
	f.Add(`{"grant_type": "client_credentials", "client_id": "`+id+`"}`, "Basic eDp5", false)
	f.Add("%zz=&=&;", "Basic", true)
	caller := 0
	f.Fuzz(func(t *testing.T, body, authorization string, isForm bool) {
		r := httptest.NewRequest(http.MethodPost, "/oauth/token", strings.NewReader(body))
		r.Header.Set("Authorization", authorization)
		if isForm {
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		}
		caller++
		r.RemoteAddr = fmt.Sprintf("caller-%d", caller) // or their rate is the end of it
		recorder := httptest.NewRecorder()
		w.handler.ServeHTTP(recorder, r)
		if code := recorder.Code; code != 200 && code != 400 && code != 401 && code != 413 {
			t.Fatalf("%d: %s", code, recorder.Body)
		}
		w.log.Reset()
	})
}

func FuzzAuthorizationAndQuery(f *testing.F) {
	w := newWorld(f, api.Options{})
	f.Add("Bearer: x", "application/json;q=0.1", "applicationId=northwind&externalRef=CUST-1&limit=%32&since=2026-01-01")
	f.Add("bearer", "a;,b", "&&a=%zz;")
	f.Fuzz(func(t *testing.T, authorization, accept, query string) {
		for _, key := range []string{w.key, ""} {
			r := httptest.NewRequest(http.MethodGet, "/v1/permissions/transactions", http.NoBody)
			r.URL.RawQuery = query
			r.Header.Set("X-API-Key", key)
			r.Header.Set("Authorization", authorization)
			r.Header.Set("Accept", accept)
			recorder := httptest.NewRecorder()
			w.handler.ServeHTTP(recorder, r)
			if recorder.Code >= 500 || key == "" && recorder.Code != http.StatusUnauthorized {
				t.Fatalf("%d: %s", recorder.Code, recorder.Body)
			}
		}
		w.log.Reset()
	})
}

func FuzzCitizenTokenBody(f *testing.F) {
	fuzzBodies(f, "POST", "/v1/access-tokens/tokens", "/v1/access-tokens/issues?applicationId=northwind&limit=1",
		`{"applicationId": "northwind", "externalRef": "CUST-0", "expiryDate": null, "batchReference": "spring"}`,
		`{"applicationId": "northwind", "externalRef": "CUST-0", "expiryDate": "9998-12-31T23:59:59.999999Z"}`,
		`{"applicationId": 42, "citizenId": "01995c3f-2a4b-7e66-b1c2-d3e4f5a6b7c8", "expiryDate": "1970-01-01"}`)
}
