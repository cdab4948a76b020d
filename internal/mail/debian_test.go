package mail

import (
	"bytes"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net"
	netmail "net/mail"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencpm/opencpm/internal/consent"
)

// debianServer starts the SMTP server of Debian's python3-aiosmtpd, which puts mail into a
// Maildir, and gives where it listens.
func debianServer(t *testing.T, maildir string) (address string) {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address = l.Addr().String()
	l.Close()
	server := exec.Command("/usr/bin/python3", "-m", "aiosmtpd", "-n", "-u", "-l", address, "-c", "aiosmtpd.handlers.Mailbox", maildir)
	var said bytes.Buffer
	server.Stderr = &said
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	gone := make(chan error, 1) // how it ended
	go func() { gone <- server.Wait() }()
	t.Cleanup(func() {
		_ = server.Process.Kill()
		if err := <-gone; err == nil {
			t.Error("the mail server ended by itself")
		}
	})
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); {
		select {
		case err := <-gone:
			gone <- err
			t.Fatalf("the mail server of Debian ends: scripts/setup installs it: %v\n%s", err, said.String())
		case <-time.After(20 * time.Millisecond):
		}
		if c, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", address); err == nil {
			c.Close()
			return address
		}
	}
	t.Fatal("the mail server of Debian does not listen")
	return ""
}

// A mail arrives by a server that is none of ours as it was written: both forms, letter for
// letter, the names of both sides, and one id in every attempt.
func TestAMailArrivesByAServerOfDebian(t *testing.T) {
	maildir := filepath.Join(t.TempDir(), "mail")
	u, err := url.Parse("smtp://" + debianServer(t, maildir) + "?tls=none")
	if err != nil {
		t.Fatal(err)
	}
	written := Compose(signUp("ar"))
	m := consent.CitizenEmail{
		EventID: consent.ID{7}, SentAt: consent.Timestamp(consent.At(time.Now())), Subject: written.Subject, HTML: written.HTML, Text: written.Text,
		Recipient: consent.EmailAddress{Address: "ada@example.com", Name: `Ada "the Countess" Bürön`}, Sender: consent.EmailSender{Name: "Kůň & Co", Address: "hello@northwind.example"},
		ReplyTo: "service@northwind.example", Headers: map[string]string{"Auto-Submitted": "auto-generated"},
	}
	for range 2 {
		if refused, err := NewServer(u, "consent@example.com").SendCitizen(t.Context(), m); refused || err != nil {
			t.Fatal(refused, err)
		}
	}
	files, err := filepath.Glob(filepath.Join(maildir, "new", "*"))
	if err != nil || len(files) != 2 {
		t.Fatalf("%d mails arrived: %v", len(files), err)
	}
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		got, err := netmail.ReadMessage(bytes.NewReader(raw))
		if err != nil {
			t.Fatal(err)
		}
		subject, err := new(mime.WordDecoder).DecodeHeader(got.Header.Get("Subject"))
		if err != nil || subject != m.Subject {
			t.Errorf("subject %q, %v", subject, err)
		}
		for name, want := range map[string]string{"From": fmt.Sprint(m.Sender.Name), "To": string(m.Recipient.Name)} {
			if list, err := got.Header.AddressList(name); err != nil || len(list) != 1 || list[0].Name != want {
				t.Errorf("%s %q, %v", name, got.Header.Get(name), err)
			}
		}
		if got.Header.Get("Message-ID") != "<"+m.EventID.String()+"@northwind.example>" || got.Header.Get("Auto-Submitted") != "auto-generated" ||
			got.Header.Get("X-MailFrom") != "hello@northwind.example" || got.Header.Get("X-RcptTo") != "ada@example.com" {
			t.Errorf("headers %v", got.Header)
		}
		_, parameters, err := mime.ParseMediaType(got.Header.Get("Content-Type"))
		if err != nil {
			t.Fatal(err)
		}
		parts := multipart.NewReader(got.Body, parameters["boundary"])
		for _, want := range []string{m.Text, m.HTML} {
			part, err := parts.NextRawPart()
			if err != nil {
				t.Fatal(err)
			}
			text, err := io.ReadAll(quotedprintable.NewReader(part))
			if err != nil || strings.TrimSpace(strings.ReplaceAll(string(text), "\r\n", "\n")) != strings.TrimSpace(want) {
				t.Errorf("arrived %q, %v", text, err)
			}
		}
	}
}
