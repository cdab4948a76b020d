package portal

import (
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"golang.org/x/text/language"

	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/internal/core"
	"github.com/opencpm/opencpm/internal/token"
)

// The cookies of a centre, which are sent nowhere else.
const (
	visitCookie  = "opencpm-visit"
	localeCookie = "opencpm-locale"
)

// caller is a citizen on a visit.
type caller struct {
	core.Actor
	visit string
}

// centrePage answers a page of a centre.
type centrePage = func(http.ResponseWriter, *http.Request, core.CentreView, frame)

// centre answers a page of a centre, while it is open. What is posted must come from our own
// page.
func (p *Portal) centre(pattern string, h centrePage) {
	p.look(pattern, func(w http.ResponseWriter, r *http.Request, v core.CentreView, f frame) {
		switch {
		case v.Closed:
			p.show(w, r, http.StatusOK, "message", f.message("page.closed", "page.closedText"))
		case p.cross.Check(r) != nil:
			p.foreign(w, r, f)
		default:
			h(w, r, v, f)
		}
	})
}

// look answers what gives a centre its look, which it has while it is closed, too.
func (p *Portal) look(pattern string, h centrePage) {
	if _, place, below := strings.Cut(pattern, "/c/{slug}/"); below {
		p.places[place] = true
	}
	p.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, maxForm)
		v, err := p.Core.Centre(r.Context(), r.PathValue("slug"))
		if err != nil {
			p.failure(w, r, p.plain(r, ""), err)
			return
		}
		home := "/c/" + v.Slug
		if r.Header.Get(ownHost) != "" {
			home = ""
		}
		f := frame{}
		remembered := ""
		if c, err := r.Cookie(localeCookie); err == nil {
			remembered = c.Value
		}
		f.speak(v.Locales, remembered, r.Header.Get("Accept-Language"))
		f.dress(v, home)
		f.Chooser = root(home)
		h(w, r, v, f)
	})
}

// root gives the address of a centre itself.
func root(home string) string {
	if home == "" {
		return "/"
	}
	return home
}

// own guards a page that only a citizen on a visit sees. What is posted must bear the mark
// of a page that was shown on this visit.
func (p *Portal) own(h func(http.ResponseWriter, *http.Request, core.CentreView, frame, caller)) centrePage {
	return func(w http.ResponseWriter, r *http.Request, v core.CentreView, f frame) {
		c, ok := p.visiting(w, r, v, f)
		if !ok {
			return
		}
		f.Mark = p.Core.MarkPage("visit " + c.visit)
		if r.Method == http.MethodPost && !p.Core.WasShown(r.Context(), r.PostFormValue("mark"), "visit "+c.visit) {
			p.manage(w, r, v, f, c, refusal{problem{"", f.Say("page.staleError")}})
			return
		}
		h(w, r, v, f, c)
	}
}

// visiting says who is on a visit, and otherwise answers how to come by a new link.
func (p *Portal) visiting(w http.ResponseWriter, r *http.Request, v core.CentreView, f frame) (caller, bool) {
	cookie, err := r.Cookie(visitCookie)
	if err == nil {
		var a core.Actor
		if a, err = p.Core.ByVisit(r.Context(), v.ApplicationID, cookie.Value); err == nil {
			return caller{a, cookie.Value}, true
		}
	}
	if consent.KindOf(err) != consent.Unauthenticated && !errors.Is(err, http.ErrNoCookie) {
		p.failure(w, r, f, err)
		return caller{}, false
	}
	p.expired(w, r, v, f)
	return caller{}, false
}

// arrive answers the address of a centre: with a token it begins a visit and leads to the
// clean address, so that the token stands in no history.
func (p *Portal) arrive(w http.ResponseWriter, r *http.Request, v core.CentreView, f frame) {
	q := r.URL.Query()
	switch {
	case q.Get("lang") != "":
		if l := q.Get("lang"); slices.Contains(v.Locales, l) {
			q.Del("lang")
			p.redirect(w, r, f.Home+"/"+l, q)
			return
		}
		q.Del("lang")
		p.redirect(w, r, root(f.Home), q)
	case q.Has("token"):
		p.begin(w, r, v, f, q.Get("token"), root(f.Home))
	default:
		p.front(w, r, v, f)
	}
}

// arriveAt answers a centre in a language, or to a token in the path.
func (p *Portal) arriveAt(w http.ResponseWriter, r *http.Request, v core.CentreView, f frame) {
	place := r.PathValue("place")
	q := r.URL.Query()
	switch {
	case isToken(place):
		p.begin(w, r, v, f, place, root(f.Home))
	case !slices.Contains(v.Locales, place):
		p.failure(w, r, f, consent.Errorf(consent.NotFound, "There is no such page."))
	case q.Get("lang") != "":
		p.arrive(w, r, v, f)
	default:
		p.cookie(w, v, f, &http.Cookie{Name: localeCookie, Value: place, MaxAge: 365 * 24 * 3600})
		if q.Has("token") {
			p.begin(w, r, v, f, q.Get("token"), f.Home+"/"+place)
			return
		}
		f.speak(v.Locales, place, "")
		f.dress(v, f.Home)
		p.front(w, r, v, f)
	}
}

// front answers what a centre is for.
func (p *Portal) front(w http.ResponseWriter, r *http.Request, v core.CentreView, f frame) {
	switch v.Type {
	case consent.SignUpCentre:
		p.signUpPage(w, r, v, f, signUpEntry{})
	case consent.LinkCentre:
		p.linkPage(w, r, v, f, "", nil)
	default:
		if c, ok := p.visiting(w, r, v, f); ok {
			f.Mark = p.Core.MarkPage("visit " + c.visit)
			p.manage(w, r, v, f, c, nil)
		}
	}
}

func isToken(place string) bool { return token.IsCitizen(place) }

func isLocale(place string) bool {
	_, err := language.Parse(place)
	return err == nil && len(place) <= 20 && place != ""
}

// begin exchanges a token for a visit.
func (p *Portal) begin(w http.ResponseWriter, r *http.Request, v core.CentreView, f frame, text, to string) {
	visit, err := p.Core.BeginVisit(r.Context(), v.ApplicationID, text)
	switch {
	case consent.KindOf(err) == consent.Unauthenticated:
		p.expired(w, r, v, f)
		return
	case err != nil:
		p.failure(w, r, f, err)
		return
	}
	p.cookie(w, v, f, &http.Cookie{Name: visitCookie, Value: visit, MaxAge: int(core.VisitTime.Seconds())})
	q := r.URL.Query()
	q.Del("token")
	p.redirect(w, r, to, q)
}

// leave ends a visit: whoever is there is not the one the link was for.
func (p *Portal) leave(w http.ResponseWriter, r *http.Request, v core.CentreView, f frame) {
	p.cookie(w, v, f, &http.Cookie{Name: visitCookie, MaxAge: -1})
	m := f.message("page.left", "page.leftText")
	var err error
	if m.Ask, err = p.askFor(r, v, f); err != nil {
		p.failure(w, r, f, err)
		return
	}
	if m.Ask != nil {
		m.Ask.Lead = f.Say("page.getLink")
	}
	p.show(w, r, http.StatusOK, "message", m)
}

// cookie sets a cookie that is sent to the pages of this centre alone.
func (p *Portal) cookie(w http.ResponseWriter, v core.CentreView, f frame, c *http.Cookie) {
	c.Path, c.HttpOnly, c.Secure, c.SameSite = root(f.Home), true, p.secure, http.SameSiteLaxMode
	if p.secure && len(v.FrameAncestors) > 0 {
		c.SameSite, c.Partitioned = http.SameSiteNoneMode, true // it is to be had in a frame of another site
	}
	http.SetCookie(w, c)
}

// redirect leads to a page of ours.
func (p *Portal) redirect(w http.ResponseWriter, r *http.Request, to string, q url.Values) {
	if len(q) > 0 {
		to += "?" + q.Encode()
	}
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("Referrer-Policy", "no-referrer")
	http.Redirect(w, r, to, http.StatusSeeOther)
}
