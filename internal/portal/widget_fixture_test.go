package portal_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/internal/portal"
	"github.com/opencpm/opencpm/internal/web/webtest"
	"github.com/opencpm/opencpm/internal/words"
)

// embed is a page of somebody else, on an origin of its own, and the server that its
// widgets come from: our scripts, and as much of the API as they call, which can be told
// to be slow or to fail.
type embed struct {
	news *sync.Cond // of calls
	t    *testing.T
	api  *httptest.Server
	site *httptest.Server

	mu    sync.Mutex
	pages map[string]page
	form  consent.Form
	calls []call
	fail  []int         // the statuses that the next calls of the API get
	hold  chan struct{} // until it is closed, no call of the API is answered
	past  string        // the answer to a call for the history
}

// page is one page of the site and the policy that it has.
type page struct{ html, policy string }

// call is one call of the API.
type call struct {
	method, path, query, token string
	body                       map[string]any
}

func newEmbed(t *testing.T) *embed {
	e := &embed{t: t, pages: map[string]page{}, form: shopForm(), past: "[]"}
	e.news = sync.NewCond(&e.mu)
	widgets := portal.Widgets("v1.4.2")
	e.api = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/v1/") {
			e.serve(w, r)
			return
		}
		widgets.ServeHTTP(w, r)
	}))
	e.site = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		e.mu.Lock()
		p, ok := e.pages[r.URL.Path]
		e.mu.Unlock()
		switch {
		case r.URL.Path == "/favicon.ico":
			w.WriteHeader(http.StatusNoContent)
		case !ok:
			http.NotFound(w, r)
		default:
			w.Header().Set("Content-Type", "text/html; charset=utf-8")
			if p.policy != "" {
				w.Header().Set("Content-Security-Policy", p.policy)
			}
			_, _ = io.WriteString(w, p.html)
		}
	}))
	t.Cleanup(func() {
		e.release()
		e.site.Close()
		e.api.Close()
	})
	return e
}

// serve answers a call as the API would.
func (e *embed) serve(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Access-Control-Allow-Origin", "*")
	if r.Method == http.MethodOptions {
		h.Set("Access-Control-Allow-Headers", "authorization, content-type, accept")
		h.Set("Access-Control-Max-Age", "600")
		w.WriteHeader(http.StatusNoContent)
		return
	}
	c := call{method: r.Method, path: r.URL.Path, query: r.URL.RawQuery, token: strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")}
	if r.Header.Get("Cookie") != "" {
		e.t.Errorf("%s %s carried a cookie", r.Method, r.URL.Path)
	}
	if r.Method == http.MethodPost {
		if err := json.NewDecoder(r.Body).Decode(&c.body); err != nil {
			e.t.Errorf("%s: %v", r.URL.Path, err)
		}
	}
	e.mu.Lock()
	e.calls = append(e.calls, c)
	e.news.Broadcast()
	status, hold := 0, e.hold
	if len(e.fail) > 0 {
		status, e.fail = e.fail[0], e.fail[1:]
	}
	form, past := e.form, e.past
	e.mu.Unlock()
	if hold != nil {
		select {
		case <-hold:
		case <-r.Context().Done():
			return
		}
	}
	if c.token == "expired" {
		status = http.StatusUnauthorized
	}
	h.Set("Content-Type", "application/json")
	if status != 0 {
		h.Set("Content-Type", "application/problem+json")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, `{"title":"Refused by the test"}`)
		return
	}
	switch c.method + " " + c.path {
	case "GET /v1/consent-state", "GET /v1/unauthenticated/consent-state":
		if l := r.URL.Query().Get("locale"); l != "" {
			form.Locale, form.Direction = l, words.Direction(l)
		}
		_ = json.NewEncoder(w).Encode(form)
	case "POST /v1/consent-state":
		_, _ = io.WriteString(w, `{"citizenId":"00000000-0000-7000-8000-000000000001","transactions":[]}`)
	case "POST /v1/unauthenticated/transactions":
		w.WriteHeader(http.StatusAccepted)
		_, _ = io.WriteString(w, `{}`)
	case "GET /v1/citizens/me/history":
		_, _ = fmt.Fprintf(w, `{"applicationId":"northwind","history":%s,"nextCursor":null}`, past)
	default:
		e.t.Errorf("%s %s is no call of a widget", c.method, c.path)
		w.WriteHeader(http.StatusNotFound)
	}
}

// failNext lets the next calls of the API fail.
func (e *embed) failNext(statuses ...int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.fail = statuses
}

// holdBack lets calls of the API wait until release.
func (e *embed) holdBack() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.hold = make(chan struct{})
}

func (e *embed) release() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.hold != nil {
		close(e.hold)
		e.hold = nil
	}
}

// called gives the calls with that method so far.
func (e *embed) called(method string) []call {
	e.mu.Lock()
	defer e.mu.Unlock()
	var found []call
	for _, c := range e.calls {
		if c.method == method {
			found = append(found, c)
		}
	}
	return found
}

// awaitCalls waits until there were so many calls with that method.
func (e *embed) awaitCalls(method string, n int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for count := 0; count < n; {
		count = 0
		for _, c := range e.calls {
			if c.method == method {
				count++
			}
		}
		if count < n {
			e.news.Wait()
		}
	}
}

// page puts a page on the site: the body in a frame with the language and the head. In
// both, API stands for the origin of the server.
func (e *embed) page(lang, head, body, policy string) string {
	e.mu.Lock()
	defer e.mu.Unlock()
	dir := "ltr"
	if lang == "ar" {
		dir = "rtl"
	}
	html := fmt.Sprintf(`<!doctype html><html lang="%s" dir="%s"><head><meta charset="utf-8"><title>My account</title><meta name="viewport" content="width=device-width,initial-scale=1">%s</head><body><main><h1>My account</h1>%s</main></body></html>`, lang, dir, head, body)
	path := fmt.Sprintf("/page%d", len(e.pages))
	e.pages[path] = page{strings.ReplaceAll(html, "API", e.api.URL), strings.ReplaceAll(policy, "API", e.api.URL)}
	return e.site.URL + path
}

// script loads the three widgets.
const script = `<script src="API/w/1/consent.js" async></script>`

// host is a page with its own type and colours, as shops have them.
const host = `<meta name="color-scheme" content="light dark"><style>html { background: Canvas; color: CanvasText; } body { font: 17px/1.5 Georgia, serif; max-width: 720px; margin: 0 auto; padding: 16px; }</style>`

// open opens a page with the head of a shop and waits until its widgets are loaded.
func (e *embed) open(t *testing.T, v webtest.View, lang, body string) *webtest.Tab {
	t.Helper()
	tab := webtest.Open(t, v)
	tab.Goto(e.page(lang, host+script, body, ""))
	tab.Until(settled)
	return tab
}

// settled says that no widget of the page is still loading or saving.
const settled = `customElements.get("opencpm-manage") && [...document.querySelectorAll("opencpm-manage, opencpm-history, opencpm-capture")].every(e => e.state !== "loading" && e.state !== "saving")`

// helpers find things in the shadow roots of a page: inside gives the root of one widget,
// by the control of that name, press clicks on one, and heard are the events so far.
const helpers = `if (!globalThis.inside) {
globalThis.inside = (selector = "opencpm-manage") => document.querySelector(selector).shadowRoot;
globalThis.nameOf = (e) => e.getAttribute("aria-label") || (e.getAttribute("aria-labelledby") || "").split(" ").filter(Boolean).map(id => e.getRootNode().getElementById(id).textContent).join(": ") || (e.labels && e.labels[0] ? e.labels[0].textContent : e.textContent);
globalThis.by = (name, selector) => [...inside(selector).querySelectorAll("input, button, summary, a")].find(e => nameOf(e).trim() === name);
globalThis.press = (part, selector) => inside(selector).querySelector(part).click();
globalThis.heard = [];
for (const type of ["load", "loaderror", "empty", "expired", "update", "submit", "success", "failure"]) document.addEventListener("consent:" + type, (e) => heard.push([type, e.detail]));
}
true`

func shopForm() consent.Form {
	yes, no := true, false
	granted, claimed := consent.Granted, consent.Claimed
	name := func(id, n string) *consent.FormName { return &consent.FormName{ID: id, Name: n} }
	email, sms := name("email", "E-mail"), name("sms", "SMS")
	option := func(id, label, description string, purpose, channel *consent.FormName, selected *bool, state *consent.State) consent.FormOption {
		return consent.FormOption{
			OptionID: id, OptionType: "option", Justification: consent.Consent, Label: label, Description: description,
			Selected: selected, State: state, Party: name("northwind", "Northwind"), Purpose: purpose, Channel: channel, DirectMarketing: true,
		}
	}
	weekly := "weekly"
	newsletter, offers := name("newsletter", "Newsletter"), name("offers", "Offers")
	offer := option("offers-email", "Offers", "Discounts, at most one a week", offers, email, nil, nil)
	offer.Card = &consent.FormCard{On: "You will hear of discounts", Off: "You will not hear of discounts"}
	studies := consent.FormOption{OptionID: "research-email", OptionType: "option", Justification: consent.LegitimateInterest, Label: "Customer research", Selected: &yes, State: &claimed, Purpose: name("research", "Research"), Channel: email}
	orders := consent.FormOption{OptionID: "orders-email", OptionType: "option", Justification: consent.Contract, Label: "Order and account messages", Purpose: name("orders", "Orders"), Channel: email}
	calls := option("offers-phone", "Offers by phone", "", offers, name("phone", "Phone"), &no, nil)
	calls.Suppressed = true
	text := []consent.RichText{{Type: "paragraph", Children: []consent.RichText{
		{Type: "text", Text: "We may write to you about what you choose here. "},
		{Type: "strong", Children: []consent.RichText{{Type: "text", Text: "You can change it"}}},
		{Type: "text", Text: " at any time, see our "},
		{Type: "link", Href: "https://example.com/privacy", Children: []consent.RichText{{Type: "text", Text: "privacy notes"}}},
		{Type: "text", Text: "."},
	}}}
	return consent.Form{
		ApplicationID: "northwind", TemplateID: "t_1", Locale: "en", Locales: []string{"en", "de", "ar"}, Direction: "ltr", Snapshot: "signed",
		PrivacyPolicy: &consent.FormPolicy{ID: "p1", Reference: "policy", Name: "Privacy policy", Version: "7", URL: "https://example.com/privacy"},
		Blocks: []consent.FormBlock{
			{Type: "permissions", Heading: "What we send you", Statement: &consent.FormStatement{ID: "s1", Reference: "statement", Version: 3, Text: "We may write to you.", Content: text}, Options: []consent.FormOption{
				option("newsletter-email", "Newsletter", "About twice a month", newsletter, email, &yes, &granted),
				option("newsletter-sms", "Newsletter", "About twice a month", newsletter, sms, &no, nil),
				offer, calls, studies, orders,
			}},
			{Type: "multi-choice-preference", Reference: "topics", Label: "Topics", Choices: []consent.FormChoice{{Reference: "home", Label: "Home", Selected: true}, {Reference: "garden", Label: "Garden"}}},
			{Type: "single-choice-preference", Reference: "frequency", Label: "How often", SelectedChoice: &weekly, Choices: []consent.FormChoice{{Reference: "weekly", Label: "Every week"}, {Reference: "monthly", Label: "Once a month"}}},
			{Type: "text", Text: "You can change your mind at any time."},
		},
	}
}
