package consent

import "slices"

// Scope is one permission of a credential.
type Scope string

// The scopes.
const (
	CitizensRead       Scope = "citizens:read"
	CitizensWrite      Scope = "citizens:write"
	ConsentRead        Scope = "consent:read"
	ConsentWrite       Scope = "consent:write"
	WebhooksManage     Scope = "webhooks:manage"
	TokensCreate       Scope = "tokens:create"
	TokensRevoke       Scope = "tokens:revoke"
	ConfigurationRead  Scope = "configuration:read"
	ConfigurationWrite Scope = "configuration:write"
	JobsRead           Scope = "jobs:read"
	JobsWrite          Scope = "jobs:write"
	SuppressionsManage Scope = "suppressions:manage"
)

// Scopes lists every scope. A credential that names none at creation has all.
var Scopes = []Scope{
	CitizensRead, CitizensWrite, ConsentRead, ConsentWrite, WebhooksManage, TokensCreate, TokensRevoke, ConfigurationRead, ConfigurationWrite, JobsRead, JobsWrite,
	SuppressionsManage,
}

// Known reports whether there is such a scope.
func (s Scope) Known() bool { return slices.Contains(Scopes, s) }

// ScopeNames is all scopes for a sentence.
func ScopeNames() string { return join(Scopes) }
