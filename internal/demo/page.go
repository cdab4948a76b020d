package demo

import (
	"bytes"
	"embed"
	"encoding/json"
	"fmt"
	"html/template"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/opencpm/opencpm/client"
	"github.com/opencpm/opencpm/internal/web"
)

const (
	rowsShown = 15 // of each list
	// pause is the shortest time between two events of one stream, so that a burst
	// of changes does not become a burst of drawing.
	pause     = 250 * time.Millisecond
	heartbeat = 15 * time.Second
	// writeTimeout ends a stream whose reader takes nothing.
	writeTimeout = 30 * time.Second
	maxStreams   = 64
)

// PageConfig is what the page tells its readers about the server it runs in.
type PageConfig struct {
	BaseURL       string // of the API, as the reader's shell reaches it
	ApplicationID string
	APIKey        string
	ClientID      string // of the credentials that the first curl line gets a token with
	ClientSecret  string
	Client        *client.Client // asks the API what a reader asks of a citizen
}

// Page is the demo page: changes as they are recorded, the webhooks they caused, what
// applies to a citizen and why, and what to type to make a change. It serves /,
// /favicon.ico and everything under /demo/.
type Page struct {
	mux     *http.ServeMux
	feed    *feed
	config  PageConfig
	started time.Time
	streams atomic.Int32
}

// Patterns are what a Page answers.
var Patterns = []string{"GET /{$}", "GET /favicon.ico", "/demo/"}

//go:embed templates
var templateFiles embed.FS

var templates = template.Must(template.New("").Funcs(web.Funcs).ParseFS(templateFiles, "templates/*.html"))

// NewPage gives the page that shows what r receives, and the inbox.
func NewPage(config PageConfig, r *Receiver, inbox *Inbox) *Page {
	p := &Page{mux: http.NewServeMux(), feed: r.feed, config: config, started: time.Now()}
	p.mux.HandleFunc("GET /{$}", p.page)
	p.mux.HandleFunc("GET /demo/events", p.events)
	p.mux.HandleFunc("GET /demo/messages/{id}", p.message)
	p.mux.HandleFunc("GET /demo/state", p.state)
	p.mux.HandleFunc("GET /demo/why", p.ask)
	p.mux.HandleFunc("GET /demo/shop", p.shop)
	p.mux.Handle("/demo/inbox", inbox)
	p.mux.Handle("/demo/inbox/", inbox)
	p.mux.Handle("/demo/assets/", web.Assets())
	// Where a page has no link to an icon, such as the body of a webhook, browsers
	// ask for this one.
	p.mux.Handle("GET /favicon.ico", http.RedirectHandler("/demo/assets/"+web.Asset("favicon.svg"), http.StatusFound))
	return p
}

// ServeHTTP serves the page and what belongs to it.
func (p *Page) ServeHTTP(w http.ResponseWriter, r *http.Request) { p.mux.ServeHTTP(w, r) }

// Recorded shows a transaction that was just recorded. It does not block.
func (p *Page) Recorded(e RecordedEvent) { p.feed.recordedOne(e) }

// Progress shows how far the loading of the citizens is. It does not block.
func (p *Page) Progress(done, total int) {
	p.feed.change(func() { p.feed.done, p.feed.total = done, total })
}

// Close ends every stream, so that a server can stop without waiting for its
// readers.
func (p *Page) Close() { p.feed.change(func() { p.feed.closed = true }) }

// pageView is what the template of the page shows.
type pageView struct {
	Title    string
	Citizen  string // the one whose rows alone are shown; empty for all
	Applies  citizenView
	Why      *whyView // nil where the reader does not ask
	Stream   string   // address of the events
	Last     string   // mark of the last event that is in the rows already
	Rows     int
	Changes  []changeView
	Webhooks []webhookView
	Facts    facts
	Loading  bool
	Done     int
	Total    int
	Curl     []curlView
	Zone     string
	Started  string
}

// facts are the figures of the page, ready to be shown.
type facts struct {
	Citizens, Recorded, Delivered, Median, P99 string
	Progress                                   string
}

func (p *Page) page(w http.ResponseWriter, r *http.Request) {
	citizen := r.URL.Query().Get("citizen")
	s := p.feed.since("", citizen, rowsShown)
	now := time.Now()
	view := pageView{
		Title:    "Live demo",
		Citizen:  citizen,
		Stream:   "/demo/events",
		Last:     s.last,
		Rows:     rowsShown,
		Changes:  changeViews(s.changes, now),
		Webhooks: webhookViews(s.messages, now),
		Facts:    s.facts(),
		Loading:  s.done < s.total,
		Done:     s.done,
		Total:    s.total,
		Curl:     p.config.curl(),
		Zone:     zone(now),
		Started:  clock(p.started, now),
	}
	if citizen != "" {
		view.Title = citizen + " – Live demo"
		view.Stream = forCitizen(view.Stream, citizen)
		view.Applies = p.citizen(r.Context(), citizen)
		if r.URL.Query().Has("why") {
			why := p.why(r.Context(), "why", r.URL.Query())
			view.Why = &why
		}
	}
	p.render(w, r, "page", view)
}

// message answers the full body of one webhook, indented for reading.
func (p *Page) message(w http.ResponseWriter, r *http.Request) {
	id, err := strconv.ParseInt(r.PathValue("id"), 10, 64)
	m, ok := p.feed.message(id)
	if err != nil || !ok {
		http.Error(w, "This message is no longer kept.", http.StatusNotFound)
		return
	}
	var body bytes.Buffer
	if json.Indent(&body, m.Body, "", "  ") != nil {
		body.Write(m.Body)
	}
	web.SetHeaders(w.Header())
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(body.Bytes()) // the reader going away is no fault of ours
}

// update is one event of the stream.
type update struct {
	Reset    bool              `json:"reset"`
	Changes  string            `json:"changes"`  // rendered rows, newest first
	Webhooks string            `json:"webhooks"` // likewise
	Facts    map[string]string `json:"facts"`
	Done     int               `json:"done"`
	Total    int               `json:"total"`
}

// events streams what happens, from the mark that the reader has, until it leaves
// or the page is closed.
func (p *Page) events(w http.ResponseWriter, r *http.Request) {
	if p.streams.Add(1) > maxStreams {
		p.streams.Add(-1)
		w.Header().Set("Retry-After", "10")
		http.Error(w, "Too many readers.", http.StatusServiceUnavailable)
		return
	}
	defer p.streams.Add(-1)
	web.SetHeaders(w.Header())
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("X-Accel-Buffering", "no")
	out := http.NewResponseController(w)

	mark, citizen := r.Header.Get("Last-Event-ID"), r.URL.Query().Get("citizen")
	if mark == "" {
		mark = r.URL.Query().Get("after")
	}
	told := false // everything, at least once: then the reader knows that it is connected
	for done := 0; ; {
		s := p.feed.since(mark, citizen, rowsShown)
		if s.closed {
			return
		}
		if !told || s.last != mark || s.done != done {
			event, err := s.event(time.Now())
			if err != nil {
				slog.ErrorContext(r.Context(), "an event of the demo could not be rendered", "error", err)
				return
			}
			if !p.write(w, out, event) {
				return
			}
			told, mark, done = true, s.last, s.done
			if !wait(r, time.After(pause), nil) {
				return
			}
		}
		beat := time.After(heartbeat)
		if !wait(r, beat, s.more) {
			return
		}
		select {
		case <-beat:
			if !p.write(w, out, ": still here\n\n") {
				return
			}
		default:
		}
	}
}

// wait waits for either, and reports false when the reader has left.
func wait(r *http.Request, timer <-chan time.Time, more <-chan struct{}) bool {
	select {
	case <-timer:
	case <-more:
	case <-r.Context().Done():
		return false
	}
	return true
}

func (p *Page) write(w http.ResponseWriter, out *http.ResponseController, s string) bool {
	// Not every writer knows deadlines; one that does not has none to lift.
	_ = out.SetWriteDeadline(time.Now().Add(writeTimeout))
	if _, err := w.Write([]byte(s)); err != nil {
		return false
	}
	return out.Flush() == nil
}

func (s snapshot) event(now time.Time) (string, error) {
	changes, err := rendered("changes", changeViews(s.changes, now))
	if err != nil {
		return "", err
	}
	webhooks, err := rendered("webhooks", webhookViews(s.messages, now))
	if err != nil {
		return "", err
	}
	f := s.facts()
	data, err := json.Marshal(update{
		Reset: s.reset, Changes: changes, Webhooks: webhooks,
		Facts: map[string]string{
			"citizens": f.Citizens, "recorded": f.Recorded, "delivered": f.Delivered,
			"median": f.Median, "p99": f.P99, "progress": f.Progress,
		},
		Done: s.done, Total: s.total,
	})
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("event: update\nid: %s\ndata: %s\n\n", s.last, data), nil
}

func rendered(name string, rows any) (string, error) {
	var b strings.Builder
	err := templates.ExecuteTemplate(&b, name, rows)
	return b.String(), err
}

func (s snapshot) facts() facts {
	f := facts{
		Citizens: grouped(s.done), Recorded: grouped(s.recorded), Delivered: grouped(s.delivered),
		Median: "–", P99: "–",
		Progress: grouped(s.done) + " of " + grouped(s.total),
	}
	if s.timed {
		f.Median, f.P99 = milliseconds(s.median), milliseconds(s.p99)
	}
	return f
}
