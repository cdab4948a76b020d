package demo_test

import (
	"cmp"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencpm/opencpm/client"
	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/internal/demo"
)

// api is as much of the API as the demo uses, in memory: on the rules of package
// consent, so that what it answers is what the server would.
type api struct {
	t         *testing.T
	catalogue *consent.Snapshot

	mu       sync.Mutex
	citizens map[string]*held // by externalRef
	last     consent.Instant  // recordedAt of the newest record
	writes   int
	refuse   func() int // the status to refuse the next request with; 0 to serve it
}

// held is one citizen.
type held struct {
	client.Details
	transactions []consent.Transaction
	answers      []consent.Submission
}

func newAPI(t *testing.T) *api {
	t.Helper()
	catalogue, err := consent.ParseCatalogue(demo.Catalogue)
	if err != nil {
		t.Fatal(err)
	}
	items, err := catalogue.Items()
	if err != nil {
		t.Fatal(err)
	}
	var revisions []consent.Revision
	for _, item := range items {
		revisions = append(revisions, consent.Revision{Item: item, ID: item.Key, Revision: 1})
	}
	snapshot, err := consent.NewSnapshot("northwind", 1, 1, revisions)
	if err != nil {
		t.Fatal(err)
	}
	return &api{t: t, catalogue: snapshot, citizens: map[string]*held{}, refuse: func() int { return 0 }}
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
	read := func(into any) {
		if err := json.NewDecoder(r.Body).Decode(into); err != nil {
			a.t.Error(err)
		}
		a.writes++
	}
	q := r.URL.Query()
	ref := q.Get("externalRef")
	known := a.citizens[ref]
	if known == nil && r.Method == http.MethodGet {
		return 404, nil
	}
	switch r.Method + " " + r.URL.Path {
	case "POST /v1/citizens/bulk":
		var v client.NewCitizens
		read(&v)
		return a.create(v)
	case "POST /v1/permissions/transactions":
		var t client.Transaction
		read(&t)
		return 200, a.record(t)
	case "POST /v1/submissions":
		var v client.Submission
		read(&v)
		a.submit(v)
		return 200, client.Submitted{ExternalRef: v.ExternalRef}
	case "GET /v1/citizens":
		return 200, client.Citizen{CitizenID: "ctz_" + ref, ApplicationDetails: []client.ApplicationDetails{{ApplicationID: "northwind", ExternalRef: ref, Details: known.Details}}}
	case "GET /v1/permissions/transactions":
		list := []client.RecordedTransaction{}
		for _, t := range known.transactions {
			list = append(list, client.RecordedTransaction{ExternalRef: ref, RecordedAt: t.RecordedAt.Time(), ObtainedAt: t.ObtainedAt.Time()})
		}
		return 200, map[string]any{"transactions": list}
	case "GET /v1/permissions":
		return 200, map[string]any{"permissions": known.fold(0).Effective(a.now())}
	case "GET /v1/preferences":
		return 200, map[string]any{"preferences": known.fold(0).Preferences()}
	case "GET /v1/permissions/explain":
		return a.explain(known, q)
	}
	if ref, ok := strings.CutPrefix(r.URL.Path, "/v1/citizens/ctz_"); ok && r.Method == http.MethodPatch {
		read(&a.citizens[ref].Details)
		return 200, client.Citizen{}
	}
	if id, ok := strings.CutPrefix(r.URL.Path, "/v1/permissions/transactions/"); ok && r.Method == http.MethodPost {
		var v client.Reversion
		read(&v)
		return a.revert(strings.TrimSuffix(id, "/reversion"), v)
	}
	a.t.Errorf("nobody asked for %s %s", r.Method, r.URL)
	return 404, nil
}

func (a *api) now() consent.Instant { return consent.At(time.Now()) }

// citizen gives the citizen of that reference, creating it where there is none.
func (a *api) citizen(ref string) *held {
	if a.citizens[ref] == nil {
		a.citizens[ref] = &held{}
	}
	return a.citizens[ref]
}

func (a *api) create(v client.NewCitizens) (int, any) {
	for _, c := range v.Citizens {
		if a.citizens[c.ExternalRef] != nil {
			return 409, map[string]any{"status": 409, "title": "Conflict"}
		}
	}
	if len(v.Citizens) == 0 || len(v.Citizens) > 1000 {
		a.t.Errorf("%d citizens in one call", len(v.Citizens))
	}
	for _, c := range v.Citizens {
		a.citizen(c.ExternalRef).Details = c.Details
		a.record(client.Transaction{
			ApplicationID: v.ApplicationID, ExternalRef: c.ExternalRef, Changes: c.Changes,
			Origin: client.Origin{ObtainedAt: c.ObtainedAt, Channel: v.Channel, PermissionStatementRef: v.PermissionStatementRef},
		})
		if c.Preferences != nil {
			a.submit(client.Submission{ApplicationID: v.ApplicationID, ExternalRef: c.ExternalRef, Preferences: c.Preferences, Origin: client.Origin{ObtainedAt: c.ObtainedAt}})
		}
	}
	return 200, map[string]any{"citizens": []any{}}
}

// stamp gives evidence of now.
func (a *api) stamp(applicationID, channel string, obtainedAt time.Time) consent.Evidence {
	if applicationID != "northwind" {
		a.t.Errorf("recorded in the application %q", applicationID)
	}
	e := consent.Evidence{Channel: channel}
	if !obtainedAt.IsZero() {
		e.ObtainedAt = consent.At(obtainedAt)
	}
	var faults consent.Faults
	consent.CheckObtainedAt(e.ObtainedAt, a.now(), &faults)
	if err := faults.Err(); err != nil {
		a.t.Error(err)
	}
	e.Stamp(a.now(), a.last)
	a.last = e.RecordedAt
	e.ID = consent.ID{15: 1}
	binary.BigEndian.PutUint64(e.ID[:], uint64(a.last))
	return e
}

func (a *api) record(t client.Transaction) client.Receipt {
	recorded, err := resolve(a.catalogue, t)
	if err != nil {
		a.t.Errorf("%s: %v", t.ExternalRef, err)
	}
	recorded.Evidence = a.stamp(t.ApplicationID, t.Channel, t.ObtainedAt)
	recorded.Stamp(recorded.RecordedAt, 0)
	c := a.citizen(t.ExternalRef)
	c.transactions = append(c.transactions, recorded)
	return client.Receipt{TransactionID: recorded.ID.String(), CitizenID: "ctz_" + t.ExternalRef, ExternalRef: t.ExternalRef}
}

func (a *api) submit(v client.Submission) {
	answers, err := resolveAnswers(a.catalogue, v.Preferences)
	if err != nil {
		a.t.Errorf("%s: %v", v.ExternalRef, err)
	}
	c := a.citizen(v.ExternalRef)
	for _, answer := range answers {
		c.answers = append(c.answers, consent.Submission{Evidence: a.stamp(v.ApplicationID, v.Channel, v.ObtainedAt), Answer: answer})
	}
}

func (a *api) revert(id string, v client.Reversion) (int, any) {
	for _, c := range a.citizens {
		for _, t := range c.transactions {
			if t.ID.String() == id {
				c.transactions = append(c.transactions, consent.Transaction{Evidence: a.stamp("northwind", v.Channel, time.Time{}), Reverts: t.ID})
				return 200, client.Receipt{}
			}
		}
	}
	return 404, nil
}

func (a *api) explain(c *held, q url.Values) (int, any) {
	option, at := q.Get("optionId"), a.now()
	if option != "" && !a.catalogue.HasOption(consent.Key{Type: consent.OptionSingle, ID: option}) && !a.catalogue.HasOption(consent.Key{Type: consent.OptionGroup, ID: option}) {
		return 422, map[string]any{"status": 422, "errors": []any{map[string]string{"location": "optionId", "message": "names no option of the application"}}}
	}
	asOf, err := consent.ParseInstant(cmp.Or(q.Get("asOf"), at.String()))
	if err != nil {
		a.t.Error(err)
	}
	var knownAt consent.Instant
	if s := q.Get("knownAt"); s != "" {
		if knownAt, err = consent.ParseInstant(s); err != nil {
			a.t.Error(err)
		}
	}
	type candidate struct {
		consent.Permission
		Group consent.Text `json:"group"`
		Fate  consent.Fate `json:"fate"`
		Rule  int          `json:"rule"`
		By    string       `json:"by"`
		Why   string       `json:"why"`
	}
	list := []any{}
	for _, x := range c.fold(knownAt).Explain(option, asOf, q.Has("asOf")) {
		candidates := []candidate{}
		for _, w := range x.Candidates {
			c := candidate{w.Permission, w.Group, w.Fate, w.Rule, "", w.Why}
			if !w.By.IsZero() {
				c.By = w.By.String()
			}
			candidates = append(candidates, c)
		}
		list = append(list, map[string]any{"optionType": x.Key.Type, "optionId": x.Key.ID, "current": x.Current, "candidates": candidates})
	}
	return 200, map[string]any{"explanations": list}
}

// fold gives what was recorded by an instant, zero for everything.
func (c *held) fold(knownAt consent.Instant) *consent.Projection {
	p := &consent.Projection{}
	for _, t := range c.transactions {
		if knownAt == 0 || t.RecordedAt <= knownAt {
			p.Add(t)
		}
	}
	for _, s := range c.answers {
		if knownAt == 0 || s.RecordedAt <= knownAt {
			p.Answer(s)
		}
	}
	return p
}

// resolve gives a transaction as the platform would record it, and says what the API
// would refuse in it.
func resolve(catalogue *consent.Snapshot, t client.Transaction) (consent.Transaction, error) {
	if len(t.Changes) == 0 {
		return consent.Transaction{}, fmt.Errorf("no change")
	}
	if _, ok := catalogue.Statement(t.PermissionStatementRef); !ok {
		return consent.Transaction{}, fmt.Errorf("unknown statement %q", t.PermissionStatementRef)
	}
	var faults consent.Faults
	changes := make([]consent.Change, len(t.Changes))
	for i, c := range t.Changes {
		changes[i] = consent.Change{
			OptionType: consent.OptionType(c.OptionType), OptionID: c.OptionID, Justification: consent.Justification(c.Justification), State: consent.State(c.State),
		}
		if !c.ValidUntil.IsZero() {
			changes[i].ValidUntil = consent.At(c.ValidUntil)
		}
	}
	resolved, _ := catalogue.Resolve(changes, &faults)
	return consent.Transaction{Changes: resolved}, faults.Err()
}

// resolveAnswers does the same for answers to preferences.
func resolveAnswers(catalogue *consent.Snapshot, answers []client.Answer) ([]consent.Answer, error) {
	list := make([]consent.Answer, len(answers))
	for i, a := range answers {
		list[i].Preference = a.Preference
		for _, reference := range a.Choices {
			list[i].Choices = append(list[i].Choices, consent.Chosen{Reference: reference})
		}
	}
	var faults consent.Faults
	resolved := catalogue.ResolveAnswers(list, &faults)
	return resolved, faults.Err()
}
