package store_test

import (
	"testing"
	"time"

	"github.com/opencpm/opencpm/internal/consent"
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
