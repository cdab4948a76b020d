package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/opencpm/opencpm/internal/consent"
)

// keepJobs is how long the files of a job are kept after its end.
const keepJobs = 7 * 24 * time.Hour

// Job is long work: what of it anybody may see.
type Job struct {
	Number        int64
	ID            consent.ID
	Application   int64
	ApplicationID string
	Kind          consent.JobKind
	State         consent.JobState
	PerSecond     int64   // the most items a second that are allowed; 0 for no limit
	Done          int64   // items dealt with, the failures among them
	Total         *int64  // items in all; nil where that is not known
	Failures      int64   // items that failed
	Rate          float64 // items a second, of late; 0 where it is not running
	Version       int64   // rises with every change
	CreatedAt     consent.Instant
	StartedAt     consent.Instant // for the first time
	FinishedAt    consent.Instant
	ExpiresAt     consent.Instant // when its files go; 0 where that is not known yet
	CreatedBy     string
	Error         string // why it failed, a sentence
	Cancelled     bool   // somebody asked for its end
	Files         map[consent.JobFile]int64
}

// Expired reports whether the files of the job are gone.
func (j Job) Expired() bool { return j.ExpiresAt != 0 && j.ExpiresAt <= now() }

// HeldJob is a job in the hands of one node, with what the work needs.
type HeldJob struct {
	Job
	Params jsontext.Value // what the kind of work was told
	Cursor jsontext.Value // where it has got to; nil at the beginning

	node         string
	epoch, steps int64
	claimedAt    consent.Instant
	steppedAt    consent.Instant
}

// ErrJobLost says that a job is in other hands, or that what was to be done to it was
// done already. Nothing was changed.
var ErrJobLost = consent.Errorf(consent.Conflict, "The job is in other hands; nothing was changed.")

// ErrNoJob is the answer for a job that does not exist, or not for the asker.
var ErrNoJob = consent.Errorf(consent.NotFound, "There is no such job.")

const jobColumns = `j.id, j.public_id, j.application, a.public_id, j.kind, j.state, j.per_second, j.done, j.total, j.failures, j.rate, j.version,
	j.created_at, j.started_at, j.finished_at, j.expires_at, j.created_by, j.error, j.cancel_requested, j.result_size, j.failures_size`

const jobTables = `job j JOIN application a ON a.id = j.application`

func scanJob(r interface{ Scan(...any) error }) (j Job, err error) {
	var total sql.NullInt64
	var cancelled, result, failures int64
	err = r.Scan(&j.Number, &j.ID, &j.Application, &j.ApplicationID, &j.Kind, &j.State, &j.PerSecond, &j.Done, &total, &j.Failures, &j.Rate, &j.Version,
		&j.CreatedAt, &j.StartedAt, &j.FinishedAt, &j.ExpiresAt, &j.CreatedBy, &j.Error, &cancelled, &result, &failures)
	if total.Valid {
		j.Total = &total.Int64
	}
	j.Cancelled = cancelled != 0
	j.Files = map[consent.JobFile]int64{}
	for name, size := range map[consent.JobFile]int64{consent.JobResult: result, consent.JobFailures: failures} {
		if size > 0 {
			j.Files[name] = size
		}
	}
	return j, err
}

// NewJob is long work to be begun.
type NewJob struct {
	Application int64
	Kind        consent.JobKind
	Params      jsontext.Value
	PerSecond   int64           // the most items a second; 0 for no limit
	ExpiresAt   consent.Instant // when its files go even if it has not ended long enough ago; 0: not so
}

// CreateJob queues a job.
func (s *Store) CreateJob(ctx context.Context, n NewJob, actor string, once Once) (Job, error) {
	var j Job
	err := s.update(ctx, func(ctx context.Context, t *tx) (err error) {
		if done, err := once.again(ctx, t, &j); done || err != nil {
			return err
		}
		if j, err = t.createJob(ctx, n, actor); err != nil {
			return err
		}
		return once.keep(ctx, t, j)
	})
	return outcome(&j, err)
}

func (t *tx) createJob(ctx context.Context, n NewJob, actor string) (Job, error) {
	id := NewID()
	if _, err := t.exec(ctx, `INSERT INTO job (public_id, application, kind, state, params, per_second, created_at, created_by, expires_at)
		VALUES ($1, $2, $3, 'queued', $4, $5, $6, $7, $8)`,
		id[:], n.Application, string(n.Kind), t.store.keys.Seal(jobContext(id, "params"), n.Params), n.PerSecond, t.now, actor, n.ExpiresAt); err != nil {
		return Job{}, err
	}
	j, err := scanJob(t.row(ctx, `SELECT `+jobColumns+` FROM `+jobTables+` WHERE j.public_id = $1`, id[:]))
	if err != nil {
		return Job{}, err
	}
	t.rings |= bellJobs
	return j, t.audit(ctx, n.Application, actor, "job.create", fmt.Sprintf("%s %s", n.Kind, id))
}

func jobContext(id consent.ID, what string) string { return fmt.Sprintf("job %s %s", id, what) }

// Job reads one job of one of the applications.
func (s *Store) Job(ctx context.Context, applications []int64, id consent.ID) (Job, error) {
	j, err := findJob(ctx, s.read, applications, id)
	return j, s.classify(err)
}

func findJob(ctx context.Context, q reader, applications []int64, id consent.ID) (Job, error) {
	marks, args := places(applications)
	j, err := scanJob(q.QueryRowContext(ctx, fmt.Sprintf(`SELECT %s FROM %s WHERE j.application IN (%s) AND j.public_id = $%d`,
		jobColumns, jobTables, marks, len(args)+1), append(args, id[:])...))
	if errors.Is(err, sql.ErrNoRows) {
		err = ErrNoJob
	}
	return j, err
}

// JobFilter says which jobs to list.
type JobFilter struct {
	Applications  []int64
	Kind          consent.JobKind  // empty: any
	State         consent.JobState // empty: any
	After         int64            // the list goes on after the job of this number
	Limit, Offset int
	Total         bool // count them all, too
}

// Jobs lists jobs, the newest first, and how many there are in all where the filter asks
// for it.
func (s *Store) Jobs(ctx context.Context, f JobFilter) ([]Job, int64, error) {
	marks, args := places(f.Applications)
	where := "j.application IN (" + marks + ")"
	for column, value := range map[string]string{"kind": string(f.Kind), "state": string(f.State)} {
		if value != "" {
			args = append(args, value)
			where += fmt.Sprintf(" AND j.%s = $%d", column, len(args))
		}
	}
	var total int64
	if f.Total {
		if err := s.read.QueryRowContext(ctx, `SELECT count(*) FROM job j WHERE `+where, args...).Scan(&total); err != nil {
			return nil, 0, s.classify(err)
		}
	}
	if f.After == 0 {
		f.After = math.MaxInt64
	}
	n := len(args)
	list, err := collect(ctx, s.read, func(r *sql.Rows) (Job, error) { return scanJob(r) },
		fmt.Sprintf(`SELECT %s FROM %s WHERE %s AND j.id < $%d ORDER BY j.id DESC LIMIT $%d OFFSET $%d`, jobColumns, jobTables, where, n+1, n+2, n+3),
		append(args, f.After, f.Limit, f.Offset)...)
	return list, total, s.classify(err)
}

// LiveJobs lists the jobs of an application that have not ended, or did so after an
// instant, the oldest first.
func (s *Store) LiveJobs(ctx context.Context, application int64, after consent.Instant) ([]Job, error) {
	list, err := collect(ctx, s.fixed, func(r *sql.Rows) (Job, error) { return scanJob(r) },
		`SELECT `+jobColumns+` FROM `+jobTables+` WHERE j.application = $1 AND (j.finished_at = 0 OR j.finished_at > $2) ORDER BY j.id`, application, after)
	return list, s.classify(err)
}

// CancelJob ends a job of one of the applications that nobody has begun, and asks for
// the end of one that runs: it comes after the present step. One that has ended stays
// as it is. ended says that it ended by this.
func (s *Store) CancelJob(ctx context.Context, applications []int64, id consent.ID, actor string) (Job, bool, error) {
	var j Job
	var ended bool
	err := s.update(ctx, func(ctx context.Context, t *tx) (err error) {
		ended = false
		if _, err := t.exec(ctx, `UPDATE job SET version = version WHERE public_id = $1`, id[:]); err != nil { // locks the row
			return err
		}
		if j, err = findJob(ctx, t, applications, id); err != nil || j.State.Ended() || j.Cancelled {
			return err
		}
		if j.State == consent.JobQueued {
			ended = true
			err = t.endJob(ctx, j.Number, consent.JobCancelled, "")
		} else {
			_, err = t.exec(ctx, `UPDATE job SET cancel_requested = 1, version = version + 1 WHERE id = $1`, j.Number)
		}
		if err != nil {
			return err
		}
		t.rings |= bellJobs
		if j, err = findJob(ctx, t, applications, id); err != nil {
			return err
		}
		return t.audit(ctx, j.Application, actor, "job.cancel", j.ID.String())
	})
	if err != nil {
		return Job{}, false, err
	}
	return j, ended, nil
}

// endJob ends a job; its files are kept for a while from now on, or until they expire.
func (t *tx) endJob(ctx context.Context, number int64, state consent.JobState, why string) error {
	t.rings |= bellJobs
	_, err := t.exec(ctx, `UPDATE job SET state = $2, error = $3, finished_at = $4, expires_at = CASE WHEN expires_at > 0 AND expires_at < $5 THEN expires_at ELSE CAST($5 AS BIGINT) END,
			rate = 0, holder = '', lease_until = 0, version = version + 1 WHERE id = $1`, number, string(state), why, t.now, t.now.Add(keepJobs))
	return err
}

// claimable is the condition on a job j that somebody may take it at an instant, $1: it
// is queued and no other of its kind and application runs, or its holder is gone.
const claimable = `j.finished_at = 0 AND (j.state = 'running' AND j.lease_until <= $1 OR j.state = 'queued' AND NOT EXISTS (
	SELECT 1 FROM job r WHERE r.finished_at = 0 AND r.kind = j.kind AND r.application = j.application AND r.state = 'running'))`

// ClaimJob gives the oldest job of some kinds that may run to a node, for ttl from now
// by the database's clock. It is false where there is none.
func (s *Store) ClaimJob(ctx context.Context, node string, kinds []consent.JobKind, ttl time.Duration) (HeldJob, bool, error) {
	type claim struct {
		held HeldJob
		ok   bool
	}
	var c claim
	if _, _, err := claimableJob(ctx, s.fixed, kinds, now()); err != nil {
		if errors.Is(err, sql.ErrNoRows) { // as nearly always: the writers are left alone
			err = nil
		}
		return HeldJob{}, false, s.classify(err)
	}
	err := s.update(ctx, func(ctx context.Context, t *tx) error {
		c = claim{}
		at, err := s.dialect.clock(ctx, t)
		if err != nil {
			return err
		}
		number, application, err := claimableJob(ctx, t, kinds, at)
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		if err != nil {
			return err
		}
		// Locks the application: of two nodes that would begin two jobs of one kind the
		// second sees the first.
		if _, err := t.exec(ctx, `UPDATE application SET revision = revision WHERE id = $1`, application); err != nil {
			return err
		}
		r, err := t.exec(ctx, `UPDATE job AS j SET state = 'running', holder = $2, epoch = epoch + 1, lease_until = $3, claimed_at = $4, stepped_at = $4, rate = 0,
				started_at = CASE WHEN started_at = 0 THEN CAST($4 AS BIGINT) ELSE started_at END, version = version + 1
			WHERE j.id = $5 AND `+claimable, at, node, at.Add(ttl), t.now, number)
		if err != nil {
			return err
		}
		if n, err := r.RowsAffected(); err != nil || n == 0 {
			return err
		}
		t.rings |= bellJobs
		c.held, err = s.heldJob(ctx, t, number)
		c.ok = err == nil
		return err
	})
	got, err := outcome(&c, err)
	return got.held, got.ok, err
}

func claimableJob(ctx context.Context, q reader, kinds []consent.JobKind, at consent.Instant) (number, application int64, err error) {
	args, marks := []any{at}, make([]string, len(kinds))
	for i, k := range kinds {
		args = append(args, string(k))
		marks[i] = fmt.Sprintf("$%d", len(args))
	}
	err = q.QueryRowContext(ctx, `SELECT j.id, j.application FROM job j WHERE j.kind IN (`+strings.Join(marks, ", ")+`) AND `+claimable+` ORDER BY j.id LIMIT 1`, args...).
		Scan(&number, &application)
	return number, application, err
}

// heldJob reads a job with what the work needs.
func (s *Store) heldJob(ctx context.Context, q reader, number int64) (h HeldJob, err error) {
	var params, cursor []byte
	row := q.QueryRowContext(ctx, `SELECT `+jobColumns+`, j.params, j.cursor, j.holder, j.epoch, j.steps, j.claimed_at, j.stepped_at FROM `+jobTables+` WHERE j.id = $1`, number)
	h.Job, err = scanJob(scanner(func(dest ...any) error {
		return row.Scan(append(dest, &params, &cursor, &h.node, &h.epoch, &h.steps, &h.claimedAt, &h.steppedAt)...)
	}))
	if err != nil {
		return h, err
	}
	if h.Params, err = s.keys.Open(jobContext(h.ID, "params"), params); err != nil {
		return h, fmt.Errorf("parameters of job %s: %w", h.ID, err)
	}
	if cursor != nil {
		if h.Cursor, err = s.keys.Open(jobContext(h.ID, "cursor"), cursor); err != nil {
			return h, fmt.Errorf("cursor of job %s: %w", h.ID, err)
		}
	}
	return h, nil
}

// RereadJob reads a held job anew, for a holder that does not know what became of its
// last step. One that it has lost is ErrJobLost.
func (s *Store) RereadJob(ctx context.Context, held HeldJob) (HeldJob, error) {
	h, err := s.heldJob(ctx, s.read, held.Number)
	if err == nil && (h.node != held.node || h.epoch != held.epoch || h.State.Ended()) {
		err = ErrJobLost
	}
	return h, s.classify(err)
}

// RenewJobs renews the leases of held jobs, for ttl from now by the database's clock. It
// gives the numbers of those that are still held; of what is lost nothing can be
// committed any more.
func (s *Store) RenewJobs(ctx context.Context, list []HeldJob, ttl time.Duration) (map[int64]bool, error) {
	var held map[int64]bool
	err := s.update(ctx, func(ctx context.Context, t *tx) error {
		held = map[int64]bool{}
		at, err := s.dialect.clock(ctx, t)
		if err != nil {
			return err
		}
		for _, h := range list {
			n, err := changed(ctx, t, `UPDATE job SET lease_until = $4 WHERE id = $1 AND holder = $2 AND epoch = $3 AND finished_at = 0`, h.Number, h.node, h.epoch, at.Add(ttl))
			if err != nil {
				return err
			}
			held[h.Number] = n == 1
		}
		return nil
	})
	return outcome(&held, err)
}

// ReleaseJob gives up a held job between two steps, so that another node goes on with it
// at once.
func (s *Store) ReleaseJob(ctx context.Context, h HeldJob) error {
	return s.update(ctx, func(ctx context.Context, t *tx) error {
		t.rings |= bellJobs
		_, err := t.exec(ctx, `UPDATE job SET holder = '', lease_until = 0 WHERE id = $1 AND holder = $2 AND epoch = $3`, h.Number, h.node, h.epoch)
		return err
	})
}

// ReleaseDeadJobs gives up the jobs of a process that had the data before this one, where
// there can be only one.
func (s *Store) ReleaseDeadJobs(ctx context.Context) error {
	if !s.dialect.alone() {
		return nil
	}
	return s.update(ctx, func(ctx context.Context, t *tx) error {
		_, err := t.exec(ctx, `UPDATE job SET holder = '', lease_until = 0 WHERE finished_at = 0 AND holder <> ''`)
		return err
	})
}

// Progress is what one step of a job achieved.
type Progress struct {
	Cursor   jsontext.Value // from where the next step goes on
	Done     int64          // how many more items were dealt with, the failures among them
	Failures int64          // how many more of them failed
	Total    *int64         // how many items there are in all; nil where nothing new is known
	Finished bool           // there is no next step
}

// JobTx is the transaction of one step: what the kind of work changes it changes by it.
type JobTx struct {
	t     *tx
	job   *HeldJob
	sizes map[consent.JobFile]int64
}

// maxPiece is how many bytes of a file one row holds, so that it has 256 KiB sealed at most.
const maxPiece = 255 << 10

// Append adds to a file of the job.
func (x *JobTx) Append(ctx context.Context, file consent.JobFile, data []byte) error {
	for len(data) > 0 {
		piece := data[:min(len(data), maxPiece)]
		data = data[len(piece):]
		place := x.job.Files[file] + x.sizes[file]
		if _, err := x.t.exec(ctx, `INSERT INTO job_file (job, name, place, sealed) VALUES ($1, $2, $3, $4)`,
			x.job.Number, string(file), place, x.t.store.keys.Seal(x.job.pieceContext(file, place), piece)); err != nil {
			return err
		}
		x.sizes[file] += int64(len(piece))
	}
	return nil
}

func (j *Job) pieceContext(file consent.JobFile, place int64) string {
	return jobContext(j.ID, fmt.Sprintf("%s %d", file, place))
}

// StepJob takes one step of a held job. What step changes by the transaction, what it
// adds to files and the progress that it gives are committed together, once: whoever has
// lost the job, or has taken this very step before, gets ErrJobLost. step may be called
// several times, of which one counts.
func (s *Store) StepJob(ctx context.Context, held HeldJob, step func(context.Context, *JobTx) (Progress, error)) (HeldJob, error) {
	var next HeldJob
	err := s.update(ctx, func(ctx context.Context, t *tx) error {
		n, err := changed(ctx, t, `UPDATE job SET steps = steps + 1 WHERE id = $1 AND holder = $2 AND epoch = $3 AND steps = $4 AND finished_at = 0`,
			held.Number, held.node, held.epoch, held.steps)
		if err != nil {
			return err
		}
		if n == 0 {
			return ErrJobLost
		}
		x := &JobTx{t: t, job: &held, sizes: map[consent.JobFile]int64{}}
		p, err := step(ctx, x)
		if err != nil {
			return err
		}
		next, err = t.stepJob(ctx, &held, p, x.sizes)
		return err
	})
	return outcome(&next, err)
}

// rateWindow is over how long the rate of a job is averaged.
const rateWindow = 10 * time.Second

func seconds(d consent.Instant) float64 { return float64(max(d, 1)) / 1e6 }

// stepJob writes the progress of a job.
func (t *tx) stepJob(ctx context.Context, held *HeldJob, p Progress, sizes map[consent.JobFile]int64) (HeldJob, error) {
	// The mean since the job was claimed, and once that is long ago that of late.
	took, since := seconds(t.now-held.steppedAt), seconds(t.now-held.claimedAt)
	weight := max(took/since, 1-math.Exp(-took/rateWindow.Seconds()))
	rate := held.Rate + (float64(p.Done)/took-held.Rate)*weight
	var cursor any
	if p.Cursor != nil {
		cursor = t.store.keys.Seal(jobContext(held.ID, "cursor"), p.Cursor)
	}
	if p.Total == nil {
		p.Total = held.Total
	}
	t.rings |= bellJobs
	if _, err := t.exec(ctx, `UPDATE job SET cursor = $2, done = done + $3, failures = failures + $4, total = $5, rate = $6, stepped_at = $7,
			result_size = result_size + $8, failures_size = failures_size + $9, version = version + 1 WHERE id = $1`,
		held.Number, cursor, p.Done, p.Failures, p.Total, rate, t.now, sizes[consent.JobResult], sizes[consent.JobFailures]); err != nil {
		return HeldJob{}, err
	}
	if p.Finished {
		if err := t.endJob(ctx, held.Number, consent.JobDone, ""); err != nil {
			return HeldJob{}, err
		}
	}
	return t.store.heldJob(ctx, t, held.Number)
}

// EndJob ends a held job: as failed, with a sentence that says why, or as cancelled.
func (s *Store) EndJob(ctx context.Context, held HeldJob, state consent.JobState, why string) error {
	return s.update(ctx, func(ctx context.Context, t *tx) error {
		n, err := changed(ctx, t, `UPDATE job SET steps = steps + 1 WHERE id = $1 AND holder = $2 AND epoch = $3 AND finished_at = 0`, held.Number, held.node, held.epoch)
		if err != nil {
			return err
		}
		if n == 0 {
			return ErrJobLost
		}
		return t.endJob(ctx, held.Number, state, why)
	})
}

// ReadJobFile calls write with the pieces of a file of a job, in order.
func (s *Store) ReadJobFile(ctx context.Context, j Job, file consent.JobFile, write func([]byte) error) error {
	for place := int64(0); place < j.Files[file]; {
		var sealed []byte
		if err := s.read.QueryRowContext(ctx, `SELECT sealed FROM job_file WHERE job = $1 AND name = $2 AND place = $3`, j.Number, string(file), place).Scan(&sealed); err != nil {
			return s.classify(err)
		}
		piece, err := s.keys.Open(j.pieceContext(file, place), sealed)
		if err != nil {
			return fmt.Errorf("file %s of job %s: %w", file, j.ID, err)
		}
		if err := write(piece); err != nil {
			return err
		}
		place += int64(len(piece))
	}
	return nil
}

// forgetPieces is how many pieces of files one transaction deletes.
const forgetPieces = 100

// ForgetJobs deletes the files of jobs that have expired, and what they were told.
func (s *Store) ForgetJobs(ctx context.Context) error {
	for {
		var gone int64
		err := s.update(ctx, func(ctx context.Context, t *tx) (err error) {
			if gone, err = changed(ctx, t, `DELETE FROM job_file WHERE (job, name, place) IN (SELECT f.job, f.name, f.place FROM job j JOIN job_file f ON f.job = j.id
				WHERE j.params IS NOT NULL AND j.finished_at > 0 AND j.expires_at > 0 AND j.expires_at <= $1 LIMIT $2)`, t.now, forgetPieces); err != nil || gone > 0 {
				return err
			}
			_, err = t.exec(ctx, `UPDATE job SET params = NULL, cursor = NULL WHERE params IS NOT NULL AND finished_at > 0 AND expires_at > 0 AND expires_at <= $1`, t.now)
			return err
		})
		if err != nil || gone == 0 {
			return err
		}
	}
}
