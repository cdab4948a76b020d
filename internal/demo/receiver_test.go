package demo_test

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/opencpm/opencpm/internal/demo"
)

func TestTheReceiverKeepsTheNewestState(t *testing.T) {
	r := demo.NewReceiver()
	at := time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC)
	state := func() string {
		t.Helper()
		m, ok := r.State("ctz_A")
		if !ok {
			t.Fatal("nothing is known of the citizen")
		}
		var body struct{ Permissions []struct{ State string } }
		if err := json.Unmarshal(m.Body, &body); err != nil {
			t.Fatal(err)
		}
		if len(body.Permissions) == 0 {
			return "nothing"
		}
		return body.Permissions[0].State
	}
	for _, step := range []struct {
		name, body, want string
	}{
		{"the first", message("A", 1, at, "citizen.changed", entry("t1", "news", "GRANTED", at)), "GRANTED"},
		{"a newer one", message("A", 2, at.Add(time.Second), "citizen.changed", entry("t2", "news", "DENIED", at)), "DENIED"},
		{"an older one that comes late", message("A", 1, at, "citizen.changed", entry("t1", "news", "GRANTED", at)), "DENIED"},
		{"the same again", message("A", 2, at.Add(time.Second), "citizen.changed", entry("t2", "news", "GRANTED", at)), "DENIED"},
		{"somebody else's", message("B", 9, at.Add(time.Hour), "citizen.changed", entry("t3", "news", "GRANTED", at)), "DENIED"},
		{"the last of a citizen", message("A", 3, at.Add(2*time.Second), "citizen.deleted"), "nothing"},
	} {
		send(t, r, step.body, http.StatusNoContent)
		if got := state(); got != step.want {
			t.Errorf("after %s the state is %s, want %s", step.name, got, step.want)
		}
	}
	if _, ok := r.State("ctz_C"); ok {
		t.Error("a citizen is known that nobody spoke of")
	}
}

func TestTheReceiverMeasuresFromTheCause(t *testing.T) {
	now := time.Now()
	ended := entry("t1", "news", "", now.Add(-48*time.Hour))
	ended["validUntil"] = stamp(now.Add(-30 * time.Millisecond))
	standing := entry("t1", "news", "GRANTED", now.Add(-48*time.Hour))
	standing["validUntil"] = stamp(now.Add(-20 * time.Millisecond))
	begun := entry("t1", "news", "GRANTED", now.Add(-48*time.Hour))
	begun["validFrom"] = stamp(now.Add(-25 * time.Millisecond))
	for _, test := range []struct {
		name        string
		body        string
		timed       bool
		least, most time.Duration
	}{
		{"a recording", message("A", 1, now, "citizen.changed", entry("t0", "post", "DENIED", now.Add(-time.Hour)), entry("t1", "news", "GRANTED", now.Add(-12*time.Millisecond))), true, 12 * time.Millisecond, time.Minute},
		{"an end of validity", message("A", 1, now, "citizen.changed", ended), true, 30 * time.Millisecond, time.Minute},
		{"a beginning of validity", message("A", 1, now, "citizen.changed", begun), true, 25 * time.Millisecond, time.Minute},
		{"an end that has not counted", message("A", 1, now, "citizen.changed", standing), false, 0, 0},
		{"a recording of long ago", message("A", 1, now, "citizen.changed", entry("t0", "post", "DENIED", now.Add(-time.Hour))), false, 0, 0},
		{"a clock that runs fast", message("A", 1, now.Add(time.Hour), "citizen.changed", entry("t1", "news", "GRANTED", now.Add(time.Hour))), true, 0, 0},
		{"a deletion", message("A", 1, now, "citizen.deleted"), false, 0, 0},
		{"a test", message("A", 1, now, "test", entry("t1", "news", "GRANTED", now)), false, 0, 0},
		{"nothing at all", message("A", 1, now, "citizen.changed"), false, 0, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := demo.NewReceiver()
			send(t, r, test.body, http.StatusNoContent)
			m, _ := r.State("ctz_A")
			if m.Timed != test.timed || m.Latency < test.least || m.Latency > test.most {
				t.Errorf("timed %t, %v; want %t, %v to %v", m.Timed, m.Latency, test.timed, test.least, test.most)
			}
		})
	}
}

// A receipt is no state, and what came back because something newer ended does not tell
// when it did.
func TestTheReceiverTellsNewsFromState(t *testing.T) {
	s := newSite(t)
	r, now := s.receiver, time.Now()
	long := now.Add(-48 * time.Hour)
	old, short := entry("t1", "newsletter-email", "GRANTED", long), entry("t2", "events-sms", "GRANTED", now.Add(-40*time.Second))
	sendTo(t, r, demo.Receipts, message("A", 1, now.Add(-40*time.Second), "citizen.changed", short), http.StatusNoContent)
	if _, ok := r.State("ctz_A"); ok {
		t.Error("a receipt was taken for a state")
	}
	send(t, r, message("A", 1, now.Add(-40*time.Second), "citizen.changed", old, short), http.StatusNoContent)
	back := entry("t0", "events-sms", "GRANTED", long)
	send(t, r, byTime(message("A", 2, now, "citizen.changed", old, back)), http.StatusNoContent)
	if m, _ := r.State("ctz_A"); m.Timed || m.Sequence != 2 {
		t.Errorf("what came back is timed: %v, in message %d", m.Latency, m.Sequence)
	}
	liked := answer("s1", "interests", "What do you like to do?", now.Add(500*time.Millisecond), "Hiking")
	send(t, r, message("A", 3, now.Add(time.Second), "citizen.changed", old, back, liked), http.StatusNoContent)
	if m, _ := r.State("ctz_A"); !m.Timed || m.Latency > time.Minute {
		t.Errorf("an answer: timed %t, %v", m.Timed, m.Latency)
	}
	send(t, r, message("A", 4, now.Add(2*time.Second), "citizen.changed", old, back, liked), http.StatusNoContent)
	if m, _ := r.State("ctz_A"); m.Timed {
		t.Errorf("a state without news is timed: %v", m.Latency)
	}
	_, _, body := get(t, s.url)
	text := shown(body)
	for _, want := range []string{
		"Full state Nothing changed: told again · No. 4 · 2 allowed, 0 refused, 1 preference",
		"What do you like to do? Hiking Full state No. 3", "Store events by SMS Granted Full state By time alone · No. 2",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the page does not say %q:\n%s", want, text)
		}
	}
}

func TestTheReceiverRefuses(t *testing.T) {
	for _, test := range []struct {
		name, method, mediaType string
		body                    io.Reader
		want                    int
	}{
		{"a GET", "GET", "", nil, 405},
		{"a form", "POST", "application/x-www-form-urlencoded", strings.NewReader("a=b"), 415},
		{"no media type", "POST", "", strings.NewReader("{}"), 415},
		{"no JSON", "POST", "application/json", strings.NewReader("<p>"), 400},
		{"JSON about no one", "POST", "application/json", strings.NewReader(`{"sentAt":"2026-11-22T09:00:00Z"}`), 400},
		{"a message without its time", "POST", "application/json", strings.NewReader(`{"citizenId":"ctz_A"}`), 400},
		{"a body that breaks off", "POST", "application/json", io.MultiReader(strings.NewReader("{"), broken{}), 400},
		{"a body without end", "POST", "application/json", endless{}, 413},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := demo.NewReceiver()
			req := httptest.NewRequest(test.method, "/", test.body)
			req.Header.Set("Content-Type", test.mediaType)
			w := httptest.NewRecorder()
			r.ServeHTTP(w, req)
			if w.Code != test.want {
				t.Errorf("answered %d, want %d", w.Code, test.want)
			}
			if _, ok := r.State("ctz_A"); ok {
				t.Error("took it all the same")
			}
		})
	}
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, errors.New("connection reset") }

type endless struct{}

func (endless) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = ' '
	}
	return len(b), nil
}
