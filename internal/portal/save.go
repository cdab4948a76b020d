package portal

import (
	"net/http"
	"net/url"
	"strings"

	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/internal/core"
	"github.com/opencpm/opencpm/internal/store"
)

// save records what is different on the page of a citizen.
func (p *Portal) save(w http.ResponseWriter, r *http.Request, v core.CentreView, f frame, c caller) {
	form, err := p.Core.Form(r.Context(), c.Actor, p.query(r, v, f, c))
	if err != nil {
		p.failure(w, r, f, err)
		return
	}
	f.adopt(form)
	fill(&form, r.PostForm)
	if snapshot := r.PostForm.Get("snapshot"); snapshot != "" {
		form.Snapshot = snapshot
	}
	done, err := p.Core.Answer(r.Context(), c.Actor, core.Request{}, core.FormAnswer{Form: form, Citizen: consent.CitizenKey{ID: c.Citizen}, Origin: origin(v)})
	switch {
	case consent.KindOf(err) == consent.Invalid:
		p.manage(w, r, v, f, c, f.problems(form, err))
	case err != nil:
		p.failure(w, r, f, err)
	default:
		p.saved(w, r, f, "saved", idsOf(done.Transactions, done.Submitted))
	}
}

// problems says what is wrong in a form that was sent, in words for citizens.
func (f frame) problems(form consent.Form, err error) refusal {
	if list := f.unanswered(form); len(list) > 0 {
		return list
	}
	for _, field := range fieldsOf(err) {
		if field.Location == "snapshot" {
			return refusal{{"", f.Say("page.staleError")}}
		}
	}
	return refusal{{"", f.Say("page.refusedError")}}
}

// stop refuses all marketing, or what the page names.
func (p *Portal) stop(w http.ResponseWriter, r *http.Request, v core.CentreView, f frame, c caller) {
	topic, channel := r.PostFormValue("topic"), r.PostFormValue("channel")
	done, err := p.Core.Stop(r.Context(), c.Actor, core.Stopping{Purpose: topic, Channel: channel, Origin: origin(v)})
	if topic == "" {
		p.recorded(w, r, f, "stopped", done, err)
		return
	}
	if err != nil && consent.KindOf(err) == consent.Conflict { // the page of the link says so
		p.redirect(w, r, root(f.Home), url.Values{"intent": {"unsubscribe"}, "topic": {topic}, "channel": {channel}})
		return
	}
	p.recorded(w, r, f, "one", done, err)
}

// pause silences what is on until a day.
func (p *Portal) pause(w http.ResponseWriter, r *http.Request, v core.CentreView, f frame, c caller) {
	until, err := consent.ParseInstant(r.PostFormValue("until"))
	if err != nil {
		p.manage(w, r, v, f, c, refusal{{"until", f.Say("page.pauseError")}})
		return
	}
	done, err := p.Core.Pause(r.Context(), c.Actor, core.Pausing{Until: until, Origin: origin(v)})
	if consent.KindOf(err) == consent.Invalid {
		p.manage(w, r, v, f, c, refusal{{"until", f.Say("page.pauseError")}})
		return
	}
	p.recorded(w, r, f, "paused", done, err)
}

// resume ends a pause before its day.
func (p *Portal) resume(w http.ResponseWriter, r *http.Request, v core.CentreView, f frame, c caller) {
	done, err := p.Core.EndPause(r.Context(), c.Actor, origin(v))
	p.recorded(w, r, f, "resumed", done, err)
}

// undo takes back what was done a moment ago.
func (p *Portal) undo(w http.ResponseWriter, r *http.Request, v core.CentreView, f frame, c caller) {
	ids, ok := parseIDs(r.PostFormValue("ids"))
	if !ok {
		p.manage(w, r, v, f, c, refusal{{"", f.Say("page.refusedError")}})
		return
	}
	switch err := p.Core.Undo(r.Context(), c.Actor, ids, origin(v)); consent.KindOf(err) {
	case consent.Gone, consent.Conflict, consent.NotFound, consent.Invalid: // nothing was changed
		p.manage(w, r, v, f, c, refusal{{"", f.Say("page.undoLate")}})
	default:
		if err != nil {
			p.failure(w, r, f, err)
			return
		}
		p.saved(w, r, f, "undone", ids)
	}
}

// nothing is what a receipt is called where there was nothing to do.
var nothing = map[string]string{"stopped": "nothing-stopped", "paused": "nothing-paused", "resumed": "resumed"}

// recorded leads to the receipt of a transaction. Where there was nothing to change, that
// is what it says.
func (p *Portal) recorded(w http.ResponseWriter, r *http.Request, f frame, kind string, done core.Recorded, err error) {
	switch {
	case consent.KindOf(err) == consent.Conflict && err != nil:
		p.saved(w, r, f, nothing[kind], nil)
	case err != nil:
		p.failure(w, r, f, err)
	default:
		p.saved(w, r, f, kind, []consent.ID{done.Transaction.ID})
	}
}

// saved leads to the page with the receipt of what was recorded.
func (p *Portal) saved(w http.ResponseWriter, r *http.Request, f frame, kind string, ids []consent.ID) {
	q := url.Values{"done": {kind}}
	if len(ids) > 0 {
		texts := make([]string, len(ids))
		for i, id := range ids {
			texts[i] = id.String()
		}
		q.Set("ids", strings.Join(texts, "."))
	}
	if r.PostFormValue("all") != "" {
		q.Set("all", "1")
	}
	p.redirect(w, r, root(f.Home), q)
}

func idsOf(transactions []store.Recorded, submitted *store.Submitted) []consent.ID {
	var ids []consent.ID
	for _, t := range transactions {
		ids = append(ids, t.Transaction.ID)
	}
	if submitted != nil {
		for _, s := range submitted.Submissions {
			ids = append(ids, s.ID)
		}
	}
	return ids
}

// parseIDs reads the ids of a receipt.
func parseIDs(text string) ([]consent.ID, bool) {
	if text == "" {
		return nil, false
	}
	var ids []consent.ID
	for piece := range strings.SplitSeq(text, ".") {
		id, err := consent.ParseID(piece)
		if err != nil || len(ids) == 500 {
			return nil, false
		}
		ids = append(ids, id)
	}
	return ids, true
}
