package demo

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/opencpm/opencpm/client"
	"github.com/opencpm/opencpm/internal/consent"
)

// changeView is one row of the changes.
type changeView struct {
	Citizen, Name, Link string
	At                  time.Time
	Clock               string
	By                  string // how it came about
	Items               []itemView
}

// itemView is one change, or one answer to a preference, in words.
type itemView struct {
	Option    string
	Note      string // such as when it ends
	From      string
	To        badgeView
	Again     bool      // the same answer as before
	Stands    badgeView // where the change was overruled: what stands instead
	Overruled bool
	Answer    bool   // to a preference:
	Chosen    string // its choices
	Why       whyLink
}

// whyLink leads to the reason for what stands. It has no address where there is none to
// ask for.
type whyLink struct{ Href, Option, Citizen string }

// badgeView is a state as a word, a colour and a drawing.
type badgeView struct{ Word, Tone, Icon string }

// webhookView is one row of the webhooks.
type webhookView struct {
	Citizen, Name, Link string
	At                  time.Time
	Clock               string
	Latency             string
	Receipt             bool
	Note                string // what is out of the ordinary about the message
	News                []newsView
	More                int // of the news
	Totals              string
	Body                string // address of the full body
}

// newsView is an entry that is new in a message: a permission, or an answer to a
// preference.
type newsView struct {
	Option string
	State  badgeView
	Answer bool
	Chosen string
}

const itemsShown = 3

func changeViews(events []RecordedEvent, now time.Time) []changeView {
	w := vocabulary()
	rows := make([]changeView, 0, len(events))
	for _, e := range events {
		row := changeView{
			Citizen: e.ExternalRef, Name: w.people[e.ExternalRef], Link: forCitizen("/", e.ExternalRef),
			At: e.RecordedAt, Clock: clock(e.RecordedAt, now),
		}
		var items []itemView
		for _, c := range e.Changes {
			items = append(items, w.item(e, c, now))
		}
		for _, a := range e.Answers {
			items = append(items, itemView{Option: a.Preference, Answer: true, Chosen: chosen(a.Choices), Overruled: a.Overruled})
		}
		row.Items = items[:min(itemsShown, len(items))]
		row.By = e.by(len(items)-len(row.Items), now)
		rows = append(rows, row)
	}
	return rows
}

// shortLived is how soon after its recording an end of validity is worth a word.
const shortLived = 24 * time.Hour

func (w naming) item(e RecordedEvent, c RecordedChange, now time.Time) itemView {
	item := itemView{
		Option: w.option(c.OptionType, c.OptionID),
		From:   badge(c.Before, "Not asked").Word,
		To:     badge(c.State, ""),
		Again:  c.Before == c.State,
	}
	item.Why = whyLink{forOption("/", e.ExternalRef, optionKey(c.OptionType, c.OptionID)), item.Option, e.ExternalRef}
	if c.Covers > 0 {
		item.Note = fmt.Sprintf("answers for %d options", c.Covers)
	}
	if end := c.ValidUntil; !end.IsZero() && end.Sub(e.RecordedAt) < shortLived {
		item.Note = "until " + clock(end, now)
	}
	switch {
	case e.Reversion:
		item.To, item.Again = badge(c.After, "Nothing"), c.Before == c.After
	case c.After == c.State:
	case c.State == "OBJECTED" && c.After == "OBJECTION_UPHELD":
		item.To, item.Again = badge(c.After, ""), c.Before == c.After
	default:
		item.Overruled, item.Stands = true, badge(c.After, "Nothing")
	}
	return item
}

// by says how something was recorded, and how much of it is not shown.
func (e *RecordedEvent) by(more int, now time.Time) string {
	var parts []string
	if more > 0 {
		parts = append(parts, fmt.Sprintf("%d more in the same transaction", more))
	}
	if e.Reversion {
		parts = append(parts, "undoes an earlier transaction")
	}
	if e.Channel == "" {
		parts = append(parts, "channel not given")
	} else {
		parts = append(parts, "via "+e.Channel)
	}
	if !e.ObtainedAt.IsZero() && e.RecordedAt.Sub(e.ObtainedAt) > time.Minute {
		parts = append(parts, "obtained "+moment(e.ObtainedAt, now))
	}
	return strings.Join(parts, " · ")
}

// chosen gives the choices of an answer in words.
func chosen(choices []string) string {
	if len(choices) == 0 {
		return "Nothing chosen"
	}
	return strings.Join(choices, ", ")
}

func webhookViews(messages []Message, now time.Time) []webhookView {
	w := vocabulary()
	rows := make([]webhookView, 0, len(messages))
	for _, m := range messages {
		row := webhookView{
			Citizen: m.ExternalRef, Name: w.people[m.ExternalRef], Link: forCitizen("/", m.ExternalRef),
			At: m.ReceivedAt, Clock: clock(m.ReceivedAt, now), Latency: "–",
			Receipt: m.Receipt, Note: m.note(), Totals: "only what changed", Body: "/demo/messages/" + strconv.FormatInt(m.id, 10),
		}
		if m.Timed {
			row.Latency = milliseconds(m.Latency)
		}
		if !m.Receipt {
			row.Totals = totals(m.contents)
		}
		if m.Sequence > 0 {
			row.Totals = "No. " + grouped(int(m.Sequence)) + " · " + row.Totals
		}
		for _, p := range m.news.Permissions {
			row.News = append(row.News, newsView{Option: w.option(p.OptionType, p.OptionID), State: badge(p.State, "Ended")})
		}
		for _, p := range m.news.Preferences {
			row.News = append(row.News, newsView{Option: p.Label, Answer: true, Chosen: p.chosen()})
		}
		shown := min(itemsShown, len(row.News))
		row.News, row.More = row.News[:shown], len(row.News)-shown
		rows = append(rows, row)
	}
	return rows
}

// note says what is out of the ordinary about a message.
func (m *Message) note() string {
	switch {
	case m.Superseded:
		return "Older than the state we hold: not taken"
	case !m.changed():
		return m.EventType
	case m.ChangedBy == consent.Platform.ID:
		return "By time alone"
	case len(m.Permissions)+len(m.Preferences) > 0 && len(m.news.Permissions)+len(m.news.Preferences) == 0:
		return "Nothing changed: told again"
	}
	return ""
}

func (p *preference) chosen() string {
	labels := make([]string, len(p.Choices))
	for i, c := range p.Choices {
		labels[i] = c.Label
	}
	return chosen(labels)
}

// totals sums a state up: how many options may be used, how many may not, and how many
// preferences are known.
func totals(all contents) string {
	allowed, refused, other := 0, 0, 0
	for _, p := range all.Permissions {
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
	switch n := len(all.Preferences); {
	case n == 1:
		text += ", 1 preference"
	case n > 1:
		text += fmt.Sprintf(", %d preferences", n)
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

func forOption(path, externalRef, key string) string {
	return path + "?" + url.Values{"citizen": {externalRef}, "why": {key}}.Encode()
}

// moment gives a time with its day, unless that is today, and its year, unless it is
// this one.
func moment(t, now time.Time) string {
	if t, now := t.Local(), now.Local(); t.Year() != now.Year() {
		return t.Format("2 Jan 2006, 15:04")
	}
	return clock(t, now)
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

// curl gives the lines that work as printed. They speak of the first citizen
// of the data, whom the stream leaves in peace.
func (c PageConfig) curl() []curlView {
	who := Citizens()[0].ExternalRef
	key := "X-API-Key: " + c.APIKey
	change, err := json.Marshal(client.Transaction{
		ApplicationID: c.ApplicationID,
		ExternalRef:   who,
		Changes:       []client.Change{{OptionType: client.Option, OptionID: "newsletter-email", Justification: "consent", State: "GRANTED"}},
		Origin:        client.Origin{Channel: "curl"},
	})
	if err != nil {
		panic(err) // strings only
	}
	query := url.Values{"applicationId": {c.ApplicationID}, "externalRef": {who}}.Encode()
	return []curlView{
		{"curl-token", "Get an access token", "Or use the API key, as the next lines do.", line(
			"-s", c.BaseURL+"/oauth/token", "-d", "grant_type=client_credentials", "-d", "client_id="+url.QueryEscape(c.ClientID), "-d", "client_secret="+url.QueryEscape(c.ClientSecret))},
		{"curl-change", "Record a change", "It appears in the list of changes, and its webhook beside it. DENIED takes it back.", line(
			"-s", c.BaseURL+"/v1/permissions/transactions", "-H", key, "-H", "Content-Type: application/json", "-d", string(change))},
		{"curl-state", "Read the effective state", "Everything that stands for " + who + " now.", line(
			"-s", "-H", key, c.BaseURL+"/v1/permissions?"+query)},
		{"curl-why", "Ask why", "Every answer that counts or would have, and the rule that decided.", line(
			"-s", "-H", key, c.BaseURL+"/v1/permissions/explain?"+query+"&optionId=newsletter-email")},
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
