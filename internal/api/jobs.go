package api

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/internal/core"
	"github.com/opencpm/opencpm/internal/store"
)

const csvType = "text/csv"

// job is long work.
type job struct {
	ID            consent.ID        `json:"id" doc:"The job."`
	ApplicationID string            `json:"applicationId"`
	Kind          consent.JobKind   `json:"kind" doc:"What is done."`
	State         consent.JobState  `json:"state" enum:"queued,running,done,failed,cancelled" doc:"How far it is; the last three are ends."`
	MaxPerSecond  *int64            `json:"maxPerSecond" doc:"The most items a second that it may deal with; null for no limit."`
	Progress      jobProgress       `json:"progress" doc:"How much of it is done."`
	CreatedAt     consent.Timestamp `json:"createdAt"`
	StartedAt     consent.Timestamp `json:"startedAt" doc:"When it was begun, for the first time; null while it waits."`
	FinishedAt    consent.Timestamp `json:"finishedAt" doc:"When it ended; null until then."`
	ExpiresAt     consent.Timestamp `json:"expiresAt" doc:"When its files go; null where that is not known before it has ended."`
	CreatedBy     string            `json:"createdBy" doc:"The credential that started it."`
	Error         consent.Text      `json:"error" doc:"Why it failed; null where it did not."`
	Files         []jobFile         `json:"files" doc:"What it has written so far; empty once that has expired."`
}

type jobProgress struct {
	Done           int64             `json:"done" doc:"How many items were dealt with, those that failed among them."`
	Total          *int64            `json:"total" doc:"How many items there are in all; null while that is not known."`
	Failures       int64             `json:"failures" doc:"How many items failed."`
	RatePerSecond  *float64          `json:"ratePerSecond" doc:"Items a second, of late; null where it is not running."`
	EstimatedEndAt consent.Timestamp `json:"estimatedEndAt" doc:"When it ends at this rate; null where nobody can tell."`
}

type jobFile struct {
	Name consent.JobFile `json:"name" enum:"result,failures" doc:"Which file: what came of the job, or what failed of it."`
	Size int64           `json:"size" doc:"Its size in bytes."`
	URL  string          `json:"url" doc:"Where it can be read."`
}

func (s *server) jobOf(j store.Job) job {
	out := job{
		ID: j.ID, ApplicationID: j.ApplicationID, Kind: j.Kind, State: j.State,
		Progress:  jobProgress{Done: j.Done, Total: j.Total, Failures: j.Failures},
		CreatedAt: consent.Timestamp(j.CreatedAt), StartedAt: consent.Timestamp(j.StartedAt), FinishedAt: consent.Timestamp(j.FinishedAt),
		ExpiresAt: consent.Timestamp(j.ExpiresAt), CreatedBy: j.CreatedBy, Error: consent.Text(j.Error), Files: []jobFile{},
	}
	if j.PerSecond > 0 {
		out.MaxPerSecond = &j.PerSecond
	}
	if j.State == consent.JobRunning && j.Rate > 0 {
		rate := math.Round(j.Rate*10) / 10
		out.Progress.RatePerSecond = &rate
		if j.Total != nil {
			left := time.Duration(float64(max(*j.Total-j.Done, 0)) / j.Rate * float64(time.Second))
			out.Progress.EstimatedEndAt = consent.Timestamp(consent.At(time.Now().Add(left)))
		}
	}
	if !j.Expired() {
		for _, name := range consent.JobFiles {
			if size := j.Files[name]; size > 0 {
				out.Files = append(out.Files, jobFile{name, size, fmt.Sprintf("%s/v1/jobs/%s/files/%s", s.BaseURL, j.ID, name)})
			}
		}
	}
	return out
}

type newJob struct {
	ApplicationID applicationID   `json:"applicationId"`
	Kind          consent.JobKind `json:"kind" maxLength:"50" doc:"What is to be done: ledger-check."`
	MaxPerSecond  *int64          `json:"maxPerSecond,omitempty" doc:"The most items a second that it may deal with, 1 to 100000; left out, no limit."`
}

type createJobInput struct{ body[newJob] }

func (s *server) createJob(ctx context.Context, actor core.Actor, in *createJobInput) (job, error) {
	value, request := in.read()
	created, err := s.Core.CreateJob(ctx, actor, request, core.NewJob{ApplicationID: string(value.ApplicationID), Kind: value.Kind, PerSecond: value.MaxPerSecond})
	return s.jobOf(created), err
}

type listJobsInput struct {
	ApplicationID string `query:"applicationId" maxLength:"50" doc:"Only those of this application."`
	Kind          string `query:"kind" maxLength:"50" doc:"Only those of this kind."`
	State         string `query:"state" enum:"queued,running,done,failed,cancelled" doc:"Only those in this state."`
	Paging
}

type jobList struct {
	Jobs []job `json:"jobs" doc:"The jobs, the newest first."`
	Page
}

func (s *server) listJobs(ctx context.Context, actor core.Actor, in *listJobsInput) (jobList, error) {
	f := store.JobFilter{Kind: consent.JobKind(in.Kind), State: consent.JobState(in.State), Limit: in.Limit, Offset: in.Offset, Total: in.counted()}
	if err := in.place("jobs", &f.After); err != nil {
		return jobList{}, err
	}
	found, total, err := s.Core.Jobs(ctx, actor, in.ApplicationID, f)
	out := jobList{make([]job, len(found)), in.page("jobs", len(found), total, func() []any { return []any{found[len(found)-1].Number} })}
	for i, j := range found {
		out.Jobs[i] = s.jobOf(j)
	}
	return out, err
}

// JobPath names one job.
type JobPath struct {
	ID idParam `path:"id" doc:"The job."`
}

func (s *server) getJob(ctx context.Context, actor core.Actor, in *JobPath) (job, error) {
	j, err := s.Core.Job(ctx, actor, consent.ID(in.ID))
	return s.jobOf(j), err
}

func (s *server) cancelJob(ctx context.Context, actor core.Actor, in *JobPath) (job, error) {
	j, err := s.Core.CancelJob(ctx, actor, consent.ID(in.ID))
	return s.jobOf(j), err
}

type getJobFileInput struct {
	JobPath
	Name string `path:"name" enum:"result,failures" doc:"The file."`
}

// fileType gives the media type of a file of a job and the end of its name.
func fileType(kind consent.JobKind, file consent.JobFile) (mediaType, suffix string) {
	if kind == consent.LedgerCheck && file == consent.JobResult {
		return jsonType, ".json"
	}
	return csvType + "; charset=utf-8", ".csv"
}

// writeTime is for how long the reader of a stream may take nothing.
const writeTime = 30 * time.Second

// streaming prepares the writing of an answer of any length: its parts are sent as they
// are written, for as long as the reader takes them.
func streaming(hc huma.Context) func(part []byte) error {
	w := hc.BodyWriter()
	control := http.NewResponseController(w.(http.ResponseWriter))
	return func(part []byte) error {
		_ = control.SetWriteDeadline(time.Now().Add(writeTime)) // fails in tests only, which have no connection
		if _, err := w.Write(part); err != nil {
			return err
		}
		return control.Flush()
	}
}

func (s *server) getJobFile(ctx context.Context, actor core.Actor, in *getJobFileInput) (stream, error) {
	name := consent.JobFile(in.Name)
	j, err := s.Core.JobFile(ctx, actor, consent.ID(in.ID), name)
	return s.jobFile(j, name), err
}

// jobFile writes a file of a job.
func (s *server) jobFile(j store.Job, name consent.JobFile) stream {
	return func(hc huma.Context) {
		mediaType, suffix := fileType(j.Kind, name)
		hc.SetHeader("Content-Type", mediaType)
		hc.SetHeader("Content-Disposition", fmt.Sprintf(`attachment; filename="%s-%s-%s%s"`, j.Kind, j.ID, name, suffix))
		hc.SetHeader("Content-Length", strconv.FormatInt(j.Files[name], 10))
		hc.SetStatus(http.StatusOK)
		if hc.Method() == http.MethodHead {
			return
		}
		if err := s.Core.ReadJobFile(hc.Context(), j, name, streaming(hc)); err != nil {
			s.note(hc.Context(), err)
			panic(http.ErrAbortHandler) // or the reader would take the part for the whole
		}
	}
}

type watchJobsInput struct {
	ApplicationID string `query:"applicationId" required:"true" maxLength:"50"`
}

// maxWatch is how long a stream of events lasts: by then its credential may be another's.
const maxWatch = time.Hour

func (s *server) watchJobs(ctx context.Context, actor core.Actor, in *watchJobsInput) (stream, error) {
	watch, err := s.Core.WatchJobs(ctx, actor, in.ApplicationID)
	if err != nil {
		return nil, err
	}
	return func(hc huma.Context) {
		defer watch.Close()
		hc.SetHeader("Content-Type", "text/event-stream")
		hc.SetHeader("X-Accel-Buffering", "no") // or a proxy would keep what is news
		hc.SetStatus(http.StatusOK)
		if hc.Method() == http.MethodHead {
			return
		}
		ctx, cancel := context.WithTimeout(hc.Context(), maxWatch)
		defer cancel()
		send := streaming(hc)
		if send([]byte("retry: 2000\n\n")) != nil {
			return // a reader that went away is no one's concern, here and below
		}
		for {
			jobs, ok := watch.Next(ctx)
			if !ok {
				return
			}
			part := []byte(": nothing new\n\n")
			if len(jobs) > 0 {
				part = nil
			}
			for _, j := range jobs {
				part = append(part, s.event(j)...)
			}
			if send(part) != nil {
				return
			}
		}
	}, nil
}

// event is a job as a server-sent event.
func (s *server) event(j store.Job) []byte {
	var event bytes.Buffer
	fmt.Fprintf(&event, "event: job\nid: %s-%d\ndata: ", j.ID, j.Version)
	_ = writeJSON(&event, s.jobOf(j)) // which is made of what can be written, and ends the line
	event.WriteByte('\n')
	return event.Bytes()
}
