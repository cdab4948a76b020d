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
