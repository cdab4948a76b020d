package api

import (
	"context"

	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/internal/core"
	"github.com/opencpm/opencpm/internal/store"
)

// templateDraft is what is being edited of a template.
type templateDraft struct {
	BaseRevision int64                     `json:"baseRevision" doc:"The revision from which the draft was begun: it can be published while that is the newest."`
	UpdatedAt    consent.Timestamp         `json:"updatedAt"`
	UpdatedBy    string                    `json:"updatedBy" doc:"The credential that changed it last."`
	Content      content[consent.Template] `json:"content" doc:"The template as it would be."`
}

func draftOf(d store.TemplateDraft, err error) (templateDraft, error) {
	return templateDraft{d.Base, consent.Timestamp(d.UpdatedAt), d.UpdatedBy, content[consent.Template]{d.Body}}, err
}

func templateName(in *ItemPath) core.ItemName {
	return core.ItemName{ApplicationID: in.ApplicationID, Kind: consent.KindTemplate, ID: in.ID}
}

func (s *server) getDraft(ctx context.Context, actor core.Actor, in *ItemPath) (templateDraft, error) {
	return draftOf(s.Core.Draft(ctx, actor, templateName(in)))
}

type putDraftInput struct {
	ItemPath
	body[consent.Template]
}

func (s *server) putDraft(ctx context.Context, actor core.Actor, in *putDraftInput) (templateDraft, error) {
	draft, request := in.read()
	return draftOf(s.Core.PutDraft(ctx, actor, request, templateName(&in.ItemPath), draft))
}

func (s *server) deleteDraft(ctx context.Context, actor core.Actor, in *ItemPath) (nothing, error) {
	return nothing{}, s.Core.DeleteDraft(ctx, actor, templateName(in))
}

func (s *server) publishDraft(ctx context.Context, actor core.Actor, in *ItemPath) (item[consent.Template], error) {
	v, err := s.Core.PublishDraft(ctx, actor, templateName(in))
	return itemOf[consent.Template](in.ApplicationID, v, err)
}

// lintReport says what is questionable about a template.
type lintReport struct {
	Findings []consent.Finding `json:"findings" doc:"What was found; empty where there is nothing to say."`
}

func (s *server) lintTemplate(ctx context.Context, actor core.Actor, in *ItemPath) (lintReport, error) {
	found, err := s.Core.Lint(ctx, actor, templateName(in), false)
	return lintReport{found}, err
}

func (s *server) lintDraft(ctx context.Context, actor core.Actor, in *ItemPath) (lintReport, error) {
	found, err := s.Core.Lint(ctx, actor, templateName(in), true)
	return lintReport{found}, err
}
