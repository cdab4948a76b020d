package deliver

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"strconv"
	"time"
)

// sign adds the headers of Standard Webhooks: the id, which is the same whenever the same
// news is sent, and where there are keys the time of this attempt and a signature by each
// of them.
func sign(header http.Header, keys [][]byte, id string, at time.Time, body []byte) {
	header.Set("Webhook-Id", id)
	if len(keys) == 0 {
		return
	}
	timestamp := strconv.FormatInt(at.Unix(), 10)
	signatures := ""
	for _, key := range keys {
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte(id + "." + timestamp + "."))
		mac.Write(body)
		if signatures != "" {
			signatures += " "
		}
		signatures += "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
	}
	header.Set("Webhook-Timestamp", timestamp)
	header.Set("Webhook-Signature", signatures)
}
