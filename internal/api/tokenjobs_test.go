package api_test

import (
	"maps"
	"net/http"
	"strings"
	"testing"

	"github.com/opencpm/opencpm/internal/api"
)

// A search that found nobody must not make tokens of everybody.
func TestTokensOfNobodyAreNotThoseOfEveryone(t *testing.T) {
	t.Parallel()
	w := newWorld(t, api.Options{})
	for _, c := range []struct {
		named map[string]any
		wrong []string
	}{
		{map[string]any{"citizenIds": []string{}}, []string{"body.citizenIds"}},
		{map[string]any{"externalRefs": []string{}}, []string{"body.externalRefs"}},
		{map[string]any{"citizenIds": []string{}, "externalRefs": nil}, []string{"body.citizenIds"}},
		{map[string]any{"citizenIds": []string{}, "externalRefs": []string{}}, []string{"body.citizenIds", "body.externalRefs"}},
		{map[string]any{"citizenIds": []string{}, "externalRefs": []string{"CUST-1"}}, []string{"body.citizenIds"}},
		{map[string]any{}, nil},
		{map[string]any{"citizenIds": nil}, nil},
		{map[string]any{"externalRefs": []string{"CUST-1"}}, nil},
	} {
		request := map[string]any{"applicationId": "northwind"}
		maps.Copy(request, c.named)
		if c.wrong == nil {
			w.ok(http.StatusCreated, "POST", "/v1/access-tokens/jobs", request)
			continue
		}
		a := w.refused(http.StatusUnprocessableEntity, "POST", "/v1/access-tokens/jobs", request, c.wrong...)
		if !strings.Contains(a.text, "at least one citizen, or be left out") {
			t.Errorf("%v is answered with %s", c.named, a.text)
		}
	}
}
