package consent

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Severity says how much a finding matters.
type Severity string

// The severities.
const (
	SeverityError   Severity = "error"   // it does not work like this
	SeverityWarning Severity = "warning" // it is unfair, or hard to understand
	SeverityHint    Severity = "hint"
)

// Finding is something questionable about a template.
type Finding struct {
	Location string   `json:"location"` // such as blocks[0].options[1].label, or purposes.news.label of what the template uses
	Severity Severity `json:"severity"`
	Rule     string   `json:"rule"`
	Message  string   `json:"message"`
}

// The rules of the linter.
const (
	RuleInvalid     = "invalid"             // it breaks a rule of the catalogue, and cannot be published
	RuleTranslation = "missing-translation" // a language of the template lacks a text
	RuleUnreachable = "unreachable-option"  // every rule set leaves it out, whatever its state
	RuleDuplicate   = "duplicate-option"    // it is offered twice
	RuleOffLonger   = "off-longer"          // refusing takes more words than agreeing
	RuleNegative    = "negative-wording"    // the words speak of loss
	RuleStatement   = "no-statement"        // nothing says what is agreed to
	RulePolicy      = "no-policy"           // nothing says what is done with the answers
)

// LintRules are all of them.
var LintRules = []string{RuleInvalid, RuleTranslation, RuleUnreachable, RuleDuplicate, RuleOffLonger, RuleNegative, RuleStatement, RulePolicy}

// negative are words that speak of loss, and endings of words; by language.
var negative = map[string][]string{
	"en": {"lose", "losing", "lost", "miss", "missing", "unfortunately", "sorry", "sad", "sadly", "regret", "forfeit", "deprived", "worse", "limited", "unable", "reject", "without"},
	"de": {"verlieren", "verlierst", "verpassen", "verpasst", "versäumen", "leider", "schade", "traurig", "bedauern", "bedauerlich", "verzichten", "verzichtest", "entgehen", "entgeht", "schlechter", "eingeschränkt", "ohne"},
}

// Lint says what is questionable about a template as it would be with the rest of the
// catalogue: what is wrong, what is missing, and what is unfair.
func (s *Snapshot) Lint(t Template) []Finding {
	l := linter{Snapshot: s, template: t, findings: []Finding{}}
	l.invalid()
	l.translations()
	l.names()
	l.wording()
	asks := false
	seen := map[Key]string{}
	for i, b := range t.Blocks {
		at := at("blocks", i)
		asks = asks || b.Type != TextBlock
		if b.Type == PermissionsBlock && s.wordings[b.Statement] == nil {
			l.add(at+".statement", SeverityError, RuleStatement, "No statement says what is agreed to.")
		}
		for k, o := range b.Options {
			l.option(fmt.Sprintf("%s.options[%d]", at, k), o, seen)
		}
	}
	if asks && t.PrivacyPolicy == "" {
		l.add("privacyPolicy", SeverityWarning, RulePolicy, "No privacy policy says what is done with the answers.")
	}
	slices.SortStableFunc(l.findings, func(a, b Finding) int { return strings.Compare(a.Location, b.Location) })
	return l.findings
}

type linter struct {
	*Snapshot
	template Template
	findings []Finding
}

func (l *linter) add(location string, s Severity, rule, message string, args ...any) {
	l.findings = append(l.findings, Finding{location, s, rule, fmt.Sprintf(message, args...)})
}

// invalid tells what would be refused.
func (l *linter) invalid() {
	c := l.Catalogue
	c.Templates = []Template{l.template}
	for _, f := range c.Faults(nil) {
		if within, ours := strings.CutPrefix(f.Location, "templates[0]."); ours {
			l.add(within, SeverityError, RuleInvalid, "%s", capital(f.Message)+".")
		}
	}
}

func capital(s string) string {
	r, n := utf8.DecodeRuneInString(s)
	return string(unicode.ToUpper(r)) + s[n:]
}

// languages are those in which every text should be.
func (l *linter) languages() []string {
	list := l.Locales(&l.template)
	for _, locale := range l.Catalogue.Application.Locales {
		if !slices.Contains(list, locale) {
			list = append(list, locale)
		}
	}
	return list
}

// has reports whether a text is in a language, or in one that includes it.
func (l *linter) has(text Localised, locale string) bool {
	for tag := locale; tag != ""; tag = tag[:max(strings.LastIndexByte(tag, '-'), 0)] {
		if text[tag] != "" || text[""] != "" && tag == l.DefaultLocale() {
			return true
		}
	}
	return false
}

func (l *linter) translations() {
	languages := l.languages()
	l.eachText(&l.template, func(location string, text Localised) {
		for _, locale := range languages {
			if !l.has(text, locale) {
				l.add(location, SeverityWarning, RuleTranslation, "There is no text in %s.", locale)
			}
		}
	})
	for i, b := range l.template.Blocks {
		for k, o := range b.Options {
			if len(o.Label) == 0 && len(languages) > 1 {
				l.add(fmt.Sprintf("blocks[%d].options[%d].label", i, k), SeverityWarning, RuleTranslation, "There is no label: the option is called the same in every language.")
			}
		}
	}
}

// names tells which purposes and channels of the options have no name in a language in
// which a preference centre shows them: there they are topics and columns.
func (l *linter) names() {
	used := map[string]bool{}
	for _, b := range l.template.Blocks {
		for _, o := range b.Options {
			if v := l.options[o.Option]; v != nil {
				used["purposes."+v.Purpose], used["channels."+v.Channel] = true, true
			}
		}
	}
	name := func(location, name string, label Localised) {
		for _, locale := range l.languages() {
			if used[location] && !l.has(label, locale) && (len(label) > 0 || locale != l.DefaultLocale()) {
				l.add(location+".label", SeverityWarning, RuleTranslation, "There is no text in %s: preference centres show %q.", locale, cmp.Or(l.Say(label, locale), name))
			}
		}
	}
	for _, p := range l.Catalogue.Purposes {
		name("purposes."+p.ID, p.Name, p.Label)
	}
	for _, c := range l.Catalogue.Channels {
		name("channels."+c.ID, c.Name, c.Label)
	}
}

// wording tells where words speak of loss, or make the one answer look better than the
// other.
func (l *linter) wording() {
	for i, b := range l.template.Blocks {
		for k, o := range b.Options {
			at := fmt.Sprintf("blocks[%d].options[%d]", i, k)
			for field, text := range map[string]Localised{".label": o.Label, ".description": o.Description} {
				for _, locale := range sortedLocales(text) {
					if word := l.negative(text[locale], locale); len(word) > 0 {
						l.add(at+field, SeverityWarning, RuleNegative, "The words %s speak of loss; say what the person gets (%s).", strings.Join(word, ", "), l.named(locale))
					}
				}
			}
			if o.Card != nil {
				l.card(at+".card.off", *o.Card)
			}
		}
	}
}

func (l *linter) card(at string, c ValueCard) {
	for _, locale := range sortedLocales(c.Off) {
		on, off := c.On[locale], c.Off[locale]
		if utf8.RuneCountInString(off) > utf8.RuneCountInString(on) && on != "" {
			l.add(at, SeverityWarning, RuleOffLonger, "What is said to a no is longer than what is said to a yes (%s).", l.named(locale))
		}
		if words := l.negative(off, locale); len(words) > len(l.negative(on, locale)) {
			l.add(at, SeverityWarning, RuleNegative, "What is said to a no is more negative than what is said to a yes: %s (%s).", strings.Join(words, ", "), l.named(locale))
		}
	}
}

func (l *linter) named(locale string) string {
	if locale == "" {
		return l.DefaultLocale()
	}
	return locale
}

// negative gives the words of a text that speak of loss.
func (l *linter) negative(text, locale string) []string {
	language, _, _ := strings.Cut(l.named(locale), "-")
	var found []string
	for _, word := range strings.FieldsFunc(strings.ToLower(text), func(r rune) bool { return !unicode.IsLetter(r) }) {
		if slices.Contains(negative[language], word) {
			found = append(found, strconv.Quote(word))
		}
	}
	return found
}

func sortedLocales(l Localised) []string {
	var list []string
	for locale := range l {
		list = append(list, locale)
	}
	slices.Sort(list)
	return list
}

func (l *linter) option(at string, o BlockOption, seen map[Key]string) {
	key := Key{OptionSingle, o.Option}
	if o.OptionGroup != "" {
		key = Key{OptionGroup, o.OptionGroup}
	}
	if first, twice := seen[key]; twice {
		l.add(at, SeverityError, RuleDuplicate, "It is offered at %s already.", first)
	} else {
		seen[key] = at
	}
	var mediums []string
	if v := l.options[o.Option]; v != nil {
		mediums = []string{v.Channel}
	} else if g := l.groups[o.OptionGroup]; g != nil {
		mediums = l.mediums(g)
	} else {
		return // which is invalid
	}
	hidden := func(r RuleSet) bool {
		return !slices.ContainsFunc(append([]State{""}, o.Justification.States()...), func(state State) bool {
			return !r.hides(state, 1, mediums, 1) // with an answer that is about to end
		})
	}
	if rules := l.Catalogue.RuleSets; len(rules) > 0 && !slices.ContainsFunc(rules, func(r RuleSet) bool { return !hidden(r) }) {
		l.add(at, SeverityHint, RuleUnreachable, "No rule set of the application shows it.")
	}
}

// Contrast is the contrast of two colours such as #0a5c6b as WCAG 2 counts it, from 1 to
// 21, and 0 where one is no colour.
func Contrast(a, b string) float64 {
	la, okA := luminance(a)
	lb, okB := luminance(b)
	if !okA || !okB {
		return 0
	}
	return (max(la, lb) + 0.05) / (min(la, lb) + 0.05)
}

func luminance(c string) (float64, bool) {
	if !colour.MatchString(c) {
		return 0, false
	}
	sum := 0.0
	for i, weight := range [3]float64{0.2126, 0.7152, 0.0722} {
		n, _ := strconv.ParseUint(c[1+2*i:3+2*i], 16, 8) // colour has checked it
		v := float64(n) / 255
		if v <= 0.04045 {
			v /= 12.92
		} else {
			v = math.Pow((v+0.055)/1.055, 2.4)
		}
		sum += weight * v
	}
	return sum, true
}
