package observe_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/opencpm/opencpm/internal/observe"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// entries parses a log of JSON lines.
func entries(t *testing.T, log *bytes.Buffer) []map[string]any {
	t.Helper()
	var all []map[string]any
	for line := range strings.Lines(log.String()) {
		var entry map[string]any
		if err := json.Unmarshal([]byte(line), &entry); err != nil {
			t.Fatalf("log line %q: %v", line, err)
		}
		all = append(all, entry)
	}
	return all
}

// scrape returns the metrics as Prometheus reads them.
func scrape(t *testing.T, m *observe.Metrics) string {
	t.Helper()
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if w.Code != http.StatusOK {
		t.Fatalf("/metrics answers %d", w.Code)
	}
	return w.Body.String()
}

// site is a server in small behind the middleware.
type site struct {
	http.Handler
	log     bytes.Buffer
	metrics *observe.Metrics
}

func newSite(level slog.Level) *site {
	s := &site{metrics: observe.NewMetrics("1.2.3")}
	log := observe.NewLogger(&s.log, "json", level)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/citizens/{id}", func(w http.ResponseWriter, r *http.Request) {
		log.With("part", "handler").InfoContext(r.Context(), "inside")
		w.Header().Set("Link", observe.RequestID(r.Context()))
		fmt.Fprint(w, "hello")
	})
	mux.HandleFunc("/teapot", func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusEarlyHints)
		w.WriteHeader(http.StatusTeapot)
	})
	mux.HandleFunc("/silent", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("/healthz", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("/stream", func(w http.ResponseWriter, _ *http.Request) {
		w.(http.Flusher).Flush()
		fmt.Fprint(w, "event")
		if err := http.NewResponseController(w).Flush(); err != nil {
			panic(err)
		}
	})
	mux.HandleFunc("/panic/value", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Set-Cookie", "a=b")
		panic("a payload of a person")
	})
	mux.HandleFunc("/panic/runtime", func(_ http.ResponseWriter, r *http.Request) {
		_ = []int{}[len(r.URL.Query())]
	})
	mux.HandleFunc("/panic/late", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, "half an ans")
		panic("late")
	})
	mux.HandleFunc("/panic/abort", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	s.Handler = observe.Middleware(log, s.metrics, func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusInternalServerError)
		fmt.Fprint(w, "internal error, request ", observe.RequestID(r.Context()))
	})(mux)
	return s
}

func TestAccessLogAndMetrics(t *testing.T) {
	for name, test := range map[string]struct {
		method, target string
		want           map[string]any // of the last entry, without what differs from run to run
		series         string
	}{
		"pattern instead of the path": {
			"GET", "/v1/citizens/secret-person?token=secret-token",
			map[string]any{"level": "INFO", "msg": "request", "method": "GET", "route": "/v1/citizens/{id}", "status": 200.0, "bytes": 5.0},
			`opencpm_http_requests_total{method="GET",route="/v1/citizens/{id}",status="2xx"} 1`,
		},
		"status of the handler, not the early hint": {
			"POST", "/teapot",
			map[string]any{"level": "INFO", "msg": "request", "method": "POST", "route": "/teapot", "status": 418.0, "bytes": 0.0},
			`opencpm_http_request_duration_seconds_count{method="POST",route="/teapot",status="4xx"} 1`,
		},
		"handler that writes nothing": {
			"GET", "/silent",
			map[string]any{"level": "INFO", "msg": "request", "method": "GET", "route": "/silent", "status": 200.0, "bytes": 0.0},
			`opencpm_http_requests_total{method="GET",route="/silent",status="2xx"} 1`,
		},
		"no route": {
			"GET", "/secret-path",
			map[string]any{"level": "INFO", "msg": "request", "method": "GET", "route": "unmatched", "status": 404.0, "bytes": 19.0},
			`opencpm_http_requests_total{method="GET",route="unmatched",status="4xx"} 1`,
		},
		"made-up method": {
			"SECRET", "/silent",
			map[string]any{"level": "INFO", "msg": "request", "method": "other", "route": "/silent", "status": 200.0, "bytes": 0.0},
			`opencpm_http_requests_total{method="other",route="/silent",status="2xx"} 1`,
		},
		"probes are logged for debugging only": {
			"GET", "/healthz",
			map[string]any{"level": "DEBUG", "msg": "request", "method": "GET", "route": "/healthz", "status": 200.0, "bytes": 0.0},
			`opencpm_http_requests_total{method="GET",route="/healthz",status="2xx"} 1`,
		},
		"stream": {
			"GET", "/stream",
			map[string]any{"level": "INFO", "msg": "request", "method": "GET", "route": "/stream", "status": 200.0, "bytes": 5.0},
			`opencpm_http_requests_total{method="GET",route="/stream",status="2xx"} 1`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(slog.LevelDebug)
			w := httptest.NewRecorder()
			s.ServeHTTP(w, httptest.NewRequest(test.method, test.target, nil))
			all := entries(t, &s.log)
			last := all[len(all)-1]
			if took, ok := last["ms"].(float64); !ok || took < 0 {
				t.Errorf("ms = %v", last["ms"])
			}
			for _, entry := range all {
				if entry["request_id"] != w.Header().Get("X-Request-Id") {
					t.Errorf("entry %v lacks the request id %s", entry, w.Header().Get("X-Request-Id"))
				}
			}
			delete(last, "ms")
			delete(last, "time")
			delete(last, "request_id")
			if diff := cmp.Diff(test.want, last); diff != "" {
				t.Errorf("access log (-want +got):\n%s", diff)
			}
			metrics := scrape(t, s.metrics)
			if !strings.Contains(metrics, test.series+"\n") {
				t.Errorf("metrics lack %s", test.series)
			}
			if strings.Contains(strings.ToLower(s.log.String()+metrics), "secret") {
				t.Errorf("log or metrics show what the caller sent:\n%s", s.log.String())
			}
			if got := w.Header().Get("X-Content-Type-Options"); got != "nosniff" {
				t.Errorf("X-Content-Type-Options = %q", got)
			}
		})
	}
}

func TestRequestID(t *testing.T) {
	long := strings.Repeat("x", 64)
	for name, test := range map[string]struct {
		sent string
		kept bool
	}{
		"none":           {sent: ""},
		"sane":           {sent: "trace-1.A_b", kept: true},
		"64 characters":  {sent: long, kept: true},
		"65 characters":  {sent: long + "x"},
		"space":          {sent: "a b"},
		"line end":       {sent: "a\nlevel=ERROR"},
		"not ASCII":      {sent: "é"},
		"quotation mark": {sent: `a"b`},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(slog.LevelInfo)
			r := httptest.NewRequest(http.MethodGet, "/v1/citizens/1", nil)
			if test.sent != "" {
				r.Header["X-Request-Id"] = []string{test.sent}
			}
			w := httptest.NewRecorder()
			s.ServeHTTP(w, r)
			got := w.Header().Get("X-Request-Id")
			if test.kept && got != test.sent {
				t.Errorf("id %q became %q", test.sent, got)
			}
			if id, err := uuid.Parse(got); !test.kept && (err != nil || id.Version() != 7) {
				t.Errorf("minted id %q is no UUIDv7", got)
			}
			if inside := w.Header().Get("Link"); inside != got {
				t.Errorf("the handler saw the id %q, the client %q", inside, got)
			}
		})
	}
	if id := observe.RequestID(t.Context()); id != "" {
		t.Errorf("a context without request has the id %q", id)
	}
}

func TestPanicBeforeTheAnswer(t *testing.T) {
	for target, cause := range map[string]string{
		"/panic/value":   "string",
		"/panic/runtime": "runtime error: index out of range [0] with length 0",
	} {
		t.Run(target, func(t *testing.T) {
			s := newSite(slog.LevelInfo)
			w := httptest.NewRecorder()
			s.ServeHTTP(w, httptest.NewRequest(http.MethodGet, target, nil))
			id := w.Header().Get("X-Request-Id")
			if w.Code != 500 || id == "" || w.Body.String() != "internal error, request "+id {
				t.Errorf("answer %d %q with id %q", w.Code, w.Body, id)
			}
			if w.Header().Get("Set-Cookie") != "" || w.Header().Get("X-Content-Type-Options") != "nosniff" {
				t.Errorf("headers %v", w.Header())
			}
			all := entries(t, &s.log)
			if len(all) != 2 {
				t.Fatalf("%d entries, want the panic and the request:\n%s", len(all), s.log.String())
			}
			stack, _ := all[0]["stack"].(string)
			if all[0]["level"] != "ERROR" || all[0]["panic"] != cause || !strings.Contains(stack, "observe_test.go") {
				t.Errorf("panic entry %v", all[0])
			}
			if all[1]["status"] != 500.0 || all[1]["route"] != target {
				t.Errorf("request entry %v", all[1])
			}
			if strings.Contains(s.log.String(), "payload") {
				t.Error("the log shows the value of the panic")
			}
		})
	}
}

// A failure function that writes nothing, or no status, still answers 500.
func TestPanicWithoutWords(t *testing.T) {
	handler := observe.Middleware(slog.New(slog.DiscardHandler), observe.NewMetrics(""), func(http.ResponseWriter, *http.Request) {})(
		http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("x") }))
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil))
	if w.Code != 500 {
		t.Errorf("answer %d, want 500", w.Code)
	}
}

// An answer that has begun cannot be taken back, so the client must see that it is broken.
func TestPanicInTheAnswer(t *testing.T) {
	for target, stacks := range map[string]int{"/panic/late": 1, "/panic/abort": 0} {
		t.Run(target, func(t *testing.T) {
			s := newSite(slog.LevelInfo)
			server := httptest.NewServer(s)
			client := server.Client()
			answer, err := client.Get(server.URL + target)
			if err == nil {
				_, err = io.ReadAll(answer.Body)
				answer.Body.Close()
			}
			client.CloseIdleConnections()
			server.Close() // waits for the handler, so the log is complete
			if err == nil {
				t.Error("the client took half an answer for whole")
			}
			all := entries(t, &s.log)
			if last := all[len(all)-1]; len(all) != stacks+1 || last["aborted"] != true || last["route"] != target {
				t.Errorf("log:\n%s", s.log.String())
			}
		})
	}
}

func TestLogger(t *testing.T) {
	var log bytes.Buffer
	logger := observe.NewLogger(&log, "text", slog.LevelWarn)
	logger.Info("quiet")
	logger.WithGroup("g").Warn("loud", "a", 1)
	if got := log.String(); strings.Contains(got, "quiet") || !strings.Contains(got, "level=WARN msg=loud g.a=1\n") {
		t.Errorf("text log:\n%s", got)
	}
}

func TestRedacted(t *testing.T) {
	const planted = "hunter2"
	var out bytes.Buffer
	type holder struct{ Token observe.Redacted }
	for _, value := range []any{observe.Redacted(planted), holder{planted}, &holder{planted}, []observe.Redacted{planted}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d"} {
			fmt.Fprintf(&out, verb+"\n", value)
		}
		for _, format := range []string{"text", "json"} {
			observe.NewLogger(&out, format, slog.LevelInfo).Info("m", "value", value)
		}
		encoded, err := json.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		out.Write(encoded)
	}
	if got := out.String(); strings.Contains(got, planted) || strings.Contains(got, fmt.Sprintf("%x", planted)) || strings.Contains(got, fmt.Sprintf("%X", planted)) {
		t.Errorf("the text is shown:\n%s", got)
	}
	if !strings.Contains(out.String(), `{"Token":"[redacted]"}`) || string(observe.Redacted(planted)) != planted {
		t.Error("the text is not replaced where it must be, or not kept where it must be")
	}
}

func TestMetrics(t *testing.T) {
	m := observe.NewMetrics("1.2.3")
	fresh := scrape(t, m)
	for _, want := range []string{
		`opencpm_build_info{go="go1`, `version="1.2.3"} 1`, "go_goroutines ", "process_open_fds ",
		`opencpm_deliveries_total{outcome="superseded"} 0`, `opencpm_delivery_attempts_total{class="blocked"} 0`,
		"opencpm_changes_recorded_total 0", "opencpm_lease_takeovers_total 0",
	} {
		if !strings.Contains(fresh, want) {
			t.Errorf("metrics of a fresh process lack %s", want)
		}
	}
	m.Changes.Add(2)
	m.CommitBatch.Observe(3)
	m.CommitDuration.Observe(0.004)
	m.Deliveries.WithLabelValues(observe.Delivered).Inc()
	m.Attempts.WithLabelValues(observe.AttemptTimeout).Inc()
	m.DeliveryLatency.Observe((90 * time.Minute).Seconds())
	m.WaitingLanes.Set(7)
	m.FailuresStored.Set(8)
	m.LeaseTakeovers.Inc()
	used := scrape(t, m)
	for _, want := range []string{
		"opencpm_changes_recorded_total 2", `opencpm_store_commit_batch_size_bucket{le="4"} 1`,
		`opencpm_store_commit_duration_seconds_bucket{le="0.005"} 1`, `opencpm_deliveries_total{outcome="delivered"} 1`,
		`opencpm_delivery_attempts_total{class="timeout"} 1`, `opencpm_delivery_latency_seconds_bucket{le="7200"} 1`,
		"opencpm_lanes_waiting 7", "opencpm_failures_stored 8", "opencpm_lease_takeovers_total 1",
	} {
		if !strings.Contains(used, want+"\n") {
			t.Errorf("metrics lack %s", want)
		}
	}
}

func TestReferencePageIsCurrent(t *testing.T) {
	want, err := observe.Reference()
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile("../../docs/operations/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, string(page)); diff != "" {
		t.Errorf("the page is not what go generate ./internal/observe writes (-want +got):\n%s", diff)
	}

	// The page shows what is gathered; a vector without a series would be missing from both.
	descriptions := make(chan *prometheus.Desc)
	go func() {
		defer close(descriptions)
		observe.NewMetrics("").Registry().Describe(descriptions)
	}()
	name := regexp.MustCompile(`fqName: "(opencpm_[a-z_]+)"`)
	found := 0
	for description := range descriptions {
		if match := name.FindStringSubmatch(description.String()); match != nil {
			found++
			if !strings.Contains(want, "`"+match[1]+"`") {
				t.Errorf("%s is registered and not on the page", match[1])
			}
		}
	}
	if found == 0 {
		t.Error("no metric is registered")
	}
}

func ask(handler http.HandlerFunc, ctx context.Context) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	handler(w, httptest.NewRequest(http.MethodGet, "/readyz", nil).WithContext(ctx))
	return w
}

func TestHealth(t *testing.T) {
	var log bytes.Buffer
	health := observe.NewHealth(observe.NewLogger(&log, "json", slog.LevelInfo))
	var broken error
	health.Add("database", func(context.Context) error { return broken })
	health.Add("delivery", func(context.Context) error { return nil })

	for step, test := range []struct {
		broken error
		status int
		body   string
		logged int // entries so far
	}{
		{nil, 200, `{"status":"ready"}`, 0},
		{errors.New("dial 10.1.2.3: refused"), 503, `{"status":"not ready","failing":["database"]}`, 1},
		{errors.New("dial 10.1.2.3: refused"), 503, `{"status":"not ready","failing":["database"]}`, 1},
		{nil, 200, `{"status":"ready"}`, 2},
	} {
		broken = test.broken
		w := ask(health.Ready, t.Context())
		if w.Code != test.status || strings.TrimSpace(w.Body.String()) != test.body || (w.Header().Get("Retry-After") != "") != (test.status == 503) {
			t.Errorf("step %d: %d %s %v", step, w.Code, w.Body, w.Header())
		}
		if got := len(entries(t, &log)); got != test.logged {
			t.Errorf("step %d: %d entries, want %d:\n%s", step, got, test.logged, log.String())
		}
		if w := ask(health.Live, t.Context()); w.Code != 200 || strings.TrimSpace(w.Body.String()) != `{"status":"alive"}` {
			t.Errorf("step %d: alive? %d %s", step, w.Code, w.Body)
		}
	}
}

func TestHealthOfSlowChecks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		health := observe.NewHealth(slog.New(slog.DiscardHandler))
		health.Add("hangs", func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() })
		health.Add("slow", func(ctx context.Context) error {
			select {
			case <-time.After(1900 * time.Millisecond):
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
		start := time.Now()
		w := ask(health.Ready, t.Context())
		if got, want := strings.TrimSpace(w.Body.String()), `{"status":"not ready","failing":["hangs"]}`; got != want {
			t.Errorf("answer %s, want %s", got, want)
		}
		if took := time.Since(start); took != 2*time.Second {
			t.Errorf("took %v, want 2s", took)
		}
	})
}

// A question that nobody waits for any more must not make a healthy check look broken.
func TestHealthAskedByOneWhoLeaves(t *testing.T) {
	var log bytes.Buffer
	health := observe.NewHealth(observe.NewLogger(&log, "text", slog.LevelInfo))
	health.Add("database", func(ctx context.Context) error { return ctx.Err() })
	ctx, leave := context.WithCancel(t.Context())
	leave()
	ask(health.Ready, ctx)
	if log.Len() > 0 {
		t.Errorf("logged %s", log.String())
	}
}
