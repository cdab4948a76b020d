package portal_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/opencpm/opencpm/internal/web/webtest"
)

const (
	manage  = `<opencpm-manage template="t_1" token="tok" channel="shop"><a href="/manage">Manage</a></opencpm-manage>`
	history = `<opencpm-history token="tok"><a href="/manage">History</a></opencpm-history>`
	capture = `<opencpm-capture template="t_2" channel="shop" campaign="spring"><a href="/join">Join</a></opencpm-capture>`
)

// wide and dark are the one view of each theme that every change is tested in.
var (
	wide = webtest.View{Width: 800, Height: 900}
	dark = webtest.View{Width: 390, Dark: true}
)

// act runs a script and waits until the widgets have done what follows from it.
func act(tab *webtest.Tab, script string) {
	webtest.Run[bool](tab, helpers)
	webtest.Run[bool](tab, script+`;true`)
}

func text(tab *webtest.Tab, expression string) string {
	return webtest.Run[string](tab, `(`+expression+`)?.textContent ?? ""`)
}

// Whatever the page around says, a widget works and looks like itself.
func TestWidgetsOnHostilePages(t *testing.T) {
	const strict = "default-src 'none'; script-src API; connect-src API; style-src 'self'"
	for _, c := range []struct{ name, head, policy string }{
		{"hostile style", host + `<style>* { all: unset !important; display: inline !important; color: red !important; font-size: 40px !important; } input, button, label { visibility: hidden !important; position: fixed !important; } opencpm-manage { display: block !important; color: #111 !important; font-size: 16px !important; }</style>`, ""},
		{"strict policy", "", strict},
		{"trusted types", "", strict + "; require-trusted-types-for 'script'; trusted-types 'none'"},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := newEmbed(t)
			tab := webtest.Open(t, wide)
			tab.Goto(e.page("en", c.head+script, manage+history+capture, c.policy))
			tab.Until(settled)
			tab.Until(`document.querySelector("opencpm-manage").state === "ready"`)
			for what, seen := range map[string]bool{
				"a switch of 36 px":    webtest.Run[bool](tab, `getComputedStyle(document.querySelector("opencpm-manage").shadowRoot.querySelector(".switch")).width === "36px"`),
				"a visible button":     webtest.Run[bool](tab, `getComputedStyle(document.querySelector("opencpm-manage").shadowRoot.querySelector("button")).visibility === "visible"`),
				"the bold of the text": webtest.Run[bool](tab, `document.querySelector("opencpm-manage").shadowRoot.querySelector("strong").textContent === "You can change it"`),
				"no style attribute":   webtest.Run[bool](tab, `document.querySelector("opencpm-manage").shadowRoot.querySelectorAll("[style], style, script").length === 0`),
			} {
				if !seen {
					t.Errorf("the widget has not %s", what)
				}
			}
			act(tab, `by("Newsletter: SMS").click(); by("Save choices").click()`)
			tab.Until(`document.querySelector("opencpm-manage").state === "saved"`)
			tab.Screenshot(strings.ReplaceAll(c.name, " ", "-"))
		})
	}
}

// A script whose content is not what the page expects does not run, and the page shows
// what stands in the element.
func TestIntegrity(t *testing.T) {
	e := newEmbed(t)
	good := integrityOf(t, e, "consent.js")
	for name, value := range map[string]string{"right": good, "wrong": "sha384-" + strings.Repeat("A", 64)} {
		t.Run(name, func(t *testing.T) {
			tab := webtest.Open(t, wide)
			if name == "wrong" {
				tab.Expect("integrity")
			}
			tab.Goto(e.page("en", fmt.Sprintf(`<script src="API/w/1.4.2/consent.js" integrity="%s" crossorigin="anonymous" async></script>`, value), manage, ""))
			if name == "right" {
				tab.Until(settled)
			}
			if shown := webtest.Run[bool](tab, `document.querySelector("opencpm-manage a").checkVisibility() && document.querySelector("opencpm-manage a").getClientRects().length > 0`); shown != (name == "wrong") {
				t.Errorf("the fallback is shown: %v", shown)
			}
			tab.Axe()
		})
	}
}

func TestAnExpiredTokenShowsNothing(t *testing.T) {
	e := newEmbed(t)
	tab := webtest.Open(t, wide)
	tab.Expect("answered 401", "a status of 401")
	tab.Goto(e.page("en", host, `<opencpm-manage template="t_1" token="expired">fallback</opencpm-manage>`, ""))
	act(tab, fmt.Sprintf(`const s = document.createElement("script"); s.src = %q; document.head.append(s)`, e.api.URL+"/w/1/consent.js"))
	tab.Until(`globalThis.heard?.length === 2`)
	got := webtest.Run[string](tab, `[heard.map(h => h[0] + " " + h[1].status).join(), document.querySelector("opencpm-manage").state, inside().childNodes.length, document.querySelector("opencpm-manage").offsetHeight].join(" / ")`)
	if want := "loaderror 401,expired 401 / expired / 0 / 0"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	// A new token is a new beginning.
	act(tab, `document.querySelector("opencpm-manage").token = "tok"`)
	tab.Until(`document.querySelector("opencpm-manage").state === "ready"`)
}

func TestASlowAPI(t *testing.T) {
	e := newEmbed(t)
	e.holdBack()
	tab := webtest.Open(t, wide)
	// Ten seconds pass in a tenth of one.
	tab.Goto(e.page("en", host+`<script>{ const wait = setTimeout; globalThis.setTimeout = (f, ms) => wait(f, (ms ?? 0) / 100) }</script>`+script, manage, ""))
	tab.Until(`document.querySelector("opencpm-manage").shadowRoot?.querySelector("[role=status]")?.textContent.startsWith("Still working")`)
	if h := webtest.Run[int](tab, `document.querySelector("opencpm-manage").offsetHeight`); h < 200 {
		t.Errorf("a waiting widget keeps %d px free", h)
	}
	if busy := webtest.Run[string](tab, `document.querySelector("opencpm-manage").shadowRoot.querySelector(".body").getAttribute("aria-busy")`); busy != "true" {
		t.Errorf("a waiting widget is busy: %q", busy)
	}
	tab.Axe()
	tab.Screenshot("slow")
}

func TestAFailingAPI(t *testing.T) {
	e := newEmbed(t)
	e.failNext(http.StatusServiceUnavailable)
	tab := webtest.Open(t, wide)
	tab.Expect("answered 503", "a status of 503")
	tab.Goto(e.page("en", host+script, manage, ""))
	tab.Until(`customElements.get("opencpm-manage") && document.querySelector("opencpm-manage").state === "error"`)
	webtest.Run[bool](tab, helpers)
	if said := text(tab, `inside().querySelector("[role=alert]")`); !strings.Contains(said, "could not be loaded") {
		t.Errorf("it says %q", said)
	}
	tab.Axe()
	tab.Screenshot("load-failed")
	act(tab, `by("Try again").click()`)
	tab.Until(`document.querySelector("opencpm-manage").state === "ready"`)

	// What was chosen outlives a save that failed.
	e.failNext(http.StatusInternalServerError)
	tab.Expect("answered 500", "a status of 500")
	act(tab, `by("Newsletter: SMS").click(); by("Save choices").click()`)
	tab.Until(`document.querySelector("opencpm-manage").state === "error"`)
	if said := text(tab, `inside().querySelector(".frame > [role=alert]")`); !strings.Contains(said, "not saved") {
		t.Errorf("it says %q", said)
	}
	if !webtest.Run[bool](tab, `by("Newsletter: SMS").checked && heard.at(-1)[0] === "failure" && heard.at(-1)[1].error.status === 500 && heard.at(-1)[1].submission.templateId === "t_1"`) {
		t.Error("the choice is lost, or the event does not tell")
	}
	tab.Axe()
	act(tab, `by("Try again").click()`)
	tab.Until(`document.querySelector("opencpm-manage").state === "saved"`)
	if n := len(e.called(http.MethodPost)); n != 2 {
		t.Errorf("%d calls to save, want 2", n)
	}
}

func TestSaving(t *testing.T) {
	for _, v := range []webtest.View{wide, dark} {
		t.Run(v.String(), func(t *testing.T) {
			e := newEmbed(t)
			tab := e.open(t, v, "en", manage)
			tab.Axe()
			tab.Fits()
			tab.Screenshot("ready")
			if n := webtest.Run[int](tab, `document.querySelector("opencpm-manage").shadowRoot.querySelectorAll("[role=switch]").length`); n != 0 {
				t.Errorf("%d controls say that they act at once", n)
			}
			act(tab, `by("Newsletter: SMS").click(); by("Offers: E-mail").click(); by("Object: Customer research").click(); by("Garden").click(); by("Once a month").click()`)
			if said := text(tab, `inside().querySelector("[role=status]")`); said != "5 changes not saved yet" {
				t.Errorf("it says %q", said)
			}
			if described := text(tab, `inside().getElementById(by("Offers: E-mail").getAttribute("aria-describedby"))`); described != "You will hear of discounts" {
				t.Errorf("the card says %q", described)
			}
			tab.Axe()
			act(tab, `by("Save choices").click()`)
			tab.Until(`document.querySelector("opencpm-manage").state === "saved"`)
			said := text(tab, `inside().querySelector("[role=status]")`)
			for _, want := range []string{"Saved at", "Privacy policy, version 7", "Newsletter, SMS: On", "Offers, E-mail: On", "Customer research, E-mail: You have objected", "Topics: Home and Garden", "How often: Once a month"} {
				if !strings.Contains(said, want) {
					t.Errorf("the receipt %q lacks %q", said, want)
				}
			}
			tab.Axe()
			tab.Fits()
			tab.Screenshot("saved")
			posts := e.called(http.MethodPost)
			if len(posts) != 1 || posts[0].token != "tok" {
				t.Fatalf("saved by %v", posts)
			}
			body := posts[0].body
			selected := map[string]any{}
			blocks := body["blocks"].([]any)
			for _, o := range blocks[0].(map[string]any)["options"].([]any) {
				selected[o.(map[string]any)["optionId"].(string)] = o.(map[string]any)["selected"]
			}
			want := map[string]any{"newsletter-email": true, "newsletter-sms": true, "offers-email": true, "offers-phone": false, "research-email": false, "orders-email": nil}
			if fmt.Sprint(selected) != fmt.Sprint(want) {
				t.Errorf("sent %v, want %v", selected, want)
			}
			if body["snapshot"] != "signed" || body["channel"] != "shop" || body["applicationId"] != "northwind" || body["submitAsPending"] != nil || blocks[2].(map[string]any)["selectedChoice"] != "monthly" {
				t.Errorf("sent %v", body)
			}
			if kinds := webtest.Run[string](tab, `heard.map(h => h[0]).join()`); kinds != "update,update,update,update,update,submit,success" {
				t.Errorf("heard %s", kinds)
			}
		})
	}
}

// Taking back what was not saved leaves nothing to save, and what was never answered
// stays so.
func TestTakingBack(t *testing.T) {
	e := newEmbed(t)
	tab := e.open(t, wide, "en", strings.Replace(manage, "template", "cancel none template", 1))
	act(tab, `by("Offers: E-mail").click(); by("Offers: E-mail").click(); by("Object: Customer research").click(); by("Withdraw objection: Customer research").click()`)
	if said := text(tab, `inside().querySelector("[role=status]")`); said != "" {
		t.Errorf("it says %q", said)
	}
	offer := `document.querySelector("opencpm-manage").value.blocks[0].options.find(o => o.optionId === "offers-email").selected`
	if v := webtest.Run[string](tab, `String(`+offer+`)`); v != "null" {
		t.Errorf("never answered became %s", v)
	}
	act(tab, `by("Garden").click(); by("Once a month").click(); by("Turn everything off").click()`)
	if on := webtest.Run[string](tab, `document.querySelector("opencpm-manage").value.blocks[0].options.map(o => String(o.selected)).join()`); on != "false,false,null,false,false,null" {
		t.Errorf("turned off: %s", on)
	}
	tab.Screenshot("buttons")
	act(tab, `by("Undo changes").click()`)
	if !webtest.Run[bool](tab, `by("Newsletter: E-mail").checked && !by("Garden").checked && by("Every week").checked && inside().querySelector("[role=status]").textContent === ""`) {
		t.Error("the answers are not what they were")
	}
	// A page may stop a submission.
	act(tab, `document.addEventListener("consent:submit", (e) => e.preventDefault(), { once: true }); by("Save choices").click()`)
	webtest.Run[bool](tab, `document.querySelector("opencpm-manage").submit().then(() => true)`)
	if n := len(e.called(http.MethodPost)); n != 1 {
		t.Errorf("%d were sent, want the second alone", n)
	}
}

// Stopping everything is one step, looks like saving, and nothing is on that was not
// turned on.
func TestFairness(t *testing.T) {
	e := newEmbed(t)
	tab := e.open(t, wide, "en", manage)
	act(tab, `0`)
	const look = `(e => { const s = getComputedStyle(e), b = e.getBoundingClientRect(); return [b.height, s.fontSize, s.fontWeight, s.color, s.backgroundColor, s.borderColor, s.borderWidth, s.borderRadius, s.padding, s.opacity].join() })`
	if save, stop := webtest.Run[string](tab, look+`(by("Save choices"))`), webtest.Run[string](tab, look+`(by("Stop all marketing"))`); save != stop {
		t.Errorf("to save and to stop differ:\n%s\n%s", save, stop)
	}
	if n := webtest.Run[int](tab, `[...inside().querySelectorAll("button")].filter(b => /\ball\b.*on|accept|select all/i.test(b.textContent)).length`); n != 0 {
		t.Errorf("%d buttons turn everything on", n)
	}
	act(tab, `by("Stop all marketing").click()`)
	tab.Until(`document.querySelector("opencpm-manage").state === "saved"`)
	for _, o := range e.called(http.MethodPost)[0].body["blocks"].([]any)[0].(map[string]any)["options"].([]any) {
		v := o.(map[string]any)
		if marketing := v["directMarketing"] == true && v["suppressed"] == nil; marketing && v["selected"] != false || v["optionId"] == "research-email" && v["selected"] != true {
			t.Errorf("%v is %v", v["optionId"], v["selected"])
		}
	}

	// Somebody who was never asked has nothing on.
	e.mu.Lock()
	for i := range e.form.Blocks {
		for k := range e.form.Blocks[i].Options {
			e.form.Blocks[i].Options[k].Selected, e.form.Blocks[i].Options[k].State = nil, nil
		}
		e.form.Blocks[i].SelectedChoice = nil
		for k := range e.form.Blocks[i].Choices {
			e.form.Blocks[i].Choices[k].Selected = false
		}
	}
	e.mu.Unlock()
	fresh := e.open(t, wide, "en", manage+capture)
	if n := webtest.Run[int](fresh, `[...document.querySelectorAll("opencpm-manage, opencpm-capture")].flatMap(e => [...e.shadowRoot.querySelectorAll("input:checked")]).length`); n != 0 {
		t.Errorf("%d are on for somebody who was never asked", n)
	}
	act(fresh, `0`)
	if !webtest.Run[bool](fresh, `!!by("Object: Customer research") && ![...inside().querySelectorAll("input")].some(e => nameOf(e).includes("Order and account"))`) {
		t.Error("what does not rest on consent is drawn as if it did")
	}
}

func TestAutosave(t *testing.T) {
	e := newEmbed(t)
	tab := e.open(t, wide, "en", strings.Replace(manage, "template", "autosave template", 1))
	if !webtest.Run[bool](tab, `[...document.querySelector("opencpm-manage").shadowRoot.querySelectorAll("input[type=checkbox]")].every(e => e.getAttribute("role") === "switch")`) {
		t.Error("a control that acts at once does not say so")
	}
	tab.Axe()
	e.holdBack()
	act(tab, `by("Newsletter: SMS").click(); by("Newsletter: SMS").click(); by("Newsletter: SMS").click()`)
	e.awaitCalls(http.MethodPost, 1)
	act(tab, `by("Garden").click(); by("Garden").click(); by("Garden").click()`)
	e.release()
	tab.Until(`document.querySelector("opencpm-manage").state === "saved" && heard.filter(h => h[0] === "success").length === 2`)
	if posts := e.called(http.MethodPost); len(posts) != 2 {
		t.Errorf("%d saves, want one and one for what came meanwhile", len(posts))
	}
	// A switch that could not be saved goes back, and the focus stays.
	e.failNext(http.StatusInternalServerError)
	tab.Expect("answered 500", "a status of 500")
	act(tab, `by("Offers: E-mail").focus(); by("Offers: E-mail").click()`)
	tab.Until(`!by("Offers: E-mail").checked && inside().querySelector(".frame > [role=alert]").textContent.includes("not saved")`)
	if name := webtest.Run[string](tab, `nameOf(inside().activeElement)`); name != "Offers: E-mail" {
		t.Errorf("the focus is on %q", name)
	}
	tab.Axe()
}

// Everything can be reached and done by keys, in the order in which it is read, and is
// seen to be reached.
func TestWidgetByKeyboard(t *testing.T) {
	e := newEmbed(t)
	tab := e.open(t, webtest.View{Width: 390, Height: 640}, "en", `<a href="#">before</a>`+manage+`<a href="#">after</a>`)
	act(tab, `globalThis.at = () => { let e = document.activeElement; while (e.shadowRoot?.activeElement) e = e.shadowRoot.activeElement; return e }; document.querySelector("a").focus()`)
	var stops []string
	for range 12 {
		tab.Do(chromedp.KeyEvent("\t"))
		stops = append(stops, webtest.Run[string](tab, `nameOf(at()).trim()`))
		if !webtest.Run[bool](tab, `(e => { const s = getComputedStyle(e), b = e.getBoundingClientRect(); return s.outlineStyle !== "none" && parseFloat(s.outlineWidth) >= 1 && b.top >= -1 && b.bottom <= innerHeight + 1 && Math.min(b.width, b.height) >= 16 })(at())`) {
			t.Errorf("%s is not seen to be focused", stops[len(stops)-1])
		}
	}
	want := []string{"privacy notes", "Newsletter: E-mail", "Newsletter: SMS", "Offers: E-mail", "Object: Customer research", "Home", "Garden", "Every week", "Privacy policy, version 7", "Save choices", "Stop all marketing", "after"}
	if !slices.Equal(stops[:len(want)], want) {
		t.Errorf("the stops are %q, want %q", stops, want)
	}
	act(tab, `by("Newsletter: SMS").focus()`)
	tab.Do(chromedp.KeyEvent(" "))
	act(tab, `by("Every week").focus()`)
	tab.Do(chromedp.KeyEvent("\u0301")) // the arrow down
	act(tab, `by("Object: Customer research").focus()`)
	tab.Do(chromedp.KeyEvent("\r"))
	if got := webtest.Run[string](tab, `[by("Newsletter: SMS").checked, by("Once a month").checked, nameOf(at())].join()`); got != "true,true,Withdraw objection: Customer research" {
		t.Errorf("the keys led to %s", got)
	}
	act(tab, `by("Save choices").focus()`)
	tab.Do(chromedp.KeyEvent("\r"))
	tab.Until(`document.querySelector("opencpm-manage").state === "saved"`)
	if name := webtest.Run[string](tab, `nameOf(at())`); name != "Save choices" {
		t.Errorf("after saving the focus is on %q", name)
	}
}

func TestRightToLeft(t *testing.T) {
	e := newEmbed(t)
	tab := e.open(t, dark, "ar", `<opencpm-manage template="t_1" token="tok" locale="ar"></opencpm-manage><opencpm-capture template="t_2" locale="ar"></opencpm-capture>`)
	if !webtest.Run[bool](tab, `(r => r.querySelector("input").getBoundingClientRect().left < r.querySelector("[part=label]").getBoundingClientRect().left && getComputedStyle(r.querySelector("form")).direction === "rtl")(document.querySelector("opencpm-manage").shadowRoot)`) {
		t.Error("it is not mirrored")
	}
	if word := text(tab, `document.querySelector("opencpm-manage").shadowRoot.querySelector(".submit")`); word != "حفظ الاختيارات" {
		t.Errorf("to save is called %q", word)
	}
	tab.Axe()
	tab.Fits()
	tab.Screenshot("arabic")
}

func TestForcedColours(t *testing.T) {
	e := newEmbed(t)
	tab := e.open(t, webtest.View{Width: 390, ForcedColours: true}, "en", manage)
	on, off := webtest.Run[string](tab, `getComputedStyle(document.querySelector("opencpm-manage").shadowRoot.querySelector(".switch:checked")).backgroundColor`), webtest.Run[string](tab, `getComputedStyle(document.querySelector("opencpm-manage").shadowRoot.querySelector(".switch:not(:checked)")).backgroundColor`)
	if on == off {
		t.Errorf("on and off are both %s", on)
	}
	tab.Axe()
	tab.Screenshot("forced")
}

// Removing, inserting again, and many changes at once are what frameworks do.
func TestLifeOnThePage(t *testing.T) {
	e := newEmbed(t)
	tab := e.open(t, wide, "en", manage)
	loads := func() int { return len(e.called(http.MethodGet)) }
	act(tab, `globalThis.el = document.querySelector("opencpm-manage"); el.locale = "de"; el.rule = "r"; el.token = "two"; el.locale = "en"`)
	tab.Until(`el.state === "ready" && heard.filter(h => h[0] === "load").length === 1`)
	if n := loads(); n != 2 {
		t.Errorf("%d requests, want one for each time", n)
	}
	if c := e.called(http.MethodGet)[1]; c.token != "two" || !strings.Contains(c.query, "ruleId=r") || !strings.Contains(c.query, "templateId=t_1") || !strings.Contains(c.query, "locale=en") {
		t.Errorf("asked %+v", c)
	}
	// What does not change the question changes the look alone.
	act(tab, `by("Garden").click(); el.buttons = "none"; el.theme = "dark"`)
	tab.Until(`inside().querySelectorAll(".buttons").length === 0`)
	if !webtest.Run[bool](tab, `by("Garden").checked && getComputedStyle(el).colorScheme === "dark"`) || loads() != 2 {
		t.Error("the choice is lost, or the question was asked again")
	}
	act(tab, `el.unstyled = true`)
	tab.Until(`inside().adoptedStyleSheets.length === 0`)
	act(tab, `el.unstyled = false; el.buttons = null; el.theme = null`)
	tab.Until(`inside().adoptedStyleSheets.length === 1 && inside().querySelectorAll(".buttons").length === 1`)

	act(tab, `el.remove(); document.querySelector("main").append(el)`)
	tab.Until(`heard.filter(h => h[0] === "load").length === 2`)
	if n := loads(); n != 3 {
		t.Errorf("%d requests after it was put in again, want 3", n)
	}
	// Removed while it waits: the request ends, and nothing is said of it.
	e.holdBack()
	act(tab, `globalThis.before = heard.length; el.reload(); setTimeout(() => el.remove(), 50)`)
	tab.Until(`!el.isConnected`)
	e.release()
	act(tab, `document.querySelector("main").append(el)`)
	tab.Until(`el.state === "ready"`)
	if more := webtest.Run[string](tab, `heard.slice(before).map(h => h[0]).join()`); more != "load" {
		t.Errorf("heard %s", more)
	}
	// A save goes on although the element is gone.
	e.holdBack()
	act(tab, `globalThis.done = false; el.submit().then(() => { done = true }); setTimeout(() => el.remove(), 50)`)
	tab.Until(`!el.isConnected`)
	e.release()
	tab.Until(`done`)

	// Without a token, what stands in the element is shown.
	act(tab, `el.token = null; document.querySelector("main").append(el)`)
	tab.Until(`!!inside().querySelector("slot")`)
}

func TestTwoWidgetsAndTwoVersions(t *testing.T) {
	e := newEmbed(t)
	tab := webtest.Open(t, wide)
	other := strings.Replace(scriptOf(t, e, "consent.js"), `build="`, `build="other-`, 1)
	tab.Goto(e.page("en", host+`<script>globalThis.warned = []; console.warn = (m) => warned.push(m)</script>`+script+`<script src="API/w/1/compat.js" defer></script>`, manage+manage+history, ""))
	tab.Until(settled)
	tab.Axe()
	if n := webtest.Run[int](tab, `warned.length`); n != 0 {
		t.Errorf("the same version twice: %s", webtest.Run[string](tab, `warned.join()`))
	}
	webtest.Run[bool](tab, other+";true")
	if n := webtest.Run[int](tab, `warned.length`); n != 3 {
		t.Errorf("another version is told of %d times, want once for each element", n)
	}
	act(tab, `[...document.querySelectorAll("opencpm-manage")][1].shadowRoot.querySelector(".switch:not(:checked)").click()`)
	if got := webtest.Run[string](tab, `[...document.querySelectorAll("opencpm-manage")].map(e => e.shadowRoot.querySelectorAll(".switch:checked").length).join()`); got != "2,3" {
		t.Errorf("one widget changed the other: %s", got)
	}
}

func TestNothingToChoose(t *testing.T) {
	e := newEmbed(t)
	e.mu.Lock()
	e.form.Blocks = e.form.Blocks[3:]
	e.mu.Unlock()
	tab := e.open(t, wide, "en", manage+capture+history)
	tab.Until(`[...document.querySelectorAll("opencpm-manage, opencpm-capture, opencpm-history")].every(e => e.state === "empty")`)
	tab.Axe()
	tab.Screenshot("empty")
}

func TestHistory(t *testing.T) {
	e := newEmbed(t)
	var entries []string
	for i := range 12 {
		entries = append(entries, fmt.Sprintf(`{"seq":%d,"kind":"transaction","transaction":{"reverts":null,"obtainedAt":"2026-03-%02dT09:14:00Z","changes":[{"optionId":"newsletter-email","state":"%s","purpose":{"id":"newsletter","name":"Newsletter"},"channel":{"id":"email","name":"E-mail"}}]},"submission":null,"shown":{"privacyPolicy":{"reference":"policy-01","name":"Privacy policy","version":"7","url":"https://example.com/privacy"},"permissionStatement":{"text":{"":"We may write to you","de":"Wir dürfen schreiben"}}}}`, i+1, i+1, []string{"GRANTED", "DENIED"}[i%2]))
	}
	entries = append(entries, `{"seq":13,"kind":"submission","transaction":null,"submission":{"label":"Topics","obtainedAt":"2026-04-01T09:14:00Z","choices":[{"reference":"home","label":"Home"},{"reference":"garden","label":"Garden"}]},"shown":{"privacyPolicy":null,"permissionStatement":null}}`)
	entries = append(entries, `{"seq":14,"kind":"suppression","transaction":null,"submission":null,"suppression":{"recordedAt":"2026-04-02T09:14:00Z","channel":{"id":"email","name":"E-mail"},"lifted":false},"shown":{"privacyPolicy":null,"permissionStatement":null}}`)
	e.past = "[" + strings.Join(entries, ",") + "]"
	for _, v := range []webtest.View{wide, dark} {
		t.Run(v.String(), func(t *testing.T) {
			tab := e.open(t, v, "en", history+`<opencpm-history token="tok" filter="submission" limit="3"></opencpm-history>`)
			tab.Axe()
			tab.Fits()
			tab.Screenshot("history")
			act(tab, `0`)
			if newest := text(tab, `inside("opencpm-history").querySelector("li")`); !strings.Contains(newest, "Apr 2, 2026") || !strings.Contains(newest, "E-mail") || !strings.Contains(newest, "on our do-not-contact list") {
				t.Errorf("the newest is %q", newest)
			}
			first := text(tab, `inside("opencpm-history").querySelectorAll("li")[1]`)
			if !strings.Contains(first, "Topics") || !strings.Contains(first, "Home and Garden") {
				t.Errorf("the one before is %q", first)
			}
			second := text(tab, `inside("opencpm-history").querySelectorAll("li")[2]`)
			for _, want := range []string{"Mar 12, 2026", "Newsletter, E-mail", "off", "We may write to you", "Privacy policy, version 7"} {
				if !strings.Contains(second, want) {
					t.Errorf("the third, %q, lacks %q", second, want)
				}
			}
			if strings.Contains(second, "newsletter-email") {
				t.Errorf("an id leaks: %q", second)
			}
			act(tab, `by("Show more", "opencpm-history").click()`)
			if got := webtest.Run[string](tab, `[inside("opencpm-history").querySelectorAll("li").length, inside("opencpm-history").activeElement === inside("opencpm-history").querySelectorAll("li")[10], document.querySelectorAll("opencpm-history")[1].shadowRoot.querySelectorAll("li").length].join()`); got != "14,true,1" {
				t.Errorf("after more: %s", got)
			}
		})
	}
}

func TestSignUp(t *testing.T) {
	e := newEmbed(t)
	for _, v := range []webtest.View{wide, dark} {
		t.Run(v.String(), func(t *testing.T) {
			before := len(e.called(http.MethodPost))
			tab := e.open(t, v, "en", capture)
			tab.Axe()
			tab.Fits()
			tab.Screenshot("capture")
			act(tab, `globalThis.box = () => inside("opencpm-capture"); by("Offers: E-mail", "opencpm-capture").click(); by("Send", "opencpm-capture").click()`)
			if got := webtest.Run[string](tab, `[box().activeElement.id, box().activeElement.getAttribute("aria-invalid"), box().getElementById("email-error").textContent].join()`); got != "email,true,Please enter an e-mail address such as name@example.com." {
				t.Errorf("without an address: %s", got)
			}
			tab.Axe()
			act(tab, `box().getElementById("email").value = "jo@example.com"; by("Send", "opencpm-capture").click()`)
			tab.Until(`document.querySelector("opencpm-capture").state === "saved"`)
			if said := text(tab, `box().querySelector("[role=status]")`); !strings.Contains(said, "inbox") || !webtest.Run[bool](tab, `box().activeElement?.getAttribute("role") === "status"`) {
				t.Errorf("it says %q, out of focus", said)
			}
			tab.Axe()
			tab.Screenshot("captured")
			body := e.called(http.MethodPost)[before].body
			if body["emailAddress"] != "jo@example.com" || body["submitAsPending"] != true || body["templateId"] != "t_1" || body["channel"] != "shop" || body["campaign"] != "spring" || body["snapshot"] != "signed" || body["uniqueReference"] != nil {
				t.Errorf("sent %v", body)
			}
		})
	}
}

// A capture with the form of the page: it sends when that is submitted; what the page
// knows comes from it.
func TestSignUpWithTheFormOfThePage(t *testing.T) {
	e := newEmbed(t)
	e.mu.Lock()
	e.form.Blocks[2].Mandatory, e.form.Blocks[2].SelectedChoice = true, nil
	e.mu.Unlock()
	tab := e.open(t, wide, "en", `<form id="join" action="/done" method="get"><label>Mail <input type="email" name="mail" value="jo@example.com"></label>
<opencpm-capture template="t_2" for="join" name="consent"></opencpm-capture><button id="go" name="how" value="now">Join</button></form>`)
	act(tab, `globalThis.el = document.querySelector("opencpm-capture"); globalThis.went = []; document.querySelector("form").addEventListener("submit", (e) => { e.preventDefault(); went.push(JSON.stringify([...new FormData(e.target, e.submitter)].map(([k, v]) => k === "consent" ? [k, JSON.parse(v).blocks.length] : [k, v]))) })`)
	if n := webtest.Run[int](tab, `el.shadowRoot.querySelectorAll("button:not([aria-label]), #email").length`); n != 0 {
		t.Error("the widget has a button, or a field for the address, beside that of the page")
	}
	act(tab, `by("Offers: E-mail", "opencpm-capture").click(); document.querySelector("#go").click()`)
	if got := webtest.Run[string](tab, `[went.length, el.checkValidity(), el.form.id].join()`); got != "0,false,join" {
		t.Errorf("a form with a question that must be answered: %s", got)
	}
	act(tab, `by("Once a month", "opencpm-capture").click(); document.querySelector("#go").click()`)
	tab.Until(`went.length === 1`)
	e.awaitCalls(http.MethodPost, 1) // the page sends it by itself, at the same time
	tab.Until(`el.state === "saved"`)
	if got, want := webtest.Run[string](tab, `went[0]`), `[["mail","jo@example.com"],["consent",4],["how","now"]]`; got != want {
		t.Errorf("the form went on with %s, want %s", got, want)
	}
	posts := e.called(http.MethodPost)
	if len(posts) != 1 || posts[0].body["emailAddress"] != "jo@example.com" {
		t.Errorf("sent %v", posts)
	}
	// A capture that fails does not hold up the page.
	e.failNext(http.StatusInternalServerError)
	tab.Expect("answered 500", "a status of 500")
	act(tab, `el.reference = () => "CUST-9"; by("Garden", "opencpm-capture").click(); document.querySelector("#go").click()`)
	tab.Until(`went.length === 2 && heard.at(-1)[0] === "failure"`)
	if body := e.called(http.MethodPost)[1].body; body["uniqueReference"] != "CUST-9" || body["emailAddress"] != nil || body["submitAsPending"] != nil {
		t.Errorf("sent %v", body)
	}
	// Nothing chosen since: nothing is sent, and the page goes on.
	act(tab, `document.querySelector("form").reset(); document.querySelector("#go").click()`)
	tab.Until(`went.length === 3 && heard.at(-1)[0] === "success" && heard.at(-1)[1].response === null`)
	if n := len(e.called(http.MethodPost)); n != 2 {
		t.Errorf("%d were sent", n)
	}
}

// Without scripts, and before they are there, a page shows what stands in the element.
func TestWithoutScripts(t *testing.T) {
	e := newEmbed(t)
	tab := webtest.Open(t, webtest.View{Width: 390, NoScript: true})
	tab.Goto(e.page("en", host+script, manage+history+capture, ""))
	tab.Fits()
	if n := webtest.Run[int](tab, `[...document.querySelectorAll("main a")].filter(a => a.getClientRects().length > 0).length`); n != 3 {
		t.Errorf("%d of 3 links are shown", n)
	}
}
