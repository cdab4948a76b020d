package client

import (
	"context"
	"encoding/json"
	"iter"
	"net/http"
	"time"
)

// Answer is what was chosen of one preference, by reference. No choice at all is an
// answer, too.
type Answer struct {
	Preference string   `json:"preference"`
	Choices    []string `json:"choices"`
}

// MarshalJSON writes no choice as an empty list, since an answer must say what was
// chosen.
func (a Answer) MarshalJSON() ([]byte, error) {
	if a.Choices == nil {
		a.Choices = []string{}
	}
	type plain Answer
	return json.Marshal(plain(a))
}

// Submission is what Submit takes: answers of one citizen to preferences and the
// evidence for them. ExternalRef or CitizenID names the citizen; an ExternalRef that is
// not known yet creates one.
type Submission struct {
	ApplicationID string   `json:"applicationId"`
	ExternalRef   string   `json:"externalRef,omitempty"`
	CitizenID     string   `json:"citizenId,omitempty"`
	Preferences   []Answer `json:"preferences"`

	Origin

	// IdempotencyKey marks repetitions of one and the same call. Where it is empty
	// the client makes one up for the repetitions of its own.
	IdempotencyKey string `json:"-"`
}

// Choice is one choice of an answer.
type Choice struct {
	Reference string `json:"reference"`
	Label     string `json:"label"` // what it was called when it was chosen
}

// Preference is the current answer of one citizen to one preference.
type Preference struct {
	Preference   string    `json:"preference"`
	Choices      []Choice  `json:"choices"`
	Label        string    `json:"label"`
	SubmissionID string    `json:"submissionId"`
	UpdatedAt    time.Time `json:"updatedAt"` // when the answer was obtained
}

// Submitted is the answer to Submit.
type Submitted struct {
	CitizenID   string              `json:"citizenId"`
	ExternalRef string              `json:"externalRef"`
	Submissions []SubmissionOutcome `json:"submissions"` // one for each answer
}

// SubmissionOutcome is one recorded submission and what came of it.
type SubmissionOutcome struct {
	SubmissionID string     `json:"submissionId"`
	RecordedAt   time.Time  `json:"recordedAt"`
	ObtainedAt   time.Time  `json:"obtainedAt"`
	Preference   string     `json:"preference"`
	Choices      []Choice   `json:"choices"`
	Effective    bool       `json:"effective"` // false: it was recorded, but a later answer stands
	Current      Preference `json:"current"`   // the answer that stands now
}

// RecordedSubmission is one submission of the history.
type RecordedSubmission struct {
	SubmissionID string    `json:"submissionId"`
	Preference   string    `json:"preference"`
	Label        string    `json:"label"`
	Choices      []Choice  `json:"choices"`
	CitizenID    string    `json:"citizenId"`
	ExternalRef  string    `json:"externalRef"`
	RecordedAt   time.Time `json:"recordedAt"`
	ObtainedAt   time.Time `json:"obtainedAt"`
	Evidence
}

// SubmissionList is one page of submissions. Total counts all that match; it is zero
// where a Cursor led to the page. NextCursor is empty on the last one.
type SubmissionList struct {
	Submissions []RecordedSubmission `json:"submissions"`
	Total       int                  `json:"total"`
	NextCursor  string               `json:"nextCursor"`
}

// Submit records answers to preferences, each as a submission of its own: all of them,
// or on any error none.
func (c *Client) Submit(ctx context.Context, submission Submission) (Submitted, error) {
	var out Submitted
	err := c.do(ctx, call{
		method: http.MethodPost, path: "v1/submissions",
		in: submission, out: &out, key: idempotencyKey(submission.IdempotencyKey),
	})
	return out, err
}

// Submissions lists recorded submissions in the order of their recording.
func (c *Client) Submissions(ctx context.Context, q RecordsQuery) (SubmissionList, error) {
	var out SubmissionList
	err := c.do(ctx, call{method: http.MethodGet, path: "v1/submissions", query: q.values(), out: &out})
	return out, err
}

// AllSubmissions gives what Submissions lists, page after page. An error ends it.
func (c *Client) AllSubmissions(ctx context.Context, q RecordsQuery) iter.Seq2[RecordedSubmission, error] {
	return all(q.Page, func(p Page) ([]RecordedSubmission, string, error) {
		q.Page = p
		list, err := c.Submissions(ctx, q)
		return list.Submissions, list.NextCursor, err
	})
}

// PreferencesQuery asks for the current preferences of one citizen, named by CitizenID
// or ExternalRef.
type PreferencesQuery struct {
	ApplicationID string
	CitizenID     string
	ExternalRef   string
}

// Preferences reads the current answers of one citizen. It sees every submission that
// was answered before.
func (c *Client) Preferences(ctx context.Context, q PreferencesQuery) ([]Preference, error) {
	var out struct {
		Preferences []Preference `json:"preferences"`
	}
	err := c.do(ctx, call{
		method: http.MethodGet, path: "v1/preferences",
		query: values("applicationId", q.ApplicationID, "citizenId", q.CitizenID, "externalRef", q.ExternalRef), out: &out,
	})
	return out.Preferences, err
}
