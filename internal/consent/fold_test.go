package consent

import (
	"cmp"
	"github.com/go-json-experiment/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// The naive model: every record is kept, and the answer at an instant is read off
// the rules of domain.md one by one, without regard for cost.

type naiveRecord struct {
	Change
	obtained, recorded Instant
	seq                int
	byCitizen          bool
	transaction        ID
}

// naiveState answers for one option at t.
func naiveState(all []naiveRecord, option string, t Instant) (State, ID, bool) {
	// Rule 1: the candidates, with the exception of rule 4.
	var candidates []naiveRecord
	for _, r := range all {
		refusal := r.State == Denied || r.State == Objected || r.State == ObjectionUpheld
		if r.OptionID == option && r.ValidFrom <= t && (r.ValidUntil == 0 || t < r.ValidUntil || refusal) {
			candidates = append(candidates, r)
		}
	}
	// Rules 2 and 3.
	older := func(a, b naiveRecord) bool {
		return cmp.Or(cmp.Compare(min(a.obtained, a.recorded), min(b.obtained, b.recorded)), cmp.Compare(a.recorded, b.recorded), cmp.Compare(a.seq, b.seq)) < 0
	}
	// Rule 4: what is older than a refusal is gone for good.
	var alive []naiveRecord
	for _, c := range candidates {
		if !slices.ContainsFunc(candidates, func(r naiveRecord) bool { return r.State.Refusal() && older(c, r) }) {
			alive = append(alive, c)
		}
	}
	// Rule 5: a claim never beats a standing refusal, of which there is one at most
	// now, the oldest of those alive; only a grant or the citizen's own claim between
	// them lifts it.
	lifted := func(refusal, claim naiveRecord) bool {
		return slices.ContainsFunc(alive, func(g naiveRecord) bool {
			return older(refusal, g) && older(g, claim) && (g.State == Granted || g.State == Claimed && g.byCitizen)
		})
	}
	var standing []naiveRecord
	for _, c := range alive {
		overruled := c.State == Claimed && !c.byCitizen && slices.ContainsFunc(alive, func(r naiveRecord) bool {
			return r.State.Refusal() && older(r, c) && !lifted(r, c)
		})
		if !overruled {
			standing = append(standing, c)
		}
	}
	newest := func(list []naiveRecord) (State, ID, bool) {
		if len(list) == 0 {
			return "", ID{}, false
		}
		n := list[0]
		for _, c := range list {
			if older(n, c) {
				n = c
			}
		}
		return n.State, n.transaction, true
	}
	// Rule 6: PENDING is effective only where nothing else stands.
	decided := slices.DeleteFunc(slices.Clone(standing), func(c naiveRecord) bool { return c.State == Pending })
	if len(decided) > 0 {
		return newest(decided)
	}
	return newest(standing)
}

// A history of one citizen over two options, recorded in any order of obtainedAt.
func history(t *rapid.T) []Transaction {
	type pair struct {
		basis Justification
		state State
	}
	pairs := []pair{
		{Consent, Granted},
		{Consent, Denied},
		{Consent, Pending},
		{LegitimateInterest, Claimed},
		{LegitimateInterest, Objected},
		{LegitimateInterest, ObjectionUpheld},
		{Contract, Claimed},
		{Consent, Granted},
	}
	var list []Transaction
	var recorded Instant
	for i := range rapid.IntRange(1, 12).Draw(t, "records") {
		recorded += Instant(rapid.IntRange(1, 20).Draw(t, "pause"))
		tx := Transaction{Evidence: Evidence{RecordedAt: recorded, ByCitizen: rapid.IntRange(0, 3).Draw(t, "citizen") == 0}}
		tx.ID[15] = byte(i + 1)
		tx.ObtainedAt = max(1, recorded-Instant(rapid.IntRange(-3, 60).Draw(t, "late by")))
		for range rapid.IntRange(1, 2).Draw(t, "changes") {
			p := rapid.SampledFrom(pairs).Draw(t, "pair")
			c := Change{OptionType: OptionSingle, OptionID: rapid.SampledFrom([]string{"a", "b"}).Draw(t, "option"), Justification: p.basis, State: p.state}
			if rapid.Bool().Draw(t, "has start") {
				c.ValidFrom = recorded + Instant(rapid.IntRange(-30, 30).Draw(t, "start"))
			}
			if rapid.Bool().Draw(t, "has end") {
				c.ValidUntil = max(c.ValidFrom, 1) + Instant(rapid.IntRange(1, 80).Draw(t, "length"))
			}
			tx.Changes = append(tx.Changes, c)
		}
		list = append(list, tx)
	}
	return list
}

func naive(list []Transaction) []naiveRecord {
	var all []naiveRecord
	for _, tx := range list {
		for i, c := range tx.Changes {
			all = append(all, naiveRecord{c, tx.ObtainedAt, tx.RecordedAt, i, tx.ByCitizen, tx.ID})
		}
	}
	return all
}

// The projection, pruned after every record and at random instants between, agrees
// with the naive model at every later instant.
func TestProjectionAgreesWithTheNaiveModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var p Projection
		list := history(t)
		for n, tx := range list {
			if n > 0 && rapid.IntRange(0, 2).Draw(t, "time passes") == 0 {
				p.Prune(list[n-1].RecordedAt + 1)
			}
			p.Add(tx)
			p.Prune(tx.RecordedAt)
			all := naive(list[:n+1])
			for at := tx.RecordedAt; at < tx.RecordedAt+130; at++ {
				for _, option := range []string{"a", "b"} {
					wantState, wantID, want := naiveState(all, option, at)
					got, ok := p.Entry(Key{OptionSingle, option}, at)
					if ok != want || got.State != wantState || got.TransactionID != wantID {
						t.Fatalf("after %d records, option %s at %d: %s of %v (%v), the model says %s of %v (%v)", n+1, option, at,
							got.State, got.TransactionID[15], ok, wantState, wantID[15], want)
					}
				}
				if next := p.NextChange(at); next == 0 || next > at+1 {
					if before, after := fmt.Sprint(p.FullState(at).Permissions), fmt.Sprint(p.FullState(at+1).Permissions); before != after {
						t.Fatalf("the answer changes at %d, but the next change is said to be at %d:\n%s\n%s", at+1, next, before, after)
					}
				}
			}
		}
	})
}

// What is stored after any course of events is, once both are pruned at the same
// instant, what a rebuild from the ledger gives: `opencpm check` relies on it. And
// no order of arrival of the same history makes a difference to the winner.
func TestPruningIsConfluent(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var stored, rebuilt Projection
		list := history(t)
		for _, tx := range list {
			stored.Add(tx)
			for range rapid.IntRange(0, 2).Draw(t, "prunes") {
				stored.Prune(tx.RecordedAt + Instant(rapid.IntRange(0, 1).Draw(t, "later")))
			}
			rebuilt.Add(tx)
		}
		at := list[len(list)-1].RecordedAt + Instant(rapid.IntRange(2, 100).Draw(t, "now"))
		stored.Prune(at)
		rebuilt.Prune(at)
		a, _ := json.Marshal(stored)
		b, _ := json.Marshal(rebuilt)
		if string(a) != string(b) {
			t.Fatalf("stored  %s\nrebuilt %s", a, b)
		}
	})
}

func TestStoredFormIsLossless(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var p, q Projection
		for _, tx := range history(t) {
			tx.Attribution.RecordedByName = "Ada"
			tx.Policy = &Citation{ID: "pp_1", Ref: "policy-01", Version: 2}
			p.Add(tx)
		}
		b, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(b, &q); err != nil {
			t.Fatal(err)
		}
		if fmt.Sprint(p.FullState(1000).Permissions) != fmt.Sprint(q.FullState(1000).Permissions) || fmt.Sprint(p.Pending(50)) != fmt.Sprint(q.Pending(50)) {
			t.Fatalf("%v became %v", p.FullState(1000).Permissions, q.FullState(1000).Permissions)
		}
	})
}

// A history of any length costs a bounded projection: years of nightly imports and
// changes of mind leave a handful of candidates.
func TestProjectionDoesNotGrowWithTheHistory(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	var p Projection
	for i := range 5000 {
		now := Instant(i*1000 + 1)
		c := Change{OptionType: OptionSingle, OptionID: "a", Justification: Consent, State: []State{Granted, Denied, Granted}[rnd.IntN(3)]}
		if rnd.IntN(2) == 0 {
			c.Justification, c.State = LegitimateInterest, Claimed
		}
		if c.State == Granted {
			c.ValidUntil = now + 700_000
		}
		p.Add(Transaction{Evidence: Evidence{RecordedAt: now, ObtainedAt: now}, Changes: []Change{c}})
		p.Prune(now)
		if len(p.candidates) > 4 {
			t.Fatalf("%d candidates after %d records", len(p.candidates), i+1)
		}
	}
}
