package arch

import (
	"os/exec"
	"strings"
	"testing"
)

// The SQLite driver works with the version of modernc.org/libc that it was built
// with, and with no other.
func TestLibcIsTheDriversOwn(t *testing.T) {
	run := func(args ...string) string {
		out, err := exec.Command("go", args...).Output()
		if err != nil {
			t.Fatalf("go %s: %v", strings.Join(args, " "), err)
		}
		return strings.TrimSpace(string(out))
	}
	asked := run("mod", "edit", "-print", run("list", "-m", "-f", "{{.GoMod}}", "modernc.org/sqlite"))
	used := run("list", "-m", "-f", "{{.Version}}", "modernc.org/libc")
	if !strings.Contains(asked, "modernc.org/libc "+used+"\n") {
		t.Errorf("modernc.org/libc is %s, the driver asks for another: pin it in go.mod", used)
	}
}
