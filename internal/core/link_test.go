package core_test

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/internal/core"
	"github.com/opencpm/opencpm/internal/seal"
	"github.com/opencpm/opencpm/internal/store"
)

// warnings counts what is logged, by the request that it is about.
type warnings struct {
	slog.Handler
	mu sync.Mutex
	of map[string]int
}

func (w *warnings) Enabled(context.Context, slog.Level) bool { return true }

func (w *warnings) Handle(_ context.Context, r slog.Record) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	r.Attrs(func(a slog.Attr) bool {
		if a.Key == "request" {
			w.of[a.Value.String()]++
		}
		return true
	})
	return nil
}

// Requests that cannot be opened or answered, more of them than are read at once, hold up
// no other. They are tried again, but not without a pause.
func TestALinkRequestThatCannotBeAnswered(t *testing.T) {
	dir, kept, lost := t.TempDir(), seal.NewKeyFile("kept"), seal.NewKeyFile("lost")
	const damaged = 60
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var v *signUps
		ask := func(address string) {
			t.Helper()
			if err := v.st.KeepLinkRequest(ctx, store.LinkRequest{Address: consent.Email(address), Application: v.app}); err != nil {
				t.Fatal(err)
			}
		}
		create := func(name string) {
			t.Helper()
			if _, err := v.svc.CreateCitizen(ctx, v.actor, core.Request{}, "northwind", name, consent.Details{Email: name + "@example.com"}); err != nil {
				t.Fatal(err)
			}
		}
		said := &warnings{of: map[string]int{}}
		with := func(keys string, do func()) {
			t.Helper()
			ring, err := seal.ParseKeyring(keys)
			if err != nil {
				t.Fatal(err)
			}
			st, err := store.Open(ctx, store.Options{Dir: dir, Keys: ring})
			if err != nil {
				t.Fatal(err)
			}
			defer st.Close()
			if v == nil {
				v = newSignUps(t, st)
			}
			v.st, v.svc = st, core.New(st, core.Options{BaseURL: "https://consent.example", MailServer: true, Log: slog.New(said)})
			do()
		}
		with(kept, func() { create("ada") })
		with(lost+kept, func() {
			create("keyless")
			for i := range damaged {
				ask(fmt.Sprintf("eve%d@example.com", i))
			}
		})
		with(kept, func() {
			ask("keyless@example.com")
			ask("ada@example.com")
			done := make(chan struct{})
			go func() { v.svc.RunLinks(ctx); close(done) }()
			defer func() { cancel(); <-done }()
			time.Sleep(2 * time.Second)
			if m := v.mail(); m.Recipient.Address != "ada@example.com" {
				t.Errorf("a mail to %s", m.Recipient.Address)
			}
			time.Sleep(5 * time.Minute)
			if list, err := v.st.NextLinkRequests(ctx, 0, 100); err != nil || len(list) != damaged+1 {
				t.Errorf("%d requests wait, %v", len(list), err)
			}
			said.mu.Lock()
			defer said.mu.Unlock()
			for id, n := range said.of {
				if n < 5 || n > 7 {
					t.Errorf("request %s was tried %d times in five minutes", id, n)
				}
			}
			if len(said.of) != damaged+1 {
				t.Errorf("%d requests are warned of", len(said.of))
			}
		})
	})
}
