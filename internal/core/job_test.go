package core

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/internal/store"
	"github.com/opencpm/opencpm/internal/store/storetest"
)

var ctx = context.Background()

// watched is a watch of the jobs of an application in a bubble of fake time.
type watched struct {
	t     *testing.T
	st    *store.Store
	app   int64
	actor Actor
	svc   *Service
	stop  func() // ends the service
}

func watching(t *testing.T, test func(t *testing.T, w *watched)) {
	t.Helper()
	dir, keys := t.TempDir(), storetest.Keys(t)
	synctest.Test(t, func(t *testing.T) {
		st, err := store.Open(ctx, store.Options{Dir: dir, Keys: keys})
		if err != nil {
			t.Fatal(err)
		}
		w := &watched{t: t, st: st, app: storetest.Application(t, st, "northwind").Application, svc: New(st, Options{})}
		w.actor = Actor{ID: "test", Applications: []int64{w.app}, Scopes: consent.Scopes}
		run, stop := context.WithCancel(ctx)
		ended := make(chan struct{})
		go func() { w.svc.Run(run); close(ended) }()
		w.stop = func() { stop(); <-ended }
		test(t, w)
		w.stop()
		if err := st.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

func (w *watched) watch() *JobWatch {
	w.t.Helper()
	watch, err := w.svc.WatchJobs(ctx, w.actor, "northwind")
	if err != nil {
		w.t.Fatal(err)
	}
	return watch
}

func (w *watched) create() store.Job {
	w.t.Helper()
	j, err := w.svc.CreateJob(ctx, w.actor, Request{}, NewJob{ApplicationID: "northwind", Kind: consent.LedgerCheck})
	if err != nil {
		w.t.Fatal(err)
	}
	return j
}

// step takes a step of a job as a node would.
func (w *watched) step(h store.HeldJob, finished bool) store.HeldJob {
	w.t.Helper()
	h, err := w.st.StepJob(ctx, h, func(context.Context, *store.JobTx) (store.Progress, error) {
		return store.Progress{Cursor: []byte(`1`), Done: 1, Finished: finished}, nil
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return h
}

func (w *watched) claim() store.HeldJob {
	w.t.Helper()
	h, ok, err := w.st.ClaimJob(ctx, "node", consent.JobKinds, time.Hour)
	if err != nil || !ok {
		w.t.Fatal(ok, err)
	}
	return h
}

func TestJobWatch(t *testing.T) {
	watching(t, func(t *testing.T, w *watched) {
		over := w.create()
		w.step(w.claim(), true)
		first := w.create()
		watch := w.watch()
		defer watch.Close()
		if list, ok := watch.Next(ctx); !ok || len(list) != 1 || list[0].ID != first.ID {
			t.Fatalf("at first %+v, not %s alone; %s is over", list, first.ID, over.ID)
		}
		began := time.Now()
		if list, ok := watch.Next(ctx); !ok || len(list) != 0 || time.Since(began) != watchQuiet {
			t.Fatalf("%+v after %v of nothing", list, time.Since(began))
		}
		// A hundred steps within a second are told four times, the last of them for sure.
		h, told, stepped := w.claim(), 0, make(chan struct{})
		go func() {
			defer close(stepped)
			for range 100 {
				time.Sleep(10 * time.Millisecond)
				h = w.step(h, false)
			}
		}()
		for done := int64(0); done < 100; told++ {
			list, ok := watch.Next(ctx)
			if !ok || len(list) != 1 || list[0].Done < done {
				t.Fatalf("after %d: %+v", done, list)
			}
			done = list[0].Done
		}
		if told < 3 || told > 6 {
			t.Errorf("a second of steps was told %d times", told)
		}
		<-stepped
		// One that begins and ends between two looks is told of, too.
		w.step(h, true)
		short := w.create()
		w.step(w.claim(), true)
		heard := map[consent.ID]consent.JobState{}
		for len(heard) < 2 {
			list, ok := watch.Next(ctx)
			if !ok {
				t.Fatal("ended")
			}
			for _, j := range list {
				heard[j.ID] = j.State
			}
		}
		if heard[first.ID] != consent.JobDone || heard[short.ID] != consent.JobDone {
			t.Errorf("heard %v", heard)
		}
		time.AfterFunc(time.Second, w.stop)
		if _, ok := watch.Next(ctx); ok {
			t.Error("went on after the end of the service")
		}
	})
}

// Whoever did not look for long still hears how the jobs they know of ended.
func TestJobWatchAfterAPause(t *testing.T) {
	watching(t, func(t *testing.T, w *watched) {
		job := w.create()
		watch := w.watch()
		defer watch.Close()
		if list, ok := watch.Next(ctx); !ok || len(list) != 1 {
			t.Fatalf("at first %+v", list)
		}
		w.step(w.claim(), true)
		time.Sleep(10 * time.Minute)
		if list, ok := watch.Next(ctx); !ok || len(list) != 1 || list[0].ID != job.ID || list[0].State != consent.JobDone {
			t.Fatalf("after the pause %+v", list)
		}
		if list, ok := watch.Next(ctx); !ok || len(list) != 0 {
			t.Fatalf("told again: %+v", list)
		}
	})
}
