package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/opencpm/opencpm/internal/consent"
)

// change is one row of the table of changes.
type change struct {
	version             int64
	changedAt, previous consent.Instant
	event               consent.EventType
	changedBy           string
	sealed              []byte // what changed; nil where the citizen is gone

	news   consent.FullState // what changed
	shifts bool              // a state or a choice is another than before
	echo   bool              // what changed is what changedBy wrote, and nothing else
}

// stampUnit is the grid of changedAt, in microseconds: it is published in
// milliseconds and rises strictly per citizen.
const stampUnit = 1000

// tell notes that the state of the citizen is a new one, caused by a client, and what
// is new in it: the message of a receipt.
func (c *citizenRow) tell(v change, now consent.Instant) error {
	c.version++
	v.version, v.previous, v.changedAt = c.version, c.changedAt, max(now/stampUnit*stampUnit, c.changedAt+stampUnit)
	if v.event != consent.CitizenDeleted {
		if v.news.Permissions == nil {
			v.news = consent.FullState{}.Since(consent.FullState{})
		}
		plain, err := json.Marshal(v.news)
		if err != nil {
			return err
		}
		v.sealed = c.key.Seal(c.changeContext(v.version), plain)
	}
	c.changes = append(c.changes, v)
	c.changedAt, c.changedBy, c.touched = v.changedAt, v.changedBy, true
	return nil
}

func (c *citizenRow) changeContext(version int64) string {
	return fmt.Sprintf("%s %d", c.context("change"), version)
}

// catchUp brings the citizen up to the present where time alone has changed the state:
// each instant at which it did is a change of its own, as if it had been noticed then.
func (c *citizenRow) catchUp(now consent.Instant) error {
	for c.nextChange != 0 && c.nextChange <= now {
		at := c.nextChange
		before := c.projection.FullState(at - 1)
		c.projection.Prune(at)
		c.nextChange, c.touched = c.projection.NextChange(at), true
		if news := c.projection.FullState(at).Since(before); !news.Empty() {
			if err := c.tell(change{event: consent.CitizenChanged, changedBy: consent.Platform.ID, news: news, shifts: true}, now); err != nil {
				return err
			}
		}
	}
	return nil
}

// revise changes the history of the citizen by fn, as one change of the state, and
// says what was effective before. A write that changes nothing effective is told to
// those who follow the full state, since whoever wrote it may believe that it holds;
// quiet spares them that. echoes, where set, reports whether news is what was written
// and nothing else.
func (c *citizenRow) revise(by string, now consent.Instant, quiet bool, echoes func(news consent.FullState) bool, fn func() error) (before consent.FullState, err error) {
	if err := c.catchUp(now); err != nil {
		return before, err
	}
	before = c.projection.FullState(max(now, c.recordedAt)) // what was recorded last counts, even by a slow clock
	if err := fn(); err != nil {
		return before, err
	}
	at := max(now, c.recordedAt)
	c.projection.Prune(at)
	c.nextChange, c.touched = c.projection.NextChange(at), true
	news := c.projection.FullState(at).Since(before)
	switch {
	case !news.Empty():
		return before, c.tell(change{
			event: consent.CitizenChanged, changedBy: by, news: news, shifts: news.Shifts(before), echo: echoes != nil && echoes(news),
		}, now)
	case !quiet:
		c.version++
		c.changedBy = by
		c.renewals = append(c.renewals, by)
	}
	return before, nil
}

// Place is a place in a list that is ordered by two numbers, for going on from there.
// The zero Place is before the first entry.
type Place struct{ Major, Minor int64 }

// ListedChange is one change of a citizen's state: what a receipt of it says. After an
// erasure the change that says so is all that is left; its reference is empty once
// everybody has been told.
type ListedChange struct {
	Place       Place
	CitizenID   consent.ID
	ExternalRef string
	Version     int64
	ChangedAt   consent.Instant
	Event       consent.EventType
	ChangedBy   string
	News        jsontext.Value // a consent.FullState of what changed
	LogKey      LogKey         // zero where the citizen is gone

	// Of an entry that is no change but a mail to the citizen, as receipts alone have it: News
	// is the mail then, nil where it has been forgotten.
	MailEnds consent.Instant // when the link in it does
}

const changeColumns = `h.id, h.position, h.citizen, h.version, h.changed_at, h.event, h.changed_by, h.body, c.public_id, c.details, c.farewell, k.wrapped, h.previous`

const changeTables = `change h JOIN citizen c ON c.id = h.citizen LEFT JOIN citizen_key k ON k.citizen = h.citizen`

var noNews, _ = json.Marshal(consent.FullState{}.Since(consent.FullState{}))

// listedChange opens a row; readable is false for a change of a citizen who has been
// erased since.
func (s *Store) listedChange(r *sql.Rows) (v ListedChange, readable bool, err error) {
	var c citizenRow
	var body, farewell []byte
	var previous consent.Instant
	if err := r.Scan(&v.Place.Minor, &v.Place.Major, &c.id, &v.Version, &v.ChangedAt, &v.Event, &v.ChangedBy, &body, &c.publicID, &c.details, &farewell, &c.wrapped, &previous); err != nil {
		return v, false, err
	}
	v.CitizenID, v.News = c.publicID, noNews
	switch {
	case v.Event == consent.CitizenDeleted && farewell != nil:
		ref, err := s.keys.Open(c.context("farewell"), farewell)
		v.ExternalRef = string(ref)
		return v, true, err
	case v.Event == consent.CitizenDeleted:
		return v, true, nil
	case c.wrapped == nil:
		return v, false, nil
	}
	p, err := c.profile(s.keys)
	if err != nil {
		return v, false, err
	}
	v.ExternalRef, v.LogKey = p.ExternalRef, LogKey{c.key, c.publicID}
	if v.Event == consent.CitizenMail {
		if v.News, v.MailEnds = nil, previous; body != nil {
			v.News, err = c.key.Open(c.mailContext(v.ChangedAt), body)
		}
		return v, true, err
	}
	v.News, err = c.key.Open(c.changeContext(v.Version), body)
	if err != nil {
		return v, false, fmt.Errorf("change %d of citizen %s: %w", v.Version, v.CitizenID, err)
	}
	return v, true, nil
}

// Changes lists the changes of an application after a place of the feed, in the order
// in which they were made, each citizen's in their own order. None is ever skipped: a
// place is passed only once nothing can come before it any more. It gives the place to
// go on from, which rises even where what was there cannot be read any more.
func (s *Store) Changes(ctx context.Context, application int64, after Place, limit int) ([]ListedChange, Place, error) {
	list := []ListedChange{}
	_, err := collect(ctx, s.fixed, func(r *sql.Rows) (struct{}, error) {
		v, readable, err := s.listedChange(r)
		if readable {
			list = append(list, v)
		}
		after = v.Place
		return struct{}{}, err
	}, `SELECT `+changeColumns+` FROM `+changeTables+` WHERE h.application = $1 AND (h.position, h.id) > ($2, $3) AND h.position < `+s.dialect.horizon()+`
		ORDER BY h.position, h.id LIMIT $4`, application, after.Major, after.Minor, limit)
	return list, after, s.classify(err)
}

// EndOfChanges gives the place of the feed after everything that Changes would list
// now.
func (s *Store) EndOfChanges(ctx context.Context, application int64) (end Place, err error) {
	err = s.read.QueryRowContext(ctx, `SELECT position, id FROM change WHERE application = $1 AND position < `+s.dialect.horizon()+`
		ORDER BY position DESC, id DESC LIMIT 1`, application).Scan(&end.Major, &end.Minor)
	if errors.Is(err, sql.ErrNoRows) {
		err = nil
	}
	return end, s.classify(err)
}

// Receipts reads the contents of receipts by the numbers of their changes. What nobody
// can read any more is left out.
func (s *Store) Receipts(ctx context.Context, numbers []int64) (map[int64]ListedChange, error) {
	found := make(map[int64]ListedChange, len(numbers))
	marks, args := places(numbers)
	_, err := collect(ctx, s.fixed, func(r *sql.Rows) (struct{}, error) {
		v, readable, err := s.listedChange(r)
		if readable {
			found[v.Place.Minor] = v
		}
		return struct{}{}, err
	}, `SELECT `+changeColumns+` FROM `+changeTables+` WHERE h.id IN (`+marks+`)`, args...)
	return found, s.classify(err)
}

// StateAfter gives the full state that a change led to: what all changes of the citizen up
// to it told, the later in place of the earlier.
func (s *Store) StateAfter(ctx context.Context, number int64) (consent.FullState, error) {
	state := consent.FullState{}.Since(consent.FullState{})
	_, err := collect(ctx, s.fixed, func(r *sql.Rows) (struct{}, error) {
		v, readable, err := s.listedChange(r)
		if err != nil || !readable {
			return struct{}{}, err
		}
		var news consent.FullState
		err = json.Unmarshal(v.News, &news)
		state = state.With(news)
		return struct{}{}, err
	}, `SELECT `+changeColumns+` FROM `+changeTables+` WHERE h.citizen = (SELECT citizen FROM change WHERE id = $1) AND h.id <= $1 AND h.application <> 0 ORDER BY h.id`, number)
	return state, s.classify(err)
}

// places gives the place holders and arguments of a list of numbers.
func places(numbers []int64) (marks string, args []any) {
	list := make([]string, len(numbers))
	args = make([]any, len(numbers))
	for i, n := range numbers {
		list[i], args[i] = fmt.Sprintf("$%d", i+1), n
	}
	return strings.Join(list, ", "), args
}

// ChangedFilter says which citizens to list: those with a change from Since until
// before Before, zero meaning an open bound, after a place of the list.
type ChangedFilter struct {
	Citizen       *consent.CitizenKey // nil: all
	Since, Before consent.Instant
	After         Place
	Limit, Offset int
	Total         bool // count them all, too
}

// ChangedState is the state of a citizen, listed at their first change in a range.
type ChangedState struct {
	State
	Place Place
}

// Changed lists the states of the citizens who changed in a range, each once, in the
// order of their first change in it, and how many there are where the filter asks.
func (s *Store) Changed(ctx context.Context, application int64, f ChangedFilter) ([]ChangedState, int64, error) {
	where, args := []string{"h.application = $1", "h.changed_at >= $2", "h.previous < $2", "h.changed_at < $3", "c.deleted_at IS NULL"}, []any{application, max(f.Since, 1), f.Before}
	if f.Before == 0 {
		args[2] = int64(math.MaxInt64)
	}
	if f.Citizen != nil {
		c, err := s.readCitizen(ctx, application, *f.Citizen)
		if err != nil {
			return nil, 0, err
		}
		args = append(args, c.id)
		where = append(where, fmt.Sprintf("h.citizen = $%d", len(args)))
	}
	const tables = `change h JOIN citizen c ON c.id = h.citizen JOIN citizen_state s ON s.citizen = c.id LEFT JOIN citizen_key k ON k.citizen = c.id`
	var total int64
	if f.Total {
		if err := s.read.QueryRowContext(ctx, `SELECT count(*) FROM change h JOIN citizen c ON c.id = h.citizen WHERE `+strings.Join(where, " AND "), args...).Scan(&total); err != nil {
			return nil, 0, s.classify(err)
		}
	}
	n := len(args)
	args = append(args, f.After.Major, f.After.Minor, f.Limit, f.Offset)
	list, err := collect(ctx, s.read, func(r *sql.Rows) (v ChangedState, err error) {
		c, err := scanCitizen(scanner(func(dest ...any) error { return r.Scan(append(dest, &v.Place.Major, &v.Place.Minor)...) }))
		if err != nil {
			return v, err
		}
		v.State, err = s.state(c)
		return v, err
	}, fmt.Sprintf(`SELECT `+citizenColumns+`, h.changed_at, h.id FROM `+tables+` WHERE %s AND (h.changed_at, h.id) > ($%d, $%d)
		ORDER BY h.changed_at, h.id LIMIT $%d OFFSET $%d`, strings.Join(where, " AND "), n+1, n+2, n+3, n+4), args...)
	return list, total, s.classify(err)
}
