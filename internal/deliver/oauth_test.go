package deliver

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/internal/safehttp"
	"github.com/opencpm/opencpm/internal/store"
	"github.com/opencpm/opencpm/internal/store/storetest"
)

const tokenURL = "https://id.example/token"

// authority is a token endpoint in memory. The tokens that it gives out are access-1,
// access-2 and so on, each with the refresh token of the same number, and each ends what
// was given out before.
type authority struct {
	mu      sync.Mutex
	given   int
	asked   []url.Values
	at      []time.Time
	expires time.Time // the last one; zero for never
	lives   time.Duration
	takes   time.Duration
	answer  func(form url.Values) (safehttp.Response, error) // where set, instead of a token
}

func (a *authority) post(r safehttp.Request) (safehttp.Response, error) {
	form, err := url.ParseQuery(string(r.Body))
	if err != nil || r.Header.Get("Content-Type") != "application/x-www-form-urlencoded" {
		return safehttp.Response{}, errors.New("not a form")
	}
	a.mu.Lock()
	a.asked, a.at = append(a.asked, form), append(a.at, time.Now())
	answer := a.answer
	a.mu.Unlock()
	time.Sleep(a.takes)
	if answer != nil {
		return answer(form)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if used := form.Get("refresh_token"); form.Get("grant_type") == "refresh_token" && used != fmt.Sprint("refresh-", a.given) {
		return said(http.StatusBadRequest, `{"error": "invalid_grant"}`), nil
	}
	a.given++
	told := map[string]any{"access_token": fmt.Sprint("access-", a.given), "token_type": "bearer"}
	if form.Get("grant_type") == "refresh_token" {
		told["refresh_token"] = fmt.Sprint("refresh-", a.given)
	}
	if a.lives > 0 {
		told["expires_in"], a.expires = a.lives.Seconds(), time.Now().Add(a.lives)
	}
	body, err := json.Marshal(told)
	return said(http.StatusOK, string(body)), err
}

func said(status int, body string) safehttp.Response {
	return safehttp.Response{Status: status, Body: []byte(body)}
}

// accepts is an endpoint that takes the token which was given out last.
func (a *authority) accepts(_ int, m arrival) (int, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if m.header.Get("Authorization") == fmt.Sprint("Bearer access-", a.given) && (a.expires.IsZero() || time.Now().Before(a.expires)) {
		return http.StatusNoContent, nil
	}
	return http.StatusUnauthorized, nil
}

// behave changes what the token endpoint does from now on.
func (a *authority) behave(answer func(form url.Values) (safehttp.Response, error)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.answer = answer
}

// expectAsked requires that it was asked so often, and gives the last form.
func (a *authority) expectAsked(t *testing.T, n int) url.Values {
	t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.asked) != n {
		t.Fatalf("the token endpoint was asked %d times, want %d: %v", len(a.asked), n, a.asked)
	}
	if n == 0 {
		return nil
	}
	return a.asked[n-1]
}

// refreshing makes a subscription authenticate by tokens that are refreshed. The first one
// is worth nothing.
func refreshing(v *consent.Subscription) {
	v.AuthType, v.RefreshURL, v.ClientID = consent.AuthToken, tokenURL, "me"
	v.Secrets = consent.SubscriptionSecrets{Token: "stale", RefreshToken: "refresh-0", ClientSecret: "s3cret & more"}
}

// byCredentials makes a subscription get its tokens by client credentials.
func byCredentials(v *consent.Subscription) {
	v.AuthType, v.TokenURL, v.ClientID, v.Scope = consent.AuthToken, tokenURL, "me", "consent write"
	v.Secrets = consent.SubscriptionSecrets{ClientSecret: "s3cret"}
}

func withTokens() *endpoint {
	a := &authority{takes: 200 * time.Millisecond}
	return &endpoint{tokens: a, answer: a.accepts, takes: 20 * time.Millisecond}
}

func (w *world) read(id consent.ID) store.Registered {
	w.t.Helper()
	v, err := w.st.Subscription(ctx, []int64{w.app}, id)
	if err != nil {
		w.t.Fatal(err)
	}
	return v
}

// expectDelivered requires that each citizen's message was accepted, without a failure
// that counts.
func (w *world) expectDelivered(id consent.ID, n int64) {
	w.t.Helper()
	if v := w.read(id).Endpoint; v.Delivered != n || v.Failed != 0 {
		w.t.Errorf("%d delivered and %d failed, want %d without a failure (%s)", v.Delivered, v.Failed, n, v.LastReason)
	}
	if waiting, stored, err := w.st.Backlog(ctx); err != nil || waiting+stored != 0 {
		w.t.Errorf("left over: %d, %d, %v", waiting, stored, err)
	}
}

// However many deliveries meet a 401, the token is refreshed once, and none of them counts
// as failed.
func TestOneRefreshForAllThatMeetA401(t *testing.T) {
	at := withTokens()
	inBubble(t, at, func(t *testing.T, w *world) {
		id := w.subscribe(func(v *consent.Subscription) { refreshing(v); v.Status = consent.Active })
		before := w.read(id)
		var all sync.WaitGroup
		for i := range 50 {
			all.Go(func() { w.record(fmt.Sprint("CUST-", i), consent.Granted) })
		}
		all.Wait()
		time.Sleep(10 * time.Second)
		form := at.tokens.expectAsked(t, 1)
		if got, want := form.Encode(), "client_id=me&client_secret=s3cret+%26+more&grant_type=refresh_token&refresh_token=refresh-0"; got != want {
			t.Errorf("asked with %s, want %s", got, want)
		}
		w.expectDelivered(id, 50)
		refused := 0
		for _, a := range at.seen(t) { // which checks that what is sent again has a stamp of its own
			if a.header.Get("Authorization") == "Bearer stale" {
				refused++
			}
		}
		if refused < 2 {
			t.Errorf("%d deliveries met a 401: that is no crowd", refused)
		}
		after := w.read(id)
		if after.Secrets.Token != "access-1" || after.Secrets.RefreshToken != "refresh-1" || after.UpdatedAt != before.UpdatedAt {
			t.Errorf("kept %+v, updated at %v", after.Secrets, after.UpdatedAt)
		}
	})
}

// Two processes on one database refresh once between them.
func TestOneRefreshForAllProcesses(t *testing.T) {
	at := withTokens()
	o := store.Options{DatabaseURL: storetest.Postgres(t), Keys: storetest.Keys(t)}
	w := &world{t: t, at: at, st: storetest.Open(t, o)}
	w.app = storetest.Application(t, w.st, "northwind").Application
	id := w.subscribe(func(v *consent.Subscription) { refreshing(v); v.Status = consent.Paused })
	const citizens = 200
	tookOver := make(chan int, 64)
	var engines sync.WaitGroup
	run, stop := context.WithCancel(ctx)
	defer func() { stop(); engines.Wait() }()
	for _, st := range []*store.Store{w.st, storetest.Open(t, o)} {
		setting := options(at)
		setting.TookOver = func(n int) { tookOver <- n }
		engine := New(st, setting)
		engines.Go(func() { engine.Run(run) })
	}
	w.change(id, func(v *consent.Subscription) { v.Status = consent.Active })
	for shards := 0; shards < 16+8; { // one took all of them before the other came, and gave up half
		select {
		case n := <-tookOver:
			shards += n
		case <-time.After(30 * time.Second):
			t.Fatalf("the processes do not share: %d shards were taken over", shards)
		}
	}
	var all sync.WaitGroup
	for i := range citizens {
		all.Go(func() { w.record(fmt.Sprint("CUST-", i), consent.Granted) })
	}
	all.Wait()
	for until := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		waiting, stored, err := w.st.Backlog(ctx)
		if err != nil || stored != 0 || time.Now().After(until) {
			t.Fatalf("%d waiting, %d in the failures store: %v", waiting, stored, err)
		}
		if waiting == 0 {
			break
		}
	}
	at.tokens.expectAsked(t, 1)
	if v := w.read(id); v.Secrets.RefreshToken != "refresh-1" {
		t.Errorf("kept %q", v.Secrets.RefreshToken)
	}
	if n := len(at.seen(t)); n < citizens+2 {
		t.Errorf("%d messages for %d citizens: nobody met a 401", n, citizens)
	}
}

// A refresh token that was replaced is kept over a restart.
func TestRefreshTokensRotate(t *testing.T) {
	at := withTokens()
	inBubble(t, at, func(t *testing.T, w *world) {
		id := w.subscribe(refreshing)
		for n := 1; n <= 3; n++ {
			w.record("CUST-1", []consent.State{consent.Granted, consent.Denied}[n%2])
			time.Sleep(5 * time.Second) // a token that was accepted may end soon after
			if form := at.tokens.expectAsked(t, n); form.Get("refresh_token") != fmt.Sprint("refresh-", n-1) {
				t.Errorf("refresh %d by %s", n, form.Get("refresh_token"))
			}
			w.expectDelivered(id, int64(n))
			w.stop()
			w.start()
			at.behave(func(_ int, a arrival) (int, error) { // the token has ended
				if a.header.Get("Authorization") == fmt.Sprint("Bearer access-", n) {
					return http.StatusUnauthorized, nil
				}
				return http.StatusOK, nil
			})
		}
	})
}

// A token endpoint that fails makes the message fail, says why, and is left alone for a
// while.
func TestTokenEndpointThatFails(t *testing.T) {
	long := strings.Repeat("x", consent.MaxToken+1)
	crowd := int64(20)
	if testing.Short() {
		crowd = 5
	}
	for name, c := range map[string]struct {
		answer safehttp.Response
		err    error
		reason string
	}{
		"no access_token":     {said(http.StatusOK, `{"token": "planted", "refresh_token": "planted"}`), nil, "the token endpoint's answer has no access_token"},
		"an empty one":        {said(http.StatusOK, `{"access_token": ""}`), nil, "the token endpoint's answer has no access_token"},
		"a number":            {said(http.StatusOK, `{"access_token": 7}`), nil, "the token endpoint's answer has no access_token"},
		"an error with 200":   {said(http.StatusOK, `{"error": "planted"}`), nil, "the token endpoint's answer has no access_token"},
		"not JSON":            {said(http.StatusOK, `<p>planted</p>`), nil, "the token endpoint's answer is not a JSON object"},
		"a list":              {said(http.StatusOK, `["planted"]`), nil, "the token endpoint's answer is not a JSON object"},
		"a line break":        {said(http.StatusOK, `{"access_token": "planted\r\nX: y"}`), nil, "the token endpoint's answer has a token that cannot be used"},
		"too long a token":    {said(http.StatusOK, `{"access_token": "`+long+`"}`), nil, "the token endpoint's answer has a token that cannot be used"},
		"a bad refresh token": {said(http.StatusOK, `{"access_token": "planted", "refresh_token": "\u0000"}`), nil, "the token endpoint's answer has a token that cannot be used"},
		"cut off":             {safehttp.Response{Status: 200, Truncated: true, Body: []byte(`{"access_token": "planted`)}, nil, "the token endpoint's answer is too long or broke off"},
		"refused":             {said(http.StatusBadRequest, `{"error": "invalid_grant", "error_description": "planted"}`), nil, "the token endpoint answered 400, invalid_grant"},
		"refused oddly":       {said(http.StatusForbidden, `{"error": "planted"}`), nil, "the token endpoint answered 403"},
		"a redirect":          {said(http.StatusFound, `{"access_token": "planted"}`), nil, "the token endpoint answered 302"},
		"down":                {safehttp.Response{}, &safehttp.Error{Class: safehttp.Connect, Reason: "connection refused"}, "the token endpoint gave no answer: connection refused"},
		"anything":            {safehttp.Response{}, errors.New("planted"), "the token endpoint could not be called"},
	} {
		t.Run(name, func(t *testing.T) {
			at := withTokens()
			inBubble(t, at, func(t *testing.T, w *world) {
				at.tokens.behave(func(url.Values) (safehttp.Response, error) { return c.answer, c.err })
				id := w.subscribe(refreshing)
				for i := range crowd {
					w.record(fmt.Sprint("CUST-", i), consent.Granted)
				}
				time.Sleep(29 * time.Second)
				at.tokens.expectAsked(t, 1)
				v := w.read(id)
				if want := "the endpoint answered 401, and the token could not be refreshed: " + c.reason; v.Endpoint.LastReason != want {
					t.Errorf("the reason is %q, want %q", v.Endpoint.LastReason, want)
				}
				if v.Endpoint.Failed != 3*crowd || v.Secrets.Token != "stale" || v.Secrets.RefreshToken != "refresh-0" {
					t.Errorf("%d attempts; kept %+v", v.Endpoint.Failed, v.Secrets)
				}
				if testing.Short() && name != "down" { // what follows is the same for all, and 70 minutes take long under the race detector
					return
				}
				at.tokens.behave(nil)
				time.Sleep(70 * time.Minute)
				at.tokens.expectAsked(t, 2)
				if v := w.read(id); v.Endpoint.Delivered != crowd || v.Endpoint.Failed != 3*crowd {
					t.Errorf("%d delivered, %d attempts failed", v.Endpoint.Delivered, v.Endpoint.Failed)
				}
			})
		})
	}
}

// An endpoint that refuses a fresh token as well fails like any other: a refresh is not
// wasted on each of its messages.
func TestFreshTokenThatIsRefused(t *testing.T) {
	at := withTokens()
	at.answer = func(int, arrival) (int, error) { return http.StatusUnauthorized, nil }
	inBubble(t, at, func(t *testing.T, w *world) {
		id := w.subscribe(refreshing)
		w.record("CUST-1", consent.Granted)
		time.Sleep(20 * time.Second)
		at.tokens.expectAsked(t, 1)
		if got := at.seen(t); len(got) != 4 {
			t.Errorf("%d requests, want three attempts and the one that met the first 401", len(got))
		}
		if v := w.read(id).Endpoint; v.Failed != 3 || v.LastReason != "the endpoint answered 401, and the token could not be refreshed: it was renewed a moment ago" {
			t.Errorf("%d failed: %s", v.Failed, v.LastReason)
		}
		time.Sleep(70 * time.Minute) // an hour later the token may well have ended
		at.tokens.expectAsked(t, 2)
	})
}

// What a client changes while the token is being refreshed stays as it was changed.
func TestChangeDuringARefresh(t *testing.T) {
	for name, c := range map[string]struct {
		edit  func(*consent.Subscription)
		asked int
		token string
		want  consent.SubscriptionSecrets
	}{
		"nothing of the token": {
			func(v *consent.Subscription) { v.Name = "Renamed" }, 1, "access-1",
			consent.SubscriptionSecrets{Token: "access-1", RefreshToken: "refresh-1", ClientSecret: "s3cret & more"},
		},
		"the token": {
			func(v *consent.Subscription) { v.Secrets.Token = "by-hand" }, 1, "by-hand",
			consent.SubscriptionSecrets{Token: "by-hand", RefreshToken: "refresh-1", ClientSecret: "s3cret & more"},
		},
		"both tokens": {
			func(v *consent.Subscription) { v.Secrets.Token, v.Secrets.RefreshToken = "by-hand", "also-by-hand" }, 1, "by-hand",
			consent.SubscriptionSecrets{Token: "by-hand", RefreshToken: "also-by-hand", ClientSecret: "s3cret & more"},
		},
		"what it is got with": {
			func(v *consent.Subscription) { v.Secrets.RefreshToken, v.Secrets.ClientSecret = "refresh-1", "another" }, 2, "access-2",
			consent.SubscriptionSecrets{Token: "access-2", RefreshToken: "refresh-2", ClientSecret: "another"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			at := withTokens()
			at.tokens.takes = time.Second
			at.answer = func(_ int, a arrival) (int, error) {
				if a.header.Get("Authorization") == "Bearer "+c.token {
					return http.StatusOK, nil
				}
				return http.StatusUnauthorized, nil
			}
			inBubble(t, at, func(t *testing.T, w *world) {
				id := w.subscribe(refreshing)
				w.record("CUST-1", consent.Granted)
				time.Sleep(500 * time.Millisecond)
				at.tokens.expectAsked(t, 1)
				w.change(id, c.edit)
				time.Sleep(10 * time.Second)
				at.tokens.expectAsked(t, c.asked)
				w.expectDelivered(id, 1)
				got := w.read(id).Secrets
				if got.Token != c.want.Token || got.RefreshToken != c.want.RefreshToken || got.ClientSecret != c.want.ClientSecret {
					t.Errorf("kept %+v, want %+v", got, c.want)
				}
			})
		})
	}
}

// A message that waited for a token tells what is true when it leaves.
func TestNotStaleAfterARefresh(t *testing.T) {
	at := withTokens()
	at.tokens.takes = 5 * time.Second
	inBubble(t, at, func(t *testing.T, w *world) {
		id := w.subscribe(refreshing)
		w.record("CUST-1", consent.Granted)
		w.record("CUST-2", consent.Granted)
		time.Sleep(time.Second)
		w.record("CUST-1", consent.Denied)
		if err := w.st.EraseCitizen(ctx, w.app, consent.CitizenKey{ExternalRef: "CUST-2"}, "test"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		w.expectDelivered(id, 2)
		got := at.seen(t)
		if len(got) != 4 {
			t.Fatalf("%d messages, want two that met the 401 and two that say what is true", len(got))
		}
		for _, a := range got[2:] {
			if a.body.ExternalRef == "CUST-1" && a.body.state("newsletter-email") != consent.Denied || a.body.ExternalRef == "CUST-2" && a.body.EventType != "citizen.deleted" {
				t.Errorf("after the refresh arrived %+v", a.body)
			}
			if a.body.EventID == got[0].body.EventID || a.body.EventID == got[1].body.EventID {
				t.Error("news came under the id of what was sent before")
			}
		}
	})
}

// By client credentials a token is got before the first message and renewed before it
// ends, so that no message meets a 401.
func TestClientCredentials(t *testing.T) {
	at := withTokens()
	at.tokens.lives = 100 * time.Second
	inBubble(t, at, func(t *testing.T, w *world) {
		id := w.subscribe(byCredentials)
		for i := range 30 { // a citizen every 10 s
			w.record(fmt.Sprint("CUST-", i), consent.Granted)
			time.Sleep(10 * time.Second)
		}
		if got, want := at.tokens.expectAsked(t, 4).Encode(), "client_id=me&client_secret=s3cret&grant_type=client_credentials&scope=consent+write"; got != want {
			t.Errorf("asked with %s, want %s", got, want)
		}
		for i, asked := range at.tokens.at[1:] {
			if pause := asked.Sub(at.tokens.at[i]); pause < 80*time.Second || pause > 91*time.Second {
				t.Errorf("renewed after %v, want 80 s", pause)
			}
		}
		if n := len(at.seen(t)); n != 30 {
			t.Errorf("%d messages, want 30 that meet no 401", n)
		}
		w.expectDelivered(id, 30)

		// While the token lives a token endpoint that is down does not matter; then it does.
		time.Sleep(10 * time.Minute)
		w.record("CUST-0", consent.Denied)
		time.Sleep(85 * time.Second)
		at.tokens.behave(func(url.Values) (safehttp.Response, error) { return said(http.StatusBadGateway, ""), nil })
		w.record("CUST-1", consent.Denied)
		time.Sleep(12 * time.Second)
		w.expectDelivered(id, 32)
		time.Sleep(30 * time.Second)
		n := len(at.seen(t))
		w.record("CUST-2", consent.Denied)
		time.Sleep(20 * time.Second)
		if v := w.read(id).Endpoint; len(at.seen(t)) != n || v.Failed != 3 || v.LastReason != "the token could not be got: the token endpoint answered 502" {
			t.Errorf("%d failed: %s", v.Failed, v.LastReason)
		}
		at.tokens.behave(nil)
		time.Sleep(70 * time.Minute)
		if v := w.read(id).Endpoint; v.Delivered != 33 {
			t.Errorf("%d delivered", v.Delivered)
		}

		// One that ended before its time is renewed on the 401.
		asked := len(at.tokens.at)
		w.record("CUST-3", consent.Denied)
		time.Sleep(time.Second)
		at.tokens.mu.Lock()
		at.tokens.given += 10
		at.tokens.mu.Unlock()
		time.Sleep(40 * time.Second)
		w.record("CUST-4", consent.Denied)
		time.Sleep(10 * time.Second)
		at.tokens.expectAsked(t, asked+2)
		if v := w.read(id).Endpoint; v.Delivered != 35 || v.Failed != 3 {
			t.Errorf("%d delivered, %d failed", v.Delivered, v.Failed)
		}
	})
}

func TestLifetimeOfAToken(t *testing.T) {
	for v, want := range map[any]time.Duration{
		3600.0: time.Hour, "3600": time.Hour, 0.5: 500 * time.Millisecond, nil: 0, "soon": 0, true: 0, -1.0: 0, 0.0: 0, "NaN": 0,
		1e300: 100 * 365 * 24 * time.Hour, "Inf": 100 * 365 * 24 * time.Hour,
	} {
		if got := lifetime(v); got != want {
			t.Errorf("expires_in %v is %v, want %v", v, got, want)
		}
	}
}
