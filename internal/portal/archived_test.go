package portal

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/internal/core"
)

// What is archived since somebody answered it keeps its names on their pages.
func TestArchivedIsStillNamed(t *testing.T) {
	s := newSite(t)
	id, token := s.citizen("jordan", "newsletter-email", "research-email")
	if _, err := s.core.Suppress(t.Context(), s.actor, core.Request{}, core.NewSuppression{ApplicationID: "northwind", Address: core.ListedAddress{Email: "jordan@example.com"}, Channels: []string{"post"}}); err != nil {
		t.Fatal(err)
	}
	s.reader().get(s.url+"/c/northwind?token="+token).press("Save choices", "p:frequency=weekly").says("Your choices are saved")
	s.reader().get(s.url+"/c/northwind-news").press("Sign up", "email=robin@example.com", "o=option:offers-email").says("Check your inbox")
	link := s.url + strings.TrimPrefix(s.mails()[0].Action.URL, "http://127.0.0.1")
	s.edit(func(c *consent.Catalogue) {
		gone := []string{"research-email", "offers-email", "offers-post", "research", "post"}
		c.Options = slices.DeleteFunc(c.Options, func(o consent.Option) bool { return slices.Contains(gone, o.ID) })
		c.Purposes = slices.DeleteFunc(c.Purposes, func(p consent.Purpose) bool { return slices.Contains(gone, p.ID) })
		c.Purposes[0].Label["de"] = "Nachrichten"
		c.Channels = slices.DeleteFunc(c.Channels, func(v consent.Channel) bool { return slices.Contains(gone, v.ID) })
		c.Preferences = slices.DeleteFunc(c.Preferences, func(p consent.Preference) bool { return p.Reference == "frequency" })
		c.RuleSets = slices.DeleteFunc(c.RuleSets, func(r consent.RuleSet) bool { return slices.Contains(r.MandatoryPreferences, "frequency") })
		c.PreferenceCentres = slices.DeleteFunc(c.PreferenceCentres, func(v consent.PreferenceCentre) bool { return v.RuleSet == "must" })
		for i := range c.Templates {
			t := &c.Templates[i]
			t.Blocks = slices.DeleteFunc(t.Blocks, func(b consent.Block) bool { return b.Preference == "frequency" })
			for k := range t.Blocks {
				b := &t.Blocks[k]
				b.Options = slices.DeleteFunc(b.Options, func(o consent.BlockOption) bool { return slices.Contains(gone, o.Option) })
			}
		}
	})
	r := s.reader()
	r.get(s.url + "/c/northwind?token=" + s.token(id, time.Hour)).get(s.url + "/c/northwind?lang=de")
	if strings.Contains(r.text, `"q-frequency"`) || strings.Contains(r.text, `"option:research-email"`) {
		t.Fatalf("it is still asked:\n%s", r.text)
	}
	for _, page := range []string{"history", "data"} {
		r.get(s.url+"/c/northwind/"+page).says("Umfragen: E-Mail", "Nachrichten: E-Mail", "Wie oft? Jede Woche", "Post auf unserer Sperrliste").lacks("research-email", "frequency")
	}
	s.reader().get(link + "?lang=en").says("Offers and sales: Email")
}
