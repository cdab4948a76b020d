package observe

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"time"
)

// checkTimeout is how long the checks of one question may take together, in good time before whoever asks gives up.
const checkTimeout = 2 * time.Second

// Health answers whether the process lives and whether it is ready for requests.
type Health struct {
	log *slog.Logger

	mu     sync.Mutex
	checks []*check
}

type check struct {
	name    string
	run     func(context.Context) error
	failing bool // when last asked
}

// NewHealth returns a health without checks, which is ready. A check that begins or ceases to fail is logged, with its
// error, to log.
func NewHealth(log *slog.Logger) *Health { return &Health{log: log} }

// Add adds a check. Its name is shown to anyone who asks; its error never is. The check must return soon after its
// context ends, and may run several times at once.
func (h *Health) Add(name string, run func(context.Context) error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.checks = append(h.checks, &check{name: name, run: run})
}

// Live answers 200 for as long as the process can answer at all. It serves /healthz.
func (h *Health) Live(w http.ResponseWriter, _ *http.Request) {
	writeHealth(w, http.StatusOK, "alive", nil)
}

// Ready answers 200 where every check succeeds within two seconds, else 503 with the names of those that do not. It serves
// /readyz.
func (h *Health) Ready(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), checkTimeout)
	defer cancel()
	h.mu.Lock()
	checks := slices.Clone(h.checks)
	h.mu.Unlock()

	errs := make([]error, len(checks))
	var running sync.WaitGroup
	for i, c := range checks {
		running.Go(func() { errs[i] = c.run(ctx) })
	}
	running.Wait()

	if r.Context().Err() != nil {
		return // nobody waits for the answer, and errors that this caused say nothing
	}
	var failing []string
	for i, c := range checks {
		h.note(ctx, c, errs[i])
		if errs[i] != nil {
			failing = append(failing, c.name)
		}
	}
	if failing != nil {
		w.Header().Set("Retry-After", "1")
		writeHealth(w, http.StatusServiceUnavailable, "not ready", failing)
		return
	}
	writeHealth(w, http.StatusOK, "ready", nil)
}

// note logs a check whose result is not what it was.
func (h *Health) note(ctx context.Context, c *check, err error) {
	h.mu.Lock()
	changed := c.failing != (err != nil)
	c.failing = err != nil
	h.mu.Unlock()
	switch {
	case changed && err != nil:
		h.log.WarnContext(ctx, "readiness check fails", "check", c.name, "err", err)
	case changed:
		h.log.InfoContext(ctx, "readiness check succeeds again", "check", c.name)
	}
}

func writeHealth(w http.ResponseWriter, status int, text string, failing []string) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	// A client that went away is no one's concern.
	_ = json.NewEncoder(w).Encode(struct {
		Status  string   `json:"status"`
		Failing []string `json:"failing,omitempty"`
	}{text, failing})
}
