package api_test

import (
	stdcmp "cmp"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/google/go-cmp/cmp"

	"github.com/opencpm/opencpm/internal/api"
	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/internal/core"
)

// grant is a transaction that is accepted.
const grant = `{"applicationId": "northwind", "externalRef": "CUST-1", "changes": [{"optionId": "newsletter-email", "justification": "consent", "state": "GRANTED"}]}`

func TestBodiesThatCannotBeRead(t *testing.T) {
	t.Parallel()
	w := newWorld(t, api.Options{})
	for name, body := range map[string]string{
		"empty":               "",
		"not JSON":            "secret",
		"cut short":           grant[:len(grant)-1],
		"followed by more":    grant + "{}",
		"not UTF-8":           strings.Replace(grant, "CUST-1", "CUST-\xff", 1),
		"half a surrogate":    strings.Replace(grant, "CUST-1", `CUST-\ud800`, 1),
		"a name twice":        strings.Replace(grant, "{", `{"externalRef": "CUST-2", `, 1),
		"a name twice within": strings.Replace(grant, `"state"`, `"state": "DENIED", "state"`, 1),
		"far too deep":        strings.Repeat("[", 500_000),
		"deep in the unknown": strings.Replace(grant, "{", `{"x": `+strings.Repeat("[", 20_000)+strings.Repeat("]", 20_000)+`, `, 1),
	} {
		t.Run(name, func(t *testing.T) {
			a := w.in(t).refused(http.StatusBadRequest, "POST", "/v1/permissions/transactions", body)
			if strings.Contains(a.text, "CUST") || strings.Contains(a.text, "secret") {
				t.Errorf("the answer repeats what was sent: %s", a.text)
			}
		})
	}
	for _, body := range []string{"[]", "5", `"x"`, "null", "true"} {
		w.refused(http.StatusUnprocessableEntity, "POST", "/v1/permissions/transactions", body, "body")
	}
	if all := w.everything(); strings.Contains(all, "CUST") {
		t.Errorf("something was recorded: %s", all)
	}
}

func TestMediaTypes(t *testing.T) {
	t.Parallel()
	w := newWorld(t, api.Options{})
	for mediaType, status := range map[string]int{
		"application/json": 200, "application/json; charset=utf-8": 200, "APPLICATION/JSON": 200, "application/merge-patch+json": 200, "": 200,
		"text/plain": 415, "application/x-www-form-urlencoded": 415, "application/xml": 415, "multipart/form-data; boundary=x": 415, "nonsense": 415, ";": 415,
	} {
		a := w.send("POST", "/v1/permissions/transactions", grant, "Content-Type: "+mediaType)
		if a.StatusCode != status {
			t.Errorf("%q is answered with %d, not %d: %s", mediaType, a.StatusCode, status, a.text)
		}
	}
}

func TestSizeOfBodies(t *testing.T) {
	t.Parallel()
	w := newWorld(t, api.Options{})
	const limit = 1 << 20
	full := grant + strings.Repeat(" ", limit-len(grant))
	w.ok(http.StatusOK, "POST", "/v1/permissions/transactions", full)
	w.refused(http.StatusRequestEntityTooLarge, "POST", "/v1/permissions/transactions", full+" ")
}

func TestRequestsAreReadWithForbearance(t *testing.T) {
	t.Parallel()
	w := newWorld(t, api.Options{})
	if _, err := w.core.CreateApplication(t.Context(), "42", "Numbered"); err != nil {
		t.Fatal(err)
	}
	number, err := w.core.Number(t.Context(), "42")
	if err != nil || number == 0 {
		t.Fatal(err)
	}
	for name, body := range map[string]string{
		"unknown fields":        strings.Replace(grant, "{", `{"unknown": {"a": [1e9999]}, "Changes": 5, "EXTERNALREF": "other", `, 1),
		"null for the optional": strings.Replace(grant, "{", `{"citizenId": null, "obtainedAt": null, "channel": null, "privacyPolicyRef": null, "recordedBy": null, `, 1),
		"null in a change":      strings.Replace(grant, `"state"`, `"optionType": null, "validFrom": null, "validUntil": null, "state"`, 1),
		"one change":            `{"applicationId": "northwind", "externalRef": "CUST-1", "changes": {"optionId": "newsletter-email", "justification": "consent", "state": "GRANTED"}}`,
		"escapes":               strings.Replace(grant, "{", `{"obtainedAt": "2026-01-02T03:04:05\u002B01:00", `, 1),
		"a bare date":           strings.Replace(grant, "{", `{"obtainedAt": "2026-01-02", `, 1),
	} {
		t.Run(name, func(t *testing.T) {
			a := w.in(t).ok(http.StatusOK, "POST", "/v1/permissions/transactions", body)
			if a.json["externalRef"] != "CUST-1" || len(a.json["changes"].([]any)) != 1 {
				t.Error(a.text)
			}
			if obtained := a.json["obtainedAt"].(string); name == "escapes" && obtained != "2026-01-02T02:04:05.000Z" || name == "a bare date" && obtained != "2026-01-02T00:00:00.000Z" {
				t.Errorf("obtained at %s", obtained)
			}
		})
	}
	for _, id := range []string{"42", `"42"`} { // not of the key, so both mean the same application that does not exist for it
		a := w.refused(http.StatusNotFound, "POST", "/v1/permissions/transactions", strings.Replace(grant, `"northwind"`, id, 1))
		if !strings.Contains(a.text, "no such application") {
			t.Error(a.text)
		}
	}
}

// TestEveryWrongValueIsRefusedWhereItStands takes each field of each body of the
// document and gives it values that are not of its type, or too long.
func TestEveryWrongValueIsRefusedWhereItStands(t *testing.T) {
	t.Parallel()
	w := newWorld(t, api.Options{})
	citizen := w.ok(http.StatusOK, "POST", "/v1/citizens", map[string]string{"applicationId": "northwind", "externalRef": "CUST-0", "givenName": "Ada"}).json["citizenId"].(string)
	subscription := w.ok(http.StatusCreated, "POST", "/v1/subscriptions", map[string]string{"applicationId": "northwind", "name": "CRM", "url": "https://crm.example.com"}).json["id"].(string)
	transaction := w.ok(http.StatusOK, "POST", "/v1/permissions/transactions", grant).json["transactionId"].(string)
	ids := map[string]string{}
	for _, of := range []string{"", "/redeliver", "/resync", "/discard", "/rotate-secret"} {
		ids["/v1/subscriptions/{id}"+of] = subscription
	}
	for path, item := range loaded(t).Paths.Map() {
		if strings.HasPrefix(path, "/v1/configuration/") && item.Post != nil && item.Post.RequestBody != nil {
			example := item.Post.RequestBody.Value.Content.Get("application/json").Example.(map[string]any)
			made := maps.Clone(example)
			if slug, ok := made["slug"]; ok {
				made["slug"] = fmt.Sprint(slug, "-first") // which nothing else may have
			}
			if a := w.send("POST", path, made); a.StatusCode != http.StatusCreated && a.StatusCode != http.StatusConflict {
				t.Fatalf("the example of %s answered %d: %s", path, a.StatusCode, a.text)
			}
			key, _ := stdcmp.Or(example["id"], example["reference"]).(string)
			ids[path+"/{id}"], ids[path+"/{id}/draft"] = key, key
		}
	}
	doc, err := w.core.ExportCatalogue(t.Context(), "northwind")
	if err != nil {
		t.Fatal(err)
	}
	doc.Application.UnauthenticatedCapture = true
	if _, err := w.core.ImportCatalogue(t.Context(), "northwind", doc, core.Import{}); err != nil {
		t.Fatal(err)
	}
	before := w.everything()
	for path, item := range loaded(t).Paths.Map() {
		for method, op := range item.Operations() {
			if op.RequestBody == nil || path == "/oauth/token" || path == "/u/{token}" { // which have forms
				continue
			}
			media := op.RequestBody.Value.Content.Get("application/json")
			target := strings.NewReplacer("{citizenId}", citizen, "{id}", ids[path], "{transactionId}", transaction).Replace(path)
			if strings.HasPrefix(path, "/v1/configuration") && method != "POST" {
				target += "?applicationId=northwind"
			}
			for i, c := range wrongValues(t, media.Schema.Value, media.Example, "body") {
				t.Run(fmt.Sprintf("%s %s %s", op.OperationID, c.location, c.what), func(t *testing.T) {
					from := *w.in(t)
					from.caller = fmt.Sprintf("192.0.2.%d:1234", i%200) // of whom the public calls of each are counted
					a := from.refused(http.StatusUnprocessableEntity, method, target, c.body, c.location)
					if strings.Contains(a.text, planted) {
						t.Errorf("the answer repeats what was sent: %s", a.text)
					}
				})
			}
		}
	}
	if after := w.everything(); after != before {
		t.Errorf("something changed:\n%s\n%s", before, after)
	}
}

// planted is in every wrong value that can hold it.
const planted = "PERSONAL"

type wrongValue struct {
	location, what string
	body           any
}

// wrongValues gives the example with one wrong value each.
func wrongValues(t *testing.T, s *openapi3.Schema, example any, at string) []wrongValue {
	t.Helper()
	var all []wrongValue
	object := example.(map[string]any)
	for _, name := range slices.Sorted(maps.Keys(s.Properties)) {
		p := s.Properties[name].Value
		with := func(what string, v any) {
			body := maps.Clone(object)
			body[name] = v
			all = append(all, wrongValue{at + "." + name, what, body})
		}
		alternatives := []*openapi3.Schema{p}
		for _, a := range p.OneOf {
			alternatives = append(alternatives, a.Value)
		}
		is := func(kind string) bool {
			return slices.ContainsFunc(alternatives, func(a *openapi3.Schema) bool { return a.Type != nil && a.Type.Includes(kind) })
		}
		for kind, v := range map[string]any{"boolean": true, "number": 1.5, "integer": 5, "string": planted, "array": []any{planted}, "object": map[string]any{planted: planted}} {
			switch {
			case kind == "object" && is(kind), kind == "array" && is(kind): // their own insides are next
			case !is(kind):
				with("a "+kind, v)
			}
		}
		if slices.Contains(s.Required, name) {
			with("null", nil)
			body := maps.Clone(object)
			delete(body, name)
			all = append(all, wrongValue{at + "." + name, "left out", body})
		}
		for _, a := range alternatives {
			if a.MaxLength != nil {
				with("too long", strings.Repeat("x", int(*a.MaxLength)+1-len(planted))+planted)
				with("control characters", planted+"\x00")
			}
			if a.Format == "date-time" || a.Format == "uuid" {
				with("no "+a.Format, planted)
			}
			if len(a.Enum) > 0 {
				with("none of the values", planted)
			}
			if a.MaxItems != nil {
				with("too many", make([]any, *a.MaxItems+1))
			}
			if a.Type != nil && a.Type.Is("object") && len(a.Properties) > 0 {
				inner, ok := object[name].(map[string]any)
				if list, isList := object[name].([]any); isList {
					inner, ok = list[0].(map[string]any), true
				}
				if !ok {
					inner = map[string]any{}
				}
				for _, c := range wrongValues(t, a, inner, at+"."+name) {
					body := maps.Clone(object)
					body[name] = c.body
					if is("array") {
						body[name] = []any{inner, c.body}
						c.location = strings.Replace(c.location, name, name+"[1]", 1)
					}
					all = append(all, wrongValue{c.location, c.what, body})
				}
			}
		}
	}
	if len(all) == 0 {
		t.Fatalf("%s has no fields", at)
	}
	return all
}

func TestAllFaultsAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t, api.Options{})
	w.refused(http.StatusUnprocessableEntity, "POST", "/v1/permissions/transactions",
		`{"externalRef": 5, "citizenId": "x", "obtainedAt": "yesterday", "changes": [{"optionId": "newsletter-email", "validFrom": 7}, 5, {"optionId": "", "justification": "consent", "state": "GRANTED"}]}`,
		"body.applicationId", "body.externalRef", "body.citizenId", "body.obtainedAt", "body.changes[0].justification", "body.changes[0].state",
		"body.changes[0].validFrom", "body.changes[1]", "body.changes[2].optionId")
	known := w.ok(http.StatusOK, "POST", "/v1/citizens", `{"applicationId": "northwind", "externalRef": "CUST-9"}`).json["citizenId"].(string)
	w.refused(http.StatusUnprocessableEntity, "PATCH", "/v1/citizens/"+known, `{"givenName": 5, "email": "none", "address": {"postalCode": 7}}`,
		"body.givenName", "body.email", "body.address.postalCode")
	// A single change is the first of a list, and what follows from a fault is no fault of its own.
	w.refused(http.StatusUnprocessableEntity, "POST", "/v1/permissions/transactions",
		`{"applicationId": "northwind", "externalRef": "CUST-1", "changes": {"optionId": "none", "optionType": "x", "justification": 5, "state": "GRANTED", "validUntil": "y"}}`,
		"body.changes[0].optionType", "body.changes[0].justification", "body.changes[0].validUntil")
	w.refused(http.StatusUnprocessableEntity, "POST", "/v1/permissions/transactions", `{"applicationId": "northwind", "externalRef": "CUST-1", "changes": [5]}`, "body.changes[0]")
	// What breaks a rule comes with what cannot be read.
	w.refused(http.StatusUnprocessableEntity, "POST", "/v1/permissions/transactions",
		`{"applicationId": "northwind", "externalRef": "CUST-1", "channel": 7, "privacyPolicyRef": "none", "changes": [{"optionId": "none", "justification": "consent", "state": "CLAIMED", "validFrom": 7}]}`,
		"body.channel", "body.privacyPolicyRef", "body.changes[0].optionId", "body.changes[0].state", "body.changes[0].validFrom")
	w.refused(http.StatusUnprocessableEntity, "POST", "/v1/permissions/transactions",
		`{"applicationId": "northwind", "externalRef": "CUST-1", "privacyPolicyRef": "none", "obtainedAt": "2999-01-01",
		"changes": [{"optionId": "none", "justification": "consent", "state": "CLAIMED"}, {"optionId": "newsletter-email", "justification": "contract", "state": "CLAIMED"}]}`,
		"body.privacyPolicyRef", "body.obtainedAt", "body.changes[0].optionId", "body.changes[0].state", "body.changes[1].justification")
}

// What is wrong with the query and what is wrong with the body are told at once.
func TestFaultsOfQueryAndBodyAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t, api.Options{})
	w.refused(http.StatusUnprocessableEntity, "PUT", "/v1/configuration/templates/t/draft", `{"name": {"en": "N"}, "blocks": [5]}`,
		"query.applicationId", "body.reference", "body.name", "body.blocks[0]")
	w.refused(http.StatusUnprocessableEntity, "PUT", configuration+"?applicationId=northwind&dryRun=perhaps",
		`{"application": {"name": "N"}, "purposes": [{"id": "p", "name": {"en": "P"}}], "preferenceCentres": [{"reference": "c", "name": "C", "type": "manage", "slug": "c", "brand": {"logo": "no…"}}]}`,
		"query.dryRun", "body.purposes[0].name", "body.preferenceCentres[0].brand.logo")
	a := w.refused(http.StatusUnprocessableEntity, "PUT", configuration+"?applicationId=northwind",
		`{"application": {"name": "N"}, "purposes": [{"id": "p", "name": {"en": "P"}}], "ruleSets": [{"reference": "r", "name": "R", "channels": ["none"]}]}`,
		"body.purposes[0].name", "body.ruleSets[0].channels[0]")
	if !strings.Contains(a.text, "for several languages use label") {
		t.Error(a.text)
	}
}

// A file is read as the API reads a body, and what no schema knows is a fault.
func TestReadCatalogue(t *testing.T) {
	doc, found, err := api.ReadCatalogue([]byte(`
application: {name: N, defaultLocal: en, locales: en}
purpose: []
purposes: [{id: a, name: {en: A}, label: {en: A, anything: B}}, {id: b, nmae: B, name: C}]
options: [{id: o, justifications: [{base: consent}]}]
preferenceCentres: [{reference: m, name: M, type: manage, slug: m, brand: {logo: "iVBOR…"}}]
`))
	if err != nil || doc.Application.Name != "N" || len(doc.Purposes) != 2 || doc.Purposes[1].Name != "C" {
		t.Fatal(doc, err)
	}
	got := map[string]string{}
	for _, f := range found {
		got[f.Location] = f.Message
	}
	want := map[string]string{
		"application.defaultLocal":           "there is no such field; did you mean defaultLocale?",
		"application.locales":                "must be a list",
		"purpose":                            "there is no such field; did you mean purposes?",
		"purposes[0].name":                   "must be a string; for several languages use label",
		"purposes[1].nmae":                   "there is no such field; did you mean name?",
		"options[0].party":                   "must be given",
		"options[0].purpose":                 "must be given",
		"options[0].channel":                 "must be given",
		"options[0].justifications[0].base":  "there is no such field",
		"options[0].justifications[0].basis": "must be given",
		"preferenceCentres[0].brand.logo":    "is not base64",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for _, doc := range []string{"", "- 1", "{", "5"} {
		if _, _, err := api.ReadCatalogue([]byte(doc)); consent.KindOf(err) != consent.Invalid && consent.KindOf(err) != consent.Malformed {
			t.Errorf("%q: %v", doc, err)
		}
	}
	text, err := os.ReadFile("../../docs/examples/catalogue.yaml")
	if err != nil {
		t.Fatal(err)
	}
	strict, err := consent.ParseCatalogue(text)
	if err != nil {
		t.Fatal(err)
	}
	read, found, err := api.ReadCatalogue(text)
	if diff := cmp.Diff(strict, read); err != nil || found != nil || diff != "" {
		t.Errorf("%v, %v (-strict +read):\n%s", found, err, diff)
	}
}

// What the guides print can be imported as it stands: the preference centres behind the
// example of a catalogue, and the one to try double opt-in with.
func TestExamplesOfTheGuides(t *testing.T) {
	printed := func(file string) string {
		t.Helper()
		text, err := os.ReadFile("../../docs/" + file)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	block := func(file string) string {
		t.Helper()
		_, rest, _ := strings.Cut(printed(file), "```yaml\n")
		text, _, found := strings.Cut(rest, "```")
		if !found {
			t.Fatalf("%s has no example", file)
		}
		return text
	}
	for name, text := range map[string]string{
		"preference centres": printed("examples/catalogue.yaml") + "\n" + block("guides/preference-centres.md"),
		"double opt-in":      block("double-opt-in.md"),
	} {
		doc, found, err := api.ReadCatalogue([]byte(text))
		if err != nil || found != nil || len(doc.PreferenceCentres) == 0 {
			t.Fatalf("%s: %v, %v", name, found, err)
		}
		if err := doc.Check(); err != nil {
			t.Errorf("%s: %+v", name, err)
		}
	}
}

// decoded gives the JSON of a constant.
func decoded(t *testing.T, text string) map[string]any {
	t.Helper()
	var v map[string]any
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatal(err)
	}
	return v
}
