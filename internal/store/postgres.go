package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"

	"github.com/opencpm/opencpm/internal/consent"
)

// postgres is the dialect of a store that several nodes share.
type postgres struct{}

func openPostgres(databaseURL string) (*sql.DB, error) {
	config, err := pgx.ParseConfig(databaseURL)
	if err != nil {
		// The error of the parser may quote the URL, with its password.
		return nil, errors.New("the database URL is not one: it must look like postgres://user:password@host:5432/name")
	}
	config.RuntimeParams["application_name"] = "opencpm"
	db := stdlib.OpenDB(*config)
	const most = 24
	db.SetMaxOpenConns(most)
	db.SetMaxIdleConns(most) // one that is closed between two bursts is dear to open again: a process there, a key derivation here
	db.SetConnMaxIdleTime(5 * time.Minute)
	return db, nil
}

func (postgres) name() string                 { return "postgres" }
func (postgres) goose() goose.Dialect         { return goose.DialectPostgres }
func (postgres) writers() int                 { return 2 }
func (postgres) begin() string                { return "BEGIN" }
func (postgres) snapshot() sql.IsolationLevel { return sql.LevelRepeatableRead }

// prepareWriter: whatever a writer does it does by key. A planner that knows nothing of
// the length of an array, or of a table that was empty a moment ago, would rather
// compare all that there is; and where nothing but a scan will do, it is of a few rows,
// and not worth compiling, nor starting other processes.
func (postgres) prepareWriter() string {
	return `SET jit = off; SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off; SET max_parallel_workers_per_gather = 0`
}

// lockMigrations lets one node migrate while the others wait.
func (postgres) lockMigrations(ctx context.Context, db *sql.DB) (func(), error) {
	const key = 0x4f43504d // "OCPM"
	conn, err := db.Conn(ctx)
	if err != nil {
		return nil, err
	}
	if _, err := conn.ExecContext(ctx, `SELECT pg_advisory_lock($1)`, key); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return func() {
		_, _ = conn.ExecContext(context.WithoutCancel(ctx), `SELECT pg_advisory_unlock($1)`, key)
		_ = conn.Close()
	}, nil
}

// afterMigration notices a database that was copied to another server, whose count of
// transactions is behind the positions in the feed: it goes on after them.
func (d postgres) afterMigration(ctx context.Context, db *sql.DB) error {
	if err := d.makePartitions(ctx, db); err != nil {
		return err
	}
	_, err := db.ExecContext(ctx, `UPDATE feed SET origin = last.position - pg_current_xact_id()::text::bigint + 1
		FROM (SELECT max(h.position) AS position FROM application a
			CROSS JOIN LATERAL (SELECT position FROM change WHERE application = a.id ORDER BY position DESC LIMIT 1) h) last
		WHERE last.position > feed.origin + pg_current_xact_id()::text::bigint`)
	return err
}

func (postgres) kind(err error) consent.Kind {
	var e *pgconn.PgError
	var dial *pgconn.ConnectError
	var network net.Error
	switch {
	case errors.As(err, &e):
		switch e.Code {
		case "53100":
			return consent.Full
		case "23505":
			return consent.Conflict
		}
		switch e.Code[:2] {
		case "08", "53", "57": // connection, resources, shutting down
			return consent.Unavailable
		case "25": // a write on a standby, as during a failover
			return consent.Unavailable
		}
	case errors.As(err, &dial), errors.As(err, &network), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF), pgconn.SafeToRetry(err):
		return consent.Unavailable
	}
	return consent.Internal
}

func (postgres) again(err error) bool {
	var e *pgconn.PgError
	return errors.As(err, &e) && (e.Code == "40001" || e.Code == "40P01")
}

// Doorbells between nodes: a NOTIFY at most every 10 ms, whatever the rate of
// commits, whose payload is the set of bells.
const notifyEvery = 10 * time.Millisecond

func (d postgres) relay(ctx context.Context, s *Store) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			if err := d.hear(ctx, s); err != nil && ctx.Err() == nil {
				s.log.Warn("the database does not tell of changes on other nodes; trying again", "error", err)
				wait(ctx, time.Second)
			}
		}
	}()
	for {
		select {
		case <-ctx.Done():
			<-done
			return
		case <-s.doorbells.out:
			b := s.doorbells.take()
			// A lost bell costs a poll: whoever waits also looks by itself.
			_, _ = s.write.ExecContext(ctx, `SELECT pg_notify('opencpm', $1)`, fmt.Sprint(b))
			wait(ctx, notifyEvery)
		}
	}
}

// hear rings here what rang on any node, until the connection breaks.
func (postgres) hear(ctx context.Context, s *Store) error {
	conn, err := s.write.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	return conn.Raw(func(c any) error {
		pg := c.(*stdlib.Conn).Conn()
		defer pg.Close(context.WithoutCancel(ctx)) // it listens: not for the pool
		if _, err := pg.Exec(ctx, `LISTEN opencpm`); err != nil {
			return err
		}
		s.doorbells.ringHere(bellAll) // whatever was missed until now
		for {
			n, err := pg.WaitForNotification(ctx)
			if err != nil {
				return err
			}
			var b bell
			_, _ = fmt.Sscan(n.Payload, &b)
			s.doorbells.ringHere(b)
		}
	})
}

func wait(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

func (postgres) find(ctx context.Context, t *tx, byRef []refKey, byID []consent.ID) ([]*citizenRow, error) {
	applications, indexes := make([]int64, len(byRef)), make([][]byte, len(byRef))
	for i, k := range byRef {
		applications[i], indexes[i] = k.application, k.index[:]
	}
	ids := make([][]byte, len(byID))
	for i, id := range byID {
		ids[i] = id[:]
	}
	// The states are locked in the order of their numbers, as everywhere, so that
	// two nodes cannot wait for each other.
	return collect(ctx, t, func(r *sql.Rows) (*citizenRow, error) { return scanCitizen(r) },
		`SELECT `+citizenColumns+` FROM `+citizenTables+` WHERE c.id IN (
			SELECT r.id FROM citizen r JOIN unnest($1::bigint[], $2::bytea[]) w (application, ref_index) ON r.application = w.application AND r.ref_index = w.ref_index
			UNION SELECT id FROM citizen WHERE public_id = ANY ($3::bytea[]))
		ORDER BY c.id FOR UPDATE OF s`, applications, indexes, ids)
}

func (postgres) create(ctx context.Context, t *tx, rows []*citizenRow) ([]bool, error) {
	n := len(rows)
	ids, applications, indexes, details, at, keys := make([][]byte, n), make([]int64, n), make([][]byte, n), make([][]byte, n), make([]int64, n), make([][]byte, n)
	byID := map[consent.ID]int{}
	for i, c := range rows {
		ids[i], applications[i], indexes[i], details[i], at[i], keys[i] = c.publicID[:], c.application, c.refIndex, c.details, int64(c.createdAt), c.wrapped
		byID[c.publicID] = i
	}
	type made struct {
		id       int64
		publicID []byte
	}
	list, err := collect(ctx, t, func(r *sql.Rows) (m made, err error) { return m, r.Scan(&m.id, &m.publicID) },
		`WITH made AS (
			INSERT INTO citizen (public_id, application, ref_index, details, created_at)
			SELECT * FROM unnest($1::bytea[], $2::bigint[], $3::bytea[], $4::bytea[], $5::bigint[])
			ON CONFLICT (application, ref_index) DO NOTHING RETURNING id, public_id, application),
		keyed AS (
			INSERT INTO citizen_key (citizen, wrapped)
			SELECT made.id, k.wrapped FROM made JOIN unnest($1::bytea[], $6::bytea[]) k (public_id, wrapped) USING (public_id)),
		stated AS (
			INSERT INTO citizen_state (citizen, application, seq, hash, recorded_at, version, changed_by)
			SELECT id, application, 0, $7, 0, 0, '' FROM made)
		SELECT id, public_id FROM made`, ids, applications, indexes, details, at, keys, genesis)
	if err != nil {
		return nil, err
	}
	created := make([]bool, n)
	for _, m := range list {
		i := byID[consent.ID(m.publicID)]
		rows[i].id, created[i] = m.id, true
	}
	return created, nil
}

func (postgres) flush(ctx context.Context, t *tx, rows []*citizenRow) error {
	if len(rows) == 0 {
		return nil
	}
	var (
		lCitizen, lSeq, lApplication, lAt []int64
		lID, lSealed, lHash               [][]byte
		lKind, lBody                      []string

		citizen, seq, at, version, changed []int64
		hash, projection                   [][]byte
		by                                 []string
		next                               []*int64

		nSubscription, nCitizen, nVersion, nCount, nBulk        []int64 // full states
		rSubscription, rCitizen, rVersion, rBulk                []int64 // one change each
		hCitizen, hApplication, hVersion, hChangedAt, hPrevious []int64
		hEvent, hBy                                             []string
		hBody                                                   [][]byte
	)
	for _, c := range rows {
		for _, r := range c.records {
			lCitizen, lSeq, lApplication, lAt = append(lCitizen, c.id), append(lSeq, r.seq), append(lApplication, c.application), append(lAt, int64(r.recordedAt))
			lID, lSealed, lHash = append(lID, r.id[:]), append(lSealed, r.sealed), append(lHash, r.hash)
			lKind, lBody = append(lKind, r.kind), append(lBody, string(r.body))
		}
		citizen, seq, at, version = append(citizen, c.id), append(seq, c.seq), append(at, int64(c.recordedAt)), append(version, c.version)
		hash, projection, by = append(hash, c.hash), append(projection, c.sealed), append(by, c.changedBy)
		var n *int64
		if c.nextChange != 0 {
			v := int64(c.nextChange)
			n = &v
		}
		next, changed = append(next, n), append(changed, int64(c.changedAt))
		notes, err := t.notes(ctx, c)
		if err != nil {
			return err
		}
		for _, n := range notes {
			if n.whole {
				nSubscription, nCitizen, nVersion = append(nSubscription, n.subscription), append(nCitizen, c.id), append(nVersion, n.version)
				nCount, nBulk = append(nCount, n.count), append(nBulk, c.bulk())
			} else {
				rSubscription, rCitizen = append(rSubscription, n.subscription), append(rCitizen, c.id)
				rVersion, rBulk = append(rVersion, n.version), append(rBulk, c.bulk())
			}
		}
		for _, h := range c.changes {
			hCitizen, hApplication, hVersion = append(hCitizen, c.id), append(hApplication, c.application), append(hVersion, h.version)
			hChangedAt, hPrevious = append(hChangedAt, int64(h.changedAt)), append(hPrevious, int64(h.previous))
			hEvent, hBy, hBody = append(hEvent, string(h.event)), append(hBy, h.changedBy), append(hBody, h.sealed)
		}
	}
	if len(lCitizen) > 0 {
		if _, err := t.exec(ctx, `INSERT INTO ledger (citizen, seq, application, id, recorded_at, kind, body, sealed, hash)
			SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bytea[], $5::bigint[], $6::text[], $7::text[], $8::bytea[], $9::bytea[])`,
			lCitizen, lSeq, lApplication, lID, lAt, lKind, lBody, lSealed, lHash); err != nil {
			return err
		}
	}
	if _, err := t.exec(ctx, `UPDATE citizen_state s SET seq = n.seq, hash = n.hash, recorded_at = n.recorded_at, version = n.version,
			changed_by = n.changed_by, projection = n.projection, next_change_at = n.next_change_at, changed_at = n.changed_at,
			position = CASE WHEN n.changed_at = s.changed_at THEN s.position ELSE greatest(s.position, `+position+`) END
		FROM unnest($1::bigint[], $2::bigint[], $3::bytea[], $4::bigint[], $5::bigint[], $6::text[], $7::bytea[], $8::bigint[], $9::bigint[])
			n (citizen, seq, hash, recorded_at, version, changed_by, projection, next_change_at, changed_at)
		WHERE s.citizen = n.citizen`, citizen, seq, hash, at, version, by, projection, next, changed); err != nil {
		return err
	}
	if len(hCitizen) > 0 {
		// The numbers of the changes rise in the order of the list. A message for which somebody
		// waits lifts those before it.
		if _, err := t.exec(ctx, `WITH made AS (
				INSERT INTO change (position, citizen, application, version, changed_at, previous, event, changed_by, body)
				SELECT s.position, n.citizen, n.application, n.version, n.changed_at, n.previous, n.event, n.changed_by, n.body
				FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::text[], $7::text[], $8::bytea[])
					WITH ORDINALITY n (citizen, application, version, changed_at, previous, event, changed_by, body, place)
				JOIN citizen_state s ON s.citizen = n.citizen ORDER BY n.place
				RETURNING id, citizen, version),
			note AS (SELECT * FROM unnest($11::bigint[], $12::bigint[], $13::bigint[], $14::bigint[]) n (subscription, citizen, version, bulk)),
			lifted AS (UPDATE receipt r SET bulk = 0 FROM note n WHERE r.citizen = n.citizen AND r.subscription = n.subscription AND n.bulk = 0 AND r.bulk = 1)
			INSERT INTO receipt (subscription, citizen, change, shard, changed_at, attempts, due_at, stored, reason, bulk)
			SELECT n.subscription, m.citizen, m.id, m.citizen % $9, $10, 0, $10, 0, '', n.bulk
			FROM note n JOIN made m ON m.citizen = n.citizen AND m.version = n.version`,
			hCitizen, hApplication, hVersion, hChangedAt, hPrevious, hEvent, hBy, hBody, shards, t.now,
			rSubscription, rCitizen, rVersion, rBulk); err != nil {
			return err
		}
	}
	if len(nCitizen) == 0 {
		return nil
	}
	if _, err := t.exec(ctx, `INSERT INTO lane (subscription, citizen, shard, version, changes, changed_at, attempts, due_at, bulk)
		SELECT n.subscription, n.citizen, n.citizen % $6, n.version, n.changes, $7, 0, $7, n.bulk
		FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[]) n (subscription, citizen, version, changes, bulk)
		ORDER BY n.citizen, n.subscription`+onSameLane, nSubscription, nCitizen, nVersion, nCount, nBulk, shards, t.now); err != nil {
		return err
	}
	// What a newer full state, which now waits in a lane, makes stale leaves the failures
	// store.
	_, err := t.exec(ctx, `DELETE FROM delivery_failure WHERE EXISTS (SELECT 1 FROM lane l
		WHERE l.citizen = delivery_failure.citizen AND l.subscription = delivery_failure.subscription) AND citizen = ANY ($1::bigint[])`, nCitizen)
	return err
}

// position is the place in the feed of what this transaction writes. A citizen's changes
// keep their order: one that had to wait for another transaction takes at least its
// position.
const position = `(SELECT origin FROM feed) + pg_current_xact_id()::text::bigint`

// horizon: what transactions have written that began after the oldest one still
// running may be overtaken by that one.
func (postgres) horizon() string {
	return `(SELECT origin FROM feed) + pg_snapshot_xmin(pg_current_snapshot())::text::bigint`
}

func (postgres) alone() bool { return false }

func (postgres) clock(ctx context.Context, t *tx) (at consent.Instant, err error) {
	return at, t.row(ctx, `SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint`).Scan(&at)
}

func (postgres) settleDelivered(ctx context.Context, t *tx, list []Settlement) error {
	if len(list) == 0 {
		return nil
	}
	var citizens, subscriptions, versions, rCitizens, rSubscriptions, rChanges []int64
	for _, v := range list {
		if l := v.Lane; l.Change != 0 {
			rCitizens, rSubscriptions, rChanges = append(rCitizens, l.Citizen), append(rSubscriptions, l.Subscription), append(rChanges, l.Change)
		} else {
			citizens, subscriptions, versions = append(citizens, l.Citizen), append(subscriptions, l.Subscription), append(versions, v.Rendered)
		}
	}
	if len(rCitizens) > 0 {
		if _, err := t.exec(ctx, `DELETE FROM receipt x USING unnest($1::bigint[], $2::bigint[], $3::bigint[]) d (citizen, subscription, change)
			WHERE x.citizen = d.citizen AND x.subscription = d.subscription AND x.change = d.change`, rCitizens, rSubscriptions, rChanges); err != nil {
			return err
		}
	}
	if len(citizens) == 0 {
		return nil
	}
	const done = ` unnest($1::bigint[], $2::bigint[], $3::bigint[]) d (citizen, subscription, version)
		WHERE x.citizen = d.citizen AND x.subscription = d.subscription AND x.version `
	for _, q := range []string{
		`DELETE FROM lane x USING` + done + `<= d.version`,
		`UPDATE lane x SET changes = 1, changed_at = x.due_at, attempts = 0 FROM` + done + `> d.version`,
		`DELETE FROM delivery_failure x USING` + done + `<= d.version`,
	} {
		if _, err := t.exec(ctx, q, citizens, subscriptions, versions); err != nil {
			return err
		}
	}
	return nil
}

// noteStamps has nothing to do: a lease is taken over only after it expired, and
// nothing is stamped later than that.
func (postgres) noteStamps(context.Context, *tx, []Settlement) error { return nil }

func (postgres) appendAttempts(ctx context.Context, t *tx, list []Attempt) error {
	n := len(list)
	ids, subscriptions, citizens, changes, sequences, numbers := make([]int64, n), make([]int64, n), make([]int64, n), make([]int64, n), make([]int64, n), make([]int64, n)
	took, statuses, nexts, coalesced := make([]int64, n), make([]int64, n), make([]int64, n), make([]int64, n)
	types, classes, outcomes, reasons := make([]string, n), make([]string, n), make([]string, n), make([]string, n)
	events, contents := make([][]byte, n), make([][]byte, n)
	for i := range list {
		a := &list[i]
		ids[i], subscriptions[i], citizens[i], changes[i], sequences[i], numbers[i] = a.ID, a.Subscription, a.Citizen, a.Change, a.Sequence, int64(a.Number)
		took[i], statuses[i], nexts[i], coalesced[i] = a.Took.Microseconds(), int64(a.Status), int64(a.Next), a.Coalesced
		types[i], classes[i], outcomes[i], reasons[i] = string(a.EventType), a.Class, string(a.Outcome), a.Reason
		events[i], contents[i] = a.eventOrNull(), a.Content
	}
	_, err := t.exec(ctx, `INSERT INTO attempt (id, subscription, citizen, change, event, event_type, sequence, number, took, status, class, outcome, reason, next_at, coalesced, content)
		SELECT n.id + nextval('attempt_number') % $17, n.subscription, n.citizen, n.change, n.event, n.event_type, n.sequence, n.number, n.took, n.status, n.class, n.outcome, n.reason, n.next_at, n.coalesced, n.content
		FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bytea[], $6::text[], $7::bigint[], $8::bigint[], $9::bigint[], $10::bigint[],
			$11::text[], $12::text[], $13::text[], $14::bigint[], $15::bigint[], $16::bytea[])
			n (id, subscription, citizen, change, event, event_type, sequence, number, took, status, class, outcome, reason, next_at, coalesced, content)`,
		ids, subscriptions, citizens, changes, events, types, sequences, numbers, took, statuses, classes, outcomes, reasons, nexts, coalesced, contents, attemptUnit)
	return err
}

// The days for which partitions of the delivery log are made ahead, today included.
const partitionsAhead = 3

// partitionOf names the partition of a day, and partitionDay reads the name.
const partitionOf = "attempt_20060102"

// makePartitions makes the partitions of the delivery log for the next days. A day whose
// entries are in attempt_rest already stays there.
func (postgres) makePartitions(ctx context.Context, db *sql.DB) error {
	for ahead := range partitionsAhead {
		day := time.Now().UTC().Truncate(24*time.Hour).AddDate(0, 0, ahead)
		var known bool
		if err := db.QueryRowContext(ctx, `SELECT to_regclass($1) IS NOT NULL`, day.Format(partitionOf)).Scan(&known); err != nil || known {
			if err != nil {
				return err
			}
			continue
		}
		err := alterLog(ctx, db, fmt.Sprintf(`CREATE TABLE IF NOT EXISTS %s PARTITION OF attempt FOR VALUES FROM (%d) TO (%d)`,
			day.Format(partitionOf), firstAttempt(consent.At(day)), firstAttempt(consent.At(day.AddDate(0, 0, 1)))))
		var e *pgconn.PgError
		if errors.As(err, &e) && e.Code == "23514" {
			continue
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// alterLog changes the partitions of the delivery log, one node at a time, unless it
// would make the deliveries wait for somebody who reads the log for long.
func alterLog(ctx context.Context, db *sql.DB, statement string) error {
	t, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = t.Rollback() }()
	for _, q := range []string{`SET LOCAL lock_timeout = '2s'`, `SELECT pg_advisory_xact_lock(1329811534)`, statement} {
		if _, err := t.ExecContext(ctx, q); err != nil {
			return err
		}
	}
	return t.Commit()
}

func (d postgres) forgetAttempts(ctx context.Context, s *Store, size, age int64) error {
	if err := d.makePartitions(ctx, s.write); err != nil {
		return err
	}
	names, err := collect(ctx, s.write, func(r *sql.Rows) (v string, err error) { return v, r.Scan(&v) },
		`SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = 'attempt'::regclass ORDER BY c.relname`)
	if err != nil {
		return err
	}
	for _, name := range names {
		day, err := time.Parse(partitionOf, name)
		if err != nil || firstAttempt(consent.At(day.AddDate(0, 0, 1))) > max(size, age) {
			continue
		}
		if err := alterLog(ctx, s.write, `DROP TABLE IF EXISTS `+name); err != nil {
			return err
		}
	}
	return errors.Join(s.deleteAttempts(ctx, "attempt_rest", max(size, age)), s.deleteAttempts(ctx, "attempt", size))
}

// tokenSources asks the driver itself: database/sql would copy each value twice.
func (postgres) tokenSources(ctx context.Context, db *sql.DB, query string, args []any, each func(tokenSource)) error {
	conn, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	return conn.Raw(func(c any) error {
		rows, err := c.(*stdlib.Conn).Conn().Query(ctx, query, args...)
		if err != nil {
			return err
		}
		defer rows.Close()
		var v tokenSource
		columns := []any{&v.citizen, &v.generation, (*pgtype.DriverBytes)(&v.id), (*pgtype.DriverBytes)(&v.details), (*pgtype.DriverBytes)(&v.wrapped)}
		for rows.Next() {
			if err := rows.Scan(columns...); err != nil {
				return err
			}
			each(v)
		}
		return rows.Err()
	})
}
