package demo_test

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/opencpm/opencpm/client"
	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/internal/demo"
)

func TestTheCatalogueHoldsTogether(t *testing.T) {
	c, err := consent.ParseCatalogue(demo.Catalogue)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Check(); err != nil {
		t.Fatal(err)
	}
	inAllLocales := func(what string, text consent.Localised) {
		t.Helper()
		for _, locale := range c.Application.Locales {
			if text[locale] == "" && text[""] == "" {
				t.Errorf("%s has no text in %s", what, locale)
			}
		}
	}
	for _, s := range c.PermissionStatements {
		inAllLocales("the statement "+s.Reference, s.Text)
	}
	shapes := map[string]bool{}
	for _, p := range c.Preferences {
		shapes[p.Kind] = true
		inAllLocales("the preference "+p.Reference, p.Label)
		for _, choice := range p.Choices {
			inAllLocales("the choice "+choice.Reference, choice.Label)
		}
	}
	if len(shapes) < 2 || len(c.OptionGroups) < 2 {
		t.Errorf("the catalogue shows too little: preferences %v, %d groups", shapes, len(c.OptionGroups))
	}
	marketing, kinds := 0, map[consent.Justification]bool{}
	for _, p := range c.Purposes {
		if p.DirectMarketing {
			marketing++
		}
	}
	for _, o := range c.Options {
		for _, j := range o.Justifications {
			kinds[j.Basis] = true
		}
	}
	if marketing == 0 || marketing == len(c.Purposes) || len(kinds) < 3 || len(c.PrivacyPolicies[0].Versions) < 2 {
		t.Errorf("the catalogue shows too little: %d of %d purposes are marketing, bases %v, %d policy versions", marketing, len(c.Purposes), kinds, len(c.PrivacyPolicies[0].Versions))
	}
}

func TestTheCitizensAreBelievable(t *testing.T) {
	if info, err := os.Stat("data/citizens.jsonl"); err != nil || info.Size() > 1.5e6 {
		t.Errorf("the data file: %v, %v", info, err)
	}
	catalogue := newAPI(t).catalogue
	all := demo.Citizens()
	if len(all) != 2000 {
		t.Fatalf("%d citizens", len(all))
	}
	now := time.Now()
	refs, states, channels, preferences := map[string]bool{}, map[string]int{}, map[string]int{}, map[string]int{}
	for _, c := range all {
		if refs[c.ExternalRef] || c.GivenName == "" || c.FamilyName == "" {
			t.Errorf("citizen %q (%s) has a reference twice or no name", c.ExternalRef, c.Name())
		}
		refs[c.ExternalRef] = true
		if _, domain, _ := strings.Cut(c.Email, "@"); !strings.HasPrefix(domain, "example.") {
			t.Errorf("%s could be somebody's address", c.Email)
		}
		if n := len(c.History); n < 1 || n > 6 {
			t.Errorf("%s has a history of %d", c.ExternalRef, n)
		}
		var answers []client.Answer
		for _, answer := range c.Answers {
			answers = append(answers, demo.ParseAnswer(answer))
			preferences[answers[len(answers)-1].Preference]++
		}
		if _, err := resolveAnswers(catalogue, answers); err != nil {
			t.Errorf("%s: %v", c.ExternalRef, err)
		}
		before := 3*365 + 1.0
		for _, e := range c.History {
			if e.DaysAgo >= before || e.DaysAgo <= 0 {
				t.Errorf("%s: %v days ago comes after %v", c.ExternalRef, e.DaysAgo, before)
			}
			before = e.DaysAgo
			channels[e.Channel]++
			transaction, err := e.Transaction("northwind", c.ExternalRef, now)
			if err == nil {
				_, err = resolve(catalogue, transaction)
			}
			if err != nil {
				t.Errorf("%s: %v", c.ExternalRef, err)
			}
			for _, change := range transaction.Changes {
				states[change.State]++
			}
		}
	}
	for _, s := range []string{"GRANTED", "DENIED", "CLAIMED", "OBJECTED"} {
		if states[s] < 50 {
			t.Errorf("%s stands %d times only", s, states[s])
		}
	}
	if preferences["interests"] < 500 || preferences["frequency"] < 300 {
		t.Errorf("too few preferences: %v", preferences)
	}
	if states["DENIED"] > states["GRANTED"] || len(channels) < 7 {
		t.Errorf("not the way people are: %v, %v", states, channels)
	}
}

func TestParseChange(t *testing.T) {
	for _, s := range []string{"", "newsletter-email", "newsletter-email consent", "newsletter-email consent GRANTED now"} {
		if c, err := demo.ParseChange(s); err == nil {
			t.Errorf("%q was read as %v", s, c)
		}
	}
	c, err := demo.ParseChange("group:all-sms consent DENIED")
	if err != nil || c.OptionType != "group" || c.OptionID != "all-sms" || c.Justification != "consent" || c.State != "DENIED" {
		t.Errorf("%v, %v", c, err)
	}
}
