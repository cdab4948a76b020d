package api

import (
	"encoding/json"
	"io"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/token"

	"github.com/opencpm/opencpm/internal/consent"
)

// Bounds of a YAML document, within which it is read in about a second. JSON has
// none of them.
const (
	maxDepth = 50     // of nesting, and how much of it may stand in one line
	maxPairs = 20_000 // of names and values that are not in braces
)

// readYAML gives the JSON of a YAML document of plain values. What is beyond the
// bounds is refused before it is read: a small document of anchors, of depth or of
// countless names takes more time and memory than anybody has.
func readYAML(data []byte) ([]byte, error) {
	line, inLine, brackets, documents, pairs := 0, 0, 0, 0, 0
	for _, t := range lexer.Tokenize(string(data)) {
		if t.Position.Line != line {
			line, inLine = t.Position.Line, 0
		}
		switch t.Type {
		case token.AnchorType, token.AliasType, token.TagType, token.MappingKeyType, token.MergeKeyType, token.DirectiveType:
			return nil, consent.Errorf(consent.Malformed, "The YAML must do without anchors, tags and complex keys: see line %d.", line)
		case token.DocumentHeaderType:
			documents++
		case token.SequenceStartType, token.MappingStartType:
			brackets++
		case token.SequenceEndType, token.MappingEndType:
			brackets--
		case token.SequenceEntryType, token.MappingValueType:
			if brackets > 0 {
				break
			}
			if inLine++; t.Type == token.MappingValueType {
				pairs++
			}
		}
		switch {
		case brackets > maxDepth || inLine > maxDepth || t.Position.IndentNum > 10*maxDepth:
			return nil, consent.Errorf(consent.Malformed, "The YAML is nested too deep: see line %d.", line)
		case documents > 1:
			return nil, consent.Errorf(consent.Malformed, "The YAML must be one document: see line %d.", line)
		case pairs > maxPairs:
			return nil, consent.Errorf(consent.Malformed, "The YAML is too long from line %d on; send JSON, which may be longer.", line)
		}
	}
	asJSON, err := yaml.YAMLToJSON(data)
	if err != nil {
		return nil, consent.Errorf(consent.Malformed, "The body cannot be read as YAML.")
	}
	return asJSON, nil
}

// writeYAML writes an answer. That the client went away is no one's concern.
func writeYAML(w io.Writer, v any) error {
	asJSON, err := json.Marshal(v)
	if err != nil {
		return err
	}
	asYAML, err := yaml.JSONToYAML(asJSON)
	if err != nil {
		return err
	}
	_, _ = w.Write(asYAML)
	return nil
}
