package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/internal/core"
)

const tokenPath = "/oauth/token"

type createAccessTokenInput struct {
	Authorization string `header:"Authorization" hidden:"true"`
	body[tokenRequest]
}

type tokenRequest struct {
	GrantType    string `json:"grant_type"`
	ClientID     string `json:"client_id,omitempty"`
	ClientSecret string `json:"client_secret,omitempty"`
	Audience     string `json:"audience,omitempty"`
}

type accessToken struct {
	AccessToken string `json:"access_token"`
	TokenType   string `json:"token_type"`
	ExpiresIn   int64  `json:"expires_in"`
	Scope       string `json:"scope"`
}

var errGrantType = consent.Errorf(consent.Invalid, "The grant_type must be client_credentials.")

// createAccessToken exchanges the credentials of a client for an access token
// (RFC 6749 §4.4). They may come as HTTP Basic authentication, too (§2.3.1).
func (s *server) createAccessToken(ctx context.Context, _ core.Actor, in *createAccessTokenInput) (accessToken, error) {
	value, request := in.read()
	if err := request.Found.Err(); err != nil {
		return accessToken{}, err
	}
	if value.GrantType != "client_credentials" {
		return accessToken{}, errGrantType
	}
	if s.TokenAudience != "" && value.Audience != s.TokenAudience {
		return accessToken{}, consent.Errorf(consent.Invalid, "The audience must be the one that this server stands for.")
	}
	id, secret := value.ClientID, value.ClientSecret
	if basicID, basicSecret, ok := basic(in.Authorization); ok {
		id, secret = basicID, basicSecret
	}
	t, err := s.Identity.Grant(ctx, id, secret)
	if err != nil {
		return accessToken{}, err
	}
	scopes := make([]string, len(t.Scopes))
	for i, scope := range t.Scopes {
		scopes[i] = string(scope)
	}
	return accessToken{t.Token, "Bearer", int64(t.ExpiresIn.Seconds()), strings.Join(scopes, " ")}, nil
}

// basic gives the credentials of a client in an Authorization header, which are
// form-encoded within it.
func basic(header string) (id, secret string, ok bool) {
	id, secret, ok = (&http.Request{Header: http.Header{"Authorization": {header}}}).BasicAuth()
	if !ok {
		return "", "", false
	}
	id, badID := url.QueryUnescape(id)
	secret, badSecret := url.QueryUnescape(secret)
	return id, secret, badID == nil && badSecret == nil
}

// grantProblem is the answer to a token request that was refused (RFC 6749 §5.2).
type grantProblem struct {
	Code        string `json:"error" enum:"invalid_request,invalid_client,unsupported_grant_type" doc:"What was wrong."`
	Description string `json:"error_description" doc:"What was wrong, in a sentence."`

	status int
}

// grantError gives a problem the form that RFC 6749 wants of refusals. It has none
// for a server that is at fault or busy.
func grantError(hc huma.Context, p *problem, err error) huma.StatusError {
	g := &grantProblem{Code: "invalid_request", Description: p.Detail, status: p.Status}
	for i, f := range p.Errors {
		if i == 0 {
			g.Description = ""
		}
		g.Description += fmt.Sprintf("%s %s. ", strings.TrimPrefix(f.Location, "body."), f.Message)
	}
	g.Description = strings.TrimSpace(g.Description)
	switch {
	case p.Status >= 500 || p.Status == http.StatusTooManyRequests:
		for name, values := range p.header {
			hc.SetHeader(name, values[0])
		}
		return p
	case p.Status == http.StatusUnauthorized:
		g.Code = "invalid_client"
		hc.SetHeader("WWW-Authenticate", `Basic realm="OpenCPM"`)
	case p.Status == http.StatusUnprocessableEntity:
		g.status = http.StatusBadRequest
		if errors.Is(err, errGrantType) {
			g.Code = "unsupported_grant_type"
		}
	}
	return g
}

// Error is what went wrong, in a sentence.
func (g *grantProblem) Error() string { return g.Description }

// GetStatus tells huma the status.
func (g *grantProblem) GetStatus() int { return g.status }
