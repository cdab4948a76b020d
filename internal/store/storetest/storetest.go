// Package storetest opens throwaway stores for tests and holds the conformance
// suite, which every database passes.
package storetest

import (
	"context"
	"testing"

	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/internal/seal"
	"github.com/opencpm/opencpm/internal/store"
)

// Keys makes a key ring for one test.
func Keys(tb testing.TB) *seal.Keyring {
	tb.Helper()
	keys, err := seal.ParseKeyring(seal.NewKeyFile("test"))
	if err != nil {
		tb.Fatal(err)
	}
	return keys
}

// SQLite opens an empty store in a directory of the test. It is closed at the end
// of the test.
func SQLite(tb testing.TB) *store.Store {
	tb.Helper()
	return Open(tb, store.Options{Dir: tb.TempDir(), Keys: Keys(tb)})
}

// PostgreSQL opens an empty store in a database of the test. It is closed at the
// end of the test.
func PostgreSQL(tb testing.TB) *store.Store {
	tb.Helper()
	return Open(tb, store.Options{DatabaseURL: Postgres(tb), Keys: Keys(tb)})
}

// Open opens a store for the test.
func Open(tb testing.TB, o store.Options) *store.Store {
	tb.Helper()
	st, err := store.Open(context.Background(), o)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := st.Close(); err != nil {
			tb.Error(err)
		}
	})
	return st
}

// Both runs a test on each of the two databases.
func Both(t *testing.T, test func(t *testing.T, st *store.Store)) {
	t.Run("SQLite", func(t *testing.T) { t.Parallel(); test(t, SQLite(t)) })
	t.Run("PostgreSQL", func(t *testing.T) { t.Parallel(); test(t, PostgreSQL(t)) })
}

// Catalogue is a small catalogue for tests: options on consent and on legitimate
// interest, a group of both, a policy and a statement.
const Catalogue = `
application: {name: Northwind Retail, defaultLocale: en, locales: [en, de]}
parties:  [{id: northwind, name: Northwind Retail Ltd}]
purposes: [{id: newsletter, name: Newsletter, directMarketing: true}, {id: research, name: Customer research}]
channels: [{id: email, name: E-mail}, {id: sms, name: SMS}]
options:
  - {id: newsletter-email, party: northwind, purpose: newsletter, channel: email, justifications: [{basis: consent, validFor: P2Y}]}
  - {id: newsletter-sms, party: northwind, purpose: newsletter, channel: sms, justifications: [{basis: consent}]}
  - {id: research-email, party: northwind, purpose: research, channel: email, justifications: [{basis: legitimate-interest}, {basis: consent}]}
optionGroups: [{id: all-email, name: Everything by e-mail, options: [newsletter-email, research-email]}]
preferences:
  - {reference: interests, kind: multi-choice, label: {en: Interests, de: Interessen}, choices: [{reference: jazz, label: {en: Jazz}}, {reference: rock, label: {en: Rock}}]}
  - {reference: frequency, kind: single-choice, label: How often, choices: [{reference: weekly, label: Weekly}, {reference: monthly, label: Monthly}]}
privacyPolicies: [{reference: policy-01, name: Privacy policy, versions: [{version: "1", url: "https://example.com/privacy"}]}]
permissionStatements: [{reference: statement-01, text: {en: "We may write to you.", de: "Wir dürfen Ihnen schreiben."}}]
`

// Application creates an application with Catalogue in it.
func Application(tb testing.TB, st *store.Store, id string) *consent.Snapshot {
	tb.Helper()
	ctx := context.Background()
	a, err := st.CreateApplication(ctx, id, consent.ApplicationSettings{Name: id}, "test")
	if err != nil {
		tb.Fatal(err)
	}
	doc, err := consent.ParseCatalogue([]byte(Catalogue))
	if err != nil {
		tb.Fatal(err)
	}
	if err := doc.Check(); err != nil {
		tb.Fatal(err)
	}
	items, err := doc.Items()
	if err != nil {
		tb.Fatal(err)
	}
	var changes []consent.Revision
	for i, it := range items {
		changes = append(changes, consent.Revision{Item: it, Position: i})
	}
	if _, err := st.ChangeCatalogue(ctx, a, changes, "test", store.Once{}); err != nil {
		tb.Fatal(err)
	}
	a.Revision++
	snap, err := st.Snapshot(ctx, a)
	if err != nil {
		tb.Fatal(err)
	}
	return snap
}

// Transaction makes a transaction of one change of one option.
func Transaction(option string, basis consent.Justification, state consent.State) consent.Transaction {
	return consent.Transaction{
		Evidence: consent.Evidence{ID: store.NewID(), Client: consent.Recorder{ID: "test", Name: "Test"}},
		Changes:  []consent.Change{{OptionType: consent.OptionSingle, OptionID: option, Justification: basis, State: state}},
	}
}
