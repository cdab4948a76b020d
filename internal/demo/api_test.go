package demo_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencpm/opencpm/client"
	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/internal/demo"
)

// api is as much of the API as the loader and the stream use, in memory. It holds
// every change against the catalogue, and upholds objections as the platform does.
type api struct {
	t         *testing.T
	catalogue consent.Catalogue

	mu       sync.Mutex
	citizens map[string]*held // by externalRef
	writes   int
	refuse   func() int // the status to refuse the next request with; 0 to serve it
}

type held struct {
	client.Details
	transactions []client.Transaction
	state        demo.State
}

func newAPI(t *testing.T) *api {
	catalogue, err := consent.ParseCatalogue(demo.Catalogue)
	if err != nil {
		t.Fatal(err)
	}
	return &api{t: t, catalogue: catalogue, citizens: map[string]*held{}, refuse: func() int { return 0 }}
}

func (a *api) client() *client.Client {
	c, err := client.New("http://api.test", client.APIKey("k"), client.WithHTTPClient(&http.Client{Transport: a}))
	if err != nil {
		a.t.Fatal(err)
	}
	return c
}

func (a *api) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	status, answer := a.refuse(), any(map[string]string{"title": "Refused by the test"})
	if status == 0 {
		status, answer = a.serve(r)
	}
	body, err := json.Marshal(answer)
	if err != nil {
		return nil, err
	}
	mediaType := "application/json"
	if status >= 300 {
		mediaType = "application/problem+json"
	}
	return &http.Response{StatusCode: status, Header: http.Header{"Content-Type": {mediaType}}, Body: io.NopCloser(strings.NewReader(string(body))), Request: r}, nil
}

func (a *api) serve(r *http.Request) (int, any) {
	if r.Body != nil {
		defer r.Body.Close()
	}
	ref := r.URL.Query().Get("externalRef")
	known := a.citizens[ref]
	switch r.Method + " " + r.URL.Path {
	case "POST /v1/permissions/transactions":
		var t client.Transaction
		if err := json.NewDecoder(r.Body).Decode(&t); err != nil {
			a.t.Error(err)
		}
		a.writes++
		return 200, a.record(t)
	case "GET /v1/citizens":
		if known == nil {
			return 404, nil
		}
		return 200, client.Citizen{CitizenID: "ctz_" + ref, ApplicationDetails: []client.ApplicationDetails{{ApplicationID: "northwind", ExternalRef: ref, Details: known.Details}}}
	case "GET /v1/permissions/transactions":
		list := []client.RecordedTransaction{}
		for _, t := range known.transactions {
			list = append(list, client.RecordedTransaction{ExternalRef: ref, Changes: t.Changes})
		}
		return 200, map[string]any{"transactions": list}
	case "GET /v1/permissions":
		if known == nil {
			return 404, nil
		}
		var p client.Permissions
		for option, state := range known.state {
			p.Permissions = append(p.Permissions, client.Permission{OptionType: client.Option, OptionID: option, State: state})
		}
		return 200, p
	}
	if ref, ok := strings.CutPrefix(r.URL.Path, "/v1/citizens/ctz_"); ok && r.Method == http.MethodPatch {
		a.writes++
		if err := json.NewDecoder(r.Body).Decode(&a.citizens[ref].Details); err != nil {
			a.t.Error(err)
		}
		return 200, client.Citizen{}
	}
	a.t.Errorf("nobody asked for %s %s", r.Method, r.URL)
	return 404, nil
}

func (a *api) record(t client.Transaction) client.Receipt {
	if t.ApplicationID != "northwind" {
		a.t.Errorf("recorded in the application %q", t.ApplicationID)
	}
	if err := check(a.catalogue, t); err != nil {
		a.t.Errorf("%s: %v", t.ExternalRef, err)
	}
	c := a.citizens[t.ExternalRef]
	if c == nil {
		c = &held{state: demo.State{}}
		a.citizens[t.ExternalRef] = c
	}
	c.transactions = append(c.transactions, t)
	var upheld []client.Change
	for _, change := range t.Changes {
		c.state[change.OptionID] = change.State
		if change.State == "OBJECTED" {
			change.State = "OBJECTION_UPHELD"
			c.state[change.OptionID] = change.State
			upheld = append(upheld, change)
		}
	}
	if upheld != nil {
		c.transactions = append(c.transactions, client.Transaction{Changes: upheld})
	}
	return client.Receipt{CitizenID: "ctz_" + t.ExternalRef, ExternalRef: t.ExternalRef}
}

// check says what the API would refuse in a transaction.
func check(catalogue consent.Catalogue, t client.Transaction) error {
	if len(t.Changes) == 0 {
		return fmt.Errorf("no change")
	}
	if t.ObtainedAt.After(time.Now()) {
		return fmt.Errorf("obtained in the future")
	}
	if !slices.ContainsFunc(catalogue.PermissionStatements, func(s consent.PermissionStatement) bool { return s.Reference == t.PermissionStatementRef }) {
		return fmt.Errorf("unknown statement %q", t.PermissionStatementRef)
	}
	for _, c := range t.Changes {
		options := []string{c.OptionID}
		if c.OptionType == client.Group {
			i := slices.IndexFunc(catalogue.OptionGroups, func(g consent.OptionGroupItem) bool { return g.ID == c.OptionID })
			if i < 0 {
				return fmt.Errorf("unknown group %q", c.OptionID)
			}
			options = catalogue.OptionGroups[i].Options
		}
		for _, id := range options {
			i := slices.IndexFunc(catalogue.Options, func(o consent.Option) bool { return o.ID == id })
			if i < 0 {
				return fmt.Errorf("unknown option %q", id)
			}
			basis := consent.Justification(c.Justification)
			if _, ok := catalogue.Options[i].Basis(basis); !ok || !slices.Contains(basis.States(), consent.State(c.State)) {
				return fmt.Errorf("%s does not take %s %s", id, c.Justification, c.State)
			}
		}
	}
	return nil
}
