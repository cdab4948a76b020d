package api

import (
	"encoding/json"
	"reflect"

	"github.com/danielgtaylor/huma/v2"

	"github.com/opencpm/opencpm/internal/consent"
)

// webhookMessage is the body of a message about a citizen's state, as internal/deliver
// renders it; a test holds what is delivered to its schema.
type webhookMessage struct {
	ApplicationID string                      `json:"applicationId"`
	CitizenID     consent.ID                  `json:"citizenId"`
	ExternalRef   consent.Text                `json:"externalRef"`
	Permissions   []changedPermission         `json:"permissions"`
	Preferences   []consent.CurrentPreference `json:"preferences"`
	SentAt        consent.Timestamp           `json:"sentAt" doc:"Of a full state, when it was read for sending; of a receipt, when its change was made. Rises strictly per citizen."`
	EventID       consent.ID                  `json:"eventId" doc:"One version of one citizen's state for one subscription; the same in the header Webhook-Id and in every attempt."`
	EventType     consent.EventType           `json:"eventType" doc:"What the message is about; types may be added."`
	Sequence      int64                       `json:"sequence" doc:"The citizen's change version: strictly rising, gaps allowed."`
	ChangedBy     consent.Text                `json:"changedBy" doc:"The client that caused the last change."`
	Coalesced     int64                       `json:"coalesced" doc:"How many changes the message carries."`
	CitizenToken  *webhookToken               `json:"citizenToken,omitempty" doc:"Where the subscription asks for it: a fresh token of the citizen."`
}

// webhookToken is the citizen token of a message.
type webhookToken struct {
	Token      string            `json:"token"`
	ExpiryDate consent.Timestamp `json:"expiryDate"`
}

// documentWebhooks adds to the document what is sent to the endpoints of subscriptions.
func (s *server) documentWebhooks() {
	doc := s.huma.OpenAPI()
	doc.Webhooks = map[string]*huma.PathItem{}
	mail := doc.Components.Schemas.SchemaFromRef(doc.Components.Schemas.Schema(reflect.TypeFor[consent.CitizenEmail](), true, "").Ref)
	mail.Properties["citizenId"].Nullable = true // in a test message
	mail.Properties["action"] = &huma.Schema{AnyOf: []*huma.Schema{mail.Properties["action"], {Type: "null"}}}
	for _, w := range webhooks {
		media := &huma.MediaType{Schema: doc.Components.Schemas.Schema(w.body, true, ""), Example: json.RawMessage(w.example)}
		doc.Webhooks[string(w.update)] = &huma.PathItem{Post: &huma.Operation{
			OperationID: w.id, Tags: []string{tagSubscriptions}, Summary: w.summary, Description: w.description + webhookRules, Security: []map[string][]string{},
			Parameters: []*huma.Param{{
				Name: "Webhook-Id", In: "header", Required: true, Description: "The `eventId`.", Schema: &huma.Schema{Type: huma.TypeString, Format: "uuid"},
			}, {
				Name: "Webhook-Timestamp", In: "header", Description: "When the attempt began, in seconds since 1970; of signed messages.", Schema: &huma.Schema{Type: huma.TypeString},
			}, {
				Name: "Webhook-Signature", In: "header", Description: "Signatures after Standard Webhooks, separated by spaces; of signed messages.", Schema: &huma.Schema{Type: huma.TypeString},
			}},
			RequestBody: &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{jsonType: media}},
			Responses: map[string]*huma.Response{
				"2XX":     {Description: "Delivered. The body is not looked at."},
				"default": {Description: "Not delivered, redirects included: it is tried again until it is."},
			},
		}}
	}
}

const webhookRules = "\n\nA receiver ignores fields that it does not know."

var webhooks = []struct {
	update                   consent.UpdateType
	id, summary, description string
	body                     reflect.Type
	example                  string
}{
	{
		consent.EffectivePermission, "receiveEffectivePermission", "The full state of a citizen",
		"Sent on every change of a citizen's state: every permission and every preference, changed or not. One that existed and ended has the `state` null.",
		reflect.TypeFor[webhookMessage](), exampleFullState,
	},
	{
		consent.ConsentReceipts, "receiveConsentReceipt", "What changed of a citizen's state",
		"The same message with only what changed, one for each change, in order.",
		reflect.TypeFor[webhookMessage](), exampleFullState,
	},
	{
		consent.CitizenEmails, "receiveCitizenEmail", "An e-mail that is ready to be sent",
		"The receiver sends it once for each `Webhook-Id` and not after `action.expiresAt`, and answers 2xx once its mail system has taken it.",
		reflect.TypeFor[consent.CitizenEmail](), exampleCitizenEmail(),
	},
}

const exampleFullState = `{"applicationId": "northwind", "citizenId": "01995c3f-2a4b-7e66-b1c2-d3e4f5a6b7c8", "externalRef": "CUST-1", "permissions": [` + examplePermission + `], "preferences": [` + examplePreference + `],
	"sentAt": "2026-11-22T09:30:00.000Z", "eventId": "01995c44-0a1b-7c2d-9e3f-4a5b6c7d8e9f", "eventType": "citizen.changed", "sequence": 1, "changedBy": "01995c3e-7f1d-7d4c-8a1b-6f5e4d3c2b1a", "coalesced": 1}`

// exampleCitizenEmail is the sample as if it were about somebody.
func exampleCitizenEmail() string {
	event := consent.ID{0x01, 0x99, 0x5c, 0x44, 0x0a, 0x1b, 0x7c, 0x2d, 0x9e, 0x3f, 0x4a, 0x5b, 0x6c, 0x7d, 0x8e, 0x9f}
	const made = 1795339800_000_000 // 2026-11-22T09:30:00Z
	m := consent.SampleMail("northwind", event, made)
	m.EventType = consent.CitizenMail
	text, err := json.Marshal(&m)
	if err != nil {
		panic(err) // it is made of constants
	}
	return string(text)
}
