package client

import (
	"context"
	"net/http"
	"net/url"
	"time"
)

// NewSuppression is an address to be put on the do-not-contact list: either an e-mail
// address or a telephone number with its country.
type NewSuppression struct {
	ApplicationID string   `json:"applicationId"`
	EmailAddress  string   `json:"emailAddress,omitempty"`
	Telephone     string   `json:"telephone,omitempty"`
	Channels      []string `json:"channels,omitempty"` // none means all that the application has now
	Reason        string   `json:"reason,omitempty"`
	Source        string   `json:"source,omitempty"` // where the wish came from
}

// Suppression is an entry of the do-not-contact list. Its Address is masked.
type Suppression struct {
	ID         string    `json:"id"`
	Kind       string    `json:"kind"` // email or telephone
	Address    string    `json:"address"`
	Channel    string    `json:"channel"`
	Reason     string    `json:"reason"`
	Source     string    `json:"source"`
	CreatedAt  time.Time `json:"createdAt"`
	CreatedBy  string    `json:"createdBy"`
	LiftedAt   time.Time `json:"liftedAt"` // zero: in force
	LiftedBy   string    `json:"liftedBy"`
	LiftReason string    `json:"liftReason"`
}

// Suppress puts an address on the do-not-contact list: one entry for each channel, of
// which those that are in force already stay as they are.
func (c *Client) Suppress(ctx context.Context, v NewSuppression) ([]Suppression, error) {
	return c.suppressions(ctx, "v1/suppressions", v)
}

// SuppressionsOf lists the entries of one address, which is all that v must name, the
// newest first.
func (c *Client) SuppressionsOf(ctx context.Context, v NewSuppression) ([]Suppression, error) {
	return c.suppressions(ctx, "v1/suppressions/search", v)
}

func (c *Client) suppressions(ctx context.Context, path string, v NewSuppression) ([]Suppression, error) {
	var out struct {
		Suppressions []Suppression `json:"suppressions"`
	}
	err := c.do(ctx, call{method: http.MethodPost, path: path, in: v, out: &out})
	return out.Suppressions, err
}

// LiftSuppression ends an entry of the do-not-contact list, which is kept.
func (c *Client) LiftSuppression(ctx context.Context, id string) error {
	return c.do(ctx, call{method: http.MethodDelete, path: "v1/suppressions/" + url.PathEscape(id)})
}

// SuppressionsQuery says which entries to list.
type SuppressionsQuery struct {
	ApplicationID string
	Page
}

// SuppressionList is one page of entries, the newest first. Total counts all of them; it
// is zero where a Cursor led here. NextCursor is empty at the end.
type SuppressionList struct {
	Suppressions []Suppression `json:"suppressions"`
	Total        int           `json:"total"`
	NextCursor   string        `json:"nextCursor"`
}

// Suppressions lists the do-not-contact list of an application, with what was lifted.
func (c *Client) Suppressions(ctx context.Context, q SuppressionsQuery) (SuppressionList, error) {
	var out SuppressionList
	err := c.do(ctx, call{method: http.MethodGet, path: "v1/suppressions", query: q.values("applicationId", q.ApplicationID), out: &out})
	return out, err
}
