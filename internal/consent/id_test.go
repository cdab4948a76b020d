package consent

import "testing"

func TestIDsAreReadFromADatabase(t *testing.T) {
	want := ID{1, 2, 15: 16}
	id := ID{7}
	if err := id.Scan(want[:]); err != nil || id != want {
		t.Errorf("%v is read as %v: %v", want, id, err)
	}
	kept := make([]byte, len(want))
	if err := id.Scan(kept); err != nil || !id.IsZero() {
		t.Errorf("zeros are read as %v: %v", id, err)
	}
	if kept[0] = 1; !id.IsZero() {
		t.Error("an id is what the database does with its memory")
	}
	id = want
	if err := id.Scan(nil); err != nil || !id.IsZero() {
		t.Errorf("NULL is read as %v: %v", id, err)
	}
	for _, src := range []any{[]byte{}, []byte(nil), want[:15], append(want[:], 0), want.String(), int64(1)} {
		id = want
		if err := id.Scan(src); err == nil || id != want {
			t.Errorf("%T %v is read as %v", src, src, id)
		}
	}
}
