package api_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/opencpm/opencpm/internal/api"
	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/internal/identity"
	"github.com/opencpm/opencpm/internal/store"
)

const permissionsOfNobody = "/v1/permissions?applicationId=northwind&externalRef=nobody"

func TestCredentialsInEveryForm(t *testing.T) {
	t.Parallel()
	w := newWorld(t, api.Options{})
	id, secret := w.credential(identity.NewCredential{Kind: store.ClientCredential, Name: "CRM", Applications: []string{"northwind"}})
	granted := w.ok(http.StatusOK, "POST", "/oauth/token", map[string]string{"grant_type": "client_credentials", "client_id": id, "client_secret": secret}, "X-API-Key: ")
	token := granted.json["access_token"].(string)

	for header, valid := range map[string]bool{
		"X-API-Key: " + w.key:                  true,
		"Authorization: Bearer " + token:       true,
		"Authorization: bearer " + token:       true,
		"Authorization: BEARER   " + token:     true,
		"Authorization: Bearer: " + token:      true,
		"Authorization: bearer:" + token:       true,
		"Authorization: Bearer" + token:        false,
		"Authorization: " + token:              false,
		"Authorization: Basic " + token:        false,
		"Authorization: Bearer " + w.key:       false,
		"Authorization: Bearer " + secret:      false,
		"Authorization: Bearer":                false,
		"Authorization: Bearer:":               false,
		"X-API-Key: " + token:                  false,
		"X-API-Key: " + strings.ToUpper(w.key): false,
		"X-API-Key: ":                          false,
	} {
		headers := []string{"X-API-Key: ", header}
		a := w.send("GET", permissionsOfNobody, nil, headers...)
		if valid && a.StatusCode != http.StatusNotFound || !valid && a.StatusCode != http.StatusUnauthorized {
			t.Errorf("%.30s…: %d", header, a.StatusCode)
		}
		if challenge := a.Header.Get("WWW-Authenticate"); !valid && !strings.HasPrefix(challenge, "Bearer ") {
			t.Errorf("%.30s…: the challenge is %q", header, challenge)
		}
	}
}

// TestNobodyGetsInWhereTheyDoNotBelong calls every operation of the document with
// every credential that does not suffice.
func TestNobodyGetsInWhereTheyDoNotBelong(t *testing.T) {
	t.Parallel()
	w := newWorld(t, api.Options{})
	citizen := w.ok(http.StatusOK, "POST", "/v1/citizens", map[string]string{"applicationId": "northwind", "externalRef": "CUST-0"}).json["citizenId"].(string)
	subscription := w.ok(http.StatusCreated, "POST", "/v1/subscriptions", map[string]string{"applicationId": "northwind", "name": "CRM", "url": "https://crm.example.com"}).json["id"].(string)
	_, expired := w.credential(identity.NewCredential{Kind: store.APIKeyCredential, Name: "Old", Applications: []string{"northwind"}, Expires: time.Now().Add(-time.Hour)})
	made := w.ok(http.StatusOK, "POST", "/v1/access-tokens/tokens", map[string]string{"applicationId": "northwind", "externalRef": "CUST-0", "expiryDate": time.Now().Add(time.Hour).Format(time.RFC3339)})
	ownToken, issue := made.json["token"].(string), fmt.Sprint(made.json["issue"])
	before := w.everything()

	called := 0
	for path, item := range loaded(t).Paths.Map() {
		for method, op := range item.Operations() {
			if op.Security == nil {
				t.Fatalf("%s %s does not say who may call it", method, path)
			}
			if len(*op.Security) == 0 {
				continue // public
			}
			called++
			required, client := op.Extensions["x-required-scope"].(string) // else it is for citizens alone
			scope, tooLittle, foreign := consent.Scope(required), http.StatusForbidden, http.StatusNotFound
			if !client {
				tooLittle, foreign = http.StatusUnauthorized, http.StatusUnauthorized
			}
			var others []consent.Scope
			for _, s := range consent.Scopes {
				if s != scope {
					others = append(others, s)
				}
			}
			_, narrow := w.credential(identity.NewCredential{Kind: store.APIKeyCredential, Name: "Narrow", Applications: []string{"northwind"}, Scopes: others})
			target := strings.NewReplacer("{citizenId}", citizen, "{id}", subscription, "{issue}", issue).Replace(path) + "?applicationId=northwind&externalRef=CUST-0&templateId=none"
			var body any
			if op.RequestBody != nil {
				body = op.RequestBody.Value.Content.Get("application/json").Example
			}
			byCitizen := http.StatusUnauthorized // as for a body that is about another citizen
			switch op.OperationID {
			case "getHistory", "getOwnHistory", "getOwnEvidence":
				byCitizen = http.StatusOK
			case "getConsentState":
				byCitizen = http.StatusNotFound // of the template
			}
			for _, c := range []struct {
				who, header string
				status      int
			}{
				{"nobody", "X-API-Key: ", http.StatusUnauthorized},
				{"a wrong key", "X-API-Key: ocpm_key_wrong", http.StatusUnauthorized},
				{"a wrong token", "Authorization: Bearer ocpm_access_wrong", http.StatusUnauthorized},
				{"an expired key", "X-API-Key: " + expired, http.StatusUnauthorized},
				{"too little scope", "X-API-Key: " + narrow, tooLittle},
				{"another application", "X-API-Key: " + w.foreign, foreign},
				{"the citizen", "Authorization: Bearer: " + ownToken, byCitizen},
			} {
				t.Run(fmt.Sprintf("%s by %s", op.OperationID, c.who), func(t *testing.T) {
					a := w.in(t).send(method, target, body, "X-API-Key: ", c.header)
					if a.StatusCode != c.status {
						t.Errorf("%d, not %d: %s", a.StatusCode, c.status, a.text)
					}
				})
			}
		}
	}
	if called < 13 {
		t.Errorf("only %d operations of the document want a credential", called)
	}
	if after := w.everything(); after != before {
		t.Errorf("something changed:\n%s\n%s", before, after)
	}
}

// everything is all that can be read of northwind.
func (w *world) everything() string {
	w.tb.Helper()
	all := ""
	for _, target := range []string{
		"/v1/permissions/transactions?applicationId=northwind&limit=100", "/v1/subscriptions?limit=100", "/v1/citizens?applicationId=northwind&externalRef=CUST-0",
		"/v1/citizens?applicationId=northwind&externalRef=CUST-1", "/v1/configuration?applicationId=northwind",
		"/v1/access-tokens/issues?applicationId=northwind",
	} {
		a := w.send("GET", target, nil)
		if a.StatusCode == http.StatusOK {
			all += a.text
		}
	}
	return all
}

func TestTooLittleScopeIsToldBeforeAnythingElse(t *testing.T) {
	t.Parallel()
	w := newWorld(t, api.Options{})
	_, w.key = w.credential(identity.NewCredential{Kind: store.APIKeyCredential, Name: "Reader", Applications: []string{"northwind"}, Scopes: []consent.Scope{consent.ConsentRead}})
	a := w.refused(http.StatusForbidden, "POST", "/v1/permissions/transactions", "{nonsense")
	if !strings.Contains(a.json["detail"].(string), "consent:write") {
		t.Errorf("the missing scope is not named: %s", a.text)
	}
}

func TestRateLimitIsPerCredential(t *testing.T) {
	t.Parallel()
	w := newWorld(t, api.Options{RateLimit: 1.0 / 3600})
	w.ok(http.StatusNotFound, "GET", permissionsOfNobody, nil)
	a := w.refused(http.StatusTooManyRequests, "GET", permissionsOfNobody, nil)
	if after := a.Header.Get("Retry-After"); after < "3590" || len(after) != 4 {
		t.Errorf("Retry-After is %q", after)
	}
	w.key = w.foreign
	w.ok(http.StatusNotFound, "GET", permissionsOfNobody, nil)
}

func TestPublicCallsAreLimitedByAddress(t *testing.T) {
	t.Parallel()
	w := newWorld(t, api.Options{})
	for range 1000 {
		switch a := w.send("POST", "/oauth/token", `{"grant_type":"password"}`); a.StatusCode {
		case http.StatusBadRequest:
		case http.StatusTooManyRequests:
			return
		default:
			t.Fatalf("%d: %s", a.StatusCode, a.text)
		}
	}
	t.Error("a thousand calls at once, and none was refused")
}
