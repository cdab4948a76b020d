package config

import (
	"encoding/json"
	"fmt"
	"io"
	"reflect"
	"strings"
	"text/tabwriter"

	"github.com/alecthomas/kong"
)

// Value is one setting as it applies, fit to be shown.
type Value struct {
	Name   string `json:"-"`              // the flag's name without its dashes
	Group  string `json:"-"`              // the heading it belongs under
	Value  any    `json:"value"`          // a string, a number, a list of strings, or nil where nothing is set; secrets are masked
	Source string `json:"source"`         // flag, env, file or default
	From   string `json:"from,omitempty"` // the flag, the variable, or file and line; "" for a default
}

// Values is the effective configuration of one run, in the order of the reference page.
type Values []Value

// Effective returns the settings that the command selected in ctx takes, as they apply to it. The command's other
// flags are left out. ctx must come from [Parse].
func Effective(ctx *kong.Context) (Values, error) {
	var r *resolver
	if _, err := ctx.Call(func(bound *resolver) { r = bound }); err != nil {
		return nil, fmt.Errorf("find the sources of the settings: %w", err)
	}
	onCommandLine := map[*kong.Flag]bool{}
	for _, element := range ctx.Path {
		if element.Flag != nil && !element.Resolved {
			onCommandLine[element.Flag] = true
		}
	}
	isSetting := map[string]bool{}
	for _, flag := range model().Flags {
		isSetting[flag.Name] = true
	}
	var values Values
	for _, flag := range ctx.Flags() {
		if !isSetting[flag.Name] {
			continue
		}
		from, resolved := r.origins[flag]
		switch {
		case onCommandLine[flag]:
			from = origin{"flag", "--" + flag.Name}
		case !resolved:
			from = origin{source: "default"}
		}
		values = append(values, Value{flag.Name, flag.Group.Title, shown(flag.Target), from.source, from.from})
	}
	return values, nil
}

// shown turns the value of a setting into what may be shown of it.
func shown(value reflect.Value) any {
	switch {
	case value.Kind() == reflect.Slice:
		list := []string{}
		for i := range value.Len() {
			list = append(list, plain(value.Index(i)))
		}
		return list
	case value.Kind() == reflect.Int, value.Kind() == reflect.Float64, value.Kind() == reflect.Bool:
		return value.Interface()
	}
	if text := plain(value); text != "" {
		return text
	}
	return nil
}

// WriteText writes the settings for people: a line for each, with where its value comes from.
func (v Values) WriteText(w io.Writer) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	group := ""
	for _, setting := range v {
		if setting.Group != group {
			group = setting.Group
			fmt.Fprintf(table, "# %s\n", group)
		}
		text := "-"
		switch value := setting.Value.(type) {
		case nil:
		case []string:
			if len(value) > 0 {
				text = strings.Join(value, ",")
			}
		default:
			text = fmt.Sprint(value)
		}
		fmt.Fprintf(table, "%s\t%s\t%s\n", setting.Name, text, strings.TrimSpace(setting.Source+" "+setting.From))
	}
	return table.Flush()
}

// MarshalJSON returns one object with a member for each setting.
func (v Values) MarshalJSON() ([]byte, error) {
	members := map[string]Value{}
	for _, setting := range v {
		members[setting.Name] = setting
	}
	return json.Marshal(members)
}
