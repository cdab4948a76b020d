package core

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/internal/store"
)

// CreateCitizen creates a citizen; an externalRef that exists in the application
// is a Conflict.
func (s *Service) CreateCitizen(ctx context.Context, a Actor, r Request, applicationID, externalRef string, d consent.Details) (consent.Citizen, error) {
	once := r.once(a, "create citizen")
	snap, err := s.authoriseFor(ctx, a, consent.CitizensWrite, applicationID, r.Found)
	if err != nil {
		return consent.Citizen{}, err
	}
	consent.CheckExternalRef(externalRef, &r.Found)
	d.Check(&r.Found)
	if err := r.Found.Err(); err != nil {
		return consent.Citizen{}, err
	}
	return s.store.CreateCitizen(ctx, snap.Application, externalRef, d, a.ID, once)
}

// NewCitizen is one of several citizens to be created, with what they have answered so
// far.
type NewCitizen struct {
	ExternalRef string
	Details     consent.Details
	Changes     []consent.Change
	Answers     []consent.Answer
	ObtainedAt  consent.Instant // of the answers; zero: as the origin says
}

// maxCitizens is how many citizens one request creates at most.
const maxCitizens = 1000

// CreateCitizens creates citizens with their first answers, all of them or none: where
// anything is wrong with one, nothing is changed, and the error names every fault.
func (s *Service) CreateCitizens(ctx context.Context, a Actor, r Request, applicationID string, list []NewCitizen, o Origin) ([]store.CreatedCitizen, error) {
	once := r.once(a, "create citizens")
	snap, err := s.authoriseFor(ctx, a, consent.CitizensWrite, applicationID, r.Found)
	if err != nil {
		return nil, err
	}
	if err := a.may(consent.ConsentWrite); err != nil {
		return nil, err
	}
	faults := r.Found
	if n := len(list); n == 0 || n > maxCitizens {
		faults.Add("citizens", "must hold 1 to %d citizens", maxCitizens)
		list = nil
	}
	evidence := o.evidence(a, snap, &faults)
	citizens, changes := make([]store.NewCitizen, len(list)), 0
	for i, v := range list {
		var found consent.Faults
		citizens[i] = v.prepare(snap, evidence, &found)
		changes += len(v.Changes) + len(v.Answers)
		for _, f := range found {
			faults.Add(fmt.Sprintf("citizens[%d].%s", i, f.Location), "%s", f.Message)
		}
	}
	if err := faults.Err(); err != nil {
		return nil, err
	}
	made, repeated, err := s.store.CreateCitizens(ctx, snap.Application, citizens, a.ID, once)
	if err != nil {
		return nil, err
	}
	if !repeated {
		s.counted(changes)
	}
	return made, nil
}

func (v NewCitizen) prepare(snap *consent.Snapshot, e consent.Evidence, faults *consent.Faults) store.NewCitizen {
	consent.CheckExternalRef(v.ExternalRef, faults)
	v.Details.Check(faults)
	consent.CheckObtainedAt(v.ObtainedAt, consent.At(time.Now()), faults)
	e.ObtainedAt = cmp.Or(v.ObtainedAt, e.ObtainedAt)
	out := store.NewCitizen{ExternalRef: v.ExternalRef, Details: v.Details}
	if len(v.Changes) > 0 {
		if len(v.Changes) > maxChanges {
			faults.Add("changes", "must hold at most %d changes", maxChanges)
		}
		out.Transaction = &consent.Transaction{Evidence: e}
		out.Transaction.ID = store.NewID()
		out.Transaction.Changes, _ = snap.Resolve(v.Changes, faults)
	}
	out.Submissions = submissionsOf(e, snap.ResolveAnswers(v.Answers, faults))
	return out
}

// CitizenByRef reads a citizen by application and reference.
func (s *Service) CitizenByRef(ctx context.Context, a Actor, applicationID, externalRef string) (consent.Citizen, error) {
	snap, err := s.authorise(ctx, a, consent.CitizensRead, applicationID)
	if err != nil {
		return consent.Citizen{}, err
	}
	var faults consent.Faults
	consent.CheckExternalRef(externalRef, &faults)
	if err := faults.Err(); err != nil {
		return consent.Citizen{}, err
	}
	return s.store.Citizen(ctx, snap.Application, consent.CitizenKey{ExternalRef: externalRef})
}

// CitizenByID reads a citizen of any application of the actor, and says which
// application it is.
func (s *Service) CitizenByID(ctx context.Context, a Actor, id consent.ID) (consent.Citizen, string, error) {
	snap, err := s.applicationOfCitizen(ctx, a, consent.CitizensRead, id)
	if err != nil {
		return consent.Citizen{}, "", err
	}
	c, err := s.store.Citizen(ctx, snap.Application, consent.CitizenKey{ID: id})
	return c, snap.ApplicationID, err
}

// ChangeCitizen changes the reference or the details of a citizen: change gets
// the present ones and edits them. It says which application the citizen is of.
func (s *Service) ChangeCitizen(ctx context.Context, a Actor, r Request, id consent.ID, change func(ref *string, d *consent.Details)) (consent.Citizen, string, error) {
	snap, err := s.applicationOfCitizen(ctx, a, consent.CitizensWrite, id)
	if err != nil {
		return consent.Citizen{}, "", err
	}
	c, err := s.store.ChangeCitizen(ctx, snap.Application, consent.CitizenKey{ID: id}, a.ID, func(ref *string, d *consent.Details) error {
		before := d.Email
		change(ref, d)
		faults := slices.Clone(r.Found)
		consent.CheckExternalRef(*ref, &faults)
		checked := *d
		if checked.Email == before {
			checked.Email = "" // was taken once, maybe by looser rules, and stands in nobody's way
		}
		checked.Check(&faults)
		return faults.Err()
	})
	return c, snap.ApplicationID, err
}

// EraseCitizen erases a citizen for good (GDPR art. 17): everything personal
// becomes unreadable, subscribers are told. There is no restore.
func (s *Service) EraseCitizen(ctx context.Context, a Actor, id consent.ID) error {
	snap, err := s.applicationOfCitizen(ctx, a, consent.CitizensWrite, id)
	if err != nil {
		return err
	}
	return s.store.EraseCitizen(ctx, snap.Application, consent.CitizenKey{ID: id}, a.ID)
}
