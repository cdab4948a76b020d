package e2e_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/opencpm/opencpm/internal/web/webtest"
	"github.com/opencpm/opencpm/test/harness"
)

// A page on another origin, with a strict policy, embeds the widgets by one tag: what a
// citizen chooses there is recorded, with proof of what was shown, and is in the history.
func TestWidgets(t *testing.T) {
	t.Cleanup(webtest.Close)
	w := start(t, harness.SQLite(t), northwind)
	template := w.api.do(t, "GET", query("/v1/configuration/templates", "applicationId", w.id), nil).want(t, 200).text(t, "templates.0.id")
	w.api.do(t, "POST", "/v1/citizens", object{"applicationId": w.id, "externalRef": "CUST-1"}).want(t, 200)
	token := w.api.do(t, "POST", "/v1/access-tokens/tokens", object{"applicationId": w.id, "externalRef": "CUST-1", "expiryDate": iso(time.Now().Add(time.Hour))}).want(t, 200).text(t, "token")

	site := page(t, w, fmt.Sprintf(`<opencpm-manage template="%s" token="%s" channel="shop" campaign="spring"></opencpm-manage><opencpm-history token="%s"></opencpm-history>`, template, token, token))
	tab := webtest.Open(t, webtest.View{Width: 390})
	tab.Goto(site)
	tab.Until(`customElements.get("opencpm-manage") && document.querySelector("opencpm-manage").state === "ready" && document.querySelector("opencpm-history").state === "empty"`)
	tab.Axe()
	if n := webtest.Run[int](tab, `document.querySelector("opencpm-manage").shadowRoot.querySelectorAll("input:checked").length`); n != 0 {
		t.Errorf("%d are on for somebody who never answered", n)
	}
	webtest.Run[bool](tab, `(r => { r.querySelectorAll("input")[0].click(); r.querySelectorAll("input")[2].click(); r.querySelector(".submit").click(); return true })(document.querySelector("opencpm-manage").shadowRoot)`)
	tab.Until(`document.querySelector("opencpm-manage").state === "saved"`)

	recorded := w.transactions(t, "externalRef", "CUST-1")
	if len(recorded) != 1 || dig(recorded[0], "changes.0.optionId") != "newsletter-email" || dig(recorded[0], "changes.0.state") != "GRANTED" || recorded[0]["channel"] != "shop" || recorded[0]["campaign"] != "spring" {
		t.Errorf("recorded %v", recorded)
	}
	citizen := w.api.do(t, "GET", query("/v1/citizens", "applicationId", w.id, "externalRef", "CUST-1"), nil).want(t, 200).text(t, "citizenId")
	past := w.api.do(t, "GET", "/v1/citizens/"+citizen+"/history", nil).want(t, 200)
	if past.at("history.0.shown.permissionStatement.proven") != true || past.at("history.0.shown.privacyPolicy.proven") != true {
		t.Errorf("what was shown is not proven: %v", past.at("history.0.shown"))
	}
	webtest.Run[bool](tab, `document.querySelector("opencpm-history").reload().then(() => true)`)
	said := webtest.Run[string](tab, `[...document.querySelector("opencpm-history").shadowRoot.querySelectorAll("li .line")].map(l => [...l.children].map(e => e.textContent).join("=")).sort().join("; ")`)
	if want := "Interests=Rock; Newsletter, E-mail=on"; said != want {
		t.Errorf("the history says %q, want %q", said, want)
	}
	if policy := webtest.Run[string](tab, `document.querySelector("opencpm-history").shadowRoot.querySelector("li a").textContent`); policy != "Privacy policy, version 1" {
		t.Errorf("the policy is called %q", policy)
	}

	// One step stops it.
	webtest.Run[bool](tab, `document.querySelector("opencpm-manage").reload().then(() => document.querySelector("opencpm-manage").shadowRoot.querySelector(".stop").click()).then(() => true)`)
	tab.Until(`document.querySelector("opencpm-manage").state === "saved"`)
	if recorded := w.transactions(t, "externalRef", "CUST-1"); len(recorded) != 2 || dig(recorded[1], "changes.0.state") != "DENIED" {
		t.Errorf("recorded %v", recorded)
	}

	// A token that is not valid shows nothing.
	forged := webtest.Open(t, webtest.View{})
	forged.Expect("answered 401", "a status of 401")
	forged.Goto(page(t, w, fmt.Sprintf(`<opencpm-manage template="%s" token="%s"></opencpm-manage>`, template, token[:len(token)-2])))
	forged.Until(`customElements.get("opencpm-manage") && document.querySelector("opencpm-manage").state === "expired" && document.querySelector("opencpm-manage").offsetHeight === 0`)
}

// page serves a page that embeds widgets on an origin of its own.
func page(t testing.TB, w *world, body string) string {
	t.Helper()
	site := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/" {
			rw.WriteHeader(http.StatusNoContent)
			return
		}
		rw.Header().Set("Content-Type", "text/html; charset=utf-8")
		rw.Header().Set("Content-Security-Policy", strings.ReplaceAll("default-src 'none'; script-src API; connect-src API; require-trusted-types-for 'script'; trusted-types 'none'", "API", w.server.URL))
		_, _ = io.WriteString(rw, fmt.Sprintf(`<!doctype html><html lang="en"><head><meta charset="utf-8"><title>My account</title><script src="%s/w/1/consent.js" async></script></head><body><main><h1>My account</h1>%s</main></body></html>`, w.server.URL, body))
	}))
	t.Cleanup(site.Close)
	return site.URL
}

// Somebody new signs up on the page of a shop: what they chose waits for the owner of the
// address, or is recorded under the reference that the shop gave.
func TestSignUpByWidget(t *testing.T) {
	t.Cleanup(webtest.Close)
	w := start(t, harness.SQLite(t), northwind)
	template := w.api.do(t, "GET", query("/v1/configuration/templates", "applicationId", w.id), nil).want(t, 200).text(t, "templates.0.id")
	site := page(t, w, fmt.Sprintf(`<opencpm-capture template="%s" channel="shop"></opencpm-capture><opencpm-capture id="known" template="%s" reference="CUST-7" buttons="none"></opencpm-capture>`, template, template))
	w.settings(t, object{"unauthenticatedCapture": true, "allowedOrigins": []string{site}})

	tab := webtest.Open(t, webtest.View{Width: 390})
	tab.Goto(site)
	tab.Until(`customElements.get("opencpm-capture") && [...document.querySelectorAll("opencpm-capture")].every(e => e.state === "ready")`)
	webtest.Run[bool](tab, `(r => { r.querySelector(".switch").click(); r.getElementById("email").value = "jo@example.com"; r.querySelector(".submit").click(); return true })(document.querySelector("opencpm-capture").shadowRoot)`)
	tab.Until(`document.querySelector("opencpm-capture").state === "saved"`)
	found := w.api.do(t, "POST", "/v1/citizens/search", object{"applicationId": w.id, "emailAddress": "jo@example.com"}).want(t, 200).list(t, "citizens")
	if len(found) != 1 {
		t.Fatalf("%d citizens have the address", len(found))
	}
	if recorded := w.transactions(t, "citizenId", fmt.Sprint(found[0]["citizenId"])); len(recorded) != 1 || dig(recorded[0], "changes.0.state") != "PENDING" || recorded[0]["channel"] != "shop" {
		t.Errorf("recorded %v", recorded)
	}

	webtest.Run[bool](tab, `(e => { e.shadowRoot.querySelector(".switch").click(); return e.submit().then(() => true) })(document.querySelector("#known"))`)
	if recorded := w.transactions(t, "externalRef", "CUST-7"); len(recorded) != 1 || dig(recorded[0], "changes.0.state") != "GRANTED" {
		t.Errorf("recorded %v", recorded)
	}
}
