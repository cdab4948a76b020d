package core_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/internal/core"
)

// A visit lasts an hour, whatever its token lasts, and opens nothing but the pages; what
// is done on it can be undone for ten minutes, by whoever did it.
func TestVisits(t *testing.T) {
	inTime(t, func(t *testing.T, v *signUps) {
		ctx := t.Context()
		c, err := v.svc.CreateCitizen(ctx, v.actor, core.Request{}, "northwind", "ada", consent.Details{})
		if err != nil {
			t.Fatal(err)
		}
		minted, err := v.svc.MintToken(ctx, v.actor, core.Request{}, core.TokenRequest{ApplicationID: "northwind", Citizen: consent.CitizenKey{ID: c.ID}})
		if err != nil {
			t.Fatal(err)
		}
		visit, err := v.svc.BeginVisit(ctx, "northwind", minted.Token)
		if err != nil {
			t.Fatal(err)
		}
		mark := v.svc.MarkPage("visit " + visit)
		time.Sleep(time.Minute)
		synctest.Wait()
		if _, err := v.svc.BeginVisit(ctx, "northwind", minted.Token); consent.KindOf(err) != consent.Unauthenticated {
			t.Errorf("a token that has expired begins a visit: %v", err)
		}
		if _, err := v.svc.ByCitizenToken(ctx, visit); consent.KindOf(err) != consent.Unauthenticated {
			t.Errorf("a visit is good for the API: %v", err)
		}
		if _, err := v.svc.ByVisit(ctx, "northwind", minted.Token); consent.KindOf(err) != consent.Unauthenticated {
			t.Errorf("a citizen token is a visit: %v", err)
		}
		a, err := v.svc.ByVisit(ctx, "northwind", visit)
		if err != nil || a.Citizen != c.ID {
			t.Fatalf("%+v, %v", a, err)
		}
		if !v.svc.WasShown(t.Context(), mark, "visit "+visit) || v.svc.WasShown(t.Context(), mark, "visit") || v.svc.WasShown(t.Context(), mark+"A", "visit "+visit) || v.svc.WasShown(t.Context(), "", "visit "+visit) {
			t.Error("the mark of a page is not told from another")
		}

		done, err := v.svc.Stop(ctx, a, core.Stopping{})
		if err != nil || len(done.Transaction.Changes) == 0 || !done.Transaction.ByCitizen || done.Transaction.Client != consent.InPerson {
			t.Fatalf("%+v, %v", done.Transaction, err)
		}
		ids := []consent.ID{done.Transaction.ID}
		time.Sleep(core.UndoTime - time.Minute)
		if err := v.svc.Undo(ctx, core.Actor{}, ids, core.Origin{}); consent.KindOf(err) != consent.Unauthenticated {
			t.Errorf("nobody undoes: %v", err)
		}
		if err := v.svc.Undo(ctx, a, ids, core.Origin{}); err != nil {
			t.Error(err)
		}
		if err := v.svc.Undo(ctx, a, ids, core.Origin{}); consent.KindOf(err) != consent.Conflict {
			t.Errorf("undoing twice: %v", err)
		}
		if done, err = v.svc.Stop(ctx, a, core.Stopping{}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(core.UndoTime + time.Second)
		if err := v.svc.Undo(ctx, a, []consent.ID{done.Transaction.ID}, core.Origin{}); consent.KindOf(err) != consent.Gone {
			t.Errorf("undoing too late: %v", err)
		}
		if _, err := v.svc.EndPause(ctx, a, core.Origin{}); consent.KindOf(err) != consent.Conflict {
			t.Errorf("ending no pause: %v", err)
		}
		if _, err := v.svc.Stop(ctx, v.actor, core.Stopping{}); consent.KindOf(err) != consent.Unauthenticated {
			t.Errorf("a client stops for nobody: %v", err)
		}

		time.Sleep(time.Hour)
		if _, err := v.svc.ByVisit(ctx, "northwind", visit); consent.KindOf(err) != consent.Unauthenticated {
			t.Errorf("a visit after its hour: %v", err)
		}
		time.Sleep(24 * time.Hour)
		if v.svc.WasShown(t.Context(), mark, "visit "+visit) {
			t.Error("a page of yesterday can be sent")
		}
	})
}
