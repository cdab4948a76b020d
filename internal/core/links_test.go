package core_test

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/internal/core"
	"github.com/opencpm/opencpm/internal/store/storetest"
)

// Links lead to the page that the application names, or else to its first open centre, at
// the host that is its own.
func TestWhereLinksLead(t *testing.T) {
	st := storetest.SQLite(t)
	storetest.Application(t, st, "northwind")
	ctx, s, nowhere := t.Context(), core.New(st, core.Options{BaseURL: "https://consent.example/"}), core.New(st, core.Options{})
	doc, err := s.ExportCatalogue(ctx, "northwind")
	if err != nil {
		t.Fatal(err)
	}
	doc.Templates = []consent.Template{{Reference: "page", Name: "Page"}}
	centre := consent.PreferenceCentre{Reference: "a", Name: "A", Type: consent.ManageCentre, Slug: "a", Template: "page"}
	for _, c := range []struct{ host, manage, want, withoutBase string }{
		{"", "", "https://consent.example/c/a?token=T", ""},
		{"preferences.example", "", "https://preferences.example/?token=T", "https://preferences.example/?token=T"},
		{"preferences.example", "https://shop.example/?t={token}", "https://shop.example/?t=T", "https://shop.example/?t=T"},
	} {
		centre.Host, doc.Application.ManageURL = c.host, c.manage
		doc.PreferenceCentres = []consent.PreferenceCentre{centre}
		for s, want := range map[*core.Service]string{s: c.want, nowhere: c.withoutBase} {
			if _, err := s.ImportCatalogue(ctx, "northwind", doc, core.Import{}); err != nil {
				t.Fatal(err)
			}
			if _, err := s.Centre(ctx, "none"); consent.KindOf(err) != consent.NotFound { // which reads what another has changed
				t.Fatal(err)
			}
			if got := s.ManageLink("northwind", "T"); got != want {
				t.Errorf("%+v: %s, want %s", c, got, want)
			}
		}
	}
}

// The log says why a visitor sees nothing, once in a while and without an address.
func TestTheLogSaysWhyNothingIsShownOrSent(t *testing.T) {
	inTime(t, func(t *testing.T, v *signUps) {
		var log bytes.Buffer
		v.svc = core.New(v.st, core.Options{BaseURL: "https://consent.example", MailServer: true, Log: slog.New(slog.NewTextHandler(&log, nil))})
		for range 2 {
			v.signUp("ada@example.com", "newsletter-email")
		}
		if n := strings.Count(log.String(), "level=INFO msg=\"a mail was not made:"); n != 1 || strings.Contains(log.String(), "ada@") {
			t.Errorf("%d times: %s", n, log.String())
		}
		doc, err := v.svc.ExportCatalogue(t.Context(), "northwind")
		if err != nil {
			t.Fatal(err)
		}
		doc.Application.UnauthenticatedCapture = false
		doc.Templates = append(doc.Templates, consent.Template{Reference: "shop", Name: "Shop"})
		done, err := v.svc.ImportCatalogue(t.Context(), "northwind", doc, core.Import{})
		if err != nil {
			t.Fatal(err)
		}
		id := done.Differences[len(done.Differences)-1].ID
		for _, q := range []core.FormQuery{{TemplateID: id}, {ApplicationID: "northwind", TemplateID: "shop"}, {TemplateID: "shop"}} {
			if _, err := v.svc.PublicForm(t.Context(), q, ""); consent.KindOf(err) != consent.NotFound {
				t.Errorf("%+v: %v", q, err)
			}
		}
		if n := strings.Count(log.String(), "unauthenticatedCapture is off"); n != 1 {
			t.Errorf("%d times: %s", n, log.String())
		}
		doc.Application.UnauthenticatedCapture = true
		if _, err := v.svc.ImportCatalogue(t.Context(), "northwind", doc, core.Import{}); err != nil {
			t.Fatal(err)
		}
		for q, want := range map[core.FormQuery]consent.Kind{
			{TemplateID: id}: 0, {ApplicationID: "northwind", TemplateID: "shop"}: 0, {ApplicationID: "northwind", TemplateID: id}: 0,
			{TemplateID: "shop"}: consent.NotFound, {ApplicationID: "other", TemplateID: id}: consent.NotFound,
		} {
			if _, err := v.svc.PublicForm(t.Context(), q, ""); err != nil && consent.KindOf(err) != want || err == nil && want != 0 {
				t.Errorf("%+v: %v", q, err)
			}
		}
	})
}
