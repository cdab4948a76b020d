package consent

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	strict "github.com/go-json-experiment/json"
)

// Item kinds, the names under which the parts of a catalogue are kept.
const (
	KindApplication = "application"
	KindParty       = "party"
	KindPurpose     = "purpose"
	KindChannel     = "channel"
	KindOption      = "option"
	KindOptionGroup = "option-group"
	KindPreference  = "preference"
	KindPolicy      = "privacy-policy"
	KindStatement   = "permission-statement"
	KindTemplate    = "template"
	KindRuleSet     = "rule-set"
	KindCentre      = "preference-centre"
	KindEmail       = "email"
)

// Words gives a kind as it stands in a sentence.
func Words(kind string) string { return strings.ReplaceAll(kind, "-", " ") }

// Part is one of the things that a catalogue lists.
type Part interface {
	// Named gives the kind, and the key: the id or reference, unique within its list.
	Named() (kind, key string)
}

// Named gives kind and key.
func (v Party) Named() (kind, key string) { return KindParty, v.ID }

// Named gives kind and key.
func (v Purpose) Named() (kind, key string) { return KindPurpose, v.ID }

// Named gives kind and key.
func (v Channel) Named() (kind, key string) { return KindChannel, v.ID }

// Named gives kind and key.
func (o Option) Named() (kind, key string) { return KindOption, o.ID }

// Named gives kind and key.
func (v OptionGroupItem) Named() (kind, key string) { return KindOptionGroup, v.ID }

// Named gives kind and key.
func (p Preference) Named() (kind, key string) { return KindPreference, p.Reference }

// Named gives kind and key.
func (v PrivacyPolicy) Named() (kind, key string) { return KindPolicy, v.Reference }

// Named gives kind and key.
func (v PermissionStatement) Named() (kind, key string) { return KindStatement, v.Reference }

// Named gives kind and key.
func (v Template) Named() (kind, key string) { return KindTemplate, v.Reference }

// Named gives kind and key.
func (r RuleSet) Named() (kind, key string) { return KindRuleSet, r.Reference }

// Named gives kind and key.
func (v PreferenceCentre) Named() (kind, key string) { return KindCentre, v.Reference }

// Named gives kind and key.
func (v EmailText) Named() (kind, key string) { return KindEmail, v.Reference }

// lists are the lists of a catalogue, in the order of the document.
var lists = []list{
	listOf("parties", "id", func(c *Catalogue) *[]Party { return &c.Parties }),
	listOf("purposes", "id", func(c *Catalogue) *[]Purpose { return &c.Purposes }),
	listOf("channels", "id", func(c *Catalogue) *[]Channel { return &c.Channels }),
	listOf("options", "id", func(c *Catalogue) *[]Option { return &c.Options }),
	listOf("optionGroups", "id", func(c *Catalogue) *[]OptionGroupItem { return &c.OptionGroups }),
	listOf("preferences", "reference", func(c *Catalogue) *[]Preference { return &c.Preferences }),
	listOf("privacyPolicies", "reference", func(c *Catalogue) *[]PrivacyPolicy { return &c.PrivacyPolicies }),
	listOf("permissionStatements", "reference", func(c *Catalogue) *[]PermissionStatement { return &c.PermissionStatements }),
	listOf("templates", "reference", func(c *Catalogue) *[]Template { return &c.Templates }),
	listOf("ruleSets", "reference", func(c *Catalogue) *[]RuleSet { return &c.RuleSets }),
	listOf("preferenceCentres", "reference", func(c *Catalogue) *[]PreferenceCentre { return &c.PreferenceCentres }),
	listOf("emails", "reference", func(c *Catalogue) *[]EmailText { return &c.Emails }),
}

// list is what the code needs to know of one list of a catalogue.
type list struct {
	kind string
	name string // in the document
	key  string // the field that holds the key
	// parts gives what is in the list, add puts something in at its end.
	parts func(*Catalogue) []Part
	add   func(*Catalogue, json.RawMessage) error
}

func listOf[T Part](name, key string, of func(*Catalogue) *[]T) list {
	var zero T
	kind, _ := zero.Named()
	return list{
		kind, name, key,
		func(c *Catalogue) []Part {
			parts := make([]Part, len(*of(c)))
			for i, v := range *of(c) {
				parts[i] = v
			}
			return parts
		},
		func(c *Catalogue, body json.RawMessage) error {
			var v T
			err := strict.Unmarshal(body, &v) // names as they are spelt
			*of(c) = append(*of(c), v)
			return err
		},
	}
}

func (l list) keys(c *Catalogue) []string {
	var keys []string
	for _, p := range l.parts(c) {
		_, key := p.Named()
		keys = append(keys, key)
	}
	return keys
}

func listOfKind(kind string) (list, bool) {
	i := slices.IndexFunc(lists, func(l list) bool { return l.kind == kind })
	if i < 0 {
		return list{}, false
	}
	return lists[i], true
}

// Item is one part of a catalogue on its own: what is versioned.
type Item struct {
	Kind string
	Key  string // id or reference, unique within application and kind
	Body json.RawMessage
}

// Items takes the catalogue apart, in the order of the document.
func (c Catalogue) Items() ([]Item, error) {
	body, err := json.Marshal(c.Application)
	if err != nil {
		return nil, err
	}
	items := []Item{{KindApplication, "", body}}
	for _, l := range lists {
		for _, p := range l.parts(&c) {
			_, key := p.Named()
			if centre, ok := p.(PreferenceCentre); ok {
				centre.Brand = centre.Brand.redrawn()
				p = centre
			}
			if body, err = json.Marshal(p); err != nil {
				return nil, err
			}
			items = append(items, Item{l.kind, key, body})
		}
	}
	return items, nil
}

// Assemble puts a catalogue together from its parts, keeping their order.
func Assemble(items []Item) (Catalogue, error) {
	var c Catalogue
	for _, it := range items {
		var err error
		if l, ok := listOfKind(it.Kind); ok {
			err = l.add(&c, it.Body)
		} else if it.Kind == KindApplication {
			err = json.Unmarshal(it.Body, &c.Application)
		} else {
			err = fmt.Errorf("unknown kind")
		}
		if err != nil {
			return c, fmt.Errorf("catalogue item %s %q: %w", it.Kind, it.Key, err)
		}
	}
	return c, nil
}

// Fields are the fields of an item as JSON, by name. Null stands for one that is
// left out.
type Fields map[string]json.RawMessage

// NewItem makes an item of its fields; what its kind does not have is left out.
func NewItem(kind string, fields Fields) (Item, error) {
	body, err := json.Marshal(fields)
	if err != nil {
		return Item{}, err
	}
	c, err := Assemble([]Item{{Kind: kind, Body: body}})
	if err != nil {
		return Item{}, err
	}
	items, err := c.Items()
	return items[len(items)-1], err
}

// Compare gives the fields that another item has with another value, or has alone, and
// those that it lacks, both in the order of the alphabet.
func (it Item) Compare(other Item) (set, cleared []string, err error) {
	var was, is Fields
	if err := errors.Join(json.Unmarshal(it.Body, &was), json.Unmarshal(other.Body, &is)); err != nil {
		return nil, nil, err
	}
	for _, name := range slices.Sorted(maps.Keys(is)) {
		if !bytes.Equal(was[name], is[name]) {
			set = append(set, name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(was)) {
		if is[name] == nil {
			cleared = append(cleared, name)
		}
	}
	return set, cleared, nil
}

// Edit gives the item with the fields that are given replaced, null clearing them.
// The key cannot be changed.
func (it Item) Edit(fields Fields, faults *Faults) (Item, error) {
	var present Fields
	if err := json.Unmarshal(it.Body, &present); err != nil {
		return it, err
	}
	all := maps.Clone(present)
	maps.Copy(all, fields)
	edited, err := NewItem(it.Kind, all)
	if l, ok := listOfKind(it.Kind); ok && err == nil && edited.Key != it.Key {
		faults.Add(l.key, "cannot be changed")
		all[l.key] = present[l.key]
		return NewItem(it.Kind, all)
	}
	return edited, err
}

// Locate takes the place of a fault of the catalogue apart: the kind and key of the
// item that it is in, and the place within that item.
func (c Catalogue) Locate(location string) (kind, key, within string) {
	name, rest, _ := strings.Cut(location, "[")
	number, within, _ := strings.Cut(rest, "]")
	for _, l := range lists {
		if i, err := strconv.Atoi(number); l.name == name && err == nil {
			return l.kind, l.keys(&c)[i], strings.TrimPrefix(within, ".")
		}
	}
	return KindApplication, "", strings.TrimPrefix(location, "application.")
}
