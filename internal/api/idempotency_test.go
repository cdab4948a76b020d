package api_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/opencpm/opencpm/internal/api"
	"github.com/opencpm/opencpm/internal/core"
)

// The same key and body happen once and have one answer, whoever waits for whom;
// another body is refused, another credential and another call have keys of their
// own, and what was refused may be sent again under its key.
func TestIdempotencyKey(t *testing.T) {
	t.Parallel()
	w := newWorld(t, api.Options{})
	const at, key = "/v1/permissions/transactions", "Idempotency-Key: order-4711"
	first := w.ok(http.StatusOK, "POST", at, grant, key)
	if again := w.ok(http.StatusOK, "POST", at, grant, key); again.text != first.text {
		t.Errorf("first %s, again %s", first.text, again.text)
	}
	total := func() any {
		return w.ok(http.StatusOK, "GET", at+"?applicationId=northwind", nil).json["total"]
	}
	if n := total(); n != 1.0 {
		t.Fatalf("%v transactions", n)
	}
	if a := w.send("POST", at, grant+" ", key); a.StatusCode != http.StatusUnprocessableEntity || a.errors()["header.Idempotency-Key"] == "" {
		t.Errorf("another body answered %d: %s", a.StatusCode, a.text)
	}
	w.ok(http.StatusOK, "POST", at, grant, "Idempotency-Key: order-4712")
	w.ok(http.StatusOK, "POST", at, grant)
	if n := total(); n != 3.0 {
		t.Errorf("%v transactions, want 3", n)
	}

	citizen := `{"applicationId": "northwind", "externalRef": "CUST-7"}`
	created := w.ok(http.StatusOK, "POST", "/v1/citizens", citizen, key)
	if again := w.ok(http.StatusOK, "POST", "/v1/citizens", citizen, key); again.text != created.text {
		t.Errorf("created %s, again %s", created.text, again.text)
	}
	hook := `{"applicationId": "northwind", "name": "CRM", "url": "https://crm.example.com/", "authType": "token", "token": "planted-and-long-secret"}`
	made := w.ok(http.StatusCreated, "POST", "/v1/subscriptions", hook, key)
	secret := fmt.Sprintf("%q", made.json["signingSecret"])
	if again := w.ok(http.StatusCreated, "POST", "/v1/subscriptions", hook, key); secret == `""` || again.text != strings.Replace(made.text, secret, "null", 1) {
		t.Errorf("made %s, again %s", made.text, again.text)
	}

	refused := `{"applicationId": "northwind", "externalRef": "CUST-7", "changes": []}`
	if a := w.send("POST", at, refused, "Idempotency-Key: once-more"); a.StatusCode != http.StatusUnprocessableEntity {
		t.Fatal(a.text)
	}
	w.ok(http.StatusOK, "POST", at, grant, "Idempotency-Key: once-more")

	var all sync.WaitGroup
	answers := make([]string, 8)
	for i := range answers {
		all.Go(func() {
			answers[i] = w.send("POST", at, `{"applicationId": "northwind", "externalRef": "NEW", "changes": {"optionId": "newsletter-email", "justification": "consent", "state": "GRANTED"}}`, "Idempotency-Key: at once").text
		})
	}
	all.Wait()
	for _, a := range answers {
		if a != answers[0] {
			t.Errorf("at once: %s and %s", answers[0], a)
		}
	}
	// A refusal for the key creates nobody.
	if a := w.send("POST", at, `{"applicationId": "northwind", "externalRef": "NEVER", "changes": {"optionId": "newsletter-email", "justification": "consent", "state": "GRANTED"}}`, key); a.StatusCode != http.StatusUnprocessableEntity {
		t.Fatal(a.text)
	}
	w.refused(http.StatusNotFound, "GET", "/v1/citizens?applicationId=northwind&externalRef=NEVER", nil)
	if n := w.ok(http.StatusOK, "GET", at+"?applicationId=northwind&externalRef=NEW", nil).json["total"]; n != 1.0 {
		t.Errorf("%v transactions of eight at once", n)
	}
	if a := w.send("POST", at, grant, "Idempotency-Key: "+fmt.Sprintf("%0256d", 1)); a.StatusCode != http.StatusUnprocessableEntity {
		t.Errorf("a key of 256 characters answered %d", a.StatusCode)
	}
}

// A key makes the answers of a stranger once as well: whoever sends it with other answers
// is refused, and learns nothing else.
func TestIdempotencyKeyOfACapture(t *testing.T) {
	t.Parallel()
	w := newWorld(t, api.Options{})
	doc, err := w.core.ExportCatalogue(t.Context(), "northwind")
	w.must(err)
	doc.Application.UnauthenticatedCapture = true
	_, err = w.core.ImportCatalogue(t.Context(), "northwind", doc, core.Import{})
	w.must(err)
	const at, key = "/v1/unauthenticated/transactions", "Idempotency-Key: checkout-1"
	body := func(who string) string {
		return `{"applicationId": "northwind", ` + who + `, "changes": [{"optionId": "newsletter-email", "justification": "consent", "state": "GRANTED"}]}`
	}
	first := w.ok(http.StatusAccepted, "POST", at, body(`"uniqueReference": "NEW-1"`), key)
	if again := w.ok(http.StatusAccepted, "POST", at, body(`"uniqueReference": "NEW-1"`), key); again.text != first.text {
		t.Errorf("first %s, again %s", first.text, again.text)
	}
	if n := w.ok(http.StatusOK, "GET", "/v1/captures?applicationId=northwind", nil).json["total"]; n != 0.0 {
		t.Errorf("%v captures wait of what was sent twice", n)
	}
	var said []string
	for _, who := range []string{`"uniqueReference": "NEW-1", "channel": "web"`, `"uniqueReference": "NEW-2"`, `"emailAddress": "ada@example.com"`} {
		a := w.send("POST", at, body(who), key)
		if a.StatusCode != http.StatusUnprocessableEntity || len(a.errors()) != 1 || a.errors()["header.Idempotency-Key"] == "" {
			t.Errorf("another body answered %d: %s", a.StatusCode, a.text)
		}
		delete(a.json, "instance")
		said = append(said, fmt.Sprint(a.json))
	}
	if said[0] != said[1] || said[0] != said[2] || strings.Contains(said[0], "NEW") {
		t.Errorf("refused as %q", said)
	}
	w.ok(http.StatusAccepted, "POST", at, body(`"emailAddress": "ada@example.com"`), "Idempotency-Key: checkout-2")
	if a := w.send("POST", at, body(`"uniqueReference": "NEW-3"`), "Idempotency-Key: "+strings.Repeat("k", 256)); a.StatusCode != http.StatusUnprocessableEntity {
		t.Errorf("a key of 256 characters answered %d", a.StatusCode)
	}
}
