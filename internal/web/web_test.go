package web_test

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"html/template"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/opencpm/opencpm/internal/web"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Text needs 4.5 to 1, what shows the shape of a control 3 to 1 (WCAG 2.2, 1.4.3
// and 1.4.11).
const text, shape = 4.5, 3

func TestContrast(t *testing.T) {
	tokens := map[string]web.Token{}
	for _, token := range web.Tokens {
		if _, twice := tokens[token.Name]; twice {
			t.Errorf("the token %s stands twice", token.Name)
		}
		tokens[token.Name] = token
	}
	paper := "canvas surface sunken hover accent-soft mute-soft"
	for _, pair := range []struct {
		front, behind string
		least         float64
	}{
		{"ink ink-2", paper, text},
		{"ink-3", "canvas surface sunken hover accent-soft", text},
		{"accent", "canvas surface sunken hover accent-soft", text},
		{"accent-hi", "canvas surface", text},
		{"on-accent", "accent accent-hi", text},
		{"ok", "ok-soft surface canvas", text},
		{"warn", "warn-soft surface canvas", text},
		{"bad", "bad-soft surface canvas", text},
		{"info", "info-soft surface canvas", text},
		{"ink", "ok-soft warn-soft bad-soft info-soft", text},
		{"line-strong", "canvas surface sunken", shape},
		{"focus", paper, shape},
		{"chart-1 chart-2", "surface", shape},
		{"accent", "mute-soft", shape}, // progress
	} {
		for front := range strings.FieldsSeq(pair.front) {
			for behind := range strings.FieldsSeq(pair.behind) {
				f, b := tokens[front], tokens[behind]
				if f.Name == "" || b.Name == "" {
					t.Fatalf("no token %s or %s", front, behind)
				}
				for _, theme := range [][3]string{{"light", f.Light, b.Light}, {"dark", f.Dark, b.Dark}} {
					if got := contrast(t, theme[1], theme[2]); got < pair.least {
						t.Errorf("%s: %s on %s has a contrast of %.2f, want %.1f", theme[0], front, behind, got, pair.least)
					}
				}
			}
		}
	}
}

// contrast is the ratio of WCAG 2.2.
func contrast(t *testing.T, a, b string) float64 {
	x, y := luminance(t, a), luminance(t, b)
	return (max(x, y) + 0.05) / (min(x, y) + 0.05)
}

func luminance(t *testing.T, colour string) float64 {
	if !regexp.MustCompile(`^#[0-9a-f]{6}$`).MatchString(colour) {
		t.Fatalf("%q is no colour", colour)
	}
	var sum float64
	for i, weight := range []float64{0.2126, 0.7152, 0.0722} {
		n, err := strconv.ParseUint(colour[1+2*i:3+2*i], 16, 8)
		if err != nil {
			t.Fatal(err)
		}
		v := float64(n) / 255
		if v <= 0.04045 {
			v /= 12.92
		} else {
			v = math.Pow((v+0.055)/1.055, 2.4)
		}
		sum += weight * v
	}
	return sum
}

func TestTheTokenBlockIsThatOfTheTable(t *testing.T) {
	committed, err := os.ReadFile("../../web/tokens.css")
	if err != nil {
		t.Fatal(err)
	}
	if string(committed) != web.TokensCSS() {
		t.Error("web/tokens.css is not what the table makes: run go generate ./internal/web")
	}
}

// Style sheets name colours by token, and only those that there are.
func TestStyleSheetsUseTokens(t *testing.T) {
	known := map[string]bool{}
	for _, token := range web.Tokens {
		known[token.Name] = true
	}
	for _, name := range []string{"../../web/base.css", "../../web/demo/demo.css", "../../web/centre/centre.css"} {
		css, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`var\(--([a-z0-9-]+)`).FindAllSubmatch(css, -1) {
			if !known[string(m[1])] {
				t.Errorf("%s: no token %s", name, m[1])
			}
		}
		if m := regexp.MustCompile(`#[0-9a-fA-F]{3,8}\b|\brgba?\(|\bhsl\(|gradient`).Find(css); m != nil {
			t.Errorf("%s: %s is no token", name, m)
		}
	}
}

// manifest gives the served name of each asset.
func manifest(t *testing.T) map[string]string {
	t.Helper()
	b, err := os.ReadFile("assets/manifest.json")
	if err != nil {
		t.Fatal(err)
	}
	var m map[string]string
	if err := json.Unmarshal(b, &m); err != nil {
		t.Fatal(err)
	}
	return m
}

func fetch(t *testing.T, path, encoding string) *http.Response {
	t.Helper()
	req := httptest.NewRequest(http.MethodGet, path, nil)
	if encoding != "" {
		req.Header.Set("Accept-Encoding", encoding)
	}
	w := httptest.NewRecorder()
	web.Assets().ServeHTTP(w, req)
	res := w.Result()
	t.Cleanup(func() { res.Body.Close() })
	return res
}

func TestBudgets(t *testing.T) {
	for name, most := range map[string]int{"demo.js": 5 << 10, "demo.css": 12 << 10, "centre.js": 2 << 10, "centre.css": 7 << 10} {
		res := fetch(t, "/"+web.Asset(name), "gzip")
		b, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		if res.Header.Get("Content-Encoding") != "gzip" || len(b) > most {
			t.Errorf("%s weighs %d bytes with the encoding %q, want at most %d", name, len(b), res.Header.Get("Content-Encoding"), most)
		}
	}
}

func TestAssets(t *testing.T) {
	for source, served := range manifest(t) {
		plain, err := os.ReadFile("assets/" + served)
		if err != nil {
			t.Fatal(err)
		}
		if web.Asset(source) != served {
			t.Errorf("%s is served as %s, want %s", source, web.Asset(source), served)
		}
		want := map[string]string{"js": "text/javascript; charset=utf-8", "css": "text/css; charset=utf-8", "svg": "image/svg+xml", "woff2": "font/woff2"}[source[strings.LastIndex(source, ".")+1:]]
		for _, encoding := range []string{"", "gzip", "br, gzip;q=0.5", "gzip;q=0", "identity"} {
			res := fetch(t, "/anywhere/"+served, encoding)
			body, err := io.ReadAll(res.Body)
			if err != nil {
				t.Fatal(err)
			}
			if res.Header.Get("Content-Length") != strconv.Itoa(len(body)) {
				t.Errorf("%s: Content-Length %s of %d", source, res.Header.Get("Content-Length"), len(body))
			}
			if res.Header.Get("Content-Encoding") == "gzip" {
				if !strings.Contains(encoding, "gzip") || encoding == "gzip;q=0" || res.Header.Get("Vary") != "Accept-Encoding" {
					t.Errorf("%s: compressed for %q", source, encoding)
				}
				z, err := gzip.NewReader(bytes.NewReader(body))
				if err == nil {
					body, err = io.ReadAll(z)
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			if !bytes.Equal(body, plain) || res.Header.Get("Content-Type") != want || !strings.Contains(res.Header.Get("Cache-Control"), "immutable") {
				t.Errorf("%s for %q: %d bytes of %d, %v", source, encoding, len(body), len(plain), res.Header)
			}
		}
	}
	for _, path := range []string{"/demo.css", "/manifest.json", "/", "/../page.go"} {
		if res := fetch(t, path, ""); res.StatusCode != http.StatusNotFound {
			t.Errorf("%s answered %d", path, res.StatusCode)
		}
	}
	w := httptest.NewRecorder()
	web.Assets().ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/"+web.Asset("demo.js"), nil))
	if w.Code != http.StatusMethodNotAllowed || w.Header().Get("Allow") != "GET, HEAD" {
		t.Errorf("a POST answered %d", w.Code)
	}
	w = httptest.NewRecorder()
	web.Assets().ServeHTTP(w, httptest.NewRequest(http.MethodHead, "/"+web.Asset("demo.js"), nil))
	if w.Code != http.StatusOK || w.Body.Len() != 0 || w.Header().Get("Content-Length") == "0" {
		t.Errorf("a HEAD answered %d with %d bytes", w.Code, w.Body.Len())
	}
}

func TestIcons(t *testing.T) {
	entries, err := os.ReadDir("icons")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, e := range entries {
		if name, ok := strings.CutSuffix(e.Name(), ".svg"); ok {
			n++
			icon := string(web.Icon(name))
			if !strings.HasPrefix(icon, `<svg class="icon" viewBox="0 0 24 24" aria-hidden="true"><`) || !strings.HasSuffix(icon, "/></svg>") || strings.Contains(icon, "\n") || strings.Contains(icon, "style") {
				t.Errorf("%s: %s", name, icon)
			}
		}
	}
	if n == 0 {
		t.Error("no icons")
	}
}

func TestRenderIsAllOrNothing(t *testing.T) {
	tmpl := template.Must(template.New("ok").Funcs(web.Funcs).Parse(`<p>{{.}}{{icon "check"}}</p>`))
	template.Must(tmpl.New("fails").Parse(`<p>{{.Missing}}</p>`))
	w := httptest.NewRecorder()
	if err := web.Render(w, http.StatusTeapot, tmpl, "fails", struct{}{}); err == nil || w.Body.Len() > 0 || len(w.Header()) > 0 {
		t.Errorf("error %v after %q", err, w.Body)
	}
	if err := web.Render(w, http.StatusTeapot, tmpl, "ok", "<b>"); err != nil {
		t.Fatal(err)
	}
	if want := fmt.Sprintf("<p>&lt;b&gt;%s</p>", web.Icon("check")); w.Code != http.StatusTeapot || w.Body.String() != want || w.Header().Get("Content-Security-Policy") != web.Policy {
		t.Errorf("%d %s %v", w.Code, w.Body, w.Header())
	}
}
