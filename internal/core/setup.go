package core

import (
	"context"

	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/internal/store"
)

// CreateApplication creates an application; without an id one is made. It is for
// whoever holds the data, by the command line.
func (s *Service) CreateApplication(ctx context.Context, id, name string) (string, error) {
	if id == "" {
		id = store.NewID().String()
	}
	var faults consent.Faults
	consent.CheckText(&faults, "id", id, 1, 50)
	consent.CheckText(&faults, "name", name, 1, 200)
	if err := faults.Err(); err != nil {
		return "", err
	}
	if _, err := s.store.CreateApplication(ctx, id, consent.ApplicationSettings{Name: name}, Operator); err != nil {
		return "", err
	}
	return id, s.refresh(ctx)
}

// ownSnapshot is snapshot for whoever holds the data, always the newest.
func (s *Service) ownSnapshot(ctx context.Context, applicationID string) (*consent.Snapshot, error) {
	if err := s.refresh(ctx); err != nil {
		return nil, err
	}
	snap := (*s.snapshots.Load())[applicationID]
	if snap == nil {
		return nil, consent.Errorf(consent.NotFound, "There is no such application.")
	}
	return snap, nil
}

// Check rebuilds every projection from the ledger and compares; see store.Check.
func (s *Service) Check(ctx context.Context, found func(store.Finding)) (citizens, records int64, err error) {
	return s.store.Check(ctx, found)
}

// Number gives the store's number of an application, for binding a credential.
func (s *Service) Number(ctx context.Context, applicationID string) (int64, error) {
	snap, err := s.ownSnapshot(ctx, applicationID)
	if err != nil {
		return 0, err
	}
	return snap.Application, nil
}
