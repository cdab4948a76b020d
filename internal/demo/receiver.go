package demo

import (
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"slices"
	"time"
)

// maxMessage is the longest body the receiver takes, in bytes.
const maxMessage = 1 << 20

// Receipts is the path at which a Receiver takes consent receipts. At any other it
// takes full states.
const Receipts = "/receipts"

// Receiver accepts webhooks, as systems that are kept in step would: of full states it
// keeps the newest of each citizen by sentAt, and of all messages the last few hundred
// for the page. It is meant for loopback and trusts its callers.
type Receiver struct{ feed *feed }

// NewReceiver gives a receiver that has received nothing.
func NewReceiver() *Receiver { return &Receiver{newFeed()} }

// payload is what the receiver reads of a body; the fields are the published ones.
type payload struct {
	CitizenID   string    `json:"citizenId"`
	ExternalRef string    `json:"externalRef"`
	EventType   string    `json:"eventType"`
	Sequence    int64     `json:"sequence"`
	ChangedBy   string    `json:"changedBy"`
	SentAt      time.Time `json:"sentAt"`
	contents
}

// contents is what a message lists.
type contents struct {
	Permissions []permission `json:"permissions"`
	Preferences []preference `json:"preferences"`
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

// preference is the current answer to one preference in a body.
type preference struct {
	Preference   string    `json:"preference"`
	Label        string    `json:"label"`
	Choices      []choice  `json:"choices"`
	SubmissionID string    `json:"submissionId"`
	UpdatedAt    time.Time `json:"updatedAt"`
}

type choice struct {
	Label string `json:"label"`
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
	rc.feed.deliveredOne(Message{
		CitizenID: p.CitizenID, ExternalRef: p.ExternalRef, EventType: p.EventType, Sequence: p.Sequence, ChangedBy: p.ChangedBy,
		Receipt: r.URL.Path == Receipts, SentAt: p.SentAt, ReceivedAt: at, Body: body, contents: p.contents,
	})
	w.WriteHeader(http.StatusNoContent)
}

// State gives the newest state received of a citizen.
func (rc *Receiver) State(citizenID string) (Message, bool) {
	rc.feed.mu.Lock()
	defer rc.feed.mu.Unlock()
	m, ok := rc.feed.states[citizenID]
	return m, ok
}

// since gives what is listed here and was not, or not so, in an earlier state.
func (c contents) since(before contents) contents {
	var news contents
	for _, p := range c.Permissions {
		if !slices.Contains(before.Permissions, p) {
			news.Permissions = append(news.Permissions, p)
		}
	}
	for _, p := range c.Preferences {
		if !slices.ContainsFunc(before.Preferences, func(o preference) bool { return o.SubmissionID == p.SubmissionID }) {
			news.Preferences = append(news.Preferences, p)
		}
	}
	return news
}

// newest gives what came last, where no earlier state is known, as far as a full state
// shows it.
func (c contents) newest(sentAt time.Time) contents {
	var news contents
	last := c.cause(sentAt)
	for _, p := range c.Permissions {
		if !last.IsZero() && p.cause(sentAt).Equal(last) {
			news.Permissions = append(news.Permissions, p)
		}
	}
	for _, p := range c.Preferences {
		if p.UpdatedAt.Equal(last) {
			news.Preferences = append(news.Preferences, p)
		}
	}
	return news
}

// cause is the newest instant that made what is listed as it is. It is zero where there
// is none.
func (c contents) cause(sentAt time.Time) time.Time {
	var newest time.Time
	for _, p := range c.Permissions {
		newest = latest(sentAt, newest, p.cause(sentAt))
	}
	for _, p := range c.Preferences {
		newest = latest(sentAt, newest, p.UpdatedAt)
	}
	return newest
}

// cause is when the entry was recorded, or when its validity began or ended, whichever
// came last before the message was sent.
func (p permission) cause(sentAt time.Time) time.Time {
	at := latest(sentAt, p.RecordedAt, p.ValidFrom)
	if p.State == "" {
		at = latest(sentAt, at, p.ValidUntil)
	}
	return at
}

// latest gives the last of the times that are not after the limit.
func latest(limit time.Time, times ...time.Time) time.Time {
	var last time.Time
	for _, t := range times {
		if t.After(last) && !t.After(limit) {
			last = t
		}
	}
	return last
}
