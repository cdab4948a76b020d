package deliver

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/internal/seal"
	"github.com/opencpm/opencpm/internal/store"
	"github.com/opencpm/opencpm/internal/store/storetest"
)

// mailer writes mails without words.
var mailer = store.Mailer{SMTP: true, Compose: func(g store.MailGrounds) (consent.CitizenEmail, error) {
	return consent.CitizenEmail{
		CitizenID: g.CitizenID, EventID: g.ID, EventType: consent.CitizenMail, SentAt: consent.Timestamp(g.At), Sequence: g.Sequence, Version: consent.CitizenEmailVersion,
		Kind: g.Kind, Recipient: consent.EmailAddress{Address: g.Address.String()}, HTML: "<p>" + g.Link + "</p>", Text: g.Link,
		Action: &consent.EmailAction{URL: "https://consent.example/confirm/" + g.Link, ExpiresAt: consent.Timestamp(g.Expires)},
	}, nil
}}

// invite records a PENDING consent of a new citizen, whose mail is good for a while.
func (w *world) invite(ref string, life time.Duration) store.Recorded {
	w.t.Helper()
	return w.inviteBy(mailer, ref, life)
}

func (w *world) inviteBy(mailer store.Mailer, ref string, life time.Duration) store.Recorded {
	w.t.Helper()
	list, invited, err := w.st.RecordInviting(ctx, w.app, consent.CitizenKey{ExternalRef: ref},
		[]consent.Transaction{storetest.Transaction("newsletter-email", consent.Consent, consent.Pending)},
		store.Invitation{Mailer: mailer, Address: consent.Email(ref + "@example.com"), LinkEnd: func(sent consent.Instant) consent.Instant { return sent.Add(life) }}, store.Once{})
	if err != nil || invited.Mail.IsZero() {
		w.t.Fatal(invited, err)
	}
	return list[0]
}

func (w *world) mailOf(citizen consent.ID) store.Mail {
	w.t.Helper()
	list, _, err := w.st.Mails(ctx, w.app, consent.CitizenKey{ID: citizen}, 10, 0)
	if err != nil || len(list) != 1 {
		w.t.Fatalf("mails %+v, %v", list, err)
	}
	return list[0]
}

func (w *world) subscribeMails() consent.ID {
	w.t.Helper()
	return w.subscribe(func(v *consent.Subscription) {
		v.UpdateType, v.URL = consent.CitizenEmails, "https://crm.example/mails"
	})
}

// A mail to a subscription is the same in every attempt, until the endpoint takes it; the
// log shows neither its link nor its words.
func TestAMailIsTriedUnchanged(t *testing.T) {
	at := &endpoint{answer: func(n int, a arrival) (int, error) {
		if n < 4 {
			return http.StatusServiceUnavailable, nil
		}
		return http.StatusNoContent, nil
	}}
	inBubble(t, at, func(t *testing.T, w *world) {
		sub := w.subscribeMails()
		time.Sleep(2 * time.Second)
		r := w.invite("ada", 48*time.Hour)
		time.Sleep(3 * time.Hour)
		at.mu.Lock()
		got := at.arrivals
		at.mu.Unlock()
		if len(got) < 4 {
			t.Fatalf("%d attempts", len(got))
		}
		for _, a := range got {
			if string(a.raw) != string(got[0].raw) || a.header.Get("Webhook-Id") != got[0].header.Get("Webhook-Id") {
				t.Errorf("one attempt has %s, another %s", got[0].raw, a.raw)
			}
		}
		var m consent.CitizenEmail
		if err := json.Unmarshal(got[0].raw, &m); err != nil || m.EventID.String() != got[0].header.Get("Webhook-Id") || m.CitizenID != r.CitizenID {
			t.Fatalf("sent %s, %v", got[0].raw, err)
		}
		if v := w.mailOf(r.CitizenID); v.State != consent.EmailSent || !v.Webhook || v.EndedAt == 0 || v.ID != m.EventID {
			t.Fatalf("the mail is %+v", v)
		}
		registered, err := w.st.Subscription(ctx, []int64{w.app}, sub)
		if err != nil {
			t.Fatal(err)
		}
		list, _, err := w.st.Attempts(ctx, store.AttemptFilter{Subscription: registered.Number, Limit: 100})
		if err != nil || len(list) != len(got) || list[0].EventType != consent.CitizenMail || list[0].Outcome != store.OutcomeDelivered {
			t.Fatalf("the log has %+v, %v", list, err)
		}
		d, err := w.st.Delivery(ctx, registered, list[0].ID)
		if err != nil || d.State != store.MessageState(store.OutcomeDelivered) {
			t.Fatalf("delivery %+v, %v", d, err)
		}
		var logged consent.CitizenEmail
		if err := json.Unmarshal(d.Exchange.Body, &logged); err != nil || logged.HTML != masked || logged.Text != masked || logged.Action.URL != masked || logged.Recipient.Address != "ada@example.com" {
			t.Fatalf("logged %s, %v", d.Exchange.Body, err)
		}
		changes, _, err := w.st.Changes(ctx, w.app, store.Place{}, 100)
		if err != nil || len(changes) != 1 || changes[0].Event != consent.CitizenChanged {
			t.Fatalf("the feed has more than that something is PENDING: %+v, %v", changes, err)
		}
	})
}

// A mail whose link has ended leaves no more, however it was to leave.
func TestAMailEndsWithItsLink(t *testing.T) {
	at := &endpoint{answer: fail}
	inBubble(t, at, func(t *testing.T, w *world) {
		w.subscribeMails()
		time.Sleep(2 * time.Second)
		r := w.invite("ada", 30*time.Minute)
		time.Sleep(20 * time.Minute)
		at.mu.Lock()
		tried := len(at.arrivals)
		at.mu.Unlock()
		time.Sleep(5 * time.Hour)
		at.mu.Lock()
		later := len(at.arrivals)
		at.mu.Unlock()
		if tried == 0 || later != tried {
			t.Fatalf("tried %d times before the end of the link, %d in all", tried, later)
		}
		if v := w.mailOf(r.CitizenID); v.State != consent.EmailExpired {
			t.Fatalf("the mail is %+v", v)
		}
	})
}

// Without a subscription the mail server gets it, by the schedule, until the link ends or
// the recipient is refused; one who is erased gets none.
func TestMailsByAMailServer(t *testing.T) {
	inBubble(t, &endpoint{}, func(t *testing.T, w *world) {
		var mu sync.Mutex
		tries := map[string][]time.Duration{}
		began := time.Now()
		run, stop := context.WithCancel(ctx)
		done := make(chan struct{})
		go func() {
			RunMails(run, w.st, MailOptions{Send: func(_ context.Context, m consent.CitizenEmail) (bool, error) {
				mu.Lock()
				defer mu.Unlock()
				to := m.Recipient.Address
				tries[to] = append(tries[to], time.Since(began).Round(time.Minute))
				switch {
				case to == "refused@example.com":
					return true, errors.New("the mail server answered 550")
				case to == "taken@example.com" && len(tries[to]) == 6, to == "atonce@example.com":
					return false, nil
				}
				return false, errors.New("the mail server cannot be spoken to")
			}})
			close(done)
		}()
		defer func() { stop(); <-done }()
		people := map[string]consent.ID{}
		for _, name := range []string{"taken", "refused", "late", "erased", "atonce"} {
			people[name] = w.invite(name, 3*time.Hour).CitizenID
		}
		time.Sleep(30 * time.Second)
		if err := w.st.EraseCitizen(ctx, w.app, consent.CitizenKey{ID: people["erased"]}, "test"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(6 * time.Hour)
		mu.Lock()
		defer mu.Unlock()
		for name, want := range map[string]struct {
			tries int
			state consent.EmailState
		}{"taken": {6, consent.EmailSent}, "refused": {1, consent.EmailRefused}, "late": {6, consent.EmailExpired}, "atonce": {1, consent.EmailSent}} {
			if v := w.mailOf(people[name]); len(tries[name+"@example.com"]) != want.tries || v.State != want.state || v.EndedAt == 0 {
				t.Errorf("%s: tried after %v, ended as %+v", name, tries[name+"@example.com"], v)
			}
		}
		if got := tries["taken@example.com"]; len(got) == 6 && (got[1]-got[0] != time.Minute || got[2]-got[1] != 5*time.Minute || got[3]-got[2] != 15*time.Minute || got[4]-got[3] != time.Hour || got[5]-got[4] != time.Hour) {
			t.Errorf("tried after %v", got)
		}
		if n := len(tries["erased@example.com"]); n != 1 {
			t.Errorf("one who was erased was sent %d mails", n)
		}
	})
}

// Two processes on one database hand over each mail once.
func TestEachMailIsHandedOverOnce(t *testing.T) {
	o := store.Options{DatabaseURL: storetest.Postgres(t), Keys: storetest.Keys(t)}
	w := &world{t: t, st: storetest.Open(t, o)}
	w.app = storetest.Application(t, w.st, "northwind").Application
	const mails = 60
	sent := make(chan consent.ID, 2*mails)
	run, stop := context.WithCancel(ctx)
	var processes sync.WaitGroup
	defer func() { stop(); processes.Wait() }()
	for _, st := range []*store.Store{w.st, storetest.Open(t, o)} {
		processes.Go(func() {
			RunMails(run, st, MailOptions{Send: func(_ context.Context, m consent.CitizenEmail) (bool, error) {
				sent <- m.EventID
				return false, nil
			}})
		})
	}
	var people sync.WaitGroup
	for i := range mails {
		people.Go(func() { w.invite(fmt.Sprint("new-", i), time.Hour) })
	}
	people.Wait()
	seen := map[consent.ID]bool{}
	for len(seen) < mails {
		select {
		case id := <-sent:
			if seen[id] {
				t.Fatalf("mail %v was handed over twice", id)
			}
			seen[id] = true
		case <-time.After(30 * time.Second):
			t.Fatalf("%d of %d mails were handed over", len(seen), mails)
		}
	}
	stop()
	processes.Wait() // all that was handed over is noted
	if len(sent) != 0 {
		t.Errorf("%d mails were handed over again", len(sent))
	}
	if list, next, err := w.st.ClaimMails(ctx, mails, time.Minute); len(list) != 0 || next != 0 || err != nil {
		t.Errorf("%d mails are left to be handed over, the next at %v, %v", len(list), next, err)
	}
}

// A mail that cannot be opened says why, and is tried again, for its key may come back.
func TestAMailThatCannotBeOpened(t *testing.T) {
	inBubble(t, &endpoint{}, func(t *testing.T, w *world) {
		citizen := w.invite("ada", 24*time.Hour).CitizenID
		list, _, err := w.st.ClaimMails(ctx, 1, time.Minute)
		if err != nil || len(list) != 1 {
			t.Fatalf("due are %+v, %v", list, err)
		}
		list[0].Unreadable = seal.ErrKey
		o := MailOptions{Log: slog.Default(), Send: func(context.Context, consent.CitizenEmail) (bool, error) {
			t.Error("a mail that nobody can read was sent")
			return false, nil
		}}
		var ended consent.EmailState
		o.Ended = func(s consent.EmailState) { ended = s }
		o.send(ctx, w.st, list[0])
		if v := w.mailOf(citizen); v.State != consent.EmailWaiting || ended != v.State || v.Attempts != 1 || v.Reason != seal.ErrKey.Error() {
			t.Errorf("the mail is %+v", v)
		}
		if list, next, err := w.st.ClaimMails(ctx, 1, time.Minute); len(list) != 0 || time.Until(next.Time()) != mailPauses[0] || err != nil {
			t.Errorf("due are %+v, the next at %v, %v", list, next, err)
		}
	})
}
