package store

import (
	"context"
	"encoding/json"

	"github.com/opencpm/opencpm/internal/consent"
)

// putCentres gives the preference centres among changed items their addresses, and takes
// away those that they had. It fails with Conflict where another application has one.
func (t *tx) putCentres(ctx context.Context, a Application, changes []consent.Revision) error {
	for _, v := range changes {
		if v.Kind != consent.KindCentre {
			continue
		}
		if _, err := t.exec(ctx, `DELETE FROM centre_address WHERE application = $1 AND reference = $2`, a.Number, v.Key); err != nil {
			return err
		}
	}
	// Only now, since two centres may have changed places.
	return eachAddress(changes, func(c consent.PreferenceCentre, what, address string) error {
		n, err := changed(ctx, t, `INSERT INTO centre_address (address, application, reference) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING`, address, a.Number, c.Reference)
		if err == nil && n == 0 {
			err = addressTaken(c, what)
		}
		return err
	})
}

// CheckCentres fails with Conflict, as ChangeCatalogue would, where an application other
// than the one of that number has the address of a preference centre among changed items.
func (s *Store) CheckCentres(ctx context.Context, application int64, changes []consent.Revision) error {
	return s.classify(eachAddress(changes, func(c consent.PreferenceCentre, what, address string) error {
		var taken int
		err := s.read.QueryRowContext(ctx, `SELECT count(*) FROM centre_address WHERE address = $1 AND application <> $2`, address, application).Scan(&taken)
		if err == nil && taken > 0 {
			err = addressTaken(c, what)
		}
		return err
	}))
}

// eachAddress does something with every address of the preference centres among changed
// items that are not archived.
func eachAddress(changes []consent.Revision, do func(c consent.PreferenceCentre, what, address string) error) error {
	for _, v := range changes {
		if v.Kind != consent.KindCentre || v.Archived {
			continue
		}
		var c consent.PreferenceCentre
		err := json.Unmarshal(v.Body, &c)
		if err == nil {
			err = do(c, "slug", "/c/"+c.Slug)
		}
		if err == nil && c.Host != "" {
			err = do(c, "host", "//"+c.Host)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func addressTaken(c consent.PreferenceCentre, what string) error {
	return consent.Errorf(consent.Conflict, "Another application of this server has a preference centre with the %s of %q; nothing was changed.", what, c.Reference)
}
