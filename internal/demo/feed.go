package demo

import (
	"cmp"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	keep   = 300 // of the last changes, and of the last messages
	sample = 500 // of the last latencies, from which the percentiles are taken
)

// feed is what receiver and page share: what happened, numbered in the order of
// its arrival, and a doorbell for those who wait for more.
type feed struct {
	epoch string // of this process: numbers start anew with each

	mu        sync.Mutex
	seq       int64
	changes   []RecordedEvent      // oldest first, at most keep
	messages  []Message            // likewise
	states    map[string]Message   // the newest full state of each citizen
	receipts  map[string]time.Time // when the newest receipt of each citizen was sent
	latencies []time.Duration      // a ring once it is full
	slot      int                  // of latencies, the next to be overwritten
	recorded  int
	delivered int
	done      int
	total     int
	more      chan struct{} // closed when something happens, and replaced
	closed    bool
}

func newFeed() *feed {
	return &feed{
		epoch:    strconv.FormatInt(time.Now().UnixMicro(), 36),
		states:   map[string]Message{},
		receipts: map[string]time.Time{},
		more:     make(chan struct{}),
	}
}

// change runs f, which changes the feed, and rings the doorbell.
func (f *feed) change(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
	close(f.more)
	f.more = make(chan struct{})
}

func (f *feed) recordedOne(e RecordedEvent) {
	f.change(func() {
		f.seq++
		e.id = f.seq
		f.recorded++
		f.changes = appendCapped(f.changes, e)
	})
}

// deliveredOne takes a message in. The newest state of a citizen is the one sent
// last, whatever order messages arrive in; a receipt is news, and no state.
func (f *feed) deliveredOne(m Message) {
	f.change(func() {
		f.seq++
		m.id = f.seq
		f.delivered++
		after := f.compare(&m)
		if cause := m.news.cause(m.SentAt); m.changed() && cause.After(after) {
			m.Latency, m.Timed = max(0, m.ReceivedAt.Sub(cause)), true
		}
		switch {
		case m.Receipt:
			f.receipts[m.CitizenID] = m.SentAt
		case !m.Superseded:
			f.states[m.CitizenID] = m
		}
		f.messages = appendCapped(f.messages, m)
		if !m.Timed {
			return
		}
		if len(f.latencies) < sample {
			f.latencies = append(f.latencies, m.Latency)
		} else {
			f.latencies[f.slot] = m.Latency
			f.slot = (f.slot + 1) % sample
		}
	})
}

// fresh is how old the cause of the first message that is known of a citizen may be.
const fresh = time.Minute

// compare works out what is news in a message, and the time after which its cause was.
// News that are older came back because something newer ended: they do not tell when
// that was.
func (f *feed) compare(m *Message) (after time.Time) {
	after = m.SentAt.Add(-fresh)
	if m.Receipt {
		m.news = m.contents
		if before, ok := f.receipts[m.CitizenID]; ok {
			after = before
		}
		return after
	}
	known, ok := f.states[m.CitizenID]
	if m.Superseded = ok && !m.SentAt.After(known.SentAt); !ok || m.Superseded {
		m.news = m.newest(m.SentAt)
		return after
	}
	m.news = m.since(known.contents)
	return known.SentAt
}

func appendCapped[T any](list []T, v T) []T {
	if len(list) == keep {
		copy(list, list[1:])
		list = list[:keep-1]
	}
	return append(list, v)
}

// snapshot is the feed at one moment, for one reader.
type snapshot struct {
	last     string          // the mark to ask for more with
	reset    bool            // what the reader has is of another process
	changes  []RecordedEvent // newest first
	messages []Message       // newest first

	recorded, delivered, done, total int
	median, p99                      time.Duration
	timed                            bool // at least one latency is known

	more   <-chan struct{} // closed when there is more
	closed bool
}

// since gives what happened after the mark, which is empty for everything, for one
// citizen, where one is named, and at most limit rows of each kind.
func (f *feed) since(mark, externalRef string, limit int) snapshot {
	f.mu.Lock()
	defer f.mu.Unlock()
	epoch, n, _ := strings.Cut(mark, "-")
	after, err := strconv.ParseInt(n, 10, 64)
	s := snapshot{
		last:     f.epoch + "-" + strconv.FormatInt(f.seq, 10),
		recorded: f.recorded, delivered: f.delivered, done: f.done, total: f.total,
		more: f.more, closed: f.closed,
	}
	if epoch != f.epoch || err != nil {
		after, s.reset = 0, true
	}
	of := func(ref string) bool { return externalRef == "" || ref == externalRef }
	for _, e := range slices.Backward(f.changes) {
		if e.id <= after || len(s.changes) == limit {
			break
		}
		if of(e.ExternalRef) {
			s.changes = append(s.changes, e)
		}
	}
	for _, m := range slices.Backward(f.messages) {
		if m.id <= after || len(s.messages) == limit {
			break
		}
		if of(m.ExternalRef) {
			s.messages = append(s.messages, m)
		}
	}
	if externalRef != "" && after == 0 && len(s.messages) == 0 {
		for _, m := range f.states { // what the receiver holds, however old
			if m.ExternalRef == externalRef {
				s.messages = append(s.messages, m)
			}
		}
	}
	if s.timed = len(f.latencies) > 0; s.timed {
		sorted := slices.Sorted(slices.Values(f.latencies))
		s.median = sorted[(len(sorted)-1)/2]
		s.p99 = sorted[(len(sorted)-1)*99/100]
	}
	return s
}

func (f *feed) message(id int64) (Message, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	i, ok := slices.BinarySearchFunc(f.messages, id, func(m Message, id int64) int { return cmp.Compare(m.id, id) })
	if ok {
		return f.messages[i], true
	}
	for _, m := range f.states {
		if m.id == id {
			return m, true
		}
	}
	return Message{}, false
}

// RecordedEvent is one transaction, or one submission, as it was recorded. The server
// process tells the page of each by Page.Recorded, whoever recorded it.
type RecordedEvent struct {
	TransactionID string
	CitizenID     string
	ExternalRef   string
	Channel       string // how it reached us, as recorded
	ObtainedAt    time.Time
	RecordedAt    time.Time
	Reversion     bool // it undoes an earlier transaction, whose changes are listed
	Changes       []RecordedChange
	Answers       []RecordedAnswer

	id int64
}

// RecordedChange is one change of a transaction and what it did to the effective
// state.
type RecordedChange struct {
	OptionType    string // option or group
	OptionID      string
	Justification string
	State         string // as recorded
	// Before and After are the effective states around the transaction, empty where
	// none stood. After differs from State where the change was overruled by another
	// answer, or was carried on by the platform, as an objection is when it is upheld.
	Before, After string
	ValidUntil    time.Time // zero: without end
	Covers        int       // options that a group change answered for
}

// RecordedAnswer is one answer to a preference.
type RecordedAnswer struct {
	Preference string // in words
	Choices    []string
	Overruled  bool // an answer that was obtained later stands
}

// Message is one webhook as it arrived.
type Message struct {
	Receipt     bool // it tells what changed; otherwise it is the full state
	CitizenID   string
	ExternalRef string
	EventType   string // such as citizen.changed
	Sequence    int64  // of the citizen's changes
	ChangedBy   string // the client that caused it
	SentAt      time.Time
	ReceivedAt  time.Time
	// Latency is the time from the recording of what is new in the body to the arrival.
	// Timed says whether it is known: a test or a resync has no cause.
	Latency time.Duration
	Timed   bool
	// Superseded is set on a message that arrived after one sent later: it was
	// counted, and its state was not taken.
	Superseded bool
	Body       json.RawMessage

	id int64
	contents
	news contents // what is new since the message before; where none is known, what came last
}

// changed reports whether a change of the citizen caused the message.
func (m *Message) changed() bool { return m.EventType == "" || m.EventType == "citizen.changed" }
