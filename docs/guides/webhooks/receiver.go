// Command webhooks is a small receiver of OpenCPM's webhooks: it checks the signature, drops duplicates and keeps the
// newest state of each citizen. It keeps them in memory; a real one keeps them in its database.
//
//	WEBHOOK_SECRETS=whsec_… PORT=9090 go run receiver.go
package main

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	tolerance  = 5 * time.Minute // how far the clocks may be apart
	maxMessage = 1 << 20         // the longest body that is read, in bytes
)

// A message is what this receiver reads of a body. The rest of it is kept as it came.
type message struct {
	CitizenID   string    `json:"citizenId"`
	ExternalRef string    `json:"externalRef"`
	EventType   string    `json:"eventType"`
	SentAt      time.Time `json:"sentAt"`

	raw json.RawMessage
}

// verify returns an error unless one of the signatures was made with one of the keys, lately, over this very body.
func verify(keys [][]byte, header http.Header, body []byte) error {
	id, at := header.Get("webhook-id"), header.Get("webhook-timestamp")
	seconds, err := strconv.ParseInt(at, 10, 64)
	if id == "" || err != nil {
		return errors.New("unsigned")
	}
	if age := time.Since(time.Unix(seconds, 0)); age > tolerance || age < -tolerance {
		return errors.New("too old or too new")
	}
	for _, key := range keys {
		mac := hmac.New(sha256.New, key)
		fmt.Fprintf(mac, "%s.%s.%s", id, at, body)
		want := []byte("v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil)))
		for _, signature := range strings.Fields(header.Get("webhook-signature")) {
			if hmac.Equal([]byte(signature), want) {
				return nil
			}
		}
	}
	return errors.New("no signature matches")
}

// parse reads a body, in its CloudEvents envelope or without one.
func parse(contentType string, body []byte) (m message, err error) {
	m.raw = body
	if strings.HasPrefix(contentType, "application/cloudevents+json") {
		var envelope struct{ Data json.RawMessage }
		if err := json.Unmarshal(body, &envelope); err != nil {
			return m, err
		}
		m.raw = envelope.Data
	}
	if err = json.Unmarshal(m.raw, &m); err == nil && (m.CitizenID == "" || m.SentAt.IsZero()) {
		err = errors.New("not about a citizen")
	}
	return m, err
}

// A table is what is known of the citizens. In a database, apply is one transaction.
type table struct {
	mu       sync.Mutex
	seen     map[string]bool    // the webhook-id of every message applied
	citizens map[string]message // the newest of each citizen, by citizenId
}

// apply stores what a message says, unless it was stored before or is older than what is there.
func (t *table) apply(id string, m message) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if m.EventType == "test" || t.seen[id] {
		return
	}
	t.seen[id] = true
	if last, known := t.citizens[m.CitizenID]; known && !m.SentAt.After(last.SentAt) {
		return
	}
	if m.EventType == "citizen.deleted" { // forget everything but that there is nothing to be told any more
		m.ExternalRef, m.raw = "", nil
	}
	t.citizens[m.CitizenID] = m
}

// find returns the newest message about the citizen with this reference, or nil.
func (t *table) find(externalRef string) json.RawMessage {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, m := range t.citizens {
		if m.raw != nil && m.ExternalRef == externalRef {
			return m.raw
		}
	}
	return nil
}

// receive answers 204 once the message is safe, and only then.
func receive(keys [][]byte, known *table) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxMessage))
		if err != nil {
			http.Error(w, "too long, or broken off", http.StatusRequestEntityTooLarge)
			return
		}
		if err := verify(keys, r.Header, body); err != nil {
			http.Error(w, err.Error(), http.StatusUnauthorized)
			return
		}
		m, err := parse(r.Header.Get("Content-Type"), body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		known.apply(r.Header.Get("webhook-id"), m)
		w.WriteHeader(http.StatusNoContent)
	}
}

func main() {
	var keys [][]byte // two while a secret is rotated
	for _, secret := range strings.Fields(os.Getenv("WEBHOOK_SECRETS")) {
		key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, "whsec_"))
		if err != nil || len(key) < 24 {
			log.Fatal("WEBHOOK_SECRETS: not whsec_ and the base64 of a key")
		}
		keys = append(keys, key)
	}
	known := &table{seen: map[string]bool{}, citizens: map[string]message{}}
	http.HandleFunc("POST /", receive(keys, known))
	http.HandleFunc("GET /citizens/{ref}", func(w http.ResponseWriter, r *http.Request) {
		found := known.find(r.PathValue("ref"))
		if found == nil {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.Copy(w, bytes.NewReader(found))
	})
	server := http.Server{Addr: "127.0.0.1:" + os.Getenv("PORT"), ReadTimeout: 10 * time.Second}
	log.Fatal(server.ListenAndServe())
}
