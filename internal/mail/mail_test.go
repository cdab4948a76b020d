package mail

import (
	"context"
	"errors"
	"io"
	"mime"
	"mime/quotedprintable"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-smtp"

	"github.com/opencpm/opencpm/test/harness"
)

const from = "Consent <consent@example.com>"

// server makes a client of a mail server; more is what follows the address in its URL.
func server(t *testing.T, s *harness.MailServer, user *url.Userinfo, more string) *Server {
	t.Helper()
	u, err := url.Parse("smtp://" + s.Address + more)
	if err != nil {
		t.Fatal(err)
	}
	u.User = user
	v := NewServer(u, from)
	v.roots = s.Roots()
	return v
}

var signedIn = url.UserPassword(harness.MailUser, harness.MailPassword)

func TestSend(t *testing.T) {
	for name, test := range map[string]struct {
		kind harness.MailKind
		user *url.Userinfo
		more string
	}{
		"STARTTLS":         {harness.StartTLS, signedIn, ""},
		"TLS at once":      {harness.ImplicitTLS, signedIn, ""},
		"open on loopback": {harness.OpenRelay, nil, "?tls=none"},
	} {
		t.Run(name, func(t *testing.T) {
			at := harness.NewMailServer(t, test.kind)
			s := server(t, at, test.user, test.more)
			if test.kind == harness.ImplicitTLS {
				s.url.Scheme = "smtps"
			}
			const text = "Žluťoučký kůň\n.\nThe line above is a lone dot.\n"
			taken, err := s.Send(t.Context(), Message{Subject: "Kůň\r\nBcc: all@example.com", Text: text}, []string{"a@example.com", "b@example.com"})
			if taken != 2 || err != nil {
				t.Fatalf("%d taken, %v", taken, err)
			}
			got := at.Await(t, 2, 0)
			for i, to := range []string{"a@example.com", "b@example.com"} {
				m := got[i]
				if m.From != "consent@example.com" || m.To != to || m.Header.Get("To") != "<"+to+">" || m.Header.Get("Bcc") != "" || len(got) != 2 {
					t.Errorf("%+v", m)
				}
				if secure := test.user != nil; m.TLS != secure || secure && m.User != harness.MailUser {
					t.Errorf("came with TLS %v from %q", m.TLS, m.User)
				}
				subject, err := new(mime.WordDecoder).DecodeHeader(m.Header.Get("Subject"))
				if err != nil || subject != "Kůň  Bcc: all@example.com" {
					t.Errorf("the subject is %q, %v", subject, err)
				}
				body, err := io.ReadAll(quotedprintable.NewReader(strings.NewReader(m.Text)))
				if got := strings.ReplaceAll(string(body), "\r\n", "\n"); err != nil || strings.TrimRight(got, "\n") != strings.TrimRight(text, "\n") {
					t.Errorf("the text is %q, %v", got, err)
				}
				if m.Header.Get("Auto-Submitted") != "auto-generated" || m.Header.Get("Message-Id") == "" || m.Header.Get("Date") == "" || m.Header.Get("User-Agent") != "" {
					t.Errorf("the header is %v", m.Header)
				}
			}
		})
	}
}

// One address that is refused costs the others nothing, and no error repeats it.
func TestARecipientIsRefused(t *testing.T) {
	at := harness.NewMailServer(t, harness.StartTLS)
	at.Refuse(func(to string) error {
		if to == "left@example.com" {
			return &smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 1, 1}, Message: "no mailbox " + to}
		}
		return nil
	})
	taken, err := server(t, at, signedIn, "").Send(t.Context(), Message{Subject: "S", Text: "T"}, []string{"a@example.com", "left@example.com", "b@example.com"})
	if taken != 2 || err == nil || !strings.Contains(err.Error(), "550") || strings.Contains(err.Error(), "left") {
		t.Errorf("%d taken, %v", taken, err)
	}
	if got := at.Await(t, 2, 0); len(got) != 2 || got[1].To != "b@example.com" {
		t.Errorf("came %+v", got)
	}
}

// A server that relays nothing of ours has not refused the address of a citizen: the mail
// can be sent when that is mended.
func TestARefusalIsOfTheAddress(t *testing.T) {
	at := harness.NewMailServer(t, harness.StartTLS)
	for _, test := range []struct {
		code     int
		enhanced smtp.EnhancedCode
		refused  bool
	}{
		{550, smtp.EnhancedCode{5, 1, 1}, true},
		{553, smtp.EnhancedCode{5, 1, 3}, true},
		{550, smtp.NoEnhancedCode, true},
		{554, smtp.EnhancedCode{5, 7, 1}, false}, // relay access denied
		{530, smtp.NoEnhancedCode, false},        // authentication required
		{451, smtp.EnhancedCode{4, 2, 0}, false},
	} {
		at.Refuse(func(string) error {
			return &smtp.SMTPError{Code: test.code, EnhancedCode: test.enhanced, Message: "not for you"}
		})
		refused, err := server(t, at, signedIn, "").SendCitizen(t.Context(), toAda("en"))
		if refused != test.refused || err == nil {
			t.Errorf("%d %v: refused %v, %v", test.code, test.enhanced, refused, err)
		}
	}
}

// Nothing leaves where it could be read or the server is not who it should be.
func TestMailIsNotSent(t *testing.T) {
	message := Message{Subject: "S", Text: "T"}
	refused := func(name string, s *Server, want string) {
		t.Helper()
		taken, err := s.Send(t.Context(), message, []string{"a@example.com"})
		if taken != 0 || err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), harness.MailPassword) {
			t.Errorf("%s: %d taken, %v", name, taken, err)
		}
	}
	at := harness.NewMailServer(t, harness.StartTLS)
	refused("wrong password", server(t, at, url.UserPassword(harness.MailUser, "wrong"), ""), "answered 535")
	refused("no password", server(t, at, nil, ""), "answered 502")
	stranger := server(t, at, signedIn, "")
	stranger.roots = nil
	refused("unknown authority", stranger, "certificate")
	open := harness.NewMailServer(t, harness.OpenRelay)
	refused("no STARTTLS", server(t, open, nil, ""), "STARTTLS")
	closed := server(t, open, nil, "?tls=none")
	closed.url.Host = "127.0.0.1:1"
	refused("nobody there", closed, "connection refused")
	public := server(t, open, nil, "?tls=none")
	public.url.Host = "192.0.2.1:25"
	refused("unencrypted to elsewhere", public, errFar.Error())
	if got := append(at.Await(t, 0, 0), open.Await(t, 0, 0)...); len(got) != 0 {
		t.Errorf("came %+v", got)
	}
}

// A server that says nothing holds nobody longer than the caller's patience.
func TestASilentServer(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		cancel()
		_, _ = conn.Read(make([]byte, 1)) // until the client goes
	}()
	u := &url.URL{Scheme: "smtp", Host: l.Addr().String(), RawQuery: "tls=none"}
	began := time.Now()
	if taken, err := NewServer(u, from).Send(ctx, Message{Subject: "S", Text: "T"}, []string{"a@example.com"}); taken != 0 || !errors.Is(err, context.Canceled) {
		t.Errorf("%d taken, %v", taken, err)
	}
	if took := time.Since(began); took > timeout/2 {
		t.Errorf("it took %v", took)
	}
}
