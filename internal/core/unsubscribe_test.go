package core_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/internal/core"
	"github.com/opencpm/opencpm/internal/store"
	"github.com/opencpm/opencpm/internal/store/storetest"
	"github.com/opencpm/opencpm/internal/token"
)

// Each way in which a token can be wrong, at the API and at the link to unsubscribe: each
// is refused in the same words after the same look at the store.
func TestEveryWrongTokenIsRefusedAlike(t *testing.T) {
	storetest.Both(t, func(t *testing.T, st *store.Store) {
		ctx := t.Context()
		s := core.New(st, core.Options{BaseURL: "https://consent.example"})
		actor := core.Actor{ID: "mailer", Scopes: consent.Scopes}
		for _, id := range []string{"northwind", "globex"} {
			actor.Applications = append(actor.Applications, storetest.Application(t, st, id).Application)
		}
		later := consent.At(time.Now().Add(time.Hour))
		citizen := func(application int, ref string) consent.CitizenKey {
			t.Helper()
			c, err := st.CreateCitizen(ctx, actor.Applications[application], ref, consent.Details{}, "test", store.Once{})
			if err != nil {
				t.Fatal(err)
			}
			return consent.CitizenKey{ID: c.ID}
		}
		names := []string{"northwind", "globex"}
		manage := func(application int, key consent.CitizenKey) core.MintedToken {
			t.Helper()
			m, err := s.MintToken(ctx, actor, core.Request{}, core.TokenRequest{ApplicationID: names[application], Citizen: key, Expires: later})
			if err != nil {
				t.Fatal(err)
			}
			return m
		}
		leave := func(application int, key consent.CitizenKey) string {
			t.Helper()
			link, err := s.MintUnsubscribe(ctx, actor, core.Request{}, core.UnsubscribeRequest{
				ApplicationID: names[application], Citizen: key, Leaves: consent.Key{ID: "newsletter-email"},
			})
			if err != nil || link.URL != "https://consent.example/u/"+link.Token {
				t.Fatal(link, err)
			}
			return link.Token
		}
		ada, bob, theirs := citizen(0, "ada"), citizen(0, "bob"), citizen(1, "ada")
		good, single, revoked, other := manage(0, ada), manage(0, ada), manage(0, bob), manage(1, theirs)
		leaves, leavesOther := leave(0, ada), leave(1, theirs)
		keys := token.NewKeys(st.OpenedTokenKeys().Secrets())
		remint := func(text string, edit func(*token.Claims)) string {
			c, ok := keys.Verify(text, consent.At(time.Now()))
			if !ok {
				t.Fatalf("%q is not good", text)
			}
			edit(&c)
			return keys.Mint(c)
		}
		claims := func(text string) token.Claims { c, _ := keys.Verify(text, consent.At(time.Now())); return c }
		stranger := token.NewKeys(map[byte][]byte{1: make([]byte, 32)})
		wrong := map[string]string{
			"empty": "", "no token": "wrong", "truncated": good.Token[:80], "a link truncated": leaves[:80],
			"forged": good.Token[:70] + "AAAAAAAAAAA", "a link forged": leaves[:70] + "AAAAAAAAAAA",
			"swapped":               good.Token[:59] + other.Token[59:],
			"expired":               remint(good.Token, func(c *token.Claims) { c.Expires = consent.At(time.Now()) }),
			"of another key":        stranger.Mint(claims(good.Token)),
			"a link of another key": stranger.Mint(claims(leaves)),
			"of another version":    string(token.Citizen) + "Ag" + good.Token[len(token.Citizen)+2:],
			"of another application": remint(good.Token, func(c *token.Claims) {
				c.Application = claims(other.Token).Application
			}),
			"a link of another application": remint(leaves, func(c *token.Claims) { c.Application = claims(leavesOther).Application }),
			"for another's citizen":         remint(leaves, func(c *token.Claims) { c.Citizen = claims(leavesOther).Citizen }),
			"leaving what is another's":     remint(leaves, func(c *token.Claims) { c.Issue = claims(leavesOther).Issue }),
			"leaving nothing":               remint(leaves, func(c *token.Claims) { c.Issue = 1 << 40 }),
			"of no scope":                   remint(good.Token, func(c *token.Claims) { c.Scope = 3 }),
		}
		atAPI, atLink := map[string]string{"to unsubscribe": leaves, "revoked": revoked.Token, "revoked alone": single.Token}, map[string]string{"to manage": good.Token}
		for name, text := range wrong {
			atAPI[name], atLink[name] = text, text
		}
		if err := s.RevokeTokens(ctx, actor, bob.ID); err != nil {
			t.Fatal(err)
		}
		if err := s.RevokeTokenIssue(ctx, actor, single.Issue); err != nil {
			t.Fatal(err)
		}
		gone, cancel := context.WithCancel(ctx)
		cancel() // what asks the store fails
		for name, text := range atAPI {
			if a, err := s.ByCitizenToken(ctx, text); !errors.Is(err, core.ErrUnauthenticated) || !a.Citizen.IsZero() {
				t.Errorf("one %s at the API: %+v, %v", name, a, err)
			}
			if _, err := s.ByCitizenToken(gone, text); err == nil || errors.Is(err, core.ErrUnauthenticated) {
				t.Errorf("one %s is refused without a look at the store: %v", name, err)
			}
		}
		for name, text := range atLink {
			for what, ask := range map[string]func(context.Context) (core.Leaving, error){
				"looked at":  func(ctx context.Context) (core.Leaving, error) { return s.Leaving(ctx, text) },
				"left by":    func(ctx context.Context) (core.Leaving, error) { return s.Leave(ctx, text, core.Visitor{}, false) },
				"clicked on": func(ctx context.Context) (core.Leaving, error) { return s.Leave(ctx, text, core.Visitor{}, true) },
			} {
				if got, err := ask(ctx); err != nil || got != (core.Leaving{}) {
					t.Errorf("one %s, %s: %+v, %v", name, what, got, err)
				}
				if _, err := ask(gone); err == nil {
					t.Errorf("one %s is %s without a look at the store", name, what)
				}
			}
		}
		if _, err := s.ByCitizenToken(ctx, good.Token); err != nil {
			t.Errorf("the good one: %v", err)
		}
		if got, err := s.Leaving(ctx, leaves); err != nil || !got.Known || got.Left {
			t.Errorf("the good link: %+v, %v", got, err)
		}
	})
}

func TestLeavingByALink(t *testing.T) {
	storetest.Both(t, func(t *testing.T, st *store.Store) {
		ctx := t.Context()
		var told []core.Recorded
		s := core.New(st, core.Options{Recorded: func(r core.Recorded) { told = append(told, r) }})
		snap := storetest.Application(t, st, "northwind")
		actor := core.Actor{ID: "mailer", Applications: []int64{snap.Application}, Scopes: consent.Scopes}
		key := consent.CitizenKey{ExternalRef: "ada"}
		granted, err := s.Record(ctx, actor, core.Request{}, core.Transaction{ApplicationID: "northwind", Citizen: key, Changes: []consent.Change{
			{OptionID: "newsletter-email", Justification: consent.Consent, State: consent.Granted},
		}})
		if err != nil {
			t.Fatal(err)
		}
		key.ID = granted.CitizenID
		link := func(k consent.Key) string {
			t.Helper()
			v, err := s.MintUnsubscribe(ctx, actor, core.Request{}, core.UnsubscribeRequest{ApplicationID: "northwind", Citizen: key, Leaves: k})
			if err != nil {
				t.Fatal(err)
			}
			return v.Token
		}
		letter, all := link(consent.Key{Type: consent.OptionSingle, ID: "newsletter-email"}), link(consent.Key{Type: consent.OptionGroup, ID: "all-email"})
		type leaving struct {
			Application, Purpose, Channel string
			Known, Left                   bool
			Leaves                        consent.Key
			TransactionID                 consent.ID
		}
		as := func(l core.Leaving, err error) (leaving, error) {
			purpose, channel := l.Named("en")
			return leaving{l.ApplicationID, purpose, channel, l.Known, l.Left, l.Leaves, l.TransactionID}, err
		}
		want := leaving{Application: "northwind", Known: true, Leaves: consent.Key{Type: consent.OptionSingle, ID: "newsletter-email"}, Purpose: "Newsletter", Channel: "E-mail"}
		if got, err := as(s.Leaving(ctx, letter)); err != nil || got != want {
			t.Fatalf("before: %s, %v", cmp.Diff(want, got), err)
		}

		// The option is archived; a mail about it still lets its reader leave.
		list, err := st.Applications(ctx)
		if err != nil {
			t.Fatal(err)
		}
		items, err := st.CatalogueItems(ctx, snap.Application, consent.KindOption)
		if err != nil {
			t.Fatal(err)
		}
		for _, it := range items {
			if it.Key == "newsletter-email" {
				it.Archived = true
				if _, err := st.ChangeCatalogue(ctx, list[0], []consent.Revision{it}, "test", store.Once{}); err != nil {
					t.Fatal(err)
				}
			}
		}
		if got, err := as(core.New(st, core.Options{}).Leaving(ctx, letter)); err != nil || got != want {
			t.Fatalf("archived: %s, %v", cmp.Diff(want, got), err)
		}

		told = nil
		got, err := as(s.Leave(ctx, letter, core.Visitor{Address: "192.0.2.1", Agent: "Browser"}, false))
		want.Left, want.TransactionID = true, got.TransactionID
		if err != nil || got != want || got.TransactionID.IsZero() || len(told) != 1 {
			t.Fatalf("left: %s, %v; told %d", cmp.Diff(want, got), err, len(told))
		}
		record := told[0].Transaction
		if record.ID != got.TransactionID || record.Channel != "unsubscribe-link" || !record.ByCitizen || record.Attribution.VisitorAddress != "192.0.2.1" || record.Attribution.VisitorAgent != "Browser" || record.Attribution.Source != "page" {
			t.Errorf("recorded %+v", record)
		}
		// A mail program that leaves as well is in the ledger once: the page of the first can take back its own refusal, and not this one.
		again, err := as(s.Leave(ctx, letter, core.Visitor{}, true))
		if want.TransactionID = again.TransactionID; err != nil || again != want || again.TransactionID.IsZero() || len(told) != 2 {
			t.Errorf("left again: %s, %v; told %d", cmp.Diff(want, again), err, len(told))
		}
		want.TransactionID = consent.ID{}
		for range 2 {
			if got, err := as(s.Leave(ctx, letter, core.Visitor{}, true)); err != nil || got != want || len(told) != 2 {
				t.Errorf("left a third time: %s, %v; told %d", cmp.Diff(want, got), err, len(told))
			}
		}
		if _, err := s.UndoLeaving(ctx, letter, got.TransactionID, core.Visitor{}); err != nil {
			t.Error(err)
		}
		told = told[:1]
		if got, err := as(s.Leaving(ctx, letter)); err != nil || got != want || len(told) != 1 {
			t.Errorf("after: %s, %v; told %d", cmp.Diff(want, got), err, len(told))
		}

		if got, err := as(s.Leave(ctx, all, core.Visitor{}, true)); err != nil || got.Purpose != "Everything by e-mail" || got.Channel != "" || len(told) != 2 || told[1].Transaction.Attribution.Source != "one-click" {
			t.Errorf("the group: %+v, %v; told %d", got, err, len(told))
		}
		if _, err := s.UndoLeaving(ctx, letter, consent.ID{1}, core.Visitor{}); !errors.Is(err, store.ErrNoTransaction) {
			t.Errorf("what there is not is undone: %v", err)
		}
		if _, err := s.UndoLeaving(ctx, letter, granted.Transaction.ID, core.Visitor{}); !errors.Is(err, store.ErrNoTransaction) {
			t.Errorf("what was done otherwise is undone: %v", err)
		}
		if err := st.EraseCitizen(ctx, snap.Application, key, "test"); err != nil {
			t.Fatal(err)
		}
		if _, err := s.UndoLeaving(ctx, letter, record.ID, core.Visitor{}); !errors.Is(err, store.ErrNoTransaction) {
			t.Errorf("what somebody did who is erased is undone: %v", err)
		}
		for what, ask := range map[string]func() (leaving, error){
			"a look":  func() (leaving, error) { return as(s.Leaving(ctx, letter)) },
			"a leave": func() (leaving, error) { return as(s.Leave(ctx, letter, core.Visitor{}, true)) },
		} {
			if got, err := ask(); err != nil || got != want || len(told) != 2 {
				t.Errorf("%s once erased: %s, %v; told %d", what, cmp.Diff(want, got), err, len(told))
			}
		}
	})
}
