package core_test

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/internal/core"
)

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
