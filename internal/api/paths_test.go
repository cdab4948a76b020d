package api_test

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/opencpm/opencpm/internal/api"
)

func TestPathsAreCleanedBeforeRouting(t *testing.T) {
	t.Parallel()
	w := newWorld(t, api.Options{})
	w.ok(http.StatusOK, "POST", "/v1/citizens", map[string]string{"applicationId": "northwind", "externalRef": "CUST-1"})
	for _, path := range []string{"//v1/permissions", "/v1/permissions/", "/v1//permissions", "//v1/./x/../permissions//"} {
		w.ok(http.StatusOK, "GET", path+"?applicationId=northwind&externalRef=CUST-1", nil)
	}
	w.ok(http.StatusOK, "POST", "//v1//citizens/", map[string]string{"applicationId": "northwind", "externalRef": "CUST-2"})
	w.refused(http.StatusNotFound, "GET", "/v1%2Fpermissions?applicationId=northwind&externalRef=CUST-1", nil)
	w.refused(http.StatusNotFound, "GET", "/v1/citizens/..%2F..%2Fpermissions", nil)
}

func TestUnknownPathsAndMethods(t *testing.T) {
	t.Parallel()
	w := newWorld(t, api.Options{})
	w.refused(http.StatusNotFound, "GET", "/", nil)
	w.refused(http.StatusNotFound, "POST", "/v2/citizens", nil)
	recorder := httptest.NewRecorder()
	w.handler.ServeHTTP(recorder, httptest.NewRequest(http.MethodGet, "/healthz", http.NoBody))
	if recorder.Code != http.StatusNotFound {
		t.Errorf("/healthz, for which no handler was given, answers %d", recorder.Code)
	}
	for path, allow := range map[string]string{
		"/v1/citizens": "GET, HEAD, POST", "/v1/citizens/x": "GET, HEAD, PATCH, DELETE", "/oauth/token": "POST",
		"/v1/subscriptions/x": "GET, HEAD, PUT, PATCH, DELETE", "//v1/permissions/": "GET, HEAD", "/openapi.json": "GET, HEAD",
	} {
		for _, method := range []string{"OPTIONS", "TRACE", "PROPFIND"} {
			a := w.refused(http.StatusMethodNotAllowed, method, path, nil)
			if got := a.Header.Get("Allow"); got != allow {
				t.Errorf("%s %s allows %q", method, path, got)
			}
		}
	}
}

func TestHeadWorksWhereGetDoes(t *testing.T) {
	t.Parallel()
	w := newWorld(t, api.Options{})
	w.ok(http.StatusOK, "HEAD", "/v1/subscriptions", nil)
	w.ok(http.StatusOK, "HEAD", "/openapi.json", nil)
	w.ok(http.StatusNotFound, "HEAD", permissionsOfNobody, nil)
}

func TestHandlersAreHandedIn(t *testing.T) {
	t.Parallel()
	says := func(text string) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write([]byte(text + " " + r.URL.Path)) })
	}
	pages := http.NewServeMux()
	pages.Handle("GET /{$}", says("page"))
	pages.Handle("/demo/", says("page"))
	w := newWorld(t, api.Options{Health: says("health"), Ready: says("ready"), Metrics: says("metrics"), Pages: pages})
	for path, want := range map[string]string{
		"/healthz": "health /healthz", "/readyz/": "ready /readyz", "/metrics": "metrics /metrics", "/": "page /", "//demo/x": "page /demo/x",
	} {
		if a := w.ok(http.StatusOK, "GET", path, nil, "X-API-Key: "); a.text != want {
			t.Errorf("%s answers %q", path, a.text)
		}
	}
	w.refused(http.StatusMethodNotAllowed, "POST", "/healthz", nil)
	w.refused(http.StatusNotFound, "GET", "/elsewhere", nil)
}

func TestMiddlewareReadsTheRoute(t *testing.T) {
	t.Parallel()
	var seen []string
	around := func(name string) func(http.Handler) http.Handler {
		return func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				seen = append(seen, name+" "+r.URL.Path)
				next.ServeHTTP(w, r)
				seen = append(seen, name+" "+r.Pattern)
			})
		}
	}
	w := newWorld(t, api.Options{Middleware: []func(http.Handler) http.Handler{around("outer"), around("inner")}})
	w.send("GET", "//v1/citizens/x", nil)
	const pattern = "GET /v1/citizens/{citizenId}"
	if want := []string{"outer /v1/citizens/x", "inner /v1/citizens/x", "inner " + pattern, "outer " + pattern}; !slices.Equal(seen, want) {
		t.Errorf("%q", seen)
	}
}

func TestQueriesAreReadByTheRules(t *testing.T) {
	t.Parallel()
	w := newWorld(t, api.Options{})
	w.ok(http.StatusOK, "POST", "/v1/citizens", map[string]string{"applicationId": "northwind", "externalRef": "CUST/1 & é"})
	const encoded = "CUST%2F1%20%26%20%C3%A9"
	a := w.ok(http.StatusOK, "GET", "/v1/permissions?applicationId=northwind&externalRef="+encoded+"&externalRef=other&unknown=1&applicationId=globex", nil)
	if a.json["externalRef"] != "CUST/1 & é" {
		t.Errorf("the first value of a parameter does not win: %s", a.text)
	}
	w.refused(http.StatusBadRequest, "GET", "/v1/permissions?applicationId=northwind&externalRef=%zz", nil)
	w.refused(http.StatusUnprocessableEntity, "GET", "/v1/permissions?applicationId=northwind&externalRef=%ff", nil, "query.externalRef")
	w.refused(http.StatusUnprocessableEntity, "GET", "/v1/permissions", nil, "query.applicationId")
	w.refused(http.StatusUnprocessableEntity, "GET", "/v1/permissions?applicationId=northwind", nil, "query.externalRef")
	w.refused(http.StatusUnprocessableEntity, "GET", "/v1/citizens", nil, "query.applicationId", "query.externalRef")
	w.refused(http.StatusUnprocessableEntity, "GET", "/v1/permissions?applicationId="+strings.Repeat("x", 51)+"&citizenId=5", nil, "query.applicationId", "query.citizenId")
}

func TestWhatIsAcceptedDoesNotMatter(t *testing.T) {
	t.Parallel()
	w := newWorld(t, api.Options{})
	for _, accept := range []string{"text/html", "application/problem+json", "*/*", "json", "a;,b", ";;;,", "application/json;q=0", strings.Repeat("a;q=,", 1000)} {
		a := w.ok(http.StatusOK, "GET", "/v1/subscriptions", nil, "Accept: "+accept)
		if got := a.Header.Get("Content-Type"); got != "application/json" {
			t.Errorf("Accept: %.20s is answered with %q", accept, got)
		}
	}
}
