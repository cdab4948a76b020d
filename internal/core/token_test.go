package core_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/internal/core"
	"github.com/opencpm/opencpm/internal/store"
	"github.com/opencpm/opencpm/internal/store/storetest"
	"github.com/opencpm/opencpm/internal/token"
)

// Whatever is wrong with a citizen token, nobody learns what it is.
func TestCitizenTokensThatAreNotGood(t *testing.T) {
	storetest.Both(t, func(t *testing.T, st *store.Store) {
		ctx := t.Context()
		s := core.New(st, core.Options{})
		app, other := storetest.Application(t, st, "northwind"), storetest.Application(t, st, "globex")
		create := func(snap *consent.Snapshot, ref string) consent.ID {
			t.Helper()
			c, err := st.CreateCitizen(ctx, snap.Application, ref, consent.Details{}, "test", store.Once{})
			if err != nil {
				t.Fatal(err)
			}
			return c.ID
		}
		issue := func(snap *consent.Snapshot, id consent.ID) store.TokenGrounds {
			t.Helper()
			g, err := st.IssueToken(ctx, snap.Application, consent.CitizenKey{ID: id}, "", "test", consent.At(time.Now().Add(time.Hour)))
			if err != nil {
				t.Fatal(err)
			}
			return g
		}
		ada, bob, carol, dora := create(app, "ada"), create(app, "bob"), create(other, "ada"), create(app, "dora")
		good, revoked, single, theirs, erased := issue(app, ada), issue(app, bob), issue(app, ada), issue(other, carol), issue(app, dora)
		later := consent.At(time.Now().Add(time.Hour))
		keys := token.NewKeys(st.OpenedTokenKeys().Secrets())
		mint := func(g store.TokenGrounds, edit func(*token.Claims)) string {
			c := token.Claims{Scope: token.Manage, Application: g.Application, Citizen: g.Citizen, Issue: g.Issue, Generation: g.Generation, Expires: later}
			if edit != nil {
				edit(&c)
			}
			return keys.Mint(c)
		}

		refused := map[string]string{}
		for name, c := range map[string]struct {
			grounds store.TokenGrounds
			edit    func(*token.Claims)
		}{
			"revoked with the citizen's":   {revoked, nil},
			"revoked with its issue":       {single, nil},
			"of an erased citizen":         {erased, nil},
			"of a generation to come":      {good, func(c *token.Claims) { c.Generation++ }},
			"expired":                      {good, func(c *token.Claims) { c.Expires = consent.At(time.Now()) }},
			"to unsubscribe":               {good, func(c *token.Claims) { c.Scope = token.Unsubscribe }},
			"of no scope":                  {good, func(c *token.Claims) { c.Scope = 0 }},
			"of another application":       {good, func(c *token.Claims) { c.Application = theirs.Application }},
			"on another's issue":           {good, func(c *token.Claims) { c.Issue = theirs.Issue }},
			"on no issue":                  {good, func(c *token.Claims) { c.Issue = 0 }},
			"for another's citizen":        {good, func(c *token.Claims) { c.Citizen = theirs.Citizen }},
			"for nobody":                   {good, func(c *token.Claims) { c.Citizen = 1 << 40 }},
			"whose application is too big": {good, func(c *token.Claims) { c.Application += 1 << 31 }},
		} {
			refused[name] = mint(c.grounds, c.edit)
		}
		text := mint(good, nil)
		another := mint(issue(app, bob), nil)
		foreign := token.NewKeys(map[byte][]byte{1: make([]byte, 32)})
		refused["of other keys"] = foreign.Mint(token.Claims{Scope: token.Manage, Application: good.Application, Citizen: good.Citizen, Issue: good.Issue, Expires: later})
		refused["cut short"], refused["empty"], refused["another's signature"] = text[:len(text)-1], "", text[:len(text)-24]+another[len(another)-24:]
		refused["in capitals"] = strings.ToUpper(text)

		if err := st.RevokeTokens(ctx, app.Application, consent.CitizenKey{ID: bob}, "test"); err != nil {
			t.Fatal(err)
		}
		if err := st.RevokeTokenIssue(ctx, []int64{app.Application}, single.Issue, "test"); err != nil {
			t.Fatal(err)
		}
		if err := st.EraseCitizen(ctx, app.Application, consent.CitizenKey{ID: dora}, "test"); err != nil {
			t.Fatal(err)
		}
		for name, v := range refused {
			if a, err := s.ByCitizenToken(ctx, v); !errors.Is(err, core.ErrUnauthenticated) || !a.Citizen.IsZero() || a.Applications != nil {
				t.Errorf("one %s: %+v, %v", name, a, err)
			}
		}

		actor, err := s.ByCitizenToken(ctx, text)
		if err != nil || actor.Citizen != ada || actor.Scopes != nil {
			t.Fatalf("a good one: %+v, %v", actor, err)
		}
		if h, err := s.History(ctx, actor, ada, 0, 0); err != nil || h.ApplicationID != "northwind" {
			t.Errorf("the citizen's own history: %v", err)
		}
		for name, ask := range map[string]func() error{
			"another's history": func() error { _, err := s.History(ctx, actor, bob, 0, 0); return err },
			"the own details":   func() error { _, _, err := s.CitizenByID(ctx, actor, ada); return err },
			"the subscriptions": func() error { _, _, err := s.Subscriptions(ctx, actor, "", store.SubscriptionFilter{}); return err },
			"a new token": func() error {
				_, err := s.MintToken(ctx, actor, core.Request{}, core.TokenRequest{ApplicationID: "northwind", Citizen: consent.CitizenKey{ID: ada}})
				return err
			},
			"to revoke them": func() error { return s.RevokeTokens(ctx, actor, ada) },
		} {
			if err := ask(); !errors.Is(err, core.ErrUnauthenticated) {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
}
