package safehttp

import (
	"bytes"
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"
	"time"
)

// Class is what kept a request from being answered.
type Class string

const (
	Blocked  Class = "blocked"  // refused by our own rules; nothing was sent
	DNS      Class = "dns"      // the host name did not resolve
	Connect  Class = "connect"  // no connection, or it broke before an answer came
	TLS      Class = "tls"      // the connection could not be secured
	Timeout  Class = "timeout"  // no answer in time
	Protocol Class = "protocol" // the answer was not HTTP, or too large to be one
)

// Error says why a request has no answer.
type Error struct {
	Class  Class
	Reason string // one line for the delivery log, free of anything the endpoint or a caller wrote
	Err    error  // the cause; it may quote the endpoint, so it is not for logs. Nil if our own rules refused the request.
}

// Error gives the class and the reason, not the cause.
func (e *Error) Error() string { return string(e.Class) + ": " + e.Reason }

func (e *Error) Unwrap() error { return e.Err }

// dialError explains why there is no connection. Of several addresses the first one's error counts.
func dialError(err error) error {
	if blocked, ok := errors.AsType[*Error](err); ok {
		return blocked
	}
	if lookup, ok := errors.AsType[*net.DNSError](err); ok {
		reason := "the name server failed"
		switch {
		case lookup.IsNotFound:
			reason = "the host name does not exist or has no address"
		case lookup.IsTimeout:
			reason = "the name server did not answer"
		}
		return &Error{DNS, reason, err}
	}
	return &Error{Connect, cmp.Or(connectReason(err), "could not connect"), err}
}

// handshakeError explains why a connection could not be secured.
func handshakeError(err error) error {
	reason := "the TLS handshake failed"
	if cert, ok := errors.AsType[x509.CertificateInvalidError](err); ok {
		reason = "TLS certificate is not valid for a server"
		if cert.Reason == x509.Expired {
			if now := time.Now(); now.Before(cert.Cert.NotBefore) {
				reason = "TLS certificate is not valid before " + cert.Cert.NotBefore.UTC().Format(time.DateOnly)
			} else {
				reason = "TLS certificate expired on " + cert.Cert.NotAfter.UTC().Format(time.DateOnly)
			}
		}
	} else if _, ok := errors.AsType[x509.HostnameError](err); ok {
		reason = "TLS certificate is for another host name"
	} else if unknown, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		reason = "TLS certificate is signed by an unknown authority, or an intermediate certificate is missing"
		if unknown.Cert != nil && bytes.Equal(unknown.Cert.RawIssuer, unknown.Cert.RawSubject) {
			reason = "TLS certificate is self-signed"
		}
	} else if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		reason = "the endpoint does not speak TLS on this port"
	} else if remote, ok := errors.AsType[*net.OpError](err); ok && remote.Op == "remote error" {
		reason = "the endpoint refused the TLS handshake: " + strings.TrimPrefix(remote.Err.Error(), "tls: ")
	} else if broken := connectReason(err); broken != "" {
		reason = broken + " during the TLS handshake"
	}
	return &Error{TLS, reason, err}
}

// exchangeError explains why an open connection brought no answer.
func exchangeError(err error) error {
	if known, ok := errors.AsType[*Error](err); ok {
		return known
	}
	if reason := connectReason(err); reason != "" {
		return &Error{Connect, reason + " before an answer came", err}
	}
	// net/http has no types for these.
	text := err.Error()
	for _, tooLarge := range []string{"headers exceeded", "header list"} {
		if strings.Contains(text, tooLarge) {
			return &Error{Protocol, fmt.Sprintf("the headers of the answer exceed %d KiB", maxHeaders>>10), err}
		}
	}
	for _, closed := range []string{"server closed idle connection", "client connection lost", "GOAWAY"} {
		if strings.Contains(text, closed) {
			return &Error{Connect, "connection closed before an answer came", err}
		}
	}
	return &Error{Protocol, "the answer is not valid HTTP", err}
}

// connectReason names the errors of sockets; for any other it returns "".
func connectReason(err error) string {
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return "connection refused"
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return "connection reset"
	case errors.Is(err, syscall.EHOSTUNREACH):
		return "no route to the host"
	case errors.Is(err, syscall.ENETUNREACH):
		return "the network is unreachable"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed):
		return "connection closed"
	}
	return ""
}
