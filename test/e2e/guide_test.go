package e2e_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/opencpm/opencpm/test/harness"
)

const (
	guide     = "../../docs/guides/webhooks.md"
	receivers = "../../docs/guides/webhooks"
)

// The secrets of the tests of receivers.
const (
	oldSecret   = "whsec_b2xkLW9sZC1vbGQtb2xkLW9sZC1vbGQtb2xkLW9sZA=="
	newSecret   = "whsec_bmV3LW5ldy1uZXctbmV3LW5ldy1uZXctbmV3LW5ldw=="
	wrongSecret = "whsec_d3Jvbmctd3Jvbmctd3Jvbmctd3Jvbmctd3Jvbmctd3I="
)

// programs are the receivers of the guide and how each is started to listen on a port of loopback. What a program needs
// is installed by scripts/setup.
var programs = map[string]func(ctx context.Context, dir, port string) *exec.Cmd{
	"receiver.go": func(ctx context.Context, dir, _ string) *exec.Cmd {
		built := filepath.Join(dir, "receiver")
		if out, err := exec.CommandContext(ctx, "go", "build", "-o", built, receivers+"/receiver.go").CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "%s", out)
		}
		return exec.CommandContext(ctx, built)
	},
	"receiver.mjs": func(ctx context.Context, _, _ string) *exec.Cmd {
		return exec.CommandContext(ctx, "node", receivers+"/receiver.mjs")
	},
	"receiver.py": func(ctx context.Context, _, _ string) *exec.Cmd {
		return exec.CommandContext(ctx, "python3", receivers+"/receiver.py")
	},
	"receiver.php": func(ctx context.Context, _, port string) *exec.Cmd {
		return exec.CommandContext(ctx, "php", "-S", "127.0.0.1:"+port, receivers+"/receiver.php")
	},
}

// example is a receiver of the guide at work.
type example struct {
	url  string
	http *http.Client
}

// startExample starts a receiver of the guide that knows these secrets, and waits until it answers.
func startExample(t *testing.T, program string, secrets ...string) *example {
	t.Helper()
	dir, port := t.TempDir(), freePort(t)
	ctx, cancel := context.WithCancel(context.Background())
	cmd := programs[program](ctx, dir, port)
	cmd.Env = append(os.Environ(), "PORT="+port, "WEBHOOK_SECRETS="+strings.Join(secrets, " "), "DATABASE="+filepath.Join(dir, "receiver.db"))
	var said harness.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		cancel()
		t.Fatalf("%s cannot be started: %v; scripts/setup installs what it needs", program, err)
	}
	exited := make(chan struct{})
	go func() {
		_ = cmd.Wait() // it is killed in the end; how it went is in cmd.ProcessState
		close(exited)
	}()
	t.Cleanup(func() {
		cancel()
		<-exited
		if t.Failed() {
			t.Logf("%s said:\n%s", program, said.Tail(8<<10))
		}
	})
	e := &example{
		url:  "http://127.0.0.1:" + port,
		http: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: harness.Patience},
	}
	eventually(t, harness.Patience, program+" answers (scripts/setup installs what it needs)", func() bool {
		select {
		case <-exited:
			t.Fatalf("%s ended: %v; scripts/setup installs what it needs\n%s", program, cmd.ProcessState, said.String())
		default:
		}
		res, err := e.http.Get(e.url + "/citizens/nobody")
		if err != nil {
			return false
		}
		defer res.Body.Close()
		return res.StatusCode == http.StatusNotFound
	})
	return e
}

// post sends a message and returns the status of the answer.
func (e *example) post(header http.Header, body []byte) (int, error) {
	req, err := http.NewRequest(http.MethodPost, e.url+"/hook", bytes.NewReader(body))
	if err != nil {
		return 0, err
	}
	req.Header = header
	res, err := e.http.Do(req)
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	_, err = io.Copy(io.Discard, res.Body)
	return res.StatusCode, err
}

// state is what the receiver knows of a citizen: the state of each option, or nil where it knows no such citizen.
func (e *example) state(t *testing.T, ref string) map[string]string {
	t.Helper()
	res, err := e.http.Get(e.url + "/citizens/" + url.PathEscape(ref))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	var m harness.Payload
	switch raw, err := io.ReadAll(res.Body); {
	case err != nil:
		t.Fatal(err)
	case res.StatusCode == http.StatusNotFound:
		return nil
	case res.StatusCode != http.StatusOK:
		t.Fatalf("asked for %s it answers %d: %s", ref, res.StatusCode, raw)
	default:
		if err := json.Unmarshal(raw, &m); err != nil {
			t.Fatalf("asked for %s: %v: %s", ref, err, raw)
		}
	}
	return harness.States(m.Permissions)
}

// sayOf is the body of a message about the citizen of that name, sent so many seconds into a certain day.
func sayOf(citizen string, second int, state string, with ...object) []byte {
	body := object{
		"applicationId": "northwind", "citizenId": "id-of-" + citizen, "externalRef": citizen, "preferences": []any{},
		"permissions": []any{object{"optionType": "option", "optionId": "newsletter-email", "justification": "consent", "state": state}},
		"sentAt":      time.Date(2026, 3, 4, 5, 6, second, 7e6, time.UTC).Format("2006-01-02T15:04:05.000Z"),
		"eventId":     "e", "eventType": "citizen.changed", "sequence": second, "changedBy": nil, "coalesced": 1,
	}
	for _, w := range with {
		maps.Copy(body, w)
	}
	raw, err := json.Marshal(body)
	if err != nil {
		panic(err) // it is made of texts and numbers
	}
	return raw
}

// signed are the headers of a message, signed by the library of Standard Webhooks with each of the secrets.
func signed(t *testing.T, id string, at time.Time, body []byte, secrets ...string) http.Header {
	t.Helper()
	var signatures []string
	for _, secret := range secrets {
		w, err := standardwebhooks.NewWebhook(secret)
		if err != nil {
			t.Fatal(err)
		}
		signature, err := w.Sign(id, at, body)
		if err != nil {
			t.Fatal(err)
		}
		signatures = append(signatures, signature)
	}
	return http.Header{
		"Content-Type": {"application/json"}, "Webhook-Id": {id}, "Webhook-Timestamp": {strconv.FormatInt(at.Unix(), 10)},
		"Webhook-Signature": {strings.Join(signatures, " ")},
	}
}

// Every receiver of the guide keeps what the guide says, message after message.
func TestGuideReceivers(t *testing.T) {
	t.Parallel()
	const day = 24 * time.Hour
	granted, denied := map[string]string{"newsletter-email": "consent GRANTED"}, map[string]string{"newsletter-email": "consent DENIED"}
	for program := range programs {
		t.Run(program, func(t *testing.T) {
			t.Parallel()
			e := startExample(t, program, oldSecret, newSecret)
			send := func(what, id string, ago time.Duration, body []byte, want int, secrets ...string) {
				t.Helper()
				if got, err := e.post(signed(t, id, time.Now().Add(-ago), body, secrets...), body); err != nil || got != want {
					t.Errorf("%s: answers %d %v, want %d", what, got, err, want)
				}
			}
			holds := func(what, ref string, want map[string]string) {
				t.Helper()
				if diff := cmp.Diff(want, e.state(t, ref)); diff != "" {
					t.Errorf("%s: it holds (-want +got):\n%s", what, diff)
				}
			}
			const ref = "Zoë/1 & 2"

			// What must be taken.
			send("the first message", "m1", 0, sayOf(ref, 1, "GRANTED"), 204, newSecret)
			holds("the first message", ref, granted)
			send("one signed with the other secret", "m2", 0, sayOf(ref, 2, "DENIED"), 204, oldSecret)
			holds("one signed with the other secret", ref, denied)
			send("one of whose signatures the second is right", "m3", 0, sayOf(ref, 3, "GRANTED"), 204, wrongSecret, newSecret)
			holds("one of whose signatures the second is right", ref, granted)
			send("one sent four minutes ago", "m4", 4*time.Minute, sayOf(ref, 4, "DENIED"), 204, newSecret)
			holds("one sent four minutes ago", ref, denied)
			send("one from a clock four minutes fast", "m5", -4*time.Minute, sayOf(ref, 5, "GRANTED"), 204, newSecret)
			holds("one from a clock four minutes fast", ref, granted)

			// What must be refused, and must leave nothing behind.
			late := sayOf(ref, 30, "DENIED")
			send("a wrong secret", "m30", 0, late, 401, wrongSecret)
			send("no signature at all", "m30", 0, late, 401)
			send("one an hour old", "m30", time.Hour, late, 401, newSecret)
			send("one from a clock a day fast", "m30", -day, late, 401, newSecret)
			for what, tamper := range map[string]func(h http.Header) []byte{
				"another body":   func(http.Header) []byte { return sayOf(ref, 31, "DENIED") },
				"one space more": func(http.Header) []byte { return append([]byte(" "), late...) },
				"another id":     func(h http.Header) []byte { h.Set("Webhook-Id", "m31"); return late },
				"no id":          func(h http.Header) []byte { h.Del("Webhook-Id"); return late },
				"another timestamp": func(h http.Header) []byte {
					h.Set("Webhook-Timestamp", strconv.FormatInt(time.Now().Unix()+5, 10))
					return late
				},
				"no timestamp":     func(h http.Header) []byte { h.Del("Webhook-Timestamp"); return late },
				"no number":        func(h http.Header) []byte { h.Set("Webhook-Timestamp", "now"); return late },
				"no signature":     func(h http.Header) []byte { h.Del("Webhook-Signature"); return late },
				"an empty one":     func(h http.Header) []byte { h.Set("Webhook-Signature", "v1,"); return late },
				"half a signature": func(h http.Header) []byte { h.Set("Webhook-Signature", h.Get("Webhook-Signature")[:20]); return late },
				"another version": func(h http.Header) []byte {
					h.Set("Webhook-Signature", strings.Replace(h.Get("Webhook-Signature"), "v1,", "v2,", 1))
					return late
				},
			} {
				h := signed(t, "m30", time.Now(), late, newSecret)
				body := tamper(h)
				if got, err := e.post(h, body); err != nil || got != 401 {
					t.Errorf("%s: answers %d %v, want 401", what, got, err)
				}
			}
			for _, body := range []string{``, `no`, `null`, `[]`, `7`, `"text"`, `{}`, `{"citizenId":"x"}`} {
				send("the signed body "+strconv.Quote(body), "m30", 0, []byte(body), 400, newSecret)
			}
			// A receiver may hang up on one that goes on talking.
			huge := sayOf(ref, 30, "DENIED", object{"padding": long(1 << 20)})
			if got, err := e.post(signed(t, "m30", time.Now(), huge, newSecret), huge); err == nil && got != 413 {
				t.Errorf("a body of %d bytes: answers %d, want 413", len(huge), got)
			}
			holds("all that was refused", ref, granted)

			// What must be taken and change nothing.
			send("the same id again", "m5", 0, sayOf(ref, 6, "DENIED"), 204, newSecret)
			holds("the same id again", ref, granted)
			send("an older one that comes late", "m0", 0, sayOf(ref, 0, "DENIED"), 204, newSecret)
			holds("an older one that comes late", ref, granted)
			send("another one of the same instant", "m5b", 0, sayOf(ref, 5, "DENIED"), 204, newSecret)
			holds("another one of the same instant", ref, granted)
			send("a test message", "t1", 0, sayOf("test", 7, "GRANTED", object{"eventType": "test"}), 204, newSecret)
			holds("a test message", "test", nil)

			// The other kinds of messages, and the other envelope.
			send("a resync", "m8", 0, sayOf(ref, 8, "DENIED", object{"eventType": "resync"}), 204, newSecret)
			holds("a resync", ref, denied)
			send("an older resync", "m7", 0, sayOf(ref, 7, "GRANTED", object{"eventType": "resync"}), 204, newSecret)
			holds("an older resync", ref, denied)
			send("a new reference", "m9", 0, sayOf("new", 9, "GRANTED", object{"citizenId": "id-of-" + ref}), 204, newSecret)
			holds("a new reference", ref, nil)
			holds("a new reference", "new", granted)
			event, err := json.Marshal(object{
				"specversion": "1.0", "id": "m10", "source": "urn:x", "type": "com.opencpm.citizen.changed", "datacontenttype": "application/json",
				"data": json.RawMessage(sayOf("enveloped", 10, "GRANTED")),
			})
			if err != nil {
				t.Fatal(err)
			}
			h := signed(t, "m10", time.Now(), event, newSecret)
			h.Set("Content-Type", "application/cloudevents+json; charset=utf-8")
			if got, err := e.post(h, event); err != nil || got != 204 {
				t.Errorf("a CloudEvents envelope: answers %d %v, want 204", got, err)
			}
			holds("a CloudEvents envelope", "enveloped", granted)

			gone := object{"eventType": "citizen.deleted", "permissions": []any{}}
			send("an erasure", "m11", 0, sayOf("enveloped", 11, "", gone), 204, newSecret)
			holds("an erasure", "enveloped", nil)
			send("one from before the erasure", "m12", 0, sayOf("enveloped", 10, "GRANTED"), 204, newSecret)
			holds("one from before the erasure", "enveloped", nil)
		})
	}
}

var snippet = regexp.MustCompile("(?ms)^```([a-z]+) (receiver\\.[a-z]+)\n(.*?)^```$")

// What the guide shows of a receiver stands in that receiver; what it shows of a message has the keys of one.
func TestGuideShowsTheReceivers(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile(guide)
	if err != nil {
		t.Fatal(err)
	}
	shown := map[string]int{}
	for _, m := range snippet.FindAllSubmatch(page, -1) {
		name := string(m[2])
		source, err := os.ReadFile(filepath.Join(receivers, name))
		if err != nil {
			t.Error(err)
		}
		if !bytes.Contains(source, m[3]) {
			t.Errorf("the guide shows what %s does not hold:\n%s", name, m[3])
		}
		shown[name]++
	}
	examples := 0
	for _, m := range regexp.MustCompile("(?ms)^```json\n(.*?)^```$").FindAllSubmatch(page, -1) {
		var o object
		if err := json.Unmarshal(m[1], &o); err != nil {
			t.Errorf("the guide shows %v:\n%s", err, m[1])
		}
		if o["citizenId"] == nil {
			continue
		}
		examples++
		delete(o, "citizenToken")
		if diff := cmp.Diff(slices.Sorted(slices.Values(slices.Concat(payloadKeys, ourKeys, []string{"coalesced"}))), slices.Sorted(maps.Keys(o))); diff != "" {
			t.Errorf("the keys of a message (-want +shown):\n%s", diff)
		}
		for _, p := range o["permissions"].([]any) {
			if diff := cmp.Diff(slices.Sorted(slices.Values(permissionKeys)), slices.Sorted(maps.Keys(p.(object)))); diff != "" {
				t.Errorf("the keys of a permission (-want +shown):\n%s", diff)
			}
		}
	}
	if examples == 0 {
		t.Error("the guide shows no message")
	}
	for name := range programs {
		if shown[name] == 0 {
			t.Errorf("the guide shows nothing of %s", name)
		}
	}
	for _, link := range regexp.MustCompile(`\]\(([^)#:]+)\)`).FindAllSubmatch(page, -1) {
		if _, err := os.Stat(filepath.Join(filepath.Dir(guide), string(link[1]))); errors.Is(err, os.ErrNotExist) {
			t.Errorf("the guide links to %s, which is not there", link[1])
		}
	}
}

// TestGuideReceiversFollowTheServer lets the real server deliver to each receiver of the guide: signed, one of them in the
// envelope of CloudEvents, through a rotation of the secret, a withdrawal, a resync and an erasure.
func TestGuideReceiversFollowTheServer(t *testing.T) {
	t.Parallel()
	w := start(t, harness.SQLite(t), northwind, "--webhook-allow-net", "127.0.0.0/8", "--webhook-quick-delays", "50ms")
	for program := range programs {
		t.Run(program, func(t *testing.T) {
			ref := "REF-" + program
			secret := "whsec_" + base64.StdEncoding.EncodeToString([]byte("a key of at least twenty-four bytes"))
			next := "whsec_" + base64.StdEncoding.EncodeToString([]byte("another key of twenty-four and more"))
			e := startExample(t, program, secret, next)
			format := "plain"
			if program == "receiver.mjs" {
				format = "cloudevents"
			}
			id := w.subscribe(t, e.url+"/hook", object{"signingSecret": secret, "format": format}).text(t, "id")
			follows := func(what string, states map[string]string) {
				t.Helper()
				eventually(t, harness.Patience, program+" knows "+what, func() bool { return maps.Equal(e.state(t, ref), states) })
			}
			w.record(t, ref, change("newsletter-email", "consent", "GRANTED"))
			follows("what was granted", map[string]string{"newsletter-email": "consent GRANTED"})
			w.api.do(t, "PATCH", "/v1/subscriptions/"+id, object{"signingSecret": next}).want(t, 200)
			w.record(t, ref, change("newsletter-email", "consent", "DENIED"))
			follows("what was withdrawn", map[string]string{"newsletter-email": "consent DENIED"})
			w.api.do(t, "PATCH", "/v1/subscriptions/"+id, object{"status": "paused"}).want(t, 200)
			citizen := w.record(t, ref, change("newsletter-email", "consent", "GRANTED")).text(t, "citizenId")
			w.api.do(t, "PATCH", "/v1/subscriptions/"+id, object{"status": "active"}).want(t, 200)
			w.api.do(t, "POST", "/v1/subscriptions/"+id+"/resync", object{}).want(t, 202)
			follows("what a pause had lost", map[string]string{"newsletter-email": "consent GRANTED"})
			w.api.do(t, "DELETE", "/v1/citizens/"+citizen, nil).want(t, 204)
			follows("the erasure", nil)
			w.api.do(t, "DELETE", "/v1/subscriptions/"+id, nil).want(t, 204)
		})
	}
}
