package api_test

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/legacy"
	"go.uber.org/goleak"

	"github.com/opencpm/opencpm/internal/api"
	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/internal/core"
	"github.com/opencpm/opencpm/internal/identity"
	"github.com/opencpm/opencpm/internal/observe"
	"github.com/opencpm/opencpm/internal/store"
	"github.com/opencpm/opencpm/internal/store/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is an API with two applications in it, northwind and globex, and an API
// key with all scopes for each.
type world struct {
	caller   string // the address that requests come from; empty for the same always
	tb       testing.TB
	store    *store.Store
	core     *core.Service
	identity *identity.Service
	handler  http.Handler
	log      *bytes.Buffer
	key      string // of northwind
	keyID    string
	foreign  string // of globex
}

const baseURL = "http://api.test"

func newWorld(tb testing.TB, o api.Options) *world {
	tb.Helper()
	w := &world{tb: tb, store: storetest.SQLite(tb), log: &bytes.Buffer{}}
	w.core = core.New(w.store, core.Options{})
	w.identity = identity.New(w.store, w.core, 24*time.Hour)
	for _, id := range []string{"northwind", "globex"} {
		if _, err := w.core.CreateApplication(context.Background(), id, id); err != nil {
			tb.Fatal(err)
		}
		doc, err := consent.ParseCatalogue([]byte(storetest.Catalogue))
		if err != nil {
			tb.Fatal(err)
		}
		if _, err := w.core.ImportCatalogue(context.Background(), id, doc, core.Import{}); err != nil {
			tb.Fatal(err)
		}
	}
	w.keyID, w.key = w.credential(identity.NewCredential{Kind: store.APIKeyCredential, Name: "Web shop", Applications: []string{"northwind"}})
	_, w.foreign = w.credential(identity.NewCredential{Kind: store.APIKeyCredential, Name: "Globex", Applications: []string{"globex"}})
	o.Core, o.Identity, o.BaseURL = w.core, w.identity, baseURL
	o.Log = observe.NewLogger(w.log, "json", slog.LevelDebug)
	o.Middleware = slices.Insert(o.Middleware, 0, observe.Middleware(o.Log, observe.NewMetrics("test"), api.Fail))
	w.handler = api.New(o)
	return w
}

// in is the world within a subtest.
func (w *world) in(tb testing.TB) *world {
	w2 := *w
	w2.tb = tb
	return &w2
}

func (w *world) credential(n identity.NewCredential) (id, secret string) {
	w.tb.Helper()
	made, secret, err := w.identity.Create(context.Background(), n)
	if err != nil {
		w.tb.Fatal(err)
	}
	return made.String(), secret
}

// reply is an answer with its JSON.
type reply struct {
	*http.Response
	text string
	json map[string]any
}

// send calls the API with the key of northwind, which header fields given as "Name:
// value" overrule, and holds the answer to the document. A body that is a string is
// sent as it is, any other as JSON.
func (w *world) send(method, target string, body any, header ...string) reply {
	w.tb.Helper()
	var content io.Reader = http.NoBody
	switch b := body.(type) {
	case nil:
	case string:
		content = strings.NewReader(b)
	default:
		text, err := json.Marshal(b)
		if err != nil {
			w.tb.Fatal(err)
		}
		content = bytes.NewReader(text)
	}
	r := httptest.NewRequest(method, baseURL+target, content)
	r.RemoteAddr = cmp.Or(w.caller, r.RemoteAddr)
	r.Header.Set("X-API-Key", w.key)
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	for _, h := range header {
		name, value, _ := strings.Cut(h, ": ")
		if r.Header.Del(name); value != "" {
			r.Header.Set(name, value)
		}
	}
	recorder := httptest.NewRecorder()
	w.handler.ServeHTTP(recorder, r)
	a := reply{Response: recorder.Result(), text: recorder.Body.String()}
	if strings.Contains(a.Header.Get("Content-Type"), "json") {
		if err := json.Unmarshal([]byte(a.text), &a.json); err != nil {
			w.tb.Fatalf("%s %s: %d with unreadable JSON: %v", method, target, a.StatusCode, err)
		}
	}
	w.keepsToTheDocument(r, a)
	return a
}

// errors gives the messages of a problem by their locations.
func (a reply) errors() map[string]string {
	all := map[string]string{}
	list, _ := a.json["errors"].([]any)
	for _, e := range list {
		f := e.(map[string]any)
		all[f["location"].(string)] = f["message"].(string)
	}
	return all
}

// refused is send for a call that must be refused with a status, a problem and
// faults at exactly these locations.
func (w *world) refused(status int, method, target string, body any, locations ...string) reply {
	w.tb.Helper()
	a := w.send(method, target, body)
	if a.StatusCode != status || a.Header.Get("Content-Type") != "application/problem+json" {
		w.tb.Fatalf("%s %s answered %d %s, not a problem with status %d: %s", method, target, a.StatusCode, a.Header.Get("Content-Type"), status, a.text)
	}
	if got := slices.Sorted(maps.Keys(a.errors())); !slices.Equal(got, slices.Sorted(slices.Values(locations))) {
		w.tb.Errorf("%s %s names %q, not %q", method, target, got, locations)
	}
	return a
}

// ok is send for a call that must succeed with a status.
func (w *world) ok(status int, method, target string, body any, header ...string) reply {
	w.tb.Helper()
	a := w.send(method, target, body, header...)
	if a.StatusCode != status {
		w.tb.Fatalf("%s %s answered %d, not %d: %s", method, target, a.StatusCode, status, a.text)
	}
	return a
}

// keepsToTheDocument fails the test where the answer is not what the document says,
// or holds a field that it does not know.
func (w *world) keepsToTheDocument(r *http.Request, a reply) {
	w.tb.Helper()
	route, params, err := strictRouter(w.tb).FindRoute(r)
	if err != nil {
		return // not of the document: another test's matter
	}
	input := &openapi3filter.ResponseValidationInput{
		RequestValidationInput: &openapi3filter.RequestValidationInput{Request: r, PathParams: params, Route: route},
		Status:                 a.StatusCode, Header: a.Header,
		Options: &openapi3filter.Options{IncludeResponseStatus: true, MultiError: true},
	}
	input.SetBodyBytes([]byte(a.text))
	if err := openapi3filter.ValidateResponse(context.Background(), input); err != nil {
		w.tb.Errorf("%s %s: the answer %d does not keep to the document: %v\n%s", r.Method, r.URL.Path, a.StatusCode, err, a.text)
	}
}

var documentRouter routers.Router

// strictRouter reads the committed document such that no answer may hold more than
// it says.
func strictRouter(tb testing.TB) routers.Router {
	tb.Helper()
	documentOnce.Do(func() {
		openapi3filter.RegisterBodyDecoder("text/html", openapi3filter.PlainBodyDecoder)
		strict := strings.ReplaceAll(string(document()), `"additionalProperties": true`, `"additionalProperties": false`)
		doc, err := openapi3.NewLoader().LoadFromData([]byte(strict))
		if err != nil {
			tb.Fatal(err)
		}
		if documentRouter, err = legacy.NewRouter(doc); err != nil {
			tb.Fatal(err)
		}
	})
	return documentRouter
}
