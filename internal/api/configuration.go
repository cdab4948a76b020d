package api

import (
	"context"
	"encoding/json"
	"math"
	"reflect"
	"slices"

	"github.com/danielgtaylor/huma/v2"
	wirejson "github.com/go-json-experiment/json"

	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/internal/core"
)

// ApplicationQuery names the application where the path does not.
type ApplicationQuery struct {
	ApplicationID string `query:"applicationId" required:"true" maxLength:"50"`
}

func (s *server) getConfiguration(ctx context.Context, actor core.Actor, in *ApplicationQuery) (consent.Catalogue, error) {
	return s.Core.Configuration(ctx, actor, in.ApplicationID)
}

// ReadCatalogue reads a catalogue from a file, YAML or JSON, by the schema by which the
// API reads it, but takes no names that the schema does not know. What is found wrong has
// been left out of the catalogue, and is for core to report with what it finds itself.
func ReadCatalogue(doc []byte) (c consent.Catalogue, found consent.Faults, err error) {
	asJSON, err := consent.CatalogueJSON(doc)
	if err != nil {
		return c, nil, err
	}
	r := newRegistry()
	found, err = reading{registry: r, strict: true}.decode(new(body[consent.Catalogue]).schema(r), asJSON, &c)
	return c, found, err
}

type putConfigurationInput struct {
	ApplicationQuery
	DryRun bool `query:"dryRun" doc:"Check, and say what would change; change nothing."`
	Prune  bool `query:"prune" doc:"Archive what the document does not have."`
	body[consent.Catalogue]
}

// configurationChanges says what a document changes.
type configurationChanges struct {
	Changes  []difference `json:"changes"`
	Applied  bool         `json:"applied"`
	Warnings []fault      `json:"warnings,omitempty"`
}

type difference struct {
	Action  string   `json:"action"`
	Kind    string   `json:"kind"`
	Key     string   `json:"key"`
	ID      string   `json:"id,omitempty" doc:"What the item is called where that is not its key, such as a template, which widgets name by it. A dry run has none of an item that it would add."`
	Set     []string `json:"set,omitempty" doc:"The fields of a changed item that get another value."`
	Cleared []string `json:"cleared,omitempty" doc:"The fields of a changed item that go, since the document names the item without them."`
}

func (s *server) putConfiguration(ctx context.Context, actor core.Actor, in *putConfigurationInput) (configurationChanges, error) {
	doc, request := in.read()
	done, err := s.Core.PutConfiguration(ctx, actor, in.ApplicationID, doc, core.Import{Prune: in.Prune, DryRun: in.DryRun, Found: request.Found})
	out := configurationChanges{Changes: make([]difference, len(done.Differences)), Applied: !in.DryRun}
	for i, d := range done.Differences {
		if d.ID == d.Key {
			d.ID = ""
		}
		out.Changes[i] = difference(d)
	}
	for _, w := range done.Warnings {
		out.Warnings = append(out.Warnings, fault{locate("body", w.Location), w.Message})
	}
	return out, err
}

// localisedSchema documents consent.Localised.
type localisedSchema struct{}

// Schema says that a text may stand alone or by locale.
func (localisedSchema) Schema(r huma.Registry) *huma.Schema {
	return &huma.Schema{OneOf: []*huma.Schema{{Type: huma.TypeString}, r.Schema(reflect.TypeFor[map[string]string](), true, "")}}
}

// configuration is the calls for one kind of item, all of which work the same.
type configuration[T consent.Part] struct{ *server }

func kindOf[T consent.Part]() string {
	var zero T
	kind, _ := zero.Named()
	return kind
}

// configure adds the calls for one kind of item.
func configure[T consent.Part](s *server) {
	c, w := configuration[T]{s}, kinds[kindOf[T]()]
	at := "/v1/configuration/" + w.path()
	route(s, "POST   "+at, "create"+w.One(), consent.ConfigurationWrite, c.create)
	route(s, "GET    "+at, "list"+w.Many(), consent.ConfigurationRead, c.list)
	route(s, "GET    "+at+"/{id}", "get"+w.One(), consent.ConfigurationRead, c.get)
	route(s, "PATCH  "+at+"/{id}", "change"+w.One(), consent.ConfigurationWrite, c.change)
	route(s, "DELETE "+at+"/{id}", "archive"+w.One(), consent.ConfigurationWrite, c.archive)
	route(s, "GET    "+at+"/{id}/versions", "list"+w.One()+"Versions", consent.ConfigurationRead, c.versions)
}

// itemState is what is known of an item besides its content.
type itemState struct {
	ID            string            `json:"id"`
	ApplicationID string            `json:"applicationId"`
	Revision      int64             `json:"revision"`
	Archived      bool              `json:"archived"`
	UpdatedAt     consent.Timestamp `json:"updatedAt"`
}

// item is the read form of an item: its content with its state.
type item[T consent.Part] map[string]any

func itemOf[T consent.Part](application string, v consent.Revision, err error) (item[T], error) {
	if err != nil {
		return nil, err
	}
	out := item[T]{}
	for _, part := range []any{v.Body, itemState{v.ID, application, v.Revision, v.Archived, consent.Timestamp(v.RecordedAt)}} {
		text, err := json.Marshal(part)
		if err == nil {
			err = json.Unmarshal(text, &out)
		}
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

// Schema adds the state to what the document says of the content.
func (item[T]) Schema(r huma.Registry) *huma.Schema {
	return withContent[T](r, "Configured"+kinds[kindOf[T]()].One(), huma.SchemaFromType(r, reflect.TypeFor[itemState]()), true)
}

// newItem is an item to be created: its content with the application.
type newItem[T consent.Part] consent.Fields

// Schema adds the application to the content.
func (newItem[T]) Schema(r huma.Registry) *huma.Schema {
	s := &huma.Schema{
		Type: huma.TypeObject, AdditionalProperties: true, Required: []string{"applicationId"},
		Properties: map[string]*huma.Schema{"applicationId": applicationID("").Schema(r)},
	}
	return withContent[T](r, "New"+kinds[kindOf[T]()].One(), s, true)
}

// itemChange is the content that is to be changed.
type itemChange[T consent.Part] consent.Fields

// Schema is that of the content, nothing of which must be given.
func (itemChange[T]) Schema(r huma.Registry) *huma.Schema {
	s := &huma.Schema{Type: huma.TypeObject, AdditionalProperties: true, Properties: map[string]*huma.Schema{}}
	return withContent[T](r, kinds[kindOf[T]()].One()+"Change", s, false)
}

// withContent adds a schema to the document, that of an object which has the fields
// of an item as well.
func withContent[T consent.Part](r huma.Registry, name string, s *huma.Schema, required bool) *huma.Schema {
	content := r.Schema(reflect.TypeFor[T](), true, "")
	owner := reflect.TypeFor[T]().Name()
	of := r.SchemaFromRef(content.Ref)
	for field, p := range of.Properties {
		if s.Properties[field] == nil {
			own := *p
			own.OneOf = slices.Clone(p.OneOf)
			describe(&own, owner, field)
			s.Properties[field] = &own
		}
	}
	if required {
		s.Required = slices.Compact(slices.Sorted(slices.Values(append(of.Required, s.Required...))))
	}
	r.Map()[name] = s
	return &huma.Schema{Ref: "#/components/schemas/" + name}
}

// itemList is one page of items, under the name of their kind.
type itemList[T consent.Part] map[string]any

// Schema gives the list its name.
func (itemList[T]) Schema(r huma.Registry) *huma.Schema {
	w := kinds[kindOf[T]()]
	r.Map()[w.One()+"List"] = &huma.Schema{
		Type: huma.TypeObject, AdditionalProperties: true, Required: []string{w.list(), "nextCursor"},
		Properties: map[string]*huma.Schema{
			w.list():     {Type: huma.TypeArray, Items: item[T]{}.Schema(r), Description: "The " + w.many + ", in the order of the document."},
			"total":      {Type: huma.TypeInteger, Format: "int64"},
			"nextCursor": {Type: huma.TypeString, Nullable: true},
		},
	}
	return &huma.Schema{Ref: "#/components/schemas/" + w.One() + "List"}
}

// version is one revision of an item.
type version[T consent.Part] struct {
	Revision   int64             `json:"revision"`
	RecordedAt consent.Timestamp `json:"recordedAt"`
	RecordedBy string            `json:"recordedBy" doc:"The credential through which it was recorded, or operator for the command line."`
	Archived   bool              `json:"archived"`
	Content    content[T]        `json:"content" doc:"The item as it was, to the letter."`
}

type content[T consent.Part] struct{ json.RawMessage }

// Schema is that of the item in the document.
func (content[T]) Schema(r huma.Registry) *huma.Schema {
	return r.Schema(reflect.TypeFor[T](), true, "")
}

type versionList[T consent.Part] struct {
	Versions []version[T] `json:"versions" doc:"Every revision, the newest first."`
	Page
}

type createItemInput[T consent.Part] struct{ body[newItem[T]] }

func (c configuration[T]) create(ctx context.Context, actor core.Actor, in *createItemInput[T]) (item[T], error) {
	fields, request := in.read()
	var application applicationID
	if given := fields["applicationId"]; given != nil {
		if err := wirejson.Unmarshal(given, &application); err != nil {
			return nil, err
		}
	}
	v, err := c.Core.CreateItem(ctx, actor, request, string(application), kindOf[T](), consent.Fields(fields))
	return itemOf[T](string(application), v, err)
}

// ItemPath names one item.
type ItemPath struct {
	ApplicationQuery
	ID string `path:"id" doc:"The id or, within the application, the reference."`
}

func (c configuration[T]) name(p *ItemPath) core.ItemName {
	return core.ItemName{ApplicationID: p.ApplicationID, Kind: kindOf[T](), ID: p.ID}
}

func (c configuration[T]) get(ctx context.Context, actor core.Actor, in *ItemPath) (item[T], error) {
	v, err := c.Core.Item(ctx, actor, c.name(in))
	return itemOf[T](in.ApplicationID, v, err)
}

type listItemsInput struct {
	ApplicationQuery
	Archived bool `query:"archived" doc:"List archived ones, too."`
	Paging
}

func (c configuration[T]) list(ctx context.Context, actor core.Actor, in *listItemsInput) (itemList[T], error) {
	found, err := c.Core.Items(ctx, actor, in.ApplicationID, kindOf[T]())
	if err != nil {
		return nil, err
	}
	found = slices.DeleteFunc(found, func(v consent.Revision) bool { return v.Archived && !in.Archived })
	passed, name := in.Offset, kinds[kindOf[T]()].list()
	if err := in.place(name, &passed); err != nil {
		return nil, err
	}
	page := []item[T]{}
	for _, v := range found[min(passed, len(found)):min(passed+in.Limit, len(found))] {
		one, err := itemOf[T](in.ApplicationID, v, nil)
		if err != nil {
			return nil, err
		}
		page = append(page, one)
	}
	end := in.page(name, len(page), int64(len(found)), func() []any { return []any{passed + len(page)} })
	out := itemList[T]{name: page, "nextCursor": end.NextCursor}
	if end.Total != nil {
		out["total"] = end.Total
	}
	return out, nil
}

type changeItemInput[T consent.Part] struct {
	ItemPath
	body[itemChange[T]]
}

func (c configuration[T]) change(ctx context.Context, actor core.Actor, in *changeItemInput[T]) (item[T], error) {
	fields, request := in.read()
	v, err := c.Core.ChangeItem(ctx, actor, request, c.name(&in.ItemPath), consent.Fields(fields))
	return itemOf[T](in.ApplicationID, v, err)
}

func (c configuration[T]) archive(ctx context.Context, actor core.Actor, in *ItemPath) (nothing, error) {
	return nothing{}, c.Core.ArchiveItem(ctx, actor, c.name(in))
}

type versionsInput struct {
	ItemPath
	Paging
}

func (c configuration[T]) versions(ctx context.Context, actor core.Actor, in *versionsInput) (versionList[T], error) {
	before := int64(math.MaxInt64)
	if err := in.place("versions", &before); err != nil {
		return versionList[T]{}, err
	}
	found, total, err := c.Core.ItemRevisions(ctx, actor, c.name(&in.ItemPath), before, in.Limit, in.Offset)
	out := versionList[T]{make([]version[T], len(found)), in.page("versions", len(found), total, func() []any { return []any{found[len(found)-1].Revision} })}
	for i, v := range found {
		out.Versions[i] = version[T]{v.Revision, consent.Timestamp(v.RecordedAt), v.RecordedBy, v.Archived, content[T]{v.Body}}
	}
	return out, err
}
