package client_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencpm/opencpm/client"
)

// transport answers calls in memory.
type transport func(r *http.Request) (status int, body io.ReadCloser)

func (t transport) RoundTrip(r *http.Request) (*http.Response, error) {
	status, body := t(r)
	return &http.Response{StatusCode: status, Header: http.Header{}, Body: body, Request: r}, nil
}

// mute is a body that says nothing after its text until the call ends.
type mute struct {
	io.Reader
	ctx context.Context
}

func (m mute) Read(p []byte) (int, error) {
	if n, _ := m.Reader.Read(p); n > 0 {
		return n, nil
	}
	<-m.ctx.Done()
	return 0, m.ctx.Err()
}

func (m mute) Close() error { return nil }

// A follower comes back after every end of the stream, in good order or not, and hears of
// the jobs that ended meanwhile.
func TestWatchJobs(t *testing.T) {
	event := func(id, state string) string {
		return fmt.Sprintf("event: job\nid: %s-1\ndata: {\"id\":%q,\"state\":%q}\n\n", id, id, state)
	}
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		streams := 0
		c, err := client.New("http://consent.example", client.APIKey("k"), client.WithHTTPClient(&http.Client{
			Timeout: time.Second, // which must not end a stream
			Transport: transport(func(r *http.Request) (int, io.ReadCloser) {
				text := func(s string) io.ReadCloser { return io.NopCloser(strings.NewReader(s)) }
				if r.URL.Path == "/v1/jobs/a" {
					return 200, text(`{"id":"a","state":"done"}`)
				}
				if r.URL.RequestURI() != "/v1/jobs/events?applicationId=nw" {
					t.Errorf("asked for %s", r.URL.RequestURI())
				}
				switch streams++; streams {
				case 1:
					return 200, text("retry: 2000\n\n" + event("a", "queued") + ": nothing new\n\n" + event("a", "running"))
				case 2:
					return 503, text("")
				case 3:
					return 200, mute{strings.NewReader(event("b", "queued") + event("b", "done")), r.Context()}
				}
				return 200, mute{strings.NewReader(event("c", "failed")), r.Context()}
			}),
		}))
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		began := time.Now()
		for j, err := range c.WatchJobs(ctx, "nw") {
			if err != nil {
				got = append(got, "error")
				continue
			}
			if got = append(got, j.ID+" "+j.State); j.ID == "c" {
				break
			}
		}
		want := []string{"a queued", "a running", "error", "a done", "b queued", "b done", "error", "c failed"}
		if !slices.Equal(got, want) {
			t.Errorf("heard %q, want %q", got, want)
		}
		if took := time.Since(began); took < 45*time.Second || took > time.Minute {
			t.Errorf("a silent stream was given up after %v", took)
		}
	})
}
