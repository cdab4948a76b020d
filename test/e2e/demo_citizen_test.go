package e2e_test

import (
	"encoding/json"
	"fmt"
	"html"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	openclient "github.com/opencpm/opencpm/client"
	"github.com/opencpm/opencpm/internal/web/webtest"
	"github.com/opencpm/opencpm/test/harness"
)

const demoApplication = "northwind-outdoor"

var href = regexp.MustCompile(`href="([^"]*)"`)

// The demo shows the citizen's side by clicks alone: somebody signs up in the shop, finds
// the mail in the inbox, confirms; the links of the mail, followed by a machine, change
// nothing. A customer's choices are in the widget, in the history beside it, and on the
// hosted page in three languages.
func TestDemoOfTheCitizensSide(t *testing.T) {
	t.Cleanup(webtest.Close)
	data := filepath.Join(t.TempDir(), "demo")
	url, stop := startDemo(t, data)
	defer stop()
	var access struct{ APIKey string }
	text, err := os.ReadFile(filepath.Join(data, "demo.json"))
	if err == nil {
		err = json.Unmarshal(text, &access)
	}
	if err != nil {
		t.Fatal(err)
	}
	api, err := openclient.New(url, openclient.APIKey(access.APIKey))
	if err != nil {
		t.Fatal(err)
	}
	defer api.CloseIdleConnections()
	get := func(path string) string {
		t.Helper()
		res, err := http.Get(path)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		b, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	eventually(t, harness.Patience, "the first customer is there", func() bool {
		_, err := api.CitizenByRef(t.Context(), demoApplication, "NW-10001")
		return err == nil
	})

	tab := webtest.Open(t, webtest.View{})
	tab.Goto(url + "/demo/shop")
	tab.Until(`customElements.get("opencpm-capture") && ["manage", "history", "capture"].every(name => document.querySelector("opencpm-" + name).state === "ready")`)
	tab.Axe()
	tab.Fits()
	webtest.Run[bool](tab, `document.querySelector("opencpm-history").reload = () => { window.readAnew = true; return Promise.resolve() }, true`)
	webtest.Run[bool](tab, `(e => { const r = e.shadowRoot; r.querySelector("input[type=email]").value = "new.reader@example.com"; r.querySelector("input[type=checkbox]").click(); r.querySelector("[type=submit]").click(); return true })(document.querySelector("opencpm-capture"))`)
	tab.Until(`document.querySelector("opencpm-capture").state === "saved" && window.readAnew`)

	tab.Goto(url + "/demo/inbox")
	eventually(t, harness.Patience, "the mail is in the inbox", func() bool {
		return webtest.Run[bool](tab, `!!document.querySelector("a[href='/demo/inbox/1#mail']") || (location.reload(), false)`)
	})
	body := get(url + "/demo/inbox/1/body")
	found, err := api.CitizensByEmail(t.Context(), demoApplication, "new.reader@example.com")
	if err != nil || len(found) != 1 {
		t.Fatalf("%d citizens have the address, %v", len(found), err)
	}
	reader := found[0].CitizenID
	states := func() (list []string) {
		t.Helper()
		now, err := api.Permissions(t.Context(), openclient.PermissionsQuery{ApplicationID: demoApplication, CitizenID: reader})
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range now.Permissions {
			list = append(list, p.OptionID+" "+p.State)
		}
		return list
	}
	if got := states(); !slices.Equal(got, []string{"newsletter-email PENDING"}) {
		t.Fatalf("before it is confirmed there is %v", got)
	}
	ledger := func() string {
		t.Helper()
		past, err := api.History(t.Context(), openclient.HistoryQuery{CitizenID: reader})
		if err != nil {
			t.Fatal(err)
		}
		text, err := json.Marshal(past)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	before, followed, confirm := ledger(), 0, ""
	for range 2 {
		for _, m := range href.FindAllStringSubmatch(body, -1) {
			link := html.UnescapeString(m[1])
			if page := get(link); page != "" && confirm == "" {
				confirm = link
			}
			followed++
		}
	}
	if after := ledger(); followed == 0 || confirm == "" || after != before {
		t.Fatalf("after %d links were followed the ledger went from\n%s\nto\n%s", followed, before, after)
	}

	tab.Goto(confirm)
	tab.Axe()
	tab.Do(chromedp.Click(chromedp.CSS("main form button.strong")))
	tab.Until(`document.querySelector("main").textContent.includes("confirmed")`)
	tab.Axe()
	if got := states(); !slices.Equal(got, []string{"newsletter-email GRANTED"}) {
		t.Errorf("after it was confirmed there is %v", got)
	}

	centre := regexp.MustCompile(`/c/northwind/en\?token=[^"]*`).FindString(get(url + "/demo/shop"))
	for locale, direction := range map[string]string{"en": "ltr", "de": "ltr", "ar": "rtl"} {
		tab.Goto(url + "/c/northwind/" + locale + html.UnescapeString(centre[len("/c/northwind/en"):]))
		if got := webtest.Run[string](tab, `document.documentElement.lang + " " + document.documentElement.dir + " " + location.search`); got != fmt.Sprintf("%s %s ", locale, direction) {
			t.Errorf("the centre is %q, want %s, %s and no token in the address", got, locale, direction)
		}
		tab.Axe()
	}
	tab.Goto(url + "/c/northwind/en" + html.UnescapeString(centre[len("/c/northwind/en"):]))
	tab.Do(chromedp.Click(chromedp.CSS("#choices td input[type=checkbox]")), chromedp.Click(chromedp.CSS("#save")))
	tab.Until(`document.activeElement.classList.contains("panel") && !!document.querySelector(".panel li")`)
	tab.Axe()
	file := webtest.Run[string](tab, `(() => { const r = new XMLHttpRequest(); r.open("GET", "/c/northwind/data.json", false); r.send(); return r.responseText })()`)
	for _, part := range []string{`"kind": "transaction"`, `"byCitizen": true`, `"shown": {`, `"emails": [`} {
		if !strings.Contains(file, part) {
			t.Errorf("the file of one's own data lacks %s:\n%s", part, file)
		}
	}
}
