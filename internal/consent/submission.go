package consent

import (
	"cmp"
	"fmt"
	"slices"
)

// Submission is the immutable record of one answer to one preference. It cannot be
// reverted.
type Submission struct {
	Evidence
	Answer Answer `json:"answer"`
}

// Answer is what was chosen, in the words that the catalogue had for it then. No
// choice at all is an answer, too.
type Answer struct {
	Preference string   `json:"preference"`
	Label      string   `json:"label"`
	Choices    []Chosen `json:"choices"`
}

// Chosen is one choice of an answer.
type Chosen struct {
	Reference string `json:"reference"`
	Label     string `json:"label"`
}

// ResolveAnswers checks answers against the catalogue and completes them with its
// words, in the default locale. Each preference may be answered once. Faults carry
// every fault found, with locations under "preferences".
func (s *Snapshot) ResolveAnswers(answers []Answer, faults *Faults) []Answer {
	resolved, seen := make([]Answer, len(answers)), map[string]bool{}
	for i, a := range answers {
		at := fmt.Sprintf("preferences[%d]", i)
		p := s.preferences[a.Preference]
		if p == nil {
			faults.Add(at+".preference", "names no preference of the application")
			continue
		}
		if seen[p.Reference] {
			faults.Add(at+".preference", "is answered twice")
		}
		seen[p.Reference] = true
		if p.Kind == SingleChoice && len(a.Choices) > 1 {
			faults.Add(at+".choices", "must hold at most one choice: the preference is %s", SingleChoice)
		}
		a.Label, a.Choices = s.say(p.Label), slices.Clone(a.Choices)
		for k := range a.Choices {
			c := &a.Choices[k]
			place := fmt.Sprintf("%s.choices[%d]", at, k)
			n := slices.IndexFunc(p.Choices, func(o Choice) bool { return o.Reference == c.Reference })
			if n < 0 {
				faults.Add(place, "names no choice of the preference")
				continue
			}
			if slices.ContainsFunc(a.Choices[:k], func(o Chosen) bool { return o.Reference == c.Reference }) {
				faults.Add(place, "stands twice")
			}
			c.Label = s.say(p.Choices[n].Label)
		}
		resolved[i] = a
	}
	return resolved
}

// say gives a text in the default locale of the application, or in what it has.
func (s *Snapshot) say(l Localised) string {
	if text := cmp.Or(l[s.Catalogue.Application.DefaultLocale], l[""]); text != "" {
		return text
	}
	for _, locale := range s.Catalogue.Application.Locales {
		if l[locale] != "" {
			return l[locale]
		}
	}
	first := ""
	for locale := range l {
		if first == "" || locale < first {
			first = locale
		}
	}
	return l[first]
}
