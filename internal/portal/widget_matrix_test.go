package portal_test

import (
	"flag"
	"fmt"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/internal/web/webtest"
)

// widgetMatrix names the file that gets the result of looking at every state on every
// screen. Without it each state is looked at on one screen of each theme.
var widgetMatrix = flag.String("widget-matrix", "", "look at the widgets on every screen and write the result to the section Widgets of this `file`")

// widgetStates are all the looks of the widgets: what stands on the page, and what is
// done until it looks so.
var widgetStates = []struct {
	name, body string
	prepare    func(*embed)
	noise      []string
	then       func(*embed) // when it has loaded
	do, until  string
}{
	{name: "manage", body: manage},
	{name: "manage, every button", body: strings.Replace(manage, "template", "none cancel template", 1)},
	{name: "manage, not saved yet", body: manage, do: `by("Newsletter: SMS").click(); press(".sentence button"); by("Offers: E-mail").click()`},
	{name: "manage, saved", body: manage, do: `by("Garden").click(); press(".submit")`, until: `document.querySelector("opencpm-manage").state === "saved"`},
	{name: "manage, saving", body: manage, then: (*embed).holdBack, do: `by("Garden").click(); press(".submit")`, until: `document.querySelector("opencpm-manage").state === "saving"`},
	{name: "manage, not saved", body: manage, noise: []string{"answered 500", "a status of 500"}, then: func(e *embed) { e.failNext(http.StatusInternalServerError) }, do: `by("Garden").click(); press(".submit")`, until: `document.querySelector("opencpm-manage").state === "error"`},
	{name: "manage, at once", body: strings.Replace(manage, "template", "autosave template", 1)},
	{name: "manage, driven by the page", body: strings.Replace(manage, "template", `buttons="none" template`, 1)},
	{name: "manage, light", body: strings.Replace(manage, "template", `theme="light" template`, 1)},
	{name: "manage, dark", body: strings.Replace(manage, "template", `theme="dark" template`, 1)},
	{name: "manage, without style", body: strings.Replace(manage, "template", "unstyled template", 1)},
	{name: "manage, a question that must be answered", body: manage, prepare: func(e *embed) { e.form.Blocks[2].Mandatory, e.form.Blocks[2].SelectedChoice = true, nil }, do: `press(".submit")`},
	{name: "nothing to choose", body: manage, prepare: func(e *embed) { e.form.Blocks = []consent.FormBlock{} }},
	{name: "not loaded", body: manage, prepare: func(e *embed) { e.failNext(http.StatusServiceUnavailable) }, noise: []string{"answered 503", "a status of 503"}},
	{name: "history", body: history, prepare: func(e *embed) { e.past = somePast }, do: `press("summary", "opencpm-history")`},
	{name: "history, empty", body: history},
	{name: "sign-up", body: capture},
	{name: "sign-up without an address", body: capture, do: `by("Offers: E-mail", "opencpm-capture").click(); press(".submit", "opencpm-capture")`},
	{name: "sign-up, sent", body: capture, do: `by("Offers: E-mail", "opencpm-capture").click(); inside("opencpm-capture").getElementById("email").value = "jo@example.com"; press(".submit", "opencpm-capture")`, until: `document.querySelector("opencpm-capture").state === "saved"`},
}

const somePast = `[{"seq":1,"kind":"transaction","transaction":{"reverts":null,"obtainedAt":"2026-03-01T09:14:00Z","changes":[
 {"optionId":"newsletter-email","state":"GRANTED","name":"","purpose":{"id":"newsletter","name":"nl","label":{"":"Newsletter","de":"Rundbrief"}},"channel":{"id":"email","name":"E-mail"}},
 {"optionId":"research-email","state":"OBJECTION_UPHELD","purpose":{"id":"research","name":"Customer research"},"channel":{"id":"email","name":"E-mail"}}]},"submission":null,
 "shown":{"privacyPolicy":{"reference":"policy-01","name":"Privacy policy","version":"7","url":"https://example.com/privacy"},"permissionStatement":{"text":{"":"We may write to you"}}}},
 {"seq":2,"kind":"submission","transaction":null,"submission":{"label":"Topics","obtainedAt":"2026-04-01T09:14:00Z","choices":[]},"shown":{"privacyPolicy":null,"permissionStatement":null}}]`

// Every state of every widget is accessible, fits the screen and is silent.
func TestWidgetMatrix(t *testing.T) {
	type screen struct {
		webtest.View
		lang string
	}
	screens := []screen{{wide, "en"}, {dark, "en"}}
	if *widgetMatrix != "" {
		screens = nil
		for _, v := range webtest.Views {
			screens = append(screens, screen{v, "en"})
		}
		screens = append(screens, screen{webtest.View{Width: 390}, "ar"}, screen{webtest.View{Width: 390, ForcedColours: true}, "en"}, screen{webtest.View{Width: 390, Dark: true, ForcedColours: true}, "en"})
	}
	looks := 0
	for _, s := range widgetStates {
		for _, on := range screens {
			t.Run(s.name+" "+on.String()+" "+on.lang, func(t *testing.T) {
				e := newEmbed(t)
				if s.prepare != nil {
					s.prepare(e)
				}
				tab := webtest.Open(t, on.View)
				tab.Expect(s.noise...)
				tab.Goto(e.page(on.lang, host+script, regexp.MustCompile(`<opencpm-\w+`).ReplaceAllString(s.body, `$0 locale="`+on.lang+`"`), ""))
				tab.Until(settled)
				if s.then != nil {
					s.then(e)
				}
				if s.do != "" {
					act(tab, s.do)
				}
				if s.until != "" {
					tab.Until(s.until)
				}
				tab.Axe()
				tab.Fits()
				tab.Screenshot("widget " + s.name + " " + on.lang)
				looks++
			})
		}
	}
	if *widgetMatrix == "" || t.Failed() || looks < len(widgetStates)*len(screens) { // -run may name some only
		return
	}
	var b strings.Builder
	browser := webtest.Run[string](webtest.Open(t, wide), `navigator.userAgent.match(/Chrom[a-z]*\/(\d+)/)[1]`)
	fmt.Fprintf(&b, "Written by `make soak`. Each state of the widgets on a page of somebody else, checked by axe-core for violations, for\ntext that is cut off and for anything on the console, in Chromium %s: %d looks, no violation.\n\n| State |", browser, looks)
	for _, on := range screens {
		fmt.Fprintf(&b, " %s %s |", on.View, on.lang)
	}
	b.WriteString("\n| --- |" + strings.Repeat(" --- |", len(screens)) + "\n")
	for _, s := range widgetStates {
		fmt.Fprintf(&b, "| %s |%s\n", s.name, strings.Repeat(" 0 |", len(screens)))
	}
	writeWidgetSection(t, *widgetMatrix, b.String())
}

// writeWidgetSection puts the result into its section, and leaves the others.
func writeWidgetSection(t *testing.T, file, result string) {
	t.Helper()
	const title = "\n## Widgets\n"
	old, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, _ := strings.Cut(string(old), title)
	after := ""
	if i := strings.Index(rest, "\n## "); i >= 0 {
		after = rest[i:]
	}
	if err := os.WriteFile(file, []byte(strings.TrimRight(before, "\n")+"\n"+title+"\n"+result+after), 0o644); err != nil {
		t.Fatal(err)
	}
}
