// Package web is what all pages share: the design tokens, the bundled style sheets,
// scripts and fonts under names that carry their hash, icons, and the headers that
// keep a page from running or loading anything foreign.
package web

import (
	"bytes"
	"compress/gzip"
	"embed"
	"encoding/json"
	"fmt"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"strconv"
	"strings"
	"sync"
)

//go:generate go run ./gen -out ../../web/tokens.css
//go:generate go -C ../../tools/bundle run . -web ../../web -out ../../internal/web/assets

//go:embed assets
var bundle embed.FS

// asset is one bundled file, ready to be served.
type asset struct {
	plain       []byte
	gzipped     []byte // nil where it would not be smaller
	contentType string
}

// files are the bundled assets by the name under which they are served, and the
// manifest that gives that name for the name in the sources.
var files = sync.OnceValues(func() (map[string]asset, map[string]string) {
	manifest := map[string]string{}
	b, err := bundle.ReadFile("assets/manifest.json")
	if err == nil {
		err = json.Unmarshal(b, &manifest)
	}
	if err != nil {
		panic(fmt.Sprintf("web: the asset manifest is compiled in and cannot be read: %v", err))
	}
	all := map[string]asset{}
	for _, name := range manifest {
		b, err := fs.ReadFile(bundle, "assets/"+name)
		if err != nil {
			panic(fmt.Sprintf("web: the manifest names a file that is not compiled in: %v", err))
		}
		a := asset{plain: b, contentType: mime.TypeByExtension(path.Ext(name))}
		if path.Ext(name) == ".woff2" { // not in Go's own table; compressed already
			a.contentType = "font/woff2"
		} else if z := compress(b); len(z) < len(b) {
			a.gzipped = z
		}
		all[name] = a
	}
	return all, manifest
})

func compress(b []byte) []byte {
	var out bytes.Buffer
	z, err := gzip.NewWriterLevel(&out, gzip.BestCompression)
	if err == nil {
		_, err = z.Write(b)
	}
	if err == nil {
		err = z.Close()
	}
	if err != nil {
		panic(err) // a constant level, and a buffer that cannot fail
	}
	return out.Bytes()
}

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
		h := w.Header()
		h.Set("Content-Type", a.contentType)
		h.Set("Cache-Control", "public, max-age=31536000, immutable")
		h.Set("X-Content-Type-Options", "nosniff")
		body := a.plain
		if a.gzipped != nil {
			h.Set("Vary", "Accept-Encoding")
			if acceptsGzip(r) {
				h.Set("Content-Encoding", "gzip")
				body = a.gzipped
			}
		}
		h.Set("Content-Length", strconv.Itoa(len(body)))
		if r.Method == http.MethodGet {
			_, _ = w.Write(body) // the reader going away is no fault of ours
		}
	})
}

func acceptsGzip(r *http.Request) bool {
	for coding := range strings.SplitSeq(r.Header.Get("Accept-Encoding"), ",") {
		name, quality, _ := strings.Cut(strings.TrimSpace(coding), ";")
		if name == "gzip" && strings.TrimSpace(quality) != "q=0" {
			return true
		}
	}
	return false
}
