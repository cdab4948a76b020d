package store

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/opencpm/opencpm/internal/consent"
)

// TokenPlan says what the lines of a file of citizen tokens are made of.
type TokenPlan struct {
	TokenURL    string              `json:"tokenUrl,omitzero"` // with {token} in it; empty: none
	LeaveURL    string              `json:"leaveUrl,omitzero"` // the same, of links to unsubscribe
	Unsubscribe []UnsubscribeColumn `json:"unsubscribe,omitzero"`
	Expires     consent.Instant     `json:"expires"`
}

// UnsubscribeColumn is a column of links with which each citizen leaves one option, or
// one group.
type UnsubscribeColumn struct {
	Type consent.OptionType `json:"type"`
	ID   string             `json:"id"`
	Link int64              `json:"link,omitzero"` // its number, which the store gives
}

// NewTokens asks for tokens of many citizens.
type NewTokens struct {
	Application int64
	Reference   string // the client's own
	Everyone    bool
	Named       []consent.CitizenKey // where not everyone: by id or by reference each
	PerSecond   int64                // 0 for no limit
	TokenPlan
}

// TokenParams are what a job that makes tokens is told.
type TokenParams struct {
	Issue    int64    `json:"issue"`
	Everyone bool     `json:"everyone,omitzero"`
	Citizens []int64  `json:"citizens,omitzero"` // where not everyone: their numbers, ascending
	Unknown  []string `json:"unknown,omitzero"`  // ids that nobody has
	// UnknownRefs are references that nobody has.
	UnknownRefs []string `json:"unknownRefs,omitzero"`
	Scheduled   bool     `json:"scheduled,omitzero"`
	TokenPlan
}

// TokenJob is a job that makes tokens, with the issue by which they can be revoked.
type TokenJob struct {
	Job
	Issue     int64
	Reference string
	Expires   consent.Instant // of the tokens
	RevokedAt consent.Instant // zero: not revoked
}

// CreateTokenJob begins to make tokens for many citizens, on one issue.
func (s *Store) CreateTokenJob(ctx context.Context, n NewTokens, actor string, once Once) (TokenJob, error) {
	var out TokenJob
	p, err := s.tokenParams(ctx, n)
	if err != nil {
		return out, s.classify(err)
	}
	err = s.update(ctx, func(ctx context.Context, t *tx) error {
		if done, err := once.again(ctx, t, &out); done || err != nil {
			return err
		}
		if out, err = t.createTokenJob(ctx, n, p, actor); err != nil {
			return err
		}
		return once.keep(ctx, t, out)
	})
	return outcome(&out, err)
}

// tokenParams finds the citizens who are named.
func (s *Store) tokenParams(ctx context.Context, n NewTokens) (TokenParams, error) {
	p := TokenParams{Everyone: n.Everyone, TokenPlan: n.TokenPlan}
	args := map[string][]any{}   // by column
	byKey := map[string]string{} // what was asked for, by how the store knows it
	for _, k := range n.Named {
		column, value, name := "ref_index", []byte(nil), k.ExternalRef
		if k.ExternalRef == "" {
			column, value, name = "public_id", k.ID[:], k.ID.String()
		} else {
			key := s.refKey(n.Application, k.ExternalRef)
			value = key.index[:]
		}
		if _, twice := byKey[column+string(value)]; twice {
			continue
		}
		byKey[column+string(value)] = name
		args[column] = append(args[column], value)
	}
	for column, values := range args {
		marks := make([]string, len(values))
		for i := range values {
			marks[i] = fmt.Sprintf("$%d", i+2)
		}
		_, err := collect(ctx, s.read, func(r *sql.Rows) (struct{}, error) {
			var number int64
			var value []byte
			err := r.Scan(&number, &value)
			delete(byKey, column+string(value))
			p.Citizens = append(p.Citizens, number)
			return struct{}{}, err
		}, fmt.Sprintf(`SELECT id, %[1]s FROM citizen WHERE application = $1 AND deleted_at IS NULL AND %[1]s IN (%[2]s)`, column, strings.Join(marks, ", ")),
			append([]any{n.Application}, values...)...)
		if err != nil {
			return p, err
		}
	}
	for key, name := range byKey {
		if strings.HasPrefix(key, "public_id") {
			p.Unknown = append(p.Unknown, name)
		} else {
			p.UnknownRefs = append(p.UnknownRefs, name)
		}
	}
	slices.Sort(p.Citizens)
	slices.Sort(p.Unknown)
	slices.Sort(p.UnknownRefs)
	p.Citizens = slices.Compact(p.Citizens)
	return p, nil
}

func (t *tx) createTokenJob(ctx context.Context, n NewTokens, p TokenParams, actor string) (TokenJob, error) {
	out := TokenJob{Reference: n.Reference, Expires: n.Expires}
	scheduled := 0
	if p.Scheduled {
		scheduled = 1
	}
	err := t.row(ctx, `INSERT INTO token_issue (application, kind, reference, created_by, created_at, expires_at, scheduled) VALUES ($1, $2, $3, $4, $5, $6, $7) RETURNING number`,
		n.Application, string(BatchTokens), n.Reference, actor, t.now, n.Expires, scheduled).Scan(&out.Issue)
	if err != nil {
		return out, err
	}
	p.Issue, p.Unsubscribe = out.Issue, slices.Clone(p.Unsubscribe)
	for i, c := range p.Unsubscribe {
		if p.Unsubscribe[i].Link, err = t.unsubscribeLink(ctx, n.Application, consent.Key{Type: c.Type, ID: c.ID}); err != nil {
			return out, err
		}
	}
	params, err := json.Marshal(p)
	if err != nil {
		return out, err
	}
	if out.Job, err = t.createJob(ctx, NewJob{Application: n.Application, Kind: consent.TokensJob, Params: params, PerSecond: n.PerSecond, ExpiresAt: n.Expires}, actor); err != nil {
		return out, err
	}
	_, err = t.exec(ctx, `UPDATE token_issue SET job = $2 WHERE number = $1`, out.Issue, out.Number)
	return out, err
}

// TokenJob reads a job of one of the applications that makes tokens.
func (s *Store) TokenJob(ctx context.Context, applications []int64, id consent.ID) (TokenJob, error) {
	j, err := s.Job(ctx, applications, id)
	if err != nil {
		return TokenJob{}, err
	}
	out := TokenJob{Job: j}
	var revoked sql.NullInt64
	err = s.read.QueryRowContext(ctx, `SELECT number, reference, expires_at, revoked_at FROM token_issue WHERE job = $1`, j.Number).
		Scan(&out.Issue, &out.Reference, &out.Expires, &revoked)
	out.RevokedAt = consent.Instant(revoked.Int64)
	if errors.Is(err, sql.ErrNoRows) { // it is another kind of job, or forgotten
		err = ErrNoJob
	}
	return out, s.classify(err)
}

// TokenCitizen is a citizen for whom tokens are made.
type TokenCitizen struct {
	TokenGrounds
	ID          string // the text of the public one
	ExternalRef string
}

// TokenPiece is a number of lines of a file of tokens, in the order of the citizens.
type TokenPiece struct {
	Text     []byte
	Citizens int
	last     int64 // the number of the last one
}

// tokenChunk is how many citizens one worker writes the lines of at a time: of lines
// without links about as many as a piece holds.
const tokenChunk = 1500

// tokenChunkWork is a chunk in the hands of a worker: the rows as they are, end to end.
type tokenChunkWork struct {
	rows  []tokenRow
	bytes []byte
}

// tokenRow is a row of a chunk; what is of bytes lies in the chunk's from start on.
type tokenRow struct {
	citizen, generation           int64
	start, details, wrapped, stop int
}

// tokenSource is what a token is made of, as it lies in the database.
type tokenSource struct {
	citizen, generation  int64
	id, details, wrapped []byte // good until the next one is read
}

func (c *tokenChunkWork) add(v tokenSource) {
	row := tokenRow{citizen: v.citizen, generation: v.generation, start: len(c.bytes)}
	c.bytes = append(c.bytes, v.id...)
	row.details = len(c.bytes)
	c.bytes = append(c.bytes, v.details...)
	row.wrapped = len(c.bytes)
	c.bytes = append(c.bytes, v.wrapped...)
	row.stop = len(c.bytes)
	c.rows = append(c.rows, row)
}

// What tokens are made of, of the citizens whose numbers are in a range. The application
// is asked for in a way that no index answers and of which the planner of PostgreSQL does
// not believe that it leaves few: else it would look up the key of each citizen by
// itself, or sort all of an application for each range.
const (
	tokenSources = `SELECT c.id, c.token_generation, c.public_id, c.details, k.wrapped FROM citizen c JOIN citizen_key k ON k.citizen = c.id
		WHERE COALESCE(c.application = $1, FALSE) AND c.id > $2 AND c.id <= $3 AND c.deleted_at IS NULL `
	everyTokenSource = tokenSources + `AND k.citizen > $2 AND k.citizen <= $3 ORDER BY c.id`
)

// TokenLines writes the lines of up to most citizens whose numbers are above after: of
// those named, or of everyone where that is nil; those who were erased, or are others', are
// passed over. last is the number up to which all are
// done, 0 where there was none left. write adds the line of one citizen to lines; it is
// called from several goroutines, for each citizen once.
func (s *Store) TokenLines(ctx context.Context, application, after int64, named []int64, most int, write func(lines []byte, c TokenCitizen) []byte) (pieces []TokenPiece, last int64, err error) {
	query, last := everyTokenSource, after+int64(most)
	if named != nil {
		at, _ := slices.BinarySearch(named, after+1)
		if named = named[at:min(len(named), at+most)]; len(named) == 0 {
			return nil, 0, nil
		}
		last = named[len(named)-1]
	} else {
		var more bool
		if err := s.fixed.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM citizen WHERE id > $1)`, after).Scan(&more); err != nil || !more {
			return nil, 0, s.classify(err)
		}
	}
	args := []any{application, after, last}
	if named != nil {
		marks := make([]string, len(named))
		for i, number := range named {
			args = append(args, number)
			marks[i] = fmt.Sprintf("$%d", len(args))
		}
		query = tokenSources + `AND c.id IN (` + strings.Join(marks, ", ") + `) ORDER BY c.id`
	}

	// A chunk is read while the workers have the others.
	parts, errs := make([][]TokenPiece, most/tokenChunk+1), make([]error, most/tokenChunk+1)
	idle := make(chan *tokenChunkWork, runtime.GOMAXPROCS(0)+1)
	for range cap(idle) {
		idle <- &tokenChunkWork{}
	}
	var workers sync.WaitGroup
	part, next := 0, <-idle
	begin := func() {
		i, c := part, next
		workers.Go(func() {
			parts[i], errs[i] = s.tokenLines(application, c, write)
			c.rows, c.bytes = c.rows[:0], c.bytes[:0]
			idle <- c
		})
		part, next = part+1, <-idle
	}
	err = s.dialect.tokenSources(ctx, s.read, query, args, func(v tokenSource) {
		if next.add(v); len(next.rows) == tokenChunk {
			begin()
		}
	})
	if len(next.rows) > 0 {
		begin()
	}
	workers.Wait()
	if err != nil {
		return nil, 0, s.classify(err)
	}
	return slices.Concat(parts...), last, errors.Join(errs...)
}

// tokenLines opens the rows of a chunk and writes their lines.
func (s *Store) tokenLines(application int64, c *tokenChunkWork, write func([]byte, TokenCitizen) []byte) (out []TokenPiece, err error) {
	piece := TokenPiece{Text: make([]byte, 0, maxPiece)}
	for _, v := range c.rows {
		var public consent.ID
		copy(public[:], c.bytes[v.start:v.details])
		id := public.String()
		of := TokenCitizen{TokenGrounds: TokenGrounds{Application: application, Citizen: v.citizen, Generation: v.generation}, ID: id}
		key, err := s.keys.Unwrap("citizen key "+id, c.bytes[v.wrapped:v.stop])
		if err != nil {
			return nil, fmt.Errorf("key of citizen %s: %w", id, err)
		}
		plain, err := key.Open("details "+id, c.bytes[v.details:v.wrapped])
		if err == nil {
			of.ExternalRef, err = refOf(plain)
		}
		if err != nil {
			return nil, fmt.Errorf("details of citizen %s: %w", id, err)
		}
		before := len(piece.Text)
		lines := write(piece.Text, of)
		if len(lines) > maxPiece && before > 0 {
			out = append(out, piece)
			piece = TokenPiece{Text: append(make([]byte, 0, maxPiece), lines[before:]...)}
		} else {
			piece.Text = lines
		}
		piece.Citizens++
		piece.last = v.citizen
	}
	return append(out, piece), nil
}

// refOf reads the reference alone of a profile, which it begins with: to decode the whole
// takes as long as everything else that a token takes.
func refOf(plain []byte) (string, error) {
	if rest, ok := bytes.CutPrefix(plain, []byte(`{"ref":"`)); ok {
		if ref, _, ok := bytes.Cut(rest, []byte(`"`)); ok && bytes.IndexByte(ref, '\\') < 0 {
			return string(ref), nil
		}
	}
	var p profile
	err := json.Unmarshal(plain, &p)
	return p.ExternalRef, err
}

// AppendTokens adds lines to the result of a job that makes tokens. Those of citizens who
// were erased since they were read are blanked.
func (x *JobTx) AppendTokens(ctx context.Context, pieces []TokenPiece) error {
	erased, err := collect(ctx, x.t, func(r *sql.Rows) (id consent.ID, err error) { return id, r.Scan(&id) },
		`SELECT c.public_id FROM token_erased e JOIN citizen c ON c.id = e.citizen WHERE e.job = $1`, x.job.Number)
	if err != nil {
		return err
	}
	for _, p := range pieces {
		text := p.Text
		for _, id := range erased {
			text = blankLine(text, id)
		}
		place := x.job.Files[consent.JobResult] + x.sizes[consent.JobResult]
		if _, err := x.t.exec(ctx, `INSERT INTO token_piece (job, last, place) VALUES ($1, $2, $3)`, x.job.Number, p.last, place); err != nil {
			return err
		}
		if err := x.Append(ctx, consent.JobResult, text); err != nil {
			return err
		}
	}
	return nil
}

// blankTokens blanks the reference of a citizen who is erased in the files of tokens.
// What is left there names nobody, and opens nothing any more.
func (t *tx) blankTokens(ctx context.Context, c *citizenRow) error {
	type made struct {
		Job
		state consent.JobState
	}
	jobs, err := collect(ctx, t, func(r *sql.Rows) (v made, err error) {
		return v, r.Scan(&v.Number, &v.ID, &v.state)
	}, `SELECT id, public_id, state FROM job WHERE params IS NOT NULL AND application = $1 AND kind = $2 ORDER BY id`, c.application, string(consent.TokensJob))
	if err != nil {
		return err
	}
	for _, j := range jobs {
		if !j.state.Ended() {
			// Locks the job: a step that is about to be committed is seen, or sees this.
			if _, err := t.exec(ctx, `UPDATE job SET version = version WHERE id = $1`, j.Number); err != nil {
				return err
			}
			if _, err := t.exec(ctx, `INSERT INTO token_erased (job, citizen) VALUES ($1, $2) ON CONFLICT DO NOTHING`, j.Number, c.id); err != nil {
				return err
			}
		}
		if err := t.blankTokensOf(ctx, &j.Job, c); err != nil {
			return err
		}
	}
	return nil
}

func (t *tx) blankTokensOf(ctx context.Context, j *Job, c *citizenRow) error {
	var place int64
	var sealed []byte
	err := t.row(ctx, `SELECT f.place, f.sealed FROM token_piece p JOIN job_file f ON f.job = p.job AND f.name = 'result' AND f.place = p.place
		WHERE p.job = $1 AND p.last >= $2 ORDER BY p.last LIMIT 1`, j.Number, c.id).Scan(&place, &sealed)
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	if err != nil {
		return err
	}
	context := j.pieceContext(consent.JobResult, place)
	text, err := t.store.keys.Open(context, sealed)
	if err != nil {
		return fmt.Errorf("file of job %s: %w", j.ID, err)
	}
	_, err = t.exec(ctx, `UPDATE job_file SET sealed = $3 WHERE job = $1 AND name = 'result' AND place = $2`,
		j.Number, place, t.store.keys.Seal(context, blankLine(text, c.publicID)))
	return err
}

// blankLine puts spaces in the place of the second field of the line that begins with an
// id, so that the text stays as long as it is.
func blankLine(text []byte, id consent.ID) []byte {
	start := []byte(id.String() + ",")
	at := bytes.Index(text, append([]byte("\n"), start...))
	switch {
	case bytes.HasPrefix(text, start):
		at = len(start)
	case at < 0:
		return text
	default:
		at += 1 + len(start)
	}
	text = slices.Clone(text)
	quoted := false
	for ; at < len(text) && (quoted || text[at] != ','); at++ {
		if text[at] == '"' {
			quoted = !quoted
		}
		text[at] = ' '
	}
	return text
}

// ResyncTokens begins to send everybody's state again to the subscriptions of the
// application whose messages carry tokens.
func (x *JobTx) ResyncTokens(ctx context.Context) error {
	subs, err := collect(ctx, x.t, x.t.store.scanSubscription, `SELECT `+subscriptionColumns+` FROM `+subscriptionTables+`
		WHERE s.application = $1 AND s.status = $2 AND s.update_type = $3 ORDER BY s.id`, x.job.Application, string(consent.Active), string(consent.EffectivePermission))
	if err != nil {
		return err
	}
	for _, sub := range subs {
		if !sub.IncludeCitizenToken {
			continue
		}
		params, err := json.Marshal(RecoveryParams{Subscription: sub.ID, At: x.t.now, Before: x.t.now, Actor: consent.Platform.ID})
		if err != nil {
			return err
		}
		if _, err := x.t.createJob(ctx, NewJob{Application: x.job.Application, Kind: consent.ResyncJob, Params: params}, consent.Platform.ID); err != nil {
			return err
		}
	}
	return nil
}

// retrySchedule is how long after a scheduled job has failed the next one is due.
const retrySchedule = time.Hour

// ScheduleTokens begins the scheduled job of an application where the last one was begun
// before an instant, there was none, or it has failed, and says whether it did. Of all
// nodes that ask one begins it.
func (s *Store) ScheduleTokens(ctx context.Context, n NewTokens, before consent.Instant) (bool, error) {
	if due, err := scheduleDue(ctx, s.fixed, n.Application, before, now()); err != nil || !due {
		return false, s.classify(err)
	}
	var begun bool
	err := s.update(ctx, func(ctx context.Context, t *tx) error {
		begun = false
		// Locks the application: the second of two nodes sees what the first one did.
		if _, err := t.exec(ctx, `UPDATE application SET revision = revision WHERE id = $1`, n.Application); err != nil {
			return err
		}
		due, err := scheduleDue(ctx, t, n.Application, before, t.now)
		if err != nil || !due {
			return err
		}
		begun = true
		_, err = t.createTokenJob(ctx, n, TokenParams{Everyone: true, Scheduled: true, TokenPlan: n.TokenPlan}, consent.Platform.ID)
		return err
	})
	return outcome(&begun, err)
}

func scheduleDue(ctx context.Context, q reader, application int64, before, at consent.Instant) (bool, error) {
	var last, finished consent.Instant
	var state consent.JobState
	err := q.QueryRowContext(ctx, `SELECT i.created_at, j.finished_at, j.state FROM token_issue i JOIN job j ON j.id = i.job
		WHERE i.application = $1 AND i.scheduled = 1 ORDER BY i.number DESC LIMIT 1`, application).Scan(&last, &finished, &state)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return true, nil
	case err != nil:
		return false, err
	case state == consent.JobFailed:
		return finished.Add(retrySchedule) <= at, nil
	}
	return last <= before && state.Ended(), nil
}
