package demo

import (
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/emersion/go-message/mail"
	"github.com/emersion/go-smtp"

	"github.com/opencpm/opencpm/internal/web"
)

// Inbox is the mail server of the demo and the inbox of all its customers: what is sent
// to anybody arrives here, on this machine. It answers pages under /demo/inbox.
type Inbox struct {
	server *smtp.Server
	mux    *http.ServeMux

	mu    sync.Mutex
	last  int64
	mails []letter // newest first
}

// lettersKept is how many mails the inbox holds.
const lettersKept = 100

// maxLetter is the size of the largest mail that is taken, in bytes.
const maxLetter = 1 << 20

// letter is one mail as its reader sees it.
type letter struct {
	ID                int64
	From, To, Subject string
	At                time.Time
	HTML, Text        string
}

// NewInbox makes an empty inbox; Serve takes mail.
func NewInbox() *Inbox {
	b := &Inbox{mux: http.NewServeMux()}
	b.server = smtp.NewServer(smtp.BackendFunc(func(*smtp.Conn) (smtp.Session, error) { return &inboxSession{inbox: b}, nil }))
	b.server.Domain = "inbox.demo"
	b.server.MaxMessageBytes = maxLetter
	b.server.ReadTimeout, b.server.WriteTimeout = 30*time.Second, 30*time.Second
	b.server.ErrorLog = log.New(io.Discard, "", 0)
	b.mux.HandleFunc("GET /demo/inbox", b.list)
	b.mux.HandleFunc("GET /demo/inbox/{id}", b.read)
	b.mux.HandleFunc("GET /demo/inbox/{id}/body", b.body)
	return b
}

// Serve takes mail on a listener until Close.
func (b *Inbox) Serve(l net.Listener) error { return b.server.Serve(l) }

// Close stops taking mail.
func (b *Inbox) Close() error { return b.server.Close() }

// ServeHTTP serves the pages.
func (b *Inbox) ServeHTTP(w http.ResponseWriter, r *http.Request) { b.mux.ServeHTTP(w, r) }

// inboxSession is one connection of a sender.
type inboxSession struct {
	inbox *Inbox
	to    []string
}

func (s *inboxSession) Mail(string, *smtp.MailOptions) error { return nil }

func (s *inboxSession) Rcpt(to string, _ *smtp.RcptOptions) error {
	s.to = append(s.to, to)
	return nil
}

func (s *inboxSession) Data(r io.Reader) error {
	v, err := readLetter(r)
	if err != nil {
		return &smtp.SMTPError{Code: 554, Message: "the mail cannot be read"}
	}
	for _, to := range s.to {
		v.To = to
		s.inbox.put(v)
	}
	return nil
}

func (s *inboxSession) Reset() { s.to = nil }

func (s *inboxSession) Logout() error { return nil }

// readLetter takes a mail apart: its headers, and the bodies that people read.
func readLetter(r io.Reader) (letter, error) {
	m, err := mail.CreateReader(r)
	if err != nil {
		return letter{}, err
	}
	defer m.Close()
	v := letter{At: time.Now()}
	if v.Subject, err = m.Header.Subject(); err != nil {
		return letter{}, err
	}
	if from, err := m.Header.AddressList("From"); err == nil && len(from) > 0 {
		v.From = from[0].String()
		if from[0].Name != "" {
			v.From = fmt.Sprintf("%s <%s>", from[0].Name, from[0].Address)
		}
	}
	for {
		part, err := m.NextPart()
		if errors.Is(err, io.EOF) {
			return v, nil
		}
		if err != nil {
			return letter{}, err
		}
		h, inline := part.Header.(*mail.InlineHeader)
		if !inline {
			continue
		}
		text, err := io.ReadAll(part.Body)
		if err != nil {
			return letter{}, err
		}
		switch kind, _, _ := h.ContentType(); kind {
		case "text/html":
			v.HTML = string(text)
		case "text/plain":
			v.Text = string(text)
		}
	}
}

func (b *Inbox) put(v letter) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.last++
	v.ID = b.last
	b.mails = slices.Insert(b.mails, 0, v)
	b.mails = b.mails[:min(len(b.mails), lettersKept)]
}

// letters gives the mails, newest first.
func (b *Inbox) letters() []letter {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.mails)
}

func (b *Inbox) letter(r *http.Request) (letter, bool) {
	id, err := strconv.ParseInt(r.PathValue("id"), 10, 64)
	if err != nil {
		return letter{}, false
	}
	list := b.letters()
	at := slices.IndexFunc(list, func(v letter) bool { return v.ID == id })
	if at < 0 {
		return letter{}, false
	}
	return list[at], true
}

// letterView is a mail as the pages show it.
type letterView struct {
	letter
	Clock string
}

type inboxView struct {
	Letters []letterView
	Open    *letterView
	Zone    string
}

// Title is that of the page: the subject of the mail that is open.
func (v inboxView) Title() string {
	if v.Open != nil {
		return v.Open.Subject
	}
	return "Inbox"
}

func (b *Inbox) view() inboxView {
	now := time.Now()
	v := inboxView{Zone: zone(now)}
	for _, l := range b.letters() {
		v.Letters = append(v.Letters, letterView{l, clock(l.At, now)})
	}
	return v
}

func (b *Inbox) list(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Refresh", "5") // an open inbox sees what arrives, without a script
	show(w, r, http.StatusOK, "inbox", b.view())
}

func (b *Inbox) read(w http.ResponseWriter, r *http.Request) {
	v := b.view()
	l, ok := b.letter(r)
	if !ok {
		show(w, r, http.StatusNotFound, "inbox", v)
		return
	}
	v.Open = &letterView{l, clock(l.At, time.Now())}
	w.Header().Set("Content-Security-Policy", web.Policy+"; frame-src 'self'")
	show(w, r, http.StatusOK, "inbox", v)
}

// letterPolicy lets a mail show itself and lead somewhere by a click, as mail programs
// do, and nothing else.
const letterPolicy = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'self'; sandbox allow-popups allow-popups-to-escape-sandbox allow-top-navigation-by-user-activation"

// body answers the mail itself, for the frame in which it is read.
func (b *Inbox) body(w http.ResponseWriter, r *http.Request) {
	l, ok := b.letter(r)
	if !ok {
		http.Error(w, "This mail is no longer kept.", http.StatusNotFound)
		return
	}
	w.Header().Set("Content-Security-Policy", letterPolicy)
	web.SetHeaders(w.Header())
	if r.URL.Query().Has("text") || l.HTML == "" {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = io.WriteString(w, l.Text) // the reader going away is no fault of ours
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	// Links leave the frame, as they leave a mail program.
	_, _ = io.WriteString(w, `<base target="_top">`+l.HTML)
}
