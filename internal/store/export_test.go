package store

import (
	"context"

	"github.com/go-json-experiment/json"

	"github.com/opencpm/opencpm/internal/consent"
)

// PutBackAddress leaves the e-mail address of a citizen where earlier releases did: among
// the details.
func (s *Store) PutBackAddress(ctx context.Context, application int64, key consent.CitizenKey, text string) error {
	return s.do(ctx, &write{citizens: []*citizenWrite{{application: application, key: key, apply: func(ctx context.Context, t *tx, c *citizenRow, _ bool) error {
		p, err := c.profile(s.keys)
		if err != nil {
			return err
		}
		p.Details.Email = text
		plain, err := json.Marshal(p)
		if err != nil {
			return err
		}
		if _, err := t.exec(ctx, `UPDATE citizen SET details = $1 WHERE id = $2`, c.key.Seal(c.context("details"), plain), c.id); err != nil {
			return err
		}
		_, err = t.exec(ctx, `INSERT INTO citizen_address_backlog (citizen) VALUES ($1)`, c.id)
		return err
	}}}})
}
