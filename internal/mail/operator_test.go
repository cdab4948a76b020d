package mail

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/opencpm/opencpm/internal/consent"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var update = flag.Bool("update", false, "write the texts in testdata anew")

func news(t *testing.T, kind EndpointKind, edit func(*EndpointNews)) EndpointNews {
	t.Helper()
	id, err := consent.ParseID("01995c44-0a1b-7c2d-9e3f-4a5b6c7d8e9f")
	if err != nil {
		t.Fatal(err)
	}
	since := consent.At(time.Date(2026, 11, 22, 9, 30, 0, 0, time.UTC))
	n := EndpointNews{
		Kind: kind,
		Subscription: consent.Subscription{
			ID: id, ApplicationID: "northwind", Name: "CRM", URL: "https://planted-user:planted-password@crm.example.com:8443/hooks/planted-path?key=planted-query",
			UpdateType: consent.EffectivePermission, SubscriptionOptions: consent.SubscriptionOptions{RetryPolicy: consent.Adaptive},
		},
		At: since.Add(61 * time.Minute), FailingSince: since, LastFailureAt: since.Add(time.Hour), LastReason: "the endpoint answered 503", Waiting: 1234,
		RetryInterval: time.Hour, BaseURL: "https://consent.example.com",
	}
	if edit != nil {
		edit(&n)
	}
	return n
}

// What an operator reads, word for word.
func TestWhatAnOperatorReads(t *testing.T) {
	for name, n := range map[string]EndpointNews{
		"failing": news(t, EndpointFailing, nil),
		"failing-for-days": news(t, EndpointFailing, func(n *EndpointNews) {
			n.At, n.Waiting, n.WaitingMore = n.FailingSince.Add(73*time.Hour), 10_000, true
			n.Subscription.RetryPolicy = consent.Hourly
		}),
		"gone": news(t, EndpointGone, func(n *EndpointNews) { n.At, n.LastReason, n.Waiting = n.FailingSince, "the endpoint answered 410", 1 }),
		"recovered": news(t, EndpointRecovered, func(n *EndpointNews) {
			n.FailingSince, n.Waiting = 0, 0
		}),
		"name-in-many-scripts": news(t, EndpointFailing, func(n *EndpointNews) { n.Subscription.Name = "Žluťoučký kůň – 顧客管理 📮" }),
	} {
		t.Run(name, func(t *testing.T) {
			m := n.Compose()
			got := "Subject: " + m.Subject + "\n\n" + m.Text
			path := filepath.Join("testdata", name+".txt")
			if *update {
				if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("-want +got; go test ./internal/mail -update accepts it:\n%s", diff)
			}
			if strings.Contains(got, "planted") {
				t.Errorf("the mail shows more of the URL than its host:\n%s", got)
			}
		})
	}
}

// A name cannot end its line, neither in the header nor in the text, nor turn what
// follows it.
func TestNamesStayInTheirLine(t *testing.T) {
	const forged = "CRM\r\nBcc: all@example.com\r\n\r\nEverything is fine.\u2028\u202e\x00\xff"
	m := news(t, EndpointFailing, func(n *EndpointNews) {
		n.Subscription.Name, n.LastReason = forged, forged
		n.Subscription.URL = "https://crm.example.com%0d%0aBcc:%20all@example.com/"
	}).Compose()
	plain := news(t, EndpointFailing, nil).Compose()
	if got, want := strings.Count(m.Text, "\n"), strings.Count(plain.Text, "\n"); got != want {
		t.Errorf("%d lines, want %d:\n%s", got, want, m.Text)
	}
	if strings.ContainsAny(m.Subject, "\r\n") || strings.ContainsAny(m.Subject+m.Text, "\r\u2028\u202e\x00") || !utf8.ValidString(m.Subject+m.Text) {
		t.Errorf("%q\n%q", m.Subject, m.Text)
	}
}

func TestWords(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "a minute", 59 * time.Second: "a minute", time.Minute: "1 minute", 59 * time.Minute: "59 minutes", 61 * time.Minute: "1 hour",
		23 * time.Hour: "23 hours", 25 * time.Hour: "1 day", 480 * time.Hour: "20 days",
	} {
		if got := inWords(d); got != want {
			t.Errorf("%v is %q, want %q", d, got, want)
		}
	}
	for n, want := range map[int64]string{0: "0", 999: "999", 1000: "1,000", 1234567: "1,234,567"} {
		if got := grouped(n); got != want {
			t.Errorf("%d is %q, want %q", n, got, want)
		}
	}
}
