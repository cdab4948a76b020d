package main

import (
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

const (
	signingSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo="
	otherSecret   = "whsec_b3RoZXItb3RoZXItb3RoZXItb3RoZXItb3RoZXItb3Q="
)

// The library of Standard Webhooks is the judge: what it signs is valid, and whatever is done to a message, both give
// the same verdict.
func TestVerifySignature(t *testing.T) {
	library, err := standardwebhooks.NewWebhook(signingSecret)
	if err != nil {
		t.Fatal(err)
	}
	other, err := standardwebhooks.NewWebhook(otherSecret)
	if err != nil {
		t.Fatal(err)
	}
	const body = `{"externalRef":"Zoë"}`
	set := func(name, value string) func(http.Header) {
		return func(h http.Header) { h.Set(name, value) }
	}
	same := func(http.Header) {}
	for name, c := range map[string]struct {
		ago   time.Duration
		spoil func(http.Header)
		body  string
		want  string // part of the error
	}{
		"as it is":               {spoil: same},
		"four minutes old":       {ago: 4 * time.Minute, spoil: same},
		"four minutes ahead":     {ago: -4 * time.Minute, spoil: same},
		"six minutes old":        {ago: 6 * time.Minute, spoil: same, want: "s old, more than 5m0s"},
		"six minutes ahead":      {ago: -6 * time.Minute, spoil: same, want: "s ahead, more than 5m0s"},
		"a wrong one before":     {spoil: func(h http.Header) { h.Set("Webhook-Signature", "v1,AAAA "+h.Get("Webhook-Signature")) }},
		"an unknown kind beside": {spoil: func(h http.Header) { h.Set("Webhook-Signature", "v1a,AAAA "+h.Get("Webhook-Signature")) }},
		"unsigned": {spoil: func(h http.Header) {
			h.Del("Webhook-Signature")
			h.Del("Webhook-Timestamp")
		}, want: "unsigned"},
		"no id":             {spoil: set("Webhook-Id", ""), want: "one of the headers"},
		"no timestamp":      {spoil: set("Webhook-Timestamp", ""), want: "one of the headers"},
		"no signature":      {spoil: set("Webhook-Signature", ""), want: "one of the headers"},
		"a date":            {spoil: set("Webhook-Timestamp", "2026-01-01T00:00:00Z"), want: "the header webhook-timestamp"},
		"another id":        {spoil: set("Webhook-Id", "msg_2"), want: "no signature"},
		"another timestamp": {spoil: set("Webhook-Timestamp", strconv.FormatInt(time.Now().Unix()+9, 10)), want: "no signature"},
		"another body":      {spoil: same, body: body + " ", want: "no signature"},
		"another kind":      {spoil: func(h http.Header) { h.Set("Webhook-Signature", "v2"+h.Get("Webhook-Signature")[2:]) }, want: "no signature"},
		"cut off":           {spoil: func(h http.Header) { h.Set("Webhook-Signature", h.Get("Webhook-Signature")[:9]) }, want: "no signature"},
		"empty":             {spoil: set("Webhook-Signature", "v1,"), want: "no signature"},
	} {
		t.Run(name, func(t *testing.T) {
			at := time.Now().Add(-c.ago)
			signature, err := library.Sign("msg_1", at, []byte(body))
			if err != nil {
				t.Fatal(err)
			}
			header := http.Header{}
			header.Set("Webhook-Id", "msg_1")
			header.Set("Webhook-Timestamp", strconv.FormatInt(at.Unix(), 10))
			header.Set("Webhook-Signature", signature)
			c.spoil(header)
			got := body
			if c.body != "" {
				got = c.body
			}
			keys, err := parseSigningSecrets(otherSecret + ", " + signingSecret)
			if err != nil {
				t.Fatal(err)
			}
			key, err := verifySignature(keys, header, []byte(got), time.Now())
			switch judged := library.Verify([]byte(got), header); {
			case (err == nil) != (judged == nil):
				t.Errorf("we say %v, the library says %v", err, judged)
			case err == nil && (key != 1 || c.want != ""):
				t.Errorf("valid by key %d; want %q", key, c.want)
			case err != nil && (c.want == "" || !strings.Contains(err.Error(), c.want)):
				t.Errorf("%q, want %q", err, c.want)
			}
			if _, err := verifySignature(keys[:1], header, []byte(got), time.Now()); err == nil || other.Verify([]byte(got), header) == nil {
				t.Error("valid by a key that did not sign it")
			}
		})
	}
}

func TestSigningSecrets(t *testing.T) {
	for text, want := range map[string]int{"": 0, signingSecret: 1, signingSecret + "," + otherSecret: 2, signingSecret + " " + otherSecret + "\n": 2} {
		if keys, err := parseSigningSecrets(text); err != nil || len(keys) != want {
			t.Errorf("%d secrets: got %d, %v", want, len(keys), err)
		}
	}
	for _, text := range []string{"whsec_", "whsec_c2hvcnQ=", signingSecret[len("whsec_"):], "whsec_" + strings.Repeat("!", 32), signingSecret + ",x", "whsec_" + strings.Repeat("AAAA", 22)} {
		if keys, err := parseSigningSecrets(text); err == nil || strings.Contains(err.Error(), "!") {
			t.Errorf("%q: %d keys, %v", text, len(keys), err)
		}
	}
}
