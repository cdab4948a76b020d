package e2e_test

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/opencpm/opencpm/test/harness"
)

// A keyUse is what `secrets status --json` says of one key.
type keyUse struct {
	ID, Role string
	Values   int64
}

// keyUses asks what is sealed under which key.
func keyUses(t testing.TB, s *harness.Store) []keyUse {
	t.Helper()
	var o struct{ Keys []keyUse }
	out := s.Do(t, "secrets", "status", "--json")
	if err := json.Unmarshal([]byte(out), &o); err != nil || len(o.Keys) == 0 {
		t.Fatalf("secrets status --json printed %q: %v", out, err)
	}
	return o.Keys
}

// keyLines are the lines of a key file that hold a key.
func keyLines(t testing.TB, path string) []string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return regexp.MustCompile(`(?m)^[^#\n]+$`).FindAllString(string(text), -1)
}

func writeKeys(t testing.TB, path string, lines ...string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestRotationBesideARunningServer is the operator's way to a new sealing key: the server runs on, and afterwards the old
// key is not needed.
func TestRotationBesideARunningServer(t *testing.T) {
	harness.OnEachStore(t, func(t *testing.T, s *harness.Store) {
		r := harness.NewReceiver(t)
		w := start(t, s, northwind, impatient...)
		w.subscribe(t, r.URL+"/hook", object{"authType": "token", "tokenLocation": "query", "tokenName": "key", "token": "planted-token-51c2"})
		for i := range 20 {
			w.record(t, fmt.Sprint("CUST-", i), change("newsletter-email", "consent", "GRANTED"))
		}
		w.api.do(t, "DELETE", "/v1/citizens/"+w.citizen(t, "CUST-gone"), nil).want(t, 200, 204)
		before := keyLines(t, s.KeyFile)

		// Changes and questions go on while everything is sealed anew.
		rotated := make(chan struct{})
		var callers sync.WaitGroup
		for caller := range 3 {
			callers.Go(func() {
				for i := 0; ; i++ {
					select {
					case <-rotated:
						return
					default:
					}
					ref := fmt.Sprintf("DURING-%d-%d", caller, i)
					a := w.api.do(t, "POST", "/v1/permissions/transactions", w.transaction(ref, []object{change("newsletter-email", "consent", "GRANTED")}))
					b := w.api.do(t, "GET", w.permissionsOf(fmt.Sprint("CUST-", i%20)), nil)
					if a.status != 200 || b.status != 200 {
						t.Errorf("during the rotation: %d %s, %d %s", a.status, a.raw, b.status, b.raw)
						return
					}
				}
			})
		}
		rotate := []string{"secrets", "rotate"}
		if s.Dir == "" {
			if _, errs, err := s.Try(rotate...); err == nil || !strings.Contains(errs, "--shared-file") || len(keyLines(t, s.KeyFile)) != 1 {
				t.Errorf("a key that other servers may not have: %v, %s", err, errs)
			}
			rotate = append(rotate, "--shared-file")
		}
		out := s.Do(t, rotate...)
		close(rotated)
		callers.Wait()

		lines := keyLines(t, s.KeyFile)
		if len(lines) != 2 || lines[1] != before[0] {
			t.Fatalf("the key file has %d keys, the last one the old one: %v", len(lines), lines[len(lines)-1] == before[0])
		}
		newID, _, _ := strings.Cut(lines[0], ":")
		oldID, _, _ := strings.Cut(lines[1], ":")
		if !strings.Contains(out, newID) || !strings.Contains(out, oldID+": 0 values. Nothing is sealed under this key") {
			t.Errorf("the rotation said\n%s", out)
		}
		uses := keyUses(t, s)
		if len(uses) != 2 || uses[0].ID != newID || uses[0].Role != "seals" || uses[0].Values < 20 || uses[1] != (keyUse{oldID, "opens", 0}) {
			t.Errorf("after the rotation %+v", uses)
		}
		for _, line := range lines {
			_, key, _ := strings.Cut(line, ":")
			absent(t, "what was printed", s.Emitted.String()+out, key, "planted-token-51c2")
		}

		if s.Dir != "" {
			db, err := sql.Open("sqlite", "file:"+filepath.Join(s.Dir, "opencpm.db")+"?_pragma=busy_timeout(10000)")
			if err != nil {
				t.Fatal(err)
			}
			defer db.Close()
			var made, sealed int
			if err := db.QueryRow(`SELECT count(CASE WHEN action = 'sealing-key.create' AND object = $1 THEN 1 END), count(CASE WHEN action = 'sealing-key.reseal' AND object LIKE $1 || ': % values' THEN 1 END)
				FROM audit WHERE actor = 'operator' AND application IS NULL`, newID).Scan(&made, &sealed); err != nil || made != 1 || sealed != 1 {
				t.Errorf("the audit has %d keys made and %d rotations, %v", made, sealed, err)
			}
		}

		// The server goes on sealing, under the new key, and delivering.
		w.record(t, "CUST-after", change("newsletter-email", "consent", "GRANTED"))
		r.AwaitCount(t, "CUST-after", 1)
		if uses := keyUses(t, s); uses[1].Values != 0 {
			t.Errorf("the server still seals under the old key: %+v", uses)
		}

		w.server.Stop(t)
		writeKeys(t, s.KeyFile, lines[0])
		w.server = s.Serve(t, impatient...)
		w.api = connect(t, w.server, w.clientID, w.clientSecret)
		for i := range 20 {
			if got := w.states(t, fmt.Sprint("CUST-", i)); got["newsletter-email"] != "consent GRANTED" {
				t.Errorf("citizen %d without the old key: %v", i, got)
			}
		}
		w.record(t, "CUST-0", change("newsletter-email", "consent", "DENIED"))
		m := r.AwaitCount(t, "CUST-0", 2)
		if got := m[1].Query; got != "key=planted-token-51c2" {
			t.Errorf("the webhook came with the query %q", got)
		}
	})
}

// TestRotationInSteps hands a key out before it seals, as where every server has a copy of the key file.
func TestRotationInSteps(t *testing.T) {
	harness.OnEachStore(t, func(t *testing.T, s *harness.Store) {
		w := start(t, s, northwind)
		w.record(t, "CUST-1", change("newsletter-email", "consent", "GRANTED"))
		s.Do(t, "secrets", "add-key")
		lines := keyLines(t, s.KeyFile)
		uses := keyUses(t, s)
		if len(uses) != 2 || uses[0].Role != "seals" || uses[1].Role != "opens" || uses[1].Values != 0 {
			t.Fatalf("with a key added: %+v", uses)
		}
		writeKeys(t, s.KeyFile, lines[1], lines[0])
		s.Do(t, "secrets", "rotate", "--keep-key")
		if uses = keyUses(t, s); len(uses) != 2 || uses[0].Values == 0 || uses[1].Values != 0 || len(keyLines(t, s.KeyFile)) != 2 {
			t.Fatalf("after the rotation: %+v", uses)
		}
		if got := w.states(t, "CUST-1"); got["newsletter-email"] != "consent GRANTED" {
			t.Errorf("the server reads %v", got)
		}
		// A key that is missing is told, and what it sealed is not taken for lost.
		writeKeys(t, s.KeyFile, lines[0])
		if _, errs, err := s.Try("secrets", "status"); err == nil || !strings.Contains(errs, "sealing keys do not fit") {
			t.Errorf("without the key that seals: %v, %s", err, errs)
		}
		writeKeys(t, s.KeyFile, lines[1])
	})
}

// TestRotationNeedsAKeyFile: a key that only one process knows would make the data unreadable for all others.
func TestRotationNeedsAKeyFile(t *testing.T) {
	t.Parallel()
	s := harness.SQLite(t)
	if _, errs, err := s.Try("secrets", "rotate"); err == nil || !strings.Contains(errs, "no data") {
		t.Errorf("without data: %v, %s", err, errs)
	}
	w := start(t, s, northwind)
	w.record(t, "CUST-1", change("newsletter-email", "consent", "GRANTED"))
	w.server.Stop(t)
	lines := keyLines(t, s.KeyFile)
	if err := os.Remove(s.KeyFile); err != nil {
		t.Fatal(err)
	}
	spare := filepath.Join(t.TempDir(), "spare")
	writeKeys(t, spare, lines[0])
	if out, err := harness.Try(nil, "secrets", "add-key", "--key-file", spare); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	both := keyLines(t, spare)
	env := []string{"OPENCPM_KEY=" + both[1] + "\n" + both[0]}
	for _, args := range [][]string{{"secrets", "rotate", "--data", s.Dir}, {"secrets", "add-key", "--data", s.Dir}} {
		if out, err := harness.Try(env, args...); err == nil || !strings.Contains(out, "OPENCPM_KEY") {
			t.Errorf("%v: %v\n%s", args, err, out)
		}
	}
	if out, err := harness.Try(env, "secrets", "rotate", "--keep-key", "--data", s.Dir); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if out, err := harness.Try([]string{"OPENCPM_KEY=" + both[1]}, "check", "--data", s.Dir); err != nil {
		t.Errorf("with the new key alone: %v\n%s", err, out)
	}
}
