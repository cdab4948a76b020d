package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/opencpm/opencpm/internal/config"
	"github.com/opencpm/opencpm/internal/core"
	"github.com/opencpm/opencpm/internal/seal"
	"github.com/opencpm/opencpm/internal/store"
)

type secretsCommand struct {
	Rotate secretsRotateCommand `cmd:"" help:"Make a new sealing key and seal everything anew under it; beside running servers."`
	AddKey secretsAddKeyCommand `cmd:"" help:"Put a new key at the end of the key file, where it only opens, to be handed to all servers before it seals."`
	Status secretsStatusCommand `cmd:"" help:"Count what is sealed under which key; change nothing."`
}

// newKeyID makes the id of a key: the day, and something that makes it different from
// every other one, also from one that was taken out of the file.
func newKeyID() string {
	return time.Now().UTC().Format("2006-01-02") + "-" + strings.ToLower(rand.Text()[:6])
}

// keyFile gives the key file into which a key can be put.
func keyFile(c config.Store) (string, error) {
	switch {
	case !c.Key.IsZero():
		return "", errors.New("the sealing keys are in OPENCPM_KEY, and a new one would be known to this process only: " +
			"put a new line in front of the others there, restart every server with it, then run opencpm secrets rotate --keep-key")
	case c.KeyFile == "":
		return "", errors.New("no key file is set: give --key-file FILE, or --data DIR for the one in the data directory")
	}
	return c.KeyFile, nil
}

type secretsAddKeyCommand struct{ config.Store }

// Run adds the key.
func (c *secretsAddKeyCommand) Run(io streams) error {
	path, err := keyFile(c.Store)
	if err != nil {
		return err
	}
	id := newKeyID()
	if err := seal.AddKey(path, id, false); err != nil {
		return err
	}
	_, err = fmt.Fprintf(io.out, "Added the key %s at the end of %s. It opens and does not seal yet.\n"+
		"Next: hand the file to every server and to where its copy is kept; move the line to the top and hand it out again; then run opencpm secrets rotate --keep-key.\n", id, path)
	return err
}

// withSeals runs a command on the store and its keys; it works beside a server.
func withSeals(ctx context.Context, c config.Store, do func(*store.Store, *seal.Keyring) error) error {
	if err := hasData(c); err != nil {
		return err
	}
	if err := c.Check(); err != nil {
		return err
	}
	keys, err := readKeys(c)
	if err != nil {
		return err
	}
	st, err := store.Open(ctx, store.Options{Dir: c.Data, DatabaseURL: c.DatabaseURL.Reveal(), Keys: keys})
	if err != nil {
		return err
	}
	return errors.Join(do(st, keys), st.Close())
}

type secretsStatusCommand struct {
	config.Store
	JSON bool `env:"-" help:"Answer as JSON."`
}

// Run prints what is sealed under which key.
func (c *secretsStatusCommand) Run(ctx context.Context, io streams) error {
	return withSeals(ctx, c.Store, func(st *store.Store, keys *seal.Keyring) error {
		list, err := keyUses(ctx, st, keys)
		if err != nil {
			return err
		}
		if c.JSON {
			return json.NewEncoder(io.out).Encode(map[string]any{"keys": list})
		}
		writeKeyUses(io.out, list)
		return nil
	})
}

// keyUse is what is sealed under one key.
type keyUse struct {
	ID      string           `json:"id"`
	Role    string           `json:"role"` // seals, opens or missing
	Values  int64            `json:"values"`
	Columns map[string]int64 `json:"columns"`
}

// The roles of a key.
const (
	keySeals   = "seals"
	keyOpens   = "opens"
	keyMissing = "missing"
)

// keyUses lists the keys of the ring in their order, and then those that it lacks.
func keyUses(ctx context.Context, st *store.Store, keys *seal.Keyring) ([]keyUse, error) {
	seals, err := st.CountSeals(ctx)
	if err != nil {
		return nil, err
	}
	var list []keyUse
	for i, id := range keys.IDs() {
		list = append(list, keyUse{ID: id, Role: keyOpens})
		if i == 0 {
			list[0].Role = keySeals
		}
	}
	for _, v := range seals {
		for _, id := range slices.Sorted(maps.Keys(v.Values)) {
			at := slices.IndexFunc(list, func(u keyUse) bool { return u.ID == id })
			if at < 0 {
				at, list = len(list), append(list, keyUse{ID: id, Role: keyMissing})
			}
			if list[at].Columns == nil {
				list[at].Columns = map[string]int64{}
			}
			list[at].Columns[v.Column] = v.Values[id]
			list[at].Values += v.Values[id]
		}
	}
	return list, nil
}

// left counts what is sealed under another key than the one that seals.
func left(list []keyUse) (n int64) {
	for _, u := range list {
		if u.Role != keySeals {
			n += u.Values
		}
	}
	return n
}

func writeKeyUses(w io.Writer, list []keyUse) {
	for _, u := range list {
		fmt.Fprintf(w, "%s: %d values. %s\n", cmp.Or(u.ID, "no key at all"), u.Values, u.verdict())
		for _, column := range slices.Sorted(maps.Keys(u.Columns)) {
			fmt.Fprintf(w, "  %-24s %d\n", column, u.Columns[column])
		}
	}
}

func (u keyUse) verdict() string {
	switch {
	case u.Role == keySeals:
		return "This key seals."
	case u.Role == keyMissing:
		return "This key is missing, and the values cannot be read: put it back."
	case u.Values > 0:
		return "This key is needed."
	}
	return "Nothing is sealed under this key. It may be removed, unless it is yet to seal; backups from before need it: keep a copy with them."
}

type secretsRotateCommand struct {
	config.Store
	KeepKey    bool `env:"-" help:"Make no new key: seal under the first key there is."`
	SharedFile bool `env:"-" help:"Say that every server of this PostgreSQL database reads this very key file and no copy of it, so that a new key may seal at once."`
}

// Run makes the key and seals everything under it.
func (c *secretsRotateCommand) Run(ctx context.Context, io streams) error {
	path := c.KeyFile
	if !c.KeepKey {
		var err error
		if path, err = keyFile(c.Store); err != nil {
			return err
		}
		if c.Data == "" && !c.SharedFile {
			return errors.New("servers that have a copy of the key file could not read what a new key seals: give --shared-file if every server reads this very file, " +
				"else run opencpm secrets add-key, hand the file out, and then run opencpm secrets rotate --keep-key; docs/operations/keys.md has the steps")
		}
	}
	return withSeals(ctx, c.Store, func(st *store.Store, keys *seal.Keyring) error {
		if !c.KeepKey {
			if err := newSealingKey(ctx, st, keys, path, io); err != nil {
				return err
			}
		}
		if path != "" {
			if err := seal.SyncKeyFile(path); err != nil {
				return err
			}
		}
		return reseal(ctx, st, keys, io)
	})
}

// newSealingKey puts a new key in front of the file, unless an earlier rotation has still
// to be gone on with: its key serves.
func newSealingKey(ctx context.Context, st *store.Store, keys *seal.Keyring, path string, io streams) error {
	list, err := keyUses(ctx, st, keys)
	if err != nil {
		return err
	}
	list = slices.DeleteFunc(list, func(u keyUse) bool { return u.Role == keyMissing }) // no rotation can go on with these
	if n := left(list); n > 0 {
		_, err = fmt.Fprintf(io.err, "An earlier rotation has left %d values under other keys: going on with it under %s. No new key is made; for one, run the command again.\n", n, keys.Sealing())
		return err
	}
	id := newKeyID()
	if err := seal.AddKey(path, id, true); err != nil {
		return err
	}
	if err := keys.Reread(); err != nil {
		return err
	}
	if _, err = fmt.Fprintf(io.err, "Put the new key %s in front of %s. Keep a copy of the file apart from the backups.\n", id, path); err != nil {
		return err
	}
	return st.NoteAct(ctx, core.Operator, "sealing-key.create", id)
}

// maxPasses is how often a rotation looks for what servers have sealed under another key
// meanwhile.
const maxPasses = 5

// reseal seals everything under the sealing key, until a pass that begins when every
// server has noticed the file finds nothing.
func reseal(ctx context.Context, st *store.Store, keys *seal.Keyring, io streams) error {
	noticed := time.After(2 * seal.Notice)
	var sealed int64
	for pass := range maxPasses {
		list, err := keyUses(ctx, st, keys)
		if err != nil {
			return err
		}
		done, err := st.Reseal(ctx, progressTo(io.err, left(list)))
		sealed += done.Done
		if err != nil {
			return fmt.Errorf("the rotation is not finished; run opencpm secrets rotate again to go on with it: %w", err)
		}
		if pass > 0 && done.Done == 0 {
			break
		}
		if pass == 0 {
			select {
			case <-noticed:
			case <-ctx.Done():
			}
		}
	}
	if err := st.NoteAct(ctx, core.Operator, "sealing-key.reseal", fmt.Sprintf("%s: %d values", keys.Sealing(), sealed)); err != nil {
		return err
	}
	list, err := keyUses(ctx, st, keys)
	if err != nil {
		return err
	}
	writeKeyUses(io.out, list)
	if n := left(list); n > 0 {
		return fmt.Errorf("%d values are not sealed under %s: either their key is missing, or they are damaged, or a server still seals under another key; "+
			"keep the other keys, and run opencpm secrets rotate --keep-key when that is put right", n, keys.Sealing())
	}
	return nil
}

// progressTo writes how far a pass is, at most once a second.
func progressTo(w io.Writer, of int64) func(store.Resealed) {
	began := time.Now()
	last := began
	return func(r store.Resealed) {
		if now := time.Now(); now.Sub(last) >= time.Second {
			last = now
			fmt.Fprintf(w, "%d of %d values are sealed anew, %.0f a second.\n", r.Done, of, float64(r.Done)/now.Sub(began).Seconds())
		}
	}
}
