package store

import (
	"context"
	"database/sql"

	"github.com/pressly/goose/v3"

	"github.com/opencpm/opencpm/internal/consent"
)

// dialect is what differs between the two databases. Everything else is one SQL
// text that runs on both.
type dialect interface {
	name() string
	goose() goose.Dialect
	// lockMigrations keeps other processes from migrating at the same time.
	lockMigrations(ctx context.Context, db *sql.DB) (unlock func(), err error)
	// afterMigration does what the schema alone cannot, with the lock still held.
	afterMigration(ctx context.Context, db *sql.DB) error
	// writers is how many writers a process runs.
	writers() int
	// prepareWriter sets up the connection of a writer; empty for nothing.
	prepareWriter() string
	// begin is the statement that opens a write transaction.
	begin() string
	// snapshot is the isolation under which a reader sees one instant of the data.
	snapshot() sql.IsolationLevel
	// kind tells an unreachable database (Unavailable) and a full disk (Full) from
	// everything else (Internal).
	kind(error) consent.Kind
	// again reports whether the failure passes when the transaction is run anew,
	// such as a deadlock between two nodes.
	again(error) bool
	// relay tells other processes that doorbells rang here, and rings those that
	// rang elsewhere, until ctx ends.
	relay(ctx context.Context, s *Store)

	// find reads the citizens named by the references (blind indexes) and ids and
	// locks them in the order of their numbers until the transaction ends. What is
	// not found is left out.
	find(ctx context.Context, tx *tx, byRef []refKey, byID []consent.ID) ([]*citizenRow, error)
	// create inserts citizens and numbers them; created is false on those whose
	// reference another process has taken meanwhile.
	create(ctx context.Context, tx *tx, rows []*citizenRow) (created []bool, err error)
	// flush writes the records, the changes and the new states of the rows, which are in
	// the order of their numbers, and what must be delivered of them.
	flush(ctx context.Context, tx *tx, rows []*citizenRow) error

	// holdList keeps the do-not-contact list of an application as it is until the
	// transaction ends, for one who reads it; alone is for one who changes it, and who
	// waits for all readers to end.
	holdList(ctx context.Context, tx *tx, application int64, alone bool) error

	// alone reports whether one process owns the data, so that it may deliver for
	// every shard without waiting for anybody's lease to expire.
	alone() bool
	// clock reads the clock that all nodes share.
	clock(ctx context.Context, tx *tx) (consent.Instant, error)
	// settleDelivered ends the lanes whose newest state was delivered; a lane to
	// which a newer change came stays.
	settleDelivered(ctx context.Context, tx *tx, list []Settlement) error
	// horizon is the SQL expression for the position from which the feed of changes may
	// still get rows that are not visible yet.
	horizon() string
	// appendAttempts adds entries to the delivery log, whose ids are the least of their
	// instants: it adds what keeps those of one instant apart.
	appendAttempts(ctx context.Context, tx *tx, list []Attempt) error
	// forgetAttempts deletes the entries of the delivery log below an id for its size, and
	// about those below another for their age.
	forgetAttempts(ctx context.Context, s *Store, size, age int64) error
	// noteStamps keeps the last sentAt for the next process, where nobody waits for
	// leases to expire.
	noteStamps(ctx context.Context, tx *tx, list []Settlement) error

	// tokenSources reads what tokens are made of, row by row.
	tokenSources(ctx context.Context, db *sql.DB, query string, args []any, each func(tokenSource)) error

	// replaceSealed puts values of a sealed column in the place of what they were, unless
	// somebody else has changed that; done counts them.
	replaceSealed(ctx context.Context, tx *tx, c sealedColumn, list []sealedValue) (done int64, err error)
}

// refKey names a citizen by application and blind index of the reference.
type refKey struct {
	application int64
	index       [16]byte
}

// citizenColumns are the columns that scanCitizen reads, of citizen c, its state s
// and its key k.
const citizenColumns = `c.id, c.public_id, c.application, c.ref_index, c.details, c.created_at, c.deleted_at,
	s.seq, s.hash, s.recorded_at, s.version, s.changed_by, s.projection, s.next_change_at, s.changed_at, k.wrapped`

const citizenTables = `citizen c JOIN citizen_state s ON s.citizen = c.id LEFT JOIN citizen_key k ON k.citizen = c.id`
