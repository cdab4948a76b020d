// Package seal keeps secrets and personal fields unreadable at rest. A Keyring
// holds the operator's master keys; under it stand data keys, one per citizen,
// whose destruction is the erasure of all that they sealed.
//
// Everything is AES-256-GCM with a random nonce. What is sealed is bound to a
// context, a short text naming the place it belongs to, and opens nowhere else.
package seal

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
)

const keySize = 32 // bytes

// ErrKey says that something was sealed under a key that is not in the ring, or
// has been changed since.
var ErrKey = errors.New("cannot be opened: sealed under another key, or damaged")

// Key is one data key.
type Key struct {
	raw  []byte
	aead cipher.AEAD
}

// NewKey makes a random data key.
func NewKey() *Key {
	raw := make([]byte, keySize)
	rand.Read(raw) // never fails; see its documentation
	return newKey(raw)
}

func newKey(raw []byte) *Key {
	block, err := aes.NewCipher(raw)
	if err != nil {
		panic(err) // only for a wrong length, which every caller excludes
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic(err) // only for a block size that is not that of AES
	}
	return &Key{raw, aead}
}

// Seal encrypts plain for a context.
func (k *Key) Seal(context string, plain []byte) []byte {
	return k.seal(nil, context, plain)
}

// seal adds to what stands in front, in one piece of memory.
func (k *Key) seal(front []byte, context string, plain []byte) []byte {
	return k.aead.Seal(slices.Grow(front, len(plain)+k.aead.Overhead()), nil, plain, []byte(context))
}

// Open decrypts what Seal made for the same context, else fails with ErrKey.
func (k *Key) Open(context string, sealed []byte) ([]byte, error) {
	plain, err := k.aead.Open(nil, nil, sealed, []byte(context))
	if err != nil {
		return nil, ErrKey
	}
	return plain, nil
}

// Index gives a 16-byte blind index of a value: equal values can be found,
// nothing can be read. domain keeps the indexes of different things apart.
func (k *Key) Index(domain string, value string) []byte {
	m := hmac.New(sha256.New, k.raw)
	fmt.Fprintf(m, "%d:%s:", len(domain), domain)
	m.Write([]byte(value))
	return m.Sum(nil)[:16]
}
