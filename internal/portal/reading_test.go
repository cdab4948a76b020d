package portal

import (
	"strings"
	"testing"

	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/internal/core"
	"github.com/opencpm/opencpm/internal/web/webtest"
)

// A long heading says where it may break, on the page alone.
func TestALongHeadingMayBreak(t *testing.T) {
	s := newSite(t)
	_, token := s.citizen("jordan", "newsletter-email")
	r := s.reader().get(s.url + "/c/northwind-own/de?token=" + token)
	for _, text := range []string{"<h1>Ihre Kommunikations\u00adeinstellungen</h1>", "<title>Ihre Kommunikationseinstellungen – Northwind at home</title>"} {
		if !strings.Contains(r.text, text) {
			t.Errorf("the page has no %s", text)
		}
	}
}

// The privacy policy has the name of the reader's language, and the number of its version
// stays as it is written among letters from right to left.
func TestThePolicyInTheLanguageOfItsReader(t *testing.T) {
	s := newSite(t)
	s.edit(func(c *consent.Catalogue) {
		c.PrivacyPolicies[0].Label = consent.Localised{"en": "Privacy policy", "de": "Datenschutzerklärung", "ar": "سياسة الخصوصية"}
	})
	_, token := s.citizen("jordan", "newsletter-email")
	for lang, policy := range map[string]string{"en": "Privacy policy, version 7", "de": "Datenschutzerklärung, Version 7", "ar": "سياسة الخصوصية، الإصدار \u20667\u2069"} {
		r := s.reader()
		r.get(s.url + "/c/northwind/" + lang + "?token=" + token).says(policy)
		r.get(s.url + "/c/northwind-news/" + lang).says(policy)
	}
	r := s.reader()
	r.get(s.url+"/c/northwind/ar?token="+token).press("حفظ الاختيارات", "o=option:newsletter-email", "o=option:offers-email")
	r.get(s.url + "/c/northwind/history").says("سياسة الخصوصية، الإصدار \u20667\u2069")
}

// On a phone what is kept of somebody stands below its name, and has the room of the page.
func TestDataOnAPhone(t *testing.T) {
	url := gallery(t)
	for width, narrow := range map[int]bool{390: true, 1440: false} {
		tab := openAt(t, url, "data", webtest.View{Width: width, Height: 900})
		below := webtest.Run[bool](tab, `document.querySelector(".kept dd").getBoundingClientRect().top >= document.querySelector(".kept dt").getBoundingClientRect().bottom`)
		if room := webtest.Run[float64](tab, `document.querySelector(".kept dd").clientWidth`); below != narrow || room < 280 {
			t.Errorf("at %d pixels a value has %.0f of them, below its name: %t", width, room, below)
		}
	}
}

// A link that nobody knows leads to the help of the only organisation there is, and with
// another one to nobody's.
func TestHelpForALinkThatNobodyKnows(t *testing.T) {
	s := newSite(t)
	pages := []string{"/u/ocpm_unsubscribe_none", "/confirm/none", "/c/", "/confirm/"}
	for _, page := range pages {
		if r := s.reader().get(s.url + page).says("Northwind"); !strings.Contains(r.text, `href="mailto:help@northwind.example"`) {
			t.Errorf("%s has no help", page)
		}
	}
	if _, err := s.core.CreateApplication(t.Context(), "other", "Other"); err != nil {
		t.Fatal(err)
	}
	for _, page := range pages {
		if r := s.reader().get(s.url + page); strings.Contains(r.text, "help@northwind.example") {
			t.Errorf("%s has the help of one of two", page)
		}
	}
}

// Who leaves one thing is told what else is on, and where to change it.
func TestWhatIsStillOnCanBeChanged(t *testing.T) {
	s := newSite(t)
	id, _ := s.citizen("jordan", "offers-sms", "offers-email")
	l, err := s.core.MintUnsubscribe(t.Context(), s.actor, core.Request{}, core.UnsubscribeRequest{ApplicationID: "northwind", Citizen: consent.CitizenKey{ID: id}, Leaves: consent.Key{Type: consent.OptionSingle, ID: "offers-sms"}})
	if err != nil {
		t.Fatal(err)
	}
	s.reader().get(s.url+"/u/"+l.Token).press("Unsubscribe").says("Still on", "Offers and sales: Email You can change this in your preferences: See your preferences")
}

// The mails of an application are in the colour and the name of its pages.
func TestMailsLookAsThePages(t *testing.T) {
	s := newSite(t)
	s.edit(func(c *consent.Catalogue) {
		c.PreferenceCentres[0].Brand = consent.Brand{Name: "Northwind at home", Accent: "#7a1f5c"}
	})
	s.reader().get(s.url+"/c/northwind-news").press("Sign up", "email=ada@example.com", "o=option:newsletter-email").says("Check your inbox")
	m := s.mails()[0]
	if html := m.HTML; !strings.Contains(html, "background-color:#7a1f5c;color:#ffffff") || !strings.Contains(html, ">Northwind at home</p>") || !strings.HasPrefix(m.Text, "Northwind at home\n") {
		t.Errorf("the mail is\n%s\n%s", m.HTML, m.Text)
	}
}
