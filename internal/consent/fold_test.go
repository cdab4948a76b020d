package consent

import (
	"cmp"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"

	"pgregory.net/rapid"
)

// Random histories against a naive model: it keeps every answer and reads what applies
// at an instant off the rules of docs/rules.md one by one, without regard for cost.

// The catalogue of the random histories, in two revisions: in the second the option a
// is on another channel, members and default validities are others, and objections are
// reviewed by hand.
var revisions = []string{`
application: {name: Northwind Retail}
parties: [{id: northwind, name: Northwind}]
purposes: [{id: newsletter, name: Newsletter, directMarketing: true}, {id: research, name: Research}]
channels: [{id: email, name: E-mail}, {id: sms, name: SMS}]
options:
  - {id: a, party: northwind, purpose: newsletter, channel: email, justifications: [{basis: consent, validFor: PT30H}, {basis: legitimate-interest}, {basis: contract}]}
  - {id: b, party: northwind, purpose: research, channel: sms, justifications: [{basis: consent}, {basis: legitimate-interest, validFor: PT50H}]}
optionGroups: [{id: g, name: Both, options: [a, b]}, {id: h, name: One, options: [b]}]
preferences:
  - {reference: p, kind: multi-choice, label: P, choices: [{reference: x, label: X}, {reference: y, label: Y}]}
  - {reference: q, kind: single-choice, label: Q, choices: [{reference: x, label: X}]}
`, `
application: {name: Northwind Retail, reviewObjections: true}
parties: [{id: northwind, name: Northwind}]
purposes: [{id: newsletter, name: Newsletter, directMarketing: true}, {id: research, name: Research}]
channels: [{id: email, name: E-mail}, {id: sms, name: SMS}]
options:
  - {id: a, party: northwind, purpose: newsletter, channel: sms, justifications: [{basis: consent}, {basis: legitimate-interest, validFor: PT20H}]}
  - {id: b, party: northwind, purpose: research, channel: sms, justifications: [{basis: consent, validFor: PT40H}, {basis: legitimate-interest}, {basis: contract, validFor: PT10H}]}
optionGroups: [{id: g, name: One, options: [a]}, {id: h, name: Both, options: [a, b]}]
preferences:
  - {reference: p, kind: multi-choice, label: P, choices: [{reference: x, label: X}, {reference: y, label: Y}]}
  - {reference: q, kind: single-choice, label: Q, choices: [{reference: x, label: X}]}
`}

const hour = Instant(60 * 60 * 1e6)

// shop is the catalogue at one revision.
type shop struct {
	Catalogue
	*Snapshot
}

func shops(t *testing.T) []shop {
	t.Helper()
	var list []shop
	for _, doc := range revisions {
		c := parseCatalogue(t, []byte(doc))
		list = append(list, shop{c, index(t, c)})
	}
	return list
}

// fact is what reached us: a record before it is checked and stamped.
type fact struct {
	id         ID
	shop       shop    // as it was then
	now        Instant // when it arrived
	obtained   Instant // zero: not given
	byCitizen  bool
	changes    []Change // as sent
	reverts    ID
	preference string
	choices    []string
	medium     string
	lifted     bool
}

// record is the fact as production records it, after a record at last.
func (f *fact) record(t rapid.TB, last Instant) record {
	e := Evidence{ID: f.id, ObtainedAt: f.obtained, ByCitizen: f.byCitizen}
	var faults Faults
	switch {
	case f.preference != "":
		a := Answer{Preference: f.preference}
		for _, c := range f.choices {
			a.Choices = append(a.Choices, Chosen{Reference: c})
		}
		s := Submission{Evidence: e, Answer: f.shop.ResolveAnswers([]Answer{a}, &faults)[0]}
		s.Stamp(f.now, last)
		return record{submission: &s}
	case f.medium != "":
		s := Suppression{e, f.medium, e.ID, f.lifted}
		s.Stamp(f.now, last)
		return record{suppression: &s}
	}
	tx := Transaction{Evidence: e, Reverts: f.reverts}
	tx.Changes, _ = f.shop.Resolve(f.changes, &faults)
	if len(faults) > 0 {
		t.Fatalf("%v is refused: %v", f.changes, faults)
	}
	tx.Stamp(f.now, last)
	return record{transaction: &tx}
}

func records(t rapid.TB, facts []fact) []record {
	var list []record
	var last Instant
	for i := range facts {
		list = append(list, facts[i].record(t, last))
		last = list[i].evidence().RecordedAt
	}
	return list
}

var pairs = []struct {
	basis Justification
	state State
}{
	{Consent, Granted},
	{Consent, Denied},
	{Consent, Pending},
	{LegitimateInterest, Claimed},
	{LegitimateInterest, Objected},
	{LegitimateInterest, ObjectionUpheld},
	{Contract, Claimed},
	{Consent, Granted},
	{LegitimateInterest, Claimed},
}

// draw gives a random history in the order of arrival. Times lie on a grid of hours, so
// that ties and ends that meet beginnings are frequent.
func draw(t *rapid.T, shops []shop, most int) []fact {
	var facts []fact
	var revertible []ID
	now := 100 * hour
	for i := range rapid.IntRange(2, most).Draw(t, "records") {
		now += hour * Instant(rapid.IntRange(0, 15).Draw(t, "pause"))
		f := fact{shop: shops[rapid.IntRange(0, 1).Draw(t, "revision")], now: now}
		f.id[15] = byte(i + 1)
		if late := rapid.IntRange(-3, 40).Draw(t, "late by"); late < 30 {
			f.obtained = now - hour*Instant(late)
		}
		switch kind := rapid.IntRange(0, 19).Draw(t, "kind"); {
		case kind == 19:
			f.preference = rapid.SampledFrom([]string{"p", "q"}).Draw(t, "preference")
			f.choices = [][]string{nil, {"x"}}[i%2]
		case kind >= 16:
			f.medium, f.lifted = rapid.SampledFrom([]string{"email", "sms"}).Draw(t, "medium"), kind == 18
		case kind >= 14 && len(revertible) > 0:
			at := rapid.IntRange(0, len(revertible)-1).Draw(t, "reverts")
			f.reverts = revertible[at]
			revertible = slices.Delete(revertible, at, at+1)
		default:
			f.byCitizen = kind < 3
			f.changes = drawChanges(t, f.shop, now)
			revertible = append(revertible, f.id)
		}
		facts = append(facts, f)
	}
	return facts
}

// drawChanges gives what the catalogue allows of one or two random changes, and at
// least a refusal of the option a.
func drawChanges(t *rapid.T, s shop, now Instant) (list []Change) {
	for range rapid.IntRange(1, 2).Draw(t, "changes") {
		p := rapid.SampledFrom(pairs).Draw(t, "pair")
		c := Change{OptionType: OptionSingle, OptionID: rapid.SampledFrom([]string{"a", "a", "b", "g", "h"}).Draw(t, "option"), Justification: p.basis, State: p.state}
		if c.OptionID == "g" || c.OptionID == "h" {
			c.OptionType = OptionGroup
		}
		if start := rapid.IntRange(-40, 20).Draw(t, "from"); start > -20 {
			c.ValidFrom = now + hour*Instant(start)
		}
		if length := rapid.IntRange(-30, 40).Draw(t, "until"); length > 0 {
			c.ValidUntil = cmp.Or(c.ValidFrom, now-5*hour) + hour*Instant(length)
		}
		var faults Faults
		s.Resolve([]Change{c}, &faults)
		if len(faults) == 0 != permitted(s.Catalogue, c) {
			t.Fatalf("%v: the faults are %v, the model says otherwise", c, faults)
		}
		if len(faults) == 0 {
			list = append(list, c)
		}
	}
	if len(list) == 0 {
		list = []Change{{OptionType: OptionSingle, OptionID: "a", Justification: Consent, State: Denied}}
	}
	return list
}

// The model.

// said is one answer to one option or group.
type said struct {
	key                Key
	basis              Justification
	state              State
	from, until        Instant
	obtained, recorded Instant // obtained as it counts for the order
	byCitizen          bool
	id                 ID
	medium, via        string
	undone             Instant // when the reversion was recorded that undid it; zero: none
	undoneBy           ID
}

// listing is one preference answered or one entry of the do-not-contact list.
type listing struct {
	obtained, recorded Instant
	id                 ID
	choices            []string
	lifted             bool
}

// model is everything that is known, in the order of rules 2 and 3.
type model struct {
	said     map[Key][]*said
	answers  map[string][]*listing
	listed   map[string][]*listing
	instants []Instant // at which anything begins, ends or is recorded
	present  Instant   // the last record
}

func (s *said) refuses() bool {
	return s.state == Denied || s.state == Objected || s.state == ObjectionUpheld
}

// valid is the part of rules 1 and 4 about validity.
func (s *said) valid(t Instant) bool {
	return s.from <= t && (s.until == 0 || t < s.until || s.refuses())
}

func (s *said) plainClaim() bool { return s.state == Claimed && !s.byCitizen }

// lifts reports whether the answer ends a refusal before it for the claims after it
// (rule 5).
func (s *said) lifts() bool { return s.state == Granted || s.state == Claimed && s.byCitizen }

func (s *said) at() (obtained, recorded Instant)    { return s.obtained, s.recorded }
func (l *listing) at() (obtained, recorded Instant) { return l.obtained, l.recorded }

// inOrder puts what comes last in the order of rules 2 and 3 in its place; ties go to
// the later write.
func inOrder[T interface{ at() (Instant, Instant) }](list []T, v T) []T {
	list = append(list, v)
	slices.SortStableFunc(list, func(a, b T) int {
		ao, ar := a.at()
		bo, br := b.at()
		return cmp.Or(cmp.Compare(ao, bo), cmp.Compare(ar, br))
	})
	return list
}

func know(facts []fact) *model {
	m := &model{said: map[Key][]*said{}, answers: map[string][]*listing{}, listed: map[string][]*listing{}}
	bounds := map[Instant]bool{}
	for _, f := range facts {
		m.present = max(f.now, m.present+1) // rule 2
		obtained := cmp.Or(f.obtained, m.present)
		counts := min(obtained, m.present) // rule 3
		l := &listing{obtained: counts, recorded: m.present, id: f.id, choices: f.choices, lifted: f.lifted}
		bounds[m.present], bounds[counts] = true, true
		switch {
		case f.preference != "":
			m.answers[f.preference] = inOrder(m.answers[f.preference], l)
		case f.medium != "":
			m.listed[f.medium] = inOrder(m.listed[f.medium], l)
		case !f.reverts.IsZero():
			for _, list := range m.said {
				for _, s := range list {
					if s.id == f.reverts {
						s.undone, s.undoneBy = m.present, f.id
					}
				}
			}
		}
		for _, c := range f.changes {
			for _, s := range meanings(f.shop.Catalogue, c, obtained) {
				s.obtained, s.recorded, s.byCitizen, s.id = counts, m.present, f.byCitizen, f.id
				m.said[s.key] = inOrder(m.said[s.key], s)
				bounds[s.from], bounds[s.until] = true, true
			}
		}
	}
	delete(bounds, 0)
	m.instants = slices.Sorted(maps.Keys(bounds))
	return m
}

func optionOf(c Catalogue, id string) Option {
	return c.Options[slices.IndexFunc(c.Options, func(o Option) bool { return o.ID == id })]
}

// answered gives the options that a change answers for: itself, or the members of the
// group that allow its basis (rule 8).
func answered(c Catalogue, ch Change) (list []Option) {
	ids := []string{ch.OptionID}
	if ch.OptionType == OptionGroup {
		ids = c.OptionGroups[slices.IndexFunc(c.OptionGroups, func(g OptionGroupItem) bool { return g.ID == ch.OptionID })].Options
	}
	for _, id := range ids {
		o := optionOf(c, id)
		if slices.ContainsFunc(o.Justifications, func(a AllowedBasis) bool { return a.Basis == ch.Justification }) {
			list = append(list, o)
		}
	}
	return list
}

func permitted(c Catalogue, ch Change) bool {
	return len(answered(c, ch)) > 0 && (ch.ValidFrom == 0 || ch.ValidUntil == 0 || ch.ValidFrom < ch.ValidUntil)
}

// meanings gives what a change says, of the group itself (rule 8) and of each option.
func meanings(c Catalogue, ch Change, obtained Instant) []*said {
	options := answered(c, ch)
	state := ch.State
	if state == Objected && (!c.Application.ReviewObjections || slices.ContainsFunc(options, func(o Option) bool { return o.Purpose == "newsletter" })) {
		state = ObjectionUpheld // rule 7
	}
	var list []*said
	if ch.OptionType == OptionGroup {
		list = append(list, &said{key: Key{OptionGroup, ch.OptionID}, basis: ch.Justification, state: state, from: ch.ValidFrom, until: ch.ValidUntil})
	}
	for _, o := range options {
		s := &said{key: Key{OptionSingle, o.ID}, basis: ch.Justification, state: state, from: ch.ValidFrom, until: ch.ValidUntil, medium: o.Channel}
		if ch.OptionType == OptionGroup {
			s.via = ch.OptionID
		}
		for _, a := range o.Justifications { // rule 4
			if a.Basis == ch.Justification && a.ValidFor != "" && s.until == 0 && (state == Granted || state == Claimed) {
				period, err := time.ParseDuration(strings.ToLower(strings.TrimPrefix(a.ValidFor, "PT")))
				if err != nil {
					panic(err)
				}
				s.until = cmp.Or(s.from, obtained) + Instant(period.Microseconds())
			}
		}
		list = append(list, s)
	}
	return list
}

// candidates is rule 1.
func candidates(answers []*said, t Instant) (list []*said) {
	for _, s := range answers {
		if s.undone == 0 && s.valid(t) {
			list = append(list, s)
		}
	}
	return list
}

// weigh says which of the answers to one key is effective at t, and which waits
// beside it.
func weigh(answers []*said, t Instant) (winner, waiting *said) {
	counting := candidates(answers, t)
	// Rule 4: what is older than a refusal is gone for good, so that a refusal can only
	// be the first of what is left.
	for i := len(counting) - 1; i > 0; i-- {
		if counting[i].refuses() {
			counting = counting[i:]
			break
		}
	}
	// Rule 5: a claim counts against the refusal only where something lifted that one
	// before.
	lifted := len(counting) > 0 && !counting[0].refuses()
	var left []*said
	for _, s := range counting {
		lifted = lifted || s.lifts()
		if !s.plainClaim() || lifted {
			left = append(left, s)
		}
	}
	// Rules 2 and 6: the latest wins, and PENDING is effective only where nothing else
	// stands.
	for _, s := range left {
		if s.state != Pending {
			winner = s
		}
	}
	if len(left) > 0 && left[len(left)-1].state == Pending {
		waiting = left[len(left)-1]
	}
	if winner == nil {
		return waiting, nil
	}
	return winner, waiting
}

// suppression is what the do-not-contact list says last of a channel, nil for nothing.
func (m *model) suppression(medium string) *listing {
	list := m.listed[medium]
	if len(list) == 0 || list[len(list)-1].lifted {
		return nil
	}
	return list[len(list)-1]
}

// reading is an entry as it must read.
type reading struct {
	key         Key
	state       State // empty: ceased
	basis       Justification
	from, until Instant
	id          ID
}

// read is how an answer that is effective reads (rule 9).
func (m *model) read(s *said) reading {
	r := reading{s.key, s.state, s.basis, s.from, s.until, s.id}
	l := m.suppression(s.medium)
	switch {
	case l == nil || s.refuses():
	case s.basis == Consent:
		r.state, r.id = Denied, l.id
	case s.basis == LegitimateInterest:
		r.state, r.id = ObjectionUpheld, l.id
	}
	return r
}

// asOf is the model of what had been obtained by t.
func (m *model) asOf(t Instant) *model {
	past := &model{said: map[Key][]*said{}, answers: map[string][]*listing{}, listed: map[string][]*listing{}}
	for k, list := range m.said {
		past.said[k] = slices.DeleteFunc(slices.Clone(list), func(s *said) bool { return s.obtained > t })
	}
	for k, list := range m.answers {
		past.answers[k] = slices.DeleteFunc(slices.Clone(list), func(l *listing) bool { return l.obtained > t })
	}
	for k, list := range m.listed {
		past.listed[k] = slices.DeleteFunc(slices.Clone(list), func(l *listing) bool { return l.obtained > t })
	}
	return past
}

var everyKey = []Key{{OptionSingle, "a"}, {OptionSingle, "b"}, {OptionGroup, "g"}, {OptionGroup, "h"}}

// state is what a citizen has at an instant.
type state struct {
	entries, pending []reading
	preferences      []ID
}

func (s state) String() string {
	return fmt.Sprintf("entries %v, pending %v, preferences %v", s.entries, s.pending, s.preferences)
}

func (s state) equal(o state) bool {
	return slices.Equal(s.entries, o.entries) && slices.Equal(s.pending, o.pending) && slices.Equal(s.preferences, o.preferences)
}

func (r reading) String() string {
	return fmt.Sprintf("{%s %s on %s of %d until %s}", r.key.ID, cmp.Or(r.state, "ceased"), r.basis, r.id[15], r.until)
}

// effective is what applies at t.
func (m *model) effective(t Instant) (s state) {
	for _, k := range everyKey {
		winner, waiting := weigh(m.said[k], t)
		if winner != nil {
			s.entries = append(s.entries, m.read(winner))
		}
		if waiting != nil {
			s.pending = append(s.pending, reading{k, Pending, waiting.basis, waiting.from, waiting.until, waiting.id})
		}
	}
	for _, p := range []string{"p", "q"} {
		if list := m.answers[p]; len(list) > 0 {
			s.preferences = append(s.preferences, list[len(list)-1].id)
		}
	}
	return s
}

// memory is what existed of each key last, and how it reads once it ceased. It is told
// the course of events as it happened, instant by instant.
type memory map[Key]existed

type existed struct {
	last   said
	ceased reading // zero while it exists
}

// live lets an instant happen, at which m was known.
func (b memory) live(m *model, t Instant) {
	for _, k := range everyKey {
		if winner, _ := weigh(m.said[k], t); winner != nil {
			b[k] = existed{last: *winner}
			continue
		}
		e, ok := b[k]
		if !ok || e.ceased != (reading{}) {
			continue
		}
		e.ceased = reading{k, "", e.last.basis, e.last.from, e.last.until, e.last.id}
		if e.last.valid(t) { // so it was not time that ended it
			undone := slices.IndexFunc(m.said[k], func(s *said) bool { return s.id == e.last.id })
			e.ceased.id = m.said[k][undone].undoneBy
		}
		b[k] = e
	}
}

// full adds what ceased to what applies.
func (b memory) full(s state) state {
	for _, k := range everyKey {
		if e := b[k]; e.ceased != (reading{}) {
			s.entries = append(s.entries, e.ceased)
		}
	}
	slices.SortStableFunc(s.entries, func(a, b reading) int {
		return cmp.Compare(slices.Index(everyKey, a.key), slices.Index(everyKey, b.key))
	})
	return s
}

// What the projection says, in the same form.

func readingOf(e Permission) reading {
	return reading{e.key(), e.State, e.Justification, Instant(e.ValidFrom), Instant(e.ValidUntil), e.TransactionID}
}

func readings(list []Permission) (out []reading) {
	for _, e := range list {
		out = append(out, readingOf(e))
	}
	return out
}

func stateOf(p *Projection, entries []Permission, t Instant) state {
	s := state{entries: readings(entries), pending: readings(p.Pending(t))}
	for _, a := range p.Preferences() {
		s.preferences = append(s.preferences, a.SubmissionID)
	}
	return s
}

// histories runs a property on many random histories: a number of times what
// -rapid.checks says (100), fewer with -short.
func histories(t *testing.T, times int, property func(*rapid.T)) {
	t.Helper()
	for range times {
		rapid.Check(t, property)
	}
}

// The projection, as the store keeps it, agrees with the naive model at every instant
// that passes and at every instant to come; so does the whole history. It says at which
// instants time will change it.
func TestProjectionAgreesWithTheNaiveModel(t *testing.T) {
	shops := shops(t)
	histories(t, 400, func(t *rapid.T) {
		facts := draw(t, shops, 10)
		list := records(t, facts)
		var kept keeper
		past := memory{}
		ahead := rapid.IntRange(0, len(facts)-1).Draw(t, "look ahead after")
		for n, r := range list {
			m := know(facts[:n+1])
			if r.evidence().RecordedAt != m.present {
				t.Fatalf("record %d is recorded at %s, the model says %s", n+1, r.evidence().RecordedAt, m.present)
			}
			kept.take(list[:n], r)
			until := m.present + 1000*hour
			if n+1 < len(list) {
				until = list[n+1].evidence().RecordedAt // at which time passes before the record is made
			}
			if n == ahead {
				compare(t, m, &kept.projection, maps.Clone(past), m.present+1000*hour)
				compare(t, m, fold(list[:n+1]), maps.Clone(past), m.present+1000*hour)
			}
			compare(t, m, &kept.projection, past, until)
		}
	})
}

// compare follows a projection from the present to an instant.
func compare(t *rapid.T, m *model, p *Projection, past memory, until Instant) {
	instants := []Instant{m.present}
	for _, at := range m.instants {
		if at > m.present && at <= until {
			instants = append(instants, at)
		}
	}
	var before state
	for i, at := range instants {
		past.live(m, at)
		want := past.full(m.effective(at))
		if got := stateOf(p, p.FullState(at).Permissions, at); !got.equal(want) {
			t.Fatalf("at %s:\n%s, the model says\n%s", at, got, want)
		}
		if i > 0 {
			since := instants[i-1]
			next := p.NextChange(since)
			if next != 0 && next <= since {
				t.Fatalf("the change after %s is said to be at %s", since, next)
			}
			if !want.equal(before) && (next == 0 || next > at) {
				t.Fatalf("the answer changes at %s, but the next change after %s is said to be at %s:\n%s\n%s", at, since, next, before, want)
			}
		}
		before = want
	}
}

// A question about the past is answered as the model answers it: as of any instant, as
// known at any, and throughout any range.
func TestThePastAgreesWithTheNaiveModel(t *testing.T) {
	shops := shops(t)
	histories(t, 200, func(t *rapid.T) {
		facts := draw(t, shops, 10)
		known := rapid.IntRange(1, len(facts)).Draw(t, "known")
		m, whole := know(facts[:known]), fold(records(t, facts[:known]))
		instant := rapid.SampledFrom(m.instants)
		for range 4 {
			start, end := instant.Draw(t, "start"), instant.Draw(t, "end")
			if start > end {
				start, end = end, start
			}
			then, later := m.asOf(start).effective(start), m.asOf(end).effective(end)
			p := whole.AsOf(start)
			if got := stateOf(p, p.Effective(start), start); !got.equal(then) {
				t.Fatalf("as of %s:\n%s, the model says\n%s", start, got, then)
			}
			for _, k := range everyKey {
				e, ok := p.Entry(k, start)
				at := slices.IndexFunc(then.entries, func(r reading) bool { return r.key == k })
				if ok != (at >= 0) || ok && readingOf(e) != then.entries[at] {
					t.Fatalf("as of %s, the entry of %s is %v", start, k.ID, e)
				}
			}
			var throughout []reading
			for _, r := range later.entries {
				if slices.ContainsFunc(then.entries, func(o reading) bool { return o.key == r.key && o.id == r.id }) {
					throughout = append(throughout, r)
				}
			}
			if got := readings(whole.Throughout(start, end)); !slices.Equal(got, throughout) {
				t.Fatalf("from %s to %s:\n%v, the model says\n%v", start, end, got, throughout)
			}
		}
	})
}

// Latest lists what stands, and of what ceased the state in which it stood.
func TestLatestAgreesWithTheNaiveModel(t *testing.T) {
	shops := shops(t)
	histories(t, 100, func(t *rapid.T) {
		facts := draw(t, shops, 10)
		past := memory{}
		var m *model
		for n := range facts {
			m = know(facts[:n+1])
			next := Instant(1 << 62)
			if n+1 < len(facts) {
				next = know(facts[:n+2]).present
			}
			past.live(m, m.present)
			for _, at := range m.instants {
				if at > m.present && at <= next {
					past.live(m, at)
				}
			}
		}
		at := m.instants[len(m.instants)-1]
		list, expired := fold(records(t, facts)).Latest(at)
		want := past.full(m.effective(at)).entries
		if len(list) != len(want) || len(expired) != len(want) {
			t.Fatalf("%v, the model says %v", readings(list), want)
		}
		for i, w := range want {
			if expired[i] != (w.state == "") {
				t.Fatalf("%v expired: %v", want[i], expired[i])
			}
			if w.state == "" {
				w.state = past[w.key].last.state
			}
			if got := readingOf(list[i]); got != w {
				t.Fatalf("%v, the model says %v", got, w)
			}
		}
	})
}

// Explain tells the truth: what it says is current is the entry, exactly what stands is
// effective or suppressed, and every other answer was put aside by the rule it names.
func TestExplainAgreesWithTheNaiveModel(t *testing.T) {
	shops := shops(t)
	histories(t, 200, func(t *rapid.T) {
		facts := draw(t, shops, 10)
		m, whole := know(facts), fold(records(t, facts))
		at := rapid.SampledFrom(m.instants).Draw(t, "at")
		past := at < m.present
		counted, entries := m, whole
		if past {
			counted, entries = m.asOf(at), whole.AsOf(at)
		}
		explained := whole.Explain("", at, past)
		keys := 0
		for _, k := range everyKey {
			if len(m.said[k]) == 0 {
				continue
			}
			if keys == len(explained) || explained[keys].Key != k {
				t.Fatalf("%s is not explained", k.ID)
			}
			x := explained[keys]
			keys++
			e, ok := entries.Entry(k, at)
			if ok != (x.Current != nil) || ok && *x.Current != e {
				t.Fatalf("the current entry of %s is %v, not %v", k.ID, e, x.Current)
			}
			if len(x.Candidates) != len(m.said[k]) {
				t.Fatalf("%d answers to %s, not %d", len(x.Candidates), k.ID, len(m.said[k]))
			}
			for i, w := range x.Candidates {
				s := m.said[k][i]
				if w.TransactionID != s.id || string(w.Group) != s.via || w.State != s.state || w.Justification != s.basis {
					t.Fatalf("answer %d to %s is %v", i+1, k.ID, w)
				}
				fates := counted.fates(s, at)
				if !slices.Contains(fates, told{w.Fate, w.Rule, w.By}) {
					t.Fatalf("at %s answer %d to %s, %v, is %s by rule %d and %d; the model says %v", at, i+1, k.ID, readingOf(w.Permission), w.Fate, w.Rule, w.By[15], fates)
				}
			}
		}
		if keys != len(explained) {
			t.Fatalf("%d keys are explained, not %d", len(explained), keys)
		}
	})
}

// told is what can be said of one answer.
type told struct {
	fate Fate
	rule int
	by   ID
}

// fates gives everything that is true of an answer at t.
func (m *model) fates(s *said, t Instant) (list []told) {
	answers := m.said[s.key]
	at := slices.Index(answers, s)
	if at < 0 {
		return []told{{FateLater, 2, ID{}}}
	}
	switch {
	case s.undone != 0:
		return []told{{FateReverted, 0, s.undoneBy}}
	case s.from > t:
		return []told{{FateNotYet, 1, ID{}}}
	case !s.valid(t):
		return []told{{FateExpired, 1, ID{}}}
	}
	winner, waiting := weigh(answers, t)
	switch {
	case s == winner && m.read(s).id != s.id:
		return []told{{FateSuppressed, 9, m.read(s).id}}
	case s == winner:
		return []told{{FateEffective, 2, ID{}}}
	case s == waiting:
		return []told{{FatePending, 6, winner.id}}
	}
	if stood, _ := weigh(answers[:at], t); s.plainClaim() && stood != nil && stood.refuses() {
		list = append(list, told{FateOverruled, 5, stood.id})
	}
	for _, o := range candidates(answers[at+1:], t) {
		if o.refuses() {
			list = append(list, told{FateDropped, 4, o.id})
		}
	}
	if len(list) > 0 {
		return list
	}
	if at < slices.Index(answers, winner) {
		return []told{{FateSuperseded, 2, winner.id}}
	}
	return []told{{FateSuperseded, 2, waiting.id}}
}

// Who hears of nothing but what changed, at each record and at each instant at which
// time changed something, knows the full state all the same. And nothing is told that
// was known.
func TestReceiptsAddUpToTheFullState(t *testing.T) {
	shops := shops(t)
	histories(t, 100, func(t *rapid.T) {
		var kept keeper
		permissions, preferences := map[Key]Permission{}, map[string]CurrentPreference{}
		listen := func(before, after FullState) {
			news := after.Since(before)
			for _, e := range news.Permissions {
				if permissions[e.key()] == e {
					t.Fatalf("told again: %v", e)
				}
				permissions[e.key()] = e
			}
			for _, a := range news.Preferences {
				preferences[a.Preference] = a
			}
			if known := len(permissions) + len(preferences); known != len(after.Permissions)+len(after.Preferences) {
				t.Fatalf("%d entries and answers are known, there are %v", known, after)
			}
			for _, e := range after.Permissions {
				if permissions[e.key()] != e {
					t.Fatalf("%v is believed, %v is true", permissions[e.key()], e)
				}
			}
			for _, a := range after.Preferences {
				if preferences[a.Preference].SubmissionID != a.SubmissionID {
					t.Fatalf("%v is believed, %v is true", preferences[a.Preference], a)
				}
			}
			if news.Empty() != (fmt.Sprint(before) == fmt.Sprint(after)) {
				t.Fatalf("from %v to %v the news are %v", before, after, news)
			}
		}
		pass := func(until Instant) {
			for kept.next != 0 && kept.next <= until {
				at := kept.next
				before := kept.projection.FullState(at - 1)
				kept.prune(at)
				listen(before, kept.projection.FullState(at))
			}
		}
		list := records(t, draw(t, shops, 10))
		for n, r := range list {
			at := r.evidence().RecordedAt
			pass(at)
			before := kept.projection.FullState(at)
			kept.take(list[:n], r)
			listen(before, kept.projection.FullState(at))
		}
		pass(list[len(list)-1].evidence().RecordedAt + 200*hour)
	})
}

// The same facts in any order of arrival lead to the same state, where they were
// obtained at different times.
func TestOrderOfArrivalMakesNoDifference(t *testing.T) {
	shops := shops(t)
	histories(t, 100, func(t *rapid.T) {
		facts := draw(t, shops, 10)
		for i, at := range rapid.Permutation(instantsOf(facts)).Draw(t, "obtained") {
			facts[i].obtained = at
			facts[i].now = 200 * hour
		}
		shuffled := inOrderOfReversion(rapid.Permutation(facts).Draw(t, "arrival"))
		facts = inOrderOfReversion(facts)
		var one, other keeper
		list, again := records(t, facts), records(t, shuffled)
		for n := range list {
			one.take(list[:n], list[n])
			other.take(again[:n], again[n])
		}
		m := know(facts)
		for _, at := range m.instants {
			if at < m.present {
				continue
			}
			a, b := &one.projection, &other.projection
			if first, second := stateOf(a, a.Effective(at), at), stateOf(b, b.Effective(at), at); !first.equal(second) {
				t.Fatalf("at %s:\n%s, and in another order of arrival\n%s", at, first, second)
			}
		}
	})
}

// instantsOf gives as many different instants as there are facts.
func instantsOf(facts []fact) (list []Instant) {
	for i := range facts {
		list = append(list, (100+Instant(i)*7)*hour)
	}
	return list
}

// inOrderOfReversion lets no reversion arrive before what it undoes.
func inOrderOfReversion(facts []fact) (list []fact) {
	for len(list) < len(facts) {
		for _, f := range facts {
			arrived := func(id ID) bool { return slices.ContainsFunc(list, func(o fact) bool { return o.id == id }) }
			if !arrived(f.id) && (f.reverts.IsZero() || arrived(f.reverts)) {
				list = append(list, f)
			}
		}
	}
	return list
}

// What is stored after any course of events is, once both are pruned at the same
// instant, what a rebuild from the ledger gives: `opencpm check` relies on it. And what
// comes back from the store is what went in.
func TestPruningIsConfluent(t *testing.T) {
	shops := shops(t)
	histories(t, 60, func(t *rapid.T) {
		var stored keeper
		list := records(t, draw(t, shops, 15))
		for n, r := range list {
			stored.take(list[:n], r)
			for range rapid.IntRange(0, 2).Draw(t, "prunes") {
				stored.prune(r.evidence().RecordedAt + Instant(rapid.IntRange(0, 1).Draw(t, "later")))
			}
			stored.projection = *stow(t, &stored.projection)
		}
		rebuilt := fold(list)
		at := list[len(list)-1].evidence().RecordedAt + hour*Instant(rapid.IntRange(1, 100).Draw(t, "now"))
		stored.prune(at)
		rebuilt.Prune(at)
		a, _ := json.Marshal(stored.projection)
		b, _ := json.Marshal(rebuilt)
		if string(a) != string(b) {
			t.Fatalf("stored  %s\nrebuilt %s", a, b)
		}
	})
}

func TestStoredFormIsLossless(t *testing.T) {
	shops := shops(t)
	histories(t, 20, func(t *rapid.T) {
		list := records(t, draw(t, shops, 10))
		for _, r := range list {
			e := r.evidence()
			e.Attribution.RecordedByName = "Ada"
			e.Channel, e.Campaign, e.Client = "web", "spring", Recorder{"c1", "Shop"}
			e.Policy, e.Statement = &Citation{ID: "pp_1", Ref: "policy-01", Version: 2}, &Citation{ID: "ps_1", Ref: "statement-01", Version: 3, Unproven: true}
		}
		p := fold(list)
		q := stow(t, p)
		at := list[len(list)-1].evidence().RecordedAt
		for range 10 {
			if before, after := p.FullState(at), q.FullState(at); fmt.Sprint(before) != fmt.Sprint(after) || fmt.Sprint(p.Pending(at)) != fmt.Sprint(q.Pending(at)) {
				t.Fatalf("%v became %v", before, after)
			}
			at += 10 * hour
		}
		before, err := json.Marshal(p.Explain("", at, false))
		if err != nil {
			t.Fatal(err)
		}
		if after, err := json.Marshal(q.Explain("", at, false)); string(after) != string(before) {
			t.Fatalf("%s became %s, %v", before, after, err)
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
		p.Answer(Submission{Evidence{RecordedAt: now, ObtainedAt: now}, Answer{Preference: "p"}})
		p.Suppress(Suppression{Evidence{RecordedAt: now, ObtainedAt: now}, "email", ID{}, i%2 == 0})
		p.Prune(now)
		if len(p.candidates) > 4 || len(p.answers) != 1 || len(p.suppressions) != 1 {
			t.Fatalf("%d candidates, %d answers, %d suppressions after %d records", len(p.candidates), len(p.answers), len(p.suppressions), i+1)
		}
	}
}
