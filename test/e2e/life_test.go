package e2e_test

import (
	"encoding/base64"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/opencpm/opencpm/test/harness"
)

// TestDataCommandsBesideARunningServer is the operator's first hour: the server runs, and the set-up follows.
func TestDataCommandsBesideARunningServer(t *testing.T) {
	harness.OnEachStore(t, func(t *testing.T, s *harness.Store) {
		server := s.Serve(t)
		api := anonymous(t, server)
		for _, path := range []string{"/healthz", "/readyz"} {
			if status, _ := api.glance(t, path); status != 200 {
				t.Errorf("%s: %d", path, status)
			}
		}
		id := field(t, s.Do(t, "application", "create", "--name", "Northwind", "--id", "northwind", "--json"), "applicationId")
		if id != "northwind" {
			t.Errorf("--id northwind made the application %q", id)
		}
		if out, _, err := s.Try("application", "create", "--name", "Again", "--id", "northwind", "--json"); err == nil {
			t.Errorf("the same id was taken twice: %s", out)
		}
		w := &world{application: &application{store: s, id: id}, server: server}

		w.clientID, w.clientSecret = newClient(t, s, id)
		eventually(t, time.Second, "the server knows the new client", func() bool {
			return api.do(t, "POST", "/oauth/token", object{
				"grant_type": "client_credentials", "client_id": w.clientID, "client_secret": w.clientSecret,
			}).status == 200
		})
		w.api = connect(t, server, w.clientID, w.clientSecret)
		body := w.transaction("CUST-1", []object{change("newsletter-email", "consent", "GRANTED")})
		w.api.do(t, "POST", "/v1/permissions/transactions", body).refused(t, 422, "optionId")

		s.Do(t, "catalog", "import", "--application", id, northwind)
		eventually(t, time.Second, "the server knows the new catalogue", func() bool {
			return w.api.do(t, "POST", "/v1/permissions/transactions", body).status == 200
		})
		s.Do(t, "check") // beside the running server, too

		for name, args := range map[string][]string{
			"unknown application": {"client", "create", "--application", "nobody", "--json"},
			"unknown scope":       {"client", "create", "--application", id, "--scope", "everything:always", "--json"},
			"no name":             {"application", "create", "--json"},
			"unknown flag":        {"application", "create", "--name", "X", "--colour", "blue", "--json"},
			"bad time":            {"apikey", "create", "--application", id, "--expires", "soon", "--json"},
			"no such file":        {"catalog", "import", "--application", id, "no-such-file.yaml"},
		} {
			if out, errs, err := s.Try(args...); err == nil || errs == "" {
				t.Errorf("%s: accepted, or refused without a word: %q %q", name, out, errs)
			}
		}
	})
}

func TestOneServerPerDataDirectory(t *testing.T) {
	t.Parallel()
	s := harness.SQLite(t)
	w := start(t, s, northwind)
	began := time.Now()
	out, errs, err := s.Try("serve", "--listen", "127.0.0.1:0")
	if err == nil || time.Since(began) > harness.Patience {
		t.Errorf("a second server on one data directory ended with %v after %v", err, time.Since(began))
	}
	if strings.TrimSpace(out+errs) == "" {
		t.Error("it says nothing about why")
	}
	w.record(t, "CUST-1", change("newsletter-email", "consent", "GRANTED"))
}

func TestStopAndContinue(t *testing.T) {
	harness.OnEachStore(t, func(t *testing.T, s *harness.Store) {
		r := harness.NewReceiver(t)
		w := start(t, s, northwind, impatient...)
		w.subscribe(t, r.URL+"/hook")
		key := newAPIKey(t, s, w.id)

		// One message is on the wire when the server is told to stop, another waits in the failures store.
		r.Respond(harness.Answer(500))
		w.record(t, "waiting", change("newsletter-email", "consent", "GRANTED"))
		r.AwaitCount(t, "waiting", 3)
		r.Respond(func(rw http.ResponseWriter, m *harness.Message) {
			if m.ExternalRef == "on the wire" {
				time.Sleep(2 * time.Second) // a slow receiver
				return
			}
			rw.WriteHeader(http.StatusInternalServerError)
		})
		w.record(t, "on the wire", change("newsletter-email", "consent", "GRANTED"))
		r.AwaitCount(t, "on the wire", 1)
		history := w.transactions(t)
		states := w.states(t, "waiting")
		w.server.Stop(t) // exits with 0, in time
		if n := len(r.Messages("on the wire")); n != 1 {
			t.Errorf("the message on the wire was sent %d times", n)
		}
		s.Do(t, "check")

		r.Respond(harness.Answer(204))
		waiting := len(r.Messages("waiting"))
		w.server = s.Serve(t, impatient...)
		w.api = anonymous(t, w.server).with("X-API-Key", key)
		if diff := cmp.Diff(history, w.transactions(t)); diff != "" {
			t.Errorf("the history after the restart (-before +after):\n%s", diff)
		}
		if diff := cmp.Diff(states, w.states(t, "waiting")); diff != "" {
			t.Errorf("the state after the restart (-before +after):\n%s", diff)
		}
		r.AwaitCount(t, "waiting", waiting+1)
		w.record(t, "on the wire", change("newsletter-email", "consent", "DENIED"))
		m := r.Await(t, "on the wire", "the next change", func(m []harness.Message) bool { return len(m) > 1 })
		if harness.States(m[1].Permissions)["newsletter-email"] != "consent DENIED" {
			t.Errorf("what was delivered while the server drained came again: %s", m[1].Raw)
		}
		rising(t, m)
	})
}

func TestConfiguration(t *testing.T) {
	t.Parallel()
	const password = "planted-password-8c1f"
	url := "postgres://opencpm:" + password + "@db.example.com:5432/opencpm"
	file := filepath.Join(t.TempDir(), "url")
	if err := os.WriteFile(file, []byte(url+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	key := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(key, []byte("k1:"+base64.StdEncoding.EncodeToString(make([]byte, 32))+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, env := range map[string][]string{
		"variable": {"OPENCPM_DATABASE_URL=" + url, "OPENCPM_LISTEN=127.0.0.1:4711"},
		"file":     {"OPENCPM_DATABASE_URL_FILE=" + file, "OPENCPM_LISTEN=127.0.0.1:4711"},
	} {
		out, err := harness.Try(append(env, "OPENCPM_KEY_FILE="+key), "config")
		if err != nil {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
		if !strings.Contains(out, "127.0.0.1:4711") || !strings.Contains(out, "db.example.com") {
			t.Errorf("%s: config does not tell what is in effect:\n%s", name, out)
		}
		if strings.Contains(out, password) {
			t.Errorf("%s: config shows the password:\n%s", name, out)
		}
	}
	if out, err := harness.Try([]string{"OPENCPM_COLOUR=blue"}, "config"); err == nil {
		t.Errorf("an unknown variable is accepted:\n%s", out)
	}
	if out, err := harness.Try([]string{"OPENCPM_LISTEN=nowhere:at:all"}, "config"); err == nil {
		t.Errorf("a bad value is accepted:\n%s", out)
	}
}
