package mail

import (
	"bytes"
	"cmp"
	"fmt"
	"html/template"
	"slices"
	"strings"

	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/internal/words"
)

// Content is what a mail to a citizen says.
type Content struct {
	Kind        consent.EmailKind
	Locale      string
	Application string // its name
	Owner       string // as the pages name it; empty means Application
	Accent      string // of its pages; empty means ours
	Name        string // of the recipient, empty where it is not known
	Purposes    []string
	Expires     consent.Instant
	URL         string // of the button
	Code        string // in place of one
	// Wording is the application's own, of which anything may be left out; DefaultLocale
	// is the language in which it has all.
	Wording       consent.EmailText
	DefaultLocale string
}

// accent is that of our own pages.
const accent = "#0a5c6b"

// Written is a mail in words, in both forms.
type Written struct {
	Subject string
	Label   string // what the button says
	HTML    string
	Text    string
}

// letter is a mail before it gets its form.
type letter struct {
	Language, Direction, Owner                   string
	Accent, OnAccent                             string
	Subject, Greeting, Heading, Button, URL      string
	Message, List, Code, Expires, Reason, Follow []string // paragraphs, items
}

// Compose writes a mail to a citizen in their language. Both forms say the same; neither
// asks for anything from the network.
func Compose(c Content) Written {
	c.Application, c.Name, c.Purposes = oneLine(c.Application), oneLine(c.Name), slices.Clone(c.Purposes)
	c.Owner, c.Accent = oneLine(cmp.Or(c.Owner, c.Application)), cmp.Or(c.Accent, accent)
	for i, p := range c.Purposes {
		c.Purposes[i] = oneLine(p)
	}
	l := c.letter()
	var html bytes.Buffer
	if err := page.Execute(&html, l); err != nil {
		panic(fmt.Sprintf("mail: the template is compiled in and cannot be executed: %v", err))
	}
	return Written{Subject: l.Subject, Label: l.Button, HTML: html.String(), Text: l.text()}
}

func (c Content) letter() letter {
	say := words.In(c.Locale)
	data := map[string]string{
		"Application": c.Application, "Name": c.Name, "Purposes": say.List(c.Purposes),
		"Expires": say.Clock(c.Expires.Time()),
	}
	own := func(l consent.Localised, ours string) string {
		if text := c.in(l); text != "" {
			return strings.NewReplacer("{application}", c.Application, "{name}", c.Name, "{purposes}", data["Purposes"], "{expires}", data["Expires"]).Replace(text)
		}
		return say.Say(ours, data)
	}
	part := "mailLink"
	switch {
	case c.Kind == consent.DoubleOptInEmail:
		part = "mailConfirm"
	case c.Code != "":
		part = "mailCode"
	}
	l := letter{
		Language: say.Tag.String(), Direction: words.Direction(say.Tag.String()), URL: c.URL,
		Owner: c.Owner, Accent: c.Accent, OnAccent: consent.LetterOn(c.Accent, false),
		Subject: oneLine(own(c.Wording.Subject, part+"Subject")), Heading: own(c.Wording.Heading, part+"Heading"),
		Message: paragraphs(own(c.Wording.Message, part+"Message")), Reason: paragraphs(own(c.Wording.Reason, part+"Reason")),
		Expires: []string{say.Say(part+"Expires", data)}, Greeting: say.Say("mailHello", data),
	}
	if c.hasOwnWords() {
		l.Language, l.Direction = c.Locale, words.Direction(c.Locale)
	}
	if c.Name != "" {
		l.Greeting = say.Say("mailHelloName", data)
	}
	if c.Kind == consent.DoubleOptInEmail {
		l.List = c.Purposes
	}
	if c.Code != "" {
		l.Code = []string{c.Code}
	} else {
		l.Button = oneLine(own(c.Wording.Button, part+"Button"))
		l.Follow = []string{say.Say("mailFollow", data)}
	}
	return l
}

// in gives the application's wording in the locale, in its language, or in the default
// language, empty where it has none.
func (c Content) in(l consent.Localised) string {
	language, _, _ := strings.Cut(c.Locale, "-")
	return cmp.Or(l[c.Locale], l[language], l[c.DefaultLocale], l[""])
}

func (c Content) hasOwnWords() bool {
	return c.in(c.Wording.Message) != ""
}

func paragraphs(text string) []string {
	var list []string
	for _, p := range strings.Split(strings.ReplaceAll(text, "\r\n", "\n"), "\n\n") {
		if p = strings.TrimSpace(p); p != "" {
			list = append(list, p)
		}
	}
	return list
}

// text writes the mail as plain text.
func (l letter) text() string {
	var b strings.Builder
	add := func(list ...string) {
		for _, p := range list {
			if p != "" {
				b.WriteString(p + "\n\n")
			}
		}
	}
	add(l.Owner, l.Heading, l.Greeting)
	add(l.Message...)
	for _, item := range l.List {
		b.WriteString("  - " + item + "\n")
	}
	if l.List != nil {
		b.WriteString("\n")
	}
	add(l.Code...)
	if l.URL != "" {
		add(l.Button + ":\n" + l.URL)
	}
	add(l.Expires...)
	b.WriteString("-- \n")
	b.WriteString(strings.Join(l.Reason, "\n\n") + "\n")
	return b.String()
}

// page is a mail that holds in a light and in a dark mailbox: it sets no background but
// that of the button, and takes nothing from the network.
var page = template.Must(template.New("mail").Parse(`<!doctype html>
<html lang="{{.Language}}" dir="{{.Direction}}">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta name="color-scheme" content="light dark">
<title>{{.Subject}}</title>
</head>
<body style="margin:0;padding:24px 16px;font:16px/1.5 system-ui,-apple-system,'Segoe UI',Arial,sans-serif">
<div role="article" style="max-width:560px;margin:0 auto">
<p style="margin:0 0 12px;font-size:14px;font-weight:bold">{{.Owner}}</p>
<h1 style="font-size:22px;line-height:1.3;margin:0 0 16px">{{.Heading}}</h1>
<p style="margin:0 0 16px">{{.Greeting}}</p>
{{range .Message}}<p style="margin:0 0 16px;white-space:pre-line">{{.}}</p>
{{end}}{{with .List}}<ul style="margin:0 0 16px;padding-inline-start:24px">{{range .}}<li>{{.}}</li>{{end}}</ul>
{{end}}{{range .Code}}<p style="margin:0 0 16px;font-size:32px;letter-spacing:4px;font-weight:bold"><bdi dir="ltr">{{.}}</bdi></p>
{{end}}{{if .URL}}<p style="margin:24px 0"><a href="{{.URL}}" style="display:inline-block;padding:12px 24px;border:2px solid {{.Accent}};border-radius:6px;background-color:{{.Accent}};color:{{.OnAccent}};font-weight:bold;text-decoration:none">{{.Button}}</a></p>
{{range .Follow}}<p style="margin:0 0 4px;font-size:14px">{{.}}</p>
{{end}}<p style="margin:0 0 16px;font-size:14px;overflow-wrap:anywhere"><bdi dir="ltr">{{.URL}}</bdi></p>
{{end}}{{range .Expires}}<p style="margin:0 0 16px">{{.}}</p>
{{end}}<hr style="border:0;border-top:1px solid #808080;margin:24px 0">
{{range .Reason}}<p style="margin:0 0 12px;font-size:14px">{{.}}</p>
{{end}}</div>
</body>
</html>
`))
