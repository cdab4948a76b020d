package mail

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/html"

	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/internal/words"
)

func signUp(locale string) Content {
	return Content{
		Kind: consent.DoubleOptInEmail, Locale: locale, DefaultLocale: "en", Application: "Northwind Retail", Name: "Ada Byron",
		Purposes: []string{"Newsletter", "Customer research"}, Expires: 1795512600_000_000, URL: "https://consent.example/confirm/SECRET",
	}
}

// What a citizen is sent, word for word, in a language of each direction.
func TestMailsToCitizens(t *testing.T) {
	link, code := signUp("de"), signUp("fr")
	link.Kind, code.Kind, code.URL, code.Code, code.Name = consent.PreferenceLinkEmail, consent.PreferenceLinkEmail, "", "042137", ""
	own := signUp("en-GB")
	own.Wording = consent.EmailText{
		Subject: consent.Localised{"en": "Yes, {name}?"}, Message: consent.Localised{"en": "{application} would like to write to you about {purposes}.\n\nUntil {expires}."},
		Button: consent.Localised{"en": "Yes, please"},
	}
	for name, c := range map[string]Content{"confirm-en": signUp("en"), "confirm-ar": signUp("ar"), "link-de": link, "code-fr": code, "own-words": own} {
		w := Compose(c)
		for form, got := range map[string]string{"html": w.HTML, "txt": w.Subject + "\n\n" + w.Text} {
			file := filepath.Join("testdata", "citizen-"+name+"."+form)
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("%s (-update writes it anew):\n%s", file, diff)
			}
		}
	}
}

// Every mail in every language has what it needs, in both forms, and loads nothing.
func TestEveryMailInEveryLanguage(t *testing.T) {
	for _, tag := range words.Languages() {
		c := signUp(tag.String())
		w := Compose(c)
		for form, text := range map[string]string{"html": w.HTML, "text": w.Text} {
			for _, needed := range []string{c.URL, w.Label, "Newsletter", "Customer research", "Northwind Retail", "Ada Byron"} {
				if !strings.Contains(text, needed) {
					t.Errorf("%s, %s: lacks %q", tag, form, needed)
				}
			}
		}
		for _, fetched := range []string{"src=", "<img", "<link", "url(", "<script", "http-equiv"} {
			if strings.Contains(w.HTML, fetched) {
				t.Errorf("%s: has %s", tag, fetched)
			}
		}
		if n := strings.Count(w.HTML, "http"); n != 2 { // the button, and the link under it
			t.Errorf("%s: %d links", tag, n)
		}
	}
}

// A mail is in the colour of the organisation's pages, with text on it that can be read, or
// in our own where they have none; and it says in both forms whose it is.
func TestMailsInTheBrand(t *testing.T) {
	for given, want := range map[string]string{"": accent, "#b3261e": "#b3261e", "#ffd400": "#ffd400"} {
		c := signUp("en")
		c.Owner, c.Accent = "Northwind Club", given
		w := Compose(c)
		letter := consent.LetterOn(want, false)
		if consent.Contrast(letter, want) < consent.Readable {
			t.Errorf("%s on %s cannot be read", letter, want)
		}
		if look := "background-color:" + want + ";color:" + letter + ";"; !strings.Contains(w.HTML, look) {
			t.Errorf("a mail in %q has no button with %q:\n%s", given, look, w.HTML)
		}
		if !strings.Contains(w.HTML, ">Northwind Club</p>\n<h1") || !strings.HasPrefix(w.Text, "Northwind Club\n") {
			t.Errorf("a mail does not begin with whose it is:\n%s\n%s", w.HTML, w.Text)
		}
	}
	tokens, err := os.ReadFile("../../web/tokens.css")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(tokens), "--accent: "+accent+";") {
		t.Errorf("our pages are not in %s", accent)
	}
}

// Whatever people are called, a mail stays what it is: one button, and no header but ours.
func TestNobodyWritesIntoAMail(t *testing.T) {
	const hostile = "</p><a href=\"https://evil.example\">Win</a><script>x</script>\r\nBcc: eve@example.com\r\n\r\nbody"
	c := signUp("en")
	c.Name, c.Application, c.Purposes = hostile, hostile, []string{hostile}
	c.Wording = consent.EmailText{Subject: consent.Localised{"": hostile + "{name}"}, Heading: consent.Localised{"": hostile}, Message: consent.Localised{"": hostile + "{purposes}"}, Button: consent.Localised{"": hostile}, Reason: consent.Localised{"": hostile}}
	w := Compose(c)
	doc, err := html.Parse(strings.NewReader(w.HTML))
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]int{}
	for n := range doc.Descendants() {
		if n.Type == html.ElementNode {
			found[n.Data]++
		}
	}
	if found["a"] != 1 || found["script"] != 0 || found["h1"] != 1 {
		t.Errorf("elements %v", found)
	}
	if strings.ContainsAny(w.Subject+w.Label, "\r\n") {
		t.Errorf("subject %q, button %q", w.Subject, w.Label)
	}
	m, err := composeCitizen(consent.CitizenEmail{
		EventID: consent.ID{1}, Subject: hostile, HTML: w.HTML, Text: w.Text, Recipient: consent.EmailAddress{Address: "ada@example.com", Name: hostile},
		Sender: consent.EmailSender{Name: hostile, Address: "hello@northwind.example"}, Headers: map[string]string{"Auto-Submitted": "auto-generated\r\nBcc: eve@example.com"},
	})
	if err != nil {
		t.Fatal(err)
	}
	var raw bytes.Buffer
	if _, err := m.WriteTo(&raw); err != nil {
		t.Fatal(err)
	}
	head, _, _ := strings.Cut(raw.String(), "\r\n\r\n")
	for _, line := range strings.Split(head, "\r\n") {
		if strings.HasPrefix(strings.ToLower(line), "bcc:") || strings.HasPrefix(line, "List-Unsubscribe") {
			t.Errorf("header %s", line)
		}
	}
	for _, address := range []string{"ada@example.com\r\nRCPT TO:<eve@example.com>", "ada", "", "a@b, c@d"} {
		if _, err := composeCitizen(consent.CitizenEmail{Sender: consent.EmailSender{Address: "hello@northwind.example"}, Recipient: consent.EmailAddress{Address: address}}); err == nil {
			t.Errorf("a mail to %q", address)
		}
	}
}
