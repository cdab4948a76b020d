package api_test

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencpm/opencpm/internal/api"
	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/internal/core"
	"github.com/opencpm/opencpm/internal/store"
	"github.com/opencpm/opencpm/internal/token"
)

// wrongToken is one way in which a token can be wrong, by what is sent.
type wrongToken struct{ name, text string }

// alike is how far apart the median times of two kinds of wrong token may lie, as a ratio.
const alike = 1.5

// Whatever is wrong with a token, the time tells no more than the words. Each kind is sent
// in a random order many times over, so that whatever else the machine does hits all of
// them alike; only a difference that is found three times is one.
func TestEveryWrongTokenIsRefusedInTheSameTime(t *testing.T) {
	w := newWorld(t, api.Options{})
	atAPI, atLink, id := w.wrongTokens()
	for name, of := range map[string]struct {
		wrong []wrongToken
		send  func(text string) *http.Request
		told  int
	}{
		"at the API": {atAPI, func(text string) *http.Request {
			r := httptest.NewRequest(http.MethodGet, baseURL+"/v1/citizens/"+id+"/history", http.NoBody)
			r.Header.Set("Authorization", "Bearer "+text)
			return r
		}, http.StatusUnauthorized},
		"at the link": {atLink, func(text string) *http.Request {
			r := httptest.NewRequest(http.MethodPost, baseURL+"/u/"+text, strings.NewReader("List-Unsubscribe=One-Click"))
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			return r
		}, http.StatusOK},
	} {
		t.Run(name, func(t *testing.T) {
			rounds := 3000
			if testing.Short() {
				rounds = 1000
			}
			for attempt := 1; ; attempt++ {
				medians := w.in(t).timesOf(of.wrong, rounds, of.told, of.send)
				for _, m := range medians {
					t.Logf("%6.1f µs %s", float64(m.took)/1e3, m.name)
				}
				first, last := medians[0], medians[len(medians)-1]
				if float64(last.took) <= alike*float64(first.took) {
					return
				}
				if attempt == 3 {
					t.Fatalf("%s takes %v, %s takes %v", first.name, first.took, last.name, last.took)
				}
			}
		})
	}
}

type medianTime struct {
	name string
	took time.Duration
}

// timesOf gives the median time of each kind, the shortest first.
func (w *world) timesOf(wrong []wrongToken, rounds, told int, send func(text string) *http.Request) []medianTime {
	w.tb.Helper()
	took := make([][]time.Duration, len(wrong))
	order := rand.Perm(len(wrong))
	var words string
	for round := range rounds {
		rand.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
		for _, i := range order {
			r, recorder := send(wrong[i].text), httptest.NewRecorder()
			r.RemoteAddr = fmt.Sprintf("10.%d.%d.%d:1", i, round>>8, round&255) // for each its own limit
			began := time.Now()
			w.handler.ServeHTTP(recorder, r)
			took[i] = append(took[i], time.Since(began))
			text, err := io.ReadAll(recorder.Body)
			if words = cmp.Or(words, string(text)); err != nil || recorder.Code != told || len(text) != len(words) {
				w.tb.Fatalf("%s is answered %d %s, not %s, %v", wrong[i].name, recorder.Code, text, words, err)
			}
		}
		w.log.Reset()
	}
	medians := make([]medianTime, len(wrong))
	for i, v := range wrong {
		slices.Sort(took[i])
		medians[i] = medianTime{v.name, took[i][rounds/2]}
	}
	slices.SortFunc(medians, func(a, b medianTime) int { return cmp.Compare(a.took, b.took) })
	return medians
}

// wrongTokens makes tokens that are wrong in each way, at the API of a citizen and at a link
// to unsubscribe.
func (w *world) wrongTokens() (atAPI, atLink []wrongToken, id string) {
	w.tb.Helper()
	ctx := context.Background()
	actor := core.Actor{ID: "test", Scopes: consent.Scopes}
	names := []string{"northwind", "globex"}
	for _, name := range names {
		number, err := w.core.Number(ctx, name)
		w.must(err)
		actor.Applications = append(actor.Applications, number)
	}
	later := consent.At(time.Now().Add(time.Hour))
	citizen := func(application int, ref string) consent.CitizenKey {
		w.tb.Helper()
		c, err := w.store.CreateCitizen(ctx, actor.Applications[application], ref, consent.Details{}, "test", store.Once{})
		w.must(err)
		return consent.CitizenKey{ID: c.ID}
	}
	manage := func(application int, key consent.CitizenKey) core.MintedToken {
		w.tb.Helper()
		m, err := w.core.MintToken(ctx, actor, core.Request{}, core.TokenRequest{ApplicationID: names[application], Citizen: key, Expires: later})
		w.must(err)
		return m
	}
	leave := func(application int, key consent.CitizenKey) string {
		w.tb.Helper()
		link, err := w.core.MintUnsubscribe(ctx, actor, core.Request{}, core.UnsubscribeRequest{ApplicationID: names[application], Citizen: key, Leaves: consent.Key{ID: "newsletter-email"}})
		w.must(err)
		return link.Token
	}
	// A thousand others, so that nobody is found because there is hardly anybody.
	var others []store.NewCitizen
	for i := range 1000 {
		others = append(others, store.NewCitizen{ExternalRef: fmt.Sprint("CUST-", i)})
	}
	_, _, err := w.store.CreateCitizens(ctx, actor.Applications[0], others, "test", store.Once{})
	w.must(err)

	ada, bob, dora, theirs := citizen(0, "ada"), citizen(0, "bob"), citizen(0, "dora"), citizen(1, "ada")
	retired, retiredVisit := manage(0, ada).Token, ""
	retiredVisit, err = w.core.BeginVisit(ctx, "northwind", retired)
	w.must(err)
	_, err = w.store.CreateTokenKey(ctx, "test")
	w.must(err)
	_, err = w.core.ByCitizenToken(ctx, retired) // by which the key is learnt
	w.must(err)
	good, single, revoked, other, erased := manage(0, ada).Token, manage(0, ada), manage(0, bob).Token, manage(1, theirs).Token, manage(0, dora).Token
	visit, err := w.core.BeginVisit(ctx, "northwind", good)
	w.must(err)
	link, linkOther := leave(0, ada), leave(1, theirs)
	w.must(w.store.RetireTokenKey(ctx, 1, "test"))
	w.must(w.core.RevokeTokens(ctx, actor, bob.ID))
	w.must(w.core.RevokeTokenIssue(ctx, actor, single.Issue))
	w.must(w.store.EraseCitizen(ctx, actor.Applications[0], dora, "test"))

	stored, err := w.store.TokenKeys(ctx)
	w.must(err)
	keys := token.NewKeys(stored.Secrets())
	claims := func(text string) token.Claims {
		w.tb.Helper()
		c, ok := keys.Verify(text, consent.At(time.Now()))
		if !ok {
			w.tb.Fatalf("%q is not good", text)
		}
		return c
	}
	with := func(text string, edit func(*token.Claims)) string {
		w.tb.Helper()
		c := claims(text)
		edit(&c)
		return keys.Mint(c)
	}
	stranger, unknown := token.NewKeys(map[byte][]byte{2: make([]byte, 32)}), token.NewKeys(map[byte][]byte{9: make([]byte, 32)})
	ofEach := func(text, foreign string) []wrongToken {
		return []wrongToken{
			{"forged", text[:70] + "AAAAAAAAAAA"},
			{"forged key", stranger.Mint(claims(text))},
			{"unknown key", unknown.Mint(claims(text))},
			{"truncated", text[:len(text)-1]},
			{"truncated to its kind", string(token.Citizen)},
			{"swapped", text[:59] + foreign[59:]},
			{"another version", string(token.Citizen) + "Ag" + text[len(token.Citizen)+2:]},
			{"wrong application", with(text, func(c *token.Claims) { c.Application = claims(foreign).Application })},
			{"another's citizen", with(text, func(c *token.Claims) { c.Citizen = claims(foreign).Citizen })},
			{"nobody", with(text, func(c *token.Claims) { c.Citizen = 1 << 40 })},
			{"another's issue", with(text, func(c *token.Claims) { c.Issue = claims(foreign).Issue })},
			{"no scope", with(text, func(c *token.Claims) { c.Scope = 9; c.Expires = later })},
			{"expired", with(good, func(c *token.Claims) { c.Expires = consent.At(time.Now()) })},
			{"retired key", retired},
		}
	}
	atAPI = append(
		ofEach(good, other),
		wrongToken{"truncated in front", good[1:]}, wrongToken{"revoked with the citizen's", revoked}, wrongToken{"revoked with its issue", single.Token},
		wrongToken{"erased citizen", erased}, wrongToken{"wrong scope, to unsubscribe", link}, wrongToken{"wrong scope, a visit", visit},
		wrongToken{"good, of another citizen", manage(0, citizen(0, "carol")).Token}, wrongToken{"good, of another application", other},
	)
	atLink = append(
		ofEach(link, linkOther),
		wrongToken{"truncated in front", link[1:]}, wrongToken{"no token", "wrong"}, wrongToken{"revoked", revoked}, wrongToken{"erased citizen", erased},
		wrongToken{"wrong scope, to manage", good}, wrongToken{"wrong scope, a visit", retiredVisit},
	)
	return atAPI, atLink, ada.ID.String()
}

func (w *world) must(err error) {
	w.tb.Helper()
	if err != nil {
		w.tb.Fatal(err)
	}
}
