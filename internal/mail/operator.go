package mail

import (
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/opencpm/opencpm/internal/consent"
)

// EndpointKind says what there is to tell of an endpoint.
type EndpointKind string

// The kinds, as the store has them.
const (
	EndpointFailing   EndpointKind = "failing"   // for an hour at least, and again every day
	EndpointGone      EndpointKind = "gone"      // it answered 410
	EndpointRecovered EndpointKind = "recovered" // after one of the others
)

// EndpointNews is what an operator is told of the endpoint of a subscription.
type EndpointNews struct {
	Kind          EndpointKind
	Subscription  consent.Subscription
	At            consent.Instant // of the telling
	FailingSince  consent.Instant
	LastFailureAt consent.Instant
	LastReason    string        // of the last failure
	Waiting       int64         // messages that wait
	WaitingMore   bool          // or more, uncounted
	RetryInterval time.Duration // between two attempts of one message
	BaseURL       string        // of the API
}

// Compose writes the mail. It names the subscription and the host of its URL, and never
// the rest of the URL, which may hold keys, nor anything about a citizen.
func (n EndpointNews) Compose() Message {
	name, host := oneLine(n.Subscription.Name), n.host()
	m := Message{Subject: fmt.Sprintf("OpenCPM: webhook \"%s\" has been failing for %s", name, span(n.FailingSince, n.At))}
	opening := fmt.Sprintf("OpenCPM has not been able to deliver to this webhook for %s.", span(n.FailingSince, n.At))
	next := n.going()
	switch n.Kind {
	case EndpointGone:
		m.Subject = fmt.Sprintf("OpenCPM: the endpoint of webhook \"%s\" says that it is gone", name)
		opening = "The endpoint of this webhook answered 410 Gone: it asks for no more messages. OpenCPM\ndoes not end a subscription by itself."
	case EndpointRecovered:
		m.Subject = fmt.Sprintf("OpenCPM: webhook \"%s\" is delivered again", name)
		opening = "This webhook failed for a while and works again. Nothing has to be done."
		next = []string{"Everything that waited is being delivered. Nothing was lost."}
	}
	var b strings.Builder
	b.WriteString(opening + "\n\n")
	for _, row := range n.facts(name, host) {
		fmt.Fprintf(&b, "  %-16s  %s\n", row[0], row[1])
	}
	for _, paragraph := range next {
		b.WriteString("\n" + paragraph + "\n")
	}
	m.Text = b.String()
	return m
}

func (n EndpointNews) facts(name, host string) [][2]string {
	rows := [][2]string{
		{"Webhook", name},
		{"Subscription id", n.Subscription.ID.String()},
		{"Application", oneLine(n.Subscription.ApplicationID)},
		{"Sends", string(n.Subscription.UpdateType)},
		{"Endpoint", host},
	}
	if n.FailingSince != 0 && n.Kind != EndpointRecovered {
		rows = append(rows, [2]string{"Failing since", clock(n.FailingSince)})
	}
	if n.LastFailureAt != 0 {
		rows = append(rows, [2]string{"Last failure", clock(n.LastFailureAt) + ": " + oneLine(n.LastReason)})
	}
	waiting := grouped(n.Waiting)
	if n.WaitingMore {
		waiting = "at least " + waiting
	}
	return append(rows, [2]string{"Messages waiting", waiting})
}

// going says what happens to an endpoint that fails, and what its operator can do.
func (n EndpointNews) going() []string {
	again := "An endpoint that is down is asked at least once a minute whether it is back, by one\nmessage; as soon as it is, all that waits is sent."
	if n.Subscription.RetryPolicy == consent.Hourly {
		again = "This subscription has the retryPolicy hourly: each message is tried by itself, until it\nis delivered."
	}
	subscription := strings.TrimRight(n.BaseURL, "/") + "/v1/subscriptions/" + n.Subscription.ID.String()
	return []string{
		"What happens next: nothing is lost. Every message is tried again, " + inWords(n.RetryInterval) + " after its last failure.\n" + again +
			"\nYou will be told once a day while this lasts, and once when it is over.",
		"What to do: ask those who run " + n.host() + " about the reason above. Where the URL or the\ncredentials have changed, change the subscription; what waits goes to the new ones. Where\n" +
			"nobody wants the messages any more, delete it: what waits ends with it. While it is\npaused, what waits is kept, but new changes are lost to it.",
		"  Look at it:  GET    " + subscription + "\n  Change it:   PATCH  " + subscription + "\n  End it:      DELETE " + subscription +
			"\n  The API:     " + strings.TrimRight(n.BaseURL, "/") + "/docs",
	}
}

// host gives the host of the URL, and its port where it has one.
func (n EndpointNews) host() string {
	u, err := url.Parse(n.Subscription.URL)
	if err != nil || u.Host == "" {
		return "unknown"
	}
	return oneLine(u.Host)
}

func clock(i consent.Instant) string { return i.Time().Format("2 January 2006, 15:04:05 UTC") }

// span says how long it is from one instant to another, in the largest unit that fits.
func span(from, to consent.Instant) string {
	return inWords(to.Time().Sub(from.Time()))
}

func inWords(d time.Duration) string {
	for _, unit := range []struct {
		name string
		size time.Duration
	}{{"day", 24 * time.Hour}, {"hour", time.Hour}, {"minute", time.Minute}} {
		if n := int64(d / unit.size); n == 1 {
			return "1 " + unit.name
		} else if n > 1 {
			return fmt.Sprintf("%d %ss", n, unit.name)
		}
	}
	return "a minute"
}

// grouped writes a number with commas between its thousands.
func grouped(n int64) string {
	text := fmt.Sprint(n)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}
