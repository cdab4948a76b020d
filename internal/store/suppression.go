package store

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/go-json-experiment/json"

	"github.com/opencpm/opencpm/internal/consent"
)

// Suppressed is an entry of the do-not-contact list: an address that must not be contacted
// by one Channel.
type Suppressed struct {
	Number     int64
	ID         consent.ID
	Contact    consent.Contact // without its key
	Channel    string          // of the catalogue
	Reason     string
	Source     string // where it came from
	CreatedAt  consent.Instant
	CreatedBy  consent.Recorder
	LiftedAt   consent.Instant // zero: in force
	LiftedBy   consent.Recorder
	LiftReason string
}

// listedAddress is what is sealed of an entry.
type listedAddress struct {
	Address    string `json:"address"`
	Reason     string `json:"reason,omitzero"`
	Source     string `json:"source,omitzero"`
	LiftReason string `json:"lift,omitzero"`
}

func suppressionContext(id consent.ID) string { return "suppression " + id.String() }

func (s *Store) sealListed(id consent.ID, v listedAddress) ([]byte, error) {
	plain, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	return s.listed.Seal(suppressionContext(id), plain), nil
}

const suppressionColumns = `s.id, s.public_id, s.kind, s.channel, s.sealed, s.created_at, s.created_by, s.created_by_name, s.lifted_at, s.lifted_by, s.lifted_by_name`

func (s *Store) scanSuppressed(r *sql.Rows) (v Suppressed, err error) {
	var sealed []byte
	var lifted sql.NullInt64
	if err := r.Scan(&v.Number, &v.ID, &v.Contact.Kind, &v.Channel, &sealed, &v.CreatedAt, &v.CreatedBy.ID, &v.CreatedBy.Name, &lifted, &v.LiftedBy.ID, &v.LiftedBy.Name); err != nil {
		return v, err
	}
	v.LiftedAt = consent.Instant(lifted.Int64)
	plain, err := s.listed.Open(suppressionContext(v.ID), sealed)
	if err != nil {
		return v, fmt.Errorf("suppression %s: %w", v.ID, err)
	}
	var said listedAddress
	err = json.Unmarshal(plain, &said)
	v.Contact.Text, v.Reason, v.Source, v.LiftReason = said.Address, said.Reason, said.Source, said.LiftReason
	return v, err
}

// The list and the addresses of citizens are written by different transactions, maybe of
// different nodes at the same time, and none may miss the other: neither an entry a citizen
// who just gets the address, nor that citizen the entry. So whoever gives a citizen another
// address holds the list from before reading it until the commit (heed), and whoever
// changes the list holds it alone until the commit, and only then looks for the citizens
// (spread). Of any two, one holds the list first. Where that is the citizen's write, it is
// committed before the entry is, and spread, which comes later, finds the citizen. Where it
// is the entry's, it is committed before the list is read. SQLite has one writer, for which
// the same is true without a lock.
func (t *tx) holdList(ctx context.Context, application int64, alone bool) error {
	if held, ok := t.lists[application]; ok && (held || !alone) {
		return nil
	}
	t.lists[application] = alone
	return t.store.dialect.holdList(ctx, t, application, alone)
}

func (sqlite) holdList(context.Context, *tx, int64, bool) error { return nil }

func (postgres) holdList(ctx context.Context, t *tx, application int64, alone bool) error {
	lock := "pg_advisory_xact_lock_shared"
	if alone {
		lock = "pg_advisory_xact_lock"
	}
	const lists = 0x4f43444e // "OCDN"
	_, err := t.exec(ctx, `SELECT `+lock+`($1::int, ($2::bigint % 2147483647)::int)`, lists, application)
	return err
}

// heed brings what the list says of the addresses of a citizen into the history, where it
// is not there yet.
func (t *tx) heed(ctx context.Context, c *citizenRow) error {
	if err := t.holdList(ctx, c.application, false); err != nil {
		return err
	}
	entries, err := collect(ctx, t, t.store.scanSuppressed, `SELECT `+suppressionColumns+` FROM citizen_address a
		JOIN suppression s ON s.application = a.application AND s.kind = a.kind AND s.blind = a.blind
		WHERE a.citizen = $1 AND s.lifted_at IS NULL ORDER BY s.id`, c.id)
	if err != nil {
		return err
	}
	news, err := t.suppressions(ctx, c.projection.Suppressed(), entries)
	if err != nil || len(news) == 0 {
		return err
	}
	_, err = c.revise(news[0].Client.ID, t.now, true, nil, func() error {
		for _, v := range news {
			v.Stamp(t.now, c.recordedAt)
			c.projection.Suppress(v)
			if err := c.appendSuppression(v); err != nil {
				return err
			}
		}
		return nil
	})
	return err
}

// suppressions gives the records that lead from the Channels that are suppressed for a
// citizen, each by an entry, to those that the entries in force suppress.
func (t *tx) suppressions(ctx context.Context, standing map[string]consent.ID, entries []Suppressed) ([]consent.Suppression, error) {
	var news []consent.Suppression
	inForce, first := map[consent.ID]bool{}, map[string]Suppressed{}
	for _, e := range entries {
		inForce[e.ID] = true
		if _, ok := first[e.Channel]; !ok {
			first[e.Channel] = e
		}
	}
	channels := map[string]bool{}
	for channel := range standing {
		channels[channel] = true
	}
	for channel := range first {
		channels[channel] = true
	}
	for _, channel := range slices.Sorted(maps.Keys(channels)) {
		v := consent.Suppression{Evidence: consent.Evidence{ID: NewID()}, Medium: channel}
		by, known := standing[channel]
		e, listed := first[channel]
		switch {
		case known && inForce[by]:
			continue
		case listed:
			v.Entry, v.Client = e.ID, e.CreatedBy
		default:
			who, err := t.lifter(ctx, by)
			if err != nil {
				return nil, err
			}
			v.Entry, v.Lifted, v.Client = by, true, who
		}
		news = append(news, v)
	}
	return news, nil
}

// lifter gives who lifted an entry. One that is in force is lifted for a citizen by the
// platform, when the address is no longer theirs.
func (t *tx) lifter(ctx context.Context, id consent.ID) (who consent.Recorder, err error) {
	err = t.row(ctx, `SELECT lifted_by, lifted_by_name FROM suppression WHERE public_id = $1 AND lifted_at IS NOT NULL`, id[:]).Scan(&who.ID, &who.Name)
	if errors.Is(err, sql.ErrNoRows) {
		return consent.Platform, nil
	}
	return who, err
}

// NewSuppression is an address to be put on the do-not-contact list of some Channels.
type NewSuppression struct {
	Contact  consent.Contact // with a key
	Channels []string
	Reason   string
	Source   string
	By       consent.Recorder
}

// Suppress puts an address on the do-not-contact list of an application, and tells the
// citizens who have it. It gives the entries, one for each Channel; one that was there
// stays as it is.
func (s *Store) Suppress(ctx context.Context, application int64, v NewSuppression) ([]Suppressed, error) {
	blind := s.blind(application, v.Contact)
	var out []Suppressed
	err := s.update(ctx, func(ctx context.Context, t *tx) error {
		if err := t.holdList(ctx, application, true); err != nil {
			return err
		}
		for _, channel := range v.Channels {
			if err := t.list(ctx, application, blind, channel, v); err != nil {
				return err
			}
		}
		all, err := collect(ctx, t, s.scanSuppressed, `SELECT `+suppressionColumns+` FROM suppression s
			WHERE s.application = $1 AND s.kind = $2 AND s.blind = $3 AND s.lifted_at IS NULL ORDER BY s.id`, application, string(v.Contact.Kind), blind)
		out = slices.DeleteFunc(all, func(e Suppressed) bool { return !slices.Contains(v.Channels, e.Channel) })
		return err
	})
	if err != nil {
		return nil, err
	}
	return out, s.spread(ctx, addressOf{application, v.Contact.Kind, blind})
}

// list adds an entry, unless there is one.
func (t *tx) list(ctx context.Context, application int64, blind []byte, channel string, v NewSuppression) error {
	id := NewID()
	sealed, err := t.store.sealListed(id, listedAddress{Address: v.Contact.Text, Reason: v.Reason, Source: v.Source})
	if err != nil {
		return err
	}
	r, err := t.exec(ctx, `INSERT INTO suppression (public_id, application, kind, blind, channel, sealed, created_at, created_by, created_by_name, lifted_by, lifted_by_name, acts, told)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, '', '', 1, 0) ON CONFLICT DO NOTHING`,
		id[:], application, string(v.Contact.Kind), blind, channel, sealed, t.now, v.By.ID, v.By.Name)
	if err != nil {
		return err
	}
	if n, err := r.RowsAffected(); err != nil || n == 0 {
		return err
	}
	return t.audit(ctx, application, v.By.ID, "suppression.create", id.String())
}

// ErrNoSuppression is the answer for an entry that does not exist, or not for the asker.
var ErrNoSuppression = consent.Errorf(consent.NotFound, "There is no such entry of the do-not-contact list.")

// LiftSuppression ends an entry of one of the applications, which is kept, and tells the
// citizens who have the address. One that is lifted stays so.
func (s *Store) LiftSuppression(ctx context.Context, applications []int64, id consent.ID, by consent.Recorder) error {
	var at addressOf
	err := s.read.QueryRowContext(ctx, `SELECT application, kind, blind FROM suppression WHERE public_id = $1`, id[:]).Scan(&at.application, &at.kind, &at.blind)
	switch {
	case errors.Is(err, sql.ErrNoRows), err == nil && !slices.Contains(applications, at.application):
		return ErrNoSuppression
	case err != nil:
		return s.classify(err)
	}
	if err := s.update(ctx, func(ctx context.Context, t *tx) error {
		_, err := t.lift(ctx, at, by, "", func(e Suppressed) bool { return e.ID == id })
		return err
	}); err != nil {
		return err
	}
	return s.spread(ctx, at)
}

// liftSuppressions ends, in the write of a citizen, what the list says of the citizen's
// address of a kind on some Channels: its owner wants to be contacted again. It gives the
// entries. Others who have the address learn it in the background.
func (t *tx) liftSuppressions(ctx context.Context, c *citizenRow, kind consent.ContactKind, channels []string, by consent.Recorder, why string) ([]consent.ID, error) {
	p, held, err := t.store.wholeProfile(ctx, t, c)
	if err != nil {
		return nil, err
	}
	if err := t.setContacts(ctx, c, held, p.Details); err != nil { // where an earlier release had left them elsewhere
		return nil, err
	}
	at := addressOf{application: c.application, kind: kind}
	for _, v := range p.Details.Contacts() {
		if v.Kind == kind {
			at.blind = t.store.blind(c.application, v)
		}
	}
	if at.blind == nil {
		return nil, nil
	}
	lifted, err := t.lift(ctx, at, by, why, func(e Suppressed) bool { return slices.Contains(channels, e.Channel) })
	if err != nil || len(lifted) == 0 {
		return nil, err
	}
	return lifted, t.heed(ctx, c)
}

// relist puts the addresses of entries back on the list, in the write of a citizen who had
// lifted them: by new entries that say the same, where none is in force. Others who have an
// address learn it in the background.
func (t *tx) relist(ctx context.Context, c *citizenRow, lifted []consent.ID, by consent.Recorder) error {
	if len(lifted) == 0 {
		return nil
	}
	if err := t.holdList(ctx, c.application, true); err != nil {
		return err
	}
	for _, id := range lifted {
		entries, err := collect(ctx, t, t.store.scanSuppressed, `SELECT `+suppressionColumns+` FROM suppression s WHERE s.public_id = $1`, id[:])
		if err != nil {
			return err
		}
		for _, e := range entries {
			var blind []byte
			if err := t.row(ctx, `SELECT blind FROM suppression WHERE id = $1`, e.Number).Scan(&blind); err != nil {
				return err
			}
			if err := t.list(ctx, c.application, blind, e.Channel, NewSuppression{Contact: e.Contact, Reason: e.Reason, Source: e.Source, By: by}); err != nil {
				return err
			}
		}
	}
	return t.heed(ctx, c)
}

// lift ends those entries of an address that are chosen, and gives them.
func (t *tx) lift(ctx context.Context, at addressOf, by consent.Recorder, why string, chosen func(Suppressed) bool) (lifted []consent.ID, err error) {
	if err := t.holdList(ctx, at.application, true); err != nil {
		return nil, err
	}
	entries, err := collect(ctx, t, t.store.scanSuppressed, `SELECT `+suppressionColumns+` FROM suppression s
		WHERE s.application = $1 AND s.kind = $2 AND s.blind = $3 AND s.lifted_at IS NULL ORDER BY s.id`, at.application, string(at.kind), at.blind)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if !chosen(e) {
			continue
		}
		sealed, err := t.store.sealListed(e.ID, listedAddress{e.Contact.Text, e.Reason, e.Source, why})
		if err != nil {
			return nil, err
		}
		if _, err := t.exec(ctx, `UPDATE suppression SET lifted_at = $1, lifted_by = $2, lifted_by_name = $3, sealed = $4, acts = 2 WHERE id = $5`,
			t.now, by.ID, by.Name, sealed, e.Number); err != nil {
			return nil, err
		}
		if err := t.audit(ctx, at.application, by.ID, "suppression.lift", e.ID.String()); err != nil {
			return nil, err
		}
		lifted = append(lifted, e.ID)
	}
	return lifted, nil
}

// addressOf names an address within an application.
type addressOf struct {
	application int64
	kind        consent.ContactKind
	blind       []byte
}

func (a addressOf) equal(b addressOf) bool {
	return a.application == b.application && a.kind == b.kind && bytes.Equal(a.blind, b.blind)
}

// spreadBatch is how many citizens are told at a time of a change of the list.
const spreadBatch = 100

// spread brings the acts on an address that are committed to the citizens who have it, in
// the order of their numbers. Whoever gets the address meanwhile reads the list then.
func (s *Store) spread(ctx context.Context, at addressOf) error {
	type untold struct{ id, acts int64 }
	acts, err := collect(ctx, s.read, func(r *sql.Rows) (v untold, err error) { return v, r.Scan(&v.id, &v.acts) },
		`SELECT id, acts FROM suppression WHERE application = $1 AND kind = $2 AND blind = $3 AND told < acts`, at.application, string(at.kind), at.blind)
	if err != nil || len(acts) == 0 {
		return s.classify(err)
	}
	var after int64
	for more := true; more; {
		list, err := collect(ctx, s.read, func(r *sql.Rows) (p Passage, err error) {
			return p, r.Scan(&after, &p.Application, &p.Citizen)
		}, `SELECT a.citizen, a.application, c.public_id FROM citizen_address a JOIN citizen c ON c.id = a.citizen
			WHERE a.application = $1 AND a.kind = $2 AND a.blind = $3 AND a.citizen > $4 ORDER BY a.citizen LIMIT $5`,
			at.application, string(at.kind), at.blind, after, spreadBatch)
		if err != nil {
			return s.classify(err)
		}
		if err := s.eachOf(ctx, list, func(ctx context.Context, t *tx, c *citizenRow, _ bool) error { return t.heed(ctx, c) }); err != nil {
			return err
		}
		more = len(list) == spreadBatch
	}
	return s.update(ctx, func(ctx context.Context, t *tx) error {
		for _, v := range acts {
			if _, err := t.exec(ctx, `UPDATE suppression SET told = $2 WHERE id = $1 AND told < $2`, v.id, v.acts); err != nil {
				return err
			}
		}
		return nil
	})
}

// SpreadSuppressions goes on with bringing changes of the list to the citizens, where
// whoever made them did not, or not to the end.
func (s *Store) SpreadSuppressions(ctx context.Context) error {
	list, err := collect(ctx, s.fixed, func(r *sql.Rows) (v addressOf, err error) { return v, r.Scan(&v.application, &v.kind, &v.blind) },
		`SELECT application, kind, blind FROM suppression WHERE told < acts ORDER BY id LIMIT 100`)
	if err != nil {
		return s.classify(err)
	}
	for i, v := range list {
		if slices.ContainsFunc(list[:i], v.equal) {
			continue
		}
		if err := s.spread(ctx, v); err != nil {
			return err
		}
	}
	return nil
}

// Suppressions lists the entries of an application, the newest first, before one by its
// number, 0 for from the newest on; and how many there are in all.
func (s *Store) Suppressions(ctx context.Context, application, before int64, limit, offset int) (list []Suppressed, total int64, err error) {
	if err := s.read.QueryRowContext(ctx, `SELECT count(*) FROM suppression WHERE application = $1`, application).Scan(&total); err != nil {
		return nil, 0, s.classify(err)
	}
	list, err = collect(ctx, s.read, s.scanSuppressed, `SELECT `+suppressionColumns+` FROM suppression s
		WHERE s.application = $1 AND ($2 = 0 OR s.id < $2) ORDER BY s.id DESC LIMIT $3 OFFSET $4`, application, before, limit, offset)
	return list, total, s.classify(err)
}

// SuppressionsOf lists the entries of an address, the newest first, at most MaxFound.
func (s *Store) SuppressionsOf(ctx context.Context, application int64, v consent.Contact) ([]Suppressed, error) {
	list, err := collect(ctx, s.read, s.scanSuppressed, `SELECT `+suppressionColumns+` FROM suppression s
		WHERE s.application = $1 AND s.kind = $2 AND s.blind = $3 ORDER BY s.id DESC LIMIT $4`, application, string(v.Kind), s.blind(application, v), MaxFound)
	return list, s.classify(err)
}
