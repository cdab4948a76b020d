package deliver

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/internal/core"
	"github.com/opencpm/opencpm/internal/safehttp"
	"github.com/opencpm/opencpm/internal/seal"
	"github.com/opencpm/opencpm/internal/store"
	"github.com/opencpm/opencpm/internal/store/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// arrival is one POST as an endpoint sees it.
type arrival struct {
	at     time.Time
	url    string
	header http.Header
	body   received
	raw    []byte
}

type received struct {
	ApplicationID string               `json:"applicationId"`
	CitizenID     string               `json:"citizenId"`
	ExternalRef   string               `json:"externalRef"`
	Permissions   []consent.Permission `json:"permissions"`
	Preferences   []struct {
		Preference string
		Choices    []struct{ Reference string }
	} `json:"preferences"`
	SentAt    time.Time `json:"sentAt"`
	EventID   string    `json:"eventId"`
	EventType string    `json:"eventType"`
	Sequence  int64     `json:"sequence"`
	Coalesced int64     `json:"coalesced"`

	CitizenToken *citizenToken `json:"citizenToken"`
}

func (r received) state(option string) consent.State {
	for _, p := range r.Permissions {
		if p.OptionID == option {
			return p.State
		}
	}
	return "none"
}

// endpoint is a receiver in memory: answer says what it does with the n-th POST.
type endpoint struct {
	mu       sync.Mutex
	arrivals []arrival
	inFlight map[string]int // by URL and citizen
	broken   error          // a promise that was broken
	answer   func(n int, a arrival) (int, error)
	reply    func(n int, a arrival) (safehttp.Response, error) // instead of answer
	takes    time.Duration
	after    string     // of every answer, the header Retry-After
	at, most int        // requests under way, and the most there were since they were looked at
	tokens   *authority // answers where tokens are got
}

func (e *endpoint) post(_ context.Context, r safehttp.Request) (safehttp.Response, error) {
	if r.URL == tokenURL {
		return e.tokens.post(r)
	}
	a := arrival{at: time.Now(), url: r.URL, header: r.Header, raw: r.Body}
	body := r.Body
	if r.Header.Get("Content-Type") == "application/cloudevents+json" {
		var event struct{ Data json.RawMessage }
		if err := json.Unmarshal(body, &event); err != nil {
			return safehttp.Response{}, err
		}
		body = event.Data
	}
	if err := json.Unmarshal(body, &a.body); err != nil {
		return safehttp.Response{}, err
	}
	lane := r.URL + " " + a.body.CitizenID
	e.mu.Lock()
	if e.inFlight == nil {
		e.inFlight = map[string]int{}
	}
	if e.inFlight[lane]++; e.inFlight[lane] > 1 {
		e.broken = fmt.Errorf("two messages of %s are under way at once", lane)
	}
	e.at++
	e.most = max(e.most, e.at)
	receipt := strings.HasPrefix(a.url, receipts)
	for i := len(e.arrivals) - 1; i >= 0; i-- {
		b := e.arrivals[i]
		if receipt && b.url == a.url && b.body.EventID == a.body.EventID && !b.body.SentAt.Equal(a.body.SentAt) {
			e.broken = fmt.Errorf("the receipt %s was sent at %v and again at %v", a.body.EventID, b.body.SentAt, a.body.SentAt)
		}
		if receipt {
			continue // one that is tried hourly comes after later ones
		}
		if b.url == a.url && b.body.CitizenID == a.body.CitizenID {
			if a.body.Sequence < b.body.Sequence || !a.body.SentAt.After(b.body.SentAt) {
				e.broken = fmt.Errorf("sequence %d sent at %v came after sequence %d sent at %v", a.body.Sequence, a.body.SentAt, b.body.Sequence, b.body.SentAt)
			}
			break
		}
	}
	e.arrivals = append(e.arrivals, a)
	n, answer := len(e.arrivals), e.answer
	e.mu.Unlock()
	time.Sleep(e.takes)
	answered, err := safehttp.Response{Status: http.StatusOK}, error(nil)
	switch {
	case e.reply != nil:
		answered, err = e.reply(n, a)
	case answer != nil:
		answered.Status, err = answer(n, a)
	}
	e.mu.Lock()
	e.inFlight[lane]--
	e.at--
	if e.after != "" {
		answered.Header = http.Header{"Retry-After": {e.after}}
	}
	e.mu.Unlock()
	return answered, err
}

// behave changes what the endpoint does from now on.
func (e *endpoint) behave(answer func(n int, a arrival) (int, error)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.answer = answer
}

func (e *endpoint) seen(t *testing.T) []arrival {
	t.Helper()
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.broken != nil {
		t.Fatal(e.broken)
	}
	return slices.Clone(e.arrivals)
}

// world is a store, an application and an engine in a bubble of fake time.
type world struct {
	t      *testing.T
	st     *store.Store
	app    int64
	at     *endpoint
	stop   func()
	cancel func() // stops without waiting

	between time.Duration // after each record
	notify  func(context.Context, store.Notice) error
}

var ctx = context.Background()

func newWorld(t *testing.T, dir string, keys *seal.Keyring, at *endpoint) *world {
	st, err := store.Open(ctx, store.Options{Dir: dir, Keys: keys})
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, st: st, at: at}
	if list, _ := st.Applications(ctx); len(list) == 0 {
		storetest.Application(t, st, "northwind")
	}
	list, err := st.Applications(ctx)
	if err != nil {
		t.Fatal(err)
	}
	w.app = list[0].Number
	w.start()
	return w
}

func (w *world) start() {
	o := options(w.at)
	o.Notify, o.MintToken = w.notify, core.New(w.st, core.Options{}).WriteToken
	e := New(w.st, o)
	run, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() { e.Run(run); close(done) }()
	w.cancel = cancel
	w.stop = func() { cancel(); <-done }
}

// options are those of the engines of these tests.
func options(at *endpoint) Options {
	return Options{
		Post: at.post, QuickAttempts: 3, QuickDelays: []time.Duration{time.Second, 5 * time.Second},
		RetryInterval: time.Hour, RetrySpread: 0.1, Timeout: 15 * time.Second, Concurrency: 8,
	}
}

func (w *world) close() {
	w.stop()
	if err := w.st.Close(); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) subscribe(edit func(*consent.Subscription)) consent.ID {
	w.t.Helper()
	v := consent.Subscription{
		ID: store.NewID(), Application: w.app, Name: "CRM", URL: "https://crm.example/hook", UpdateType: consent.EffectivePermission,
		Status: consent.Active, AuthType: consent.AuthNone, TokenLocation: consent.InHeader,
	}
	if edit != nil {
		edit(&v)
	}
	made, err := w.st.CreateSubscription(ctx, v, "test", store.Once{})
	if err != nil {
		w.t.Fatal(err)
	}
	return made.ID
}

func (w *world) change(id consent.ID, edit func(*consent.Subscription)) {
	w.t.Helper()
	if _, err := w.st.ChangeSubscription(ctx, []int64{w.app}, id, "test", func(v *consent.Subscription) error { edit(v); return nil }); err != nil {
		w.t.Fatal(err)
	}
}

// receipts is where the subscriptions to receipts of these tests go.
const receipts = "https://crm.example/receipts"

func (w *world) subscribeReceipts() consent.ID {
	w.t.Helper()
	return w.subscribe(func(v *consent.Subscription) { v.URL, v.UpdateType = receipts, consent.ConsentReceipts })
}

func (w *world) record(ref string, state consent.State) store.Recorded {
	w.t.Helper()
	r, err := w.st.Record(ctx, w.app, consent.CitizenKey{ExternalRef: ref}, storetest.Transaction("newsletter-email", consent.Consent, state), store.Once{})
	if err != nil {
		w.t.Fatal(err)
	}
	time.Sleep(w.between)
	return r
}

// inBubble runs a test on fake time with a store on a real file.
func inBubble(t *testing.T, at *endpoint, test func(t *testing.T, w *world)) {
	t.Helper()
	dir, keys := t.TempDir(), storetest.Keys(t)
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, dir, keys, at)
		defer func() { w.close() }()
		test(t, w)
	})
}

func fail(int, arrival) (int, error) { return http.StatusServiceUnavailable, nil }

func TestAChangeArrives(t *testing.T) {
	at := &endpoint{}
	inBubble(t, at, func(t *testing.T, w *world) {
		w.subscribe(nil)
		time.Sleep(2 * time.Second)
		r := w.record("CUST-1", consent.Granted)
		time.Sleep(10 * time.Millisecond)
		got := at.seen(t)
		if len(got) != 1 {
			t.Fatalf("%d messages within 10 ms", len(got))
		}
		b := got[0].body
		if b.ApplicationID != "northwind" || b.CitizenID != r.CitizenID.String() || b.ExternalRef != "CUST-1" || b.state("newsletter-email") != consent.Granted ||
			b.Sequence != r.Version || b.EventType != "citizen.changed" || b.Coalesced != 1 {
			t.Fatalf("arrived %+v", b)
		}
		if ct := got[0].header.Get("Content-Type"); ct != "application/json" {
			t.Errorf("Content-Type %q", ct)
		}
		time.Sleep(3 * time.Hour)
		if got := at.seen(t); len(got) != 1 {
			t.Fatalf("%d messages for one change", len(got))
		}
	})
}

// Three attempts in a row, then hourly until delivered, the hour counted from the
// last failure and lengthened by a tenth at most.
func TestRetrySchedule(t *testing.T) {
	at := &endpoint{answer: func(n int, _ arrival) (int, error) {
		switch n {
		case 1:
			return 0, &safehttp.Error{Class: "connect", Reason: "connection refused"}
		case 2:
			return http.StatusFound, nil
		case 3, 4, 5, 6:
			return http.StatusInternalServerError, nil
		case 7:
			return 0, errors.New("anything")
		}
		return http.StatusNoContent, nil
	}}
	inBubble(t, at, func(t *testing.T, w *world) {
		w.subscribe(nil)
		w.record("CUST-1", consent.Granted)
		time.Sleep(8 * time.Hour)
		got := at.seen(t)
		if len(got) != 8 {
			t.Fatalf("%d attempts, want 7 that fail and one that delivers", len(got))
		}
		for i, want := range [][2]time.Duration{
			{800 * time.Millisecond, 1200 * time.Millisecond},
			{4 * time.Second, 6 * time.Second},
			{time.Hour, 66 * time.Minute},
			{time.Hour, 66 * time.Minute},
			{time.Hour, 66 * time.Minute},
			{time.Hour, 66 * time.Minute},
			{time.Hour, 66 * time.Minute},
		} {
			if pause := got[i+1].at.Sub(got[i].at); pause < want[0] || pause > want[1]+time.Second {
				t.Errorf("attempt %d came %v after the one before, want %v to %v", i+2, pause, want[0], want[1])
			}
		}
		for _, a := range got[1:] {
			if a.body.EventID != got[0].body.EventID || a.header.Get("Webhook-Id") != got[0].body.EventID {
				t.Error("the same state has another event id")
			}
		}
		if waiting, stored, err := w.st.Backlog(ctx); err != nil || waiting+stored != 0 {
			t.Errorf("left over: %d, %d, %v", waiting, stored, err)
		}
	})
}

// A retry after an outage carries the state of now, under a new id; what was
// withdrawn meanwhile never comes back.
func TestNeverStale(t *testing.T) {
	at := &endpoint{answer: fail}
	inBubble(t, at, func(t *testing.T, w *world) {
		w.subscribe(nil)
		w.record("CUST-1", consent.Granted)
		time.Sleep(10 * time.Minute) // the quick attempts are used up
		first := at.seen(t)
		w.record("CUST-1", consent.Denied)
		time.Sleep(500 * time.Millisecond)
		if got := at.seen(t); len(first) != 3 || len(got) != 4 || got[3].body.state("newsletter-email") != consent.Denied {
			t.Fatalf("%d and then %d attempts: a new change has quick attempts of its own, at once", len(first), len(got))
		}
		time.Sleep(20 * time.Minute)
		at.behave(nil)
		time.Sleep(2 * time.Hour)
		got := at.seen(t)
		last := got[len(got)-1]
		if len(got) != 7 || last.body.state("newsletter-email") != consent.Denied || last.body.EventID == first[0].body.EventID {
			t.Fatalf("%d attempts, the last %+v", len(got), last.body)
		}
	})
}

// Changes of a citizen that wait together are one message that says how many.
func TestCoalescing(t *testing.T) {
	at := &endpoint{takes: 3 * time.Second}
	inBubble(t, at, func(t *testing.T, w *world) {
		w.subscribe(nil)
		w.record("CUST-1", consent.Granted)
		time.Sleep(time.Second) // the first message is under way
		for _, s := range []consent.State{consent.Denied, consent.Granted, consent.Denied} {
			w.record("CUST-1", s)
		}
		time.Sleep(time.Minute)
		got := at.seen(t)
		if len(got) != 2 || got[1].body.state("newsletter-email") != consent.Denied || got[0].body.Coalesced != 1 {
			t.Fatalf("%d messages: %+v", len(got), got)
		}
		if wait := got[1].at.Sub(got[0].at); wait < 3*time.Second {
			t.Fatalf("the second message left %v after the first, which took 3 s", wait)
		}
	})
}

// One citizen that fails does not hold back the others, nor does one endpoint.
func TestFailureIsIsolated(t *testing.T) {
	at := &endpoint{answer: func(_ int, a arrival) (int, error) {
		if a.body.ExternalRef == "BAD" || a.url == "https://down.example/" {
			return 500, nil
		}
		return 200, nil
	}}
	inBubble(t, at, func(t *testing.T, w *world) {
		w.subscribe(nil)
		w.subscribe(func(v *consent.Subscription) { v.URL = "https://down.example/" })
		w.record("BAD", consent.Granted)
		for i := range 40 {
			w.record(fmt.Sprint("GOOD-", i), consent.Granted)
		}
		time.Sleep(time.Second)
		arrived := map[string]bool{}
		for _, a := range at.seen(t) {
			if a.url == "https://crm.example/hook" {
				arrived[a.body.ExternalRef] = true
			}
		}
		if len(arrived) != 41 {
			t.Fatalf("%d of 41 citizens arrived within a second", len(arrived))
		}
	})
}

func TestPausing(t *testing.T) {
	at := &endpoint{answer: fail}
	inBubble(t, at, func(t *testing.T, w *world) {
		id := w.subscribe(nil)
		w.record("BEFORE", consent.Granted)
		time.Sleep(time.Minute)
		w.change(id, func(v *consent.Subscription) { v.Status = consent.Paused })
		time.Sleep(5 * time.Second)
		before := len(at.seen(t))
		w.record("DURING", consent.Granted)
		time.Sleep(5 * time.Hour)
		if got := at.seen(t); len(got) != before {
			t.Fatalf("%d messages left while paused", len(got)-before)
		}
		at.behave(nil)
		w.change(id, func(v *consent.Subscription) { v.Status = consent.Active })
		time.Sleep(5 * time.Second)
		got := at.seen(t)[before:]
		if len(got) != 1 || got[0].body.ExternalRef != "BEFORE" {
			t.Fatalf("after the pause arrived %+v, want what waited before it alone", got)
		}
	})
}

// URL and credentials are read when a message leaves, so mending a subscription
// mends what waits for it.
func TestSettingsAreReadAtSending(t *testing.T) {
	at := &endpoint{answer: fail}
	inBubble(t, at, func(t *testing.T, w *world) {
		id := w.subscribe(func(v *consent.Subscription) { v.AuthType, v.Secrets.Token = consent.AuthToken, "old" })
		w.record("CUST-1", consent.Granted)
		time.Sleep(time.Minute)
		at.behave(nil)
		w.change(id, func(v *consent.Subscription) { v.URL, v.Secrets.Token = "https://new.example/", "new" })
		time.Sleep(2 * time.Hour)
		got := at.seen(t)
		last := got[len(got)-1]
		if got[0].header.Get("Authorization") != "Bearer old" || last.url != "https://new.example/" || last.header.Get("Authorization") != "Bearer new" {
			t.Fatalf("first %+v, last %+v", got[0], last)
		}
	})
}

func TestErasureIsTold(t *testing.T) {
	at := &endpoint{}
	inBubble(t, at, func(t *testing.T, w *world) {
		w.subscribe(nil)
		r := w.record("CUST-1", consent.Granted)
		time.Sleep(time.Second)
		if err := w.st.EraseCitizen(ctx, w.app, consent.CitizenKey{ID: r.CitizenID}, "test"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		got := at.seen(t)
		last := got[len(got)-1].body
		if len(got) != 2 || last.EventType != "citizen.deleted" || last.ExternalRef != "CUST-1" || len(last.Permissions) != 0 || last.Permissions == nil {
			t.Fatalf("%d messages, the last %+v", len(got), last)
		}
	})
}

// What is under way when the process stops is finished, and a start goes on.
func TestStopAndStart(t *testing.T) {
	at := &endpoint{takes: 2 * time.Second}
	inBubble(t, at, func(t *testing.T, w *world) {
		w.subscribe(nil)
		for i := range 20 {
			w.record(fmt.Sprint("CUST-", i), consent.Granted)
		}
		time.Sleep(time.Second)
		w.stop()
		if got := at.seen(t); len(got) != 8 {
			t.Fatalf("%d messages, want the 8 that were under way", len(got))
		}
		w.start()
		time.Sleep(time.Minute)
		if got := at.seen(t); len(got) != 20 {
			t.Fatalf("%d messages for 20 changes", len(got))
		}
	})
}

// A stamp is never below one that the process before made, even when the clock
// was set back in between.
func TestSentAtSurvivesAClockThatIsSetBack(t *testing.T) {
	at := &endpoint{}
	dir, keys := t.TempDir(), storetest.Keys(t)
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, dir, keys, at)
		w.subscribe(nil)
		time.Sleep(time.Hour)
		w.record("CUST-1", consent.Granted)
		time.Sleep(time.Second)
		w.close()
	})
	at.mu.Lock()
	at.inFlight = nil
	at.mu.Unlock()
	synctest.Test(t, func(t *testing.T) { // the clock of a bubble starts in 2000 again
		w := newWorld(t, dir, keys, at)
		w.record("CUST-1", consent.Denied)
		time.Sleep(time.Minute)
		w.close()
		if got := at.seen(t); len(got) != 2 { // seen checks that sentAt rises
			t.Fatalf("%d messages", len(got))
		}
	})
}

func TestAuthentication(t *testing.T) {
	for _, c := range []struct {
		name             string
		location         consent.TokenLocation
		tokenName, token string
		url, header, is  string
	}{
		{"bearer by default", consent.InHeader, "", "s3cret", "", "Authorization", "Bearer s3cret"},
		{"bearer in Authorization", consent.InHeader, "authorization", "s3cret", "", "Authorization", "Bearer s3cret"},
		{"a scheme of its own", consent.InHeader, "Authorization", "Basic abc=", "", "Authorization", "Basic abc="},
		{"raw under its own name", consent.InHeader, "X-Api-Key", "s3cret", "", "X-Api-Key", "s3cret"},
		{"in the query", consent.InQuery, "api key", "a&b", "https://crm.example/hook?v=1&api+key=a%26b", "Authorization", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			sub := store.Registered{Subscription: consent.Subscription{
				URL: "https://crm.example/hook?v=1", AuthType: consent.AuthToken, TokenLocation: c.location, TokenName: c.tokenName,
				Secrets: consent.SubscriptionSecrets{Token: c.token},
			}}
			header := http.Header{}
			url, err := authenticate(sub, header)
			if err != nil {
				t.Fatal(err)
			}
			if c.url == "" {
				c.url = sub.URL
			}
			if url != c.url || header.Get(c.header) != c.is {
				t.Errorf("%s with %s: %q", url, c.header, header.Get(c.header))
			}
		})
	}
}
