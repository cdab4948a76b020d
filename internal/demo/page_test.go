package demo_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/opencpm/opencpm/internal/demo"
	"github.com/opencpm/opencpm/internal/web"
)

func get(t *testing.T, url string) (int, http.Header, string) {
	t.Helper()
	res, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	return res.StatusCode, res.Header, string(body)
}

// shown gives the text of the page, with all white space as single blanks.
func shown(html string) string {
	text := regexp.MustCompile(`(?s)<(script|style|title)\b.*?</(script|style|title)>|<[^>]*>`).ReplaceAllString(html, " ")
	return strings.Join(strings.Fields(text), " ")
}

func TestThePage(t *testing.T) {
	s := newSite(t)
	s.Progress(2000, 2000)
	s.play(t)
	status, header, body := get(t, s.url)
	if status != 200 || header.Get("Content-Type") != "text/html; charset=utf-8" {
		t.Errorf("answered %d %s", status, header.Get("Content-Type"))
	}
	for name, want := range map[string]string{
		"Content-Security-Policy": web.Policy, "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cache-Control": "no-store",
	} {
		if got := header.Get(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	if inline := regexp.MustCompile(`(?i)<style|\sstyle=|\son[a-z]+=|javascript:|<script[^>]*>[^<]|https?://[^1]`).FindString(body); inline != "" {
		t.Errorf("the page has something inline or foreign: %s", inline)
	}
	if n := strings.Count(body, "<h1"); n != 1 {
		t.Errorf("%d headings of the first order", n)
	}
	ids := map[string]bool{}
	for _, m := range regexp.MustCompile(`\sid="([^"]*)"`).FindAllStringSubmatch(body, -1) {
		if ids[m[1]] {
			t.Errorf("the id %s stands twice", m[1])
		}
		ids[m[1]] = true
	}
	text := shown(body)
	for _, want := range []string{
		"Citizens loaded 2,000", "Webhooks delivered 14",
		"NW-10001 Matteo Romano", "Newsletter by e-mail Not asked to Granted Why? Newsletter by e-mail, NW-10001 via curl",
		"Order updates by e-mail Claimed again Why? Order updates by e-mail, NW-10053 via checkout",
		"Offers and sales by post Claimed overruled: Objection upheld stands Why? Offers and sales by post, NW-10019 via import",
		"Offers and sales by post Claimed to Objection upheld Why? Offers and sales by post, NW-10019 via call-centre",
		"All marketing by e-mail Not asked to Denied Why? All marketing by e-mail, NW-10028 via e-mail link",
		"Offers and sales by e-mail, Trailhead Cycles Ltd Denied to Granted",
		"1 more in the same transaction · via import",
		"Full state No. 14 · 2 allowed, 1 refused, 1 pending or ended JSON",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the page does not say %q", want)
		}
	}
	if t.Failed() {
		t.Log(text)
	}
}

func TestThePageShowsBothKindsOfMessages(t *testing.T) {
	s := newSite(t)
	s.playMore(t)
	_, _, body := get(t, s.url)
	text := shown(body)
	for _, want := range []string{
		// What was recorded.
		"What do you like to do? Hiking, Camping How often may we write? Nothing chosen overruled by a later answer via preference-centre",
		"Newsletter by e-mail Granted overruled: Denied stands Why? Newsletter by e-mail, NW-10023 via paper form · obtained ",
		"Store events by SMS until ",
		"Offers and sales by e-mail Denied to Granted Why? Offers and sales by e-mail, NW-10025 undoes an earlier transaction · via support",
		"Offers and sales by SMS Granted to Nothing Why? Offers and sales by SMS, NW-10026 undoes an earlier transaction · via support",
		"All marketing by e-mail answers for 4 options Not asked to Denied",
		// Who was told what.
		"What do you like to do? Hiking, Camping Full state No. 2 · 1 allowed, 0 refused, 2 preferences",
		"What do you like to do? Hiking, Camping Receipt No. 2 · only what changed",
		"Newsletter by e-mail Denied Offers and sales by e-mail Denied Full state No. 7 · 1 allowed, 2 refused, 1 preference",
		"Newsletter by e-mail Denied Offers and sales by e-mail Denied Receipt No. 7 · only what changed",
		"Store events by SMS Ended Receipt By time alone · No. 8 · only what changed",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the page does not say %q", want)
		}
	}
	if t.Failed() {
		t.Log(text)
	}
}

func TestWhy(t *testing.T) {
	s := newSite(t)
	before := time.Now().Add(-24 * time.Hour)
	ref := s.tell(t)
	ask := func(query string) string {
		t.Helper()
		status, _, body := get(t, s.url+"/?citizen="+ref+query)
		fragmentStatus, _, fragment := get(t, s.url+"/demo/why?citizen="+ref+query)
		_, panel, found := strings.Cut(body, "<section class=\"card asked\"")
		if status != 200 || fragmentStatus != 200 || !found {
			t.Fatalf("%s was answered %d, %d", query, status, fragmentStatus)
		}
		panel, _, _ = strings.Cut(panel, "</section>")
		panel = shown("<" + panel)
		if got := shown(fragment); got != panel {
			t.Errorf("%s: the page says\n%s\nand the fragment\n%s", query, panel, got)
		}
		return panel
	}
	for _, test := range []struct {
		query string
		want  []string
	}{
		{"&why=newsletter-email", []string{
			"Why: Newsletter by e-mail " + ref, "Now: Granted until ",
			"1. Granted is Dropped by answer 3 Rule 4 The person refused after it, which ends it for good. via checkout · obtained ",
			"2. Granted is Dropped by answer 3 Rule 4 The person refused after it, which ends it for good. via paper form · obtained ",
			"3. Denied is Superseded by answer 6 Rule 2",
			"via e-mail link · for the group “All marketing by e-mail” · obtained ",
			"4. Granted is Expired Rule 1 Its validity had ended on ",
			"5. Denied is Reverted A later transaction undid it. via call-centre",
			"6. Granted is Effective Rule 2 This is the latest answer that counts, so it decides. via preference-centre",
			"7. Pending is Pending by answer 6 Rule 6 It waits for its confirmation",
		}},
		{"&why=group%3Aall-marketing-email", []string{"Why: All marketing by e-mail", "Now: Denied 1. Denied is Effective Rule 2"}},
		{"&why=offers-post", []string{"Now: Objection upheld 1. Objection upheld is Effective", "2. Claimed is Overruled by answer 1 Rule 5"}},
		{"&why=offers-phone", []string{"Now: Nothing stands Nothing was recorded by then, so nothing is permitted."}},
		// As of yesterday, what was obtained today did not apply; the refusal did.
		{"&why=newsletter-email&asOf=" + before.Format("2006-01-02T15:04:05"), []string{"At " + before.Format("2"), ": Denied 1.", "3. Denied is Effective", "6. Granted is Later Rule 2 It was obtained after the instant asked about."}},
		// As known yesterday, nothing was recorded yet.
		{"&why=newsletter-email&knownAt=" + before.Format("2006-01-02T15:04"), []string{"Now, as known at " + before.Format("2"), "Nothing stands Nothing was recorded by then"}},
		{"&why=newsletter-email&asOf=yesterday", []string{"A time is not one: give it as 2026-11-22T14:30."}},
		{"&why=nonsense", []string{"Why: nonsense", "The API does not understand the question: optionId names no option of the application."}},
	} {
		text := ask(test.query)
		for _, want := range test.want {
			if !strings.Contains(text, want) {
				t.Errorf("%s: the answer does not say %q:\n%s", test.query, want, text)
			}
		}
	}
}

func TestWhatAppliesToACitizen(t *testing.T) {
	s := newSite(t)
	ref := s.tell(t)
	state := func(ref string) string {
		t.Helper()
		_, _, body := get(t, s.url+"/?citizen="+ref)
		_, _, fragment := get(t, s.url+"/demo/state?citizen="+ref)
		if page := shown(body); !strings.Contains(page, shown(fragment)) {
			t.Errorf("the page does not hold the fragment:\n%s\n%s", page, shown(fragment))
		}
		return shown(fragment)
	}
	text := state(ref)
	for _, want := range []string{
		"What applies to " + ref + " ", "Newsletter by e-mail until ", "Granted Why? Newsletter by e-mail, " + ref,
		"Offers and sales by post Objection upheld Why? Offers and sales by post", "All marketing by e-mail group Denied Why?",
		"Preferences How often may we write? Nothing chosen What do you like to do? Hiking, Winter sports",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the page does not say %q:\n%s", want, text)
		}
	}
	if text := state("NW-1"); !strings.HasSuffix(text, "There is no such citizen.") {
		t.Errorf("of an unknown citizen: %s", text)
	}
	s.api.refuse = func() int { return 500 }
	if text := state(ref); !strings.HasSuffix(text, "The API does not answer. Try again in a moment.") {
		t.Errorf("of an API that fails: %s", text)
	}
}

func TestOneCitizenAlone(t *testing.T) {
	s := newSite(t)
	s.play(t)
	for i := range 400 { // so many that the first is no longer among the last
		send(t, s.receiver, message(fmt.Sprintf("X-%d", i), 1, time.Now(), "citizen.changed"), http.StatusNoContent)
	}
	_, _, body := get(t, s.url+"/?citizen=NW-10019")
	if refs := regexp.MustCompile(`data-citizen="([^"]*)"`).FindAllStringSubmatch(body, -1); len(refs) != 3 || refs[0][1] != "NW-10019" || refs[2][1] != "NW-10019" {
		t.Errorf("rows of %v, want two changes and the state that is held", refs)
	}
	link := regexp.MustCompile(`/demo/messages/\d+`).FindString(body)
	status, header, message := get(t, s.url+link)
	if status != 200 || header.Get("Content-Type") != "application/json" || !strings.Contains(message, "\n  \"externalRef\": \"NW-10019\"") {
		t.Errorf("answered %d %s: %.200s", status, header.Get("Content-Type"), message)
	}
}

func TestWhatThePageDoesNotServe(t *testing.T) {
	s := newSite(t)
	for _, path := range []string{"/other", "/demo", "/demo/messages/1", "/demo/messages/x", "/demo/messages/", "/demo/assets/demo.css", "/demo/assets/", "/demo/assets/manifest.json"} {
		if status, _, _ := get(t, s.url+path); status != 404 {
			t.Errorf("%s answered %d", path, status)
		}
	}
	res, err := http.Post(s.url, "text/plain", strings.NewReader("x"))
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("a POST was answered %d", res.StatusCode)
	}
}

// update is one event as the reader gets it.
type update struct {
	Reset             bool
	Changes, Webhooks string
	Facts             map[string]string
	Done, Total       int
}

// stream is a reader of the events.
type stream struct {
	t     *testing.T
	lines *bufio.Reader
}

// follow opens a stream from a mark on.
func (s *site) follow(t *testing.T, query, lastEventID string) *stream {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.url+"/demo/events"+query, nil)
	if err != nil {
		t.Fatal(err)
	}
	if lastEventID != "" {
		req.Header.Set("Last-Event-ID", lastEventID)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { res.Body.Close() })
	if res.StatusCode != http.StatusOK || res.Header.Get("Content-Type") != "text/event-stream" {
		t.Fatalf("answered %d %s", res.StatusCode, res.Header.Get("Content-Type"))
	}
	return &stream{t, bufio.NewReader(res.Body)}
}

func (r *stream) next() (id string, u update) {
	r.t.Helper()
	for {
		line, err := r.lines.ReadString('\n')
		if err != nil {
			r.t.Fatalf("the stream ended: %v", err)
		}
		name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
		switch {
		case name == "id":
			id = value
		case name == "data":
			if err := json.Unmarshal([]byte(value), &u); err != nil {
				r.t.Fatal(err)
			}
		case line == "\n" && id != "":
			return id, u
		}
	}
}

func TestTheStreamGoesOnFromItsMark(t *testing.T) {
	s := newSite(t)
	s.act(t, 0, 1)
	mark, first := s.follow(t, "", "").next()
	if !first.Reset || strings.Count(first.Changes, "NW-10001") == 0 || first.Facts["recorded"] != "1" {
		t.Errorf("a reader without a mark gets %+v", first)
	}
	reader := s.follow(t, "?after="+mark, "")
	if _, u := reader.next(); u.Reset || u.Changes != "" || u.Webhooks != "" {
		t.Errorf("a reader who has everything gets %+v", u)
	}
	s.act(t, 1, 1)
	for recorded := 0; recorded < 1; { // change and webhook may come in one event, or in two
		_, u := reader.next()
		if strings.Contains(u.Changes+u.Webhooks, "NW-10001") {
			t.Errorf("what the reader has comes again: %+v", u)
		}
		recorded += strings.Count(u.Changes, `data-citizen="NW-10002"`)
	}
	// The browser's own mark, on its reconnecting, is later than that of the address.
	later, _ := s.follow(t, "?after="+mark, "").next()
	if _, u := s.follow(t, "?after="+mark, later).next(); u.Reset || u.Changes != "" {
		t.Errorf("after reconnecting: %+v", u)
	}
	for _, foreign := range []string{"another-1", "nonsense", "-", "1"} {
		if _, u := s.follow(t, "?after="+foreign, "").next(); !u.Reset || strings.Count(u.Changes, "data-citizen") != 2 {
			t.Errorf("with the mark %s: %+v", foreign, u)
		}
	}
}

func TestTheStreamTellsTheEndOfLoading(t *testing.T) {
	s := newSite(t)
	reader := s.follow(t, "", "")
	reader.next()
	for _, done := range []int{500, 1999, 2000} {
		s.Progress(done, 2000)
		if _, u := reader.next(); u.Done != done || u.Total != 2000 || u.Facts["progress"] != map[int]string{500: "500 of 2,000", 1999: "1,999 of 2,000", 2000: "2,000 of 2,000"}[done] {
			t.Errorf("after %d: %+v", done, u)
		}
	}
}

func TestStreamsAreCountedAndEnd(t *testing.T) {
	s := newSite(t)
	var readers []*stream
	for range 64 {
		r := s.follow(t, "", "")
		r.next()
		readers = append(readers, r)
	}
	status, header, _ := get(t, s.url+"/demo/events")
	if status != 503 || header.Get("Retry-After") == "" {
		t.Errorf("one reader too many was answered %d", status)
	}
	s.Close()
	for i, r := range readers {
		if rest, err := io.ReadAll(r.lines); err != nil || len(rest) > 0 {
			t.Errorf("stream %d ended with %q, %v", i, rest, err)
		}
	}
}

// The lines must mean to a shell what they say, whatever the keys look like.
func TestTheCurlLinesAreForAShell(t *testing.T) {
	hostile := demo.PageConfig{BaseURL: "http://127.0.0.1:8080", ApplicationID: "it's & mine", APIKey: "a'b$c `d`", ClientID: "i&d", ClientSecret: "s=c r&t"}
	page := httptest.NewServer(demo.NewPage(hostile, demo.NewReceiver(), demo.NewInbox()))
	defer page.Close()
	_, _, body := get(t, page.URL)
	lines := regexp.MustCompile(`<code id="(curl-[a-z]+)">([^<]*)</code>`).FindAllStringSubmatch(body, -1)
	want := [][]string{
		{"-s", "http://127.0.0.1:8080/oauth/token", "-d", "grant_type=client_credentials", "-d", "client_id=i%26d", "-d", "client_secret=s%3Dc+r%26t"},
		{
			"-s", "http://127.0.0.1:8080/v1/permissions/transactions", "-H", "X-API-Key: a'b$c `d`", "-H", "Content-Type: application/json", "-d",
			`{"applicationId":"it's \u0026 mine","externalRef":"NW-10001","changes":[{"optionType":"option","optionId":"newsletter-email","justification":"consent","state":"GRANTED"}],"channel":"curl"}`,
		},
		{"-s", "-H", "X-API-Key: a'b$c `d`", "http://127.0.0.1:8080/v1/permissions?applicationId=it%27s+%26+mine&externalRef=NW-10001"},
		{"-s", "-H", "X-API-Key: a'b$c `d`", "http://127.0.0.1:8080/v1/permissions/explain?applicationId=it%27s+%26+mine&externalRef=NW-10001&optionId=newsletter-email"},
	}
	if len(lines) != len(want) {
		t.Fatalf("%d lines", len(lines))
	}
	unescape := strings.NewReplacer("&#39;", "'", "&#34;", `"`, "&amp;", "&", "&#43;", "+", "&lt;", "<", "&gt;", ">", "&#96;", "`")
	for i, l := range lines {
		line := unescape.Replace(l[2])
		out, err := exec.Command("sh", "-c", `curl() { printf '%s\n' "$@"; }; `+line).Output()
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		if got := strings.Split(strings.TrimSuffix(string(out), "\n"), "\n"); fmt.Sprintf("%q", got) != fmt.Sprintf("%q", want[i]) {
			t.Errorf("the line %s\nmeans %q\nwant  %q", line, got, want[i])
		}
	}
}
