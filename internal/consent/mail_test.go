package consent_test

import (
	"flag"
	"os"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/go-cmp/cmp"

	"github.com/opencpm/opencpm/internal/consent"
)

var update = flag.Bool("update", false, "write the messages in testdata anew")

var mailMade = consent.At(time.Date(2026, 11, 22, 9, 30, 0, 0, time.UTC))

// The published body, key by key; and one of which nothing is known but what must be.
func TestCitizenEmailAsPublished(t *testing.T) {
	id := func(text string) consent.ID {
		v, err := consent.ParseID(text)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	full := consent.SampleMail("northwind", id("01995c44-0a1b-7c2d-9e3f-4a5b6c7d8e9f"), mailMade)
	full.EventType, full.CitizenID, full.ChangedBy = consent.CitizenMail, id("01995c3f-2a4b-7e66-b1c2-d3e4f5a6b7c8"), "01995c3e-7f1d-7d4c-8a1b-6f5e4d3c2b1a"
	full.Template.ID = "01995c3d-1a2b-7c3d-8e4f-5a6b7c8d9e0f"
	bare := consent.CitizenEmail{
		ApplicationID: "northwind", EventType: consent.CitizenMail, Version: consent.CitizenEmailVersion, Kind: consent.PreferenceLinkEmail,
		Recipient: consent.EmailAddress{Address: "ada@example.com"}, Locale: "en", Purposes: []consent.EmailPurpose{}, Headers: map[string]string{},
	}
	for name, m := range map[string]consent.CitizenEmail{"citizen-email": full, "citizen-email-bare": bare} {
		got, err := json.Marshal(&m, json.Deterministic(true), jsontext.WithIndent("  "))
		if err != nil {
			t.Fatal(err)
		}
		path := "testdata/" + name + ".json"
		if *update {
			if err := os.WriteFile(path, append(got, '\n'), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), string(got)+"\n"); diff != "" {
			t.Errorf("%s (-want +got); a field that is gone or means something else is a new version:\n%s", name, diff)
		}
	}
}

func TestCitizenEmailExpires(t *testing.T) {
	m := consent.SampleMail("northwind", consent.ID{}, mailMade)
	end := consent.Instant(m.Action.ExpiresAt)
	if m.Expired(end-1) || !m.Expired(end) {
		t.Error("the link does not end when it says")
	}
	m.Action.ExpiresAt = 0
	if m.Expired(end) {
		t.Error("a link without an end has ended")
	}
	m.Action = nil
	if m.Expired(end) {
		t.Error("a mail without a link has expired")
	}
}
