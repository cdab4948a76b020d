package e2e_test

import (
	"testing"

	"github.com/opencpm/opencpm/test/harness"
)

// found gives the references of the citizens whom a search for an e-mail address finds.
func (w *world) found(t testing.TB, address string) []string {
	t.Helper()
	refs := []string{}
	for _, c := range w.api.do(t, "POST", "/v1/citizens/search", object{"applicationId": w.id, "emailAddress": address}).want(t, 200).list(t, "citizens") {
		refs = append(refs, c["applicationDetails"].([]any)[0].(object)["externalRef"].(string))
	}
	return refs
}

func TestEmailAddress(t *testing.T) {
	harness.OnEachStore(t, func(t *testing.T, s *harness.Store) {
		w := start(t, s, northwind)
		id := w.citizen(t, "ada", object{"email": "Ada@Example.com"})
		twin := w.citizen(t, "twin")
		email := "/v1/citizens/" + id + "/email"
		read := func(want any) {
			t.Helper()
			if want == nil {
				w.api.do(t, "GET", email, nil).want(t, 404)
			} else if got := w.api.do(t, "GET", email, nil).want(t, 200); got.at("emailAddress") != want || got.at("citizenId") != id {
				t.Errorf("the address is %s, want %v", got.raw, want)
			}
			if d := w.details(t, w.api.do(t, "GET", "/v1/citizens/"+id, nil), "ada"); d["email"] != want {
				t.Errorf("among the details is %v, want %v", d["email"], want)
			}
		}
		read("Ada@example.com")
		w.api.do(t, "GET", "/v1/citizens/"+twin+"/email", nil).want(t, 404)
		w.api.do(t, "PUT", "/v1/citizens/"+twin+"/email", object{"emailAddress": "ada@EXAMPLE.com"}).want(t, 204)
		if got := w.found(t, "ADA@example.com"); len(got) != 2 || got[0] != "ada" || got[1] != "twin" {
			t.Errorf("found %v", got)
		}
		w.api.do(t, "PUT", email, object{"emailAddress": "jörg@Bücher.example"}).want(t, 204)
		read("jörg@xn--bcher-kva.example")
		if got := w.found(t, "JÖRG@bücher.example"); len(got) != 1 || got[0] != "ada" {
			t.Errorf("found %v", got)
		}
		w.api.do(t, "PATCH", "/v1/citizens/"+id, object{"email": "a@example.com"}).want(t, 200)
		read("a@example.com")
		w.api.do(t, "DELETE", email, nil).want(t, 204)
		w.api.do(t, "DELETE", email, nil).want(t, 204)
		read(nil)
		for _, wrong := range []any{"", nil, "ada", "Ada <ada@example.com>", "ada@exa mple.com", 5, long(201) + "@example.com"} {
			w.api.do(t, "PUT", email, object{"emailAddress": wrong}).want(t, 422)
			w.api.do(t, "POST", "/v1/citizens/search", object{"applicationId": w.id, "emailAddress": wrong}).want(t, 422)
		}
		w.api.do(t, "PUT", email, object{"emailAddress": "last@example.com"}).want(t, 204)
		w.api.do(t, "DELETE", "/v1/citizens/"+id, nil).want(t, 204)
		w.api.do(t, "GET", email, nil).want(t, 404)
		if got := w.found(t, "last@example.com"); len(got) != 0 {
			t.Errorf("found %v after the erasure", got)
		}
	})
}

func TestSuppressions(t *testing.T) {
	harness.OnEachStore(t, func(t *testing.T, s *harness.Store) {
		w, receiver, _ := hooked(t, s, northwind)
		grace := object{"email": "Grace@Example.com", "telephone": "020 7946 0018", "address": object{"addressCountry": "GB"}}
		id := w.citizen(t, "grace", grace)
		w.record(t, "grace", change("newsletter-email", "consent", "GRANTED"))
		granted := w.record(t, "grace", change("research-email", "legitimate-interest", "CLAIMED")).text(t, "transactionId")
		is := func(ref, newsletter, research string) {
			t.Helper()
			if got := w.states(t, ref); got["newsletter-email"] != newsletter || got["research-email"] != research {
				t.Errorf("%s reads as %v, want %q and %q", ref, got, newsletter, research)
			}
		}
		is("grace", "consent GRANTED", "legitimate-interest CLAIMED")
		body := object{"applicationId": w.id, "emailAddress": "GRACE@example.com", "channels": []string{"email"}, "reason": "asked by telephone", "source": "support"}
		made := w.api.do(t, "POST", "/v1/suppressions", body).want(t, 200).list(t, "suppressions")
		if len(made) != 1 || made[0]["address"] != "G•••E@example.com" || made[0]["kind"] != "email" || made[0]["channel"] != "email" || made[0]["reason"] != "asked by telephone" || made[0]["liftedAt"] != nil {
			t.Fatalf("made %v", made)
		}
		is("grace", "consent DENIED", "legitimate-interest OBJECTION_UPHELD")
		receiver.AwaitState(t, "grace", map[string]string{"newsletter-email": "consent DENIED", "research-email": "legitimate-interest OBJECTION_UPHELD"})

		// Why: the record of the list, which is in the history and in the evidence.
		explained := w.explain(t, "grace", "research-email")["candidates"].([]any)[0].(object)
		history := w.api.do(t, "GET", "/v1/citizens/"+id+"/history", nil).want(t, 200).list(t, "history")
		last := history[len(history)-1]
		listed, _ := last["suppression"].(object)
		if last["kind"] != "suppression" || last["transaction"] != nil || last["submission"] != nil || listed["entryId"] != made[0]["id"] || listed["channel"].(object)["name"] != "E-mail" || listed["lifted"] != false {
			t.Errorf("the history ends with %v", last)
		}
		if explained["transactionId"] != granted || explained["fate"] != "suppressed" || explained["by"] != listed["recordId"] {
			t.Errorf("explained by %v", explained)
		}
		evidence := w.api.do(t, "GET", "/v1/citizens/"+id+"/evidence", nil).want(t, 200)
		if list := evidence.list(t, "suppressions"); len(list) != 1 || list[0]["recordId"] != listed["recordId"] || len(evidence.list(t, "chain")) != len(history) {
			t.Errorf("the evidence is %s", evidence.raw)
		}

		// The list outlives the citizen, and beats what a new one grants.
		w.api.do(t, "DELETE", "/v1/citizens/"+id, nil).want(t, 204)
		w.citizen(t, "again", object{"email": "grace@example.com"})
		w.record(t, "again", change("newsletter-email", "consent", "GRANTED"))
		is("again", "consent DENIED", "")
		late := w.citizen(t, "late")
		w.record(t, "late", change("newsletter-email", "consent", "GRANTED"))
		is("late", "consent GRANTED", "")
		w.api.do(t, "PATCH", "/v1/citizens/"+late, object{"email": "grace@example.com"}).want(t, 200)
		is("late", "consent DENIED", "")

		search := func(address object) []object {
			t.Helper()
			return w.api.do(t, "POST", "/v1/suppressions/search", with(address, "applicationId", w.id)).want(t, 200).list(t, "suppressions")
		}
		if got := search(object{"emailAddress": "grace@EXAMPLE.com"}); len(got) != 1 || got[0]["id"] != made[0]["id"] {
			t.Errorf("found %v", got)
		}
		for range 2 {
			w.api.do(t, "DELETE", "/v1/suppressions/"+made[0]["id"].(string), nil).want(t, 204)
			is("again", "consent GRANTED", "")
			is("late", "consent GRANTED", "")
		}
		receiver.AwaitState(t, "again", map[string]string{"newsletter-email": "consent GRANTED"})
		if got := search(object{"emailAddress": "grace@example.com"}); len(got) != 1 || got[0]["liftedAt"] == nil || got[0]["liftedBy"] != got[0]["createdBy"] {
			t.Errorf("kept is %v", got)
		}

		// Without channels it is all that there are; a number is found in whatever way it is written.
		w.citizen(t, "phone", grace)
		w.record(t, "phone", change("newsletter-email", "consent", "GRANTED"))
		all := w.api.do(t, "POST", "/v1/suppressions", object{"applicationId": w.id, "telephone": "+44 (0)20 7946-0018"}).want(t, 200).list(t, "suppressions")
		if len(all) < 2 || all[0]["address"] != "+44•••18" {
			t.Errorf("made %v", all)
		}
		is("phone", "consent DENIED", "")
		if got := search(object{"telephone": "+442079460018"}); len(got) != len(all) {
			t.Errorf("found %v", got)
		}
		list := w.api.do(t, "GET", query("/v1/suppressions", "applicationId", w.id, "limit", "1"), nil).want(t, 200)
		if n := list.at("total"); n != float64(len(all)+1) {
			t.Errorf("%v entries in all, want %d", n, len(all)+1)
		}
		next := w.api.do(t, "GET", query("/v1/suppressions", "applicationId", w.id, "cursor", list.text(t, "nextCursor")), nil).want(t, 200)
		if len(list.list(t, "suppressions")) != 1 || len(next.list(t, "suppressions")) != len(all) {
			t.Errorf("listed %s, then %s", list.raw, next.raw)
		}

		for field, wrong := range map[string]object{
			"emailAddress": {"emailAddress": "grace", "channels": []string{"email"}},
			"telephone":    {"telephone": "020 7946 0018", "channels": []string{"sms"}},
			"channels":     {"emailAddress": "grace@example.com", "channels": []string{"pigeon"}},
			"reason":       {"emailAddress": "grace@example.com", "reason": long(201)},
		} {
			w.api.do(t, "POST", "/v1/suppressions", with(wrong, "applicationId", w.id)).refused(t, 422, field)
		}
		for _, wrong := range []object{{}, {"emailAddress": "grace@example.com", "telephone": "+442079460018"}} {
			w.api.do(t, "POST", "/v1/suppressions", with(wrong, "applicationId", w.id)).refused(t, 422, "emailAddress")
			w.api.do(t, "POST", "/v1/suppressions/search", with(wrong, "applicationId", w.id)).refused(t, 422, "emailAddress")
		}
		w.api.do(t, "DELETE", "/v1/suppressions/"+neighbour(id), nil).want(t, 404)
	})
}
