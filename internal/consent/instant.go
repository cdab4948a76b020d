package consent

import (
	"bytes"
	"fmt"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Instant is a moment in microseconds since 1970 UTC, the unit in which moments
// are compared and stored. Zero means "not given"; for a bound of a validity it
// means that the bound is open.
type Instant int64

// At converts a time.
func At(t time.Time) Instant {
	if t.IsZero() {
		return 0
	}
	return Instant(t.UnixMicro())
}

// Time converts to UTC; the zero Instant gives the zero time.
func (i Instant) Time() time.Time {
	if i == 0 {
		return time.Time{}
	}
	return time.UnixMicro(int64(i)).UTC()
}

// Add moves the instant by d.
func (i Instant) Add(d time.Duration) Instant { return i + Instant(d.Microseconds()) }

const wireTime = "2006-01-02T15:04:05.000Z"

// String is the published form: ISO 8601 in UTC with milliseconds.
func (i Instant) String() string {
	if i == 0 {
		return ""
	}
	return i.Time().Format(wireTime)
}

// Timestamp is an Instant that travels in JSON in the published form, and as null
// when it is not given. A bare Instant travels as microseconds: that is the form
// of the ledger, which loses nothing.
type Timestamp Instant

// MarshalJSON writes the published form or null.
func (t Timestamp) MarshalJSON() ([]byte, error) { return json.Marshal(t) }

// MarshalJSONTo writes what MarshalJSON writes.
func (t Timestamp) MarshalJSONTo(e *jsontext.Encoder) error {
	if t == 0 {
		return e.WriteToken(jsontext.Null)
	}
	b := append(e.AvailableBuffer(), '"')
	b = Instant(t).Time().AppendFormat(b, wireTime)
	return e.WriteValue(append(b, '"'))
}

// UnmarshalJSON reads what ParseInstant reads, or null.
func (t *Timestamp) UnmarshalJSON(b []byte) error {
	if bytes.Equal(b, []byte("null")) {
		*t = 0
		return nil
	}
	var s string
	if json.Unmarshal(b, &s) != nil {
		return errInstant
	}
	i, err := ParseInstant(s)
	*t = Timestamp(i)
	return err
}

var errInstant = fmt.Errorf("must be an ISO 8601 date-time with a zone, for example 2026-11-22T09:30:00Z")

// maxInstant is the last one that the published form can show.
var maxInstant = At(time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC))

// ParseInstant reads an ISO 8601 date-time with a zone (fractions down to
// microseconds are kept) or a bare date, which means its first moment in UTC.
func ParseInstant(s string) (Instant, error) {
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05.999999999Z0700", "2006-01-02T15:04Z07:00", time.DateOnly} {
		if t, err := time.Parse(layout, s); err == nil {
			if t.Year() < 1900 || t.Year() > 9998 {
				return 0, fmt.Errorf("must lie between the years 1900 and 9998")
			}
			at := At(t)
			if at == 0 {
				at = 1 // 1970-01-01T00:00:00Z: zero is taken for "not given"
			}
			return at, nil
		}
	}
	return 0, errInstant
}
