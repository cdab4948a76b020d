package consent

import (
	"fmt"
	"reflect"
	"strings"
)

// Details are the personal details of a citizen. All are optional; an empty
// string means "not given".
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

// Citizen is a person as one application knows them.
type Citizen struct {
	ID          ID
	ExternalRef string
	Details     Details
	CreatedAt   Instant
}

// CitizenKey names a citizen of an application by id, by reference, or by both,
// which must then agree.
type CitizenKey struct {
	ID          ID
	ExternalRef string
}

// The longest reference and the longest text of a personal detail, in characters.
const (
	maxReference = 100
	maxDetail    = 200
)

// CheckExternalRef notes what is wrong with a client's own reference: 1 to 100
// characters, compared byte for byte.
func CheckExternalRef(ref string, faults *Faults) {
	CheckText(faults, "externalRef", ref, 1, maxReference)
}

// Check notes what is wrong with the details.
func (d Details) Check(faults *Faults) {
	checkTexts(faults, "", reflect.ValueOf(d))
	if d.Email != "" {
		if _, err := ParseEmail(d.Email); err != nil {
			faults.Add("email", "%v", err)
		}
	}
}

// checkTexts bounds every text field of v, whose location is its JSON name.
func checkTexts(faults *Faults, prefix string, v reflect.Value) {
	for i := range v.NumField() {
		name, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("json"), ",")
		if f := v.Field(i); f.Kind() == reflect.Struct {
			checkTexts(faults, prefix+name+".", f)
		} else {
			CheckText(faults, prefix+name, f.String(), 0, maxDetail)
		}
	}
}

// Check notes what is wrong with the texts a client claims.
func (a Attribution) Check(faults *Faults) {
	for _, f := range []struct{ name, value string }{
		{"recordedBy", a.RecordedBy},
		{"recordedByName", a.RecordedByName},
		{"delegatedAuthorityId", a.DelegatedAuthorityID},
		{"delegatedAuthorityName", a.DelegatedAuthorityName},
		{"source", a.Source},
		{"sourceSystem", a.SourceSystem},
		{"sourceSystemReference", a.SourceSystemReference},
	} {
		CheckText(faults, f.name, f.value, 0, maxDetail)
	}
}

// String keeps personal data out of logs: it gives the id alone.
func (k CitizenKey) String() string { return fmt.Sprintf("citizen %s", k.ID) }
