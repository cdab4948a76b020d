// Command gen makes the customers of Northwind Outdoor: the same ones every time.
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"strings"
	"unicode"

	"golang.org/x/text/runes"
	"golang.org/x/text/transform"
	"golang.org/x/text/unicode/norm"

	"github.com/opencpm/opencpm/client"
	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/internal/demo"
)

const (
	population = 2000
	firstRef   = 10001
	oldest     = 3 * 365 // days
	// newest keeps the histories clear of what the live stream will record.
	newest = 0.1 // days
)

func main() {
	out := flag.String("out", "data/citizens.jsonl", "the `file` to write")
	flag.Parse()
	if err := run(*out); err != nil {
		fmt.Fprintln(os.Stderr, "gen:", err)
		os.Exit(1)
	}
}

func run(path string) error {
	var b bytes.Buffer
	if err := write(&b); err != nil {
		return err
	}
	return os.WriteFile(path, b.Bytes(), 0o644)
}

// write writes one line for each customer.
func write(w io.Writer) error {
	catalogue, err := consent.ParseCatalogue(demo.Catalogue)
	if err != nil {
		return err
	}
	groups := map[string][]string{}
	for _, g := range catalogue.OptionGroups {
		groups[g.ID] = g.Options
	}
	r, tastes := rand.New(rand.NewPCG(20261122, 1)), rand.New(rand.NewPCG(20261122, 2))
	addresses := map[string]bool{}
	lines := bufio.NewWriter(w)
	for i := range population {
		c := demo.Citizen{ExternalRef: fmt.Sprintf("NW-%d", firstRef+i), Details: person(r, addresses)}
		if c.History, err = history(r, groups); err != nil {
			return err
		}
		if tastes.Float64() < 0.4 {
			c.Answers = demo.Tastes(tastes)
		}
		line, err := json.Marshal(c)
		if err != nil {
			return err
		}
		_, _ = lines.Write(append(line, '\n')) // a bufio.Writer keeps its error for Flush
	}
	return lines.Flush()
}

// history makes one to six entries up, oldest first, spread over three years.
func history(r *rand.Rand, groups map[string][]string) ([]demo.Entry, error) {
	wanted := 1
	for wanted < 6 && r.Float64() < 0.6 {
		wanted++
	}
	// More customers are new than old, and what they do next comes soon after.
	age := newest + (oldest-newest)*math.Pow(r.Float64(), 1.4)
	state := demo.State{}
	var entries []demo.Entry
	for len(entries) < wanted {
		e := demo.First(r)
		if len(entries) > 0 {
			e = demo.Next(r, state)
		}
		e.DaysAgo = math.Round(age*1000) / 1000
		if err := apply(state, e, groups); err != nil {
			return nil, err
		}
		entries = append(entries, e)
		if age *= 0.25 + 0.74*r.Float64(); age < newest {
			break
		}
	}
	return entries, nil
}

// apply keeps up what stands, well enough for people to act on it: a claim does
// not undo a refusal.
func apply(state demo.State, e demo.Entry, groups map[string][]string) error {
	for _, s := range e.Changes {
		c, err := demo.ParseChange(s)
		if err != nil {
			return err
		}
		options := []string{c.OptionID}
		if c.OptionType == client.Group {
			options = groups[c.OptionID]
		}
		for _, o := range options {
			if c.State == "CLAIMED" && consent.State(state[o]).Refusal() {
				continue
			}
			state[o] = c.State
		}
	}
	return nil
}

func person(r *rand.Rand, addresses map[string]bool) client.Details {
	k := someCulture(r)
	given, family := k.given[r.IntN(len(k.given))], k.family[r.IntN(len(k.family))]
	town := k.towns[r.IntN(len(k.towns))]
	d := client.Details{
		GivenName:  given,
		FamilyName: family,
		Address: client.Address{
			StreetAddress:   fmt.Sprintf(k.streets[r.IntN(len(k.streets))], 1+r.IntN(140)),
			AddressLocality: town.name,
			PostalCode:      postcode(r, town.postcode, k.country),
			AddressCountry:  k.country,
		},
	}
	d.Email = address(r, k, given, family, addresses)
	if k.phone != "" && r.Float64() < 0.55 {
		d.Telephone = digits(r, k.phone)
	}
	if r.Float64() < 0.3 { // signed up without an address
		d.Address = client.Address{}
	}
	return d
}

func someCulture(r *rand.Rand) culture {
	total := 0
	for _, k := range cultures {
		total += k.share
	}
	n := r.IntN(total)
	for _, k := range cultures {
		if n -= k.share; n < 0 {
			return k
		}
	}
	panic("unreachable: n is less than the sum of the shares")
}

func digits(r *rand.Rand, pattern string) string {
	return strings.Map(func(c rune) rune {
		if c == '#' {
			return rune('0' + r.IntN(10))
		}
		return c
	}, pattern)
}

// postcode fills the pattern; a British one ends in letters.
func postcode(r *rand.Rand, pattern, country string) string {
	if country != "GB" {
		return digits(r, pattern)
	}
	const letters = "ABDEFGHJLNPQRSTUWXYZ"
	return strings.Map(func(c rune) rune {
		if c == '#' {
			return rune(letters[r.IntN(len(letters))])
		}
		return c
	}, pattern)
}

// address makes an e-mail address up, each once, in domains that nobody can own.
func address(r *rand.Rand, k culture, given, family string, taken map[string]bool) string {
	domain := []string{"example.com", "example.org", "example.net"}[r.IntN(3)]
	local := fmt.Sprintf("member%d", 1000+r.IntN(9000))
	if k.mailable {
		local = plain(given) + "." + plain(family)
	}
	a := local + "@" + domain
	for n := 2; taken[a]; n++ {
		a = fmt.Sprintf("%s%d@%s", local, n, domain)
	}
	taken[a] = true
	return a
}

var letters = strings.NewReplacer("ä", "ae", "ö", "oe", "ü", "ue", "ß", "ss", "ø", "o", "ł", "l", "ı", "i", "đ", "d")

// plain gives the name in small ASCII letters.
func plain(name string) string {
	name = letters.Replace(strings.ToLower(norm.NFC.String(name)))
	name, _, err := transform.String(transform.Chain(norm.NFD, runes.Remove(runes.In(unicode.Mn))), name)
	if err != nil {
		panic(err) // neither step can fail on a string
	}
	return strings.Map(func(c rune) rune {
		if c >= 'a' && c <= 'z' {
			return c
		}
		return -1
	}, name)
}
