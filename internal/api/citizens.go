package api

import (
	"context"

	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/internal/core"
)

// PersonalDetails are the personal details in a request.
type PersonalDetails struct {
	GivenName        optional[string]       `json:"givenName,omitempty" maxLength:"200"`
	AdditionalName   optional[string]       `json:"additionalName,omitempty" maxLength:"200"`
	FamilyName       optional[string]       `json:"familyName,omitempty" maxLength:"200"`
	OrganisationName optional[string]       `json:"organisationName,omitempty" maxLength:"200"`
	Email            optional[string]       `json:"email,omitempty" maxLength:"200"`
	Telephone        optional[string]       `json:"telephone,omitempty" maxLength:"200"`
	Address          optional[addressInput] `json:"address,omitempty"`
}

type addressInput struct {
	StreetAddress       optional[string] `json:"streetAddress,omitempty" maxLength:"200"`
	StreetAddress2      optional[string] `json:"streetAddress2,omitempty" maxLength:"200"`
	StreetAddress3      optional[string] `json:"streetAddress3,omitempty" maxLength:"200"`
	AddressLocality     optional[string] `json:"addressLocality,omitempty" maxLength:"200"`
	AddressRegion       optional[string] `json:"addressRegion,omitempty" maxLength:"200"`
	AddressCountry      optional[string] `json:"addressCountry,omitempty" maxLength:"200"`
	PostalCode          optional[string] `json:"postalCode,omitempty" maxLength:"200"`
	PostOfficeBoxNumber optional[string] `json:"postOfficeBoxNumber,omitempty" maxLength:"200"`
}

// apply writes what is given over the details: null clears, an address is merged
// field by field.
func (p *PersonalDetails) apply(d *consent.Details) {
	p.GivenName.set(&d.GivenName)
	p.AdditionalName.set(&d.AdditionalName)
	p.FamilyName.set(&d.FamilyName)
	p.OrganisationName.set(&d.OrganisationName)
	p.Email.set(&d.Email)
	p.Telephone.set(&d.Telephone)
	if p.Address.null {
		d.Address = consent.Address{}
	}
	a := p.Address.value
	a.StreetAddress.set(&d.Address.StreetAddress)
	a.StreetAddress2.set(&d.Address.StreetAddress2)
	a.StreetAddress3.set(&d.Address.StreetAddress3)
	a.AddressLocality.set(&d.Address.AddressLocality)
	a.AddressRegion.set(&d.Address.AddressRegion)
	a.AddressCountry.set(&d.Address.AddressCountry)
	a.PostalCode.set(&d.Address.PostalCode)
	a.PostOfficeBoxNumber.set(&d.Address.PostOfficeBoxNumber)
}

// newCitizen is a citizen to be created.
type newCitizen struct {
	ApplicationID applicationID `json:"applicationId"`
	ExternalRef   string        `json:"externalRef" minLength:"1" maxLength:"100"`
	PersonalDetails
}

// citizenChange is what is to be changed of a citizen.
type citizenChange struct {
	ExternalRef optional[string] `json:"externalRef,omitempty" minLength:"1" maxLength:"100"`
	PersonalDetails
}

// citizen is the published read form. A citizen belongs to one application, so the
// list has one element.
type citizen struct {
	CitizenID          consent.ID           `json:"citizenId"`
	ApplicationDetails []applicationDetails `json:"applicationDetails"`
}

type applicationDetails struct {
	ApplicationID    string       `json:"applicationId"`
	ExternalRef      string       `json:"externalRef"`
	GivenName        consent.Text `json:"givenName"`
	AdditionalName   consent.Text `json:"additionalName"`
	FamilyName       consent.Text `json:"familyName"`
	OrganisationName consent.Text `json:"organisationName"`
	Email            consent.Text `json:"email"`
	Telephone        consent.Text `json:"telephone"`
	Address          address      `json:"address"`
}

type address struct {
	StreetAddress       consent.Text `json:"streetAddress"`
	StreetAddress2      consent.Text `json:"streetAddress2"`
	StreetAddress3      consent.Text `json:"streetAddress3"`
	AddressLocality     consent.Text `json:"addressLocality"`
	AddressRegion       consent.Text `json:"addressRegion"`
	AddressCountry      consent.Text `json:"addressCountry"`
	PostalCode          consent.Text `json:"postalCode"`
	PostOfficeBoxNumber consent.Text `json:"postOfficeBoxNumber"`
}

func citizenOf(c consent.Citizen, application string) citizen {
	d, a := c.Details, c.Details.Address
	return citizen{c.ID, []applicationDetails{{
		application, c.ExternalRef,
		consent.Text(d.GivenName), consent.Text(d.AdditionalName), consent.Text(d.FamilyName), consent.Text(d.OrganisationName),
		consent.Text(d.Email), consent.Text(d.Telephone),
		address{
			consent.Text(a.StreetAddress), consent.Text(a.StreetAddress2), consent.Text(a.StreetAddress3), consent.Text(a.AddressLocality),
			consent.Text(a.AddressRegion), consent.Text(a.AddressCountry), consent.Text(a.PostalCode), consent.Text(a.PostOfficeBoxNumber),
		},
	}}}
}

type createCitizenInput struct{ body[newCitizen] }

func (s *server) createCitizen(ctx context.Context, actor core.Actor, in *createCitizenInput) (citizen, error) {
	value, request := in.read()
	application := string(value.ApplicationID)
	var d consent.Details
	value.apply(&d)
	c, err := s.Core.CreateCitizen(ctx, actor, request, application, value.ExternalRef, d)
	return citizenOf(c, application), err
}

// newCitizens are citizens to be created with their first answers. The origin is that of
// all of them.
type newCitizens struct {
	ApplicationID applicationID    `json:"applicationId"`
	Citizens      []newBulkCitizen `json:"citizens" maxItems:"1000" doc:"The citizens, 1 to 1000."`
	Origin
}

type newBulkCitizen struct {
	ExternalRef string     `json:"externalRef" minLength:"1" maxLength:"100"`
	Changes     newChanges `json:"changes,omitempty"`
	Preferences newAnswers `json:"preferences,omitempty" maxItems:"200"`
	ObtainedAt  moment     `json:"obtainedAt,omitempty"`
	PersonalDetails
}

// createdCitizens is the answer, in the order of the request.
type createdCitizens struct {
	Citizens []createdCitizen `json:"citizens" doc:"The citizens in the order of the request."`
}

type createdCitizen struct {
	CitizenID     consent.ID `json:"citizenId"`
	ExternalRef   string     `json:"externalRef"`
	TransactionID idOrNull   `json:"transactionId" doc:"What recorded the changes; null where none were given."`
}

type createCitizensInput struct{ body[newCitizens] }

func (s *server) createCitizens(ctx context.Context, actor core.Actor, in *createCitizensInput) (createdCitizens, error) {
	value, request := in.read()
	list := make([]core.NewCitizen, len(value.Citizens))
	for i := range value.Citizens {
		v := &value.Citizens[i]
		list[i] = core.NewCitizen{ExternalRef: v.ExternalRef, Changes: v.Changes.core(), Answers: v.Preferences.core(), ObtainedAt: v.ObtainedAt.Instant}
		v.apply(&list[i].Details)
	}
	made, err := s.Core.CreateCitizens(ctx, actor, request, string(value.ApplicationID), list, value.origin())
	if err != nil {
		return createdCitizens{}, err
	}
	out := createdCitizens{make([]createdCitizen, len(made))}
	for i, c := range made {
		out.Citizens[i] = createdCitizen{c.CitizenID, c.ExternalRef, idOrNull{c.TransactionID}}
	}
	return out, nil
}

type findCitizenInput struct {
	ApplicationID string `query:"applicationId" required:"true" maxLength:"50"`
	ExternalRef   string `query:"externalRef" required:"true"`
}

func (s *server) findCitizen(ctx context.Context, actor core.Actor, in *findCitizenInput) (citizen, error) {
	c, err := s.Core.CitizenByRef(ctx, actor, in.ApplicationID, in.ExternalRef)
	return citizenOf(c, in.ApplicationID), err
}

// CitizenPath names one citizen.
type CitizenPath struct {
	CitizenID idParam `path:"citizenId"`
}

func (s *server) getCitizen(ctx context.Context, actor core.Actor, in *CitizenPath) (citizen, error) {
	c, application, err := s.Core.CitizenByID(ctx, actor, consent.ID(in.CitizenID))
	return citizenOf(c, application), err
}

type changeCitizenInput struct {
	CitizenPath
	body[citizenChange]
}

func (s *server) changeCitizen(ctx context.Context, actor core.Actor, in *changeCitizenInput) (citizen, error) {
	value, request := in.read()
	c, application, err := s.Core.ChangeCitizen(ctx, actor, request, consent.ID(in.CitizenID), func(ref *string, d *consent.Details) {
		value.ExternalRef.set(ref)
		value.apply(d)
	})
	return citizenOf(c, application), err
}

func (s *server) eraseCitizen(ctx context.Context, actor core.Actor, in *CitizenPath) (nothing, error) {
	return nothing{}, s.Core.EraseCitizen(ctx, actor, consent.ID(in.CitizenID))
}
