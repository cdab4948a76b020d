package core

import (
	"context"
	"fmt"
	"slices"

	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/internal/store"
)

// ListedAddress names an address on the do-not-contact list: exactly one of the two.
type ListedAddress struct {
	Email     string
	Telephone string // with its country
}

// contact reads the address of a request, and notes what is wrong with it.
func (v ListedAddress) contact(faults *consent.Faults) consent.Contact {
	const email, telephone = "emailAddress", "telephone"
	if faults.At(email) || faults.At(telephone) {
		return consent.Contact{}
	}
	if (v.Email == "") == (v.Telephone == "") {
		faults.Add(email, "either emailAddress or telephone must be given")
		return consent.Contact{}
	}
	if v.Email != "" {
		e, err := consent.ParseEmail(v.Email)
		if err != nil {
			faults.Add(email, "%v", err)
		}
		return e.Contact()
	}
	n, err := consent.ParseTelephone(v.Telephone, "")
	if err != nil {
		faults.Add(telephone, "%v", err)
	}
	return n.Contact()
}

// NewSuppression is an address to be put on the do-not-contact list.
type NewSuppression struct {
	ApplicationID string
	Address       ListedAddress
	Channels      []string // of the catalogue; none means all that it has now
	Reason        string
	Source        string // where it came from
}

// Suppress puts an address on the do-not-contact list of some Channels (rule 9): until it
// is lifted no option of these is permitted for whoever has the address, now or later. It
// gives one entry for each Channel; those that are in force already stay as they are.
func (s *Service) Suppress(ctx context.Context, a Actor, r Request, v NewSuppression) ([]store.Suppressed, error) {
	snap, err := s.authoriseFor(ctx, a, consent.SuppressionsManage, v.ApplicationID, r.Found)
	if err != nil {
		return nil, err
	}
	faults := r.Found
	contact := v.Address.contact(&faults)
	consent.CheckText(&faults, "reason", v.Reason, 0, 200)
	consent.CheckText(&faults, "source", v.Source, 0, 200)
	var channels []string
	for _, c := range snap.Catalogue.Channels {
		if len(v.Channels) == 0 || slices.Contains(v.Channels, c.ID) {
			channels = append(channels, c.ID)
		}
	}
	for i, id := range v.Channels {
		if !slices.Contains(channels, id) {
			faults.Add(fmt.Sprintf("channels[%d]", i), "names no channel of the application")
		}
	}
	if len(channels) == 0 && len(v.Channels) == 0 {
		faults.Add("channels", "the application has no channels")
	}
	if err := faults.Err(); err != nil {
		return nil, err
	}
	return s.store.Suppress(ctx, snap.Application, store.NewSuppression{Contact: contact, Channels: channels, Reason: v.Reason, Source: v.Source, By: a.recorder()})
}

// Suppressions lists the entries of the do-not-contact list of an application, the newest
// first, before one by its number, 0 for from the newest on; and how many there are.
func (s *Service) Suppressions(ctx context.Context, a Actor, applicationID string, before int64, limit, offset int) ([]store.Suppressed, int64, error) {
	snap, err := s.authorise(ctx, a, consent.SuppressionsManage, applicationID)
	if err != nil {
		return nil, 0, err
	}
	return s.store.Suppressions(ctx, snap.Application, before, limit, offset)
}

// SuppressionsOf lists the entries of an address, the newest first, at most
// store.MaxFound.
func (s *Service) SuppressionsOf(ctx context.Context, a Actor, r Request, applicationID string, address ListedAddress) ([]store.Suppressed, error) {
	snap, err := s.authoriseFor(ctx, a, consent.SuppressionsManage, applicationID, r.Found)
	if err != nil {
		return nil, err
	}
	faults := r.Found
	contact := address.contact(&faults)
	if err := faults.Err(); err != nil {
		return nil, err
	}
	return s.store.SuppressionsOf(ctx, snap.Application, contact)
}

// LiftSuppression ends an entry of the do-not-contact list, which is kept: what citizens
// had answered, and have answered since, is effective again.
func (s *Service) LiftSuppression(ctx context.Context, a Actor, id consent.ID) error {
	if err := a.may(consent.SuppressionsManage); err != nil {
		return err
	}
	return s.store.LiftSuppression(ctx, a.Applications, id, a.recorder())
}
