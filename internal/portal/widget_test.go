package portal_test

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/opencpm/opencpm/internal/portal"
	"github.com/opencpm/opencpm/internal/web"
	"github.com/opencpm/opencpm/internal/words"
)

func get(t *testing.T, h http.Handler, path string, headers ...string) *http.Response {
	t.Helper()
	r := httptest.NewRequest(http.MethodGet, path, nil)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	res := w.Result()
	t.Cleanup(func() { _ = res.Body.Close() })
	return res
}

func read(t *testing.T, res *http.Response) []byte {
	t.Helper()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func scriptOf(t *testing.T, e *embed, name string) string {
	t.Helper()
	return string(read(t, get(t, e.api.Config.Handler, "/w/1/"+name)))
}

func integrityOf(t *testing.T, e *embed, name string) string {
	t.Helper()
	var values struct {
		Scripts map[string]struct{ URL, Integrity string }
	}
	if err := json.Unmarshal(read(t, get(t, e.api.Config.Handler, "/w/1/integrity.json")), &values); err != nil {
		t.Fatal(err)
	}
	if values.Scripts[name].URL != "/w/1.4.2/"+name {
		t.Fatalf("%+v", values)
	}
	return values.Scripts[name].Integrity
}

// What a page has to load for a widget is small.
func TestBudgets(t *testing.T) {
	h := portal.Widgets("")
	for name, most := range map[string]int{"manage.js": 8 << 10, "history.js": 5 << 10, "capture.js": 8 << 10, "compat.js": 16 << 10, "consent.js": 16 << 10, "consent.mjs": 16 << 10} {
		res := get(t, h, "/w/1/"+name, "Accept-Encoding", "gzip")
		if size := len(read(t, res)); size > most || size < 1000 || res.Header.Get("Content-Encoding") != "gzip" {
			t.Errorf("%s weighs %d bytes, want at most %d compressed", name, size, most)
		}
	}
	for _, tag := range words.Languages() {
		if size := len(read(t, get(t, h, "/w/1/words/"+tag.String()+".json", "Accept-Encoding", "gzip"))); size > 2<<10 {
			t.Errorf("the words in %s weigh %d bytes", tag, size)
		}
	}
}

func TestWidgetFiles(t *testing.T) {
	h := portal.Widgets("v1.4.2")
	const hour, forever = "public, max-age=3600, stale-while-revalidate=86400", "public, max-age=31536000, immutable"
	for path, want := range map[string]struct{ file, cache, kind string }{
		"/w/1/consent.js":                {"consent.js", hour, "text/javascript; charset=utf-8"},
		"/w/1/consent.mjs":               {"consent.mjs", hour, "text/javascript; charset=utf-8"},
		"/w/1/react.mjs":                 {"react.mjs", hour, "text/javascript; charset=utf-8"},
		"/w/1/consent.d.ts":              {"consent.d.ts", hour, "text/plain; charset=utf-8"},
		"/w/1.4.2/consent.js":            {"consent.js", forever, "text/javascript; charset=utf-8"},
		"/w/1.4.2/consent.mjs":           {"consent.mjs", forever, "text/javascript; charset=utf-8"},
		"/widgets/capture-point.min.js":  {"compat.js", hour, "text/javascript; charset=utf-8"},
		"/capture-point.min.js":          {"compat.js", hour, "text/javascript; charset=utf-8"},
		"/widgets/capture-widget.min.js": {"compat.js", hour, "text/javascript; charset=utf-8"},
		"/capture-widget.min.js":         {"compat.js", hour, "text/javascript; charset=utf-8"},
		"/public/init.js":                {"compat.js", hour, "text/javascript; charset=utf-8"},
	} {
		res := get(t, h, path)
		plain, head := read(t, res), res.Header
		if res.StatusCode != http.StatusOK || head.Get("Cache-Control") != want.cache || head.Get("Content-Type") != want.kind || head.Get("Access-Control-Allow-Origin") != "*" ||
			head.Get("Cross-Origin-Resource-Policy") != "cross-origin" || head.Get("X-Content-Type-Options") != "nosniff" || head.Get("ETag") == "" || head.Get("Set-Cookie") != "" {
			t.Errorf("%s: %d %v", path, res.StatusCode, head)
		}
		if !bytes.Equal(plain, read(t, get(t, h, "/w/1/"+want.file))) {
			t.Errorf("%s is not %s", path, want.file)
		}
		packed, err := gzip.NewReader(get(t, h, path, "Accept-Encoding", "gzip").Body)
		if err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(packed); err != nil || !bytes.Equal(b, plain) {
			t.Errorf("%s is something else when it is compressed: %v", path, err)
		}
		if again := get(t, h, path, "If-None-Match", head.Get("ETag"), "Accept-Encoding", "gzip"); again.StatusCode != http.StatusNotModified || len(read(t, again)) > 0 || again.Header.Get("Content-Encoding") != "" {
			t.Errorf("%s is sent again although it is there", path)
		}
	}
	for _, path := range []string{"/w/1.4.1/consent.js", "/w/2/consent.js", "/w/1/nothing.js", "/w/1/words/en", "/w/1.4.2/integrity.json", "/w/"} {
		if res := get(t, h, path); res.StatusCode != http.StatusNotFound {
			t.Errorf("%s answered %d", path, res.StatusCode)
		}
	}
	// What is no release has no address that stands for ever.
	for _, version := range []string{"", "unknown", "v1.4.2-3-gabcdef", "v1.4.2-dirty+x"} {
		h := portal.Widgets(version)
		if res := get(t, h, "/w/"+strings.TrimPrefix(version, "v")+"/consent.js"); res.StatusCode == http.StatusOK {
			t.Errorf("%q has an address for ever", version)
		}
		if b := read(t, get(t, h, "/w/1/integrity.json")); bytes.Contains(b, []byte(`"url"`)) || !bytes.Contains(b, []byte(web.Widgets()["consent.js"].Integrity())) {
			t.Errorf("%q: %s", version, b)
		}
	}
	if w := httptest.NewRecorder(); true {
		h.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/w/1/consent.js", nil))
		if w.Code != http.StatusMethodNotAllowed {
			t.Errorf("a POST answered %d", w.Code)
		}
	}
}

func TestWidgetWords(t *testing.T) {
	h := portal.Widgets("")
	for locale, want := range map[string][2]string{"en": {"en", "Save choices"}, "de-AT": {"de", "Auswahl speichern"}, "ar": {"ar", "حفظ الاختيارات"}, "xx": {"en", "Save choices"}} {
		res := get(t, h, "/w/1/words/"+locale+".json")
		var said map[string]any
		if err := json.Unmarshal(read(t, res), &said); err != nil {
			t.Fatal(err)
		}
		if res.Header.Get("Content-Language") != want[0] || said["widget.save"] != want[1] || res.Header.Get("Content-Type") != "application/json" {
			t.Errorf("%s: %v, %v", locale, res.Header, said["widget.save"])
		}
	}
}
