package core_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/internal/core"
	"github.com/opencpm/opencpm/internal/store"
)

// asksForLinks has requests for links answered until the test ends, by links to a page of
// the application.
func (v *signUps) asksForLinks(ctx context.Context) (stop func()) {
	v.t.Helper()
	doc, err := v.svc.ExportCatalogue(ctx, "northwind")
	if err != nil {
		v.t.Fatal(err)
	}
	doc.Application.ManageURL = "https://shop.example/preferences?token={token}"
	if _, err := v.svc.ImportCatalogue(ctx, "northwind", doc, core.Import{}); err != nil {
		v.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() { v.svc.RunLinks(ctx); close(done) }()
	return func() { cancel(); <-done }
}

// ask asks for a link, or a code by the form "form", in fake time: the limits have passed, and
// the mail is made.
func (v *signUps) ask(address string, code bool) {
	v.t.Helper()
	time.Sleep(2 * time.Minute)
	if err := v.svc.RequestLink(v.t.Context(), core.LinkRequest{ApplicationID: "northwind", Email: address, Code: code, Asker: "form", Visitor: visitor}); err != nil {
		v.t.Fatal(err)
	}
	time.Sleep(10 * time.Second)
}

func tokenOf(m store.DueMail) string {
	_, token, _ := strings.Cut(m.Action.URL, "token=")
	return token
}

// opens reports whether a token still shows somebody's own data.
func (v *signUps) opens(token string) bool {
	v.t.Helper()
	_, err := v.svc.ByCitizenToken(v.t.Context(), token)
	if err != nil && consent.KindOf(err) != consent.Unauthenticated {
		v.t.Fatal(err)
	}
	return err == nil
}

// What was sent to an address is of no use any more when the citizen has another one, or
// none: it may be another's by then.
func TestWhatWasSentEndsWithTheAddress(t *testing.T) {
	for name, leave := range map[string]func(v *signUps, id consent.ID) error{
		"another address": func(v *signUps, id consent.ID) error {
			return v.svc.SetEmail(v.t.Context(), v.actor, core.Request{}, id, "ada@new.example")
		},
		"another among the details": func(v *signUps, id consent.ID) error {
			_, _, err := v.svc.ChangeCitizen(v.t.Context(), v.actor, core.Request{}, id, func(_ *string, d *consent.Details) { d.Email = "ada@new.example" })
			return err
		},
		"none": func(v *signUps, id consent.ID) error { return v.svc.DeleteEmail(v.t.Context(), v.actor, id) },
	} {
		t.Run(name, func(t *testing.T) {
			inTime(t, func(t *testing.T, v *signUps) {
				ctx := t.Context()
				stop := v.asksForLinks(ctx)
				defer func() { stop() }()
				id := v.create("CUST-1", "ada@example.com")
				v.signUp("ada@example.com", "newsletter-email")
				link := linkOf(v.mail())
				v.ask("ada@example.com", false)
				token := tokenOf(v.mail())
				visit, err := v.svc.BeginVisit(ctx, "northwind", token)
				if err != nil {
					t.Fatal(err)
				}
				own, err := v.svc.MintToken(ctx, v.actor, core.Request{}, core.TokenRequest{ApplicationID: "northwind", Citizen: consent.CitizenKey{ID: id}, Expires: consent.At(time.Now().Add(24 * time.Hour))})
				if err != nil {
					t.Fatal(err)
				}
				v.ask("ada@example.com", true)
				code := sixDigits.FindString(v.mail().Text)
				v.ask("ada@example.com", false) // which waits

				if err := v.svc.SetEmail(ctx, v.actor, core.Request{}, id, "ADA@example.com"); err != nil {
					t.Fatal(err)
				}
				if !v.opens(token) || v.look(link).State != core.ConfirmOpen {
					t.Fatal("the same address in capitals ends what was sent to it")
				}
				if err := leave(v, id); err != nil {
					t.Fatal(err)
				}
				if n := len(v.mails()); n != 0 {
					t.Errorf("%d mails leave for the old address", n)
				}
				if list, _, err := v.svc.Mails(ctx, v.actor, id, 10, 0); err != nil || len(list) != 4 || list[0].State != consent.EmailExpired || list[0].Reason == "" || list[1].State != consent.EmailSent {
					t.Errorf("the mails are %+v, %v", list, err)
				}
				if v.opens(token) {
					t.Error("the link in an old mail opens the preferences")
				}
				if _, err := v.svc.ByVisit(ctx, "northwind", visit); consent.KindOf(err) != consent.Unauthenticated {
					t.Errorf("the visit that it opened: %v", err)
				}
				if !v.opens(own.Token) {
					t.Error("a token that the client made has ended")
				}
				if _, err := v.svc.RedeemCode(ctx, "northwind", "ada@example.com", "form", code, visitor); consent.KindOf(err) != consent.Unauthenticated {
					t.Errorf("the code in an old mail: %v", err)
				}
				if c := v.confirm(link); c.State != core.ConfirmExpired || c.Renewable {
					t.Errorf("the sign-up is %+v", c)
				}
				if state, _ := v.state(id, "newsletter-email"); state == consent.Granted {
					t.Error("the owner of the old address has confirmed")
				}
				stop() // which looks every second
				time.Sleep(72 * time.Hour)
				if err := v.svc.ResendConfirmation(ctx, link, visitor); err != nil {
					t.Fatal(err)
				}
				if n := len(v.mails()); n != 0 {
					t.Errorf("the old address can have %d new links", n)
				}
			})
		})
	}
}

// A stranger who signed up with an address is no obstacle to the citizen whom the
// application knows by it.
func TestASignUpOfAStrangerRanksLast(t *testing.T) {
	inTime(t, func(t *testing.T, v *signUps) {
		defer v.asksForLinks(t.Context())()
		v.signUp("ada@example.com", "newsletter-email")
		squat := v.mail()
		known := v.create("REAL", "ada@example.com")
		v.ask("ada@example.com", true)
		if m := v.mail(); m.CitizenID != known {
			t.Errorf("the code is for %s", m.CitizenID)
		}
		v.ask("ada@example.com", false)
		if list := v.mails(); len(list) != 2 || list[0].CitizenID != known {
			t.Errorf("the links are %+v", list)
		}
		time.Sleep(25 * time.Hour)
		v.signUp("ada@example.com", "newsletter-sms")
		second := v.mail()
		if second.CitizenID != known {
			t.Errorf("the second sign-up is of %s", second.CitizenID)
		}
		// Who has confirmed has shown to own the address.
		v.confirm(linkOf(squat))
		v.ask("ada@example.com", true)
		if m := v.mail(); m.CitizenID != squat.CitizenID {
			t.Errorf("the code is for %s, not for the oldest", m.CitizenID)
		}
	})
}
