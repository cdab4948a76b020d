package portal

import (
	"bytes"
	"compress/gzip"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/html"

	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/internal/web"
	"github.com/opencpm/opencpm/internal/words"
)

// Every page in every state and language is a whole document by the rules of the house.
func TestEveryPageIsWellMade(t *testing.T) {
	for _, tag := range append(words.Languages(), words.Fallback) {
		locale := tag.String()
		for name, s := range shots(locale) {
			checkPage(t, locale+" "+name, locale, render(t, s))
		}
	}
}

// checkPage looks for what no page may lack or have.
func checkPage(t *testing.T, name, locale, text string) {
	t.Helper()
	doc, err := html.Parse(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	ids, count, labelled := map[string]bool{}, map[string]int{}, map[string]bool{}
	var controls []map[string]string
	for n := range doc.Descendants() {
		if n.Type != html.ElementNode {
			continue
		}
		count[n.Data]++
		attr := map[string]string{"": n.Data}
		for _, a := range n.Attr {
			attr[a.Key] = a.Val
			if a.Key == "style" || strings.HasPrefix(a.Key, "on") {
				t.Errorf("%s: %s has the attribute %s", name, n.Data, a.Key)
			}
			if (a.Key == "src" || a.Key == "href") && regexp.MustCompile(`^(https?:)?//`).MatchString(a.Val) && n.Data != "a" {
				t.Errorf("%s: it loads %s", name, a.Val)
			}
		}
		if id := attr["id"]; id != "" {
			if ids[id] {
				t.Errorf("%s: the id %s stands twice", name, id)
			}
			ids[id] = true
		}
		switch n.Data {
		case "html":
			if attr["lang"] != locale || attr["dir"] != words.Direction(locale) {
				t.Errorf("%s: lang %s, dir %s", name, attr["lang"], attr["dir"])
			}
		case "style":
			t.Errorf("%s: a style element", name)
		case "script":
			if attr["src"] == "" {
				t.Errorf("%s: an inline script", name)
			}
		case "label":
			labelled[attr["for"]] = true
		case "input", "select":
			if attr["type"] != "hidden" && attr["aria-label"] == "" && n.Parent.Data != "label" {
				controls = append(controls, attr)
			}
			if attr["role"] == "switch" {
				t.Errorf("%s: a switch with a Save button", name)
			}
		case "form":
			if attr["method"] == "post" && !strings.HasPrefix(attr["action"], "/") {
				t.Errorf("%s: a form posts to %s", name, attr["action"])
			}
		}
	}
	for _, c := range controls {
		if !labelled[c["id"]] {
			t.Errorf("%s: no label for %v", name, c)
		}
	}
	if count["h1"] != 1 || count["title"] != 1 || count["main"] != 1 || !ids["main"] {
		t.Errorf("%s: %d h1, %d title, %d main", name, count["h1"], count["title"], count["main"])
	}
	if strings.Contains(text, "<no value>") || strings.Contains(text, "ZgotmplZ") {
		t.Errorf("%s: something could not be filled in", name)
	}
}

// Nothing is on, or chosen, for somebody who was never asked.
func TestNothingIsCheckedForAFreshCitizen(t *testing.T) {
	for _, name := range []string{"manage-fresh", "sign-up"} {
		if text := render(t, shots("en")[name]); strings.Contains(text, " checked") {
			t.Errorf("%s has something checked", name)
		}
	}
	if n := strings.Count(render(t, shots("en")["manage"]), " checked"); n != 7 {
		t.Errorf("%d things are checked on a page of somebody who chose 7", n)
	}
}

// What a browser loads first, before anything is kept: the page, its style, its script and
// the font.
func TestTheFirstLoadIsLight(t *testing.T) {
	packed := func(b []byte) int {
		var out bytes.Buffer
		z, err := gzip.NewWriterLevel(&out, gzip.BestCompression)
		if err == nil {
			_, err = z.Write(b)
		}
		if err == nil {
			err = z.Close()
		}
		if err != nil {
			t.Fatal(err)
		}
		return out.Len()
	}
	asset := func(name string) int {
		req, err := http.NewRequest(http.MethodGet, "/assets/"+web.Asset(name), nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Accept-Encoding", "gzip")
		var w counter
		web.Assets().ServeHTTP(&w, req)
		return w.n
	}
	css, js, font := asset("centre.css"), asset("centre.js"), asset("ibm-plex-sans-latin.woff2")
	heaviest := 0
	for _, s := range shots("en") {
		heaviest = max(heaviest, packed([]byte(render(t, s))))
	}
	t.Logf("style %d, script %d, font %d, heaviest page %d bytes", css, js, font, heaviest)
	if css > 7<<10 || js > 2<<10 || css+js+font+heaviest+len(northwind.Brand.Logo) > 80<<10 {
		t.Errorf("style %d, script %d, font %d, heaviest page %d bytes: want at most 7 KB, 2 KB, and 80 KB in all", css, js, font, heaviest)
	}
}

type counter struct {
	h http.Header
	n int
}

func (c *counter) Header() http.Header {
	if c.h == nil {
		c.h = http.Header{}
	}
	return c.h
}
func (c *counter) WriteHeader(int) {}
func (c *counter) Write(b []byte) (int, error) {
	c.n += len(b)
	return len(b), nil
}

// The style sheet of the pages names no side: it works in both directions.
func TestOnlyLogicalProperties(t *testing.T) {
	req, err := http.NewRequest(http.MethodGet, "/assets/"+web.Asset("centre.css"), nil)
	if err != nil {
		t.Fatal(err)
	}
	var w keeper
	web.Assets().ServeHTTP(&w, req)
	for _, m := range regexp.MustCompile(`[{;](margin|padding|border)-(left|right)|[{;](left|right):|text-align:(left|right)|float:`).FindAll(w.b.Bytes(), -1) {
		t.Errorf("the style sheet has %s", m)
	}
}

type keeper struct {
	counter
	b bytes.Buffer
}

func (k *keeper) Write(b []byte) (int, error) { return k.b.Write(b) }

// The language is the one that was chosen, or else that of the browser, or else the first.
func TestTheLanguageOfAPage(t *testing.T) {
	offered := []string{"en", "de", "ar"}
	for _, c := range []struct{ wanted, accepted, want string }{
		{"", "", "en"}, {"de", "ar", "de"}, {"", "ar-EG,en;q=0.5", "ar"}, {"", "de-AT", "de"}, {"xx", "fr,de;q=0.3", "de"}, {"", "ja", "en"}, {"nonsense!", "*;q=", "en"},
	} {
		if got := consent.Choose(offered, c.wanted, c.accepted); got != c.want {
			t.Errorf("wanted %q, accepted %q: %s, not %s", c.wanted, c.accepted, got, c.want)
		}
	}
	var f frame
	f.speak(offered, "ar", "")
	if got := []string{f.Languages[0].Name, f.Languages[1].Name, f.Languages[2].Name}; !slices.Equal(got, []string{"English", "Deutsch", "العربية"}) || f.Dir != "rtl" || !f.Languages[2].Chosen {
		t.Errorf("the languages are %v, %s", got, f.Dir)
	}
}

// What an accent is measured against is the paper that it stands on.
func TestAccentsAreMeasuredOnOurPaper(t *testing.T) {
	var light, dark []string
	for _, name := range []string{"surface", "canvas"} {
		for _, token := range web.Tokens {
			if token.Name == name {
				light, dark = append(light, token.Light), append(dark, token.Dark)
			}
		}
	}
	if !slices.Equal(light, consent.Sheets(false)) || !slices.Equal(dark, consent.Sheets(true)) {
		t.Errorf("the design has %v and %v, the check %v and %v", light, dark, consent.Sheets(false), consent.Sheets(true))
	}
}

// The accents of a brand, and what is computed from them, can be read.
func TestBrandColours(t *testing.T) {
	for accent, onDark := range map[string]bool{"#7a1f5c": false, "#004400": false, "#ffcc00": true, "#63c7d6": true} {
		brand := northwind.Brand
		brand.Accent, brand.AccentDark = "", ""
		if onDark {
			brand.AccentDark = accent
		} else {
			brand.Accent = accent
		}
		css := brandCSS(brand)
		found := regexp.MustCompile(`--([a-z-]+):(#[0-9a-f]{6})`).FindAllStringSubmatch(css, -1)
		colours := map[string]string{}
		for _, m := range found {
			colours[m[1]] = m[2]
		}
		if len(colours) != 5 || colours["accent"] != accent || strings.Contains(css, "prefers-color-scheme:dark") == false {
			t.Errorf("%s: %s", accent, css)
		}
		for _, behind := range []string{"accent", "accent-hi"} {
			if c := consent.Contrast(colours["on-accent"], colours[behind]); c < 4.5 {
				t.Errorf("%s: text on %s has a contrast of %.2f", accent, behind, c)
			}
		}
	}
}
