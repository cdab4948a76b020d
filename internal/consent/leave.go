package consent

import "slices"

// CanLeave reports whether there is anything in an option, or in the options of a group,
// to which a person can say no: a consent, or a legitimate interest.
func (s *Snapshot) CanLeave(k Key) bool {
	if k.Type == OptionGroup {
		g := s.groups[k.ID]
		return g != nil && slices.ContainsFunc(g.Options, func(id string) bool { return s.options[id] != nil && s.options[id].refusable("") != "" })
	}
	o := s.options[k.ID]
	return o != nil && o.refusable("") != ""
}

// refusals are the states in which a person says no, by lawful basis.
var refusals = map[Justification]State{Consent: Denied, LegitimateInterest: Objected}

// refusable gives the lawful basis on which the option can be refused: that on which it
// stands where that is possible, else consent, else legitimate interest.
func (o *Option) refusable(stands Justification) Justification {
	for _, j := range []Justification{stands, Consent, LegitimateInterest} {
		if _, accepted := o.Basis(j); accepted && refusals[j] != "" {
			return j
		}
	}
	return ""
}

// Leave gives the changes, resolved, by which a citizen leaves an option, or a group and
// every option in it, at t: each is refused on the lawful basis on which it stands. There
// are none where all that can be refused is, whatever the do-not-contact list says; a
// refusal of which loose is true, unless that is nil, does not count.
func (s *Snapshot) Leave(k Key, p *Projection, t Instant, loose func(*Evidence) bool) []Change {
	stands := map[Key]verdict{}
	p.runs(func(run []candidate) { stands[run[0].key] = decide(run, t) })
	silent := map[Key]bool{} // what a pause has refused speaks again, unless it is refused for good
	for _, pause := range p.Paused(t) {
		for _, k := range pause.Options {
			silent[k] = true
		}
	}
	refused := func(k Key) bool {
		v := stands[k]
		return v.standing != nil && v.standing.state.Refusal() && v.pending == nil && !silent[k] && (loose == nil || !loose(v.standing.evidence))
	}
	basis := func(o *Option) Justification {
		if v := stands[Key{OptionSingle, o.ID}]; v.standing != nil {
			return o.refusable(v.standing.basis)
		}
		return o.refusable("")
	}
	refuse := func(k Key, j Justification) Change {
		return Change{OptionType: k.Type, OptionID: k.ID, Justification: j, State: refusals[j]}
	}
	var changes []Change
	if k.Type == OptionGroup {
		changes = s.leaveGroup(k, stands[k], refused, basis, refuse)
	} else if o := s.options[k.ID]; o != nil && !refused(k) {
		if j := basis(o); j != "" {
			changes = []Change{refuse(k, j)}
		}
	}
	resolved, _ := s.Resolve(changes, &Faults{})
	return resolved
}

// leaveGroup refuses the group, which answers for those of its options that stand on the
// same basis, and then one by one those that stand on another.
func (s *Snapshot) leaveGroup(k Key, whole verdict, refused func(Key) bool, basis func(*Option) Justification, refuse func(Key, Justification) Change) []Change {
	g := s.groups[k.ID]
	if g == nil {
		return nil
	}
	var open []*Option
	accepted := map[Justification]bool{}
	for _, id := range g.Options {
		o := s.options[id]
		if o == nil || o.refusable("") == "" {
			continue
		}
		for _, a := range o.Justifications {
			accepted[a.Basis] = true
		}
		if !refused(Key{OptionSingle, id}) {
			open = append(open, o)
		}
	}
	if len(accepted) == 0 || open == nil && (whole.standing == nil || refused(k)) {
		return nil
	}
	var by Justification
	candidates := []Justification{Consent, LegitimateInterest}
	if whole.standing != nil {
		candidates = slices.Insert(candidates, 0, whole.standing.basis)
	}
	for _, j := range candidates {
		if accepted[j] && refusals[j] != "" {
			by = j
			break
		}
	}
	changes := []Change{refuse(k, by)}
	for _, o := range open {
		if j := basis(o); j != by {
			changes = append(changes, refuse(Key{OptionSingle, o.ID}, j))
		}
	}
	return changes
}
