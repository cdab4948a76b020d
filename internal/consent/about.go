package consent

import "cmp"

// About is what an option or a group is about. Of an option Group is zero, of a group all
// else; what the catalogue does not know is zero in both.
type About struct {
	Option  Option
	Party   Party
	Purpose Purpose
	Channel Channel
	Group   OptionGroupItem
}

// About finds what an option or a group is about.
func (s *Snapshot) About(k Key) (a About) {
	if g := s.groups[k.ID]; g != nil && k.Type == OptionGroup {
		a.Group = *g
	} else if o := s.options[k.ID]; o != nil && k.Type != OptionGroup {
		a.Option, a.Channel = *o, s.Channel(o.Channel)
		if p := s.parties[o.Party]; p != nil {
			a.Party = *p
		}
		if p := s.purposes[o.Purpose]; p != nil {
			a.Purpose = *p
		}
	}
	return a
}

// Channel finds a channel; one that the catalogue does not know is called by its id.
func (s *Snapshot) Channel(id string) Channel {
	if c := s.channels[id]; c != nil {
		return *c
	}
	return Channel{ID: id, Name: id}
}

// OtherParty gives the name of a party, and nothing for the application's first one, which
// goes without saying.
func (c *Catalogue) OtherParty(id string) string {
	for i, p := range c.Parties {
		if p.ID == id && i > 0 {
			return p.Name
		}
	}
	return ""
}

// NamesOf gives the names of the purpose and of the channel of an option, as citizens read
// them in a locale, or that of a group alone. With the channel goes who else than the
// application's first party it is. What the catalogue does not know is called by its id.
func (s *Snapshot) NamesOf(k Key, locale string) (purpose, channel string) {
	a := s.About(k)
	purpose, channel = cmp.Or(s.Say(a.Purpose.Label, locale), a.Purpose.Name, a.Group.Name, k.ID), cmp.Or(s.Say(a.Channel.Label, locale), a.Channel.Name)
	if party := s.Catalogue.OtherParty(a.Party.ID); party != "" {
		channel += ", " + party
	}
	return purpose, channel
}
