package e2e_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/opencpm/opencpm/test/harness"
)

// planted stands in every wrong value that is a text. It may be somebody's name: no answer may repeat it.
const planted = "Zaphod-Beeblebrox-7f3a"

// A wrong value of a field. In a body the text brokenUTF8 becomes two bytes that are no UTF-8.
type wrong struct {
	name  string
	value any
	// unlocated: the request cannot be read, or tells an id that must not be told from a foreign one; the problem need
	// not say where.
	unlocated bool
}

const brokenUTF8 = "~broken~"

// missing is the value of a field that is left out.
var missing = new(int)

func number(s string) json.Number { return json.Number(s) }

// notText is what no text field takes.
var notText = []wrong{
	{name: "number", value: 5},
	{name: "huge number", value: number("123456789012345678901234567890")},
	{name: "number beyond float64", value: number("1e400"), unlocated: true},
	{name: "boolean", value: true},
	{name: "array", value: []any{planted}},
	{name: "object", value: object{"value": planted}},
}

// unprintable is what no text may contain.
var unprintable = []wrong{
	{name: "NUL", value: planted + "\x00"},
	{name: "control character", value: planted + "\x1b[2J"},
	{name: "DEL", value: planted + "\x7f"},
	{name: "broken UTF-8", value: planted + brokenUTF8, unlocated: true},
}

// text is an optional text of at most max characters.
func text(max int) []wrong {
	return slices.Concat(notText, unprintable, []wrong{{name: "too long", value: planted + long(max+1-len(planted))}})
}

// free is a text whose limit is not published; nobody needs ten thousand characters.
var free = text(10_000)

// required is a field that must be there and say something.
func required(fields ...[]wrong) []wrong {
	return append(slices.Concat(fields...),
		wrong{name: "missing", value: missing}, wrong{name: "null", value: nil}, wrong{name: "empty", value: ""})
}

// oneOf is a field that takes some words only.
func oneOf(other ...any) []wrong {
	list := slices.Concat(notText, unprintable, []wrong{
		{name: "unknown word", value: planted}, {name: "empty", value: ""}, {name: "too long", value: long(10_000)},
	})
	for _, o := range other {
		list = append(list, wrong{name: fmt.Sprint(o), value: o})
	}
	return list
}

// timeOf is an optional instant.
var timeOf = slices.Concat(notText, unprintable, []wrong{
	{name: "no time", value: planted},
	{name: "empty", value: ""},
	{name: "month 13", value: "2026-13-01T00:00:00Z"},
	{name: "30 February", value: "2026-02-30T00:00:00Z"},
	{name: "25 o'clock", value: "2026-01-01T25:00:00Z"},
	{name: "year 99999", value: "99999-01-01T00:00:00Z"},
	{name: "year 292277026596", value: "+292277026596-12-04T15:30:07Z"},
	{name: "Unix time", value: "1767225600"},
	{name: "offset of a day", value: "2026-01-01T00:00:00+25:00"},
	{name: "too long", value: "2026-01-01T00:00:00." + long(10_000) + "Z"},
})

// reference names something that exists.
var reference = slices.Concat(text(300), []wrong{{name: "unknown", value: planted}, {name: "empty", value: ""}})

// applicationID is text or number; an unknown application is not told from one of somebody else.
var applicationID = []wrong{
	{name: "boolean", value: true},
	{name: "array", value: []any{planted}},
	{name: "object", value: object{"id": planted}},
	{name: "missing", value: missing},
	{name: "null", value: nil},
	{name: "empty", value: ""},
	{name: "51 characters", value: long(51), unlocated: true},
	{name: "NUL", value: planted + "\x00", unlocated: true},
	{name: "broken UTF-8", value: planted + brokenUTF8, unlocated: true},
	{name: "unknown", value: planted, unlocated: true},
	{name: "unknown number", value: 99, unlocated: true},
	{name: "number beyond float64", value: number("1e400"), unlocated: true},
}

var citizenFields = map[string][]wrong{
	"givenName": free, "additionalName": free, "familyName": free, "organisationName": free, "email": free, "telephone": free,
	"address":                {{name: "text", value: planted}, {name: "number", value: 5}, {name: "boolean", value: true}, {name: "array", value: []any{object{"streetAddress": planted}}}},
	"address.streetAddress":  free,
	"address.streetAddress2": free, "address.streetAddress3": free, "address.addressLocality": free, "address.addressRegion": free,
	"address.addressCountry": free, "address.postalCode": free, "address.postOfficeBoxNumber": free,
}

var transactionFields = map[string][]wrong{
	"applicationId": applicationID,
	"externalRef": append(text(100), wrong{name: "empty", value: ""},
		wrong{name: "missing with citizenId", value: missing, unlocated: true}, wrong{name: "null", value: nil, unlocated: true}),
	"citizenId": slices.Concat(notText, []wrong{
		{name: "unknown", value: planted, unlocated: true},
		{name: "empty", value: ""},
		{name: "NUL", value: planted + "\x00", unlocated: true},
		{name: "too long", value: long(10_000), unlocated: true},
		{name: "broken UTF-8", value: brokenUTF8, unlocated: true},
	}),
	"changes": {
		{name: "missing", value: missing},
		{name: "null", value: nil},
		{name: "empty array", value: []any{}},
		{name: "text", value: planted},
		{name: "number", value: 5},
		{name: "boolean", value: true},
		{name: "array of null", value: []any{nil}},
		{name: "array of text", value: []any{planted}},
		{name: "array of arrays", value: []any{[]any{}}},
		{name: "empty object", value: object{}},
		{name: "array of an empty object", value: []any{object{}}},
	},
	"changes.0.optionType":    oneOf("Option", "option/group"), // left out, or null: option
	"changes.0.optionId":      required(reference),
	"changes.0.justification": required(oneOf("Consent", "legitimate_interest")),
	"changes.0.state":         required(oneOf("granted", "REVOKED")),
	"changes.0.validFrom":     timeOf,
	"changes.0.validUntil":    timeOf,
	"privacyPolicyId":         reference,
	"privacyPolicyRef":        reference,
	"permissionStatementId":   reference,
	"permissionStatementRef":  reference,
	"obtainedAt":              append(timeOf[:len(timeOf):len(timeOf)], wrong{name: "future", value: "2999-01-01T00:00:00Z"}),
	"channel":                 free, "campaign": free, "source": free, "sourceSystem": free, "sourceSystemReference": free,
	"recordedBy": free, "recordedByName": free, "delegatedAuthorityId": free, "delegatedAuthorityName": free,
}

// originFields are those that every record has besides its content.
var originFields = func() map[string][]wrong {
	m := map[string][]wrong{}
	for _, name := range []string{
		"privacyPolicyId", "privacyPolicyRef", "permissionStatementId", "permissionStatementRef", "obtainedAt", "channel", "campaign",
		"source", "sourceSystem", "sourceSystemReference", "recordedBy", "recordedByName", "delegatedAuthorityId", "delegatedAuthorityName",
	} {
		m[name] = transactionFields[name]
	}
	return m
}()

var answerFields = map[string][]wrong{
	"preferences": {
		{name: "text", value: planted},
		{name: "number", value: 5},
		{name: "boolean", value: true},
		{name: "object", value: chosen("interests", "jazz")},
		{name: "array of null", value: []any{nil}},
		{name: "array of text", value: []any{planted}},
		{name: "array of an empty object", value: []any{object{}}},
	},
	"preferences.0.preference": required(reference),
	"preferences.0.choices": {
		{name: "missing", value: missing},
		{name: "null", value: nil},
		{name: "text", value: planted},
		{name: "number", value: 5},
		{name: "object", value: object{}},
		{name: "array of null", value: []any{nil}},
		{name: "array of numbers", value: []any{5}},
		{name: "array of objects", value: []any{object{"reference": planted}}},
		{name: "unknown choice", value: []any{planted}},
		{name: "unprintable choice", value: []any{planted + "\x00"}},
	},
}

var subscriptionFields = map[string][]wrong{
	"name":          append(text(10_000), wrong{name: "null", value: nil}, wrong{name: "empty", value: ""}),
	"url":           append(oneOf("not a url", "/relative", "//example.com/", "example.com", "https://", "https://[::1", "https://example.com:99999/", "ftp://example.com/", "file:///etc/passwd", "javascript:alert(1)"), wrong{name: "null", value: nil}),
	"updateType":    oneOf("Effective-Permission", "everything"),
	"status":        oneOf("Active", "deleted"),
	"authType":      oneOf("Token", "basic"),
	"token":         slices.Concat(notText, unprintable, []wrong{{name: "line break", value: planted + "\r\nX-Evil: 1"}, {name: "too long", value: planted + long(100_000)}}),
	"tokenLocation": oneOf("body", "Header"),
	"tokenName": slices.Concat(notText, unprintable, []wrong{
		{name: "too long", value: long(10_000)},
		{name: "spaces", value: "X Key"},
		{name: "line break", value: "X-Key:\r\nX-Evil"},
		{name: "Host", value: "Host"},
		{name: "Content-Length", value: "content-length"},
		{name: "Transfer-Encoding", value: "Transfer-Encoding"},
	}),
	"refreshToken":  slices.Concat(notText, unprintable, []wrong{{name: "too long", value: planted + long(100_000)}}),
	"signingSecret": slices.Concat(notText, unprintable, oneOf(planted, "whsec_", "whsec_"+planted, "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="), []wrong{{name: "too long", value: planted + long(100_000)}}),
	"refreshUrl":    oneOf("not a url", "/relative", "ftp://example.com/"),
	"clientId":      free,
	"clientSecret":  slices.Concat(notText, unprintable, []wrong{{name: "too long", value: planted + long(100_000)}}),
}

// with returns a deep copy of a JSON value in which the field at a dotted path has another value.
func with(body object, path string, value any) object {
	steps := strings.Split(path, ".")
	root := clone(body).(object)
	node := any(root)
	for _, step := range steps[:len(steps)-1] {
		switch n := node.(type) {
		case object:
			if n[step] == nil {
				n[step] = object{}
			}
			node = n[step]
		case []any:
			node = n[0]
		}
	}
	last := steps[len(steps)-1]
	if value == any(missing) {
		delete(node.(object), last)
	} else {
		node.(object)[last] = value
	}
	return root
}

func clone(v any) any {
	switch v := v.(type) {
	case object:
		o := maps.Clone(v)
		for name := range o {
			o[name] = clone(o[name])
		}
		return o
	case []object:
		list := make([]any, len(v))
		for i := range v {
			list[i] = clone(v[i])
		}
		return list
	default:
		return v
	}
}

// A refusal is one call that takes a body, with the wrong values of its fields.
type refusal struct {
	method, target string
	base           object
	fields         map[string][]wrong
}

// mustRefuse sends every wrong value of every field and requires a 4xx problem that tells where, repeats nothing and
// has changed nothing: snapshot reads all that could have changed.
func mustRefuse(t *testing.T, api *client, calls []refusal, snapshot func() string) {
	before := snapshot()
	for _, call := range calls {
		for path, values := range call.fields {
			for _, w := range values {
				t.Run(call.method+" "+path+" "+w.name, func(t *testing.T) {
					body, err := json.Marshal(with(call.base, path, w.value))
					if err != nil {
						t.Fatal(err)
					}
					a := api.do(t, call.method, call.target, strings.ReplaceAll(string(body), brokenUTF8, "\xff\xfe"))
					a.want(t, 400, 404, 409, 422)
					field := path[strings.LastIndex(path, ".")+1:]
					if !w.unlocated && !a.locates(field) {
						t.Errorf("%d without an error at %s: %s", a.status, field, a.raw)
					}
					if strings.Contains(string(a.raw), planted) {
						t.Errorf("the problem repeats the value: %s", a.raw)
					}
					if after := snapshot(); after != before {
						t.Errorf("the refused call changed something:\nbefore %s\nafter  %s", before, after)
						before = after
					}
				})
			}
		}
	}
}

func TestWrongValuesAreRefusedAndChangeNothing(t *testing.T) {
	harness.OnEachStore(t, func(t *testing.T, s *harness.Store) {
		w := start(t, s, northwind)
		newApplication(t, s, "", bases) // another application, with an option "any"

		id := w.citizen(t, "known", arthur)
		recorded := w.record(t, "known", change("newsletter-email", "consent", "GRANTED")).text(t, "transactionId")
		subscription := w.subscribe(t, "https://receiver.example.com/", object{
			"status": "paused", "authType": "token", "token": "a-token-of-the-receiver", "tokenLocation": "header", "tokenName": "X-Key",
		}).text(t, "id")

		snapshot := func() string {
			var all strings.Builder
			for _, target := range []string{
				query("/v1/permissions/transactions", "applicationId", w.id, "limit", "100"), query("/v1/submissions", "applicationId", w.id),
				w.subscriptions("limit", "100"), "/v1/subscriptions/" + subscription,
				"/v1/citizens/" + id, w.permissionsOf("known"), w.citizenByRef("never"),
			} {
				status, body := w.api.glance(t, target)
				if status != 200 {
					body = "" // a problem tells its request
				}
				fmt.Fprintln(&all, target, status, body)
			}
			return all.String()
		}

		all := func(more map[string][]wrong, fields ...map[string][]wrong) map[string][]wrong {
			m := maps.Clone(more)
			for _, f := range fields {
				for name, values := range f {
					if m[name] == nil {
						m[name] = values
					}
				}
			}
			return m
		}
		// ofFirst are the fields of the first citizen of a bulk.
		ofFirst := func(fields map[string][]wrong) map[string][]wrong {
			m := map[string][]wrong{}
			for name, values := range fields {
				m["citizens.0."+name] = values
			}
			return m
		}
		create := map[string][]wrong{"applicationId": applicationID, "externalRef": required(text(100))}
		transaction := w.transaction("never", []object{change("newsletter-email", "consent", "GRANTED")})
		withToken := w.subscription("https://receiver.example.com/", object{
			"authType": "token", "token": "t", "tokenLocation": "header", "tokenName": "X-Key",
		})
		mustRefuse(t, w.api, []refusal{
			{"POST", "/v1/citizens", object{"applicationId": w.id, "externalRef": "never"}, all(create, citizenFields)},
			{"PATCH", "/v1/citizens/" + id, object{"applicationId": w.id}, citizenFields},
			{"POST", "/v1/permissions/transactions", transaction, transactionFields},
			{"POST", "/v1/permissions/transactions", transaction, map[string][]wrong{
				"changes.0.optionId": {{name: "another application's", value: "any"}},
			}},
			{"POST", "/v1/permissions/transactions", w.transaction("known", []object{change("newsletter-email", "consent", "DENIED")}), map[string][]wrong{
				"citizenId":  {{name: "unknown", value: neighbour(id), unlocated: true}},
				"obtainedAt": timeOf, "changes.0.validUntil": timeOf,
			}},
			{"POST", "/v1/permissions/transactions/" + recorded + "/reversion", object{}, originFields},
			{"POST", "/v1/submissions", w.answers("never", chosen("interests", "jazz")), all(map[string][]wrong{
				"applicationId": applicationID, "externalRef": transactionFields["externalRef"], "citizenId": transactionFields["citizenId"],
				"preferences": slices.Concat(answerFields["preferences"], []wrong{{name: "missing", value: missing}, {name: "null", value: nil}, {name: "empty array", value: []any{}}}),
			}, answerFields, originFields)},
			{"POST", "/v1/citizens/bulk", w.bulk([]object{{
				"externalRef": "never", "changes": []object{change("newsletter-email", "consent", "GRANTED")}, "preferences": []object{chosen("interests", "jazz")},
			}}), all(map[string][]wrong{
				"applicationId": applicationID,
				"citizens": {
					{name: "missing", value: missing},
					{name: "null", value: nil},
					{name: "empty array", value: []any{}},
					{name: "text", value: planted},
					{name: "object", value: object{"externalRef": planted}},
					{name: "array of null", value: []any{nil}},
					{name: "array of text", value: []any{planted}},
					{name: "array of an empty object", value: []any{object{}}},
				},
			}, originFields, ofFirst(all(map[string][]wrong{
				"externalRef": required(text(100)), "obtainedAt": originFields["obtainedAt"],
				"changes.0.optionId": transactionFields["changes.0.optionId"], "changes.0.state": transactionFields["changes.0.state"],
			}, citizenFields, answerFields)))},
			{"POST", "/v1/subscriptions", withToken, all(map[string][]wrong{
				"applicationId": applicationID,
				"url":           required(subscriptionFields["url"]),
				"token":         append(subscriptionFields["token"], wrong{name: "missing", value: missing}),
			}, subscriptionFields)},
			{"PUT", "/v1/subscriptions/" + subscription, withToken, all(map[string][]wrong{
				"url": required(subscriptionFields["url"]),
			}, subscriptionFields)},
			{"PATCH", "/v1/subscriptions/" + subscription, object{}, subscriptionFields},
		}, snapshot)

		t.Run("a body that is no object", func(t *testing.T) {
			before := snapshot()
			for _, call := range [][2]string{
				{"POST", "/v1/citizens"},
				{"PATCH", "/v1/citizens/" + id},
				{"POST", "/v1/permissions/transactions"},
				{"POST", "/v1/permissions/transactions/" + recorded + "/reversion"},
				{"POST", "/v1/submissions"},
				{"POST", "/v1/citizens/bulk"},
				{"POST", "/v1/subscriptions"},
				{"PUT", "/v1/subscriptions/" + subscription},
				{"PATCH", "/v1/subscriptions/" + subscription},
			} {
				for _, body := range []string{`[]`, `"text"`, `5`, `null`, `true`, `[{}]`} {
					w.api.do(t, call[0], call[1], body).want(t, 400, 422)
				}
			}
			if after := snapshot(); after != before {
				t.Errorf("something changed:\nbefore %s\nafter  %s", before, after)
			}
		})

		t.Run("query parameters", func(t *testing.T) {
			badTime := []string{planted, "2026-13-01T00:00:00Z", "99999-01-01T00:00:00Z", "5"}
			for path, c := range map[string]struct {
				base   []string // pairs that make the call right
				wrong  map[string][]string
				needed []string
			}{
				"/v1/permissions/transactions": {
					[]string{"applicationId", w.id},
					map[string][]string{"since": badTime, "before": badTime, "externalRef": {long(101)}},
					[]string{"applicationId"},
				},
				"/v1/permissions": {
					[]string{"applicationId", w.id, "externalRef", "known"},
					map[string][]string{"validStart": badTime, "validEnd": badTime, "expiry": {planted, "Latest"}, "externalRef": {long(101)}},
					[]string{"applicationId", "externalRef"},
				},
				"/v1/submissions": {
					[]string{"applicationId", w.id},
					map[string][]string{"since": badTime, "before": badTime, "externalRef": {long(101)}, "citizenId": {planted}, "cursor": {planted}},
					[]string{"applicationId"},
				},
				"/v1/preferences": {
					[]string{"applicationId", w.id, "externalRef", "known"},
					map[string][]string{"externalRef": {long(101)}, "citizenId": {planted}},
					[]string{"applicationId", "externalRef"},
				},
				"/v1/permissions/effective": {
					[]string{"applicationId", w.id},
					map[string][]string{"since": badTime, "before": badTime, "externalRef": {long(101)}, "citizenId": {planted}, "cursor": {planted}},
					[]string{"applicationId"},
				},
				"/v1/permissions/explain": {
					[]string{"applicationId", w.id, "externalRef", "known"},
					map[string][]string{"asOf": badTime, "knownAt": badTime, "optionId": {planted, long(101)}, "externalRef": {long(101)}},
					[]string{"applicationId", "externalRef"},
				},
				"/v1/changes": {
					[]string{"applicationId", w.id},
					map[string][]string{"cursor": {planted}, "limit": {"0", "101"}, "wait": {planted, "21", "-1"}},
					[]string{"applicationId"},
				},
				"/v1/citizens": {
					[]string{"applicationId", w.id, "externalRef", "known"},
					map[string][]string{"externalRef": {long(101)}},
					[]string{"applicationId", "externalRef"},
				},
				"/v1/subscriptions": {
					[]string{"applicationId", w.id},
					map[string][]string{"status": {planted, "Active"}, "updateType": {planted, "all"}},
					nil,
				},
			} {
				w.api.do(t, "GET", query(path, c.base...), nil).want(t, 200)
				for name, values := range c.wrong {
					for _, value := range values {
						a := w.api.do(t, "GET", query(path, append(c.base[:len(c.base):len(c.base)], name, value)...), nil)
						a.want(t, http.StatusBadRequest, http.StatusUnprocessableEntity)
						if !a.locates(name) {
							t.Errorf("%s: no error located at %s: %s", a.call, name, a.raw)
						}
						if strings.Contains(string(a.raw), planted) {
							t.Errorf("%s: the problem repeats the value: %s", a.call, a.raw)
						}
					}
				}
				for _, name := range c.needed {
					i := slices.Index(c.base, name)
					a := w.api.do(t, "GET", query(path, slices.Delete(slices.Clone(c.base), i, i+2)...), nil)
					a.want(t, http.StatusBadRequest, http.StatusUnprocessableEntity)
				}
			}
		})
	})
}
