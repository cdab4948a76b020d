package consent

import "fmt"

// Fate is what the rules made of one candidate.
type Fate string

// The fates.
const (
	FateEffective  Fate = "effective"
	FatePending    Fate = "pending"       // waits beside what stands
	FateSuperseded Fate = "superseded"    // a later answer wins while it is valid
	FateDropped    Fate = "dropped"       // a later refusal ended it for good
	FateOverruled  Fate = "overruled"     // a claim against a standing refusal
	FateExpired    Fate = "expired"       // its validity had ended
	FateNotYet     Fate = "not-yet-valid" // its validity had not begun
	FateLater      Fate = "later"         // it was obtained after the instant asked about
	FateReverted   Fate = "reverted"      // a reversion undid it
	FateSuppressed Fate = "suppressed"    // it would be effective, but for the do-not-contact list
)

// Fates lists every fate.
var Fates = []Fate{
	FateEffective, FatePending, FateSuperseded, FateDropped, FateOverruled, FateExpired, FateNotYet, FateLater, FateReverted, FateSuppressed,
}

// Weighed is one candidate with what became of it.
type Weighed struct {
	Permission        // the entry that it is when it wins
	Group      Text   // the group in whose name the option was answered; empty for an answer of its own
	Fate       Fate   // what became of it
	Rule       int    // the rule of docs/rules.md that decided; 0 for a reversion, which no rule weighs
	By         ID     // the record that displaced it, where one did
	Why        string // the same in a sentence
}

// Explanation says why one entry is what it is: every candidate in the order of rules
// 2 and 3, the earliest first, and what became of it.
type Explanation struct {
	Key        Key
	Current    *Permission // nil where nothing applies
	Candidates []Weighed
}

// Explain explains the entries of a history, pruned of nothing, as they were at t, or
// those of one option id alone. past says that t lies before the present, when what
// was obtained later did not count.
func (p *Projection) Explain(optionID string, t Instant, past bool) []Explanation {
	counted := p
	if past {
		counted = p.AsOf(t)
	}
	list := []Explanation{}
	p.runs(func(run []candidate) {
		if optionID != "" && run[0].key.ID != optionID {
			return
		}
		known := len(run)
		for past && known > 0 && run[known-1].evidence.obtained() > t {
			known--
		}
		x := Explanation{Key: run[0].key, Candidates: make([]Weighed, len(run))}
		var v verdict
		if known > 0 {
			v = counted.decide(run[:known], t)
			if e, ok := v.entry(); ok {
				x.Current = &e
			}
		}
		for i := range run {
			c := &run[i]
			w := Weighed{Permission: c.entry(c.evidence), Group: Text(c.via)}
			if i >= known {
				w.Fate, w.Rule = FateLater, 2
			} else {
				w.Fate, w.Rule, w.By = v.fate(run[:known], i, t)
			}
			w.Why = w.sentence()
			x.Candidates[i] = w
		}
		list = append(list, x)
	})
	return list
}

// fate says what became of the candidate at place i of a run on which v was decided
// at t.
func (v verdict) fate(run []candidate, i int, t Instant) (Fate, int, ID) {
	c := &run[i]
	switch {
	case c.reverted != nil:
		return FateReverted, 0, c.reverted.ID
	case !c.started(t):
		return FateNotYet, 1, ID{}
	case c.ended(t):
		return FateExpired, 1, ID{}
	case c == v.standing && v.suppressed != nil:
		return FateSuppressed, 9, v.suppressed.ID
	case c == v.standing:
		return FateEffective, 2, ID{}
	case c == v.pending:
		return FatePending, 6, v.standing.evidence.ID
	}
	if stood := decide(run[:i], t).standing; c.plainClaim() && stood != nil && stood.state.Refusal() {
		return FateOverruled, 5, stood.evidence.ID
	}
	by := v.pending // a later sign-up, unless what stands came after it, too
	for k := i + 1; k < len(run); k++ {
		switch d := &run[k]; {
		case d.state.Refusal() && d.reverted == nil && d.started(t):
			return FateDropped, 4, d.evidence.ID
		case d == v.standing:
			by = d
		}
	}
	return FateSuperseded, 2, by.evidence.ID
}

// inWords gives an instant as a sentence has it.
func inWords(i Instant) string { return i.Time().Format("2 January 2006 at 15:04 UTC") }

// sentence says the fate in words.
func (w *Weighed) sentence() string {
	switch w.Fate {
	case FateEffective:
		return "This is the latest answer that counts, so it decides."
	case FatePending:
		return "It waits for its confirmation beside what stands; until then it changes nothing."
	case FateSuperseded:
		return "A later answer wins. Should that one end, this one speaks again while it is valid."
	case FateDropped:
		return "The person refused after it, which ends it for good."
	case FateOverruled:
		return "A claim does not overrule a person's refusal; only the person, or a new consent, can."
	case FateExpired:
		return fmt.Sprintf("Its validity had ended on %s.", inWords(Instant(w.ValidUntil)))
	case FateNotYet:
		return fmt.Sprintf("Its validity begins on %s.", inWords(Instant(w.ValidFrom)))
	case FateLater:
		return "It was obtained after the instant asked about."
	case FateReverted:
		return "A later transaction undid it."
	}
	return "The address is on the do-not-contact list of this channel, which beats every permission."
}
