// Package jobs works on long work, step by step, wherever it has got to (see Runner), and
// does what nobody asks for: it carries the passing of time into the effective states and
// forgets what must be forgotten.
package jobs

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/opencpm/opencpm/internal/store"
)

// The pauses between two rounds.
const (
	passageEvery = time.Second
	forgetEvery  = time.Minute
)

// passageBatch is how many citizens one round takes at a time.
const passageBatch = 200

// Run works until ctx ends. Any number of nodes may run it at once: every step is
// done under the citizen's lock and changes nothing the second time.
func Run(ctx context.Context, st *store.Store, log *slog.Logger) {
	passage, forget := time.NewTicker(passageEvery), time.NewTicker(forgetEvery)
	defer passage.Stop()
	defer forget.Stop()
	for {
		var err error
		select {
		case <-ctx.Done():
			return
		case <-passage.C:
			err = errors.Join(passTime(ctx, st), st.MoveAddresses(ctx), st.SpreadSuppressions(ctx))
		case <-forget.C:
			err = errors.Join(st.ForgetErased(ctx), st.ForgetOutcomes(ctx), st.ForgetJobs(ctx), st.ForgetTokenIssues(ctx), st.ForgetAttempts(ctx), st.ForgetMails(ctx), st.ForgetCaptures(ctx), purgeSignUps(ctx, st))
		}
		if err != nil && ctx.Err() == nil {
			log.Warn("background work failed and is tried again", "error", err)
		}
	}
}

// purgeBatch is how many sign-ups one round takes at a time.
const purgeBatch = 100

// purgeSignUps forgets the sign-ups that nobody has confirmed in time.
func purgeSignUps(ctx context.Context, st *store.Store) error {
	for {
		if more, err := st.PurgeSignUps(ctx, purgeBatch); err != nil || !more {
			return err
		}
	}
}

// passTime brings every citizen up to the present whose state time has changed.
func passTime(ctx context.Context, st *store.Store) error {
	for {
		due, err := st.DuePassages(ctx, passageBatch)
		if err != nil || len(due) == 0 {
			return err
		}
		if err := st.PassAll(ctx, due); err != nil {
			return err
		}
	}
}
