package api_test

import (
	"maps"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/opencpm/opencpm/internal/api"
)

// details is the read form of a citizen with all that is known of them.
func details(known map[string]any) map[string]any {
	address := map[string]any{
		"streetAddress": nil, "streetAddress2": nil, "streetAddress3": nil, "addressLocality": nil,
		"addressRegion": nil, "addressCountry": nil, "postalCode": nil, "postOfficeBoxNumber": nil,
	}
	all := map[string]any{
		"applicationId": "northwind", "externalRef": "CUST-1", "givenName": nil, "additionalName": nil, "familyName": nil,
		"organisationName": nil, "email": nil, "telephone": nil, "address": address,
	}
	known = maps.Clone(known)
	if a, ok := known["address"].(map[string]any); ok {
		maps.Copy(address, a)
		delete(known, "address")
	}
	maps.Copy(all, known)
	return all
}

func (w *world) expectCitizen(a reply, id string, known map[string]any) {
	w.tb.Helper()
	want := map[string]any{"citizenId": id, "applicationDetails": []any{details(known)}}
	if diff := cmp.Diff(want, a.json); diff != "" {
		w.tb.Errorf("the citizen differs (-want +got):\n%s", diff)
	}
}

func TestCitizenFromCreationToErasure(t *testing.T) {
	t.Parallel()
	w := newWorld(t, api.Options{})
	all := map[string]any{
		"givenName": "Ada", "additionalName": "Augusta", "familyName": "Byron", "organisationName": "Analytical Engines", "email": "ada@example.com", "telephone": "+44 20 7946 0000",
		"address": map[string]any{
			"streetAddress": "12 St James's Square", "streetAddress2": "Second", "streetAddress3": "Third", "addressLocality": "London",
			"addressRegion": "Greater London", "addressCountry": "GB", "postalCode": "SW1Y 4JH", "postOfficeBoxNumber": "7",
		},
	}
	body := maps.Clone(all)
	body["applicationId"], body["externalRef"] = "northwind", "CUST-1"
	created := w.ok(http.StatusOK, "POST", "/v1/citizens", body)
	id := created.json["citizenId"].(string)
	w.expectCitizen(created, id, all)
	w.expectCitizen(w.ok(http.StatusOK, "GET", "/v1/citizens/"+id, nil), id, all)
	w.expectCitizen(w.ok(http.StatusOK, "GET", "/v1/citizens?applicationId=northwind&externalRef=CUST-1", nil), id, all)

	w.refused(http.StatusConflict, "POST", "/v1/citizens", body, "body.externalRef")

	// What is left out stays, null clears, an address is merged.
	changed := w.ok(http.StatusOK, "PATCH", "/v1/citizens/"+id, `{"givenName": "Augusta", "telephone": null, "email": "", "address": {"postalCode": null, "addressLocality": "Paris"}, "externalRef": "CUST-2"}`)
	all["givenName"], all["telephone"], all["email"], all["externalRef"] = "Augusta", nil, nil, "CUST-2"
	address := all["address"].(map[string]any)
	address["postalCode"], address["addressLocality"] = nil, "Paris"
	w.expectCitizen(changed, id, all)
	w.expectCitizen(w.ok(http.StatusOK, "PATCH", "/v1/citizens/"+id, `{"address": {}}`), id, all)
	w.expectCitizen(w.ok(http.StatusOK, "PATCH", "/v1/citizens/"+id, `{}`), id, all)
	delete(all, "address")
	w.expectCitizen(w.ok(http.StatusOK, "PATCH", "/v1/citizens/"+id, `{"address": null}`), id, all)

	w.refused(http.StatusUnprocessableEntity, "PATCH", "/v1/citizens/"+id, `{"externalRef": null}`, "body.externalRef")
	w.refused(http.StatusUnprocessableEntity, "PATCH", "/v1/citizens/"+id, `{"email": "nowhere", "givenName": null}`, "body.email")
	w.expectCitizen(w.ok(http.StatusOK, "GET", "/v1/citizens/"+id, nil), id, all)

	w.ok(http.StatusOK, "POST", "/v1/citizens", body) // CUST-1 is free again
	w.refused(http.StatusConflict, "PATCH", "/v1/citizens/"+id, `{"externalRef": "CUST-1"}`, "body.externalRef")

	if a := w.ok(http.StatusNoContent, "DELETE", "/v1/citizens/"+id, nil); a.text != "" {
		t.Errorf("an erasure answers %q", a.text)
	}
	w.refused(http.StatusNotFound, "DELETE", "/v1/citizens/"+id, nil)
	w.refused(http.StatusNotFound, "GET", "/v1/citizens/"+id, nil)
	w.refused(http.StatusNotFound, "GET", "/v1/citizens?applicationId=northwind&externalRef=CUST-2", nil)
}

func TestCitizenOfAReferenceAlone(t *testing.T) {
	t.Parallel()
	w := newWorld(t, api.Options{})
	a := w.ok(http.StatusOK, "POST", "/v1/citizens", `{"applicationId": "northwind", "externalRef": "CUST-1", "address": null, "givenName": null}`)
	w.expectCitizen(a, a.json["citizenId"].(string), nil)
	longest := strings.Repeat("é", 100)
	w.ok(http.StatusOK, "POST", "/v1/citizens", map[string]string{"applicationId": "northwind", "externalRef": longest})
	w.ok(http.StatusOK, "POST", "/v1/citizens", map[string]string{"applicationId": "northwind", "externalRef": "cust-1"}) // byte for byte
}
