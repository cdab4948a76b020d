package api

import (
	"strings"
	"testing"

	"github.com/opencpm/opencpm/internal/consent"
)

// The page names what was permitted in words, its id besides, and says a wording in the
// language in which it was shown, or each in its own where that is not known.
func TestEvidenceForPeople(t *testing.T) {
	statement := &shownStatement{ShownDocument{ID: "ps_1", Reference: "marketing", Revision: 2}, map[string]string{"en": "We may write to you.", "ar": "يجوز لنا أن نكتب إليك."}}
	record := func(service consent.Text, purpose, channel consent.Text, shown documents) consentRecord {
		return consentRecord{
			PIIProcessing: piiProcessing{OptionID: "events-email", Service: service, Purposes: []recordPurpose{{Purpose: purpose, ProcessingMethod: channel}}},
			Events:        []consentEvent{{EventState: "given", EventTime: 1, RecordedAt: 1, Shown: shown}},
		}
	}
	for name, c := range map[string]struct {
		record consentRecord
		says   []string
		not    string
	}{
		"a name of its own":     {record("Invitations", "Store events", "Email", documents{}), []string{`<h2>Invitations <small class="mono">events-email</small></h2>`}, "<blockquote>"},
		"its purpose":           {record("", "Store events", "Email", documents{}), []string{`<h2>Store events: Email <small class="mono">events-email</small></h2>`}, "<blockquote>"},
		"it was archived":       {record("", "", "", documents{}), []string{`<h2><small class="mono">events-email</small></h2>`}, "<blockquote>"},
		"shown in a language":   {record("", "Store events", "Email", documents{PermissionStatement: statement, Template: &shownTemplate{Locale: "ar"}}), []string{`<blockquote><p lang="ar" dir="auto">يجوز لنا أن نكتب إليك.</p></blockquote>`}, "We may write"},
		"shown in whichever":    {record("", "Store events", "Email", documents{PermissionStatement: statement}), []string{`<p lang="ar" dir="auto">يجوز`, `<p lang="en" dir="auto">We may write to you.</p>`}, "en: "},
		"shown in none of them": {record("", "Store events", "Email", documents{PermissionStatement: statement, Template: &shownTemplate{Locale: "fr"}}), []string{`<p lang="en" dir="auto">We may write to you.</p>`}, `lang="fr"`},
	} {
		var page strings.Builder
		if err := writeHTML(&page, evidence{Records: []consentRecord{c.record}}); err != nil {
			t.Fatal(err)
		}
		for _, text := range c.says {
			if !strings.Contains(page.String(), text) {
				t.Errorf("%s: the page does not say %s", name, text)
			}
		}
		if strings.Contains(page.String(), c.not) {
			t.Errorf("%s: the page says %s", name, c.not)
		}
	}
}
