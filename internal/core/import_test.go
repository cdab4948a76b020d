package core_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/internal/core"
	"github.com/opencpm/opencpm/internal/store"
	"github.com/opencpm/opencpm/internal/store/storetest"
)

// An item that a document names becomes what it says; the import names what goes by that,
// and by which id a template is known.
func TestImportsNameFieldsAndIDs(t *testing.T) {
	storetest.Both(t, func(t *testing.T, st *store.Store) {
		storetest.Application(t, st, "northwind")
		ctx, s := t.Context(), core.New(st, core.Options{})
		put := func(doc consent.Catalogue, how core.Import) core.Imported {
			t.Helper()
			done, err := s.ImportCatalogue(ctx, "northwind", doc, how)
			if err != nil {
				t.Fatal(err)
			}
			return done
		}
		doc, err := s.ExportCatalogue(ctx, "northwind")
		if err != nil {
			t.Fatal(err)
		}
		doc.Application.ManageURL, doc.Application.ConfirmWithin = "https://shop.example/?t={token}", "P1D"
		doc.Templates = append(doc.Templates, consent.Template{Reference: "late", Name: "Late"})
		done := put(doc, core.Import{})
		template := done.Differences[1]
		if snap, err := st.CatalogueItems(ctx, 1, consent.KindTemplate); err != nil || template.ID != snap[len(snap)-1].ID || template.ID == template.Key {
			t.Errorf("%v: the template is %+v", err, template)
		}
		doc.Application.ManageURL, doc.Application.ConfirmWithin, doc.Templates[len(doc.Templates)-1].Name = "", "P2D", "Later"
		want := []core.Difference{
			{Action: "change", Kind: consent.KindApplication, Set: []string{"confirmWithin"}, Cleared: []string{"manageUrl"}},
			{Action: "change", Kind: consent.KindTemplate, Key: "late", ID: template.ID, Set: []string{"name"}},
		}
		for _, how := range []core.Import{{DryRun: true}, {}} {
			if diff := cmp.Diff(want, put(doc, how).Differences); diff != "" {
				t.Errorf("%+v (-want +got):\n%s", how, diff)
			}
		}
	})
}

// A dry run refuses what the import would: the address of another application's page.
func TestADryRunSeesTheCentresOfOthers(t *testing.T) {
	storetest.Both(t, func(t *testing.T, st *store.Store) {
		ctx, s := t.Context(), core.New(st, core.Options{})
		for _, id := range []string{"northwind", "globex"} {
			storetest.Application(t, st, id)
		}
		put := func(application string, c consent.PreferenceCentre, how core.Import) error {
			t.Helper()
			doc, err := s.ExportCatalogue(ctx, application)
			if err != nil {
				t.Fatal(err)
			}
			c.Reference, c.Name, c.Type, c.Closed = "page", "Page", consent.LinkCentre, true
			doc.PreferenceCentres = []consent.PreferenceCentre{c}
			_, err = s.ImportCatalogue(ctx, application, doc, how)
			return err
		}
		if err := put("northwind", consent.PreferenceCentre{Slug: "ours", Host: "ours.example"}, core.Import{}); err != nil {
			t.Fatal(err)
		}
		for name, c := range map[string]consent.PreferenceCentre{"slug": {Slug: "ours"}, "host": {Slug: "theirs", Host: "ours.example"}} {
			dry, real := put("globex", c, core.Import{DryRun: true}), put("globex", c, core.Import{})
			if consent.KindOf(dry) != consent.Conflict || real == nil || dry.Error() != real.Error() {
				t.Errorf("%s: dry %v, real %v", name, dry, real)
			}
		}
		if err := put("northwind", consent.PreferenceCentre{Slug: "ours"}, core.Import{DryRun: true}); err != nil {
			t.Errorf("its own: %v", err)
		}
	})
}

// Preference centres that visitors will find closed are warned of, and imported.
func TestImportsWarnOfClosedCentres(t *testing.T) {
	storetest.Both(t, func(t *testing.T, st *store.Store) {
		snap := storetest.Application(t, st, "northwind")
		ctx, s, withMail := t.Context(), core.New(st, core.Options{}), core.New(st, core.Options{MailServer: true})
		doc, err := s.ExportCatalogue(ctx, "northwind")
		if err != nil {
			t.Fatal(err)
		}
		const template = "page"
		doc.Templates = append(doc.Templates, consent.Template{Reference: template, Name: "Page"})
		doc.PreferenceCentres = []consent.PreferenceCentre{
			{Reference: "a", Name: "A", Type: consent.ManageCentre, Slug: "a", Template: template},
			{Reference: "b", Name: "B", Type: consent.SignUpCentre, Slug: "b", Template: template},
			{Reference: "c", Name: "C", Type: consent.LinkCentre, Slug: "c"},
			{Reference: "d", Name: "D", Type: consent.LinkCentre, Slug: "d", Closed: true},
		}
		const (
			noMail  = "no mail can leave without application.sender and a mail server, or a citizen-emails subscription"
			closed  = "preferenceCentres[2] is closed to visitors: " + noMail
			capture = "preferenceCentres[1] is closed to visitors: application.unauthenticatedCapture is off"
		)
		warns := func(when string, done core.Imported, err error, want ...string) {
			t.Helper()
			var got []string
			for _, w := range done.Warnings {
				got = append(got, w.Location+" "+w.Message)
			}
			if diff := cmp.Diff(want, got); err != nil || diff != "" {
				t.Errorf("%s: %v (-want +got):\n%s", when, err, diff)
			}
		}
		put := func(s *core.Service) (core.Imported, error) {
			return s.PutConfiguration(ctx, editor(snap), "northwind", doc, core.Import{})
		}
		for _, how := range []core.Import{{DryRun: true}, {}} {
			done, err := s.ImportCatalogue(ctx, "northwind", doc, how)
			warns("as it is", done, err, capture, closed)
		}
		doc.Application.UnauthenticatedCapture = true
		done, err := put(withMail)
		warns("without a sender", done, err, "preferenceCentres[1] takes sign-ups that nobody can confirm: "+noMail, closed)
		doc.Application.Sender = &consent.Sender{Name: "N", Address: "n@example.com"}
		done, err = put(withMail)
		warns("with one", done, err)
		done, err = put(s)
		warns("on a server without a mail server", done, err, "preferenceCentres[1] takes sign-ups that nobody can confirm: "+noMail, closed)
		done, err = s.ImportCatalogue(ctx, "northwind", doc, core.Import{})
		warns("by the command line, which knows of none", done, err)
	})
}
