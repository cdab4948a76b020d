package consent

import (
	"errors"
	"net/mail"
	"strings"

	"github.com/nyaruka/phonenumbers"
	"golang.org/x/net/idna"
	"golang.org/x/text/unicode/norm"
)

// Email is an e-mail address of one mailbox in the form in which mail is sent to it: the
// local part as it was given, the domain in lower case and in ASCII. The zero Email is
// none.
type Email string

// The longest local part and the longest address, in octets (RFC 5321, RFC 3696).
const (
	maxLocalPart = 64
	maxEmail     = 254
)

var errEmail = errors.New("must be an e-mail address")

// emailDomains are those that a mail can be sent to, in the form that the DNS knows.
var emailDomains = idna.New(idna.MapForLookup(), idna.BidiRule(), idna.StrictDomainName(true), idna.VerifyDNSLength(true))

// ParseEmail reads an address such as ada@example.com, without a name or brackets.
func ParseEmail(text string) (Email, error) {
	text = norm.NFC.String(text)
	a, err := mail.ParseAddress(text)
	if err != nil || a.Address != text {
		return "", errEmail
	}
	at := strings.LastIndexByte(text, '@')
	domain, err := emailDomains.ToASCII(text[at+1:])
	if err != nil || at > maxLocalPart || at+1+len(domain) > maxEmail {
		return "", errEmail
	}
	return Email(text[:at+1] + domain), nil
}

// String is the address.
func (e Email) String() string { return string(e) }

// Masked shows enough of the address for its owner to know it: j•••n@example.com.
func (e Email) Masked() string {
	local, domain, _ := strings.Cut(string(e), "@")
	return mask(local, 1, 1) + "@" + domain
}

// Contact is the address as one that can be looked for: providers do not tell capitals
// in the local part, so neither does a search or the do-not-contact list.
func (e Email) Contact() Contact {
	return Contact{EmailContact, string(e), strings.ToLower(string(e))}
}

// Mailbox is the address without a tag, which many providers let their readers make up:
// ada+shop@example.com arrives at ada@example.com. It is good for limits alone.
func (e Email) Mailbox() Email {
	local, domain, _ := strings.Cut(string(e), "@")
	if i := strings.IndexByte(local, '+'); i > 0 {
		local = local[:i]
	}
	return Email(local + "@" + domain)
}

// Telephone is a telephone number in the international form, such as +442079460018
// (E.164). The zero Telephone is none.
type Telephone string

var errTelephone = errors.New("must be a telephone number with its country, such as +44 20 7946 0018")

// ParseTelephone reads a number in the way people write them. country is the one in which
// a number without a country stands, as two letters; without one such a number is none.
func ParseTelephone(text, country string) (Telephone, error) {
	region := strings.ToUpper(strings.TrimSpace(country))
	if len(region) != 2 {
		region = "ZZ" // nowhere
	}
	n, err := phonenumbers.Parse(text, region)
	if err != nil || !phonenumbers.IsPossibleNumber(n) {
		return "", errTelephone
	}
	n.Extension = nil // a do-not-contact list is about the line
	return Telephone(phonenumbers.Format(n, phonenumbers.E164)), nil
}

// String is the number.
func (n Telephone) String() string { return string(n) }

// Masked shows the beginning and the end of the number: +44•••18.
func (n Telephone) Masked() string { return mask(string(n), 3, 2) }

// Contact is the number as one that can be looked for.
func (n Telephone) Contact() Contact { return Contact{TelephoneContact, string(n), string(n)} }

// mask leaves so many characters at the beginning and the end of a text, the end only
// where as many again are hidden.
func mask(text string, first, last int) string {
	runes := []rune(text)
	if len(runes) <= first {
		return string(runes) + "•••"
	}
	if len(runes) <= first+2*last {
		last = 0
	}
	return string(runes[:first]) + "•••" + string(runes[len(runes)-last:])
}

// ContactKind is a kind of address at which a person is reached.
type ContactKind string

// The kinds.
const (
	EmailContact     ContactKind = "email"
	TelephoneContact ContactKind = "telephone"
)

// ContactKinds are all kinds of address.
var ContactKinds = []ContactKind{EmailContact, TelephoneContact}

// Contact is an address at which a person is reached, of either kind.
type Contact struct {
	Kind ContactKind
	Text string // as it is shown; empty for none
	Key  string // in which equal addresses are equal; empty where it cannot be looked for
}

// Masked shows enough of the address for its owner to know it.
func (c Contact) Masked() string {
	if c.Kind == EmailContact {
		return Email(c.Text).Masked()
	}
	return Telephone(c.Text).Masked()
}

// Contacts gives the addresses among the details, one of each kind. One that was taken
// before it was checked as closely as now, and a number of an unknown country, are
// without a key.
func (d Details) Contacts() []Contact {
	email, telephone := Contact{Kind: EmailContact, Text: d.Email}, Contact{Kind: TelephoneContact, Text: d.Telephone}
	if e, err := ParseEmail(d.Email); err == nil {
		email = e.Contact()
	}
	if n, err := ParseTelephone(d.Telephone, d.Address.AddressCountry); err == nil {
		telephone.Key = n.Contact().Key // shown as it was written
	}
	return []Contact{email, telephone}
}

// Normal gives the details with the e-mail address in the form in which it is kept.
func (d Details) Normal() Details {
	for _, c := range d.Contacts() {
		d.SetContact(c.Kind, c.Text)
	}
	return d
}

// SetContact puts what is shown of an address among the details.
func (d *Details) SetContact(kind ContactKind, text string) {
	switch kind {
	case EmailContact:
		d.Email = text
	case TelephoneContact:
		d.Telephone = text
	}
}
