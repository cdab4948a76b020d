package demo

import (
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"time"
)

// maxMessage is the longest body the receiver takes, in bytes.
const maxMessage = 1 << 20

// Receiver accepts webhooks of effective permissions, as a system that is kept in
// step would: it keeps the newest state of each citizen by sentAt, and the last few
// hundred messages for the page. It is meant for loopback and trusts its callers.
type Receiver struct{ feed *feed }

// NewReceiver gives a receiver that has received nothing.
func NewReceiver() *Receiver { return &Receiver{newFeed()} }

// payload is what the receiver reads of a body; the fields are the published ones.
type payload struct {
	CitizenID   string       `json:"citizenId"`
	ExternalRef string       `json:"externalRef"`
	EventType   string       `json:"eventType"`
	Sequence    int64        `json:"sequence"`
	SentAt      time.Time    `json:"sentAt"`
	Permissions []permission `json:"permissions"`
}

// permission is one entry of the state in a body. An entry that ceased has no
// state.
type permission struct {
	TransactionID string    `json:"transactionId"`
	OptionType    string    `json:"optionType"`
	OptionID      string    `json:"optionId"`
	State         string    `json:"state"`
	RecordedAt    time.Time `json:"recordedAt"`
	ValidFrom     time.Time `json:"validFrom"`
	ValidUntil    time.Time `json:"validUntil"`
}

// ServeHTTP answers 204 to a message that it took, and only then.
func (rc *Receiver) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	at := time.Now()
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		http.Error(w, "Only POST.", http.StatusMethodNotAllowed)
		return
	}
	if mediaType, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || mediaType != "application/json" {
		http.Error(w, "Only application/json.", http.StatusUnsupportedMediaType)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxMessage))
	if tooLong := (*http.MaxBytesError)(nil); errors.As(err, &tooLong) {
		http.Error(w, "Too long.", http.StatusRequestEntityTooLarge)
		return
	} else if err != nil {
		http.Error(w, "The body broke off.", http.StatusBadRequest)
		return
	}
	var p payload
	if err := json.Unmarshal(body, &p); err != nil || p.CitizenID == "" || p.SentAt.IsZero() {
		http.Error(w, "Not a message about a citizen.", http.StatusBadRequest)
		return
	}
	m := Message{
		CitizenID: p.CitizenID, ExternalRef: p.ExternalRef, EventType: p.EventType, Sequence: p.Sequence,
		SentAt: p.SentAt, ReceivedAt: at, Body: body, permissions: p.Permissions,
	}
	if cause := p.cause(); !cause.IsZero() {
		m.Latency, m.Timed = max(0, at.Sub(cause)), true
	}
	rc.feed.deliveredOne(m)
	w.WriteHeader(http.StatusNoContent)
}

// State gives the newest state received of a citizen.
func (rc *Receiver) State(citizenID string) (Message, bool) {
	rc.feed.mu.Lock()
	defer rc.feed.mu.Unlock()
	m, ok := rc.feed.states[citizenID]
	return m, ok
}

// cause is the instant that made the message: the newest recording, or the newest
// beginning or end of a validity that had come when it was sent. It is zero where
// the message has no such cause.
func (p *payload) cause() time.Time {
	if p.EventType != "" && p.EventType != "citizen.changed" {
		return time.Time{}
	}
	var newest time.Time
	take := func(t time.Time) {
		if t.After(newest) && !t.After(p.SentAt) {
			newest = t
		}
	}
	for _, e := range p.Permissions {
		take(e.RecordedAt)
		take(e.ValidFrom)
		if e.State == "" {
			take(e.ValidUntil)
		}
	}
	return newest
}
