package webtest

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
)

func TestMain(m *testing.M) { Main(m) }

// A harness that hears nothing would find every page silent.
func TestTheHarnessHears(t *testing.T) {
	for name, test := range map[string]struct{ body, want string }{
		"the console":        {`<script>console.warn("hello")</script>`, "hello"},
		"an exception":       {`<script>throw new Error("broken")</script>`, "broken"},
		"a lost promise":     {`<script>Promise.reject(new Error("lost"))</script>`, "lost"},
		"a missing file":     {`<img src="/missing.png" alt="">`, "answered 404"},
		"a breach of policy": {`<p onclick="x()">a</p><img src="http://elsewhere.invalid/x.png" alt="">`, "Content Security Policy"},
		"an end of the line": {`<script>fetch("http://127.0.0.1:1/")</script>`, "request failed"},
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path != "/" {
					http.NotFound(w, r)
					return
				}
				w.Header().Set("Content-Security-Policy", "default-src 'self' 'unsafe-inline'; connect-src *")
				w.Header().Set("Content-Type", "text/html")
				_, _ = io.WriteString(w, `<!doctype html><html lang="en"><title>t</title><link rel="icon" href="data:,">`+test.body)
			}))
			t.Cleanup(server.Close)
			tab := Open(t, View{})
			tab.Goto(server.URL)
			heard := func() bool {
				tab.mu.Lock()
				defer tab.mu.Unlock()
				return slices.ContainsFunc(tab.noise, func(n string) bool { return strings.Contains(n, test.want) })
			}
			for !heard() && t.Context().Err() == nil {
				Run[bool](tab, `new Promise(done => requestAnimationFrame(() => done(true)))`) // let the browser speak
			}
			tab.mu.Lock()
			tab.noise = nil // caused on purpose
			tab.mu.Unlock()
		})
	}
}

// recorder is a test that notes what is wrong and goes on.
type recorder struct {
	testing.TB
	errors []string
}

func (r *recorder) Errorf(format string, args ...any) {
	r.errors = append(r.errors, fmt.Sprintf(format, args...))
}

func TestTheHarnessSees(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		_, _ = io.WriteString(w, `<!doctype html><html><title>t</title><link rel="icon" href="data:,"><meta name="viewport" content="width=device-width">
			<style>.wide { width: 600px; background: #fff } .cut { width: 20px; overflow: hidden; white-space: nowrap } p { color: #999 }</style>
			<p class="wide">grey on white</p><p class="cut">cut off in the middle</p>`)
	}))
	t.Cleanup(server.Close)
	r := &recorder{TB: t}
	tab := Open(r, View{Width: 320})
	tab.Goto(server.URL)
	tab.Axe()
	tab.Fits()
	for _, want := range []string{"html-has-lang", "color-contrast", "px wider than the screen", "cut off: <p class=\"cut\">"} {
		if !slices.ContainsFunc(r.errors, func(e string) bool { return strings.Contains(e, want) }) {
			t.Errorf("nothing was said of %s: %q", want, r.errors)
		}
	}
}
