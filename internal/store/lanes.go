package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/opencpm/opencpm/internal/consent"
)

// shards is into how many parts the citizens are divided for delivery. A shard is
// delivered by one node at a time.
const shards = 16

// Lane is what is next for one citizen at one subscription: the unit of order, of
// which one message is under way at most.
type Lane struct {
	Subscription int64
	Citizen      int64
	Shard        int64
	Change       int64           // the change that a receipt is of; 0: the full state is sent
	Version      int64           // of the full state: the newest that must be delivered
	Changes      int64           // how many changes wait
	ChangedAt    consent.Instant // when the first of them was recorded
	Attempts     int             // failed ones
	DueAt        consent.Instant
	Stored       bool // in the failures store: the quick attempts are used up
	Resync       bool // an operator asked for the state; nothing changed
}

// Waiting is a kind of what waits, in the order in which it may leave.
type Waiting int

// The kinds of what waits.
const (
	WaitingPeople  Waiting = iota // what somebody did just now
	WaitingBulk                   // what was done for many, or by nobody
	WaitingStored                 // what is in the failures store
	WaitingBacklog                // what somebody did, and has been due for a minute
)

// backlogAge is after how long what somebody did is not what he waits for any more: when
// an endpoint comes back, what happens then goes before what happened meanwhile.
const backlogAge = time.Minute

// LaneQuery says which lanes to list.
type LaneQuery struct {
	Subscription int64
	Held         Hold
	Kind         Waiting
	Strict       bool            // a message of its own waits for one before it in the failures store, too
	Now          consent.Instant // what is due by then
	Released     consent.Instant // what is in the failures store since before then is due as well
	Limit        int
}

// ActiveSubscriptions lists the subscriptions for which messages may leave.
func (s *Store) ActiveSubscriptions(ctx context.Context) ([]Registered, error) {
	list, err := collect(ctx, s.fixed, s.scanSubscription,
		`SELECT `+subscriptionColumns+` FROM `+subscriptionTables+` WHERE s.status = 'active' ORDER BY s.id`)
	return list, s.classify(err)
}

// Lanes lists the first lanes of a subscription that are due, in the order in which they
// became so, and when the next one will be, zero where none waits. Of the messages of
// their own of a lane it lists the first that may leave. Those in the failures store hold
// back nothing unless the order is strict.
func (s *Store) Lanes(ctx context.Context, q LaneQuery) (due []Lane, next consent.Instant, err error) {
	// Written so that a planner that knows nothing of the data walks the index by due_at and looks each lane up by its
	// key: by NOT EXISTS, or with =, it compares all that waits with all that waits. The casts keep SQLite, which looks
	// at what a bare LIMIT $n is while it plans, from parsing the statement anew each time.
	const mine = `subscription = $1 AND (CAST($2 AS BIGINT) >> CAST(shard AS INTEGER)) & 1 <> 0`
	lane, receipt, before := `lane WHERE `+mine+` AND bulk = $3`, `receipt r WHERE stored = 0 AND `+mine+` AND bulk = $3`, "e.stored = 0"
	args := []any{q.Subscription, q.Held.mask(), int64(q.Kind), q.Limit}
	switch q.Kind {
	case WaitingPeople:
		lane, receipt = lane+` AND due_at > $5`, receipt+` AND due_at > $5`
		args = append(args, q.Now.Add(-backlogAge))
	case WaitingBacklog:
		lane, receipt = lane+` AND due_at <= $5`, receipt+` AND due_at <= $5`
		args = []any{q.Subscription, q.Held.mask(), 0, q.Limit, q.Now.Add(-backlogAge)}
	case WaitingStored:
		const ready = ` AND (due_at <= $5 OR failed_at < $3)`
		lane, receipt, before = `delivery_failure WHERE `+mine+ready, `receipt r WHERE stored = 1 AND `+mine+ready, "e.stored = 1 AND e.due_at <= r.due_at"
		args = []any{q.Subscription, q.Held.mask(), q.Released, q.Limit, q.Now}
	}
	if q.Strict {
		before = "1 = 1"
	}
	list, err := collect(ctx, s.fixed, func(r *sql.Rows) (Lane, error) {
		v := Lane{Subscription: q.Subscription, Stored: q.Kind == WaitingStored}
		return v, r.Scan(&v.Citizen, &v.Shard, &v.Change, &v.Version, &v.Changes, &v.ChangedAt, &v.Attempts, &v.DueAt, &v.Resync)
	}, `SELECT * FROM (SELECT citizen, shard, 0 AS change, version, changes, changed_at, attempts, due_at, resync FROM `+lane+` ORDER BY due_at LIMIT CAST($4 AS BIGINT)) AS states
		UNION ALL SELECT * FROM (SELECT citizen, shard, change, 0, 1, changed_at, attempts, due_at, 0 FROM `+receipt+` AND r.change <= (SELECT e.change FROM receipt e
				WHERE e.citizen = r.citizen AND e.subscription = r.subscription AND `+before+` ORDER BY e.change LIMIT 1)
			ORDER BY due_at LIMIT CAST($4 AS BIGINT)) AS receipts
		ORDER BY due_at LIMIT CAST($4 AS BIGINT)`, args...)
	switch {
	case err != nil:
		return nil, 0, s.classify(err)
	case q.Kind != WaitingStored: // the list goes on with what is not due yet
		for i, v := range list {
			if v.DueAt > q.Now {
				return list[:i], v.DueAt, nil
			}
		}
		return list, 0, nil
	case len(list) == q.Limit:
		return list, 0, nil
	}
	var at sql.NullInt64
	err = s.fixed.QueryRowContext(ctx, `SELECT min(due_at) FROM (SELECT * FROM (SELECT due_at FROM delivery_failure WHERE `+mine+` AND due_at > $3 ORDER BY due_at LIMIT 1) AS states
		UNION ALL SELECT * FROM (SELECT due_at FROM receipt WHERE stored = 1 AND `+mine+` AND due_at > $3 ORDER BY due_at LIMIT 1) AS receipts) AS first`,
		q.Subscription, q.Held.mask(), q.Now).Scan(&at)
	return list, consent.Instant(at.Int64), s.classify(err)
}

// States reads the states of citizens by the store's numbers, for rendering. One
// whose farewell has been forgotten meanwhile is left out.
func (s *Store) States(ctx context.Context, citizens []int64) (map[int64]State, error) {
	marks, args := places(citizens)
	type row struct {
		*citizenRow
		farewell []byte
	}
	rows, err := collect(ctx, s.fixed, func(r *sql.Rows) (v row, err error) {
		v.citizenRow, err = scanCitizen(scanner(func(dest ...any) error { return r.Scan(append(dest, &v.farewell)...) }))
		return v, err
	}, `SELECT `+citizenColumns+`, c.farewell FROM `+citizenTables+` WHERE c.id IN (`+marks+`)`, args...)
	if err != nil {
		return nil, s.classify(err)
	}
	states := make(map[int64]State, len(rows))
	for _, r := range rows {
		switch {
		case r.deletedAt == 0:
			if states[r.id], err = s.state(r.citizenRow); err != nil {
				return nil, err
			}
		case r.farewell != nil:
			ref, err := s.keys.Open(r.context("farewell"), r.farewell)
			if err != nil {
				return nil, fmt.Errorf("farewell of citizen %s: %w", r.publicID, err)
			}
			states[r.id] = State{CitizenID: r.publicID, ExternalRef: string(ref), Projection: &consent.Projection{}, Version: r.version, ChangedBy: r.changedBy, ChangedAt: r.changedAt, Erased: true}
		}
	}
	return states, nil
}

type scanner func(...any) error

func (s scanner) Scan(dest ...any) error { return s(dest...) }

// Settlement is the outcome of one attempt.
type Settlement struct {
	Lane      Lane
	Rendered  int64           // the version of the state in the message
	SentAt    consent.Instant // stamped on it
	Epoch     int64           // of the lease under which it was sent
	Delivered bool
	At        consent.Instant // when the attempt ended
	Retry     consent.Instant // where not delivered: when it is tried again
	ToStore   bool            // where not delivered: the quick attempts are used up
	Free      bool            // where not delivered: the endpoint asked for a pause, so that it costs no attempt
	Reason    string          // where not delivered
	Log       *Attempt        // what the log says of it, but for what Lane and At say; nil for nothing
}

// Settle makes outcomes durable. Only after it returned may the next message of
// the same lanes leave. A lane to which a newer change came meanwhile stays, due at
// once. Outcomes of a lease that has been lost are refused: their shard is
// another node's.
func (s *Store) Settle(ctx context.Context, list []Settlement) error {
	list = slices.Clone(list)
	slices.SortFunc(list, func(a, b Settlement) int {
		return slices.Compare([]int64{a.Lane.Citizen, a.Lane.Subscription}, []int64{b.Lane.Citizen, b.Lane.Subscription})
	})
	return s.update(ctx, func(ctx context.Context, t *tx) error {
		epochs, err := t.epochs(ctx)
		if err != nil {
			return err
		}
		var delivered []Settlement
		var entries []Attempt
		for _, v := range list {
			if v.Log != nil { // it was sent, whosever its outcome is
				a := *v.Log
				a.ID, a.Subscription, a.Citizen, a.Change = firstAttempt(v.At), v.Lane.Subscription, v.Lane.Citizen, v.Lane.Change
				if a.Outcome == OutcomeErased { // of what it was nothing could be read
					if err := t.nameMail(ctx, &a); err != nil {
						return err
					}
				}
				entries = append(entries, a)
			}
			if epochs[v.Lane.Shard] != v.Epoch {
				continue
			}
			if v.Delivered {
				if err := t.settleMail(ctx, v); err != nil {
					return err
				}
				delivered = append(delivered, v)
			} else if err := t.settleFailure(ctx, v); err != nil {
				return err
			}
		}
		if err := s.dialect.settleDelivered(ctx, t, delivered); err != nil {
			return err
		}
		if err := t.log(ctx, entries); err != nil {
			return err
		}
		return s.dialect.noteStamps(ctx, t, list)
	})
}

func (t *tx) settleFailure(ctx context.Context, v Settlement) error {
	l, spent := v.Lane, 1
	if v.Free {
		spent = 0
	}
	if l.Change != 0 {
		stored := 0
		if l.Stored || v.ToStore {
			stored = 1
		}
		_, err := t.exec(ctx, `UPDATE receipt SET attempts = attempts + $7, due_at = $4, stored = $5, reason = $6, failed_at = $8 WHERE citizen = $1 AND subscription = $2 AND change = $3`,
			l.Citizen, l.Subscription, l.Change, v.Retry, stored, v.Reason, spent, v.At)
		return err
	}
	if l.Stored {
		_, err := t.exec(ctx, `UPDATE delivery_failure SET attempts = attempts + $5, due_at = $3, reason = $4, failed_at = $6 WHERE citizen = $1 AND subscription = $2`,
			l.Citizen, l.Subscription, v.Retry, v.Reason, spent, v.At)
		return err
	}
	if !v.ToStore {
		_, err := t.exec(ctx, `UPDATE lane SET attempts = attempts + $5, due_at = $4 WHERE citizen = $1 AND subscription = $2 AND version <= $3`,
			l.Citizen, l.Subscription, v.Rendered, v.Retry, spent)
		return err
	}
	if _, err := t.exec(ctx, `INSERT INTO delivery_failure (subscription, citizen, shard, version, changes, changed_at, attempts, due_at, reason, failed_at, resync)
		SELECT subscription, citizen, shard, version, changes, changed_at, attempts + 1, CAST($4 AS BIGINT), $5, CAST($7 AS BIGINT), resync FROM lane
		WHERE citizen = $1 AND subscription = $2 AND version <= $3 AND attempts >= $6
		ON CONFLICT (citizen, subscription) DO UPDATE SET version = excluded.version, changes = delivery_failure.changes + excluded.changes,
			attempts = excluded.attempts, due_at = excluded.due_at, reason = excluded.reason, failed_at = excluded.failed_at, resync = excluded.resync`,
		l.Citizen, l.Subscription, v.Rendered, v.Retry, v.Reason, l.Attempts, v.At); err != nil {
		return err
	}
	if _, err := t.exec(ctx, `DELETE FROM lane WHERE citizen = $1 AND subscription = $2 AND version <= $3 AND attempts >= $4`,
		l.Citizen, l.Subscription, v.Rendered, l.Attempts); err != nil {
		return err
	}
	// A change that came before the message left, but after its lane was read, has
	// begun to count anew: then this was its first attempt, not the last.
	_, err := t.exec(ctx, `UPDATE lane SET attempts = attempts + 1 WHERE citizen = $1 AND subscription = $2 AND version <= $3 AND attempts < $4`,
		l.Citizen, l.Subscription, v.Rendered, l.Attempts)
	return err
}

func (t *tx) epochs(ctx context.Context) (map[int64]int64, error) {
	rows, err := t.QueryContext(ctx, `SELECT shard, epoch FROM lease`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	epochs := make(map[int64]int64, shards)
	for rows.Next() {
		var shard, epoch int64
		if err := rows.Scan(&shard, &epoch); err != nil {
			return nil, err
		}
		epochs[shard] = epoch
	}
	return epochs, rows.Err()
}

// Hold is a node's right to deliver for some shards until an instant of the
// database's clock.
type Hold struct {
	Epochs map[int64]int64           // by shard
	Floors map[int64]consent.Instant // by shard: sentAt must be later
	Excess []int64                   // shards that another node should have: to be released once nothing is under way
	Until  consent.Instant
	Ahead  time.Duration // how far the database's clock is ahead of this machine's
}

func (h Hold) mask() int64 {
	var m int64
	for shard := range h.Epochs {
		m |= 1 << shard
	}
	for _, shard := range h.Excess {
		m &^= 1 << shard
	}
	return m
}

// Covers reports whether messages of a shard may leave.
func (h Hold) Covers(shard int64) bool { return h.mask()>>shard&1 == 1 }

// forever is when the lease of a node ends that owns the data alone.
const forever = consent.Instant(1 << 62)

// Hold renews the leases of a node and takes its fair share of those that nobody
// holds, for ttl from now by the database's clock. A node that owns the data alone
// holds all of them and need not renew them.
func (s *Store) Hold(ctx context.Context, node string, ttl time.Duration) (Hold, error) {
	h := Hold{Epochs: map[int64]int64{}, Floors: map[int64]consent.Instant{}}
	err := s.update(ctx, func(ctx context.Context, t *tx) error {
		at, err := s.dialect.clock(ctx, t)
		if err != nil {
			return err
		}
		h.Ahead = time.Duration(at-now()) * time.Microsecond
		fair := int64(shards)
		if s.dialect.alone() {
			h.Until = forever
			if err := t.take(ctx, node, forever, 0, shards, h.Floors); err != nil {
				return err
			}
		} else {
			h.Until = at.Add(ttl)
			if fair, err = t.fairShare(ctx, node, at, ttl); err != nil {
				return err
			}
			mine, err := changed(ctx, t, `UPDATE lease SET expires_at = $2 WHERE holder = $1`, node, h.Until)
			if err != nil {
				return err
			}
			if err := t.take(ctx, node, at, h.Until, fair-mine, h.Floors); err != nil {
				return err
			}
		}
		list, err := collect(ctx, t, func(r *sql.Rows) (v [2]int64, err error) { return v, r.Scan(&v[0], &v[1]) },
			`SELECT shard, epoch FROM lease WHERE holder = $1 ORDER BY shard`, node)
		if err != nil {
			return err
		}
		h.Excess = nil
		for i, v := range list {
			h.Epochs[v[0]] = v[1]
			if int64(i) >= fair {
				h.Excess = append(h.Excess, v[0])
			}
		}
		return nil
	})
	return outcome(&h, err)
}

// fairShare notes a sign of life of the node and divides the shards among the
// nodes that gave one lately.
func (t *tx) fairShare(ctx context.Context, node string, at consent.Instant, ttl time.Duration) (int64, error) {
	if _, err := t.exec(ctx, `INSERT INTO node (name, seen_at) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET seen_at = excluded.seen_at`, node, at); err != nil {
		return 0, err
	}
	if _, err := t.exec(ctx, `DELETE FROM node WHERE seen_at < $1`, at.Add(-ttl)); err != nil {
		return 0, err
	}
	var nodes int64
	err := t.row(ctx, `SELECT count(*) FROM node`).Scan(&nodes)
	return (shards + nodes - 1) / max(nodes, 1), err
}

// take gives up to n leases that expired before an instant to a node, until
// another; without one their end is left as it is.
func (t *tx) take(ctx context.Context, node string, free, until consent.Instant, n int64, floors map[int64]consent.Instant) error {
	if n <= 0 {
		return nil
	}
	list, err := collect(ctx, t, func(r *sql.Rows) (v [2]int64, err error) { return v, r.Scan(&v[0], &v[1]) },
		`SELECT shard, expires_at FROM lease WHERE holder <> $1 AND expires_at < $2 ORDER BY shard LIMIT $3`, node, free, n)
	if err != nil {
		return err
	}
	for _, v := range list {
		got, err := changed(ctx, t, `UPDATE lease SET holder = $1, epoch = epoch + 1, expires_at = $2 WHERE shard = $3 AND holder <> $1 AND expires_at = $4`,
			node, max(until, consent.Instant(v[1])), v[0], v[1])
		if err != nil {
			return err
		}
		if got == 1 {
			floors[v[0]] = consent.Instant(v[1])
		}
	}
	return nil
}

// Release gives up shards of a node, of which nothing may be under way any more,
// so that another node need not wait for the leases to expire. stamped is the last
// sentAt of the node.
func (s *Store) Release(ctx context.Context, node string, list []int64, stamped consent.Instant) error {
	return s.update(ctx, func(ctx context.Context, t *tx) error { return t.release(ctx, node, list, stamped) })
}

// Leave releases shards of a node that has come to its end: nothing is kept for it any
// more, so that those that are left, or the next process, take all at once.
func (s *Store) Leave(ctx context.Context, node string, list []int64, stamped consent.Instant) error {
	return s.update(ctx, func(ctx context.Context, t *tx) error {
		if _, err := t.exec(ctx, `DELETE FROM node WHERE name = $1`, node); err != nil {
			return err
		}
		return t.release(ctx, node, list, stamped)
	})
}

func (t *tx) release(ctx context.Context, node string, list []int64, stamped consent.Instant) error {
	end := `$3`
	if t.store.dialect.alone() { // what is kept there is the last sentAt of all
		end = `max(expires_at, $3)`
	}
	for _, shard := range list {
		if _, err := t.exec(ctx, `UPDATE lease SET holder = '', expires_at = `+end+` WHERE holder = $1 AND shard = $2`, node, shard, stamped); err != nil {
			return err
		}
	}
	t.rings |= bellLanes | bellBulk | bellStored
	return nil
}

// maxFarewell is how long the reference of an erased citizen is kept for the
// message that tells subscribers.
const maxFarewell = 30 * 24 * time.Hour

// ForgetErased forgets the references of erased citizens of whom every subscriber
// has been told, and of those erased 30 days ago in any case; what still waits for
// the latter ends.
func (s *Store) ForgetErased(ctx context.Context) error {
	return s.update(ctx, func(ctx context.Context, t *tx) error {
		old := t.now.Add(-maxFarewell)
		var gone []laneOf
		for _, table := range []string{"lane", "delivery_failure", "receipt"} {
			list, err := collect(ctx, t, func(r *sql.Rows) (v laneOf, err error) { return v, r.Scan(&v.subscription, &v.citizen) },
				`DELETE FROM `+table+` WHERE citizen IN (SELECT id FROM citizen WHERE farewell IS NOT NULL AND deleted_at < $1) RETURNING subscription, citizen`, old)
			if err != nil {
				return err
			}
			gone = append(gone, list...)
		}
		if err := t.logErased(ctx, gone); err != nil {
			return err
		}
		_, err := t.exec(ctx, `UPDATE citizen SET farewell = NULL WHERE farewell IS NOT NULL
			AND NOT EXISTS (SELECT 1 FROM lane l WHERE l.citizen = citizen.id)
			AND NOT EXISTS (SELECT 1 FROM delivery_failure f WHERE f.citizen = citizen.id)
			AND NOT EXISTS (SELECT 1 FROM receipt r WHERE r.citizen = citizen.id)`)
		return err
	})
}

// maxBacklog is how far Backlog counts.
const maxBacklog = 10_000

// Backlog says how many lanes wait and how many messages are in the failures
// store, counting to 10,000 each.
func (s *Store) Backlog(ctx context.Context) (waiting, stored int64, err error) {
	err = errors.Join(
		s.read.QueryRowContext(ctx, `SELECT count(*) FROM (SELECT 1 FROM lane UNION ALL SELECT 1 FROM receipt WHERE stored = 0 LIMIT $1) AS first`, maxBacklog).Scan(&waiting),
		s.read.QueryRowContext(ctx, `SELECT count(*) FROM (SELECT 1 FROM delivery_failure UNION ALL SELECT 1 FROM receipt WHERE stored = 1 LIMIT $1) AS first`, maxBacklog).Scan(&stored))
	return waiting, stored, s.classify(err)
}
