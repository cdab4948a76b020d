// Package token makes and recognises secrets that callers present. API keys, client
// secrets and access tokens are random, carry a prefix that says what they are, and
// are kept only as their SHA-256. Citizen tokens are not kept at all: they say what
// they are good for and are signed.
package token

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"strings"
)

// Kind is a kind of secret, told by its prefix.
type Kind string

// The kinds of secret.
const (
	APIKey       Kind = "ocpm_key_"
	ClientSecret Kind = "ocpm_secret_"
	AccessToken  Kind = "ocpm_access_"
)

// New makes a secret with 130 random bits or more, and the hash to keep.
func New(k Kind) (secret string, hash []byte) {
	secret = string(k) + strings.ToLower(rand.Text()+rand.Text())
	return secret, Hash(secret)
}

// Hash is the form in which a secret is kept and looked up. A plain hash is
// enough, since what is hashed is random and long.
func Hash(secret string) []byte {
	h := sha256.Sum256([]byte(secret))
	return h[:]
}

// Matches compares a secret with a kept hash in constant time.
func Matches(secret string, hash []byte) bool {
	return subtle.ConstantTimeCompare(Hash(secret), hash) == 1
}
