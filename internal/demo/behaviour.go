package demo

import (
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// State is what stands for one customer: the state of each option by its id. An
// option that was never answered is absent.
type State map[string]string

// What customers are asked for, by the place where they are asked.
var (
	emailMarketing = []string{"newsletter-email", "offers-email", "events-email", "trailhead-offers-email"}
	preferences    = []string{"newsletter-email", "offers-email", "offers-sms", "events-email", "events-sms", "offers-phone", "trailhead-offers-email", "trailhead-offers-post", "research-phone"}
	claimed        = []string{"offers-post", "newsletter-post", "research-email", "recommendations-email"}
	campaigns      = []string{"autumn-sale", "spring-trails", "tent-week", "winter-boots", "summer-peaks"}
	choosable      = []string{"newsletter-email", "events-email", "offers-email"}
	stores         = []string{"store-leeds", "store-bristol", "store-hamburg", "store-lyon"}
	agents         = [][2]string{{"ag-104", "Priya Raman"}, {"ag-117", "Tom Ellison"}, {"ag-122", "Katrin Vogel"}, {"ag-131", "Youssef Haddad"}}
)

func pick[T any](r *rand.Rand, from []T) T { return from[r.IntN(len(from))] }

func chance(r *rand.Rand, p float64) bool { return r.Float64() < p }

// First makes up how someone becomes a customer.
func First(r *rand.Rand) Entry {
	switch n := r.IntN(100); {
	case n < 48:
		return checkout(r, State{})
	case n < 66:
		return till(r, State{})
	case n < 90:
		e := Entry{Channel: "sign-up form", Source: "website", Campaign: pick(r, campaigns), Statement: "marketing"}
		e.set("newsletter-email", "consent", "GRANTED")
		if chance(r, 0.4) {
			e.set("events-email", "consent", "GRANTED")
		}
		return e
	default:
		return reimport(r)
	}
}

// Next makes up what a customer does next, or what is done in their name, given
// what stands for them.
func Next(r *rand.Rand, state State) Entry {
	switch n := r.IntN(100); {
	case n < 36:
		return preferenceCentre(r, state)
	case n < 56:
		return checkout(r, state)
	case n < 70:
		return emailLink(r, state)
	case n < 82:
		return callCentre(r, state)
	case n < 92:
		return reimport(r)
	default:
		return till(r, state)
	}
}

// Now makes up what a customer does while the demo runs. Most of it is what Next makes
// up; some of it shows a rule at work.
func Now(r *rand.Rand, state State) Entry {
	switch n := r.IntN(100); {
	case n < 3:
		return paperForm(r, state)
	case n < 7:
		return unconfirmed(r, state)
	case n < 9:
		return forToday(r)
	}
	return Next(r, state)
}

// paperForm: a form that was signed months ago is typed in today. It does not overturn
// what the customer has withdrawn since.
func paperForm(r *rand.Rand, state State) Entry {
	option := pick(r, choosable)
	for _, o := range choosable {
		if state[o] == "DENIED" {
			option = o
			break
		}
	}
	e := Entry{DaysAgo: float64(20 + r.IntN(180)), Channel: "paper form", Source: pick(r, stores), Statement: "marketing"}
	e.set(option, "consent", "GRANTED")
	return e
}

// unconfirmed: anybody can type an address into a sign-up form. It is PENDING until
// its owner confirms.
func unconfirmed(r *rand.Rand, state State) Entry {
	option := pick(r, choosable)
	for _, o := range choosable {
		if state[o] == "" {
			option = o
			break
		}
	}
	e := Entry{Channel: "sign-up form", Source: "website", Campaign: pick(r, campaigns), Statement: "marketing"}
	e.set(option, "consent", "PENDING")
	return e
}

// eventEnds is how long a visitor of an event agrees to be sent messages: short enough
// to watch it end.
const eventEnds = 40 * time.Second

// forToday: a visitor agrees to messages for as long as the event lasts.
func forToday(r *rand.Rand) Entry {
	e := Entry{Channel: "event desk", Source: pick(r, stores), Campaign: pick(r, campaigns), Statement: "marketing", ValidFor: eventEnds}
	e.set("events-sms", "consent", "GRANTED")
	return e
}

// Tastes makes up what someone says of their preferences: what they like to do, as a
// rule, and often how frequently they want to hear of it.
func Tastes(r *rand.Rand) []string {
	var answers []string
	if chance(r, 0.85) {
		answers = append(answers, "interests "+strings.Join(someOf(r, interests), " "))
	}
	if len(answers) == 0 || chance(r, 0.5) {
		answers = append(answers, "frequency "+pick(r, frequencies))
	}
	return answers
}

var (
	interests   = []string{"hiking", "climbing", "cycling", "camping", "running", "winter"}
	frequencies = []string{"weekly", "monthly", "monthly", "seasonal"}
)

// someOf gives one to three of a list, in its order.
func someOf(r *rand.Rand, from []string) []string {
	chosen := r.Perm(len(from))[:1+r.IntN(3)]
	slices.Sort(chosen)
	some := make([]string, len(chosen))
	for i, n := range chosen {
		some[i] = from[n]
	}
	return some
}

// ChangeOfMind gives the entry by which someone takes back the last consent
// decision of an earlier one, or confirms it where it waits for that, and false where
// there is none.
func ChangeOfMind(e Entry) (Entry, bool) {
	again := Entry{Channel: "preference-centre", Source: "website", Statement: "marketing"}
	for _, s := range slices.Backward(e.Changes) {
		c, err := ParseChange(s)
		if err != nil || c.Justification != "consent" || c.OptionType == "group" {
			continue
		}
		switch c.State {
		case "GRANTED":
			again.set(c.OptionID, "consent", "DENIED")
		case "PENDING":
			again.Channel, again.Source = "confirmation link", ""
			fallthrough
		default:
			again.set(c.OptionID, "consent", "GRANTED")
		}
		return again, true
	}
	return Entry{}, false
}

func (e *Entry) set(option, basis, state string) {
	e.Changes = append(e.Changes, option+" "+basis+" "+state)
}

// checkout: an order, with boxes for marketing that most people leave alone.
func checkout(r *rand.Rand, state State) Entry {
	e := Entry{Channel: "checkout", Source: "web-shop", Statement: "orders-notice"}
	e.set("orders-email", "contract", "CLAIMED")
	if state["orders-sms"] == "" && chance(r, 0.3) {
		e.set("orders-sms", "contract", "CLAIMED")
	}
	for _, box := range []struct {
		option string
		yes    float64
	}{{"newsletter-email", 0.38}, {"offers-email", 0.24}, {"trailhead-offers-email", 0.07}} {
		switch {
		case state[box.option] == "GRANTED":
		case chance(r, box.yes):
			e.set(box.option, "consent", "GRANTED")
			e.Statement = "marketing"
		case state[box.option] == "" && chance(r, 0.12):
			e.set(box.option, "consent", "DENIED")
			e.Statement = "marketing"
		}
	}
	return e
}

// till: asked at the counter of a store.
func till(r *rand.Rand, state State) Entry {
	e := Entry{Channel: "till", Source: pick(r, stores), Statement: "marketing"}
	for _, option := range []string{"events-sms", "offers-sms", "newsletter-email"} {
		if state[option] != "GRANTED" && chance(r, 0.5) {
			e.set(option, "consent", "GRANTED")
		}
	}
	if len(e.Changes) == 0 {
		e.set("events-email", "consent", pick(r, []string{"GRANTED", "GRANTED", "DENIED"}))
	}
	return e
}

// preferenceCentre: people come to turn things off rather than on, and some
// object to what was claimed.
func preferenceCentre(r *rand.Rand, state State) Entry {
	e := Entry{Channel: "preference-centre", Source: "website", Statement: "marketing"}
	if chance(r, 0.2) {
		for _, option := range claimed {
			if state[option] == "CLAIMED" {
				e.Statement = "interests-notice"
				e.set(option, "legitimate-interest", "OBJECTED")
				return e
			}
		}
	}
	start, wanted := r.IntN(len(preferences)), 1+r.IntN(2)
	for i := range preferences {
		option := preferences[(start+i)%len(preferences)]
		if state[option] == "GRANTED" {
			e.set(option, "consent", "DENIED")
		} else if chance(r, 0.35) {
			e.set(option, "consent", "GRANTED")
		}
		if len(e.Changes) == wanted {
			return e
		}
	}
	if len(e.Changes) == 0 {
		e.set(preferences[start], "consent", "GRANTED")
	}
	return e
}

// emailLink: the link at the foot of a mail. One kind of mail, or all of them.
func emailLink(r *rand.Rand, state State) Entry {
	e := Entry{Channel: "e-mail link", Campaign: pick(r, campaigns), Statement: "marketing"}
	if chance(r, 0.3) {
		e.set("group:all-marketing-email", "consent", "DENIED")
		return e
	}
	for _, option := range emailMarketing {
		if state[option] == "GRANTED" {
			e.set(option, "consent", "DENIED")
			return e
		}
	}
	return preferenceCentre(r, state)
}

// callCentre: an agent writes down what a customer says.
func callCentre(r *rand.Rand, state State) Entry {
	agent := pick(r, agents)
	e := Entry{Channel: "call-centre", Source: "telephone", RecordedBy: agent[0], RecordedByName: agent[1], Statement: "interests-notice"}
	for _, option := range claimed {
		if state[option] == "CLAIMED" && chance(r, 0.6) {
			e.set(option, "legitimate-interest", "OBJECTED")
			return e
		}
	}
	e.Statement = "marketing"
	if state["offers-phone"] == "GRANTED" {
		e.set("offers-phone", "consent", "DENIED")
	} else {
		e.set("offers-phone", "consent", pick(r, []string{"GRANTED", "DENIED"}))
	}
	return e
}

// reimport: the nightly run that claims a legitimate interest in every customer of
// the CRM, whether they objected or not.
func reimport(r *rand.Rand) Entry {
	e := Entry{Channel: "import", Source: "nightly", SourceSystem: "crm", Statement: "interests-notice"}
	for _, option := range claimed[:1+r.IntN(len(claimed))] {
		e.set(option, "legitimate-interest", "CLAIMED")
	}
	return e
}
