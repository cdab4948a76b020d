package api

import (
	"context"

	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/internal/core"
)

type getPermissionsInput struct {
	ApplicationID string  `query:"applicationId" required:"true" maxLength:"50"`
	CitizenID     idParam `query:"citizenId"`
	ExternalRef   string  `query:"externalRef" maxLength:"100"`
	OptionID      string  `query:"optionId" maxLength:"100" doc:"Only the entry of this option or group."`
	Expiry        string  `query:"expiry" enum:"effective,latest" default:"effective" doc:"With latest, options are listed too whose last answer has expired."`
	ValidStart    moment  `query:"validStart" doc:"Only what is valid at this instant and still at validEnd. Default: now."`
	ValidEnd      moment  `query:"validEnd" doc:"Only what is valid at validStart and still at this instant. Default: now."`
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
		ApplicationID: in.ApplicationID, Citizen: consent.CitizenKey{ID: consent.ID(in.CitizenID), ExternalRef: in.ExternalRef}, OptionID: in.OptionID,
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
