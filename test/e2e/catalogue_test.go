package e2e_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"

	"github.com/opencpm/opencpm/test/harness"
)

// export returns the catalogue document of an application as `catalog export` writes it.
func export(t testing.TB, s *harness.Store, app string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "export.yaml")
	s.Do(t, "catalog", "export", "--application", app, file)
	document, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(document)
}

// document reads a catalogue document.
func document(t testing.TB, text string) object {
	t.Helper()
	var o object
	if err := yaml.Unmarshal([]byte(text), &o); err != nil {
		t.Fatalf("catalogue: %v\n%s", err, text)
	}
	return o
}

// write puts text into a file of that name.
func write(t testing.TB, name, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func printed(t testing.TB) string {
	t.Helper()
	text, err := os.ReadFile(northwind)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestCatalogueImportsAsPrintedAndTwiceTheSame(t *testing.T) {
	harness.OnEachStore(t, func(t *testing.T, s *harness.Store) {
		w := start(t, s, northwind)
		once := export(t, s, w.id)
		if missing := notWithin("", document(t, printed(t)), document(t, once)); len(missing) > 0 {
			t.Errorf("the export lacks what was imported:\n%s\n%s", strings.Join(missing, "\n"), once)
		}
		statement := object{"permissionStatementRef": "statement-01", "privacyPolicyRef": "policy-01"}
		w.record(t, "before", change("newsletter-email", "consent", "GRANTED"), statement)

		s.Do(t, "catalog", "import", "--application", w.id, northwind)
		if diff := cmp.Diff(once, export(t, s, w.id)); diff != "" {
			t.Errorf("the second import of the same document changed it (-once +twice):\n%s", diff)
		}
		w.record(t, "after", change("newsletter-email", "consent", "GRANTED"), statement)
		before, after := w.permission(t, "before", "newsletter-email"), w.permission(t, "after", "newsletter-email")
		for _, id := range []string{"permissionStatementId", "privacyPolicyId"} {
			if before[id] == nil || before[id] != after[id] {
				t.Errorf("%s was %v and is %v after the second import", id, before[id], after[id])
			}
		}
	})
}

func TestCatalogueExportsToAnotherInstallation(t *testing.T) {
	harness.OnEachStore(t, func(t *testing.T, s *harness.Store) {
		here := newApplication(t, s, "moved", northwind)
		first := export(t, s, here.id)

		// Elsewhere is an installation of its own, on the other kind of database; the document may come as JSON too.
		elsewhere := map[string]func(*testing.T) *harness.Store{"sqlite": harness.PostgreSQL, "postgres": harness.SQLite}[s.Name](t)
		asJSON, err := json.Marshal(document(t, first))
		if err != nil {
			t.Fatal(err)
		}
		for id, file := range map[string]string{
			"moved":    write(t, "catalogue.yaml", first),
			"moved-js": write(t, "catalogue.json", string(asJSON)),
		} {
			there := newApplication(t, elsewhere, id, file)
			if diff := cmp.Diff(document(t, first), document(t, export(t, elsewhere, there.id))); diff != "" {
				t.Errorf("%s: exported, imported and exported again it differs (-here +there):\n%s", file, diff)
			}
		}
	})
}

func TestCatalogueImportIsAllOrNothing(t *testing.T) {
	harness.OnEachStore(t, func(t *testing.T, s *harness.Store) {
		a := newApplication(t, s, "", northwind)
		before := export(t, s, a.id)
		const newcomer = "  - {id: sms-news, party: northwind, purpose: newsletter, channel: sms, justifications: [{basis: consent}]}\n"
		with := func(options string) string {
			return strings.Replace(printed(t), "optionGroups:", options+"optionGroups:", 1)
		}

		t.Run("refused whole", func(t *testing.T) {
			for name, text := range map[string]string{
				"unknown party":          with(newcomer + strings.NewReplacer("sms-news", "x", "northwind", "nobody").Replace(newcomer)),
				"unknown lawful basis":   with(newcomer + strings.NewReplacer("sms-news", "x", "basis: consent", "basis: because").Replace(newcomer)),
				"bad period":             with(newcomer + strings.NewReplacer("sms-news", "x", "basis: consent", "basis: consent, validFor: soon").Replace(newcomer)),
				"option named twice":     with(newcomer + newcomer),
				"unknown group member":   strings.Replace(with(newcomer), "options: [newsletter-email, research-email]", "options: [nothing]", 1),
				"unknown statement":      strings.Replace(with(newcomer), "statement: statement-01", "statement: statement-99", 1),
				"unknown preference":     strings.Replace(with(newcomer), "preference: interests", "preference: nothing", 1),
				"unknown kind":           strings.Replace(with(newcomer), "kind: single-choice", "kind: no-choice", 1),
				"not a catalogue at all": "- 1\n- 2\n",
				"not YAML":               "{",
			} {
				if out, _, err := s.Try("catalog", "import", "--application", a.id, write(t, "bad.yaml", text)); err == nil {
					t.Errorf("%s: imported: %s", name, out)
				}
				if diff := cmp.Diff(before, export(t, s, a.id)); diff != "" {
					t.Errorf("%s: the refused import changed the catalogue:\n%s", name, diff)
				}
			}
			if _, _, err := s.Try("catalog", "import", "--application", "no-such-application", northwind); err == nil {
				t.Error("imported into an application that does not exist")
			}
		})

		t.Run("dry run", func(t *testing.T) {
			out := s.Do(t, "catalog", "import", "--dry-run", "--application", a.id, write(t, "more.yaml", with(newcomer)))
			if !strings.Contains(out, "sms-news") {
				t.Errorf("the diff does not name the option that would be created: %q", out)
			}
			if diff := cmp.Diff(before, export(t, s, a.id)); diff != "" {
				t.Errorf("the dry run changed the catalogue:\n%s", diff)
			}
		})

		t.Run("archives nothing unless told", func(t *testing.T) {
			s.Do(t, "catalog", "import", "--application", a.id, write(t, "more.yaml", with(newcomer)))
			s.Do(t, "catalog", "import", "--application", a.id, northwind)
			if after := export(t, s, a.id); !strings.Contains(after, "sms-news") {
				t.Errorf("an option that the document does not mention is gone:\n%s", after)
			}
		})
	})
}

// notWithin lists what want says and got does not. Got may say more; it may write a text as one text per language and
// order its lists as it likes.
func notWithin(at string, want, got any) []string {
	switch want := want.(type) {
	case object:
		o, ok := got.(object)
		if !ok {
			return []string{at + " is missing"}
		}
		var missing []string
		for key, v := range want {
			missing = append(missing, notWithin(at+"."+key, v, o[key])...)
		}
		return missing
	case []any:
		list, _ := got.([]any)
		var missing []string
		for _, v := range want {
			if !slices.ContainsFunc(list, func(g any) bool { return len(notWithin("", v, g)) == 0 }) {
				text, _ := json.Marshal(v)
				missing = append(missing, at+" lacks "+string(text))
			}
		}
		return missing
	default:
		if texts, ok := got.(object); ok && slices.Contains([]any{texts["en"]}, want) {
			return nil
		}
		if got != want {
			return []string{at + " differs"}
		}
		return nil
	}
}
