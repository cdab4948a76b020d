package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/internal/core"
	"github.com/opencpm/opencpm/internal/observe"
)

// answerTo is what a caller sees of an operation that fails with err, and what is
// logged of it.
func answerTo(t *testing.T, ctx context.Context, err error) (answer *httptest.ResponseRecorder, p problem, logged string) {
	t.Helper()
	configureHuma()
	var log bytes.Buffer
	s := &server{Options: Options{Log: observe.NewLogger(&log, "json", slog.LevelDebug)}, mux: http.NewServeMux(), public: core.NewLimiter(publicRate, publicRate)}
	s.huma = humago.New(s.mux, s.config())
	route(s, "GET /fails", "fails", public, func(context.Context, core.Actor, *struct{}) (nothing, error) { return nothing{}, err })
	h := observe.Middleware(slog.New(slog.DiscardHandler), observe.NewMetrics("test"), Fail)(s.mux)
	r := httptest.NewRequest(http.MethodGet, "/fails", http.NoBody).WithContext(ctx)
	r.Header.Set("X-Request-Id", "request-1")
	recorder := httptest.NewRecorder()
	h.ServeHTTP(recorder, r)
	if err := json.Unmarshal(recorder.Body.Bytes(), &p); err != nil {
		t.Fatal(err)
	}
	return recorder, p, log.String()
}

func TestEveryKindOfErrorHasItsAnswer(t *testing.T) {
	t.Parallel()
	for kind, want := range map[consent.Kind]struct {
		status int
		name   string
	}{
		consent.Internal:        {500, "internal"},
		consent.Malformed:       {400, "malformed"},
		consent.Unauthenticated: {401, "unauthenticated"},
		consent.Forbidden:       {403, "forbidden"},
		consent.NotFound:        {404, "not-found"},
		consent.Conflict:        {409, "conflict"},
		consent.TooLarge:        {413, "too-large"},
		consent.Invalid:         {422, "invalid"},
		consent.Throttled:       {429, "throttled"},
		consent.Unavailable:     {503, "unavailable"},
		consent.Full:            {507, "storage-full"},
	} {
		t.Run(want.name, func(t *testing.T) {
			t.Parallel()
			err := fmt.Errorf("wrapped: %w", &consent.Error{
				Kind: kind, Message: "A sentence.", Fields: []consent.FieldError{{Location: "a[0].b", Message: "must be"}}, RetryAfter: 1500 * time.Millisecond, Cause: errors.New("the cause"),
			})
			answer, p, logged := answerTo(t, t.Context(), err)
			if answer.Code != want.status || p.Status != want.status || p.Type != "urn:opencpm:problem:"+want.name || p.Title == "" {
				t.Errorf("%d %+v", answer.Code, p)
			}
			if answer.Header().Get("Content-Type") != "application/problem+json" || p.Instance != "urn:opencpm:request:request-1" {
				t.Errorf("%s %s", answer.Header().Get("Content-Type"), p.Instance)
			}
			if kind == consent.Internal {
				if strings.Contains(p.Detail, "A sentence.") || p.Errors != nil {
					t.Errorf("an internal error shows %+v", p)
				}
			} else if p.Detail != "A sentence." || len(p.Errors) != 1 || p.Errors[0] != (fault{"query.a[0].b", "must be"}) {
				t.Errorf("%+v", p)
			}
			if after, wanted := answer.Header().Get("Retry-After"), kind == consent.Throttled || kind == consent.Unavailable; (after == "2") != wanted {
				t.Errorf("Retry-After is %q", after)
			}
			if has, wanted := strings.Contains(logged, "the cause") && strings.Contains(logged, `"request_id":"request-1"`), want.status >= 500; has != wanted {
				t.Errorf("logged %q", logged)
			}
		})
	}
}

func TestAnyOtherErrorIsInternal(t *testing.T) {
	t.Parallel()
	answer, p, logged := answerTo(t, t.Context(), fmt.Errorf("reading: %w", errors.New("disk on fire")))
	if answer.Code != http.StatusInternalServerError || strings.Contains(p.Detail, "fire") || !strings.Contains(logged, "reading: disk on fire") {
		t.Errorf("%d %+v %s", answer.Code, p, logged)
	}
	ended, end := context.WithCancel(t.Context())
	end()
	if _, _, logged := answerTo(t, ended, context.Canceled); logged != "" {
		t.Errorf("a caller that went away is logged: %s", logged)
	}
}

func TestPanicIsAProblem(t *testing.T) {
	t.Parallel()
	recorder := httptest.NewRecorder()
	Fail(recorder, httptest.NewRequest(http.MethodGet, "/", http.NoBody))
	if recorder.Code != http.StatusInternalServerError || !strings.Contains(recorder.Body.String(), "urn:opencpm:problem:internal") {
		t.Errorf("%d %s", recorder.Code, recorder.Body)
	}
}
