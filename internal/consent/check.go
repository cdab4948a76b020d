package consent

import (
	"fmt"
	"net/mail"
	"net/url"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/sosodev/duration"
	"golang.org/x/text/language"
)

// Check says everything that is wrong with the catalogue at once, nil when it
// holds together: keys are unique, whatever is named exists, every lawful basis
// and duration is one.
func (c Catalogue) Check() error { return c.Faults(nil).Err() }

// Faults is everything that is wrong with the catalogue, by place. Against what it
// was before, archived items included, it holds that the versions of a privacy
// policy are evidence: they can be added to, but neither changed nor dropped.
func (c Catalogue) Faults(before []Revision) Faults {
	k := checker{c: c, places: map[string]map[string]int{}}
	for _, l := range lists {
		k.places[l.kind] = k.keys(l.name, l.key, l.keys(&c))
	}
	k.application(c.Application)
	for i, p := range c.Parties {
		k.name(at("parties", i), p.Name)
	}
	for i, p := range c.Purposes {
		k.name(at("purposes", i), p.Name)
		k.optionalText(at("purposes", i)+".label", p.Label)
	}
	for i, v := range c.Channels {
		k.name(at("channels", i), v.Name)
		k.optionalText(at("channels", i)+".label", v.Label)
		if v.Contact != "" && !slices.Contains(ContactKinds, v.Contact) {
			k.Add(at("channels", i)+".contact", "must be one of %s", join(ContactKinds))
		}
	}
	for i, o := range c.Options {
		k.option(at("options", i), o)
	}
	for i, g := range c.OptionGroups {
		k.name(at("optionGroups", i), g.Name)
		if len(g.Options) == 0 {
			k.Add(at("optionGroups", i)+".options", "must name at least one option")
		}
		k.known(at("optionGroups", i)+".options", KindOption, g.Options)
	}
	for i, p := range c.Preferences {
		k.preference(at("preferences", i), p)
	}
	for i, p := range c.PrivacyPolicies {
		k.policy(at("privacyPolicies", i), p)
	}
	for i, s := range c.PermissionStatements {
		k.text(at("permissionStatements", i)+".text", s.Text)
	}
	for i, t := range c.Templates {
		k.template(at("templates", i), t)
	}
	for i, r := range c.RuleSets {
		k.ruleSet(at("ruleSets", i), r)
	}
	for i, p := range c.PreferenceCentres {
		k.centre(at("preferenceCentres", i), p)
	}
	k.centres(c.PreferenceCentres)
	for i, e := range c.Emails {
		k.email(at("emails", i), e)
	}
	k.evidence(before)
	return k.Faults
}

// checker gathers the faults of a catalogue.
type checker struct {
	Faults
	c      Catalogue
	places map[string]map[string]int // by kind and key, of each item in its list
}

func at(list string, i int) string { return fmt.Sprintf("%s[%d]", list, i) }

// keys checks the keys of one list and gives their places.
func (k *checker) keys(list, field string, keys []string) map[string]int {
	places := make(map[string]int, len(keys))
	for i, key := range keys {
		location := at(list, i) + "." + field
		CheckText(&k.Faults, location, key, 1, 100)
		if first, twice := places[key]; twice {
			k.Add(location, "is the same as that of %s", at(list, first))
			continue
		}
		places[key] = i
	}
	return places
}

// knows checks that an item of a kind is in the catalogue.
func (k *checker) knows(at, kind, key string) bool {
	_, ok := k.places[kind][key]
	if !ok {
		k.Add(at, "names no %s of the catalogue", Words(kind))
	}
	return ok
}

// known checks that items of a kind are in the catalogue, and that none is named
// twice.
func (k *checker) known(list, kind string, keys []string) {
	seen := make(map[string]bool, len(keys))
	for i, key := range keys {
		k.knows(at(list, i), kind, key)
		if seen[key] {
			k.Add(at(list, i), "stands twice")
		}
		seen[key] = true
	}
}

func (k *checker) name(at, name string) { CheckText(&k.Faults, at+".name", name, 1, 200) }

func (k *checker) application(a ApplicationSettings) {
	k.name("application", a.Name)
	for i, l := range a.Locales {
		k.locale(at("application.locales", i), l)
	}
	if d := a.DefaultLocale; d != "" {
		k.locale("application.defaultLocale", d)
		if len(a.Locales) > 0 && !slices.Contains(a.Locales, d) {
			k.Add("application.defaultLocale", "must be one of application.locales")
		}
	}
	for i, origin := range a.AllowedOrigins {
		k.origin(at("application.allowedOrigins", i), origin)
	}
	if s := a.Sender; s != nil {
		CheckText(&k.Faults, "application.sender.name", s.Name, 1, 200)
		k.address("application.sender.address", s.Address)
		if s.ReplyTo != "" {
			k.address("application.sender.replyTo", s.ReplyTo)
		}
	}
	if a.ConfirmWithin != "" {
		k.period("application.confirmWithin", a.ConfirmWithin)
	}
	if a.ManageURL != "" {
		u, err := url.Parse(strings.ReplaceAll(a.ManageURL, "{token}", "token"))
		if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || !strings.Contains(a.ManageURL, "{token}") {
			k.Add("application.manageUrl", "must be an http or https URL with {token} in it")
		}
	}
	if r := a.TokenRegeneration; r != nil {
		every, validFor := k.period("application.tokenRegeneration.every", r.Every), k.period("application.tokenRegeneration.validFor", r.ValidFor)
		if every != nil && validFor != nil && after(0, validFor) <= after(0, every) {
			k.Add("application.tokenRegeneration.validFor", "must be longer than every")
		}
		const epoch Instant = 1
		if every != nil && after(epoch, every)-epoch < leastRegeneration {
			k.Add("application.tokenRegeneration.every", "must be at least a day")
		}
		if validFor != nil && after(epoch, validFor)-epoch > mostTokenLife {
			k.Add("application.tokenRegeneration.validFor", "must be at most 3 months")
		}
	}
}

// origin checks a web origin, as browsers write it.
func (k *checker) origin(at, origin string) {
	u, err := url.Parse(origin)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || origin != u.Scheme+"://"+strings.ToLower(u.Host) {
		k.Add(at, "must be a web origin such as https://shop.example, without a path")
	}
}

func (k *checker) address(at, address string) {
	a, err := mail.ParseAddress(address)
	if err != nil || a.Address != address {
		k.Add(at, "must be an e-mail address")
	}
}

// period checks an ISO 8601 duration and gives it, nil where it is none.
func (k *checker) period(at, text string) *duration.Duration {
	d, err := parsePeriod(text)
	if err != nil {
		k.Add(at, "%v", err)
		return nil
	}
	return d
}

func (k *checker) option(place string, o Option) {
	CheckText(&k.Faults, place+".name", o.Name, 0, 200)
	k.knows(place+".party", KindParty, o.Party)
	k.knows(place+".purpose", KindPurpose, o.Purpose)
	k.knows(place+".channel", KindChannel, o.Channel)
	if len(o.Justifications) == 0 {
		k.Add(place+".justifications", "must name at least one lawful basis")
	}
	seen := map[Justification]bool{}
	for i, j := range o.Justifications {
		at := at(place+".justifications", i)
		if j.Basis.States() == nil {
			k.Add(at+".basis", "must be one of %s", join(Justifications))
		} else if seen[j.Basis] {
			k.Add(at+".basis", "stands twice")
		}
		seen[j.Basis] = true
		if _, err := j.period(); err != nil {
			k.Add(at+".validFor", "%v", err)
		}
	}
}

func (k *checker) preference(place string, p Preference) {
	if p.Kind != SingleChoice && p.Kind != MultiChoice {
		k.Add(place+".kind", "must be %s or %s", SingleChoice, MultiChoice)
	}
	k.text(place+".label", p.Label)
	if len(p.Choices) == 0 {
		k.Add(place+".choices", "must offer at least one choice")
	}
	references := make([]string, len(p.Choices))
	for i, choice := range p.Choices {
		references[i] = choice.Reference
		k.text(at(place+".choices", i)+".label", choice.Label)
	}
	k.keys(place+".choices", "reference", references)
}

func (k *checker) policy(place string, p PrivacyPolicy) {
	k.name(place, p.Name)
	k.optionalText(place+".label", p.Label)
	if len(p.Versions) == 0 {
		k.Add(place+".versions", "must hold at least one version")
	}
	versions := make([]string, len(p.Versions))
	for i, v := range p.Versions {
		versions[i] = v.Version
		if u, err := url.Parse(v.URL); err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" {
			k.Add(at(place+".versions", i)+".url", "must be an absolute http or https URL")
		}
	}
	k.keys(place+".versions", "version", versions)
}

func (k *checker) template(place string, t Template) {
	k.name(place, t.Name)
	if t.PrivacyPolicy != "" {
		k.knows(place+".privacyPolicy", KindPolicy, t.PrivacyPolicy)
	}
	for i, b := range t.Blocks {
		at := at(place+".blocks", i)
		k.optionalText(at+".heading", b.Heading)
		switch b.Type {
		case PermissionsBlock:
			k.knows(at+".statement", KindStatement, b.Statement)
			for m, o := range b.Options {
				k.blockOption(fmt.Sprintf("%s.options[%d]", at, m), o)
			}
		case MultiChoiceBlock, SingleChoiceBlock:
			k.knows(at+".preference", KindPreference, b.Preference)
		case TextBlock:
			k.text(at+".text", b.Text)
		default:
			k.Add(at+".type", "must be %s, %s, %s or %s", PermissionsBlock, MultiChoiceBlock, SingleChoiceBlock, TextBlock)
		}
	}
}

func (k *checker) blockOption(at string, b BlockOption) {
	k.optionalText(at+".label", b.Label)
	k.optionalText(at+".description", b.Description)
	if c := b.Card; c != nil {
		k.text(at+".card.on", c.On)
		k.text(at+".card.off", c.Off)
	}
	if (b.Option == "") == (b.OptionGroup == "") {
		k.Add(at, "must name either an option or an optionGroup")
		return
	}
	if b.OptionGroup != "" {
		k.knows(at+".optionGroup", KindOptionGroup, b.OptionGroup)
		return
	}
	if k.knows(at+".option", KindOption, b.Option) {
		if _, ok := k.c.Options[k.places[KindOption][b.Option]].Basis(b.Justification); !ok {
			k.Add(at+".justification", "the option %q does not allow this lawful basis", b.Option)
		}
	}
}

func (k *checker) ruleSet(place string, r RuleSet) {
	k.name(place, r.Name)
	if r.ExpiresWithin != "" {
		k.period(place+".expiresWithin", r.ExpiresWithin)
	}
	if r.MaxOptions != nil && *r.MaxOptions < 1 {
		k.Add(place+".maxOptions", "must be at least 1")
	}
	for i, s := range r.HideStates {
		if !slices.Contains(HideableStates, s) {
			k.Add(at(place+".hideStates", i), "must be one of %s", join(HideableStates))
		} else if slices.Contains(r.HideStates[:i], s) {
			k.Add(at(place+".hideStates", i), "stands twice")
		}
	}
	k.known(place+".channels", KindChannel, r.Channels)
	k.known(place+".mandatoryPreferences", KindPreference, r.MandatoryPreferences)
}

func (k *checker) email(place string, e EmailText) {
	k.name(place, e.Name)
	if !slices.Contains(EmailKinds, e.Kind) {
		k.Add(place+".kind", "must be one of %s", join(EmailKinds))
	}
	if e.Template != "" {
		k.knows(place+".template", KindTemplate, e.Template)
	}
	for field, text := range map[string]Localised{"subject": e.Subject, "heading": e.Heading, "message": e.Message, "button": e.Button, "reason": e.Reason} {
		k.optionalText(place+"."+field, text)
	}
}

// optionalText checks a text that may be left out.
func (k *checker) optionalText(at string, l Localised) {
	if len(l) > 0 {
		k.text(at, l)
	}
}

// evidence checks that the versions of every privacy policy begin with those that
// it had before.
func (k *checker) evidence(before []Revision) {
	for _, v := range before {
		i, known := k.places[KindPolicy][v.Key]
		if v.Kind != KindPolicy || !known {
			continue
		}
		was, err := Assemble([]Item{v.Item})
		if err != nil {
			continue // which no stored policy is
		}
		place, is := at("privacyPolicies", i)+".versions", k.c.PrivacyPolicies[i].Versions
		for n, version := range was.PrivacyPolicies[0].Versions {
			if n >= len(is) {
				k.Add(place, "must keep every version that was there: versions are evidence")
			} else if is[n] != version {
				k.Add(at(place, n), "cannot be changed: versions are evidence; add a new one at the end")
			}
		}
	}
}

func (k *checker) text(at string, l Localised) {
	if len(l) == 0 {
		k.Add(at, "must be given")
	}
	for locale, text := range l {
		if text == "" {
			k.Add(at, "must not be empty")
		}
		if locale != "" {
			k.locale(at, locale)
		}
	}
}

func (k *checker) locale(at, locale string) {
	if _, err := language.Parse(locale); err != nil {
		k.Add(at, "must be a language tag such as en or de-AT")
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
