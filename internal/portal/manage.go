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
	Listed     string    // the channels on which the do-not-contact list silences them
	Stops      bool      // there is marketing that one button stops
	StopsAll   bool      // and nothing is left on then
	Parts      []part
	Empty      bool // there is nothing to ask
	All        bool // all of it is shown, whatever the rule set says
	CanObject  bool
	Shown      string
	Paused     string // until when
	PauseFrom  string // the first day that can be chosen; empty where there is nothing to pause
	PauseUntil string
	Until      string // the day that was sent
	Past       []past
	More       bool
	terms
	Unsaved string // how many changes are not saved, by plural form, for the script
}

// stopping is one purpose, or one channel of it, to be stopped.
type stopping struct {
	Topic, Channel, What string

	Off bool // there is nothing of it to stop
}

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
		page.Until = r.PostForm.Get("until")
		resend(page.Parts, r.PostForm)
	}
	q := r.URL.Query()
	if page.Done = f.receipt(q.Get("done"), q.Get("ids"), h, form, person); page.Done == nil {
		page.Context = f.context(q, form, silentIn(person.Pauses))
	}
	p.show(w, r, statusOf(refused), "manage", page)
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
		Listed: f.listed(blocked(form)), Stops: markets(person.Catalog), StopsAll: len(f.still(form, person, h)) == 0,
		Parts: f.parts(form, silentIn(person.Pauses)), Empty: !asks(form), Shown: form.Snapshot, terms: f.terms(form),
		Unsaved: f.unsaved(), CanObject: true,
	}
	if len(person.Pauses) > 0 {
		page.Paused = f.Date(person.Pauses[len(person.Pauses)-1].Until)
	} else if person.CanPause {
		page.PauseFrom, page.PauseUntil = today(1).Format("2006-01-02"), today(365).Format("2006-01-02")
	}
	page.Past, page.More = f.recent(h, recent), len(h.Entries) > recent
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

// context reads what the link that was followed is about.
func (f frame) context(q url.Values, form consent.Form, paused silent) *stopping {
	topic, channel := q.Get("topic"), q.Get("channel")
	if q.Get("intent") != "unsubscribe" || topic == "" {
		return nil
	}
	var about *stopping
	for _, b := range form.Blocks {
		for _, o := range b.Options {
			if o.Purpose == nil || o.Purpose.ID != topic || o.Justification != consent.Consent && o.Justification != consent.LegitimateInterest ||
				channel != "" && (o.Channel == nil || o.Channel.ID != channel) {
				continue
			}
			if about == nil {
				about = &stopping{Topic: topic, Channel: channel, What: o.Purpose.Name, Off: true}
				if channel != "" {
					about.What = f.named(o.Purpose.Name, o.Channel.Name, "")
				}
			}
			_, silent := paused[keyOf(o.OptionType, o.OptionID)]
			about.Off = about.Off && !silent && !used(o) && (o.State == nil || *o.State != consent.Pending)
		}
	}
	return about
}

// origin is what is recorded with what happens on a page of a centre.
func origin(v core.CentreView) core.Origin {
	return core.Origin{PrivacyPolicyRef: v.PolicyRef, Channel: "preference-centre", Attribution: consent.Attribution{Source: v.Slug}}
}
