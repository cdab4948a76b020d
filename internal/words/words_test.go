package words

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nicksnyder/go-i18n/v2/i18n"
)

// Every message is there in every language, with the same placeholders.
func TestEveryMessageInEveryLanguage(t *testing.T) {
	entries, err := texts.ReadDir("texts")
	if err != nil {
		t.Fatal(err)
	}
	parts := map[string]map[string]map[string]any{} // by part and language
	for _, e := range entries {
		part, rest, _ := strings.Cut(e.Name(), ".")
		locale, _, _ := strings.Cut(rest, ".")
		b, err := texts.ReadFile("texts/" + e.Name())
		var messages map[string]any
		if err == nil {
			err = json.Unmarshal(b, &messages)
		}
		if err != nil {
			t.Fatalf("%s: %v", e.Name(), err)
		}
		if parts[part] == nil {
			parts[part] = map[string]map[string]any{}
		}
		parts[part][locale] = messages
	}
	for part, locales := range parts {
		want := slices.Sorted(maps.Keys(locales[Fallback.String()]))
		for _, tag := range Languages() {
			got := slices.Sorted(maps.Keys(locales[tag.String()]))
			if !slices.Equal(got, want) {
				t.Errorf("%s.%s.json has not the messages of %s.%s.json:\n%v\n%v", part, tag, part, Fallback, got, want)
			}
			for name, message := range locales[tag.String()] {
				if a, b := placeholders(message), placeholders(locales[Fallback.String()][name]); !slices.Equal(a, b) {
					t.Errorf("%s.%s.json: %s has the placeholders %v, not %v", part, tag, name, a, b)
				}
			}
		}
	}
}

// placeholders gives those of all forms of a message, but for the number, which a form
// for one or none may leave out.
func placeholders(message any) []string {
	found := map[string]bool{}
	var read func(any)
	read = func(v any) {
		switch v := v.(type) {
		case string:
			for _, piece := range strings.Split(v, "{{")[1:] {
				name, _, _ := strings.Cut(piece, "}}")
				if name = strings.TrimSpace(name); name != ".PluralCount" {
					found[name] = true
				}
			}
		case map[string]any:
			for _, form := range v {
				read(form)
			}
		}
	}
	read(message)
	return slices.Sorted(maps.Keys(found))
}

// What a page and a widget say of one thing is one text, which a program that says it
// elsewhere gets by the name of its own part.
func TestSharedMessages(t *testing.T) {
	for _, tag := range Languages() {
		for _, part := range []string{"page", "widget"} {
			_, b := Texts(part, tag.String())
			var messages map[string]any
			if err := json.Unmarshal(b, &messages); err != nil {
				t.Fatal(err)
			}
			if got, want := messages[part+".CLAIMED"], In(tag.String()).Say("CLAIMED", nil); got != want {
				t.Errorf("in %s a %s calls a legitimate interest %v, not %q", tag, part, got, want)
			}
		}
		for _, state := range []string{"GRANTED", "DENIED", "PENDING", "CLAIMED", "OBJECTED", "OBJECTION_UPHELD", "object", "allow", "email", "legitimate-interest"} {
			for _, part := range []string{"page.", "widget.", "page.state."} {
				if _, err := In(tag.String()).localizer.Localize(&i18n.LocalizeConfig{MessageID: part + state}); err == nil {
					t.Errorf("%s has another text for %s in %s", part, state, tag)
				}
			}
		}
	}
}

func TestTheNearestLanguage(t *testing.T) {
	for locale, want := range map[string]string{"de-AT": "de", "ar-EG": "ar", "xx": "en", "": "en", "not a locale": "en"} {
		if got := In(locale).Tag.String(); got != want {
			t.Errorf("In(%q) speaks %s, not %s", locale, got, want)
		}
	}
}

func TestDirection(t *testing.T) {
	for locale, want := range map[string]string{"ar": "rtl", "he-IL": "rtl", "fa": "rtl", "ur": "rtl", "en": "ltr", "de": "ltr", "": "ltr", "az-Arab": "rtl"} {
		if got := Direction(locale); got != want {
			t.Errorf("Direction(%q) is %s, not %s", locale, got, want)
		}
	}
}

func TestWhatIsSaid(t *testing.T) {
	if got := In("de").Say("save", nil); got != "Auswahl speichern" {
		t.Errorf("in German it says %q", got)
	}
	for n, want := range map[int]string{0: "0 changes not saved", 1: "1 change not saved", 5: "5 changes not saved"} {
		if got := In("en").Count("unsaved", n); got != want {
			t.Errorf("of %d it says %q, not %q", n, got, want)
		}
	}
	// Arabic has six forms.
	said := map[string]bool{}
	for _, n := range []int{0, 1, 2, 3, 11, 100} {
		said[In("ar").Count("unsaved", n)] = true
	}
	if len(said) != 6 {
		t.Errorf("Arabic says %v", said)
	}
}

// A day and a moment are written in the language, and what is read from left to right stays
// in its order where the rest is read from right to left.
func TestTimesInWords(t *testing.T) {
	at := time.Date(2026, time.November, 24, 20, 8, 30, 0, time.FixedZone("", 3600))
	for locale, want := range map[string]string{
		"en": "24 November 2026, 19:08 UTC", "de": "24. November 2026, 19:08 UTC", "es": "24 de noviembre de 2026, 19:08 UTC",
		"ar": "24 نوفمبر 2026، \u206619:08 UTC\u2069",
	} {
		if got := In(locale).Clock(at); got != want {
			t.Errorf("in %s it is %q, not %q", locale, got, want)
		}
	}
	for _, tag := range Languages() {
		days := map[string]bool{}
		for month := range 12 {
			days[In(tag.String()).Date(time.Date(2026, time.Month(month+1), 1, 0, 0, 0, 0, time.UTC))] = true
		}
		if len(days) != 12 {
			t.Errorf("%s has %d months", tag, len(days))
		}
	}
}

func TestAListInWords(t *testing.T) {
	for locale, want := range map[string]string{"en": "a, b, c", "ar": "a، b، c"} {
		if got := In(locale).List([]string{"a", "b", "c"}); got != want {
			t.Errorf("in %s it is %q, not %q", locale, got, want)
		}
	}
}
