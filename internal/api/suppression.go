package api

import (
	"context"

	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/internal/core"
	"github.com/opencpm/opencpm/internal/store"
)

// ListedAddress is an address on the do-not-contact list: one of the two.
type ListedAddress struct {
	EmailAddress string `json:"emailAddress,omitempty" maxLength:"200" doc:"An e-mail address, without a name or brackets."`
	Telephone    string `json:"telephone,omitempty" maxLength:"200" doc:"A telephone number with its country, such as +44 20 7946 0018."`
}

func (v ListedAddress) core() core.ListedAddress {
	return core.ListedAddress{Email: v.EmailAddress, Telephone: v.Telephone}
}

// suppressionRequest is an address to be put on the list.
type suppressionRequest struct {
	ApplicationID applicationID `json:"applicationId"`
	ListedAddress
	Channels []string `json:"channels,omitempty" maxItems:"100" doc:"The channels on which it must not be contacted, by id. None means every channel that the application has now."`
	Reason   string   `json:"reason,omitempty" maxLength:"200" doc:"Why."`
	Source   string   `json:"source,omitempty" maxLength:"200" doc:"Where the wish came from."`
}

// suppression is an entry of the do-not-contact list.
type suppression struct {
	ID         consent.ID          `json:"id" doc:"The entry."`
	Kind       consent.ContactKind `json:"kind" enum:"email,telephone" doc:"What kind of address it is."`
	Address    string              `json:"address" doc:"The address, masked."`
	Channel    string              `json:"channel" doc:"The channel on which it must not be contacted, by id."`
	Reason     consent.Text        `json:"reason" doc:"Why."`
	Source     consent.Text        `json:"source" doc:"Where the wish came from."`
	CreatedAt  consent.Timestamp   `json:"createdAt"`
	CreatedBy  string              `json:"createdBy"`
	LiftedAt   consent.Timestamp   `json:"liftedAt" doc:"When it was lifted; null while it is in force."`
	LiftedBy   consent.Text        `json:"liftedBy" doc:"Who lifted it."`
	LiftReason consent.Text        `json:"liftReason" doc:"Why it was lifted."`
}

func suppressionsOf(list []store.Suppressed) []suppression {
	out := make([]suppression, len(list))
	for i, v := range list {
		out[i] = suppression{
			v.ID, v.Contact.Kind, v.Contact.Masked(), v.Channel, consent.Text(v.Reason), consent.Text(v.Source),
			consent.Timestamp(v.CreatedAt), v.CreatedBy.ID, consent.Timestamp(v.LiftedAt), consent.Text(v.LiftedBy.ID), consent.Text(v.LiftReason),
		}
	}
	return out
}

type foundSuppressions struct {
	Suppressions []suppression `json:"suppressions" doc:"The entries, one for each channel."`
}

type createSuppressionInput struct{ body[suppressionRequest] }

func (s *server) createSuppression(ctx context.Context, actor core.Actor, in *createSuppressionInput) (foundSuppressions, error) {
	v, request := in.read()
	made, err := s.Core.Suppress(ctx, actor, request, core.NewSuppression{
		ApplicationID: string(v.ApplicationID), Address: v.core(), Channels: v.Channels, Reason: v.Reason, Source: v.Source,
	})
	return foundSuppressions{suppressionsOf(made)}, err
}

type suppressionList struct {
	Suppressions []suppression `json:"suppressions" doc:"The entries, the newest first."`
	Page
}

type listSuppressionsInput struct {
	ApplicationID string `query:"applicationId" required:"true" maxLength:"50"`
	Paging
}

func (s *server) listSuppressions(ctx context.Context, actor core.Actor, in *listSuppressionsInput) (suppressionList, error) {
	var before int64
	if err := in.place("suppressions", &before); err != nil {
		return suppressionList{}, err
	}
	found, total, err := s.Core.Suppressions(ctx, actor, in.ApplicationID, before, in.Limit, in.Offset)
	return suppressionList{
		suppressionsOf(found), in.page("suppressions", len(found), total, func() []any { return []any{found[len(found)-1].Number} }),
	}, err
}

type suppressionSearch struct {
	ApplicationID applicationID `json:"applicationId"`
	ListedAddress
}

type searchSuppressionsInput struct{ body[suppressionSearch] }

func (s *server) searchSuppressions(ctx context.Context, actor core.Actor, in *searchSuppressionsInput) (foundSuppressions, error) {
	v, request := in.read()
	found, err := s.Core.SuppressionsOf(ctx, actor, request, string(v.ApplicationID), v.core())
	return foundSuppressions{suppressionsOf(found)}, err
}

type suppressionPath struct {
	ID idParam `path:"id" doc:"The entry."`
}

func (s *server) liftSuppression(ctx context.Context, actor core.Actor, in *suppressionPath) (nothing, error) {
	return nothing{}, s.Core.LiftSuppression(ctx, actor, consent.ID(in.ID))
}

// pastSuppression is the record that the address of a citizen was put on the list or taken
// off it.
type pastSuppression struct {
	RecordID   consent.ID        `json:"recordId" doc:"The record, which explanations name."`
	EntryID    consent.ID        `json:"entryId" doc:"The entry of the do-not-contact list."`
	Channel    namedThing        `json:"channel"`
	Lifted     bool              `json:"lifted" doc:"The address was taken off the list, or is no longer the citizen's."`
	RecordedAt consent.Timestamp `json:"recordedAt"`
	By         string            `json:"by" doc:"Who changed the list; opencpm where it followed from a change of the address."`
	ByName     string            `json:"byName" doc:"The name of who did."`
}

func pastSuppressionOf(s *consent.Snapshot, v *consent.Suppression) *pastSuppression {
	return &pastSuppression{v.ID, v.Entry, *channelOf(s.Channel(v.Medium)), v.Lifted, consent.Timestamp(v.RecordedAt), v.Client.ID, v.Client.Name}
}
