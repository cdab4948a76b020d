package store

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"

	"github.com/opencpm/opencpm/internal/consent"
)

// Recorded is the outcome of a transaction, as it stands in the commit that
// recorded it.
type Recorded struct {
	CitizenID   consent.ID
	ExternalRef string
	Transaction consent.Transaction  // with its times
	Version     int64                // of the citizen's state after it
	Outcomes    []Outcome            // one for each change
	Before      []consent.Permission // the entries before it
	Repeated    bool                 // an earlier request with the same Once recorded it
}

// Outcome says what became of one change: of the transaction, or of the one that it
// reverts.
type Outcome struct {
	Change    consent.Change      // as it was, where it was reverted
	Effective bool                // whether the change decides the option's state now
	Current   *consent.Permission // the effective entry, nil where there is none
}

// Record appends a transaction of one citizen to the ledger and folds it into the
// citizen's state; a citizen named by an unknown reference alone is created.
func (s *Store) Record(ctx context.Context, application int64, key consent.CitizenKey, transaction consent.Transaction, once Once) (Recorded, error) {
	var out Recorded
	w := s.recording(application, key, transaction, &out)
	w.create = true
	once.guard(w, &out, func() { out.Repeated = true })
	err := s.do(ctx, &write{citizens: []*citizenWrite{w}})
	return outcome(&out, err)
}

// recording is the write of a transaction.
func (s *Store) recording(application int64, key consent.CitizenKey, transaction consent.Transaction, out *Recorded) *citizenWrite {
	return &citizenWrite{application: application, key: key, apply: func(_ context.Context, t *tx, c *citizenRow, _ bool) error {
		p, err := c.profile(s.keys)
		if err != nil {
			return err
		}
		list := []consent.Transaction{transaction}
		before, err := c.record(t.now, list, nil)
		*out = c.recordedOf(p.ExternalRef, list[0], before, t.now)
		return err
	}}
}

// RecordDecided records the changes that decide finds in the state of a citizen as it is in
// the commit, as one transaction, where it finds any; recorded is false otherwise. An error
// of decide is given back, and nothing is recorded.
func (s *Store) RecordDecided(ctx context.Context, application int64, citizen consent.ID, transaction consent.Transaction,
	decide func(state *consent.Projection, at consent.Instant) ([]consent.Change, error),
) (out Recorded, recorded bool, err error) {
	key := consent.CitizenKey{ID: citizen}
	var set Recorded
	var any bool
	err = s.do(ctx, &write{citizens: []*citizenWrite{{
		application: application, key: key,
		apply: func(ctx context.Context, t *tx, c *citizenRow, created bool) (err error) {
			of := transaction
			of.Changes, err = decide(c.projection, max(t.now, c.recordedAt))
			if any = len(of.Changes) > 0; err != nil || !any {
				return err
			}
			return s.recording(application, key, of, &set).apply(ctx, t, c, created)
		},
	}}})
	if err != nil {
		return Recorded{}, false, err
	}
	return set, any, nil
}

// record appends transactions and submissions to the ledger, stamping them, and folds
// them into the state as one change of it. It gives what was effective before.
func (c *citizenRow) record(now consent.Instant, transactions []consent.Transaction, submissions []consent.Submission) (before consent.FullState, err error) {
	by := ""
	for _, v := range submissions {
		by = v.Client.ID
	}
	for _, v := range transactions {
		by = v.Client.ID
	}
	quiet := len(submissions) == 0 && !slices.ContainsFunc(transactions, func(t consent.Transaction) bool { return !onlyPending(t) })
	echoes := func(news consent.FullState) bool { return consent.Echo(transactions, submissions, news) }
	return c.revise(by, now, quiet, echoes, func() error {
		for i := range transactions {
			v := &transactions[i]
			v.Stamp(now, c.recordedAt)
			c.projection.Add(*v)
			if err := c.appendTransaction(*v); err != nil {
				return err
			}
		}
		for i := range submissions {
			v := &submissions[i]
			v.Stamp(now, c.recordedAt)
			c.projection.Answer(*v)
			if err := c.appendSubmission(*v); err != nil {
				return err
			}
		}
		return nil
	})
}

// recordedOf is the outcome of a transaction that has just been recorded.
func (c *citizenRow) recordedOf(ref string, v consent.Transaction, before consent.FullState, now consent.Instant) Recorded {
	out := Recorded{CitizenID: c.publicID, ExternalRef: ref, Transaction: v, Version: c.version, Before: before.Permissions}
	for _, change := range v.Changes {
		o := Outcome{}
		if e, ok := c.projection.Entry(consent.Key{Type: change.OptionType, ID: change.OptionID}, max(now, c.recordedAt)); ok {
			o = Outcome{Effective: e.TransactionID == v.ID, Current: &e}
		}
		out.Outcomes = append(out.Outcomes, o)
	}
	return out
}

// onlyPending reports whether a transaction brings nothing but PENDING answers, which
// are told to nobody unless they are effective (rule 6).
func onlyPending(t consent.Transaction) bool {
	return !slices.ContainsFunc(t.Changes, func(c consent.Change) bool { return c.State != consent.Pending })
}

// Submitted is the outcome of answers to preferences, as it stands in the commit that
// recorded them.
type Submitted struct {
	CitizenID   consent.ID
	ExternalRef string
	Submissions []consent.Submission        // with their times, one for each answer
	Current     []consent.CurrentPreference // of each of these preferences
	Repeated    bool                        // an earlier request with the same Once recorded it
}

// Submit appends submissions of one citizen to the ledger, all or none; a citizen named
// by an unknown reference alone is created.
func (s *Store) Submit(ctx context.Context, application int64, key consent.CitizenKey, submissions []consent.Submission, once Once) (Submitted, error) {
	var out Submitted
	w := s.submission(application, key, submissions, &out)
	w.create = true
	once.guard(w, &out, func() { out.Repeated = true })
	err := s.do(ctx, &write{citizens: []*citizenWrite{w}})
	return outcome(&out, err)
}

// submission is the write of submissions.
func (s *Store) submission(application int64, key consent.CitizenKey, submissions []consent.Submission, out *Submitted) *citizenWrite {
	return &citizenWrite{application: application, key: key, apply: func(_ context.Context, t *tx, c *citizenRow, _ bool) error {
		p, err := c.profile(s.keys)
		if err != nil {
			return err
		}
		list := slices.Clone(submissions)
		if _, err = c.record(t.now, nil, list); err == nil {
			*out = c.submittedOf(p.ExternalRef, list)
		}
		return err
	}}
}

// submittedOf is the outcome of submissions that have just been recorded.
func (c *citizenRow) submittedOf(ref string, list []consent.Submission) Submitted {
	out := Submitted{CitizenID: c.publicID, ExternalRef: ref, Submissions: list}
	current := c.projection.Preferences()
	for _, v := range list {
		at := slices.IndexFunc(current, func(p consent.CurrentPreference) bool { return p.Preference == v.Answer.Preference })
		out.Current = append(out.Current, current[at])
	}
	return out
}

// Answered is the outcome of a form that came back, as it stands in the commit that
// recorded it.
type Answered struct {
	CitizenID    consent.ID
	ExternalRef  string
	Transactions []Recorded
	Submitted    *Submitted // nil where no preference was answered
	Invited      Invited    // where something of it is PENDING
	Repeated     bool       // an earlier request with the same Once recorded it
}

// Decide makes the records of a form that came back, from the state of the citizen as it
// is in the commit. It may make none.
type Decide func(state *consent.Projection, at consent.Instant) ([]consent.Transaction, []consent.Submission)

// Answer records what decide makes of a citizen's state, as one change of it; a citizen
// named by an unknown reference alone is created, whatever is recorded. Who has an address
// is asked to confirm what of it is PENDING.
func (s *Store) Answer(ctx context.Context, application int64, key consent.CitizenKey, decide Decide, inv Invitation, once Once) (Answered, error) {
	var out Answered
	w := s.answering(application, key, decide, inv, &out)
	w.create = true
	once.guard(w, &out, func() { out.Repeated = true })
	err := s.do(ctx, &write{citizens: []*citizenWrite{w}})
	return outcome(&out, err)
}

// answering is the write of a form.
func (s *Store) answering(application int64, key consent.CitizenKey, decide Decide, inv Invitation, out *Answered) *citizenWrite {
	return &citizenWrite{application: application, key: key, apply: func(ctx context.Context, t *tx, c *citizenRow, created bool) error {
		p, err := c.profile(s.keys)
		if err != nil {
			return err
		}
		*out = Answered{CitizenID: c.publicID, ExternalRef: p.ExternalRef}
		transactions, submissions := decide(c.projection, max(t.now, c.recordedAt))
		if len(transactions)+len(submissions) == 0 {
			return nil
		}
		var before consent.FullState
		if err := s.invite(ctx, t, c, created, &inv, transactions, &out.Invited, func() (err error) {
			before, err = c.record(t.now, transactions, submissions)
			return err
		}); err != nil {
			return err
		}
		for _, v := range transactions {
			out.Transactions = append(out.Transactions, c.recordedOf(p.ExternalRef, v, before, t.now))
		}
		if len(submissions) > 0 {
			submitted := c.submittedOf(p.ExternalRef, submissions)
			out.Submitted = &submitted
		}
		return nil
	}}
}

// ErrNoTransaction is the answer for a transaction that does not exist, or not for
// the asker.
var ErrNoTransaction = consent.Errorf(consent.NotFound, "There is no such transaction.")

// CitizenOfTransaction gives the citizen of a transaction and the id of the
// application.
func (s *Store) CitizenOfTransaction(ctx context.Context, id consent.ID) (citizen consent.ID, applicationID string, err error) {
	err = s.read.QueryRowContext(ctx, `SELECT c.public_id, a.public_id FROM ledger l JOIN citizen c ON c.id = l.citizen JOIN application a ON a.id = l.application
		WHERE l.id = $1 AND l.kind = 'transaction' AND c.deleted_at IS NULL`, id[:]).Scan(&citizen, &applicationID)
	if errors.Is(err, sql.ErrNoRows) {
		err = ErrNoTransaction
	}
	return citizen, applicationID, s.classify(err)
}

// Revert appends a reversion, a transaction that names the one it undoes, and folds the
// citizen's history anew without that one. What it had displaced speaks again.
func (s *Store) Revert(ctx context.Context, application int64, citizen consent.ID, reversion consent.Transaction, once Once) (Recorded, error) {
	var out Recorded
	w := s.reverting(application, citizen, reversion, &out)
	once.guard(w, &out, func() { out.Repeated = true })
	err := s.do(ctx, &write{citizens: []*citizenWrite{w}})
	return outcome(&out, err)
}

// reverting is the write of a reversion.
func (s *Store) reverting(application int64, citizen consent.ID, reversion consent.Transaction, out *Recorded) *citizenWrite {
	var done Answered
	w := s.undoing(application, citizen, func([]Entry, *consent.Projection, consent.Instant) ([]consent.Transaction, []consent.Submission, error) {
		return []consent.Transaction{reversion}, nil, nil
	}, &done)
	apply := w.apply
	w.apply = func(ctx context.Context, t *tx, c *citizenRow, created bool) error {
		err := apply(ctx, t, c, created)
		if err == nil {
			*out = done.Transactions[0]
		}
		return err
	}
	return w
}

// History reads what State reads, but folded from the whole ledger: its projection
// has lost nothing that ended or was overruled. knownAt leaves out what was recorded
// later; zero leaves out nothing.
func (s *Store) History(ctx context.Context, application int64, key consent.CitizenKey, knownAt consent.Instant) (State, error) {
	c, err := s.readCitizen(ctx, application, key)
	if err != nil {
		return State{}, err
	}
	state, err := s.state(c)
	if err != nil {
		return State{}, err
	}
	records, err := c.ledger(ctx, s.read)
	if err != nil {
		return State{}, s.classify(err)
	}
	state.Projection, err = c.fold(records, knownAt)
	return state, err
}

// Passage is one citizen whose state is changed by time alone.
type Passage struct {
	Application int64
	Citizen     consent.ID
}

func scanPassage(r *sql.Rows) (p Passage, err error) { return p, r.Scan(&p.Application, &p.Citizen) }

// DuePassages gives up to limit citizens whose state time has changed by now.
func (s *Store) DuePassages(ctx context.Context, limit int) ([]Passage, error) {
	list, err := collect(ctx, s.fixed, scanPassage, `SELECT c.application, c.public_id FROM citizen_state s JOIN citizen c ON c.id = s.citizen
		WHERE s.next_change_at <= $1 ORDER BY s.next_change_at LIMIT $2`, now(), limit)
	return list, s.classify(err)
}

// PassAll brings the states of citizens up to the present where time alone has
// changed them: a validity began or ended. Subscribers are told when the effective
// state is another one. The citizens are written in groups.
func (s *Store) PassAll(ctx context.Context, list []Passage) error {
	return s.eachOf(ctx, list, func(_ context.Context, t *tx, c *citizenRow, _ bool) error { return c.catchUp(t.now) })
}

// eachOf writes each of some citizens, in groups, as one of many for which no person
// waits. Who was erased meanwhile is left out.
func (s *Store) eachOf(ctx context.Context, list []Passage, apply func(context.Context, *tx, *citizenRow, bool) error) error {
	errs := make(chan error, len(list))
	for _, p := range list {
		go func() {
			errs <- s.do(ctx, &write{citizens: []*citizenWrite{{application: p.Application, key: consent.CitizenKey{ID: p.Citizen}, bulk: true, apply: apply}}})
		}()
	}
	var all []error
	for range list {
		if err := <-errs; !errors.Is(err, ErrNoCitizen) {
			all = append(all, err)
		}
	}
	return errors.Join(all...)
}

// RecordFilter says which records to list. The bounds are on recordedAt: since is
// inclusive, before exclusive, zero is open.
type RecordFilter struct {
	Citizen       *consent.CitizenKey // nil: of every citizen
	Since, Before consent.Instant
	After         RecordPlace // the list goes on after it
	Limit, Offset int
	Total         bool // count them all, too
}

// RecordPlace is a place in a list of records. The zero RecordPlace is before the
// first.
type RecordPlace struct {
	RecordedAt consent.Instant
	ID         consent.ID
}

// Transactions lists transactions of an application in ascending order of recordedAt
// and id, and how many there are in all where the filter asks for it.
func (s *Store) Transactions(ctx context.Context, application int64, f RecordFilter) ([]Entry, int64, error) {
	return s.records(ctx, application, recordTransaction, f)
}

// Submissions lists submissions as Transactions lists transactions.
func (s *Store) Submissions(ctx context.Context, application int64, f RecordFilter) ([]Entry, int64, error) {
	return s.records(ctx, application, recordSubmission, f)
}

func (s *Store) records(ctx context.Context, application int64, kind string, f RecordFilter) ([]Entry, int64, error) {
	where, args := []string{"l.application = $1", "l.kind = $2"}, []any{application, kind}
	add := func(condition string, values ...any) {
		places := make([]any, len(values))
		for i, v := range values {
			args = append(args, v)
			places[i] = len(args)
		}
		where = append(where, fmt.Sprintf(condition, places...))
	}
	if f.Citizen != nil {
		c, err := s.readCitizen(ctx, application, *f.Citizen)
		if err != nil {
			return nil, 0, err
		}
		add("l.citizen = $%d", c.id)
	}
	if f.Since != 0 {
		add("l.recorded_at >= $%d", f.Since)
	}
	if f.Before != 0 {
		add("l.recorded_at < $%d", f.Before)
	}
	var total int64
	if f.Total {
		if err := s.read.QueryRowContext(ctx, `SELECT count(*) FROM ledger l WHERE `+strings.Join(where, " AND "), args...).Scan(&total); err != nil {
			return nil, 0, s.classify(err)
		}
	}
	if f.After != (RecordPlace{}) {
		add("(l.recorded_at, l.id) > ($%d, $%d)", f.After.RecordedAt, f.After.ID[:])
	}
	n := len(args)
	list, err := collect(ctx, s.read, func(r *sql.Rows) (Entry, error) {
		v := record{kind: kind}
		var c citizenRow
		var body string
		if err := r.Scan(&v.seq, &v.id, &v.recordedAt, &body, &v.sealed, &v.hash, &c.publicID, &c.details, &c.wrapped); err != nil {
			return Entry{}, err
		}
		v.body = []byte(body)
		return s.openRecord(&v, &c)
	}, fmt.Sprintf(`SELECT l.seq, l.id, l.recorded_at, l.body, l.sealed, l.hash, c.public_id, c.details, k.wrapped
		FROM ledger l JOIN citizen c ON c.id = l.citizen LEFT JOIN citizen_key k ON k.citizen = l.citizen
		WHERE %s ORDER BY l.recorded_at, l.id LIMIT $%d OFFSET $%d`, strings.Join(where, " AND "), n+1, n+2), append(args, f.Limit, f.Offset)...)
	return list, total, s.classify(err)
}

// openRecord opens a record with what is left of its citizen.
func (s *Store) openRecord(v *record, c *citizenRow) (Entry, error) {
	ref := ""
	if c.wrapped != nil {
		p, err := c.profile(s.keys)
		if err != nil {
			return Entry{}, err
		}
		ref = p.ExternalRef
	}
	e, err := v.entry(c)
	e.ExternalRef = ref
	return e, err
}

// Chain is the records of one citizen, or a part of them, in the order in which they were
// recorded.
type Chain struct {
	ExternalRef string // of the citizen
	Entries     []Entry
	Total       int64 // how many records there are
}

// Chain lists records of one citizen after a place in the chain.
func (s *Store) Chain(ctx context.Context, application int64, key consent.CitizenKey, after int64, limit int) (Chain, error) {
	c, err := s.readCitizen(ctx, application, key)
	if err != nil {
		return Chain{}, err
	}
	p, err := c.profile(s.keys)
	if err != nil {
		return Chain{}, err
	}
	records, err := collect(ctx, s.read, scanRecord,
		`SELECT seq, id, recorded_at, kind, body, sealed, hash FROM ledger WHERE citizen = $1 AND seq > $2 ORDER BY seq LIMIT $3`, c.id, after, limit)
	if err != nil {
		return Chain{}, s.classify(err)
	}
	chain := Chain{p.ExternalRef, make([]Entry, len(records)), c.seq}
	for i := range records {
		e := &chain.Entries[i]
		if *e, err = records[i].entry(c); err != nil {
			return Chain{}, err
		}
		e.ExternalRef = p.ExternalRef
	}
	return chain, nil
}

// Finding is something that Check found to be wrong with one citizen.
type Finding struct {
	Citizen consent.ID
	Problem string
}

// Check rebuilds the projection of every citizen from the ledger, compares it with
// what is stored, and walks the chain of hashes on the way. It gives the number of
// citizens and of records it looked at, and calls found for everything that is
// wrong.
func (s *Store) Check(ctx context.Context, found func(Finding)) (citizens, records int64, err error) {
	for part := (Checked{}); ; {
		part, err = s.CheckCitizens(ctx, everyApplication, part.Last, 500, found)
		citizens, records = citizens+part.Citizens, records+part.Records
		if err != nil || part.Citizens == 0 {
			return citizens, records, err
		}
	}
}

// everyApplication stands for all of them where one is asked for.
const everyApplication = 0

// Checked says what a part of a check has looked at.
type Checked struct {
	Citizens, Records int64
	Last              int64 // the number of the last citizen
}

// CheckCitizens is Check for up to limit citizens of an application, in the order of
// their numbers, after one of them. It looks at none where there are no more.
func (s *Store) CheckCitizens(ctx context.Context, application, after int64, limit int, found func(Finding)) (Checked, error) {
	part := Checked{Last: after}
	page, err := collect(ctx, s.fixed, func(r *sql.Rows) (int64, error) {
		var id int64
		return id, r.Scan(&id)
	}, `SELECT id FROM citizen WHERE id > $1 AND ($2 = 0 OR application = $2) ORDER BY id LIMIT $3`, after, application, limit)
	if err != nil {
		return part, s.classify(err)
	}
	for _, id := range page {
		n, err := s.checkCitizen(ctx, id, found)
		if err != nil {
			return part, s.classify(err)
		}
		part = Checked{part.Citizens + 1, part.Records + n, id}
	}
	return part, nil
}

// CountCitizens counts the citizens of an application, those who were erased among them.
func (s *Store) CountCitizens(ctx context.Context, application int64) (n int64, err error) {
	err = s.fixed.QueryRowContext(ctx, `SELECT count(*) FROM citizen WHERE application = $1`, application).Scan(&n)
	return n, s.classify(err)
}

func (s *Store) checkCitizen(ctx context.Context, id int64, found func(Finding)) (int64, error) {
	// One snapshot for the state and the ledger, since a server may be writing.
	t, err := s.read.BeginTx(ctx, &sql.TxOptions{ReadOnly: true, Isolation: s.dialect.snapshot()})
	if err != nil {
		return 0, err
	}
	defer t.Rollback()
	c, err := scanCitizen(t.QueryRowContext(ctx, `SELECT `+citizenColumns+` FROM `+citizenTables+` WHERE c.id = $1`, id))
	if err != nil {
		return 0, err
	}
	problem := func(format string, args ...any) { found(Finding{c.publicID, fmt.Sprintf(format, args...)}) }
	if c.deletedAt == 0 {
		if err := c.open(s.keys); err != nil {
			problem("%v", err)
			return 0, nil
		}
	}
	records, err := c.ledger(ctx, t)
	if err != nil {
		return 0, err
	}
	before, last := genesis, consent.Instant(0)
	for i := range records {
		r := &records[i]
		if r.seq != int64(i+1) {
			problem("record %d is missing", i+1)
			return int64(len(records)), nil
		}
		if !bytes.Equal(r.hash, r.chain(before, c.publicID)) {
			problem("record %d (%s) was changed, or the one before it", r.seq, r.id)
			return int64(len(records)), nil
		}
		if r.recordedAt <= last {
			problem("record %d (%s) is not later than the one before it", r.seq, r.id)
		}
		before, last = r.hash, r.recordedAt
	}
	rebuilt, err := c.fold(records, 0)
	if err != nil {
		problem("%v", err)
		return int64(len(records)), nil
	}
	if c.seq != int64(len(records)) || !bytes.Equal(c.hash, before) || c.recordedAt != last {
		problem("the head of the chain does not fit its last record")
	}
	if c.deletedAt == 0 {
		at := now()
		rebuilt.Prune(at)
		c.projection.Prune(at)
		want, err := json.Marshal(rebuilt)
		if err != nil {
			return 0, err
		}
		if got, err := json.Marshal(c.projection); err != nil || !bytes.Equal(got, want) {
			problem("the effective state is not what the ledger says")
		}
	}
	return int64(len(records)), nil
}
