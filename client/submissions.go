package client

import (
	"context"
	"net/http"
	"time"
)

// Answer is one answer to a preference, by references of the catalogue. No choice at
// all is an answer, too.
type Answer struct {
	Preference string   `json:"preference"`
	Choices    []string `json:"choices"`
}

// Submission is what Submit takes: answers of one citizen to preferences and the
// evidence for them. ExternalRef or CitizenID names the citizen; an ExternalRef that
// is not known yet creates one.
type Submission struct {
	ApplicationID string   `json:"applicationId"`
	ExternalRef   string   `json:"externalRef,omitempty"`
	CitizenID     string   `json:"citizenId,omitempty"`
	Preferences   []Answer `json:"preferences"`

	// ObtainedAt is when the citizen decided; now where it is zero.
	ObtainedAt time.Time `json:"obtainedAt,omitzero"`

	Channel string `json:"channel,omitempty"` // how it reached you: free text
	Source  string `json:"source,omitempty"`

	// IdempotencyKey marks repetitions of one and the same call. Where it is empty
	// the client makes one up for the repetitions of its own.
	IdempotencyKey string `json:"-"`
}

// Choice is one choice of an answer, with its words.
type Choice struct {
	Reference string `json:"reference"`
	Label     string `json:"label"`
}

// Preference is the current answer to one preference.
type Preference struct {
	Preference   string    `json:"preference"`
	Label        string    `json:"label"`
	Choices      []Choice  `json:"choices"`
	SubmissionID string    `json:"submissionId"`
	UpdatedAt    time.Time `json:"updatedAt"` // when the answer was obtained
}

// SubmissionReceipt is the answer to recorded submissions.
type SubmissionReceipt struct {
	CitizenID   string            `json:"citizenId"`
	ExternalRef string            `json:"externalRef"`
	Submissions []SubmittedAnswer `json:"submissions"`
}

// SubmittedAnswer is one recorded answer and what came of it.
type SubmittedAnswer struct {
	SubmissionID string     `json:"submissionId"`
	RecordedAt   time.Time  `json:"recordedAt"`
	ObtainedAt   time.Time  `json:"obtainedAt"`
	Preference   string     `json:"preference"`
	Choices      []Choice   `json:"choices"`
	Effective    bool       `json:"effective"` // false: it was recorded, but another answer stands
	Current      Preference `json:"current"`
}

// Submit records the answers: all of them, or on any error none.
func (c *Client) Submit(ctx context.Context, submission Submission) (SubmissionReceipt, error) {
	var out SubmissionReceipt
	err := c.do(ctx, call{
		method: http.MethodPost, path: "v1/submissions",
		in: submission, out: &out, key: idempotencyKey(submission.IdempotencyKey),
	})
	return out, err
}

// Preferences reads the current answers of one citizen.
func (c *Client) Preferences(ctx context.Context, applicationID, externalRef string) ([]Preference, error) {
	var out struct {
		Preferences []Preference `json:"preferences"`
	}
	err := c.do(ctx, call{
		method: http.MethodGet, path: "v1/preferences",
		query: values("applicationId", applicationID, "externalRef", externalRef), out: &out,
	})
	return out.Preferences, err
}
