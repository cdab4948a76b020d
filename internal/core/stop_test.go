package core_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/internal/core"
)

// permit creates a citizen who has permitted options, and gives who they are on our pages.
func (v *signUps) permit(ref string, options ...string) core.Actor {
	v.t.Helper()
	changes := make([]consent.Change, len(options))
	for i, o := range options {
		changes[i] = consent.Change{OptionID: o, Justification: consent.Consent, State: consent.Granted}
	}
	done, err := v.svc.Record(v.t.Context(), v.actor, core.Request{}, core.Transaction{ApplicationID: "northwind", Citizen: consent.CitizenKey{ExternalRef: ref}, Changes: changes})
	if err != nil {
		v.t.Fatal(err)
	}
	return core.Actor{ID: "citizen " + done.CitizenID.String(), Applications: []int64{v.app}, Citizen: done.CitizenID}
}

// stands gives the state of an option of a citizen at an instant, empty for none.
func (v *signUps) stands(id consent.ID, option string, at consent.Instant) consent.State {
	v.t.Helper()
	state, err := v.st.State(v.t.Context(), v.app, consent.CitizenKey{ID: id})
	if err != nil {
		v.t.Fatal(err)
	}
	e, _ := state.Projection.Entry(consent.Key{Type: consent.OptionSingle, ID: option}, at)
	return e.State
}

// Whichever of two devices is first, what was stopped on one does not come back when a
// pause that was pressed on the other is over, or ended.
func TestAStopOutlastsAPauseOfTheSameMoment(t *testing.T) {
	onBoth(t, func(t *testing.T, v *signUps) {
		ctx := t.Context()
		until := consent.At(time.Now().Add(48 * time.Hour))
		for i := range 30 {
			a := v.permit(fmt.Sprint("ada ", i), "newsletter-email", "newsletter-sms")
			if i%2 == 1 {
				if _, err := v.svc.Pause(ctx, a, core.Pausing{Until: until}); err != nil {
					t.Fatal(err)
				}
			}
			begin, done := make(chan struct{}), make(chan error, 2)
			go func() {
				<-begin
				_, err := v.svc.Stop(ctx, a, core.Stopping{})
				done <- err
			}()
			go func() {
				<-begin
				act := func() (core.Recorded, error) { return v.svc.Pause(ctx, a, core.Pausing{Until: until}) }
				if i%2 == 1 {
					act = func() (core.Recorded, error) { return v.svc.EndPause(ctx, a, core.Origin{}) }
				}
				_, err := act()
				if consent.KindOf(err) == consent.Conflict && err != nil {
					err = nil // all was stopped already
				}
				done <- err
			}()
			close(begin)
			for range 2 {
				if err := <-done; err != nil {
					t.Fatal(err)
				}
			}
			for _, at := range []consent.Instant{consent.At(time.Now()), until.Add(time.Hour)} {
				if got := v.stands(a.Citizen, "newsletter-email", at); got != consent.Denied {
					t.Fatalf("citizen %d: what was stopped is %q at %v", i, got, at)
				}
			}
		}
	})
}
