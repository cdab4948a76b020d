package e2e_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/opencpm/opencpm/internal/web/webtest"
	"github.com/opencpm/opencpm/test/harness"
)

// Somebody signs up, confirms, is put on the do-not-contact list: the evidence of it is a
// page that a data-protection officer reads in any browser, and that runs
// nothing of what somebody else wrote into a record.
func TestEvidencePage(t *testing.T) {
	t.Cleanup(webtest.Close)
	w := start(t, harness.SQLite(t), northwind, impatient...)
	r := harness.NewReceiver(t)
	w.subscribe(t, r.URL, object{"updateType": "citizen-emails"})
	w.settings(t, object{"unauthenticatedCapture": true, "sender": object{"name": "Northwind", "address": "hello@northwind.example"}})
	w.capture(t, anonymous(t, w.server), object{"emailAddress": "ada@example.com", "privacyPolicyRef": "policy-01", "permissionStatementRef": "statement-01"}).want(t, 202)
	eventually(t, harness.Patience, "the subscription gets the mail", func() bool { return len(r.Messages()) > 0 })
	var mail struct {
		CitizenID string
		Action    struct{ URL string }
	}
	if err := json.Unmarshal(r.Messages()[0].Raw, &mail); err != nil {
		t.Fatal(err)
	}
	tab := webtest.Open(t, webtest.View{})
	tab.Goto(mail.Action.URL)
	webtest.Run[bool](tab, `(document.querySelector("main form button").click(), true)`)
	tab.Until(`document.body.textContent.includes("it is confirmed")`)
	const hostile = `<img src=x onerror="document.title='run'"><script>document.title='run'</script>`
	w.api.do(t, "POST", "/v1/permissions/transactions", object{
		"applicationId": w.id, "citizenId": mail.CitizenID, "channel": hostile, "recordedByName": hostile, "privacyPolicyRef": "policy-01", "permissionStatementRef": "statement-01",
		"changes": []object{change("newsletter-email", "consent", "DENIED")},
	}).want(t, 200)
	w.api.do(t, "POST", "/v1/suppressions", object{"applicationId": w.id, "emailAddress": "ada@example.com", "channels": []string{"email"}}).want(t, 200)

	const at = "/evidence"
	asPage := func(accept string) *answer {
		return w.api.with("Accept", accept).do(t, "GET", "/v1/citizens/"+mail.CitizenID+at, nil).want(t, 200)
	}
	evidence := asPage("text/html, application/json;q=0.5")
	if kind := evidence.header.Get("Content-Type"); kind != "text/html" || evidence.header.Get("Cache-Control") != "no-store" {
		t.Errorf("a page of the type %s", kind)
	}
	for _, other := range []string{"application/json, text/html", "*/*", "", "text/;;, "} {
		if asPage(other).at("records.0.schema_version") != "ISO/IEC TS 27560:2023" {
			t.Errorf("accepting %q gives no JSON", other)
		}
	}
	w.api.with("Accept", "text/html").do(t, "GET", "/v1/citizens/"+neighbour(mail.CitizenID)+at, nil).want(t, 404)
	own := anonymous(t, w.server).with("Authorization", "Bearer "+w.mint(t, object{"citizenId": mail.CitizenID, "expiryDate": ahead(time.Hour)}).text(t, "token")).with("Accept", "text/html")
	if a := own.do(t, "GET", "/v1/citizens/me"+at, nil).want(t, 200); !strings.Contains(string(a.raw), "<h1>Evidence of consent</h1>") {
		t.Errorf("the citizen's own evidence is no page: %s", a.raw)
	}

	site := httptest.NewServer(http.HandlerFunc(func(h http.ResponseWriter, q *http.Request) {
		if q.URL.Path == "/" {
			h.Header().Set("Content-Type", evidence.header.Get("Content-Type"))
			_, _ = h.Write(evidence.raw)
		}
	}))
	defer site.Close()
	for _, v := range []webtest.View{{}, {Width: 390}, {Width: 320, Dark: true}} {
		tab := webtest.Open(t, v)
		tab.Goto(site.URL)
		tab.Axe()
		tab.Fits()
		tab.Screenshot("evidence")
		shown := strings.Join(strings.Fields(webtest.Run[string](tab, `document.querySelector("main").innerText`)), " ")
		for _, want := range []string{
			"Newsletter", "Requested", "Given", "Withdrawn", "Double opt-in asked in transaction", "sent ", "link opened ", "confirmed by the button", "127.0.0.1", "Mozilla/5.0",
			"Privacy policy, version 1", "We may write to you", "Put on", "E-mail", "double-opt-in", "Chain of hashes", hostile,
		} {
			if !strings.Contains(shown, want) {
				t.Errorf("%s: the page lacks %q:\n%s", v, want, shown)
			}
		}
		if title := webtest.Run[string](tab, `document.title`); !strings.HasPrefix(title, "Evidence of consent") {
			t.Errorf("a record ran: %q", title)
		}
	}
}
