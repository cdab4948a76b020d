package core

import (
	"context"
	"time"

	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/internal/store"
)

// Origin is what a client says of a record besides its content: what was shown, when
// and how it was obtained, who acted.
type Origin struct {
	// The policy and the statement that were shown, each by id, by reference, or by
	// both, which must then agree. A field for an id takes a reference, too.
	PrivacyPolicyID, PrivacyPolicyRef             string
	PermissionStatementID, PermissionStatementRef string
	ObtainedAt                                    consent.Instant // zero: when it is recorded
	Channel, Campaign                             string
	Attribution                                   consent.Attribution
}

// evidence checks the origin and makes the evidence of a record of it, without an id.
func (o Origin) evidence(a Actor, snap *consent.Snapshot, faults *consent.Faults) consent.Evidence {
	consent.CheckText(faults, "channel", o.Channel, 0, maxLabel)
	consent.CheckText(faults, "campaign", o.Campaign, 0, maxLabel)
	o.Attribution.Check(faults)
	consent.CheckObtainedAt(o.ObtainedAt, consent.At(time.Now()), faults)
	return consent.Evidence{
		ObtainedAt: o.ObtainedAt, Channel: o.Channel, Campaign: o.Campaign,
		Policy:    cite(snap.Policy, "privacyPolicyId", "privacyPolicyRef", o.PrivacyPolicyID, o.PrivacyPolicyRef, faults),
		Statement: cite(snap.Statement, "permissionStatementId", "permissionStatementRef", o.PermissionStatementID, o.PermissionStatementRef, faults),
		Client:    a.recorder(), Attribution: o.Attribution,
	}
}

// The most changes of one transaction and answers of one submission, and the longest
// channel or campaign.
const (
	maxChanges = 200
	maxAnswers = 200
	maxLabel   = 200
)

// Transaction is what a client asks to record.
type Transaction struct {
	ApplicationID string
	Citizen       consent.CitizenKey
	Changes       []consent.Change
	Origin
}

// Record records the changes of a transaction. All of them are checked first;
// where anything is wrong nothing is changed and the error names every fault. A
// citizen named by an unknown reference is created.
func (s *Service) Record(ctx context.Context, a Actor, r Request, t Transaction) (Recorded, error) {
	once := r.once(a, "record")
	snap, err := s.authoriseFor(ctx, a, consent.ConsentWrite, t.ApplicationID, r.Found)
	if err != nil {
		return Recorded{}, err
	}
	faults := r.Found
	checkCitizenKey(t.Citizen, &faults)
	record := consent.Transaction{Evidence: t.evidence(a, snap, &faults)}
	record.ID = store.NewID()
	if n := len(t.Changes); n == 0 || n > maxChanges {
		faults.Add("changes", "must hold 1 to %d changes", maxChanges)
		t.Changes = nil
	}
	var out Recorded
	record.Changes, out.Warnings = snap.Resolve(t.Changes, &faults)
	if err := faults.Err(); err != nil {
		return Recorded{}, err
	}
	if !store.AsksToConfirm(record) {
		out.Recorded, err = s.store.Record(ctx, snap.Application, t.Citizen, record, once)
		return s.tell(out, err)
	}
	inv := s.invitation(snap, nil)
	inv.Stays = true
	list, invited, err := s.store.RecordInviting(ctx, snap.Application, t.Citizen, []consent.Transaction{record}, inv, once)
	if err != nil {
		return Recorded{}, err
	}
	out.Recorded = list[0]
	if invited.TooMany {
		s.mailWithheld(snap.ApplicationID)
	}
	if invited.NoWay {
		out.Warnings = append(out.Warnings, noWayWarning)
	}
	return s.tell(out, nil)
}

// tell tells of a transaction that was recorded just now.
func (s *Service) tell(out Recorded, err error) (Recorded, error) {
	if err != nil {
		return Recorded{}, err
	}
	if !out.Repeated {
		s.counted(len(out.Transaction.Changes))
		s.recorded(out)
	}
	return out, nil
}

// Reversion is what a client asks to undo.
type Reversion struct {
	TransactionID consent.ID
	Origin
}

// Revert undoes a transaction by a new one that names it. What the undone one had
// displaced applies again; both stay in the history. One that was undone already and
// one that is a reversion itself are Conflicts.
func (s *Service) Revert(ctx context.Context, a Actor, r Request, v Reversion) (Recorded, error) {
	once := r.once(a, "revert "+v.TransactionID.String())
	if err := a.may(consent.ConsentWrite); err != nil {
		return Recorded{}, err
	}
	citizen, applicationID, err := s.store.CitizenOfTransaction(ctx, v.TransactionID)
	if err != nil {
		return Recorded{}, err
	}
	snap, err := s.authorise(ctx, a, consent.ConsentWrite, applicationID)
	if consent.KindOf(err) == consent.NotFound {
		err = store.ErrNoTransaction
	}
	if err != nil {
		return Recorded{}, err
	}
	faults := r.Found
	reversion := consent.Transaction{Evidence: v.evidence(a, snap, &faults), Reverts: v.TransactionID}
	reversion.ID = store.NewID()
	if err := faults.Err(); err != nil {
		return Recorded{}, err
	}
	done, err := s.store.Revert(ctx, snap.Application, citizen, reversion, once)
	return s.tell(Recorded{Recorded: done}, err)
}

// Submission is what a client asks to record of preferences.
type Submission struct {
	ApplicationID string
	Citizen       consent.CitizenKey
	Answers       []consent.Answer
	Origin
}

// Submit records answers to preferences, each as a submission of its own, all or none.
// A citizen named by an unknown reference is created.
func (s *Service) Submit(ctx context.Context, a Actor, r Request, v Submission) (store.Submitted, error) {
	once := r.once(a, "submit")
	snap, err := s.authoriseFor(ctx, a, consent.ConsentWrite, v.ApplicationID, r.Found)
	if err != nil {
		return store.Submitted{}, err
	}
	faults := r.Found
	checkCitizenKey(v.Citizen, &faults)
	evidence := v.evidence(a, snap, &faults)
	if n := len(v.Answers); n == 0 || n > maxAnswers {
		faults.Add("preferences", "must hold 1 to %d answers", maxAnswers)
		v.Answers = nil
	}
	submissions := submissionsOf(evidence, snap.ResolveAnswers(v.Answers, &faults))
	if err := faults.Err(); err != nil {
		return store.Submitted{}, err
	}
	out, err := s.store.Submit(ctx, snap.Application, v.Citizen, submissions, once)
	if err != nil {
		return store.Submitted{}, err
	}
	if !out.Repeated {
		s.counted(len(out.Submissions))
		s.submitted(out)
	}
	return out, nil
}

func submissionsOf(e consent.Evidence, answers []consent.Answer) []consent.Submission {
	list := make([]consent.Submission, len(answers))
	for i, answer := range answers {
		list[i] = consent.Submission{Evidence: e, Answer: answer}
		list[i].ID = store.NewID()
	}
	return list
}

// cite finds a document of the catalogue in the version that is recorded: the
// newest, marked unproven since no snapshot says what was shown. nil where the
// transaction names none. Faults stand at the fields in which the id and the reference came.
func cite(find func(string) (consent.Citation, bool), idAt, refAt, id, ref string, faults *consent.Faults) *consent.Citation {
	var cited *consent.Citation
	for _, named := range []struct{ location, value string }{{idAt, id}, {refAt, ref}} {
		if named.value == "" {
			continue
		}
		c, ok := find(named.value)
		switch {
		case !ok || named.location == refAt && c.Ref != named.value:
			faults.Add(named.location, "names nothing in the catalogue of the application")
		case cited != nil && cited.ID != c.ID:
			faults.Add(named.location, "must name the same as %s", idAt)
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
