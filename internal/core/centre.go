package core

import (
	"context"
	"slices"

	"github.com/opencpm/opencpm/internal/consent"
)

// CentreView is a preference centre with what its pages need to know of its application.
type CentreView struct {
	consent.PreferenceCentre
	ApplicationID string
	Settings      consent.ApplicationSettings
	Parties       []consent.Party
	TemplateID    string   // of what it asks; empty where it asks nothing
	PolicyRef     string   // of the privacy policy that it shows
	Locales       []string // that it is to be had in, the default one first
}

// Title is the name that stands on the pages.
func (v CentreView) Title() string {
	if v.Brand.Name != "" {
		return v.Brand.Name
	}
	return v.Settings.Name
}

// centres are the preference centres of all applications by their addresses.
type centres struct {
	of     *map[string]*consent.Snapshot // the catalogues that they were read from
	bySlug map[string]CentreView
	byHost map[string]CentreView
}

// Centre finds a preference centre by its slug.
func (s *Service) Centre(ctx context.Context, slug string) (CentreView, error) {
	v, ok := s.addresses().bySlug[slug]
	if !ok {
		if err := s.refresh(ctx); err != nil {
			return CentreView{}, err
		}
		v, ok = s.addresses().bySlug[slug]
	}
	if !ok {
		return CentreView{}, consent.Errorf(consent.NotFound, "There is no such page.")
	}
	return v, nil
}

// CentreOfHost finds the preference centre that has a host name of its own. It looks at
// what is known already, since it is asked of every request.
func (s *Service) CentreOfHost(host string) (CentreView, bool) {
	v, ok := s.addresses().byHost[host]
	return v, ok
}

// FirstCentre gives the first open preference centre of a type that an application has.
func (s *Service) FirstCentre(ctx context.Context, applicationID string, kind consent.CentreType) (CentreView, bool) {
	snap, err := s.snapshot(ctx, applicationID)
	if err != nil || snap == nil {
		return CentreView{}, false
	}
	return firstCentre(snap, kind)
}

// FaceOf gives the preference centre in whose brand an application shows itself where no
// centre was asked for, in mails and on the pages behind their links. Where no application is
// known either, it is that of the only one there is.
func (s *Service) FaceOf(ctx context.Context, applicationID string) (CentreView, bool) {
	snap, err := s.snapshot(ctx, applicationID)
	if all := *s.snapshots.Load(); applicationID == "" && len(all) == 1 {
		for _, only := range all {
			snap = only
		}
	}
	if err != nil || snap == nil {
		return CentreView{}, false
	}
	return faceOf(snap)
}

func faceOf(snap *consent.Snapshot) (CentreView, bool) {
	for _, kind := range consent.CentreTypes {
		if v, ok := firstCentre(snap, kind); ok {
			return v, true
		}
	}
	return CentreView{}, false
}

func firstCentre(snap *consent.Snapshot, kind consent.CentreType) (CentreView, bool) {
	for _, c := range snap.Catalogue.PreferenceCentres {
		if c.Type == kind && !c.Closed {
			return centreView(snap, c), true
		}
	}
	return CentreView{}, false
}

func centreView(snap *consent.Snapshot, c consent.PreferenceCentre) CentreView {
	v := CentreView{PreferenceCentre: c, ApplicationID: snap.ApplicationID, Settings: snap.Catalogue.Application, Parties: snap.Catalogue.Parties, Locales: []string{snap.DefaultLocale()}}
	if t, ok := snap.Template(c.Template); ok {
		v.TemplateID, v.PolicyRef, v.Locales = t.ID, t.PrivacyPolicy, snap.Locales(&t.Template)
		return v
	}
	for _, l := range v.Settings.Locales {
		if !slices.Contains(v.Locales, l) {
			v.Locales = append(v.Locales, l)
		}
	}
	return v
}

// addresses gives the centres of the catalogues that are known now.
func (s *Service) addresses() *centres {
	snapshots := s.snapshots.Load()
	if known := s.centres.Load(); known != nil && known.of == snapshots {
		return known
	}
	all := &centres{snapshots, map[string]CentreView{}, map[string]CentreView{}}
	for _, snap := range *snapshots {
		for _, c := range snap.Catalogue.PreferenceCentres {
			v := centreView(snap, c)
			all.bySlug[c.Slug] = v
			if c.Host != "" {
				all.byHost[c.Host] = v
			}
		}
	}
	s.centres.Store(all)
	return all
}

// ManageCentre gives the open centre to which what is asked for at one leads: itself, if it
// shows and changes, or the one that it names, or the first.
func (s *Service) ManageCentre(ctx context.Context, v CentreView) (CentreView, bool) {
	snap, err := s.snapshot(ctx, v.ApplicationID)
	if err != nil || snap == nil {
		return CentreView{}, false
	}
	return manageCentre(snap, v.Reference)
}

// manageCentre is ManageCentre for a centre by its reference; no centre has the empty one.
func manageCentre(snap *consent.Snapshot, asked string) (CentreView, bool) {
	of := func(reference string) (consent.PreferenceCentre, bool) {
		i := slices.IndexFunc(snap.Catalogue.PreferenceCentres, func(c consent.PreferenceCentre) bool { return c.Reference == reference })
		if i < 0 {
			return consent.PreferenceCentre{}, false
		}
		return snap.Catalogue.PreferenceCentres[i], true
	}
	c, ok := of(asked)
	if ok && c.Type != consent.ManageCentre {
		c, ok = of(c.Manage)
	}
	if ok && !c.Closed {
		return centreView(snap, c), true
	}
	return firstCentre(snap, consent.ManageCentre)
}

// Asks reports whether a link, or a code, can be asked for at a centre: a mail can leave,
// and there is a page to which it leads.
func (s *Service) Asks(ctx context.Context, v CentreView) (bool, error) {
	snap, err := s.snapshot(ctx, v.ApplicationID)
	if err != nil || snap == nil {
		return false, err
	}
	why := ""
	switch leave, err := s.store.MailsLeave(ctx, snap.Application, s.mailer(snap)); {
	case err != nil:
		return false, err
	case !leave:
		why = "no mail can leave: there is no application.sender or no mail server, and no citizen-emails subscription"
	case s.manageURL(snap, v.Reference) == "":
		why = "there is no page to which a link could lead: no preference centre of the type manage is open, and application.manageUrl is not set"
	default:
		return true, nil
	}
	if s.closedTold.Take(v.ApplicationID) == nil {
		s.log.Warn("a page that sends links was asked for, but can send none", "application", v.ApplicationID, "reason", why)
	}
	return false, nil
}
