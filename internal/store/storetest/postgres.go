// Package storetest holds what tests of the store share: throwaway databases and the conformance suite that both
// dialects must pass. Only tests import it.
package storetest

import (
	"bufio"
	"context"
	"crypto/rand"
	_ "embed" // the script that runs a throwaway PostgreSQL
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// postgresVariable is the environment variable that names the PostgreSQL server to test against.
const postgresVariable = "OPENCPM_TEST_DATABASE_URL"

// Postgres creates an empty database on a throwaway PostgreSQL and returns its postgres:// URL. The database is dropped
// when the test ends, whoever is still connected to it.
//
// The server is the one OPENCPM_TEST_DATABASE_URL names; its user must be allowed to create databases. Without that
// variable the first call starts a server that all tests of the process share, and that goes away with the process
// however it ends. What is committed there survives the death of the program under test, not that of the machine.
//
// Where no PostgreSQL is to be had the test fails and says how to get one; it is never skipped.
func Postgres(tb testing.TB) string {
	tb.Helper()
	server, err := sharedServer()
	if err != nil {
		tb.Fatalf("%v\nThis test needs PostgreSQL: `make setup` installs it, or name a server in %s.", err, postgresVariable)
	}
	name := "opencpm_test_" + strings.ToLower(rand.Text())
	// template0 is empty whatever an administrator has put into template1.
	if err := execute(server.url, "CREATE DATABASE "+name+" TEMPLATE template0"); err != nil {
		tb.Fatalf("create a test database: %v", err)
	}
	tb.Cleanup(func() {
		if err := execute(server.url, "DROP DATABASE "+name+" WITH (FORCE)"); err != nil {
			tb.Errorf("drop the test database: %v", err)
		}
	})
	database := *server.url
	database.Path = "/" + name
	return database.String()
}

// execute runs one statement on a connection of its own, within 30 seconds.
func execute(server *url.URL, statement string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, server.String())
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, statement)
	if closing := conn.Close(ctx); err == nil {
		err = closing
	}
	return err
}

// A postgresServer is the server that the tests of this process use.
type postgresServer struct {
	url *url.URL
	// lifeline is the standard input of the script that runs a throwaway server. The operating system closes it when
	// this process ends, in whatever way, and the script then stops the server and removes its data. It is kept because
	// a collected os.File closes itself.
	lifeline *os.File
}

// sharedServer returns the server that is named by the environment, or else starts one, once.
var sharedServer = sync.OnceValues(func() (server postgresServer, err error) {
	address := os.Getenv(postgresVariable)
	if address == "" {
		if address, server.lifeline, err = startPostgres(); err != nil {
			return server, fmt.Errorf("start a throwaway PostgreSQL: %w", err)
		}
	}
	server.url, err = url.Parse(address)
	if err != nil || !strings.HasPrefix(server.url.Scheme, "postgres") {
		// The address may hold a password and url.Parse repeats it, so neither is shown.
		return server, fmt.Errorf("%s is not a postgres:// URL", postgresVariable)
	}
	return server, nil
})

//go:embed with-postgres.sh
var withPostgres string

// startPostgres starts a throwaway server that lives until lifeline is closed and returns its URL. It leaves no
// goroutine behind: the script writes to a plain pipe.
func startPostgres() (address string, lifeline *os.File, err error) {
	input, lifeline, err := os.Pipe()
	if err != nil {
		return "", nil, err
	}
	defer input.Close()
	answer, output, err := os.Pipe()
	if err != nil {
		lifeline.Close()
		return "", nil, err
	}
	defer answer.Close()

	// The command beside the server says where the server is, then lives until its input ends.
	command := `echo "$` + postgresVariable + `"; exec cat`
	script := exec.Command("sh", "-c", withPostgres, "with-postgres", "sh", "-c", command)
	script.Stdin, script.Stdout, script.Stderr = input, output, output
	err = script.Start()
	output.Close()
	if err != nil {
		lifeline.Close()
		return "", nil, err
	}

	said := bufio.NewReader(answer)
	line, err := said.ReadString('\n')
	if err == nil && strings.HasPrefix(line, "postgres://") {
		return strings.TrimSpace(line), lifeline, nil
	}
	lifeline.Close()
	rest, _ := io.ReadAll(said)
	return "", nil, fmt.Errorf("%s%s(%w)", line, rest, script.Wait())
}
