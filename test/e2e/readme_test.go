package e2e_test

import (
	"bytes"
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The walk of the README works as it stands, in a fresh directory.
func TestREADMEWalk(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, walk, found := strings.Cut(string(readme), "<!-- test: this walk is run as it stands -->\n```sh\n")
	walk, _, closed := strings.Cut(walk, "```")
	if !found || !closed {
		t.Fatal("the README has lost its walk")
	}
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, name := range []string{"cmd", "internal", "client", "docs", "go.mod", "go.sum"} {
		if err := os.Symlink(filepath.Join(root, name), filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	// A link is no directory to the toolchain: it builds where the sources are.
	walk = strings.Replace(walk, "go build -o opencpm ./cmd/opencpm", "(cd "+root+" && go build -o "+dir+"/opencpm ./cmd/opencpm)", 1)
	for _, port := range []string{"8090", "9090"} { // the machine's own may be taken
		walk = strings.ReplaceAll(walk, port, freePort(t))
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-euo", "pipefail", "-c", walk)
	cmd.Dir = dir
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "OPENCPM_") {
			cmd.Env = append(cmd.Env, v)
		}
	}
	// What the walk has started in the background ends with it, whatever happens.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v\n%s", err, said.String())
	}
	for _, want := range []string{`"effective":true`, `"state":"GRANTED"`, `"fate":"effective"`, `"eventType":"citizen.changed"`, "every chain holds"} {
		if !strings.Contains(said.String(), want) {
			t.Errorf("the walk does not show %s:\n%s", want, said.String())
		}
	}
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}
