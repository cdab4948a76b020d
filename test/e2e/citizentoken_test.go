package e2e_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/opencpm/opencpm/test/harness"
)

// mint makes a citizen token, which must succeed; with holds members of the body beside the application.
func (w *world) mint(t testing.TB, with object) *answer {
	t.Helper()
	body := object{"applicationId": w.id}
	for name, v := range with {
		body[name] = v
	}
	return w.api.do(t, "POST", "/v1/access-tokens/tokens", body).want(t, 200)
}

func historyOf(id string) string { return "/v1/citizens/" + id + "/history" }

func TestCitizenTokens(t *testing.T) {
	harness.OnEachStore(t, func(t *testing.T, s *harness.Store) {
		w := start(t, s, northwind)
		id := w.record(t, "CUST-1", change("newsletter-email", "consent", "GRANTED")).text(t, "citizenId")
		other := w.citizen(t, "CUST-2")
		nobody := anonymous(t, w.server)
		by := func(token string) *client { return nobody.with("Authorization", "Bearer "+token) }

		// What a stranger is told, but for the name of the request.
		refusal := func(c *client, method, target string) object {
			t.Helper()
			o := c.do(t, method, target, nil).want(t, 401).body.(object)
			delete(o, "instance")
			return o
		}
		want := refusal(by("wrong"), "GET", historyOf(id))
		refused := func(name, token, method, target string) {
			t.Helper()
			if diff := cmp.Diff(want, refusal(by(token), method, target)); diff != "" {
				t.Errorf("%s: refused in other words than a stranger (-stranger +token):\n%s", name, diff)
			}
		}

		until := time.Now().Add(time.Hour).Truncate(time.Millisecond)
		minted := w.mint(t, object{"externalRef": "CUST-1", "citizenId": id, "expiryDate": iso(until), "batchReference": "spring"})
		token := minted.text(t, "token")
		if !instant(t, minted.at("expiryDate")).Equal(until) || len(token) >= 100 {
			t.Errorf("minted %s", minted.raw)
		}
		for _, header := range []string{"Bearer " + token, "Bearer: " + token, "bearer " + token} {
			a := nobody.with("Authorization", header).do(t, "GET", query(historyOf(id), "limit", "1"), nil).want(t, 200)
			if a.at("history.0.transaction.changes.0.state") != "GRANTED" {
				t.Errorf("the history: %s", a.raw)
			}
		}
		by(token).do(t, "GET", "//v1/citizens/"+strings.ToUpper(id)+"/history", nil).want(t, 200)
		refused("another citizen", token, "GET", historyOf(other))
		refused("another citizen, badly asked", token, "GET", query(historyOf(other), "limit", "0"))
		refused("no citizen", token, "GET", historyOf("x"))
		refused("the citizen's details", token, "GET", "/v1/citizens/"+id)
		refused("erasure", token, "DELETE", "/v1/citizens/"+id)
		refused("forged", neighbour(token), "GET", historyOf(id))
		if got := nobody.with("X-API-Key", token).do(t, "GET", historyOf(id), nil).status; got != 401 {
			t.Errorf("as an API key: %d", got)
		}

		t.Run("expiry", func(t *testing.T) {
			asked := time.Now()
			brief := w.mint(t, object{"citizenId": id, "expiryDate": nil})
			if at := instant(t, brief.at("expiryDate")); at.Before(asked.Add(10*time.Second).Truncate(time.Millisecond)) || at.After(time.Now().Add(10*time.Second)) {
				t.Errorf("without a date it expires %v from now", time.Until(at))
			}
			by(brief.text(t, "token")).do(t, "GET", historyOf(id), nil).want(t, 200)
			for name, date := range map[string]time.Time{"past": time.Now().Add(-time.Hour), "too far": time.Now().AddDate(0, 3, 1)} {
				w.api.do(t, "POST", "/v1/access-tokens/tokens", object{"applicationId": w.id, "externalRef": "CUST-1", "expiryDate": iso(date)}).refused(t, 422, "expiryDate")
				if t.Failed() {
					t.Fatal(name)
				}
			}
			w.mint(t, object{"externalRef": "CUST-1", "expiryDate": iso(time.Now().AddDate(0, 3, 0))})
			w.api.do(t, "POST", "/v1/access-tokens/tokens", object{"applicationId": w.id, "expiryDate": "soon", "batchReference": long(101)}).refused(t, 422, "expiryDate", "batchReference", "externalRef")
			w.api.do(t, "POST", "/v1/access-tokens/tokens", object{"applicationId": w.id, "externalRef": "nobody"}).want(t, 404)
			w.api.do(t, "GET", w.citizenByRef("nobody"), nil).want(t, 404)
			w.api.do(t, "POST", "/v1/access-tokens/tokens", object{"applicationId": w.id, "externalRef": "CUST-1", "citizenId": other}).refused(t, 422, "externalRef")
			eventually(t, harness.Patience+10*time.Second, "the brief token has expired", func() bool {
				return by(brief.text(t, "token")).do(t, "GET", historyOf(id), nil).status == 401
			})
			refused("expired", brief.text(t, "token"), "GET", historyOf(id))
		})

		t.Run("revocation", func(t *testing.T) {
			second := w.mint(t, object{"citizenId": id, "expiryDate": iso(until)}).text(t, "token")
			issue := func() object {
				t.Helper()
				a := w.api.do(t, "GET", query("/v1/access-tokens/issues", "applicationId", w.id, "limit", "100"), nil).want(t, 200)
				list := a.list(t, "issues")
				at := slices.IndexFunc(list, func(o object) bool { return o["issue"] == minted.at("issue") })
				if at != len(list)-1 || a.at("total") != float64(len(list)) || strings.Contains(string(a.raw), token) {
					t.Fatalf("listed: %s", a.raw)
				}
				return list[at]
			}
			if got := issue(); got["batchReference"] != "spring" || got["citizenId"] != id || got["createdBy"] != w.clientID || got["revokedAt"] != nil || got["kind"] != "single" || got["expiryDate"] != iso(until) {
				t.Errorf("listed as %v", got)
			}
			revocation := fmt.Sprintf("/v1/access-tokens/issues/%v/revocation", minted.at("issue"))
			w.api.do(t, "POST", revocation, nil).want(t, 204)
			refused("its issue revoked", token, "GET", historyOf(id))
			by(second).do(t, "GET", historyOf(id), nil).want(t, 200)
			w.api.do(t, "POST", revocation, nil).want(t, 204)
			instant(t, issue()["revokedAt"])
			w.api.do(t, "POST", "/v1/access-tokens/issues/99999999/revocation", nil).want(t, 404)
			w.api.do(t, "POST", "/v1/access-tokens/issues/x/revocation", nil).want(t, 404)

			theirs := w.mint(t, object{"citizenId": other, "expiryDate": iso(until)}).text(t, "token")
			w.api.do(t, "POST", "/v1/citizens/"+id+"/token-revocations", nil).want(t, 204)
			refused("the citizen's revoked", second, "GET", historyOf(id))
			by(theirs).do(t, "GET", historyOf(other), nil).want(t, 200)
			third := w.mint(t, object{"citizenId": id, "expiryDate": iso(until)}).text(t, "token")
			by(third).do(t, "GET", historyOf(id), nil).want(t, 200)
			w.api.do(t, "DELETE", "/v1/citizens/"+id, nil).want(t, 204)
			refused("the citizen erased", third, "GET", historyOf(id))
			w.api.do(t, "POST", "/v1/citizens/"+id+"/token-revocations", nil).want(t, 404)
		})
	})
}

func TestCitizenTokensInMessages(t *testing.T) {
	harness.OnEachStore(t, func(t *testing.T, s *harness.Store) {
		receiver := harness.NewReceiver(t)
		w := start(t, s, northwind, impatient...)
		full := w.subscribe(t, receiver.URL+"/full", object{"includeCitizenToken": true, "citizenTokenValidity": "P1M"}).text(t, "id")
		w.subscribe(t, receiver.URL+"/receipts", object{"includeCitizenToken": true, "updateType": "consent-receipts"})
		w.subscribe(t, receiver.URL+"/without")
		id := w.record(t, "CUST-1", change("newsletter-email", "consent", "GRANTED")).text(t, "citizenId")
		tokens := func(n int) map[string]string {
			t.Helper()
			all := map[string]string{}
			for _, m := range receiver.AwaitCount(t, "CUST-1", n)[n-3:] {
				body(t, m)
				var message struct {
					CitizenToken *struct{ Token, ExpiryDate string }
				}
				if err := json.Unmarshal(m.Raw, &message); err != nil {
					t.Fatal(err)
				}
				if message.CitizenToken == nil {
					all[m.Path] = ""
					continue
				}
				all[m.Path] = message.CitizenToken.Token
				if at, want := instant(t, message.CitizenToken.ExpiryDate), m.SentAt.AddDate(0, 1, 0); m.Path == "/full" && !at.Equal(want) {
					t.Errorf("expires at %v, want %v", at, want)
				}
			}
			if all["/without"] != "" || len(all) != 3 {
				t.Fatalf("the tokens %v", all)
			}
			return all
		}
		works := func(token string) bool {
			t.Helper()
			return anonymous(t, w.server).with("Authorization", "Bearer "+token).do(t, "GET", historyOf(id), nil).want(t, 200, 401).status == 200
		}
		first := tokens(3)
		if !works(first["/full"]) || !works(first["/receipts"]) {
			t.Error("the token of a message does not open the history")
		}
		issues := w.api.do(t, "GET", query("/v1/access-tokens/issues", "applicationId", w.id), nil).want(t, 200).list(t, "issues")
		at := slices.IndexFunc(issues, func(o object) bool { return o["subscriptionId"] == full && o["kind"] == "subscription" })
		if len(issues) != 2 || at < 0 {
			t.Fatalf("the issues %v", issues)
		}
		w.api.do(t, "POST", fmt.Sprintf("/v1/access-tokens/issues/%v/revocation", issues[at]["issue"]), nil).want(t, 204)
		if works(first["/full"]) || !works(first["/receipts"]) {
			t.Error("not the tokens of one subscription were revoked, and no other")
		}
		w.record(t, "CUST-1", change("newsletter-email", "consent", "DENIED"))
		second := tokens(6)
		if !works(second["/full"]) || !works(second["/receipts"]) {
			t.Error("after a revocation the messages carry no token that is good")
		}
		w.api.do(t, "POST", "/v1/citizens/"+id+"/token-revocations", nil).want(t, 204)
		for _, token := range []string{first["/receipts"], second["/full"], second["/receipts"]} {
			if works(token) {
				t.Error("a token is good once the citizen's are revoked")
			}
		}
		w.api.do(t, "DELETE", "/v1/citizens/"+id, nil).want(t, 204)
		for path, token := range tokens(9) {
			if token != "" {
				t.Errorf("the last message to %s has a token", path)
			}
		}
	})
}
