package deliver

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/internal/safehttp"
	"github.com/opencpm/opencpm/internal/store"
	"github.com/opencpm/opencpm/internal/store/storetest"
)

// A machine is the state machine of docs/delivery.md beside the real engine, on fake time: what happens to the engine
// happens to the machine, and whatever leaves must be what the machine allows. At the end a receiver that keeps the newest
// sentAt must hold what is effective.
type machine struct {
	w *world

	mu      sync.Mutex
	modes   map[string]mode // by URL
	paused  map[string]time.Time
	hushed  map[string]time.Time // by URL: when the endpoint last asked for a pause
	lanes   map[string]*laneModel
	commits map[string][]commit   // by citizen
	mails   map[string]*mailModel // by id
	posted  []string              // their ids, in order
	server  mailMode
	dying   bool // no outcome is recorded any more
	broken  error

	cancelMails func() // stops without waiting
	stopMails   func()
}

// mode is what an endpoint does.
type mode struct {
	name  string
	takes time.Duration
	reply safehttp.Response
	fails error
}

func (v mode) answer() safehttp.Response {
	if v.reply.Status == 0 {
		return safehttp.Response{Status: http.StatusNoContent}
	}
	return v.reply
}

func (v mode) accepts() bool { return v.fails == nil && v.answer().Status < 300 }

// pause is for how long an endpoint asks not to be called.
const pause = 40 * time.Second

var modes = []mode{
	{name: "accepts"},
	{name: "accepts slowly", takes: 3 * time.Second},
	{name: "refuses", reply: safehttp.Response{Status: http.StatusInternalServerError}},
	{name: "is busy", reply: safehttp.Response{Status: http.StatusServiceUnavailable}},
	{name: "asks for a pause", reply: safehttp.Response{Status: http.StatusTooManyRequests, Header: http.Header{"Retry-After": {"40"}}}},
	{name: "hangs", takes: 15 * time.Second, fails: &safehttp.Error{Class: safehttp.Timeout, Reason: "timed out"}},
}

// commit is when a version of a citizen's state was known to be committed.
type commit struct {
	at      time.Time
	version int64
}

// laneModel is one lane of a subscription to the full state.
type laneModel struct {
	version   int64 // of the last message
	failures  int   // of the messages since that version came
	failedAt  time.Time
	delivered int64
	underway  bool
	answered  time.Time
	doubt     bool // a crash may have lost the last outcome
	again     bool // an operator asked for it: it may leave whatever it went through
}

// The subscriptions of the machine.
const (
	adaptiveURL = "https://adaptive.example/"
	letterURL   = "https://letter.example/"
)

func (m *machine) fault(format string, args ...any) {
	if m.broken == nil {
		m.broken = fmt.Errorf(format, args...)
	}
}

// allow holds a message that leaves against the machine.
func (m *machine) allow(a arrival) *laneModel {
	key := a.url + " " + a.body.ExternalRef
	l := m.lanes[key]
	if l == nil {
		l = &laneModel{}
		m.lanes[key] = l
	}
	v, since := a.body.Sequence, a.at.Sub(l.failedAt)
	for _, c := range m.commits[a.body.ExternalRef] {
		if c.version > v && a.at.Sub(c.at) > fresh {
			m.fault("%s: version %d left %v after version %d was committed", key, v, a.at.Sub(c.at), c.version)
		}
	}
	m.mayCall(a)
	switch {
	case l.underway:
		m.fault("%s: a message left while another one was under way", key)
	case l.doubt, l.again: // as if the last one had not been
		l.doubt, l.again, l.failures, l.delivered = false, false, unknown, 0
	case v <= l.delivered:
		m.fault("%s: version %d was delivered and left again", key, v)
	case v > l.version:
		l.failures = 0
	case l.failures == 1 && since < 800*time.Millisecond, l.failures == 2 && since < 4*time.Second:
		m.fault("%s: attempt %d came %v after the one before", key, l.failures+1, since)
	case l.failures >= 3 && since < time.Hour && a.url == letterURL:
		m.fault("%s: attempt %d, from the failures store, came %v after the one before", key, l.failures+1, since)
	}
	l.version, l.underway = v, true
	return l
}

// mayCall holds a message against the pauses of its endpoint.
func (m *machine) mayCall(a arrival) {
	if at, paused := m.paused[a.url]; paused && a.at.After(at) {
		m.fault("%s: a message left %v after the pause began", a.url, a.at.Sub(at))
	}
	if since := a.at.Sub(m.hushed[a.url]); since > 0 && since < pause {
		m.fault("%s: a message left %v into the pause that the endpoint asked for", a.url, since)
	}
}

// unknown is a number of failures that a crash has made uncertain.
const unknown = -1000

// answer is what the endpoints do.
func (m *machine) answer(_ int, a arrival) (safehttp.Response, error) {
	if a.url == mailsURL {
		return m.takeMail(a)
	}
	m.mu.Lock()
	does := m.modes[a.url]
	var l *laneModel
	if a.url != receipts {
		l = m.allow(a)
	}
	m.mu.Unlock()
	time.Sleep(does.takes)
	reply := does.answer()
	m.mu.Lock()
	defer m.mu.Unlock()
	if l == nil {
		return reply, does.fails
	}
	l.underway, l.answered, l.doubt = false, time.Now(), m.dying
	switch {
	case does.accepts():
		l.delivered, l.failures = l.version, 0
	case reply.Header != nil && a.url == adaptiveURL: // it costs no attempt
		m.hushed[a.url] = time.Now()
		l.failedAt = time.Time{}
	default:
		l.failures++
		l.failedAt = time.Now()
	}
	return reply, does.fails
}

// committed notes that a version of a citizen's state is committed.
func (m *machine) committed(ref string, version int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.commits[ref] = append(m.commits[ref], commit{time.Now(), version})
}

// crash ends the engine as if its process had died: what is under way arrives, and no outcome is recorded any more. The next
// one starts after a while.
func (m *machine) crash(down time.Duration) {
	m.mu.Lock()
	m.dying = true
	for _, l := range m.lanes {
		if l.answered.Equal(time.Now()) {
			l.doubt = true
		}
	}
	for _, l := range m.mails {
		if l.answered.Equal(time.Now()) {
			l.doubt, l.lost = true, true
		}
	}
	m.mu.Unlock()
	m.w.cancel()
	m.cancelMails()
	if _, err := m.w.st.Hold(ctx, "somebody else", time.Hour); err != nil { // whose epoch makes the outcomes count for nothing
		m.w.t.Fatal(err)
	}
	m.stop()
	m.mu.Lock()
	m.dying = false
	m.mu.Unlock()
	time.Sleep(down)
	m.start()
}

func (m *machine) start() {
	m.w.start()
	m.startMails()
}

// stop ends the engine, and what hands mails to the mail server, when what is under way is done.
func (m *machine) stop() {
	m.w.stop()
	m.stopMails()
}

func TestStateMachine(t *testing.T) {
	checks(t, 30) // -short makes a fifth of it
	keys := storetest.Keys(t)
	rapid.Check(t, func(rt *rapid.T) {
		var failed any
		dir := t.TempDir()
		synctest.Test(t, func(t *testing.T) {
			m := &machine{
				modes: map[string]mode{}, paused: map[string]time.Time{}, hushed: map[string]time.Time{},
				lanes: map[string]*laneModel{}, commits: map[string][]commit{}, mails: map[string]*mailModel{},
			}
			at := &endpoint{reply: m.answer}
			m.w = newWorld(t, dir, keys, at)
			defer m.w.close()
			defer func() { failed = recover() }() // rapid must hear of it outside of the bubble
			m.run(rt)
		})
		if failed != nil {
			panic(failed)
		}
	})
}

// checks sets how many runs rapid makes, where the command line does not say.
func checks(t *testing.T, n int) {
	f := flag.Lookup("rapid.checks")
	if f.Value.String() != f.DefValue {
		return
	}
	if err := flag.Set("rapid.checks", fmt.Sprint(n)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = flag.Set("rapid.checks", f.DefValue) })
}

func (m *machine) run(rt *rapid.T) {
	w := m.w
	ids := map[string]consent.ID{
		adaptiveURL: w.subscribe(func(v *consent.Subscription) { v.URL, v.RetryPolicy = adaptiveURL, consent.Adaptive }),
		letterURL:   w.subscribe(func(v *consent.Subscription) { v.URL, v.RetryPolicy = letterURL, consent.Hourly }),
		receipts:    w.subscribeReceipts(),
		mailsURL:    w.subscribe(func(v *consent.Subscription) { v.URL, v.UpdateType = mailsURL, consent.CitizenEmails }),
	}
	urls := []string{adaptiveURL, letterURL, receipts, mailsURL} // in the order of their numbers
	pausable := []string{adaptiveURL, letterURL, mailsURL}
	m.server = mailModes[rapid.IntRange(0, len(mailModes)-1).Draw(rt, "mail server")]
	if rapid.Bool().Draw(rt, "mails by the mail server") {
		m.pause(mailsURL, ids)
	}
	m.startMails()
	defer func() { m.stopMails() }()
	refs := []string{"A", "B", "C", "D"}
	undo := map[string]consent.ID{}
	state := rapid.SampledFrom([]consent.State{consent.Granted, consent.Denied})
	down := rapid.SampledFrom([]time.Duration{0, 10 * time.Second, 10 * time.Minute})
	steps := map[string]func(*rapid.T){
		"": func(rt *rapid.T) {
			time.Sleep(time.Millisecond) // what is done at once is done
			m.checkMails()
			m.mu.Lock()
			defer m.mu.Unlock()
			if m.broken != nil {
				rt.Fatal(m.broken)
			}
		},
		"record": func(rt *rapid.T) {
			ref := rapid.SampledFrom(refs).Draw(rt, "citizen")
			r := w.record(ref, state.Draw(rt, "state"))
			undo[ref] = r.Transaction.ID
			m.committed(ref, r.Version)
		},
		"submit": func(rt *rapid.T) {
			ref := rapid.SampledFrom(refs).Draw(rt, "citizen")
			w.submit(ref, rapid.Bool().Draw(rt, "jazz"))
			m.committed(ref, 0)
		},
		"revert": func(rt *rapid.T) {
			ref := rapid.SampledFrom(refs).Draw(rt, "citizen")
			if id := undo[ref]; !id.IsZero() {
				delete(undo, ref)
				w.revert(ref, id)
				m.committed(ref, 0)
			}
		},
		"time": func(rt *rapid.T) {
			time.Sleep(rapid.SampledFrom([]time.Duration{
				10 * time.Millisecond, time.Second, 3 * time.Second, 7 * time.Second, 40 * time.Second, 10 * time.Minute, 61 * time.Minute,
			}).Draw(rt, "long"))
		},
		"endpoint": func(rt *rapid.T) {
			url, does := rapid.SampledFrom(urls).Draw(rt, "url"), rapid.IntRange(0, len(modes)-1).Draw(rt, "mode")
			m.mu.Lock()
			defer m.mu.Unlock()
			m.modes[url] = modes[does]
		},
		"pause":  func(rt *rapid.T) { m.pause(rapid.SampledFrom(pausable).Draw(rt, "url"), ids) },
		"resume": func(rt *rapid.T) { m.resume(rapid.SampledFrom(pausable).Draw(rt, "url"), ids) },
		"restart": func(rt *rapid.T) {
			m.stop()
			time.Sleep(down.Draw(rt, "down"))
			m.start()
		},
		"crash": func(rt *rapid.T) { m.crash(down.Draw(rt, "down")) },
		"redeliver": func(rt *rapid.T) {
			at := rapid.IntRange(0, len(urls)-1).Draw(rt, "url")
			log, _, err := w.st.Attempts(ctx, store.AttemptFilter{Subscription: int64(at + 1), Limit: 10})
			if err != nil {
				rt.Fatal(err)
			}
			if len(log) > 0 {
				m.redeliver(ids[urls[at]], urls[at], log[rapid.IntRange(0, len(log)-1).Draw(rt, "entry")])
			}
		},
	}
	maps.Copy(steps, m.mailSteps())
	rt.Repeat(steps)

	m.mu.Lock()
	clear(m.modes)
	m.server = mailMode{arrives: true}
	m.mu.Unlock()
	up := time.Now()
	m.resume(mailsURL, ids)
	for _, url := range urls[:2] {
		m.resume(url, ids)
		time.Sleep(time.Minute) // what waited has left
		m.resync(ids[url], url)
	}
	time.Sleep(3 * time.Hour)
	m.checkMailsEnded(up)
	seen := w.at.seen(w.t)
	for _, url := range urls[:2] {
		for _, ref := range refs {
			if len(m.commits[ref]) == 0 {
				continue
			}
			newest := received{}
			for _, a := range seen {
				if a.url == url && a.body.ExternalRef == ref && a.body.SentAt.After(newest.SentAt) {
					newest = a.body
				}
			}
			held := copyOf{}
			held.apply(newest)
			w.expectCopy(url, ref, held)
		}
	}
	all := map[string]bool{}
	for ref := range m.commits {
		all[ref] = true
	}
	w.expectCopiesByReceipts(seen, all)
	if waiting, stored, err := w.st.Backlog(ctx); waiting+stored != 0 || err != nil {
		rt.Fatalf("%d messages wait and %d are in the failures store although every endpoint accepts everything: %v", waiting, stored, err)
	}
	if m.broken != nil || w.t.Failed() {
		rt.Fatalf("%v", m.broken)
	}
}

// redeliver makes the message of an entry of the log due at once, whatever it went through.
func (m *machine) redeliver(id consent.ID, url string, entry store.Attempt) {
	citizen, err := m.w.st.Citizen(ctx, m.w.app, consent.CitizenKey{ID: entry.CitizenID})
	if errors.Is(err, store.ErrNoCitizen) {
		return // erased: the farewell alone could be sent again
	}
	if err != nil {
		m.w.t.Fatal(err)
	}
	m.mu.Lock()
	if l := m.mails[entry.Event.String()]; l != nil {
		l.again = true
	}
	if l := m.lanes[url+" "+citizen.ExternalRef]; l != nil {
		l.again = true
	}
	m.mu.Unlock()
	if err := m.w.st.Redeliver(ctx, []int64{m.w.app}, id, entry.ID, "test"); err != nil {
		m.w.t.Fatal(err)
	}
}

// resync sends the state of everybody, for what a pause has lost.
func (m *machine) resync(id consent.ID, url string) {
	m.mu.Lock()
	for key, l := range m.lanes {
		l.again = l.again || strings.HasPrefix(key, url+" ")
	}
	m.mu.Unlock()
	st, p := m.w.st, store.RecoveryParams{Subscription: id, At: consent.At(time.Now())}
	if _, err := st.CreateJob(ctx, store.NewJob{Application: m.w.app, Kind: consent.ResyncJob, Params: []byte(`{}`)}, "test", store.Once{}); err != nil {
		m.w.t.Fatal(err)
	}
	job, ok, err := st.ClaimJob(ctx, "test", []consent.JobKind{consent.ResyncJob}, time.Minute)
	if err != nil || !ok {
		m.w.t.Fatal(ok, err)
	}
	if _, err := st.StepJob(ctx, job, func(ctx context.Context, x *store.JobTx) (store.Progress, error) {
		_, n, err := x.Resync(ctx, p, store.RecoveryPlace{}, 100)
		return store.Progress{Done: int64(n), Finished: true}, err
	}); err != nil {
		m.w.t.Fatal(err)
	}
}

func (m *machine) pause(url string, ids map[string]consent.ID) {
	if _, paused := m.paused[url]; paused {
		return
	}
	m.w.change(ids[url], func(v *consent.Subscription) { v.Status = consent.Paused })
	m.mu.Lock()
	m.paused[url] = time.Now()
	m.mu.Unlock()
}

func (m *machine) resume(url string, ids map[string]consent.ID) {
	if _, paused := m.paused[url]; !paused {
		return
	}
	m.mu.Lock()
	delete(m.paused, url)
	m.mu.Unlock()
	m.w.change(ids[url], func(v *consent.Subscription) { v.Status = consent.Active })
}
