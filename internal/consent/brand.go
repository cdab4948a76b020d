package consent

import (
	"bytes"
	"fmt"
	"image/png"
	"math"
)

// Readable is the contrast that text needs on what is behind it (WCAG 2.2, 1.4.3).
const Readable = 4.5

// paper is what an accent must be readable on, and the two colours of text, of which the
// better one stands on it.
type paper struct {
	name    string
	sheets  []string
	letters []string
}

// light and dark are the pages that citizens see; a test holds them to the design tokens.
var (
	light = paper{"light", []string{"#ffffff", "#f4f6f5"}, []string{"#ffffff", "#04181c"}}
	dark  = paper{"dark", []string{"#141c1d", "#0d1314"}, []string{"#04181c", "#ffffff"}}
)

// on gives the contrast of an accent on the page, and of its better text on the accent.
func (p paper) on(accent string) (page, text float64) {
	page = math.Inf(1)
	for _, sheet := range p.sheets {
		page = min(page, Contrast(accent, sheet))
	}
	return page, Contrast(accent, p.letter(accent))
}

// letter gives the colour of text on an accent: the first one that is readable, or else
// the better one.
func (p paper) letter(accent string) string {
	if Contrast(accent, p.letters[0]) >= Readable || Contrast(accent, p.letters[0]) >= Contrast(accent, p.letters[1]) {
		return p.letters[0]
	}
	return p.letters[1]
}

// Sheets are the colours on which an accent of a light or a dark page is seen, that of
// cards first.
func Sheets(onDark bool) []string {
	if onDark {
		return dark.sheets
	}
	return light.sheets
}

// LetterOn gives the colour of text on an accent of a light or a dark page.
func LetterOn(accent string, onDark bool) string {
	if onDark {
		return dark.letter(accent)
	}
	return light.letter(accent)
}

// The most that a logo may weigh and measure.
const (
	maxLogoBytes = 200 << 10
	maxLogoSide  = 1024
)

// redraw decodes a PNG file and encodes it anew, so that what is served is a picture and
// nothing else. What it made itself stays as it is.
func redraw(file []byte) ([]byte, error) {
	if len(file) > maxLogoBytes {
		return nil, fmt.Errorf("must weigh at most %d KiB", maxLogoBytes>>10)
	}
	measures, err := png.DecodeConfig(bytes.NewReader(file))
	if err != nil {
		return nil, fmt.Errorf("must be a PNG file in base64")
	}
	if measures.Width > maxLogoSide || measures.Height > maxLogoSide {
		return nil, fmt.Errorf("must measure at most %d pixels each way", maxLogoSide)
	}
	picture, err := png.Decode(bytes.NewReader(file))
	if err != nil {
		return nil, fmt.Errorf("must be a PNG file in base64")
	}
	var out bytes.Buffer
	if err := png.Encode(&out, picture); err != nil || out.Len() > maxLogoBytes {
		return nil, fmt.Errorf("must weigh at most %d KiB once it is encoded anew", maxLogoBytes>>10)
	}
	return out.Bytes(), nil
}

// redrawn gives the brand with logos that are safe to serve; what is no picture stays,
// for the check to refuse.
func (b Brand) redrawn() Brand {
	for _, logo := range []*[]byte{&b.Logo, &b.LogoDark} {
		if len(*logo) > 0 {
			if file, err := redraw(*logo); err == nil {
				*logo = file
			}
		}
	}
	return b
}

func (k *checker) brand(place string, b Brand) {
	CheckText(&k.Faults, place+".name", b.Name, 0, 200)
	for _, c := range []struct {
		field, accent string
		paper
	}{{"accent", b.Accent, light}, {"accentDark", b.AccentDark, dark}} {
		switch {
		case c.accent == "":
		case !colour.MatchString(c.accent):
			k.Add(place+"."+c.field, "must be a colour such as #0a5c6b")
		default:
			if page, text := c.on(c.accent); page < Readable || text < Readable {
				k.Add(place+"."+c.field, "has a contrast of %.2f to a %s page and of %.2f to its own text; both must be at least %.1f", page, c.name, text, Readable)
			}
		}
	}
	for _, c := range []struct {
		field string
		logo  []byte
	}{{"logo", b.Logo}, {"logoDark", b.LogoDark}} {
		if len(c.logo) > 0 {
			if _, err := redraw(c.logo); err != nil {
				k.Add(place+"."+c.field, "%s", err)
			}
		}
	}
}
