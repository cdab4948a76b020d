package client

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
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
	// Document is sent as JSON; json.RawMessage goes as it is. An item that it names becomes
	// exactly what it says.
	Document any
	DryRun   bool // checks and compares only
	Prune    bool // archives the items that the document lacks, which else stay
}

// ConfigurationChanges says what the document changes, and whether that was done.
type ConfigurationChanges struct {
	Changes []ConfigurationChange `json:"changes"`
	Applied bool                  `json:"applied"`
	// Warnings say what is allowed and does not work as it is.
	Warnings []FieldError `json:"warnings"`
}

// ConfigurationChange is one item that the document changes.
type ConfigurationChange struct {
	Action string `json:"action"` // add, change or archive
	Kind   string `json:"kind"`   // such as option or privacy-policy
	Key    string `json:"key"`    // id or reference
	// ID is what the item is called where that is not its key; empty of one that a dry run
	// would add.
	ID      string   `json:"id"`
	Set     []string `json:"set"`     // the fields that get another value
	Cleared []string `json:"cleared"` // the fields that go
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

// Template is what a page or widget shows, by the id that widgets name it by, which is
// unique on the server, and by its reference within the application.
type Template struct {
	ID        string `json:"id"`
	Reference string `json:"reference"`
	Name      string `json:"name"`
	Revision  int64  `json:"revision"`
	Archived  bool   `json:"archived"`
}

// Template finds a template by its id or its reference.
func (c *Client) Template(ctx context.Context, applicationID, idOrReference string) (Template, error) {
	var out Template
	err := c.do(ctx, call{method: http.MethodGet, path: configurationPath + "/templates/" + url.PathEscape(idOrReference), query: values("applicationId", applicationID), out: &out})
	return out, err
}

func flag(b bool) string {
	if b {
		return "true"
	}
	return ""
}
