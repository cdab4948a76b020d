package client

import (
	"context"
	"iter"
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

// Origin is what is said of a record besides its content: what was shown, when and how
// the answer was obtained, and who acted.
type Origin struct {
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
}

// Transaction is what RecordTransaction takes: one or more changes of one citizen
// and the evidence for them. ExternalRef or CitizenID names the citizen; an
// ExternalRef that is not known yet creates one.
type Transaction struct {
	ApplicationID string   `json:"applicationId"`
	ExternalRef   string   `json:"externalRef,omitempty"`
	CitizenID     string   `json:"citizenId,omitempty"`
	Changes       []Change `json:"changes"`

	Origin

	// IdempotencyKey marks repetitions of one and the same call, over restarts of
	// the caller too. Where it is empty the client makes one up for the repetitions
	// of its own.
	IdempotencyKey string `json:"-"`
}

// Receipt is the answer to a recorded transaction, or to a reversion.
type Receipt struct {
	TransactionID string          `json:"transactionId"`
	Reverts       string          `json:"reverts"` // the transaction that was undone; empty for none
	CitizenID     string          `json:"citizenId"`
	ExternalRef   string          `json:"externalRef"`
	RecordedAt    time.Time       `json:"recordedAt"`
	ObtainedAt    time.Time       `json:"obtainedAt"`
	Changes       []ChangeOutcome `json:"changes"` // of a reversion: those that were undone
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

// Reversion is what Revert takes: the transaction to undo, and the evidence for it.
type Reversion struct {
	TransactionID string `json:"-"`

	Origin

	// IdempotencyKey marks repetitions of one and the same call. Where it is empty
	// the client makes one up for the repetitions of its own.
	IdempotencyKey string `json:"-"`
}

// Evidence is what the history knows of a record besides its content. What is not
// known is empty; after the erasure of the citizen so is what names people.
type Evidence struct {
	Channel                string `json:"channel"`
	Campaign               string `json:"campaign"`
	Source                 string `json:"source"`
	SourceSystem           string `json:"sourceSystem"`
	SourceSystemReference  string `json:"sourceSystemReference"`
	PrivacyPolicyID        string `json:"privacyPolicyId"`
	PrivacyPolicyRef       string `json:"privacyPolicyRef"`
	PermissionStatementID  string `json:"permissionStatementId"`
	PermissionStatementRef string `json:"permissionStatementRef"`
	RecordedBy             string `json:"recordedBy"`
	RecordedByName         string `json:"recordedByName"`
	RecordedClient         string `json:"recordedClient"`
	RecordedClientName     string `json:"recordedClientName"`
	DelegatedAuthorityID   string `json:"delegatedAuthorityId"`
	DelegatedAuthorityName string `json:"delegatedAuthorityName"`
}

// RecordedTransaction is one transaction of the history.
type RecordedTransaction struct {
	TransactionID string    `json:"transactionId"`
	Reverts       string    `json:"reverts"` // the transaction that this one undoes; empty for none
	CitizenID     string    `json:"citizenId"`
	ExternalRef   string    `json:"externalRef"`
	RecordedAt    time.Time `json:"recordedAt"`
	ObtainedAt    time.Time `json:"obtainedAt"`
	Evidence
	Changes []Change `json:"changes"`
}

// RecordsQuery selects records of one application. CitizenID or ExternalRef narrows it
// to one citizen. Since is inclusive, Before exclusive, both on the time of recording;
// zero leaves them open.
type RecordsQuery struct {
	ApplicationID string
	CitizenID     string
	ExternalRef   string
	Since, Before time.Time
	Page
}

func (q RecordsQuery) values() url.Values {
	return q.Page.values(
		"applicationId", q.ApplicationID, "citizenId", q.CitizenID, "externalRef", q.ExternalRef,
		"since", instant(q.Since), "before", instant(q.Before))
}

// TransactionList is one page of transactions. Total counts all that match; it is zero
// where a Cursor led to the page. NextCursor is empty on the last one.
type TransactionList struct {
	Transactions []RecordedTransaction `json:"transactions"`
	Total        int                   `json:"total"`
	NextCursor   string                `json:"nextCursor"`
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

// Revert undoes a transaction by a new one that names it: what the undone one had
// displaced applies again. One that was undone already, and one that is a reversion
// itself, is a Problem with status 409.
func (c *Client) Revert(ctx context.Context, reversion Reversion) (Receipt, error) {
	var out Receipt
	err := c.do(ctx, call{
		method: http.MethodPost, path: "v1/permissions/transactions/" + url.PathEscape(reversion.TransactionID) + "/reversion",
		in: reversion, out: &out, key: idempotencyKey(reversion.IdempotencyKey),
	})
	return out, err
}

// Transactions lists recorded transactions in the order of their recording.
func (c *Client) Transactions(ctx context.Context, q RecordsQuery) (TransactionList, error) {
	var out TransactionList
	err := c.do(ctx, call{method: http.MethodGet, path: "v1/permissions/transactions", query: q.values(), out: &out})
	return out, err
}

// AllTransactions gives what Transactions lists, page after page. An error ends it.
func (c *Client) AllTransactions(ctx context.Context, q RecordsQuery) iter.Seq2[RecordedTransaction, error] {
	return all(q.Page, func(p Page) ([]RecordedTransaction, string, error) {
		q.Page = p
		list, err := c.Transactions(ctx, q)
		return list.Transactions, list.NextCursor, err
	})
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

// CitizenState is everything that applies to one citizen, as the messages of webhooks
// carry it.
type CitizenState struct {
	ApplicationID string       `json:"applicationId"`
	CitizenID     string       `json:"citizenId"`
	ExternalRef   string       `json:"externalRef"`
	Permissions   []Permission `json:"permissions"`
	Preferences   []Preference `json:"preferences"`
	Sequence      int64        `json:"sequence"` // rises with every change, with gaps
	ChangedAt     time.Time    `json:"changedAt"`
}

// EffectiveQuery selects the citizens of one application whose state changed from Since
// until before Before; zero leaves a bound open. CitizenID or ExternalRef narrows it to
// one citizen.
type EffectiveQuery struct {
	ApplicationID string
	CitizenID     string
	ExternalRef   string
	Since, Before time.Time
	Page
}

// CitizenStateList is one page of citizens with their states. Total counts all that
// match; it is zero where a Cursor led to the page. NextCursor is empty on the last one.
type CitizenStateList struct {
	Citizens   []CitizenState `json:"citizens"`
	Total      int            `json:"total"`
	NextCursor string         `json:"nextCursor"`
}

// Effective lists the citizens who changed in a range, in the order of their first
// change in it, each as they are now.
func (c *Client) Effective(ctx context.Context, q EffectiveQuery) (CitizenStateList, error) {
	var out CitizenStateList
	err := c.do(ctx, call{
		method: http.MethodGet, path: "v1/permissions/effective", query: RecordsQuery(q).values(), out: &out,
	})
	return out, err
}

// AllEffective gives what Effective lists, page after page. An error ends it.
func (c *Client) AllEffective(ctx context.Context, q EffectiveQuery) iter.Seq2[CitizenState, error] {
	return all(q.Page, func(p Page) ([]CitizenState, string, error) {
		q.Page = p
		list, err := c.Effective(ctx, q)
		return list.Citizens, list.NextCursor, err
	})
}

// ExplainQuery asks why the state of one citizen is what it is, or was.
type ExplainQuery struct {
	ApplicationID string
	CitizenID     string
	ExternalRef   string
	OptionID      string    // one option or group only
	AsOf          time.Time // what applied then; zero means now
	KnownAt       time.Time // by what had been recorded then; zero means by everything
}

// Explanation says why one option, or one group, has the state it has. Current is nil
// where nothing applies.
type Explanation struct {
	OptionType string      `json:"optionType"`
	OptionID   string      `json:"optionId"`
	Current    *Permission `json:"current"`
	Candidates []Candidate `json:"candidates"` // every answer, in the order that decides
}

// Candidate is one answer and what became of it.
type Candidate struct {
	Permission
	Group string `json:"group"` // in whose name the option was answered; empty for an answer of its own
	Fate  string `json:"fate"`  // such as effective, superseded, dropped
	Rule  int    `json:"rule"`  // that decided; zero for a reversion
	By    string `json:"by"`    // the record that displaced it; empty where none did
	Why   string `json:"why"`   // the same in a sentence
}

// Explain says for every option that the citizen ever answered why its state is what
// it is, or was at an instant.
func (c *Client) Explain(ctx context.Context, q ExplainQuery) ([]Explanation, error) {
	var out struct {
		Explanations []Explanation `json:"explanations"`
	}
	err := c.do(ctx, call{
		method: http.MethodGet, path: "v1/permissions/explain",
		query: values(
			"applicationId", q.ApplicationID, "citizenId", q.CitizenID, "externalRef", q.ExternalRef,
			"optionId", q.OptionID, "asOf", instant(q.AsOf), "knownAt", instant(q.KnownAt)),
		out: &out,
	})
	return out.Explanations, err
}
