package portal

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/internal/core"
)

// version names a content, so that what is kept of it is never stale.
func version(content []byte) string {
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:6])
}

// brandSheet answers the colours of a centre: its accents in place of ours, and what is
// computed from them.
func (p *Portal) brandSheet(w http.ResponseWriter, _ *http.Request, v core.CentreView, _ frame) {
	keep(w, "text/css; charset=utf-8")
	_, _ = w.Write([]byte(brandCSS(v.Brand)))
}

// logo answers the picture of a centre, as it was encoded when it was saved.
func (p *Portal) logo(w http.ResponseWriter, r *http.Request, v core.CentreView, f frame) {
	file := v.Brand.Logo
	if strings.HasSuffix(r.URL.Path, "logo-dark.png") {
		file = v.Brand.LogoDark
	}
	if len(file) == 0 {
		p.failure(w, r, f, consent.Errorf(consent.NotFound, "There is no such picture."))
		return
	}
	keep(w, "image/png")
	_, _ = w.Write(file)
}

// keep sets the headers of a file whose address changes with its content.
func keep(w http.ResponseWriter, contentType string) {
	h := w.Header()
	h.Set("Content-Type", contentType)
	h.Set("Cache-Control", "public, max-age=31536000, immutable")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Security-Policy", "default-src 'none'")
	h.Set("Cross-Origin-Resource-Policy", "cross-origin") // in a page within a page, too
}

// brandCSS writes the tokens that a brand changes.
func brandCSS(b consent.Brand) string {
	var out strings.Builder
	block := func(where, accent string, onDark bool) {
		if accent == "" {
			return
		}
		letter, paper, towards := consent.LetterOn(accent, onDark), consent.Sheets(onDark)[0], "#000000"
		if consent.Contrast(letter, "#000000") < consent.Contrast(letter, "#ffffff") {
			towards = "#ffffff" // away from dark letters, so that they stay readable
		}
		fmt.Fprintf(&out, "%s{--accent:%s;--on-accent:%s;--accent-hi:%s;--accent-soft:%s;--focus:%s}}\n",
			where, accent, letter, mix(accent, towards, 0.2), mix(paper, accent, 0.12), accent)
	}
	block("@media not all and (prefers-color-scheme:dark){:root", b.Accent, false)
	block("@media (prefers-color-scheme:dark){:root", b.AccentDark, true)
	return out.String()
}

// mix gives a colour a part of the way from one to another.
func mix(from, to string, part float64) string {
	out := "#"
	for i := 1; i < 7; i += 2 {
		a, _ := strconv.ParseUint(from[i:i+2], 16, 8)
		b, _ := strconv.ParseUint(to[i:i+2], 16, 8)
		out += fmt.Sprintf("%02x", int(float64(a)+(float64(b)-float64(a))*part+0.5))
	}
	return out
}
