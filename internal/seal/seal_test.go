package seal_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencpm/opencpm/internal/seal"
)

// newFile makes a key file with the keys and gives its path.
func newFile(t *testing.T, ids ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "keys")
	write(t, path, seal.NewKeyFile(ids[0]))
	for _, id := range ids[1:] {
		add(t, path, id, false)
	}
	return path
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func add(t *testing.T, path, id string, inFront bool) {
	t.Helper()
	if err := seal.AddKey(path, id, inFront); err != nil {
		t.Fatal(err)
	}
}

func open(t *testing.T, path string) *seal.Keyring {
	t.Helper()
	r, err := seal.OpenKeyFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func opens(r *seal.Keyring, sealed []byte) error {
	plain, err := r.Open("place", sealed)
	if err == nil && string(plain) != "secret" {
		return fmt.Errorf("opened to %q", plain)
	}
	return err
}

func TestFirstKeySealsAndAllOpen(t *testing.T) {
	path := newFile(t, "old")
	before := open(t, path).Seal("place", []byte("secret"))
	add(t, path, "new", true)
	r := open(t, path)
	after := r.Seal("place", []byte("secret"))
	if seal.KeyOf(before) != "old" || seal.KeyOf(after) != "new" || r.Sealing() != "new" || !slices.Equal(r.IDs(), []string{"new", "old"}) {
		t.Fatalf("sealed under %q, then %q; the ring has %q", seal.KeyOf(before), seal.KeyOf(after), r.IDs())
	}
	if err := errors.Join(opens(r, before), opens(r, after)); err != nil {
		t.Fatal(err)
	}
	again, err := r.Reseal("place", before)
	if err != nil || seal.KeyOf(again) != "new" || opens(r, again) != nil {
		t.Fatalf("sealed anew under %q, %v", seal.KeyOf(again), err)
	}
	if _, err := r.Open("elsewhere", again); !errors.Is(err, seal.ErrKey) {
		t.Fatalf("opened in another place: %v", err)
	}
	if _, err := r.Reseal("elsewhere", before); !errors.Is(err, seal.ErrKey) {
		t.Fatalf("sealed anew in another place: %v", err)
	}
	for _, broken := range [][]byte{nil, {0}, {3, 'o'}, before[:4], append([]byte{65}, make([]byte, 100)...), []byte("no seal at all")} {
		if err := opens(r, broken); !errors.Is(err, seal.ErrKey) {
			t.Errorf("%q opened: %v", broken, err)
		}
	}
}

func TestKeyThatIsNotKnownIsLookedForInTheFile(t *testing.T) {
	path := newFile(t, "old")
	running := open(t, path)
	add(t, path, "new", true)
	sealed := open(t, path).Seal("place", []byte("secret"))
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			if err := opens(running, sealed); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if id := seal.KeyOf(running.Seal("place", nil)); id != "new" {
		t.Fatalf("after it met the new key the ring seals under %q", id)
	}
}

func TestRingSealsUnderTheNewKeyInTime(t *testing.T) {
	path := newFile(t, "old")
	synctest.Test(t, func(t *testing.T) {
		running := open(t, path)
		add(t, path, "new", true)
		time.Sleep(seal.Notice)
		if id := seal.KeyOf(running.Seal("place", nil)); id != "new" {
			t.Fatalf("%v after the change of the file the ring seals under %q", seal.Notice, id)
		}
		// A key at the end seals nothing.
		add(t, path, "spare", false)
		time.Sleep(seal.Notice)
		if id := seal.KeyOf(running.Seal("place", nil)); id != "new" || !slices.Equal(running.IDs(), []string{"new", "old", "spare"}) {
			t.Fatalf("the ring seals under %q and has %q", id, running.IDs())
		}
	})
}

func TestFileThatIsNoUseChangesNothing(t *testing.T) {
	path := newFile(t, "old")
	elsewhere := open(t, newFile(t, "new")).Seal("place", []byte("secret"))
	for name, text := range map[string]string{
		"gone": "", "empty": "# nothing\n", "half": "old:AAAA\n", "another key under the id": seal.NewKeyFile("old"),
	} {
		t.Run(name, func(t *testing.T) {
			path := newFile(t, "old")
			r := open(t, path)
			sealed := r.Seal("place", []byte("secret"))
			if write(t, path, text); name == "gone" {
				if err := os.Remove(path); err != nil {
					t.Fatal(err)
				}
			}
			err := opens(r, elsewhere)
			if !errors.Is(err, seal.ErrKey) || !strings.Contains(err.Error(), path) {
				t.Errorf("a key that is nowhere: %v", err)
			}
			for _, line := range strings.Fields(text) {
				if key, ok := strings.CutPrefix(line, "old:"); ok && strings.Contains(err.Error(), key) {
					t.Errorf("the error tells the key: %v", err)
				}
			}
			if err := opens(r, sealed); err != nil || seal.KeyOf(r.Seal("place", nil)) != "old" {
				t.Errorf("what was sealed before: %v", err)
			}
		})
	}
	// A key that was taken out opens until the process ends.
	r := open(t, path)
	sealed := r.Seal("place", []byte("secret"))
	write(t, path, seal.NewKeyFile("other"))
	if err := opens(r, elsewhere); !errors.Is(err, seal.ErrKey) {
		t.Fatal(err)
	}
	if err := opens(r, sealed); err != nil || !slices.Equal(r.IDs(), []string{"other"}) {
		t.Fatalf("after its key was taken out: %v; the ring seals with %q", err, r.IDs())
	}
	if err := opens(open(t, path), sealed); !errors.Is(err, seal.ErrKey) {
		t.Fatalf("a new process still has the key: %v", err)
	}
}

func TestAddKeyReplacesTheFile(t *testing.T) {
	path := newFile(t, "old")
	text := strings.TrimSuffix(read(t, path), "\n") // as some editors leave it
	write(t, path, text)
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	before, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer before.Close()
	add(t, link, "new", true)
	add(t, link, "spare", false)
	lines := strings.Split(read(t, path), "\n")
	comment, old, _ := strings.Cut(text, "\n")
	if len(lines) != 5 || lines[0] != comment || !strings.HasPrefix(lines[1], "new:") || lines[2] != old || !strings.HasPrefix(lines[3], "spare:") {
		t.Fatalf("%d lines, the first %q", len(lines), lines[0])
	}
	// Whoever had the file open still reads what it was: nothing was written over it.
	still := make([]byte, len(text)+1)
	if n, _ := before.Read(still); string(still[:n]) != text {
		t.Error("the file was written over, not replaced")
	}
	if info, err := os.Lstat(path); err != nil || info.Mode() != 0o640 {
		t.Errorf("the file is %v, %v", info.Mode(), err)
	}
	if info, err := os.Lstat(link); err != nil || info.Mode().Type() != fs.ModeSymlink {
		t.Errorf("the link is %v, %v", info.Mode(), err)
	}
	whole := read(t, path)
	if err := seal.AddKey(path, "old", true); err == nil || read(t, path) != whole {
		t.Errorf("an id was taken twice: %v", err)
	}
	if err := seal.AddKey(path, strings.Repeat("x", 65), true); err == nil || read(t, path) != whole {
		t.Errorf("an id of 65 bytes was taken: %v", err)
	}
	if entries, err := os.ReadDir(filepath.Dir(path)); err != nil || len(entries) != 1 {
		t.Errorf("beside the file is left %v, %v", entries, err)
	}
}

func TestAddKeyByManyLosesNone(t *testing.T) {
	path := newFile(t, "old")
	var all sync.WaitGroup
	for i := range 20 {
		all.Go(func() {
			if err := seal.AddKey(path, fmt.Sprint("key-", i), i%2 == 0); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if ids := open(t, path).IDs(); len(ids) != 21 {
		t.Fatalf("the file has %q", ids)
	}
}

func FuzzParseKeyring(f *testing.F) {
	f.Add(seal.NewKeyFile("k1"))
	f.Add("k1:" + strings.Repeat("A", 43) + "=\r\n\n# no key\n k2 : " + strings.Repeat("B", 43) + "=")
	f.Fuzz(func(t *testing.T, text string) {
		r, err := seal.ParseKeyring(text)
		if err != nil {
			return
		}
		sealed := r.Seal("place", []byte("secret"))
		if seal.KeyOf(sealed) != r.IDs()[0] || opens(r, sealed) != nil {
			t.Fatalf("of %q the ring seals under %q", text, seal.KeyOf(sealed))
		}
	})
}
