package store_test

import (
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/internal/store"
	"github.com/opencpm/opencpm/internal/store/storetest"
)

// news is what a change says, as a sorted line of words.
func news(t *testing.T, v store.ListedChange) string {
	t.Helper()
	var said struct {
		Permissions []struct {
			OptionID string
			State    *string
		}
		Preferences []struct {
			Preference string
			Choices    []struct{ Reference string }
		}
	}
	if err := json.Unmarshal(v.News, &said); err != nil {
		t.Fatal(err)
	}
	var words []string
	for _, p := range said.Permissions {
		state := "ceased"
		if p.State != nil {
			state = *p.State
		}
		words = append(words, p.OptionID+"="+state)
	}
	for _, p := range said.Preferences {
		words = append(words, fmt.Sprintf("%s=%v", p.Preference, p.Choices))
	}
	return strings.Join(words, " ")
}

// changes waits until the feed tells of all that was committed, and gives it.
func changes(t *testing.T, st *store.Store, app int64) []store.ListedChange {
	t.Helper()
	last, err := st.LastChange(ctx, app)
	if err != nil {
		t.Fatal(err)
	}
	for until := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		list, end, err := st.Changes(ctx, app, store.Place{}, 100_000)
		if err != nil {
			t.Fatal(err)
		}
		if end == last {
			return list
		}
		if time.Now().After(until) {
			t.Fatalf("the feed tells of changes until %v, want %v", end, last)
		}
	}
}

func said(t *testing.T, st *store.Store, app int64) []string {
	t.Helper()
	words := []string{}
	for _, v := range changes(t, st, app) {
		words = append(words, news(t, v))
	}
	return words
}

// A reader who follows the feed while many write sees every change once, each
// citizen's in their own order.
func TestFeedSkipsNothing(t *testing.T) {
	storetest.Both(t, func(t *testing.T, st *store.Store) {
		app := storetest.Application(t, st, "northwind").Application
		const writers, each, citizens = 16, 40, 5
		var all sync.WaitGroup
		errs := make(chan error, writers)
		for w := range writers {
			all.Go(func() {
				for i := range each {
					tx := grant("newsletter-email")
					if i%2 == 1 {
						tx = deny("newsletter-email")
					}
					if _, err := st.Record(ctx, app, ref(fmt.Sprintf("CUST-%d", (w+i)%citizens)), tx, store.Once{}); err != nil {
						errs <- err
						return
					}
				}
			})
		}
		written := make(chan struct{})
		go func() { all.Wait(); close(written) }()
		seen, at := map[consent.ID]int64{}, store.Place{}
		count, over := 0, false
		for {
			page, end, err := st.Changes(ctx, app, at, 7)
			if err != nil {
				t.Fatal(err)
			}
			for _, v := range page {
				if v.Version != seen[v.CitizenID]+1 {
					t.Fatalf("after change %d of a citizen comes change %d", seen[v.CitizenID], v.Version)
				}
				seen[v.CitizenID] = v.Version
				count++
			}
			at = end
			if len(page) == 0 {
				if over {
					break
				}
				select {
				case <-written:
					over = true // one look more: what was written before is there now
				default:
				}
			}
		}
		close(errs)
		for err := range errs {
			t.Fatal(err)
		}
		if count != writers*each {
			t.Fatalf("%d changes were read of %d", count, writers*each)
		}
		if end, err := st.EndOfChanges(ctx, app); err != nil || end != at {
			t.Fatalf("the feed ends at %v, %v; it was read to %v", end, err, at)
		}
	})
}

// A database that was copied to another server counts its transactions from lower
// numbers; the feed goes on after its last place all the same.
func TestFeedGoesOnInACopiedDatabase(t *testing.T) {
	o := store.Options{DatabaseURL: storetest.Postgres(t), Keys: storetest.Keys(t)}
	st, err := store.Open(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	app := storetest.Application(t, st, "northwind").Application
	record(t, st, app, ref("CUST-1"), grant("newsletter-email"))
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("pgx", o.DatabaseURL)
	if err != nil {
		t.Fatal(err)
	}
	for _, q := range []string{`UPDATE change SET position = position + 1000000000`, `UPDATE citizen_state SET position = position + 1000000000`} {
		if _, err := db.Exec(q); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	st = storetest.Open(t, o)
	before := changes(t, st, app)
	if len(before) != 1 {
		t.Fatalf("%d changes after the copy, want the one", len(before))
	}
	record(t, st, app, ref("CUST-2"), grant("newsletter-email"))
	record(t, st, app, ref("CUST-1"), deny("newsletter-email"))
	after, _, err := st.Changes(ctx, app, before[0].Place, 10)
	if err != nil || len(after) != 2 || after[0].ExternalRef != "CUST-2" || after[1].ExternalRef != "CUST-1" {
		t.Fatalf("after it come %+v, %v", after, err)
	}
}

// The changes of one citizen are apart by their time, so that whoever applies them by
// it ends with the newest.
func TestChangesRiseInTime(t *testing.T) {
	storetest.Both(t, func(t *testing.T, st *store.Store) {
		app := storetest.Application(t, st, "northwind").Application
		for i := range 20 {
			tx := grant("newsletter-email")
			if i%2 == 1 {
				tx = deny("newsletter-email")
			}
			if _, err := st.Record(ctx, app, ref("CUST-1"), tx, store.Once{}); err != nil {
				t.Fatal(err)
			}
		}
		list := changes(t, st, app)
		for i := 1; i < len(list); i++ {
			if list[i].ChangedAt.String() <= list[i-1].ChangedAt.String() {
				t.Fatalf("change %d is of %s, the one before of %s", i, list[i].ChangedAt, list[i-1].ChangedAt)
			}
		}
	})
}

// What makes a change and what does not.
func TestWhatIsAChange(t *testing.T) {
	storetest.Both(t, func(t *testing.T, st *store.Store) {
		app := storetest.Application(t, st, "northwind").Application
		record := func(tx consent.Transaction) store.Recorded { t.Helper(); return record(t, st, app, ref("CUST-1"), tx) }
		first := record(grant("newsletter-email"))
		late := deny("newsletter-email")
		late.ObtainedAt = first.Transaction.RecordedAt - 1
		record(late) // lost: nothing changed, but whoever follows the full state is told
		record(storetest.Transaction("newsletter-email", consent.Consent, consent.Pending))
		record(storetest.Transaction("newsletter-sms", consent.Consent, consent.Pending))
		record(deny("newsletter-email"))
		if got, want := said(t, st, app), []string{"newsletter-email=GRANTED", "newsletter-sms=PENDING", "newsletter-email=DENIED"}; !slices.Equal(got, want) {
			t.Fatalf("the changes were %q, want %q", got, want)
		}
		state, err := st.State(ctx, app, ref("CUST-1"))
		if err != nil || state.Version != 4 { // three changes and the answer to the lost one
			t.Fatalf("version %d, %v", state.Version, err)
		}
	})
}

// A reversion brings back what was displaced, even what had been dropped for good, and
// what nothing replaces ceases.
func TestReversion(t *testing.T) {
	storetest.Both(t, func(t *testing.T, st *store.Store) {
		app := storetest.Application(t, st, "northwind").Application
		key := ref("CUST-1")
		var made []store.Recorded
		for _, tx := range []consent.Transaction{grant("newsletter-email"), deny("newsletter-email")} {
			r, err := st.Record(ctx, app, key, tx, store.Once{})
			if err != nil {
				t.Fatal(err)
			}
			made = append(made, r)
		}
		citizen := made[0].CitizenID
		revert := func(id consent.ID) (store.Recorded, error) {
			return st.Revert(ctx, app, citizen, consent.Transaction{Evidence: consent.Evidence{ID: store.NewID(), Client: consent.Recorder{ID: "support"}}, Reverts: id}, store.Once{})
		}
		r, err := revert(made[1].Transaction.ID)
		if err != nil || len(r.Outcomes) != 1 || r.Outcomes[0].Change.State != consent.Denied || r.Outcomes[0].Current == nil || r.Outcomes[0].Current.TransactionID != made[0].Transaction.ID {
			t.Fatalf("reverted: %+v, %v", r, err)
		}
		if _, err := revert(made[1].Transaction.ID); consent.KindOf(err) != consent.Conflict {
			t.Fatalf("reverted twice: %v", err)
		}
		if _, err := revert(r.Transaction.ID); consent.KindOf(err) != consent.Conflict {
			t.Fatalf("a reversion was reverted: %v", err)
		}
		if _, err := revert(store.NewID()); consent.KindOf(err) != consent.NotFound {
			t.Fatalf("nothing was reverted: %v", err)
		}
		last, err := revert(made[0].Transaction.ID)
		if err != nil {
			t.Fatal(err)
		}
		if got := states(t, st, app, key); got["newsletter-email"] != "" {
			t.Fatalf("after everything was reverted: %v", got)
		}
		state, err := st.State(ctx, app, key)
		if err != nil {
			t.Fatal(err)
		}
		full := state.Projection.FullState(consent.At(time.Now()))
		if len(full.Permissions) != 1 || full.Permissions[0].State != "" || full.Permissions[0].TransactionID != last.Transaction.ID || full.Permissions[0].Justification != consent.Consent {
			t.Fatalf("the full state is %+v", full.Permissions)
		}
		if got, want := said(t, st, app), []string{"newsletter-email=GRANTED", "newsletter-email=DENIED", "newsletter-email=GRANTED", "newsletter-email=ceased"}; !slices.Equal(got, want) {
			t.Fatalf("the changes were %q, want %q", got, want)
		}
		if f := check(t, st); len(f) > 0 {
			t.Fatal(f)
		}
		if citizenOf, applicationID, err := st.CitizenOfTransaction(ctx, last.Transaction.ID); err != nil || citizenOf != citizen || applicationID != "northwind" {
			t.Fatalf("the transaction is of %v in %q, %v", citizenOf, applicationID, err)
		}
	})
}

// Each instant at which time alone changed the state is a change of its own, even when
// they are noticed together, or by a write that comes first.
func TestTimeIsCaughtUpWith(t *testing.T) {
	storetest.Both(t, func(t *testing.T, st *store.Store) {
		app := storetest.Application(t, st, "northwind").Application
		soon := consent.At(time.Now()).Add(300 * time.Millisecond)
		tx := grant("newsletter-email")
		tx.Changes[0].ValidFrom, tx.Changes[0].ValidUntil = soon, soon.Add(200*time.Millisecond)
		if _, err := st.Record(ctx, app, ref("CUST-1"), tx, store.Once{}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Until(tx.Changes[0].ValidUntil.Time()) + 10*time.Millisecond)
		if _, err := st.Record(ctx, app, ref("CUST-1"), grant("newsletter-sms"), store.Once{}); err != nil {
			t.Fatal(err)
		}
		list := changes(t, st, app)
		var got []string
		for _, v := range list {
			got = append(got, news(t, v)+" by "+v.ChangedBy)
		}
		if want := []string{"newsletter-email=GRANTED by opencpm", "newsletter-email=ceased by opencpm", "newsletter-sms=GRANTED by test"}; !slices.Equal(got, want) {
			t.Fatalf("the changes were %q, want %q", got, want)
		}
		if f := check(t, st); len(f) > 0 {
			t.Fatal(f)
		}
	})
}

// Who changed in a range is listed once, at their first change in it.
func TestChangedInARange(t *testing.T) {
	storetest.Both(t, func(t *testing.T, st *store.Store) {
		app := storetest.Application(t, st, "northwind").Application
		for _, r := range []string{"A", "B", "A", "C", "B"} {
			if _, err := st.Record(ctx, app, ref(r), grant("newsletter-email"), store.Once{}); err != nil {
				t.Fatal(err)
			}
			time.Sleep(2 * time.Millisecond)
		}
		list := changes(t, st, app)
		refs := func(f store.ChangedFilter) (string, int64) {
			t.Helper()
			f.Limit = max(f.Limit, 1)
			var all []string
			total := int64(-1)
			for {
				f.Total = total < 0
				page, n, err := st.Changed(ctx, app, f)
				if err != nil {
					t.Fatal(err)
				}
				if f.Total {
					total = n
				}
				if len(page) == 0 {
					return strings.Join(all, ""), total
				}
				for _, v := range page {
					all = append(all, v.ExternalRef)
				}
				f.After = page[len(page)-1].Place
			}
		}
		one := ref("B")
		for _, c := range []struct {
			f    store.ChangedFilter
			want string
		}{
			{store.ChangedFilter{}, "ABC"},
			{store.ChangedFilter{Since: list[1].ChangedAt}, "BAC"},
			{store.ChangedFilter{Since: list[2].ChangedAt, Before: list[4].ChangedAt}, "AC"},
			{store.ChangedFilter{Since: list[4].ChangedAt + 1}, ""},
			{store.ChangedFilter{Citizen: &one, Since: list[2].ChangedAt}, "B"},
			{store.ChangedFilter{Limit: 50}, "ABC"},
		} {
			if got, total := refs(c.f); got != c.want || total != int64(len(c.want)) {
				t.Errorf("%+v: %q (%d), want %q", c.f, got, total, c.want)
			}
		}
	})
}

// Citizens created together are all there or none of them, and whoever repeats the
// request gets its answer.
func TestCreateCitizensTogether(t *testing.T) {
	storetest.Both(t, func(t *testing.T, st *store.Store) {
		app := storetest.Application(t, st, "northwind").Application
		list := func(prefix string, n int) []store.NewCitizen {
			var all []store.NewCitizen
			for i := range n {
				tx := grant("newsletter-email")
				v := consent.Submission{Evidence: consent.Evidence{ID: store.NewID()}, Answer: consent.Answer{Preference: "interests", Choices: []consent.Chosen{}}}
				all = append(all, store.NewCitizen{ExternalRef: fmt.Sprint(prefix, i), Details: consent.Details{GivenName: "Ada"}, Transaction: &tx, Submissions: []consent.Submission{v}})
			}
			return all
		}
		once := store.Once{Credential: "c", Route: "bulk", Key: "k", Request: []byte("r")}
		first, _, err := st.CreateCitizens(ctx, app, list("A", 300), "test", once)
		if err != nil || len(first) != 300 || first[7].ExternalRef != "A7" || first[7].TransactionID.IsZero() {
			t.Fatalf("%d created, %v", len(first), err)
		}
		again, repeated, err := st.CreateCitizens(ctx, app, list("A", 300), "test", once)
		if err != nil || !repeated || !slices.Equal(first, again) {
			t.Fatalf("the request repeated is answered otherwise: %v", err)
		}
		c, err := st.Citizen(ctx, app, ref("A299"))
		if err != nil || c.Details.GivenName != "Ada" || c.ID != first[299].CitizenID {
			t.Fatalf("created %+v, %v", c, err)
		}
		// One reference that exists and one that stands twice: nobody is created, beside
		// whatever else is being written.
		clash := append(list("B", 5), list("A", 2)...)
		clash = append(clash, list("B", 1)...)
		var beside sync.WaitGroup
		for i := range 20 {
			beside.Go(func() {
				if _, err := st.Record(ctx, app, ref(fmt.Sprint("C", i)), grant("newsletter-sms"), store.Once{}); err != nil {
					t.Error(err)
				}
			})
		}
		_, _, err = st.CreateCitizens(ctx, app, clash, "test", store.Once{})
		beside.Wait()
		var places []string
		var refused *consent.Error
		if errors.As(err, &refused) {
			for _, f := range refused.Fields {
				places = append(places, f.Location)
			}
		}
		if want := []string{"citizens[5].externalRef", "citizens[6].externalRef", "citizens[7].externalRef"}; consent.KindOf(err) != consent.Conflict || !slices.Equal(places, want) {
			t.Fatalf("the clash is %v at %q", err, places)
		}
		if _, err := st.Citizen(ctx, app, ref("B0")); consent.KindOf(err) != consent.NotFound {
			t.Fatalf("one of a refused request was created: %v", err)
		}
		if n := len(changes(t, st, app)); n != 300*2+20 {
			t.Fatalf("%d changes", n)
		}
		if f := check(t, st); len(f) > 0 {
			t.Fatal(f)
		}
	})
}
