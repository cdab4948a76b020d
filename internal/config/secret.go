package config

import (
	"errors"
	"log/slog"
	"net/url"
	"strings"
	"unicode/utf8"

	"github.com/alecthomas/kong"
)

// mask stands for what must not be shown.
const mask = "••••"

// Secret is a text that is never shown: printed, logged or encoded in any way it reads as a mask, with its last four
// characters only where it has at least sixteen. The zero value is the empty secret.
type Secret struct {
	// A pointer, because fmt prints the fields of an unexported field without asking it how it wants to be printed.
	text *string
}

// NewSecret wraps the text.
func NewSecret(text string) Secret { return Secret{&text} }

// Reveal returns the text itself.
func (s Secret) Reveal() string {
	if s.text == nil {
		return ""
	}
	return *s.text
}

// IsZero reports whether the secret is empty.
func (s Secret) IsZero() bool { return s.Reveal() == "" }

// String returns the mask, or "" for the empty secret.
func (s Secret) String() string {
	text := []rune(s.Reveal())
	switch n := len(text); {
	case n == 0:
		return ""
	case n < 16:
		return mask
	default:
		return mask + string(text[n-4:])
	}
}

// GoString masks the secret under %#v.
func (s Secret) GoString() string { return s.String() }

// LogValue masks the secret in logs.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalText masks the secret in JSON, YAML and every other encoding.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Decode takes the secret from the command line, the environment or a file. Kong calls it.
func (s *Secret) Decode(ctx *kong.DecodeContext) error {
	text, err := popText(ctx)
	if err != nil {
		return err
	}
	*s = NewSecret(text)
	return nil
}

// DatabaseURL is the URL of a PostgreSQL database. Printed, logged or encoded in any way it shows everything but its
// passwords. The zero value is no URL.
type DatabaseURL struct {
	url Secret
}

// ParseDatabaseURL accepts postgres:// and postgresql:// URLs, also with several hosts. It is strict about what could
// hide where a password ends; no error repeats any part of the URL.
func ParseDatabaseURL(text string) (DatabaseURL, error) {
	scheme, rest, ok := strings.Cut(text, "://")
	if !ok || scheme != "postgres" && scheme != "postgresql" {
		return DatabaseURL{}, errors.New("must be a URL such as postgres://user:password@host:5432/name")
	}
	authority, tail := cutAuthority(rest)
	if strings.Contains(tail, "@") {
		return DatabaseURL{}, errors.New("has an @ behind its host: in a user name or a password the characters / ? # @ must be written as %2F %3F %23 %40")
	}
	if !utf8.ValidString(text) || strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r == 0x7f }) {
		return DatabaseURL{}, errors.New("must not contain spaces or control characters")
	}
	if authority == "" && tail == "" {
		return DatabaseURL{}, errors.New("names no host and no database: write postgres://user:password@host:5432/name")
	}
	return DatabaseURL{NewSecret(text)}, nil
}

// cutAuthority splits what follows :// into user, password and hosts, and the path, query and fragment behind them.
func cutAuthority(rest string) (authority, tail string) {
	if i := strings.IndexAny(rest, "/?#"); i >= 0 {
		return rest[:i], rest[i:]
	}
	return rest, ""
}

// Reveal returns the URL with its passwords.
func (u DatabaseURL) Reveal() string { return u.url.Reveal() }

// IsZero reports whether no URL is set.
func (u DatabaseURL) IsZero() bool { return u.url.IsZero() }

// String returns the URL with a mask for every password: that of the user and those among the parameters.
func (u DatabaseURL) String() string {
	scheme, rest, ok := strings.Cut(u.Reveal(), "://")
	if !ok {
		return ""
	}
	authority, tail := cutAuthority(rest)
	if at := strings.LastIndexByte(authority, '@'); at >= 0 {
		if user, _, ok := strings.Cut(authority[:at], ":"); ok {
			authority = user + ":" + mask + authority[at:]
		}
	}
	if path, query, ok := strings.Cut(tail, "?"); ok {
		parameters := strings.Split(query, "&")
		for i, parameter := range parameters {
			name, _, _ := strings.Cut(parameter, "=")
			// A name that cannot be read may be a password's.
			if plain, err := url.QueryUnescape(name); err != nil || strings.Contains(strings.ToLower(plain), "password") {
				parameters[i] = name + "=" + mask
			}
		}
		tail = path + "?" + strings.Join(parameters, "&")
	}
	return scheme + "://" + authority + tail
}

// GoString masks the passwords under %#v.
func (u DatabaseURL) GoString() string { return u.String() }

// LogValue masks the passwords in logs.
func (u DatabaseURL) LogValue() slog.Value { return slog.StringValue(u.String()) }

// MarshalText masks the passwords in JSON, YAML and every other encoding.
func (u DatabaseURL) MarshalText() ([]byte, error) { return []byte(u.String()), nil }

// Decode takes the URL from the command line, the environment or a file. Kong calls it.
func (u *DatabaseURL) Decode(ctx *kong.DecodeContext) error {
	text, err := popText(ctx)
	if err != nil {
		return err
	}
	*u, err = ParseDatabaseURL(text)
	return err
}
