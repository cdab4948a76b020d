package store_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/internal/store"
	"github.com/opencpm/opencpm/internal/store/storetest"
)

// An address of a preference centre belongs to one application of the server, also where
// several ask for it at one instant; it is free again when the centre is archived or moves.
func TestCentreAddresses(t *testing.T) {
	storetest.Both(t, func(t *testing.T, st *store.Store) {
		ctx := t.Context()
		centre := func(reference, slug, host string) consent.Revision {
			body, err := json.Marshal(consent.PreferenceCentre{Reference: reference, Name: "N", Type: consent.LinkCentre, Slug: slug, Host: host})
			if err != nil {
				t.Fatal(err)
			}
			return consent.Revision{Item: consent.Item{Kind: consent.KindCentre, Key: reference, Body: body}}
		}
		var applications []store.Application
		for n := range 4 {
			snap := storetest.Application(t, st, fmt.Sprint("shop-", n))
			applications = append(applications, store.Application{Number: snap.Application, ID: snap.ApplicationID, Revision: snap.Revision})
		}
		put := func(n int, changes ...consent.Revision) error {
			_, err := st.ChangeCatalogue(ctx, applications[n], changes, "test", store.Once{})
			if err == nil {
				applications[n].Revision++
			}
			return err
		}

		var racing sync.WaitGroup
		errs := make([]error, len(applications))
		for n := range applications {
			racing.Go(func() { errs[n] = put(n, centre("manage", "same", "")) })
		}
		racing.Wait()
		winner := -1
		for n, err := range errs {
			switch {
			case err == nil && winner < 0:
				winner = n
			case consent.KindOf(err) != consent.Conflict || errors.Is(err, store.ErrOvertaken):
				t.Errorf("%d of those who ask for one address: %v", n, err)
			}
		}
		if winner < 0 {
			t.Fatal("nobody got the address")
		}
		other := (winner + 1) % len(applications)
		taken := func(what string, v consent.Revision) {
			t.Helper()
			if err := put(other, v); consent.KindOf(err) != consent.Conflict {
				t.Errorf("%s: %v", what, err)
			}
		}
		must := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}

		must(put(winner, centre("manage", "same", "p.example.com"), centre("link", "second", "")))
		taken("its slug", centre("link", "same", ""))
		taken("its host", centre("link", "own", "p.example.com"))
		// Two of one application change places.
		must(put(winner, centre("manage", "second", "p.example.com"), centre("link", "same", "")))
		taken("a slug that has moved", centre("link", "second", ""))
		archived := centre("link", "same", "")
		archived.Archived = true
		must(put(winner, archived, centre("manage", "third", "")))
		for _, v := range []consent.Revision{centre("a", "same", ""), centre("b", "second", "p.example.com")} {
			must(put(other, v))
		}
	})
}
