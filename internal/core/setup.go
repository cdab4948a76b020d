package core

import (
	"bytes"
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
	if _, err := s.store.CreateApplication(ctx, id, consent.ApplicationSettings{Name: name}, operator); err != nil {
		return "", err
	}
	return id, s.refresh(ctx)
}

// ExportCatalogue gives the catalogue of an application.
func (s *Service) ExportCatalogue(ctx context.Context, applicationID string) (consent.Catalogue, error) {
	snap, err := s.ownSnapshot(ctx, applicationID)
	if err != nil {
		return consent.Catalogue{}, err
	}
	return snap.Catalogue, nil
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

// Difference says what an import changes, one line each.
type Difference struct {
	Action string // add, change or archive
	Kind   string
	Key    string
}

// ImportCatalogue brings the catalogue of an application to what a document says.
// What the document lacks stays, or is archived with prune; what is equal is left
// alone, so a second import changes nothing. Everything is checked before anything
// is changed; with dryRun nothing is.
func (s *Service) ImportCatalogue(ctx context.Context, applicationID string, doc consent.Catalogue, prune, dryRun bool) ([]Difference, error) {
	snap, err := s.ownSnapshot(ctx, applicationID)
	if err != nil {
		return nil, err
	}
	wanted, err := doc.Items()
	if err != nil {
		return nil, err
	}
	present, err := snap.Catalogue.Items()
	if err != nil {
		return nil, err
	}
	type key struct{ kind, key string }
	before := map[key]consent.Item{}
	for _, it := range present {
		before[key{it.Kind, it.Key}] = it
	}
	var (
		differences []Difference
		changes     []store.CatalogueChange
		merged      []consent.Item
		named       = map[key]bool{}
	)
	for i, it := range wanted {
		k := key{it.Kind, it.Key}
		named[k] = true
		merged = append(merged, it)
		old, exists := before[k]
		if exists && bytes.Equal(old.Body, it.Body) {
			continue
		}
		action := "change"
		if !exists {
			action = "add"
		}
		differences = append(differences, Difference{action, it.Kind, it.Key})
		changes = append(changes, store.CatalogueChange{Item: it, Position: i})
	}
	for i, it := range present {
		switch {
		case named[key{it.Kind, it.Key}]:
		case prune:
			differences = append(differences, Difference{"archive", it.Kind, it.Key})
			changes = append(changes, store.CatalogueChange{Item: it, Position: i, Archive: true})
		default:
			merged = append(merged, it)
		}
	}
	// The items of the document come first in the whole, so that a fault in them is
	// reported at its place in the document.
	whole, err := consent.Assemble(merged)
	if err != nil {
		return nil, err
	}
	if err := whole.Check(); err != nil {
		return nil, err
	}
	if dryRun || len(changes) == 0 {
		return differences, nil
	}
	application := store.Application{Number: snap.Application, ID: snap.ApplicationID, Revision: snap.Revision}
	if err := s.store.ChangeCatalogue(ctx, application, changes, operator); err != nil {
		return nil, err
	}
	return differences, s.refresh(ctx)
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
