package e2e_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/opencpm/opencpm/test/harness"
)

// form reads a consent state; pairs are further parameters of the query.
func (w *world) form(t testing.TB, c *client, template string, pairs ...string) *answer {
	t.Helper()
	return c.do(t, "GET", query("//v1/consent-state", append([]string{"applicationId", w.id, "templateId", template}, pairs...)...), nil).want(t, 200)
}

// edit changes the one place of a form, written like blocks.0.options.1.selected.
func edit(t testing.TB, form any, place string, value any) {
	t.Helper()
	at, path := form, strings.Split(place, ".")
	for _, step := range path[:len(path)-1] {
		switch v := at.(type) {
		case object:
			at = v[step]
		case []any:
			var i int
			if _, err := fmt.Sscan(step, &i); err != nil {
				t.Fatal(err)
			}
			at = v[i]
		}
	}
	at.(object)[path[len(path)-1]] = value
}

// kinds are what became of each change of the transactions in an answer, in short.
func recordedIn(t testing.TB, a *answer) string {
	t.Helper()
	var out struct {
		Transactions []struct {
			Changes []struct{ OptionID, State string }
		}
		Submissions []struct {
			Preference string
			Choices    []struct{ Reference string }
		}
	}
	if err := json.Unmarshal(a.raw, &out); err != nil {
		t.Fatal(err)
	}
	var parts []string
	for _, v := range out.Transactions {
		var changes []string
		for _, c := range v.Changes {
			changes = append(changes, c.OptionID+"="+c.State)
		}
		parts = append(parts, strings.Join(changes, ","))
	}
	for _, v := range out.Submissions {
		choices := []string{}
		for _, c := range v.Choices {
			choices = append(choices, c.Reference)
		}
		parts = append(parts, v.Preference+"="+strings.Join(choices, "+"))
	}
	return strings.Join(parts, "; ")
}

func TestConsentState(t *testing.T) {
	harness.OnEachStore(t, func(t *testing.T, s *harness.Store) {
		receiver := harness.NewReceiver(t)
		w := start(t, s, northwind, impatient...)
		w.subscribe(t, receiver.URL)
		create := func(collection string, item object) string {
			t.Helper()
			item["applicationId"] = w.id
			return w.api.do(t, "POST", "/v1/configuration/"+collection, item).want(t, 201).text(t, "id")
		}
		create("permission-statements", object{"reference": "statement-02", "text": object{"en": "We **may** ask you. [More](https://example.com/more)", "de": "Wir dürfen Sie fragen."}})
		template := create("templates", object{"reference": "all", "name": "All", "privacyPolicy": "policy-01", "blocks": []object{
			{"type": "permissions", "statement": "statement-01", "options": []object{{"option": "newsletter-email", "justification": "consent", "label": object{"en": "Newsletter", "de": "Rundbrief"}}}},
			{"type": "permissions", "statement": "statement-02", "options": []object{{"option": "research-email", "justification": "legitimate-interest"}}},
			{"type": "multi-choice-preference", "preference": "interests"},
			{"type": "multi-choice-preference", "preference": "frequency"},
			{"type": "text", "text": object{"en": "You can change your mind at any time."}},
		}})

		fresh := w.form(t, w.api, "all", "externalRef", "CUST-1")
		for place, want := range map[string]any{
			"templateId": template, "externalRef": "CUST-1", "citizenId": nil, "locale": "en", "direction": "ltr", "privacyPolicy.reference": "policy-01",
			"blocks.0.options.0.selected": nil, "blocks.0.options.0.state": nil, "blocks.0.options.0.label": "Newsletter", "blocks.0.options.0.directMarketing": true,
			"blocks.0.options.0.channel.name": "E-mail", "blocks.1.statement.text": "We may ask you. More", "blocks.1.statement.content.0.children.1.type": "strong",
			"blocks.2.type": "multi-choice-preference", "blocks.2.choices.0.selected": false, "blocks.3.type": "single-choice-preference", "blocks.3.selectedChoice": nil,
		} {
			if got := fresh.at(place); got != want {
				t.Errorf("%s is %v, want %v", place, got, want)
			}
		}
		often := fresh.at("blocks.3").(object)
		if _, said := often["selectedChoice"]; !said || strings.Contains(fmt.Sprint(often["choices"]), "selected") {
			t.Errorf("a single choice that was never answered: %v", often)
		}
		w.api.do(t, "GET", w.citizenByRef("CUST-1"), nil).want(t, 404)
		german := w.api.with("Accept-Language", "fr;q=0.3, de-AT").do(t, "GET", query("/v1/consent-state", "applicationId", w.id, "templateId", template), nil).want(t, 200)
		if german.header.Get("Content-Language") != "de" || german.header.Get("Vary") != "Accept-Language" || german.at("blocks.0.options.0.label") != "Rundbrief" || german.at("blocks.4.text") != "You can change your mind at any time." {
			t.Errorf("in German, with %v: %s", german.header, german.raw)
		}

		post := func(form any, with ...object) *answer {
			t.Helper()
			for _, more := range with {
				for name, v := range more {
					form.(object)[name] = v
				}
			}
			return w.api.do(t, "POST", "/v1/consent-state", form)
		}
		// What is not answered records nothing, but creates the citizen.
		if a := post(fresh.body).want(t, 200); recordedIn(t, a) != "" || a.at("externalRef") != "CUST-1" {
			t.Errorf("nothing answered: %s", a.raw)
		}
		edit(t, fresh.body, "blocks.0.options.0.selected", true)
		edit(t, fresh.body, "blocks.1.options.0.selected", false)
		edit(t, fresh.body, "blocks.2.choices.1.selected", true)
		edit(t, fresh.body, "blocks.3.selectedChoice", "weekly")
		first := post(fresh.body, object{"channel": "web"}).want(t, 200)
		if got := recordedIn(t, first); got != "newsletter-email=GRANTED; research-email=OBJECTED; interests=rock; frequency=weekly" {
			t.Errorf("recorded %s", got)
		}
		m := receiver.AwaitCount(t, "CUST-1", 1)[0]
		feed := w.told(t, 1)
		if len(m.Permissions) != 2 || len(m.Preferences) != 2 || len(feed) != 1 {
			t.Errorf("told as %d changes, the first of %d permissions and %d preferences", len(feed), len(m.Permissions), len(m.Preferences))
		}
		again := w.form(t, w.api, template, "externalRef", "CUST-1")
		for place, want := range map[string]any{
			"blocks.0.options.0.selected": true, "blocks.0.options.0.state": "GRANTED", "blocks.1.options.0.selected": false, "blocks.1.options.0.state": "OBJECTION_UPHELD",
			"blocks.2.choices.1.selected": true, "blocks.3.selectedChoice": "weekly", "citizenId": first.at("citizenId"),
		} {
			if got := again.at(place); got != want {
				t.Errorf("afterwards %s is %v, want %v", place, got, want)
			}
		}
		if got := recordedIn(t, post(again.body).want(t, 200)); got != "" {
			t.Errorf("sent back as it was it records %s", got)
		}
		// Of a single choice either way says it, and two that contradict each other are refused.
		edit(t, again.body, "blocks.3.choices.1.selected", true)
		post(again.body).refused(t, 422, "choices")
		edit(t, again.body, "blocks.3.choices.1.selected", nil)
		edit(t, again.body, "blocks.0.options.0.selected", false)
		once := w.api.with("Idempotency-Key", "k1")
		one, two := once.do(t, "POST", "/v1/consent-state", again.body).want(t, 200), once.do(t, "POST", "/v1/consent-state", again.body).want(t, 200)
		if diff := cmp.Diff(one.body, two.body); diff != "" || recordedIn(t, one) != "newsletter-email=DENIED" {
			t.Errorf("repeated: %s\n%s", recordedIn(t, one), diff)
		}
		history := w.api.do(t, "GET", historyOf(first.text(t, "citizenId")), nil).want(t, 200)
		for place, want := range map[string]any{
			"history.0.shown.permissionStatement.proven": true, "history.0.shown.privacyPolicy.proven": true, "history.0.shown.template.id": template,
			"history.0.shown.template.locale": "en", "history.1.shown.permissionStatement.reference": "statement-02", "history.0.transaction.channel": "web",
		} {
			if got := history.at(place); got != want {
				t.Errorf("in the history %s is %v, want %v", place, got, want)
			}
		}

		t.Run("by the citizen", func(t *testing.T) {
			mint := func(ref string) *client {
				return anonymous(t, w.server).with("Authorization", "Bearer "+w.mint(t, object{"externalRef": ref, "expiryDate": ahead(time.Hour)}).text(t, "token"))
			}
			w.citizen(t, "CUST-2")
			own, other := mint("CUST-1"), mint("CUST-2")
			form := own.do(t, "GET", query("/v1/consent-state", "templateId", template), nil).want(t, 200)
			other.do(t, "GET", query("/v1/consent-state", "templateId", template, "externalRef", "CUST-1"), nil).want(t, 401)
			other.do(t, "GET", query("/v1/consent-state", "templateId", template, "citizenId", first.text(t, "citizenId")), nil).want(t, 401)
			edit(t, form.body, "blocks.1.options.0.selected", true)
			form.body.(object)["recordedByName"] = "Somebody else"
			other.do(t, "POST", "/v1/consent-state", form.body).want(t, 401)
			if got := recordedIn(t, own.do(t, "POST", "/v1/consent-state", form.body).want(t, 200)); got != "research-email=CLAIMED" {
				t.Errorf("recorded %s", got)
			}
			h := own.do(t, "GET", query("/v1/citizens/me/history", "limit", "100"), nil).want(t, 200)
			list := h.list(t, "history")
			last := list[len(list)-1]["transaction"].(object)
			if last["recordedByName"] != nil || last["recordedClient"] != "citizen" {
				t.Errorf("recorded by %v, through %v", last["recordedByName"], last["recordedClient"])
			}
			if got := own.do(t, "GET", query("/v1/consent-state", "templateId", template), nil).at("blocks.1.options.0.state"); got != "CLAIMED" {
				t.Errorf("the citizen's own claim leaves %v", got)
			}
			own.do(t, "GET", "/v1/citizens/me/evidence", nil).want(t, 200)
			w.api.do(t, "GET", "/v1/citizens/me/evidence", nil).want(t, 401)
		})

		t.Run("snapshots", func(t *testing.T) {
			refused := func(name, snapshot string, body object) {
				t.Helper()
				body["snapshot"] = snapshot
				a := w.api.do(t, "POST", "/v1/consent-state", body)
				if a.refused(t, 422, "snapshot"); t.Failed() {
					t.Fatal(name)
				}
			}
			mine := w.form(t, w.api, template, "externalRef", "CUST-1").text(t, "snapshot")
			nobodys := w.form(t, w.api, template).text(t, "snapshot")
			unborn := w.form(t, w.api, template, "externalRef", "CUST-3").text(t, "snapshot")
			by := func(ref string) object {
				return object{"applicationId": w.id, "externalRef": ref, "templateId": template, "blocks": []object{}}
			}
			refused("forged", neighbour(mine), by("CUST-1"))
			refused("cut short", mine[:len(mine)-4], by("CUST-1"))
			refused("no base64", "*", by("CUST-1"))
			refused("another citizen", mine, by("CUST-2"))
			refused("one who is not known", mine, by("CUST-3"))
			refused("another who was not known", unborn, by("CUST-2"))
			for ref, snapshot := range map[string]string{"CUST-1": mine, "CUST-2": nobodys, "CUST-3": unborn} {
				body := by(ref)
				body["snapshot"] = snapshot
				w.api.do(t, "POST", "/v1/consent-state", body).want(t, 200)
			}
			if body := by("CUST-3"); true { // who is known now
				body["snapshot"] = unborn
				w.api.do(t, "POST", "/v1/consent-state", body).want(t, 200)
			}
		})
	})
}

func TestTemplateDrafts(t *testing.T) {
	harness.OnEachStore(t, func(t *testing.T, s *harness.Store) {
		w := start(t, s, northwind)
		text := func(words string) object {
			return object{"reference": "all", "name": "All", "blocks": []object{{"type": "text", "text": object{"en": words}}}}
		}
		item := text("One")
		item["applicationId"] = w.id
		id := w.api.do(t, "POST", "/v1/configuration/templates", item).want(t, 201).text(t, "id")
		at := func(path string) string { return query("/v1/configuration/templates/"+path, "applicationId", w.id) }
		shown := func(pairs ...string) any { return w.form(t, w.api, id, pairs...).at("blocks.0.text") }
		old := w.form(t, w.api, id, "externalRef", "CUST-1")

		w.api.do(t, "GET", at(id+"/draft"), nil).want(t, 404)
		w.api.do(t, "PUT", at(id+"/draft"), object{"reference": "other", "name": "All"}).refused(t, 422, "reference")
		if a := w.api.do(t, "PUT", at("all/draft"), text("Two")).want(t, 200); a.at("baseRevision") != 1.0 || a.at("content.name") != "All" {
			t.Errorf("the draft: %s", a.raw)
		}
		if shown() != "One" || shown("draft", "true") != "Two" || w.form(t, w.api, id, "draft", "true").at("snapshot") != "" {
			t.Error("a draft is shown before it is published, or not when asked for, or with proof")
		}
		if a := w.api.do(t, "POST", at(id+"/draft/publication"), nil).want(t, 200); a.at("revision") != 2.0 || shown() != "Two" {
			t.Errorf("published: %s", a.raw)
		}
		w.api.do(t, "GET", at(id+"/draft"), nil).want(t, 404)
		w.api.do(t, "POST", at(id+"/draft/publication"), nil).want(t, 404)

		// A change that is published meanwhile is not lost.
		w.api.do(t, "PUT", at(id+"/draft"), text("Three")).want(t, 200)
		w.api.do(t, "PATCH", at(id), object{"applicationId": w.id, "name": "Renamed"}).want(t, 200)
		w.api.do(t, "PUT", at(id+"/draft"), text("Four")).want(t, 200)
		w.api.do(t, "POST", at(id+"/draft/publication"), nil).want(t, 409)
		w.api.do(t, "DELETE", at(id+"/draft"), nil).want(t, 204)
		w.api.do(t, "DELETE", at(id+"/draft"), nil).want(t, 404)

		// One that breaks a rule can be kept and looked at, but not published.
		broken := object{"reference": "all", "name": "All", "privacyPolicy": "policy-01", "blocks": []object{{"type": "permissions", "statement": "none", "options": []object{{"option": "none", "justification": "consent"}}}}}
		w.api.do(t, "PUT", at(id+"/draft"), broken).want(t, 200)
		w.form(t, w.api, id, "draft", "true")
		if found := w.api.do(t, "GET", at(id+"/draft/lint"), nil).want(t, 200).list(t, "findings"); !slices.ContainsFunc(found, func(o object) bool { return o["rule"] == "invalid" && o["location"] == "blocks[0].statement" }) {
			t.Errorf("found %v", found)
		}
		w.api.do(t, "POST", at(id+"/draft/publication"), nil).want(t, 422)
		if found := w.api.do(t, "GET", at(id+"/lint"), nil).want(t, 200).list(t, "findings"); len(found) != 1 || found[0]["rule"] != "missing-translation" {
			t.Errorf("found %v", found)
		}

		// What is archived is not shown any more, but what was shown can be answered.
		w.api.do(t, "DELETE", at(id), nil).want(t, 204)
		w.api.do(t, "GET", query("/v1/consent-state", "applicationId", w.id, "templateId", id), nil).want(t, 404)
		w.api.do(t, "POST", "/v1/consent-state", old.body).want(t, 200)
		old.body.(object)["snapshot"] = nil
		w.api.do(t, "POST", "/v1/consent-state", old.body).refused(t, 422, "templateId")
	})
}

func TestPagesOfOtherOrigins(t *testing.T) {
	harness.OnEachStore(t, func(t *testing.T, s *harness.Store) {
		w := start(t, s, northwind)
		template := w.api.do(t, "POST", "/v1/configuration/templates", object{"applicationId": w.id, "reference": "all", "name": "All", "blocks": []object{}}).want(t, 201).text(t, "id")
		w.citizen(t, "CUST-1")
		nobody := anonymous(t, w.server)
		own := nobody.with("Authorization", "Bearer "+w.mint(t, object{"externalRef": "CUST-1", "expiryDate": ahead(time.Hour)}).text(t, "token"))
		settings := func(with object) {
			t.Helper()
			doc := w.api.do(t, "GET", query("/v1/configuration", "applicationId", w.id), nil).want(t, 200).body
			for name, v := range with {
				doc.(object)["application"].(object)[name] = v
			}
			w.api.do(t, "PUT", query("/v1/configuration", "applicationId", w.id), doc).want(t, 200)
		}
		target, public := query("/v1/consent-state", "templateId", template), query("/v1/unauthenticated/consent-state", "templateId", template)
		from := func(c *client, origin, target string) int {
			t.Helper()
			a := c.with("Origin", origin).do(t, "GET", target, nil)
			if a.header.Get("Access-Control-Allow-Origin") != "*" || !strings.Contains(a.header.Get("Access-Control-Expose-Headers"), "X-Request-Id") {
				t.Errorf("%s from %s: a page cannot read the answer: %v", target, origin, a.header)
			}
			return a.status
		}
		const shop, other = "https://shop.example", "https://other.example"
		if got := from(own, shop, target); got != 200 {
			t.Errorf("any origin with a token: %d", got)
		}
		if got := from(nobody, shop, target); got != 401 {
			t.Errorf("without a token: %d", got)
		}
		if got := from(nobody, shop, public); got != 404 {
			t.Errorf("in public where it is off: %d", got)
		}
		settings(object{"allowedOrigins": []string{shop}, "unauthenticatedCapture": true})
		for _, c := range []struct {
			who    *client
			origin string
			target string
			want   int
		}{
			{own, shop, target, 200},
			{own, other, target, 403},
			{own, "null", "/v1/citizens/me/history", 403},
			{own, w.server.URL, target, 200},
			{nobody, shop, public, 200},
			{nobody, other, public, 403},
			{nobody, w.server.URL, public, 200},
			{nobody, shop, query("/v1/unauthenticated/consent-state", "templateId", "all"), 404}, // a reference is not enough
		} {
			if got := from(c.who, c.origin, c.target); got != c.want {
				t.Errorf("%s from %s: %d, want %d", c.target, c.origin, got, c.want)
			}
		}
	})
}

func TestCreationDefaults(t *testing.T) {
	harness.OnEachStore(t, func(t *testing.T, s *harness.Store) {
		w := start(t, s, northwind)
		w.citizen(t, "before")
		w.api.do(t, "POST", "/v1/configuration/templates", object{"applicationId": w.id, "reference": "citizen-creation-defaults", "name": "Defaults", "privacyPolicy": "policy-01", "blocks": []object{
			{"type": "permissions", "statement": "statement-01", "options": []object{{"option": "research-email", "justification": "legitimate-interest"}, {"option": "newsletter-email", "justification": "consent"}}},
		}}).want(t, 201)
		w.citizen(t, "created")
		w.record(t, "recorded", change("newsletter-email", "consent", "GRANTED"))
		form := w.form(t, w.api, "citizen-creation-defaults", "externalRef", "answered")
		edit(t, form.body, "blocks.0.options.0.selected", false)
		w.api.do(t, "POST", "/v1/consent-state", form.body).want(t, 200)
		w.api.do(t, "POST", "/v1/citizens/bulk", object{"applicationId": w.id, "citizens": []object{{"externalRef": "bulk"}}}).want(t, 200)
		for ref, want := range map[string]string{
			"before": "map[]", "created": "map[research-email:CLAIMED]", "recorded": "map[newsletter-email:GRANTED research-email:CLAIMED]",
			"answered": "map[research-email:OBJECTION_UPHELD]", "bulk": "map[research-email:CLAIMED]",
		} {
			states := map[string]any{}
			for _, p := range w.api.do(t, "GET", query("/v1/permissions", "applicationId", w.id, "externalRef", ref), nil).want(t, 200).list(t, "permissions") {
				states[p["optionId"].(string)] = p["state"]
			}
			if got := fmt.Sprint(states); got != want {
				t.Errorf("%s: %s, want %s", ref, got, want)
			}
		}
	})
}
