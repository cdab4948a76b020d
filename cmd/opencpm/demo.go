package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/opencpm/opencpm/client"
	"github.com/opencpm/opencpm/internal/config"
	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/internal/core"
	"github.com/opencpm/opencpm/internal/demo"
	"github.com/opencpm/opencpm/internal/identity"
	"github.com/opencpm/opencpm/internal/observe"
	"github.com/opencpm/opencpm/internal/store"
)

// demoCommand takes its directory from the command line alone: the environment and
// the file name that of a real server.
type demoCommand struct {
	Listen string `default:"127.0.0.1:8080" type:"address" help:"Address and port to listen on."`
	Data   string `env:"-" default:"opencpm-demo" placeholder:"DIR" help:"Directory for the data of the demo; a second start goes on with it."`
}

// The names under which the demo sets itself up.
const (
	demoApplication  = "northwind-outdoor"
	demoSubscription = "CRM of Northwind Outdoor"
)

// Run serves the demo until the process is told to stop.
func (c *demoCommand) Run(ctx context.Context, io streams) error {
	settings, err := c.settings()
	if err != nil {
		return err
	}
	log := observe.NewLogger(io.err, "text", slog.LevelWarn)
	receiver := demo.NewReceiver()
	hook, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("the demo's receiver cannot listen: %w", err)
	}
	defer hook.Close()

	// The page is made once the server knows its address and the credentials.
	var page *demo.Page
	pages := http.NewServeMux()
	for _, pattern := range demo.Patterns {
		pages.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) { page.ServeHTTP(w, r) })
	}
	s, err := newServer(ctx, settings, log, extras{
		pages:    pages,
		recorded: func(r core.Recorded) { page.Recorded(recordedEvent(r)) },
	})
	if err != nil {
		return err
	}
	access, err := c.setUp(ctx, s)
	if err != nil {
		return errors.Join(err, s.close())
	}
	page = demo.NewPage(demo.PageConfig{
		BaseURL: s.baseURL, ApplicationID: demoApplication, APIKey: access.APIKey, ClientID: access.ClientID, ClientSecret: access.ClientSecret,
	}, receiver)
	fmt.Fprintf(io.out, "OpenCPM demo: open %s in a browser. Ctrl-C stops it; the data is in %s.\n", s.baseURL, c.Data)

	hooks := &http.Server{Handler: receiver, ReadHeaderTimeout: 5 * time.Second}
	go func() { _ = hooks.Serve(hook) }()
	defer hooks.Close()

	var work sync.WaitGroup
	defer work.Wait()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	work.Go(func() {
		if err := drive(ctx, s.baseURL, "http://"+hook.Addr().String()+"/webhook", access, page, log); err != nil && ctx.Err() == nil {
			log.Error("the demo cannot go on", "error", err)
			stop()
		}
	})
	work.Go(func() { <-ctx.Done(); page.Close() })
	return s.run(ctx)
}

// settings are those of a server on the demo's data that may reach loopback.
func (c *demoCommand) settings() (config.Serve, error) {
	var serve struct {
		Serve struct{ config.Serve } `cmd:""`
	}
	_, err := config.Parse(&serve, []string{"serve", "--data", c.Data, "--listen", c.Listen, "--webhook-allow-net", netip.MustParsePrefix("127.0.0.0/8").String(), "--shutdown-timeout", "5s"}, nil)
	return serve.Serve.Serve, err
}

// access is the credentials of the demo, kept beside its data.
type access struct {
	APIKey       string `json:"apiKey"`
	ClientID     string `json:"clientId"`
	ClientSecret string `json:"clientSecret"`
}

// setUp creates the application, its catalogue and the credentials, unless an
// earlier start did.
func (c *demoCommand) setUp(ctx context.Context, s *server) (access, error) {
	if _, err := s.core.CreateApplication(ctx, demoApplication, "Northwind Outdoor"); err != nil && consent.KindOf(err) != consent.Conflict {
		return access{}, err
	}
	doc, err := consent.ParseCatalogue(demo.Catalogue)
	if err != nil {
		return access{}, err
	}
	if _, err := s.core.ImportCatalogue(ctx, demoApplication, doc, core.Import{}); err != nil {
		return access{}, err
	}
	path := filepath.Join(c.Data, "demo.json")
	var a access
	text, err := os.ReadFile(path)
	if err == nil {
		return a, json.Unmarshal(text, &a)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return a, err
	}
	all := identity.NewCredential{Kind: store.APIKeyCredential, Name: "Demo", Applications: []string{demoApplication}}
	if _, a.APIKey, err = s.identity.Create(ctx, all); err != nil {
		return a, err
	}
	all.Kind = store.ClientCredential
	id, secret, err := s.identity.Create(ctx, all)
	if err != nil {
		return a, err
	}
	a.ClientID, a.ClientSecret = id.String(), secret
	if text, err = json.Marshal(a); err != nil {
		return a, err
	}
	return a, os.WriteFile(path, text, 0o600)
}

// drive is the company at work, through the API alone: it points its webhook at
// the receiver, brings its customers in and then goes on changing its mind.
func drive(ctx context.Context, baseURL, hook string, a access, page *demo.Page, log *slog.Logger) error {
	c, err := client.New(baseURL, client.Credentials{ClientID: a.ClientID, ClientSecret: a.ClientSecret})
	if err != nil {
		return err
	}
	defer c.CloseIdleConnections()
	if err := demo.Subscribe(ctx, c, demoApplication, demoSubscription, hook); err != nil {
		return err
	}
	if err := demo.Load(ctx, c, demoApplication, page.Progress); err != nil {
		return err
	}
	demo.Stream(ctx, c, demoApplication, log)
	return nil
}

// recordedEvent is a transaction as the page shows it.
func recordedEvent(r core.Recorded) demo.RecordedEvent {
	e := demo.RecordedEvent{
		TransactionID: r.Transaction.ID.String(), CitizenID: r.CitizenID.String(), ExternalRef: r.ExternalRef,
		Channel: r.Transaction.Channel, RecordedAt: r.Transaction.RecordedAt.Time(),
	}
	before := map[consent.Key]consent.State{}
	for _, p := range r.Before {
		before[consent.Key{Type: p.OptionType, ID: p.OptionID}] = p.State
	}
	for i, change := range r.Transaction.Changes {
		c := demo.RecordedChange{
			OptionType: string(change.OptionType), OptionID: change.OptionID, Justification: string(change.Justification), State: string(change.State),
			Before: string(before[consent.Key{Type: change.OptionType, ID: change.OptionID}]),
		}
		if now := r.Outcomes[i].Current; now != nil {
			c.After = string(now.State)
		}
		e.Changes = append(e.Changes, c)
	}
	return e
}
