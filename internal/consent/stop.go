package consent

// StopChanges gives the changes by which a citizen refuses, at t, every option that is
// direct marketing, or, where a purpose is named, those of that purpose and, where it is
// named too, that channel. What they had given or never been asked is refused alike, so
// that nothing older or still to come speaks again. What a contract or a duty needs stays.
func (s *Snapshot) StopChanges(p *Projection, t Instant, purpose, channel string) []Change {
	var changes []Change
	stops := func(o *Option) bool {
		if purpose == "" {
			return s.marketing(o)
		}
		return o.Purpose == purpose && (channel == "" || o.Channel == channel)
	}
	for i := range s.Catalogue.Options {
		o := &s.Catalogue.Options[i]
		e, stands := p.Entry(Key{OptionSingle, o.ID}, t)
		if !stops(o) || stands && refusals[e.Justification] == "" {
			continue
		}
		if basis := o.refusable(e.Justification); basis != "" {
			changes = append(changes, Change{OptionType: OptionSingle, OptionID: o.ID, Justification: basis, State: refusals[basis]})
		}
	}
	// A group that was answered as one says so, where all of it is refused.
	for _, g := range s.Catalogue.OptionGroups {
		e, answered := p.Entry(Key{OptionGroup, g.ID}, t)
		whole := answered && refusals[e.Justification] != ""
		for _, id := range g.Options {
			whole = whole && s.options[id] != nil && stops(s.options[id])
		}
		if whole {
			changes = append(changes, Change{OptionType: OptionGroup, OptionID: g.ID, Justification: e.Justification, State: refusals[e.Justification]})
		}
	}
	return changes
}
