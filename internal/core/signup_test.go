package core_test

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/internal/core"
	"github.com/opencpm/opencpm/internal/seal"
	"github.com/opencpm/opencpm/internal/store"
	"github.com/opencpm/opencpm/internal/store/storetest"
)

// signUps is an application that takes sign-ups and has a mail server, of which the test
// takes the mails.
type signUps struct {
	t     *testing.T
	st    *store.Store
	svc   *core.Service
	app   int64
	actor core.Actor
}

const signUpCatalogue = `application: {name: Northwind Retail, defaultLocale: en, locales: [en, de], unauthenticatedCapture: true,
  allowedOrigins: ["https://shop.example"], sender: {name: Northwind, address: hello@northwind.example}, manageUrl: "https://shop.example/me?token={token}"}`

func newSignUps(t *testing.T, st *store.Store) *signUps {
	t.Helper()
	v := &signUps{t: t, st: st, svc: core.New(st, core.Options{BaseURL: "https://consent.example/", MailServer: true})}
	v.app = storetest.Application(t, st, "northwind").Application
	_, rest, _ := strings.Cut(strings.TrimSpace(storetest.Catalogue), "\n")
	doc, err := consent.ParseCatalogue([]byte(signUpCatalogue + "\n" + rest))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := v.svc.ImportCatalogue(t.Context(), "northwind", doc, core.Import{}); err != nil {
		t.Fatal(err)
	}
	v.actor = core.Actor{ID: "client", Name: "Client", Applications: []int64{v.app}, Scopes: consent.Scopes}
	return v
}

// onBoth runs a test on both databases, inTime on SQLite and fake time.
func onBoth(t *testing.T, test func(t *testing.T, v *signUps)) {
	storetest.Both(t, func(t *testing.T, st *store.Store) { test(t, newSignUps(t, st)) })
}

func inTime(t *testing.T, test func(t *testing.T, v *signUps)) {
	t.Helper()
	dir, keys := t.TempDir(), storetest.Keys(t)
	synctest.Test(t, func(t *testing.T) { withStore(t, dir, keys, test) })
}

func withStore(t *testing.T, dir string, keys *seal.Keyring, test func(t *testing.T, v *signUps)) {
	st, err := store.Open(context.Background(), store.Options{Dir: dir, Keys: keys})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	}()
	test(t, newSignUps(t, st))
}

var visitor = core.Visitor{Address: "192.0.2.7", Agent: "Browser"}

// signUp captures a consent for an address.
func (v *signUps) signUp(address, option string) {
	v.t.Helper()
	err := v.svc.Capture(v.t.Context(), core.Request{}, core.Capture{
		ApplicationID: "northwind", Email: address, Locale: "de", Channel: "web", Origin: "https://shop.example", Visitor: visitor,
		Changes: []consent.Change{{OptionID: option, Justification: consent.Consent, State: consent.Granted}},
		Shown:   core.Origin{PrivacyPolicyRef: "policy-01", PermissionStatementRef: "statement-01"},
	})
	if err != nil {
		v.t.Fatal(err)
	}
}

// mails takes the mails that wait for the mail server.
func (v *signUps) mails() []store.DueMail {
	v.t.Helper()
	list, _, err := v.st.ClaimMails(v.t.Context(), 100, time.Minute)
	if err != nil {
		v.t.Fatal(err)
	}
	for _, m := range list {
		if err := v.st.SettleMail(v.t.Context(), m, consent.EmailSent, "", 0); err != nil {
			v.t.Fatal(err)
		}
	}
	return list
}

// mail takes the one mail that waits.
func (v *signUps) mail() store.DueMail {
	v.t.Helper()
	list := v.mails()
	if len(list) != 1 {
		v.t.Fatalf("%d mails wait, not one", len(list))
	}
	return list[0]
}

func linkOf(m store.DueMail) string {
	_, link, _ := strings.Cut(m.Action.URL, "/confirm/")
	return link
}

func (v *signUps) look(link string) core.Confirmation {
	v.t.Helper()
	c, err := v.svc.Confirmation(v.t.Context(), link)
	if err != nil {
		v.t.Fatal(err)
	}
	return c
}

func (v *signUps) confirm(link string) core.Confirmation {
	v.t.Helper()
	c, err := v.svc.Confirm(v.t.Context(), link, v.look(link).Mark, core.Visitor{Address: "198.51.100.9", Agent: "Mailer"})
	if err != nil {
		v.t.Fatal(err)
	}
	return c
}

// state gives the effective state of an option of a citizen, and whether one waits beside it.
func (v *signUps) state(id consent.ID, option string) (consent.State, bool) {
	v.t.Helper()
	s, err := v.st.State(v.t.Context(), v.app, consent.CitizenKey{ID: id})
	if err != nil {
		v.t.Fatal(err)
	}
	at := consent.At(time.Now().Add(time.Millisecond))
	e, _ := s.Projection.Entry(consent.Key{Type: consent.OptionSingle, ID: option}, at)
	return e.State, len(s.Projection.Pending(at)) > 0
}

func (v *signUps) records(id consent.ID) []store.Entry {
	v.t.Helper()
	chain, err := v.st.Chain(v.t.Context(), v.app, consent.CitizenKey{ID: id}, 0, 100)
	if err != nil {
		v.t.Fatal(err)
	}
	return chain.Entries
}

func (v *signUps) unharmed() {
	v.t.Helper()
	if _, _, err := v.st.Check(v.t.Context(), func(f store.Finding) { v.t.Error(f) }); err != nil {
		v.t.Fatal(err)
	}
}

// A sign-up becomes a grant by the button behind the link in the mail, once, with the
// evidence of both steps.
func TestASignUpIsConfirmed(t *testing.T) {
	onBoth(t, func(t *testing.T, v *signUps) {
		v.signUp("Ada@Example.com", "newsletter-email")
		m := v.mail()
		if m.Recipient.Address != "Ada@example.com" || m.Sender.Address != "hello@northwind.example" || m.Locale != "de" || m.Kind != consent.DoubleOptInEmail ||
			len(m.Purposes) != 1 || m.Purposes[0].ID != "newsletter" || !strings.HasPrefix(m.Action.URL, "https://consent.example/confirm/") {
			t.Fatalf("mail %+v", m.CitizenEmail)
		}
		if !strings.Contains(m.HTML, m.Action.URL) || !strings.Contains(m.Text, m.Action.URL) || m.Headers["List-Unsubscribe"] != "" {
			t.Fatalf("mail %s\n%s\n%v", m.HTML, m.Text, m.Headers)
		}
		link := linkOf(m)
		if state, _ := v.state(m.CitizenID, "newsletter-email"); state != consent.Pending {
			t.Fatalf("after the sign-up: %q", state)
		}
		before := v.look(link)
		if before.State != core.ConfirmOpen || before.Masked != "A•••a@example.com" && before.Masked != "A••a@example.com" && !strings.Contains(before.Masked, "•••") ||
			len(before.Items) != 1 || before.Items[0].Purpose != "Newsletter" || before.Items[0].Channel != "E-mail" || before.Items[0].Statement != "Wir dürfen Ihnen schreiben." {
			t.Fatalf("page %+v", before)
		}
		for range 3 { // scanners look, and change nothing
			v.look(link)
		}
		if n := len(v.records(m.CitizenID)); n != 1 {
			t.Fatalf("%d records before the confirmation", n)
		}
		done := v.confirm(link)
		if done.State != core.ConfirmConfirmed || done.At == 0 {
			t.Fatalf("confirmed %+v", done)
		}
		if again := v.confirm(link); again.State != core.ConfirmConfirmed || again.At != done.At {
			t.Fatalf("confirmed twice: %+v", again)
		}
		records := v.records(m.CitizenID)
		if len(records) != 2 {
			t.Fatalf("%d records", len(records))
		}
		asked, given := records[0].Transaction, records[1].Transaction
		if a := asked.Attribution; a.VisitorAddress != "192.0.2.7" || a.VisitorAgent != "Browser" || asked.Changes[0].State != consent.Pending || asked.Changes[0].ValidUntil == 0 {
			t.Errorf("sign-up recorded as %+v", asked)
		}
		if a := given.Attribution; a.VisitorAddress != "198.51.100.9" || a.VisitorAgent != "Mailer" || given.Changes[0].State != consent.Granted || !given.ByCitizen {
			t.Errorf("confirmation recorded as %+v", given)
		}
		if c := given.Confirms; c == nil || c.TransactionID != asked.ID || c.Mail != m.EventID || c.SentAt == 0 || c.OpenedAt < c.SentAt || given.RecordedAt < c.OpenedAt {
			t.Errorf("confirmation says %+v", given.Confirms)
		}
		if *given.Statement != *asked.Statement || *given.Policy != *asked.Policy || given.Changes[0].ValidUntil == asked.Changes[0].ValidUntil {
			t.Errorf("confirmed %+v of %+v", given, asked)
		}
		v.unharmed()
	})
}

// The button works for an hour after its own page was rendered, and by nothing else, be it
// to confirm or to undo.
func TestAButtonNeedsItsPage(t *testing.T) {
	inTime(t, func(t *testing.T, v *signUps) {
		ctx := t.Context()
		v.signUp("ada@example.com", "newsletter-email")
		m := v.mail()
		link := linkOf(m)
		v.signUp("bob@example.com", "newsletter-email")
		other := v.look(linkOf(v.mail())).Mark
		proof := v.look(link).Mark
		refused := func(name, proof string) {
			t.Helper()
			if _, err := v.svc.Confirm(ctx, link, proof, visitor); !errors.Is(err, core.ErrNoProof) || consent.KindOf(err) != consent.Gone {
				t.Errorf("confirmed with %s: %v", name, err)
			}
			if _, err := v.svc.UndoConfirmation(ctx, link, proof, visitor); !errors.Is(err, core.ErrNoProof) {
				t.Errorf("undone with %s: %v", name, err)
			}
		}
		if proof == "" || other == "" || proof == other {
			t.Fatalf("proofs %q and %q", proof, other)
		}
		refused("no proof", "")
		refused("the proof of another link", other)
		refused("a proof that is cut short", proof[:len(proof)-2])
		refused("the link for a proof", link)
		time.Sleep(time.Hour)
		refused("a proof of an hour ago", proof)
		if state := v.look(link).State; state != core.ConfirmOpen || len(v.records(m.CitizenID)) != 1 {
			t.Fatalf("the link is %s, %d records", state, len(v.records(m.CitizenID)))
		}
		proof = v.look(link).Mark
		time.Sleep(time.Hour - time.Second)
		if got, err := v.svc.Confirm(ctx, link, proof, visitor); err != nil || got.State != core.ConfirmConfirmed {
			t.Fatalf("confirmed within the hour: %+v, %v", got, err)
		}
		time.Sleep(time.Second)
		refused("the proof of the confirmation, an hour later", proof)
		if got := v.look(link).State; got != core.ConfirmConfirmed {
			t.Fatalf("the link is %s", got)
		}
	})
}

// Somebody who is known gets no second identity, and what stood stays until it is
// confirmed. A refusal that came after the sign-up is stronger than the link.
func TestASignUpOfSomebodyWhoIsKnown(t *testing.T) {
	onBoth(t, func(t *testing.T, v *signUps) {
		ctx := t.Context()
		c, err := v.svc.CreateCitizen(ctx, v.actor, core.Request{}, "northwind", "CUST-1", consent.Details{Email: "ada@example.com", GivenName: "Ada"})
		if err != nil {
			t.Fatal(err)
		}
		record := func(state consent.State) {
			t.Helper()
			if _, err := v.svc.Record(ctx, v.actor, core.Request{}, core.Transaction{
				ApplicationID: "northwind", Citizen: consent.CitizenKey{ID: c.ID},
				Changes: []consent.Change{{OptionID: "newsletter-email", Justification: consent.Consent, State: state}},
			}); err != nil {
				t.Fatal(err)
			}
		}
		record(consent.Denied)
		v.signUp("ADA@example.com", "newsletter-email")
		m := v.mail()
		if m.CitizenID != c.ID || m.Recipient.Name != "Ada" || m.ExternalRef != "CUST-1" {
			t.Fatalf("mail to %+v", m.CitizenEmail)
		}
		if state, waits := v.state(c.ID, "newsletter-email"); state != consent.Denied || !waits {
			t.Fatalf("after the sign-up: %s, waiting %t", state, waits)
		}
		record(consent.Denied)
		if got := v.confirm(linkOf(m)); got.State != core.ConfirmRefused {
			t.Fatalf("confirmed in spite of a refusal: %+v", got)
		}
		if state, _ := v.state(c.ID, "newsletter-email"); state != consent.Denied {
			t.Fatalf("after a refused confirmation: %s", state)
		}
		v.unharmed()
	})
}

// Who did not sign up undoes it, before or after the button, and what stood before stands
// again.
func TestNotYouUndoes(t *testing.T) {
	onBoth(t, func(t *testing.T, v *signUps) {
		v.signUp("ada@example.com", "newsletter-email")
		m := v.mail()
		link := linkOf(m)
		v.confirm(link)
		undone, err := v.svc.UndoConfirmation(t.Context(), link, v.look(link).Mark, visitor)
		if err != nil || undone.State != core.ConfirmWithdrawn {
			t.Fatalf("undone: %+v, %v", undone, err)
		}
		if state, waits := v.state(m.CitizenID, "newsletter-email"); state != "" || waits {
			t.Fatalf("after the undoing: %q, waiting %t", state, waits)
		}
		if got := v.confirm(link); got.State != core.ConfirmWithdrawn {
			t.Fatalf("confirmed what was undone: %+v", got)
		}
		if n := len(v.records(m.CitizenID)); n != 4 {
			t.Errorf("%d records, not a sign-up, a confirmation and their reversions", n)
		}
		v.unharmed()
	})
}

// PENDING by an API client causes the same mail where the citizen has an address, and says
// so where there is no way for it.
func TestPendingOfAClientIsAskedFor(t *testing.T) {
	onBoth(t, func(t *testing.T, v *signUps) {
		ctx := t.Context()
		pending := func(ref string) core.Recorded {
			t.Helper()
			r, err := v.svc.Record(ctx, v.actor, core.Request{IdempotencyKey: ref, Digest: []byte(ref)}, core.Transaction{
				ApplicationID: "northwind", Citizen: consent.CitizenKey{ExternalRef: ref},
				Changes: []consent.Change{{OptionID: "newsletter-email", Justification: consent.Consent, State: consent.Pending}},
			})
			if err != nil {
				t.Fatal(err)
			}
			return r
		}
		if r := pending("CUST-0"); r.Transaction.Changes[0].ValidUntil != 0 || len(v.mails()) != 0 {
			t.Fatalf("without an address: %+v", r)
		}
		if _, err := v.svc.CreateCitizen(ctx, v.actor, core.Request{}, "northwind", "CUST-1", consent.Details{Email: "ada@example.com"}); err != nil {
			t.Fatal(err)
		}
		r := pending("CUST-1")
		if again := pending("CUST-1"); !again.Repeated || again.Transaction.ID != r.Transaction.ID {
			t.Errorf("repeated as %+v", again)
		}
		m := v.mail()
		if string(m.ChangedBy) != v.actor.ID || consent.Instant(m.Action.ExpiresAt)/1000 != r.Transaction.Changes[0].ValidUntil/1000 {
			t.Fatalf("mail %+v of %+v", m.CitizenEmail, r.Transaction)
		}
		if got := v.confirm(linkOf(m)); got.State != core.ConfirmConfirmed {
			t.Fatalf("confirmed %+v", got)
		}
		without := core.New(v.st, core.Options{})
		if _, err := v.svc.CreateCitizen(ctx, v.actor, core.Request{}, "northwind", "CUST-2", consent.Details{Email: "bob@example.com"}); err != nil {
			t.Fatal(err)
		}
		w, err := without.Record(ctx, v.actor, core.Request{}, core.Transaction{
			ApplicationID: "northwind", Citizen: consent.CitizenKey{ExternalRef: "CUST-2"},
			Changes: []consent.Change{{OptionID: "newsletter-email", Justification: consent.Consent, State: consent.Pending}},
		})
		if err != nil || len(w.Warnings) != 1 || w.Transaction.Changes[0].ValidUntil != 0 {
			t.Fatalf("without a mail server: %+v, %v", w, err)
		}
	})
}

// What waits ends with its link; a new one can be had, within the limits of mail.
func TestALinkEnds(t *testing.T) {
	inTime(t, func(t *testing.T, v *signUps) {
		v.signUp("ada@example.com", "newsletter-email")
		first := v.mail()
		v.signUp("ada@example.com", "newsletter-sms") // within a day of the first
		if n := len(v.mails()); n != 0 {
			t.Fatalf("%d mails within a day of the first", n)
		}
		if err := v.svc.ResendConfirmation(t.Context(), linkOf(first), visitor); err != nil || len(v.mails()) != 0 {
			t.Fatalf("sent again although the link holds: %v", err)
		}
		time.Sleep(49 * time.Hour)
		if got := v.confirm(linkOf(first)); got.State != core.ConfirmExpired {
			t.Fatalf("after two days: %+v", got)
		}
		for _, option := range []string{"newsletter-email", "newsletter-sms"} {
			if state, waits := v.state(first.CitizenID, option); state != "" || waits {
				t.Fatalf("%s after two days: %q, waiting %t", option, state, waits)
			}
		}
		for n := range 3 {
			if err := v.svc.ResendConfirmation(t.Context(), linkOf(first), visitor); err != nil {
				t.Fatal(err)
			}
			switch list := v.mails(); {
			case n < 2 && len(list) != 1, n == 2 && len(list) != 0:
				t.Fatalf("%d mails at request %d", len(list), n+1)
			case n == 1:
				if got := v.confirm(linkOf(list[0])); got.State != core.ConfirmConfirmed {
					t.Fatalf("confirmed by the last link: %+v", got)
				}
			}
			time.Sleep(25 * time.Hour)
			if n == 1 { // what was confirmed asks no more
				v.signUp("ada@example.com", "newsletter-sms")
				if len(v.mails()) != 1 {
					t.Fatal("no mail after a confirmation, which resets the limit")
				}
				time.Sleep(25 * time.Hour)
				v.signUp("ada@example.com", "newsletter-sms")
				v.mails()
				time.Sleep(25 * time.Hour)
				v.signUp("ada@example.com", "newsletter-sms")
				v.mails()
				time.Sleep(25 * time.Hour)
			}
		}
		v.unharmed()
	})
}

// Who never confirmed is forgotten after two weeks, unless something else is known of
// them; the limit of mails is not.
func TestUnconfirmedSignUpsArePurged(t *testing.T) {
	inTime(t, func(t *testing.T, v *signUps) {
		ctx := t.Context()
		c, err := v.svc.CreateCitizen(ctx, v.actor, core.Request{}, "northwind", "CUST-1", consent.Details{Email: "bob@example.com"})
		if err != nil {
			t.Fatal(err)
		}
		v.signUp("ada@example.com", "newsletter-email")
		v.signUp("bob@example.com", "newsletter-email")
		v.signUp("eve@example.com", "newsletter-email")
		people := map[string]consent.ID{}
		for _, m := range v.mails() {
			people[m.Recipient.Address] = m.CitizenID
			if m.Recipient.Address == "eve@example.com" {
				v.confirm(linkOf(m))
			}
		}
		purge := func() {
			t.Helper()
			if more, err := v.st.PurgeSignUps(ctx, 100); more || err != nil {
				t.Fatal(more, err)
			}
		}
		known := func(address string) bool {
			t.Helper()
			_, err := v.st.Citizen(ctx, v.app, consent.CitizenKey{ID: people[address]})
			return err == nil
		}
		time.Sleep(13 * 24 * time.Hour)
		purge()
		if !known("ada@example.com") {
			t.Fatal("forgotten too early")
		}
		v.signUp("ada@example.com", "newsletter-email") // the two weeks begin anew
		v.mails()
		time.Sleep(2 * 24 * time.Hour)
		purge()
		if !known("ada@example.com") {
			t.Fatal("forgotten although somebody signed up since")
		}
		time.Sleep(14 * 24 * time.Hour)
		purge()
		if known("ada@example.com") || !known("bob@example.com") || !known("eve@example.com") || people["bob@example.com"] != c.ID {
			t.Fatalf("known after two weeks: ada %t, bob %t, eve %t", known("ada@example.com"), known("bob@example.com"), known("eve@example.com"))
		}
		v.signUp("ada@example.com", "newsletter-email")
		if len(v.mails()) != 1 {
			t.Fatal("no third mail")
		}
		time.Sleep(25 * time.Hour)
		v.signUp("ada@example.com", "newsletter-email")
		if len(v.mails()) != 0 {
			t.Fatal("a fourth mail to somebody who never confirmed")
		}
		v.unharmed()
	})
}

// With a reference that nobody has an answer is recorded; with one that somebody has it
// waits until it is accepted. Both look the same from outside.
func TestCaptureByReference(t *testing.T) {
	onBoth(t, func(t *testing.T, v *signUps) {
		ctx := t.Context()
		capture := func(ref string, state consent.State) {
			t.Helper()
			err := v.svc.Capture(ctx, core.Request{}, core.Capture{
				ApplicationID: "northwind", Reference: ref, Visitor: visitor,
				Changes: []consent.Change{{OptionID: "newsletter-email", Justification: consent.Consent, State: state}},
				Answers: []consent.Answer{{Preference: "interests", Choices: []consent.Chosen{{Reference: "jazz"}}}},
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		capture("NEW-1", consent.Granted)
		c, err := v.st.Citizen(ctx, v.app, consent.CitizenKey{ExternalRef: "NEW-1"})
		if err != nil {
			t.Fatal(err)
		}
		capture("NEW-1", consent.Denied)
		capture("NEW-1", consent.Denied)
		if state, _ := v.state(c.ID, "newsletter-email"); state != consent.Granted {
			t.Fatalf("a stranger changed it to %s", state)
		}
		list, total, err := v.svc.Captures(ctx, v.actor, "northwind", 0, 10, 0)
		if err != nil || total != 2 || len(list) != 2 || list[0].CitizenID != c.ID || list[0].ExternalRef != "NEW-1" || len(list[0].Transactions) != 1 || len(list[0].Submissions) != 1 {
			t.Fatalf("parked %+v (%d), %v", list, total, err)
		}
		if err := v.svc.RejectCapture(ctx, v.actor, list[0].ID); err != nil {
			t.Fatal(err)
		}
		if err := v.svc.AcceptCapture(ctx, v.actor, list[1].ID); err != nil {
			t.Fatal(err)
		}
		if state, _ := v.state(c.ID, "newsletter-email"); state != consent.Denied {
			t.Fatalf("accepted, and still %s", state)
		}
		for _, p := range list {
			if err := v.svc.AcceptCapture(ctx, v.actor, p.ID); consent.KindOf(err) != consent.NotFound {
				t.Errorf("decided twice: %v", err)
			}
		}
		records := v.records(c.ID)
		if last := records[len(records)-2].Evidence(); last.Client.ID != v.actor.ID || last.ObtainedAt >= last.RecordedAt || last.Attribution.VisitorAddress != visitor.Address {
			t.Errorf("accepted as %+v", last)
		}
		v.unharmed()
	})
}

func TestCaptureIsRefused(t *testing.T) {
	onBoth(t, func(t *testing.T, v *signUps) {
		good := core.Capture{
			ApplicationID: "northwind", Email: "ada@example.com", Origin: "https://shop.example", Visitor: visitor,
			Changes: []consent.Change{{OptionID: "newsletter-email", Justification: consent.Consent, State: consent.Granted}},
		}
		for name, c := range map[string]struct {
			edit func(*core.Capture)
			want consent.Kind
		}{
			"from another origin": {func(c *core.Capture) { c.Origin = "https://evil.example" }, consent.Forbidden},
			"from a like origin":  {func(c *core.Capture) { c.Origin = "https://shop.example.evil.example" }, consent.Forbidden},
			"for no application":  {func(c *core.Capture) { c.ApplicationID = "none" }, consent.NotFound},
			"with both":           {func(c *core.Capture) { c.Reference = "CUST-1" }, consent.Invalid},
			"with neither":        {func(c *core.Capture) { c.Email = "" }, consent.Invalid},
			"with no address":     {func(c *core.Capture) { c.Email = "ada" }, consent.Invalid},
			"with two lines":      {func(c *core.Capture) { c.Email = "ada@example.com\r\nBcc: eve@example.com" }, consent.Invalid},
			"with nothing":        {func(c *core.Capture) { c.Changes = nil }, consent.Invalid},
			"with a claim": {func(c *core.Capture) {
				c.Changes[0].Justification, c.Changes[0].State, c.Changes[0].OptionID = consent.LegitimateInterest, consent.Claimed, "research-email"
			}, consent.Invalid},
			"of an option there is not": {func(c *core.Capture) { c.Changes[0].OptionID = "none" }, consent.Invalid},
		} {
			v.svc = core.New(v.st, core.Options{BaseURL: "https://consent.example", MailServer: true}) // of whom nobody has asked too much
			asked := good
			asked.Changes = []consent.Change{good.Changes[0]}
			c.edit(&asked)
			if err := v.svc.Capture(t.Context(), core.Request{}, asked); err == nil || consent.KindOf(err) != c.want {
				t.Errorf("%s: %v", name, err)
			}
		}
		if n := len(v.mails()); n != 0 {
			t.Errorf("%d mails", n)
		}
		var throttled error
		for range 100 {
			asked := good
			asked.Changes = []consent.Change{good.Changes[0]}
			if throttled = v.svc.Capture(t.Context(), core.Request{}, asked); consent.KindOf(throttled) == consent.Throttled {
				return
			}
		}
		t.Errorf("a hundred in a row are answered: %v", throttled)
	})
}

var sixDigits = regexp.MustCompile(`(?m)^\d{6}$`)

// A request that waits is answered on either database.
func TestLinksAreSent(t *testing.T) {
	onBoth(t, func(t *testing.T, v *signUps) {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { v.svc.RunLinks(ctx); close(done) }()
		defer func() { cancel(); <-done }()
		for _, address := range []string{"ada@example.com", "bob@example.com"} {
			if _, err := v.svc.CreateCitizen(ctx, v.actor, core.Request{}, "northwind", address, consent.Details{Email: address}); err != nil {
				t.Fatal(err)
			}
		}
		due, stop := v.st.MailsDue()
		defer stop()
		sent := func(address string, code bool) store.DueMail {
			t.Helper()
			if err := v.svc.RequestLink(ctx, core.LinkRequest{ApplicationID: "northwind", Email: address, Code: code, Asker: "form", Visitor: visitor}); err != nil {
				t.Fatal(err)
			}
			for late := time.After(time.Minute); ; {
				if list := v.mails(); len(list) > 0 {
					return list[0]
				}
				select {
				case <-due:
				case <-late:
					t.Fatalf("no mail to %s is made", address)
				}
			}
		}
		if m := sent("ada@example.com", false); m.Kind != consent.PreferenceLinkEmail || m.Recipient.Address != "ada@example.com" {
			t.Errorf("the mail with a link: %+v", m)
		}
		code := sixDigits.FindString(sent("bob@example.com", true).Text)
		token, err := v.svc.RedeemCode(ctx, "northwind", "bob@example.com", "form", code, visitor)
		if err != nil {
			t.Fatal(err)
		}
		if who, err := v.svc.ByCitizenToken(ctx, token); err != nil || who.Citizen.IsZero() {
			t.Errorf("by the token of the code: %+v, %v", who, err)
		}
	})
}

// Whoever asks for a link or a code to an address gets the same answer; what comes of it
// comes by mail.
func TestRequestedLinksAndCodes(t *testing.T) {
	inTime(t, func(t *testing.T, v *signUps) {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { v.svc.RunLinks(ctx); close(done) }()
		defer func() { cancel(); <-done }()
		for n, address := range []string{"ada@example.com", "bob@example.com", "bob@example.com"} {
			if _, err := v.svc.CreateCitizen(ctx, v.actor, core.Request{}, "northwind", fmt.Sprint("CUST-", n), consent.Details{Email: address}); err != nil {
				t.Fatal(err)
			}
		}
		ask := func(address string, code bool) []store.DueMail {
			t.Helper()
			if err := v.svc.RequestLink(ctx, core.LinkRequest{ApplicationID: "northwind", Email: address, Locale: "de", Code: code, Asker: "form", Visitor: visitor}); err != nil {
				t.Fatal(err)
			}
			time.Sleep(10 * time.Second)
			return v.mails()
		}
		if n := len(ask("eve@example.com", false)); n != 0 {
			t.Fatalf("%d mails to nobody", n)
		}
		if n := len(ask("ada@example.com", false)); n != 1 {
			t.Fatalf("%d mails to ada", n)
		}
		if n := len(ask("ada@example.com", false)); n != 0 {
			t.Fatalf("%d mails within a minute", n)
		}
		if n := len(ask("bob@example.com", false)); n != 2 {
			t.Fatalf("%d mails to the address of two", n)
		}
		time.Sleep(2 * time.Minute)
		codeOf := func() string {
			t.Helper()
			list := ask("ada@example.com", true)
			if len(list) != 1 || list[0].Action != nil {
				t.Fatalf("mails with a code: %+v", list)
			}
			return sixDigits.FindString(list[0].Text)
		}
		code := codeOf()
		wrong := "000000"
		if code == wrong {
			wrong = "000001"
		}
		redeem := func(address, code string) (string, error) {
			time.Sleep(time.Minute)
			return v.svc.RedeemCode(ctx, "northwind", address, "form", code, visitor)
		}
		if _, err := redeem("ada@example.com", wrong); consent.KindOf(err) != consent.Unauthenticated {
			t.Fatalf("a wrong code: %v", err)
		}
		if _, err := redeem("bob@example.com", code); consent.KindOf(err) != consent.Unauthenticated {
			t.Fatalf("another's code: %v", err)
		}
		token, err := redeem("ADA@example.com", code)
		if err != nil {
			t.Fatal(err)
		}
		if who, err := v.svc.ByCitizenToken(ctx, token); err != nil || who.Citizen.IsZero() {
			t.Fatalf("by the token of the code: %+v, %v", who, err)
		}
		if _, err := redeem("ada@example.com", code); consent.KindOf(err) != consent.Unauthenticated {
			t.Fatalf("a code twice: %v", err)
		}
		code = codeOf()
		for range 5 {
			if _, err := redeem("ada@example.com", "wrong!"); consent.KindOf(err) != consent.Unauthenticated {
				t.Fatal(err)
			}
		}
		if _, err := redeem("ada@example.com", code); consent.KindOf(err) != consent.Unauthenticated {
			t.Fatalf("a code after five wrong ones: %v", err)
		}
		code = codeOf()
		time.Sleep(10 * time.Minute)
		if _, err := redeem("ada@example.com", code); consent.KindOf(err) != consent.Unauthenticated {
			t.Fatalf("a code after ten minutes: %v", err)
		}
	})
}
