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
		"NW-10001 Matteo Romano", "Newsletter by e-mail Not asked to Granted via curl",
		"Order updates by e-mail Claimed again via checkout",
		"Offers and sales by post Claimed overruled: Objection upheld stands via import",
		"Offers and sales by post Claimed to Objection upheld via call-centre",
		"All marketing by e-mail Not asked to Denied via e-mail link",
		"Offers and sales by e-mail, Trailhead Cycles Ltd Denied to Granted",
		"1 more in the same transaction · via import",
		"No. 14 · 2 allowed, 1 refused, 1 pending or ended JSON",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the page does not say %q", want)
		}
	}
	if t.Failed() {
		t.Log(text)
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
	page := httptest.NewServer(demo.NewPage(hostile, demo.NewReceiver()))
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
