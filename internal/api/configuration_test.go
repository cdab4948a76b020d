package api_test

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"

	"github.com/opencpm/opencpm/internal/api"
	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/internal/identity"
	"github.com/opencpm/opencpm/internal/store"
)

const configuration = "/v1/configuration"

// itemsOf is the path of a kind; more is further query parameters.
func itemsOf(kind string, more ...string) string {
	return configuration + "/" + kind + "?" + strings.Join(append([]string{"applicationId=northwind"}, more...), "&")
}

// itemAt is the path of one item.
func itemAt(kind, id string, of ...string) string {
	return strings.Join(append([]string{configuration, kind, id}, of...), "/") + "?applicationId=northwind"
}

// keys gives the ids of the items in an answer.
func keys(a reply, list string) []string {
	all := []string{}
	items, _ := a.json[list].([]any)
	for _, it := range items {
		all = append(all, it.(map[string]any)["id"].(string))
	}
	return all
}

// Every kind is created, read, changed, archived and brought back in the same way.
func TestItemsOfEveryKindFromCreationToArchive(t *testing.T) {
	t.Parallel()
	for kind, c := range map[string]struct {
		list, key    string // of the answer, and the field that names the item
		create       string // without its key
		change       string // with a null for what can be cleared
		want, wanted string // the content after each of them
	}{
		"parties": {"parties", "id", `"name": "P"`, `{"name": "Q"}`, `{"name": "P"}`, `{"name": "Q"}`},
		"purposes": {
			"purposes", "id", `"name": "P", "directMarketing": true, "unknown": 5, "NAME": 7`, `{"directMarketing": null, "Name": {}}`,
			`{"name": "P", "directMarketing": true}`, `{"name": "P"}`,
		},
		"channels": {"channels", "id", `"name": "C"`, `{"name": "D"}`, `{"name": "C"}`, `{"name": "D"}`},
		"options": {
			"options", "id", `"name": "O", "party": "northwind", "purpose": "research", "channel": "sms", "justifications": [{"basis": "consent", "validFor": "P1Y"}, {"basis": "contract"}]`,
			`{"name": null, "justifications": [{"basis": "contract", "validFor": null}]}`,
			`{"name": "O", "party": "northwind", "purpose": "research", "channel": "sms", "justifications": [{"basis": "consent", "validFor": "P1Y"}, {"basis": "contract"}]}`,
			`{"party": "northwind", "purpose": "research", "channel": "sms", "justifications": [{"basis": "contract"}]}`,
		},
		"option-groups": {
			"optionGroups", "id", `"name": "G", "options": ["newsletter-email", "newsletter-sms"]`, `{"options": ["newsletter-sms"]}`,
			`{"name": "G", "options": ["newsletter-email", "newsletter-sms"]}`, `{"name": "G", "options": ["newsletter-sms"]}`,
		},
		"preferences": {
			"preferences", "reference", `"kind": "multi-choice", "label": "L", "choices": [{"reference": "a", "label": {"en": "A", "de": "B"}}]`,
			`{"label": {"de": "M"}, "choices": [{"reference": "b", "label": "C"}]}`,
			`{"kind": "multi-choice", "label": "L", "choices": [{"reference": "a", "label": {"en": "A", "de": "B"}}]}`,
			`{"kind": "multi-choice", "label": {"de": "M"}, "choices": [{"reference": "b", "label": "C"}]}`,
		},
		"privacy-policies": {
			"privacyPolicies", "reference", `"name": "P", "versions": [{"version": "1", "url": "https://example.com/1"}]`,
			`{"versions": [{"version": "1", "url": "https://example.com/1"}, {"version": "2", "url": "https://example.com/2"}]}`,
			`{"name": "P", "versions": [{"version": "1", "url": "https://example.com/1"}]}`,
			`{"name": "P", "versions": [{"version": "1", "url": "https://example.com/1"}, {"version": "2", "url": "https://example.com/2"}]}`,
		},
		"permission-statements": {
			"permissionStatements", "reference", `"text": {"en": "A", "de": "B"}`, `{"text": {"en": "C"}}`, `{"text": {"en": "A", "de": "B"}}`, `{"text": {"en": "C"}}`,
		},
		"templates": {
			"templates", "reference", `"name": "T", "privacyPolicy": "policy-01", "blocks": [{"type": "permissions", "statement": "statement-01", "options": [{"optionGroup": "all-email", "justification": "consent"}]}]`,
			`{"privacyPolicy": null, "blocks": [{"type": "text", "text": "W"}]}`,
			`{"name": "T", "privacyPolicy": "policy-01", "blocks": [{"type": "permissions", "statement": "statement-01", "options": [{"optionGroup": "all-email", "justification": "consent"}]}]}`,
			`{"name": "T", "blocks": [{"type": "text", "text": "W"}]}`,
		},
		"rule-sets": {
			"ruleSets", "reference", `"name": "R", "expiresWithin": "P30D", "maxOptions": 2, "hideStates": ["NONE", "GRANTED"], "channels": ["sms"]`,
			`{"expiresWithin": null, "maxOptions": null, "hideStates": null, "channels": ["email", "sms"]}`,
			`{"name": "R", "expiresWithin": "P30D", "maxOptions": 2, "hideStates": ["NONE", "GRANTED"], "channels": ["sms"]}`,
			`{"name": "R", "channels": ["email", "sms"]}`,
		},
	} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, api.Options{})
			const key = "a key/100 %"
			expect := func(a reply, content string, revision float64, archived bool) string {
				t.Helper()
				want := decoded(t, content)
				want[c.key], want["applicationId"], want["revision"], want["archived"] = key, "northwind", revision, archived
				want["id"], want["updatedAt"] = a.json["id"], a.json["updatedAt"]
				if diff := cmp.Diff(want, a.json); diff != "" {
					t.Errorf("the read form (-want +got):\n%s", diff)
				}
				if at, err := time.Parse(time.RFC3339, a.json["updatedAt"].(string)); err != nil || time.Since(at) > time.Hour {
					t.Errorf("updated at %v", a.json["updatedAt"])
				}
				return a.json["id"].(string)
			}
			body := fmt.Sprintf(`{"applicationId": "northwind", %q: %q, %s}`, c.key, key, c.create)
			before := keys(w.ok(http.StatusOK, "GET", itemsOf(kind), nil), c.list)
			id := expect(w.ok(http.StatusCreated, "POST", itemsOf(kind), body), c.want, 1, false)
			if c.key == "id" && id != key {
				t.Errorf("the id is %q", id)
			}
			w.refused(http.StatusConflict, "POST", itemsOf(kind), body)
			const escaped = "a%20key%2F100%20%25"
			for _, name := range []string{escaped, strings.NewReplacer(" ", "%20", "/", "%2F", "%", "%25").Replace(id)} {
				expect(w.ok(http.StatusOK, "GET", itemAt(kind, name), nil), c.want, 1, false)
			}
			if a := w.ok(http.StatusOK, "GET", itemsOf(kind), nil); !slices.Equal(keys(a, c.list), append(before, id)) || a.json["total"] != float64(len(before)+1) {
				t.Errorf("the list is %s", a.text)
			}
			if a := w.ok(http.StatusOK, "GET", itemsOf(kind, fmt.Sprintf("offset=%d&limit=1&includeTotal=false", len(before))), nil); !slices.Equal(keys(a, c.list), []string{id}) || a.json["total"] != nil {
				t.Errorf("the last page is %s", a.text)
			}

			// What is left out stays, null clears; the same again is no revision.
			for range 2 {
				expect(w.ok(http.StatusOK, "PATCH", itemAt(kind, escaped), c.change), c.wanted, 2, false)
			}
			expect(w.ok(http.StatusOK, "PATCH", itemAt(kind, escaped), fmt.Sprintf(`{%q: %q}`, c.key, key)), c.wanted, 2, false)
			w.refused(http.StatusUnprocessableEntity, "PATCH", itemAt(kind, escaped), fmt.Sprintf(`{%q: "other"}`, c.key), "body."+c.key)
			w.refused(http.StatusUnprocessableEntity, "PATCH", itemAt(kind, escaped), fmt.Sprintf(`{%q: null}`, c.key), "body."+c.key)

			for range 2 {
				w.ok(http.StatusNoContent, "DELETE", itemAt(kind, escaped), nil)
			}
			expect(w.ok(http.StatusOK, "GET", itemAt(kind, escaped), nil), c.wanted, 3, true)
			if got := keys(w.ok(http.StatusOK, "GET", itemsOf(kind), nil), c.list); !slices.Equal(got, before) {
				t.Errorf("archived and listed: %q", got)
			}
			if got := keys(w.ok(http.StatusOK, "GET", itemsOf(kind, "archived=true"), nil), c.list); !slices.Contains(got, id) {
				t.Errorf("archived and not among %q", got)
			}
			w.refused(http.StatusConflict, "PATCH", itemAt(kind, escaped), c.change)

			again := decoded(t, c.wanted) // a policy goes on from what it was
			again[c.key], again["applicationId"] = key, "northwind"
			if got := expect(w.ok(http.StatusCreated, "POST", itemsOf(kind), again), c.wanted, 4, false); got != id {
				t.Errorf("the id was %q and is %q", id, got)
			}
			a := w.ok(http.StatusOK, "GET", itemAt(kind, escaped, "versions"), nil)
			var want []any
			for i, content := range []string{c.wanted, c.wanted, c.wanted, c.want} {
				v, is := decoded(t, content), a.json["versions"].([]any)[i].(map[string]any)
				v[c.key] = key
				want = append(want, map[string]any{
					"revision": float64(4 - i), "archived": i == 1, "content": v, "recordedAt": is["recordedAt"], "recordedBy": w.keyID,
				})
			}
			if diff := cmp.Diff(want, a.json["versions"]); diff != "" || a.json["total"] != 4.0 {
				t.Errorf("the versions, of %v (-want +got):\n%s", a.json["total"], diff)
			}
			page := w.ok(http.StatusOK, "GET", itemAt(kind, escaped, "versions")+"&limit=1&offset=3", nil).json["versions"].([]any)
			if len(page) != 1 || page[0].(map[string]any)["revision"] != 1.0 {
				t.Errorf("the last page of the versions is %v", page)
			}
		})
	}
}

// What is wrong is told at once, by its place in the body.
func TestFaultsOfAnItem(t *testing.T) {
	t.Parallel()
	w := newWorld(t, api.Options{})
	const invalid = http.StatusUnprocessableEntity
	w.refused(invalid, "POST", itemsOf("options"), `{"applicationId": "northwind", "id": "", "name": 5, "party": "nobody", "purpose": "research", "channel": null,
		"justifications": [{"basis": "because"}, {"basis": "consent", "validFor": "soon"}, {"basis": "consent"}, 7, {"validFor": []}]}`,
		"body.id", "body.name", "body.party", "body.channel", "body.justifications[0].basis", "body.justifications[1].validFor", "body.justifications[2].basis",
		"body.justifications[3]", "body.justifications[4].basis", "body.justifications[4].validFor")
	w.refused(invalid, "POST", itemsOf("parties"), `{}`, "body.applicationId", "body.id", "body.name")
	w.refused(invalid, "POST", itemsOf("parties"), `{"applicationId": "northwind", "id": "`+strings.Repeat("x", 101)+`", "name": "\u0000"}`, "body.id", "body.name")
	w.refused(invalid, "PATCH", itemAt("options", "newsletter-sms"), `{"party": "nobody", "justifications": null}`, "body.party", "body.justifications")
	w.refused(invalid, "PATCH", itemAt("option-groups", "all-email"), `{"options": ["newsletter-email", "none", "newsletter-email"]}`, "body.options[1]", "body.options[2]")
	w.refused(invalid, "POST", itemsOf("templates"), `{"applicationId": "northwind", "reference": "t", "name": "T", "privacyPolicy": "none", "blocks": [{"type": "permissions", "statement": "none",
		"options": [{"option": "newsletter-email", "justification": "contract"}, {"option": "none", "justification": "consent"}, {}]}, {"type": "text"}, {"type": "x"}, {"type": "single-choice-preference", "preference": "none"}]}`,
		"body.privacyPolicy", "body.blocks[0].statement", "body.blocks[0].options[0].justification", "body.blocks[0].options[1].option", "body.blocks[0].options[2].justification",
		"body.blocks[0].options[2]", "body.blocks[1].text", "body.blocks[2].type", "body.blocks[3].preference")
	w.refused(invalid, "POST", itemsOf("rule-sets"), `{"applicationId": "northwind", "reference": "r", "name": "", "expiresWithin": "-P1D", "maxOptions": 0, "hideStates": ["NONE", "ASLEEP", "NONE"],
		"channels": ["email", "post", "email"], "mandatoryPreferences": ["none"]}`,
		"body.name", "body.expiresWithin", "body.maxOptions", "body.hideStates[1]", "body.hideStates[2]", "body.channels[1]", "body.channels[2]", "body.mandatoryPreferences[0]")
	w.refused(invalid, "POST", itemsOf("rule-sets"), `{"applicationId": "northwind", "reference": "r", "name": "R", "maxOptions": 99999999999999999999}`, "body.maxOptions")
	w.refused(invalid, "PATCH", itemAt("permission-statements", "statement-01"), `{"text": {"en": 5, "de": "D"}}`, "body.text")
	w.refused(invalid, "PATCH", itemAt("permission-statements", "statement-01"), `{"text": {"en": "", "no language": "D"}}`, "body.text")
	w.refused(invalid, "POST", itemsOf("privacy-policies"), `{"applicationId": "northwind", "reference": "p", "name": "P", "versions": [{"version": "1", "url": "javascript:alert(1)"}, {"version": "1", "url": "https://x.example"}]}`,
		"body.versions[0].url", "body.versions[1].version")
	for _, path := range []string{itemAt("parties", "nobody"), itemAt("parties", "%00"), itemAt("parties", "%ff"), itemAt("parties", strings.Repeat("x", 5000)), itemAt("nothings", "x")} {
		w.refused(http.StatusNotFound, "GET", path, nil)
		w.refused(http.StatusNotFound, "DELETE", path, nil)
	}
	w.refused(http.StatusNotFound, "GET", itemAt("purposes", "northwind"), nil) // of another kind
	w.refused(http.StatusNotFound, "GET", itemAt("parties", "nobody", "versions"), nil)
	w.refused(http.StatusNotFound, "PATCH", itemAt("parties", "nobody"), `{"name": "N"}`)
	w.refused(invalid, "GET", configuration+"/parties", nil, "query.applicationId")
}

// What others need stays as they need it, and they are named.
func TestWhatIsNeededStays(t *testing.T) {
	t.Parallel()
	w := newWorld(t, api.Options{})
	w.ok(http.StatusCreated, "POST", itemsOf("rule-sets"), `{"applicationId": "northwind", "reference": "nudge", "name": "N", "channels": ["sms"], "mandatoryPreferences": ["interests"]}`)
	w.ok(http.StatusCreated, "POST", itemsOf("templates"), `{"applicationId": "northwind", "reference": "all", "name": "T", "privacyPolicy": "policy-01", "blocks": [
		{"type": "permissions", "statement": "statement-01", "options": [{"option": "research-email", "justification": "consent"}]}, {"type": "multi-choice-preference", "preference": "interests"}]}`)
	before := w.everything()
	for path, users := range map[string][]string{
		itemAt("parties", "northwind"):                  {`option "newsletter-email"`, `option "newsletter-sms"`, `option "research-email"`},
		itemAt("purposes", "research"):                  {`option "research-email"`},
		itemAt("channels", "sms"):                       {`option "newsletter-sms"`, `rule set "nudge"`},
		itemAt("options", "research-email"):             {`option group "all-email"`, `template "all"`},
		itemAt("preferences", "interests"):              {`template "all"`, `rule set "nudge"`},
		itemAt("privacy-policies", "policy-01"):         {`template "all"`},
		itemAt("permission-statements", "statement-01"): {`template "all"`},
	} {
		a := w.refused(http.StatusConflict, "DELETE", path, nil)
		if want := "It is needed as it is by: " + strings.Join(users, ", ") + ". Nothing was changed."; a.json["detail"] != want {
			t.Errorf("DELETE %s: %s", path, a.json["detail"])
		}
	}
	a := w.refused(http.StatusConflict, "PATCH", itemAt("options", "research-email"), `{"justifications": [{"basis": "legitimate-interest"}]}`)
	if !strings.Contains(a.text, `template \"all\"`) {
		t.Error(a.text)
	}
	if after := w.everything(); after != before {
		t.Errorf("something changed:\n%s\n%s", before, after)
	}
	for _, path := range []string{itemAt("templates", "all"), itemAt("rule-sets", "nudge"), itemAt("preferences", "interests"), itemAt("option-groups", "all-email"), itemAt("options", "research-email"), itemAt("purposes", "research")} {
		w.ok(http.StatusNoContent, "DELETE", path, nil)
	}
	w.refused(http.StatusUnprocessableEntity, "POST", "/v1/permissions/transactions",
		`{"applicationId": "northwind", "externalRef": "CUST-1", "changes": [{"optionId": "research-email", "justification": "consent", "state": "GRANTED"}]}`, "body.changes[0].optionId")
}

// The versions of a policy are evidence, however they are written.
func TestVersionsOfAPolicyStay(t *testing.T) {
	t.Parallel()
	w := newWorld(t, api.Options{})
	const one, two = `{"version": "1", "url": "https://example.com/privacy"}`, `{"version": "2", "url": "https://example.com/2"}`
	const invalid = http.StatusUnprocessableEntity
	at := itemAt("privacy-policies", "policy-01")
	w.ok(http.StatusOK, "PATCH", at, `{"versions": [`+one+`, `+two+`], "name": "Renamed"}`)
	w.refused(invalid, "PATCH", at, `{"versions": [`+two+`]}`, "body.versions[0]", "body.versions")
	w.refused(invalid, "PATCH", at, `{"versions": [`+one+`]}`, "body.versions")
	w.refused(invalid, "PATCH", at, `{"versions": [`+two+`, `+one+`]}`, "body.versions[0]", "body.versions[1]")
	document := func(versions string) string {
		return `{"application": {"name": "N"}, "privacyPolicies": [{"reference": "new", "name": "N", "versions": [` + one + `]}, {"reference": "policy-01", "name": "P", "versions": [` + versions + `]}]}`
	}
	put := configuration + "?applicationId=northwind"
	w.refused(invalid, "PUT", put, document(one), "body.privacyPolicies[1].versions")
	w.refused(invalid, "PUT", put+"&dryRun=true", document(two+","+one), "body.privacyPolicies[1].versions[0]", "body.privacyPolicies[1].versions[1]")
	w.ok(http.StatusOK, "PUT", put, document(one+","+two))

	w.ok(http.StatusNoContent, "DELETE", at, nil)
	create := `{"applicationId": "northwind", "reference": "policy-01", "name": "P", "versions": [%s]}`
	w.refused(invalid, "POST", itemsOf("privacy-policies"), fmt.Sprintf(create, one), "body.versions")
	w.refused(invalid, "PUT", put, document(two), "body.privacyPolicies[1].versions[0]", "body.privacyPolicies[1].versions")
	w.ok(http.StatusCreated, "POST", itemsOf("privacy-policies"), fmt.Sprintf(create, one+","+two))
}

func TestDocumentAsAWhole(t *testing.T) {
	t.Parallel()
	w := newWorld(t, api.Options{})
	at := configuration + "?applicationId=northwind"
	whole := w.ok(http.StatusOK, "GET", at, nil)
	asYAML := w.ok(http.StatusOK, "GET", at, nil, "Accept: text/html, application/yaml;q=0.9, application/json")
	var fromYAML map[string]any
	if err := yaml.Unmarshal([]byte(asYAML.text), &fromYAML); err != nil || asYAML.Header.Get("Content-Type") != "application/yaml" {
		t.Fatalf("%s: %v\n%s", asYAML.Header.Get("Content-Type"), err, asYAML.text)
	}
	if diff := cmp.Diff(whole.json, fromYAML); diff != "" {
		t.Errorf("JSON and YAML differ:\n%s", diff)
	}
	if a := w.ok(http.StatusOK, "GET", at, nil, "Accept: application/json, application/yaml"); a.text != whole.text {
		t.Errorf("who names JSON first gets %s", a.text)
	}
	if a := w.send("GET", configuration+"?applicationId=none", nil, "Accept: application/yaml"); a.StatusCode != http.StatusNotFound || a.Header.Get("Content-Type") != "application/problem+json" {
		t.Errorf("who accepts YAML is refused with %d %s", a.StatusCode, a.Header.Get("Content-Type"))
	}

	changes := func(a reply, applied bool, want ...string) {
		t.Helper()
		got := []string{}
		for _, c := range a.json["changes"].([]any) {
			c := c.(map[string]any)
			got = append(got, fmt.Sprint(c["action"], " ", c["kind"], " ", c["key"]))
		}
		if !slices.Equal(got, want) || a.json["applied"] != applied {
			t.Errorf("%s: %q", a.text, got)
		}
	}
	for _, text := range []string{whole.text, asYAML.text} { // which is JSON, and YAML
		for _, query := range []string{"", "&dryRun=true", "&prune=true"} {
			a := w.ok(http.StatusOK, "PUT", at+query, text, "Content-Type: application/yaml")
			changes(a, query != "&dryRun=true")
		}
	}
	const smaller = `
application: {name: Northwind Retail, defaultLocale: en, locales: [en, de]}
parties: [{id: northwind, name: Renamed}]
purposes: [{id: newsletter, name: Newsletter, directMarketing: true}]
channels: [{id: email, name: E-mail}]
options: [{id: newsletter-email, party: northwind, purpose: newsletter, channel: email, justifications: [{basis: consent, validFor: P2Y}]}]
ruleSets: [{reference: nudge, name: N}]
`
	archived := []string{
		"archive purpose research", "archive channel sms", "archive option newsletter-sms", "archive option research-email", "archive option-group all-email",
		"archive preference interests", "archive preference frequency", "archive privacy-policy policy-01", "archive permission-statement statement-01",
	}
	put := []string{"change party northwind", "add rule-set nudge"}
	changes(w.ok(http.StatusOK, "PUT", at+"&dryRun=true", smaller, "Content-Type: application/yaml"), false, put...)
	a := w.ok(http.StatusOK, "PUT", at+"&dryRun=true&prune=true", smaller, "Content-Type: application/yaml")
	if got := w.ok(http.StatusOK, "GET", at, nil).text; got != whole.text {
		t.Errorf("a dry run changed the set-up:\n%s\n%s", whole.text, got)
	}
	all := a.json["changes"].([]any)
	if len(all) != len(put)+len(archived) {
		t.Errorf("the dry run says %s", a.text)
	}
	changes(w.ok(http.StatusOK, "PUT", at, smaller, "Content-Type: application/yaml"), true, put...)
	pruned := w.ok(http.StatusOK, "PUT", at+"&prune=true", smaller, "Content-Type: application/yaml")
	for _, want := range archived {
		action, rest, _ := strings.Cut(want, " ")
		kind, key, _ := strings.Cut(rest, " ")
		if !slices.ContainsFunc(pruned.json["changes"].([]any), func(c any) bool {
			is := c.(map[string]any)
			return is["action"] == action && is["kind"] == kind && is["key"] == key
		}) {
			t.Errorf("%s: it is not said that it would %s", pruned.text, want)
		}
	}
	changes(w.ok(http.StatusOK, "PUT", at+"&prune=true", smaller, "Content-Type: application/yaml"), true)
	changes(w.ok(http.StatusOK, "PUT", at, whole.text), true, slices.Concat([]string{"change party northwind"}, strings.Split(strings.ReplaceAll(strings.Join(archived, ","), "archive", "add"), ","))...)

	// Faults are at their places in the document, all of them.
	w.refused(http.StatusUnprocessableEntity, "PUT", at,
		`{"application": {"name": "", "locales": ["xx-", 5]}, "parties": {}, "channels": [{"id": "c", "name": "C"}, {"id": "c", "name": 7}, 8], "options": [{"id": "o", "party": "p", "purpose": "newsletter", "channel": "c", "justifications": [{}]}],
			"permissionStatements": [{"reference": "s", "text": {"en": []}}]}`,
		"body.application.name", "body.application.locales[0]", "body.application.locales[1]", "body.parties", "body.channels[1].id", "body.channels[1].name", "body.channels[2]",
		"body.options[0].party", "body.options[0].justifications[0].basis", "body.permissionStatements[0].text")
	w.refused(http.StatusUnprocessableEntity, "PUT", at, `{}`, "body.application")
	w.refused(http.StatusNotFound, "PUT", configuration+"?applicationId=globex", whole.text)
}

// A YAML document that would take more than anybody has is refused before it is read.
func TestYAMLIsPlain(t *testing.T) {
	t.Parallel()
	w := newWorld(t, api.Options{})
	const size = 500_000
	bomb := "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n"
	for i := range 9 {
		bomb += fmt.Sprintf("a%d: &a%[1]d [%s]\n", i+1, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*a%d,", i), 10), ","))
	}
	for name, body := range map[string]string{
		"aliases": bomb, "brackets": strings.Repeat("[", size), "braces": strings.Repeat("{a: ", size/4), "dashes": strings.Repeat("- ", size/2) + "x",
		"colons": strings.Repeat(": ", size/2), "questions": strings.Repeat("? ", size/2), "tags": "a: " + strings.Repeat("!a ", size/3) + "x", "anchors": "a: " + strings.Repeat("&a ", size/3) + "x",
		"documents": strings.Repeat("---\na\n", size/6), "stairs": lines(600, "%[2]sa:\n"), "names": lines(50_000, "k%[1]d: v\n"), "not YAML": "{", "a tab": "a:\n\t- b",
	} {
		began := time.Now()
		a := w.send("PUT", configuration+"?applicationId=northwind", body, "Content-Type: application/yaml")
		if took := time.Since(began); a.StatusCode != http.StatusBadRequest || took > 5*time.Second {
			t.Errorf("%s: %d after %s: %.300s", name, a.StatusCode, took, a.text)
		}
	}
	if a := w.send("POST", configuration+"/parties", "applicationId: northwind", "Content-Type: application/yaml"); a.StatusCode != http.StatusUnsupportedMediaType {
		t.Errorf("YAML elsewhere is answered with %d", a.StatusCode)
	}
}

// lines repeats a line, which gets its number and spaces as many as that.
func lines(n int, format string) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, format, i, strings.Repeat(" ", i%1000))
	}
	return b.String()
}

// Creating happens once for a key, and editing at the same time is nobody's conflict.
func TestItemsAreCreatedOnceAndAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t, api.Options{})
	const party, key = `{"applicationId": "northwind", "id": "once", "name": "O"}`, "Idempotency-Key: k"
	first := w.ok(http.StatusCreated, "POST", itemsOf("parties"), party, key)
	w.ok(http.StatusOK, "PATCH", itemAt("parties", "once"), `{"name": "P"}`)
	if again := w.ok(http.StatusCreated, "POST", itemsOf("parties"), party, key); again.text != first.text {
		t.Errorf("first %s, again %s", first.text, again.text)
	}
	if a := w.send("POST", itemsOf("parties"), party+" ", key); a.StatusCode != http.StatusUnprocessableEntity || a.errors()["header.Idempotency-Key"] == "" {
		t.Errorf("another body answered %d: %s", a.StatusCode, a.text)
	}
	w.refused(http.StatusConflict, "POST", itemsOf("parties"), party)

	var all sync.WaitGroup
	for i := range 12 {
		all.Go(func() {
			name := fmt.Sprintf(`{"applicationId": "northwind", "id": "c%d", "name": "C"}`, i)
			if a := w.send("POST", itemsOf("channels"), name); a.StatusCode != http.StatusCreated {
				t.Errorf("at once: %d %s", a.StatusCode, a.text)
			}
			if a := w.send("PATCH", itemAt("parties", "northwind"), fmt.Sprintf(`{"name": "N%d"}`, i)); a.StatusCode != http.StatusOK {
				t.Errorf("at once: %d %s", a.StatusCode, a.text)
			}
			if a := w.send("POST", itemsOf("parties"), `{"applicationId": "northwind", "id": "same", "name": "S"}`, "Idempotency-Key: same"); a.StatusCode != http.StatusCreated {
				t.Errorf("the same at once: %d %s", a.StatusCode, a.text)
			}
		})
	}
	all.Wait()
	if a := w.ok(http.StatusOK, "GET", itemAt("parties", "northwind"), nil); a.json["revision"] != 13.0 {
		t.Errorf("the party is %s", a.text)
	}
	if a := w.ok(http.StatusOK, "GET", itemsOf("channels", "limit=100"), nil); a.json["total"] != 14.0 {
		t.Errorf("the channels are %s", a.text)
	}
	if a := w.ok(http.StatusOK, "GET", itemAt("parties", "same", "versions"), nil); a.json["total"] != 1.0 {
		t.Errorf("created once with %s", a.text)
	}
}

func TestScopesOfTheConfiguration(t *testing.T) {
	t.Parallel()
	w := newWorld(t, api.Options{})
	one := func(scope consent.Scope) string {
		_, key := w.credential(identity.NewCredential{Kind: store.APIKeyCredential, Applications: []string{"northwind"}, Scopes: []consent.Scope{scope}})
		return "X-API-Key: " + key
	}
	reader, writer, other := one(consent.ConfigurationRead), one(consent.ConfigurationWrite), one(consent.ConsentRead)
	at := configuration + "?applicationId=northwind"
	w.ok(http.StatusOK, "GET", at, nil, reader)
	w.ok(http.StatusForbidden, "GET", at, nil, writer)
	w.ok(http.StatusForbidden, "GET", at, nil, other)
	w.ok(http.StatusOK, "GET", itemsOf("parties"), nil, reader)
	w.ok(http.StatusForbidden, "PATCH", itemAt("parties", "northwind"), `{"name": "N"}`, reader)
	w.ok(http.StatusOK, "PATCH", itemAt("parties", "northwind"), `{"name": "N"}`, writer)
	w.ok(http.StatusOK, "GET", "/v1/permissions/configuration?applicationId=northwind", nil, other)
	w.ok(http.StatusForbidden, "GET", "/v1/permissions/configuration?applicationId=northwind", nil, reader)
}

func TestPermissionConfiguration(t *testing.T) {
	t.Parallel()
	w := newWorld(t, api.Options{})
	got := w.ok(http.StatusOK, "GET", "/v1/permissions/configuration?applicationId=northwind", nil)
	want := decoded(t, `{"applicationId": "northwind", "data": [{"id": "email", "name": "E-mail"}, {"id": "sms", "name": "SMS"}],
		"purposes": [{"id": "newsletter", "name": "Newsletter"}, {"id": "research", "name": "Customer research"}], "parties": [{"id": "northwind", "name": "Northwind Retail Ltd"}],
		"options": [
			{"id": "newsletter-email", "name": null, "dataId": "email", "purposeId": "newsletter", "partyId": "northwind", "justifications": [{"justification": "consent", "validFor": "P2Y"}]},
			{"id": "newsletter-sms", "name": null, "dataId": "sms", "purposeId": "newsletter", "partyId": "northwind", "justifications": [{"justification": "consent", "validFor": null}]},
			{"id": "research-email", "name": null, "dataId": "email", "purposeId": "research", "partyId": "northwind",
				"justifications": [{"justification": "legitimate-interest", "validFor": null}, {"justification": "consent", "validFor": null}]}],
		"groups": [{"id": "all-email", "name": "Everything by e-mail", "options": ["newsletter-email", "research-email"]}]}`)
	if diff := cmp.Diff(want, got.json); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if _, err := w.core.CreateApplication(context.Background(), "bare", "Bare"); err != nil {
		t.Fatal(err)
	}
	_, key := w.credential(identity.NewCredential{Kind: store.APIKeyCredential, Applications: []string{"bare"}})
	if a := w.ok(http.StatusOK, "GET", "/v1/permissions/configuration?applicationId=bare", nil, "X-API-Key: "+key); !strings.Contains(a.text, `"options":[]`) {
		t.Errorf("without a catalogue: %s", a.text)
	}
	w.refused(http.StatusNotFound, "GET", "/v1/permissions/configuration?applicationId=globex", nil)
}
