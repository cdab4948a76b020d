package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/alecthomas/kong"

	"github.com/opencpm/opencpm/internal/api"
	"github.com/opencpm/opencpm/internal/config"
	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/internal/core"
	"github.com/opencpm/opencpm/internal/identity"
	"github.com/opencpm/opencpm/internal/seal"
	"github.com/opencpm/opencpm/internal/store"
)

// readKeys reads the sealing keys. In a data directory that is still empty they
// are made; anywhere else a missing file is an error, since new keys could not open
// what the old ones sealed.
func readKeys(c config.Store) (*seal.Keyring, error) {
	if !c.Key.IsZero() {
		return seal.ParseKeyring(c.Key.Reveal())
	}
	if _, err := os.Stat(c.KeyFile); errors.Is(err, fs.ErrNotExist) {
		if err := makeKeys(c); err != nil {
			return nil, err
		}
	}
	return seal.OpenKeyFile(c.KeyFile)
}

func makeKeys(c config.Store) error {
	if c.Data == "" {
		return fmt.Errorf(`there is no key file %s; make one, keep a copy, and give it to every node:
  (umask 077; echo "k1:$(head -c 32 /dev/urandom | base64)" > %[1]s)`, c.KeyFile)
	}
	if _, err := os.Stat(filepath.Join(c.Data, store.SQLiteFile)); err == nil {
		return fmt.Errorf("the key file %s is missing, and the data in %s cannot be read without it: restore it from its copy", c.KeyFile, c.Data)
	}
	if err := os.MkdirAll(c.Data, 0o700); err != nil {
		return fmt.Errorf("the data directory cannot be made: %w", err)
	}
	f, err := os.OpenFile(c.KeyFile, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) { // another process was first
		return nil
	}
	if err != nil {
		return fmt.Errorf("the key file cannot be made: %w", err)
	}
	_, err = f.WriteString(seal.NewKeyFile(newKeyID()))
	return errors.Join(err, f.Sync(), f.Close(), seal.SyncKeyFile(c.KeyFile))
}

// open opens the store that the settings name.
func open(ctx context.Context, c config.Store, o store.Options) (*store.Store, error) {
	if err := c.Check(); err != nil {
		return nil, err
	}
	keys, err := readKeys(c)
	if err != nil {
		return nil, err
	}
	o.Dir, o.DatabaseURL, o.Keys = c.Data, c.DatabaseURL.Reveal(), keys
	return store.Open(ctx, o)
}

// withCore runs a data command on the use cases; it works beside a server.
func withCore(ctx context.Context, c config.Store, do func(*core.Service, *identity.Service) error) error {
	st, err := open(ctx, c, store.Options{})
	if err != nil {
		return err
	}
	service := core.New(st, core.Options{})
	return errors.Join(do(service, identity.New(st, service, 0)), st.Close())
}

// withData is withCore for what would mean nothing on data that it has just made.
func withData(ctx context.Context, c config.Store, do func(*core.Service) error) error {
	if err := hasData(c); err != nil {
		return err
	}
	return withCore(ctx, c, func(s *core.Service, _ *identity.Service) error { return do(s) })
}

func hasData(c config.Store) error {
	if _, err := os.Stat(filepath.Join(c.Data, store.SQLiteFile)); c.Data != "" && err != nil {
		return fmt.Errorf("there is no data in %s", c.Data)
	}
	return nil
}

// answer prints what a command made: as one JSON object, or as a line for people.
func answer(w io.Writer, asJSON bool, object map[string]string, line string) error {
	if asJSON {
		return json.NewEncoder(w).Encode(object)
	}
	_, err := fmt.Fprintln(w, line)
	return err
}

type migrateCommand struct{ config.Store }

// Run opens the store, which migrates it.
func (m *migrateCommand) Run(ctx context.Context, io streams) error {
	return withCore(ctx, m.Store, func(*core.Service, *identity.Service) error {
		_, err := fmt.Fprintln(io.out, "The schema is up to date.")
		return err
	})
}

type applicationCommand struct {
	Create applicationCreateCommand `cmd:"" help:"Create an application."`
}

type applicationCreateCommand struct {
	config.Store
	Name string `required:"" help:"Name of the application."`
	ID   string `env:"-" help:"Id of the application, 1 to 50 characters. Default: one is made."`
	JSON bool   `env:"-" help:"Answer as JSON."`
}

// Run creates the application.
func (c *applicationCreateCommand) Run(ctx context.Context, io streams) error {
	return withCore(ctx, c.Store, func(s *core.Service, _ *identity.Service) error {
		id, err := s.CreateApplication(ctx, c.ID, c.Name)
		if err != nil {
			return err
		}
		return answer(io.out, c.JSON, map[string]string{"applicationId": id, "name": c.Name}, "Created the application "+id+".")
	})
}

// credentialFlags are what credentials have in common.
type credentialFlags struct {
	config.Store
	Application []string `required:"" sep:"none" placeholder:"ID" help:"Application that may be used. May be repeated."`
	Scope       []string `env:"-" placeholder:"SCOPE" help:"Scope that is given, such as consent:write. May be repeated. Default: all."`
	Name        string   `env:"-" help:"Name under which the records show it."`
	JSON        bool     `env:"-" help:"Answer as JSON."`
}

func (f *credentialFlags) create(ctx context.Context, kind store.CredentialKind, expires time.Time, done func(id, secret string) error) error {
	scopes, err := parseScopes(f.Scope)
	if err != nil {
		return err
	}
	return withCore(ctx, f.Store, func(_ *core.Service, who *identity.Service) error {
		id, secret, err := who.Create(ctx, identity.NewCredential{Kind: kind, Name: f.Name, Applications: f.Application, Scopes: scopes, Expires: expires})
		if err != nil {
			return err
		}
		return done(id.String(), secret)
	})
}

func parseScopes(names []string) ([]consent.Scope, error) {
	var scopes []consent.Scope
	for _, name := range names {
		scope := consent.Scope(name)
		if !scope.Known() {
			return nil, fmt.Errorf("--scope: there is no scope %q; the scopes are %s", name, consent.ScopeNames())
		}
		scopes = append(scopes, scope)
	}
	return scopes, nil
}

type clientCommand struct {
	Create clientCreateCommand `cmd:"" help:"Create an API client. Its secret is shown only once."`
}

type clientCreateCommand struct{ credentialFlags }

// Run creates the client.
func (c *clientCreateCommand) Run(ctx context.Context, io streams) error {
	return c.create(ctx, store.ClientCredential, time.Time{}, func(id, secret string) error {
		return answer(io.out, c.JSON, map[string]string{"clientId": id, "clientSecret": secret},
			"Client id:     "+id+"\nClient secret: "+secret+"\nThe secret is not shown again.")
	})
}

type apikeyCommand struct {
	Create apikeyCreateCommand `cmd:"" help:"Create an API key. It is shown only once."`
}

type apikeyCreateCommand struct {
	credentialFlags
	Expires string `env:"-" placeholder:"TIME" help:"When the key ends, as 2027-01-31 or 2027-01-31T12:00:00Z. Default: never."`
}

// Run creates the key.
func (c *apikeyCreateCommand) Run(ctx context.Context, io streams) error {
	var expires time.Time
	if c.Expires != "" {
		at, err := consent.ParseInstant(c.Expires)
		if err != nil {
			return fmt.Errorf("--expires %w", err)
		}
		expires = at.Time()
	}
	return c.create(ctx, store.APIKeyCredential, expires, func(id, secret string) error {
		return answer(io.out, c.JSON, map[string]string{"apiKeyId": id, "apiKey": secret}, "API key: "+secret+"\nIt is not shown again.")
	})
}

type catalogCommand struct {
	Import catalogImportCommand `cmd:"" help:"Bring the catalogue of an application to what a document says."`
	Export catalogExportCommand `cmd:"" help:"Write the catalogue of an application as a document."`
}

type catalogImportCommand struct {
	config.Store
	Application string `required:"" placeholder:"ID" help:"The application."`
	Prune       bool   `env:"-" help:"Archive the items that the document does not have, which else stay."`
	DryRun      bool   `env:"-" help:"Check, and show what would change, field by field; change nothing."`
	File        string `arg:"" help:"The document, YAML or JSON; - for standard input."`
}

// Run imports the document and prints what differs, a line each.
func (c *catalogImportCommand) Run(ctx context.Context, io streams) error {
	text, err := readDocument(c.File)
	if err != nil {
		return err
	}
	doc, found, err := api.ReadCatalogue(text)
	if err != nil {
		return err
	}
	return withCore(ctx, c.Store, func(s *core.Service, _ *identity.Service) error {
		done, err := s.ImportCatalogue(ctx, c.Application, doc, core.Import{Prune: c.Prune, DryRun: c.DryRun, Found: found})
		if err != nil {
			return err
		}
		for _, d := range done.Differences {
			fmt.Fprintln(io.out, lineOf(d))
		}
		for _, w := range done.Warnings {
			fmt.Fprintf(io.out, "warning  %s: %s\n", w.Location, w.Message)
		}
		verdict := "imported"
		if c.DryRun {
			verdict = "not imported: a dry run"
		}
		_, err = fmt.Fprintf(io.out, "%d differences, %s.\n", len(done.Differences), verdict)
		return err
	})
}

// lineOf says what an import changes: what clients call the item where that is not its
// key, and of a change the fields that get another value and, with a minus, those that go.
func lineOf(d core.Difference) string {
	line := strings.TrimSpace(fmt.Sprintf("%-8s %s %s", d.Action, d.Kind, d.Key))
	if d.ID != d.Key && d.ID != "" {
		line += " (id " + d.ID + ")"
	}
	fields := d.Set
	for _, name := range d.Cleared {
		fields = append(fields, "- "+name)
	}
	if len(fields) > 0 {
		line += ": " + strings.Join(fields, ", ")
	}
	return line
}

func readDocument(path string) ([]byte, error) {
	if path == "-" {
		return io.ReadAll(os.Stdin)
	}
	return os.ReadFile(path)
}

type catalogExportCommand struct {
	config.Store
	Application string `required:"" placeholder:"ID" help:"The application."`
	File        string `arg:"" help:"Where to write the document: JSON where the name ends in .json, else YAML; - for standard output."`
}

// Run exports the catalogue.
func (c *catalogExportCommand) Run(ctx context.Context, io streams) error {
	return withCore(ctx, c.Store, func(s *core.Service, _ *identity.Service) error {
		doc, err := s.ExportCatalogue(ctx, c.Application)
		if err != nil {
			return err
		}
		text, err := doc.YAML()
		if strings.HasSuffix(c.File, ".json") {
			text, err = json.MarshalIndent(doc, "", "  ")
		}
		if err != nil {
			return err
		}
		if c.File == "-" {
			_, err = io.out.Write(text)
			return err
		}
		return os.WriteFile(c.File, text, 0o644) //nolint:gosec // a catalogue holds nothing secret
	})
}

type checkCommand struct {
	config.Store
}

// Run checks the data; what is wrong makes the command fail.
func (c *checkCommand) Run(ctx context.Context, io streams) error {
	return withData(ctx, c.Store, func(s *core.Service) error {
		wrong := 0
		citizens, records, err := s.Check(ctx, func(f store.Finding) {
			wrong++
			fmt.Fprintf(io.out, "citizen %s: %s\n", f.Citizen, f.Problem)
		})
		if err != nil {
			return err
		}
		if wrong > 0 {
			return fmt.Errorf("%d citizens and %d records were checked and %d findings made", citizens, records, wrong)
		}
		if citizens == 0 {
			_, err = fmt.Fprintln(io.out, "There are no citizens here. If this is a copy, it may lack opencpm.db-wal.")
			return err
		}
		_, err = fmt.Fprintf(io.out, "%d citizens and %d records were checked: every effective state is what the ledger says, every chain holds.\n", citizens, records)
		return err
	})
}

type configCommand struct {
	config.Serve
	JSON bool `env:"-" help:"Answer as JSON."`
}

// Run prints the effective configuration, secrets masked.
func (c *configCommand) Run(parsed *kong.Context, io streams) error {
	values, err := config.Effective(parsed)
	if err != nil {
		return err
	}
	if c.JSON {
		return json.NewEncoder(io.out).Encode(values)
	}
	return values.WriteText(io.out)
}
