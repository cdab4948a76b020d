package consent

// CreationDefaults is the reference of the template whose options on legitimate interest
// are claimed for every citizen who is created.
const CreationDefaults = "citizen-creation-defaults"

// Defaults gives what is claimed for a new citizen, and the privacy policy that it is
// claimed under; nothing where there is no such template.
func (s *Snapshot) Defaults() (parts []FormPart, policy *Citation) {
	t, ok := s.Template(CreationDefaults)
	if !ok {
		return nil, nil
	}
	yes := true
	f := Form{}
	for _, b := range t.Blocks {
		block := FormBlock{Type: PermissionsBlock}
		if b.Statement != "" {
			block.Statement = &FormStatement{Reference: b.Statement}
		}
		for _, o := range b.Options {
			if o.Justification != LegitimateInterest {
				continue
			}
			claimed := FormOption{OptionType: OptionSingle, OptionID: o.Option, Justification: o.Justification, Selected: &yes}
			if o.OptionGroup != "" {
				claimed.OptionType, claimed.OptionID = OptionGroup, o.OptionGroup
			}
			block.Options = append(block.Options, claimed)
		}
		f.Blocks = append(f.Blocks, block)
	}
	var faults Faults // of a catalogue that was checked there are none
	if c, ok := s.Policy(t.PrivacyPolicy); ok {
		c.Unproven = true
		policy = &c
	}
	return s.ResolveForm(f, nil, false, &faults).Parts, policy
}
