package config

import (
	"errors"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
)

const envPrefix = "OPENCPM_"

// Parse reads the command line of the program, whose commands cli describes. Each flag not given there is taken from
// its environment variable, then from the configuration file, then from its default. The variable of --some-flag is
// OPENCPM_SOME_FLAG, its key in the file some-flag; a list is separated by commas in a variable and a list in the
// file. A secret can also be in a file of its own that OPENCPM_…_FILE names. An empty variable counts as not set.
//
// A variable that begins with OPENCPM_ and a key of the file must belong to some flag of some command. The error of a
// wrong name or value is one or more sentences fit to be printed alone; it never shows a secret. env has the form of
// os.Environ.
func Parse(cli any, args, env []string, options ...kong.Option) (*kong.Context, error) {
	r := &resolver{env: map[string]string{}, origins: map[*kong.Flag]origin{}}
	for _, variable := range env {
		if name, value, _ := strings.Cut(variable, "="); strings.HasPrefix(name, envPrefix) {
			r.env[name] = value
		}
	}
	parser, err := kong.New(cli, slices.Concat(
		[]kong.Option{kong.Name("opencpm"), kong.ValueFormatter(helpText), kong.Resolvers(r), kong.WithBeforeResolve(r.prepare)},
		decoders(), options)...)
	if err != nil {
		return nil, fmt.Errorf("the command line is described wrongly: %w", err)
	}
	ctx, err := parser.Parse(args)
	if wrong := (*settingError)(nil); errors.As(err, &wrong) {
		return nil, wrong
	}
	if err != nil {
		return nil, err
	}
	ctx.Bind(r)
	return ctx, nil
}

// settingError says where a setting is wrong and how. It is a type of its own so that what kong puts around it, the
// name of a flag that nobody gave, can be taken off again.
type settingError struct {
	where string
	err   error
}

func (e *settingError) Error() string { return e.where + ": " + e.err.Error() }
func (e *settingError) Unwrap() error { return e.err }

// origin says where a value comes from: the kind of source, and the name or place in it.
type origin struct{ source, from string }

// resolver gives kong the values of the environment and the file.
type resolver struct {
	env      map[string]string
	file     *file // nil where none is named
	prepared bool
	byName   map[string]*kong.Flag // every flag that has a name outside the command line
	origins  map[*kong.Flag]origin // of the values resolved
}

// prepare reads the file and refuses wrong names everywhere and wrong values on the command line. Kong calls it once
// for each element of the command line, behind --help and before it asks for values.
func (r *resolver) prepare(ctx *kong.Context) error {
	if r.prepared {
		return nil
	}
	r.prepared = true
	r.byName = map[string]*kong.Flag{}
	r.learn(ctx.Model.Node)

	path, namedBy := r.env[envPrefix+"CONFIG"], envPrefix+"CONFIG"
	for _, element := range ctx.Path {
		if element.Flag == nil {
			continue
		}
		value := ctx.Value(element)
		if element.Flag.Tag.Get("flag") == "-" {
			return &settingError{"--" + element.Flag.Name, fmt.Errorf("everybody on the machine can read a secret on the command line; set %s instead", envName(element.Flag))}
		}
		if err := check(element.Flag, value); err != nil {
			return &settingError{"--" + element.Flag.Name, err}
		}
		if element.Flag.Name == "config" {
			path, namedBy = value.String(), "--config"
		}
	}
	if path != "" && r.byName["config"] != nil {
		var err error
		if r.file, err = readFile(path, namedBy); err != nil {
			return err
		}
	}
	return r.unknown()
}

// learn collects the flags below node.
func (r *resolver) learn(node *kong.Node) {
	for _, flag := range node.Flags {
		if outside(flag.Value) {
			r.byName[flag.Name] = flag
		}
	}
	for _, child := range node.Children {
		r.learn(child)
	}
}

// unknown returns an error for every variable and key that is no setting.
func (r *resolver) unknown() error {
	var variables, keys []string
	for _, flag := range r.byName {
		variables = append(variables, envName(flag))
		if r.hasSecretFile(flag) {
			variables = append(variables, envName(flag)+"_FILE")
		}
		if flag.Tag.Get("file") != "-" {
			keys = append(keys, flag.Name)
		}
	}
	var errs []error
	for name := range r.env {
		if !slices.Contains(variables, name) {
			errs = append(errs, &settingError{name, unknownName("no such setting", name, variables)})
		}
	}
	if r.file != nil {
		for key, entry := range r.file.entries {
			if !slices.Contains(keys, key) {
				errs = append(errs, &settingError{r.file.place(entry), unknownName(fmt.Sprintf("unknown key %q", key), key, keys)})
			}
		}
	}
	if len(errs) == 0 {
		return nil
	}
	slices.SortFunc(errs, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	first := errs[0].(*settingError) //nolint:errorlint // made above, not wrapped
	return &settingError{first.where, errors.Join(append([]error{first.err}, errs[1:]...)...)}
}

// hasSecretFile reports whether the secret can be read from a file that a …_FILE variable names. OPENCPM_KEY cannot:
// OPENCPM_KEY_FILE is the variable of --key-file, which says the same.
func (r *resolver) hasSecretFile(flag *kong.Flag) bool {
	_, taken := r.byName[flag.Name+"-file"]
	return isSecret(flag) && !taken
}

// outside reports whether a flag can be given elsewhere than on the command line.
func outside(value *kong.Value) bool {
	return value.Flag != nil && value.Name != "help" && !slices.Contains(value.Tag.Envs, "-")
}

func isSecret(flag *kong.Flag) bool {
	_, secret := flag.Target.Interface().(interface{ Reveal() string })
	return secret
}

func envName(flag *kong.Flag) string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(flag.Name, "-", "_"))
}

// Validate has nothing to do: names are checked before values are resolved.
func (r *resolver) Validate(*kong.Application) error { return nil }

// Resolve returns the text of the flag's value in the environment, else in the file, else nil.
func (r *resolver) Resolve(_ *kong.Context, _ *kong.Path, flag *kong.Flag) (any, error) {
	if !outside(flag.Value) {
		return nil, nil
	}
	text, from, err := r.find(flag)
	if err != nil || from.source == "" {
		return nil, err
	}
	value := reflect.New(flag.Target.Type()).Elem()
	if err = decode(flag, text, value); err == nil {
		err = check(flag, value)
	}
	if err != nil {
		return nil, &settingError{from.where(flag), err}
	}
	r.origins[flag] = from
	return text, nil
}

// find returns the text of a value outside the command line and where it is from; an empty source means nowhere.
func (r *resolver) find(flag *kong.Flag) (string, origin, error) {
	name := envName(flag)
	text, path := r.env[name], ""
	if r.hasSecretFile(flag) {
		path = r.env[name+"_FILE"]
	}
	switch {
	case text != "" && path != "":
		return "", origin{}, &settingError{name, fmt.Errorf("set beside %s_FILE; keep one of them", name)}
	case text != "":
		return text, origin{"env", name}, nil
	case path != "":
		text, err := readSecret(path)
		if err != nil {
			return "", origin{}, &settingError{name + "_FILE", err}
		}
		return text, origin{"env", name + "_FILE"}, nil
	}
	if r.file != nil && flag.Tag.Get("file") != "-" {
		if entry, ok := r.file.entries[flag.Name]; ok {
			if entry.list && !flag.IsSlice() {
				return "", origin{}, &settingError{r.file.place(entry), fmt.Errorf("%s takes one value, not a list", flag.Name)}
			}
			return entry.text, origin{"file", r.file.place(entry)}, nil
		}
	}
	return "", origin{}, nil
}

// where begins the sentence about a wrong value.
func (o origin) where(flag *kong.Flag) string {
	if o.source == "file" {
		return o.from + ": " + flag.Name
	}
	return o.from
}

// readSecret reads a secret from a file of its own, without the line ends behind it.
func readSecret(path string) (string, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return "", unreadable(path, err)
	}
	secret := strings.TrimRight(string(text), "\r\n")
	if secret == "" {
		return "", fmt.Errorf("the file %s is empty", path)
	}
	return secret, nil
}

// unreadable says why a file cannot be read.
func unreadable(path string, err error) error {
	if detail := (*os.PathError)(nil); errors.As(err, &detail) {
		err = detail.Err
	}
	return fmt.Errorf("cannot read the file %s: %w", path, err)
}

// helpText is the help of a flag with its limits and the name of its variable behind it.
func helpText(value *kong.Value) string {
	if value.Flag == nil {
		return value.Help
	}
	text := value.Help + limits(value.Flag, func(limit string) string { return limit })
	if outside(value) {
		text += " ($" + envName(value.Flag) + ")"
	}
	return text
}

// unknownName says that a name is unknown and which known ones are near it.
func unknownName(problem, name string, known []string) error {
	if near := nearest(name, known); len(near) > 0 {
		return fmt.Errorf("%s; did you mean %s?", problem, strings.Join(near, " or "))
	}
	return errors.New(problem)
}

// nearest returns at most three of the known names that a slip of the pen could have turned into name.
func nearest(name string, known []string) []string {
	name = fold(name)
	within := max(2, len(name)/4)
	distances := map[string]int{}
	var near []string
	for _, candidate := range known {
		if d := distance(name, fold(candidate)); d <= within {
			distances[candidate] = d
			near = append(near, candidate)
		}
	}
	slices.SortFunc(near, func(a, b string) int {
		if d := distances[a] - distances[b]; d != 0 {
			return d
		}
		return strings.Compare(a, b)
	})
	return near[:min(3, len(near))]
}

// fold makes names alike that differ in case or in the sign between words only, and drops what all variables share.
func fold(name string) string {
	return strings.ReplaceAll(strings.ToLower(strings.TrimPrefix(name, envPrefix)), "_", "-")
}

// distance is the Levenshtein distance of two names in bytes.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
