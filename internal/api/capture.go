package api

import (
	"context"

	"github.com/danielgtaylor/huma/v2"

	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/internal/core"
	"github.com/opencpm/opencpm/internal/store"
)

// capture is what somebody answers without a token: changes and preferences, or a form.
type capture struct {
	ApplicationID   applicationID   `json:"applicationId,omitempty"`
	TemplateID      string          `json:"templateId,omitempty" maxLength:"100"`
	UniqueReference string          `json:"uniqueReference,omitempty" maxLength:"100"`
	EmailAddress    string          `json:"emailAddress,omitempty" maxLength:"254" doc:"The address whose owner is asked to confirm what is answered."`
	Telephone       string          `json:"telephone,omitempty" maxLength:"100" doc:"A telephone number with its country, such as +44 20 7946 0018. With an emailAddress it is kept when the rest is confirmed. It never takes the place of one that is known."`
	Changes         newChanges      `json:"changes,omitempty"`
	Preferences     newAnswers      `json:"preferences,omitempty" maxItems:"200"`
	PrivacyPolicy   *namedDocument  `json:"privacyPolicy,omitempty"`
	Blocks          []answeredBlock `json:"blocks,omitempty" maxItems:"200"`
	Snapshot        string          `json:"snapshot,omitempty" maxLength:"50000"`
	RuleID          string          `json:"ruleId,omitempty" maxLength:"100"`
	Locale          string          `json:"locale,omitempty" maxLength:"100"`
	SubmitAsPending bool            `json:"submitAsPending,omitempty"`

	PrivacyPolicyID        string `json:"privacyPolicyId,omitempty" maxLength:"100"`
	PrivacyPolicyRef       string `json:"privacyPolicyRef,omitempty" maxLength:"100"`
	PermissionStatementID  string `json:"permissionStatementId,omitempty" maxLength:"100"`
	PermissionStatementRef string `json:"permissionStatementRef,omitempty" maxLength:"100"`
	Channel                string `json:"channel,omitempty" maxLength:"200"`
	Campaign               string `json:"campaign,omitempty" maxLength:"200"`
}

// taken is the answer to a capture, whoever is known.
type taken struct {
	Status string `json:"status" enum:"received" doc:"It was received. Whether the person is known is not told."`
}

type captureInput struct {
	body[capture]
	visitor core.Visitor
}

// Resolve reads the body, and who sends it.
func (in *captureInput) Resolve(hc huma.Context) []error {
	in.visitor = visitorOf(hc)
	return in.body.Resolve(hc)
}

func (s *server) capture(ctx context.Context, _ core.Actor, in *captureInput) (taken, error) {
	v, request := in.read()
	c := core.Capture{
		ApplicationID: string(v.ApplicationID), Email: v.EmailAddress, Telephone: v.Telephone, Reference: v.UniqueReference, Locale: v.Locale, Channel: v.Channel, Campaign: v.Campaign,
		Changes: v.Changes.core(), Answers: v.Preferences.core(), Origin: callOf(ctx).origin, Pending: v.SubmitAsPending, Visitor: in.visitor,
		Shown: core.Origin{
			PrivacyPolicyID: v.PrivacyPolicyID, PrivacyPolicyRef: v.PrivacyPolicyRef, PermissionStatementID: v.PermissionStatementID, PermissionStatementRef: v.PermissionStatementRef,
		},
	}
	c.Form = consent.Form{TemplateID: v.TemplateID}
	if v.Blocks != nil {
		c.Form = answeredForm{TemplateID: v.TemplateID, Locale: v.Locale, Snapshot: v.Snapshot, RuleID: v.RuleID, PrivacyPolicy: v.PrivacyPolicy, Blocks: v.Blocks}.form()
	}
	err := s.Core.Capture(ctx, request, c)
	return taken{"received"}, err
}

type listCapturesInput struct {
	ApplicationID string `query:"applicationId" required:"true" maxLength:"50"`
	Paging
}

// captureList is what waits to be accepted.
type captureList struct {
	Captures []parkedCapture `json:"captures" doc:"The oldest first."`
	Page
}

// parkedCapture is what somebody answered, without a token, for a citizen who is known.
type parkedCapture struct {
	ID          consent.ID        `json:"id" doc:"The capture."`
	CitizenID   consent.ID        `json:"citizenId"`
	ExternalRef consent.Text      `json:"externalRef"`
	CapturedAt  consent.Timestamp `json:"capturedAt" doc:"When it was answered."`
	ForgottenAt consent.Timestamp `json:"forgottenAt" doc:"When it is forgotten, unless it is accepted or rejected before."`
	Channel     consent.Text      `json:"channel"`
	Campaign    consent.Text      `json:"campaign"`
	Changes     []Change          `json:"changes"`
	Preferences []capturedAnswer  `json:"preferences" doc:"What was chosen of preferences."`
	Telephone   consent.Text      `json:"telephone" doc:"The number that was named; it becomes the citizen's where they have none."`
}

type capturedAnswer struct {
	Preference string   `json:"preference"`
	Choices    []string `json:"choices" doc:"The choices, by reference."`
}

func (s *server) listCaptures(ctx context.Context, actor core.Actor, in *listCapturesInput) (captureList, error) {
	var after int64
	if err := in.place("captures", &after); err != nil {
		return captureList{}, err
	}
	found, total, err := s.Core.Captures(ctx, actor, in.ApplicationID, after, in.Limit, in.Offset)
	if err != nil {
		return captureList{}, err
	}
	out := captureList{make([]parkedCapture, len(found)), in.page("captures", len(found), total, func() []any { return []any{found[len(found)-1].Number} })}
	for i, p := range found {
		out.Captures[i] = parkedOf(p)
	}
	return out, nil
}

func parkedOf(p store.ParkedCapture) parkedCapture {
	out := parkedCapture{
		ID: p.ID, CitizenID: p.CitizenID, ExternalRef: consent.Text(p.ExternalRef), CapturedAt: consent.Timestamp(p.CreatedAt), ForgottenAt: consent.Timestamp(p.ForgottenAt()),
		Changes: []Change{}, Preferences: []capturedAnswer{}, Telephone: consent.Text(p.Telephone),
	}
	for _, t := range p.Transactions {
		out.Channel, out.Campaign = consent.Text(t.Channel), consent.Text(t.Campaign)
		for _, c := range t.Changes {
			out.Changes = append(out.Changes, changeOf(c))
		}
	}
	for _, v := range p.Submissions {
		out.Channel, out.Campaign = consent.Text(v.Channel), consent.Text(v.Campaign)
		answer := capturedAnswer{Preference: v.Answer.Preference, Choices: []string{}}
		for _, c := range v.Answer.Choices {
			answer.Choices = append(answer.Choices, c.Reference)
		}
		out.Preferences = append(out.Preferences, answer)
	}
	return out
}

type captureDecisionInput struct {
	Capture idParam `path:"id"`
}

func (s *server) acceptCapture(ctx context.Context, actor core.Actor, in *captureDecisionInput) (nothing, error) {
	return nothing{}, s.Core.AcceptCapture(ctx, actor, consent.ID(in.Capture))
}

func (s *server) rejectCapture(ctx context.Context, actor core.Actor, in *captureDecisionInput) (nothing, error) {
	return nothing{}, s.Core.RejectCapture(ctx, actor, consent.ID(in.Capture))
}

type listEmailsInput struct {
	CitizenPath
	Limit  int `query:"limit" minimum:"1" maximum:"100" default:"20"`
	Offset int `query:"offset" minimum:"0" default:"0"`
}

// mailList is the mails to a citizen.
type mailList struct {
	Emails []sentMail `json:"emails" doc:"The newest first."`
	Total  int64      `json:"total" doc:"How many there are in all."`
}

// sentMail is what is known of a mail, without what it said.
type sentMail struct {
	ID        consent.ID         `json:"id" doc:"The mail; its eventId where a subscription gets it, and the front of its Message-ID where a mail server does."`
	Kind      consent.EmailKind  `json:"kind" enum:"double-opt-in,preference-link" doc:"What it is for."`
	Way       string             `json:"way" enum:"smtp,webhook" doc:"Whether a mail server got it, or a citizen-emails subscription."`
	State     consent.EmailState `json:"state" enum:"waiting,sent,refused,expired,discarded,erased" doc:"What has become of it."`
	CreatedAt consent.Timestamp  `json:"createdAt"`
	ExpiresAt consent.Timestamp  `json:"expiresAt" doc:"When the link, or the code, in it ends. It is not sent after that."`
	EndedAt   consent.Timestamp  `json:"endedAt" doc:"When it was taken by the mail server or the subscription, or ended otherwise; null while it waits."`
	Attempts  int                `json:"attempts" doc:"How often the mail server could not be given it. Those of a subscription are in its deliveries."`
	Reason    consent.Text       `json:"reason" doc:"Why the last attempt failed."`
}

func emailOf(m store.Mail) sentMail {
	way := "smtp"
	if m.Webhook {
		way = "webhook"
	}
	return sentMail{
		m.ID, m.Kind, way, m.State, consent.Timestamp(m.CreatedAt), consent.Timestamp(m.ExpiresAt), consent.Timestamp(m.EndedAt), m.Attempts, consent.Text(m.Reason),
	}
}

func (s *server) listEmails(ctx context.Context, actor core.Actor, in *listEmailsInput) (mailList, error) {
	list, total, err := s.Core.Mails(ctx, actor, consent.ID(in.CitizenID), in.Limit, in.Offset)
	out := mailList{make([]sentMail, len(list)), total}
	for i, m := range list {
		out.Emails[i] = emailOf(m)
	}
	return out, err
}
