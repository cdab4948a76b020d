package store

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"fmt"
	"io"
	"runtime"
	"sync"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

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
const exchangeWords = `"permissions":[],"preferences":[{"preference":"","kind":"","choices":[{"reference":"","label":""}],"campaign":null,"statement":null,"validFrom":null,"validUntil":null,` +
	`"channel":"import","obtainedAt":"2027-","recordedAt":"2026-","transactionId":"0199","optionType":"group","justification":"legitimate-interest","state":"OBJECTED","state":"CLAIMED","state":"DENIED",` +
	`{"optionType":"option","optionId":"","partyId":"","purposeId":"","channelId":"email","justification":"consent","state":"GRANTED","validFrom":null,"validUntil":"2028-",` +
	`{"url":"https://","requestHeaders":{"Authorization":["[masked]"],"Content-Type":["application/json"],"Webhook-Id":[""],"Webhook-Timestamp":["17"],"Webhook-Signature":["v1,"]},` +
	`"requestBody":{"applicationId":"","citizenId":"0199","externalRef":"","permissions":[{"T00:00:00.000Z"}],"preferences":[],"sentAt":"2026-","eventId":"","eventType":"citizen.changed","sequence":1,"changedBy":"","coalesced":1},` +
	`"answerHeaders":{"Content-Length":["0"],"Content-Type":["text/plain; charset=utf-8"],"Date":["Mon, Tue, Wed, Thu, Fri, Sat, Sun, Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec 2026 00:00:00 GMT"]},"answerBody":""}`

// deflaters keeps as many compressors as can work at once: they are large, and dear to
// make.
var deflaters struct {
	mu   sync.Mutex
	free []*flate.Writer
}

func takeDeflater() (*flate.Writer, error) {
	deflaters.mu.Lock()
	defer deflaters.mu.Unlock()
	if n := len(deflaters.free); n > 0 {
		w := deflaters.free[n-1]
		deflaters.free = deflaters.free[:n-1]
		return w, nil
	}
	return flate.NewWriterDict(io.Discard, 4, []byte(exchangeWords))
}

func giveDeflater(w *flate.Writer) {
	deflaters.mu.Lock()
	defer deflaters.mu.Unlock()
	if len(deflaters.free) < runtime.GOMAXPROCS(0) {
		deflaters.free = append(deflaters.free, w)
	}
}

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
	small := bytes.NewBuffer(make([]byte, 0, 1024))
	w, err := takeDeflater()
	if err != nil {
		return nil, err
	}
	defer giveDeflater(w)
	w.Reset(small)
	for _, part := range [][]byte{binary.AppendUvarint(nil, uint64(len(body))), body, rest} { // the body is JSON as it is
		if _, err := w.Write(part); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return k.key.Seal(logContext(k.citizen, subscription, at), small.Bytes()), nil
}

func (k LogKey) open(subscription int64, at consent.Instant, content []byte) (*Exchange, error) {
	small, err := k.key.Open(logContext(k.citizen, subscription, at), content)
	if err != nil {
		return nil, fmt.Errorf("entry of the delivery log of citizen %s: %w", k.citizen, err)
	}
	plain, err := io.ReadAll(flate.NewReaderDict(bytes.NewReader(small), []byte(exchangeWords)))
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
