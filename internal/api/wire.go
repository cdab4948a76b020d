package api

import (
	"cmp"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime"
	"net"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/internal/core"
)

// The limits of a request body: its size in bytes, that of a request in bulk, and the
// time in which it must have arrived.
const (
	maxBody     = 1 << 20
	maxBulkBody = 10 << 20
	bodyTime    = 15 * time.Second
)

const idempotencyKey = "Idempotency-Key"

const (
	jsonType = "application/json"
	formType = "application/x-www-form-urlencoded"
	yamlType = "application/yaml"
	htmlType = "text/html"
)

// body is the body of a request, embedded in the input of an operation, which gets
// it from read.
type body[T any] struct {
	value   T
	request core.Request
}

// read gives the body and, for core, what is wrong with it by its published schema;
// what is wrong has been left out of the value. Core reports it together with what
// it finds itself, so that the caller learns everything at once.
func (b *body[T]) read() (T, core.Request) { return b.value, b.request }

// documented is the input of an operation that has a body.
type documented interface {
	schema(huma.Registry) *huma.Schema
}

// schema documents the body. What is optional in it may be null as well.
func (*body[T]) schema(r huma.Registry) *huma.Schema {
	s := r.Schema(reflect.TypeFor[T](), true, "")
	optionalMayBeNull(r, s)
	return s
}

// Resolve reads the body; huma calls it once the parameters are read.
func (b *body[T]) Resolve(hc huma.Context) []error {
	content := hc.Operation().RequestBody.Content
	data, err := readBody(hc, content)
	if errors.Is(err, errNoBody) && !hc.Operation().RequestBody.Required {
		data, err = []byte("{}"), nil
	}
	if err != nil {
		return []error{err}
	}
	digest := sha256.Sum256(data)
	b.request.Digest, b.request.IdempotencyKey = digest[:], hc.Header(idempotencyKey)
	call := callOf(hc.Context())
	registry := call.server.huma.OpenAPI().Components.Schemas
	if b.request.Found, err = decode(registry, content[jsonType].Schema, data, &b.value); err != nil {
		return []error{err}
	}
	*call.body = b.request.Found
	return nil
}

// decode reads JSON into a value, leaving out what does not keep to the schema and
// noting where that is. It fails where nothing can be made of the JSON at all.
func decode(r huma.Registry, s *huma.Schema, data []byte, value any) (found consent.Faults, err error) {
	return reading{registry: r}.decode(s, data, value)
}

func (f reading) decode(s *huma.Schema, data []byte, value any) (found consent.Faults, err error) {
	tree, err := parse(data)
	if err != nil {
		return nil, err
	}
	usable := f.check(s, tree, "")
	if found = f.faults; !usable {
		return nil, found.Err()
	}
	if found != nil {
		if data, err = json.Marshal(tree); err != nil {
			return nil, fmt.Errorf("what is left of a body cannot be written: %w", err)
		}
	}
	if err := json.Unmarshal(data, value); err != nil {
		return nil, fmt.Errorf("a body that keeps to its schema cannot be read: %w", err)
	}
	return found, nil
}

// readBody gives the JSON of a body. A form becomes an object of its first values.
func readBody(hc huma.Context, content map[string]*huma.MediaType) ([]byte, error) {
	mediaType := jsonType
	if header := hc.Header("Content-Type"); header != "" {
		mediaType, _, _ = mime.ParseMediaType(header)
	}
	if strings.HasSuffix(mediaType, "+json") {
		mediaType = jsonType
	}
	if content[mediaType] == nil {
		return nil, refusal{http.StatusUnsupportedMediaType, "The body must be " + strings.Join(mediaTypes(content), " or ") + "."}
	}
	most := int64(maxBody)
	if hc.Operation().MaxBodyBytes > most {
		most = hc.Operation().MaxBodyBytes
	}
	data, err := io.ReadAll(io.LimitReader(hc.BodyReader(), most+1))
	var late net.Error
	switch {
	case errors.As(err, &late) && late.Timeout():
		return nil, refusal{http.StatusRequestTimeout, fmt.Sprintf("The body did not arrive within %s.", bodyTime)}
	case err != nil:
		return nil, consent.Errorf(consent.Malformed, "The body ended early.")
	case int64(len(data)) > most:
		return nil, consent.Errorf(consent.TooLarge, "The body is larger than %d MiB; nothing was changed.", most>>20)
	}
	_ = hc.SetReadDeadline(time.Time{}) // it is all there; what timely set would end the call while it is answered
	switch {
	case len(data) == 0:
		return nil, errNoBody
	case mediaType == yamlType:
		return readYAML(data)
	case mediaType != formType:
		return data, nil
	}
	form, err := url.ParseQuery(string(data))
	if err != nil {
		return nil, consent.Errorf(consent.Malformed, "The form cannot be read.")
	}
	object := map[string]string{}
	for name, values := range form {
		object[name] = values[0]
	}
	if data, err = json.Marshal(object); err != nil {
		return nil, consent.Errorf(consent.Malformed, "The form must be UTF-8.")
	}
	return data, nil
}

var errNoBody = consent.Errorf(consent.Malformed, "The request needs a body.")

func mediaTypes(content map[string]*huma.MediaType) []string {
	names := []string{}
	for name := range content {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// parse reads one JSON value: strictly UTF-8, and no name twice in an object, for
// nobody could say which of the two was meant. Numbers stay as they were written.
func parse(data []byte) (tree any, err error) {
	asWritten := json.UnmarshalFromFunc(func(d *jsontext.Decoder, v *any) error {
		if d.PeekKind() == '0' {
			*v = jsontext.Value(nil)
		}
		return json.SkipFunc
	})
	if err := json.Unmarshal(data, &tree, json.WithUnmarshalers(asWritten)); err != nil {
		var where *jsontext.SyntacticError
		if errors.As(err, &where) {
			return nil, consent.Errorf(consent.Malformed, "The body cannot be read as JSON: see byte %d. It must be UTF-8, and no name may stand twice in one object.", where.ByteOffset)
		}
		return nil, fmt.Errorf("reading a body: %w", err)
	}
	return tree, nil
}

// reading gathers where what was sent does not keep to its published schema.
type reading struct {
	registry huma.Registry
	strict   bool // names that the schema does not know are faults; else they are ignored
	faults   consent.Faults
}

// check notes where a JSON value does not keep to its published schema: types,
// formats, lengths and what must be given. It takes what does not keep to it out of
// objects and lists, and reports whether v itself is usable. What else breaks a rule
// core says better, values that are none of an enumeration included.
func (f *reading) check(s *huma.Schema, v any, at string) (usable bool) {
	r, faults := f.registry, &f.faults
	for s.Ref != "" {
		s = r.SchemaFromRef(s.Ref)
	}
	if s.OneOf != nil {
		names := []string{}
		for _, a := range s.OneOf {
			for a.Ref != "" {
				a = r.SchemaFromRef(a.Ref)
			}
			if a.Type == typeOf(v) {
				if a.Type == huma.TypeObject && slices.ContainsFunc(s.OneOf, isList) {
					at += "[0]" // what may stand without a list is the first of one to core
				}
				return f.check(a, v, at)
			}
			if a.Type != nullType {
				names = append(names, typeNames[a.Type])
			}
		}
		faults.Add(cmp.Or(at, "body"), "must be %s", strings.Join(names, " or "))
		return false
	}
	if typeOf(v) != s.Type {
		faults.Add(cmp.Or(at, "body"), "must be %s", typeNames[s.Type])
		return false
	}
	switch v := v.(type) {
	case map[string]any:
		f.object(s, v, at)
	case []any:
		if s.MaxItems != nil && len(v) > *s.MaxItems {
			faults.Add(at, "must hold at most %d", *s.MaxItems)
			return false
		}
		for i, item := range v {
			if !f.check(s.Items, item, fmt.Sprintf("%s[%d]", at, i)) {
				v[i] = nil
			}
		}
	case jsontext.Value:
		if _, err := strconv.ParseInt(string(v), 10, 64); err != nil && s.Format == "int64" {
			faults.Add(at, "must be nearer to zero")
			return false
		}
	case string:
		return f.text(s, v, at)
	}
	return true
}

// object checks the fields of an object.
func (f *reading) object(s *huma.Schema, v map[string]any, at string) {
	if all, ok := s.AdditionalProperties.(*huma.Schema); ok {
		for name, value := range v { // which is the caller's own: the place does not repeat it
			if value != nil && !f.check(all, value, at) {
				delete(v, name)
			}
		}
	}
	for _, name := range sortedNames(s.Properties) {
		place := strings.TrimPrefix(at+"."+name, ".")
		switch value := v[name]; {
		case value == nil:
			if slices.Contains(s.Required, name) {
				f.faults.Add(place, "must be given")
			}
		case name == "name" && s.Properties["label"] != nil && typeOf(value) == huma.TypeObject:
			f.faults.Add(place, "must be a string; for several languages use label")
			delete(v, name)
		case !f.check(s.Properties[name], value, place):
			delete(v, name)
		}
	}
	if _, open := s.AdditionalProperties.(*huma.Schema); f.strict && !open {
		f.unknown(s, v, at)
	}
}

// unknown notes the names of an object that its schema does not have.
func (f *reading) unknown(s *huma.Schema, v map[string]any, at string) {
	known := sortedNames(s.Properties)
	for _, name := range slices.Sorted(maps.Keys(v)) {
		if s.Properties[name] != nil {
			continue
		}
		message := "there is no such field"
		if i := slices.IndexFunc(known, func(other string) bool { return alike(name, other) }); i >= 0 {
			message += "; did you mean " + known[i] + "?"
		}
		f.faults.Add(strings.TrimPrefix(at+"."+name, "."), "%s", message)
	}
}

// alike reports whether one name may be a slip of the other: apart from capitals one
// letter is wrong, missing or too much, or two have changed places.
func alike(a, b string) bool {
	a, b = strings.ToLower(a), strings.ToLower(b)
	for a != "" && b != "" && a[0] == b[0] {
		a, b = a[1:], b[1:]
	}
	for a != "" && b != "" && a[len(a)-1] == b[len(b)-1] {
		a, b = a[:len(a)-1], b[:len(b)-1]
	}
	return len(a) < 2 && len(b) < 2 || len(a) == 2 && len(b) == 2 && a[0] == b[1] && a[1] == b[0]
}

// text checks the length and the format of a string.
func (f *reading) text(s *huma.Schema, v, at string) (usable bool) {
	var wrong consent.Faults
	if s.MaxLength != nil {
		least := 0
		if s.MinLength != nil {
			least = *s.MinLength
		}
		consent.CheckText(&wrong, at, v, least, *s.MaxLength)
	}
	var err error
	switch {
	case s.Format == "uuid":
		_, err = consent.ParseID(v)
	case s.Extensions["format"] == dateTime:
		_, err = consent.ParseInstant(v)
	case s.ContentEncoding == "base64":
		if _, err = base64.StdEncoding.DecodeString(v); err != nil {
			err = errors.New("is not base64")
		}
	}
	if err != nil {
		wrong.Add(at, "%v", err)
	}
	for _, w := range wrong {
		f.faults.Add(w.Location, "%s", w.Message)
	}
	return wrong == nil
}

func isList(s *huma.Schema) bool { return s.Type == huma.TypeArray }

func isNull(s *huma.Schema) bool { return s.Type == nullType }

// nullType is the type of null, which huma has no name for.
const nullType = "null"

var typeNames = map[string]string{
	huma.TypeString: "a string", huma.TypeInteger: "a whole number", huma.TypeBoolean: "true or false",
	huma.TypeArray: "a list", huma.TypeObject: "an object",
}

// typeOf gives the type of a JSON value in the words of JSON Schema.
func typeOf(v any) string {
	switch v := v.(type) {
	case string:
		return huma.TypeString
	case bool:
		return huma.TypeBoolean
	case []any:
		return huma.TypeArray
	case map[string]any:
		return huma.TypeObject
	case jsontext.Value:
		if strings.ContainsAny(string(v), ".eE") {
			return huma.TypeNumber
		}
		return huma.TypeInteger
	}
	return nullType
}

func sortedNames(properties map[string]*huma.Schema) []string {
	names := make([]string, 0, len(properties))
	for name := range properties {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// optionalMayBeNull lets null stand for what may be left out, all the way down.
func optionalMayBeNull(r huma.Registry, s *huma.Schema) {
	for s.Ref != "" {
		s = r.SchemaFromRef(s.Ref)
	}
	for _, part := range s.OneOf {
		optionalMayBeNull(r, part)
	}
	if s.Items != nil {
		optionalMayBeNull(r, s.Items)
	}
	for name, p := range s.Properties {
		optionalMayBeNull(r, p)
		switch {
		case slices.Contains(s.Required, name):
		case p.Ref != "":
			s.Properties[name] = orNull(p)
		case slices.ContainsFunc(p.OneOf, isNull): // by another body that has it
		case p.OneOf != nil:
			p.OneOf = append(p.OneOf, &huma.Schema{Type: nullType})
		default:
			p.Nullable = true
		}
	}
}

// optional is a value that may be left out, which keeps what is there, and may be
// null, which clears it.
type optional[T any] struct {
	given, null bool
	value       T // zero for null
}

// UnmarshalJSONFrom notes that the value is there.
func (o *optional[T]) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	o.given, o.null = true, d.PeekKind() == 'n'
	return json.UnmarshalDecode(d, &o.value)
}

// Schema is that of the value.
func (optional[T]) Schema(r huma.Registry) *huma.Schema {
	return r.Schema(reflect.TypeFor[T](), true, "")
}

// set writes the value where it is given.
func (o optional[T]) set(field *T) {
	if o.given {
		*field = o.value
	}
}

// applicationID is the id of an application in a body, where some clients write it
// as a number.
type applicationID string

// UnmarshalJSONFrom reads a string or a number, which is kept as it was written.
func (a *applicationID) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	t, err := d.ReadToken()
	if err == nil && t.Kind() != 'n' {
		*a = applicationID(t.String())
	}
	return err
}

// Schema says that both forms do.
func (applicationID) Schema(huma.Registry) *huma.Schema {
	least, most := 1, 50
	return &huma.Schema{OneOf: []*huma.Schema{{Type: huma.TypeString, MinLength: &least, MaxLength: &most}, {Type: huma.TypeInteger}}}
}

// moment is an instant in a request.
type moment struct{ consent.Instant }

const dateTime = "date-time"

// UnmarshalText reads what consent.ParseInstant reads.
func (m *moment) UnmarshalText(b []byte) (err error) {
	m.Instant, err = consent.ParseInstant(string(b))
	return err
}

// Schema publishes the format out of huma's sight, which would insist on RFC 3339
// where ISO 8601 allows more.
func (moment) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeString, Extensions: map[string]any{"format": dateTime}}
}

// idParam is an id in a path or a query.
type idParam consent.ID

// UnmarshalText reads what consent.ParseID reads.
func (p *idParam) UnmarshalText(b []byte) error {
	id, err := consent.ParseID(string(b))
	*p = idParam(id)
	return err
}

// Scan reads an id in a cursor.
func (p *idParam) Scan(state fmt.ScanState, _ rune) error {
	token, err := state.Token(true, nil)
	if err != nil {
		return err
	}
	return p.UnmarshalText(token)
}

// Schema is that of an id.
func (idParam) Schema(huma.Registry) *huma.Schema { return idSchema{}.Schema(nil) }

// idSchema documents consent.ID.
type idSchema struct{}

// Schema is that of an id.
func (idSchema) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeString, Format: "uuid"}
}

// idOrNull is an id in an answer that may be null.
type idOrNull struct{ consent.ID }

// Schema is that of an id, or null.
func (idOrNull) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeString, Format: "uuid", Nullable: true}
}

// orNull lets the document say that a value may be null.
func orNull(s *huma.Schema) *huma.Schema {
	return &huma.Schema{Description: s.Description, OneOf: []*huma.Schema{s, {Type: nullType}}}
}

// Paging are the parameters of a list.
type Paging struct {
	Limit        int    `query:"limit" minimum:"1" maximum:"100" default:"20"`
	Offset       int    `query:"offset" minimum:"0" default:"0"`
	Cursor       string `query:"cursor" maxLength:"200"`
	IncludeTotal bool   `query:"includeTotal" default:"true"`
}

// counted reports whether all entries are to be counted: not while going on by a
// cursor, for whoever reads a long list has been told on its first page.
func (p Paging) counted() bool { return p.IncludeTotal && p.Cursor == "" }

// total gives the number of all entries where it was asked for.
func (p Paging) total(n int64) *int64 {
	if !p.counted() {
		return nil
	}
	return &n
}

// place reads the cursor, where there is one, into the place of a list of that name.
func (p Paging) place(list string, into ...any) error {
	var faults consent.Faults
	if p.Cursor != "" && p.Offset > 0 {
		faults.Add("query.offset", "cannot be given together with cursor")
	}
	readCursor(&faults, p.Cursor, list, into...)
	return faults.Err()
}

// readCursor reads a place that cursorOf wrote for a list of the same name.
func readCursor(faults *consent.Faults, cursor, list string, into ...any) {
	if cursor == "" {
		return
	}
	plain, err := base64.RawURLEncoding.DecodeString(cursor)
	if err == nil {
		var name string
		_, err = fmt.Sscan(string(plain), append([]any{&name}, into...)...)
		if name != list {
			err = errors.ErrUnsupported
		}
	}
	if err != nil {
		faults.Add("query.cursor", "must be one that an earlier page of this list gave")
	}
}

// cursorOf writes a place of a list, to clients an opaque word.
func cursorOf(list string, place ...any) consent.Text {
	return consent.Text(base64.RawURLEncoding.EncodeToString(fmt.Appendln(append([]byte(list), ' '), place...)))
}

// Page is what a list says of itself besides its entries.
type Page struct {
	Total      *int64       `json:"total,omitempty"`
	NextCursor consent.Text `json:"nextCursor"`
}

// page closes a page of n entries, of which the last one is at a place that at gives.
// There is a next one where the page is full.
func (p Paging) page(list string, n int, total int64, at func() []any) Page {
	out := Page{Total: p.total(total)}
	if n == p.Limit {
		out.NextCursor = cursorOf(list, at()...)
	}
	return out
}
