package web

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"strconv"
	"strings"
	"sync"
)

// File is something that is served as it is to everybody.
type File struct {
	body        []byte
	gzipped     []byte // nil where it would not be smaller
	contentType string
	tag         string
}

// contentTypes are those that Go's own table has not, or not on every machine.
var contentTypes = map[string]string{
	".woff2": "font/woff2",
	".mjs":   "text/javascript; charset=utf-8",
	".ts":    "text/plain; charset=utf-8",
	".json":  "application/json",
}

// NewFile makes a file of its content; the ending of the name says what that is.
func NewFile(name string, body []byte) File {
	f := File{body: body, contentType: contentTypes[path.Ext(name)]}
	if f.contentType == "" {
		f.contentType = mime.TypeByExtension(path.Ext(name))
	}
	if path.Ext(name) != ".woff2" { // compressed already
		if z := compress(body); len(z) < len(body) {
			f.gzipped = z
		}
	}
	digest := sha256.Sum256(body)
	f.tag = `W/"` + base64.RawURLEncoding.EncodeToString(digest[:12]) + `"` // weak: it is that of every encoding
	return f
}

// Integrity gives what a page says of a script that it will run in no other version.
func (f File) Integrity() string {
	digest := sha512.Sum384(f.body)
	return "sha384-" + base64.StdEncoding.EncodeToString(digest[:])
}

// ServeHTTP answers a GET or HEAD. How long the answer may be kept, and by whom it may
// be used, is for the caller to say before.
func (f File) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("ETag", f.tag)
	h.Set("X-Content-Type-Options", "nosniff")
	body := f.body
	if f.gzipped != nil {
		h.Set("Vary", "Accept-Encoding")
		if acceptsGzip(r) {
			h.Set("Content-Encoding", "gzip")
			body = f.gzipped
		}
	}
	if strings.Contains(r.Header.Get("If-None-Match"), f.tag) {
		h.Del("Content-Encoding")
		w.WriteHeader(http.StatusNotModified)
		return
	}
	h.Set("Content-Type", f.contentType)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	if r.Method != http.MethodHead {
		_, _ = w.Write(body) // the reader going away is no fault of ours
	}
}

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

func acceptsGzip(r *http.Request) bool {
	for coding := range strings.SplitSeq(r.Header.Get("Accept-Encoding"), ",") {
		name, quality, _ := strings.Cut(strings.TrimSpace(coding), ";")
		if name == "gzip" && strings.TrimSpace(quality) != "q=0" {
			return true
		}
	}
	return false
}

// Widgets are the scripts for the pages of others, and what goes with them, by name.
var Widgets = sync.OnceValue(func() map[string]File {
	entries, err := fs.ReadDir(bundle, "assets/widget")
	all := map[string]File{}
	for _, e := range entries {
		var b []byte
		if b, err = fs.ReadFile(bundle, "assets/widget/"+e.Name()); err != nil {
			break
		}
		all[e.Name()] = NewFile(e.Name(), b)
	}
	if err != nil {
		panic("web: the widgets are compiled in and cannot be read: " + err.Error())
	}
	return all
})
