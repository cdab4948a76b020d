package core_test

import (
	"crypto/sha256"
	"sync"
	"testing"

	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/internal/core"
	"github.com/opencpm/opencpm/internal/store/storetest"
)

// once captures with an idempotency key; body stands for what was sent.
func (v *signUps) once(key, body string, c core.Capture) error {
	v.t.Helper()
	digest := sha256.Sum256([]byte(body))
	c.Visitor, c.Changes = visitor, []consent.Change{{OptionID: "newsletter-email", Justification: consent.Consent, State: consent.Granted}}
	c.Answers = []consent.Answer{{Preference: "interests", Choices: []consent.Chosen{{Reference: "jazz"}}}}
	err := v.svc.Capture(v.t.Context(), core.Request{IdempotencyKey: key, Digest: digest[:]}, c)
	return err
}

// What is captured twice with one key happens once, by whatever it says who it is; another
// body with the key changes nothing, and other applications and origins have keys of their
// own.
func TestACaptureHappensOnce(t *testing.T) {
	onBoth(t, func(t *testing.T, v *signUps) {
		storetest.Application(t, v.st, "other")
		doc, err := v.svc.ExportCatalogue(t.Context(), "northwind")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := v.svc.ImportCatalogue(t.Context(), "other", doc, core.Import{}); err != nil {
			t.Fatal(err)
		}
		known := v.create("CUST-1", "known@example.com")
		count := func(application string, id consent.ID) (records, parked int) {
			t.Helper()
			_, total, err := v.svc.Captures(t.Context(), v.actor, application, 0, 10, 0)
			if err != nil {
				t.Fatal(err)
			}
			return len(v.records(id)), int(total)
		}
		do := func(key, body string, c core.Capture) {
			t.Helper()
			if err := v.once(key, body, c); err != nil {
				t.Fatal(err)
			}
		}
		refused := func(key, body string, c core.Capture) {
			t.Helper()
			if err := v.once(key, body, c); consent.KindOf(err) != consent.Invalid {
				t.Errorf("another body with the key %s: %v", key, err)
			}
		}
		byRef := core.Capture{ApplicationID: "northwind", Reference: "NEW-1"}
		for range 3 {
			do("k1", "a", byRef)
		}
		if records, parked := count("northwind", v.called("NEW-1")); records != 2 || parked != 0 {
			t.Errorf("of somebody new: %d records, %d wait", records, parked)
		}
		refused("k1", "b", byRef)
		refused("k1", "b", core.Capture{ApplicationID: "northwind", Reference: "NEW-2"})
		refused("k1", "b", core.Capture{ApplicationID: "northwind", Email: "new@example.com"})
		if !v.called("NEW-2").IsZero() || !v.who("new@example.com").IsZero() {
			t.Error("a refused capture created somebody")
		}

		waits := core.Capture{ApplicationID: "northwind", Reference: "CUST-1"}
		do("k2", "a", waits)
		do("k2", "a", waits)
		if records, parked := count("northwind", known); records != 0 || parked != 1 {
			t.Errorf("of somebody known: %d records, %d wait", records, parked)
		}

		for _, address := range []string{"known@example.com", "new@example.com"} {
			byMail := core.Capture{ApplicationID: "northwind", Email: address}
			var all sync.WaitGroup
			for range 4 {
				all.Go(func() {
					if err := v.once(address, "a", byMail); err != nil {
						t.Error(err)
					}
				})
			}
			all.Wait()
			if records, mails := len(v.records(v.who(address))), len(v.mails()); records != 1 || mails != 1 {
				t.Errorf("%s: %d records, %d mails", address, records, mails)
			}
			refused(address, "b", byMail)
			refused(address, "b", core.Capture{ApplicationID: "northwind", Email: "third@example.com"})
		}
		if !v.who("third@example.com").IsZero() {
			t.Error("a refused capture created somebody")
		}

		byRef.Reference, byRef.Origin = "NEW-3", "https://shop.example"
		do("k1", "b", byRef)
		if v.called("NEW-3").IsZero() {
			t.Error("another origin has the keys of ours")
		}
		do("k1", "c", core.Capture{ApplicationID: "other", Reference: "NEW-1"})
		v.unharmed()
	})
}
