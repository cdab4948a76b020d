package store_test

import (
	"database/sql"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/internal/store"
	"github.com/opencpm/opencpm/internal/store/storetest"
)

// Of all who ask at once one may renew a token, until it is done, gives up or its time is
// over; and what it did is in the audit record as what it is.
func TestTokenClaims(t *testing.T) {
	options := map[string]store.Options{
		"SQLite":     {Dir: t.TempDir(), Keys: storetest.Keys(t)},
		"PostgreSQL": {DatabaseURL: storetest.Postgres(t), Keys: storetest.Keys(t)},
	}
	for name, o := range options {
		t.Run(name, func(t *testing.T) {
			st := storetest.Open(t, o)
			v := consent.Subscription{
				ID: store.NewID(), Application: storetest.Application(t, st, "northwind").Application, ApplicationID: "northwind", Name: "CRM", URL: "https://crm.example/hook",
				UpdateType: consent.EffectivePermission, Status: consent.Active, AuthType: consent.AuthToken, TokenLocation: consent.InHeader, RefreshURL: "https://id.example/",
				Secrets: consent.SubscriptionSecrets{Token: "stale", RefreshToken: "refresh-0"},
			}
			sub, err := st.CreateSubscription(ctx, v, "test", store.Once{})
			if err != nil {
				t.Fatal(err)
			}
			ask := func(stale string, ttl time.Duration) store.Claim {
				t.Helper()
				c, err := st.ClaimToken(ctx, sub.Number, stale, ttl)
				if err != nil {
					t.Error(err)
				}
				return c
			}
			var mine []store.Claim
			var mu sync.Mutex
			var all sync.WaitGroup
			for range 20 {
				all.Go(func() {
					if c := ask("stale", time.Hour); c.Until != 0 {
						mu.Lock()
						defer mu.Unlock()
						mine = append(mine, c)
					}
				})
			}
			all.Wait()
			if len(mine) != 1 || mine[0].Secrets.Token != "stale" {
				t.Fatalf("%d of 20 may renew the token", len(mine))
			}
			if err := st.Unclaim(ctx, mine[0]); err != nil {
				t.Fatal(err)
			}
			if late := ask("stale", -time.Second); late.Until == 0 { // it ends at once
				t.Error("a claim that was given up is held")
			}
			last := ask("stale", time.Hour)
			if last.Until == 0 {
				t.Error("a claim whose time is over is held")
			}
			if err := st.Unclaim(ctx, mine[0]); err != nil || ask("stale", time.Hour).Until != 0 {
				t.Errorf("who had a claim before ended the one of another: %v", err)
			}
			setups := st.Setups()
			kept, err := st.KeepToken(ctx, last, store.Token{Access: "access-1", Refresh: "refresh-1", Got: 1000, Lives: time.Second})
			if err != nil {
				t.Fatal(err)
			}
			read, err := st.Subscription(ctx, []int64{v.Application}, v.ID)
			want := sub
			want.Secrets = consent.SubscriptionSecrets{Token: "access-1", RefreshToken: "refresh-1", TokenRenewAt: 801_000, TokenExpiresAt: 1_001_000}
			if diff := cmp.Diff(want, read); err != nil || diff != "" {
				t.Errorf("kept (-want +got): %v\n%s", err, diff)
			}
			if diff := cmp.Diff(want, kept); diff != "" {
				t.Errorf("given (-want +got):\n%s", diff)
			}
			if st.Setups() == setups {
				t.Error("nobody is told of the new token")
			}
			if c := ask("stale", time.Hour); c.Until != 0 || c.Secrets.Token != "access-1" {
				t.Errorf("a token that was renewed may be renewed again: %+v", c)
			}
			if c := ask("access-1", time.Hour); c.Until == 0 {
				t.Error("the claim did not end")
			}
			if got := actions(t, o, v.ID); !cmp.Equal(got, []string{"subscription.create by test", "subscription.token.refresh by opencpm"}) {
				t.Errorf("audited %v", got)
			}
			if err := st.DeleteSubscription(ctx, []int64{v.Application}, v.ID, "test"); err != nil {
				t.Fatal(err)
			}
			if _, err := st.ClaimToken(ctx, sub.Number, "access-1", time.Hour); consent.KindOf(err) != consent.NotFound {
				t.Errorf("a claim on what is gone: %v", err)
			}
			if _, err := st.KeepToken(ctx, last, store.Token{Access: "x"}); consent.KindOf(err) != consent.NotFound {
				t.Errorf("a token for what is gone: %v", err)
			}
		})
	}
}

// actions lists what is in the audit record about an object, and by whom.
func actions(t *testing.T, o store.Options, object consent.ID) []string {
	t.Helper()
	driver, source := "pgx", o.DatabaseURL
	if o.Dir != "" {
		driver, source = "sqlite", o.Dir+"/opencpm.db"
	}
	db, err := sql.Open(driver, source)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	rows, err := db.Query(`SELECT action, actor FROM audit WHERE object = $1 ORDER BY id`, object.String())
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var list []string
	for rows.Next() {
		var action, actor string
		if err := rows.Scan(&action, &actor); err != nil {
			t.Fatal(err)
		}
		list = append(list, fmt.Sprintf("%s by %s", action, actor))
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return list
}
