package api

import (
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"
)

// sharedPaths are the calls that pages of other origins make, with the token of a citizen
// or as nobody.
var sharedPaths = []string{
	"/v1/consent-state", "/v1/citizens/me/history", "/v1/citizens/me/evidence",
	"/v1/unauthenticated/consent-state", "/v1/unauthenticated/transactions",
}

// preflightAge is how long a browser may remember that it may ask, in seconds.
const preflightAge = "7200"

// shared lets pages of other origins call what is meant for them. Every origin may read
// the answer, for nothing is sent along that the page does not have: no cookies. Whether
// an application allows the origin at all is judged where the call is answered.
func shared(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !slices.Contains(sharedPaths, r.URL.Path) {
			next.ServeHTTP(w, r)
			return
		}
		h := w.Header()
		h.Set("Access-Control-Allow-Origin", "*")
		if r.Method == http.MethodOptions && r.Header.Get("Access-Control-Request-Method") != "" {
			h.Set("Access-Control-Allow-Methods", "GET, POST")
			h.Set("Access-Control-Allow-Headers", "Authorization, Content-Type, "+idempotencyKey)
			h.Set("Access-Control-Max-Age", preflightAge)
			w.WriteHeader(http.StatusNoContent)
			return
		}
		h.Set("Access-Control-Expose-Headers", "X-Request-Id, Content-Language, Retry-After")
		next.ServeHTTP(w, r)
	})
}

// originOf gives the origin of the page that makes a call, empty where it is none or one
// of ours.
func (s *server) originOf(hc huma.Context) string {
	origin := hc.Header("Origin")
	if u, err := url.Parse(s.BaseURL); err == nil && strings.EqualFold(origin, u.Scheme+"://"+u.Host) {
		return ""
	}
	if u, err := url.Parse(origin); err == nil && s.BaseURL == "" && u.Host == hc.Host() {
		return ""
	}
	return origin
}
