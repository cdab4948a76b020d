package client

import (
	"context"
	"net/http"
	"net/url"
	"time"
)

// Details are the personal details of a citizen. All are optional.
type Details struct {
	GivenName        string  `json:"givenName,omitempty"`
	AdditionalName   string  `json:"additionalName,omitempty"`
	FamilyName       string  `json:"familyName,omitempty"`
	OrganisationName string  `json:"organisationName,omitempty"`
	Email            string  `json:"email,omitempty"`
	Telephone        string  `json:"telephone,omitempty"`
	Address          Address `json:"address,omitzero"`
}

// Address is a postal address.
type Address struct {
	StreetAddress       string `json:"streetAddress,omitempty"`
	StreetAddress2      string `json:"streetAddress2,omitempty"`
	StreetAddress3      string `json:"streetAddress3,omitempty"`
	AddressLocality     string `json:"addressLocality,omitempty"`
	AddressRegion       string `json:"addressRegion,omitempty"`
	AddressCountry      string `json:"addressCountry,omitempty"`
	PostalCode          string `json:"postalCode,omitempty"`
	PostOfficeBoxNumber string `json:"postOfficeBoxNumber,omitempty"`
}

// NewCitizen is what CreateCitizen takes.
type NewCitizen struct {
	ApplicationID string `json:"applicationId"`
	ExternalRef   string `json:"externalRef"` // your own unique reference, 1 to 100 characters
	Details

	// IdempotencyKey marks repetitions of one and the same call. Where it is empty
	// the client makes one up for the repetitions of its own.
	IdempotencyKey string `json:"-"`
}

// NewCitizens is what CreateCitizens takes: 1 to 1000 citizens. The Origin holds for the
// answers of all of them.
type NewCitizens struct {
	ApplicationID string        `json:"applicationId"`
	Citizens      []BulkCitizen `json:"citizens"`

	Origin

	// IdempotencyKey marks repetitions of one and the same call. Where it is empty
	// the client makes one up for the repetitions of its own.
	IdempotencyKey string `json:"-"`
}

// BulkCitizen is one of several citizens to be created, with what they have answered so
// far.
type BulkCitizen struct {
	ExternalRef string    `json:"externalRef"`
	Changes     []Change  `json:"changes,omitempty"`
	Preferences []Answer  `json:"preferences,omitempty"`
	ObtainedAt  time.Time `json:"obtainedAt,omitzero"` // of the answers; where it is zero, as the Origin says
	Details
}

// CreatedCitizen is a citizen whom CreateCitizens created.
type CreatedCitizen struct {
	CitizenID     string `json:"citizenId"`
	ExternalRef   string `json:"externalRef"`
	TransactionID string `json:"transactionId"` // of the Changes; empty where there were none
}

// CitizenUpdate is what UpdateCitizen takes. An ExternalRef and Details that are empty
// stay as they are.
type CitizenUpdate struct {
	ApplicationID string `json:"applicationId"`
	ExternalRef   string `json:"externalRef,omitempty"`
	Details
}

// Citizen is a citizen as the server reads it out.
type Citizen struct {
	CitizenID          string               `json:"citizenId"`
	ApplicationDetails []ApplicationDetails `json:"applicationDetails"` // one element
}

// ApplicationDetails is what one application knows of a citizen.
type ApplicationDetails struct {
	ApplicationID string `json:"applicationId"`
	ExternalRef   string `json:"externalRef"`
	Details
}

// CreateCitizen creates a citizen. A reference that exists already is a Problem
// with status 409.
func (c *Client) CreateCitizen(ctx context.Context, citizen NewCitizen) (Citizen, error) {
	var out Citizen
	err := c.do(ctx, call{
		method: http.MethodPost, path: "v1/citizens",
		in: citizen, out: &out, key: idempotencyKey(citizen.IdempotencyKey),
	})
	return out, err
}

// CreateCitizens creates citizens and records their first answers: all of them, or on
// any error none. References that exist already are a Problem with status 409 that
// names every one. The answer is in the order of the request.
func (c *Client) CreateCitizens(ctx context.Context, citizens NewCitizens) ([]CreatedCitizen, error) {
	var out struct {
		Citizens []CreatedCitizen `json:"citizens"`
	}
	err := c.do(ctx, call{
		method: http.MethodPost, path: "v1/citizens/bulk",
		in: citizens, out: &out, key: idempotencyKey(citizens.IdempotencyKey),
	})
	return out.Citizens, err
}

// Citizen reads the citizen with that id. One that does not exist, or belongs to
// another application, is a Problem with status 404.
func (c *Client) Citizen(ctx context.Context, citizenID string) (Citizen, error) {
	var out Citizen
	err := c.do(ctx, call{method: http.MethodGet, path: citizenPath(citizenID), out: &out})
	return out, err
}

// CitizenByRef reads the citizen that the application knows by your reference.
func (c *Client) CitizenByRef(ctx context.Context, applicationID, externalRef string) (Citizen, error) {
	var out Citizen
	err := c.do(ctx, call{
		method: http.MethodGet, path: "v1/citizens",
		query: values("applicationId", applicationID, "externalRef", externalRef), out: &out,
	})
	return out, err
}

// Email reads the e-mail address of a citizen. Where none is known that is a Problem with
// status 404.
func (c *Client) Email(ctx context.Context, citizenID string) (string, error) {
	var out struct {
		EmailAddress string `json:"emailAddress"`
	}
	err := c.do(ctx, call{method: http.MethodGet, path: citizenPath(citizenID) + "/email", out: &out})
	return out.EmailAddress, err
}

// SetEmail sets the e-mail address of a citizen, which is the Email of the Details.
func (c *Client) SetEmail(ctx context.Context, citizenID, address string) error {
	return c.do(ctx, call{method: http.MethodPut, path: citizenPath(citizenID) + "/email", in: map[string]string{"emailAddress": address}})
}

// DeleteEmail makes the e-mail address of a citizen be forgotten.
func (c *Client) DeleteEmail(ctx context.Context, citizenID string) error {
	return c.do(ctx, call{method: http.MethodDelete, path: citizenPath(citizenID) + "/email"})
}

// CitizensByEmail finds the citizens who have exactly this e-mail address, whatever its
// capitals: the first hundred by age.
func (c *Client) CitizensByEmail(ctx context.Context, applicationID, address string) ([]Citizen, error) {
	var out struct {
		Citizens []Citizen `json:"citizens"`
	}
	err := c.do(ctx, call{
		method: http.MethodPost, path: "v1/citizens/search",
		in: map[string]string{"applicationId": applicationID, "emailAddress": address}, out: &out,
	})
	return out.Citizens, err
}

// UpdateCitizen sets the reference and the details that update gives.
func (c *Client) UpdateCitizen(ctx context.Context, citizenID string, update CitizenUpdate) (Citizen, error) {
	var out Citizen
	err := c.do(ctx, call{method: http.MethodPatch, path: citizenPath(citizenID), in: update, out: &out})
	return out, err
}

// DeleteCitizen erases a citizen for good.
func (c *Client) DeleteCitizen(ctx context.Context, citizenID string) error {
	return c.do(ctx, call{method: http.MethodDelete, path: citizenPath(citizenID)})
}

func citizenPath(id string) string { return "v1/citizens/" + url.PathEscape(id) }
