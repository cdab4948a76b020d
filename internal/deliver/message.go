package deliver

import (
	"context"
	"encoding/binary"
	"net/http"
	"net/url"
	"regexp"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/uuid"

	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/internal/store"
)

// message is the body of a webhook. The first seven keys are those of the published
// example; every key is always present.
type message struct {
	ApplicationID string            `json:"applicationId"`
	CitizenID     consent.ID        `json:"citizenId"`
	ExternalRef   consent.Text      `json:"externalRef"`
	Permissions   any               `json:"permissions"` // as consent.FullState has them
	Preferences   any               `json:"preferences"`
	SentAt        consent.Timestamp `json:"sentAt"`

	EventID   consent.ID        `json:"eventId"`
	EventType consent.EventType `json:"eventType"`
	Sequence  int64             `json:"sequence"`  // the citizen's change version
	ChangedBy consent.Text      `json:"changedBy"` // the client that caused the last change
	Coalesced int64             `json:"coalesced"` // how many changes this message carries

	changedAt consent.Instant     // of the last change in it
	state     *consent.Projection // of a full state, which is rendered as it is sent
}

// compose gathers what the next message of a lane says. known is false where there is
// nothing left to tell.
func (e *Engine) compose(ctx context.Context, sub store.Registered, l store.Lane) (m message, known bool, err error) {
	m = message{ApplicationID: sub.ApplicationID, EventType: consent.CitizenChanged, Coalesced: l.Changes}
	if l.Change == 0 {
		states, err := e.store.States(ctx, []int64{l.Citizen})
		v, known := states[l.Citizen]
		if err != nil || !known {
			return m, false, err
		}
		m.CitizenID, m.ExternalRef, m.Sequence, m.ChangedBy = v.CitizenID, consent.Text(v.ExternalRef), v.Version, consent.Text(v.ChangedBy)
		m.changedAt, m.state = v.ChangedAt, v.Projection
		if v.Erased {
			m.EventType = consent.CitizenDeleted
		}
	} else {
		v, known, err := e.store.Receipt(ctx, l.Change)
		if err != nil || !known {
			return m, false, err
		}
		m.CitizenID, m.ExternalRef, m.Sequence, m.ChangedBy = v.CitizenID, consent.Text(v.ExternalRef), v.Version, consent.Text(v.ChangedBy)
		m.EventType, m.changedAt = v.Event, v.ChangedAt
		var news struct {
			Permissions jsontext.Value `json:"permissions"`
			Preferences jsontext.Value `json:"preferences"`
		}
		if err := json.Unmarshal(v.News, &news); err != nil {
			return m, false, err
		}
		m.Permissions, m.Preferences = news.Permissions, news.Preferences // as they are
	}
	m.EventID = eventID(sub.ID, m.CitizenID, m.Sequence)
	return m, true, nil
}

// render writes the body: a full state as it is at sentAt.
func (m message) render(sentAt consent.Instant) ([]byte, error) {
	m.SentAt = consent.Timestamp(sentAt)
	if m.state != nil {
		full := m.state.FullState(sentAt)
		m.Permissions, m.Preferences = full.Permissions, full.Preferences
	}
	return json.Marshal(&m)
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
