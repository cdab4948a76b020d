// Package config is the one description of every setting of opencpm: the tags of the structs in this file name
// the flags, their environment variables, their keys in the configuration file, their defaults and their limits.
// Help texts, the output of `opencpm config` and docs/operations/configuration.md are made from the same tags.
//
// A command embeds the groups it needs and is parsed by [Parse]. Beside kong's own tags these are understood:
//
//	min:"1s" max:"30s"  the least and the greatest value allowed, for a list of each element
//	flag:"-"            not to be given on the command line, because everybody on the machine can read it there
//	file:"-"            not to be given in the configuration file
//	env:"-"             not to be given in the environment nor in the file: for flags that say what one call does
package config

import (
	"errors"
	"log/slog"
	"net/netip"
	"path/filepath"
	"slices"
	"time"
)

//go:generate go run gen.go ../../docs/operations/configuration.md

// File names the configuration file. It is embedded in the root of the command line, so that every command takes it.
type File struct {
	Config string `file:"-" group:"General" placeholder:"FILE" help:"YAML file with settings; its keys are the names of the flags without the dashes."`
}

// Store says where the data is and how what is sealed in it is opened.
type Store struct {
	Data        string      `group:"Storage" placeholder:"DIR" help:"Directory of the built-in SQLite database. Give this or the database URL."`
	DatabaseURL DatabaseURL `group:"Storage" placeholder:"URL" help:"PostgreSQL database, as postgres://user:password@host:5432/name; several hosts are separated by commas."`
	KeyFile     string      `group:"Storage" placeholder:"FILE" help:"File with the keys that seal secrets and personal fields. With a data directory the default is the file keys in it; with a database URL the file, or the keys themselves, must be given."`
	Key         Secret      `group:"Storage" flag:"-" hidden:"" help:"The sealing keys themselves, in the form of the key file, in place of a key file."`
}

// AfterApply fills in the key file of a data directory, so that the effective configuration shows it. Kong calls it.
func (s *Store) AfterApply() error {
	s.KeyFile = s.KeyPath()
	return nil
}

// KeyPath is the path of the key file: the one set, else the file keys in the data directory, else "". It is ""
// also where the keys themselves are set.
func (s *Store) KeyPath() string {
	if s.KeyFile == "" && s.Data != "" && s.Key.IsZero() {
		return filepath.Join(s.Data, "keys")
	}
	return s.KeyFile
}

// Check returns an error that says what to do unless exactly one database is set, with the keys it needs. A command
// that opens the store calls it first; it is not called on parsing, so that `opencpm config` can show what is missing.
func (s *Store) Check() error {
	onPostgreSQL := !s.DatabaseURL.IsZero()
	switch {
	case s.Data == "" && !onPostgreSQL:
		return errors.New("no database is set: give --data DIR for the built-in SQLite database or --database-url URL for PostgreSQL (or OPENCPM_DATA or OPENCPM_DATABASE_URL)")
	case s.Data != "" && onPostgreSQL:
		return errors.New("both data and database-url are set: keep one of them; opencpm config shows where each is set")
	case s.KeyFile != "" && !s.Key.IsZero():
		return errors.New("both the sealing keys and a key file are set: keep one of OPENCPM_KEY and key-file; opencpm config shows where each is set")
	case onPostgreSQL && s.KeyFile == "" && s.Key.IsZero():
		return errors.New("a PostgreSQL database needs its sealing keys from outside, the same on every node: give --key-file FILE or set OPENCPM_KEY")
	}
	return nil
}

// HTTP says how the server is reached and what it asks of its callers.
type HTTP struct {
	Listen         string         `group:"HTTP" default:"127.0.0.1:8080" type:"address" help:"Address and port to listen on, as HOST:PORT; an empty host means every address of the machine."`
	BaseURL        string         `group:"HTTP" placeholder:"URL" type:"base-url" help:"URL under which others reach this server, as it stands in links and in the API document. Default: http:// and the listen address."`
	TrustedProxies []netip.Prefix `group:"HTTP" name:"trusted-proxy" placeholder:"CIDR" help:"Network of the proxies in front of the server, whose X-Forwarded-For says who calls. Limits for each address, and the evidence of what citizens do on our pages, need it there. May be repeated."`
	RateLimit      float64        `group:"HTTP" default:"0" min:"0" max:"1000000" help:"Requests per second that one credential may make; 0 means no limit. Public calls are always limited."`
	TokenLifetime  time.Duration  `group:"HTTP" default:"24h" min:"1s" max:"24h" help:"How long an access token of the token endpoint is valid."`
	TokenAudience  string         `group:"HTTP" placeholder:"NAME" help:"Audience that a token request must name. Default: any audience is accepted."`
}

// Delivery says how webhooks are delivered.
type Delivery struct {
	AllowNets     []netip.Prefix  `group:"Delivery" name:"webhook-allow-net" placeholder:"CIDR" help:"Network that webhooks may reach although it is loopback, private or otherwise refused; inside it plain http is allowed, too. May be repeated."`
	QuickAttempts int             `group:"Delivery" name:"webhook-quick-attempts" default:"3" min:"1" max:"10" help:"Attempts in a row, the first included, before a message goes to the failures store."`
	QuickDelays   []time.Duration `group:"Delivery" name:"webhook-quick-delays" default:"1s,5s" min:"0s" max:"5m" help:"Waits before the second, third and further quick attempts, give or take 20 percent; the last one stands for those not named."`
	RetryInterval time.Duration   `group:"Delivery" name:"webhook-retry-interval" default:"1h" min:"1s" max:"24h" help:"Wait between two attempts of a message in the failures store."`
	RetrySpread   int             `group:"Delivery" name:"webhook-retry-spread" default:"10" min:"0" max:"100" help:"Percent of the retry interval by which a retry may come later, different for each message, so that they do not all come at once."`
	Timeout       time.Duration   `group:"Delivery" name:"webhook-timeout" default:"15s" min:"100ms" max:"30s" help:"How long one attempt may take."`
	Concurrency   int             `group:"Delivery" name:"webhook-concurrency" default:"8" min:"1" max:"256" help:"Messages in flight to one endpoint at a time."`
	LogDays       int             `group:"Delivery" name:"webhook-log-days" default:"30" min:"1" max:"3650" help:"How many days the delivery log is kept."`
	LogSize       int             `group:"Delivery" name:"webhook-log-size" default:"1024" min:"0" max:"1000000" help:"MiB that the delivery log may take, about; its oldest entries go first. With 0 nothing of what was sent and answered is kept in it."`
}

// Log says what the log shows and in which form.
type Log struct {
	LogLevel  string `group:"Process" default:"info" enum:"debug,info,warn,error" help:"Least level of what is logged."`
	LogFormat string `group:"Process" default:"text" enum:"text,json" help:"Form of the log, one line per entry."`
}

// Level is the log level as slog knows it; info where none is set.
func (l Log) Level() slog.Level {
	var level slog.Level
	// An unknown name cannot pass Parse, and the zero level is info.
	_ = level.UnmarshalText([]byte(l.LogLevel))
	return level
}

// Role is a part of the work that one process may take on.
type Role string

// The roles of a process.
const (
	RoleHTTP    Role = "http"    // answers requests
	RoleDeliver Role = "deliver" // delivers webhooks
	RoleJobs    Role = "jobs"    // runs imports, exports and other long work
)

// Process says what the process does and how it stops.
type Process struct {
	Roles           []Role        `group:"Process" default:"http,deliver,jobs" enum:"http,deliver,jobs" help:"What this process does: answer requests, deliver webhooks, run imports, exports and other long work. Several processes can share the work on one PostgreSQL database."`
	ShutdownTimeout time.Duration `group:"Process" default:"20s" min:"1s" max:"10m" help:"How long requests and deliveries in flight may go on after the signal to stop."`
	PprofListen     string        `group:"Process" hidden:"" type:"loopback" placeholder:"IP:PORT" help:"Loopback address and port at which Go's profiles are served under /debug/pprof/, to find out where time and memory go. Default: none."`
}

// Has reports whether the process has the role.
func (p Process) Has(role Role) bool { return slices.Contains(p.Roles, role) }

// Serve is everything that `opencpm serve` can be told, and so, with [File], every setting there is.
type Serve struct {
	Store
	HTTP
	Delivery
	Mail
	Log
	Process
}

// settings is the whole of the reference page.
type settings struct {
	File
	Serve
}
