package portal

import (
	"net/http"
	"net/url"
	"slices"

	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/internal/core"
)

// unsubscribePage asks whether somebody wants no more of something, or says that they
// get no more of it.
type unsubscribePage struct {
	frame
	What  string
	Text  string
	Panel bool
	Act   *form
	Undo  *form
	// Transaction is what the button to undo undoes.
	Transaction string
	Still       []string // what else is on
	Links       []link
}

// unsubscribing answers the link of a mail in a browser. It changes nothing.
func (p *Portal) unsubscribing(w http.ResponseWriter, r *http.Request) {
	l, err := p.Core.Leaving(r.Context(), r.PathValue("token"))
	p.leaving(w, r, l, err, false)
}

// unsubscribe refuses what the link is about, by the button of the page that was shown.
func (p *Portal) unsubscribe(w http.ResponseWriter, r *http.Request) {
	text := r.PathValue("token")
	if !p.Core.WasShown(r.Context(), r.PostFormValue("mark"), "unsubscribe "+text) {
		p.redirect(w, r, leavePath(text), askedLang(r))
		return
	}
	l, err := p.Core.Leave(r.Context(), text, visitor(r), false)
	p.leaving(w, r, l, err, true)
}

// undoUnsubscribing takes it back, by the button of the page that said it was done.
func (p *Portal) undoUnsubscribing(w http.ResponseWriter, r *http.Request) {
	text := r.PathValue("token")
	id, err := consent.ParseID(r.PostFormValue("transaction"))
	if err != nil || !p.Core.WasShown(r.Context(), r.PostFormValue("mark"), "undo "+text+id.String()) {
		p.redirect(w, r, leavePath(text), askedLang(r))
		return
	}
	l, err := p.Core.UndoLeaving(r.Context(), text, id, visitor(r))
	f := p.ofApplication(r, l.ApplicationID, "")
	f.Chooser = ""
	switch consent.KindOf(err) {
	case consent.Gone, consent.Conflict, consent.NotFound:
		m := f.message("page.error", "page.undoLate")
		m.Links = p.onward(r, f, l.ApplicationID)
		p.show(w, r, http.StatusOK, "message", m)
		return
	}
	if err != nil {
		p.failure(w, r, f, err)
		return
	}
	m := f.message("page.undone", "page.undone")
	m.Text, m.Panel, m.Links = nameOf(l, f.Lang)+": "+f.Say("GRANTED"), true, p.onward(r, f, l.ApplicationID)
	p.show(w, r, http.StatusOK, "message", m)
}

// leavePath is the address of a link to unsubscribe.
func leavePath(text string) string { return "/u/" + url.PathEscape(text) }

// onward leads from the page of a mail's link to where its reader can see the rest: that page
// is opened by a link of its own, which is asked for there.
func (p *Portal) onward(r *http.Request, f frame, applicationID string) []link {
	for _, kind := range []consent.CentreType{consent.LinkCentre, consent.ManageCentre} {
		if v, ok := p.Core.FirstCentre(r.Context(), applicationID, kind); ok {
			to := "/c/" + v.Slug
			if slices.Contains(v.Locales, f.Lang) {
				to += "/" + f.Lang
			}
			return []link{{f.Say("page.toManage"), to}}
		}
	}
	return nil
}

// nameOf gives what a link to unsubscribe is about.
func nameOf(l core.Leaving, locale string) string {
	purpose, channel := l.Named(locale)
	if channel == "" {
		return purpose
	}
	return purpose + ": " + channel
}

// leaving answers how a link to unsubscribe stands.
func (p *Portal) leaving(w http.ResponseWriter, r *http.Request, l core.Leaving, err error, done bool) {
	f := p.ofApplication(r, l.ApplicationID, "")
	switch {
	case err != nil:
		p.failure(w, r, f, err)
	case !l.Known:
		f.Chooser = ""
		p.show(w, r, http.StatusOK, "message", f.message("page.expired", "page.notFoundText"))
	default:
		if r.Method == http.MethodPost {
			f.Chooser = ""
		}
		text := r.PathValue("token")
		page := f.unsubscribePage(nameOf(l, f.Lang), l.Left, text, p.Core.MarkPage("unsubscribe "+text), done)
		if l.Left {
			page.Links = p.onward(r, f, l.ApplicationID)
		}
		if done {
			if page.Still, err = p.Core.StillOn(r.Context(), text, f.Lang); err != nil {
				p.failure(w, r, f, err)
				return
			}
		}
		if !l.TransactionID.IsZero() {
			id := l.TransactionID.String()
			page.Undo, page.Transaction = &form{f.next(leavePath(text) + "/undo"), f.Say("page.undoThis"), p.Core.MarkPage("undo " + text + id)}, id
		}
		p.show(w, r, http.StatusOK, "unsubscribe", page)
	}
}

func (f frame) unsubscribePage(what string, left bool, text, mark string, done bool) unsubscribePage {
	page := unsubscribePage{What: what}
	if left {
		f.Title, page.Panel = f.Say("page.unsubscribed"), done
		page.Text = f.Say("page.unsubscribedText", "What", page.What)
	} else {
		f.Title, page.Text = f.Say("page.unsubscribe"), f.Say("page.unsubscribeText")
		page.Act = &form{f.next(leavePath(text) + "/leave"), f.Say("page.unsubscribe"), mark}
	}
	page.frame = f
	return page
}
