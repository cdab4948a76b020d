package portal

import (
	"errors"
	"net/http"
	"slices"
	"time"

	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/internal/core"
	"github.com/opencpm/opencpm/internal/store"
)

// past is one record in words.
type past struct {
	At     consent.Instant
	When   string
	By     string
	Lines  []line
	Shown  string // the wording
	How    []string
	Policy *link
}

// line is what became of one thing.
type line struct{ What, Now string }

// receipt says what was done a moment ago.
type receipt struct {
	Title  string
	At     consent.Instant
	When   string
	Lines  []line
	Policy string
	Undo   string // the ids to send; empty where it cannot be undone
	None   bool   // nothing was different
}

// historyPage is everything recorded.
type historyPage struct {
	frame
	Past []past
}

// history answers everything recorded of a citizen, in words.
func (p *Portal) history(w http.ResponseWriter, r *http.Request, _ core.CentreView, f frame, c caller) {
	h, err := p.Core.History(r.Context(), c.Actor, c.Citizen, 0, 0)
	if err != nil {
		p.failure(w, r, f, err)
		return
	}
	f.Title = f.Say("page.recorded")
	page := historyPage{frame: f}
	page.Past = f.past(h)
	p.show(w, r, http.StatusOK, "history", page)
}

// past puts everything recorded into words, the newest first, with how it came about.
func (f frame) past(h core.History) []past {
	list := f.recent(h, len(h.Entries))
	for i := range list {
		e := h.Entries[len(h.Entries)-1-i]
		list[i].How = f.how(e)
		if p, v := h.PolicyShown(e.Evidence()); v.Version != "" {
			list[i].Policy = &link{f.Say("page.policy", "Name", orName(f.local(p.Label), p.Name), "Version", v.Version), v.URL}
		}
	}
	return list
}

// recent puts so many of the newest records into words.
func (f frame) recent(h core.History, most int) (list []past) {
	for _, e := range slices.Backward(h.Entries) {
		if len(list) == most {
			break
		}
		evidence := e.Evidence()
		entry := past{At: evidence.RecordedAt, When: f.Clock(evidence.RecordedAt), By: f.by(evidence), Lines: f.lines(e, h)}
		if evidence.Statement != nil {
			entry.Shown = f.local(h.Statements[*evidence.Statement].Text)
		}
		list = append(list, entry)
	}
	return list
}

// how says what proves a record, beside its wording and who made it: when it was answered
// if that was earlier, the double opt-in, the way it came, and the browser.
func (f frame) how(e store.Entry) (list []string) {
	add := func(name, field, value string) {
		if value != "" {
			list = append(list, f.Say(name, field, value))
		}
	}
	at := func(name string, i consent.Instant) {
		if i != 0 {
			add(name, "Date", f.Clock(i))
		}
	}
	evidence := e.Evidence()
	if f.Clock(evidence.ObtainedAt) != f.Clock(evidence.RecordedAt) {
		at("page.obtained", evidence.ObtainedAt)
	}
	if e.Transaction != nil && e.Transaction.Confirms != nil {
		at("page.mailSent", e.Transaction.Confirms.SentAt)
		at("page.linkOpened", e.Transaction.Confirms.OpenedAt)
		at("page.confirmedAt", evidence.RecordedAt)
	}
	add("page.through", "Channel", evidence.Channel)
	if a := evidence.Attribution; a.VisitorAddress != "" {
		add("page.fromAddress", "Address", isolate(a.VisitorAddress))
		add("page.fromAgent", "Agent", isolate(a.VisitorAgent))
	}
	return list
}

func (f frame) by(e *consent.Evidence) string {
	switch {
	case e.ByCitizen:
		return f.Say("page.by.you")
	case e.Client.ID == consent.Platform.ID:
		return f.Say("page.by.platform")
	}
	return f.Say("page.by.other", "Name", f.Owner)
}

// lines puts what a record changed into words.
func (f frame) lines(e store.Entry, h core.History) []line {
	if e.Submission != nil {
		labels := make([]string, len(e.Submission.Answer.Choices))
		for i, c := range e.Submission.Answer.Choices {
			labels[i] = f.choiceIn(h.Catalogue, e.Submission.Answer.Preference, c)
		}
		now := f.speaker.List(labels)
		if len(labels) == 0 {
			now = f.Say("page.nothingChosen")
		}
		return []line{{f.questionIn(h.Catalogue, e.Submission.Answer), now}}
	}
	if v := e.Suppression; v != nil {
		if v.Lifted {
			return []line{{f.channelIn(h.Catalogue, v.Medium), f.Say("page.unlisted")}}
		}
		return []line{{f.channelIn(h.Catalogue, v.Medium), f.Say("page.listed")}}
	}
	if !e.Transaction.Reverts.IsZero() {
		return []line{{f.Say("page.reverted"), ""}}
	}
	list := make([]line, 0, len(e.Transaction.Changes))
	for _, c := range e.Transaction.Changes {
		now := f.Say("page.state." + string(c.State))
		if c.ValidFrom > e.Transaction.RecordedAt {
			now = f.Say("page.from", "State", now, "Date", f.Date(c.ValidFrom))
		}
		list = append(list, line{f.nameIn(h.Catalogue, c.OptionType, c.OptionID), now})
	}
	return list
}

// nameIn gives what an option is called on the pages: its topic and channel.
func (f frame) nameIn(c consent.Catalogue, t consent.OptionType, id string) string {
	if t == consent.OptionGroup {
		if i := slices.IndexFunc(c.OptionGroups, func(g consent.OptionGroupItem) bool { return g.ID == id }); i >= 0 {
			return c.OptionGroups[i].Name
		}
		return id
	}
	i := slices.IndexFunc(c.Options, func(o consent.Option) bool { return o.ID == id })
	if i < 0 {
		return id
	}
	o := c.Options[i]
	purpose := o.Purpose
	for _, v := range c.Purposes {
		if v.ID == o.Purpose {
			purpose = orName(f.local(v.Label), v.Name)
		}
	}
	return purpose + ": " + f.channelIn(c, o.Channel)
}

func (f frame) channelIn(c consent.Catalogue, id string) string {
	for _, v := range c.Channels {
		if v.ID == id {
			return orName(f.local(v.Label), v.Name)
		}
	}
	return id
}

func orName(label, name string) string {
	if label != "" {
		return label
	}
	return name
}

func (f frame) questionIn(c consent.Catalogue, a consent.Answer) string {
	for _, p := range c.Preferences {
		if p.Reference == a.Preference {
			return orName(f.local(p.Label), a.Label)
		}
	}
	return a.Label
}

func (f frame) choiceIn(c consent.Catalogue, preference string, chosen consent.Chosen) string {
	for _, p := range c.Preferences {
		for _, o := range p.Choices {
			if p.Reference == preference && o.Reference == chosen.Reference {
				return orName(f.local(o.Label), chosen.Label)
			}
		}
	}
	return chosen.Label
}

// receipt says what was done, by what was recorded of the citizen themselves.
func (f frame) receipt(kind, ids string, h core.History, form consent.Form, person core.Person) *receipt {
	titles := map[string]string{"saved": "page.savedTitle", "stopped": "page.stopped", "resumed": "page.pauseEnded", "undone": "page.undone", "one": "", "paused": ""}
	title, known := titles[kind]
	if !known {
		return nil
	}
	list, _ := parseIDs(ids)
	out := &receipt{}
	reversible := kind != "resumed"
	names := map[string]bool{}
	for _, e := range h.Entries {
		evidence := e.Evidence()
		if !evidence.ByCitizen || !slices.Contains(list, evidence.ID) {
			if e.Transaction != nil && slices.Contains(list, e.Transaction.Reverts) {
				reversible = false // undone already
			}
			continue
		}
		out.At = evidence.RecordedAt
		out.Lines = append(out.Lines, f.lines(e, h)...)
		if e.Transaction != nil {
			for _, c := range e.Transaction.Changes {
				names[f.nameIn(h.Catalogue, c.OptionType, c.OptionID)] = true
			}
		}
		if evidence.Policy != nil && form.PrivacyPolicy != nil && evidence.Policy.Ref == form.PrivacyPolicy.Reference {
			out.Policy = f.Say("page.policy", "Name", form.PrivacyPolicy.Name, "Version", form.PrivacyPolicy.Version)
		}
	}
	switch kind {
	case "one":
		var all []string
		for name := range names {
			all = append(all, name)
		}
		slices.Sort(all)
		out.Title = f.Say("page.stoppedOne", "What", f.speaker.List(all))
	case "paused":
		if len(person.Pauses) == 0 {
			return nil
		}
		out.Title = f.Say("page.pausedTitle", "Date", f.Date(person.Pauses[len(person.Pauses)-1].Until))
	default:
		out.Title = f.Say(title)
	}
	if kind == "undone" {
		return out
	}
	if len(out.Lines) == 0 {
		return &receipt{Title: f.Say("page.savedTitle"), None: true}
	}
	out.When = f.Clock(out.At)
	if reversible && out.At.Add(core.UndoTime) > consent.At(time.Now()) {
		out.Undo = ids
	}
	return out
}

// fieldsOf gives the faults of a request.
func fieldsOf(err error) []consent.FieldError {
	var e *consent.Error
	if errors.As(err, &e) {
		return e.Fields
	}
	return nil
}
