package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/go-json-experiment/json"

	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/internal/seal"
)

// citizenRow is a citizen as the writer holds it inside a transaction.
type citizenRow struct {
	id          int64
	publicID    consent.ID
	application int64
	refIndex    []byte
	details     []byte // sealed
	createdAt   consent.Instant
	deletedAt   consent.Instant
	wrapped     []byte // the citizen's key
	key         *seal.Key

	seq        int64
	hash       []byte
	recordedAt consent.Instant
	version    int64
	changedBy  string
	sealed     []byte // the projection, sealed
	projection *consent.Projection
	nextChange consent.Instant
	changedAt  consent.Instant // of the last change

	records  []record // to be appended
	changes  []change // to be appended and told
	renewals []string // who wrote what changed nothing in the state, which must be told all the same
	person   bool     // somebody waits for what must be delivered: not all of it is bulk
	touched  bool     // the state row must be written
}

func scanCitizen(r interface{ Scan(...any) error }) (*citizenRow, error) {
	var c citizenRow
	var hash []byte
	var deleted, next sql.NullInt64
	err := r.Scan(&c.id, &c.publicID, &c.application, &c.refIndex, &c.details, &c.createdAt, &deleted,
		&c.seq, &hash, &c.recordedAt, &c.version, &c.changedBy, &c.sealed, &next, &c.changedAt, &c.wrapped)
	if err != nil {
		return nil, err
	}
	c.hash, c.deletedAt, c.nextChange = hash, consent.Instant(deleted.Int64), consent.Instant(next.Int64)
	return &c, nil
}

// The contexts to which a citizen's sealed fields are bound.
func (c *citizenRow) context(what string) string { return what + " " + c.publicID.String() }

// open opens the citizen's key and projection, once.
func (c *citizenRow) open(keys *seal.Keyring) error {
	if c.projection != nil {
		return nil
	}
	var err error
	if c.key == nil {
		if c.key, err = keys.Unwrap(c.context("citizen key"), c.wrapped); err != nil {
			return fmt.Errorf("key of citizen %s: %w", c.publicID, err)
		}
	}
	p := &consent.Projection{}
	if len(c.sealed) > 0 {
		plain, err := c.key.Open(c.context("projection"), c.sealed)
		if err != nil {
			return fmt.Errorf("projection of citizen %s: %w", c.publicID, err)
		}
		if err := json.Unmarshal(plain, p); err != nil {
			return fmt.Errorf("projection of citizen %s: %w", c.publicID, err)
		}
	}
	c.projection = p
	return nil
}

// profile is what is sealed of a citizen: the client's reference and the details, without
// the addresses, which are kept by themselves.
type profile struct {
	ExternalRef string          `json:"ref"`
	Details     consent.Details `json:"details,omitzero"`
}

func (c *citizenRow) profile(keys *seal.Keyring) (profile, error) {
	var p profile
	if err := c.open(keys); err != nil {
		return p, err
	}
	plain, err := c.key.Open(c.context("details"), c.details)
	if err != nil {
		return p, fmt.Errorf("details of citizen %s: %w", c.publicID, err)
	}
	return p, json.Unmarshal(plain, &p)
}

func (c *citizenRow) setProfile(p profile) error {
	p.Details.Email, p.Details.Telephone = "", ""
	plain, err := json.Marshal(p)
	if err != nil {
		return err
	}
	c.details = c.key.Seal(c.context("details"), plain)
	return nil
}

// seal writes the projection into its sealed form.
func (c *citizenRow) seal() error {
	if c.key == nil { // erased
		c.sealed = nil
		return nil
	}
	plain, err := json.Marshal(c.projection)
	if err != nil {
		return err
	}
	c.sealed = c.key.Seal(c.context("projection"), plain)
	return nil
}

// citizenWrite changes one citizen. apply must refuse before it changes anything,
// and must not refuse at all for a citizen who was created for it.
type citizenWrite struct {
	application int64
	key         consent.CitizenKey
	create      bool            // where only a reference is given and nobody has it
	details     consent.Details // of one who is created
	// repeated, where set, reports whether the write was made by an earlier request
	// and only its outcome is wanted. It is asked before anybody is created.
	repeated func(ctx context.Context, t *tx) (bool, error)
	apply    func(ctx context.Context, t *tx, c *citizenRow, created bool) error
	bulk     bool   // one of many, for which no person waits
	at       string // where it stands in a request that makes several; empty for one
	err      error  // why it was refused
}

func (s *Store) refKey(application int64, ref string) refKey {
	k := refKey{application: application}
	copy(k.index[:], s.index.Index("external reference "+strconv.FormatInt(application, 10), ref))
	return k
}

// ErrNoCitizen is the answer for a citizen who does not exist, or not for the
// asker.
var ErrNoCitizen = consent.Errorf(consent.NotFound, "There is no such citizen.")

// applyToCitizens finds or creates the citizens of the writes, locks them, applies
// the writes in order and writes what came of it.
func (s *Store) applyToCitizens(ctx context.Context, t *tx, writes []*citizenWrite) error {
	writes, err := s.withoutRepeated(ctx, t, writes)
	if err != nil {
		return err
	}
	refs := make([]refKey, len(writes))
	var byRef []refKey
	var byID []consent.ID
	for i, w := range writes {
		if w.key.ExternalRef != "" {
			refs[i] = s.refKey(w.application, w.key.ExternalRef)
			byRef = append(byRef, refs[i])
		}
		if !w.key.ID.IsZero() {
			byID = append(byID, w.key.ID)
		}
	}
	if len(writes) == 0 {
		return nil
	}
	rows, err := s.dialect.find(ctx, t, byRef, byID)
	if err != nil {
		return err
	}
	foundRef, foundID := map[refKey]*citizenRow{}, map[consent.ID]*citizenRow{}
	note := func(c *citizenRow) {
		foundID[c.publicID] = c
		if c.refIndex != nil {
			foundRef[refKey{c.application, [16]byte(c.refIndex)}] = c
		}
	}
	for _, c := range rows {
		note(c)
	}
	created, err := s.createMissing(ctx, t, writes, refs, foundRef)
	if err != nil {
		return err
	}
	for _, c := range created {
		rows = append(rows, c)
		note(c)
	}
	fresh := map[*citizenRow]bool{}
	for _, c := range created {
		fresh[c] = c.seq == 0 && c.version == 0
	}
	if err := eachAtOnce(rows, func(c *citizenRow) error {
		if c.deletedAt != 0 {
			return nil
		}
		return c.open(s.keys)
	}); err != nil {
		return err
	}
	for i, w := range writes {
		c, err := pick(w, refs[i], foundRef, foundID)
		if err == nil {
			if err = c.open(s.keys); err == nil && fresh[c] {
				err = s.welcome(t, c)
			}
			if err == nil {
				err = w.apply(ctx, t, c, fresh[c])
				fresh[c] = false
				c.person = c.person || !w.bulk
			}
		}
		if err != nil && !isRefusal(err) {
			return err
		}
		w.err = err
	}
	rows = slices.DeleteFunc(rows, func(c *citizenRow) bool { return !c.touched })
	slices.SortFunc(rows, func(a, b *citizenRow) int { return int(a.id - b.id) })
	if err := eachAtOnce(rows, (*citizenRow).seal); err != nil {
		return err
	}
	for _, c := range rows {
		if len(c.changes)+len(c.renewals) > 0 {
			if c.person {
				t.rings |= bellLanes
			} else {
				t.rings |= bellBulk
			}
		}
		if len(c.changes) > 0 {
			t.rings |= bellChanges
		}
	}
	return s.dialect.flush(ctx, t, rows)
}

// OnCreate sets what is recorded first of every citizen who is created from now on in an
// application, given by its number; of an empty list nothing is.
func (s *Store) OnCreate(defaults func(application int64) []consent.Transaction) {
	s.defaults.Store(&defaults)
}

// welcome records what a new citizen begins with.
func (s *Store) welcome(t *tx, c *citizenRow) error {
	defaults := s.defaults.Load()
	if defaults == nil {
		return nil
	}
	list := (*defaults)(c.application)
	if len(list) == 0 {
		return nil
	}
	_, err := c.record(t.now, list, nil)
	return err
}

// eachAtOnce does something that needs no database for each citizen of a group, on as
// many processors as there are: the writer is one, and everybody waits for it.
func eachAtOnce(rows []*citizenRow, do func(*citizenRow) error) error {
	var next atomic.Int64
	errs := make([]error, min(len(rows), runtime.GOMAXPROCS(0)))
	var all sync.WaitGroup
	for worker := range errs {
		all.Go(func() {
			for i := next.Add(1) - 1; i < int64(len(rows)) && errs[worker] == nil; i = next.Add(1) - 1 {
				errs[worker] = do(rows[i])
			}
		})
	}
	all.Wait()
	return errors.Join(errs...)
}

// withoutRepeated answers the writes that an earlier request has made, and those
// that may not be made for that reason, and gives the others.
func (s *Store) withoutRepeated(ctx context.Context, t *tx, writes []*citizenWrite) ([]*citizenWrite, error) {
	var others []*citizenWrite
	for _, w := range writes {
		if w.repeated != nil {
			done, err := w.repeated(ctx, t)
			if err != nil && !isRefusal(err) {
				return nil, err
			}
			if done || err != nil {
				w.err = err
				continue
			}
		}
		others = append(others, w)
	}
	return others, nil
}

// createMissing creates those citizens whom a write names by a reference that
// nobody has, and may create. One whom another process created meanwhile is read
// instead.
func (s *Store) createMissing(ctx context.Context, t *tx, writes []*citizenWrite, refs []refKey, found map[refKey]*citizenRow) ([]*citizenRow, error) {
	missing := map[refKey]*citizenRow{}
	for i, w := range writes {
		if !w.create || !w.key.ID.IsZero() || found[refs[i]] != nil || missing[refs[i]] != nil {
			continue
		}
		c := &citizenRow{
			publicID: NewID(), application: w.application, refIndex: slices.Clone(refs[i].index[:]),
			createdAt: t.now, hash: genesis, projection: &consent.Projection{}, key: seal.NewKey(),
		}
		c.wrapped = s.keys.Wrap(c.context("citizen key"), c.key)
		if err := c.setProfile(profile{w.key.ExternalRef, w.details}); err != nil {
			return nil, err
		}
		missing[refs[i]] = c
	}
	if len(missing) == 0 {
		return nil, nil
	}
	rows := make([]*citizenRow, 0, len(missing))
	for _, c := range missing {
		rows = append(rows, c)
	}
	slices.SortFunc(rows, func(a, b *citizenRow) int { return slices.Compare(a.refIndex, b.refIndex) })
	created, err := s.dialect.create(ctx, t, rows)
	if err != nil {
		return nil, err
	}
	var taken []refKey
	kept := rows[:0]
	for i, c := range rows {
		if created[i] {
			kept = append(kept, c)
		} else {
			taken = append(taken, refKey{c.application, [16]byte(c.refIndex)})
		}
	}
	if len(taken) == 0 {
		return kept, nil
	}
	others, err := s.dialect.find(ctx, t, taken, nil)
	return append(kept, others...), err
}

// errReplay makes the writes of a group run one by one, and a single one once more:
// somebody else changed, at the same time, what the write was to find.
var errReplay = errors.New("overtaken by another write")

// pick gives the citizen whom a write names.
func pick(w *citizenWrite, ref refKey, byRef map[refKey]*citizenRow, byID map[consent.ID]*citizenRow) (*citizenRow, error) {
	var c *citizenRow
	if !w.key.ID.IsZero() {
		c = byID[w.key.ID]
		if c == nil || c.application != w.application {
			return nil, ErrNoCitizen
		}
		if w.key.ExternalRef != "" && byRef[ref] != c {
			return nil, &consent.Error{
				Kind: consent.Invalid, Message: "citizenId and externalRef name different citizens; nothing was changed.",
				Fields: []consent.FieldError{{Location: "externalRef", Message: "must name the same citizen as citizenId"}},
			}
		}
		if c.deletedAt != 0 {
			return nil, ErrNoCitizen
		}
		return c, nil
	}
	switch c = byRef[ref]; {
	case c == nil:
		return nil, ErrNoCitizen
	case [16]byte(c.refIndex) != ref.index:
		return nil, errReplay
	}
	return c, nil
}

// CreateCitizen creates a citizen with a reference that nobody in the application
// has yet, else it fails with Conflict.
func (s *Store) CreateCitizen(ctx context.Context, application int64, ref string, d consent.Details, actor string, once Once) (consent.Citizen, error) {
	var out consent.Citizen
	w := s.creation(application, ref, d, actor, &out)
	once.guard(w, &out, nil)
	err := s.do(ctx, &write{citizens: []*citizenWrite{w}})
	return outcome(&out, err)
}

// creation is the write of a new citizen.
func (s *Store) creation(application int64, ref string, d consent.Details, actor string, out *consent.Citizen) *citizenWrite {
	d = d.Normal()
	return &citizenWrite{
		application: application, key: consent.CitizenKey{ExternalRef: ref}, create: true, details: d,
		apply: func(ctx context.Context, t *tx, c *citizenRow, created bool) error {
			if !created {
				return &consent.Error{
					Kind: consent.Conflict, Message: "A citizen with this externalRef exists already; nothing was changed.",
					Fields: []consent.FieldError{{Location: "externalRef", Message: "belongs to another citizen of the application"}},
				}
			}
			*out = consent.Citizen{ID: c.publicID, ExternalRef: ref, Details: d, CreatedAt: c.createdAt}
			if err := t.setContacts(ctx, c, nil, d); err != nil {
				return err
			}
			return t.audit(ctx, application, actor, "citizen.create", c.publicID.String())
		},
	}
}

// NewCitizen is a citizen to be created with what they have answered so far.
type NewCitizen struct {
	ExternalRef string
	Details     consent.Details
	Transaction *consent.Transaction // nil for none
	Submissions []consent.Submission
}

// CreatedCitizen is a citizen who was created with others.
type CreatedCitizen struct {
	CitizenID     consent.ID
	ExternalRef   string
	TransactionID consent.ID // zero where none was recorded
}

// CreateCitizens creates citizens and records their first answers, all or nothing. A
// reference that exists, or stands twice in the list, is a Conflict; its place in the
// error is that in "citizens". repeated says that an earlier request with the same Once
// created them.
func (s *Store) CreateCitizens(ctx context.Context, application int64, list []NewCitizen, actor string, once Once) ([]CreatedCitizen, bool, error) {
	out := make([]CreatedCitizen, len(list))
	citizens, recorded, submitted := make([]consent.Citizen, len(list)), make([]Recorded, len(list)), make([]Submitted, len(list))
	var writes []*citizenWrite
	for i, v := range list {
		steps, key := []*citizenWrite{s.creation(application, v.ExternalRef, v.Details, actor, &citizens[i])}, consent.CitizenKey{ExternalRef: v.ExternalRef}
		if v.Transaction != nil {
			out[i].TransactionID = v.Transaction.ID
			steps = append(steps, s.recording(application, key, *v.Transaction, &recorded[i]))
		}
		if len(v.Submissions) > 0 {
			steps = append(steps, s.submission(application, key, v.Submissions, &submitted[i]))
		}
		for _, w := range steps {
			w.at, w.bulk = fmt.Sprintf("citizens[%d]", i), true
		}
		writes = append(writes, steps...)
	}
	done := once.guardAll(writes, &out)
	err := s.do(ctx, &write{citizens: writes, run: func(ctx context.Context, t *tx) error {
		if *done {
			return nil
		}
		for i, c := range citizens {
			out[i].CitizenID, out[i].ExternalRef = c.ID, c.ExternalRef
		}
		return once.keep(ctx, t, out)
	}})
	if err != nil {
		return nil, false, err
	}
	return out, *done, nil
}

// ChangeCitizen changes the details of a citizen and, where edit gives another
// one, the reference, which fails with Conflict when somebody has it.
func (s *Store) ChangeCitizen(ctx context.Context, application int64, key consent.CitizenKey, actor string,
	edit func(ref *string, d *consent.Details) error,
) (consent.Citizen, error) {
	var out consent.Citizen
	err := s.do(ctx, &write{citizens: []*citizenWrite{{
		application: application, key: key,
		apply: func(ctx context.Context, t *tx, c *citizenRow, _ bool) error {
			p, held, err := s.wholeProfile(ctx, t, c)
			if err != nil {
				return err
			}
			before := p
			if err := edit(&p.ExternalRef, &p.Details); err != nil {
				return err
			}
			if err := c.catchUp(t.now); err != nil {
				return err
			}
			if p.ExternalRef != before.ExternalRef {
				k := s.refKey(application, p.ExternalRef)
				n, err := changed(ctx, t, `UPDATE citizen SET ref_index = $1 WHERE id = $2
					AND NOT EXISTS (SELECT 1 FROM citizen WHERE application = $3 AND ref_index = $1)`, k.index[:], c.id, application)
				if err != nil {
					return err
				}
				if n == 0 {
					return &consent.Error{
						Kind: consent.Conflict, Message: "A citizen with this externalRef exists already; nothing was changed.",
						Fields: []consent.FieldError{{Location: "externalRef", Message: "belongs to another citizen of the application"}},
					}
				}
				c.refIndex = k.index[:]
				// The reference is part of every message: subscribers must learn it.
				if err := c.tell(change{event: consent.CitizenChanged, changedBy: actor, shifts: true}, t.now); err != nil {
					return err
				}
			}
			p.Details = p.Details.Normal()
			if err := t.leaveEmail(ctx, c, before.Details, p.Details); err != nil {
				return err
			}
			if err := t.keepProfile(ctx, c, held, p); err != nil {
				return err
			}
			if err := t.adopt(ctx, c); err != nil {
				return err
			}
			out = consent.Citizen{ID: c.publicID, ExternalRef: p.ExternalRef, Details: p.Details, CreatedAt: c.createdAt}
			return t.audit(ctx, application, actor, "citizen.change", c.publicID.String())
		},
	}}})
	return outcome(&out, err)
}

// EraseCitizen destroys the citizen's key, and with it the reference, the details
// and every personal field of the history; the skeleton of the history and its
// hashes stay. Subscribers are told; until they are, at most 30 days, the
// reference is kept for that message alone.
func (s *Store) EraseCitizen(ctx context.Context, application int64, key consent.CitizenKey, actor string) error {
	return s.do(ctx, &write{citizens: []*citizenWrite{s.erasure(application, key, actor)}})
}

// erasure is the write that erases a citizen.
func (s *Store) erasure(application int64, key consent.CitizenKey, actor string) *citizenWrite {
	return &citizenWrite{
		application: application, key: key,
		apply: func(ctx context.Context, t *tx, c *citizenRow, _ bool) error {
			p, err := c.profile(s.keys)
			if err != nil {
				return err
			}
			farewell := s.keys.Seal(c.context("farewell"), []byte(p.ExternalRef))
			ended, err := collect(ctx, t, func(r *sql.Rows) (v laneOf, err error) { return v, r.Scan(&v.subscription, &v.citizen, &v.mail) },
				`SELECT r.subscription, r.citizen, coalesce(m.change, 0) FROM receipt r LEFT JOIN mail m ON m.change = r.change WHERE r.citizen = $1 ORDER BY r.subscription, r.change`, c.id)
			if err != nil {
				return err
			}
			if err := t.logErased(ctx, ended); err != nil {
				return err
			}
			if err := t.blankTokens(ctx, c); err != nil {
				return err
			}
			for _, q := range []struct {
				text string
				args []any
			}{
				{`UPDATE citizen SET ref_index = NULL, details = NULL, farewell = $1, deleted_at = $2 WHERE id = $3`, []any{farewell, t.now, c.id}},
				{`DELETE FROM citizen_key WHERE citizen = $1`, []any{c.id}},
				{`DELETE FROM citizen_address WHERE citizen = $1`, []any{c.id}},
				{`DELETE FROM citizen_address_backlog WHERE citizen = $1`, []any{c.id}},
				{`DELETE FROM receipt WHERE citizen = $1`, []any{c.id}}, // nobody can read them any more
			} {
				if _, err := t.exec(ctx, q.text, q.args...); err != nil {
					return err
				}
			}
			if err := t.eraseMails(ctx, c); err != nil {
				return err
			}
			*c.projection, c.nextChange = consent.Projection{}, 0
			c.key, c.wrapped, c.refIndex, c.deletedAt = nil, nil, make([]byte, 16), t.now
			if err := c.tell(change{event: consent.CitizenDeleted, changedBy: actor, shifts: true}, t.now); err != nil {
				return err
			}
			return t.audit(ctx, application, actor, "citizen.erase", c.publicID.String())
		},
	}
}

// Citizen reads one citizen; key names it by id, by reference or by both.
func (s *Store) Citizen(ctx context.Context, application int64, key consent.CitizenKey) (consent.Citizen, error) {
	c, err := s.readCitizen(ctx, application, key)
	if err != nil {
		return consent.Citizen{}, err
	}
	return s.citizen(ctx, s.fixed, c)
}

func (s *Store) citizen(ctx context.Context, q reader, c *citizenRow) (consent.Citizen, error) {
	p, _, err := s.wholeProfile(ctx, q, c)
	return consent.Citizen{ID: c.publicID, ExternalRef: p.ExternalRef, Details: p.Details, CreatedAt: c.createdAt}, s.classify(err)
}

// State is what is known of a citizen's effective state.
type State struct {
	CitizenID   consent.ID
	ExternalRef string
	Projection  *consent.Projection
	Version     int64 // rises with every change
	ChangedBy   string
	ChangedAt   consent.Instant // of the last change
	Erased      bool            // the citizen is gone; the lists are empty
	LogKey      LogKey          // zero for one who is gone
}

// State reads the projection of one citizen.
func (s *Store) State(ctx context.Context, application int64, key consent.CitizenKey) (State, error) {
	c, err := s.readCitizen(ctx, application, key)
	if err != nil {
		return State{}, err
	}
	return s.state(c)
}

func (s *Store) state(c *citizenRow) (State, error) {
	p, err := c.profile(s.keys)
	return State{CitizenID: c.publicID, ExternalRef: p.ExternalRef, Projection: c.projection, Version: c.version, ChangedBy: c.changedBy, ChangedAt: c.changedAt, LogKey: LogKey{c.key, c.publicID}}, err
}

// ApplicationOfCitizen gives the id of the application that a citizen is of.
func (s *Store) ApplicationOfCitizen(ctx context.Context, id consent.ID) (string, error) {
	var application string
	err := s.fixed.QueryRowContext(ctx, `SELECT a.public_id FROM citizen c JOIN application a ON a.id = c.application
		WHERE c.public_id = $1 AND c.deleted_at IS NULL`, id[:]).Scan(&application)
	if errors.Is(err, sql.ErrNoRows) {
		return "", ErrNoCitizen
	}
	return application, s.classify(err)
}

func (s *Store) readCitizen(ctx context.Context, application int64, key consent.CitizenKey) (*citizenRow, error) {
	var row *sql.Row
	if key.ID.IsZero() {
		k := s.refKey(application, key.ExternalRef)
		row = s.fixed.QueryRowContext(ctx, `SELECT `+citizenColumns+` FROM `+citizenTables+` WHERE c.application = $1 AND c.ref_index = $2`, application, k.index[:])
	} else {
		row = s.fixed.QueryRowContext(ctx, `SELECT `+citizenColumns+` FROM `+citizenTables+` WHERE c.public_id = $1`, key.ID[:])
	}
	c, err := scanCitizen(row)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return nil, ErrNoCitizen
	case err != nil:
		return nil, s.classify(err)
	case c.application != application || c.deletedAt != 0:
		return nil, ErrNoCitizen
	}
	if !key.ID.IsZero() && key.ExternalRef != "" {
		if k := s.refKey(application, key.ExternalRef); [16]byte(c.refIndex) != k.index {
			return nil, &consent.Error{
				Kind: consent.Invalid, Message: "citizenId and externalRef name different citizens.",
				Fields: []consent.FieldError{{Location: "externalRef", Message: "must name the same citizen as citizenId"}},
			}
		}
	}
	return c, nil
}

// audit notes an act on the set-up or on a citizen's details.
func (t *tx) audit(ctx context.Context, application int64, actor, action, object string) error {
	_, err := t.exec(ctx, `INSERT INTO audit (application, recorded_at, actor, action, object) VALUES ($1, $2, $3, $4, $5)`,
		application, t.now, actor, action, object)
	return err
}

// auditOfAll notes an act that concerns every application.
func (t *tx) auditOfAll(ctx context.Context, actor, action, object string) error {
	_, err := t.exec(ctx, `INSERT INTO audit (recorded_at, actor, action, object) VALUES ($1, $2, $3, $4)`, t.now, actor, action, object)
	return err
}

// NoteAct records in the audit what was done to the data as a whole by other means than
// the store's.
func (s *Store) NoteAct(ctx context.Context, actor, action, object string) error {
	return s.update(ctx, func(ctx context.Context, t *tx) error { return t.auditOfAll(ctx, actor, action, object) })
}
