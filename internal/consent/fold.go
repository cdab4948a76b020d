package consent

import "math"

// Key names an entry of a citizen's effective state.
type Key struct {
	Type OptionType
	ID   string
}

// candidate is one recorded answer to one key. It keeps what is needed to decide
// and to show the entry it becomes when it wins.
type candidate struct {
	key      Key
	basis    Justification
	state    State
	from     Instant
	until    Instant // as recorded; ends nothing for a refusal
	medium   string  // the Channel of the option
	via      string  // the group in whose name it was answered; empty for an answer of its own
	evidence *Evidence
	reverted *Evidence // of the transaction that undid it, if one did
}

func (c *candidate) started(t Instant) bool { return c.from <= t }

// expiry is the instant at which the validity of the candidate ends. That of a refusal
// never does (rule 4).
func (c *candidate) expiry() Instant {
	if c.until == 0 || c.state.Refusal() {
		return math.MaxInt64
	}
	return c.until
}

// end is the instant from which the candidate no longer counts.
func (c *candidate) end() Instant {
	if c.reverted != nil {
		return min(c.expiry(), c.reverted.RecordedAt)
	}
	return c.expiry()
}

func (c *candidate) ended(t Instant) bool { return c.end() <= t }

// undone reports whether a reversion ended the candidate before its validity did.
func (c *candidate) undone() bool { return c.reverted != nil && c.reverted.RecordedAt < c.expiry() }

// stood reports whether there was an instant at which the candidate was valid and
// known to us; only what stood can cease. At one and the same instant validities begin
// and end before anything is recorded.
func (c *candidate) stood() bool {
	return max(c.from, c.evidence.RecordedAt) < c.expiry() && (c.reverted == nil || c.from <= c.reverted.RecordedAt)
}

// outstood reports whether c, which comes after o in order, was the one of two that had
// stood and ended that was effective last.
func (c *candidate) outstood(o *candidate) bool {
	switch {
	case c.end() != o.end():
		return c.end() > o.end()
	case c.undone() != o.undone():
		return c.undone()
	}
	return !c.yields(o)
}

// plainClaim reports whether rule 5 binds the candidate: a claim that is not the
// citizen's own act.
func (c *candidate) plainClaim() bool { return c.state == Claimed && !c.evidence.ByCitizen }

// yields reports whether c, which comes after o in order, leaves o standing (rules 5
// and 6).
func (c *candidate) yields(o *candidate) bool {
	return c.state == Pending && o.state != Pending || c.plainClaim() && o.state.Refusal()
}

// outlasts reports whether c, which comes after o in order, makes o irrelevant for
// good: it counts already, for at least as long as o, and rule 5 or 6 cannot set it
// aside in favour of o.
func (c *candidate) outlasts(o *candidate, now Instant) bool {
	switch {
	case !c.started(now) || c.ended(now) || c.end() < o.end():
		return false
	case c.state == Pending:
		return o.state == Pending
	case c.plainClaim():
		return o.plainClaim()
	}
	return true
}

// verdict is the outcome of the rules for one key at one instant.
type verdict struct {
	standing   *candidate   // the effective answer
	suppressed *Suppression // by which it reads as a refusal (rule 9)
	pending    *candidate   // a PENDING that waits beside it (rule 6)
	ceased     *candidate   // where nothing stands: the answer that ended last
}

// decide applies the rules to the candidates of one key, which are in order, apart
// from the do-not-contact list.
func decide(run []candidate, t Instant) verdict {
	var v verdict
	for i := range run {
		c := &run[i]
		switch {
		case c.ended(t):
			if c.stood() && (v.ceased == nil || c.outstood(v.ceased)) {
				v.ceased = c
			}
		case c.reverted != nil, !c.started(t):
			// No candidate (rule 1).
		case c.state == Pending:
			v.pending = c
		case v.standing != nil && c.yields(v.standing):
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

// entry gives what is effective, and false where nothing is.
func (v verdict) entry() (Permission, bool) {
	switch {
	case v.standing == nil:
		return Permission{}, false
	case v.suppressed != nil:
		e := v.standing.entry(&v.suppressed.Evidence)
		e.State = v.suppressed.state(v.standing.basis)
		return e, true
	}
	return v.standing.entry(v.standing.evidence), true
}

// remnant gives the entry of what ceased, with no state: with the evidence of what
// ended it, a reversion or its own validity.
func (v verdict) remnant() (Permission, bool) {
	if v.ceased == nil {
		return Permission{}, false
	}
	by := v.ceased.evidence
	if v.ceased.undone() {
		by = v.ceased.reverted
	}
	e := v.ceased.entry(by)
	e.State = ""
	return e, true
}
