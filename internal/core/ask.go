package core

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"math"
	"slices"
	"time"

	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/internal/store"
)

// Transactions lists transactions of an application, oldest first, and how many
// there are where the filter asks for it.
func (s *Service) Transactions(ctx context.Context, a Actor, applicationID string, f store.RecordFilter) ([]store.Entry, int64, error) {
	snap, err := s.authorise(ctx, a, consent.ConsentRead, applicationID)
	if err != nil {
		return nil, 0, err
	}
	return s.store.Transactions(ctx, snap.Application, f)
}

// Submissions lists submissions as Transactions lists transactions.
func (s *Service) Submissions(ctx context.Context, a Actor, applicationID string, f store.RecordFilter) ([]store.Entry, int64, error) {
	snap, err := s.authorise(ctx, a, consent.ConsentRead, applicationID)
	if err != nil {
		return nil, 0, err
	}
	return s.store.Submissions(ctx, snap.Application, f)
}

// EffectiveQuery says what to ask of a citizen's state. Without a range the
// question is what applies now.
type EffectiveQuery struct {
	ApplicationID string
	Citizen       consent.CitizenKey
	OptionID      string // only the option or group of that id, which must exist; empty for all
	// Start and End ask for what is valid at Start and still at End; one that is
	// zero means now.
	Start, End consent.Instant
	Latest     bool // list also what has expired; not together with a range
}

// Effective is the effective state of one citizen.
type Effective struct {
	CitizenID   consent.ID
	ExternalRef string
	Permissions []consent.Permission
	Expired     []bool               // one for each permission: it has ended
	Pending     []consent.Permission // PENDING answers beside a standing state (rule 6)
}

// EffectiveOf gives the effective state of one citizen.
func (s *Service) EffectiveOf(ctx context.Context, a Actor, q EffectiveQuery) (Effective, error) {
	snap, err := s.authorise(ctx, a, consent.ConsentRead, q.ApplicationID)
	if err != nil {
		return Effective{}, err
	}
	var faults consent.Faults
	checkCitizenKey(q.Citizen, &faults)
	checkOption(snap, q.OptionID, &faults)
	ranged := q.Start != 0 || q.End != 0
	now := consent.At(time.Now())
	start, end := cmp.Or(q.Start, now), cmp.Or(q.End, now)
	if start > end {
		faults.Add("validEnd", "must not be earlier than validStart")
	}
	if ranged && q.Latest {
		faults.Add("expiry", "latest cannot be asked for a range")
	}
	if err := faults.Err(); err != nil {
		return Effective{}, err
	}
	var state store.State
	if ranged || q.Latest {
		state, err = s.store.History(ctx, snap.Application, q.Citizen, 0)
	} else {
		state, err = s.store.State(ctx, snap.Application, q.Citizen)
	}
	if err != nil {
		return Effective{}, err
	}
	e := Effective{CitizenID: state.CitizenID, ExternalRef: state.ExternalRef, Pending: state.Projection.Pending(now)}
	switch {
	case q.Latest:
		e.Permissions, e.Expired = state.Projection.Latest(now)
	case ranged:
		e.Permissions = state.Projection.Throughout(start, end)
	default:
		e.Permissions = state.Projection.Effective(now)
	}
	if e.Expired == nil {
		e.Expired = make([]bool, len(e.Permissions))
	}
	if q.OptionID != "" {
		for i := len(e.Permissions) - 1; i >= 0; i-- {
			if e.Permissions[i].OptionID != q.OptionID {
				e.Permissions, e.Expired = slices.Delete(e.Permissions, i, i+1), slices.Delete(e.Expired, i, i+1)
			}
		}
		e.Pending = slices.DeleteFunc(e.Pending, func(p consent.Permission) bool { return p.OptionID != q.OptionID })
	}
	return e, nil
}

func checkOption(snap *consent.Snapshot, id string, faults *consent.Faults) {
	if id != "" && !snap.HasOption(consent.Key{Type: consent.OptionSingle, ID: id}) && !snap.HasOption(consent.Key{Type: consent.OptionGroup, ID: id}) {
		faults.Add("optionId", "names no option of the application")
	}
}

// PreferencesOf gives the state of one citizen, of which the current preferences are
// part.
func (s *Service) PreferencesOf(ctx context.Context, a Actor, applicationID string, citizen consent.CitizenKey) (store.State, error) {
	snap, err := s.authorise(ctx, a, consent.ConsentRead, applicationID)
	if err != nil {
		return store.State{}, err
	}
	var faults consent.Faults
	checkCitizenKey(citizen, &faults)
	if err := faults.Err(); err != nil {
		return store.State{}, err
	}
	return s.store.State(ctx, snap.Application, citizen)
}

// Changed lists the states of the citizens who changed in a range, and how many there
// are where the filter asks for it.
func (s *Service) Changed(ctx context.Context, a Actor, applicationID string, f store.ChangedFilter) ([]store.ChangedState, int64, error) {
	snap, err := s.authorise(ctx, a, consent.ConsentRead, applicationID)
	if err != nil {
		return nil, 0, err
	}
	return s.store.Changed(ctx, snap.Application, f)
}

// Question asks why the state of a citizen is what it is, or was.
type Question struct {
	ApplicationID string
	Citizen       consent.CitizenKey
	OptionID      string          // only the option or group of that id; empty for all
	AsOf          consent.Instant // what applied then; zero for now
	KnownAt       consent.Instant // by what had been recorded then; zero for by everything
}

// Explained is the answer to a Question.
type Explained struct {
	CitizenID    consent.ID
	ExternalRef  string
	AsOf         consent.Instant
	Explanations []consent.Explanation
}

// Explain says why the state of a citizen is, or was, what it is: every candidate and
// the rule that decided its fate.
func (s *Service) Explain(ctx context.Context, a Actor, q Question) (Explained, error) {
	snap, err := s.authorise(ctx, a, consent.ConsentRead, q.ApplicationID)
	if err != nil {
		return Explained{}, err
	}
	var faults consent.Faults
	checkCitizenKey(q.Citizen, &faults)
	checkOption(snap, q.OptionID, &faults)
	if err := faults.Err(); err != nil {
		return Explained{}, err
	}
	state, err := s.store.History(ctx, snap.Application, q.Citizen, q.KnownAt)
	if err != nil {
		return Explained{}, err
	}
	asOf := cmp.Or(q.AsOf, consent.At(time.Now()))
	return Explained{state.CitizenID, state.ExternalRef, asOf, state.Projection.Explain(q.OptionID, asOf, q.AsOf != 0)}, nil
}

// ChangesQuery asks for what changed after a place of the feed.
type ChangesQuery struct {
	ApplicationID string
	After         store.Place
	Latest        bool // begin at the end of the feed instead
	Limit         int
	Wait          time.Duration // how long to wait for something new where there is nothing
}

// lookAgain is how often a waiting reader looks by itself: a change of another node may
// be behind a transaction that was still running when its bell rang.
const lookAgain = 200 * time.Millisecond

// Changes lists what changed after a place of the feed, and the place to go on from. It
// waits for something new where there is nothing.
func (s *Service) Changes(ctx context.Context, a Actor, q ChangesQuery) ([]store.ListedChange, store.Place, error) {
	snap, err := s.authorise(ctx, a, consent.ConsentRead, q.ApplicationID)
	if err != nil {
		return nil, store.Place{}, err
	}
	if q.Latest {
		if q.After, err = s.store.EndOfChanges(ctx, snap.Application); err != nil {
			return nil, store.Place{}, err
		}
	}
	news, stop := s.store.ChangesMade()
	defer stop()
	enough := time.NewTimer(q.Wait)
	defer enough.Stop()
	poll := time.NewTicker(lookAgain)
	defer poll.Stop()
	for {
		list, end, err := s.store.Changes(ctx, snap.Application, q.After, q.Limit)
		if err == nil && len(list) == 0 && end != q.After {
			q.After = end // past changes of erased citizens, which nobody can read: there may be more behind them
			continue
		}
		if err != nil || len(list) > 0 || q.Wait == 0 {
			return list, end, err
		}
		select {
		case <-ctx.Done():
			return list, end, nil
		case <-s.stopping:
			return list, end, nil
		case <-enough.C:
			return list, end, nil
		case <-news:
		case <-poll.C:
		}
	}
}

// History is a part of what was recorded of one citizen, in the order in which it was
// recorded, and the documents that were shown, as they were then.
type History struct {
	ApplicationID string
	Catalogue     consent.Catalogue // as it is now
	Entries       []store.Entry
	Total         int64
	Policies      map[consent.Citation]consent.PrivacyPolicy
	Statements    map[consent.Citation]consent.PermissionStatement
	Mails         []store.Mail // the newest first, where all was asked for
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
	h := History{ApplicationID: snap.ApplicationID, Catalogue: snap.Catalogue, Policies: map[consent.Citation]consent.PrivacyPolicy{}, Statements: map[consent.Citation]consent.PermissionStatement{}}
	if limit == 0 {
		limit = math.MaxInt32
		if h.Mails, _, err = s.store.Mails(ctx, snap.Application, consent.CitizenKey{ID: citizen}, limit, 0); err != nil {
			return History{}, err
		}
	}
	if h.Entries, h.Total, err = s.store.Chain(ctx, snap.Application, consent.CitizenKey{ID: citizen}, after, limit); err != nil {
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
