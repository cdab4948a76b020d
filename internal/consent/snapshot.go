package consent

import "fmt"

// Revision is one version of a catalogue item.
type Revision struct {
	Item
	ID       string // what the API calls the item: the key itself, or an id made by the server
	Revision int64  // counts the versions of this item from 1
	Archived bool
	Position int // within the document

	RecordedAt Instant
	RecordedBy string // the credential, or operator
}

// Snapshot is the catalogue of one application as it is at one revision, indexed
// for validation. It never changes, so it can be shared without locks.
type Snapshot struct {
	ApplicationID string
	Application   int64 // the store's number for it
	Revision      int64
	Catalogue     Catalogue // without what is archived
	options       map[string]*Option
	groups        map[string]*OptionGroupItem
	preferences   map[string]*Preference
	policies      map[string]Citation // by id and by reference
	statements    map[string]Citation
	templates     map[string]TemplateRevision
	rules         map[string]*RuleSet
	wordings      map[string]*PermissionStatement // by reference
	documents     map[string]*PrivacyPolicy       // by reference
	parties       map[string]*Party
	purposes      map[string]*Purpose
	channels      map[string]*Channel
}

// NewSnapshot indexes the newest revisions of an application's items.
func NewSnapshot(applicationID string, application, revision int64, items []Revision) (*Snapshot, error) {
	s := &Snapshot{
		ApplicationID: applicationID, Application: application, Revision: revision,
		policies: map[string]Citation{}, statements: map[string]Citation{}, templates: map[string]TemplateRevision{},
	}
	var live []Item
	var templates []Citation
	for _, it := range items {
		if it.Archived {
			continue
		}
		live = append(live, it.Item)
		cited := Citation{ID: it.ID, Ref: it.Key, Version: it.Revision}
		switch it.Kind {
		case KindPolicy:
			s.policies[it.ID], s.policies[it.Key] = cited, cited
		case KindStatement:
			s.statements[it.ID], s.statements[it.Key] = cited, cited
		case KindTemplate:
			templates = append(templates, cited)
		}
	}
	var err error
	if s.Catalogue, err = Assemble(live); err != nil {
		return nil, err
	}
	s.options, s.groups, s.preferences = byKey(s.Catalogue.Options), byKey(s.Catalogue.OptionGroups), byKey(s.Catalogue.Preferences)
	for i, t := range s.Catalogue.Templates {
		shown := TemplateRevision{templates[i], t}
		s.templates[shown.ID], s.templates[shown.Ref] = shown, shown
	}
	s.rules, s.wordings, s.documents = byKey(s.Catalogue.RuleSets), byKey(s.Catalogue.PermissionStatements), byKey(s.Catalogue.PrivacyPolicies)
	s.parties, s.purposes, s.channels = byKey(s.Catalogue.Parties), byKey(s.Catalogue.Purposes), byKey(s.Catalogue.Channels)
	return s, nil
}

// byKey indexes a list of a catalogue.
func byKey[T Part](list []T) map[string]*T {
	index := make(map[string]*T, len(list))
	for i := range list {
		_, key := list[i].Named()
		index[key] = &list[i]
	}
	return index
}

// Policy finds a privacy policy by id or reference, in its newest version.
func (s *Snapshot) Policy(idOrRef string) (Citation, bool) {
	c, ok := s.policies[idOrRef]
	return c, ok
}

// Statement finds a permission statement by id or reference, in its newest
// version.
func (s *Snapshot) Statement(idOrRef string) (Citation, bool) {
	c, ok := s.statements[idOrRef]
	return c, ok
}

// Template finds a template by id or reference, in its newest version.
func (s *Snapshot) Template(idOrRef string) (TemplateRevision, bool) {
	t, ok := s.templates[idOrRef]
	return t, ok
}

// RuleSet finds a rule set by its reference, nil where there is none.
func (s *Snapshot) RuleSet(reference string) *RuleSet { return s.rules[reference] }

// HasOption reports whether an option, or a group, of that id can be answered.
func (s *Snapshot) HasOption(k Key) bool {
	if k.Type == OptionGroup {
		return s.groups[k.ID] != nil
	}
	return s.options[k.ID] != nil
}

// Resolve checks changes against the catalogue and the legal table and completes
// them: an objection is marked as upheld unless it is reviewed by hand (rule 7), a
// group change names the members it answers for (rule 8), and each knows the
// default validity that Stamp applies. Faults carry every fault found, with
// locations under "changes"; the warnings are sentences for the answer.
func (s *Snapshot) Resolve(changes []Change, faults *Faults) (resolved []Change, warnings []string) {
	for i, c := range changes {
		at := fmt.Sprintf("changes[%d]", i)
		before := len(*faults)
		if c.OptionType == "" {
			c.OptionType = OptionSingle
		}
		if c.Justification.States() == nil {
			faults.Add(at+".justification", "must be one of %s", join(Justifications))
		} else if !c.Justification.Allows(c.State) {
			faults.Add(at+".state", "%s is not allowed under the lawful basis %s, which allows %s", c.State.named(), c.Justification, join(c.Justification.States()))
		}
		if c.ValidFrom != 0 && c.ValidUntil != 0 && c.ValidUntil <= c.ValidFrom {
			faults.Add(at+".validUntil", "must be later than validFrom")
		}
		switch c.OptionType {
		case OptionSingle:
			o := s.options[c.OptionID]
			if o == nil {
				faults.Add(at+".optionId", "names no option of the application")
				break
			}
			allowed, ok := o.Basis(c.Justification)
			if !ok && c.Justification.States() != nil {
				faults.Add(at+".justification", "the option %q does not allow the lawful basis %s; it allows %s", o.ID, c.Justification, o.bases())
			}
			c.basis, c.Medium = allowed, o.Channel
		case OptionGroup:
			g := s.groups[c.OptionID]
			if g == nil {
				faults.Add(at+".optionId", "names no option group of the application")
				break
			}
			for _, id := range g.Options {
				if o := s.options[id]; o != nil {
					if allowed, ok := o.Basis(c.Justification); ok {
						c.Covers = append(c.Covers, Cover{OptionID: id, Medium: o.Channel, basis: allowed})
					}
				}
			}
			if len(c.Covers) == 0 && c.Justification.States() != nil {
				faults.Add(at+".justification", "no option of the group %q allows the lawful basis %s", g.ID, c.Justification)
			}
		default:
			faults.Add(at+".optionType", "must be %s or %s", OptionSingle, OptionGroup)
		}
		if len(*faults) == before && c.State.Refusal() && c.ValidUntil != 0 {
			warnings = append(warnings, fmt.Sprintf("%s.validUntil is recorded but ends nothing: a refusal (%s) has no end.", at, c.State))
		}
		c.Upheld = c.State == Objected && !s.reviewedByHand(c)
		resolved = append(resolved, c)
	}
	return resolved, warnings
}

func (o *Option) bases() string {
	list := make([]Justification, len(o.Justifications))
	for i, j := range o.Justifications {
		list[i] = j.Basis
	}
	return join(list)
}

// reviewedByHand reports whether an objection of this change waits for a decision
// (rule 7): only where the application reviews, and never for direct marketing.
func (s *Snapshot) reviewedByHand(c Change) bool {
	if !s.Catalogue.Application.ReviewObjections {
		return false
	}
	reviewed := func(id string) bool { o := s.options[id]; return o != nil && !s.marketing(o) }
	if c.OptionType == OptionSingle {
		return reviewed(c.OptionID)
	}
	for _, m := range c.Covers {
		if !reviewed(m.OptionID) {
			return false
		}
	}
	return true
}

// marketing reports whether the purpose of an option is direct marketing.
func (s *Snapshot) marketing(o *Option) bool {
	p := s.purposes[o.Purpose]
	return p != nil && p.DirectMarketing
}

// CheckObtainedAt refuses an obtainedAt more than five minutes in the future
// (rule 3).
func CheckObtainedAt(obtained, now Instant, faults *Faults) {
	if obtained > now+maxClockSkew {
		faults.Add("obtainedAt", "must not lie more than 5 minutes in the future")
	}
}
