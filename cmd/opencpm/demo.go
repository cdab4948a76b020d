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
	demoApplication = "northwind-outdoor"
	demoStates      = "CRM of Northwind Outdoor"
	demoReceipts    = "Archive of Northwind Outdoor"
)

// Run serves the demo until the process is told to stop.
func (c *demoCommand) Run(ctx context.Context, io streams) error {
	post, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("the demo's mail server cannot listen: %w", err)
	}
	defer post.Close()
	settings, err := c.settings(post.Addr())
	if err != nil {
		return err
	}
	log := observe.NewLogger(io.err, "text", slog.LevelWarn)
	receiver, inbox := demo.NewReceiver(), demo.NewInbox()
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
		pages:     pages,
		recorded:  func(r core.Recorded) { page.Recorded(recordedEvent(r)) },
		submitted: func(v store.Submitted) { page.Recorded(submittedEvent(v)) },
	})
	if err != nil {
		return err
	}
	access, err := c.setUp(ctx, s)
	if err != nil {
		return errors.Join(err, s.close())
	}
	api, err := client.New(s.baseURL, client.Credentials{ClientID: access.ClientID, ClientSecret: access.ClientSecret})
	if err != nil {
		return errors.Join(err, s.close())
	}
	defer api.CloseIdleConnections()
	page = demo.NewPage(demo.PageConfig{
		BaseURL: s.baseURL, ApplicationID: demoApplication, APIKey: access.APIKey, ClientID: access.ClientID, ClientSecret: access.ClientSecret, Client: api,
	}, receiver, inbox)
	fmt.Fprintf(io.out, "OpenCPM demo: open %s in a browser. Ctrl-C stops it; the data is in %s.\n", s.baseURL, c.Data)

	hooks := &http.Server{Handler: receiver, ReadHeaderTimeout: 5 * time.Second}
	go func() { _ = hooks.Serve(hook) }()
	defer hooks.Close()
	go func() { _ = inbox.Serve(post) }()
	defer inbox.Close()

	var work sync.WaitGroup
	defer work.Wait()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	work.Go(func() {
		if err := drive(ctx, api, "http://"+hook.Addr().String(), page, log); err != nil && ctx.Err() == nil {
			log.Error("the demo cannot go on", "error", err)
			stop()
		}
	})
	work.Go(func() { <-ctx.Done(); page.Close() })
	return s.run(ctx)
}

// settings are those of a server on the demo's data that may reach loopback, where its
// mail server is.
func (c *demoCommand) settings(post net.Addr) (config.Serve, error) {
	var serve struct {
		Serve struct{ config.Serve } `cmd:""`
	}
	_, err := config.Parse(&serve, []string{"serve", "--data", c.Data, "--listen", c.Listen, "--webhook-allow-net", netip.MustParsePrefix("127.0.0.0/8").String(), "--shutdown-timeout", "5s", "--mail-from", "demo@opencpm.example"}, nil)
	if err != nil {
		return config.Serve{}, err
	}
	serve.Serve.SMTPURL, err = config.ParseSMTPURL("smtp://" + post.String() + "?tls=none")
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

// drive is the company at work, through the API alone: it points its webhooks at
// the receiver, brings its customers in and then goes on changing its mind.
func drive(ctx context.Context, c *client.Client, receiver string, page *demo.Page, log *slog.Logger) error {
	if err := demo.Subscribe(ctx, c, demoApplication, demoStates, client.EffectivePermission, receiver+"/webhook"); err != nil {
		return err
	}
	if err := demo.Subscribe(ctx, c, demoApplication, demoReceipts, client.ConsentReceipts, receiver+demo.Receipts); err != nil {
		return err
	}
	if err := demo.Load(ctx, c, demoApplication, page.Progress); err != nil {
		return err
	}
	demo.Stream(ctx, c, demoApplication, log)
	return nil
}

// recordedEvent is a transaction as the page shows it: of a reversion the changes that
// it undoes.
func recordedEvent(r core.Recorded) demo.RecordedEvent {
	t := &r.Transaction
	e := demo.RecordedEvent{
		TransactionID: t.ID.String(), CitizenID: r.CitizenID.String(), ExternalRef: r.ExternalRef,
		Channel: t.Channel, ObtainedAt: t.ObtainedAt.Time(), RecordedAt: t.RecordedAt.Time(), Reversion: !t.Reverts.IsZero(),
	}
	before := map[consent.Key]consent.State{}
	for _, p := range r.Before {
		before[consent.Key{Type: p.OptionType, ID: p.OptionID}] = p.State
	}
	for i, o := range r.Outcomes {
		change := o.Change
		if !e.Reversion {
			change = t.Changes[i]
		}
		c := demo.RecordedChange{
			OptionType: string(change.OptionType), OptionID: change.OptionID, Justification: string(change.Justification), State: string(change.State),
			Before: string(before[consent.Key{Type: change.OptionType, ID: change.OptionID}]), Covers: len(change.Covers),
		}
		if change.ValidUntil != 0 {
			c.ValidUntil = change.ValidUntil.Time()
		}
		if o.Current != nil {
			c.After = string(o.Current.State)
		}
		e.Changes = append(e.Changes, c)
	}
	return e
}

// submittedEvent is answers to preferences as the page shows them.
func submittedEvent(v store.Submitted) demo.RecordedEvent {
	last := v.Submissions[len(v.Submissions)-1]
	e := demo.RecordedEvent{
		CitizenID: v.CitizenID.String(), ExternalRef: v.ExternalRef,
		Channel: last.Channel, ObtainedAt: last.ObtainedAt.Time(), RecordedAt: last.RecordedAt.Time(),
	}
	for i, made := range v.Submissions {
		answer := demo.RecordedAnswer{Preference: made.Answer.Label, Overruled: v.Current[i].SubmissionID != made.ID}
		for _, c := range made.Answer.Choices {
			answer.Choices = append(answer.Choices, c.Label)
		}
		e.Answers = append(e.Answers, answer)
	}
	return e
}
