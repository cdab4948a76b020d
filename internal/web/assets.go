// Package web is what all pages share: the design tokens, the bundled style sheets,
// scripts and fonts under names that carry their hash, icons, and the headers that
// keep a page from running or loading anything foreign.
package web

import (
	"embed"
	"encoding/json"
	"fmt"
	"io/fs"
	"net/http"
	"path"
	"sync"
)

//go:generate go run ./gen -out ../../web/tokens.css
//go:generate go -C ../../tools/bundle run . -web ../../web -out ../../internal/web/assets

//go:embed assets
var bundle embed.FS

// files are the bundled assets by the name under which they are served, and the
// manifest that gives that name for the name in the sources.
var files = sync.OnceValues(func() (map[string]File, map[string]string) {
	manifest := map[string]string{}
	b, err := bundle.ReadFile("assets/manifest.json")
	if err == nil {
		err = json.Unmarshal(b, &manifest)
	}
	if err != nil {
		panic(fmt.Sprintf("web: the asset manifest is compiled in and cannot be read: %v", err))
	}
	all := map[string]File{}
	for _, name := range manifest {
		b, err := fs.ReadFile(bundle, "assets/"+name)
		if err != nil {
			panic(fmt.Sprintf("web: the manifest names a file that is not compiled in: %v", err))
		}
		all[name] = NewFile(name, b)
	}
	return all, manifest
})

// Asset gives the name under which a bundled file is served, which changes with
// its content: demo.css becomes demo-4QX2ABCD.css. It panics on a name that is not
// bundled, which is a mistake in a template that its test finds.
func Asset(name string) string {
	_, manifest := files()
	hashed, ok := manifest[name]
	if !ok {
		panic("web: no asset " + name)
	}
	return hashed
}

// Assets serves the bundled files by the last element of the path, whatever is
// before it. What it serves never changes under its name, so browsers keep it for
// a year.
func Assets() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		all, _ := files()
		a, ok := all[path.Base(r.URL.Path)]
		switch {
		case !ok:
			http.NotFound(w, r)
			return
		case r.Method != http.MethodGet && r.Method != http.MethodHead:
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, "Method not allowed.", http.StatusMethodNotAllowed)
			return
		}
		w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
		a.ServeHTTP(w, r)
	})
}
