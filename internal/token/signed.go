package token

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"slices"
)

// Sign signs what a page or a form hands back to us, for a purpose: what was signed for
// one is worth nothing for another. It is not encrypted.
func (k *Keys) Sign(purpose string, payload []byte) string {
	whole := append([]byte{k.newest}, k.mac(k.newest, purpose, payload)...)
	return base64.RawURLEncoding.EncodeToString(append(whole, payload...))
}

// Knows reports whether a text names a key that is among these: another one may have been
// made since, and have signed it.
func (k *Keys) Knows(text string) bool {
	var key [1]byte
	_, err := base64.RawURLEncoding.Decode(key[:], []byte(text[:min(2, len(text))]))
	return err == nil && k.secrets[key[0]] != nil
}

// Signed gives what was signed for a purpose, and false where these keys did not, or by one
// that is retired.
func (k *Keys) Signed(purpose, text string) (payload []byte, ok bool) {
	whole, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || len(whole) <= macSize || k.secrets[whole[0]] == nil || slices.Contains(k.retired, whole[0]) {
		return nil, false
	}
	mac, payload := whole[1:1+macSize], whole[1+macSize:]
	return payload, hmac.Equal(mac, k.mac(whole[0], purpose, payload))
}

// mac is keyed by a secret of the purpose's own.
func (k *Keys) mac(key byte, purpose string, payload []byte) []byte {
	own := hmac.New(sha256.New, k.secrets[key])
	own.Write([]byte(purpose))
	h := hmac.New(sha256.New, own.Sum(nil))
	h.Write(payload)
	return h.Sum(nil)[:macSize]
}
