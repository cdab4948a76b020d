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

// twoNodes are two processes on one database, neither of which listens for news of the
// other: what they know of keys they ask for.
type twoNodes struct {
	st       *store.Store // of the first
	one, two *core.Service
	actor    core.Actor
	ada      consent.CitizenKey
}

func onTwoNodes(t *testing.T, test func(t *testing.T, v twoNodes)) {
	for name, options := range map[string]func(t *testing.T) store.Options{
		"SQLite":     func(t *testing.T) store.Options { return store.Options{Dir: t.TempDir()} },
		"PostgreSQL": func(t *testing.T) store.Options { return store.Options{DatabaseURL: storetest.Postgres(t)} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := options(t)
			o.Keys = storetest.Keys(t)
			v := twoNodes{st: storetest.Open(t, o)}
			v.one, v.two = core.New(v.st, core.Options{}), core.New(storetest.Open(t, o), core.Options{})
			snap := storetest.Application(t, v.st, "northwind")
			v.actor = core.Actor{ID: "mailer", Applications: []int64{snap.Application}, Scopes: consent.Scopes}
			c, err := v.st.CreateCitizen(t.Context(), snap.Application, "ada", consent.Details{}, "test", store.Once{})
			if err != nil {
				t.Fatal(err)
			}
			v.ada.ID = c.ID
			test(t, v)
		})
	}
}

// signedBy is one of everything that a node signs.
type signedBy struct{ manage, visit, link, mark string }

func (v twoNodes) sign(t *testing.T, s *core.Service) signedBy {
	t.Helper()
	ctx := t.Context()
	m, err := s.MintToken(ctx, v.actor, core.Request{}, core.TokenRequest{ApplicationID: "northwind", Citizen: v.ada, Expires: consent.At(time.Now().Add(time.Hour))})
	if err != nil {
		t.Fatal(err)
	}
	u, err := s.MintUnsubscribe(ctx, v.actor, core.Request{}, core.UnsubscribeRequest{ApplicationID: "northwind", Citizen: v.ada, Leaves: consent.Key{ID: "newsletter-email"}})
	if err != nil {
		t.Fatal(err)
	}
	visit, err := s.BeginVisit(ctx, "northwind", m.Token)
	if err != nil {
		t.Fatal(err)
	}
	return signedBy{m.Token, visit, u.Token, s.MarkPage("test")}
}

// accepted says what of it a node takes, whoever signed it.
func (v twoNodes) accepted(t *testing.T, s *core.Service, of signedBy) (taken []string) {
	t.Helper()
	ctx := t.Context()
	note := func(what string, a core.Actor, err error) {
		t.Helper()
		switch {
		case err == nil && a.Citizen == v.ada.ID:
			taken = append(taken, what)
		case !errors.Is(err, core.ErrUnauthenticated) || !a.Citizen.IsZero():
			t.Errorf("%s: %+v, %v", what, a, err)
		}
	}
	a, err := s.ByCitizenToken(ctx, of.manage)
	note("manage", a, err)
	a, err = s.ByVisit(ctx, "northwind", of.visit)
	note("visit", a, err)
	l, err := s.Leaving(ctx, of.link)
	if err != nil {
		t.Fatal(err)
	}
	if l.Known {
		taken = append(taken, "link")
	}
	if s.WasShown(ctx, of.mark, "test") {
		taken = append(taken, "mark")
	}
	return taken
}

// Each scope under each state of the key that signed, on the node where the state was
// changed and on one that was told nothing.
func TestScopesAndStatesOfTheirKey(t *testing.T) {
	onTwoNodes(t, func(t *testing.T, v twoNodes) {
		ctx := t.Context()
		all, link := []string{"manage", "visit", "link", "mark"}, []string{"link"}
		var of [4]signedBy // by the key that signed
		want := func(key int, takes []string) {
			t.Helper()
			for name, s := range map[string]*core.Service{"this node": v.one, "the other node": v.two} {
				if diff := cmp.Diff(takes, v.accepted(t, s, of[key])); diff != "" {
					t.Errorf("signed by the key %d, on %s: %s", key, name, diff)
				}
			}
		}
		stranger := token.NewKeys(map[byte][]byte{3: make([]byte, 32)})
		of[0] = signedBy{"", "", "", stranger.Sign("page shown: test", make([]byte, 8))}
		keys := token.NewKeys(v.st.OpenedTokenKeys().Secrets())
		good := v.sign(t, v.one)
		for _, p := range []struct{ from, to *string }{{&good.manage, &of[0].manage}, {&good.visit, &of[0].visit}, {&good.link, &of[0].link}} {
			c, ok := keys.Verify(*p.from, consent.At(time.Now()))
			if !ok {
				t.Fatal("a key does not verify what it signed")
			}
			*p.to = stranger.Mint(c)
		}
		of[1] = good
		want(1, all)
		want(0, nil)

		for key := 2; key <= 3; key++ {
			if id, err := v.one.RotateTokenKey(ctx); err != nil || int(id) != key {
				t.Fatal(id, err)
			}
			// The node verifies one, and by that learns that there is another key.
			if _, err := v.one.ByCitizenToken(ctx, of[key-1].manage); err != nil {
				t.Fatal(err)
			}
			of[key] = v.sign(t, v.one)
			if of[key].link == of[key-1].link {
				t.Fatalf("the key %d does not sign", key)
			}
			want(key, all)
			want(key-1, all)
			want(0, nil)
		}
		for _, key := range []int{2, 1} {
			if err := v.st.RetireTokenKey(ctx, byte(key), "test"); err != nil {
				t.Fatal(err)
			}
			want(key, link)
			want(3, all)
		}
		want(2, link)
		want(0, nil)

		// The link goes on doing what it says.
		if l, err := v.two.Leave(ctx, of[1].link, core.Visitor{}, true); err != nil || !l.Known || !l.Left || l.TransactionID.IsZero() {
			t.Errorf("leaving under a retired key: %+v, %v", l, err)
		}
	})
}

// A token that one node mints by a new key is taken by another one at once, whatever that
// is asked first.
func TestNewKeyIsTakenAtOnce(t *testing.T) {
	for name, ask := range map[string]func(t *testing.T, v twoNodes, of signedBy) bool{
		"manage": func(t *testing.T, v twoNodes, of signedBy) bool {
			a, err := v.two.ByCitizenToken(t.Context(), of.manage)
			return err == nil && a.Citizen == v.ada.ID
		},
		"visit": func(t *testing.T, v twoNodes, of signedBy) bool {
			a, err := v.two.ByVisit(t.Context(), "northwind", of.visit)
			return err == nil && a.Citizen == v.ada.ID
		},
		"link": func(t *testing.T, v twoNodes, of signedBy) bool {
			l, err := v.two.Leaving(t.Context(), of.link)
			return err == nil && l.Known
		},
		"mark": func(t *testing.T, v twoNodes, of signedBy) bool { return v.two.WasShown(t.Context(), of.mark, "test") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			onTwoNodes(t, func(t *testing.T, v twoNodes) {
				before := v.sign(t, v.one)
				if _, err := v.one.RotateTokenKey(t.Context()); err != nil {
					t.Fatal(err)
				}
				if len(v.accepted(t, v.one, before)) != 4 {
					t.Fatal("a rotation ends what was signed before")
				}
				if of := v.sign(t, v.one); of.link == before.link || !ask(t, v, of) {
					t.Error("what the new key signs is not taken on the other node")
				}
			})
		})
	}
}

// What is signed by keys that do not exist makes a node look for them ten times a second and
// no more, and what a citizen token is signed by not even once.
func TestForgedKeysCauseNoLoad(t *testing.T) {
	inTime(t, func(t *testing.T, v *signUps) {
		ctx := t.Context()
		rotated := func() string {
			t.Helper()
			if _, err := v.st.CreateTokenKey(ctx, "test"); err != nil {
				t.Fatal(err)
			}
			keys, err := v.st.TokenKeys(ctx)
			if err != nil {
				t.Fatal(err)
			}
			now := consent.At(time.Now())
			return token.NewKeys(keys.Secrets()).Sign("page shown: test", []byte{byte(now >> 56), byte(now >> 48), byte(now >> 40), byte(now >> 32), byte(now >> 24), byte(now >> 16), byte(now >> 8), byte(now)})
		}
		forged := token.NewKeys(map[byte][]byte{200: make([]byte, 32)}).Sign("page shown: test", make([]byte, 8))
		first := rotated()
		if !v.svc.WasShown(ctx, first, "test") {
			t.Fatal("a new key is not looked for")
		}
		second := rotated()
		for range 100 {
			if v.svc.WasShown(ctx, forged, "test") || v.svc.WasShown(ctx, second, "test") {
				t.Fatal("the keys were looked for again")
			}
		}
		time.Sleep(100 * time.Millisecond)
		if v.svc.WasShown(ctx, forged, "test") || !v.svc.WasShown(ctx, second, "test") {
			t.Error("after a while the keys are not looked for again")
		}
	})
}

// A node that nobody asks anything signs by a new key within a second.
func TestNewKeySignsWithinASecond(t *testing.T) {
	inTime(t, func(t *testing.T, v *signUps) {
		run, stop := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { v.svc.Run(run); close(ended) }()
		before := v.svc.WriteUnsubscribe(store.TokenGrounds{})
		other := core.New(v.st, core.Options{})
		if _, err := other.RotateTokenKey(t.Context()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second + time.Millisecond)
		if v.svc.WriteUnsubscribe(store.TokenGrounds{}) == before {
			t.Error("the old key still signs")
		}
		if other.WriteUnsubscribe(store.TokenGrounds{}) != before {
			t.Error("a node that does not run has learnt of the key")
		}
		stop()
		<-ended
	})
}

// Retiring waits until every node signs by the newest key, and the list says when a key is
// not missed any more.
func TestTokenKeysAsTheOperatorSeesThem(t *testing.T) {
	inTime(t, func(t *testing.T, v *signUps) {
		ctx := t.Context()
		began := consent.At(time.Now())
		if err := v.svc.RetireTokenKey(ctx, 1); consent.KindOf(err) != consent.Conflict {
			t.Errorf("retiring the key that signs: %v", err)
		}
		made := consent.At(time.Now())
		if id, err := v.svc.RotateTokenKey(ctx); err != nil || id != 2 {
			t.Fatal(id, err)
		}
		if err := v.svc.RetireTokenKey(ctx, 1); err != nil {
			t.Fatal(err)
		}
		retired := consent.At(time.Now())
		if waited := retired.Time().Sub(made.Time()); waited < 2*time.Second || waited > 3*time.Second {
			t.Errorf("retired after %v", waited)
		}
		gone, cancel := context.WithCancel(ctx)
		cancel()
		if _, err := v.svc.RotateTokenKey(ctx); err != nil {
			t.Fatal(err)
		}
		if err := v.svc.RetireTokenKey(gone, 2); !errors.Is(err, context.Canceled) {
			t.Errorf("nobody waits any more: %v", err)
		}
		again := consent.At(time.Now())
		want := []core.TokenKey{
			{ID: 3, CreatedAt: again, CreatedBy: "operator", Signs: true},
			{ID: 2, CreatedAt: made, CreatedBy: "operator", SpentAt: again.Add(2*time.Second + 92*24*time.Hour)},
			{ID: 1, CreatedAt: began, CreatedBy: "opencpm", RetiredAt: retired, RetiredBy: "operator", SpentAt: made.Add(2*time.Second + 92*24*time.Hour)},
		}
		got, err := v.svc.TokenKeys(ctx)
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("%v: %s", err, diff)
		}
		if latest := consent.TokenExpiry(again+1<<50, again, &consent.Faults{}); latest > want[1].SpentAt {
			t.Errorf("a token of the key 2 expires at %s, after %s", latest, want[1].SpentAt)
		}
	})
}
