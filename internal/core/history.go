package core

import (
	"context"
	"encoding/json"
	"errors"
	"math"

	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/internal/store"
)

// History is a part of what was recorded of one citizen, in the order in which it was
// recorded, and the documents that were shown, as they were then.
type History struct {
	ApplicationID string
	Snapshot      *consent.Snapshot // the catalogue as it is now, with what is archived
	store.Chain
	Policies   map[consent.Citation]consent.PrivacyPolicy
	Statements map[consent.Citation]consent.PermissionStatement
	Mails      []store.Mail // the newest first, where all was asked for
}

// PolicyShown gives the privacy policy that a record cites and its version, as they were;
// none where it cites none.
func (h History) PolicyShown(e *consent.Evidence) (p consent.PrivacyPolicy, v consent.PolicyVersion) {
	if e.Policy == nil {
		return p, v
	}
	p = h.Policies[*e.Policy]
	if n := len(p.Versions); n > 0 {
		v = p.Versions[n-1]
	}
	return p, v
}

// History lists the records of one citizen after a place in the citizen's chain; a limit
// of 0 lists all. Citizens may read their own.
func (s *Service) History(ctx context.Context, a Actor, citizen consent.ID, after int64, limit int) (History, error) {
	snap, err := s.applicationOfOneself(ctx, a, consent.ConsentRead, citizen)
	if err != nil {
		return History{}, err
	}
	if snap, err = s.wholeSnapshot(ctx, snap); err != nil {
		return History{}, err
	}
	h := History{ApplicationID: snap.ApplicationID, Snapshot: snap, Policies: map[consent.Citation]consent.PrivacyPolicy{}, Statements: map[consent.Citation]consent.PermissionStatement{}}
	if limit == 0 {
		limit = math.MaxInt32
		if h.Mails, _, err = s.store.Mails(ctx, snap.Application, consent.CitizenKey{ID: citizen}, limit, 0); err != nil {
			return History{}, err
		}
	}
	if h.Chain, err = s.store.Chain(ctx, snap.Application, consent.CitizenKey{ID: citizen}, after, limit); err != nil {
		return History{}, err
	}
	for i := range h.Entries {
		e := h.Entries[i].Evidence()
		if err := errors.Join(
			shown(ctx, s.store, snap.Application, consent.KindPolicy, e.Policy, h.Policies),
			shown(ctx, s.store, snap.Application, consent.KindStatement, e.Statement, h.Statements)); err != nil {
			return History{}, err
		}
	}
	return h, nil
}

// shown reads the document that a record cites, once.
func shown[T any](ctx context.Context, st *store.Store, application int64, kind string, c *consent.Citation, known map[consent.Citation]T) error {
	if c == nil {
		return nil
	}
	if _, ok := known[*c]; ok {
		return nil
	}
	revisions, err := st.ItemRevisions(ctx, application, kind, c.Ref, c.Version+1, 1, 0)
	if err != nil || len(revisions) == 0 {
		return err
	}
	var document T
	err = json.Unmarshal(revisions[0].Body, &document)
	known[*c] = document
	return err
}
