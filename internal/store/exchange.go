package store

import (
	"encoding/binary"
	"fmt"
	"io"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/klauspost/compress/s2"

	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/internal/seal"
)

// Exchange is what was sent and what was answered, without secrets.
type Exchange struct {
	URL          string              `json:"url"`
	Header       map[string][]string `json:"requestHeaders,omitempty"`
	Body         jsontext.Value      `json:"requestBody,omitempty"`
	AnswerHeader map[string][]string `json:"answerHeaders,omitempty"`
	AnswerBody   string              `json:"answerBody,omitempty"`
	Truncated    bool                `json:"truncated,omitempty"` // AnswerBody is not the whole
}

// LogKey seals what the delivery log says of a citizen, under the citizen's own key: when
// that is destroyed nobody can read it any more. The zero LogKey seals nothing, and
// nothing is kept.
type LogKey struct {
	key     *seal.Key
	citizen consent.ID
}

// String keeps the key out of logs.
func (LogKey) String() string { return "[key]" }

// GoString keeps the key out of logs.
func (LogKey) GoString() string { return "[key]" }

func logContext(citizen consent.ID, subscription int64, at consent.Instant) string {
	return fmt.Sprintf("attempt %s %d %d", citizen, subscription, int64(at))
}

// exchangeWords is what exchanges have in common: compressing and opening begin with it.
// It can never be changed, or what was kept before could not be opened.
var exchangeWords = s2.MakeDict([]byte(`"permissions":[],"preferences":[{"preference":"","choices":[{"reference":"","label":""}],"label":"","submissionId":"0199","updatedAt":"2026-"}],`+
	`"channel":"import","justification":"legitimate-interest","state":"OBJECTION_UPHELD","state":"OBJECTED","state":"CLAIMED","state":"DENIED","state":null,"optionType":"group",`+
	`"requestHeaders":{"Authorization":["[masked]"],"Content-Type":["application/json"],"Webhook-Id":[""],"Webhook-Signature":["v1,"],"Webhook-Timestamp":["17"]},`+
	`"answerHeaders":{"Content-Length":["0"],"Content-Type":["text/plain; charset=utf-8"],"Date":["Mon, Tue, Wed, Thu, Fri, Sat, Sun, Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec 2026 00:00:00 GMT"]},"answerBody":""}`+
	`"eventType":"citizen.changed","sequence":1,"changedBy":"0199","coalesced":1}{"url":"https://","sentAt":"2026-","eventId":"","externalRef":"","permissions":[`+
	`{"transactionId":"0199","optionType":"option","optionId":"","justification":"consent","state":"GRANTED","channel":"web","campaign":null,"privacyPolicyId":"pp_","privacyPolicyRef":"",`+
	`"permissionStatementId":"ps_","permissionStatementRef":"","recordedBy":null,"recordedByName":null,"recordedClient":"","recordedClientName":"","delegatedAuthorityId":null,`+
	`"delegatedAuthorityName":null,"recordedAt":"2026-T00:00:00.000Z","obtainedAt":"2026-T00:00:00.000Z","validFrom":null,"validUntil":"2028-T00:00:00.000Z"},{"applicationId":"","citizenId":"0199`), nil)

// SealExchange makes the content of an entry of the delivery log that has this
// subscription and instant. It is nil where nothing is kept.
func (s *Store) SealExchange(k LogKey, subscription int64, at consent.Instant, x Exchange) ([]byte, error) {
	if k.key == nil || s.retention.Skeleton {
		return nil, nil
	}
	body := x.Body
	x.Body = nil
	rest, err := json.Marshal(x)
	if err != nil {
		return nil, err
	}
	plain := binary.AppendUvarint(make([]byte, 0, binary.MaxVarintLen64+len(body)+len(rest)), uint64(len(body)))
	plain = append(append(plain, body...), rest...) // the body is JSON as it is
	return k.key.Seal(logContext(k.citizen, subscription, at), exchangeWords.Encode(nil, plain)), nil
}

func (k LogKey) open(subscription int64, at consent.Instant, content []byte) (*Exchange, error) {
	small, err := k.key.Open(logContext(k.citizen, subscription, at), content)
	if err != nil {
		return nil, fmt.Errorf("entry of the delivery log of citizen %s: %w", k.citizen, err)
	}
	plain, err := exchangeWords.Decode(nil, small)
	if err != nil {
		return nil, fmt.Errorf("entry of the delivery log of citizen %s: %w", k.citizen, err)
	}
	length, n := binary.Uvarint(plain)
	if n <= 0 || length > uint64(len(plain)-n) {
		return nil, fmt.Errorf("entry of the delivery log of citizen %s: %w", k.citizen, io.ErrUnexpectedEOF)
	}
	x := new(Exchange)
	rest := plain[n+int(length):]
	if err := json.Unmarshal(rest, x); err != nil {
		return nil, fmt.Errorf("entry of the delivery log of citizen %s: %w", k.citizen, err)
	}
	if length > 0 {
		x.Body = plain[n : n+int(length)]
	}
	return x, nil
}

// Trial is what came of a message that was sent to try an endpoint.
type Trial struct {
	Delivered bool
	Exchange  Exchange
	Status    int // 0: no answer
	Class     string
	Reason    string // where it was not delivered
	Took      time.Duration
}
