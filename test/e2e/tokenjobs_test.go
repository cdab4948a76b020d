package e2e_test

import (
	"encoding/csv"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/opencpm/opencpm/test/harness"
)

// batch begins to make tokens; with holds members of the body beside the application.
func (w *world) batch(t testing.TB, with object) *answer {
	t.Helper()
	body := object{"applicationId": w.id, "expiryDate": ahead(time.Hour)}
	for name, v := range with {
		body[name] = v
	}
	return w.api.do(t, "POST", "/v1/access-tokens/jobs", body).want(t, 201)
}

// readCSV reads a file of CSV with its titles.
func (c *client) readCSV(t testing.TB, target string) [][]string {
	t.Helper()
	status, text := c.glance(t, target)
	list, err := csv.NewReader(strings.NewReader(text)).ReadAll()
	if status != 200 || err != nil {
		t.Fatalf("%s: %d %.200s, %v", target, status, text, err)
	}
	return list
}

func TestTokenJobs(t *testing.T) {
	harness.OnEachStore(t, func(t *testing.T, s *harness.Store) {
		w := start(t, s, northwind, "--base-url", "https://consent.example.com/cpm")
		w.people(t, 25)
		once := w.api.with("Idempotency-Key", "batch-1")
		body := object{"applicationId": w.id, "expiryDate": ahead(time.Hour), "reference": "spring", "unsubscribe": []string{"newsletter-email", "all-email"}}
		made := once.do(t, "POST", "/v1/access-tokens/jobs", body).want(t, 201)
		id := made.text(t, "id")
		if again := once.do(t, "POST", "/v1/access-tokens/jobs", body).want(t, 201); again.text(t, "id") != id || again.at("issue") != made.at("issue") {
			t.Errorf("the same request made %s", again.raw)
		}
		if made.at("kind") != "citizen-tokens" || made.at("reference") != "spring" || made.at("expiryDate") != body["expiryDate"] || made.at("revokedAt") != nil {
			t.Errorf("created %s", made.raw)
		}
		if done := w.ended(t, id); done.peek("state") != "done" || done.at("progress.done") != 25.0 || done.at("expiresAt") != body["expiryDate"] {
			t.Fatalf("ended as %s", done.raw)
		}
		where := "/v1/access-tokens/jobs/" + id
		w.api.do(t, "GET", where, nil).want(t, 200)
		list := w.api.readCSV(t, where+"/file")
		if diff := cmp.Diff(list, w.api.readCSV(t, "/v1/jobs/"+id+"/files/result")); diff != "" {
			t.Error(diff)
		}
		want := []string{"citizenId", "externalRef", "token", "token_url", "expiryDate", "unsubscribe_url_newsletter-email", "unsubscribe_url_all-email"}
		if diff := cmp.Diff(want, list[0]); diff != "" || len(list) != 26 {
			t.Fatalf("%d lines\n%s", len(list), diff)
		}
		nobody := anonymous(t, w.server)
		opens := func(line []string) int {
			t.Helper()
			return nobody.with("Authorization", "Bearer "+line[2]).do(t, "GET", historyOf(line[0]), nil).status
		}
		of := map[string]bool{}
		for _, line := range list[1:] {
			if of[line[1]] = strings.HasPrefix(line[1], "person-"); line[4] != body["expiryDate"] || line[3] != "" || !strings.HasPrefix(line[5], "https://consent.example.com/cpm/u/ocpm_citizen_") || opens(line) != 200 {
				t.Errorf("line %q", line)
			}
		}
		if len(of) != 25 {
			t.Errorf("the lines are of %v", of)
		}
		reader := nobody.with("X-API-Key", newAPIKey(t, s, w.id, "--scope", "jobs:read"))
		reader.do(t, "GET", "/v1/jobs/"+id, nil).want(t, 200)
		reader.do(t, "GET", "/v1/jobs/"+id+"/files/result", nil).want(t, 403)

		some := w.batch(t, object{"citizenIds": []string{list[3][0]}, "externalRefs": []string{list[1][1], "nobody"}}).text(t, "id")
		if done := w.ended(t, some); done.at("progress.failures") != 1.0 || done.at("progress.done") != 3.0 {
			t.Errorf("ended as %s", done.raw)
		}
		if few := w.api.readCSV(t, "/v1/access-tokens/jobs/"+some+"/file"); len(few) != 3 || few[1][1] != list[1][1] || few[2][1] != list[3][1] {
			t.Errorf("some: %q", few)
		}
		if failed := w.api.readCSV(t, "/v1/jobs/"+some+"/files/failures"); len(failed) != 2 || failed[1][1] != "nobody" {
			t.Errorf("failures: %q", failed)
		}

		w.api.do(t, "POST", fmt.Sprintf("/v1/access-tokens/issues/%v/revocation", made.at("issue")), nil).want(t, 204)
		if opens(list[1]) != 401 || opens(list[25]) != 401 {
			t.Error("the tokens of a batch are good once it is revoked")
		}
		instant(t, w.api.do(t, "GET", where, nil).want(t, 200).at("revokedAt"))

		w.api.do(t, "DELETE", "/v1/citizens/"+list[2][0], nil).want(t, 204)
		if after := w.api.readCSV(t, where+"/file"); strings.TrimSpace(after[2][1]) != "" || after[1][1] != list[1][1] || after[3][1] != list[3][1] {
			t.Errorf("after an erasure the file says %q", after[2])
		}

		refs := make([]string, 1000)
		for i := range refs {
			refs[i] = fmt.Sprint(i)
		}
		w.api.do(t, "POST", "/v1/access-tokens/jobs", object{
			"applicationId": w.id, "expiryDate": iso(time.Now().AddDate(0, 4, 0)), "reference": long(101), "citizenIds": []string{"x", list[1][0]}, "externalRefs": refs,
			"unsubscribe": []string{"none", "newsletter-email", "newsletter-email"}, "maxPerSecond": 0,
		}).refused(t, 422, "expiryDate", "reference", "citizenIds", "unsubscribe", "maxPerSecond")
		w.api.do(t, "GET", "/v1/access-tokens/jobs/"+w.check(t), nil).want(t, 404)
		if log := s.Emitted.String(); strings.Contains(log, "ocpm_citizen_") || strings.Contains(log, "person-1") {
			t.Error("the log names tokens or citizens")
		}
	})
}

// oneClick asks to unsubscribe as a mail program does.
func oneClick(t testing.TB, target, contentType, form string) (int, http.Header, string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, target, strings.NewReader(form))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", contentType)
	request.Header.Set("User-Agent", "Mailer/1.0")
	return straight(t, request)
}

func TestUnsubscribeWithOneClick(t *testing.T) {
	harness.OnEachStore(t, func(t *testing.T, s *harness.Store) {
		w := start(t, s, northwind)
		id := w.record(t, "CUST-1", change("newsletter-email", "consent", "GRANTED")).text(t, "citizenId")
		w.record(t, "CUST-1", change("research-email", "legitimate-interest", "CLAIMED"))
		link := func(with object) *answer {
			t.Helper()
			body := object{"applicationId": w.id, "externalRef": "CUST-1"}
			for k, v := range with {
				body[k] = v
			}
			return w.api.do(t, "POST", "/v1/access-tokens/unsubscribe", body)
		}
		first := link(object{"optionId": "newsletter-email"}).want(t, 200)
		target, token := first.text(t, "url"), first.text(t, "token")
		if again := link(object{"optionId": "newsletter-email", "citizenId": id}).want(t, 200); again.text(t, "token") != token || !strings.HasSuffix(target, "/u/"+token) || !strings.HasPrefix(target, w.server.URL) {
			t.Errorf("the links %s and %s", first.raw, again.raw)
		}
		link(object{"optionId": "none"}).refused(t, 422, "optionId")
		link(object{"optionId": "all-email", "optionType": "option", "externalRef": ""}).refused(t, 422, "optionId", "externalRef")
		link(object{"optionId": "newsletter-email", "externalRef": "nobody"}).want(t, 404)

		const form = "application/x-www-form-urlencoded"
		records := func() int { t.Helper(); return len(w.transactions(t, "externalRef", "CUST-1")) }
		before := records()
		for contentType, body := range map[string]string{form: "", form + "; charset=utf-8": "List-Unsubscribe=No", "application/json": `{"List-Unsubscribe": "One-Click"}`, "": "List-Unsubscribe=One-Click"} {
			if status, _, _ := oneClick(t, target, contentType, body); status != 400 {
				t.Errorf("%q as %q: %d", body, contentType, status)
			}
		}
		if status, _ := anonymous(t, w.server).glance(t, "/u/"+token); status != 404 && status != 405 && status != 200 {
			t.Errorf("a look at the link: %d", status)
		}
		if records() != before {
			t.Fatal("what is no request to unsubscribe recorded something")
		}

		want := "If this is a link from one of our mails, you will get no more mails of that kind.\n"
		leave := func(target, contentType, body string) {
			t.Helper()
			status, header, text := oneClick(t, target, contentType, body)
			if status != 200 || text != want || header.Get("Set-Cookie") != "" || header.Get("Location") != "" || header.Get("Content-Type") != "text/plain; charset=utf-8" {
				t.Errorf("answered %d %q %v", status, text, header)
			}
		}
		leave(target, form, "List-Unsubscribe=One-Click")
		if got := w.states(t, "CUST-1"); got["newsletter-email"] != "consent DENIED" || got["research-email"] != "legitimate-interest CLAIMED" {
			t.Errorf("then %v", got)
		}
		leave(target, form, "List-Unsubscribe=One-Click")
		if records() != before+1 {
			t.Errorf("asked twice, %d transactions were recorded", records()-before)
		}
		if got := w.permission(t, "CUST-1", "newsletter-email"); got["channel"] != "unsubscribe-link" || got["recordedClient"] != "citizen "+id {
			t.Errorf("recorded as %v", got)
		}

		// The token opens nothing else, and no other token leaves anything.
		anonymous(t, w.server).with("Authorization", "Bearer "+token).do(t, "GET", historyOf(id), nil).want(t, 401)
		manage := w.mint(t, object{"citizenId": id, "expiryDate": ahead(time.Hour)}).text(t, "token")
		base := strings.TrimSuffix(target, token)
		for _, other := range []string{manage, neighbour(token), token[:40], "x", url.PathEscape("a/b"), strings.Repeat("x", 150)} {
			leave(base+other, form, "List-Unsubscribe=One-Click")
		}
		if records() != before+1 {
			t.Error("another token than one to unsubscribe recorded something")
		}

		// It works whatever is revoked.
		group := link(object{"optionId": "all-email", "optionType": "group"}).want(t, 200).text(t, "url")
		w.api.do(t, "POST", "/v1/citizens/"+id+"/token-revocations", nil).want(t, 204)
		leave(group, "multipart/form-data; boundary=xyz", "--xyz\r\nContent-Disposition: form-data; name=\"List-Unsubscribe\"\r\n\r\nOne-Click\r\n--xyz--\r\n")
		if got := w.states(t, "CUST-1"); got["newsletter-email"] != "consent DENIED" || got["research-email"] != "legitimate-interest OBJECTION_UPHELD" {
			t.Errorf("the group left, %v", got)
		}
		w.api.do(t, "DELETE", "/v1/citizens/"+id, nil).want(t, 204)
		leave(target, form, "List-Unsubscribe=One-Click")
		if log := s.Emitted.String(); strings.Contains(log, "ocpm_citizen_") {
			t.Error("the log holds a token")
		}
	})
}

// straight makes a request as it is and follows nothing.
func straight(t testing.TB, request *http.Request) (int, http.Header, string) {
	t.Helper()
	stay := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	response, err := stay.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, response.Header, string(body)
}
