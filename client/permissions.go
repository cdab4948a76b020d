package client

import (
	"context"
	"net/http"
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
