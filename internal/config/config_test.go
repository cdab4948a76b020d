package config_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"
	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/opencpm/opencpm/internal/config"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// program is a command line in the shape of the real one.
type program struct {
	config.File
	Serve struct {
		config.Serve
	} `cmd:""`
	Check struct {
		config.Store
	} `cmd:""`
	Config struct {
		config.Serve
		JSON bool
	} `cmd:""`
	Import struct {
		config.Store
		Application string
		Prune       bool `env:"-"`
	} `cmd:""`
}

// write makes a file in a directory of the test and returns its path.
func write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func parse(args string, env ...string) (*program, *kong.Context, error) {
	var p program
	ctx, err := config.Parse(&p, strings.Fields(args), env)
	return &p, ctx, err
}

func TestPrecedence(t *testing.T) {
	yaml := "listen: 127.0.0.1:3\nwebhook-timeout: 3s\n"
	for name, test := range map[string]struct {
		args, file string
		env        []string
		listen     string
		source     string
	}{
		"default":                          {listen: "127.0.0.1:8080", source: "default"},
		"file over default":                {file: yaml, listen: "127.0.0.1:3", source: "file"},
		"environment over file":            {file: yaml, env: []string{"OPENCPM_LISTEN=127.0.0.1:2"}, listen: "127.0.0.1:2", source: "env"},
		"flag over environment and file":   {file: yaml, env: []string{"OPENCPM_LISTEN=127.0.0.1:2"}, args: " --listen 127.0.0.1:1", listen: "127.0.0.1:1", source: "flag"},
		"environment over default":         {env: []string{"OPENCPM_LISTEN=127.0.0.1:2"}, listen: "127.0.0.1:2", source: "env"},
		"flag over default":                {args: " --listen=127.0.0.1:1", listen: "127.0.0.1:1", source: "flag"},
		"an empty variable is not set":     {file: yaml, env: []string{"OPENCPM_LISTEN="}, listen: "127.0.0.1:3", source: "file"},
		"the last of equal variables wins": {env: []string{"OPENCPM_LISTEN=:1", "OPENCPM_LISTEN=:2"}, listen: ":2", source: "env"},
		"other variables are left alone":   {env: []string{"LISTEN=:1", "opencpm_listen=:2", "HOME=/"}, listen: "127.0.0.1:8080", source: "default"},
	} {
		t.Run(name, func(t *testing.T) {
			args := "config" + test.args
			if test.file != "" {
				args = "--config " + write(t, "opencpm.yaml", test.file) + " " + args
			}
			p, ctx, err := parse(args, test.env...)
			if err != nil {
				t.Fatal(err)
			}
			if got := p.Config.Listen; got != test.listen {
				t.Errorf("listen = %q, want %q", got, test.listen)
			}
			values, err := config.Effective(ctx)
			if err != nil {
				t.Fatal(err)
			}
			i := slices.IndexFunc(values, func(v config.Value) bool { return v.Name == "listen" })
			if values[i].Source != test.source {
				t.Errorf("source = %q, want %q", values[i].Source, test.source)
			}
		})
	}
}

func TestDefaults(t *testing.T) {
	p, _, err := parse("serve --data /var/lib/opencpm")
	if err != nil {
		t.Fatal(err)
	}
	got := p.Serve.Serve
	want := config.Serve{
		Store: config.Store{Data: "/var/lib/opencpm", KeyFile: "/var/lib/opencpm/keys"},
		HTTP:  config.HTTP{Listen: "127.0.0.1:8080", TokenLifetime: 24 * time.Hour},
		Delivery: config.Delivery{
			QuickAttempts: 3, QuickDelays: []time.Duration{time.Second, 5 * time.Second}, RetryInterval: time.Hour,
			RetrySpread: 10, Timeout: 15 * time.Second, Concurrency: 8, LogDays: 30, LogSize: 1024,
		},
		Log:     config.Log{LogLevel: "info", LogFormat: "text"},
		Process: config.Process{Roles: []config.Role{"http", "deliver", "jobs"}, ShutdownTimeout: 20 * time.Second},
	}
	if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b config.Secret) bool { return a.Reveal() == b.Reveal() }),
		cmp.Comparer(func(a, b config.DatabaseURL) bool { return a.Reveal() == b.Reveal() }),
		cmp.Comparer(func(a, b config.SMTPURL) bool { return a.Reveal() == b.Reveal() })); diff != "" {
		t.Errorf("defaults (-want +got):\n%s", diff)
	}
	if !got.Has(config.RoleJobs) || (config.Process{}).Has(config.RoleJobs) {
		t.Error("Has does not tell which roles there are")
	}
}

func TestLists(t *testing.T) {
	want := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("::1/128")}
	for name, test := range map[string]struct{ args, env, file string }{
		"flag repeated":      {args: " --webhook-allow-net 10.0.0.0/8 --webhook-allow-net ::1/128"},
		"flag with commas":   {args: " --webhook-allow-net 10.0.0.0/8,::1/128"},
		"variable":           {env: "10.0.0.0/8,::1/128"},
		"list in brackets":   {file: `webhook-allow-net: [10.0.0.0/8, "::1/128"]`},
		"list of lines":      {file: "webhook-allow-net:\n  - 10.0.0.0/8\n  - ::1/128\n"},
		"text in the file":   {file: "webhook-allow-net: 10.0.0.0/8,::1/128"},
		"flag replaces file": {args: " --webhook-allow-net 10.0.0.0/8,::1/128", file: "webhook-allow-net: [192.168.0.0/16]"},
	} {
		t.Run(name, func(t *testing.T) {
			p, _, err := parse("serve --config="+write(t, "opencpm.yaml", test.file)+test.args, "OPENCPM_WEBHOOK_ALLOW_NET="+test.env)
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(p.Serve.AllowNets, want) {
				t.Errorf("webhook-allow-net = %v, want %v", p.Serve.AllowNets, want)
			}
		})
	}
}

// Every form of a value in a file reaches the setting as it was written.
func TestFileForms(t *testing.T) {
	path := write(t, "opencpm.yaml", `# a comment
data: "/var/lib/open cpm"
rate-limit: 2.5
webhook-quick-attempts: 4
webhook-quick-delays: [0s, 250ms]
log-level: 'debug'
token-audience: 010
base-url: https://consent.example.com/eu/
key: |
  first line
  second line
`)
	p, _, err := parse("serve", "OPENCPM_CONFIG="+path)
	if err != nil {
		t.Fatal(err)
	}
	s := p.Serve
	got := []any{s.Data, s.RateLimit, s.QuickAttempts, s.QuickDelays, s.Level(), s.TokenAudience, s.BaseURL, s.Key.Reveal()}
	want := []any{
		"/var/lib/open cpm", 2.5, 4,
		[]time.Duration{0, 250 * time.Millisecond},
		slog.LevelDebug, "010",
		"https://consent.example.com/eu", "first line\nsecond line\n",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("values (-want +got):\n%s", diff)
	}
	for _, empty := range []string{"", "---\n", "# nothing but a comment\n"} {
		if _, _, err := parse("serve --config " + write(t, "empty.yaml", empty)); err != nil {
			t.Errorf("the file %q is refused: %v", empty, err)
		}
	}
}

// A flag of one command can come from the environment, too, unless it says that it cannot; what belongs to another
// command does not disturb this one.
func TestEveryFlag(t *testing.T) {
	p, _, err := parse("import --data /d", "OPENCPM_APPLICATION=northwind", "OPENCPM_LISTEN=nonsense that serve would refuse")
	if err != nil {
		t.Fatal(err)
	}
	if p.Import.Application != "northwind" {
		t.Errorf("application = %q, want northwind", p.Import.Application)
	}
	if _, _, err := parse("import --data /d", "OPENCPM_PRUNE=true"); err == nil || err.Error() != "OPENCPM_PRUNE: no such setting" {
		t.Errorf("a flag with env:\"-\" in the environment: %v", err)
	}
}

// Every refusal is a sentence that names the place and the way out.
func TestRefusals(t *testing.T) {
	for name, test := range map[string]struct {
		args, file string
		env        []string
		want       string // $FILE stands for the path of the file
	}{
		"unknown flag":              {args: " --listn :1", want: `unknown flag --listn, did you mean "--listen"?`},
		"unknown variable":          {env: []string{"OPENCPM_LISTN=:1"}, want: "OPENCPM_LISTN: no such setting; did you mean OPENCPM_LISTEN?"},
		"unknown empty variable":    {env: []string{"OPENCPM_LISTN="}, want: "OPENCPM_LISTN: no such setting; did you mean OPENCPM_LISTEN?"},
		"nothing near":              {env: []string{"OPENCPM_TEMPERATURE=37"}, want: "OPENCPM_TEMPERATURE: no such setting"},
		"several unknown":           {env: []string{"OPENCPM_B=1", "OPENCPM_A=1"}, want: "OPENCPM_A: no such setting\nOPENCPM_B: no such setting"},
		"_FILE of no secret":        {env: []string{"OPENCPM_BASE_URL_FILE=/x"}, want: "OPENCPM_BASE_URL_FILE: no such setting"},
		"unknown key":               {file: "data: /d\nlog_level: debug\n", want: `$FILE:2: unknown key "log_level"; did you mean log-level?`},
		"config in the file":        {file: "config: other.yaml", want: `$FILE:1: unknown key "config"`},
		"key twice":                 {file: "data: /a\nlisten: :1\ndata: /b\n", want: "$FILE:3: data is set on line 1 already"},
		"key without value":         {file: "data:\n", want: "$FILE:1: data has no value; give one, or remove the line"},
		"list for one value":        {file: "data: [a, b]", want: "$FILE:1: data takes one value, not a list"},
		"mapping for a value":       {file: "webhook:\n  timeout: 3s\n", want: "$FILE:1: webhook must be a single value or a list of them"},
		"mapping in a list":         {file: "roles: [{a: b}]", want: "$FILE:1: roles must be a list of single values"},
		"anchor":                    {file: "data: &d /x\n", want: "$FILE:1: data must be a single value or a list of them"},
		"no mapping":                {file: "data=/var/lib/opencpm\n", want: `$FILE: must consist of lines such as "listen: 127.0.0.1:8080"`},
		"two documents":             {file: "data: /a\n---\ndata: /b\n", want: "$FILE: must be a single YAML document"},
		"no YAML":                   {file: "data: /a\nroles: [http\n", want: "$FILE:2: not valid YAML: sequence end token ']' not found"},
		"no YAML beside a secret":   {file: "database-url: postgres://u:hunter2@h/d: x\n", want: "$FILE:1: not valid YAML: mapping value is not allowed in this context"},
		"value as key":              {file: "'postgres://a:b@c/d': x", want: "$FILE:1: there is something else where the name of a setting was expected"},
		"no such file":              {args: " --config /nowhere/opencpm.yaml", want: "--config: cannot read the file /nowhere/opencpm.yaml: no such file or directory"},
		"no such file, variable":    {env: []string{"OPENCPM_CONFIG=/nowhere/opencpm.yaml"}, want: "OPENCPM_CONFIG: cannot read the file /nowhere/opencpm.yaml: no such file or directory"},
		"duration without unit":     {env: []string{"OPENCPM_WEBHOOK_TIMEOUT=5"}, want: `OPENCPM_WEBHOOK_TIMEOUT: must be a duration such as 500ms, 15s or 1h30m, not "5"`},
		"duration as a number":      {file: "webhook-timeout: 5", want: `$FILE:1: webhook-timeout: must be a duration such as 500ms, 15s or 1h30m, not "5"`},
		"duration too long, flag":   {args: " --webhook-timeout 45s", want: "--webhook-timeout: must be at most 30s, not 45s"},
		"duration too long, var":    {env: []string{"OPENCPM_TOKEN_LIFETIME=25h"}, want: "OPENCPM_TOKEN_LIFETIME: must be at most 24h, not 25h"},
		"duration too short, file":  {file: "shutdown-timeout: 90ms", want: "$FILE:1: shutdown-timeout: must be at least 1s, not 90ms"},
		"one delay too long":        {args: " --webhook-quick-delays 1s,6m", want: "--webhook-quick-delays: must be at most 5m, not 6m"},
		"no delays":                 {args: " --webhook-quick-delays=", want: "--webhook-quick-delays: needs at least one value"},
		"number with a word":        {args: " --webhook-concurrency many", want: `--webhook-concurrency: must be a whole number, not "many"`},
		"number too small":          {args: " --webhook-concurrency 0", want: "--webhook-concurrency: must be at least 1, not 0"},
		"rate that is no number":    {args: " --rate-limit NaN", want: `--rate-limit: must be a number, not "NaN"`},
		"negative rate":             {env: []string{"OPENCPM_RATE_LIMIT=-1"}, want: "OPENCPM_RATE_LIMIT: must be at least 0, not -1"},
		"unknown role":              {env: []string{"OPENCPM_ROLES=http,cook"}, want: `OPENCPM_ROLES: must be one of http, deliver, jobs, not "cook"`},
		"unknown level, flag":       {args: " --log-level loud", want: `--log-level: must be one of debug, info, warn, error, not "loud"`},
		"address without port":      {args: " --listen localhost", want: `--listen: must be an address such as 127.0.0.1:8080 or :8080, not "localhost"`},
		"port too high":             {args: " --listen :65536", want: `--listen: must be an address such as 127.0.0.1:8080 or :8080, not ":65536"`},
		"profiles for everybody":    {args: " --pprof-listen :6060", want: `--pprof-listen: must be a loopback address such as 127.0.0.1:6060, not ":6060"`},
		"profiles for neighbours":   {args: " --pprof-listen 10.0.0.1:6060", want: `--pprof-listen: must be a loopback address such as 127.0.0.1:6060, not "10.0.0.1:6060"`},
		"base URL without scheme":   {args: " --base-url consent.example.com", want: `--base-url: must be a URL such as https://consent.example.com, not "consent.example.com"`},
		"base URL with a password":  {args: " --base-url https://u:hunter2@example.com", want: "--base-url: must not contain a user name or a password"},
		"address for a network":     {args: " --webhook-allow-net 127.0.0.1", want: "--webhook-allow-net: must be a network: for the single address write 127.0.0.1/32"},
		"network with host bits":    {args: " --webhook-allow-net 10.1.2.3/8", want: `--webhook-allow-net: has bits set behind its length: write 10.0.0.0/8, not "10.1.2.3/8"`},
		"network mapped to IPv6":    {args: " --webhook-allow-net ::ffff:10.0.0.0/104", want: `--webhook-allow-net: must be written as an IPv4 network, not "::ffff:10.0.0.0/104"`},
		"no network":                {args: " --webhook-allow-net home", want: `--webhook-allow-net: must be a network such as 10.0.0.0/8 or ::1/128, not "home"`},
		"flag without value":        {args: " --webhook-timeout", want: "--webhook-timeout: needs a value"},
		"secret as a flag":          {args: " --key hunter2", want: "--key: everybody on the machine can read a secret on the command line; set OPENCPM_KEY instead"},
		"mail server as a flag":     {args: " --smtp-url smtp://u:hunter2@h", want: "--smtp-url: everybody on the machine can read a secret on the command line; set OPENCPM_SMTP_URL instead"},
		"mail server of another":    {env: []string{"OPENCPM_SMTP_URL=http://u:hunter2@h"}, want: "OPENCPM_SMTP_URL: must be a URL such as smtp://user:password@host:587 or smtps://host:465"},
		"no address of an operator": {args: " --operator-email ops@example.com,ops", want: `--operator-email: must be an e-mail address such as operator@example.com, not "ops"`},
		"secret twice":              {env: []string{"OPENCPM_DATABASE_URL=postgres://h/d", "OPENCPM_DATABASE_URL_FILE=/x"}, want: "OPENCPM_DATABASE_URL: set beside OPENCPM_DATABASE_URL_FILE; keep one of them"},
		"secret file missing":       {env: []string{"OPENCPM_DATABASE_URL_FILE=/nowhere/url"}, want: "OPENCPM_DATABASE_URL_FILE: cannot read the file /nowhere/url: no such file or directory"},
		"database URL of another":   {args: " --database-url mysql://u:hunter2@h/d", want: "--database-url: must be a URL such as postgres://user:password@host:5432/name"},
		"database URL, slash in it": {env: []string{"OPENCPM_DATABASE_URL=postgres://u:hunter2/x@h/d"}, want: "OPENCPM_DATABASE_URL: has an @ behind its host: in a user name or a password the characters / ? # @ must be written as %2F %3F %23 %40"},
	} {
		t.Run(name, func(t *testing.T) {
			args, want := "serve"+test.args, test.want
			if test.file != "" {
				path := write(t, "opencpm.yaml", test.file)
				args += " --config " + path
				want = strings.ReplaceAll(want, "$FILE", path)
			}
			_, _, err := parse(args, test.env...)
			if err == nil {
				t.Fatalf("accepted, want %q", want)
			}
			if err.Error() != want {
				t.Errorf("\ngot  %s\nwant %s", err, want)
			}
			if strings.Contains(err.Error(), "hunter2") {
				t.Errorf("the error shows a secret: %v", err)
			}
		})
	}
}

func TestSecretFiles(t *testing.T) {
	const secret = "postgres://opencpm:hunter2@db:5432/opencpm"
	for name, text := range map[string]string{"bare": secret, "with a newline": secret + "\n", "with a Windows line end": secret + "\r\n"} {
		t.Run(name, func(t *testing.T) {
			path := write(t, "url", text)
			p, ctx, err := parse("config", "OPENCPM_DATABASE_URL_FILE="+path)
			if err != nil {
				t.Fatal(err)
			}
			if got := p.Config.DatabaseURL.Reveal(); got != secret {
				t.Errorf("database-url = %q, want %q", got, secret)
			}
			values, err := config.Effective(ctx)
			if err != nil {
				t.Fatal(err)
			}
			want := config.Value{Name: "database-url", Group: "Storage", Value: "postgres://opencpm:••••@db:5432/opencpm", Source: "env", From: "OPENCPM_DATABASE_URL_FILE"}
			if !slices.ContainsFunc(values, func(v config.Value) bool { return cmp.Equal(v, want) }) {
				t.Errorf("effective values %v lack %v", values, want)
			}
		})
	}
	empty := write(t, "url", "\n")
	if _, _, err := parse("config", "OPENCPM_DATABASE_URL_FILE="+empty); err == nil || err.Error() != "OPENCPM_DATABASE_URL_FILE: the file "+empty+" is empty" {
		t.Errorf("an empty secret file: %v", err)
	}
	// The variable of --key-file doubles as the _FILE of OPENCPM_KEY.
	p, _, err := parse("config", "OPENCPM_KEY_FILE=/etc/opencpm/keys")
	if err != nil {
		t.Fatal(err)
	}
	if p.Config.KeyFile != "/etc/opencpm/keys" || !p.Config.Key.IsZero() {
		t.Errorf("OPENCPM_KEY_FILE gives key-file %q and key %v", p.Config.KeyFile, p.Config.Key)
	}
}

func TestStoreCheck(t *testing.T) {
	url, err := config.ParseDatabaseURL("postgres://db/opencpm")
	if err != nil {
		t.Fatal(err)
	}
	key := config.NewSecret("0123456789abcdef")
	for name, test := range map[string]struct {
		store    config.Store
		keyPath  string
		wantPart string
	}{
		"nothing":                    {wantPart: "no database is set: give --data DIR"},
		"both":                       {store: config.Store{Data: "/d", DatabaseURL: url}, keyPath: "/d/keys", wantPart: "both data and database-url are set"},
		"PostgreSQL without keys":    {store: config.Store{DatabaseURL: url}, wantPart: "give --key-file FILE or set OPENCPM_KEY"},
		"keys twice":                 {store: config.Store{DatabaseURL: url, Key: key, KeyFile: "/k"}, keyPath: "/k", wantPart: "both the sealing keys and a key file are set"},
		"data":                       {store: config.Store{Data: "/d"}, keyPath: "/d/keys"},
		"data, key file elsewhere":   {store: config.Store{Data: "/d", KeyFile: "/k"}, keyPath: "/k"},
		"data, keys themselves":      {store: config.Store{Data: "/d", Key: key}},
		"PostgreSQL with key file":   {store: config.Store{DatabaseURL: url, KeyFile: "/k"}, keyPath: "/k"},
		"PostgreSQL with keys given": {store: config.Store{DatabaseURL: url, Key: key}},
	} {
		t.Run(name, func(t *testing.T) {
			if got := test.store.KeyPath(); got != test.keyPath {
				t.Errorf("KeyPath() = %q, want %q", got, test.keyPath)
			}
			err := test.store.Check()
			if test.wantPart == "" && err != nil {
				t.Errorf("refused: %v", err)
			}
			if test.wantPart != "" && (err == nil || !strings.Contains(err.Error(), test.wantPart)) {
				t.Errorf("error %v, want one with %q", err, test.wantPart)
			}
		})
	}
}

func TestSecretMask(t *testing.T) {
	for text, want := range map[string]string{
		"":                  "",
		"x":                 "••••",
		"123456789012345":   "••••",
		"1234567890123456":  "••••3456",
		"ééééééééääääääää":  "••••ääää",
		"12345678901234567": "••••4567",
	} {
		if got := config.NewSecret(text).String(); got != want {
			t.Errorf("%q is shown as %q, want %q", text, got, want)
		}
	}
}

func TestDatabaseURL(t *testing.T) {
	for text, want := range map[string]string{
		"postgres://db/opencpm":                                         "postgres://db/opencpm",
		"postgres:///opencpm?host=/run/postgresql":                      "postgres:///opencpm?host=/run/postgresql",
		"postgresql://me@db:5432/opencpm":                               "postgresql://me@db:5432/opencpm",
		"postgres://me:hunter2@db/opencpm":                              "postgres://me:••••@db/opencpm",
		"postgres://me:hun:ter2@db/opencpm":                             "postgres://me:••••@db/opencpm",
		"postgres://me:hunter2@x@db/opencpm":                            "postgres://me:••••@db/opencpm",
		"postgres://:hunter2@db/opencpm":                                "postgres://:••••@db/opencpm",
		"postgres://me:hunter2@a:5432,b:5433/o?target_session_attrs=rw": "postgres://me:••••@a:5432,b:5433/o?target_session_attrs=rw",
		"postgres://db/o?user=me&password=hunter2&sslmode=require":      "postgres://db/o?user=me&password=••••&sslmode=require",
		"postgres://db/o?p%61ssword=hunter2":                            "postgres://db/o?p%61ssword=••••",
		"postgres://db/o?sslpassword=hunter2&%zz=hunter2":               "postgres://db/o?sslpassword=••••&%zz=••••",
	} {
		url, err := config.ParseDatabaseURL(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
		} else if url.String() != want || url.Reveal() != text {
			t.Errorf("%s is shown as %s, want %s", text, url, want)
		}
	}
	for _, text := range []string{
		"", "host=db password=hunter2", "db/opencpm", "https://db", "postgres://", "postgres://me:hun#ter2@db/o",
		"postgres://me:hun?ter2@db/o", "postgres://me:hunter2@a/b@db/o", "postgres://me:hun ter2@db/o", "postgres://me:hunter2@db/o\n",
	} {
		if url, err := config.ParseDatabaseURL(text); err == nil {
			t.Errorf("%q is accepted as %s", text, url)
		} else if strings.Contains(err.Error(), "hun") {
			t.Errorf("the error shows the URL: %v", err)
		}
	}
}

// A planted secret appears in nothing that is printed, encoded or logged, however it is wrapped.
func TestSecretsStaySecret(t *testing.T) {
	const planted = "hunter2-hunter2-hunter2"
	p, ctx, err := parse("config", "OPENCPM_KEY="+planted, "OPENCPM_DATABASE_URL=postgres://me:"+planted+"@db/opencpm?sslpassword="+planted,
		"OPENCPM_SMTP_URL=smtp://me:"+planted+"@mail.example.com")
	if err != nil {
		t.Fatal(err)
	}
	if p.Config.Key.Reveal() != planted || strings.Count(p.Config.DatabaseURL.Reveal(), planted) != 2 {
		t.Fatal("the secrets did not arrive")
	}
	if password, _ := p.Config.SMTPURL.URL().User.Password(); password != planted {
		t.Fatal("the password of the mail server did not arrive")
	}
	values, err := config.Effective(ctx)
	if err != nil {
		t.Fatal(err)
	}

	var out bytes.Buffer
	hidden := struct {
		key config.Secret
		url config.DatabaseURL
		all *program
	}{p.Config.Key, p.Config.DatabaseURL, p}
	for _, value := range []any{p.Config.Key, &p.Config.Key, p.Config.DatabaseURL, p.Config.SMTPURL, p.Config.Mail, p.Config.Store, *p, p, hidden, &hidden, values, []any{p.Config.Key}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d"} {
			fmt.Fprintf(&out, verb+"\n", value)
		}
		for _, handler := range []slog.Handler{slog.NewTextHandler(&out, nil), slog.NewJSONHandler(&out, nil)} {
			slog.New(handler).Info("m", "value", value, slog.Group("g", "value", value))
		}
		if text, err := json.Marshal(value); err == nil {
			out.Write(text)
		}
		if text, err := yaml.Marshal(value); err == nil {
			out.Write(text)
		}
	}
	if err := values.WriteText(&out); err != nil {
		t.Fatal(err)
	}
	for _, form := range []string{planted, fmt.Sprintf("%x", planted), fmt.Sprintf("%X", planted), planted[:8]} {
		if strings.Contains(out.String(), form) {
			t.Errorf("the output shows a secret as %s:\n%s", form, out.String())
		}
	}
	for _, want := range []string{"••••ter2", "postgres://me:••••@db/opencpm?sslpassword=••••", "smtp://me:••••@mail.example.com"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the output lacks the mask %s", want)
		}
	}
}

func TestEffective(t *testing.T) {
	path := write(t, "opencpm.yaml", "\nwebhook-allow-net: [10.0.0.0/8, ::1/128]\n")
	_, ctx, err := parse("config --json --data /d --config "+path, "OPENCPM_ROLES=http,jobs", "OPENCPM_RATE_LIMIT=2.5")
	if err != nil {
		t.Fatal(err)
	}
	values, err := config.Effective(ctx)
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	if err := values.WriteText(&text); err != nil {
		t.Fatal(err)
	}
	want := strings.ReplaceAll(`# General
config  $FILE  flag --config
# Storage
data          /d       flag --data
database-url  -        default
key-file      /d/keys  default
key           -        default
# HTTP
listen          127.0.0.1:8080  default
base-url        -               default
trusted-proxy   -               default
rate-limit      2.5             env OPENCPM_RATE_LIMIT
token-lifetime  24h             default
token-audience  -               default
# Delivery
webhook-allow-net       10.0.0.0/8,::1/128  file $FILE:2
webhook-quick-attempts  3                   default
webhook-quick-delays    1s,5s               default
webhook-retry-interval  1h                  default
webhook-retry-spread    10                  default
webhook-timeout         15s                 default
webhook-concurrency     8                   default
webhook-log-days        30                  default
webhook-log-size        1024                default
# Mail
smtp-url        -  default
mail-from       -  default
operator-email  -  default
# Process
log-level         info       default
log-format        text       default
roles             http,jobs  env OPENCPM_ROLES
shutdown-timeout  20s        default
pprof-listen      -          default
`, "$FILE", path)
	if diff := cmp.Diff(want, text.String()); diff != "" {
		t.Errorf("text (-want +got):\n%s", diff)
	}

	encoded, err := json.Marshal(values)
	if err != nil {
		t.Fatal(err)
	}
	var members map[string]any
	if err := json.Unmarshal(encoded, &members); err != nil {
		t.Fatal(err)
	}
	if len(members) != len(values) {
		t.Errorf("%d members for %d settings", len(members), len(values))
	}
	for name, want := range map[string]any{
		"listen":            map[string]any{"value": "127.0.0.1:8080", "source": "default"},
		"base-url":          map[string]any{"value": nil, "source": "default"},
		"rate-limit":        map[string]any{"value": 2.5, "source": "env", "from": "OPENCPM_RATE_LIMIT"},
		"webhook-allow-net": map[string]any{"value": []any{"10.0.0.0/8", "::1/128"}, "source": "file", "from": path + ":2"},
	} {
		if diff := cmp.Diff(want, members[name]); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}

	if _, err := config.Effective(&kong.Context{Kong: kong.Must(&struct{}{})}); err == nil {
		t.Error("a context that is not from Parse has effective values")
	}
}

// Help names the variable and the limits of a flag, and shows no flag for what must not be one.
func TestHelp(t *testing.T) {
	var out strings.Builder
	var p program
	exited := false
	_, err := config.Parse(&p, []string{"serve", "--help"}, []string{"OPENCPM_TYPO=1"},
		kong.Writers(&out, &out), kong.Exit(func(int) { exited = true }))
	if !exited {
		t.Fatalf("--help did not exit; error %v", err)
	}
	help := strings.Join(strings.Fields(out.String()), " ")
	for _, want := range []string{"--listen=", "($OPENCPM_LISTEN)", "From 100ms to 30s. ($OPENCPM_WEBHOOK_TIMEOUT)", "One of text, json."} {
		if !strings.Contains(help, want) {
			t.Errorf("help lacks %q:\n%s", want, out.String())
		}
	}
	if strings.Contains(help, "--key=") {
		t.Error("help offers the sealing keys as a flag")
	}
}

func TestReferencePageIsCurrent(t *testing.T) {
	page, err := os.ReadFile("../../docs/operations/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(config.Reference(), string(page)); diff != "" {
		t.Errorf("the page is not what go generate ./internal/config writes (-want +got):\n%s", diff)
	}
}

// Whatever the file holds, reading it ends in values or in an error with the file's name.
func FuzzFile(f *testing.F) {
	for _, text := range []string{"data: /d\n", "roles: [http, jobs]\n", "key: |\n  a\n", "a: &x b\nc: *x\n", "? a\n: b\n", "<<: {a: b}\n", "---\n...\n", "!!map {a: b}"} {
		f.Add(text)
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, text string) {
		path := filepath.Join(dir, "opencpm.yaml")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, _, err := parse("serve --config " + path); err != nil && !strings.HasPrefix(err.Error(), path) {
			t.Errorf("the error does not name the file: %v", err)
		}
	})
}

// Wherever a password may stand in an accepted URL, it is not shown.
func FuzzDatabaseURL(f *testing.F) {
	f.Add("me", "db:5432", "/opencpm?sslmode=require")
	f.Add("", "a,b", "?x=y#z")
	f.Add("a:b", "c/d", "")
	f.Fuzz(func(t *testing.T, user, host, tail string) {
		const planted = "hunter2"
		url, err := config.ParseDatabaseURL("postgres://" + user + ":" + planted + "@" + host + tail)
		if err == nil && strings.Contains(url.String(), planted) && !strings.Contains(user+host+tail, planted) {
			t.Errorf("the password is shown: %s", url)
		}
	})
}
