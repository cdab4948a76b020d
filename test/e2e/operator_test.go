package e2e_test

import (
	"io"
	"mime"
	"mime/quotedprintable"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/opencpm/opencpm/test/harness"
)

// readMail decodes the subject and the text of a mail.
func readMail(t testing.TB, m harness.Mail) (subject, text string) {
	t.Helper()
	subject, err := new(mime.WordDecoder).DecodeHeader(m.Header.Get("Subject"))
	if err != nil {
		t.Fatal(err)
	}
	plain, err := io.ReadAll(quotedprintable.NewReader(strings.NewReader(m.Text)))
	if err != nil {
		t.Fatal(err)
	}
	return subject, string(plain)
}

// TestOperatorIsToldByMail lets an endpoint say that it is gone, which is told at once, and
// come back. That one which fails is told after an hour is a matter of fake time elsewhere.
func TestOperatorIsToldByMail(t *testing.T) {
	harness.OnEachStore(t, func(t *testing.T, s *harness.Store) {
		mailbox := harness.NewMailServer(t, harness.StartTLS)
		const first, second = "planted-operator-8c1f@example.com", "planted-deputy-8c1f@example.com"
		s.Env = []string{
			"SSL_CERT_FILE=" + mailbox.CA, "OPENCPM_MAIL_FROM=Consent <consent@example.com>", "OPENCPM_OPERATOR_EMAIL=" + first + "," + second,
			"OPENCPM_SMTP_URL=smtp://" + harness.MailUser + ":" + harness.MailPassword + "@" + mailbox.Address,
		}
		r := harness.NewReceiver(t)
		r.Respond(harness.Answer(410))
		w := start(t, s, northwind, impatient...)
		id := w.subscribe(t, r.URL+"/planted-path-8c1f?key=planted-query-8c1f", object{"name": "Kůň & Co"}).text(t, "id")
		began := time.Now()
		w.record(t, "planted-reference-8c1f", change("newsletter-email", "consent", "GRANTED"))

		endpoint, err := url.Parse(r.URL)
		if err != nil {
			t.Fatal(err)
		}
		told := mailbox.Await(t, 2, harness.Patience)
		t.Logf("told after %v", time.Since(began).Round(100*time.Millisecond))
		r.Respond(harness.Answer(204))
		w.record(t, "planted-reference-8c1f", change("newsletter-email", "consent", "DENIED"))
		told = append(told, mailbox.Await(t, 4, harness.Patience)[2:]...)
		for i, want := range []struct {
			to, subject string
			text        []string
		}{
			{first, `OpenCPM: the endpoint of webhook "Kůň & Co" says that it is gone`, []string{"410 Gone", id, w.id, endpoint.Host, "nothing is lost", "Messages waiting  1", "/v1/subscriptions/" + id}},
			{second, `OpenCPM: the endpoint of webhook "Kůň & Co" says that it is gone`, []string{"410 Gone"}},
			{first, `OpenCPM: webhook "Kůň & Co" is delivered again`, []string{id, "Nothing was lost"}},
			{second, `OpenCPM: webhook "Kůň & Co" is delivered again`, []string{id}},
		} {
			m := told[i]
			subject, text := readMail(t, m)
			if m.To != want.to || m.From != "consent@example.com" || !m.TLS || m.User != harness.MailUser || subject != want.subject {
				t.Errorf("mail %d: from %s to %s by %q, TLS %v: %q", i, m.From, m.To, m.User, m.TLS, subject)
			}
			for _, part := range want.text {
				if !strings.Contains(text, part) {
					t.Errorf("mail %d does not say %q:\n%s", i, part, text)
				}
			}
			absent(t, "a mail", subject+text, "planted-path-8c1f", "planted-query-8c1f", "planted-reference-8c1f", harness.MailPassword)
		}

		sent := func(kind string) bool {
			_, metrics := w.api.glance(t, "/metrics")
			return strings.Contains(metrics, `opencpm_operator_notices_total{kind="`+kind+`",outcome="sent"} 1`) &&
				strings.Contains(metrics, "opencpm_webhook_endpoints_failing 0")
		}
		eventually(t, harness.Patience, "both notices are counted", func() bool { return sent("gone") && sent("recovered") })
		w.server.Stop(t)
		if got := mailbox.Await(t, 4, 0); len(got) != 4 {
			t.Errorf("%d mails, want one to each of two for each of two notices", len(got))
		}
		absent(t, "the log", s.Emitted.String(), first, second, harness.MailPassword, "planted-query-8c1f")
		const nobody = "nobody is told by mail"
		if strings.Contains(s.Emitted.String(), nobody) {
			t.Errorf("a server that can tell somebody says %q", nobody)
		}
		s.Env = nil
		s.Serve(t).Stop(t)
		if !strings.Contains(s.Emitted.String(), nobody) {
			t.Errorf("a server that can tell nobody does not say %q", nobody)
		}
	})
}
