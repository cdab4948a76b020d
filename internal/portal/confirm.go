package portal

import (
	"errors"
	"net/http"

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
	if p.foreign(w, r) {
		return
	}
	c, err := p.Core.Confirm(r.Context(), r.PathValue("link"), r.PostFormValue("proof"), visitor(r))
	if errors.Is(err, core.ErrNoProof) {
		p.redirect(w, r, "/confirm/"+r.PathValue("link"), nil)
		return
	}
	p.confirming(w, r, c, err, true)
}

// undoConfirmation takes a confirmation back.
func (p *Portal) undoConfirmation(w http.ResponseWriter, r *http.Request) {
	if p.foreign(w, r) {
		return
	}
	c, err := p.Core.UndoConfirmation(r.Context(), r.PathValue("link"), r.PostFormValue("proof"), visitor(r))
	if errors.Is(err, core.ErrNoProof) {
		p.redirect(w, r, "/confirm/"+r.PathValue("link"), nil)
		return
	}
	p.confirming(w, r, c, err, true)
}

// resendConfirmation has a new mail sent in place of one whose link has expired.
func (p *Portal) resendConfirmation(w http.ResponseWriter, r *http.Request) {
	if p.foreign(w, r) {
		return
	}
	link := r.PathValue("link")
	c, err := p.Core.Confirmation(r.Context(), link)
	if err == nil && p.Core.WasShown(r.Context(), r.PostFormValue("proof"), "resend "+link) {
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

// foreign refuses what another site's page posts.
func (p *Portal) foreign(w http.ResponseWriter, r *http.Request) bool {
	if p.cross.Check(r) == nil {
		return false
	}
	f := p.plain(r, "")
	p.show(w, r, http.StatusForbidden, "message", f.message("page.error", "page.staleError"))
	return true
}

// confirming answers how a link stands; done says that it was used just now.
func (p *Portal) confirming(w http.ResponseWriter, r *http.Request, c core.Confirmation, err error, done bool) {
	f := p.ofApplication(r, c.ApplicationID, c.Locale)
	if err != nil {
		p.failure(w, r, f, err)
		return
	}
	f.Chooser = "/confirm/" + r.PathValue("link")
	if r.Method == http.MethodPost {
		f.Chooser = "" // the page is the answer to what was sent
	}
	p.show(w, r, http.StatusOK, "confirm", f.confirmPage(c, r.PathValue("link"), done, p.Core.MarkPage("resend "+r.PathValue("link"))))
}

func (f frame) confirmPage(c core.Confirmation, path string, done bool, mark string) confirmPage {
	page := confirmPage{Items: c.Items}
	path = "/confirm/" + path
	switch c.State {
	case core.ConfirmOpen:
		f.Title = f.Say("page.confirmTitle")
		page.Text = f.Say("page.confirmText", "Email", isolate(c.Masked))
		page.Act = &form{path, f.Say("page.confirmButton"), c.Proof}
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
		page.Act = &form{path + "/undo", f.Say("page.confirmUndo"), c.Proof}
	case core.ConfirmWithdrawn:
		f.Title, page.Panel, page.Items = f.Say("page.confirmUndone"), done, nil
	case core.ConfirmExpired:
		f.Title, page.Text, page.Items = f.Say("page.confirmExpired"), f.Say("page.expiredAsk"), nil
		if c.Renewable {
			page.Text, page.Act = f.Say("page.confirmExpiredText"), &form{path + "/resend", f.Say("page.confirmResend"), mark}
		}
	case core.ConfirmRefused:
		f.Title, page.Text, page.Items = f.Say("page.confirmRefused"), f.Say("page.confirmRefusedText"), nil
		if f.centre != nil {
			page.Links = []link{{f.Say("page.toManage"), f.Home}}
		}
	default:
		f.Title, page.Text, page.Items = f.Say("page.expired"), f.Say("page.notFoundText"), nil
	}
	page.frame = f
	return page
}
