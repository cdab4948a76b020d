package storetest

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"
)

// asUser turns this test binary into a program that starts a throwaway server, names it and waits to be killed.
const asUser = "OPENCPM_STORETEST_AS_USER"

func TestMain(m *testing.M) {
	if os.Getenv(asUser) == "" {
		goleak.VerifyTestMain(m)
	}
	server, err := sharedServer()
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println(server.url)
	select {}
}

func TestPostgresIsEmptyAndDropped(t *testing.T) {
	ctx, outer := t.Context(), t
	var first string
	t.Run("two databases know nothing of each other", func(t *testing.T) {
		first = Postgres(t)
		// The connections outlive the databases: dropping must not wait for them.
		a, b := connect(outer, first), connect(outer, Postgres(t))
		if _, err := a.Exec(ctx, "CREATE TABLE citizen (id bigint)"); err != nil {
			t.Fatal(err)
		}
		for _, conn := range []*pgx.Conn{a, b} {
			var tables, want int
			err := conn.QueryRow(ctx, "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").Scan(&tables)
			if err != nil {
				t.Fatal(err)
			}
			if conn == a {
				want = 1
			}
			if tables != want {
				t.Errorf("found %d tables, want %d", tables, want)
			}
		}
	})
	if conn, err := pgx.Connect(ctx, first); err == nil {
		conn.Close(ctx)
		t.Error("the database outlived its test")
	}
}

func TestThrowawayServerEndsWithItsProcess(t *testing.T) {
	temp := t.TempDir()
	for _, dir := range []string{temp, filepath.Dir(temp)} { // the server's user must reach its directory
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	user := exec.Command(os.Args[0])
	user.Env = append(os.Environ(), asUser+"=1", postgresVariable+"=", "TMPDIR="+temp)
	output, err := user.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := user.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(output).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	server, err := url.Parse(strings.TrimSpace(line))
	if err != nil || server.Host == "" {
		t.Fatalf("the process said %q, want the URL of its server", line)
	}
	if conn, err := net.Dial("tcp", server.Host); err != nil {
		t.Errorf("the server does not listen: %v", err)
	} else {
		conn.Close()
	}

	if err := user.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = user.Wait() // it says "killed"
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		left, err := filepath.Glob(filepath.Join(temp, "*"))
		if err != nil {
			t.Fatal(err)
		}
		conn, err := net.Dial("tcp", server.Host)
		if err != nil && len(left) == 0 {
			return
		}
		if err == nil {
			conn.Close()
		}
		if time.Now().After(deadline) {
			t.Fatalf("10 s after the process was killed: connecting says %v, and there is still %q", err, left)
		}
	}
}

func TestMissingPostgresSaysHowToGetIt(t *testing.T) {
	user := exec.Command(os.Args[0], "-test.run=^TestPostgresIsEmptyAndDropped$")
	user.Env = []string{"PATH="} // not even a shell to be found
	output, err := user.CombinedOutput()
	if err == nil || !strings.Contains(string(output), "`make setup` installs it") {
		t.Errorf("without PostgreSQL the test ended with %v and said:\n%s", err, output)
	}
}

// connect opens a connection that is closed when the test ends.
func connect(t *testing.T, dsn string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}
