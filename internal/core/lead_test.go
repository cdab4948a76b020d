package core

import (
	"testing"

	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/internal/store/storetest"
)

// Links lead to the page that the application names, or else to its first open centre, at
// the host that is its own.
func TestWhereLinksLead(t *testing.T) {
	st := storetest.SQLite(t)
	storetest.Application(t, st, "northwind")
	ctx, s, nowhere := t.Context(), New(st, Options{BaseURL: "https://consent.example/"}), New(st, Options{})
	doc, err := s.ExportCatalogue(ctx, "northwind")
	if err != nil {
		t.Fatal(err)
	}
	doc.Templates = []consent.Template{{Reference: "page", Name: "Page"}}
	centre := consent.PreferenceCentre{Reference: "a", Name: "A", Type: consent.ManageCentre, Slug: "a", Template: "page"}
	for _, c := range []struct{ host, manage, want, withoutBase string }{
		{"", "", "https://consent.example/c/a?token={token}", ""},
		{"preferences.example", "", "https://preferences.example/?token={token}", "https://preferences.example/?token={token}"},
		{"preferences.example", "https://shop.example/?t={token}", "https://shop.example/?t={token}", "https://shop.example/?t={token}"},
	} {
		centre.Host, doc.Application.ManageURL = c.host, c.manage
		doc.PreferenceCentres = []consent.PreferenceCentre{centre}
		for s, want := range map[*Service]string{s: c.want, nowhere: c.withoutBase} {
			if _, err := s.ImportCatalogue(ctx, "northwind", doc, Import{}); err != nil {
				t.Fatal(err)
			}
			if _, err := s.Centre(ctx, "none"); consent.KindOf(err) != consent.NotFound { // which reads what another has changed
				t.Fatal(err)
			}
			snap, err := s.snapshot(ctx, "northwind")
			if err != nil {
				t.Fatal(err)
			}
			if got := s.manageURL(snap, ""); got != want {
				t.Errorf("%+v: %s, want %s", c, got, want)
			}
		}
	}
}

// What is asked for at a centre leads to that which it names, while that is open.
func TestWhereACentreLeads(t *testing.T) {
	st := storetest.SQLite(t)
	storetest.Application(t, st, "northwind")
	ctx, s := t.Context(), New(st, Options{BaseURL: "https://consent.example"})
	doc, err := s.ExportCatalogue(ctx, "northwind")
	if err != nil {
		t.Fatal(err)
	}
	doc.Templates = []consent.Template{{Reference: "page", Name: "Page"}}
	for _, name := range []string{"first", "second", "shut"} {
		doc.PreferenceCentres = append(doc.PreferenceCentres, consent.PreferenceCentre{Reference: name, Name: name, Type: consent.ManageCentre, Slug: name, Template: "page", Closed: name == "shut"})
	}
	for _, name := range []string{"second", "shut"} {
		doc.PreferenceCentres = append(doc.PreferenceCentres, consent.PreferenceCentre{Reference: "ask-" + name, Name: name, Type: consent.LinkCentre, Slug: "ask-" + name, Manage: name})
	}
	if _, err := s.ImportCatalogue(ctx, "northwind", doc, Import{}); err != nil {
		t.Fatal(err)
	}
	snap, err := s.snapshot(ctx, "northwind")
	if err != nil {
		t.Fatal(err)
	}
	for asked, slug := range map[string]string{"": "first", "first": "first", "second": "second", "shut": "first", "ask-second": "second", "ask-shut": "first", "nothing": "first"} {
		if got := s.manageURL(snap, asked); got != "https://consent.example/c/"+slug+"?token={token}" {
			t.Errorf("what is asked for at %q leads to %s", asked, got)
		}
	}
}
