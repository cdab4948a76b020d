package api

import (
	"context"
	"slices"

	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/internal/core"
)

// Wording says in which language a form is wanted.
type Wording struct {
	RuleID         string `query:"ruleId" maxLength:"100" doc:"The rule set, by reference, that shows only part of the template."`
	Locale         string `query:"locale" maxLength:"100" doc:"The language that is wanted; left out, what Accept-Language says."`
	AcceptLanguage string `header:"Accept-Language"`
}

func (in *Wording) ask(q core.FormQuery) core.FormQuery {
	q.RuleSet, q.Locale, q.AcceptLanguage = in.RuleID, in.Locale, in.AcceptLanguage
	return q
}

type getConsentStateInput struct {
	ApplicationID string  `query:"applicationId" maxLength:"50" doc:"Citizens may leave it out."`
	CitizenID     idParam `query:"citizenId"`
	ExternalRef   string  `query:"externalRef" maxLength:"100"`
	TemplateID    string  `query:"templateId" required:"true" maxLength:"100" doc:"The template, by id or reference."`
	Draft         bool    `query:"draft" doc:"Show the draft of the template, which is not published; needs the scope configuration:read, too."`
	Wording
}

func (s *server) getConsentState(ctx context.Context, actor core.Actor, in *getConsentStateInput) (consent.Form, error) {
	f, err := s.Core.Form(ctx, actor, in.ask(core.FormQuery{
		ApplicationID: in.ApplicationID, TemplateID: in.TemplateID, Draft: in.Draft,
		Citizen: consent.CitizenKey{ID: consent.ID(in.CitizenID), ExternalRef: in.ExternalRef},
	}))
	return inItsLanguage(ctx, f, err)
}

type getPublicConsentStateInput struct {
	ApplicationID string `query:"applicationId" maxLength:"50" doc:"May be left out where the template is named by its id."`
	TemplateID    string `query:"templateId" required:"true" maxLength:"100" doc:"The template, by id or, within the application, by reference."`
	Wording
}

func (s *server) getPublicConsentState(ctx context.Context, _ core.Actor, in *getPublicConsentStateInput) (consent.Form, error) {
	f, err := s.Core.PublicForm(ctx, in.ask(core.FormQuery{ApplicationID: in.ApplicationID, TemplateID: in.TemplateID}), callOf(ctx).origin)
	return inItsLanguage(ctx, f, err)
}

// documentForms says which parts of a form may be null, which huma does not gather from
// pointers, and which are left out.
func (s *server) documentForms() {
	schemas := s.huma.OpenAPI().Components.Schemas.Map()
	for owner, names := range map[string][]string{"Form": {"privacyPolicy"}, "FormOption": {"party", "purpose", "channel"}} {
		for _, name := range names {
			schemas[owner].Properties[name] = orNull(schemas[owner].Properties[name])
		}
	}
	choice := schemas["FormChoice"]
	choice.Required = slices.DeleteFunc(choice.Required, func(name string) bool { return name == "selected" })
}

// inItsLanguage says of the answer in which language it is.
func inItsLanguage(ctx context.Context, f consent.Form, err error) (consent.Form, error) {
	if err == nil {
		c := callOf(ctx)
		c.header("Content-Language", f.Locale)
		c.header("Vary", "Accept-Language")
	}
	return f, err
}

// answeredForm is a consent state that comes back. What it says beyond this is ignored.
type answeredForm struct {
	ApplicationID   applicationID   `json:"applicationId,omitempty"`
	CitizenID       consent.ID      `json:"citizenId,omitempty"`
	ExternalRef     string          `json:"externalRef,omitempty" minLength:"1" maxLength:"100"`
	TemplateID      string          `json:"templateId,omitempty" maxLength:"100"`
	Locale          string          `json:"locale,omitempty" maxLength:"100"`
	Snapshot        string          `json:"snapshot,omitempty" maxLength:"50000"`
	RuleID          string          `json:"ruleId,omitempty" maxLength:"100"`
	SubmitAsPending bool            `json:"submitAsPending,omitempty"`
	PrivacyPolicy   *namedDocument  `json:"privacyPolicy,omitempty"`
	Blocks          []answeredBlock `json:"blocks" maxItems:"200"`
	Origin
}

type namedDocument struct {
	ID        string `json:"id,omitempty" maxLength:"100"`
	Reference string `json:"reference,omitempty" maxLength:"100"`
}

type answeredBlock struct {
	Type           string           `json:"type"`
	Statement      *namedDocument   `json:"statement,omitempty"`
	Options        []answeredOption `json:"options,omitempty" maxItems:"200"`
	Reference      string           `json:"reference,omitempty" maxLength:"100"`
	Mandatory      bool             `json:"mandatory,omitempty"`
	SelectedChoice optional[string] `json:"selectedChoice,omitzero" maxLength:"100"`
	Choices        []answeredChoice `json:"choices,omitempty" maxItems:"200"`
}

type answeredOption struct {
	OptionType    consent.OptionType    `json:"optionType,omitempty" minLength:"1" maxLength:"20" default:"option"`
	OptionID      string                `json:"optionId" minLength:"1" maxLength:"100"`
	Justification consent.Justification `json:"justification"`
	Selected      *bool                 `json:"selected,omitempty"`
}

type answeredChoice struct {
	Reference string `json:"reference" minLength:"1" maxLength:"100"`
	Selected  bool   `json:"selected,omitempty"`
}

func (v answeredForm) form() consent.Form {
	f := consent.Form{
		ApplicationID: string(v.ApplicationID), TemplateID: v.TemplateID, Locale: v.Locale, Snapshot: v.Snapshot, RuleSet: v.RuleID,
		Blocks: make([]consent.FormBlock, len(v.Blocks)),
	}
	if p := v.PrivacyPolicy; p != nil {
		f.PrivacyPolicy = &consent.FormPolicy{ID: p.ID, Reference: p.Reference}
	}
	for i, b := range v.Blocks {
		f.Blocks[i] = b.block()
	}
	return f
}

func (b answeredBlock) block() consent.FormBlock {
	out := consent.FormBlock{Type: b.Type, Reference: b.Reference, Mandatory: b.Mandatory, NullChoice: b.SelectedChoice.null}
	if b.SelectedChoice.given && !b.SelectedChoice.null {
		out.SelectedChoice = &b.SelectedChoice.value
	}
	if d := b.Statement; d != nil {
		out.Statement = &consent.FormStatement{ID: d.ID, Reference: d.Reference}
	}
	for _, o := range b.Options {
		out.Options = append(out.Options, consent.FormOption{OptionType: o.OptionType, OptionID: o.OptionID, Justification: o.Justification, Selected: o.Selected})
	}
	for _, c := range b.Choices {
		out.Choices = append(out.Choices, consent.FormChoice{Reference: c.Reference, Selected: c.Selected})
	}
	return out
}

// recordedForm is the answer to a consent state that came back.
type recordedForm struct {
	CitizenID    consent.ID            `json:"citizenId"`
	ExternalRef  consent.Text          `json:"externalRef"`
	Transactions []RecordedTransaction `json:"transactions" doc:"What was recorded of permissions, one transaction for each statement; empty where nothing differs."`
	Submissions  []recordedSubmission  `json:"submissions"`
	Warnings     []string              `json:"warnings,omitempty"`
}

type putConsentStateInput struct{ body[answeredForm] }

func (s *server) putConsentState(ctx context.Context, actor core.Actor, in *putConsentStateInput) (recordedForm, error) {
	v, request := in.read()
	done, err := s.Core.Answer(ctx, actor, request, core.FormAnswer{
		Form: v.form(), Citizen: consent.CitizenKey{ID: v.CitizenID, ExternalRef: v.ExternalRef}, Origin: v.origin(), Pending: v.SubmitAsPending,
	})
	out := recordedForm{done.CitizenID, consent.Text(done.ExternalRef), make([]RecordedTransaction, len(done.Transactions)), []recordedSubmission{}, done.Warnings}
	for i, t := range done.Transactions {
		out.Transactions[i] = recordedWith(core.Recorded{Recorded: t})
	}
	if done.Submitted != nil {
		out.Submissions = submissionsOf(*done.Submitted)
	}
	return out, err
}
