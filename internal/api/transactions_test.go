package api_test

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/opencpm/opencpm/internal/api"
)

func TestTransactionAndItsTraces(t *testing.T) {
	t.Parallel()
	w := newWorld(t, api.Options{})
	body := decoded(t, `{
		"applicationId": "northwind", "externalRef": "CUST-1", "privacyPolicyId": "policy-01", "permissionStatementRef": "statement-01",
		"obtainedAt": "2026-01-02T03:04:05+01:00", "channel": "web", "campaign": "spring", "source": "form", "sourceSystem": "shop", "sourceSystemReference": "order-7",
		"recordedBy": "agent-7", "recordedByName": "Agent Seven", "delegatedAuthorityId": "guardian-1", "delegatedAuthorityName": "A Guardian",
		"changes": [
			{"optionId": "newsletter-email", "justification": "consent", "state": "GRANTED", "validFrom": "2026-01-01", "validUntil": "2099-01-01T00:00Z"},
			{"optionType": "option", "optionId": "research-email", "justification": "legitimate-interest", "state": "OBJECTED", "validUntil": "2099-01-01T00:00:00Z"},
			{"optionId": "newsletter-sms", "justification": "consent", "state": "GRANTED", "validUntil": "2026-02-01T00:00:00Z"}
		]}`)
	a := w.ok(http.StatusOK, "POST", "/v1/permissions/transactions", body)
	if a.json["externalRef"] != "CUST-1" || a.json["obtainedAt"] != "2026-01-02T02:04:05.000Z" {
		t.Error(a.text)
	}
	if _, err := time.Parse("2006-01-02T15:04:05.000Z", a.json["recordedAt"].(string)); err != nil {
		t.Error(err)
	}
	if warnings := a.json["warnings"].([]any); len(warnings) != 1 || !strings.Contains(warnings[0].(string), "changes[1].validUntil") {
		t.Error(a.text)
	}
	changes := a.json["changes"].([]any)
	var effective []any
	for _, c := range changes {
		effective = append(effective, c.(map[string]any)["effective"])
	}
	if !slices.Equal(effective, []any{true, true, false}) {
		t.Errorf("effective: %v", effective)
	}
	first := changes[0].(map[string]any)
	current := first["current"].(map[string]any)
	if changes[2].(map[string]any)["current"] != nil {
		t.Errorf("an expired grant is current: %s", a.text)
	}
	if upheld := changes[1].(map[string]any)["current"].(map[string]any); upheld["state"] != "OBJECTION_UPHELD" {
		t.Errorf("an objection is not upheld at once: %s", a.text)
	}
	policy, statement := current["privacyPolicyId"].(string), current["permissionStatementId"].(string)
	want := map[string]any{
		"transactionId": a.json["transactionId"], "optionType": "option", "optionId": "newsletter-email", "justification": "consent", "state": "GRANTED",
		"channel": "web", "campaign": "spring", "privacyPolicyId": policy, "privacyPolicyRef": "policy-01", "permissionStatementId": statement, "permissionStatementRef": "statement-01",
		"recordedBy": "agent-7", "recordedByName": "Agent Seven", "recordedClient": current["recordedClient"], "recordedClientName": "Web shop",
		"delegatedAuthorityId": "guardian-1", "delegatedAuthorityName": "A Guardian",
		"recordedAt": a.json["recordedAt"], "obtainedAt": a.json["obtainedAt"], "validFrom": "2026-01-01T00:00:00.000Z", "validUntil": "2099-01-01T00:00:00.000Z",
	}
	if diff := cmp.Diff(want, current); diff != "" {
		t.Errorf("the current entry (-want +got):\n%s", diff)
	}

	state := w.ok(http.StatusOK, "GET", "/v1/permissions?applicationId=northwind&externalRef=CUST-1&expiry=effective", nil)
	entry := state.json["permissions"].([]any)[0].(map[string]any)
	if entry["status"] != "effective" {
		t.Errorf("status %v", entry["status"])
	}
	delete(entry, "status")
	if diff := cmp.Diff(want, entry); diff != "" {
		t.Errorf("the effective state (-want +got):\n%s", diff)
	}

	history := w.ok(http.StatusOK, "GET", "/v1/permissions/transactions?applicationId=northwind&citizenId="+a.json["citizenId"].(string), nil)
	listed := history.json["transactions"].([]any)
	if len(listed) != 1 || history.json["total"] != 1.0 {
		t.Fatal(history.text)
	}
	entry = maps.Clone(body)
	for _, ours := range []string{"optionType", "optionId", "justification", "state", "validFrom", "validUntil"} {
		delete(want, ours)
	}
	delete(entry, "applicationId")
	maps.Copy(entry, want)
	entry["citizenId"], entry["reverts"] = a.json["citizenId"], nil
	var bare []any
	for _, c := range changes {
		c := maps.Clone(c.(map[string]any))
		delete(c, "effective")
		delete(c, "current")
		bare = append(bare, c)
	}
	entry["changes"] = bare
	if diff := cmp.Diff(entry, listed[0]); diff != "" {
		t.Errorf("the entry of the history (-want +got):\n%s", diff)
	}
}

func TestTransactionsAreListedInPages(t *testing.T) {
	t.Parallel()
	w := newWorld(t, api.Options{})
	var recorded []string
	for i := range 5 {
		a := w.ok(http.StatusOK, "POST", "/v1/permissions/transactions", strings.Replace(grant, "CUST-1", fmt.Sprintf("CUST-%d", i%2), 1))
		recorded = append(recorded, a.json["transactionId"].(string))
	}
	list := func(query string) (ids []string, total any) {
		t.Helper()
		a := w.ok(http.StatusOK, "GET", "/v1/permissions/transactions?applicationId=northwind"+query, nil)
		for _, e := range a.json["transactions"].([]any) {
			ids = append(ids, e.(map[string]any)["transactionId"].(string))
		}
		return ids, a.json["total"]
	}
	a := w.ok(http.StatusOK, "GET", "/v1/permissions/transactions?applicationId=northwind&limit=1&offset=2", nil)
	third := a.json["transactions"].([]any)[0].(map[string]any)["recordedAt"].(string)
	for query, want := range map[string][]string{
		"":                            recorded,
		"&limit=2":                    recorded[:2],
		"&limit=2&offset=3":           recorded[3:],
		"&offset=5":                   nil,
		"&externalRef=CUST-0":         {recorded[0], recorded[2], recorded[4]},
		"&since=2999-01-01":           nil,
		"&before=2000-01-01":          nil,
		"&since=2000-01-01T00:00Z":    recorded,
		"&externalRef=CUST-1&limit=1": {recorded[1]},
	} {
		if got, _ := list(query); !slices.Equal(got, want) {
			t.Errorf("%q lists %q, not %q", query, got, want)
		}
	}
	if _, total := list("&limit=1"); total != 5.0 {
		t.Errorf("total is %v", total)
	}
	if _, total := list("&includeTotal=false"); total != nil {
		t.Errorf("total is %v though nobody asked", total)
	}
	// The bounds are on recordedAt: since takes it in, before does not.
	if got, _ := list("&since=" + third); !slices.Contains(got, recorded[2]) || slices.Contains(got, recorded[0]) {
		t.Errorf("since lists %q of %q", got, recorded)
	}
	if got, _ := list("&before=" + third); slices.Contains(got, recorded[2]) || !slices.Contains(got, recorded[0]) {
		t.Errorf("before lists %q of %q", got, recorded)
	}
	w.refused(http.StatusUnprocessableEntity, "GET", "/v1/permissions/transactions?limit=0&offset=-1&includeTotal=perhaps&since=x&before=y&citizenId=z", nil,
		"query.applicationId", "query.limit", "query.offset", "query.includeTotal", "query.since", "query.before", "query.citizenId")
	w.refused(http.StatusUnprocessableEntity, "GET", "/v1/permissions/transactions?applicationId=northwind&limit=101&offset=99999999999999999999", nil, "query.limit", "query.offset")
	w.refused(http.StatusNotFound, "GET", "/v1/permissions/transactions?applicationId=northwind&externalRef=nobody", nil)
}

func TestGroupsAndPending(t *testing.T) {
	t.Parallel()
	w := newWorld(t, api.Options{})
	w.ok(http.StatusOK, "POST", "/v1/permissions/transactions", `{"applicationId": "northwind", "externalRef": "CUST-1", "changes": {"optionType": "group", "optionId": "all-email", "justification": "consent", "state": "DENIED"}}`)
	w.ok(http.StatusOK, "POST", "/v1/permissions/transactions", `{"applicationId": "northwind", "externalRef": "CUST-1", "changes": {"optionId": "newsletter-email", "justification": "consent", "state": "PENDING"}}`)
	read := func(query string) (permissions, pending []string) {
		t.Helper()
		a := w.ok(http.StatusOK, "GET", "/v1/permissions?applicationId=northwind&externalRef=CUST-1"+query, nil)
		gather := func(list any) (all []string) {
			for _, e := range list.([]any) {
				e := e.(map[string]any)
				all = append(all, fmt.Sprint(e["optionType"], " ", e["optionId"], " ", e["state"]))
			}
			return all
		}
		return gather(a.json["permissions"]), gather(a.json["pending"])
	}
	permissions, pending := read("")
	if !slices.Equal(permissions, []string{"option newsletter-email DENIED", "option research-email DENIED", "group all-email DENIED"}) || !slices.Equal(pending, []string{"option newsletter-email PENDING"}) {
		t.Errorf("%q %q", permissions, pending)
	}
	permissions, pending = read("&optionId=research-email")
	if !slices.Equal(permissions, []string{"option research-email DENIED"}) || pending != nil {
		t.Errorf("%q %q", permissions, pending)
	}
	const at = "/v1/permissions?applicationId=northwind&externalRef=CUST-1"
	w.refused(http.StatusUnprocessableEntity, "GET", at+"&optionId=none", nil, "query.optionId")
	w.refused(http.StatusUnprocessableEntity, "GET", at+"&expiry=latest&validStart=2026-01-01&validEnd=2026-01-02", nil, "query.expiry")
	w.refused(http.StatusUnprocessableEntity, "GET", at+"&expiry=never", nil, "query.expiry")
	w.refused(http.StatusUnprocessableEntity, "GET", at+"&validStart=2026-01-02&validEnd=2026-01-01", nil, "query.validEnd")
	w.refused(http.StatusNotFound, "GET", "/v1/permissions?applicationId=northwind&externalRef=nobody", nil)
}

func TestWhatWasAndWhatHasEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, api.Options{})
		began := time.Now()
		at := func(minutes int) string {
			return began.Add(time.Duration(minutes) * time.Minute).UTC().Format(time.RFC3339)
		}
		w.ok(http.StatusOK, "POST", "/v1/permissions/transactions", `{"applicationId": "northwind", "externalRef": "CUST-1", "changes": [
			{"optionId": "newsletter-sms", "justification": "consent", "state": "GRANTED"},
			{"optionId": "newsletter-email", "justification": "consent", "state": "GRANTED", "validUntil": "`+at(10)+`"}]}`)
		time.Sleep(20 * time.Minute)
		for query, want := range map[string][]string{
			"":                  {"newsletter-sms effective"},
			"&expiry=effective": {"newsletter-sms effective"},
			"&expiry=latest":    {"newsletter-email expired", "newsletter-sms effective"},
			"&expiry=latest&optionId=newsletter-email":     {"newsletter-email expired"},
			"&validStart=" + at(1):                         {"newsletter-sms effective"},
			"&validStart=" + at(1) + "&validEnd=" + at(9):  {"newsletter-email effective", "newsletter-sms effective"},
			"&validStart=" + at(1) + "&validEnd=" + at(11): {"newsletter-sms effective"},
			"&validEnd=" + at(30):                          {"newsletter-sms effective"},
		} {
			a := w.ok(http.StatusOK, "GET", "/v1/permissions?applicationId=northwind&externalRef=CUST-1"+query, nil)
			var got []string
			for _, p := range a.json["permissions"].([]any) {
				got = append(got, fmt.Sprint(p.(map[string]any)["optionId"], " ", p.(map[string]any)["status"]))
			}
			if !slices.Equal(got, want) {
				t.Errorf("%q lists %q, not %q", query, got, want)
			}
		}
	})
}

func TestChangesAtTheLimit(t *testing.T) {
	t.Parallel()
	w := newWorld(t, api.Options{})
	body := decoded(t, grant)
	change := body["changes"].([]any)[0]
	body["changes"] = slices.Repeat([]any{change}, 200)
	w.ok(http.StatusOK, "POST", "/v1/permissions/transactions", body)
	body["changes"] = slices.Repeat([]any{change}, 201)
	w.refused(http.StatusUnprocessableEntity, "POST", "/v1/permissions/transactions", body, "body.changes")
	body["changes"] = []any{}
	w.refused(http.StatusUnprocessableEntity, "POST", "/v1/permissions/transactions", body, "body.changes")
}

func TestBothNamesOfACitizenMustAgree(t *testing.T) {
	t.Parallel()
	w := newWorld(t, api.Options{})
	one := w.ok(http.StatusOK, "POST", "/v1/permissions/transactions", grant).json["citizenId"].(string)
	w.ok(http.StatusOK, "POST", "/v1/permissions/transactions", strings.Replace(grant, "CUST-1", "CUST-2", 1))
	both := func(ref string) string {
		return strings.Replace(strings.Replace(grant, "CUST-1", ref, 1), "{", `{"citizenId": "`+one+`", `, 1)
	}
	w.ok(http.StatusOK, "POST", "/v1/permissions/transactions", both("CUST-1"))
	w.refused(http.StatusUnprocessableEntity, "POST", "/v1/permissions/transactions", both("CUST-2"), "body.externalRef")
	w.refused(http.StatusUnprocessableEntity, "GET", "/v1/permissions?applicationId=northwind&externalRef=CUST-2&citizenId="+one, nil, "query.externalRef")
}

// A reversion has nothing to say but what it undoes.
func TestReversionNeedsNoBody(t *testing.T) {
	t.Parallel()
	w := newWorld(t, api.Options{})
	id := w.ok(http.StatusOK, "POST", "/v1/permissions/transactions", grant).json["transactionId"].(string)
	at := "/v1/permissions/transactions/" + id + "/reversion"
	if a := w.ok(http.StatusOK, "POST", at, nil); a.json["reverts"] != id {
		t.Error(a.text)
	}
	w.refused(http.StatusConflict, "POST", at, nil)
	w.refused(http.StatusBadRequest, "POST", "/v1/permissions/transactions", nil)
}
