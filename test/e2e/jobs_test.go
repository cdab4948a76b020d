package e2e_test

import (
	"bufio"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	_ "modernc.org/sqlite"

	"github.com/opencpm/opencpm/test/harness"
)

// people creates so many citizens, each with one record.
func (w *world) people(t testing.TB, n int) {
	t.Helper()
	var list []object
	for i := range n {
		list = append(list, object{"externalRef": fmt.Sprint("person-", i), "changes": []object{change("newsletter-email", "consent", "GRANTED")}})
	}
	w.api.do(t, "POST", "/v1/citizens/bulk", w.bulk(list)).want(t, 200)
}

// check starts a check of the ledger; with holds further members.
func (w *world) check(t testing.TB, with ...object) string {
	t.Helper()
	body := object{"applicationId": w.id, "kind": "ledger-check"}
	for _, o := range with {
		for k, v := range o {
			body[k] = v
		}
	}
	return w.api.do(t, "POST", "/v1/jobs", body).want(t, 201).text(t, "id")
}

// ended waits for the end of a job.
func (w *world) ended(t testing.TB, id string) *answer {
	t.Helper()
	var a *answer
	eventually(t, 2*harness.Patience, "the job has ended", func() bool {
		a = w.api.do(t, "GET", "/v1/jobs/"+id, nil).want(t, 200)
		return a.peek("state") != "queued" && a.peek("state") != "running"
	})
	return a
}

func TestLedgerCheck(t *testing.T) {
	harness.OnEachStore(t, func(t *testing.T, s *harness.Store) {
		w := start(t, s, northwind)
		w.people(t, 30)
		before := time.Now()
		body := object{"applicationId": w.id, "kind": "ledger-check"}
		once := w.api.with("Idempotency-Key", "check-1")
		created := once.do(t, "POST", "/v1/jobs", body).want(t, 201)
		id := created.text(t, "id")
		if again := once.do(t, "POST", "/v1/jobs", body).want(t, 201).text(t, "id"); again != id {
			t.Errorf("the same request made another job, %s after %s", again, id)
		}
		if created.peek("state") != "queued" || created.peek("applicationId") != w.id || created.peek("createdBy") != w.clientID || created.at("startedAt") != nil || created.at("expiresAt") != nil {
			t.Errorf("created %s", created.raw)
		}
		job := w.ended(t, id)
		if job.peek("state") != "done" || job.at("progress.done") != 30.0 || job.at("progress.total") != 30.0 || job.at("progress.failures") != 0.0 || job.at("error") != nil ||
			job.at("progress.ratePerSecond") != nil || job.at("files.0.name") != "result" || job.at("files.1") != nil {
			t.Errorf("ended as %s", job.raw)
		}
		if finished := instant(t, job.at("finishedAt")); finished.Before(before.Add(-time.Second)) || !instant(t, job.at("expiresAt")).Equal(finished.Add(7*24*time.Hour)) {
			t.Errorf("times of %s", job.raw)
		}
		result := w.api.do(t, "GET", "/v1/jobs/"+id+"/files/result", nil).want(t, 200)
		if result.at("citizens") != 30.0 || result.at("records") != 30.0 || result.at("failed") != 0.0 || result.at("applicationId") != w.id {
			t.Errorf("the result is %s", result.raw)
		}
		if d := result.header.Get("Content-Disposition"); d != fmt.Sprintf(`attachment; filename="ledger-check-%s-result.json"`, id) {
			t.Errorf("Content-Disposition %q", d)
		}
		if size := job.at("files.0.size"); size != float64(len(result.raw)) {
			t.Errorf("size %v of %d bytes", size, len(result.raw))
		}
		w.api.do(t, "GET", "/v1/jobs/"+id+"/files/failures", nil).refused(t, 404)
		w.api.do(t, "GET", "/v1/jobs/"+id+"/files/other", nil).refused(t, 404)
		w.api.do(t, "GET", "/v1/jobs/"+w.clientID, nil).refused(t, 404)
		if same := w.api.do(t, "POST", "/v1/jobs/"+id+"/cancel", nil).want(t, 200); same.peek("state") != "done" {
			t.Errorf("cancelled after its end: %s", same.raw)
		}

		w.api.do(t, "POST", "/v1/jobs", object{"applicationId": w.id, "kind": "resync"}).refused(t, 422, "kind")
		w.api.do(t, "POST", "/v1/jobs", object{"applicationId": w.id}).refused(t, 422, "kind")
		w.api.do(t, "POST", "/v1/jobs", object{"applicationId": w.id, "kind": "ledger-check", "maxPerSecond": 0}).refused(t, 422, "maxPerSecond")
		_, metrics := w.api.glance(t, "/metrics")
		for _, line := range []string{`opencpm_jobs_ended_total{kind="ledger-check",state="done"} 1`, `opencpm_jobs_running 0`} {
			if !strings.Contains(metrics, line) {
				t.Errorf("/metrics lacks %s", line)
			}
		}
		second := w.check(t)
		w.ended(t, second)
		page := w.api.do(t, "GET", query("/v1/jobs", "limit", "1"), nil).want(t, 200)
		if page.at("jobs.0.id") != second || page.at("total") != 2.0 {
			t.Errorf("the newest first: %s", page.raw)
		}
		next := w.api.do(t, "GET", query("/v1/jobs", "limit", "1", "cursor", page.text(t, "nextCursor"), "applicationId", w.id, "kind", "ledger-check", "state", "done"), nil).want(t, 200)
		if next.at("jobs.0.id") != id {
			t.Errorf("the second page: %s", next.raw)
		}
		if failed := w.api.do(t, "GET", query("/v1/jobs", "state", "failed"), nil).want(t, 200).list(t, "jobs"); len(failed) != 0 {
			t.Errorf("failed: %v", failed)
		}
	})
}

func TestScopesOfJobs(t *testing.T) {
	t.Parallel()
	s := harness.SQLite(t)
	a := newApplication(t, s, "", northwind)
	reader, writer := newAPIKey(t, s, a.id, "--scope", "jobs:read"), newAPIKey(t, s, a.id, "--scope", "jobs:write")
	checker := newAPIKey(t, s, a.id, "--scope", "jobs:write", "--scope", "consent:read")
	nobody := anonymous(t, s.Serve(t))
	body := object{"applicationId": a.id, "kind": "ledger-check"}
	nobody.with("X-API-Key", writer).do(t, "POST", "/v1/jobs", body).want(t, 403)
	nobody.with("X-API-Key", reader).do(t, "POST", "/v1/jobs", body).want(t, 403)
	id := nobody.with("X-API-Key", checker).do(t, "POST", "/v1/jobs", body).want(t, 201).text(t, "id")
	nobody.with("X-API-Key", reader).do(t, "GET", "/v1/jobs/"+id, nil).want(t, 200)
	nobody.with("X-API-Key", writer).do(t, "GET", "/v1/jobs/"+id, nil).want(t, 403)
	nobody.with("X-API-Key", reader).do(t, "POST", "/v1/jobs/"+id+"/cancel", nil).want(t, 403)
	nobody.with("X-API-Key", writer).do(t, "POST", "/v1/jobs/"+id+"/cancel", nil).want(t, 200)
}

// What is wrong is found, citizen by citizen; the files go when they have expired.
func TestLedgerCheckFindsWhatIsWrong(t *testing.T) {
	t.Parallel()
	s := harness.SQLite(t)
	w := start(t, s, northwind)
	w.people(t, 5)
	tampered := w.record(t, "tampered", change("newsletter-email", "consent", "GRANTED")).text(t, "citizenId")
	db, err := sql.Open("sqlite", "file:"+filepath.Join(s.Dir, "opencpm.db")+"?_pragma=busy_timeout(10000)")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	tamper := func(statement string) {
		t.Helper()
		if _, err := db.Exec(statement); err != nil {
			t.Fatal(err)
		}
	}
	tamper(`UPDATE ledger SET body = replace(body, 'GRANTED', 'DENIED') WHERE citizen = (SELECT max(id) FROM citizen)`)
	id := w.check(t)
	job := w.ended(t, id)
	failures := w.api.do(t, "GET", "/v1/jobs/"+id+"/files/failures", nil).want(t, 200)
	lines := strings.Split(strings.TrimSuffix(string(failures.raw), "\r\n"), "\r\n")
	if job.at("progress.failures") != 1.0 || job.at("progress.done") != 6.0 || len(lines) != 2 || lines[0] != "citizenId,problem" || !strings.HasPrefix(lines[1], tampered+",") {
		t.Errorf("found %q, %s", lines, job.raw)
	}
	if ct := failures.header.Get("Content-Type"); ct != "text/csv; charset=utf-8" {
		t.Errorf("Content-Type %q", ct)
	}
	tamper(`UPDATE job SET expires_at = 1`)
	w.api.do(t, "GET", "/v1/jobs/"+id+"/files/failures", nil).refused(t, 410)
	if files := w.api.do(t, "GET", "/v1/jobs/"+id, nil).want(t, 200).list(t, "files"); len(files) != 0 {
		t.Errorf("expired, and still listed: %v", files)
	}
	w.server.Kill() // its data would not pass the check at the end
}

// A server that is killed in the middle of a job leaves it where it was, and the next one
// goes on from there.
func TestAJobSurvivesAKill(t *testing.T) {
	harness.OnEachStore(t, func(t *testing.T, s *harness.Store) {
		w := start(t, s, northwind)
		w.people(t, 200)
		id := w.check(t, object{"maxPerSecond": 50})
		var before *answer
		eventually(t, harness.Patience, "the job is on its way", func() bool {
			before = w.api.do(t, "GET", "/v1/jobs/"+id, nil).want(t, 200)
			return before.at("progress.done").(float64) >= 50
		})
		w.server.Kill()
		server := s.Serve(t)
		w = &world{application: w.application, server: server, api: connect(t, server, w.clientID, w.clientSecret)}
		resumed := w.api.do(t, "GET", "/v1/jobs/"+id, nil).want(t, 200)
		if resumed.at("progress.done").(float64) < before.at("progress.done").(float64) || resumed.peek("state") != "running" {
			t.Errorf("before the kill %s, after it %s", before.raw, resumed.raw)
		}
		job := w.ended(t, id)
		result := w.api.do(t, "GET", "/v1/jobs/"+id+"/files/result", nil).want(t, 200)
		if job.peek("state") != "done" || job.at("progress.done") != 200.0 || job.at("startedAt") != before.at("startedAt") || result.at("citizens") != 200.0 || result.at("records") != 200.0 {
			t.Errorf("ended as %s with %s", job.raw, result.raw)
		}
	})
}

// A stop gives the job up, and it goes on with the next server, or at once with another.
func TestAJobSurvivesAStop(t *testing.T) {
	t.Parallel()
	s := harness.PostgreSQL(t)
	w := start(t, s, northwind)
	w.people(t, 200)
	id := w.check(t, object{"maxPerSecond": 50})
	eventually(t, harness.Patience, "the job is on its way", func() bool {
		return w.api.do(t, "GET", "/v1/jobs/"+id, nil).want(t, 200).at("progress.done").(float64) >= 50
	})
	other := s.Serve(t)
	w.server.Stop(t)
	stopped := time.Now()
	w = &world{application: w.application, server: other, api: connect(t, other, w.clientID, w.clientSecret)}
	job := w.ended(t, id)
	// Without the release the other node would wait 8 s for the end of the lease.
	if took := instant(t, job.at("finishedAt")).Sub(stopped); job.peek("state") != "done" || took > 7*time.Second {
		t.Errorf("%v after the stop: %s", took, job.raw)
	}
}

func TestCancellingAJob(t *testing.T) {
	harness.OnEachStore(t, func(t *testing.T, s *harness.Store) {
		w := start(t, s, northwind)
		w.people(t, 10)
		running := w.check(t, object{"maxPerSecond": 1})
		waiting := w.check(t)
		eventually(t, harness.Patience, "the job is on its way", func() bool {
			return w.api.do(t, "GET", "/v1/jobs/"+running, nil).at("progress.done") != 0.0
		})
		if a := w.api.do(t, "POST", "/v1/jobs/"+waiting+"/cancel", nil).want(t, 200); a.peek("state") != "cancelled" {
			t.Errorf("one that waits: %s", a.raw)
		}
		w.api.do(t, "POST", "/v1/jobs/"+running+"/cancel", nil).want(t, 200)
		if a := w.ended(t, running); a.peek("state") != "cancelled" || a.at("progress.done").(float64) > 5 {
			t.Errorf("one that runs: %s", a.raw)
		}
		eventually(t, harness.Patience, "both are counted", func() bool {
			_, metrics := w.api.glance(t, "/metrics")
			return strings.Contains(metrics, `opencpm_jobs_ended_total{kind="ledger-check",state="cancelled"} 2`)
		})
	})
}

// open begins to read an answer that has no end, and gives its status.
func (c *client) open(ctx context.Context, t testing.TB, target string) (status int, body io.ReadCloser) {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.base+target, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header = c.header.Clone()
	endless := *c.http
	endless.Timeout = 0
	res, err := endless.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	if ct := res.Header.Get("Content-Type"); res.StatusCode == http.StatusOK && ct != "text/event-stream" {
		t.Errorf("%s: Content-Type %q", target, ct)
	}
	return res.StatusCode, res.Body
}

// events reads server-sent events until the stream ends; the first line that is not in the
// form of one is the last that comes.
func events(body io.Reader) <-chan object {
	list := make(chan object, 100)
	go func() {
		defer close(list)
		named := false
		for lines := bufio.NewScanner(body); lines.Scan(); {
			name, value, _ := strings.Cut(lines.Text(), ": ")
			switch {
			case name == "event":
				named = value == "job"
			case name == "data" && named:
				var o object
				if json.Unmarshal([]byte(value), &o) != nil {
					return
				}
				list <- o
			case !slices.Contains([]string{"", "id", "retry"}, name):
				return
			}
		}
	}()
	return list
}

// next waits for the next event.
func next(t testing.TB, list <-chan object) object {
	t.Helper()
	select {
	case o, ok := <-list:
		if !ok {
			t.Fatal("the stream has ended")
		}
		return o
	case <-time.After(harness.Patience):
		t.Fatal("no event came")
	}
	return nil
}

// Whoever follows the jobs hears of those that have not ended, and then of every change,
// on whatever node it is made; the stream ends with the server.
func TestJobEvents(t *testing.T) {
	harness.OnEachStore(t, func(t *testing.T, s *harness.Store) {
		w := start(t, s, northwind)
		w.people(t, 30)
		listened := w.server
		if s.Name == "postgres" {
			listened = s.Serve(t)
		}
		over := w.check(t)
		w.ended(t, over)
		first := w.check(t, object{"maxPerSecond": 10})
		second := w.check(t)

		follower := connect(t, listened, w.clientID, w.clientSecret).with("Last-Event-ID", "whatever")
		status, body := follower.open(t.Context(), t, query("/v1/jobs/events", "applicationId", w.id))
		if status != 200 {
			t.Fatalf("status %d", status)
		}
		defer body.Close()
		list := events(body)
		heard := map[string][]object{}
		began := time.Now()
		for len(heard[second]) == 0 || heard[second][len(heard[second])-1]["state"] != "done" {
			o := next(t, list)
			id, _ := o["id"].(string)
			heard[id] = append(heard[id], o)
		}
		took := time.Since(began)
		if len(heard) != 2 || len(heard[over]) != 0 {
			t.Errorf("heard of %d jobs; over: %v", len(heard), heard[over])
		}
		if o := heard[second][0]; o["state"] != "queued" {
			t.Errorf("the one that waits was first heard of as %v", o)
		}
		done := -1.0
		for _, o := range heard[first] {
			now, _ := dig(o, "progress.done").(float64)
			if now < done {
				t.Errorf("the progress fell from %v to %v", done, now)
			}
			done = now
		}
		if most := int(took/(250*time.Millisecond)) + 2; done != 30 || len(heard[first]) < 3 || len(heard[first]) > most {
			t.Errorf("heard %d times, up to %v, in %v", len(heard[first]), done, took)
		}
		third := w.check(t)
		for o := next(t, list); o["id"] != third || o["state"] != "done"; {
			o = next(t, list)
		}
		listened.Stop(t)
		select {
		case o, ok := <-list:
			if ok {
				t.Errorf("after the stop came %v", o)
			}
		case <-time.After(harness.Patience):
			t.Error("the stream did not end with the server")
		}
	})
}
