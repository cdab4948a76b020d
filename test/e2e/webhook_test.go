package e2e_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/opencpm/opencpm/test/harness"
)

const (
	quickSpan     = 150 * time.Millisecond // from the first attempt to the third: 50 ms and 100 ms
	retryInterval = 2 * time.Second        // instead of an hour
	settled       = time.Second            // nothing that is due at once takes so long
)

// impatient makes a server that may call loopback, and retries in seconds rather than hours.
var impatient = []string{
	"--webhook-allow-net", "127.0.0.0/8", "--webhook-quick-delays", "50ms,100ms", "--webhook-retry-interval", retryInterval.String(),
}

// The published payload: always all of these keys. Those of ours come on top.
var (
	payloadKeys = []string{"applicationId", "citizenId", "externalRef", "permissions", "preferences", "sentAt"}
	ourKeys     = []string{"eventId", "eventType", "sequence", "changedBy"}
	// coalesced and citizenToken are promised for some messages only.
	optionalKeys   = []string{"coalesced", "citizenToken"}
	permissionKeys = []string{
		"transactionId", "optionType", "optionId", "justification", "state", "channel", "campaign",
		"privacyPolicyId", "privacyPolicyRef", "permissionStatementId", "permissionStatementRef",
		"recordedBy", "recordedByName", "recordedClient", "recordedClientName",
		"delegatedAuthorityId", "delegatedAuthorityName", "recordedAt", "obtainedAt", "validFrom", "validUntil",
	}
)

var milliseconds = regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$`)

// body reads a message as a stranger does, and holds what is promised of every one.
func body(t testing.TB, m harness.Message) object {
	t.Helper()
	var o object
	if err := json.Unmarshal(m.Raw, &o); err != nil {
		t.Fatal(err)
	}
	for _, key := range optionalKeys {
		delete(o, key)
	}
	if got, want := slices.Sorted(maps.Keys(o)), slices.Sorted(slices.Values(slices.Concat(payloadKeys, ourKeys))); !slices.Equal(got, want) {
		t.Errorf("the payload has the keys\n%v, want\n%v", got, want)
	}
	for _, key := range []string{"permissions", "preferences"} {
		if _, ok := o[key].([]any); !ok {
			t.Errorf("%s is %v, want an array", key, o[key])
		}
	}
	list, _ := o["permissions"].([]any)
	for _, p := range list {
		permission := p.(object)
		if got, want := slices.Sorted(maps.Keys(permission)), slices.Sorted(slices.Values(permissionKeys)); !slices.Equal(got, want) {
			t.Errorf("a permission has the keys\n%v, want\n%v", got, want)
		}
		for _, key := range []string{"recordedAt", "obtainedAt", "validFrom", "validUntil"} {
			if at, ok := permission[key].(string); permission[key] != nil && (!ok || !milliseconds.MatchString(at)) {
				t.Errorf("%s is %v, want ISO 8601 UTC with milliseconds", key, permission[key])
			}
		}
	}
	if at, _ := o["sentAt"].(string); !milliseconds.MatchString(at) {
		t.Errorf("sentAt is %v, want ISO 8601 UTC with milliseconds", o["sentAt"])
	}
	if m.Method != http.MethodPost || !strings.HasPrefix(m.Header.Get("Content-Type"), "application/json") {
		t.Errorf("came as %s of %q, want a POST of application/json", m.Method, m.Header.Get("Content-Type"))
	}
	return o
}

// rising requires that messages about one citizen are in order, and all different.
func rising(t testing.TB, messages []harness.Message) {
	t.Helper()
	for i := 1; i < len(messages); i++ {
		a, b := messages[i-1], messages[i]
		if b.Sequence <= a.Sequence || !b.SentAt.After(a.SentAt) || b.EventID == a.EventID {
			t.Errorf("message %d does not follow message %d:\n%s\n%s", i+1, i, a.Raw, b.Raw)
		}
	}
}

// hooked is a world with a receiver and a webhook that calls it.
func hooked(t testing.TB, s *harness.Store, catalogue string) (*world, *harness.Receiver, string) {
	t.Helper()
	r := harness.NewReceiver(t)
	w := start(t, s, catalogue, impatient...)
	return w, r, w.subscribe(t, r.URL+"/hook").text(t, "id")
}

func TestWebhookPayload(t *testing.T) {
	harness.OnEachStore(t, func(t *testing.T, s *harness.Store) {
		w, r, _ := hooked(t, s, northwind)

		t.Run("every field", func(t *testing.T) {
			sent := object{
				"channel": "web", "campaign": "spring-2026", "recordedBy": "agent-17", "recordedByName": "Zoë Çelik",
				"delegatedAuthorityId": "carer-3", "delegatedAuthorityName": "Ben O'Brien <ben>",
			}
			a := w.record(t, "CUST-1",
				change("newsletter-email", "consent", "GRANTED", object{
					"validFrom": "2026-01-01T00:00:00Z", "validUntil": "2999-12-31T23:59:59.999+01:00",
				}),
				sent, object{
					"privacyPolicyRef": "policy-01", "permissionStatementRef": "statement-01", "obtainedAt": "2026-02-03T04:05:06.789Z",
				})
			m := r.AwaitCount(t, "CUST-1", 1)[0]
			read := w.permission(t, "CUST-1", "newsletter-email")
			got := body(t, m)
			permission := object{
				"transactionId": a.at("transactionId"), "optionType": "option", "optionId": "newsletter-email",
				"justification": "consent", "state": "GRANTED",
				"privacyPolicyId": read["privacyPolicyId"], "privacyPolicyRef": "policy-01",
				"permissionStatementId": read["permissionStatementId"], "permissionStatementRef": "statement-01",
				"recordedClient": w.clientID, "recordedClientName": dig(got, "permissions.0.recordedClientName"),
				"recordedAt": iso(instant(t, a.at("recordedAt"))), "obtainedAt": "2026-02-03T04:05:06.789Z",
				"validFrom": "2026-01-01T00:00:00.000Z", "validUntil": "2999-12-31T22:59:59.999Z",
			}
			maps.Copy(permission, sent)
			want := object{
				"applicationId": w.id, "citizenId": a.at("citizenId"), "externalRef": "CUST-1",
				"permissions": []any{permission}, "preferences": []any{},
				"eventType": "citizen.changed", "changedBy": w.clientID,
				"eventId": got["eventId"], "sequence": got["sequence"], "sentAt": got["sentAt"],
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("payload (-want +got):\n%s", diff)
			}
			if m.EventID == "" || m.Sequence < 1 {
				t.Errorf("eventId %q, sequence %d", m.EventID, m.Sequence)
			}
			if recorded := instant(t, a.at("recordedAt")); m.SentAt.Before(recorded.Truncate(time.Millisecond)) || m.SentAt.After(m.At.Add(time.Millisecond)) {
				t.Errorf("sentAt %v is not between %v, when it was recorded, and %v, when it came", m.SentAt, recorded, m.At)
			}
			if name := dig(got, "permissions.0.recordedClientName"); name != nil && name == "" {
				t.Error("an unknown client name is null, not empty")
			}
		})

		t.Run("null where unknown", func(t *testing.T) {
			w.record(t, "CUST-2", change("research-email", "legitimate-interest", "CLAIMED"))
			got := body(t, r.AwaitCount(t, "CUST-2", 1)[0])
			for _, key := range []string{
				"channel", "campaign", "permissionStatementId", "permissionStatementRef", "recordedBy", "recordedByName",
				"delegatedAuthorityId", "delegatedAuthorityName", "validFrom", "validUntil",
			} {
				if v := dig(got, "permissions.0."+key); v != nil {
					t.Errorf("%s is %v, want null", key, v)
				}
			}
		})

		t.Run("full state each time", func(t *testing.T) {
			w.record(t, "CUST-3", change("newsletter-email", "consent", "GRANTED"))
			r.AwaitState(t, "CUST-3", map[string]string{"newsletter-email": "consent GRANTED"})
			w.record(t, "CUST-3", change("research-email", "legitimate-interest", "OBJECTED"))
			r.AwaitState(t, "CUST-3", map[string]string{
				"newsletter-email": "consent GRANTED", "research-email": "legitimate-interest OBJECTION_UPHELD",
			})
			w.record(t, "CUST-3", change("newsletter-email", "consent", "DENIED"))
			m := r.AwaitState(t, "CUST-3", map[string]string{
				"newsletter-email": "consent DENIED", "research-email": "legitimate-interest OBJECTION_UPHELD",
			})
			rising(t, r.Messages("CUST-3"))

			// What the webhook says is what the API says.
			sent := map[any]any{}
			for _, p := range body(t, m)["permissions"].([]any) {
				sent[p.(object)["optionId"]] = p
			}
			for option, p := range sent {
				read := w.permission(t, "CUST-3", option.(string))
				for key, v := range p.(object) {
					if at, ok := v.(string); ok && milliseconds.MatchString(at) {
						if instant(t, read[key]).Sub(instant(t, at)).Abs() > time.Millisecond {
							t.Errorf("%s of %s: sent %v, read %v", key, option, v, read[key])
						}
					} else if read[key] != v {
						t.Errorf("%s of %s: sent %v, read %v", key, option, v, read[key])
					}
				}
			}
		})

		t.Run("deletion tells", func(t *testing.T) {
			a := w.record(t, "CUST-4", change("newsletter-email", "consent", "GRANTED"))
			r.AwaitCount(t, "CUST-4", 1)
			w.api.do(t, "DELETE", "/v1/citizens/"+a.text(t, "citizenId"), nil).want(t, 200, 202, 204)
			messages := r.Await(t, "CUST-4", "citizen.deleted", func(m []harness.Message) bool {
				return m[len(m)-1].EventType == "citizen.deleted"
			})
			last := messages[len(messages)-1]
			got := body(t, last)
			if got["citizenId"] != a.at("citizenId") || len(got["permissions"].([]any)) != 0 || len(got["preferences"].([]any)) != 0 {
				t.Errorf("the last message: %s", last.Raw)
			}
			rising(t, messages)
			r.Quiet(t, "CUST-4", settled)
		})
	})
}

func TestWebhookTellsWhatTimeChanges(t *testing.T) {
	harness.OnEachStore(t, func(t *testing.T, s *harness.Store) {
		w, r, _ := hooked(t, s, bases)
		soon := time.Now().Add(3 * time.Second)
		w.record(t, "begins", change("any", "consent", "GRANTED", object{"validFrom": iso(soon)}))
		w.record(t, "ends", change("any", "consent", "GRANTED", object{"validUntil": iso(soon)}))
		r.AwaitState(t, "ends", map[string]string{"any": "consent GRANTED"})
		if !time.Now().Before(soon) {
			t.Fatal("the machine is too slow to see the message before the instant")
		}

		begun := r.AwaitState(t, "begins", map[string]string{"any": "consent GRANTED"})
		ended := r.Await(t, "ends", "the end", func(m []harness.Message) bool {
			return len(m[len(m)-1].Permissions) == 1 && m[len(m)-1].Permissions[0].State == nil
		})
		last := ended[len(ended)-1]
		for _, m := range []harness.Message{begun, last} {
			body(t, m)
			if m.SentAt.Before(soon.Truncate(time.Millisecond)) || m.At.Sub(soon) > 5*time.Second {
				t.Errorf("sent at %v and come at %v, want within seconds after %v", m.SentAt, m.At, soon)
			}
		}
		// A ceased permission is listed with its justification, its end and the transaction that ended.
		p, was := last.Permissions[0], ended[0].Permissions[0]
		if p.OptionID != "any" || p.Justification != "consent" || p.ValidUntil == nil || !p.ValidUntil.Equal(soon.Truncate(time.Millisecond)) || p.TransactionID != was.TransactionID {
			t.Errorf("the ceased permission: %s", last.Raw)
		}
		rising(t, ended)

		// It stays listed beside what comes later.
		w.record(t, "ends", change("contract", "contract", "CLAIMED"))
		later := r.AwaitState(t, "ends", map[string]string{"contract": "contract CLAIMED"})
		if len(later.Permissions) != 2 {
			t.Errorf("the full state forgot the ceased permission: %s", later.Raw)
		}
	})
}

func TestWebhookAuthentication(t *testing.T) {
	harness.OnEachStore(t, func(t *testing.T, s *harness.Store) {
		r := harness.NewReceiver(t)
		w := start(t, s, northwind, impatient...)
		grant := func(ref string) { w.record(t, ref, change("newsletter-email", "consent", "GRANTED")) }
		const token = "planted-token-0123456789"
		for name, c := range map[string]struct {
			auth   object
			header string // Name: value
			query  string
		}{
			"none":                   {object{"authType": "none"}, "", "tenant=7"},
			"bearer by default":      {object{"token": token}, "Authorization: Bearer " + token, "tenant=7"},
			"bearer in a header":     {object{"token": token, "tokenLocation": "header"}, "Authorization: Bearer " + token, "tenant=7"},
			"Authorization":          {object{"token": token, "tokenLocation": "header", "tokenName": "Authorization"}, "Authorization: Bearer " + token, "tenant=7"},
			"authorization":          {object{"token": token, "tokenLocation": "header", "tokenName": "authorization"}, "Authorization: Bearer " + token, "tenant=7"},
			"a scheme of its own":    {object{"token": "Basic b3BlbjpzZXNhbWU=", "tokenLocation": "header", "tokenName": "Authorization"}, "Authorization: Basic b3BlbjpzZXNhbWU=", "tenant=7"},
			"key in an own header":   {object{"token": token, "tokenLocation": "header", "tokenName": "X-Crm-Key"}, "X-Crm-Key: " + token, "tenant=7"},
			"key in the query":       {object{"token": token, "tokenLocation": "query", "tokenName": "api_key"}, "", "api_key=" + token + "&tenant=7"},
			"key that needs quoting": {object{"token": "a&b=c d%", "tokenLocation": "query", "tokenName": "api key"}, "", "api+key=a%26b%3Dc+d%25&tenant=7"},
		} {
			t.Run(name, func(t *testing.T) {
				path := "/" + strings.ReplaceAll(name, " ", "-")
				id := w.subscribe(t, r.URL+path+"?tenant=7", object{"authType": "token"}, c.auth).text(t, "id")
				grant(name)
				m := r.AwaitCount(t, name, 1)[0]
				if m.Path != path {
					t.Errorf("path %q, want %q", m.Path, path)
				}
				header, value, _ := strings.Cut(c.header, ": ")
				if got := m.Header.Get("Authorization"); header != "Authorization" && got != "" {
					t.Errorf("Authorization %q, want none", got)
				}
				if got := m.Header.Get(header); got != value {
					t.Errorf("%s %q, want %q", header, got, value)
				}
				if got := sortedQuery(t, m.Query); got != c.query {
					t.Errorf("query %q, want %q", got, c.query)
				}
				w.api.do(t, "DELETE", "/v1/subscriptions/"+id, nil).want(t, 200, 204)
			})
		}

		t.Run("absent keeps, null clears", func(t *testing.T) {
			id := w.subscribe(t, r.URL+"/hook", object{"authType": "token", "token": token, "tokenName": "X-Key", "tokenLocation": "header"}).text(t, "id")
			target := "/v1/subscriptions/" + id
			n := 0
			sent := func(want string) {
				t.Helper()
				n++
				ref := fmt.Sprint("update-", n)
				grant(ref)
				if got := r.AwaitCount(t, ref, 1)[0].Header.Get("X-Key"); got != want {
					t.Errorf("X-Key %q, want %q", got, want)
				}
			}
			sent(token)
			w.api.do(t, "PATCH", target, object{"name": "renamed"}).want(t, 200, 204)
			sent(token)
			w.api.do(t, "PUT", target, w.subscription(r.URL+"/hook", object{"authType": "token", "tokenName": "X-Key", "tokenLocation": "header"})).want(t, 200, 204)
			sent(token)
			w.api.do(t, "PATCH", target, object{"token": "another-token"}).want(t, 200, 204)
			sent("another-token")
			w.api.do(t, "PATCH", target, object{"authType": "none", "token": nil}).want(t, 200, 204)
			sent("")
			// The very next message leaves by the new settings.
			for i := range 25 {
				key := fmt.Sprint("key-of-round-", i)
				w.api.do(t, "PATCH", target, object{"authType": "token", "token": key}).want(t, 200, 204)
				sent(key)
			}
			w.api.do(t, "PATCH", target, object{"authType": "none", "token": nil}).want(t, 200, 204)
			sent("")
			// Nothing is left to go back to.
			w.api.do(t, "PATCH", target, object{"authType": "token"})
			sent("")
		})
	})
}

func sortedQuery(t testing.TB, raw string) string {
	t.Helper()
	req, err := http.NewRequest(http.MethodGet, "/?"+raw, nil)
	if err != nil {
		t.Fatal(err)
	}
	return req.URL.Query().Encode()
}

func TestWebhookRetries(t *testing.T) {
	harness.OnEachStore(t, func(t *testing.T, s *harness.Store) {
		w, r, id := hooked(t, s, northwind)
		refuse := func(status int) func(http.ResponseWriter, *harness.Message) { return harness.Answer(status) }

		t.Run("three quick attempts, then patience", func(t *testing.T) {
			r.Respond(refuse(500))
			w.record(t, "down", change("newsletter-email", "consent", "GRANTED"))
			m := r.AwaitCount(t, "down", 5) // three at once, and one in each of two rounds
			if span := m[2].At.Sub(m[0].At); span < quickSpan/2 || span > retryInterval/2 {
				t.Errorf("the quick attempts took %v, want about %v", span, quickSpan)
			}
			for i := 3; i < 5; i++ {
				if wait := m[i].At.Sub(m[i-1].At); wait < retryInterval-50*time.Millisecond || wait > 2*retryInterval {
					t.Errorf("attempt %d came %v after the one before, want about %v and not sooner", i+1, wait, retryInterval)
				}
			}
			r.Respond(refuse(204))
			r.AwaitCount(t, "down", 6)
			r.Quiet(t, "down", retryInterval+settled) // delivered is delivered
			for _, m := range r.Messages("down") {
				body(t, m)
			}
		})

		t.Run("anything but 2xx is a failure", func(t *testing.T) {
			for _, status := range []int{302, 307, 400, 401, 404, 410, 422, 502} {
				ref := fmt.Sprint("status-", status)
				var tries atomic.Int32
				r.Respond(func(rw http.ResponseWriter, m *harness.Message) {
					if m.ExternalRef == ref && tries.Add(1) == 1 {
						rw.Header().Set("Location", r.URL+"/elsewhere")
						rw.WriteHeader(status)
						return
					}
					rw.WriteHeader(http.StatusCreated) // any 2xx is a success
				})
				w.record(t, ref, change("newsletter-email", "consent", "GRANTED"))
				r.AwaitCount(t, ref, 2)
				for _, m := range r.Messages(ref) {
					if m.Path != "/hook" {
						t.Errorf("%d: a redirect was followed to %s", status, m.Path)
					}
				}
			}
			r.Quiet(t, "status-502", settled)
			for _, status := range []int{302, 307, 400, 401, 404, 410, 422, 502} {
				if n := len(r.Messages(fmt.Sprint("status-", status))); n != 2 {
					t.Errorf("%d: %d attempts, want the one that failed and the one that did not", status, n)
				}
			}
		})

		t.Run("a newer state supersedes a failed message", func(t *testing.T) {
			r.Respond(refuse(503))
			w.record(t, "stale", change("newsletter-email", "consent", "GRANTED"))
			r.AwaitCount(t, "stale", 3)
			r.Quiet(t, "stale", settled/2) // it lies in the failures store now
			r.Respond(refuse(204))
			w.record(t, "stale", change("newsletter-email", "consent", "DENIED"))
			changed := time.Now()
			m := r.AwaitState(t, "stale", map[string]string{"newsletter-email": "consent DENIED"})
			if wait := m.At.Sub(changed); wait > settled {
				t.Errorf("the new change waited %v for the old one", wait)
			}
			r.Quiet(t, "stale", 2*retryInterval) // the grant never comes back
		})

		t.Run("a retry carries the state of now", func(t *testing.T) {
			r.Respond(refuse(500))
			w.record(t, "fresh", change("newsletter-email", "consent", "GRANTED"))
			r.AwaitCount(t, "fresh", 3)
			w.record(t, "fresh", change("newsletter-email", "consent", "DENIED"))
			r.AwaitState(t, "fresh", map[string]string{"newsletter-email": "consent DENIED"})
			seen := len(r.Messages("fresh"))
			r.Respond(refuse(204))
			r.AwaitCount(t, "fresh", seen+1)
			denied := false
			for _, m := range r.Messages("fresh") {
				now := harness.States(m.Permissions)["newsletter-email"] == "consent DENIED"
				if denied && !now {
					t.Errorf("the withdrawn consent came back: %s", m.Raw)
				}
				denied = denied || now
			}
		})

		t.Run("paused", func(t *testing.T) {
			r.Respond(refuse(500))
			w.record(t, "waiting", change("newsletter-email", "consent", "GRANTED"))
			r.AwaitCount(t, "waiting", 3)
			w.api.do(t, "PATCH", "/v1/subscriptions/"+id, object{"status": "paused"}).want(t, 200, 204)
			r.Respond(refuse(204))
			w.record(t, "lost", change("newsletter-email", "consent", "GRANTED"))
			r.Quiet(t, "waiting", retryInterval+settled) // what waits is frozen
			if n := len(r.Messages("lost")); n != 0 {
				t.Error("a paused webhook was called")
			}

			w.api.do(t, "PATCH", "/v1/subscriptions/"+id, object{"status": "active"}).want(t, 200, 204)
			r.AwaitCount(t, "waiting", 4) // and goes on
			w.record(t, "after", change("newsletter-email", "consent", "GRANTED"))
			r.AwaitCount(t, "after", 1)
			r.Quiet(t, "lost", settled) // what changed meanwhile is not sent
			w.record(t, "lost", change("research-email", "consent", "GRANTED"))
			m := r.AwaitCount(t, "lost", 1)[0]
			want := map[string]string{"newsletter-email": "consent GRANTED", "research-email": "consent GRANTED"}
			if diff := cmp.Diff(want, harness.States(m.Permissions)); diff != "" {
				t.Errorf("the next message tells the full state (-want +got):\n%s", diff)
			}
		})

		t.Run("a deleted webhook is silent", func(t *testing.T) {
			r.Respond(refuse(500))
			w.record(t, "orphan", change("newsletter-email", "consent", "GRANTED"))
			r.AwaitCount(t, "orphan", 3)
			w.api.do(t, "DELETE", "/v1/subscriptions/"+id, nil).want(t, 200, 204)
			r.Quiet(t, "orphan", retryInterval+settled)
		})
	})
}

func TestWebhookOrder(t *testing.T) {
	harness.OnEachStore(t, func(t *testing.T, s *harness.Store) {
		w, r, _ := hooked(t, s, northwind)
		second := harness.NewReceiver(t)
		w.subscribe(t, second.URL+"/second")

		// The first receiver is slow and refuses now and then; one citizen is never in flight twice.
		var mu sync.Mutex
		inFlight, calls := map[string]int{}, 0
		r.Respond(func(rw http.ResponseWriter, m *harness.Message) {
			mu.Lock()
			inFlight[m.ExternalRef]++
			if inFlight[m.ExternalRef] > 1 {
				t.Errorf("%s is in flight twice", m.ExternalRef)
			}
			calls++
			fail := calls%7 == 0
			mu.Unlock()
			time.Sleep(10 * time.Millisecond) // the receiver works
			mu.Lock()
			inFlight[m.ExternalRef]--
			mu.Unlock()
			if fail {
				rw.WriteHeader(http.StatusInternalServerError)
			}
		})

		refs := []string{"one", "two", "three"}
		for i := range 40 {
			for _, ref := range refs {
				w.record(t, ref, change("newsletter-email", "consent", []string{"GRANTED", "DENIED"}[i%2]))
			}
		}
		for _, ref := range refs {
			w.record(t, ref, change("research-email", "legitimate-interest", "CLAIMED"))
		}
		final := map[string]string{"newsletter-email": "consent DENIED", "research-email": "legitimate-interest CLAIMED"}
		for _, ref := range refs {
			for name, receiver := range map[string]*harness.Receiver{"slow": r, "quick": second} {
				receiver.AwaitState(t, ref, final)
				messages := receiver.Messages(ref)
				for i := 1; i < len(messages); i++ {
					if a, b := messages[i-1], messages[i]; b.Sequence < a.Sequence || b.SentAt.Before(a.SentAt) {
						t.Errorf("%s, %s: message %d goes back:\n%s\n%s", name, ref, i+1, a.Raw, b.Raw)
					}
				}
				if name == "quick" {
					rising(t, messages)
				}
			}
		}
	})
}

func TestWebhookDialsSafely(t *testing.T) {
	harness.OnEachStore(t, func(t *testing.T, s *harness.Store) {
		// It listens where a careless server would call: any connection at all is one too many.
		l, err := net.Listen("tcp", ":0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		called := make(chan string, 100)
		go func() {
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				called <- conn.RemoteAddr().String()
				conn.Close()
			}
		}()
		port := l.Addr().(*net.TCPAddr).Port

		w := start(t, s, northwind, "--webhook-quick-delays", "50ms,100ms")
		saved := 0
		for _, host := range []string{
			"127.0.0.1", "localhost", "127.1", "2130706433", "0x7f000001", "0177.0.0.1", "0.0.0.0", "[::1]", "[::]",
			"[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[64:ff9b::7f00:1]", "localhost.", "10.0.0.1", "192.168.0.1", "169.254.169.254",
			"[fe80::1]", "[fd00::1]", "100.64.0.1",
		} {
			for _, scheme := range []string{"http", "https"} {
				url := fmt.Sprintf("%s://%s:%d/", scheme, host, port)
				a := w.api.do(t, "POST", "/v1/subscriptions", w.subscription(url)).want(t, 200, 201, 400, 422)
				if a.status >= 400 {
					if !a.locates("url") {
						t.Errorf("%s: refused without an error at url: %s", url, a.raw)
					}
					continue
				}
				saved++
			}
		}
		// Plain http is for allowed networks alone.
		a := w.api.do(t, "POST", "/v1/subscriptions", w.subscription("http://receiver.example.com/")).want(t, 200, 201, 400, 422)
		if a.status >= 400 && !a.locates("url") {
			t.Errorf("refused without an error at url: %s", a.raw)
		}
		w.record(t, "CUST-1", change("newsletter-email", "consent", "GRANTED"))
		quiet := time.After(settled)
		if saved == 0 {
			quiet = time.After(0)
		}
		select {
		case from := <-called:
			t.Errorf("the server called loopback, from %s", from)
		case <-quiet:
		}
	})
}
