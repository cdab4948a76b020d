package consent

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

// day is the unit of the cases below: d3 is three days after the first.
const day = Instant(24 * 60 * 60 * 1e6)

func d(n int) Instant { return Instant(n+1) * day }

// answer is one record of a case: recorded on a day, perhaps obtained on another.
type answer struct {
	recorded  int
	obtained  int // 0: when recorded
	state     State
	basis     Justification
	from      int
	until     int
	byCitizen bool
}

func project(answers []answer) *Projection {
	p := &Projection{}
	var last Instant
	for i, a := range answers {
		tx := Transaction{Evidence: Evidence{ByCitizen: a.byCitizen}}
		tx.ID[15] = byte(i + 1)
		if a.obtained != 0 {
			tx.ObtainedAt = d(a.obtained)
		}
		tx.Stamp(d(a.recorded), last)
		last = tx.RecordedAt
		c := Change{OptionType: OptionSingle, OptionID: "o", Justification: a.basis, State: a.state}
		if c.Justification == "" {
			c.Justification = Consent
			if a.state == Claimed || a.state == Objected || a.state == ObjectionUpheld {
				c.Justification = LegitimateInterest
			}
		}
		if a.from != 0 {
			c.ValidFrom = d(a.from)
		}
		if a.until != 0 {
			c.ValidUntil = d(a.until)
		}
		tx.Changes = []Change{c}
		p.Add(tx)
		p.Prune(tx.RecordedAt)
	}
	return p
}

// The cases that a lawyer would ask about: records in the order in which they
// reached us, and what applies on which day.
func TestWhichChangeWins(t *testing.T) {
	for _, c := range []struct {
		rule    string
		name    string
		answers []answer
		want    map[int]State // by day; "" for nothing
	}{
		{"1", "nothing recorded", nil, map[int]State{1: ""}},
		{"1", "a grant applies from when it is recorded", []answer{{recorded: 5, state: Granted}}, map[int]State{5: Granted, 900: Granted}},
		{"1", "a grant with a start in the future", []answer{{recorded: 5, state: Granted, from: 10}}, map[int]State{5: "", 9: "", 10: Granted}},
		{"1", "the end is exclusive", []answer{{recorded: 5, state: Granted, until: 10}}, map[int]State{9: Granted, 10: ""}},
		{"1", "an expired grant lets an older one speak again", []answer{{recorded: 1, state: Granted, until: 90}, {recorded: 5, state: Granted, basis: Consent, until: 10}}, map[int]State{9: Granted, 11: Granted, 90: ""}},
		{"1", "an expired claim lets an older grant speak again", []answer{{recorded: 1, state: Granted}, {recorded: 5, state: Claimed, until: 10}}, map[int]State{9: Claimed, 10: Granted}},
		{"2", "the latest obtainedAt wins", []answer{{recorded: 1, state: Granted}, {recorded: 5, state: Denied}}, map[int]State{6: Denied}},
		{"2", "a change of mind back", []answer{{recorded: 1, state: Denied}, {recorded: 5, state: Granted}}, map[int]State{6: Granted}},
		{"2", "equal obtainedAt: the later record wins", []answer{{recorded: 7, obtained: 3, state: Granted}, {recorded: 8, obtained: 3, state: Denied}}, map[int]State{9: Denied}},
		{"3", "a late import of an old form does not overturn a newer withdrawal", []answer{{recorded: 5, state: Denied}, {recorded: 6, obtained: 2, state: Granted}}, map[int]State{7: Denied}},
		{"3", "a late import of a newer refusal does overturn", []answer{{recorded: 5, obtained: 2, state: Granted}, {recorded: 6, obtained: 4, state: Denied}}, map[int]State{7: Denied}},
		{"3", "a clock that runs fast cannot beat a withdrawal made meanwhile", []answer{{recorded: 5, obtained: 9, state: Granted}, {recorded: 6, state: Denied}}, map[int]State{7: Denied, 10: Denied}},
		{"4", "a refusal has no end", []answer{{recorded: 5, state: Denied, until: 6}}, map[int]State{5: Denied, 500: Denied}},
		{"4", "an objection has no end", []answer{{recorded: 5, state: ObjectionUpheld, until: 6}}, map[int]State{500: ObjectionUpheld}},
		{"4", "when a later grant expires the refusal stands again", []answer{{recorded: 1, state: Denied}, {recorded: 5, state: Granted, until: 10}}, map[int]State{9: Granted, 10: Denied}},
		{"4", "nothing older than a refusal comes back", []answer{{recorded: 1, state: Granted}, {recorded: 3, state: Denied}, {recorded: 5, state: Granted, until: 10}}, map[int]State{9: Granted, 10: Denied}},
		{"4", "an older grant that arrives late stays dropped", []answer{{recorded: 3, state: Denied}, {recorded: 5, state: Granted, until: 10}, {recorded: 6, obtained: 2, state: Granted}}, map[int]State{9: Granted, 10: Denied}},
		{"4", "a refusal that starts in the future refuses from then on", []answer{{recorded: 1, state: Granted}, {recorded: 3, state: Denied, from: 8}}, map[int]State{7: Granted, 8: Denied}},
		{"5", "a nightly re-import does not undo an objection", []answer{{recorded: 1, state: Claimed}, {recorded: 3, state: ObjectionUpheld}, {recorded: 4, state: Claimed}, {recorded: 5, state: Claimed}}, map[int]State{6: ObjectionUpheld}},
		{"5", "a withdrawn consent does not become a legitimate interest", []answer{{recorded: 1, state: Granted}, {recorded: 3, state: Denied}, {recorded: 4, state: Claimed}}, map[int]State{5: Denied}},
		{"5", "nor one on contract", []answer{{recorded: 3, state: Denied}, {recorded: 4, state: Claimed, basis: Contract}}, map[int]State{5: Denied}},
		{"5", "the citizen's own claim does", []answer{{recorded: 3, state: ObjectionUpheld}, {recorded: 4, state: Claimed, byCitizen: true}}, map[int]State{5: Claimed}},
		{"5", "a grant does", []answer{{recorded: 3, state: ObjectionUpheld}, {recorded: 4, state: Granted}}, map[int]State{5: Granted}},
		{"5", "a claim after a grant that lifted the refusal", []answer{{recorded: 1, state: ObjectionUpheld}, {recorded: 2, state: Granted}, {recorded: 3, state: Claimed}}, map[int]State{4: Claimed}},
		{"5", "but not once that grant has ended", []answer{{recorded: 1, state: ObjectionUpheld}, {recorded: 2, state: Granted, until: 5}, {recorded: 3, state: Claimed}}, map[int]State{4: Claimed, 5: ObjectionUpheld}},
		{"5", "an objection that arrives late overrules the claims after it", []answer{{recorded: 5, state: Claimed}, {recorded: 6, obtained: 3, state: Objected}}, map[int]State{7: Objected}},
		{"6", "PENDING where nothing stands", []answer{{recorded: 1, state: Pending, until: 8}}, map[int]State{2: Pending, 8: ""}},
		{"6", "PENDING does not displace a grant", []answer{{recorded: 1, state: Granted}, {recorded: 2, state: Pending}}, map[int]State{3: Granted}},
		{"6", "PENDING does not displace a refusal", []answer{{recorded: 1, state: Denied}, {recorded: 2, state: Pending}}, map[int]State{3: Denied}},
		{"10", "the same state again is the newer evidence", []answer{{recorded: 1, state: Granted}, {recorded: 2, state: Granted}}, map[int]State{3: Granted}},
	} {
		t.Run(c.rule+" "+c.name, func(t *testing.T) {
			p := project(c.answers)
			for at, want := range c.want {
				got, _ := p.Entry(Key{OptionSingle, "o"}, d(at))
				if got.State != want {
					t.Errorf("on day %d: %q, want %q", at, got.State, want)
				}
			}
		})
	}
}

func TestNoOpChangesIdsAndTimesOnly(t *testing.T) {
	p := project([]answer{{recorded: 1, state: Granted}, {recorded: 2, state: Granted}})
	got, _ := p.Entry(Key{OptionSingle, "o"}, d(3))
	if got.TransactionID[15] != 2 || Instant(got.RecordedAt) != d(2) {
		t.Fatalf("the entry is still that of record %d", got.TransactionID[15])
	}
}

func TestPendingIsListedBesideWhatStands(t *testing.T) {
	p := project([]answer{{recorded: 1, state: Granted}, {recorded: 2, state: Pending, until: 9}})
	if list := p.Pending(d(3)); len(list) != 1 || list[0].State != Pending {
		t.Fatalf("pending: %v", list)
	}
	if list := p.Pending(d(9)); len(list) != 0 {
		t.Fatalf("pending after its end: %v", list)
	}
	confirmed := project([]answer{{recorded: 1, state: Pending, until: 9}, {recorded: 2, state: Granted}})
	if list := confirmed.Pending(d(3)); len(list) != 0 {
		t.Fatalf("pending after the confirmation: %v", list)
	}
}

func TestWhatCeasedIsListedWithoutState(t *testing.T) {
	p := project([]answer{{recorded: 1, state: Granted, until: 5}})
	if list := p.Effective(d(6)); len(list) != 0 {
		t.Fatalf("effective after the end: %v", list)
	}
	list := p.FullState(d(6)).Permissions
	if len(list) != 1 || list[0].State != "" || list[0].Justification != Consent || Instant(list[0].ValidUntil) != d(5) {
		t.Fatalf("ceased: %+v", list)
	}
	p.Prune(d(7))
	if again := p.FullState(d(8)).Permissions; len(again) != 1 {
		t.Fatal("the ceased entry is forgotten")
	}
	// What had ended before it reached us never was, so it does not cease.
	if list := project([]answer{{recorded: 9, obtained: 1, state: Granted, until: 5}}).FullState(d(9)).Permissions; len(list) != 0 {
		t.Fatalf("an old form that had expired: %v", list)
	}
}

func TestObjectionsAreUpheld(t *testing.T) {
	s := snapshot(t)
	for _, c := range []struct {
		options []string
		review  bool
		want    State
	}{
		{[]string{"newsletter-email"}, false, ObjectionUpheld},
		{[]string{"research-email"}, false, ObjectionUpheld},
		{[]string{"research-email"}, true, Objected},
		{[]string{"newsletter-email"}, true, ObjectionUpheld}, // direct marketing: absolute
	} {
		s.Catalogue.Application.ReviewObjections = c.review
		var faults Faults
		changes, _ := s.Resolve([]Change{{OptionID: c.options[0], Justification: LegitimateInterest, State: Objected}}, &faults)
		if len(faults) > 0 {
			t.Fatal(faults)
		}
		tx := Transaction{Evidence: Evidence{ID: ID{1}}, Changes: changes}
		tx.Stamp(d(1), 0)
		var p Projection
		p.Add(tx)
		got, _ := p.Entry(Key{OptionSingle, c.options[0]}, d(2))
		if got.State != c.want || got.TransactionID != tx.ID || tx.Changes[0].State != Objected {
			t.Errorf("%v, reviewed %v: %s stands and %s is recorded, want %s and OBJECTED", c.options, c.review, got.State, tx.Changes[0].State, c.want)
		}
	}
}

func TestThroughoutAndLatest(t *testing.T) {
	p := &Projection{}
	tx := Transaction{Evidence: Evidence{ObtainedAt: d(2)}, Changes: []Change{{OptionType: OptionSingle, OptionID: "o", Justification: Consent, State: Granted, ValidFrom: d(5), ValidUntil: d(10)}}}
	tx.Stamp(d(3), 0)
	p.Add(tx)
	for _, c := range []struct {
		start, end int
		want       int
	}{{5, 9, 1}, {4, 9, 0}, {5, 10, 0}, {6, 7, 1}} {
		if got := p.Throughout(d(c.start), d(c.end)); len(got) != c.want {
			t.Errorf("from day %d to %d: %d entries, want %d", c.start, c.end, len(got), c.want)
		}
	}
	for at, want := range map[int][]bool{4: nil, 6: {false}, 11: {true}} {
		list, expired := p.Latest(d(at))
		if fmt.Sprint(expired) != fmt.Sprint(want) || len(list) != len(want) || len(list) > 0 && list[0].State != Granted {
			t.Errorf("on day %d: %v, expired %v", at, list, expired)
		}
	}
}

const catalogue = `
application: {name: Northwind Retail, defaultLocale: en, locales: [en, de], reviewObjections: true}
parties:  [{id: northwind, name: Northwind Retail Ltd}]
purposes: [{id: newsletter, name: Newsletter, directMarketing: true}, {id: research, name: Customer research}]
channels: [{id: email, name: E-mail}]
options:
  - {id: newsletter-email, party: northwind, purpose: newsletter, channel: email, justifications: [{basis: consent, validFor: P2Y}, {basis: legitimate-interest}]}
  - {id: research-email, party: northwind, purpose: research, channel: email, justifications: [{basis: legitimate-interest, validFor: P1M}, {basis: consent}]}
optionGroups: [{id: all-email, name: Everything, options: [newsletter-email, research-email]}]
preferences:
  - {reference: interests, kind: multi-choice, label: Interests, choices: [{reference: jazz, label: Jazz}, {reference: rock, label: {en: Rock, de: Rock}}]}
privacyPolicies: [{reference: policy-01, name: Privacy policy, versions: [{version: "1", url: "https://example.com/privacy"}]}]
permissionStatements: [{reference: statement-01, text: {en: "We may write.", de: "Wir schreiben."}}]
templates:
  - reference: manage-all
    name: Everything
    privacyPolicy: policy-01
    blocks:
      - {type: permissions, statement: statement-01, options: [{option: newsletter-email, justification: consent, label: {en: Newsletter}}, {optionGroup: all-email, justification: consent}]}
      - {type: multi-choice-preference, preference: interests}
      - {type: text, text: {en: "You can change your mind."}}
`

func fieldsOf(err error) []FieldError {
	var e *Error
	if !errors.As(err, &e) {
		return nil
	}
	return e.Fields
}

func snapshot(t *testing.T) *Snapshot {
	t.Helper()
	c, err := ParseCatalogue([]byte(catalogue))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Check(); err != nil {
		t.Fatalf("%v %v", err, fieldsOf(err))
	}
	items, err := c.Items()
	if err != nil {
		t.Fatal(err)
	}
	var revisions []Revision
	for _, it := range items {
		revisions = append(revisions, Revision{Item: it, ID: it.Key, Revision: 1})
	}
	s, err := NewSnapshot("northwind", 1, 1, revisions)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// No illegal pair gets in: every state under every basis.
func TestLegalTable(t *testing.T) {
	legal := map[Justification]string{
		Consent: "GRANTED DENIED PENDING", LegitimateInterest: "CLAIMED OBJECTED OBJECTION_UPHELD",
		Contract: "CLAIMED", PublicInterest: "CLAIMED", VitalInterest: "CLAIMED", LegalObligation: "CLAIMED",
		"": "", "CONSENT": "", "marketing": "",
	}
	for basis, states := range legal {
		for _, state := range append([]State{"", "granted", "UNKNOWN"}, States...) {
			want := state != "" && strings.Contains(" "+states+" ", " "+string(state)+" ")
			if basis.Allows(state) != want {
				t.Errorf("%q under %q: %v", state, basis, !want)
			}
		}
	}
}

func TestResolve(t *testing.T) {
	s := snapshot(t)
	at := At(time.Date(2024, 2, 29, 12, 0, 0, 0, time.UTC))
	for _, c := range []struct {
		name   string
		change Change
		faults string // locations
	}{
		{"a legal change", Change{OptionID: "newsletter-email", Justification: Consent, State: Granted}, ""},
		{"an unknown option", Change{OptionID: "nothing", Justification: Consent, State: Granted}, "changes[0].optionId"},
		{"an unknown group", Change{OptionType: OptionGroup, OptionID: "newsletter-email", Justification: Consent, State: Granted}, "changes[0].optionId"},
		{"an unknown type", Change{OptionType: "choice", OptionID: "newsletter-email", Justification: Consent, State: Granted}, "changes[0].optionType"},
		{"a basis the option does not allow", Change{OptionID: "newsletter-email", Justification: Contract, State: Claimed}, "changes[0].justification"},
		{"a basis no member allows", Change{OptionType: OptionGroup, OptionID: "all-email", Justification: Contract, State: Claimed}, "changes[0].justification"},
		{"an illegal pair", Change{OptionID: "newsletter-email", Justification: Consent, State: Claimed}, "changes[0].state"},
		{"an unknown basis", Change{OptionID: "newsletter-email", Justification: "x", State: Granted}, "changes[0].justification"},
		{"an end before its start", Change{OptionID: "newsletter-email", Justification: Consent, State: Granted, ValidFrom: at, ValidUntil: at - 1}, "changes[0].validUntil"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var faults Faults
			s.Resolve([]Change{c.change}, &faults)
			var got []string
			for _, f := range faults {
				got = append(got, f.Location)
			}
			if strings.Join(got, " ") != c.faults {
				t.Errorf("faults at %q, want %q: %v", strings.Join(got, " "), c.faults, faults)
			}
		})
	}
	var faults Faults
	resolved, warnings := s.Resolve([]Change{
		{OptionID: "newsletter-email", Justification: Consent, State: Granted},
		{OptionID: "newsletter-email", Justification: Consent, State: Denied},
		{OptionID: "newsletter-email", Justification: Consent, State: Denied, ValidUntil: at + day},
		{OptionType: OptionGroup, OptionID: "all-email", Justification: LegitimateInterest, State: Claimed},
	}, &faults)
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	tx := Transaction{Evidence: Evidence{ObtainedAt: at}, Changes: resolved}
	tx.Stamp(at+day, 0)
	resolved = tx.Changes
	if got := resolved[0].ValidUntil.String(); got != "2026-03-01T12:00:00.000Z" {
		t.Errorf("two calendar years from 29 February end on %s", got)
	}
	if resolved[1].ValidUntil != 0 {
		t.Error("default validity was applied to a refusal")
	}
	if len(warnings) != 1 || !strings.Contains(warnings[0], "changes[2].validUntil") || resolved[2].ValidUntil != at+day {
		t.Errorf("warnings %q", warnings)
	}
	members := resolved[3].Covers
	if len(members) != 2 || members[0].OptionID != "newsletter-email" || members[0].ValidUntil != 0 ||
		members[1].OptionID != "research-email" || members[1].ValidUntil != At(time.Date(2024, 3, 29, 12, 0, 0, 0, time.UTC)) {
		t.Errorf("the group covers %+v", members)
	}
}

func TestCatalogueFaultsAreAllSaid(t *testing.T) {
	c, err := ParseCatalogue([]byte(`
application: {defaultLocale: fr, locales: [en, "??"]}
parties: [{id: a, name: A}, {id: a, name: B}]
options: [{id: o, party: x, purpose: y, channel: z, justifications: [{basis: consent, validFor: 2 years}, {basis: consent}, {basis: hope}]}, {id: p, party: a, purpose: y, channel: z, justifications: []}]
optionGroups: [{id: g, name: G, options: [o, o, q]}, {id: h, name: H, options: []}]
preferences: [{reference: "", kind: any, label: "", choices: []}]
privacyPolicies: [{reference: p, name: P, versions: []}]
permissionStatements: [{reference: s, text: {}}]
templates: [{reference: t, name: T, privacyPolicy: q, blocks: [{type: image}, {type: permissions, statement: q, options: [{option: o, justification: contract}, {justification: consent}]}]}]
`))
	if err != nil {
		t.Fatal(err)
	}
	err = c.Check()
	if KindOf(err) != Invalid {
		t.Fatal(err)
	}
	said := map[string]bool{}
	for _, f := range fieldsOf(err) {
		said[f.Location] = true
	}
	for _, want := range []string{
		"application.name", "application.locales[1]", "application.defaultLocale", "parties[1].id", "options[0].party", "options[0].purpose", "options[0].channel",
		"options[0].justifications[0].validFor", "options[0].justifications[1].basis", "options[0].justifications[2].basis", "options[1].justifications",
		"optionGroups[0].options[1]", "optionGroups[0].options[2]", "optionGroups[1].options", "preferences[0].reference", "preferences[0].kind",
		"preferences[0].choices", "preferences[0].label", "privacyPolicies[0].versions", "permissionStatements[0].text", "templates[0].privacyPolicy",
		"templates[0].blocks[0].type", "templates[0].blocks[1].statement", "templates[0].blocks[1].options[0].justification", "templates[0].blocks[1].options[1]",
	} {
		if !said[want] {
			t.Errorf("nothing is said of %s", want)
		}
	}
}

func TestCatalogueRefusesUnknownKeys(t *testing.T) {
	for _, doc := range []string{"application: {name: A}\npurpose: []", "{", "- a", "application: {name: A, name2: B}"} {
		if _, err := ParseCatalogue([]byte(doc)); KindOf(err) != Malformed {
			t.Errorf("%q: %v", doc, err)
		}
	}
}

func TestParseInstant(t *testing.T) {
	for s, want := range map[string]string{
		"2026-11-22T09:30:00Z": "2026-11-22T09:30:00.000Z", "2026-11-22T09:30:00.123456+02:00": "2026-11-22T07:30:00.123Z",
		"2026-11-22T09:30:00+0000": "2026-11-22T09:30:00.000Z", "2026-11-22": "2026-11-22T00:00:00.000Z", "1970-01-01T00:00:00Z": "1970-01-01T00:00:00.000Z",
	} {
		if got, err := ParseInstant(s); err != nil || got.String() != want {
			t.Errorf("%s is read as %s, %v", s, got, err)
		}
	}
	for _, s := range []string{"", "now", "2026-11-22T09:30:00", "22.11.2026", "1790000000", "2026-13-01", "10000-01-01T00:00:00Z", "0001-01-01T00:00:00Z", "1600-01-01"} {
		if got, err := ParseInstant(s); err == nil {
			t.Errorf("%q is read as %s", s, got)
		}
	}
}

func FuzzParseCatalogue(f *testing.F) {
	f.Add([]byte(catalogue))
	f.Add([]byte(`{"application":{"name":"x"},"options":[{"id":"o"}]}`))
	f.Fuzz(func(t *testing.T, doc []byte) {
		c, err := ParseCatalogue(doc)
		if err != nil || c.Check() != nil {
			return
		}
		again, err := c.YAML()
		if err != nil {
			t.Fatalf("a catalogue that holds together cannot be written: %v", err)
		}
		if _, err := ParseCatalogue(again); err != nil {
			t.Fatalf("what was written cannot be read: %v\n%s", err, again)
		}
	})
}

func FuzzParseInstant(f *testing.F) {
	f.Add("2026-11-22T09:30:00.5+01:00")
	f.Fuzz(func(t *testing.T, s string) {
		i, err := ParseInstant(s)
		if err != nil {
			return
		}
		if again, err := ParseInstant(i.String()); err != nil || again/1000 != i/1000 {
			t.Fatalf("%q is %s and then %s, %v", s, i, again, err)
		}
	})
}
