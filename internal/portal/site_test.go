package portal

import (
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/html"

	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/internal/core"
	"github.com/opencpm/opencpm/internal/store"
	"github.com/opencpm/opencpm/internal/store/storetest"
)

// site is the pages over a real store, served.
type site struct {
	t     *testing.T
	st    *store.Store
	core  *core.Service
	url   string
	app   int64
	actor core.Actor
}

func newSite(t *testing.T) *site {
	t.Helper()
	st := storetest.SQLite(t)
	s := &site{t: t, st: st, core: core.New(st, core.Options{BaseURL: "http://127.0.0.1", MailServer: true})}
	ctx := t.Context()
	if _, err := s.core.CreateApplication(ctx, "northwind", "Northwind"); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile("testdata/northwind.yaml")
	if err != nil {
		t.Fatal(err)
	}
	doc, err := consent.ParseCatalogue(text)
	if err == nil {
		_, err = s.core.ImportCatalogue(ctx, "northwind", doc, core.Import{})
	}
	if err != nil {
		t.Fatalf("%v: %+v", err, fieldsOf(err))
	}
	if s.app, err = s.core.Number(ctx, "northwind"); err != nil {
		t.Fatal(err)
	}
	s.actor = core.Actor{ID: "test", Name: "CRM", Applications: []int64{s.app}, Scopes: consent.Scopes}
	p := New(Options{Core: s.core, BaseURL: "http://127.0.0.1", Kept: kept})
	mux := http.NewServeMux()
	p.Mount(mux)
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "not a page of citizens", http.StatusTeapot)
	})
	server := httptest.NewServer(p.Hosts(mux))
	s.url = server.URL
	t.Cleanup(server.Close)
	return s
}

// kept stands for the form that the API gives to what is kept of a citizen.
func kept(h core.History) (history, emails any) {
	ids, kinds := []consent.ID{}, []consent.EmailKind{}
	for _, e := range h.Entries {
		ids = append(ids, e.Evidence().ID)
	}
	for _, m := range h.Mails {
		kinds = append(kinds, m.Kind)
	}
	return ids, kinds
}

// citizen creates somebody with an address, who gave what is named, and a token for them.
func (s *site) citizen(ref string, gave ...string) (id consent.ID, token string) {
	s.t.Helper()
	ctx := s.t.Context()
	c, err := s.core.CreateCitizen(ctx, s.actor, core.Request{}, "northwind", ref, consent.Details{GivenName: "Jordan", Email: ref + "@example.com"})
	if err != nil {
		s.t.Fatal(err)
	}
	var changes []consent.Change
	for _, option := range gave {
		change := consent.Change{OptionType: consent.OptionSingle, OptionID: option, Justification: consent.Consent, State: consent.Granted}
		if option == "offers-post" {
			change.Justification, change.State = consent.LegitimateInterest, consent.Claimed
		}
		changes = append(changes, change)
	}
	if len(changes) > 0 {
		_, err := s.core.Record(ctx, s.actor, core.Request{}, core.Transaction{ApplicationID: "northwind", Citizen: consent.CitizenKey{ID: c.ID}, Changes: changes})
		if err != nil {
			s.t.Fatal(err)
		}
	}
	return c.ID, s.token(c.ID, time.Hour)
}

func (s *site) token(id consent.ID, good time.Duration) string {
	s.t.Helper()
	m, err := s.core.MintToken(s.t.Context(), s.actor, core.Request{}, core.TokenRequest{ApplicationID: "northwind", Citizen: consent.CitizenKey{ID: id}, Expires: consent.At(time.Now().Add(good))})
	if err != nil {
		s.t.Fatal(err)
	}
	return m.Token
}

// stands gives everything that applies to somebody, as option=STATE, sorted by option.
func (s *site) stands(id consent.ID) string {
	s.t.Helper()
	e, err := s.core.EffectiveOf(s.t.Context(), s.actor, core.EffectiveQuery{ApplicationID: "northwind", Citizen: consent.CitizenKey{ID: id}})
	if err != nil {
		s.t.Fatal(err)
	}
	var list []string
	for _, p := range e.Permissions {
		list = append(list, p.OptionID+"="+string(p.State))
	}
	return strings.Join(list, " ")
}

// answers gives the current answers of somebody, as preference=choices.
func (s *site) answers(id consent.ID) string {
	s.t.Helper()
	state, err := s.core.PreferencesOf(s.t.Context(), s.actor, "northwind", consent.CitizenKey{ID: id})
	if err != nil {
		s.t.Fatal(err)
	}
	var list []string
	for _, p := range state.Projection.Preferences() {
		text := p.Preference + "="
		for _, c := range p.Choices {
			text += c.Reference + ","
		}
		list = append(list, strings.TrimSuffix(text, ","))
	}
	return strings.Join(list, " ")
}

// records counts what was recorded of somebody.
func (s *site) records(id consent.ID) int64 {
	s.t.Helper()
	h, err := s.core.History(s.t.Context(), s.actor, id, 0, 0)
	if err != nil {
		s.t.Fatal(err)
	}
	return h.Total
}

// reader is a browser without scripts: it keeps cookies, follows links, fills in forms.
type reader struct {
	t      *testing.T
	client *http.Client
	at     *url.URL
	status int
	header http.Header
	text   string
	doc    *html.Node
}

func (s *site) reader() *reader {
	jar, err := cookiejar.New(nil)
	if err != nil {
		s.t.Fatal(err)
	}
	transport := &http.Transport{}
	s.t.Cleanup(transport.CloseIdleConnections)
	return &reader{t: s.t, client: &http.Client{Jar: jar, Transport: transport}}
}

func (r *reader) do(req *http.Request, err error) *reader {
	r.t.Helper()
	var res *http.Response
	if err == nil {
		res, err = r.client.Do(req)
	}
	if err != nil {
		r.t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err == nil {
		r.doc, err = html.Parse(strings.NewReader(string(b)))
	}
	if err != nil {
		r.t.Fatal(err)
	}
	r.at, r.status, r.header, r.text = res.Request.URL, res.StatusCode, res.Header, string(b)
	return r
}

func (r *reader) get(url string) *reader {
	r.t.Helper()
	return r.do(http.NewRequestWithContext(r.t.Context(), http.MethodGet, url, nil))
}

// press sends the form that has a button of that text, with what is filled in: name=value
// sets a field, -name=value takes one away, as it is when a box is unticked.
func (r *reader) press(button string, edits ...string) *reader {
	r.t.Helper()
	for n := range r.doc.Descendants() {
		if n.Type != html.ElementNode || n.Data != "button" || strings.TrimSpace(wording(n)) != button || attr(n, "aria-hidden") != "" {
			continue
		}
		form := n
		if id := attr(n, "form"); id != "" {
			form = byID(r.doc, id)
		}
		for form != nil && form.Data != "form" {
			form = form.Parent
		}
		if form == nil {
			r.t.Fatalf("the button %q is in no form", button)
		}
		values := fields(form)
		if name := attr(n, "name"); name != "" {
			values.Add(name, attr(n, "value"))
		}
		for _, e := range edits {
			name, value, _ := strings.Cut(strings.TrimPrefix(e, "-"), "=")
			switch {
			case strings.HasPrefix(e, "-"):
				values[name] = slices.DeleteFunc(values[name], func(v string) bool { return v == value })
			case name == "o" || strings.HasPrefix(name, "p:interests"):
				values.Add(name, value)
			default:
				values.Set(name, value)
			}
		}
		to, err := r.at.Parse(attr(form, "action"))
		if err != nil {
			r.t.Fatal(err)
		}
		if attr(form, "method") == "get" {
			to.RawQuery = values.Encode()
			return r.get(to.String())
		}
		req, err := http.NewRequestWithContext(r.t.Context(), http.MethodPost, to.String(), strings.NewReader(values.Encode()))
		if err == nil {
			req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			req.Header.Set("Origin", r.at.Scheme+"://"+r.at.Host)
			req.Header.Set("Sec-Fetch-Site", "same-origin")
		}
		return r.do(req, err)
	}
	r.t.Fatalf("there is no button %q on %s:\n%s", button, r.at, r.text)
	return r
}

// says fails the test unless the page says something.
func (r *reader) says(texts ...string) *reader {
	r.t.Helper()
	shown := strings.ReplaceAll(strings.Join(strings.Fields(wording(r.doc)), " "), "\u00ad", "") // where a word may break is not seen
	for _, text := range texts {
		if !strings.Contains(shown, text) {
			r.t.Errorf("%s (%d) does not say %q:\n%s", r.at, r.status, text, shown)
		}
	}
	return r
}

func attr(n *html.Node, name string) string {
	for _, a := range n.Attr {
		if a.Key == name {
			return a.Val
		}
	}
	return ""
}

func has(n *html.Node, name string) bool {
	return slices.ContainsFunc(n.Attr, func(a html.Attribute) bool { return a.Key == name })
}

func byID(doc *html.Node, id string) *html.Node {
	for n := range doc.Descendants() {
		if n.Type == html.ElementNode && attr(n, "id") == id {
			return n
		}
	}
	return nil
}

var unread = regexp.MustCompile(`^(script|style|head|select)$`)

// wording gives what a part of a page says.
func wording(n *html.Node) string {
	if n.Type == html.TextNode {
		return n.Data
	}
	if n.Type == html.ElementNode && unread.MatchString(n.Data) {
		return ""
	}
	var b strings.Builder
	for c := range n.ChildNodes() {
		b.WriteString(wording(c) + " ")
	}
	return b.String()
}

// fields gives what a form sends as it is.
func fields(form *html.Node) url.Values {
	values := url.Values{}
	for n := range form.Descendants() {
		if n.Type != html.ElementNode {
			continue
		}
		switch kind := attr(n, "type"); {
		case n.Data == "option" && has(n, "selected"):
			values.Set("lang", attr(n, "value"))
		case n.Data != "input" || attr(n, "name") == "":
		case (kind == "checkbox" || kind == "radio") && !has(n, "checked"):
		default:
			values.Add(attr(n, "name"), attr(n, "value"))
		}
	}
	return values
}
