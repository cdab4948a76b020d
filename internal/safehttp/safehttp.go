// Package safehttp is the only way the program makes HTTP requests of its own: webhooks, and later the calls for their
// tokens. Where they go is written by clients, so nothing about the other end is trusted. A Policy says which addresses
// may be reached and is enforced on the socket; a Client bounds what an endpoint can cost in time, memory and
// connections, follows no redirect and asks no proxy.
package safehttp

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"time"
)

const (
	// DefaultTimeout is how long a call may take where the request does not say.
	DefaultTimeout = 15 * time.Second

	maxHeaders = 64 << 10 // bytes of headers, those of 1xx answers included
	maxBody    = 64 << 10 // bytes of a body that are read at most
	keptBody   = 4 << 10  // bytes of a body that are kept

	// An idle connection is given up before the endpoint does, commonly after 5 s: a request that crosses its closing
	// would fail.
	idleTimeout = 4 * time.Second
)

// Options are what else a Client can be told. The zero value is ready to use.
type Options struct {
	UserAgent       string         // sent where a request sets none; empty means "OpenCPM/<version> (+webhooks)"
	MaxConnsPerHost int            // connections to one host and port at a time, 0 means 64; a call waits for one within its timeout
	MaxIdlePerHost  int            // connections to one host and port that are kept between calls, 0 means 16
	RootCAs         *x509.CertPool // authorities that https certificates are checked against, nil means the machine's
	Resolver        *net.Resolver  // nil means the machine's
}

// Client makes requests within a Policy. It is safe for use by many goroutines.
type Client struct {
	policy    Policy
	userAgent string
	transport *http.Transport
}

// NewClient returns a Client with a pool of connections of its own; Close releases them.
func NewClient(p Policy, o Options) *Client {
	d := &dialler{
		policy:   p,
		resolver: o.Resolver,
		own:      isOwn,
		tls: &tls.Config{
			MinVersion:         tls.VersionTLS12,
			RootCAs:            o.RootCAs,
			NextProtos:         []string{"h2", "http/1.1"},
			ClientSessionCache: tls.NewLRUClientSessionCache(256),
		},
	}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	return &Client{
		policy:    p,
		userAgent: cmp.Or(o.UserAgent, defaultUserAgent()),
		transport: &http.Transport{
			DialContext:            d.plain,
			DialTLSContext:         d.secure,
			Protocols:              protocols,
			DisableCompression:     true, // a few kilobytes could unfold to gigabytes
			MaxConnsPerHost:        cmp.Or(o.MaxConnsPerHost, 64),
			MaxIdleConnsPerHost:    cmp.Or(o.MaxIdlePerHost, 16),
			MaxIdleConns:           512,
			IdleConnTimeout:        idleTimeout,
			MaxResponseHeaderBytes: maxHeaders,
			HTTP2: &http.HTTP2Config{
				MaxReceiveBufferPerStream:     maxBody,
				MaxReceiveBufferPerConnection: 1 << 20,
				// A connection that died silently would fail every call that shares it.
				SendPingTimeout: 5 * time.Second,
				PingTimeout:     5 * time.Second,
			},
		},
	}
}

func defaultUserAgent() string {
	version := "devel"
	if info, ok := debug.ReadBuildInfo(); ok {
		if v, ok := strings.CutPrefix(info.Main.Version, "v"); ok {
			version = v
		}
	}
	return "OpenCPM/" + version + " (+webhooks)"
}

// Close closes the idle connections; one that is in use closes after its call.
func (c *Client) Close() { c.transport.CloseIdleConnections() }

// Request is what Post sends.
type Request struct {
	URL     string
	Header  http.Header // each of them as CheckHeader allows
	Body    []byte
	Timeout time.Duration // of the whole call, from the host name to the end of the answer; 0 means DefaultTimeout
	Whole   bool          // keep as much of the answer as is read, 64 KiB, instead of 4 KiB: somebody reads it
}

// Response is an answer, whatever its status: a redirect is one, too.
type Response struct {
	Status    int
	Header    http.Header
	Body      []byte        // as received, up to what the request keeps; it is never decompressed
	Truncated bool          // Body is not the whole: it was longer, broke off or came too slowly
	Duration  time.Duration // of the whole call, on an error as well
}

// Post sends a request once and waits for the answer. An endpoint has answered when the headers have arrived: a body
// that then breaks off, or is still coming when the time is up, changes nothing about the status. Without an answer the
// error is an *Error, or the cause of ctx's end if that came first.
func (c *Client) Post(ctx context.Context, r Request) (Response, error) {
	start := time.Now()
	answer, err := c.post(ctx, r)
	answer.Duration = time.Since(start)
	return answer, err
}

func (c *Client) post(ctx context.Context, r Request) (Response, error) {
	u, err := c.policy.parse(r.URL)
	if err != nil {
		return Response{}, &Error{Class: Blocked, Reason: err.Error()}
	}
	for name, values := range r.Header {
		for _, value := range values {
			if err := CheckHeader(name, value); err != nil {
				return Response{}, &Error{Class: Blocked, Reason: err.Error()}
			}
		}
	}

	timeout := cmp.Or(r.Timeout, DefaultTimeout)
	deadline := time.Now().Add(timeout)
	during, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	current := &call{ctx: during}
	request, err := http.NewRequestWithContext(current.traced(), http.MethodPost, u.String(), bytes.NewReader(r.Body))
	if err != nil {
		return Response{}, &Error{Blocked, errURLSyntax.Error(), err}
	}
	for name, values := range r.Header {
		request.Header[http.CanonicalHeaderKey(name)] = values
	}
	if request.Header.Get("User-Agent") == "" {
		request.Header.Set("User-Agent", c.userAgent)
	}

	// An http.Client would follow redirects, and quote the URL in its errors.
	response, err := c.transport.RoundTrip(request)
	switch {
	case err == nil:
		return read(response, r.Whole), nil
	case ctx.Err() != nil:
		return Response{}, context.Cause(ctx)
	case !time.Now().Before(deadline): // the timer of during may be late
		return Response{}, &Error{Timeout, fmt.Sprintf("timed out after %v while %s", timeout, current.stage()), err}
	}
	return Response{}, exchangeError(err)
}

// read takes from an answer what is kept of it. A body read to its end frees the connection for the next call; any
// other costs the connection.
func read(r *http.Response, whole bool) Response {
	defer r.Body.Close()
	answer := Response{Status: r.StatusCode, Header: r.Header}
	if r.StatusCode == http.StatusSwitchingProtocols {
		answer.Truncated = true // what follows is no body, and no deadline would end it
		return answer
	}
	kept := int64(keptBody)
	if whole {
		kept = maxBody
	}
	var err error
	answer.Body, err = io.ReadAll(io.LimitReader(r.Body, kept))
	if err == nil {
		var more int64
		more, err = io.Copy(io.Discard, io.LimitReader(r.Body, maxBody-kept+1))
		answer.Truncated = more > 0
	}
	answer.Truncated = answer.Truncated || err != nil
	return answer
}

// A call is one Post on its way. What dials for it finds it in the context.
type call struct {
	ctx     context.Context // ends with the call
	reached atomic.Int32    // the stage it is at
}

type callKey struct{}

// The stages of a call, in order.
const (
	waiting int32 = iota
	lookingUp
	connecting
	handshaking
	sending
	sent
)

func (c *call) stage() string {
	return [...]string{
		waiting:     "waiting for a free connection to the host",
		lookingUp:   "looking up the host name",
		connecting:  "connecting",
		handshaking: "securing the connection (TLS)",
		sending:     "sending the request",
		sent:        "waiting for the answer",
	}[c.reached.Load()]
}

// traced is the call's context for net/http.
func (c *call) traced() context.Context {
	ctx := context.WithValue(c.ctx, callKey{}, c)
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn: func(httptrace.GotConnInfo) { reach(ctx, sending) },
		WroteRequest: func(wrote httptrace.WroteRequestInfo) {
			if wrote.Err == nil {
				reach(ctx, sent)
			}
		},
	})
}

// reach notes the stage that the call in ctx is at. A late dial, for a call that has found another connection, does not
// set it back.
func reach(ctx context.Context, stage int32) {
	c := ctx.Value(callKey{}).(*call)
	for {
		old := c.reached.Load()
		if old >= stage || c.reached.CompareAndSwap(old, stage) {
			return
		}
	}
}

// duringCall ends a dial with the call that asked for it: net/http would let it go on without a deadline, for the sake
// of calls to come, and an endpoint that never finishes a handshake would collect connections.
func duringCall(ctx context.Context) (context.Context, context.CancelFunc) {
	c := ctx.Value(callKey{}).(*call)
	deadline, _ := c.ctx.Deadline()
	ctx, cancel := context.WithDeadline(ctx, deadline)
	stop := context.AfterFunc(c.ctx, cancel)
	return ctx, func() { stop(); cancel() }
}
