package core_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/internal/core"
	"github.com/opencpm/opencpm/internal/store"
)

// save sends what a page of the citizen holds, as "preference=choice" and
// "option=true", and gives what undoes it.
func (v *signUps) save(a core.Actor, said ...string) []consent.ID {
	v.t.Helper()
	var form consent.Form
	options := consent.FormBlock{Type: consent.PermissionsBlock}
	for _, s := range said {
		name, value, _ := strings.Cut(s, "=")
		switch name {
		case "frequency":
			form.Blocks = append(form.Blocks, consent.FormBlock{Type: consent.SingleChoiceBlock, Reference: name, SelectedChoice: &value})
		case "interests":
			form.Blocks = append(form.Blocks, consent.FormBlock{Type: consent.MultiChoiceBlock, Reference: name, Choices: []consent.FormChoice{{Reference: value, Selected: true}}})
		default:
			on := value == "true"
			options.Options = append(options.Options, consent.FormOption{OptionID: name, Justification: consent.Consent, Selected: &on})
		}
	}
	form.ApplicationID, form.Blocks = "northwind", append(form.Blocks, options)
	done, err := v.svc.Answer(v.t.Context(), a, core.Request{}, core.FormAnswer{Form: form, Citizen: consent.CitizenKey{ID: a.Citizen}})
	if err != nil {
		v.t.Fatal(err)
	}
	var ids []consent.ID
	for _, t := range done.Transactions {
		ids = append(ids, t.Transaction.ID)
	}
	if done.Submitted != nil {
		for _, s := range done.Submitted.Submissions {
			ids = append(ids, s.ID)
		}
	}
	return ids
}

// now gives all that applies to a citizen, as save takes it.
func (v *signUps) now(id consent.ID) string {
	v.t.Helper()
	state, err := v.st.State(v.t.Context(), v.app, consent.CitizenKey{ID: id})
	if err != nil {
		v.t.Fatal(err)
	}
	var list []string
	for _, e := range state.Projection.Effective(state.ChangedAt + 1) {
		list = append(list, fmt.Sprintf("%s=%t", e.OptionID, e.State == consent.Granted))
	}
	for _, p := range state.Projection.Preferences() {
		text := p.Preference + "="
		for _, c := range p.Choices {
			text += c.Reference
		}
		list = append(list, text)
	}
	return strings.Join(list, " ")
}

// What is undone is what was done, and nothing that came after it; where a part of it
// cannot be undone, none of it is.
func TestUndoing(t *testing.T) {
	type page []string
	cases := map[string]struct {
		saves []page // one after the other
		then  func(v *signUps, ref string)
		undo  []int // of the saves
		want  string
		kind  consent.Kind // why nothing is changed; zero where something is
	}{
		"the last answer": {saves: []page{{"frequency=weekly"}, {"frequency=monthly"}}, undo: []int{1}, want: "frequency=weekly"},
		"the only answer": {saves: []page{{"frequency=weekly"}}, undo: []int{0}, want: "frequency="},
		"an answer and a permission": {
			saves: []page{{"newsletter-email=true", "frequency=weekly"}, {"newsletter-email=false", "frequency=monthly"}},
			undo:  []int{1}, want: "newsletter-email=true frequency=weekly",
		},
		"an answer that was given again later": {
			saves: []page{{"frequency=weekly"}, {"frequency=monthly"}}, undo: []int{0}, want: "frequency=monthly", kind: consent.Conflict,
		},
		"of two answers the one that stands": {
			saves: []page{{"frequency=weekly", "interests=jazz"}, {"frequency=monthly"}}, undo: []int{0}, want: "frequency=monthly interests=",
		},
		"of a permission and an answer the one that stands": {
			saves: []page{{"newsletter-email=true", "frequency=weekly"}, {"newsletter-email=false"}}, undo: []int{0}, want: "newsletter-email=false frequency=",
		},
		"a permission, beside an answer that was given again later": {
			saves: []page{{"newsletter-email=true", "frequency=weekly"}, {"frequency=monthly"}}, undo: []int{0}, want: "frequency=monthly",
		},
		"two answers to one preference": {
			saves: []page{{"frequency=weekly"}, {"frequency=monthly"}, {"frequency=weekly"}}, undo: []int{1, 2}, want: "frequency=weekly",
		},
		"the same twice": {saves: []page{{"newsletter-email=true", "frequency=weekly"}}, undo: []int{0, 0}, want: "frequency="},
		"a choice that is gone meanwhile": {
			saves: []page{{"newsletter-email=true", "frequency=weekly"}, {"newsletter-email=false", "frequency=monthly"}}, then: (*signUps).withoutWeekly,
			undo: []int{1}, want: "newsletter-email=false frequency=monthly", kind: consent.Invalid,
		},
		"what a client recorded": {
			saves: []page{{"frequency=weekly"}}, then: func(v *signUps, ref string) { v.permit(ref, "newsletter-sms") },
			undo: []int{0, -1}, want: "newsletter-sms=true frequency=weekly", kind: consent.NotFound,
		},
	}
	onBoth(t, func(t *testing.T, v *signUps) {
		asked, err := v.svc.ExportCatalogue(t.Context(), "northwind")
		if err != nil {
			t.Fatal(err)
		}
		for name, c := range cases {
			created, err := v.svc.CreateCitizen(t.Context(), v.actor, core.Request{}, "northwind", name, consent.Details{})
			if err != nil {
				t.Fatal(err)
			}
			a := core.Actor{ID: "citizen", Applications: []int64{v.app}, Citizen: created.ID}
			var saved [][]consent.ID
			for _, s := range c.saves {
				saved = append(saved, v.save(a, s...))
			}
			if c.then != nil {
				c.then(v, name)
			}
			var ids []consent.ID
			records := v.records(a.Citizen)
			for _, i := range c.undo {
				if i < 0 {
					ids = append(ids, records[len(records)-1].Evidence().ID)
					continue
				}
				ids = append(ids, saved[i]...)
			}
			err = v.svc.Undo(t.Context(), a, ids, core.Origin{})
			if (err != nil) != (c.kind != 0) || err != nil && consent.KindOf(err) != c.kind {
				t.Errorf("%s: answered %v", name, err)
			}
			if got := v.now(a.Citizen); got != c.want {
				t.Errorf("%s: there stands %q, not %q", name, got, c.want)
			}
			after := v.records(a.Citizen)
			if c.kind != 0 && len(after) != len(records) {
				t.Errorf("%s: %d records were made", name, len(after)-len(records))
			}
			for _, e := range after[len(records):] {
				if of := e.Evidence(); !of.ByCitizen || of.Client != consent.InPerson {
					t.Errorf("%s: recorded %+v", name, of)
				}
			}
			if c.kind == 0 {
				if err := v.svc.Undo(t.Context(), a, ids, core.Origin{}); consent.KindOf(err) != consent.Conflict {
					t.Errorf("%s: a second time: %v", name, err)
				}
			}
			if _, err := v.svc.ImportCatalogue(t.Context(), "northwind", asked, core.Import{}); err != nil {
				t.Fatal(err)
			}
		}
		v.unharmed()
	})
}

// withoutWeekly takes a choice out of the catalogue.
func (v *signUps) withoutWeekly(string) {
	v.t.Helper()
	catalogue, err := v.svc.ExportCatalogue(v.t.Context(), "northwind")
	if err != nil {
		v.t.Fatal(err)
	}
	catalogue.Preferences = slices.Clone(catalogue.Preferences)
	for i := range catalogue.Preferences {
		p := &catalogue.Preferences[i]
		p.Choices = slices.DeleteFunc(slices.Clone(p.Choices), func(c consent.Choice) bool { return c.Reference == "weekly" })
	}
	if _, err := v.svc.ImportCatalogue(v.t.Context(), "northwind", catalogue, core.Import{}); err != nil {
		v.t.Fatal(err)
	}
}

// An answer that is given while an earlier one is undone stands, whichever is first.
func TestUndoingBesideAnAnswer(t *testing.T) {
	onBoth(t, func(t *testing.T, v *signUps) {
		for i := range 20 {
			a := v.permit(fmt.Sprint("ada ", i), "newsletter-email")
			ids := v.save(a, "frequency=weekly")
			undone := make(chan error, 1)
			go func() { undone <- v.svc.Undo(t.Context(), a, ids, core.Origin{}) }()
			_, err := v.svc.Submit(t.Context(), v.actor, core.Request{}, core.Submission{
				ApplicationID: "northwind", Citizen: consent.CitizenKey{ID: a.Citizen}, Answers: []consent.Answer{{Preference: "frequency", Choices: []consent.Chosen{{Reference: "monthly"}}}},
			})
			if err != nil {
				t.Fatal(err)
			}
			if err := <-undone; err != nil && consent.KindOf(err) != consent.Conflict {
				t.Fatal(err)
			}
			if got := v.now(a.Citizen); got != "newsletter-email=true frequency=monthly" {
				t.Fatalf("citizen %d: there stands %q", i, got)
			}
		}
	})
}

// What is undone is told as one change, with everything that it brought back.
func TestWhatIsUndoneIsToldAtOnce(t *testing.T) {
	onBoth(t, func(t *testing.T, v *signUps) {
		a := v.permit("ada", "newsletter-email")
		ids := v.save(a, "newsletter-email=false", "frequency=weekly")
		var told []core.Recorded
		var submitted []store.Submitted
		v.svc = core.New(v.st, core.Options{Recorded: func(r core.Recorded) { told = append(told, r) }, Submitted: func(s store.Submitted) { submitted = append(submitted, s) }})
		before, err := v.st.State(t.Context(), v.app, consent.CitizenKey{ID: a.Citizen})
		if err != nil {
			t.Fatal(err)
		}
		if err := v.svc.Undo(t.Context(), a, ids, core.Origin{}); err != nil {
			t.Fatal(err)
		}
		after, err := v.st.State(t.Context(), v.app, consent.CitizenKey{ID: a.Citizen})
		if err != nil {
			t.Fatal(err)
		}
		if after.Version != before.Version+1 || len(told) != 1 || len(submitted) != 1 {
			t.Fatalf("version %d after %d, told %+v, %+v", after.Version, before.Version, told, submitted)
		}
		r := told[0]
		if len(r.Outcomes) != 1 || r.Outcomes[0].Change.OptionID != "newsletter-email" || r.Outcomes[0].Current == nil || r.Outcomes[0].Current.State != consent.Granted || len(r.Transaction.Changes) != 0 || !slices.Contains(ids, r.Transaction.Reverts) {
			t.Errorf("told %+v", r)
		}
	})
}
