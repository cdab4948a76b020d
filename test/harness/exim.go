package harness

import (
	"bytes"
	"context"
	_ "embed" // the configuration of the mail server
	"errors"
	"fmt"
	"io"
	"net"
	"net/mail"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// exim is where Debian puts it, which is in the PATH of root alone.
const exim = "/usr/sbin/exim4"

//go:embed exim.conf
var eximConf string

// What an MTA does for these recipients; it has a mailbox for everybody else.
const (
	GoneRecipient = "gone@example.com" // refused for good
	BusyRecipient = "busy@example.com" // refused for now, until MTA.Relieve
)

// An MTA is a full mail server, Debian's exim, with all it writes in a directory of its
// own. It takes mail of those alone who sign in as MailUser, over TLS that begins later,
// and puts it into a Maildir.
type MTA struct {
	// Address is where it listens, as HOST:PORT.
	Address string
	certificate

	dir string
}

// NewMTA starts a server that lives as long as the test.
func NewMTA(t testing.TB) *MTA {
	t.Helper()
	dir, err := os.MkdirTemp("", "opencpm-exim")
	if err != nil {
		t.Fatal(err)
	}
	s := &MTA{dir: dir, certificate: certify(t, dir)}
	t.Cleanup(func() { s.remove(t) })
	cmd := exec.Command(exim, "-C", s.path("conf"), "-bw10m") // should nobody end it, it goes when idle for so long
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	s.configure(t, cmd.SysProcAttr)

	// It is handed a socket that listens already, so that nobody can take its port.
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	s.Address = l.Addr().String()
	socket, err := l.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	cmd.Stdin = socket
	if err := cmd.Start(); err != nil {
		t.Fatalf("%v\nThis test needs exim: `make setup` installs it.", err)
	}
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // with what it began
		_ = cmd.Wait()
	})
	if err := s.greets(t.Context()); err != nil {
		t.Fatalf("exim does not greet: %v\n%s", err, s.log())
	}
	return s
}

// configure writes the configuration. Exim delivers nothing as root, for whom a process
// with these attributes becomes the user that came with exim.
func (s *MTA) configure(t testing.TB, process *syscall.SysProcAttr) {
	t.Helper()
	uid, gid := os.Getuid(), os.Getgid()
	if uid == 0 {
		own, err := user.Lookup("Debian-exim")
		if err != nil {
			t.Fatalf("%v\nThis test needs exim: `make setup` installs it.", err)
		}
		uid, gid = number(t, own.Uid), number(t, own.Gid)
		process.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	}
	names := fmt.Sprintf("THE_DIR = %s\nTHE_UID = %d\nTHE_GID = %d\nTHE_USER = %s\nTHE_PASSWORD = %s\n", s.dir, uid, gid, MailUser, MailPassword)
	err := errors.Join(os.WriteFile(s.path("conf"), []byte(names+eximConf), 0o600), os.WriteFile(s.path("busy"), nil, 0o600))
	for _, name := range []string{"", "conf", "busy", "ca.pem", "key.pem"} {
		err = errors.Join(err, os.Chown(s.path(name), uid, gid))
	}
	if err != nil {
		t.Fatal(err)
	}
}

func number(t testing.TB, text string) int {
	t.Helper()
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// greets waits for the first line of a conversation.
func (s *MTA) greets(ctx context.Context) error {
	conn, err := (&net.Dialer{Timeout: Patience}).DialContext(ctx, "tcp", s.Address)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(Patience)); err != nil {
		return err
	}
	_, err = conn.Read(make([]byte, 1))
	return err
}

// remove takes the directory away. What exim began may outlive the signal that ends it by
// a moment.
func (s *MTA) remove(t testing.TB) {
	if t.Failed() {
		t.Logf("exim said:\n%s", s.log())
	}
	err := os.RemoveAll(s.dir)
	for deadline := time.Now().Add(Patience); err != nil && time.Now().Before(deadline); err = os.RemoveAll(s.dir) {
		time.Sleep(10 * time.Millisecond)
	}
	if err != nil {
		t.Error(err)
	}
}

func (s *MTA) path(name string) string { return filepath.Join(s.dir, name) }

// log is what the server noted of its work.
func (s *MTA) log() string {
	var all strings.Builder
	for _, name := range []string{"paniclog", "mainlog"} {
		text, err := os.ReadFile(s.path(name))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err.Error()
		}
		all.Write(text)
	}
	return all.String()
}

// Relieve lets BusyRecipient get mail.
func (s *MTA) Relieve(t testing.TB) {
	t.Helper()
	if err := os.Remove(s.path("busy")); err != nil {
		t.Fatal(err)
	}
}

// Await waits until n mails have arrived in the Maildir, for as long as within, and
// returns them in any order.
func (s *MTA) Await(t testing.TB, n int, within time.Duration) []Mail {
	t.Helper()
	for deadline := time.Now().Add(within); ; time.Sleep(10 * time.Millisecond) {
		files, err := filepath.Glob(s.path("mail/new/*"))
		if err != nil {
			t.Fatal(err)
		}
		if len(files) >= n {
			mails := make([]Mail, len(files))
			for i, file := range files {
				mails[i] = readMail(t, file)
			}
			return mails
		}
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for mail %d; %d came", n, len(files))
		}
	}
}

// readMail reads a file of the Maildir, where the server has put the envelope into the header.
func readMail(t testing.TB, file string) Mail {
	t.Helper()
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	m, err := mail.ReadMessage(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(m.Body)
	if err != nil {
		t.Fatal(err)
	}
	return Mail{
		From: strings.Trim(m.Header.Get("Return-Path"), "<>"), To: m.Header.Get("Envelope-To"), User: m.Header.Get("X-Signed-In"),
		TLS: m.Header.Get("X-Cipher") != "", Header: m.Header, Text: string(text),
	}
}
