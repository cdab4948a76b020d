package client

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"time"
)

// LedgerCheck is the kind of job that checks the whole ledger of an application: every
// chain of records, and every effective state against what the records say.
const LedgerCheck = "ledger-check"

// The files of a job.
const (
	JobResult   = "result"   // what came of it
	JobFailures = "failures" // what failed, as CSV
)

// Job is long work. Its State is queued, running, done, failed or cancelled.
type Job struct {
	ID            string      `json:"id"`
	ApplicationID string      `json:"applicationId"`
	Kind          string      `json:"kind"`
	State         string      `json:"state"`
	MaxPerSecond  int64       `json:"maxPerSecond"` // zero for no limit
	Progress      JobProgress `json:"progress"`
	CreatedAt     time.Time   `json:"createdAt"`
	StartedAt     time.Time   `json:"startedAt"`
	FinishedAt    time.Time   `json:"finishedAt"`
	ExpiresAt     time.Time   `json:"expiresAt"` // when its files go
	CreatedBy     string      `json:"createdBy"`
	Error         string      `json:"error"` // why it failed
	Files         []JobFile   `json:"files"` // what it has written so far
}

// Ended reports whether nothing more will happen to the job.
func (j Job) Ended() bool { return j.State != "queued" && j.State != "running" }

// JobProgress is how much of a job is done.
type JobProgress struct {
	Done           int64     `json:"done"`
	Total          *int64    `json:"total"` // nil while that is not known
	Failures       int64     `json:"failures"`
	RatePerSecond  float64   `json:"ratePerSecond"` // of late; zero where it is not running
	EstimatedEndAt time.Time `json:"estimatedEndAt"`
}

// JobFile is a file that a job has written.
type JobFile struct {
	Name string `json:"name"` // JobResult or JobFailures
	Size int64  `json:"size"`
	URL  string `json:"url"`
}

// NewJob asks for a job.
type NewJob struct {
	ApplicationID string `json:"applicationId"`
	Kind          string `json:"kind"`
	MaxPerSecond  int64  `json:"maxPerSecond,omitempty"` // the most items a second; zero for no limit

	IdempotencyKey string `json:"-"` // where empty, one is made
}

// CreateJob starts a job.
func (c *Client) CreateJob(ctx context.Context, n NewJob) (Job, error) {
	var out Job
	err := c.do(ctx, call{method: http.MethodPost, path: "v1/jobs", in: n, out: &out, key: idempotencyKey(n.IdempotencyKey)})
	return out, err
}

// Job reads one job.
func (c *Client) Job(ctx context.Context, id string) (Job, error) {
	var out Job
	err := c.do(ctx, call{method: http.MethodGet, path: jobPath(id), out: &out})
	return out, err
}

// JobsQuery selects jobs.
type JobsQuery struct {
	ApplicationID string // empty for all applications of the credential
	Kind          string // empty for all
	State         string // empty for all
	Page
}

// JobList is one page of jobs, the newest first. Total counts all that match; it is zero
// where a Cursor led to the page. NextCursor is empty on the last one.
type JobList struct {
	Jobs       []Job  `json:"jobs"`
	Total      int    `json:"total"`
	NextCursor string `json:"nextCursor"`
}

// Jobs lists jobs.
func (c *Client) Jobs(ctx context.Context, q JobsQuery) (JobList, error) {
	var out JobList
	err := c.do(ctx, call{
		method: http.MethodGet, path: "v1/jobs",
		query: q.values("applicationId", q.ApplicationID, "kind", q.Kind, "state", q.State), out: &out,
	})
	return out, err
}

// AllJobs gives what Jobs lists, page after page. An error ends it.
func (c *Client) AllJobs(ctx context.Context, q JobsQuery) iter.Seq2[Job, error] {
	return all(q.Page, func(p Page) ([]Job, string, error) {
		q.Page = p
		list, err := c.Jobs(ctx, q)
		return list.Jobs, list.NextCursor, err
	})
}

// CancelJob ends a job: one that runs within about a second. One that has ended stays as
// it is.
func (c *Client) CancelJob(ctx context.Context, id string) (Job, error) {
	var out Job
	err := c.do(ctx, call{method: http.MethodPost, path: jobPath(id) + "/cancel", out: &out})
	return out, err
}

// ReadJobFile opens a file of a job, JobResult or JobFailures, for reading until ctx ends.
// The caller closes it. It is read from the server as it is read here, so that its size
// does not matter; the time-out of a whole call does not hold for it.
func (c *Client) ReadJobFile(ctx context.Context, id, name string) (io.ReadCloser, error) {
	res, err := c.open(ctx, jobPath(id)+"/files/"+url.PathEscape(name), nil)
	if err != nil {
		return nil, err
	}
	return res.Body, nil
}

func jobPath(id string) string { return "v1/jobs/" + url.PathEscape(id) }

// open begins to read an answer of any length.
func (c *Client) open(ctx context.Context, path string, query url.Values) (*http.Response, error) {
	endless := *c.http
	endless.Timeout = 0
	target := c.base.JoinPath(path)
	target.RawQuery = query.Encode()
	for renewed := false; ; renewed = true {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, target.String(), http.NoBody)
		if err != nil {
			return nil, err
		}
		proof, err := c.auth.authorise(ctx, req.Header)
		if err != nil {
			return nil, err
		}
		res, err := endless.Do(req)
		if err != nil {
			var u *url.Error
			if errors.As(err, &u) {
				err = u.Err // without the URL
			}
			return nil, fmt.Errorf("GET %s: %w", path, err)
		}
		if res.StatusCode >= 200 && res.StatusCode <= 299 {
			return res, nil
		}
		answer, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
		if err = errors.Join(err, res.Body.Close()); err != nil {
			return nil, fmt.Errorf("GET %s: reading the answer: %w", path, err)
		}
		if res.StatusCode == http.StatusUnauthorized && proof != "" && !renewed {
			c.auth.refused(proof) // revoked before its time: once more with a new one
			continue
		}
		return nil, problemOf(res, answer)
	}
}

// The server says something every 15 seconds; a stream that is silent for longer than
// maxSilence is dead.
const maxSilence = 45 * time.Second

// WatchJobs follows the jobs of an application until ctx ends: it gives every job that has
// not ended, then each one that changes, as it is then. A job may be given twice. Where the
// server cannot be heard it gives the error; a loop that goes on all the same goes on
// after a pause, and is told of the jobs it knows that ended meanwhile.
func (c *Client) WatchJobs(ctx context.Context, applicationID string) iter.Seq2[Job, error] {
	return func(yield func(Job, error) bool) {
		going := true
		known := map[string]bool{} // that have not ended
		tell := func(j Job) bool {
			if known[j.ID] = true; j.Ended() {
				delete(known, j.ID)
			}
			going = yield(j, nil)
			return going
		}
		for failed := 0; ctx.Err() == nil; {
			heard, err := c.hearJobs(ctx, applicationID, known, tell)
			switch {
			case !going || ctx.Err() != nil:
				return
			case err != nil && !yield(Job{}, err):
				return
			}
			if failed++; heard {
				failed = 1
			}
			if sleep(ctx, backoff(failed)) != nil {
				return
			}
		}
	}
}

// hearJobs tells of jobs until the stream ends or tell is false, at first of those known
// that ended while nobody listened. heard says whether the server spoke.
func (c *Client) hearJobs(ctx context.Context, applicationID string, known map[string]bool, tell func(Job) bool) (heard bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	res, err := c.open(ctx, "v1/jobs/events", values("applicationId", applicationID))
	if err != nil {
		return false, err
	}
	defer res.Body.Close()
	for id := range known {
		j, err := c.Job(ctx, id)
		if err != nil {
			return true, err
		}
		if j.Ended() && !tell(j) {
			return true, nil
		}
	}
	silent := time.AfterFunc(maxSilence, cancel)
	defer silent.Stop()
	lines := bufio.NewScanner(res.Body)
	lines.Buffer(nil, maxAnswer)
	for lines.Scan() {
		silent.Reset(maxSilence)
		data, found := bytes.CutPrefix(lines.Bytes(), []byte("data: ")) // each event is one line of data
		if !found {
			continue
		}
		var j Job
		if err := json.Unmarshal(data, &j); err != nil {
			return true, fmt.Errorf("GET v1/jobs/events: reading the answer: %w", err)
		}
		if !tell(j) {
			return true, nil
		}
	}
	if err := lines.Err(); err != nil {
		return true, fmt.Errorf("GET v1/jobs/events: %w", err)
	}
	return true, nil // it ended in good order, as it does after an hour
}
