package harness

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"
)

// A Message is one webhook POST as it reached a Receiver.
type Message struct {
	At     time.Time // when its last byte was read
	Method string
	Path   string
	Query  string
	Header http.Header
	Raw    []byte
	Payload
}

// Payload is the part of the published body that the tests reason about; Message.Raw holds all of it.
type Payload struct {
	ApplicationID string       `json:"applicationId"`
	CitizenID     string       `json:"citizenId"`
	ExternalRef   string       `json:"externalRef"`
	EventID       string       `json:"eventId"`
	EventType     string       `json:"eventType"`
	Sequence      int64        `json:"sequence"`
	SentAt        time.Time    `json:"sentAt"`
	Permissions   []Permission `json:"permissions"`
	Preferences   []Preference `json:"preferences"`
}

// Permission is one entry of the effective state, in a webhook or in the answer of GET /v1/permissions.
type Permission struct {
	TransactionID string     `json:"transactionId"`
	OptionID      string     `json:"optionId"`
	Justification string     `json:"justification"`
	State         *string    `json:"state"` // nil: the permission has ceased
	ValidUntil    *time.Time `json:"validUntil"`
}

// Preference is one current answer, in a webhook or in the answer of GET /v1/preferences.
type Preference struct {
	Preference   string `json:"preference"`
	SubmissionID string `json:"submissionId"`
	Choices      []struct {
		Reference string `json:"reference"`
	} `json:"choices"`
}

// States maps each option that has a state to "justification STATE"; an option whose permission has ceased is left out.
func States(permissions []Permission) map[string]string {
	states := map[string]string{}
	for _, p := range permissions {
		if p.State != nil {
			states[p.OptionID] = p.Justification + " " + *p.State
		}
	}
	return states
}

// A Receiver is a system that takes webhooks: it records every message and answers 204 until it is told otherwise.
type Receiver struct {
	URL string

	server   *httptest.Server
	mu       sync.Mutex
	respond  func(http.ResponseWriter, *Message)
	messages []Message
	faults   []string
	active   int
	peak     int
	news     chan struct{} // closed and replaced when something arrives
}

// NewReceiver starts a receiver on loopback that lives as long as the test. A body that is not JSON fails the test.
func NewReceiver(t testing.TB) *Receiver {
	r := &Receiver{news: make(chan struct{}), respond: Answer(http.StatusNoContent)}
	r.server = httptest.NewServer(r)
	r.URL = r.server.URL
	t.Cleanup(func() {
		r.server.CloseClientConnections()
		r.server.Close()
		for _, f := range r.faults {
			t.Errorf("receiver: %s", f)
		}
	})
	return r
}

// Answer is a response with this status and nothing else.
func Answer(status int) func(http.ResponseWriter, *Message) {
	return func(w http.ResponseWriter, _ *Message) { w.WriteHeader(status) }
}

// Respond sets how every message from now on is answered. It is called after the message was recorded, for several
// messages at a time.
func (r *Receiver) Respond(respond func(http.ResponseWriter, *Message)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.respond = respond
}

func (r *Receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	raw, err := io.ReadAll(req.Body)
	if err != nil {
		return // the sender died while it wrote
	}
	m := Message{Method: req.Method, Path: req.URL.Path, Query: req.URL.RawQuery, Header: req.Header, Raw: raw}
	bad := json.Unmarshal(raw, &m.Payload)

	r.mu.Lock()
	if bad != nil {
		r.faults = append(r.faults, fmt.Sprintf("unreadable body: %v: %s", bad, raw))
	}
	m.At = time.Now()
	r.messages = append(r.messages, m)
	r.active++
	r.peak = max(r.peak, r.active)
	respond := r.respond
	close(r.news)
	r.news = make(chan struct{})
	r.mu.Unlock()

	defer func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.active--
	}()
	respond(w, &m)
}

// Messages returns what has arrived about the citizens with these references, or about anyone if none is named.
func (r *Receiver) Messages(refs ...string) []Message {
	messages, _ := r.look(refs)
	return messages
}

func (r *Receiver) look(refs []string) ([]Message, <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	messages := slices.DeleteFunc(slices.Clone(r.messages), func(m Message) bool {
		return len(refs) > 0 && !slices.Contains(refs, m.ExternalRef)
	})
	return messages, r.news
}

// Peak is the largest number of messages that were being answered at one time.
func (r *Receiver) Peak() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.peak
}

// Await waits until enough holds for the messages about ref, and returns them.
func (r *Receiver) Await(t testing.TB, ref, what string, enough func([]Message) bool) []Message {
	t.Helper()
	timeout := time.After(Patience)
	for {
		messages, news := r.look([]string{ref})
		if enough(messages) {
			return messages
		}
		select {
		case <-news:
		case <-timeout:
			t.Fatalf("waited in vain for %s about %s; %d messages: %s", what, ref, len(messages), bodies(messages))
		}
	}
}

// AwaitCount waits until n messages about ref have arrived, and returns them.
func (r *Receiver) AwaitCount(t testing.TB, ref string, n int) []Message {
	t.Helper()
	return r.Await(t, ref, fmt.Sprintf("message %d", n), func(m []Message) bool { return len(m) >= n })
}

// AwaitState waits until the newest message about ref says exactly this, and returns it.
func (r *Receiver) AwaitState(t testing.TB, ref string, states map[string]string) Message {
	t.Helper()
	m := r.Await(t, ref, fmt.Sprint(states), func(m []Message) bool {
		return len(m) > 0 && fmt.Sprint(States(m[len(m)-1].Permissions)) == fmt.Sprint(states)
	})
	return m[len(m)-1]
}

// Quiet requires that nothing about ref arrives for d.
func (r *Receiver) Quiet(t testing.TB, ref string, d time.Duration) {
	t.Helper()
	before := len(r.Messages(ref))
	timeout := time.After(d)
	for {
		messages, news := r.look([]string{ref})
		if len(messages) > before {
			t.Fatalf("a message about %s arrived where none was due: %s", ref, bodies(messages[before:]))
		}
		select {
		case <-news:
		case <-timeout:
			return
		}
	}
}

func bodies(messages []Message) string {
	var s []byte
	for _, m := range messages {
		s = fmt.Appendf(s, "\n%s %s", m.At.Format(time.StampMilli), m.Raw)
	}
	return string(s)
}
