package observe

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"runtime"
	"runtime/debug"
	"strings"
	"time"

	"github.com/google/uuid"
)

const requestIDHeader = "X-Request-Id"

type requestIDKey struct{}

// RequestID returns the id of the request whose context this is, "" outside of one. It has at most 64 characters, all of
// them of A–Z a–z 0–9 . _ -.
func RequestID(ctx context.Context) string {
	id, _ := ctx.Value(requestIDKey{}).(string)
	return id
}

// Middleware returns what stands around every handler of the server. It
//
//   - gives each request an id, the caller's X-Request-Id where that is a sane one, which is in the context, in the
//     answer and in the log;
//   - sends X-Content-Type-Options: nosniff;
//   - logs and measures each request under the pattern that its mux found, never under its path;
//   - logs the stack of a handler that panics and lets fail write the answer in its place, a 500; where the answer had
//     begun it cuts the connection, so that the client cannot take it for whole.
//
// The pattern is read from the request that Middleware passes on, so a handler that copies the request before it is
// routed, such as http.MaxBytesHandler or http.StripPrefix, belongs outside of Middleware.
func Middleware(log *slog.Logger, metrics *Metrics, fail http.HandlerFunc) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			start := time.Now()
			id := r.Header.Get(requestIDHeader)
			if !saneRequestID(id) {
				id = uuid.Must(uuid.NewV7()).String()
			}
			r = r.WithContext(context.WithValue(r.Context(), requestIDKey{}, id))
			answer := &recorder{ResponseWriter: w}
			setOwnHeaders := func() {
				w.Header().Set(requestIDHeader, id)
				w.Header().Set("X-Content-Type-Options", "nosniff")
			}
			setOwnHeaders()

			defer func() {
				cause := recover()
				begun := answer.status != 0
				if cause != nil && cause != any(http.ErrAbortHandler) {
					log.ErrorContext(r.Context(), "handler panicked", "route", routeOf(r), "panic", describePanic(cause), "stack", string(debug.Stack()))
					if !begun {
						clear(w.Header()) // what the handler meant to say about its own answer
						setOwnHeaders()
						fail(answer, r)
						if answer.status == 0 {
							answer.WriteHeader(http.StatusInternalServerError)
						}
					}
				}
				aborted := cause == any(http.ErrAbortHandler) || cause != nil && begun
				finish(log, metrics, r, answer, time.Since(start), aborted)
				if aborted {
					panic(http.ErrAbortHandler)
				}
			}()
			next.ServeHTTP(answer, r)
		})
	}
}

// finish writes the line of the access log and counts the request.
func finish(log *slog.Logger, metrics *Metrics, r *http.Request, answer *recorder, took time.Duration, aborted bool) {
	status := answer.status
	if status == 0 {
		status = http.StatusOK // what net/http sends for a handler that wrote nothing
	}
	method, pattern := methodOf(r), routeOf(r)
	metrics.request(pattern, method, status, took)

	level := slog.LevelInfo
	switch pattern {
	case "/healthz", "/readyz", "/metrics":
		level = slog.LevelDebug // asked every few seconds by machines
	}
	attrs := []slog.Attr{
		slog.String("method", method),
		slog.String("route", pattern),
		slog.Int("status", status),
		slog.Int64("bytes", answer.bytes),
		slog.Float64("ms", float64(took.Microseconds())/1000),
	}
	if aborted {
		attrs = append(attrs, slog.Bool("aborted", true))
	}
	log.LogAttrs(r.Context(), level, "request", attrs...)
}

// routeOf is the pattern that the mux found for the request, without its method.
func routeOf(r *http.Request) string {
	pattern := r.Pattern
	if _, rest, ok := strings.Cut(pattern, " "); ok {
		pattern = strings.TrimLeft(rest, " \t")
	}
	if pattern == "" {
		return "unmatched"
	}
	return pattern
}

// methodOf is the method of the request, "other" for one that HTTP does not define: a caller must not be able to make up
// new series, nor lines of the log.
func methodOf(r *http.Request) string {
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete,
		http.MethodOptions, http.MethodConnect, http.MethodTrace:
		return r.Method
	}
	return "other"
}

// describePanic returns the text of a runtime error and otherwise only the type, since any other value may hold what must
// not be logged; the stack leads to the line.
func describePanic(cause any) string {
	if err, ok := cause.(runtime.Error); ok {
		return err.Error()
	}
	return fmt.Sprintf("%T", cause)
}

func saneRequestID(id string) bool {
	return id != "" && len(id) <= 64 && !strings.ContainsFunc(id, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '.' && r != '_' && r != '-'
	})
}

// recorder notes the status and the size of an answer.
type recorder struct {
	http.ResponseWriter
	status int // 0 until the answer has begun
	bytes  int64
}

func (r *recorder) WriteHeader(status int) {
	// A 1xx other than 101 announces an answer and is none.
	if r.status == 0 && (status >= 200 || status == http.StatusSwitchingProtocols) {
		r.status = status
	}
	r.ResponseWriter.WriteHeader(status)
}

func (r *recorder) Write(p []byte) (int, error) {
	if r.status == 0 {
		r.status = http.StatusOK
	}
	n, err := r.ResponseWriter.Write(p)
	r.bytes += int64(n)
	return n, err
}

// Flush sends what is written so far; a handler of an event stream asks for it.
func (r *recorder) Flush() { _ = r.FlushError() }

// FlushError is Flush for http.ResponseController.
func (r *recorder) FlushError() error {
	if r.status == 0 {
		r.status = http.StatusOK
	}
	return http.NewResponseController(r.ResponseWriter).Flush()
}

// Unwrap lets http.ResponseController reach what the server's own writer can do.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }
