package core

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/internal/store"
)

// startable are the kinds of jobs that a client may ask for as such, with the scope that
// each needs besides the one to start jobs. Others are begun by use cases of their own.
var startable = map[consent.JobKind]consent.Scope{consent.LedgerCheck: consent.ConsentRead}

// maxJobRate is the highest limit of a job's rate that can be set, in items a second.
const maxJobRate = 100_000

// NewJob asks for long work.
type NewJob struct {
	ApplicationID string
	Kind          consent.JobKind
	PerSecond     *int64 // the most items a second; nil for no limit
}

// CreateJob queues a job of one of the kinds that can be asked for as such.
func (s *Service) CreateJob(ctx context.Context, a Actor, r Request, n NewJob) (store.Job, error) {
	once := r.once(a, "create job")
	snap, err := s.authoriseFor(ctx, a, consent.JobsWrite, n.ApplicationID, r.Found)
	if err != nil {
		return store.Job{}, err
	}
	faults := slices.Clone(r.Found)
	scope, ok := startable[n.Kind]
	if !ok {
		faults.Add("kind", "must be one of %s", startableKinds())
	} else if err := a.may(scope); err != nil {
		return store.Job{}, err
	}
	job := store.NewJob{Application: snap.Application, Kind: n.Kind, Params: []byte(`{}`)}
	if n.PerSecond != nil {
		if job.PerSecond = *n.PerSecond; job.PerSecond < 1 || job.PerSecond > maxJobRate {
			faults.Add("maxPerSecond", "must lie between 1 and %d", maxJobRate)
		}
	}
	if err := faults.Err(); err != nil {
		return store.Job{}, err
	}
	return s.store.CreateJob(ctx, job, a.ID, once)
}

func startableKinds() string {
	var names []string
	for kind := range startable {
		names = append(names, string(kind))
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}

// Job reads one job.
func (s *Service) Job(ctx context.Context, a Actor, id consent.ID) (store.Job, error) {
	if err := a.may(consent.JobsRead); err != nil {
		return store.Job{}, err
	}
	return s.store.Job(ctx, a.Applications, id)
}

// Jobs lists the jobs of one application, or of all of the actor's where applicationID is
// empty, the newest first, and how many there are where the filter asks for it.
func (s *Service) Jobs(ctx context.Context, a Actor, applicationID string, f store.JobFilter) ([]store.Job, int64, error) {
	if err := a.may(consent.JobsRead); err != nil {
		return nil, 0, err
	}
	f.Applications = a.Applications
	if applicationID != "" {
		snap, err := s.authorise(ctx, a, consent.JobsRead, applicationID)
		if err != nil {
			return nil, 0, err
		}
		f.Applications = []int64{snap.Application}
	}
	return s.store.Jobs(ctx, f)
}

// CancelJob ends a job that waits, and asks for the end of one that runs. One that has
// ended stays as it is.
func (s *Service) CancelJob(ctx context.Context, a Actor, id consent.ID) (store.Job, error) {
	if err := a.may(consent.JobsWrite); err != nil {
		return store.Job{}, err
	}
	job, ended, err := s.store.CancelJob(ctx, a.Applications, id, a.ID)
	if ended {
		s.cancelled(job.Kind)
	}
	return job, err
}

// JobFile gives a job that has a file, for ReadJobFile. A file that is not there yet is
// NotFound, one that has expired Gone.
func (s *Service) JobFile(ctx context.Context, a Actor, id consent.ID, file consent.JobFile) (store.Job, error) {
	job, err := s.Job(ctx, a, id)
	if err == nil && job.Kind == consent.TokensJob { // whose files open what the tokens in them open
		err = a.may(consent.TokensCreate)
	}
	return fileOf(job, file, err)
}

// fileOf gives a job that has a file, unless it could not be found.
func fileOf(job store.Job, file consent.JobFile, err error) (store.Job, error) {
	switch {
	case err != nil:
		return store.Job{}, err
	case job.Files[file] == 0:
		return job, consent.Errorf(consent.NotFound, "The job has no such file, or not yet.")
	case job.Expired():
		return job, consent.Errorf(consent.Gone, "The files of the job have expired.")
	}
	return job, nil
}

// ReadJobFile calls write with the pieces of a file that JobFile found, in order.
func (s *Service) ReadJobFile(ctx context.Context, job store.Job, file consent.JobFile, write func([]byte) error) error {
	return s.store.ReadJobFile(ctx, job, file, write)
}

// The pace of a JobWatch: how often it looks at most, how often by itself, for a bell may
// be lost between two nodes, and for how long it says nothing.
const (
	watchPace  = 250 * time.Millisecond
	watchPoll  = time.Second
	watchQuiet = 15 * time.Second
	watchPast  = time.Minute // jobs that begin and end between two looks ended no longer ago
)

// JobWatch tells of the jobs of one application. It is for one goroutine; Close must be
// called.
type JobWatch struct {
	service     *Service
	application int64
	news        <-chan struct{}
	stop        func()
	looked      time.Time
	known       map[int64]store.Job // by number, as it was told; nil before the first look
}

// WatchJobs begins to watch the jobs of an application.
func (s *Service) WatchJobs(ctx context.Context, a Actor, applicationID string) (*JobWatch, error) {
	snap, err := s.authoriseFor(ctx, a, consent.JobsRead, applicationID, nil)
	if err != nil {
		return nil, err
	}
	w := &JobWatch{service: s, application: snap.Application}
	w.news, w.stop = s.store.JobsChanged()
	return w, nil
}

// Close ends the watch.
func (w *JobWatch) Close() { w.stop() }

// Next waits for news and gives them: at first every job that has not ended, then each
// that changed, as it is now, at most four times a second. It gives none when nothing
// happened for 15 seconds, and is false when ctx or the service ends.
func (w *JobWatch) Next(ctx context.Context) (news []store.Job, ok bool) {
	quiet, poll := time.NewTimer(watchQuiet), time.NewTicker(watchPoll)
	defer quiet.Stop()
	defer poll.Stop()
	for {
		if !w.wait(ctx, time.Until(w.looked.Add(watchPace))) {
			return nil, false
		}
		w.looked = time.Now()
		list, err := w.look(ctx)
		switch {
		case err != nil && ctx.Err() == nil: // what changed is told once it can be read again
			w.service.log.Warn("the jobs cannot be read for those who watch them", "error", err)
		case len(list) > 0:
			return list, true
		}
		select {
		case <-ctx.Done():
			return nil, false
		case <-w.service.stopping:
			return nil, false
		case <-quiet.C:
			return nil, true
		case <-w.news:
		case <-poll.C:
		}
	}
}

// wait is false where ctx or the service ends meanwhile, or has ended.
func (w *JobWatch) wait(ctx context.Context, d time.Duration) bool {
	enough := time.NewTimer(max(d, 0))
	defer enough.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-w.service.stopping:
		return false
	case <-enough.C:
		return true
	}
}

// look gives the jobs that are not as they were told.
func (w *JobWatch) look(ctx context.Context) ([]store.Job, error) {
	jobs, err := w.service.store.LiveJobs(ctx, w.application, consent.At(time.Now().Add(-watchPast)))
	if err != nil {
		return nil, err
	}
	first, now := w.known == nil, make(map[int64]store.Job, len(jobs))
	for _, j := range jobs {
		now[j.Number] = j
	}
	for _, j := range w.known {
		if _, listed := now[j.Number]; !listed && !j.State.Ended() { // it ended long ago: there was an outage
			if j, err = w.service.store.Job(ctx, []int64{w.application}, j.ID); err != nil {
				return nil, err
			}
			jobs = append(jobs, j)
		}
	}
	var news []store.Job
	for _, j := range jobs {
		if first && j.State.Ended() || w.known[j.Number].Version == j.Version {
			continue
		}
		news = append(news, j)
	}
	w.known = now
	return news, nil
}
