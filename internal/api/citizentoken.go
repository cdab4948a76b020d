package api

import (
	"context"

	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/internal/core"
	"github.com/opencpm/opencpm/internal/store"
)

// newToken is a citizen token to be made.
type newToken struct {
	ApplicationID  applicationID `json:"applicationId"`
	CitizenID      consent.ID    `json:"citizenId,omitempty"`
	ExternalRef    string        `json:"externalRef,omitempty" minLength:"1" maxLength:"100"`
	ExpiryDate     moment        `json:"expiryDate,omitempty"`
	BatchReference string        `json:"batchReference,omitempty" maxLength:"100"`
}

// mintedToken is the only answer that holds the token.
type mintedToken struct {
	Token      string            `json:"token"`
	ExpiryDate consent.Timestamp `json:"expiryDate"`
	Issue      int64             `json:"issue"`
}

type createTokenInput struct{ body[newToken] }

func (s *server) createToken(ctx context.Context, actor core.Actor, in *createTokenInput) (mintedToken, error) {
	v, request := in.read()
	made, err := s.Core.MintToken(ctx, actor, request, core.TokenRequest{
		ApplicationID: string(v.ApplicationID), Citizen: consent.CitizenKey{ID: v.CitizenID, ExternalRef: v.ExternalRef},
		Expires: v.ExpiryDate.Instant, Reference: v.BatchReference,
	})
	return mintedToken{made.Token, consent.Timestamp(made.Expires), made.Issue}, err
}

func (s *server) revokeTokens(ctx context.Context, actor core.Actor, in *CitizenPath) (nothing, error) {
	return nothing{}, s.Core.RevokeTokens(ctx, actor, consent.ID(in.CitizenID))
}

// tokenIssue is one act of making citizen tokens.
type tokenIssue struct {
	Issue          int64                `json:"issue"`
	Kind           store.TokenIssueKind `json:"kind"`
	CitizenID      idOrNull             `json:"citizenId"`
	SubscriptionID idOrNull             `json:"subscriptionId"`
	JobID          idOrNull             `json:"jobId"`
	Scheduled      bool                 `json:"scheduled"`
	BatchReference consent.Text         `json:"batchReference"`
	CreatedAt      consent.Timestamp    `json:"createdAt"`
	CreatedBy      string               `json:"createdBy"`
	ExpiryDate     consent.Timestamp    `json:"expiryDate"`
	RevokedAt      consent.Timestamp    `json:"revokedAt"`
}

type tokenIssueList struct {
	Issues []tokenIssue `json:"issues"`
	Page
}

type listTokenIssuesInput struct {
	ApplicationID string `query:"applicationId" required:"true" maxLength:"50"`
	Paging
}

func (s *server) listTokenIssues(ctx context.Context, actor core.Actor, in *listTokenIssuesInput) (tokenIssueList, error) {
	var before int64
	if err := in.place("issues", &before); err != nil {
		return tokenIssueList{}, err
	}
	found, total, err := s.Core.TokenIssues(ctx, actor, in.ApplicationID, before, in.Limit, in.Offset)
	out := tokenIssueList{make([]tokenIssue, len(found)), in.page("issues", len(found), total, func() []any { return []any{found[len(found)-1].Number} })}
	for i, v := range found {
		out.Issues[i] = tokenIssue{
			v.Number, v.Kind,
			idOrNull{v.CitizenID},
			idOrNull{v.SubscriptionID},
			idOrNull{v.JobID},
			v.Scheduled,
			consent.Text(v.Reference),
			consent.Timestamp(v.CreatedAt), v.CreatedBy, consent.Timestamp(v.ExpiresAt), consent.Timestamp(v.RevokedAt),
		}
	}
	return out, err
}

type revokeTokenIssueInput struct {
	Issue int64 `path:"issue" minimum:"1" doc:"The issue, by its number."`
}

func (s *server) revokeTokenIssue(ctx context.Context, actor core.Actor, in *revokeTokenIssueInput) (nothing, error) {
	return nothing{}, s.Core.RevokeTokenIssue(ctx, actor, in.Issue)
}
