package consent

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/sosodev/duration"
	"golang.org/x/text/language"
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
}

// ApplicationSettings are the settings of the application as a whole.
type ApplicationSettings struct {
	Name          string   `json:"name"`
	DefaultLocale string   `json:"defaultLocale,omitempty"`
	Locales       []string `json:"locales,omitempty"`
	// ReviewObjections lets objections to purposes that are not direct marketing
	// wait for a decision by hand instead of being upheld at once (rule 7).
	ReviewObjections bool `json:"reviewObjections,omitempty"`
}

// Party is who processes.
type Party struct {
	ID   string `json:"id"`
	Name string `json:"name"`
}

// Purpose is why. An objection to direct marketing is absolute (GDPR art. 21(3)).
type Purpose struct {
	ID              string `json:"id"`
	Name            string `json:"name"`
	DirectMarketing bool   `json:"directMarketing,omitempty"`
}

// Channel is the medium.
type Channel struct {
	ID   string `json:"id"`
	Name string `json:"name"`
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
	Blocks        []Block `json:"blocks"`
}

// Block is one part of a template; Type says which fields apply.
type Block struct {
	Type       string        `json:"type"` // permissions, multi-choice-preference, single-choice-preference or text
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
}

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

// ParseCatalogue reads the document, YAML or JSON, and checks that it has no
// unknown keys. Whether its content holds together is Check's to say.
func ParseCatalogue(doc []byte) (Catalogue, error) {
	asJSON, err := yaml.YAMLToJSON(doc)
	if err != nil {
		return Catalogue{}, &Error{Kind: Malformed, Message: "The catalogue is neither YAML nor JSON: " + yamlReason(err)}
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

// Item kinds, the names under which the parts of a catalogue are kept.
const (
	KindApplication = "application"
	KindParty       = "party"
	KindPurpose     = "purpose"
	KindChannel     = "channel"
	KindOption      = "option"
	KindOptionGroup = "option-group"
	KindPreference  = "preference"
	KindPolicy      = "privacy-policy"
	KindStatement   = "permission-statement"
	KindTemplate    = "template"
)

// Item is one part of a catalogue on its own: what is versioned.
type Item struct {
	Kind string
	Key  string // id or reference, unique within application and kind
	Body json.RawMessage
}

// Items takes the catalogue apart, in the order of the document.
func (c Catalogue) Items() ([]Item, error) {
	var items []Item
	var failed error
	add := func(kind, key string, v any) {
		b, err := json.Marshal(v)
		if err != nil {
			failed = err
		}
		items = append(items, Item{kind, key, b})
	}
	add(KindApplication, "", c.Application)
	for _, v := range c.Parties {
		add(KindParty, v.ID, v)
	}
	for _, v := range c.Purposes {
		add(KindPurpose, v.ID, v)
	}
	for _, v := range c.Channels {
		add(KindChannel, v.ID, v)
	}
	for _, v := range c.Options {
		add(KindOption, v.ID, v)
	}
	for _, v := range c.OptionGroups {
		add(KindOptionGroup, v.ID, v)
	}
	for _, v := range c.Preferences {
		add(KindPreference, v.Reference, v)
	}
	for _, v := range c.PrivacyPolicies {
		add(KindPolicy, v.Reference, v)
	}
	for _, v := range c.PermissionStatements {
		add(KindStatement, v.Reference, v)
	}
	for _, v := range c.Templates {
		add(KindTemplate, v.Reference, v)
	}
	return items, failed
}

// Assemble puts a catalogue together from its parts, keeping their order.
func Assemble(items []Item) (Catalogue, error) {
	var c Catalogue
	for _, it := range items {
		var err error
		switch it.Kind {
		case KindApplication:
			err = json.Unmarshal(it.Body, &c.Application)
		case KindParty:
			err = appendFrom(&c.Parties, it.Body)
		case KindPurpose:
			err = appendFrom(&c.Purposes, it.Body)
		case KindChannel:
			err = appendFrom(&c.Channels, it.Body)
		case KindOption:
			err = appendFrom(&c.Options, it.Body)
		case KindOptionGroup:
			err = appendFrom(&c.OptionGroups, it.Body)
		case KindPreference:
			err = appendFrom(&c.Preferences, it.Body)
		case KindPolicy:
			err = appendFrom(&c.PrivacyPolicies, it.Body)
		case KindStatement:
			err = appendFrom(&c.PermissionStatements, it.Body)
		case KindTemplate:
			err = appendFrom(&c.Templates, it.Body)
		default:
			err = fmt.Errorf("unknown kind")
		}
		if err != nil {
			return c, fmt.Errorf("catalogue item %s %q: %w", it.Kind, it.Key, err)
		}
	}
	return c, nil
}

func appendFrom[T any](list *[]T, body json.RawMessage) error {
	var v T
	err := json.Unmarshal(body, &v)
	*list = append(*list, v)
	return err
}

// Check says everything that is wrong with the catalogue at once, nil when it
// holds together: keys are unique, whatever is named exists, every lawful basis
// and duration is one.
func (c Catalogue) Check() error {
	var f Faults
	if c.Application.Name == "" {
		f.Add("application.name", "must be given")
	}
	for i, l := range c.Application.Locales {
		checkLocale(&f, fmt.Sprintf("application.locales[%d]", i), l)
	}
	if d := c.Application.DefaultLocale; d != "" {
		checkLocale(&f, "application.defaultLocale", d)
		if len(c.Application.Locales) > 0 && !slices.Contains(c.Application.Locales, d) {
			f.Add("application.defaultLocale", "must be one of application.locales")
		}
	}
	parties := keys(&f, "parties", "id", c.Parties, func(v Party) string { return v.ID })
	purposes := keys(&f, "purposes", "id", c.Purposes, func(v Purpose) string { return v.ID })
	channels := keys(&f, "channels", "id", c.Channels, func(v Channel) string { return v.ID })
	options := keys(&f, "options", "id", c.Options, func(v Option) string { return v.ID })
	groups := keys(&f, "optionGroups", "id", c.OptionGroups, func(v OptionGroupItem) string { return v.ID })
	preferences := keys(&f, "preferences", "reference", c.Preferences, func(v Preference) string { return v.Reference })
	policies := keys(&f, "privacyPolicies", "reference", c.PrivacyPolicies, func(v PrivacyPolicy) string { return v.Reference })
	statements := keys(&f, "permissionStatements", "reference", c.PermissionStatements, func(v PermissionStatement) string { return v.Reference })
	keys(&f, "templates", "reference", c.Templates, func(v Template) string { return v.Reference })

	for i, o := range c.Options {
		at := fmt.Sprintf("options[%d]", i)
		known(&f, at+".party", parties, o.Party, "party")
		known(&f, at+".purpose", purposes, o.Purpose, "purpose")
		known(&f, at+".channel", channels, o.Channel, "channel")
		if len(o.Justifications) == 0 {
			f.Add(at+".justifications", "must name at least one lawful basis")
		}
		seen := map[Justification]bool{}
		for k, j := range o.Justifications {
			at := fmt.Sprintf("%s.justifications[%d]", at, k)
			if j.Basis.States() == nil {
				f.Add(at+".basis", "must be one of %s", join(Justifications))
			} else if seen[j.Basis] {
				f.Add(at+".basis", "stands twice")
			}
			seen[j.Basis] = true
			if _, err := j.period(); err != nil {
				f.Add(at+".validFor", "%v", err)
			}
		}
	}
	for i, g := range c.OptionGroups {
		if len(g.Options) == 0 {
			f.Add(fmt.Sprintf("optionGroups[%d].options", i), "must name at least one option")
		}
		for k, o := range g.Options {
			at := fmt.Sprintf("optionGroups[%d].options[%d]", i, k)
			known(&f, at, options, o, "option")
			if slices.Contains(g.Options[:k], o) {
				f.Add(at, "stands twice")
			}
		}
	}
	for i, p := range c.Preferences {
		at := fmt.Sprintf("preferences[%d]", i)
		if p.Kind != SingleChoice && p.Kind != MultiChoice {
			f.Add(at+".kind", "must be %s or %s", SingleChoice, MultiChoice)
		}
		if len(p.Choices) == 0 {
			f.Add(at+".choices", "must offer at least one choice")
		}
		keys(&f, at+".choices", "reference", p.Choices, func(v Choice) string { return v.Reference })
		c.checkText(&f, at+".label", p.Label)
		for k, choice := range p.Choices {
			c.checkText(&f, fmt.Sprintf("%s.choices[%d].label", at, k), choice.Label)
		}
	}
	for i, p := range c.PrivacyPolicies {
		at := fmt.Sprintf("privacyPolicies[%d].versions", i)
		if len(p.Versions) == 0 {
			f.Add(at, "must hold at least one version")
		}
		keys(&f, at, "version", p.Versions, func(v PolicyVersion) string { return v.Version })
	}
	for i, s := range c.PermissionStatements {
		c.checkText(&f, fmt.Sprintf("permissionStatements[%d].text", i), s.Text)
	}
	for i, t := range c.Templates {
		at := fmt.Sprintf("templates[%d]", i)
		if t.PrivacyPolicy != "" {
			known(&f, at+".privacyPolicy", policies, t.PrivacyPolicy, "privacy policy")
		}
		for k, b := range t.Blocks {
			at := fmt.Sprintf("%s.blocks[%d]", at, k)
			switch b.Type {
			case "permissions":
				known(&f, at+".statement", statements, b.Statement, "permission statement")
				for m, o := range b.Options {
					c.checkBlockOption(&f, fmt.Sprintf("%s.options[%d]", at, m), o, options, groups)
				}
			case "multi-choice-preference", "single-choice-preference":
				known(&f, at+".preference", preferences, b.Preference, "preference")
			case "text":
				c.checkText(&f, at+".text", b.Text)
			default:
				f.Add(at+".type", "must be permissions, multi-choice-preference, single-choice-preference or text")
			}
		}
	}
	return f.Err()
}

func (c Catalogue) checkBlockOption(f *Faults, at string, b BlockOption, options, groups map[string]int) {
	if (b.Option == "") == (b.OptionGroup == "") {
		f.Add(at, "must name either an option or an optionGroup")
		return
	}
	if b.OptionGroup != "" {
		known(f, at+".optionGroup", groups, b.OptionGroup, "option group")
		return
	}
	known(f, at+".option", options, b.Option, "option")
	if i, ok := options[b.Option]; ok {
		if _, ok := c.Options[i].Basis(b.Justification); !ok {
			f.Add(at+".justification", "the option %q does not allow this lawful basis", b.Option)
		}
	}
}

func (c Catalogue) checkText(f *Faults, at string, l Localised) {
	if len(l) == 0 {
		f.Add(at, "must be given")
	}
	for locale, text := range l {
		if text == "" {
			f.Add(at, "must not be empty")
		}
		if locale != "" {
			checkLocale(f, at, locale)
		}
	}
}

func checkLocale(f *Faults, at, locale string) {
	if _, err := language.Parse(locale); err != nil {
		f.Add(at, "must be a language tag such as en or de-AT")
	}
}

// keys checks the keys of one list and gives their places.
func keys[T any](f *Faults, list, field string, items []T, key func(T) string) map[string]int {
	at := make(map[string]int, len(items))
	for i, it := range items {
		k := key(it)
		location := fmt.Sprintf("%s[%d].%s", list, i, field)
		CheckText(f, location, k, 1, 100)
		if j, twice := at[k]; twice {
			f.Add(location, "is the same as that of %s[%d]", list, j)
			continue
		}
		at[k] = i
	}
	return at
}

func known(f *Faults, at string, places map[string]int, key, what string) {
	if _, ok := places[key]; !ok {
		f.Add(at, "names no %s of the catalogue", what)
	}
}

// CheckText notes a fault unless s is valid UTF-8 of least to most characters
// without control characters.
func CheckText(f *Faults, location, s string, least, most int) {
	n := utf8.RuneCountInString(s)
	switch {
	case !utf8.ValidString(s):
		f.Add(location, "must be valid UTF-8")
	case n < least && n == 0:
		f.Add(location, "must be given")
	case n < least || n > most:
		f.Add(location, "must have %d to %d characters", least, most)
	case strings.ContainsFunc(s, unicode.IsControl):
		f.Add(location, "must not contain control characters")
	}
}

// period gives the default validity, nil where there is none.
func (a AllowedBasis) period() (*duration.Duration, error) {
	if a.ValidFor == "" {
		return nil, nil
	}
	d, err := duration.Parse(a.ValidFor)
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
	t := from.Time().AddDate(int(d.Years), int(d.Months), int(d.Days)+7*int(d.Weeks))
	rest := duration.Duration{Hours: d.Hours, Minutes: d.Minutes, Seconds: d.Seconds}
	return min(At(t.Add(rest.ToTimeDuration())), maxInstant)
}
