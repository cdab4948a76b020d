package consent

import (
	"cmp"
	"slices"
)

// Pause is a time in which a citizen wants to hear nothing: a transaction that refused
// what was on, and gives it again from a day on.
type Pause struct {
	TransactionID ID
	Since, Until  Instant
	Options       []Key // what speaks again then, and is silent now
}

// Paused gives the pauses that last at t, the one that ends first before the others.
func (p *Projection) Paused(t Instant) []Pause {
	var list []Pause
	p.runs(func(run []candidate) {
		standing := decide(run, t).standing
		if standing == nil || !standing.state.Refusal() {
			return
		}
		i := slices.IndexFunc(run, func(c candidate) bool {
			return c.evidence.ID == standing.evidence.ID && c.reverted == nil && !c.started(t) && !c.state.Refusal()
		})
		if i < 0 {
			return
		}
		again := &run[i]
		at := slices.IndexFunc(list, func(known Pause) bool { return known.TransactionID == again.evidence.ID })
		if at < 0 {
			at = len(list)
			list = append(list, Pause{TransactionID: again.evidence.ID, Since: again.evidence.obtained(), Until: again.from})
		}
		list[at].Options = append(list[at].Options, again.key)
	})
	slices.SortStableFunc(list, func(a, b Pause) int { return cmp.Compare(a.Until, b.Until) })
	return list
}

// PauseChanges gives the changes that silence, from t until an instant, the direct
// marketing that is on: each option is refused now and given again then, with the end it
// had. What would end before is not given again.
func (s *Snapshot) PauseChanges(p *Projection, t, until Instant) []Change {
	var changes []Change
	for _, e := range p.Effective(t) {
		o := s.options[e.OptionID]
		if e.OptionType != OptionSingle || e.State != Granted && e.State != Claimed || refusals[e.Justification] == "" || o == nil || !s.marketing(o) {
			continue
		}
		changes = append(changes, Change{OptionType: e.OptionType, OptionID: e.OptionID, Justification: e.Justification, State: refusals[e.Justification]})
		if end := Instant(e.ValidUntil); end == 0 || end > until {
			changes = append(changes, Change{OptionType: e.OptionType, OptionID: e.OptionID, Justification: e.Justification, State: e.State, ValidFrom: until, ValidUntil: end})
		}
	}
	return changes
}
