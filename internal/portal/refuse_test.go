package portal

import (
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/internal/core"
)

// What is the matter is said by the status, too, and when to come again by a header.
func TestFailures(t *testing.T) {
	s := newSite(t)
	p := New(Options{Core: s.core, BaseURL: "http://127.0.0.1", Log: slog.New(slog.DiscardHandler), RequestID: func(*http.Request) string { return "4711" }})
	for _, c := range []struct {
		err           error
		status        int
		says, retries string
	}{
		{consent.Errorf(consent.NotFound, "no"), http.StatusNotFound, "This page does not exist", ""},
		{&consent.Error{Kind: consent.Throttled, RetryAfter: 1500 * time.Millisecond}, http.StatusTooManyRequests, "Too many requests", "2"},
		{&consent.Error{Kind: consent.Unavailable, Cause: errors.New("connection refused")}, http.StatusServiceUnavailable, "Not available at the moment", "1"},
		{consent.Errorf(consent.Full, "full"), http.StatusInsufficientStorage, "Not available at the moment", ""},
		{errors.New("secret"), http.StatusInternalServerError, "4711", ""},
	} {
		w := httptest.NewRecorder()
		r := httptest.NewRequest(http.MethodGet, "/c/northwind", http.NoBody)
		p.failure(w, r, p.plain(r, ""), c.err)
		if text := w.Body.String(); w.Code != c.status || w.Header().Get("Retry-After") != c.retries || !strings.Contains(text, c.says) || strings.Contains(text, "secret") {
			t.Errorf("%v: %d, Retry-After %q:\n%s", c.err, w.Code, w.Header().Get("Retry-After"), text)
		}
	}
}

// A centre that is closed keeps its look, and tells nothing of anybody.
func TestAClosedCentre(t *testing.T) {
	s := newSite(t)
	_, token := s.citizen("jordan", "newsletter-email")
	r := s.reader()
	r.get(s.url + "/c/northwind?token=" + token).says("Preferences for")
	s.edit(func(c *consent.Catalogue) { c.PreferenceCentres[0].Closed = true })
	for _, page := range []string{"", "/en", "/history", "/data", "/data.json"} {
		if r.get(s.url + "/c/northwind" + page).says("closed"); strings.Contains(r.text, "Newsletter") || strings.Contains(r.text, "jordan") {
			t.Errorf("%s says %s", page, r.text)
		}
	}
	if r.get(s.url + "/c/northwind/brand.css"); r.status != http.StatusOK || !strings.HasPrefix(r.header.Get("Content-Type"), "text/css") {
		t.Errorf("its colours: %d %s", r.status, r.header.Get("Content-Type"))
	}
}

// Whoever has chosen a language behind the link of a mail keeps it.
func TestLinksOfMailsKeepTheLanguage(t *testing.T) {
	s := newSite(t)
	id, _ := s.citizen("jordan", "offers-email")
	l, err := s.core.MintUnsubscribe(t.Context(), s.actor, core.Request{}, core.UnsubscribeRequest{ApplicationID: "northwind", Citizen: consent.CitizenKey{ID: id}, Leaves: consent.Key{Type: consent.OptionSingle, ID: "offers-email"}})
	if err != nil {
		t.Fatal(err)
	}
	r := s.reader()
	in := func(lang string) {
		t.Helper()
		if got := r.header.Get("Content-Language"); got != lang {
			t.Errorf("%s is in %s, not %s", r.at, got, lang)
		}
	}
	r.get(s.url+"/u/"+l.Token+"?lang=de").press("Abbestellen", "mark=AAAA")
	in("de")
	r.press("Abbestellen")
	in("de")
	r.press("Diese Änderung rückgängig machen")
	in("de")

	s.reader().get(s.url+"/c/northwind-news").press("Sign up", "email=ada@example.com", "o=option:newsletter-email").says("Check your inbox")
	link := s.url + strings.TrimPrefix(s.mails()[0].Action.URL, "http://127.0.0.1")
	r.get(link + "?lang=de").press("Ja, bestätigen")
	in("de")
	r.press("Nicht Sie? Rückgängig machen")
	in("de")
}

// A link of a mail that is none of ours leads nowhere, least of all to another site.
func TestNoLinkOfAMailLeadsAway(t *testing.T) {
	s := newSite(t)
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	for _, path := range []string{"/u/..%2F%5Cevil.example/leave", "/u/..%2F%5Cevil.example/undo", "/confirm/..%2F%5Cevil.example", "/confirm/%2Fevil.example/undo", "/u/%5Cevil.example/leave?lang=//evil.example"} {
		res, err := client.PostForm(s.url+path, url.Values{})
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		to, err := res.Location()
		if err != nil || to.Host != strings.TrimPrefix(s.url, "http://") || strings.Contains(res.Header.Get("Location"), `\`) {
			t.Errorf("%s leads to %q", path, res.Header.Get("Location"))
		}
	}
}
