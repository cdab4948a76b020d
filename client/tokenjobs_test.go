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
