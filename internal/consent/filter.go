package consent

import "slices"

// Filter says which entries of a citizen's state a subscription is about: those of the
// options, of the options on the channels, and of the preferences that it names. A
// group is among them where one of its options is. An empty filter is about all.
type Filter struct {
	Options     []string `json:"options,omitempty"`
	Channels    []string `json:"channels,omitempty"`
	Preferences []string `json:"preferences,omitempty"`
}

// Empty reports whether the filter lets everything through.
func (f Filter) Empty() bool { return len(f.Options)+len(f.Channels)+len(f.Preferences) == 0 }

func (f Filter) check(faults *Faults) {
	for _, list := range []struct {
		name string
		keys []string
	}{{"filter.options", f.Options}, {"filter.channels", f.Channels}, {"filter.preferences", f.Preferences}} {
		if len(list.keys) > maxFiltered {
			faults.Add(list.name, "must name at most %d", maxFiltered)
		}
		for i, key := range list.keys {
			CheckText(faults, at(list.name, i), key, 1, 100)
		}
	}
}

// Select gives what of a state passes the filter. placed knows the catalogue.
func (f Filter) Select(s FullState, placed Placement) FullState {
	if f.Empty() {
		return s
	}
	out := FullState{Permissions: []Permission{}, Preferences: []CurrentPreference{}}
	for _, p := range s.Permissions {
		if f.option(p.key(), placed) {
			out.Permissions = append(out.Permissions, p)
		}
	}
	for _, p := range s.Preferences {
		if slices.Contains(f.Preferences, p.Preference) {
			out.Preferences = append(out.Preferences, p)
		}
	}
	return out
}

// option reports whether an option or group passes.
func (f Filter) option(k Key, placed Placement) bool {
	if slices.Contains(f.Options, k.ID) {
		return true
	}
	if k.Type == OptionGroup {
		return slices.ContainsFunc(placed.groups[k.ID], func(option string) bool { return f.option(Key{OptionSingle, option}, placed) })
	}
	return slices.Contains(f.Channels, placed.channels[k.ID])
}

// Placement is what a filter needs of a catalogue, archived items included: the channel
// of each option and the options of each group.
type Placement struct {
	channels map[string]string
	groups   map[string][]string
}

// Place reads the placement of a catalogue.
func Place(items []Revision) (Placement, error) {
	p := Placement{map[string]string{}, map[string][]string{}}
	all := make([]Item, len(items))
	for i, it := range items {
		all[i] = it.Item
	}
	c, err := Assemble(all)
	for _, o := range c.Options {
		p.channels[o.ID] = o.Channel
	}
	for _, g := range c.OptionGroups {
		p.groups[g.ID] = g.Options
	}
	return p, err
}
