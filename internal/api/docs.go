package api

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"html/template"
	"io"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"
	fastjson "github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	jsonv1 "github.com/go-json-experiment/json/v1"

	"github.com/opencpm/opencpm/internal/consent"
)

// config says how huma serves and documents the API.
func (s *server) config() huma.Config {
	server := s.BaseURL
	if server == "" {
		server = "/"
	}
	c := huma.Config{
		OpenAPI: &huma.OpenAPI{
			OpenAPI: "3.1.0",
			Info: &huma.Info{
				Title: "OpenCPM", Version: s.Version, Description: introduction,
				License: &huma.License{Name: "Apache 2.0", Identifier: "Apache-2.0"},
			},
			Servers: []*huma.Server{{URL: server}},
			Tags:    tags,
			Components: &huma.Components{Schemas: newRegistry(), SecuritySchemes: map[string]*huma.SecurityScheme{
				"oauth2": {
					Type: "oauth2", Description: "`Authorization: Bearer <token>`, with a token from `POST " + tokenPath + "`.",
					Flows: &huma.OAuthFlows{ClientCredentials: &huma.OAuthFlow{TokenURL: s.BaseURL + tokenPath, Scopes: scopes()}},
				},
				"apiKey":       {Type: "apiKey", In: "header", Name: "X-API-Key", Description: "A key that is made with `opencpm apikey create`."},
				"citizenToken": {Type: "http", Scheme: "bearer", Description: "`Authorization: Bearer <token>`, with a token of the citizen whom the call is about, from `POST /v1/access-tokens/tokens` or a webhook."},
			}},
		},
		Formats:       map[string]huma.Format{jsonType: {Marshal: writeJSON}, problemType: {Marshal: writeJSON}, yamlType: {Marshal: writeYAML}, htmlType: {Marshal: writeHTML}},
		DefaultFormat: jsonType,
	}
	c.AllowAdditionalPropertiesByDefault = true // what a request holds beyond its schema is ignored
	return c
}

// newRegistry gives an empty list of schemas that knows our types.
func newRegistry() huma.Registry {
	registry := huma.NewMapRegistry("#/components/schemas/", huma.DefaultSchemaNamer)
	registry.RegisterTypeAlias(reflect.TypeFor[consent.Text](), reflect.TypeFor[*string]())
	registry.RegisterTypeAlias(reflect.TypeFor[consent.Timestamp](), reflect.TypeFor[*time.Time]())
	registry.RegisterTypeAlias(reflect.TypeFor[consent.ID](), reflect.TypeFor[idSchema]())
	registry.RegisterTypeAlias(reflect.TypeFor[consent.Localised](), reflect.TypeFor[localisedSchema]())
	return registry
}

// writeJSON writes an answer. That the client went away is no one's concern.
func writeJSON(w io.Writer, v any) error {
	b, err := fastjson.Marshal(v, jsonv1.DefaultOptionsV1(), jsontext.EscapeForHTML(false))
	if err != nil {
		return err
	}
	_, _ = w.Write(append(b, '\n'))
	return nil
}

func scopes() map[string]string {
	all := map[string]string{}
	for _, scope := range consent.Scopes {
		all[string(scope)] = scopeProse[scope]
	}
	return all
}

// operation documents a call and who may make it.
func (s *server) operation(id, method, at string, scope consent.Scope) huma.Operation {
	p := operations[id]
	op := huma.Operation{
		OperationID: id, Method: method, Path: at, Tags: []string{p.tag}, Summary: p.summary, Description: p.description,
		DefaultStatus: p.status, Middlewares: huma.Middlewares{s.admit(scope, p.own)}, Security: []map[string][]string{},
		Responses: map[string]*huma.Response{}, Extensions: map[string]any{},
		Errors: slices.Concat(p.errors, []int{http.StatusBadRequest, http.StatusTooManyRequests, http.StatusInternalServerError, http.StatusServiceUnavailable}),
	}
	if scope != public && scope != oneself {
		op.Security = []map[string][]string{{"oauth2": {string(scope)}}, {"apiKey": {string(scope)}}}
		op.Extensions["x-required-scope"] = string(scope)
	}
	if p.own {
		op.Security = append(op.Security, map[string][]string{"citizenToken": {}})
	}
	if scope != public {
		op.Errors = append(op.Errors, http.StatusUnauthorized, http.StatusForbidden)
	}
	if method != http.MethodGet {
		op.Errors = append(op.Errors, http.StatusInsufficientStorage)
	}
	if p.bulk {
		op.MaxBodyBytes = maxBulkBody
	}
	if p.once {
		most := 255
		op.Parameters = []*huma.Param{{
			Name: idempotencyKey, In: "header", Schema: &huma.Schema{Type: huma.TypeString, MaxLength: &most},
		}}
	}
	if p.answer != "" {
		op.Responses[strconv.Itoa(max(p.status, http.StatusOK))] = &huma.Response{
			Content: map[string]*huma.MediaType{jsonType: {Example: json.RawMessage(p.answer)}},
		}
	}
	if p.streams != nil {
		content := map[string]*huma.MediaType{}
		for _, mediaType := range p.streams {
			content[mediaType] = &huma.MediaType{}
		}
		op.Responses[strconv.Itoa(http.StatusOK)] = &huma.Response{Content: content}
	}
	return op
}

// documentBody documents the body of a request.
func (s *server) documentBody(id string, request documented) *huma.RequestBody {
	media := &huma.MediaType{Schema: request.schema(s.huma.OpenAPI().Components.Schemas)}
	if example := operations[id].request; example != "" {
		media.Example = json.RawMessage(example)
	}
	body := &huma.RequestBody{Required: !operations[id].bare, Content: map[string]*huma.MediaType{jsonType: media}}
	if id == "createAccessToken" {
		body.Content[formType] = media
	}
	if operations[id].yaml {
		body.Content[yamlType] = &huma.MediaType{Schema: media.Schema}
	}
	return body
}

// complete adds to the document what holds for all operations and all fields.
func (s *server) complete() {
	s.documentWebhooks()
	s.documentForms()
	doc := s.huma.OpenAPI()
	for owner, schema := range doc.Components.Schemas.Map() {
		for name, p := range schema.Properties {
			describe(p, owner, name)
		}
	}
	for _, item := range doc.Paths {
		for _, op := range []*huma.Operation{item.Get, item.Post, item.Put, item.Patch, item.Delete} {
			if op == nil {
				continue
			}
			for _, p := range op.Parameters {
				describe(p.Schema, "", p.Name)
				p.Description = p.Schema.Description
			}
			for status, name := range map[string]string{"401": "WWW-Authenticate", "429": "Retry-After", "503": "Retry-After"} {
				if answer := op.Responses[status]; answer != nil {
					answer.Headers = map[string]*huma.Header{name: {Description: headerProse[name], Schema: &huma.Schema{Type: huma.TypeString}}}
				}
			}
		}
	}
	refused := &huma.MediaType{Schema: doc.Components.Schemas.Schema(reflect.TypeFor[grantProblem](), true, "")}
	grant := doc.Paths[tokenPath].Post
	for _, status := range []string{"400", "401", "408", "413", "415"} {
		grant.Responses[status].Content = map[string]*huma.MediaType{jsonType: refused}
	}
	delete(grant.Responses, "422")
}

// describe gives a field the words and the values that its name has everywhere, or
// else in its owner.
func describe(s *huma.Schema, owner, name string) {
	f, own := fields[owner+"."+name]
	if !own {
		f = fields[name]
	}
	if s.Description == "" {
		s.Description = f.description
	}
	if s.Items != nil {
		s = s.Items
	}
	if s.Type == huma.TypeString && s.Enum == nil {
		for _, value := range f.values {
			s.Enum = append(s.Enum, value)
		}
		if s.Nullable && s.Enum != nil {
			s.Enum = append(s.Enum, nil)
		}
	}
}

// The page that shows the document is Stoplight Elements, from the npm package
// @stoplight/elements 9.0.25, which works without any network.
var (
	//go:embed elements/web-components.min.js
	elementsScript []byte
	//go:embed elements/styles.min.css
	elementsStyle []byte
)

// docsPolicy lets the page load what this server has and nothing else. Elements
// sets styles from its script, which cannot be allowed one by one: this page alone
// has 'unsafe-inline' for them.
const docsPolicy = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self' data:; " +
	"connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

var docsPage = template.Must(template.New("docs").Parse(`<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>OpenCPM API</title>
<link rel="stylesheet" href="{{.}}/docs/elements.css">
<script src="{{.}}/docs/elements.js" defer></script>
<body style="margin: 0; height: 100vh">
<elements-api apiDescriptionUrl="{{.}}/openapi.json" router="hash" layout="responsive" tryItCredentialsPolicy="omit"></elements-api>
`))

// serveDocument serves the document and the page that shows it.
func (s *server) serveDocument() {
	s.complete()
	asJSON, err := json.MarshalIndent(s.huma.OpenAPI(), "", "  ")
	if err != nil {
		panic(err) // the document is made of constants
	}
	asYAML, err := s.huma.OpenAPI().YAML()
	if err != nil {
		panic(err)
	}
	base, err := url.Parse(s.BaseURL)
	if err != nil {
		base = &url.URL{}
	}
	var page bytes.Buffer
	if err := docsPage.Execute(&page, base.Path); err != nil {
		panic(err)
	}
	for at, file := range map[string]struct {
		mediaType string
		content   []byte
	}{
		"/openapi.json":      {jsonType, append(asJSON, '\n')},
		"/openapi.yaml":      {"application/yaml", asYAML},
		"/docs":              {"text/html; charset=utf-8", page.Bytes()},
		"/docs/elements.js":  {"text/javascript; charset=utf-8", elementsScript},
		"/docs/elements.css": {"text/css; charset=utf-8", elementsStyle},
	} {
		s.mux.HandleFunc("GET "+at, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", file.mediaType)
			w.Header().Set("Cache-Control", "no-cache")
			if at == "/docs" {
				w.Header().Set("Content-Security-Policy", docsPolicy)
				w.Header().Set("Referrer-Policy", "no-referrer")
			}
			_, _ = w.Write(file.content) // a client that went away is no one's concern
		})
	}
}
