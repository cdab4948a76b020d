package e2e_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/opencpm/opencpm/test/harness"
)

// deliveries reads the log of a subscription, the newest first.
func (w *world) deliveries(t testing.TB, id string, more ...string) []object {
	t.Helper()
	return w.api.do(t, "GET", query("/v1/subscriptions/"+id+"/deliveries", more...), nil).want(t, 200).list(t, "deliveries")
}

// awaitDeliveries waits until the log has so many entries.
func (w *world) awaitDeliveries(t testing.TB, id string, n int, more ...string) (list []object) {
	t.Helper()
	eventually(t, harness.Patience, "the log has its entries", func() bool {
		list = w.deliveries(t, id, more...)
		return len(list) >= n
	})
	return list
}

func TestDeliveryLog(t *testing.T) {
	harness.OnEachStore(t, func(t *testing.T, s *harness.Store) {
		r := harness.NewReceiver(t)
		w := start(t, s, northwind, impatient...)
		const secret = "planted-token-0123456789"
		id := w.subscribe(t, r.URL+"/hook", object{"authType": "token", "token": secret, "headers": object{"X-Static": "planted-static-0123456789"}}).text(t, "id")
		at := "/v1/subscriptions/" + id
		r.Respond(func(rw http.ResponseWriter, m *harness.Message) {
			rw.Header().Set("X-Echo", m.Header.Get("Authorization"))
			if m.ExternalRef == "CUST-2" {
				rw.WriteHeader(http.StatusTeapot)
			}
			_, _ = rw.Write([]byte("you sent " + m.Header.Get("X-Static") + "\x1b[0m"))
		})
		citizen := w.record(t, "CUST-1", change("newsletter-email", "consent", "GRANTED")).text(t, "citizenId")
		w.record(t, "CUST-2", change("newsletter-email", "consent", "GRANTED"))
		w.awaitDeliveries(t, id, 3, "externalRef", "CUST-2")
		accepted := w.awaitDeliveries(t, id, 1, "citizenId", citizen)[0]
		if accepted["outcome"] != "delivered" || accepted["statusCode"] != 200.0 || accepted["citizenId"] != citizen || accepted["attempt"] != 1.0 {
			t.Errorf("logged as %v", accepted)
		}

		t.Run("one entry", func(t *testing.T) {
			a := w.api.do(t, "GET", at+"/deliveries/"+accepted["id"].(string), nil).want(t, 200)
			if strings.Contains(string(a.raw), "planted") {
				t.Errorf("a secret is shown: %s", a.raw)
			}
			if a.at("state") != "delivered" || a.at("request.body.externalRef") != "CUST-1" || a.at("answer.body") != `you sent [masked]\u001b[0m` || a.at("request.url") != r.URL+"/hook" {
				t.Errorf("read %s", a.raw)
			}
			for _, unknown := range []string{"0000000000000001", "x", "ffffffffffffffff"} {
				w.api.do(t, "GET", at+"/deliveries/"+unknown, nil).want(t, 404)
			}
		})

		t.Run("search", func(t *testing.T) {
			for _, search := range []struct {
				want  int
				pairs string
			}{
				{1, "outcome delivered"},
				{2, "outcome retrying"},
				{0, "statusCode 0"},
				{1, "statusCode 200"},
				{1, "eventId " + accepted["eventId"].(string)},
				{0, "before " + ago(time.Hour)},
				{0, "since " + ahead(time.Hour)},
				{1, "outcome delivered since " + ago(time.Hour) + " before " + ahead(time.Hour)},
			} {
				if got := w.deliveries(t, id, strings.Fields(search.pairs)...); len(got) != search.want {
					t.Errorf("%s: %d entries, want %d", search.pairs, len(got), search.want)
				}
			}
			seen, cursor := map[any]bool{}, ""
			for more := true; more; more = cursor != "" {
				pairs := []string{"externalRef", "CUST-2", "limit", "2", "outcome", "retrying"}
				if cursor != "" {
					pairs = append(pairs, "cursor", cursor)
				}
				a := w.api.do(t, "GET", query(at+"/deliveries", pairs...), nil).want(t, 200)
				for _, d := range a.list(t, "deliveries") {
					seen[d["id"]] = true
				}
				cursor, _ = a.at("nextCursor").(string)
			}
			if len(seen) != 2 {
				t.Errorf("%d entries by pages", len(seen))
			}
		})

		t.Run("what waits", func(t *testing.T) {
			list := w.api.do(t, "GET", at+"/waiting", nil).want(t, 200).list(t, "waiting")
			if len(list) != 1 || list[0]["reason"] != "the endpoint answered 418" || list[0]["changes"] != 1.0 {
				t.Errorf("listed %v", list)
			}
			a := w.api.do(t, "GET", at, nil).want(t, 200)
			if a.at("waiting.stored") != 1.0 || a.at("latency.attempts").(float64) < 4 || a.at("latency.p50Ms") == nil || a.at("waiting.oldestSeconds") == nil {
				t.Errorf("read %s", a.raw)
			}
		})

		t.Run("deliver one again", func(t *testing.T) {
			before := len(r.Messages("CUST-1"))
			w.api.do(t, "POST", at+"/redeliver", object{"deliveryId": accepted["id"]}).want(t, 202)
			again := r.AwaitCount(t, "CUST-1", before+1)
			if again[before].EventID != again[0].EventID || !again[before].SentAt.After(again[0].SentAt) {
				t.Errorf("came again as %s", again[before].Raw)
			}
			w.api.do(t, "POST", at+"/redeliver", object{}).want(t, 422)
			w.api.do(t, "POST", at+"/redeliver", object{"deliveryId": "x"}).want(t, 404)
		})

		t.Run("test message", func(t *testing.T) {
			a := w.api.do(t, "POST", at+"/test", nil).want(t, 200)
			if a.at("accepted") != true || a.at("request.body.eventType") != "test" || strings.Contains(string(a.raw), "planted") {
				t.Errorf("answered %s", a.raw)
			}
			settings := w.subscription(r.URL+"/other", object{"authType": "token", "token": secret})
			if a := w.api.do(t, "POST", "/v1/subscriptions/test", settings).want(t, 200); a.at("statusCode") != 200.0 {
				t.Errorf("answered %s", a.raw)
			}
			w.api.do(t, "POST", "/v1/subscriptions/test", w.subscription("http://10.0.0.1/")).want(t, 422)
		})

		t.Run("resync", func(t *testing.T) {
			r.Respond(harness.Answer(http.StatusNoContent))
			before := len(r.Messages("CUST-1"))
			job := w.api.do(t, "POST", at+"/resync", object{"ratePerSecond": 100}).want(t, 202)
			ended := w.ended(t, job.at("job.id").(string))
			if ended.at("state") != "done" || ended.at("progress.done") != 2.0 || ended.at("progress.total") != 2.0 {
				t.Errorf("ended as %s", ended.raw)
			}
			came := r.AwaitCount(t, "CUST-1", before+1)
			if body(t, came[before])["eventType"] != "resync" {
				t.Errorf("came %s", came[before].Raw)
			}
			receipts := w.subscribe(t, r.URL+"/receipts", object{"updateType": "consent-receipts"}).text(t, "id")
			w.api.do(t, "POST", "/v1/subscriptions/"+receipts+"/resync", object{}).want(t, 422)
			w.api.do(t, "DELETE", "/v1/subscriptions/"+receipts, nil).want(t, 204)
		})

		t.Run("discard and deliver many", func(t *testing.T) {
			r.Respond(harness.Answer(http.StatusInternalServerError))
			began := ago(0)
			third := w.record(t, "CUST-3", change("newsletter-email", "consent", "GRANTED")).text(t, "citizenId")
			w.record(t, "CUST-4", change("newsletter-email", "consent", "GRANTED"))
			w.awaitDeliveries(t, id, 1, "externalRef", "CUST-3", "outcome", "waiting")
			if a := w.api.do(t, "POST", at+"/discard", object{"citizenId": third}).want(t, 202); a.at("messages") != 1.0 {
				t.Errorf("discarded %s", a.raw)
			}
			entry := w.awaitDeliveries(t, id, 1, "externalRef", "CUST-3", "outcome", "discarded")[0]
			if a := w.api.do(t, "GET", at+"/deliveries/"+entry["id"].(string), nil).want(t, 200); a.at("state") != "discarded" || a.at("request") != nil {
				t.Errorf("read %s", a.raw)
			}
			w.awaitDeliveries(t, id, 1, "externalRef", "CUST-4", "outcome", "waiting")
			w.ended(t, w.api.do(t, "POST", at+"/redeliver", object{"since": began}).want(t, 202).at("job.id").(string))
			ended := w.ended(t, w.api.do(t, "POST", at+"/discard", object{"all": true}).want(t, 202).at("job.id").(string))
			if ended.at("state") != "done" || ended.at("progress.done").(float64) < 1 {
				t.Errorf("ended as %s", ended.raw)
			}
			if list := w.api.do(t, "GET", at+"/waiting", nil).want(t, 200).list(t, "waiting"); len(list) != 0 {
				t.Errorf("still waiting: %v", list)
			}
			w.api.do(t, "POST", at+"/discard", object{}).want(t, 422)
			w.api.do(t, "POST", at+"/discard", object{"all": true, "citizenId": third}).want(t, 422)
		})

		t.Run("an erasure", func(t *testing.T) {
			w.api.do(t, "DELETE", "/v1/citizens/"+citizen, nil).want(t, 204)
			a := w.api.do(t, "GET", at+"/deliveries/"+accepted["id"].(string), nil).want(t, 200)
			if a.at("request") != nil || a.at("answer") != nil || a.at("citizenId") != citizen || strings.Contains(string(a.raw), "CUST-1") {
				t.Errorf("read %s", a.raw)
			}
		})
	})
}
