package demo_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/chromedp"

	"github.com/opencpm/opencpm/client"
	"github.com/opencpm/opencpm/internal/demo"
	"github.com/opencpm/opencpm/internal/web/webtest"
)

// some views are enough where the page is much like one that is looked at in all.
var some = []webtest.View{{Width: 1440, Height: 900}, {Width: 320, Dark: true}}

func TestThePageIsAccessibleAndSilentOnEveryScreen(t *testing.T) {
	all := append(webtest.Views[:len(webtest.Views):len(webtest.Views)], webtest.View{Width: 390, ForcedColours: true}, webtest.View{Width: 1024, Height: 768}, webtest.View{Width: 390, NoScript: true})
	for _, p := range []struct {
		name, path string
		prepare    func(*testing.T, *site)
		views      []webtest.View
	}{
		{"live", "/", func(t *testing.T, s *site) { s.Progress(2000, 2000); s.play(t); s.playMore(t) }, all},
		{"empty", "/", func(*testing.T, *site) {}, some},
		{"loading", "/", func(t *testing.T, s *site) { s.Progress(1240, 2000) }, some},
		{"one citizen", "/?citizen=NW-10005", func(t *testing.T, s *site) { s.Progress(2000, 2000); s.play(t) }, some},
		{"what applies", "/?citizen=NW-10006", func(t *testing.T, s *site) { s.tell(t); s.play(t) }, append(webtest.Views, webtest.View{Width: 1280, Height: 800})},
		{"why", "/?citizen=NW-10006&why=newsletter-email", func(t *testing.T, s *site) { s.tell(t); s.play(t) }, all},
		{"why not", "/?citizen=NW-10006&why=nonsense&asOf=x", func(t *testing.T, s *site) { s.tell(t) }, some},
		{"inbox", "/demo/inbox", func(*testing.T, *site) {}, some},
		{"a mail", "/demo/inbox/1", func(t *testing.T, s *site) { s.receive(t, "ada@example.com", letterOfTest) }, all},
		{"unknown citizen", "/?citizen=%3Cb%3E", func(t *testing.T, s *site) { s.play(t) }, some},
	} {
		t.Run(p.name, func(t *testing.T) {
			s := newSite(t)
			p.prepare(t, s)
			for _, v := range p.views {
				t.Run(v.String(), func(t *testing.T) {
					tab := webtest.Open(t, v)
					tab.Goto(s.url + p.path)
					if !v.NoScript {
						tab.Axe()
					}
					tab.Fits()
					tab.Screenshot(p.name)
				})
			}
		})
	}
}

// act records one change of the n-th customer and sends its webhook.
func (s *site) act(t *testing.T, n, sequence int) {
	t.Helper()
	ref := demo.Citizens()[n].ExternalRef
	now := time.Now()
	s.Recorded(demo.RecordedEvent{ExternalRef: ref, CitizenID: "ctz_" + ref, Channel: "checkout", RecordedAt: now, Changes: []demo.RecordedChange{change("events-email", "consent", "GRANTED", "", "GRANTED")}})
	send(t, s.receiver, message(ref, sequence, now, "citizen.changed", entry("t", "events-email", "GRANTED", now.Add(-time.Millisecond))), http.StatusNoContent)
}

const (
	changesShown  = `document.querySelectorAll("[aria-labelledby=changes] .row").length`
	webhooksShown = `document.querySelectorAll("[aria-labelledby=webhooks] .row").length`
)

func TestRowsArriveLive(t *testing.T) {
	s := newSite(t)
	tab := webtest.Open(t, webtest.View{Motion: true})
	tab.Goto(s.url)
	tab.Until(`document.querySelector(".live").dataset.state === "live"`)
	s.Progress(1, 2)
	tab.Until(`!document.querySelector(".loading").hidden && document.querySelector("progress").value === 1 && document.querySelector("progress").max === 2`)
	s.Progress(2, 2)
	tab.Until(`document.querySelector(".loading").hidden && document.querySelector("[data-fact=citizens]").textContent === "2"`)
	for i := range 20 {
		s.act(t, i, 1)
	}
	tab.Until(changesShown + ` === 15 && ` + webhooksShown + ` === 15`)
	tab.Until(`document.querySelector("[data-fact=recorded]").textContent === "20" && document.querySelector("[data-fact=delivered]").textContent === "20" && / ms$/.test(document.querySelector("[data-fact=median]").textContent)`)
	refs := webtest.Run[[]string](tab, `[...document.querySelectorAll("[aria-labelledby=webhooks] .row")].map(r => r.dataset.citizen)`)
	for i, ref := range refs {
		if want := demo.Citizens()[19-i].ExternalRef; ref != want {
			t.Errorf("row %d is about %s, want %s", i, ref, want)
		}
	}
	tab.Axe()
}

func TestRowsOfOneCitizenAreLinked(t *testing.T) {
	s := newSite(t)
	s.play(t)
	tab := webtest.Open(t, webtest.View{})
	tab.Goto(s.url)
	tab.Until(`document.querySelector(".live").dataset.state === "live"`)
	linked := `[...document.querySelectorAll(".linked")].map(r => r.dataset.citizen).join()`

	// By pointer: all three rows of the citizen in either list, and no more rows come
	// in under it.
	at := webtest.Run[[]float64](tab, `(b => [b.x + 100, b.y + 10])(document.querySelector("[aria-labelledby=changes] [data-citizen=NW-10005]").getBoundingClientRect())`)
	tab.Do(chromedp.MouseEvent(input.DispatchMouseEventTypeMouseMoved, at[0], at[1]))
	tab.Until(linked + ` === Array(6).fill("NW-10005").join()`)
	s.act(t, 80, 1)
	tab.Until(`document.querySelector(".live").textContent === "Held while you read, 1 new"`)
	tab.Screenshot("linked")
	tab.Axe()
	tab.Do(chromedp.MouseEvent(input.DispatchMouseEventTypeMouseMoved, 5, 5))
	tab.Until(linked + ` === "" && document.querySelector(".live").textContent === "Live"`)
	tab.Until(`document.querySelector(".row").dataset.citizen === "NW-10081"`)

	// By keyboard, too.
	tab.Do(chromedp.Focus(chromedp.CSS("[aria-labelledby=webhooks] [data-citizen=NW-10019] a")))
	tab.Until(linked + ` === Array(4).fill("NW-10019").join()`)
	outline := webtest.Run[string](tab, `getComputedStyle(document.activeElement).outlineStyle`)
	if outline != "solid" {
		t.Errorf("the focused link has the outline %q", outline)
	}

	// The link leads to that citizen alone, and what arrives there is of that citizen.
	tab.Do(chromedp.Click(chromedp.CSS("[aria-labelledby=webhooks] [data-citizen=NW-10019] a")))
	tab.Until(`document.readyState === "complete" && document.title.startsWith("NW-10019") && document.querySelectorAll(".row").length === 4`)
	tab.Until(`document.querySelector(".live").dataset.state === "live"`)
	s.act(t, 5, 1)
	s.act(t, 18, 99)
	tab.Until(changesShown + ` === 3 && document.querySelectorAll("[data-citizen=NW-10019]").length === 6`)
}

// With scripts, the reason is shown beside the lists, which are held meanwhile.
func TestAskingWhy(t *testing.T) {
	for _, v := range append(some, webtest.View{Width: 1280, Height: 800}, webtest.View{Width: 390}) {
		t.Run(v.String(), func(t *testing.T) {
			s := newSite(t)
			s.play(t)
			ref := s.tell(t)
			s.Recorded(demo.RecordedEvent{ExternalRef: ref, Channel: "preference-centre", RecordedAt: time.Now(), Changes: []demo.RecordedChange{change("newsletter-email", "consent", "GRANTED", "", "GRANTED")}})
			tab := webtest.Open(t, v)
			tab.Goto(s.url)
			tab.Until(`document.querySelector(".live").dataset.state === "live"`)
			tab.Do(chromedp.Click(chromedp.CSS("[data-citizen=NW-10006] a.why")))
			tab.Until(`document.querySelector(".sheet").open && document.activeElement.id === "asked-title" && document.querySelectorAll(".sheet .candidates li").length === 7`)
			if path := webtest.Run[string](tab, `location.pathname + location.search`); path != "/" {
				t.Errorf("the page was left for %s", path)
			}
			tab.Axe()
			tab.Fits()
			tab.Screenshot("sheet")
			s.act(t, 80, 1)
			tab.Until(`document.querySelector(".live").textContent === "Held while you read, 1 new"`)

			// Of the past, in the same place.
			tab.Do(chromedp.Evaluate[chromedp.Void](`document.querySelector("#asked-known-at").value = "2001-01-01T00:00:00"`))
			tab.Do(chromedp.Click(chromedp.CSS(".sheet .ask button")))
			tab.Until(`document.querySelector(".sheet .none")?.textContent.startsWith("Nothing was recorded by then") && document.activeElement.id === "asked-title"`)
			if asked := webtest.Run[string](tab, `document.querySelector("#asked-known-at").value`); asked != "2001-01-01T00:00" && asked != "2001-01-01T00:00:00" {
				t.Errorf("the form has forgotten what was asked: %s", asked)
			}
			tab.Do(chromedp.KeyEvent("\x1b"))
			tab.Until(`!document.querySelector(".sheet").open && document.querySelector(".live").dataset.state !== "paused"`)
		})
	}
}

// What applies to a citizen follows the changes, unless the reader is in it.
func TestWhatAppliesFollowsTheChanges(t *testing.T) {
	s := newSite(t)
	ref := s.tell(t)
	tab := webtest.Open(t, webtest.View{})
	tab.Goto(s.url + "/?citizen=" + ref)
	tab.Until(`document.querySelector(".live").dataset.state === "live"`)
	object := func(option string) {
		s.api.mu.Lock()
		s.api.record(client.Transaction{ApplicationID: "northwind", ExternalRef: ref, Origin: client.Origin{PermissionStatementRef: "marketing"}, Changes: []client.Change{{OptionType: client.Option, OptionID: option, Justification: "consent", State: "DENIED"}}})
		s.api.mu.Unlock()
		s.act(t, told, 1)
	}
	says := func(option string) string {
		return fmt.Sprintf(`document.querySelector(".applies").textContent.includes(%q)`, option)
	}
	object("offers-sms")
	tab.Until(says("Offers and sales by SMS"))
	tab.Do(chromedp.Focus(chromedp.CSS(".applies a.why")))
	object("events-sms")
	tab.Until(`document.querySelectorAll("[aria-labelledby=webhooks] .row").length === 2`)
	if webtest.Run[bool](tab, says("Store events by SMS")) {
		t.Error("the state was replaced under the reader")
	}
	tab.Do(chromedp.Focus(chromedp.CSS("#pause")))
	tab.Until(says("Store events by SMS"))
}

func TestPausing(t *testing.T) {
	s := newSite(t)
	tab := webtest.Open(t, webtest.View{})
	tab.Goto(s.url)
	tab.Until(`document.querySelector(".live").dataset.state === "live"`)
	tab.Do(chromedp.Click(chromedp.CSS("#pause")))
	tab.Until(`document.querySelector(".live").textContent === "Paused" && document.querySelector("#pause span").textContent === "Resume"`)
	for i := range 3 {
		s.act(t, i, 1)
	}
	tab.Until(`document.querySelector(".live").textContent === "Paused, 3 new" && document.querySelector("[data-fact=recorded]").textContent === "3"`)
	if n := webtest.Run[int](tab, changesShown); n != 0 {
		t.Errorf("%d rows came in while paused", n)
	}
	for i := range 20 {
		s.act(t, i, 2)
	}
	tab.Until(`document.querySelector(".live").textContent === "Paused, 15 or more new"`)
	tab.Axe()
	tab.Do(chromedp.Click(chromedp.CSS("#pause")))
	tab.Until(changesShown + ` === 15 && ` + webhooksShown + ` === 15 && document.querySelector("#pause span").textContent === "Pause"`)
}

func TestTheBodyUnfolds(t *testing.T) {
	s := newSite(t)
	s.play(t)
	tab := webtest.Open(t, webtest.View{Width: 390})
	tab.Goto(s.url)
	tab.Do(chromedp.Focus(chromedp.CSS("summary")), chromedp.KeyEvent("\r"))
	tab.Until(`document.querySelector("details pre")?.textContent.includes('  "externalRef": "NW-10001"')`)
	s.act(t, 80, 1)
	tab.Until(`document.querySelector(".live").textContent === "Held while you read, 1 new"`)
	tab.Axe()
	tab.Fits()
	tab.Screenshot("body")
}

func TestCopying(t *testing.T) {
	s := newSite(t)
	tab := webtest.Open(t, webtest.View{})
	tab.Goto(s.url)
	tab.Allow("clipboard-read", "clipboard-write")
	tab.Do(chromedp.Click(chromedp.CSS("[data-copy=curl-state]")))
	tab.Until(`document.querySelector("#status").textContent === "Copied" && document.querySelector("[data-copy=curl-state] span").textContent === "Copied"`)
	copied := webtest.Run[string](tab, `navigator.clipboard.readText()`)
	if want := "curl -s -H 'X-API-Key: " + config.APIKey + "' 'http://127.0.0.1:8080/v1/permissions?applicationId=northwind&externalRef=NW-10001'"; copied != want {
		t.Errorf("copied %s\nwant   %s", copied, want)
	}
	tab.Until(`document.querySelector("[data-copy=curl-state] span").textContent === "Copy"`)
}

func TestTheReaderOutlivesTheServer(t *testing.T) {
	var current atomic.Pointer[demo.Page]
	first := newSite(t)
	first.play(t)
	current.Store(first.Page)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { current.Load().ServeHTTP(w, r) }))
	t.Cleanup(server.Close)
	tab := webtest.Open(t, webtest.View{})
	tab.Goto(server.URL)
	tab.Until(changesShown + ` === 14 && document.querySelector(".live").dataset.state === "live"`)

	// The stream breaks off; what happens meanwhile arrives once it is back.
	second := newSite(t)
	second.act(t, 90, 1)
	current.Store(second.Page)
	first.Close()
	tab.Until(changesShown + ` === 1 && document.querySelector(".row").dataset.citizen === "NW-10091" && document.querySelector("[data-fact=recorded]").textContent === "1"`)
	t.Cleanup(second.Close)
}

func TestHostileTextStaysText(t *testing.T) {
	s := newSite(t)
	hostile := `"><img src=x onerror=alert(1)><script>alert(1)</script>&<!--`
	s.Recorded(demo.RecordedEvent{ExternalRef: hostile, Channel: hostile, RecordedAt: time.Now(), Changes: []demo.RecordedChange{{OptionType: hostile, OptionID: hostile, State: hostile, Before: hostile, After: hostile}}})
	send(t, s.receiver, message(hostile, 1, time.Now(), hostile, entry(hostile, hostile, hostile, time.Now())), http.StatusNoContent)
	tab := webtest.Open(t, webtest.View{})
	tab.Goto(s.url)
	check := func() {
		t.Helper()
		for _, row := range webtest.Run[[]string](tab, `[...document.querySelectorAll(".row")].map(r => r.textContent)`) {
			if !strings.Contains(row, hostile) {
				t.Errorf("the row does not show the text as it is: %s", row)
			}
		}
		if n := webtest.Run[int](tab, `document.querySelectorAll(".row img, .row script").length`); n != 0 {
			t.Errorf("%d elements were smuggled in", n)
		}
	}
	check()
	tab.Until(`document.querySelector(".live").dataset.state === "live"`)
	s.Recorded(demo.RecordedEvent{ExternalRef: hostile, Channel: hostile, RecordedAt: time.Now()})
	tab.Until(changesShown + ` === 2`)
	check()
}

func TestWithoutScripts(t *testing.T) {
	s := newSite(t)
	s.play(t)
	tab := webtest.Open(t, webtest.View{NoScript: true})
	tab.Goto(s.url)
	shown := webtest.Run[int](tab, changesShown+"+"+webhooksShown)
	if shown != 28 {
		t.Errorf("%d rows, want 28", shown)
	}
	if dead := webtest.Run[int](tab, `[...document.querySelectorAll("button, .live")].filter(e => e.getClientRects().length > 0).length`); dead != 0 {
		t.Errorf("%d controls are shown that cannot work", dead)
	}
	ref := s.tell(t)
	tab.Goto(s.url + "/?citizen=" + ref)
	tab.Do(chromedp.Click(chromedp.CSS(".applies a.why")))
	tab.Until(`document.querySelectorAll(".candidates li").length > 0`)
	tab.Do(chromedp.Click(chromedp.CSS(".ask button")))
	tab.Until(`location.search.includes("asOf=&knownAt=") && document.querySelectorAll(".candidates li").length > 0`)

	tab.Goto(s.url)
	tab.Do(chromedp.Click(chromedp.CSS("summary")), chromedp.Click(chromedp.CSS("details[open] a")))
	tab.Do(chromedp.WaitReady(chromedp.CSS("pre")))
	if body := webtest.Run[string](tab, `document.body.textContent`); !strings.Contains(body, `"externalRef": "NW-10001"`) {
		t.Errorf("the link leads to %s", body)
	}
}

// The whole page can be walked by keyboard, in the order of reading, and nothing
// is focused out of sight.
func TestByKeyboard(t *testing.T) {
	s := newSite(t)
	s.act(t, 3, 1)
	tab := webtest.Open(t, webtest.View{Width: 390})
	tab.Goto(s.url)
	tab.Until(`document.querySelector(".live").dataset.state === "live"`)
	var stops []string
	for range 14 {
		tab.Do(chromedp.KeyEvent("\t"))
		stops = append(stops, webtest.Run[string](tab, `(e => {
			const b = e.getBoundingClientRect(), s = getComputedStyle(e);
			const seen = b.top >= 0 && b.bottom <= innerHeight && s.outlineStyle === "solid";
			return e.textContent.trim() + (seen ? "" : " (out of sight)");
		})(document.activeElement)`))
	}
	want := []string{"Skip to the content", "Changes", "Shop", "Inbox", "API reference", "Pause", "NW-10004", "Why? Store events by e-mail, NW-10004", "NW-10004", "JSON", "Copy", "Copy", "Copy", "Copy"}
	if fmt.Sprint(stops) != fmt.Sprint(want) {
		t.Errorf("the stops are\n%q, want\n%q", stops, want)
	}
}
