package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// report is everything that one run has found.
type report struct {
	At      time.Time `json:"at"`
	Machine machine   `json:"machine"`
	Quick   bool      `json:"quick"` // small and short: shows that the program works, and is no measurement
	Rows    []row     `json:"rows"`
}

// machine is what the figures were measured on.
type machine struct {
	Processors int           `json:"processors"`
	Model      string        `json:"model"`
	Kernel     string        `json:"kernel"`
	Go         string        `json:"go"`
	PostgreSQL string        `json:"postgresql,omitempty"`
	Fsync      time.Duration `json:"fsyncNs"` // median of an append of 512 bytes and its fsync
	Others     float64       `json:"others"`  // the share of the processors that other programs used meanwhile
}

// row is one figure, what it is held against and what came of it.
type row struct {
	Database  string  `json:"database"`
	Trip      string  `json:"trip"`
	Citizens  int     `json:"citizens"` // in the store
	Measured  float64 `json:"measured"` // the median of the rounds
	Unit      unit    `json:"unit"`
	Yardstick string  `json:"yardstick,omitempty"`
	Against   float64 `json:"against,omitempty"` // the yardstick's figure, the median of the rounds
	Judged    judged  `json:"judged"`
	// Score is what is judged: the median of the rounds, and the least and the greatest of them.
	Score float64 `json:"score"`
	Low   float64 `json:"low"`
	High  float64 `json:"high"`
	Goal  float64 `json:"goal,omitempty"` // zero: none was set
	Met   bool    `json:"met"`
}

// unit is what a figure counts.
type unit string

const (
	perSecond    unit = "1/s"
	milliseconds unit = "ms"
	mebibytes    unit = "MiB"
)

// judged says which figure is held against the goal.
type judged string

const (
	ratio      judged = "ratio"      // measured by yardstick: at least the goal
	difference judged = "difference" // measured less yardstick: at most the goal
	itself     judged = "itself"     // measured: at most the goal
)

// against judges rounds of a trip by the rounds of a yardstick that were interleaved with them, each by its own.
func (r row) against(measured, yardstick []float64) row {
	scores := make([]float64, len(measured))
	for i := range measured {
		if r.Judged == ratio {
			scores[i] = measured[i] / yardstick[i]
		} else {
			scores[i] = measured[i] - yardstick[i]
		}
	}
	r.Against = median(yardstick)
	return r.scored(measured, scores)
}

// alone judges figures by nothing but the goal.
func (r row) alone(measured ...float64) row {
	r.Judged = itself
	return r.scored(measured, measured)
}

func (r row) scored(measured, scores []float64) row {
	r.Measured, r.Score, r.Low, r.High = median(measured), median(scores), slices.Min(scores), slices.Max(scores)
	r.Met = r.Goal == 0 || r.missedBy() <= 0
	return r
}

// missedBy is how far the score is on the wrong side of the goal.
func (r row) missedBy() float64 {
	if r.Judged == ratio {
		return r.Goal - r.Score
	}
	return r.Score - r.Goal
}

func median(list []float64) float64 {
	return quantile(list, 0.5)
}

// quantile is the smallest value that at least the share q of the list does not exceed.
func quantile[T cmp.Ordered](list []T, q float64) T {
	sorted := slices.Sorted(slices.Values(list))
	return sorted[max(0, int(math.Ceil(q*float64(len(sorted))))-1)]
}

// columns are the heads of the table.
var columns = []string{"Database", "Citizens", "Trip", "Measured", "Yardstick", "Score", "Spread", "Goal", "Verdict"}

func (r row) cells() []string {
	yardstick, verdict, goal := "–", "–", "–"
	if r.Yardstick != "" {
		yardstick = r.Yardstick + " " + figure(r.Against, r.Unit)
	}
	if r.Goal != 0 {
		goal, verdict = r.limit(), "met"
		if !r.Met {
			verdict = "missed by " + r.score(r.missedBy())
		}
	}
	spread := r.score(r.Low) + " to " + r.score(r.High)
	if r.Low == r.High {
		spread = "–"
	}
	return []string{r.Database, grouped(r.Citizens), r.Trip, figure(r.Measured, r.Unit), yardstick, r.score(r.Score), spread, goal, verdict}
}

func (r row) limit() string {
	switch r.Judged {
	case ratio:
		return "≥ " + r.score(r.Goal)
	case difference:
		return "≤ " + r.score(r.Goal) + " above"
	default:
		return "≤ " + r.score(r.Goal)
	}
}

// score writes a value in the terms in which the row is judged.
func (r row) score(v float64) string {
	if r.Judged == ratio {
		return fmt.Sprintf("%.2f", v)
	}
	return fmt.Sprintf("%.*f %s", decimals(v), v, r.Unit)
}

// figure writes a measured value; a rate with the nanoseconds that each one took of the whole.
func figure(v float64, u unit) string {
	if u == perSecond {
		return fmt.Sprintf("%s/s (%s ns)", grouped(int(v+0.5)), grouped(int(1e9/v+0.5)))
	}
	return fmt.Sprintf("%.*f %s", decimals(v), v, u)
}

// decimals is how many digits behind the point say something.
func decimals(v float64) int {
	switch {
	case v >= 100:
		return 0
	case v >= 10:
		return 1
	case v >= 1:
		return 2
	default:
		return 3
	}
}

// grouped writes a number with commas between its thousands.
func grouped(n int) string {
	text := fmt.Sprint(n)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}

// writeText writes the table for a terminal.
func (r report) writeText(w io.Writer) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, strings.ToUpper(strings.Join(columns, "\t")))
	for _, line := range r.Rows {
		fmt.Fprintln(table, strings.Join(line.cells(), "\t"))
	}
	return table.Flush()
}

// markdown gives the results as they stand in docs/performance.md: what they were measured on and a table for each
// database.
func (r report) markdown() string {
	var page strings.Builder
	m := r.Machine
	fmt.Fprintf(&page, "Measured on %s: %d × %s, Linux %s, %s", r.At.Format(time.DateOnly), m.Processors, m.Model, m.Kernel, m.Go)
	if m.PostgreSQL != "" {
		fmt.Fprintf(&page, ", PostgreSQL %s", m.PostgreSQL)
	}
	fmt.Fprintf(&page, "; an append and its fsync take %s there.\n", m.Fsync.Round(time.Microsecond))
	fmt.Fprintf(&page, "Other programs used %.0f %% of the processors meanwhile.\n", 100*m.Others)
	if r.Quick {
		page.WriteString("\n**A quick run:** small stores and short rounds show that the program works. They measure nothing.\n")
	}
	database := ""
	for _, line := range r.Rows {
		cells := line.cells()
		if line.Database != database {
			database = line.Database
			fmt.Fprintf(&page, "\n### %s\n\n| %s |\n%s|\n", database, strings.Join(columns[1:], " | "), strings.Repeat("| --- ", len(columns)-1))
		}
		fmt.Fprintf(&page, "| %s |\n", strings.Join(cells[1:], " | "))
	}
	return page.String()
}

func (r report) save(path string) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(text, '\n'), 0o644)
}

func load(path string) (r report, err error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return r, err
	}
	return r, json.Unmarshal(text, &r)
}

// Between these lines a page holds the results.
const (
	resultsBegin = "<!-- results: written by go generate ./test/bench -->\n"
	resultsEnd   = "<!-- end of the results -->\n"
)

// putInto replaces the results in a page.
func (r report) putInto(path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	before, rest, begins := strings.Cut(string(text), resultsBegin)
	_, after, ends := strings.Cut(rest, resultsEnd)
	if !begins || !ends {
		return fmt.Errorf("%s: the lines are missing between which the results stand", path)
	}
	return os.WriteFile(path, []byte(before+resultsBegin+"\n"+r.markdown()+"\n"+resultsEnd+after), 0o644)
}
