package core_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/internal/core"
)

// byMail captures a form for an address, and gives the places of what is refused.
func (v *signUps) byMail(address string, blocks ...consent.FormBlock) (places []string) {
	v.t.Helper()
	return v.captured(core.Capture{Email: address, Form: consent.Form{Blocks: blocks}})
}

// captured captures, and gives the places of what is refused.
func (v *signUps) captured(c core.Capture) (places []string) {
	v.t.Helper()
	c.ApplicationID, c.Origin, c.Visitor = "northwind", "https://shop.example", visitor
	v.svc = core.New(v.st, core.Options{BaseURL: "https://consent.example", MailServer: true}) // of whom nobody has asked too much
	err := v.svc.Capture(v.t.Context(), core.Request{}, c)
	if e, ok := errors.AsType[*consent.Error](err); ok && e.Kind == consent.Invalid {
		for _, f := range e.Fields {
			places = append(places, f.Location)
		}
		return places
	}
	if err != nil {
		v.t.Fatal(err)
	}
	return nil
}

func offer(option string, basis consent.Justification, selected *bool) consent.FormBlock {
	return consent.FormBlock{Type: consent.PermissionsBlock, Options: []consent.FormOption{{OptionID: option, Justification: basis, Selected: selected}}}
}

func interests(chosen ...string) consent.FormBlock {
	b := consent.FormBlock{Type: consent.MultiChoiceBlock, Reference: "interests"}
	for _, reference := range []string{"jazz", "rock"} {
		b.Choices = append(b.Choices, consent.FormChoice{Reference: reference, Selected: slices.Contains(chosen, reference)})
	}
	return b
}

// With an address nothing but a consent is recorded. What else a form answers is refused
// where it stands, whether the address is known or not; what it does not answer, and a
// consent that is not given, are nothing.
func TestAFormByMailAsksForConsentsAlone(t *testing.T) {
	onBoth(t, func(t *testing.T, v *signUps) {
		if _, err := v.svc.CreateCitizen(t.Context(), v.actor, core.Request{}, "northwind", "CUST-1", consent.Details{Email: "known@example.com"}); err != nil {
			t.Fatal(err)
		}
		yes, no := new(true), new(false)
		given := offer("newsletter-email", consent.Consent, yes)
		for name, c := range map[string]struct {
			blocks []consent.FormBlock
			want   string
		}{
			"an objection":                        {[]consent.FormBlock{offer("research-email", consent.LegitimateInterest, no)}, "blocks[0].options[0].selected"},
			"an objection beside a consent":       {[]consent.FormBlock{given, offer("research-email", consent.LegitimateInterest, no)}, "blocks[1].options[0].selected"},
			"an objection that is taken back":     {[]consent.FormBlock{given, offer("research-email", consent.LegitimateInterest, yes)}, "blocks[1].options[0].selected"},
			"preferences alone":                   {[]consent.FormBlock{interests("jazz")}, "blocks"},
			"preferences, and no consent":         {[]consent.FormBlock{offer("newsletter-email", consent.Consent, no), interests("jazz")}, "blocks"},
			"preferences, and nothing answered":   {[]consent.FormBlock{offer("newsletter-email", consent.Consent, nil), interests("jazz")}, "blocks"},
			"nothing answered":                    {[]consent.FormBlock{offer("newsletter-email", consent.Consent, nil), offer("research-email", consent.LegitimateInterest, nil), interests()}, ""},
			"a consent that is not given":         {[]consent.FormBlock{offer("newsletter-email", consent.Consent, no), interests()}, ""},
			"a consent":                           {[]consent.FormBlock{given, offer("research-email", consent.LegitimateInterest, nil)}, ""},
			"a consent beside one that is denied": {[]consent.FormBlock{offer("newsletter-sms", consent.Consent, yes), offer("newsletter-email", consent.Consent, no)}, ""},
		} {
			known, unknown := strings.Join(v.byMail("known@example.com", c.blocks...), " "), strings.Join(v.byMail("unknown@example.com", c.blocks...), " ")
			if known != c.want || unknown != c.want {
				t.Errorf("%s is refused at %q, for nobody who is known at %q, not at %q", name, known, unknown, c.want)
			}
		}
		answers := []consent.Answer{{Preference: "interests", Choices: []consent.Chosen{{Reference: "jazz"}}}}
		denied := []consent.Change{{OptionID: "newsletter-email", Justification: consent.Consent, State: consent.Denied}}
		for _, c := range []core.Capture{{Answers: answers}, {Answers: answers, Changes: denied}} {
			for _, c.Email = range []string{"known@example.com", "unknown@example.com"} {
				if got := v.captured(c); !slices.Equal(got, []string{"changes"}) {
					t.Errorf("preferences without a consent are refused at %q", got)
				}
			}
		}
		if got := v.captured(core.Capture{Email: "unknown@example.com", Changes: denied}); got != nil {
			t.Errorf("a refusal alone is refused at %q", got)
		}
	})
}

// What a form leaves alone of a known citizen's preferences stays as it is.
func TestAFormByMailLeavesWhatItDoesNotAnswer(t *testing.T) {
	onBoth(t, func(t *testing.T, v *signUps) {
		ctx := t.Context()
		c, err := v.svc.CreateCitizen(ctx, v.actor, core.Request{}, "northwind", "CUST-1", consent.Details{Email: "ada@example.com"})
		if err != nil {
			t.Fatal(err)
		}
		chosen := func() string {
			t.Helper()
			s, err := v.st.State(ctx, v.app, consent.CitizenKey{ID: c.ID})
			if err != nil {
				t.Fatal(err)
			}
			var all []string
			for _, p := range s.Projection.Preferences() {
				for _, choice := range p.Choices {
					all = append(all, choice.Reference)
				}
			}
			return strings.Join(all, " ")
		}
		signUp := func(option string, chosen ...string) {
			t.Helper()
			if refused := v.byMail("ada@example.com", offer(option, consent.Consent, new(true)), interests(chosen...)); refused != nil {
				t.Fatalf("refused at %q", refused)
			}
			v.confirmAll()
		}
		signUp("newsletter-email", "jazz")
		if got := chosen(); got != "jazz" {
			t.Fatalf("confirmed, the interests are %q", got)
		}
		signUp("newsletter-sms")
		if got := chosen(); got != "jazz" {
			t.Errorf("left alone, the interests are %q", got)
		}
	})
}

// Who it is is said in one way, and what is wrong with that in words that fit.
func TestACaptureSaysWhoItIsOnce(t *testing.T) {
	onBoth(t, func(t *testing.T, v *signUps) {
		for want, c := range map[string]core.Capture{
			"either uniqueReference or emailAddress must be given":      {},
			"only one of uniqueReference and emailAddress may be given": {Email: "ada@example.com", Reference: "CUST-1"},
		} {
			c.ApplicationID, c.Visitor = "northwind", visitor
			c.Changes = []consent.Change{{OptionID: "newsletter-email", Justification: consent.Consent, State: consent.Granted}}
			err := v.svc.Capture(t.Context(), core.Request{}, c)
			e, ok := errors.AsType[*consent.Error](err)
			if !ok || len(e.Fields) != 1 || e.Fields[0] != (consent.FieldError{Location: "uniqueReference", Message: want}) {
				t.Errorf("%v, and not that %s", err, want)
			}
		}
	})
}

func (v *signUps) confirmAll() {
	v.t.Helper()
	for _, m := range v.mails() {
		v.confirm(linkOf(m))
	}
}
