package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/opencpm/opencpm/internal/consent"
)

// maxGroup is how many writes one commit carries at most.
const maxGroup = 150

// write is one request to change something, waiting for its commit: of citizens, of
// something else, or first of these and then of that. All of it happens or nothing.
type write struct {
	citizens []*citizenWrite
	run      func(ctx context.Context, t *tx) error
	done     chan error // buffered: the writer never waits for the caller
}

// refusal gives why the writes of citizens were refused, nil where none was.
func (w *write) refusal() error {
	var all consent.Faults
	kind, said := consent.Invalid, ""
	for _, c := range w.citizens {
		var refused *consent.Error
		switch {
		case c.err == nil:
			continue
		case c.at == "" || !errors.As(c.err, &refused):
			return c.err
		}
		kind, said = refused.Kind, refused.Message
		for _, f := range refused.Fields {
			all.Add(c.at+"."+f.Location, "%s", f.Message)
		}
		if refused.Fields == nil {
			all.Add(c.at, "%s", refused.Message)
		}
	}
	if all == nil {
		return nil
	}
	return &consent.Error{Kind: kind, Message: said, Fields: all}
}

// tx is the database transaction of one group of writes.
type tx struct {
	*sql.Conn
	store *Store
	stmts map[string]*sql.Stmt
	now   consent.Instant
	rings bell                   // doorbells to ring once the group is committed
	told  map[int64][]subscriber // by application: whom this transaction has to tell
	lists map[int64]bool         // the do-not-contact lists it holds, by application; true: alone
	fault bool                   // a statement failed: the connection may be broken
}

// exec runs a statement that is prepared once per connection.
func (t *tx) exec(ctx context.Context, query string, args ...any) (sql.Result, error) {
	st, err := t.stmt(ctx, query) //nolint:sqlclosecheck // closed with the connection
	if err != nil {
		return nil, err
	}
	return st.ExecContext(ctx, args...)
}

// row reads one row by a statement that is prepared once per connection.
func (t *tx) row(ctx context.Context, query string, args ...any) *sql.Row {
	st, err := t.stmt(ctx, query) //nolint:sqlclosecheck // closed with the connection
	if err != nil {
		return t.QueryRowContext(ctx, query, args...) // reports the same error
	}
	return st.QueryRowContext(ctx, args...)
}

func (t *tx) stmt(ctx context.Context, query string) (*sql.Stmt, error) {
	if st := t.stmts[query]; st != nil {
		return st, nil
	}
	st, err := t.PrepareContext(ctx, query)
	if err == nil {
		t.stmts[query] = st
	}
	return st, err
}

// do queues a write and waits for its commit. When ctx ends first the write still
// happens; only the waiting is given up.
func (s *Store) do(ctx context.Context, w *write) error {
	w.done = make(chan error, 1)
	select {
	case s.queue <- w:
	case <-ctx.Done():
		return &consent.Error{Kind: consent.Unavailable, Message: "The server is too busy to take the change; nothing was changed.", RetryAfter: time.Second, Cause: ctx.Err()}
	}
	select {
	case err := <-w.done:
		return err
	case <-ctx.Done():
		return &consent.Error{Kind: consent.Unavailable, Message: "The caller stopped waiting; the change may have been recorded.", RetryAfter: time.Second, Cause: ctx.Err()}
	}
}

// outcome gives what a write has set. Where that failed it is nothing: whoever gave up
// waiting must not look at what a writer may be setting at this moment.
func outcome[T any](set *T, err error) (T, error) {
	if err != nil {
		var nothing T
		return nothing, err
	}
	return *set, nil
}

// update runs fn in the write transaction, together with what else waits.
func (s *Store) update(ctx context.Context, fn func(ctx context.Context, t *tx) error) error {
	return s.do(ctx, &write{run: fn})
}

// runWriter commits what waits, in groups, until ctx ends and nothing waits any
// more.
func (s *Store) runWriter(ctx context.Context) {
	var conn *sql.Conn
	var stmts map[string]*sql.Stmt
	defer func() {
		if conn != nil {
			closeWriter(conn, stmts)
		}
	}()
	for {
		group := s.nextGroup(ctx)
		if group == nil {
			return
		}
		if conn == nil {
			var err error
			if conn, err = s.writer(); err != nil {
				answer(group, s.classify(err))
				conn = nil
				continue
			}
			stmts = map[string]*sql.Stmt{}
		}
		t := &tx{Conn: conn, store: s, stmts: stmts}
		began := time.Now()
		s.commitOrReplay(t, group)
		s.committed(len(group), time.Since(began))
		if t.fault && conn.PingContext(context.Background()) != nil {
			closeWriter(conn, stmts)
			conn = nil
		}
	}
}

// writer opens the connection of a writer.
func (s *Store) writer() (*sql.Conn, error) {
	conn, err := s.write.Conn(context.Background())
	if err != nil || s.dialect.prepareWriter() == "" {
		return conn, err
	}
	if _, err := conn.ExecContext(context.Background(), s.dialect.prepareWriter()); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn, nil
}

func closeWriter(conn *sql.Conn, stmts map[string]*sql.Stmt) {
	for _, st := range stmts {
		_ = st.Close()
	}
	_ = conn.Close()
}

// nextGroup waits for a write and takes what waits with it; nil means the end.
func (s *Store) nextGroup(ctx context.Context) []*write {
	var group []*write
	select {
	case w := <-s.queue:
		group = append(group, w)
	case <-ctx.Done():
		return nil
	}
	for len(group) < maxGroup {
		select {
		case w := <-s.queue:
			group = append(group, w)
		default:
			return group
		}
	}
	return group
}

func answer(group []*write, err error) {
	for _, w := range group {
		w.done <- err
	}
}

// commitOrReplay commits the group in one transaction. Where that fails it is
// replayed write by write, so that only the culprit gets the error.
func (s *Store) commitOrReplay(t *tx, group []*write) {
	ctx := context.Background() // a request's end never cancels a statement of the group
	errs, err := s.commit(ctx, t, group)
	for tries := 0; err != nil && tries < 5 && (s.dialect.again(err) || len(group) == 1 && errors.Is(err, errReplay)); tries++ {
		errs, err = s.commit(ctx, t, group)
	}
	switch {
	case err == nil:
		for i, w := range group {
			w.done <- errs[i]
		}
	case len(group) == 1 || s.dialect.kind(err) != consent.Internal:
		answer(group, s.classify(err))
	default:
		s.log.Debug("a group of writes is replayed one by one", "writes", len(group), "error", err)
		for i := range group {
			s.commitOrReplay(t, group[i:i+1])
		}
	}
}

// commit runs the group in one transaction. errs are the refusals of single
// writes, which changed nothing; err is a failure of the whole.
func (s *Store) commit(ctx context.Context, t *tx, group []*write) (errs []error, err error) {
	if _, err := t.ExecContext(ctx, s.dialect.begin()); err != nil {
		t.fault = true
		return nil, fmt.Errorf("begin: %w", err)
	}
	defer func() {
		if err != nil {
			t.fault = true
			_, _ = t.ExecContext(ctx, "ROLLBACK")
		}
	}()
	t.now, t.rings, t.told, t.lists = now(), 0, nil, map[int64]bool{}
	errs = make([]error, len(group))
	var citizens []*citizenWrite
	for _, w := range group {
		citizens = append(citizens, w.citizens...)
	}
	if len(citizens) > 0 {
		if err := s.applyToCitizens(ctx, t, citizens); err != nil {
			return nil, err
		}
	}
	for i, w := range group {
		if errs[i] = w.refusal(); errs[i] == nil && w.run != nil {
			errs[i] = w.run(ctx, t)
		}
		switch {
		case errs[i] == nil || w.run == nil && len(w.citizens) == 1: // which refused before it changed anything
			continue
		case !isRefusal(errs[i]) || len(group) > 1:
			return nil, errs[i] // may have changed something: replay each alone
		}
		return errs, s.rollback(ctx, t)
	}
	if _, err := t.ExecContext(ctx, "COMMIT"); err != nil {
		return nil, fmt.Errorf("commit: %w", err)
	}
	s.doorbells.ring(t.rings)
	return errs, nil
}

func isRefusal(err error) bool {
	var refused *consent.Error
	return errors.As(err, &refused)
}

// rollback undoes a transaction whose only write was refused.
func (s *Store) rollback(ctx context.Context, t *tx) error {
	_, err := t.ExecContext(ctx, "ROLLBACK")
	return err
}
