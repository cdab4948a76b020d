package e2e_test

import (
	"context"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/opencpm/opencpm/test/harness"
)

// listener is `opencpm webhook listen` at work.
type listener struct {
	*example
	out, said harness.Buffer
}

var waiting = regexp.MustCompile(`^Waiting for webhooks at (http://\S+)/\n`)

// startListener starts `opencpm webhook listen` on a free port; it must end well when it is told to.
func startListener(t *testing.T, env []string, args ...string) *listener {
	t.Helper()
	l := &listener{example: &example{http: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: harness.Patience}}}
	ctx, cancel := context.WithCancel(context.Background())
	cmd := harness.Command(ctx, append([]string{"webhook", "listen", "--listen", "127.0.0.1:0"}, args...)...)
	cmd.Env = append(cmd.Env, env...)
	cmd.Stdout, cmd.Stderr = &l.out, &l.said
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = harness.StopWithin
	if err := cmd.Start(); err != nil {
		cancel()
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		if _ = cmd.Wait(); cmd.ProcessState.ExitCode() != 0 {
			t.Errorf("it ended with %v:\n%s", cmd.ProcessState, l.said.String())
		}
	})
	eventually(t, harness.Patience, "it listens", func() bool {
		m := waiting.FindStringSubmatch(l.said.String())
		if m != nil {
			l.url = m[1]
		}
		return m != nil
	})
	return l
}

// send posts a message, which must be answered with the status, and returns what is written meanwhile to standard
// output and to standard error.
func (l *listener) send(t *testing.T, header http.Header, body []byte, status int) (out, said string) {
	t.Helper()
	before, beforeSaid := len(l.out.String()), len(l.said.String())
	if got, err := l.post(header, body); err != nil || got != status {
		t.Errorf("answers %d %v, want %d", got, err, status)
	}
	// It is printed before it is answered, but still on its way through a pipe.
	eventually(t, harness.Patience, "the message is printed", func() bool {
		out, said = l.out.String()[before:], l.said.String()[beforeSaid:]
		return strings.Contains(said, "signature") && strings.HasSuffix(out+said, "\n") && strings.Contains(out+said, "{")
	})
	return out, said
}

// tells requires that a block has lines that begin and end so.
func tells(t *testing.T, said string, lines ...string) {
	t.Helper()
	for _, line := range lines {
		name, text, _ := strings.Cut(line, ": ")
		if !regexp.MustCompile(`(?m)^ +` + name + ` +.*` + regexp.QuoteMeta(text) + `.*$`).MatchString(said) {
			t.Errorf("it does not say %q:\n%s", line, said)
		}
	}
}

func TestListen(t *testing.T) {
	t.Parallel()

	t.Run("without a secret", func(t *testing.T) {
		t.Parallel()
		l := startListener(t, nil)
		body := sayOf("CUST-1", 1, "GRANTED", object{"sequence": 12, "coalesced": 3, "changedBy": "crm"})
		out, said := l.send(t, http.Header{"Webhook-Id": {"m1"}}, body, 204)
		tells(t, said, "signature: unsigned", "webhook-id: m1", "event: citizen.changed", "citizen: CUST-1 (id-of-CUST-1)", "sequence: 12",
			"coalesced: 3 changes in one message", "changed by: crm", "sentAt: 2026-03-04T05:06:01.007Z")
		if !strings.Contains(said, " POST /hook, answered 204\n") || strings.Contains(said, "duplicate") || strings.Contains(said, "late") {
			t.Errorf("of a first message it says\n%s", said)
		}
		if strings.Count(out, "\n") < 15 {
			t.Errorf("the body is not set out:\n%s", out)
		}
		if diff := cmp.Diff(document(t, string(body)), document(t, out)); diff != "" {
			t.Errorf("the body (-sent +printed):\n%s", diff)
		}
		body = sayOf("CUST-1", 2, "GRANTED")
		_, said = l.send(t, signed(t, "m2", time.Now(), body, newSecret), body, 204)
		tells(t, said, "signature: not checked: set OPENCPM_WEBHOOK_SECRET")
		_, said = l.send(t, http.Header{}, []byte(`{"a":1}`), 204)
		tells(t, said, "body: not a message")
	})

	t.Run("with two secrets", func(t *testing.T) {
		t.Parallel()
		file := filepath.Join(t.TempDir(), "secret")
		if err := os.WriteFile(file, []byte(oldSecret+","+newSecret+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		l := startListener(t, []string{"OPENCPM_WEBHOOK_SECRET_FILE=" + file})
		send := func(id string, body []byte, status int, secret string) (string, string) {
			t.Helper()
			return l.send(t, signed(t, id, time.Now(), body, secret), body, status)
		}
		_, said := send("m1", sayOf("CUST-1", 5, "GRANTED"), 204, newSecret)
		tells(t, said, "signature: valid, by secret 2 of 2")
		_, said = send("m1", sayOf("CUST-1", 5, "GRANTED"), 204, oldSecret)
		tells(t, said, "signature: valid, by secret 1 of 2", "duplicate: this webhook-id came 2 times")
		_, said = send("m0", sayOf("CUST-1", 4, "GRANTED"), 204, newSecret)
		tells(t, said, "late: not newer than the last one of this citizen: a receiver must drop it")
		_, said = send("m2", sayOf("CUST-2", 1, "GRANTED"), 204, newSecret)
		if strings.Contains(said, "late") || strings.Contains(said, "duplicate") {
			t.Errorf("of another citizen's message it says\n%s", said)
		}

		out, said := send("m9", sayOf("CUST-1", 9, "DENIED"), 401, wrongSecret)
		tells(t, said, "signature: INVALID: no signature was made with the secret")
		if out != "" || !strings.Contains(said, "DENIED") {
			t.Errorf("a refused message is printed as\n%s\nand told as\n%s", out, said)
		}
		body := sayOf("CUST-1", 9, "DENIED")
		_, said = l.send(t, http.Header{}, body, 401)
		tells(t, said, "signature: INVALID: unsigned")
		_, said = l.send(t, signed(t, "m9", time.Now().Add(-time.Hour), body, newSecret), body, 401)
		tells(t, said, "signature: INVALID: the timestamp is 1h0m")
		// What was refused is not remembered.
		_, said = send("m9", sayOf("CUST-1", 6, "DENIED"), 204, newSecret)
		if strings.Contains(said, "late") || strings.Contains(said, "duplicate") {
			t.Errorf("after a forged message, of a true one it says\n%s", said)
		}

		event := []byte(`{"specversion":"1.0","id":"m10","data":` + string(sayOf("CUST-3", 1, "GRANTED")) + `}`)
		header := signed(t, "m10", time.Now(), event, newSecret)
		header.Set("Content-Type", "application/cloudevents+json")
		_, said = l.send(t, header, event, 204)
		tells(t, said, "envelope: CloudEvents", "citizen: CUST-3", "signature: valid")
	})

	t.Run("a failing endpoint, for another program", func(t *testing.T) {
		t.Parallel()
		l := startListener(t, []string{"OPENCPM_WEBHOOK_SECRET="}, "--compact", "--status", "503", "--retry-after", "7", "--delay", "300ms")
		body := sayOf("\x1b[2JZoë\u00a0\U000e0001\n", 1, "GRANTED")
		began := time.Now()
		out, said := l.send(t, http.Header{}, body, 503)
		if took := time.Since(began); took < 300*time.Millisecond {
			t.Errorf("answered after %v, want a delay of 300ms", took)
		}
		var sent, printed any
		if json.Unmarshal(body, &sent) != nil || json.Unmarshal([]byte(out), &printed) != nil || !cmp.Equal(sent, printed) {
			t.Errorf("printed\n%s\nwant\n%s", out, body)
		}
		if strings.Count(out, "\n") != 1 || strings.ContainsAny(out+said, "\x1b\u00a0\U000e0001") {
			t.Errorf("not one line of printable text: %q %q", out, said)
		}
		tells(t, said, `citizen: \u001b[2JZoë\u00a0\udb40\udc01`)
		req, err := http.NewRequest(http.MethodPost, l.url, strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		res, err := l.http.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		if got := res.Header.Get("Retry-After"); got != "7" {
			t.Errorf("Retry-After is %q, want 7", got)
		}
	})

	t.Run("a secret is never shown", func(t *testing.T) {
		t.Parallel()
		const planted = "whsec_cGxhbnRlZC1wbGFudGVk"
		for what, try := range map[string]func() (string, error){
			"on the command line": func() (string, error) { return harness.Try(nil, "webhook", "listen", "--webhook-secret", planted) },
			"too short to be one": func() (string, error) {
				return harness.Try([]string{"OPENCPM_WEBHOOK_SECRET=" + planted}, "webhook", "listen")
			},
			"beside a second file": func() (string, error) {
				return harness.Try([]string{"OPENCPM_WEBHOOK_SECRET=" + planted, "OPENCPM_WEBHOOK_SECRET_FILE=x"}, "webhook", "listen")
			},
		} {
			out, err := try()
			if err == nil || strings.Contains(out, planted) || !strings.Contains(out, "OPENCPM_WEBHOOK_SECRET") {
				t.Errorf("%s: %v\n%s", what, err, out)
			}
		}
	})
}
