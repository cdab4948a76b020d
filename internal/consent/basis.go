package consent

import (
	"slices"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// Justification is the lawful basis of a permission (GDPR art. 6(1)).
type Justification string

// The lawful bases, as published.
const (
	Consent            Justification = "consent"
	LegitimateInterest Justification = "legitimate-interest"
	Contract           Justification = "contract"
	PublicInterest     Justification = "public-interest"
	VitalInterest      Justification = "vital-interest"
	LegalObligation    Justification = "legal-obligation"
)

// Justifications lists every lawful basis.
var Justifications = []Justification{Consent, LegitimateInterest, Contract, PublicInterest, VitalInterest, LegalObligation}

// State is what was decided about an option under a lawful basis.
type State string

// The states, as published.
const (
	Granted         State = "GRANTED"
	Denied          State = "DENIED"
	Pending         State = "PENDING"
	Claimed         State = "CLAIMED"
	Objected        State = "OBJECTED"
	ObjectionUpheld State = "OBJECTION_UPHELD"
)

// States lists every state.
var States = []State{Granted, Denied, Pending, Claimed, Objected, ObjectionUpheld}

// HideableStates are what a rule set can hide: every state, and that of an option
// that was never answered.
var HideableStates = append([]State{NoState}, States...)

// States gives the states that the basis allows, nil for an unknown basis.
func (j Justification) States() []State {
	switch j {
	case Consent:
		return []State{Granted, Denied, Pending}
	case LegitimateInterest:
		return []State{Claimed, Objected, ObjectionUpheld}
	case Contract, PublicInterest, VitalInterest, LegalObligation:
		return []State{Claimed}
	}
	return nil
}

// Allows reports whether the pair is legal.
func (j Justification) Allows(s State) bool { return slices.Contains(j.States(), s) }

// named gives the state for a sentence, without repeating what is none.
func (s State) named() string {
	if slices.Contains(States, s) {
		return string(s)
	}
	return "this"
}

// MarshalJSON writes null for the state of an entry that ceased.
func (s State) MarshalJSON() ([]byte, error) { return Text(s).MarshalJSON() }

// MarshalJSONTo writes what MarshalJSON writes.
func (s State) MarshalJSONTo(e *jsontext.Encoder) error { return Text(s).MarshalJSONTo(e) }

// Refusal reports whether the state is a person's no, which has no end (rule 4).
func (s State) Refusal() bool { return s == Denied || s == Objected || s == ObjectionUpheld }

// takesDefaultValidity reports whether an option's default validity applies (rule 4).
func (s State) takesDefaultValidity() bool { return s == Granted || s == Claimed }

func join[T ~string](list []T) string {
	parts := make([]string, len(list))
	for i, v := range list {
		parts[i] = string(v)
	}
	return strings.Join(parts, ", ")
}
