package api

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"
)

func TestTheCallerBehindProxies(t *testing.T) {
	trusted := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("::1/128")}
	for _, c := range []struct {
		remote    string
		forwarded []string
		want      string
	}{
		{"203.0.113.9:4711", nil, "203.0.113.9:4711"},
		{"203.0.113.9:4711", []string{"198.51.100.1"}, "203.0.113.9:4711"}, // who is no proxy is not believed
		{"10.0.0.1:4711", nil, "10.0.0.1:4711"},
		{"10.0.0.1:4711", []string{""}, "10.0.0.1:4711"},
		{"10.0.0.1:4711", []string{"198.51.100.1"}, "198.51.100.1:0"},
		{"[::ffff:10.0.0.1]:4711", []string{"198.51.100.1"}, "198.51.100.1:0"},
		{"[::1]:4711", []string{"2001:db8::7"}, "[2001:db8::7]:0"},
		{"10.0.0.1:4711", []string{"192.0.2.66, 198.51.100.1, 10.0.0.2"}, "198.51.100.1:0"}, // the first is the caller's own invention
		{"10.0.0.1:4711", []string{"192.0.2.66", "198.51.100.1"}, "198.51.100.1:0"},
		{"10.0.0.1:4711", []string{"192.0.2.66, nonsense"}, "10.0.0.1:4711"},
		{"10.0.0.1:4711", []string{"192.0.2.66, nonsense, 10.0.0.2"}, "10.0.0.2:0"},
		{"10.0.0.1:4711", []string{"10.0.0.3, 10.0.0.2"}, "10.0.0.3:0"},
		{"10.0.0.1:4711", []string{"fe80::1%eth0"}, "[fe80::1]:0"},
		{"10.0.0.1:4711", []string{"198.51.100.1:1234"}, "198.51.100.1:0"},
		{"10.0.0.1:4711", []string{"[2001:db8::7]:1234, 10.0.0.2:80"}, "[2001:db8::7]:0"},
		{"10.0.0.1:4711", []string{"[2001:db8::7]"}, "[2001:db8::7]:0"},
	} {
		r := httptest.NewRequest(http.MethodGet, "/", http.NoBody)
		r.RemoteAddr = c.remote
		for _, line := range c.forwarded {
			r.Header.Add("X-Forwarded-For", line)
		}
		got := ""
		behind(trusted, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got = r.RemoteAddr })).ServeHTTP(httptest.NewRecorder(), r)
		if got != c.want {
			t.Errorf("from %s with %q the caller is %s, not %s", c.remote, c.forwarded, got, c.want)
		}
	}
}
