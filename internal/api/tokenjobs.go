package api

import (
	"context"

	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/internal/core"
	"github.com/opencpm/opencpm/internal/store"
)

// newTokenJob asks for tokens of many citizens.
type newTokenJob struct {
	ApplicationID applicationID `json:"applicationId"`
	Reference     string        `json:"reference,omitempty" maxLength:"100"`
	ExpiryDate    moment        `json:"expiryDate,omitempty"`
	CitizenIDs    []consent.ID  `json:"citizenIds,omitempty" minItems:"1"`
	ExternalRefs  []string      `json:"externalRefs,omitempty" minItems:"1"`
	Unsubscribe   []string      `json:"unsubscribe,omitempty"`
	MaxPerSecond  *int64        `json:"maxPerSecond,omitempty" doc:"The most citizens a second, 1 to 100000; left out, no limit."`
}

// Job is what every job says of itself, for those that say more.
type Job = job

// tokenJob is a job that makes tokens.
type tokenJob struct {
	Job
	Issue      int64             `json:"issue"`
	Reference  consent.Text      `json:"reference"`
	ExpiryDate consent.Timestamp `json:"expiryDate"`
	RevokedAt  consent.Timestamp `json:"revokedAt"`
}

func (s *server) tokenJobOf(j store.TokenJob) tokenJob {
	return tokenJob{s.jobOf(j.Job), j.Issue, consent.Text(j.Reference), consent.Timestamp(j.Expires), consent.Timestamp(j.RevokedAt)}
}

type createTokenJobInput struct{ body[newTokenJob] }

func (s *server) createTokenJob(ctx context.Context, actor core.Actor, in *createTokenJobInput) (tokenJob, error) {
	v, request := in.read()
	made, err := s.Core.CreateTokenJob(ctx, actor, request, core.TokenJobRequest{
		ApplicationID: string(v.ApplicationID), Reference: v.Reference, Expires: v.ExpiryDate.Instant,
		CitizenIDs: v.CitizenIDs, ExternalRefs: v.ExternalRefs, Unsubscribe: v.Unsubscribe, PerSecond: v.MaxPerSecond,
	})
	return s.tokenJobOf(made), err
}

func (s *server) getTokenJob(ctx context.Context, actor core.Actor, in *JobPath) (tokenJob, error) {
	j, err := s.Core.TokenJob(ctx, actor, consent.ID(in.ID))
	return s.tokenJobOf(j), err
}

func (s *server) getTokenJobFile(ctx context.Context, actor core.Actor, in *JobPath) (stream, error) {
	j, err := s.Core.TokenJobFile(ctx, actor, consent.ID(in.ID))
	return s.jobFile(j, consent.JobResult), err
}
