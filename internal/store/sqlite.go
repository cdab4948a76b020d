package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/pressly/goose/v3"
	driver "modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/opencpm/opencpm/internal/consent"
)

// sqlite is the dialect of a store in one file, in one process.
type sqlite struct {
	log string // path of the write-ahead log
}

// SQLiteFile is the name of the database in a data directory.
const SQLiteFile = "opencpm.db"

// openSQLite opens the file with a single connection that writes and a pool that
// reads.
func openSQLite(dir string) (write, read *sql.DB, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, nil, fmt.Errorf("the data directory cannot be made: %w", err)
	}
	open := func(pragmas ...string) (*sql.DB, error) {
		q := url.Values{"_pragma": append([]string{
			"busy_timeout(10000)", "journal_mode(WAL)", "synchronous(FULL)", "foreign_keys(ON)",
			"temp_store(MEMORY)", "cache_size(-16000)",
		}, pragmas...)}
		return sql.Open("sqlite", "file:"+(&url.URL{Path: filepath.Join(dir, SQLiteFile)}).EscapedPath()+"?"+q.Encode())
	}
	if write, err = open("wal_autocheckpoint(4000)"); err != nil {
		return nil, nil, err
	}
	write.SetMaxOpenConns(1)
	if read, err = open("query_only(ON)"); err != nil {
		return nil, nil, errors.Join(err, write.Close())
	}
	read.SetMaxOpenConns(8)
	read.SetMaxIdleConns(8)
	return write, read, nil
}

// lockDir takes the lock of a data directory, which the system gives back when the
// process ends, however it ends.
func lockDir(dir string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("the data directory cannot be made: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("the data directory cannot be locked: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("another server uses the data directory %s; a SQLite store has one server at a time", dir), f.Close())
	}
	return f, nil
}

func (sqlite) name() string                 { return "sqlite" }
func (sqlite) goose() goose.Dialect         { return goose.DialectSQLite3 }
func (sqlite) writers() int                 { return 1 }
func (sqlite) prepareWriter() string        { return "" }
func (sqlite) begin() string                { return "BEGIN IMMEDIATE" }
func (sqlite) snapshot() sql.IsolationLevel { return sql.LevelDefault }

// lockMigrations takes the file's own write lock for a moment; a process that
// comes second then finds the schema up to date.
func (sqlite) lockMigrations(context.Context, *sql.DB) (func(), error) { return func() {}, nil }

func (sqlite) afterMigration(context.Context, *sql.DB) error { return nil }

func (sqlite) kind(err error) consent.Kind {
	var e *driver.Error
	if !errors.As(err, &e) {
		return consent.Internal
	}
	switch e.Code() & 0xff {
	case sqlite3.SQLITE_FULL:
		return consent.Full
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN:
		return consent.Unavailable
	}
	return consent.Internal
}

func (sqlite) again(err error) bool {
	var e *driver.Error
	return errors.As(err, &e) && e.Code()&0xff == sqlite3.SQLITE_BUSY
}

// relay notices what other processes, the data commands, have committed, while somebody
// waits for it: every commit changes the write-ahead log. Commits of our own ring as well,
// at most twice a second.
func (d sqlite) relay(ctx context.Context, s *Store) {
	const pause = 500 * time.Millisecond
	tick := time.NewTicker(pause)
	defer tick.Stop()
	ticks := true
	type mark struct {
		at   time.Time
		size int64
	}
	var seen mark
	for {
		switch heard := s.doorbells.heard(); {
		case heard && !ticks:
			ticks = true
			tick.Reset(pause)
		case !heard && ticks:
			ticks = false
			tick.Stop()
		}
		select {
		case <-ctx.Done():
			return
		case <-s.doorbells.first:
		case <-s.doorbells.out: // nobody else needs to be told
			s.doorbells.take()
		case <-tick.C:
			if info, err := os.Stat(d.log); err == nil && seen != (mark{info.ModTime(), info.Size()}) {
				seen = mark{info.ModTime(), info.Size()}
				s.doorbells.ringHere(bellAll)
			}
		}
	}
}

func (sqlite) find(ctx context.Context, t *tx, byRef []refKey, byID []consent.ID) ([]*citizenRow, error) {
	var rows []*citizenRow
	seen := map[int64]bool{}
	take := func(row *sql.Row) error {
		c, err := scanCitizen(row)
		switch {
		case errors.Is(err, sql.ErrNoRows):
			return nil
		case err != nil:
			return err
		}
		if !seen[c.id] {
			seen[c.id] = true
			rows = append(rows, c)
		}
		return nil
	}
	for _, k := range byRef {
		if err := take(t.row(ctx, `SELECT `+citizenColumns+` FROM `+citizenTables+` WHERE c.application = $1 AND c.ref_index = $2`, k.application, k.index[:])); err != nil {
			return nil, err
		}
	}
	for _, id := range byID {
		if err := take(t.row(ctx, `SELECT `+citizenColumns+` FROM `+citizenTables+` WHERE c.public_id = $1`, id[:])); err != nil {
			return nil, err
		}
	}
	return rows, nil
}

func (sqlite) create(ctx context.Context, t *tx, rows []*citizenRow) ([]bool, error) {
	created := make([]bool, len(rows))
	for i, c := range rows {
		err := t.row(ctx, `INSERT INTO citizen (public_id, application, ref_index, details, created_at) VALUES ($1, $2, $3, $4, $5)
			ON CONFLICT (application, ref_index) DO NOTHING RETURNING id`, c.publicID[:], c.application, c.refIndex, c.details, c.createdAt).Scan(&c.id)
		if errors.Is(err, sql.ErrNoRows) {
			continue
		}
		if err != nil {
			return nil, err
		}
		created[i] = true
		if _, err := t.exec(ctx, `INSERT INTO citizen_key (citizen, wrapped) VALUES ($1, $2)`, c.id, c.wrapped); err != nil {
			return nil, err
		}
		if _, err := t.exec(ctx, `INSERT INTO citizen_state (citizen, application, seq, hash, recorded_at, version, changed_by)
			VALUES ($1, $2, 0, $3, 0, 0, '')`, c.id, c.application, c.hash); err != nil {
			return nil, err
		}
	}
	return created, nil
}

func (d sqlite) flush(ctx context.Context, t *tx, rows []*citizenRow) error {
	for _, c := range rows {
		for _, r := range c.records {
			if _, err := t.exec(ctx, `INSERT INTO ledger (citizen, seq, application, id, recorded_at, kind, body, sealed, hash)
				VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)`,
				c.id, r.seq, c.application, r.id[:], r.recordedAt, r.kind, string(r.body), r.sealed, r.hash); err != nil {
				return err
			}
		}
		if _, err := t.exec(ctx, `UPDATE citizen_state SET seq = $2, hash = $3, recorded_at = $4, version = $5, changed_by = $6, projection = $7, next_change_at = $8, changed_at = $9
			WHERE citizen = $1`, c.id, c.seq, c.hash, c.recordedAt, c.version, c.changedBy, c.sealed, orNull(c.nextChange), c.changedAt); err != nil {
			return err
		}
		if err := d.tell(ctx, t, c); err != nil {
			return err
		}
	}
	return nil
}

// tell writes the changes of a citizen and what must be delivered of them.
func (d sqlite) tell(ctx context.Context, t *tx, c *citizenRow) error {
	notes, err := t.notes(ctx, c)
	if err != nil {
		return err
	}
	bulk := c.bulk()
	for _, h := range c.changes {
		var number int64
		if err := t.row(ctx, `INSERT INTO change (citizen, application, version, changed_at, previous, event, changed_by, body)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8) RETURNING id`,
			c.id, c.application, h.version, h.changedAt, h.previous, string(h.event), h.changedBy, h.sealed).Scan(&number); err != nil {
			return err
		}
		for _, n := range notes {
			if n.whole || n.version != h.version {
				continue
			}
			if _, err := t.exec(ctx, `INSERT INTO receipt (subscription, citizen, change, shard, changed_at, attempts, due_at, stored, reason, bulk)
				VALUES ($1, $2, $3, $4, $5, 0, $5, 0, '', $6)`, n.subscription, c.id, number, c.id%shards, t.now, bulk); err != nil {
				return err
			}
			if bulk == 0 { // nor does what it waits for
				if _, err := t.exec(ctx, `UPDATE receipt SET bulk = 0 WHERE citizen = $1 AND subscription = $2 AND bulk = 1`, c.id, n.subscription); err != nil {
					return err
				}
			}
		}
	}
	for _, n := range notes {
		if !n.whole {
			continue
		}
		if _, err := t.exec(ctx, `INSERT INTO lane (subscription, citizen, shard, version, changes, changed_at, attempts, due_at, bulk)
			VALUES ($1, $2, $3, $4, $5, $6, 0, $6, $7)`+onSameLane, n.subscription, c.id, c.id%shards, n.version, n.count, t.now, bulk); err != nil {
			return err
		}
		if _, err := t.exec(ctx, `DELETE FROM delivery_failure WHERE citizen = $1 AND subscription = $2`, c.id, n.subscription); err != nil {
			return err
		}
	}
	return nil
}

// onSameLane joins a new change to a lane that waits already: the newest state
// counts, at once and with quick attempts of its own.
const onSameLane = ` ON CONFLICT (citizen, subscription) DO UPDATE SET version = excluded.version,
	changes = lane.changes + excluded.changes, attempts = 0, due_at = excluded.due_at, bulk = lane.bulk * excluded.bulk, resync = 0`

// horizon: what one writer has committed is visible, and nothing comes before it.
func (sqlite) horizon() string { return "1" }

func (sqlite) alone() bool { return true }

func (sqlite) clock(context.Context, *tx) (consent.Instant, error) { return now(), nil }

// Both take the lane of a citizen and subscription and the version delivered. A
// lane that stays is one change, the newest; it counts from then.
const (
	endLane    = `DELETE FROM lane WHERE citizen = $1 AND subscription = $2 AND version <= $3`
	keepLane   = `UPDATE lane SET changes = 1, changed_at = due_at, attempts = 0 WHERE citizen = $1 AND subscription = $2 AND version > $3`
	endStored  = `DELETE FROM delivery_failure WHERE citizen = $1 AND subscription = $2 AND version <= $3`
	endReceipt = `DELETE FROM receipt WHERE citizen = $1 AND subscription = $2 AND change = $3`
)

func (sqlite) settleDelivered(ctx context.Context, t *tx, list []Settlement) error {
	for _, v := range list {
		if v.Lane.Change != 0 {
			if _, err := t.exec(ctx, endReceipt, v.Lane.Citizen, v.Lane.Subscription, v.Lane.Change); err != nil {
				return err
			}
			continue
		}
		r, err := t.exec(ctx, endLane, v.Lane.Citizen, v.Lane.Subscription, v.Rendered)
		if err != nil {
			return err
		}
		ended, err := r.RowsAffected()
		if err != nil {
			return err
		}
		if ended == 0 {
			if _, err := t.exec(ctx, keepLane, v.Lane.Citizen, v.Lane.Subscription, v.Rendered); err != nil {
				return err
			}
		}
		if _, err := t.exec(ctx, endStored, v.Lane.Citizen, v.Lane.Subscription, v.Rendered); err != nil {
			return err
		}
	}
	return nil
}

func (sqlite) noteStamps(ctx context.Context, t *tx, list []Settlement) error {
	var last consent.Instant
	for _, v := range list {
		last = max(last, v.SentAt)
	}
	_, err := t.exec(ctx, `UPDATE lease SET expires_at = $1 WHERE expires_at < $1`, last)
	return err
}

func orNull(i consent.Instant) any {
	if i == 0 {
		return nil
	}
	return i
}

func (sqlite) appendAttempts(ctx context.Context, t *tx, list []Attempt) error {
	for i := range list {
		a := &list[i]
		id := a.ID + t.store.attempts.Add(1)%attemptUnit
		if _, err := t.exec(ctx, `INSERT INTO attempt (id, subscription, citizen, change, event, event_type, sequence, number, took, status, class, outcome, reason, next_at, coalesced, content)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)`,
			id, a.Subscription, a.Citizen, a.Change, a.eventOrNull(), string(a.EventType), a.Sequence, a.Number, a.Took.Microseconds(), a.Status, a.Class,
			string(a.Outcome), a.Reason, a.Next, a.Coalesced, a.Content); err != nil {
			return err
		}
	}
	return nil
}

func (sqlite) forgetAttempts(ctx context.Context, s *Store, size, age int64) error {
	return s.deleteAttempts(ctx, "attempt", max(size, age))
}

func (sqlite) tokenSources(ctx context.Context, db *sql.DB, query string, args []any, each func(tokenSource)) error {
	rows, err := db.QueryContext(ctx, query, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var v tokenSource
		var id, details, wrapped sql.RawBytes
		if err := rows.Scan(&v.citizen, &v.generation, &id, &details, &wrapped); err != nil {
			return err
		}
		v.id, v.details, v.wrapped = id, details, wrapped
		each(v)
	}
	return rows.Err()
}
