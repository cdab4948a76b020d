package core

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/internal/store"
)

// maxNamed is how many citizens can be named for whom a job makes tokens.
const maxNamed = 1000

// maxUnsubscribe is how many columns of links to unsubscribe a file can have.
const maxUnsubscribe = 20

// TokenJobRequest asks for tokens of many citizens, in a file.
type TokenJobRequest struct {
	ApplicationID string
	Reference     string          // the client's own
	Expires       consent.Instant // zero: in ten seconds
	CitizenIDs    []consent.ID    // with ExternalRefs at most 1,000; both nil for everyone, and neither may be empty
	ExternalRefs  []string
	Unsubscribe   []string // options or groups, for each of which there is a column of links to leave it
	PerSecond     *int64   // the most citizens a second; nil for no limit
}

// CreateTokenJob begins to make tokens of many citizens. Those who are named and do not
// exist are in the file of failures.
func (s *Service) CreateTokenJob(ctx context.Context, a Actor, r Request, q TokenJobRequest) (store.TokenJob, error) {
	once := r.once(a, "create token job")
	snap, err := s.authoriseFor(ctx, a, consent.TokensCreate, q.ApplicationID, r.Found)
	if err != nil {
		return store.TokenJob{}, err
	}
	faults := slices.Clone(r.Found)
	consent.CheckText(&faults, "reference", q.Reference, 0, 100)
	n := store.NewTokens{Application: snap.Application, Reference: q.Reference, TokenPlan: s.tokenPlan(snap)}
	n.Expires = consent.TokenExpiry(q.Expires, consent.At(time.Now()), &faults)
	n.Everyone = q.CitizenIDs == nil && q.ExternalRefs == nil
	checkNamed(q.CitizenIDs, "citizenIds", &faults)
	checkNamed(q.ExternalRefs, "externalRefs", &faults)
	if len(q.CitizenIDs)+len(q.ExternalRefs) > maxNamed {
		faults.Add("citizenIds", "must name at most %d citizens, together with externalRefs", maxNamed)
	}
	for _, id := range q.CitizenIDs {
		n.Named = append(n.Named, consent.CitizenKey{ID: id})
	}
	for _, ref := range q.ExternalRefs {
		n.Named = append(n.Named, consent.CitizenKey{ExternalRef: ref})
	}
	n.Unsubscribe = unsubscribeColumns(snap, q.Unsubscribe, &faults)
	if q.PerSecond != nil {
		if n.PerSecond = *q.PerSecond; n.PerSecond < 1 || n.PerSecond > maxJobRate {
			faults.Add("maxPerSecond", "must lie between 1 and %d", maxJobRate)
		}
	}
	if err := faults.Err(); err != nil {
		return store.TokenJob{}, err
	}
	return s.store.CreateTokenJob(ctx, n, a.ID, once)
}

// checkNamed notes a fault where a list is given and names nobody, as by a search that found
// none: they must not become everyone.
func checkNamed[T any](list []T, at string, faults *consent.Faults) {
	if list != nil && len(list) == 0 {
		faults.Add(at, "must name at least one citizen, or be left out")
	}
}

func unsubscribeColumns(snap *consent.Snapshot, ids []string, faults *consent.Faults) []store.UnsubscribeColumn {
	if len(ids) > maxUnsubscribe {
		faults.Add("unsubscribe", "must name at most %d options", maxUnsubscribe)
		return nil
	}
	var columns []store.UnsubscribeColumn
	for i, id := range ids {
		k := consent.Key{Type: consent.OptionSingle, ID: id}
		if !snap.HasOption(k) {
			k.Type = consent.OptionGroup
		}
		at := fmt.Sprintf("unsubscribe[%d]", i)
		if slices.Contains(ids[:i], id) {
			faults.Add(at, "stands twice")
		} else {
			checkLeavable(snap, k, at, faults)
		}
		columns = append(columns, store.UnsubscribeColumn{Type: k.Type, ID: k.ID})
	}
	return columns
}

// checkLeavable notes a fault unless a citizen can leave an option or a group.
func checkLeavable(snap *consent.Snapshot, k consent.Key, at string, faults *consent.Faults) {
	switch {
	case !snap.HasOption(k):
		faults.Add(at, "names no option or option group of the application")
	case !snap.CanLeave(k):
		faults.Add(at, "cannot be left: nothing in it rests on consent or on a legitimate interest")
	}
}

// TokenJob reads a job that makes tokens, and by which issue they can be revoked.
func (s *Service) TokenJob(ctx context.Context, a Actor, id consent.ID) (store.TokenJob, error) {
	if err := a.may(consent.TokensCreate); err != nil {
		return store.TokenJob{}, err
	}
	return s.store.TokenJob(ctx, a.Applications, id)
}

// TokenJobFile gives a job that makes tokens and has written some, for ReadJobFile.
func (s *Service) TokenJobFile(ctx context.Context, a Actor, id consent.ID) (store.Job, error) {
	job, err := s.TokenJob(ctx, a, id)
	return fileOf(job.Job, consent.JobResult, err)
}

// tokenMark stands in a URL for the token.
const tokenMark = "{token}"

// tokenPlan gives the links of an application.
func (s *Service) tokenPlan(snap *consent.Snapshot) store.TokenPlan {
	plan := store.TokenPlan{TokenURL: s.manageURL(snap, "")}
	if s.baseURL != "" {
		plan.LeaveURL = s.baseURL + "/u/" + tokenMark
	}
	return plan
}

// manageURL gives the page for citizens with a token, with the mark in it: that of the
// settings, or else the preference centre to which what is asked for at one leads, by its
// reference, or the first that shows and changes, at its own host where it has one; empty
// for none.
func (s *Service) manageURL(snap *consent.Snapshot, asked string) string {
	if u := snap.Catalogue.Application.ManageURL; u != "" {
		return u
	}
	centre, ok := manageCentre(snap, asked)
	switch {
	case !ok:
		return ""
	case centre.Host != "":
		return "https://" + centre.Host + "/?token=" + tokenMark
	case s.baseURL == "":
		return ""
	}
	return s.baseURL + "/c/" + centre.Slug + "?token=" + tokenMark
}

// RegenerateTokens begins, for each application that wants it and where it is due, to
// make new tokens of everyone before those they have expire. Any number of nodes may do
// so at once, as often as they like: one job is begun.
func (s *Service) RegenerateTokens(ctx context.Context) error {
	if err := s.refresh(ctx); err != nil {
		return err
	}
	now := consent.At(time.Now())
	for _, snap := range *s.snapshots.Load() {
		settings := snap.Catalogue.Application.TokenRegeneration
		if settings == nil {
			continue
		}
		n := store.NewTokens{Application: snap.Application, Reference: "scheduled", TokenPlan: s.tokenPlan(snap)}
		n.Expires = settings.Expiry(now)
		if _, err := s.store.ScheduleTokens(ctx, n, settings.DueBefore(now)); err != nil {
			return err
		}
	}
	return nil
}
