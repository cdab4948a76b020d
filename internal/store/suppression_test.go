package store_test

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/internal/store"
	"github.com/opencpm/opencpm/internal/store/storetest"
)

// onEmail is a grant of newsletter-email, as core resolves it.
func onEmail() consent.Transaction {
	v := grant("newsletter-email")
	v.Changes[0].Medium = "email"
	return v
}

func onSMS() consent.Transaction {
	v := grant("newsletter-sms")
	v.Changes[0].Medium = "sms"
	return v
}

func suppress(t *testing.T, st *store.Store, application int64, contact consent.Contact, channels ...string) []store.Suppressed {
	t.Helper()
	list, err := st.Suppress(ctx, application, store.NewSuppression{
		Contact: contact, Channels: channels, Reason: "asked", Source: "support", By: consent.Recorder{ID: "support", Name: "Support"},
	})
	if err != nil || len(list) != len(channels) {
		t.Fatal(list, err)
	}
	return list
}

func stateOf(t *testing.T, st *store.Store, application int64, ref, option string) consent.State {
	t.Helper()
	return states(t, st, application, consent.CitizenKey{ExternalRef: ref})[option]
}

func TestSuppression(t *testing.T) {
	storetest.Both(t, func(t *testing.T, st *store.Store) {
		app := storetest.Application(t, st, "northwind").Application
		other := storetest.Application(t, st, "contoso").Application
		ada := email(t, "ada@example.com")
		create := func(application int64, ref string, d consent.Details) {
			t.Helper()
			if _, err := st.CreateCitizen(ctx, application, ref, d, "test", store.Once{}); err != nil {
				t.Fatal(err)
			}
			record(t, st, application, consent.CitizenKey{ExternalRef: ref}, onEmail())
			record(t, st, application, consent.CitizenKey{ExternalRef: ref}, onSMS())
		}
		is := func(ref string, mail, sms consent.State) {
			t.Helper()
			if a, b := stateOf(t, st, app, ref, "newsletter-email"), stateOf(t, st, app, ref, "newsletter-sms"); a != mail || b != sms {
				t.Errorf("%s reads as %s by e-mail and %s by SMS, want %s and %s", ref, a, b, mail, sms)
			}
		}
		create(app, "A", consent.Details{Email: "ADA@example.com", Telephone: "020 7946 0018", Address: consent.Address{AddressCountry: "GB"}})
		create(app, "twin", consent.Details{Email: "ada@example.com"})
		create(app, "B", consent.Details{Email: "bob@example.com"})
		create(other, "A", consent.Details{Email: "ada@example.com"})

		entry := suppress(t, st, app, ada.Contact(), "email")[0]
		is("A", consent.Denied, consent.Granted)
		is("twin", consent.Denied, consent.Granted)
		is("B", consent.Granted, consent.Granted)
		if got := stateOf(t, st, other, "A", "newsletter-email"); got != consent.Granted {
			t.Errorf("in the other application it reads as %s", got)
		}
		if again := suppress(t, st, app, ada.Contact(), "email")[0]; again.ID != entry.ID || again.LiftedAt != 0 || again.Reason != "asked" || again.Contact.Masked() != "a•••@example.com" {
			t.Errorf("the entry is %+v after %+v", again, entry)
		}

		// Of the list the history says who, which entry, and that it ended.
		chain, err := st.Chain(ctx, app, ref("A"), 0, 100)
		history := chain.Entries
		if err != nil || len(history) != 3 {
			t.Fatalf("%d records, %v", len(history), err)
		}
		if v := history[2].Suppression; v == nil || v.Entry != entry.ID || v.Medium != "email" || v.Lifted || v.Client.ID != "support" || *history[2].Evidence() != v.Evidence {
			t.Errorf("the record is %+v", history[2])
		}
		whole, err := st.History(ctx, app, ref("A"), 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, x := range whole.Projection.Explain("newsletter-email", consent.At(time.Now()), false) {
			if c := x.Candidates[0]; c.Fate != consent.FateSuppressed || c.By != history[2].Suppression.ID {
				t.Errorf("explained by %+v", c)
			}
		}

		// The list beats what is answered later, and finds whoever gets the address, or loses it.
		record(t, st, app, ref("A"), onEmail())
		is("A", consent.Denied, consent.Granted)
		create(app, "late", consent.Details{Email: "ada@example.com"})
		is("late", consent.Denied, consent.Granted)
		if err := st.SetEmail(ctx, app, ref("B"), ada, "test"); err != nil {
			t.Fatal(err)
		}
		is("B", consent.Denied, consent.Granted)
		if err := st.SetEmail(ctx, app, ref("B"), email(t, "bob@example.com"), "test"); err != nil {
			t.Fatal(err)
		}
		is("B", consent.Granted, consent.Granted)
		if err := st.EraseCitizen(ctx, app, ref("late"), "test"); err != nil {
			t.Fatal(err)
		}
		create(app, "late", consent.Details{Email: "ada@example.com"})
		is("late", consent.Denied, consent.Granted)

		// Two entries against one channel: it ends with the last.
		n, err := consent.ParseTelephone("+44 20 7946 0018", "")
		if err != nil {
			t.Fatal(err)
		}
		byPhone := suppress(t, st, app, n.Contact(), "sms", "email")
		is("A", consent.Denied, consent.Denied)
		lifter := consent.Recorder{ID: "lifter", Name: "Lifter"}
		if err := st.LiftSuppression(ctx, []int64{other}, entry.ID, lifter); consent.KindOf(err) != consent.NotFound {
			t.Errorf("lifted from another application: %v", err)
		}
		for range 2 {
			if err := st.LiftSuppression(ctx, []int64{other, app}, entry.ID, lifter); err != nil {
				t.Fatal(err)
			}
			is("A", consent.Denied, consent.Denied)
			is("twin", consent.Granted, consent.Granted)
			is("late", consent.Granted, consent.Granted)
		}
		for _, e := range byPhone {
			if err := st.LiftSuppression(ctx, []int64{app}, e.ID, lifter); err != nil {
				t.Fatal(err)
			}
		}
		is("A", consent.Granted, consent.Granted)
		if list, err := st.SuppressionsOf(ctx, app, ada.Contact()); err != nil || len(list) != 1 || list[0].LiftedBy != lifter || list[0].LiftedAt == 0 {
			t.Errorf("the entry is kept as %+v, %v", list, err)
		}

		// The owner lifts it in a write of their own; others learn it in the background.
		suppress(t, st, app, ada.Contact(), "email", "sms")
		is("A", consent.Denied, consent.Denied)
		if err := st.LiftByOwner(ctx, app, ref("A"), "email"); err != nil {
			t.Fatal(err)
		}
		is("A", consent.Granted, consent.Denied)
		if err := st.SpreadSuppressions(ctx); err != nil {
			t.Fatal(err)
		}
		is("twin", consent.Granted, consent.Denied)
		list, total, err := st.Suppressions(ctx, app, 0, 2, 0)
		if err != nil || total != 5 || len(list) != 2 || list[0].Channel != "sms" || list[1].Channel != "email" || list[1].LiftReason != "confirmed" || list[1].LiftedBy.ID != "owner" {
			t.Errorf("listed %+v (%d), %v", list, total, err)
		}
		if rest, _, err := st.Suppressions(ctx, app, list[1].Number, 10, 0); err != nil || len(rest) != 3 {
			t.Errorf("then %+v, %v", rest, err)
		}
		if f := check(t, st); len(f) > 0 {
			t.Error(f)
		}
	})
}

// A change of the list survives the process that made it, however many have the address.
func TestSuppressionIsSpreadAfterAll(t *testing.T) {
	storetest.Both(t, func(t *testing.T, st *store.Store) {
		app := storetest.Application(t, st, "northwind").Application
		list := make([]store.NewCitizen, 250)
		for i := range list {
			v := onEmail()
			list[i] = store.NewCitizen{ExternalRef: fmt.Sprint(i), Details: consent.Details{Email: "shared@example.com"}, Transaction: &v}
		}
		if _, _, err := st.CreateCitizens(ctx, app, list, "test", store.Once{}); err != nil {
			t.Fatal(err)
		}
		if err := st.ListOnly(ctx, app, email(t, "shared@example.com"), "email"); err != nil {
			t.Fatal(err)
		}
		if got := stateOf(t, st, app, "0", "newsletter-email"); got != consent.Granted {
			t.Fatalf("it reads as %s: nothing is left to do", got)
		}
		for range 2 {
			if err := st.SpreadSuppressions(ctx); err != nil {
				t.Fatal(err)
			}
			for i := range list {
				if chain, err := st.Chain(ctx, app, ref(fmt.Sprint(i)), 0, 10); err != nil || chain.Total != 2 || chain.Entries[1].Suppression == nil {
					t.Fatalf("citizen %d has %d records, %v", i, chain.Total, err)
				}
			}
		}
	})
}

// The list and the addresses are written at the same time by two nodes, and neither misses
// the other.
func TestSuppressionsMissNobody(t *testing.T) {
	onBothDatabases(t, func(t *testing.T, d database) {
		st := d.open(t)
		nodes := []*store.Store{st, st}
		if d.options.DatabaseURL != "" {
			nodes[1] = d.open(t)
		}
		app := storetest.Application(t, st, "northwind").Application
		const rounds, each = 12, 6
		addresses := make([]consent.Email, rounds)
		for i := range rounds {
			addresses[i] = email(t, fmt.Sprintf("a%d@example.com", i))
			for k := range each {
				record(t, st, app, consent.CitizenKey{ExternalRef: fmt.Sprint(i, " ", k)}, onEmail())
			}
		}
		lifted := func(i int) bool { return i%3 == 0 }
		var all sync.WaitGroup
		for i, e := range addresses {
			all.Go(func() {
				list, err := nodes[i%2].Suppress(ctx, app, store.NewSuppression{Contact: e.Contact(), Channels: []string{"email"}})
				if err != nil {
					t.Error(err)
					return
				}
				if lifted(i) {
					if err := nodes[(i+1)%2].LiftSuppression(ctx, []int64{app}, list[0].ID, consent.Recorder{ID: "lifter"}); err != nil {
						t.Error(err)
					}
				}
			})
			for k := range each {
				all.Go(func() {
					if err := nodes[k%2].SetEmail(ctx, app, consent.CitizenKey{ExternalRef: fmt.Sprint(i, " ", k)}, e, "test"); err != nil {
						t.Error(err)
					}
				})
			}
		}
		all.Wait()
		for i := range rounds {
			want := consent.Denied
			if lifted(i) {
				want = consent.Granted
			}
			for k := range each {
				if got := stateOf(t, st, app, fmt.Sprint(i, " ", k), "newsletter-email"); got != want {
					t.Errorf("address %d, citizen %d: %s, want %s", i, k, got, want)
				}
			}
		}
		if f := check(t, st); len(f) > 0 {
			t.Error(f)
		}
	})
}

// Whatever is done in whatever order, a channel is suppressed for exactly those who have an
// address with an entry in force.
func TestSuppressionsFollowTheList(t *testing.T) {
	storetest.Both(t, func(t *testing.T, st *store.Store) {
		count := 0
		rapid.Check(t, func(t *rapid.T) {
			count++
			app, err := st.CreateApplication(ctx, fmt.Sprint("app-", count), consent.ApplicationSettings{Name: "N"}, "test")
			if err != nil {
				t.Fatal(err)
			}
			refs, addresses := []string{"A", "B", "C"}, []consent.Email{"a@example.com", "b@example.com", "c@example.com"}
			has, inForce := map[string]consent.Email{}, map[string]consent.ID{}
			for _, r := range refs {
				for _, v := range []consent.Transaction{onEmail(), onSMS()} {
					if _, err := st.Record(ctx, app.Number, consent.CitizenKey{ExternalRef: r}, v, store.Once{}); err != nil {
						t.Fatal(err)
					}
				}
			}
			one := func(label string, n int) int { return rapid.IntRange(0, n-1).Draw(t, label) }
			for range rapid.IntRange(1, 12).Draw(t, "steps") {
				r, e, channel := refs[one("who", 3)], addresses[one("address", 3)], []string{"email", "sms"}[one("channel", 2)]
				var err error
				switch one("act", 4) {
				case 0:
					err, has[r] = st.SetEmail(ctx, app.Number, consent.CitizenKey{ExternalRef: r}, e, "test"), e
				case 1:
					err, has[r] = st.DeleteEmail(ctx, app.Number, consent.CitizenKey{ExternalRef: r}, "test"), ""
				case 2:
					var made []store.Suppressed
					if made, err = st.Suppress(ctx, app.Number, store.NewSuppression{Contact: e.Contact(), Channels: []string{channel}}); err == nil {
						inForce[e.String()+channel] = made[0].ID
					}
				case 3:
					if id, ok := inForce[e.String()+channel]; ok {
						delete(inForce, e.String()+channel)
						err = st.LiftSuppression(ctx, []int64{app.Number}, id, consent.Recorder{ID: "lifter"})
					}
				}
				if err != nil {
					t.Fatal(err)
				}
				for _, r := range refs {
					s, err := st.State(ctx, app.Number, consent.CitizenKey{ExternalRef: r})
					if err != nil {
						t.Fatal(err)
					}
					var want, got []string
					for _, channel := range []string{"email", "sms"} {
						if _, ok := inForce[has[r].String()+channel]; ok && has[r] != "" {
							want = append(want, "newsletter-"+channel)
						}
					}
					for _, p := range s.Projection.Effective(consent.At(time.Now().Add(time.Minute))) {
						if p.State == consent.Denied {
							got = append(got, p.OptionID)
						}
					}
					if !slices.Equal(got, want) {
						t.Fatalf("%s, who has %q, is refused %v, want %v", r, has[r], got, want)
					}
				}
			}
		})
		if f := check(t, st); len(f) > 0 {
			t.Error(f)
		}
	})
}
