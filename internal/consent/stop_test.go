package consent

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

const stoppable = `
application: {name: Northwind}
parties: [{id: northwind, name: Northwind}]
purposes: [{id: newsletter, name: Newsletter, directMarketing: true}, {id: offers, name: Offers, directMarketing: true}, {id: research, name: Research}, {id: orders, name: Orders}]
channels: [{id: email, name: E-mail}, {id: sms, name: SMS}, {id: post, name: Post}]
options:
  - {id: newsletter-email, party: northwind, purpose: newsletter, channel: email, justifications: [{basis: consent, validFor: P1Y}]}
  - {id: newsletter-post, party: northwind, purpose: newsletter, channel: post, justifications: [{basis: legitimate-interest}, {basis: consent}]}
  - {id: offers-sms, party: northwind, purpose: offers, channel: sms, justifications: [{basis: consent}]}
  - {id: offers-post, party: northwind, purpose: offers, channel: post, justifications: [{basis: legitimate-interest}]}
  - {id: offers-email, party: northwind, purpose: offers, channel: email, justifications: [{basis: contract}]}
  - {id: research-email, party: northwind, purpose: research, channel: email, justifications: [{basis: consent}]}
optionGroups:
  - {id: all-offers, name: Offers, options: [offers-sms, offers-post]}
  - {id: all-email, name: E-mail, options: [newsletter-email, research-email]}
`

// person is somebody whose answers are folded as they come.
type person struct {
	t *testing.T
	*Snapshot
	p    *Projection
	last Instant
	n    byte
}

func newPerson(t *testing.T) *person {
	return &person{t: t, Snapshot: index(t, parseCatalogue(t, []byte(stoppable))), p: &Projection{}}
}

// does records changes at an instant, by the person themselves, and gives the id.
func (p *person) does(at Instant, changes ...Change) ID {
	p.t.Helper()
	var faults Faults
	resolved, _ := p.Resolve(changes, &faults)
	if err := faults.Err(); err != nil {
		p.t.Fatalf("%v: %+v", err, faults)
	}
	p.n++
	t := Transaction{Evidence: Evidence{ID: ID{p.n}, ByCitizen: true}, Changes: resolved}
	t.Stamp(at, p.last)
	p.last = t.RecordedAt
	p.p.Add(t)
	p.p.Prune(at)
	return t.ID
}

func (p *person) gives(at Instant, option string) ID {
	basis, state := Consent, Granted
	if _, ok := p.options[option].Basis(Consent); !ok {
		basis, state = LegitimateInterest, Claimed
	}
	return p.does(at, Change{OptionType: OptionSingle, OptionID: option, Justification: basis, State: state})
}

// stands gives everything that applies, as option=STATE.
func (p *person) stands(at Instant) string {
	var list []string
	for _, e := range p.p.Effective(at) {
		list = append(list, fmt.Sprintf("%s=%s", e.OptionID, e.State))
	}
	return strings.Join(list, " ")
}

func (p *person) expect(at Instant, want string) {
	p.t.Helper()
	if got := p.stands(at); got != want {
		p.t.Errorf("on day %d stands\n%s, not\n%s", at/day-1, got, want)
	}
}

// Stopping all marketing refuses whatever is marketing and can be refused, given or never
// asked, and nothing else.
func TestStoppingEverything(t *testing.T) {
	p := newPerson(t)
	p.gives(d(1), "newsletter-email")
	p.gives(d(1), "research-email")
	p.gives(d(1), "newsletter-post")
	p.gives(d(1), "offers-post")
	p.does(d(2), Change{OptionType: OptionSingle, OptionID: "offers-email", Justification: Contract, State: Claimed})
	p.does(d(3), p.StopChanges(p.p, d(3), "", "")...)
	p.expect(d(4), "newsletter-email=DENIED newsletter-post=DENIED offers-email=CLAIMED offers-post=OBJECTION_UPHELD offers-sms=DENIED research-email=GRANTED")
}

func TestStoppingOneThing(t *testing.T) {
	for _, c := range []struct{ purpose, channel, want string }{
		{"newsletter", "", "newsletter-email=DENIED newsletter-post=OBJECTION_UPHELD research-email=GRANTED"},
		{"newsletter", "email", "newsletter-email=DENIED research-email=GRANTED"},
		{"research", "email", "newsletter-email=GRANTED research-email=DENIED"},
	} {
		p := newPerson(t)
		p.gives(d(1), "newsletter-email")
		p.gives(d(1), "research-email")
		p.does(d(1), Change{OptionType: OptionSingle, OptionID: "newsletter-post", Justification: LegitimateInterest, State: Claimed})
		p.does(d(2), p.StopChanges(p.p, d(2), c.purpose, c.channel)...)
		if c.purpose != "newsletter" || c.channel != "" {
			c.want = strings.Replace(c.want, " research", " newsletter-post=CLAIMED research", 1)
		}
		p.expect(d(3), c.want)
	}
	p := newPerson(t)
	if list := p.StopChanges(p.p, d(1), "orders", ""); list != nil {
		t.Errorf("of a purpose without options there is %v to stop", list)
	}
}

// A group that was answered as one is refused as one, where all of it is marketing.
func TestStoppingGroups(t *testing.T) {
	p := newPerson(t)
	for _, group := range []string{"all-offers", "all-email"} {
		p.does(d(1), Change{OptionType: OptionGroup, OptionID: group, Justification: Consent, State: Granted})
	}
	p.does(d(2), p.StopChanges(p.p, d(2), "", "")...)
	p.expect(d(3), "newsletter-email=DENIED newsletter-post=DENIED offers-post=OBJECTION_UPHELD offers-sms=DENIED research-email=GRANTED all-email=GRANTED all-offers=DENIED")
}

// A pause silences the marketing that is on and gives it again on its day as it was:
// with the end it had, and not what had ended by then.
func TestPausing(t *testing.T) {
	p := newPerson(t)
	p.gives(d(1), "newsletter-email") // for a year
	p.gives(d(1), "offers-post")
	p.gives(d(1), "research-email")
	p.does(d(1), Change{OptionType: OptionSingle, OptionID: "offers-sms", Justification: Consent, State: Granted, ValidUntil: d(20)})
	p.does(d(1), Change{OptionType: OptionSingle, OptionID: "newsletter-post", Justification: Consent, State: Denied})
	if got := p.p.Paused(d(2)); len(got) != 0 {
		t.Fatalf("paused before there was a pause: %v", got)
	}
	id := p.does(d(10), p.PauseChanges(p.p, d(10), d(30))...)
	paused := p.p.Paused(d(12))
	if len(paused) != 1 || paused[0].TransactionID != id || paused[0].Until != d(30) || paused[0].Since != d(10) || !slices.Equal(paused[0].Options, []Key{{OptionSingle, "newsletter-email"}, {OptionSingle, "offers-post"}}) {
		t.Errorf("paused: %+v", paused)
	}
	silent := "newsletter-email=DENIED newsletter-post=DENIED offers-post=OBJECTION_UPHELD offers-sms=DENIED research-email=GRANTED"
	p.expect(d(10), silent)
	p.expect(d(29), silent)
	if got := p.p.NextChange(d(10)); got != d(30) {
		t.Errorf("time changes the answer next on day %d", got/day-1)
	}
	back := "newsletter-email=GRANTED newsletter-post=DENIED offers-post=CLAIMED offers-sms=DENIED research-email=GRANTED"
	p.expect(d(30), back)
	p.p.Prune(d(40))
	p.expect(d(40), back)
	p.expect(d(1).Add(366*24*3600e9), strings.Replace(back, "newsletter-email=GRANTED", "newsletter-email=DENIED", 1))

	if got := p.p.Paused(d(30)); len(got) != 0 {
		t.Errorf("the pause is over, and there is %v", got)
	}
}

// Who stops marketing during a pause does not get it again on the day it ends; what they
// turn on is on at once.
func TestAPauseGivesWay(t *testing.T) {
	p := newPerson(t)
	p.gives(d(1), "newsletter-email")
	p.gives(d(1), "offers-sms")
	p.does(d(10), p.PauseChanges(p.p, d(10), d(30))...)
	p.gives(d(12), "newsletter-email")
	p.expect(d(13), "newsletter-email=GRANTED offers-sms=DENIED")
	if got := p.p.Paused(d(13)); len(got) != 1 || len(got[0].Options) != 1 {
		t.Errorf("paused: %+v", got)
	}
	p.does(d(14), p.StopChanges(p.p, d(14), "", "")...)
	p.expect(d(31), "newsletter-email=DENIED newsletter-post=DENIED offers-post=OBJECTION_UPHELD offers-sms=DENIED")
	if got := p.p.Paused(d(15)); len(got) != 0 {
		t.Errorf("what is stopped is paused: %+v", got)
	}
}

// Whoever leaves by the link of an old mail during a pause has left for good.
func TestLeavingInAPause(t *testing.T) {
	p := newPerson(t)
	p.gives(d(1), "newsletter-email")
	p.does(d(10), p.PauseChanges(p.p, d(10), d(30))...)
	p.does(d(12), p.Leave(Key{OptionSingle, "newsletter-email"}, p.p, d(12), nil)...)
	p.expect(d(31), "newsletter-email=DENIED")
	if again := p.Leave(Key{OptionSingle, "newsletter-email"}, p.p, d(13), nil); len(again) != 0 {
		t.Errorf("what was left is left again: %v", again)
	}
}
