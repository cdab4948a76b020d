package deliver

import (
	"testing"

	"github.com/opencpm/opencpm/internal/store"
)

// TestClaimLooksPastOtherReads has one sender begin to read its due lanes after a message was settled, while another
// sender has been reading since before: what the first one reads is up to date.
func TestClaimLooksPastOtherReads(t *testing.T) {
	e := New(nil, Options{})
	lane := store.Lane{Subscription: 1, Citizen: 7}
	read := func() ([]store.Lane, error) { return []store.Lane{lane}, nil }
	claim := func(read func() ([]store.Lane, error)) int {
		t.Helper()
		claimed, err := e.claim(read)
		if err != nil {
			t.Fatal(err)
		}
		return len(claimed)
	}

	if n := claim(read); n != 1 {
		t.Fatalf("%d lanes claimed, want the one that is due", n)
	}
	if n := claim(read); n != 0 {
		t.Error("a lane with a message under way was claimed once more")
	}
	settledWhile := func() ([]store.Lane, error) {
		e.free(lane)
		return read()
	}
	if n := claim(settledWhile); n != 0 {
		t.Error("a lane was claimed as it was read before its message was settled")
	}
	if n := claim(read); n != 1 {
		t.Error("a lane was not claimed although nothing happened to it since")
	}
	claim(func() ([]store.Lane, error) { // the other sender
		e.free(lane)
		if n := claim(read); n != 1 {
			t.Error("a lane was not claimed because another sender has been reading for longer: nobody would look again")
		}
		return nil, nil
	})
}
