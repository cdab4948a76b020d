package client

import (
	"context"
	"net/http"
	"net/url"
	"time"
)

// The option types.
const (
	Option = "option"
	Group  = "group" // of options, addressed as one
)

// Change is one decision: the state of one option, or of one group, under one
// lawful basis.
type Change struct {
	OptionType    string    `json:"optionType"` // Option or Group
	OptionID      string    `json:"optionId"`
	Justification string    `json:"justification"` // the lawful basis, such as consent
	State         string    `json:"state"`         // such as GRANTED; which ones depends on Justification
	ValidFrom     time.Time `json:"validFrom,omitzero"`
	ValidUntil    time.Time `json:"validUntil,omitzero"`
}

// Transaction is what RecordTransaction takes: one or more changes of one citizen
// and the evidence for them. ExternalRef or CitizenID names the citizen; an
// ExternalRef that is not known yet creates one.
type Transaction struct {
	ApplicationID string   `json:"applicationId"`
	ExternalRef   string   `json:"externalRef,omitempty"`
	CitizenID     string   `json:"citizenId,omitempty"`
	Changes       []Change `json:"changes"`

	PrivacyPolicyID        string `json:"privacyPolicyId,omitempty"`
	PrivacyPolicyRef       string `json:"privacyPolicyRef,omitempty"`
	PermissionStatementID  string `json:"permissionStatementId,omitempty"`
	PermissionStatementRef string `json:"permissionStatementRef,omitempty"`

	// ObtainedAt is when the citizen decided; now where it is zero. It may lie in
	// the past, but no more than five minutes in the future.
	ObtainedAt time.Time `json:"obtainedAt,omitzero"`

	Channel                string `json:"channel,omitempty"` // how it reached you: free text
	Campaign               string `json:"campaign,omitempty"`
	Source                 string `json:"source,omitempty"`
	SourceSystem           string `json:"sourceSystem,omitempty"`
	SourceSystemReference  string `json:"sourceSystemReference,omitempty"`
	RecordedBy             string `json:"recordedBy,omitempty"`
	RecordedByName         string `json:"recordedByName,omitempty"`
	DelegatedAuthorityID   string `json:"delegatedAuthorityId,omitempty"`
	DelegatedAuthorityName string `json:"delegatedAuthorityName,omitempty"`

	// IdempotencyKey marks repetitions of one and the same call, over restarts of
	// the caller too. Where it is empty the client makes one up for the repetitions
	// of its own.
	IdempotencyKey string `json:"-"`
}

// Receipt is the answer to a recorded transaction.
type Receipt struct {
	TransactionID string          `json:"transactionId"`
	CitizenID     string          `json:"citizenId"`
	ExternalRef   string          `json:"externalRef"`
	RecordedAt    time.Time       `json:"recordedAt"`
	ObtainedAt    time.Time       `json:"obtainedAt"`
	Changes       []ChangeOutcome `json:"changes"`
	// Warnings say what was recorded as sent but has no effect.
	Warnings []string `json:"warnings"`
}

// ChangeOutcome is one recorded change and what came of it.
type ChangeOutcome struct {
	Change
	Effective bool `json:"effective"` // false: it was recorded, but another answer stands
	// Current is the answer that stands now, nil where none does.
	Current *Permission `json:"current"`
}

// RecordedTransaction is one entry of a citizen's history.
type RecordedTransaction struct {
	TransactionID string    `json:"transactionId"`
	CitizenID     string    `json:"citizenId"`
	ExternalRef   string    `json:"externalRef"`
	RecordedAt    time.Time `json:"recordedAt"`
	ObtainedAt    time.Time `json:"obtainedAt"`
	Changes       []Change  `json:"changes"`
}

// TransactionsQuery selects transactions of one application. CitizenID or
// ExternalRef narrows it to one citizen. Since is inclusive, Before exclusive,
// both on the time of recording; zero leaves them open.
type TransactionsQuery struct {
	ApplicationID string
	CitizenID     string
	ExternalRef   string
	Since, Before time.Time
	Limit, Offset int // Limit 1 to 100; zero means 20
}

// Permission is the effective state of one option, or of one group, for one
// citizen. What is not known is empty, or the zero time.
type Permission struct {
	TransactionID          string    `json:"transactionId"`
	OptionType             string    `json:"optionType"`
	OptionID               string    `json:"optionId"`
	Justification          string    `json:"justification"`
	State                  string    `json:"state"` // empty for an entry that ceased
	Status                 string    `json:"status"`
	Channel                string    `json:"channel"`
	Campaign               string    `json:"campaign"`
	PrivacyPolicyID        string    `json:"privacyPolicyId"`
	PrivacyPolicyRef       string    `json:"privacyPolicyRef"`
	PermissionStatementID  string    `json:"permissionStatementId"`
	PermissionStatementRef string    `json:"permissionStatementRef"`
	RecordedBy             string    `json:"recordedBy"`
	RecordedByName         string    `json:"recordedByName"`
	RecordedClient         string    `json:"recordedClient"`
	RecordedClientName     string    `json:"recordedClientName"`
	DelegatedAuthorityID   string    `json:"delegatedAuthorityId"`
	DelegatedAuthorityName string    `json:"delegatedAuthorityName"`
	RecordedAt             time.Time `json:"recordedAt"`
	ObtainedAt             time.Time `json:"obtainedAt"`
	ValidFrom              time.Time `json:"validFrom"`
	ValidUntil             time.Time `json:"validUntil"`
}

// PermissionsQuery asks for the effective state of one citizen, named by
// CitizenID or ExternalRef. Without a range it is the state of now; an entry is
// listed if it is valid at ValidStart and still at ValidEnd.
type PermissionsQuery struct {
	ApplicationID        string
	CitizenID            string
	ExternalRef          string
	OptionID             string // one option only
	Expiry               string // effective (where empty) or latest, which lists what expired too
	ValidStart, ValidEnd time.Time
}

// Permissions is the effective state of one citizen. Pending lists answers that
// wait for confirmation beside a standing one and permit nothing.
type Permissions struct {
	Permissions []Permission `json:"permissions"`
	Pending     []Permission `json:"pending"`
}

// RecordTransaction records the changes: all of them, or on any error none.
func (c *Client) RecordTransaction(ctx context.Context, transaction Transaction) (Receipt, error) {
	var out Receipt
	err := c.do(ctx, call{
		method: http.MethodPost, path: "v1/permissions/transactions",
		in: transaction, out: &out, key: idempotencyKey(transaction.IdempotencyKey),
	})
	return out, err
}

// Transactions lists recorded transactions in the order of their recording.
func (c *Client) Transactions(ctx context.Context, q TransactionsQuery) ([]RecordedTransaction, error) {
	var out struct {
		Transactions []RecordedTransaction `json:"transactions"`
	}
	err := c.do(ctx, call{
		method: http.MethodGet, path: "v1/permissions/transactions",
		query: values(
			"applicationId", q.ApplicationID, "citizenId", q.CitizenID, "externalRef", q.ExternalRef,
			"since", instant(q.Since), "before", instant(q.Before),
			"limit", number(q.Limit), "offset", number(q.Offset)),
		out: &out,
	})
	return out.Transactions, err
}

// Permissions reads the effective state of one citizen. It sees every transaction
// that was answered before.
func (c *Client) Permissions(ctx context.Context, q PermissionsQuery) (Permissions, error) {
	var out Permissions
	err := c.do(ctx, call{
		method: http.MethodGet, path: "v1/permissions",
		query: values(
			"applicationId", q.ApplicationID, "citizenId", q.CitizenID, "externalRef", q.ExternalRef,
			"optionId", q.OptionID, "expiry", q.Expiry,
			"validStart", instant(q.ValidStart), "validEnd", instant(q.ValidEnd)),
		out: &out,
	})
	return out, err
}

// Reversion is what Revert takes: the evidence for undoing.
type Reversion struct {
	Channel        string `json:"channel,omitempty"`
	Source         string `json:"source,omitempty"`
	RecordedBy     string `json:"recordedBy,omitempty"`
	RecordedByName string `json:"recordedByName,omitempty"`

	// IdempotencyKey marks repetitions of one and the same call. Where it is empty
	// the client makes one up for the repetitions of its own.
	IdempotencyKey string `json:"-"`
}

// Revert undoes the transaction with that id by a new one; both stay in the history.
// The changes of the receipt are those that were undone, each with what stands now.
func (c *Client) Revert(ctx context.Context, transactionID string, reversion Reversion) (Receipt, error) {
	var out Receipt
	err := c.do(ctx, call{
		method: http.MethodPost, path: "v1/permissions/transactions/" + url.PathEscape(transactionID) + "/reversion",
		in: reversion, out: &out, key: idempotencyKey(reversion.IdempotencyKey),
	})
	return out, err
}

// ExplainQuery asks why the state of one citizen, named by CitizenID or ExternalRef,
// is what it is: of one option or group, or of all where OptionID is empty. AsOf asks
// for what applied then, KnownAt leaves out what was recorded later; zero is now.
type ExplainQuery struct {
	ApplicationID string
	CitizenID     string
	ExternalRef   string
	OptionID      string
	AsOf, KnownAt time.Time
}

// Explained says why the state of one citizen is what it is.
type Explained struct {
	CitizenID    string        `json:"citizenId"`
	ExternalRef  string        `json:"externalRef"`
	AsOf         time.Time     `json:"asOf"`
	KnownAt      time.Time     `json:"knownAt"` // zero: everything that is recorded
	Explanations []Explanation `json:"explanations"`
}

// Explanation is every answer to one option or group in the order that decides, the
// earliest first, and what stands.
type Explanation struct {
	OptionType string      `json:"optionType"`
	OptionID   string      `json:"optionId"`
	Current    *Permission `json:"current"` // nil where nothing stands
	Candidates []Candidate `json:"candidates"`
}

// Candidate is one answer and what became of it.
type Candidate struct {
	Permission
	Group string `json:"group"` // in whose name the option was answered; empty for an answer of its own
	Fate  string `json:"fate"`
	Rule  int    `json:"rule"` // that decided; 0 for a reversion
	By    string `json:"by"`   // the record that displaced it, empty where none did
	Why   string `json:"why"`
}

// Explain says why the state of one citizen is what it is, or was.
func (c *Client) Explain(ctx context.Context, q ExplainQuery) (Explained, error) {
	var out Explained
	err := c.do(ctx, call{
		method: http.MethodGet, path: "v1/permissions/explain",
		query: values(
			"applicationId", q.ApplicationID, "citizenId", q.CitizenID, "externalRef", q.ExternalRef,
			"optionId", q.OptionID, "asOf", instant(q.AsOf), "knownAt", instant(q.KnownAt)),
		out: &out,
	})
	return out, err
}
