package safehttp

import (
	"errors"
	"slices"
	"strings"

	"golang.org/x/net/http/httpguts"
)

const maxHeaderName, maxHeaderValue = 256, 8 << 10

var (
	errHeaderName      = errors.New("a header name consists of 1 to 256 letters, digits and -_.!#$%&'*+^`|~ only")
	errHeaderForbidden = errors.New("this header belongs to the connection and cannot be set: choose another name")
	errHeaderValue     = errors.New("a header value must not be longer than 8 KiB or contain line breaks or other control characters")
)

// forbidden are the headers that say where a request goes, where it ends and what becomes of its connection.
var forbidden = []string{
	"connection", "content-encoding", "content-length", "expect", "host", "http2-settings", "keep-alive", "te", "trailer",
	"transfer-encoding", "upgrade",
}

// ForbiddenHeader reports whether a header is one that only the HTTP client itself may set, whatever its case.
func ForbiddenHeader(name string) bool {
	name = strings.ToLower(name)
	return slices.Contains(forbidden, name) || strings.HasPrefix(name, "proxy-")
}

// CheckHeader refuses a header that cannot be sent. The error is a sentence that may be shown to whoever chose the
// header; it repeats neither name nor value.
func CheckHeader(name, value string) error {
	switch {
	case len(name) > maxHeaderName || !httpguts.ValidHeaderFieldName(name):
		return errHeaderName
	case ForbiddenHeader(name):
		return errHeaderForbidden
	case len(value) > maxHeaderValue || !httpguts.ValidHeaderFieldValue(value):
		return errHeaderValue
	}
	return nil
}
