package core

import (
	"context"
	"slices"

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
		change(ref, d)
		faults := slices.Clone(r.Found)
		consent.CheckExternalRef(*ref, &faults)
		d.Check(&faults)
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

// applicationOfCitizen finds the application of a citizen among those of the
// actor; any other citizen does not exist for them.
func (s *Service) applicationOfCitizen(ctx context.Context, a Actor, scope consent.Scope, id consent.ID) (*consent.Snapshot, error) {
	if err := a.may(scope); err != nil {
		return nil, err
	}
	applicationID, err := s.store.ApplicationOfCitizen(ctx, id)
	if err != nil {
		return nil, err
	}
	snap, err := s.authorise(ctx, a, scope, applicationID)
	if consent.KindOf(err) == consent.NotFound {
		err = store.ErrNoCitizen
	}
	return snap, err
}
