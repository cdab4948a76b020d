package harness

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/mail"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"
)

// A Mail is one e-mail as it reached a MailServer.
type Mail struct {
	From, To string // of the envelope
	User     string // who had signed in, "" for nobody
	TLS      bool
	Header   mail.Header
	Text     string // as it was sent, still encoded
}

// The credentials that a MailServer takes.
const (
	MailUser     = "opencpm"
	MailPassword = "planted-mail-password-8c1f"
)

// MailKind says how a MailServer is spoken to.
type MailKind int

// The kinds of mail server. The first two take mail of those alone who sign in as
// MailUser, over TLS that begins later or at once; the third takes all there is.
const (
	StartTLS MailKind = iota
	ImplicitTLS
	OpenRelay
)

// A MailServer takes mail on loopback and keeps it.
type MailServer struct {
	// Address is where it listens, as HOST:PORT.
	Address string
	certificate

	server *smtp.Server
	mu     sync.Mutex
	refuse func(to string) error
	mails  []Mail
	news   chan struct{} // closed and replaced when something arrives
}

// NewMailServer starts a server that lives as long as the test.
func NewMailServer(t testing.TB, kind MailKind) *MailServer {
	t.Helper()
	s := &MailServer{news: make(chan struct{}), refuse: func(string) error { return nil }}
	s.server = smtp.NewServer(smtp.BackendFunc(func(c *smtp.Conn) (smtp.Session, error) {
		return &mailSession{server: s, conn: c, open: kind == OpenRelay}, nil
	}))
	s.server.Domain = "mail.test"
	s.server.ErrorLog = log.New(io.Discard, "", 0) // of clients that go
	if kind != OpenRelay {
		s.certificate = certify(t, t.TempDir())
		pair, err := tls.LoadX509KeyPair(s.CA, s.key)
		if err != nil {
			t.Fatal(err)
		}
		s.server.TLSConfig = &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
	}
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.Address = l.Addr().String()
	if kind == ImplicitTLS {
		l, s.server.TLSConfig = tls.NewListener(l, s.server.TLSConfig), nil
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.server.Serve(l) // it ends with the listener
	}()
	t.Cleanup(func() {
		_ = s.server.Close()
		<-done
	})
	return s
}

// A certificate proves who a mail server is.
type certificate struct {
	// CA is a file with the certificate, in PEM. It signs itself.
	CA string

	key   string // a file, too
	roots *x509.CertPool
}

// certify makes a certificate for loopback, in files of the directory.
func certify(t testing.TB, dir string) certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	v := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, v, v, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	c := certificate{CA: filepath.Join(dir, "ca.pem"), key: filepath.Join(dir, "key.pem"), roots: x509.NewCertPool()}
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	c.roots.AppendCertsFromPEM(text)
	if err := os.WriteFile(c.CA, text, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(c.key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}), 0o600); err != nil {
		t.Fatal(err)
	}
	return c
}

// Roots are the authorities of those who trust the server.
func (c certificate) Roots() *x509.CertPool { return c.roots }

// Refuse sets which recipients are refused, and how.
func (s *MailServer) Refuse(refuse func(to string) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refuse = refuse
}

// Await waits until n mails have arrived, for as long as within, and returns them.
func (s *MailServer) Await(t testing.TB, n int, within time.Duration) []Mail {
	t.Helper()
	timeout := time.After(within)
	for {
		s.mu.Lock()
		mails, news := slices.Clone(s.mails), s.news
		s.mu.Unlock()
		if len(mails) >= n {
			return mails
		}
		select {
		case <-news:
		case <-timeout:
			t.Fatalf("waited in vain for mail %d; %d came: %+v", n, len(mails), mails)
		}
	}
}

// mailSession is one connection.
type mailSession struct {
	server     *MailServer
	conn       *smtp.Conn
	open       bool
	user       string
	from       string
	recipients []string
}

func (s *mailSession) AuthMechanisms() []string {
	if s.open {
		return nil
	}
	return []string{sasl.Plain}
}

func (s *mailSession) Auth(string) (sasl.Server, error) {
	return sasl.NewPlainServer(func(_, user, password string) error {
		if user != MailUser || password != MailPassword {
			return smtp.ErrAuthFailed
		}
		s.user = user
		return nil
	}), nil
}

func (s *mailSession) Mail(from string, _ *smtp.MailOptions) error {
	if !s.open && s.user == "" {
		return smtp.ErrAuthRequired
	}
	s.from = from
	return nil
}

func (s *mailSession) Rcpt(to string, _ *smtp.RcptOptions) error {
	s.server.mu.Lock()
	defer s.server.mu.Unlock()
	if err := s.server.refuse(to); err != nil {
		return err
	}
	s.recipients = append(s.recipients, to)
	return nil
}

func (s *mailSession) Data(r io.Reader) error {
	raw, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	m, err := mail.ReadMessage(bytes.NewReader(raw))
	if err != nil {
		return fmt.Errorf("unreadable mail: %w", err)
	}
	text, err := io.ReadAll(m.Body)
	if err != nil {
		return err
	}
	_, secure := s.conn.TLSConnectionState()
	s.server.mu.Lock()
	defer s.server.mu.Unlock()
	for _, to := range s.recipients {
		s.server.mails = append(s.server.mails, Mail{From: s.from, To: to, User: s.user, TLS: secure, Header: m.Header, Text: string(text)})
	}
	close(s.server.news)
	s.server.news = make(chan struct{})
	return nil
}

func (s *mailSession) Reset() { s.from, s.recipients = "", nil }

func (s *mailSession) Logout() error { return nil }
