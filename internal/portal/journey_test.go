package portal

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/internal/core"
	"github.com/opencpm/opencpm/internal/store"
)

// Somebody comes by a link, changes their mind, is told what changed, and takes it back:
// all of it without scripts.
func TestChangingOnesMind(t *testing.T) {
	s := newSite(t)
	id, token := s.citizen("jordan", "newsletter-email", "offers-post")
	r := s.reader()
	r.get(s.url + "/c/northwind?token=" + token)
	if r.at.Path != "/c/northwind" || r.at.RawQuery != "" || strings.Contains(r.text, token) {
		t.Errorf("the token is still there: %s", r.at)
	}
	r.says("Your communication preferences", "Preferences for j•••n@example.com", "Newsletter", "Stories, about twice a month", "Catalogue by post", "Order messages", "Northwind Retail Ltd is responsible", "Privacy policy, version 7")

	r.press("Save choices").says("Nothing was different")
	if s.records(id) != 1 {
		t.Error("a form that came back as it was is recorded")
	}
	r.press("Save choices", "-o=option:newsletter-email", "o=option:offers-sms", "p:interests=garden", "p:frequency=monthly")
	r.says("Your choices are saved", "Newsletter: Email off", "Offers and sales: SMS on", "Topics that interest you Garden", "How often should we email you? Once a month", "Privacy policy, version 7", "See history")
	if got := s.stands(id); got != "newsletter-email=DENIED offers-post=CLAIMED offers-sms=GRANTED" {
		t.Errorf("there stands %s", got)
	}
	if got := s.answers(id); got != "frequency=monthly interests=garden" {
		t.Errorf("answered is %s", got)
	}
	r.press("Undo this change").says("The change is undone Newsletter: Email on Offers and sales: SMS off Topics that interest you nothing chosen How often should we email you? nothing chosen")
	r.says("An earlier change was undone Newsletter: Email on Offers and sales: SMS off")
	if got := s.stands(id) + " " + s.answers(id); got != "newsletter-email=GRANTED offers-post=CLAIMED frequency= interests=" {
		t.Errorf("after undoing there stands %s", got)
	}
}

// An objection is one button, and so is taking it back; other changes go with it.
func TestObjecting(t *testing.T) {
	s := newSite(t)
	id, token := s.citizen("jordan", "offers-post")
	r := s.reader()
	r.get(s.url+"/c/northwind?token="+token).press("Object", "o=option:offers-sms").says("Your choices are saved", "Offers and sales: Post you objected", "You have objected, so we do not do this.")
	if got := s.stands(id); got != "offers-post=OBJECTION_UPHELD offers-sms=GRANTED" {
		t.Errorf("there stands %s", got)
	}
	r.press("Withdraw objection").says("You can object at any time")
	if got := s.stands(id); got != "offers-post=CLAIMED offers-sms=GRANTED" {
		t.Errorf("there stands %s", got)
	}
}

// All marketing stops by one button, and what a mail was about by one as well.
func TestStopping(t *testing.T) {
	s := newSite(t)
	id, token := s.citizen("jordan", "newsletter-email", "offers-sms", "research-email", "offers-post")
	r := s.reader()
	r.get(s.url + "/c/northwind?intent=unsubscribe&topic=newsletter&channel=email&token=" + token)
	r.says("Stop this: Newsletter: Email", "Or choose below").press("Stop").says("You will get no more of this: Newsletter: Email")
	if got := s.stands(id); got != "newsletter-email=DENIED offers-post=CLAIMED offers-sms=GRANTED research-email=GRANTED" {
		t.Errorf("there stands %s", got)
	}
	r.get(s.url + "/c/northwind?intent=unsubscribe&topic=newsletter&channel=email").says("Newsletter: Email is already off.")
	r.lacks("Unsubscribe from all") // research goes on
	r.press("Stop all marketing").says("All marketing is stopped", "Offers and sales: SMS off", "Offers and sales: Post you objected", "Still on Customer research: Email Turn off", "Privacy policy, version 7")
	if got := s.stands(id); got != "newsletter-email=DENIED offers-email=DENIED offers-post=OBJECTION_UPHELD offers-sms=DENIED research-email=GRANTED trailhead-email=DENIED" {
		t.Errorf("there stands %s", got)
	}
	r.press("Undo this change").says("The change is undone", "Offers and sales: Post used, unless you object", "Offers and sales: SMS on")
	if got := s.stands(id); got != "newsletter-email=DENIED offers-post=CLAIMED offers-sms=GRANTED research-email=GRANTED" {
		t.Errorf("there stands %s", got)
	}
	// What goes on can be refused where it is named; then nothing is left.
	r.press("Stop all marketing").press("Turn off").says("Your choices are saved", "Customer research: Email off")
	r.press("Unsubscribe from all").says("All marketing was already stopped.").lacks("Still on", "Take a break")
	if got := s.stands(id); got != "newsletter-email=DENIED offers-email=DENIED offers-post=OBJECTION_UPHELD offers-sms=DENIED research-email=DENIED trailhead-email=DENIED" {
		t.Errorf("there stands %s", got)
	}
}

// A pause is shown while it lasts and can be ended.
func TestPausing(t *testing.T) {
	s := newSite(t)
	id, token := s.citizen("jordan", "newsletter-email", "research-email", "offers-post")
	r := s.reader()
	r.get(s.url + "/c/northwind?token=" + token)
	for _, day := range []string{"", "never", time.Now().UTC().Format(time.DateOnly), time.Now().AddDate(2, 0, 0).Format(time.DateOnly)} {
		r.press("Pause", "until="+day).says("Choose a day from tomorrow on")
		if r.status != http.StatusUnprocessableEntity || !strings.Contains(r.text, "<title>Error:") {
			t.Errorf("%q is answered %d", day, r.status)
		}
		if field := byID(r.doc, "until"); attr(field, "aria-invalid") != "true" || strings.TrimSpace(wording(byID(r.doc, attr(field, "aria-describedby")))) != "Choose a day from tomorrow on, at most a year from now." || attr(field, "value") != day {
			t.Errorf("%q: the day says nothing of what is wrong with it", day)
		}
	}
	until := time.Now().UTC().AddDate(0, 1, 0)
	r.press("Pause", "until="+until.Format(time.DateOnly)).says("Paused until "+until.Format("2 January 2006"), "Newsletter: Email paused until "+until.Format("2 January 2006"), "Offers and sales: Post paused until", "Catalogue by post. Paused until "+until.Format("2 January 2006")+".", "End the pause now")
	r.lacks("you objected", "You have objected", "Take a break", "Newsletter: Email off", "Newsletter: Email on from")
	if got := s.stands(id); got != "newsletter-email=DENIED offers-post=OBJECTION_UPHELD research-email=GRANTED" {
		t.Errorf("there stands %s", got)
	}
	r.press("End the pause now").says("The pause is over Newsletter: Email on Offers and sales: Post used, unless you object")
	if got := s.stands(id); got != "newsletter-email=GRANTED offers-post=CLAIMED research-email=GRANTED" {
		t.Errorf("there stands %s", got)
	}
	r.press("Pause", "until="+until.Format(time.DateOnly)).press("Stop all marketing").says("All marketing is stopped")
	state, err := s.st.State(t.Context(), s.app, consent.CitizenKey{ID: id})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range state.Projection.Effective(consent.At(until.AddDate(0, 0, 1))) {
		if p.OptionID == "newsletter-email" && p.State != consent.Denied {
			t.Errorf("what was stopped in a pause is %s after it", p.State)
		}
	}
}

// Where nothing is on there is nothing to pause, and a page that was open meanwhile says so.
func TestNothingToPause(t *testing.T) {
	s := newSite(t)
	id, token := s.citizen("jordan", "newsletter-email", "research-email")
	r, late := s.reader(), s.reader()
	r.get(s.url + "/c/northwind?token=" + token).says("Take a break")
	late.client.Jar = r.client.Jar
	late.get(s.url + "/c/northwind")
	r.press("Save choices", "-o=option:newsletter-email").lacks("Take a break")
	late.press("Pause", "until="+time.Now().UTC().AddDate(0, 1, 0).Format(time.DateOnly)).says("There is nothing to pause: no marketing is on.")
	if got := s.stands(id); got != "newsletter-email=DENIED research-email=GRANTED" {
		t.Errorf("there stands %s", got)
	}
}

// What a pause turned off for good, since it would have ended before the day, is told as such.
func TestAPauseOfWhatEndsBefore(t *testing.T) {
	r := dressed("en").receipt("paused", fixedID(2).String(), historyIn(), formIn("en", false), core.Person{State: store.State{Projection: &consent.Projection{}}})
	if r == nil || r.Title != "Your choices are saved" || len(r.Lines) == 0 || r.Lines[0] != (line{"Newsletter: Email", "off"}) {
		t.Errorf("the receipt is %+v", r)
	}
}

// A question that must be answered says so where it stands, on both kinds of pages, and
// what was sent with it is kept.
func TestAMandatoryQuestion(t *testing.T) {
	s := newSite(t)
	_, token := s.citizen("jordan", "newsletter-email")
	manage, signUp := s.reader(), s.reader()
	manage.get(s.url+"/c/northwind-must?token="+token).says("Newsletter, about twice a month", "Offers of our partner", "Trailhead Cycles Ltd")
	if strings.Contains(manage.text, `aria-label="Newsletter: Email"`) {
		t.Error("what the template calls it is not said")
	}
	manage.press("Save choices", "o=option:trailhead-email")
	signUp.get(s.url+"/c/northwind-news-must").press("Sign up", "email=robin@example.com", "o=option:newsletter-email")
	for name, r := range map[string]*reader{"manage": manage, "sign-up": signUp} {
		r.says("There is a problem")
		question := byID(r.doc, "q-frequency")
		if said := byID(r.doc, attr(question, "aria-describedby")); said == nil || strings.TrimSpace(wording(said)) != "Answer this question." || r.status != http.StatusUnprocessableEntity {
			t.Errorf("%s (%d): the question says nothing of what is wrong: %s", name, r.status, wording(question))
		}
		if want := map[string]int{"manage": 2, "sign-up": 1}[name]; strings.Count(r.text, " checked") != want {
			t.Errorf("%s: %d things are checked, not %d", name, strings.Count(r.text, " checked"), want)
		}
		if r.press(map[string]string{"manage": "Save choices", "sign-up": "Sign up"}[name], "p:frequency=weekly"); r.status != http.StatusOK {
			t.Errorf("%s: with an answer it is answered %d", name, r.status)
		}
	}
}

// What somebody sees of themselves: in words, as a page and as a file.
func TestOnesOwnData(t *testing.T) {
	s := newSite(t)
	_, token := s.citizen("jordan", "newsletter-email")
	r := s.reader()
	r.get(s.url+"/c/northwind?token="+token).press("Save choices", "-o=option:newsletter-email", "p:interests=home")
	r.get(s.url+"/c/northwind/history").says("What we have recorded", "By you", "By Northwind", "Newsletter: Email off", "Newsletter: Email on", "Topics that interest you Home", "We may write to you about our products.")
	r.get(s.url+"/c/northwind/data").says("Your data", "jordan@example.com", "jordan", "Newsletter: Email off", "Topics that interest you Home")
	r.get(s.url + "/c/northwind/data.json")
	var file struct {
		ExternalRef, Email string
		Permissions        []struct{ OptionID, State string }
		Preferences        []struct{ Preference string }
		History            []consent.ID
		Emails             []string
	}
	if err := json.Unmarshal([]byte(r.text), &file); err != nil || file.Email != "jordan@example.com" || len(file.Permissions) != 1 || file.Permissions[0].State != "DENIED" || len(file.Preferences) != 1 || len(file.History) != 3 || file.Emails == nil {
		t.Errorf("%v: %s", err, r.text)
	}
	if !strings.HasPrefix(r.header.Get("Content-Disposition"), "attachment") || r.header.Get("Cache-Control") != "no-store" {
		t.Errorf("%v", r.header)
	}
}

// Whatever is wrong with a link, the page is the same, and nobody sees anything.
func TestLinksThatAreNotGood(t *testing.T) {
	s := newSite(t)
	id, token := s.citizen("jordan", "newsletter-email")
	revoked := s.token(id, time.Hour)
	if err := s.core.RevokeTokens(t.Context(), s.actor, id); err != nil {
		t.Fatal(err)
	}
	var first string
	for name, address := range map[string]string{
		"revoked": "?token=" + revoked, "revoked, too": "?token=" + token, "in the path": "/" + revoked, "none": "", "nonsense": "?token=x", "empty": "?token=", "cut": "?token=" + token[:40],
	} {
		r := s.reader().get(s.url + "/c/northwind" + address)
		r.says("This link no longer works", "Send me a new link", "Help and contact")
		// The mark of the form is another one each time.
		text := strings.Join(strings.Fields(wording(r.doc)), " ")
		if first == "" {
			first = text
		}
		if r.status != 200 || text != first || strings.Contains(r.text, "example.com\"") {
			t.Errorf("%s is answered %d: %s", name, r.status, text)
		}
	}
	for _, path := range []string{"/history", "/data", "/data.json"} {
		s.reader().get(s.url + "/c/northwind" + path).says("This link no longer works")
	}
	// Not even on a visit that has begun.
	good := s.reader()
	good.get(s.url + "/c/northwind?token=" + s.token(id, time.Hour)).says("Preferences for")
	if err := s.core.RevokeTokens(t.Context(), s.actor, id); err != nil {
		t.Fatal(err)
	}
	good.press("Save choices", "-o=option:newsletter-email").says("This link no longer works")
	if got := s.stands(id); got != "newsletter-email=GRANTED" {
		t.Errorf("there stands %s", got)
	}
}

// Only a form that was shown on this visit can be sent, from our own page.
func TestForgedForms(t *testing.T) {
	s := newSite(t)
	id, token := s.citizen("jordan", "newsletter-email")
	_, other := s.citizen("robin")
	mine, theirs := s.reader(), s.reader()
	mine.get(s.url + "/c/northwind?token=" + token)
	theirs.get(s.url + "/c/northwind?token=" + other)
	mark := attrOf(theirs, "mark")
	for name, edit := range map[string]string{"no mark": "mark=", "another's mark": "mark=" + mark, "nonsense": "mark=AAAA"} {
		r := s.reader()
		r.client.Jar = mine.client.Jar
		r.get(s.url+"/c/northwind").press("Unsubscribe from all", edit).says("There is a problem", "The page was open for too long")
		if s.stands(id) != "newsletter-email=GRANTED" {
			t.Fatalf("%s was enough", name)
		}
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.url+"/c/northwind/stop", strings.NewReader(url.Values{"mark": {attrOf(mine, "mark")}}.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Sec-Fetch-Site", "cross-site")
	req.Header.Set("Origin", "https://elsewhere.example")
	if mine.do(req, nil); mine.status != http.StatusForbidden || s.stands(id) != "newsletter-email=GRANTED" {
		t.Errorf("another site's page is answered %d", mine.status)
	}
}

func attrOf(r *reader, name string) string {
	for n := range r.doc.Descendants() {
		if attr(n, "name") == name {
			return attr(n, "value")
		}
	}
	return ""
}

// Nothing that is only looked at changes anything, however often.
func TestLookingChangesNothing(t *testing.T) {
	s := newSite(t)
	id, token := s.citizen("jordan", "newsletter-email")
	r := s.reader()
	for range 2 {
		for _, path := range []string{
			"/c/northwind?token=" + token, "/c/northwind/" + token, "/c/northwind", "/c/northwind/de", "/c/northwind?intent=unsubscribe&topic=newsletter&channel=email", "/c/northwind?done=stopped&ids=" + id.String(),
			"/c/northwind/history", "/c/northwind/data", "/c/northwind/data.json", "/c/northwind/save", "/c/northwind/stop", "/c/northwind/pause", "/c/northwind/undo", "/c/northwind/leave", "/c/northwind-news", "/c/northwind-link",
			"/confirm/x", "/u/x",
		} {
			r.get(s.url + path)
			for n := range r.doc.Descendants() {
				if to := attr(n, "href"); n.Data == "a" && strings.HasPrefix(to, "/") {
					s.reader().get(s.url + to)
				}
			}
		}
	}
	if got := s.stands(id); got != "newsletter-email=GRANTED" || s.records(id) != 1 {
		t.Errorf("there stands %s, by %d records", got, s.records(id))
	}
}

// What every answer carries.
func TestHeaders(t *testing.T) {
	s := newSite(t)
	_, token := s.citizen("jordan")
	r := s.reader()
	for _, path := range []string{"/c/northwind?token=" + token, "/c/northwind/de", "/c/northwind/ar", "/c/nothing", "/c/northwind/nothing", "/c/northwind-news", "/c/northwind-shut", "/confirm/x", "/u/x"} {
		r.get(s.url + path)
		for name, want := range map[string]string{"Referrer-Policy": "no-referrer", "X-Robots-Tag": "noindex, nofollow", "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"} {
			if got := r.header.Get(name); got != want {
				t.Errorf("%s: %s is %q", path, name, got)
			}
		}
		if csp := r.header.Get("Content-Security-Policy"); !strings.Contains(csp, "default-src 'none'") || !strings.Contains(csp, "frame-ancestors 'none'") || strings.Contains(csp, "unsafe") {
			t.Errorf("%s: %s", path, csp)
		}
		if !strings.Contains(r.header.Get("Vary"), "Accept-Language") {
			t.Errorf("%s: Vary %s", path, r.header.Get("Vary"))
		}
		locale := r.header.Get("Content-Language")
		checkPage(t, path, locale, r.text)
	}
	framed := s.reader().get(s.url + "/c/northwind-framed?token=" + token)
	if csp := framed.header.Get("Content-Security-Policy"); !strings.Contains(csp, "frame-ancestors https://shop.northwind.example;") {
		t.Errorf("the page for a frame has %s", csp)
	}
}

// A visit's cookie goes to its own centre alone and cannot be read by scripts.
func TestTheCookie(t *testing.T) {
	s := newSite(t)
	_, token := s.citizen("jordan")
	for _, c := range []struct{ base, path, want string }{
		{"http://cpm.example", "/c/northwind", "Path=/c/northwind; Max-Age=3600; HttpOnly; SameSite=Lax"},
		{"https://cpm.example", "/c/northwind", "Path=/c/northwind; Max-Age=3600; HttpOnly; Secure; SameSite=Lax"},
		{"https://cpm.example", "/c/northwind-framed", "Path=/c/northwind-framed; Max-Age=3600; HttpOnly; Secure; SameSite=None; Partitioned"},
	} {
		p := New(Options{Core: s.core, BaseURL: c.base})
		w := &capture{}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, c.path+"?token="+token, nil)
		if err != nil {
			t.Fatal(err)
		}
		p.mux.ServeHTTP(w, req)
		cookie := w.Header().Get("Set-Cookie")
		value, rest, _ := strings.Cut(cookie, "; ")
		if rest != c.want || strings.Contains(value, token) || w.status != http.StatusSeeOther || w.Header().Get("Location") != c.path {
			t.Errorf("%s%s: %d to %s with %s", c.base, c.path, w.status, w.Header().Get("Location"), cookie)
		}
		// It is no citizen token: it opens the pages alone.
		if _, err := s.core.ByCitizenToken(t.Context(), strings.TrimPrefix(value, visitCookie+"=")); err == nil {
			t.Error("the cookie is good for the API")
		}
	}
}

type capture struct {
	counter
	status int
}

func (c *capture) WriteHeader(status int) { c.status = status }

// The language is the one in the path, remembered from then on, and that of the browser
// before.
func TestTheLanguageOfACentre(t *testing.T) {
	s := newSite(t)
	_, token := s.citizen("jordan")
	r := s.reader()
	r.get(s.url + "/c/northwind?token=" + token).says("Your communication preferences")
	r.press("Change", "lang=de").says("Ihre Kommunikationseinstellungen", "Angebote")
	if r.at.Path != "/c/northwind/de" || r.header.Get("Content-Language") != "de" {
		t.Errorf("%s in %s", r.at, r.header.Get("Content-Language"))
	}
	r.get(s.url + "/c/northwind").says("Ihre Kommunikationseinstellungen")
	r.press("Auswahl speichern", "o=option:offers-sms").says("Ihre Auswahl ist gespeichert", "Angebote: SMS an")
	r.get(s.url+"/c/northwind/ar").says("تفضيلات التواصل الخاصة بك", "النشرة الإخبارية")
	if !strings.Contains(r.text, `<html lang="ar" dir="rtl">`) {
		t.Error("the Arabic page is not written from right to left")
	}
	fresh := s.reader()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.url+"/c/northwind?token="+token, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept-Language", "fr, de;q=0.8, en;q=0.5")
	fresh.do(req, nil).says("Kommunikationseinstellungen")
}

// A centre with a host name of its own is at its root; the rest of the server is there as
// everywhere.
func TestACentreAtItsOwnHost(t *testing.T) {
	s := newSite(t)
	id, token := s.citizen("jordan", "newsletter-email")
	r := s.reader()
	at := func(method, path, body string) *reader {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, s.url+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Host = "preferences.northwind.example:8443"
		if body != "" {
			req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		}
		return r.do(req, nil)
	}
	r.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	if at("GET", "/?token="+token, ""); r.status != http.StatusSeeOther || r.header.Get("Location") != "/" || !strings.Contains(r.header.Get("Set-Cookie"), "Path=/;") {
		t.Fatalf("%d %v", r.status, r.header)
	}
	at("GET", "/", "").says("Preferences for", "Northwind at home")
	if strings.Contains(r.text, "/c/northwind-own") {
		t.Error("the page leads away from its host")
	}
	sheet := attrOf2(r, "link", "href", "/brand.css")
	if at("GET", sheet, ""); !strings.Contains(r.text, "#7a1f5c") {
		t.Errorf("%s is %s", sheet, r.text)
	}
	at("GET", "/", "")
	if at("POST", "/stop", url.Values{"mark": {attrOf(r, "mark")}}.Encode()); r.status != http.StatusSeeOther || !strings.HasPrefix(r.header.Get("Location"), "/?done=stopped") || !strings.Contains(s.stands(id), "newsletter-email=DENIED") {
		t.Errorf("%d to %s: %s", r.status, r.header.Get("Location"), s.stands(id))
	}
	at("GET", "/de", "").says("Einstellungen")
	if at("GET", "/v1/citizens", ""); r.status != http.StatusTeapot {
		t.Errorf("the API at that host is answered %d", r.status)
	}
	// What a client says of it is not believed.
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.url+"/c/northwind-own", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set(ownHost, "1")
	if r.do(req, nil); !strings.Contains(r.text, `action="/c/northwind-own/`) {
		t.Error("a header moves the page")
	}
}

func attrOf2(r *reader, element, name, prefix string) string {
	for n := range r.doc.Descendants() {
		if n.Data == element && strings.HasPrefix(attr(n, name), prefix) {
			return attr(n, name)
		}
	}
	return ""
}

// Where a page asks only what is open there may be nothing to ask; everything can be seen
// nonetheless.
func TestNothingToAsk(t *testing.T) {
	s := newSite(t)
	id, token := s.citizen("jordan", "newsletter-email", "offers-email", "offers-sms", "research-email", "offers-post")
	r := s.reader()
	r.get(s.url+"/c/northwind-open?token="+token).says("You are all set", "Stop all marketing")
	r.get(s.url+"/c/northwind-open?all=1").says("Newsletter", "Offers and sales")
	r.press("Save choices", "-o=option:offers-sms").says("Offers and sales: SMS off", "Newsletter")
	if got := s.stands(id); !strings.Contains(got, "offers-sms=DENIED") {
		t.Errorf("there stands %s", got)
	}
}

// Every kind of page that is not there says so, in a whole page.
func TestWhatIsNotThere(t *testing.T) {
	s := newSite(t)
	s.reader().get(s.url + "/c/northwind-shut").says("This page is closed at the moment")
	for path, status := range map[string]int{"/c/nothing": 404, "/c/northwind/nothing": 404, "/c/": 404, "/confirm/": 404, "/c/northwind/logo.png": 404, "/c/northwind/zz": 404} {
		if r := s.reader().get(s.url + path).says("This page does not exist"); r.status != status {
			t.Errorf("%s is answered %d", path, r.status)
		}
	}
}

// "Not you?" ends the visit.
func TestLeaving(t *testing.T) {
	s := newSite(t)
	_, token := s.citizen("jordan")
	r := s.reader()
	r.get(s.url+"/c/northwind?token="+token).press("Not you?").says("You have left your preferences", "This device no longer shows these preferences. What was saved stays saved.")
	r.get(s.url + "/c/northwind").says("This link no longer works")
}

// Two applications cannot have one address.
func TestAddressesAreUniqueOnTheServer(t *testing.T) {
	s := newSite(t)
	if _, err := s.core.CreateApplication(t.Context(), "globex", "Globex"); err != nil {
		t.Fatal(err)
	}
	centre := func(slug, host string) consent.Catalogue {
		return consent.Catalogue{Application: consent.ApplicationSettings{Name: "Globex"}, PreferenceCentres: []consent.PreferenceCentre{{Reference: "link", Name: "Link", Type: consent.LinkCentre, Slug: slug, Host: host}}}
	}
	for name, doc := range map[string]consent.Catalogue{"slug": centre("northwind", ""), "host": centre("globex", "preferences.northwind.example")} {
		_, err := s.core.ImportCatalogue(t.Context(), "globex", doc, core.Import{})
		if consent.KindOf(err) != consent.Conflict || !strings.Contains(err.Error(), name) {
			t.Errorf("the %s of another application: %v", name, err)
		}
	}
	if _, err := s.core.ImportCatalogue(t.Context(), "globex", centre("globex", ""), core.Import{}); err != nil {
		t.Error(err)
	}
	if v, err := s.core.Centre(t.Context(), "globex"); err != nil || v.ApplicationID != "globex" {
		t.Errorf("%+v, %v", v, err)
	}
	// One application's token opens no other's page.
	_, token := s.citizen("jordan")
	if _, err := s.core.BeginVisit(t.Context(), "globex", token); consent.KindOf(err) != consent.Unauthenticated {
		t.Errorf("a token of another application: %v", err)
	}
}

// mails takes the mails that wait, once there are some; asked in public they are made
// ready a little later.
func (s *site) mails() []store.DueMail {
	s.t.Helper()
	due, stop := s.st.MailsDue()
	defer stop()
	for {
		list, _, err := s.st.ClaimMails(s.t.Context(), 100, time.Minute)
		if err != nil {
			s.t.Fatal(err)
		}
		for _, m := range list {
			if err := s.st.SettleMail(s.t.Context(), m, consent.EmailSent, "", 0); err != nil {
				s.t.Fatal(err)
			}
		}
		if len(list) > 0 {
			return list
		}
		select {
		case <-due:
		case <-time.After(20 * time.Second):
			s.t.Fatal("no mail came")
		}
	}
}

// Somebody signs up, confirms by the button behind the link of the mail, and takes it back.
func TestSigningUp(t *testing.T) {
	s := newSite(t)
	r := s.reader()
	r.get(s.url+"/c/northwind-news").says("Sign up", "Newsletter", "Nothing is on unless you turned it on.")
	r.press("Sign up", "email=jordan@", "o=option:newsletter-email").says("There is a problem", "Enter an e-mail address")
	if r.status != http.StatusUnprocessableEntity || !strings.Contains(r.text, `value="jordan@"`) || strings.Count(r.text, " checked") != 1 {
		t.Errorf("what was typed is forgotten: %d", r.status)
	}
	r.press("Sign up", "email=jordan@example.com", "-o=option:newsletter-email").says("Choose at least one")
	if said := byID(r.doc, "choices-wrong"); said == nil || strings.TrimSpace(wording(said)) != "Choose at least one thing to hear about." || !strings.Contains(r.text, `href="#choices-wrong"`) {
		t.Error("the link to what is wrong leads nowhere")
	}
	r.press("Sign up", "email=jordan@example.com", "o=option:newsletter-email").says("Check your inbox", "We have sent a message to \u2066jordan@example.com\u2069", "hello@northwind.example", "Wrong address? Enter it again")
	mail := s.mails()[0]
	link := s.url + strings.TrimPrefix(mail.Action.URL, "http://127.0.0.1")

	for range 2 {
		r.get(link).says("Please confirm", "j•••n@example.com", "Newsletter: Email", "We may write to you about our products.", "If it was not you, close this page")
	}
	checkPage(t, "confirm", "en", r.text)
	forged := s.reader()
	forged.get(link).press("Yes, confirm", "mark=AAAA").says("Please confirm")
	if !strings.HasPrefix(forged.at.Path, "/confirm/") {
		t.Errorf("at %s", forged.at)
	}
	r.press("Yes, confirm").says("Thank you, it is confirmed", "Newsletter: Email", "Confirmed on")
	s.reader().get(link).says("This is already confirmed", "Not you? Undo", "See your preferences")
	// The chain of evidence, to read and to print.
	own := s.reader()
	own.get(s.url + "/c/northwind?token=" + s.token(mail.CitizenID, time.Hour))
	own.get(s.url+"/c/northwind/data").says("Newsletter: Email waits for confirmation", "Newsletter: Email on", "Message asking for confirmation sent on", "Its link opened on", "Confirmed on", "Internet address \u2066127.0.0.1", "Browser \u2066Go-http-client", "Privacy policy, version 7", "We may write to you about our products.")
	own.get(s.url + "/c/northwind/data.json").says(`"double-opt-in"`)
	r.press("Not you? Undo").says("Your confirmation is taken back", "You will not get: Newsletter: Email", "See your preferences")
	s.reader().get(s.url + "/confirm/nothing").says("This link no longer works")
}

// Whether an address is known or not, the answer is the same; only who is known gets a
// mail, and the link or the code in it opens their page.
func TestAskingForALink(t *testing.T) {
	s := newSite(t)
	s.citizen("jordan", "newsletter-email")
	s.citizen("robin")
	stale := s.reader()
	stale.get(s.url+"/c/northwind").press("Send me a new link", "email=jordan@example.com", "mark=AAAA").says("Get a link to your preferences", "The page was open for too long").lacks("Enter an e-mail address")
	if field := byID(stale.doc, "email"); attr(field, "value") != "jordan@example.com" || attr(field, "aria-invalid") != "" {
		t.Error("a good address is called wrong, or forgotten")
	}
	done := make(chan struct{})
	ctx, stop := context.WithCancel(t.Context())
	go func() { s.core.RunLinks(ctx); close(done) }()
	t.Cleanup(func() { stop(); <-done })
	var said []string
	for _, address := range []string{"jordan@example.com", "stranger@example.com"} {
		r := s.reader()
		r.get(s.url + "/c/northwind-link").says("Get a link to your preferences")
		r.press("Send me a link", "email=nothing").says("Enter an e-mail address")
		r.press("Send me a link", "email="+address).says("Check your inbox", "If we know \u2066"+address+"\u2069", "Wrong address? Enter it again")
		said = append(said, strings.ReplaceAll(strings.Join(strings.Fields(wording(r.doc)), " "), address, "…"))
	}
	if said[0] != said[1] {
		t.Errorf("it can be told who is known:\n%s\n%s", said[0], said[1])
	}
	mails := s.mails()
	if len(mails) != 1 {
		t.Fatalf("%d mails", len(mails))
	}
	s.reader().get(s.url + strings.TrimPrefix(mails[0].Action.URL, "http://127.0.0.1")).says("Preferences for j•••n@example.com")

	r := s.reader()
	r.get(s.url+"/c/northwind-code").press("Send me a code", "email=robin@example.com").says("6-digit code")
	code := regexp.MustCompile(`\b\d{6}\b|\b\d{3} \d{3}\b`).FindString(s.mails()[0].Text)
	// A stranger has another form, by which they neither try that code nor end it.
	stranger := s.reader()
	stranger.get(s.url+"/c/northwind-code").press("Send me a code", "email=robin@example.com").says("6-digit code")
	for range 6 {
		stranger.press("Continue", "code="+code).says("The code is wrong or has expired")
	}
	r.press("Continue", "code=000 000").says("The code is wrong or has expired")
	if r.press("Continue", "code="+code[:3]+" "+code[3:]).says("Preferences for r•••n@example.com"); r.at.Path != "/c/northwind" {
		t.Errorf("the code leads to %s", r.at)
	}
}

// Whoever comes by the link of a mail to unsubscribe does so by one button, sees what else
// comes on the same topic, and can take it back.
func TestUnsubscribing(t *testing.T) {
	s := newSite(t)
	id, _ := s.citizen("jordan", "offers-email", "offers-sms", "newsletter-email", "trailhead-email")
	l, err := s.core.MintUnsubscribe(t.Context(), s.actor, core.Request{}, core.UnsubscribeRequest{ApplicationID: "northwind", Citizen: consent.CitizenKey{ID: id}, Leaves: consent.Key{Type: consent.OptionSingle, ID: "offers-email"}})
	if err != nil {
		t.Fatal(err)
	}
	link := s.url + "/u/" + l.Token
	r := s.reader()
	for range 2 {
		r.get(link).says("Do you want no more of this?", "Offers and sales: Email")
	}
	checkPage(t, "unsubscribe", "en", r.text)
	forged := s.reader()
	forged.get(link).press("Unsubscribe", "mark=AAAA").says("Do you want no more of this?")
	if got := s.stands(id); got != "newsletter-email=GRANTED offers-email=GRANTED offers-sms=GRANTED trailhead-email=GRANTED" {
		t.Fatalf("there stands %s", got)
	}
	r.press("Unsubscribe").says("You are unsubscribed", "You will get no more of this: Offers and sales: Email", "Still on", "Offers and sales: SMS", "Offers and sales: Email, Trailhead Cycles Ltd")
	if strings.Contains(r.text, "Newsletter") {
		t.Error("the link tells of another topic")
	}
	if got := s.stands(id); got != "newsletter-email=GRANTED offers-email=DENIED offers-sms=GRANTED trailhead-email=GRANTED" {
		t.Errorf("there stands %s", got)
	}
	s.reader().get(link).says("You are unsubscribed")
	r.press("Undo this change").says("The change is undone", "Offers and sales: Email: on", "See your preferences")
	if got := s.stands(id); got != "newsletter-email=GRANTED offers-email=GRANTED offers-sms=GRANTED trailhead-email=GRANTED" {
		t.Errorf("there stands %s", got)
	}
	if r := s.reader().get(s.url + "/u/" + l.Token[:30]).says("This link no longer works"); r.status != 200 {
		t.Errorf("%d", r.status)
	}
}

// What the do-not-contact list says of somebody is on their pages as everything else is.
func TestSuppressedReader(t *testing.T) {
	s := newSite(t)
	id, token := s.citizen("jordan", "newsletter-email")
	listed, err := s.core.Suppress(t.Context(), s.actor, core.Request{}, core.NewSuppression{ApplicationID: "northwind", Address: core.ListedAddress{Email: "jordan@example.com"}, Channels: []string{"email"}})
	if err != nil {
		t.Fatal(err)
	}
	r := s.reader()
	r.get(s.url+"/c/northwind?token="+token).says("You are on our do-not-contact list Whatever is set below, we do not contact you by: Email. Contact us to change that.", "Blocked", "Email on our do-not-contact list", "By Northwind")
	r.press("Save choices", "o=option:offers-sms").says("Your choices are saved", "Take a break")
	r.get(s.url+"/c/northwind/history").says("Email on our do-not-contact list", "Newsletter: Email on")
	r.get(s.url + "/c/northwind/data").says("Email on our do-not-contact list")
	if got := s.stands(id); got != "newsletter-email=DENIED offers-sms=GRANTED" {
		t.Errorf("there stands %s", got)
	}
	if err := s.core.LiftSuppression(t.Context(), s.actor, listed[0].ID); err != nil {
		t.Fatal(err)
	}
	r.get(s.url+"/c/northwind/history").says("Email off our do-not-contact list again", "Email on our do-not-contact list")
}
