package core

import (
	"context"
	"slices"

	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/internal/store"
)

// ErrUnauthenticated is the one answer to whoever is not known, or not where they ask.
var ErrUnauthenticated = consent.Errorf(consent.Unauthenticated, "The credential is missing or not valid.")

// authorise gives the catalogue of an application that the actor may use with a
// scope. Too little scope is Forbidden; an application that does not exist and one
// of somebody else are both NotFound, so that its existence does not leak.
func (s *Service) authorise(ctx context.Context, a Actor, scope consent.Scope, applicationID string) (*consent.Snapshot, error) {
	if err := a.may(scope); err != nil {
		return nil, err
	}
	snap, err := s.snapshot(ctx, applicationID)
	if err != nil {
		return nil, err
	}
	if snap == nil || !slices.Contains(a.Applications, snap.Application) {
		return nil, &consent.Error{Kind: consent.NotFound, Message: "There is no such application."}
	}
	return snap, nil
}

// authoriseFor is authorise for a request in which faults were found already. One
// that names no application at all gets those, for there is nothing to check the
// rest against.
func (s *Service) authoriseFor(ctx context.Context, a Actor, scope consent.Scope, applicationID string, found consent.Faults) (*consent.Snapshot, error) {
	if applicationID == "" && a.may(scope) == nil {
		found.Add("applicationId", "must be given")
		return nil, found.Err()
	}
	return s.authorise(ctx, a, scope, applicationID)
}

// authoriseOneself is authoriseFor for what citizens may do as well, each with their own:
// they need not say in which application, nor who they are.
func (s *Service) authoriseOneself(ctx context.Context, a Actor, scope consent.Scope, applicationID string, k *consent.CitizenKey, found consent.Faults) (*consent.Snapshot, error) {
	if a.Citizen.IsZero() {
		return s.authoriseFor(ctx, a, scope, applicationID, found)
	}
	if !k.ID.IsZero() && k.ID != a.Citizen {
		return nil, ErrUnauthenticated
	}
	snap, err := s.applicationOfOneself(ctx, a, scope, a.Citizen)
	if err != nil {
		return nil, err
	}
	if applicationID != "" && applicationID != snap.ApplicationID {
		return nil, ErrUnauthenticated
	}
	if k.ExternalRef != "" {
		if c, err := s.store.Citizen(ctx, snap.Application, consent.CitizenKey{ID: a.Citizen}); err != nil {
			return nil, err
		} else if c.ExternalRef != k.ExternalRef {
			return nil, ErrUnauthenticated
		}
	}
	*k = consent.CitizenKey{ID: a.Citizen}
	return snap, nil
}

func (a Actor) may(scope consent.Scope) error {
	if !a.Citizen.IsZero() {
		return ErrUnauthenticated
	}
	if !slices.Contains(a.Scopes, scope) {
		return consent.Errorf(consent.Forbidden, "The credential lacks the scope %s.", scope)
	}
	return nil
}

// applicationOfCitizen finds the application of a citizen among those of the
// actor; any other citizen does not exist for them.
func (s *Service) applicationOfCitizen(ctx context.Context, a Actor, scope consent.Scope, id consent.ID) (*consent.Snapshot, error) {
	if err := a.may(scope); err != nil {
		return nil, err
	}
	applicationID, err := s.store.ApplicationOfCitizen(ctx, id)
	if err != nil {
		return nil, err
	}
	snap, err := s.authorise(ctx, a, scope, applicationID)
	if consent.KindOf(err) == consent.NotFound {
		err = store.ErrNoCitizen
	}
	return snap, err
}

// applicationOfOneself is applicationOfCitizen for what citizens may do as well, each
// with their own.
func (s *Service) applicationOfOneself(ctx context.Context, a Actor, scope consent.Scope, id consent.ID) (*consent.Snapshot, error) {
	if a.Citizen.IsZero() {
		return s.applicationOfCitizen(ctx, a, scope, id)
	}
	if a.Citizen != id {
		return nil, ErrUnauthenticated
	}
	applicationID, err := s.store.ApplicationOfCitizen(ctx, id)
	if err != nil {
		return nil, err
	}
	return s.snapshot(ctx, applicationID)
}

// ownApplication gives the catalogue of a citizen's application; nobody else has one.
func (s *Service) ownApplication(ctx context.Context, a Actor) (*consent.Snapshot, error) {
	if a.Citizen.IsZero() {
		return nil, ErrUnauthenticated
	}
	return s.applicationOfOneself(ctx, a, "", a.Citizen)
}

var errOrigin = consent.Errorf(consent.Forbidden, "The application does not allow pages of this origin.")

// AllowOrigin refuses what a citizen does from a page of an origin that the application
// does not allow; where it names none, every one may. The empty origin is no page, or one
// of our own.
func (s *Service) AllowOrigin(ctx context.Context, a Actor, origin string) error {
	if a.Citizen.IsZero() || origin == "" {
		return nil
	}
	snap, err := s.applicationOfOneself(ctx, a, "", a.Citizen)
	if err != nil {
		return err
	}
	if allowed := snap.Catalogue.Application.AllowedOrigins; len(allowed) > 0 && !slices.Contains(allowed, origin) {
		return errOrigin
	}
	return nil
}

// capturing gives the application that has a template, by the id of that alone or, within
// the application that is named, by its reference, and that
// takes what strangers send from pages of an origin. Which one it is that it does not
// take anything is not told.
func (s *Service) capturing(ctx context.Context, applicationID, templateID, origin string) (*consent.Snapshot, error) {
	has := func() *consent.Snapshot {
		for _, snap := range *s.snapshots.Load() {
			t, ok := snap.Template(templateID)
			if applicationID == "" {
				ok = ok && t.ID == templateID // a reference is unique within its application alone
			} else {
				ok = ok && snap.ApplicationID == applicationID
			}
			if ok && snap.Catalogue.Application.UnauthenticatedCapture {
				return snap
			}
		}
		return nil
	}
	snap := has()
	if snap == nil {
		if err := s.refresh(ctx); err != nil {
			return nil, err
		}
		snap = has()
	}
	switch {
	case snap == nil:
		s.tellClosed(applicationID, templateID)
		return nil, errNoTemplate
	case !mayCapture(snap, origin):
		return nil, errOrigin
	}
	return snap, nil
}

// tellClosed notes, now and then, that a form was asked for which would be shown if its
// application took sign-ups. Who asked is not told.
func (s *Service) tellClosed(applicationID, templateID string) {
	for _, snap := range *s.snapshots.Load() {
		if t, ok := snap.Template(templateID); ok && (t.ID == templateID || snap.ApplicationID == applicationID) && !snap.Catalogue.Application.UnauthenticatedCapture {
			if s.closedTold.Take(snap.ApplicationID) == nil {
				s.log.Warn("a sign-up form was asked for, but unauthenticatedCapture is off", "application", snap.ApplicationID)
			}
		}
	}
}

// capturingFor gives the application of a capture: the one that is named, or the one that
// has the template.
func (s *Service) capturingFor(ctx context.Context, v Capture) (*consent.Snapshot, error) {
	if v.ApplicationID == "" {
		return s.capturing(ctx, "", v.Form.TemplateID, v.Origin)
	}
	snap, err := s.snapshot(ctx, v.ApplicationID)
	switch {
	case err != nil:
		return nil, err
	case snap == nil || !snap.Catalogue.Application.UnauthenticatedCapture:
		return nil, errNoCapture
	case !mayCapture(snap, v.Origin):
		return nil, errOrigin
	}
	return snap, nil
}

// mayCapture reports whether a page of an origin may send answers to an application. The
// empty one is a page of ours.
func mayCapture(snap *consent.Snapshot, origin string) bool {
	if origin == "" || slices.Contains(snap.Catalogue.Application.AllowedOrigins, origin) {
		return true
	}
	return slices.ContainsFunc(snap.Catalogue.PreferenceCentres, func(c consent.PreferenceCentre) bool { return c.Host != "" && origin == "https://"+c.Host })
}
