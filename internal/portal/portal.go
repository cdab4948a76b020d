// Package portal is what citizens meet: the hosted preference centres, the pages behind
// the links in mails, and the widgets that other pages embed.
package portal

import (
	"embed"
	"errors"
	"html/template"
	"log/slog"
	"net"
	"net/http"
	"strconv"
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
	places map[string]bool // the pages below a centre
	secure bool            // citizens come by https
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
	p := &Portal{Options: o, mux: http.NewServeMux(), places: map[string]bool{}, secure: strings.HasPrefix(o.BaseURL, "https://"), cross: http.NewCrossOriginProtection()}
	p.routes()
	return p
}

// routes is the whole of the pages: those of a centre below its slug, and those behind
// the links of mails.
func (p *Portal) routes() {
	p.mux.Handle("GET /assets/{name}", web.Assets())
	p.centre("GET /c/{slug}", p.arrive)
	p.centre("GET /c/{slug}/{place}", p.arriveAt)
	p.look("GET /c/{slug}/brand.css", p.brandSheet)
	p.look("GET /c/{slug}/logo.png", p.logo)
	p.look("GET /c/{slug}/logo-dark.png", p.logo)
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
	p.page("GET /confirm/{link}", p.confirmation)
	p.page("POST /confirm/{link}", p.confirm)
	p.page("POST /confirm/{link}/undo", p.undoConfirmation)
	p.page("POST /confirm/{link}/resend", p.resendConfirmation)
	p.page("GET /u/{token}", p.unsubscribing)
	p.page("POST /u/{token}/leave", p.unsubscribe)
	p.page("POST /u/{token}/undo", p.undoUnsubscribing)
	p.page("/c/", p.nothingHere)
	p.page("/confirm/", p.nothingHere)
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
		if v, ok := p.Core.CentreOfHost(host); ok && p.within(r.URL.Path) {
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

// within reports whether a path is that of a page of a centre at the root of its host:
// everything else there is what it is elsewhere.
func (p *Portal) within(path string) bool {
	place := strings.TrimPrefix(path, "/")
	return place == "" || p.places[place] || isToken(place) || isLocale(place)
}

// failure is what a page answers in place of what was asked.
func (p *Portal) failure(w http.ResponseWriter, r *http.Request, f frame, err error) {
	kind := consent.KindOf(err)
	status, m := http.StatusTooManyRequests, f.message("page.busy", "page.busyText")
	switch kind {
	case consent.NotFound:
		status, m = http.StatusNotFound, f.message("page.notFound", "page.notFoundText")
	case consent.Throttled:
	case consent.Unavailable:
		status, m = http.StatusServiceUnavailable, f.message("page.away", "page.awayText")
	case consent.Full:
		status, m = http.StatusInsufficientStorage, f.message("page.away", "page.awayText")
	default:
		status, m = http.StatusInternalServerError, f.message("page.broken", "page.brokenText")
		m.Number = p.RequestID(r)
	}
	if status >= 500 {
		p.Log.ErrorContext(r.Context(), "a page could not be answered", "error", err)
	}
	if kind == consent.Throttled || kind == consent.Unavailable {
		var e *consent.Error
		errors.As(err, &e)
		w.Header().Set("Retry-After", strconv.Itoa(e.RetrySeconds()))
	}
	p.show(w, r, status, "message", m)
}

// nothingHere answers for what is no page.
func (p *Portal) nothingHere(w http.ResponseWriter, r *http.Request) {
	p.failure(w, r, p.ofApplication(r, "", ""), consent.Errorf(consent.NotFound, "There is no such page."))
}

// page answers a page that no centre is known for. What is posted must come from our own
// page.
func (p *Portal) page(pattern string, h http.HandlerFunc) {
	p.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, maxForm)
		if p.cross.Check(r) != nil {
			p.foreign(w, r, p.plain(r, ""))
			return
		}
		h(w, r)
	})
}

// foreign refuses what another site's page posts.
func (p *Portal) foreign(w http.ResponseWriter, r *http.Request, f frame) {
	p.show(w, r, http.StatusForbidden, "message", f.message("page.error", "page.staleError"))
}

// maxForm is how much a form may weigh.
const maxForm = 256 << 10

// visitor says what is known of the reader's browser.
func visitor(r *http.Request) core.Visitor { return core.NewVisitor(r.RemoteAddr, r.UserAgent()) }
