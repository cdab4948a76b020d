package jobs

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/internal/seal"
	"github.com/opencpm/opencpm/internal/store"
	"github.com/opencpm/opencpm/internal/store/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var ctx = context.Background()

// counting is a kind of work that writes the numbers up to its parameter, some in each
// step: whatever is repeated or left out shows in the result.
type counting struct {
	mu    sync.Mutex
	takes time.Duration // each step; zero for a second
	steps int
	fails func(step int) error // what the n-th step fails with, before its effect
	after func(step int) error // the same, in its effect
}

const count consent.JobKind = "count"

func (c *counting) kind() Kind {
	return Kind{Name: count, Step: func(ctx context.Context, _ *store.Store, job store.HeldJob) (Effect, error) {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(cmp.Or(c.takes, time.Second)):
		}
		c.mu.Lock()
		c.steps++
		step := c.steps
		c.mu.Unlock()
		if c.fails != nil {
			if err := c.fails(step); err != nil {
				return nil, err
			}
		}
		var most, at int64
		if err := json.Unmarshal(job.Params, &most); err != nil {
			return nil, err
		}
		if job.Cursor != nil {
			if err := json.Unmarshal(job.Cursor, &at); err != nil {
				return nil, err
			}
		}
		return func(ctx context.Context, x *store.JobTx) (store.Progress, error) {
			to := min(at+int64(Batch(job, 10)), most)
			var text strings.Builder
			for i := at; i < to; i++ {
				fmt.Fprintln(&text, i)
			}
			if err := x.Append(ctx, consent.JobResult, []byte(text.String())); err != nil {
				return store.Progress{}, err
			}
			if c.after != nil {
				if err := c.after(step); err != nil {
					return store.Progress{}, err
				}
			}
			return store.Progress{Cursor: fmt.Append(nil, to), Done: to - at, Total: &most, Finished: to == most}, nil
		}, nil
	}}
}

// world is a store and an application in a bubble of fake time.
type world struct {
	t     *testing.T
	st    *store.Store
	app   int64
	kind  *counting
	mu    sync.Mutex
	ended map[consent.JobState]int
}

func inBubble(t *testing.T, kind *counting, test func(t *testing.T, w *world)) {
	t.Helper()
	dir, keys := t.TempDir(), storetest.Keys(t)
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t, kind: kind, ended: map[consent.JobState]int{}}
		w.open(dir, keys)
		w.app = storetest.Application(t, w.st, "northwind").Application
		defer func() {
			if err := w.st.Close(); err != nil {
				t.Error(err)
			}
		}()
		test(t, w)
	})
}

func (w *world) open(dir string, keys *seal.Keyring) {
	w.t.Helper()
	st, err := store.Open(ctx, store.Options{Dir: dir, Keys: keys})
	if err != nil {
		w.t.Fatal(err)
	}
	w.st = st
}

// start runs a runner until stop is called.
func (w *world) start() (stop func()) {
	r := NewRunner(w.st, Options{Kinds: []Kind{w.kind.kind(), LedgerCheck}, Ended: func(_ consent.JobKind, s consent.JobState) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.ended[s]++
	}})
	run, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() { r.Run(run); close(done) }()
	return func() { cancel(); <-done }
}

func (w *world) create(kind consent.JobKind, most, perSecond int64) consent.ID {
	w.t.Helper()
	j, err := w.st.CreateJob(ctx, store.NewJob{Application: w.app, Kind: kind, Params: fmt.Append(nil, most), PerSecond: perSecond}, "test", store.Once{})
	if err != nil {
		w.t.Fatal(err)
	}
	return j.ID
}

func (w *world) read(id consent.ID) store.Job {
	w.t.Helper()
	j, err := w.st.Job(ctx, []int64{w.app}, id)
	if err != nil {
		w.t.Fatal(err)
	}
	return j
}

func (w *world) file(id consent.ID, name consent.JobFile) string {
	w.t.Helper()
	var text bytes.Buffer
	if err := w.st.ReadJobFile(ctx, w.read(id), name, func(p []byte) error { text.Write(p); return nil }); err != nil {
		w.t.Fatal(err)
	}
	return text.String()
}

// counted requires that the result holds the numbers up to n, each once.
func (w *world) counted(id consent.ID, n int64) {
	w.t.Helper()
	var want strings.Builder
	for i := range n {
		fmt.Fprintln(&want, i)
	}
	if got := w.file(id, consent.JobResult); got != want.String() {
		w.t.Fatalf("the result has %d lines, or others than the numbers up to %d", strings.Count(got, "\n"), n)
	}
	if j := w.read(id); j.Done != n {
		w.t.Fatalf("done %d of %d", j.Done, n)
	}
}

func TestAJobRunsToItsEnd(t *testing.T) {
	inBubble(t, &counting{}, func(t *testing.T, w *world) {
		defer w.start()()
		id := w.create(count, 95, 0)
		time.Sleep(5500 * time.Millisecond)
		if j := w.read(id); j.State != consent.JobRunning || j.Done != 50 || *j.Total != 95 || j.Rate < 9.9 || j.Rate > 10.1 {
			t.Fatalf("half way: %+v", j)
		}
		time.Sleep(5 * time.Second)
		if j := w.read(id); j.State != consent.JobDone || j.FinishedAt-j.CreatedAt < 9_900_000 || j.Error != "" {
			t.Fatalf("at the end: %+v", j)
		}
		w.counted(id, 95)
		if w.ended[consent.JobDone] != 1 {
			t.Errorf("told of the ends %v", w.ended)
		}
	})
}

// A clean stop gives the job up at once, and what goes on with it repeats and skips
// nothing.
func TestAStoppedJobGoesOn(t *testing.T) {
	inBubble(t, &counting{}, func(t *testing.T, w *world) {
		id := w.create(count, 200, 0)
		for range 4 {
			stop := w.start()
			time.Sleep(3300 * time.Millisecond) // in the middle of a step
			stop()
		}
		before := w.read(id)
		if before.State != consent.JobRunning || before.Done != 120 {
			t.Fatalf("after four times three steps: %+v", before)
		}
		if _, ok, err := w.st.ClaimJob(ctx, "other", []consent.JobKind{count}, -time.Second); err != nil || !ok {
			t.Fatalf("not free for another node: %v %v", ok, err)
		}
		defer w.start()()
		time.Sleep(8100 * time.Millisecond)
		if j := w.read(id); j.State != consent.JobDone || j.StartedAt != before.StartedAt {
			t.Fatalf("at the end: %+v", j)
		}
		w.counted(id, 200)
	})
}

// A node that dies says nothing: another one takes its job over when the lease ends.
func TestADeadNodesJobIsTakenOver(t *testing.T) {
	inBubble(t, &counting{}, func(t *testing.T, w *world) {
		id := w.create(count, 50, 0)
		dead, ok, err := w.st.ClaimJob(ctx, "dead", []consent.JobKind{count}, leaseTTL)
		if err != nil || !ok {
			t.Fatal(ok, err)
		}
		effect, err := w.kind.kind().Step(ctx, w.st, dead)
		if err != nil {
			t.Fatal(err)
		}
		if dead, err = w.st.StepJob(ctx, dead, effect); err != nil {
			t.Fatal(err)
		}
		r := NewRunner(w.st, Options{Kinds: []Kind{w.kind.kind()}})
		run, cancel := context.WithCancel(ctx)
		var all sync.WaitGroup
		defer func() { cancel(); all.Wait() }()
		news := time.NewTicker(lookAnyway) // Run without its beginning, which would free the job: there is one process on SQLite
		defer news.Stop()
		for range 3 {
			if err := r.claim(run, &all); err != nil || r.count() != 0 {
				t.Fatalf("taken over %d too early, %v", r.count(), err)
			}
			<-news.C
		}
		time.Sleep(leaseTTL)
		if err := r.claim(run, &all); err != nil || r.count() != 1 {
			t.Fatalf("taken over %d, %v", r.count(), err)
		}
		if _, err := w.st.StepJob(ctx, dead, effect); err == nil {
			t.Error("the dead node's step was committed")
		}
		time.Sleep(4500 * time.Millisecond)
		w.counted(id, 50)
	})
}

func TestTwoRunnersShareTheJobs(t *testing.T) {
	inBubble(t, &counting{}, func(t *testing.T, w *world) {
		defer w.start()()
		defer w.start()()
		time.Sleep(time.Second)
		first, second := w.create(count, 60, 0), w.create(count, 40, 0)
		time.Sleep(5900 * time.Millisecond)
		if a, b := w.read(first), w.read(second); a.Done != 50 || b.State != consent.JobQueued {
			t.Fatalf("one after the other: %+v, %+v", a, b)
		}
		time.Sleep(6 * time.Second)
		w.counted(first, 60)
		w.counted(second, 40)
		if w.kind.steps != 10 {
			t.Errorf("%d steps were taken for 10", w.kind.steps)
		}
	})
}

// A node works on two jobs at once, of different applications or kinds.
func TestANodeHasTwoSlots(t *testing.T) {
	inBubble(t, &counting{}, func(t *testing.T, w *world) {
		defer w.start()()
		var ids []consent.ID
		for _, name := range []string{"a", "b", "c"} {
			app := storetest.Application(t, w.st, name).Application
			j, err := w.st.CreateJob(ctx, store.NewJob{Application: app, Kind: count, Params: []byte(`30`)}, "test", store.Once{})
			if err != nil {
				t.Fatal(err)
			}
			ids = append(ids, j.ID)
		}
		state := func() (all string) {
			for n, id := range ids {
				j, err := w.st.Job(ctx, []int64{w.app + int64(n) + 1}, id)
				if err != nil {
					t.Fatal(err)
				}
				all += string(j.State) + " "
			}
			return all
		}
		time.Sleep(2500 * time.Millisecond)
		if got := state(); got != "running running queued " {
			t.Errorf("at first %s", got)
		}
		time.Sleep(time.Second)
		if got := state(); got != "done done running " {
			t.Errorf("then %s", got)
		}
	})
}

func TestAJobIsCancelled(t *testing.T) {
	inBubble(t, &counting{}, func(t *testing.T, w *world) {
		defer w.start()()
		id := w.create(count, 1000, 0)
		time.Sleep(2500 * time.Millisecond)
		if _, _, err := w.st.CancelJob(ctx, []int64{w.app}, id, "test"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if j := w.read(id); j.State != consent.JobCancelled || j.Done != 30 || j.Files[consent.JobResult] == 0 {
			t.Fatalf("cancelled in a step: %+v", j)
		}
		w.counted(id, 30)

		w.kind.fails = func(int) error { return consent.Errorf(consent.Unavailable, "away") }
		slow := w.create(count, 1000, 0)
		time.Sleep(time.Minute) // by now the pauses are long
		if _, _, err := w.st.CancelJob(ctx, []int64{w.app}, slow, "test"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2100 * time.Millisecond)
		if j := w.read(slow); j.State != consent.JobCancelled {
			t.Fatalf("cancelled in a pause: %+v", j)
		}
		if w.ended[consent.JobCancelled] != 2 {
			t.Errorf("told of the ends %v", w.ended)
		}
	})
}

// An outage delays a job; whatever else fails ends it, with a sentence that may be shown.
func TestFailures(t *testing.T) {
	for name, test := range map[string]struct {
		fails, after func(int) error
		want         consent.JobState
		says         string
	}{
		"an outage before the effect": {fails: first(5, consent.Errorf(consent.Unavailable, "away")), want: consent.JobDone},
		"an outage in the effect":     {after: first(5, consent.Errorf(consent.Unavailable, "away")), want: consent.JobDone},
		"a full disk":                 {after: first(3, consent.Errorf(consent.Full, "full")), want: consent.JobDone},
		"a clash":                     {after: first(maxClashes, consent.Errorf(consent.Conflict, "clash")), want: consent.JobDone},
		"a clash that lasts":          {after: first(1000, consent.Errorf(consent.Conflict, "It clashes.")), want: consent.JobFailed, says: "It clashes."},
		"a reason":                    {fails: first(1000, consent.Errorf(consent.Invalid, "The file is empty.")), want: consent.JobFailed, says: "The file is empty."},
		"a reason in the effect":      {after: first(1000, consent.Errorf(consent.Invalid, "The file is empty.")), want: consent.JobFailed, says: "The file is empty."},
		"a bug":                       {fails: first(1000, fmt.Errorf("secret")), want: consent.JobFailed, says: "Internal error."},
		"a panic":                     {fails: func(int) error { panic("secret") }, want: consent.JobFailed, says: "Internal error."},
		"a panic in the effect":       {after: func(int) error { panic("secret") }, want: consent.JobFailed, says: "Internal error."},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, &counting{fails: test.fails, after: test.after}, func(t *testing.T, w *world) {
				defer w.start()()
				id := w.create(count, 25, 0)
				time.Sleep(10 * time.Minute)
				j := w.read(id)
				if j.State != test.want || !strings.HasPrefix(j.Error, test.says) || strings.Contains(j.Error, "secret") || (j.Error == "") != (test.says == "") {
					t.Fatalf("ended %+v", j)
				}
				if test.want == consent.JobDone {
					w.counted(id, 25)
				} else {
					w.counted(id, 0)
				}
			})
		})
	}
}

// first fails with err up to the n-th step.
func first(n int, err error) func(int) error {
	return func(step int) error {
		if step <= n {
			return err
		}
		return nil
	}
}

func TestTheRateIsKept(t *testing.T) {
	inBubble(t, &counting{takes: time.Millisecond}, func(t *testing.T, w *world) {
		defer w.start()()
		id := w.create(count, 30, 2)
		time.Sleep(10100 * time.Millisecond)
		if j := w.read(id); j.Done > 22 || j.Done < 18 || j.Rate > 2.3 {
			t.Fatalf("after 10 s at 2 a second: %+v", j)
		}
		time.Sleep(6 * time.Second)
		w.counted(id, 30)
	})
}

// The files go seven days after the end; what happened stays.
func TestFilesExpire(t *testing.T) {
	inBubble(t, &counting{}, func(t *testing.T, w *world) {
		stop := w.start()
		id := w.create(count, 10, 0)
		time.Sleep(2 * time.Second)
		stop()
		forget := func() {
			run, cancel := context.WithTimeout(ctx, 2*forgetEvery)
			defer cancel()
			Run(run, w.st, slog.Default())
		}
		time.Sleep(7*24*time.Hour - 5*forgetEvery)
		forget()
		if w.read(id).Expired() {
			t.Fatal("expired too early")
		}
		w.counted(id, 10)
		time.Sleep(5 * forgetEvery)
		forget()
		j := w.read(id)
		if !j.Expired() || j.Done != 10 || j.State != consent.JobDone {
			t.Fatalf("expired: %+v", j)
		}
		if err := w.st.ReadJobFile(ctx, j, consent.JobResult, func([]byte) error { return nil }); err == nil {
			t.Error("the file can still be read")
		}
	})
}

func TestLedgerCheck(t *testing.T) {
	inBubble(t, &counting{}, func(t *testing.T, w *world) {
		other := storetest.Application(t, w.st, "globex").Application
		for i := range 50 {
			for _, app := range []int64{w.app, other} {
				if _, err := w.st.Record(ctx, app, consent.CitizenKey{ExternalRef: fmt.Sprint(i)}, storetest.Transaction("newsletter-email", consent.Consent, consent.Granted), store.Once{}); err != nil {
					t.Fatal(err)
				}
			}
		}
		defer w.start()()
		id := w.create(consent.LedgerCheck, 0, 15)
		time.Sleep(5 * time.Second)
		var summary checkSummary
		if err := json.Unmarshal([]byte(w.file(id, consent.JobResult)), &summary); err != nil {
			t.Fatal(err)
		}
		j := w.read(id)
		if summary.Citizens != 50 || summary.Records != 50 || summary.Failed != 0 || summary.ApplicationID != "northwind" ||
			j.State != consent.JobDone || j.Done != 50 || *j.Total != 50 || j.Failures != 0 || j.Files[consent.JobFailures] != 0 {
			t.Fatalf("%+v, %+v", summary, j)
		}
		if took := time.Duration(j.FinishedAt-j.StartedAt) * time.Microsecond; took < 3*time.Second || took > 5*time.Second {
			t.Errorf("50 citizens at 15 a second took %v", took)
		}
	})
}
