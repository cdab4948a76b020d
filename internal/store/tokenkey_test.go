package store_test

import (
	"bytes"
	"database/sql"
	"encoding/json"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/internal/seal"
	"github.com/opencpm/opencpm/internal/store"
	"github.com/opencpm/opencpm/internal/store/storetest"
)

func tokenKeysOf(t *testing.T, st *store.Store) store.TokenKeys {
	t.Helper()
	keys, err := st.TokenKeys(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

// acts lists who did what to what, of the acts that concern every application.
func acts(t *testing.T, db *sql.DB) []string {
	t.Helper()
	rows, err := db.QueryContext(ctx, `SELECT actor, action, object, recorded_at > 0 FROM audit WHERE application IS NULL ORDER BY id`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var list []string
	for rows.Next() {
		var actor, action, object string
		var timed bool
		if err := rows.Scan(&actor, &action, &object, &timed); err != nil || !timed {
			t.Fatal(timed, err)
		}
		list = append(list, actor+" "+action+" "+object)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return list
}

func TestTokenKeys(t *testing.T) {
	onBothDatabases(t, func(t *testing.T, d database) {
		st, another := d.open(t), d.open(t)
		first := tokenKeysOf(t, st)
		if len(first) != 1 || first[0].ID != 1 || len(first[0].Secret) != 32 || first[0].RetiredAt != 0 || !cmp.Equal(first, st.OpenedTokenKeys()) || !cmp.Equal(first, another.OpenedTokenKeys()) {
			t.Fatalf("at first the keys are %d, on another node %d", len(first), len(another.OpenedTokenKeys()))
		}
		revision := func() int64 {
			t.Helper()
			_, keys, err := another.TokenHolder(ctx, 1, 1)
			if err != nil {
				t.Fatal(err)
			}
			_, links, err := another.Leaver(ctx, 1, 1)
			if err != nil || links != keys || keys != tokenKeysOf(t, another).Revision() {
				t.Fatal(keys, links, err)
			}
			return keys
		}
		at := revision()
		for id, want := range map[byte]consent.Kind{1: consent.Conflict, 0: consent.NotFound, 7: consent.NotFound} {
			if err := st.RetireTokenKey(ctx, id, "me"); consent.KindOf(err) != want {
				t.Errorf("retiring %d: %v", id, err)
			}
		}
		if revision() != at {
			t.Error("what was refused made another revision")
		}
		id, err := st.CreateTokenKey(ctx, "me")
		if err != nil || id != 2 || revision() == at {
			t.Fatalf("made %d, %v", id, err)
		}
		at = revision()
		for range 2 {
			if err := st.RetireTokenKey(ctx, 1, "you"); err != nil {
				t.Fatal(err)
			}
		}
		if revision() == at {
			t.Error("retiring a key makes no other revision")
		}
		got := tokenKeysOf(t, another)
		if len(got) != 2 || got[0].RetiredAt == 0 || got[0].RetiredBy != "you" || got[1].CreatedBy != "me" || got[1].RetiredAt != 0 || bytes.Equal(got[0].Secret, got[1].Secret) ||
			!bytes.Equal(got[0].Secret, first[0].Secret) || !bytes.Equal(got.Retired(), []byte{1}) {
			t.Errorf("the keys are %d: %v", len(got), got.Retired())
		}
		if diff := cmp.Diff([]string{"me token-key.create 2", "you token-key.retire 1"}, acts(t, d.sql(t))); diff != "" {
			t.Errorf("the audit: %s", diff)
		}
		var sealed []byte
		if err := d.sql(t).QueryRowContext(ctx, `SELECT sealed FROM token_key WHERE id = 2`).Scan(&sealed); err != nil || bytes.Contains(sealed, got[1].Secret) || seal.KeyOf(sealed) != "master-1" {
			t.Errorf("a key is kept as it is, under %q, %v", seal.KeyOf(sealed), err)
		}
		if cmp.Equal(got[0].Secret, storetest.SQLite(t).OpenedTokenKeys()[0].Secret) {
			t.Error("two stores sign by the same keys")
		}
	})
}

// However many make keys at a time, each makes its own or is told that it did not.
func TestTokenKeysMadeAtOnce(t *testing.T) {
	onBothDatabases(t, func(t *testing.T, d database) {
		nodes := []*store.Store{d.open(t), d.open(t), d.open(t)}
		var mu sync.Mutex
		made := map[byte]bool{}
		var all sync.WaitGroup
		for _, st := range nodes {
			all.Go(func() {
				for range 4 {
					id, err := st.CreateTokenKey(ctx, "me")
					mu.Lock()
					if err == nil && made[id] || err != nil && consent.KindOf(err) != consent.Conflict {
						t.Errorf("made %d again, or %v", id, err)
					} else if err == nil {
						made[id] = true
					}
					mu.Unlock()
				}
			})
		}
		all.Wait()
		keys := tokenKeysOf(t, nodes[0])
		if len(keys) != len(made)+1 || len(keys.Secrets()) != len(keys) {
			t.Errorf("%d keys of %d made", len(keys), len(made))
		}
		for i, k := range keys {
			if int(k.ID) != i+1 {
				t.Errorf("key %d has the id %d", i, k.ID)
			}
		}
	})
}

func TestTokenKeysRunOut(t *testing.T) {
	st := storetest.SQLite(t)
	for {
		id, err := st.CreateTokenKey(ctx, "me")
		if consent.KindOf(err) == consent.Conflict {
			break
		}
		if err != nil {
			t.Fatal(id, err)
		}
	}
	if n := len(tokenKeysOf(t, st)); n != 255 {
		t.Errorf("the last of %d keys was refused", n)
	}
}

// The keys of an earlier version, which were one value among the settings, go on.
func TestTokenKeysOfAnEarlierVersion(t *testing.T) {
	onBothDatabases(t, func(t *testing.T, d database) {
		secrets := map[byte][]byte{1: bytes.Repeat([]byte("a"), 32), 2: bytes.Repeat([]byte("b"), 32)}
		plain, err := json.Marshal(secrets)
		if err != nil {
			t.Fatal(err)
		}
		ring, err := seal.OpenKeyFile(d.keys)
		if err != nil {
			t.Fatal(err)
		}
		d.open(t)
		db := d.sql(t)
		for _, query := range []string{`DELETE FROM token_key`, `DELETE FROM setting WHERE name = 'citizen token keys'`} {
			if _, err := db.ExecContext(ctx, query); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := db.ExecContext(ctx, `INSERT INTO setting (name, value) VALUES ($1, $2)`, "citizen token keys", ring.Seal("citizen token keys", plain)); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if diff := cmp.Diff(secrets, d.open(t).OpenedTokenKeys().Secrets()); diff != "" {
				t.Error("the keys were not taken over")
			}
		}
		var left int
		if err := db.QueryRowContext(ctx, `SELECT count(*) FROM setting WHERE name = 'citizen token keys'`).Scan(&left); err != nil || left != 0 {
			t.Errorf("%d are left, %v", left, err)
		}
	})
}

func TestNoteAct(t *testing.T) {
	onBothDatabases(t, func(t *testing.T, d database) {
		st := d.open(t)
		if err := st.NoteAct(ctx, "me", "sealing-key.create", "k2"); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]string{"me sealing-key.create k2"}, acts(t, d.sql(t))); diff != "" {
			t.Error(diff)
		}
	})
}
