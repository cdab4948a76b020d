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
		if _, err := t.putItem(ctx, a, consent.Revision{Item: items[0]}, actor); err != nil {
			return err
		}
		t.rings |= bellSetup
		return t.audit(ctx, a.Number, actor, "application.create", id)
	})
	return outcome(&a, err)
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
	items, err := s.CatalogueItems(ctx, a.Number, "")
	if err != nil {
		return nil, err
	}
	return consent.NewSnapshot(a.ID, a.Number, a.Revision, items)
}

const itemColumns = `kind, key, revision, id, archived, position, body, recorded_at, recorded_by`

func scanItem(r *sql.Rows) (v consent.Revision, err error) {
	var body string
	var archived int
	err = r.Scan(&v.Kind, &v.Key, &v.Revision, &v.ID, &archived, &v.Position, &body, &v.RecordedAt, &v.RecordedBy)
	v.Body, v.Archived = json.RawMessage(body), archived != 0
	return v, err
}

// CatalogueItems reads the newest revision of each item of a kind, or of every kind
// where it is empty, in the order of the document. Archived ones are among them.
func (s *Store) CatalogueItems(ctx context.Context, application int64, kind string) ([]consent.Revision, error) {
	items, err := catalogueItems(ctx, s.read, application, kind)
	return items, s.classify(err)
}

func catalogueItems(ctx context.Context, q reader, application int64, kind string) ([]consent.Revision, error) {
	return collect(ctx, q, scanItem, `SELECT `+itemColumns+` FROM catalogue_item i WHERE application = $1 AND (kind = $2 OR $2 = '') AND revision = (
			SELECT max(revision) FROM catalogue_item n WHERE n.application = i.application AND n.kind = i.kind AND n.key = i.key)
		ORDER BY position, kind, key`, application, kind)
}

// ItemRevisions reads the revisions of one item before one of that number, the newest
// first.
func (s *Store) ItemRevisions(ctx context.Context, application int64, kind, key string, before int64, limit, offset int) ([]consent.Revision, error) {
	revisions, err := collect(ctx, s.read, scanItem, `SELECT `+itemColumns+` FROM catalogue_item WHERE application = $1 AND kind = $2 AND key = $3 AND revision < $4
		ORDER BY revision DESC LIMIT $5 OFFSET $6`, application, kind, key, before, limit, offset)
	return revisions, s.classify(err)
}

// ErrOvertaken is the answer to changes of a catalogue that somebody else has changed
// meanwhile.
var ErrOvertaken = consent.Errorf(consent.Conflict, "The catalogue was changed by somebody else at the same time; nothing was changed. Try again.")

// ChangeCatalogue writes a new revision of each item, all or none, and gives them
// as they were written; of what it is given the item, its position and whether it is
// archived count. It fails with ErrOvertaken when the catalogue is no longer the one
// that the changes were made for, and with Conflict when a preference centre would have
// the address of another application's.
func (s *Store) ChangeCatalogue(ctx context.Context, a Application, changes []consent.Revision, actor string, once Once) ([]consent.Revision, error) {
	var written []consent.Revision
	err := s.update(ctx, func(ctx context.Context, t *tx) error {
		written = nil
		if done, err := once.again(ctx, t, &written); done || err != nil {
			return err
		}
		n, err := changed(ctx, t, `UPDATE application SET revision = revision + 1 WHERE id = $1 AND revision = $2`, a.Number, a.Revision)
		if err != nil {
			return err
		}
		if n == 0 {
			return ErrOvertaken
		}
		if err := t.putCentres(ctx, a, changes); err != nil {
			return err
		}
		for _, c := range changes {
			v, err := t.putItem(ctx, a, c, actor)
			if err != nil {
				return err
			}
			written = append(written, v)
			if err := t.endDraft(ctx, a.Number, v); err != nil {
				return err
			}
			action := "catalogue.put"
			if c.Archived {
				action = "catalogue.archive"
			}
			if err := t.audit(ctx, a.Number, actor, action, c.Kind+" "+c.Key); err != nil {
				return err
			}
		}
		t.rings |= bellSetup
		return once.keep(ctx, t, written)
	})
	return outcome(&written, err)
}

// putItem writes the next revision of an item.
func (t *tx) putItem(ctx context.Context, a Application, v consent.Revision, actor string) (consent.Revision, error) {
	v.Revision, v.ID, v.RecordedAt, v.RecordedBy = 0, itemID(v.Kind, v.Key), t.now, actor
	err := t.row(ctx, `SELECT revision, id FROM catalogue_item WHERE application = $1 AND kind = $2 AND key = $3 ORDER BY revision DESC LIMIT 1`,
		a.Number, v.Kind, v.Key).Scan(&v.Revision, &v.ID)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return v, err
	}
	v.Revision++
	archived := 0
	if v.Archived {
		archived = 1
	}
	_, err = t.exec(ctx, `INSERT INTO catalogue_item (application, kind, key, revision, id, position, archived, body, recorded_at, recorded_by)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)`,
		a.Number, v.Kind, v.Key, v.Revision, v.ID, v.Position, archived, string(v.Body), v.RecordedAt, v.RecordedBy)
	return v, err
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
