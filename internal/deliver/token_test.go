package deliver

import (
	"errors"
	"testing"
	"time"

	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/internal/core"
	"github.com/opencpm/opencpm/internal/store"
)

// opens gives the citizen of a token as it is now, zero where it is not good.
func (w *world) opens(v *citizenToken) consent.ID {
	w.t.Helper()
	a, err := core.New(w.st, core.Options{}).ByCitizenToken(ctx, v.Token)
	if err != nil && !errors.Is(err, core.ErrUnauthenticated) {
		w.t.Fatal(err)
	}
	return a.Citizen
}

func (w *world) issues() []store.TokenIssue {
	w.t.Helper()
	list, _, err := w.st.TokenIssues(ctx, w.app, 0, 10, 0)
	if err != nil {
		w.t.Fatal(err)
	}
	return list
}

func TestMessagesCarryTokens(t *testing.T) {
	at := &endpoint{}
	inBubble(t, at, func(t *testing.T, w *world) {
		id := w.subscribe(nil)
		r := w.record("CUST-1", consent.Granted)
		time.Sleep(time.Second)
		w.change(id, func(v *consent.Subscription) { v.IncludeCitizenToken, v.CitizenTokenValidity = true, "P1M" })
		w.record("CUST-1", consent.Denied)
		w.record("CUST-2", consent.Denied)
		time.Sleep(time.Second)
		if err := w.st.RevokeTokens(ctx, w.app, consent.CitizenKey{ID: r.CitizenID}, "test"); err != nil {
			t.Fatal(err)
		}
		w.record("CUST-1", consent.Granted)
		time.Sleep(time.Second)
		issues := w.issues()
		if len(issues) != 1 || issues[0].SubscriptionID != id {
			t.Fatalf("made on the issues %+v", issues)
		}
		if err := w.st.RevokeTokenIssue(ctx, []int64{w.app}, issues[0].Number, "test"); err != nil {
			t.Fatal(err)
		}
		w.record("CUST-1", consent.Denied)
		time.Sleep(time.Second)
		last := w.at.seen(t)
		if err := w.st.EraseCitizen(ctx, w.app, consent.CitizenKey{ID: r.CitizenID}, "test"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)

		seen := at.seen(t)
		if len(last) != 5 || len(seen) != 6 {
			t.Fatalf("%d messages, and %d with the erasure", len(last), len(seen))
		}
		if seen[0].body.CitizenToken != nil || seen[5].body.CitizenToken != nil {
			t.Error("a token came that nobody asked for, or of one who is gone")
		}
		for i, a := range seen[1:5] {
			if a.body.CitizenToken == nil {
				t.Fatalf("message %d has no token", i+1)
			}
			if got, want := consent.Instant(a.body.CitizenToken.ExpiryDate).Time(), a.body.SentAt.AddDate(0, 1, 0); !got.Equal(want) {
				t.Errorf("message %d: expires at %v, want %v", i+1, got, want)
			}
			if holder := w.opens(a.body.CitizenToken); !holder.IsZero() {
				t.Errorf("message %d: the token still opens what is of %v", i+1, holder)
			}
		}
	})
}

func TestTokensAreGoodUntilTheyAreRevoked(t *testing.T) {
	at := &endpoint{}
	inBubble(t, at, func(t *testing.T, w *world) {
		with := func(v *consent.Subscription) { v.IncludeCitizenToken, v.CitizenTokenValidity = true, "PT1H" }
		w.subscribe(with)
		last := func() *citizenToken {
			t.Helper()
			time.Sleep(time.Second)
			seen := at.seen(t)
			return seen[len(seen)-1].body.CitizenToken
		}
		holds := func(when string, v *citizenToken, want consent.ID) {
			t.Helper()
			if got := w.opens(v); got != want {
				t.Errorf("%s: good for %v, want %v", when, got, want)
			}
		}
		var nobody consent.ID
		ada := w.record("CUST-1", consent.Granted).CitizenID
		first := last()
		holds("at first", first, ada)
		if err := w.st.RevokeTokens(ctx, w.app, consent.CitizenKey{ID: ada}, "test"); err != nil {
			t.Fatal(err)
		}
		holds("once the citizen's are revoked", first, nobody)
		w.record("CUST-1", consent.Denied)
		second := last()
		holds("of a message after that", second, ada)
		if err := w.st.RevokeTokenIssue(ctx, []int64{w.app}, w.issues()[0].Number, "test"); err != nil {
			t.Fatal(err)
		}
		holds("once the issue is revoked", second, nobody)
		w.record("CUST-1", consent.Granted)
		third := last()
		holds("of a message on the next issue", third, ada)
		holds("of the messages before", first, nobody)
		time.Sleep(time.Hour)
		holds("after an hour", third, nobody)
	})
}

// A receipt that comes late keeps its stamp, and has a token that is good all the same.
func TestLateReceiptsHaveFreshTokens(t *testing.T) {
	at := &endpoint{answer: fail}
	inBubble(t, at, func(t *testing.T, w *world) {
		w.subscribe(func(v *consent.Subscription) {
			v.URL, v.UpdateType, v.IncludeCitizenToken, v.CitizenTokenValidity = receipts, consent.ConsentReceipts, true, "PT1M"
		})
		r := w.record("CUST-1", consent.Granted)
		time.Sleep(time.Minute)
		at.behave(nil)
		before := len(at.seen(t))
		for len(at.seen(t)) == before {
			time.Sleep(10 * time.Second)
		}
		late := at.seen(t)[before]
		if !late.body.SentAt.Equal(at.seen(t)[0].body.SentAt) || late.at.Sub(late.body.SentAt) < 30*time.Minute {
			t.Fatalf("came %v after its stamp", late.at.Sub(late.body.SentAt))
		}
		if got := w.opens(late.body.CitizenToken); got != r.CitizenID {
			t.Errorf("the token of a late receipt is good for %v", got)
		}
	})
}
