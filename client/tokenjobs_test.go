package client_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/opencpm/opencpm/client"
)

func TestListUnsubscribe(t *testing.T) {
	want := map[string]string{"List-Unsubscribe": "<https://consent.example/u/x>", "List-Unsubscribe-Post": "List-Unsubscribe=One-Click"}
	if diff := cmp.Diff(want, client.ListUnsubscribe("https://consent.example/u/x")); diff != "" {
		t.Error(diff)
	}
}

// A list of citizens that is empty is sent, for the server to refuse: left out, it would
// mean everyone.
func TestNobodyIsNotEveryone(t *testing.T) {
	for _, c := range []struct {
		job  client.NewTokenJob
		sent string
	}{
		{client.NewTokenJob{ApplicationID: "nw"}, `{"applicationId":"nw"}`},
		{client.NewTokenJob{ApplicationID: "nw", CitizenIDs: []string{}}, `{"applicationId":"nw","citizenIds":[]}`},
		{client.NewTokenJob{ApplicationID: "nw", ExternalRefs: []string{}}, `{"applicationId":"nw","externalRefs":[]}`},
	} {
		api, got := serve(t, `{}`)
		if _, err := api.CreateTokenJob(t.Context(), c.job); err != nil {
			t.Fatal(err)
		}
		if got.Body != c.sent {
			t.Errorf("sent %s, not %s", got.Body, c.sent)
		}
	}
}
