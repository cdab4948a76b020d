package jobs

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/internal/store"
)

// LedgerCheck walks all citizens of an application in the order of their numbers: it
// follows the chain of each and compares the effective state with what the ledger says. Its
// failures are lines of CSV with the citizen and what is wrong; its result is a summary.
var LedgerCheck = Kind{Name: consent.LedgerCheck, Step: checkLedger}

// The bounds of one step: how many citizens, how long, and how many between two looks at
// the clock.
const (
	checkMost  = 1000
	checkTime  = 500 * time.Millisecond
	checkChunk = 20
)

// checkedSoFar is where a check has got to.
type checkedSoFar struct {
	After    int64 `json:"after"` // the number of the last citizen
	Citizens int64 `json:"citizens"`
	Records  int64 `json:"records"`
	Failed   int64 `json:"failed"`
}

// checkSummary is the result of a check.
type checkSummary struct {
	ApplicationID string            `json:"applicationId"`
	StartedAt     consent.Timestamp `json:"startedAt"`
	FinishedAt    consent.Timestamp `json:"finishedAt"`
	Citizens      int64             `json:"citizens"` // that were checked
	Records       int64             `json:"records"`  // of the ledger
	Failed        int64             `json:"failed"`   // citizens of whom something is wrong
}

func checkLedger(ctx context.Context, st *store.Store, job store.HeldJob) (Effect, error) {
	var at checkedSoFar
	var total *int64
	if job.Cursor == nil {
		n, err := st.CountCitizens(ctx, job.Application)
		if err != nil {
			return nil, err
		}
		total = &n
	} else if err := json.Unmarshal(job.Cursor, &at); err != nil {
		return nil, fmt.Errorf("cursor of a check: %w", err)
	}
	before, most, finished := at, int64(Batch(job, checkMost)), false
	var wrong []wrongCitizen
	found := func(f store.Finding) {
		if n := len(wrong); n > 0 && wrong[n-1].citizen == f.Citizen {
			wrong[n-1].problems = append(wrong[n-1].problems, f.Problem)
			return
		}
		wrong = append(wrong, wrongCitizen{f.Citizen, []string{f.Problem}})
	}
	for began := time.Now(); !finished && at.Citizens-before.Citizens < most && time.Since(began) < checkTime; {
		part, err := st.CheckCitizens(ctx, job.Application, at.After, int(min(checkChunk, most-(at.Citizens-before.Citizens))), found)
		if err != nil {
			return nil, err
		}
		at.After, at.Citizens, at.Records = part.Last, at.Citizens+part.Citizens, at.Records+part.Records
		finished = part.Citizens == 0
	}
	at.Failed += int64(len(wrong))
	failures, err := failureLines(wrong, before.Failed == 0)
	if err != nil {
		return nil, err
	}
	cursor, err := json.Marshal(at)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, x *store.JobTx) (store.Progress, error) {
		p := store.Progress{Cursor: cursor, Done: at.Citizens - before.Citizens, Failures: at.Failed - before.Failed, Total: total, Finished: finished}
		if err := x.Append(ctx, consent.JobFailures, failures); err != nil || !finished {
			return p, err
		}
		p.Total = &at.Citizens // some may have come meanwhile
		summary, err := json.Marshal(checkSummary{
			job.ApplicationID, consent.Timestamp(job.StartedAt), consent.Timestamp(consent.At(time.Now())), at.Citizens, at.Records, at.Failed,
		})
		if err != nil {
			return p, err
		}
		return p, x.Append(ctx, consent.JobResult, append(summary, '\n'))
	}, nil
}

// wrongCitizen is a citizen of whom something is wrong.
type wrongCitizen struct {
	citizen  consent.ID
	problems []string
}

// failureLines writes a line for each citizen, after the titles where these are the first.
func failureLines(list []wrongCitizen, first bool) ([]byte, error) {
	if len(list) == 0 {
		return nil, nil
	}
	var text bytes.Buffer
	w := csv.NewWriter(&text)
	w.UseCRLF = true // RFC 4180
	if first {
		_ = w.Write([]string{"citizenId", "problem"}) // Error says it below
	}
	for _, c := range list {
		_ = w.Write([]string{c.citizen.String(), strings.Join(c.problems, "; ")})
	}
	w.Flush()
	return text.Bytes(), w.Error()
}
