package store_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/internal/store"
	"github.com/opencpm/opencpm/internal/store/storetest"
)

func email(t *testing.T, text string) consent.Email {
	t.Helper()
	e, err := consent.ParseEmail(text)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// found gives the references of the citizens who have an address.
func found(t *testing.T, st *store.Store, application int64, address string) []string {
	t.Helper()
	list, err := st.CitizensByEmail(ctx, application, email(t, address))
	if err != nil {
		t.Fatal(err)
	}
	var refs []string
	for _, c := range list {
		refs = append(refs, c.ExternalRef)
	}
	return refs
}

// The detail and the resource are one address, whichever is written.
func TestOneEmailAddress(t *testing.T) {
	storetest.Both(t, func(t *testing.T, st *store.Store) {
		app := storetest.Application(t, st, "northwind").Application
		other := storetest.Application(t, st, "contoso").Application
		is := func(ref, want string) {
			t.Helper()
			c, err := st.Citizen(ctx, app, consent.CitizenKey{ExternalRef: ref})
			if err != nil || c.Details.Email != want || c.Details.GivenName != "Ada" || c.Details.Telephone != "020 7946 0018" {
				t.Errorf("%s has the details %+v, %v; want the address %q", ref, c.Details, err, want)
			}
			e, err := st.EmailOf(ctx, app, consent.CitizenKey{ExternalRef: ref})
			if none := want == ""; e.String() != want || none != errors.Is(err, store.ErrNoEmail) || !none && err != nil {
				t.Errorf("%s has the address %q, %v; want %q", ref, e, err, want)
			}
		}
		change := func(ref string, edit func(*consent.Details)) {
			t.Helper()
			if _, err := st.ChangeCitizen(ctx, app, consent.CitizenKey{ExternalRef: ref}, "test", func(_ *string, d *consent.Details) error { edit(d); return nil }); err != nil {
				t.Fatal(err)
			}
		}
		ada := consent.Details{GivenName: "Ada", Telephone: "020 7946 0018", Email: "Ada@EXAMPLE.com"}
		c, err := st.CreateCitizen(ctx, app, "A", ada, "test", store.Once{})
		if err != nil || c.Details.Email != "Ada@example.com" {
			t.Fatal(c, err)
		}
		if _, _, err := st.CreateCitizens(ctx, app, []store.NewCitizen{{ExternalRef: "B", Details: ada}}, "test", store.Once{}); err != nil {
			t.Fatal(err)
		}
		if _, err := st.CreateCitizen(ctx, other, "A", ada, "test", store.Once{}); err != nil {
			t.Fatal(err)
		}
		is("A", "Ada@example.com")
		is("B", "Ada@example.com")
		if got := found(t, st, app, "ada@example.COM"); !slices.Equal(got, []string{"A", "B"}) {
			t.Errorf("found %v", got)
		}
		change("B", func(d *consent.Details) { d.FamilyName = "Byron" })
		is("B", "Ada@example.com")
		if err := st.SetEmail(ctx, app, ref("B"), email(t, "b@example.com"), "test"); err != nil {
			t.Fatal(err)
		}
		is("B", "b@example.com")
		change("A", func(d *consent.Details) { d.Email = "" })
		is("A", "")
		if got := found(t, st, app, "ada@example.com"); len(got) != 0 {
			t.Errorf("nobody has it, but %v are found", got)
		}
		change("A", func(d *consent.Details) { d.Email = "B@example.com" })
		if got := found(t, st, app, "b@example.com"); !slices.Equal(got, []string{"A", "B"}) {
			t.Errorf("found %v", got)
		}
		for range 2 {
			if err := st.DeleteEmail(ctx, app, ref("B"), "test"); err != nil {
				t.Fatal(err)
			}
			is("B", "")
		}
		if err := st.EraseCitizen(ctx, app, ref("A"), "test"); err != nil {
			t.Fatal(err)
		}
		if got := found(t, st, app, "b@example.com"); len(got) != 0 {
			t.Errorf("found %v after the erasure", got)
		}
		if got := found(t, st, other, "ada@example.com"); !slices.Equal(got, []string{"A"}) {
			t.Errorf("in the other application %v are found", got)
		}
	})
}

// An address that an earlier release has put among the details stays what it is, and is
// found once it has been moved: by the next write, or in the background.
func TestAddressesOfEarlierReleases(t *testing.T) {
	onBothDatabases(t, func(t *testing.T, d database) {
		st := d.open(t)
		app := storetest.Application(t, st, "northwind").Application
		old := map[string]string{"A": "ada@example.com", "B": "Bob@Example.com", "C": "not an address", "D": "", "E": "ada@example.com"}
		for ref, text := range old {
			if _, err := st.CreateCitizen(ctx, app, ref, consent.Details{GivenName: ref}, "test", store.Once{}); err != nil {
				t.Fatal(err)
			}
			if err := st.PutBackAddress(ctx, app, consent.CitizenKey{ExternalRef: ref}, text); err != nil {
				t.Fatal(err)
			}
		}
		if got := found(t, st, app, "ada@example.com"); len(got) != 0 {
			t.Fatalf("%v are found: this is not what an earlier release leaves", got)
		}
		read := func(ref, want string) {
			t.Helper()
			if c, err := st.Citizen(ctx, app, consent.CitizenKey{ExternalRef: ref}); err != nil || c.Details.Email != want || c.Details.GivenName != ref {
				t.Errorf("%s is read as %+v, %v; want the address %q", ref, c.Details, err, want)
			}
		}
		for ref, text := range old {
			read(ref, text)
		}
		if err := st.DeleteEmail(ctx, app, ref("E"), "test"); err != nil {
			t.Fatal(err)
		}
		read("E", "")
		if err := st.EraseCitizen(ctx, app, ref("D"), "test"); err != nil {
			t.Fatal(err)
		}
		suppress(t, st, app, email(t, "ada@example.com").Contact(), "email")
		suppress(t, st, app, email(t, "bob@example.com").Contact(), "email")
		if err := st.LiftByOwner(ctx, app, ref("B"), "email"); err != nil {
			t.Fatal(err)
		}
		if err := st.MoveAddresses(ctx); err != nil {
			t.Fatal(err)
		}
		read("A", "ada@example.com")
		read("B", "Bob@example.com")
		read("C", "not an address")
		read("E", "")
		if got := found(t, st, app, "ada@example.com"); !slices.Equal(got, []string{"A"}) {
			t.Errorf("found %v", got)
		}
		if got := found(t, st, app, "bob@example.com"); !slices.Equal(got, []string{"B"}) {
			t.Errorf("found %v", got)
		}
		for r, want := range map[string]int{"A": 1, "B": 0, "C": 0, "E": 0} {
			if s, err := st.State(ctx, app, ref(r)); err != nil || len(s.Projection.Suppressed()) != want {
				t.Errorf("%s is suppressed by %v, %v", r, s.Projection.Suppressed(), err)
			}
		}
		var left int
		if err := d.sql(t).QueryRow(`SELECT count(*) FROM citizen_address_backlog`).Scan(&left); err != nil || left != 0 {
			t.Errorf("%d are left to move, %v", left, err)
		}
		if f := check(t, st); len(f) > 0 {
			t.Error(f)
		}
	})
}
