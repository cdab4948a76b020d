package demo

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
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
)

// Stream records about two changes a second in the application, the way people
// make them: they sign up and withdraw, object, and change their minds; and now
// and then a re-import claims what they objected to. It leaves the first citizen
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
	who string
	Entry
}

// step makes one change.
func (s *stream) step(ctx context.Context) error {
	who, e, err := s.next(ctx)
	if err != nil {
		return err
	}
	t, err := e.Transaction(s.applicationID, who, time.Time{})
	if err != nil {
		return err
	}
	if _, err := s.client.RecordTransaction(ctx, t); err != nil {
		return err
	}
	s.recent = append(s.recent, act{who, e})
	if len(s.recent) > rememberFor {
		s.recent = s.recent[1:]
	}
	return nil
}

// next makes up who does what: every fifth time, somebody takes back what they did
// a moment ago.
func (s *stream) next(ctx context.Context) (who string, e Entry, err error) {
	if len(s.recent) > 3 && chance(s.rand, 0.2) {
		i := s.rand.IntN(len(s.recent) - 3) // no one changes their mind within a second
		was := s.recent[i]
		if e, ok := ChangeOfMind(was.Entry); ok {
			s.recent = append(s.recent[:i:i], s.recent[i+1:]...)
			return was.who, e, nil
		}
	}
	all := Citizens()
	who = all[1+s.rand.IntN(len(all)-1)].ExternalRef
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
	return who, Next(s.rand, state), nil
}
