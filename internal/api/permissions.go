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
	Expiry        string  `query:"expiry" doc:"Which entries; in this version only those that are effective, which is the default."`
	ValidStart    string  `query:"validStart" hidden:"true"`
	ValidEnd      string  `query:"validEnd" hidden:"true"`
}

// effectivePermissions is the effective state of one citizen.
type effectivePermissions struct {
	ApplicationID string               `json:"applicationId"`
	CitizenID     consent.ID           `json:"citizenId"`
	ExternalRef   consent.Text         `json:"externalRef"`
	Permissions   []consent.Permission `json:"permissions" doc:"What applies now: options first, then groups that were answered as groups."`
	Pending       []consent.Permission `json:"pending" doc:"PENDING answers beside a standing state; they allow nothing."`
}

func (s *server) getPermissions(ctx context.Context, actor core.Actor, in *getPermissionsInput) (effectivePermissions, error) {
	// To ignore a range would answer another question than the one that was asked.
	var faults consent.Faults
	if in.Expiry != "" && in.Expiry != "effective" {
		faults.Add("expiry", "must be effective: nothing else is available in this version")
	}
	for _, p := range []struct{ name, value string }{{"validStart", in.ValidStart}, {"validEnd", in.ValidEnd}} {
		if p.value != "" {
			faults.Add(p.name, "is not available in this version")
		}
	}
	if err := faults.Err(); err != nil {
		return effectivePermissions{}, err
	}
	e, err := s.Core.EffectiveOf(ctx, actor, in.ApplicationID, consent.CitizenKey{ID: consent.ID(in.CitizenID), ExternalRef: in.ExternalRef}, in.OptionID)
	return effectivePermissions{in.ApplicationID, e.CitizenID, consent.Text(e.ExternalRef), e.Permissions, e.Pending}, err
}
