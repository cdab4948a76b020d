package portal

import (
	"net/http"
	"strings"
	"testing"

	"github.com/opencpm/opencpm/internal/consent"
)

// A telephone number is asked for where something reaches people by telephone. It may be
// left out, what was typed is kept where something is wrong, and it becomes the citizen's
// by the confirmation, on whose page it stands.
func TestSigningUpWithATelephone(t *testing.T) {
	s := newSite(t)
	s.reader().get(s.url + "/c/northwind-news").says("Newsletter").lacks("Phone number")

	r := s.reader()
	r.get(s.url+"/c/northwind-sms").says("Phone number (optional)", "With the country code")
	r.press("Sign up", "email=jordan@example.com", "telephone=020 7946 0018", "o=option:offers-sms").says("There is a problem", "Enter a phone number with its country code")
	if field := byID(r.doc, "telephone"); r.status != http.StatusUnprocessableEntity || attr(field, "value") != "020 7946 0018" || attr(field, "aria-invalid") != "true" ||
		!strings.Contains(r.text, `value="jordan@example.com"`) || strings.Count(r.text, " checked") != 1 {
		t.Errorf("what was typed is forgotten: %d, %s", r.status, r.text)
	}
	r.press("Sign up", "telephone= +44 20 7946 0018 ").says("Check your inbox")
	mail := s.mails()[0]
	if got := s.telephone(mail.CitizenID); got != "" {
		t.Errorf("before the confirmation the number is %q", got)
	}
	confirm := s.reader()
	confirm.get(s.url+strings.TrimPrefix(mail.Action.URL, "http://127.0.0.1")).says("Please confirm", "Phone number that was entered", "+44•••18")
	confirm.press("Yes, confirm").says("Thank you, it is confirmed")
	if got := s.telephone(mail.CitizenID); got != "+442079460018" {
		t.Errorf("after the confirmation the number is %q", got)
	}

	s.reader().get(s.url+"/c/northwind-sms").press("Sign up", "email=robin@example.com", "o=option:newsletter-email").says("Check your inbox")
	mail = s.mails()[0]
	confirm.get(s.url + strings.TrimPrefix(mail.Action.URL, "http://127.0.0.1")).says("Please confirm").lacks("Phone number").press("Yes, confirm").says("it is confirmed")
	if got := s.telephone(mail.CitizenID); got != "" {
		t.Errorf("without a number it is %q", got)
	}
}

// telephone gives the number that is known of somebody.
func (s *site) telephone(id consent.ID) string {
	s.t.Helper()
	c, _, err := s.core.CitizenByID(s.t.Context(), s.actor, id)
	if err != nil {
		s.t.Fatal(err)
	}
	return c.Details.Telephone
}
