package store_test

import (
	"errors"
	"testing"
	"time"

	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/internal/seal"
	"github.com/opencpm/opencpm/internal/store"
	"github.com/opencpm/opencpm/internal/store/storetest"
)

// The log says which mail ended with its citizen, whoever notes it: the erasure, or the
// engine, which had it in hand.
func TestTheLogNamesAMailThatIsErased(t *testing.T) {
	storetest.Both(t, func(t *testing.T, st *store.Store) {
		l := newLogged(t, st, consent.CitizenEmails)
		recorded, invited, err := st.RecordInviting(ctx, l.app, consent.CitizenKey{ExternalRef: "CUST-1"},
			[]consent.Transaction{storetest.Transaction("newsletter-email", consent.Consent, consent.Pending)},
			store.Invitation{
				Mailer: store.Mailer{Compose: func(g store.MailGrounds) (consent.CitizenEmail, error) {
					return consent.CitizenEmail{EventID: g.ID}, nil
				}},
				Address: email(t, "ada@example.com"), LinkEnd: func(sent consent.Instant) consent.Instant { return sent.Add(time.Hour) },
			}, store.Once{})
		if err != nil || invited.Mail.IsZero() {
			t.Fatal(invited, err)
		}
		lanes := l.due(store.WaitingPeople, instant())
		if len(lanes) != 1 || lanes[0].Change == 0 {
			t.Fatalf("due is %+v", lanes)
		}
		h, err := st.Hold(ctx, "test", time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		if err := st.EraseCitizen(ctx, l.app, consent.CitizenKey{ID: recorded[0].CitizenID}, "test"); err != nil {
			t.Fatal(err)
		}
		erased := func(want int) {
			t.Helper()
			list := l.entries(store.AttemptFilter{Outcome: store.OutcomeErased})
			if len(list) != want {
				t.Fatalf("%d mails ended: %+v", len(list), list)
			}
			for _, a := range list {
				if a.EventType != consent.CitizenMail || a.Event != invited.Mail || a.Change != lanes[0].Change || a.Coalesced != 1 {
					t.Errorf("the log says %+v", a)
				}
			}
		}
		erased(1)
		if err := st.Settle(ctx, []store.Settlement{{
			Lane: lanes[0], Epoch: h.Epochs[lanes[0].Shard], At: instant(), Delivered: true,
			Log: &store.Attempt{EventType: consent.CitizenChanged, Class: "erased", Outcome: store.OutcomeErased, Reason: "the citizen was erased", Coalesced: 1},
		}}); err != nil {
			t.Fatal(err)
		}
		erased(2)
	})
}

// A mail that cannot be opened holds up none of those that are claimed with it.
func TestADamagedMailIsClaimedAlone(t *testing.T) {
	onBothDatabases(t, func(t *testing.T, d database) {
		st := d.open(t)
		app := storetest.Application(t, st, "northwind").Application
		mails := map[string]consent.ID{}
		for _, ref := range []string{"damaged", "sound"} {
			_, invited, err := st.RecordInviting(t.Context(), app, consent.CitizenKey{ExternalRef: ref},
				[]consent.Transaction{storetest.Transaction("newsletter-email", consent.Consent, consent.Pending)},
				store.Invitation{
					Mailer: store.Mailer{SMTP: true, Compose: func(g store.MailGrounds) (consent.CitizenEmail, error) {
						return consent.CitizenEmail{EventID: g.ID, CitizenID: g.CitizenID, Text: "Hello"}, nil
					}},
					Address: email(t, ref+"@example.com"), LinkEnd: func(sent consent.Instant) consent.Instant { return sent.Add(time.Hour) },
				}, store.Once{})
			if err != nil {
				t.Fatal(err)
			}
			mails[ref] = invited.Mail
		}
		id := mails["damaged"]
		if _, err := d.sql(t).Exec(`UPDATE mail SET body = $1 WHERE public_id = $2`, []byte("damaged"), id[:]); err != nil {
			t.Fatal(err)
		}
		list, _, err := st.ClaimMails(t.Context(), 4, time.Minute)
		if err != nil || len(list) != 2 {
			t.Fatalf("due are %+v, %v", list, err)
		}
		for _, m := range list {
			damaged := m.EventID == mails["damaged"]
			if m.CitizenID.IsZero() || damaged != errors.Is(m.Unreadable, seal.ErrKey) || damaged == (m.Text == "Hello") {
				t.Errorf("claimed %+v", m)
			}
		}
	})
}

// A mail that waits for a subscription ends with the address it is for.
func TestAMailEndsWithItsAddress(t *testing.T) {
	storetest.Both(t, func(t *testing.T, st *store.Store) {
		l := newLogged(t, st, consent.CitizenEmails)
		key := consent.CitizenKey{ExternalRef: "CUST-1"}
		_, _, err := st.RecordInviting(t.Context(), l.app, key,
			[]consent.Transaction{storetest.Transaction("newsletter-email", consent.Consent, consent.Pending)},
			store.Invitation{
				Mailer: store.Mailer{Compose: func(g store.MailGrounds) (consent.CitizenEmail, error) {
					return consent.CitizenEmail{EventID: g.ID}, nil
				}},
				Address: email(t, "ada@example.com"), LinkEnd: func(sent consent.Instant) consent.Instant { return sent.Add(time.Hour) },
			}, store.Once{})
		if err != nil {
			t.Fatal(err)
		}
		waits := func(want consent.EmailState, said bool) {
			t.Helper()
			lanes := l.due(store.WaitingPeople, instant())
			if len(lanes) != 1 {
				t.Fatalf("due is %+v", lanes)
			}
			entries, err := st.Receipts(t.Context(), []int64{lanes[0].Change})
			if err != nil || len(entries) != 1 || (entries[lanes[0].Change].News != nil) != said {
				t.Errorf("the mail says %+v, %v", entries, err)
			}
			if list, _, err := st.Mails(t.Context(), l.app, key, 10, 0); err != nil || len(list) != 1 || list[0].State != want {
				t.Errorf("the mails are %+v, %v", list, err)
			}
		}
		waits(consent.EmailWaiting, true)
		if err := st.SetEmail(t.Context(), l.app, key, email(t, "ada@new.example"), "test"); err != nil {
			t.Fatal(err)
		}
		waits(consent.EmailExpired, false)
	})
}
