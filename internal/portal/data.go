package portal

import (
	"cmp"
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/internal/core"
)

// dataPage is what is kept of a citizen, to read and to print.
type dataPage struct {
	frame
	About []line
	Now   []line
	Past  []past
}

// data answers what is kept of a citizen, as a page.
func (p *Portal) data(w http.ResponseWriter, r *http.Request, _ core.CentreView, f frame, c caller) {
	person, h, err := p.kept(r, c)
	if err != nil {
		p.failure(w, r, f, err)
		return
	}
	f.Title = f.Say("page.data")
	page := dataPage{frame: f}
	d := person.Citizen.Details
	for _, v := range []struct{ name, value string }{
		{"page.reference", person.Citizen.ExternalRef},
		{"page.name", join(" ", d.GivenName, d.AdditionalName, d.FamilyName, d.OrganisationName)},
		{"email", person.Email},
		{"page.telephone", d.Telephone},
		{"page.address", join(", ", d.Address.StreetAddress, d.Address.StreetAddress2, d.Address.StreetAddress3, d.Address.PostOfficeBoxNumber, d.Address.PostalCode, d.Address.AddressLocality, d.Address.AddressRegion, d.Address.AddressCountry)},
	} {
		if v.value != "" {
			page.About = append(page.About, line{f.Say(v.name), v.value})
		}
	}
	for _, e := range person.State.Projection.Effective(consent.At(time.Now())) {
		page.Now = append(page.Now, line{f.nameOf(h, e.OptionType, e.OptionID), f.Say(string(e.State)) + ". " + f.Say("page.since", "Date", f.Date(consent.Instant(e.ObtainedAt)))})
	}
	for _, a := range person.State.Projection.Preferences() {
		labels := make([]string, len(a.Choices))
		for i, c := range a.Choices {
			labels[i] = f.choiceIn(h, a.Preference, consent.Chosen{Reference: c.Reference, Label: string(c.Label)})
		}
		page.Now = append(page.Now, line{f.questionIn(h, consent.Answer{Preference: a.Preference, Label: string(a.Label)}), cmp.Or(f.speaker.List(labels), f.Say("page.nothingChosen"))})
	}
	page.Past = f.past(h)
	p.show(w, r, http.StatusOK, "data", page)
}

func join(separator string, pieces ...string) string {
	var there []string
	for _, p := range pieces {
		if p != "" {
			there = append(there, p)
		}
	}
	return strings.Join(there, separator)
}

// dataFile answers what is kept of a citizen, as a file to take elsewhere (GDPR art. 20), in
// which everything has the form that the API documents.
func (p *Portal) dataFile(w http.ResponseWriter, r *http.Request, v core.CentreView, f frame, c caller) {
	person, h, err := p.kept(r, c)
	if err != nil {
		p.failure(w, r, f, err)
		return
	}
	out := struct {
		ApplicationID string                      `json:"applicationId"`
		CitizenID     string                      `json:"citizenId"`
		ExternalRef   string                      `json:"externalRef"`
		Email         string                      `json:"email,omitempty"`
		Details       consent.Details             `json:"details"`
		CreatedAt     consent.Timestamp           `json:"createdAt"`
		Permissions   []consent.Permission        `json:"permissions"`
		Preferences   []consent.CurrentPreference `json:"preferences"`
		History       any                         `json:"history"`
		Emails        any                         `json:"emails"`
	}{
		ApplicationID: v.ApplicationID, CitizenID: person.Citizen.ID.String(), ExternalRef: person.Citizen.ExternalRef, Email: person.Email,
		Details: person.Citizen.Details, CreatedAt: consent.Timestamp(person.Citizen.CreatedAt),
		Permissions: person.State.Projection.Effective(consent.At(time.Now())), Preferences: person.State.Projection.Preferences(),
	}
	out.History, out.Emails = p.Kept(h)
	b, err := json.MarshalIndent(out, "", "  ")
	if err != nil {
		p.failure(w, r, f, err)
		return
	}
	header := w.Header()
	header.Set("Content-Type", "application/json")
	header.Set("Content-Disposition", `attachment; filename="my-data.json"`)
	header.Set("Cache-Control", "no-store")
	header.Set("X-Content-Type-Options", "nosniff")
	_, _ = w.Write(b)
}

// kept reads what is kept of a citizen.
func (p *Portal) kept(r *http.Request, c caller) (core.Person, core.History, error) {
	person, err := p.Core.Person(r.Context(), c.Actor)
	if err != nil {
		return person, core.History{}, err
	}
	h, err := p.Core.History(r.Context(), c.Actor, c.Citizen, 0, 0)
	return person, h, err
}
