package api

import (
	"context"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/internal/core"
	"github.com/opencpm/opencpm/internal/store"
)

type getPermissionsInput struct {
	OfCitizen
	OptionID   string `query:"optionId" maxLength:"100" doc:"Only the entry of this option or group."`
	Expiry     string `query:"expiry" enum:"effective,latest" default:"effective" doc:"With latest, options are listed too whose last answer has expired."`
	ValidStart moment `query:"validStart" doc:"Only what is valid at this instant and still at validEnd. Default: now."`
	ValidEnd   moment `query:"validEnd" doc:"Only what is valid at validStart and still at this instant. Default: now."`
}

// effectivePermissions is the effective state of one citizen.
type effectivePermissions struct {
	ApplicationID string               `json:"applicationId"`
	CitizenID     consent.ID           `json:"citizenId"`
	ExternalRef   consent.Text         `json:"externalRef"`
	Permissions   []listedPermission   `json:"permissions" doc:"What applies: options first, then groups that were answered as groups."`
	Pending       []consent.Permission `json:"pending" doc:"PENDING answers beside a standing state; they allow nothing."`
}

// listedPermission is an entry and whether it still counts.
type listedPermission struct {
	consent.Permission
	Status string `json:"status" enum:"effective,expired" doc:"expired only where expiry=latest asks for it."`
}

func (s *server) getPermissions(ctx context.Context, actor core.Actor, in *getPermissionsInput) (effectivePermissions, error) {
	e, err := s.Core.EffectiveOf(ctx, actor, core.EffectiveQuery{
		ApplicationID: in.ApplicationID, Citizen: in.key(), OptionID: in.OptionID,
		Start: in.ValidStart.Instant, End: in.ValidEnd.Instant, Latest: in.Expiry == "latest",
	})
	list := make([]listedPermission, len(e.Permissions))
	for i, p := range e.Permissions {
		list[i] = listedPermission{p, "effective"}
		if e.Expired[i] {
			list[i].Status = "expired"
		}
	}
	return effectivePermissions{in.ApplicationID, e.CitizenID, consent.Text(e.ExternalRef), list, e.Pending}, err
}

type listEffectiveInput struct {
	OfCitizen
	Since  moment `query:"since" doc:"Changed at this instant or later."`
	Before moment `query:"before" doc:"Changed before this instant."`
	Paging
}

// citizenState is everything that applies to one citizen, in the form of the webhooks.
type citizenState struct {
	ApplicationID string                      `json:"applicationId"`
	CitizenID     consent.ID                  `json:"citizenId"`
	ExternalRef   consent.Text                `json:"externalRef"`
	Permissions   []consent.Permission        `json:"permissions"`
	Preferences   []consent.CurrentPreference `json:"preferences"`
	Sequence      int64                       `json:"sequence"`
	ChangedAt     consent.Timestamp           `json:"changedAt"`
}

type citizenStateList struct {
	Citizens []citizenState `json:"citizens" doc:"The citizens who changed, in the order of their first change in the range, each as they are now."`
	Page
}

func (s *server) listEffective(ctx context.Context, actor core.Actor, in *listEffectiveInput) (citizenStateList, error) {
	f := store.ChangedFilter{Since: in.Since.Instant, Before: in.Before.Instant, Limit: in.Limit, Offset: in.Offset, Total: in.counted()}
	if key := in.key(); key != (consent.CitizenKey{}) {
		f.Citizen = &key
	}
	if err := in.place("effective", &f.After.Major, &f.After.Minor); err != nil {
		return citizenStateList{}, err
	}
	found, total, err := s.Core.Changed(ctx, actor, in.ApplicationID, f)
	now := consent.At(time.Now())
	out := citizenStateList{make([]citizenState, len(found)), in.page("effective", len(found), total, func() []any {
		last := found[len(found)-1].Place
		return []any{last.Major, last.Minor}
	})}
	for i, v := range found {
		out.Citizens[i] = citizenState{
			in.ApplicationID, v.CitizenID, consent.Text(v.ExternalRef), v.Projection.Effective(now), v.Projection.Preferences(), v.Version, consent.Timestamp(v.ChangedAt),
		}
	}
	return out, err
}

type explainInput struct {
	OfCitizen
	OptionID string `query:"optionId" maxLength:"100" doc:"Only this option or group."`
	AsOf     moment `query:"asOf" doc:"What applied at this instant. Default: now."`
	KnownAt  moment `query:"knownAt" doc:"By what had been recorded by this instant. Default: by everything."`
}

// explained says why the state of a citizen is, or was, what it is.
type explained struct {
	ApplicationID string            `json:"applicationId"`
	CitizenID     consent.ID        `json:"citizenId"`
	ExternalRef   consent.Text      `json:"externalRef"`
	AsOf          consent.Timestamp `json:"asOf" doc:"The instant that is explained."`
	KnownAt       consent.Timestamp `json:"knownAt" doc:"Only what had been recorded by then counts; null for everything."`
	Explanations  []explanation     `json:"explanations" doc:"One for each option and group that was ever answered."`
}

type explanation struct {
	OptionType consent.OptionType  `json:"optionType"`
	OptionID   string              `json:"optionId"`
	Current    *consent.Permission `json:"current"`
	Candidates []candidate         `json:"candidates" doc:"Every answer, the earliest first by the order that decides, and what became of it."`
}

// TransformSchema says that current may be null.
func (explanation) TransformSchema(_ huma.Registry, s *huma.Schema) *huma.Schema {
	s.Properties["current"] = orNull(s.Properties["current"])
	return s
}

type candidate struct {
	consent.Permission
	Group consent.Text `json:"group" doc:"The group in whose name the option was answered; null for an answer of its own."`
	Fate  consent.Fate `json:"fate" doc:"What became of it."`
	Rule  *int         `json:"rule" doc:"The rule that decided, by its number; null for a reversion."`
	By    idOrNull     `json:"by" doc:"The record that displaced it; null where none did."`
	Why   string       `json:"why" doc:"The same in a sentence."`
}

// TransformSchema names the fates.
func (candidate) TransformSchema(_ huma.Registry, s *huma.Schema) *huma.Schema {
	for _, f := range consent.Fates {
		s.Properties["fate"].Enum = append(s.Properties["fate"].Enum, string(f))
	}
	return s
}

func (s *server) explainPermissions(ctx context.Context, actor core.Actor, in *explainInput) (explained, error) {
	e, err := s.Core.Explain(ctx, actor, core.Question{
		ApplicationID: in.ApplicationID, Citizen: in.key(), OptionID: in.OptionID, AsOf: in.AsOf.Instant, KnownAt: in.KnownAt.Instant,
	})
	out := explained{
		in.ApplicationID, e.CitizenID, consent.Text(e.ExternalRef), consent.Timestamp(e.AsOf), consent.Timestamp(in.KnownAt.Instant), make([]explanation, len(e.Explanations)),
	}
	for i, x := range e.Explanations {
		list := make([]candidate, len(x.Candidates))
		for k, w := range x.Candidates {
			list[k] = candidate{Permission: w.Permission, Group: w.Group, Fate: w.Fate, By: idOrNull{w.By}, Why: w.Why}
			if w.Rule != 0 {
				list[k].Rule = &w.Rule
			}
		}
		out.Explanations[i] = explanation{x.Key.Type, x.Key.ID, x.Current, list}
	}
	return out, err
}

// permissionConfiguration is what permissions can be given for; data are the
// channels.
type permissionConfiguration struct {
	ApplicationID string          `json:"applicationId"`
	Data          []named         `json:"data" doc:"The channels."`
	Purposes      []named         `json:"purposes"`
	Parties       []named         `json:"parties"`
	Options       []offeredOption `json:"options"`
	Groups        []offeredGroup  `json:"groups"`
}

type named struct {
	ID   string       `json:"id"`
	Name consent.Text `json:"name"`
}

type offeredOption struct {
	ID             string         `json:"id"`
	Name           consent.Text   `json:"name"`
	DataID         string         `json:"dataId" doc:"Through which channel."`
	PurposeID      string         `json:"purposeId" doc:"Why."`
	PartyID        string         `json:"partyId" doc:"Who processes."`
	Justifications []offeredBasis `json:"justifications"`
}

type offeredBasis struct {
	Justification consent.Justification `json:"justification"`
	ValidFor      consent.Text          `json:"validFor"`
}

type offeredGroup struct {
	ID      string       `json:"id"`
	Name    consent.Text `json:"name"`
	Options []string     `json:"options"`
}

func (s *server) getPermissionConfiguration(ctx context.Context, actor core.Actor, in *ApplicationQuery) (permissionConfiguration, error) {
	c, err := s.Core.Offer(ctx, actor, in.ApplicationID)
	out := permissionConfiguration{in.ApplicationID, []named{}, []named{}, []named{}, []offeredOption{}, []offeredGroup{}}
	for _, v := range c.Channels {
		out.Data = append(out.Data, named{v.ID, consent.Text(v.Name)})
	}
	for _, v := range c.Purposes {
		out.Purposes = append(out.Purposes, named{v.ID, consent.Text(v.Name)})
	}
	for _, v := range c.Parties {
		out.Parties = append(out.Parties, named{v.ID, consent.Text(v.Name)})
	}
	for _, o := range c.Options {
		option := offeredOption{o.ID, consent.Text(o.Name), o.Channel, o.Purpose, o.Party, nil}
		for _, j := range o.Justifications {
			option.Justifications = append(option.Justifications, offeredBasis{j.Basis, consent.Text(j.ValidFor)})
		}
		out.Options = append(out.Options, option)
	}
	for _, g := range c.OptionGroups {
		out.Groups = append(out.Groups, offeredGroup{g.ID, consent.Text(g.Name), g.Options})
	}
	return out, err
}
