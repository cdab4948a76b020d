package store

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/binary"
	"fmt"
	"slices"
	"strconv"

	"github.com/go-json-experiment/json"

	"github.com/opencpm/opencpm/internal/consent"
)

// The kinds of record in the ledger.
const (
	recordTransaction = "transaction"
	recordSubmission  = "submission"
	recordSuppression = "suppression"
)

// record is one row of the ledger.
type record struct {
	seq        int64
	id         consent.ID
	recordedAt consent.Instant
	kind       string
	body       []byte
	sealed     []byte // the attribution, which is about people
	hash       []byte
}

// genesis stands before the first record of every chain.
var genesis = make([]byte, sha256.Size)

// chain gives the hash of a record: over the hash before it and everything in the
// row, in the form in which it is stored, so that it still holds after an erasure.
func (r *record) chain(before []byte, citizen consent.ID) []byte {
	h := sha256.New()
	for _, part := range [][]byte{
		before, citizen[:], []byte(strconv.FormatInt(r.seq, 10)), r.id[:],
		[]byte(strconv.FormatInt(int64(r.recordedAt), 10)), []byte(r.kind), r.body, r.sealed,
	} {
		var size [8]byte
		binary.BigEndian.PutUint64(size[:], uint64(len(part)))
		h.Write(size[:])
		h.Write(part)
	}
	return h.Sum(nil)
}

// append adds a record of what has been stamped to the citizen's chain. entry is it
// as JSON without its attribution, which goes sealed.
func (c *citizenRow) append(kind string, e consent.Evidence, entry any) error {
	body, err := json.Marshal(entry)
	if err != nil {
		return err
	}
	r := record{seq: c.seq + 1, id: e.ID, recordedAt: e.RecordedAt, kind: kind, body: body}
	if e.Attribution != (consent.Attribution{}) {
		plain, err := json.Marshal(e.Attribution)
		if err != nil {
			return err
		}
		r.sealed = c.key.Seal(c.context("record"), plain)
	}
	r.hash = r.chain(c.hash, c.publicID)
	c.records = append(c.records, r)
	c.seq, c.hash, c.recordedAt = r.seq, r.hash, r.recordedAt
	return nil
}

// appendTransaction adds a stamped transaction to the ledger.
func (c *citizenRow) appendTransaction(t consent.Transaction) error {
	e := t.Evidence
	t.Attribution = consent.Attribution{}
	return c.append(recordTransaction, e, t)
}

// appendSubmission adds a stamped submission to the ledger.
func (c *citizenRow) appendSubmission(v consent.Submission) error {
	e := v.Evidence
	v.Attribution = consent.Attribution{}
	return c.append(recordSubmission, e, v)
}

// appendSuppression adds a stamped suppression to the ledger.
func (c *citizenRow) appendSuppression(v consent.Suppression) error {
	return c.append(recordSuppression, v.Evidence, v)
}

// ledger reads all records of the citizen, oldest first, those included that are to be
// appended.
func (c *citizenRow) ledger(ctx context.Context, q querier) ([]record, error) {
	list, err := collect(ctx, q, scanRecord, `SELECT seq, id, recorded_at, kind, body, sealed, hash FROM ledger WHERE citizen = $1 ORDER BY seq`, c.id)
	return append(list, c.records...), err
}

func scanRecord(r *sql.Rows) (record, error) {
	var v record
	var body string
	err := r.Scan(&v.seq, &v.id, &v.recordedAt, &v.kind, &body, &v.sealed, &v.hash)
	v.body = []byte(body)
	return v, err
}

// Entry is one record of the ledger, opened: a transaction, a submission or a suppression.
// After an erasure what it says about people is empty.
type Entry struct {
	CitizenID   consent.ID
	ExternalRef string
	Seq         int64  // its place in the citizen's chain, from 1
	Hash        []byte // over the record and the hash before it
	Transaction *consent.Transaction
	Submission  *consent.Submission
	Suppression *consent.Suppression
}

// Evidence gives the evidence of the record.
func (e *Entry) Evidence() *consent.Evidence {
	switch {
	case e.Transaction != nil:
		return &e.Transaction.Evidence
	case e.Submission != nil:
		return &e.Submission.Evidence
	}
	return &e.Suppression.Evidence
}

// entry opens the record with the key of its citizen, where that is left.
func (r *record) entry(c *citizenRow) (Entry, error) {
	e := Entry{CitizenID: c.publicID, Seq: r.seq, Hash: r.hash}
	var into any
	switch r.kind {
	case recordTransaction:
		e.Transaction = &consent.Transaction{}
		into = e.Transaction
	case recordSubmission:
		e.Submission = &consent.Submission{}
		into = e.Submission
	case recordSuppression:
		e.Suppression = &consent.Suppression{}
		into = e.Suppression
	default:
		return e, fmt.Errorf("record %s is of the unknown kind %q", r.id, r.kind)
	}
	if err := json.Unmarshal(r.body, into); err != nil {
		return e, fmt.Errorf("record %s: %w", r.id, err)
	}
	if len(r.sealed) > 0 && c.key != nil {
		plain, err := c.key.Open(c.context("record"), r.sealed)
		if err != nil {
			return e, fmt.Errorf("record %s: %w", r.id, err)
		}
		if err := json.Unmarshal(plain, &e.Evidence().Attribution); err != nil {
			return e, fmt.Errorf("record %s: %w", r.id, err)
		}
	}
	return e, nil
}

// fold gives the projection of records, oldest first, pruned of nothing. knownAt
// leaves out what was recorded later; zero leaves out nothing.
func (c *citizenRow) fold(records []record, knownAt consent.Instant) (*consent.Projection, error) {
	p := &consent.Projection{}
	for i := range records {
		if knownAt != 0 && records[i].recordedAt > knownAt {
			break
		}
		e, err := records[i].entry(c)
		switch {
		case err != nil:
			return nil, err
		case e.Transaction != nil:
			p.Add(*e.Transaction)
		case e.Submission != nil:
			p.Answer(*e.Submission)
		default:
			p.Suppress(*e.Suppression)
		}
	}
	return p, nil
}

// revertible gives the transaction of the citizen that a reversion may undo: one that
// exists, is no reversion itself and has not been undone yet.
func (c *citizenRow) revertible(records []record, id consent.ID) (*consent.Transaction, error) {
	at := slices.IndexFunc(records, func(r record) bool { return r.id == id && r.kind == recordTransaction })
	if at < 0 {
		return nil, ErrNoTransaction
	}
	e, err := records[at].entry(c)
	if err != nil {
		return nil, err
	}
	if !e.Transaction.Reverts.IsZero() {
		return nil, consent.Errorf(consent.Conflict, "The transaction is a reversion itself, which cannot be undone; record what applies as a new transaction.")
	}
	for i := at + 1; i < len(records); i++ {
		if later, err := records[i].entry(c); err != nil {
			return nil, err
		} else if later.Transaction != nil && later.Transaction.Reverts == id {
			return nil, consent.Errorf(consent.Conflict, "The transaction has been reverted already.")
		}
	}
	return e.Transaction, nil
}
