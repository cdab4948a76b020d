package e2e_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-oauth2/oauth2/v4"
	"github.com/go-oauth2/oauth2/v4/manage"
	"github.com/go-oauth2/oauth2/v4/models"
	oauthserver "github.com/go-oauth2/oauth2/v4/server"

	"github.com/opencpm/opencpm/test/harness"
)

// idp is an OAuth 2.0 server that replaces the refresh token with each refresh: the one before is refused, and so is the
// access token that came with it.
type idp struct {
	tokenURL string
	tokens   *manage.Manager

	mu      sync.Mutex
	asked   []string // the grants that were asked for
	refused []string // of these
	planted []string // every token that a message came with
}

const idpClient, idpSecret = "opencpm", "planted-idp-secret-8c1f"

// newIDP starts an OAuth server. Its client's own tokens live as long as lives.
func newIDP(t *testing.T, lives time.Duration) *idp {
	t.Helper()
	tokens := manage.NewDefaultManager()
	tokens.MapTokenStorage(&idpTokens{list: map[string]models.Token{}})
	tokens.SetClientTokenCfg(&manage.Config{AccessTokenExp: lives})
	tokens.MapClientStorage(idpClients{})
	s := oauthserver.NewDefaultServer(tokens)
	s.SetClientInfoHandler(oauthserver.ClientFormHandler)
	p := &idp{tokens: tokens}
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen := &statusOf{ResponseWriter: w}
		err := s.HandleTokenRequest(seen, r)
		p.mu.Lock()
		defer p.mu.Unlock()
		p.asked = append(p.asked, r.FormValue("grant_type"))
		if err != nil || seen.status != http.StatusOK {
			p.refused = append(p.refused, fmt.Sprint(r.FormValue("grant_type"), " ", seen.status, " ", err))
		}
	}))
	t.Cleanup(web.Close)
	p.tokenURL = web.URL + "/oauth/token"
	return p
}

// idpTokens keeps the tokens of the server, by what they are: its own store never ends the goroutine it starts.
type idpTokens struct {
	mu   sync.Mutex
	list map[string]models.Token
}

func (s *idpTokens) Create(_ context.Context, info oauth2.TokenInfo) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	token := *info.(*models.Token)
	for _, name := range []string{token.Access, token.Refresh} {
		if name != "" {
			s.list[name] = token
		}
	}
	return nil
}

func (s *idpTokens) remove(name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.list, name)
	return nil
}

func (s *idpTokens) get(name string) (oauth2.TokenInfo, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if token, ok := s.list[name]; ok {
		return &token, nil
	}
	return nil, nil //nolint:nilnil // as the interface asks
}

func (s *idpTokens) RemoveByCode(_ context.Context, code string) error     { return s.remove(code) }
func (s *idpTokens) RemoveByAccess(_ context.Context, access string) error { return s.remove(access) }

func (s *idpTokens) RemoveByRefresh(_ context.Context, refresh string) error {
	return s.remove(refresh)
}

func (s *idpTokens) GetByCode(_ context.Context, code string) (oauth2.TokenInfo, error) {
	return s.get(code)
}

func (s *idpTokens) GetByAccess(_ context.Context, access string) (oauth2.TokenInfo, error) {
	return s.get(access)
}

func (s *idpTokens) GetByRefresh(_ context.Context, refresh string) (oauth2.TokenInfo, error) {
	return s.get(refresh)
}

// idpClients knows the one client of the server.
type idpClients struct{}

func (idpClients) GetByID(_ context.Context, id string) (oauth2.ClientInfo, error) {
	if id != idpClient {
		return nil, fmt.Errorf("there is no client %s", id)
	}
	return &models.Client{ID: idpClient, Secret: idpSecret}, nil
}

type statusOf struct {
	http.ResponseWriter
	status int
}

func (s *statusOf) WriteHeader(status int) {
	s.status = status
	s.ResponseWriter.WriteHeader(status)
}

// login gives the tokens that a person's consent at the server would have led to.
func (p *idp) login(t *testing.T) (access, refresh string) {
	t.Helper()
	info, err := p.tokens.GenerateAccessToken(t.Context(), oauth2.PasswordCredentials, &oauth2.TokenGenerateRequest{
		ClientID: idpClient, ClientSecret: idpSecret, UserID: "operator", Request: httptest.NewRequest(http.MethodPost, "/", nil),
	})
	if err != nil {
		t.Fatal(err)
	}
	return info.GetAccess(), info.GetRefresh()
}

// guard is a receiver that takes only what comes with a token of which the server says that it is alive.
func (p *idp) guard(w http.ResponseWriter, m *harness.Message) {
	access, _ := strings.CutPrefix(m.Header.Get("Authorization"), "Bearer ")
	p.mu.Lock()
	p.planted = append(p.planted, access)
	p.mu.Unlock()
	if _, err := p.tokens.LoadAccessToken(context.Background(), access); err != nil {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// revoke ends the token that the last message came with.
func (p *idp) revoke(t *testing.T) {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.tokens.RemoveAccessToken(t.Context(), p.planted[len(p.planted)-1]); err != nil {
		t.Fatal(err)
	}
}

// expectGrants requires that the server was asked so often for a token, of this kind alone, and refused nothing.
func (p *idp) expectGrants(t *testing.T, grant string, least, most int) {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, g := range p.asked {
		if g != grant {
			t.Errorf("asked for %q, want %q", g, grant)
		}
	}
	if n := len(p.asked); n < least || n > most || len(p.refused) != 0 {
		t.Errorf("asked for %d tokens, want %d to %d, of which were refused %v", n, least, most, p.refused)
	}
}

// expectDelivered waits until the endpoint is known to have accepted n messages, none of which may have failed before.
func (w *world) expectDelivered(t *testing.T, hook string, n int) {
	t.Helper()
	var last object
	eventually(t, harness.Patience, fmt.Sprint(n, " deliveries are counted"), func() bool {
		last = w.api.do(t, "GET", "/v1/subscriptions/"+hook, nil).want(t, 200).body.(object)["endpoint"].(object)
		return last["delivered"].(float64) >= float64(n) || last["failed"].(float64) > 0
	})
	if last["failed"].(float64) != 0 {
		t.Errorf("deliveries failed: %v", last)
	}
}

// burst records a change of each of n new citizens at once, and waits until all were sent.
func (w *world) burst(t *testing.T, r *harness.Receiver, name string, n int) {
	t.Helper()
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() { w.record(t, fmt.Sprint(name, i), change("newsletter-email", "consent", "GRANTED")) })
	}
	all.Wait()
	for i := range n {
		r.AwaitCount(t, fmt.Sprint(name, i), 1)
	}
}

// TestOAuthRefresh has an endpoint that accepts the tokens of an OAuth server alone, which revokes them now and then.
func TestOAuthRefresh(t *testing.T) {
	harness.OnEachStore(t, func(t *testing.T, s *harness.Store) {
		p, r := newIDP(t, time.Hour), harness.NewReceiver(t)
		r.Respond(p.guard)
		w := start(t, s, northwind, impatient...)
		if s.Dir == "" {
			s.Serve(t, impatient...) // another process on the same database
		}
		access, refresh := p.login(t)
		hook := w.subscribe(t, r.URL+"/hook", object{
			"authType": "token", "token": access, "refreshToken": refresh, "refreshUrl": p.tokenURL, "clientId": idpClient, "clientSecret": idpSecret,
		}).text(t, "id")
		const n = 40
		w.burst(t, r, "before", n)
		p.expectGrants(t, "refresh_token", 0, 0)
		for round := 1; round <= 3; round++ {
			w.expectDelivered(t, hook, round*n)
			p.revoke(t)
			w.burst(t, r, fmt.Sprint("round-", round, "-"), n)
			w.expectDelivered(t, hook, (round+1)*n)
			p.expectGrants(t, "refresh_token", round, round)
			if round == 2 {
				w.server.Stop(t)
				w.server = s.Serve(t, impatient...)
				w.api = connect(t, w.server, w.clientID, w.clientSecret)
			}
		}
		w.server.Stop(t)
		absent(t, "the logs", s.Emitted.String(), append(p.planted, refresh, idpSecret)...)
	})
}

// TestOAuthClientCredentials has the same endpoint called with tokens that the program gets for itself, which end after
// three seconds.
func TestOAuthClientCredentials(t *testing.T) {
	harness.OnEachStore(t, func(t *testing.T, s *harness.Store) {
		p, r := newIDP(t, 3*time.Second), harness.NewReceiver(t)
		r.Respond(p.guard)
		w := start(t, s, northwind, impatient...)
		hook := w.subscribe(t, r.URL+"/hook", object{
			"authType": "token", "tokenUrl": p.tokenURL, "clientId": idpClient, "clientSecret": idpSecret, "scope": "consent",
		}).text(t, "id")
		n := 0
		for began := time.Now(); time.Since(began) < 7*time.Second; n++ {
			w.burst(t, r, fmt.Sprint("round-", n, "-"), 1)
			r.Quiet(t, "nobody", 100*time.Millisecond)
		}
		w.expectDelivered(t, hook, n)
		p.expectGrants(t, "client_credentials", 3, 4)
		absent(t, "the logs", s.Emitted.String(), append(p.planted, idpSecret)...)
	})
}
