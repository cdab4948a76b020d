package deliver

import (
	"net/url"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/opencpm/opencpm/internal/consent"
)

// cloudEvent is a message in the structured mode of CloudEvents 1.0.
type cloudEvent struct {
	SpecVersion     string            `json:"specversion"`
	ID              consent.ID        `json:"id"`
	Source          string            `json:"source"`
	Type            string            `json:"type"`
	Subject         string            `json:"subject,omitempty"`
	Time            consent.Timestamp `json:"time"`
	DataContentType string            `json:"datacontenttype"`
	Data            jsontext.Value    `json:"data"`
}

// envelope writes the message as it is sent: the published body, or that as the data of a
// CloudEvent. The source names the application, not the server, whose address may change.
func (m message) envelope(format consent.MessageFormat) (body []byte, contentType string, err error) {
	body, err = m.render()
	if err != nil || format != consent.CloudEventsFormat {
		return body, "application/json", err
	}
	event := cloudEvent{
		SpecVersion: "1.0", ID: m.EventID, Source: "urn:opencpm:application:" + url.PathEscape(m.ApplicationID), Type: "com.opencpm." + string(m.EventType),
		Time: m.SentAt, DataContentType: "application/json", Data: body,
	}
	if m.CitizenID != (consent.ID{}) {
		event.Subject = m.CitizenID.String()
	}
	body, err = json.Marshal(&event)
	return body, "application/cloudevents+json", err
}
