package demo_test

import (
	"net"
	"net/smtp"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/opencpm/opencpm/internal/web/webtest"
)

// letterOfTest is a mail as OpenCPM sends them: two bodies, a subject that is not ASCII.
const letterOfTest = "From: =?utf-8?q?Northwind_Outd=C3=B6r?= <hello@northwind.example>\r\nTo: ada@example.com\r\n" +
	"Subject: =?utf-8?q?Bitte_best=C3=A4tigen?=\r\nMIME-Version: 1.0\r\nContent-Type: multipart/alternative; boundary=b\r\n\r\n" +
	"--b\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\nBest=C3=A4tigen: http://x.example/c/1\r\n" +
	"--b\r\nContent-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n" +
	"<!doctype html><html lang=3D\"de\"><head><title>Bitte</title></head><body><main><h1>Best=C3=A4tigen</h1><p><a href=3D\"/\">Ja</a></p></main></body></html>\r\n--b--\r\n"

// receive has the inbox take a mail by SMTP.
func (s *site) receive(t *testing.T, to, text string) {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { defer close(done); _ = s.inbox.Serve(l) }()
	t.Cleanup(func() { _ = s.inbox.Close(); <-done })
	if err := smtp.SendMail(l.Addr().String(), nil, "bounces@northwind.example", []string{to}, []byte(text)); err != nil {
		t.Fatal(err)
	}
}

func TestAMailArrivesAndCanBeRead(t *testing.T) {
	s := newSite(t)
	status, _, body := get(t, s.url+"/demo/inbox")
	if text := shown(body); status != 200 || !strings.Contains(text, "No mail yet.") {
		t.Errorf("the empty inbox answers %d: %s", status, text)
	}
	s.receive(t, "ada@example.com", letterOfTest)
	if _, _, body = get(t, s.url+"/demo/inbox"); !strings.Contains(shown(body), "Bitte bestätigen") || !strings.Contains(body, `"/demo/inbox/1#mail"`) {
		t.Errorf("the mail is not listed: %s", shown(body))
	}
	_, _, body = get(t, s.url+"/demo/inbox/1")
	if !strings.Contains(body, "<title>Bitte bestätigen – OpenCPM</title>") {
		t.Errorf("the page of the mail is not called as the mail: %s", body)
	}
	for _, want := range []string{"From Northwind Outdör &lt;hello@northwind.example&gt; to ada@example.com", "Bestätigen: http://x.example/c/1"} {
		if !strings.Contains(shown(body), want) {
			t.Errorf("the mail does not say %q: %s", want, shown(body))
		}
	}
	_, header, body := get(t, s.url+"/demo/inbox/1/body")
	if policy := header.Get("Content-Security-Policy"); !strings.Contains(policy, "default-src 'none'") || !strings.Contains(policy, "sandbox") || strings.Contains(policy, "allow-scripts") {
		t.Errorf("the body may do too much: %s", policy)
	}
	if !strings.Contains(body, "<h1>Bestätigen</h1>") || !strings.Contains(body, `<base target="_top">`) {
		t.Errorf("the body is %s", body)
	}
	for _, path := range []string{"/demo/inbox/2", "/demo/inbox/x", "/demo/inbox/2/body"} {
		if status, _, _ := get(t, s.url+path); status != 404 {
			t.Errorf("%s answers %d", path, status)
		}
	}
}

// On a phone a mail that is opened takes the place of the list, which is a link away.
func TestAMailOnAPhone(t *testing.T) {
	s := newSite(t)
	s.receive(t, "ada@example.com", letterOfTest)
	for width, listed := range map[int]bool{390: false, 1440: true} {
		tab := webtest.Open(t, webtest.View{Width: width, Height: 844})
		tab.Goto(s.url + "/demo/inbox")
		tab.Do(chromedp.Click(chromedp.CSS(".subject a")))
		tab.Until(`location.hash === "#mail"`)
		if got := webtest.Run[bool](tab, `document.querySelector(".list").checkVisibility()`); got != listed {
			t.Errorf("at %d pixels the list is there: %t", width, got)
		}
		if !webtest.Run[bool](tab, `(({top}) => top >= 0 && top < innerHeight / 2)(document.querySelector("#mail").getBoundingClientRect())`) {
			t.Errorf("at %d pixels the mail is not in sight", width)
		}
		if got := webtest.Run[bool](tab, `document.querySelector(".back a").checkVisibility()`); got == listed {
			t.Errorf("at %d pixels a link leads back: %t", width, got)
		}
	}
}

// A link in a mail leaves the frame in which the mail is read.
func TestALinkOfAMailIsFollowed(t *testing.T) {
	s := newSite(t)
	s.receive(t, "ada@example.com", letterOfTest)
	tab := webtest.Open(t, webtest.View{})
	tab.Goto(s.url + "/demo/inbox/1")
	tab.Until(`document.querySelector("iframe").clientHeight > 100`)
	tab.Do(chromedp.Focus(chromedp.CSS("iframe")), chromedp.KeyEvent("\t"), chromedp.KeyEvent("\r"))
	tab.Until(`location.pathname === "/"`)
}

func TestTheInboxTakesNoNonsense(t *testing.T) {
	s := newSite(t)
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { defer close(done); _ = s.inbox.Serve(l) }()
	t.Cleanup(func() { _ = s.inbox.Close(); <-done })
	c, err := net.DialTimeout("tcp", l.Addr().String(), 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := smtp.SendMail(l.Addr().String(), nil, "a@b.example", []string{"c@d.example"}, []byte("no header at all")); err == nil {
		t.Error("a mail without a header was taken")
	}
}
