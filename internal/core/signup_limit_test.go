package core_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/internal/core"
)

// A stranger who knows an address can neither have its owner sent more mails than a few,
// by choosing other templates and tags, nor fill their history.
func TestAStrangerAsksTooOften(t *testing.T) {
	inTime(t, func(t *testing.T, v *signUps) {
		ada := v.create("CUST-1", "ada@example.com")
		manage, err := v.svc.ExportCatalogue(t.Context(), "northwind")
		if err != nil {
			t.Fatal(err)
		}
		for n := range 5 {
			manage.Templates = append(manage.Templates, consent.Template{Reference: fmt.Sprint("form-", n), Name: "Form", Blocks: []consent.Block{
				{Type: consent.PermissionsBlock, Statement: "statement-01", Options: []consent.BlockOption{{Option: "newsletter-email", Justification: consent.Consent, Label: consent.Localised{"en": "Newsletter", "de": "Newsletter"}}}},
			}})
		}
		if _, err := v.svc.ImportCatalogue(t.Context(), "northwind", manage, core.Import{}); err != nil {
			t.Fatal(err)
		}
		ask := func(address string, form int) {
			t.Helper()
			yes := true
			err := v.svc.Capture(t.Context(), core.Request{}, core.Capture{
				ApplicationID: "northwind", Email: address, Origin: "https://shop.example", Visitor: core.Visitor{Address: fmt.Sprintf("198.51.100.%d", form)},
				Form: consent.Form{TemplateID: fmt.Sprint("form-", form), Blocks: []consent.FormBlock{
					{Type: consent.PermissionsBlock, Options: []consent.FormOption{{OptionType: consent.OptionSingle, OptionID: "newsletter-email", Justification: consent.Consent, Selected: &yes}}},
				}},
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		for range 5 {
			ask("ada@example.com", 0)
		}
		for form := range 5 {
			ask("Ada+shop@example.com", form)
			ask("ada@example.com", form)
		}
		if n := len(v.mails()); n != 5 {
			t.Errorf("%d mails in a day", n)
		}
		if n := len(v.records(ada)); n > 4 {
			t.Errorf("%d records of somebody whom a stranger named 15 times", n)
		}
		list, err := v.st.CitizensByEmail(t.Context(), v.app, "ada+shop@example.com")
		if err != nil || len(list) > 1 {
			t.Fatalf("%d citizens were made, %v", len(list), err)
		}
		time.Sleep(25 * time.Hour)
		ask("ada@example.com", 4)
		if n := len(v.mails()); n != 1 {
			t.Errorf("%d mails a day later", n)
		}
	})
}

// Nobody is created for an address that may be sent no more.
func TestNobodyIsCreatedWithoutAMail(t *testing.T) {
	inTime(t, func(t *testing.T, v *signUps) {
		v.signUp("ada@example.com", "newsletter-email")
		first := v.mail().CitizenID
		if err := v.st.EraseCitizen(t.Context(), v.app, consent.CitizenKey{ID: first}, "test"); err != nil {
			t.Fatal(err)
		}
		v.signUp("ada@example.com", "newsletter-email")
		if list, err := v.st.CitizensByEmail(t.Context(), v.app, "ada@example.com"); err != nil || len(list) != 0 {
			t.Errorf("there are %d citizens, %v", len(list), err)
		}
		time.Sleep(25 * time.Hour)
		v.signUp("ada@example.com", "newsletter-email")
		if m := v.mail(); m.CitizenID == first {
			t.Errorf("a mail to whoever was erased")
		}
	})
}
