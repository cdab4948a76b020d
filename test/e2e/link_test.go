package e2e_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/net/html"

	"github.com/opencpm/opencpm/test/harness"
)

// Whoever has lost the link to the own page is sent a new one, or a code, by mail, and
// either opens the page.
func TestLinksAndCodesToTheOwnPage(t *testing.T) {
	harness.OnEachStore(t, func(t *testing.T, s *harness.Store) {
		r := harness.NewReceiver(t)
		w := start(t, s, northwind, impatient...)
		target := query("/v1/configuration", "applicationId", w.id)
		doc := w.api.do(t, "GET", target, nil).want(t, 200).body.(object)
		doc["preferenceCentres"] = []object{
			{"reference": "manage", "name": "Preferences", "type": "manage", "slug": "own-page", "template": "manage-all"},
			{"reference": "link", "name": "Link", "type": "request-link", "slug": "own-link", "manage": "manage"},
			{"reference": "code", "name": "Code", "type": "request-link", "slug": "own-code", "manage": "manage", "code": true},
		}
		w.api.do(t, "PUT", target, doc).want(t, 200)
		w.subscribe(t, r.URL, object{"updateType": "citizen-emails"})
		for _, address := range []string{"ada@example.com", "bob@example.com"} {
			w.api.do(t, "PUT", "/v1/citizens/"+w.citizen(t, address)+"/email", object{"emailAddress": address}).want(t, 204)
		}

		type mail struct {
			Kind      string
			Recipient struct{ Address string }
			Text      string
			Action    struct{ URL string }
		}
		awaited := func(n int, address string) (m mail) {
			t.Helper()
			eventually(t, harness.Patience, "the mail to "+address+" comes", func() bool { return len(r.Messages()) >= n })
			if err := json.Unmarshal(r.Messages()[n-1].Raw, &m); err != nil {
				t.Fatal(err)
			}
			if m.Kind != "preference-link" || m.Recipient.Address != address {
				t.Fatalf("the mail is %+v", m)
			}
			return m
		}
		const page = "Preferences for "

		visitor := newVisitor(t)
		visitor.get(w.server.URL + "/c/own-link")
		visitor.send("email", "ada@example.com")
		link := awaited(1, "ada@example.com").Action.URL
		if text := newVisitor(t).get(link); !strings.Contains(text, page) || !strings.Contains(text, "a•••@example.com") {
			t.Errorf("the link opens %s", text)
		}

		visitor = newVisitor(t)
		visitor.get(w.server.URL + "/c/own-code")
		visitor.send("email", "bob@example.com")
		code := regexp.MustCompile(`(?m)^\d{6}$`).FindString(awaited(2, "bob@example.com").Text)
		if text := visitor.send("code", code); !strings.Contains(text, page) || !strings.Contains(text, "b•••@example.com") {
			t.Errorf("the code %q opens %s", code, text)
		}
		absent(t, "the log", s.Emitted.String(), "ada@example.com", "bob@example.com", link, code)
	})
}

// visitor is a browser without scripts at a page.
type visitor struct {
	t      testing.TB
	client *http.Client
	at     *url.URL
	page   string
}

func newVisitor(t testing.TB) *visitor {
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &visitor{t: t, client: &http.Client{Jar: jar}}
}

// get opens a page and gives it.
func (v *visitor) get(page string) string {
	v.t.Helper()
	return v.open(v.client.Get(page))
}

func (v *visitor) open(response *http.Response, err error) string {
	v.t.Helper()
	if err != nil {
		v.t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		v.t.Fatal(err)
	}
	v.at, v.page = response.Request.URL, string(text)
	return v.page
}

// send fills in a field of the page, sends its form, and gives what is answered.
func (v *visitor) send(field, value string) string {
	v.t.Helper()
	doc, err := html.Parse(strings.NewReader(v.page))
	if err != nil {
		v.t.Fatal(err)
	}
	for form := range doc.Descendants() {
		fields := url.Values{}
		if form.Data != "form" {
			continue
		}
		for n := range form.Descendants() {
			if n.Data == "input" {
				fields.Add(attribute(n, "name"), attribute(n, "value"))
			}
		}
		if !fields.Has(field) {
			continue
		}
		fields.Set(field, value)
		to, err := v.at.Parse(attribute(form, "action"))
		if err != nil {
			v.t.Fatal(err)
		}
		return v.open(v.client.PostForm(to.String(), fields))
	}
	v.t.Fatalf("no form has a field %s:\n%s", field, v.page)
	return ""
}
