package main

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	mathrand "math/rand/v2"
	"slices"
	"time"

	"github.com/google/uuid"
)

// groupSize is how many changes the bare loop puts into one commit, as many as the product at most.
const groupSize = 150

// shards is into how many parts the product divides the citizens for delivery.
const shards = 16

// bareRows writes the rows of changes without HTTP, JSON or rules: a ledger row, the citizen's state, the change and the note
// to deliver, with the bytes of real ones, in grouped commits, on a copy of the store.
type bareRows struct {
	kind    string
	db      *sql.DB
	conn    *sql.Conn
	stmts   []*sql.Stmt
	samples []sample
	// Everything that a row refers to.
	citizens                  []int64
	application, subscription int64
	seq                       int64
}

// sample is what a real change has written.
type sample struct {
	kind, body, changedBy string
	sealed, projection    []byte
	news                  []byte // what changed, sealed
	nextChange            sql.NullInt64
}

// change is one that the loop writes.
type bareChange struct {
	sample
	citizen int64
	id      uuid.UUID
	hash    []byte
}

// newBareRows reads what it needs. The store must hold changes that were recorded after the citizens were made.
func newBareRows(ctx context.Context, s *store) (_ *bareRows, err error) {
	w := &bareRows{kind: s.kind, seq: 1 << 32}
	if w.db, err = s.open(); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = w.close()
		}
	}()
	if w.conn, err = w.db.Conn(ctx); err != nil {
		return nil, err
	}
	if err := w.conn.QueryRowContext(ctx, `SELECT application, id FROM subscription`).Scan(&w.application, &w.subscription); err != nil {
		return nil, err
	}
	if w.citizens, err = collect(ctx, w.conn, func(r *sql.Rows) (id int64, err error) { return id, r.Scan(&id) },
		`SELECT citizen FROM citizen_state ORDER BY citizen`); err != nil {
		return nil, err
	}
	if w.samples, err = collect(ctx, w.conn, func(r *sql.Rows) (v sample, err error) {
		return v, r.Scan(&v.kind, &v.body, &v.sealed, &v.projection, &v.changedBy, &v.nextChange, &v.news)
	}, `SELECT l.kind, l.body, l.sealed, s.projection, s.changed_by, s.next_change_at, h.body
		FROM (SELECT citizen, version, body FROM change ORDER BY id DESC LIMIT 1000) h
		JOIN citizen_state s ON s.citizen = h.citizen AND s.version = h.version JOIN ledger l ON l.citizen = s.citizen AND l.seq = s.seq`); err != nil {
		return nil, err
	}
	if len(w.samples) == 0 || len(w.citizens) < groupSize {
		return nil, errors.New("the store holds too little to take samples of")
	}
	for _, text := range statements[s.kind] {
		st, err := w.conn.PrepareContext(ctx, text) //nolint:sqlclosecheck // closed with the connection
		if err != nil {
			return nil, err
		}
		w.stmts = append(w.stmts, st)
	}
	return w, nil
}

func collect[T any](ctx context.Context, conn *sql.Conn, scan func(*sql.Rows) (T, error), query string) (list []T, err error) {
	rows, err := conn.QueryContext(ctx, query)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		v, err := scan(rows)
		if err != nil {
			return nil, err
		}
		list = append(list, v)
	}
	return list, rows.Err()
}

func (w *bareRows) close() error {
	var err error
	for _, st := range w.stmts {
		err = errors.Join(err, st.Close())
	}
	if w.conn != nil {
		err = errors.Join(err, w.conn.Close())
	}
	return errors.Join(err, w.db.Close())
}

// onSameLane joins a note to one that waits already.
const onSameLane = ` ON CONFLICT (citizen, subscription) DO UPDATE SET version = excluded.version,
	changes = lane.changes + 1, attempts = 0, due_at = excluded.due_at`

// statements write ledger, states, lanes and changes: one change each on SQLite, all of a group on PostgreSQL.
var statements = map[string][]string{
	sqlite: {
		`INSERT INTO ledger (citizen, seq, application, id, recorded_at, kind, body, sealed, hash) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)`,
		`UPDATE citizen_state SET seq = $2, hash = $3, recorded_at = $4, version = version + 1, changed_by = $5, projection = $6, next_change_at = $7 WHERE citizen = $1`,
		`INSERT INTO lane (subscription, citizen, shard, version, changes, changed_at, attempts, due_at) VALUES ($1, $2, $3, $4, 1, $5, 0, $5)` + onSameLane,
		`INSERT INTO change (citizen, application, version, changed_at, previous, event, changed_by, body) VALUES ($1, $2, $3, $4, 0, 'citizen.changed', $5, $6)`,
	},
	postgres: {
		`INSERT INTO ledger (citizen, seq, application, id, recorded_at, kind, body, sealed, hash)
			SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bytea[], $5::bigint[], $6::text[], $7::text[], $8::bytea[], $9::bytea[])`,
		`UPDATE citizen_state s SET seq = n.seq, hash = n.hash, recorded_at = n.recorded_at, version = version + 1, changed_by = n.changed_by,
				projection = n.projection, next_change_at = n.next_change_at
			FROM unnest($1::bigint[], $2::bigint[], $3::bytea[], $4::bigint[], $5::text[], $6::bytea[], $7::bigint[])
				n (citizen, seq, hash, recorded_at, changed_by, projection, next_change_at) WHERE s.citizen = n.citizen`,
		`INSERT INTO lane (subscription, citizen, shard, version, changes, changed_at, attempts, due_at)
			SELECT subscription, citizen, shard, version, 1, due_at, 0, due_at
			FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[]) n (subscription, citizen, shard, version, due_at)` + onSameLane,
		`INSERT INTO change (position, citizen, application, version, changed_at, previous, event, changed_by, body)
			SELECT 0, n.citizen, n.application, n.version, n.changed_at, 0, 'citizen.changed', n.changed_by, n.body
			FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::text[], $6::bytea[]) n (citizen, application, version, changed_at, changed_by, body)`,
	},
}

// writeFor commits groups for a while and gives the rate of changes.
func (w *bareRows) writeFor(ctx context.Context, d time.Duration) (float64, error) {
	began, n := time.Now(), 0
	for time.Since(began) < d {
		if err := w.commit(ctx, w.group()); err != nil {
			return 0, err
		}
		n += groupSize
	}
	return float64(n) / time.Since(began).Seconds(), nil
}

// group makes changes of different citizens, in the order of their numbers.
func (w *bareRows) group() []bareChange {
	group := make([]bareChange, groupSize)
	taken := make(map[int64]bool, groupSize)
	for i := range group {
		c := &group[i]
		for c.citizen = w.any(); taken[c.citizen]; {
			c.citizen = w.any()
		}
		taken[c.citizen] = true
		c.sample, c.id, c.hash = w.samples[mathrand.IntN(len(w.samples))], uuid.Must(uuid.NewV7()), make([]byte, 32)
		_, _ = rand.Read(c.hash) // it never fails
	}
	slices.SortFunc(group, func(a, b bareChange) int { return int(a.citizen - b.citizen) })
	return group
}

func (w *bareRows) any() int64 { return w.citizens[mathrand.IntN(len(w.citizens))] }

func (w *bareRows) commit(ctx context.Context, group []bareChange) error {
	if w.kind == sqlite {
		return w.transaction(ctx, "BEGIN IMMEDIATE", func() error { return w.writeEach(ctx, group) })
	}
	return w.transaction(ctx, "BEGIN", func() error { return w.writeArrays(ctx, group) })
}

func (w *bareRows) transaction(ctx context.Context, begin string, write func() error) error {
	if _, err := w.conn.ExecContext(ctx, begin); err != nil {
		return err
	}
	if err := write(); err != nil {
		return err
	}
	_, err := w.conn.ExecContext(ctx, "COMMIT")
	return err
}

func (w *bareRows) writeEach(ctx context.Context, group []bareChange) error {
	now := time.Now().UnixMicro()
	for i := range group {
		c := &group[i]
		w.seq++
		for st, args := range [][]any{
			{c.citizen, w.seq, w.application, c.id[:], now, c.kind, c.body, c.sealed, c.hash},
			{c.citizen, w.seq, c.hash, now, c.changedBy, c.projection, c.nextChange},
			{w.subscription, c.citizen, c.citizen % shards, w.seq, now},
			{c.citizen, w.application, w.seq, now, c.changedBy, c.news},
		} {
			if _, err := w.stmts[st].ExecContext(ctx, args...); err != nil {
				return err
			}
		}
	}
	return nil
}

func (w *bareRows) writeArrays(ctx context.Context, group []bareChange) error {
	n := len(group)
	var (
		citizens, seqs, applications, at = make([]int64, n), make([]int64, n), make([]int64, n), make([]int64, n)
		subscriptions, lanes             = make([]int64, n), make([]int64, n)
		ids, sealed, hashes, projections = make([][]byte, n), make([][]byte, n), make([][]byte, n), make([][]byte, n)
		news                             = make([][]byte, n)
		kinds, bodies, by                = make([]string, n), make([]string, n), make([]string, n)
		next                             = make([]*int64, n)
		now                              = time.Now().UnixMicro()
	)
	for i := range group {
		c := &group[i]
		w.seq++
		citizens[i], seqs[i], applications[i], at[i] = c.citizen, w.seq, w.application, now
		subscriptions[i], lanes[i] = w.subscription, c.citizen%shards
		ids[i], sealed[i], hashes[i], projections[i] = c.id[:], c.sealed, c.hash, c.projection
		kinds[i], bodies[i], by[i], news[i] = c.kind, c.body, c.changedBy, c.news
		if c.nextChange.Valid {
			next[i] = &c.nextChange.Int64
		}
	}
	for st, args := range [][]any{
		{citizens, seqs, applications, ids, at, kinds, bodies, sealed, hashes},
		{citizens, seqs, hashes, at, by, projections, next},
		{subscriptions, citizens, lanes, seqs, at},
		{citizens, applications, seqs, at, by, news},
	} {
		if _, err := w.stmts[st].ExecContext(ctx, args...); err != nil {
			return err
		}
	}
	return nil
}
