package core_test

import (
	"testing"
	"time"

	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/internal/core"
	"github.com/opencpm/opencpm/internal/store"
)

// suppress puts an address on the do-not-contact list of e-mail and SMS.
func (v *signUps) suppress(address string) {
	v.t.Helper()
	if _, err := v.svc.Suppress(v.t.Context(), v.actor, core.Request{}, core.NewSuppression{
		ApplicationID: "northwind", Address: core.ListedAddress{Email: address}, Channels: []string{"email", "sms"}, Reason: "asked", Source: "support",
	}); err != nil {
		v.t.Fatal(err)
	}
}

// listed gives the entries of an address for a channel, the newest first.
func (v *signUps) listed(address, channel string) (list []store.Suppressed) {
	v.t.Helper()
	all, err := v.svc.SuppressionsOf(v.t.Context(), v.actor, core.Request{}, "northwind", core.ListedAddress{Email: address})
	if err != nil {
		v.t.Fatal(err)
	}
	for _, e := range all {
		if e.Channel == channel {
			list = append(list, e)
		}
	}
	return list
}

// lastSuppression gives the last record of a citizen about the list of a channel.
func (v *signUps) lastSuppression(id consent.ID, channel string) (last consent.Suppression) {
	v.t.Helper()
	for _, r := range v.records(id) {
		if r.Suppression != nil && r.Suppression.Medium == channel {
			last = *r.Suppression
		}
	}
	return last
}

// is checks the effective state of newsletter-email.
func (v *signUps) is(when string, id consent.ID, want consent.State) {
	v.t.Helper()
	if got, _ := v.state(id, "newsletter-email"); got != want {
		v.t.Errorf("%s: %q, want %q", when, got, want)
	}
}

// The owner of an address that must not be contacted takes it off the list by confirming,
// for the channel that was granted, and nobody else does. Not having signed up after all
// puts it back.
func TestAConfirmationLiftsTheDoNotContactList(t *testing.T) {
	onBoth(t, func(t *testing.T, v *signUps) {
		ctx := t.Context()
		const address = "ada@example.com"
		grant := func(id consent.ID) {
			t.Helper()
			if _, err := v.svc.Record(ctx, v.actor, core.Request{}, core.Transaction{
				ApplicationID: "northwind", Citizen: consent.CitizenKey{ID: id},
				Changes: []consent.Change{{OptionID: "newsletter-email", Justification: consent.Consent, State: consent.Granted}},
			}); err != nil {
				t.Fatal(err)
			}
		}
		create := func(ref string) consent.ID {
			t.Helper()
			c, err := v.svc.CreateCitizen(ctx, v.actor, core.Request{}, "northwind", ref, consent.Details{Email: address})
			if err != nil {
				t.Fatal(err)
			}
			grant(c.ID)
			return c.ID
		}
		ada, twin := create("CUST-1"), create("CUST-2")
		v.suppress(address)
		grant(ada)
		v.is("granted by a client", ada, consent.Denied)
		entry := v.listed(address, "email")[0]

		v.signUp("ADA@example.com", "newsletter-email")
		m := v.mail()
		if m.CitizenID != ada {
			t.Fatalf("mail to %+v", m.CitizenEmail)
		}
		v.is("signed up", ada, consent.Denied)
		if e := v.listed(address, "email"); len(e) != 1 || e[0].LiftedAt != 0 {
			t.Fatalf("lifted by signing up: %+v", e)
		}
		v.confirm(linkOf(m))
		v.is("confirmed", ada, consent.Granted)
		if e := v.listed(address, "email"); len(e) != 1 || e[0].LiftedAt == 0 || e[0].LiftedBy != consent.InPerson || e[0].LiftReason != "double opt-in" {
			t.Errorf("the entry is %+v", e)
		}
		if e := v.listed(address, "sms"); len(e) != 1 || e[0].LiftedAt != 0 {
			t.Errorf("the entry of the other channel is %+v", e)
		}
		if r := v.lastSuppression(ada, "email"); !r.Lifted || r.Entry != entry.ID || r.Client != consent.InPerson {
			t.Errorf("recorded as %+v", r)
		}
		spread := func() {
			t.Helper()
			if err := v.st.SpreadSuppressions(ctx); err != nil {
				t.Fatal(err)
			}
		}
		spread()
		v.is("confirmed, of another who has the address", twin, consent.Granted)

		for range 2 {
			undone, err := v.svc.UndoConfirmation(ctx, linkOf(m), v.look(linkOf(m)).Mark, visitor)
			if err != nil || undone.State != core.ConfirmWithdrawn {
				t.Fatalf("undone: %+v, %v", undone, err)
			}
			v.is("undone", ada, consent.Denied)
			list := v.listed(address, "email")
			if len(list) != 2 || list[0].LiftedAt != 0 || list[0].CreatedBy != consent.InPerson || list[0].Reason != "asked" || list[0].Source != "support" || list[1].ID != entry.ID || list[1].LiftedAt == 0 {
				t.Fatalf("the entries are %+v", list)
			}
			if r := v.lastSuppression(ada, "email"); r.Lifted || r.Entry != list[0].ID || r.Client != consent.InPerson {
				t.Errorf("recorded as %+v", r)
			}
			spread()
			v.is("undone, of another who has the address", twin, consent.Denied)
		}
		if e := v.listed(address, "sms"); len(e) != 1 {
			t.Errorf("the entries of the other channel are %+v", e)
		}
		v.unharmed()
	})
}

// Undoing a confirmation puts nothing on the list that was not there before it, and nothing
// that is there again.
func TestUndoingListsOnlyWhatItHadLifted(t *testing.T) {
	onBoth(t, func(t *testing.T, v *signUps) {
		undo := func(link string) {
			t.Helper()
			if got, err := v.svc.UndoConfirmation(t.Context(), link, v.look(link).Mark, visitor); err != nil || got.State != core.ConfirmWithdrawn {
				t.Fatal(got, err)
			}
		}
		v.signUp("ada@example.com", "newsletter-email")
		link := linkOf(v.mail())
		v.confirm(link)
		undo(link)
		if e := v.listed("ada@example.com", "email"); len(e) != 0 {
			t.Errorf("put on the list: %+v", e)
		}

		v.suppress("bob@example.com")
		v.signUp("bob@example.com", "newsletter-email")
		m := v.mail()
		link = linkOf(m)
		undo(link) // before it was confirmed
		if e := v.listed("bob@example.com", "email"); len(e) != 1 || e[0].LiftedAt != 0 {
			t.Errorf("before the confirmation: %+v", e)
		}

		v.suppress("eve@example.com")
		v.signUp("eve@example.com", "newsletter-email")
		m = v.mail()
		v.confirm(linkOf(m))
		v.is("a new citizen confirmed", m.CitizenID, consent.Granted)
		v.suppress("eve@example.com")
		again := v.listed("eve@example.com", "email")[0]
		undo(linkOf(m))
		if e := v.listed("eve@example.com", "email"); len(e) != 2 || e[0].ID != again.ID || e[0].LiftedAt != 0 {
			t.Errorf("put on the list twice: %+v", e)
		}
		if r := v.lastSuppression(m.CitizenID, "email"); r.Entry != again.ID || r.Lifted {
			t.Errorf("recorded as %+v", r)
		}
		v.unharmed()
	})
}

// What the do-not-contact list says of a citizen who only signed up is no reason to keep
// them, whether it was said before, between or after, nor is a sign-up that caused no mail; what a client says of them is.
func TestWhatIsOnTheListKeepsNobody(t *testing.T) {
	inTime(t, func(t *testing.T, v *signUps) {
		ctx := t.Context()
		people := map[string]consent.ID{}
		links := map[string]string{}
		signUp := func(address string) {
			t.Helper()
			v.signUp(address, "newsletter-email")
			for _, m := range v.mails() {
				people[address], links[address] = m.CitizenID, linkOf(m)
			}
		}
		known := func(address string) bool {
			t.Helper()
			_, err := v.st.Citizen(ctx, v.app, consent.CitizenKey{ID: people[address]})
			return err == nil
		}
		purge := func() {
			t.Helper()
			if more, err := v.st.PurgeSignUps(ctx, 100); more || err != nil {
				t.Fatal(more, err)
			}
		}
		before, after, between, withdrawn := "before@example.com", "after@example.com", "between@example.com", "withdrawn@example.com"
		twice := "twice@example.com"
		renamed, moved, answered := "renamed@example.com", "moved@example.com", "answered@example.com"
		v.suppress(before)
		for _, address := range []string{before, after, between, withdrawn, twice, twice, renamed, moved, answered} {
			signUp(address)
		}
		for _, address := range []string{after, between, withdrawn, answered} {
			v.suppress(address)
		}
		if v.lastSuppression(people[after], "email").Entry.IsZero() {
			t.Fatal("the list is not recorded")
		}
		if _, err := v.svc.UndoConfirmation(ctx, links[withdrawn], v.look(links[withdrawn]).Mark, visitor); err != nil {
			t.Fatal(err)
		}
		if _, _, err := v.svc.ChangeCitizen(ctx, v.actor, core.Request{}, people[renamed], func(ref *string, _ *consent.Details) { *ref = "CUST-1" }); err != nil {
			t.Fatal(err)
		}
		if err := v.svc.SetEmail(ctx, v.actor, core.Request{}, people[moved], "elsewhere@example.com"); err != nil {
			t.Fatal(err)
		}
		if _, err := v.svc.Record(ctx, v.actor, core.Request{}, core.Transaction{
			ApplicationID: "northwind", Citizen: consent.CitizenKey{ID: people[answered]},
			Changes: []consent.Change{{OptionID: "newsletter-sms", Justification: consent.Consent, State: consent.Denied}},
		}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(25 * time.Hour)
		for _, address := range []string{between, renamed, answered} {
			signUp(address) // the two weeks begin anew
		}
		time.Sleep(13 * 24 * time.Hour)
		purge()
		for address, want := range map[string]bool{before: false, after: false, withdrawn: false, twice: false, between: true, renamed: true, moved: true, answered: true} {
			if got := known(address); got != want {
				t.Errorf("two weeks after the first sign-ups %s: known %t", address, got)
			}
		}
		time.Sleep(25 * time.Hour)
		purge()
		for address, want := range map[string]bool{between: false, renamed: true, moved: true, answered: true} {
			if got := known(address); got != want {
				t.Errorf("two weeks after the second sign-ups %s: known %t", address, got)
			}
		}
		if e := v.listed(before, "email"); len(e) != 1 || e[0].LiftedAt != 0 {
			t.Errorf("the entry of who is forgotten is %+v", e)
		}
		v.unharmed()
	})
}
