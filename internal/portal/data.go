package portal

import (
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/internal/core"
	"github.com/opencpm/opencpm/internal/store"
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
		{"page.email", person.Email},
		{"page.telephone", d.Telephone},
		{"page.address", join(", ", d.Address.StreetAddress, d.Address.StreetAddress2, d.Address.StreetAddress3, d.Address.PostOfficeBoxNumber, d.Address.PostalCode, d.Address.AddressLocality, d.Address.AddressRegion, d.Address.AddressCountry)},
	} {
		if v.value != "" {
			page.About = append(page.About, line{f.Say(v.name), v.value})
		}
	}
	for _, e := range person.State.Projection.Effective(consent.At(time.Now())) {
		page.Now = append(page.Now, line{f.nameIn(h.Catalogue, e.OptionType, e.OptionID), f.Say("page.state."+string(e.State)) + ". " + f.Say("page.since", "Date", f.Date(consent.Instant(e.ObtainedAt)))})
	}
	for _, a := range person.State.Projection.Preferences() {
		labels := make([]string, len(a.Choices))
		for i, c := range a.Choices {
			labels[i] = f.choiceIn(h.Catalogue, a.Preference, consent.Chosen{Reference: c.Reference, Label: string(c.Label)})
		}
		page.Now = append(page.Now, line{f.questionIn(h.Catalogue, consent.Answer{Preference: a.Preference, Label: string(a.Label)}), orName(f.speaker.List(labels), f.Say("page.nothingChosen"))})
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

// dataFile answers what is kept of a citizen, as a file to take elsewhere (GDPR art. 20).
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
		History       []pastRecord                `json:"history"`
		Emails        []sentMail                  `json:"emails"`
	}{
		ApplicationID: v.ApplicationID, CitizenID: person.Citizen.ID.String(), ExternalRef: person.Citizen.ExternalRef, Email: person.Email,
		Details: person.Citizen.Details, CreatedAt: consent.Timestamp(person.Citizen.CreatedAt),
		Permissions: person.State.Projection.Effective(consent.At(time.Now())), Preferences: person.State.Projection.Preferences(), History: make([]pastRecord, len(h.Entries)), Emails: make([]sentMail, len(h.Mails)),
	}
	for i, e := range h.Entries {
		out.History[i] = pastRecordOf(e, h)
	}
	for i, m := range h.Mails {
		out.Emails[i] = sentMail{m.Kind, m.State, consent.Timestamp(m.CreatedAt), consent.Timestamp(m.EndedAt)}
	}
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

// pastRecord is one record as a citizen takes it elsewhere.
type pastRecord struct {
	RecordedAt  consent.Timestamp `json:"recordedAt"`
	ObtainedAt  consent.Timestamp `json:"obtainedAt"`
	ByCitizen   bool              `json:"byCitizen"`
	Channel     string            `json:"channel,omitempty"`
	Visitor     *browser          `json:"visitor,omitempty"`
	Policy      *shownPolicy      `json:"privacyPolicy,omitempty"`
	Statement   consent.Localised `json:"statement,omitempty"`
	Transaction string            `json:"transactionId,omitempty"`
	Reverts     string            `json:"reverts,omitempty"`
	Changes     []recordedChange  `json:"changes,omitempty"`
	Confirms    *confirmed        `json:"confirms,omitempty"`
	Submission  string            `json:"submissionId,omitempty"`
	Answer      *consent.Answer   `json:"answer,omitempty"`
	Suppression *suppressed       `json:"suppression,omitempty"`
}

type browser struct {
	Address string `json:"address"`
	Agent   string `json:"agent,omitempty"`
}

type shownPolicy struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	URL     string `json:"url"`
}

type recordedChange struct {
	OptionType    consent.OptionType    `json:"optionType"`
	OptionID      string                `json:"optionId"`
	Justification consent.Justification `json:"justification"`
	State         consent.State         `json:"state"`
	ValidFrom     consent.Timestamp     `json:"validFrom"`
	ValidUntil    consent.Timestamp     `json:"validUntil"`
}

type confirmed struct {
	Transaction consent.ID        `json:"transactionId"` // what was answered first
	SentAt      consent.Timestamp `json:"sentAt"`
	OpenedAt    consent.Timestamp `json:"openedAt"`
}

type suppressed struct {
	Channel string `json:"channel"`
	Lifted  bool   `json:"lifted"`
}

type sentMail struct {
	Kind      consent.EmailKind  `json:"kind"`
	State     consent.EmailState `json:"state"`
	CreatedAt consent.Timestamp  `json:"createdAt"`
	EndedAt   consent.Timestamp  `json:"endedAt"`
}

func pastRecordOf(e store.Entry, h core.History) pastRecord {
	evidence := e.Evidence()
	out := pastRecord{RecordedAt: consent.Timestamp(evidence.RecordedAt), ObtainedAt: consent.Timestamp(evidence.ObtainedAt), ByCitizen: evidence.ByCitizen, Channel: evidence.Channel}
	if p, v := h.PolicyShown(evidence); v.Version != "" {
		out.Policy = &shownPolicy{p.Name, v.Version, v.URL}
	}
	if evidence.Statement != nil {
		out.Statement = h.Statements[*evidence.Statement].Text
	}
	if a := evidence.Attribution; a.VisitorAddress != "" {
		out.Visitor = &browser{a.VisitorAddress, a.VisitorAgent}
	}
	switch {
	case e.Submission != nil:
		out.Submission, out.Answer = evidence.ID.String(), &e.Submission.Answer
	case e.Suppression != nil:
		out.Suppression = &suppressed{e.Suppression.Medium, e.Suppression.Lifted}
	default:
		out.Transaction = evidence.ID.String()
		for _, c := range e.Transaction.Changes {
			out.Changes = append(out.Changes, recordedChange{c.OptionType, c.OptionID, c.Justification, c.State, consent.Timestamp(c.ValidFrom), consent.Timestamp(c.ValidUntil)})
		}
		if !e.Transaction.Reverts.IsZero() {
			out.Reverts = e.Transaction.Reverts.String()
		}
		if c := e.Transaction.Confirms; c != nil {
			out.Confirms = &confirmed{c.TransactionID, consent.Timestamp(c.SentAt), consent.Timestamp(c.OpenedAt)}
		}
	}
	return out
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
