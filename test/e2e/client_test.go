package e2e_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	pathpkg "path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/legacy"

	"github.com/opencpm/opencpm/test/harness"
)

// A client calls one server with one credential. It judges every answer by the rules that hold for every call and by
// the OpenAPI document which that server publishes.
type client struct {
	base     string
	header   http.Header
	contract *contract
	heard    *harness.Buffer // every answer, for the test that looks for leaks
	refusals *harness.Buffer // the bodies of those that are 4xx and 5xx
	http     *http.Client
}

// anonymous returns a client without a credential.
func anonymous(t testing.TB, server *harness.Server) *client {
	t.Helper()
	transport := &http.Transport{MaxIdleConnsPerHost: 16}
	t.Cleanup(transport.CloseIdleConnections)
	c := &client{
		base: server.URL, header: http.Header{}, heard: &harness.Buffer{}, refusals: &harness.Buffer{},
		http: &http.Client{Transport: transport, Timeout: harness.Patience},
	}
	// A redirect is not followed: real clients lose the body of a POST and their credential.
	c.http.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	res, err := c.http.Get(c.base + "/openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	document, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("GET /openapi.json: %d %v", res.StatusCode, err)
	}
	if c.contract, err = readContract(document); err != nil {
		t.Fatalf("/openapi.json: %v", err)
	}
	return c
}

// connect returns a client that has fetched an access token for these credentials.
func connect(t testing.TB, server *harness.Server, id, secret string) *client {
	t.Helper()
	c := anonymous(t, server)
	return c.with("Authorization", "Bearer "+c.token(t, id, secret))
}

// token fetches an access token.
func (c *client) token(t testing.TB, id, secret string) string {
	t.Helper()
	return c.do(t, "POST", "/oauth/token", object{
		"grant_type": "client_credentials", "client_id": id, "client_secret": secret,
	}).want(t, 200).text(t, "access_token")
}

// with returns a client that sends this header too; a credential replaces the one before.
func (c *client) with(name, value string) *client {
	d := *c
	d.header = c.header.Clone()
	if name == "Authorization" || name == "X-API-Key" {
		d.header.Del("Authorization")
		d.header.Del("X-API-Key")
	}
	d.header.Set(name, value)
	return &d
}

// do sends a request. A body that is a string goes as it is, url.Values as a form, anything else as JSON.
func (c *client) do(t testing.TB, method, target string, body any) *answer {
	t.Helper()
	var payload []byte
	contentType := "application/json"
	switch b := body.(type) {
	case nil:
		contentType = ""
	case string:
		payload = []byte(b)
	case url.Values:
		payload, contentType = []byte(b.Encode()), "application/x-www-form-urlencoded"
	default:
		var err error
		if payload, err = json.Marshal(b); err != nil {
			t.Fatal(err)
		}
	}
	req, err := http.NewRequestWithContext(context.Background(), method, c.base+target, bytes.NewReader(payload))
	if err != nil {
		t.Fatal(err)
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	for name, values := range c.header {
		req.Header[name] = values
	}
	res, err := c.http.Do(req)
	if err != nil {
		t.Fatalf("%s %s: %v", method, target, err)
	}
	defer res.Body.Close()
	a := &answer{call: method + " " + target, status: res.StatusCode, header: res.Header}
	if a.raw, err = io.ReadAll(res.Body); err != nil {
		t.Fatalf("%s: %v", a.call, err)
	}
	fmt.Fprintf(c.heard, "%v\n%s\n", a.header, a.raw)
	if a.status >= 400 {
		fmt.Fprintf(c.refusals, "%s\n", a.raw)
	}
	if strings.Contains(a.header.Get("Content-Type"), "json") {
		if err := json.Unmarshal(a.raw, &a.body); err != nil {
			t.Fatalf("%s: %v: %s", a.call, err, a.raw)
		}
	}
	c.judge(t, req, a)
	return a
}

// glance reads a target without judging the answer, for comparisons before and after.
func (c *client) glance(t testing.TB, target string) (int, string) {
	t.Helper()
	req, err := http.NewRequest(http.MethodGet, c.base+target, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header = c.header.Clone()
	res, err := c.http.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(body)
}

// judge holds what is promised for every call.
func (c *client) judge(t testing.TB, req *http.Request, a *answer) {
	t.Helper()
	if a.header.Get("X-Request-Id") == "" {
		t.Errorf("%s: no X-Request-Id", a.call)
	}
	if a.status >= 300 && a.status < 400 {
		t.Errorf("%s: redirected to %s", a.call, a.header.Get("Location"))
	}
	path := pathpkg.Clean(req.URL.Path) // what requests are routed by
	oauth := path == "/oauth/token" && a.peek("error") != ""
	if a.status >= 400 && !oauth {
		a.judgeProblem(t)
	}
	if a.status == 401 && a.header.Get("WWW-Authenticate") == "" && !oauth {
		t.Errorf("%s: 401 without WWW-Authenticate", a.call)
	}
	known, err := c.contract.check(req, path, a)
	if err != nil {
		t.Errorf("%s: %d is not what /openapi.json promises: %v\n%s", a.call, a.status, err, a.raw)
	}
	if !known && a.status < 300 && (strings.HasPrefix(path, "/v1/") || strings.HasPrefix(path, "/oauth/")) {
		t.Errorf("%s: answered %d, but /openapi.json does not know it", a.call, a.status)
	}
}

// An answer is what came back from one call.
type answer struct {
	call   string
	status int
	header http.Header
	raw    []byte
	body   any // decoded, when it is JSON
}

// want requires one of these statuses.
func (a *answer) want(t testing.TB, status ...int) *answer {
	t.Helper()
	if !slices.Contains(status, a.status) {
		t.Fatalf("%s: %d, want %v\n%s", a.call, a.status, status, a.raw)
	}
	return a
}

// at reads the value at a dotted path such as "changes.0.state"; nil if there is none.
func (a *answer) at(path string) any { return dig(a.body, path) }

func dig(v any, path string) any {
	for step := range strings.SplitSeq(path, ".") {
		switch node := v.(type) {
		case object:
			v = node[step]
		case []any:
			i, err := strconv.Atoi(step)
			if err != nil || i >= len(node) {
				return nil
			}
			v = node[i]
		default:
			return nil
		}
	}
	return v
}

// text reads a string that must be there.
func (a *answer) text(t testing.TB, path string) string {
	t.Helper()
	s := a.peek(path)
	if s == "" {
		t.Fatalf("%s: no %s in %s", a.call, path, a.raw)
	}
	return s
}

// peek reads a string that may be missing.
func (a *answer) peek(path string) string {
	s, _ := a.at(path).(string)
	return s
}

// list reads an array of objects that must be there, empty or not.
func (a *answer) list(t testing.TB, key string) []object {
	t.Helper()
	elements, ok := a.at(key).([]any)
	if !ok {
		t.Fatalf("%s: no list %s in %s", a.call, key, a.raw)
	}
	list := make([]object, len(elements))
	for i, e := range elements {
		if list[i], ok = e.(object); !ok {
			t.Fatalf("%s: %s[%d] is no object in %s", a.call, key, i, a.raw)
		}
	}
	return list
}

// judgeProblem requires a problem document of RFC 9457.
func (a *answer) judgeProblem(t testing.TB) {
	t.Helper()
	if ct := a.header.Get("Content-Type"); !strings.HasPrefix(ct, "application/problem+json") {
		t.Errorf("%s: %d as %q, want application/problem+json\n%s", a.call, a.status, ct, a.raw)
		return
	}
	for _, member := range []string{"type", "title", "detail", "instance"} {
		if a.peek(member) == "" {
			t.Errorf("%s: problem without %s: %s", a.call, member, a.raw)
		}
	}
	if a.at("status") != float64(a.status) {
		t.Errorf("%s: problem says status %v, the answer is %d", a.call, a.at("status"), a.status)
	}
}

// locates tells whether an error names the field, as a whole step of its location.
func (a *answer) locates(field string) bool {
	errors, _ := a.at("errors").([]any)
	return slices.ContainsFunc(errors, func(e any) bool {
		location, _ := dig(e, "location").(string)
		message, _ := dig(e, "message").(string)
		return message != "" && slices.Contains(steps.Split(location, -1), field)
	})
}

var steps = regexp.MustCompile(`[^A-Za-z0-9_]+`)

// refused requires a problem with this status that names each of the fields.
func (a *answer) refused(t testing.TB, status int, fields ...string) *answer {
	t.Helper()
	a.want(t, status)
	for _, f := range fields {
		if !a.locates(f) {
			t.Errorf("%s: no error located at %s in %s", a.call, f, a.raw)
		}
	}
	return a
}

// query builds a request target from a path and pairs of names and values.
func query(path string, pairs ...string) string {
	q := url.Values{}
	for i := 0; i < len(pairs); i += 2 {
		q.Set(pairs[i], pairs[i+1])
	}
	return path + "?" + q.Encode()
}

// A contract is the OpenAPI document of a server.
type contract struct {
	doc    *openapi3.T
	router routers.Router
}

var contracts = struct {
	sync.Mutex
	read map[string]*contract
}{read: map[string]*contract{}}

// readContract parses and validates a document; the same document is parsed once.
func readContract(document []byte) (*contract, error) {
	contracts.Lock()
	defer contracts.Unlock()
	if c := contracts.read[string(document)]; c != nil {
		return c, nil
	}
	doc, err := openapi3.NewLoader().LoadFromData(document)
	if err != nil {
		return nil, err
	}
	doc.Servers = nil // any address will do: paths alone decide
	router, err := legacy.NewRouter(doc)
	if err != nil {
		return nil, err
	}
	c := &contract{doc: doc, router: router}
	contracts.read[string(document)] = c
	return c, nil
}

// check compares an answer with the document; known is false where the document has no such operation.
func (c *contract) check(req *http.Request, path string, a *answer) (known bool, err error) {
	req = req.Clone(context.Background())
	req.URL.Path, req.URL.RawPath = path, ""
	route, params, err := c.router.FindRoute(req)
	if err != nil {
		return false, nil
	}
	input := &openapi3filter.ResponseValidationInput{
		RequestValidationInput: &openapi3filter.RequestValidationInput{Request: req, PathParams: params, Route: route},
		Status:                 a.status,
		Header:                 a.header,
		Options:                &openapi3filter.Options{IncludeResponseStatus: true, MultiError: true},
	}
	input.SetBodyBytes(a.raw)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	return true, openapi3filter.ValidateResponse(ctx, input)
}
