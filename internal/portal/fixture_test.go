package portal

import (
	"bytes"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/internal/core"
	"github.com/opencpm/opencpm/internal/store"
)

// noon is when everything on the pages of the fixtures happened.
var noon = consent.Instant(1795348440 * 1e6) // 2026-11-22 13:14 UTC

// texts are what the fixtures say in the languages in which pages are looked at; pseudo
// is English that is two fifths longer, as some languages are.
var texts = map[string]map[string]string{
	"ar": {
		"Newsletter": "النشرة الإخبارية", "Stories and new arrivals, about twice a month": "قصص ومنتجات جديدة، مرتين في الشهر تقريبًا",
		"Offers and sales": "العروض والتخفيضات", "Discounts chosen from what you browse": "خصومات مختارة بحسب ما تتصفحه",
		"Store events": "فعاليات المتاجر", "Openings and workshops near you": "افتتاحات وورش عمل بالقرب منك",
		"Customer research": "استطلاعات الرأي", "A survey, at most twice a year": "استطلاع مرتين في السنة على الأكثر",
		"Email": "البريد الإلكتروني", "SMS": "رسالة نصية", "Phone": "الهاتف", "Post": "البريد",
		"Order and account messages": "رسائل الطلبات والحساب", "Catalogue by post": "الكتالوج بالبريد", "Twice a year.": "مرتين في السنة.",
		"Topics that interest you": "موضوعات تهمك", "Home": "المنزل", "Garden": "الحديقة", "Kitchen": "المطبخ", "Travel": "السفر", "Books": "الكتب", "Children": "الأطفال",
		"How often should we email you?": "كم مرة نراسلك؟", "Every week": "كل أسبوع", "Once a month": "مرة في الشهر", "Only big news": "الأخبار المهمة فقط",
		"Privacy policy": "سياسة الخصوصية", "We may write to you about our products.": "يجوز لنا أن نكتب إليك عن منتجاتنا.",
	},
}

func in(locale, text string) string {
	if locale == "pseudo" {
		return longer(text)
	}
	if t := texts[locale][text]; t != "" {
		return t
	}
	return text
}

// longer gives a text that is about two fifths longer.
func longer(text string) string {
	words := strings.Fields(text)
	for i, w := range words {
		words[i] = w + strings.Repeat("ö", (len(w)*2+4)/5)
	}
	return strings.Join(words, " ")
}

// state gives a pointer to an answer.
func state[T any](v T) *T { return &v }

// formIn is what Northwind asks, answered in part unless fresh.
func formIn(locale string, fresh bool) consent.Form {
	say := func(text string) string { return in(locale, text) }
	name := func(id, text string) *consent.FormName { return &consent.FormName{ID: id, Name: say(text)} }
	topics := []struct{ id, name, text string }{
		{"newsletter", "Newsletter", "Stories and new arrivals, about twice a month"},
		{"offers", "Offers and sales", "Discounts chosen from what you browse"},
		{"events", "Store events", "Openings and workshops near you"},
		{"research", "Customer research", "A survey, at most twice a year"},
	}
	channels := map[string]string{"email": "Email", "sms": "SMS", "phone": "Phone", "post": "Post"}
	matrix := consent.FormBlock{Type: "permissions", Statement: &consent.FormStatement{Reference: "marketing", Version: 3, Text: say("We may write to you about our products.")}}
	for _, cell := range []struct {
		topic   int
		channel string
		on      any // true, false, nil for never answered
	}{
		{0, "email", true}, {1, "email", true}, {1, "sms", true}, {0, "post", nil}, {1, "post", false}, {2, "email", nil}, {2, "sms", nil}, {2, "phone", nil}, {2, "post", true}, {3, "email", nil}, {3, "phone", false},
	} {
		topic := topics[cell.topic]
		o := consent.FormOption{
			OptionID: topic.id + "-" + cell.channel, OptionType: consent.OptionSingle, Justification: consent.Consent, Label: say(topic.name), Description: say(topic.text),
			Purpose: name(topic.id, topic.name), Channel: name(cell.channel, channels[cell.channel]), Party: name("northwind", "Northwind Retail Ltd"), DirectMarketing: cell.topic < 3,
		}
		if on, answered := cell.on.(bool); answered && !fresh {
			o.Selected, o.State = &on, state(consent.Denied)
			if on {
				o.State = state(consent.Granted)
			}
		}
		matrix.Options = append(matrix.Options, o)
	}
	post := consent.FormOption{OptionID: "catalogue-post", OptionType: consent.OptionSingle, Justification: consent.LegitimateInterest, Label: say("Catalogue by post"), Description: say("Twice a year."), Purpose: name("offers", "Offers and sales"), Channel: name("post", "Post"), DirectMarketing: true}
	orders := consent.FormOption{OptionID: "orders-email", OptionType: consent.OptionSingle, Justification: consent.Contract, Label: say("Order and account messages"), Purpose: name("orders", "Order and account messages"), Channel: name("email", "Email")}
	matrix.Options = append(matrix.Options, post, orders)
	interests := consent.FormBlock{Type: "multi-choice-preference", Reference: "interests", Label: say("Topics that interest you")}
	for i, c := range []string{"Home", "Garden", "Kitchen", "Travel", "Books", "Children"} {
		interests.Choices = append(interests.Choices, consent.FormChoice{Reference: strings.ToLower(c), Label: say(c), Selected: !fresh && i < 2})
	}
	often := consent.FormBlock{Type: "single-choice-preference", Reference: "frequency", Label: say("How often should we email you?")}
	for _, c := range []string{"Every week", "Once a month", "Only big news"} {
		often.Choices = append(often.Choices, consent.FormChoice{Reference: strings.ToLower(strings.ReplaceAll(c, " ", "-")), Label: say(c)})
	}
	if !fresh {
		often.SelectedChoice = state("once-a-month")
	}
	tag := locale
	if locale == "pseudo" {
		tag = "en"
	}
	return consent.Form{
		ApplicationID: "northwind", TemplateID: "t_1", Locale: tag, Locales: []string{"en", "de", "ar"}, Snapshot: "signed",
		PrivacyPolicy: &consent.FormPolicy{Reference: "policy-01", Name: say("Privacy policy"), Version: "7", URL: "https://northwind.example/privacy"},
		Blocks:        []consent.FormBlock{matrix, interests, often},
	}
}

// oneChannel is a form that offers two things by one channel.
func oneChannel(form consent.Form) consent.Form {
	form.Blocks = form.Blocks[:1]
	form.Blocks[0].Options = []consent.FormOption{form.Blocks[0].Options[0], form.Blocks[0].Options[5]}
	for i := range form.Blocks[0].Options {
		o := &form.Blocks[0].Options[i]
		o.Label, o.Description = o.Label+", "+o.Description, ""
	}
	form.Blocks[0].Options[1].Party = &consent.FormName{ID: "trailhead", Name: "Trailhead Cycles Ltd"}
	return form
}

// listed is a form of somebody who is on the do-not-contact list.
func listed(form consent.Form) consent.Form {
	for i := range form.Blocks[0].Options {
		o := &form.Blocks[0].Options[i]
		if o.Suppressed = o.Justification != consent.Contract; o.Suppressed {
			o.Selected = new(bool)
		}
	}
	return form
}

// logo is a disc of 40 pixels.
func logo(c color.NRGBA) []byte {
	m := image.NewNRGBA(image.Rect(0, 0, 40, 40))
	for y := range 40 {
		for x := range 40 {
			if (x-20)*(x-20)+(y-20)*(y-20) <= 19*19 {
				m.SetNRGBA(x, y, c)
			}
		}
	}
	var b bytes.Buffer
	if err := png.Encode(&b, m); err != nil {
		panic(err)
	}
	return b.Bytes()
}

var northwind = core.CentreView{
	PreferenceCentre: consent.PreferenceCentre{
		Reference: "manage", Name: "Preferences", Type: consent.ManageCentre, Slug: "northwind", Template: "manage-all",
		Brand: consent.Brand{Name: "Northwind", Logo: logo(color.NRGBA{0x12, 0x35, 0x5b, 0xff})},
		Help:  &consent.Help{URL: "mailto:help@northwind.example"},
	},
	Locales: []string{"en", "de", "ar"}, ApplicationID: "northwind", Parties: []consent.Party{{ID: "northwind", Name: "Northwind Retail Ltd"}},
	Settings: consent.ApplicationSettings{Name: "Northwind", DefaultLocale: "en", Locales: []string{"en", "de", "ar"}, Sender: &consent.Sender{Name: "Northwind", Address: "hello@northwind.example"}},
}

var marketing = consent.Catalogue{Purposes: []consent.Purpose{{ID: "newsletter", DirectMarketing: true}}}

// historyIn is what was recorded of somebody.
func historyIn() core.History {
	evidence := consent.Evidence{RecordedAt: noon, ObtainedAt: noon, Channel: "preference-centre", ByCitizen: true, Policy: &consent.Citation{Ref: "policy-01", Version: 7}}
	first, listed := evidence, consent.Evidence{RecordedAt: noon.Add(-50 * 3600e9), ObtainedAt: noon.Add(-50 * 3600e9), Client: consent.Recorder{ID: "crm", Name: "CRM"}}
	first.ByCitizen, first.RecordedAt, first.ObtainedAt, first.Client = false, noon.Add(-48*3600e9), noon.Add(-49*3600e9), consent.Recorder{ID: "crm", Name: "CRM"}
	first.Attribution = consent.Attribution{VisitorAddress: "2001:db8::7", VisitorAgent: "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/156.0.0.0 Safari/537.36"}
	first.ID, evidence.ID = fixedID(1), fixedID(2)
	answer := evidence
	answer.ID = fixedID(3)
	return core.History{
		Snapshot: snapshotOf(consent.Catalogue{
			Options:  []consent.Option{{ID: "newsletter-email", Purpose: "newsletter", Channel: "email"}, {ID: "offers-sms", Purpose: "offers", Channel: "sms"}},
			Purposes: []consent.Purpose{{ID: "newsletter", Name: "Newsletter"}, {ID: "offers", Name: "Offers and sales"}},
			Channels: []consent.Channel{{ID: "email", Name: "Email"}, {ID: "sms", Name: "SMS"}},
		}),
		Policies: map[consent.Citation]consent.PrivacyPolicy{*evidence.Policy: {Name: "Privacy policy", Versions: []consent.PolicyVersion{{Version: "7", URL: "https://example.com/privacy"}}}},
		Chain: store.Chain{Entries: []store.Entry{
			{Suppression: &consent.Suppression{Evidence: listed, Medium: "sms"}},
			{Transaction: &consent.Transaction{Evidence: first, Confirms: &consent.Confirmed{SentAt: noon.Add(-49 * 3600e9), OpenedAt: first.RecordedAt}, Changes: []consent.Change{{OptionType: consent.OptionSingle, OptionID: "newsletter-email", Justification: consent.Consent, State: consent.Granted}}}},
			{Transaction: &consent.Transaction{Evidence: evidence, Changes: []consent.Change{
				{OptionType: consent.OptionSingle, OptionID: "newsletter-email", Justification: consent.Consent, State: consent.Denied},
				{OptionType: consent.OptionSingle, OptionID: "offers-sms", Justification: consent.Consent, State: consent.Granted},
			}}},
			{Submission: &consent.Submission{Evidence: answer, Answer: consent.Answer{Preference: "interests", Label: "Topics that interest you", Choices: []consent.Chosen{{Reference: "home", Label: "Home"}, {Reference: "garden", Label: "Garden"}}}}},
		}},
	}
}

func snapshotOf(c consent.Catalogue) *consent.Snapshot {
	items, err := c.Items()
	if err != nil {
		panic(err)
	}
	revisions := make([]consent.Revision, len(items))
	for i, it := range items {
		revisions[i].Item = it
	}
	s, err := consent.NewSnapshot("northwind", 1, 1, revisions)
	if err != nil {
		panic(err)
	}
	return s
}

func fixedID(n byte) (id consent.ID) {
	id[len(id)-1] = n
	return id
}

// dressed is the frame of a page of Northwind.
func dressed(locale string) frame {
	f := frame{Mark: "marked", Chooser: "/c/northwind"}
	tag := locale
	if locale == "pseudo" {
		tag = "en"
	}
	f.speak(northwind.Settings.Locales, tag, "")
	if locale != "pseudo" && f.Lang != locale {
		f.speak([]string{locale}, locale, "")
	}
	f.dress(northwind, "/c/northwind")
	return f
}

// shot is one page in one state.
type shot struct {
	template string
	page     any
}

// shots are all pages in all their states, in a language.
func shots(locale string) map[string]shot {
	f := dressed(locale)
	nothing := store.State{Projection: &consent.Projection{}}
	person := core.Person{Email: "jordan@example.com", Masked: "j•••n@example.com", State: nothing, Catalog: marketing}
	manage := func(edit func(*managePage)) shot {
		page := f.managePage(northwind, formIn(locale, false), person, historyIn())
		page.PauseFrom, page.PauseUntil = "2026-11-23", "2027-11-22"
		if edit != nil {
			edit(&page)
		}
		return shot{"manage", page}
	}
	done := func(kind, ids string) *receipt {
		r := f.receipt(kind, ids, historyIn(), formIn(locale, false), core.Person{State: nothing, Pauses: []consent.Pause{{Until: noon.Add(1000 * 3600e9)}}})
		if r != nil && ids != "" {
			r.Undo = ids
		}
		return r
	}
	both := fixedID(2).String() + "." + fixedID(3).String()
	signUp := func(typed signUpEntry) shot {
		return shot{"signup", f.signUpPage(northwind, formIn(locale, true), "marked", typed)}
	}
	signUpByTelephone := func(typed signUpEntry) shot {
		page := f.signUpPage(northwind, formIn(locale, true), "marked", typed)
		page.AsksTelephone = true
		return shot{"signup", page}
	}
	said := func(title, text string, edit func(*message)) shot {
		m := f.message(title, text)
		if edit != nil {
			edit(&m)
		}
		return shot{"message", m}
	}
	confirm := func(state core.ConfirmState, done bool) shot {
		c := core.Confirmation{State: state, ApplicationID: "northwind", Masked: "j•••n@example.com", Items: []core.ConfirmItem{{Purpose: "Newsletter", Channel: "Email", Statement: "We may write to you about our products."}}, At: noon, Mark: "mark", Renewable: state == core.ConfirmExpired}
		return shot{"confirm", f.confirmPage(c, "/confirm/link", done, "marked")}
	}
	asked := shot{"confirm", f.confirmPage(core.Confirmation{State: core.ConfirmOpen, ApplicationID: "northwind", Masked: "j•••n@example.com", Telephone: "+44•••18", Mark: "mark"}, "/confirm/link", false, "")}
	ended := shot{"confirm", f.confirmPage(core.Confirmation{State: core.ConfirmExpired, ApplicationID: "northwind"}, "/confirm/link", false, "")}
	unsubscribe := func(left, done bool) shot {
		page := f.unsubscribePage("Newsletter: Email", left, "token", "marked", done)
		if done {
			page.Undo, page.Still = &form{"/u/token/undo", f.Say("page.undoThis"), "marked"}, []string{"Newsletter: Post"}
		}
		return shot{"unsubscribe", page}
	}
	sent := func(text string, enter bool, refused string) shot {
		g := f
		g.Title = g.Say("page.inbox")
		return shot{"link", linkPage{frame: g, Text: f.Say(text, "Email", isolate("jordan@example.com")), Sent: true, Enter: enter, Email: "jordan@example.com", Sender: "hello@northwind.example", Refused: refused}}
	}
	titled := func(key string) frame { g := f; g.Title = g.Say(key); return g }
	ours := f.past(historyIn())
	all := map[string]shot{
		"manage":       manage(nil),
		"manage-fresh": {"manage", f.managePage(northwind, formIn(locale, true), core.Person{State: nothing, Catalog: marketing}, core.History{})},
		"manage-saved": manage(func(p *managePage) { p.Done = done("saved", both) }),
		"manage-none":  manage(func(p *managePage) { p.Done = done("saved", "") }),
		"manage-stopped": manage(func(p *managePage) {
			p.Done = done("stopped", fixedID(2).String())
			p.Done.Still = []rest{{"Customer research: Phone", "option:research-phone", "refuse", f.Say("page.turnOff")}, {"Catalogue: Post", "option:catalogue-post", "object", f.Say("object")}, {What: "Surveys: Email"}}
		}),
		"manage-undone":  manage(func(p *managePage) { p.Done = done("undone", fixedID(2).String()) }),
		"manage-nothing": manage(func(p *managePage) { p.Done = done("nothing-paused", "") }),
		"manage-off":     manage(func(p *managePage) { p.Context = &stopping{What: "Newsletter: Email", Off: true} }),
		"manage-listed":  {"manage", f.managePage(northwind, listed(formIn(locale, false)), person, historyIn())},
		"manage-pause-error": manage(func(p *managePage) {
			p.Wrong, p.Problems = true, refusal{{"until", f.Say("page.pauseError")}}
		}),
		"manage-context": manage(func(p *managePage) {
			p.Context = &stopping{Topic: "newsletter", Channel: "email", What: "Newsletter: Email"}
		}),
		"manage-paused": manage(func(p *managePage) {
			p.Paused, p.PauseFrom, p.Parts[0].Rows[0].Cells[0] = f.Date(noon), "", cell{Offered: true, Label: "Newsletter: Email", Channel: "Email", Still: f.Say("page.paused")}
			p.Parts[0].Interests[0].Says, p.Parts[0].Interests[0].Does = f.Say("page.pausedTitle", "Date", f.Date(noon))+".", ""
		}),
		"manage-error":            manage(func(p *managePage) { p.Wrong, p.Problems = true, refusal{{"q-frequency", f.Say("page.answerError")}} }),
		"manage-empty":            {"manage", f.managePage(northwind, consent.Form{Locale: f.Lang}, person, historyIn())},
		"history":                 {"history", historyPage{titled("page.recorded"), ours}},
		"data":                    {"data", dataPage{titled("page.data"), []line{{f.Say("email"), "jordan@example.com"}, {f.Say("page.reference"), "CUST-1"}}, []line{{"Newsletter: Email", f.Say("GRANTED")}}, ours}},
		"sign-up":                 signUp(signUpEntry{}),
		"sign-up-error":           signUp(signUpEntry{email: "jordan@", problems: refusal{{"email", f.Say("page.emailError")}, {"choices-wrong", f.Say("page.chooseError")}}}),
		"sign-up-telephone":       signUpByTelephone(signUpEntry{}),
		"sign-up-telephone-error": signUpByTelephone(signUpEntry{email: "jordan@example.com", telephone: "0123", problems: refusal{{"telephone", f.Say("page.telephoneError")}}}),
		"sign-up-one":             {"signup", f.signUpPage(northwind, oneChannel(formIn(locale, true)), "marked", signUpEntry{problems: refusal{{"choices-wrong", f.Say("page.chooseError")}}})},
		"sign-up-sent":            sent("page.signUpSent", false, ""),
		"link":                    {"link", linkPage{frame: titled("page.linkTitle"), Text: f.Say("page.linkText"), Ask: &ask{Action: "/c/northwind/link", Mark: "m"}}},
		"link-error":              {"link", linkPage{frame: titled("page.linkTitle"), Text: f.Say("page.linkText"), Problems: refusal{{"email", f.Say("page.emailError")}}, Ask: &ask{Action: "/c/northwind/link", Mark: "m", Email: "jordan@", Wrong: f.Say("page.emailError")}}},
		"link-sent":               sent("page.linkSentTo", false, ""),
		"code":                    sent("page.linkSentTo", true, ""),
		"code-wrong":              sent("page.linkSentTo", true, f.Say("page.codeWrong")),
		"expired":                 said("page.expired", "page.expiredText", func(m *message) { m.Ask = &ask{Action: "/c/northwind/link", Mark: "m", Again: true} }),
		"left":                    said("page.left", "page.leftText", func(m *message) { m.Ask = &ask{Action: "/c/northwind/link", Mark: "m", Lead: f.Say("page.getLink")} }),
		"closed":                  said("page.closed", "page.closedText", nil),
		"not-found":               said("page.notFound", "page.notFoundText", nil),
		"broken":                  said("page.broken", "page.brokenText", func(m *message) { m.Number = "0193-4c" }),
		"confirm":                 confirm(core.ConfirmOpen, false),
		"confirmed":               confirm(core.ConfirmConfirmed, true),
		"confirm-already":         confirm(core.ConfirmConfirmed, false),
		"confirm-expired":         confirm(core.ConfirmExpired, false),
		"confirm-telephone":       asked,
		"confirm-ended":           ended,
		"confirm-refused":         confirm(core.ConfirmRefused, false),
		"confirm-undone":          confirm(core.ConfirmWithdrawn, true),
		"confirm-unknown":         confirm(core.ConfirmUnknown, false),
		"unsubscribe":             unsubscribe(false, false),
		"unsubscribed":            unsubscribe(true, true),
	}
	return all
}

// names are those of all pages, in order.
func names() []string { return slices.Sorted(maps.Keys(shots("en"))) }

// render gives a page as it is served.
func render(t testing.TB, s shot) string {
	t.Helper()
	var b bytes.Buffer
	if err := templates.ExecuteTemplate(&b, s.template, s.page); err != nil {
		t.Fatal(fmt.Errorf("%s: %w", s.template, err))
	}
	return b.String()
}
