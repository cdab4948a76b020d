// Command bench measures what the built binary reaches against yardsticks that do only what physics demands, on the same
// machine and in turn with what is measured. docs/performance.md explains each trip and shows the results.
package main

import (
	"context"
	"database/sql"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

//go:generate go run . -json ../../docs/performance.json -markdown ../../docs/performance.md

func main() {
	if len(os.Args) > 1 && os.Args[1] == yardstickCommand {
		if err := runYardstick(os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, "yardstick:", err)
			os.Exit(1)
		}
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// plan says how much is measured.
type plan struct {
	citizens []int         // how many the store holds, stage by stage
	rounds   int           // of each trip and its yardsticks; one more comes first and is not counted
	round    time.Duration // how long a round takes that is bounded by time
	backlog  int           // citizens who wait when a drain begins
	changes  int           // one after another on an idle system
	steady   time.Duration // of a steady rate
	idle     time.Duration // before memory is looked at
	starts   int
}

var (
	full = plan{
		citizens: []int{10_000, 100_000, 1_000_000}, rounds: 5, round: 3 * time.Second, backlog: 10_000,
		changes: 500, steady: 20 * time.Second, idle: 10 * time.Second, starts: 5,
	}
	quick = plan{
		citizens: []int{1_000, 5_000}, rounds: 3, round: 400 * time.Millisecond, backlog: 1_000,
		changes: 300, steady: time.Second, idle: 500 * time.Millisecond, starts: 2,
	}
)

// bench is one run.
type bench struct {
	plan     plan
	binary   string // the product
	postgres string // URL of the PostgreSQL server
	profiles string // directory for CPU profiles; empty where none are wanted
	dir      string // for everything that the run writes
	progress io.Writer
	receiver *receiver
	last     bool         // the round is the last one: of it a profile is taken
	changes  atomic.Int64 // how many were made: their numbers
	rows     []row
}

// trips are what can be measured on a store that has all its citizens, in the order of the table.
var trips = []struct {
	name    string
	measure func(b *bench, ctx context.Context, s *store) error
}{
	{"record", (*bench).record},
	{"read", (*bench).read},
	{"deliver", (*bench).drain},
	{"hanging", (*bench).hanging},
	{"tokens", (*bench).tokens},
	{"latency", (*bench).latency},
	{"start", (*bench).start},
	{"memory", (*bench).memory},
}

// run is the program, with everything it gets from outside as parameters.
func run(ctx context.Context, args []string, out, progress io.Writer) error {
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(progress)
	b := &bench{plan: full, progress: progress, postgres: os.Getenv("OPENCPM_TEST_DATABASE_URL")}
	flags.StringVar(&b.binary, "binary", "bin/opencpm", "the product, built")
	flags.StringVar(&b.profiles, "profile", "", "`directory` for CPU profiles of the server; the figures suffer from their being taken")
	path := flags.String("json", "docs/performance.json", "`file` to which the results are written; empty for none")
	page := flags.String("markdown", "", "measure nothing, but put the results of the file into this `page`; - prints them")
	short := flags.Bool("quick", false, "small and short, to see that everything works; writes no file unless one is named")
	databases := flags.String("databases", sqlite+","+postgres, "the databases to measure on; PostgreSQL is the server that OPENCPM_TEST_DATABASE_URL names")
	wanted := flags.String("trips", "growth,record,read,deliver,hanging,tokens,latency,start,memory", "the trips to measure")
	citizens := flags.String("citizens", "", "how many citizens the store holds, stage by stage (default 10000,100000,1000000)")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *page != "" {
		return publish(*path, *page, out)
	}
	named := map[string]bool{}
	flags.Visit(func(f *flag.Flag) { named[f.Name] = true })
	if *short {
		b.plan = quick
		if !named["json"] {
			*path = ""
		}
	}
	if named["citizens"] {
		var err error
		if b.plan.citizens, err = parseStages(*citizens); err != nil {
			return err
		}
	}
	if b.profiles != "" {
		if err := os.MkdirAll(b.profiles, 0o755); err != nil {
			return err
		}
	}
	found, err := b.measure(ctx, strings.Split(*databases, ","), strings.Split(*wanted, ","))
	if err != nil {
		return err
	}
	found.Quick = *short
	if *path != "" {
		err = found.save(*path)
	}
	b.say("other programs used %.0f %% of the processors meanwhile", 100*found.Machine.Others)
	return errors.Join(err, found.writeText(out))
}

// publish shows the results of an earlier run.
func publish(path, page string, out io.Writer) error {
	r, err := load(path)
	if err != nil {
		return err
	}
	if page == "-" {
		_, err := io.WriteString(out, r.markdown())
		return err
	}
	return r.putInto(page)
}

func parseStages(text string) (stages []int, err error) {
	for _, t := range strings.Split(text, ",") {
		n, err := strconv.Atoi(t)
		if err != nil || n < groupSize || len(stages) > 0 && n <= stages[len(stages)-1] {
			return nil, fmt.Errorf("-citizens: must be numbers that rise, from %d on", groupSize)
		}
		stages = append(stages, n)
	}
	return stages, nil
}

// measure makes the trips on each database.
func (b *bench) measure(ctx context.Context, databases, wanted []string) (report, error) {
	debug.SetGCPercent(400) // the load shares the processors with what it measures
	r := report{At: time.Now().UTC()}
	var err error
	if b.dir, err = os.MkdirTemp("", "opencpm-bench-"); err != nil {
		return r, err
	}
	defer os.RemoveAll(b.dir)
	if b.receiver, err = newReceiver(ctx); err != nil {
		return r, err
	}
	defer b.receiver.close()
	if r.Machine, err = b.describe(ctx); err != nil {
		return r, err
	}
	if slices.Contains(databases, postgres) {
		if r.Machine.PostgreSQL, err = b.checkPostgres(ctx); err != nil {
			return r, err
		}
	}
	before, err := b.usage(ctx, databases)
	if err != nil {
		return r, err
	}
	for _, kind := range databases {
		if err := b.measureOn(ctx, kind, wanted); err != nil {
			return r, fmt.Errorf("%s: %w", kind, err)
		}
	}
	r.Rows = b.rows
	after, err := b.usage(ctx, databases)
	r.Machine.Others = after.othersSince(before)
	return r, err
}

// measureOn fills a store stage by stage and measures how it grows, then everything else on the store with all citizens.
func (b *bench) measureOn(ctx context.Context, kind string, wanted []string) error {
	stages := b.plan.citizens
	s, err := b.newStore(ctx, kind, kind)
	if err != nil {
		return err
	}
	if err := s.seedTo(ctx, stages[0]); err != nil {
		return err
	}
	if slices.Contains(wanted, "growth") && len(stages) > 1 {
		small, err := b.newStore(ctx, kind, kind+"-small")
		if err != nil {
			return err
		}
		if err := small.seedTo(ctx, stages[0]); err != nil {
			return err
		}
		for _, n := range stages[1:] {
			if err := s.seedTo(ctx, n); err != nil {
				return err
			}
			if err := b.growth(ctx, small, s); err != nil {
				return fmt.Errorf("growth: %w", err)
			}
		}
		if err := small.drop(ctx); err != nil {
			return err
		}
	}
	if last := stages[len(stages)-1]; s.citizens < last {
		if err := s.seedTo(ctx, last); err != nil {
			return err
		}
	}
	for _, trip := range trips {
		if !slices.Contains(wanted, trip.name) {
			continue
		}
		if err := trip.measure(b, ctx, s); err != nil {
			return fmt.Errorf("%s: %w", trip.name, err)
		}
	}
	return s.drop(ctx)
}

// interleave runs the contenders in turn, round after round, and gives the figures of each. The first round is to warm
// up and is left out.
func (b *bench) interleave(contenders ...func() (float64, error)) ([][]float64, error) {
	figures := make([][]float64, len(contenders))
	for round := range b.plan.rounds + 1 {
		b.last = round == b.plan.rounds
		for i, contender := range contenders {
			syscall.Sync() // what one has left unwritten must not slow the fsyncs of the next
			figure, err := contender()
			if err != nil {
				return nil, err
			}
			if round > 0 {
				figures[i] = append(figures[i], figure)
			}
		}
	}
	return figures, nil
}

// add keeps a row and shows it at once.
func (b *bench) add(s *store, r row) {
	r.Database, r.Citizens = s.kind, s.citizens
	b.rows = append(b.rows, r)
	b.say("%s", strings.Join(r.cells(), " | "))
}

func (b *bench) say(format string, args ...any) { fmt.Fprintf(b.progress, format+"\n", args...) }

// patience is how long the program waits for anything before it gives up.
const patience = 5 * time.Minute

// await waits until a channel is closed.
func (b *bench) await(ctx context.Context, c <-chan struct{}) error {
	select {
	case <-c:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(patience):
		return fmt.Errorf("waited in vain for %v", patience)
	}
}

// describe says what the run is measured on.
func (b *bench) describe(ctx context.Context) (machine, error) {
	m := machine{Processors: runtime.NumCPU(), Model: "processor", Go: runtime.Version()}
	cpus, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return m, err
	}
	for l := range strings.Lines(string(cpus)) {
		if name, value, _ := strings.Cut(l, ":"); strings.TrimSpace(name) == "model name" {
			m.Model = strings.TrimSpace(value)
		}
	}
	kernel, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		return m, err
	}
	m.Kernel = strings.TrimSpace(string(kernel))
	f, err := b.newFloor(ctx)
	if err != nil {
		return m, err
	}
	defer f.close()
	took := make([]time.Duration, 200)
	for i := range took {
		if took[i], err = f.fsync(); err != nil {
			return m, err
		}
	}
	m.Fsync = quantile(took, 0.5)
	return m, nil
}

// checkPostgres gives the version of the server and refuses one that may forget what it has acknowledged.
func (b *bench) checkPostgres(ctx context.Context) (version string, err error) {
	if b.postgres == "" {
		return "", errors.New("OPENCPM_TEST_DATABASE_URL names no PostgreSQL server; make bench starts one")
	}
	db, err := sql.Open("pgx", b.postgres)
	if err != nil {
		return "", err
	}
	defer db.Close()
	var fsync, pages, commit string
	err = db.QueryRowContext(ctx, `SELECT current_setting('server_version'), current_setting('fsync'), current_setting('full_page_writes'),
		current_setting('synchronous_commit')`).Scan(&version, &fsync, &pages, &commit)
	if err == nil && (fsync != "on" || pages != "on" || commit != "on") {
		err = fmt.Errorf("the PostgreSQL server is not durable: fsync is %s, full_page_writes %s, synchronous_commit %s", fsync, pages, commit)
	}
	version, _, _ = strings.Cut(version, " ")
	return version, err
}
