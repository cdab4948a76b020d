package demo

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/opencpm/opencpm/client"
)

// changeView is one row of the changes.
type changeView struct {
	Citizen, Name, Link string
	At                  time.Time
	Clock               string
	Channel             string
	Items               []itemView
	More                int // changes of the transaction that are not shown
}

// itemView is one change in words.
type itemView struct {
	Option    string
	From      string
	To        badgeView
	Again     bool      // the same answer as before
	Stands    badgeView // where the change was overruled: what stands instead
	Overruled bool
}

// badgeView is a state as a word, a colour and a drawing.
type badgeView struct{ Word, Tone, Icon string }

// webhookView is one row of the webhooks.
type webhookView struct {
	Citizen, Name, Link string
	At                  time.Time
	Clock               string
	Latency             string
	Note                string // what is out of the ordinary about the message
	News                []newsView
	More                int // of the entries that the newest transaction made
	Totals              string
	Body                string // address of the full body
}

// newsView is an entry that the newest transaction made.
type newsView struct {
	Option string
	State  badgeView
}

const itemsShown = 3

func changeViews(events []RecordedEvent, now time.Time) []changeView {
	w := vocabulary()
	rows := make([]changeView, 0, len(events))
	for _, e := range events {
		row := changeView{
			Citizen: e.ExternalRef, Name: w.people[e.ExternalRef], Link: forCitizen("/", e.ExternalRef),
			At: e.RecordedAt, Clock: clock(e.RecordedAt, now), Channel: e.Channel,
		}
		for _, c := range e.Changes[:min(itemsShown, len(e.Changes))] {
			item := itemView{
				Option: w.option(c.OptionType, c.OptionID),
				From:   badge(c.Before, "Not asked").Word,
				To:     badge(c.State, ""),
				Again:  c.Before == c.State,
			}
			switch {
			case c.After == c.State:
			case c.State == "OBJECTED" && c.After == "OBJECTION_UPHELD":
				item.To, item.Again = badge(c.After, ""), c.Before == c.After
			default:
				item.Overruled, item.Stands = true, badge(c.After, "Nothing")
			}
			row.Items = append(row.Items, item)
		}
		row.More = len(e.Changes) - len(row.Items)
		rows = append(rows, row)
	}
	return rows
}

func webhookViews(messages []Message, now time.Time) []webhookView {
	w := vocabulary()
	rows := make([]webhookView, 0, len(messages))
	for _, m := range messages {
		row := webhookView{
			Citizen: m.ExternalRef, Name: w.people[m.ExternalRef], Link: forCitizen("/", m.ExternalRef),
			At: m.ReceivedAt, Clock: clock(m.ReceivedAt, now), Latency: "–",
			Totals: totals(m.permissions), Body: "/demo/messages/" + strconv.FormatInt(m.id, 10),
		}
		if m.Timed {
			row.Latency = milliseconds(m.Latency)
		}
		switch {
		case m.Superseded:
			row.Note = "Older than the state we hold: not taken"
		case m.EventType != "" && m.EventType != "citizen.changed":
			row.Note = m.EventType
		}
		if m.Sequence > 0 {
			row.Totals = "No. " + grouped(int(m.Sequence)) + " · " + row.Totals
		}
		for _, p := range newest(m.permissions) {
			if len(row.News) == itemsShown {
				row.More++
				continue
			}
			row.News = append(row.News, newsView{w.option(p.OptionType, p.OptionID), badge(p.State, "Ended")})
		}
		rows = append(rows, row)
	}
	return rows
}

// newest gives the entries that were recorded last, together.
func newest(all []permission) []permission {
	var last time.Time
	for _, p := range all {
		if p.RecordedAt.After(last) {
			last = p.RecordedAt
		}
	}
	var news []permission
	for _, p := range all {
		if p.RecordedAt.Equal(last) {
			news = append(news, p)
		}
	}
	return news
}

// totals sums a state up: how many options may be used, and how many may not.
func totals(all []permission) string {
	allowed, refused, other := 0, 0, 0
	for _, p := range all {
		switch {
		case p.OptionType == client.Group: // its members are listed too
		case p.State == "GRANTED" || p.State == "CLAIMED":
			allowed++
		case p.State == "DENIED" || p.State == "OBJECTED" || p.State == "OBJECTION_UPHELD":
			refused++
		default:
			other++
		}
	}
	text := fmt.Sprintf("%d allowed, %d refused", allowed, refused)
	if other > 0 {
		text += fmt.Sprintf(", %d pending or ended", other)
	}
	return text
}

// badge gives a state in words; none is what an empty one is called.
func badge(state, none string) badgeView {
	switch state {
	case "":
		return badgeView{none, "", "clock"}
	case "GRANTED":
		return badgeView{"Granted", "ok", "check"}
	case "CLAIMED":
		return badgeView{"Claimed", "info", "scale"}
	case "PENDING":
		return badgeView{"Pending", "warn", "clock"}
	case "DENIED":
		return badgeView{"Denied", "", "x"}
	case "OBJECTED":
		return badgeView{"Objected", "", "x"}
	case "OBJECTION_UPHELD":
		return badgeView{"Objection upheld", "", "x"}
	}
	return badgeView{state, "", "clock"}
}

func forCitizen(path, externalRef string) string {
	return path + "?" + url.Values{"citizen": {externalRef}}.Encode()
}

// clock gives a time of today, and the day as well for any other.
func clock(t, now time.Time) string {
	t, now = t.Local(), now.Local()
	if t.YearDay() == now.YearDay() && t.Year() == now.Year() {
		return t.Format("15:04:05")
	}
	return t.Format("2 Jan, 15:04")
}

func zone(now time.Time) string {
	name, _ := now.Local().Zone()
	return name
}

func milliseconds(d time.Duration) string {
	return grouped(int(d.Round(time.Millisecond).Milliseconds())) + " ms"
}

// grouped writes 12345 as 12,345.
func grouped(n int) string {
	s := strconv.Itoa(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// curlView is one line to be typed.
type curlView struct{ ID, Title, About, Line string }

// curl gives the three lines that work as printed. They speak of the first citizen
// of the data, whom the stream leaves in peace.
func (c PageConfig) curl() []curlView {
	who := Citizens()[0].ExternalRef
	key := "X-API-Key: " + c.APIKey
	change, err := json.Marshal(client.Transaction{
		ApplicationID: c.ApplicationID,
		ExternalRef:   who,
		Changes:       []client.Change{{OptionType: client.Option, OptionID: "newsletter-email", Justification: "consent", State: "GRANTED"}},
		Channel:       "curl",
	})
	if err != nil {
		panic(err) // strings only
	}
	query := url.Values{"applicationId": {c.ApplicationID}, "externalRef": {who}}.Encode()
	return []curlView{
		{"curl-token", "Get an access token", "Or use the API key, as the next two lines do.", line(
			"-s", c.BaseURL+"/oauth/token", "-d", "grant_type=client_credentials", "-d", "client_id="+url.QueryEscape(c.ClientID), "-d", "client_secret="+url.QueryEscape(c.ClientSecret))},
		{"curl-change", "Record a change", "It appears in the list of changes, and its webhook beside it. DENIED takes it back.", line(
			"-s", c.BaseURL+"/v1/permissions/transactions", "-H", key, "-H", "Content-Type: application/json", "-d", string(change))},
		{"curl-state", "Read the effective state", "Everything that stands for " + who + " now.", line(
			"-s", "-H", key, c.BaseURL+"/v1/permissions?"+query)},
	}
}

// line writes a curl command for a shell, quoting what a shell would take apart.
func line(args ...string) string {
	var b strings.Builder
	b.WriteString("curl")
	for _, a := range args {
		b.WriteByte(' ')
		if strings.ContainsFunc(a, func(r rune) bool { return !strings.ContainsRune(plainInShell, r) }) {
			a = "'" + strings.ReplaceAll(a, "'", `'\''`) + "'"
		}
		b.WriteString(a)
	}
	return b.String()
}

// plainInShell are the characters that mean themselves in every shell.
const plainInShell = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./:=@%+,"
