package portal

import (
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"strings"

	"github.com/opencpm/opencpm/internal/web"
	"github.com/opencpm/opencpm/internal/words"
)

// WidgetPaths are the paths, or beginnings of paths, that Widgets answers.
var WidgetPaths = append([]string{"/w/"}, legacyScripts...)

// legacyScripts are the names under which pages load the widgets already.
var legacyScripts = []string{
	"/widgets/capture-point.min.js", "/capture-point.min.js",
	"/widgets/capture-widget.min.js", "/capture-widget.min.js",
	"/public/init.js",
}

// released is the version of a release, under whose path a script never changes.
var released = regexp.MustCompile(`^[0-9]+\.[0-9]+\.[0-9]+(-[0-9A-Za-z.]+)?$`)

// How long a script is kept: under the name of its major version for an hour, and in use
// while a newer one is fetched; under that of its release for ever.
const (
	evergreen = "public, max-age=3600, stale-while-revalidate=86400"
	pinned    = "public, max-age=31536000, immutable"
)

// Widgets serves the scripts that other pages embed, with their words, types and
// integrity values: under /w/1/ in the newest version, under /w/{version}/ in the one
// that this binary carries, and under the names that pages know from before.
func Widgets(version string) http.Handler {
	version = strings.TrimPrefix(version, "v")
	mux := http.NewServeMux()
	handle := func(path, cache string, h http.Handler) {
		mux.Handle("GET "+path, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Cache-Control", cache)
			w.Header().Set("Access-Control-Allow-Origin", "*")
			w.Header().Set("Cross-Origin-Resource-Policy", "cross-origin")
			h.ServeHTTP(w, r)
		}))
	}
	integrity := map[string]string{}
	for name, f := range web.Widgets() {
		handle("/w/1/"+name, evergreen, f)
		if strings.HasSuffix(name, "js") {
			integrity[name] = f.Integrity()
		}
		if released.MatchString(version) {
			handle("/w/"+version+"/"+name, pinned, f)
		}
	}
	for _, path := range legacyScripts {
		handle(path, evergreen, web.Widgets()["compat.js"])
	}
	handle("/w/1/integrity.json", evergreen, integrityFile(version, integrity))
	spoken := map[string]web.File{}
	for _, tag := range words.Languages() {
		_, texts := words.Texts("widget", tag.String())
		spoken[tag.String()] = web.NewFile("widget.json", texts)
	}
	handle("/w/1/words/{file}", evergreen, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		locale, isJSON := strings.CutSuffix(r.PathValue("file"), ".json")
		if !isJSON {
			http.NotFound(w, r)
			return
		}
		tag := words.In(locale).Tag.String()
		w.Header().Set("Content-Language", tag)
		spoken[tag].ServeHTTP(w, r)
	}))
	return mux
}

// integrityFile says where the version of this binary is found, and with what content.
// Of a build that is no release it says the content alone.
func integrityFile(version string, values map[string]string) http.Handler {
	type script struct {
		URL       string `json:"url,omitempty"`
		Integrity string `json:"integrity"`
	}
	scripts := map[string]script{}
	for name, value := range values {
		s := script{Integrity: value}
		if released.MatchString(version) {
			s.URL = "/w/" + version + "/" + name
		}
		scripts[name] = s
	}
	b, err := json.MarshalIndent(map[string]any{"version": version, "scripts": scripts}, "", "  ")
	if err != nil {
		panic(fmt.Sprintf("portal: the integrity values cannot be written: %v", err)) // strings only
	}
	return web.NewFile("integrity.json", append(b, '\n'))
}
