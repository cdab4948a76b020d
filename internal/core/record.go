package core

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/internal/store"
)

// Transaction is what a client asks to record.
type Transaction struct {
	ApplicationID string
	Citizen       consent.CitizenKey
	Changes       []consent.Change
	// The policy and the statement that were shown, each by id, by reference, or by
	// both, which must then agree. A field for an id takes a reference, too.
	PrivacyPolicyID, PrivacyPolicyRef             string
	PermissionStatementID, PermissionStatementRef string
	ObtainedAt                                    consent.Instant // zero: when it is recorded
	Channel, Campaign                             string
	Attribution                                   consent.Attribution
}

// The most changes of one transaction, and the longest channel or campaign.
const (
	maxChanges = 200
	maxLabel   = 200
)

// Record records the changes of a transaction. All of them are checked first;
// where anything is wrong nothing is changed and the error names every fault. A
// citizen named by an unknown reference is created.
func (s *Service) Record(ctx context.Context, a Actor, r Request, t Transaction) (Recorded, error) {
	once := r.once(a, "record")
	snap, err := s.authoriseFor(ctx, a, consent.ConsentWrite, t.ApplicationID, r.Found)
	if err != nil {
		return Recorded{}, err
	}
	now, faults := consent.At(time.Now()), r.Found
	checkCitizenKey(t.Citizen, &faults)
	consent.CheckText(&faults, "channel", t.Channel, 0, maxLabel)
	consent.CheckText(&faults, "campaign", t.Campaign, 0, maxLabel)
	t.Attribution.Check(&faults)
	consent.CheckObtainedAt(t.ObtainedAt, now, &faults)
	if n := len(t.Changes); n == 0 || n > maxChanges {
		faults.Add("changes", "must hold 1 to %d changes", maxChanges)
		t.Changes = nil
	}
	record := consent.Transaction{Evidence: consent.Evidence{
		TransactionID: store.NewID(), ObtainedAt: t.ObtainedAt, Channel: t.Channel, Campaign: t.Campaign,
		Policy:    cite(snap.Policy, "privacyPolicy", t.PrivacyPolicyID, t.PrivacyPolicyRef, &faults),
		Statement: cite(snap.Statement, "permissionStatement", t.PermissionStatementID, t.PermissionStatementRef, &faults),
		Client:    a.recorder(), Attribution: t.Attribution,
	}}
	var out Recorded
	record.Changes, out.Warnings = snap.Resolve(t.Changes, &faults)
	if err := faults.Err(); err != nil {
		return Recorded{}, err
	}
	if out.Recorded, err = s.store.Record(ctx, snap.Application, t.Citizen, record, once); err != nil {
		return Recorded{}, err
	}
	if !out.Repeated {
		s.recorded(out)
	}
	return out, nil
}

// cite finds a document of the catalogue in the version that is recorded: the
// newest, marked unproven since no snapshot says what was shown. nil where the
// transaction names none.
func cite(find func(string) (consent.Citation, bool), field, id, ref string, faults *consent.Faults) *consent.Citation {
	var cited *consent.Citation
	for _, named := range []struct{ location, value string }{{field + "Id", id}, {field + "Ref", ref}} {
		if named.value == "" {
			continue
		}
		c, ok := find(named.value)
		switch {
		case !ok || named.location == field+"Ref" && c.Ref != named.value:
			faults.Add(named.location, "names nothing in the catalogue of the application")
		case cited != nil && cited.ID != c.ID:
			faults.Add(named.location, "must name the same as %sId", field)
		default:
			c.Unproven = true
			cited = &c
		}
	}
	return cited
}

func checkCitizenKey(k consent.CitizenKey, faults *consent.Faults) {
	if k.ID.IsZero() && k.ExternalRef == "" {
		if faults.At("citizenId") {
			return // it was given, and is no id
		}
		faults.Add("externalRef", "either externalRef or citizenId must be given")
		return
	}
	if k.ExternalRef != "" {
		consent.CheckExternalRef(k.ExternalRef, faults)
	}
}

// Transactions lists transactions of an application, oldest first, and how many
// there are where the filter asks for it.
func (s *Service) Transactions(ctx context.Context, a Actor, applicationID string, f store.TransactionFilter) ([]store.ListedTransaction, int64, error) {
	snap, err := s.authorise(ctx, a, consent.ConsentRead, applicationID)
	if err != nil {
		return nil, 0, err
	}
	return s.store.Transactions(ctx, snap.Application, f)
}

// EffectiveQuery says what to ask of a citizen's state. Without a range the
// question is what applies now.
type EffectiveQuery struct {
	ApplicationID string
	Citizen       consent.CitizenKey
	OptionID      string // only the option or group of that id, which must exist; empty for all
	// Start and End ask for what is valid at Start and still at End; one that is
	// zero means now.
	Start, End consent.Instant
	Latest     bool // list also what has expired; not together with a range
}

// Effective is the effective state of one citizen.
type Effective struct {
	CitizenID   consent.ID
	ExternalRef string
	Permissions []consent.Permission
	Expired     []bool               // one for each permission: it has ended
	Pending     []consent.Permission // PENDING answers beside a standing state (rule 6)
}

// EffectiveOf gives the effective state of one citizen.
func (s *Service) EffectiveOf(ctx context.Context, a Actor, q EffectiveQuery) (Effective, error) {
	snap, err := s.authorise(ctx, a, consent.ConsentRead, q.ApplicationID)
	if err != nil {
		return Effective{}, err
	}
	var faults consent.Faults
	checkCitizenKey(q.Citizen, &faults)
	if q.OptionID != "" && !snap.HasOption(consent.Key{Type: consent.OptionSingle, ID: q.OptionID}) && !snap.HasOption(consent.Key{Type: consent.OptionGroup, ID: q.OptionID}) {
		faults.Add("optionId", "names no option of the application")
	}
	ranged := q.Start != 0 || q.End != 0
	now := consent.At(time.Now())
	start, end := cmp.Or(q.Start, now), cmp.Or(q.End, now)
	if start > end {
		faults.Add("validEnd", "must not be earlier than validStart")
	}
	if ranged && q.Latest {
		faults.Add("expiry", "latest cannot be asked for a range")
	}
	if err := faults.Err(); err != nil {
		return Effective{}, err
	}
	read := s.store.State
	if ranged || q.Latest {
		read = s.store.History
	}
	state, err := read(ctx, snap.Application, q.Citizen)
	if err != nil {
		return Effective{}, err
	}
	e := Effective{CitizenID: state.CitizenID, ExternalRef: state.ExternalRef, Pending: state.Projection.Pending(now)}
	switch {
	case q.Latest:
		e.Permissions, e.Expired = state.Projection.Latest(now)
	case ranged:
		e.Permissions = state.Projection.Throughout(start, end)
	default:
		e.Permissions = state.Projection.Effective(now, false)
	}
	if e.Expired == nil {
		e.Expired = make([]bool, len(e.Permissions))
	}
	if q.OptionID != "" {
		for i := len(e.Permissions) - 1; i >= 0; i-- {
			if e.Permissions[i].OptionID != q.OptionID {
				e.Permissions, e.Expired = slices.Delete(e.Permissions, i, i+1), slices.Delete(e.Expired, i, i+1)
			}
		}
		e.Pending = slices.DeleteFunc(e.Pending, func(p consent.Permission) bool { return p.OptionID != q.OptionID })
	}
	return e, nil
}
