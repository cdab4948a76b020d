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

func TestKillUnderLoad(t *testing.T) {
	kills := defaultKills
	if v := os.Getenv("OPENCPM_CHAOS_KILLS"); v != "" {
		n, err := strconv.Atoi(v)
		if err != nil || n < 1 {
			t.Fatalf("OPENCPM_CHAOS_KILLS=%q", v)
		}
		kills = n
	}
	t.Run("sqlite", func(t *testing.T) { killUnderLoad(t, harness.SQLite(t), kills, 0) })
	t.Run("postgres", func(t *testing.T) { killUnderLoad(t, harness.PostgreSQL(t), kills, 0) })
	// A second node stays alive and takes over the shards of the killed one.
	t.Run("postgres, two nodes", func(t *testing.T) { killUnderLoad(t, harness.PostgreSQL(t), (kills+3)/4, 1) })
}

// killUnderLoad kills the node that the clients talk to, again and again, while
// companions stay alive.
func killUnderLoad(t *testing.T, s *harness.Store, kills, companions int) {
	receiver := harness.NewReceiver(t)
	crm := newMirror()
	receiver.Respond(func(w http.ResponseWriter, m *harness.Message) {
		time.Sleep(rand.N(8 * time.Millisecond)) // the receiver works; some kills hit it at work
		if rand.N(refusals) == 0 {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		crm.accept(m)
		w.WriteHeader(http.StatusNoContent)
	})
	serve := []string{
		"--webhook-allow-net", "127.0.0.0/8", "--webhook-quick-delays", "100ms,300ms", "--webhook-retry-interval", "1s",
	}
	s.Do(t, "migrate")
	app := created(t, s, "applicationId", "application", "create", "--name", "Northwind")
	s.Do(t, "catalog", "import", "--application", app, "../e2e/testdata/northwind.yaml")
	key := created(t, s, "apiKey", "apikey", "create", "--application", app)

	l := newLoad(app, key)
	t.Cleanup(l.http.CloseIdleConnections)
	for range companions {
		s.Serve(t, serve...)
	}
	server := s.Serve(t, serve...)
	l.base.Store(&server.URL)
	hook := map[string]any{
		"applicationId": app, "name": "CRM", "url": receiver.URL, "updateType": "effective-permission", "status": "active", "authType": "none",
	}
	if _, err := l.call("POST", "/v1/subscriptions", hook, nil); err != nil {
		t.Fatal(err)
	}

	stop := l.start()
	perLife := make([]int64, 0, kills)
	for range kills {
		before := l.acknowledged.Load()
		time.Sleep(500*time.Millisecond + rand.N(time.Second)) // one life
		server.Kill()
		perLife = append(perLife, l.acknowledged.Load()-before)
		l.life.Add(1)
		server = s.Serve(t, serve...)
		l.base.Store(&server.URL)
	}
	stop()
	for _, refusal := range l.refused {
		t.Errorf("under load: %v", refusal)
	}
	if slices.Min(perLife) == 0 {
		t.Errorf("a life without one acknowledged change tests nothing: %v", perLife)
	}

	l.verifyNothingLost(t)
	l.verifyStates(t)
	deadline := time.Now().Add(settling)
	differences := l.differences(t, crm, l.refs())
	for len(differences) > 0 && time.Now().Before(deadline) {
		time.Sleep(100 * time.Millisecond)
		differences = l.differences(t, crm, slices.Collect(maps.Keys(differences)))
	}
	for citizen, d := range differences {
		t.Errorf("%v after the last start: %s %s", settling, citizen, d)
	}

	messages := receiver.Messages()
	verifyOrder(t, messages)
	repeated := crm.repeated()
	most := inFlight * (1 + companions) // each node has so many on the wire
	if bound := kills * inFlight; repeated > bound {
		t.Errorf("%d messages came again after their 2xx; at most %d POSTs were in flight at the %d kills", repeated, bound, kills)
	}
	if peak := receiver.Peak(); peak > most {
		t.Errorf("%d POSTs at one time, want %d at most", peak, most)
	}
	t.Logf("%d kills: %d changes acknowledged (%v per life), %d messages, %d repeated", kills, l.acknowledged.Load(), perLife, len(messages), repeated)
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

// A load is many clients that record changes, each of its own citizens, through every kill and start.
type load struct {
	app, key string
	base     atomic.Pointer[string] // where the server of this life answers
	http     *http.Client

	life         atomic.Int64 // how often the server was killed
	acknowledged atomic.Int64
	mu           sync.Mutex
	ledger       map[string]string            // acknowledged transaction → reference of its citizen
	certain      map[string]map[string]string // reference → option → the state it must have, where that is certain
	refused      []error
}

func newLoad(app, key string) *load {
	return &load{
		app: app, key: key, ledger: map[string]string{}, certain: map[string]map[string]string{},
		http: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: writers}, Timeout: 30 * time.Second},
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
	req, err := http.NewRequest(method, *l.base.Load()+target, bytes.NewReader(payload))
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
	c := choices[rand.IntN(len(choices))]
	var answer struct{ TransactionID string }
	status, err := l.call("POST", "/v1/permissions/transactions", map[string]any{
		"applicationId": l.app, "externalRef": ref,
		"changes": map[string]any{"optionType": "option", "optionId": c.option, "justification": c.justification, "state": c.state},
	}, &answer)

	l.mu.Lock()
	defer l.mu.Unlock()
	if l.certain[ref] == nil {
		l.certain[ref] = map[string]string{}
	}
	switch {
	case err == nil:
		l.ledger[answer.TransactionID] = ref
		l.certain[ref][c.option] = c.effective
		l.acknowledged.Add(1)
		return true
	case status >= 400 && status != http.StatusServiceUnavailable:
		l.refused = append(l.refused, err)
	}
	// It may have been recorded or not: nothing is certain until the next acknowledgement.
	delete(l.certain[ref], c.option)
	return false
}

// verifyNothingLost requires every acknowledged transaction in the history, once, at its citizen.
func (l *load) verifyNothingLost(t *testing.T) {
	t.Helper()
	const page = 100
	found := map[string]string{}
	for offset := 0; ; offset += page {
		var list struct {
			Transactions []struct{ TransactionID, ExternalRef string }
		}
		q := url.Values{"applicationId": {l.app}, "limit": {fmt.Sprint(page)}, "offset": {fmt.Sprint(offset)}, "includeTotal": {"false"}}
		if _, err := l.call("GET", "/v1/permissions/transactions?"+q.Encode(), nil, &list); err != nil {
			t.Fatal(err)
		}
		for _, transaction := range list.Transactions {
			if found[transaction.TransactionID] != "" {
				t.Errorf("transaction %s is listed twice", transaction.TransactionID)
			}
			found[transaction.TransactionID] = transaction.ExternalRef
		}
		if len(list.Transactions) < page {
			break
		}
	}
	lost := 0
	for id, citizen := range l.ledger {
		if found[id] != citizen {
			lost++
		}
	}
	if lost > 0 {
		t.Errorf("%d of %d acknowledged transactions are lost", lost, len(l.ledger))
	}
}

// state asks for the effective state of a citizen; a citizen who was never recorded has none.
func (l *load) state(t *testing.T, ref string) map[string]string {
	t.Helper()
	var answer struct{ Permissions []harness.Permission }
	q := url.Values{"applicationId": {l.app}, "externalRef": {ref}}
	if status, err := l.call("GET", "/v1/permissions?"+q.Encode(), nil, &answer); err != nil && status != http.StatusNotFound {
		t.Fatal(err)
	}
	return harness.States(answer.Permissions)
}

// verifyStates requires that each citizen has the state that was acknowledged last.
func (l *load) verifyStates(t *testing.T) {
	t.Helper()
	for ref, certain := range l.certain {
		now := l.state(t, ref)
		for option, state := range certain {
			if now[option] != state {
				t.Errorf("%s %s: %q, acknowledged last was %q", ref, option, now[option], state)
			}
		}
	}
}

// differences tells, for each of the citizens of whom the mirror knows something else than the API, what.
func (l *load) differences(t *testing.T, crm *mirror, refs []string) map[string]string {
	t.Helper()
	differences := map[string]string{}
	for _, ref := range refs {
		if now, told := l.state(t, ref), crm.of(ref); !maps.Equal(told, now) {
			differences[ref] = fmt.Sprintf("is %v, last told %v", now, told)
		}
	}
	return differences
}

// verifyOrder requires that no citizen's messages go back.
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
	mu     sync.Mutex
	states map[string]map[string]string // by reference
	times  map[string]int               // how often each version of a citizen's state was accepted
}

func newMirror() *mirror {
	return &mirror{states: map[string]map[string]string{}, times: map[string]int{}}
}

func (c *mirror) accept(m *harness.Message) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.states[m.ExternalRef] = harness.States(m.Permissions)
	c.times[fmt.Sprint(m.CitizenID, " ", m.Sequence)]++
}

func (c *mirror) of(ref string) map[string]string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.states[ref]
}

// repeated is how many messages came although the same version had been accepted before.
func (c *mirror) repeated() (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, times := range c.times {
		n += times - 1
	}
	return n
}
