package portal

import (
	"cmp"
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"golang.org/x/text/feature/plural"

	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/internal/core"
)

// managePage is where a citizen sees and changes what they hear.
type managePage struct {
	frame
	Intro      string
	Whose      string // the address, masked
	Problems   refusal
	Done       *receipt
	Context    *stopping // what the link that was followed is about
	Stops      bool      // there is marketing that one button stops
	Parts      []part
	Empty      bool // there is nothing to ask
	All        bool // all of it is shown, whatever the rule set says
	CanObject  bool
	Shown      string
	Paused     string // until when
	PauseFrom  string // the first day that can be chosen; empty where there is nothing to pause
	PauseUntil string
	Past       []past
	More       bool
	Party      string
	Policy     *link
	Unsaved    string // how many changes are not saved, by plural form, for the script
}

// stopping is one purpose, or one channel of it, to be stopped.
type stopping struct{ Topic, Channel, What string }

// problem is what has to be put right, and where.
type problem struct{ At, Text string }

// refusal is why nothing was saved.
type refusal []problem

// recent is how much of the history the page itself shows.
const recent = 5

// manage answers the page of a citizen on a visit.
func (p *Portal) manage(w http.ResponseWriter, r *http.Request, v core.CentreView, f frame, c caller, refused refusal) {
	ctx := r.Context()
	form, err := p.Core.Form(ctx, c.Actor, p.query(r, v, f, c))
	if err != nil {
		p.failure(w, r, f, err)
		return
	}
	person, err := p.Core.Person(ctx, c.Actor)
	if err != nil {
		p.failure(w, r, f, err)
		return
	}
	h, err := p.Core.History(ctx, c.Actor, c.Citizen, 0, 0)
	if err != nil {
		p.failure(w, r, f, err)
		return
	}
	f.adopt(form)
	page := f.managePage(v, form, person, h)
	page.All = r.FormValue("all") != ""
	page.Problems, page.Wrong = refused, len(refused) > 0
	if refused != nil {
		page.resend(r.PostForm)
	}
	page.Done = f.receipt(r.URL.Query().Get("done"), r.URL.Query().Get("ids"), h, form, person)
	page.Context = f.context(r.URL.Query(), form, page.Done != nil)
	status := http.StatusOK
	if len(refused) > 0 {
		status = http.StatusUnprocessableEntity
	}
	p.show(w, r, status, "manage", page)
}

// query asks for the form of a centre. All of it is shown to who asks for everything.
func (p *Portal) query(r *http.Request, v core.CentreView, f frame, c caller) core.FormQuery {
	q := core.FormQuery{ApplicationID: v.ApplicationID, TemplateID: v.Template, Citizen: consent.CitizenKey{ID: c.Citizen}, RuleSet: v.RuleSet, Locale: f.Lang}
	if r.FormValue("all") != "" {
		q.RuleSet = ""
	}
	return q
}

// adopt takes up the languages of a form.
func (f *frame) adopt(form consent.Form) {
	if len(form.Locales) > 0 && form.Locale != "" {
		f.speak(form.Locales, form.Locale, "")
		f.dress(*f.centre, f.Home)
	}
}

func (f frame) managePage(v core.CentreView, form consent.Form, person core.Person, h core.History) managePage {
	f.Title = cmp.Or(f.local(v.Texts.Title), f.Say("page.manageTitle"))
	page := managePage{
		frame: f, Intro: cmp.Or(f.local(v.Texts.Intro), f.Say("page.manageIntro")), Whose: person.Masked,
		Stops: markets(person.Catalog), Parts: f.parts(form, person.Pauses), Empty: !asks(form), Shown: form.Snapshot,
		Unsaved: f.unsaved(), CanObject: true,
	}
	if len(person.Pauses) > 0 {
		page.Paused = f.Date(person.Pauses[len(person.Pauses)-1].Until)
	} else if page.Stops {
		page.PauseFrom, page.PauseUntil = today(1).Format("2006-01-02"), today(365).Format("2006-01-02")
	}
	page.Past, page.More = f.recent(h, recent), len(h.Entries) > recent
	if len(v.Parties) > 0 {
		page.Party = v.Parties[0].Name
	}
	if policy := form.PrivacyPolicy; policy != nil {
		page.Policy = &link{f.Say("page.policy", "Name", policy.Name, "Version", policy.Version), policy.URL}
	}
	return page
}

// unsaved gives the text of how many changes are not saved in each plural form that the
// language has, with # for the number.
func (f frame) unsaved() string {
	forms := map[string]string{}
	names := map[plural.Form]string{plural.Zero: "zero", plural.One: "one", plural.Two: "two", plural.Few: "few", plural.Many: "many", plural.Other: "other"}
	for n := range 121 {
		name := names[plural.Cardinal.MatchPlural(f.speaker.Tag, n, 0, 0, 0, 0)]
		if _, known := forms[name]; !known || name == "other" {
			forms[name] = strings.Replace(f.speaker.Count("unsaved", n), strconv.Itoa(n), "#", 1)
		}
	}
	b, err := json.Marshal(forms)
	if err != nil {
		panic(err) // texts alone
	}
	return string(b)
}

// resend puts what was sent, and not saved, into the page again.
func (page *managePage) resend(sent url.Values) {
	has := func(field, value string) bool {
		for _, v := range sent[field] {
			if v == value {
				return true
			}
		}
		return false
	}
	for i := range page.Parts {
		part := &page.Parts[i]
		for k := range part.Rows {
			for n := range part.Rows[k].Cells {
				if c := &part.Rows[k].Cells[n]; has("shown", c.Key) {
					c.On = has("o", c.Key)
				}
			}
		}
		for k := range part.Singles {
			if c := &part.Singles[k]; has("shown", c.Key) {
				c.On = has("o", c.Key)
			}
		}
		if q := part.Question; q != nil && has("asked", q.Reference) {
			for k := range q.Choices {
				q.Choices[k].Chosen = has("p:"+q.Reference, q.Choices[k].Reference)
			}
		}
	}
}

// context reads what the link that was followed is about.
func (f frame) context(q url.Values, form consent.Form, done bool) *stopping {
	if q.Get("intent") != "unsubscribe" || q.Get("topic") == "" || done {
		return nil
	}
	for _, b := range form.Blocks {
		for _, o := range b.Options {
			if o.Purpose == nil || o.Purpose.ID != q.Get("topic") || o.Justification != consent.Consent && o.Justification != consent.LegitimateInterest {
				continue
			}
			s := &stopping{Topic: o.Purpose.ID, What: o.Purpose.Name}
			if channel := q.Get("channel"); channel != "" {
				if o.Channel == nil || o.Channel.ID != channel {
					continue
				}
				s.Channel, s.What = channel, o.Purpose.Name+": "+o.Channel.Name
			}
			return s
		}
	}
	return nil
}

// origin is what is recorded with what happens on a page of a centre.
func origin(v core.CentreView) core.Origin {
	return core.Origin{PrivacyPolicyRef: v.PolicyRef, Channel: "preference-centre", Attribution: consent.Attribution{Source: v.Slug}}
}
