package seal

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Notice is how long a ring may go on sealing under a key that is no longer the first
// one of its key file.
const Notice = time.Second

// keyFile is the file that a ring follows.
type keyFile struct {
	path string
	due  atomic.Int64 // when Seal looks again, in nanoseconds since 1970

	mu    sync.Mutex
	seen  fs.FileInfo // of the file as it was read last
	read  time.Time   // when that was
	fault error       // why what was read last was not taken
}

// OpenKeyFile reads a key file into a ring that follows the file: a key that is put
// into it is known as soon as something sealed under it is met, and seals within
// [Notice] when it is the first one. A key that is taken out goes on opening until the
// process ends. What cannot be read, or changes a key under its id, changes nothing.
func OpenKeyFile(path string) (*Keyring, error) {
	r := &Keyring{file: &keyFile{path: path}}
	if err := r.look(); err != nil {
		return nil, err
	}
	r.file.due.Store(time.Now().Add(Notice).UnixNano())
	return r, nil
}

// Reread takes the keys that are in the key file now. A ring without a file stays as it
// is.
func (r *Keyring) Reread() error { return r.look() }

// lookSometimes looks at the file at most once in the time of Notice. A file that
// cannot be used is no reason not to seal.
func (r *Keyring) lookSometimes() {
	if r.file == nil {
		return
	}
	now, due := time.Now(), r.file.due.Load()
	if now.UnixNano() >= due && r.file.due.CompareAndSwap(due, now.Add(Notice).UnixNano()) {
		_ = r.look()
	}
}

// look reads the file if it is another one than it was, one caller at a time. A file that
// seems to be the same is read at most once a second: a network file system may be late
// in showing that it is not.
func (r *Keyring) look() error {
	f := r.file
	if f == nil {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	info, err := os.Stat(f.path)
	if err != nil {
		return fmt.Errorf("the key file cannot be read: %w", err)
	}
	same := f.seen != nil && os.SameFile(f.seen, info) && f.seen.ModTime().Equal(info.ModTime()) && f.seen.Size() == info.Size()
	if same && time.Since(f.read) < time.Second {
		return f.fault
	}
	text, err := os.ReadFile(f.path)
	if err != nil {
		return fmt.Errorf("the key file cannot be read: %w", err)
	}
	f.seen, f.read = info, time.Now()
	if f.fault = r.take(string(text)); f.fault != nil {
		f.fault = fmt.Errorf("%s: %w", f.path, f.fault)
	}
	return f.fault
}

// take puts the keys of a text into the ring. Those that it had before stay able to
// open.
func (r *Keyring) take(text string) error {
	keys, err := parseKeys(text)
	if err != nil {
		return err
	}
	if before := r.keys.Load(); before != nil {
		for id, k := range before.byID {
			switch now := keys.byID[id]; {
			case now == nil:
				keys.byID[id] = k
			case !slices.Equal(now.raw, k.raw):
				return fmt.Errorf("the key %q is another one than it was: a new key needs a new id", id)
			}
		}
	}
	r.keys.Store(keys)
	return nil
}

// NewKeyFile makes the text of a key file with one fresh key.
func NewKeyFile(id string) string {
	return "# OpenCPM sealing keys. Without them the data cannot be read: keep a copy apart from the backups.\n" + newLine(id)
}

func newLine(id string) string {
	return id + ":" + base64.StdEncoding.EncodeToString(NewKey().raw) + "\n"
}

// AddKey puts a fresh key into a key file: in front, where it seals, or at the end,
// where it only opens. The file is replaced in one step, which is on the disk when
// AddKey returns, and keeps its mode and owner; of two that add keys at the same time
// one waits.
func AddKey(path, id string, inFront bool) error {
	path, err := filepath.EvalSymlinks(path) // the link stays one
	if err != nil {
		return fmt.Errorf("the key file cannot be read: %w", err)
	}
	old, err := lockFile(path)
	if err != nil {
		return fmt.Errorf("the key file cannot be locked: %w", err)
	}
	defer old.Close()
	text, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("the key file cannot be read: %w", err)
	}
	if _, err := parseKeys(string(text)); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	added := withLine(string(text), newLine(id), inFront)
	if _, err := parseKeys(added); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if err := replaceFile(old, path, added); err != nil {
		return fmt.Errorf("the key file cannot be replaced, and is as it was: %w", err)
	}
	return SyncKeyFile(path)
}

// withLine adds the line of a key to a text in front of the other keys or at the end.
func withLine(text, added string, inFront bool) string {
	lines := strings.SplitAfter(text, "\n")
	if last := lines[len(lines)-1]; last != "" {
		lines[len(lines)-1] = last + "\n"
	}
	at := len(lines)
	if inFront {
		at = slices.IndexFunc(lines, func(line string) bool { return !isNoKey(strings.TrimSpace(line)) })
	}
	return strings.Join(slices.Insert(lines, at, added), "")
}

// lockFile opens a file and locks it against others that would replace it.
func lockFile(path string) (*os.File, error) {
	for {
		f, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
			return nil, errors.Join(err, f.Close())
		}
		mine, err := f.Stat()
		if err != nil {
			return nil, errors.Join(err, f.Close())
		}
		if there, err := os.Stat(path); err == nil && os.SameFile(mine, there) {
			return f, nil
		}
		f.Close() // somebody else has replaced it meanwhile
	}
}

// replaceFile puts a file with the text in the place of old, with its mode and owner.
func replaceFile(old *os.File, path, text string) (err error) {
	info, err := old.Stat()
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".keys-")
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	if owner, ok := info.Sys().(*syscall.Stat_t); ok {
		err = errors.Join(err, f.Chown(int(owner.Uid), int(owner.Gid)))
	}
	if err = errors.Join(err, f.Chmod(info.Mode().Perm()), f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}

// SyncKeyFile waits until a key file is on the disk as it is. Nothing should be sealed
// anew under a key of which that is not certain.
func SyncKeyFile(path string) error {
	path, err := filepath.EvalSymlinks(path)
	for _, p := range []string{path, filepath.Dir(path)} {
		if err == nil {
			err = syncPath(p)
		}
	}
	if err != nil {
		return fmt.Errorf("it is not certain that the key file is on the disk: %w", err)
	}
	return nil
}

func syncPath(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
