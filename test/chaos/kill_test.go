// Package chaos_test kills the real server at random instants under load and holds what it promised before.
package chaos_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"reflect"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencpm/opencpm/test/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }

const (
	defaultKills = 20  // OPENCPM_CHAOS_KILLS changes it
	writers      = 12  // clients at work at one time; no two of them write about the same citizen
	regulars     = 300 // citizens who change their mind in every life of the server
	// newcomers is how many more citizens each life of the server has for itself. Nothing about them comes after its
	// end, so that a message which the kill has lost is not made good by the next change.
	newcomers = 96
	refusals  = 5 // the receiver refuses one message in so many, so that kills meet retries, too
	// inFlight is how many POSTs one subscription may have on the wire: so many may arrive twice for each kill.
	inFlight = 8
	// unsettled is how many of its messages the endpoint may have answered whose outcomes are not durable yet: they may
	// arrive twice, too.
	unsettled = 64
	// settling is how long everything may take to be delivered after the last start; a database shared by nodes needs a
	// while to learn that a killed one is gone.
	settling = time.Minute
)

// choices are the changes a writer makes: grants and withdrawals, claims and objections.
var choices = []struct{ option, justification, state, effective string }{
	{"newsletter-email", "consent", "GRANTED", "consent GRANTED"},
	{"newsletter-email", "consent", "DENIED", "consent DENIED"},
	{"research-email", "consent", "GRANTED", "consent GRANTED"},
	{"research-email", "legitimate-interest", "OBJECTED", "legitimate-interest OBJECTION_UPHELD"},
}

// answers are what a writer submits of preferences.
var answers = []struct {
	preference string
	choices    []string
}{
	{"interests", []string{}},
	{"interests", []string{"jazz"}},
	{"interests", []string{"rock", "jazz"}},
	{"frequency", []string{"weekly"}},
	{"frequency", []string{"monthly"}},
}

func TestKillUnderLoad(t *testing.T) {
	kills := defaultKills
	if v := os.Getenv("OPENCPM_CHAOS_KILLS"); v != "" {
		n, err := strconv.Atoi(v)
		if err != nil || n < 1 {
			t.Fatalf("OPENCPM_CHAOS_KILLS=%q", v)
		}
		kills = n
	}
	t.Run("sqlite", func(t *testing.T) { killUnderLoad(t, harness.SQLite(t), kills, 1) })
	t.Run("postgres", func(t *testing.T) { killUnderLoad(t, harness.PostgreSQL(t), kills, 1) })
	// The others stay alive and take over the shards of the killed one.
	t.Run("postgres, three nodes", func(t *testing.T) { killUnderLoad(t, harness.PostgreSQL(t), (kills+1)/2, 3) })
}

// killUnderLoad kills one of the nodes at random, again and again, while the clients talk
// to all of them.
func killUnderLoad(t *testing.T, s *harness.Store, kills, nodes int) {
	full, receipts := newMirror(t, latest), newMirror(t, byReceipts)
	serve := []string{
		"--webhook-allow-net", "127.0.0.0/8", "--webhook-quick-delays", "100ms,300ms", "--webhook-retry-interval", "1s",
	}
	s.Do(t, "migrate")
	app := created(t, s, "applicationId", "application", "create", "--name", "Northwind")
	s.Do(t, "catalog", "import", "--application", app, "../e2e/testdata/northwind.yaml")
	key := created(t, s, "apiKey", "apikey", "create", "--application", app)

	l := newLoad(app, key)
	t.Cleanup(l.http.CloseIdleConnections)
	servers := make([]*harness.Server, nodes)
	for i := range servers {
		servers[i] = s.Serve(t, serve...)
	}
	l.use(servers)
	for kind, m := range map[string]*mirror{"effective-permission": full, "consent-receipts": receipts} {
		hook := map[string]any{"applicationId": app, "name": "CRM", "url": m.receiver.URL, "updateType": kind, "status": "active", "authType": "none"}
		if _, err := l.call("POST", "/v1/subscriptions", hook, nil); err != nil {
			t.Fatal(err)
		}
	}

	stop := l.start()
	perLife := make([]int64, 0, kills)
	for range kills {
		before := l.acknowledged.Load()
		time.Sleep(500*time.Millisecond + rand.N(time.Second)) // one life
		victim := rand.IntN(nodes)
		servers[victim].Kill()
		perLife = append(perLife, l.acknowledged.Load()-before)
		l.life.Add(1)
		l.use(slices.Delete(slices.Clone(servers), victim, victim+1))
		servers[victim] = s.Serve(t, serve...)
		l.use(servers)
	}
	stop()
	for _, refusal := range l.refused {
		t.Errorf("under load: %v", refusal)
	}
	if slices.Min(perLife) == 0 {
		t.Errorf("a life without one acknowledged change tests nothing: %v", perLife)
	}

	records := l.records(t)
	l.verifyNothingLost(t, records)
	feed := l.feed(t, len(records))
	verifyFeed(t, records, feed)
	l.verifyStates(t)
	l.awaitCopies(t, full, receipts)

	verifyOrder(t, full.receiver.Messages())
	receipts.await(len(feed))
	receipts.verifyReceipts(t, feed)
	most := inFlight * nodes // each node has so many on the wire for each subscription
	for kind, m := range map[string]*mirror{"full states": full, "receipts": receipts} {
		repeated := m.repeated()
		if bound := kills * (inFlight + unsettled); repeated > bound {
			t.Errorf("%d %s came again after their 2xx; at most %d were in flight or not settled at the %d kills", repeated, kind, bound, kills)
		}
		if peak := m.receiver.Peak(); peak > most {
			t.Errorf("%d POSTs of %s at one time, want %d at most", peak, kind, most)
		}
		t.Logf("%d %s, %d repeated (bound %d)", len(m.receiver.Messages()), kind, repeated, kills*(inFlight+unsettled))
	}
	t.Logf("%d kills: %d changes acknowledged (%v per life), %d recorded, %d in the feed", kills, l.acknowledged.Load(), perLife, len(records), len(feed))
	// The server is now stopped by its own clean-up, which also runs `opencpm check`.
}

// created runs a command that makes something and returns the named member of what it printed.
func created(t *testing.T, s *harness.Store, name string, args ...string) string {
	t.Helper()
	var o map[string]any
	if err := json.Unmarshal([]byte(s.Do(t, append(args, "--json")...)), &o); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint(o[name])
}

// A standing is what applies to a citizen: by option and preference, the state or the choices and the record they come
// from.
type standing map[string]string

func (s standing) permission(p harness.Permission) {
	key := "option " + p.OptionID
	if p.State == nil {
		delete(s, key)
		return
	}
	s[key] = fmt.Sprintf("%s %s %s", p.Justification, *p.State, p.TransactionID)
}

func (s standing) preference(p harness.Preference) {
	s["preference "+p.Preference] = fmt.Sprint(p.Choices, p.SubmissionID)
}

// take applies what a message or an answer lists.
func (s standing) take(permissions []harness.Permission, preferences []harness.Preference) standing {
	for _, p := range permissions {
		s.permission(p)
	}
	for _, p := range preferences {
		s.preference(p)
	}
	return s
}

// A load is many clients that record changes, each of its own citizens, through every kill and start.
type load struct {
	app, key string
	bases    atomic.Pointer[[]string] // where the servers answer that are alive
	http     *http.Client

	life         atomic.Int64 // how often the server was killed
	acknowledged atomic.Int64
	mu           sync.Mutex
	ledger       map[string]string   // acknowledged transaction or submission → reference of its citizen
	certain      map[string]standing // by reference; what must apply, where that is certain; empty for nothing
	last         map[string]undoable // by reference: a transaction that certainly stands
	refused      []error
}

// undoable is a transaction whose reversion certainly changes the state of an option.
type undoable struct{ transaction, option string }

func newLoad(app, key string) *load {
	return &load{
		app: app, key: key, ledger: map[string]string{}, certain: map[string]standing{}, last: map[string]undoable{},
		http: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: writers}, Timeout: 30 * time.Second},
	}
}

// use makes the clients talk to these servers from now on.
func (l *load) use(servers []*harness.Server) {
	bases := make([]string, len(servers))
	for i, s := range servers {
		bases[i] = s.URL
	}
	if len(bases) > 0 {
		l.bases.Store(&bases)
	}
}

// citizen picks a reference that only this writer uses: of a regular, or of a newcomer of this life.
func (l *load) citizen(writer int) string {
	if rand.N(2) == 0 {
		return fmt.Sprintf("CUST-%03d", writer+writers*rand.N(regulars/writers))
	}
	return fmt.Sprintf("LIFE-%02d-%02d", l.life.Load(), writer+writers*rand.N(newcomers/writers))
}

// refs are all the references ever written about.
func (l *load) refs() []string { return slices.Sorted(maps.Keys(l.certain)) }

// call makes one request; the error is nil only for a 2xx whose body could be read.
func (l *load) call(method, target string, body, into any) (status int, err error) {
	payload, err := json.Marshal(body)
	if err != nil {
		return 0, err
	}
	bases := *l.bases.Load()
	req, err := http.NewRequest(method, bases[rand.IntN(len(bases))]+target, bytes.NewReader(payload))
	if err != nil {
		return 0, err
	}
	req.Header.Set("X-API-Key", l.key)
	req.Header.Set("Content-Type", "application/json")
	res, err := l.http.Do(req)
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	if err != nil {
		return 0, err
	}
	if res.StatusCode >= 300 {
		return res.StatusCode, fmt.Errorf("%s %s: %d %s", method, target, res.StatusCode, answer)
	}
	if into == nil {
		return res.StatusCode, nil
	}
	return res.StatusCode, json.Unmarshal(answer, into)
}

// start sets the writers to work; the function it returns stops them and waits until they have.
func (l *load) start() (stop func()) {
	done := make(chan struct{})
	var wg sync.WaitGroup
	for writer := range writers {
		wg.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				if !l.change(l.citizen(writer)) {
					select {
					case <-done:
						return
					case <-time.After(5 * time.Millisecond): // the server is dead: do not spin
					}
				}
			}
		})
	}
	return func() { close(done); wg.Wait() }
}

// change records one change of a citizen whom no other goroutine touches, and remembers what is certain afterwards.
func (l *load) change(ref string) bool {
	l.mu.Lock()
	if l.certain[ref] == nil {
		l.certain[ref] = standing{}
	}
	last := l.last[ref]
	l.mu.Unlock()
	switch kind := rand.IntN(10); {
	case kind < 2 && last.transaction != "":
		return l.revert(ref, last)
	case kind < 5:
		return l.submit(ref)
	}
	return l.transact(ref)
}

// transact records a transaction.
func (l *load) transact(ref string) bool {
	c := choices[rand.IntN(len(choices))]
	var answer struct{ TransactionID string }
	status, err := l.call("POST", "/v1/permissions/transactions", map[string]any{
		"applicationId": l.app, "externalRef": ref,
		"changes": map[string]any{"optionType": "option", "optionId": c.option, "justification": c.justification, "state": c.state},
	}, &answer)
	return l.note(ref, "option "+c.option, status, err, func() (record, applies string) {
		l.last[ref] = undoable{answer.TransactionID, c.option}
		return answer.TransactionID, c.effective + " " + answer.TransactionID
	})
}

// revert undoes a transaction. What applies then, the answer says.
func (l *load) revert(ref string, last undoable) bool {
	var answer struct {
		TransactionID string
		Changes       []struct{ Current *harness.Permission }
	}
	status, err := l.call("POST", "/v1/permissions/transactions/"+last.transaction+"/reversion", map[string]any{}, &answer)
	return l.note(ref, "option "+last.option, status, err, func() (record, applies string) {
		s := standing{}
		if current := answer.Changes[0].Current; current != nil {
			s.permission(*current)
		}
		return answer.TransactionID, s["option "+last.option]
	})
}

// submit records an answer to a preference.
func (l *load) submit(ref string) bool {
	a := answers[rand.IntN(len(answers))]
	var answer struct {
		Submissions []struct{ Current harness.Preference }
	}
	status, err := l.call("POST", "/v1/submissions", map[string]any{
		"applicationId": l.app, "externalRef": ref, "preferences": []any{map[string]any{"preference": a.preference, "choices": a.choices}},
	}, &answer)
	return l.note(ref, "preference "+a.preference, status, err, func() (record, applies string) {
		s := standing{}
		s.preference(answer.Submissions[0].Current)
		return answer.Submissions[0].Current.SubmissionID, s["preference "+a.preference]
	})
}

// note remembers the outcome of a call: where it was acknowledged, outcome gives the record and what applies now.
func (l *load) note(ref, key string, status int, err error, outcome func() (record, applies string)) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if key == "option "+l.last[ref].option {
		delete(l.last, ref)
	}
	switch {
	case err == nil:
		var record string
		record, l.certain[ref][key] = outcome()
		l.ledger[record] = ref
		l.acknowledged.Add(1)
		return true
	case status >= 400 && status != http.StatusServiceUnavailable:
		l.refused = append(l.refused, err)
	}
	// It may have been recorded or not: nothing is certain until the next acknowledgement.
	delete(l.certain[ref], key)
	return false
}

// A record is one transaction or submission as it is listed.
type record struct {
	TransactionID, SubmissionID, ExternalRef string
	Reverts                                  *string
	RecordedAt                               time.Time
}

func (r record) id() string { return r.TransactionID + r.SubmissionID }

// records reads everything that was recorded, of each citizen in the order in which it was.
func (l *load) records(t *testing.T) (all []record) {
	t.Helper()
	for _, target := range []string{"/v1/permissions/transactions", "/v1/submissions"} {
		for cursor := ""; ; {
			var list struct {
				Transactions, Submissions []record
				NextCursor                string
			}
			l.read(t, target, cursor, &list)
			all = append(append(all, list.Transactions...), list.Submissions...)
			if cursor = list.NextCursor; cursor == "" {
				break
			}
		}
	}
	slices.SortStableFunc(all, func(a, b record) int { return a.RecordedAt.Compare(b.RecordedAt) })
	return all
}

// read reads a page of a list.
func (l *load) read(t *testing.T, target, cursor string, into any) {
	t.Helper()
	q := url.Values{"applicationId": {l.app}, "limit": {"100"}}
	if cursor != "" {
		q.Set("cursor", cursor)
	}
	if _, err := l.call("GET", target+"?"+q.Encode(), nil, into); err != nil {
		t.Fatal(err)
	}
}

// verifyNothingLost requires every acknowledged record in the lists, once, at its citizen.
func (l *load) verifyNothingLost(t *testing.T, records []record) {
	t.Helper()
	found := map[string]string{}
	for _, r := range records {
		if found[r.id()] != "" {
			t.Errorf("%s is listed twice", r.id())
		}
		found[r.id()] = r.ExternalRef
	}
	lost := 0
	for id, citizen := range l.ledger {
		if found[id] != citizen {
			lost++
		}
	}
	if lost > 0 {
		t.Errorf("%d of %d acknowledged records are lost", lost, len(l.ledger))
	}
}

// feed reads the feed of changes from its start, until it has told of so many or nothing more comes: on PostgreSQL a
// change is told once no older transaction runs, whosever it is.
func (l *load) feed(t *testing.T, most int) (all []harness.Payload) {
	t.Helper()
	deadline := time.Now().Add(settling)
	for cursor := ""; ; {
		var page struct {
			Changes []struct {
				harness.Payload
				ChangedAt time.Time
			}
			NextCursor string
		}
		l.read(t, "/v1/changes", cursor, &page)
		if len(page.Changes) == 0 {
			if len(all) >= most || time.Now().After(deadline) {
				return all
			}
			time.Sleep(50 * time.Millisecond)
		}
		for _, c := range page.Changes {
			c.SentAt = c.ChangedAt // as a receipt says it
			all = append(all, c.Payload)
		}
		cursor = page.NextCursor
	}
}

// verifyFeed requires that the feed tells of each record of a citizen once and in their order: every write of the load
// changes something.
func verifyFeed(t *testing.T, records []record, feed []harness.Payload) {
	t.Helper()
	told := map[string][]harness.Payload{}
	for _, c := range feed {
		if before := told[c.ExternalRef]; len(before) > 0 && (c.Sequence <= before[len(before)-1].Sequence || !c.SentAt.After(before[len(before)-1].SentAt)) {
			t.Errorf("the feed goes back: %+v after %+v", c, before[len(before)-1])
		}
		told[c.ExternalRef] = append(told[c.ExternalRef], c)
	}
	recorded := map[string][]record{}
	for _, r := range records {
		recorded[r.ExternalRef] = append(recorded[r.ExternalRef], r)
	}
	for ref, list := range recorded {
		if len(told[ref]) != len(list) {
			t.Errorf("%s: %d records, %d changes in the feed", ref, len(list), len(told[ref]))
			continue
		}
		for i, r := range list {
			if !tells(told[ref][i], r) {
				t.Errorf("%s: change %d in the feed, %+v, is not that of record %+v", ref, i+1, told[ref][i], r)
			}
		}
	}
	if len(feed) != len(records) {
		t.Errorf("%d changes in the feed, %d records", len(feed), len(records))
	}
}

// tells reports whether a change is that of a record.
func tells(c harness.Payload, r record) bool {
	switch {
	case r.SubmissionID != "":
		return len(c.Permissions) == 0 && len(c.Preferences) == 1 && c.Preferences[0].SubmissionID == r.SubmissionID
	case len(c.Permissions) != 1 || len(c.Preferences) != 0:
		return false
	case r.Reverts != nil: // either what was displaced applies again, or nothing does
		return (c.Permissions[0].State == nil) == (c.Permissions[0].TransactionID == r.TransactionID) && c.Permissions[0].TransactionID != *r.Reverts
	}
	return c.Permissions[0].TransactionID == r.TransactionID
}

// state asks for what applies to a citizen; to one who was never recorded nothing does.
func (l *load) state(t *testing.T, ref string) standing {
	t.Helper()
	q := "?" + url.Values{"applicationId": {l.app}, "externalRef": {ref}}.Encode()
	var answer struct {
		Permissions []harness.Permission
		Preferences []harness.Preference
	}
	for _, target := range []string{"/v1/permissions", "/v1/preferences"} {
		if status, err := l.call("GET", target+q, nil, &answer); err != nil && status != http.StatusNotFound {
			t.Fatal(err)
		}
	}
	return standing{}.take(answer.Permissions, answer.Preferences)
}

// verifyStates requires that to each citizen applies what was acknowledged last.
func (l *load) verifyStates(t *testing.T) {
	t.Helper()
	for ref, certain := range l.certain {
		now := l.state(t, ref)
		for key, applies := range certain {
			if now[key] != applies {
				t.Errorf("%s %s: %q, acknowledged last was %q", ref, key, now[key], applies)
			}
		}
	}
}

// awaitCopies waits until every mirror knows of every citizen what the API says.
func (l *load) awaitCopies(t *testing.T, mirrors ...*mirror) {
	t.Helper()
	differences := func(refs []string) map[string]string {
		d := map[string]string{}
		for _, ref := range refs {
			now := l.state(t, ref)
			for _, m := range mirrors {
				if told := m.of(ref); !maps.Equal(told, now) {
					d[ref] = fmt.Sprintf("is %v, told %v", now, told)
				}
			}
		}
		return d
	}
	deadline := time.Now().Add(settling)
	left := differences(l.refs())
	for len(left) > 0 && time.Now().Before(deadline) {
		time.Sleep(100 * time.Millisecond)
		left = differences(slices.Collect(maps.Keys(left)))
	}
	for citizen, d := range left {
		t.Errorf("%v after the last start: %s %s", settling, citizen, d)
	}
}

// verifyOrder requires that no citizen's full states go back.
func verifyOrder(t *testing.T, messages []harness.Message) {
	t.Helper()
	last := map[string]harness.Message{}
	for _, m := range messages {
		if before, seen := last[m.CitizenID]; seen && (m.Sequence < before.Sequence || m.SentAt.Before(before.SentAt)) {
			t.Errorf("%s goes back:\n%s\n%s", m.ExternalRef, before.Raw, m.Raw)
		}
		last[m.CitizenID] = m
	}
}

// A mirror is what a system knows that believes the webhooks it has accepted.
type mirror struct {
	receiver *harness.Receiver
	known    func([]harness.Message) standing

	mu       sync.Mutex
	accepted map[string][]harness.Message // by reference
	times    map[string]int               // how often each event was accepted
	arrivals []arrival
}

// An arrival is a message and whether it was accepted.
type arrival struct {
	harness.Message
	accepted bool
}

// newMirror starts a receiver that works for a while on each message and refuses some. known makes of the messages about
// a citizen, in the order of their acceptance, what the system knows.
func newMirror(t *testing.T, known func([]harness.Message) standing) *mirror {
	c := &mirror{receiver: harness.NewReceiver(t), known: known, accepted: map[string][]harness.Message{}, times: map[string]int{}}
	c.receiver.Respond(func(w http.ResponseWriter, m *harness.Message) {
		time.Sleep(rand.N(8 * time.Millisecond)) // some kills hit it at work
		accept := rand.N(refusals) != 0
		c.take(m, accept)
		if !accept {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	})
	return c
}

func (c *mirror) take(m *harness.Message, accept bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.arrivals = append(c.arrivals, arrival{*m, accept})
	if accept {
		c.accepted[m.ExternalRef] = append(c.accepted[m.ExternalRef], *m)
		c.times[m.EventID]++
	}
}

// latest believes the full state that came last.
func latest(messages []harness.Message) standing {
	if len(messages) == 0 {
		return standing{}
	}
	m := messages[len(messages)-1]
	return standing{}.take(m.Permissions, m.Preferences)
}

// byReceipts applies every receipt in the order of sentAt.
func byReceipts(messages []harness.Message) standing {
	s := standing{}
	for _, m := range slices.SortedStableFunc(slices.Values(messages), func(a, b harness.Message) int { return a.SentAt.Compare(b.SentAt) }) {
		s.take(m.Permissions, m.Preferences)
	}
	return s
}

func (c *mirror) of(ref string) standing {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.known(c.accepted[ref])
}

// await waits until so many different messages have been accepted: one in the failures store holds back none of the later
// ones, so what the system knows says nothing about it.
func (c *mirror) await(n int) {
	for deadline := time.Now().Add(settling); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		c.mu.Lock()
		accepted := len(c.times)
		c.mu.Unlock()
		if accepted >= n {
			return
		}
	}
}

// repeated is how many messages came although the same one had been accepted before.
func (c *mirror) repeated() (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, times := range c.times {
		n += times - 1
	}
	return n
}

// verifyReceipts requires that the receipts are the changes of the feed, each the same whenever it came, and that none
// came before an earlier one of its citizen had been accepted or had used up its quick attempts.
func (c *mirror) verifyReceipts(t *testing.T, feed []harness.Payload) {
	t.Helper()
	const quickAttempts = 3
	type change struct {
		citizen  string
		sequence int64
	}
	earlier, content := map[change][]change{}, map[change]harness.Payload{}
	of := map[string][]change{}
	for _, p := range feed {
		k := change{p.CitizenID, p.Sequence}
		earlier[k] = of[p.CitizenID]
		of[p.CitizenID] = append(of[p.CitizenID], k)
		content[k] = p
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	first, attempts, accepted := map[change]harness.Message{}, map[change]int{}, map[change]bool{}
	for _, a := range c.arrivals {
		k := change{a.CitizenID, a.Sequence}
		told, known := content[k]
		if before, seen := first[k]; !seen {
			told.EventID = a.EventID // which the feed has not
			if !known || !reflect.DeepEqual(told, a.Payload) {
				t.Errorf("a receipt that is not in the feed: %s", a.Raw)
			}
			for _, e := range earlier[k] {
				if !accepted[e] && attempts[e] < quickAttempts {
					t.Errorf("came before change %d was delivered, of which there were %d attempts: %s", e.sequence, attempts[e], a.Raw)
				}
			}
			first[k] = a.Message
		} else if !bytes.Equal(before.Raw, a.Raw) {
			t.Errorf("a receipt came again as another one:\n%s\n%s", before.Raw, a.Raw)
		}
		attempts[k]++
		accepted[k] = accepted[k] || a.accepted
	}
	if len(accepted) != len(feed) {
		t.Errorf("%d receipts came, of %d changes", len(accepted), len(feed))
	}
	for k, done := range accepted {
		if !done {
			t.Errorf("change %d of %s was never accepted", k.sequence, k.citizen)
		}
	}
}
