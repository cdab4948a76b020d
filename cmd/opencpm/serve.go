package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/opencpm/opencpm/internal/api"
	"github.com/opencpm/opencpm/internal/config"
	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/internal/core"
	"github.com/opencpm/opencpm/internal/deliver"
	"github.com/opencpm/opencpm/internal/identity"
	"github.com/opencpm/opencpm/internal/jobs"
	"github.com/opencpm/opencpm/internal/observe"
	"github.com/opencpm/opencpm/internal/portal"
	"github.com/opencpm/opencpm/internal/safehttp"
	"github.com/opencpm/opencpm/internal/store"
)

type serveCommand struct{ config.Serve }

// Run serves until the process is told to stop.
func (c *serveCommand) Run(ctx context.Context, io streams) error {
	log := observe.NewLogger(io.err, c.LogFormat, c.Level())
	if c.PprofListen != "" {
		stop, err := serveProfiles(ctx, c.PprofListen)
		if err != nil {
			return err
		}
		defer stop()
	}
	s, err := newServer(ctx, c.Serve, log, extras{})
	if err != nil {
		return err
	}
	s.sayWhereLinksLead()
	return s.run(ctx)
}

// extras are what the demo adds to a server.
type extras struct {
	pages     *http.ServeMux // answers what the API does not
	recorded  func(core.Recorded)
	submitted func(store.Submitted)
}

// server is one process at work: the roles it was given on one store.
type server struct {
	config   config.Serve
	log      *slog.Logger
	metrics  *observe.Metrics
	store    *store.Store
	core     *core.Service
	engine   *deliver.Engine
	identity *identity.Service
	outbound *safehttp.Client
	listener net.Listener
	http     *http.Server
	baseURL  string
}

// newServer opens the store and the port. run or close must follow.
func newServer(ctx context.Context, c config.Serve, log *slog.Logger, x extras) (_ *server, err error) {
	if err := c.Mail.Check(); err != nil {
		return nil, err
	}
	s := &server{config: c, log: log, metrics: observe.NewMetrics(versionText())}
	s.store, err = open(ctx, c.Store, store.Options{Exclusive: true, Log: log, DeliveryLog: logRetention(c.Delivery), Committed: func(writes int, took time.Duration) {
		s.metrics.CommitBatch.Observe(float64(writes))
		s.metrics.CommitDuration.Observe(took.Seconds())
	}})
	if err != nil {
		return nil, err
	}
	if s.listener, err = new(net.ListenConfig).Listen(ctx, "tcp", c.Listen); err != nil {
		return nil, errors.Join(fmt.Errorf("cannot listen on %s: %w", c.Listen, errors.Unwrap(err)), s.store.Close())
	}
	s.baseURL = cmp.Or(c.BaseURL, "http://"+s.listener.Addr().String())
	policy := safehttp.Policy{AllowNets: c.AllowNets}
	// Each subscription has its own bound; one for the host would let those that hang hold back their neighbours there.
	s.outbound = safehttp.NewClient(policy, safehttp.Options{MaxConnsPerHost: 1 << 12, MaxIdlePerHost: 256})
	s.engine = deliver.New(s.store, s.deliverOptions())
	s.core = core.New(s.store, core.Options{
		Outbound: policy, BaseURL: s.baseURL, Log: log, Recorded: x.recorded, Submitted: x.submitted, Try: s.engine.Try,
		Counted:    func(n int) { s.metrics.Changes.Add(float64(n)) },
		Cancelled:  func(kind consent.JobKind) { s.jobEnded(kind, consent.JobCancelled) },
		MailServer: !c.SMTPURL.IsZero(),
	})
	s.identity = identity.New(s.store, s.core, c.TokenLifetime)
	s.http = &http.Server{
		Handler:           s.handler(x.pages),
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       30 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	return s, nil
}

// handler gives what the process answers: with the role http everything, else what
// the operator watches.
func (s *server) handler(pages *http.ServeMux) http.Handler {
	health := observe.NewHealth(s.log)
	health.Add("database", s.store.Ping)
	if !s.config.Has(config.RoleHTTP) {
		mux := http.NewServeMux()
		mux.HandleFunc("GET /healthz", health.Live)
		mux.HandleFunc("GET /readyz", health.Ready)
		mux.Handle("GET /metrics", s.metrics.Handler())
		return mux
	}
	if pages == nil {
		pages = http.NewServeMux()
		pages.Handle("GET /{$}", http.RedirectHandler("/docs", http.StatusSeeOther))
	}
	widgets := portal.Widgets(versionText())
	for _, path := range portal.WidgetPaths {
		pages.Handle(path, widgets)
	}
	citizens := portal.New(portal.Options{
		Core: s.core, BaseURL: s.baseURL, Log: s.log, RequestID: func(r *http.Request) string { return observe.RequestID(r.Context()) }, Kept: api.Kept,
	})
	citizens.Mount(pages)
	return api.New(api.Options{
		Core: s.core, Identity: s.identity, BaseURL: s.config.BaseURL, Version: versionText(),
		Health: http.HandlerFunc(health.Live), Ready: http.HandlerFunc(health.Ready), Metrics: s.metrics.Handler(), Pages: pages,
		Middleware:     []func(http.Handler) http.Handler{citizens.Hosts, observe.Middleware(s.log, s.metrics, api.Fail)},
		TrustedProxies: s.config.TrustedProxies, RateLimit: s.config.RateLimit, TokenAudience: s.config.TokenAudience, Log: s.log,
	})
}

// run works until ctx ends, then lets requests and deliveries finish within the
// shutdown time-out and closes everything.
func (s *server) run(ctx context.Context) error {
	s.log.Info("listening", "addr", s.listener.Addr().String(), "url", s.baseURL, "roles", s.config.Roles, "version", versionText())
	s.sayWhoIsTold()
	work, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	var parts sync.WaitGroup
	parts.Go(func() { s.core.Run(work) })
	parts.Go(func() { s.watchBacklog(work) })
	if s.config.Has(config.RoleDeliver) {
		parts.Go(func() { s.engine.Run(work) })
		if server := s.mailServer(); server != nil {
			parts.Go(func() {
				deliver.RunMails(work, s.store, deliver.MailOptions{Send: server.SendCitizen, Log: s.log, Ended: s.mailEnded})
			})
		}
	}
	if s.config.Has(config.RoleJobs) {
		parts.Go(func() { jobs.Run(work, s.store, s.log) })
		parts.Go(func() { s.core.RunLinks(work) })
		runner := jobs.NewRunner(s.store, jobs.Options{
			Kinds: []jobs.Kind{jobs.LedgerCheck, jobs.Resync, jobs.Redeliver, jobs.Discard, jobs.Tokens(s.core)}, Log: s.log, Ended: s.jobEnded, Running: func(n int) { s.metrics.JobsRunning.Set(float64(n)) },
		})
		parts.Go(func() { runner.Run(work) })
		parts.Go(func() { jobs.Regenerate(work, s.core, s.log) })
	}
	failed := make(chan error, 1)
	go func() { failed <- s.http.Serve(s.listener) }()

	var err error
	select {
	case err = <-failed:
	case <-ctx.Done():
		s.log.Info("stopping", "timeout", s.config.ShutdownTimeout.String())
	}
	limit, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.config.ShutdownTimeout)
	defer cancel()
	stop()
	if s.http.Shutdown(limit) != nil {
		_ = s.http.Close() // requests that do not end are cut; what they wrote is safe
	}
	done := make(chan struct{})
	go func() { parts.Wait(); close(done) }()
	select {
	case <-done:
	case <-limit.Done():
		s.log.Warn("deliveries are still under way; they are sent again at the next start")
		return err // the store stays open under them until the process ends
	}
	s.outbound.Close()
	if closed := s.store.Close(); err == nil {
		err = closed
	}
	s.log.Info("stopped")
	return err
}

// close gives everything back without running.
func (s *server) close() error {
	s.outbound.Close()
	return errors.Join(s.listener.Close(), s.store.Close())
}

func (s *server) deliverOptions() deliver.Options {
	return deliver.Options{
		Post: s.outbound.Post, QuickAttempts: s.config.QuickAttempts, QuickDelays: s.config.QuickDelays,
		RetryInterval: s.config.RetryInterval, RetrySpread: float64(s.config.RetrySpread) / 100,
		Timeout: s.config.Timeout, Concurrency: s.config.Concurrency, Log: s.log, MintToken: func(g store.TokenGrounds, expires consent.Instant) string { return s.core.WriteToken(g, expires) },
		Attempted: func(a deliver.Attempt) {
			s.metrics.Attempts.WithLabelValues(a.Class).Inc()
			switch {
			case a.Class == "erased", a.Class == "expired": // nothing was sent
			case a.Delivered:
				s.metrics.Deliveries.WithLabelValues(observe.Delivered).Inc()
				s.metrics.DeliveryLatency.Observe(a.SinceChange.Seconds())
			case a.Stored:
				s.metrics.Deliveries.WithLabelValues(observe.Failed).Inc()
			}
		},
		TookOver: func(shards int) { s.metrics.LeaseTakeovers.Add(float64(shards)) },
		Notify:   s.notify,
	}
}

func (s *server) jobEnded(kind consent.JobKind, state consent.JobState) {
	s.metrics.JobsEnded.WithLabelValues(string(kind), string(state)).Inc()
}

// logRetention says how long the delivery log is kept.
func logRetention(c config.Delivery) store.LogRetention {
	return store.LogRetention{Age: time.Duration(c.LogDays) * 24 * time.Hour, Bytes: int64(c.LogSize) << 20, Skeleton: c.LogSize == 0}
}

// watchBacklog keeps the gauges of what waits and of the endpoints that fail.
func (s *server) watchBacklog(ctx context.Context) {
	tick := time.NewTicker(5 * time.Second)
	defer tick.Stop()
	for {
		if waiting, stored, err := s.store.Backlog(ctx); err == nil {
			s.metrics.WaitingLanes.Set(float64(waiting))
			s.metrics.FailuresStored.Set(float64(stored))
		}
		if failing, err := s.store.FailingLong(ctx); err == nil {
			s.metrics.EndpointsFailing.Set(float64(failing))
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}
