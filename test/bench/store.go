package main

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"database/sql"
	_ "embed" // the catalogue
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // the drivers, to look at what the product has written
	_ "modernc.org/sqlite"

	"github.com/opencpm/opencpm/client"
)

// The kinds of databases.
const (
	sqlite   = "SQLite"
	postgres = "PostgreSQL"
)

// store is one database of the product with an application in it.
type store struct {
	b      *bench
	kind   string
	source string // what database/sql opens
	flags  []string
	key    string // of the API

	citizens     int // seeded so far: their references end in 1 to citizens
	subscription string
}

// application is the application of every store.
const application = "northwind"

//go:embed catalogue.yaml
var catalogue []byte

// newStore makes an empty store with the application.
func (b *bench) newStore(ctx context.Context, kind, name string) (*store, error) {
	s := &store{b: b, kind: kind}
	dir := filepath.Join(b.dir, name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	if kind == sqlite {
		s.flags, s.source = []string{"--data", dir}, sqliteSource(filepath.Join(dir, "opencpm.db"))
	} else if err := s.createPostgres(ctx, dir); err != nil {
		return nil, err
	}
	document := filepath.Join(dir, "catalogue.yaml")
	if err := os.WriteFile(document, catalogue, 0o600); err != nil {
		return nil, err
	}
	for _, args := range [][]string{
		{"application", "create", "--id", application, "--name", "Northwind"},
		{"catalog", "import", "--application", application, document},
	} {
		if _, err := s.command(ctx, args...); err != nil {
			return nil, err
		}
	}
	out, err := s.command(ctx, "apikey", "create", "--application", application, "--json")
	if err != nil {
		return nil, err
	}
	var made struct {
		APIKey string `json:"apiKey"`
	}
	err = json.Unmarshal(out, &made)
	s.key = made.APIKey
	return s, err
}

// sqliteSource names a SQLite file as the product opens it for writing.
func sqliteSource(path string) string {
	pragmas := url.Values{"_pragma": {
		"busy_timeout(10000)", "journal_mode(WAL)", "synchronous(FULL)", "foreign_keys(ON)",
		"temp_store(MEMORY)", "cache_size(-16000)", "wal_autocheckpoint(4000)",
	}}
	return "file:" + path + "?" + pragmas.Encode()
}

// createPostgres makes a database on the server of the run.
func (s *store) createPostgres(ctx context.Context, dir string) error {
	keys := filepath.Join(dir, "keys")
	key := make([]byte, 32)
	_, _ = rand.Read(key) // it never fails
	if err := os.WriteFile(keys, []byte("k1:"+base64.StdEncoding.EncodeToString(key)+"\n"), 0o600); err != nil {
		return err
	}
	var err error
	s.source, err = s.b.createDatabase(ctx, "")
	s.flags = []string{"--database-url", s.source, "--key-file", keys}
	return err
}

// createDatabase makes a database on the PostgreSQL server, as a copy of another one where that is named, and gives its
// URL.
func (b *bench) createDatabase(ctx context.Context, template string) (string, error) {
	server, err := url.Parse(b.postgres)
	if err != nil {
		return "", errors.New("the URL of the PostgreSQL server cannot be read")
	}
	db, err := sql.Open("pgx", b.postgres)
	if err != nil {
		return "", err
	}
	defer db.Close()
	name := "opencpm_bench_" + strings.ToLower(rand.Text())
	if _, err := db.ExecContext(ctx, "CREATE DATABASE "+name+" TEMPLATE "+cmp.Or(template, "template0")+" STRATEGY file_copy"); err != nil {
		return "", err
	}
	server.Path = "/" + name
	return server.String(), nil
}

// command runs a command of the product on the store and gives what it printed.
func (s *store) command(ctx context.Context, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, s.b.binary, slices.Concat(args, s.flags)...)
	cmd.Env = environment()
	var complaints bytes.Buffer
	cmd.Stderr = &complaints
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("opencpm %s: %w\n%s", args[0], err, complaints.Bytes())
	}
	return out, err
}

// environment is this process's without settings of the product, so that every figure is one of its defaults.
func environment() []string {
	return slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "OPENCPM_") })
}

// open opens the database of the store behind the product's back.
func (s *store) open() (*sql.DB, error) {
	if s.kind == sqlite {
		return sql.Open("sqlite", s.source)
	}
	return sql.Open("pgx", s.source)
}

// settle lets a database that was just filled come to rest, so that what is measured next is not the aftermath.
func (s *store) settle(ctx context.Context) error {
	if s.kind == sqlite {
		return nil // its log was folded into the file when the server stopped
	}
	db, err := s.open()
	if err != nil {
		return err
	}
	defer db.Close()
	_, err = db.ExecContext(ctx, "VACUUM (ANALYZE)")
	if err == nil {
		_, err = db.ExecContext(ctx, "CHECKPOINT")
	}
	return err
}

// copy gives a store with the same rows, to be written to behind the product's back. No server may be running on the
// original.
func (s *store) copy(ctx context.Context) (*store, error) {
	c := &store{b: s.b, kind: s.kind, citizens: s.citizens}
	if s.kind == postgres {
		original, err := url.Parse(s.source)
		if err != nil {
			return nil, err
		}
		c.source, err = s.b.createDatabase(ctx, strings.TrimPrefix(original.Path, "/"))
		return c, err
	}
	path, _, _ := strings.Cut(strings.TrimPrefix(s.source, "file:"), "?")
	c.source = sqliteSource(path + ".copy")
	return c, copyFile(path, path+".copy")
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Sync(), out.Close())
}

// subscribe makes the application's one subscription anew, with nothing waiting for it.
func (s *store) subscribe(ctx context.Context, v *server) error {
	if err := s.unsubscribe(ctx, v); err != nil {
		return err
	}
	return s.asClient(v, func(c *client.Client) error {
		made, err := c.CreateSubscription(ctx, client.Subscription{
			ApplicationID: application, Name: "CRM", URL: s.b.receiver.url, UpdateType: client.EffectivePermission,
		})
		s.subscription = made.ID
		return err
	})
}

// unsubscribe ends the subscription and what waits for it.
func (s *store) unsubscribe(ctx context.Context, v *server) error {
	if s.subscription == "" {
		return nil
	}
	id := s.subscription
	s.subscription = ""
	return s.asClient(v, func(c *client.Client) error { return c.DeleteSubscription(ctx, id) })
}

func (s *store) asClient(v *server, do func(c *client.Client) error) error {
	// To end what waits for a million citizens takes longer than a client waits by default.
	patient := &http.Client{Transport: &http.Transport{}, Timeout: patience}
	c, err := client.New("http://"+v.address, client.APIKey(s.key), client.WithHTTPClient(patient))
	if err != nil {
		return err
	}
	defer c.CloseIdleConnections()
	return do(c)
}

// awaitDelivered waits until the database says that nothing waits to be delivered.
func (s *store) awaitDelivered(ctx context.Context) error {
	db, err := s.open()
	if err != nil {
		return err
	}
	defer db.Close()
	for began := time.Now(); time.Since(began) < patience; {
		var waiting bool
		if err := db.QueryRowContext(ctx, "SELECT EXISTS (SELECT 1 FROM lane)").Scan(&waiting); err != nil {
			return err
		}
		if !waiting {
			return nil
		}
		time.Sleep(time.Millisecond)
	}
	return errors.New("messages still wait although they have arrived")
}

// drop removes the store from the disk.
func (s *store) drop(ctx context.Context) error {
	if s.kind == sqlite {
		path, _, _ := strings.Cut(strings.TrimPrefix(s.source, "file:"), "?")
		files, err := filepath.Glob(path + "*")
		for _, f := range files {
			err = errors.Join(err, os.Remove(f))
		}
		return err
	}
	db, err := sql.Open("pgx", s.b.postgres)
	if err != nil {
		return err
	}
	defer db.Close()
	u, err := url.Parse(s.source)
	if err != nil {
		return err
	}
	_, err = db.ExecContext(ctx, "DROP DATABASE "+strings.TrimPrefix(u.Path, "/")+" WITH (FORCE)")
	return err
}
