package deliver

import (
	"bytes"
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/internal/safehttp"
	"github.com/opencpm/opencpm/internal/store"
)

// entries gives the log of a subscription, the oldest first, as outcome and type of event.
func (w *world) entries(id consent.ID) (said []string, list []store.Attempt) {
	w.t.Helper()
	sub, err := w.st.Subscription(ctx, []int64{w.app}, id)
	if err != nil {
		w.t.Fatal(err)
	}
	newest, _, err := w.st.Attempts(ctx, store.AttemptFilter{Subscription: sub.Number, Limit: 100})
	if err != nil {
		w.t.Fatal(err)
	}
	for i := len(newest) - 1; i >= 0; i-- {
		list = append(list, newest[i])
		said = append(said, string(newest[i].Outcome)+" "+string(newest[i].EventType))
	}
	return said, list
}

func (w *world) expectLog(id consent.ID, want ...string) []store.Attempt {
	w.t.Helper()
	said, list := w.entries(id)
	if strings.Join(said, ", ") != strings.Join(want, ", ") {
		w.t.Fatalf("the log says %q, want %q", said, want)
	}
	return list
}

func TestEveryOutcomeIsLogged(t *testing.T) {
	at := &endpoint{answer: func(int, arrival) (int, error) { return http.StatusInternalServerError, nil }}
	inBubble(t, at, func(t *testing.T, w *world) {
		id := w.subscribe(nil)
		w.record("CUST-1", consent.Granted)
		time.Sleep(time.Minute)
		list := w.expectLog(id, "retrying citizen.changed", "retrying citizen.changed", "waiting citizen.changed")
		for i, a := range list {
			if a.Number != i+1 || a.Status != 500 || a.Class != "status" || a.Reason == "" || a.Next <= a.At() || a.Event != list[0].Event || a.Sequence != 1 || a.Coalesced != 1 {
				t.Errorf("attempt %d is logged as %+v", i+1, a)
			}
		}
		at.behave(nil)
		time.Sleep(2 * time.Hour)
		list = w.expectLog(id, "retrying citizen.changed", "retrying citizen.changed", "waiting citizen.changed", "delivered citizen.changed")
		if a := list[3]; a.Number != 4 || a.Status != 200 || a.Class != "ok" || a.Reason != "" || a.Next != 0 {
			t.Errorf("the delivery is logged as %+v", a)
		}
		sub, err := w.st.Subscription(ctx, []int64{w.app}, id)
		if err != nil {
			t.Fatal(err)
		}
		d, err := w.st.Delivery(ctx, sub, list[0].ID)
		if err != nil || d.State != "delivered" || len(d.Attempts) != 4 || d.Exchange == nil || !bytes.Contains(d.Exchange.Body, []byte(`"externalRef":"CUST-1"`)) || d.Exchange.URL != "https://crm.example/hook" {
			t.Errorf("read as %+v, %v", d, err)
		}
	})
}

func TestAPauseIsLogged(t *testing.T) {
	at := &endpoint{}
	inBubble(t, at, func(t *testing.T, w *world) {
		id := w.subscribe(nil)
		posts := 0
		w.stop()
		e := New(w.st, Options{Post: func(context.Context, safehttp.Request) (safehttp.Response, error) {
			if posts++; posts == 1 {
				return safehttp.Response{Status: 503, Header: http.Header{"Retry-After": {"120"}}}, nil
			}
			return safehttp.Response{Status: 204}, nil
		}, QuickAttempts: 3, QuickDelays: []time.Duration{time.Second}, RetryInterval: time.Hour, Timeout: time.Second, Concurrency: 8})
		run, cancel := context.WithCancel(ctx)
		done := make(chan struct{})
		go func() { e.Run(run); close(done) }()
		w.stop = func() { cancel(); <-done }
		w.record("CUST-1", consent.Granted)
		time.Sleep(5 * time.Minute)
		w.expectLog(id, "deferred citizen.changed", "delivered citizen.changed")
	})
}

// A message that is delivered again has its own id; a full state is that of now, a receipt
// the same as before.
func TestRedelivery(t *testing.T) {
	at := &endpoint{}
	inBubble(t, at, func(t *testing.T, w *world) {
		states, receipt := w.subscribe(nil), w.subscribeReceipts()
		w.record("CUST-1", consent.Granted)
		time.Sleep(time.Second)
		for _, id := range []consent.ID{states, receipt} {
			list := w.expectLog(id, "delivered citizen.changed")
			if err := w.st.Redeliver(ctx, []int64{w.app}, id, list[0].ID, "test"); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Second)
		seen := at.seen(t) // which holds the receipt to its sentAt
		if len(seen) != 4 {
			t.Fatalf("%d messages came", len(seen))
		}
		for _, a := range seen[2:] {
			if a.body.EventID != seen[0].body.EventID && a.body.EventID != seen[1].body.EventID || a.body.EventType != "citizen.changed" || a.body.state("newsletter-email") != consent.Granted {
				t.Errorf("came again as %+v", a.body)
			}
		}
		w.expectLog(receipt, "delivered citizen.changed", "delivered citizen.changed")
	})
}

// What is discarded while it is under way may arrive, and is not tried again.
func TestDiscardWhileUnderWay(t *testing.T) {
	at := &endpoint{answer: fail500, takes: 10 * time.Second}
	inBubble(t, at, func(t *testing.T, w *world) {
		for _, id := range []consent.ID{w.subscribe(nil), w.subscribeReceipts()} {
			before := len(at.seen(t))
			w.record("CUST-"+id.String(), consent.Granted)
			time.Sleep(5 * time.Second)
			for _, sub := range w.all() {
				if _, err := w.st.Discard(ctx, []int64{w.app}, sub, store.Discard{Citizen: &consent.CitizenKey{ExternalRef: "CUST-" + id.String()}}, "test"); err != nil {
					t.Fatal(err)
				}
			}
			time.Sleep(3 * time.Hour)
			if n := len(at.seen(t)) - before; n != 2 { // one for each subscription
				t.Errorf("%d attempts were made", n)
			}
			said, _ := w.entries(id)
			if last := said[len(said)-2:]; last[0] != "discarded citizen.changed" || last[1] != "retrying citizen.changed" {
				t.Errorf("the log says %q", said)
			}
		}
	})
}

func fail500(int, arrival) (int, error) { return http.StatusInternalServerError, nil }

func (w *world) all() (ids []consent.ID) {
	w.t.Helper()
	list, _, err := w.st.Subscriptions(ctx, store.SubscriptionFilter{Applications: []int64{w.app}, Limit: 100})
	if err != nil {
		w.t.Fatal(err)
	}
	for _, v := range list {
		ids = append(ids, v.ID)
	}
	return ids
}

// resync takes all steps of a resync of a subscription.
func (w *world) resync(id consent.ID) {
	w.t.Helper()
	if _, err := w.st.CreateJob(ctx, store.NewJob{Application: w.app, Kind: consent.ResyncJob, Params: []byte(`{}`)}, "test", store.Once{}); err != nil {
		w.t.Fatal(err)
	}
	held, ok, err := w.st.ClaimJob(ctx, "test", []consent.JobKind{consent.ResyncJob}, time.Hour)
	if err != nil || !ok {
		w.t.Fatal(ok, err)
	}
	var at store.RecoveryPlace
	for !held.State.Ended() {
		if held, err = w.st.StepJob(ctx, held, func(ctx context.Context, x *store.JobTx) (store.Progress, error) {
			next, n, err := x.Resync(ctx, store.RecoveryParams{Subscription: id}, at, 2)
			at = next
			return store.Progress{Done: int64(n), Finished: n == 0}, err
		}); err != nil {
			w.t.Fatal(err)
		}
	}
}

// A resync sends the state of now, whatever comes in between; the endpoint of these tests
// sees to it that nothing is stale.
func TestResync(t *testing.T) {
	at := &endpoint{}
	inBubble(t, at, func(t *testing.T, w *world) {
		id := w.subscribe(nil)
		for _, ref := range []string{"CUST-1", "CUST-2", "CUST-3"} {
			w.record(ref, consent.Granted)
		}
		time.Sleep(time.Second)
		at.behave(fail500)
		w.record("CUST-2", consent.Denied) // waits for its second attempt
		time.Sleep(500 * time.Millisecond)
		at.behave(nil)
		w.resync(id)
		time.Sleep(time.Minute)
		types := map[string]string{}
		for _, a := range at.seen(t) {
			types[a.body.ExternalRef] = a.body.EventType + " " + string(a.body.state("newsletter-email"))
		}
		for ref, want := range map[string]string{"CUST-1": "resync GRANTED", "CUST-2": "citizen.changed DENIED", "CUST-3": "resync GRANTED"} {
			if types[ref] != want {
				t.Errorf("%s was told last as %q, want %q", ref, types[ref], want)
			}
		}
		// News that come while it waits are news.
		before := len(at.seen(t))
		w.change(id, func(v *consent.Subscription) { v.Status = consent.Paused })
		time.Sleep(time.Second)
		w.resync(id)
		w.change(id, func(v *consent.Subscription) { v.Status = consent.Active })
		w.record("CUST-1", consent.Denied)
		time.Sleep(time.Minute)
		for _, a := range at.seen(t)[before:] {
			types[a.body.ExternalRef] = a.body.EventType + " " + string(a.body.state("newsletter-email"))
		}
		if last := types["CUST-1"]; last != "citizen.changed DENIED" {
			t.Errorf("CUST-1 was told last as %q", last)
		}
		if types["CUST-2"] != "resync DENIED" {
			t.Errorf("CUST-2 was told last as %q", types["CUST-2"])
		}
	})
}

// A message to try an endpoint goes as any other, and nothing of it is kept.
func TestTrying(t *testing.T) {
	at := &endpoint{}
	inBubble(t, at, func(t *testing.T, w *world) {
		e := New(w.st, Options{Post: at.post, Timeout: time.Second})
		sub := store.Registered{Subscription: consent.Subscription{
			ID: store.NewID(), ApplicationID: "northwind", URL: "https://crm.example/?a=b", AuthType: consent.AuthToken, TokenLocation: consent.InQuery, TokenName: "the key",
			Secrets: consent.SubscriptionSecrets{Token: "planted secret"},
		}}
		v := e.Try(ctx, sub)
		seen := at.seen(t)
		if !v.Delivered || v.Status != 200 || len(seen) != 1 || seen[0].body.EventType != "test" || seen[0].url != "https://crm.example/?a=b&the+key=planted+secret" {
			t.Errorf("tried %+v, %+v", v, seen)
		}
		if v.Exchange.URL != "https://crm.example/?a=b&the+key=[masked]" || !bytes.Contains(v.Exchange.Body, []byte(`"eventType":"test"`)) {
			t.Errorf("shown as %+v", v.Exchange)
		}
		at.behave(fail500)
		if v := e.Try(ctx, sub); v.Delivered || v.Status != 500 || v.Reason == "" {
			t.Errorf("refused: %+v", v)
		}
	})
}

func TestSecretsAreMasked(t *testing.T) {
	const secret, renewed, static, old = "planted-token-0123", "planted-renewed-0123", "planted-static-0123", "planted-client-0123"
	sub := store.Registered{Subscription: consent.Subscription{
		URL: "https://crm.example/", AuthType: consent.AuthToken, TokenLocation: consent.InHeader,
		Secrets: consent.SubscriptionSecrets{Token: secret, ClientSecret: old, Headers: map[string]string{"x-static": static}},
	}}
	x := exchangeOf(sub, result{
		request: safehttp.Request{
			URL:    "https://crm.example/",
			Header: http.Header{"Authorization": {"Bearer " + renewed}, "X-Static": {static}, "Webhook-Id": {"id"}, "Webhook-Signature": {"v1,abc"}},
			Body:   []byte(`{"externalRef":"x","citizenToken":{"token":"planted-citizen","expiryDate":"2026"}}`),
		},
		answer: safehttp.Response{
			Header: http.Header{"Set-Cookie": {"planted=1"}, "X-Echo": {"Bearer " + renewed, static}, "Date": {"today"}},
			Body:   []byte("you sent " + secret + " and " + old + "\x1b[31m\x00\u202e\xff"),
		},
	})
	text := strings.Join([]string{x.URL, string(x.Body), x.AnswerBody}, "\n")
	for _, h := range []map[string][]string{x.Header, x.AnswerHeader} {
		for _, values := range h {
			text += strings.Join(values, "\n")
		}
	}
	if strings.Contains(text, "planted") {
		t.Errorf("a secret is shown: %s", text)
	}
	if x.Header["Webhook-Signature"][0] != "v1,abc" || x.AnswerHeader["Date"][0] != "today" || string(x.Body) != `{"externalRef":"x","citizenToken":{"token":"[masked]","expiryDate":"2026"}}` {
		t.Errorf("too much is masked: %+v", x)
	}
	if want := "you sent [masked] and [masked]\\u001b[31m\\u0000\\u202e\uFFFD"; x.AnswerBody != want {
		t.Errorf("the answer is shown as %q, want %q", x.AnswerBody, want)
	}
	long := exchangeOf(sub, result{answer: safehttp.Response{Header: http.Header{"A": {strings.Repeat("x", 3000)}, "B": {strings.Repeat("x", 3000)}}}})
	if len(long.AnswerHeader) != 1 || !long.Truncated {
		t.Errorf("%d headers of an answer are kept", len(long.AnswerHeader))
	}
}
