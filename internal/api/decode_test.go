package api

import (
	"net/http"
	"testing"

	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/opencpm/opencpm/internal/consent"
)

// FuzzDecode throws bytes at the decoder of every body that the API takes, by the
// schemas that it publishes: whatever they hold, they are read, or refused as the
// caller's fault. The targets with a store behind them are far slower.
func FuzzDecode(f *testing.F) {
	configureHuma()
	s := &server{mux: http.NewServeMux()}
	s.huma = humago.New(s.mux, s.config())
	s.routes()
	api := s.huma.OpenAPI()
	for _, seed := range []string{
		`{"applicationId": "northwind", "externalRef": "CUST-1", "obtainedAt": "2026-01-02T03:04:05+01:00", "changes": [{"optionId": "o", "justification": "consent", "state": "GRANTED", "validUntil": null}]}`,
		`{"applicationId": 1e2, "citizenId": "01995c3f-2a4b-7e66-b1c2-d3e4f5a6b7c8", "changes": {"optionType": "group", "optionId": 5}}`,
		`{"externalRef": null, "givenName": "Ada", "email": 7, "address": {"postalCode": null, "addressCountry": ["GB"]}}`,
		`{"name": "CRM", "url": "https://crm.example.com/", "status": "", "token": "\u0000", "refreshUrl": false}`,
		`{"applicationId": 7, "reference": "r", "name": null, "maxOptions": 1e400, "label": {"en": 5, "de": null}, "blocks": [{"type": "text", "text": {"": []}}], "choices": {}}`,
		`{"application": {"name": "x", "locales": [5]}, "options": [{"id": "o", "justifications": [{"basis": 7}]}, 5], "ruleSets": [{"maxOptions": 99999999999999999999}]}`,
		`{"grant_type": "client_credentials", "client_id": "x", "client_secret": {}}`, `[]`, `"\ud800"`, `{"a": 1, "a": 2}`, `-0`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		for at, value := range map[string]any{
			"/v1/permissions/transactions": new(newTransaction), "/v1/citizens": new(newCitizen),
			"/v1/subscriptions": new(newSubscription), tokenPath: new(tokenRequest),
			"/v1/configuration/templates": new(newItem[consent.Template]), "/v1/configuration/rule-sets": new(newItem[consent.RuleSet]),
		} {
			schema := api.Paths[at].Post.RequestBody.Content[jsonType].Schema
			if _, err := decode(api.Components.Schemas, schema, data, value); err != nil && consent.KindOf(err) == consent.Internal {
				t.Errorf("%s: %v", at, err)
			}
		}
		for at, value := range map[string]any{"/v1/citizens/{citizenId}": new(citizenChange), "/v1/subscriptions/{id}": new(subscriptionChange)} {
			schema := api.Paths[at].Patch.RequestBody.Content[jsonType].Schema
			if _, err := decode(api.Components.Schemas, schema, data, value); err != nil && consent.KindOf(err) == consent.Internal {
				t.Errorf("%s: %v", at, err)
			}
		}
		schema := api.Paths["/v1/configuration"].Put.RequestBody.Content[jsonType].Schema
		if _, err := decode(api.Components.Schemas, schema, data, new(consent.Catalogue)); err != nil && consent.KindOf(err) == consent.Internal {
			t.Errorf("/v1/configuration: %v", err)
		}
	})
}

// FuzzYAML throws bytes at the reader of YAML: what comes out of it is JSON.
func FuzzYAML(f *testing.F) {
	for _, seed := range []string{
		"application: {name: Northwind}\nparties:\n  - {id: a, name: A}\n  - id: b\n    name: |\n      B\n", "a: &a [1, 2]\nb: *a\n", "---\na: 1\n---\nb: 2\n",
		"- - - - x", "? a\n: b", "a: !!binary eA==", "{", "a: .nan", "a: \"\\ud800\"", "%YAML 1.2\n---\na", "a:\n\t- b", "", "~",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		asJSON, err := readYAML(data)
		if err == nil {
			_, err = parse(asJSON)
		}
		if err != nil && consent.KindOf(err) == consent.Internal {
			t.Errorf("%v", err)
		}
	})
}
