package consent

import (
	"cmp"
	"slices"
)

// OptionType says whether an id names an option or an option group.
type OptionType string

// The option types, as published.
const (
	OptionSingle OptionType = "option"
	OptionGroup  OptionType = "group"
)

// Change is one decision within a transaction: the state of one option, or of
// one group of options, under one lawful basis.
type Change struct {
	OptionType    OptionType    `json:"type"`
	OptionID      string        `json:"option"`
	Justification Justification `json:"basis"`
	State         State         `json:"state"`
	ValidFrom     Instant       `json:"from,omitzero"`
	ValidUntil    Instant       `json:"until,omitzero"` // Stamp fills in the default validity
	// Upheld is set on an objection that the platform upheld at once (rule 7): the
	// state is recorded as it was sent, and stands as OBJECTION_UPHELD.
	Upheld bool `json:"upheld,omitzero"`
	// Covers lists the options that a group change answered for, as the group was
	// when the change was recorded (rule 8).
	Covers []Cover `json:"covers,omitzero"`
	// Medium is the Channel of the option, by which a suppression finds it (rule 9).
	Medium string `json:"medium,omitzero"`

	basis AllowedBasis // as Resolve found it, for Stamp
}

// Cover is one member answered by a group change, with that member's own end of
// validity.
type Cover struct {
	OptionID   string  `json:"option"`
	ValidUntil Instant `json:"until,omitzero"`
	Medium     string  `json:"medium,omitzero"`

	basis AllowedBasis
}

// Citation names a versioned document of the catalogue exactly as it was when it
// was shown or recorded.
type Citation struct {
	ID      string `json:"id"`
	Ref     string `json:"ref"`
	Version int64  `json:"version"`
	// Unproven is set where no snapshot says which version was shown, so that the
	// newest was recorded.
	Unproven bool `json:"unproven,omitzero"`
}

// ShownForm is the template that was shown, and in which language.
type ShownForm struct {
	Citation
	Locale string `json:"locale,omitzero"`
}

// Recorder is the client through which a record came.
type Recorder struct {
	ID   string `json:"id"`
	Name string `json:"name"`
}

// Attribution is what a client claims about who acted and where the record came
// from. It is free text about people and therefore sealed at rest.
type Attribution struct {
	RecordedBy             string `json:"by,omitzero"`
	RecordedByName         string `json:"byName,omitzero"`
	DelegatedAuthorityID   string `json:"delegate,omitzero"`
	DelegatedAuthorityName string `json:"delegateName,omitzero"`
	Source                 string `json:"source,omitzero"`
	SourceSystem           string `json:"system,omitzero"`
	SourceSystemReference  string `json:"systemRef,omitzero"`
	// The browser with which a citizen answered on a page or by a link of ours: no client
	// claims it.
	VisitorAddress string `json:"address,omitzero"`
	VisitorAgent   string `json:"agent,omitzero"`
}

// Evidence is everything about a record except its content: what was shown, when it
// was obtained and recorded, by whom and through which client.
type Evidence struct {
	ID          ID          `json:"id"` // of the transaction or submission
	RecordedAt  Instant     `json:"recorded"`
	ObtainedAt  Instant     `json:"obtained"`
	Channel     string      `json:"channel,omitzero"` // how it reached us: free text, not a Channel
	Campaign    string      `json:"campaign,omitzero"`
	Policy      *Citation   `json:"policy,omitzero"`
	Statement   *Citation   `json:"statement,omitzero"`
	Form        *ShownForm  `json:"form,omitzero"`
	Client      Recorder    `json:"client"`
	ByCitizen   bool        `json:"citizen,omitzero"` // made by the citizen in person, by token
	Attribution Attribution `json:"attribution,omitzero"`
}

// Transaction is the immutable record of one or more changes of one citizen, or of
// the reversion of an earlier one.
type Transaction struct {
	Evidence
	Changes []Change `json:"changes"`
	// Reverts names the transaction that this one undoes; it has no changes of its own
	// then.
	Reverts ID `json:"reverts,omitzero"`
	// Confirms says of a transaction by which the owner of an address confirmed a sign-up
	// how that was done.
	Confirms *Confirmed `json:"confirms,omitzero"`
}

// Confirmed is the evidence of a double opt-in beside that of the record itself.
type Confirmed struct {
	SignUp        ID      `json:"signUp"`  // what was confirmed; its link was in the mail
	TransactionID ID      `json:"pending"` // what was answered first
	Mail          ID      `json:"mail"`
	SentAt        Instant `json:"sent"`   // when a mail server, or the receiver of the mails, took it; zero: that was not known yet
	OpenedAt      Instant `json:"opened"` // when the page with the button was shown
}

// maxClockSkew is how far in the future obtainedAt may lie (rule 3).
const maxClockSkew = 5 * 60 * 1e6 // microseconds

// Stamp fixes what depends on when something is recorded: recordedAt is the later of
// now and one microsecond after the citizen's last record, and obtainedAt defaults to
// it (rules 2 and 3).
func (e *Evidence) Stamp(now, last Instant) {
	e.RecordedAt = max(now, last+1)
	if e.ObtainedAt == 0 {
		e.ObtainedAt = e.RecordedAt
	}
}

// Stamp fixes, besides the times, the default validity of each change: it counts from
// obtainedAt, or from validFrom where that is given (rule 4).
func (t *Transaction) Stamp(now, last Instant) {
	t.Evidence.Stamp(now, last)
	changes := slices.Clone(t.Changes)
	for i := range changes {
		c := &changes[i]
		from := cmp.Or(c.ValidFrom, t.ObtainedAt)
		given := c.ValidUntil
		c.ValidUntil = validUntil(c.State, given, c.basis, from)
		c.Covers = slices.Clone(c.Covers)
		for k := range c.Covers {
			c.Covers[k].ValidUntil = validUntil(c.State, given, c.Covers[k].basis, from)
		}
	}
	t.Changes = changes
}

// validUntil is the end that was given, or else the default validity of the basis
// where the state takes one.
func validUntil(s State, given Instant, a AllowedBasis, from Instant) Instant {
	if given != 0 || !s.takesDefaultValidity() {
		return given
	}
	return a.until(from)
}

// order compares two pieces of evidence by rules 2 and 3: obtainedAt, which
// counts as at most recordedAt, then recordedAt.
func (e *Evidence) order(o *Evidence) int {
	return cmp.Or(
		cmp.Compare(e.obtained(), o.obtained()),
		cmp.Compare(e.RecordedAt, o.RecordedAt),
	)
}

// obtained is when the record was obtained, as it counts for ordering (rule 3).
func (e *Evidence) obtained() Instant { return min(e.ObtainedAt, e.RecordedAt) }

// Platform is the recorder of what OpenCPM decides by rule rather than by
// request.
var Platform = Recorder{ID: "opencpm", Name: "OpenCPM"}

// InPerson is the recorder of what citizens do themselves.
var InPerson = Recorder{ID: "citizen", Name: "Citizen"}
