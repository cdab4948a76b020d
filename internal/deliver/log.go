package deliver

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/internal/store"
)

// entry is what the delivery log says of an attempt.
func (e *Engine) entry(sub store.Registered, m message, r result, o store.Settlement) *store.Attempt {
	a := &store.Attempt{
		Event: m.EventID, EventType: m.EventType, Sequence: m.Sequence, Number: m.lane.Attempts + 1, Took: r.took,
		Status: r.status, Class: r.class, Reason: r.reason, Next: o.Retry, Coalesced: m.Coalesced,
	}
	switch {
	case !m.known:
		a.Outcome, a.Event, a.Sequence, a.Number, a.Reason = store.OutcomeErased, consent.ID{}, m.lane.Version, 0, "the citizen was erased"
		return a
	case m.ended:
		a.Outcome, a.Number, a.Reason = store.OutcomeExpired, 0, "the link in the mail has ended, or was used"
		return a
	case o.Delivered:
		a.Outcome = store.OutcomeDelivered
	case o.Free:
		a.Outcome = store.OutcomeDeferred
	case o.ToStore || m.lane.Stored:
		a.Outcome = store.OutcomeWaiting
	default:
		a.Outcome = store.OutcomeRetrying
	}
	var err error
	if a.Content, err = e.store.SealExchange(m.logKey, sub.Number, o.At, exchangeOf(sub, r)); err != nil {
		e.log.Warn("an attempt is logged without what was sent", "subscription", sub.ID, "error", err)
	}
	return a
}

const masked = "[masked]"

// exchangeOf gives what was sent and answered without what is secret in it.
func exchangeOf(sub store.Registered, r result) store.Exchange {
	hide := secretsOf(sub, r.request.Header)
	x := store.Exchange{
		URL: maskURL(sub, r.request.URL), Header: map[string][]string{}, Body: maskBody(r.request.Body),
		AnswerHeader: map[string][]string{}, AnswerBody: hide(printable(string(r.answer.Body))), Truncated: r.answer.Truncated,
	}
	for name, values := range r.request.Header {
		if x.Header[name] = values; secretHeader(sub, name) {
			x.Header[name] = []string{masked}
		}
	}
	left := maxAnswerHeaders
	for _, name := range slices.Sorted(maps.Keys(r.answer.Header)) {
		for _, value := range r.answer.Header[name] {
			if left -= len(name) + len(value); left < 0 {
				x.Truncated = true
				return x
			}
			if value = hide(printable(value)); name == "Set-Cookie" {
				value = masked
			}
			x.AnswerHeader[name] = append(x.AnswerHeader[name], value)
		}
	}
	return x
}

// maxAnswerHeaders is how many bytes of the headers of an answer are kept.
const maxAnswerHeaders = 4 << 10

// secretHeader reports whether the value of a header that is sent is not for the log.
func secretHeader(sub store.Registered, name string) bool {
	if strings.EqualFold(name, "Authorization") || sub.AuthType == consent.AuthToken && sub.TokenLocation == consent.InHeader && strings.EqualFold(name, sub.TokenName) {
		return true
	}
	for static := range sub.Secrets.Headers {
		if strings.EqualFold(name, static) {
			return true
		}
	}
	return false
}

// leastSecret is how long a secret is at least that is looked for in an answer: shorter
// ones stand there by chance.
const leastSecret = 8

// secretsOf gives what masks the secrets that an endpoint may send back.
func secretsOf(sub store.Registered, sent http.Header) func(string) string {
	v := sub.Secrets
	secrets := []string{v.Token, v.RefreshToken, v.ClientSecret, v.SigningSecret, v.PreviousSigningSecret}
	for name, values := range sent { // such as a token that was renewed for this very message
		if secretHeader(sub, name) {
			for _, value := range values {
				secrets = append(secrets, value, value[strings.LastIndexByte(value, ' ')+1:])
			}
		}
	}
	var pairs []string
	for _, s := range secrets {
		if len(s) >= leastSecret {
			pairs = append(pairs, s, masked)
		}
	}
	if pairs == nil {
		return func(text string) string { return text }
	}
	return func(text string) string {
		for i := 0; i < len(pairs); i += 2 {
			text = strings.ReplaceAll(text, pairs[i], pairs[i+1])
		}
		return text
	}
}

// maskURL hides the token where it travels in the query.
func maskURL(sub store.Registered, address string) string {
	if sub.AuthType != consent.AuthToken || sub.TokenLocation != consent.InQuery {
		return address
	}
	base, query, _ := strings.Cut(address, "?")
	parts := strings.Split(query, "&")
	for i, p := range parts {
		if name, _, _ := strings.Cut(p, "="); name == url.QueryEscape(sub.TokenName) {
			parts[i] = name + "=" + masked
		}
	}
	return base + "?" + strings.Join(parts, "&")
}

// tokenInBody finds the token of a citizen in a body, which opens what it is for.
var tokenInBody = regexp.MustCompile(`("citizenToken":\{[^{}]*"token":)"[^"]*"`)

// linkInBody finds what holds the link, or the code, in the body of a mail: both its forms,
// and its action.
var linkInBody = regexp.MustCompile(`("(?:html|text|url)":)"(?:[^"\\]|\\.)*"`)

// maskBody hides what opens something from whoever reads the log.
func maskBody(body []byte) []byte {
	if bytes.Contains(body, []byte(`"eventType":"`+consent.CitizenMail+`"`)) {
		body = linkInBody.ReplaceAll(body, []byte(`$1"`+masked+`"`))
	}
	if !bytes.Contains(body, []byte(`"citizenToken"`)) {
		return body
	}
	return tokenInBody.ReplaceAll(body, []byte(`$1"`+masked+`"`))
}

// printable writes what could mislead whoever looks at a text, such as control
// characters, by its number.
func printable(text string) string {
	odd := func(r rune) bool {
		return r != '\n' && r != '\t' && (unicode.IsControl(r) || unicode.Is(unicode.Cf, r))
	}
	text = strings.ToValidUTF8(text, "\uFFFD")
	if !strings.ContainsFunc(text, odd) {
		return text
	}
	var out strings.Builder
	for _, r := range text {
		if odd(r) {
			fmt.Fprintf(&out, `\u%04x`, r)
		} else {
			out.WriteRune(r)
		}
	}
	return out.String()
}

// Try sends a message about nobody by the settings of a subscription, which need not be
// saved, and says what came of it. Nothing of it is kept.
func (e *Engine) Try(ctx context.Context, sub store.Registered) store.Trial {
	r := e.try(ctx, sub, sample(sub))
	return store.Trial{Delivered: r.delivered(), Exchange: exchangeOf(sub, r), Status: r.status, Class: r.class, Reason: r.reason, Took: r.took}
}

// try sends a sample with a token that is good, as far as one can be got. Settings that are
// not saved keep none.
func (e *Engine) try(ctx context.Context, sub store.Registered, m message) result {
	if sub.TokenDue(consent.At(time.Now())) {
		var err error
		if sub.Number != 0 {
			sub, err = e.freshToken(ctx, sub, false)
		} else {
			var got store.Token
			got, err = e.askToken(ctx, sub.Subscription)
			sub.Secrets.Token = got.Access
		}
		if err != nil {
			return result{reason: "the token could not be got: " + err.Error(), class: "token"}
		}
	}
	r := e.post(ctx, sub, m)
	if _, renewable := sub.Grant(); !renewable || r.status != http.StatusUnauthorized || sub.Number == 0 {
		return r
	}
	ready, err := e.freshToken(ctx, sub, true)
	if err != nil {
		r.reason += ", and the token could not be refreshed: " + err.Error()
		return r
	}
	return e.post(ctx, ready, m)
}

// sample is a message about nobody, in the form of those that the subscription gets.
func sample(sub store.Registered) message {
	at := consent.At(time.Now()) / 1000 * 1000
	m := message{
		ApplicationID: sub.ApplicationID, CitizenID: store.NewID(), ExternalRef: "test-citizen", SentAt: consent.Timestamp(at),
		EventType: consent.Tested, Sequence: 1, ChangedBy: consent.Text(consent.Platform.ID), Coalesced: 1, known: true,
	}
	m.EventID = consent.EventID(sub.ID, m.CitizenID, m.Sequence)
	if sub.UpdateType == consent.CitizenEmails {
		mail := consent.SampleMail(sub.ApplicationID, m.EventID, at)
		m.mail, m.CitizenID = &mail, mail.CitizenID
	}
	full := consent.FullState{}.Since(consent.FullState{})
	m.Permissions, m.Preferences = full.Permissions, full.Preferences
	return m
}
