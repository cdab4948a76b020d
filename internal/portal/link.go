package portal

import (
	"cmp"
	"net/http"

	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/internal/core"
)

// ask is the form by which a citizen has a link, or a code, sent to them. Its answer is
// the same whether we know the address or not.
type ask struct {
	Action string
	Mark   string
	Asker  string // that redeems the code; empty where a link is asked for
	Lead   string // said above the field
	Code   bool
	Again  bool   // they had one
	Email  string // as it was typed
	Wrong  string // with that
}

// linkPage is a page that asks for an address, or for the code that was sent to it, or
// says that a message is on its way there.
type linkPage struct {
	frame
	Text     string
	Problems refusal
	Sent     bool
	Sender   string
	Ask      *ask
	Enter    bool   // the code is to be entered
	Asker    string // who alone can enter it
	Email    string
	Refused  string
}

// askFor gives the form for a new link at a centre; nil where none can be sent.
func (p *Portal) askFor(r *http.Request, v core.CentreView, f frame) (*ask, error) {
	if can, err := p.Core.Asks(r.Context(), v); err != nil || !can {
		return nil, err
	}
	code, err := p.sendsCodes(r, v)
	if err != nil {
		return nil, err
	}
	a := &ask{Action: f.Home + "/link", Mark: p.Core.MarkPage("ask " + v.Slug), Code: code}
	if a.Code {
		a.Asker = core.NewAsker()
	}
	return a, nil
}

// sendsCodes reports whether a centre sends codes now, and not links.
func (p *Portal) sendsCodes(r *http.Request, v core.CentreView) (bool, error) {
	if v.Type != consent.LinkCentre || !v.Code {
		return false, nil
	}
	return p.Core.TakesCodes(r.Context(), v.ApplicationID)
}

// expired answers a link that no longer works, or never did, and offers a new one.
func (p *Portal) expired(w http.ResponseWriter, r *http.Request, v core.CentreView, f frame) {
	asked, err := p.askFor(r, v, f)
	if err != nil {
		p.failure(w, r, f, err)
		return
	}
	m := f.message("page.expired", "page.expiredText")
	if m.Ask = asked; asked == nil {
		m.Text = f.Say("page.expiredAsk")
	} else {
		asked.Again = true
	}
	p.show(w, r, http.StatusOK, "message", m)
}

// linkPage answers the page on which a link, or a code, is asked for.
func (p *Portal) linkPage(w http.ResponseWriter, r *http.Request, v core.CentreView, f frame, email string, refused refusal) {
	asked, err := p.askFor(r, v, f)
	switch {
	case err != nil:
		p.failure(w, r, f, err)
		return
	case asked == nil:
		p.show(w, r, http.StatusOK, "message", f.message("page.closed", "page.closedText"))
		return
	}
	text := "page.linkText"
	if asked.Code {
		text = "page.codeText"
	}
	own := consent.CentreTexts{} // the texts of a page to manage say something else
	if v.Type == consent.LinkCentre {
		own = v.Texts
	}
	f.Title, f.Wrong = cmp.Or(f.local(own.Title), f.Say("page.linkTitle")), len(refused) > 0
	asked.Email, asked.Wrong = email, refused.At("email")
	p.show(w, r, statusOf(refused), "link", linkPage{frame: f, Text: cmp.Or(f.local(own.Intro), f.Say(text)), Ask: asked, Problems: refused})
}

// requestLink has a link, or a code, sent.
func (p *Portal) requestLink(w http.ResponseWriter, r *http.Request, v core.CentreView, f frame) {
	email := r.PostFormValue("email")
	if !p.Core.WasShown(r.Context(), r.PostFormValue("mark"), "ask "+v.Slug) {
		p.linkPage(w, r, v, f, email, refusal{{"", f.Say("page.staleError")}})
		return
	}
	asker := r.PostFormValue("asker")
	code, err := p.sendsCodes(r, v)
	if err != nil {
		p.failure(w, r, f, err)
		return
	}
	err = p.Core.RequestLink(r.Context(), core.LinkRequest{ApplicationID: v.ApplicationID, Centre: v.Reference, Email: email, Locale: f.Lang, Code: code, Asker: asker, Visitor: visitor(r)})
	switch {
	case consent.KindOf(err) == consent.Invalid:
		p.linkPage(w, r, v, f, email, refusal{{"email", f.Say("page.emailError")}})
	case err != nil:
		p.failure(w, r, f, err)
	default:
		p.linkSent(w, r, v, f, linkPage{Enter: code, Asker: asker, Email: email})
	}
}

// linkSent answers that a message is on its way, if we know the address, and takes the
// code where one was asked for.
func (p *Portal) linkSent(w http.ResponseWriter, r *http.Request, v core.CentreView, f frame, page linkPage) {
	f.Title = f.Say("page.inbox")
	f.Mark = p.Core.MarkPage("code " + v.Slug)
	status := http.StatusOK
	if page.Refused != "" {
		f.Wrong, status = true, http.StatusUnprocessableEntity
	}
	page.frame, page.Text, page.Sent, page.Sender = f, f.Say("page.linkSentTo", "Email", isolate(page.Email)), true, senderOf(v)
	p.show(w, r, status, "link", page)
}

func senderOf(v core.CentreView) string {
	if v.Settings.Sender == nil {
		return ""
	}
	return v.Settings.Sender.Address
}

// redeemCode begins a visit for a code that was sent.
func (p *Portal) redeemCode(w http.ResponseWriter, r *http.Request, v core.CentreView, f frame) {
	email := r.PostFormValue("email")
	if !p.Core.WasShown(r.Context(), r.PostFormValue("mark"), "code "+v.Slug) {
		p.linkPage(w, r, v, f, email, refusal{{"", f.Say("page.staleError")}})
		return
	}
	asker := r.PostFormValue("asker")
	text, err := p.Core.RedeemCode(r.Context(), v.ApplicationID, email, asker, r.PostFormValue("code"), visitor(r))
	switch {
	case consent.KindOf(err) == consent.Unauthenticated:
		p.linkSent(w, r, v, f, linkPage{Enter: true, Asker: asker, Email: email, Refused: f.Say("page.codeWrong")})
		return
	case err != nil:
		p.failure(w, r, f, err)
		return
	}
	to, ok := p.Core.ManageCentre(r.Context(), v)
	if !ok {
		p.failure(w, r, f, consent.Errorf(consent.NotFound, "There is no page to manage."))
		return
	}
	visit, err := p.Core.BeginVisit(r.Context(), v.ApplicationID, text)
	if err != nil {
		p.failure(w, r, f, err)
		return
	}
	// The visit is to that centre, wherever the code was entered.
	home := "/c/" + to.Slug
	if to.Slug == v.Slug {
		home = f.Home
	}
	p.cookie(w, to, frame{Home: home}, &http.Cookie{Name: visitCookie, Value: visit, MaxAge: int(core.VisitTime.Seconds())})
	p.redirect(w, r, root(home), nil)
}
