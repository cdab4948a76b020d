package api_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencpm/opencpm/internal/api"
)

// follow asks for the stream of jobs on a connection and gives its lines after the head.
func (w *world) follow(method string, theirs net.Conn) <-chan string {
	w.tb.Helper()
	fmt.Fprintf(theirs, "%s /v1/jobs/events?applicationId=northwind HTTP/1.1\r\nHost: api.test\r\nX-API-Key: %s\r\nConnection: close\r\n\r\n", method, w.key)
	answer, err := http.ReadResponse(bufio.NewReader(theirs), &http.Request{Method: method})
	if err != nil {
		w.tb.Fatal(err)
	}
	if answer.StatusCode != http.StatusOK || answer.Header.Get("Content-Type") != "text/event-stream" || answer.Header.Get("Cache-Control") != "no-store" {
		w.tb.Fatalf("answered %d %v", answer.StatusCode, answer.Header)
	}
	lines := make(chan string)
	go func() {
		defer close(lines)
		defer answer.Body.Close()
		for s := bufio.NewScanner(answer.Body); s.Scan(); {
			if s.Text() != "" {
				lines <- s.Text()
			}
		}
	}()
	return lines
}

// The stream of jobs goes on for longer than a request may take to arrive, says so every 15
// seconds, and ends after an hour.
func TestStreamOfJobs(t *testing.T) {
	for _, method := range []string{http.MethodGet, http.MethodHead} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, api.Options{})
			connections := make(pipes)
			server := &http.Server{Handler: w.handler, ReadTimeout: 30 * time.Second}
			served := make(chan error)
			go func() { served <- server.Serve(connections) }()
			theirs, ours := net.Pipe()
			connections <- ours
			began := time.Now()
			lines := w.follow(method, theirs)
			if method == http.MethodGet {
				w.followed(t, lines)
			}
			for line := range lines {
				if !strings.HasPrefix(line, ":") {
					t.Errorf("%q came of nothing", line)
				}
			}
			if took := time.Since(began); method == http.MethodHead && took > time.Second || method == http.MethodGet && (took < time.Hour || took > time.Hour+time.Second) {
				t.Errorf("%s ended after %v", method, took)
			}
			_ = theirs.Close()
			if err := server.Shutdown(context.Background()); err != nil {
				t.Error(err)
			}
			if err := <-served; !errors.Is(err, http.ErrServerClosed) {
				t.Error(err)
			}
		})
	}
}

// followed requires heartbeats for two minutes, then a job at once.
func (w *world) followed(t *testing.T, lines <-chan string) {
	t.Helper()
	began := time.Now()
	if line := <-lines; line != "retry: 2000" {
		t.Errorf("first came %q", line)
	}
	for range 8 {
		if line := <-lines; line != ": nothing new" {
			t.Errorf("%q came of nothing", line)
		}
	}
	if took := time.Since(began); took != 2*time.Minute {
		t.Errorf("eight heartbeats took %v", took)
	}
	began = time.Now()
	created := w.ok(http.StatusCreated, "POST", "/v1/jobs", map[string]any{"applicationId": "northwind", "kind": "ledger-check"})
	id, _ := created.json["id"].(string)
	for _, want := range []string{"event: job", "id: " + id + "-1", "data: " + strings.TrimSuffix(created.text, "\n")} {
		if line := <-lines; line != want {
			t.Errorf("%q came, want %q", line, want)
		}
	}
	if took := time.Since(began); took > 250*time.Millisecond {
		t.Errorf("the job was told of %v after it was made", took)
	}
}
