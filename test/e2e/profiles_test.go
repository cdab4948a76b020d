package e2e_test

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/opencpm/opencpm/test/harness"
)

// Profiles are for those on the machine who ask for them: never beside the API, and never with the command line.
func TestProfiles(t *testing.T) {
	t.Parallel()
	const address = "127.0.0.77:6060" // loopback is a whole network, and no other test uses this part of it
	server := harness.SQLite(t).Serve(t, "--pprof-listen", address)
	for url, want := range map[string]int{
		"http://" + address + "/debug/pprof/heap":    http.StatusOK,
		"http://" + address + "/debug/pprof/cmdline": http.StatusNotFound,
		server.URL + "/debug/pprof/heap":             http.StatusNotFound,
	} {
		status, body := get(t, url)
		if status != want || strings.Contains(body, "--pprof-listen") {
			t.Errorf("GET %s: %d, want %d, and nothing of the command line:\n%.200q", url, status, want, body)
		}
	}
}

// get makes a request on a connection of its own.
func get(t *testing.T, url string) (int, string) {
	t.Helper()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(body)
}
