package jobs

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/internal/core"
)

// While the lines of some citizens are committed those of the next are read. Whoever is
// erased in between is named nowhere, and a step that has to be taken again takes what is
// its own.
func TestTokensAreReadAhead(t *testing.T) {
	tokenWorld(t, func(t *testing.T, m *mint) {
		ids := m.people(5)
		j := m.begin(core.TokenJobRequest{Expires: in(time.Hour)})
		held, ok, err := m.st.ClaimJob(ctx, "node", []consent.JobKind{consent.TokensJob}, time.Hour)
		if !ok || err != nil {
			t.Fatal(ok, err)
		}
		v := &minting{core: m.core, most: 2}
		defer v.forget()
		prepare := func() Effect {
			t.Helper()
			effect, err := v.step(ctx, m.st, held)
			if err != nil {
				t.Fatal(err)
			}
			return effect
		}
		prepare() // whose commit fails
		effect := prepare()
		ahead := v.ahead
		<-ahead.ready
		if len(ahead.pieces) != 1 || ahead.pieces[0].Citizens != 2 {
			t.Fatalf("read ahead %+v", ahead)
		}
		if err := m.st.EraseCitizen(ctx, m.app, consent.CitizenKey{ID: ids[2]}, "test"); err != nil {
			t.Fatal(err)
		}
		if held, err = m.st.StepJob(ctx, held, effect); err != nil {
			t.Fatal(err)
		}
		for !held.State.Ended() {
			if held, err = m.st.StepJob(ctx, held, prepare()); err != nil {
				t.Fatal(err)
			}
		}
		var refs []string
		for _, line := range m.lines(j.ID, consent.JobResult, tokenTitles) {
			refs = append(refs, line[1])
		}
		if diff := cmp.Diff([]string{"CUST-0", "CUST-1", "      ", "CUST-3", "CUST-4"}, refs); diff != "" {
			t.Error(diff)
		}
		if got := m.read(j.ID); got.Done != 5 || *got.Total != 5 {
			t.Errorf("ended as %+v", got)
		}
	})
}

// What is read ahead ends with the job in the hands of a node, and a job that has to wait
// between its steps reads nothing in advance.
func TestReadingAheadEnds(t *testing.T) {
	tokenWorld(t, func(t *testing.T, m *mint) {
		m.people(5)
		rate := int64(2)
		for _, perSecond := range []*int64{nil, &rate} {
			m.begin(core.TokenJobRequest{Expires: in(time.Hour), PerSecond: perSecond})
			held, ok, err := m.st.ClaimJob(ctx, "node", []consent.JobKind{consent.TokensJob}, time.Hour)
			if !ok || err != nil {
				t.Fatal(ok, err)
			}
			v := &minting{core: m.core, most: 2}
			if _, err := v.step(ctx, m.st, held); err != nil {
				t.Fatal(err)
			}
			ahead := v.ahead
			if (ahead == nil) != (perSecond != nil) {
				t.Errorf("at %v a second: read ahead %+v", perSecond, ahead)
			}
			v.forget()
			if ahead != nil {
				select {
				case <-ahead.ready:
				default:
					t.Error("somebody still reads")
				}
			}
			if err := m.st.EndJob(ctx, held, consent.JobFailed, "It failed."); err != nil {
				t.Fatal(err)
			}
		}
	})
}
