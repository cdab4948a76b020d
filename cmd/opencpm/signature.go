package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// signatureTolerance is how far the clock of a message may be from ours.
const signatureTolerance = 5 * time.Minute

// errUnsigned says that a message has none of the headers of Standard Webhooks that a
// signature is made of.
var errUnsigned = errors.New("unsigned")

// parseSigningSecrets reads one secret, or the two that live while a secret is rotated:
// whsec_ and base64, separated by a comma or a space. Its errors show no secret.
func parseSigningSecrets(text string) ([][]byte, error) {
	var keys [][]byte
	for secret := range strings.FieldsFuncSeq(text, func(r rune) bool { return r == ',' || r == ' ' || r == '\n' }) {
		encoded, marked := strings.CutPrefix(secret, "whsec_")
		key, err := base64.StdEncoding.DecodeString(encoded)
		if !marked || err != nil || len(key) < 24 || len(key) > 64 {
			return nil, errors.New("must be whsec_ followed by the base64 of 24 to 64 bytes; two are separated by a comma")
		}
		keys = append(keys, key)
	}
	return keys, nil
}

// verifySignature holds a message against Standard Webhooks 1.0: it returns which of the
// keys signed this id, timestamp and body within the tolerance of now, or an error that
// says why none did.
func verifySignature(keys [][]byte, header http.Header, body []byte, now time.Time) (key int, err error) {
	id, at, signatures := header.Get("Webhook-Id"), header.Get("Webhook-Timestamp"), header.Get("Webhook-Signature")
	if at == "" && signatures == "" {
		return 0, errUnsigned
	}
	if id == "" || at == "" || signatures == "" {
		return 0, errors.New("one of the headers webhook-id, webhook-timestamp and webhook-signature is missing")
	}
	seconds, err := strconv.ParseInt(at, 10, 64)
	if err != nil {
		return 0, errors.New("the header webhook-timestamp is no number of seconds")
	}
	if age := now.Sub(time.Unix(seconds, 0)).Round(time.Second); age > signatureTolerance {
		return 0, fmt.Errorf("the timestamp is %v old, more than %v", age, signatureTolerance)
	} else if age < -signatureTolerance {
		return 0, fmt.Errorf("the timestamp is %v ahead, more than %v", -age, signatureTolerance)
	}
	for i, k := range keys {
		mac := hmac.New(sha256.New, k)
		fmt.Fprintf(mac, "%s.%s.", id, at)
		mac.Write(body)
		want := []byte("v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil)))
		for signature := range strings.FieldsSeq(signatures) {
			if hmac.Equal([]byte(signature), want) {
				return i, nil
			}
		}
	}
	return 0, errors.New("no signature was made with the secret over this id, timestamp and body")
}
