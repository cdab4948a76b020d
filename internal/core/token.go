package core

import (
	"context"
	"time"

	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/internal/store"
	"github.com/opencpm/opencpm/internal/token"
)

// ByCitizenToken says who presents a citizen token. Whatever is wrong with it the answer is the
// same after the same work: one signature and one look at the store, where the citizen
// and the issue may have been revoked.
func (s *Service) ByCitizenToken(ctx context.Context, text string) (Actor, error) {
	_, a, err := s.byToken(ctx, text, token.Manage)
	return a, err
}

// TokenRequest asks for one citizen token.
type TokenRequest struct {
	ApplicationID string
	Citizen       consent.CitizenKey
	Expires       consent.Instant // zero: in ten seconds
	Reference     string          // the client's own, by which the issue can be told in the list
}

// MintedToken is a citizen token, which nobody can read again.
type MintedToken struct {
	Token   string
	Expires consent.Instant
	Issue   int64 // by which it can be revoked
}

// MintToken makes a token with which one citizen can see and change their own data, and
// nothing else.
func (s *Service) MintToken(ctx context.Context, a Actor, r Request, q TokenRequest) (MintedToken, error) {
	snap, err := s.authoriseFor(ctx, a, consent.TokensCreate, q.ApplicationID, r.Found)
	if err != nil {
		return MintedToken{}, err
	}
	faults := r.Found
	checkCitizenKey(q.Citizen, &faults)
	consent.CheckText(&faults, "batchReference", q.Reference, 0, 100)
	expires := consent.TokenExpiry(q.Expires, consent.At(time.Now()), &faults)
	if err := faults.Err(); err != nil {
		return MintedToken{}, err
	}
	g, err := s.store.IssueToken(ctx, snap.Application, q.Citizen, q.Reference, a.ID, expires)
	if err != nil {
		return MintedToken{}, err
	}
	return MintedToken{s.WriteToken(g, expires), expires, g.Issue}, nil
}

// WriteToken writes a token with which a citizen can see and change their own data, on
// grounds that the store gave.
func (s *Service) WriteToken(g store.TokenGrounds, expires consent.Instant) string {
	return s.tokens.Load().Mint(token.Claims{
		Scope: token.Manage, Application: g.Application, Citizen: g.Citizen, Issue: g.Issue, Generation: g.Generation, Expires: expires,
	})
}

// RevokeTokens revokes every token that a citizen has, at once.
func (s *Service) RevokeTokens(ctx context.Context, a Actor, citizen consent.ID) error {
	snap, err := s.applicationOfCitizen(ctx, a, consent.TokensRevoke, citizen)
	if err != nil {
		return err
	}
	return s.store.RevokeTokens(ctx, snap.Application, consent.CitizenKey{ID: citizen}, a.ID)
}

// RevokeTokenIssue revokes every token of one issue, at once.
func (s *Service) RevokeTokenIssue(ctx context.Context, a Actor, number int64) error {
	if err := a.may(consent.TokensRevoke); err != nil {
		return err
	}
	return s.store.RevokeTokenIssue(ctx, a.Applications, number, a.ID)
}

// TokenIssues lists the issues of citizen tokens of an application, the newest first, from
// before the one of a number where that is not zero, and says how many there are in all.
func (s *Service) TokenIssues(ctx context.Context, a Actor, applicationID string, before int64, limit, offset int) ([]store.TokenIssue, int64, error) {
	snap, err := s.authorise(ctx, a, consent.TokensRevoke, applicationID)
	if err != nil {
		return nil, 0, err
	}
	return s.store.TokenIssues(ctx, snap.Application, before, limit, offset)
}
