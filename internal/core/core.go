// Package core holds the use cases of OpenCPM, the verbs of the business. It is
// the only way to change anything: it authorises the actor, resolves names through
// the catalogue, applies the rules of package consent and hands the result to the
// store.
package core

import (
	"context"
	"log/slog"
	"maps"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/internal/safehttp"
	"github.com/opencpm/opencpm/internal/store"
)

// Actor is who asks: a credential with what it may do, or a citizen.
type Actor struct {
	ID           string // of the credential
	Name         string
	Applications []int64
	Scopes       []consent.Scope
	Citizen      consent.ID // who presents a citizen token, and may do nothing but what is said of citizens
}

// Request is what core is told of a request besides its content.
type Request struct {
	// Found is what was wrong already in reading the request; core reports it together
	// with what it finds itself.
	Found consent.Faults
	// IdempotencyKey, where given, makes the same request from the same credential
	// within 24 hours happen once and have one answer; Digest is SHA-256 of the body.
	IdempotencyKey string
	Digest         []byte
}

// once says how to recognise the request when it is repeated. A key of more than 255
// characters is a fault.
func (r *Request) once(a Actor, route string) store.Once {
	consent.CheckText(&r.Found, "header.Idempotency-Key", r.IdempotencyKey, 0, 255)
	return store.Once{Credential: a.ID, Route: route, Key: r.IdempotencyKey, Request: r.Digest}
}

// Operator is who acts by the command line, with the rights of whoever holds the
// data.
const Operator = "operator"

func (a Actor) recorder() consent.Recorder { return consent.Recorder{ID: a.ID, Name: a.Name} }

// Options are what the use cases need besides the store.
type Options struct {
	Outbound safehttp.Policy // judges the addresses of webhooks
	BaseURL  string          // where citizens reach our pages; empty: there are no links to them
	Log      *slog.Logger    // nil means slog.Default
	// Recorded, where set, is told of every transaction after its commit. It must
	// not block.
	Recorded func(Recorded)
	// Submitted, where set, is told likewise of answers to preferences.
	Submitted func(store.Submitted)
	// Counted, where set, is told how many changes and answers were recorded, by whatever
	// call.
	Counted func(int)
	// Try sends a message about nobody by the settings of a subscription and says what
	// came of it; nil means that none can be sent.
	Try func(context.Context, store.Registered) store.Trial
	// Cancelled, where set, is told of every job that ended before anybody began it.
	Cancelled func(consent.JobKind)
	// MailServer says that there is a mail server by which mails to citizens can leave.
	MailServer bool
}

// Recorded is the outcome of a transaction.
type Recorded struct {
	store.Recorded
	Warnings []string // what was accepted but has no effect, in sentences
}

// Service is the use cases over one store.
type Service struct {
	store     *store.Store
	outbound  safehttp.Policy
	log       *slog.Logger
	recorded  func(Recorded)
	submitted func(store.Submitted)
	counted   func(int)
	cancelled func(consent.JobKind)
	baseURL   string // without a slash at its end
	try       func(context.Context, store.Registered) store.Trial

	mailServer bool
	visitors   *Limiter
	closedTold *Limiter // of which applications it was said that they take no sign-ups

	tokens  atomic.Pointer[tokenKeys] // that are known here
	looking sync.Mutex                // for keys that are not
	looked  time.Time

	stopping   chan struct{} // closed when Run ends: nobody waits any longer
	editing    sync.Mutex    // of catalogues, one at a time
	refreshing sync.Mutex
	snapshots  atomic.Pointer[map[string]*consent.Snapshot] // by application id
	centres    atomic.Pointer[centres]                      // that are in them
	wholes     sync.Map                                     // catalogues with what is archived, by the numbers of their applications
}

// New makes the use cases; Run keeps their view of catalogues and keys fresh.
func New(st *store.Store, o Options) *Service {
	s := &Service{
		store: st, outbound: o.Outbound, log: o.Log, recorded: o.Recorded, submitted: o.Submitted, counted: o.Counted, cancelled: o.Cancelled, try: o.Try,
		baseURL: strings.TrimRight(o.BaseURL, "/"), stopping: make(chan struct{}),
		mailServer: o.MailServer, visitors: NewLimiter(visitorRate, visitorBurst), closedTold: NewLimiter(1.0/60, 1),
	}
	if s.log == nil {
		s.log = slog.Default()
	}
	if s.recorded == nil {
		s.recorded = func(Recorded) {}
	}
	if s.submitted == nil {
		s.submitted = func(store.Submitted) {}
	}
	if s.counted == nil {
		s.counted = func(int) {}
	}
	if s.try == nil {
		s.try = func(context.Context, store.Registered) store.Trial {
			return store.Trial{Class: "internal", Reason: "this server sends no messages"}
		}
	}
	if s.cancelled == nil {
		s.cancelled = func(consent.JobKind) {}
	}
	s.snapshots.Store(&map[string]*consent.Snapshot{})
	s.useKeys(st.OpenedTokenKeys())
	st.OnCreate(s.defaults)
	return s
}

// Run takes up changes of catalogues and keys that other processes make, until ctx ends; then
// nobody is kept waiting for news any more. It runs once.
func (s *Service) Run(ctx context.Context) {
	defer close(s.stopping)
	setup, stop := s.store.SetupChanged()
	defer stop()
	poll := time.NewTicker(time.Second)
	defer poll.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-setup:
		case <-poll.C:
		}
		if err := s.refresh(ctx); err != nil && ctx.Err() == nil {
			s.log.Warn("the catalogue cannot be read; the last one known is used", "error", err)
		}
		if err := s.learnKeys(ctx); err != nil && ctx.Err() == nil {
			s.log.Warn("the keys of citizen tokens cannot be read; the last ones known are used", "error", err)
		}
	}
}

// refresh reads the catalogues whose revision has changed.
func (s *Service) refresh(ctx context.Context) error {
	s.refreshing.Lock()
	defer s.refreshing.Unlock()
	applications, err := s.store.Applications(ctx)
	if err != nil {
		return err
	}
	known := *s.snapshots.Load()
	next := make(map[string]*consent.Snapshot, len(applications))
	for _, a := range applications {
		next[a.ID] = known[a.ID]
		if next[a.ID] == nil || next[a.ID].Revision != a.Revision {
			if next[a.ID], err = s.store.Snapshot(ctx, a); err != nil {
				return err
			}
		}
	}
	if !maps.Equal(known, next) {
		s.snapshots.Store(&next)
	}
	return nil
}

// snapshot gives the catalogue of an application by its id, nil when there is none.
func (s *Service) snapshot(ctx context.Context, id string) (*consent.Snapshot, error) {
	if snap := (*s.snapshots.Load())[id]; snap != nil {
		return snap, nil
	}
	if err := s.refresh(ctx); err != nil {
		return nil, err
	}
	return (*s.snapshots.Load())[id], nil
}
