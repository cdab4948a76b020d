// Package observe is how a running opencpm can be watched: its log, its metrics, the ids of its requests and its
// health. Nothing here ever carries a payload, a token, an address, a path or a query.
package observe

import (
	"context"
	"fmt"
	"io"
	"log/slog"
)

// NewLogger returns a logger that writes entries of at least the level to w, as lines of JSON if format is "json", else
// as lines of text. An entry logged with the context of a request carries its id as request_id.
func NewLogger(w io.Writer, format string, level slog.Leveler) *slog.Logger {
	options := &slog.HandlerOptions{Level: level}
	if format == "json" {
		return slog.New(requestHandler{slog.NewJSONHandler(w, options)})
	}
	return slog.New(requestHandler{slog.NewTextHandler(w, options)})
}

// requestHandler adds the request id of the context to each entry.
type requestHandler struct{ slog.Handler }

func (h requestHandler) Handle(ctx context.Context, entry slog.Record) error {
	if id := RequestID(ctx); id != "" {
		entry = entry.Clone()
		entry.AddAttrs(slog.String("request_id", id))
	}
	return h.Handler.Handle(ctx, entry)
}

func (h requestHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return requestHandler{h.Handler.WithAttrs(attrs)}
}

func (h requestHandler) WithGroup(name string) slog.Handler {
	return requestHandler{h.Handler.WithGroup(name)}
}

// Redacted is a text that must not be shown, such as a token, an address or an external reference. Printed, logged or
// encoded it reads "[redacted]"; only string(r) gives the text itself. A struct must hold it in an exported field: what
// fmt finds in an unexported one it prints without asking.
type Redacted string

const redacted = "[redacted]"

// String hides the text.
func (Redacted) String() string { return redacted }

// Format hides the text under every verb, also under one that does not fit.
func (Redacted) Format(state fmt.State, _ rune) { _, _ = io.WriteString(state, redacted) }

// LogValue hides the text in logs.
func (Redacted) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText hides the text in JSON and every other encoding.
func (Redacted) MarshalText() ([]byte, error) { return []byte(redacted), nil }
