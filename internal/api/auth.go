package api

import (
	"context"
	"mime"
	"net/url"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/internal/core"
)

// call is what is known of a call while it is answered.
type call struct {
	server *server
	actor  core.Actor // the zero Actor on a public call
	origin string     // of the page that calls, where it is not one of ours; empty for none
	// header sets a field of the answer.
	header func(name, value string)
	// body is what is wrong with the body by its schema, once that has been read.
	body *consent.Faults
}

type callKey struct{}

func callOf(ctx context.Context) call { return ctx.Value(callKey{}).(call) }

type humaContext huma.Context

// jsonFirst hides from huma what the caller accepts. We answer JSON whatever that
// is, but for what can be had in another form, and huma's reading of a malformed list
// panics.
type jsonFirst struct{ humaContext }

// Header gives a field of the request.
func (c jsonFirst) Header(name string) string {
	value := c.humaContext.Header(name)
	if name != "Accept" {
		return value
	}
	answer := c.Operation().Responses["200"]
	for one := range strings.SplitSeq(value, ",") {
		mediaType, _, _ := mime.ParseMediaType(one)
		if (mediaType == jsonType || mediaType == yamlType || mediaType == htmlType) && answer != nil && answer.Content[mediaType] != nil {
			return mediaType // the first that there is
		}
	}
	return ""
}

// admit stands before every operation: it lets in who has the scope, within their
// rate, and to one that is own a citizen whom the path names, or who is meant where it
// names none. To a public operation it
// lets everybody in, within the rate of their address.
func (s *server) admit(scope consent.Scope, own bool) func(huma.Context, func(huma.Context)) {
	return func(hc huma.Context, next func(huma.Context)) {
		hc = huma.WithValue(jsonFirst{hc}, callKey{}, call{server: s})
		hc.SetHeader("Cache-Control", "no-store") // every answer is about a person, or a secret
		actor, err := s.identify(hc, scope, own)
		if u := hc.URL(); err == nil {
			if _, malformed := url.ParseQuery(u.RawQuery); malformed != nil {
				err = consent.Errorf(consent.Malformed, "The query of the URL cannot be read.")
			}
		}
		if err != nil {
			_ = huma.WriteErr(s.huma, hc, 0, "", err) // a client that went away is no one's concern
			return
		}
		next(huma.WithValue(hc, callKey{}, call{s, actor, s.originOf(hc), hc.SetHeader, new(consent.Faults)}))
	}
}

func (s *server) identify(hc huma.Context, scope consent.Scope, own bool) (core.Actor, error) {
	if scope == public {
		return core.Actor{}, s.public.Take(visitorOf(hc).Address)
	}
	actor, err := s.authenticate(hc)
	if err != nil {
		return core.Actor{}, err
	}
	citizen, named := !actor.Citizen.IsZero(), hc.Param("citizenId")
	if citizen && (!own || named != "" && !strings.EqualFold(named, actor.Citizen.String())) || !citizen && scope == oneself {
		return core.Actor{}, core.ErrUnauthenticated
	}
	if err := s.Core.AllowOrigin(hc.Context(), actor, s.originOf(hc)); err != nil {
		return core.Actor{}, err
	}
	if err := s.credentials.Take(actor.ID); err != nil {
		return core.Actor{}, err
	}
	if !citizen && !slices.Contains(actor.Scopes, scope) {
		return core.Actor{}, consent.Errorf(consent.Forbidden, "The credential lacks the scope %s.", scope)
	}
	return actor, nil
}

func (s *server) authenticate(hc huma.Context) (core.Actor, error) {
	if key := hc.Header("X-API-Key"); key != "" {
		return s.Identity.ByAPIKey(hc.Context(), key)
	}
	return s.Identity.ByBearer(hc.Context(), bearer(hc.Header("Authorization")))
}

// bearer gives the token of an Authorization header, empty where there is none.
// Clients in the field write "Bearer: token" as well.
func bearer(header string) string {
	const scheme = "bearer"
	if len(header) <= len(scheme) || !strings.EqualFold(header[:len(scheme)], scheme) || !strings.ContainsAny(header[len(scheme):len(scheme)+1], " :") {
		return ""
	}
	return strings.TrimSpace(strings.TrimLeft(header[len(scheme):], " :"))
}

// publicRate is how many public calls a second one address may make: far more than
// a client that keeps its token needs, even where many share an address, and
// little enough that nobody can keep the database busy without a credential.
const publicRate = 100
