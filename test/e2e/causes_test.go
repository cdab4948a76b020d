package e2e_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/opencpm/opencpm/test/harness"
)

// ledger is a catalogue with an option of every behaviour, a group and two preferences.
const ledger = "testdata/ledger.yaml"

// platform is who causes what time alone does.
const platform = "opencpm"

// A listened world has a webhook of each kind with a receiver of its own, and a client with a name.
type listened struct {
	*world
	full, receipts       *harness.Receiver
	fullHook, receiptsID string // the subscriptions
}

const clientName = "Web shop"

// listen sets a world up in which both kinds of messages are heard.
func listen(t testing.TB, s *harness.Store, catalogue string) *listened {
	t.Helper()
	a := newApplication(t, s, "", catalogue)
	a.clientID, a.clientSecret = newClient(t, s, a.id, "--name", clientName)
	server := s.Serve(t, impatient...)
	l := &listened{
		world: &world{application: a, server: server, api: connect(t, server, a.clientID, a.clientSecret)},
		full:  harness.NewReceiver(t), receipts: harness.NewReceiver(t),
	}
	l.fullHook = l.subscribe(t, l.full.URL+"/full").text(t, "id")
	l.receiptsID = l.subscribe(t, l.receipts.URL+"/receipts", object{"updateType": "consent-receipts"}).text(t, "id")
	return l
}

// A person is a citizen whose messages of both kinds are counted.
type person struct {
	*listened
	ref, id                  string
	heardFull, heardReceipts int // messages of each kind that were expected already
}

// told is what one message must say. The entries hold every key.
type told struct {
	permissions, preferences []object
	event                    string    // where not citizen.changed
	by                       string    // where not the client
	changes                  int       // that it carries, where not 1
	at                       time.Time // of the change: when it was recorded, or a validity began or ended
}

// instantOf is when a record was made, by its answer.
func instantOf(t testing.TB, a *answer) time.Time {
	t.Helper()
	return instant(t, a.at("recordedAt"))
}

// both expects the same of both kinds, which is so while there is but one entry.
func (p *person) both(t *testing.T, want ...told) { p.hears(t, want, want) }

// hears requires exactly these messages of each kind next, key by key.
func (p *person) hears(t *testing.T, full, receipts []told) {
	t.Helper()
	p.next(t, "full state", p.full, &p.heardFull, full)
	p.next(t, "receipt", p.receipts, &p.heardReceipts, receipts)
}

func (p *person) next(t *testing.T, kind string, r *harness.Receiver, heard *int, want []told) {
	t.Helper()
	messages := r.AwaitCount(t, p.ref, *heard+len(want))
	rising(t, messages)
	for i, w := range want {
		m := messages[*heard+i]
		got := body(t, m)
		changes := max(w.changes, 1)
		if diff := cmp.Diff(p.envelope(w, got), got); diff != "" {
			t.Errorf("%s %d (-want +got):\n%s", kind, *heard+i+1, diff)
		}
		if kind == "receipt" {
			changes = 1
			if late := m.SentAt.Sub(w.at); late < -time.Millisecond || late > 5*time.Second || w.by == "" && late > time.Second {
				t.Errorf("a receipt of what changed at %v says %v", w.at, m.SentAt)
			}
		} else if m.SentAt.Before(w.at.Truncate(time.Millisecond)) || m.SentAt.After(m.At.Add(10*time.Millisecond)) {
			t.Errorf("a full state with what changed at %v was sent at %v and came at %v", w.at, m.SentAt, m.At)
		}
		if n := raw(t, m)["coalesced"]; n != float64(changes) {
			t.Errorf("%s %d carries %v changes, want %d: %s", kind, *heard+i+1, n, changes, m.Raw)
		}
		if id := m.Header.Get("Webhook-Id"); id != m.EventID || id == "" {
			t.Errorf("Webhook-Id %q, eventId %q", id, m.EventID)
		}
	}
	*heard += len(want)
}

// envelope is the whole message but for what only the server knows.
func (p *person) envelope(w told, got object) object {
	list := func(entries []object) []any {
		all := []any{}
		for _, e := range entries {
			all = append(all, e)
		}
		return all
	}
	event, by := "citizen.changed", p.clientID
	if w.event != "" {
		event = w.event
	}
	if w.by != "" {
		by = w.by
	}
	return object{
		"applicationId": p.world.id, "citizenId": p.id, "externalRef": p.ref,
		"permissions": list(w.permissions), "preferences": list(w.preferences),
		"eventType": event, "changedBy": by,
		"sentAt": got["sentAt"], "eventId": got["eventId"], "sequence": got["sequence"],
	}
}

// raw is a message with every key.
func raw(t testing.TB, m harness.Message) object {
	t.Helper()
	var o object
	if err := json.Unmarshal(m.Raw, &o); err != nil {
		t.Fatal(err)
	}
	return o
}

// records records changes of the person.
func (p *person) records(t *testing.T, changes []object, with ...object) *answer {
	t.Helper()
	a := p.api.do(t, "POST", "/v1/permissions/transactions", p.transaction(p.ref, changes, with...)).want(t, 200)
	p.id = a.text(t, "citizenId")
	return a
}

// submits records answers of the person to preferences.
func (p *person) submits(t *testing.T, list []object, with ...object) *answer {
	t.Helper()
	a := p.submit(t, p.ref, list, with...)
	p.id = a.text(t, "citizenId")
	return a
}

// had records changes that come before what is tested, and lets both kinds be told of them.
func (p *person) had(t *testing.T, changes []object, with ...object) *answer {
	t.Helper()
	a := p.records(t, changes, with...)
	p.heardFull, p.heardReceipts = p.heardFull+1, p.heardReceipts+1
	p.full.AwaitCount(t, p.ref, p.heardFull)
	p.receipts.AwaitCount(t, p.ref, p.heardReceipts)
	return a
}

// entry is what a permission says, key by key, that a change of a recorded transaction decides.
func (p *person) entry(a *answer, change object, with ...object) object {
	e := object{}
	for _, key := range permissionKeys {
		e[key] = nil
	}
	for _, key := range []string{"transactionId", "recordedAt", "obtainedAt"} {
		e[key] = a.at(key)
	}
	maps.Copy(e, object{"recordedClient": p.clientID, "recordedClientName": clientName})
	maps.Copy(e, change)
	for _, o := range with {
		maps.Copy(e, o)
	}
	return e
}

// ceased is the entry of what is there no more: ended by is the record that ended it.
func (p *person) ceased(by *answer, change object, with ...object) object {
	return p.entry(by, change, append(with, object{"state": nil})...)
}

// preference is what the current answer to one preference says that the i-th answer of a submission decides.
func (p *person) preference(a *answer, i int, label string, choices ...string) object {
	list := []any{}
	for k := 0; k < len(choices); k += 2 {
		list = append(list, object{"reference": choices[k], "label": choices[k+1]})
	}
	of := func(key string) any { return a.at(fmt.Sprintf("submissions.%d.%s", i, key)) }
	return object{"preference": of("preference"), "label": label, "choices": list, "submissionId": of("submissionId"), "updatedAt": of("obtainedAt")}
}

// group is one change of the group.
func group(justification, state string) object {
	return change("all", justification, state, object{"optionType": "group"})
}

// inGroup is the change of a member that a change of the group amounts to.
func inGroup(option string, c object) object {
	o := maps.Clone(c)
	o["optionType"], o["optionId"] = "option", option
	return o
}

// afterYears is the end of a default validity that begins when the record was obtained.
func afterYears(t testing.TB, a *answer, years int) object {
	t.Helper()
	return object{"validUntil": iso(instant(t, a.at("obtainedAt")).AddDate(years, 0, 0))}
}

// causes is everything that changes the state of a citizen, or does not, and what both kinds of subscriptions are told.
// Each gets a person of whom nothing is known yet.
var causes = map[string]func(*testing.T, *person){
	"a grant": func(t *testing.T, p *person) {
		granted := change("newsletter", "consent", "GRANTED")
		a := p.records(t, []object{granted})
		p.both(t, told{permissions: []object{p.entry(a, granted, afterYears(t, a, 2))}, at: instantOf(t, a)})
	},
	"a grant with every field": func(t *testing.T, p *person) {
		said := object{
			"channel": "web", "campaign": "spring-2026", "recordedBy": "agent-17", "recordedByName": "Zoë Çelik",
			"delegatedAuthorityId": "carer-3", "delegatedAuthorityName": "Ben O'Brien <ben>",
			"privacyPolicyRef": "policy-01", "permissionStatementRef": "statement-01",
		}
		window := object{"validFrom": "2026-01-01T00:00:00.000Z", "validUntil": "2999-12-31T22:59:59.999Z"}
		granted := change("surveys", "consent", "GRANTED", window)
		a := p.records(t, []object{granted}, said, object{"obtainedAt": "2026-02-03T04:05:06.789Z", "source": "fair", "sourceSystem": "crm", "sourceSystemReference": "4711"})
		history := p.transactions(t, "externalRef", p.ref)
		documents := object{"privacyPolicyId": history[0]["privacyPolicyId"], "permissionStatementId": history[0]["permissionStatementId"]}
		if documents["privacyPolicyId"] == nil || documents["permissionStatementId"] == nil {
			t.Errorf("the documents have no ids: %v", history[0])
		}
		p.both(t, told{permissions: []object{p.entry(a, granted, said, documents, object{"obtainedAt": "2026-02-03T04:05:06.789Z"})}, at: instantOf(t, a)})
	},
	"a refusal": func(t *testing.T, p *person) {
		other, denied := change("surveys", "consent", "GRANTED"), change("newsletter", "consent", "DENIED")
		before := p.had(t, []object{other, change("newsletter", "consent", "GRANTED")})
		a := p.records(t, []object{denied})
		p.hears(t,
			[]told{{permissions: []object{p.entry(a, denied), p.entry(before, other)}, at: instantOf(t, a)}},
			[]told{{permissions: []object{p.entry(a, denied)}, at: instantOf(t, a)}})
	},
	"a refusal whose end ends nothing": func(t *testing.T, p *person) {
		denied := change("surveys", "consent", "DENIED", object{"validUntil": ahead(time.Hour)})
		a := p.records(t, []object{denied})
		p.both(t, told{permissions: []object{p.entry(a, denied)}, at: instantOf(t, a)})
	},
	"an objection upheld": func(t *testing.T, p *person) {
		claimed, objected := change("research", "legitimate-interest", "CLAIMED"), change("research", "legitimate-interest", "OBJECTED")
		p.had(t, []object{claimed})
		a := p.records(t, []object{objected})
		p.both(t, told{permissions: []object{p.entry(a, objected, object{"state": "OBJECTION_UPHELD"})}, at: instantOf(t, a)})
	},
	"a group granted": func(t *testing.T, p *person) {
		granted := group("consent", "GRANTED")
		a := p.records(t, []object{granted})
		p.both(t, told{permissions: []object{
			p.entry(a, inGroup("newsletter", granted), afterYears(t, a, 2)), p.entry(a, inGroup("research", granted)), p.entry(a, inGroup("surveys", granted)),
			p.entry(a, granted),
		}, at: instantOf(t, a)})
	},
	"a group of which one member allows the basis": func(t *testing.T, p *person) {
		other := change("newsletter", "consent", "GRANTED")
		before := p.had(t, []object{other})
		objected := group("legitimate-interest", "OBJECTED")
		a := p.records(t, []object{objected})
		upheld := object{"state": "OBJECTION_UPHELD"}
		news := []object{p.entry(a, inGroup("research", objected), upheld), p.entry(a, objected, upheld)}
		p.hears(t,
			[]told{{permissions: append([]object{p.entry(before, other, afterYears(t, before, 2))}, news...), at: instantOf(t, a)}},
			[]told{{permissions: news, at: instantOf(t, a)}})
	},
	"the same again": func(t *testing.T, p *person) {
		granted := change("surveys", "consent", "GRANTED")
		p.had(t, []object{granted})
		a := p.records(t, []object{granted})
		p.both(t, told{permissions: []object{p.entry(a, granted)}, at: instantOf(t, a)})
	},
	"a late arrival": func(t *testing.T, p *person) {
		denied := change("surveys", "consent", "DENIED")
		before := p.had(t, []object{denied})
		a := p.records(t, []object{change("surveys", "consent", "GRANTED")}, object{"obtainedAt": ago(time.Hour)})
		p.hears(t, []told{{permissions: []object{p.entry(before, denied)}, at: instantOf(t, a)}}, nil)
	},
	"an overruled claim": func(t *testing.T, p *person) {
		denied := change("research", "consent", "DENIED")
		before := p.had(t, []object{denied})
		a := p.records(t, []object{change("research", "legitimate-interest", "CLAIMED")})
		p.hears(t, []told{{permissions: []object{p.entry(before, denied)}, at: instantOf(t, a)}}, nil)
	},
	"PENDING alone": func(t *testing.T, p *person) {
		pending := change("surveys", "consent", "PENDING")
		a := p.records(t, []object{pending})
		p.both(t, told{permissions: []object{p.entry(a, pending)}, at: instantOf(t, a)})
	},
	"PENDING beside a standing state": func(t *testing.T, p *person) {
		p.had(t, []object{change("surveys", "consent", "DENIED")})
		p.records(t, []object{change("surveys", "consent", "PENDING")})
		p.both(t) // nothing
	},
	"PENDING confirmed": func(t *testing.T, p *person) {
		granted := change("surveys", "consent", "GRANTED")
		p.had(t, []object{change("surveys", "consent", "PENDING")})
		a := p.records(t, []object{granted})
		p.both(t, told{permissions: []object{p.entry(a, granted)}, at: instantOf(t, a)})
	},
	"several changes of one body": func(t *testing.T, p *person) {
		contract, granted, denied := change("contract", "contract", "CLAIMED"), change("surveys", "consent", "GRANTED"), change("research", "consent", "DENIED")
		a := p.records(t, []object{granted, contract, denied})
		p.both(t, told{permissions: []object{p.entry(a, contract), p.entry(a, denied), p.entry(a, granted)}, at: instantOf(t, a)})
	},
	"several changes of one body, one of them overruled, one PENDING": func(t *testing.T, p *person) {
		denied, contract := change("research", "consent", "DENIED"), change("contract", "contract", "CLAIMED")
		before := p.had(t, []object{denied})
		a := p.records(t, []object{change("research", "legitimate-interest", "CLAIMED"), contract, change("research", "consent", "PENDING")})
		p.hears(t,
			[]told{{permissions: []object{p.entry(a, contract), p.entry(before, denied)}, at: instantOf(t, a)}},
			[]told{{permissions: []object{p.entry(a, contract)}, at: instantOf(t, a)}})
	},
	"a submission": func(t *testing.T, p *person) {
		claimed := change("contract", "contract", "CLAIMED")
		before := p.had(t, []object{claimed})
		a := p.submits(t, []object{chosen("frequency", "weekly")}, object{"obtainedAt": ago(time.Hour)})
		at := instant(t, a.at("submissions.0.recordedAt"))
		news := []object{p.preference(a, 0, "How often", "weekly", "Weekly")}
		p.hears(t,
			[]told{{permissions: []object{p.entry(before, claimed)}, preferences: news, at: at}},
			[]told{{preferences: news, at: at}})
	},
	"a submission of several answers": func(t *testing.T, p *person) {
		a := p.submits(t, []object{chosen("interests", "rock", "jazz"), chosen("frequency", "monthly")})
		p.both(t, told{preferences: []object{
			p.preference(a, 1, "How often", "monthly", "Monthly"), p.preference(a, 0, "Interests", "rock", "Rock music", "jazz", "Jazz"),
		}, at: instant(t, a.at("submissions.0.recordedAt"))})
	},
	"a submission that clears": func(t *testing.T, p *person) {
		first := p.submits(t, []object{chosen("interests", "rock"), chosen("frequency", "monthly")})
		frequency := p.preference(first, 1, "How often", "monthly", "Monthly")
		p.both(t, told{preferences: []object{frequency, p.preference(first, 0, "Interests", "rock", "Rock music")}, at: instant(t, first.at("submissions.0.recordedAt"))})
		a := p.submits(t, []object{chosen("interests")})
		at, cleared := instant(t, a.at("submissions.0.recordedAt")), p.preference(a, 0, "Interests")
		p.hears(t, []told{{preferences: []object{frequency, cleared}, at: at}}, []told{{preferences: []object{cleared}, at: at}})
	},
	"a late submission": func(t *testing.T, p *person) {
		first := p.submits(t, []object{chosen("frequency", "monthly")})
		standing := told{preferences: []object{p.preference(first, 0, "How often", "monthly", "Monthly")}, at: instant(t, first.at("submissions.0.recordedAt"))}
		p.both(t, standing)
		a := p.submits(t, []object{chosen("frequency", "weekly")}, object{"obtainedAt": ago(time.Hour)})
		if a.at("submissions.0.effective") != false || a.at("submissions.0.current.submissionId") != first.at("submissions.0.submissionId") {
			t.Errorf("the answer does not say that another one stands: %s", a.raw)
		}
		standing.at = instant(t, a.at("submissions.0.recordedAt"))
		p.hears(t, []told{standing}, nil)
	},
	"a reversion that brings back what was displaced": func(t *testing.T, p *person) {
		granted := change("surveys", "consent", "GRANTED")
		older := p.had(t, []object{granted}, object{"channel": "paper"})
		newer := p.had(t, []object{change("surveys", "consent", "DENIED")})
		a := p.revert(t, newer.text(t, "transactionId"), object{"channel": "support"})
		p.both(t, told{permissions: []object{p.entry(older, granted, object{"channel": "paper"})}, at: instantOf(t, a)})
	},
	"a reversion after which nothing applies": func(t *testing.T, p *person) {
		window := object{"validUntil": ahead(time.Hour)}
		granted, other := change("surveys", "consent", "GRANTED", window), change("contract", "contract", "CLAIMED")
		kept := p.had(t, []object{other})
		wrong := p.had(t, []object{granted}, object{"channel": "web"})
		a := p.revert(t, wrong.text(t, "transactionId"), object{"channel": "support", "recordedBy": "agent-1"})
		gone := p.ceased(a, granted, object{"channel": "support", "recordedBy": "agent-1"})
		p.hears(t,
			[]told{{permissions: []object{p.entry(kept, other), gone}, at: instantOf(t, a)}},
			[]told{{permissions: []object{gone}, at: instantOf(t, a)}})
		if a.at("reverts") != wrong.at("transactionId") {
			t.Errorf("the answer does not name what was undone: %s", a.raw)
		}
	},
	"a reversion of a group": func(t *testing.T, p *person) {
		standing, denied := change("surveys", "consent", "GRANTED"), group("consent", "DENIED")
		before := p.had(t, []object{standing})
		wrong := p.had(t, []object{denied})
		a := p.revert(t, wrong.text(t, "transactionId"))
		p.both(t, told{permissions: []object{
			p.ceased(a, inGroup("newsletter", denied)), p.ceased(a, inGroup("research", denied)), p.entry(before, standing), p.ceased(a, denied),
		}, at: instantOf(t, a)})
	},
	"a reversion of what was overruled": func(t *testing.T, p *person) {
		denied := change("research", "consent", "DENIED")
		before := p.had(t, []object{denied})
		claim := p.records(t, []object{change("research", "legitimate-interest", "CLAIMED")})
		standing := []object{p.entry(before, denied)}
		p.hears(t, []told{{permissions: standing, at: instantOf(t, claim)}}, nil)
		a := p.revert(t, claim.text(t, "transactionId"))
		p.hears(t, []told{{permissions: standing, at: instantOf(t, a)}}, nil)
	},
	"validFrom reached": func(t *testing.T, p *person) {
		soon := time.Now().Add(2 * time.Second).Truncate(time.Millisecond)
		granted := change("surveys", "consent", "GRANTED", object{"validFrom": iso(soon)})
		a := p.records(t, []object{granted})
		p.hears(t, []told{{at: instantOf(t, a)}}, nil) // recorded, and nothing is effective yet
		p.both(t, told{permissions: []object{p.entry(a, granted)}, by: platform, at: soon})
	},
	"validUntil passed": func(t *testing.T, p *person) {
		soon := time.Now().Add(2 * time.Second).Truncate(time.Millisecond)
		granted, other := change("surveys", "consent", "GRANTED", object{"validUntil": iso(soon)}), change("contract", "contract", "CLAIMED")
		kept := p.had(t, []object{other})
		a := p.records(t, []object{granted})
		p.hears(t,
			[]told{{permissions: []object{p.entry(kept, other), p.entry(a, granted)}, at: instantOf(t, a)}},
			[]told{{permissions: []object{p.entry(a, granted)}, at: instantOf(t, a)}})
		gone := p.ceased(a, granted)
		p.hears(t,
			[]told{{permissions: []object{p.entry(kept, other), gone}, by: platform, at: soon}},
			[]told{{permissions: []object{gone}, by: platform, at: soon}})
	},
	"validUntil passed, and an older grant speaks again": func(t *testing.T, p *person) {
		soon := time.Now().Add(2 * time.Second).Truncate(time.Millisecond)
		granted := change("surveys", "consent", "GRANTED")
		older := p.had(t, []object{granted})
		p.had(t, []object{change("surveys", "consent", "GRANTED", object{"validUntil": iso(soon)})})
		p.both(t, told{permissions: []object{p.entry(older, granted)}, by: platform, at: soon})
	},
	"two validities at one instant": func(t *testing.T, p *person) {
		soon := time.Now().Add(2 * time.Second).Truncate(time.Millisecond)
		ends, begins := change("surveys", "consent", "GRANTED", object{"validUntil": iso(soon)}), change("research", "consent", "GRANTED", object{"validFrom": iso(soon)})
		a := p.had(t, []object{ends, begins})
		p.both(t, told{permissions: []object{p.entry(a, begins), p.ceased(a, ends)}, by: platform, at: soon})
	},
	"a change of the reference": func(t *testing.T, p *person) {
		granted := change("surveys", "consent", "GRANTED")
		before := p.had(t, []object{granted})
		at := time.Now()
		p.ref += " renamed"
		p.heardFull, p.heardReceipts = 0, 0
		p.api.do(t, "PATCH", "/v1/citizens/"+p.id, object{"externalRef": p.ref}).want(t, 200)
		p.hears(t, []told{{permissions: []object{p.entry(before, granted)}, at: at}}, []told{{at: at}})
	},
	"a change of details": func(t *testing.T, p *person) {
		p.had(t, []object{change("surveys", "consent", "GRANTED")})
		p.api.do(t, "PATCH", "/v1/citizens/"+p.id, object{"givenName": "Ada", "externalRef": p.ref}).want(t, 200)
		p.both(t) // nothing
	},
	"creation": func(t *testing.T, p *person) {
		p.id = p.citizen(t, p.ref, arthur)
		p.both(t) // nothing
	},
	"creation in bulk": func(t *testing.T, p *person) {
		granted, contract := change("surveys", "consent", "GRANTED"), change("contract", "contract", "CLAIMED")
		said := object{"channel": "import", "privacyPolicyRef": "policy-01"}
		body := object{"applicationId": p.world.id, "citizens": []object{
			{"externalRef": p.ref, "givenName": "Ada", "changes": []object{granted, contract}, "preferences": []object{chosen("interests", "jazz")}, "obtainedAt": "2026-02-03T04:05:06.789Z"},
			{"externalRef": p.ref + " alone"},
		}}
		maps.Copy(body, said)
		a := p.api.do(t, "POST", "/v1/citizens/bulk", body).want(t, 200)
		p.id = a.text(t, "citizens.0.citizenId")
		transaction := p.transactions(t, "externalRef", p.ref)[0]
		if transaction["transactionId"] != a.at("citizens.0.transactionId") || a.at("citizens.1.transactionId") != nil {
			t.Errorf("the answer names other transactions: %s", a.raw)
		}
		list := p.api.do(t, "GET", query("/v1/submissions", "applicationId", p.world.id, "externalRef", p.ref), nil).want(t, 200)
		made := &answer{body: transaction}
		said["privacyPolicyId"] = transaction["privacyPolicyId"]
		entries := []object{p.entry(made, contract, said), p.entry(made, granted, said)}
		interests := p.preference(list, 0, "Interests", "jazz", "Jazz")
		at := instantOf(t, made)
		p.hears(t,
			[]told{{permissions: entries, preferences: []object{interests}, changes: 2, at: at}},
			[]told{{permissions: entries, at: at}, {preferences: []object{interests}, at: at}})
		if n := len(p.full.Messages(p.ref+" alone")) + len(p.receipts.Messages(p.ref+" alone")); n != 0 {
			t.Errorf("%d messages about one of whom nothing is known", n)
		}
	},
	"erasure": func(t *testing.T, p *person) {
		p.had(t, []object{change("surveys", "consent", "GRANTED")})
		at := time.Now()
		p.api.do(t, "DELETE", "/v1/citizens/"+p.id, nil).want(t, 204)
		p.both(t, told{event: "citizen.deleted", at: at})
	},
}

// TestEveryCause runs all causes at once, each with a citizen of its own, and then compares the feed of changes with the
// receipts that were received.
func TestEveryCause(t *testing.T) {
	harness.OnEachStore(t, func(t *testing.T, s *harness.Store) {
		l := listen(t, s, ledger)
		t.Run("tells", func(t *testing.T) {
			for _, name := range slices.Sorted(maps.Keys(causes)) {
				t.Run(name, func(t *testing.T) {
					t.Parallel()
					p := &person{listened: l, ref: name}
					causes[name](t, p)
					p.nothingElse(t)
				})
			}
		})
		if t.Failed() {
			return // what was not told would be missed once more
		}
		t.Run("the feed says the same", func(t *testing.T) { l.feedEqualsReceipts(t) })
	})
}

// nothingElse records one more change and requires that its messages are the next of both kinds: whatever had been under
// way about the citizen would have come before them, or together with them.
func (p *person) nothingElse(t *testing.T) {
	t.Helper()
	if strings.HasPrefix(p.ref, "erasure") {
		p.full.Quiet(t, p.ref, settled)
		p.receipts.Quiet(t, p.ref, 0)
		return
	}
	marker := change("marker", "consent", "GRANTED")
	a := p.records(t, []object{marker})
	full := p.full.AwaitCount(t, p.ref, p.heardFull+1)
	if last := full[len(full)-1]; len(full) != p.heardFull+1 || raw(t, last)["coalesced"] != float64(1) || harness.States(last.Permissions)["marker"] == "" {
		t.Errorf("the full state was told once more than it should: %d messages, the last %s", len(full), last.Raw)
	}
	p.next(t, "receipt", p.receipts, &p.heardReceipts, []told{{permissions: []object{p.entry(a, marker)}, at: instantOf(t, a)}})
	if n := len(p.receipts.Messages(p.ref)); n != p.heardReceipts {
		t.Errorf("%d receipts, want %d", n, p.heardReceipts)
	}
}

// feed reads the feed of changes from a cursor on to its end. On PostgreSQL a change is told once no transaction is
// running that began before it, be it another test's: the end is where nothing comes for a while.
func (w *world) feed(t testing.TB, cursor string, limit int) (changes []object, end string) {
	t.Helper()
	for {
		pairs := []string{"applicationId", w.id, "limit", fmt.Sprint(limit), "wait", "2"}
		if cursor != "" {
			pairs = append(pairs, "cursor", cursor)
		}
		a := w.api.do(t, "GET", query("/v1/changes", pairs...), nil).want(t, 200)
		page := a.list(t, "changes")
		cursor = a.text(t, "nextCursor")
		if len(page) == 0 {
			return changes, cursor
		}
		changes = append(changes, page...)
	}
}

// feedEqualsReceipts requires that the feed says message by message what the receipts said. Of who was erased it has only
// that; a reference is the one of today.
func (l *listened) feedEqualsReceipts(t *testing.T) {
	t.Helper()
	type change struct {
		id any
		n  float64
	}
	erased, today := map[any]bool{}, map[any]any{}
	messages := l.receipts.Messages()
	for _, m := range messages {
		o := raw(t, m)
		erased[o["citizenId"]] = o["eventType"] == "citizen.deleted"
		today[o["citizenId"]] = o["externalRef"]
	}
	forgotten := func(o object) { // the reference of who was erased is kept until everybody has been told
		if o["eventType"] == "citizen.deleted" {
			delete(o, "externalRef")
		}
	}
	want := map[change]object{}
	for _, m := range messages {
		o := raw(t, m)
		if o["eventType"] == "citizen.changed" && erased[o["citizenId"]] {
			continue
		}
		o["changedAt"], o["externalRef"] = o["sentAt"], today[o["citizenId"]]
		for _, key := range []string{"sentAt", "eventId", "coalesced"} {
			delete(o, key)
		}
		forgotten(o)
		want[change{o["citizenId"], o["sequence"].(float64)}] = o
	}
	got := map[change]object{}
	last := map[any]float64{}
	changes, _ := l.feed(t, "", 7)
	for _, o := range changes {
		k := change{o["citizenId"], o["sequence"].(float64)}
		if got[k] != nil {
			t.Errorf("the feed says twice: %v", o)
		}
		if k.n <= last[k.id] {
			t.Errorf("the feed goes back to change %v after %v of %v", k.n, last[k.id], k.id)
		}
		forgotten(o)
		got[k], last[k.id] = o, k.n
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the feed (-receipts +feed):\n%s", diff)
	}
}
