package safehttp

import (
	"strings"
	"testing"
)

func TestCheckHeader(t *testing.T) {
	const key = "k-0123456789"
	tests := []struct{ name, value, want string }{
		{"X-API-Key", key, ""},
		{"authorization", "Bearer " + key, ""},
		{"webhook-id", key, ""},
		{"X-Tab", "a\tb", ""},
		{"X-Empty", "", ""},
		{"Content-Type", "application/json", ""},
		{"Hostname", key, ""},
		{"X-Proxy-Authorization", key, ""},
		{strings.Repeat("n", 256), key, ""},
		{"X-Long", strings.Repeat("v", 8<<10), ""},

		{"Host", key, "cannot be set"},
		{"hOST", key, "cannot be set"},
		{"Content-Length", "0", "cannot be set"},
		{"Content-Encoding", "gzip", "cannot be set"},
		{"Connection", "close", "cannot be set"},
		{"Transfer-Encoding", "chunked", "cannot be set"},
		{"TE", "trailers", "cannot be set"},
		{"Trailer", "X-A", "cannot be set"},
		{"Upgrade", "h2c", "cannot be set"},
		{"HTTP2-Settings", "AAMAAABkAARAAAAAAAIAAAAA", "cannot be set"},
		{"Keep-Alive", "timeout=5", "cannot be set"},
		{"Expect", "100-continue", "cannot be set"},
		{"Proxy-Authorization", key, "cannot be set"},
		{"proxy-connection", key, "cannot be set"},

		{"", key, "header name"},
		{"X Key", key, "header name"},
		{"X-Key:", key, "header name"},
		{" Host", key, "header name"},
		{"Host\t", key, "header name"},
		{"X-Key\r\nHost", key, "header name"},
		{":authority", key, "header name"},
		{"Schlüssel", key, "header name"},
		{strings.Repeat("n", 257), key, "header name"},

		{"X-Key", key + "\r\nHost: evil.example", "header value"},
		{"X-Key", key + "\n", "header value"},
		{"X-Key", key + "\r", "header value"},
		{"X-Key", key + "\x00", "header value"},
		{"X-Key", key + "\x7f", "header value"},
		{"X-Key", strings.Repeat("v", 8<<10+1), "header value"},
	}
	for _, test := range tests {
		err := CheckHeader(test.name, test.value)
		switch {
		case test.want == "" && err != nil:
			t.Errorf("%q is refused: %v", test.name, err)
		case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
			t.Errorf("%q: error %v, want %q", test.name, err, test.want)
		case err != nil && strings.Contains(err.Error(), key):
			t.Errorf("%q: the error repeats the value: %v", test.name, err)
		}
	}
}
