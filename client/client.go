// Package client calls the HTTP API of OpenCPM.
//
// A Client fetches its access token by itself and renews it before it expires,
// repeats calls that are safe to repeat when the server is busy or out of reach,
// and gives every refusal as a *Problem. It needs nothing but the standard
// library and is safe for use by many goroutines at once.
//
//	c, err := client.New("https://consent.example.com", client.APIKey(key))
//	if err != nil {
//		return err
//	}
//	receipt, err := c.RecordTransaction(ctx, client.Transaction{
//		ApplicationID: "northwind",
//		ExternalRef:   "CUST-1",
//		Changes: []client.Change{{
//			OptionType: client.Option, OptionID: "newsletter-email",
//			Justification: "consent", State: "GRANTED",
//		}},
//		Origin: client.Origin{Channel: "checkout"},
//	})
package client

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Bounds on what a call may take.
const (
	callTimeout  = 30 * time.Second // one try, from dialling to the last byte
	maxAnswer    = 16 << 20         // bytes of one answer
	maxTries     = 5                // of one call, the first included
	firstBackoff = 200 * time.Millisecond
	maxBackoff   = 10 * time.Second
	// maxRetryAfter is the longest wait a server can impose on a call. A longer
	// Retry-After is not slept through: the caller gets the Problem, which says it.
	maxRetryAfter = time.Minute
)

// Client calls one OpenCPM server with one credential. Make it with New.
type Client struct {
	base *url.URL
	http *http.Client
	auth authenticator
}

// Auth is how a Client proves who it is: Credentials or an APIKey.
type Auth interface {
	authenticator(*Client) authenticator
}

// authenticator puts the proof on a request. It names the proof where there may be
// a better one: refused is told the one that the server answered with 401.
type authenticator interface {
	authorise(ctx context.Context, header http.Header) (proof string, err error)
	refused(proof string)
}

// APIKey authenticates by the header X-API-Key.
type APIKey string

func (k APIKey) authenticator(*Client) authenticator { return k }

func (k APIKey) authorise(_ context.Context, header http.Header) (string, error) {
	header.Set("X-API-Key", string(k))
	return "", nil
}

func (k APIKey) refused(string) {}

// String keeps the key out of logs.
func (k APIKey) String() string { return "[API key]" }

// GoString keeps the key out of logs.
func (k APIKey) GoString() string { return k.String() }

// Setting changes how a Client works.
type Setting func(*Client)

// WithHTTPClient makes the calls go through h: its transport, proxy and time-outs
// hold. The default follows the environment's proxy settings, follows no
// redirects, and gives one try 30 seconds.
func WithHTTPClient(h *http.Client) Setting {
	return func(c *Client) { c.http = h }
}

// New gives a client of the server at baseURL, such as https://consent.example.com.
// It makes no call yet.
func New(baseURL string, auth Auth, settings ...Setting) (*Client, error) {
	base, err := url.Parse(baseURL)
	switch {
	case err != nil:
		return nil, fmt.Errorf("base URL: %w", err)
	case base.Scheme != "http" && base.Scheme != "https" || base.Host == "":
		return nil, fmt.Errorf("base URL: must be an absolute http or https URL")
	case base.User != nil || base.RawQuery != "" || base.Fragment != "":
		return nil, fmt.Errorf("base URL: must hold neither user, query nor fragment")
	case auth == nil:
		return nil, fmt.Errorf("no credential given")
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = 64 // the calls of one client go to one host
	c := &Client{
		base: base,
		http: &http.Client{
			Transport:     transport,
			Timeout:       callTimeout,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
	for _, set := range settings {
		set(c)
	}
	c.auth = auth.authenticator(c)
	return c, nil
}

// CloseIdleConnections closes the connections that no call uses.
func (c *Client) CloseIdleConnections() { c.http.CloseIdleConnections() }

// call is one call of the API. in, where set, is sent as JSON; out, where set,
// takes the answer.
type call struct {
	method, path string
	query        url.Values
	in, out      any
	// key is the Idempotency-Key; with it a POST may be repeated.
	key string
}

// repeatable reports whether sending the call twice does what sending it once
// does. PATCH counts: the fields it names are set to the values it gives.
func (k *call) repeatable() bool { return k.method != http.MethodPost || k.key != "" }

func (c *Client) do(ctx context.Context, k call) error {
	var body []byte
	if k.in != nil {
		var err error
		if body, err = json.Marshal(k.in); err != nil {
			return fmt.Errorf("%s %s: %w", k.method, k.path, err)
		}
	}
	answer, err := c.insist(ctx, &k, body)
	if err != nil {
		return err
	}
	if k.out != nil {
		if err := json.Unmarshal(answer, k.out); err != nil {
			return fmt.Errorf("%s %s: reading the answer: %w", k.method, k.path, err)
		}
	}
	return nil
}

// insist makes the call, and makes it again while that is safe and may help.
func (c *Client) insist(ctx context.Context, k *call, body []byte) ([]byte, error) {
	renewed := false
	for try := 1; ; try++ {
		answer, proof, err := c.try(ctx, k, body)
		if err == nil {
			return answer, nil
		}
		var problem *Problem
		answered := errors.As(err, &problem)
		if answered && problem.Status == http.StatusUnauthorized && proof != "" && !renewed {
			c.auth.refused(proof) // revoked before its time: once more with a new one
			renewed = true
			continue
		}
		wait, again := backoff(try), k.repeatable() && try < maxTries && ctx.Err() == nil
		if answered {
			again = again && problem.busy() && problem.RetryAfter <= maxRetryAfter
			wait = max(wait, problem.RetryAfter)
		}
		if !again || sleep(ctx, wait) != nil {
			if answered {
				return nil, problem
			}
			return nil, fmt.Errorf("%s %s: %w", k.method, k.path, err)
		}
	}
}

// try makes the call once. The error is a *Problem exactly where the server
// answered.
func (c *Client) try(ctx context.Context, k *call, body []byte) (answer []byte, proof string, err error) {
	target := c.base.JoinPath(k.path)
	target.RawQuery = k.query.Encode()
	req, err := http.NewRequestWithContext(ctx, k.method, target.String(), bytes.NewReader(body))
	if err != nil {
		return nil, "", err
	}
	req.Header.Set("Accept", "application/json, application/problem+json")
	if k.in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if k.key != "" {
		req.Header.Set("Idempotency-Key", k.key)
	}
	if proof, err = c.auth.authorise(ctx, req.Header); err != nil {
		return nil, "", err
	}
	answer, err = c.send(req)
	return answer, proof, err
}

// send makes one exchange.
func (c *Client) send(req *http.Request) ([]byte, error) {
	res, err := c.http.Do(req)
	if err != nil {
		// A url.Error repeats the URL, whose query may name a person.
		var u *url.Error
		if errors.As(err, &u) {
			err = u.Err
		}
		return nil, err
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("reading the answer: %w", err)
	case len(answer) > maxAnswer:
		return nil, fmt.Errorf("the answer is longer than %d bytes", maxAnswer)
	case res.StatusCode < 200 || res.StatusCode > 299:
		return nil, problemOf(res, answer)
	}
	return answer, nil
}

// backoff gives the wait after a failed try: doubling, and between half and all
// of it at random, so that many clients do not come back together.
func backoff(try int) time.Duration {
	d := min(firstBackoff<<(try-1), maxBackoff)
	return d/2 + mathrand.N(d/2)
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// retryAfter reads the header of that name: seconds, or a date.
func retryAfter(h http.Header) time.Duration {
	v := h.Get("Retry-After")
	if s, err := strconv.Atoi(strings.TrimSpace(v)); err == nil && s >= 0 {
		return time.Duration(min(s, 1<<30)) * time.Second
	}
	if t, err := http.ParseTime(v); err == nil {
		return max(0, time.Until(t))
	}
	return 0
}

// idempotencyKey gives the caller's key, or a new one, so that a call that records
// can always be repeated by the client itself.
func idempotencyKey(given string) string {
	if given != "" {
		return given
	}
	return rand.Text()
}

// values builds a query out of pairs of name and value, leaving out what is empty.
func values(pairs ...string) url.Values {
	q := url.Values{}
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			q.Set(pairs[i], pairs[i+1])
		}
	}
	return q
}

func instant(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339Nano)
}

func number(n int) string {
	if n == 0 {
		return ""
	}
	return strconv.Itoa(n)
}
