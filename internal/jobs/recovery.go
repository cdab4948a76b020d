package jobs

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/internal/store"
)

// The kinds of work on what a subscription gets.
var (
	// Resync sends the present state of everybody, or of those who changed since an
	// instant.
	Resync = Kind{Name: consent.ResyncJob, Step: recovery(resync, func(ctx context.Context, st *store.Store, application int64, p store.RecoveryParams) (int64, error) {
		return st.CountResync(ctx, application, p.Since)
	})}
	// Redeliver makes what is in the failures store due at once.
	Redeliver = Kind{Name: consent.RedeliverJob, Step: recovery(redeliver, nil)}
	// Discard ends what waits.
	Discard = Kind{Name: consent.DiscardJob, Step: recovery(discard, nil)}
)

// recoverMost is how many messages one step deals with at most: other writers wait for it.
const recoverMost = 200

// recoveryStep deals with the next messages, of which there are none where it gives 0.
type recoveryStep func(context.Context, *store.JobTx, store.RecoveryParams, store.RecoveryPlace, int) (store.RecoveryPlace, int, error)

func resync(ctx context.Context, x *store.JobTx, p store.RecoveryParams, at store.RecoveryPlace, most int) (store.RecoveryPlace, int, error) {
	return x.Resync(ctx, p, at, most)
}

func redeliver(ctx context.Context, x *store.JobTx, p store.RecoveryParams, at store.RecoveryPlace, most int) (store.RecoveryPlace, int, error) {
	n, err := x.Redeliver(ctx, p, most)
	return at, n, err
}

func discard(ctx context.Context, x *store.JobTx, p store.RecoveryParams, at store.RecoveryPlace, most int) (store.RecoveryPlace, int, error) {
	return x.Discard(ctx, p, at, most)
}

// recovery makes the step of a kind. count, where given, says at the beginning how many
// messages there are.
func recovery(step recoveryStep, count func(context.Context, *store.Store, int64, store.RecoveryParams) (int64, error)) func(context.Context, *store.Store, store.HeldJob) (Effect, error) {
	return func(ctx context.Context, st *store.Store, job store.HeldJob) (Effect, error) {
		var p store.RecoveryParams
		if err := json.Unmarshal(job.Params, &p); err != nil {
			return nil, fmt.Errorf("parameters of %s: %w", job.Kind, err)
		}
		var at store.RecoveryPlace
		var total *int64
		if job.Cursor != nil {
			if err := json.Unmarshal(job.Cursor, &at); err != nil {
				return nil, fmt.Errorf("cursor of %s: %w", job.Kind, err)
			}
		} else if count != nil {
			n, err := count(ctx, st, job.Application, p)
			if err != nil {
				return nil, err
			}
			total = &n
		}
		return func(ctx context.Context, x *store.JobTx) (store.Progress, error) {
			next, n, err := step(ctx, x, p, at, Batch(job, recoverMost))
			if err != nil {
				return store.Progress{}, err
			}
			cursor, err := json.Marshal(next)
			return store.Progress{Cursor: cursor, Done: int64(n), Total: total, Finished: n == 0}, err
		}, nil
	}
}
