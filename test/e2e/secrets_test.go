package e2e_test

import (
	"bufio"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencpm/opencpm/test/harness"
)

var (
	sample     = regexp.MustCompile(`^([a-zA-Z_:][a-zA-Z0-9_:]*)(\{.*\})? \S+`)
	metricName = regexp.MustCompile(`^(opencpm|go|process)_`)
)

// TestSecretsStaySecret plants a text in every field that holds a secret or says something about a person, lets things
// go right and wrong, and then looks for the texts in everything the server emitted and, on SQLite, in every file it
// wrote.
func TestSecretsStaySecret(t *testing.T) {
	harness.OnEachStore(t, func(t *testing.T, s *harness.Store) {
		r := harness.NewReceiver(t)
		w := start(t, s, northwind, impatient...)
		key := newAPIKey(t, s, w.id)
		token := strings.TrimPrefix(w.api.header.Get("Authorization"), "Bearer ")

		const ref = "planted-reference-8c1f"
		personal := object{
			"givenName": "Slartibartfast-8c1f", "additionalName": "Magrathea-8c1f", "familyName": "Fjordmaker-8c1f",
			"organisationName": "Deepthought-8c1f", "email": "planted-8c1f@example.com", "telephone": "+44 20 7946 8151",
			"address": object{
				"streetAddress": "Planted Street 8c1f", "streetAddress2": "Planted Yard 8c1f", "streetAddress3": "Planted Door 8c1f",
				"addressLocality": "Plantington-8c1f", "addressRegion": "Plantshire-8c1f", "addressCountry": "Plantland-8c1f",
				"postalCode": "PL8 C1F", "postOfficeBoxNumber": "Box-8c1f",
			},
		}
		claims := object{"recordedByName": "Agent-Planted-8c1f", "delegatedAuthorityName": "Carer-Planted-8c1f"}
		people := append([]string{ref}, texts(personal)...)
		people = append(people, texts(claims)...)
		webhook := object{
			"token": "planted-webhook-token-8c1f", "refreshToken": "planted-refresh-token-8c1f", "clientSecret": "planted-oauth-secret-8c1f",
			"signingSecret": "whsec_cGxhbnRlZC1zaWduaW5nLXNlY3JldC04YzFm",
		}
		credentials := []string{w.clientSecret, key, token}
		secrets := append(texts(webhook), "planted-wrong-key-8c1f", "planted-wrong-token-8c1f", "planted-wrong-secret-8c1f")

		// Things go right …
		id := w.citizen(t, ref, personal)
		w.api.do(t, "PATCH", "/v1/citizens/"+id, object{"applicationId": w.id, "givenName": "Slartibartfast-8c1f"}).want(t, 200, 204)
		hook := w.subscribe(t, r.URL+"/hook", webhook, object{"authType": "token", "tokenLocation": "query", "tokenName": "key", "includeCitizenToken": true}).text(t, "id")
		w.api.do(t, "POST", "/v1/subscriptions/"+hook+"/rotate-secret", object{}).want(t, 200)
		w.record(t, ref, change("newsletter-email", "consent", "GRANTED"), claims)
		r.AwaitCount(t, ref, 1)
		byKey := w.api.with("X-API-Key", key)
		eventually(t, harness.Patience, "the key is known", func() bool {
			return byKey.do(t, "GET", "/v1/subscriptions/"+hook, nil).status == 200
		})

		// Tokens of the citizen: one that was asked for and used, well and badly, and those of the messages.
		citizenToken := w.mint(t, object{"externalRef": ref, "expiryDate": ahead(time.Hour)}).text(t, "token")
		byCitizen := w.api.with("Authorization", "Bearer "+citizenToken)
		byCitizen.do(t, "GET", "/v1/citizens/"+id+"/history", nil).want(t, 200)
		byCitizen.do(t, "GET", "/v1/citizens/"+id, nil).want(t, 401)
		byCitizen.do(t, "GET", query("/v1/citizens/"+id+"/evidence", "token", citizenToken), nil).want(t, 401)

		// … and wrong: the receiver refuses, is gone, and the callers make mistakes.
		r.Respond(harness.Answer(500))
		w.record(t, ref, change("newsletter-email", "consent", "DENIED"), claims)
		r.AwaitCount(t, ref, 4)
		r.Respond(func(http.ResponseWriter, *harness.Message) { panic(http.ErrAbortHandler) })
		w.record(t, ref, change("newsletter-email", "consent", "GRANTED"), claims)
		r.AwaitCount(t, ref, 7)
		w.api.do(t, "GET", w.citizenByRef(ref+"-unknown"), nil)
		w.api.do(t, "POST", "/v1/citizens", with(object{"applicationId": w.id, "externalRef": ref}, "givenName", "Slartibartfast-8c1f")).want(t, 409)
		w.api.do(t, "POST", "/v1/citizens", `{"applicationId":"x","givenName":"Slartibartfast-8c1f`).want(t, 400)
		w.api.do(t, "POST", "/v1/citizens", object{"externalRef": []string{ref}, "email": []string{"planted-8c1f@example.com"}}).want(t, 400, 422)
		w.api.do(t, "GET", query("/v1/permissions", "applicationId", w.id, "externalRef", ref, "validStart", ref), nil).want(t, 400, 422)
		w.api.with("X-API-Key", "planted-wrong-key-8c1f").do(t, "GET", w.subscriptions(), nil).want(t, 401)
		w.api.with("Authorization", "Bearer planted-wrong-token-8c1f").do(t, "GET", w.subscriptions(), nil).want(t, 401)
		w.api.do(t, "POST", "/oauth/token", object{"grant_type": "client_credentials", "client_id": w.clientID, "client_secret": "planted-wrong-secret-8c1f"})
		w.api.do(t, "PATCH", "/v1/subscriptions/"+hook, object{"token": "planted-webhook-token-8c1f\n"}).want(t, 400, 422)

		_, metrics := w.api.glance(t, "/metrics")
		t.Run("metrics", func(t *testing.T) {
			ours := 0
			for lines := bufio.NewScanner(strings.NewReader(metrics)); lines.Scan(); {
				line := lines.Text()
				if strings.HasPrefix(line, "#") || line == "" {
					continue
				}
				m := sample.FindStringSubmatch(line)
				if m == nil || !metricName.MatchString(m[1]) {
					t.Errorf("metric %q", line)
					continue
				}
				if strings.HasPrefix(m[1], "opencpm_") {
					ours++
				}
			}
			if ours == 0 {
				t.Errorf("no metric of ours in\n%s", metrics)
			}
		})

		// A failed delivery is retried once more with nobody there.
		sent := []string{citizenToken}
		for _, m := range r.AwaitCount(t, ref, 8) {
			var message struct{ CitizenToken struct{ Token string } }
			if err := json.Unmarshal(m.Raw, &message); err != nil || message.CitizenToken.Token == "" {
				t.Fatalf("no citizen token in %s: %v", m.Raw, err)
			}
			sent = append(sent, message.CitizenToken.Token)
		}
		w.server.Stop(t)
		s.Do(t, "check")

		everything := slices.Concat(people, secrets, credentials, sent)
		answers := w.api.heard.String()
		absent(t, "an answer", answers, append(secrets, key)...)
		absent(t, "a refusal", w.api.refusals.String(), people...)
		if n := strings.Count(answers, token); n != 1 {
			t.Errorf("the access token is in %d answers, want the one that granted it", n)
		}
		for where, text := range map[string]string{"the logs": s.Emitted.String(), "the metrics": metrics} {
			absent(t, where, text, everything...)
		}
		if s.Dir == "" {
			return
		}
		files := 0
		err := filepath.WalkDir(s.Dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			files++
			content, err := os.ReadFile(path)
			absent(t, path, string(content), everything...)
			return err
		})
		if err != nil || files == 0 {
			t.Errorf("%d files read in the data directory: %v", files, err)
		}
	})
}

// texts lists every text in a JSON value.
func texts(v any) []string {
	switch v := v.(type) {
	case string:
		return []string{v}
	case object:
		var all []string
		for _, e := range v {
			all = append(all, texts(e)...)
		}
		return all
	}
	return nil
}

// absent requires that none of the planted texts is in text, as it is or thinly veiled.
func absent(t testing.TB, where, text string, planted ...string) {
	t.Helper()
	for _, p := range planted {
		for _, form := range []string{
			p, hex.EncodeToString([]byte(p)), base64.StdEncoding.EncodeToString([]byte(p)), strings.ReplaceAll(p, " ", "+"), strings.ReplaceAll(p, "@", "%40"),
		} {
			if i := strings.Index(text, form); i >= 0 {
				t.Errorf("%s holds %q: …%q…", where, p, text[max(0, i-80):min(len(text), i+len(form)+20)])
				break
			}
		}
	}
}
