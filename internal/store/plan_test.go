package store_test

import (
	"database/sql"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/opencpm/opencpm/internal/store"
	"github.com/opencpm/opencpm/internal/store/storetest"
)

// pages are the queries that go through all citizens page by page, each with the arguments
// after the application of a page of 100 among 20,000.
var pages = map[string]struct {
	query, settings string
	args            []any // after the application
	atOnce          bool  // it is of all in a range, rather than of the first few
}{
	"tokens":                {store.EveryTokenSource, "", []any{4000, 4100}, true},
	"resync of everybody":   {store.EveryResync, store.WriterSettings, []any{4000, 100}, false},
	"resync of the changed": {store.ChangedResync, store.WriterSettings, []any{7, 7, 4000, 100}, false},
}

// rowsRead are the rows that a node of a plan gave each time, and how often that was.
var rowsRead = regexp.MustCompile(`actual rows=(\d+) loops=(\d+)`)

// A page costs what is in it, wherever it is: PostgreSQL neither sorts all citizens for it
// nor goes by those before it, whether it plans for the very page or for any.
func TestPagesOfCitizensOnPostgreSQL(t *testing.T) {
	url := storetest.Postgres(t)
	st := storetest.Open(t, store.Options{DatabaseURL: url, Keys: storetest.Keys(t)})
	mine, other := storetest.Application(t, st, "northwind").Application, storetest.Application(t, st, "globex").Application
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	run := func(statement string) (lines []string) {
		t.Helper()
		results, err := conn.PgConn().Exec(ctx, statement).ReadAll()
		if err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
		for _, r := range results {
			for _, row := range r.Rows {
				lines = append(lines, string(row[0]))
			}
		}
		return lines
	}
	run(fmt.Sprintf(`INSERT INTO citizen (id, public_id, application, ref_index, details, created_at) OVERRIDING SYSTEM VALUE
		SELECT n, decode(md5(n::text), 'hex'), CASE WHEN n %% 10 = 0 THEN %d ELSE %d END, decode(md5(n::text), 'hex'), '\x00', 1 FROM generate_series(1, 20000) n`, other, mine))
	run(`INSERT INTO citizen_key (citizen, wrapped) SELECT id, '\x00' FROM citizen`)
	run(`INSERT INTO citizen_state (citizen, application, seq, hash, recorded_at, version, changed_by, projection)
		SELECT id, application, 1, '\x00', 1, 1, '', decode(repeat('00', 700), 'hex') FROM citizen`)
	run(`INSERT INTO change (position, citizen, application, version, changed_at, previous, event, changed_by)
		SELECT 1, id, application, 1, 7, 0, 'citizen.changed', '' FROM citizen ORDER BY id`)
	for _, table := range []string{"citizen", "citizen_key", "citizen_state", "change"} {
		run(`VACUUM ANALYZE ` + table)
	}
	for name, page := range pages {
		for _, application := range []int64{mine, other} {
			for _, mode := range []string{"force_generic_plan", "force_custom_plan"} {
				run(`RESET ALL; DEALLOCATE ALL; ` + page.settings)
				run(`SET plan_cache_mode = ` + mode)
				args := append([]any{application}, page.args...)
				run(fmt.Sprintf(`PREPARE page (%s) AS %s`, strings.Join(slices.Repeat([]string{"bigint"}, len(args)), ", "), page.query))
				values := strings.ReplaceAll(strings.Trim(fmt.Sprint(args), "[]"), " ", ", ")
				plan := strings.Join(run(`EXPLAIN (ANALYZE, TIMING OFF) EXECUTE page (`+values+`)`), "\n")
				looked, repeated := 0, false
				for _, node := range rowsRead.FindAllStringSubmatch(plan, -1) {
					rows, _ := strconv.Atoi(node[1])
					loops, _ := strconv.Atoi(node[2])
					looked, repeated = looked+rows*loops, repeated || loops > 1
				}
				if looked < 10 || looked > 2000 || strings.Contains(plan, "Sort") || strings.Contains(plan, "Gather") || page.atOnce && repeated {
					t.Errorf("%s of %d, %s: %d rows\n%s", name, application, mode, looked, plan)
				}
			}
		}
	}
}

// SQLite sorts nothing either.
func TestPagesOfCitizensOnSQLite(t *testing.T) {
	dir := t.TempDir()
	storetest.Open(t, store.Options{Dir: dir, Keys: storetest.Keys(t)})
	db, err := sql.Open("sqlite", dir+"/opencpm.db")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for name, page := range pages {
		var plan strings.Builder
		rows, err := db.QueryContext(ctx, `EXPLAIN QUERY PLAN `+page.query, append([]any{1}, page.args...)...)
		if err != nil {
			t.Fatal(err)
		}
		defer rows.Close()
		for rows.Next() {
			var a, b, c int
			var line string
			if err := rows.Scan(&a, &b, &c, &line); err != nil {
				t.Fatal(err)
			}
			fmt.Fprintln(&plan, line)
		}
		if err := rows.Err(); err != nil || strings.Contains(plan.String(), "TEMP B-TREE") || strings.Contains(plan.String(), "SCAN") || plan.Len() == 0 {
			t.Errorf("%s: %v\n%s", name, err, &plan)
		}
	}
}
