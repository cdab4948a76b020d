package portal

import (
	"slices"
	"strings"
	"time"

	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/internal/core"
)

// receipt says what was done a moment ago.
type receipt struct {
	Title  string
	At     consent.Instant
	When   string
	Lines  []line
	Still  []rest // what goes on although all marketing is stopped
	Policy string
	Undo   string // the ids to send; empty where it cannot be undone
	None   bool   // nothing was different
}

// rest is something that stopping all marketing leaves as it is, with the button that
// refuses it.
type rest struct {
	What  string
	Key   string // empty where the page does not ask for it
	Does  string // what the button sends
	Label string
}

// titles are those of receipts, by what was done; that of the rest says more.
var titles = map[string]string{
	"saved": "page.savedTitle", "stopped": "page.stopped", "resumed": "page.pauseEnded", "undone": "page.undone", "one": "page.stoppedOne", "paused": "page.pausedTitle",
	"nothing-stopped": "page.stopNothing", "nothing-paused": "page.pauseNothing",
}

// receipt says what was done, by what was recorded of the citizen themselves.
func (f frame) receipt(kind, ids string, h core.History, form consent.Form, person core.Person) *receipt {
	if kind == "paused" && len(person.Pauses) == 0 {
		kind = "saved" // what was on would have ended before the day
	}
	title, known := titles[kind]
	list, _ := parseIDs(ids)
	out := &receipt{}
	switch {
	case !known:
		return nil
	case kind == "paused":
		out.Title = f.Say(title, "Date", f.Date(person.Pauses[len(person.Pauses)-1].Until))
	case kind != "one":
		out.Title = f.Say(title)
	}
	switch kind {
	case "stopped", "nothing-stopped":
		out.Still = f.still(form, person, h)
	case "undone":
		out.Lines = f.undone(list, h)
	}
	if kind == "undone" || strings.HasPrefix(kind, "nothing-") {
		return out
	}
	reversible := kind != "resumed"
	for _, e := range h.Entries {
		evidence := e.Evidence()
		if !evidence.ByCitizen || !slices.Contains(list, evidence.ID) {
			if e.Transaction != nil && slices.Contains(list, e.Transaction.Reverts) {
				reversible = false // undone already
			}
			continue
		}
		out.At = evidence.RecordedAt
		if kind == "resumed" && e.Transaction != nil {
			out.Lines = append(out.Lines, f.restored(h, *e.Transaction)...)
		} else {
			out.Lines = append(out.Lines, f.lines(e, h)...)
		}
		if kind == "stopped" && e.Transaction != nil && idle(h, e.Transaction) {
			return &receipt{Title: f.Say(titles["nothing-stopped"]), Still: out.Still}
		}
		if p := form.PrivacyPolicy; evidence.Policy != nil && p != nil && evidence.Policy.Ref == p.Reference {
			out.Policy = f.policy(p.Name, p.Version, p.URL).Label
		}
	}
	if kind == "one" {
		names := make([]string, len(out.Lines))
		for i, l := range out.Lines {
			names[i] = l.What
		}
		out.Title = f.Say(title, "What", f.listed(slices.Compact(slices.Sorted(slices.Values(names)))))
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

// undone says how everything stands that was just undone.
func (f frame) undone(ids []consent.ID, h core.History) (list []line) {
	for _, e := range h.Entries {
		if !slices.Contains(ids, e.Evidence().ID) {
			continue
		}
		for _, by := range slices.Backward(h.Entries) {
			if e.Transaction != nil && by.Transaction != nil && by.Transaction.Reverts == e.Transaction.ID {
				list = append(list, f.restored(h, *by.Transaction)...)
				break
			}
			if e.Submission != nil && by.Submission != nil && by.Submission.Answer.Preference == e.Submission.Answer.Preference {
				list = append(list, f.lines(by, h)...)
				break
			}
		}
	}
	return list
}

// idle reports whether a refusal changed nothing: all of it was off, and not for a time alone.
func idle(h core.History, t *consent.Transaction) bool {
	p := before(h, t.ID)
	paused := silentIn(p.Paused(t.RecordedAt))
	return !slices.ContainsFunc(t.Changes, func(c consent.Change) bool {
		e, stands := p.Entry(consent.Key{Type: c.OptionType, ID: c.OptionID}, t.RecordedAt)
		_, silent := paused[keyOf(c.OptionType, c.OptionID)]
		return silent || stands && !e.State.Refusal() || !stands && c.Justification == consent.LegitimateInterest
	})
}

// still is what is used of somebody, and could be refused, and does not end by stopping
// all marketing.
func (f frame) still(form consent.Form, person core.Person, h core.History) (list []rest) {
	asked := map[string]bool{}
	for _, b := range form.Blocks {
		for _, o := range b.Options {
			key := keyOf(o.OptionType, o.OptionID)
			asked[key] = true
			switch {
			case o.DirectMarketing, !used(o):
			case o.Justification == consent.Consent:
				list = append(list, rest{f.name(o), key, "refuse", f.Say("page.turnOff")})
			default:
				list = append(list, rest{f.name(o), key, "object", f.Say("object")})
			}
		}
	}
	for _, e := range person.State.Projection.Effective(consent.At(time.Now())) {
		on := e.State == consent.Granted || e.State == consent.Claimed
		refusable := e.Justification == consent.Consent || e.Justification == consent.LegitimateInterest
		if !on || !refusable || e.OptionType != consent.OptionSingle || asked[keyOf(e.OptionType, e.OptionID)] {
			continue
		}
		for _, o := range person.Catalog.Options {
			if o.ID == e.OptionID && !slices.ContainsFunc(person.Catalog.Purposes, func(p consent.Purpose) bool { return p.ID == o.Purpose && p.DirectMarketing }) {
				list = append(list, rest{What: f.nameOf(h, e.OptionType, e.OptionID)})
			}
		}
	}
	return list
}
