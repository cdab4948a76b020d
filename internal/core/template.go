package core

import (
	"context"
	"encoding/json"

	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/internal/store"
)

// template gives a template by its id or reference, with the catalogue.
func (s *Service) template(ctx context.Context, a Actor, scope consent.Scope, n ItemName) (*consent.Snapshot, consent.TemplateRevision, error) {
	snap, err := s.authorise(ctx, a, scope, n.ApplicationID)
	if err != nil {
		return nil, consent.TemplateRevision{}, err
	}
	t, ok := snap.Template(n.ID)
	if !ok {
		return nil, t, errNoTemplate
	}
	return snap, t, nil
}

// Draft reads the draft of a template.
func (s *Service) Draft(ctx context.Context, a Actor, n ItemName) (store.TemplateDraft, error) {
	snap, t, err := s.template(ctx, a, consent.ConfigurationRead, n)
	if err != nil {
		return store.TemplateDraft{}, err
	}
	return s.store.TemplateDraft(ctx, snap.Application, t.Ref)
}

// PutDraft begins the draft of a template, or replaces it. Whether it could be published
// is not asked yet.
func (s *Service) PutDraft(ctx context.Context, a Actor, r Request, n ItemName, draft consent.Template) (store.TemplateDraft, error) {
	snap, t, err := s.template(ctx, a, consent.ConfigurationWrite, n)
	if err != nil {
		return store.TemplateDraft{}, err
	}
	if draft.Reference != t.Ref && !r.Found.At("reference") {
		r.Found.Add("reference", "cannot be changed")
	}
	if err := r.Found.Err(); err != nil {
		return store.TemplateDraft{}, err
	}
	body, err := json.Marshal(draft)
	if err != nil {
		return store.TemplateDraft{}, err
	}
	return s.store.PutTemplateDraft(ctx, snap.Application, store.TemplateDraft{Key: t.Ref, Base: t.Version, Body: body, UpdatedBy: a.ID})
}

// DeleteDraft gives the draft of a template up.
func (s *Service) DeleteDraft(ctx context.Context, a Actor, n ItemName) error {
	snap, t, err := s.template(ctx, a, consent.ConfigurationWrite, n)
	if err != nil {
		return err
	}
	return s.store.DeleteTemplateDraft(ctx, snap.Application, t.Ref, a.ID)
}

// PublishDraft makes the draft of a template its next revision, which is shown from then
// on, and ends the draft. Where the template was changed since the draft was begun that
// is a Conflict.
func (s *Service) PublishDraft(ctx context.Context, a Actor, n ItemName) (consent.Revision, error) {
	snap, t, err := s.template(ctx, a, consent.ConfigurationWrite, n)
	if err != nil {
		return consent.Revision{}, err
	}
	n.Kind = consent.KindTemplate
	published, err := s.editItem(ctx, a, store.Once{}, n.ApplicationID, func(present []consent.Revision) (v consent.Revision, found consent.Faults, err error) {
		draft, err := s.store.TemplateDraft(ctx, snap.Application, t.Ref)
		if err != nil {
			return v, nil, err
		}
		if v, err = n.in(present); err == nil && (v.Archived || v.Revision != draft.Base) {
			err = consent.Errorf(consent.Conflict, "The template was changed since the draft was begun; nothing was changed. Begin the draft anew from what is published.")
		}
		v.Body = draft.Body
		return v, nil, err
	})
	if err != nil {
		return published, err
	}
	// One that changes nothing was not written, and is at its end as well.
	return published, s.store.EndTemplateDraft(ctx, snap.Application, published)
}

// Lint says what is questionable about a template, or about its draft.
func (s *Service) Lint(ctx context.Context, a Actor, n ItemName, draft bool) ([]consent.Finding, error) {
	snap, t, err := s.template(ctx, a, consent.ConfigurationRead, n)
	if err != nil {
		return nil, err
	}
	if draft {
		if t.Template, err = s.draft(ctx, snap, t.Ref); err != nil {
			return nil, err
		}
	}
	return snap.Lint(t.Template), nil
}

// draft reads what the draft of a template says.
func (s *Service) draft(ctx context.Context, snap *consent.Snapshot, reference string) (consent.Template, error) {
	var t consent.Template // a new one: that of the snapshot is shared
	d, err := s.store.TemplateDraft(ctx, snap.Application, reference)
	if err == nil {
		err = json.Unmarshal(d.Body, &t)
	}
	return t, err
}
