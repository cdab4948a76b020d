package jobs

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/internal/core"
	"github.com/opencpm/opencpm/internal/store"
)

// Tokens makes tokens of the citizens of an application, of all or of those who are named,
// in the order of their numbers. Its result is a file for a mail tool with a line for each,
// its failures are who was named and does not exist.
func Tokens(c *core.Service) Kind {
	return Kind{Name: consent.TokensJob, Open: func() (Step, func()) {
		m := &minting{core: c, most: tokensMost}
		return m.step, m.forget
	}}
}

// minting is a job that makes tokens in the hands of a node.
type minting struct {
	core  *core.Service
	most  int        // citizens a step
	ahead *tokenPage // the one that is likely to be asked for next; nil: none
}

// tokenPage is the lines of a number of citizens, once ready is closed. Who is erased
// after they were read is noted for the commit, as long as the job has not ended.
type tokenPage struct {
	after, last int64
	pieces      []store.TokenPiece
	err         error
	ready       chan struct{}
	drop        context.CancelFunc
}

// read begins to read the page after a citizen.
func (m *minting) read(ctx context.Context, st *store.Store, job store.HeldJob, p store.TokenParams, after int64) *tokenPage {
	page := &tokenPage{after: after, ready: make(chan struct{})}
	named := p.Citizens
	if !p.Everyone && named == nil {
		named = []int64{}
	}
	ctx, page.drop = context.WithCancel(ctx)
	go func() {
		defer close(page.ready)
		defer page.drop()
		defer catch(&page.err)
		page.pieces, page.last, page.err = st.TokenLines(ctx, job.Application, after, named, Batch(job, m.most), newTokenLines(m.core, p).write)
	}()
	return page
}

// page gives the page after a citizen. The one that follows it is read while its effect
// is committed, unless the job has to wait in between.
func (m *minting) page(ctx context.Context, st *store.Store, job store.HeldJob, p store.TokenParams, after int64) (*tokenPage, error) {
	page := m.ahead
	if page != nil {
		<-page.ready
	}
	if page == nil || page.after != after || page.err != nil {
		page = m.read(ctx, st, job, p, after)
		<-page.ready
	}
	m.ahead = nil
	if page.err == nil && page.last != 0 && job.PerSecond == 0 {
		m.ahead = m.read(ctx, st, job, p, page.last)
	}
	return page, page.err
}

// forget ends what is read ahead.
func (m *minting) forget() {
	if m.ahead != nil {
		m.ahead.drop()
		<-m.ahead.ready
	}
}

// tokensMost is how many citizens one step makes tokens of: other writers wait while their
// lines, some megabytes, are written.
const tokensMost = 20_000

// tokensSoFar is where such a job has got to.
type tokensSoFar struct {
	After int64 `json:"after"` // the number of the last citizen
	Done  int64 `json:"done"`
}

func (m *minting) step(ctx context.Context, st *store.Store, job store.HeldJob) (Effect, error) {
	var p store.TokenParams
	if err := json.Unmarshal(job.Params, &p); err != nil {
		return nil, fmt.Errorf("parameters of %s: %w", job.Kind, err)
	}
	if p.Expires <= consent.At(time.Now()) {
		return nil, consent.Errorf(consent.Invalid, "The tokens would have expired by now.")
	}
	var at tokensSoFar
	out := store.Progress{}
	var title, failures []byte
	if job.Cursor == nil {
		total := int64(len(p.Citizens) + len(p.Unknown) + len(p.UnknownRefs))
		if p.Everyone {
			var err error
			if total, err = st.CountCitizens(ctx, job.Application); err != nil {
				return nil, err
			}
		}
		out.Total = &total
		out.Failures = int64(len(p.Unknown) + len(p.UnknownRefs))
		title, failures = tokenTitle(p.TokenPlan), unknownCitizens(p)
	} else if err := json.Unmarshal(job.Cursor, &at); err != nil {
		return nil, fmt.Errorf("cursor of %s: %w", job.Kind, err)
	}
	page, err := m.page(ctx, st, job, p, at.After)
	if err != nil {
		return nil, err
	}
	out.Done, out.Finished, at.After = out.Failures, page.last == 0, page.last
	for _, piece := range page.pieces {
		out.Done += int64(piece.Citizens)
	}
	at.Done += out.Done
	if out.Cursor, err = json.Marshal(at); err != nil {
		return nil, err
	}
	if out.Finished {
		out.Total = &at.Done // some may have come or gone meanwhile
	}
	return func(ctx context.Context, x *store.JobTx) (store.Progress, error) {
		if err := x.Append(ctx, consent.JobResult, title); err != nil {
			return out, err
		}
		if err := x.AppendTokens(ctx, page.pieces); err != nil {
			return out, err
		}
		if out.Finished && p.Scheduled {
			if err := x.ResyncTokens(ctx); err != nil {
				return out, err
			}
		}
		return out, x.Append(ctx, consent.JobFailures, failures)
	}, nil
}

// tokenTitle is the first line of a file of tokens.
func tokenTitle(p store.TokenPlan) []byte {
	line := []byte("citizenId,externalRef,token,token_url,expiryDate")
	for _, column := range p.Unsubscribe {
		line = appendField(append(line, ','), "unsubscribe_url_"+column.ID)
	}
	return append(line, "\r\n"...)
}

// tokenLines writes the lines of one job. Its methods are safe for concurrent use.
type tokenLines struct {
	core            *core.Service
	plan            store.TokenPlan
	issue           int64
	tokenURL, leave tokenURL
	expires         string
}

func newTokenLines(c *core.Service, p store.TokenParams) *tokenLines {
	return &tokenLines{c, p.TokenPlan, p.Issue, parseTokenURL(p.TokenURL), parseTokenURL(p.LeaveURL), p.Expires.String()}
}

// write adds the line of one citizen.
func (v *tokenLines) write(line []byte, c store.TokenCitizen) []byte {
	line = append(line, c.ID...)
	line = appendField(append(line, ','), c.ExternalRef)
	c.Issue = v.issue
	token := v.core.WriteToken(c.TokenGrounds, v.plan.Expires)
	line = append(append(line, ','), token...)
	line = v.tokenURL.append(append(line, ','), token)
	line = append(append(line, ','), v.expires...)
	for _, column := range v.plan.Unsubscribe {
		c.Issue = column.Link
		line = v.leave.append(append(line, ','), v.core.WriteUnsubscribe(c.TokenGrounds))
	}
	return append(line, "\r\n"...) // RFC 4180
}

// tokenURL is a URL in the form of a field of CSV, cut where the token goes.
type tokenURL []string

func parseTokenURL(text string) tokenURL {
	return strings.Split(string(appendField(nil, text)), "{token}")
}

func (u tokenURL) append(line []byte, token string) []byte {
	for i, part := range u {
		if i > 0 {
			line = append(line, token...)
		}
		line = append(line, part...)
	}
	return line
}

// appendField adds a field of CSV. One that a spreadsheet would take for a formula gets an
// apostrophe in front, and one that a spreadsheet would take for more than one field, as
// those do that part at the semicolon, is quoted.
func appendField(line []byte, text string) []byte {
	if first, n := utf8.DecodeRuneInString(text); n > 0 && strings.ContainsRune("=+-@\t\r＝＋－＠", first) {
		text = "'" + text
	}
	if !strings.ContainsAny(text, ",;\t\"\r\n") {
		return append(line, text...)
	}
	line = append(line, '"')
	line = append(line, strings.ReplaceAll(text, `"`, `""`)...)
	return append(line, '"')
}

// unknownCitizens writes the file of failures, nil where nobody is unknown.
func unknownCitizens(p store.TokenParams) []byte {
	if len(p.Unknown)+len(p.UnknownRefs) == 0 {
		return nil
	}
	const problem = "there is no such citizen"
	text := []byte("citizenId,externalRef,problem\r\n")
	for _, id := range p.Unknown {
		text = append(text, id+",,"+problem+"\r\n"...)
	}
	for _, ref := range p.UnknownRefs {
		text = append(appendField(append(text, ','), ref), ","+problem+"\r\n"...)
	}
	return text
}

// regenerateEvery is how often to look whether tokens are due to be made anew.
const regenerateEvery = time.Minute

// Regenerate begins to make new tokens of everyone, on schedule, until ctx ends. Any number
// of nodes may run it at once.
func Regenerate(ctx context.Context, c *core.Service, log *slog.Logger) {
	tick := time.NewTicker(regenerateEvery)
	defer tick.Stop()
	for {
		if err := c.RegenerateTokens(ctx); err != nil && ctx.Err() == nil {
			log.Warn("tokens cannot be made on schedule; it is tried again", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}
