package client

import (
	"context"
	"encoding/json"
	"iter"
	"net/http"
	"net/url"
	"time"
)

// Delivery is an entry of the delivery log of a subscription: one attempt to deliver a
// message, or its end without one.
type Delivery struct {
	ID            string    `json:"id"`
	At            time.Time `json:"at"` // when it ended
	CitizenID     string    `json:"citizenId"`
	EventID       string    `json:"eventId"` // the message; empty where several ended at once
	EventType     string    `json:"eventType"`
	Sequence      int64     `json:"sequence"`
	Attempt       int       `json:"attempt"`    // from 1; zero where nothing was sent
	Outcome       string    `json:"outcome"`    // delivered, retrying, waiting, deferred, discarded, erased or expired
	StatusCode    int       `json:"statusCode"` // zero without an answer
	Class         string    `json:"class"`
	Reason        string    `json:"reason"` // why it was not accepted
	DurationMs    float64   `json:"durationMs"`
	NextAttemptAt time.Time `json:"nextAttemptAt"`
	Coalesced     int64     `json:"coalesced"` // how many changes it carried, or how many messages ended
}

// SentRequest is what was sent, without secrets.
type SentRequest struct {
	URL     string              `json:"url"`
	Headers map[string][]string `json:"headers"`
	Body    json.RawMessage     `json:"body"`
}

// SentAnswer is what an endpoint answered, up to 4 KiB of it.
type SentAnswer struct {
	Headers   map[string][]string `json:"headers"`
	Body      string              `json:"body"`
	Truncated bool                `json:"truncated"`
}

// DeliveryDetail is an entry of the delivery log with what was sent and answered, nil
// where that is not kept or the citizen was erased, and with what became of its message.
type DeliveryDetail struct {
	Delivery
	State    string       `json:"state"` // sending, retrying, waiting, delivered, superseded, discarded, erased or expired
	Request  *SentRequest `json:"request"`
	Answer   *SentAnswer  `json:"answer"`
	Attempts []Delivery   `json:"attempts"` // on the message, the newest first
}

// DeliveriesQuery selects entries of the delivery log of one subscription.
type DeliveriesQuery struct {
	CitizenID   string
	ExternalRef string
	EventID     string
	Outcome     string
	StatusCode  int  // zero for any
	Unanswered  bool // only attempts without an answer
	Since       time.Time
	Before      time.Time
	Limit       int    // 1 to 100; zero means 20
	Cursor      string // the NextCursor of an earlier page
}

// DeliveryList is one page of the delivery log, the newest first. It may be short, or
// empty, before the end; NextCursor is empty there.
type DeliveryList struct {
	Deliveries []Delivery `json:"deliveries"`
	NextCursor string     `json:"nextCursor"`
}

// Deliveries searches the delivery log of a subscription.
func (c *Client) Deliveries(ctx context.Context, subscriptionID string, q DeliveriesQuery) (DeliveryList, error) {
	status := number(q.StatusCode)
	if q.Unanswered {
		status = "0"
	}
	var out DeliveryList
	err := c.do(ctx, call{
		method: http.MethodGet, path: subscriptionPath(subscriptionID) + "/deliveries", out: &out,
		query: values("citizenId", q.CitizenID, "externalRef", q.ExternalRef, "eventId", q.EventID, "outcome", q.Outcome, "statusCode", status,
			"since", instant(q.Since), "before", instant(q.Before), "limit", number(q.Limit), "cursor", q.Cursor),
	})
	return out, err
}

// AllDeliveries gives what Deliveries finds, page after page. An error ends it.
func (c *Client) AllDeliveries(ctx context.Context, subscriptionID string, q DeliveriesQuery) iter.Seq2[Delivery, error] {
	return all(Page{Limit: q.Limit, Cursor: q.Cursor}, func(p Page) ([]Delivery, string, error) {
		q.Limit, q.Cursor = p.Limit, p.Cursor
		list, err := c.Deliveries(ctx, subscriptionID, q)
		return list.Deliveries, list.NextCursor, err
	})
}

// Delivery reads one entry of the delivery log of a subscription.
func (c *Client) Delivery(ctx context.Context, subscriptionID, id string) (DeliveryDetail, error) {
	var out DeliveryDetail
	err := c.do(ctx, call{method: http.MethodGet, path: subscriptionPath(subscriptionID) + "/deliveries/" + url.PathEscape(id), out: &out})
	return out, err
}

// WaitingMessage is a message that was not accepted yet.
type WaitingMessage struct {
	CitizenID     string    `json:"citizenId"`
	Sequence      int64     `json:"sequence"`
	State         string    `json:"state"`    // sending, retrying or waiting (tried hourly)
	Attempts      int       `json:"attempts"` // that failed
	NextAttemptAt time.Time `json:"nextAttemptAt"`
	FirstChangeAt time.Time `json:"firstChangeAt"`
	Changes       int64     `json:"changes"`
	Reason        string    `json:"reason"` // why the last attempt failed, where it is tried hourly
}

// WaitingQuery selects what waits at one subscription.
type WaitingQuery struct {
	CitizenID   string
	ExternalRef string
	Limit       int    // 1 to 100; zero means 20
	Cursor      string // the NextCursor of an earlier page
}

// WaitingList is one page of what waits, in the order in which it is due. NextCursor is
// empty on the last one.
type WaitingList struct {
	Waiting    []WaitingMessage `json:"waiting"`
	NextCursor string           `json:"nextCursor"`
}

// Waiting lists what waits at a subscription.
func (c *Client) Waiting(ctx context.Context, subscriptionID string, q WaitingQuery) (WaitingList, error) {
	var out WaitingList
	err := c.do(ctx, call{
		method: http.MethodGet, path: subscriptionPath(subscriptionID) + "/waiting", out: &out,
		query: values("citizenId", q.CitizenID, "externalRef", q.ExternalRef, "limit", number(q.Limit), "cursor", q.Cursor),
	})
	return out, err
}

// AllWaiting gives what Waiting lists, page after page. An error ends it.
func (c *Client) AllWaiting(ctx context.Context, subscriptionID string, q WaitingQuery) iter.Seq2[WaitingMessage, error] {
	return all(Page{Limit: q.Limit, Cursor: q.Cursor}, func(p Page) ([]WaitingMessage, string, error) {
		q.Limit, q.Cursor = p.Limit, p.Cursor
		list, err := c.Waiting(ctx, subscriptionID, q)
		return list.Waiting, list.NextCursor, err
	})
}

// Trial is what came of a test message.
type Trial struct {
	Accepted   bool        `json:"accepted"`
	StatusCode int         `json:"statusCode"` // zero without an answer
	Class      string      `json:"class"`
	Reason     string      `json:"reason"` // why it was not accepted
	DurationMs float64     `json:"durationMs"`
	Request    SentRequest `json:"request"`
	Answer     SentAnswer  `json:"answer"`
}

// TestSubscription sends a message about nobody to the endpoint of a subscription.
func (c *Client) TestSubscription(ctx context.Context, id string) (Trial, error) {
	var out Trial
	err := c.do(ctx, call{method: http.MethodPost, path: subscriptionPath(id) + "/test", out: &out})
	return out, err
}

// TestSettings does what TestSubscription does by settings that are not saved.
func (c *Client) TestSettings(ctx context.Context, subscription Subscription) (Trial, error) {
	var out Trial
	err := c.do(ctx, call{method: http.MethodPost, path: "v1/subscriptions/test", in: subscription, out: &out})
	return out, err
}

// Recovery is what a call has done with messages: with some by itself, with many by a job.
type Recovery struct {
	Messages int64 `json:"messages"`
	Job      *Job  `json:"job"`
}

// Redeliver sends the message of an entry of the delivery log again, at once.
func (c *Client) Redeliver(ctx context.Context, subscriptionID, deliveryID string) error {
	return c.do(ctx, call{method: http.MethodPost, path: subscriptionPath(subscriptionID) + "/redeliver", in: map[string]string{"deliveryId": deliveryID}, key: idempotencyKey("")})
}

// RedeliverSince begins a job that sends at once everything that failed since an instant
// and is tried hourly.
func (c *Client) RedeliverSince(ctx context.Context, subscriptionID string, since time.Time) (Job, error) {
	return c.beginJob(ctx, subscriptionID, "redeliver", map[string]string{"since": instant(since)})
}

// Resync says whose states to send.
type Resync struct {
	Since         time.Time // only of those who changed since; zero for everybody
	RatePerSecond int       // the most states a second; zero for no limit
}

// Resync begins a job that sends the present states of citizens.
func (c *Client) Resync(ctx context.Context, subscriptionID string, v Resync) (Job, error) {
	in := struct {
		Since         string `json:"since,omitempty"`
		RatePerSecond int    `json:"ratePerSecond,omitempty"`
	}{instant(v.Since), v.RatePerSecond}
	return c.beginJob(ctx, subscriptionID, "resync", in)
}

// Discard says which messages that wait are to end. One of the first three is given.
type Discard struct {
	DeliveryID string // an entry of the log: its message
	CitizenID  string // all of a citizen
	All        bool   // by a job
	Before     time.Time
}

// Discard ends messages that were not accepted.
func (c *Client) Discard(ctx context.Context, subscriptionID string, v Discard) (Recovery, error) {
	in := struct {
		DeliveryID string `json:"deliveryId,omitempty"`
		CitizenID  string `json:"citizenId,omitempty"`
		All        bool   `json:"all,omitempty"`
		Before     string `json:"before,omitempty"`
	}{v.DeliveryID, v.CitizenID, v.All, instant(v.Before)}
	var out Recovery
	err := c.do(ctx, call{method: http.MethodPost, path: subscriptionPath(subscriptionID) + "/discard", in: in, out: &out, key: idempotencyKey("")})
	return out, err
}

func (c *Client) beginJob(ctx context.Context, subscriptionID, action string, in any) (Job, error) {
	var out struct {
		Job Job `json:"job"`
	}
	err := c.do(ctx, call{method: http.MethodPost, path: subscriptionPath(subscriptionID) + "/" + action, in: in, out: &out, key: idempotencyKey("")})
	return out.Job, err
}
