package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/opencpm/opencpm/internal/config"
)

type webhookCommand struct {
	Listen webhookListenCommand `cmd:"" help:"Print the webhooks that arrive on a local port, for people who build a receiver."`
}

type webhookListenCommand struct {
	Listen        string        `env:"-" default:"127.0.0.1:9090" type:"address" help:"Address and port to listen on."`
	Compact       bool          `env:"-" help:"Print each body on one line, for other programs to read."`
	Status        int           `env:"-" default:"204" min:"200" max:"599" help:"Answer with this status, to see what a failure leads to."`
	Delay         time.Duration `env:"-" default:"0s" min:"0s" max:"5m" help:"Answer as late as this."`
	RetryAfter    string        `env:"-" placeholder:"SECONDS" help:"Send this Retry-After with the answer."`
	WebhookSecret config.Secret `flag:"-" file:"-" hidden:"" help:"The signing secret of the subscription, or two while it is rotated."`
}

// Help is what --help adds.
func (*webhookListenCommand) Help() string {
	return "Bodies go to standard output, what is to be said of them to standard error. OPENCPM_WEBHOOK_SECRET, or a file that " +
		"OPENCPM_WEBHOOK_SECRET_FILE names, holds the signing secret (whsec_…), or two separated by a comma while it is rotated: then a " +
		"message that none of them signed is answered 401, and its body goes to standard error, too."
}

// Run prints what arrives until the process is told to stop.
func (c *webhookListenCommand) Run(ctx context.Context, to streams) error {
	keys, err := parseSigningSecrets(c.WebhookSecret.Reveal())
	if err != nil {
		return fmt.Errorf("OPENCPM_WEBHOOK_SECRET: %w", err)
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", c.Listen)
	if err != nil {
		return fmt.Errorf("cannot listen on %s: %w", c.Listen, errors.Unwrap(err))
	}
	fmt.Fprintf(to.err, "Waiting for webhooks at http://%s/\n", listener.Addr())
	l := &webhookListener{command: c, keys: keys, to: to, seen: map[string]int{}, newest: map[string]time.Time{}}
	server := &http.Server{ReadTimeout: 30 * time.Second, Handler: l, BaseContext: func(net.Listener) context.Context { return ctx }}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// webhookListener answers as it was told and says what a receiver should make of each
// message.
type webhookListener struct {
	command *webhookListenCommand
	keys    [][]byte
	to      streams

	mu     sync.Mutex
	seen   map[string]int       // how often each webhook-id came
	newest map[string]time.Time // the latest sentAt of each citizen
}

// maxRemembered is how many messages and citizens are remembered before it is begun anew.
const maxRemembered = 100_000

// heard is what is read of a message.
type heard struct {
	CitizenID   string    `json:"citizenId"`
	ExternalRef string    `json:"externalRef"`
	EventType   string    `json:"eventType"`
	Sequence    int64     `json:"sequence"`
	ChangedBy   string    `json:"changedBy"`
	Coalesced   int64     `json:"coalesced"`
	SentAt      time.Time `json:"sentAt"`
}

func (l *webhookListener) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<20))
	if err != nil || r.Method != http.MethodPost {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	status := l.print(r, body)
	select {
	case <-time.After(l.command.Delay):
	case <-r.Context().Done():
		return
	}
	if l.command.RetryAfter != "" {
		w.Header().Set("Retry-After", l.command.RetryAfter)
	}
	w.WriteHeader(status)
}

// print shows a message and returns the status to answer with.
func (l *webhookListener) print(r *http.Request, body []byte) int {
	now := time.Now()
	signature, accepted := l.judge(r.Header, body, now)
	status, out := l.command.Status, l.to.out
	if !accepted {
		status, out = http.StatusUnauthorized, l.to.err
	}
	m, enveloped, err := read(r.Header.Get("Content-Type"), body)

	l.mu.Lock()
	defer l.mu.Unlock()
	var block strings.Builder
	line := func(name, format string, values ...any) {
		fmt.Fprintf(&block, "  %-11s %s\n", name, printable(strings.ReplaceAll(fmt.Sprintf(format, values...), "\n", " ")))
	}
	fmt.Fprintf(&block, "%s POST %s, answered %d\n", now.Format("15:04:05.000"), printable(r.URL.EscapedPath()), status)
	line("signature", "%s", signature)
	if id := r.Header.Get("Webhook-Id"); id != "" {
		line("webhook-id", "%s", id)
	}
	if err != nil {
		line("body", "not a message: %v", err)
	} else {
		if enveloped {
			line("envelope", "CloudEvents, the message is its data")
		}
		line("event", "%s", m.EventType)
		line("citizen", "%s (%s)", m.ExternalRef, m.CitizenID)
		line("sequence", "%d", m.Sequence)
		if m.Coalesced > 1 {
			line("coalesced", "%d changes in one message", m.Coalesced)
		}
		if m.ChangedBy != "" {
			line("changed by", "%s", m.ChangedBy)
		}
		line("sentAt", "%s", m.SentAt.Format("2006-01-02T15:04:05.000Z07:00"))
		if accepted {
			l.compare(r.Header.Get("Webhook-Id"), m, line)
		}
	}
	fmt.Fprint(l.to.err, block.String())
	fmt.Fprintf(out, "%s\n", l.format(body))
	return status
}

// judge says what is to be thought of the signature, and whether the message is to be
// accepted.
func (l *webhookListener) judge(header http.Header, body []byte, now time.Time) (verdict string, accepted bool) {
	key, err := verifySignature(l.keys, header, body, now)
	switch {
	case len(l.keys) == 0 && errors.Is(err, errUnsigned):
		return "unsigned", true
	case len(l.keys) == 0:
		return "not checked: set OPENCPM_WEBHOOK_SECRET", true
	case err != nil:
		return "INVALID: " + err.Error(), false
	case len(l.keys) > 1:
		return fmt.Sprintf("valid, by secret %d of %d", key+1, len(l.keys)), true
	}
	return "valid", true
}

// compare points out what a receiver must not apply, and remembers the message.
func (l *webhookListener) compare(id string, m heard, line func(name, format string, values ...any)) {
	if len(l.seen) > maxRemembered || len(l.newest) > maxRemembered {
		clear(l.seen)
		clear(l.newest)
	}
	if id != "" {
		l.seen[id]++
	}
	last, known := l.newest[m.CitizenID]
	switch {
	case l.seen[id] > 1:
		line("duplicate", "this webhook-id came %d times: a receiver that has applied it must drop it", l.seen[id])
	case known && !m.SentAt.After(last):
		line("late", "not newer than the last one of this citizen: a receiver must drop it; of a receipt, what it has newer")
	}
	if m.SentAt.After(last) {
		l.newest[m.CitizenID] = m.SentAt
	}
}

// read reads a message, in its CloudEvents envelope or without one.
func read(contentType string, body []byte) (m heard, enveloped bool, err error) {
	if enveloped = strings.HasPrefix(contentType, "application/cloudevents+json"); enveloped {
		var event struct{ Data json.RawMessage }
		if err := json.Unmarshal(body, &event); err != nil {
			return m, true, err
		}
		body = event.Data
	}
	if err = json.Unmarshal(body, &m); err == nil && (m.CitizenID == "" || m.SentAt.IsZero()) {
		err = errors.New("citizenId or sentAt is missing")
	}
	return m, enveloped, err
}

// format gives a body as it is to be printed; one that is no JSON as a quoted text.
func (l *webhookListener) format(body []byte) []byte {
	var out bytes.Buffer
	var err error
	if l.command.Compact {
		err = json.Compact(&out, body)
	} else {
		err = json.Indent(&out, body, "", "  ")
	}
	if err != nil {
		return strconv.AppendQuote(nil, string(body))
	}
	return []byte(printable(out.String()))
}

// printable escapes, as JSON does, what in a stranger's text could speak to the terminal.
func printable(text string) string {
	var out []byte
	for _, r := range text {
		if unicode.IsPrint(r) || r == '\n' {
			out = utf8.AppendRune(out, r)
			continue
		}
		for _, unit := range utf16.Encode([]rune{r}) {
			out = fmt.Appendf(out, `\u%04x`, unit)
		}
	}
	return string(out)
}
