package deliver

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/internal/safehttp"
	"github.com/opencpm/opencpm/internal/store"
)

// result is what came of one POST.
type result struct {
	reason     string // why it was not delivered, in one sentence; empty for a 2xx answer
	class      string // ok, status, token, erased, internal, or the class of a safehttp.Error
	status     int    // 0 without an answer
	retryAfter time.Duration
	took       time.Duration
	request    safehttp.Request
	answer     safehttp.Response
}

func (r result) delivered() bool { return r.reason == "" }

// timeout is how long one attempt may take.
func (e *Engine) timeout(sub store.Registered) time.Duration {
	if sub.TimeoutSeconds > 0 {
		return time.Duration(sub.TimeoutSeconds) * time.Second
	}
	return e.o.Timeout
}

// post sends a message once, with the token that the subscription has.
func (e *Engine) post(ctx context.Context, sub store.Registered, m message) result {
	body, contentType, err := m.envelope(sub.Format)
	if err != nil {
		return result{reason: "the message cannot be rendered", class: "internal"}
	}
	header := http.Header{}
	for name, value := range sub.Secrets.Headers {
		header.Set(name, value)
	}
	address, err := authenticate(sub, header)
	if err != nil {
		return result{reason: "the URL of the subscription cannot be read", class: "internal"}
	}
	header.Set("Content-Type", contentType)
	sign(header, sub.Secrets.SigningKeys(consent.At(time.Now())), m.EventID.String(), time.Now(), body)
	r := result{request: safehttp.Request{URL: address, Header: header, Body: body, Timeout: e.timeout(sub)}}
	began := time.Now()
	r.answer, err = e.o.Post(ctx, r.request)
	r.took, r.status = time.Since(began), r.answer.Status
	var failed *safehttp.Error
	switch {
	case errors.As(err, &failed):
		r.reason, r.class = failed.Reason, string(failed.Class)
	case err != nil:
		r.reason, r.class = "the message could not be sent", "internal"
	case r.status < 200 || r.status > 299:
		r.reason, r.class = fmt.Sprintf("the endpoint answered %d", r.status), "status"
		if r.status == http.StatusTooManyRequests || r.status == http.StatusServiceUnavailable {
			r.retryAfter = retryAfter(r.answer.Header.Get("Retry-After"), time.Now())
		}
	default:
		r.class = "ok"
	}
	return r
}

// retryAfter reads how long an endpoint asks not to be called: seconds, or a date. What
// is neither, or lies in the past, asks for nothing.
func retryAfter(text string, now time.Time) time.Duration {
	text = strings.TrimSpace(text)
	if seconds, err := strconv.ParseUint(text, 10, 64); err == nil {
		return time.Duration(min(seconds, uint64(longestWait/time.Second))) * time.Second
	}
	if at, err := http.ParseTime(text); err == nil {
		return max(0, at.Sub(now))
	}
	return 0
}

var hasScheme = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9!#$%&'*+.^_|~-]* +\S`)

// authenticate gives the URL with which a message goes to its endpoint, and adds the
// header: an API key in a header or in the query under its own name, or a bearer token.
func authenticate(sub store.Registered, header http.Header) (string, error) {
	value := sub.Secrets.Token
	switch {
	case sub.AuthType != consent.AuthToken:
	case sub.TokenLocation == consent.InQuery:
		u, err := url.Parse(sub.URL)
		if err != nil {
			return "", err
		}
		q := url.QueryEscape(sub.TokenName) + "=" + url.QueryEscape(value)
		if u.RawQuery != "" {
			q = u.RawQuery + "&" + q
		}
		u.RawQuery = q
		return u.String(), nil
	case sub.TokenName == "" || strings.EqualFold(sub.TokenName, "Authorization"):
		if !hasScheme.MatchString(value) {
			value = "Bearer " + value
		}
		header.Set("Authorization", value)
	default:
		header.Set(sub.TokenName, value)
	}
	return sub.URL, nil
}
