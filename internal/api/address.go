package api

import (
	"context"

	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/internal/core"
)

// emailOfCitizen is the e-mail address of a citizen.
type emailOfCitizen struct {
	CitizenID    consent.ID `json:"citizenId"`
	EmailAddress string     `json:"emailAddress" doc:"The address, in the form in which it is kept."`
}

func (s *server) getEmail(ctx context.Context, actor core.Actor, in *CitizenPath) (emailOfCitizen, error) {
	e, err := s.Core.Email(ctx, actor, consent.ID(in.CitizenID))
	return emailOfCitizen{consent.ID(in.CitizenID), e.String()}, err
}

type knownEmail struct {
	EmailAddress string `json:"emailAddress" maxLength:"200" doc:"An e-mail address, without a name or brackets."`
}

type putEmailInput struct {
	CitizenPath
	body[knownEmail]
}

func (s *server) putEmail(ctx context.Context, actor core.Actor, in *putEmailInput) (nothing, error) {
	value, request := in.read()
	return nothing{}, s.Core.SetEmail(ctx, actor, request, consent.ID(in.CitizenID), value.EmailAddress)
}

func (s *server) deleteEmail(ctx context.Context, actor core.Actor, in *CitizenPath) (nothing, error) {
	return nothing{}, s.Core.DeleteEmail(ctx, actor, consent.ID(in.CitizenID))
}

type citizenSearch struct {
	ApplicationID applicationID `json:"applicationId"`
	EmailAddress  string        `json:"emailAddress" maxLength:"200" doc:"An e-mail address, without a name or brackets."`
}

type foundCitizens struct {
	Citizens []citizen `json:"citizens" doc:"Those who have the address, at most 100."`
}

type searchCitizensInput struct{ body[citizenSearch] }

func (s *server) searchCitizens(ctx context.Context, actor core.Actor, in *searchCitizensInput) (foundCitizens, error) {
	value, request := in.read()
	found, err := s.Core.SearchCitizens(ctx, actor, request, string(value.ApplicationID), value.EmailAddress)
	out := foundCitizens{make([]citizen, len(found))}
	for i, c := range found {
		out.Citizens[i] = citizenOf(c, string(value.ApplicationID))
	}
	return out, err
}
