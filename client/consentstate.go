package client

import (
	"context"
	"net/http"
)

// ConsentStateQuery asks for the consent state of one citizen by a template. TemplateID
// is the id or the reference of the template; RuleID shows only part of it.
type ConsentStateQuery struct {
	ApplicationID string
	CitizenID     string
	ExternalRef   string
	TemplateID    string
	RuleID        string
	Locale        string
}

// ConsentState is a template merged with what applies to a citizen, in one language. With
// other answers in it the same goes back by AnswerConsentState.
type ConsentState struct {
	ApplicationID string         `json:"applicationId,omitempty"`
	CitizenID     string         `json:"citizenId,omitempty"`
	ExternalRef   string         `json:"externalRef,omitempty"`
	TemplateID    string         `json:"templateId,omitempty"`
	RuleID        string         `json:"ruleId,omitempty"`
	Locale        string         `json:"locale,omitempty"`
	Locales       []string       `json:"locales,omitempty"`
	Direction     string         `json:"direction,omitempty"` // ltr or rtl
	Snapshot      string         `json:"snapshot,omitempty"`  // proves for a day what was shown
	PrivacyPolicy *ConsentPolicy `json:"privacyPolicy,omitempty"`
	Blocks        []ConsentBlock `json:"blocks"`
}

// ConsentPolicy is a privacy policy in the version that is shown.
type ConsentPolicy struct {
	ID        string `json:"id,omitempty"`
	Reference string `json:"reference,omitempty"`
	Name      string `json:"name,omitempty"`
	Version   string `json:"version,omitempty"`
	URL       string `json:"url,omitempty"`
}

// The types of block.
const (
	PermissionsBlock  = "permissions"
	MultiChoiceBlock  = "multi-choice-preference"
	SingleChoiceBlock = "single-choice-preference"
	TextBlock         = "text"
)

// ConsentBlock is one part of a consent state; Type says which fields it has.
type ConsentBlock struct {
	Type           string            `json:"type"`
	Heading        string            `json:"heading,omitempty"`
	Statement      *ConsentStatement `json:"statement,omitempty"`
	Options        []ConsentOption   `json:"options,omitempty"`
	Reference      string            `json:"reference,omitempty"` // of the preference
	Label          string            `json:"label,omitempty"`
	Mandatory      bool              `json:"mandatory,omitempty"`
	SelectedChoice *string           `json:"selectedChoice,omitempty"` // nil where it was never answered
	Choices        []ConsentChoice   `json:"choices,omitempty"`
	Text           string            `json:"text,omitempty"`
}

// ConsentStatement is the wording in the version that is shown.
type ConsentStatement struct {
	ID        string `json:"id,omitempty"`
	Reference string `json:"reference,omitempty"`
	Version   int64  `json:"version,omitempty"`
	Text      string `json:"text,omitempty"`
}

// ConsentOption is one option, or group, that can be answered. Selected is nil for what
// was never answered, and sending nil records nothing.
type ConsentOption struct {
	OptionID      string `json:"optionId"`
	OptionType    string `json:"optionType,omitempty"`
	Justification string `json:"justification"`
	Label         string `json:"label,omitempty"`
	Description   string `json:"description,omitempty"`
	Selected      *bool  `json:"selected"`
	State         string `json:"state,omitempty"` // empty for none
	Suppressed    bool   `json:"suppressed,omitempty"`
}

// ConsentChoice is one choice of a preference.
type ConsentChoice struct {
	Reference string `json:"reference"`
	Label     string `json:"label,omitempty"`
	Selected  bool   `json:"selected"` // of a multi-choice preference
}

// ConsentState reads the consent state of a citizen. One whom nobody knows yet reads as
// never answered.
func (c *Client) ConsentState(ctx context.Context, q ConsentStateQuery) (ConsentState, error) {
	var out ConsentState
	err := c.do(ctx, call{
		method: http.MethodGet, path: consentStatePath, out: &out,
		query: values("applicationId", q.ApplicationID, "citizenId", q.CitizenID, "externalRef", q.ExternalRef, "templateId", q.TemplateID, "ruleId", q.RuleID, "locale", q.Locale),
	})
	return out, err
}

const consentStatePath = "v1/consent-state"

// ConsentStateAnswer is a consent state that goes back with the answers of the citizen.
type ConsentStateAnswer struct {
	ConsentState
	SubmitAsPending bool `json:"submitAsPending,omitempty"` // what is granted waits to be confirmed

	Origin

	// IdempotencyKey marks repetitions of one and the same call. Where it is empty
	// the client makes one up for the repetitions of its own.
	IdempotencyKey string `json:"-"`
}

// AnsweredConsentState is what an answer recorded: one transaction for each statement
// and one submission for each preference of which something differs from the state.
type AnsweredConsentState struct {
	CitizenID    string              `json:"citizenId"`
	ExternalRef  string              `json:"externalRef"`
	Transactions []Receipt           `json:"transactions"`
	Submissions  []SubmissionOutcome `json:"submissions"`
	Warnings     []string            `json:"warnings,omitempty"`
}

// AnswerConsentState records what differs in a consent state from what applies, all or
// nothing. A citizen named by an unknown ExternalRef is created.
func (c *Client) AnswerConsentState(ctx context.Context, answer ConsentStateAnswer) (AnsweredConsentState, error) {
	var out AnsweredConsentState
	err := c.do(ctx, call{method: http.MethodPost, path: consentStatePath, in: answer, out: &out, key: idempotencyKey(answer.IdempotencyKey)})
	return out, err
}
