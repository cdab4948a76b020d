package core

import (
	"context"

	"github.com/opencpm/opencpm/internal/consent"
)

// SetEmail gives a citizen another e-mail address, which is the email among the details.
func (s *Service) SetEmail(ctx context.Context, a Actor, r Request, citizen consent.ID, address string) error {
	snap, err := s.applicationOfCitizen(ctx, a, consent.CitizensWrite, citizen)
	if err != nil {
		return err
	}
	e := emailAddress(&r, address)
	if err := r.Found.Err(); err != nil {
		return err
	}
	return s.store.SetEmail(ctx, snap.Application, consent.CitizenKey{ID: citizen}, e, a.ID)
}

// Email gives the e-mail address of a citizen. Where none is known it fails with NotFound.
func (s *Service) Email(ctx context.Context, a Actor, citizen consent.ID) (consent.Email, error) {
	snap, err := s.applicationOfCitizen(ctx, a, consent.CitizensRead, citizen)
	if err != nil {
		return "", err
	}
	return s.store.EmailOf(ctx, snap.Application, consent.CitizenKey{ID: citizen})
}

// DeleteEmail forgets the e-mail address of a citizen.
func (s *Service) DeleteEmail(ctx context.Context, a Actor, citizen consent.ID) error {
	snap, err := s.applicationOfCitizen(ctx, a, consent.CitizensWrite, citizen)
	if err != nil {
		return err
	}
	return s.store.DeleteEmail(ctx, snap.Application, consent.CitizenKey{ID: citizen}, a.ID)
}

// SearchCitizens gives the citizens of an application who have an e-mail address, whatever
// its capitals: the oldest first, at most store.MaxFound.
func (s *Service) SearchCitizens(ctx context.Context, a Actor, r Request, applicationID, email string) ([]consent.Citizen, error) {
	snap, err := s.authoriseFor(ctx, a, consent.CitizensRead, applicationID, r.Found)
	if err != nil {
		return nil, err
	}
	e := emailAddress(&r, email)
	if err := r.Found.Err(); err != nil {
		return nil, err
	}
	return s.store.CitizensByEmail(ctx, snap.Application, e)
}

// emailAddress reads the address of a request, and notes what is wrong with it.
func emailAddress(r *Request, text string) consent.Email {
	const field = "emailAddress"
	e, err := consent.ParseEmail(text)
	switch {
	case r.Found.At(field):
	case text == "":
		r.Found.Add(field, "must be given")
	case err != nil:
		r.Found.Add(field, "%v", err)
	}
	return e
}
