package api

import (
	"cmp"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/opencpm/opencpm/internal/consent"
)

var (
	//go:embed evidence.html
	evidenceSource string
	//go:embed evidence.css
	evidenceStyle string

	// evidencePage is evidence for people: one file that loads nothing, to be kept, sent
	// and printed. It is for staff, and in English.
	evidencePage = template.Must(template.New("evidence").Funcs(template.FuncMap{
		"style":     func() template.CSS { return template.CSS(evidenceStyle) },
		"styleHash": func() string { return styleHash },
		"at": func(t consent.Timestamp) string {
			return consent.Instant(t).Time().Format("2 January 2006, 15:04:05 UTC")
		},
		"orElse":  func(text consent.Text, other any) string { return cmp.Or(string(text), fmt.Sprint(other)) },
		"decided": func(state string) string { return strings.ToUpper(state[:1]) + strings.ReplaceAll(state[1:], "-", " ") },
		"called":  called,
		"wording": wordingOf,
		"reverts": func(v idOrNull) string {
			if v.IsZero() {
				return ""
			}
			return v.String()
		},
	}).Parse(evidenceSource))
	styleHash = func() string {
		sum := sha256.Sum256([]byte(evidenceStyle))
		return "sha256-" + base64.StdEncoding.EncodeToString(sum[:])
	}()
)

// called gives what an option is called: by its own name, or by its purpose and channel;
// empty where the catalogue has it no more.
func called(p piiProcessing) string {
	if p.Service != "" {
		return string(p.Service)
	}
	name := string(p.Purposes[0].Purpose)
	if by := string(p.Purposes[0].ProcessingMethod); by != "" {
		name += ": " + by
	}
	return name
}

// wording is a statement as it was shown.
type wording struct {
	ShownDocument
	Texts []wordingIn
}

// wordingIn is a statement in one language, which may be unknown.
type wordingIn struct{ Locale, Text string }

// wordingOf gives the statement that was shown: in its language where that is known, else
// in the default one, or in every language there is.
func wordingOf(d documents) *wording {
	s := d.PermissionStatement
	if s == nil {
		return nil
	}
	w := &wording{ShownDocument: s.ShownDocument}
	locales := []string{""}
	if d.Template != nil {
		locales = []string{string(d.Template.Locale), ""}
	}
	for _, locale := range locales {
		if text := s.Text[locale]; text != "" {
			w.Texts = []wordingIn{{locale, text}}
			return w
		}
	}
	for _, locale := range slices.Sorted(maps.Keys(s.Text)) {
		w.Texts = append(w.Texts, wordingIn{locale, s.Text[locale]})
	}
	return w
}

// writeHTML writes an answer that can be had as a page.
func writeHTML(w io.Writer, v any) error { return evidencePage.Execute(w, v) }
