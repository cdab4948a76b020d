package demo

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/opencpm/opencpm/client"
	"github.com/opencpm/opencpm/internal/web"
)

// answerTime is how long the API may take to answer a question of the page.
const answerTime = 5 * time.Second

// citizenView is what applies to one citizen.
type citizenView struct {
	Citizen, Name string
	Failed        string // why nothing can be shown, where it cannot
	Permissions   []standingView
	Preferences   []chosenView
}

// standingView is the state of one option, or of one group.
type standingView struct {
	Option string
	Group  bool
	State  badgeView
	Until  string
	Why    whyLink
}

// chosenView is the current answer to one preference.
type chosenView struct{ Label, Chosen string }

// citizen asks the API what applies to a citizen: every option and group that was ever
// answered, and the preferences.
func (p *Page) citizen(ctx context.Context, ref string) citizenView {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	w, now := vocabulary(), time.Now()
	view := citizenView{Citizen: ref, Name: w.people[ref]}
	explained, err := p.config.Client.Explain(ctx, client.ExplainQuery{ApplicationID: p.config.ApplicationID, ExternalRef: ref})
	var preferences []client.Preference
	if err == nil {
		preferences, err = p.config.Client.Preferences(ctx, client.PreferencesQuery{ApplicationID: p.config.ApplicationID, ExternalRef: ref})
	}
	if err != nil {
		view.Failed = failed(ctx, err)
		return view
	}
	for _, x := range explained {
		s := standingView{Option: w.option(x.OptionType, x.OptionID), Group: x.OptionType == client.Group, State: badge("", "Nothing stands")}
		s.Why = whyLink{forOption("/", ref, optionKey(x.OptionType, x.OptionID)), s.Option, ref}
		if x.Current != nil {
			s.State = badge(x.Current.State, "")
			s.Until = until(x.Current, now)
		}
		view.Permissions = append(view.Permissions, s)
	}
	for _, a := range preferences {
		view.Preferences = append(view.Preferences, chosenView{a.Label, labels(a.Choices)})
	}
	return view
}

// until says when a permission ends. A refusal has no end, whatever was recorded.
func until(p *client.Permission, now time.Time) string {
	if p.ValidUntil.IsZero() || p.State != "GRANTED" && p.State != "CLAIMED" && p.State != "PENDING" {
		return ""
	}
	return "until " + moment(p.ValidUntil, now)
}

func labels(choices []client.Choice) string {
	list := make([]string, len(choices))
	for i, c := range choices {
		list[i] = c.Label
	}
	return chosen(list)
}

// failed says to a reader why the API did not answer.
func failed(ctx context.Context, err error) string {
	var p *client.Problem
	switch {
	case isStatus(err, http.StatusNotFound):
		return "There is no such citizen."
	case errors.As(err, &p) && len(p.Errors) > 0:
		return "The API does not understand the question: " + p.Errors[0].Location + " " + p.Errors[0].Message + "."
	}
	slog.WarnContext(ctx, "the demo page was given no answer by the API", "error", err)
	return "The API does not answer. Try again in a moment."
}

// whyView says why the state of one option is, or was, what it is.
type whyView struct {
	ID            string // begins the ids of the elements, which are there once
	Citizen, Name string
	Link          string // to everything about the citizen
	Key, Option   string
	AsOf, KnownAt string // as they were asked for
	Asked         string // the same in words
	Failed        string // why there is no answer, where there is none
	State         badgeView
	Until         string
	Candidates    []candidateView
}

// candidateView is one answer and what became of it.
type candidateView struct {
	No          int
	State, Fate badgeView
	Rule        int // 0: none
	Why         string
	By          string // what displaced it
	Evidence    string
	Decides     bool
}

// why asks the API for the answer to a reader's question: which citizen and option, what
// applied when (asOf), and knowing what had been recorded by when (knownAt).
func (p *Page) why(ctx context.Context, id string, q url.Values) whyView {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	w, now := vocabulary(), time.Now()
	ref, key := q.Get("citizen"), q.Get("why")
	option, group := strings.CutPrefix(key, "group:")
	kind := client.Option
	if group {
		kind = client.Group
	}
	view := whyView{
		ID: id, Citizen: ref, Name: w.people[ref], Link: forCitizen("/", ref), Key: key, Option: w.option(kind, option),
		AsOf: q.Get("asOf"), KnownAt: q.Get("knownAt"), State: badge("", "Nothing stands"),
	}
	asOf, wrong := instant(view.AsOf)
	knownAt, wrongToo := instant(view.KnownAt)
	if wrong != nil || wrongToo != nil {
		view.AsOf, view.KnownAt = "", "" // browsers complain of what no such field can hold
		view.Failed = "A time is not one: give it as 2026-11-22T14:30."
		return view
	}
	explained, err := p.config.Client.Explain(ctx, client.ExplainQuery{
		ApplicationID: p.config.ApplicationID, ExternalRef: ref, OptionID: option, AsOf: asOf, KnownAt: knownAt,
	})
	if err != nil {
		view.Failed = failed(ctx, err)
		return view
	}
	view.Asked = asked(asOf, knownAt, now)
	for _, x := range explained {
		if x.OptionType != kind {
			continue
		}
		if x.Current != nil {
			view.State, view.Until = badge(x.Current.State, ""), until(x.Current, now)
		}
		view.Candidates = w.candidates(x.Candidates, now)
	}
	return view
}

// instant reads a time as a form sends it, in the time zone of this machine. A whole
// second means all of it, so that what the page shows as of that second is included.
func instant(s string) (t time.Time, err error) {
	if s == "" {
		return t, nil
	}
	for _, layout := range []string{"2006-01-02T15:04", "2006-01-02T15:04:05"} {
		if t, err = time.ParseInLocation(layout, s, time.Local); err == nil {
			break
		}
	}
	if t.Nanosecond() == 0 {
		t = t.Add(time.Second - time.Microsecond)
	}
	return t, err
}

// asked says in words what was asked for.
func asked(asOf, knownAt, now time.Time) string {
	text := "Now"
	if !asOf.IsZero() {
		text = "At " + moment(asOf, now)
	}
	if !knownAt.IsZero() {
		text += ", as known at " + moment(knownAt, now)
	}
	return text
}

func (w naming) candidates(list []client.Candidate, now time.Time) []candidateView {
	number := map[string]int{}
	for i, c := range list {
		number[c.TransactionID] = i + 1
	}
	views := make([]candidateView, len(list))
	for i, c := range list {
		views[i] = candidateView{
			No: i + 1, State: badge(c.State, ""), Fate: fate(c.Fate), Rule: c.Rule, Why: c.Why,
			Evidence: w.evidence(&c, now), Decides: c.Fate == "effective",
		}
		if n := number[c.By]; n > 0 {
			views[i].By = "by answer " + strconv.Itoa(n)
		}
	}
	return views
}

// evidence says how an answer came about.
func (w naming) evidence(c *client.Candidate, now time.Time) string {
	var parts []string
	if c.Channel != "" {
		parts = append(parts, "via "+c.Channel)
	}
	if c.Group != "" {
		parts = append(parts, "for the group “"+w.option(client.Group, c.Group)+"”")
	}
	parts = append(parts, "obtained "+moment(c.ObtainedAt, now))
	if c.RecordedAt.Sub(c.ObtainedAt) > time.Minute {
		parts = append(parts, "recorded "+moment(c.RecordedAt, now))
	}
	if !c.ValidFrom.IsZero() {
		parts = append(parts, "valid from "+moment(c.ValidFrom, now))
	}
	if end := until(&c.Permission, now); end != "" {
		parts = append(parts, "valid "+end)
	}
	if c.RecordedByName != "" {
		parts = append(parts, "by "+c.RecordedByName)
	}
	return strings.Join(parts, " · ")
}

// fate gives what became of an answer, in the words of the API.
func fate(f string) badgeView {
	if f == "" {
		return badge("", "Unknown")
	}
	b := badgeView{strings.ToUpper(f[:1]) + strings.ReplaceAll(f[1:], "-", " "), "", "x"} // superseded, dropped, overruled
	switch f {
	case "effective":
		b.Tone, b.Icon = "ok", "check"
	case "pending", "not-yet-valid":
		b.Tone, b.Icon = "warn", "clock"
	case "expired", "later":
		b.Icon = "clock"
	case "suppressed":
		b.Tone = "bad"
	case "reverted":
		b.Tone, b.Icon = "bad", "undo"
	}
	return b
}

// ask answers the fragment that says why, for a page with scripts.
func (p *Page) ask(w http.ResponseWriter, r *http.Request) {
	p.render(w, r, "why", p.why(r.Context(), "asked", r.URL.Query()))
}

// state answers the fragment of what applies to a citizen, for a page with scripts.
func (p *Page) state(w http.ResponseWriter, r *http.Request) {
	p.render(w, r, "citizen", p.citizen(r.Context(), r.URL.Query().Get("citizen")))
}

func (p *Page) render(w http.ResponseWriter, r *http.Request, name string, view any) {
	show(w, r, http.StatusOK, name, view)
}

// show answers with a page of the demo.
func show(w http.ResponseWriter, r *http.Request, status int, name string, view any) {
	if err := web.Render(w, status, templates, name, view); err != nil {
		slog.ErrorContext(r.Context(), "the demo page could not be rendered", "error", err)
		http.Error(w, "Internal error.", http.StatusInternalServerError)
	}
}
