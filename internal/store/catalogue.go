package store

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/json"
	"errors"
	"strings"

	"github.com/opencpm/opencpm/internal/consent"
)

// Application is one container of citizens and their catalogue.
type Application struct {
	Number   int64 // the store's own
	ID       string
	Revision int64 // of its catalogue
}

// CreateApplication creates an application with an empty catalogue; an id that
// is taken is a Conflict.
func (s *Store) CreateApplication(ctx context.Context, id string, settings consent.ApplicationSettings, actor string) (Application, error) {
	a := Application{ID: id, Revision: 1}
	err := s.update(ctx, func(ctx context.Context, t *tx) error {
		err := t.row(ctx, `INSERT INTO application (public_id, revision, created_at) VALUES ($1, 1, $2)
			ON CONFLICT (public_id) DO NOTHING RETURNING id`, id, t.now).Scan(&a.Number)
		if errors.Is(err, sql.ErrNoRows) {
			return consent.Errorf(consent.Conflict, "An application with this id exists already.")
		}
		if err != nil {
			return err
		}
		items, err := consent.Catalogue{Application: settings}.Items()
		if err != nil {
			return err
		}
		if err := t.putItem(ctx, a, CatalogueChange{Item: items[0]}, actor); err != nil {
			return err
		}
		t.rings |= bellSetup
		return t.audit(ctx, a.Number, actor, "application.create", id)
	})
	return a, err
}

// Applications lists all applications.
func (s *Store) Applications(ctx context.Context) ([]Application, error) {
	list, err := collect(ctx, s.read, func(r *sql.Rows) (a Application, err error) {
		return a, r.Scan(&a.Number, &a.ID, &a.Revision)
	}, `SELECT id, public_id, revision FROM application ORDER BY id`)
	return list, s.classify(err)
}

// Snapshot reads the catalogue of an application as it is now.
func (s *Store) Snapshot(ctx context.Context, a Application) (*consent.Snapshot, error) {
	items, err := collect(ctx, s.read, func(r *sql.Rows) (v consent.Revision, err error) {
		var body string
		var archived int
		err = r.Scan(&v.Kind, &v.Key, &v.Revision, &v.ID, &archived, &body)
		v.Body, v.Archived = json.RawMessage(body), archived != 0
		return v, err
	}, `SELECT kind, key, revision, id, archived, body FROM catalogue_item i WHERE application = $1 AND revision = (
			SELECT max(revision) FROM catalogue_item n WHERE n.application = i.application AND n.kind = i.kind AND n.key = i.key)
		ORDER BY position, kind, key`, a.Number)
	if err != nil {
		return nil, s.classify(err)
	}
	return consent.NewSnapshot(a.ID, a.Number, a.Revision, items)
}

// Revision reads one revision of a catalogue item, as it was recorded.
func (s *Store) Revision(ctx context.Context, application int64, kind, key string, revision int64) (consent.Item, error) {
	var body string
	err := s.read.QueryRowContext(ctx, `SELECT body FROM catalogue_item WHERE application = $1 AND kind = $2 AND key = $3 AND revision = $4`,
		application, kind, key, revision).Scan(&body)
	return consent.Item{Kind: kind, Key: key, Body: json.RawMessage(body)}, s.classify(err)
}

// CatalogueChange is one item to be added to a catalogue, changed or archived.
type CatalogueChange struct {
	consent.Item
	Position int // within the document
	Archive  bool
}

// ChangeCatalogue writes a new revision of each item, all or none. It fails with
// Conflict when the catalogue is no longer the one that the changes were made for.
func (s *Store) ChangeCatalogue(ctx context.Context, a Application, changes []CatalogueChange, actor string) error {
	return s.update(ctx, func(ctx context.Context, t *tx) error {
		n, err := changed(ctx, t, `UPDATE application SET revision = revision + 1 WHERE id = $1 AND revision = $2`, a.Number, a.Revision)
		if err != nil {
			return err
		}
		if n == 0 {
			return consent.Errorf(consent.Conflict, "The catalogue was changed by somebody else at the same time; nothing was changed. Try again.")
		}
		for _, c := range changes {
			if err := t.putItem(ctx, a, c, actor); err != nil {
				return err
			}
			action := "catalogue.put"
			if c.Archive {
				action = "catalogue.archive"
			}
			if err := t.audit(ctx, a.Number, actor, action, c.Kind+" "+c.Key); err != nil {
				return err
			}
		}
		t.rings |= bellSetup
		return nil
	})
}

func (t *tx) putItem(ctx context.Context, a Application, c CatalogueChange, actor string) error {
	var revision int64
	id := itemID(c.Kind, c.Key)
	err := t.row(ctx, `SELECT revision, id FROM catalogue_item WHERE application = $1 AND kind = $2 AND key = $3 ORDER BY revision DESC LIMIT 1`,
		a.Number, c.Kind, c.Key).Scan(&revision, &id)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return err
	}
	archived := 0
	if c.Archive {
		archived = 1
	}
	_, err = t.exec(ctx, `INSERT INTO catalogue_item (application, kind, key, revision, id, position, archived, body, recorded_at, recorded_by)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)`,
		a.Number, c.Kind, c.Key, revision+1, id, c.Position, archived, string(c.Body), t.now, actor)
	return err
}

// itemID gives what the API calls an item. Policies, statements and templates get
// an id that is unique on the server, since widgets name a template without its
// application; everything else is called by its key.
func itemID(kind, key string) string {
	prefix := map[string]string{consent.KindPolicy: "pp_", consent.KindStatement: "ps_", consent.KindTemplate: "t_"}[kind]
	if prefix == "" {
		return key
	}
	return prefix + strings.ToLower(rand.Text())
}
