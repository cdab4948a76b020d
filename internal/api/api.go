// Package api is the HTTP API: it turns requests into calls of package core and
// their outcomes into JSON, and publishes the OpenAPI document of exactly what it
// does, generated from the types that it reads and writes.
package api

import (
	"context"
	"log/slog"
	"math"
	"net/http"
	"net/netip"
	"net/url"
	"path"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/internal/core"
	"github.com/opencpm/opencpm/internal/identity"
)

// Options are what the API is made of.
type Options struct {
	Core     *core.Service
	Identity *identity.Service

	// BaseURL is where clients reach the API; the document names it. Empty means the
	// host that serves the document.
	BaseURL string
	// Version is the version of the program, for the document.
	Version string

	// Health, Ready and Metrics answer /healthz, /readyz and /metrics; nil means 404.
	Health, Ready, Metrics http.Handler
	// Pages answers the paths that it has patterns for and the API has not; nil means
	// none.
	Pages *http.ServeMux
	// Middleware stands around every call, the first one outermost. It gets requests
	// whose paths are clean and passes on the request that is routed, so that it can
	// read the route from it afterwards.
	Middleware []func(http.Handler) http.Handler

	// RateLimit is how many calls a second one credential may make; 0 means no limit.
	RateLimit float64
	// TrustedProxies are the networks of the proxies in front that say in X-Forwarded-For
	// who calls; nobody else is believed.
	TrustedProxies []netip.Prefix
	// TokenAudience is the audience that a token request must name; empty means that
	// any is accepted, or none.
	TokenAudience string

	// Log receives failures that are ours; nil means slog.Default.
	Log *slog.Logger
}

// server is the API at work.
type server struct {
	Options
	huma        huma.API
	mux         *http.ServeMux
	credentials *core.Limiter // nil without a limit
	public      *core.Limiter
}

// New returns the handler of the API.
func New(o Options) http.Handler {
	configureHuma()
	if o.Log == nil {
		o.Log = slog.Default()
	}
	o.BaseURL = strings.TrimRight(o.BaseURL, "/")
	s := &server{Options: o, mux: http.NewServeMux(), public: core.NewLimiter(publicRate, publicRate)}
	if o.RateLimit > 0 {
		s.credentials = core.NewLimiter(o.RateLimit, int(math.Ceil(o.RateLimit)))
	}
	s.huma = humago.New(s.mux, s.config())
	s.routes()
	s.serveDocument()

	h := shared(s.mux)
	for i := range o.Middleware {
		h = o.Middleware[len(o.Middleware)-1-i](h)
	}
	return timely(behind(o.TrustedProxies, clean(h)))
}

// public marks a call that needs no credential.
const public consent.Scope = ""

// oneself marks a call that is for citizens alone.
const oneself consent.Scope = "oneself"

// routes is the whole of the API: what is called, the operation's name in the
// document, the scope that the caller needs, and who answers.
func (s *server) routes() {
	route(s, "POST   /oauth/token", "createAccessToken", public, s.createAccessToken)

	route(s, "POST   /v1/citizens", "createCitizen", consent.CitizensWrite, s.createCitizen)
	route(s, "POST   /v1/citizens/bulk", "createCitizens", consent.CitizensWrite, s.createCitizens)
	route(s, "GET    /v1/citizens", "findCitizen", consent.CitizensRead, s.findCitizen)
	route(s, "GET    /v1/citizens/{citizenId}", "getCitizen", consent.CitizensRead, s.getCitizen)
	route(s, "PATCH  /v1/citizens/{citizenId}", "changeCitizen", consent.CitizensWrite, s.changeCitizen)
	route(s, "DELETE /v1/citizens/{citizenId}", "eraseCitizen", consent.CitizensWrite, s.eraseCitizen)

	route(s, "GET    /v1/citizens/{citizenId}/email", "getEmailAddress", consent.CitizensRead, s.getEmail)
	route(s, "PUT    /v1/citizens/{citizenId}/email", "setEmailAddress", consent.CitizensWrite, s.putEmail)
	route(s, "DELETE /v1/citizens/{citizenId}/email", "deleteEmailAddress", consent.CitizensWrite, s.deleteEmail)
	route(s, "POST   /v1/citizens/search", "searchCitizens", consent.CitizensRead, s.searchCitizens)

	route(s, "GET    /v1/citizens/{citizenId}/history", "getHistory", consent.ConsentRead, s.getHistory)
	route(s, "GET    /v1/citizens/{citizenId}/evidence", "getEvidence", consent.ConsentRead, s.getEvidence)

	route(s, "GET    /v1/citizens/me/history", "getOwnHistory", oneself, s.getOwnHistory)
	route(s, "GET    /v1/citizens/me/evidence", "getOwnEvidence", oneself, s.getOwnEvidence)
	route(s, "GET    /v1/consent-state", "getConsentState", consent.ConsentRead, s.getConsentState)
	route(s, "POST   /v1/consent-state", "putConsentState", consent.ConsentWrite, s.putConsentState)
	route(s, "GET    /v1/unauthenticated/consent-state", "getPublicConsentState", public, s.getPublicConsentState)
	route(s, "POST   /v1/unauthenticated/transactions", "capture", public, s.capture)
	route(s, "GET    /v1/captures", "listCaptures", consent.ConsentWrite, s.listCaptures)
	route(s, "POST   /v1/captures/{id}/acceptance", "acceptCapture", consent.ConsentWrite, s.acceptCapture)
	route(s, "POST   /v1/captures/{id}/rejection", "rejectCapture", consent.ConsentWrite, s.rejectCapture)
	route(s, "GET    /v1/citizens/{citizenId}/emails", "listCitizenEmails", consent.ConsentRead, s.listEmails)

	route(s, "POST   /v1/permissions/transactions", "recordTransaction", consent.ConsentWrite, s.recordTransaction)
	route(s, "GET    /v1/permissions/transactions", "listTransactions", consent.ConsentRead, s.listTransactions)
	route(s, "POST   /v1/permissions/transactions/{transactionId}/reversion", "revertTransaction", consent.ConsentWrite, s.revertTransaction)
	route(s, "GET    /v1/permissions", "getPermissions", consent.ConsentRead, s.getPermissions)
	route(s, "GET    /v1/permissions/effective", "listEffective", consent.ConsentRead, s.listEffective)
	route(s, "GET    /v1/permissions/explain", "explainPermissions", consent.ConsentRead, s.explainPermissions)
	route(s, "GET    /v1/changes", "listChanges", consent.ConsentRead, s.listChanges)

	route(s, "POST   /v1/submissions", "createSubmission", consent.ConsentWrite, s.createSubmission)
	route(s, "GET    /v1/submissions", "listSubmissions", consent.ConsentRead, s.listSubmissions)
	route(s, "GET    /v1/preferences", "getPreferences", consent.ConsentRead, s.getPreferences)

	route(s, "POST   /v1/subscriptions", "createSubscription", consent.WebhooksManage, s.createSubscription)
	route(s, "GET    /v1/subscriptions", "listSubscriptions", consent.WebhooksManage, s.listSubscriptions)
	route(s, "GET    /v1/subscriptions/{id}", "getSubscription", consent.WebhooksManage, s.getSubscription)
	route(s, "PUT    /v1/subscriptions/{id}", "replaceSubscription", consent.WebhooksManage, s.replaceSubscription)
	route(s, "PATCH  /v1/subscriptions/{id}", "changeSubscription", consent.WebhooksManage, s.changeSubscription)
	route(s, "DELETE /v1/subscriptions/{id}", "deleteSubscription", consent.WebhooksManage, s.deleteSubscription)
	route(s, "POST   /v1/subscriptions/{id}/rotate-secret", "rotateSecret", consent.WebhooksManage, s.rotateSecret)
	route(s, "GET    /v1/subscriptions/{id}/deliveries", "listDeliveries", consent.WebhooksManage, s.listDeliveries)
	route(s, "GET    /v1/subscriptions/{id}/deliveries/{deliveryId}", "getDelivery", consent.WebhooksManage, s.getDelivery)
	route(s, "GET    /v1/subscriptions/{id}/waiting", "listWaiting", consent.WebhooksManage, s.listWaiting)
	route(s, "POST   /v1/subscriptions/test", "testSettings", consent.WebhooksManage, s.testSettings)
	route(s, "POST   /v1/subscriptions/{id}/test", "testSubscription", consent.WebhooksManage, s.testSubscription)
	route(s, "POST   /v1/subscriptions/{id}/redeliver", "redeliver", consent.WebhooksManage, s.redeliver)
	route(s, "POST   /v1/subscriptions/{id}/resync", "resync", consent.WebhooksManage, s.resync)
	route(s, "POST   /v1/subscriptions/{id}/discard", "discard", consent.WebhooksManage, s.discard)

	route(s, "POST   /v1/jobs", "createJob", consent.JobsWrite, s.createJob)
	route(s, "GET    /v1/jobs", "listJobs", consent.JobsRead, s.listJobs)
	route(s, "GET    /v1/jobs/events", "watchJobs", consent.JobsRead, s.watchJobs)
	route(s, "GET    /v1/jobs/{id}", "getJob", consent.JobsRead, s.getJob)
	route(s, "POST   /v1/jobs/{id}/cancel", "cancelJob", consent.JobsWrite, s.cancelJob)
	route(s, "GET    /v1/jobs/{id}/files/{name}", "getJobFile", consent.JobsRead, s.getJobFile)

	route(s, "POST   /v1/access-tokens/tokens", "createCitizenToken", consent.TokensCreate, s.createToken)
	route(s, "POST   /v1/access-tokens/unsubscribe", "createUnsubscribeLink", consent.TokensCreate, s.createUnsubscribeLink)
	route(s, "POST   /v1/access-tokens/jobs", "createTokenJob", consent.TokensCreate, s.createTokenJob)
	route(s, "GET    /v1/access-tokens/jobs/{id}", "getTokenJob", consent.TokensCreate, s.getTokenJob)
	route(s, "GET    /v1/access-tokens/jobs/{id}/file", "getTokenJobFile", consent.TokensCreate, s.getTokenJobFile)
	route(s, "GET    /v1/access-tokens/issues", "listTokenIssues", consent.TokensRevoke, s.listTokenIssues)
	route(s, "POST   /v1/access-tokens/issues/{issue}/revocation", "revokeTokenIssue", consent.TokensRevoke, s.revokeTokenIssue)
	route(s, "POST   /v1/citizens/{citizenId}/token-revocations", "revokeCitizenTokens", consent.TokensRevoke, s.revokeTokens)

	route(s, "POST   /v1/suppressions", "createSuppression", consent.SuppressionsManage, s.createSuppression)
	route(s, "GET    /v1/suppressions", "listSuppressions", consent.SuppressionsManage, s.listSuppressions)
	route(s, "POST   /v1/suppressions/search", "searchSuppressions", consent.SuppressionsManage, s.searchSuppressions)
	route(s, "DELETE /v1/suppressions/{id}", "liftSuppression", consent.SuppressionsManage, s.liftSuppression)
	route(s, "POST   /u/{token}", "unsubscribe", public, s.oneClick)
	s.documentOneClick()

	route(s, "GET    /v1/permissions/configuration", "getPermissionConfiguration", consent.ConsentRead, s.getPermissionConfiguration)

	route(s, "GET    /v1/configuration", "getConfiguration", consent.ConfigurationRead, s.getConfiguration)
	route(s, "PUT    /v1/configuration", "putConfiguration", consent.ConfigurationWrite, s.putConfiguration)
	configure[consent.Party](s)
	configure[consent.Purpose](s)
	configure[consent.Channel](s)
	configure[consent.Option](s)
	configure[consent.OptionGroupItem](s)
	configure[consent.Preference](s)
	configure[consent.PrivacyPolicy](s)
	configure[consent.PermissionStatement](s)
	configure[consent.Template](s)
	route(s, "GET    /v1/configuration/templates/{id}/draft", "getTemplateDraft", consent.ConfigurationRead, s.getDraft)
	route(s, "PUT    /v1/configuration/templates/{id}/draft", "putTemplateDraft", consent.ConfigurationWrite, s.putDraft)
	route(s, "DELETE /v1/configuration/templates/{id}/draft", "deleteTemplateDraft", consent.ConfigurationWrite, s.deleteDraft)
	route(s, "POST   /v1/configuration/templates/{id}/draft/publication", "publishTemplateDraft", consent.ConfigurationWrite, s.publishDraft)
	route(s, "GET    /v1/configuration/templates/{id}/lint", "lintTemplate", consent.ConfigurationRead, s.lintTemplate)
	route(s, "GET    /v1/configuration/templates/{id}/draft/lint", "lintTemplateDraft", consent.ConfigurationRead, s.lintDraft)
	configure[consent.RuleSet](s)
	configure[consent.PreferenceCentre](s)
	configure[consent.EmailText](s)

	s.handedIn("/healthz", "live", s.Health)
	s.handedIn("/readyz", "ready", s.Ready)
	s.handedIn("/metrics", "metrics", s.Metrics)
	s.mux.HandleFunc("/", s.unmatched)
}

// nothing is the answer of a call that has nothing to say: 204.
type nothing struct{}

type answer[O any] struct{ Body O }

// stream is an answer that writes itself, in one of the media types of its prose.
type stream func(huma.Context)

// route adds one call: it documents it and lets handle answer it. handle gets
// requests that keep to the document, from a caller who has the scope.
func route[I, O any](s *server, pattern, id string, scope consent.Scope, handle func(context.Context, core.Actor, *I) (O, error)) {
	method, at, _ := strings.Cut(pattern, " ")
	op := s.operation(id, method, strings.TrimSpace(at), scope)
	request, hasBody := any(new(I)).(documented)
	if hasBody {
		op.Errors = append(op.Errors, http.StatusRequestTimeout, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType, http.StatusUnprocessableEntity)
	}
	switch any(*new(O)).(type) {
	case nothing:
		huma.Register(s.huma, op, func(ctx context.Context, in *I) (*struct{}, error) {
			_, err := handle(ctx, callOf(ctx).actor, in)
			return nil, err
		})
	case stream:
		huma.Register(s.huma, op, func(ctx context.Context, in *I) (*huma.StreamResponse, error) {
			out, err := handle(ctx, callOf(ctx).actor, in)
			if err != nil {
				return nil, err
			}
			return &huma.StreamResponse{Body: any(out).(stream)}, nil
		})
	default:
		huma.Register(s.huma, op, func(ctx context.Context, in *I) (*answer[O], error) {
			out, err := handle(ctx, callOf(ctx).actor, in)
			return &answer[O]{out}, err
		})
	}
	if operations[id].yaml && !hasBody {
		answers := s.registered(method, op.Path).Responses["200"].Content
		answers[yamlType] = &huma.MediaType{Schema: answers[jsonType].Schema}
	}
	if operations[id].page {
		s.registered(method, op.Path).Responses["200"].Content[htmlType] = &huma.MediaType{Schema: &huma.Schema{Type: huma.TypeString}}
	}
	if hasBody {
		// Only now, or huma would read the body by rules of its own.
		s.registered(method, op.Path).RequestBody = s.documentBody(id, request)
	}
}

// registered gives the operation of the document that answers a call.
func (s *server) registered(method, at string) *huma.Operation {
	item := s.huma.OpenAPI().Paths[at]
	switch method {
	case http.MethodPost:
		return item.Post
	case http.MethodPut:
		return item.Put
	case http.MethodPatch:
		return item.Patch
	}
	return item.Get
}

// handedIn adds a call that another package answers.
func (s *server) handedIn(at, id string, h http.Handler) {
	if h == nil {
		return
	}
	s.mux.Handle("GET "+at, h)
	op := s.operation(id, http.MethodGet, at, public)
	op.Responses = map[string]*huma.Response{"200": {Description: "What was asked for"}}
	s.huma.OpenAPI().AddOperation(&op)
}

// unmatched answers what no route does.
func (s *server) unmatched(w http.ResponseWriter, r *http.Request) {
	var allowed []string
	for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete} {
		if _, pattern := s.mux.Handler(&http.Request{Method: method, Host: r.Host, URL: r.URL}); pattern != "/" {
			allowed = append(allowed, method)
		}
	}
	page := ""
	if s.Pages != nil {
		_, page = s.Pages.Handler(r)
	}
	switch {
	case page != "": // which may answer to another method what the API answers to one
		s.Pages.ServeHTTP(w, r)
	case allowed != nil:
		w.Header().Set("Allow", strings.Join(allowed, ", "))
		write(w, r, refusal{http.StatusMethodNotAllowed, "This path does not answer the method; see the Allow header."})
	default:
		write(w, r, errNothingHere)
	}
}

// timely bounds the time in which the body of a request must have arrived, even of
// one that is refused unread: net/http reads what is left of a body before it
// sends the answer.
func timely(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength != 0 {
			_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyTime)) // fails in tests only, which have no connection
		}
		next.ServeHTTP(w, r)
	})
}

// clean answers a path with doubled slashes, dots or a slash at its end as if it
// were clean: clients in the field send //v1/consent-state and follow no redirect.
// It works on the escaped form, so that an escaped slash stays within its segment.
func clean(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		escaped := r.URL.EscapedPath()
		if cleaned := path.Clean("/" + escaped); cleaned != escaped {
			cleanURL := *r.URL
			cleanURL.RawPath = cleaned
			cleanURL.Path, _ = url.PathUnescape(cleaned) // EscapedPath gives valid escapes only
			r2 := *r
			r2.URL = &cleanURL
			r = &r2
		}
		next.ServeHTTP(w, r)
	})
}
