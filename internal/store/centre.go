package store

import (
	"context"
	"encoding/json"

	"github.com/opencpm/opencpm/internal/consent"
)

// putCentres gives the preference centres among changed items their addresses, and takes
// away those that they had. It fails with Conflict where another application has one.
func (t *tx) putCentres(ctx context.Context, a Application, changes []consent.Revision) error {
	var open []consent.PreferenceCentre
	for _, v := range changes {
		if v.Kind != consent.KindCentre {
			continue
		}
		if _, err := t.exec(ctx, `DELETE FROM centre_address WHERE application = $1 AND reference = $2`, a.Number, v.Key); err != nil {
			return err
		}
		if v.Archived {
			continue
		}
		var c consent.PreferenceCentre
		if err := json.Unmarshal(v.Body, &c); err != nil {
			return err
		}
		open = append(open, c)
	}
	// Only now, since two centres may have changed places.
	for _, c := range open {
		if err := t.putAddress(ctx, a, c, "slug", "/c/"+c.Slug); err != nil {
			return err
		}
		if c.Host == "" {
			continue
		}
		if err := t.putAddress(ctx, a, c, "host", "//"+c.Host); err != nil {
			return err
		}
	}
	return nil
}

// putAddress gives a preference centre an address that none has.
func (t *tx) putAddress(ctx context.Context, a Application, c consent.PreferenceCentre, what, address string) error {
	n, err := changed(ctx, t, `INSERT INTO centre_address (address, application, reference) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING`, address, a.Number, c.Reference)
	if err == nil && n == 0 {
		err = consent.Errorf(consent.Conflict, "Another application of this server has a preference centre with the %s of %q; nothing was changed.", what, c.Reference)
	}
	return err
}
