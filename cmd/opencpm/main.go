// Command opencpm is the whole of OpenCPM in one binary: the server, the demo and
// the commands that work on its data.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"os/signal"
	"runtime/debug"
	"slices"
	"syscall"

	"github.com/alecthomas/kong"

	"github.com/opencpm/opencpm/internal/config"
	"github.com/opencpm/opencpm/internal/consent"
)

// version is set when a release is built.
var version = ""

// cli is every command and, by the tags of package config, every setting.
type cli struct {
	config.File
	Serve       serveCommand       `cmd:"" help:"Run the server."`
	Demo        demoCommand        `cmd:"" help:"Run the main job on the data of a made-up company; nothing to configure."`
	Migrate     migrateCommand     `cmd:"" help:"Bring the database to the schema of this version. The server does so by itself."`
	Application applicationCommand `cmd:"" help:"Create applications."`
	Client      clientCommand      `cmd:"" help:"Create API clients, which get access tokens for their secret."`
	Apikey      apikeyCommand      `cmd:"" help:"Create API keys."`
	Catalog     catalogCommand     `cmd:"" help:"Move the catalogue of an application in and out."`
	Webhook     webhookCommand     `cmd:"" help:"Help for people who build a receiver."`
	Secrets     secretsCommand     `cmd:"" help:"Change the keys that seal secrets and personal fields."`
	Tokens      tokensCommand      `cmd:"" help:"Change the keys that sign citizen tokens."`
	Check       checkCommand       `cmd:"" help:"Rebuild every effective state from the ledger and compare; walk every chain of hashes."`
	Config      configCommand      `cmd:"" help:"Show the effective configuration and where each setting comes from."`
	Version     versionCommand     `cmd:"" help:"Show the version."`
}

// streams are where a command writes.
type streams struct{ out, err io.Writer }

func main() {
	// net/http writes what an endpoint sends between two answers to the standard
	// logger. It is a stranger's text and has no place in our log.
	log.SetOutput(io.Discard)
	// What lives long is small, and what a request needs is soon garbage: to collect it
	// less often costs some tens of megabytes under load and nothing at rest.
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(400)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Environ(), streams{os.Stdout, os.Stderr}))
}

// run is the program, with everything it gets from outside as parameters. It
// returns the exit status: 0 for success, 1 for a failure, 2 for wrong usage.
func run(ctx context.Context, args, env []string, io streams) int {
	var c cli
	exit := -1
	parsed, err := config.Parse(&c, args, env,
		kong.Description("OpenCPM, the open, self-hosted consent and preference management platform."),
		kong.Writers(io.out, io.err), kong.Exit(func(code int) { exit = code }), kong.UsageOnError(),
		kong.BindTo(ctx, (*context.Context)(nil)), kong.Bind(io))
	if exit >= 0 {
		return exit // --help has been shown
	}
	if err != nil {
		fmt.Fprintln(io.err, "opencpm:", err)
		return 2
	}
	if err := parsed.Run(); err != nil {
		complain(io.err, err)
		return 1
	}
	return 0
}

// complain writes an error for people: its sentence and, where there are several
// faults, each with its place.
func complain(w io.Writer, err error) {
	fmt.Fprintln(w, "opencpm:", err)
	var e *consent.Error
	if !errors.As(err, &e) {
		return
	}
	for i, f := range e.Fields {
		// What else is wrong at a place, or within it, follows from the first.
		if !slices.ContainsFunc(e.Fields[:i], func(known consent.FieldError) bool { return consent.Within(f.Location, known.Location) }) {
			fmt.Fprintf(w, "  %s: %s\n", f.Location, f.Message)
		}
	}
}

type versionCommand struct{}

// Run prints the version.
func (versionCommand) Run(io streams) error {
	fmt.Fprintln(io.out, versionText())
	return nil
}

// versionText is the version of a release, and of any other build what the
// toolchain knows of it.
func versionText() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "devel"
}
