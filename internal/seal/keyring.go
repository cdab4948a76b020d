package seal

import (
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
)

// Keyring holds the master keys by id. The first one seals; all of them open, so
// that a new key can be put in front of an old one. A ring of a key file follows the
// file. Its methods are safe for concurrent use.
type Keyring struct {
	keys atomic.Pointer[masterKeys]
	file *keyFile // nil where the keys were given as a text
}

// masterKeys is what a ring holds at one time; it never changes.
type masterKeys struct {
	ids  []string // in the order of the key file: the first one seals
	byID map[string]*Key
}

// ParseKeyring reads the text of a key file: one key a line as `id:base64 of 32
// bytes`, the sealing key first; blank lines and lines that begin with # are ignored.
// Errors name the line, never the key.
func ParseKeyring(text string) (*Keyring, error) {
	keys, err := parseKeys(text)
	if err != nil {
		return nil, err
	}
	r := &Keyring{}
	r.keys.Store(keys)
	return r, nil
}

func parseKeys(text string) (*masterKeys, error) {
	keys := &masterKeys{byID: map[string]*Key{}}
	for n, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		if isNoKey(line) {
			continue
		}
		id, encoded, _ := strings.Cut(line, ":")
		raw, err := base64.StdEncoding.DecodeString(strings.TrimSpace(encoded))
		if id == "" || len(id) > maxID || err != nil || len(raw) != keySize {
			return nil, fmt.Errorf("line %d of the sealing keys is not `id:base64 of 32 bytes`", n+1)
		}
		if keys.byID[id] != nil {
			return nil, fmt.Errorf("line %d of the sealing keys repeats the id of an earlier line", n+1)
		}
		// The master key itself only derives: what it seals and what it may derive
		// later can then never collide.
		derived, err := hkdf.Key(sha256.New, raw, nil, "opencpm sealing key", keySize)
		if err != nil {
			return nil, err
		}
		keys.ids, keys.byID[id] = append(keys.ids, id), newKey(derived)
	}
	if len(keys.ids) == 0 {
		return nil, errors.New("there is no sealing key in the key file")
	}
	return keys, nil
}

// isNoKey reports whether a trimmed line of a key file holds no key.
func isNoKey(line string) bool { return line == "" || strings.HasPrefix(line, "#") }

const maxID = 64 // bytes

// Sealing gives the id of the key that seals.
func (r *Keyring) Sealing() string { return r.keys.Load().ids[0] }

// IDs gives the ids of the keys in the order of the key file, the sealing one first.
func (r *Keyring) IDs() []string { return slices.Clone(r.keys.Load().ids) }

// Seal encrypts plain under the sealing key; the id of the key stands in front.
func (r *Keyring) Seal(context string, plain []byte) []byte {
	r.lookSometimes()
	keys := r.keys.Load()
	return keys.byID[keys.ids[0]].seal(Mark(keys.ids[0]), context, plain)
}

// Open decrypts what any key of the ring sealed for the same context. A ring of a key
// file looks there for a key that it does not know.
func (r *Keyring) Open(context string, sealed []byte) ([]byte, error) {
	id, rest, ok := cutMark(sealed)
	if !ok {
		return nil, ErrKey
	}
	k := r.keys.Load().byID[string(id)]
	if k == nil {
		if err := r.look(); err != nil {
			return nil, fmt.Errorf("key %q: %w (%w)", id, ErrKey, err)
		}
		k = r.keys.Load().byID[string(id)]
	}
	if k == nil {
		return nil, fmt.Errorf("key %q: %w", id, ErrKey)
	}
	return k.Open(context, rest)
}

// Reseal seals under the sealing key what any key of the ring sealed.
func (r *Keyring) Reseal(context string, sealed []byte) ([]byte, error) {
	plain, err := r.Open(context, sealed)
	if err != nil {
		return nil, err
	}
	return r.Seal(context, plain), nil
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
	return newKey(raw), nil
}

// Mark is what stands in front of all that the master key with the id seals: the
// length of the id in one byte, and the id.
func Mark(id string) []byte { return append([]byte{byte(len(id))}, id...) }

// KeyOf gives the id of the master key under which something is sealed; "" for what no
// Keyring sealed.
func KeyOf(sealed []byte) string {
	id, _, _ := cutMark(sealed)
	return string(id)
}

func cutMark(sealed []byte) (id, rest []byte, ok bool) {
	if len(sealed) == 0 || sealed[0] == 0 || sealed[0] > maxID || len(sealed) < 1+int(sealed[0]) {
		return nil, nil, false
	}
	return sealed[1 : 1+sealed[0]], sealed[1+sealed[0]:], true
}
