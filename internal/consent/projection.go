package consent

import (
	"cmp"
	"encoding/json"
	"math"
	"slices"
	"sort"
)

// Key names an entry of a citizen's effective state.
type Key struct {
	Type OptionType
	ID   string
}

func (k Key) compare(o Key) int {
	// Options, the truth for processing, come before groups.
	return cmp.Or(-cmp.Compare(k.Type, o.Type), cmp.Compare(k.ID, o.ID))
}

// candidate is one recorded answer to one key. It keeps what is needed to decide
// and to show the entry it becomes when it wins.
type candidate struct {
	key      Key
	basis    Justification
	state    State
	from     Instant
	until    Instant // as recorded; ends nothing for a refusal
	evidence *Evidence
}

// obtained is when the answer was given, as it counts for ordering (rule 3).
func (c *candidate) obtained() Instant { return min(c.evidence.ObtainedAt, c.evidence.RecordedAt) }

func (c *candidate) started(t Instant) bool { return c.from <= t }

// end is the instant from which the candidate no longer counts. A refusal has
// none (rule 4).
func (c *candidate) end() Instant {
	if c.until == 0 || c.state.Refusal() {
		return math.MaxInt64
	}
	return c.until
}

func (c *candidate) ended(t Instant) bool { return c.end() <= t }

// plainClaim reports whether rule 5 binds the candidate: a claim that is not the
// citizen's own act.
func (c *candidate) plainClaim() bool { return c.state == Claimed && !c.evidence.ByCitizen }

// Projection is what is left of a citizen's history for answering "what applies
// now, and from now on": the candidates that can still win, nothing else, so that
// a read and a write cost no history. It is always derivable from the ledger by
// adding its transactions in the order in which they were recorded.
//
// The zero Projection belongs to a citizen with no history.
type Projection struct {
	candidates []candidate // by key, and within a key in the order of rules 2 and 3
}

// Add takes in a transaction that has been stamped.
func (p *Projection) Add(t Transaction) {
	evidence := &t.Evidence
	for _, c := range t.Changes {
		state := c.State
		if c.Upheld {
			state = ObjectionUpheld
		}
		p.insert(candidate{Key{c.OptionType, c.OptionID}, c.Justification, state, c.ValidFrom, c.ValidUntil, evidence})
		for _, m := range c.Covers {
			p.insert(candidate{Key{OptionSingle, m.OptionID}, c.Justification, state, c.ValidFrom, m.ValidUntil, evidence})
		}
	}
}

// insert keeps the order; a tie goes to the later write.
func (p *Projection) insert(c candidate) {
	at := sort.Search(len(p.candidates), func(i int) bool {
		o := &p.candidates[i]
		return cmp.Or(o.key.compare(c.key), o.evidence.order(c.evidence)) > 0
	})
	p.candidates = slices.Insert(p.candidates, at, c)
}

// runs calls visit with the candidates of each key in turn.
func (p *Projection) runs(visit func(run []candidate)) {
	for i := 0; i < len(p.candidates); {
		j := i + 1
		for j < len(p.candidates) && p.candidates[j].key == p.candidates[i].key {
			j++
		}
		visit(p.candidates[i:j])
		i = j
	}
}

// verdict is the outcome of the rules for one key at one instant.
type verdict struct {
	standing *candidate // the effective answer
	pending  *candidate // a PENDING that waits beside it (rule 6)
	ceased   *candidate // where nothing stands: the answer that ended last
}

// decide applies rules 1 to 6 to the candidates of one key, which are in order.
func decide(run []candidate, t Instant) verdict {
	var v verdict
	for i := range run {
		c := &run[i]
		switch {
		case !c.started(t):
		case c.ended(t):
			if !c.bornEnded() && (v.ceased == nil || c.end() >= v.ceased.end()) {
				v.ceased = c
			}
		case c.state == Pending:
			v.pending = c
		case c.plainClaim() && v.standing != nil && v.standing.state.Refusal():
			// Overruled: a claim does not undo a person's no (rule 5).
		default:
			// The later answer wins (rule 2). A refusal, which never ends, hereby also
			// drops whatever came before it for good (rule 4).
			v.standing, v.pending = c, nil
		}
	}
	if v.standing == nil {
		v.standing, v.pending = v.pending, nil
	}
	if v.standing != nil {
		v.ceased = nil
	}
	return v
}

// Prune drops the candidates that can never again decide anything at now or
// later, whatever may still arrive.
func (p *Projection) Prune(now Instant) {
	kept := p.candidates[:0:0]
	p.runs(func(run []candidate) {
		live := slices.ContainsFunc(run, func(c candidate) bool { return c.started(now) && !c.ended(now) })
		ceased := decide(run, now).ceased
		for i := range run {
			c := &run[i]
			switch {
			case c.ended(now) && (live || c != ceased):
			case slices.ContainsFunc(run[i+1:], func(d candidate) bool { return d.outlasts(c, now) }):
			default:
				kept = append(kept, *c)
			}
		}
	})
	p.candidates = kept
}

// bornEnded reports whether the answer had ended before it reached us: it never
// was anyone's effective state, so it cannot cease either.
func (c *candidate) bornEnded() bool { return c.end() <= c.evidence.RecordedAt }

// outlasts reports whether c, which comes after o in order, makes o irrelevant for
// good: it counts already, for at least as long as o, and rule 5 or 6 cannot set it
// aside in favour of o.
func (c *candidate) outlasts(o *candidate, now Instant) bool {
	switch {
	case !c.started(now) || c.end() < o.end():
		return false
	case c.state == Pending:
		return o.state == Pending
	case c.plainClaim():
		return o.plainClaim()
	}
	return true
}

// Effective gives the entries that apply at t, options before groups, each sorted
// by id. With ceased true, entries that existed and ended are listed too, with no
// state, as the full-state webhook needs them.
func (p *Projection) Effective(t Instant, ceased bool) []Permission {
	list := make([]Permission, 0, len(p.candidates))
	p.runs(func(run []candidate) {
		v := decide(run, t)
		switch {
		case v.standing != nil:
			list = append(list, v.standing.permission())
		case ceased && v.ceased != nil:
			e := v.ceased.permission()
			e.State = ""
			list = append(list, e)
		}
	})
	return list
}

// Throughout gives the entries of a history, pruned of nothing, that are valid at
// start and still at end: those that stand at both, from one and the same
// transaction. An answer obtained after start did not stand then.
func (p *Projection) Throughout(start, end Instant) []Permission {
	list := []Permission{}
	p.runs(func(run []candidate) {
		known := slices.DeleteFunc(slices.Clone(run), func(c candidate) bool { return c.obtained() > start })
		first, last := decide(known, start).standing, decide(run, end).standing
		if first != nil && last != nil && first.evidence == last.evidence {
			list = append(list, last.permission())
		}
	})
	return list
}

// Latest gives, of a history pruned of nothing, the entry of every key that ever
// had one: the standing one, or else the last one that stood. expired says which
// are of the latter kind.
func (p *Projection) Latest(t Instant) (list []Permission, expired []bool) {
	p.runs(func(run []candidate) {
		v := decide(run, t)
		c := cmp.Or(v.standing, v.ceased)
		if c != nil {
			list, expired = append(list, c.permission()), append(expired, v.standing == nil)
		}
	})
	return list, expired
}

// Pending gives the PENDING answers that wait beside a standing state at t
// (rule 6).
func (p *Projection) Pending(t Instant) []Permission {
	list := []Permission{}
	p.runs(func(run []candidate) {
		if v := decide(run, t); v.pending != nil {
			list = append(list, v.pending.permission())
		}
	})
	return list
}

// Entry gives the effective entry of one key at t, and false where there is none.
func (p *Projection) Entry(k Key, t Instant) (Permission, bool) {
	var found *candidate
	p.runs(func(run []candidate) {
		if run[0].key == k {
			found = decide(run, t).standing
		}
	})
	if found == nil {
		return Permission{}, false
	}
	return found.permission(), true
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

// stored is the form of a Projection in the store: evidence once per
// transaction, whatever number of candidates share it.
type stored struct {
	Evidence   []*Evidence       `json:"e"`
	Candidates []storedCandidate `json:"c"`
}

type storedCandidate struct {
	Group    bool          `json:"g,omitempty"`
	ID       string        `json:"o"`
	Basis    Justification `json:"j"`
	State    State         `json:"s"`
	From     Instant       `json:"f,omitempty"`
	Until    Instant       `json:"u,omitempty"`
	Evidence int           `json:"e"`
}

// MarshalJSON writes the stored form; equal projections give equal bytes.
func (p Projection) MarshalJSON() ([]byte, error) {
	out := stored{Evidence: []*Evidence{}, Candidates: make([]storedCandidate, len(p.candidates))}
	for i, c := range p.candidates {
		e := slices.IndexFunc(out.Evidence, func(e *Evidence) bool { return e.TransactionID == c.evidence.TransactionID })
		if e < 0 {
			e = len(out.Evidence)
			out.Evidence = append(out.Evidence, c.evidence)
		}
		out.Candidates[i] = storedCandidate{c.key.Type == OptionGroup, c.key.ID, c.basis, c.state, c.from, c.until, e}
	}
	return json.Marshal(out)
}

// UnmarshalJSON reads the stored form.
func (p *Projection) UnmarshalJSON(b []byte) error {
	var in stored
	if err := json.Unmarshal(b, &in); err != nil {
		return err
	}
	p.candidates = make([]candidate, len(in.Candidates))
	for i, c := range in.Candidates {
		k := Key{OptionSingle, c.ID}
		if c.Group {
			k.Type = OptionGroup
		}
		p.candidates[i] = candidate{k, c.Basis, c.State, c.From, c.Until, in.Evidence[c.Evidence]}
	}
	return nil
}

// Permission is one entry of the effective state with the evidence behind it. Its
// JSON form is the published one of the webhooks and of GET /v1/permissions: every
// key is always present, null where unknown.
type Permission struct {
	TransactionID          ID            `json:"transactionId"`
	OptionType             OptionType    `json:"optionType"`
	OptionID               string        `json:"optionId"`
	Justification          Justification `json:"justification"`
	State                  State         `json:"state"` // empty for an entry that ceased
	Channel                Text          `json:"channel"`
	Campaign               Text          `json:"campaign"`
	PrivacyPolicyID        Text          `json:"privacyPolicyId"`
	PrivacyPolicyRef       Text          `json:"privacyPolicyRef"`
	PermissionStatementID  Text          `json:"permissionStatementId"`
	PermissionStatementRef Text          `json:"permissionStatementRef"`
	RecordedBy             Text          `json:"recordedBy"`
	RecordedByName         Text          `json:"recordedByName"`
	RecordedClient         Text          `json:"recordedClient"`
	RecordedClientName     Text          `json:"recordedClientName"`
	DelegatedAuthorityID   Text          `json:"delegatedAuthorityId"`
	DelegatedAuthorityName Text          `json:"delegatedAuthorityName"`
	RecordedAt             Timestamp     `json:"recordedAt"`
	ObtainedAt             Timestamp     `json:"obtainedAt"`
	ValidFrom              Timestamp     `json:"validFrom"`
	ValidUntil             Timestamp     `json:"validUntil"`
}

func (c *candidate) permission() Permission {
	e := c.evidence
	p := Permission{
		TransactionID: e.TransactionID,
		OptionType:    c.key.Type, OptionID: c.key.ID, Justification: c.basis, State: c.state,
		Channel: Text(e.Channel), Campaign: Text(e.Campaign),
		RecordedBy: Text(e.Attribution.RecordedBy), RecordedByName: Text(e.Attribution.RecordedByName),
		RecordedClient: Text(e.Client.ID), RecordedClientName: Text(e.Client.Name),
		DelegatedAuthorityID: Text(e.Attribution.DelegatedAuthorityID), DelegatedAuthorityName: Text(e.Attribution.DelegatedAuthorityName),
		RecordedAt: Timestamp(e.RecordedAt), ObtainedAt: Timestamp(e.ObtainedAt), ValidFrom: Timestamp(c.from), ValidUntil: Timestamp(c.until),
	}
	if e.Policy != nil {
		p.PrivacyPolicyID, p.PrivacyPolicyRef = Text(e.Policy.ID), Text(e.Policy.Ref)
	}
	if e.Statement != nil {
		p.PermissionStatementID, p.PermissionStatementRef = Text(e.Statement.ID), Text(e.Statement.Ref)
	}
	return p
}
