package consent

import (
	"fmt"
	"strings"
	"testing"
)

// leaving is a catalogue in which everything can be left in another way.
func leaving(t *testing.T) *Snapshot {
	t.Helper()
	option := func(id string, bases ...Justification) Option {
		o := Option{ID: id, Party: "us", Purpose: "news", Channel: "email"}
		for _, j := range bases {
			o.Justifications = append(o.Justifications, AllowedBasis{Basis: j})
		}
		return o
	}
	items, err := Catalogue{
		Parties: []Party{{ID: "us", Name: "Us"}}, Purposes: []Purpose{{ID: "news", Name: "News"}}, Channels: []Channel{{ID: "email", Name: "E-mail"}},
		Options: []Option{
			option("asked", Consent), option("claimed", LegitimateInterest), option("either", LegitimateInterest, Consent, Contract), option("bound", Contract),
		},
		OptionGroups: []OptionGroupItem{
			{ID: "all", Name: "All", Options: []string{"asked", "claimed", "either", "bound"}},
			{ID: "duties", Name: "Duties", Options: []string{"bound"}},
		},
	}.Items()
	if err != nil {
		t.Fatal(err)
	}
	revisions := make([]Revision, len(items))
	for i, it := range items {
		revisions[i] = Revision{Item: it, ID: it.Key}
	}
	s, err := NewSnapshot("app", 1, 1, revisions)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestLeave(t *testing.T) {
	s := leaving(t)
	for name, test := range map[string]struct {
		before string // what was answered, in order
		leave  string
		want   string // the changes that it takes
		after  string // what stands then of the options
	}{
		"a consent":                 {"asked consent GRANTED", "asked", "asked consent DENIED", "asked DENIED"},
		"a claim":                   {"claimed legitimate-interest CLAIMED", "claimed", "claimed legitimate-interest OBJECTED", "claimed OBJECTION_UPHELD"},
		"what waits":                {"asked consent PENDING", "asked", "asked consent DENIED", "asked DENIED"},
		"never asked":               {"", "asked", "asked consent DENIED", "asked DENIED"},
		"never asked, no consent":   {"", "claimed", "claimed legitimate-interest OBJECTED", "claimed OBJECTION_UPHELD"},
		"never asked, either":       {"", "either", "either consent DENIED", "either DENIED"},
		"a claim where either goes": {"either legitimate-interest CLAIMED", "either", "either legitimate-interest OBJECTED", "either OBJECTION_UPHELD"},
		"a contract beside both":    {"either contract CLAIMED", "either", "either consent DENIED", "either DENIED"},
		"left before":               {"asked consent DENIED", "asked", "", "asked DENIED"},
		"left, and asked again":     {"asked consent DENIED; asked consent PENDING", "asked", "asked consent DENIED", "asked DENIED"},
		"a duty":                    {"bound contract CLAIMED", "bound", "", "bound CLAIMED"},
		"nothing there is":          {"", "none", "", ""},
		"a group never answered": {
			"", "group all", "group all consent DENIED; claimed legitimate-interest OBJECTED",
			"asked DENIED, claimed OBJECTION_UPHELD, either DENIED",
		},
		"a group on two bases": {
			"either legitimate-interest CLAIMED; asked consent GRANTED; bound contract CLAIMED", "group all",
			"group all consent DENIED; claimed legitimate-interest OBJECTED; either legitimate-interest OBJECTED",
			"asked DENIED, bound CLAIMED, claimed OBJECTION_UPHELD, either OBJECTION_UPHELD",
		},
		"a group answered as one": {
			"group all legitimate-interest CLAIMED; asked consent GRANTED", "group all",
			"group all legitimate-interest OBJECTED; asked consent DENIED",
			"asked DENIED, claimed OBJECTION_UPHELD, either OBJECTION_UPHELD",
		},
		"a group left one by one": {
			"asked consent DENIED; claimed legitimate-interest OBJECTED; either consent DENIED", "group all", "",
			"asked DENIED, claimed OBJECTION_UPHELD, either DENIED",
		},
		"a group of which one was left": {
			"either consent DENIED; asked consent GRANTED; claimed legitimate-interest OBJECTED", "group all", "group all consent DENIED",
			"asked DENIED, claimed OBJECTION_UPHELD, either DENIED",
		},
		"a group that says yes though all are left": {
			"group all consent GRANTED; asked consent DENIED; claimed legitimate-interest OBJECTED; either consent DENIED", "group all", "group all consent DENIED",
			"asked DENIED, claimed OBJECTION_UPHELD, either DENIED",
		},
		"a group of duties": {"bound contract CLAIMED", "group duties", "", "bound CLAIMED"},
	} {
		t.Run(name, func(t *testing.T) {
			p, at := &Projection{}, Instant(1000)
			add := func(changes []Change) {
				at += 1000
				v := Transaction{Changes: changes}
				v.ID[0], v.ID[1] = byte(at>>8), byte(at)
				v.Stamp(at, 0)
				p.Add(v)
			}
			for _, text := range strings.Split(test.before, "; ") {
				if text == "" {
					continue
				}
				resolved, _ := s.Resolve([]Change{changeOf(text)}, &Faults{})
				add(resolved)
			}
			k := keyOf(test.leave)
			changes := s.Leave(k, p, at, nil)
			if got := written(changes); got != test.want {
				t.Fatalf("leaves by %q, want %q", got, test.want)
			}
			if (len(changes) > 0 || strings.Contains(test.after, "DENIED")) != s.CanLeave(k) && k.ID != "none" {
				t.Errorf("can be left: %v", s.CanLeave(k))
			}
			if changes != nil {
				add(changes)
			}
			var after []string
			for _, e := range p.Effective(at) {
				if e.OptionType == OptionSingle {
					after = append(after, e.OptionID+" "+string(e.State))
				}
			}
			if got := strings.Join(after, ", "); got != test.after {
				t.Errorf("then %q, want %q", got, test.after)
			}
			if again := s.Leave(k, p, at, nil); len(again) > 0 {
				t.Errorf("once left it is left again by %q", written(again))
			}
		})
	}
}

func keyOf(text string) Key {
	if id, ok := strings.CutPrefix(text, "group "); ok {
		return Key{OptionGroup, id}
	}
	return Key{OptionSingle, text}
}

func changeOf(text string) Change {
	words := strings.Fields(text)
	n := len(words)
	k := keyOf(strings.Join(words[:n-2], " "))
	return Change{OptionType: k.Type, OptionID: k.ID, Justification: Justification(words[n-2]), State: State(words[n-1])}
}

func written(changes []Change) string {
	var list []string
	for _, c := range changes {
		name := c.OptionID
		if c.OptionType == OptionGroup {
			name = "group " + name
		}
		list = append(list, fmt.Sprintf("%s %s %s", name, c.Justification, c.State))
	}
	return strings.Join(list, "; ")
}

// The do-not-contact list hides what stands; who leaves must have left when it is lifted.
func TestLeaveBehindASuppression(t *testing.T) {
	s, p := leaving(t), &Projection{}
	granted, _ := s.Resolve([]Change{changeOf("asked consent GRANTED")}, &Faults{})
	v := Transaction{Changes: granted}
	v.Stamp(1000, 0)
	p.Add(v)
	list := Suppression{Medium: "email"}
	list.Stamp(2000, 1000)
	p.Suppress(list)
	if e, _ := p.Entry(Key{OptionSingle, "asked"}, 3000); e.State != Denied {
		t.Fatalf("suppressed, it reads %s", e.State)
	}
	if got := written(s.Leave(Key{OptionSingle, "asked"}, p, 3000, nil)); got != "asked consent DENIED" {
		t.Errorf("left by %q", got)
	}
}

// Whose an option is goes without saying, but for that of another than the first party.
func TestNamesOfAnotherParty(t *testing.T) {
	items, err := Catalogue{
		Parties:  []Party{{ID: "us", Name: "Us"}, {ID: "them", Name: "Them Ltd"}},
		Purposes: []Purpose{{ID: "news", Name: "News"}}, Channels: []Channel{{ID: "email", Name: "E-mail", Label: Localised{"de": "E-Mail"}}},
		Options: []Option{
			{ID: "ours", Party: "us", Purpose: "news", Channel: "email", Justifications: []AllowedBasis{{Basis: Consent}}},
			{ID: "theirs", Party: "them", Purpose: "news", Channel: "email", Justifications: []AllowedBasis{{Basis: Consent}}},
		},
	}.Items()
	if err != nil {
		t.Fatal(err)
	}
	revisions := make([]Revision, len(items))
	for i, it := range items {
		revisions[i] = Revision{Item: it, ID: it.Key}
	}
	s, err := NewSnapshot("app", 1, 1, revisions)
	if err != nil {
		t.Fatal(err)
	}
	for id, want := range map[string]string{"ours": "News: E-Mail", "theirs": "News: E-Mail, Them Ltd", "nothing": "nothing: "} {
		if purpose, channel := s.NamesOf(Key{OptionSingle, id}, "de"); purpose+": "+channel != want {
			t.Errorf("%s is called %s: %s, not %s", id, purpose, channel, want)
		}
	}
}
