package demo

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"time"

	"golang.org/x/text/language"
	"golang.org/x/text/language/display"

	"github.com/opencpm/opencpm/client"
	"github.com/opencpm/opencpm/internal/words"
)

// The templates and preference centres of the catalogue that the shop uses.
const (
	manageTemplate = "manage-all"
	signUpTemplate = "sign-up"
	manageCentre   = "/c/northwind"
	signUpCentre   = "/c/northwind-newsletter"
	linkCentre     = "/c/northwind-link"
)

// tokenLife is how long the token lasts with which the shop shows a customer's choices.
const tokenLife = time.Hour

// shopWords are what the shop says in one language.
type shopWords struct {
	Title, About, Manage, History, SignUp, Inbox, InboxLink, Fallback string
	Pages, PagesAbout, CentreLink, SignUpLink, RequestLink, Footer    string
	Head, Customer, Language, Show                                    string
}

var shopTexts = map[string]shopWords{
	"en": {
		Title: "Your account at Northwind Outdoor", About: "A page of a shop, with the three widgets in it. Each is one tag; the look comes from the page.",
		Manage: "Your choices", History: "What we have recorded", SignUp: "Our newsletter",
		Inbox: "The mail that asks you to confirm arrives in", InboxLink: "the inbox of the demo", Fallback: "Open the preference centre",
		Pages: "Hosted pages", PagesAbout: "The same without a line in the shop: pages that OpenCPM serves.", CentreLink: "Preference centre of this customer",
		SignUpLink: "Sign-up page", RequestLink: "Ask for a link to your choices", Footer: "Northwind Outdoor and its customers are invented.",
		Head: "Shop", Customer: "Customer", Language: "Language", Show: "Show",
	},
	"de": {
		Title: "Ihr Konto bei Northwind Outdoor", About: "Eine Seite eines Shops mit den drei Widgets. Jedes ist ein einziges Element; das Aussehen kommt von der Seite.",
		Manage: "Ihre Auswahl", History: "Was wir gespeichert haben", SignUp: "Unser Newsletter",
		Inbox: "Die Mail zur Bestätigung erscheint im", InboxLink: "Postfach der Demo", Fallback: "Einstellungen öffnen",
		Pages: "Gehostete Seiten", PagesAbout: "Dasselbe ohne eine Zeile im Shop: Seiten, die OpenCPM ausliefert.", CentreLink: "Einstellungsseite dieser Kundin oder dieses Kunden",
		SignUpLink: "Anmeldeseite", RequestLink: "Link zu den eigenen Einstellungen anfordern", Footer: "Northwind Outdoor und seine Kundschaft sind erfunden.",
		Head: "Shop", Customer: "Kundennummer", Language: "Sprache", Show: "Anzeigen",
	},
	"ar": {
		Title: "حسابك في نورثويند أوتدور", About: "صفحة في متجر تضم الأدوات الثلاث. كل أداة وسم واحد، ومظهرها من الصفحة.",
		Manage: "اختياراتك", History: "ما سجّلناه", SignUp: "نشرتنا الإخبارية",
		Inbox: "تصل رسالة التأكيد إلى", InboxLink: "صندوق بريد العرض", Fallback: "افتح مركز التفضيلات",
		Pages: "صفحات مستضافة", PagesAbout: "الشيء نفسه من دون سطر واحد في المتجر: صفحات يقدمها OpenCPM.", CentreLink: "مركز تفضيلات هذا العميل",
		SignUpLink: "صفحة الاشتراك", RequestLink: "اطلب رابطًا إلى اختياراتك", Footer: "نورثويند أوتدور وعملاؤها من نسج الخيال.",
		Head: "المتجر", Customer: "رقم العميل", Language: "اللغة", Show: "عرض",
	},
}

// shopLocales are the languages of the shop, in the order in which it offers them.
var shopLocales = []string{"en", "de", "ar"}

type shopView struct {
	Citizen, Token, Locale, Direction string
	Locales                           []localeView
	ManageTemplate, SignUpTemplate    string
	Centre, SignUp, RequestLink       string
	Words                             shopWords
	Failed                            string
}

type localeView struct{ Tag, Name string }

// shop is a page of Northwind Outdoor that embeds the widgets, for one customer.
func (p *Page) shop(w http.ResponseWriter, r *http.Request) {
	v := shopView{Citizen: r.URL.Query().Get("citizen"), Locale: r.URL.Query().Get("locale")}
	if v.Citizen == "" {
		v.Citizen = Citizens()[0].ExternalRef
	}
	if !slices.Contains(shopLocales, v.Locale) {
		v.Locale = shopLocales[0]
	}
	v.Direction, v.Words = words.Direction(v.Locale), shopTexts[v.Locale]
	for _, tag := range shopLocales {
		v.Locales = append(v.Locales, localeView{tag, display.Self.Name(language.Make(tag))})
	}
	v.SignUp, v.RequestLink = signUpCentre+"/"+v.Locale, linkCentre+"/"+v.Locale
	v.Failed = p.embed(r.Context(), &v)
	p.render(w, r, "shop", v)
}

// embed asks the API for what the widgets need, and says in a sentence what is in the
// way of that.
func (p *Page) embed(ctx context.Context, v *shopView) string {
	c, application := p.config.Client, p.config.ApplicationID
	for reference, id := range map[string]*string{manageTemplate: &v.ManageTemplate, signUpTemplate: &v.SignUpTemplate} {
		template, err := c.Template(ctx, application, reference)
		if err != nil {
			return "The API does not give the template " + reference + "."
		}
		*id = template.ID
	}
	minted, err := c.CreateCitizenToken(ctx, client.NewCitizenToken{ApplicationID: application, ExternalRef: v.Citizen, ExpiryDate: time.Now().Add(tokenLife)})
	if isStatus(err, http.StatusNotFound) {
		return "There is no customer " + v.Citizen + " yet. Those of the demo are NW-10001 to NW-12000."
	}
	if err != nil {
		return "The API does not give a token for this customer."
	}
	v.Token = minted.Token
	v.Centre = manageCentre + "/" + v.Locale + "?token=" + url.QueryEscape(minted.Token)
	return ""
}
