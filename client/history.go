package client

import (
	"cmp"
	"context"
	"encoding/json"
	"iter"
	"net/http"
	"time"
)

// The events of a CitizenChange.
const (
	CitizenChanged = "citizen.changed"
	CitizenDeleted = "citizen.deleted" // the lists are empty: forget the citizen
)

// CitizenChange is one change of a citizen's state: the permissions and preferences
// that changed, and nothing else. An entry that ceased has no State.
type CitizenChange struct {
	ApplicationID string       `json:"applicationId"`
	CitizenID     string       `json:"citizenId"`
	ExternalRef   string       `json:"externalRef"` // as it is now; empty for one who is long erased
	Permissions   []Permission `json:"permissions"`
	Preferences   []Preference `json:"preferences"`
	EventType     string       `json:"eventType"` // CitizenChanged or CitizenDeleted
	Sequence      int64        `json:"sequence"`  // rises with every change of the citizen, with gaps
	ChangedAt     time.Time    `json:"changedAt"`
	ChangedBy     string       `json:"changedBy"` // the client that caused it; opencpm for the passing of time
}

// Latest is the Cursor of the end of the feed.
const Latest = "latest"

// ChangesQuery says from where to read the feed of changes of one application.
type ChangesQuery struct {
	ApplicationID string
	// Cursor is the NextCursor of an earlier answer; empty means from the first change
	// of all, Latest from now on.
	Cursor string
	Limit  int // 1 to 100; zero means 20, and 100 to Changes
	// Wait is how long the server may wait for a change where there is none, at most
	// 20 seconds and in whole ones; zero means not at all, and 20 seconds to Changes.
	Wait time.Duration
}

// ChangeList is a part of the feed. NextCursor is where to go on, and is never empty:
// keep it once the changes are dealt with.
type ChangeList struct {
	Changes    []CitizenChange `json:"changes"`
	NextCursor string          `json:"nextCursor"`
}

// ReadChanges reads a part of the feed of changes.
func (c *Client) ReadChanges(ctx context.Context, q ChangesQuery) (ChangeList, error) {
	var out ChangeList
	err := c.do(ctx, call{
		method: http.MethodGet, path: "v1/changes",
		query: values("applicationId", q.ApplicationID, "cursor", q.Cursor, "limit", number(q.Limit), "wait", number(int(q.Wait/time.Second))),
		out:   &out,
	})
	return out, err
}

// The longest wait for a change that a server grants.
const maxWait = 20 * time.Second

// Changes follows the feed until ctx ends: it gives the changes there are, then waits
// for more, and misses none. Where the server cannot be read it gives the error; a loop
// that goes on all the same goes on from where it was, after a pause.
func (c *Client) Changes(ctx context.Context, q ChangesQuery) iter.Seq2[ChangeList, error] {
	q.Limit, q.Wait = cmp.Or(q.Limit, maxLimit), cmp.Or(q.Wait, maxWait)
	return func(yield func(ChangeList, error) bool) {
		q := q
		for failed := 0; ctx.Err() == nil; {
			list, err := c.ReadChanges(ctx, q)
			switch {
			case err == nil:
				failed = 0
				q.Cursor = list.NextCursor
				if len(list.Changes) > 0 && !yield(list, nil) {
					return
				}
			case ctx.Err() != nil || !yield(list, err):
				return
			default:
				failed++
				if sleep(ctx, backoff(failed)) != nil {
					return
				}
			}
		}
	}
}

// PastChange is one change of a recorded transaction and what the platform made of it.
type PastChange struct {
	Change
	Name    string  `json:"name"`    // of the option or the group
	Purpose *Named  `json:"purpose"` // nil for a group
	Channel *Named  `json:"channel"` // nil for a group
	Upheld  bool    `json:"upheld"`  // an objection that was upheld at once
	Covers  []Cover `json:"covers"`  // the options that a change of a group answered for
}

// Named is a purpose or a channel in the words of its catalogue.
type Named struct {
	ID    string            `json:"id"`
	Name  string            `json:"name"`
	Label map[string]string `json:"label"` // what citizens read, by locale; without it they read Name
}

// Cover is one option that a change of a group answered for.
type Cover struct {
	OptionID   string    `json:"optionId"`
	ValidUntil time.Time `json:"validUntil"`
}

// PastTransaction is a transaction in the history of one citizen.
type PastTransaction struct {
	TransactionID string    `json:"transactionId"`
	Reverts       string    `json:"reverts"` // the transaction that this one undoes; empty for none
	CitizenID     string    `json:"citizenId"`
	ExternalRef   string    `json:"externalRef"`
	RecordedAt    time.Time `json:"recordedAt"`
	ObtainedAt    time.Time `json:"obtainedAt"`
	Evidence
	Changes []PastChange `json:"changes"`
}

// ShownDocument says which version of a document was shown.
type ShownDocument struct {
	ID        string `json:"id"`
	Reference string `json:"reference"`
	Revision  int64  `json:"revision"` // from 1
	// Proven is false where nothing proves that this revision was shown: it was the
	// newest one then.
	Proven bool `json:"proven"`
}

// ShownPolicy is a privacy policy as it was shown.
type ShownPolicy struct {
	ShownDocument
	Name    string `json:"name"`
	Version string `json:"version"`
	URL     string `json:"url"`
}

// ShownStatement is a permission statement as it was shown, its words by locale; an
// empty locale is the default one.
type ShownStatement struct {
	ShownDocument
	Text map[string]string `json:"text"`
}

// Shown is what was shown when a record was obtained, nil where nothing was named.
type Shown struct {
	PrivacyPolicy       *ShownPolicy    `json:"privacyPolicy"`
	PermissionStatement *ShownStatement `json:"permissionStatement"`
}

// HistoryRecord is one record of a citizen's history: a transaction, a submission or a
// suppression.
type HistoryRecord struct {
	Seq         int64               `json:"seq"`  // its place in the history, from 1
	Hash        string              `json:"hash"` // over the record and the hash before it, in hexadecimal
	Kind        string              `json:"kind"` // transaction, submission or suppression
	Transaction *PastTransaction    `json:"transaction"`
	Submission  *RecordedSubmission `json:"submission"`
	Suppression *PastSuppression    `json:"suppression"`
	Shown       Shown               `json:"shown"`
}

// PastSuppression is the record that an address of the citizen was put on the
// do-not-contact list, or taken off it.
type PastSuppression struct {
	RecordID   string    `json:"recordId"` // which explanations name
	EntryID    string    `json:"entryId"`  // of the list
	Channel    Named     `json:"channel"`
	Lifted     bool      `json:"lifted"`
	RecordedAt time.Time `json:"recordedAt"`
	By         string    `json:"by"` // who changed the list; opencpm where it followed from a change of the address
	ByName     string    `json:"byName"`
}

// HistoryQuery says which part of the history of a citizen to give.
type HistoryQuery struct {
	CitizenID string
	Limit     int    // 1 to 100; zero means 20
	Cursor    string // the NextCursor of an earlier part
}

// CitizenHistory is a part of what was recorded of one citizen. Total counts all
// records; it is zero where a Cursor led here. NextCursor is empty at the end.
type CitizenHistory struct {
	ApplicationID string          `json:"applicationId"`
	CitizenID     string          `json:"citizenId"`
	History       []HistoryRecord `json:"history"`
	Total         int             `json:"total"`
	NextCursor    string          `json:"nextCursor"`
}

// History reads what was recorded of one citizen, in the order in which it was.
func (c *Client) History(ctx context.Context, q HistoryQuery) (CitizenHistory, error) {
	var out CitizenHistory
	err := c.do(ctx, call{
		method: http.MethodGet, path: citizenPath(q.CitizenID) + "/history",
		query: values("limit", number(q.Limit), "cursor", q.Cursor), out: &out,
	})
	return out, err
}

// AllHistory gives everything that was recorded of one citizen. An error ends it.
func (c *Client) AllHistory(ctx context.Context, citizenID string) iter.Seq2[HistoryRecord, error] {
	return all(Page{}, func(p Page) ([]HistoryRecord, string, error) {
		part, err := c.History(ctx, HistoryQuery{citizenID, p.Limit, p.Cursor})
		return part.History, part.NextCursor, err
	})
}

// EvidenceOf exports the evidence of a citizen's permissions, as a JSON document in the
// shape of the consent records of ISO/IEC TS 27560:2023.
func (c *Client) EvidenceOf(ctx context.Context, citizenID string) (json.RawMessage, error) {
	var out json.RawMessage
	err := c.do(ctx, call{method: http.MethodGet, path: citizenPath(citizenID) + "/evidence", out: &out})
	return out, err
}
