package token

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"hash"
	"slices"
	"strings"
	"sync"

	"github.com/opencpm/opencpm/internal/consent"
)

// Citizen is the kind of a citizen token, which is signed rather than kept.
const Citizen Kind = "ocpm_citizen_"

// Scope says what a citizen token is good for; it opens nothing else.
type Scope byte

// The scopes of citizen tokens.
const (
	Manage      Scope = 1 // to see and to change one's own data
	Unsubscribe Scope = 2 // to leave by a link in a mail
	Visit       Scope = 3 // to go on with what was begun on our own pages
)

// Claims are what a citizen token says. The numbers are the store's.
type Claims struct {
	Scope       Scope
	Application int64
	Citizen     int64
	Issue       int64           // the act that made it, by which it can be revoked
	Generation  int64           // of the citizen, who is given the next one to revoke them all
	Expires     consent.Instant // zero: never, of one to unsubscribe
}

// A token is its kind and the base64url of version, key, scope, application,
// generation, citizen, issue, expiry and HMAC-SHA-256 of these, cut to 16 bytes. Its
// size is a multiple of 3, so that no two texts stand for one token.
const (
	version = 1

	claimsSize = 3 + 4 + 4 + 8 + 8 + 8
	macSize    = 16
	textSize   = (claimsSize + macSize) / 3 * 4
)

// Keys sign citizen tokens and recognise what they signed. They are safe for
// concurrent use.
type Keys struct {
	newest  byte
	secrets map[byte][]byte
	retired []byte
	pools   map[byte]*sync.Pool
}

// signer is a keyed hash with the room to use it, so that nothing is allocated.
type signer struct {
	mac    hash.Hash
	claims [claimsSize]byte
	sum    [sha256.Size]byte
}

// NewKeys takes at least one secret. The one with the highest id signs; all of them
// verify, but those that are retired only links to unsubscribe.
func NewKeys(secrets map[byte][]byte, retired ...byte) *Keys {
	k := &Keys{secrets: secrets, retired: retired, pools: map[byte]*sync.Pool{}}
	for id, secret := range secrets {
		k.newest = max(k.newest, id)
		k.pools[id] = &sync.Pool{New: func() any { return &signer{mac: hmac.New(sha256.New, secret)} }}
	}
	return k
}

// sign gives the HMAC of what is in claims, good until the signer is used again.
func (s *signer) sign() []byte {
	s.mac.Reset()
	s.mac.Write(s.claims[:])
	return s.mac.Sum(s.sum[:0])[:macSize]
}

// Mint makes a token.
func (k *Keys) Mint(c Claims) string {
	pool := k.pools[k.newest]
	s := pool.Get().(*signer)
	defer pool.Put(s)
	b := s.claims[:]
	b[0], b[1], b[2] = version, k.newest, byte(c.Scope)
	// What does not fit names somebody else's application, or an old generation: it is refused.
	binary.BigEndian.PutUint32(b[3:], uint32(c.Application))
	binary.BigEndian.PutUint32(b[7:], uint32(c.Generation))
	binary.BigEndian.PutUint64(b[11:], uint64(c.Citizen))
	binary.BigEndian.PutUint64(b[19:], uint64(c.Issue))
	binary.BigEndian.PutUint64(b[27:], uint64(c.Expires))

	var whole [claimsSize + macSize]byte
	copy(whole[:], b)
	copy(whole[claimsSize:], s.sign())
	var text [len(Citizen) + textSize]byte
	copy(text[:], Citizen)
	base64.RawURLEncoding.Encode(text[len(Citizen):], whole[:])
	return string(text[:])
}

// IsCitizen reports whether a text would be a citizen token, if anything.
func IsCitizen(text string) bool { return strings.HasPrefix(text, string(Citizen)) }

// Verify gives what a token says, unless it was not made by these keys or has expired.
// It does the same work whatever is wrong with it.
func (k *Keys) Verify(text string, now consent.Instant) (Claims, bool) {
	encoded, good := strings.CutPrefix(text, string(Citizen))
	good = good && len(encoded) == textSize
	var written [textSize]byte
	copy(written[:], encoded)
	var whole [claimsSize + macSize]byte
	n, err := base64.RawURLEncoding.Decode(whole[:], written[:])
	good = good && err == nil && n == len(whole) // fewer where there are line breaks, which are passed over

	pool, known := k.pools[whole[1]]
	if !known {
		pool = k.pools[k.newest]
	}
	s := pool.Get().(*signer)
	defer pool.Put(s)
	copy(s.claims[:], whole[:])
	signed := hmac.Equal(s.sign(), whole[claimsSize:])

	b := whole[:]
	c := Claims{
		Scope:       Scope(b[2]),
		Application: int64(binary.BigEndian.Uint32(b[3:])),
		Generation:  int64(binary.BigEndian.Uint32(b[7:])),
		Citizen:     int64(binary.BigEndian.Uint64(b[11:])),
		Issue:       int64(binary.BigEndian.Uint64(b[19:])),
		Expires:     consent.Instant(binary.BigEndian.Uint64(b[27:])),
	}
	ended := c.Expires <= now && (c.Expires != 0 || c.Scope != Unsubscribe)
	retired := c.Scope != Unsubscribe && slices.Contains(k.retired, b[1])
	if !good || !known || retired || !signed || b[0] != version || ended {
		return Claims{}, false
	}
	return c, true
}
