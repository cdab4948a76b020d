package consent

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
)

// Kind is the closed list of ways in which a request can fail. Each HTTP
// surface maps a Kind to a status in exactly one place.
type Kind int

// The kinds of failure, with the HTTP status they become.
const (
	Internal        Kind = iota // 500: a fault of ours; the message is never shown
	Malformed                   // 400: the request cannot be read
	Unauthenticated             // 401: no credential, or one that is not valid
	Forbidden                   // 403: the credential lacks the scope
	NotFound                    // 404: does not exist, or belongs to another application
	Conflict                    // 409: clashes with what is there
	Gone                        // 410: was there, and has expired
	TooLarge                    // 413: over a documented limit
	Invalid                     // 422: readable, but breaks a rule
	Throttled                   // 429: too many calls; see RetryAfter
	Unavailable                 // 503: the database is away; see RetryAfter
	Full                        // 507: the disk is full
)

// FieldError says what is wrong with one part of a request. Location is a path
// such as "changes[0].state"; Message never repeats the value that was sent,
// which may be personal data.
type FieldError struct {
	Location string
	Message  string
}

// Error is the one error type that crosses package borders with a meaning: a
// kind, a sentence that is safe to show to the caller, the fields at fault and
// the wrapped cause, which is only logged.
type Error struct {
	Kind       Kind
	Message    string
	Fields     []FieldError
	RetryAfter time.Duration // for Throttled and Unavailable; zero means unsaid
	Cause      error
}

// Error gives the sentence and, for logs, the cause.
func (e *Error) Error() string {
	if e.Cause != nil {
		return e.Message + ": " + e.Cause.Error()
	}
	return e.Message
}

// RetrySeconds is RetryAfter as a Retry-After header has it: whole seconds, one at least.
func (e *Error) RetrySeconds() int { return max(1, int(math.Ceil(e.RetryAfter.Seconds()))) }

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Cause }

// Errorf makes an Error of a kind with a sentence that is safe to show.
func Errorf(kind Kind, format string, args ...any) *Error {
	return &Error{Kind: kind, Message: fmt.Sprintf(format, args...)}
}

// KindOf gives the kind of the first Error in err's chain, and Internal when
// there is none.
func KindOf(err error) Kind {
	var e *Error
	if errors.As(err, &e) {
		return e.Kind
	}
	return Internal
}

// Faults gathers every field error of one request, so that a caller learns all
// of them at once.
type Faults []FieldError

// maxFaults is how many faults are gathered at most: more help nobody, and each
// one is looked for among all.
const maxFaults = 1000

// Add notes a fault at a location; the first one there is enough.
func (f *Faults) Add(location, format string, args ...any) {
	if len(*f) == maxFaults || f.At(location) {
		return
	}
	*f = append(*f, FieldError{Location: location, Message: fmt.Sprintf(format, args...)})
}

// At reports whether a fault was noted at a location.
func (f Faults) At(location string) bool {
	return slices.ContainsFunc(f, func(known FieldError) bool { return known.Location == location })
}

// Within reports whether a place of a request is another one or lies in it.
func Within(place, outer string) bool {
	rest, ok := strings.CutPrefix(place, outer)
	return ok && (rest == "" || rest[0] == '.' || rest[0] == '[')
}

// Err is nil when nothing was noted, and otherwise an Invalid error that carries
// all of it.
func (f Faults) Err() error {
	if len(f) == 0 {
		return nil
	}
	return &Error{Kind: Invalid, Message: "The request breaks a rule; nothing was changed.", Fields: f}
}
