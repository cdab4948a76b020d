package api

import (
	"context"
	"reflect"

	"github.com/danielgtaylor/huma/v2"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/internal/core"
	"github.com/opencpm/opencpm/internal/store"
)

// newTransaction is a transaction to be recorded.
type newTransaction struct {
	ApplicationID          applicationID `json:"applicationId"`
	CitizenID              consent.ID    `json:"citizenId,omitempty"`
	ExternalRef            string        `json:"externalRef,omitempty" minLength:"1" maxLength:"100"`
	Changes                newChanges    `json:"changes"`
	PrivacyPolicyID        string        `json:"privacyPolicyId,omitempty" minLength:"1" maxLength:"100"`
	PrivacyPolicyRef       string        `json:"privacyPolicyRef,omitempty" minLength:"1" maxLength:"100"`
	PermissionStatementID  string        `json:"permissionStatementId,omitempty" minLength:"1" maxLength:"100"`
	PermissionStatementRef string        `json:"permissionStatementRef,omitempty" minLength:"1" maxLength:"100"`
	ObtainedAt             moment        `json:"obtainedAt,omitempty"`
	Channel                string        `json:"channel,omitempty" maxLength:"200"`
	Campaign               string        `json:"campaign,omitempty" maxLength:"200"`
	Source                 string        `json:"source,omitempty" maxLength:"200"`
	SourceSystem           string        `json:"sourceSystem,omitempty" maxLength:"200"`
	SourceSystemReference  string        `json:"sourceSystemReference,omitempty" maxLength:"200"`
	RecordedBy             string        `json:"recordedBy,omitempty" maxLength:"200"`
	RecordedByName         string        `json:"recordedByName,omitempty" maxLength:"200"`
	DelegatedAuthorityID   string        `json:"delegatedAuthorityId,omitempty" maxLength:"200"`
	DelegatedAuthorityName string        `json:"delegatedAuthorityName,omitempty" maxLength:"200"`
}

type newChange struct {
	OptionType    consent.OptionType    `json:"optionType,omitempty" minLength:"1" maxLength:"20" default:"option"`
	OptionID      string                `json:"optionId" minLength:"1" maxLength:"100"`
	Justification consent.Justification `json:"justification"`
	State         consent.State         `json:"state"`
	ValidFrom     moment                `json:"validFrom,omitempty"`
	ValidUntil    moment                `json:"validUntil,omitempty"`
}

// maxChanges is how many changes core takes in one transaction.
const maxChanges = 200

// newChanges are the changes of a request. One alone may stand without a list
// around it.
type newChanges []newChange

// UnmarshalJSONFrom reads a list or a single change.
func (c *newChanges) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	if d.PeekKind() == '{' {
		*c = make(newChanges, 1)
		return json.UnmarshalDecode(d, &(*c)[0])
	}
	return json.UnmarshalDecode(d, (*[]newChange)(c))
}

// Schema says that both forms do.
func (newChanges) Schema(r huma.Registry) *huma.Schema {
	one, most := r.Schema(reflect.TypeFor[newChange](), true, ""), maxChanges
	return &huma.Schema{OneOf: []*huma.Schema{{Type: huma.TypeArray, Items: one, MaxItems: &most}, one}}
}

// Change is one change of a recorded transaction.
type Change struct {
	OptionType    consent.OptionType    `json:"optionType"`
	OptionID      string                `json:"optionId"`
	Justification consent.Justification `json:"justification"`
	State         consent.State         `json:"state"`
	ValidFrom     consent.Timestamp     `json:"validFrom"`
	ValidUntil    consent.Timestamp     `json:"validUntil"`
}

func changeOf(c consent.Change) Change {
	return Change{c.OptionType, c.OptionID, c.Justification, c.State, consent.Timestamp(c.ValidFrom), consent.Timestamp(c.ValidUntil)}
}

// recordedTransaction is the answer to one that was recorded.
type recordedTransaction struct {
	TransactionID consent.ID        `json:"transactionId"`
	CitizenID     consent.ID        `json:"citizenId"`
	ExternalRef   consent.Text      `json:"externalRef"`
	RecordedAt    consent.Timestamp `json:"recordedAt"`
	ObtainedAt    consent.Timestamp `json:"obtainedAt"`
	Changes       []recordedChange  `json:"changes"`
	Warnings      []string          `json:"warnings,omitempty"`
}

type recordedChange struct {
	Change
	Effective bool                `json:"effective"`
	Current   *consent.Permission `json:"current"`
}

// TransformSchema says that current may be null, which huma does not gather from
// the pointer.
func (recordedChange) TransformSchema(_ huma.Registry, s *huma.Schema) *huma.Schema {
	s.Properties["current"] = orNull(s.Properties["current"])
	return s
}

type recordTransactionInput struct{ body[newTransaction] }

func (s *server) recordTransaction(ctx context.Context, actor core.Actor, in *recordTransactionInput) (recordedTransaction, error) {
	t, request := in.read()
	changes := make([]consent.Change, len(t.Changes))
	for i, c := range t.Changes {
		changes[i] = consent.Change{
			OptionType: c.OptionType, OptionID: c.OptionID, Justification: c.Justification, State: c.State,
			ValidFrom: c.ValidFrom.Instant, ValidUntil: c.ValidUntil.Instant,
		}
	}
	done, err := s.Core.Record(ctx, actor, request, core.Transaction{
		ApplicationID: string(t.ApplicationID), Citizen: consent.CitizenKey{ID: t.CitizenID, ExternalRef: t.ExternalRef}, Changes: changes,
		PrivacyPolicyID: t.PrivacyPolicyID, PrivacyPolicyRef: t.PrivacyPolicyRef,
		PermissionStatementID: t.PermissionStatementID, PermissionStatementRef: t.PermissionStatementRef,
		ObtainedAt: t.ObtainedAt.Instant, Channel: t.Channel, Campaign: t.Campaign,
		Attribution: consent.Attribution{
			RecordedBy: t.RecordedBy, RecordedByName: t.RecordedByName,
			DelegatedAuthorityID: t.DelegatedAuthorityID, DelegatedAuthorityName: t.DelegatedAuthorityName,
			Source: t.Source, SourceSystem: t.SourceSystem, SourceSystemReference: t.SourceSystemReference,
		},
	})
	if err != nil {
		return recordedTransaction{}, err
	}
	out := recordedTransaction{
		TransactionID: done.Transaction.TransactionID, CitizenID: done.CitizenID, ExternalRef: consent.Text(done.ExternalRef),
		RecordedAt: consent.Timestamp(done.Transaction.RecordedAt), ObtainedAt: consent.Timestamp(done.Transaction.ObtainedAt),
		Changes: make([]recordedChange, len(done.Transaction.Changes)), Warnings: done.Warnings,
	}
	for i, c := range done.Transaction.Changes {
		out.Changes[i] = recordedChange{changeOf(c), done.Outcomes[i].Effective, done.Outcomes[i].Current}
	}
	return out, nil
}

// transaction is one of the history. The reference and what names people are null
// after an erasure.
type transaction struct {
	TransactionID          consent.ID        `json:"transactionId"`
	CitizenID              consent.ID        `json:"citizenId"`
	ExternalRef            consent.Text      `json:"externalRef"`
	RecordedAt             consent.Timestamp `json:"recordedAt"`
	ObtainedAt             consent.Timestamp `json:"obtainedAt"`
	Channel                consent.Text      `json:"channel"`
	Campaign               consent.Text      `json:"campaign"`
	Source                 consent.Text      `json:"source"`
	SourceSystem           consent.Text      `json:"sourceSystem"`
	SourceSystemReference  consent.Text      `json:"sourceSystemReference"`
	PrivacyPolicyID        consent.Text      `json:"privacyPolicyId"`
	PrivacyPolicyRef       consent.Text      `json:"privacyPolicyRef"`
	PermissionStatementID  consent.Text      `json:"permissionStatementId"`
	PermissionStatementRef consent.Text      `json:"permissionStatementRef"`
	RecordedBy             consent.Text      `json:"recordedBy"`
	RecordedByName         consent.Text      `json:"recordedByName"`
	RecordedClient         consent.Text      `json:"recordedClient"`
	RecordedClientName     consent.Text      `json:"recordedClientName"`
	DelegatedAuthorityID   consent.Text      `json:"delegatedAuthorityId"`
	DelegatedAuthorityName consent.Text      `json:"delegatedAuthorityName"`
	Changes                []Change          `json:"changes"`
}

func transactionOf(l store.ListedTransaction) transaction {
	e, a := l.Evidence, l.Attribution
	t := transaction{
		TransactionID: e.TransactionID, CitizenID: l.CitizenID, ExternalRef: consent.Text(l.ExternalRef),
		RecordedAt: consent.Timestamp(e.RecordedAt), ObtainedAt: consent.Timestamp(e.ObtainedAt),
		Channel: consent.Text(e.Channel), Campaign: consent.Text(e.Campaign),
		Source: consent.Text(a.Source), SourceSystem: consent.Text(a.SourceSystem), SourceSystemReference: consent.Text(a.SourceSystemReference),
		RecordedBy: consent.Text(a.RecordedBy), RecordedByName: consent.Text(a.RecordedByName),
		RecordedClient: consent.Text(e.Client.ID), RecordedClientName: consent.Text(e.Client.Name),
		DelegatedAuthorityID: consent.Text(a.DelegatedAuthorityID), DelegatedAuthorityName: consent.Text(a.DelegatedAuthorityName),
		Changes: make([]Change, len(l.Changes)),
	}
	if p := e.Policy; p != nil {
		t.PrivacyPolicyID, t.PrivacyPolicyRef = consent.Text(p.ID), consent.Text(p.Ref)
	}
	if p := e.Statement; p != nil {
		t.PermissionStatementID, t.PermissionStatementRef = consent.Text(p.ID), consent.Text(p.Ref)
	}
	for i, c := range l.Changes {
		t.Changes[i] = changeOf(c)
	}
	return t
}

// transactionList is a part of the history, in the order in which it was recorded.
type transactionList struct {
	Transactions []transaction `json:"transactions"`
	Total        *int64        `json:"total,omitempty"`
}

type listTransactionsInput struct {
	ApplicationID string  `query:"applicationId" required:"true" maxLength:"50"`
	CitizenID     idParam `query:"citizenId"`
	ExternalRef   string  `query:"externalRef" maxLength:"100"`
	Since         moment  `query:"since" doc:"Recorded at this instant or later."`
	Before        moment  `query:"before" doc:"Recorded before this instant."`
	Paging
}

func (s *server) listTransactions(ctx context.Context, actor core.Actor, in *listTransactionsInput) (transactionList, error) {
	f := store.TransactionFilter{Since: in.Since.Instant, Before: in.Before.Instant, Limit: in.Limit, Offset: in.Offset, Total: in.IncludeTotal}
	if key := (consent.CitizenKey{ID: consent.ID(in.CitizenID), ExternalRef: in.ExternalRef}); key != (consent.CitizenKey{}) {
		f.Citizen = &key
	}
	found, total, err := s.Core.Transactions(ctx, actor, in.ApplicationID, f)
	out := transactionList{make([]transaction, len(found)), in.total(total)}
	for i, l := range found {
		out.Transactions[i] = transactionOf(l)
	}
	return out, err
}
