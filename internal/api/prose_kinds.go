package api

import (
	"net/http"
	"strings"

	"github.com/opencpm/opencpm/internal/consent"
)

// kindProse is the words of one kind of item: in the singular and the plural, what it
// is, an example of one and of a change to it.
type kindProse struct{ one, many, what, example, change string }

// kinds are the words of every kind.
var kinds = map[string]kindProse{
	consent.KindParty: {"party", "parties", "Who processes.", `"id": "northwind", "name": "Northwind Retail Ltd"`, `"name": "Northwind Retail plc"`},
	consent.KindPurpose: {
		"purpose", "purposes", "Why something is processed. An objection to direct marketing is absolute (GDPR art. 21).",
		`"id": "newsletter", "name": "Newsletter", "directMarketing": true`, `"directMarketing": null`,
	},
	consent.KindChannel: {"channel", "channels", "Through which medium.", `"id": "email", "name": "E-mail", "contact": "email"`, `"name": "Electronic mail"`},
	consent.KindOption: {
		"option", "options", "One party, purpose and channel that can be permitted, and on which lawful bases.",
		`"id": "newsletter-email", "party": "northwind", "purpose": "newsletter", "channel": "email", "justifications": [{"basis": "consent", "validFor": "P2Y"}]`,
		`"justifications": [{"basis": "consent"}]`,
	},
	consent.KindOptionGroup: {
		"option group", "option groups", "Options that can be answered as one.", `"id": "all-email", "name": "Everything by e-mail", "options": ["newsletter-email", "research-email"]`,
		`"options": ["newsletter-email"]`,
	},
	consent.KindPreference: {
		"preference", "preferences", "A choice without legal meaning.",
		`"reference": "interests", "kind": "multi-choice", "label": "Interests", "choices": [{"reference": "jazz", "label": {"en": "Jazz"}}]`, `"label": {"en": "Interests", "de": "Interessen"}`,
	},
	consent.KindPolicy: {
		"privacy policy", "privacy policies", "A document of which the last version is in force. Versions can be added, and neither changed nor dropped.",
		`"reference": "policy-01", "name": "Privacy policy", "versions": [{"version": "1", "url": "https://example.com/privacy"}]`,
		`"versions": [{"version": "1", "url": "https://example.com/privacy"}, {"version": "2", "url": "https://example.com/privacy/2"}]`,
	},
	consent.KindStatement: {
		"permission statement", "permission statements", "The wording that citizens are shown. A transaction carries the revision that was.",
		`"reference": "statement-01", "text": {"en": "We may write to you.", "de": "Wir dürfen Ihnen schreiben."}`, `"text": {"en": "We may write to you now and then."}`,
	},
	consent.KindTemplate: {
		"template", "templates", "What a page or widget shows, in order.",
		`"reference": "manage-all", "name": "Everything", "privacyPolicy": "policy-01", "blocks": [{"type": "permissions", "statement": "statement-01", "options": [{"option": "newsletter-email", "justification": "consent"}]}, {"type": "text", "text": {"en": "You can change your mind at any time."}}]`,
		`"blocks": [{"type": "text", "text": "Nothing to decide."}]`,
	},
	consent.KindRuleSet: {
		"rule set", "rule sets", "Conditions under which a widget shows only part of a template.",
		`"reference": "nudge", "name": "What is still open", "maxOptions": 2, "hideStates": ["GRANTED", "DENIED"], "channels": ["email"]`, `"maxOptions": null`,
	},
	consent.KindCentre: {
		"preference centre", "preference centres", "A hosted page for citizens.",
		`"reference": "preferences", "name": "Your link", "type": "request-link", "slug": "northwind", "brand": {"accent": "#0a5c6b"}, "texts": {"title": {"en": "Your choices"}}, "help": {"url": "mailto:privacy@northwind.example"}`, `"closed": true, "help": {"url": "mailto:privacy@northwind.example"}`,
	},
	consent.KindEmail: {
		"email", "emails", "The wording of the mails of one kind.",
		`"reference": "confirm", "name": "Please confirm", "kind": "double-opt-in", "subject": {"en": "Please confirm your subscription"}`, `"subject": {"en": "One more step"}`,
	},
}

// One is the singular in names of the document: OptionGroup.
func (k kindProse) One() string { return camel(k.one) }

// Many is the plural in names of the document: OptionGroups.
func (k kindProse) Many() string { return camel(k.many) }

// list is the name of a list of them: optionGroups.
func (k kindProse) list() string { return strings.ToLower(k.Many()[:1]) + k.Many()[1:] }

// path is their segment of a path: option-groups.
func (k kindProse) path() string { return strings.ReplaceAll(k.many, " ", "-") }

func camel(words string) string {
	var b strings.Builder
	for _, word := range strings.Fields(words) {
		b.WriteString(strings.ToUpper(word[:1]) + word[1:])
	}
	return b.String()
}

// withKinds adds the operations of every kind of item.
func withKinds(all map[string]prose) map[string]prose {
	for _, k := range kinds {
		a := "a " + k.one
		if strings.ContainsAny(k.one[:1], "aeo") {
			a = "an " + k.one
		}
		missing, conflict := []int{http.StatusNotFound}, []int{http.StatusNotFound, http.StatusConflict}
		all["create"+k.One()] = prose{
			once: true, tag: tagConfiguration, summary: "Create " + a, status: http.StatusCreated, errors: conflict,
			description: k.what + " One that exists is a conflict, unless it is archived: then it comes back as its next revision.",
			request:     `{"applicationId": "northwind", ` + k.example + `}`,
		}
		all["list"+k.Many()] = prose{tag: tagConfiguration, summary: "List " + k.many, errors: missing, description: k.what}
		all["get"+k.One()] = prose{tag: tagConfiguration, summary: "Read " + a, errors: missing, description: k.what + " It may be archived."}
		all["change"+k.One()] = prose{
			tag: tagConfiguration, summary: "Change " + a, errors: conflict, request: "{" + k.change + "}",
			description: "What is left out stays, `null` clears, a list or an object of texts is replaced whole. Everything refers to it by its key, which cannot be changed.",
		}
		all["archive"+k.One()] = prose{
			tag: tagConfiguration, summary: "Archive " + a, errors: conflict,
			description: "It can no longer be used, and its revisions stay. While others need it this is a conflict that names them.",
		}
		all["list"+k.One()+"Versions"] = prose{
			tag: tagConfiguration, summary: "List the revisions of " + a, errors: missing,
			description: "Every revision, the newest first: what it said, since when, and who recorded that.",
		}
	}
	return all
}
