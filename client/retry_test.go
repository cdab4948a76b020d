package client_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/opencpm/opencpm/client"
)

// A server answers the calls of a client in memory, so that fake time runs.
type server func(r *http.Request) (status int, header http.Header, body string, err error)

func (s server) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body != nil {
		defer r.Body.Close()
	}
	status, header, body, err := s(r)
	if err != nil {
		return nil, err
	}
	if header == nil {
		header = http.Header{"Content-Type": {"application/json"}}
	}
	return &http.Response{StatusCode: status, Header: header, Body: io.NopCloser(strings.NewReader(body)), Request: r}, nil
}

func newClient(t *testing.T, auth client.Auth, s server) *client.Client {
	t.Helper()
	c, err := client.New("http://consent.example", auth, client.WithHTTPClient(&http.Client{Transport: s}))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func problem(pairs ...string) http.Header {
	h := http.Header{"Content-Type": {"application/problem+json; charset=utf-8"}, "X-Request-Id": {"req-1"}}
	for i := 0; i < len(pairs); i += 2 {
		h.Set(pairs[i], pairs[i+1])
	}
	return h
}

func record(ctx context.Context, c *client.Client) error {
	_, err := c.RecordTransaction(ctx, client.Transaction{ApplicationID: "nw", ExternalRef: "A"})
	return err
}

func revert(ctx context.Context, c *client.Client) error {
	_, err := c.Revert(ctx, client.Reversion{TransactionID: "t1"})
	return err
}

func submit(ctx context.Context, c *client.Client) error {
	_, err := c.Submit(ctx, client.Submission{ApplicationID: "nw", ExternalRef: "A"})
	return err
}

func createMany(ctx context.Context, c *client.Client) error {
	_, err := c.CreateCitizens(ctx, client.NewCitizens{ApplicationID: "nw"})
	return err
}

func read(ctx context.Context, c *client.Client) error {
	_, err := c.Citizen(ctx, "1")
	return err
}

func subscribe(ctx context.Context, c *client.Client) error {
	_, err := c.CreateSubscription(ctx, client.Subscription{})
	return err
}

func TestRetries(t *testing.T) {
	down := errors.New("connection refused")
	for _, test := range []struct {
		name     string
		call     func(context.Context, *client.Client) error
		refusals int // before the server answers 200
		status   int // 0: the connection fails
		header   http.Header
		calls    int
		least    time.Duration // that the call must take
		most     time.Duration
		fails    bool
	}{
		{"waits as long as a busy server asks", read, 2, 503, problem("Retry-After", "20"), 3, 40 * time.Second, 41 * time.Second, false},
		{"reads a date, too", read, 1, 429, problem("Retry-After", "Sat, 01 Jan 2000 00:00:30 GMT"), 2, 30 * time.Second, 31 * time.Second, false},
		{"backs off by itself where the server does not say", read, 2, 503, problem(), 3, 300 * time.Millisecond, 600 * time.Millisecond, false},
		{"and where it says nonsense", read, 1, 503, problem("Retry-After", "-1"), 2, 100 * time.Millisecond, 200 * time.Millisecond, false},
		{"gives up in the end", read, 99, 503, problem(), 5, time.Second, 4 * time.Second, true},
		{"does not sleep for an hour", read, 1, 503, problem("Retry-After", "3600"), 1, 0, 0, true},
		{"repeats a POST with a key", record, 2, 429, problem("Retry-After", "1"), 3, 2 * time.Second, 3 * time.Second, false},
		{"repeats a reversion", revert, 1, 503, problem("Retry-After", "1"), 2, time.Second, 2 * time.Second, false},
		{"repeats a submission", submit, 1, 503, problem("Retry-After", "1"), 2, time.Second, 2 * time.Second, false},
		{"repeats a bulk creation", createMany, 1, 503, problem("Retry-After", "1"), 2, time.Second, 2 * time.Second, false},
		{"repeats it when the connection fails", record, 3, 0, nil, 4, 500 * time.Millisecond, 2 * time.Second, false},
		{"gives up on the connection, too", record, 99, 0, nil, 5, time.Second, 4 * time.Second, true},
		{"does not repeat a POST without a key", subscribe, 1, 503, problem("Retry-After", "1"), 1, 0, 0, true},
		{"nor when the connection fails", subscribe, 1, 0, nil, 1, 0, 0, true},
		{"does not repeat what is wrong", read, 1, 422, problem(), 1, 0, 0, true},
		{"nor a fault of the server", read, 1, 500, problem(), 1, 0, 0, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var keys []string
				calls := 0
				c := newClient(t, client.APIKey("k"), func(r *http.Request) (int, http.Header, string, error) {
					calls++
					keys = append(keys, r.Header.Get("Idempotency-Key"))
					if body, _ := io.ReadAll(r.Body); r.Method == http.MethodPost && len(body) == 0 {
						t.Errorf("try %d had no body", calls)
					}
					switch {
					case calls > test.refusals:
						return 200, nil, `{}`, nil
					case test.status == 0:
						return 0, nil, "", down
					}
					return test.status, test.header, `{"title":"No","detail":"Not now."}`, nil
				})
				start := time.Now()
				err := test.call(t.Context(), c)
				took := time.Since(start)
				if (err != nil) != test.fails {
					t.Errorf("error %v", err)
				}
				var p *client.Problem
				if test.fails && test.status != 0 && (!errors.As(err, &p) || p.Status != test.status || p.Detail != "Not now." || p.RequestID != "req-1") {
					t.Errorf("error %#v is not the problem", err)
				}
				if test.fails && test.status == 0 && !errors.Is(err, down) {
					t.Errorf("error %v hides its cause", err)
				}
				if calls != test.calls {
					t.Errorf("%d calls, want %d", calls, test.calls)
				}
				if took < test.least || took > test.most {
					t.Errorf("took %v, want %v to %v", took, test.least, test.most)
				}
				for _, k := range keys[1:] {
					if k != keys[0] {
						t.Errorf("the key changed: %q", keys)
					}
				}
			})
		})
	}
}

func TestKeysDiffer(t *testing.T) {
	var keys []string
	c := newClient(t, client.APIKey("k"), func(r *http.Request) (int, http.Header, string, error) {
		keys = append(keys, r.Header.Get("Idempotency-Key"))
		return 200, nil, `{}`, nil
	})
	for range 2 {
		if err := record(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.RecordTransaction(t.Context(), client.Transaction{IdempotencyKey: "mine"}); err != nil {
		t.Fatal(err)
	}
	if keys[0] == "" || keys[0] == keys[1] || keys[2] != "mine" {
		t.Errorf("keys %q", keys)
	}
}

func TestTheCallerCanStopWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newClient(t, client.APIKey("k"), func(*http.Request) (int, http.Header, string, error) {
			return 503, problem("Retry-After", "30"), `{}`, nil
		})
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		start := time.Now()
		var p *client.Problem
		if err := read(ctx, c); !errors.As(err, &p) || p.RetryAfter != 30*time.Second {
			t.Errorf("error %v", err)
		}
		if took := time.Since(start); took != 10*time.Second {
			t.Errorf("took %v", took)
		}
	})
}

// tokenServer hands out tokens t1, t2, … of an hour and takes only the last.
type tokenServer struct {
	fetches, calls atomic.Int32
	slow           time.Duration
	revoked        atomic.Bool // the next call is refused
	unavailable    atomic.Bool // the token endpoint is
}

func (s *tokenServer) serve(t *testing.T) server {
	return func(r *http.Request) (int, http.Header, string, error) {
		if r.URL.Path == "/oauth/token" {
			if err := r.ParseForm(); err != nil {
				t.Error(err)
			}
			if s.unavailable.Load() {
				return 0, nil, "", errors.New("connection refused")
			}
			if r.PostForm.Get("client_secret") != "s" {
				return 401, nil, `{"error":"invalid_client","error_description":"Unknown client."}`, nil
			}
			if got := r.PostForm.Encode(); got != "client_id=c&client_secret=s&grant_type=client_credentials" {
				t.Errorf("asked for a token with %s", got)
			}
			time.Sleep(s.slow)
			n := s.fetches.Add(1)
			return 200, nil, `{"access_token":"t` + string('0'+n) + `","token_type":"Bearer","expires_in":3600}`, nil
		}
		s.calls.Add(1)
		if s.revoked.CompareAndSwap(true, false) || r.Header.Get("Authorization") != "Bearer t"+string('0'+s.fetches.Load()) {
			return 401, problem(), `{"title":"Unauthenticated"}`, nil
		}
		return 200, nil, `{}`, nil
	}
}

var credentials = client.Credentials{ClientID: "c", ClientSecret: "s"}

func TestOneTokenServesAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &tokenServer{slow: time.Second}
		c := newClient(t, credentials, s.serve(t))
		var all sync.WaitGroup
		for range 20 {
			all.Go(func() {
				if err := record(t.Context(), c); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		if got := s.fetches.Load(); got != 1 {
			t.Errorf("%d tokens were fetched", got)
		}
	})
}

func TestTheFirstCallerMayGoAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &tokenServer{slow: 5 * time.Second}
		c := newClient(t, credentials, s.serve(t))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		go func() {
			if err := read(ctx, c); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("error %v", err)
			}
		}()
		synctest.Wait()
		if err := read(t.Context(), c); err != nil {
			t.Error(err)
		}
		if got := s.fetches.Load(); got != 1 {
			t.Errorf("%d tokens were fetched", got)
		}
	})
}

func TestTheTokenIsRenewedBeforeItExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &tokenServer{}
		c := newClient(t, credentials, s.serve(t))
		for _, step := range []struct {
			at      time.Duration
			fetches int32
		}{{0, 1}, {58 * time.Minute, 1}, {59*time.Minute + time.Second, 2}, {90 * time.Minute, 2}, {5 * time.Hour, 3}} {
			time.Sleep(step.at - time.Since(time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)))
			start := time.Now()
			if err := read(t.Context(), c); err != nil {
				t.Error(err)
			}
			synctest.Wait() // a renewal goes on behind the call
			if got := s.fetches.Load(); got != step.fetches {
				t.Errorf("after %v: %d tokens fetched, want %d", step.at, got, step.fetches)
			}
			if took := time.Since(start); took != 0 {
				t.Errorf("after %v the call took %v", step.at, took)
			}
		}
	})
}

func TestATokenDueForRenewalStillServes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &tokenServer{}
		c := newClient(t, credentials, s.serve(t))
		if err := read(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		s.unavailable.Store(true)
		time.Sleep(59*time.Minute + 30*time.Second)
		if err := read(t.Context(), c); err != nil {
			t.Errorf("with 30 s left: %v", err)
		}
		time.Sleep(time.Minute)
		if err := read(t.Context(), c); err == nil {
			t.Error("an expired token was used")
		}
	})
}

func TestARevokedTokenIsReplacedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &tokenServer{}
		c := newClient(t, credentials, s.serve(t))
		if err := read(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		s.revoked.Store(true)
		// It was refused, so it did nothing: even a call without a key goes again.
		if err := subscribe(t.Context(), c); err != nil {
			t.Error(err)
		}
		if got := s.fetches.Load(); got != 2 {
			t.Errorf("%d tokens were fetched", got)
		}
	})
}

func TestRefusedCredentials(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &tokenServer{}
		c := newClient(t, client.Credentials{ClientID: "c", ClientSecret: "wrong"}, s.serve(t))
		err := read(t.Context(), c)
		want := &client.Problem{Status: 401, Title: "invalid_client", Detail: "Unknown client."}
		if diff := cmp.Diff(error(want), err); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		if got := s.calls.Load(); got != 0 {
			t.Errorf("%d calls were made without a token", got)
		}
	})
}

func TestProblem(t *testing.T) {
	c := newClient(t, client.APIKey("k"), func(*http.Request) (int, http.Header, string, error) {
		return 422, problem(), `{"type":"https://opencpm.org/problems/invalid","title":"Invalid","status":422,"detail":"Two things are wrong.","instance":"/v1/citizens/1",
			"errors":[{"location":"changes[0].state","message":"must be GRANTED"},{"location":"obtainedAt","message":"lies ahead"}]}`, nil
	})
	err := read(t.Context(), c)
	var p *client.Problem
	if !errors.As(err, &p) {
		t.Fatalf("%T is no problem", err)
	}
	want := "422 Invalid: Two things are wrong; changes[0].state must be GRANTED; obtainedAt lies ahead"
	if p.Error() != want {
		t.Errorf("got  %s\nwant %s", p, want)
	}
	if len(p.Errors) != 2 || p.Instance != "/v1/citizens/1" {
		t.Errorf("%#v", p)
	}
}

func TestAnswersThatAreNotOurs(t *testing.T) {
	for name, answer := range map[string]struct {
		status int
		header http.Header
		body   string
		want   string
	}{
		"a proxy's page":         {502, http.Header{"Content-Type": {"text/html"}}, "<h1>secret</h1>", "502 Bad Gateway"},
		"a problem cut short":    {404, problem(), `{"title":"Not fo`, "404 Not Found"},
		"a redirect":             {302, http.Header{"Location": {"https://elsewhere.example"}}, "", "302 Found"},
		"a success cut short":    {200, nil, `{"citizenId":`, "GET v1/citizens/1: reading the answer: unexpected end of JSON input"},
		"a success of elsewhere": {200, nil, `<h1>Welcome</h1>`, "GET v1/citizens/1: reading the answer: invalid character '<' looking for beginning of value"},
	} {
		t.Run(name, func(t *testing.T) {
			transport := server(func(*http.Request) (int, http.Header, string, error) {
				return answer.status, answer.header, answer.body, nil
			})
			h := &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
			c, err := client.New("http://consent.example", client.APIKey("k"), client.WithHTTPClient(h))
			if err != nil {
				t.Fatal(err)
			}
			if err := read(t.Context(), c); err == nil || err.Error() != answer.want {
				t.Errorf("got  %v\nwant %s", err, answer.want)
			}
		})
	}
}
