package api_test

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencpm/opencpm/internal/api"
)

// pipes is a listener on connections within the process.
type pipes chan net.Conn

func (p pipes) Accept() (net.Conn, error) {
	if c, ok := <-p; ok {
		return c, nil
	}
	return nil, net.ErrClosed
}

func (p pipes) Close() error   { close(p); return nil }
func (p pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipe"} }

func TestBodyThatNeverEnds(t *testing.T) {
	for path, status := range map[string]int{"/oauth/token": http.StatusRequestTimeout, "/nowhere": http.StatusNotFound} {
		synctest.Test(t, func(t *testing.T) { neverEnds(t, path, status) })
	}
}

func neverEnds(t *testing.T, path string, status int) {
	connections := make(pipes)
	server := &http.Server{Handler: api.New(api.Options{})}
	served := make(chan error)
	go func() { served <- server.Serve(connections) }()
	theirs, ours := net.Pipe()
	connections <- theirs
	began := time.Now()
	if _, err := io.WriteString(ours, "POST "+path+" HTTP/1.1\r\nHost: api.test\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"); err != nil {
		t.Fatal(err)
	}
	answer, err := http.ReadResponse(bufio.NewReader(ours), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if took := time.Since(began); answer.StatusCode != status || took != 15*time.Second {
		t.Errorf("%s: %d after %s", path, answer.StatusCode, took)
	}
	ours.Close()
	server.Close()
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		t.Error(err)
	}
}
