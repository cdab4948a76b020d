package store_test

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/internal/seal"
	"github.com/opencpm/opencpm/internal/store"
	"github.com/opencpm/opencpm/internal/store/storetest"
)

// asking is an application whose citizens ask for links and codes, and the mails that are
// made of it.
type asking struct {
	t   *testing.T
	st  *store.Store
	app int64
	// mails are the grounds of the mails that were made, the newest last.
	mails []store.MailGrounds
}

func newAsking(t *testing.T, st *store.Store) *asking {
	t.Helper()
	return &asking{t: t, st: st, app: storetest.Application(t, st, "northwind").Application}
}

// citizen creates somebody with an address.
func (v *asking) citizen(ref, address string) consent.ID {
	v.t.Helper()
	c, err := v.st.CreateCitizen(v.t.Context(), v.app, ref, consent.Details{Email: address}, "test", store.Once{})
	if err != nil {
		v.t.Fatal(err)
	}
	return c.ID
}

// ask keeps a request, for a code by a form where asker is its number.
func (v *asking) ask(address, asker string) {
	v.t.Helper()
	if err := v.st.KeepLinkRequest(v.t.Context(), store.LinkRequest{Address: email(v.t, address), Locale: "en", Code: asker != "", Asker: asker, Application: v.app}); err != nil {
		v.t.Fatal(err)
	}
}

// answer answers what waits for those who have the address, and gives the number of mails
// that were made.
func (v *asking) answer() int {
	v.t.Helper()
	list, err := v.st.NextLinkRequests(v.t.Context(), 0, 100)
	if err != nil {
		v.t.Fatal(err)
	}
	mailer := store.Mailer{SMTP: true, Compose: func(g store.MailGrounds) (consent.CitizenEmail, error) {
		v.mails = append(v.mails, g)
		return consent.CitizenEmail{EventID: g.ID}, nil
	}}
	before := len(v.mails)
	for _, q := range list {
		ids, err := v.st.HoldersOf(v.t.Context(), v.app, q.Address, 3)
		if err != nil {
			v.t.Fatal(err)
		}
		if err := v.st.AnswerLinkRequest(v.t.Context(), q, mailer, ids); err != nil {
			v.t.Fatal(err)
		}
	}
	if list, err = v.st.NextLinkRequests(v.t.Context(), 0, 100); err != nil || len(list) != 0 {
		v.t.Fatalf("%d requests are left: %v", len(list), err)
	}
	return len(v.mails) - before
}

// newest gives the mail that was made last.
func (v *asking) newest() store.MailGrounds { return v.mails[len(v.mails)-1] }

// redeem tries a code by a form.
func (v *asking) redeem(address, asker, code string) bool {
	v.t.Helper()
	_, good, err := v.st.RedeemCode(v.t.Context(), v.app, email(v.t, address), asker, code, instant())
	if err != nil {
		v.t.Fatal(err)
	}
	return good
}

// wrongCode is a code of six digits that is another one.
func wrongCode(code string) string {
	n, _ := strconv.Atoi(code)
	return strconv.Itoa(1_000_000 + (n+1)%1_000_000)[1:]
}

// A request is answered once, by one mail for each citizen with the address, and one a
// minute to an address; a code opens the page once, and not after five wrong ones.
func TestLinkRequests(t *testing.T) {
	storetest.Both(t, func(t *testing.T, st *store.Store) {
		v := newAsking(t, st)
		v.citizen("CUST-1", "ada@example.com")
		v.citizen("CUST-2", "bob@example.com")
		v.citizen("CUST-3", "bob@example.com")
		v.citizen("CUST-4", "cleo@example.com")
		for _, q := range []struct {
			address, asker string
			mails          int
		}{{"bob@example.com", "", 2}, {"bob@example.com", "", 0}, {"eve@example.com", "", 0}, {"mal@example.com", "form", 0}, {"ada@example.com", "form", 1}} {
			v.ask(q.address, q.asker)
			if n := v.answer(); n != q.mails {
				t.Errorf("%d mails to %s, not %d", n, q.address, q.mails)
			}
		}
		code := v.newest().Code
		switch {
		case v.redeem("ada@example.com", "form", wrongCode(code)):
			t.Error("a wrong code is taken")
		case v.redeem("bob@example.com", "form", code):
			t.Error("the code of another is taken")
		case v.redeem("ada@example.com", "", code), v.redeem("ada@example.com", "another", code):
			t.Error("the code is taken from another form")
		case !v.redeem("ada@example.com", "form", code):
			t.Error("the code is not taken")
		case v.redeem("ada@example.com", "form", code):
			t.Error("the code is taken twice")
		}
		v.ask("cleo@example.com", "form")
		v.answer()
		code = v.newest().Code
		for range 5 {
			v.redeem("cleo@example.com", "form", wrongCode(code))
		}
		if v.redeem("cleo@example.com", "form", code) {
			t.Error("the code is taken after five wrong ones")
		}
	})
}

// A wrong code is counted for whoever asked for one, whether anybody has the address or
// not: there is as much to write, and to commit. What others try is counted nowhere.
func TestAWrongCodeIsCountedOfAnyAddress(t *testing.T) {
	storetest.Both(t, func(t *testing.T, st *store.Store) {
		v := newAsking(t, st)
		v.citizen("CUST-1", "ada@example.com")
		for _, address := range []string{"ada@example.com", "nobody@example.com"} {
			v.ask(address, "form")
			v.answer()
			for tries := range int64(7) {
				if n, err := st.CodeTries(t.Context(), v.app, email(t, address), "form"); err != nil || n != min(tries, 5) {
					t.Errorf("%d tries are counted of %s, not %d: %v", n, address, min(tries, 5), err)
				}
				if v.redeem(address, "form", "wrong!") || v.redeem(address, "another", "wrong!") {
					t.Errorf("a wrong code is taken for %s", address)
				}
			}
		}
	})
}

// After a hundred wrong codes, whoever's they are, none of the application is good until
// the hour is over.
func TestAnApplicationBearsSoManyWrongCodes(t *testing.T) {
	inFakeTime(t, func(t *testing.T, st *store.Store) {
		v := newAsking(t, st)
		v.citizen("CUST-1", "ada@example.com")
		takes := func(want bool) {
			t.Helper()
			if takes, err := st.TakesCodes(t.Context(), v.app); err != nil || takes != want {
				t.Errorf("codes are taken: %v, %v", takes, err)
			}
		}
		for n := range 20 {
			address := fmt.Sprintf("stranger-%d@example.com", n)
			takes(true)
			v.ask(address, "form")
			v.answer()
			for range 6 {
				v.redeem(address, "form", "wrong!")
			}
		}
		takes(false)
		v.ask("ada@example.com", "form")
		v.answer()
		if v.redeem("ada@example.com", "form", v.newest().Code) {
			t.Error("a code is taken after a hundred wrong ones")
		}
		time.Sleep(time.Hour)
		takes(true)
		v.ask("ada@example.com", "form")
		v.answer()
		if !v.redeem("ada@example.com", "form", v.newest().Code) {
			t.Error("the code is not taken an hour later")
		}
	})
}

// inFakeTime runs a test on SQLite in a time that passes at once.
func inFakeTime(t *testing.T, test func(t *testing.T, st *store.Store)) {
	t.Helper()
	dir, keys := t.TempDir(), storetest.Keys(t)
	synctest.Test(t, func(t *testing.T) {
		st, err := store.Open(t.Context(), store.Options{Dir: dir, Keys: keys})
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := st.Close(); err != nil {
				t.Error(err)
			}
		}()
		test(t, st)
	})
}

// A request that nobody answers is forgotten after an hour, and is not answered then.
func TestLinkRequestsAreForgotten(t *testing.T) {
	inFakeTime(t, func(t *testing.T, st *store.Store) {
		v := newAsking(t, st)
		v.citizen("CUST-1", "ada@example.com")
		forgotten := func(want int64) {
			t.Helper()
			if err := st.ForgetMails(t.Context()); err != nil {
				t.Fatal(err)
			}
			if n, err := st.CountLinkRequests(t.Context()); err != nil || n != want {
				t.Errorf("%d requests are kept, not %d: %v", n, want, err)
			}
		}
		v.ask("ada@example.com", "")
		time.Sleep(59 * time.Minute)
		forgotten(1)
		time.Sleep(time.Minute)
		if n := v.answer(); n != 0 {
			t.Errorf("%d mails after an hour", n)
		}
		forgotten(0)
		v.ask("ada@example.com", "")
		if n := v.answer(); n != 1 {
			t.Errorf("%d mails at once", n)
		}
		v.ask("nobody@example.com", "")
		list, err := st.NextLinkRequests(t.Context(), 0, 100)
		if err != nil || len(list) != 1 {
			t.Fatalf("%d requests wait: %v", len(list), err)
		}
		if err := st.DropLinkRequest(t.Context(), list[0]); err != nil {
			t.Fatal(err)
		}
		forgotten(0)
	})
}

// A request for a link that cannot be opened is given as such, among the others.
func TestADamagedLinkRequestIsGivenAlone(t *testing.T) {
	onBothDatabases(t, func(t *testing.T, d database) {
		st := d.open(t)
		app := storetest.Application(t, st, "northwind").Application
		for _, address := range []consent.Email{"damaged@example.com", "ada@example.com", "bob@example.com"} {
			if err := st.KeepLinkRequest(ctx, store.LinkRequest{Address: address, Centre: "link", Locale: "de", Code: true, Application: app}); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := d.sql(t).Exec(`UPDATE link_request SET sealed = $1 WHERE id = (SELECT min(id) FROM link_request)`, []byte("damaged")); err != nil {
			t.Fatal(err)
		}
		var list []store.LinkRequest
		for after := int64(0); ; after = list[len(list)-1].Number {
			part, err := st.NextLinkRequests(ctx, after, 2)
			if err != nil {
				t.Fatal(err)
			}
			if list = append(list, part...); len(part) < 2 {
				break
			}
		}
		if len(list) != 3 || !slices.IsSortedFunc(list, func(a, b store.LinkRequest) int { return int(a.Number - b.Number) }) {
			t.Fatalf("given are %+v", list)
		}
		for i, address := range []consent.Email{"", "ada@example.com", "bob@example.com"} {
			q := list[i]
			if q.ID.IsZero() || q.Application != app || q.ApplicationID != "northwind" || q.Address != address || errors.Is(q.Unreadable, seal.ErrKey) != (address == "") {
				t.Errorf("given is %+v", q)
			}
			if address != "" && (q.Centre != "link" || q.Locale != "de" || !q.Code) {
				t.Errorf("given is %+v", q)
			}
		}
	})
}
