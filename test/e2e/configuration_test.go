package e2e_test

import (
	"context"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	openclient "github.com/opencpm/opencpm/client"
	"github.com/opencpm/opencpm/test/harness"
)

// item is the path of one item of the set-up; of is what is asked of it.
func (w *world) item(kind, id string, of ...string) string {
	path := strings.Join(append([]string{"/v1/configuration", kind, url.PathEscape(id)}, of...), "/")
	return query(path, "applicationId", w.id)
}

// configuration is the path of the set-up as a whole; more is further query parameters.
func (w *world) configuration(more ...string) string {
	return query("/v1/configuration", append([]string{"applicationId", w.id}, more...)...)
}

func TestConfigurationOfEveryKind(t *testing.T) {
	harness.OnEachStore(t, func(t *testing.T, s *harness.Store) {
		w := start(t, s, northwind)
		for kind := range configurationItems("") {
			key := "Ünique " + kind
			item := configurationItems(key)[kind]
			body := maps.Clone(item)
			body["applicationId"] = w.id
			made := w.api.do(t, "POST", "/v1/configuration/"+kind, body).want(t, 201)
			id := made.text(t, "id")
			w.api.do(t, "POST", "/v1/configuration/"+kind, body).want(t, 409)
			for _, name := range []string{id, key} {
				got := w.api.do(t, "GET", w.item(kind, name), nil).want(t, 200)
				if diff := cmp.Diff(made.body, got.body); diff != "" {
					t.Errorf("%s %s (-created +read):\n%s", kind, name, diff)
				}
			}
			sent, err := json.Marshal(item)
			if err != nil {
				t.Fatal(err)
			}
			for field, want := range document(t, string(sent)) {
				if diff := cmp.Diff(plain(t, want), made.at(field)); diff != "" {
					t.Errorf("%s.%s (-sent +created):\n%s", kind, field, diff)
				}
			}

			change := object{"name": "Other"}
			for _, named := range []string{"label", "text"} {
				if item[named] != nil {
					change = object{named: "Other"}
				}
			}
			if a := w.api.do(t, "PATCH", w.item(kind, id), change).want(t, 200); a.at("revision") != 2.0 {
				t.Errorf("%s", a.raw)
			}
			w.api.do(t, "DELETE", w.item(kind, id), nil).want(t, 204)
			if a := w.api.do(t, "GET", w.item(kind, id), nil).want(t, 200); a.at("archived") != true {
				t.Errorf("%s", a.raw)
			}
			if _, text := w.api.glance(t, w.configuration()); strings.Contains(text, key) {
				t.Errorf("%s: archived, and in the document: %s", kind, text)
			}
			if a := w.api.do(t, "POST", "/v1/configuration/"+kind, body).want(t, 201); a.text(t, "id") != id || a.at("revision") != 4.0 {
				t.Errorf("brought back as %s", a.raw)
			}
			versions := w.api.do(t, "GET", w.item(kind, id, "versions"), nil).want(t, 200)
			if n := len(versions.list(t, "versions")); n != 4 || versions.at("versions.3.content") == nil || versions.at("versions.1.archived") != true {
				t.Errorf("%d versions: %s", n, versions.raw)
			}
		}
	})
}

// A statement is edited: what was recorded before proves the old words, what is recorded afterwards the new ones.
func TestEveryWordingCanBeProven(t *testing.T) {
	harness.OnEachStore(t, func(t *testing.T, s *harness.Store) {
		w := start(t, s, northwind)
		statement := object{"permissionStatementRef": "statement-01"}
		w.record(t, "before", change("newsletter-email", "consent", "GRANTED"), statement)
		w.api.do(t, "PATCH", w.item("permission-statements", "statement-01"), object{"text": object{"en": "Other words"}}).want(t, 200)
		w.record(t, "after", change("newsletter-email", "consent", "GRANTED"), statement)
		versions := w.api.do(t, "GET", w.item("permission-statements", "statement-01", "versions"), nil).want(t, 200)
		if versions.at("versions.0.content.text.en") != "Other words" || versions.at("versions.1.content.text.en") != "We may write to you about …" {
			t.Errorf("%s", versions.raw)
		}
		if by := versions.text(t, "versions.0.recordedBy"); by != w.clientID {
			t.Errorf("recorded by %q", by)
		}
		if by := versions.text(t, "versions.1.recordedBy"); by != "operator" {
			t.Errorf("imported by %q", by)
		}
	})
}

// The command and the API write one document, and each reads what the other wrote.
func TestConfigurationAndCommandExchangeOneDocument(t *testing.T) {
	harness.OnEachStore(t, func(t *testing.T, s *harness.Store) {
		w := start(t, s, northwind)
		w.api.do(t, "POST", "/v1/configuration/rule-sets", object{"applicationId": w.id, "reference": "nudge", "name": "N", "maxOptions": 1}).want(t, 201)
		exported := export(t, s, w.id)
		asYAML := w.api.with("Accept", "application/yaml").do(t, "GET", w.configuration(), nil).want(t, 200)
		if string(asYAML.raw) != exported {
			t.Errorf("the command exports\n%s\nand the API\n%s", exported, asYAML.raw)
		}
		if !strings.Contains(exported, "nudge") {
			t.Errorf("the rule set is not exported:\n%s", exported)
		}
		asJSON := w.api.do(t, "GET", w.configuration(), nil).want(t, 200)

		other := newApplication(t, s, "", northwind)
		there := &world{application: other, server: w.server, api: connect(t, w.server, other.clientID, other.clientSecret)}
		dry := there.api.do(t, "PUT", there.configuration("dryRun", "true"), asJSON.body).want(t, 200)
		done := there.api.do(t, "PUT", there.configuration(), asJSON.body).want(t, 200)
		if diff := cmp.Diff(dry.at("changes"), done.at("changes")); diff != "" || dry.at("applied") != false || done.at("applied") != true || done.text(t, "changes.0.key") != "nudge" {
			t.Errorf("dry %s, done %s", dry.raw, done.raw)
		}
		if n := len(there.api.do(t, "PUT", there.configuration("prune", "true"), asJSON.body).want(t, 200).list(t, "changes")); n != 0 {
			t.Errorf("%d changes by the same document again", n)
		}
		status, body := send(t, there, "PUT", there.configuration("prune", "true"), "application/yaml", printed(t))
		if want := `{"changes":[{"action":"archive","kind":"rule-set","key":"nudge"}],"applied":true}`; status != http.StatusOK || strings.TrimSpace(body) != want {
			t.Errorf("as YAML: %d %s", status, body)
		}
		if diff := cmp.Diff(export(t, s, there.id), strings.Split(exported, "ruleSets:")[0]); diff != "" {
			t.Errorf("(-there +here):\n%s", diff)
		}

		// With the published Go client, too.
		c, err := openclient.New(w.server.URL, openclient.Credentials{ClientID: other.clientID, ClientSecret: other.clientSecret})
		if err != nil {
			t.Fatal(err)
		}
		defer c.CloseIdleConnections()
		doc, err := c.Configuration(context.Background(), there.id)
		if err != nil {
			t.Fatal(err)
		}
		got, err := c.PutConfiguration(context.Background(), openclient.ConfigurationUpdate{ApplicationID: there.id, Document: doc, Prune: true})
		if err != nil || len(got.Changes) != 0 || !got.Applied {
			t.Errorf("%+v: %v", got, err)
		}
	})
}

// send sends a body of another media type than JSON.
func send(t testing.TB, w *world, method, target, mediaType, body string) (int, string) {
	t.Helper()
	req, err := http.NewRequest(method, w.api.base+target, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header = w.api.header.Clone()
	req.Header.Set("Content-Type", mediaType)
	res, err := w.api.http.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(answer)
}

// plain turns YAML's numbers into those of JSON.
func plain(t testing.TB, v any) any {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	var out any
	if err := json.Unmarshal(text, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

// An option that is added can be answered at once, one that is archived no longer; what was answered stays.
func TestConfigurationIsLiveAtOnce(t *testing.T) {
	harness.OnEachStore(t, func(t *testing.T, s *harness.Store) {
		w := start(t, s, northwind)
		option := object{
			"applicationId": w.id, "id": "sms-news", "party": "northwind", "purpose": "newsletter", "channel": "sms", "justifications": []object{{"basis": "consent"}},
		}
		granted := change("sms-news", "consent", "GRANTED")
		w.api.do(t, "POST", "/v1/permissions/transactions", w.transaction("ada", []object{granted})).refused(t, 422, "optionId")
		w.api.do(t, "POST", "/v1/configuration/options", option).want(t, 201)
		w.record(t, "ada", granted)
		offered := w.api.do(t, "GET", query("/v1/permissions/configuration", "applicationId", w.id), nil).want(t, 200).list(t, "options")
		if !slices.ContainsFunc(offered, func(o object) bool { return o["id"] == "sms-news" && o["dataId"] == "sms" }) {
			t.Errorf("%v", offered)
		}
		w.api.do(t, "DELETE", w.item("channels", "sms"), nil).want(t, 409)
		w.api.do(t, "DELETE", w.item("options", "sms-news"), nil).want(t, 204)
		w.api.do(t, "POST", "/v1/permissions/transactions", w.transaction("ada", []object{granted})).refused(t, 422, "optionId")
		if got := w.states(t, "ada"); got["sms-news"] != "consent GRANTED" {
			t.Errorf("what was answered is %v", got)
		}
	})
}
