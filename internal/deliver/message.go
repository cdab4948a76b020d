package deliver

import (
	"encoding/binary"
	"encoding/json"
	"net/http"
	"net/url"
	"regexp"
	"strings"

	"github.com/google/uuid"

	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/internal/store"
)

// message is the body of an effective-permission webhook. The first seven keys
// are those of the published example; every key is always present.
type message struct {
	ApplicationID string               `json:"applicationId"`
	CitizenID     consent.ID           `json:"citizenId"`
	ExternalRef   consent.Text         `json:"externalRef"`
	Permissions   []consent.Permission `json:"permissions"`
	Preferences   []preference         `json:"preferences"`
	SentAt        consent.Timestamp    `json:"sentAt"`

	EventID   consent.ID   `json:"eventId"`
	EventType string       `json:"eventType"`
	Sequence  int64        `json:"sequence"`  // the citizen's change version
	ChangedBy consent.Text `json:"changedBy"` // the client that caused the last change
	Coalesced int64        `json:"coalesced"` // how many changes this message carries
}

// preference is a current answer to a preference.
type preference struct {
	Preference   string            `json:"preference"`
	Choices      []choice          `json:"choices"`
	Label        consent.Text      `json:"label"`
	SubmissionID consent.ID        `json:"submissionId"`
	UpdatedAt    consent.Timestamp `json:"updatedAt"`
}

type choice struct {
	Reference string       `json:"reference"`
	Label     consent.Text `json:"label"`
}

// render writes the state of a citizen as it is at sentAt, to subscribers of sub.
func render(sub store.Registered, l store.Lane, state store.State, sentAt consent.Instant) ([]byte, consent.ID, error) {
	m := message{
		ApplicationID: sub.ApplicationID, CitizenID: state.CitizenID, ExternalRef: consent.Text(state.ExternalRef),
		Permissions: state.Projection.Effective(sentAt, true), Preferences: []preference{},
		SentAt: consent.Timestamp(sentAt), EventID: eventID(sub.ID, state.CitizenID, state.Version), EventType: "citizen.changed",
		Sequence: state.Version, ChangedBy: consent.Text(state.ChangedBy), Coalesced: l.Changes,
	}
	if state.Erased {
		m.EventType = "citizen.deleted"
	}
	body, err := json.Marshal(m)
	return body, m.EventID, err
}

// eventID names one version of one citizen's state for one subscription: every
// attempt that carries it has the same id, so that receivers can drop duplicates.
func eventID(subscription, citizen consent.ID, version int64) consent.ID {
	name := binary.BigEndian.AppendUint64(citizen[:], uint64(version))
	return consent.ID(uuid.NewSHA1(uuid.UUID(subscription), name))
}

var hasScheme = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9!#$%&'*+.^_|~-]* +\S`)

// authenticate gives the URL and the headers with which a message goes to its
// endpoint: an API key in a header or in the query under its own name, or a bearer
// token.
func authenticate(sub store.Registered) (string, http.Header, error) {
	header := http.Header{"Content-Type": {"application/json"}}
	value := sub.Secrets.Token
	switch {
	case sub.AuthType != consent.AuthToken:
	case sub.TokenLocation == consent.InQuery:
		u, err := url.Parse(sub.URL)
		if err != nil {
			return "", nil, err
		}
		q := url.QueryEscape(sub.TokenName) + "=" + url.QueryEscape(value)
		if u.RawQuery != "" {
			q = u.RawQuery + "&" + q
		}
		u.RawQuery = q
		return u.String(), header, nil
	case sub.TokenName == "" || strings.EqualFold(sub.TokenName, "Authorization"):
		if !hasScheme.MatchString(value) {
			value = "Bearer " + value
		}
		header.Set("Authorization", value)
	default:
		header.Set(sub.TokenName, value)
	}
	return sub.URL, header, nil
}
