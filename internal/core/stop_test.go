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

// Several pauses end together, and only once.
func TestEndingPauses(t *testing.T) {
	onBoth(t, func(t *testing.T, v *signUps) {
		ctx := t.Context()
		a := v.permit("ada", "newsletter-email")
		for i, option := range []string{"", "newsletter-sms"} {
			if option != "" {
				v.permit("ada", option)
			}
			if _, err := v.svc.Pause(ctx, a, core.Pausing{Until: consent.At(time.Now().Add(time.Duration(24+i) * time.Hour))}); err != nil {
				t.Fatal(err)
			}
		}
		before := len(v.records(a.Citizen))
		done := make(chan error, 4)
		for range cap(done) {
			go func() {
				_, err := v.svc.EndPause(ctx, a, core.Origin{})
				done <- err
			}()
		}
		ended := 0
		for range cap(done) {
			switch err := <-done; {
			case err == nil:
				ended++
			case err.Error() != "There is no pause.":
				t.Error(err)
			}
		}
		if n := len(v.records(a.Citizen)) - before; ended != 1 || n != 2 {
			t.Errorf("%d ended the pauses, by %d records", ended, n)
		}
		now := consent.At(time.Now())
		if email, sms := v.stands(a.Citizen, "newsletter-email", now), v.stands(a.Citizen, "newsletter-sms", now); email != consent.Granted || sms != consent.Granted {
			t.Errorf("there stand %q and %q", email, sms)
		}
	})
}
