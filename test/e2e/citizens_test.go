package e2e_test

import (
	"maps"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/opencpm/opencpm/test/harness"
)

// arthur has every personal detail.
var arthur = object{
	"givenName": "Arthur", "additionalName": "Philip", "familyName": "Dent", "organisationName": "BBC",
	"email": "arthur@example.com", "telephone": "+44 20 7946 0000",
	"address": object{
		"streetAddress": "155 Country Lane", "streetAddress2": "Cottage", "streetAddress3": "Near the pub",
		"addressLocality": "Cottington", "addressRegion": "Cottingshire", "addressCountry": "GB",
		"postalCode": "CO1 1AA", "postOfficeBoxNumber": "42",
	},
}

// details reads the only element of applicationDetails, which must belong to the citizen of this reference.
func (w *world) details(t testing.TB, a *answer, ref string) object {
	t.Helper()
	list := a.want(t, 200).list(t, "applicationDetails")
	if len(list) != 1 {
		t.Fatalf("%d applicationDetails, want 1: %s", len(list), a.raw)
	}
	if list[0]["applicationId"] != w.id || list[0]["externalRef"] != ref {
		t.Errorf("details of %v in %v, want %s in %s", list[0]["externalRef"], list[0]["applicationId"], ref, w.id)
	}
	if _, ok := list[0]["address"].(object); !ok {
		t.Errorf("address is %v, want an object always: %s", list[0]["address"], a.raw)
	}
	return list[0]
}

// lacking compares what was sent with what is read; what is read may say more.
func lacking(sent, read object) string {
	said := object{}
	for name := range sent {
		said[name] = read[name]
		if part, ok := sent[name].(object); ok {
			whole, _ := read[name].(object)
			some := object{}
			for n := range part {
				some[n] = whole[n]
			}
			said[name] = some
		}
	}
	return cmp.Diff(sent, said)
}

func TestCitizens(t *testing.T) {
	harness.OnEachStore(t, func(t *testing.T, s *harness.Store) {
		w := start(t, s, northwind)
		read := func(t *testing.T, id, ref string) object {
			t.Helper()
			byID := w.api.do(t, "GET", "/v1/citizens/"+id, nil)
			byRef := w.api.do(t, "GET", w.citizenByRef(ref), nil).want(t, 200)
			if diff := cmp.Diff(byID.body, byRef.body); diff != "" {
				t.Errorf("read by id and by reference it differs:\n%s", diff)
			}
			if byID.at("citizenId") != id {
				t.Errorf("citizenId %v, want %s", byID.at("citizenId"), id)
			}
			return w.details(t, byID, ref)
		}

		t.Run("reference alone", func(t *testing.T) {
			id := w.citizen(t, "bare")
			if d := read(t, id, "bare"); d["givenName"] != nil && d["givenName"] != "" {
				t.Errorf("givenName %v was never given", d["givenName"])
			}
		})

		t.Run("every detail", func(t *testing.T) {
			id := w.citizen(t, "full", arthur)
			if diff := lacking(arthur, read(t, id, "full")); diff != "" {
				t.Errorf("created and read back (-sent +read):\n%s", diff)
			}
		})

		t.Run("change", func(t *testing.T) {
			id := w.citizen(t, "changing", arthur)
			patch := func(body object) {
				body["applicationId"] = w.id
				w.api.do(t, "PATCH", "/v1/citizens/"+id, body).want(t, 200, 204)
			}
			patch(object{"givenName": "Tricia", "address": object{"postalCode": "N1 9AA"}})
			want := maps.Clone(arthur)
			want["givenName"] = "Tricia"
			want["address"] = object{"postalCode": "N1 9AA"}
			if diff := lacking(want, read(t, id, "changing")); diff != "" {
				t.Errorf("an absent field keeps (-want +read):\n%s", diff)
			}
			patch(object{"familyName": nil})
			if d := read(t, id, "changing"); d["familyName"] != nil && d["familyName"] != "" || d["givenName"] != "Tricia" {
				t.Errorf("null clears familyName alone; read %v %v", d["givenName"], d["familyName"])
			}
		})

		t.Run("an existing reference is a conflict", func(t *testing.T) {
			id := w.citizen(t, "taken", arthur)
			body := object{"applicationId": w.id, "externalRef": "taken", "givenName": "Ford"}
			w.api.do(t, "POST", "/v1/citizens", body).want(t, 409)
			if diff := lacking(arthur, read(t, id, "taken")); diff != "" {
				t.Errorf("the refused create changed the citizen:\n%s", diff)
			}
		})

		t.Run("references are compared byte for byte", func(t *testing.T) {
			ids := map[string]string{}
			for _, ref := range []string{
				"CUST-1", "cust-1", "Cust-1", "é", "e\u0301", "a b", "a+b", "a%20b", "a%2Fb", "a/b", "../up", "?q=1&r=2", "#1",
				"O'Neill; DROP TABLE citizens;--", `"quoted"`, `back\slash`, "<b>", "person@example.com", "ß", "SS", "0", "00",
				"null", "日本", "👩‍🚀", strings.Repeat("a", 100), strings.Repeat("a", 99), strings.Repeat("€", 100),
			} {
				id := w.citizen(t, ref)
				if other, ok := ids[id]; ok {
					t.Fatalf("%q is the same citizen as %q", ref, other)
				}
				ids[id] = ref
			}
			for id, ref := range ids {
				read(t, id, ref)
				a := w.record(t, ref, change("newsletter-email", "consent", "GRANTED"))
				if a.at("citizenId") != id || a.at("externalRef") != ref {
					t.Errorf("recorded for %q (%s), answered %v (%v)", ref, id, a.at("externalRef"), a.at("citizenId"))
				}
				if got := w.states(t, ref)["newsletter-email"]; got != "consent GRANTED" {
					t.Errorf("%q: state %q", ref, got)
				}
				if n := len(w.transactions(t, "externalRef", ref)); n != 1 {
					t.Errorf("%q: %d transactions, want 1", ref, n)
				}
			}
		})

		t.Run("delete", func(t *testing.T) {
			id := w.citizen(t, "leaving", arthur)
			w.record(t, "leaving", change("newsletter-email", "consent", "GRANTED"))
			w.api.do(t, "DELETE", "/v1/citizens/"+id, nil).want(t, 200, 202, 204)
			for _, target := range []string{
				"/v1/citizens/" + id, w.citizenByRef("leaving"), w.permissionsOf("leaving"),
				query("/v1/permissions", "applicationId", w.id, "citizenId", id),
			} {
				w.api.do(t, "GET", target, nil).want(t, 404)
			}
			w.api.do(t, "PATCH", "/v1/citizens/"+id, object{"applicationId": w.id, "givenName": "X"}).want(t, 404)
			w.api.do(t, "DELETE", "/v1/citizens/"+id, nil).want(t, 404)
			if again := w.citizen(t, "leaving"); again == id {
				t.Error("the reference names the erased citizen again")
			}
			if d := w.states(t, "leaving"); len(d) != 0 {
				t.Errorf("the new citizen inherits %v", d)
			}
		})

		t.Run("unknown", func(t *testing.T) {
			id := w.citizen(t, "known")
			for unknown, want := range map[string][]int{
				neighbour(id): {404}, "no-such-citizen": {404}, "0": {404},
				strings.Repeat("f", 300): {400, 404, 422}, "%00": {400, 404, 422}, "%ff": {400, 404, 422},
			} {
				w.api.do(t, "GET", "/v1/citizens/"+unknown, nil).want(t, want...)
				w.api.do(t, "PATCH", "/v1/citizens/"+unknown, object{"applicationId": w.id, "givenName": "X"}).want(t, want...)
				w.api.do(t, "DELETE", "/v1/citizens/"+unknown, nil).want(t, want...)
			}
			w.api.do(t, "GET", w.citizenByRef("nobody"), nil).want(t, 404)
			w.api.do(t, "GET", w.permissionsOf("nobody"), nil).want(t, 404)
		})

		t.Run("both ids must agree", func(t *testing.T) {
			id, other := w.citizen(t, "one"), w.citizen(t, "two")
			both := func(ref string) string {
				return query("/v1/permissions", "applicationId", w.id, "citizenId", id, "externalRef", ref)
			}
			w.api.do(t, "GET", both("one"), nil).want(t, 200)
			w.api.do(t, "GET", both("two"), nil).want(t, 404, 409, 422)
			w.api.do(t, "GET", both("nobody"), nil).want(t, 404, 409, 422)
			granted := []object{change("newsletter-email", "consent", "GRANTED")}
			for _, ref := range []string{"two", "nobody"} {
				body := w.transaction(ref, granted, object{"citizenId": id})
				w.api.do(t, "POST", "/v1/permissions/transactions", body).want(t, 404, 409, 422)
			}
			for _, c := range []string{id, other} {
				if n := len(w.transactions(t, "citizenId", c)); n != 0 {
					t.Errorf("a refused transaction was recorded for %s", c)
				}
			}
			w.api.do(t, "GET", w.citizenByRef("nobody"), nil).want(t, 404)
		})
	})
}

// neighbour is an id of the same form that was never given out.
func neighbour(id string) string {
	last := "0"
	if strings.HasSuffix(id, last) {
		last = "1"
	}
	return id[:len(id)-1] + last
}
