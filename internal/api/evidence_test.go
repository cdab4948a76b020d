package api_test

import (
	"strings"
	"testing"

	"github.com/opencpm/opencpm/internal/api"
)

// The evidence of somebody of whom nothing is recorded names them as any other does.
func TestEvidenceOfNothing(t *testing.T) {
	w := newWorld(t, api.Options{})
	id := w.ok(200, "POST", "/v1/citizens", map[string]any{"applicationId": "northwind", "externalRef": "jordan"}).json["citizenId"].(string)
	if a := w.ok(200, "GET", "/v1/citizens/"+id+"/evidence", nil); a.json["externalRef"] != "jordan" {
		t.Errorf("the evidence is of %v", a.json["externalRef"])
	}
	page := w.ok(200, "GET", "/v1/citizens/"+id+"/evidence", nil, "Accept: text/html")
	if !strings.Contains(page.text, "<dt>Reference</dt><dd><bdi>jordan</bdi></dd>") || !strings.Contains(page.text, "Nothing was ever recorded") || strings.Contains(page.text, "erased") {
		t.Errorf("the page says\n%s", page.text)
	}
}
