package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"

	"github.com/opencpm/opencpm/internal/consent"
)

// TemplateDraft is what is being edited of a template and not published yet.
type TemplateDraft struct {
	Key       string // of the template
	Base      int64  // the revision from which it was begun
	Body      json.RawMessage
	UpdatedAt consent.Instant
	UpdatedBy string
}

// ErrNoDraft is the answer for a draft that does not exist.
var ErrNoDraft = consent.Errorf(consent.NotFound, "The template has no draft.")

// TemplateDraft reads the draft of a template.
func (s *Store) TemplateDraft(ctx context.Context, application int64, key string) (TemplateDraft, error) {
	d := TemplateDraft{Key: key}
	var body string
	err := s.read.QueryRowContext(ctx, `SELECT base, body, updated_at, updated_by FROM template_draft WHERE application = $1 AND key = $2`, application, key).
		Scan(&d.Base, &body, &d.UpdatedAt, &d.UpdatedBy)
	d.Body = json.RawMessage(body)
	if errors.Is(err, sql.ErrNoRows) {
		err = ErrNoDraft
	}
	return d, s.classify(err)
}

// PutTemplateDraft begins a draft, or replaces one, which keeps the revision from which
// it was begun.
func (s *Store) PutTemplateDraft(ctx context.Context, application int64, d TemplateDraft) (TemplateDraft, error) {
	err := s.update(ctx, func(ctx context.Context, t *tx) error {
		d.UpdatedAt = t.now
		err := t.row(ctx, `INSERT INTO template_draft (application, key, base, body, updated_at, updated_by) VALUES ($1, $2, $3, $4, $5, $6)
			ON CONFLICT (application, key) DO UPDATE SET body = excluded.body, updated_at = excluded.updated_at, updated_by = excluded.updated_by
			RETURNING base`, application, d.Key, d.Base, string(d.Body), d.UpdatedAt, d.UpdatedBy).Scan(&d.Base)
		if err != nil {
			return err
		}
		return t.audit(ctx, application, d.UpdatedBy, "template-draft.put", d.Key)
	})
	return outcome(&d, err)
}

// DeleteTemplateDraft gives a draft up.
func (s *Store) DeleteTemplateDraft(ctx context.Context, application int64, key, actor string) error {
	return s.update(ctx, func(ctx context.Context, t *tx) error {
		n, err := changed(ctx, t, `DELETE FROM template_draft WHERE application = $1 AND key = $2`, application, key)
		if err != nil {
			return err
		}
		if n == 0 {
			return ErrNoDraft
		}
		return t.audit(ctx, application, actor, "template-draft.delete", key)
	})
}

// EndTemplateDraft ends the draft of a template whose newest revision says the same.
func (s *Store) EndTemplateDraft(ctx context.Context, application int64, v consent.Revision) error {
	return s.update(ctx, func(ctx context.Context, t *tx) error { return t.endDraft(ctx, application, v) })
}

// endDraft ends the draft of a template that has become what the draft says, or that was
// archived.
func (t *tx) endDraft(ctx context.Context, application int64, v consent.Revision) error {
	if v.Kind != consent.KindTemplate {
		return nil
	}
	archived := 0
	if v.Archived {
		archived = 1
	}
	_, err := t.exec(ctx, `DELETE FROM template_draft WHERE application = $1 AND key = $2 AND (body = $3 OR $4 = 1)`, application, v.Key, string(v.Body), archived)
	return err
}
