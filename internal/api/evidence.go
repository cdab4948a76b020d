package api

import (
	"cmp"
	"context"
	"encoding/hex"
	"slices"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"

	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/internal/core"
)

// evidence is the export of everything that proves a citizen's permissions. Its records
// have the fields and names of ISO/IEC TS 27560:2023.
type evidence struct {
	ApplicationID string            `json:"applicationId"`
	CitizenID     consent.ID        `json:"citizenId"`
	ExternalRef   consent.Text      `json:"externalRef"`
	GeneratedAt   consent.Timestamp `json:"generatedAt" doc:"When the export was made."`
	Records       []consentRecord   `json:"records" doc:"One consent record for each option that was ever answered."`
	Suppressions  []pastSuppression `json:"suppressions" doc:"When an address of the citizen was put on the do-not-contact list, and taken off it."`
	Emails        []sentMail        `json:"emails" doc:"The mails that asked the citizen to confirm, and others, the newest first."`
	Chain         []link            `json:"chain" doc:"The chain of the citizen's records in the ledger."`
}

type link struct {
	Seq      int64      `json:"seq" doc:"Its place in the chain of the citizen's records, from 1."`
	RecordID consent.ID `json:"recordId" doc:"The transaction, submission or suppression."`
	Hash     string     `json:"hash" doc:"SHA-256 over the record as it is stored and the hash before it, in hexadecimal."`
}

type consentRecord struct {
	SchemaVersion  string          `json:"schema_version" doc:"The form of the record."`
	RecordID       consent.ID      `json:"record_id" doc:"The record; always the same for a citizen and an option."`
	PIIPrincipalID consent.ID      `json:"pii_principal_id" doc:"The citizen."`
	PIIProcessing  piiProcessing   `json:"pii_processing" doc:"What the permission is for, as the catalogue has it now."`
	Parties        []recordedParty `json:"party_identification" doc:"Who processes."`
	Events         []consentEvent  `json:"events" doc:"What was decided, in the order in which it was recorded."`
}

type piiProcessing struct {
	OptionID string          `json:"option_id" doc:"The option."`
	Service  consent.Text    `json:"service" doc:"What the option is called."`
	Purposes []recordPurpose `json:"purposes" doc:"The purposes; always one."`
}

type recordPurpose struct {
	Purpose          consent.Text `json:"purpose" doc:"The purpose in words."`
	PurposeID        consent.Text `json:"purpose_id" doc:"The purpose, by id."`
	PurposeType      consent.Text `json:"purpose_type" enum:"direct-marketing,other" doc:"Whether the purpose is direct marketing."`
	PIIControllers   []string     `json:"pii_controllers" doc:"Who decides about the processing, by party_id."`
	ProcessingMethod consent.Text `json:"processing_method" doc:"The channel."`
}

type recordedParty struct {
	PartyID   string `json:"party_id" doc:"The party, by id."`
	PartyName string `json:"party_name" doc:"The name of the party."`
	PartyRole string `json:"party_role" enum:"pii-controller" doc:"Its part in the processing."`
}

type consentEvent struct {
	EventTime        consent.Timestamp     `json:"event_time" doc:"When it was decided."`
	EventType        string                `json:"event_type" enum:"transaction,reversion" doc:"What was recorded."`
	EventState       string                `json:"event_state" enum:"requested,given,refused,withdrawn,claimed,objected,objection-upheld,reverted" doc:"What was decided."`
	LawfulBasis      consent.Justification `json:"lawful_basis" doc:"The lawful basis (GDPR art. 6)."`
	State            consent.State         `json:"state"`
	ValidFrom        consent.Timestamp     `json:"valid_from" doc:"From when it holds; null for at once."`
	ValidUntil       consent.Timestamp     `json:"valid_until" doc:"Until when it holds; null for without end."`
	RecordedAt       consent.Timestamp     `json:"recorded_at" doc:"When the server recorded it."`
	TransactionID    consent.ID            `json:"transaction_id" doc:"The transaction."`
	Reverts          idOrNull              `json:"reverts"`
	Group            consent.Text          `json:"group" doc:"The group in whose name the option was answered; null for an answer of its own."`
	CollectionMethod consent.Text          `json:"collection_method" doc:"How the decision reached the company."`
	EntityID         consent.Text          `json:"entity_id" doc:"Who recorded it: as the client says, or else the client."`
	EntityName       consent.Text          `json:"entity_name" doc:"The name of who recorded it."`
	OnBehalfOf       consent.Text          `json:"on_behalf_of" doc:"On whose behalf it was recorded."`
	ByCitizen        bool                  `json:"by_principal" doc:"Whether the citizen did it in person."`
	Confirms         *confirmation         `json:"confirms" doc:"How a sign-up was confirmed, where this does it."`
	Visitor          *visitor              `json:"visitor" doc:"The browser of the citizen, where they acted in person or signed up; null after an erasure."`
	Shown            documents             `json:"shown" doc:"What was shown when it was obtained: the privacy notice and the statement."`
}

// TransformSchema says that few have both.
func (consentEvent) TransformSchema(_ huma.Registry, s *huma.Schema) *huma.Schema {
	s.Properties["confirms"], s.Properties["visitor"] = orNull(s.Properties["confirms"]), orNull(s.Properties["visitor"])
	return s
}

type getEvidenceInput struct{ CitizenPath }

func (s *server) getEvidence(ctx context.Context, actor core.Actor, in *getEvidenceInput) (evidence, error) {
	return s.evidenceOf(ctx, actor, consent.ID(in.CitizenID))
}

func (s *server) getOwnEvidence(ctx context.Context, actor core.Actor, _ *struct{}) (evidence, error) {
	return s.evidenceOf(ctx, actor, actor.Citizen)
}

func (s *server) evidenceOf(ctx context.Context, actor core.Actor, citizen consent.ID) (evidence, error) {
	h, err := s.Core.History(ctx, actor, citizen, 0, 0)
	if err != nil {
		return evidence{}, err
	}
	out := evidence{
		ApplicationID: h.ApplicationID, CitizenID: citizen, ExternalRef: consent.Text(h.ExternalRef), GeneratedAt: consent.Timestamp(consent.At(time.Now())),
		Records: []consentRecord{}, Suppressions: []pastSuppression{}, Emails: emailsIn(h), Chain: make([]link, len(h.Entries)),
	}
	events := map[string][]consentEvent{}
	for i, e := range h.Entries {
		out.Chain[i] = link{e.Seq, e.Evidence().ID, hex.EncodeToString(e.Hash)}
		switch {
		case e.Transaction != nil:
			addEvents(events, e.Transaction, shownWith(h, e.Evidence()))
		case e.Suppression != nil:
			out.Suppressions = append(out.Suppressions, *pastSuppressionOf(h.Snapshot, e.Suppression))
		}
	}
	for option, list := range events {
		out.Records = append(out.Records, recordOf(h.Snapshot, out.CitizenID, option, list))
	}
	slices.SortFunc(out.Records, func(a, b consentRecord) int { return cmp.Compare(a.PIIProcessing.OptionID, b.PIIProcessing.OptionID) })
	return out, nil
}

// recordOf is the consent record of one option.
func recordOf(s *consent.Snapshot, citizen consent.ID, optionID string, events []consentEvent) consentRecord {
	a := s.About(consent.Key{Type: consent.OptionSingle, ID: optionID})
	kind := "other"
	if a.Purpose.DirectMarketing {
		kind = "direct-marketing"
	}
	return consentRecord{
		SchemaVersion: "ISO/IEC TS 27560:2023", RecordID: consent.ID(uuid.NewSHA1(uuid.UUID(citizen), []byte(optionID))), PIIPrincipalID: citizen,
		PIIProcessing: piiProcessing{optionID, consent.Text(a.Option.Name), []recordPurpose{{
			consent.Text(a.Purpose.Name), consent.Text(a.Purpose.ID), consent.Text(kind), []string{a.Party.ID}, consent.Text(a.Channel.Name),
		}}},
		Parties: []recordedParty{{a.Party.ID, a.Party.Name, "pii-controller"}}, Events: events,
	}
}

// addEvents adds a transaction to the events of the options that it answered. Those of
// a reversion are the events that it undid, again.
func addEvents(events map[string][]consentEvent, t *consent.Transaction, shown documents) {
	e, a := t.Evidence, t.Attribution
	event := consentEvent{
		EventTime: consent.Timestamp(e.ObtainedAt), EventType: "transaction", RecordedAt: consent.Timestamp(e.RecordedAt), TransactionID: e.ID,
		Reverts: idOrNull{t.Reverts}, CollectionMethod: consent.Text(e.Channel), ByCitizen: e.ByCitizen,
		EntityID: consent.Text(cmp.Or(a.RecordedBy, e.Client.ID)), EntityName: consent.Text(cmp.Or(a.RecordedByName, e.Client.Name)),
		OnBehalfOf: consent.Text(cmp.Or(a.DelegatedAuthorityName, a.DelegatedAuthorityID)), Confirms: confirmationOf(t.Confirms), Visitor: visitorIn(a), Shown: shown,
	}
	if !t.Reverts.IsZero() {
		for option, list := range events {
			for _, undone := range list {
				if undone.TransactionID == t.Reverts {
					again := event
					again.EventType, again.EventState, again.LawfulBasis, again.State, again.Group = "reversion", "reverted", undone.LawfulBasis, undone.State, undone.Group
					events[option] = append(events[option], again)
				}
			}
		}
		return
	}
	for _, c := range t.Changes {
		event.LawfulBasis, event.State, event.ValidFrom = c.Justification, c.State, consent.Timestamp(c.ValidFrom)
		if c.Upheld {
			event.State = consent.ObjectionUpheld
		}
		add := func(option, group string, until consent.Instant) {
			event.Group, event.ValidUntil = consent.Text(group), consent.Timestamp(until)
			event.EventState = eventState(events[option], event.State)
			events[option] = append(events[option], event)
		}
		if c.OptionType == consent.OptionSingle {
			add(c.OptionID, "", c.ValidUntil)
		}
		for _, m := range c.Covers {
			add(m.OptionID, c.OptionID, m.ValidUntil)
		}
	}
}

// eventState says in the words of the standard what a state means after earlier events:
// a refusal of what had been given is its withdrawal.
func eventState(earlier []consentEvent, s consent.State) string {
	switch s {
	case consent.Granted:
		return "given"
	case consent.Pending:
		return "requested"
	case consent.Claimed:
		return "claimed"
	case consent.Objected:
		return "objected"
	case consent.ObjectionUpheld:
		return "objection-upheld"
	}
	if slices.ContainsFunc(earlier, func(e consentEvent) bool { return e.EventState == "given" }) {
		return "withdrawn"
	}
	return "refused"
}
