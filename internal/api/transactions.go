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

// Origin is what a request says of a record besides its content.
type Origin struct {
	PrivacyPolicyID        string `json:"privacyPolicyId,omitempty" minLength:"1" maxLength:"100"`
	PrivacyPolicyRef       string `json:"privacyPolicyRef,omitempty" minLength:"1" maxLength:"100"`
	PermissionStatementID  string `json:"permissionStatementId,omitempty" minLength:"1" maxLength:"100"`
	PermissionStatementRef string `json:"permissionStatementRef,omitempty" minLength:"1" maxLength:"100"`
	ObtainedAt             moment `json:"obtainedAt,omitempty"`
	Channel                string `json:"channel,omitempty" maxLength:"200"`
	Campaign               string `json:"campaign,omitempty" maxLength:"200"`
	Source                 string `json:"source,omitempty" maxLength:"200"`
	SourceSystem           string `json:"sourceSystem,omitempty" maxLength:"200"`
	SourceSystemReference  string `json:"sourceSystemReference,omitempty" maxLength:"200"`
	RecordedBy             string `json:"recordedBy,omitempty" maxLength:"200"`
	RecordedByName         string `json:"recordedByName,omitempty" maxLength:"200"`
	DelegatedAuthorityID   string `json:"delegatedAuthorityId,omitempty" maxLength:"200"`
	DelegatedAuthorityName string `json:"delegatedAuthorityName,omitempty" maxLength:"200"`
}

func (o Origin) origin() core.Origin {
	return core.Origin{
		PrivacyPolicyID: o.PrivacyPolicyID, PrivacyPolicyRef: o.PrivacyPolicyRef,
		PermissionStatementID: o.PermissionStatementID, PermissionStatementRef: o.PermissionStatementRef,
		ObtainedAt: o.ObtainedAt.Instant, Channel: o.Channel, Campaign: o.Campaign,
		Attribution: consent.Attribution{
			RecordedBy: o.RecordedBy, RecordedByName: o.RecordedByName,
			DelegatedAuthorityID: o.DelegatedAuthorityID, DelegatedAuthorityName: o.DelegatedAuthorityName,
			Source: o.Source, SourceSystem: o.SourceSystem, SourceSystemReference: o.SourceSystemReference,
		},
	}
}

// newTransaction is a transaction to be recorded.
type newTransaction struct {
	ApplicationID applicationID `json:"applicationId"`
	CitizenID     consent.ID    `json:"citizenId,omitempty"`
	ExternalRef   string        `json:"externalRef,omitempty" minLength:"1" maxLength:"100"`
	Changes       newChanges    `json:"changes"`
	Origin
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

func (c newChanges) core() []consent.Change {
	changes := make([]consent.Change, len(c))
	for i, v := range c {
		changes[i] = consent.Change{
			OptionType: v.OptionType, OptionID: v.OptionID, Justification: v.Justification, State: v.State,
			ValidFrom: v.ValidFrom.Instant, ValidUntil: v.ValidUntil.Instant,
		}
	}
	return changes
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

// RecordedTransaction is the answer to a transaction that was recorded.
type RecordedTransaction struct {
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

func (s *server) recordTransaction(ctx context.Context, actor core.Actor, in *recordTransactionInput) (RecordedTransaction, error) {
	t, request := in.read()
	done, err := s.Core.Record(ctx, actor, request, core.Transaction{
		ApplicationID: string(t.ApplicationID), Citizen: consent.CitizenKey{ID: t.CitizenID, ExternalRef: t.ExternalRef},
		Changes: t.Changes.core(), Origin: t.origin(),
	})
	if err != nil {
		return RecordedTransaction{}, err
	}
	return recordedWith(done), nil
}

// recordedWith is the answer to a transaction with its changes.
func recordedWith(done core.Recorded) RecordedTransaction {
	out := recordedOf(done)
	for i, c := range done.Transaction.Changes {
		out.Changes[i] = recordedChange{changeOf(c), done.Outcomes[i].Effective, done.Outcomes[i].Current}
	}
	return out
}

// recordedOf is the answer to a transaction without its changes.
func recordedOf(done core.Recorded) RecordedTransaction {
	return RecordedTransaction{
		TransactionID: done.Transaction.ID, CitizenID: done.CitizenID, ExternalRef: consent.Text(done.ExternalRef),
		RecordedAt: consent.Timestamp(done.Transaction.RecordedAt), ObtainedAt: consent.Timestamp(done.Transaction.ObtainedAt),
		Changes: make([]recordedChange, len(done.Outcomes)), Warnings: done.Warnings,
	}
}

// recordedReversion is the answer to a reversion: its changes are those that were
// undone.
type recordedReversion struct {
	RecordedTransaction
	Reverts consent.ID `json:"reverts"`
}

// TransactionPath names one transaction.
type TransactionPath struct {
	TransactionID idParam `path:"transactionId"`
}

type revertTransactionInput struct {
	TransactionPath
	body[Origin]
}

func (s *server) revertTransaction(ctx context.Context, actor core.Actor, in *revertTransactionInput) (recordedReversion, error) {
	origin, request := in.read()
	done, err := s.Core.Revert(ctx, actor, request, core.Reversion{TransactionID: consent.ID(in.TransactionID), Origin: origin.origin()})
	if err != nil {
		return recordedReversion{}, err
	}
	out := recordedReversion{recordedOf(done), done.Transaction.Reverts}
	for i, o := range done.Outcomes {
		out.Changes[i] = recordedChange{changeOf(o.Change), o.Effective, o.Current}
	}
	return out, nil
}

// Provenance is the evidence of a record, as it is read. What names people is null
// after an erasure, and so is the reference of the citizen.
type Provenance struct {
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
}

func provenanceOf(l store.Entry) Provenance {
	e := l.Evidence()
	a := e.Attribution
	p := Provenance{
		CitizenID: l.CitizenID, ExternalRef: consent.Text(l.ExternalRef),
		RecordedAt: consent.Timestamp(e.RecordedAt), ObtainedAt: consent.Timestamp(e.ObtainedAt),
		Channel: consent.Text(e.Channel), Campaign: consent.Text(e.Campaign),
		Source: consent.Text(a.Source), SourceSystem: consent.Text(a.SourceSystem), SourceSystemReference: consent.Text(a.SourceSystemReference),
		RecordedBy: consent.Text(a.RecordedBy), RecordedByName: consent.Text(a.RecordedByName),
		RecordedClient: consent.Text(e.Client.ID), RecordedClientName: consent.Text(e.Client.Name),
		DelegatedAuthorityID: consent.Text(a.DelegatedAuthorityID), DelegatedAuthorityName: consent.Text(a.DelegatedAuthorityName),
	}
	if c := e.Policy; c != nil {
		p.PrivacyPolicyID, p.PrivacyPolicyRef = consent.Text(c.ID), consent.Text(c.Ref)
	}
	if c := e.Statement; c != nil {
		p.PermissionStatementID, p.PermissionStatementRef = consent.Text(c.ID), consent.Text(c.Ref)
	}
	return p
}

// transaction is one of the history.
type transaction struct {
	TransactionID consent.ID `json:"transactionId"`
	Reverts       idOrNull   `json:"reverts"`
	Provenance
	Changes []Change `json:"changes"`
}

func transactionOf(l store.Entry) transaction {
	t := transaction{l.Transaction.ID, idOrNull{l.Transaction.Reverts}, provenanceOf(l), make([]Change, len(l.Transaction.Changes))}
	for i, c := range l.Transaction.Changes {
		t.Changes[i] = changeOf(c)
	}
	return t
}

// transactionList is a part of the history, in the order in which it was recorded.
type transactionList struct {
	Transactions []transaction `json:"transactions"`
	Page
}

// RecordsInput asks for a part of the history.
type RecordsInput struct {
	ApplicationID string  `query:"applicationId" required:"true" maxLength:"50"`
	CitizenID     idParam `query:"citizenId"`
	ExternalRef   string  `query:"externalRef" maxLength:"100"`
	Since         moment  `query:"since" doc:"Recorded at this instant or later."`
	Before        moment  `query:"before" doc:"Recorded before this instant."`
	Paging
}

// filter says the same to the store.
func (in *RecordsInput) filter(list string) (store.RecordFilter, error) {
	f := store.RecordFilter{Since: in.Since.Instant, Before: in.Before.Instant, Limit: in.Limit, Offset: in.Offset, Total: in.counted()}
	if key := (consent.CitizenKey{ID: consent.ID(in.CitizenID), ExternalRef: in.ExternalRef}); key != (consent.CitizenKey{}) {
		f.Citizen = &key
	}
	return f, in.place(list, &f.After.RecordedAt, (*idParam)(&f.After.ID))
}

func (in *RecordsInput) pageOf(list string, found []store.Entry, total int64) Page {
	return in.page(list, len(found), total, func() []any {
		last := found[len(found)-1].Evidence()
		return []any{int64(last.RecordedAt), last.ID}
	})
}

func (s *server) listTransactions(ctx context.Context, actor core.Actor, in *RecordsInput) (transactionList, error) {
	f, err := in.filter("transactions")
	if err != nil {
		return transactionList{}, err
	}
	found, total, err := s.Core.Transactions(ctx, actor, in.ApplicationID, f)
	out := transactionList{make([]transaction, len(found)), in.pageOf("transactions", found, total)}
	for i, l := range found {
		out.Transactions[i] = transactionOf(l)
	}
	return out, err
}
