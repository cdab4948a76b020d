package portal

import (
	"context"
	"os"
	"strings"
	"testing"

	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/internal/core"
)

// A new link is offered where a mail with it can leave: to a subscription that takes the
// mails, or by the mail server from a sender.
func TestANewLinkIsOfferedWhereItCanBeSent(t *testing.T) {
	s := newSite(t)
	expired := func() *reader {
		return s.reader().get(s.url + "/c/northwind?token=expired").says("This link no longer works")
	}
	asked := func() *reader { return s.reader().get(s.url + "/c/northwind-link") }
	expired().says("Ask for a new one here.", "Send me a new link")
	asked().says("Send me a link")

	s.edit(func(c *consent.Catalogue) { c.Application.Sender = nil })
	expired().says("or ask us for a new link").lacks("Send me a new link", "Send me a link")
	asked().says("This page is closed").lacks("Send me a new link", "Send me a link")

	_, _, err := s.core.CreateSubscription(t.Context(), s.actor, core.Request{}, consent.Subscription{
		ApplicationID: "northwind", Name: "Mails", URL: "https://crm.example/mails", UpdateType: consent.CitizenEmails, AuthType: consent.AuthNone,
	})
	if err != nil {
		t.Fatal(err)
	}
	expired().says("Send me a new link").press("Send me a new link", "email=jordan@example.com").says("Check your inbox")
	asked().says("Send me a link")
}

// edit imports the catalogue of the tests with a difference.
func (s *site) edit(edit func(*consent.Catalogue)) {
	s.t.Helper()
	text, err := os.ReadFile("testdata/northwind.yaml")
	if err != nil {
		s.t.Fatal(err)
	}
	doc, err := consent.ParseCatalogue(text)
	if err != nil {
		s.t.Fatal(err)
	}
	edit(&doc)
	if _, err := s.core.ImportCatalogue(s.t.Context(), "northwind", doc, core.Import{Prune: true}); err != nil {
		s.t.Fatalf("%v: %+v", err, fieldsOf(err))
	}
}

// lacks fails the test if the page says something.
func (r *reader) lacks(texts ...string) *reader {
	r.t.Helper()
	for _, text := range texts {
		if strings.Contains(strings.Join(strings.Fields(wording(r.doc)), " "), text) {
			r.t.Errorf("%s says %q:\n%s", r.at, text, r.text)
		}
	}
	return r
}

// A link leads to the page that the centre names where it was asked for, and where none is
// open none can be asked for.
func TestWhereAnAskedLinkLeads(t *testing.T) {
	s := newSite(t)
	s.citizen("jordan")
	done := make(chan struct{})
	ctx, stop := context.WithCancel(t.Context())
	go func() { s.core.RunLinks(ctx); close(done) }()
	t.Cleanup(func() { stop(); <-done })
	s.edit(func(c *consent.Catalogue) {
		for i := range c.PreferenceCentres {
			if c.PreferenceCentres[i].Reference == "link" {
				c.PreferenceCentres[i].Manage = "asking"
			}
		}
	})
	s.reader().get(s.url+"/c/northwind-link").press("Send me a link", "email=jordan@example.com").says("Check your inbox")
	mail := s.mails()[0]
	if !strings.Contains(mail.Action.URL, "/c/northwind-open?token=") {
		t.Errorf("the link leads to %s", mail.Action.URL)
	}
	s.edit(func(c *consent.Catalogue) {
		for i := range c.PreferenceCentres {
			if c.PreferenceCentres[i].Type == consent.ManageCentre {
				c.PreferenceCentres[i].Closed = true
			}
		}
	})
	s.reader().get(s.url + "/c/northwind-link").says("closed").lacks("Send me a link")
}
