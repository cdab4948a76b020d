package demo_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/opencpm/opencpm/internal/demo"
	"github.com/opencpm/opencpm/internal/web/webtest"
)

func TestMain(m *testing.M) { webtest.Main(m) }

// site is a page with its receiver, served.
type site struct {
	*demo.Page
	receiver *demo.Receiver
	url      string
}

var config = demo.PageConfig{
	BaseURL: "http://127.0.0.1:8080", ApplicationID: "northwind",
	APIKey: "ocpm_7Qm2xVbT9sKfLr4hYwZc8NpDgJ3aEu6i", ClientID: "northwind-demo", ClientSecret: "n7Rk2vPq9XtWm4cLz8sB",
}

func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{receiver: demo.NewReceiver()}
	s.Page = demo.NewPage(config, s.receiver)
	server := httptest.NewServer(s.Page)
	s.url = server.URL
	t.Cleanup(func() {
		s.Close()
		server.Close()
	})
	return s
}

// send gives the receiver a message, and fails the test unless it answers want.
func send(t *testing.T, r http.Handler, body string, want int) {
	t.Helper()
	req := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(body))
	req.Header.Set("Content-Type", "application/json; charset=utf-8")
	w := httptest.NewRecorder()
	r.ServeHTTP(w, req)
	if w.Code != want {
		t.Fatalf("the receiver answered %d %s, want %d", w.Code, w.Body, want)
	}
}

// entry is one permission in a body, with all published fields.
func entry(transactionID, optionID, state string, recordedAt time.Time) map[string]any {
	e := map[string]any{
		"transactionId": transactionID, "optionType": "option", "optionId": optionID, "justification": "consent", "state": state,
		"channel": "preference-centre", "campaign": nil, "privacyPolicyId": "pp_1", "privacyPolicyRef": "privacy",
		"permissionStatementId": "st_1", "permissionStatementRef": "marketing", "recordedBy": nil, "recordedByName": nil,
		"recordedClient": "northwind-demo", "recordedClientName": "Northwind demo", "delegatedAuthorityId": nil, "delegatedAuthorityName": nil,
		"recordedAt": stamp(recordedAt), "obtainedAt": stamp(recordedAt), "validFrom": nil, "validUntil": nil,
	}
	if state == "" {
		e["state"] = nil
	}
	return e
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }

// message gives a body about the citizen with that reference.
func message(ref string, sequence int, sentAt time.Time, eventType string, entries ...map[string]any) string {
	if entries == nil {
		entries = []map[string]any{}
	}
	b, err := json.Marshal(map[string]any{
		"applicationId": "northwind", "citizenId": "ctz_" + ref, "externalRef": ref, "permissions": entries, "preferences": []any{},
		"sentAt": stamp(sentAt), "eventId": fmt.Sprintf("evt_%s_%d", ref, sequence), "eventType": eventType, "sequence": sequence,
	})
	if err != nil {
		panic(err)
	}
	return string(b)
}

// play lets some of Northwind's customers act, the last one first in the lists.
func (s *site) play(t *testing.T) {
	t.Helper()
	now := time.Now().Add(-2 * time.Minute)
	people := demo.Citizens()
	for i, act := range []struct {
		person  int
		channel string
		changes []demo.RecordedChange
	}{
		{11, "import", []demo.RecordedChange{change("offers-post", "legitimate-interest", "CLAIMED", "", "CLAIMED"), change("newsletter-post", "legitimate-interest", "CLAIMED", "", "CLAIMED"), change("research-email", "legitimate-interest", "CLAIMED", "", "CLAIMED"), change("recommendations-email", "legitimate-interest", "CLAIMED", "", "CLAIMED")}},
		{4, "checkout", []demo.RecordedChange{change("orders-email", "contract", "CLAIMED", "", "CLAIMED"), change("newsletter-email", "consent", "GRANTED", "", "GRANTED")}},
		{27, "e-mail link", []demo.RecordedChange{{OptionType: "group", OptionID: "all-marketing-email", Justification: "consent", State: "DENIED", Before: "", After: "DENIED"}}},
		{18, "call-centre", []demo.RecordedChange{change("offers-post", "legitimate-interest", "OBJECTED", "CLAIMED", "OBJECTION_UPHELD")}},
		{18, "import", []demo.RecordedChange{change("offers-post", "legitimate-interest", "CLAIMED", "OBJECTION_UPHELD", "OBJECTION_UPHELD")}},
		{2, "preference-centre", []demo.RecordedChange{change("newsletter-email", "consent", "DENIED", "GRANTED", "DENIED")}},
		{35, "till", []demo.RecordedChange{change("events-sms", "consent", "GRANTED", "", "GRANTED"), change("offers-sms", "consent", "GRANTED", "DENIED", "GRANTED")}},
		{41, "sign-up form", []demo.RecordedChange{change("newsletter-email", "consent", "PENDING", "", "PENDING")}},
		{4, "preference-centre", []demo.RecordedChange{change("newsletter-email", "consent", "DENIED", "GRANTED", "DENIED")}},
		{52, "checkout", []demo.RecordedChange{change("orders-email", "contract", "CLAIMED", "CLAIMED", "CLAIMED")}},
		{63, "preference-centre", []demo.RecordedChange{change("trailhead-offers-email", "consent", "GRANTED", "DENIED", "GRANTED")}},
		{4, "preference-centre", []demo.RecordedChange{change("newsletter-email", "consent", "GRANTED", "DENIED", "GRANTED")}},
		{70, "call-centre", []demo.RecordedChange{change("offers-phone", "consent", "DENIED", "GRANTED", "DENIED")}},
		{0, "curl", []demo.RecordedChange{change("newsletter-email", "consent", "GRANTED", "", "GRANTED")}},
	} {
		at := now.Add(time.Duration(i) * 700 * time.Millisecond)
		ref := people[act.person].ExternalRef
		id := fmt.Sprintf("txn_%02d", i)
		s.Recorded(demo.RecordedEvent{TransactionID: id, CitizenID: "ctz_" + ref, ExternalRef: ref, Channel: act.channel, RecordedAt: at, Changes: act.changes})
		entries := []map[string]any{entry("txn_old", "orders-sms", "CLAIMED", at.Add(-time.Hour)), entry("txn_old", "research-phone", "DENIED", at.Add(-time.Hour)), entry("txn_old", "events-email", "", at.Add(-time.Hour))}
		for _, c := range act.changes {
			e := entry(id, c.OptionID, c.After, time.Now().Add(-time.Duration(6+i)*time.Millisecond))
			e["optionType"] = c.OptionType
			entries = append(entries, e)
		}
		send(t, s.receiver, message(ref, i+1, time.Now().Add(time.Duration(i)*time.Millisecond), "citizen.changed", entries...), http.StatusNoContent)
	}
}

func change(option, basis, state, before, after string) demo.RecordedChange {
	return demo.RecordedChange{OptionType: "option", OptionID: option, Justification: basis, State: state, Before: before, After: after}
}
