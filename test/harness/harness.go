// Package harness drives the built opencpm binary as its operator would: it builds it, runs its commands, starts, stops
// and kills its server, and plays the system that receives its webhooks. It knows the command line and the published
// payload, and nothing of the code behind them.
package harness

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/opencpm/opencpm/internal/store/storetest"
)

// Patience is how long a test waits for something that is promised soon, on a machine that may be busy.
const Patience = 20 * time.Second

// StopWithin is the promise about SIGTERM: the server has drained its work and exited with 0 by then.
const StopWithin = 20 * time.Second

var binary string

// Main is the TestMain of a package that tests the binary: it builds it once, without CGO, runs the tests and fails
// them if a goroutine is left behind.
func Main(m *testing.M) {
	dir, err := os.MkdirTemp("", "opencpm-binary-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	binary = filepath.Join(dir, "opencpm")
	build := exec.Command("go", "build", "-o", binary, "github.com/opencpm/opencpm/cmd/opencpm")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build opencpm: %v\n%s", err, out)
		os.Exit(1)
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		os.RemoveAll(dir)
		os.Exit(code)
	}))
}

// A Store is what stays when a server stops: one database, empty at first, with the keys that open it.
type Store struct {
	// Name is "sqlite" or "postgres".
	Name string
	// Dir is the data directory; empty on PostgreSQL, where the server keeps nothing on its own disk.
	Dir string
	// KeyFile is the path of the key file.
	KeyFile string
	// Emitted is everything that any process of this store has printed.
	Emitted *Buffer
	// Env is what the environment of its servers holds besides, as NAME=value.
	Env []string

	flags []string
}

// SQLite returns a store in a new data directory.
func SQLite(t *testing.T) *Store {
	dir := filepath.Join(t.TempDir(), "data")
	return &Store{Name: "sqlite", Dir: dir, KeyFile: filepath.Join(dir, "keys"), Emitted: &Buffer{}, flags: []string{"--data", dir}}
}

// PostgreSQL returns a store in a new, empty database, with a key file of its own.
func PostgreSQL(t *testing.T) *Store {
	key := make([]byte, 32)
	rand.Read(key)
	file := filepath.Join(t.TempDir(), "keys")
	line := "k1:" + base64.StdEncoding.EncodeToString(key) + "\n"
	if err := os.WriteFile(file, []byte(line), 0o600); err != nil {
		t.Fatal(err)
	}
	return &Store{
		Name: "postgres", KeyFile: file, Emitted: &Buffer{},
		flags: []string{"--database-url", storetest.Postgres(t), "--key-file", file},
	}
}

// OnEachStore runs test once on SQLite and once on PostgreSQL, side by side.
func OnEachStore(t *testing.T, test func(t *testing.T, s *Store)) {
	t.Parallel()
	for name, open := range map[string]func(*testing.T) *Store{"sqlite": SQLite, "postgres": PostgreSQL} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, open(t))
		})
	}
}

// Try runs a command on the store, such as Try("application", "create", …), and returns what it printed.
// A command that does not end by itself is killed after a minute.
func (s *Store) Try(args ...string) (stdout, stderr string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var out, errs bytes.Buffer
	cmd := command(ctx, slices.Concat(args, s.flags))
	cmd.Stdout, cmd.Stderr = &out, &errs
	err = cmd.Run()
	fmt.Fprint(s.Emitted, errs.String())
	return out.String(), errs.String(), err
}

// Do runs a command that must succeed and returns its standard output.
func (s *Store) Do(t testing.TB, args ...string) string {
	t.Helper()
	out, errs, err := s.Try(args...)
	if err != nil {
		t.Fatalf("opencpm %s: %v\n%s%s", strings.Join(args, " "), err, out, errs)
	}
	return out
}

// Try runs a command that needs no store, with extra environment variables in the form NAME=value, and returns all it
// printed.
func Try(env []string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := command(ctx, args)
	cmd.Env = append(cmd.Env, env...)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// Command builds a process of the binary for a test that starts and stops it by
// itself.
func Command(ctx context.Context, args ...string) *exec.Cmd { return command(ctx, args) }

// command builds a process that sees no OPENCPM_… variable of the machine the tests run on.
func command(ctx context.Context, args []string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, binary, args...)
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "OPENCPM_") {
			cmd.Env = append(cmd.Env, v)
		}
	}
	return cmd
}

// A Server is one life of `opencpm serve`.
type Server struct {
	// URL is where it answers, without a slash at the end.
	URL string

	cmd    *exec.Cmd
	output *Buffer
	exited chan struct{} // closed when the process is gone
	err    error         // how it went; read after exited
}

// Serve starts a server on the store and waits until it is ready. When the test ends, a server that still runs is
// stopped with SIGTERM, must exit with 0, and its store must pass `check`.
func (s *Store) Serve(t testing.TB, args ...string) *Server {
	t.Helper()
	for attempt := 1; ; attempt++ {
		server, err := s.serve(args...)
		switch {
		case err == nil:
			t.Cleanup(func() { s.end(t, server) })
			return server
		case attempt < 3 && strings.Contains(server.output.String(), "address already in use"):
			// Another test took the free port between our finding it and the server's binding it.
		default:
			t.Fatalf("serve: %v\n%s", err, server.output.String())
		}
	}
}

func (s *Store) end(t testing.TB, server *Server) {
	select {
	case <-server.exited: // stopped or killed by the test, which has looked at the outcome
	default:
		server.Stop(t)
		if out, errs, err := s.Try("check"); err != nil {
			t.Errorf("opencpm check: %v\n%s%s", err, out, errs)
		}
	}
	if t.Failed() {
		t.Logf("%s server said:\n%s", s.Name, server.output.Tail(16<<10))
	}
}

func (s *Store) serve(args ...string) (*Server, error) {
	address, err := freeAddress()
	if err != nil {
		return nil, err
	}
	server := &Server{URL: "http://" + address, output: &Buffer{}, exited: make(chan struct{})}
	server.cmd = command(context.Background(), slices.Concat([]string{"serve", "--listen", address}, args, s.flags))
	server.cmd.Env = append(server.cmd.Env, s.Env...)
	out := io.MultiWriter(server.output, s.Emitted)
	server.cmd.Stdout, server.cmd.Stderr = out, out
	if err := server.cmd.Start(); err != nil {
		return server, err
	}
	go func() {
		server.err = server.cmd.Wait()
		close(server.exited)
	}()
	if err := server.awaitReady(); err != nil {
		server.Kill()
		return server, err
	}
	return server, nil
}

func (s *Server) awaitReady() error {
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: time.Second}
	deadline := time.Now().Add(Patience)
	for time.Now().Before(deadline) {
		select {
		case <-s.exited:
			return fmt.Errorf("exited before it was ready: %w", errors.Join(s.err, errors.New(s.cmd.ProcessState.String())))
		case <-time.After(10 * time.Millisecond):
		}
		if s.ready(client) {
			return nil
		}
	}
	return errors.New("not ready in time")
}

func (s *Server) ready(client *http.Client) bool {
	req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, s.URL+"/readyz", nil)
	if err != nil {
		return false
	}
	res, err := client.Do(req)
	if err != nil {
		return false
	}
	defer res.Body.Close()
	return res.StatusCode == http.StatusOK
}

// Stop sends SIGTERM and requires that the server exits with 0 within StopWithin.
func (s *Server) Stop(t testing.TB) {
	t.Helper()
	_ = s.cmd.Process.Signal(syscall.SIGTERM) // it fails for a process that is gone, and how that went is looked at below
	select {
	case <-s.exited:
		if s.err != nil {
			t.Errorf("after SIGTERM the server ended with %v, want exit code 0\n%s", s.err, s.output.Tail(16<<10))
		}
	case <-time.After(StopWithin):
		s.Kill()
		t.Errorf("after SIGTERM the server still ran %v later\n%s", StopWithin, s.output.Tail(16<<10))
	}
}

// Kill sends SIGKILL and waits until the process is gone.
func (s *Server) Kill() {
	_ = s.cmd.Process.Kill() // it fails for a process that is gone already
	<-s.exited
}

func freeAddress() (string, error) {
	var config net.ListenConfig
	l, err := config.Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

// A Buffer keeps what is written to it by any number of goroutines.
type Buffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *Buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *Buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// Tail returns the last n bytes at most.
func (b *Buffer) Tail(n int) string {
	s := b.String()
	return s[max(0, len(s)-n):]
}
