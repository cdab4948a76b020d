package main

import (
	"context"
	"net"
	"net/url"
	"time"

	"github.com/opencpm/opencpm/internal/config"
	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/internal/mail"
	"github.com/opencpm/opencpm/internal/observe"
	"github.com/opencpm/opencpm/internal/store"
)

// sayWhoIsTold says at the start where nobody will hear of an endpoint that fails.
func (s *server) sayWhoIsTold() {
	if s.config.Has(config.RoleDeliver) && len(s.config.OperatorEmail) == 0 {
		s.log.Info("nobody is told by mail of webhook endpoints that fail: set operator-email and a mail server, or watch the metric opencpm_webhook_endpoints_failing")
	}
}

// sayWhereLinksLead warns at the start where citizens could follow no link of their mails.
func (s *server) sayWhereLinksLead() {
	u, err := url.Parse(s.baseURL)
	if err != nil || s.config.SMTPURL.IsZero() {
		return
	}
	if ip := net.ParseIP(u.Hostname()); u.Hostname() == "localhost" || ip != nil && (ip.IsLoopback() || ip.IsUnspecified()) {
		s.log.Warn("the links in mails lead to this machine alone: set base-url to the URL under which citizens reach this server", "base_url", s.baseURL)
	}
}

// notify tells the operator of an endpoint by mail. Where nobody is to be told so, the
// log, in which the engine says the same, is all there is. It succeeds where at least one
// of several was told: the others are not worth telling that one again and again.
func (s *server) notify(ctx context.Context, n store.Notice) error {
	outcome := observe.NoticeLogged
	var err error
	if len(s.config.OperatorEmail) > 0 {
		if outcome, err = observe.NoticeSent, s.mailOperator(ctx, n); err != nil {
			outcome = observe.NoticeFailed
		}
	}
	s.metrics.Notices.WithLabelValues(string(n.Kind), outcome).Inc()
	return err
}

func (s *server) mailOperator(ctx context.Context, n store.Notice) error {
	waits, err := s.store.Waits(ctx, n.Number)
	if err != nil {
		return err
	}
	waiting, more := waits.All()
	news := mail.EndpointNews{
		Kind: mail.EndpointKind(n.Kind), Subscription: n.Subscription, At: consent.At(time.Now()),
		FailingSince: n.Endpoint.FailingSince, LastFailureAt: n.Endpoint.LastFailureAt, LastReason: n.Endpoint.LastReason,
		Waiting: waiting, WaitingMore: more, RetryInterval: s.config.RetryInterval, BaseURL: s.baseURL,
	}
	to := make([]string, len(s.config.OperatorEmail))
	for i, a := range s.config.OperatorEmail {
		to[i] = string(a)
	}
	taken, err := s.mailServer().Send(ctx, news.Compose(), to)
	if taken > 0 && err != nil {
		s.log.Warn("not all operators could be told of a webhook endpoint", "subscription", n.ID, "told", taken, "of", len(to), "error", err)
		return nil
	}
	return err
}

// mailServer gives the server by which mail leaves, nil where there is none.
func (s *server) mailServer() *mail.Server {
	if s.config.SMTPURL.IsZero() {
		return nil
	}
	return mail.NewServer(s.config.SMTPURL.URL(), string(s.config.MailFrom))
}

func (s *server) mailEnded(state consent.EmailState) {
	s.metrics.Mails.WithLabelValues(string(state)).Inc()
}
