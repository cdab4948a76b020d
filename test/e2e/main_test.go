// Package e2e_test tests the built binary as a stranger would who has read the published contract and nothing else:
// over HTTP, through its commands, and at the receiving end of its webhooks.
package e2e_test

import (
	"encoding/json"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3filter"

	"github.com/opencpm/opencpm/test/harness"
)

func TestMain(m *testing.M) {
	openapi3filter.RegisterBodyDecoder("text/html", openapi3filter.FileBodyDecoder) // a page is a string to who judges answers
	harness.Main(m)
}

const (
	northwind = "testdata/northwind.yaml" // the catalogue as the contract prints it
	bases     = "testdata/bases.yaml"     // one option per lawful basis, one for them all, no default validity
)

// object is a JSON object.
type object = map[string]any

// An application is set up in a store and has one client that may do everything in it.
type application struct {
	store                  *harness.Store
	id                     string
	clientID, clientSecret string
}

// newApplication creates an application with the commands an operator would use. An empty id lets the platform choose.
func newApplication(t testing.TB, s *harness.Store, id, catalogue string) *application {
	t.Helper()
	s.Do(t, "migrate")
	args := []string{"application", "create", "--name", "Northwind", "--json"}
	if id != "" {
		args = append(args, "--id", id)
	}
	a := &application{store: s, id: field(t, s.Do(t, args...), "applicationId")}
	s.Do(t, "catalog", "import", "--application", a.id, catalogue)
	a.clientID, a.clientSecret = newClient(t, s, a.id)
	return a
}

// newClient creates API credentials: more holds further applications and scopes as flags.
func newClient(t testing.TB, s *harness.Store, app string, more ...string) (id, secret string) {
	t.Helper()
	out := s.Do(t, append([]string{"client", "create", "--application", app, "--json"}, more...)...)
	return field(t, out, "clientId"), field(t, out, "clientSecret")
}

// newAPIKey creates an API key: more holds scopes and an expiry as flags.
func newAPIKey(t testing.TB, s *harness.Store, app string, more ...string) string {
	t.Helper()
	return field(t, s.Do(t, append([]string{"apikey", "create", "--application", app, "--json"}, more...)...), "apiKey")
}

// field reads one string of the JSON object that a command printed.
func field(t testing.TB, out, name string) string {
	t.Helper()
	var o object
	if err := json.Unmarshal([]byte(out), &o); err != nil {
		t.Fatalf("--json printed %q: %v", out, err)
	}
	s, _ := o[name].(string)
	if s == "" {
		t.Fatalf("--json printed %q, which has no %s", out, name)
	}
	return s
}

// A world is a running server with one application, seen by that application's client.
type world struct {
	*application
	server *harness.Server
	api    *client
}

// start sets an application up from a catalogue and starts a server.
func start(t testing.TB, s *harness.Store, catalogue string, serve ...string) *world {
	t.Helper()
	a := newApplication(t, s, "", catalogue)
	server := s.Serve(t, serve...)
	return &world{application: a, server: server, api: connect(t, server, a.clientID, a.clientSecret)}
}

// change is one element of a transaction's changes; with holds further members.
func change(option, justification, state string, with ...object) object {
	c := object{"optionType": "option", "optionId": option, "justification": justification, "state": state}
	for _, o := range with {
		maps.Copy(c, o)
	}
	return c
}

// transaction is the body that records changes of the citizen with this reference; with holds further members.
func (w *world) transaction(ref string, changes []object, with ...object) object {
	body := object{"applicationId": w.id, "externalRef": ref, "changes": changes}
	for _, o := range with {
		maps.Copy(body, o)
	}
	return body
}

// record records one change, which must succeed.
func (w *world) record(t testing.TB, ref string, c object, with ...object) *answer {
	t.Helper()
	body := w.transaction(ref, []object{c}, with...)
	return w.api.do(t, "POST", "/v1/permissions/transactions", body).want(t, 200)
}

// chosen is one answer to a preference: what was chosen of it.
func chosen(preference string, choices ...string) object {
	list := make([]any, len(choices))
	for i, c := range choices {
		list[i] = c
	}
	return object{"preference": preference, "choices": list}
}

// answers is the body that records answers to preferences of the citizen with this reference.
func (w *world) answers(ref string, list ...object) object {
	return object{"applicationId": w.id, "externalRef": ref, "preferences": list}
}

// submit records answers to preferences, which must succeed; with holds further members.
func (w *world) submit(t testing.TB, ref string, list []object, with ...object) *answer {
	t.Helper()
	body := w.answers(ref, list...)
	for _, o := range with {
		maps.Copy(body, o)
	}
	return w.api.do(t, "POST", "/v1/submissions", body).want(t, 200)
}

// revert undoes a transaction, which must succeed; with holds members of the body.
func (w *world) revert(t testing.TB, transaction string, with ...object) *answer {
	t.Helper()
	body := object{}
	for _, o := range with {
		maps.Copy(body, o)
	}
	return w.api.do(t, "POST", "/v1/permissions/transactions/"+transaction+"/reversion", body).want(t, 200)
}

// citizen creates a citizen and returns its id.
func (w *world) citizen(t testing.TB, ref string, details ...object) string {
	t.Helper()
	body := object{"applicationId": w.id, "externalRef": ref}
	for _, d := range details {
		maps.Copy(body, d)
	}
	return w.api.do(t, "POST", "/v1/citizens", body).want(t, 200).text(t, "citizenId")
}

// citizenByRef is the path that reads a citizen by the client's own reference.
func (w *world) citizenByRef(ref string) string {
	return query("/v1/citizens", "applicationId", w.id, "externalRef", ref)
}

// subscription is the body that makes a webhook without authentication; with holds further members.
func (w *world) subscription(url string, with ...object) object {
	body := object{
		"applicationId": w.id, "name": "CRM", "url": url, "updateType": "effective-permission",
		"status": "active", "authType": "none",
	}
	for _, o := range with {
		maps.Copy(body, o)
	}
	return body
}

// subscribe makes a webhook, which must succeed.
func (w *world) subscribe(t testing.TB, url string, with ...object) *answer {
	t.Helper()
	a := w.api.do(t, "POST", "/v1/subscriptions", w.subscription(url, with...)).want(t, 200, 201)
	a.text(t, "id")
	return a
}

// permissionsOf is the path that asks for the effective state of a citizen; more is further query parameters.
func (w *world) permissionsOf(ref string, more ...string) string {
	return query("/v1/permissions", append([]string{"applicationId", w.id, "externalRef", ref}, more...)...)
}

// subscriptions is the path that lists the subscriptions of the application; more is further query parameters.
func (w *world) subscriptions(more ...string) string {
	return query("/v1/subscriptions", append([]string{"applicationId", w.id}, more...)...)
}

// states is the effective state of a citizen as harness.States gives it.
func (w *world) states(t testing.TB, ref string, more ...string) map[string]string {
	t.Helper()
	return harness.States(permissions(t, w.api.do(t, "GET", w.permissionsOf(ref, more...), nil).want(t, 200)))
}

// permission is the entry of one option in the effective state, which must have one.
func (w *world) permission(t testing.TB, ref, option string) object {
	t.Helper()
	a := w.api.do(t, "GET", w.permissionsOf(ref), nil).want(t, 200)
	for _, p := range a.list(t, "permissions") {
		if p["optionId"] == option {
			return p
		}
	}
	t.Fatalf("no permission for %s in %s", option, a.raw)
	return nil
}

// transactions is the history of the application, or of one citizen; more is further query parameters.
func (w *world) transactions(t testing.TB, more ...string) []object {
	t.Helper()
	target := query("/v1/permissions/transactions", append([]string{"applicationId", w.id, "limit", "100"}, more...)...)
	return w.api.do(t, "GET", target, nil).want(t, 200).list(t, "transactions")
}

// permissions decodes the entries of an answer of GET /v1/permissions.
func permissions(t testing.TB, a *answer) []harness.Permission {
	t.Helper()
	var body struct{ Permissions []harness.Permission }
	if err := json.Unmarshal(a.raw, &body); err != nil {
		t.Fatal(err)
	}
	return body.Permissions
}

// eventually polls until ok holds, for as long as within.
func eventually(t testing.TB, within time.Duration, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(within); !ok(); {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", within, what)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// instant reads an ISO 8601 time.
func instant(t testing.TB, v any) time.Time {
	t.Helper()
	s, _ := v.(string)
	at, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		t.Fatalf("%v is not a time: %v", v, err)
	}
	return at
}

// iso writes a time as clients do.
func iso(at time.Time) string { return at.UTC().Format("2006-01-02T15:04:05.000Z") }

// ago and ahead are times around now.
func ago(d time.Duration) string   { return iso(time.Now().Add(-d)) }
func ahead(d time.Duration) string { return iso(time.Now().Add(d)) }

const year = 365 * 24 * time.Hour

// long is a text of n characters.
func long(n int) string { return strings.Repeat("x", n) }
