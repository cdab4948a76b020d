package consent

import (
	"cmp"
	"slices"
)

// hides reports whether the rules leave out an option that is in a state, empty for
// never answered, whose answer ends at until, and that is of these channels. An answer
// that ends within ExpiresWithin is in sight whatever its state; any other one is not
// where that is given.
func (r *RuleSet) hides(state State, until Instant, channels []string, now Instant) bool {
	if len(r.Channels) > 0 && !slices.ContainsFunc(channels, func(c string) bool { return slices.Contains(r.Channels, c) }) {
		return true
	}
	if state != "" && r.ExpiresWithin != "" {
		d, err := parsePeriod(r.ExpiresWithin)
		return err != nil || until == 0 || state.Refusal() || until > after(now, d)
	}
	return slices.Contains(r.HideStates, cmp.Or(state, NoState))
}

// mandatory reports whether a preference must be answered.
func (r *RuleSet) mandatory(reference string) bool {
	return slices.Contains(r.MandatoryPreferences, reference)
}
