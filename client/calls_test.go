package client_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/opencpm/opencpm/client"
)

// seen is what the server got of one call.
type seen struct {
	Call, Body string
	Key        bool // carried an Idempotency-Key
}

// serve answers every call with answer and notes what it got.
func serve(t *testing.T, answer string) (*client.Client, *seen) {
	t.Helper()
	got := &seen{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		if key := r.Header.Get("X-API-Key"); key != "key-1" {
			t.Errorf("X-API-Key is %q", key)
		}
		if (len(body) > 0) != (r.Header.Get("Content-Type") == "application/json") {
			t.Errorf("%d bytes of body with Content-Type %q", len(body), r.Header.Get("Content-Type"))
		}
		*got = seen{r.Method + " " + r.URL.RequestURI(), string(body), r.Header.Get("Idempotency-Key") != ""}
		w.Header().Set("Content-Type", "application/json")
		if answer == "" {
			w.WriteHeader(http.StatusNoContent)
		}
		_, _ = io.WriteString(w, answer)
	}))
	t.Cleanup(server.Close)
	c, err := client.New(server.URL+"/", client.APIKey("key-1"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.CloseIdleConnections)
	return c, got
}

// signed gives a subscription with what a server says of its signing secret.
func signed(s client.Subscription, until time.Time) client.Subscription {
	s.SigningSecretLast4, s.PreviousSigningSecretUntil = "made", until
	return s
}

func TestCalls(t *testing.T) {
	at := time.Date(2026, 11, 22, 9, 14, 1, 500e6, time.FixedZone("", 3600))
	const citizen = `{"citizenId":"ctz_1","applicationDetails":[{"applicationId":"nw","externalRef":"A/1","givenName":"Ada","address":{"postalCode":"N1"}}]}`
	const subscription = `{"id":"sub_1","applicationId":"nw","name":"CRM","url":"https://crm.example/in","updateType":"effective-permission","status":"active","authType":"token","token":"****cret","tokenName":"X-Key"}`
	const job = `{"id":"job_1","applicationId":"nw","kind":"ledger-check","state":"running","maxPerSecond":5,"progress":{"done":3,"total":9,"failures":1,"ratePerSecond":1.5,"estimatedEndAt":"2026-11-22T08:14:01.500Z"},
		"createdAt":"2026-11-22T08:14:01.500Z","startedAt":"2026-11-22T08:14:01.500Z","finishedAt":null,"expiresAt":null,"createdBy":"crm","error":null,"files":[{"name":"failures","size":7,"url":"/v1/x"}]}`
	nine := int64(9)
	wantJob := client.Job{
		ID: "job_1", ApplicationID: "nw", Kind: client.LedgerCheck, State: "running", MaxPerSecond: 5,
		Progress:  client.JobProgress{Done: 3, Total: &nine, Failures: 1, RatePerSecond: 1.5, EstimatedEndAt: at.UTC()},
		CreatedAt: at.UTC(), StartedAt: at.UTC(), CreatedBy: "crm", Files: []client.JobFile{{Name: client.JobFailures, Size: 7, URL: "/v1/x"}},
	}
	wantCitizen := client.Citizen{CitizenID: "ctz_1", ApplicationDetails: []client.ApplicationDetails{{
		ApplicationID: "nw", ExternalRef: "A/1",
		Details: client.Details{GivenName: "Ada", Address: client.Address{PostalCode: "N1"}},
	}}}
	wantSubscription := client.Subscription{
		ID: "sub_1", ApplicationID: "nw", Name: "CRM", URL: "https://crm.example/in",
		UpdateType: client.EffectivePermission, Status: "active", AuthType: "token", TokenName: "X-Key",
	}
	change := client.Change{OptionType: client.Option, OptionID: "news", Justification: "consent", State: "GRANTED"}
	const topics = `{"preference":"topics","choices":[{"reference":"jazz","label":"Jazz"}],"label":"Topics","submissionId":"s0","updatedAt":"2026-11-22T08:14:01.500Z"}`
	wantTopics := client.Preference{Preference: "topics", Choices: []client.Choice{{Reference: "jazz", Label: "Jazz"}}, Label: "Topics", SubmissionID: "s0", UpdatedAt: at.UTC()}
	granted := client.Permission{TransactionID: "t1", OptionType: "option", OptionID: "news", State: "GRANTED", ObtainedAt: time.Date(2026, 11, 22, 8, 14, 1, 0, time.UTC)}

	for _, test := range []struct {
		name   string
		answer string
		call   func(context.Context, *client.Client) (any, error)
		seen   seen
		want   any
	}{
		{
			"create a citizen", citizen,
			func(ctx context.Context, c *client.Client) (any, error) {
				return c.CreateCitizen(ctx, client.NewCitizen{ApplicationID: "nw", ExternalRef: "A/1", Details: client.Details{GivenName: "Ada", Address: client.Address{PostalCode: "N1"}}})
			},
			seen{"POST /v1/citizens", `{"applicationId":"nw","externalRef":"A/1","givenName":"Ada","address":{"postalCode":"N1"}}`, true},
			wantCitizen,
		},
		{
			"make a citizen token", `{"token":"ocpm_citizen_x","expiryDate":"2026-11-22T08:14:01.500Z","issue":17}`,
			func(ctx context.Context, c *client.Client) (any, error) {
				return c.CreateCitizenToken(ctx, client.NewCitizenToken{ApplicationID: "nw", ExternalRef: "A/1", ExpiryDate: at.UTC(), BatchReference: "spring"})
			},
			seen{"POST /v1/access-tokens/tokens", `{"applicationId":"nw","externalRef":"A/1","expiryDate":"2026-11-22T08:14:01.5Z","batchReference":"spring"}`, false},
			client.CitizenToken{Token: "ocpm_citizen_x", ExpiryDate: at.UTC(), Issue: 17},
		},
		{
			"make tokens of many", `{"id":"job_1","kind":"citizen-tokens","state":"queued","issue":18,"reference":"spring","expiryDate":"2026-11-22T08:14:01.500Z","revokedAt":null}`,
			func(ctx context.Context, c *client.Client) (any, error) {
				return c.CreateTokenJob(ctx, client.NewTokenJob{
					ApplicationID: "nw", Reference: "spring", ExpiryDate: at.UTC(), CitizenIDs: []string{"ctz_1"}, ExternalRefs: []string{"A/1"}, Unsubscribe: []string{"news"}, MaxPerSecond: 5,
				})
			},
			seen{"POST /v1/access-tokens/jobs", `{"applicationId":"nw","reference":"spring","expiryDate":"2026-11-22T08:14:01.5Z","citizenIds":["ctz_1"],"externalRefs":["A/1"],"unsubscribe":["news"],"maxPerSecond":5}`, true},
			client.TokenJob{Job: client.Job{ID: "job_1", Kind: "citizen-tokens", State: "queued"}, Issue: 18, Reference: "spring", ExpiryDate: at.UTC()},
		},
		{
			"read a job that makes tokens", `{"id":"job_1","issue":18}`,
			func(ctx context.Context, c *client.Client) (any, error) { return c.TokenJob(ctx, "job/1") },
			seen{Call: "GET /v1/access-tokens/jobs/job%2F1"},
			client.TokenJob{Job: client.Job{ID: "job_1"}, Issue: 18},
		},
		{
			"read the tokens", "citizenId,token\r\n",
			func(ctx context.Context, c *client.Client) (any, error) {
				file, err := c.ReadTokenFile(ctx, "job/1")
				if err != nil {
					return nil, err
				}
				defer file.Close()
				text, err := io.ReadAll(file)
				return string(text), err
			},
			seen{Call: "GET /v1/access-tokens/jobs/job%2F1/file"},
			"citizenId,token\r\n",
		},
		{
			"make a link to unsubscribe", `{"token":"ocpm_citizen_x","url":"https://consent.example/u/ocpm_citizen_x"}`,
			func(ctx context.Context, c *client.Client) (any, error) {
				return c.CreateUnsubscribeLink(ctx, client.NewUnsubscribeLink{ApplicationID: "nw", ExternalRef: "A/1", OptionID: "news", OptionType: "group"})
			},
			seen{"POST /v1/access-tokens/unsubscribe", `{"applicationId":"nw","externalRef":"A/1","optionId":"news","optionType":"group"}`, false},
			client.UnsubscribeLink{Token: "ocpm_citizen_x", URL: "https://consent.example/u/ocpm_citizen_x"},
		},
		{
			"revoke the tokens of a citizen", "",
			func(ctx context.Context, c *client.Client) (any, error) {
				return nil, c.RevokeCitizenTokens(ctx, "ctz/1")
			},
			seen{Call: "POST /v1/citizens/ctz%2F1/token-revocations"},
			nil,
		},
		{
			"revoke an issue of tokens", "",
			func(ctx context.Context, c *client.Client) (any, error) { return nil, c.RevokeTokenIssue(ctx, 17) },
			seen{Call: "POST /v1/access-tokens/issues/17/revocation"},
			nil,
		},
		{
			"list the issues of tokens", `{"issues":[{"issue":17,"kind":"subscription","subscriptionId":"sub_1","citizenId":null,"createdBy":"opencpm","expiryDate":null,"revokedAt":null}],"total":1,"nextCursor":null}`,
			func(ctx context.Context, c *client.Client) (any, error) {
				return c.TokenIssues(ctx, client.TokenIssuesQuery{ApplicationID: "nw", Page: client.Page{Limit: 5}})
			},
			seen{Call: "GET /v1/access-tokens/issues?applicationId=nw&limit=5"},
			client.TokenIssueList{Issues: []client.TokenIssue{{Issue: 17, Kind: "subscription", SubscriptionID: "sub_1", CreatedBy: "opencpm"}}, Total: 1},
		},
		{
			"search the delivery log", `{"deliveries":[{"id":"d1","at":"2026-11-22T08:14:01.500Z","citizenId":"ctz_1","eventId":null,"attempt":2,"outcome":"waiting","statusCode":500,"reason":"no","durationMs":1.5,"nextAttemptAt":null}],"nextCursor":"n"}`,
			func(ctx context.Context, c *client.Client) (any, error) {
				return c.Deliveries(ctx, "sub/1", client.DeliveriesQuery{ExternalRef: "A/1", Outcome: "waiting", StatusCode: 500, Since: at, Limit: 5, Cursor: "c"})
			},
			seen{Call: "GET /v1/subscriptions/sub%2F1/deliveries?cursor=c&externalRef=A%2F1&limit=5&outcome=waiting&since=2026-11-22T08%3A14%3A01.5Z&statusCode=500"},
			client.DeliveryList{Deliveries: []client.Delivery{{ID: "d1", At: at.UTC(), CitizenID: "ctz_1", Attempt: 2, Outcome: "waiting", StatusCode: 500, Reason: "no", DurationMs: 1.5}}, NextCursor: "n"},
		},
		{
			"attempts without an answer", `{"deliveries":[],"nextCursor":null}`,
			func(ctx context.Context, c *client.Client) (any, error) {
				return c.Deliveries(ctx, "sub_1", client.DeliveriesQuery{Unanswered: true})
			},
			seen{Call: "GET /v1/subscriptions/sub_1/deliveries?statusCode=0"},
			client.DeliveryList{Deliveries: []client.Delivery{}},
		},
		{
			"read an entry of the delivery log", `{"id":"d1","state":"delivered","request":{"url":"https://crm.example/in","headers":{"A":["b"]},"body":{}},"answer":null,"attempts":[{"id":"d1"}]}`,
			func(ctx context.Context, c *client.Client) (any, error) { return c.Delivery(ctx, "sub_1", "d/1") },
			seen{Call: "GET /v1/subscriptions/sub_1/deliveries/d%2F1"},
			client.DeliveryDetail{
				Delivery: client.Delivery{ID: "d1"}, State: "delivered", Attempts: []client.Delivery{{ID: "d1"}},
				Request: &client.SentRequest{URL: "https://crm.example/in", Headers: map[string][]string{"A": {"b"}}, Body: json.RawMessage(`{}`)},
			},
		},
		{
			"list what waits", `{"waiting":[{"citizenId":"ctz_1","state":"waiting","attempts":4,"nextAttemptAt":"2026-11-22T08:14:01.500Z"}],"nextCursor":null}`,
			func(ctx context.Context, c *client.Client) (any, error) {
				return c.Waiting(ctx, "sub_1", client.WaitingQuery{CitizenID: "ctz_1"})
			},
			seen{Call: "GET /v1/subscriptions/sub_1/waiting?citizenId=ctz_1"},
			client.WaitingList{Waiting: []client.WaitingMessage{{CitizenID: "ctz_1", State: "waiting", Attempts: 4, NextAttemptAt: at.UTC()}}},
		},
		{
			"try a subscription", `{"accepted":false,"statusCode":null,"class":"dns","reason":"no","durationMs":2}`,
			func(ctx context.Context, c *client.Client) (any, error) { return c.TestSubscription(ctx, "sub_1") },
			seen{Call: "POST /v1/subscriptions/sub_1/test"},
			client.Trial{Class: "dns", Reason: "no", DurationMs: 2},
		},
		{
			"resync", `{"messages":0,"job":` + job + `}`,
			func(ctx context.Context, c *client.Client) (any, error) {
				return c.Resync(ctx, "sub_1", client.Resync{Since: at, RatePerSecond: 7})
			},
			seen{"POST /v1/subscriptions/sub_1/resync", `{"since":"2026-11-22T08:14:01.5Z","ratePerSecond":7}`, true},
			wantJob,
		},
		{
			"redeliver what failed since", `{"messages":0,"job":` + job + `}`,
			func(ctx context.Context, c *client.Client) (any, error) { return c.RedeliverSince(ctx, "sub_1", at) },
			seen{"POST /v1/subscriptions/sub_1/redeliver", `{"since":"2026-11-22T08:14:01.5Z"}`, true},
			wantJob,
		},
		{
			"redeliver one", `{"messages":1,"job":null}`,
			func(ctx context.Context, c *client.Client) (any, error) {
				return nil, c.Redeliver(ctx, "sub_1", "d1")
			},
			seen{"POST /v1/subscriptions/sub_1/redeliver", `{"deliveryId":"d1"}`, true},
			nil,
		},
		{
			"discard", `{"messages":3,"job":null}`,
			func(ctx context.Context, c *client.Client) (any, error) {
				return c.Discard(ctx, "sub_1", client.Discard{CitizenID: "ctz_1", Before: at})
			},
			seen{"POST /v1/subscriptions/sub_1/discard", `{"citizenId":"ctz_1","before":"2026-11-22T08:14:01.5Z"}`, true},
			client.Recovery{Messages: 3},
		},
		{
			"export the evidence", `{"records": []}`,
			func(ctx context.Context, c *client.Client) (any, error) { return c.EvidenceOf(ctx, "ctz/1") },
			seen{Call: "GET /v1/citizens/ctz%2F1/evidence"},
			json.RawMessage(`{"records": []}`),
		},
		{
			"read the set-up", `{"application": {"name": "NW"}}`,
			func(ctx context.Context, c *client.Client) (any, error) { return c.Configuration(ctx, "nw") },
			seen{Call: "GET /v1/configuration?applicationId=nw"},
			json.RawMessage(`{"application": {"name": "NW"}}`),
		},
		{
			"read a consent state", `{"applicationId":"nw","citizenId":null,"externalRef":"A/1","templateId":"t_1","locale":"de","locales":["en","de"],"direction":"ltr","snapshot":"s","privacyPolicy":null,"blocks":[
				{"type":"permissions","statement":{"id":"ps_1","reference":"st","version":2,"text":"T","content":[]},"options":[{"optionId":"o","optionType":"option","justification":"consent","label":"O","selected":null,"state":null,"party":null}]},
				{"type":"single-choice-preference","reference":"often","label":"How often","selectedChoice":"weekly","choices":[{"reference":"weekly","label":"W","selected":false}]}]}`,
			func(ctx context.Context, c *client.Client) (any, error) {
				return c.ConsentState(ctx, client.ConsentStateQuery{ApplicationID: "nw", ExternalRef: "A/1", TemplateID: "t_1", RuleID: "r", Locale: "de"})
			},
			seen{Call: "GET /v1/consent-state?applicationId=nw&externalRef=A%2F1&locale=de&ruleId=r&templateId=t_1"},
			client.ConsentState{ApplicationID: "nw", ExternalRef: "A/1", TemplateID: "t_1", Locale: "de", Locales: []string{"en", "de"}, Direction: "ltr", Snapshot: "s", Blocks: []client.ConsentBlock{
				{Type: client.PermissionsBlock, Statement: &client.ConsentStatement{ID: "ps_1", Reference: "st", Version: 2, Text: "T"}, Options: []client.ConsentOption{{OptionID: "o", OptionType: "option", Justification: "consent", Label: "O"}}},
				{Type: client.SingleChoiceBlock, Reference: "often", Label: "How often", SelectedChoice: new("weekly"), Choices: []client.ConsentChoice{{Reference: "weekly", Label: "W"}}},
			}},
		},
		{
			"answer a consent state", `{"citizenId":"ctz_1","externalRef":"A/1","transactions":[{"transactionId":"txn_1","citizenId":"ctz_1"}],"submissions":[]}`,
			func(ctx context.Context, c *client.Client) (any, error) {
				return c.AnswerConsentState(ctx, client.ConsentStateAnswer{
					ConsentState:    client.ConsentState{ApplicationID: "nw", ExternalRef: "A/1", TemplateID: "t_1", Blocks: []client.ConsentBlock{{Type: client.PermissionsBlock, Options: []client.ConsentOption{{OptionID: "o", Justification: "consent", Selected: new(true)}}}}},
					SubmitAsPending: true, Origin: client.Origin{Channel: "web"},
				})
			},
			seen{"POST /v1/consent-state", `{"applicationId":"nw","externalRef":"A/1","templateId":"t_1","blocks":[{"type":"permissions","options":[{"optionId":"o","justification":"consent","selected":true}]}],"submitAsPending":true,"channel":"web"}`, true},
			client.AnsweredConsentState{CitizenID: "ctz_1", ExternalRef: "A/1", Transactions: []client.Receipt{{TransactionID: "txn_1", CitizenID: "ctz_1"}}, Submissions: []client.SubmissionOutcome{}},
		},
		{
			"find a template", `{"id":"t_1","applicationId":"nw","reference":"sign/up","name":"Sign up","revision":3,"archived":false,"blocks":[]}`,
			func(ctx context.Context, c *client.Client) (any, error) { return c.Template(ctx, "nw", "sign/up") },
			seen{Call: "GET /v1/configuration/templates/sign%2Fup?applicationId=nw"},
			client.Template{ID: "t_1", Reference: "sign/up", Name: "Sign up", Revision: 3},
		},
		{
			"import a set-up", `{"changes":[{"action":"add","kind":"rule-set","key":"r"}],"applied":false}`,
			func(ctx context.Context, c *client.Client) (any, error) {
				return c.PutConfiguration(ctx, client.ConfigurationUpdate{ApplicationID: "nw", Document: json.RawMessage(`{"application":{"name":"NW"}}`), DryRun: true, Prune: true})
			},
			seen{Call: "PUT /v1/configuration?applicationId=nw&dryRun=true&prune=true", Body: `{"application":{"name":"NW"}}`},
			client.ConfigurationChanges{Changes: []client.ConfigurationChange{{Action: "add", Kind: "rule-set", Key: "r"}}},
		},
		{
			"read a citizen", citizen,
			func(ctx context.Context, c *client.Client) (any, error) { return c.Citizen(ctx, "ctz/1 ?") },
			seen{Call: "GET /v1/citizens/ctz%2F1%20%3F"},
			wantCitizen,
		},
		{
			"read a citizen by reference", citizen,
			func(ctx context.Context, c *client.Client) (any, error) {
				return c.CitizenByRef(ctx, "nw", "A/1 &b=ü")
			},
			seen{Call: "GET /v1/citizens?applicationId=nw&externalRef=A%2F1+%26b%3D%C3%BC"},
			wantCitizen,
		},
		{
			"change a citizen", citizen,
			func(ctx context.Context, c *client.Client) (any, error) {
				return c.UpdateCitizen(ctx, "ctz_1", client.CitizenUpdate{ApplicationID: "nw", ExternalRef: "A/2", Details: client.Details{GivenName: "Ada"}})
			},
			seen{"PATCH /v1/citizens/ctz_1", `{"applicationId":"nw","externalRef":"A/2","givenName":"Ada"}`, false},
			wantCitizen,
		},
		{
			"erase a citizen", "",
			func(ctx context.Context, c *client.Client) (any, error) {
				return struct{}{}, c.DeleteCitizen(ctx, "ctz_1")
			},
			seen{Call: "DELETE /v1/citizens/ctz_1"},
			struct{}{},
		},
		{
			"record a transaction",
			`{"transactionId":"t1","citizenId":"ctz_1","externalRef":"A/1","recordedAt":"2026-11-22T08:14:02.000Z","obtainedAt":"2026-11-22T08:14:01.500Z",
			  "changes":[{"optionType":"option","optionId":"news","justification":"consent","state":"GRANTED","validFrom":null,"effective":false,"current":{"optionType":"option","optionId":"news","state":"DENIED"}}]}`,
			func(ctx context.Context, c *client.Client) (any, error) {
				return c.RecordTransaction(ctx, client.Transaction{ApplicationID: "nw", ExternalRef: "A/1", Changes: []client.Change{change}, Origin: client.Origin{ObtainedAt: at, Channel: "checkout"}})
			},
			seen{"POST /v1/permissions/transactions", `{"applicationId":"nw","externalRef":"A/1","changes":[{"optionType":"option","optionId":"news","justification":"consent","state":"GRANTED"}],"obtainedAt":"2026-11-22T09:14:01.5+01:00","channel":"checkout"}`, true},
			client.Receipt{
				TransactionID: "t1", CitizenID: "ctz_1", ExternalRef: "A/1",
				RecordedAt: time.Date(2026, 11, 22, 8, 14, 2, 0, time.UTC), ObtainedAt: time.Date(2026, 11, 22, 8, 14, 1, 500e6, time.UTC),
				Changes: []client.ChangeOutcome{{Change: change, Current: &client.Permission{OptionType: "option", OptionID: "news", State: "DENIED"}}},
			},
		},
		{
			"list transactions",
			`{"transactions":[{"transactionId":"t1","reverts":null,"channel":"web","source":null,"changes":[{"optionType":"option","optionId":"news","justification":"consent","state":"GRANTED"}]}],"total":101,"nextCursor":"c1"}`,
			func(ctx context.Context, c *client.Client) (any, error) {
				return c.Transactions(ctx, client.RecordsQuery{ApplicationID: "nw", ExternalRef: "A/1", Since: at, Page: client.Page{Limit: 50, Offset: 100}})
			},
			seen{Call: "GET /v1/permissions/transactions?applicationId=nw&externalRef=A%2F1&limit=50&offset=100&since=2026-11-22T08%3A14%3A01.5Z"},
			client.TransactionList{
				Transactions: []client.RecordedTransaction{{TransactionID: "t1", Evidence: client.Evidence{Channel: "web"}, Changes: []client.Change{change}}},
				Total:        101, NextCursor: "c1",
			},
		},
		{
			"revert a transaction",
			`{"transactionId":"t2","reverts":"t/1","citizenId":"ctz_1","externalRef":"A/1","changes":[{"optionType":"option","optionId":"news","justification":"consent","state":"GRANTED","effective":false,"current":null}]}`,
			func(ctx context.Context, c *client.Client) (any, error) {
				return c.Revert(ctx, client.Reversion{TransactionID: "t/1", Origin: client.Origin{Channel: "support", RecordedBy: "agent-1"}})
			},
			seen{"POST /v1/permissions/transactions/t%2F1/reversion", `{"channel":"support","recordedBy":"agent-1"}`, true},
			client.Receipt{TransactionID: "t2", Reverts: "t/1", CitizenID: "ctz_1", ExternalRef: "A/1", Changes: []client.ChangeOutcome{{Change: change}}},
		},
		{
			"create citizens", `{"citizens":[{"citizenId":"ctz_1","externalRef":"A/1","transactionId":"t1"},{"citizenId":"ctz_2","externalRef":"A/2","transactionId":null}]}`,
			func(ctx context.Context, c *client.Client) (any, error) {
				return c.CreateCitizens(ctx, client.NewCitizens{
					ApplicationID: "nw", Origin: client.Origin{Channel: "import"},
					Citizens: []client.BulkCitizen{
						{ExternalRef: "A/1", Changes: []client.Change{change}, Preferences: []client.Answer{{Preference: "topics", Choices: []string{"jazz"}}}, ObtainedAt: at, Details: client.Details{GivenName: "Ada"}},
						{ExternalRef: "A/2"},
					},
				})
			},
			seen{"POST /v1/citizens/bulk", `{"applicationId":"nw","citizens":[{"externalRef":"A/1","changes":[{"optionType":"option","optionId":"news","justification":"consent","state":"GRANTED"}],` +
				`"preferences":[{"preference":"topics","choices":["jazz"]}],"obtainedAt":"2026-11-22T09:14:01.5+01:00","givenName":"Ada"},{"externalRef":"A/2"}],"channel":"import"}`, true},
			[]client.CreatedCitizen{{CitizenID: "ctz_1", ExternalRef: "A/1", TransactionID: "t1"}, {CitizenID: "ctz_2", ExternalRef: "A/2"}},
		},
		{
			"submit answers",
			`{"citizenId":"ctz_1","externalRef":"A/1","submissions":[{"submissionId":"s1","preference":"topics","choices":[],"effective":false,"current":` + topics + `}]}`,
			func(ctx context.Context, c *client.Client) (any, error) {
				return c.Submit(ctx, client.Submission{ApplicationID: "nw", CitizenID: "ctz_1", Preferences: []client.Answer{{Preference: "topics"}}, Origin: client.Origin{ObtainedAt: at}})
			},
			seen{"POST /v1/submissions", `{"applicationId":"nw","citizenId":"ctz_1","preferences":[{"preference":"topics","choices":[]}],"obtainedAt":"2026-11-22T09:14:01.5+01:00"}`, true},
			client.Submitted{CitizenID: "ctz_1", ExternalRef: "A/1", Submissions: []client.SubmissionOutcome{{SubmissionID: "s1", Preference: "topics", Choices: []client.Choice{}, Current: wantTopics}}},
		},
		{
			"list submissions", `{"submissions":[{"submissionId":"s1","preference":"topics","label":"Topics","choices":[{"reference":"jazz","label":"Jazz"}],"recordedClient":"crm"}],"total":1,"nextCursor":null}`,
			func(ctx context.Context, c *client.Client) (any, error) {
				return c.Submissions(ctx, client.RecordsQuery{ApplicationID: "nw", CitizenID: "ctz_1", Before: at, Page: client.Page{Cursor: "c+1"}})
			},
			seen{Call: "GET /v1/submissions?applicationId=nw&before=2026-11-22T08%3A14%3A01.5Z&citizenId=ctz_1&cursor=c%2B1"},
			client.SubmissionList{
				Submissions: []client.RecordedSubmission{{
					SubmissionID: "s1", Preference: "topics", Label: "Topics", Choices: []client.Choice{{Reference: "jazz", Label: "Jazz"}}, Evidence: client.Evidence{RecordedClient: "crm"},
				}},
				Total: 1,
			},
		},
		{
			"read the preferences", `{"citizenId":"ctz_1","preferences":[` + topics + `]}`,
			func(ctx context.Context, c *client.Client) (any, error) {
				return c.Preferences(ctx, client.PreferencesQuery{ApplicationID: "nw", ExternalRef: "A/1"})
			},
			seen{Call: "GET /v1/preferences?applicationId=nw&externalRef=A%2F1"},
			[]client.Preference{wantTopics},
		},
		{
			"list who changed",
			`{"citizens":[{"applicationId":"nw","citizenId":"ctz_1","externalRef":"A/1","permissions":[{"optionId":"news","state":null}],"preferences":[` + topics + `],"sequence":7,"changedAt":"2026-11-22T08:14:01.500Z"}],"total":1,"nextCursor":"c2"}`,
			func(ctx context.Context, c *client.Client) (any, error) {
				return c.Effective(ctx, client.EffectiveQuery{ApplicationID: "nw", Since: at, Page: client.Page{Limit: 1}})
			},
			seen{Call: "GET /v1/permissions/effective?applicationId=nw&limit=1&since=2026-11-22T08%3A14%3A01.5Z"},
			client.CitizenStateList{
				Citizens: []client.CitizenState{{
					ApplicationID: "nw", CitizenID: "ctz_1", ExternalRef: "A/1", Sequence: 7, ChangedAt: at.UTC(),
					Permissions: []client.Permission{{OptionID: "news"}}, Preferences: []client.Preference{wantTopics},
				}},
				Total: 1, NextCursor: "c2",
			},
		},
		{
			"explain",
			`{"explanations":[{"optionType":"option","optionId":"news","current":null,"candidates":[{"optionId":"news","state":"GRANTED","group":"all","fate":"reverted","rule":null,"by":"t2","why":"A later transaction undid it."}]}]}`,
			func(ctx context.Context, c *client.Client) (any, error) {
				return c.Explain(ctx, client.ExplainQuery{ApplicationID: "nw", ExternalRef: "A/1", OptionID: "news", AsOf: at, KnownAt: at})
			},
			seen{Call: "GET /v1/permissions/explain?applicationId=nw&asOf=2026-11-22T08%3A14%3A01.5Z&externalRef=A%2F1&knownAt=2026-11-22T08%3A14%3A01.5Z&optionId=news"},
			[]client.Explanation{{OptionType: "option", OptionID: "news", Candidates: []client.Candidate{{
				Permission: client.Permission{OptionID: "news", State: "GRANTED"}, Group: "all", Fate: "reverted", By: "t2", Why: "A later transaction undid it.",
			}}}},
		},
		{
			"read the feed of changes",
			`{"changes":[{"applicationId":"nw","citizenId":"ctz_1","externalRef":null,"permissions":[],"preferences":[],"eventType":"citizen.deleted","sequence":3,"changedAt":"2026-11-22T08:14:01.500Z","changedBy":"crm"}],"nextCursor":"c3"}`,
			func(ctx context.Context, c *client.Client) (any, error) {
				return c.ReadChanges(ctx, client.ChangesQuery{ApplicationID: "nw", Cursor: client.Latest, Limit: 5, Wait: 1500 * time.Millisecond})
			},
			seen{Call: "GET /v1/changes?applicationId=nw&cursor=latest&limit=5&wait=1"},
			client.ChangeList{
				Changes: []client.CitizenChange{{
					ApplicationID: "nw", CitizenID: "ctz_1", Permissions: []client.Permission{}, Preferences: []client.Preference{},
					EventType: client.CitizenDeleted, Sequence: 3, ChangedAt: at.UTC(), ChangedBy: "crm",
				}},
				NextCursor: "c3",
			},
		},
		{
			"read a history",
			`{"applicationId":"nw","citizenId":"ctz_1","history":[
			  {"seq":1,"hash":"ab","kind":"transaction","submission":null,"transaction":{"transactionId":"t1","reverts":null,"changes":[{"optionType":"option","optionId":"news","justification":"consent","state":"GRANTED","name":"News","purpose":{"id":"letter","name":"Letter","label":{"de":"Brief"}},"channel":null,"upheld":false,"covers":[{"optionId":"post","validUntil":null}]}]},
			   "shown":{"privacyPolicy":{"id":"p1","reference":"policy","revision":2,"proven":true,"name":"Privacy","version":"v2","url":"https://x.example"},"permissionStatement":{"id":"s1","text":{"en":"We write."}}}},
			  {"seq":2,"hash":"cd","kind":"submission","transaction":null,"submission":{"submissionId":"s1","preference":"topics"},"shown":{"privacyPolicy":null,"permissionStatement":null}}],"total":2,"nextCursor":"c4"}`,
			func(ctx context.Context, c *client.Client) (any, error) {
				return c.History(ctx, client.HistoryQuery{CitizenID: "ctz/1", Limit: 2, Cursor: "c3"})
			},
			seen{Call: "GET /v1/citizens/ctz%2F1/history?cursor=c3&limit=2"},
			client.CitizenHistory{
				ApplicationID: "nw", CitizenID: "ctz_1", Total: 2, NextCursor: "c4",
				History: []client.HistoryRecord{
					{
						Seq: 1, Hash: "ab", Kind: "transaction",
						Transaction: &client.PastTransaction{TransactionID: "t1", Changes: []client.PastChange{{Change: change, Name: "News", Purpose: &client.Named{ID: "letter", Name: "Letter", Label: map[string]string{"de": "Brief"}}, Covers: []client.Cover{{OptionID: "post"}}}}},
						Shown: client.Shown{
							PrivacyPolicy:       &client.ShownPolicy{ShownDocument: client.ShownDocument{ID: "p1", Reference: "policy", Revision: 2, Proven: true}, Name: "Privacy", Version: "v2", URL: "https://x.example"},
							PermissionStatement: &client.ShownStatement{ShownDocument: client.ShownDocument{ID: "s1"}, Text: map[string]string{"en": "We write."}},
						},
					},
					{Seq: 2, Hash: "cd", Kind: "submission", Submission: &client.RecordedSubmission{SubmissionID: "s1", Preference: "topics"}},
				},
			},
		},
		{
			"sign up without a token", `{"status":"received"}`,
			func(ctx context.Context, c *client.Client) (any, error) {
				return struct{}{}, c.Capture(ctx, client.NewCapture{
					ApplicationID: "nw", EmailAddress: "ada@example.com", Locale: "de", Channel: "web", PermissionStatementRef: "s1",
					Changes: []client.Change{change}, Preferences: []client.Answer{{Preference: "topics"}},
				})
			},
			seen{"POST /v1/unauthenticated/transactions", `{"applicationId":"nw","emailAddress":"ada@example.com","changes":[{"optionType":"option","optionId":"news","justification":"consent","state":"GRANTED"}],` +
				`"preferences":[{"preference":"topics","choices":[]}],"locale":"de","permissionStatementRef":"s1","channel":"web"}`, false},
			struct{}{},
		},
		{
			"sign up with a form", `{"status":"received"}`,
			func(ctx context.Context, c *client.Client) (any, error) {
				return struct{}{}, c.Capture(ctx, client.NewCapture{
					UniqueReference: "A/1", TemplateID: "t1", Snapshot: "shown", SubmitAsPending: true, PrivacyPolicy: &client.ConsentPolicy{ID: "p1"},
					Blocks: []client.ConsentBlock{{Type: client.TextBlock}},
				})
			},
			seen{"POST /v1/unauthenticated/transactions", `{"templateId":"t1","uniqueReference":"A/1","privacyPolicy":{"id":"p1"},"blocks":[{"type":"text"}],"snapshot":"shown","submitAsPending":true}`, false},
			struct{}{},
		},
		{
			"list captures",
			`{"captures":[{"id":"c1","citizenId":"ctz_1","externalRef":"A/1","capturedAt":"2026-11-22T08:14:01.500Z","forgottenAt":"2026-11-22T08:14:01.500Z","channel":"web","campaign":null,` +
				`"changes":[{"optionType":"option","optionId":"news","justification":"consent","state":"GRANTED","validFrom":null,"validUntil":null}],"preferences":[{"preference":"topics","choices":["jazz"]}]}],"total":1,"nextCursor":"c2"}`,
			func(ctx context.Context, c *client.Client) (any, error) {
				return c.Captures(ctx, client.CapturesQuery{ApplicationID: "nw", Page: client.Page{Limit: 1}})
			},
			seen{Call: "GET /v1/captures?applicationId=nw&limit=1"},
			client.CaptureList{
				Captures: []client.Capture{{
					ID: "c1", CitizenID: "ctz_1", ExternalRef: "A/1", CapturedAt: at.UTC(), ForgottenAt: at.UTC(), Channel: "web",
					Changes: []client.Change{change}, Preferences: []client.Answer{{Preference: "topics", Choices: []string{"jazz"}}},
				}},
				Total: 1, NextCursor: "c2",
			},
		},
		{
			"accept a capture", "",
			func(ctx context.Context, c *client.Client) (any, error) {
				return struct{}{}, c.AcceptCapture(ctx, "c/1")
			},
			seen{Call: "POST /v1/captures/c%2F1/acceptance"},
			struct{}{},
		},
		{
			"reject a capture", "",
			func(ctx context.Context, c *client.Client) (any, error) {
				return struct{}{}, c.RejectCapture(ctx, "c/1")
			},
			seen{Call: "POST /v1/captures/c%2F1/rejection"},
			struct{}{},
		},
		{
			"list the mails to a citizen",
			`{"emails":[{"id":"m1","kind":"double-opt-in","way":"smtp","state":"sent","createdAt":"2026-11-22T08:14:01.500Z","expiresAt":"2026-11-22T08:14:01.500Z","endedAt":"2026-11-22T08:14:01.500Z","attempts":2,"reason":"busy"},` +
				`{"id":"m0","state":"waiting","endedAt":null,"reason":null}],"total":7}`,
			func(ctx context.Context, c *client.Client) (any, error) {
				return c.CitizenEmails(ctx, client.CitizenEmailsQuery{CitizenID: "ctz/1", Limit: 2, Offset: 4})
			},
			seen{Call: "GET /v1/citizens/ctz%2F1/emails?limit=2&offset=4"},
			client.CitizenEmailList{
				Emails: []client.CitizenEmail{
					{ID: "m1", Kind: "double-opt-in", Way: "smtp", State: "sent", CreatedAt: at.UTC(), ExpiresAt: at.UTC(), EndedAt: at.UTC(), Attempts: 2, Reason: "busy"},
					{ID: "m0", State: "waiting"},
				},
				Total: 7,
			},
		},
		{
			"read the effective state", `{"permissions":[{"transactionId":"t1","optionType":"option","optionId":"news","state":"GRANTED","channel":null,"obtainedAt":"2026-11-22T08:14:01Z","validUntil":null},{"optionId":"post","state":null}]}`,
			func(ctx context.Context, c *client.Client) (any, error) {
				return c.Permissions(ctx, client.PermissionsQuery{ApplicationID: "nw", CitizenID: "ctz_1", Expiry: "latest"})
			},
			seen{Call: "GET /v1/permissions?applicationId=nw&citizenId=ctz_1&expiry=latest"},
			client.Permissions{Permissions: []client.Permission{granted, {OptionID: "post"}}},
		},
		{
			"start a job", job,
			func(ctx context.Context, c *client.Client) (any, error) {
				return c.CreateJob(ctx, client.NewJob{ApplicationID: "nw", Kind: client.LedgerCheck, MaxPerSecond: 5})
			},
			seen{"POST /v1/jobs", `{"applicationId":"nw","kind":"ledger-check","maxPerSecond":5}`, true},
			wantJob,
		},
		{
			"read a job", job,
			func(ctx context.Context, c *client.Client) (any, error) { return c.Job(ctx, "job/1") },
			seen{Call: "GET /v1/jobs/job%2F1"},
			wantJob,
		},
		{
			"list jobs", `{"jobs":[` + job + `],"total":1,"nextCursor":"c5"}`,
			func(ctx context.Context, c *client.Client) (any, error) {
				return c.Jobs(ctx, client.JobsQuery{ApplicationID: "nw", Kind: client.LedgerCheck, State: "running", Page: client.Page{Limit: 1}})
			},
			seen{Call: "GET /v1/jobs?applicationId=nw&kind=ledger-check&limit=1&state=running"},
			client.JobList{Jobs: []client.Job{wantJob}, Total: 1, NextCursor: "c5"},
		},
		{
			"cancel a job", job,
			func(ctx context.Context, c *client.Client) (any, error) { return c.CancelJob(ctx, "job_1") },
			seen{Call: "POST /v1/jobs/job_1/cancel"},
			wantJob,
		},
		{
			"read a file of a job", "a file",
			func(ctx context.Context, c *client.Client) (any, error) {
				file, err := c.ReadJobFile(ctx, "job_1", client.JobFailures)
				if err != nil {
					return nil, err
				}
				defer file.Close()
				text, err := io.ReadAll(file)
				return string(text), err
			},
			seen{Call: "GET /v1/jobs/job_1/files/failures"},
			"a file",
		},
		{
			"create a subscription", strings.TrimSuffix(subscription, "}") + `,"signingSecret":"whsec_made","signingSecretLast4":"made"}`,
			func(ctx context.Context, c *client.Client) (any, error) {
				return c.CreateSubscription(ctx, client.Subscription{ApplicationID: "nw", Name: "CRM", URL: "https://crm.example/in", UpdateType: client.EffectivePermission, AuthType: "token", Token: client.SetSecret("s3cret"), TokenName: "X-Key"})
			},
			seen{"POST /v1/subscriptions", `{"applicationId":"nw","name":"CRM","url":"https://crm.example/in","updateType":"effective-permission","authType":"token","token":"s3cret","tokenName":"X-Key"}`, false},
			client.SubscriptionWithSecret{Subscription: signed(wantSubscription, time.Time{}), SigningSecret: "whsec_made"},
		},
		{
			"read a subscription", subscription,
			func(ctx context.Context, c *client.Client) (any, error) { return c.Subscription(ctx, "sub_1") },
			seen{Call: "GET /v1/subscriptions/sub_1"},
			wantSubscription,
		},
		{
			"read a paused subscription", `{"id":"sub_2","updateType":"consent-receipts","status":"paused","pausedAt":"2026-11-22T08:14:01.500Z","missedChanges":4}`,
			func(ctx context.Context, c *client.Client) (any, error) { return c.Subscription(ctx, "sub_2") },
			seen{Call: "GET /v1/subscriptions/sub_2"},
			client.Subscription{ID: "sub_2", UpdateType: client.ConsentReceipts, Status: "paused", PausedAt: at.UTC(), MissedChanges: 4},
		},
		{
			"list subscriptions", `{"subscriptions":[` + subscription + `],"total":7}`,
			func(ctx context.Context, c *client.Client) (any, error) {
				return c.Subscriptions(ctx, client.SubscriptionsQuery{ApplicationID: "nw", Status: "paused", Page: client.Page{Limit: 1}})
			},
			seen{Call: "GET /v1/subscriptions?applicationId=nw&limit=1&status=paused"},
			client.SubscriptionList{Subscriptions: []client.Subscription{wantSubscription}, Total: 7},
		},
		{
			"write back a subscription that was read", subscription,
			func(ctx context.Context, c *client.Client) (any, error) {
				s := client.Subscription{ID: "sub_1", ApplicationID: "nw", Name: "CRM", URL: "https://crm.example/in", UpdateType: client.EffectivePermission, Status: "paused", ClientSecret: client.SetSecret(""), PausedAt: at, MissedChanges: 4, Endpoint: client.Endpoint{State: "paused", Delivered: 7}, SigningSecretLast4: "made", PreviousSigningSecretUntil: at}
				return c.UpdateSubscription(ctx, s.ID, s)
			},
			seen{"PUT /v1/subscriptions/sub_1", `{"applicationId":"nw","name":"CRM","url":"https://crm.example/in","updateType":"effective-permission","status":"paused","clientSecret":null}`, false},
			wantSubscription,
		},
		{
			"rotate a signing secret", strings.TrimSuffix(subscription, "}") + `,"signingSecret":"whsec_made","signingSecretLast4":"made","previousSigningSecretUntil":"2026-11-22T08:14:01.500Z"}`,
			func(ctx context.Context, c *client.Client) (any, error) {
				return c.RotateSigningSecret(ctx, "sub_1", 90*time.Minute)
			},
			seen{"POST /v1/subscriptions/sub_1/rotate-secret", `{"overlapSeconds":5400}`, false},
			client.SubscriptionWithSecret{Subscription: signed(wantSubscription, at.UTC()), SigningSecret: "whsec_made"},
		},
		{
			"delete a subscription", "",
			func(ctx context.Context, c *client.Client) (any, error) {
				return struct{}{}, c.DeleteSubscription(ctx, "sub_1")
			},
			seen{Call: "DELETE /v1/subscriptions/sub_1"},
			struct{}{},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			c, got := serve(t, test.answer)
			answer, err := test.call(t.Context(), c)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.seen, *got); diff != "" {
				t.Errorf("the call (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(test.want, answer, cmp.Comparer(func(a, b client.Secret) bool { return a == b })); diff != "" {
				t.Errorf("the answer (-want +got):\n%s", diff)
			}
		})
	}
}

func TestNewRefusesWhatCannotWork(t *testing.T) {
	for _, base := range []string{"", "consent.example", "ftp://consent.example", "https://", "https://u:p@consent.example", "https://consent.example?x=1", "https://consent.example#x", "http://[::1"} {
		if _, err := client.New(base, client.APIKey("k")); err == nil {
			t.Errorf("base URL %q was taken", base)
		}
	}
	if _, err := client.New("https://consent.example", nil); err == nil {
		t.Error("no credential was taken")
	}
}

func TestSecretsStayOutOfLogs(t *testing.T) {
	for _, v := range []any{
		client.APIKey("planted"),
		client.Credentials{ClientID: "c", ClientSecret: "planted"},
		client.Subscription{Token: client.SetSecret("planted"), RefreshToken: client.SetSecret("planted"), ClientSecret: client.SetSecret("planted"), SigningSecret: client.SetSecret("planted")},
	} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s"} {
			if s := fmt.Sprintf(verb, v); strings.Contains(s, "planted") {
				t.Errorf("%s of %T shows the secret: %s", verb, v, s)
			}
		}
	}
}

func TestASecretFromTheServerIsNotOne(t *testing.T) {
	var s client.Subscription
	if err := json.Unmarshal([]byte(`{"token":"****cret","clientSecret":null,"signingSecret":"whsec_planted"}`), &s); err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(b), "oken\":") || strings.Contains(string(b), "clientSecret") || strings.Contains(string(b), "signingSecret") {
		t.Errorf("would write back %s", b)
	}
}
