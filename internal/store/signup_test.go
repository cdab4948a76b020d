package store_test

import (
	"errors"
	"testing"
	"time"

	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/internal/store"
	"github.com/opencpm/opencpm/internal/store/storetest"
)

// Who was made for a sign-up is purged with it, whether or not a mail was sent, unless a
// client has made them.
func TestSignUpsWithoutAMailArePurged(t *testing.T) {
	storetest.Both(t, func(t *testing.T, st *store.Store) {
		ctx, app := t.Context(), storetest.Application(t, st, "northwind").Application
		signUp := func(ref string, smtp bool, by consent.Recorder) consent.ID {
			t.Helper()
			pending := storetest.Transaction("newsletter-email", consent.Consent, consent.Pending)
			pending.Client = by
			recorded, invited, err := st.RecordInviting(ctx, app, consent.CitizenKey{ExternalRef: ref}, []consent.Transaction{pending}, store.Invitation{
				Mailer: store.Mailer{SMTP: smtp, Compose: func(g store.MailGrounds) (consent.CitizenEmail, error) {
					return consent.CitizenEmail{EventID: g.ID}, nil
				}},
				LinkEnd: func(sent consent.Instant) consent.Instant { return sent.Add(time.Hour) },
				Address: email(t, ref+"@example.com"),
			}, store.Once{})
			if err != nil || invited.Mail.IsZero() == smtp || invited.NoWay == smtp {
				t.Fatalf("%+v, %v", invited, err)
			}
			return recorded[0].CitizenID
		}
		client := consent.Recorder{ID: "client"}
		asked, unasked, theirs := signUp("asked", true, consent.Platform), signUp("unasked", false, consent.Platform), signUp("theirs", false, client)
		twice := signUp("twice", true, consent.Platform)
		purged := func(when string, want bool, people ...consent.ID) {
			t.Helper()
			if more, err := st.PurgeSignUps(ctx, 100); more || err != nil {
				t.Fatal(more, err)
			}
			for _, id := range people {
				_, err := st.Citizen(ctx, app, consent.CitizenKey{ID: id})
				if err != nil && !errors.Is(err, store.ErrNoCitizen) {
					t.Fatal(err)
				}
				if got := err != nil; got != want {
					t.Errorf("%s: citizen %s purged %t", when, id, got)
				}
			}
		}
		age := func(by time.Duration) {
			t.Helper()
			if err := st.AgeSignUps(ctx, by); err != nil {
				t.Fatal(err)
			}
		}
		age(13 * 24 * time.Hour)
		signUp("twice", false, consent.Platform)
		purged("after 13 days", false, asked, unasked, theirs, twice)
		age(24 * time.Hour)
		purged("after 14 days", true, asked, unasked)
		purged("after 14 days", false, theirs, twice)
		age(13 * 24 * time.Hour)
		purged("two weeks after the second sign-up", true, twice)
		purged("at the end", false, theirs)
	})
}
