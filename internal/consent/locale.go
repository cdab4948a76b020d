package consent

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/text/language"
)

// DefaultLocale is the language of the application where none is asked for.
func (s *Snapshot) DefaultLocale() string {
	a := s.Catalogue.Application
	if a.DefaultLocale == "" && len(a.Locales) > 0 {
		return a.Locales[0]
	}
	return cmp.Or(a.DefaultLocale, "en")
}

// Locales are the languages in which a template has any text: the default one first,
// then those of the application in its order, then others.
func (s *Snapshot) Locales(t *Template) []string {
	has := map[string]bool{}
	s.eachText(t, func(_ string, l Localised) {
		for locale := range l {
			has[cmp.Or(locale, s.DefaultLocale())] = true
		}
	})
	var list, others []string
	for _, locale := range append([]string{s.DefaultLocale()}, s.Catalogue.Application.Locales...) {
		if has[locale] && !slices.Contains(list, locale) {
			list = append(list, locale)
		}
	}
	for locale := range has {
		if !slices.Contains(list, locale) {
			others = append(others, locale)
		}
	}
	slices.Sort(others)
	if list = append(list, others...); list == nil {
		return []string{s.DefaultLocale()}
	}
	return list
}

// Choose gives the one of some locales that comes nearest to what is wanted: languages
// in the order of preference, each a tag or a list as in Accept-Language. The first
// locale is for those who want none of them.
func Choose(locales []string, wanted ...string) string {
	tags := make([]language.Tag, len(locales))
	for i, l := range locales {
		tags[i] = language.Make(l)
	}
	matcher := language.NewMatcher(tags)
	for _, w := range wanted {
		for _, exact := range locales {
			if strings.EqualFold(w, exact) {
				return exact
			}
		}
		asked, _, err := language.ParseAcceptLanguage(w)
		if err != nil || len(asked) == 0 {
			continue
		}
		if _, i, confidence := matcher.Match(asked...); confidence > language.No {
			return locales[i]
		}
	}
	return locales[0]
}

// Say gives a text in a locale, or in the nearest that it has, or in the default one.
func (s *Snapshot) Say(l Localised, locale string) string { return s.sayIn(l, locale) }

// sayIn gives a text in a locale, or in the nearest that it has: de for de-AT, then as
// say does.
func (s *Snapshot) sayIn(l Localised, locale string) string {
	for tag := locale; tag != ""; {
		if text := l[tag]; text != "" {
			return text
		}
		tag = tag[:max(strings.LastIndexByte(tag, '-'), 0)]
	}
	return s.say(l)
}

// eachText visits every text that a template shows, with its place in the template.
func (s *Snapshot) eachText(t *Template, visit func(location string, l Localised)) {
	given := func(location string, l Localised) {
		if len(l) > 0 {
			visit(location, l)
		}
	}
	for i, b := range t.Blocks {
		at := at("blocks", i)
		given(at+".heading", b.Heading)
		given(at+".text", b.Text)
		if w := s.wordings[b.Statement]; w != nil {
			given(at+".statement", w.Text)
		}
		for k, o := range b.Options {
			at := fmt.Sprintf("%s.options[%d]", at, k)
			given(at+".label", o.Label)
			given(at+".description", o.Description)
			if o.Card != nil {
				given(at+".card.on", o.Card.On)
				given(at+".card.off", o.Card.Off)
			}
		}
		if p := s.preferences[b.Preference]; p != nil {
			given(at+".preference", p.Label)
			for k, c := range p.Choices {
				given(fmt.Sprintf("%s.preference.choices[%d]", at, k), c.Label)
			}
		}
	}
}
