// Package mail composes e-mails and hands them to a mail server.
package mail

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	netmail "net/mail"
	"net/netip"
	"net/textproto"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unicode"

	gomail "github.com/wneessen/go-mail"

	"github.com/opencpm/opencpm/internal/consent"
)

// Message is an e-mail in plain text. It is the same for every recipient.
type Message struct {
	Subject string
	Text    string
}

// Server is a mail server and how to speak with it.
type Server struct {
	url   *url.URL
	from  string
	roots *x509.CertPool // nil: those of the system
}

// timeout is how long handing mail to the server may take altogether.
const timeout = 30 * time.Second

// NewServer takes the URL of a mail server and the sender of all mail. By smtp:// the
// server must speak STARTTLS, by smtps:// TLS from the start; with ?tls=none nothing is
// encrypted, and the server must be at a loopback or private address.
func NewServer(u *url.URL, from string) *Server { return &Server{url: u, from: from} }

// Send hands a message to the server, once for each recipient, so that one whose address
// is refused costs the others nothing. It gives how many the server took, and an error
// where those are not all. No error holds an address or what the server wrote.
func (s *Server) Send(ctx context.Context, m Message, to []string) (taken int, err error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	client, err := s.client(ctx)
	if err != nil {
		return 0, err
	}
	list := make([]*gomail.Msg, len(to))
	for i, recipient := range to {
		if list[i], err = s.compose(m, recipient); err != nil {
			return 0, err
		}
	}
	err = client.DialAndSendWithContext(ctx, list...)
	for _, v := range list {
		if v.IsDelivered() {
			taken++
		}
	}
	switch {
	case taken == len(to): // that the server did not say goodbye is no matter
		return taken, nil
	case ctx.Err() != nil:
		return taken, fmt.Errorf("the mail server did not take the mail in time: %w", ctx.Err())
	}
	return taken, explain(err)
}

func (s *Server) compose(m Message, to string) (*gomail.Msg, error) {
	v := gomail.NewMsg(gomail.WithNoDefaultUserAgent())
	if err := errors.Join(v.From(s.from), v.To(to)); err != nil {
		return nil, errors.New("the sender or a recipient of the mail is no address")
	}
	v.Subject(oneLine(m.Subject))
	v.SetDate()
	v.SetMessageID()
	v.SetGenHeader("Auto-Submitted", "auto-generated") // RFC 3834: no one's holiday notice answers
	v.SetBodyString(gomail.TypeTextPlain, m.Text)
	return v, nil
}

// SendCitizen hands a mail to a citizen to the server. refused says that the server will
// never take it for this address. No error holds an address or what the server wrote.
func (s *Server) SendCitizen(ctx context.Context, m consent.CitizenEmail) (refused bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	v, err := composeCitizen(m)
	if err != nil {
		return false, err
	}
	client, err := s.client(ctx)
	if err != nil {
		return false, err
	}
	err = client.DialAndSendWithContext(ctx, v)
	switch {
	case v.IsDelivered(): // that the server did not say goodbye is no matter
		return false, nil
	case ctx.Err() != nil:
		return false, fmt.Errorf("the mail server did not take the mail in time: %w", ctx.Err())
	}
	return refusesAddress(err), explain(err)
}

// refusesAddress reports whether a server said for good that it takes nothing for the
// address. That it takes nothing from us, for want of a password or by a rule that may be
// meant for everybody (530, 5.7.x), is for its operator to mend: the mail can wait.
func refusesAddress(err error) bool {
	answer, ok := errors.AsType[*gomail.SendError](err)
	return ok && answer.Reason == gomail.ErrSMTPRcptTo && answer.ErrorCode() >= 500 && answer.ErrorCode() != 530 && !strings.HasPrefix(answer.EnhancedStatusCode(), "5.7.")
}

// composeCitizen gives a mail its form: both bodies as alternatives. Its id is that of the
// mail, the same in every attempt, by which a mailbox can tell that it came twice.
func composeCitizen(m consent.CitizenEmail) (*gomail.Msg, error) {
	v := gomail.NewMsg(gomail.WithNoDefaultUserAgent())
	from, err := mailbox(string(m.Sender.Name), string(m.Sender.Address))
	to, wrong := mailbox(string(m.Recipient.Name), m.Recipient.Address)
	if err = errors.Join(err, wrong); err != nil {
		return nil, err
	}
	v.FromMailAddress(from)
	v.ToMailAddress(to)
	if m.ReplyTo != "" {
		reply, err := mailbox("", string(m.ReplyTo))
		if err != nil {
			return nil, err
		}
		v.ReplyToMailAddress(reply)
	}
	v.Subject(oneLine(m.Subject))
	v.SetDateWithValue(consent.Instant(m.SentAt).Time())
	v.SetMessageIDWithValue(m.EventID.String() + from.Address[strings.LastIndexByte(from.Address, '@'):])
	for name, value := range m.Headers {
		v.SetGenHeader(gomail.Header(name), oneLine(value))
	}
	v.SetBodyString(gomail.TypeTextPlain, m.Text)
	v.AddAlternativeString(gomail.TypeTextHTML, m.HTML)
	return v, nil
}

// mailbox is an address with the name of whose it is.
func mailbox(name, address string) (*netmail.Address, error) {
	if a, err := netmail.ParseAddress(address); err != nil || a.Address != address {
		return nil, errors.New("the sender or the recipient of the mail is no address")
	}
	return &netmail.Address{Name: oneLine(name), Address: address}, nil
}

// client makes the client of one connection, which ends with ctx, whatever the server
// does or leaves undone.
func (s *Server) client(ctx context.Context) (*gomail.Client, error) {
	port, policy := 587, gomail.TLSMandatory
	switch {
	case s.url.Scheme == "smtps": // STARTTLS is for a server that offers it once more
		port, policy = 465, gomail.TLSOpportunistic
	case s.plain():
		policy = gomail.NoTLS
	}
	if given := s.url.Port(); given != "" {
		number, err := strconv.ParseUint(given, 10, 16)
		if err != nil {
			return nil, errors.New("the port of the mail server is no port")
		}
		port = int(number)
	}
	trust := s.trust()
	options := []gomail.Option{
		gomail.WithPort(port), gomail.WithTLSPolicy(policy), gomail.WithTLSConfig(trust), gomail.WithTimeout(timeout),
		gomail.WithDialContextFunc(func(dialling context.Context, network, address string) (net.Conn, error) {
			conn, err := s.dial(dialling, network, address)
			if err == nil {
				context.AfterFunc(ctx, func() { _ = conn.Close() })
			}
			return conn, err
		}),
	}
	if s.url.User != nil {
		password, _ := s.url.User.Password()
		options = append(options, gomail.WithSMTPAuth(gomail.SMTPAuthAutoDiscover), gomail.WithUsername(s.url.User.Username()), gomail.WithPassword(password))
	}
	client, err := gomail.NewClient(s.url.Hostname(), options...)
	if err != nil {
		return nil, explain(err)
	}
	return client, nil
}

func (s *Server) plain() bool { return s.url.RawQuery != "" }

func (s *Server) trust() *tls.Config {
	return &tls.Config{ServerName: s.url.Hostname(), MinVersion: tls.VersionTLS12, RootCAs: s.roots}
}

func (s *Server) dial(ctx context.Context, network, address string) (net.Conn, error) {
	dialer := &net.Dialer{}
	if s.plain() {
		dialer.Control = nearby
	}
	if s.url.Scheme == "smtps" {
		return (&tls.Dialer{NetDialer: dialer, Config: s.trust()}).DialContext(ctx, network, address)
	}
	return dialer.DialContext(ctx, network, address)
}

var errFar = errors.New("mail goes unencrypted to loopback and private addresses only")

// nearby refuses addresses outside the own network, on the socket that connects.
func nearby(_, address string, _ syscall.RawConn) error {
	to, err := netip.ParseAddrPort(address)
	if err != nil {
		return err
	}
	if ip := to.Addr().Unmap(); !ip.IsLoopback() && !ip.IsPrivate() && !ip.IsLinkLocalUnicast() {
		return errFar
	}
	return nil
}

var errNoTLS = errors.New("the mail server offers no STARTTLS; use smtps://, or ?tls=none for a relay on loopback or a private address")

// explain says what went wrong without what the server wrote, which may repeat an
// address.
func explain(err error) error {
	if refused, ok := errors.AsType[*gomail.SendError](err); ok {
		if refused.ErrorCode() == 0 {
			return fmt.Errorf("the mail could not be handed to the mail server: %s", refused.Reason)
		}
		return fmt.Errorf("the mail server answered %d: %s", refused.ErrorCode(), refused.Reason)
	}
	if answer, ok := errors.AsType[*textproto.Error](err); ok {
		return fmt.Errorf("the mail server answered %d before it was given any mail", answer.Code)
	}
	if _, ok := errors.AsType[textproto.ProtocolError](err); ok {
		return errors.New("the mail server does not speak SMTP")
	}
	if strings.Contains(err.Error(), "does not support STARTTLS") { // which the library has no name for
		return errNoTLS
	}
	return fmt.Errorf("the mail server cannot be spoken to: %w", err)
}

// oneLine makes a text fit for one line: what could end the line, hide, or turn the
// order of letters becomes a space.
func oneLine(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, "\uFFFD"))
}
