package api

import (
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// behind takes the address of a caller from what the proxies in front say, as far as they
// are trusted: of the addresses in X-Forwarded-For the last one that is none of theirs.
// What callers write there themselves stands further to the left and counts for nothing.
func behind(trusted []netip.Prefix, next http.Handler) http.Handler {
	if len(trusted) == 0 {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if from, ok := callerBehind(trusted, r); ok {
			there := *r
			there.RemoteAddr = net.JoinHostPort(from.String(), "0")
			r = &there
		}
		next.ServeHTTP(w, r)
	})
}

// callerBehind gives the address of the caller whom the proxies name, and false where the
// request did not come by one of them, or they do not say.
func callerBehind(trusted []netip.Prefix, r *http.Request) (netip.Addr, bool) {
	known := func(a netip.Addr) bool {
		return slices.ContainsFunc(trusted, func(p netip.Prefix) bool { return p.Contains(a) })
	}
	at, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil || !known(at.Addr().Unmap()) {
		return netip.Addr{}, false
	}
	said := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	var from netip.Addr
	for _, text := range slices.Backward(said) {
		a, err := parseForwarded(strings.TrimSpace(text))
		if err != nil {
			break
		}
		if from = a.Unmap().WithZone(""); !known(from) {
			break
		}
	}
	return from, from.IsValid()
}

// parseForwarded reads an address as proxies write it, some of them with the port.
func parseForwarded(text string) (netip.Addr, error) {
	if at, err := netip.ParseAddrPort(text); err == nil {
		return at.Addr(), nil
	}
	return netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(text, "["), "]"))
}
