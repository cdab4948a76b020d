package e2e_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/opencpm/opencpm/test/harness"
)

func TestApplicationsAreIsolated(t *testing.T) {
	harness.OnEachStore(t, func(t *testing.T, s *harness.Store) {
		receiver := harness.NewReceiver(t)
		a := start(t, s, northwind, impatient...)
		theirs := newApplication(t, s, "", bases)
		b := &world{application: theirs, server: a.server, api: connect(t, a.server, theirs.clientID, theirs.clientSecret)}

		// Both know a citizen by the same reference, and each has a webhook.
		idA, idB := a.citizen(t, "shared", arthur), b.citizen(t, "shared")
		if idA == idB {
			t.Fatal("two applications share a citizen")
		}
		subA := a.subscribe(t, receiver.URL+"/a").text(t, "id")
		b.subscribe(t, receiver.URL+"/b")
		transactionA := a.record(t, "shared", change("newsletter-email", "consent", "GRANTED")).text(t, "transactionId")
		b.record(t, "shared", change("any", "consent", "DENIED"))
		receiver.AwaitCount(t, "shared", 2)
		a.told(t, 1)
		eventually(t, harness.Patience, "what was delivered is counted", func() bool {
			return a.api.do(t, "GET", "/v1/subscriptions/"+subA, nil).want(t, 200).at("endpoint.delivered") == 1.0
		})
		issueA := fmt.Sprint(a.mint(t, object{"externalRef": "shared"}).at("issue"))

		snapshot := func() map[string]any {
			all := map[string]any{}
			for _, target := range []string{
				"/v1/citizens/" + idA, a.permissionsOf("shared"), "/v1/subscriptions/" + subA, a.subscriptions(),
				query("/v1/permissions/transactions", "applicationId", a.id), query("/v1/changes", "applicationId", a.id), "/v1/citizens/" + idA + "/history",
				query("/v1/configuration", "applicationId", a.id), query("/v1/access-tokens/issues", "applicationId", a.id),
			} {
				_, all[target] = a.api.glance(t, target)
			}
			return all
		}
		before := snapshot()

		// B asks for what is A's, and for what nobody has: the answers must be the same, or existence leaks.
		const nobody = "no-such-application"
		unknownID, unknownSub := neighbour(idA), neighbour(subA)
		inApp := func(body object, app string) object { return with(body, "applicationId", app) }
		granted := a.transaction("newcomer", []object{change("newsletter-email", "consent", "GRANTED")})
		newcomer := object{"applicationId": a.id, "externalRef": "newcomer"}
		hook, answers, many := a.subscription(receiver.URL+"/spy"), a.answers("newcomer", chosen("interests", "jazz")), a.bulk([]object{{"externalRef": "newcomer"}})
		setup, party := object{"application": object{"name": "B"}}, object{"applicationId": a.id, "id": "spy", "name": "Spy"}
		templateA := a.api.do(t, "GET", query("/v1/configuration/templates/manage-all", "applicationId", a.id), nil).want(t, 200).text(t, "id")
		for _, c := range []struct {
			method, target, nowhere string
			body, nobodys           object
		}{
			{"GET", "/v1/citizens/" + idA, "/v1/citizens/" + unknownID, nil, nil},
			{"PATCH", "/v1/citizens/" + idA, "/v1/citizens/" + unknownID, object{"givenName": "X"}, object{"givenName": "X"}},
			{"DELETE", "/v1/citizens/" + idA, "/v1/citizens/" + unknownID, nil, nil},
			{"GET", a.citizenByRef("shared"), query("/v1/citizens", "applicationId", nobody, "externalRef", "shared"), nil, nil},
			{"GET", a.permissionsOf("shared"), query("/v1/permissions", "applicationId", nobody, "externalRef", "shared"), nil, nil},
			{"GET", query("/v1/permissions/transactions", "applicationId", a.id), query("/v1/permissions/transactions", "applicationId", nobody), nil, nil},
			{"POST", "/v1/citizens", "/v1/citizens", newcomer, inApp(newcomer, nobody)},
			{"POST", "/v1/permissions/transactions", "/v1/permissions/transactions", granted, inApp(granted, nobody)},
			{"POST", "/v1/permissions/transactions/" + transactionA + "/reversion", "/v1/permissions/transactions/" + neighbour(transactionA) + "/reversion", object{}, object{}},
			{"POST", "/v1/submissions", "/v1/submissions", answers, inApp(answers, nobody)},
			{"POST", "/v1/citizens/bulk", "/v1/citizens/bulk", many, inApp(many, nobody)},
			{"POST", "/v1/access-tokens/tokens", "/v1/access-tokens/tokens", newcomer, inApp(newcomer, nobody)},
			{"POST", "/v1/citizens/" + idA + "/token-revocations", "/v1/citizens/" + unknownID + "/token-revocations", nil, nil},
			{"POST", "/v1/access-tokens/issues/" + issueA + "/revocation", "/v1/access-tokens/issues/99999999/revocation", nil, nil},
			{"GET", query("/v1/access-tokens/issues", "applicationId", a.id), query("/v1/access-tokens/issues", "applicationId", nobody), nil, nil},
			{"GET", "/v1/citizens/" + idA + "/history", "/v1/citizens/" + unknownID + "/history", nil, nil},
			{"GET", query("/v1/permissions/explain", "applicationId", a.id, "externalRef", "shared"), query("/v1/permissions/explain", "applicationId", nobody, "externalRef", "shared"), nil, nil},
			{"GET", query("/v1/preferences", "applicationId", a.id, "externalRef", "shared"), query("/v1/preferences", "applicationId", nobody, "externalRef", "shared"), nil, nil},
			{"GET", query("/v1/permissions/effective", "applicationId", a.id), query("/v1/permissions/effective", "applicationId", nobody), nil, nil},
			{"GET", query("/v1/submissions", "applicationId", a.id), query("/v1/submissions", "applicationId", nobody), nil, nil},
			{"GET", query("/v1/changes", "applicationId", a.id, "wait", "20"), query("/v1/changes", "applicationId", nobody, "wait", "20"), nil, nil},
			{"GET", a.subscriptions(), query("/v1/subscriptions", "applicationId", nobody), nil, nil},
			{"POST", "/v1/subscriptions", "/v1/subscriptions", hook, inApp(hook, nobody)},
			{"GET", "/v1/subscriptions/" + subA, "/v1/subscriptions/" + unknownSub, nil, nil},
			{"PUT", "/v1/subscriptions/" + subA, "/v1/subscriptions/" + unknownSub, hook, hook},
			{"PATCH", "/v1/subscriptions/" + subA, "/v1/subscriptions/" + unknownSub, object{"status": "paused"}, object{"status": "paused"}},
			{"POST", "/v1/subscriptions/" + subA + "/rotate-secret", "/v1/subscriptions/" + unknownSub + "/rotate-secret", object{}, object{}},
			{"DELETE", "/v1/subscriptions/" + subA, "/v1/subscriptions/" + unknownSub, nil, nil},
			{"GET", query("/v1/permissions/configuration", "applicationId", a.id), query("/v1/permissions/configuration", "applicationId", nobody), nil, nil},
			{"GET", query("/v1/configuration", "applicationId", a.id), query("/v1/configuration", "applicationId", nobody), nil, nil},
			{"PUT", query("/v1/configuration", "applicationId", a.id), query("/v1/configuration", "applicationId", nobody), setup, setup},
			{"POST", "/v1/configuration/parties", "/v1/configuration/parties", party, inApp(party, nobody)},
			{"GET", query("/v1/configuration/parties", "applicationId", a.id), query("/v1/configuration/parties", "applicationId", nobody), nil, nil},
			{"GET", query("/v1/configuration/parties/northwind", "applicationId", a.id), query("/v1/configuration/parties/northwind", "applicationId", nobody), nil, nil},
			{"PATCH", query("/v1/configuration/parties/northwind", "applicationId", a.id), query("/v1/configuration/parties/northwind", "applicationId", nobody), object{"name": "X"}, object{"name": "X"}},
			{"DELETE", query("/v1/configuration/templates/manage-all", "applicationId", a.id), query("/v1/configuration/templates/manage-all", "applicationId", nobody), nil, nil},
			// What is A's cannot be had through B's own application either.
			{"GET", query("/v1/configuration/templates/manage-all/versions", "applicationId", b.id), query("/v1/configuration/templates/nothing/versions", "applicationId", b.id), nil, nil},
			{"GET", query("/v1/configuration/templates/"+templateA, "applicationId", b.id), query("/v1/configuration/templates/nothing", "applicationId", b.id), nil, nil},
		} {
			problem := func(target string, body object) object {
				var payload any
				if body != nil {
					payload = body
				}
				p := b.api.do(t, c.method, target, payload).want(t, 404)
				return object{"type": p.at("type"), "title": p.at("title"), "detail": p.at("detail"), "errors": p.at("errors")}
			}
			if diff := cmp.Diff(problem(c.nowhere, c.nobodys), problem(c.target, c.body)); diff != "" {
				t.Errorf("%s %s: what exists elsewhere is told from what does not (-nowhere +elsewhere):\n%s", c.method, c.target, diff)
			}
		}

		// Their citizen in our application, their option in our catalogue.
		body := b.transaction("", []object{change("any", "consent", "GRANTED")}, object{"citizenId": idA})
		delete(body, "externalRef")
		b.api.do(t, "POST", "/v1/permissions/transactions", body).want(t, 404, 422)
		body = b.transaction("shared", []object{change("newsletter-email", "consent", "GRANTED")})
		b.api.do(t, "POST", "/v1/permissions/transactions", body).refused(t, 422, "optionId")
		b.api.do(t, "GET", query("/v1/permissions", "applicationId", b.id, "citizenId", idA), nil).want(t, 404)

		if diff := cmp.Diff(before, snapshot()); diff != "" {
			t.Errorf("B changed something of A:\n%s", diff)
		}
		a.api.do(t, "GET", a.citizenByRef("newcomer"), nil).want(t, 404)
		if diff := cmp.Diff(map[string]string{"any": "consent DENIED"}, b.states(t, "shared")); diff != "" {
			t.Error(diff)
		}

		// Each webhook has heard of its own citizen only.
		for _, m := range receiver.Messages() {
			if want := map[string]string{"/a": a.id, "/b": b.id}[m.Path]; m.ApplicationID != want || strings.Contains(string(m.Raw), map[string]string{"/a": idB, "/b": idA}[m.Path]) {
				t.Errorf("%s heard %s", m.Path, m.Raw)
			}
		}
		if n := len(receiver.Messages()); n != 2 {
			t.Errorf("%d messages, want one for each application", n)
		}

		// A credential may be bound to both.
		id, secret := newClient(t, s, a.id, "--application", b.id)
		var both *client
		eventually(t, harness.Patience, "the new client is known", func() bool {
			status := anonymous(t, a.server).do(t, "POST", "/oauth/token", object{
				"grant_type": "client_credentials", "client_id": id, "client_secret": secret,
			}).status
			if status == 200 {
				both = connect(t, a.server, id, secret)
			}
			return status == 200
		})
		both.do(t, "GET", a.permissionsOf("shared"), nil).want(t, 200)
		both.do(t, "GET", b.permissionsOf("shared"), nil).want(t, 200)
	})
}
