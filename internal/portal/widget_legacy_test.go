package portal_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/opencpm/opencpm/internal/web/webtest"
)

// told collects what the pages of before hear and what the console would show.
const told = `<script>
globalThis.told = []; console.warn = (m) => told.push("warn " + m);
globalThis.events = {
  onSuccess: (response, submission) => told.push("success " + typeof response + " " + submission.templateId),
  onFailure: (error, submission) => told.push("failure " + error.status + " " + submission?.templateId),
  onUpdate: (state) => told.push("update " + state.blocks.length),
  onLoadError: (error) => told.push("loaderror " + (error.status ?? error.message)),
};</script>`

// Pages that call what they called before get what they got, under the names of before.
func TestCallsOfBefore(t *testing.T) {
	const point = `<script src="API/widgets/capture-point.min.js" async></script>`
	const empty = `<div id="widget-container"></div>`
	sentBy := func(who string) func(*testing.T, *webtest.Tab, *embed) {
		return func(t *testing.T, tab *webtest.Tab, e *embed) {
			act(tab, `by("Offers: E-mail", "opencpm-capture").click(); globalThis.widget?.submit()`)
			tab.Until(`told.some(m => m.startsWith("success object t_1"))`)
			body := e.called(http.MethodPost)[0].body
			if got := fmt.Sprint(body["uniqueReference"], " ", body["emailAddress"], " ", body["channel"], " ", body["campaign"], " ", body["submitAsPending"]); got != who {
				t.Errorf("sent for %s, want %s", got, who)
			}
		}
	}
	for name, c := range map[string]struct {
		head, body string
		check      func(*testing.T, *webtest.Tab, *embed)
	}{
		"manage, in the load of the window": {
			point, empty + `<script>window.addEventListener("load", function () {
				globalThis.widget = StatefulWidget.load({ id: "widget-container", token: "tok", templateId: "t_1", ruleId: "r_1", locale: "de", submitAsPending: true,
					display: { location: "inside", consentricLogo: false, closeOnSubmit: false, displayButtons: true, displayCancelButtons: true, displayAllNoneOptions: true, applyDefaultStyle: true }, events });
			});</script>`,
			func(t *testing.T, tab *webtest.Tab, e *embed) {
				if c := e.called(http.MethodGet)[0]; c.token != "tok" || !strings.Contains(c.query, "ruleId=r_1") || !strings.Contains(c.query, "locale=de") {
					t.Errorf("asked %+v", c)
				}
				act(tab, `by("Newsletter: SMS").click()`)
				if got := webtest.Run[string](tab, `[...inside().querySelectorAll(".buttons button")].map(b => b.textContent).join()`); got != "Auswahl speichern,Alle Werbung abbestellen,Alles ausschalten,Änderungen verwerfen" {
					t.Errorf("the buttons are %s", got)
				}
				act(tab, `widget.submit()`)
				tab.Until(`told.join() === "update 4,success object t_1"`)
				if body := e.called(http.MethodPost)[0].body; body["submitAsPending"] != true {
					t.Errorf("sent %v", body)
				}
			},
		},
		"manage, driven by the form of the page": {
			point, `<form id="main-form"><div id="widget-container"></div><button>Go on</button></form><script>window.addEventListener("load", () => {
				globalThis.widget = StatefulWidget.load({ id: "widget-container", templateId: "t_1", token: "tok", events,
					display: { location: "inside", displayButtons: false, displayAllNoneOptions: false, applyDefaultStyle: false, consentricLogo: false } });
				document.querySelector("#main-form").addEventListener("submit", (event) => { widget.submit(); event.preventDefault(); widget.element.remove(); });
			});</script>`,
			func(t *testing.T, tab *webtest.Tab, e *embed) {
				act(tab, `0`)
				if !webtest.Run[bool](tab, `inside().querySelectorAll("button[part~=submit], button[part~=stop]").length === 0 && inside().adoptedStyleSheets.length === 0`) {
					t.Error("it has buttons, or a style")
				}
				tab.Axe()
				act(tab, `by("Garden").click(); document.querySelector("#main-form button").click()`)
				tab.Until(`told.includes("success object t_1")`)
			},
		},
		"manage, closed when it is done": {
			point, empty + `<script>window.addEventListener("load", () => { StatefulWidget.load({ templateId: "t_1", token: "tok", display: { closeOnSubmit: true }, events }) })</script>`,
			func(_ *testing.T, tab *webtest.Tab, _ *embed) {
				act(tab, `by("Save choices").click()`)
				tab.Until(`told.includes("success object t_1") && !document.querySelector("opencpm-manage")`)
			},
		},
		"a load that is registered as a listener": {
			strings.Replace(point, " async", "", 1), empty + `<script>window.addEventListener("load", StatefulWidget.load({ id: "widget-container", templateId: "t_1", token: "tok", events }))</script>`,
			nil,
		},
		"a load in the head": {
			strings.Replace(point, " async", "", 1) + `<script>StatefulWidget.load({ id: "widget-container", templateId: "t_1", token: "tok", events })</script>`, empty,
			nil,
		},
		"a load in every effect": {
			strings.Replace(point, " async", "", 1), empty + `<script>for (const token of ["one", "two"]) {
				const s = document.createElement("script"); s.src = "API/widgets/capture-point.min.js"; document.body.appendChild(s);
				globalThis.widget = ExpressStatelessCapturePoint.load({ id: "widget-container", templateId: "t_1", uniqueReference: token, channel: "web", events });
			}</script>`,
			func(t *testing.T, tab *webtest.Tab, e *embed) {
				if n := webtest.Run[int](tab, `document.querySelectorAll("opencpm-capture").length`); n != 1 {
					t.Errorf("%d widgets stand in one place", n)
				}
				sentBy("two <nil> web <nil> <nil>")(t, tab, e)
			},
		},
		"sign-up by verification.emailAddress": {
			point, empty + `<script>window.addEventListener("load", () => { globalThis.widget = ExpressStatelessCapturePoint.load({ id: "widget-container", templateId: "t_1", channel: "web", campaign: "spring", submitAsPending: true, contactDetails: { verification: { emailAddress: "jo@example.com" } }, display: { displayButtons: false }, events }) })</script>`,
			sentBy("<nil> jo@example.com web spring true"),
		},
		"sign-up by verification.email": {
			point, empty + `<script>window.addEventListener("load", () => { globalThis.widget = ExpressStatelessCapturePoint.load({ templateId: "t_1", contactDetails: { verification: { email: "jo@example.com" } }, dataSharing: { partner: "Somebody", data: { firstName: "Jo" } }, events }) })</script>`,
			func(t *testing.T, tab *webtest.Tab, e *embed) {
				sentBy("<nil> jo@example.com <nil> <nil> true")(t, tab, e)
				if !webtest.Run[bool](tab, `told[0].startsWith("warn OpenCPM: dataSharing")`) {
					t.Error("nothing is said of what is not sent")
				}
			},
		},
		"sign-up by emailAddress": {
			`<script src="API/capture-point.min.js" async></script>`, empty + `<script>window.addEventListener("load", () => { globalThis.widget = ExpressStatelessCapturePoint.load({ templateId: "t_1", contactDetails: { emailAddress: "jo@example.com" }, events }) })</script>`,
			sentBy("<nil> jo@example.com <nil> <nil> true"),
		},
		"stateless with a reference": {
			point, `<div id="here"></div><script>window.addEventListener("load", () => { globalThis.widget = StatelessWidget.load({ id: "here", templateId: "t_1", uniqueReference: "CUST-1", submitAsPending: true, events }) })</script>`,
			sentBy("CUST-1 <nil> <nil> <nil> true"),
		},
		"stateless with a function": {
			point, `<label>Number <input id="number"></label>` + empty + `<script>window.addEventListener("load", () => { globalThis.widget = StatelessWidget.load({ templateId: "t_1", uniqueReference: () => document.getElementById("number").value, events }); document.getElementById("number").value = "CUST-2" })</script>`,
			sentBy("CUST-2 <nil> <nil> <nil> <nil>"),
		},
		"capture with the form of the page": {
			`<script src="API/widgets/capture-widget.min.js" async></script>`,
			`<form class="join"><label>Number <input name="number" class="number"></label><div class="place"></div><button>Go on</button></form><script>
				document.querySelector("form").addEventListener("submit", (e) => { e.preventDefault(); told.push("went") });
				window.addEventListener("load", () => { ConsentricCaptureWidget.load({ templateId: "t_1", formSelector: "form.join", referenceSelector: ".number", containerSelector: ".place", events }) })</script>`,
			func(t *testing.T, tab *webtest.Tab, e *embed) {
				act(tab, `document.querySelector(".number").value = "CUST-3"; by("Offers: E-mail", "opencpm-capture").click(); document.querySelector("form button").click()`)
				tab.Until(`told.length === 3`)
				if told := webtest.Run[string](tab, `told.join()`); told != "update 4,went,success object t_1" {
					t.Errorf("it went %s", told)
				}
				if body := e.called(http.MethodPost)[0].body; body["uniqueReference"] != "CUST-3" {
					t.Errorf("sent %v", body)
				}
			},
		},
		"a global configuration": {
			`<script>var widget_config = { templateId: "t_1", token: "tok", widgetId: "w", hideButtons: true };</script><script id="init" src="API/public/init.js" async></script>`, empty,
			func(t *testing.T, tab *webtest.Tab, _ *embed) {
				if !webtest.Run[bool](tab, `document.querySelector("#widget-container opencpm-manage").shadowRoot.querySelectorAll(".buttons").length === 0`) {
					t.Error("the buttons are not hidden")
				}
			},
		},
		"a global configuration after the script": {
			`<script id="init" src="API/public/init.js"></script>`, empty + `<script>const widget_config = { templateId: "t_1", token: "tok" }</script>`, nil,
		},
		"history": {
			point, empty + `<script>window.addEventListener("load", () => { HistoryWidget.load({ id: "widget-container", token: "tok", events }) })</script>`, nil,
		},
		"an expired token": {
			point, empty + `<script>window.addEventListener("load", () => { StatefulWidget.load({ templateId: "t_1", token: "expired", events }) })</script>`,
			func(t *testing.T, tab *webtest.Tab, _ *embed) {
				tab.Expect("answered 401", "a status of 401")
				tab.Until(`told.join() === "loaderror 401"`)
				if h := webtest.Run[int](tab, `document.querySelector("#widget-container").offsetHeight`); h != 0 {
					t.Errorf("it takes %d px", h)
				}
			},
		},
		"no place to show it in": {
			point, `<opencpm-history token="tok"></opencpm-history><script>window.addEventListener("load", () => { StatefulWidget.load({ id: "nowhere", templateId: "t_1", token: "tok", events }) })</script>`,
			func(t *testing.T, tab *webtest.Tab, _ *embed) {
				if told := webtest.Run[string](tab, `told.join()`); told != "loaderror There is no element with the id nowhere to show the widget in." {
					t.Error(told)
				}
			},
		},
		"a capture that fails": {
			point, empty + `<script>window.addEventListener("load", () => { globalThis.widget = StatelessWidget.load({ templateId: "t_1", uniqueReference: "CUST-1", events }) })</script>`,
			func(_ *testing.T, tab *webtest.Tab, e *embed) {
				e.failNext(http.StatusInternalServerError)
				tab.Expect("answered 500", "a status of 500")
				act(tab, `by("Garden", "opencpm-capture").click(); widget.submit()`)
				tab.Until(`told.includes("failure 500 t_1")`)
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			e := newEmbed(t)
			tab := webtest.Open(t, wide)
			tab.Goto(e.page("en", host+told+c.head, strings.ReplaceAll(c.body, "API", e.api.URL), ""))
			tab.Until(`document.readyState === "complete" && !!document.querySelector("opencpm-manage, opencpm-history, opencpm-capture") && ` + settled)
			if c.check != nil {
				c.check(t, tab, e)
			} else if state := webtest.Run[string](tab, `document.querySelector("opencpm-manage, opencpm-history, opencpm-capture").state`); state != "ready" && state != "empty" {
				t.Errorf("it is %s", state)
			}
		})
	}
}
