// Package store is all persistence of OpenCPM: the ledger, the projection of it,
// the catalogue, subscriptions and the lanes of their deliveries, on SQLite or
// PostgreSQL.
//
// What changes goes through one queue of writes that are committed in groups, each
// group in one database transaction with a real fsync; the fold of a citizen's
// changes runs inside that transaction. What is read is read from the database:
// nothing here can be stale after a write.
package store

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/pressly/goose/v3"

	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/internal/seal"
)

//go:embed migrations
var migrations embed.FS

// Options say which database to open and how.
type Options struct {
	// Dir is the data directory of a SQLite store; it is made where it is missing.
	// Exactly one of Dir and DatabaseURL is given.
	Dir string
	// Exclusive refuses a data directory that another process has opened
	// exclusively: it is for the one server of a SQLite store.
	Exclusive bool
	// DatabaseURL is a PostgreSQL URL.
	DatabaseURL string
	// Keys seal secrets and personal fields.
	Keys *seal.Keyring
	// DeliveryLog says how long the delivery log is kept.
	DeliveryLog LogRetention
	// Log receives what the store has to say of itself; nil means slog.Default.
	Log *slog.Logger
	// Committed, where set, is told of every group commit: how many writes it
	// carried and how long it took.
	Committed func(writes int, took time.Duration)
}

// Store is an open store. Its methods are safe for concurrent use.
type Store struct {
	dialect   dialect
	read      *sql.DB // readers
	fixed     reader  // the same, for queries whose texts are few
	write     *sql.DB // the writers' connections
	keys      *seal.Keyring
	index     *seal.Key // blind indexes
	listed    *seal.Key // the do-not-contact list
	tokenKeys TokenKeys // as they were at first
	log       *slog.Logger
	committed func(int, time.Duration)
	retention LogRetention
	logged    volume
	attempts  atomic.Int64 // entries of the delivery log that this process has made

	lock      *os.File // of an exclusive SQLite store
	queue     chan *write
	stop      context.CancelFunc
	done      sync.WaitGroup
	doorbells *doorbells

	placements sync.Map // by application: placed
	defaults   atomic.Pointer[func(application int64) []consent.Transaction]
}

// Open opens the store, brings its schema up to date and starts its writers.
// Close must be called.
func Open(ctx context.Context, o Options) (*Store, error) {
	s := &Store{
		keys: o.Keys, log: o.Log, committed: o.Committed, retention: o.DeliveryLog,
		queue: make(chan *write), doorbells: newDoorbells(),
	}
	if s.log == nil {
		s.log = slog.Default()
	}
	if s.committed == nil {
		s.committed = func(int, time.Duration) {}
	}
	if s.retention.Age == 0 {
		s.retention.Age = defaultLogAge
	}
	if s.retention.Bytes == 0 {
		s.retention.Bytes = defaultLogBytes
	}
	var err error
	switch {
	case (o.Dir == "") == (o.DatabaseURL == ""):
		return nil, errors.New("exactly one of a data directory and a database URL is needed")
	case o.Dir != "":
		s.dialect = sqlite{log: filepath.Join(o.Dir, SQLiteFile+"-wal")}
		if o.Exclusive {
			if s.lock, err = lockDir(o.Dir); err != nil {
				return nil, err
			}
		}
		s.write, s.read, err = openSQLite(o.Dir)
		s.fixed = prepare(s.read)
	default:
		s.dialect = postgres{}
		s.write, err = openPostgres(o.DatabaseURL)
		s.read, s.fixed = s.write, s.write // which keeps statements by itself
	}
	if err != nil {
		return nil, err
	}
	if err := s.prepare(ctx); err != nil {
		return nil, errors.Join(err, s.closeDatabases())
	}
	run, stop := context.WithCancel(context.Background())
	s.stop = stop
	for range s.dialect.writers() {
		s.done.Go(func() { s.runWriter(run) })
	}
	s.done.Go(func() { s.dialect.relay(run, s) })
	return s, nil
}

// prepare migrates the schema and opens the keys, which the first start makes.
func (s *Store) prepare(ctx context.Context) error {
	dir, err := fs.Sub(migrations, "migrations/"+s.dialect.name())
	if err != nil {
		return err
	}
	unlock, err := s.dialect.lockMigrations(ctx, s.write)
	if err != nil {
		return s.classify(err)
	}
	defer unlock()
	g, err := goose.NewProvider(s.dialect.goose(), s.write, dir)
	if err != nil {
		return err
	}
	if _, err := g.Up(ctx); err != nil {
		return fmt.Errorf("bringing the schema up to date: %w", err)
	}
	if err := s.dialect.afterMigration(ctx, s.write); err != nil {
		return s.classify(err)
	}
	if s.index, err = s.openKey(ctx, "index key"); err != nil {
		return err
	}
	if s.listed, err = s.openKey(ctx, "suppression key"); err != nil {
		return err
	}
	return s.openTokenKeys(ctx)
}

// openKey opens one of the store's own data keys.
func (s *Store) openKey(ctx context.Context, name string) (*seal.Key, error) {
	fresh := s.keys.Wrap(name, seal.NewKey())
	if _, err := s.write.ExecContext(ctx, `INSERT INTO setting (name, value) VALUES ($1, $2) ON CONFLICT DO NOTHING`, name, fresh); err != nil {
		return nil, s.classify(err)
	}
	var wrapped []byte
	if err := s.write.QueryRowContext(ctx, `SELECT value FROM setting WHERE name = $1`, name).Scan(&wrapped); err != nil {
		return nil, s.classify(err)
	}
	key, err := s.keys.Unwrap(name, wrapped)
	if err != nil {
		return nil, errors.New("the sealing keys do not fit this data: give the key file with which it was made")
	}
	return key, nil
}

// Close lets the writes that were taken finish, stops the writers and closes the
// database.
func (s *Store) Close() error {
	s.stop()
	s.done.Wait()
	return s.closeDatabases()
}

func (s *Store) closeDatabases() error {
	err := s.write.Close()
	if s.read != s.write {
		err = errors.Join(err, s.read.Close())
	}
	if s.lock != nil {
		err = errors.Join(err, s.lock.Close())
	}
	return err
}

// Ping reports whether the database answers.
func (s *Store) Ping(ctx context.Context) error {
	return s.classify(s.read.PingContext(ctx))
}

// NewID makes a fresh id.
func NewID() consent.ID {
	return consent.ID(uuid.Must(uuid.NewV7()))
}

// now is the clock of the store.
func now() consent.Instant { return consent.At(time.Now()) }

// classify gives errors of the database a kind: what cannot be reached is
// Unavailable, a full disk is Full, the rest stays as it is, which means Internal.
func (s *Store) classify(err error) error {
	if err == nil || isRefusal(err) {
		return err
	}
	switch kind := s.dialect.kind(err); kind {
	case consent.Unavailable:
		return &consent.Error{Kind: kind, Message: "The database is not available at the moment; nothing was changed that was not acknowledged.", RetryAfter: time.Second, Cause: err}
	case consent.Conflict:
		return &consent.Error{Kind: kind, Message: "Somebody else made the same at the same time; nothing was changed. Try again.", Cause: err}
	case consent.Full:
		return &consent.Error{Kind: kind, Message: "The disk is full; nothing was changed.", Cause: err}
	}
	return err
}

// reader is what can be asked.
type reader interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// querier is what readers and writers have in common.
type querier interface {
	reader
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
}

// collect reads all rows of a query.
func collect[T any](ctx context.Context, q reader, scan func(*sql.Rows) (T, error), query string, args ...any) ([]T, error) {
	rows, err := q.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	list := []T{}
	for rows.Next() {
		v, err := scan(rows)
		if err != nil {
			return nil, err
		}
		list = append(list, v)
	}
	return list, rows.Err()
}

// changed runs a statement and gives the number of rows it changed.
func changed(ctx context.Context, q querier, query string, args ...any) (int64, error) {
	r, err := q.ExecContext(ctx, query, args...)
	if err != nil {
		return 0, err
	}
	return r.RowsAffected()
}
