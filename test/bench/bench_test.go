package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// TestMain lets the test be its own yardsticks, as the program is.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == yardstickCommand {
		main()
		return
	}
	goleak.VerifyTestMain(m)
}

// Every trip is made, as small as it can be, and finds a figure for itself and for its yardstick.
func TestEveryTripFindsFigures(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	binary := filepath.Join(t.TempDir(), "opencpm")
	build := exec.Command("go", "build", "-o", binary, "github.com/opencpm/opencpm/cmd/opencpm")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build opencpm: %v\n%s", err, out)
	}
	b := &bench{
		binary: binary, progress: t.Output(), profiles: t.TempDir(),
		plan: plan{
			citizens: []int{200, 400}, rounds: 1, round: 50 * time.Millisecond, backlog: 200,
			changes: 20, steady: 200 * time.Millisecond, idle: 50 * time.Millisecond, starts: 1,
		},
	}
	r, err := b.measure(context.Background(), []string{sqlite}, []string{"growth", "record", "read", "deliver", "hanging", "tokens", "latency", "start", "memory"})
	if err != nil {
		t.Fatal(err)
	}
	if r.Machine.Fsync <= 0 || r.Machine.Model == "" || r.Machine.Kernel == "" {
		t.Errorf("the machine is %+v", r.Machine)
	}
	var named []string
	for _, line := range r.Rows {
		named = append(named, line.Trip)
		if line.Database != sqlite || line.Citizens != 400 || line.Measured <= 0 || line.Yardstick != "" && line.Against <= 0 || line.Judged == ratio && line.Score <= 0 {
			t.Errorf("a row without a figure: %+v", line)
		}
	}
	want := []string{
		"growth: record", "growth: read", "record one change, 64 clients", "record one change, 64 clients", "read one citizen, 8 options",
		"drain a backlog of 200", "processor time per delivery, whole stack", "record and deliver at once, 64 clients", "drain to 90 endpoints, 10 more hang", "tokens for everyone, in a file",
		"change to webhook, idle, p50", "change to webhook, idle, p99", "change to webhook, 200 changes/s, p50", "change to webhook, 200 changes/s, p99",
		"start until ready", "memory, idle", "memory at most, all citizens waiting", "change to webhook while those drain, p99", "memory at most, while those drain",
	}
	if !slices.Equal(named, want) {
		t.Errorf("the trips are\n%q, want\n%q", named, want)
	}
	for _, name := range []string{"record", "read", "drain", "saturate"} {
		if info, err := os.Stat(filepath.Join(b.profiles, sqlite+"-"+name+".pprof")); err != nil || info.Size() == 0 {
			t.Errorf("the profile of %s: %v", name, err)
		}
	}
	if left, err := os.ReadDir(os.Getenv("TMPDIR")); err != nil || len(left) > 0 {
		t.Errorf("the run left %v behind (%v)", left, err)
	}
}

func TestVerdicts(t *testing.T) {
	for name, test := range map[string]struct {
		row  row
		want string // what is judged, its spread, the goal and the verdict
	}{
		"ratio, of each round and its own yardstick": {
			row{Unit: perSecond, Judged: ratio, Goal: 0.5}.against([]float64{50, 600, 20}, []float64{100, 1000, 50}), "0.50 | 0.40 to 0.60 | ≥ 0.50 | met",
		},
		"ratio too small":      {row{Unit: perSecond, Judged: ratio, Goal: 0.6}.against([]float64{50}, []float64{100}), "0.50 | – | ≥ 0.60 | missed by 0.10"},
		"difference":           {row{Unit: milliseconds, Judged: difference, Goal: 5}.against([]float64{7}, []float64{2}), "5.00 ms | – | ≤ 5.00 ms above | met"},
		"difference too great": {row{Unit: milliseconds, Judged: difference, Goal: 5}.against([]float64{19.5}, []float64{2}), "17.5 ms | – | ≤ 5.00 ms above | missed by 12.5 ms"},
		"itself":               {row{Unit: mebibytes, Goal: 64}.alone(63, 64, 65), "64.0 MiB | 63.0 MiB to 65.0 MiB | ≤ 64.0 MiB | met"},
		"itself too great":     {row{Unit: mebibytes, Goal: 64}.alone(164), "164 MiB | – | ≤ 64.0 MiB | missed by 100 MiB"},
		"without a goal":       {row{Unit: milliseconds}.alone(1), "1.00 ms | – | – | –"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := strings.Join(test.row.cells()[5:], " | "); got != test.want {
				t.Errorf("got %s, want %s", got, test.want)
			}
		})
	}
}

func TestQuantile(t *testing.T) {
	list := make([]int, 100)
	for i := range list {
		list[i] = 100 - i
	}
	for q, want := range map[float64]int{0.5: 50, 0.99: 99, 1: 100, 0: 1} {
		if got := quantile(list, q); got != want {
			t.Errorf("quantile %v of 1 to 100 is %d, want %d", q, got, want)
		}
	}
}

// What was found survives the file, and the page holds it between its two lines however often it is put there.
func TestResultsArePublished(t *testing.T) {
	dir := t.TempDir()
	page, results := filepath.Join(dir, "page.md"), filepath.Join(dir, "results.json")
	found := report{
		At: time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC), Machine: machine{Processors: 2, Model: "Z80", Kernel: "6.1", Go: "go1.26", Fsync: 123456, Others: 0.25},
		Rows: []row{
			row{Database: sqlite, Trip: "read", Citizens: 10_000, Unit: perSecond, Judged: ratio, Yardstick: "bare", Goal: 0.5}.against([]float64{500}, []float64{1000}),
			row{Database: postgres, Trip: "memory", Citizens: 10_000, Unit: mebibytes, Goal: 64}.alone(100),
		},
	}
	if err := found.save(results); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(page, []byte("before\n"+resultsBegin+"old\n"+resultsEnd+"after\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	want := "before\n" + resultsBegin + `
Measured on 2026-11-22: 2 × Z80, Linux 6.1, go1.26; an append and its fsync take 123µs there.
Other programs used 25 % of the processors meanwhile.

### SQLite

| Citizens | Trip | Measured | Yardstick | Score | Spread | Goal | Verdict |
| --- | --- | --- | --- | --- | --- | --- | --- |
| 10,000 | read | 500/s (2,000,000 ns) | bare 1,000/s (1,000,000 ns) | 0.50 | – | ≥ 0.50 | met |

### PostgreSQL

| Citizens | Trip | Measured | Yardstick | Score | Spread | Goal | Verdict |
| --- | --- | --- | --- | --- | --- | --- | --- |
| 10,000 | memory | 100 MiB | – | 100 MiB | – | ≤ 64.0 MiB | missed by 36.0 MiB |

` + resultsEnd + "after\n"
	for range 2 {
		if err := run(context.Background(), []string{"-json", results, "-markdown", page}, nil, t.Output()); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		if string(got) != want {
			t.Fatalf("the page is\n%s\nwant\n%s", got, want)
		}
	}
	if err := os.WriteFile(page, []byte("no place for results\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := found.putInto(page); err == nil {
		t.Error("results were put into a page without a place for them")
	}
}
