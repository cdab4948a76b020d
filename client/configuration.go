package client

import (
	"context"
	"encoding/json"
	"net/http"
)

const configurationPath = "v1/configuration"

// Configuration reads the set-up of an application as the one document that
// PutConfiguration takes.
func (c *Client) Configuration(ctx context.Context, applicationID string) (json.RawMessage, error) {
	var out json.RawMessage
	err := c.do(ctx, call{method: http.MethodGet, path: configurationPath, query: values("applicationId", applicationID), out: &out})
	return out, err
}

// ConfigurationUpdate brings the set-up of an application to what a document says.
type ConfigurationUpdate struct {
	ApplicationID string
	Document      any  // is sent as JSON; json.RawMessage goes as it is
	DryRun        bool // checks and compares only
	Prune         bool // archives what the document lacks, which else stays
}

// ConfigurationChanges says what the document changes, and whether that was done.
type ConfigurationChanges struct {
	Changes []ConfigurationChange `json:"changes"`
	Applied bool                  `json:"applied"`
}

// ConfigurationChange is one item that the document changes.
type ConfigurationChange struct {
	Action string `json:"action"` // add, change or archive
	Kind   string `json:"kind"`   // such as option or privacy-policy
	Key    string `json:"key"`    // id or reference
}

// PutConfiguration imports a set-up, all of it or nothing. The same document again
// changes nothing.
func (c *Client) PutConfiguration(ctx context.Context, u ConfigurationUpdate) (ConfigurationChanges, error) {
	var out ConfigurationChanges
	err := c.do(ctx, call{
		method: http.MethodPut, path: configurationPath,
		query: values("applicationId", u.ApplicationID, "dryRun", flag(u.DryRun), "prune", flag(u.Prune)),
		in:    u.Document, out: &out,
	})
	return out, err
}

func flag(b bool) string {
	if b {
		return "true"
	}
	return ""
}
