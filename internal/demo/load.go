package demo

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/opencpm/opencpm/client"
)

const (
	loaders = 16 // batches at once
	batch   = 50 // citizens created by one call
	// backfilled tells an entry of a history from what somebody does now.
	backfilled = time.Hour
)

// Load records the customers of Northwind Outdoor and their histories in the
// application, through the API: those who began alike are created together, with their
// first answers. It may be stopped at any point and run again: what was recorded is not
// recorded twice, and citizens that are complete are passed over. progress is told after
// each citizen, one call at a time.
func Load(ctx context.Context, c *client.Client, applicationID string, progress func(done, total int)) error {
	var mu sync.Mutex
	done := 0
	l := loader{c, applicationID, time.Now(), func() {
		mu.Lock()
		defer mu.Unlock()
		done++
		progress(done, len(Citizens()))
	}}
	g, working := errgroup.WithContext(ctx)
	g.SetLimit(loaders)
	for _, alike := range batches() {
		if working.Err() != nil {
			break
		}
		g.Go(func() error { return l.load(working, alike) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return ctx.Err()
}

// batches gives the customers in the order of the data, in batches of those whose first
// entries differ in nothing but content and time: one call has one origin.
func batches() [][]*Citizen {
	type origin [7]string
	var list [][]*Citizen
	filling := map[origin]int{}
	for i := range Citizens() {
		c := &Citizens()[i]
		e := &c.History[0]
		from := origin{e.Channel, e.Campaign, e.Source, e.SourceSystem, e.RecordedBy, e.RecordedByName, e.Statement}
		at, begun := filling[from]
		if !begun || len(list[at]) == batch {
			at = len(list)
			list, filling[from] = append(list, nil), at
		}
		list[at] = append(list[at], c)
	}
	return list
}

type loader struct {
	client        *client.Client
	applicationID string
	now           time.Time
	loaded        func() // is called after each citizen
}

// load makes sure that those of a batch exist, with their histories.
func (l *loader) load(ctx context.Context, alike []*Citizen) error {
	recorded, err := l.create(ctx, alike)
	if err != nil {
		return fmt.Errorf("creating the citizens from %s on: %w", alike[0].ExternalRef, err)
	}
	for i, c := range alike {
		if err := l.catchUp(ctx, c, recorded[i]); err != nil {
			return fmt.Errorf("loading citizen %s: %w", c.ExternalRef, err)
		}
		l.loaded()
	}
	return nil
}

// create creates those of a batch who do not exist yet, and says of each how much of
// the history is recorded then.
func (l *loader) create(ctx context.Context, alike []*Citizen) ([]int, error) {
	recorded := slices.Repeat([]int{1}, len(alike))
	err := l.createAll(ctx, alike)
	if !isStatus(err, http.StatusConflict) {
		return recorded, err
	}
	// An earlier start created them; or somebody did, who tried the API on one.
	var missing []*Citizen
	for i, c := range alike {
		n, err := l.recorded(ctx, c.ExternalRef)
		switch {
		case isStatus(err, http.StatusNotFound):
			missing = append(missing, c)
		case err != nil:
			return nil, err
		default:
			recorded[i] = n
		}
	}
	if len(missing) == 0 {
		return recorded, nil
	}
	return recorded, l.createAll(ctx, missing)
}

// createAll creates citizens with the first entries of their histories in one call.
func (l *loader) createAll(ctx context.Context, alike []*Citizen) error {
	list := make([]client.BulkCitizen, len(alike))
	var t client.Transaction
	for i, c := range alike {
		var err error
		if t, err = c.History[0].Transaction(l.applicationID, c.ExternalRef, l.now); err != nil {
			return err
		}
		list[i] = client.BulkCitizen{ExternalRef: c.ExternalRef, Changes: t.Changes, ObtainedAt: t.ObtainedAt, Details: c.Details}
		for _, s := range c.Answers {
			list[i].Preferences = append(list[i].Preferences, ParseAnswer(s))
		}
	}
	_, err := l.client.CreateCitizens(ctx, client.NewCitizens{
		ApplicationID: l.applicationID, Citizens: list,
		Origin: client.Origin{ // without obtainedAt, which each citizen has
			PrivacyPolicyRef: t.PrivacyPolicyRef, PermissionStatementRef: t.PermissionStatementRef,
			Channel: t.Channel, Campaign: t.Campaign, Source: t.Source, SourceSystem: t.SourceSystem,
			RecordedBy: t.RecordedBy, RecordedByName: t.RecordedByName,
		},
	})
	return err
}

// recorded counts the entries of the history that are recorded of a citizen.
func (l *loader) recorded(ctx context.Context, externalRef string) (int, error) {
	n := 0
	for t, err := range l.client.AllTransactions(ctx, client.RecordsQuery{ApplicationID: l.applicationID, ExternalRef: externalRef}) {
		if err != nil {
			return n, err
		}
		if t.RecordedAt.Sub(t.ObtainedAt) > backfilled {
			n++
		}
	}
	return n, nil
}

// catchUp records what is missing of a citizen's history. One of whom nothing is
// recorded was created by somebody else, without the details and answers.
func (l *loader) catchUp(ctx context.Context, citizen *Citizen, recorded int) error {
	if recorded == 0 {
		if err := l.describe(ctx, citizen); err != nil {
			return err
		}
	}
	for _, e := range citizen.History[min(recorded, len(citizen.History)):] {
		t, err := e.Transaction(l.applicationID, citizen.ExternalRef, l.now)
		if err != nil {
			return err
		}
		if _, err := l.client.RecordTransaction(ctx, t); err != nil {
			return err
		}
	}
	return nil
}

// describe sets the details and the preferences of a citizen who exists.
func (l *loader) describe(ctx context.Context, citizen *Citizen) error {
	known, err := l.client.CitizenByRef(ctx, l.applicationID, citizen.ExternalRef)
	if err != nil {
		return err
	}
	if _, err := l.client.UpdateCitizen(ctx, known.CitizenID, client.CitizenUpdate{ApplicationID: l.applicationID, Details: citizen.Details}); err != nil {
		return err
	}
	if len(citizen.Answers) == 0 {
		return nil
	}
	_, err = l.client.Submit(ctx, submission(l.applicationID, citizen.ExternalRef, citizen.Answers))
	return err
}

// submission gives answers as they are recorded through the API.
func submission(applicationID, externalRef string, answers []string) client.Submission {
	v := client.Submission{ApplicationID: applicationID, ExternalRef: externalRef, Origin: client.Origin{Channel: "preference-centre", Source: "website"}}
	for _, s := range answers {
		v.Preferences = append(v.Preferences, ParseAnswer(s))
	}
	return v
}

func isStatus(err error, status int) bool {
	var p *client.Problem
	return errors.As(err, &p) && p.Status == status
}
