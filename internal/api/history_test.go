package api_test

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/opencpm/opencpm/internal/api"
	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/internal/core"
)

// What citizens take elsewhere of their history and their mails has the form that the API
// documents, and says who acted by which browser.
func TestKeptIsWhatTheAPILists(t *testing.T) {
	w := newWorld(t, api.Options{})
	id := w.ok(200, "POST", "/v1/citizens", map[string]any{"applicationId": "northwind", "externalRef": "jordan", "email": "jordan@example.com"}).json["citizenId"].(string)
	w.ok(200, "POST", "/v1/permissions/transactions", map[string]any{
		"applicationId": "northwind", "citizenId": id, "privacyPolicyRef": "policy-01", "permissionStatementRef": "statement-01",
		"changes": []map[string]any{{"optionId": "newsletter-email", "justification": "consent", "state": "GRANTED"}},
	})
	w.ok(200, "POST", "/v1/suppressions", map[string]any{"applicationId": "northwind", "emailAddress": "jordan@example.com", "channels": []string{"email"}})
	citizen, err := consent.ParseID(id)
	if err != nil {
		t.Fatal(err)
	}
	number, err := w.core.Number(t.Context(), "northwind")
	if err != nil {
		t.Fatal(err)
	}
	actor := core.Actor{ID: "test", Applications: []int64{number}, Scopes: consent.Scopes}
	link, err := w.core.MintUnsubscribe(t.Context(), actor, core.Request{}, core.UnsubscribeRequest{ApplicationID: "northwind", Citizen: consent.CitizenKey{ID: citizen}, Leaves: consent.Key{ID: "newsletter-email"}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.core.Leave(t.Context(), link.Token, core.NewVisitor("192.0.2.7:1", "Browser"), false); err != nil {
		t.Fatal(err)
	}
	h, err := w.core.History(t.Context(), actor, citizen, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	asJSON := func(v any) (out any) {
		text, err := json.Marshal(v)
		if err == nil {
			err = json.Unmarshal(text, &out)
		}
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	history, emails := api.Kept(h)
	listed := w.ok(200, "GET", "/v1/citizens/"+id+"/history", nil).json["history"].([]any)
	if diff := cmp.Diff(any(listed), asJSON(history)); diff != "" {
		t.Errorf("the history (-API +kept):\n%s", diff)
	}
	if diff := cmp.Diff(w.ok(200, "GET", "/v1/citizens/"+id+"/evidence", nil).json["emails"], asJSON(emails)); diff != "" {
		t.Errorf("the mails (-API +kept):\n%s", diff)
	}
	if len(listed) != 3 {
		t.Fatalf("%d records: %v", len(listed), listed)
	}
	client, person := listed[0].(map[string]any), listed[2].(map[string]any)
	if client["byCitizen"] != false || client["visitor"] != nil {
		t.Errorf("the client's record says %v", client)
	}
	if diff := cmp.Diff(map[string]any{"address": "192.0.2.7", "agent": "Browser"}, person["visitor"]); diff != "" || person["byCitizen"] != true {
		t.Errorf("the citizen's record says %v", person)
	}
}
