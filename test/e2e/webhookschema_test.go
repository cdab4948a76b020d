package e2e_test

import (
	"encoding/json"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"

	"github.com/opencpm/opencpm/test/harness"
)

// TestMessagesAreAsDocumented holds what is delivered to the schemas of the document's
// webhooks, which must know every key of it.
func TestMessagesAreAsDocumented(t *testing.T) {
	t.Parallel()
	r := harness.NewReceiver(t)
	w := start(t, harness.SQLite(t), northwind, impatient...)
	updates := []string{"effective-permission", "consent-receipts"}
	for _, u := range updates {
		w.subscribe(t, r.URL+"/"+u, object{"updateType": u, "includeCitizenToken": true})
	}
	mails := w.subscribe(t, r.URL+"/citizen-emails", object{"updateType": "citizen-emails"}).text(t, "id")
	if a := w.api.do(t, "POST", "/v1/subscriptions/"+mails+"/test", nil).want(t, 200); a.body.(object)["accepted"] != true {
		t.Errorf("the test message of citizen-emails: %s", a.raw)
	}
	w.record(t, "A", change("newsletter-email", "consent", "GRANTED"))
	first := w.record(t, "B", change("newsletter-email", "consent", "GRANTED"))
	w.revert(t, first.text(t, "transactionId"))
	r.AwaitCount(t, "A", 2)
	r.Await(t, "B", "what ceased", func(m []harness.Message) bool {
		return len(m) >= 3 && len(m[len(m)-1].Permissions) > 0 && m[len(m)-1].Permissions[0].State == nil
	})
	arrived := map[string]int{}
	for _, m := range r.Messages() {
		arrived[m.Path]++
		schema := messageSchema(t, w.api, m.Path[1:])
		var o object
		if err := json.Unmarshal(m.Raw, &o); err != nil {
			t.Fatal(err)
		}
		if err := schema.VisitJSON(o, openapi3.MultiErrors()); err != nil {
			t.Errorf("%s: %v\n%s", m.Path, err, m.Raw)
		}
		for key := range o {
			if schema.Properties[key] == nil {
				t.Errorf("the document does not know %s of %s", key, m.Path)
			}
		}
	}
	if arrived["/citizen-emails"] != 1 || len(arrived) != 3 {
		t.Errorf("of the three kinds of message arrived %v", arrived)
	}
}

// messageSchema is the schema of the messages of an update type.
func messageSchema(t testing.TB, api *client, update string) *openapi3.Schema {
	t.Helper()
	item := api.contract.doc.Webhooks[update]
	if item == nil {
		t.Fatalf("the document has no webhook %s", update)
	}
	return item.Post.RequestBody.Value.Content.Get("application/json").Schema.Value
}
