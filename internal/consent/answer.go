package consent

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// FormAnswers is what a form says that came back, checked against the catalogue.
type FormAnswers struct {
	Parts   []FormPart // one for each statement that stands above an answer
	Answers []Answer   // to preferences
	doubts  []doubt
}

// doubt is a block of a single choice of which selectedChoice says one thing and its
// choices another: only the state of the citizen shows which of the two was changed.
type doubt struct {
	at, preference string
	one, many      []Chosen // by selectedChoice, nil for null, and by the choices
}

// FormPart is the answers under one statement.
type FormPart struct {
	Statement *Citation // nil where the form names none
	Changes   []Change
	selected  []bool // what was answered, one for each change
}

// FormProof is what is proven of a form that came back: what was shown, and the template
// as it was then.
type FormProof struct {
	Shown
	Revision Template
}

// The most that a form may hold.
const maxFormAnswers = 200

// ResolveForm reads a form that came back: the state that each answer means, the
// statement in the version that was shown where proof, which may be nil, says so, and
// else in the newest one. pending makes grants wait for a confirmation. Faults carry
// every fault found, with locations under "blocks".
func (s *Snapshot) ResolveForm(f Form, proof *FormProof, pending bool, faults *Faults) FormAnswers {
	r := formReader{Snapshot: s, proof: proof, pending: pending, faults: faults, options: map[Key]FormOption{}, answers: map[string]Answer{}}
	for i, b := range f.Blocks {
		at := at("blocks", i)
		switch b.Type {
		case PermissionsBlock:
			r.permissions(at, b)
		case MultiChoiceBlock, SingleChoiceBlock:
			r.preference(at, b)
		case TextBlock:
		default:
			faults.Add(at+".type", "must be %s, %s, %s or %s", PermissionsBlock, MultiChoiceBlock, SingleChoiceBlock, TextBlock)
		}
	}
	if len(r.options) > maxFormAnswers || len(r.out.Answers) > maxFormAnswers {
		faults.Add("blocks", "must hold at most %d options and %d preferences", maxFormAnswers, maxFormAnswers)
	}
	r.mandatory(f)
	return r.out
}

type formReader struct {
	*Snapshot
	proof   *FormProof
	pending bool
	faults  *Faults
	out     FormAnswers
	options map[Key]FormOption // that were answered
	answers map[string]Answer  // by preference
}

func (r *formReader) permissions(at string, b FormBlock) {
	statement := r.statement(at+".statement", b.Statement)
	for i, o := range b.Options {
		if o.Selected != nil {
			r.option(fmt.Sprintf("%s.options[%d]", at, i), o, statement)
		}
	}
}

// statement finds the one that a block names, nil where it names none.
func (r *formReader) statement(at string, named *FormStatement) *Citation {
	if named == nil || named.Reference == "" && named.ID == "" {
		return nil
	}
	if r.proof != nil {
		for _, c := range r.proof.Statements {
			if names(c, named.ID, named.Reference) {
				return &c
			}
		}
		r.faults.Add(at, "was not shown by the form of the snapshot")
		return nil
	}
	c, ok := r.Statement(cmp.Or(named.ID, named.Reference))
	if !ok || !names(c, named.ID, named.Reference) {
		r.faults.Add(at, "names no statement of the catalogue of the application")
		return nil
	}
	c.Unproven = true
	return &c
}

// names reports whether a document is the one of that id, or of that reference, or of
// both where both are given.
func names(c Citation, id, ref string) bool {
	return (id == "" || id == c.ID || id == c.Ref) && (ref == "" || ref == c.Ref)
}

func (r *formReader) option(at string, o FormOption, statement *Citation) {
	if o.OptionType == "" {
		o.OptionType = OptionSingle
	}
	change := Change{OptionType: o.OptionType, OptionID: o.OptionID, Justification: o.Justification, State: r.means(o)}
	if change.State == "" && slices.Contains(Justifications, o.Justification) {
		r.faults.Add(at+".selected", "must be null: what rests on %s is told, not asked", o.Justification)
		return
	}
	var found Faults
	resolved, _ := r.Resolve([]Change{change}, &found)
	for _, f := range found {
		if within := strings.TrimPrefix(f.Location, "changes[0]"); within != ".state" {
			r.faults.Add(at+within, "%s", f.Message)
		}
	}
	if r.proof != nil && found == nil {
		if statement = r.offered(o, statement); statement == nil {
			r.faults.Add(at, "was not offered like this by the form of the snapshot")
		} else if statement.ID == "" {
			statement = nil
		}
	}
	key := Key{o.OptionType, o.OptionID}
	if earlier, twice := r.options[key]; twice {
		if *earlier.Selected != *o.Selected || earlier.Justification != o.Justification {
			r.faults.Add(at+".selected", "differs from another answer to the same option")
		}
		return
	}
	r.options[key] = o
	r.add(statement, resolved[0], *o.Selected)
}

// means gives the state that an answer means, empty on a lawful basis that does not ask.
func (r *formReader) means(o FormOption) State {
	switch {
	case o.Justification == Consent && !*o.Selected:
		return Denied
	case o.Justification == Consent && r.pending:
		return Pending
	case o.Justification == Consent:
		return Granted
	case o.Justification == LegitimateInterest && *o.Selected:
		return Claimed
	case o.Justification == LegitimateInterest:
		return Objected
	}
	return ""
}

// offered finds the statement under which the template, as it was shown, offered an
// option: the one that is named, or any. It is the zero Citation where the template has
// none there, and nil where it did not offer the option.
func (r *formReader) offered(o FormOption, named *Citation) *Citation {
	for _, b := range r.proof.Revision.Blocks {
		if named != nil && named.Ref != b.Statement {
			continue
		}
		for _, v := range b.Options {
			if v.Justification != o.Justification || (o.OptionType == OptionGroup) != (v.OptionGroup != "") || v.Option+v.OptionGroup != o.OptionID {
				continue
			}
			for _, c := range r.proof.Statements {
				if c.Ref == b.Statement {
					return &c
				}
			}
			if b.Statement == "" {
				return &Citation{}
			}
		}
	}
	return nil
}

// add adds a change to the part of its statement.
func (r *formReader) add(statement *Citation, c Change, selected bool) {
	at := slices.IndexFunc(r.out.Parts, func(p FormPart) bool {
		return p.Statement == nil && statement == nil || p.Statement != nil && statement != nil && *p.Statement == *statement
	})
	if at < 0 {
		at = len(r.out.Parts)
		r.out.Parts = append(r.out.Parts, FormPart{Statement: statement})
	}
	p := &r.out.Parts[at]
	p.Changes, p.selected = append(p.Changes, c), append(p.selected, selected)
}

// preference reads the answer to a preference, by the preference's own kind.
func (r *formReader) preference(at string, b FormBlock) {
	p := r.preferences[b.Reference]
	if p == nil {
		r.faults.Add(at+".reference", "names no preference of the application")
		return
	}
	if r.proof != nil && !slices.ContainsFunc(r.proof.Revision.Blocks, func(t Block) bool { return t.Preference == b.Reference }) {
		r.faults.Add(at+".reference", "was not asked by the form of the snapshot")
	}
	choices, field, given := p.read(b)
	if many := selectedOf(b); p.Kind == SingleChoice && field == ".selectedChoice" && len(many) > 0 && !sameChoices(choices, many) {
		r.out.doubts = append(r.out.doubts, doubt{at + ".choices", p.Reference, choices, many})
	}
	if !given {
		return
	}
	var found Faults
	answer := r.ResolveAnswers([]Answer{{Preference: b.Reference, Choices: choices}}, &found)[0]
	for _, f := range found {
		r.faults.Add(at+field, "%s", f.Message)
	}
	if earlier, twice := r.answers[b.Reference]; !twice {
		r.answers[b.Reference] = answer
		r.out.Answers = append(r.out.Answers, answer)
	} else if !sameChoices(earlier.Choices, answer.Choices) {
		r.faults.Add(at, "differs from another answer to the same preference")
	}
}

// read gives what a block chooses and the field that says so; not given means that it
// says nothing, as where the preference was never answered. Of a single choice that is
// selectedChoice, even null, and only where that is left out the choices.
func (p *Preference) read(b FormBlock) (choices []Chosen, field string, given bool) {
	single := p.Kind == SingleChoice
	switch {
	case b.SelectedChoice != nil && (single || len(b.Choices) == 0):
		choices = []Chosen{}
		if *b.SelectedChoice != "" {
			choices = append(choices, Chosen{Reference: *b.SelectedChoice})
		}
		return choices, ".selectedChoice", true
	case b.NullChoice && single:
		return nil, ".selectedChoice", false
	}
	choices = selectedOf(b)
	return choices, ".choices", len(choices) > 0 || !single && len(b.Choices) > 0
}

// selectedOf gives the choices of a block that say that they are selected.
func selectedOf(b FormBlock) []Chosen {
	list := []Chosen{}
	for _, c := range b.Choices {
		if c.Selected {
			list = append(list, Chosen{Reference: c.Reference})
		}
	}
	return list
}

// Doubtful reports whether Agree must be asked.
func (a FormAnswers) Doubtful() bool { return a.doubts != nil }

// Agree holds that of a single choice selectedChoice and the choices do not contradict
// each other, by the state of the citizen who answers. Choices that say what stands are
// what an older form said of them, and selectedChoice is what was changed. Where it is
// selectedChoice that says what stands, or nothing, or nothing stands of which an older
// form could have told, the choices were changed, which would be lost.
func (a FormAnswers) Agree(p *Projection, faults *Faults) {
	for _, d := range a.doubts {
		now := p.chosen(d.preference)
		if !sameChoices(d.many, now) && (d.one == nil || now == nil || sameChoices(d.one, now)) {
			faults.Add(d.at, "must not say that another choice is selected than selectedChoice says; one that is changed is changed there")
		}
	}
}

// mandatory checks that the preferences are answered which a form that is not empty says
// must be, or the rules by which it was shown.
func (r *formReader) mandatory(f Form) {
	name := f.RuleSet
	if r.proof != nil {
		name = r.proof.RuleSet
	}
	rules := r.RuleSet(name)
	if name != "" && rules == nil && r.proof == nil {
		r.faults.Add("ruleId", "names no rule set of the application")
	}
	answered := func(reference string) bool { return len(r.answers[reference].Choices) > 0 }
	for i, b := range f.Blocks {
		must := b.Mandatory || rules != nil && rules.mandatory(b.Reference)
		if b.Type != TextBlock && b.Type != PermissionsBlock && must && !answered(b.Reference) {
			r.faults.Add(at("blocks", i), "must be answered")
		}
	}
	if rules == nil || len(f.Blocks) == 0 {
		return
	}
	asked := Template{}
	if r.proof != nil {
		asked = r.proof.Revision
	} else if t, ok := r.Template(f.TemplateID); ok {
		asked = t.Template
	}
	for _, b := range asked.Blocks {
		posted := slices.ContainsFunc(f.Blocks, func(p FormBlock) bool { return p.Reference == b.Preference })
		if b.Preference != "" && rules.mandatory(b.Preference) && !posted {
			r.faults.Add("blocks", "must answer the preference %q", b.Preference)
		}
	}
}

// Against leaves what differs from the state of a citizen at an instant: the answers
// that are not what the form would show then.
func (a FormAnswers) Against(p *Projection, at Instant) FormAnswers {
	var out FormAnswers
	waiting := p.Pending(at)
	for _, part := range a.Parts {
		left := FormPart{Statement: part.Statement}
		for i, c := range part.Changes {
			e, _ := p.Entry(Key{c.OptionType, c.OptionID}, at)
			reads := e.selected(c.Justification)
			same := func(e Permission) bool {
				return e.key() == Key{c.OptionType, c.OptionID} && e.Justification == c.Justification && e.State == c.State
			}
			if reads != nil && *reads == part.selected[i] || same(e) || slices.ContainsFunc(waiting, same) {
				continue
			}
			left.Changes = append(left.Changes, c)
		}
		if left.Changes != nil {
			out.Parts = append(out.Parts, left)
		}
	}
	for _, answer := range a.Answers {
		if !sameChoices(p.chosen(answer.Preference), answer.Choices) {
			out.Answers = append(out.Answers, answer)
		}
	}
	return out
}

// chosen gives what is chosen of a preference now.
func (p *Projection) chosen(preference string) (list []Chosen) {
	for _, v := range p.Preferences() {
		if v.Preference == preference {
			for _, c := range v.Choices {
				list = append(list, Chosen{Reference: c.Reference})
			}
		}
	}
	return list
}

// sameChoices reports whether two answers choose the same, in whatever order.
func sameChoices(a, b []Chosen) bool {
	in := func(list []Chosen) func(Chosen) bool {
		return func(c Chosen) bool {
			return !slices.ContainsFunc(list, func(o Chosen) bool { return o.Reference == c.Reference })
		}
	}
	return !slices.ContainsFunc(a, in(b)) && !slices.ContainsFunc(b, in(a))
}
