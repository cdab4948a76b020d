package portal

import (
	"errors"
	"net/http"
	"net/url"

	"github.com/opencpm/opencpm/internal/core"
)

// confirmPage asks the owner of an address to confirm, or says what became of it.
type confirmPage struct {
	frame
	Text  string
	Items []core.ConfirmItem
	// Telephone says which number was named, so that nobody confirms another's unseen.
	Telephone string
	When      string
	Panel     bool
	Act       *form
	Strong    bool // the button is what most want
	Not       string
	Links     []link
}

// confirmation answers the link of a double opt-in. It changes nothing: programs follow
// links, too.
func (p *Portal) confirmation(w http.ResponseWriter, r *http.Request) {
	c, err := p.Core.Confirmation(r.Context(), r.PathValue("link"))
	p.confirming(w, r, c, err, false)
}

// confirm confirms, by the button of the page that was shown.
func (p *Portal) confirm(w http.ResponseWriter, r *http.Request) {
	c, err := p.Core.Confirm(r.Context(), r.PathValue("link"), r.PostFormValue("mark"), visitor(r))
	if errors.Is(err, core.ErrNoProof) {
		p.redirect(w, r, confirmPath(r), askedLang(r))
		return
	}
	p.confirming(w, r, c, err, true)
}

// undoConfirmation takes a confirmation back.
func (p *Portal) undoConfirmation(w http.ResponseWriter, r *http.Request) {
	c, err := p.Core.UndoConfirmation(r.Context(), r.PathValue("link"), r.PostFormValue("mark"), visitor(r))
	if errors.Is(err, core.ErrNoProof) {
		p.redirect(w, r, confirmPath(r), askedLang(r))
		return
	}
	p.confirming(w, r, c, err, true)
}

// resendConfirmation has a new mail sent in place of one whose link has expired.
func (p *Portal) resendConfirmation(w http.ResponseWriter, r *http.Request) {
	link := r.PathValue("link")
	c, err := p.Core.Confirmation(r.Context(), link)
	if err == nil && p.Core.WasShown(r.Context(), r.PostFormValue("mark"), "resend "+link) {
		err = p.Core.ResendConfirmation(r.Context(), link, visitor(r))
	}
	f := p.ofApplication(r, c.ApplicationID, c.Locale)
	if err != nil {
		p.failure(w, r, f, err)
		return
	}
	m := f.message("page.inbox", "page.linkSent")
	p.show(w, r, http.StatusOK, "message", m)
}

// confirming answers how a link stands; done says that it was used just now.
func (p *Portal) confirming(w http.ResponseWriter, r *http.Request, c core.Confirmation, err error, done bool) {
	f := p.ofApplication(r, c.ApplicationID, c.Locale)
	if err != nil {
		p.failure(w, r, f, err)
		return
	}
	f.Chooser = confirmPath(r)
	page := f.confirmPage(c, f.Chooser, done, p.Core.MarkPage("resend "+r.PathValue("link")))
	switch c.State {
	case core.ConfirmConfirmed, core.ConfirmWithdrawn, core.ConfirmRefused:
		page.Links = p.onward(r, f, c.ApplicationID)
	}
	p.show(w, r, http.StatusOK, "confirm", page)
}

// confirmPath is the address of the link that a request is about.
func confirmPath(r *http.Request) string { return "/confirm/" + url.PathEscape(r.PathValue("link")) }

func (f frame) confirmPage(c core.Confirmation, path string, done bool, mark string) confirmPage {
	page := confirmPage{Items: c.Items}
	switch c.State {
	case core.ConfirmOpen:
		f.Title = f.Say("page.confirmTitle")
		page.Text = f.Say("page.confirmText", "Email", isolate(c.Masked))
		page.Act, page.Strong = &form{f.next(path), f.Say("page.confirmButton"), c.Mark}, true
		page.Not = f.Say("page.confirmNot")
		if c.Telephone != "" {
			page.Telephone = f.Say("page.confirmTelephone", "Telephone", isolate(c.Telephone))
		}
	case core.ConfirmConfirmed:
		f.Title, page.Panel = f.Say("page.confirmedAlready"), done
		if done {
			f.Title = f.Say("page.confirmed")
		}
		page.When = f.Say("page.confirmedAt", "Date", f.Clock(c.At))
		page.Act = &form{f.next(path + "/undo"), f.Say("page.confirmUndo"), c.Mark}
	case core.ConfirmWithdrawn:
		f.Title, page.Panel, page.Text = f.Say("page.confirmUndone"), done, f.Say("page.confirmUndoneText")
	case core.ConfirmExpired:
		f.Title, page.Text, page.Items = f.Say("page.confirmExpired"), f.Say("page.expiredAsk"), nil
		if c.Renewable {
			page.Text = f.Say("page.confirmExpiredText")
			page.Act, page.Strong = &form{f.next(path + "/resend"), f.Say("page.confirmResend"), mark}, true
		}
	case core.ConfirmRefused:
		f.Title, page.Text, page.Items = f.Say("page.confirmRefused"), f.Say("page.confirmRefusedText"), nil
	default:
		f.Title, page.Text, page.Items = f.Say("page.expired"), f.Say("page.notFoundText"), nil
	}
	page.frame = f
	return page
}
