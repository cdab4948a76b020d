package core_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/internal/core"
	"github.com/opencpm/opencpm/internal/store"
	"github.com/opencpm/opencpm/internal/store/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// editor is an actor who may change the set-up of one application.
func editor(snap *consent.Snapshot) core.Actor {
	return core.Actor{ID: "editor", Applications: []int64{snap.Application}, Scopes: []consent.Scope{consent.ConfigurationRead, consent.ConfigurationWrite}}
}

func fields(tb testing.TB, text string) consent.Fields {
	tb.Helper()
	var f consent.Fields
	if err := json.Unmarshal([]byte(text), &f); err != nil {
		tb.Fatal(err)
	}
	return f
}

// Processes that edit one catalogue at the same time do not get in each other's
// way, and none works on what another has changed already.
func TestProcessesEditOneCatalogue(t *testing.T) {
	storetest.Both(t, func(t *testing.T, st *store.Store) {
		snap := storetest.Application(t, st, "northwind")
		a, ctx := editor(snap), t.Context()
		const each = 8
		var all sync.WaitGroup
		for node := range 3 {
			s := core.New(st, core.Options{})
			all.Go(func() {
				for i := range each {
					if _, err := s.CreateItem(ctx, a, core.Request{}, "northwind", consent.KindParty, fields(t, fmt.Sprintf(`{"id": "p%d-%d", "name": "P"}`, node, i))); err != nil {
						t.Errorf("creating: %v", err)
					}
					n := core.ItemName{ApplicationID: "northwind", Kind: consent.KindOptionGroup, ID: "all-email"}
					if _, err := s.ChangeItem(ctx, a, core.Request{}, n, fields(t, fmt.Sprintf(`{"name": "G%d-%d"}`, node, i))); err != nil {
						t.Errorf("changing: %v", err)
					}
				}
			})
		}
		all.Wait()
		s := core.New(st, core.Options{})
		parties, err := s.Items(ctx, a, "northwind", consent.KindParty)
		if err != nil || len(parties) != 3*each+1 {
			t.Errorf("%d parties: %v", len(parties), err)
		}
		revisions, total, err := s.ItemRevisions(ctx, a, core.ItemName{ApplicationID: "northwind", Kind: consent.KindOptionGroup, ID: "all-email"}, 1<<62, 100, 0)
		if err != nil || total != 3*each+1 || int64(len(revisions)) != total || revisions[0].RecordedBy != "editor" || revisions[total-1].RecordedBy != "test" {
			t.Errorf("%d of %d revisions, the newest %+v: %v", len(revisions), total, revisions[0], err)
		}
	})
}

// One process takes a party away while another gives it an option: whichever comes
// second is refused, so that the catalogue always holds together.
func TestNobodyTakesAwayWhatAnotherUses(t *testing.T) {
	storetest.Both(t, func(t *testing.T, st *store.Store) {
		snap := storetest.Application(t, st, "northwind")
		a, ctx := editor(snap), t.Context()
		one, two := core.New(st, core.Options{}), core.New(st, core.Options{})
		for i := range 8 {
			party, option := fmt.Sprintf("p%d", i), fmt.Sprintf(`{"id": "o%d", "party": "p%[1]d", "purpose": "research", "channel": "sms", "justifications": [{"basis": "consent"}]}`, i)
			if _, err := one.CreateItem(ctx, a, core.Request{}, "northwind", consent.KindParty, fields(t, fmt.Sprintf(`{"id": %q, "name": "P"}`, party))); err != nil {
				t.Fatal(err)
			}
			var added, archived error
			var both sync.WaitGroup
			both.Go(func() {
				_, added = one.CreateItem(ctx, a, core.Request{}, "northwind", consent.KindOption, fields(t, option))
			})
			both.Go(func() {
				archived = two.ArchiveItem(ctx, a, core.ItemName{ApplicationID: "northwind", Kind: consent.KindParty, ID: party})
			})
			both.Wait()
			if (added == nil) == (archived == nil) || added != nil && consent.KindOf(added) != consent.Invalid || archived != nil && consent.KindOf(archived) != consent.Conflict {
				t.Errorf("adding: %v; archiving: %v", added, archived)
			}
			catalogue, err := one.Configuration(ctx, a, "northwind")
			if err == nil {
				err = catalogue.Check()
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	})
}

func TestImportByAnActor(t *testing.T) {
	storetest.Both(t, func(t *testing.T, st *store.Store) {
		snap := storetest.Application(t, st, "northwind")
		storetest.Application(t, st, "globex")
		a, ctx, s := editor(snap), t.Context(), core.New(st, core.Options{})
		doc, err := s.Configuration(ctx, a, "northwind")
		if err != nil {
			t.Fatal(err)
		}
		doc.Parties[0].Name, doc.Channels = "Renamed", append(doc.Channels, consent.Channel{ID: "post", Name: "Post"})
		want := []core.Difference{{Action: "change", Kind: consent.KindParty, Key: "northwind", ID: "northwind", Set: []string{"name"}}, {Action: "add", Kind: consent.KindChannel, Key: "post"}}
		for _, how := range []core.Import{{DryRun: true}, {Prune: true}} {
			if want[1].ID = "post"; how.DryRun {
				want[1].ID = ""
			}
			if got, err := s.PutConfiguration(ctx, a, "northwind", doc, how); err != nil || !cmp.Equal(got.Differences, want) {
				t.Fatalf("%+v: %v, %v", how, got, err)
			}
		}
		if got, err := s.PutConfiguration(ctx, a, "northwind", doc, core.Import{Prune: true}); err != nil || got.Differences != nil {
			t.Errorf("the second time: %v, %v", got, err)
		}
		after, err := s.Configuration(ctx, a, "northwind")
		if diff := cmp.Diff(doc, after); err != nil || diff != "" {
			t.Errorf("%v (-put +got):\n%s", err, diff)
		}
		revisions, _, err := s.ItemRevisions(ctx, a, core.ItemName{ApplicationID: "northwind", Kind: consent.KindParty, ID: "northwind"}, 1<<62, 10, 0)
		if err != nil || len(revisions) != 2 || revisions[0].RecordedBy != "editor" {
			t.Errorf("%+v: %v", revisions, err)
		}

		found := consent.Faults{{Location: "channels[0].name", Message: "must be a string"}}
		doc.Channels[0].Name, doc.Options[0].Party = "", "nobody"
		_, err = s.PutConfiguration(ctx, a, "northwind", doc, core.Import{Found: found})
		wantFaults := append(found, consent.FieldError{Location: "options[0].party", Message: "names no party of the catalogue"})
		var e *consent.Error
		if !errors.As(err, &e) || !cmp.Equal(consent.Faults(e.Fields), wantFaults) {
			t.Errorf("what was found before and after: %v", err)
		}

		reader := a
		reader.Scopes = []consent.Scope{consent.ConfigurationRead}
		for name, c := range map[string]struct {
			actor       core.Actor
			application string
			want        consent.Kind
		}{"another application": {a, "globex", consent.NotFound}, "none": {a, "none", consent.NotFound}, "a reader": {reader, "northwind", consent.Forbidden}} {
			if _, err := s.PutConfiguration(ctx, c.actor, c.application, doc, core.Import{}); consent.KindOf(err) != c.want {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
}
