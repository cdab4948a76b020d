package portal_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/opencpm/opencpm/internal/web/webtest"
)

// A page that stops a save at once is asked once, and what stands is shown again.
func TestAutosaveThatThePageStops(t *testing.T) {
	e := newEmbed(t)
	tab := e.open(t, wide, "en", strings.Replace(manage, "template", "autosave template", 1))
	// An end after some rounds, so that a loop fails this test in place of the browser.
	act(tab, `globalThis.asked = 0; globalThis.stop = true; document.addEventListener("consent:submit", (e) => { if (++asked < 1000 && stop) e.preventDefault() })`)
	act(tab, `by("Newsletter: SMS").click()`)
	tab.Until(`asked > 0 && !by("Newsletter: SMS").checked`)
	if n := webtest.Run[int](tab, `asked`); n != 1 {
		t.Errorf("one switch asked the page %d times whether to send", n)
	}
	if posts := e.called(http.MethodPost); len(posts) != 0 {
		t.Errorf("sent %v", posts)
	}
	// What the page changes in it is no change of what is shown, and is not sent twice.
	act(tab, `stop = false; document.addEventListener("consent:submit", (e) => { e.detail.source = "shop " + asked }); by("Newsletter: SMS").click()`)
	tab.Until(`document.querySelector("opencpm-manage").state === "saved"`)
	if posts := e.called(http.MethodPost); !webtest.Run[bool](tab, `by("Newsletter: SMS").checked`) || len(posts) != 1 || posts[0].body["source"] != "shop 2" {
		t.Errorf("the next change is saved by %v", posts)
	}
}

// What is changed while another save is under way is saved after it, whoever began that.
func TestAutosaveBesideAnotherSave(t *testing.T) {
	for name, begin := range map[string]string{"of the page": `document.querySelector("opencpm-manage").submit()`, "that stops everything": `by("Stop all marketing").click()`} {
		t.Run(name, func(t *testing.T) {
			e := newEmbed(t)
			tab := e.open(t, wide, "en", strings.Replace(manage, "template", "autosave template", 1))
			e.holdBack()
			act(tab, begin)
			e.awaitCalls(http.MethodPost, 1)
			act(tab, `by("Garden").click()`)
			e.release()
			tab.Until(`heard.filter(h => h[0] === "success").length === 2`)
			posts := e.called(http.MethodPost)
			if garden := posts[len(posts)-1].body["blocks"].([]any)[1].(map[string]any)["choices"].([]any)[1].(map[string]any)["selected"]; len(posts) != 2 || garden != true {
				t.Errorf("%d saves, the last with %v", len(posts), garden)
			}
		})
	}
}

// Why a change could not be saved at once is said.
func TestAutosaveWithAnExpiredToken(t *testing.T) {
	e := newEmbed(t)
	tab := e.open(t, wide, "en", strings.Replace(manage, "template", "autosave template", 1))
	e.failNext(http.StatusUnauthorized)
	tab.Expect("answered 401", "a status of 401")
	act(tab, `by("Newsletter: SMS").click()`)
	tab.Until(`heard.at(-1)?.[0] === "update" && heard.some(h => h[0] === "expired")`)
	if said := text(tab, `inside().querySelector(".frame > [role=alert]")`); said != "Your link has expired, so your choices were not saved." || webtest.Run[bool](tab, `by("Newsletter: SMS").checked`) {
		t.Errorf("it says %q", said)
	}
}

// By an address nobody can object: nothing is recorded before its owner confirms it.
func TestObjectingNeedsAReference(t *testing.T) {
	const objects = `!!by("Object: Customer research", "opencpm-capture")`
	for name, c := range map[string]struct {
		body    string
		objects bool
	}{
		"its own field":     {capture, false},
		"an address":        {strings.Replace(capture, "template", `email="jo@example.com" template`, 1), false},
		"both":              {strings.Replace(capture, "template", `email="jo@example.com" reference="CUST-1" template`, 1), false},
		"a form":            {`<form id="join"><label>Mail <input type="email" name="mail"></label>` + strings.Replace(capture, "template", `for="join" template`, 1) + `</form>`, false},
		"a reference":       {strings.Replace(capture, "template", `reference="CUST-1" template`, 1), true},
		"a form, reference": {`<form id="join"><label>Mail <input type="email" name="mail"></label>` + strings.Replace(capture, "template", `for="join" reference="CUST-1" template`, 1) + `</form>`, true},
	} {
		t.Run(name, func(t *testing.T) {
			e := newEmbed(t)
			tab := e.open(t, wide, "en", c.body)
			act(tab, `0`)
			if got := webtest.Run[bool](tab, objects); got != c.objects {
				t.Errorf("one may object: %v", got)
			}
			if !strings.Contains(text(tab, `inside("opencpm-capture").querySelector("form")`), "our legitimate interest") {
				t.Error("what is done without a consent is not said")
			}
		})
	}
	t.Run("a function that comes later", func(t *testing.T) {
		e := newEmbed(t)
		tab := e.open(t, wide, "en", capture)
		act(tab, `globalThis.el = document.querySelector("opencpm-capture"); el.reference = () => "CUST-1"`)
		tab.Until(objects + ` && !inside("opencpm-capture").getElementById("email")`)
		// Another function of the same is no reason to draw anything anew.
		act(tab, `globalThis.drawn = by("Object: Customer research", "opencpm-capture"); drawn.focus(); el.reference = () => "CUST-2"; by("Offers: E-mail", "opencpm-capture").click()`)
		webtest.Run[bool](tab, `new Promise((done) => setTimeout(() => done(true)))`)
		act(tab, `if (by("Object: Customer research", "opencpm-capture") !== drawn) throw new Error("drawn anew"); el.submit()`)
		tab.Until(`el.state === "saved"`)
		if body := e.called(http.MethodPost)[0].body; body["uniqueReference"] != "CUST-2" {
			t.Errorf("sent %v", body)
		}
	})
}

// Who it is, is text or nothing, and is not somebody else because it is nothing.
func TestWhoACaptureIsOf(t *testing.T) {
	for name, c := range map[string]struct{ given, want string }{
		"a number":                     {`el.reference = () => 42`, "42 <nil> <nil>"},
		"nought":                       {`el.reference = () => 0`, "0 <nil> <nil>"},
		"a number as such":             {`el.reference = 7`, "7 <nil> <nil>"},
		"an address":                   {`el.email = () => new String("jo@example.com")`, "<nil> jo@example.com true"},
		"no address, but a reference":  {`el.email = () => ""; el.reference = () => "CUST-1"`, "CUST-1 <nil> <nil>"},
		"an address and a reference":   {`el.email = "jo@example.com"; el.reference = () => "CUST-1"`, "<nil> jo@example.com true"},
		"the address of the form":      {`0`, "<nil> form@example.com true"},
		"no reference":                 {`el.reference = () => ""`, "failure 422"},
		"no reference at all":          {`el.reference = () => null`, "failure 422"},
		"no address at all":            {`el.email = () => undefined`, "failure 422"},
		"a function that fails":        {`el.reference = () => { throw new Error("no") }`, "failure undefined"},
		"a function that fails, later": {`let n = 0; el.reference = () => { if (n++) throw new Error("no"); return "CUST-1" }`, "CUST-1 <nil> <nil>"},
	} {
		t.Run(name, func(t *testing.T) {
			e := newEmbed(t)
			tab := e.open(t, wide, "en", `<form id="join"><label>Mail <input type="email" value="form@example.com"></label>`+capture+`</form>`)
			act(tab, `globalThis.el = document.querySelector("opencpm-capture"); by("Offers: E-mail", "opencpm-capture").click();`+c.given+`; el.submit().catch(() => 0)`)
			tab.Until(`["success", "failure"].includes(heard.at(-1)[0])`)
			got := webtest.Run[string](tab, `heard.at(-1)[0] + " " + heard.at(-1)[1].error?.status`)
			if posts := e.called(http.MethodPost); len(posts) == 1 {
				got = fmt.Sprint(posts[0].body["uniqueReference"], " ", posts[0].body["emailAddress"], " ", posts[0].body["submitAsPending"])
			}
			if got != c.want || webtest.Run[int](tab, `heard.filter(h => h[0] === "success" || h[0] === "failure").length`) != 1 {
				t.Errorf("it ends in %s, want %s", got, c.want)
			}
		})
	}
}

// A capture with the form of the page hears of it after the page, whatever that does with
// it, and the page hears of it once.
func TestTheFormOfThePageGoesOn(t *testing.T) {
	const load = `<script src="API/widgets/capture-widget.min.js"></script><script>ConsentricCaptureWidget.load({ templateId: "t_1", formSelector: "form", referenceSelector: "#ref", containerSelector: ".place", display: { closeOnSubmit: CLOSE }, events })</script>`
	with := func(listener, closes string) string {
		return `<form class="join" action="/joined"><input type="hidden" id="ref" name="ref"><label>Mail <input type="email" name="mail" value="form@example.com"></label><div class="place"></div><button name="how" value="now">Join</button></form>
<script>globalThis.went = []; addEventListener("submit", (e) => { setTimeout(() => sessionStorage.went = went.join()) }, true);
document.querySelector("form").addEventListener("submit", function (e) { went.push("page"); ` + listener + ` });</script>` + strings.Replace(load, "CLOSE", closes, 1)
	}
	const name = `document.querySelector("#ref").value = "CUST-4"`
	for _, c := range []struct{ name, body, sent, told string }{
		{"which its page sends", with(name+`; e.preventDefault()`, "false"), "CUST-4", "success object t_1"},
		{"which its page sends, heard by nobody else", with(name+`; e.preventDefault(); e.stopPropagation()`, "false"), "CUST-4", "success object t_1"},
		{"which its page sends without a reference", with(`e.preventDefault()`, "false"), "", "failure 422 t_1"},
		{"which the browser sends", with(name, "false"), "CUST-4", ""},
		{"which the browser sends, of a listener on the window", with(`addEventListener("submit", () => { `+name+` }, { once: true })`, "false"), "CUST-4", ""},
		{"which the browser sends without a button", with(name+`; e.submitter.remove()`, "false"), "CUST-4", ""},
		{"which the browser sends without a reference", with(``, "false"), "", ""},
		{"which the browser sends, of a widget that closes", with(name, "true"), "CUST-4", ""},
		{"which the browser sends, of two widgets", with(name, "false") + strings.Replace(strings.Replace(load, "CLOSE", "false", 1), ".place", ".second", 1), "CUST-4", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := newEmbed(t)
			e.mu.Lock()
			e.pages["/joined"] = page{`<!doctype html><html lang="en"><title>Joined</title><p>Joined</p>`, ""}
			e.mu.Unlock()
			tab := webtest.Open(t, wide)
			tab.Goto(e.page("en", host+told, strings.Replace(c.body, `<div class="place">`, `<div class="second"></div><div class="place">`, 1), ""))
			tab.Until(`document.querySelector("opencpm-capture") && ` + settled)
			act(tab, `document.querySelectorAll("opencpm-capture").forEach((e) => [...e.shadowRoot.querySelectorAll("input")].find((i) => nameOf(i) === "Offers: E-mail").click()); told.length = 0`)
			natively := c.told == ""
			if natively && c.sent != "" {
				e.holdBack() // the second click comes while the answer is awaited
			}
			act(tab, `globalThis.go = document.querySelector("form button"); go.click()`)
			widgets := 0
			if c.sent != "" {
				widgets = strings.Count(c.body, "ConsentricCaptureWidget")
				e.awaitCalls(http.MethodPost, widgets)
			}
			if natively {
				if c.sent != "" {
					act(tab, `go.click()`)
					e.release()
				}
				tab.Until(`location.pathname === "/joined" && document.readyState === "complete"`)
				got := webtest.Run[string](tab, `[sessionStorage.went, new URLSearchParams(location.search).get("ref"), new URLSearchParams(location.search).get("how") ?? "removed"].join()`)
				want := "page," + c.sent + ",now"
				if strings.Contains(c.body, "submitter.remove") {
					want = "page," + c.sent + ",removed"
				}
				if got != want {
					t.Errorf("it went on as %s, want %s", got, want)
				}
			} else {
				tab.Until(`told.length > 0`)
				if got := webtest.Run[string](tab, `[told.join(), went.join(), location.pathname].join()`); got != c.told+",page,"+webtest.Run[string](tab, `location.pathname`) {
					t.Errorf("it ended as %s", got)
				}
			}
			posts := e.called(http.MethodPost)
			if len(posts) != widgets {
				t.Fatalf("sent %v", posts)
			}
			for _, p := range posts {
				if p.body["uniqueReference"] != c.sent || p.body["emailAddress"] != nil {
					t.Errorf("sent %v", p.body)
				}
			}
		})
	}
}

// Whoever calls load is told once when nothing is shown, whatever it is that lacks.
func TestLoadsOfBeforeThatCannotShowAnything(t *testing.T) {
	const place = `<div id="widget-container"></div>`
	for name, c := range map[string]struct{ body, call, want string }{
		"manage without a token":            {place, `StatefulWidget.load({ templateId: "t_1", events })`, "loaderror 401"},
		"manage with an empty token":        {place, `StatefulWidget.load({ templateId: "t_1", token: new URLSearchParams(location.search).get("token"), events })`, "loaderror 401"},
		"manage without a template":         {place, `StatefulWidget.load({ token: "tok", events })`, "loaderror 422"},
		"manage without either":             {place, `StatefulWidget.load({ events })`, "loaderror 401"},
		"history without a token":           {place, `HistoryWidget.load({ events })`, "loaderror 401"},
		"sign-up without a template":        {place, `ExpressStatelessCapturePoint.load({ events })`, "loaderror 422"},
		"a form without a template":         {place + `<form></form>`, `ConsentricCaptureWidget.load({ formSelector: "form", events })`, "loaderror 422"},
		"no form":                           {place, `ConsentricCaptureWidget.load({ templateId: "t_1", formSelector: "#nowhere", events })`, "loaderror There is no form #nowhere."},
		"no form and no place":              {``, `ConsentricCaptureWidget.load({ formSelector: "#nowhere", events })`, "loaderror There is no element with the id widget-container to show the widget in."},
		"a token that comes with the event": {place, `{ const w = StatefulWidget.load({ templateId: "t_1", events: { ...events, onLoadError: (e) => { events.onLoadError(e); w.element.token = "tok" } } }) }`, "loaderror 401,ready"},
		"a token that comes at once":        {place, `StatefulWidget.load({ templateId: "t_1", events }).element.token = "tok"`, "ready"},
		"another load that has one":         {place, `StatefulWidget.load({ templateId: "t_1", events }); StatefulWidget.load({ templateId: "t_1", token: "tok", events })`, "ready"},
	} {
		t.Run(name, func(t *testing.T) {
			e := newEmbed(t)
			tab := webtest.Open(t, wide)
			// In the head, before there is any place, as well as when the page is there.
			for _, early := range []bool{true, false} {
				head, body := `<script src="API/w/1/compat.js"></script>`, c.body
				if call := `<script>` + c.call + `</script>`; early {
					head += call
				} else {
					body += `<script>addEventListener("load", () => {` + c.call + `})</script>`
				}
				tab.Goto(e.page("en", host+told+head, body, ""))
				tab.Until(`document.readyState === "complete"`)
				ready := strings.HasSuffix(c.want, "ready")
				if ready {
					tab.Until(`document.querySelector("opencpm-manage").state === "ready"`)
				} else {
					tab.Until(`told.length > 0`)
				}
				// Two rounds of tasks later there is still no other.
				webtest.Run[bool](tab, `new Promise((done) => setTimeout(() => setTimeout(() => done(true))))`)
				got := webtest.Run[string](tab, `[...told, ...[...document.querySelectorAll("opencpm-manage")].filter((e) => e.state === "ready").map((e) => e.state)].join()`)
				if got != c.want {
					t.Errorf("early: %v: %s, want %s", early, got, c.want)
				}
				if h := webtest.Run[int](tab, `document.querySelector("#widget-container")?.offsetHeight ?? 0`); !ready && h != 0 {
					t.Errorf("nothing takes %d px", h)
				}
			}
		})
	}
}

// Every submit() of before ends in one callback.
func TestSubmitOfBeforeEndsInOneCallback(t *testing.T) {
	for name, c := range map[string]struct {
		prepare func(*embed, *webtest.Tab)
		options string
		do      string
		want    string
	}{
		"a question that must be answered": {
			func(e *embed, _ *webtest.Tab) {
				e.form.Blocks[2].Mandatory, e.form.Blocks[2].SelectedChoice = true, nil
			},
			`templateId: "t_1", token: "tok", display: { displayButtons: false }`, `await widget.submit()`, "failure undefined t_1",
		},
		"the same, twice at once": {
			func(e *embed, _ *webtest.Tab) {
				e.form.Blocks[2].Mandatory, e.form.Blocks[2].SelectedChoice = true, nil
			},
			`templateId: "t_1", token: "tok"`, `await Promise.all([widget.submit(), widget.submit()])`, "failure undefined t_1",
		},
		"the same, twice": {
			func(e *embed, _ *webtest.Tab) {
				e.form.Blocks[2].Mandatory, e.form.Blocks[2].SelectedChoice = true, nil
			},
			`templateId: "t_1", token: "tok"`, `await widget.submit(); await widget.submit()`, "failure undefined t_1,failure undefined t_1",
		},
		"a token that is not valid": {
			func(_ *embed, tab *webtest.Tab) { tab.Expect("answered 401", "a status of 401") },
			`templateId: "t_1", token: "expired"`, `await widget.submit()`, "loaderror 401,failure undefined undefined",
		},
		"no token":       {nil, `templateId: "t_1"`, `await widget.submit()`, "loaderror 401,failure undefined undefined"},
		"nowhere":        {nil, `templateId: "t_1", token: "tok", id: "nowhere"`, `await widget.submit()`, "loaderror There is no element with the id nowhere to show the widget in.,failure undefined undefined"},
		"a double click": {nil, `templateId: "t_1", token: "tok"`, `await Promise.all([widget.submit(), widget.submit(), by("Save choices").click()])`, "success object t_1"},
		"twice":          {nil, `templateId: "t_1", token: "tok"`, `await widget.submit(); await widget.submit()`, "success object t_1,success object t_1"},
		"a failure": {
			func(_ *embed, tab *webtest.Tab) { tab.Expect("answered 500", "a status of 500") },
			`templateId: "t_1", token: "tok"`, `await widget.submit()`, "failure 500 t_1",
		},
		"before it is loaded":      {nil, `templateId: "t_1", token: "tok"`, `widget.reload(); await widget.submit()`, "success object t_1"},
		"removed meanwhile":        {nil, `templateId: "t_1", token: "tok"`, `{ const done = widget.submit(); widget.element.remove(); await done }`, "success object t_1"},
		"moved meanwhile":          {nil, `templateId: "t_1", token: "tok"`, `{ const done = widget.submit(); document.querySelector("main").append(widget.element); await done }`, "success object t_1"},
		"asked for anew meanwhile": {nil, `templateId: "t_1", token: "tok"`, `{ const done = widget.submit(); await 0; await 0; await 0; widget.reload(); await done }`, "success object t_1"},
		"another token, that is not valid": {
			func(_ *embed, tab *webtest.Tab) { tab.Expect("answered 401", "a status of 401") },
			`templateId: "t_1", token: "tok"`, `widget.element.token = "expired"; await widget.submit()`, "loaderror 401,failure undefined undefined",
		},
	} {
		t.Run(name, func(t *testing.T) {
			e := newEmbed(t)
			tab := webtest.Open(t, wide)
			if c.prepare != nil {
				c.prepare(e, tab)
			}
			tab.Goto(e.page("en", host+told+`<script src="API/w/1/compat.js"></script>`, `<div id="widget-container"></div><script>globalThis.widget = StatefulWidget.load({ `+c.options+`, events })</script>`, ""))
			tab.Until(`told.length > 0 || widget.element.state === "ready"`)
			if name == "a failure" {
				e.failNext(http.StatusInternalServerError)
			}
			webtest.Run[bool](tab, helpers)
			webtest.Run[bool](tab, `(async () => {`+c.do+`; await new Promise((done) => setTimeout(() => setTimeout(done))); return true })()`)
			if got := webtest.Run[string](tab, `told.join()`); got != c.want {
				t.Errorf("told %s, want %s", got, c.want)
			}
		})
	}
}

// What was asked for while a save was under way may be of before it: it is asked for again.
func TestAskedForAnewDuringASave(t *testing.T) {
	e := newEmbed(t)
	tab := e.open(t, wide, "en", manage)
	e.holdBack()
	act(tab, `globalThis.el = document.querySelector("opencpm-manage"); by("Garden").click(); el.submit()`)
	e.awaitCalls(http.MethodPost, 1)
	act(tab, `el.rule = "other"`)
	e.awaitCalls(http.MethodGet, 2)
	e.release()
	tab.Until(`el.state === "ready" && heard.some(h => h[0] === "success") && heard.at(-1)[0] === "load"`)
	e.awaitCalls(http.MethodGet, 3)
	if n := webtest.Run[int](tab, `heard.filter(h => h[0] === "success").length`); n != 1 || len(e.called(http.MethodPost)) != 1 {
		t.Errorf("%d successes of %d saves", n, len(e.called(http.MethodPost)))
	}
}

// What could not be loaded for another token cannot be sent for it: the answers are of
// somebody else.
func TestAnswersOfAnotherToken(t *testing.T) {
	e := newEmbed(t)
	tab := e.open(t, wide, "en", manage)
	act(tab, `globalThis.el = document.querySelector("opencpm-manage"); by("Garden").click()`)
	e.failNext(http.StatusServiceUnavailable)
	tab.Expect("answered 503", "a status of 503")
	act(tab, `el.token = "another"`)
	tab.Until(`el.state === "error"`)
	if got := webtest.Run[string](tab, `el.submit().then(() => "sent", (error) => error.message + " " + el.value)`); got != "There is nothing to send. null" || len(e.called(http.MethodPost)) != 0 {
		t.Errorf("it is %s", got)
	}
}

// An answer that comes after another was asked for says nothing, also where it failed.
func TestAFailureOfBefore(t *testing.T) {
	e := newEmbed(t)
	e.failNext(http.StatusServiceUnavailable)
	tab := webtest.Open(t, wide)
	tab.Expect("answered 503", "a status of 503")
	// The words are slow: the first answer is here before them.
	tab.Goto(e.page("en", host+`<script>{ const ask = fetch; const words = new Promise((done) => { globalThis.spoken = done }); globalThis.fetch = async (url, init) => { if (!String(url).includes("/words/")) { const answer = await ask(url, init); globalThis.answered = true; return answer } await words; return ask(url, init) } }
for (const type of ["load", "loaderror"]) (globalThis.heardOf ??= [], document.addEventListener("consent:" + type, () => heardOf.push(type)))</script>`+script, manage, ""))
	tab.Until(`!!globalThis.answered`)
	act(tab, `globalThis.el = document.querySelector("opencpm-manage"); el.token = "another"`)
	e.awaitCalls(http.MethodGet, 2)
	act(tab, `spoken()`)
	tab.Until(`el.state === "ready" && heardOf.length > 0`)
	if got := webtest.Run[string](tab, `heardOf.join()`); got != "load" {
		t.Errorf("heard %s", got)
	}
}
