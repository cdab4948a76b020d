package client

import (
	"encoding/json"
	"fmt"
	"mime"
	"net/http"
	"strings"
	"time"
)

// Problem is a refusal by the server, as RFC 9457 describes it.
type Problem struct {
	Type     string       `json:"type,omitempty"`
	Title    string       `json:"title,omitempty"`
	Status   int          `json:"status,omitempty"` // the HTTP status of the answer
	Detail   string       `json:"detail,omitempty"`
	Instance string       `json:"instance,omitempty"`
	Errors   []FieldError `json:"errors,omitempty"` // all that is wrong with the request, at once

	// RequestID is the X-Request-Id of the answer: quote it when asking for help.
	RequestID string `json:"-"`
	// RetryAfter is how long the server asked to wait, zero where it did not say.
	RetryAfter time.Duration `json:"-"`
}

// FieldError says what is wrong with one part of a request.
type FieldError struct {
	Location string `json:"location"` // such as changes[0].state
	Message  string `json:"message"`
}

// Error gives status, title, detail and what is wrong with each field, in one
// line. None of them repeats a value that was sent.
func (p *Problem) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d %s", p.Status, p.Title)
	if p.Detail != "" {
		b.WriteString(": " + strings.TrimSuffix(p.Detail, "."))
	}
	for _, e := range p.Errors {
		b.WriteString("; " + e.Location + " " + e.Message)
	}
	return b.String()
}

// busy reports whether the server refused only for now.
func (p *Problem) busy() bool {
	return p.Status == http.StatusTooManyRequests || p.Status == http.StatusServiceUnavailable
}

// problemOf reads the answer to a refused call. Not every refusal comes from
// OpenCPM itself: what a proxy or the token endpoint (RFC 6749 §5.2) says is put
// in the same form.
func problemOf(res *http.Response, answer []byte) *Problem {
	p := &Problem{}
	switch mediaType, _, _ := mime.ParseMediaType(res.Header.Get("Content-Type")); mediaType {
	case "application/problem+json":
		if json.Unmarshal(answer, p) != nil {
			*p = Problem{}
		}
	case "application/json":
		var refusal struct {
			Error       string `json:"error"`
			Description string `json:"error_description"`
		}
		if json.Unmarshal(answer, &refusal) == nil {
			p.Title, p.Detail = refusal.Error, refusal.Description
		}
	}
	p.Status = res.StatusCode
	if p.Title == "" {
		p.Title = http.StatusText(res.StatusCode)
	}
	p.RequestID = res.Header.Get("X-Request-Id")
	p.RetryAfter = retryAfter(res.Header)
	return p
}
