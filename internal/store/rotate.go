package store

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"time"

	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/internal/seal"
)

// sealedColumn is a column of bytes that are sealed under a master key.
type sealedColumn struct {
	table, column string
	key           []keyColumn // the primary key
	// owner is an SQL expression for the public id of whom the value belongs to; NULL
	// where the primary key says it all.
	owner string
	// context gives the context to which a value is bound.
	context func(owner consent.ID, key []any) string
}

// keyColumn is a column of a primary key with its type on PostgreSQL, bigint or text.
type keyColumn struct{ name, kind string }

// sealedColumns are all columns that are sealed under a master key. What is sealed under
// the key of a citizen is not among them: it stays as it is when the master key changes.
// A test holds every column of bytes to be here or known not to belong here.
var sealedColumns = []sealedColumn{
	{"setting", "value", []keyColumn{{"name", "text"}}, `NULL`, func(_ consent.ID, key []any) string { return key[0].(string) }},
	{"token_key", "sealed", []keyColumn{{"id", "bigint"}}, `NULL`, func(_ consent.ID, key []any) string { return tokenKeyContext(key[0].(int64)) }},
	{"subscription", "secrets", []keyColumn{{"id", "bigint"}}, `x.public_id`, ownedBy("subscription")},
	{"citizen", "farewell", []keyColumn{{"id", "bigint"}}, `x.public_id`, ownedBy("farewell")},
	{"citizen_key", "wrapped", []keyColumn{{"citizen", "bigint"}}, `(SELECT c.public_id FROM citizen c WHERE c.id = x.citizen)`, ownedBy("citizen key")},
	{
		"idempotency", "outcome",
		[]keyColumn{{"credential", "text"}, {"route", "text"}, {"key", "text"}},
		`NULL`,
		func(_ consent.ID, key []any) string {
			return Once{Credential: key[0].(string), Route: key[1].(string), Key: key[2].(string)}.context()
		},
	},
	{"job", "params", []keyColumn{{"id", "bigint"}}, `x.public_id`, ofJob("params")},
	{"job", "cursor", []keyColumn{{"id", "bigint"}}, `x.public_id`, ofJob("cursor")},
	{"link_request", "sealed", []keyColumn{{"id", "bigint"}}, `x.public_id`, ownedBy("link request")},
	{
		"job_file", "sealed",
		[]keyColumn{{"job", "bigint"}, {"name", "text"}, {"place", "bigint"}},
		`(SELECT j.public_id FROM job j WHERE j.id = x.job)`,
		func(job consent.ID, key []any) string { return jobContext(job, fmt.Sprintf("%s %d", key[1], key[2])) },
	},
}

func ofJob(what string) func(consent.ID, []any) string {
	return func(job consent.ID, _ []any) string { return jobContext(job, what) }
}

func ownedBy(what string) func(consent.ID, []any) string {
	return func(owner consent.ID, _ []any) string { return what + " " + owner.String() }
}

// Seals says how many values of a column are sealed under which master key.
type Seals struct {
	Column string           // as table.column
	Values map[string]int64 // by the id of the key
}

// CountSeals counts what is sealed under a master key, column by column.
func (s *Store) CountSeals(ctx context.Context) ([]Seals, error) {
	var list []Seals
	for _, c := range sealedColumns {
		v := Seals{c.table + "." + c.column, map[string]int64{}}
		err := c.count(ctx, s.read, v.Values)
		if err != nil {
			return nil, s.classify(err)
		}
		list = append(list, v)
	}
	return list, nil
}

// count counts by what stands in front of the values: the length of the key's id, which
// says where it ends, and the id.
func (c sealedColumn) count(ctx context.Context, q reader, values map[string]int64) error {
	lengths, err := collect(ctx, q, func(r *sql.Rows) (v []byte, err error) { return v, r.Scan(&v) },
		fmt.Sprintf(`SELECT DISTINCT substr(%[1]s, 1, 1) FROM %[2]s WHERE %[1]s IS NOT NULL`, c.column, c.table))
	if err != nil {
		return err
	}
	for _, length := range lengths {
		end := 1
		if len(length) > 0 {
			end += int(length[0])
		}
		_, err := collect(ctx, q, func(r *sql.Rows) (struct{}, error) {
			var mark []byte
			var n int64
			err := r.Scan(&mark, &n)
			values[seal.KeyOf(mark)] += n
			return struct{}{}, err
		}, fmt.Sprintf(`SELECT substr(%[1]s, 1, %[3]d) AS mark, count(*) FROM %[2]s WHERE substr(%[1]s, 1, 1) = $1 GROUP BY mark`, c.column, c.table, end), length)
		if err != nil {
			return err
		}
	}
	return nil
}

// Resealed says what a run of [Store.Reseal] came to.
type Resealed struct {
	Done  int64 // sealed anew
	Stuck int64 // cannot be opened by any key of the ring, and stays as it is
}

// resealBatch is how many values one commit seals anew. Others write between two of them.
const resealBatch = 500

// Reseal seals anew, under the sealing key of the ring, what is sealed under another one:
// a batch a commit, in the order of the primary keys, beside whatever else is written. A
// value that somebody changes meanwhile keeps that change. An interrupted run is gone on
// with by another one. What is written elsewhere during the run may still be sealed under
// another key when it ends. progress, where set, is told after every commit how much is
// done.
func (s *Store) Reseal(ctx context.Context, progress func(Resealed)) (Resealed, error) {
	var total Resealed
	for _, c := range sealedColumns {
		after := c.start()
		for after != nil {
			if err := ctx.Err(); err != nil {
				return total, err
			}
			began := time.Now()
			batch, err := s.resealBatch(ctx, c, after)
			if err != nil {
				return total, fmt.Errorf("sealing %s.%s anew: %w", c.table, c.column, err)
			}
			total.Done, total.Stuck, after = total.Done+batch.done, total.Stuck+batch.stuck, batch.last
			if progress != nil {
				progress(total)
			}
			if batch.done > 0 && after != nil {
				wait(ctx, time.Since(began)/4) // who waits for SQLite's lock only looks for it now and then
			}
		}
	}
	return total, nil
}

// start is before every primary key.
func (c sealedColumn) start() []any {
	after := make([]any, len(c.key))
	for i, k := range c.key {
		if after[i] = ""; k.kind == "bigint" {
			after[i] = int64(0)
		}
	}
	return after
}

// part gives the part of the primary keys that is in one column, as an array.
func (k keyColumn) part(list []sealedValue, column int) any {
	if k.kind == "bigint" {
		return part[int64](list, column)
	}
	return part[string](list, column)
}

func part[T any](list []sealedValue, column int) []T {
	values := make([]T, len(list))
	for i, v := range list {
		values[i] = v.key[column].(T)
	}
	return values
}

// sealedValue is one value of a sealed column, as it was and as it is to be.
type sealedValue struct {
	key      []any
	old, new []byte
}

type resealedBatch struct {
	done, stuck int64
	last        []any // the primary key up to which all is done; nil: the column is
}

// resealBatch seals anew what comes first after a primary key. It is opened and sealed
// before the transaction, which only puts it in the place of what was read.
func (s *Store) resealBatch(ctx context.Context, c sealedColumn, after []any) (b resealedBatch, err error) {
	id := s.keys.Sealing()
	var owners []consent.ID
	found, err := collect(ctx, s.read, func(r *sql.Rows) (sealedValue, error) {
		v := sealedValue{key: make([]any, len(c.key))}
		var owner consent.ID
		dest := []any{&v.old, &owner}
		for i := range v.key {
			dest = append(dest, &v.key[i])
		}
		err := r.Scan(dest...)
		owners = append(owners, owner)
		return v, err
	}, c.next(id), append([]any{seal.Mark(id)}, after...)...)
	if err != nil {
		return b, s.classify(err)
	}
	var list []sealedValue
	for i, v := range found {
		if v.new, err = s.keys.Reseal(c.context(owners[i], v.key), v.old); err != nil {
			b.stuck++
			continue
		}
		list = append(list, v)
	}
	if len(found) == resealBatch {
		b.last = found[len(found)-1].key
	}
	if len(list) == 0 {
		return b, nil
	}
	return b, s.update(ctx, func(ctx context.Context, t *tx) (err error) {
		b.done, err = s.dialect.replaceSealed(ctx, t, c, list)
		return err
	})
}

// next is the query for the values after $2 and so on that do not begin with $1, the mark
// of a key.
func (c sealedColumn) next(id string) string {
	names, marks := make([]string, len(c.key)), make([]string, len(c.key))
	for i, k := range c.key {
		names[i], marks[i] = "x."+k.name, fmt.Sprintf("$%d", i+2)
	}
	key := strings.Join(names, ", ")
	return fmt.Sprintf(`SELECT x.%[1]s, %[2]s, %[3]s FROM %[4]s x WHERE (%[3]s) > (%[5]s) AND substr(x.%[1]s, 1, %[6]d) <> $1 ORDER BY %[3]s LIMIT %[7]d`,
		c.column, c.owner, key, c.table, strings.Join(marks, ", "), 1+len(id), resealBatch)
}

func (sqlite) replaceSealed(ctx context.Context, t *tx, c sealedColumn, list []sealedValue) (done int64, err error) {
	query := fmt.Sprintf(`UPDATE %s SET %[2]s = $1 WHERE %[2]s = $2`, c.table, c.column)
	for i, k := range c.key {
		query += fmt.Sprintf(` AND %s = $%d`, k.name, i+3)
	}
	for _, v := range list {
		r, err := t.exec(ctx, query, append([]any{v.new, v.old}, v.key...)...)
		if err != nil {
			return 0, err
		}
		n, err := r.RowsAffected()
		if err != nil {
			return 0, err
		}
		done += n
	}
	return done, nil
}

func (postgres) replaceSealed(ctx context.Context, t *tx, c sealedColumn, list []sealedValue) (int64, error) {
	before, after := make([][]byte, len(list)), make([][]byte, len(list))
	for i, v := range list {
		before[i], after[i] = v.old, v.new
	}
	args, arrays, names, same := []any{after, before}, `$1::bytea[], $2::bytea[]`, `sealed_after, sealed_before`, ``
	for i, k := range c.key {
		args = append(args, k.part(list, i))
		arrays += fmt.Sprintf(`, $%d::%s[]`, i+3, k.kind)
		names += `, ` + k.name
		same += fmt.Sprintf(` AND x.%s = n.%[1]s`, k.name)
	}
	r, err := t.exec(ctx, fmt.Sprintf(`UPDATE %s x SET %[2]s = n.sealed_after FROM unnest(%[3]s) n (%[4]s) WHERE x.%[2]s = n.sealed_before%[5]s`,
		c.table, c.column, arrays, names, same), args...)
	if err != nil {
		return 0, err
	}
	return r.RowsAffected()
}
