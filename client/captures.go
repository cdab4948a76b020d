package client

import (
	"context"
	"net/http"
	"net/url"
	"time"
)

// NewCapture is what somebody answers who shows no token: with an EmailAddress, whose
// owner is asked to confirm it, or with a UniqueReference. The answers are Changes and
// Preferences, or the Blocks of a consent state.
type NewCapture struct {
	ApplicationID   string         `json:"applicationId,omitempty"` // may be left out where a TemplateID is given
	TemplateID      string         `json:"templateId,omitempty"`
	UniqueReference string         `json:"uniqueReference,omitempty"`
	EmailAddress    string         `json:"emailAddress,omitempty"`
	Telephone       string         `json:"telephone,omitempty"` // with its country; never in the place of one that is known
	Changes         []Change       `json:"changes,omitempty"`
	Preferences     []Answer       `json:"preferences,omitempty"`
	PrivacyPolicy   *ConsentPolicy `json:"privacyPolicy,omitempty"`
	Blocks          []ConsentBlock `json:"blocks,omitempty"`
	Snapshot        string         `json:"snapshot,omitempty"`
	RuleID          string         `json:"ruleId,omitempty"`
	Locale          string         `json:"locale,omitempty"`
	SubmitAsPending bool           `json:"submitAsPending,omitempty"` // with a UniqueReference; with an EmailAddress it is always so

	PrivacyPolicyID        string `json:"privacyPolicyId,omitempty"`
	PrivacyPolicyRef       string `json:"privacyPolicyRef,omitempty"`
	PermissionStatementID  string `json:"permissionStatementId,omitempty"`
	PermissionStatementRef string `json:"permissionStatementRef,omitempty"`
	Channel                string `json:"channel,omitempty"`
	Campaign               string `json:"campaign,omitempty"`
}

// Capture signs somebody up without a token, where the application allows that. The
// answer does not tell whether they are known.
func (c *Client) Capture(ctx context.Context, v NewCapture) error {
	return c.do(ctx, call{method: http.MethodPost, path: "v1/unauthenticated/transactions", in: v})
}

// Capture is what somebody answered without a token for a citizen who is known. It
// changes nothing until it is accepted.
type Capture struct {
	ID          string    `json:"id"`
	CitizenID   string    `json:"citizenId"`
	ExternalRef string    `json:"externalRef"`
	CapturedAt  time.Time `json:"capturedAt"`
	ForgottenAt time.Time `json:"forgottenAt"`
	Channel     string    `json:"channel"`
	Campaign    string    `json:"campaign"`
	Changes     []Change  `json:"changes"`
	Preferences []Answer  `json:"preferences"`
	Telephone   string    `json:"telephone"` // becomes the citizen's where they have none
}

// CapturesQuery says which captures to list.
type CapturesQuery struct {
	ApplicationID string
	Page
}

// CaptureList is one page of captures, the oldest first. Total counts all of them; it is
// zero where a Cursor led here. NextCursor is empty at the end.
type CaptureList struct {
	Captures   []Capture `json:"captures"`
	Total      int       `json:"total"`
	NextCursor string    `json:"nextCursor"`
}

// Captures lists what waits to be accepted of an application.
func (c *Client) Captures(ctx context.Context, q CapturesQuery) (CaptureList, error) {
	var out CaptureList
	err := c.do(ctx, call{method: http.MethodGet, path: "v1/captures", query: q.values("applicationId", q.ApplicationID), out: &out})
	return out, err
}

// AcceptCapture records what waits, with the time at which it was answered. One that was
// decided before is a Problem with status 404.
func (c *Client) AcceptCapture(ctx context.Context, id string) error {
	return c.do(ctx, call{method: http.MethodPost, path: "v1/captures/" + url.PathEscape(id) + "/acceptance"})
}

// RejectCapture forgets what waits without a record. One that was decided before is a
// Problem with status 404.
func (c *Client) RejectCapture(ctx context.Context, id string) error {
	return c.do(ctx, call{method: http.MethodPost, path: "v1/captures/" + url.PathEscape(id) + "/rejection"})
}

// CitizenEmailsQuery says which mails to a citizen to list. Limit may be 1 to 100; zero
// means 20.
type CitizenEmailsQuery struct {
	CitizenID     string
	Limit, Offset int
}

// CitizenEmail is what became of a mail to a citizen, without what it said.
type CitizenEmail struct {
	ID        string    `json:"id"`
	Kind      string    `json:"kind"`  // double-opt-in or preference-link
	Way       string    `json:"way"`   // smtp or webhook
	State     string    `json:"state"` // waiting, sent, refused, expired, discarded or erased
	CreatedAt time.Time `json:"createdAt"`
	ExpiresAt time.Time `json:"expiresAt"` // of the link or the code in it
	EndedAt   time.Time `json:"endedAt"`   // zero while it waits
	Attempts  int       `json:"attempts"`  // by the mail server that failed
	Reason    string    `json:"reason"`    // of the last failure
}

// CitizenEmailList is one page of the mails to a citizen, the newest first. Total counts
// all of them.
type CitizenEmailList struct {
	Emails []CitizenEmail `json:"emails"`
	Total  int            `json:"total"`
}

// CitizenEmails lists the mails to a citizen.
func (c *Client) CitizenEmails(ctx context.Context, q CitizenEmailsQuery) (CitizenEmailList, error) {
	var out CitizenEmailList
	err := c.do(ctx, call{
		method: http.MethodGet, path: citizenPath(q.CitizenID) + "/emails",
		query: values("limit", number(q.Limit), "offset", number(q.Offset)), out: &out,
	})
	return out, err
}
