package store_test

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/internal/store"
	"github.com/opencpm/opencpm/internal/store/storetest"
)

const (
	count consent.JobKind = "count"
	other consent.JobKind = "other"
)

func createJob(t *testing.T, st *store.Store, app int64, kind consent.JobKind) store.Job {
	t.Helper()
	j, err := st.CreateJob(ctx, store.NewJob{Application: app, Kind: kind, Params: []byte(`{"ref":"CUST-1"}`)}, "test", store.Once{})
	if err != nil {
		t.Fatal(err)
	}
	return j
}

func claim(t *testing.T, st *store.Store, node string, ttl time.Duration, kinds ...consent.JobKind) (store.HeldJob, bool) {
	t.Helper()
	h, ok, err := st.ClaimJob(ctx, node, kinds, ttl)
	if err != nil {
		t.Fatal(err)
	}
	return h, ok
}

func readJob(t *testing.T, st *store.Store, app int64, id consent.ID) store.Job {
	t.Helper()
	j, err := st.Job(ctx, []int64{app}, id)
	if err != nil {
		t.Fatal(err)
	}
	return j
}

func readFile(t *testing.T, st *store.Store, j store.Job, file consent.JobFile) string {
	t.Helper()
	var text bytes.Buffer
	if err := st.ReadJobFile(ctx, j, file, func(piece []byte) error { text.Write(piece); return nil }); err != nil {
		t.Fatal(err)
	}
	return text.String()
}

// by gives a step that deals with so many items and adds a text to the result.
func by(done int64, text string, finished bool) func(context.Context, *store.JobTx) (store.Progress, error) {
	return func(ctx context.Context, x *store.JobTx) (store.Progress, error) {
		return store.Progress{Cursor: []byte(`"` + text + `"`), Done: done, Finished: finished}, x.Append(ctx, consent.JobResult, []byte(text))
	}
}

func TestAJobIsWorkedOffStepByStep(t *testing.T) {
	storetest.Both(t, func(t *testing.T, st *store.Store) {
		app := storetest.Application(t, st, "northwind").Application
		j := createJob(t, st, app, count)
		if j.State != consent.JobQueued || j.ApplicationID != "northwind" || j.CreatedBy != "test" || j.Total != nil {
			t.Fatalf("created %+v", j)
		}
		if _, ok := claim(t, st, "a", time.Minute, other); ok {
			t.Fatal("a node got a job of a kind that it does not know")
		}
		h, ok := claim(t, st, "a", time.Minute, other, count)
		if !ok || h.ID != j.ID || string(h.Params) != `{"ref":"CUST-1"}` || h.Cursor != nil || h.State != consent.JobRunning || h.StartedAt == 0 {
			t.Fatalf("claimed %v %+v", ok, h)
		}
		if _, ok := claim(t, st, "b", time.Minute, count); ok {
			t.Fatal("two nodes hold one job")
		}
		long := strings.Repeat("0123456789abcdef", 40_000) // 640 kB: in three pieces
		three := int64(3)
		h2, err := st.StepJob(ctx, h, func(ctx context.Context, x *store.JobTx) (store.Progress, error) {
			return store.Progress{Cursor: []byte(`1`), Done: 2, Failures: 1, Total: &three}, errors.Join(
				x.Append(ctx, consent.JobResult, []byte("head\n")), x.Append(ctx, consent.JobResult, []byte(long)), x.Append(ctx, consent.JobFailures, []byte("x")))
		})
		if err != nil || string(h2.Cursor) != `1` || h2.Done != 2 || h2.Failures != 1 || *h2.Total != 3 || h2.Rate <= 0 || h2.Version <= h.Version {
			t.Fatalf("stepped %+v, %v", h2, err)
		}
		// The same step once more, as by a holder that did not hear the answer.
		if _, err := st.StepJob(ctx, h, by(2, "again", false)); !errors.Is(err, store.ErrJobLost) {
			t.Fatalf("a step was taken twice: %v", err)
		}
		if again, err := st.RereadJob(ctx, h); err != nil || string(again.Cursor) != `1` {
			t.Fatalf("reread %+v, %v", again, err)
		}
		// A step that fails leaves nothing.
		if _, err := st.StepJob(ctx, h2, func(ctx context.Context, x *store.JobTx) (store.Progress, error) {
			return store.Progress{}, errors.Join(x.Append(ctx, consent.JobResult, []byte("never")), consent.Errorf(consent.Invalid, "No."))
		}); consent.KindOf(err) != consent.Invalid {
			t.Fatalf("a step that fails: %v", err)
		}
		h3, err := st.StepJob(ctx, h2, by(1, "tail", true))
		if err != nil || h3.State != consent.JobDone || h3.Done != 3 || h3.FinishedAt == 0 || h3.ExpiresAt != h3.FinishedAt.Add(7*24*time.Hour) || h3.Rate != 0 {
			t.Fatalf("ended %+v, %v", h3, err)
		}
		got := readJob(t, st, app, j.ID)
		if text := readFile(t, st, got, consent.JobResult); text != "head\n"+long+"tail" || got.Files[consent.JobResult] != int64(len(text)) {
			t.Fatalf("%d bytes of a result that should have %d", len(text), got.Files[consent.JobResult])
		}
		if text := readFile(t, st, got, consent.JobFailures); text != "x" {
			t.Fatalf("failures %q", text)
		}
		if _, err := st.StepJob(ctx, h3, by(1, "", false)); !errors.Is(err, store.ErrJobLost) {
			t.Fatalf("a step after the end: %v", err)
		}
		if _, ok := claim(t, st, "b", time.Minute, count); ok {
			t.Fatal("a job that ended is claimed")
		}
	})
}

// Whoever lost a job can change nothing any more, whatever they still believe.
func TestALostJobIsFencedOff(t *testing.T) {
	storetest.Both(t, func(t *testing.T, st *store.Store) {
		app := storetest.Application(t, st, "northwind").Application
		createJob(t, st, app, count)
		lost, _ := claim(t, st, "a", -time.Second, count) // a lease that is over already
		held, ok := claim(t, st, "b", time.Minute, count)
		if !ok || held.StartedAt != lost.StartedAt {
			t.Fatalf("not taken over: %+v after %+v", held, lost)
		}
		if _, err := st.StepJob(ctx, lost, by(1, "stale", false)); !errors.Is(err, store.ErrJobLost) {
			t.Errorf("a step: %v", err)
		}
		if err := st.EndJob(ctx, lost, consent.JobFailed, "stale"); !errors.Is(err, store.ErrJobLost) {
			t.Errorf("an end: %v", err)
		}
		if _, err := st.RereadJob(ctx, lost); !errors.Is(err, store.ErrJobLost) {
			t.Errorf("reading anew: %v", err)
		}
		if err := st.ReleaseJob(ctx, lost); err != nil {
			t.Error(err)
		}
		if still, err := st.RenewJobs(ctx, []store.HeldJob{lost}, time.Minute); err != nil || still[lost.Number] {
			t.Errorf("renewed: %v, %v", still, err)
		}
		if still, err := st.RenewJobs(ctx, []store.HeldJob{held}, time.Minute); err != nil || !still[held.Number] {
			t.Errorf("not renewed: %v, %v", still, err)
		}
		if _, ok := claim(t, st, "c", time.Minute, count); ok {
			t.Error("what the loser did let a third one in")
		}
		held, err := st.StepJob(ctx, held, by(1, "true", false))
		if err != nil {
			t.Fatal(err)
		}
		if err := st.ReleaseJob(ctx, held); err != nil {
			t.Fatal(err)
		}
		next, ok := claim(t, st, "c", time.Minute, count)
		if !ok || string(next.Cursor) != `"true"` || next.Done != 1 {
			t.Fatalf("after a release: %v %+v", ok, next)
		}
	})
}

// Of one kind and application one job runs at a time, the oldest first; others wait for
// nobody.
func TestJobsOfOneKindFollowEachOther(t *testing.T) {
	storetest.Both(t, func(t *testing.T, st *store.Store) {
		app := storetest.Application(t, st, "northwind").Application
		app2 := storetest.Application(t, st, "globex").Application
		first, second := createJob(t, st, app, count), createJob(t, st, app, count)
		foreign, kin := createJob(t, st, app2, count), createJob(t, st, app, other)
		var mu sync.Mutex
		got := map[consent.ID]store.HeldJob{}
		var all sync.WaitGroup
		for range 8 { // at once
			all.Go(func() {
				h, ok, err := st.ClaimJob(ctx, store.NewID().String(), []consent.JobKind{count, other}, time.Minute)
				mu.Lock()
				defer mu.Unlock()
				if _, twice := got[h.ID]; err != nil || ok && twice {
					t.Errorf("claimed %v %v %v", h.ID, ok, err)
				}
				if ok {
					got[h.ID] = h
				}
			})
		}
		all.Wait()
		for {
			h, ok := claim(t, st, "last", time.Minute, count, other)
			if !ok {
				break
			}
			got[h.ID] = h
		}
		if _, early := got[second.ID]; len(got) != 3 || early {
			t.Fatalf("running: %v of %v", got, []consent.ID{first.ID, second.ID, foreign.ID, kin.ID})
		}
		if _, err := st.StepJob(ctx, got[first.ID], by(0, "", true)); err != nil {
			t.Fatal(err)
		}
		if h, ok := claim(t, st, "last", time.Minute, count, other); !ok || h.ID != second.ID {
			t.Fatalf("after the first: %v", h.ID)
		}
	})
}

func TestCancelling(t *testing.T) {
	storetest.Both(t, func(t *testing.T, st *store.Store) {
		app := storetest.Application(t, st, "northwind").Application
		running, queued := createJob(t, st, app, count), createJob(t, st, app, count)
		h, _ := claim(t, st, "a", time.Minute, count)
		if _, _, err := st.CancelJob(ctx, []int64{app + 1}, queued.ID, "test"); !errors.Is(err, store.ErrNoJob) {
			t.Fatalf("somebody else's job: %v", err)
		}
		if j, ended, err := st.CancelJob(ctx, []int64{app}, queued.ID, "test"); err != nil || !ended || j.State != consent.JobCancelled || j.ExpiresAt == 0 {
			t.Fatalf("cancelled %+v, %v", j, err)
		}
		if j, ended, err := st.CancelJob(ctx, []int64{app}, running.ID, "test"); err != nil || ended || j.State != consent.JobRunning || !j.Cancelled {
			t.Fatalf("asked for the end: %+v, %v", j, err)
		}
		h, err := st.StepJob(ctx, h, by(1, "x", false)) // the step that was under way
		if err != nil || !h.Cancelled {
			t.Fatalf("stepped %+v, %v", h, err)
		}
		if err := st.EndJob(ctx, h, consent.JobCancelled, ""); err != nil {
			t.Fatal(err)
		}
		before := readJob(t, st, app, running.ID)
		if j, ended, err := st.CancelJob(ctx, []int64{app}, running.ID, "test"); err != nil || ended || j.State != consent.JobCancelled || j.Version != before.Version {
			t.Fatalf("cancelled again: %+v, %v", j, err)
		}
	})
}

func TestListingJobs(t *testing.T) {
	storetest.Both(t, func(t *testing.T, st *store.Store) {
		app := storetest.Application(t, st, "northwind").Application
		app2 := storetest.Application(t, st, "globex").Application
		a, b := createJob(t, st, app, count), createJob(t, st, app, other)
		createJob(t, st, app2, count)
		h, _ := claim(t, st, "a", time.Minute, other)
		h, err := st.StepJob(ctx, h, by(1, "x", true))
		if err != nil {
			t.Fatal(err)
		}
		ids := func(f store.JobFilter) (list []consent.ID) {
			t.Helper()
			f.Limit, f.Total = 10, true
			jobs, total, err := st.Jobs(ctx, f)
			if err != nil || int(total) != len(jobs) && f.After == 0 {
				t.Fatalf("%d jobs of %d, %v", len(jobs), total, err)
			}
			for _, j := range jobs {
				list = append(list, j.ID)
			}
			return list
		}
		for name, test := range map[string]struct {
			filter store.JobFilter
			want   []consent.ID
		}{
			"all":     {store.JobFilter{Applications: []int64{app}}, []consent.ID{b.ID, a.ID}},
			"a kind":  {store.JobFilter{Applications: []int64{app}, Kind: count}, []consent.ID{a.ID}},
			"a state": {store.JobFilter{Applications: []int64{app}, State: consent.JobDone}, []consent.ID{b.ID}},
			"both":    {store.JobFilter{Applications: []int64{app}, State: consent.JobDone, Kind: count}, nil},
			"page":    {store.JobFilter{Applications: []int64{app}, After: b.Number}, []consent.ID{a.ID}},
		} {
			if got := ids(test.filter); len(got) != len(test.want) || len(got) > 0 && (got[0] != test.want[0] || got[len(got)-1] != test.want[len(got)-1]) {
				t.Errorf("%s: %v, want %v", name, got, test.want)
			}
		}
		if live, err := st.LiveJobs(ctx, app, h.FinishedAt); err != nil || len(live) != 1 || live[0].ID != a.ID {
			t.Errorf("live: %+v, %v", live, err)
		}
		if live, err := st.LiveJobs(ctx, app, h.FinishedAt-1); err != nil || len(live) != 2 {
			t.Errorf("live or ended of late: %+v, %v", live, err)
		}
	})
}

// What a job was told and what it wrote is sealed where it lies.
func TestJobsAreSealed(t *testing.T) {
	dir := t.TempDir()
	st := storetest.Open(t, store.Options{Dir: dir, Keys: storetest.Keys(t)})
	app := storetest.Application(t, st, "northwind").Application
	createJob(t, st, app, count)
	h, _ := claim(t, st, "a", time.Minute, count)
	if _, err := st.StepJob(ctx, h, by(1, "CUST-1", true)); err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("sqlite", "file:"+filepath.Join(dir, store.SQLiteFile)+"?_pragma=busy_timeout(10000)")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for query, what := range map[string]string{"SELECT params FROM job": "params", "SELECT cursor FROM job": "cursor", "SELECT sealed FROM job_file": "file"} {
		var raw []byte
		if err := db.QueryRow(query).Scan(&raw); err != nil {
			t.Fatal(err)
		}
		if len(raw) == 0 || bytes.Contains(raw, []byte("CUST-1")) {
			t.Errorf("the %s of a job lies open", what)
		}
	}
}

// A client that repeats its request makes one job.
func TestAJobIsCreatedOnce(t *testing.T) {
	storetest.Both(t, func(t *testing.T, st *store.Store) {
		app := storetest.Application(t, st, "northwind").Application
		once := store.Once{Credential: "test", Route: "create job", Key: "k", Request: []byte("r")}
		n := store.NewJob{Application: app, Kind: count, Params: []byte(`{}`)}
		a, err := st.CreateJob(ctx, n, "test", once)
		if err != nil {
			t.Fatal(err)
		}
		b, err := st.CreateJob(ctx, n, "test", once)
		if err != nil || a.ID != b.ID || a.CreatedAt != b.CreatedAt {
			t.Fatalf("%+v after %+v, %v", b, a, err)
		}
		if _, total, err := st.Jobs(ctx, store.JobFilter{Applications: []int64{app}, Limit: 1, Total: true}); err != nil || total != 1 {
			t.Fatalf("%d jobs, %v", total, err)
		}
	})
}
