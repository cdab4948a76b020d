package consent

import "testing"

// A form reaches people by telephone where they can consent to something on a channel that
// says so, by itself or in a group.
func TestWhatAFormReaches(t *testing.T) {
	s := index(t, parseCatalogue(t, []byte(`
application: {name: Northwind}
parties: [{id: northwind, name: Northwind}]
purposes: [{id: offers, name: Offers}]
channels: [{id: email, name: E-mail, contact: email}, {id: sms, name: SMS, contact: telephone}, {id: post, name: Post}]
options:
  - {id: by-email, party: northwind, purpose: offers, channel: email, justifications: [{basis: consent}]}
  - {id: by-sms, party: northwind, purpose: offers, channel: sms, justifications: [{basis: consent}, {basis: contract}]}
  - {id: by-post, party: northwind, purpose: offers, channel: post, justifications: [{basis: consent}]}
optionGroups: [{id: written, name: Written, options: [by-email, by-post]}, {id: all, name: All, options: [by-email, by-sms, by-post]}]
`)))
	offer := func(kind OptionType, id string, basis Justification) FormOption {
		return FormOption{OptionType: kind, OptionID: id, Justification: basis}
	}
	for name, c := range map[string]struct {
		offers           []FormOption
		email, telephone bool
	}{
		"nothing":                  {nil, false, false},
		"by e-mail":                {[]FormOption{offer(OptionSingle, "by-email", Consent)}, true, false},
		"by both":                  {[]FormOption{offer(OptionSingle, "by-email", Consent), offer(OptionSingle, "by-sms", Consent)}, true, true},
		"by post":                  {[]FormOption{offer(OptionSingle, "by-post", Consent)}, false, false},
		"by SMS, which is owed":    {[]FormOption{offer(OptionSingle, "by-sms", Contract)}, false, false},
		"a group without SMS":      {[]FormOption{offer(OptionGroup, "written", Consent)}, true, false},
		"a group with SMS":         {[]FormOption{offer(OptionGroup, "all", Consent)}, true, true},
		"what was archived":        {[]FormOption{offer(OptionSingle, "gone", Consent), offer(OptionGroup, "gone", Consent)}, false, false},
		"an option, not the group": {[]FormOption{offer(OptionSingle, "all", Consent)}, false, false},
	} {
		f := Form{Blocks: []FormBlock{{Type: "text"}, {Type: "permissions", Options: c.offers}}}
		if email, telephone := s.Reaches(f, EmailContact), s.Reaches(f, TelephoneContact); email != c.email || telephone != c.telephone {
			t.Errorf("%s: by e-mail %t, by telephone %t", name, email, telephone)
		}
	}
}

func TestTheContactOfAChannelIsKnown(t *testing.T) {
	c, err := ParseCatalogue([]byte(`
application: {name: Northwind}
channels: [{id: email, name: E-mail, contact: email}, {id: pigeon, name: Pigeon, contact: pigeon}, {id: post, name: Post}]
`))
	if err != nil {
		t.Fatal(err)
	}
	if list := fieldsOf(c.Check()); len(list) != 1 || list[0].Location != "channels[1].contact" {
		t.Errorf("the faults are %+v", list)
	}
}
