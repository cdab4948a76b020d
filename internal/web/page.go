package web

import (
	"bytes"
	"embed"
	"html/template"
	"net/http"
	"path"
	"strings"
	"sync"
)

// Policy is the Content-Security-Policy of our pages: their own files and nothing
// else, no inline script or style, and script may write HTML only through the one
// policy of web/html.ts, which takes HTML from our own server alone.
const Policy = "default-src 'none'; script-src 'self'; style-src 'self'; font-src 'self'; img-src 'self'; connect-src 'self'; " +
	"form-action 'self'; base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types opencpm"

// SetHeaders puts on an answer what keeps a page to itself. What it shows belongs
// to one reader at one moment, so nothing stores it.
func SetHeaders(h http.Header) {
	if h.Get("Content-Security-Policy") == "" { // a page that needs more has said so
		h.Set("Content-Security-Policy", Policy)
	}
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cache-Control", "no-store")
}

// Render answers with the template of that name. The page is complete before its
// first byte leaves, so that a template that fails does not leave half a page.
func Render(w http.ResponseWriter, status int, t *template.Template, name string, data any) error {
	var page bytes.Buffer
	if err := t.ExecuteTemplate(&page, name, data); err != nil {
		return err
	}
	SetHeaders(w.Header())
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(page.Bytes()) // the reader going away is no fault of ours
	return nil
}

// Funcs are the functions that every template may call.
var Funcs = template.FuncMap{
	"asset": Asset,
	"icon":  Icon,
}

//go:embed icons
var iconFiles embed.FS

var icons = sync.OnceValue(func() map[string]template.HTML {
	entries, err := iconFiles.ReadDir("icons")
	if err != nil {
		panic(err) // compiled in
	}
	all := map[string]template.HTML{}
	for _, e := range entries {
		name, isIcon := strings.CutSuffix(e.Name(), ".svg")
		if !isIcon {
			continue
		}
		b, err := iconFiles.ReadFile(path.Join("icons", e.Name()))
		if err != nil {
			panic(err) // compiled in
		}
		_, body, _ := strings.Cut(string(b), "<svg")
		_, body, _ = strings.Cut(body, ">")
		body = strings.Join(strings.Fields(body), " ")
		all[name] = template.HTML(`<svg class="icon" viewBox="0 0 24 24" aria-hidden="true">` + strings.ReplaceAll(body, "> <", "><"))
	}
	return all
})

// Icon gives the drawing of that name, which says nothing to a reader who cannot
// see it: a word goes with it. It panics on a name there is no drawing for, which
// is a mistake in a template that its test finds.
func Icon(name string) template.HTML {
	i, ok := icons()[name]
	if !ok {
		panic("web: no icon " + name)
	}
	return i
}
