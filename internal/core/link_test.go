package core_test

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/internal/core"
	"github.com/opencpm/opencpm/internal/store"
	"github.com/opencpm/opencpm/internal/store/storetest"
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
	dir, keys := t.TempDir(), storetest.Keys(t)
	synctest.Test(t, func(t *testing.T) {
		withStore(t, dir, keys, func(t *testing.T, v *signUps) {
			said := &warnings{of: map[string]int{}}
			v.svc = core.New(v.st, core.Options{BaseURL: "https://consent.example", MailServer: true, Log: slog.New(said)})
			ctx, cancel := context.WithCancel(t.Context())
			var keyless consent.ID
			for _, name := range []string{"keyless", "ada"} {
				c, err := v.svc.CreateCitizen(ctx, v.actor, core.Request{}, "northwind", name, consent.Details{Email: name + "@example.com"})
				if err != nil {
					t.Fatal(err)
				}
				if name == "keyless" {
					keyless = c.ID
				}
			}
			ask := func(address string) {
				t.Helper()
				if err := v.st.KeepLinkRequest(ctx, store.LinkRequest{Address: consent.Email(address), Application: v.app}); err != nil {
					t.Fatal(err)
				}
			}
			const damaged = 60
			for i := range damaged {
				ask(fmt.Sprintf("eve%d@example.com", i))
			}
			db, err := sql.Open("sqlite", filepath.Join(dir, store.SQLiteFile))
			if err != nil {
				t.Fatal(err)
			}
			defer db.Close()
			if _, err := db.ExecContext(ctx, `UPDATE link_request SET sealed = x'00'`); err != nil {
				t.Fatal(err)
			}
			if _, err := db.ExecContext(ctx, `UPDATE citizen_key SET wrapped = x'00' WHERE citizen = (SELECT id FROM citizen WHERE public_id = $1)`, keyless[:]); err != nil {
				t.Fatal(err)
			}
			ask("keyless@example.com")
			ask("ada@example.com")
			done := make(chan struct{})
			go func() { v.svc.RunLinks(ctx); close(done) }()
			defer func() { cancel(); <-done }()
			synctest.Wait()
			if m := v.mail(); m.Recipient.Address != "ada@example.com" {
				t.Errorf("a mail to %s", m.Recipient.Address)
			}
			for range 60 {
				time.Sleep(time.Minute)
				ask("nobody@example.com") // which rings
			}
			synctest.Wait()
			if list, err := v.st.NextLinkRequests(ctx, 0, 100); err != nil || len(list) != damaged+1 {
				t.Errorf("%d requests wait, %v", len(list), err)
			}
			said.mu.Lock()
			defer said.mu.Unlock()
			for id, n := range said.of {
				if n < 10 || n > 15 {
					t.Errorf("request %s was tried %d times in an hour", id, n)
				}
			}
			if len(said.of) != damaged+1 {
				t.Errorf("%d requests are warned of", len(said.of))
			}
		})
	})
}
