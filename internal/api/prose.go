package api

import (
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/opencpm/opencpm/internal/consent"
)

// The words of the OpenAPI document, whose shapes come from the types: of operations here, and beside it of the kinds
// of items, of fields, and the examples.

const introduction = `Records the permissions that people give and refuse, answers which apply now, and tells other systems about every change.

**Credentials.** Send ` + "`Authorization: Bearer <token>`" + ` with a token from ` + "`POST /oauth/token`" + `, or ` + "`X-API-Key: <key>`" + `. A credential belongs to
one or more applications and has scopes. What belongs to another application does not exist for it: 404. A citizen token, sent as a bearer token, opens the citizen's own history and consent state and nothing else.

**Requests** are JSON in UTF-8 of at most 1 MiB, in bulk 10 MiB. Unknown fields are ignored; ` + "`null`" + ` stands for a field that is left out, and clears it where something is
changed. An ` + "`applicationId`" + ` may be a string or a number. Times are ISO 8601 with a zone; a bare date is its first moment in UTC.

**Answers** carry all their fields always, ` + "`null`" + ` where a value is unknown (the set-up alone leaves out what is empty), and times in UTC with milliseconds. A read after a write sees it.

**Errors** are problem documents (RFC 9457). Where fields are at fault, ` + "`errors`" + ` names each with its place; what was sent is never repeated. A request
that was refused changed nothing. After 429 and 503, ` + "`Retry-After`" + ` says in how many seconds to try again.

**Lists** take ` + "`limit`" + `, ` + "`offset`" + ` and ` + "`includeTotal`" + `. A long list is better read by ` + "`cursor`" + `: give the ` + "`nextCursor`" + ` of one page to get the next, until it is ` + "`null`" + `.
What is added meanwhile neither shifts nor repeats an entry.`

const (
	tagTokens        = "Access tokens"
	tagCitizens      = "Citizens"
	tagPermissions   = "Permissions"
	tagPreferences   = "Preferences"
	tagForms         = "Consent state"
	tagHistory       = "History"
	tagCitizenTokens = "Citizen tokens"
	tagSuppressions  = "Do-not-contact list"
	tagSubscriptions = "Subscriptions"
	tagConfiguration = "Configuration"
	tagJobs          = "Jobs"
	tagOperations    = "Operations"
)

var tags = []*huma.Tag{
	{Name: tagTokens, Description: "How a client proves who it is."},
	{Name: tagCitizens, Description: "The people whose permissions are kept. `citizenId` is ours, `externalRef` is your own unique reference."},
	{Name: tagPermissions, Description: "What people answered, and what applies now."},
	{Name: tagPreferences, Description: "Choices without legal meaning, such as topics and frequency."},
	{Name: tagForms, Description: "A template merged with the state of a citizen, for pages and widgets: read it, show it, and send back what was answered."},
	{Name: tagHistory, Description: "What was recorded, what changed, and why the state is what it is."},
	{Name: tagCitizenTokens, Description: "What lets one citizen see and change their own data, for links in mails and pages."},
	{Name: tagSuppressions, Description: "Addresses that must not be contacted by a channel, whatever was permitted. The list outlives the erasure of citizens."},
	{Name: tagSubscriptions, Description: "Webhooks: where every change of a citizen's state is sent."},
	{Name: tagConfiguration, Description: "The set-up of an application: who processes what why and through which medium, and the words that citizens are shown. Everything keeps all its revisions; nothing is ever deleted."},
	{Name: tagJobs, Description: "Long work: what waits, what runs and how far it is, and what came of it. A job survives every restart and goes on where it was."},
	{Name: tagOperations, Description: "For those who run the server."},
}

var scopeProse = map[consent.Scope]string{
	consent.CitizensRead:       "Read citizens and their personal details",
	consent.CitizensWrite:      "Create, change and erase citizens",
	consent.ConsentRead:        "Read permissions, preferences and their history",
	consent.ConsentWrite:       "Record changes of permissions and answers to preferences",
	consent.WebhooksManage:     "Read and change subscriptions",
	consent.TokensCreate:       "Make citizen tokens",
	consent.TokensRevoke:       "List and revoke citizen tokens",
	consent.ConfigurationRead:  "Read the set-up of an application and its history",
	consent.ConfigurationWrite: "Change the set-up of an application",
	consent.JobsRead:           "Read jobs and their files",
	consent.JobsWrite:          "Start and cancel jobs",
	consent.SuppressionsManage: "Read and change the do-not-contact list",
}

var headerProse = map[string]string{
	"WWW-Authenticate": "How to prove who you are.",
	"Retry-After":      "In how many seconds to try again.",
}

// prose is the words, the statuses and the examples of an operation.
type prose struct {
	tag, summary, description string
	status                    int      // of success, where it is not 200 or, without an answer, 204
	errors                    []int    // besides those that every operation has
	once                      bool     // takes an Idempotency-Key
	bulk                      bool     // takes a body of the size of a request in bulk
	bare                      bool     // may come without a body
	yaml                      bool     // its document can be YAML
	page                      bool     // its answer can be a page, to read and to print
	streams                   []string // the media types of an answer that is no JSON of ours
	own                       bool     // citizens may call it about themselves, as the path names them
	request, answer           string
}

// operations are all of them.
var operations = withKinds(map[string]prose{
	"createAccessToken": {
		tag: tagTokens, summary: "Exchange a client's credentials for an access token",
		description: "The OAuth 2.0 client credentials grant (RFC 6749 §4.4). The body may be JSON or a form; the credentials may come as HTTP Basic authentication, too. " +
			"Refusals have the form of RFC 6749 §5.2. A token can be used until it expires or its client is revoked.",
		errors:  []int{http.StatusUnauthorized},
		request: `{"grant_type": "client_credentials", "client_id": "01995c3e-7f1d-7d4c-8a1b-6f5e4d3c2b1a", "client_secret": "ocpm_secret_…"}`,
		answer:  `{"access_token": "ocpm_access_…", "token_type": "Bearer", "expires_in": 86400, "scope": "consent:read consent:write"}`,
	},
	"createCitizen": {
		once: true, tag: tagCitizens, summary: "Create a citizen",
		description: "An `externalRef` alone will do. One that exists in the application is a conflict: references are compared byte for byte.",
		errors:      []int{http.StatusNotFound, http.StatusConflict},
		request:     `{"applicationId": "northwind", "externalRef": "CUST-1", "givenName": "Ada", "familyName": "Byron", "address": {"addressLocality": "London", "addressCountry": "GB"}}`,
		answer:      exampleCitizen,
	},
	"createCitizens": {
		once: true, bulk: true, tag: tagCitizens, summary: "Create citizens in bulk",
		description: "Creates up to 1000 citizens with what they have answered so far, all of them or none. Where a reference exists already the answer is a conflict that names every one. " +
			"What the request says of channel, policy and the like holds for all; `obtainedAt` may be given for each. Needs the scope `consent:write`, too.",
		errors: []int{http.StatusNotFound, http.StatusConflict},
		request: `{"applicationId": "northwind", "channel": "crm-import", "citizens": [{"externalRef": "CUST-1", "givenName": "Ada",
			"changes": [{"optionType": "option", "optionId": "newsletter-email", "justification": "consent", "state": "GRANTED"}], "preferences": [{"preference": "interests", "choices": ["jazz"]}]}, {"externalRef": "CUST-2"}]}`,
		answer: `{"citizens": [{"citizenId": "01995c3f-2a4b-7e66-b1c2-d3e4f5a6b7c8", "externalRef": "CUST-1", "transactionId": "01995c40-0b1e-7c55-9a3f-1c2d3e4f5a6b"},
			{"citizenId": "01995c3f-2a4c-7e66-b1c2-d3e4f5a6b7c9", "externalRef": "CUST-2", "transactionId": null}]}`,
	},
	"findCitizen": {
		tag: tagCitizens, summary: "Find a citizen by reference", errors: []int{http.StatusNotFound}, answer: exampleCitizen,
	},
	"getCitizen": {
		tag: tagCitizens, summary: "Read a citizen", errors: []int{http.StatusNotFound}, answer: exampleCitizen,
	},
	"changeCitizen": {
		tag: tagCitizens, summary: "Change a citizen",
		description: "What is left out stays, `null` clears, an address is merged field by field. The `externalRef` can be changed but not cleared.",
		errors:      []int{http.StatusNotFound, http.StatusConflict},
		request:     `{"telephone": null, "address": {"postalCode": "SW1Y 4JH"}}`,
		answer:      exampleCitizen,
	},
	"eraseCitizen": {
		tag: tagCitizens, summary: "Erase a citizen",
		description: "Everything personal becomes unreadable for good (GDPR art. 17): reference, details and the personal fields of the history. Subscribers are told. There is no way back.",
		errors:      []int{http.StatusNotFound},
	},
	"getEmailAddress": {
		tag: tagCitizens, summary: "Read the e-mail address of a citizen",
		description: "It is the `email` among the citizen's details, kept apart from them and sealed. Where none is known the answer is 404.",
		errors:      []int{http.StatusNotFound},
		answer:      `{"citizenId": "01995c3f-2a4b-7e66-b1c2-d3e4f5a6b7c8", "emailAddress": "ada@example.com"}`,
	},
	"setEmailAddress": {
		tag: tagCitizens, summary: "Set the e-mail address of a citizen",
		description: "The domain is kept in lower case and in ASCII, the part before the `@` as it is given. Several citizens may have the same address.",
		errors:      []int{http.StatusNotFound},
		request:     `{"emailAddress": "ada@example.com"}`,
	},
	"deleteEmailAddress": {
		tag: tagCitizens, summary: "Forget the e-mail address of a citizen", errors: []int{http.StatusNotFound},
	},
	"searchCitizens": {
		tag: tagCitizens, summary: "Find citizens by e-mail address",
		description: "Lists those who have exactly this address, whatever its capitals, the first hundred by age. It is sent in the body, since addresses must not stand in URLs, which end in logs.",
		errors:      []int{http.StatusNotFound},
		request:     `{"applicationId": "northwind", "emailAddress": "ada@example.com"}`,
		answer:      `{"citizens": [` + strings.Replace(exampleCitizen, `"email": null`, `"email": "ada@example.com"`, 1) + `]}`,
	},
	"recordTransaction": {
		once: true, tag: tagPermissions, summary: "Record changes",
		description: "Records one or more changes of one citizen, all or none. An unknown `externalRef` creates the citizen. Where `citizenId` and `externalRef` are both given " +
			"they must name the same citizen.\n\n" +
			"| `justification` | allowed `state` |\n| --- | --- |\n" +
			"| `consent` | `GRANTED`, `DENIED`, `PENDING` |\n| `legitimate-interest` | `CLAIMED`, `OBJECTED`, `OBJECTION_UPHELD` |\n" +
			"| `contract`, `public-interest`, `vital-interest`, `legal-obligation` | `CLAIMED` |\n\n" +
			"The answer says for each change whether it decides the state now (`effective`) and what applies (`current`): an older answer, or a claim against a standing refusal, " +
			"is recorded and changes nothing.",
		errors:  []int{http.StatusNotFound},
		request: `{"applicationId": "northwind", "externalRef": "CUST-1", "privacyPolicyRef": "policy-01", "channel": "web", "changes": [{"optionType": "option", "optionId": "newsletter-email", "justification": "consent", "state": "GRANTED"}]}`,
		answer: `{"transactionId": "01995c40-0b1e-7c55-9a3f-1c2d3e4f5a6b", "citizenId": "01995c3f-2a4b-7e66-b1c2-d3e4f5a6b7c8", "externalRef": "CUST-1",
			"recordedAt": "2026-11-22T09:30:00.000Z", "obtainedAt": "2026-11-22T09:30:00.000Z",
			"changes": [{"optionType": "option", "optionId": "newsletter-email", "justification": "consent", "state": "GRANTED", "validFrom": null, "validUntil": "2028-11-22T09:30:00.000Z",
				"effective": true, "current": ` + examplePermission + `}]}`,
	},
	"listTransactions": {
		tag: tagPermissions, summary: "List transactions",
		description: "The history, oldest first by `recordedAt`: of one citizen, or of the whole application. A late import is not missed by whoever goes on from the last `recordedAt` they saw.",
		errors:      []int{http.StatusNotFound},
	},
	"revertTransaction": {
		once: true, bare: true, tag: tagPermissions, summary: "Revert a transaction",
		description: "Undoes a transaction by a new one that names it; both stay in the history. What the undone one had displaced applies again, and where nothing does the entry ceases. " +
			"The answer's `changes` are those that were undone, each with what applies now. A reversion cannot be reverted, nor can a transaction twice: that is a conflict.",
		errors:  []int{http.StatusNotFound, http.StatusConflict},
		request: `{"channel": "support", "recordedByName": "Grace"}`,
		answer: `{"transactionId": "01995c42-5d6e-7a88-9900-112233445566", "reverts": "01995c40-0b1e-7c55-9a3f-1c2d3e4f5a6b", "citizenId": "01995c3f-2a4b-7e66-b1c2-d3e4f5a6b7c8", "externalRef": "CUST-1",
			"recordedAt": "2026-11-22T09:40:00.000Z", "obtainedAt": "2026-11-22T09:40:00.000Z",
			"changes": [{"optionType": "option", "optionId": "newsletter-email", "justification": "consent", "state": "GRANTED", "validFrom": null, "validUntil": "2028-11-22T09:30:00.000Z", "effective": false, "current": null}]}`,
	},
	"listEffective": {
		tag: tagPermissions, summary: "List the states of citizens who changed",
		description: "Everything that applies now to each citizen whose state changed in a range, each citizen once. Without a range, of everybody who was ever asked anything. " +
			"To keep a copy up to date, the feed of changes or a webhook is the better way.",
		errors: []int{http.StatusNotFound},
	},
	"explainPermissions": {
		tag: tagHistory, summary: "Explain the state of a citizen",
		description: "Why is this the answer? Every candidate in order, what became of it, and the rule that decided. The same can be asked of the past: `asOf` asks what applied at an instant; " +
			"with `knownAt` only what had been recorded by then counts, so both together say what could have been known.",
		errors: []int{http.StatusNotFound},
		answer: `{"applicationId": "northwind", "citizenId": "01995c3f-2a4b-7e66-b1c2-d3e4f5a6b7c8", "externalRef": "CUST-1", "asOf": "2026-11-22T09:31:00.000Z", "knownAt": null, "explanations": [
			{"optionType": "option", "optionId": "newsletter-email", "current": ` + examplePermission + `,
			 "candidates": [` + strings.Replace(examplePermission, "{", `{"group": null, "fate": "effective", "rule": 2, "by": null, "why": "This is the latest answer that counts, so it decides.", `, 1) + `]}]}`,
	},
	"listChanges": {
		tag: tagHistory, summary: "Read the feed of changes",
		description: "The changes that the webhooks tell, to be pulled: each with what changed, in the order in which they were made. Keep `nextCursor` and give it to the next call; it never skips a change. " +
			"With `wait` the call returns as soon as there is one. On PostgreSQL a change is told once no transaction is running that began before it. Of a citizen who has been erased only `citizen.deleted` is left.",
		errors: []int{http.StatusNotFound},
	},
	"getConsentState": {
		own: true, tag: tagForms, summary: "Read the consent state of a citizen",
		description: "The blocks of a template with what applies to the citizen: `selected` is true or false where the option was answered on that lawful basis, and null where it was not. " +
			"A reference that nobody has, and none at all, read as never answered. Every text is in the language that comes nearest to what is wanted. " +
			"`snapshot` proves for 24 hours what was shown: send it back with the answers. Citizens read their own, and need not say who they are.",
		errors: []int{http.StatusNotFound}, answer: exampleConsentState,
	},
	"putConsentState": {
		own: true, once: true, tag: tagForms, summary: "Record the answers of a consent state",
		description: "Takes the structure that was read, with the answers. `selected` true means `GRANTED`, or `CLAIMED` on legitimate interest, false means `DENIED`, or `OBJECTED`; null records nothing. " +
			"Only what differs from the state of the citizen is recorded: one transaction for each statement, and a submission for each preference, all or none, as one change. " +
			"With `submitAsPending` grants wait, as `PENDING`. With a valid `snapshot` the evidence proves the versions that were shown; one that is not valid is refused. " +
			"An unknown `externalRef` creates the citizen. Citizens answer for themselves; what they claim of who recorded it is ignored.",
		errors: []int{http.StatusNotFound},
		request: `{"applicationId": "northwind", "externalRef": "CUST-1", "channel": "web", "privacyPolicy": {"reference": "policy-01"}, "blocks": [
			{"type": "permissions", "statement": {"reference": "statement-01"}, "options": [{"optionId": "newsletter-email", "optionType": "option", "justification": "consent", "selected": true}]},
			{"type": "single-choice-preference", "reference": "frequency", "selectedChoice": "weekly"}]}`,
		answer: `{"citizenId": "01995c3f-2a4b-7e66-b1c2-d3e4f5a6b7c8", "externalRef": "CUST-1", "transactions": [], "submissions": []}`,
	},
	"getPublicConsentState": {
		tag: tagForms, summary: "Read the form of a template",
		description: "The consent state of somebody who is not known, for sign-up pages and widgets: only where the application takes what they send without a token, and from its allowed origins.",
		errors:      []int{http.StatusForbidden, http.StatusNotFound}, answer: exampleConsentState,
	},
	"getTemplateDraft": {
		tag: tagConfiguration, summary: "Read the draft of a template", errors: []int{http.StatusNotFound},
		description: "What is being edited of a template and not published yet.",
	},
	"putTemplateDraft": {
		tag: tagConfiguration, summary: "Write the draft of a template", errors: []int{http.StatusNotFound},
		description: "Begins a draft, or replaces it. Nobody is shown it but by `GET /v1/consent-state` with `draft=true`. Whether it can be published is asked when that is done; its lint says so before.",
		request:     `{"reference": "manage-all", "name": "Everything", "privacyPolicy": "policy-01", "blocks": [{"type": "text", "text": {"en": "You can change your mind at any time."}}]}`,
	},
	"deleteTemplateDraft": {
		tag: tagConfiguration, summary: "Give up the draft of a template", errors: []int{http.StatusNotFound},
		description: "What is published stays as it is.",
	},
	"publishTemplateDraft": {
		tag: tagConfiguration, summary: "Publish the draft of a template", errors: []int{http.StatusNotFound, http.StatusConflict},
		description: "Makes the draft the next revision of the template, which is shown from then on. Where the template was changed since the draft was begun that is a conflict.",
	},
	"lintTemplate": {
		tag: tagConfiguration, summary: "Check the wording of a template", errors: []int{http.StatusNotFound},
		description: "What is wrong, what is missing, and what treats a yes and a no unequally. The last is judged by lists of words in English and German: it helps, and proves nothing.",
		answer:      `{"findings": [{"location": "blocks[0].options[0].label", "severity": "warning", "rule": "missing-translation", "message": "There is no text in de."}]}`,
	},
	"lintTemplateDraft": {
		tag: tagConfiguration, summary: "Check the wording of the draft of a template", errors: []int{http.StatusNotFound},
		description: "What the check of a template says of its draft; what could not be published is told as the rule `invalid`.",
	},
	"capture": {
		once: true, tag: tagForms, summary: "Sign up without a token", status: http.StatusAccepted,
		description: "For sign-up pages and widgets, only where the application takes what they send without a token, and from its allowed origins. Answers come as `changes` and `preferences`, or as the `blocks` of a form. " +
			"With an `emailAddress` consent that is given becomes `PENDING`, its owner is asked by mail to confirm it, and nothing else is recorded before. Preferences are recorded with the confirmation and are refused without a consent; so is an objection, which nobody could confirm. With a `uniqueReference` that nobody has, the answers are recorded; for one that " +
			"somebody has they wait until they are accepted. The answer is always the same. An `Idempotency-Key` counts within the application, for the pages of one origin.",
		errors:  []int{http.StatusForbidden, http.StatusNotFound},
		request: `{"applicationId": "northwind", "emailAddress": "ada@example.com", "locale": "en", "channel": "web", "permissionStatementRef": "statement-01", "changes": [{"optionId": "newsletter-email", "justification": "consent", "state": "PENDING"}]}`,
		answer:  `{"status": "received"}`,
	},
	"listCaptures": {
		tag: tagForms, summary: "List what waits to be accepted",
		description: "What somebody answered without a token for a reference that a citizen has. It changes nothing until it is accepted, and is forgotten after 30 days.",
		errors:      []int{http.StatusNotFound},
		answer: `{"captures": [{"id": "01995c45-0a1b-7c2d-9e3f-4a5b6c7d8e9f", "citizenId": "01995c3f-2a4b-7e66-b1c2-d3e4f5a6b7c8", "externalRef": "CUST-1", "capturedAt": "2026-11-22T09:30:00.000Z", "forgottenAt": "2026-12-22T09:30:00.000Z",
			"channel": "web", "campaign": null, "changes": [{"optionType": "option", "optionId": "newsletter-email", "justification": "consent", "state": "DENIED", "validFrom": null, "validUntil": null}],
			"preferences": [{"preference": "interests", "choices": ["jazz"]}], "telephone": null}], "total": 1, "nextCursor": null}`,
	},
	"acceptCapture": {
		tag: tagForms, summary: "Accept what waits", description: "Records it with the time at which it was answered.", errors: []int{http.StatusNotFound},
	},
	"rejectCapture": {
		tag: tagForms, summary: "Reject what waits", description: "Forgets it without a record.", errors: []int{http.StatusNotFound},
	},
	"listCitizenEmails": {
		tag: tagHistory, summary: "List the mails to a citizen",
		description: "What became of each mail that OpenCPM made ready, without what it said.",
		errors:      []int{http.StatusNotFound},
		answer: `{"emails": [{"id": "01995c44-0a1b-7c2d-9e3f-4a5b6c7d8e9f", "kind": "double-opt-in", "way": "smtp", "state": "sent", "createdAt": "2026-11-22T09:30:00.000Z", "expiresAt": "2026-11-24T09:30:00.000Z",
			"endedAt": "2026-11-22T09:30:01.000Z", "attempts": 0, "reason": null}], "total": 1}`,
	},
	"getOwnHistory": {
		own: true, tag: tagForms, summary: "Read one's own history",
		description: "What the history of a citizen is to whoever presents the citizen's token.",
		errors:      []int{http.StatusNotFound},
	},
	"getOwnEvidence": {
		own: true, page: true, tag: tagForms, summary: "Export the evidence of one's own permissions",
		description: "What the evidence of a citizen is to whoever presents the citizen's token.",
		errors:      []int{http.StatusNotFound},
	},
	"getHistory": {
		own: true, tag: tagHistory, summary: "Read the history of a citizen",
		description: "Every transaction and submission of a citizen, and every change of the do-not-contact list that concerns them, in the order in which they were recorded, with what was shown and the hash that chains each record to the one before it.",
		errors:      []int{http.StatusNotFound},
	},
	"createCitizenToken": {
		tag: tagCitizenTokens, summary: "Make a citizen token",
		description: "The token lets its bearer see and change the data of one citizen until `expiryDate`. That lies between 10 seconds and 3 calendar months from now; where your clock is up to a minute wrong it is " +
			"moved to the nearer bound, and the answer says when the token expires. It is not kept and cannot be read again. Revoke it alone by its `issue`, or all of the citizen's at once.",
		errors:  []int{http.StatusNotFound},
		request: `{"applicationId": "northwind", "externalRef": "CUST-1", "expiryDate": "2026-12-22T09:30:00Z", "batchReference": "spring-mailing"}`,
		answer:  `{"token": "ocpm_citizen_…", "expiryDate": "2026-12-22T09:30:00.000Z", "issue": 17}`,
	},
	"createUnsubscribeLink": {
		tag: tagCitizenTokens, summary: "Make a link to unsubscribe",
		description: "With it the citizen leaves one option, or one group, without signing in, and nothing else: for the `List-Unsubscribe` header of mails about that (RFC 8058) and for their footers. It is good for ever, " +
			"whatever is revoked, and the same each time it is asked for, until another key signs: then it is another one, and both are good. What stands on consent is denied, what stands on a legitimate interest is objected to; an option on which neither is accepted cannot be left.",
		errors:  []int{http.StatusNotFound},
		request: `{"applicationId": "northwind", "externalRef": "CUST-1", "optionId": "newsletter-email"}`,
		answer:  `{"token": "ocpm_citizen_…", "url": "https://consent.example.com/u/ocpm_citizen_…"}`,
	},
	"unsubscribe": {
		tag: tagCitizenTokens, summary: "Unsubscribe with one click", streams: []string{"text/plain"},
		description: "What a mail program sends to the URL of the `List-Unsubscribe` header when its reader presses unsubscribe (RFC 8058): the form `List-Unsubscribe=One-Click`. " +
			"The answer is the same whether the link is known or not. A second call changes nothing.",
	},
	"createTokenJob": {
		once: true, tag: tagCitizenTokens, summary: "Make tokens of many citizens", status: http.StatusCreated,
		description: "Begins a job that makes a token of every citizen, or of up to 1000 who are named by `citizenIds` and `externalRefs`, and writes them into a CSV file for a mail tool, with the columns " +
			"`citizenId`, `externalRef`, `token`, `token_url`, `expiryDate`, and `unsubscribe_url_` and its id for each option or group in `unsubscribe`. `token_url` is the citizen's page: by the setting `manageUrl`, else the first preference centre that shows and changes. " +
			"A reference that a spreadsheet would take for a formula has an apostrophe in front. Who is named and does not exist is in the file of failures of the job. " +
			"All the tokens are of one `issue`, by which they can be revoked. The file is there for seven days, or until the tokens expire.",
		errors:  []int{http.StatusNotFound},
		request: `{"applicationId": "northwind", "reference": "spring-mailing", "expiryDate": "2026-12-22T09:30:00Z", "externalRefs": ["CUST-1", "CUST-2"], "unsubscribe": ["newsletter-email"]}`,
		answer:  exampleTokenJob,
	},
	"getTokenJob": {
		tag: tagCitizenTokens, summary: "Read a job that makes tokens", errors: []int{http.StatusNotFound}, answer: exampleTokenJob,
	},
	"getTokenJobFile": {
		tag: tagCitizenTokens, summary: "Read the tokens that a job made", streams: []string{"text/csv"},
		description: "The CSV file, as far as it is written: all of it once the job is done. It holds tokens: keep it as carefully as a password.",
		errors:      []int{http.StatusNotFound, http.StatusGone},
	},
	"listTokenIssues": {
		tag: tagCitizenTokens, summary: "List what citizen tokens were made",
		description: "Every act of making citizen tokens, the newest first: one for a single token, one for those of a job, and one for all those that the messages of a subscription carry. Never the tokens. One that expired more than 90 days ago is left out.",
		errors:      []int{http.StatusNotFound},
		answer: `{"issues": [{"issue": 17, "kind": "single", "citizenId": "01995c3f-2a4b-7e66-b1c2-d3e4f5a6b7c8", "subscriptionId": null, "jobId": null, "scheduled": false, "batchReference": "spring-mailing", "createdAt": "2026-11-22T09:30:00.000Z",
			"createdBy": "01995c3e-7f1d-7d4c-8a1b-6f5e4d3c2b1a", "expiryDate": "2026-12-22T09:30:00.000Z", "revokedAt": null}], "total": 1, "nextCursor": null}`,
	},
	"revokeTokenIssue": {
		tag: tagCitizenTokens, summary: "Revoke the citizen tokens of an issue",
		description: "From the answer on none of them opens anything. A subscription that includes citizen tokens in its messages makes those to come on a new issue.",
		errors:      []int{http.StatusNotFound},
	},
	"revokeCitizenTokens": {
		tag: tagCitizenTokens, summary: "Revoke all tokens of a citizen",
		description: "From the answer on no token of the citizen opens anything, however it was made. Those made afterwards do.",
		errors:      []int{http.StatusNotFound},
	},
	"createSuppression": {
		tag: tagSuppressions, summary: "Put an address on the list",
		description: "From the answer on, what is permitted by consent or claimed on legitimate interest on these channels reads as `DENIED` or `OBJECTION_UPHELD` for every citizen of the application who has the address, " +
			"and for whoever gets it later; subscribers are told. Further answers are recorded and have no effect until the entry is lifted. There is one entry for each channel; one that is in force stays as it is.",
		errors:  []int{http.StatusNotFound},
		request: `{"applicationId": "northwind", "emailAddress": "grace@example.com", "channels": ["email"], "reason": "asked by telephone", "source": "support"}`,
		answer:  `{"suppressions": [` + exampleSuppression + `]}`,
	},
	"listSuppressions": {
		tag: tagSuppressions, summary: "List the entries",
		description: "The newest first, those that were lifted among them. Addresses are masked.",
		errors:      []int{http.StatusNotFound},
		answer:      `{"suppressions": [` + exampleSuppression + `], "total": 1, "nextCursor": null}`,
	},
	"searchSuppressions": {
		tag: tagSuppressions, summary: "Find the entries of an address",
		description: "The newest first, at most 100. The address is sent in the body, since addresses must not stand in URLs, which end in logs.",
		errors:      []int{http.StatusNotFound},
		request:     `{"applicationId": "northwind", "emailAddress": "grace@example.com"}`,
		answer:      `{"suppressions": [` + exampleSuppression + `]}`,
	},
	"liftSuppression": {
		tag: tagSuppressions, summary: "Lift an entry",
		description: "The entry is kept, with who lifted it and when. What citizens have answered is effective again, unless another entry stands against it; subscribers are told.",
		errors:      []int{http.StatusNotFound},
	},
	"getEvidence": {
		page: true, tag: tagHistory, summary: "Export the evidence of a citizen's permissions",
		description: "What a data-protection officer must be able to prove (GDPR art. 7(1)), in the shape of the consent records of ISO/IEC TS 27560:2023: one record for each option that was ever answered, " +
			"with the purpose, the parties, what was shown and every event. `chain` holds the hashes by which `opencpm check` proves that nothing was changed since. " +
			"With `Accept: text/html` the same is a page to read and to print, one file that loads nothing.",
		errors: []int{http.StatusNotFound},
	},
	"createSubmission": {
		once: true, tag: tagPreferences, summary: "Record answers to preferences",
		description: "Records answers of one citizen, each as a submission of its own, all or none. An empty list of choices is an answer, too. An unknown `externalRef` creates the citizen. " +
			"The latest `obtainedAt` wins: an older answer is recorded and changes nothing (`effective` is false). A submission cannot be reverted.",
		errors:  []int{http.StatusNotFound},
		request: `{"applicationId": "northwind", "externalRef": "CUST-1", "channel": "web", "preferences": [{"preference": "interests", "choices": ["jazz", "rock"]}]}`,
		answer: `{"citizenId": "01995c3f-2a4b-7e66-b1c2-d3e4f5a6b7c8", "externalRef": "CUST-1", "submissions": [{"submissionId": "01995c43-1a2b-7c3d-8e4f-5a6b7c8d9e0f",
			"recordedAt": "2026-11-22T09:30:00.000Z", "obtainedAt": "2026-11-22T09:30:00.000Z", "preference": "interests", "choices": [{"reference": "jazz", "label": "Jazz"}, {"reference": "rock", "label": "Rock"}],
			"effective": true, "current": ` + examplePreference + `}]}`,
	},
	"listSubmissions": {
		tag: tagPreferences, summary: "List submissions",
		description: "The answers to preferences, oldest first by `recordedAt`: of one citizen, or of the whole application.",
		errors:      []int{http.StatusNotFound},
	},
	"getPreferences": {
		tag: tagPreferences, summary: "Read the current preferences of a citizen",
		description: "The latest answer to each preference. A preference that was never answered has no entry.",
		errors:      []int{http.StatusNotFound},
		answer:      `{"applicationId": "northwind", "citizenId": "01995c3f-2a4b-7e66-b1c2-d3e4f5a6b7c8", "externalRef": "CUST-1", "preferences": [` + examplePreference + `]}`,
	},
	"getPermissions": {
		tag: tagPermissions, summary: "Read the effective state of a citizen",
		description: "What applies now, or throughout a range. An option that was never answered has no entry. The citizen is named by `citizenId`, by `externalRef`, or by both.\n\n" +
			"With `validStart` or `validEnd`, what is listed was valid at the start and is still valid at the end; the one that is left out is now. " +
			"With `expiry=latest`, what has expired is listed as well, with the `status` `expired`.",
		errors: []int{http.StatusNotFound},
		answer: `{"applicationId": "northwind", "citizenId": "01995c3f-2a4b-7e66-b1c2-d3e4f5a6b7c8", "externalRef": "CUST-1", "permissions": [` + strings.Replace(examplePermission, "{", `{"status": "effective", `, 1) + `], "pending": []}`,
	},
	"createSubscription": {
		once: true, tag: tagSubscriptions, summary: "Create a subscription", status: http.StatusCreated,
		description: "From now on every change of a citizen of the application is sent to the `url`, in order for each citizen, until it is delivered.\n\n" +
			"Every message is signed after Standard Webhooks. Where no `signingSecret` is given one is made, and answered here and nowhere else: a repetition with the same `Idempotency-Key` answers `null`.",
		errors:  []int{http.StatusNotFound},
		request: `{"applicationId": "northwind", "name": "CRM", "url": "https://crm.example.com/hooks/consent", "updateType": "effective-permission", "authType": "token", "token": "a-long-and-secret-token", "tokenName": "X-Token"}`,
		answer:  exampleWithSecret,
	},
	"listSubscriptions": {
		tag: tagSubscriptions, summary: "List subscriptions", description: "Those of all applications of the credential, in the order in which they were created.",
		errors: []int{http.StatusNotFound},
	},
	"getSubscription": {
		tag: tagSubscriptions, summary: "Read a subscription", errors: []int{http.StatusNotFound}, answer: exampleSubscription,
	},
	"replaceSubscription": {
		tag: tagSubscriptions, summary: "Replace a subscription",
		description: "What is left out takes its default, except the secrets: they stay, and `null` clears them. What waits is sent by the new settings.",
		errors:      []int{http.StatusNotFound},
		request:     `{"name": "CRM", "url": "https://crm.example.com/hooks/consent", "updateType": "effective-permission", "status": "paused"}`,
		answer:      exampleSubscription,
	},
	"changeSubscription": {
		tag: tagSubscriptions, summary: "Change a subscription",
		description: "What is left out stays; `null` clears or sets the default. Changes that are made while the subscription is paused are not queued and are lost to it.",
		errors:      []int{http.StatusNotFound},
		request:     `{"token": "another-long-secret-token"}`,
		answer:      exampleSubscription,
	},
	"deleteSubscription": {
		tag: tagSubscriptions, summary: "Delete a subscription", description: "What waits for it ends with it.", errors: []int{http.StatusNotFound},
	},
	"rotateSecret": {
		bare: true, tag: tagSubscriptions, summary: "Rotate the signing secret",
		description: "Makes a new `signingSecret`, which is answered here and nowhere else. From now on messages are signed with it, and with the one before beside it until `previousSigningSecretUntil`; " +
			"the one before that ends at once. Each call makes another one.",
		errors:  []int{http.StatusNotFound},
		request: `{"overlapSeconds": 86400}`,
		answer:  strings.Replace(exampleWithSecret, `"previousSigningSecretUntil": null`, `"previousSigningSecretUntil": "2026-11-23T09:30:00.000Z"`, 1),
	},
	"listDeliveries": {
		tag: tagSubscriptions, summary: "Search the delivery log", errors: []int{http.StatusNotFound},
		description: "Every attempt to deliver a message, and every other end of one, the newest first. It is kept for 30 days or up to a set size, as the operator chose. " +
			"A search that matches little looks through a part of the log at a time: a page may be short, or empty, and the list go on all the same.",
	},
	"getDelivery": {
		tag: tagSubscriptions, summary: "Read an entry of the delivery log", errors: []int{http.StatusNotFound},
		description: "What was sent, without secrets, and what was answered, and all other attempts on the same message. Where the citizen was erased only the skeleton is left.",
	},
	"listWaiting": {
		tag: tagSubscriptions, summary: "List what waits", errors: []int{http.StatusNotFound},
		description: "The messages that were not accepted yet, in the order in which they are due; one that becomes due at another time meanwhile may appear twice or not at all.",
	},
	"testSubscription": {
		tag: tagSubscriptions, summary: "Send a test message", errors: []int{http.StatusNotFound},
		description: "Sends a message about nobody, with the `eventType` `test`, as any other is sent, and answers what came of it. Nothing of it is kept.",
	},
	"testSettings": {
		tag: tagSubscriptions, summary: "Send a test message by settings that are not saved", errors: []int{http.StatusNotFound},
		description: "The body is that of a subscription to be created.",
		request:     `{"applicationId": "northwind", "name": "CRM", "url": "https://crm.example.com/hooks/consent", "authType": "token", "token": "a-long-and-secret-token"}`,
	},
	"redeliver": {
		once: true, tag: tagSubscriptions, summary: "Deliver again", status: http.StatusAccepted, errors: []int{http.StatusNotFound, http.StatusConflict},
		description: "Either the message of one entry of the log: a full state is rendered anew, a receipt is the same again, with its own `eventId` and `sentAt`. " +
			"Or everything that failed since an instant and is tried hourly, at once, by a job. The order per citizen is kept.",
		request: `{"since": "2026-11-22T06:00:00Z"}`,
		answer:  `{"messages": 0, "job": ` + strings.Replace(exampleJob, "ledger-check", "redeliver", 1) + `}`,
	},
	"resync": {
		once: true, bare: true, tag: tagSubscriptions, summary: "Send the present states", status: http.StatusAccepted, errors: []int{http.StatusNotFound},
		description: "Begins a job that sends the present state of every citizen, or of those who changed since an instant, with the `eventType` `resync`, after all that people wait for. " +
			"The safe answer to what a pause has lost. A subscription must be to `effective-permission`.",
		request: `{"since": "2026-11-22T06:00:00Z", "ratePerSecond": 200}`,
		answer:  `{"messages": 0, "job": ` + strings.Replace(exampleJob, "ledger-check", "resync", 1) + `}`,
	},
	"discard": {
		once: true, tag: tagSubscriptions, summary: "Discard what waits", status: http.StatusAccepted, errors: []int{http.StatusNotFound},
		description: "Ends messages that were not accepted: the one of an entry of the log, those of a citizen, or all, by a job. The log and the audit say so. What is under way may still arrive. " +
			"A full state to which a change was added after `before` stays whole.",
		request: `{"citizenId": "01995c3f-2a4b-7e66-b1c2-d3e4f5a6b7c8"}`,
		answer:  `{"messages": 1, "job": null}`,
	},
	"getPermissionConfiguration": {
		tag: tagPermissions, summary: "Read what permissions can be given for", description: "What `optionId` may be, and what it means.",
		errors: []int{http.StatusNotFound},
		answer: `{"applicationId": "northwind", "data": [{"id": "email", "name": "E-mail"}], "purposes": [{"id": "newsletter", "name": "Newsletter"}], "parties": [{"id": "northwind", "name": "Northwind Retail Ltd"}],
			"options": [{"id": "newsletter-email", "name": null, "dataId": "email", "purposeId": "newsletter", "partyId": "northwind", "justifications": [{"justification": "consent", "validFor": "P2Y"}]}],
			"groups": [{"id": "all-email", "name": "Everything by e-mail", "options": ["newsletter-email"]}]}`,
	},
	"getConfiguration": {
		tag: tagConfiguration, summary: "Read the whole set-up", yaml: true, errors: []int{http.StatusNotFound},
		description: "As the one document that `PUT` takes, in JSON or, where `Accept` asks for it, YAML. What is empty is left out, and so is what is archived.",
	},
	"putConfiguration": {
		tag: tagConfiguration, summary: "Import a set-up", yaml: true, errors: []int{http.StatusNotFound, http.StatusConflict},
		description: "Brings the set-up to what the document says, all or nothing: adds and changes by id or reference. Items that the document lacks stay, unless `prune` archives them; " +
			"an item that it names, and `application`, become exactly what it says: the fields that it leaves out are cleared. `dryRun` names them. " +
			"The same document again changes nothing. YAML must do without anchors and tags.",
		request: `{"application": {"name": "Northwind Retail", "defaultLocale": "en", "locales": ["en", "de"], "allowedOrigins": ["https://shop.example"],
			"sender": {"name": "Northwind Retail", "address": "hello@northwind.example"}, "tokenRegeneration": {"every": "P30D", "validFor": "P60D"}}, "channels": [{"id": "email", "name": "E-mail"}],
			"permissionStatements": [{"reference": "statement-01", "text": {"en": "We may write to you.", "de": "Wir dürfen Ihnen schreiben."}}]}`,
		answer: `{"changes": [{"action": "add", "kind": "channel", "key": "email"}], "applied": true}`,
	},
	"createJob": {
		once: true, tag: tagJobs, summary: "Start a job", status: http.StatusCreated,
		description: "`ledger-check` walks all citizens of the application: it follows the chain of each one's records and compares the effective state with what they say. " +
			"Its result is a summary in JSON, its failures are lines of CSV with the citizen and what is wrong. It needs the scope `consent:read`, too. Other kinds of jobs are started by calls of their own.",
		errors:  []int{http.StatusNotFound},
		request: `{"applicationId": "northwind", "kind": "ledger-check", "maxPerSecond": 500}`,
		answer:  exampleJob,
	},
	"listJobs": {
		tag: tagJobs, summary: "List jobs", description: "Those of all applications of the credential, the newest first.",
		errors: []int{http.StatusNotFound},
	},
	"watchJobs": {
		tag: tagJobs, summary: "Follow the jobs of an application", streams: []string{"text/event-stream"},
		description: "A stream of server-sent events. Each event `job` carries a job in `data`, as `GET /v1/jobs/{id}` answers it: at first every job that has not ended, " +
			"then each that changes, at most four times a second. While nothing happens a comment comes every 15 seconds. The stream ends with the server and after an hour at the latest; " +
			"connect again then, and read for yourself what ended meanwhile. What `Last-Event-ID` says does not matter.",
		errors: []int{http.StatusNotFound},
	},
	"getJob": {tag: tagJobs, summary: "Read a job", errors: []int{http.StatusNotFound}, answer: exampleJob},
	"cancelJob": {
		tag: tagJobs, summary: "Cancel a job", errors: []int{http.StatusNotFound}, answer: exampleJob,
		description: "One that waits ends at once, one that runs within about a second; what it has done stays done. One that has ended stays as it is.",
	},
	"getJobFile": {
		tag: tagJobs, summary: "Read a file of a job", streams: []string{jsonType, csvType}, errors: []int{http.StatusNotFound, http.StatusGone},
		description: "What the job has written so far. A file is there once something is in it, and gone seven days after the end of the job.",
	},
	"live":    {tag: tagOperations, summary: "Whether the process lives"},
	"ready":   {tag: tagOperations, summary: "Whether the server can serve"},
	"metrics": {tag: tagOperations, summary: "Metrics for Prometheus"},
})
