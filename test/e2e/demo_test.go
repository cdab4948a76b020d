package e2e_test

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/opencpm/opencpm/test/harness"
)

var (
	demoURL   = regexp.MustCompile(`http://127\.0\.0\.1:\d+`)
	delivered = regexp.MustCompile(`(?s)Webhooks delivered</dt>\s*<dd[^>]*>([\d,]+)<`)
	receipt   = regexp.MustCompile(`</svg>Receipt</span>`)
	fullState = regexp.MustCompile(`</svg>Full state</span>`)
	fate      = regexp.MustCompile(`<li class="decides">`)
	curlLine  = regexp.MustCompile(`<code id="curl-[a-z]+">(curl [^<]+)</code>`)
)

// The demo needs nothing, shows webhooks of both kinds within two minutes, prints lines
// that work as they stand, says what applies to a citizen and why, stops cleanly and
// goes on with its data.
func TestDemo(t *testing.T) {
	data := filepath.Join(t.TempDir(), "demo")
	url, stop := startDemo(t, data)
	page := func(query string) string {
		res, err := http.Get(url + "/" + query)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		b, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	eventually(t, 2*time.Minute, "the page shows webhooks of both kinds", func() bool {
		shown := page("")
		m := delivered.FindStringSubmatch(shown)
		return m != nil && m[1] != "0" && receipt.MatchString(shown) && fullState.MatchString(shown)
	})
	lines := curlLine.FindAllStringSubmatch(page(""), -1)
	if len(lines) != 4 {
		t.Fatalf("%d curl lines on the page", len(lines))
	}
	var answers []map[string]any
	for _, line := range lines {
		command := strings.NewReplacer("&#39;", "'", "&#34;", `"`, "&amp;", "&").Replace(line[1])
		out, err := exec.Command("sh", "-c", command).Output()
		var answer map[string]any
		if err != nil || json.Unmarshal(out, &answer) != nil {
			t.Fatalf("%s\nanswers %s, %v", command, out, err)
		}
		answers = append(answers, answer)
	}
	if answers[0]["access_token"] == nil || answers[1]["transactionId"] == nil || answers[2]["permissions"] == nil || answers[3]["explanations"] == nil {
		t.Errorf("the lines answer %v", answers)
	}
	citizen := answers[1]["citizenId"]

	// What the second line did is what applies, for a reason; and of a time before it
	// there is none.
	if shown := page("?citizen=NW-10001&why=newsletter-email"); !strings.Contains(shown, "via curl") || len(fate.FindAllString(shown, -1)) != 1 || strings.Contains(shown, "does not answer") {
		t.Errorf("the page does not say why:\n%s", shown)
	}
	if shown := page("?citizen=NW-10001&why=newsletter-email&asOf=2001-01-01T00:00"); fate.MatchString(shown) || !strings.Contains(shown, "Nothing stands") {
		t.Errorf("the page says why of a time at which nothing was:\n%s", shown)
	}
	eventually(t, 3*time.Minute, "the customers are loaded, change their minds and tell what they prefer", func() bool {
		shown := page("")
		recorded, _, _ := strings.Cut(shown, `id="webhooks"`)
		return strings.Contains(shown, `data-fact="progress">2,000 of 2,000<`) && strings.Contains(recorded, `class="why"`) && strings.Contains(recorded, `class="chosen"`)
	})
	// This one told what they like as they became a customer.
	if shown := page("?citizen=NW-10003"); !strings.Contains(shown, "What applies to") || !strings.Contains(shown, "What do you like to do?") {
		t.Errorf("the page does not show preferences:\n%s", shown)
	}
	stop()

	url, stop = startDemo(t, data)
	lines = curlLine.FindAllStringSubmatch(page(""), -1)
	out, err := exec.Command("sh", "-c", strings.NewReplacer("&#39;", "'", "&#34;", `"`, "&amp;", "&").Replace(lines[2][1])).Output()
	var answer map[string]any
	if err != nil || json.Unmarshal(out, &answer) != nil || answer["citizenId"] != citizen {
		t.Errorf("a second start answers %s for citizen %v, %v", out, citizen, err)
	}
	stop()
}

// startDemo starts the demo on a port of its own; stop ends it as Ctrl-C does and
// fails the test unless it exits well within ten seconds.
func startDemo(t *testing.T, data string) (url string, stop func()) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	cmd := harness.Command(ctx, "demo", "--listen", "127.0.0.1:0", "--data", data)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var said strings.Builder
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	url = demoURL.FindString(line)
	if err != nil || url == "" {
		t.Fatalf("the demo says %q, %v: %s", line, err, said.String())
	}
	t.Cleanup(cancel)
	return url, func() {
		t.Helper()
		asked := time.Now()
		if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Wait(); err != nil || time.Since(asked) > 10*time.Second {
			t.Errorf("Ctrl-C ended the demo after %v with %v: %s", time.Since(asked), err, said.String())
		}
	}
}
