package e2e_test

import (
	"context"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencpm/opencpm/test/harness"
)

// public are the operations that need no credential. Everything else in the document is tested to need one.
var public = []string{
	"POST /oauth/token", "GET /v1/unauthenticated/consent-state", "POST /v1/unauthenticated/transactions", "POST /u/{token}", "GET /healthz", "GET /readyz", "GET /metrics", "GET /openapi.json", "GET /openapi.yaml", "GET /docs",
}

// oneself are the operations for citizens alone.
var oneself = []string{"GET /v1/citizens/me/history", "GET /v1/citizens/me/evidence"}

// ofCitizens are the operations that open to citizens, too, for themselves.
var ofCitizens = []string{"GET /v1/citizens/{citizenId}/history", "GET /v1/consent-state", "POST /v1/consent-state"}

var parameter = regexp.MustCompile(`([^/]+)/\{[^}]+\}`)

// An operation of the document, made callable.
type operation struct {
	name   string // method and path as in the document
	method string
	target string
	body   any
	little string // a scope that does not cover it
	stream bool   // the answer has no end
}

// right makes the call with a credential that may, and gives the status.
func (o operation) right(t *testing.T, c *client) (status int, text []byte) {
	t.Helper()
	if !o.stream {
		a := c.do(t, o.method, o.target, o.body)
		return a.status, a.raw
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	status, body := c.open(ctx, t, o.target)
	return status, fmt.Append(nil, body.Close())
}

// operations makes one right call of every operation in the document that needs a credential. Where the document has
// something new this fails until the call is described here, so that no route escapes the table.
func operations(t *testing.T, w *world, serial int) []operation {
	t.Helper()
	ref := fmt.Sprint("auth-", serial)
	examples := map[string]string{
		"citizens":      w.citizen(t, ref),
		"transactions":  w.record(t, ref, change("newsletter-email", "consent", "GRANTED")).text(t, "transactionId"),
		"subscriptions": w.subscribe(t, "https://receiver.invalid/").text(t, "id"),
		"jobs":          w.ended(t, w.check(t)).text(t, "id"),
		"files":         "result",
		"issues":        fmt.Sprint(w.mint(t, object{"externalRef": ref}).at("issue")),
	}
	batch := w.ended(t, w.batch(t, object{"externalRefs": []string{ref}}).text(t, "id")).text(t, "id")
	w.record(t, ref, change("newsletter-email", "consent", "DENIED"))
	w.api.do(t, "PUT", "/v1/citizens/"+examples["citizens"]+"/email", object{"emailAddress": "auth@example.com"}).want(t, 204)
	listed := object{"applicationId": w.id, "emailAddress": "listed@example.com", "channels": []string{"sms"}}
	examples["suppressions"] = w.api.do(t, "POST", "/v1/suppressions", listed).want(t, 200).list(t, "suppressions")[0]["id"].(string)
	hooked := "/v1/subscriptions/" + examples["subscriptions"]
	eventually(t, harness.Patience, "an attempt is logged", func() bool {
		list := w.api.do(t, "GET", hooked+"/deliveries", nil).want(t, 200).list(t, "deliveries")
		if len(list) > 0 {
			examples["deliveries"] = list[0]["id"].(string)
		}
		return len(list) > 0
	})
	captures := w.parked(t, ref, 2)
	examples["captures"] = captures[0]
	configured := configurationItems(ref)
	for collection, item := range configured {
		item["applicationId"] = w.id
		examples[collection] = w.api.do(t, "POST", "/v1/configuration/"+collection, item).want(t, 201).text(t, "id")
	}
	draft := object{"reference": configured["templates"]["reference"], "name": "Draft"}
	w.api.do(t, "PUT", query("/v1/configuration/templates/"+examples["templates"]+"/draft", "applicationId", w.id), draft).want(t, 200)
	parameters := map[string]string{"applicationId": w.id, "externalRef": ref, "templateId": examples["templates"]}
	granted := w.transaction(ref, []object{change("newsletter-email", "consent", "GRANTED")})
	hook := w.subscription("https://receiver.example.com/", object{"status": "paused"})
	bodies := map[string]any{
		"POST /v1/citizens":      object{"applicationId": w.id, "externalRef": ref + "-new"},
		"POST /v1/citizens/bulk": object{"applicationId": w.id, "citizens": []object{{"externalRef": ref + "-bulk"}}},
		"PATCH /v1/citizens/{}":  object{"applicationId": w.id, "givenName": "X"},

		"PUT /v1/citizens/{}/email":    object{"emailAddress": "auth@example.com"},
		"POST /v1/suppressions":        object{"applicationId": w.id, "telephone": "+44 20 7946 0018", "channels": []string{"sms"}},
		"POST /v1/suppressions/search": object{"applicationId": w.id, "telephone": "+44 20 7946 0018"},
		"POST /v1/citizens/search":     object{"applicationId": w.id, "emailAddress": "auth@example.com"},

		"POST /v1/permissions/transactions":              granted,
		"POST /v1/permissions/transactions/{}/reversion": object{},
		"POST /v1/submissions":                           w.answers(ref, chosen("interests", "jazz")),
		"POST /v1/consent-state":                         object{"applicationId": w.id, "externalRef": ref, "blocks": []object{}},

		"POST /v1/subscriptions":                  hook,
		"PUT /v1/subscriptions/{}":                hook,
		"PATCH /v1/subscriptions/{}":              object{"name": "renamed"},
		"POST /v1/subscriptions/{}/rotate-secret": object{"overlapSeconds": 0},

		"POST /v1/subscriptions/test":         w.subscription("https://receiver.invalid/"),
		"POST /v1/subscriptions/{}/redeliver": object{"deliveryId": examples["deliveries"]},
		"POST /v1/subscriptions/{}/resync":    object{"ratePerSecond": 5},
		"POST /v1/subscriptions/{}/discard":   object{"citizenId": examples["citizens"]},

		"PUT /v1/configuration/templates/{}/draft": draft,

		"POST /v1/jobs": object{"applicationId": w.id, "kind": "ledger-check"},

		"POST /v1/access-tokens/tokens":      object{"applicationId": w.id, "externalRef": ref},
		"POST /v1/access-tokens/unsubscribe": object{"applicationId": w.id, "externalRef": ref, "optionId": "newsletter-email"},
		"POST /v1/access-tokens/jobs":        object{"applicationId": w.id, "externalRefs": []string{ref}, "expiryDate": ahead(time.Hour)},

		"PUT /v1/configuration": w.api.do(t, "GET", query("/v1/configuration", "applicationId", w.id), nil).want(t, 200).body,
	}
	for collection, item := range configurationItems(ref + "-new") {
		item["applicationId"] = w.id
		bodies["POST /v1/configuration/"+collection] = item
		bodies["PATCH /v1/configuration/"+collection+"/{}"] = configured[collection]
	}

	var list []operation
	for path, item := range w.api.contract.doc.Paths.Map() {
		for method, op := range item.Operations() {
			name := method + " " + path
			if slices.Contains(public, name) || slices.Contains(oneself, name) {
				continue
			}
			o := operation{name: name, method: method, little: "webhooks:manage", stream: name == "GET /v1/jobs/events"}
			if strings.HasPrefix(path, "/v1/subscriptions") {
				o.little = "citizens:read"
			}
			o.target = parameter.ReplaceAllStringFunc(path, func(s string) string {
				collection := parameter.FindStringSubmatch(s)[1]
				if strings.HasPrefix(path, "/v1/access-tokens/jobs") {
					return collection + "/" + batch
				}
				if examples[collection] == "" {
					t.Errorf("%s: tell the table an id in %s", name, collection)
				}
				return collection + "/" + examples[collection]
			})
			if strings.HasSuffix(path, "/rejection") {
				o.target = strings.Replace(o.target, captures[0], captures[1], 1)
			}
			var pairs []string
			for _, p := range slices.Concat(item.Parameters, op.Parameters) {
				if p.Value.In != "query" {
					continue
				}
				value, known := parameters[p.Value.Name]
				if known {
					pairs = append(pairs, p.Value.Name, value)
				} else if p.Value.Required {
					t.Errorf("%s: tell the table a value of the parameter %s", name, p.Value.Name)
				}
			}
			if len(pairs) > 0 {
				o.target = query(o.target, pairs...)
			}
			if op.RequestBody != nil {
				if o.body = bodies[method+" "+parameter.ReplaceAllString(path, "$1/{}")]; o.body == nil {
					t.Errorf("%s: tell the table a right body", name)
				}
			}
			list = append(list, o)
		}
	}
	// What deletes comes last, a part before the whole: the calls before it need what it takes away.
	slices.SortFunc(list, func(a, b operation) int {
		switch deletes := a.method == "DELETE"; {
		case deletes && b.method == "DELETE":
			return strings.Compare(b.name, a.name)
		case deletes:
			return 1
		case b.method == "DELETE":
			return -1
		}
		return strings.Compare(a.name, b.name)
	})
	return list
}

// configurationItems are right bodies that create an item of every kind, without the application, in the catalogue that the
// contract prints. Nothing needs them.
func configurationItems(key string) map[string]object {
	text := object{"en": "Text"}
	return map[string]object{
		"parties":  {"id": key, "name": "N"},
		"purposes": {"id": key, "name": "N", "directMarketing": true},
		"channels": {"id": key, "name": "N"},
		"options": {
			"id": key, "name": "N", "party": "northwind", "purpose": "research", "channel": "sms",
			"justifications": []object{{"basis": "consent", "validFor": "P1Y"}, {"basis": "contract"}},
		},
		"option-groups": {"id": key, "name": "N", "options": []string{"newsletter-email", "research-email"}},
		"preferences":   {"reference": key, "kind": "single-choice", "label": text, "choices": []object{{"reference": "a", "label": "A"}}},
		"privacy-policies": {
			"reference": key, "name": "N", "versions": []object{{"version": "1", "url": "https://example.com/privacy"}},
		},
		"permission-statements": {"reference": key, "text": text},
		"templates": {"reference": key, "name": "N", "privacyPolicy": "policy-01", "blocks": []object{
			{"type": "permissions", "statement": "statement-01", "options": []object{{"option": "newsletter-email", "justification": "consent"}}},
			{"type": "text", "text": text},
		}},
		"rule-sets": {
			"reference": key, "name": "N", "expiresWithin": "P30D", "maxOptions": 2, "hideStates": []string{"NONE", "DENIED"},
			"channels": []string{"sms"}, "mandatoryPreferences": []string{"interests"},
		},
		"preference-centres": {"reference": key, "name": "N", "type": "request-link", "slug": slugOf(key)},
		"emails":             {"reference": key, "name": "N", "kind": "double-opt-in", "subject": text},
	}
}

// slugOf makes a path of a key.
func slugOf(key string) string {
	return strings.Trim(regexp.MustCompile(`[^a-z0-9]+`).ReplaceAllString(strings.ToLower(key), "-"), "-")
}

func TestAuthorisationOfEveryRoute(t *testing.T) {
	harness.OnEachStore(t, func(t *testing.T, s *harness.Store) {
		a := newApplication(t, s, "", northwind)
		other := newApplication(t, s, "", bases)
		keys := map[string]string{}
		for _, scope := range []string{"webhooks:manage", "citizens:read"} {
			keys[scope] = newAPIKey(t, s, a.id, "--scope", scope)
		}
		whole := newAPIKey(t, s, a.id)
		server := s.Serve(t)
		w := &world{application: a, server: server, api: connect(t, server, a.clientID, a.clientSecret)}
		nobody := anonymous(t, server)
		little := map[string]*client{} // by the one scope it has
		for scope, key := range keys {
			little[scope] = nobody.with("X-API-Key", key)
		}
		expiring := newAPIKey(t, s, a.id, "--expires", time.Now().Add(2*time.Second).Format(time.RFC3339))
		expired := nobody.with("X-API-Key", expiring)
		token := strings.TrimPrefix(w.api.header.Get("Authorization"), "Bearer ")

		strangers := map[string]*client{
			"no credential":              nobody,
			"wrong key":                  nobody.with("X-API-Key", "wrong"),
			"wrong key of the same form": nobody.with("X-API-Key", neighbour(whole)),
			"key cut short":              nobody.with("X-API-Key", whole[:len(whole)-1]),
			"empty key":                  nobody.with("X-API-Key", ""),
			"client secret as a key":     nobody.with("X-API-Key", a.clientSecret),
			"wrong token":                nobody.with("Authorization", "Bearer wrong"),
			"wrong token of that form":   nobody.with("Authorization", "Bearer "+neighbour(token)),
			"client secret as a token":   nobody.with("Authorization", "Bearer "+a.clientSecret),
			"no scheme":                  nobody.with("Authorization", token),
			"other scheme":               nobody.with("Authorization", "Basic b3BlbjpzZXNhbWU="),
			"token as Basic":             nobody.with("Authorization", "Basic "+token),
			"scheme alone":               nobody.with("Authorization", "Bearer"),
			"colon alone":                nobody.with("Authorization", "Bearer:"),
			"two tokens":                 nobody.with("Authorization", "Bearer "+token+" "+token),
			"long token":                 nobody.with("Authorization", "Bearer "+long(10_000)),
			"forged JWT":                 nobody.with("Authorization", "Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJhZG1pbiJ9."),
			"expired key":                expired,
			"another citizen":            nobody.with("Authorization", "Bearer "+w.mint(t, object{"citizenId": w.citizen(t, "stranger"), "expiryDate": ahead(time.Hour)}).text(t, "token")),
		}
		eventually(t, harness.Patience, "the key has expired", func() bool {
			return expired.do(t, "GET", w.subscriptions(), nil).status == 401
		})

		foreign := connect(t, server, other.clientID, other.clientSecret)
		calls := operations(t, w, 1)
		for _, call := range []string{
			"POST /v1/citizens", "GET /v1/citizens", "POST /v1/permissions/transactions", "GET /v1/permissions/transactions",
			"GET /v1/permissions", "POST /v1/subscriptions", "GET /v1/subscriptions", "GET /v1/permissions/configuration",
			"GET /v1/configuration", "PUT /v1/configuration", "POST /v1/configuration/rule-sets", "GET /v1/configuration/parties/{id}/versions",
			"POST /v1/access-tokens/tokens", "POST /v1/citizens/{citizenId}/token-revocations", "POST /v1/access-tokens/jobs", "GET /v1/access-tokens/jobs/{id}/file",
		} {
			if !slices.ContainsFunc(calls, func(o operation) bool { return o.name == call }) {
				t.Errorf("the document lacks %s", call)
			}
		}
		about := "auth-1" // the citizen, while there is one
		for _, call := range calls {
			t.Run(call.name, func(t *testing.T) {
				for _, who := range slices.Sorted(maps.Keys(strangers)) {
					if got := strangers[who].do(t, call.method, call.target, call.body).status; got != 401 {
						t.Errorf("%s: %d, want 401", who, got)
					}
				}
				// A body that is wrong tells a stranger nothing more.
				if got := nobody.do(t, call.method, call.target, "{").status; got != 401 && call.body != nil {
					t.Errorf("no credential and a broken body: %d, want 401", got)
				}
				if got := foreign.do(t, call.method, call.target, call.body).status; got != 404 {
					t.Errorf("another application's credential: %d, want 404", got)
				}
				if got := little[call.little].do(t, call.method, call.target, call.body).status; got != 403 {
					t.Errorf("scope %s alone: %d, want 403", call.little, got)
				}
				// The token of the citizen whom the calls are about opens no more than it says above. It is made anew, for one of the calls revokes it.
				own := nobody.with("Authorization", "Bearer "+w.mint(t, object{"externalRef": about, "expiryDate": ahead(time.Hour)}).text(t, "token"))
				want := 401
				if call.name == "DELETE /v1/citizens/{citizenId}" {
					about = "stranger"
				}
				if slices.Contains(ofCitizens, call.name) {
					want = 200
				}
				if got := own.do(t, call.method, call.target, call.body).status; got != want {
					t.Errorf("the citizen: %d, want %d", got, want)
				}
				// The same call is right from the right client, so that the refusals above mean something.
				if status, text := call.right(t, w.api); status >= 300 {
					t.Errorf("the right credential: %d %s", status, text)
				}
			})
		}

		t.Run("a key with every scope", func(t *testing.T) {
			for _, call := range operations(t, w, 2) {
				if status, text := call.right(t, nobody.with("X-API-Key", whole)); status >= 300 {
					t.Errorf("%s: %d %s", call.name, status, text)
				}
			}
		})

		t.Run("what is for citizens alone", func(t *testing.T) {
			w.citizen(t, "oneself")
			own := nobody.with("Authorization", "Bearer "+w.mint(t, object{"externalRef": "oneself", "expiryDate": ahead(time.Hour)}).text(t, "token"))
			for _, name := range oneself {
				method, path, _ := strings.Cut(name, " ")
				own.do(t, method, path, nil).want(t, 200)
				w.api.do(t, method, path, nil).want(t, 401)
				nobody.do(t, method, path, nil).want(t, 401)
			}
		})

		t.Run("scopes that suffice", func(t *testing.T) {
			id := w.citizen(t, "scopes")
			little["citizens:read"].do(t, "GET", "/v1/citizens/"+id, nil).want(t, 200)
			little["citizens:read"].do(t, "DELETE", "/v1/citizens/"+id, nil).want(t, 403)
			little["webhooks:manage"].do(t, "GET", w.subscriptions(), nil).want(t, 200)
			little["webhooks:manage"].do(t, "POST", "/v1/subscriptions", w.subscription("https://receiver.example.com/", object{"status": "paused"})).want(t, 200, 201)
		})

		t.Run("what is public", func(t *testing.T) {
			for _, name := range public {
				method, path, _ := strings.Cut(name, " ")
				if method == "GET" && path != "/v1/unauthenticated/consent-state" { // which needs a template
					if status, body := nobody.glance(t, path); status != 200 {
						t.Errorf("%s: %d %s", name, status, body)
					}
				}
			}
		})
	})
}
