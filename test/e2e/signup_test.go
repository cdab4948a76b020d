package e2e_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/html"

	"github.com/opencpm/opencpm/test/harness"
)

// settings sets fields of the application.
func (w *world) settings(t testing.TB, with object) {
	t.Helper()
	target := query("/v1/configuration", "applicationId", w.id)
	doc := w.api.do(t, "GET", target, nil).want(t, 200).body
	settings := doc.(object)["application"].(object)
	for name, value := range with {
		settings[name] = value
	}
	w.api.do(t, "PUT", target, doc).want(t, 200)
}

// capture answers without a token; with holds what is answered.
func (w *world) capture(t testing.TB, c *client, with object) *answer {
	t.Helper()
	body := object{"applicationId": w.id, "channel": "web", "changes": []object{change("newsletter-email", "consent", "GRANTED")}}
	for name, value := range with {
		body[name] = value
	}
	return c.do(t, "POST", "/v1/unauthenticated/transactions", body)
}

// parked lets n captures wait for a citizen who is known, and gives their ids.
func (w *world) parked(t testing.TB, ref string, n int) (ids []string) {
	t.Helper()
	w.settings(t, object{"unauthenticatedCapture": true})
	for range n {
		w.capture(t, w.api, object{"uniqueReference": ref}).want(t, 202)
	}
	list := w.api.do(t, "GET", query("/v1/captures", "applicationId", w.id, "limit", "100"), nil).want(t, 200).list(t, "captures")
	for _, v := range list {
		if v["externalRef"] == ref {
			ids = append(ids, v["id"].(string))
		}
	}
	if len(ids) < n {
		t.Fatalf("%d captures wait, not %d", len(ids), n)
	}
	return ids
}

// bodies gives the plain and the HTML form of a mail.
func bodies(t testing.TB, m harness.Mail) (plain, html string) {
	t.Helper()
	kind, parameters, err := mime.ParseMediaType(m.Header.Get("Content-Type"))
	if err != nil || kind != "multipart/alternative" {
		t.Fatalf("a mail of the type %s: %v", kind, err)
	}
	r := multipart.NewReader(strings.NewReader(m.Text), parameters["boundary"])
	for {
		part, err := r.NextRawPart()
		if errors.Is(err, io.EOF) {
			return plain, html
		}
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(quotedprintable.NewReader(part))
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(part.Header.Get("Content-Type"), "text/html") {
			html = string(text)
		} else {
			plain = string(text)
		}
	}
}

var links = regexp.MustCompile(`https?://[^\s"'<>]+`)

// post sends the form of a page as its button does, leaving out the fields that are named.
func post(t testing.TB, page string, without ...string) {
	t.Helper()
	response, err := http.Get(page)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	doc, err := html.Parse(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	at, fields := response.Request.URL, url.Values{}
	var forms int
	for form := range doc.Descendants() {
		if form.Data != "form" || attribute(form, "method") != "post" {
			continue
		}
		forms++
		if at, err = at.Parse(attribute(form, "action")); err != nil {
			t.Fatal(err)
		}
		for n := range form.Descendants() {
			if name := attribute(n, "name"); n.Data == "input" && !slices.Contains(without, name) {
				fields.Add(name, attribute(n, "value"))
			}
		}
	}
	if forms != 1 {
		t.Fatalf("the page has %d forms", forms)
	}
	answer, err := http.PostForm(at.String(), fields)
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		t.Fatalf("the form is answered with %d", answer.StatusCode)
	}
}

func attribute(n *html.Node, name string) string {
	for _, a := range n.Attr {
		if a.Key == name {
			return a.Val
		}
	}
	return ""
}

// A sign-up without a token becomes a mail by the mail server, here a full one, or else by
// the subscription, and never both. Whoever follows every link of it changes nothing; the
// button of the page that it leads to grants.
func TestSignUpByMail(t *testing.T) {
	harness.OnEachStore(t, func(t *testing.T, s *harness.Store) {
		mailbox := harness.NewMTA(t)
		s.Env = []string{
			"SSL_CERT_FILE=" + mailbox.CA, "OPENCPM_MAIL_FROM=consent@example.com",
			"OPENCPM_SMTP_URL=smtp://" + harness.MailUser + ":" + harness.MailPassword + "@" + mailbox.Address,
		}
		r := harness.NewReceiver(t)
		w := start(t, s, northwind, impatient...)
		nobody := anonymous(t, w.server)
		w.capture(t, nobody, object{"emailAddress": "ada@example.com"}).want(t, 404)
		w.settings(t, object{
			"unauthenticatedCapture": true, "allowedOrigins": []string{"https://shop.example"},
			"sender": object{"name": "Northwind", "address": "hello@northwind.example", "replyTo": "service@northwind.example"},
		})
		w.capture(t, nobody.with("Origin", "https://evil.example"), object{"emailAddress": "ada@example.com"}).want(t, 403)
		shop := nobody.with("Origin", "https://shop.example")
		first := w.capture(t, shop, object{"emailAddress": "ada@example.com", "locale": "de"}).want(t, 202)
		again := w.capture(t, shop, object{"emailAddress": "ada@example.com"}).want(t, 202)
		if string(first.raw) != string(again.raw) {
			t.Errorf("answers differ: %s, %s", first.raw, again.raw)
		}

		m := mailbox.Await(t, 1, harness.Patience)[0]
		plain, html := bodies(t, m)
		if m.To != "ada@example.com" || !m.TLS || m.User != harness.MailUser || m.From != "hello@northwind.example" || m.Header.Get("Reply-To") != "<service@northwind.example>" ||
			m.Header.Get("Auto-Submitted") != "auto-generated" || m.Header.Get("List-Unsubscribe") != "" || !strings.Contains(html, `lang="de"`) {
			t.Errorf("mail %+v\n%s", m.Header, html)
		}
		signedUp := func(address string) (id, ref string) {
			t.Helper()
			found := w.api.do(t, "POST", "/v1/citizens/search", object{"applicationId": w.id, "emailAddress": address}).want(t, 200).list(t, "citizens")
			if len(found) != 1 {
				t.Fatalf("%d citizens have the address %s", len(found), address)
			}
			details := found[0]["applicationDetails"].([]any)
			return found[0]["citizenId"].(string), details[0].(object)["externalRef"].(string)
		}
		id, ref := signedUp("ada@example.com")
		history := func() string {
			return string(w.api.do(t, "GET", "/v1/citizens/"+id+"/history", nil).want(t, 200).raw)
		}
		before, seen := history(), 0
		for range 2 {
			for _, link := range append(links.FindAllString(plain, -1), links.FindAllString(html, -1)...) {
				response, err := http.Get(link)
				if err != nil {
					t.Fatal(err)
				}
				response.Body.Close()
				seen++
			}
		}
		if after := history(); seen == 0 || after != before {
			t.Errorf("after %d links were followed:\n%s\n%s", seen, before, after)
		}
		noted := func(id, state, reason string, attempts float64) {
			t.Helper()
			eventually(t, harness.Patience, "the mail is noted as "+state, func() bool {
				list := w.api.do(t, "GET", "/v1/citizens/"+id+"/emails", nil).want(t, 200).list(t, "emails")
				return len(list) == 1 && list[0]["state"] == state && list[0]["attempts"] == attempts && list[0]["way"] == "smtp" && strings.Contains(fmt.Sprint(list[0]["reason"]), reason)
			})
		}
		noted(id, "sent", "<nil>", 0)
		for address, became := range map[string][2]string{harness.GoneRecipient: {"refused", "550"}, harness.BusyRecipient: {"waiting", "451"}} {
			w.capture(t, shop, object{"emailAddress": address}).want(t, 202)
			id, _ := signedUp(address)
			noted(id, became[0], became[1], 1)
		}

		page := regexp.MustCompile(`https?://\S+/confirm/\S+`).FindString(plain)
		post(t, page, "mark")
		if after := history(); after != before {
			t.Errorf("a form that nobody was shown:\n%s\n%s", before, after)
		}
		if got := w.states(t, ref)["newsletter-email"]; strings.Contains(got, "GRANTED") {
			t.Errorf("%s before it is confirmed", got)
		}
		post(t, page)
		if got := w.states(t, ref)["newsletter-email"]; got != "consent GRANTED" {
			t.Errorf("confirmed, and %q", got)
		}

		w.subscribe(t, r.URL, object{"updateType": "citizen-emails"})
		w.capture(t, shop, object{"emailAddress": "bob@example.com"}).want(t, 202)
		var got struct {
			EventType, Kind string
			Recipient       struct{ Address string }
			Action          struct{ URL string }
		}
		eventually(t, harness.Patience, "the subscription gets a mail", func() bool { return len(r.Messages()) > 0 })
		if err := json.Unmarshal(r.Messages()[0].Raw, &got); err != nil {
			t.Fatal(err)
		}
		if got.EventType != "citizen.email" || got.Kind != "double-opt-in" || got.Recipient.Address != "bob@example.com" || !strings.Contains(got.Action.URL, "/confirm/") {
			t.Errorf("the subscription got %+v", got)
		}
		if n := len(mailbox.Await(t, 1, harness.Patience)); n != 1 {
			t.Errorf("the mail server got %d mails, not that to ada alone", n)
		}
		absent(t, "the log", s.Emitted.String(), "ada@example.com", harness.GoneRecipient, harness.BusyRecipient, page, got.Action.URL, harness.MailPassword)
	})
}
