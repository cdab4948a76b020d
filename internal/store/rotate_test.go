package store_test

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/internal/seal"
	"github.com/opencpm/opencpm/internal/store"
	"github.com/opencpm/opencpm/internal/store/storetest"
)

// notUnderMasterKey are the columns of bytes that are not sealed under a master key, and
// why. One that is belongs into sealedColumns of rotate.go, and into populate below.
var notUnderMasterKey = map[string]string{
	"credential.id":                     "id",
	"credential.hash":                   "hash",
	"credential_application.credential": "id",
	"access_token.hash":                 "hash",
	"access_token.credential":           "id",
	"idempotency.request":               "hash",
	"citizen.public_id":                 "id",
	"citizen.ref_index":                 "blind index",
	"citizen.details":                   "sealed under the citizen's key",
	"citizen_address.blind":             "blind index",
	"citizen_address.sealed":            "sealed under the citizen's key",
	"citizen_state.hash":                "hash",
	"citizen_state.projection":          "sealed under the citizen's key",
	"suppression.public_id":             "id",
	"suppression.blind":                 "blind index",
	"suppression.sealed":                "sealed under the key of the list",
	"ledger.id":                         "id",
	"ledger.sealed":                     "sealed under the citizen's key",
	"ledger.hash":                       "hash",
	"job.public_id":                     "id",
	"attempt.event":                     "id",
	"attempt.content":                   "sealed under the citizen's key",
	"change.body":                       "sealed under the citizen's key",
	"subscription.public_id":            "id",
	"mail.public_id":                    "id",
	"mail.body":                         "sealed under the citizen's key",
	"sign_up.public_id":                 "id",
	"sign_up.link":                      "hash",
	"sign_up.address":                   "blind index",
	"sign_up.sealed":                    "sealed under the citizen's key",
	"mail_limit.address":                "blind index",
	"parked_capture.public_id":          "id",
	"parked_capture.sealed":             "sealed under the citizen's key",
	"link_request.public_id":            "id",
	"sign_in_code.address":              "blind index",
	"sign_in_code.asker":                "hash",
	"sign_in_code.code":                 "keyed hash",
}

// database is one store that is opened anew with other keys.
type database struct {
	options store.Options
	keys    string // path of the key file
}

func (d database) open(t *testing.T) *store.Store {
	t.Helper()
	keys, err := seal.OpenKeyFile(d.keys)
	if err != nil {
		t.Fatal(err)
	}
	o := d.options
	o.Keys = keys
	return storetest.Open(t, o)
}

// sql opens the database behind the store's back.
func (d database) sql(t *testing.T) *sql.DB {
	t.Helper()
	driver, name := "pgx", d.options.DatabaseURL
	if d.options.Dir != "" {
		driver, name = "sqlite", filepath.Join(d.options.Dir, store.SQLiteFile)
	}
	db, err := sql.Open(driver, name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

// newKey puts a key into the file in front of the others.
func (d database) newKey(t *testing.T, id string) {
	t.Helper()
	if err := seal.AddKey(d.keys, id, true); err != nil {
		t.Fatal(err)
	}
}

// onBothDatabases runs a test on an empty database of each kind with a key file whose
// key has the id master-1.
func onBothDatabases(t *testing.T, test func(t *testing.T, d database)) {
	for name, options := range map[string]func(t *testing.T) store.Options{
		"SQLite":     func(t *testing.T) store.Options { return store.Options{Dir: t.TempDir()} },
		"PostgreSQL": func(t *testing.T) store.Options { return store.Options{DatabaseURL: storetest.Postgres(t)} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			keys := filepath.Join(t.TempDir(), "keys")
			write(t, keys, seal.NewKeyFile("master-1"))
			test(t, database{options(t), keys})
		})
	}
}

// populated is what populate has put into every column that is sealed under a master key.
type populated struct {
	application  int64
	citizens     []consent.ID
	erased       int64 // the store's number
	subscription consent.ID
	once         store.Once
	transaction  consent.ID // that once recorded
	job          store.HeldJob
}

func populate(t *testing.T, st *store.Store, citizens int) populated {
	t.Helper()
	p := populated{application: storetest.Application(t, st, "northwind").Application}
	p.subscription = subscribe(t, st, p.application).ID
	p.once = store.Once{Credential: "client", Route: "record", Key: "key", Request: []byte("request")}
	r, err := st.Record(ctx, p.application, ref("CUST-once"), grant("newsletter-email"), p.once)
	if err != nil {
		t.Fatal(err)
	}
	p.transaction = r.Transaction.ID
	var list []store.NewCitizen
	for i := range citizens {
		list = append(list, store.NewCitizen{ExternalRef: fmt.Sprint("CUST-", i), Details: consent.Details{GivenName: fmt.Sprint("Ada ", i)}})
	}
	created, _, err := st.CreateCitizens(ctx, p.application, list, "test", store.Once{})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range created {
		p.citizens = append(p.citizens, c.CitizenID)
	}
	gone := record(t, st, p.application, ref("CUST-gone"), grant("newsletter-email"))
	if err := st.EraseCitizen(ctx, p.application, consent.CitizenKey{ID: gone.CitizenID}, "test"); err != nil {
		t.Fatal(err)
	}
	if err := st.KeepLinkRequest(ctx, store.LinkRequest{Address: "ada@example.com", Application: p.application}); err != nil {
		t.Fatal(err)
	}
	if _, err := st.CreateJob(ctx, store.NewJob{Application: p.application, Kind: consent.LedgerCheck, Params: []byte(`{"planted":1}`)}, "test", store.Once{}); err != nil {
		t.Fatal(err)
	}
	held, ok, err := st.ClaimJob(ctx, "node", consent.JobKinds, time.Minute)
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	if p.job, err = st.StepJob(ctx, held, func(ctx context.Context, x *store.JobTx) (store.Progress, error) {
		return store.Progress{Cursor: []byte(`{"at":1}`), Done: 1}, x.Append(ctx, consent.JobResult, []byte("a piece"))
	}); err != nil {
		t.Fatal(err)
	}
	for _, l := range lanes(t, st, store.Registered{Number: 1}, take(t, st), false) {
		p.erased = max(p.erased, l.Citizen) // the last one who was created
	}
	return p
}

// readAll reads back all that populate has made.
func (p populated) readAll(t *testing.T, st *store.Store) {
	t.Helper()
	for i, id := range p.citizens {
		c, err := st.Citizen(ctx, p.application, ref(fmt.Sprint("CUST-", i)))
		if err != nil || c.ID != id || c.Details.GivenName != fmt.Sprint("Ada ", i) {
			t.Fatalf("citizen %d is %+v, %v", i, c, err)
		}
	}
	job, err := st.RereadJob(ctx, p.job)
	if err != nil || string(job.Params) != `{"planted":1}` || string(job.Cursor) != `{"at":1}` {
		t.Fatalf("the job is %+v, %v", job, err)
	}
	if err := st.ReadJobFile(ctx, job.Job, consent.JobResult, func(piece []byte) error {
		if string(piece) != "a piece" {
			t.Errorf("the file says %q", piece)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	told, err := st.States(ctx, []int64{p.erased})
	if err != nil || told[p.erased].ExternalRef != "CUST-gone" {
		t.Fatalf("the farewell is %+v, %v", told, err)
	}
	list, err := st.ActiveSubscriptions(ctx)
	if err != nil || len(list) != 1 || list[0].ID != p.subscription || list[0].Secrets.Token != "planted-webhook-token" {
		t.Fatalf("the subscriptions are %+v, %v", list, err)
	}
	r, err := st.Record(ctx, p.application, ref("CUST-once"), grant("newsletter-email"), p.once)
	if err != nil || r.Transaction.ID != p.transaction {
		t.Fatalf("the outcome of an earlier request is %+v, %v", r, err)
	}
	if f := check(t, st); len(f) > 0 {
		t.Fatal(f)
	}
}

// seals counts what is sealed under each key, in all columns.
func seals(t *testing.T, st *store.Store) map[string]int64 {
	t.Helper()
	list, err := st.CountSeals(ctx)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]int64{}
	for _, v := range list {
		for id, n := range v.Values {
			all[id] += n
		}
	}
	return all
}

func TestRotation(t *testing.T) {
	onBothDatabases(t, func(t *testing.T, d database) {
		st := d.open(t)
		const citizens = 1234 // more than a batch, and no multiple of one
		p := populate(t, st, citizens)
		before, err := st.CountSeals(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range before {
			if len(v.Values) != 1 || v.Values["master-1"] == 0 {
				t.Errorf("before the rotation %s has values under %v; populate must fill every column", v.Column, v.Values)
			}
		}
		all := seals(t, st)["master-1"]

		d.newKey(t, "master-2")
		rotating := d.open(t)
		var told []int64
		done, err := rotating.Reseal(ctx, func(r store.Resealed) { told = append(told, r.Done) })
		if err != nil || done != (store.Resealed{Done: all}) {
			t.Fatalf("of %d values %+v, %v", all, done, err)
		}
		if !slices.IsSorted(told) || told[len(told)-1] != all || len(told) < citizens/500 {
			t.Errorf("the progress was %v", told)
		}
		if got := seals(t, st); len(got) != 1 || got["master-2"] != all {
			t.Fatalf("after the rotation the values are under %v", got)
		}
		if again, err := rotating.Reseal(ctx, nil); err != nil || again != (store.Resealed{}) {
			t.Fatalf("a second rotation found %+v, %v", again, err)
		}
		p.readAll(t, st) // which was opened before there was the new key

		// The old key is gone, and everything opens.
		text := read(t, d.keys)
		_, line, _ := strings.Cut(text, "master-2:")
		line, _, _ = strings.Cut(line, "\n")
		write(t, d.keys, "master-2:"+line+"\n")
		p.readAll(t, d.open(t))
	})
}

func TestRotationIsGoneOnWith(t *testing.T) {
	onBothDatabases(t, func(t *testing.T, d database) {
		p := populate(t, d.open(t), 1234)
		d.newKey(t, "master-2")
		st := d.open(t)
		all := seals(t, st)["master-1"]
		interrupted, interrupt := context.WithCancel(ctx)
		first, err := st.Reseal(interrupted, func(r store.Resealed) {
			if r.Done > 500 {
				interrupt()
			}
		})
		if !errors.Is(err, context.Canceled) || first.Done <= 500 || first.Done >= all {
			t.Fatalf("the interrupted run did %+v of %d, %v", first, all, err)
		}
		if got := seals(t, st); got["master-2"] != first.Done || got["master-1"] != all-first.Done {
			t.Fatalf("after %d the values are under %v", first.Done, got)
		}
		p.readAll(t, st)
		second, err := d.open(t).Reseal(ctx, nil)
		if err != nil || second.Done != all-first.Done {
			t.Fatalf("the second run did %+v after %+v of %d, %v", second, first, all, err)
		}
		p.readAll(t, st)
	})
}

// What others write during a rotation is neither lost nor hurt.
func TestRotationBesideWrites(t *testing.T) {
	onBothDatabases(t, func(t *testing.T, d database) {
		st := d.open(t)
		p := populate(t, st, 600)
		// The writers go on as the rotation does: SQLite has no queue for its lock, and who
		// never lets go of it shuts the other process out.
		turns := make(chan struct{}, 1000)
		goOn := func(store.Resealed) {
			for range 9 {
				turns <- struct{}{}
			}
		}
		var writers sync.WaitGroup
		last := make([]string, 3)
		for w := range last {
			writers.Go(func() {
				i := -1
				for range turns {
					i++
					last[w] = fmt.Sprintf("token %d-%d", w, i)
					if _, err := st.ChangeSubscription(ctx, []int64{p.application}, p.subscription, "test", func(v *consent.Subscription) error {
						v.Secrets.RefreshToken = last[w]
						return nil
					}); err != nil {
						t.Error(err)
					}
					r, err := st.Record(ctx, p.application, ref(fmt.Sprintf("NEW-%d-%d", w, i)), grant("newsletter-email"), store.Once{Credential: "c", Route: "r", Key: last[w], Request: []byte("request")})
					if err != nil {
						t.Error(err)
						continue
					}
					if i%2 == 0 {
						err = st.EraseCitizen(ctx, p.application, consent.CitizenKey{ID: r.CitizenID}, "test")
					} else {
						_, err = st.Record(ctx, p.application, ref(fmt.Sprint("CUST-", i%600)), deny("newsletter-email"), store.Once{})
					}
					if err != nil {
						t.Error(err)
					}
				}
			})
		}
		goOn(store.Resealed{})
		for round := range 4 {
			d.newKey(t, fmt.Sprint("round-", round))
			done, err := d.open(t).Reseal(ctx, goOn)
			if err != nil || done.Done == 0 || done.Stuck != 0 {
				t.Errorf("round %d: %+v, %v", round, done, err)
			}
		}
		close(turns)
		writers.Wait()
		if _, err := d.open(t).Reseal(ctx, nil); err != nil {
			t.Error(err)
		}
		if got := seals(t, st); len(got) != 1 || got["round-3"] == 0 {
			t.Errorf("at the end the values are under %v", got)
		}
		p.readAll(t, st)
		list, err := st.ActiveSubscriptions(ctx)
		if err != nil || !slices.Contains(last, list[0].Secrets.RefreshToken) {
			t.Errorf("the last change of the subscription is lost: %v", err)
		}
	})
}

// What no key of the ring opens stays as it is, and is counted.
func TestRotationLeavesWhatItCannotOpen(t *testing.T) {
	onBothDatabases(t, func(t *testing.T, d database) {
		p := populate(t, d.open(t), 3)
		damaged := slices.Concat(seal.Mark("master-1"), bytes.Repeat([]byte{7}, 60))
		foreign := slices.Concat(seal.Mark("lost"), bytes.Repeat([]byte{7}, 60))
		db := d.sql(t)
		for i, v := range [][]byte{damaged, foreign} {
			if _, err := db.Exec(`UPDATE citizen_key SET wrapped = $1 WHERE citizen = (SELECT id FROM citizen WHERE public_id = $2)`, v, p.citizens[i][:]); err != nil {
				t.Fatal(err)
			}
		}
		d.newKey(t, "master-2")
		st := d.open(t)
		done, err := st.Reseal(ctx, nil)
		if err != nil || done.Stuck != 2 || done.Done == 0 {
			t.Fatalf("%+v, %v", done, err)
		}
		if got := seals(t, st); got["master-1"] != 1 || got["lost"] != 1 || got["master-2"] != done.Done {
			t.Fatalf("the values are under %v", got)
		}
		var still int
		if err := db.QueryRow(`SELECT count(*) FROM citizen_key WHERE wrapped IN ($1, $2)`, damaged, foreign).Scan(&still); err != nil || still != 2 {
			t.Fatalf("%d of the two are as they were, %v", still, err)
		}
	})
}

// A column of bytes that nobody has classified would be left under the old key, which
// the operator then removes.
func TestEveryColumnOfBytesIsClassified(t *testing.T) {
	onBothDatabases(t, func(t *testing.T, d database) {
		st := d.open(t)
		populate(t, st, 3)
		list, err := st.CountSeals(ctx)
		if err != nil {
			t.Fatal(err)
		}
		var rotated []string
		for _, v := range list {
			rotated = append(rotated, v.Column)
		}
		db, query := d.sql(t), `SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'public' AND data_type = 'bytea'`
		if d.options.Dir != "" {
			query = `SELECT m.name, c.name FROM sqlite_master m, pragma_table_info(m.name) c WHERE m.type = 'table' AND upper(c.type) = 'BLOB'`
		}
		rows, err := db.Query(query)
		if err != nil {
			t.Fatal(err)
		}
		defer rows.Close()
		var all []string
		for rows.Next() {
			var table, column string
			if err := rows.Scan(&table, &column); err != nil {
				t.Fatal(err)
			}
			if table, _, part := strings.Cut(table, "attempt_"); part && table == "" { // a partition of attempt
				continue
			}
			all = append(all, table+"."+column)
		}
		if err := rows.Err(); err != nil {
			t.Fatal(err)
		}
		for _, name := range all {
			_, other := notUnderMasterKey[name]
			if other == slices.Contains(rotated, name) {
				t.Errorf("%s must be either in sealedColumns of rotate.go, if it is sealed under a master key, or in notUnderMasterKey here", name)
			}
			if !other {
				continue
			}
			table, column, _ := strings.Cut(name, ".")
			var n int
			if err := db.QueryRow(fmt.Sprintf(`SELECT count(*) FROM %s WHERE substr(%s, 1, 9) = $1`, table, column), seal.Mark("master-1")).Scan(&n); err != nil || n > 0 {
				t.Errorf("%d values of %s are sealed under a master key, %v", n, name, err)
			}
		}
		for _, name := range slices.Concat(rotated, slices.Sorted(maps.Keys(notUnderMasterKey))) {
			if !slices.Contains(all, name) {
				t.Errorf("there is no column %s of bytes", name)
			}
		}
	})
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// A value that somebody changes between its being read and its being replaced keeps that
// change. On SQLite the change comes from a trigger of the replacement before it; on
// PostgreSQL the replacement waits for a transaction that has changed it.
func TestRotationYieldsToAChange(t *testing.T) {
	onBothDatabases(t, func(t *testing.T, d database) {
		p := populate(t, d.open(t), 2)
		d.newKey(t, "master-2")
		st, db := d.open(t), d.sql(t)
		theirs := slices.Concat(seal.Mark("theirs"), bytes.Repeat([]byte{7}, 60))
		const second = `citizen = (SELECT id FROM citizen WHERE public_id = $1)`
		reseal := func() {
			if _, err := st.Reseal(ctx, nil); err != nil {
				t.Error(err)
			}
		}
		if d.options.Dir != "" {
			var id int64
			if err := db.QueryRow(`SELECT citizen FROM citizen_key WHERE `+second, p.citizens[1][:]).Scan(&id); err != nil {
				t.Fatal(err)
			}
			if _, err := db.Exec(fmt.Sprintf(`CREATE TRIGGER other AFTER UPDATE ON citizen_key WHEN NEW.citizen < %d
				BEGIN UPDATE citizen_key SET wrapped = x'%x' WHERE citizen = %[1]d; END`, id, theirs)); err != nil {
				t.Fatal(err)
			}
			reseal()
		} else {
			other, err := db.Begin()
			if err != nil {
				t.Fatal(err)
			}
			defer other.Rollback()
			if _, err := other.Exec(`UPDATE citizen_key SET wrapped = $2 WHERE `+second, p.citizens[1][:], theirs); err != nil {
				t.Fatal(err)
			}
			var rotation sync.WaitGroup
			rotation.Go(reseal)
			eventually(t, "the rotation waits for the change", func() bool {
				var waits int
				err := db.QueryRow(`SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid) WHERE NOT l.granted AND a.datname = current_database()`).Scan(&waits)
				return err == nil && waits > 0
			})
			if err := other.Commit(); err != nil {
				t.Fatal(err)
			}
			rotation.Wait()
		}
		var now []byte
		if err := db.QueryRow(`SELECT wrapped FROM citizen_key WHERE `+second, p.citizens[1][:]).Scan(&now); err != nil || !bytes.Equal(now, theirs) {
			t.Errorf("the change is lost: the value is under %q, %v", seal.KeyOf(now), err)
		}
	})
}

// eventually polls until ok holds.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("not in time: " + what)
		}
	}
}
