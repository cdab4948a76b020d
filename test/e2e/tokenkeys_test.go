package e2e_test

import (
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/opencpm/opencpm/test/harness"
)

// A tokenKey is what `tokens keys --json` says of one key.
type tokenKey struct {
	ID                 int
	Role               string
	SpentAt, RetiredAt *time.Time
}

func tokenKeys(t testing.TB, s *harness.Store) []tokenKey {
	t.Helper()
	var o struct{ Keys []tokenKey }
	out := s.Do(t, "tokens", "keys", "--json")
	if err := json.Unmarshal([]byte(out), &o); err != nil || len(o.Keys) == 0 {
		t.Fatalf("tokens keys --json printed %q: %v", out, err)
	}
	return o.Keys
}

// signedBy reads the id of its key from a citizen token, as docs/tokens.md has it.
func signedBy(t testing.TB, token string) int {
	t.Helper()
	whole, err := base64.RawURLEncoding.DecodeString(strings.TrimPrefix(token, "ocpm_citizen_"))
	if err != nil || len(whole) != 51 {
		t.Fatalf("the token is of %d bytes: %v", len(whole), err)
	}
	return int(whole[1])
}

// TestKeysOfCitizenTokens is the operator's way to another key beside running servers, of which there are two where there
// can be.
func TestKeysOfCitizenTokens(t *testing.T) {
	harness.OnEachStore(t, func(t *testing.T, s *harness.Store) {
		if s.Dir != "" {
			if _, errs, err := s.Try("tokens", "keys"); err == nil || !strings.Contains(errs, "no data") {
				t.Errorf("without data: %v, %s", err, errs)
			}
		}
		w := start(t, s, northwind)
		servers := []*harness.Server{w.server}
		if s.Dir == "" {
			servers = append(servers, s.Serve(t))
		}
		id := w.record(t, "CUST-1", change("newsletter-email", "consent", "GRANTED")).text(t, "citizenId")
		var minted []string
		mint := func() string {
			t.Helper()
			token := w.mint(t, object{"citizenId": id, "expiryDate": ahead(time.Hour)}).text(t, "token")
			minted = append(minted, token)
			return token
		}
		answered := func(token string, want int) {
			t.Helper()
			for i, server := range servers {
				if a := anonymous(t, server).with("Authorization", "Bearer "+token).do(t, "GET", historyOf(id), nil); a.status != want {
					t.Errorf("by the key %d, on server %d: %d %s", signedBy(t, token), i, a.status, a.raw)
				}
			}
		}
		link := w.api.do(t, "POST", "/v1/access-tokens/unsubscribe", object{"applicationId": w.id, "citizenId": id, "optionId": "newsletter-email"}).want(t, 200).text(t, "token")
		minted = append(minted, link)
		first := mint()
		answered(first, 200)
		if diff := cmp.Diff([]tokenKey{{ID: 1, Role: "signs"}}, tokenKeys(t, s)); diff != "" || signedBy(t, first) != 1 || signedBy(t, link) != 1 {
			t.Fatalf("at first: %s", diff)
		}
		for key, why := range map[string]string{"1": "The key 1 signs", "2": "no key 2", "256": "8 bit", "old": "8 bit"} {
			if _, errs, err := s.Try("tokens", "retire-key", key); err == nil || !strings.Contains(errs, why) {
				t.Errorf("retiring %s: %v, %s", key, err, errs)
			}
		}

		if out := s.Do(t, "tokens", "rotate-key"); !strings.Contains(out, "Made the key 2.") {
			t.Errorf("the rotation said %s", out)
		}
		var second string
		eventually(t, harness.Patience, "the new key signs", func() bool { second = mint(); return signedBy(t, second) == 2 })
		answered(second, 200) // at once, on whichever server
		answered(first, 200)
		keys := tokenKeys(t, s)
		if len(keys) != 2 || keys[0].Role != "signs" || keys[1].Role != "verifies" || keys[1].SpentAt == nil || keys[1].SpentAt.Before(time.Now().AddDate(0, 2, 25)) {
			t.Errorf("after the rotation: %+v", keys)
		}

		stranger := anonymous(t, w.server).with("Authorization", "Bearer wrong").do(t, "GET", historyOf(id), nil).want(t, 401).body.(object)
		for range 2 {
			if out := s.Do(t, "tokens", "retire-key", "1"); !strings.Contains(out, "The key 1 is retired") {
				t.Errorf("the command said %s", out)
			}
			answered(first, 401)
			answered(second, 200)
		}
		refused := anonymous(t, w.server).with("Authorization", "Bearer "+first).do(t, "GET", historyOf(id), nil).want(t, 401).body.(object)
		delete(stranger, "instance")
		delete(refused, "instance")
		if diff := cmp.Diff(stranger, refused); diff != "" {
			t.Errorf("refused in other words than a stranger: %s", diff)
		}
		for _, server := range servers {
			status, _, text := oneClick(t, server.URL+"/u/"+link, "application/x-www-form-urlencoded", "List-Unsubscribe=One-Click")
			if status != 200 {
				t.Errorf("leaving under a retired key: %d %s", status, text)
			}
		}
		if got := w.states(t, "CUST-1"); got["newsletter-email"] != "consent DENIED" {
			t.Errorf("who left is %v", got)
		}
		if out := s.Do(t, "tokens", "keys"); !strings.Contains(out, "It signs.") || !strings.Contains(out, "by operator: it verifies links to unsubscribe and nothing else.") {
			t.Errorf("the keys: %s", out)
		}

		for _, server := range servers {
			server.Stop(t)
		}
		w.server = s.Serve(t)
		servers = []*harness.Server{w.server}
		w.api = connect(t, w.server, w.clientID, w.clientSecret)
		answered(first, 401)
		answered(second, 200)
		if third := mint(); signedBy(t, third) != 2 {
			t.Errorf("after a restart the key %d signs", signedBy(t, third))
		}
		absent(t, "what was printed", s.Emitted.String(), minted...)
	})
}
