package config

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"unicode"

	"github.com/alecthomas/kong"
	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// file is a configuration file: one YAML mapping of keys to values or lists of values.
type file struct {
	path    string
	entries map[string]entry
}

// entry is what stands at one key. A list is text too, in the form that flags take: separated by commas.
type entry struct {
	text string
	list bool
	line int
}

func (f *file) place(e entry) string { return fmt.Sprintf("%s:%d", f.path, e.line) }

// readFile reads a configuration file; namedBy is the flag or variable that named it.
func readFile(path, namedBy string) (*file, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, &settingError{namedBy, unreadable(path, err)}
	}
	return parseFile(path, text)
}

// parseFile works on the syntax tree: it has the lines for the errors, and the values as they were written, so that
// the same text means the same in the file as in a variable. The library's errors quote the lines around a mistake,
// where a secret may stand, so only their message is passed on.
func parseFile(path string, text []byte) (*file, error) {
	tree, err := parser.ParseBytes(text, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		if syntax := (*yaml.SyntaxError)(nil); errors.As(err, &syntax) && syntax.Token != nil {
			return nil, &settingError{fmt.Sprintf("%s:%d", path, syntax.Token.Position.Line), fmt.Errorf("not valid YAML: %s", syntax.Message)}
		}
		return nil, &settingError{path, errors.New("not valid YAML")}
	}
	f := &file{path: path, entries: map[string]entry{}}
	for i, document := range tree.Docs {
		if i > 0 {
			return nil, &settingError{path, errors.New("must be a single YAML document")}
		}
		if document.Body == nil {
			continue // nothing but comments
		}
		mapping, ok := document.Body.(*ast.MappingNode)
		if !ok {
			return nil, &settingError{path, errors.New(`must consist of lines such as "listen: 127.0.0.1:8080"`)}
		}
		for _, pair := range mapping.Values {
			if err := f.add(pair); err != nil {
				return nil, err
			}
		}
	}
	return f, nil
}

func (f *file) add(pair *ast.MappingValueNode) error {
	found := entry{line: pair.Key.GetToken().Position.Line}
	wrong := func(format string, arguments ...any) error {
		return &settingError{f.place(found), fmt.Errorf(format, arguments...)}
	}
	name, ok := pair.Key.(*ast.StringNode)
	if !ok || strings.ContainsFunc(name.Value, func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune("-_.", r)
	}) {
		// Not repeated: what looks like no key may be a value that slipped to the left.
		return wrong("there is something else where the name of a setting was expected")
	}
	key := name.Value
	if earlier, ok := f.entries[key]; ok {
		return wrong("%s is set on line %d already", key, earlier.line)
	}
	switch value := pair.Value.(type) {
	case *ast.SequenceNode:
		found.list = true
		var elements []string
		for _, node := range value.Values {
			element, ok := scalar(node)
			if !ok {
				return wrong("%s must be a list of single values", key)
			}
			elements = append(elements, element)
		}
		found.text = kong.JoinEscaped(elements, ',')
	case *ast.NullNode:
		return wrong("%s has no value; give one, or remove the line", key)
	default:
		if found.text, ok = scalar(value); !ok {
			return wrong("%s must be a single value or a list of them", key)
		}
	}
	f.entries[key] = found
	return nil
}

// scalar returns a single value as it was written.
func scalar(node ast.Node) (string, bool) {
	switch value := node.(type) {
	case *ast.LiteralNode:
		return value.Value.Value, true
	case *ast.StringNode, *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode:
		return value.GetToken().Value, true
	default:
		return "", false
	}
}
