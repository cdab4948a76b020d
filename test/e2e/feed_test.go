package e2e_test

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/opencpm/opencpm/test/harness"
)

// changesAfter asks for a part of the feed.
func (w *world) changesAfter(t testing.TB, cursor string, more ...string) *answer {
	t.Helper()
	pairs := append([]string{"applicationId", w.id}, more...)
	if cursor != "" {
		pairs = append(pairs, "cursor", cursor)
	}
	return w.api.do(t, "GET", query("/v1/changes", pairs...), nil).want(t, 200)
}

// told waits until the feed tells of at least n changes and gives them. On PostgreSQL that may be after their webhooks: a
// change is told once no transaction is running that began before it, be it another test's.
func (w *world) told(t testing.TB, n int) (changes []object) {
	t.Helper()
	eventually(t, harness.Patience, fmt.Sprint("the feed tells of ", n, " changes"), func() bool {
		changes = w.changesAfter(t, "").list(t, "changes")
		return len(changes) >= n
	})
	return changes
}

// TestFeedNeverSkips has a reader page through the feed while sixteen clients write, some about the same citizens.
func TestFeedNeverSkips(t *testing.T) {
	harness.OnEachStore(t, func(t *testing.T, s *harness.Store) {
		w := start(t, s, ledger)
		const writers, each = 16, 25
		var mu sync.Mutex
		acknowledged := map[string]string{} // transaction or submission → citizen
		var writing sync.WaitGroup
		var left atomic.Int32
		left.Store(writers)
		for n := range writers {
			writing.Go(func() {
				defer left.Add(-1)
				for i := range each {
					ref := fmt.Sprint("own-", n)
					if i%3 == 0 {
						ref = fmt.Sprint("shared-", i%5)
					}
					var id string
					if i%5 == 4 {
						// An answer of its own citizen, for one of a shared citizen could be overtaken and change nothing.
						ref = fmt.Sprint("own-", n)
						id = w.submit(t, ref, []object{chosen("frequency", []string{"weekly", "monthly"}[i%2])}).text(t, "submissions.0.submissionId")
					} else {
						id = w.record(t, ref, change("surveys", "consent", []string{"GRANTED", "DENIED"}[i%2])).text(t, "transactionId")
					}
					mu.Lock()
					acknowledged[id] = ref
					mu.Unlock()
				}
			})
		}

		told, sequences := map[string]string{}, map[any]float64{}
		cursor := ""
		for done, wait := false, "0"; ; {
			a := w.changesAfter(t, cursor, "limit", "10", "wait", wait)
			page := a.list(t, "changes")
			for _, c := range page {
				var ids []any
				for _, p := range c["permissions"].([]any) {
					ids = append(ids, p.(object)["transactionId"])
				}
				for _, p := range c["preferences"].([]any) {
					ids = append(ids, p.(object)["submissionId"])
				}
				for _, id := range ids {
					if told[id.(string)] != "" {
						t.Errorf("%v is told twice", id)
					}
					told[id.(string)] = c["externalRef"].(string)
				}
				if n := c["sequence"].(float64); n <= sequences[c["citizenId"]] {
					t.Errorf("%v goes back from %v to %v", c["externalRef"], sequences[c["citizenId"]], n)
				} else {
					sequences[c["citizenId"]] = n
				}
			}
			cursor = a.text(t, "nextCursor")
			if len(page) == 0 {
				if done {
					break
				}
				// One more look after the last write: on PostgreSQL a change is told once no transaction is running that began
				// before it, be it another test's.
				if done = left.Load() == 0; done {
					wait = "5"
				}
			}
		}
		writing.Wait()
		if len(acknowledged) != writers*each {
			t.Fatalf("%d acknowledged changes, want %d", len(acknowledged), writers*each)
		}
		if diff := cmp.Diff(acknowledged, told); diff != "" {
			t.Errorf("the feed (-acknowledged +told):\n%s", diff)
		}
	})
}

func TestFeedWaits(t *testing.T) {
	harness.OnEachStore(t, func(t *testing.T, s *harness.Store) {
		w := start(t, s, ledger)
		leaving := w.citizen(t, "leaving")
		first := w.record(t, "CUST-1", change("surveys", "consent", "GRANTED"))

		began := time.Now()
		a := w.changesAfter(t, "", "wait", "20")
		if n := len(a.list(t, "changes")); n != 1 || time.Since(began) > 5*time.Second {
			t.Errorf("%d changes after %v where there was one already", n, time.Since(began))
		}
		end := a.text(t, "nextCursor")

		began = time.Now()
		a = w.changesAfter(t, end, "wait", "1")
		if took := time.Since(began); len(a.list(t, "changes")) != 0 || took < time.Second || took > 5*time.Second {
			t.Errorf("%s after %v where nothing came, want nothing after 1 s", a.raw, took)
		}
		if a.text(t, "nextCursor") != end {
			t.Errorf("the end of the feed moved from %s to %s", end, a.at("nextCursor"))
		}
		began = time.Now()
		if a = w.changesAfter(t, end); len(a.list(t, "changes")) != 0 || time.Since(began) > time.Second {
			t.Errorf("%s after %v where nothing came, want nothing at once", a.raw, time.Since(began))
		}

		latest := w.changesAfter(t, "latest")
		if len(latest.list(t, "changes")) != 0 || latest.text(t, "nextCursor") != end {
			t.Errorf("latest gives %s, want the end %s", latest.raw, end)
		}

		// Who waits is told as soon as something happens.
		for name, made := range map[string]func(ref string) *answer{
			"a transaction": func(ref string) *answer { return w.record(t, ref, change("surveys", "consent", "DENIED")) },
			"a submission":  func(ref string) *answer { return w.submit(t, ref, []object{chosen("interests")}) },
			"a reversion":   func(string) *answer { return w.revert(t, first.text(t, "transactionId")) },
			"an erasure":    func(string) *answer { return w.api.do(t, "DELETE", "/v1/citizens/"+leaving, nil).want(t, 204) },
		} {
			t.Run(name, func(t *testing.T) {
				type heard struct {
					*answer
					at time.Time
				}
				waiting := make(chan heard, 1)
				end := w.changesAfter(t, "latest").text(t, "nextCursor")
				go func() {
					a := w.changesAfter(t, end, "wait", "15")
					waiting <- heard{a, time.Now()}
				}()
				select {
				case h := <-waiting:
					t.Fatalf("answered before anything happened: %s", h.raw)
				case <-time.After(300 * time.Millisecond): // it waits
				}
				began := time.Now()
				made(name)
				h := <-waiting
				if n := len(h.list(t, "changes")); n != 1 || h.at.Sub(began) > 3*time.Second {
					t.Errorf("%d changes %v after one was made", n, h.at.Sub(began))
				}
			})
		}

		for _, wrong := range []string{"21", "-1", "1.5", "long"} {
			w.api.do(t, "GET", query("/v1/changes", "applicationId", w.id, "wait", wrong), nil).refused(t, 422, "wait")
		}
	})
}

// TestFeedOfErasedCitizens has more changes of erased citizens than fit on a page.
func TestFeedOfErasedCitizens(t *testing.T) {
	harness.OnEachStore(t, func(t *testing.T, s *harness.Store) {
		w := start(t, s, ledger)
		w.record(t, "stays", change("surveys", "consent", "GRANTED"))
		var id string
		for i := range 12 {
			id = w.record(t, "goes", change("surveys", "consent", []string{"GRANTED", "DENIED"}[i%2]), object{"recordedByName": "Ada"}).text(t, "citizenId")
		}
		middle := w.changesAfter(t, "", "limit", "4").text(t, "nextCursor")
		w.record(t, "stays", change("surveys", "consent", "DENIED"))
		w.api.do(t, "DELETE", "/v1/citizens/"+id, nil).want(t, 204)
		w.record(t, "stays", change("surveys", "consent", "GRANTED"))

		for _, c := range []struct {
			cursor string
			want   []string
		}{
			{"", []string{"stays", "stays", "goes", "stays"}},
			{middle, []string{"stays", "goes", "stays"}}, // a cursor among what is gone still works
		} {
			for _, limit := range []int{2, 3, 100} {
				var refs []string
				changes, _ := w.feed(t, c.cursor, limit)
				for _, o := range changes {
					refs = append(refs, fmt.Sprint(o["externalRef"]))
					if deleted := o["eventType"] == "citizen.deleted"; deleted != (o["externalRef"] == "goes") ||
						deleted && (o["citizenId"] != id || len(o["permissions"].([]any))+len(o["preferences"].([]any)) != 0) {
						t.Errorf("the feed says %v", o)
					}
				}
				if diff := cmp.Diff(c.want, refs); diff != "" {
					t.Errorf("from %q by %d (-want +got):\n%s", c.cursor, limit, diff)
				}
			}
		}
		// A page is full as long as there is something to fill it.
		a := w.changesAfter(t, "", "limit", "1")
		for n := 0; len(a.list(t, "changes")) > 0; n++ {
			if n > 4 {
				t.Fatal("the feed has no end")
			}
			a = w.changesAfter(t, a.text(t, "nextCursor"), "limit", "1")
		}
	})
}

// effective lists citizens who changed, page by page, and gives their references.
func (w *world) effective(t testing.TB, byCursor bool, limit int, more ...string) (refs []string) {
	t.Helper()
	cursor := ""
	for offset := 0; ; offset += limit {
		pairs := append([]string{"applicationId", w.id, "limit", fmt.Sprint(limit)}, more...)
		switch {
		case !byCursor:
			pairs = append(pairs, "offset", fmt.Sprint(offset))
		case cursor != "":
			pairs = append(pairs, "cursor", cursor)
		}
		a := w.api.do(t, "GET", query("/v1/permissions/effective", pairs...), nil).want(t, 200)
		page := a.list(t, "citizens")
		for _, c := range page {
			refs = append(refs, c["externalRef"].(string))
		}
		if _, counted := a.body.(object)["total"]; counted == (byCursor && cursor != "") {
			t.Errorf("%s: total told: %v", a.call, counted)
		}
		cursor = a.peek("nextCursor")
		if byCursor && cursor == "" || !byCursor && len(page) < limit {
			return refs
		}
	}
}

func TestWhoChangedInARange(t *testing.T) {
	harness.OnEachStore(t, func(t *testing.T, s *harness.Store) {
		w := start(t, s, ledger)
		// The order of the first changes: a b c d e; later a, c and e change again.
		refs := []string{"a", "b", "c", "d", "e", "a", "c", "e"}
		for _, ref := range refs {
			began := time.Now()
			w.record(t, ref, change("surveys", "consent", "GRANTED"))
			time.Sleep(time.Until(began.Add(2 * time.Millisecond))) // ranges are told in milliseconds
		}
		w.citizen(t, "never")
		gone := w.record(t, "gone", change("surveys", "consent", "GRANTED")).text(t, "citizenId")
		w.api.do(t, "DELETE", "/v1/citizens/"+gone, nil).want(t, 204)
		var at []string // of the changes
		changes, _ := w.feed(t, "", 100)
		for _, c := range changes {
			at = append(at, c["changedAt"].(string))
		}
		for name, c := range map[string]struct {
			more []string
			want []string
		}{
			"everything":          {nil, []string{"a", "b", "c", "d", "e"}},
			"since is inclusive":  {[]string{"since", at[3]}, []string{"d", "e", "a", "c"}},
			"before is exclusive": {[]string{"before", at[2]}, []string{"a", "b"}},
			"both":                {[]string{"since", at[1], "before", at[6]}, []string{"b", "c", "d", "e", "a"}},
			"one instant":         {[]string{"since", at[5], "before", at[6]}, []string{"a"}},
			"nothing":             {[]string{"since", at[5], "before", at[5]}, nil},
			"the future":          {[]string{"since", ahead(time.Hour)}, nil},
			"one citizen":         {[]string{"externalRef", "c"}, []string{"c"}},
			"one in a range":      {[]string{"externalRef", "c", "since", at[3]}, []string{"c"}},
			"one not in a range":  {[]string{"externalRef", "b", "since", at[3]}, nil},
			"one who never did":   {[]string{"externalRef", "never"}, nil},
		} {
			for _, limit := range []int{1, 2, 5, 100} {
				for _, byCursor := range []bool{false, true} {
					if diff := cmp.Diff(c.want, w.effective(t, byCursor, limit, c.more...)); diff != "" {
						t.Errorf("%s, by %d, cursor %v (-want +got):\n%s", name, limit, byCursor, diff)
					}
				}
			}
			a := w.api.do(t, "GET", query("/v1/permissions/effective", append([]string{"applicationId", w.id, "limit", "1"}, c.more...)...), nil)
			if a.at("total") != float64(len(c.want)) {
				t.Errorf("%s: total %v, want %d", name, a.at("total"), len(c.want))
			}
		}
		w.api.do(t, "GET", query("/v1/permissions/effective", "applicationId", w.id, "externalRef", "nobody"), nil).want(t, 404)
		w.api.do(t, "GET", query("/v1/permissions/effective", "applicationId", w.id, "externalRef", "gone"), nil).want(t, 404)

		// Each is listed as they are now: as the other calls say, too.
		w.submit(t, "c", []object{chosen("interests", "rock")})
		a := w.api.do(t, "GET", query("/v1/permissions/effective", "applicationId", w.id, "externalRef", "c"), nil).want(t, 200)
		state := a.list(t, "citizens")[0]
		permission := w.permission(t, "c", "surveys")
		delete(permission, "status")
		preferences := w.api.do(t, "GET", query("/v1/preferences", "applicationId", w.id, "externalRef", "c"), nil).want(t, 200)
		changes, _ = w.feed(t, "", 100)
		last := changes[len(changes)-1]
		want := object{
			"applicationId": w.id, "citizenId": last["citizenId"], "externalRef": "c", "sequence": last["sequence"], "changedAt": last["changedAt"],
			"permissions": []any{permission}, "preferences": preferences.at("preferences"),
		}
		if diff := cmp.Diff(want, state); diff != "" {
			t.Errorf("the citizen (-elsewhere +listed):\n%s", diff)
		}
		if preferences.at("preferences.0.choices.0.label") != "Rock music" {
			t.Errorf("the preferences: %s", preferences.raw)
		}
	})
}
