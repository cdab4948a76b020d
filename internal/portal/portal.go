// Package portal is what citizens meet: the hosted preference centres, the pages behind
// the links in mails, and the widgets that other pages embed.
package portal

import (
	"embed"
	"html/template"
	"log/slog"
	"net"
	"net/http"
	"strings"

	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/internal/core"
	"github.com/opencpm/opencpm/internal/web"
)

// Options are what the pages are made of.
type Options struct {
	Core *core.Service
	// BaseURL is where citizens reach this server.
	BaseURL string
	Log     *slog.Logger // nil means slog.Default
	// RequestID gives the number by which a request is found in the log.
	RequestID func(*http.Request) string
	// Kept gives what is recorded of a citizen, and the mails to them, in the form of the
	// API; nil leaves them out of the file of their data.
	Kept func(core.History) (history, emails any)
}

// Portal answers the pages of citizens.
type Portal struct {
	Options
	mux    *http.ServeMux
	secure bool // citizens come by https
	cross  *http.CrossOriginProtection
}

//go:embed templates
var templateFiles embed.FS

var templates = template.Must(template.New("").Funcs(web.Funcs).ParseFS(templateFiles, "templates/*.html"))

// New gives the pages over the use cases.
func New(o Options) *Portal {
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.RequestID == nil {
		o.RequestID = func(*http.Request) string { return "" }
	}
	if o.Kept == nil {
		o.Kept = func(core.History) (any, any) { return nil, nil }
	}
	p := &Portal{Options: o, mux: http.NewServeMux(), secure: strings.HasPrefix(o.BaseURL, "https://"), cross: http.NewCrossOriginProtection()}
	p.routes()
	return p
}

// routes is the whole of the pages: those of a centre below its slug, and those behind
// the links of mails.
func (p *Portal) routes() {
	p.mux.Handle("GET /assets/{name}", web.Assets())
	p.centre("GET /c/{slug}", p.arrive)
	p.centre("GET /c/{slug}/{place}", p.arriveAt)
	p.centre("GET /c/{slug}/brand.css", p.brandSheet)
	p.centre("GET /c/{slug}/logo.png", p.logo)
	p.centre("GET /c/{slug}/logo-dark.png", p.logo)
	p.centre("GET /c/{slug}/history", p.own(p.history))
	p.centre("GET /c/{slug}/data", p.own(p.data))
	p.centre("GET /c/{slug}/data.json", p.own(p.dataFile))
	p.centre("POST /c/{slug}/save", p.own(p.save))
	p.centre("POST /c/{slug}/stop", p.own(p.stop))
	p.centre("POST /c/{slug}/pause", p.own(p.pause))
	p.centre("POST /c/{slug}/resume", p.own(p.resume))
	p.centre("POST /c/{slug}/undo", p.own(p.undo))
	p.centre("POST /c/{slug}/leave", p.leave)
	p.centre("POST /c/{slug}/link", p.requestLink)
	p.centre("POST /c/{slug}/code", p.redeemCode)
	p.centre("POST /c/{slug}/sign-up", p.signUp)
	p.mux.Handle("GET /confirm/{link}", p.page(p.confirmation))
	p.mux.Handle("POST /confirm/{link}", p.page(p.confirm))
	p.mux.Handle("POST /confirm/{link}/undo", p.page(p.undoConfirmation))
	p.mux.Handle("POST /confirm/{link}/resend", p.page(p.resendConfirmation))
	p.mux.Handle("GET /u/{token}", p.page(p.unsubscribing))
	p.mux.Handle("POST /u/{token}/leave", p.page(p.unsubscribe))
	p.mux.Handle("POST /u/{token}/undo", p.page(p.undoUnsubscribing))
	p.mux.Handle("/c/", p.page(p.nothingHere))
	p.mux.Handle("/confirm/", p.page(p.nothingHere))
}

// Mount hands the pages to the mux of a server.
func (p *Portal) Mount(mux *http.ServeMux) {
	for _, pattern := range []string{"GET /assets/", "/c/", "/confirm/", "GET /u/{token}", "POST /u/{token}/leave", "POST /u/{token}/undo"} {
		mux.Handle(pattern, p.mux)
	}
}

// Hosts lets a centre that has a host name of its own answer at its root there.
func (p *Portal) Hosts(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host := strings.ToLower(r.Host)
		if name, _, err := net.SplitHostPort(host); err == nil {
			host = name
		}
		if v, ok := p.Core.CentreOfHost(host); ok && within(v, r.URL.Path) {
			r2 := r.Clone(r.Context())
			r2.URL.Path, r2.URL.RawPath = strings.TrimSuffix("/c/"+v.Slug+r.URL.Path, "/"), ""
			r2.Header.Set(ownHost, "1")
			r = r2
		} else {
			r.Header.Del(ownHost)
		}
		next.ServeHTTP(w, r)
	})
}

// ownHost marks, on its way through this process, a request that came by a centre's own
// host; what a client sends under that name is dropped.
const ownHost = "Opencpm-Own-Host"

// places are the pages below a centre.
var places = []string{"", "brand.css", "logo.png", "logo-dark.png", "history", "data", "data.json", "save", "stop", "pause", "resume", "undo", "leave", "link", "code", "sign-up"}

// within reports whether a path is that of a page of a centre at the root of its host:
// everything else there is what it is elsewhere.
func within(v core.CentreView, path string) bool {
	place := strings.TrimPrefix(path, "/")
	for _, known := range places {
		if place == known {
			return true
		}
	}
	return isToken(place) || isLocale(place)
}

// failure is what a page answers in place of what was asked.
func (p *Portal) failure(w http.ResponseWriter, r *http.Request, f frame, err error) {
	switch consent.KindOf(err) {
	case consent.NotFound:
		p.show(w, r, http.StatusNotFound, "message", f.message("page.notFound", "page.notFoundText"))
	case consent.Throttled:
		p.show(w, r, http.StatusTooManyRequests, "message", f.message("page.busy", "page.busyText"))
	default:
		p.Log.ErrorContext(r.Context(), "a page could not be answered", "error", err)
		m := f.message("page.broken", "page.brokenText")
		m.Number = p.RequestID(r)
		p.show(w, r, http.StatusInternalServerError, "message", m)
	}
}

// nothingHere answers for what is no page.
func (p *Portal) nothingHere(w http.ResponseWriter, r *http.Request) {
	p.failure(w, r, p.plain(r, ""), consent.Errorf(consent.NotFound, "There is no such page."))
}

// page guards a page that no centre is known for.
func (p *Portal) page(h http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, maxForm)
		h(w, r)
	})
}

// maxForm is how much a form may weigh.
const maxForm = 256 << 10

// visitor says what is known of the reader's browser.
func visitor(r *http.Request) core.Visitor { return core.NewVisitor(r.RemoteAddr, r.UserAgent()) }
