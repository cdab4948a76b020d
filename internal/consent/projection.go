package consent

import (
	"cmp"
	"math"
	"slices"
	"sort"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Projection is what is left of a citizen's history for answering "what applies
// now, and from now on": the candidates that can still win, nothing else, so that
// a read and a write cost no history. It is always derivable from the ledger by
// adding its records in the order in which they were recorded.
//
// The zero Projection belongs to a citizen with no history.
type Projection struct {
	candidates   []candidate   // by key, and within a key in the order of rules 2 and 3
	answers      []Submission  // by preference, and within one in the order of rules 2 and 3
	suppressions []Suppression // by Channel, and within one in that order
}

// Add takes in a transaction that has been stamped. A reversion undoes what the
// projection still holds of the transaction it names; what that one had displaced is
// in the ledger alone, so the whole must be folded anew.
func (p *Projection) Add(t Transaction) {
	evidence := &t.Evidence
	if !t.Reverts.IsZero() {
		for i := range p.candidates {
			if c := &p.candidates[i]; c.evidence.ID == t.Reverts {
				c.reverted = evidence
			}
		}
	}
	for _, c := range t.Changes {
		state := c.State
		if c.Upheld {
			state = ObjectionUpheld
		}
		p.insert(candidate{
			key: Key{c.OptionType, c.OptionID}, basis: c.Justification, state: state, from: c.ValidFrom, until: c.ValidUntil,
			medium: c.Medium, evidence: evidence,
		})
		for _, m := range c.Covers {
			p.insert(candidate{
				key: Key{OptionSingle, m.OptionID}, basis: c.Justification, state: state, from: c.ValidFrom, until: m.ValidUntil,
				medium: m.Medium, via: c.OptionID, evidence: evidence,
			})
		}
	}
}

// Answer takes in a submission that has been stamped.
func (p *Projection) Answer(s Submission) {
	at := sort.Search(len(p.answers), func(i int) bool {
		o := &p.answers[i]
		return cmp.Or(cmp.Compare(o.Answer.Preference, s.Answer.Preference), o.order(&s.Evidence)) > 0
	})
	p.answers = slices.Insert(p.answers, at, s)
}

// Suppress takes in that an address was put on the do-not-contact list, or taken off
// it.
func (p *Projection) Suppress(s Suppression) {
	at := sort.Search(len(p.suppressions), func(i int) bool {
		o := &p.suppressions[i]
		return cmp.Or(cmp.Compare(o.Medium, s.Medium), o.order(&s.Evidence)) > 0
	})
	p.suppressions = slices.Insert(p.suppressions, at, s)
}

// insert keeps the order; a tie goes to the later write.
func (p *Projection) insert(c candidate) {
	at := sort.Search(len(p.candidates), func(i int) bool {
		o := &p.candidates[i]
		return cmp.Or(o.key.compare(c.key), o.evidence.order(c.evidence)) > 0
	})
	p.candidates = slices.Insert(p.candidates, at, c)
}

func (k Key) compare(o Key) int {
	// Options, the truth for processing, come before groups.
	return cmp.Or(-cmp.Compare(k.Type, o.Type), cmp.Compare(k.ID, o.ID))
}

// runs calls visit with the candidates of each key in turn.
func (p *Projection) runs(visit func(run []candidate)) {
	eachRun(p.candidates, func(a, b *candidate) bool { return a.key == b.key }, visit)
}

func eachRun[T any](list []T, same func(a, b *T) bool, visit func(run []T)) {
	for i := 0; i < len(list); {
		j := i + 1
		for j < len(list) && same(&list[j], &list[i]) {
			j++
		}
		visit(list[i:j])
		i = j
	}
}

// decide applies the rules to the candidates of one key.
func (p *Projection) decide(run []candidate, t Instant) verdict {
	v := decide(run, t)
	if v.standing != nil {
		if s := p.suppression(v.standing.medium); s != nil && s.suppresses(v.standing) {
			v.suppressed = s
		}
	}
	return v
}

// suppression gives what the list says last of a Channel, nil for nothing.
func (p *Projection) suppression(medium string) *Suppression {
	for i := len(p.suppressions) - 1; i >= 0; i-- {
		if s := &p.suppressions[i]; s.Medium == medium {
			return s
		}
	}
	return nil
}

// Suppressed gives the Channels on which the citizen must not be contacted, each with the
// entry of the do-not-contact list that says so.
func (p *Projection) Suppressed() map[string]ID {
	entries := map[string]ID{}
	for i := range p.suppressions {
		if s := &p.suppressions[i]; s.Lifted {
			delete(entries, s.Medium)
		} else {
			entries[s.Medium] = s.Entry
		}
	}
	return entries
}

// Prune drops what can never again decide anything at now or later, whatever may
// still arrive.
func (p *Projection) Prune(now Instant) {
	kept := p.candidates[:0:0]
	p.runs(func(run []candidate) {
		live := slices.ContainsFunc(run, func(c candidate) bool { return c.started(now) && !c.ended(now) })
		ceased := decide(run, now).ceased
		for i := range run {
			c := &run[i]
			switch {
			case c.ended(now):
				if c == ceased && !live {
					kept = append(kept, *c)
				}
			case slices.ContainsFunc(run[i+1:], func(d candidate) bool { return d.outlasts(c, now) }):
			default:
				kept = append(kept, *c)
			}
		}
	})
	p.candidates = kept
	p.answers = lastOfEach(p.answers, func(a, b *Submission) bool { return a.Answer.Preference == b.Answer.Preference })
	p.suppressions = lastOfEach(p.suppressions, func(a, b *Suppression) bool { return a.Medium == b.Medium })
}

func lastOfEach[T any](list []T, same func(a, b *T) bool) []T {
	kept := list[:0:0]
	eachRun(list, same, func(run []T) { kept = append(kept, run[len(run)-1]) })
	return kept
}

// Effective gives the entries that apply at t, options before groups, each sorted
// by id.
func (p *Projection) Effective(t Instant) []Permission {
	list := make([]Permission, 0, len(p.candidates))
	p.runs(func(run []candidate) {
		if e, ok := p.decide(run, t).entry(); ok {
			list = append(list, e)
		}
	})
	return list
}

// Preferences gives the current answers, sorted by the reference of the preference.
func (p *Projection) Preferences() []CurrentPreference {
	list := make([]CurrentPreference, 0, len(p.answers))
	eachRun(p.answers, func(a, b *Submission) bool { return a.Answer.Preference == b.Answer.Preference }, func(run []Submission) {
		list = append(list, run[len(run)-1].current())
	})
	return list
}

// FullState gives everything that applies at t, what ceased included.
func (p *Projection) FullState(t Instant) FullState {
	list := make([]Permission, 0, len(p.candidates))
	p.runs(func(run []candidate) {
		v := p.decide(run, t)
		e, ok := v.entry()
		if !ok {
			e, ok = v.remnant()
		}
		if ok {
			list = append(list, e)
		}
	})
	return FullState{list, p.Preferences()}
}

// Throughout gives the entries of a history, pruned of nothing, that are valid at
// start and still at end: those that stand at both, from one and the same
// transaction. An answer obtained after an instant did not stand then.
func (p *Projection) Throughout(start, end Instant) []Permission {
	list := []Permission{}
	first := map[Key]ID{}
	for _, e := range p.AsOf(start).Effective(start) {
		first[e.key()] = e.TransactionID
	}
	for _, e := range p.AsOf(end).Effective(end) {
		if id, stood := first[e.key()]; stood && id == e.TransactionID {
			list = append(list, e)
		}
	}
	return list
}

// AsOf gives, of a history pruned of nothing, what had been obtained by t: an answer
// obtained later did not apply then.
func (p *Projection) AsOf(t Instant) *Projection {
	return &Projection{
		slices.DeleteFunc(slices.Clone(p.candidates), func(c candidate) bool { return c.evidence.obtained() > t }),
		slices.DeleteFunc(slices.Clone(p.answers), func(s Submission) bool { return s.obtained() > t }),
		slices.DeleteFunc(slices.Clone(p.suppressions), func(s Suppression) bool { return s.obtained() > t }),
	}
}

// Latest gives, of a history pruned of nothing, the entry of every key that ever
// had one: the standing one, or else the last one that stood, in the state in which
// it did. expired says which are of the latter kind.
func (p *Projection) Latest(t Instant) (list []Permission, expired []bool) {
	p.runs(func(run []candidate) {
		v := p.decide(run, t)
		if e, ok := v.entry(); ok {
			list, expired = append(list, e), append(expired, false)
		} else if e, ok := v.remnant(); ok {
			e.State = v.ceased.state
			list, expired = append(list, e), append(expired, true)
		}
	})
	return list, expired
}

// Pending gives the PENDING answers that wait beside a standing state at t
// (rule 6).
func (p *Projection) Pending(t Instant) []Permission {
	list := []Permission{}
	p.runs(func(run []candidate) {
		if v := p.decide(run, t); v.pending != nil {
			list = append(list, v.pending.entry(v.pending.evidence))
		}
	})
	return list
}

// Entry gives the effective entry of one key at t, and false where there is none.
func (p *Projection) Entry(k Key, t Instant) (e Permission, ok bool) {
	p.runs(func(run []candidate) {
		if run[0].key == k {
			e, ok = p.decide(run, t).entry()
		}
	})
	return e, ok
}

// RefusedAfter reports whether, of a history pruned of nothing, the key was refused later
// than by what a piece of evidence shows, and the refusal was not undone.
func (p *Projection) RefusedAfter(k Key, e *Evidence) bool {
	return slices.ContainsFunc(p.candidates, func(c candidate) bool {
		return c.key == k && c.state.Refusal() && c.reverted == nil && c.evidence.order(e) > 0
	})
}

// NextChange gives the first instant after t at which time alone may change the
// answer, zero when there is none.
func (p *Projection) NextChange(t Instant) Instant {
	next := Instant(math.MaxInt64)
	for i := range p.candidates {
		c := &p.candidates[i]
		for _, at := range [2]Instant{c.from, c.end()} {
			if at > t {
				next = min(next, at)
			}
		}
	}
	if next == math.MaxInt64 {
		return 0
	}
	return next
}

// stored is the form of a Projection in the store: evidence once per record,
// whatever number of candidates share it.
type stored struct {
	Evidence     []*Evidence         `json:"e"`
	Candidates   []storedCandidate   `json:"c"`
	Answers      []storedAnswer      `json:"a,omitzero"`
	Suppressions []storedSuppression `json:"x,omitzero"`
}

type storedCandidate struct {
	Group    bool          `json:"g,omitzero"`
	ID       string        `json:"o"`
	Basis    Justification `json:"j"`
	State    State         `json:"s"`
	From     Instant       `json:"f,omitzero"`
	Until    Instant       `json:"u,omitzero"`
	Medium   string        `json:"m,omitzero"`
	Via      string        `json:"v,omitzero"`
	Evidence int           `json:"e"`
	Reverted *int          `json:"r,omitzero"` // the evidence of the reversion
}

type storedAnswer struct {
	Answer
	Evidence int `json:"e"`
}

type storedSuppression struct {
	Medium   string `json:"m"`
	Entry    ID     `json:"n,omitzero"`
	Lifted   bool   `json:"l,omitzero"`
	Evidence int    `json:"e"`
}

// keep gives the place of a piece of evidence.
func (s *stored) keep(e *Evidence) int {
	at := slices.IndexFunc(s.Evidence, func(known *Evidence) bool { return known.ID == e.ID })
	if at < 0 {
		at = len(s.Evidence)
		s.Evidence = append(s.Evidence, e)
	}
	return at
}

// MarshalJSONTo writes the stored form; equal projections give equal bytes.
func (p *Projection) MarshalJSONTo(e *jsontext.Encoder) error {
	out := stored{Evidence: []*Evidence{}, Candidates: make([]storedCandidate, len(p.candidates))}
	for i, c := range p.candidates {
		out.Candidates[i] = storedCandidate{c.key.Type == OptionGroup, c.key.ID, c.basis, c.state, c.from, c.until, c.medium, c.via, out.keep(c.evidence), nil}
		if c.reverted != nil {
			at := out.keep(c.reverted)
			out.Candidates[i].Reverted = &at
		}
	}
	for i := range p.answers {
		out.Answers = append(out.Answers, storedAnswer{p.answers[i].Answer, out.keep(&p.answers[i].Evidence)})
	}
	for i := range p.suppressions {
		s := &p.suppressions[i]
		out.Suppressions = append(out.Suppressions, storedSuppression{s.Medium, s.Entry, s.Lifted, out.keep(&s.Evidence)})
	}
	return json.MarshalEncode(e, &out)
}

// UnmarshalJSONFrom reads the stored form.
func (p *Projection) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	var in stored
	if err := json.UnmarshalDecode(d, &in); err != nil {
		return err
	}
	*p = Projection{candidates: make([]candidate, len(in.Candidates))}
	for i, c := range in.Candidates {
		k := Key{OptionSingle, c.ID}
		if c.Group {
			k.Type = OptionGroup
		}
		p.candidates[i] = candidate{k, c.Basis, c.State, c.From, c.Until, c.Medium, c.Via, in.Evidence[c.Evidence], nil}
		if c.Reverted != nil {
			p.candidates[i].reverted = in.Evidence[*c.Reverted]
		}
	}
	for _, a := range in.Answers {
		p.answers = append(p.answers, Submission{*in.Evidence[a.Evidence], a.Answer})
	}
	for _, s := range in.Suppressions {
		p.suppressions = append(p.suppressions, Suppression{*in.Evidence[s.Evidence], s.Medium, s.Entry, s.Lifted})
	}
	return nil
}
