package deliver

import (
	"context"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/internal/store"
)

// message is the body of a webhook. The first seven keys are those of the published
// example; every key is always present but for citizenToken.
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

	CitizenToken *citizenToken `json:"citizenToken,omitempty"` // where the subscription asks for it

	lane   store.Lane
	known  bool                // false: there is nothing left to tell
	state  *consent.Projection // of a full state, which is rendered as it is sent
	filter consent.Filter
	placed consent.Placement
	logKey store.LogKey
	mail   *consent.CitizenEmail // in place of all of this
	ended  bool                  // the link in the mail has: it is not sent any more
}

// compose reads what the next messages of lanes say, and stamps them.
func (e *Engine) compose(ctx context.Context, sub store.Registered, lanes []store.Lane) ([]message, error) {
	var citizens, changes []int64
	for _, l := range lanes {
		if l.Change == 0 {
			citizens = append(citizens, l.Citizen)
		} else {
			changes = append(changes, l.Change)
		}
	}
	at := consent.At(time.Now()) // before the states are read: they hold all that was there then
	var states map[int64]store.State
	var receipts map[int64]store.ListedChange
	var err error
	if citizens != nil {
		if states, err = e.store.States(ctx, citizens); err != nil {
			return nil, err
		}
	}
	if changes != nil {
		if receipts, err = e.store.Receipts(ctx, changes); err != nil {
			return nil, err
		}
	}
	var placed consent.Placement
	if len(sub.Filter.Options)+len(sub.Filter.Channels) > 0 {
		if placed, err = e.store.Placement(ctx, sub.Application); err != nil {
			return nil, err
		}
	}
	grounds, err := e.grounds(ctx, sub, lanes)
	if err != nil {
		return nil, err
	}
	list := make([]message, len(lanes))
	for i, l := range lanes {
		m := &list[i]
		*m = message{ApplicationID: sub.ApplicationID, EventType: consent.CitizenChanged, Coalesced: l.Changes, lane: l, filter: sub.Filter, placed: placed}
		var changed consent.Instant
		if v, known := states[l.Citizen]; known && l.Change == 0 {
			m.known, m.state, m.logKey, changed = true, v.Projection, v.LogKey, v.ChangedAt
			m.CitizenID, m.ExternalRef, m.Sequence, m.ChangedBy = v.CitizenID, consent.Text(v.ExternalRef), v.Version, consent.Text(v.ChangedBy)
			switch {
			case v.Erased:
				m.EventType = consent.CitizenDeleted
			case l.Resync && v.Version <= l.Version:
				m.EventType = consent.Resynced
			}
		} else if v, known := receipts[l.Change]; known {
			m.known, m.logKey, m.EventType, changed = true, v.LogKey, v.Event, v.ChangedAt
			m.CitizenID, m.ExternalRef, m.Sequence, m.ChangedBy = v.CitizenID, consent.Text(v.ExternalRef), v.Version, consent.Text(v.ChangedBy)
			if v.Event == consent.CitizenMail {
				if err := m.readMail(v, at); err != nil {
					return nil, err
				}
				continue
			}
			if err := e.content(ctx, sub, m, v); err != nil {
				return nil, err
			}
		}
		m.EventID = consent.EventID(sub.ID, m.CitizenID, m.Sequence)
		if m.EventType == consent.Resynced { // a receiver that lost what it had must not take it for a repetition
			m.EventID = consent.EventID(m.EventID, m.CitizenID, int64(l.ChangedAt))
		}
		m.SentAt = consent.Timestamp(e.stampFor(l, at, changed))
		if g, given := grounds[l.Citizen]; given && m.known && m.EventType != consent.CitizenDeleted {
			from := consent.Instant(m.SentAt)
			if l.Change != 0 { // which keeps its stamp for as long as it is tried: the token lives from now
				from = at
			}
			expires := sub.TokenExpiry(from)
			m.CitizenToken = &citizenToken{e.o.MintToken(g, expires), consent.Timestamp(expires)}
		}
	}
	return list, nil
}

// readMail makes the message a mail to a citizen, which is the same in every attempt.
func (m *message) readMail(v store.ListedChange, at consent.Instant) error {
	m.SentAt, m.ended, m.mail = consent.Timestamp(v.ChangedAt), v.News == nil || v.MailEnds <= at, new(consent.CitizenEmail)
	if v.News == nil {
		return nil
	}
	err := json.Unmarshal(v.News, m.mail)
	m.EventID = m.mail.EventID
	return err
}

// content sets what a message of its own says: what changed, or the full state that the
// change led to.
func (e *Engine) content(ctx context.Context, sub store.Registered, m *message, v store.ListedChange) error {
	if sub.UpdateType == consent.ConsentReceipts && sub.Filter.Empty() {
		var news struct {
			Permissions jsontext.Value `json:"permissions"`
			Preferences jsontext.Value `json:"preferences"`
		}
		err := json.Unmarshal(v.News, &news)
		m.Permissions, m.Preferences = news.Permissions, news.Preferences // as they are
		return err
	}
	var says consent.FullState
	var err error
	if sub.UpdateType == consent.ConsentReceipts || v.Event == consent.CitizenDeleted {
		err = json.Unmarshal(v.News, &says)
	} else {
		says, err = e.store.StateAfter(ctx, m.lane.Change)
	}
	says = sub.Filter.Select(says, m.placed)
	m.Permissions, m.Preferences = says.Permissions, says.Preferences
	return err
}

// render writes the body: a full state as it is at sentAt.
func (m message) render() ([]byte, error) {
	if m.mail != nil {
		return json.Marshal(m.mail)
	}
	if m.state != nil {
		full := m.filter.Select(m.state.FullState(consent.Instant(m.SentAt)), m.placed)
		m.Permissions, m.Preferences = full.Permissions, full.Preferences
	}
	return json.Marshal(&m)
}
