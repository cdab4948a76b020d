package jobs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime/debug"
	"sync"
	"time"

	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/internal/store"
)

// Kind is a kind of long work.
type Kind struct {
	Name consent.JobKind
	Step Step
	// Open, where set, gives the Step of each job that a node takes, for one that keeps
	// something from step to step. close is called when the node lets go of the job.
	Open func() (step Step, close func())
}

// open gives the Step for a job that a node takes.
func (k Kind) open() (step Step, close func()) {
	if k.Open == nil {
		return k.Step, func() {}
	}
	return k.Open()
}

// Step does the next part of the work, about a second of it at most and Batch items:
// it reads and reckons what it needs and gives the effect of it, which is committed
// together with the progress, once. It may be called again for a part whose effect was
// not committed, so it must change nothing by itself.
//
// An error with a sentence for the user (consent.Error) ends the job as failed and
// shows the sentence; where the database is away or full the step is tried again.
type Step func(ctx context.Context, st *store.Store, job store.HeldJob) (Effect, error)

// Effect is what a step changes, by the transaction it is given. It may be called several
// times, of which one counts, and holds up other writers while it runs.
type Effect func(ctx context.Context, x *store.JobTx) (store.Progress, error)

// Batch is how many items a step should take: most, or what its job is allowed in a second.
func Batch(job store.HeldJob, most int) int {
	if job.PerSecond > 0 {
		return int(min(job.PerSecond, int64(most)))
	}
	return most
}

// Options are what a runner is made of.
type Options struct {
	Kinds []Kind // jobs of other kinds are left to other nodes
	Log   *slog.Logger
	// Ended, where set, is told of every job that ended in the hands of this node.
	Ended func(consent.JobKind, consent.JobState)
	// Running, where set, is told how many jobs this node holds, whenever that changes.
	Running func(int)
}

// slots is how many jobs a node works on at once.
const slots = 2

// The lease of a job: a dead node's is taken over within leaseTTL plus lookAnyway.
const (
	leaseTTL     = 8 * time.Second
	leaseRenewal = 2 * time.Second
	lookAnyway   = time.Second // how often to look for jobs, and for the end of one that waits
)

// The pauses after a step that failed: doubling, and between half and all of it.
const (
	firstBackoff = time.Second
	maxBackoff   = 30 * time.Second
)

// maxClashes is how many times in a row a step may clash with other writers.
const maxClashes = 5

// Runner works on the jobs of one store, which any number of nodes share: each job is in
// the hands of one of them.
type Runner struct {
	store *store.Store
	o     Options
	node  string
	kinds map[consent.JobKind]Kind
	names []consent.JobKind
	freed chan struct{} // a slot is free

	mu   sync.Mutex
	held map[int64]*holding
}

// holding is a job in the hands of this node.
type holding struct {
	job  store.HeldJob // as it was claimed
	drop context.CancelFunc
}

// NewRunner makes a runner; Run starts it.
func NewRunner(st *store.Store, o Options) *Runner {
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.Ended == nil {
		o.Ended = func(consent.JobKind, consent.JobState) {}
	}
	if o.Running == nil {
		o.Running = func(int) {}
	}
	r := &Runner{store: st, o: o, node: store.NewID().String(), kinds: map[consent.JobKind]Kind{}, freed: make(chan struct{}, 1), held: map[int64]*holding{}}
	for _, k := range o.Kinds {
		r.kinds[k.Name] = k
		r.names = append(r.names, k.Name)
	}
	return r
}

// Run works until ctx ends, then gives up its jobs between two steps, so that another
// node, or the next process, goes on with them at once.
func (r *Runner) Run(ctx context.Context) {
	var workers sync.WaitGroup
	defer workers.Wait()
	if err := r.store.ReleaseDeadJobs(ctx); err != nil && ctx.Err() == nil {
		r.o.Log.Warn("the jobs of the process before cannot be taken over; they wait for the end of their leases", "error", err)
	}
	news, stop := r.store.JobsChanged()
	defer stop()
	poll, renew := time.NewTicker(lookAnyway), time.NewTicker(leaseRenewal)
	defer poll.Stop()
	defer renew.Stop()
	for {
		if err := r.claim(ctx, &workers); err != nil && ctx.Err() == nil {
			r.o.Log.Warn("jobs cannot be looked for", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-news:
		case <-r.freed:
		case <-poll.C:
		case <-renew.C:
			r.renew(ctx)
		}
	}
}

// claim takes jobs while there are some and a slot is free.
func (r *Runner) claim(ctx context.Context, workers *sync.WaitGroup) error {
	for ctx.Err() == nil && r.count() < slots {
		job, ok, err := r.store.ClaimJob(ctx, r.node, r.names, leaseTTL)
		if err != nil || !ok {
			return err
		}
		run, drop := context.WithCancel(ctx)
		r.mu.Lock()
		r.held[job.Number] = &holding{job, drop}
		r.o.Running(len(r.held))
		r.mu.Unlock()
		workers.Go(func() {
			defer drop()
			r.work(run, job)
			r.mu.Lock()
			defer r.mu.Unlock()
			delete(r.held, job.Number)
			r.o.Running(len(r.held))
			select {
			case r.freed <- struct{}{}:
			default:
			}
		})
	}
	return nil
}

func (r *Runner) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.held)
}

// renew renews the leases and drops what is lost. Where that fails the work goes on:
// what is lost by then is refused.
func (r *Runner) renew(ctx context.Context) {
	r.mu.Lock()
	list := make([]store.HeldJob, 0, len(r.held))
	for _, h := range r.held {
		list = append(list, h.job)
	}
	r.mu.Unlock()
	if len(list) == 0 {
		return
	}
	still, err := r.store.RenewJobs(ctx, list, leaseTTL)
	if err != nil {
		if ctx.Err() == nil {
			r.o.Log.Warn("the leases of jobs cannot be renewed", "error", err)
		}
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, job := range list {
		if h := r.held[job.Number]; h != nil && !still[job.Number] {
			h.drop()
		}
	}
}

// work takes the steps of a job until it ends, is lost, or ctx ends.
func (r *Runner) work(ctx context.Context, job store.HeldJob) {
	log := r.o.Log.With("job", job.ID.String(), "kind", string(job.Kind))
	log.Info("a job is worked on", "done", job.Done)
	step, letGo := r.kinds[job.Kind].open()
	defer letGo()
	var end consent.JobState // that the job is to have, once there is one
	var why string
	for failed := 0; ctx.Err() == nil; {
		began, err := time.Now(), error(nil)
		if job.Cancelled && end == "" {
			end = consent.JobCancelled
		}
		next := job
		if end != "" {
			err = r.store.EndJob(ctx, job, end, why)
			next.State = end
		} else {
			next, err = r.step(ctx, step, job)
		}
		switch {
		case err == nil && next.State.Ended():
			log.Info("a job ended", "state", string(next.State), "done", next.Done)
			r.o.Ended(job.Kind, next.State)
			return
		case err == nil:
			failed = 0
			r.pause(ctx, next, pace(next, next.Done-job.Done)-time.Since(began))
			job = next
		case ctx.Err() != nil:
		case !passes(err, failed):
			log.Error("a job failed", "error", err)
			end, why = consent.JobFailed, sentence(err)
			continue
		default:
			if failed++; !errors.Is(err, store.ErrJobLost) {
				log.Warn("a step of a job failed and is tried again", "error", err)
				r.pause(ctx, job, backoff(failed))
			}
		}
		// As it is now: perhaps the commit that seemed to fail did not, perhaps somebody
		// asked for the end.
		switch now, err := r.store.RereadJob(ctx, job); {
		case err == nil:
			job = now
		case errors.Is(err, store.ErrJobLost):
			log.Warn("a job was lost to another node")
			return
		}
	}
	r.release(job, log)
}

// step takes one step. Its commit is waited for even when ctx ends, so that its outcome
// is known.
func (r *Runner) step(ctx context.Context, step Step, job store.HeldJob) (store.HeldJob, error) {
	effect, err := r.prepare(ctx, step, job)
	if err != nil {
		return job, err
	}
	return r.store.StepJob(context.WithoutCancel(ctx), job, func(ctx context.Context, x *store.JobTx) (p store.Progress, err error) {
		defer catch(&err)
		return effect(ctx, x)
	})
}

func (r *Runner) prepare(ctx context.Context, step Step, job store.HeldJob) (e Effect, err error) {
	defer catch(&err)
	return step(ctx, r.store, job)
}

// catch makes an error of a panic: a job that cannot go on must not stop the server, and
// the next one that takes it over.
func catch(err *error) {
	if cause := recover(); cause != nil {
		*err = fmt.Errorf("a step panicked: %T\n%s", cause, debug.Stack())
	}
}

// passes reports whether a failure may pass when the step is tried again.
func passes(err error, failed int) bool {
	switch consent.KindOf(err) {
	case consent.Unavailable, consent.Full:
		return true
	case consent.Conflict:
		return failed < maxClashes
	}
	return false
}

// sentence gives what may be shown of a failure.
func sentence(err error) string {
	var e *consent.Error
	if errors.As(err, &e) && e.Kind != consent.Internal {
		return e.Message
	}
	return "Internal error. The log of the server says more under the id of this job."
}

// pace is how long some items take at least.
func pace(job store.HeldJob, items int64) time.Duration {
	if job.PerSecond == 0 {
		return 0
	}
	return time.Duration(items) * time.Second / time.Duration(job.PerSecond)
}

func backoff(failed int) time.Duration {
	d := min(firstBackoff<<min(failed-1, 10), maxBackoff)
	return d/2 + rand.N(d/2)
}

// pause waits, unless ctx ends or somebody asks for the end of the job.
func (r *Runner) pause(ctx context.Context, job store.HeldJob, d time.Duration) {
	if d <= 0 {
		return
	}
	enough, look := time.NewTimer(d), time.NewTicker(lookAnyway)
	defer enough.Stop()
	defer look.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-enough.C:
			return
		case <-look.C:
			if now, err := r.store.RereadJob(ctx, job); err == nil && now.Cancelled {
				return
			}
		}
	}
}

// release gives up a job that has not ended.
func (r *Runner) release(job store.HeldJob, log *slog.Logger) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	if err := r.store.ReleaseJob(ctx, job); err != nil {
		log.Warn("a job cannot be released; another node waits for the end of its lease", "error", err)
	}
}
