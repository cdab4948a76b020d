package client

import (
	"context"
	"net/http"
	"strconv"
	"time"
)

// NewCitizenToken asks for a token with which one citizen can see and change their own
// data, and nothing else. The citizen is named by id, by reference, or by both.
type NewCitizenToken struct {
	ApplicationID string `json:"applicationId"`
	CitizenID     string `json:"citizenId,omitempty"`
	ExternalRef   string `json:"externalRef,omitempty"`
	// ExpiryDate lies between 10 seconds and 3 calendar months from now; where it is not
	// given the token expires in 10 seconds.
	ExpiryDate     time.Time `json:"expiryDate,omitzero"`
	BatchReference string    `json:"batchReference,omitempty"` // your own, to tell the issue by
}

// CitizenToken is a token of a citizen, which cannot be read again. It travels in the
// messages of subscriptions as well, there without the Issue.
type CitizenToken struct {
	Token      string    `json:"token"`
	ExpiryDate time.Time `json:"expiryDate"`
	Issue      int64     `json:"issue"` // by which it can be revoked
}

// String keeps the token out of logs.
func (t CitizenToken) String() string {
	return "[citizen token until " + t.ExpiryDate.Format(time.RFC3339) + "]"
}

// GoString keeps the token out of logs.
func (t CitizenToken) GoString() string { return t.String() }

// CreateCitizenToken makes a citizen token.
func (c *Client) CreateCitizenToken(ctx context.Context, token NewCitizenToken) (CitizenToken, error) {
	var out CitizenToken
	err := c.do(ctx, call{method: http.MethodPost, path: "v1/access-tokens/tokens", in: token, out: &out})
	return out, err
}

// RevokeCitizenTokens revokes every token that a citizen has, at once.
func (c *Client) RevokeCitizenTokens(ctx context.Context, citizenID string) error {
	return c.do(ctx, call{method: http.MethodPost, path: citizenPath(citizenID) + "/token-revocations"})
}

// RevokeTokenIssue revokes every citizen token of one issue, at once.
func (c *Client) RevokeTokenIssue(ctx context.Context, issue int64) error {
	return c.do(ctx, call{method: http.MethodPost, path: "v1/access-tokens/issues/" + strconv.FormatInt(issue, 10) + "/revocation"})
}

// TokenIssue is one act of making citizen tokens: a single one, those of a job, or those
// that the messages of a subscription carry.
type TokenIssue struct {
	Issue          int64     `json:"issue"`
	Kind           string    `json:"kind"` // single, batch or subscription
	CitizenID      string    `json:"citizenId"`
	SubscriptionID string    `json:"subscriptionId"`
	JobID          string    `json:"jobId"`
	Scheduled      bool      `json:"scheduled"`
	BatchReference string    `json:"batchReference"`
	CreatedAt      time.Time `json:"createdAt"`
	CreatedBy      string    `json:"createdBy"`
	ExpiryDate     time.Time `json:"expiryDate"` // of a single one and of a batch
	RevokedAt      time.Time `json:"revokedAt"`  // zero: not revoked
}

// TokenIssuesQuery says which issues to list.
type TokenIssuesQuery struct {
	ApplicationID string
	Page
}

// TokenIssueList is one page of issues, the newest first. Total counts all of them; it
// is zero where a Cursor led here. NextCursor is empty at the end.
type TokenIssueList struct {
	Issues     []TokenIssue `json:"issues"`
	Total      int          `json:"total"`
	NextCursor string       `json:"nextCursor"`
}

// TokenIssues lists what citizen tokens were made, never the tokens.
func (c *Client) TokenIssues(ctx context.Context, q TokenIssuesQuery) (TokenIssueList, error) {
	var out TokenIssueList
	err := c.do(ctx, call{method: http.MethodGet, path: "v1/access-tokens/issues", query: q.values("applicationId", q.ApplicationID), out: &out})
	return out, err
}
