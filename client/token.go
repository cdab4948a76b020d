package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
)

// Credentials authenticate by an access token, which the client gets from
// POST /oauth/token (client credentials grant) and renews before it expires.
type Credentials struct {
	ClientID     string
	ClientSecret string
}

// String keeps the secret out of logs.
func (c Credentials) String() string { return "[credentials of " + c.ClientID + "]" }

// GoString keeps the secret out of logs.
func (c Credentials) GoString() string { return c.String() }

func (c Credentials) authenticator(client *Client) authenticator {
	return &tokens{client: client, credentials: c}
}

// tokens holds the access token of one client. However many calls need a new one
// at once, one request fetches it.
type tokens struct {
	client      *Client
	credentials Credentials

	mu      sync.Mutex
	token   string
	expires time.Time
	renewAt time.Time
	under   *fetch // under way; nil while there is none
}

// fetch is one request for a token. Its result is there once done is closed.
type fetch struct {
	done  chan struct{}
	token string
	err   error
}

func (t *tokens) authorise(ctx context.Context, header http.Header) (string, error) {
	token, err := t.get(ctx)
	if err != nil {
		return "", err
	}
	header.Set("Authorization", "Bearer "+token)
	return token, nil
}

// refused forgets a token that the server no longer takes. Another call may have
// replaced it already.
func (t *tokens) refused(token string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.token == token {
		t.token, t.expires, t.renewAt = "", time.Time{}, time.Time{}
	}
}

// get gives a token that is good now. One that is due for renewal still serves
// while the new one is fetched.
func (t *tokens) get(ctx context.Context) (string, error) {
	t.mu.Lock()
	now := time.Now()
	if !now.Before(t.renewAt) && t.under == nil {
		t.under = &fetch{done: make(chan struct{})}
		// Every call that waits is served by it, so it must outlive this one.
		go t.run(context.WithoutCancel(ctx), t.under)
	}
	token, good, under := t.token, now.Before(t.expires), t.under
	t.mu.Unlock()
	if good {
		return token, nil
	}
	select {
	case <-under.done:
		return under.token, under.err
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

func (t *tokens) run(ctx context.Context, f *fetch) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	var lifetime time.Duration
	f.token, lifetime, f.err = t.request(ctx)

	t.mu.Lock()
	defer t.mu.Unlock()
	if f.err == nil {
		now := time.Now()
		t.token, t.expires = f.token, now.Add(lifetime)
		t.renewAt = t.expires.Add(-min(lifetime/5, time.Minute))
	}
	t.under = nil
	close(f.done)
}

func (t *tokens) request(ctx context.Context) (token string, lifetime time.Duration, err error) {
	form := url.Values{
		"grant_type":    {"client_credentials"},
		"client_id":     {t.credentials.ClientID},
		"client_secret": {t.credentials.ClientSecret},
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, t.client.base.JoinPath("oauth/token").String(), strings.NewReader(form.Encode()))
	if err != nil {
		return "", 0, err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Accept", "application/json")
	var answer struct {
		AccessToken string `json:"access_token"`
		ExpiresIn   int    `json:"expires_in"` // seconds
	}
	body, err := t.client.send(req)
	if err != nil {
		return "", 0, err
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return "", 0, fmt.Errorf("reading the access token: %w", err)
	}
	if answer.AccessToken == "" {
		return "", 0, errors.New("the token endpoint answered without an access token")
	}
	return answer.AccessToken, time.Duration(answer.ExpiresIn) * time.Second, nil
}
