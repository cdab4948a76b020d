package api_test

import (
	"cmp"
	"context"
	"flag"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"

	"github.com/opencpm/opencpm/internal/api"
)

var update = flag.Bool("update", false, "write docs/openapi.json anew")

const golden = "../../docs/openapi.json"

var documentOnce sync.Once

// document is what the server publishes.
var document = sync.OnceValue(func() []byte {
	answered := http.NotFoundHandler()
	h := api.New(api.Options{BaseURL: baseURL, Version: "0.1.0", Health: answered, Ready: answered, Metrics: answered})
	recorder := httptest.NewRecorder()
	h.ServeHTTP(recorder, httptest.NewRequest(http.MethodGet, "/openapi.json", http.NoBody))
	return recorder.Body.Bytes()
})

func TestDocumentIsCommitted(t *testing.T) {
	if *update {
		if err := os.WriteFile(golden, document(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	committed, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if string(committed) != string(document()) {
		t.Error("docs/openapi.json is not what the server publishes: go test ./internal/api -update")
	}
}

// TestDocumentSaysEverything holds the document to words for every operation,
// field and parameter.
func TestDocumentSaysEverything(t *testing.T) {
	doc := loaded(t)
	for path, item := range doc.Paths.Map() {
		for method, op := range item.Operations() {
			if op.Summary == "" || op.OperationID == "" || len(op.Tags) != 1 || doc.Tags.Get(op.Tags[0]) == nil {
				t.Errorf("%s %s: %q %q %q", method, path, op.OperationID, op.Summary, op.Tags)
			}
			for _, p := range op.Parameters {
				if p.Value.Description == "" && p.Value.In != "path" {
					t.Errorf("%s: the parameter %s has no description", op.OperationID, p.Value.Name)
				}
			}
			if op.RequestBody != nil {
				body := op.RequestBody.Value.Content
				if media := cmp.Or(body.Get("application/json"), body.Get("application/x-www-form-urlencoded")); media == nil || media.Example == nil {
					t.Errorf("%s: the body has no example", op.OperationID)
				}
			}
			if scope, ok := op.Extensions["x-required-scope"].(string); ok && doc.Components.SecuritySchemes["oauth2"].Value.Flows.ClientCredentials.Scopes[scope] == "" {
				t.Errorf("%s: the scope %s has no description", op.OperationID, scope)
			}
		}
	}
	for name, schema := range doc.Components.Schemas {
		for field, p := range schema.Value.Properties {
			if p.Value.Description == "" {
				t.Errorf("%s.%s has no description", name, field)
			}
		}
	}
}

func TestDocumentIsServed(t *testing.T) {
	h := api.New(api.Options{BaseURL: "https://example.com/consent/", Version: "1.2.3"})
	get := func(path string) *httptest.ResponseRecorder {
		t.Helper()
		recorder := httptest.NewRecorder()
		h.ServeHTTP(recorder, httptest.NewRequest(http.MethodGet, path, http.NoBody))
		if recorder.Code != http.StatusOK {
			t.Fatalf("%s: %d", path, recorder.Code)
		}
		return recorder
	}
	for _, path := range []string{"/openapi.json", "/openapi.yaml"} {
		doc, err := openapi3.NewLoader().LoadFromData(get(path).Body.Bytes())
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		if doc.Info.Version != "1.2.3" || doc.Servers[0].URL != "https://example.com/consent" {
			t.Errorf("%s: version %s at %s", path, doc.Info.Version, doc.Servers[0].URL)
		}
	}
	page := get("/docs")
	for _, want := range []string{`"/consent/docs/elements.js"`, `"/consent/docs/elements.css"`, `"/consent/openapi.json"`} {
		if !strings.Contains(page.Body.String(), want) {
			t.Errorf("the page does not load %s", want)
		}
	}
	if strings.Contains(page.Body.String(), "//") {
		t.Errorf("the page loads from elsewhere:\n%s", page.Body)
	}
	if policy := page.Header().Get("Content-Security-Policy"); !strings.Contains(policy, "default-src 'none'; script-src 'self';") || strings.Contains(policy, "unsafe-eval") {
		t.Errorf("the policy of the page is %q", policy)
	}
	if script := get("/docs/elements.js"); script.Header().Get("Content-Type") != "text/javascript; charset=utf-8" || script.Body.Len() < 1_000_000 {
		t.Errorf("%d bytes of %s", script.Body.Len(), script.Header().Get("Content-Type"))
	}
	get("/docs/elements.css")
}

func loaded(t *testing.T) *openapi3.T {
	t.Helper()
	doc, err := openapi3.NewLoader().LoadFromData(document())
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

func TestDocumentIsValid(t *testing.T) {
	if err := loaded(t).Validate(context.Background(), openapi3.EnableExamplesValidation()); err != nil {
		t.Error(err)
	}
}
