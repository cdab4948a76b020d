package e2e_test

import (
	"testing"

	"github.com/opencpm/opencpm/test/harness"
)

// A telephone number that a stranger names is that of somebody new; for somebody who is
// known it waits, and never takes the place of one that they have.
func TestTheTelephoneOfACapture(t *testing.T) {
	harness.OnEachStore(t, func(t *testing.T, s *harness.Store) {
		w := start(t, s, northwind, impatient...)
		w.settings(t, object{"unauthenticatedCapture": true})
		telephone := func(ref, want string) {
			t.Helper()
			if d := w.details(t, w.api.do(t, "GET", query("/v1/citizens", "applicationId", w.id, "externalRef", ref), nil), ref); d["telephone"] != want {
				t.Errorf("the number of %s is %v, not %s", ref, d["telephone"], want)
			}
		}
		first := w.capture(t, w.api, object{"uniqueReference": "NEW-1", "telephone": "+44 20 7946 0018"}).want(t, 202)
		telephone("NEW-1", "+442079460018")
		again := w.capture(t, w.api, object{"uniqueReference": "NEW-1", "telephone": "+44 20 7946 0099"}).want(t, 202)
		if string(first.raw) != string(again.raw) {
			t.Errorf("it can be told who is known: %s, %s", first.raw, again.raw)
		}
		list := w.api.do(t, "GET", query("/v1/captures", "applicationId", w.id), nil).want(t, 200).list(t, "captures")
		if len(list) != 1 || list[0]["telephone"] != "+442079460099" {
			t.Fatalf("waiting: %v", list)
		}
		w.api.do(t, "POST", "/v1/captures/"+list[0]["id"].(string)+"/acceptance", nil).want(t, 204)
		telephone("NEW-1", "+442079460018")
		w.capture(t, w.api, object{"uniqueReference": "NEW-2", "telephone": "020 7946 0018"}).refused(t, 422, "telephone")
	})
}
