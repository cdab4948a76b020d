package store_test

import (
	"fmt"
	"sync"
	"testing"

	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/internal/store"
	"github.com/opencpm/opencpm/internal/store/storetest"
)

// Of requests that carry one key at the same time, one is made. Those like it get
// its outcome, the others are refused and leave nobody behind.
func TestOnce(t *testing.T) {
	storetest.Both(t, func(t *testing.T, st *store.Store) {
		app := storetest.Application(t, st, "northwind").Application
		const rounds, at = 6, 12
		for round := range rounds {
			var all sync.WaitGroup
			var mu sync.Mutex
			made, refused := map[consent.ID]int{}, 0
			for i := range at {
				all.Go(func() {
					body := i % 3
					once := store.Once{Credential: "c", Route: "r", Key: fmt.Sprint(round), Request: []byte{byte(body)}}
					r, err := st.Record(ctx, app, ref(fmt.Sprintf("CUST-%d-%d", round, body)), grant("newsletter-email"), once)
					mu.Lock()
					defer mu.Unlock()
					switch {
					case err == nil:
						made[r.Transaction.ID]++
					case consent.KindOf(err) == consent.Invalid:
						refused++
					default:
						t.Error(err)
					}
				})
			}
			all.Wait()
			_, total, err := st.Transactions(ctx, app, store.RecordFilter{Limit: 1, Total: true})
			if err != nil || total != int64(round+1) || len(made) != 1 || refused != at*2/3 {
				t.Fatalf("round %d: %d transactions in all, outcomes %v, %d refused, %v", round, total, made, refused, err)
			}
			citizens := 0
			for body := range 3 {
				if _, err := st.Citizen(ctx, app, ref(fmt.Sprintf("CUST-%d-%d", round, body))); err == nil {
					citizens++
				}
			}
			if citizens != 1 {
				t.Fatalf("round %d: %d citizens were created", round, citizens)
			}
		}
	})
}
