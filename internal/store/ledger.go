package store

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

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
	Before      []consent.Permission // the effective entries before it
	Repeated    bool                 // an earlier request with the same Once recorded it
}

// Outcome says what became of one change.
type Outcome struct {
	Effective bool                // whether the change decides the option's state now
	Current   *consent.Permission // the effective entry, nil where there is none
}

// Record appends a transaction of one citizen to the ledger and folds it into the
// citizen's state; a citizen named by an unknown reference alone is created.
func (s *Store) Record(ctx context.Context, application int64, key consent.CitizenKey, transaction consent.Transaction, once Once) (Recorded, error) {
	var out Recorded
	err := s.do(ctx, &write{citizen: &citizenWrite{
		application: application, key: key, create: true,
		repeated: func(ctx context.Context, t *tx) (done bool, err error) {
			done, err = once.again(ctx, t, &out)
			out.Repeated = done
			return done, err
		},
		apply: func(ctx context.Context, t *tx, c *citizenRow, _ bool) error {
			if done, err := once.again(ctx, t, &out); done || err != nil {
				return once.overtaken(err)
			}
			p, err := c.profile(s.keys)
			if err != nil {
				return err
			}
			out = Recorded{CitizenID: c.publicID, ExternalRef: p.ExternalRef, Before: c.projection.Effective(t.now, false)}
			if out.Transaction, err = c.appendTransaction(transaction, t.now); err != nil {
				return err
			}
			out.Version = c.version
			for _, change := range out.Transaction.Changes {
				o := Outcome{}
				if e, ok := c.projection.Entry(consent.Key{Type: change.OptionType, ID: change.OptionID}, max(t.now, c.recordedAt)); ok {
					o = Outcome{Effective: e.TransactionID == transaction.TransactionID, Current: &e}
				}
				out.Outcomes = append(out.Outcomes, o)
			}
			return once.keep(ctx, t, out)
		},
	}})
	return out, err
}

// History reads what State reads, but folded from the whole ledger: its projection
// has lost nothing that ended or was overruled.
func (s *Store) History(ctx context.Context, application int64, key consent.CitizenKey) (State, error) {
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
	state.Projection = &consent.Projection{}
	for i := range records {
		t, err := records[i].transaction(c)
		if err != nil {
			return State{}, err
		}
		state.Projection.Add(t)
	}
	return state, nil
}

// ledger reads all records of the citizen, oldest first.
func (c *citizenRow) ledger(ctx context.Context, q querier) ([]record, error) {
	return collect(ctx, q, func(r *sql.Rows) (record, error) {
		var v record
		var body string
		var id []byte
		err := r.Scan(&v.seq, &id, &v.recordedAt, &v.kind, &body, &v.sealed, &v.hash)
		copy(v.id[:], id)
		v.body = []byte(body)
		return v, err
	}, `SELECT seq, id, recorded_at, kind, body, sealed, hash FROM ledger WHERE citizen = $1 ORDER BY seq`, c.id)
}

// Passage is one citizen whose state is changed by time alone.
type Passage struct {
	Application int64
	Citizen     consent.ID
}

// DuePassages gives up to limit citizens whose state time has changed by now.
func (s *Store) DuePassages(ctx context.Context, limit int) ([]Passage, error) {
	list, err := collect(ctx, s.read, func(r *sql.Rows) (p Passage, err error) {
		var id []byte
		err = r.Scan(&p.Application, &id)
		copy(p.Citizen[:], id)
		return p, err
	}, `SELECT c.application, c.public_id FROM citizen_state s JOIN citizen c ON c.id = s.citizen
		WHERE s.next_change_at <= $1 ORDER BY s.next_change_at LIMIT $2`, now(), limit)
	return list, s.classify(err)
}

// PassAll brings the states of citizens up to the present where time alone has
// changed them: a validity began or ended. Subscribers are told when the effective
// state is another one. The citizens are written in groups.
func (s *Store) PassAll(ctx context.Context, list []Passage) error {
	errs := make(chan error, len(list))
	for _, p := range list {
		go func() { errs <- s.pass(ctx, p) }()
	}
	var all []error
	for range list {
		if err := <-errs; !errors.Is(err, ErrNoCitizen) { // erased meanwhile
			all = append(all, err)
		}
	}
	return errors.Join(all...)
}

func (s *Store) pass(ctx context.Context, p Passage) error {
	return s.do(ctx, &write{citizen: &citizenWrite{
		application: p.Application, key: consent.CitizenKey{ID: p.Citizen},
		apply: func(_ context.Context, t *tx, c *citizenRow, _ bool) error {
			if c.nextChange == 0 || c.nextChange > t.now {
				return nil
			}
			if slices.Equal(c.projection.Effective(c.nextChange-1, true), c.projection.Effective(t.now, true)) {
				c.projection.Prune(t.now)
				c.nextChange = c.projection.NextChange(t.now)
				c.touched = true
			} else {
				c.stateChanged(consent.Platform.ID, t.now)
			}
			return nil
		},
	}})
}

// TransactionFilter says which transactions to list. The bounds are on
// recordedAt: since is inclusive, before exclusive, zero is open.
type TransactionFilter struct {
	Citizen       *consent.CitizenKey // nil: of every citizen
	Since, Before consent.Instant
	Limit, Offset int
	Total         bool // count them all, too
}

// ListedTransaction is a transaction with the citizen it belongs to. The
// reference and the attribution are empty after an erasure.
type ListedTransaction struct {
	CitizenID   consent.ID
	ExternalRef string
	consent.Transaction
}

// Transactions lists transactions of an application in ascending order of
// recordedAt and id, and how many there are in all where the filter asks for it.
func (s *Store) Transactions(ctx context.Context, application int64, f TransactionFilter) ([]ListedTransaction, int64, error) {
	where, args := []string{"l.application = $1", "l.kind = 'transaction'"}, []any{application}
	add := func(condition string, arg any) {
		args = append(args, arg)
		where = append(where, fmt.Sprintf(condition, len(args)))
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
	condition := strings.Join(where, " AND ")
	var total int64
	if f.Total {
		if err := s.read.QueryRowContext(ctx, `SELECT count(*) FROM ledger l WHERE `+condition, args...).Scan(&total); err != nil {
			return nil, 0, s.classify(err)
		}
	}
	type row struct {
		record
		citizen citizenRow
	}
	rows, err := collect(ctx, s.read, func(r *sql.Rows) (row, error) {
		var v row
		var body string
		var id, citizen []byte
		err := r.Scan(&id, &v.recordedAt, &body, &v.sealed, &citizen, &v.citizen.details, &v.citizen.wrapped)
		copy(v.id[:], id)
		copy(v.citizen.publicID[:], citizen)
		v.body = []byte(body)
		return v, err
	}, fmt.Sprintf(`SELECT l.id, l.recorded_at, l.body, l.sealed, c.public_id, c.details, k.wrapped
		FROM ledger l JOIN citizen c ON c.id = l.citizen LEFT JOIN citizen_key k ON k.citizen = l.citizen
		WHERE %s ORDER BY l.recorded_at, l.id LIMIT $%d OFFSET $%d`, condition, len(args)+1, len(args)+2),
		append(args, f.Limit, f.Offset)...)
	if err != nil {
		return nil, 0, s.classify(err)
	}
	list := make([]ListedTransaction, len(rows))
	for i := range rows {
		r := &rows[i]
		list[i].CitizenID = r.citizen.publicID
		if r.citizen.wrapped != nil {
			p, err := r.citizen.profile(s.keys)
			if err != nil {
				return nil, 0, err
			}
			list[i].ExternalRef = p.ExternalRef
		}
		if list[i].Transaction, err = r.transaction(&r.citizen); err != nil {
			return nil, 0, err
		}
	}
	return list, total, nil
}

// transaction reads the record; after an erasure the attribution stays empty.
func (r *record) transaction(c *citizenRow) (consent.Transaction, error) {
	var t consent.Transaction
	if err := json.Unmarshal(r.body, &t); err != nil {
		return t, fmt.Errorf("record %s: %w", r.id, err)
	}
	if len(r.sealed) > 0 && c.key != nil {
		plain, err := c.key.Open(c.context("record"), r.sealed)
		if err != nil {
			return t, fmt.Errorf("record %s: %w", r.id, err)
		}
		if err := json.Unmarshal(plain, &t.Attribution); err != nil {
			return t, fmt.Errorf("record %s: %w", r.id, err)
		}
	}
	return t, nil
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
	for after := int64(0); ; {
		page, err := collect(ctx, s.read, func(r *sql.Rows) (int64, error) {
			var id int64
			return id, r.Scan(&id)
		}, `SELECT id FROM citizen WHERE id > $1 ORDER BY id LIMIT 500`, after)
		if err != nil {
			return citizens, records, s.classify(err)
		}
		if len(page) == 0 {
			return citizens, records, nil
		}
		for _, id := range page {
			n, err := s.checkCitizen(ctx, id, found)
			if err != nil {
				return citizens, records, s.classify(err)
			}
			citizens, records, after = citizens+1, records+n, id
		}
	}
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
	rebuilt := &consent.Projection{}
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
		transaction, err := r.transaction(c)
		if err != nil {
			problem("%v", err)
			return int64(len(records)), nil
		}
		rebuilt.Add(transaction)
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
