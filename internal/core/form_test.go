package core_test

import (
	"errors"
	"testing"
	"time"

	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/internal/core"
	"github.com/opencpm/opencpm/internal/store"
	"github.com/opencpm/opencpm/internal/store/storetest"
)

// withTemplate gives an application a template that asks for consent and states an interest.
func (v *signUps) withTemplate(application string) {
	v.t.Helper()
	doc, err := v.svc.ExportCatalogue(v.t.Context(), application)
	if err != nil {
		v.t.Fatal(err)
	}
	doc.Templates = []consent.Template{{Reference: "manage-all", Name: "Everything", PrivacyPolicy: "policy-01", Blocks: []consent.Block{{
		Type: consent.PermissionsBlock, Statement: "statement-01", Options: []consent.BlockOption{
			{Option: "newsletter-email", Justification: consent.Consent}, {Option: "research-email", Justification: consent.LegitimateInterest},
		},
	}}}}
	if _, err := v.svc.ImportCatalogue(v.t.Context(), application, doc, core.Import{}); err != nil {
		v.t.Fatal(err)
	}
}

// formOf reads the form that a citizen is shown, with its only option switched on.
func (v *signUps) formOf(application, ref string) consent.Form {
	v.t.Helper()
	f, err := v.svc.Form(v.t.Context(), v.actor, core.FormQuery{ApplicationID: application, TemplateID: "manage-all", Citizen: consent.CitizenKey{ExternalRef: ref}})
	if err != nil {
		v.t.Fatal(err)
	}
	for _, b := range f.Blocks {
		for i := range b.Options {
			b.Options[i].Selected = new(true)
		}
	}
	return f
}

// answer sends a form back for a citizen.
func (v *signUps) answer(f consent.Form, ref string) (core.Answered, error) {
	return v.svc.Answer(v.t.Context(), v.actor, core.Request{}, core.FormAnswer{Form: f, Citizen: consent.CitizenKey{ExternalRef: ref}})
}

func (v *signUps) expectSnapshotRefused(f consent.Form, ref string) {
	v.t.Helper()
	_, err := v.answer(f, ref)
	e, ok := errors.AsType[*consent.Error](err)
	if !ok || e.Kind != consent.Invalid || len(e.Fields) != 1 || e.Fields[0].Location != "snapshot" {
		v.t.Errorf("the snapshot is answered with %v", err)
	}
}

// What was shown is proven for a day, and then no more.
func TestASnapshotHoldsForADay(t *testing.T) {
	inTime(t, func(t *testing.T, v *signUps) {
		v.withTemplate("northwind")
		early, late := v.formOf("northwind", "CUST-1"), v.formOf("northwind", "CUST-2")
		time.Sleep(24*time.Hour - time.Second)
		out, err := v.answer(early, "CUST-1")
		if err != nil || len(out.Transactions) == 0 {
			t.Fatalf("after a day less a second: %v, %+v", err, out)
		}
		if shown := out.Transactions[0].Transaction.Form; shown == nil || shown.Unproven {
			t.Errorf("the proof of what was shown is %+v", shown)
		}
		time.Sleep(time.Second)
		v.expectSnapshotRefused(late, "CUST-2")
	})
}

// What one application has shown proves nothing in another.
func TestASnapshotIsOfOneApplication(t *testing.T) {
	onBoth(t, func(t *testing.T, v *signUps) {
		other := storetest.Application(t, v.st, "other")
		v.withTemplate("northwind")
		v.withTemplate("other")
		v.actor.Applications = append(v.actor.Applications, other.Application)
		f := v.formOf("northwind", "CUST-1")
		f.ApplicationID = "other"
		f.TemplateID = v.formOf("other", "CUST-1").TemplateID
		v.expectSnapshotRefused(f, "CUST-1")
	})
}

// A citizen whose address is on the do-not-contact list is shown that, and a yes in the
// form does not take it off.
func TestAFormSaysWhatIsSuppressed(t *testing.T) {
	onBoth(t, func(t *testing.T, v *signUps) {
		v.withTemplate("northwind")
		if _, err := v.answer(v.formOf("northwind", "CUST-1"), "CUST-1"); err != nil {
			t.Fatal(err)
		}
		c, err := v.svc.CitizenByRef(t.Context(), v.actor, "northwind", "CUST-1")
		if err != nil {
			t.Fatal(err)
		}
		if err := v.svc.SetEmail(t.Context(), v.actor, core.Request{}, c.ID, "ada@example.com"); err != nil {
			t.Fatal(err)
		}
		if _, err := v.svc.Suppress(t.Context(), v.actor, core.Request{}, core.NewSuppression{ApplicationID: "northwind", Address: core.ListedAddress{Email: "ada@example.com"}, Channels: []string{"email"}, Reason: "asked"}); err != nil {
			t.Fatal(err)
		}
		f := v.formOf("northwind", "CUST-1")
		found := false
		for _, b := range f.Blocks {
			for _, o := range b.Options {
				if o.Channel != nil && o.Channel.ID == "email" && (o.Justification == consent.Consent || o.Justification == consent.LegitimateInterest) {
					found = true
					if !o.Suppressed || o.State == nil || !o.State.Refusal() {
						t.Errorf("%s reads %+v", o.OptionID, o)
					}
				}
			}
		}
		if !found {
			t.Fatal("the form offers nothing by e-mail")
		}
		if _, err := v.answer(f, "CUST-1"); err != nil {
			t.Fatal(err)
		}
		for _, b := range v.formOf("northwind", "CUST-1").Blocks {
			for _, o := range b.Options {
				if o.Channel != nil && o.Channel.ID == "email" && o.Justification == consent.Consent && !o.Suppressed {
					t.Errorf("a yes took %s off the list", o.OptionID)
				}
			}
		}
	})
}

// Of a single choice what was changed is recorded, whichever way an older form said what
// stood, and what contradicts itself is refused; a repetition has the first answer.
func TestAFormThatSaysASingleChoiceTwice(t *testing.T) {
	onBoth(t, func(t *testing.T, v *signUps) {
		answer := func(key string, one *string, selected string) (core.Answered, error) {
			b := consent.FormBlock{Type: consent.SingleChoiceBlock, Reference: "frequency", SelectedChoice: one, NullChoice: one == nil}
			for _, reference := range []string{"weekly", "monthly"} {
				b.Choices = append(b.Choices, consent.FormChoice{Reference: reference, Selected: reference == selected})
			}
			return v.svc.Answer(t.Context(), v.actor, core.Request{IdempotencyKey: key, Digest: []byte(key)}, core.FormAnswer{
				Form: consent.Form{ApplicationID: "northwind", Blocks: []consent.FormBlock{b}}, Citizen: consent.CitizenKey{ExternalRef: "NEW-1"},
			})
		}
		refused := func(one *string, selected string) {
			t.Helper()
			_, err := answer("", one, selected)
			if e, ok := errors.AsType[*consent.Error](err); !ok || e.Kind != consent.Invalid || len(e.Fields) != 1 || e.Fields[0].Location != "blocks[0].choices" {
				t.Errorf("answered with %v", err)
			}
		}
		recorded := func(key string, one *string, selected, want string) store.Answered {
			t.Helper()
			got, err := answer(key, one, selected)
			if err != nil {
				t.Fatal(err)
			}
			var chosen string
			if got.Submitted != nil {
				chosen = got.Submitted.Submissions[0].Answer.Choices[0].Reference
			}
			if chosen != want {
				t.Errorf("recorded %q, not %q", chosen, want)
			}
			return got.Answered
		}
		refused(nil, "weekly")
		if !v.called("NEW-1").IsZero() {
			t.Error("a refused form created somebody")
		}
		recorded("", new("weekly"), "", "weekly")
		refused(new("weekly"), "monthly")
		recorded("", nil, "weekly", "")
		recorded("k", new("monthly"), "weekly", "monthly")
		if again := recorded("k", new("monthly"), "weekly", "monthly"); !again.Repeated {
			t.Error("recorded twice with one key")
		}
		v.unharmed()
	})
}

// A citizen's token is refused with the id of another application, and of one that there is
// not, in the words for every wrong one.
func TestACitizenNamesNoOtherApplication(t *testing.T) {
	onBoth(t, func(t *testing.T, v *signUps) {
		storetest.Application(t, v.st, "other")
		v.withTemplate("northwind")
		actor := core.Actor{ID: "citizen", Applications: []int64{v.app}, Citizen: v.create("CUST-1", "")}
		form := consent.Form{Blocks: []consent.FormBlock{}}
		for application, known := range map[string]bool{"": true, "northwind": true, "other": false, "none": false} {
			_, asked := v.svc.Form(t.Context(), actor, core.FormQuery{ApplicationID: application, TemplateID: "manage-all"})
			form.ApplicationID = application
			_, answered := v.svc.Answer(t.Context(), actor, core.Request{}, core.FormAnswer{Form: form})
			if known && (asked != nil || answered != nil) || !known && (!errors.Is(asked, core.ErrUnauthenticated) || !errors.Is(answered, core.ErrUnauthenticated)) {
				t.Errorf("in %q: %v, %v", application, asked, answered)
			}
		}
	})
}

// A policy that a form names and nobody knows is a fault where the form names it.
func TestAPolicyIsFaultyWhereItStands(t *testing.T) {
	onBoth(t, func(t *testing.T, v *signUps) {
		for want, policy := range map[string]consent.FormPolicy{"privacyPolicy.reference": {Reference: "none"}, "privacyPolicy.id": {ID: "none"}} {
			_, err := v.answer(consent.Form{ApplicationID: "northwind", Blocks: []consent.FormBlock{}, PrivacyPolicy: &policy}, "CUST-1")
			if e, ok := errors.AsType[*consent.Error](err); !ok || len(e.Fields) != 1 || e.Fields[0].Location != want {
				t.Errorf("%v, and not a fault at %s", err, want)
			}
		}
	})
}
