package portal

import (
	"bytes"
	"cmp"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/language"
	"golang.org/x/text/language/display"

	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/internal/core"
	"github.com/opencpm/opencpm/internal/web"
	"github.com/opencpm/opencpm/internal/words"
)

// frame is what every page has around its content.
type frame struct {
	Lang, Dir string
	Title     string // the heading of the page
	Wrong     bool   // the title says that something has to be put right
	Owner     string // whose page it is
	Home      string // the path of the centre, empty at the root of its own host
	Sheet     string // address of the owner's colours, empty for ours
	Logo      string
	LogoDark  string
	Languages []tongue
	// Chooser is where the choice of a language goes; empty where there is none.
	Chooser string
	Footer  string
	Help    *link
	Mark    string // proves that the forms of this page were shown
	speaker words.Speaker
	centre  *core.CentreView
}

// tongue is a language that a page is to be had in, by the name it gives itself.
type tongue struct {
	Tag, Name string
	Chosen    bool
}

type link struct{ Label, Href string }

// message is a page that says one thing, with what can be done about it.
type message struct {
	frame
	Text   string
	Number string // to quote
	Links  []link
	Ask    *ask // to have a new link sent
	Panel  bool // it says that something was done
}

// form is one button that posts.
type form struct{ Action, Label, Mark string }

// Say gives a text of ours in the language of the page; what is in it follows as name
// and value.
func (f frame) Say(name string, values ...string) string {
	if len(values) == 0 {
		return f.speaker.Say(name, nil)
	}
	data := make(map[string]string, len(values)/2)
	for i := 0; i+1 < len(values); i += 2 {
		data[values[i]] = values[i+1]
	}
	return f.speaker.Say(name, data)
}

// Head is the title of the document, without the places at which a heading may break.
func (f frame) Head() string {
	title := strings.ReplaceAll(f.Title, "\u00ad", "")
	if f.Wrong {
		title = f.Say("page.errorTitle", "Title", title)
	}
	if f.Owner == "" {
		return title
	}
	return title + " – " + f.Owner
}

// Latin reports whether the page is written in Latin letters, whose font is loaded first.
func (f frame) Latin() bool {
	script, _ := language.Make(f.Lang).Script()
	return script.String() == "Latn"
}

// Date gives a day in words.
func (f frame) Date(i consent.Instant) string {
	return f.speaker.Date(i.Time())
}

// Clock gives a moment in words, to the minute.
func (f frame) Clock(i consent.Instant) string {
	return f.speaker.Clock(i.Time())
}

// message starts a page that says one thing.
func (f frame) message(title, text string) message {
	f.Title = f.Say(title)
	return message{frame: f, Text: f.Say(text)}
}

// plain is the frame of a page of no centre, in our own colours, in the language of the
// reader.
func (p *Portal) plain(r *http.Request, locale string) frame {
	var tags []string
	for _, t := range words.Languages() {
		tags = append(tags, t.String())
	}
	f := frame{}
	f.speak(tags, cmp.Or(r.URL.Query().Get("lang"), locale), r.Header.Get("Accept-Language"))
	f.Chooser = r.URL.Path
	return f
}

// askedLang is what a request says of the language of its page, for the request that follows.
func askedLang(r *http.Request) url.Values {
	if lang := r.URL.Query().Get("lang"); lang != "" {
		return url.Values{"lang": {lang}}
	}
	return nil
}

// next is where a form of the page leads, which goes on in its language.
func (f frame) next(path string) string { return path + "?lang=" + url.QueryEscape(f.Lang) }

// ofApplication is the frame of a page behind a link of a mail: in the brand of the
// application's first centre, where it has one, and with its help. A link that nobody knows
// names no application.
func (p *Portal) ofApplication(r *http.Request, applicationID, locale string) frame {
	f := p.plain(r, locale)
	if v, ok := p.Core.FaceOf(r.Context(), applicationID); ok {
		f.dress(v, "/c/"+v.Slug)
	}
	f.Chooser = r.URL.Path
	return f
}

// dress puts the brand of a centre on the page.
func (f *frame) dress(v core.CentreView, home string) {
	f.centre, f.Owner, f.Home = &v, v.Title(), home
	if v.Brand.Accent != "" || v.Brand.AccentDark != "" {
		f.Sheet = home + "/brand.css?v=" + version([]byte(v.Brand.Accent+v.Brand.AccentDark))
	}
	if len(v.Brand.Logo) > 0 {
		f.Logo = home + "/logo.png?v=" + version(v.Brand.Logo)
		if len(v.Brand.LogoDark) > 0 {
			f.LogoDark = home + "/logo-dark.png?v=" + version(v.Brand.LogoDark)
		}
	}
	if v.Help != nil && v.Help.URL != "" {
		f.Help = &link{cmp.Or(f.local(v.Help.Label), f.Say("page.help")), v.Help.URL}
	}
	f.Footer = f.local(v.Texts.Footer)
}

// local gives a text of the application in the language of the page.
func (f frame) local(l consent.Localised) string {
	if len(l) == 0 {
		return ""
	}
	base, _ := language.Make(f.Lang).Base()
	fallback := ""
	if f.centre != nil {
		fallback = f.centre.Settings.DefaultLocale
	}
	for _, locale := range []string{f.Lang, base.String(), fallback, ""} {
		if text := l[locale]; text != "" {
			return text
		}
	}
	keys := make([]string, 0, len(l))
	for k := range l {
		keys = append(keys, k)
	}
	return l[slices.Min(keys)]
}

// speak chooses the language of a page: the one that was asked for, or remembered, or
// the first of those that the browser accepts, or the first of all.
func (f *frame) speak(offered []string, wanted, accepted string) {
	if len(offered) == 0 {
		offered = []string{words.Fallback.String()}
	}
	chosen := consent.Choose(offered, wanted, accepted)
	f.Lang, f.Dir, f.speaker = chosen, words.Direction(chosen), words.In(chosen)
	f.Languages = nil
	for _, tag := range offered {
		name := display.Self.Name(language.Make(tag))
		f.Languages = append(f.Languages, tongue{tag, capital(name), tag == chosen})
	}
}

// capital gives a name as it begins a line.
func capital(name string) string {
	first, size := utf8.DecodeRuneInString(name)
	return string(unicode.ToUpper(first)) + name[size:]
}

// show answers with a page. It is complete before its first byte leaves.
func (p *Portal) show(w http.ResponseWriter, r *http.Request, status int, name string, page any) {
	var out bytes.Buffer
	if err := templates.ExecuteTemplate(&out, name, page); err != nil {
		p.Log.ErrorContext(r.Context(), "a page could not be rendered", "page", name, "error", err)
		http.Error(w, "Something went wrong on our side.", http.StatusInternalServerError)
		return
	}
	h := w.Header()
	web.SetHeaders(h)
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("X-Robots-Tag", "noindex, nofollow")
	if f, ok := page.(interface{ around() frame }); ok {
		around := f.around()
		h.Set("Content-Language", around.Lang)
		h.Set("Vary", "Accept-Language, Cookie")
		if c := around.centre; c != nil && len(c.FrameAncestors) > 0 {
			h.Set("Content-Security-Policy", strings.Replace(web.Policy, "frame-ancestors 'none'", "frame-ancestors "+strings.Join(c.FrameAncestors, " "), 1))
			h.Del("Cross-Origin-Opener-Policy")
			h.Set("Cross-Origin-Resource-Policy", "cross-origin")
		}
	}
	w.WriteHeader(status)
	_, _ = w.Write(out.Bytes()) // the reader going away is no fault of ours
}

// Root is the address of the centre itself.
func (f frame) Root() string { return root(f.Home) }

// Isolate keeps a text from left to right.
func (f frame) Isolate(text string) string { return isolate(text) }

func (f frame) around() frame { return f }

// today is the first moment of a day, in UTC, n days from now.
func today(n int) time.Time { return time.Now().UTC().Truncate(24*time.Hour).AddDate(0, 0, n) }
