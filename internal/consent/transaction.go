package consent

import "cmp"

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
	ValidFrom     Instant       `json:"from,omitempty"`
	ValidUntil    Instant       `json:"until,omitempty"` // after default validity was applied
	// Covers lists the options that a group change answered for, as the group was
	// when the change was recorded (rule 8).
	Covers []Cover `json:"covers,omitempty"`
}

// Cover is one member answered by a group change, with that member's own end of
// validity.
type Cover struct {
	OptionID   string  `json:"option"`
	ValidUntil Instant `json:"until,omitempty"`
}

// Citation names a versioned document of the catalogue exactly as it was when it
// was shown or recorded.
type Citation struct {
	ID      string `json:"id"`
	Ref     string `json:"ref"`
	Version int64  `json:"version"`
	// Unproven is set where no snapshot says which version was shown, so that the
	// newest was recorded.
	Unproven bool `json:"unproven,omitempty"`
}

// Recorder is the client through which a record came.
type Recorder struct {
	ID   string `json:"id"`
	Name string `json:"name"`
}

// Attribution is what a client claims about who acted and where the record came
// from. It is free text about people and therefore sealed at rest.
type Attribution struct {
	RecordedBy             string `json:"by,omitempty"`
	RecordedByName         string `json:"byName,omitempty"`
	DelegatedAuthorityID   string `json:"delegate,omitempty"`
	DelegatedAuthorityName string `json:"delegateName,omitempty"`
	Source                 string `json:"source,omitempty"`
	SourceSystem           string `json:"system,omitempty"`
	SourceSystemReference  string `json:"systemRef,omitempty"`
}

// Evidence is everything about a transaction except its changes: what was shown,
// when it was obtained and recorded, by whom and through which client.
type Evidence struct {
	TransactionID ID          `json:"id"`
	RecordedAt    Instant     `json:"recorded"`
	ObtainedAt    Instant     `json:"obtained"`
	Channel       string      `json:"channel,omitempty"` // how the change reached us: free text, not a Channel
	Campaign      string      `json:"campaign,omitempty"`
	Policy        *Citation   `json:"policy,omitempty"`
	Statement     *Citation   `json:"statement,omitempty"`
	Client        Recorder    `json:"client"`
	ByCitizen     bool        `json:"citizen,omitempty"` // made by the citizen in person, by token
	Attribution   Attribution `json:"attribution,omitzero"`
}

// Transaction is the immutable record of one or more changes of one citizen.
type Transaction struct {
	Evidence
	Changes []Change `json:"changes"`
}

// maxClockSkew is how far in the future obtainedAt may lie (rule 3).
const maxClockSkew = 5 * 60 * 1e6 // microseconds

// Stamp fixes the two times of a transaction when it is recorded: recordedAt is
// the later of now and one microsecond after the citizen's last record, and
// obtainedAt defaults to it (rules 2 and 3).
func (t *Transaction) Stamp(now, last Instant) {
	t.RecordedAt = max(now, last+1)
	if t.ObtainedAt == 0 {
		t.ObtainedAt = t.RecordedAt
	}
}

// order compares two pieces of evidence by rules 2 and 3: obtainedAt, which
// counts as at most recordedAt, then recordedAt.
func (e *Evidence) order(o *Evidence) int {
	return cmp.Or(
		cmp.Compare(min(e.ObtainedAt, e.RecordedAt), min(o.ObtainedAt, o.RecordedAt)),
		cmp.Compare(e.RecordedAt, o.RecordedAt),
	)
}

// Uphold gives the transaction by which the platform turns the objections of t
// into upheld ones (rule 7), and false where there is nothing to turn. The
// platform records it right after t, with the same obtainedAt; byHand says which
// objections wait for a review instead.
func (t Transaction) Uphold(id ID, byHand func(Change) bool) (Transaction, bool) {
	up := Transaction{Evidence: t.Evidence}
	up.TransactionID = id
	up.Client = Platform
	for _, c := range t.Changes {
		if c.State == Objected && !byHand(c) {
			c.State = ObjectionUpheld
			up.Changes = append(up.Changes, c)
		}
	}
	return up, len(up.Changes) > 0
}

// Platform is the recorder of what OpenCPM decides by rule rather than by
// request.
var Platform = Recorder{ID: "opencpm", Name: "OpenCPM"}
