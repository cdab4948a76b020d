package portal

import (
	"cmp"
	"net/http"
	"slices"
	"strings"

	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/internal/core"
)

// signUpPage takes new citizens. Nothing on it is ticked.
type signUpPage struct {
	frame
	Intro    string
	Parts    []part
	Shown    string
	Email    string
	Problems refusal
	// AsksTelephone is whether something here reaches people by telephone.
	AsksTelephone bool
	Telephone     string
	// CanObject is false: nobody is known whose objection it would be.
	CanObject bool
	terms
}

// signUpEntry is what was typed, and what was wrong with it.
type signUpEntry struct {
	email     string
	telephone string
	sent      map[string][]string
	problems  refusal
}

// signUpPage answers the page on which somebody signs up.
func (p *Portal) signUpPage(w http.ResponseWriter, r *http.Request, v core.CentreView, f frame, typed signUpEntry) {
	form, err := p.Core.PublicForm(r.Context(), p.publicQuery(v, f), "")
	switch consent.KindOf(err) {
	case consent.NotFound, consent.Forbidden:
		p.show(w, r, http.StatusOK, "message", f.message("page.closed", "page.closedText"))
		return
	default:
		if err != nil {
			p.failure(w, r, f, err)
			return
		}
	}
	asksTelephone, err := p.Core.Reaches(r.Context(), form, consent.TelephoneContact)
	if err != nil {
		p.failure(w, r, f, err)
		return
	}
	f.adopt(form)
	page := f.signUpPage(v, form, p.Core.MarkPage("sign-up "+v.Slug), typed)
	page.AsksTelephone = asksTelephone
	p.show(w, r, statusOf(typed.problems), "signup", page)
}

func statusOf(problems refusal) int {
	if len(problems) > 0 {
		return http.StatusUnprocessableEntity
	}
	return http.StatusOK
}

func (f frame) signUpPage(v core.CentreView, form consent.Form, mark string, typed signUpEntry) signUpPage {
	f.Title, f.Mark, f.Wrong = cmp.Or(f.local(v.Texts.Title), f.Say("page.signUp")), mark, len(typed.problems) > 0
	page := signUpPage{frame: f, Intro: cmp.Or(f.local(v.Texts.Intro), f.Say("page.signUpIntro")), Parts: f.parts(form, nil), Shown: form.Snapshot, Email: typed.email, Telephone: typed.telephone, Problems: typed.problems, terms: f.terms(form)}
	resend(page.Parts, typed.sent)
	return page
}

func (p *Portal) publicQuery(v core.CentreView, f frame) core.FormQuery {
	return core.FormQuery{ApplicationID: v.ApplicationID, TemplateID: v.TemplateID, RuleSet: v.RuleSet, Locale: f.Lang}
}

// signUp takes what somebody signs up for, and has them confirm it.
func (p *Portal) signUp(w http.ResponseWriter, r *http.Request, v core.CentreView, f frame) {
	form, err := p.Core.PublicForm(r.Context(), p.publicQuery(v, f), "")
	if err != nil {
		p.signUpPage(w, r, v, f, signUpEntry{})
		return
	}
	f.adopt(form)
	typed := signUpEntry{email: r.PostFormValue("email"), telephone: strings.TrimSpace(r.PostFormValue("telephone")), sent: r.PostForm}
	fresh := p.Core.WasShown(r.Context(), r.PostFormValue("mark"), "sign-up "+v.Slug)
	fill(&form, r.PostForm)
	form.Snapshot = cmp.Or(r.PostForm.Get("snapshot"), form.Snapshot)
	if _, err := consent.ParseEmail(typed.email); err != nil {
		typed.problems = append(typed.problems, problem{"email", f.Say("page.emailError")})
	}
	if _, err := consent.ParseTelephone(typed.telephone, ""); err != nil && typed.telephone != "" {
		typed.problems = append(typed.problems, problem{"telephone", f.Say("page.telephoneError")})
	}
	if !grants(form) {
		typed.problems = append(typed.problems, problem{"choices-wrong", f.Say("page.chooseError")})
	}
	typed.problems = append(typed.problems, f.unanswered(form)...)
	if !fresh {
		typed.problems = append(typed.problems, problem{"", f.Say("page.staleError")})
	}
	if len(typed.problems) > 0 {
		p.signUpPage(w, r, v, f, typed)
		return
	}
	err = p.Core.Capture(r.Context(), core.Request{}, core.Capture{
		ApplicationID: v.ApplicationID, Form: form, Email: typed.email, Telephone: typed.telephone, Locale: f.Lang, Channel: "preference-centre", Pending: true, Visitor: visitor(r),
	})
	switch {
	case consent.KindOf(err) == consent.Invalid:
		typed.problems = refusal{{"", f.Say("page.refusedError")}}
		p.signUpPage(w, r, v, f, typed)
	case err != nil:
		p.failure(w, r, f, err)
	default:
		f.Title = f.Say("page.inbox")
		p.show(w, r, http.StatusOK, "link", linkPage{frame: f, Text: f.Say("page.signUpSent", "Email", isolate(typed.email)), Sent: true, Sender: senderOf(v)})
	}
}

// isolate keeps an address from left to right within a text of the other direction.
func isolate(text string) string { return "\u2066" + text + "\u2069" }

// grants reports whether a form gives anything.
func grants(form consent.Form) bool {
	for _, b := range form.Blocks {
		if slices.ContainsFunc(b.Options, func(o consent.FormOption) bool { return o.Selected != nil && *o.Selected }) {
			return true
		}
	}
	return false
}
