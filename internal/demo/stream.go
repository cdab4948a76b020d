package demo

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"slices"
	"time"

	"github.com/opencpm/opencpm/client"
)

// The pace of the stream.
const (
	meanPause = 500 * time.Millisecond
	maxPause  = 3 * time.Second
	// afterError is the pause after a change that could not be recorded.
	afterError = 5 * time.Second
	// rememberFor is how many of the last entries may be taken back.
	rememberFor = 20
	// tooSoon is how many of them may not yet: no one changes their mind within a second.
	tooSoon = 3
)

// Stream records about two changes a second in the application, the way people
// make them: they sign up and withdraw, object, say what they like, and change their
// minds; now and then a re-import claims what they objected to, a paper form comes in
// late, and support undoes what was recorded by mistake. It leaves the first citizen
// of the data, whom the page tells its readers to try things on, in peace. It runs
// until ctx ends; what cannot be recorded is logged and given up.
func Stream(ctx context.Context, c *client.Client, applicationID string, log *slog.Logger) {
	r := rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64()))
	s := stream{c, applicationID, r, nil}
	timer := time.NewTimer(meanPause)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		pause := min(time.Duration(r.ExpFloat64()*float64(meanPause)), maxPause)
		if err := s.step(ctx); err != nil && ctx.Err() == nil {
			log.Warn("a change of the demo could not be recorded", "error", err)
			pause = afterError
		}
		timer.Reset(pause)
	}
}

type stream struct {
	client        *client.Client
	applicationID string
	rand          *rand.Rand
	recent        []act // oldest first
}

// act is what somebody did.
type act struct {
	who           string
	transactionID string
	Entry
}

// step makes one change: of what somebody permits, as a rule, or of what they prefer,
// or the undoing of one.
func (s *stream) step(ctx context.Context) error {
	switch n := s.rand.IntN(100); {
	case n < 8:
		_, err := s.client.Submit(ctx, submission(s.applicationID, s.somebody(), Tastes(s.rand)))
		return err
	case n < 10 && len(s.recent) > tooSoon:
		return s.support(ctx)
	}
	who, e, err := s.next(ctx)
	if err != nil {
		return err
	}
	t, err := e.Transaction(s.applicationID, who, time.Now())
	if err != nil {
		return err
	}
	receipt, err := s.client.RecordTransaction(ctx, t)
	if err != nil {
		return err
	}
	s.recent = append(s.recent, act{who, receipt.TransactionID, e})
	if len(s.recent) > rememberFor {
		s.recent = s.recent[1:]
	}
	return nil
}

// support undoes what was recorded a moment ago, by mistake.
func (s *stream) support(ctx context.Context) error {
	agent := pick(s.rand, agents)
	_, err := s.client.Revert(ctx, client.Reversion{
		TransactionID: s.forget().transactionID,
		Origin:        client.Origin{Channel: "support", Source: "telephone", RecordedBy: agent[0], RecordedByName: agent[1]},
	})
	return err
}

// forget takes one of the recent acts out, but not one of the last.
func (s *stream) forget() act {
	i := s.rand.IntN(len(s.recent) - tooSoon)
	was := s.recent[i]
	s.recent = slices.Delete(s.recent, i, i+1)
	return was
}

// somebody picks anyone but the first.
func (s *stream) somebody() string {
	all := Citizens()
	return all[1+s.rand.IntN(len(all)-1)].ExternalRef
}

// next makes up who does what: every fifth time, somebody takes back what they did
// a moment ago.
func (s *stream) next(ctx context.Context) (who string, e Entry, err error) {
	if len(s.recent) > tooSoon && chance(s.rand, 0.2) {
		was := s.forget()
		if e, ok := ChangeOfMind(was.Entry); ok {
			return was.who, e, nil
		}
	}
	who = s.somebody()
	effective, err := s.client.Permissions(ctx, client.PermissionsQuery{ApplicationID: s.applicationID, ExternalRef: who})
	if err != nil && !isStatus(err, http.StatusNotFound) {
		return "", Entry{}, fmt.Errorf("reading the effective state: %w", err)
	}
	state := State{}
	for _, p := range effective.Permissions {
		if p.OptionType == client.Option {
			state[p.OptionID] = p.State
		}
	}
	return who, Now(s.rand, state), nil
}
