package token

import (
	"hash"
	"strings"
	"sync"
	"testing"

	"github.com/opencpm/opencpm/internal/consent"
)

// counted is a keyed hash that counts what it signs.
type counted struct {
	hash.Hash
	signed, bytes *int
}

func (c counted) Write(p []byte) (int, error) {
	*c.bytes += len(p)
	return c.Hash.Write(p)
}

func (c counted) Sum(b []byte) []byte {
	*c.signed++
	return c.Hash.Sum(b)
}

// Whatever is wrong with a token, what is refused and what is taken costs one signature
// over as many bytes.
func TestEveryTokenCostsOneSignature(t *testing.T) {
	var signed, bytes int
	retired, older := map[byte][]byte{1: []byte(strings.Repeat("a", 32))}, map[byte][]byte{2: []byte(strings.Repeat("b", 32))}
	keys := NewKeys(map[byte][]byte{1: retired[1], 2: older[2], 3: []byte(strings.Repeat("d", 32))}, 1)
	for id, pool := range keys.pools {
		inner := pool.New
		keys.pools[id] = &sync.Pool{New: func() any {
			s := inner().(*signer)
			s.mac = counted{s.mac, &signed, &bytes}
			return s
		}}
	}
	const now consent.Instant = 1000
	good := Claims{Scope: Manage, Application: 1, Citizen: 2, Issue: 3, Expires: 2000}
	leaving := Claims{Scope: Unsubscribe, Application: 1, Citizen: 2, Issue: 3}
	mint := func(edit func(*Claims)) string {
		c := good
		edit(&c)
		return keys.Mint(c)
	}
	text := keys.Mint(good)
	foreign := NewKeys(map[byte][]byte{7: []byte(strings.Repeat("c", 32))}).Mint(good)
	same := NewKeys(map[byte][]byte{2: []byte(strings.Repeat("c", 32))}).Mint(good)
	for name, v := range map[string]struct {
		text string
		ok   bool
	}{
		"good":            {text, true},
		"to unsubscribe":  {keys.Mint(leaving), true},
		"of an older key": {NewKeys(older).Mint(good), true},
		"of a retired":    {NewKeys(retired).Mint(good), false},
		"to leave by it":  {NewKeys(retired).Mint(leaving), true},
		"empty":           {"", false},
		"no token":        {"wrong", false},
		"very long":       {text + strings.Repeat("A", 10_000), false},
		"truncated":       {text[:len(text)-1], false},
		"forged":          {text[:30] + string(text[30]^1) + text[31:], false},
		"not base64":      {text[:len(text)-1] + "!", false},
		"expired":         {mint(func(c *Claims) { c.Expires = now }), false},
		"without an end":  {mint(func(c *Claims) { c.Expires = 0 }), false},
		"of an other key": {foreign, false},
		"of a forged key": {same, false},
		"another version": {string(Citizen) + "Ag" + text[len(Citizen)+2:], false},
		"another's end":   {text[:len(text)-22] + keys.Mint(leaving)[len(text)-22:], false},
	} {
		signed, bytes = 0, 0
		if _, ok := keys.Verify(v.text, now); ok != v.ok {
			t.Errorf("%s: taken for good: %v", name, ok)
		}
		if signed != 1 || bytes != claimsSize {
			t.Errorf("%s: %d signatures over %d bytes", name, signed, bytes)
		}
	}
}
