package mail

import (
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/test/harness"
)

// throughExim makes a client of a full mail server.
func throughExim(at *harness.MTA, user *url.Userinfo) *Server {
	v := NewServer(&url.URL{Scheme: "smtp", Host: at.Address, User: user}, from)
	v.roots = at.Roots()
	return v
}

// toAda is a mail that asks for a confirmation.
func toAda(locale string) consent.CitizenEmail {
	written := Compose(signUp(locale))
	return consent.CitizenEmail{
		EventID: consent.ID{7}, SentAt: consent.Timestamp(consent.At(time.Now())), Subject: written.Subject, HTML: written.HTML, Text: written.Text,
		Recipient: consent.EmailAddress{Address: "ada@example.com", Name: `Ada "the Countess" Bürön`}, Sender: consent.EmailSender{Name: "Kůň & Co", Address: "hello@northwind.example"},
		ReplyTo: "service@northwind.example", Headers: map[string]string{"Auto-Submitted": "auto-generated"},
	}
}

// A mail arrives by a server that is none of ours as it was written: both forms, letter for
// letter, the names of both sides, and one id in every attempt.
func TestAMailArrivesByExim(t *testing.T) {
	for _, locale := range []string{"de", "ar"} {
		t.Run(locale, func(t *testing.T) {
			at, m := harness.NewMTA(t), toAda(locale)
			for range 2 {
				if refused, err := throughExim(at, signedIn).SendCitizen(t.Context(), m); refused || err != nil {
					t.Fatal(refused, err)
				}
			}
			if !strings.ContainsFunc(m.Subject, func(r rune) bool { return r > 127 }) {
				t.Errorf("the subject %q tries no encoding", m.Subject)
			}
			for _, got := range at.Await(t, 2, harness.Patience) {
				checkArrived(t, m, got)
			}
		})
	}
}

func checkArrived(t *testing.T, m consent.CitizenEmail, got harness.Mail) {
	t.Helper()
	if got.From != "hello@northwind.example" || got.To != "ada@example.com" || got.User != harness.MailUser || !got.TLS {
		t.Errorf("from %s to %s, by %q, TLS %v", got.From, got.To, got.User, got.TLS)
	}
	subject, err := new(mime.WordDecoder).DecodeHeader(got.Header.Get("Subject"))
	if err != nil || subject != m.Subject {
		t.Errorf("subject %q, %v", subject, err)
	}
	for name, want := range map[string]string{"From": string(m.Sender.Name), "To": string(m.Recipient.Name)} {
		if list, err := got.Header.AddressList(name); err != nil || len(list) != 1 || list[0].Name != want {
			t.Errorf("%s %q, %v", name, got.Header.Get(name), err)
		}
	}
	if got.Header.Get("Message-ID") != "<"+m.EventID.String()+"@northwind.example>" || len(got.Header["Message-Id"]) != 1 ||
		got.Header.Get("Auto-Submitted") != "auto-generated" || got.Header.Get("List-Unsubscribe") != "" {
		t.Errorf("headers %v", got.Header)
	}
	kind, parameters, err := mime.ParseMediaType(got.Header.Get("Content-Type"))
	if err != nil || kind != "multipart/alternative" {
		t.Fatal(kind, err)
	}
	parts := multipart.NewReader(strings.NewReader(got.Text), parameters["boundary"])
	for _, want := range []struct{ kind, text string }{{"text/plain", m.Text}, {"text/html", m.HTML}} {
		part, err := parts.NextRawPart()
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(quotedprintable.NewReader(part))
		if err != nil || !strings.HasPrefix(part.Header.Get("Content-Type"), want.kind) || strings.TrimSpace(strings.ReplaceAll(string(text), "\r\n", "\n")) != strings.TrimSpace(want.text) {
			t.Errorf("%s arrived as %v %q, %v", want.kind, part.Header, text, err)
		}
	}
	if _, err := parts.NextRawPart(); !errors.Is(err, io.EOF) {
		t.Errorf("a third form: %v", err)
	}
}

// What a server says no to is told apart: for good, for now, and no fault of the address.
// No error repeats an address or a password.
func TestEximSaysNo(t *testing.T) {
	at := harness.NewMTA(t)
	send := func(s *Server, to string) (bool, error) {
		m := toAda("de")
		m.Recipient.Address = to
		return s.SendCitizen(t.Context(), m)
	}
	unknown := throughExim(at, signedIn)
	unknown.roots = nil
	const wrong = "planted-wrong-password-51d7"
	for name, test := range map[string]struct {
		by      *Server
		to      string
		refused bool
		says    string
	}{
		"no such mailbox":   {throughExim(at, signedIn), harness.GoneRecipient, true, "answered 550"},
		"mailbox locked":    {throughExim(at, signedIn), harness.BusyRecipient, false, "answered 451"},
		"wrong password":    {throughExim(at, url.UserPassword(harness.MailUser, wrong)), "ada@example.com", false, "answered 535"},
		"no password":       {throughExim(at, nil), "ada@example.com", false, "answered 550"},
		"unknown authority": {unknown, "ada@example.com", false, "certificate"},
	} {
		refused, err := send(test.by, test.to)
		if refused != test.refused || err == nil || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s: refused %v, %v", name, refused, err)
			continue
		}
		for _, secret := range []string{"@example.com", harness.MailPassword, wrong} {
			if strings.Contains(err.Error(), secret) {
				t.Errorf("%s: %v tells %s", name, err, secret)
			}
		}
	}
	at.Relieve(t)
	if refused, err := send(throughExim(at, signedIn), harness.BusyRecipient); refused || err != nil {
		t.Errorf("tried again: refused %v, %v", refused, err)
	}
	if got := at.Await(t, 1, harness.Patience); len(got) != 1 || got[0].To != harness.BusyRecipient {
		t.Errorf("arrived %+v", got)
	}
}
