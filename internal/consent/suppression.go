package consent

// Suppression is the record that the address of a citizen was put on the
// do-not-contact list of a Channel, or taken off it again (rule 9): by whoever changed
// the list, or by the platform where the citizen has another address now.
type Suppression struct {
	Evidence
	Medium string `json:"medium"` // the Channel of the catalogue
	Entry  ID     `json:"entry"`  // of the list
	Lifted bool   `json:"lifted,omitzero"`
}

// suppresses reports whether the suppression changes how an answer reads: what was
// permitted by consent or claimed on legitimate interest. A refusal stays what it is,
// and what is owed by contract or law is no contact that a list could forbid.
func (s *Suppression) suppresses(c *candidate) bool {
	return !s.Lifted && !c.state.Refusal() && (c.basis == Consent || c.basis == LegitimateInterest)
}

// state is how what was answered on a lawful basis reads while it is suppressed.
func (s *Suppression) state(basis Justification) State {
	if basis == Consent {
		return Denied
	}
	return ObjectionUpheld
}
