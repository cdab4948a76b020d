package demo_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/opencpm/opencpm/client"
	"github.com/opencpm/opencpm/internal/demo"
	"github.com/opencpm/opencpm/internal/web/webtest"
)

func TestMain(m *testing.M) { webtest.Main(m) }

// site is a page with its receiver, served.
type site struct {
	*demo.Page
	receiver *demo.Receiver
	inbox    *demo.Inbox
	api      *api // that the page asks
	url      string
}

var config = demo.PageConfig{
	BaseURL: "http://127.0.0.1:8080", ApplicationID: "northwind",
	APIKey: "ocpm_7Qm2xVbT9sKfLr4hYwZc8NpDgJ3aEu6i", ClientID: "northwind-demo", ClientSecret: "n7Rk2vPq9XtWm4cLz8sB",
}

func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{receiver: demo.NewReceiver(), inbox: demo.NewInbox(), api: newAPI(t)}
	c := config
	c.Client = s.api.client()
	s.Page = demo.NewPage(c, s.receiver, s.inbox)
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
	sendTo(t, r, "/webhook", body, want)
}

// sendTo does so at a path.
func sendTo(t *testing.T, r http.Handler, path, body string, want int) {
	t.Helper()
	req := httptest.NewRequest(http.MethodPost, path, strings.NewReader(body))
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

// answer is one preference in a body, with all published fields.
func answer(submissionID, preference, label string, updatedAt time.Time, choices ...string) map[string]any {
	list := []map[string]any{}
	for _, c := range choices {
		list = append(list, map[string]any{"reference": strings.ToLower(c), "label": c})
	}
	return map[string]any{"preference": preference, "label": label, "choices": list, "submissionId": submissionID, "updatedAt": stamp(updatedAt)}
}

// message gives a body about the citizen with that reference. Entries are permissions
// and preferences.
func message(ref string, sequence int, sentAt time.Time, eventType string, entries ...map[string]any) string {
	permissions, preferences := []map[string]any{}, []map[string]any{}
	for _, e := range entries {
		if e["preference"] != nil {
			preferences = append(preferences, e)
		} else {
			permissions = append(permissions, e)
		}
	}
	b, err := json.Marshal(map[string]any{
		"applicationId": "northwind", "citizenId": "ctz_" + ref, "externalRef": ref, "permissions": permissions, "preferences": preferences,
		"sentAt": stamp(sentAt), "eventId": fmt.Sprintf("evt_%s_%d", ref, sequence), "eventType": eventType, "sequence": sequence, "changedBy": "northwind-demo",
	})
	if err != nil {
		panic(err)
	}
	return string(b)
}

// byTime is the message as one that time alone caused.
func byTime(message string) string {
	return strings.Replace(message, `"changedBy":"northwind-demo"`, `"changedBy":"opencpm"`, 1)
}

// play lets some of Northwind's customers act, the last one first in the lists.
func (s *site) play(t *testing.T) {
	t.Helper()
	now := time.Now().Add(-2 * time.Minute)
	long := now.Add(-time.Hour)
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
		entries := []map[string]any{entry("txn_old", "orders-sms", "CLAIMED", long), entry("txn_old", "research-phone", "DENIED", long), entry("txn_old", "events-email", "", long)}
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

// playMore lets them do what is less common, with a receipt of each beside the full
// state: an answer to a preference, a late form, a validity that ends, a reversion.
func (s *site) playMore(t *testing.T) {
	t.Helper()
	now := time.Now().Add(-6 * time.Second)
	people := demo.Citizens()
	long := now.Add(-time.Hour)
	for i, act := range []struct {
		person int
		event  demo.RecordedEvent
		news   []map[string]any
		byTime bool
	}{
		{21, demo.RecordedEvent{Channel: "preference-centre", Answers: []demo.RecordedAnswer{{Preference: "What do you like to do?", Choices: []string{"Hiking", "Camping"}}, {Preference: "How often may we write?", Overruled: true}}}, []map[string]any{
			answer("sub_1", "interests", "What do you like to do?", now, "Hiking", "Camping"),
		}, false},
		{22, demo.RecordedEvent{Channel: "paper form", ObtainedAt: now.Add(-400 * 24 * time.Hour), Changes: []demo.RecordedChange{change("newsletter-email", "consent", "GRANTED", "DENIED", "DENIED")}}, nil, false},
		{23, demo.RecordedEvent{Channel: "event desk", Changes: []demo.RecordedChange{{OptionType: "option", OptionID: "events-sms", Justification: "consent", State: "GRANTED", After: "GRANTED", ValidUntil: now.Add(40 * time.Second)}}}, []map[string]any{
			entry("txn_1", "events-sms", "GRANTED", now),
		}, false},
		{24, demo.RecordedEvent{Channel: "support", Reversion: true, Changes: []demo.RecordedChange{change("offers-email", "consent", "DENIED", "DENIED", "GRANTED")}}, []map[string]any{
			entry("txn_2", "offers-email", "GRANTED", long),
		}, false},
		{25, demo.RecordedEvent{Channel: "support", Reversion: true, Changes: []demo.RecordedChange{change("offers-sms", "consent", "GRANTED", "GRANTED", "")}}, []map[string]any{
			entry("txn_3", "offers-sms", "", now),
		}, false},
		{26, demo.RecordedEvent{Channel: "e-mail link", Changes: []demo.RecordedChange{{OptionType: "group", OptionID: "all-marketing-email", Justification: "consent", State: "DENIED", After: "DENIED", Covers: 4}}}, []map[string]any{
			entry("txn_4", "newsletter-email", "DENIED", now), entry("txn_4", "offers-email", "DENIED", now),
		}, false},
		{23, demo.RecordedEvent{}, []map[string]any{entry("txn_1", "events-sms", "", now)}, true},
	} {
		ref := people[act.person].ExternalRef
		at := now.Add(time.Duration(i) * 700 * time.Millisecond)
		if e := act.event; e.Channel != "" {
			e.CitizenID, e.ExternalRef, e.RecordedAt = "ctz_"+ref, ref, at
			s.Recorded(e)
		}
		full := append([]map[string]any{entry("txn_old", "orders-sms", "CLAIMED", long), answer("sub_0", "frequency", "How often may we write?", long, "Once a month")}, act.news...)
		bodies := []string{message(ref, i+2, at, "citizen.changed", full...), message(ref, i+2, at, "citizen.changed", act.news...)}
		for k, path := range []string{"/webhook", demo.Receipts} {
			if k == 1 && act.news == nil {
				continue // nothing changed
			}
			if act.byTime {
				bodies[k] = byTime(bodies[k])
			}
			sendTo(t, s.receiver, path, bodies[k], http.StatusNoContent)
		}
	}
}

// told is a citizen of whom the page can be asked.
const told = 5

// tell records a history in the API in which every answer of the newsletter meets
// another fate.
func (s *site) tell(t *testing.T) (ref string) {
	t.Helper()
	ref = demo.Citizens()[told].ExternalRef
	day := 24 * time.Hour
	record := func(channel string, age time.Duration, option, basis, state string, end time.Duration) client.Receipt {
		v := client.Transaction{
			ApplicationID: "northwind", ExternalRef: ref, Origin: client.Origin{Channel: channel, PermissionStatementRef: "marketing"},
			Changes: []client.Change{{OptionType: client.Option, OptionID: option, Justification: basis, State: state}},
		}
		if id, group := strings.CutPrefix(option, "group:"); group {
			v.Changes[0].OptionType, v.Changes[0].OptionID = client.Group, id
		}
		if age > 0 {
			v.ObtainedAt = time.Now().Add(-age)
		}
		if end != 0 {
			v.Changes[0].ValidUntil = time.Now().Add(end)
		}
		return s.api.record(v)
	}
	record("checkout", 300*day, "newsletter-email", "consent", "GRANTED", 0)            // dropped by the refusal
	record("e-mail link", 200*day, "group:all-marketing-email", "consent", "DENIED", 0) // superseded
	record("paper form", 250*day, "newsletter-email", "consent", "GRANTED", 0)          // comes too late
	record("event desk", 100*day, "newsletter-email", "consent", "GRANTED", -99*day)    // expired
	mistake := record("call-centre", 0, "newsletter-email", "consent", "DENIED", 0)     // reverted
	if status, _ := s.api.revert(mistake.TransactionID, client.Reversion{Origin: client.Origin{Channel: "support"}}); status != 200 {
		t.Fatalf("the reversion was answered %d", status)
	}
	record("preference-centre", 0, "newsletter-email", "consent", "GRANTED", 0)
	record("sign-up form", 0, "newsletter-email", "consent", "PENDING", 0)
	record("call-centre", 3*day, "offers-post", "legitimate-interest", "OBJECTED", 0)
	record("import", 0, "offers-post", "legitimate-interest", "CLAIMED", 0)
	s.api.submit(client.Submission{ApplicationID: "northwind", ExternalRef: ref, Preferences: []client.Answer{{Preference: "interests", Choices: []string{"hiking", "winter"}}, {Preference: "frequency"}}})
	return ref
}
