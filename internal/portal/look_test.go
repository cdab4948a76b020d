package portal

import (
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/opencpm/opencpm/internal/web"
	"github.com/opencpm/opencpm/internal/web/webtest"
)

// pageMatrix names the file that gets the result of looking at every page on every screen.
// Without it each is looked at on one screen of each theme.
var pageMatrix = flag.String("page-matrix", "", "look at the pages on every screen and write the result to the section Pages of this `file`")

// gallery serves every page of the fixtures at /see/{language}/{name}.
func gallery(t testing.TB) string {
	t.Helper()
	p := &Portal{}
	mux := http.NewServeMux()
	mux.Handle("GET /assets/", web.Assets())
	mux.HandleFunc("GET /c/northwind/logo.png", func(w http.ResponseWriter, r *http.Request) { p.logo(w, r, northwind, frame{}) })
	mux.HandleFunc("GET /see/{locale}/{name}", func(w http.ResponseWriter, r *http.Request) {
		s, ok := shots(r.PathValue("locale"))[r.PathValue("name")]
		if !ok {
			http.NotFound(w, r)
			return
		}
		p.show(w, r, http.StatusOK, s.template, s.page)
	})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return server.URL
}

// screen is a view in a language.
type screen struct {
	webtest.View
	lang string
}

// Every page, in every state, can be used by everybody, says nothing on the console and
// fits its screen.
func TestPageMatrix(t *testing.T) {
	screens := []screen{{webtest.View{Width: 1440, Height: 900}, "en"}, {webtest.View{Width: 390, Dark: true}, "en"}}
	if *pageMatrix != "" {
		screens = nil
		for _, v := range webtest.Views {
			screens = append(screens, screen{v, "en"})
		}
		screens = append(screens, screen{webtest.View{Width: 390}, "ar"}, screen{webtest.View{Width: 1440, Height: 900}, "ar"}, screen{webtest.View{Width: 390, ForcedColours: true}, "en"}, screen{webtest.View{Width: 390, Dark: true, ForcedColours: true}, "en"})
	}
	url := gallery(t)
	for _, on := range screens {
		t.Run(on.String()+" "+on.lang, func(t *testing.T) {
			tab := webtest.Open(t, on.View)
			for _, name := range names() {
				tab.Goto(url + "/see/" + on.lang + "/" + name)
				tab.Axe()
				tab.Fits()
				tab.Screenshot(on.lang + "-" + name)
			}
		})
	}
	if *pageMatrix == "" || t.Failed() {
		return
	}
	var b strings.Builder
	browser := webtest.Run[string](webtest.Open(t, webtest.View{}), `navigator.userAgent.match(/Chrom[a-z]*\/(\d+)/)[1]`)
	fmt.Fprintf(&b, "Written by `make soak`. Each page of the preference centres and behind the links of mails in each of its states, checked by\naxe-core for violations, for text that is cut off and for anything on the console, in Chromium %s: %d looks, no violation.\n\n| Page |", browser, len(names())*len(screens))
	for _, on := range screens {
		fmt.Fprintf(&b, " %s %s |", on.View, on.lang)
	}
	b.WriteString("\n| --- |" + strings.Repeat(" --- |", len(screens)) + "\n")
	for _, name := range names() {
		fmt.Fprintf(&b, "| %s |%s\n", name, strings.Repeat(" 0 |", len(screens)))
	}
	writeSection(t, *pageMatrix, "Pages", b.String())
}

// writeSection puts a result into its section of a file, and leaves the others.
func writeSection(t *testing.T, file, title, result string) {
	t.Helper()
	old, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, _ := strings.Cut(string(old), "\n## "+title+"\n")
	after := ""
	if i := strings.Index(rest, "\n## "); i >= 0 {
		after = rest[i:]
	}
	if err := os.WriteFile(file, []byte(strings.TrimRight(before, "\n")+"\n\n## "+title+"\n\n"+result+after), 0o644); err != nil {
		t.Fatal(err)
	}
}

// With texts that are two fifths longer, and from right to left, nothing is cut off.
func TestLongAndArabicTextsFit(t *testing.T) {
	url := gallery(t)
	for _, v := range []webtest.View{{Width: 1024, Height: 768}, {Width: 320}} {
		t.Run(v.String(), func(t *testing.T) {
			tab := webtest.Open(t, v)
			for _, locale := range []string{"pseudo", "ar", "de"} {
				for _, name := range []string{"manage-saved", "manage-context", "manage-paused", "sign-up-error", "sign-up-telephone-error", "confirm-telephone", "unsubscribed"} {
					tab.Goto(url + "/see/" + locale + "/" + name)
					tab.Fits()
				}
			}
		})
	}
}

// The page can be walked by keyboard in the order of reading; what is focused is seen as
// such and never hidden by the bar.
func TestPageByKeyboard(t *testing.T) {
	tab := webtest.Open(t, webtest.View{Width: 390, Height: 640})
	tab.Goto(gallery(t) + "/see/en/manage-context")
	var stops []string
	for range 40 {
		tab.Do(chromedp.KeyEvent("\t"))
		at := webtest.Run[string](tab, `(() => {
			const e = document.activeElement;
			if (e === document.body) return "";
			const shown = e.closest(".choice") ?? e, s = getComputedStyle(shown), b = shown.getBoundingClientRect();
			const bar = e.closest(".bar") ? innerHeight : document.querySelector(".bar").getBoundingClientRect().top;
			if (s.outlineStyle !== "solid" || parseFloat(s.outlineWidth) < 2) return "no outline on " + e.outerHTML;
			if (b.top < -1 || b.bottom > bar + 1) return "hidden: " + e.outerHTML + " " + b.top + " " + b.bottom + " of " + bar;
			return e.ariaLabel || (e.labels && e.labels[0] ? e.labels[0].textContent : e.textContent).trim();
		})()`)
		if at == "" {
			break
		}
		stops = append(stops, strings.Join(strings.Fields(at), " "))
	}
	want := []string{
		"Skip to content", "Language", "Not you?", "Stop", "Unsubscribe from all",
		"Newsletter: Email", "Newsletter: Post", "Offers and sales: Email", "Offers and sales: SMS", "Offers and sales: Post",
		"Store events: Email", "Store events: SMS", "Store events: Post", "Store events: Phone", "Customer research: Email", "Customer research: Phone",
		"Object: Catalogue by post", "Home", "Garden", "Kitchen", "Travel", "Books", "Children", "Once a month",
	}
	for i, w := range want {
		if i >= len(stops) || stops[i] != w {
			t.Fatalf("stop %d is not %q: %q", i, w, stops)
		}
	}
	tail := strings.Join(stops[len(want):], " | ")
	for _, w := range []string{"Pause until", "Pause", "What we have recorded", "Privacy policy, version 7", "Help and contact", "Undo", "Save choices"} {
		_, rest, found := strings.Cut(tail, w)
		if !found {
			t.Fatalf("after the questions the stops are %q, without %q", stops[len(want):], w)
		}
		tail = rest
	}
}

// To say no is as easy as to say yes: the buttons weigh the same, and it takes no more
// steps.
func TestSayingNoIsAsEasy(t *testing.T) {
	url := gallery(t)
	for _, v := range []webtest.View{{Width: 1440, Height: 900}, {Width: 390, Dark: true}} {
		tab := webtest.Open(t, v)
		tab.Goto(url + "/see/en/manage")
		look := func(id string) string {
			return webtest.Run[string](tab, `(e => { const s = getComputedStyle(e); return [e.getBoundingClientRect().height, e.tagName, e.className, s.color, s.backgroundColor, s.borderColor, s.borderWidth, s.fontSize, s.fontWeight, s.opacity].join(" ") })(document.getElementById("`+id+`"))`)
		}
		if stop, save := look("stop"), look("save"); stop != save {
			t.Errorf("%v: to stop looks like\n%s\nand to save like\n%s", v, stop, save)
		}
		// Turning one thing on takes a switch and Save; off the same; all off one button.
		if forms := webtest.Run[int](tab, `document.getElementById("stop").form.querySelectorAll("input:not([type=hidden]), button").length`); forms != 1 {
			t.Errorf("%v: stopping everything takes %d controls", v, forms)
		}
		if above := webtest.Run[bool](tab, `document.getElementById("stop").getBoundingClientRect().top < document.querySelector(".matrix").getBoundingClientRect().top`); !above {
			t.Errorf("%v: the button to stop is below the switches", v)
		}
		if same := webtest.Run[int](tab, `new Set([...document.querySelectorAll(".switch input")].map(e => { const s = getComputedStyle(e), b = e.getBoundingClientRect(); return [b.width, b.height, s.opacity, s.cursor].join() })).size`); same != 1 {
			t.Errorf("%v: there are %d kinds of switches", v, same)
		}
	}
}

// Where scripts run the bar counts what is not saved, and a switch says what it means.
func TestTheScriptHelps(t *testing.T) {
	s := newSite(t)
	_, token := s.citizen("jordan", "newsletter-email")
	tab := webtest.Open(t, webtest.View{})
	tab.Goto(s.url + "/c/northwind/en?token=" + token) // all tabs share their cookies
	status := func(want string) {
		t.Helper()
		tab.Until(fmt.Sprintf(`document.querySelector("#status").textContent === %q`, want))
	}
	status("No changes yet")
	tab.Do(chromedp.Click(chromedp.CSS("input[value='option:newsletter-email']")))
	status("1 change not saved")
	tab.Until(`document.querySelector(".said").textContent === "You get no stories."`)
	tab.Do(chromedp.Click(chromedp.CSS("input[value=garden]")))
	tab.Do(chromedp.Click(chromedp.CSS("input[value=home]"))) // the same question
	status("2 changes not saved")
	tab.Do(chromedp.Click(chromedp.CSS(".bar [type=reset]")))
	status("No changes yet")
	tab.Do(chromedp.Click(chromedp.CSS("input[value='option:offers-sms']")))
	tab.Do(chromedp.Click(chromedp.CSS("#save")))
	tab.Until(`document.activeElement.classList.contains("panel") && document.activeElement.textContent.includes("Offers and sales: SMS")`)
	tab.Axe()
	tab.Screenshot("saved")
	tab.Do(selectLanguage("ar"))
	tab.Until(`document.documentElement.lang === "ar" && document.documentElement.dir === "rtl"`)
	tab.Fits()
}

// A browser without scripts does all of it.
func TestABrowserWithoutScripts(t *testing.T) {
	s := newSite(t)
	id, token := s.citizen("jordan", "newsletter-email")
	tab := webtest.Open(t, webtest.View{Width: 390, NoScript: true})
	tab.Goto(s.url + "/c/northwind/en?token=" + token) // all tabs share their cookies
	tab.Do(chromedp.Click(chromedp.CSS("input[value='option:newsletter-email']")))
	tab.Do(chromedp.Click(chromedp.CSS("#save")))
	says := func(panel, want string) {
		t.Helper()
		tab.Do(chromedp.WaitVisible(chromedp.CSS(panel)))
		if got := webtest.Run[string](tab, `document.querySelector(".panel h2").textContent`); got != want {
			t.Errorf("the page says %q, not %q", got, want)
		}
	}
	says(".panel:has(form)", "Your choices are saved")
	if got := s.stands(id); got != "newsletter-email=DENIED" {
		t.Errorf("there stands %s", got)
	}
	tab.Do(chromedp.Click(chromedp.CSS(".panel button")))
	says(".panel:not(:has(form))", "The change is undone")
	tab.Do(chromedp.Click(chromedp.CSS("#stop")))
	says(".panel:has(form)", "All marketing is stopped")
	if shown := webtest.Run[bool](tab, `document.querySelector(".language button").getClientRects().length > 0`); !shown {
		t.Error("the language cannot be chosen")
	}
}

func selectLanguage(tag string) chromedp.Action[chromedp.Void] {
	return chromedp.Evaluate[chromedp.Void](`(s => { s.value = "` + tag + `"; s.dispatchEvent(new Event("change", { bubbles: true })); })(document.querySelector(".language select"))`)
}
