package store_test

import (
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/internal/seal"
	"github.com/opencpm/opencpm/internal/store"
	"github.com/opencpm/opencpm/internal/store/storetest"
)

// A request for a link that cannot be opened is given as such, among the others.
func TestADamagedLinkRequestIsGivenAlone(t *testing.T) {
	onBothDatabases(t, func(t *testing.T, d database) {
		st := d.open(t)
		app := storetest.Application(t, st, "northwind").Application
		for _, address := range []consent.Email{"damaged@example.com", "ada@example.com", "bob@example.com"} {
			if err := st.KeepLinkRequest(ctx, store.LinkRequest{Address: address, Centre: "link", Locale: "de", Code: true, Application: app}); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := d.sql(t).Exec(`UPDATE link_request SET sealed = $1 WHERE id = (SELECT min(id) FROM link_request)`, []byte("damaged")); err != nil {
			t.Fatal(err)
		}
		var list []store.LinkRequest
		for after := int64(0); ; after = list[len(list)-1].Number {
			part, err := st.NextLinkRequests(ctx, after, 2)
			if err != nil {
				t.Fatal(err)
			}
			if list = append(list, part...); len(part) < 2 {
				break
			}
		}
		if len(list) != 3 || !slices.IsSortedFunc(list, func(a, b store.LinkRequest) int { return int(a.Number - b.Number) }) {
			t.Fatalf("given are %+v", list)
		}
		for i, address := range []consent.Email{"", "ada@example.com", "bob@example.com"} {
			q := list[i]
			if q.ID.IsZero() || q.Application != app || q.ApplicationID != "northwind" || q.Address != address || errors.Is(q.Unreadable, seal.ErrKey) != (address == "") {
				t.Errorf("given is %+v", q)
			}
			if address != "" && (q.Centre != "link" || q.Locale != "de" || !q.Code) {
				t.Errorf("given is %+v", q)
			}
		}
	})
}

// A request that nobody could answer is forgotten after a day, and no sooner.
func TestLateLinkRequestsAreForgotten(t *testing.T) {
	dir, keys := t.TempDir(), storetest.Keys(t)
	synctest.Test(t, func(t *testing.T) {
		st := storetest.Open(t, store.Options{Dir: dir, Keys: keys})
		app := storetest.Application(t, st, "northwind").Application
		if err := st.KeepLinkRequest(ctx, store.LinkRequest{Address: "ada@example.com", Application: app}); err != nil {
			t.Fatal(err)
		}
		for _, want := range []int{1, 0} {
			time.Sleep(23 * time.Hour)
			if err := st.ForgetMails(ctx); err != nil {
				t.Fatal(err)
			}
			if list, err := st.NextLinkRequests(ctx, 0, 10); err != nil || len(list) != want {
				t.Errorf("%d requests wait, not %d, %v", len(list), want, err)
			}
		}
	})
}
