package consent

import (
	"strings"
	"testing"
)

func TestParseEmail(t *testing.T) {
	for text, want := range map[string]struct{ sent, key, masked string }{
		"ada@example.com":            {"ada@example.com", "ada@example.com", "a•••@example.com"},
		"Ada.Byron@EXAMPLE.com":      {"Ada.Byron@example.com", "ada.byron@example.com", "A•••n@example.com"},
		"ada+shop@example.com":       {"ada+shop@example.com", "ada+shop@example.com", "a•••p@example.com"},
		"jörg@Bücher.example":        {"jörg@xn--bcher-kva.example", "jörg@xn--bcher-kva.example", "j•••g@xn--bcher-kva.example"},
		"jo\u0308rg@bücher.example":  {"jörg@xn--bcher-kva.example", "jörg@xn--bcher-kva.example", "j•••g@xn--bcher-kva.example"},
		"jörg@xn--bcher-kva.example": {"jörg@xn--bcher-kva.example", "jörg@xn--bcher-kva.example", "j•••g@xn--bcher-kva.example"},
		"a@localhost":                {"a@localhost", "a@localhost", "a•••@localhost"},
		"ab@example.com":             {"ab@example.com", "ab@example.com", "a•••@example.com"},
	} {
		e, err := ParseEmail(text)
		if err != nil {
			t.Errorf("%q: %v", text, err)
			continue
		}
		if e.String() != want.sent || e.Contact().Key != want.key {
			t.Errorf("%q is sent to %q and found by %q, not %+v", text, e, e.Contact().Key, want)
		}
		if again, err := ParseEmail(e.String()); err != nil || again != e {
			t.Errorf("%q is read as %q the second time: %v", e, again, err)
		}
		if got := e.Masked(); got != want.masked {
			t.Errorf("%q is masked as %q, not %q", text, got, want.masked)
		}
	}
	for _, text := range []string{
		"", "ada", "@example.com", "ada@", "Ada <ada@example.com>", "<ada@example.com>", "ada@example.com, bob@example.com", " ada@example.com", "ada@example.com ",
		"ada@exa mple.com", "ada@exam_ple.com", "ada@-example.com", "ada@example..com", "ada@[127.0.0.1]", "ada@example.com\r\nBcc: eve@example.com",
		strings.Repeat("a", 65) + "@example.com", "ada@" + strings.Repeat("a", 64) + ".com",
	} {
		if e, err := ParseEmail(text); err == nil {
			t.Errorf("%q is taken for %q", text, e)
		}
	}
}

func FuzzParseEmail(f *testing.F) {
	for _, text := range []string{"ada@example.com", "jörg@Bücher.example", `"a b"@example.com`, "a@b@c", "\u0308@a"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		e, err := ParseEmail(text)
		if err != nil {
			return
		}
		if again, err := ParseEmail(e.String()); err != nil || again != e {
			t.Fatalf("%q is read as %q, and that as %q: %v", text, e, again, err)
		}
		if strings.ContainsAny(e.String(), "\r\n<> ") {
			t.Fatalf("%q can break out of a header", e)
		}
		if local, _, _ := strings.Cut(e.Masked(), "@"); len([]rune(local)) > 5 {
			t.Fatalf("%q shows too much of %q", e.Masked(), e)
		}
	})
}

func TestParseTelephone(t *testing.T) {
	for _, c := range []struct{ text, country, want string }{
		{"+44 20 7946 0018", "", "+442079460018"},
		{"+44 (0)20 7946-0018", "", "+442079460018"},
		{"020 7946 0018", "GB", "+442079460018"},
		{"020 7946 0018", "gb", "+442079460018"},
		{"0171 1234567", "DE", "+491711234567"},
		{"+44 20 7946 0018 ext. 3", "DE", "+442079460018"},
		{"020 7946 0018", "", ""},
		{"020 7946 0018", "United Kingdom", ""},
		{"", "GB", ""},
		{"call me", "GB", ""},
		{"+44", "", ""},
	} {
		if got, err := ParseTelephone(c.text, c.country); string(got) != c.want || (err == nil) != (c.want != "") {
			t.Errorf("%q in %q is %q, %v, not %q", c.text, c.country, got, err, c.want)
		}
	}
	if got := Telephone("+442079460018").Masked(); got != "+44•••18" {
		t.Errorf("masked as %q", got)
	}
}

func TestContactsOfDetails(t *testing.T) {
	d := Details{Email: "Ada@Example.com", Telephone: "020 7946 0018", Address: Address{AddressCountry: "GB"}}
	got := d.Contacts()
	want := []Contact{{EmailContact, "Ada@example.com", "ada@example.com"}, {TelephoneContact, "020 7946 0018", "+442079460018"}}
	if got[0] != want[0] || got[1] != want[1] {
		t.Errorf("%+v, not %+v", got, want)
	}
	for _, c := range (Details{Email: "old form", Telephone: "ask Grace"}).Contacts() {
		if c.Text == "" || c.Key != "" {
			t.Errorf("%+v can be looked for", c)
		}
	}
}
