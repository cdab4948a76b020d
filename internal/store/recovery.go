package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"

	"github.com/opencpm/opencpm/internal/consent"
)

// WaitingMessage is what a citizen's next message at a subscription waits for.
type WaitingMessage struct {
	Citizen   int64
	CitizenID consent.ID
	Change    int64 // of a message that is of one change; 0: the full state
	Sequence  int64 // of the newest state that must be delivered
	Changes   int64 // how many changes wait
	ChangedAt consent.Instant
	Attempts  int // failed ones
	DueAt     consent.Instant
	Stored    bool   // in the failures store
	Reason    string // of the last failure, where it is in the failures store
	Resync    bool   // an operator asked for the state; nothing changed
}

// State says how far the message is at an instant.
func (w WaitingMessage) State(at consent.Instant) MessageState {
	switch {
	case w.Stored:
		return MessageState(OutcomeWaiting)
	case w.Attempts > 0 && w.DueAt > at:
		return MessageState(OutcomeRetrying)
	}
	return MessageSending
}

// waitingIn are the tables of what waits, each read by an index of its own.
var waitingIn = []struct{ columns, from string }{
	{`citizen, CAST(0 AS BIGINT) AS change, version, changes, changed_at, attempts, due_at, 0 AS stored, '' AS reason, resync`, `lane WHERE bulk = 0 AND`},
	{`citizen, CAST(0 AS BIGINT), version, changes, changed_at, attempts, due_at, 0, '', resync`, `lane WHERE bulk = 1 AND`},
	{`citizen, CAST(0 AS BIGINT), version, changes, changed_at, attempts, due_at, 1, reason, resync`, `delivery_failure WHERE`},
	{`citizen, change, 0, 1, changed_at, attempts, due_at, stored, reason, 0`, `receipt WHERE stored = 0 AND bulk = 0 AND`},
	{`citizen, change, 0, 1, changed_at, attempts, due_at, stored, reason, 0`, `receipt WHERE stored = 0 AND bulk = 1 AND`},
	{`citizen, change, 0, 1, changed_at, attempts, due_at, stored, reason, 0`, `receipt WHERE stored = 1 AND bulk = 0 AND`},
	{`citizen, change, 0, 1, changed_at, attempts, due_at, stored, reason, 0`, `receipt WHERE stored = 1 AND bulk = 1 AND`},
}

// waiting reads what waits under a condition on the rows, in the order in which it is due.
func waiting(ctx context.Context, q reader, condition, limit string, args ...any) ([]WaitingMessage, error) {
	parts := make([]string, len(waitingIn))
	for i, v := range waitingIn {
		change := "CAST(0 AS BIGINT)"
		if strings.HasPrefix(v.from, "receipt") {
			change = "change"
		}
		parts[i] = fmt.Sprintf(`SELECT * FROM (SELECT %s FROM %s %s ORDER BY due_at, citizen%s) AS part%d`,
			v.columns, v.from, strings.ReplaceAll(condition, "{change}", change), limit, i)
	}
	return collect(ctx, q, func(r *sql.Rows) (w WaitingMessage, err error) {
		return w, r.Scan(&w.Citizen, &w.Change, &w.Sequence, &w.Changes, &w.ChangedAt, &w.Attempts, &w.DueAt, &w.Stored, &w.Reason, &w.Resync, &w.CitizenID)
	}, `SELECT w.citizen, w.change, COALESCE(h.version, w.version), w.changes, w.changed_at, w.attempts, w.due_at, w.stored, w.reason, w.resync, c.public_id
		FROM (SELECT * FROM (`+strings.Join(parts, " UNION ALL ")+`) AS all_parts ORDER BY due_at, citizen, change`+limit+`) AS w
		JOIN citizen c ON c.id = w.citizen LEFT JOIN change h ON h.id = w.change ORDER BY w.due_at, w.citizen, w.change`, args...)
}

func (s *Store) waitingOf(ctx context.Context, q reader, subscription, citizen int64) ([]WaitingMessage, error) {
	return waiting(ctx, q, `citizen = $1 AND subscription = $2`, "", citizen, subscription)
}

// WaitingPlace is a place in the list of what waits. The zero one is before the first.
type WaitingPlace struct {
	DueAt           consent.Instant
	Citizen, Change int64
}

// WaitingMessages lists what waits at a subscription after a place of the list, in the
// order in which it is due, of one citizen or, where that is 0, of all.
func (s *Store) WaitingMessages(ctx context.Context, subscription, citizen int64, after WaitingPlace, limit int) ([]WaitingMessage, error) {
	const rest = `due_at >= $2 AND (due_at, citizen, {change}) > ($2, $3, CAST($4 AS BIGINT))`
	condition, args := `subscription = $1 AND `+rest, []any{subscription, after.DueAt, after.Citizen, after.Change, limit}
	if citizen != 0 {
		condition, args = `citizen = $6 AND `+condition, append(args, citizen)
	}
	list, err := waiting(ctx, s.read, condition, ` LIMIT $5`, args...)
	return list, s.classify(err)
}

// Waits says how much waits at a subscription, counting to 10,000 each.
type Waits struct {
	Due    int64           // that is due, under way or retried in a moment
	Stored int64           // in the failures store
	Oldest consent.Instant // the first change of what was counted; zero where nothing waits
}

// All adds up what waits; more reports that it may be more, as counting ended.
func (w Waits) All() (n int64, more bool) {
	return w.Due + w.Stored, w.Due == maxBacklog || w.Stored == maxBacklog
}

// Waits counts what waits at a subscription.
func (s *Store) Waits(ctx context.Context, subscription int64) (w Waits, err error) {
	for _, v := range []struct {
		into *int64
		from string
	}{
		{&w.Due, `SELECT changed_at FROM (SELECT changed_at FROM lane WHERE subscription = $1 LIMIT $2) AS states
			UNION ALL SELECT changed_at FROM (SELECT changed_at FROM receipt WHERE subscription = $1 AND stored = 0 LIMIT $2) AS receipts`},
		{&w.Stored, `SELECT changed_at FROM (SELECT changed_at FROM delivery_failure WHERE subscription = $1 LIMIT $2) AS states
			UNION ALL SELECT changed_at FROM (SELECT changed_at FROM receipt WHERE subscription = $1 AND stored = 1 LIMIT $2) AS receipts`},
	} {
		var oldest sql.NullInt64
		if err := s.fixed.QueryRowContext(ctx, `SELECT count(*), min(changed_at) FROM (`+v.from+` LIMIT $2) AS counted`, subscription, maxBacklog).Scan(v.into, &oldest); err != nil {
			return w, s.classify(err)
		}
		if at := consent.Instant(oldest.Int64); oldest.Valid && (w.Oldest == 0 || at < w.Oldest) {
			w.Oldest = at
		}
	}
	return w, nil
}

var errGone = consent.Errorf(consent.Conflict, "The citizen has been erased: there is nothing left to send.")

// Redeliver makes the message of an entry of the log due at once: a message with the full
// state is rendered anew, one of a single change is the same again.
func (s *Store) Redeliver(ctx context.Context, applications []int64, id consent.ID, entry int64, actor string) error {
	return s.update(ctx, func(ctx context.Context, t *tx) error {
		sub, err := s.findSubscription(ctx, t, applications, id)
		if err != nil {
			return err
		}
		d, err := s.delivery(ctx, t, sub, entry)
		if err != nil {
			return err
		}
		if err := t.redeliver(ctx, d.Attempt); err != nil {
			return err
		}
		t.rings |= bellLanes | bellStored
		return t.audit(ctx, sub.Application, actor, "subscription.redeliver", fmt.Sprintf("%s: citizen %s, sequence %d", sub.ID, d.CitizenID, d.Sequence))
	})
}

func (t *tx) redeliver(ctx context.Context, a Attempt) error {
	again, anew := `UPDATE delivery_failure SET due_at = $3 WHERE citizen = $1 AND subscription = $2`,
		fmt.Sprintf(`INSERT INTO lane (subscription, citizen, shard, version, changes, changed_at, attempts, due_at, bulk)
			SELECT CAST($2 AS BIGINT), c.id, c.id %% %d, s.version, 0, CAST($3 AS BIGINT), 0, CAST($3 AS BIGINT), 0 FROM citizen c JOIN citizen_state s ON s.citizen = c.id
			WHERE c.id = $1 AND (c.deleted_at IS NULL OR c.farewell IS NOT NULL)
			ON CONFLICT (citizen, subscription) DO UPDATE SET due_at = excluded.due_at, attempts = 0, bulk = 0`, shards)
	args := []any{a.Citizen, a.Subscription, t.now}
	if a.Change != 0 {
		again, args = `UPDATE receipt SET due_at = $3, bulk = 0 WHERE citizen = $1 AND subscription = $2 AND change = $4`, append(args, a.Change)
		anew = fmt.Sprintf(`INSERT INTO receipt (subscription, citizen, change, shard, changed_at, attempts, due_at, stored, reason, bulk)
			SELECT CAST($2 AS BIGINT), h.citizen, h.id, h.citizen %% %d, h.changed_at, 0, CAST($3 AS BIGINT), 0, '', 0 FROM change h
			WHERE h.id = $4 AND h.citizen = $1 AND (h.event = 'citizen.deleted' OR EXISTS (SELECT 1 FROM citizen_key k WHERE k.citizen = h.citizen))`, shards)
	}
	for _, q := range []string{again, anew} {
		if n, err := changed(ctx, t, q, args...); n > 0 || err != nil {
			return err
		}
	}
	return errGone
}

// Discard says which waiting messages of one citizen are to end.
type Discard struct {
	Entry   int64               // of the log: its message; 0: all of Citizen
	Citizen *consent.CitizenKey // where Entry is 0
	Before  consent.Instant     // those whose changes were made before; 0: any
}

// Discard ends messages of one citizen that wait, and says how many they were.
func (s *Store) Discard(ctx context.Context, applications []int64, id consent.ID, which Discard, actor string) (int64, error) {
	var ended int64
	err := s.update(ctx, func(ctx context.Context, t *tx) error {
		ended = 0
		sub, err := s.findSubscription(ctx, t, applications, id)
		if err != nil {
			return err
		}
		var of Delivery
		if which.Entry != 0 {
			if of, err = s.delivery(ctx, t, sub, which.Entry); err != nil {
				return err
			}
		} else if of.Citizen, err = s.CitizenNumber(ctx, sub.Application, *which.Citizen); err != nil {
			return err
		}
		rows, err := s.waitingOf(ctx, t, sub.Number, of.Citizen)
		if err != nil {
			return err
		}
		var last consent.Instant
		if err := t.row(ctx, `SELECT changed_at FROM citizen_state WHERE citizen = $1`, of.Citizen).Scan(&last); err != nil {
			return err
		}
		var list []WaitingMessage
		for _, w := range rows {
			newest := w.ChangedAt
			if w.Change == 0 {
				newest = max(newest, last)
			}
			switch {
			case which.Entry != 0 && (w.Change != of.Change || w.Change == 0 && w.Sequence > of.Sequence):
			case which.Before != 0 && newest >= which.Before:
			default:
				list = append(list, w)
			}
		}
		gone, err := t.discard(ctx, sub.Number, list)
		if err != nil {
			return err
		}
		ended = int64(len(gone))
		if err := t.logDiscarded(ctx, sub, gone); err != nil || ended == 0 {
			return err
		}
		return t.audit(ctx, sub.Application, actor, "subscription.discard", fmt.Sprintf("%s: %d messages", sub.ID, ended))
	})
	return outcome(&ended, err)
}

// discard deletes rows as they were read: one to which something newer came stays.
func (t *tx) discard(ctx context.Context, subscription int64, list []WaitingMessage) (gone []WaitingMessage, err error) {
	for _, w := range list {
		q, last := `DELETE FROM lane WHERE citizen = $1 AND subscription = $2 AND version = $3`, w.Sequence
		switch {
		case w.Change != 0:
			q, last = `DELETE FROM receipt WHERE citizen = $1 AND subscription = $2 AND change = $3`, w.Change
		case w.Stored:
			q = `DELETE FROM delivery_failure WHERE citizen = $1 AND subscription = $2 AND version = $3`
		}
		r, err := t.exec(ctx, q, w.Citizen, subscription, last)
		if err != nil {
			return nil, err
		}
		if n, err := r.RowsAffected(); err != nil {
			return nil, err
		} else if n > 0 {
			gone = append(gone, w)
		}
	}
	return gone, nil
}

func (t *tx) logDiscarded(ctx context.Context, sub Registered, gone []WaitingMessage) error {
	entries := make([]Attempt, len(gone))
	for i, w := range gone {
		event, of := consent.EventID(sub.ID, w.CitizenID, w.Sequence), consent.CitizenChanged
		if mail, err := t.mailOf(ctx, w.Change); err != nil {
			return err
		} else if !mail.IsZero() {
			event, of = mail, consent.CitizenMail
			if err := t.endMail(ctx, w.Change, consent.EmailDiscarded, t.now); err != nil {
				return err
			}
		}
		entries[i] = Attempt{
			Subscription: sub.Number, Citizen: w.Citizen, Change: w.Change, Event: event, EventType: of,
			Sequence: w.Sequence, Class: "discarded", Outcome: OutcomeDiscarded, Reason: "an operator discarded it", Coalesced: max(w.Changes, 1),
		}
	}
	return t.logEnds(ctx, entries)
}

// RecoveryParams are what the jobs on the messages of a subscription are told.
type RecoveryParams struct {
	Subscription consent.ID      `json:"subscription"`
	Since        consent.Instant `json:"since,omitzero"`
	Before       consent.Instant `json:"before,omitzero"`
	At           consent.Instant `json:"at"` // when it was asked for
	Actor        string          `json:"actor"`
}

// RecoveryPlace is where such a job has got to.
type RecoveryPlace struct {
	Major int64 `json:"major,omitzero"`
	Minor int64 `json:"minor,omitzero"`
	Ended int64 `json:"ended,omitzero"` // by a discard
}

// subscription reads the one that a step is about.
func (x *JobTx) subscription(ctx context.Context, p RecoveryParams) (Registered, error) {
	sub, err := x.t.store.findSubscription(ctx, x.t, []int64{x.job.Application}, p.Subscription)
	if errors.Is(err, errNoSubscription) {
		err = consent.Errorf(consent.NotFound, "The subscription has been deleted meanwhile.")
	}
	return sub, err
}

// Whose states a resync sends, in the order in which it does: everybody, as
// tokenSources asks for them, or those who changed since an instant, each at the first
// change since.
const (
	everyResync = `SELECT c.id, c.id, CAST(0 AS BIGINT) FROM citizen c JOIN citizen_state s ON s.citizen = c.id
		WHERE COALESCE(c.application = $1, FALSE) AND c.id > $2 AND s.citizen > $2 AND c.deleted_at IS NULL AND s.version > 0 ORDER BY c.id LIMIT $3`
	changedResync = `SELECT c.id, h.changed_at, h.id FROM change h JOIN citizen c ON c.id = h.citizen
		WHERE h.application = $1 AND h.changed_at >= $2 AND h.previous < $2 AND (h.changed_at, h.id) > ($3, $4) AND c.deleted_at IS NULL ORDER BY h.changed_at, h.id LIMIT $5`
)

// Resync makes the present states of up to most citizens due for delivery, after all that
// people wait for: of everybody, or of those who changed since an instant.
func (x *JobTx) Resync(ctx context.Context, p RecoveryParams, at RecoveryPlace, most int) (next RecoveryPlace, n int, err error) {
	sub, err := x.subscription(ctx, p)
	if err != nil {
		return at, 0, err
	}
	query, args := everyResync, []any{sub.Application, at.Major, most}
	if p.Since != 0 {
		query, args = changedResync, []any{sub.Application, p.Since, at.Major, at.Minor, most}
	}
	list, err := collect(ctx, x.t, func(r *sql.Rows) (citizen int64, err error) { return citizen, r.Scan(&citizen, &at.Major, &at.Minor) }, query, args...)
	if err != nil || len(list) == 0 {
		return at, 0, err
	}
	citizens, args := make([]string, most), []any{sub.Number, x.t.now}
	for i := range citizens {
		args = append(args, list[min(i, len(list)-1)]) // so that there is one statement
		citizens[i] = fmt.Sprintf("$%d", len(args))
	}
	of := ` IN (` + strings.Join(citizens, ", ") + `)`
	if _, err := x.t.exec(ctx, `UPDATE delivery_failure SET due_at = $2 WHERE subscription = $1 AND citizen`+of, args...); err != nil {
		return at, 0, err
	}
	// One who waits already gets the present state anyway.
	if _, err := x.t.exec(ctx, fmt.Sprintf(`INSERT INTO lane (subscription, citizen, shard, version, changes, changed_at, attempts, due_at, bulk, resync)
		SELECT CAST($1 AS BIGINT), s.citizen, s.citizen %% %d, s.version, 0, CAST($2 AS BIGINT), 0, CAST($2 AS BIGINT), 1, 1 FROM citizen_state s
		WHERE s.citizen`, shards)+of+` AND NOT EXISTS (SELECT 1 FROM delivery_failure f WHERE f.citizen = s.citizen AND f.subscription = $1)
		ORDER BY s.citizen ON CONFLICT (citizen, subscription) DO NOTHING`, args...); err != nil {
		return at, 0, err
	}
	x.t.rings |= bellBulk | bellStored
	return at, len(list), nil
}

// CountResync counts the citizens whose states a resync sends.
func (s *Store) CountResync(ctx context.Context, application int64, since consent.Instant) (n int64, err error) {
	if since == 0 {
		err = s.read.QueryRowContext(ctx, `SELECT count(*) FROM citizen c JOIN citizen_state s ON s.citizen = c.id
			WHERE c.application = $1 AND c.deleted_at IS NULL AND s.version > 0`, application).Scan(&n)
	} else {
		err = s.read.QueryRowContext(ctx, `SELECT count(*) FROM change h JOIN citizen c ON c.id = h.citizen
			WHERE h.application = $1 AND h.changed_at >= $2 AND h.previous < $2 AND c.deleted_at IS NULL`, application, since).Scan(&n)
	}
	return n, s.classify(err)
}

// Redeliver makes up to most messages of the failures store due that failed since an
// instant, each once.
func (x *JobTx) Redeliver(ctx context.Context, p RecoveryParams, most int) (n int, err error) {
	sub, err := x.subscription(ctx, p)
	if err != nil {
		return 0, err
	}
	for _, v := range []struct{ table, key, stored string }{{"delivery_failure", "citizen, subscription", ""}, {"receipt", "citizen, subscription, change", "stored = 1 AND "}} {
		r, err := x.t.exec(ctx, fmt.Sprintf(`UPDATE %[1]s SET due_at = $3 WHERE (%[2]s) IN (SELECT %[2]s FROM %[1]s
			WHERE %[3]ssubscription = $1 AND failed_at >= $2 AND failed_at < $3 AND due_at > $3 ORDER BY due_at LIMIT $4)`, v.table, v.key, v.stored),
			sub.Number, p.Since, p.At, most-n)
		if err != nil {
			return n, err
		}
		more, err := r.RowsAffected()
		if err != nil {
			return n, err
		}
		n += int(more)
	}
	x.t.rings |= bellStored
	return n, nil
}

// Discard ends up to most messages that wait and whose changes were made before an
// instant. A full state to which something was added since stays whole.
func (x *JobTx) Discard(ctx context.Context, p RecoveryParams, at RecoveryPlace, most int) (next RecoveryPlace, n int, err error) {
	sub, err := x.subscription(ctx, p)
	if err != nil {
		return at, 0, err
	}
	const settled = ` AND NOT EXISTS (SELECT 1 FROM citizen_state s WHERE s.citizen = w.citizen AND s.changed_at >= $2)`
	var gone []WaitingMessage
	for _, v := range []struct{ rows, condition string }{
		{`SELECT w.citizen, 0, w.version, w.changes, 0, c.public_id FROM lane w JOIN citizen c ON c.id = w.citizen`, settled},
		{`SELECT w.citizen, 0, w.version, w.changes, 1, c.public_id FROM delivery_failure w JOIN citizen c ON c.id = w.citizen`, settled},
		{`SELECT w.citizen, w.change, h.version, 1, w.stored, c.public_id FROM receipt w JOIN citizen c ON c.id = w.citizen JOIN change h ON h.id = w.change`, ``},
	} {
		list, err := collect(ctx, x.t, func(r *sql.Rows) (w WaitingMessage, err error) {
			return w, r.Scan(&w.Citizen, &w.Change, &w.Sequence, &w.Changes, &w.Stored, &w.CitizenID)
		}, v.rows+` WHERE w.subscription = $1 AND w.changed_at < $2`+v.condition+` LIMIT $3`, sub.Number, p.Before, most-n)
		if err != nil {
			return at, 0, err
		}
		ended, err := x.t.discard(ctx, sub.Number, list)
		if err != nil {
			return at, 0, err
		}
		gone, n = append(gone, ended...), n+len(list)
	}
	if err := x.t.logDiscarded(ctx, sub, gone); err != nil {
		return at, 0, err
	}
	at.Ended += int64(len(gone))
	if n == 0 {
		err = x.t.audit(ctx, sub.Application, p.Actor, "subscription.discard", fmt.Sprintf("%s: %d messages", sub.ID, at.Ended))
	}
	return at, n, err
}
