package consent

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	codec "github.com/go-json-experiment/json"
	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// The rules in readable cases: testdata/rules, whose README says how to write one.

// caseFile is one file of cases.
type caseFile struct {
	Catalogue string      `json:"catalogue"` // the file beside it that holds the catalogue
	Cases     []rulesCase `json:"cases"`
}

type rulesCase struct {
	Name      string        `json:"name"`
	Catalogue string        `json:"catalogue"` // in place of the file's
	History   []caseRecord  `json:"history"`
	Expect    []expectation `json:"expect"`
	Explain   []explanation `json:"explain"`
}

// caseRecord is one record, in the order of arrival: a transaction of one change or
// several, the reversion of one, answers to preferences, an entry of the do-not-contact
// list; or, which records nothing, new members of groups.
type caseRecord struct {
	Recorded moment `json:"recorded"`
	Obtained moment `json:"obtained"`
	By       string `json:"by"` // citizen: the person in person
	Label    string `json:"label"`
	caseChange
	Changes     []caseChange        `json:"changes"`
	Revert      string              `json:"revert"`
	Preferences []caseAnswer        `json:"preferences"`
	Suppress    string              `json:"suppress"`
	Lift        string              `json:"lift"`
	Members     map[string][]string `json:"members"`
	Refused     []string            `json:"refused"` // the places of all faults
	Warned      []string            `json:"warned"`  // the places of all warnings
}

type caseChange struct {
	Option string        `json:"option"`
	Group  string        `json:"group"`
	Basis  Justification `json:"basis"`
	State  State         `json:"state"`
	From   moment        `json:"from"`
	Until  moment        `json:"until"`
}

type caseAnswer struct {
	Preference string   `json:"preference"`
	Choices    []string `json:"choices"`
}

// question is when something is asked, and of what: on a day, of what has been
// recorded by then; or in hindsight, as of an instant, as known at one, or both.
type question struct {
	On      wholeDay `json:"on"`
	AsOf    wholeDay `json:"asOf"`
	KnownAt wholeDay `json:"knownAt"`
}

// expectation is everything that applies: what it does not name must not be there.
type expectation struct {
	question
	Pending     []string
	Preferences map[string][]string
	Entries     map[string]expectedEntry // by option or group
}

// expectedEntry is a state, ceased or none; or that with more about the entry.
type expectedEntry struct {
	State  string        `json:"state"`
	Basis  Justification `json:"basis"`
	Record string        `json:"record"` // the label of the record that it names
	Until  moment        `json:"until"`
}

// explanation is every candidate of one option or group with its fate, in order.
type explanation struct {
	question
	Option string         `json:"option"`
	Group  string         `json:"group"`
	Fates  []expectedFate `json:"fates"`
}

type expectedFate struct {
	Label string `json:"label"`
	Fate  Fate   `json:"fate"`
	Rule  int    `json:"rule"`
	By    string `json:"by"`    // the label of the record that displaced it
	Group string `json:"group"` // the group in whose name it was given
}

// moment is an instant; a bare date is its first moment.
type moment Instant

func (m *moment) UnmarshalJSON(b []byte) error { return (*Timestamp)(m).UnmarshalJSON(b) }

// wholeDay is an instant; a bare date is its last moment, when all of the day has
// happened.
type wholeDay Instant

func (w *wholeDay) UnmarshalJSON(b []byte) error {
	err := (*Timestamp)(w).UnmarshalJSON(b)
	if len(b) == len(`"2026-11-22"`) {
		*w += wholeDay(day) - 1
	}
	return err
}

func (e *expectation) UnmarshalJSON(b []byte) error {
	var rest map[string]json.RawMessage
	if err := json.Unmarshal(b, &rest); err != nil {
		return err
	}
	for key, into := range map[string]any{
		"on": &e.On, "asOf": &e.AsOf, "knownAt": &e.KnownAt, "pending": &e.Pending, "preferences": &e.Preferences,
	} {
		if raw, ok := rest[key]; ok {
			if err := strictJSON(raw, into); err != nil {
				return err
			}
			delete(rest, key)
		}
	}
	e.Entries = map[string]expectedEntry{}
	for key, raw := range rest {
		var entry expectedEntry
		if json.Unmarshal(raw, &entry.State) != nil {
			if err := strictJSON(raw, &entry); err != nil {
				return fmt.Errorf("%s: %w", key, err)
			}
		}
		e.Entries[key] = entry
	}
	return nil
}

func strictJSON(b []byte, into any) error {
	d := json.NewDecoder(strings.NewReader(string(b)))
	d.DisallowUnknownFields()
	return d.Decode(into)
}

func readCases(doc []byte) (f caseFile, err error) {
	asJSON, err := yaml.YAMLToJSON(doc)
	if err != nil {
		return f, err
	}
	return f, strictJSON(asJSON, &f)
}

func TestRules(t *testing.T) {
	files, err := filepath.Glob("testdata/rules/[0-9]*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	for _, name := range files {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".yaml"), func(t *testing.T) {
			doc, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			f, err := readCases(doc)
			if err != nil || len(f.Cases) == 0 {
				t.Fatalf("%d cases: %v", len(f.Cases), err)
			}
			for _, c := range f.Cases {
				t.Run(c.Name, func(t *testing.T) {
					if c.Catalogue == "" {
						c.Catalogue = f.Catalogue
					}
					c.run(t)
				})
			}
		})
	}
}

// What a case file may not say, lest a slip of the pen go unnoticed.
func TestCasesAreReadStrictly(t *testing.T) {
	for _, doc := range []string{
		"case: []",
		"cases: [{name: a, histories: []}]",
		"cases: [{name: a, history: [{recorded: 2026-03-01, options: a}]}]",
		"cases: [{name: a, history: [{recorded: yesterday}]}]",
		"cases: [{name: a, history: [{changes: [{option: a, status: GRANTED}]}]}]",
		"cases: [{name: a, expect: [{on: 2026-03-01, a: {status: GRANTED}}]}]",
		"cases: [{name: a, explain: [{option: a, at: 2026-03-01}]}]",
		"cases: [{name: a, explain: [{option: a, fates: [{label: a, reason: x}]}]}]",
	} {
		if _, err := readCases([]byte(doc)); err == nil {
			t.Errorf("%s is read", doc)
		}
	}
}

// run takes the history in as production does and asks every question of it, in every
// form in which a projection lives.
func (c *rulesCase) run(t *testing.T) {
	doc, err := os.ReadFile(filepath.Join("testdata/rules", c.Catalogue))
	if err != nil {
		t.Fatal(err)
	}
	b := book{catalogue: parseCatalogue(t, doc), labels: map[string]ID{}}
	for i, r := range c.History {
		b.enter(t, i, r)
	}
	if len(c.Expect)+len(c.Explain) == 0 && !slices.ContainsFunc(c.History, func(r caseRecord) bool { return r.Refused != nil }) {
		t.Error("the case expects nothing")
	}
	for _, e := range c.Expect {
		for form, p := range b.answering(t, e.question) {
			b.compare(t, form, e, p)
		}
	}
	for _, x := range c.Explain {
		b.compareFates(t, x)
	}
}

// book is the history of a case with the labels of its records.
type book struct {
	catalogue Catalogue
	records   []record
	labels    map[string]ID
	last      Instant
}

// enter records what a case says, unless it is refused.
func (b *book) enter(t *testing.T, i int, r caseRecord) {
	snap := index(t, b.catalogue)
	var faults Faults
	e := Evidence{ObtainedAt: Instant(r.Obtained), ByCitizen: r.By == "citizen"}
	e.ID[15] = byte(i + 1)
	if r.By != "" && !e.ByCitizen {
		t.Fatalf("record %d: nobody acts by %q", i+1, r.By)
	}
	CheckObtainedAt(e.ObtainedAt, Instant(r.Recorded), &faults)
	if r.caseChange != (caseChange{}) {
		r.Changes = append(r.Changes, r.caseChange)
	}
	changes := make([]Change, len(r.Changes))
	for k, c := range r.Changes {
		changes[k] = Change{OptionID: c.Option, Justification: c.Basis, State: c.State, ValidFrom: Instant(c.From), ValidUntil: Instant(c.Until)}
		if c.Group != "" {
			changes[k].OptionType, changes[k].OptionID = OptionGroup, c.Group
		}
	}
	answers := make([]Answer, len(r.Preferences))
	for k, a := range r.Preferences {
		answers[k].Preference = a.Preference
		for _, reference := range a.Choices {
			answers[k].Choices = append(answers[k].Choices, Chosen{Reference: reference})
		}
	}
	changes, warnings := snap.Resolve(changes, &faults)
	answers = snap.ResolveAnswers(answers, &faults)
	if places := places(faults); !slices.Equal(places, r.Refused) {
		t.Fatalf("record %d is refused at %q, not at %q: %v", i+1, places, r.Refused, faults)
	}
	if len(warnings) != len(r.Warned) || slices.ContainsFunc(warnings, func(w string) bool {
		return !slices.ContainsFunc(r.Warned, func(place string) bool { return strings.HasPrefix(w, place+" ") })
	}) {
		t.Fatalf("record %d has the warnings %q, not %q", i+1, warnings, r.Warned)
	}
	if len(faults) > 0 {
		return
	}
	for id, members := range r.Members {
		at := slices.IndexFunc(b.catalogue.OptionGroups, func(g OptionGroupItem) bool { return g.ID == id })
		if at < 0 {
			t.Fatalf("there is no group %q", id)
		}
		b.catalogue.OptionGroups = slices.Clone(b.catalogue.OptionGroups)
		b.catalogue.OptionGroups[at].Options = members
		return
	}
	switch {
	case len(changes) > 0 || r.Revert != "":
		tx := &Transaction{Evidence: e, Changes: changes}
		if r.Revert != "" {
			tx.Reverts = b.id(t, r.Revert)
		}
		tx.Stamp(Instant(r.Recorded), b.last)
		b.records = append(b.records, record{transaction: tx})
	case len(answers) > 0:
		for k, a := range answers { // each is a record of its own
			s := &Submission{e, a}
			s.ID[14] = byte(k)
			s.Stamp(Instant(r.Recorded), b.last)
			b.records, b.last = append(b.records, record{submission: s}), s.RecordedAt
		}
	case r.Suppress+r.Lift != "":
		e.Stamp(Instant(r.Recorded), b.last)
		s := &Suppression{e, r.Suppress + r.Lift, ID{}, r.Lift != ""}
		if !slices.ContainsFunc(b.catalogue.Channels, func(c Channel) bool { return c.ID == s.Medium }) {
			t.Fatalf("record %d: there is no channel %q", i+1, s.Medium)
		}
		b.records = append(b.records, record{suppression: s})
	default:
		t.Fatalf("record %d records nothing", i+1)
	}
	b.last = b.records[len(b.records)-1].evidence().RecordedAt
	if r.Label != "" {
		b.labels[r.Label] = e.ID
	}
}

func places(faults Faults) []string {
	var list []string
	for _, f := range faults {
		list = append(list, f.Location)
	}
	return list
}

func (b *book) id(t *testing.T, label string) ID {
	t.Helper()
	id, ok := b.labels[label]
	if !ok {
		t.Fatalf("no record is labelled %q", label)
	}
	return id
}

// at is the instant that a question is about.
func (q *question) at() Instant {
	for _, t := range []wholeDay{q.On, q.AsOf, q.KnownAt} {
		if t != 0 {
			return Instant(t)
		}
	}
	return 0
}

// known gives the records that a question may know of.
func (b *book) known(t *testing.T, q question) []record {
	t.Helper()
	if (q.On == 0) == (q.AsOf == 0 && q.KnownAt == 0) {
		t.Fatal("a question is asked either on a day or asOf and knownAt others")
	}
	limit := Instant(q.On + q.KnownAt)
	if limit == 0 {
		return b.records
	}
	return slices.DeleteFunc(slices.Clone(b.records), func(r record) bool { return r.evidence().RecordedAt > limit })
}

// answering gives the projections that answer a question, by the form in which they
// are kept: they must agree.
func (b *book) answering(t *testing.T, q question) map[string]*Projection {
	t.Helper()
	known := b.known(t, q)
	whole := fold(known)
	if q.On == 0 {
		if q.AsOf != 0 {
			whole = whole.AsOf(q.at())
		}
		return map[string]*Projection{"the whole": whole, "the whole, stored": stow(t, whole)}
	}
	var pruned, kept keeper
	for i, r := range known {
		pruned.take(known[:i], r)
		kept.take(known[:i], r)
		kept.projection = *stow(t, &kept.projection)
	}
	kept.catchUp(q.at())
	return map[string]*Projection{
		"the whole": whole, "the pruned": &pruned.projection, "the pruned, stored": stow(t, &kept.projection), "the whole, stored": stow(t, whole),
	}
}

// stow gives what comes back from the store.
func stow(t rapid.TB, p *Projection) *Projection {
	raw, err := codec.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	var q Projection
	if err := codec.Unmarshal(raw, &q); err != nil {
		t.Fatal(err)
	}
	return &q
}

// key gives what an id of a case means.
func (b *book) key(t *testing.T, id string) Key {
	t.Helper()
	if slices.ContainsFunc(b.catalogue.Options, func(o Option) bool { return o.ID == id }) {
		return Key{OptionSingle, id}
	}
	if !slices.ContainsFunc(b.catalogue.OptionGroups, func(g OptionGroupItem) bool { return g.ID == id }) {
		t.Fatalf("%q is neither an option nor a group", id)
	}
	return Key{OptionGroup, id}
}

func (b *book) compare(t *testing.T, form string, want expectation, p *Projection) {
	t.Helper()
	at := want.at()
	full := p.FullState(at)
	entries := map[Key]Permission{}
	for _, e := range full.Permissions {
		entries[e.key()] = e
	}
	for id, w := range want.Entries {
		key := b.key(t, id)
		e, ok := entries[key]
		delete(entries, key)
		state := string(e.State)
		switch {
		case !ok:
			state = "none"
		case state == "":
			state = "ceased"
		}
		if state != w.State {
			t.Errorf("at %s, %s says of %s: %s, want %s", at, form, id, state, w.State)
		}
		if w.Basis != "" && e.Justification != w.Basis {
			t.Errorf("at %s, %s says of %s: on %s, want %s", at, form, id, e.Justification, w.Basis)
		}
		if w.Record != "" && e.TransactionID != b.id(t, w.Record) {
			t.Errorf("at %s, %s says of %s: by record %d, want %s", at, form, id, e.TransactionID[15], w.Record)
		}
		if w.Until != 0 && e.ValidUntil != Timestamp(w.Until) {
			t.Errorf("at %s, %s says of %s: until %s, want %s", at, form, id, Instant(e.ValidUntil), Instant(w.Until))
		}
	}
	for k, e := range entries {
		t.Errorf("at %s, %s says of %s, too: %q", at, form, k.ID, e.State)
	}
	var pending []string
	for _, e := range p.Pending(at) {
		pending = append(pending, e.OptionID)
	}
	if !slices.Equal(pending, want.Pending) {
		t.Errorf("at %s, %s says of pending: %q, want %q", at, form, pending, want.Pending)
	}
	chosen := map[string][]string{}
	for _, a := range full.Preferences {
		chosen[a.Preference] = []string{}
		for _, c := range a.Choices {
			chosen[a.Preference] = append(chosen[a.Preference], c.Reference)
		}
	}
	if !maps.EqualFunc(chosen, want.Preferences, slices.Equal) {
		t.Errorf("at %s, %s says of preferences: %q, want %q", at, form, chosen, want.Preferences)
	}
}

func (b *book) compareFates(t *testing.T, want explanation) {
	t.Helper()
	key := b.key(t, want.Option+want.Group)
	var got []expectedFate
	for _, x := range fold(b.known(t, want.question)).Explain(key.ID, want.at(), want.AsOf != 0) {
		if x.Key != key {
			continue
		}
		for _, w := range x.Candidates {
			got = append(got, expectedFate{b.label(w.TransactionID), w.Fate, w.Rule, b.label(w.By), string(w.Group)})
		}
	}
	if !slices.Equal(got, want.Fates) {
		t.Errorf("at %s the fates of %s are\n%+v, want\n%+v", want.at(), key.ID, got, want.Fates)
	}
}

func (b *book) label(id ID) string {
	for label, known := range b.labels {
		if known == id {
			return label
		}
	}
	if id.IsZero() {
		return ""
	}
	return fmt.Sprintf("record %d", id[15])
}

// record is one record of a ledger.
type record struct {
	transaction *Transaction
	submission  *Submission
	suppression *Suppression
}

func (r record) evidence() *Evidence {
	switch {
	case r.transaction != nil:
		return &r.transaction.Evidence
	case r.submission != nil:
		return &r.submission.Evidence
	}
	return &r.suppression.Evidence
}

func (r record) addTo(p *Projection) {
	switch {
	case r.transaction != nil:
		p.Add(*r.transaction)
	case r.submission != nil:
		p.Answer(*r.submission)
	default:
		p.Suppress(*r.suppression)
	}
}

// fold gives the projection of a whole ledger, pruned of nothing.
func fold(records []record) *Projection {
	p := &Projection{}
	for _, r := range records {
		r.addTo(p)
	}
	return p
}

// keeper keeps a projection as the store does: pruned at every record and whenever time
// alone changes it.
type keeper struct {
	projection Projection
	next       Instant // of the changes by time
}

func (k *keeper) catchUp(now Instant) {
	for k.next != 0 && k.next <= now {
		k.prune(k.next)
	}
}

func (k *keeper) prune(at Instant) {
	k.projection.Prune(at)
	k.next = k.projection.NextChange(at)
}

// take takes in the record after those before it. A reversion is folded from the whole
// history: see Projection.Add.
func (k *keeper) take(before []record, r record) {
	now := r.evidence().RecordedAt
	k.catchUp(now)
	if r.transaction != nil && !r.transaction.Reverts.IsZero() {
		k.projection = *fold(before)
	}
	r.addTo(&k.projection)
	k.prune(now)
}

const day = Instant(24 * 60 * 60 * 1e6)

func d(n int) Instant { return Instant(n+1) * day }

func TestThroughout(t *testing.T) {
	p := season()
	for _, c := range []struct {
		start, end int
		want       int
	}{{5, 9, 1}, {4, 9, 0}, {5, 10, 0}, {6, 7, 1}} {
		if got := p.Throughout(d(c.start), d(c.end)); len(got) != c.want {
			t.Errorf("from day %d to %d: %d entries, want %d", c.start, c.end, len(got), c.want)
		}
	}
	p.Add(Transaction{Evidence: Evidence{ID: ID{1}, RecordedAt: d(8), ObtainedAt: d(8)}, Changes: []Change{{OptionType: OptionSingle, OptionID: "o", Justification: Consent, State: Denied}}})
	for end, want := range map[int]int{7: 1, 8: 0} {
		if got := p.Throughout(d(6), d(end)); len(got) != want {
			t.Errorf("refused on day 8, from day 6 to %d: %d entries, want %d", end, len(got), want)
		}
	}
}

func TestLatest(t *testing.T) {
	p := season()
	for at, want := range map[int][]bool{4: nil, 6: {false}, 11: {true}} {
		list, expired := p.Latest(d(at))
		if fmt.Sprint(expired) != fmt.Sprint(want) || len(list) != len(want) || len(list) > 0 && list[0].State != Granted {
			t.Errorf("on day %d: %v, expired %v", at, list, expired)
		}
	}
}

// season is a grant from day 5 to day 10.
func season() *Projection {
	p := &Projection{}
	tx := Transaction{Evidence: Evidence{ObtainedAt: d(2)}, Changes: []Change{{OptionType: OptionSingle, OptionID: "o", Justification: Consent, State: Granted, ValidFrom: d(5), ValidUntil: d(10)}}}
	tx.Stamp(d(3), 0)
	p.Add(tx)
	return p
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

func snapshot(t *testing.T) *Snapshot { return index(t, parseCatalogue(t, []byte(catalogue))) }

func parseCatalogue(t rapid.TB, doc []byte) Catalogue {
	t.Helper()
	c, err := ParseCatalogue(doc)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Check(); err != nil {
		t.Fatalf("%v %v", err, fieldsOf(err))
	}
	return c
}

func index(t rapid.TB, c Catalogue) *Snapshot {
	t.Helper()
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
		{OptionID: "newsletter-email", Justification: LegitimateInterest, State: Objected},
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
	if c := resolved[4]; c.State != Objected || !c.Upheld {
		t.Errorf("an objection is recorded as %s, upheld %v", c.State, c.Upheld)
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
privacyPolicies: [{reference: p, name: P, versions: []}, {reference: u, name: "", versions: [{version: "1", url: "javascript:x"}, {version: "1", url: /here}]}]
permissionStatements: [{reference: s, text: {}}]
ruleSets: [{reference: r, name: R, expiresWithin: soon, maxOptions: 0, hideStates: [NONE, OFF, NONE], channels: [q], mandatoryPreferences: [x, x]}]
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
		"privacyPolicies[1].name", "privacyPolicies[1].versions[0].url", "privacyPolicies[1].versions[1].version", "privacyPolicies[1].versions[1].url",
		"ruleSets[0].expiresWithin", "ruleSets[0].maxOptions", "ruleSets[0].hideStates[1]", "ruleSets[0].hideStates[2]", "ruleSets[0].channels[0]",
		"ruleSets[0].mandatoryPreferences[0]",
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

func TestCatalogueComesApartAndTogether(t *testing.T) {
	c, err := ParseCatalogue([]byte(catalogue + `
ruleSets: [{reference: nudge, name: N, maxOptions: 2, hideStates: [NONE, GRANTED], channels: [email]}]
`))
	if err != nil || c.Check() != nil {
		t.Fatal(err, c.Check())
	}
	items, err := c.Items()
	if err != nil {
		t.Fatal(err)
	}
	again, err := Assemble(items)
	if diff := cmp.Diff(c, again); err != nil || diff != "" {
		t.Errorf("%v (-before +after):\n%s", err, diff)
	}
	for i, it := range items[1:] {
		var fields Fields
		if err := json.Unmarshal(it.Body, &fields); err != nil {
			t.Fatal(err)
		}
		fields["unknown"], fields["NAME"] = json.RawMessage("5"), json.RawMessage("{}")
		if made, err := NewItem(it.Kind, fields); err != nil || !cmp.Equal(made, it) {
			t.Errorf("made of its fields, %s is %s: %v", it.Body, made.Body, err)
		}
		list, ok := listOfKind(it.Kind)
		place := 0
		for i > place && items[i-place].Kind == it.Kind {
			place++
		}
		if kind, key, within := c.Locate(fmt.Sprintf("%s[%d].a[2].b", list.name, place)); !ok || kind != it.Kind || key != it.Key || within != "a[2].b" {
			t.Errorf("place %d of %s is %s %s %s", place, list.name, kind, key, within)
		}
	}
	if kind, key, within := c.Locate("application.locales[0]"); kind != KindApplication || key != "" || within != "locales[0]" {
		t.Errorf("%s %s %s", kind, key, within)
	}
	if _, err := Assemble([]Item{{Kind: "nothing", Body: []byte("{}")}}); err == nil {
		t.Error("an unknown kind is taken")
	}
}

func TestOnlySoManyFaultsAreSaid(t *testing.T) {
	c := Catalogue{Options: make([]Option, 100_000)}
	if n := len(c.Faults(nil)); n != maxFaults {
		t.Errorf("%d faults", n)
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
