package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/validation"

	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/internal/observe"
)

// problem is the answer to a call that failed, after RFC 9457.
type problem struct {
	Type     string  `json:"type" format:"uri" doc:"What kind of problem this is; a name that never changes."`
	Title    string  `json:"title" doc:"The kind of problem in words."`
	Status   int     `json:"status" doc:"The HTTP status."`
	Detail   string  `json:"detail" doc:"What was wrong with this request."`
	Instance string  `json:"instance,omitempty" format:"uri" doc:"This very occurrence; it ends with the X-Request-Id of the answer."`
	Errors   []fault `json:"errors,omitempty" doc:"Everything that was wrong with the fields of the request. The values that were sent are never repeated."`

	header http.Header
}

const problemType = "application/problem+json"

// fault is one thing that was wrong with a request.
type fault struct {
	Location string `json:"location" doc:"Where, for example body.changes[0].state, query.limit or path.citizenId."`
	Message  string `json:"message" doc:"What the field must be or do."`
}

var errNothingHere = consent.Errorf(consent.NotFound, "There is nothing at this path.")

// refusal is an error that only HTTP knows.
type refusal struct {
	status int
	detail string
}

func (r refusal) Error() string { return r.detail }

// statuses maps the kinds of failure to HTTP.
var statuses = map[consent.Kind]int{
	consent.Internal:        http.StatusInternalServerError,
	consent.Malformed:       http.StatusBadRequest,
	consent.Unauthenticated: http.StatusUnauthorized,
	consent.Forbidden:       http.StatusForbidden,
	consent.NotFound:        http.StatusNotFound,
	consent.Conflict:        http.StatusConflict,
	consent.Gone:            http.StatusGone,
	consent.TooLarge:        http.StatusRequestEntityTooLarge,
	consent.Invalid:         http.StatusUnprocessableEntity,
	consent.Throttled:       http.StatusTooManyRequests,
	consent.Unavailable:     http.StatusServiceUnavailable,
	consent.Full:            http.StatusInsufficientStorage,
}

// problemTypes are the kinds of problem by status. The names are part of the
// contract.
var problemTypes = map[int]struct{ name, title string }{
	http.StatusBadRequest:            {"malformed", "The request cannot be read"},
	http.StatusUnauthorized:          {"unauthenticated", "No valid credential"},
	http.StatusForbidden:             {"forbidden", "The credential does not allow this"},
	http.StatusNotFound:              {"not-found", "Not found"},
	http.StatusMethodNotAllowed:      {"method-not-allowed", "Method not allowed"},
	http.StatusRequestTimeout:        {"timeout", "The request took too long to arrive"},
	http.StatusConflict:              {"conflict", "Conflict with what is there"},
	http.StatusGone:                  {"gone", "Gone for good"},
	http.StatusRequestEntityTooLarge: {"too-large", "The request is too large"},
	http.StatusUnsupportedMediaType:  {"unsupported-media-type", "The media type is not supported"},
	http.StatusUnprocessableEntity:   {"invalid", "The request breaks a rule"},
	http.StatusTooManyRequests:       {"throttled", "Too many requests"},
	http.StatusInternalServerError:   {"internal", "Internal error"},
	http.StatusServiceUnavailable:    {"unavailable", "Not available at the moment"},
	http.StatusInsufficientStorage:   {"storage-full", "The storage is full"},
}

// problemOf is the one mapping from an error to what the caller sees of it. where
// is the part of the request that the locations of the error are in.
func problemOf(ctx context.Context, where string, err error) *problem {
	var e *consent.Error
	var r refusal
	switch {
	case errors.As(err, &e) && e.Kind != consent.Internal:
	case errors.As(err, &r):
		e = &consent.Error{Message: r.detail}
	default:
		e = &consent.Error{Message: "Internal error. The log of the server says more under the id of this request."}
	}
	p := &problem{Status: r.status, Detail: e.Message, header: http.Header{}}
	if p.Status == 0 {
		p.Status = statuses[e.Kind]
	}
	p.Type, p.Title = "urn:opencpm:problem:"+problemTypes[p.Status].name, problemTypes[p.Status].title
	if id := observe.RequestID(ctx); id != "" {
		p.Instance = "urn:opencpm:request:" + id
	}
	for _, f := range e.Fields {
		// What else is wrong at a place, or within it, follows from the first.
		at := locate(where, f.Location)
		if !slices.ContainsFunc(p.Errors, func(known fault) bool { return consent.Within(at, known.Location) }) {
			p.Errors = append(p.Errors, fault{at, f.Message})
		}
	}
	switch p.Status {
	case http.StatusUnauthorized:
		p.header.Set("WWW-Authenticate", `Bearer realm="OpenCPM"`)
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		p.header.Set("Retry-After", strconv.Itoa(e.RetrySeconds()))
	}
	return p
}

// locate gives the place within the request, for core knows fields alone.
func locate(where, field string) string {
	if part, _, _ := strings.Cut(field, "."); part == "body" || part == "query" || part == "path" || part == "header" {
		return field
	}
	return where + "." + field
}

// Error is what went wrong, in a sentence.
func (p *problem) Error() string { return p.Detail }

// GetStatus tells huma the status.
func (p *problem) GetStatus() int { return p.Status }

// ContentType tells huma the media type.
func (p *problem) ContentType(string) string { return problemType }

// note logs what is ours to mend. An error that is only there because the caller
// went away is not.
func (s *server) note(ctx context.Context, err error) {
	switch kind := consent.KindOf(err); {
	case ctx.Err() != nil:
	case kind == consent.Unavailable || kind == consent.Full:
		s.Log.WarnContext(ctx, "a request could not be served", "error", err)
	case kind == consent.Internal && !errors.As(err, new(refusal)):
		s.Log.ErrorContext(ctx, "a request failed", "error", err)
	}
}

// humaError makes the answer to a call that huma, an operation or what stands
// before it refused.
func humaError(hc huma.Context, _ int, _ string, errs ...error) huma.StatusError {
	var faults consent.Faults
	err := error(nil)
	for _, e := range errs {
		if detail, ok := e.(*huma.ErrorDetail); ok { //nolint:errorlint // huma gives them bare
			if strings.HasPrefix(detail.Location, "path.") {
				err = errNothingHere // what is no id names nothing
			}
			faults.Add(detail.Location, "%s", plain(detail.Message))
		} else if err == nil {
			err = e
		}
	}
	call := callOf(hc.Context())
	s := call.server
	if err == nil {
		for _, f := range *call.body {
			faults.Add(locate("body", f.Location), "%s", f.Message)
		}
		err = faults.Err()
	}
	s.note(hc.Context(), err)
	where := "query"
	if hc.Operation().RequestBody != nil || hc.Method() == http.MethodPost {
		where = "body"
	}
	p := problemOf(hc.Context(), where, err)
	if hc.Operation().Path == tokenPath {
		return grantError(hc, p, err)
	}
	for name, values := range p.header {
		hc.SetHeader(name, values[0])
	}
	return p
}

// plain gives huma's few fixed messages our wording.
func plain(message string) string {
	switch message {
	case "invalid integer":
		return "must be a whole number"
	case "invalid boolean":
		return "must be true or false"
	case "required query parameter is missing":
		return "must be given"
	}
	return strings.TrimPrefix(message, "invalid value: ")
}

// configureHuma sets what huma keeps in variables: our errors, and our wording for
// parameters.
var configureHuma = sync.OnceFunc(func() {
	huma.NewError = func(int, string, ...error) huma.StatusError { return &problem{} }
	huma.NewErrorWithContext = humaError
	huma.DefaultArrayNullable = false
	validation.MsgExpectedMinimumNumber = "must be at least %v"
	validation.MsgExpectedMaximumNumber = "must be at most %v"
	validation.MsgExpectedMaxLength = "must have at most %d characters"
	validation.MsgExpectedOneOf = "must be one of %s"
})

// write answers a request outside of huma with a problem.
func write(w http.ResponseWriter, r *http.Request, err error) {
	p := problemOf(r.Context(), "query", err)
	for name, values := range p.header {
		w.Header()[name] = values
	}
	w.Header().Set("Content-Type", problemType)
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(p.Status)
	_ = json.NewEncoder(w).Encode(p) // a client that went away is no one's concern
}

// Fail answers a request whose handler panicked.
func Fail(w http.ResponseWriter, r *http.Request) { write(w, r, fmt.Errorf("panic")) }
