package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/opencpm/opencpm/internal/consent"
)

// AttemptOutcome is what came of an attempt, or how a message ended without one.
type AttemptOutcome string

// The outcomes. The last three end a message that nobody accepted.
const (
	OutcomeDelivered AttemptOutcome = "delivered" // a 2xx answer
	OutcomeRetrying  AttemptOutcome = "retrying"  // it failed, and has quick attempts left
	OutcomeWaiting   AttemptOutcome = "waiting"   // it failed, and is tried hourly
	OutcomeDeferred  AttemptOutcome = "deferred"  // the endpoint asked for a pause
	OutcomeDiscarded AttemptOutcome = "discarded" // by an operator
	OutcomeErased    AttemptOutcome = "erased"    // with the citizen
	OutcomeExpired   AttemptOutcome = "expired"   // with what it carried
)

// Outcomes lists every outcome.
var Outcomes = []AttemptOutcome{OutcomeDelivered, OutcomeRetrying, OutcomeWaiting, OutcomeDeferred, OutcomeDiscarded, OutcomeErased, OutcomeExpired}

// Attempt is an entry of the delivery log: one attempt on a message, or its end without
// one. Nothing in it is personal but Content.
type Attempt struct {
	ID           int64 // rises with time
	Subscription int64
	Citizen      int64
	CitizenID    consent.ID
	Change       int64      // of a message that is of one change; 0: the full state
	Event        consent.ID // of the message
	EventType    consent.EventType
	Sequence     int64
	Number       int // of the attempt, from 1; 0 where nothing was sent
	Took         time.Duration
	Status       int    // 0: no answer
	Class        string // ok, status, internal, or why there was no answer
	Outcome      AttemptOutcome
	Reason       string
	Next         consent.Instant // when it is tried again
	Coalesced    int64           // how many changes it carried, or how many messages ended
	Content      []byte          // what Store.SealExchange made; nil where nothing is kept
}

// At is when the attempt ended.
func (a Attempt) At() consent.Instant { return consent.Instant(a.ID / attemptUnit) }

// attemptUnit is how many entries of one microsecond can be told apart.
const attemptUnit = 1024

// firstAttempt is the least id of an entry that is not before an instant.
func firstAttempt(at consent.Instant) int64 {
	if at > math.MaxInt64/attemptUnit {
		return math.MaxInt64
	}
	return int64(at) * attemptUnit
}

// LogRetention says how long the delivery log is kept.
type LogRetention struct {
	Age      time.Duration // zero: 30 days. On PostgreSQL whole days of it are dropped
	Bytes    int64         // about; zero: 1 GiB
	Skeleton bool          // keep nothing of requests and answers
}

const (
	defaultLogAge   = 30 * 24 * time.Hour
	defaultLogBytes = 1 << 30
)

// volume counts how many bytes were logged, for the table that says so by time. A few
// seconds of it are lost in a crash, and some count twice where a commit is repeated: the
// size of the log is kept about.
type volume struct {
	mu      sync.Mutex
	pending map[int64]int64 // by the begin of the five minutes
	told    consent.Instant
}

const (
	volumeSpan  = 5 * time.Minute
	volumeEvery = 5 * time.Second
	rowOverhead = 300 // bytes of an entry without its content, and of its indexes, about
)

func (v *volume) add(list []Attempt, now consent.Instant) (due map[int64]int64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.pending == nil {
		v.pending = map[int64]int64{}
	}
	for i := range list {
		at := list[i].ID / attemptUnit
		v.pending[at-at%volumeSpan.Microseconds()] += int64(rowOverhead + len(list[i].Content) + len(list[i].Reason))
	}
	if now < v.told.Add(volumeEvery) {
		return nil
	}
	due, v.pending, v.told = v.pending, nil, now
	return due
}

// log appends entries of an instant each, which ID holds, to the delivery log.
func (t *tx) log(ctx context.Context, list []Attempt) error {
	if len(list) == 0 {
		return nil
	}
	if err := t.store.dialect.appendAttempts(ctx, t, list); err != nil {
		return err
	}
	due := t.store.logged.add(list, t.now)
	for _, since := range sortedKeys(due) {
		if _, err := t.exec(ctx, `INSERT INTO attempt_volume (since, bytes) VALUES ($1, $2)
			ON CONFLICT (since) DO UPDATE SET bytes = attempt_volume.bytes + excluded.bytes`, since, due[since]); err != nil {
			return err
		}
	}
	return nil
}

func sortedKeys(m map[int64]int64) []int64 {
	keys := make([]int64, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// logEnds logs messages that end now without an attempt.
func (t *tx) logEnds(ctx context.Context, list []Attempt) error {
	for i := range list {
		list[i].ID = firstAttempt(t.now.Add(time.Duration(i/16) * time.Microsecond)) // others end things, too
	}
	return t.log(ctx, list)
}

const attemptColumns = `a.id, a.subscription, a.citizen, a.change, a.event, a.event_type, a.sequence, a.number, a.took, a.status, a.class, a.outcome, a.reason, a.next_at, a.coalesced`

func scanAttempt(r interface{ Scan(...any) error }, more ...any) (a Attempt, err error) {
	var took int64
	err = r.Scan(append([]any{
		&a.ID, &a.Subscription, &a.Citizen, &a.Change, &a.Event, &a.EventType, &a.Sequence, &a.Number, &took, &a.Status, &a.Class, &a.Outcome, &a.Reason, &a.Next, &a.Coalesced,
		&a.CitizenID,
	}, more...)...)
	a.Took = time.Duration(took) * time.Microsecond
	return a, err
}

// AttemptFilter says which entries of the delivery log to list.
type AttemptFilter struct {
	Subscription  int64
	Citizen       int64          // 0: of all
	Event         consent.ID     // zero: any
	Outcome       AttemptOutcome // empty: any
	Status        *int64         // nil: any; 0: without an answer
	Since, Before consent.Instant
	Under         int64 // the list goes on below the entry of this id; 0: at the newest
	Limit         int
}

// lookBack is how many entries one page looks through at most for those that match.
const lookBack = 20_000

// Attempts lists entries of the delivery log, the newest first, and where the list goes
// on, 0 at its end. A page may be short, or empty, and the list go on all the same.
func (s *Store) Attempts(ctx context.Context, f AttemptFilter) (list []Attempt, next int64, err error) {
	under, least := int64(math.MaxInt64), firstAttempt(f.Since)
	if f.Before != 0 {
		under = firstAttempt(f.Before)
	}
	if f.Under != 0 {
		under = min(under, f.Under)
	}
	// Of the two indexes the other one would be walked past all that does not match.
	where, args := `subscription = $1 AND id < $2 AND id >= $3`, []any{f.Subscription, under, least}
	if f.Citizen != 0 {
		where, args = `subscription + 0 = $1 AND id < $2 AND id >= $3 AND citizen = $4`, append(args, f.Citizen)
	}
	matches, bounds := where, args
	match := func(column string, value any) {
		args = append(args[:len(args):len(args)], value)
		matches += fmt.Sprintf(" AND %s = $%d", column, len(args))
	}
	if !f.Event.IsZero() {
		match("event", f.Event[:])
	}
	if f.Outcome != "" {
		match("outcome", string(f.Outcome))
	}
	if f.Status != nil {
		match("status", *f.Status)
		matches += " AND number > 0"
	}
	if len(args) > len(bounds) {
		err := s.read.QueryRowContext(ctx, fmt.Sprintf(`SELECT id FROM attempt WHERE %s ORDER BY id DESC LIMIT 1 OFFSET %d`, where, lookBack-1), bounds...).Scan(&next)
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return nil, 0, s.classify(err)
		}
		args[2] = max(least, next)
	}
	args = append(args[:len(args):len(args)], f.Limit)
	list, err = collect(ctx, s.read, func(r *sql.Rows) (Attempt, error) { return scanAttempt(r) },
		fmt.Sprintf(`SELECT %s, c.public_id FROM (SELECT * FROM attempt WHERE %s ORDER BY id DESC LIMIT $%d) a JOIN citizen c ON c.id = a.citizen ORDER BY a.id DESC`,
			attemptColumns, matches, len(args)), args...)
	if err == nil && len(list) == f.Limit {
		next = list[len(list)-1].ID
	}
	return list, next, s.classify(err)
}

// CitizenNumber gives the store's number for a citizen, one who was erased included.
func (s *Store) CitizenNumber(ctx context.Context, application int64, key consent.CitizenKey) (number int64, err error) {
	if key.ExternalRef != "" {
		c, err := s.readCitizen(ctx, application, key)
		if err != nil {
			return 0, err
		}
		return c.id, nil
	}
	err = s.fixed.QueryRowContext(ctx, `SELECT id FROM citizen WHERE public_id = $1 AND application = $2`, key.ID[:], application).Scan(&number)
	if errors.Is(err, sql.ErrNoRows) {
		err = ErrNoCitizen
	}
	return number, s.classify(err)
}

var errNoAttempt = consent.Errorf(consent.NotFound, "There is no such delivery; the log is kept for a while only.")

// MessageState says what has become of a message so far.
type MessageState string

// The states of a message that are no outcomes.
const (
	MessageSending    MessageState = "sending"    // it is due, or under way
	MessageSuperseded MessageState = "superseded" // by a newer state
)

// Delivery is one entry of the delivery log with what it is part of.
type Delivery struct {
	Attempt
	Exchange *Exchange    // nil where it is not kept, or cannot be read any more
	State    MessageState // of its message, now
	Attempts []Attempt    // on the message, the newest first, itself among them
}

// maxOfMessage is how many entries are given of one message.
const maxOfMessage = 100

// Delivery reads one entry of the log of a subscription.
func (s *Store) Delivery(ctx context.Context, sub Registered, id int64) (Delivery, error) {
	d, err := s.delivery(ctx, s.read, sub, id)
	if err != nil {
		return d, s.classify(err)
	}
	d.Attempts, err = collect(ctx, s.read, func(r *sql.Rows) (Attempt, error) { return scanAttempt(r) },
		`SELECT `+attemptColumns+`, c.public_id FROM (SELECT * FROM attempt WHERE citizen = $1 AND subscription + 0 = $2 AND (event = $3 OR id = $5) ORDER BY id DESC LIMIT $4) a
			JOIN citizen c ON c.id = a.citizen ORDER BY a.id DESC`, d.Citizen, sub.Number, d.Event[:], maxOfMessage, id)
	if err != nil {
		return d, s.classify(err)
	}
	d.State, err = s.messageState(ctx, d)
	return d, s.classify(err)
}

func (s *Store) delivery(ctx context.Context, q reader, sub Registered, id int64) (d Delivery, err error) {
	var content, wrapped []byte
	d.Attempt, err = scanAttempt(q.QueryRowContext(ctx, `SELECT `+attemptColumns+`, c.public_id, a.content, k.wrapped FROM attempt a JOIN citizen c ON c.id = a.citizen
		LEFT JOIN citizen_key k ON k.citizen = a.citizen WHERE a.id = $1 AND a.subscription = $2`, id, sub.Number), &content, &wrapped)
	if errors.Is(err, sql.ErrNoRows) {
		return d, errNoAttempt
	}
	if err != nil || content == nil || wrapped == nil {
		return d, err
	}
	c := citizenRow{publicID: d.CitizenID}
	key, err := s.keys.Unwrap(c.context("citizen key"), wrapped)
	if err != nil {
		return d, fmt.Errorf("key of citizen %s: %w", d.CitizenID, err)
	}
	d.Exchange, err = LogKey{key, d.CitizenID}.open(d.Subscription, d.At(), content)
	return d, err
}

// messageState says what has become of the message of an entry.
func (s *Store) messageState(ctx context.Context, d Delivery) (MessageState, error) {
	for _, a := range d.Attempts {
		if a.Outcome == OutcomeDelivered {
			return MessageState(OutcomeDelivered), nil
		}
	}
	rows, err := s.waitingOf(ctx, s.read, d.Subscription, d.Citizen)
	if err != nil {
		return "", err
	}
	for _, w := range rows {
		if w.Change == d.Change && (d.Change != 0 || w.Sequence == d.Sequence) {
			return w.State(now()), nil
		}
	}
	for _, a := range d.Attempts {
		if a.Outcome == OutcomeDiscarded || a.Outcome == OutcomeErased || a.Outcome == OutcomeExpired {
			return MessageState(a.Outcome), nil
		}
	}
	return MessageSuperseded, nil
}

// Latency is how long an endpoint takes to answer.
type Latency struct {
	Attempts      int64 // that were answered
	P50, P95, P99 time.Duration
}

// latencyOf is of how many attempts, the last ones of an hour, the latency is reckoned.
const latencyOf = 1000

// Latency reckons the latency of the last attempts of a subscription.
func (s *Store) Latency(ctx context.Context, subscription int64) (Latency, error) {
	took, err := collect(ctx, s.fixed, func(r *sql.Rows) (v int64, err error) { return v, r.Scan(&v) },
		`SELECT took FROM (SELECT took, status FROM attempt WHERE subscription = $1 AND id >= $2 ORDER BY id DESC LIMIT $3) AS newest WHERE status > 0 ORDER BY took`,
		subscription, firstAttempt(now().Add(-time.Hour)), latencyOf)
	if err != nil || len(took) == 0 {
		return Latency{}, s.classify(err)
	}
	at := func(share float64) time.Duration {
		return time.Duration(took[int(math.Ceil(share*float64(len(took))))-1]) * time.Microsecond
	}
	return Latency{int64(len(took)), at(0.50), at(0.95), at(0.99)}, nil
}

func (a *Attempt) eventOrNull() []byte {
	if a.Event.IsZero() {
		return nil
	}
	return a.Event[:]
}

// laneOf names a citizen at a subscription.
type laneOf struct {
	subscription, citizen int64
	mail                  int64 // the entry of a mail, which the log tells apart; 0: of what is no mail
}

// logErased logs that messages ended with their citizens, each mail by itself.
func (t *tx) logErased(ctx context.Context, ended []laneOf) error {
	var list []Attempt
	at := map[laneOf]int{}
	for _, v := range ended {
		i, known := at[v]
		if !known {
			i = len(list)
			at[v] = i
			a := Attempt{
				Subscription: v.subscription, Citizen: v.citizen, Change: v.mail, EventType: consent.CitizenChanged, Class: "erased", Outcome: OutcomeErased,
				Reason: "the citizen was erased",
			}
			if err := t.nameMail(ctx, &a); err != nil {
				return err
			}
			list = append(list, a)
		}
		list[i].Coalesced++
	}
	return t.logEnds(ctx, list)
}

// nameMail makes an entry that says how a mail ended say that it was one.
func (t *tx) nameMail(ctx context.Context, a *Attempt) error {
	if a.Change == 0 {
		return nil
	}
	mail, err := t.mailOf(ctx, a.Change)
	if err == nil && !mail.IsZero() {
		a.Event, a.EventType = mail, consent.CitizenMail
	}
	return err
}

// forgetBatch is how many entries one transaction deletes.
const forgetBatch = 1000

// ForgetAttempts deletes what the delivery log keeps no longer.
func (s *Store) ForgetAttempts(ctx context.Context) error {
	age := now().Add(-s.retention.Age)
	size, err := s.oversize(ctx)
	if err != nil {
		return s.classify(err)
	}
	if err := s.dialect.forgetAttempts(ctx, s, firstAttempt(size), firstAttempt(age)); err != nil {
		return s.classify(err)
	}
	if err := s.update(ctx, func(ctx context.Context, t *tx) error {
		_, err := t.exec(ctx, `DELETE FROM attempt_volume WHERE since < $1`, max(size, age))
		return err
	}); err != nil {
		return err
	}
	return s.forgetOrphans(ctx)
}

// oversize gives the instant before which the log must be deleted to keep to its size, to
// five minutes; of the last ten everything stays.
func (s *Store) oversize(ctx context.Context) (consent.Instant, error) {
	type span struct{ since, bytes int64 }
	list, err := collect(ctx, s.read, func(r *sql.Rows) (v span, err error) { return v, r.Scan(&v.since, &v.bytes) },
		`SELECT since, bytes FROM attempt_volume ORDER BY since DESC`)
	sum, latest := int64(0), now().Add(-2*volumeSpan)
	for _, v := range list {
		if sum += v.bytes; sum > s.retention.Bytes && consent.Instant(v.since) <= latest {
			return consent.Instant(v.since).Add(volumeSpan), err
		}
	}
	return 0, err
}

// deleteAttempts deletes the entries below an id, a few at a time.
func (s *Store) deleteAttempts(ctx context.Context, table string, below int64) error {
	for {
		var gone int64
		if err := s.update(ctx, func(ctx context.Context, t *tx) (err error) {
			gone, err = changed(ctx, t, fmt.Sprintf(`DELETE FROM %s WHERE id IN (SELECT id FROM %s WHERE id < $1 ORDER BY id LIMIT %d)`, table, table, forgetBatch), below)
			return err
		}); err != nil || gone < forgetBatch {
			return err
		}
	}
}

// forgetOrphans deletes the logs of subscriptions that are gone.
func (s *Store) forgetOrphans(ctx context.Context) error {
	list, err := collect(ctx, s.read, func(r *sql.Rows) (v int64, err error) { return v, r.Scan(&v) }, `SELECT subscription FROM attempt_orphan ORDER BY subscription`)
	for _, subscription := range list {
		for gone := int64(forgetBatch); err == nil && gone == forgetBatch; {
			err = s.update(ctx, func(ctx context.Context, t *tx) (err error) {
				if gone, err = changed(ctx, t, fmt.Sprintf(`DELETE FROM attempt WHERE id IN (SELECT id FROM attempt WHERE subscription = $1 ORDER BY id LIMIT %d)`, forgetBatch), subscription); err != nil || gone == forgetBatch {
					return err
				}
				_, err = t.exec(ctx, `DELETE FROM attempt_orphan WHERE subscription = $1`, subscription)
				return err
			})
		}
	}
	return s.classify(err)
}
