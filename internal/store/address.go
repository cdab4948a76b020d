package store

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/opencpm/opencpm/internal/consent"
)

// heldContact is an address of a citizen as it is kept.
type heldContact struct {
	text  string
	blind []byte
}

// blind gives the blind index of an address within an application, nil for one that
// cannot be looked for.
func (s *Store) blind(application int64, v consent.Contact) []byte {
	if v.Key == "" {
		return nil
	}
	return s.index.Index(fmt.Sprintf("%s address %d", v.Kind, application), v.Key)
}

// wholeProfile opens the profile with the addresses. Those that an earlier release has
// left among the details are the later ones: since then nobody puts them there.
func (s *Store) wholeProfile(ctx context.Context, q reader, c *citizenRow) (profile, map[consent.ContactKind]heldContact, error) {
	p, err := c.profile(s.keys)
	if err != nil {
		return p, nil, err
	}
	held := map[consent.ContactKind]heldContact{}
	_, err = collect(ctx, q, func(r *sql.Rows) (struct{}, error) {
		var kind consent.ContactKind
		var v heldContact
		var sealed []byte
		if err := r.Scan(&kind, &v.blind, &sealed); err != nil {
			return struct{}{}, err
		}
		plain, err := c.key.Open(c.contactContext(kind), sealed)
		if err != nil {
			return struct{}{}, fmt.Errorf("%s of citizen %s: %w", kind, c.publicID, err)
		}
		v.text = string(plain)
		held[kind] = v
		return struct{}{}, nil
	}, `SELECT kind, blind, sealed FROM citizen_address WHERE citizen = $1`, c.id)
	for _, v := range p.Details.Contacts() {
		if v.Text == "" {
			p.Details.SetContact(v.Kind, held[v.Kind].text)
		}
	}
	return p, held, err
}

func (c *citizenRow) contactContext(kind consent.ContactKind) string {
	return c.context(string(kind) + " address")
}

// keepProfile writes the profile of a citizen with the addresses, in the place of those
// that are held.
func (t *tx) keepProfile(ctx context.Context, c *citizenRow, held map[consent.ContactKind]heldContact, p profile) error {
	if err := c.setProfile(p); err != nil {
		return err
	}
	if _, err := t.exec(ctx, `UPDATE citizen SET details = $1 WHERE id = $2`, c.details, c.id); err != nil {
		return err
	}
	return t.setContacts(ctx, c, held, p.Details)
}

// setContacts puts the addresses among the details in the place of those that are held,
// and takes in what the do-not-contact list says of them.
func (t *tx) setContacts(ctx context.Context, c *citizenRow, held map[consent.ContactKind]heldContact, d consent.Details) error {
	another := false
	for _, v := range d.Contacts() {
		blind := t.store.blind(c.application, v)
		old, kept := held[v.Kind]
		var err error
		switch {
		case v.Text == old.text && bytes.Equal(blind, old.blind):
			continue
		case v.Text != "":
			_, err = t.exec(ctx, `INSERT INTO citizen_address (citizen, kind, application, blind, sealed) VALUES ($1, $2, $3, $4, $5)
				ON CONFLICT (citizen, kind) DO UPDATE SET blind = excluded.blind, sealed = excluded.sealed`,
				c.id, string(v.Kind), c.application, blind, c.key.Seal(c.contactContext(v.Kind), []byte(v.Text)))
		case kept:
			_, err = t.exec(ctx, `DELETE FROM citizen_address WHERE citizen = $1 AND kind = $2`, c.id, string(v.Kind))
		}
		if err != nil {
			return err
		}
		another = another || !bytes.Equal(blind, old.blind)
	}
	if !another {
		return nil
	}
	return t.heed(ctx, c)
}

// setEmail gives the citizen of a write another e-mail address, or none.
func (t *tx) setEmail(ctx context.Context, c *citizenRow, e consent.Email) error {
	p, held, err := t.store.wholeProfile(ctx, t, c)
	if err != nil || p.Details.Email == e.String() {
		return err
	}
	before := p.Details
	p.Details.Email = e.String()
	if err := t.leaveEmail(ctx, c, before, p.Details); err != nil {
		return err
	}
	return t.keepProfile(ctx, c, held, p)
}

// leaveEmail ends what was sent to the e-mail address of a citizen before, where it is not
// the one after: mails that wait and what was written in others, codes, links to the own
// page and what they have opened, and what was still to be confirmed by its owner.
// Whoever has that address now may be another.
func (t *tx) leaveEmail(ctx context.Context, c *citizenRow, before, after consent.Details) error {
	old, err := consent.ParseEmail(before.Email)
	if err != nil || sameAddress(after.Email, old) {
		return nil //nolint:nilerr // nothing was ever sent to what is no address
	}
	index := t.store.addressIndex(c.application, old)
	for _, q := range []struct {
		text string
		args []any
	}{
		// A message without content ends by itself.
		{`UPDATE change SET body = NULL WHERE id IN (SELECT change FROM mail WHERE citizen = $1)`, []any{c.id}},
		{`UPDATE mail SET state = $2, ended_at = $3, reason = $4, body = NULL WHERE citizen = $1 AND state = 'waiting'`, []any{c.id, string(consent.EmailExpired), t.now, addressLeft}},
		{`DELETE FROM sign_in_code WHERE application = $1 AND address = $2 AND citizen = $3`, []any{c.application, index, c.id}},
		{`UPDATE token_issue SET revoked_at = $2 WHERE citizen = $1 AND reference IN ($3, $4) AND created_by = $5 AND revoked_at IS NULL`, []any{c.id, t.now, preferenceLinks, signInCodes, consent.Platform.ID}},
		// It looks as if it had expired, and cannot be asked for anew.
		{`UPDATE sign_up SET ended_at = $3, expires_at = CASE WHEN expires_at < $3 THEN expires_at ELSE $3 END WHERE citizen = $1 AND address = $2 AND state = 'open' AND ended_at = 0`, []any{c.id, index, t.now}},
	} {
		if _, err := t.exec(ctx, q.text, q.args...); err != nil {
			return err
		}
	}
	return nil
}

// addressLeft is why a mail that waited was not sent.
const addressLeft = "the citizen has another address, or none"

// sameAddress reports whether a text is an address that reaches whom another one does.
func sameAddress(text string, as consent.Email) bool {
	e, err := consent.ParseEmail(text)
	return err == nil && e.Contact().Key == as.Contact().Key
}

// offerTelephone gives the citizen of a write a telephone number that a stranger named,
// unless they have one already, and reports whether it did.
func (t *tx) offerTelephone(ctx context.Context, c *citizenRow, n consent.Telephone) (taken bool, err error) {
	if n == "" {
		return false, nil
	}
	p, held, err := t.store.wholeProfile(ctx, t, c)
	if err != nil || p.Details.Telephone != "" {
		return false, err
	}
	p.Details.Telephone = n.String()
	return true, t.keepProfile(ctx, c, held, p)
}

// takeTelephone takes back from the citizen of a write a telephone number that was offered,
// where they have it still.
func (t *tx) takeTelephone(ctx context.Context, c *citizenRow, n consent.Telephone) error {
	p, held, err := t.store.wholeProfile(ctx, t, c)
	if err != nil || p.Details.Telephone != n.String() {
		return err
	}
	p.Details.Telephone = ""
	return t.keepProfile(ctx, c, held, p)
}

// ErrNoEmail is the answer for a citizen of whom no e-mail address is known.
var ErrNoEmail = consent.Errorf(consent.NotFound, "No e-mail address of the citizen is known.")

// SetEmail gives a citizen another e-mail address.
func (s *Store) SetEmail(ctx context.Context, application int64, key consent.CitizenKey, e consent.Email, actor string) error {
	return s.do(ctx, &write{citizens: []*citizenWrite{{
		application: application, key: key,
		apply: func(ctx context.Context, t *tx, c *citizenRow, _ bool) error {
			if err := t.setEmail(ctx, c, e); err != nil {
				return err
			}
			if err := t.adopt(ctx, c); err != nil {
				return err
			}
			return t.audit(ctx, application, actor, "citizen.set-email", c.publicID.String())
		},
	}}})
}

// DeleteEmail forgets the e-mail address of a citizen; one who has none has none after it.
func (s *Store) DeleteEmail(ctx context.Context, application int64, key consent.CitizenKey, actor string) error {
	return s.do(ctx, &write{citizens: []*citizenWrite{{
		application: application, key: key,
		apply: func(ctx context.Context, t *tx, c *citizenRow, _ bool) error {
			if err := t.setEmail(ctx, c, ""); err != nil {
				return err
			}
			return t.audit(ctx, application, actor, "citizen.delete-email", c.publicID.String())
		},
	}}})
}

// EmailOf gives the e-mail address of a citizen. It fails with ErrNoEmail where none is
// known, or one to which nothing can be sent.
func (s *Store) EmailOf(ctx context.Context, application int64, key consent.CitizenKey) (consent.Email, error) {
	v, err := s.Citizen(ctx, application, key)
	if err != nil {
		return "", err
	}
	e, err := consent.ParseEmail(v.Details.Email)
	if err != nil {
		return "", ErrNoEmail
	}
	return e, nil
}

// MaxFound is how many citizens a search for an address gives at most.
const MaxFound = 100

// CitizensByEmail gives the citizens of an application who have an e-mail address, the
// oldest first.
func (s *Store) CitizensByEmail(ctx context.Context, application int64, e consent.Email) ([]consent.Citizen, error) {
	rows, err := collect(ctx, s.fixed, func(r *sql.Rows) (*citizenRow, error) { return scanCitizen(r) },
		`SELECT `+citizenColumns+` FROM `+citizenTables+` JOIN citizen_address a ON a.citizen = c.id
		WHERE a.application = $1 AND a.kind = $2 AND a.blind = $3 AND c.deleted_at IS NULL ORDER BY c.id LIMIT $4`,
		application, string(consent.EmailContact), s.blind(application, e.Contact()), MaxFound)
	list := make([]consent.Citizen, len(rows))
	for i, c := range rows {
		if list[i], err = s.citizen(ctx, s.fixed, c); err != nil {
			return nil, err
		}
	}
	return list, s.classify(err)
}

// HoldersOf gives the citizens of an application who have an e-mail address, so many at
// most: the oldest first, and behind all others those who are there by a sign-up alone that
// nobody has confirmed, which is no sign that the address is theirs.
func (s *Store) HoldersOf(ctx context.Context, application int64, e consent.Email, limit int) ([]consent.ID, error) {
	list, err := collect(ctx, s.fixed, func(r *sql.Rows) (id consent.ID, err error) {
		err = r.Scan(&id)
		return id, err
	}, `SELECT c.public_id FROM citizen c JOIN citizen_address a ON a.citizen = c.id
		WHERE a.application = $1 AND a.kind = $2 AND a.blind = $3 AND c.deleted_at IS NULL
		ORDER BY CASE WHEN EXISTS (SELECT 1 FROM sign_up u WHERE u.citizen = c.id AND u.created = 1)
			AND NOT EXISTS (SELECT 1 FROM sign_up u WHERE u.citizen = c.id AND u.state = 'confirmed') THEN 1 ELSE 0 END, c.id LIMIT CAST($4 AS BIGINT)`,
		application, string(consent.EmailContact), s.blind(application, e.Contact()), limit)
	return list, s.classify(err)
}

// The bounds of one round of MoveAddresses.
const (
	moveBatch = 100
	moveTime  = 500 * time.Millisecond
)

// MoveAddresses moves addresses out of the details, where earlier releases put them, to
// where citizens are found by them, for a while: it must be called until nothing is left.
// Whoever is written meanwhile is moved by that.
func (s *Store) MoveAddresses(ctx context.Context) error {
	for began := time.Now(); time.Since(began) < moveTime; {
		list, err := collect(ctx, s.fixed, scanPassage, `SELECT c.application, c.public_id FROM citizen_address_backlog b JOIN citizen c ON c.id = b.citizen ORDER BY b.citizen LIMIT $1`, moveBatch)
		if err != nil || len(list) == 0 {
			return s.classify(err)
		}
		if err := s.eachOf(ctx, list, func(ctx context.Context, t *tx, c *citizenRow, _ bool) error {
			p, held, err := s.wholeProfile(ctx, t, c)
			if err != nil {
				return err
			}
			if err := t.keepProfile(ctx, c, held, profile{p.ExternalRef, p.Details.Normal()}); err != nil {
				return err
			}
			_, err = t.exec(ctx, `DELETE FROM citizen_address_backlog WHERE citizen = $1`, c.id)
			return err
		}); err != nil {
			return err
		}
	}
	return nil
}
