package client

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"time"
)

// NewTokenJob asks for tokens of many citizens: of those who are named, at most 1,000, or
// of everyone where both lists are nil. The server refuses a list that is empty and not nil.
type NewTokenJob struct {
	ApplicationID string    `json:"applicationId"`
	Reference     string    `json:"reference,omitempty"` // your own, to tell the batch by
	ExpiryDate    time.Time `json:"expiryDate,omitzero"` // within the bounds of a single token
	CitizenIDs    []string  `json:"citizenIds,omitzero"`
	ExternalRefs  []string  `json:"externalRefs,omitzero"`
	// Unsubscribe names options or groups, for each of which the file has a column of links
	// with which its reader leaves it.
	Unsubscribe  []string `json:"unsubscribe,omitempty"`
	MaxPerSecond int64    `json:"maxPerSecond,omitempty"` // the most citizens a second; zero for no limit

	IdempotencyKey string `json:"-"` // where empty, one is made
}

// TokenJob is a job that makes tokens.
type TokenJob struct {
	Job
	Issue      int64     `json:"issue"` // by which the tokens can be revoked
	Reference  string    `json:"reference"`
	ExpiryDate time.Time `json:"expiryDate"` // of the tokens
	RevokedAt  time.Time `json:"revokedAt"`  // zero: not revoked
}

// CreateTokenJob begins to make tokens of many citizens.
func (c *Client) CreateTokenJob(ctx context.Context, n NewTokenJob) (TokenJob, error) {
	var out TokenJob
	err := c.do(ctx, call{method: http.MethodPost, path: "v1/access-tokens/jobs", in: n, out: &out, key: idempotencyKey(n.IdempotencyKey)})
	return out, err
}

// TokenJob reads a job that makes tokens.
func (c *Client) TokenJob(ctx context.Context, id string) (TokenJob, error) {
	var out TokenJob
	err := c.do(ctx, call{method: http.MethodGet, path: tokenJobPath(id), out: &out})
	return out, err
}

// ReadTokenFile opens the CSV file of a job that makes tokens, for reading until ctx ends: a
// line for each citizen. It is as secret as the tokens in it. The caller closes it.
func (c *Client) ReadTokenFile(ctx context.Context, id string) (io.ReadCloser, error) {
	res, err := c.open(ctx, tokenJobPath(id)+"/file", nil)
	if err != nil {
		return nil, err
	}
	return res.Body, nil
}

func tokenJobPath(id string) string { return "v1/access-tokens/jobs/" + url.PathEscape(id) }

// NewUnsubscribeLink asks for the link with which one citizen leaves one option.
type NewUnsubscribeLink struct {
	ApplicationID string `json:"applicationId"`
	CitizenID     string `json:"citizenId,omitempty"`
	ExternalRef   string `json:"externalRef,omitempty"`
	OptionID      string `json:"optionId"`
	OptionType    string `json:"optionType,omitempty"` // option, where it is left out, or group
}

// UnsubscribeLink is a link that is good for ever and opens nothing else.
type UnsubscribeLink struct {
	Token string `json:"token"`
	URL   string `json:"url"`
}

// CreateUnsubscribeLink makes the link, the same each time until the server's key is rotated.
func (c *Client) CreateUnsubscribeLink(ctx context.Context, n NewUnsubscribeLink) (UnsubscribeLink, error) {
	var out UnsubscribeLink
	err := c.do(ctx, call{method: http.MethodPost, path: "v1/access-tokens/unsubscribe", in: n, out: &out})
	return out, err
}

// ListUnsubscribe gives the headers with which mail programs show their readers a button
// to unsubscribe (RFC 8058). Both must be covered by the DKIM signature of the mail.
func ListUnsubscribe(link string) map[string]string {
	return map[string]string{"List-Unsubscribe": "<" + link + ">", "List-Unsubscribe-Post": "List-Unsubscribe=One-Click"}
}
