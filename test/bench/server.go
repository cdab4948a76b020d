package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// server is one life of `opencpm serve`, with default settings but for what the trip needs.
type server struct {
	address  string
	profiles string // address of the profiles; empty where none are wanted
	started  time.Time
	took     time.Duration // from its start until it was ready
	cmd      *exec.Cmd
	log      *os.File
	exited   chan struct{} // closed when the process is gone
	err      error         // how it went; read after exited
}

// Roles of a server.
const (
	recording = "http"              // takes what is to be delivered, and lets it wait
	complete  = "http,deliver,jobs" // the default
)

// serve starts a server and waits until it is ready.
func (s *store) serve(ctx context.Context, roles string) (*server, error) {
	for attempt := 1; ; attempt++ {
		v, err := s.tryServe(ctx, roles)
		// Somebody else may have taken the port between our finding it and the server's binding it.
		if err == nil || attempt == 3 || !strings.Contains(err.Error(), "address already in use") {
			return v, err
		}
	}
}

// during does something while a server runs on the store.
func (s *store) during(ctx context.Context, roles string, do func(v *server) error) error {
	v, err := s.serve(ctx, roles)
	if err != nil {
		return err
	}
	return errors.Join(do(v), v.stop())
}

func (s *store) tryServe(ctx context.Context, roles string) (*server, error) {
	v := &server{exited: make(chan struct{})}
	var err error
	if v.address, err = freeAddress(ctx); err != nil {
		return nil, err
	}
	args := []string{"serve", "--listen", v.address, "--roles", roles, "--webhook-allow-net", "127.0.0.0/8"}
	if s.b.profiles != "" {
		if v.profiles, err = freeAddress(ctx); err != nil {
			return nil, err
		}
		args = append(args, "--pprof-listen", v.profiles)
	}
	if v.log, err = os.CreateTemp(s.b.dir, "server-*.log"); err != nil {
		return nil, err
	}
	v.cmd = exec.Command(s.b.binary, slices.Concat(args, s.flags)...)
	v.cmd.Env, v.cmd.Stderr = environment(), v.log
	v.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // it never outlives the program
	v.started = time.Now()
	if err := v.cmd.Start(); err != nil {
		return nil, errors.Join(err, v.log.Close())
	}
	go func() {
		v.err = v.cmd.Wait()
		close(v.exited)
	}()
	if err := v.awaitReady(ctx); err != nil {
		return nil, errors.Join(err, v.stop())
	}
	v.took = time.Since(v.started)
	return v, nil
}

// awaitReady asks every millisecond.
func (v *server) awaitReady(ctx context.Context) error {
	request := new(writer).get("/readyz", 0, "")
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for time.Since(v.started) < patience {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-v.exited:
			return fmt.Errorf("the server ended before it was ready: %w\n%s", v.err, v.tail())
		case <-tick.C:
		}
		c, err := dial(ctx, v.address)
		if err != nil {
			continue
		}
		_, err = c.call(request)
		c.close()
		if err == nil {
			return nil
		}
	}
	return fmt.Errorf("the server was not ready in time\n%s", v.tail())
}

func freeAddress(ctx context.Context) (string, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

// tail gives the end of the log.
func (v *server) tail() []byte {
	text, err := os.ReadFile(v.log.Name())
	if err != nil {
		return nil
	}
	return text[max(0, len(text)-4<<10):]
}

// stop ends the server as an operator would and waits until it is gone.
func (v *server) stop() error {
	_ = v.cmd.Process.Signal(syscall.SIGTERM) // it fails for a process that is gone, and how that went is looked at below
	select {
	case <-v.exited:
	case <-time.After(patience):
		_ = v.cmd.Process.Kill()
		<-v.exited
	}
	err := v.err
	if err != nil {
		err = fmt.Errorf("the server ended with %w\n%s", err, v.tail())
	}
	return errors.Join(err, v.log.Close(), os.Remove(v.log.Name()))
}

// memory reads a line of the process's status such as VmRSS, in MiB.
func (v *server) memory(line string) (float64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", v.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	for l := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(l, line+":"); ok {
			kib, err := strconv.ParseFloat(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 64)
			return kib / 1024, err
		}
	}
	return 0, fmt.Errorf("/proc says nothing of %s", line)
}

// profile takes a CPU profile of the server in the background, where profiles are wanted and the round is the last, for as
// long as a round takes and at least a second. taken waits for it.
func (b *bench) profile(ctx context.Context, v *server, name string) (taken func() error) {
	if b.profiles == "" || !b.last {
		return func() error { return nil }
	}
	done := make(chan error, 1)
	go func() {
		seconds := max(1, int(b.plan.round.Seconds()))
		done <- b.takeProfile(ctx, fmt.Sprintf("http://%s/debug/pprof/profile?seconds=%d", v.profiles, seconds), name)
	}()
	return func() error { return <-done }
}

// profiled is a round of which a profile is taken.
func (b *bench) profiled(ctx context.Context, v *server, name string, round func() (float64, error)) (float64, error) {
	taken := b.profile(ctx, v, name)
	figure, err := round()
	return figure, errors.Join(err, taken())
}

func (b *bench) takeProfile(ctx context.Context, source, name string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, source, nil)
	if err != nil {
		return err
	}
	transport := &http.Transport{DisableKeepAlives: true}
	res, err := (&http.Client{Transport: transport}).Do(request)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	f, err := os.Create(filepath.Join(b.profiles, name+".pprof"))
	if err != nil {
		return err
	}
	_, err = io.Copy(f, res.Body)
	return errors.Join(err, f.Close())
}
