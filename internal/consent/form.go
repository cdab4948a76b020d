package consent

import (
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Form is a template merged with what applies to a citizen, in one language: the
// published consent state. The same structure comes back with the answers; then labels,
// texts and states in it are ignored.
type Form struct {
	ApplicationID string      `json:"applicationId"`
	CitizenID     Text        `json:"citizenId"` // null for nobody that is known
	ExternalRef   Text        `json:"externalRef"`
	TemplateID    string      `json:"templateId"`
	Locale        string      `json:"locale"`    // of the texts
	Locales       []string    `json:"locales"`   // that the template has
	Direction     string      `json:"direction"` // ltr or rtl
	RuleSet       string      `json:"ruleId,omitzero"`
	Snapshot      string      `json:"snapshot"` // signed: what is shown here
	PrivacyPolicy *FormPolicy `json:"privacyPolicy"`
	Blocks        []FormBlock `json:"blocks"`
}

// FormPolicy is the privacy policy in the version that is shown.
type FormPolicy struct {
	ID        string `json:"id"`
	Reference string `json:"reference"`
	Name      string `json:"name"`
	Version   string `json:"version"`
	URL       string `json:"url"`
}

// FormBlock is one part of a form. Type says which fields are there: statement and
// options for permissions; reference, label and choices for a preference; text for text.
// One of a single choice has selectedChoice, null where it was never answered, and its
// choices do not say whether they are selected: what is said once cannot be changed by half.
type FormBlock struct {
	Type           string         `json:"type"`
	Heading        string         `json:"heading,omitzero"`
	Statement      *FormStatement `json:"statement,omitzero"`
	Options        []FormOption   `json:"options,omitzero"`
	Reference      string         `json:"reference,omitzero"`
	Label          string         `json:"label,omitzero"`
	Mandatory      bool           `json:"mandatory,omitzero"` // must be answered
	SelectedChoice *string        `json:"selectedChoice,omitzero"`
	NullChoice     bool           `json:"-"` // of one that came back: selectedChoice is null, not left out
	Choices        []FormChoice   `json:"choices,omitzero"`
	Text           string         `json:"text,omitzero"`
	Content        []RichText     `json:"content,omitzero"` // the text as a tree
}

// MarshalJSON writes the block.
func (b FormBlock) MarshalJSON() ([]byte, error) { return json.Marshal(b) }

// MarshalJSONTo writes the block.
func (b FormBlock) MarshalJSONTo(e *jsontext.Encoder) error {
	type plain FormBlock
	if b.Type != SingleChoiceBlock {
		return json.MarshalEncode(e, plain(b))
	}
	type choice struct {
		Reference string `json:"reference"`
		Label     string `json:"label"`
	}
	out := struct {
		plain
		SelectedChoice *string  `json:"selectedChoice"`
		Choices        []choice `json:"choices,omitzero"`
	}{plain(b), b.SelectedChoice, nil}
	for _, c := range b.Choices {
		out.Choices = append(out.Choices, choice{c.Reference, c.Label})
	}
	return json.MarshalEncode(e, out)
}

// FormStatement is the wording in the version that is shown.
type FormStatement struct {
	ID        string     `json:"id"`
	Reference string     `json:"reference"`
	Version   int64      `json:"version"`
	Text      string     `json:"text"`
	Content   []RichText `json:"content"`
}

// FormOption is one option, or group. Selected is null for what was never answered on
// this lawful basis and for what cannot be, and answering null records nothing.
type FormOption struct {
	OptionID      string        `json:"optionId"`
	OptionType    OptionType    `json:"optionType"`
	Justification Justification `json:"justification"`
	Label         string        `json:"label"`
	Description   string        `json:"description,omitzero"`
	Card          *FormCard     `json:"card,omitzero"`
	Selected      *bool         `json:"selected"`
	State         *State        `json:"state"`
	ValidUntil    Timestamp     `json:"validUntil"`
	// What the option is about; null for a group.
	Party   *FormName `json:"party"`
	Purpose *FormName `json:"purpose"`
	Channel *FormName `json:"channel"`
	// DirectMarketing says that stopping all marketing includes it.
	DirectMarketing bool `json:"directMarketing"`
	// Suppressed says that the address is on the do-not-contact list of the channel.
	Suppressed bool `json:"suppressed,omitzero"`
}

// FormName is something of the catalogue by its id and its name.
type FormName struct {
	ID   string `json:"id"`
	Name string `json:"name"`
}

// FormCard is what an answer means, said when it is given.
type FormCard struct {
	On  string `json:"on"`
	Off string `json:"off"`
}

// FormChoice is one choice of a preference. Selected is that of a multiple choice.
type FormChoice struct {
	Reference string `json:"reference"`
	Label     string `json:"label"`
	Selected  bool   `json:"selected"`
}

// RichText is one node of a text: a paragraph or a list with children, an item of a
// list, strong or a link with children, or plain text.
type RichText struct {
	Type     string     `json:"type"` // paragraph, list, item, strong, link, text
	Text     string     `json:"text,omitzero"`
	Href     string     `json:"href,omitzero"`
	Start    int        `json:"start,omitzero"` // the number of the first item, in a list that is numbered
	Children []RichText `json:"children,omitzero"`
}
