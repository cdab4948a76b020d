package consent

import (
	"cmp"
	"slices"
)

// The types of block, as published.
const (
	PermissionsBlock  = "permissions"
	MultiChoiceBlock  = "multi-choice-preference"
	SingleChoiceBlock = "single-choice-preference"
	TextBlock         = "text"
)

// TemplateRevision is a template as it is in one revision.
type TemplateRevision struct {
	Citation
	Template
}

// FormQuestion asks for the form of a template.
type FormQuestion struct {
	Template TemplateRevision
	Rules    *RuleSet    // nil shows everything
	Locale   string      // one that the template has
	State    *Projection // nil for nobody who is known
	At       Instant
}

// Shown says in which versions a form is shown, and in which language.
type Shown struct {
	Template   Citation   `json:"t"`
	Policy     *Citation  `json:"p,omitzero"`
	Statements []Citation `json:"s,omitzero"`
	Locale     string     `json:"l"`
	RuleSet    string     `json:"r,omitzero"`
}

// Form merges a template with what applies to a citizen. What a template names and the
// catalogue has no more, as a draft may, is left out.
func (s *Snapshot) Form(q FormQuestion) (Form, Shown) {
	if q.State == nil {
		q.State = &Projection{}
	}
	m := merger{Snapshot: s, q: q, now: map[Key]Permission{}, answers: map[string][]CurrentChoice{}}
	for _, e := range q.State.Effective(q.At) {
		m.now[e.key()] = e
	}
	for _, a := range q.State.Preferences() {
		m.answers[a.Preference] = a.Choices
	}
	f := Form{ApplicationID: s.ApplicationID, TemplateID: q.Template.ID, Locale: q.Locale, Locales: s.Locales(&q.Template.Template), Blocks: []FormBlock{}}
	m.shown.Template, m.shown.Locale = q.Template.Citation, q.Locale
	if q.Rules != nil {
		f.RuleSet, m.shown.RuleSet = q.Rules.Reference, q.Rules.Reference
	}
	f.PrivacyPolicy = m.policy()
	for _, b := range q.Template.Blocks {
		if block, ok := m.block(b); ok {
			f.Blocks = append(f.Blocks, block)
		}
	}
	if m.hidden && !m.asks {
		f.Blocks = []FormBlock{}
	}
	m.cite(f.Blocks)
	return f, m.shown
}

// merger makes one form.
type merger struct {
	*Snapshot
	q       FormQuestion
	now     map[Key]Permission
	answers map[string][]CurrentChoice
	shown   Shown

	offered int  // options so far that can be answered
	hidden  bool // rules have left out an option
	asks    bool // something is left to be answered
}

func (m *merger) say(l Localised) string { return m.sayIn(l, m.q.Locale) }

func (m *merger) policy() *FormPolicy {
	p := m.documents[m.q.Template.PrivacyPolicy]
	if p == nil {
		return nil
	}
	c := m.policies[p.Reference]
	m.shown.Policy = &c
	last := p.Versions[len(p.Versions)-1]
	return &FormPolicy{c.ID, c.Ref, cmp.Or(m.say(p.Label), p.Name), last.Version, last.URL}
}

// cite notes the statements that are shown.
func (m *merger) cite(blocks []FormBlock) {
	seen := map[string]bool{}
	for _, b := range blocks {
		if b.Statement != nil && !seen[b.Statement.ID] {
			seen[b.Statement.ID] = true
			m.shown.Statements = append(m.shown.Statements, m.statements[b.Statement.ID])
		}
	}
}

// block gives a block of the form, and false for one that the rules leave out.
func (m *merger) block(b Block) (FormBlock, bool) {
	out := FormBlock{Type: b.Type, Heading: m.say(b.Heading)}
	switch b.Type {
	case PermissionsBlock:
		out.Options = []FormOption{}
		for _, o := range b.Options {
			if option, ok := m.option(o); ok {
				out.Options = append(out.Options, option)
			}
		}
		if w := m.wordings[b.Statement]; w != nil {
			c, text := m.statements[w.Reference], m.say(w.Text)
			content, plain := ParseRichText(text)
			out.Statement = &FormStatement{c.ID, c.Ref, c.Version, plain, content}
		}
		return out, len(out.Options) > 0 || len(b.Options) == 0
	case TextBlock:
		out.Content, out.Text = ParseRichText(m.say(b.Text))
		return out, true
	}
	p := m.preferences[b.Preference]
	if p == nil {
		return out, false
	}
	m.preference(&out, p)
	return out, true
}

func (m *merger) preference(out *FormBlock, p *Preference) {
	out.Type, out.Reference, out.Label = p.Kind+"-preference", p.Reference, m.say(p.Label)
	chosen := map[string]bool{}
	for _, c := range m.answers[p.Reference] {
		chosen[c.Reference] = true
	}
	for _, c := range p.Choices {
		out.Choices = append(out.Choices, FormChoice{c.Reference, m.say(c.Label), chosen[c.Reference] && p.Kind == MultiChoice})
		if chosen[c.Reference] && p.Kind == SingleChoice {
			out.SelectedChoice = &c.Reference
		}
	}
	if m.q.Rules != nil {
		out.Mandatory = m.q.Rules.mandatory(p.Reference)
		m.asks = m.asks || out.Mandatory && len(chosen) == 0
	}
}

// option gives an option of the form, and false for one that the rules leave out or
// that there is none of.
func (m *merger) option(b BlockOption) (FormOption, bool) {
	out := FormOption{Justification: b.Justification, Description: m.say(b.Description)}
	var mediums []string
	if g := m.groups[b.OptionGroup]; g != nil {
		out.OptionType, out.OptionID, out.Label = OptionGroup, g.ID, cmp.Or(m.say(b.Label), g.Name)
		mediums = m.mediums(g)
		out.DirectMarketing = !slices.ContainsFunc(g.Options, func(id string) bool { return m.options[id] == nil || !m.marketing(m.options[id]) })
	} else if o := m.options[b.Option]; o != nil {
		out.OptionType, out.OptionID = OptionSingle, o.ID
		m.describe(&out, o)
		out.Label = cmp.Or(m.say(b.Label), o.Name, out.Purpose.Name)
		mediums = []string{o.Channel}
	} else {
		return out, false
	}
	if b.Card != nil {
		out.Card = &FormCard{m.say(b.Card.On), m.say(b.Card.Off)}
	}
	e, known := m.now[Key{out.OptionType, out.OptionID}]
	if known {
		out.State, out.ValidUntil = &e.State, e.ValidUntil
	}
	out.Selected = e.selected(b.Justification)
	if m.q.Rules != nil && m.q.Rules.hides(e.State, Instant(e.ValidUntil), mediums, m.q.At) {
		m.hidden = true
		return out, false
	}
	if b.Justification.Answerable() {
		if m.q.Rules != nil && m.q.Rules.MaxOptions != nil && m.offered == *m.q.Rules.MaxOptions {
			return out, false
		}
		m.offered, m.asks = m.offered+1, true
	}
	return out, true
}

func (m *merger) describe(out *FormOption, o *Option) {
	a := m.About(Key{OptionSingle, o.ID})
	out.Party, out.Purpose, out.Channel = &FormName{o.Party, a.Party.Name}, &FormName{o.Purpose, cmp.Or(m.say(a.Purpose.Label), a.Purpose.Name)}, &FormName{o.Channel, cmp.Or(m.say(a.Channel.Label), a.Channel.Name)}
	out.DirectMarketing = m.marketing(o)
	_, listed := m.q.State.Suppressed()[o.Channel]
	out.Suppressed = listed && (out.Justification == Consent || out.Justification == LegitimateInterest)
}

// mediums are the channels of the options of a group.
func (s *Snapshot) mediums(g *OptionGroupItem) (list []string) {
	for _, id := range g.Options {
		if o := s.options[id]; o != nil {
			list = append(list, o.Channel)
		}
	}
	return list
}

// Reaches reports whether a form lets somebody consent to what reaches them at a kind of
// address.
func (s *Snapshot) Reaches(f Form, kind ContactKind) bool {
	by := func(channel string) bool { return s.channels[channel] != nil && s.channels[channel].Contact == kind }
	for _, b := range f.Blocks {
		for _, o := range b.Options {
			if o.Justification != Consent {
				continue
			}
			if o.OptionType == OptionGroup {
				if g := s.groups[o.OptionID]; g != nil && slices.ContainsFunc(s.mediums(g), by) {
					return true
				}
			} else if option := s.options[o.OptionID]; option != nil && by(option.Channel) {
				return true
			}
		}
	}
	return false
}

// Answerable reports whether a person can say yes or no on this lawful basis; the
// others are told.
func (j Justification) Answerable() bool { return j == Consent || j == LegitimateInterest }

// selected gives how an entry reads in a form that offers its option on a lawful basis:
// yes, no, or nil for not answered. A no on one basis is a no on every one; a yes is not.
// What is PENDING is neither: sending it back must not grant it.
func (p *Permission) selected(basis Justification) *bool {
	yes, no := true, false
	switch {
	case !basis.Answerable():
	case p.State.Refusal():
		return &no
	case p.Justification == basis && (p.State == Granted || p.State == Claimed):
		return &yes
	}
	return nil
}
