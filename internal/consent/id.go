package consent

import (
	"encoding/binary"
	"fmt"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/uuid"
)

// Text is a string that travels as null when it is empty: the published payloads
// carry every key always.
type Text string

// MarshalJSON writes the string, or null when it is empty.
func (t Text) MarshalJSON() ([]byte, error) { return json.Marshal(t) }

// MarshalJSONTo writes what MarshalJSON writes.
func (t Text) MarshalJSONTo(e *jsontext.Encoder) error {
	if t == "" {
		return e.WriteToken(jsontext.Null)
	}
	return e.WriteToken(jsontext.String(string(t)))
}

// ID names a record: 16 bytes, a version 7 UUID, so that ids sort by the time at
// which they were made. It travels as the usual text form.
type ID [16]byte

// ParseID reads the text form.
func ParseID(s string) (ID, error) {
	if len(s) != 36 {
		return ID{}, fmt.Errorf("must be an id such as 018f6f2e-5a3c-7c1d-9b1e-2f6a7d8c9e01")
	}
	u, err := uuid.Parse(s)
	return ID(u), err
}

// IsZero reports whether the id names nothing.
func (id ID) IsZero() bool { return id == ID{} }

// String is the text form, empty for the zero id.
func (id ID) String() string {
	if id.IsZero() {
		return ""
	}
	return uuid.UUID(id).String()
}

// MarshalJSON writes the text form, or null for the zero id.
func (id ID) MarshalJSON() ([]byte, error) { return json.Marshal(id) }

// MarshalJSONTo writes what MarshalJSON writes.
func (id ID) MarshalJSONTo(e *jsontext.Encoder) error {
	if id.IsZero() {
		return e.WriteToken(jsontext.Null)
	}
	return e.WriteToken(jsontext.String(id.String()))
}

// UnmarshalJSON reads the text form or null.
func (id *ID) UnmarshalJSON(b []byte) error { return json.Unmarshal(b, id) }

// UnmarshalJSONFrom reads what UnmarshalJSON reads.
func (id *ID) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	t, err := d.ReadToken()
	switch {
	case err != nil:
		return err
	case t.Kind() == 'n':
		*id = ID{}
		return nil
	}
	*id, err = ParseID(t.String())
	return err
}

// Scan reads the 16 bytes by which a database keeps it; NULL is the zero id.
func (id *ID) Scan(src any) error {
	switch b, isBytes := src.([]byte); {
	case src == nil:
		*id = ID{}
	case isBytes && len(b) == len(id):
		copy(id[:], b)
	default:
		return fmt.Errorf("an id is kept as %d bytes, not as this %T", len(id), src)
	}
	return nil
}

// EventID names one version of one citizen's state for one subscription: every message
// that carries it has the same id, so that receivers can drop duplicates.
func EventID(subscription, citizen ID, version int64) ID {
	name := binary.BigEndian.AppendUint64(citizen[:], uint64(version))
	return ID(uuid.NewSHA1(uuid.UUID(subscription), name))
}
