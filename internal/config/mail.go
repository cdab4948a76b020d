package config

import (
	"errors"
	"fmt"
	"log/slog"
	"net/mail"
	"net/netip"
	"net/url"
	"strings"
	"unicode/utf8"

	"github.com/alecthomas/kong"
)

// Mail says how e-mail is sent and who is told of trouble by it.
type Mail struct {
	SMTPURL       SMTPURL   `group:"Mail" name:"smtp-url" flag:"-" placeholder:"URL" help:"Mail server, for mail to operators and, with the sender that each application names, to citizens, as smtp://user:password@host:587, which must speak STARTTLS, or smtps://host:465. With ?tls=none mail goes unencrypted and without a password, to loopback and private addresses only."`
	MailFrom      Mailbox   `group:"Mail" placeholder:"ADDRESS" help:"Sender of mail to operators, as name@example.com or \"Name <name@example.com>\"; needed with operator-email alone. Mail to citizens is from the sender of their application."`
	OperatorEmail []Mailbox `group:"Mail" placeholder:"ADDRESS" help:"Who is told when the endpoint of a webhook has been failing for an hour, says that it is gone, or is back. May be repeated."`
}

// Check returns an error that says what to do where half of what mail needs is set.
func (m Mail) Check() error {
	switch {
	case len(m.OperatorEmail) > 0 && m.SMTPURL.IsZero():
		return errors.New("operator-email is set, but no mail server: set OPENCPM_SMTP_URL or OPENCPM_SMTP_URL_FILE")
	case len(m.OperatorEmail) > 0 && m.MailFrom == "":
		return errors.New("operator-email is set, but not who mail to operators is from: give --mail-from ADDRESS or set OPENCPM_MAIL_FROM")
	}
	return nil
}

// Mailbox is an e-mail address, perhaps with a name before it.
type Mailbox string

func parseMailbox(text string) (Mailbox, error) {
	a, err := mail.ParseAddress(text)
	if err != nil || strings.ContainsAny(text, "\r\n") {
		return "", errors.New("not an address")
	}
	if a.Name == "" {
		return Mailbox(a.Address), nil
	}
	return Mailbox(text), nil
}

// SMTPURL is the URL of a mail server. Printed, logged or encoded in any way it shows everything but its password. The
// zero value is no URL.
type SMTPURL struct {
	url Secret
}

var errSMTPURL = errors.New("must be a URL such as smtp://user:password@host:587 or smtps://host:465")

// ParseSMTPURL accepts smtp:// and smtps:// URLs. No error repeats any part of the URL.
func ParseSMTPURL(text string) (SMTPURL, error) {
	u, err := url.Parse(text)
	if err != nil && strings.Contains(text, "://") {
		return SMTPURL{}, fmt.Errorf("%w; in a user name or a password the characters / ? # @ %% must be written as %%2F %%3F %%23 %%40 %%25", errSMTPURL)
	}
	switch {
	case err != nil || u.Scheme != "smtp" && u.Scheme != "smtps" || u.Hostname() == "" || u.Path != "" && u.Path != "/" || u.Fragment != "" || !utf8.ValidString(text):
		return SMTPURL{}, errSMTPURL
	case u.User != nil && !hasPassword(u.User):
		return SMTPURL{}, errors.New("has a user name without a password")
	case u.RawQuery == "" && !u.ForceQuery:
		return SMTPURL{NewSecret(text)}, nil
	case u.RawQuery != "tls=none" || u.Scheme != "smtp":
		return SMTPURL{}, errors.New("takes no parameter but ?tls=none, and that with smtp:// only")
	case u.User != nil:
		return SMTPURL{}, errors.New("takes no user name and password with ?tls=none: they would be readable on the way")
	}
	if address, err := netip.ParseAddr(u.Hostname()); err == nil && !address.IsLoopback() && !address.IsPrivate() {
		return SMTPURL{}, errors.New("must not have ?tls=none with a public address")
	}
	return SMTPURL{NewSecret(text)}, nil
}

func hasPassword(user *url.Userinfo) bool {
	password, _ := user.Password()
	return user.Username() != "" && password != ""
}

// URL returns the URL with its password, nil where none is set.
func (u SMTPURL) URL() *url.URL {
	if u.IsZero() {
		return nil
	}
	parsed, err := url.Parse(u.Reveal())
	if err != nil {
		return nil // ParseSMTPURL has let none through
	}
	return parsed
}

// Reveal returns the URL with its password.
func (u SMTPURL) Reveal() string { return u.url.Reveal() }

// IsZero reports whether no URL is set.
func (u SMTPURL) IsZero() bool { return u.url.IsZero() }

// String returns the URL with a mask for its password.
func (u SMTPURL) String() string {
	parsed := u.URL()
	if parsed == nil {
		return ""
	}
	if parsed.User == nil {
		return parsed.String()
	}
	user := parsed.User.Username()
	parsed.User = nil
	return strings.Replace(parsed.String(), "://", "://"+url.User(user).String()+":"+mask+"@", 1)
}

// GoString masks the password under %#v.
func (u SMTPURL) GoString() string { return u.String() }

// LogValue masks the password in logs.
func (u SMTPURL) LogValue() slog.Value { return slog.StringValue(u.String()) }

// MarshalText masks the password in JSON, YAML and every other encoding.
func (u SMTPURL) MarshalText() ([]byte, error) { return []byte(u.String()), nil }

// Decode takes the URL from the environment or a file. Kong calls it.
func (u *SMTPURL) Decode(ctx *kong.DecodeContext) error {
	text, err := popText(ctx)
	if err != nil {
		return err
	}
	*u, err = ParseSMTPURL(text)
	return err
}
