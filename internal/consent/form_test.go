package consent

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// formWorld is a catalogue of four options on two channels.
func formWorld(t testing.TB, rules ...RuleSet) *Snapshot {
	t.Helper()
	c := Catalogue{
		Application: ApplicationSettings{Name: "N", DefaultLocale: "en", Locales: []string{"en", "de"}},
		Parties:     []Party{{ID: "p", Name: "P"}}, Purposes: []Purpose{{ID: "u", Name: "U", Label: Localised{"en": "U", "de": "U"}}},
		Channels:             []Channel{{ID: "email", Name: "E", Label: Localised{"en": "E", "de": "E"}}, {ID: "sms", Name: "S"}},
		PermissionStatements: []PermissionStatement{{Reference: "s", Text: Localised{"en": "E", "de": "D"}}},
		PrivacyPolicies:      []PrivacyPolicy{{Reference: "pp", Name: "PP", Versions: []PolicyVersion{{"1", "https://example.com"}}}},
		Preferences:          []Preference{{Reference: "topics", Kind: MultiChoice, Label: Localised{"en": "T", "de": "T"}, Choices: []Choice{{"a", Localised{"en": "A", "de": "A"}}, {"b", Localised{"en": "B", "de": "B"}}}}},
		RuleSets:             rules,
	}
	block := Block{Type: PermissionsBlock, Statement: "s"}
	for i := range 4 {
		id := fmt.Sprint("o", i)
		c.Options = append(c.Options, Option{ID: id, Party: "p", Purpose: "u", Channel: []string{"email", "sms"}[i%2], Justifications: []AllowedBasis{{Basis: Consent}}})
		block.Options = append(block.Options, BlockOption{Option: id, Justification: Consent, Label: Localised{"en": id, "de": id}})
	}
	c.Templates = []Template{{Reference: "t", Name: "T", PrivacyPolicy: "pp", Blocks: []Block{block, {Type: MultiChoiceBlock, Preference: "topics"}}}}
	if err := c.Check(); err != nil {
		t.Fatal(err)
	}
	items, err := c.Items()
	if err != nil {
		t.Fatal(err)
	}
	revisions := make([]Revision, len(items))
	for i, it := range items {
		revisions[i] = Revision{Item: it, ID: cmp.Or(it.Key, "x"), Revision: 1, Position: i}
	}
	s, err := NewSnapshot("n", 1, 1, revisions)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestRuleSets compares what rules leave of a template with the plain reading of each.
func TestRuleSets(t *testing.T) {
	day := Instant(24 * 3600 * 1e6)
	now := 1000 * day
	rapid.Check(t, func(rt *rapid.T) {
		r := RuleSet{Reference: "r", Name: "R"}
		if rapid.Bool().Draw(rt, "expires") {
			r.ExpiresWithin = "P30D"
		}
		if rapid.Bool().Draw(rt, "max") {
			n := rapid.IntRange(1, 3).Draw(rt, "most")
			r.MaxOptions = &n
		}
		for _, s := range []State{NoState, Granted, Denied, Pending} {
			if rapid.Bool().Draw(rt, "hide "+string(s)) {
				r.HideStates = append(r.HideStates, s)
			}
		}
		if rapid.Bool().Draw(rt, "channels") {
			r.Channels = []string{"sms"}
		}
		if rapid.Bool().Draw(rt, "mandatory") {
			r.MandatoryPreferences = []string{"topics"}
		}
		snap := formWorld(t, r)
		p := &Projection{}
		answered := rapid.Bool().Draw(rt, "answered")
		if answered {
			p.Answer(Submission{Evidence{RecordedAt: 1, ObtainedAt: 1}, Answer{Preference: "topics", Choices: []Chosen{{"a", "A"}}}})
		}
		var want []string
		hidden := false
		for i := range 4 {
			id, state, until := fmt.Sprint("o", i), rapid.SampledFrom([]State{"", Granted, Denied, Pending}).Draw(rt, "state"), Instant(0)
			if state != "" {
				until = rapid.SampledFrom([]Instant{0, now + 10*day, now + 40*day}).Draw(rt, "until")
				tr := Transaction{Evidence: Evidence{ID: ID{byte(i + 1)}, RecordedAt: 1, ObtainedAt: 1}, Changes: []Change{{OptionType: OptionSingle, OptionID: id, Justification: Consent, State: state, ValidUntil: until}}}
				p.Add(tr)
			}
			shown := !slices.Contains(r.HideStates, cmp.Or(state, NoState))
			if state != "" && r.ExpiresWithin != "" { // what was answered is asked again shortly before its end
				shown = state != Denied && until == now+10*day
			}
			shown = shown && (r.Channels == nil || i%2 == 1)
			hidden = hidden || !shown
			if shown && (r.MaxOptions == nil || len(want) < *r.MaxOptions) {
				want = append(want, id)
			}
		}
		template, _ := snap.Template("t")
		f, _ := snap.Form(FormQuestion{Template: template, Rules: snap.RuleSet("r"), Locale: "en", State: p, At: now})
		var got []string
		for _, b := range f.Blocks {
			for _, o := range b.Options {
				got = append(got, o.OptionID)
			}
		}
		if diff := gocmp.Diff(want, got); diff != "" {
			rt.Errorf("with %+v (-want +got):\n%s", r, diff)
		}
		nothing := hidden && want == nil && (r.MandatoryPreferences == nil || answered)
		if (len(f.Blocks) == 0) != nothing {
			rt.Errorf("%d blocks are left where nothing is to be asked: %v", len(f.Blocks), nothing)
		}

		// Sent back as it is, it is in order unless something mandatory is empty, and nothing differs.
		var faults Faults
		answers := snap.ResolveForm(f, nil, false, &faults)
		if must := len(f.Blocks) > 0 && r.MandatoryPreferences != nil && !answered; must != faults.At("blocks["+fmt.Sprint(len(f.Blocks)-1)+"]") {
			rt.Errorf("what is mandatory: %v", faults)
		}
		if left := answers.Against(p, now); left.Parts != nil || left.Answers != nil {
			rt.Errorf("sent back it differs: %+v", left)
		}
	})
}

func TestChooseLocale(t *testing.T) {
	for _, c := range []struct {
		explicit, accept, want string
	}{
		{"", "", "en"},
		{"de", "ar", "de"},
		{"DE-at", "ar", "de"},
		{"ja", "ar;q=0.5, fr", "ar"},
		{"", "de;q=0.1, en;q=0.9", "en"},
		{"%", "§", "en"},
		{"", "*", "en"},
	} {
		if got := Choose([]string{"en", "de", "ar"}, c.explicit, c.accept); got != c.want {
			t.Errorf("%q and %q give %s, want %s", c.explicit, c.accept, got, c.want)
		}
	}
}

func TestRichText(t *testing.T) {
	for source, want := range map[string]string{
		"plain":                     `[{"type":"paragraph","children":[{"type":"text","text":"plain"}]}]`,
		"a\nb":                      `[{"type":"paragraph","children":[{"type":"text","text":"a b"}]}]`,
		"# a *b* `c` <i>d</i> \\*e": `[{"type":"paragraph","children":[{"type":"text","text":"# a b ` + "`c`" + ` <i>d</i> *e"}]}]`,
		"**a** [b](https://c.de)":   `[{"type":"paragraph","children":[{"type":"strong","children":[{"type":"text","text":"a"}]},{"type":"text","text":" "},{"type":"link","href":"https://c.de","children":[{"type":"text","text":"b"}]}]}]`,
		"[a](javascript:x)":         `[{"type":"paragraph","children":[{"type":"text","text":"a"}]}]`,
		"[a](http://b.de)":          `[{"type":"paragraph","children":[{"type":"text","text":"a"}]}]`,
		"<mailto:a@b.de>":           `[{"type":"paragraph","children":[{"type":"link","href":"mailto:a@b.de","children":[{"type":"text","text":"mailto:a@b.de"}]}]}]`,
		"- a\n- b":                  `[{"type":"list","children":[{"type":"item","children":[{"type":"text","text":"a"}]},{"type":"item","children":[{"type":"text","text":"b"}]}]}]`,
	} {
		content, _ := ParseRichText(source)
		if got := marshal(t, content); got != want {
			t.Errorf("%q\n got %s\nwant %s", source, got, want)
		}
	}
	if _, plain := ParseRichText("A **b** [c](https://d.de).\n\n- e\n- f"); plain != "A b c.\n\n- e\n- f" {
		t.Errorf("in plain words %q", plain)
	}
}

func marshal(t testing.TB, v any) string {
	t.Helper()
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(b.String())
}

// FuzzRichText holds that no text makes a link that leads anywhere but to https and mailto.
func FuzzRichText(f *testing.F) {
	f.Add("[a](https://b.de) <javascript:x> **c**\n1. d\n")
	f.Fuzz(func(t *testing.T, source string) {
		content, _ := ParseRichText(source)
		var walk func([]RichText)
		walk = func(list []RichText) {
			for _, v := range list {
				if (v.Type == "link") != (v.Href != "") || v.Href != "" && !strings.HasPrefix(v.Href, "https://") && !strings.HasPrefix(v.Href, "mailto:") {
					t.Errorf("%q makes a link to %q", source, v.Href)
				}
				walk(v.Children)
			}
		}
		walk(content)
	})
}

func TestLint(t *testing.T) {
	s := formWorld(t, RuleSet{Reference: "r", Name: "R", Channels: []string{"email"}})
	good, _ := s.Template("t")
	option := func(edit func(*BlockOption)) Template {
		o := good.Blocks[0].Options[0]
		edit(&o)
		return Template{Reference: "t", Name: "T", PrivacyPolicy: "pp", Blocks: []Block{{Type: PermissionsBlock, Statement: "s", Options: []BlockOption{o}}}}
	}
	card := func(on, off string) Template {
		return option(func(o *BlockOption) {
			o.Card = &ValueCard{Localised{"en": on, "de": on}, Localised{"en": off, "de": off}}
		})
	}
	for name, c := range map[string]struct {
		template Template
		want     string
	}{
		"nothing":     {option(func(*BlockOption) {}), ""},
		"translation": {option(func(o *BlockOption) { o.Description = Localised{"en": "About"} }), "warning missing-translation blocks[0].options[0].description"},
		"no label":    {option(func(o *BlockOption) { o.Label = nil }), "warning missing-translation blocks[0].options[0].label"},
		"negative":    {option(func(o *BlockOption) { o.Label = Localised{"en": "Do not miss out", "de": "Rundbrief"} }), "warning negative-wording blocks[0].options[0].label"},
		"German":      {option(func(o *BlockOption) { o.Label = Localised{"en": "News", "de": "Nichts verpassen!"} }), "warning negative-wording blocks[0].options[0].label"},
		"fair card":   {card("We write to you.", "We do not write"), ""},
		"longer":      {card("We write.", "We will not write to you at all."), "warning off-longer blocks[0].options[0].card.off,warning off-longer blocks[0].options[0].card.off"},
		"negative card": {
			option(func(o *BlockOption) {
				o.Card = &ValueCard{Localised{"en": "We write to you weekly.", "de": "Wir schreiben wöchentlich."}, Localised{"en": "You lose the news.", "de": "Wir schreiben nicht."}}
			}), "warning negative-wording blocks[0].options[0].card.off",
		},
		"unreachable": {option(func(o *BlockOption) { o.Option = "o1" }), "hint unreachable-option blocks[0].options[0],warning missing-translation channels.sms.label"},
		"archived":    {option(func(o *BlockOption) { o.Option = "gone" }), "error invalid blocks[0].options[0].option"},
		"twice":       {Template{Reference: "t", Name: "T", PrivacyPolicy: "pp", Blocks: []Block{{Type: PermissionsBlock, Statement: "s", Options: []BlockOption{good.Blocks[0].Options[0], good.Blocks[0].Options[0]}}}}, "error duplicate-option blocks[0].options[1]"},
		"no policy":   {Template{Reference: "t", Name: "T", Blocks: []Block{{Type: MultiChoiceBlock, Preference: "topics"}}}, "warning no-policy privacyPolicy"},
		"no statement": {
			Template{Reference: "t", Name: "T", PrivacyPolicy: "pp", Blocks: []Block{{Type: PermissionsBlock}}},
			"error invalid blocks[0].statement,error no-statement blocks[0].statement",
		},
	} {
		var got []string
		for _, f := range s.Lint(c.template) {
			got = append(got, fmt.Sprintf("%s %s %s", f.Severity, f.Rule, f.Location))
		}
		if strings.Join(got, ",") != c.want {
			t.Errorf("%s: found %v, want %s", name, got, c.want)
		}
	}
}

// Topics and columns of a preference centre have names of their own, in every language.
func TestLintOfTheNamesOfTopics(t *testing.T) {
	s := formWorld(t)
	whole, _ := s.Template("t")
	one := whole.Template
	one.Blocks = []Block{{Type: PermissionsBlock, Statement: "s", Options: whole.Blocks[0].Options[:1]}} // by email alone
	for name, c := range map[string]struct {
		template Template
		purpose  Localised
		want     string
	}{
		"named":                {one, Localised{"en": "Offers", "de": "Angebote"}, ""},
		"without a label":      {one, nil, `purposes.u.label There is no text in de: preference centres show "U".`},
		"in English alone":     {one, Localised{"en": "Offers"}, `purposes.u.label There is no text in de: preference centres show "Offers".`},
		"without a language":   {one, Localised{"": "Offers"}, `purposes.u.label There is no text in de: preference centres show "Offers".`},
		"in German alone":      {one, Localised{"de": "Angebote"}, `purposes.u.label There is no text in en: preference centres show "Angebote".`},
		"of what it uses, too": {whole.Template, Localised{"en": "Offers", "de": "Angebote"}, `channels.sms.label There is no text in de: preference centres show "S".`},
	} {
		s.Catalogue.Purposes[0].Label = c.purpose
		var got []string
		for _, f := range s.Lint(c.template) {
			if f.Rule == RuleTranslation {
				got = append(got, f.Location+" "+f.Message)
			}
		}
		if strings.Join(got, ",") != c.want {
			t.Errorf("%s: found %v, want %s", name, got, c.want)
		}
	}
}

func TestContrast(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want string
	}{{"#000000", "#ffffff", "21.00"}, {"#ffffff", "#FFFFFF", "1.00"}, {"#0a5c6b", "#ffffff", "7.62"}, {"#5a6967", "#ffffff", "5.75"}, {"red", "#ffffff", "0.00"}} {
		if got := fmt.Sprintf("%.2f", Contrast(c.a, c.b)); got != c.want {
			t.Errorf("%s on %s: %s, want %s", c.a, c.b, got, c.want)
		}
	}
}

// choiceWorld is a catalogue with a single and a multiple choice.
func choiceWorld(t testing.TB) *Snapshot {
	t.Helper()
	c := Catalogue{Application: ApplicationSettings{Name: "N", DefaultLocale: "en", Locales: []string{"en"}}}
	for kind, reference := range map[string]string{SingleChoice: "often", MultiChoice: "topics"} {
		p := Preference{Reference: reference, Kind: kind, Label: Localised{"en": "L"}}
		for _, choice := range []string{"a", "b", "c"} {
			p.Choices = append(p.Choices, Choice{choice, Localised{"en": choice}})
		}
		c.Preferences = append(c.Preferences, p)
	}
	c.Templates = []Template{{Reference: "t", Name: "T", Blocks: []Block{{Type: SingleChoiceBlock, Preference: "often"}, {Type: MultiChoiceBlock, Preference: "topics"}}}}
	if err := c.Check(); err != nil {
		t.Fatal(err)
	}
	items, err := c.Items()
	if err != nil {
		t.Fatal(err)
	}
	var revisions []Revision
	for i, it := range items {
		revisions = append(revisions, Revision{Item: it, ID: cmp.Or(it.Key, "x"), Revision: 1, Position: i})
	}
	s, err := NewSnapshot("n", 1, 1, revisions)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// A single choice is told by selectedChoice alone, null where there is none; each of a
// multiple choice says for itself whether it is selected.
func TestAFormSaysASingleChoiceOnce(t *testing.T) {
	snap := choiceWorld(t)
	template, _ := snap.Template("t")
	answered := &Projection{}
	answered.Answer(Submission{Evidence{RecordedAt: 1, ObtainedAt: 1}, Answer{Preference: "often", Choices: []Chosen{{"b", "b"}}}})
	answered.Answer(Submission{Evidence{RecordedAt: 1, ObtainedAt: 1}, Answer{Preference: "topics", Choices: []Chosen{{"b", "b"}}}})
	for _, c := range []struct {
		state    *Projection
		one, two string
	}{
		{nil, `null`, `false`},
		{answered, `"b"`, `true`},
	} {
		f, _ := snap.Form(FormQuestion{Template: template, Locale: "en", State: c.state})
		got, err := json.Marshal(f.Blocks)
		want := `[{"type":"single-choice-preference","reference":"often","label":"L","selectedChoice":` + c.one + `,"choices":[{"reference":"a","label":"a"},{"reference":"b","label":"b"},{"reference":"c","label":"c"}]},` +
			`{"type":"multi-choice-preference","reference":"topics","label":"L","choices":[{"reference":"a","label":"a","selected":false},{"reference":"b","label":"b","selected":` + c.two + `},{"reference":"c","label":"c","selected":false}]}]`
		var g, w any
		if err != nil || json.Unmarshal(got, &g) != nil || json.Unmarshal([]byte(want), &w) != nil || !gocmp.Equal(g, w) {
			t.Errorf("%v: %s, want %s", err, got, want)
		}
	}
}

// What a form says of a single choice, twice, against what stands: the one that was
// changed counts, and where that would lose something it is refused.
func TestTwoWaysToSayASingleChoice(t *testing.T) {
	snap := choiceWorld(t)
	const null, out = "null", "" // selectedChoice is null, or left out
	for _, c := range []struct{ stands, one, many, want string }{
		{"", out, "", "-"},
		{"", out, "a", "a"},
		{"", null, "", "-"},
		{"", null, "a", "refused"},
		{"", "a", "", "a"},
		{"", "a", "a", "a"},
		{"", "a", "b", "refused"},
		{"a", out, "", "-"},
		{"a", out, "a", "a"},
		{"a", out, "b", "b"},
		{"a", null, "", "-"},
		{"a", null, "a", "-"},
		{"a", null, "b", "refused"},
		{"a", "a", "", "a"},
		{"a", "a", "a", "a"},
		{"a", "a", "b", "refused"},
		{"a", "a", "ab", "refused"},
		{"a", "b", "", "b"},
		{"a", "b", "a", "b"},
		{"a", "b", "b", "b"},
		{"a", "b", "c", "b"}, // what stands was changed by somebody else meanwhile
	} {
		p := &Projection{}
		if c.stands != "" {
			p.Answer(Submission{Evidence{RecordedAt: 1, ObtainedAt: 1}, Answer{Preference: "often", Choices: []Chosen{{c.stands, c.stands}}}})
		}
		for _, kind := range []string{SingleChoiceBlock, MultiChoiceBlock} { // the preference's own kind rules
			b := FormBlock{Type: kind, Reference: "often", NullChoice: c.one == null}
			if c.one != out && c.one != null {
				b.SelectedChoice = &c.one
			}
			for _, reference := range []string{"a", "b", "c"} {
				b.Choices = append(b.Choices, FormChoice{Reference: reference, Selected: strings.Contains(c.many, reference)})
			}
			var faults Faults
			answers := snap.ResolveForm(Form{Blocks: []FormBlock{b}}, nil, false, &faults)
			answers.Agree(p, &faults)
			got := "-"
			switch {
			case len(faults) == 1 && faults.At("blocks[0].choices"):
				got = "refused"
			case faults != nil:
				got = fmt.Sprint(faults)
			case len(answers.Answers) == 1 && len(answers.Answers[0].Choices) == 1:
				got = answers.Answers[0].Choices[0].Reference
			case answers.Answers != nil:
				got = fmt.Sprint(answers.Answers)
			}
			if got != c.want {
				t.Errorf("%q stands, selectedChoice %q, the choices say %q: %s, want %s", c.stands, c.one, c.many, got, c.want)
			}
		}
	}
}
