package consent

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/sosodev/duration"
)

// Catalogue is the set-up of one application as one document, the form in which
// it is imported, exported and exchanged with /v1/configuration. What it holds is
// named by id or reference, unique within its list.
type Catalogue struct {
	Application          ApplicationSettings   `json:"application"`
	Parties              []Party               `json:"parties,omitempty"`
	Purposes             []Purpose             `json:"purposes,omitempty"`
	Channels             []Channel             `json:"channels,omitempty"`
	Options              []Option              `json:"options,omitempty"`
	OptionGroups         []OptionGroupItem     `json:"optionGroups,omitempty"`
	Preferences          []Preference          `json:"preferences,omitempty"`
	PrivacyPolicies      []PrivacyPolicy       `json:"privacyPolicies,omitempty"`
	PermissionStatements []PermissionStatement `json:"permissionStatements,omitempty"`
	Templates            []Template            `json:"templates,omitempty"`
	RuleSets             []RuleSet             `json:"ruleSets,omitempty"`
	PreferenceCentres    []PreferenceCentre    `json:"preferenceCentres,omitempty"`
	Emails               []EmailText           `json:"emails,omitempty"`
}

// ApplicationSettings are the settings of the application as a whole.
type ApplicationSettings struct {
	Name          string   `json:"name"`
	DefaultLocale string   `json:"defaultLocale,omitempty"`
	Locales       []string `json:"locales,omitempty"`
	// ReviewObjections lets objections to purposes that are not direct marketing
	// wait for a decision by hand instead of being upheld at once (rule 7).
	ReviewObjections bool `json:"reviewObjections,omitempty"`
	// AllowedOrigins are the web origins, such as https://shop.example, whose pages may
	// use the widgets. Without any, every page may that has a citizen token.
	AllowedOrigins []string `json:"allowedOrigins,omitempty"`
	// UnauthenticatedCapture lets sign-up widgets and pages record without a token, from
	// AllowedOrigins and our own pages alone.
	UnauthenticatedCapture bool `json:"unauthenticatedCapture,omitempty"`
	// Sender is who mails to citizens are from. Without it none are sent by us.
	Sender *Sender `json:"sender,omitempty"`
	// ConfirmWithin, an ISO 8601 duration, is how long the link of a double opt-in holds;
	// empty means two days.
	ConfirmWithin string `json:"confirmWithin,omitempty"`
	// ManageURL is the citizens' page that links with a token lead to, with {token} where
	// the token goes; empty means the first preference centre that shows and changes.
	ManageURL string `json:"manageUrl,omitempty"`
	// TokenRegeneration renews the tokens of all citizens by itself.
	TokenRegeneration *TokenRegeneration `json:"tokenRegeneration,omitempty"`
}

// LinkEnd gives when the link of a double opt-in ends that is sent at an instant.
func (a *ApplicationSettings) LinkEnd(sent Instant) Instant {
	if d, err := parsePeriod(a.ConfirmWithin); err == nil {
		return after(sent, d)
	}
	return sent.Add(48 * time.Hour)
}

// Sender is who a mail says it is from.
type Sender struct {
	Name    string `json:"name"`
	Address string `json:"address"`
	ReplyTo string `json:"replyTo,omitempty"`
}

// TokenRegeneration is a schedule by which every citizen gets a new token before the
// one they have expires. Both are ISO 8601 durations, and ValidFor is the longer one.
type TokenRegeneration struct {
	Every    string `json:"every"`
	ValidFor string `json:"validFor"`
}

// Party is who processes.
type Party struct {
	ID   string `json:"id"`
	Name string `json:"name"`
}

// Purpose is why. An objection to direct marketing is absolute (GDPR art. 21(3)).
type Purpose struct {
	ID              string    `json:"id"`
	Name            string    `json:"name"`
	Label           Localised `json:"label,omitempty"` // the name that citizens read; without it Name
	DirectMarketing bool      `json:"directMarketing,omitempty"`
}

// Channel is the medium.
type Channel struct {
	ID    string    `json:"id"`
	Name  string    `json:"name"`
	Label Localised `json:"label,omitempty"` // the name that citizens read; without it Name
	// Contact is the kind of address at which citizens are reached by it; empty for another
	// kind.
	Contact ContactKind `json:"contact,omitempty"`
}

// Option is one party, purpose and channel that can be permitted.
type Option struct {
	ID             string         `json:"id"`
	Name           string         `json:"name,omitempty"`
	Party          string         `json:"party"`
	Purpose        string         `json:"purpose"`
	Channel        string         `json:"channel"`
	Justifications []AllowedBasis `json:"justifications"`
}

// AllowedBasis is a lawful basis that an option accepts, and for how long an
// answer on it holds where the answer does not say: an ISO 8601 duration such as
// P2Y, empty for without end.
type AllowedBasis struct {
	Basis    Justification `json:"basis"`
	ValidFor string        `json:"validFor,omitempty"`
}

// Basis gives what the option says of a lawful basis, and false where it does not
// accept it.
func (o *Option) Basis(j Justification) (AllowedBasis, bool) {
	i := slices.IndexFunc(o.Justifications, func(a AllowedBasis) bool { return a.Basis == j })
	if i < 0 {
		return AllowedBasis{}, false
	}
	return o.Justifications[i], true
}

// OptionGroupItem is a number of options addressed as one.
type OptionGroupItem struct {
	ID      string   `json:"id"`
	Name    string   `json:"name"`
	Options []string `json:"options"`
}

// Preference is a choice without legal meaning.
type Preference struct {
	Reference string    `json:"reference"`
	Kind      string    `json:"kind"` // single-choice or multi-choice
	Label     Localised `json:"label"`
	Choices   []Choice  `json:"choices"`
}

// The kinds of preference, as published.
const (
	SingleChoice = "single-choice"
	MultiChoice  = "multi-choice"
)

// Choice is one answer to a Preference.
type Choice struct {
	Reference string    `json:"reference"`
	Label     Localised `json:"label"`
}

// PrivacyPolicy is a versioned document; the last version is the one in force.
type PrivacyPolicy struct {
	Reference string          `json:"reference"`
	Name      string          `json:"name"`
	Label     Localised       `json:"label,omitempty"` // the name that citizens read; without it Name
	Versions  []PolicyVersion `json:"versions"`
}

// PolicyVersion is one version of a privacy policy and where it can be read.
type PolicyVersion struct {
	Version string `json:"version"`
	URL     string `json:"url"`
}

// PermissionStatement is the wording shown to the citizen. Every edit becomes a
// new version, so that a transaction proves the exact words.
type PermissionStatement struct {
	Reference string    `json:"reference"`
	Text      Localised `json:"text"`
}

// Template is an ordered list of blocks bound to a privacy policy.
type Template struct {
	Reference     string  `json:"reference"`
	Name          string  `json:"name"`
	PrivacyPolicy string  `json:"privacyPolicy,omitempty"`
	Blocks        []Block `json:"blocks,omitempty"`
}

// Block is one part of a template; Type says which fields apply.
type Block struct {
	Type       string        `json:"type"` // permissions, multi-choice-preference, single-choice-preference or text
	Heading    Localised     `json:"heading,omitempty"`
	Statement  string        `json:"statement,omitempty"`
	Options    []BlockOption `json:"options,omitempty"`
	Preference string        `json:"preference,omitempty"`
	Text       Localised     `json:"text,omitempty"`
}

// BlockOption offers one option, or one group, under one lawful basis.
type BlockOption struct {
	Option        string        `json:"option,omitempty"`
	OptionGroup   string        `json:"optionGroup,omitempty"`
	Justification Justification `json:"justification"`
	Label         Localised     `json:"label,omitempty"`
	Description   Localised     `json:"description,omitempty"`
	// Card is what is said when the answer is switched on, or off; both or neither.
	Card *ValueCard `json:"card,omitempty"`
}

// ValueCard is what an answer means for the citizen, said when they give it.
type ValueCard struct {
	On  Localised `json:"on"`
	Off Localised `json:"off"`
}

// RuleSet are conditions under which a widget shows only part of a template.
type RuleSet struct {
	Reference string `json:"reference"`
	Name      string `json:"name"`
	// ExpiresWithin, an ISO 8601 duration, keeps an answered option in sight while its
	// answer ends within that time.
	ExpiresWithin string   `json:"expiresWithin,omitempty"`
	MaxOptions    *int     `json:"maxOptions,omitempty"` // shown at once; nil for all
	HideStates    []State  `json:"hideStates,omitempty"` // options in these states are left out
	Channels      []string `json:"channels,omitempty"`   // that are offered; empty for all
	// MandatoryPreferences must be answered.
	MandatoryPreferences []string `json:"mandatoryPreferences,omitempty"`
}

// NoState stands in a rule set for the state of an option that was never answered.
const NoState State = "NONE"

// Localised is a text by locale. A document may give a bare string: the text in
// the default locale, kept under the empty key.
type Localised map[string]string

// UnmarshalJSON reads a string or an object of strings by locale.
func (l *Localised) UnmarshalJSON(b []byte) error {
	var s string
	if json.Unmarshal(b, &s) == nil {
		*l = Localised{"": s}
		return nil
	}
	var m map[string]string
	if err := json.Unmarshal(b, &m); err != nil {
		return fmt.Errorf("must be a text, or texts by locale")
	}
	*l = m
	return nil
}

// MarshalJSON writes what UnmarshalJSON reads.
func (l Localised) MarshalJSON() ([]byte, error) {
	if s, ok := l[""]; ok && len(l) == 1 {
		return json.Marshal(s)
	}
	return json.Marshal(map[string]string(l))
}

// CatalogueJSON gives the JSON of a document that is YAML or JSON.
func CatalogueJSON(doc []byte) ([]byte, error) {
	asJSON, err := yaml.YAMLToJSON(doc)
	if err != nil {
		return nil, &Error{Kind: Malformed, Message: "The catalogue is neither YAML nor JSON: " + yamlReason(err)}
	}
	return asJSON, nil
}

// ParseCatalogue reads the document, YAML or JSON, and checks that it has no
// unknown keys; it stops at the first fault. Whether its content holds together is
// Check's to say.
func ParseCatalogue(doc []byte) (Catalogue, error) {
	asJSON, err := CatalogueJSON(doc)
	if err != nil {
		return Catalogue{}, err
	}
	var c Catalogue
	d := json.NewDecoder(strings.NewReader(string(asJSON)))
	d.DisallowUnknownFields()
	if err := d.Decode(&c); err != nil {
		return Catalogue{}, &Error{Kind: Malformed, Message: "The catalogue cannot be read: " + strings.TrimPrefix(err.Error(), "json: ")}
	}
	return c, nil
}

func yamlReason(err error) string {
	first, _, _ := strings.Cut(err.Error(), "\n")
	return first
}

// YAML writes the document.
func (c Catalogue) YAML() ([]byte, error) {
	asJSON, err := json.Marshal(c)
	if err != nil {
		return nil, err
	}
	return yaml.JSONToYAML(asJSON)
}

// period gives the default validity, nil where there is none.
func (a AllowedBasis) period() (*duration.Duration, error) {
	if a.ValidFor == "" {
		return nil, nil
	}
	return parsePeriod(a.ValidFor)
}

// parsePeriod reads an ISO 8601 duration that is longer than nothing.
func parsePeriod(text string) (*duration.Duration, error) {
	d, err := duration.Parse(text)
	if err != nil || d.Negative || d.ToTimeDuration() <= 0 {
		return nil, fmt.Errorf("must be an ISO 8601 duration such as P2Y or P18M")
	}
	return d, nil
}

// until gives the end of the default validity for an answer that starts at from:
// whole calendar years, months and days, so that P1Y ends on the same date. Zero
// means without end.
func (a AllowedBasis) until(from Instant) Instant {
	d, err := a.period()
	if err != nil || d == nil {
		return 0
	}
	return after(from, d)
}

// after gives the end of a period: whole calendar years, months and days, then the rest.
func after(from Instant, d *duration.Duration) Instant {
	t := from.Time().AddDate(int(d.Years), int(d.Months), int(d.Days)+7*int(d.Weeks))
	rest := duration.Duration{Hours: d.Hours, Minutes: d.Minutes, Seconds: d.Seconds}
	return min(At(t.Add(rest.ToTimeDuration())), maxInstant)
}

// before gives the instant at which a period began that ends at another.
func before(until Instant, d *duration.Duration) Instant {
	back := *d
	back.Years, back.Months, back.Weeks, back.Days, back.Hours, back.Minutes, back.Seconds = -d.Years, -d.Months, -d.Weeks, -d.Days, -d.Hours, -d.Minutes, -d.Seconds
	return after(until, &back)
}
