package portal

import (
	"cmp"
	"errors"
	"net/http"
	"slices"

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
			list[i].Policy = f.policy(cmp.Or(f.local(p.Label), p.Name), v.Version, v.URL)
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
	if way := ways[evidence.Channel]; way != "" {
		list = append(list, f.Say(way))
	}
	if a := evidence.Attribution; a.VisitorAddress != "" {
		add("page.fromAddress", "Address", isolate(a.VisitorAddress))
		add("page.fromAgent", "Agent", isolate(a.VisitorAgent))
	}
	return list
}

// ways are the channels of recording that citizens are told, in words; what others call
// theirs means nothing to them.
var ways = map[string]string{
	"preference-centre": "page.via.centre", "unsubscribe-link": "page.via.link", "e-mail link": "page.via.link", "sign-up form": "page.via.form", "paper form": "page.via.paper",
	"checkout": "page.via.checkout", "till": "page.via.shop", "call-centre": "page.via.telephone", "import": "page.via.import",
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
			labels[i] = f.choiceIn(h, e.Submission.Answer.Preference, c)
		}
		now := f.speaker.List(labels)
		if len(labels) == 0 {
			now = f.Say("page.nothingChosen")
		}
		return []line{{f.questionIn(h, e.Submission.Answer), now}}
	}
	if v := e.Suppression; v != nil {
		channel, now := h.Snapshot.Channel(v.Medium), "listed"
		if v.Lifted {
			now = "unlisted"
		}
		return []line{{cmp.Or(f.local(channel.Label), channel.Name), f.Say(now)}}
	}
	if !e.Transaction.Reverts.IsZero() {
		return append([]line{{f.Say("page.reverted"), ""}}, f.restored(h, *e.Transaction)...)
	}
	return f.changes(h, e.Transaction)
}

// changes puts those of a transaction into words, each thing once: what is silent for a
// time is paused.
func (f frame) changes(h core.History, t *consent.Transaction) []line {
	list := make([]line, 0, len(t.Changes))
	for i, change := range t.Changes {
		of := func(o consent.Change) bool { return o.OptionType == change.OptionType && o.OptionID == change.OptionID }
		starts := change.ValidFrom > t.RecordedAt
		if starts && slices.ContainsFunc(t.Changes[:i], func(o consent.Change) bool { return of(o) && o.State.Refusal() }) {
			continue
		}
		now := f.Say(string(change.State))
		again := slices.IndexFunc(t.Changes[i+1:], func(o consent.Change) bool { return of(o) && o.ValidFrom > t.RecordedAt })
		switch {
		case change.State.Refusal() && again >= 0:
			now = f.Say("page.pausedUntil", "Date", f.Date(t.Changes[i+1+again].ValidFrom))
		case starts:
			now = f.Say("page.from", "State", now, "Date", f.Date(change.ValidFrom))
		}
		list = append(list, line{f.nameOf(h, change.OptionType, change.OptionID), now})
	}
	return list
}

// before gives what stood before a record.
func before(h core.History, id consent.ID) *consent.Projection {
	var p consent.Projection
	for _, e := range h.Entries {
		switch {
		case e.Evidence().ID == id:
			return &p
		case e.Suppression != nil:
			p.Suppress(*e.Suppression)
		case e.Transaction != nil:
			p.Add(*e.Transaction)
		}
	}
	return &p
}

// restored says how what a reversion is about stood after it.
func (f frame) restored(h core.History, reversion consent.Transaction) (list []line) {
	i := slices.IndexFunc(h.Entries, func(e store.Entry) bool { return e.Transaction != nil && e.Transaction.ID == reversion.Reverts })
	if i < 0 {
		return nil
	}
	p := before(h, reversion.ID)
	p.Add(reversion)
	said := map[consent.Key]bool{}
	for _, c := range h.Entries[i].Transaction.Changes {
		key := consent.Key{Type: c.OptionType, ID: c.OptionID}
		if said[key] {
			continue
		}
		said[key] = true
		e, stands := p.Entry(key, reversion.RecordedAt)
		switch {
		case stands:
		case c.Justification == consent.LegitimateInterest:
			e.State = consent.Claimed
		default:
			e.State = consent.Denied
		}
		list = append(list, line{f.nameOf(h, c.OptionType, c.OptionID), f.Say(string(e.State))})
	}
	return list
}

// nameOf gives what an option is called on the pages: its topic and channel, and who it is
// where that is not the application's first party.
func (f frame) nameOf(h core.History, t consent.OptionType, id string) string {
	a := h.Snapshot.About(consent.Key{Type: t, ID: id})
	if a.Option.ID == "" {
		return cmp.Or(a.Group.Name, id)
	}
	return f.named(cmp.Or(f.local(a.Purpose.Label), a.Purpose.Name), cmp.Or(f.local(a.Channel.Label), a.Channel.Name), h.Snapshot.Catalogue.OtherParty(a.Party.ID))
}

func (f frame) questionIn(h core.History, a consent.Answer) string {
	for _, p := range h.Snapshot.Catalogue.Preferences {
		if p.Reference == a.Preference {
			return cmp.Or(f.local(p.Label), a.Label)
		}
	}
	return a.Label
}

func (f frame) choiceIn(h core.History, preference string, chosen consent.Chosen) string {
	for _, p := range h.Snapshot.Catalogue.Preferences {
		for _, o := range p.Choices {
			if p.Reference == preference && o.Reference == chosen.Reference {
				return cmp.Or(f.local(o.Label), chosen.Label)
			}
		}
	}
	return chosen.Label
}

// fieldsOf gives the faults of a request.
func fieldsOf(err error) []consent.FieldError {
	var e *consent.Error
	if errors.As(err, &e) {
		return e.Fields
	}
	return nil
}
