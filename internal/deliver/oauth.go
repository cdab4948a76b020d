package deliver

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/internal/safehttp"
	"github.com/opencpm/opencpm/internal/store"
)

// How a token is renewed.
const (
	claimPoll   = 100 * time.Millisecond // how often to ask whether another process is done
	claimMargin = 5 * time.Second        // that a claim outlives the call of the token endpoint by
	renewPause  = 30 * time.Second       // before a renewal that led to nothing is tried again
	provenPause = time.Second            // before a token that was accepted is renewed again
	keepTries   = time.Minute            // for how long storing a token is tried
)

// tokens is what this process does about the tokens of subscriptions. The zero value is
// ready.
type tokens struct {
	mu       sync.Mutex
	renewals map[int64]*renewal // that are going on, by subscription
	spent    map[int64]spent    // by subscription: the last one
}

// renewal is one renewal of a token, for which others may wait.
type renewal struct {
	done chan struct{}
	sub  store.Registered
	err  error
}

// spent is a renewal that is not to be repeated before an instant.
type spent struct {
	grant  consent.Grant
	token  string // the new one, or where it failed the old one
	failed bool
	at     time.Time
	until  time.Time
	reason error // why not
}

// join gives the renewal that is going on for a subscription. It is the caller's own where
// there was none.
func (t *tokens) join(subscription int64) (r *renewal, own bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if r = t.renewals[subscription]; r != nil {
		return r, false
	}
	if t.renewals == nil {
		t.renewals, t.spent = map[int64]*renewal{}, map[int64]spent{}
	}
	r = &renewal{done: make(chan struct{})}
	t.renewals[subscription] = r
	return r, true
}

func (t *tokens) finish(subscription int64, r *renewal) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.renewals, subscription)
	close(r.done)
}

// note keeps what a renewal led to: it failed, or the subscription has a new token.
func (t *tokens) note(sub store.Registered, failed bool, until time.Time, reason error) {
	grant, _ := sub.Grant()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.spent[sub.Number] = spent{grant, sub.Secrets.Token, failed, time.Now(), until, reason}
}

// proven notes that the endpoint accepted the token of a subscription: when it refuses it
// now, it has ended.
func (t *tokens) proven(sub store.Registered) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if v, known := t.spent[sub.Number]; known && !v.failed && v.token == sub.Secrets.Token {
		v.until = v.at.Add(provenPause)
		t.spent[sub.Number] = v
	}
}

// barred gives why the token of a subscription is not to be renewed now: that failed a
// moment ago, or it was refused although it is new and nothing has been accepted with it.
func (t *tokens) barred(sub store.Registered, refused bool) error {
	grant, _ := sub.Grant()
	t.mu.Lock()
	defer t.mu.Unlock()
	v := t.spent[sub.Number]
	if v.grant == grant && v.token == sub.Secrets.Token && (v.failed || refused) && time.Now().Before(v.until) {
		return v.reason
	}
	return nil
}

// deliver sends a message and sees to it that its token is good: one that is due is
// renewed before, and one that the endpoint refuses is renewed and the message sent again
// at once, which is neither an attempt nor a failure. It gives the message as it was sent
// last: a renewal takes time, so what follows it is read anew.
func (e *Engine) deliver(ctx context.Context, sub store.Registered, m message, epoch int64) (message, result) {
	if now := consent.At(time.Now()); sub.TokenDue(now) {
		ready, err := e.freshToken(ctx, sub, false)
		if err != nil && !sub.TokenLives(now) {
			return m, result{reason: "the token could not be got: " + err.Error(), class: "token"}
		}
		if err == nil && ready.Secrets.Token != sub.Secrets.Token {
			again, unsent := e.reread(ctx, ready, m, epoch)
			if unsent != nil {
				return again, *unsent
			}
			sub, m = ready, again
		}
	}
	r := e.postWith(ctx, sub, m)
	if _, renewable := sub.Grant(); !renewable || r.status != http.StatusUnauthorized {
		return m, r
	}
	ready, err := e.freshToken(ctx, sub, true)
	if err != nil {
		r.reason += ", and the token could not be refreshed: " + err.Error()
		return m, r
	}
	again, unsent := e.reread(ctx, ready, m, epoch)
	if unsent != nil {
		return again, *unsent
	}
	return again, e.postWith(ctx, ready, again)
}

// postWith sends a message once and notes whether its token is good.
func (e *Engine) postWith(ctx context.Context, sub store.Registered, m message) result {
	r := e.post(ctx, sub, m)
	if _, renewable := sub.Grant(); renewable && r.delivered() {
		e.tokens.proven(sub)
	}
	return r
}

// reread reads a message anew that has waited for a token: it must not be stale, nor leave
// under a lease that ended meanwhile. Where it must not leave at all, unsent says why.
func (e *Engine) reread(ctx context.Context, sub store.Registered, m message, epoch int64) (again message, unsent *result) {
	if now, ok := e.mayLeave(m.lane.Shard); !ok || now != epoch {
		return m, &result{reason: "another process took over while the token was renewed", class: "internal"}
	}
	list, err := e.compose(ctx, sub, []store.Lane{m.lane})
	switch {
	case err != nil:
		e.log.Warn("a message cannot be read anew; trying again", "subscription", sub.ID, "error", err)
		return m, &result{reason: "the message could not be read", class: "internal"}
	case !list[0].known:
		return list[0], &result{class: "erased"}
	}
	return list[0], nil
}

// freshToken gives a subscription whose token is another than that of sub, which is due or was
// refused by the endpoint. However many messages ask, here and in other processes, one of
// them calls the token endpoint and the others wait, but for those whose token still does.
// The error says in a part of a sentence why there is no other token.
func (e *Engine) freshToken(ctx context.Context, sub store.Registered, refused bool) (store.Registered, error) {
	if err := e.tokens.barred(sub, refused); err != nil {
		return sub, err
	}
	patient := refused || !sub.TokenLives(consent.At(time.Now()))
	for {
		r, own := e.tokens.join(sub.Number)
		switch {
		case own:
			r.sub, r.err = e.renewToken(ctx, sub, patient)
			e.tokens.finish(sub.Number, r)
			return r.sub, r.err
		case !patient:
			return sub, nil
		}
		<-r.done
		if r.err != nil || r.sub.Secrets.Token != sub.Secrets.Token {
			return r.sub, r.err
		}
	}
}

// renewToken renews a token unless another process does, for which it waits where it is
// patient.
func (e *Engine) renewToken(ctx context.Context, sub store.Registered, patient bool) (store.Registered, error) {
	ttl := e.o.Timeout + claimMargin
	for until := time.Now().Add(2 * ttl); ; time.Sleep(claimPoll) {
		c, err := e.store.ClaimToken(ctx, sub.Number, sub.Secrets.Token, ttl)
		switch {
		case err != nil:
			e.log.Warn("the token of a webhook cannot be looked up", "subscription", sub.ID, "error", err)
			return sub, errors.New("it could not be looked up")
		case c.Secrets.Token != sub.Secrets.Token: // renewed by another process, or replaced by a client
			return c.Registered, nil
		case c.Until != 0:
			return e.fetchToken(ctx, c)
		case !patient:
			return c.Registered, nil
		case time.Now().After(until):
			return sub, errors.New("another process did not come to an end with it")
		}
	}
}

// fetchToken gets a token and stores it.
func (e *Engine) fetchToken(ctx context.Context, c store.Claim) (store.Registered, error) {
	began := time.Now()
	token, err := e.askToken(ctx, c.Subscription)
	if err != nil {
		e.tokens.note(c.Registered, true, time.Now().Add(renewPause), err)
		e.log.Warn("the token of a webhook could not be renewed", "subscription", c.ID, "reason", err.Error())
		if err := e.store.Unclaim(ctx, c); err != nil {
			e.log.Warn("a claim to renew a token cannot be given up; it ends by itself", "subscription", c.ID, "error", err)
		}
		return c.Registered, err
	}
	token.Got = consent.At(began)
	// The refresh token that was used may be worth nothing any more: the new one must not be lost.
	for pause := claimPoll; ; pause = min(2*pause, 5*time.Second) {
		kept, err := e.store.KeepToken(ctx, c, token)
		var refused *consent.Error
		switch {
		case err == nil && kept.Secrets.Token != token.Access: // a client has changed something meanwhile
			if kept.Secrets.Token == c.Secrets.Token {
				return e.renewToken(ctx, kept, true)
			}
			return kept, nil
		case err == nil:
			young := renewPause
			if token.Lives > 0 {
				young = min(young, token.Lives)
			}
			e.tokens.note(kept, false, began.Add(young), errors.New("it was renewed a moment ago"))
			return kept, nil
		case errors.As(err, &refused) && refused.Kind == consent.NotFound:
			return c.Registered, errors.New("the subscription is deleted")
		case time.Since(began) > keepTries:
			e.log.Error("a new token cannot be stored and is lost", "subscription", c.ID, "error", err)
			return c.Registered, errors.New("the new one could not be stored")
		}
		e.log.Warn("a new token cannot be stored; trying again", "subscription", c.ID, "error", err)
		time.Sleep(pause)
	}
}

// askToken calls the token endpoint.
//
// The client's id and secret go into the form (client_secret_post in the terms of RFC
// 6749): so the published system sends them, every server that we know of takes them there,
// and trying one way after the other might spend the refresh token.
func (e *Engine) askToken(ctx context.Context, sub consent.Subscription) (store.Token, error) {
	grant, ok := sub.Grant()
	if !ok {
		return store.Token{}, errors.New("there is nothing any more to get one with")
	}
	form := url.Values{"grant_type": {"client_credentials"}}
	if grant.RefreshToken != "" {
		form = url.Values{"grant_type": {"refresh_token"}, "refresh_token": {grant.RefreshToken}}
	}
	for name, value := range map[string]string{"client_id": grant.ClientID, "client_secret": grant.ClientSecret, "scope": grant.Scope} {
		if value != "" {
			form.Set(name, value)
		}
	}
	answer, err := e.o.Post(ctx, safehttp.Request{
		URL: grant.URL, Body: []byte(form.Encode()), Timeout: e.o.Timeout, Whole: true,
		Header: http.Header{"Content-Type": {"application/x-www-form-urlencoded"}, "Accept": {"application/json"}},
	})
	var failed *safehttp.Error
	switch {
	case errors.As(err, &failed):
		return store.Token{}, fmt.Errorf("the token endpoint gave no answer: %s", failed.Reason)
	case err != nil:
		return store.Token{}, errors.New("the token endpoint could not be called")
	}
	return readToken(answer)
}

// tokenErrors are what a token endpoint may say is wrong (RFC 6749, 5.2). Anything else it
// says is not repeated.
var tokenErrors = []any{"invalid_request", "invalid_client", "invalid_grant", "unauthorized_client", "unsupported_grant_type", "invalid_scope"}

// readToken reads the answer of a token endpoint.
func readToken(answer safehttp.Response) (store.Token, error) {
	var said struct {
		AccessToken  any `json:"access_token"`
		RefreshToken any `json:"refresh_token"`
		ExpiresIn    any `json:"expires_in"`
		Error        any `json:"error"`
	}
	err := json.Unmarshal(answer.Body, &said)
	token := store.Token{Lives: lifetime(said.ExpiresIn)}
	token.Access, _ = said.AccessToken.(string)
	token.Refresh, _ = said.RefreshToken.(string)
	switch {
	case (answer.Status < 200 || answer.Status > 299) && slices.Contains(tokenErrors, said.Error):
		return token, fmt.Errorf("the token endpoint answered %d, %s", answer.Status, said.Error)
	case answer.Status < 200 || answer.Status > 299:
		return token, fmt.Errorf("the token endpoint answered %d", answer.Status)
	case answer.Truncated:
		return token, errors.New("the token endpoint's answer is too long or broke off")
	case err != nil:
		return token, errors.New("the token endpoint's answer is not a JSON object")
	case token.Access == "":
		return token, errors.New("the token endpoint's answer has no access_token")
	}
	var faults consent.Faults
	consent.CheckText(&faults, "", token.Access, 1, consent.MaxToken)
	consent.CheckText(&faults, "", token.Refresh, 0, consent.MaxToken)
	if faults != nil || safehttp.CheckHeader("Authorization", "Bearer "+token.Access) != nil {
		return token, errors.New("the token endpoint's answer has a token that cannot be used")
	}
	return token, nil
}

// lifetime reads expires_in, seconds, which some servers write as text. What cannot be read
// says nothing.
func lifetime(v any) time.Duration {
	seconds, ok := v.(float64)
	if text, isText := v.(string); isText {
		var err error
		seconds, err = strconv.ParseFloat(text, 64)
		ok = err == nil
	}
	if !ok || math.IsNaN(seconds) || seconds <= 0 {
		return 0
	}
	const longest = 100 * 365 * 24 * time.Hour
	return time.Duration(min(seconds, longest.Seconds()) * float64(time.Second))
}
