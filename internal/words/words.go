// Package words is what OpenCPM itself says to citizens, on pages, in widgets and in
// mails, in every language that it speaks. What an application says in its own words is
// in its catalogue.
package words

import (
	"embed"
	"encoding/json"
	"fmt"
	"path"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nicksnyder/go-i18n/v2/i18n"
	"golang.org/x/text/language"
)

// texts holds one file for each part and language, such as page.en.json: messages by
// name, with the forms of a plural where a number is in them. What several parts say alike
// is in the part common, whose names have no prefix.
//
//go:embed texts
var texts embed.FS

// Fallback is the language for those we do not speak.
var Fallback = language.English

type library struct {
	bundle  *i18n.Bundle
	matcher language.Matcher
}

var load = sync.OnceValue(func() library {
	l := library{bundle: i18n.NewBundle(Fallback)}
	entries, err := texts.ReadDir("texts")
	for _, e := range entries {
		if err == nil {
			_, err = l.bundle.LoadMessageFileFS(texts, path.Join("texts", e.Name()))
		}
	}
	if err != nil {
		panic(fmt.Sprintf("words: the texts are compiled in and cannot be read: %v", err))
	}
	l.matcher = language.NewMatcher(l.bundle.LanguageTags())
	return l
})

// Speaker says things in one language.
type Speaker struct {
	Tag       language.Tag
	localizer *i18n.Localizer
}

// In gives the speaker of the language that comes nearest to a locale.
func In(locale string) Speaker {
	l := load()
	tag, _ := language.MatchStrings(l.matcher, locale)
	base, _ := tag.Base()
	tag = language.Make(base.String())
	return Speaker{tag, i18n.NewLocalizer(l.bundle, tag.String(), Fallback.String())}
}

// Texts gives all messages of one part as JSON, in the language that comes nearest to a
// locale, for a program that says them elsewhere: by their names in that part, which are
// those of the messages that all parts share, too.
func Texts(part, locale string) (language.Tag, []byte) {
	tag := In(locale).Tag
	all := map[string]any{}
	for _, from := range []string{"common", part} {
		var messages map[string]any
		b, err := texts.ReadFile(path.Join("texts", from+"."+tag.String()+".json"))
		if err == nil {
			err = json.Unmarshal(b, &messages)
		}
		if err != nil {
			panic(fmt.Sprintf("words: the texts are compiled in and cannot be read: %v", err))
		}
		for name, message := range messages {
			all[part+"."+strings.TrimPrefix(name, part+".")] = message
		}
	}
	b, err := json.Marshal(all)
	if err != nil {
		panic(err) // texts alone
	}
	return tag, b
}

// Languages are those that we speak.
func Languages() []language.Tag { return load().bundle.LanguageTags() }

// Say gives the message of that name; data fills its placeholders, {{.Name}}, and is nil
// where it has none. It panics on a name there is no message for, which is a mistake in
// the program that its test finds.
func (s Speaker) Say(name string, data any) string {
	return s.say(&i18n.LocalizeConfig{MessageID: name, TemplateData: data})
}

// Count is Say for a message about a number of things, which is {{.PluralCount}} in it.
func (s Speaker) Count(name string, n int) string {
	return s.say(&i18n.LocalizeConfig{MessageID: name, PluralCount: n})
}

// Date gives the day of a time in words, in UTC.
func (s Speaker) Date(t time.Time) string {
	t = t.UTC()
	return s.Say("date", map[string]string{"Day": t.Format("2"), "Month": s.Say("month"+strconv.Itoa(int(t.Month())), nil), "Year": t.Format("2006")})
}

// Clock gives a time in words, to the minute, in UTC.
func (s Speaker) Clock(t time.Time) string {
	return s.Say("clock", map[string]string{"Date": s.Date(t), "Time": t.UTC().Format("15:04")})
}

// List gives a number of things one after another.
func (s Speaker) List(things []string) string { return strings.Join(things, s.Say("comma", nil)) }

func (s Speaker) say(c *i18n.LocalizeConfig) string {
	text, err := s.localizer.Localize(c)
	if err != nil {
		panic(fmt.Sprintf("words: no message %q: %v", c.MessageID, err))
	}
	return text
}

// Direction gives how a locale is written: ltr or rtl.
func Direction(locale string) string {
	tag, err := language.Parse(locale)
	if err != nil {
		return "ltr"
	}
	script, _ := tag.Script()
	switch script.String() {
	case "Arab", "Hebr", "Syrc", "Thaa", "Nkoo", "Adlm", "Rohg":
		return "rtl"
	}
	return "ltr"
}
