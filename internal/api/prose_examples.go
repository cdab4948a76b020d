package api

import "strings"

// Examples that several operations share.
const (
	exampleSuppression = `{"id": "01995c44-1a2b-7c3d-8e4f-5a6b7c8d9e0f", "kind": "email", "address": "g•••e@example.com", "channel": "email", "reason": "asked by telephone", "source": "support",
		"createdAt": "2026-11-22T09:30:00.000Z", "createdBy": "01995c3e-7f1d-7d4c-8a1b-6f5e4d3c2b1a", "liftedAt": null, "liftedBy": null, "liftReason": null}`
	exampleCitizen = `{"citizenId": "01995c3f-2a4b-7e66-b1c2-d3e4f5a6b7c8", "applicationDetails": [{"applicationId": "northwind", "externalRef": "CUST-1",
		"givenName": "Ada", "additionalName": null, "familyName": "Byron", "organisationName": null, "email": null, "telephone": null,
		"address": {"streetAddress": null, "streetAddress2": null, "streetAddress3": null, "addressLocality": "London", "addressRegion": null, "addressCountry": "GB", "postalCode": null, "postOfficeBoxNumber": null}}]}`
	examplePermission = `{"transactionId": "01995c40-0b1e-7c55-9a3f-1c2d3e4f5a6b", "optionType": "option", "optionId": "newsletter-email", "justification": "consent", "state": "GRANTED",
		"channel": "web", "campaign": null, "privacyPolicyId": "01995c3d-1111-7aaa-8bbb-cccccccccccc", "privacyPolicyRef": "policy-01", "permissionStatementId": null, "permissionStatementRef": null,
		"recordedBy": null, "recordedByName": null, "recordedClient": "01995c3e-7f1d-7d4c-8a1b-6f5e4d3c2b1a", "recordedClientName": "Web shop", "delegatedAuthorityId": null, "delegatedAuthorityName": null,
		"recordedAt": "2026-11-22T09:30:00.000Z", "obtainedAt": "2026-11-22T09:30:00.000Z", "validFrom": null, "validUntil": "2028-11-22T09:30:00.000Z"}`
	examplePreference = `{"preference": "interests", "choices": [{"reference": "jazz", "label": "Jazz"}, {"reference": "rock", "label": "Rock"}], "label": "Interests",
		"submissionId": "01995c43-1a2b-7c3d-8e4f-5a6b7c8d9e0f", "updatedAt": "2026-11-22T09:30:00.000Z"}`
	exampleSubscription = `{"id": "01995c41-3c4d-7f77-8899-aabbccddeeff", "applicationId": "northwind", "name": "CRM", "url": "https://crm.example.com/hooks/consent",
		"updateType": "effective-permission", "status": "active", "authType": "token", "tokenLast4": "oken", "tokenLocation": "header", "tokenName": "X-Token", "refreshTokenLast4": null,
		"refreshUrl": null, "clientId": null, "clientSecretLast4": null, "tokenUrl": null, "scope": null, "signingSecretLast4": "dw==", "previousSigningSecretUntil": null, "retryPolicy": "adaptive", "format": "plain", "messagePerChange": false, "strictOrder": false,
		"onlyOnStateChange": false, "ignoreClients": [], "filter": {"options": [], "channels": [], "preferences": []}, "includeCitizenToken": false, "citizenTokenValidity": "P30D",
		"timeoutSeconds": null, "headerNames": [], "createdAt": "2026-11-22T09:30:00.000Z", "updatedAt": "2026-11-22T09:30:00.000Z", "pausedAt": null, "missedChanges": null,
		"endpoint": {"state": "healthy", "failingSince": null, "downSince": null, "nextProbeAt": null, "waitUntil": null, "goneAt": null, "lastSuccessAt": "2026-11-22T09:31:02.184Z",
		"lastFailureAt": null, "lastReason": null, "delivered": 12, "failed": 0}}`
	exampleSecret = `"whsec_A1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p6Q7r8S9t0dw=="`
)

const exampleConsentState = `{"applicationId": "northwind", "citizenId": "01995c3f-2a4b-7e66-b1c2-d3e4f5a6b7c8", "externalRef": "CUST-1", "templateId": "t_8fk2abcdefghijklmnopqrstuv", "locale": "en",
	"locales": ["en", "de"], "direction": "ltr", "snapshot": "AZ…", "privacyPolicy": {"id": "pp_4hx2abcdefghijklmnopqrstuv", "reference": "policy-01", "name": "Privacy policy", "version": "1", "url": "https://example.com/privacy"},
	"blocks": [
		{"type": "permissions", "statement": {"id": "ps_7qk2abcdefghijklmnopqrstuv", "reference": "statement-01", "version": 1, "text": "We may write to you.", "content": [{"type": "paragraph", "children": [{"type": "text", "text": "We may write to you."}]}]},
		 "options": [{"optionId": "newsletter-email", "optionType": "option", "justification": "consent", "label": "Newsletter", "selected": true, "state": "GRANTED", "validUntil": "2028-11-22T09:30:00.000Z",
			"party": {"id": "northwind", "name": "Northwind Retail Ltd"}, "purpose": {"id": "newsletter", "name": "Newsletter"}, "channel": {"id": "email", "name": "E-mail"}, "directMarketing": true}]},
		{"type": "single-choice-preference", "reference": "frequency", "label": "How often", "selectedChoice": "weekly",
		 "choices": [{"reference": "weekly", "label": "Weekly"}, {"reference": "monthly", "label": "Monthly"}]}]}`

const exampleJob = `{"id": "01995c44-5d6e-7f88-99aa-bbccddeeff00", "applicationId": "northwind", "kind": "ledger-check", "state": "running", "maxPerSecond": null,
	"progress": {"done": 1200, "total": 5000, "failures": 0, "ratePerSecond": 950.5, "estimatedEndAt": "2026-11-22T09:30:04.000Z"},
	"createdAt": "2026-11-22T09:29:58.000Z", "startedAt": "2026-11-22T09:29:58.100Z", "finishedAt": null, "expiresAt": null, "createdBy": "01995c3e-7f1d-7d4c-8a1b-6f5e4d3c2b1a", "error": null, "files": []}`

// exampleTokenJob is a job that makes tokens.
var exampleTokenJob = strings.TrimSuffix(strings.Replace(exampleJob, "ledger-check", "citizen-tokens", 1), "}") + `, "issue": 18, "reference": "spring-mailing", "expiryDate": "2026-12-22T09:30:00.000Z", "revokedAt": null}`

// exampleWithSecret is a subscription as it is answered once.
var exampleWithSecret = strings.TrimSuffix(exampleSubscription, "}") + `, "signingSecret": ` + exampleSecret + `}`
