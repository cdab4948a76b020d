package deliver

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/opencpm/opencpm/internal/consent"
)

// verified reports whether the library of Standard Webhooks accepts a message under a
// secret, at the time at which it is asked.
func verified(t *testing.T, secret string, a arrival) bool {
	t.Helper()
	judge, err := standardwebhooks.NewWebhook(secret)
	if err != nil {
		t.Fatal(err)
	}
	return judge.Verify(a.raw, a.header) == nil
}

// A message is signed under the present secret, and while it lives under the one before;
// under its own id, which is that of the state in it, at the time of the attempt.
func TestSignatures(t *testing.T) {
	at := &endpoint{}
	inBubble(t, at, func(t *testing.T, w *world) {
		first, second, third := consent.SigningSecret(make([]byte, 24)), consent.SigningSecret([]byte(strings.Repeat("2", 64))), consent.SigningSecret([]byte(strings.Repeat("3", 32)))
		id := w.subscribe(func(v *consent.Subscription) { v.Secrets.SigningSecret = first })
		state := consent.Granted
		sent := func() arrival {
			t.Helper()
			n := len(at.seen(t))
			w.record("CUST-1", state)
			state = map[consent.State]consent.State{consent.Granted: consent.Denied, consent.Denied: consent.Granted}[state]
			time.Sleep(100 * time.Millisecond)
			got := at.seen(t)
			if len(got) != n+1 {
				t.Fatalf("%d messages for one change", len(got)-n)
			}
			return got[n]
		}
		expect := func(when string, a arrival, by map[string]bool) {
			t.Helper()
			for secret, want := range by {
				if got := verified(t, secret, a); got != want {
					t.Errorf("%s: accepted under %s: %v", when, secret, got)
				}
			}
		}
		a := sent()
		expect("at first", a, map[string]bool{first: true, second: false})
		a.raw = append([]byte(" "), a.raw...)
		expect("another body", a, map[string]bool{first: false})

		rotate := func(secret string, overlap time.Duration) {
			w.change(id, func(v *consent.Subscription) { v.Secrets.RotateSigningSecret(secret, consent.At(time.Now()), overlap) })
		}
		rotate(second, time.Hour)
		expect("while both live", sent(), map[string]bool{first: true, second: true})
		time.Sleep(time.Hour)
		expect("after the overlap", sent(), map[string]bool{first: false, second: true})
		rotate(third, time.Hour)
		expect("rotated again", sent(), map[string]bool{first: false, second: true, third: true})
		rotate(first, 0)
		expect("rotated without an overlap", sent(), map[string]bool{first: true, second: false, third: false})
		w.change(id, func(v *consent.Subscription) { v.Secrets.SigningSecret = "" })
		if a := sent(); a.header.Get("Webhook-Id") == "" || a.header.Get("Webhook-Signature") != "" || a.header.Get("Webhook-Timestamp") != "" {
			t.Errorf("without a secret the headers are %v", a.header)
		}
	})
}

// Each attempt is signed anew: under the id of before where it says the same, so that
// receivers drop it, and under a new one where it has news, so that they do not.
func TestSignedRetries(t *testing.T) {
	at := &endpoint{answer: fail}
	inBubble(t, at, func(t *testing.T, w *world) {
		secret := consent.SigningSecret([]byte(strings.Repeat("s", 32)))
		w.subscribe(func(v *consent.Subscription) { v.Secrets.SigningSecret = secret })
		fresh := true
		at.behave(func(_ int, a arrival) (int, error) { // judged as it arrives, by the clock of then
			fresh = fresh && verified(t, secret, a)
			return http.StatusServiceUnavailable, nil
		})
		w.record("CUST-1", consent.Granted)
		time.Sleep(3 * time.Hour)
		w.record("CUST-1", consent.Denied)
		time.Sleep(time.Minute)
		got := at.seen(t)
		if !fresh || len(got) < 8 {
			t.Fatalf("%d attempts, all of them signed at their time: %v", len(got), fresh)
		}
		before := 0
		for _, a := range got {
			same := a.header.Get("Webhook-Id") == got[0].header.Get("Webhook-Id")
			if same != (a.body.state("newsletter-email") == consent.Granted) {
				t.Errorf("%s is the id of %+v", a.header.Get("Webhook-Id"), a.body)
			}
			if same {
				before++
			}
		}
		if before < 5 || before == len(got) {
			t.Errorf("%d of %d attempts say the same as the first", before, len(got))
		}
	})
}

// A client's headers never take the place of ours.
func TestHeadersOfOurOwn(t *testing.T) {
	at := &endpoint{}
	inBubble(t, at, func(t *testing.T, w *world) {
		secret := consent.SigningSecret([]byte(strings.Repeat("s", 32)))
		w.subscribe(func(v *consent.Subscription) {
			v.AuthType, v.Secrets.Token, v.Secrets.SigningSecret = consent.AuthToken, "s3cret", secret
			v.Secrets.Headers = map[string]string{"content-type": "text/plain", "webhook-id": "x", "webhook-timestamp": "1", "Webhook-Signature": "v1,x", "authorization": "x", "X-Tenant": "7"}
		})
		w.record("CUST-1", consent.Granted)
		time.Sleep(time.Second)
		a := at.seen(t)[0]
		if !verified(t, secret, a) || a.header.Get("Content-Type") != "application/json" || a.header.Get("Authorization") != "Bearer s3cret" || a.header.Get("X-Tenant") != "7" {
			t.Errorf("sent with %v", a.header)
		}
	})
}

// A message as a CloudEvent is one by the judgement of their library, with the published
// body as its data.
func TestCloudEvents(t *testing.T) {
	at := &endpoint{}
	inBubble(t, at, func(t *testing.T, w *world) {
		secret := consent.SigningSecret([]byte(strings.Repeat("s", 32)))
		w.subscribe(func(v *consent.Subscription) { v.Format, v.Secrets.SigningSecret = consent.CloudEventsFormat, secret })
		w.record("CUST-1", consent.Granted)
		time.Sleep(time.Second)
		a := at.seen(t)[0]
		var e event.Event
		if err := e.UnmarshalJSON(a.raw); err != nil {
			t.Fatalf("%v: %s", err, a.raw)
		}
		if err := e.Validate(); err != nil {
			t.Errorf("%v: %s", err, a.raw)
		}
		if ct := a.header.Get("Content-Type"); ct != event.ApplicationCloudEventsJSON {
			t.Errorf("Content-Type %q", ct)
		}
		if e.SpecVersion() != "1.0" || e.ID() != a.body.EventID || e.ID() != a.header.Get("Webhook-Id") || e.Source() != "urn:opencpm:application:northwind" ||
			e.Type() != "com.opencpm.citizen.changed" || e.Subject() != a.body.CitizenID || !e.Time().Equal(a.body.SentAt) || e.DataContentType() != "application/json" {
			t.Errorf("the event is %s", e)
		}
		if a.body.ExternalRef != "CUST-1" || a.body.state("newsletter-email") != consent.Granted {
			t.Errorf("its data is %s", e.Data())
		}
		if !verified(t, secret, a) {
			t.Error("the event is not signed as it was sent")
		}
	})
}
