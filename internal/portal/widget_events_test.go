package portal_test

import (
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
	for name, begin := range map[string]string{"of the page": `document.querySelector("opencpm-manage").submit()`, "that stops everything": `by("Unsubscribe from all").click()`} {
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
