// Package demo is the main job of OpenCPM on real input: a made-up retailer,
// Northwind Outdoor, with its catalogue and two thousand citizens with histories;
// a receiver of webhooks; and a page that shows changes and the webhooks they
// caused as they arrive.
package demo

import (
	"bufio"
	"bytes"
	_ "embed"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/opencpm/opencpm/client"
	"github.com/opencpm/opencpm/internal/consent"
)

//go:generate go run ./gen -out data/citizens.jsonl

// Catalogue is the catalogue document of Northwind Outdoor, in YAML.
//
//go:embed data/catalogue.yaml
var Catalogue []byte

//go:embed data/citizens.jsonl
var citizens []byte

// Citizen is one line of the data file: a customer and what was recorded of them,
// oldest first.
type Citizen struct {
	ExternalRef string `json:"externalRef"`
	client.Details
	// Answers are what the customer told of their preferences at the first entry, with
	// "preference choice ..." each.
	Answers []string `json:"answers,omitempty"`
	History []Entry  `json:"history"`
}

// Name is the name to show.
func (c *Citizen) Name() string { return strings.TrimSpace(c.GivenName + " " + c.FamilyName) }

// Entry is one transaction of a history. Its time is kept as an age, so that the
// histories never grow old.
type Entry struct {
	DaysAgo        float64 `json:"daysAgo"`
	Channel        string  `json:"channel"`
	Campaign       string  `json:"campaign,omitempty"`
	Source         string  `json:"source,omitempty"`
	SourceSystem   string  `json:"sourceSystem,omitempty"`
	RecordedBy     string  `json:"recordedBy,omitempty"`
	RecordedByName string  `json:"recordedByName,omitempty"`
	Statement      string  `json:"statement,omitempty"` // reference of the wording that was shown
	// Changes hold "option basis STATE" each, with "group:" before the id of a group.
	Changes []string `json:"changes"`
	// ValidFor ends what is obtained now after a while; zero: as the catalogue says.
	ValidFor time.Duration `json:"-"`
}

// Transaction gives the entry as it is recorded through the API.
func (e Entry) Transaction(applicationID, externalRef string, now time.Time) (client.Transaction, error) {
	t := client.Transaction{
		ApplicationID: applicationID,
		ExternalRef:   externalRef,
		Origin: client.Origin{
			PrivacyPolicyRef: "privacy", PermissionStatementRef: e.Statement,
			Channel: e.Channel, Campaign: e.Campaign, Source: e.Source, SourceSystem: e.SourceSystem,
			RecordedBy: e.RecordedBy, RecordedByName: e.RecordedByName,
		},
	}
	if e.DaysAgo > 0 {
		t.ObtainedAt = now.Add(-time.Duration(e.DaysAgo * 24 * float64(time.Hour))).Truncate(time.Millisecond)
	}
	for _, s := range e.Changes {
		c, err := ParseChange(s)
		if err != nil {
			return t, err
		}
		if e.ValidFor > 0 {
			c.ValidUntil = now.Add(e.ValidFor).Truncate(time.Millisecond)
		}
		t.Changes = append(t.Changes, c)
	}
	return t, nil
}

// ParseChange reads one change of an Entry.
func ParseChange(s string) (client.Change, error) {
	parts := strings.Fields(s)
	if len(parts) != 3 {
		return client.Change{}, fmt.Errorf("the change %q is not made of option, basis and state", s)
	}
	c := client.Change{OptionType: client.Option, OptionID: parts[0], Justification: parts[1], State: parts[2]}
	if id, group := strings.CutPrefix(c.OptionID, "group:"); group {
		c.OptionType, c.OptionID = client.Group, id
	}
	return c, nil
}

// ParseAnswer reads one answer to a preference.
func ParseAnswer(s string) client.Answer {
	parts := strings.Fields(s)
	if len(parts) == 0 {
		return client.Answer{}
	}
	return client.Answer{Preference: parts[0], Choices: parts[1:]}
}

// Citizens gives the customers of Northwind Outdoor. The slice is shared: it is
// for reading only.
var Citizens = sync.OnceValue(func() []Citizen {
	var all []Citizen
	lines := bufio.NewScanner(bytes.NewReader(citizens))
	for lines.Scan() {
		var c Citizen
		if err := json.Unmarshal(lines.Bytes(), &c); err != nil {
			panic(fmt.Sprintf("demo data, line %d: %v", len(all)+1, err)) // the file is compiled in and tested
		}
		all = append(all, c)
	}
	return all
})

// naming gives the names by which the page calls what the catalogue keeps by id.
type naming struct {
	options map[string]string // and groups, under "group:" and their id
	people  map[string]string // by externalRef
}

var vocabulary = sync.OnceValue(func() naming {
	catalogue, err := consent.ParseCatalogue(Catalogue)
	if err != nil {
		panic(fmt.Sprintf("demo catalogue: %v", err)) // the file is compiled in and tested
	}
	w := naming{options: map[string]string{}, people: map[string]string{}}
	purposes, channels, parties := map[string]string{}, map[string]string{}, map[string]string{}
	for _, p := range catalogue.Purposes {
		purposes[p.ID] = p.Name
	}
	for _, c := range catalogue.Channels {
		channels[c.ID] = inSentence(c.Name)
	}
	for _, p := range catalogue.Parties {
		parties[p.ID] = p.Name
	}
	for _, o := range catalogue.Options {
		name := purposes[o.Purpose] + " by " + channels[o.Channel]
		if o.Party != catalogue.Parties[0].ID {
			name += ", " + parties[o.Party]
		}
		w.options[o.ID] = name
	}
	for _, g := range catalogue.OptionGroups {
		w.options["group:"+g.ID] = g.Name
	}
	for _, c := range Citizens() {
		w.people[c.ExternalRef] = c.Name()
	}
	return w
})

// inSentence lowers the first letter, unless the word is an abbreviation.
func inSentence(name string) string {
	if name == strings.ToUpper(name) {
		return name
	}
	return strings.ToLower(name[:1]) + name[1:]
}

// option gives the option, or the group, in words: its id where the catalogue of
// the demo does not know it.
func (w naming) option(optionType, id string) string {
	if name, ok := w.options[optionKey(optionType, id)]; ok {
		return name
	}
	return id
}

// optionKey names an option, or with "group:" before its id a group.
func optionKey(optionType, id string) string {
	if optionType == client.Group {
		return "group:" + id
	}
	return id
}
