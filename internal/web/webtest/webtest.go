// Package webtest drives pages in a real Chromium. A test process starts one
// browser, on first use, and every test gets tabs of its own; a tab fails its test
// when anything is written to the console or a request fails.
package webtest

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	protocol "github.com/chromedp/cdproto/browser"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
	"go.uber.org/goleak"
)

// patience is how long one step in the browser may take. The machine may be busy
// with other things.
const patience = 60 * time.Second

// axe is the accessibility checker, under the Mozilla Public License 2.0.
//
//go:embed testdata/axe.min.js
var axe string

// browser is the one of this test process.
var browser struct {
	sync.Mutex
	ctx  context.Context
	stop func()
}

// Main runs the tests of a package that uses tabs, closes the browser and checks
// that no goroutine is left. Call it from TestMain.
func Main(m *testing.M) {
	code := m.Run()
	Close()
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, "goroutines are left:", err)
			code = 1
		}
	}
	os.Exit(code)
}

// Close closes the browser; a tab that is opened later starts another. Packages whose
// TestMain is not Main call it when they have used the last tab.
func Close() {
	browser.Lock()
	defer browser.Unlock()
	if browser.stop != nil {
		browser.stop()
	}
	browser.ctx, browser.stop = nil, nil
}

func start(t testing.TB) context.Context {
	t.Helper()
	browser.Lock()
	defer browser.Unlock()
	if browser.ctx != nil {
		return browser.ctx
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.NoSandbox, // tests may run as root
		chromedp.DisableGPU,
		chromedp.Flag("disable-component-update", true),
		chromedp.Flag("font-render-hinting", "none"),
		chromedp.Flag("disable-lcd-text", true),
		chromedp.Flag("hide-scrollbars", true),
	)
	if path := os.Getenv("CHROME_PATH"); path != "" {
		options = append(options, chromedp.ExecPath(path))
	}
	allocator, stopAllocator := chromedp.NewExecAllocator(context.Background(), options...)
	ctx, cancel := chromedp.NewContext(allocator)
	stop := func() {
		closing, done := context.WithTimeout(ctx, 10*time.Second)
		defer done()
		if err := chromedp.Cancel(closing); err != nil {
			fmt.Fprintln(os.Stderr, "closing the browser:", err)
		}
		cancel()
		stopAllocator()
	}
	if err := chromedp.Do(ctx); err != nil {
		stop()
		t.Fatalf("No Chromium could be started: install Debian's package chromium, or name one in CHROME_PATH. %v", err)
	}
	browser.ctx, browser.stop = ctx, stop
	return ctx
}

// View is how a tab looks at a page. The zero View is a wide light screen.
type View struct {
	Width, Height int // CSS pixels; 1440 × 900 where zero
	Dark          bool
	ForcedColours bool
	NoScript      bool
	Motion        bool // otherwise the reader asks for reduced motion, so that pictures hold still
}

// String names the view for a sub-test or a file.
func (v View) String() string {
	v = v.complete()
	name := fmt.Sprintf("%d-light", v.Width)
	if v.Dark {
		name = fmt.Sprintf("%d-dark", v.Width)
	}
	if v.ForcedColours {
		name += "-forced"
	}
	if v.NoScript {
		name += "-noscript"
	}
	return name
}

func (v View) complete() View {
	if v.Width == 0 {
		v.Width, v.Height = 1440, 900
	}
	if v.Height == 0 {
		v.Height = 844
	}
	return v
}

// Views are the screens on which every page must work: wide, phone and the
// narrowest, light and dark.
var Views = []View{
	{Width: 1440, Height: 900},
	{Width: 1440, Height: 900, Dark: true},
	{Width: 390},
	{Width: 390, Dark: true},
	{Width: 320},
	{Width: 320, Dark: true},
}

// Tab is one tab of the browser, of one test.
type Tab struct {
	t    testing.TB
	ctx  context.Context
	view View

	mu       sync.Mutex
	noise    []string
	expected []string // parts of the noise that belong to the test
	quiet    sync.WaitGroup
}

// Open opens an empty tab, which closes when the test ends. The test fails if the
// tab was not silent.
func Open(t testing.TB, v View) *Tab {
	t.Helper()
	ctx, cancel := chromedp.NewContext(start(t))
	tab := &Tab{t: t, ctx: ctx, view: v.complete()}
	t.Cleanup(func() {
		tab.check()
		cancel()
		tab.quiet.Wait()
	})
	tab.listen()
	media := []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: "light"}, {Name: "prefers-reduced-motion", Value: "reduce"}}
	if v.Dark {
		media[0].Value = "dark"
	}
	if v.Motion {
		media[1].Value = "no-preference"
	}
	if v.ForcedColours {
		media = append(media, &emulation.MediaFeature{Name: "forced-colors", Value: "active"})
	}
	_, err := chromedp.Call(ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: media})
	tab.must("setting the media", err)
	_, err = chromedp.Call(ctx, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: v.NoScript})
	tab.must("setting scripts", err)
	tab.Do(chromedp.EmulateViewport(int64(tab.view.Width), int64(tab.view.Height)))
	return tab
}

// listen notes whatever a silent page would not cause.
func (tab *Tab) listen() {
	note := func(format string, args ...any) {
		tab.mu.Lock()
		defer tab.mu.Unlock()
		tab.noise = append(tab.noise, fmt.Sprintf(format, args...))
	}
	_, err := chromedp.Call(tab.ctx, network.Enable, network.EnableParams{})
	tab.must("watching the network", err)
	console := chromedp.Console(tab.ctx)
	failures := chromedp.Events(tab.ctx, network.LoadingFailed)
	responses := chromedp.Events(tab.ctx, network.ResponseReceived)
	tab.quiet.Go(func() {
		for m, err := range console {
			if err != nil {
				return
			}
			note("console: %v", m)
		}
	})
	tab.quiet.Go(func() {
		for e, err := range failures {
			if err != nil {
				return
			}
			if !e.Canceled { // by the page itself, on leaving
				note("request failed: %s %s", e.ErrorText, e.BlockedReason)
			}
		}
	})
	tab.quiet.Go(func() {
		for e, err := range responses {
			if err != nil {
				return
			}
			if e.Response.Status >= 400 {
				note("answered %d: %s", e.Response.Status, e.Response.URL)
			}
		}
	})
}

func (tab *Tab) check() {
	missing := tab.missing()
	for late := time.Now().Add(patience); len(missing) > 0 && time.Now().Before(late); missing = tab.missing() {
		time.Sleep(10 * time.Millisecond) // the browser tells of it after the page has it
	}
	for _, part := range missing {
		tab.t.Errorf("%v: there was no noise of %q", tab.view, part)
	}
	tab.mu.Lock()
	defer tab.mu.Unlock()
	for _, n := range tab.noise {
		if !slices.ContainsFunc(tab.expected, func(part string) bool { return strings.Contains(n, part) }) {
			tab.t.Errorf("%v: %s", tab.view, n)
		}
	}
}

// missing gives what is expected of the noise and has not come.
func (tab *Tab) missing() (parts []string) {
	tab.mu.Lock()
	defer tab.mu.Unlock()
	for _, part := range tab.expected {
		if !slices.ContainsFunc(tab.noise, func(n string) bool { return strings.Contains(n, part) }) {
			parts = append(parts, part)
		}
	}
	return parts
}

// Expect says that noise with each of these parts is what the test is about: it must
// come, and fails nothing.
func (tab *Tab) Expect(parts ...string) {
	tab.mu.Lock()
	defer tab.mu.Unlock()
	tab.expected = append(tab.expected, parts...)
}

// Allow grants permissions of the Permissions API, such as clipboard-read, to all
// pages of the browser.
func (tab *Tab) Allow(names ...string) {
	tab.t.Helper()
	for _, name := range names {
		_, err := chromedp.CallBrowser(tab.ctx, protocol.SetPermission, protocol.SetPermissionParams{
			Permission: &protocol.PermissionDescriptor{Name: name}, Setting: protocol.PermissionSettingGranted,
		})
		tab.must("allowing "+name, err)
	}
}

func (tab *Tab) must(doing string, err error) {
	tab.t.Helper()
	if err != nil {
		tab.t.Fatalf("%v: %s: %v", tab.view, doing, err)
	}
}

// Do runs steps in the tab and fails the test if one of them fails.
func (tab *Tab) Do(steps ...chromedp.Action[chromedp.Void]) {
	tab.t.Helper()
	ctx, cancel := context.WithTimeout(tab.ctx, patience)
	defer cancel()
	tab.must("a step", chromedp.Do(ctx, steps...))
}

// Goto opens a page and waits until it stands still: loaded, with its fonts.
func (tab *Tab) Goto(url string) {
	tab.t.Helper()
	tab.Do(chromedp.Navigate(url))
	if !tab.view.NoScript {
		Run[bool](tab, `document.fonts.ready.then(() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(true)))))`)
	}
}

// Run evaluates an expression, awaits it if it is a promise, and gives its value.
func Run[T any](tab *Tab, expression string) T {
	tab.t.Helper()
	ctx, cancel := context.WithTimeout(tab.ctx, patience)
	defer cancel()
	v, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
	tab.must(expression, err)
	return v
}

// Until waits until the expression is true in the page, over navigations too.
func (tab *Tab) Until(expression string) {
	tab.t.Helper()
	ctx, cancel := context.WithTimeout(tab.ctx, patience)
	defer cancel()
	for {
		_, err := chromedp.Run(ctx, chromedp.Poll[bool](expression, chromedp.WithPollingTimeout(0)))
		// A poll ends with the document in which it began; it begins again in the next.
		if exception := (*chromedp.ExceptionError)(nil); err == nil || ctx.Err() != nil || errors.As(err, &exception) {
			tab.must("waiting for "+expression, err)
			return
		}
	}
}

// Axe checks the page as it is now and fails the test for each violation. It needs
// scripts to run in the tab.
func (tab *Tab) Axe() {
	tab.t.Helper()
	if tab.view.NoScript {
		tab.t.Fatalf("%v: axe cannot run where scripts do not", tab.view)
	}
	if loaded := Run[bool](tab, `typeof axe === "object"`); !loaded {
		Run[bool](tab, axe+"\n;true")
	}
	found := Run[string](tab, `axe.run(document, {resultTypes: ["violations"]}).then(r => JSON.stringify(r.violations.map(v => ({rule: v.id, help: v.help, nodes: v.nodes.map(n => n.html + " | " + n.failureSummary)}))))`)
	var violations []struct {
		Rule, Help string
		Nodes      []string
	}
	tab.must("reading what axe found", json.Unmarshal([]byte(found), &violations))
	for _, v := range violations {
		tab.t.Errorf("%v: axe: %s: %s\n\t%s", tab.view, v.Rule, v.Help, strings.Join(v.Nodes, "\n\t"))
	}
}

// Fits fails the test if the page can be scrolled sideways, or if text is cut off
// in an element that does not say so by an ellipsis or by scrolling.
func (tab *Tab) Fits() {
	tab.t.Helper()
	if over := Run[int](tab, `document.documentElement.scrollWidth - document.documentElement.clientWidth`); over > 0 {
		tab.t.Errorf("%v: the page is %d px wider than the screen", tab.view, over)
	}
	cut := Run[[]string](tab, `[...document.querySelectorAll("body *")].filter(e => {
		const s = getComputedStyle(e);
		return s.overflowX !== "visible" && s.overflowX !== "auto" && s.textOverflow !== "ellipsis" && s.clipPath === "none" && e.clientWidth > 0 && e.scrollWidth > e.clientWidth + 1 && !(e instanceof SVGElement);
	}).map(e => e.outerHTML.slice(0, 120))`)
	for _, e := range cut {
		tab.t.Errorf("%v: cut off: %s", tab.view, e)
	}
}

// Screenshot writes a picture of the whole page to the directory that the
// environment variable WEBTEST_PICTURES names, and does nothing where it is unset.
func (tab *Tab) Screenshot(name string) {
	tab.t.Helper()
	dir := os.Getenv("WEBTEST_PICTURES")
	if dir == "" {
		return
	}
	picture := tab.Picture()
	tab.must("making the directory", os.MkdirAll(dir, 0o755))
	tab.must("writing the picture", os.WriteFile(filepath.Join(dir, name+"-"+tab.view.String()+".png"), picture, 0o644))
}

// Picture gives a picture of the whole page, as a PNG file.
func (tab *Tab) Picture() []byte {
	tab.t.Helper()
	ctx, cancel := context.WithTimeout(tab.ctx, patience)
	defer cancel()
	metrics, err := chromedp.Call(ctx, page.GetLayoutMetrics, cdp.Empty{})
	tab.must("measuring the page", err)
	height := max(int64(tab.view.Height), int64(metrics.CSSContentSize.Height))
	// Sticky bars would stand in the middle of a picture stitched together.
	tab.must("growing the screen", chromedp.Do(ctx, chromedp.EmulateViewport(int64(tab.view.Width), height)))
	png, err := chromedp.Run(ctx, chromedp.CaptureScreenshot())
	tab.must("taking a picture", err)
	tab.must("shrinking the screen", chromedp.Do(ctx, chromedp.EmulateViewport(int64(tab.view.Width), int64(tab.view.Height))))
	return png
}
