package demo

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/opencpm/opencpm/client"
)

// loaders is how many citizens are loaded at once.
const loaders = 16

// Load records the customers of Northwind Outdoor and their histories in the
// application, through the API. It may be stopped at any point and run again: what
// was recorded is not recorded twice, and citizens that are complete are passed
// over. progress is told after each citizen, one call at a time.
func Load(ctx context.Context, c *client.Client, applicationID string, progress func(done, total int)) error {
	all := Citizens()
	now := time.Now()
	var mu sync.Mutex
	done := 0
	g, working := errgroup.WithContext(ctx)
	g.SetLimit(loaders)
	for i := range all {
		if working.Err() != nil {
			break
		}
		g.Go(func() error {
			if err := loadOne(working, c, applicationID, &all[i], now); err != nil {
				return fmt.Errorf("loading citizen %s: %w", all[i].ExternalRef, err)
			}
			mu.Lock()
			defer mu.Unlock()
			done++
			progress(done, len(all))
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return ctx.Err()
}

// loadOne records the history, which creates the citizen, and then the details:
// a citizen with a name is one that is complete.
func loadOne(ctx context.Context, c *client.Client, applicationID string, citizen *Citizen, now time.Time) error {
	known, err := c.CitizenByRef(ctx, applicationID, citizen.ExternalRef)
	recorded := 0
	switch {
	case isStatus(err, http.StatusNotFound):
	case err != nil:
		return err
	case len(known.ApplicationDetails) > 0 && known.ApplicationDetails[0].GivenName != "":
		return nil
	default:
		if recorded, err = alreadyRecorded(ctx, c, applicationID, citizen.ExternalRef); err != nil {
			return err
		}
	}
	citizenID := known.CitizenID
	for _, e := range citizen.History[min(recorded, len(citizen.History)):] {
		t, err := e.Transaction(applicationID, citizen.ExternalRef, now)
		if err != nil {
			return err
		}
		receipt, err := c.RecordTransaction(ctx, t)
		if err != nil {
			return err
		}
		citizenID = receipt.CitizenID
	}
	_, err = c.UpdateCitizen(ctx, citizenID, client.CitizenUpdate{ApplicationID: applicationID, Details: citizen.Details})
	return err
}

// alreadyRecorded counts the transactions of a citizen whose loading was broken
// off. Those by which the platform itself upheld an objection are not ours.
func alreadyRecorded(ctx context.Context, c *client.Client, applicationID, externalRef string) (int, error) {
	list, err := c.Transactions(ctx, client.TransactionsQuery{ApplicationID: applicationID, ExternalRef: externalRef, Limit: 100})
	n := 0
	for _, t := range list {
		if len(t.Changes) > 0 && t.Changes[0].State != "OBJECTION_UPHELD" {
			n++
		}
	}
	return n, err
}

func isStatus(err error, status int) bool {
	var p *client.Problem
	return errors.As(err, &p) && p.Status == status
}
