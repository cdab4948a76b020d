package config_test

import (
	"strings"
	"testing"

	"github.com/opencpm/opencpm/internal/config"
)

func TestSMTPURL(t *testing.T) {
	for text, want := range map[string]string{
		"smtp://mail.example.com":                          "smtp://mail.example.com",
		"smtps://mail.example.com:465/":                    "smtps://mail.example.com:465/",
		"smtp://me:hunter2@mail.example.com:587":           "smtp://me:••••@mail.example.com:587",
		"smtp://me%40example.com:hun%2Fter2@[2001:db8::1]": "smtp://me%40example.com:••••@[2001:db8::1]",
		"smtp://me:hunter2@x@mail.example.com":             "smtp://me:••••@mail.example.com",
		"smtp://mailpit:1025?tls=none":                     "smtp://mailpit:1025?tls=none",
		"smtp://10.1.2.3?tls=none":                         "smtp://10.1.2.3?tls=none",
		"smtp://[::1]:25?tls=none":                         "smtp://[::1]:25?tls=none",
	} {
		u, err := config.ParseSMTPURL(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
		} else if u.String() != want || u.Reveal() != text || u.URL() == nil {
			t.Errorf("%s is shown as %s, want %s", text, u, want)
		}
	}
	for _, text := range []string{
		"", "mail.example.com", "mail.example.com:587", "https://mail.example.com", "smtp://", "smtp://me:hun#ter2@h", "smtp://me:hun/ter2@h", "smtp://me:hun?ter2@h",
		"smtp://me:hun%zzter2@h", "smtp://me@h", "smtp://:hunter2@h", "smtp://me:hunter2@h/inbox", "smtp://me:hunter2@h\n", "smtp://h?tls=off", "smtps://h?tls=none",
		"smtp://me:hunter2@127.0.0.1?tls=none", "smtp://192.0.2.1?tls=none", "smtp://[2001:db8::1]?tls=none", "smtp://h:port",
	} {
		if u, err := config.ParseSMTPURL(text); err == nil {
			t.Errorf("%q is accepted as %s", text, u)
		} else if strings.Contains(err.Error(), "hun") {
			t.Errorf("the error shows the URL: %v", err)
		}
	}
}

func TestMailCheck(t *testing.T) {
	const server = "OPENCPM_SMTP_URL=smtp://mail.example.com"
	for name, test := range map[string]struct{ args, env, wantPart string }{
		"nothing":              {},
		"all":                  {args: " --mail-from cpm@example.com --operator-email a@example.com,b@example.com", env: server},
		"nobody is told":       {args: " --mail-from CPM<cpm@example.com>", env: server},
		"operators, no server": {args: " --operator-email a@example.com", wantPart: "set OPENCPM_SMTP_URL"},
		"citizens alone":       {env: server},
		"operators, no sender": {args: " --operator-email a@example.com", env: server, wantPart: "give --mail-from ADDRESS"},
	} {
		t.Run(name, func(t *testing.T) {
			p, _, err := parse("serve"+test.args, test.env)
			if err != nil {
				t.Fatal(err)
			}
			err = p.Serve.Mail.Check()
			if test.wantPart == "" && err != nil {
				t.Errorf("refused: %v", err)
			}
			if test.wantPart != "" && (err == nil || !strings.Contains(err.Error(), test.wantPart)) {
				t.Errorf("error %v, want one with %q", err, test.wantPart)
			}
		})
	}
}
