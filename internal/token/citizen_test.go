package token_test

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/internal/token"
)

func secret(b byte) []byte { return []byte(strings.Repeat(string(rune(b)), 32)) }

var (
	keys   = token.NewKeys(map[byte][]byte{1: secret('a')})
	now    = consent.At(time.Date(2026, 11, 22, 9, 30, 0, 0, time.UTC))
	claims = token.Claims{Scope: token.Manage, Application: 3, Citizen: 1 << 40, Issue: 77, Generation: 2, Expires: now.Add(time.Minute)}
)

func TestCitizenTokenIsReadBack(t *testing.T) {
	for name, c := range map[string]token.Claims{
		"whole": claims,
		"never expires": {
			Scope: token.Unsubscribe, Application: 1<<32 - 1, Citizen: 1<<63 - 1, Issue: 1<<63 - 1, Generation: 1<<32 - 1,
		},
	} {
		text := keys.Mint(c)
		if len(text) >= 100 || strings.Trim(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_") != "" || !token.IsCitizen(text) {
			t.Errorf("%s: %q is not short and fit for a URL", name, text)
		}
		got, ok := keys.Verify(text, now)
		if diff := cmp.Diff(c, got); !ok || diff != "" {
			t.Errorf("%s: %v\n%s", name, ok, diff)
		}
	}
}

func TestCitizenTokenOfOtherKeys(t *testing.T) {
	text := keys.Mint(claims)
	rotated := token.NewKeys(map[byte][]byte{1: secret('a'), 2: secret('b')})
	if _, ok := rotated.Verify(text, now); !ok {
		t.Error("a token does not outlive its key's turn")
	}
	if fresh := rotated.Mint(claims); fresh == text {
		t.Error("the newest key does not sign")
	} else if _, ok := keys.Verify(fresh, now); ok {
		t.Error("a key that is not there verifies")
	}
	if _, ok := token.NewKeys(map[byte][]byte{1: secret('b')}).Verify(text, now); ok {
		t.Error("another key of the same id verifies")
	}
}

// A retired key verifies links to unsubscribe and nothing else.
func TestCitizenTokenOfARetiredKey(t *testing.T) {
	secrets := map[byte][]byte{1: secret('a'), 2: secret('b')}
	rotated, retired := token.NewKeys(secrets), token.NewKeys(secrets, 1)
	for scope, want := range map[token.Scope]bool{token.Manage: false, token.Visit: false, token.Unsubscribe: true, 0: false, 9: false} {
		c := claims
		c.Scope = scope
		for name, signer := range map[string]*token.Keys{"older": keys, "newest": rotated} {
			if _, ok := rotated.Verify(signer.Mint(c), now); !ok {
				t.Errorf("scope %d by the %s key does not verify", scope, name)
			}
		}
		if got, ok := retired.Verify(keys.Mint(c), now); ok != want || !ok && got != (token.Claims{}) {
			t.Errorf("scope %d by a retired key: %+v, %v", scope, got, ok)
		}
		if _, ok := retired.Verify(rotated.Mint(c), now); !ok {
			t.Errorf("scope %d by the key that signs is refused once another is retired", scope)
		}
	}
}

func TestSignedByEachKey(t *testing.T) {
	secrets := map[byte][]byte{1: secret('a'), 2: secret('b')}
	rotated, retired := token.NewKeys(secrets), token.NewKeys(secrets, 1)
	older, newest := keys.Sign("test", []byte("payload")), rotated.Sign("test", []byte("payload"))
	for name, c := range map[string]struct {
		keys      *token.Keys
		text      string
		knows, ok bool
	}{
		"older":              {rotated, older, true, true},
		"newest":             {rotated, newest, true, true},
		"retired":            {retired, older, true, false},
		"beside a retired":   {retired, newest, true, true},
		"not yet known":      {keys, newest, false, false},
		"empty":              {keys, "", false, false},
		"one character":      {keys, "A", false, false},
		"not base64":         {keys, "!!", false, false},
		"the key alone":      {keys, "AQ", true, false},
		"for something else": {rotated, rotated.Sign("other", []byte("payload")), true, false},
	} {
		if payload, ok := c.keys.Signed("test", c.text); ok != c.ok || ok && string(payload) != "payload" {
			t.Errorf("%s: %q, %v", name, payload, ok)
		}
		if got := c.keys.Knows(c.text); got != c.knows {
			t.Errorf("%s: known: %v", name, got)
		}
	}
}

func TestCitizenTokenThatIsNone(t *testing.T) {
	text := keys.Mint(claims)
	encoded := strings.TrimPrefix(text, string(token.Citizen))
	other := claims
	other.Citizen++
	another := keys.Mint(other)
	refused := map[string]string{
		"nothing": "", "kind alone": string(token.Citizen), "without its kind": encoded, "other kind": string(token.AccessToken) + encoded,
		"cut short": text[:len(text)-1], "cut by a group": text[:len(text)-4], "with more": text + "AAAA", "padded": text + "=",
		"line break within": text[:len(text)-1] + "\n", "line break behind": text + "\n", "other alphabet": text[:len(text)-4] + "+/+/",
		"swapped": text[:len(text)-22] + another[len(another)-22:], "zeros": string(token.Citizen) + strings.Repeat("A", len(encoded)),
	}
	raw, err := base64.RawURLEncoding.DecodeString(encoded)
	if err != nil {
		t.Fatal(err)
	}
	for bit := range len(raw) * 8 {
		forged := []byte(string(raw))
		forged[bit/8] ^= 1 << (bit % 8)
		refused[fmt.Sprint("bit ", bit)] = string(token.Citizen) + base64.RawURLEncoding.EncodeToString(forged)
	}
	endless := claims
	endless.Expires = 0
	refused["without an end"] = keys.Mint(endless)
	for name, forged := range refused {
		if c, ok := keys.Verify(forged, now); ok || c != (token.Claims{}) {
			t.Errorf("%s: %q is taken for %+v", name, forged, c)
		}
	}
	if _, ok := keys.Verify(text, claims.Expires-1); !ok {
		t.Error("expired before its time")
	}
	if _, ok := keys.Verify(text, claims.Expires); ok {
		t.Error("good after its time")
	}
}

// Minting allocates the text and nothing else, verifying nothing at all.
func TestCitizenTokenAllocations(t *testing.T) {
	text := keys.Mint(claims)
	if n := testing.AllocsPerRun(100, func() { keys.Mint(claims) }); n > 1 {
		t.Errorf("minting allocates %v times", n)
	}
	for name, v := range map[string]string{"right": text, "forged": neighbour(text), "short": text[:20]} {
		if n := testing.AllocsPerRun(100, func() { keys.Verify(v, now) }); n > 0 {
			t.Errorf("verifying one that is %s allocates %v times", name, n)
		}
	}
}

// neighbour differs in its last character.
func neighbour(text string) string {
	last := byte('A')
	if text[len(text)-1] == last {
		last = 'B'
	}
	return text[:len(text)-1] + string(last)
}

func FuzzCitizenToken(f *testing.F) {
	f.Add(keys.Mint(claims))
	f.Add(string(token.Citizen))
	f.Add("")
	f.Fuzz(func(t *testing.T, text string) {
		if c, ok := keys.Verify(text, now); ok && keys.Mint(c) != text {
			t.Fatalf("%q is another text of the token %q", text, keys.Mint(c))
		}
	})
}

func BenchmarkCitizenToken(b *testing.B) {
	text := keys.Mint(claims)
	b.Run("mint", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			keys.Mint(claims)
		}
	})
	for name, v := range map[string]string{"verify": text, "refuse": neighbour(text)} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				keys.Verify(v, now)
			}
		})
	}
}
