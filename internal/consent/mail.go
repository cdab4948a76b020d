package consent

import "time"

// CitizenMail is the event type of a message to a citizen-emails subscription.
const CitizenMail EventType = "citizen.email"

// CitizenEmailVersion is the version of CitizenEmail. Within a version fields and kinds
// are only added.
const CitizenEmailVersion = 1

// CitizenEmail is an e-mail to a citizen that is ready to be sent, as a citizen-emails
// subscription gets it. Every key is always present, null where unknown. The first eight
// mean what they mean in every message; docs/guides/citizen-emails.md is the contract.
type CitizenEmail struct {
	ApplicationID string    `json:"applicationId"`
	CitizenID     ID        `json:"citizenId"`
	ExternalRef   Text      `json:"externalRef"`
	SentAt        Timestamp `json:"sentAt"`
	EventID       ID        `json:"eventId"` // names the mail; every attempt carries the same
	EventType     EventType `json:"eventType"`
	Sequence      int64     `json:"sequence"`  // the citizen's change version when the mail was made; two mails may share it
	ChangedBy     Text      `json:"changedBy"` // the client that asked for the mail

	Version   int64          `json:"version"` // CitizenEmailVersion
	Kind      EmailKind      `json:"kind"`
	Recipient EmailAddress   `json:"recipient"`
	Sender    EmailSender    `json:"sender"`
	ReplyTo   Text           `json:"replyTo"`
	Locale    string         `json:"locale"`
	Subject   string         `json:"subject"`
	HTML      string         `json:"html"`
	Text      string         `json:"text"`
	Action    *EmailAction   `json:"action"`   // nil for a mail without a link
	Purposes  []EmailPurpose `json:"purposes"` // what is asked about
	Template  EmailTemplate  `json:"template"`
	// Headers must be in the mail as they are, and none must be added that lets the
	// recipient unsubscribe: a double opt-in carries none.
	Headers map[string]string `json:"headers"`
}

// EmailKind says what a mail is for.
type EmailKind string

// The kinds of mail.
const (
	// DoubleOptInEmail asks the owner of an address to confirm what was answered in their
	// name.
	DoubleOptInEmail EmailKind = "double-opt-in"
	// PreferenceLinkEmail holds the link to the citizen's own page, as they asked for it.
	PreferenceLinkEmail EmailKind = "preference-link"
)

// EmailState says what has become of a mail.
type EmailState string

// The states of a mail. All but the first are its end.
const (
	EmailWaiting   EmailState = "waiting"   // to be sent, or sent again
	EmailSent      EmailState = "sent"      // a mail server, or the receiver of the mails, has taken it
	EmailRefused   EmailState = "refused"   // the mail server does not take mail for the address
	EmailExpired   EmailState = "expired"   // its link ended before it could be sent
	EmailDiscarded EmailState = "discarded" // by an operator
	EmailErased    EmailState = "erased"    // with the citizen
)

// EmailKinds lists the kinds there are.
var EmailKinds = []EmailKind{DoubleOptInEmail, PreferenceLinkEmail}

// EmailAddress is where a mail goes.
type EmailAddress struct {
	Address string `json:"address"`
	Name    Text   `json:"name"`
}

// EmailSender is who a mail says it is from. Without an address the receiver takes its
// own.
type EmailSender struct {
	Name    Text `json:"name"`
	Address Text `json:"address"`
}

// EmailAction is the link that a mail is about. Both bodies hold it already.
type EmailAction struct {
	URL       string    `json:"url"`
	Label     string    `json:"label"`
	ExpiresAt Timestamp `json:"expiresAt"` // the mail must not be sent any more
}

// EmailTemplate is what a mail was made from. The one that comes with OpenCPM has no id.
type EmailTemplate struct {
	ID        Text   `json:"id"`
	Reference string `json:"reference"`
	Name      Text   `json:"name"`
	Version   string `json:"version"`
}

// EmailPurpose is a purpose by its id and, in the locale of the mail, its name.
type EmailPurpose struct {
	ID   string `json:"id"`
	Name Text   `json:"name"`
}

// Expired reports whether the link of the mail has ended, so that the mail must not be
// sent any more.
func (m *CitizenEmail) Expired(at Instant) bool {
	return m.Action != nil && m.Action.ExpiresAt != 0 && at >= Instant(m.Action.ExpiresAt)
}

// sampleLife is how long the link of a sample is said to be valid.
const sampleLife = 48 * time.Hour

// SampleMail is a mail about nobody, whose citizenId is null, that has every other field,
// for a test message of an application. Its address and its link are in domains that lead nowhere.
func SampleMail(applicationID string, event ID, at Instant) CitizenEmail {
	const link = "https://consent.example.com/confirm/sample"
	return CitizenEmail{
		ApplicationID: applicationID, ExternalRef: "SAMPLE-1", SentAt: Timestamp(at), EventID: event, EventType: Tested, Sequence: 1,
		Version: CitizenEmailVersion, Kind: DoubleOptInEmail,
		Recipient: EmailAddress{Address: "ada.byron@example.com", Name: "Ada Byron"},
		Sender:    EmailSender{Name: "Northwind Retail", Address: "hello@northwind.example"},
		ReplyTo:   "service@northwind.example",
		Locale:    "en",
		Subject:   "Please confirm your subscription",
		HTML:      `<!doctype html><html lang="en"><body><p>Please confirm that you want our newsletter.</p><p><a href="` + link + `">Confirm</a></p><p>If it was not you who asked for it, do nothing.</p></body></html>`,
		Text:      "Please confirm that you want our newsletter:\n\n" + link + "\n\nIf it was not you who asked for it, do nothing.\n",
		Action:    &EmailAction{URL: link, Label: "Confirm", ExpiresAt: Timestamp(at.Add(sampleLife))},
		Purposes:  []EmailPurpose{{"newsletter", "Newsletter"}},
		Template:  EmailTemplate{Reference: "double-opt-in", Name: "Double opt-in", Version: "1"},
		Headers:   map[string]string{"Auto-Submitted": "auto-generated"},
	}
}
