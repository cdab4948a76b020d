package core_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/internal/core"
	"github.com/opencpm/opencpm/internal/store"
)

// mute takes the mail server away: no mail of the application can leave.
func (v *signUps) mute() { v.svc = core.New(v.st, core.Options{BaseURL: "https://consent.example/"}) }

// who finds the one citizen with an address, or none.
func (v *signUps) who(address string) (id consent.ID) {
	v.t.Helper()
	list, err := v.svc.SearchCitizens(v.t.Context(), v.actor, core.Request{}, "northwind", address)
	if err != nil || len(list) > 1 {
		v.t.Fatal(list, err)
	}
	for _, c := range list {
		id = c.ID
	}
	return id
}

// called finds the citizen with a reference, or none.
func (v *signUps) called(ref string) consent.ID {
	v.t.Helper()
	c, err := v.st.Citizen(v.t.Context(), v.app, consent.CitizenKey{ExternalRef: ref})
	if err != nil && consent.KindOf(err) != consent.NotFound {
		v.t.Fatal(err)
	}
	return c.ID
}

func (v *signUps) create(ref, address string) consent.ID {
	v.t.Helper()
	c, err := v.svc.CreateCitizen(v.t.Context(), v.actor, core.Request{}, "northwind", ref, consent.Details{Email: address})
	if err != nil {
		v.t.Fatal(err)
	}
	return c.ID
}

// capture answers by a reference what is to be confirmed.
func (v *signUps) capture(ref string) {
	v.t.Helper()
	if err := v.svc.Capture(v.t.Context(), core.Request{}, core.Capture{
		ApplicationID: "northwind", Reference: ref, Visitor: visitor, Pending: true,
		Changes: []consent.Change{{OptionID: "newsletter-email", Justification: consent.Consent, State: consent.Granted}},
	}); err != nil {
		v.t.Fatal(err)
	}
}

// answer sends a form back that asks for a confirmation.
func (v *signUps) submit(a core.Actor, key consent.CitizenKey) {
	v.t.Helper()
	yes := true
	if _, err := v.svc.Answer(v.t.Context(), a, core.Request{}, core.FormAnswer{
		Citizen: key, Pending: true,
		Form: consent.Form{ApplicationID: "northwind", Blocks: []consent.FormBlock{{
			Type: "permissions", Options: []consent.FormOption{{OptionType: consent.OptionSingle, OptionID: "newsletter-email", Justification: consent.Consent, Selected: &yes}},
		}}},
	}); err != nil {
		v.t.Fatal(err)
	}
}

// record has a client record that something is PENDING.
func (v *signUps) record(key consent.CitizenKey) {
	v.t.Helper()
	if _, err := v.svc.Record(v.t.Context(), v.actor, core.Request{}, core.Transaction{
		ApplicationID: "northwind", Citizen: key,
		Changes: []consent.Change{{OptionID: "newsletter-email", Justification: consent.Consent, State: consent.Pending}},
	}); err != nil {
		v.t.Fatal(err)
	}
}

// accept accepts the one capture that waits.
func (v *signUps) accept() {
	v.t.Helper()
	list, _, err := v.svc.Captures(v.t.Context(), v.actor, "northwind", 0, 10, 0)
	if err != nil || len(list) != 1 {
		v.t.Fatal(list, err)
	}
	if err := v.svc.AcceptCapture(v.t.Context(), v.actor, list[0].ID); err != nil {
		v.t.Fatal(err)
	}
}

func (v *signUps) citizen(id consent.ID) core.Actor {
	return core.Actor{ID: "citizen " + id.String(), Applications: []int64{v.app}, Citizen: id}
}

// unconfirmed are the ways in which something becomes PENDING that no mail asks of. Each
// gives the citizen, whose reference, or the beginning of whose address, is ref.
var unconfirmed = map[string]struct {
	does  func(v *signUps, ref string) consent.ID
	ends  bool // as if a link had been sent
	purge bool // who is made for it is forgotten
}{
	"a capture by address, and no way for mails": {func(v *signUps, ref string) consent.ID {
		v.mute()
		v.signUp(ref+"@example.com", "newsletter-email")
		return v.who(ref + "@example.com")
	}, true, true},
	"a capture by address, and no way for mails, of somebody who is known": {func(v *signUps, ref string) consent.ID {
		v.mute()
		id := v.create(ref, ref+"@example.com")
		v.signUp(ref+"@example.com", "newsletter-email")
		return id
	}, true, false},
	"a capture by a new reference, to be confirmed": {func(v *signUps, ref string) consent.ID {
		v.capture(ref)
		return v.called(ref)
	}, true, true},
	"a capture by a known reference, which is accepted": {func(v *signUps, ref string) consent.ID {
		id := v.create(ref, "")
		v.capture(ref)
		v.accept()
		return id
	}, true, false},
	"a capture by a new reference, and another, which is accepted": {func(v *signUps, ref string) consent.ID {
		v.capture(ref)
		v.capture(ref)
		v.accept()
		return v.called(ref)
	}, true, false},
	"a form by a citizen without an address": {func(v *signUps, ref string) consent.ID {
		id := v.create(ref, "")
		v.submit(v.citizen(id), consent.CitizenKey{})
		return id
	}, true, false},
	"a form by a citizen, and no way for mails": {func(v *signUps, ref string) consent.ID {
		v.mute()
		id := v.create(ref, ref+"@example.com")
		v.submit(v.citizen(id), consent.CitizenKey{})
		return id
	}, true, false},
	"a form by a client, for somebody new": {func(v *signUps, ref string) consent.ID {
		v.submit(v.actor, consent.CitizenKey{ExternalRef: ref})
		return v.called(ref)
	}, true, false},
	"a transaction of a client, for somebody new": {func(v *signUps, ref string) consent.ID {
		v.record(consent.CitizenKey{ExternalRef: ref})
		return v.called(ref)
	}, false, false},
	"a transaction of a client, and no way for mails": {func(v *signUps, ref string) consent.ID {
		v.mute()
		id := v.create(ref, ref+"@example.com")
		v.record(consent.CitizenKey{ID: id})
		return id
	}, false, false},
}

// unasked has all that happen, and gives the citizens.
func (v *signUps) unasked() map[string]consent.ID {
	v.t.Helper()
	people := map[string]consent.ID{}
	loud := v.svc
	for name, c := range unconfirmed {
		v.svc = loud
		id := c.does(v, fmt.Sprint("c", len(people)))
		if id.IsZero() || len(v.mails()) != 0 {
			v.t.Fatalf("%s: citizen %s, or a mail was sent", name, id)
		}
		if state, waits := v.state(id, "newsletter-email"); state != consent.Pending && !waits {
			v.t.Fatalf("%s: it is %q, waiting %t", name, state, waits)
		}
		people[name] = id
	}
	return people
}

// What a sign-up leaves PENDING ends, and who was made for it is forgotten, whether or not
// a mail could ask. What a client records stays.
func TestUnconfirmedSignUpsEndWithoutAMail(t *testing.T) {
	inTime(t, func(t *testing.T, v *signUps) {
		people, version := v.unasked(), map[string]int{}
		for name, id := range people {
			version[name] = v.version(id)
		}
		time.Sleep(48*time.Hour + time.Second)
		v.passTime()
		for name, id := range people {
			if state, waits := v.state(id, "newsletter-email"); (state == "" && !waits) != unconfirmed[name].ends {
				t.Errorf("%s: after two days it is %q, waiting %t", name, state, waits)
			}
			if told := v.version(id) > version[name]; told != unconfirmed[name].ends {
				t.Errorf("%s: told of the end: %t", name, told)
			}
		}
		time.Sleep(12*24*time.Hour - 2*time.Second)
		v.purge()
		for name, id := range people {
			if !v.known(id) {
				t.Errorf("%s: forgotten too early", name)
			}
		}
		time.Sleep(2 * time.Second)
		v.purge()
		for name, id := range people {
			if v.known(id) == unconfirmed[name].purge {
				t.Errorf("%s: after two weeks: known %t", name, v.known(id))
			}
		}
		v.unharmed()
	})
}

// The same end stands in the record on both databases.
func TestUnconfirmedSignUpsHaveAnEnd(t *testing.T) {
	onBoth(t, func(t *testing.T, v *signUps) {
		for name, id := range v.unasked() {
			for _, r := range v.records(id) {
				for _, change := range r.Transaction.Changes {
					within := time.Duration(change.ValidUntil-r.Transaction.RecordedAt) * time.Microsecond
					if change.State != consent.Pending || (change.ValidUntil != 0) != unconfirmed[name].ends || change.ValidUntil != 0 && (within > 48*time.Hour || within < 48*time.Hour-time.Second) {
						t.Errorf("%s: recorded at %v: %+v", name, r.Transaction.RecordedAt, change)
					}
				}
			}
		}
		v.unharmed()
	})
}

// A mail that could not leave at the sign-up can at the next; what was confirmed keeps
// the citizen.
func TestASignUpAfterOneWithoutAMail(t *testing.T) {
	inTime(t, func(t *testing.T, v *signUps) {
		loud := v.svc
		v.mute()
		v.signUp("ada@example.com", "newsletter-email")
		v.svc = loud
		v.signUp("ada@example.com", "newsletter-email")
		m := v.mail()
		if got := v.confirm(linkOf(m)); got.State != core.ConfirmConfirmed {
			t.Fatalf("confirmed: %+v", got)
		}
		time.Sleep(15 * 24 * time.Hour)
		v.purge()
		if state, _ := v.state(m.CitizenID, "newsletter-email"); state != consent.Granted {
			t.Errorf("after two weeks it is %q", state)
		}
		v.unharmed()
	})
}

// A new link in place of one that has expired is offered while a mail with it can leave.
func TestAnExpiredLinkIsRenewable(t *testing.T) {
	inTime(t, func(t *testing.T, v *signUps) {
		v.signUp("ada@example.com", "newsletter-email")
		link := linkOf(v.mail())
		is := func(when string, state core.ConfirmState, renewable bool) {
			t.Helper()
			if got := v.look(link); got.State != state || got.Renewable != renewable {
				t.Errorf("%s: %s, renewable %t", when, got.State, got.Renewable)
			}
		}
		is("while it holds", core.ConfirmOpen, false)
		time.Sleep(48 * time.Hour)
		is("with a mail server", core.ConfirmExpired, true)
		v.mute()
		is("without", core.ConfirmExpired, false)
		if _, _, err := v.svc.CreateSubscription(t.Context(), v.actor, core.Request{}, consent.Subscription{
			ApplicationID: "northwind", Name: "Mails", URL: "https://crm.example/mails", UpdateType: consent.CitizenEmails, AuthType: consent.AuthNone,
		}); err != nil {
			t.Fatal(err)
		}
		is("with a subscription", core.ConfirmExpired, true)
	})
}

// An accepted capture that is PENDING is asked for as any other.
func TestAnAcceptedCaptureIsAskedFor(t *testing.T) {
	onBoth(t, func(t *testing.T, v *signUps) {
		v.create("CUST-1", "ada@example.com")
		v.capture("CUST-1")
		v.accept()
		if got := v.confirm(linkOf(v.mail())); got.State != core.ConfirmConfirmed {
			t.Errorf("confirmed: %+v", got)
		}
		v.unharmed()
	})
}

func (v *signUps) known(id consent.ID) bool {
	v.t.Helper()
	_, err := v.st.Citizen(v.t.Context(), v.app, consent.CitizenKey{ID: id})
	if err != nil && consent.KindOf(err) != consent.NotFound {
		v.t.Fatal(err)
	}
	return err == nil
}

func (v *signUps) purge() {
	v.t.Helper()
	if more, err := v.st.PurgeSignUps(v.t.Context(), 100); more || err != nil {
		v.t.Fatal(more, err)
	}
}

// passTime tells of what time alone has changed.
func (v *signUps) passTime() {
	v.t.Helper()
	due, err := v.st.DuePassages(v.t.Context(), 100)
	if err == nil {
		err = v.st.PassAll(v.t.Context(), due)
	}
	if err != nil {
		v.t.Fatal(err)
	}
}

// version counts the changes of a citizen's state.
func (v *signUps) version(id consent.ID) (n int) {
	v.t.Helper()
	list, _, err := v.st.Changes(context.Background(), v.app, store.Place{}, 1000)
	if err != nil {
		v.t.Fatal(err)
	}
	for _, c := range list {
		if c.CitizenID == id {
			n++
		}
	}
	return n
}
