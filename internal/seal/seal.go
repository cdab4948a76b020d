// Package seal keeps secrets and personal fields unreadable at rest. A Keyring
// holds the operator's master keys; under it stand data keys, one per citizen,
// whose destruction is the erasure of all that they sealed.
//
// Everything is AES-256-GCM with a random nonce. What is sealed is bound to a
// context, a short text naming the place it belongs to, and opens nowhere else.
package seal

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
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
	return k.aead.Seal(nil, nil, plain, []byte(context))
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

// Keyring holds the master keys by id. The first one seals; all of them open, so
// that a new key can be put in front of an old one.
type Keyring struct {
	active string
	keys   map[string]*Key
}

// ParseKeyring reads a key file: one key a line as `id:base64 of 32 bytes`, the
// sealing key first; blank lines and lines that begin with # are ignored. Errors
// name the line, never the key.
func ParseKeyring(text string) (*Keyring, error) {
	r := &Keyring{keys: map[string]*Key{}}
	for n, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		id, encoded, _ := strings.Cut(line, ":")
		raw, err := base64.StdEncoding.DecodeString(strings.TrimSpace(encoded))
		if id == "" || len(id) > 64 || err != nil || len(raw) != keySize {
			return nil, fmt.Errorf("line %d of the sealing keys is not `id:base64 of 32 bytes`", n+1)
		}
		if r.keys[id] != nil {
			return nil, fmt.Errorf("line %d of the sealing keys repeats the id of an earlier line", n+1)
		}
		// The master key itself only derives: what it seals and what it may derive
		// later can then never collide.
		derived, err := hkdf.Key(sha256.New, raw, nil, "opencpm sealing key", keySize)
		if err != nil {
			return nil, err
		}
		r.keys[id] = newKey(derived)
		if r.active == "" {
			r.active = id
		}
	}
	if r.active == "" {
		return nil, errors.New("there is no sealing key in the key file")
	}
	return r, nil
}

// NewKeyFile makes the text of a key file with one fresh key.
func NewKeyFile(id string) string {
	return fmt.Sprintf("# OpenCPM sealing keys. Without them the data cannot be read: keep a copy apart from the backups.\n%s:%s\n",
		id, base64.StdEncoding.EncodeToString(NewKey().raw))
}

// Seal encrypts plain under the sealing key; the id of the key stands in front.
func (r *Keyring) Seal(context string, plain []byte) []byte {
	out := append([]byte{byte(len(r.active))}, r.active...)
	return append(out, r.keys[r.active].Seal(context, plain)...)
}

// Open decrypts what any key of the ring sealed for the same context.
func (r *Keyring) Open(context string, sealed []byte) ([]byte, error) {
	if len(sealed) == 0 || len(sealed) < 1+int(sealed[0]) {
		return nil, ErrKey
	}
	id, rest := string(sealed[1:1+sealed[0]]), sealed[1+sealed[0]:]
	k := r.keys[id]
	if k == nil {
		return nil, fmt.Errorf("key %q: %w", id, ErrKey)
	}
	return k.Open(context, rest)
}

// Wrap seals a data key.
func (r *Keyring) Wrap(context string, k *Key) []byte { return r.Seal(context, k.raw) }

// Unwrap opens a data key.
func (r *Keyring) Unwrap(context string, wrapped []byte) (*Key, error) {
	raw, err := r.Open(context, wrapped)
	if err != nil {
		return nil, err
	}
	if len(raw) != keySize {
		return nil, ErrKey
	}
	return newKey(bytes.Clone(raw)), nil
}
