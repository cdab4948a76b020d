package core_test

import (
	"testing"
	"time"

	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/internal/core"
)

// signUpWith captures a consent with a telephone number, by an address or a reference.
func (v *signUps) signUpWith(address, ref, telephone string) {
	v.t.Helper()
	err := v.svc.Capture(v.t.Context(), core.Request{}, core.Capture{
		ApplicationID: "northwind", Email: address, Reference: ref, Telephone: telephone, Visitor: visitor,
		Changes: []consent.Change{{OptionID: "newsletter-sms", Justification: consent.Consent, State: consent.Granted}},
	})
	if err != nil {
		v.t.Fatal(err)
	}
}

// telephone checks what number is known of a citizen.
func (v *signUps) telephone(when string, id consent.ID, want string) {
	v.t.Helper()
	c, err := v.st.Citizen(v.t.Context(), v.app, consent.CitizenKey{ID: id})
	if err != nil {
		v.t.Fatal(err)
	}
	if c.Details.Telephone != want {
		v.t.Errorf("%s: the number is %q, not %q", when, c.Details.Telephone, want)
	}
}

func (v *signUps) change(id consent.ID, telephone string) {
	v.t.Helper()
	if _, _, err := v.svc.ChangeCitizen(v.t.Context(), v.actor, core.Request{}, id, func(_ *string, d *consent.Details) { d.Telephone = telephone }); err != nil {
		v.t.Fatal(err)
	}
}

func (v *signUps) undo(link string) {
	v.t.Helper()
	if got, err := v.svc.UndoConfirmation(v.t.Context(), link, v.look(link).Mark, visitor); err != nil || got.State != core.ConfirmWithdrawn {
		v.t.Fatal(got, err)
	}
}

const (
	ours   = "+442079460018"
	theirs = "+442079460099"
)

// A number that a stranger typed beside an address is nobody's before its owner has
// confirmed, takes no other's place then, and goes when it was not them.
func TestATelephoneComesWithTheConfirmation(t *testing.T) {
	onBoth(t, func(t *testing.T, v *signUps) {
		v.signUpWith("ada@example.com", "", "+44 20 7946 0018 ext. 7")
		m := v.mail()
		v.telephone("signed up", m.CitizenID, "")
		if got := v.look(linkOf(m)); got.Telephone != "+44•••18" {
			t.Errorf("the page says %q", got.Telephone)
		}
		v.confirm(linkOf(m))
		v.telephone("confirmed", m.CitizenID, ours)
		v.signUpWith("ada@example.com", "", theirs)
		again := v.mail()
		v.confirm(linkOf(again))
		v.telephone("confirmed with another number", m.CitizenID, ours)
		v.undo(linkOf(again))
		v.telephone("undone, of which it was not", m.CitizenID, ours)
		v.undo(linkOf(m))
		v.telephone("undone", m.CitizenID, "")

		known := v.create("CUST-1", "bob@example.com")
		v.signUpWith("bob@example.com", "", ours)
		m = v.mail()
		v.telephone("somebody who is known signed up", known, "")
		v.change(known, theirs)
		v.confirm(linkOf(m))
		v.telephone("with a number meanwhile", known, theirs)
		v.undo(linkOf(m))
		v.telephone("with a number meanwhile, undone", known, theirs)

		known = v.create("CUST-2", "eve@example.com")
		v.signUpWith("eve@example.com", "", ours)
		m = v.mail()
		v.confirm(linkOf(m))
		v.telephone("somebody who is known confirmed", known, ours)
		v.change(known, theirs)
		v.undo(linkOf(m))
		v.telephone("undone after the client changed it", known, theirs)
		v.unharmed()
	})
}

// Of two who sign up with an address the number of the one that its owner confirms is
// kept, through a new link as well.
func TestTheNumberOfTheConfirmedSignUpIsKept(t *testing.T) {
	inTime(t, func(t *testing.T, v *signUps) {
		v.signUpWith("ada@example.com", "", theirs)
		first := v.mail()
		time.Sleep(49 * time.Hour)
		v.signUpWith("ada@example.com", "", ours)
		second := v.mail()
		time.Sleep(49 * time.Hour)
		if err := v.svc.ResendConfirmation(t.Context(), linkOf(second), visitor); err != nil {
			t.Fatal(err)
		}
		third := v.mail()
		if got := v.confirm(linkOf(first)); got.State != core.ConfirmExpired {
			t.Fatalf("confirmed by an old link: %+v", got)
		}
		v.telephone("before the confirmation", third.CitizenID, "")
		v.confirm(linkOf(third))
		v.telephone("confirmed", third.CitizenID, ours)
		v.unharmed()
	})
}

// What the do-not-contact list says of a number holds for who signs up with it: nobody has
// shown that it is theirs.
func TestAConfirmationDoesNotLiftANumber(t *testing.T) {
	onBoth(t, func(t *testing.T, v *signUps) {
		if _, err := v.svc.Suppress(t.Context(), v.actor, core.Request{}, core.NewSuppression{
			ApplicationID: "northwind", Address: core.ListedAddress{Telephone: ours}, Channels: []string{"sms"},
		}); err != nil {
			t.Fatal(err)
		}
		v.signUpWith("ada@example.com", "", ours)
		m := v.mail()
		v.confirm(linkOf(m))
		if state, _ := v.state(m.CitizenID, "newsletter-sms"); state != consent.Denied {
			t.Errorf("confirmed with a number on the list it is %q", state)
		}
		v.undo(linkOf(m))
		v.telephone("undone", m.CitizenID, "")
		v.unharmed()
	})
}

// By a reference the number is that of who is new, and waits with the rest for who is
// known.
func TestATelephoneByReference(t *testing.T) {
	onBoth(t, func(t *testing.T, v *signUps) {
		v.signUpWith("", "NEW-1", "+44 (0)20 7946 0018")
		v.telephone("new", v.called("NEW-1"), ours)
		v.signUpWith("", "NEW-1", theirs)
		list, _, err := v.svc.Captures(t.Context(), v.actor, "northwind", 0, 10, 0)
		if err != nil || len(list) != 1 || list[0].Telephone != theirs {
			t.Fatalf("waiting: %+v, %v", list, err)
		}
		v.accept()
		v.telephone("accepted, with a number", v.called("NEW-1"), ours)
		known := v.create("CUST-1", "")
		v.signUpWith("", "CUST-1", theirs)
		v.telephone("known", known, "")
		v.accept()
		v.telephone("accepted", known, theirs)
		v.unharmed()
	})
}

// What is no number with its country is refused, for everybody in the same words.
func TestWhatIsNoTelephoneIsRefused(t *testing.T) {
	onBoth(t, func(t *testing.T, v *signUps) {
		v.create("CUST-1", "ada@example.com")
		for _, telephone := range []string{"020 7946 0018", "+44", "call me", "+44 20 7946 0018\r\n1"} {
			var said []string
			for _, c := range []core.Capture{{Email: "ada@example.com"}, {Email: "eve@example.com"}, {Reference: "CUST-1"}, {Reference: "NEW-1"}} {
				c.ApplicationID, c.Telephone, c.Visitor = "northwind", telephone, visitor
				c.Changes = []consent.Change{{OptionID: "newsletter-sms", Justification: consent.Consent, State: consent.Granted}}
				err := v.svc.Capture(t.Context(), core.Request{}, c)
				if consent.KindOf(err) != consent.Invalid {
					t.Fatalf("%q is answered %v", telephone, err)
				}
				said = append(said, err.Error())
			}
			for _, text := range said {
				if text != said[0] {
					t.Errorf("%q is answered %q and %q", telephone, said[0], text)
				}
			}
		}
		if len(v.mails()) != 0 || !v.who("eve@example.com").IsZero() || !v.called("NEW-1").IsZero() {
			t.Error("something was recorded")
		}
	})
}
