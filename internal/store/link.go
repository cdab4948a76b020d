package store

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"math/big"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/opencpm/opencpm/internal/consent"
)

// LinkRequest is what somebody asked for who wants the link, or a code, to the own page.
type LinkRequest struct {
	Address consent.Email `json:"address"`
	Centre  string        `json:"centre,omitzero"`
	Locale  string        `json:"locale,omitzero"`
	Code    bool          `json:"code,omitzero"`
	// Asker is the number of the form by which a code is asked for. What redeems it shows
	// it again.
	Asker string `json:"asker,omitzero"`

	ID            consent.ID `json:"-"`
	Number        int64      `json:"-"` // rises with time
	Application   int64      `json:"-"`
	ApplicationID string     `json:"-"`
	Unreadable    error      `json:"-"` // why nothing but the ID, the Number and the application is known: the key is not there, or it is damaged
}

func requestContext(id consent.ID) string { return "link request " + id.String() }

// KeepLinkRequest keeps a request until it is answered, for an hour at most.
func (s *Store) KeepLinkRequest(ctx context.Context, v LinkRequest) error {
	plain, err := json.Marshal(v)
	if err != nil {
		return err
	}
	id := NewID()
	sealed := s.keys.Seal(requestContext(id), plain)
	return s.update(ctx, func(ctx context.Context, t *tx) error {
		_, err := t.exec(ctx, `INSERT INTO link_request (public_id, application, sealed, created_at) VALUES ($1, $2, $3, $4)`, id[:], v.Application, sealed, t.now)
		return err
	})
}

// keepLinkRequests is for how long a request waits that cannot be answered: nobody may have
// the address, which must not stay on record.
const keepLinkRequests = time.Hour

// NextLinkRequests gives the oldest requests after one by its number. Each must be
// answered or dropped, but for those that are Unreadable.
func (s *Store) NextLinkRequests(ctx context.Context, after int64, limit int) ([]LinkRequest, error) {
	list, err := collect(ctx, s.fixed, func(r *sql.Rows) (LinkRequest, error) {
		var v, opened LinkRequest
		var sealed []byte
		if err := r.Scan(&v.Number, &v.ID, &sealed, &v.Application, &v.ApplicationID); err != nil {
			return v, err
		}
		var plain []byte
		if plain, v.Unreadable = s.keys.Open(requestContext(v.ID), sealed); v.Unreadable == nil {
			v.Unreadable = json.Unmarshal(plain, &opened)
		}
		if v.Unreadable == nil {
			v.Address, v.Centre, v.Locale, v.Code, v.Asker = opened.Address, opened.Centre, opened.Locale, opened.Code, opened.Asker
		}
		return v, nil
	}, `SELECT l.id, l.public_id, l.sealed, l.application, a.public_id FROM link_request l JOIN application a ON a.id = l.application WHERE l.id > $1 AND l.created_at > $3 ORDER BY l.id LIMIT $2`,
		after, limit, now().Add(-keepLinkRequests))
	return list, s.classify(err)
}

// DropLinkRequest forgets a request that is not answered.
func (s *Store) DropLinkRequest(ctx context.Context, q LinkRequest) error {
	return s.update(ctx, func(ctx context.Context, t *tx) error {
		_, err := t.exec(ctx, `DELETE FROM link_request WHERE id = $1`, q.Number)
		return err
	})
}

// The lives of a link to the own page and of a code, and how often a wrong code may be
// tried.
const (
	linkLife  = 7 * 24 * time.Hour
	codeLife  = 10 * time.Minute
	codeTries = 5
)

// AnswerLinkRequest makes the mails of a request ready, one for each citizen, and forgets
// it; of one that another node has answered nothing is made. A code is for the first
// of the citizens alone. Where there is none the address is counted all the same, and a
// code is kept that nothing redeems: what follows takes the same work.
func (s *Store) AnswerLinkRequest(ctx context.Context, q LinkRequest, m Mailer, citizens []consent.ID) error {
	if q.Code {
		citizens = citizens[:min(len(citizens), 1)]
	}
	w := &write{}
	var code string
	var allowed bool
	begin := func(ctx context.Context, t *tx, c *citizenRow) (err error) {
		code, allowed, err = s.beginAnswer(ctx, t, q, c)
		return err
	}
	for i, id := range citizens {
		w.citizens = append(w.citizens, &citizenWrite{application: q.Application, key: consent.CitizenKey{ID: id}, apply: func(ctx context.Context, t *tx, c *citizenRow, _ bool) error {
			if i == 0 {
				if err := begin(ctx, t, c); err != nil {
					return err
				}
			}
			if !allowed {
				return nil
			}
			return s.answerLink(ctx, t, c, q, m, code)
		}})
	}
	if len(citizens) == 0 {
		w.run = func(ctx context.Context, t *tx) error { return begin(ctx, t, nil) }
	}
	return s.do(ctx, w)
}

// beginAnswer forgets a request, and reports whether it is to be answered: no other node
// has, and the limits allow it. A code is kept for the citizen, for nobody where that is
// nil. There are no more of an address at once than the limits allow mails in the life of
// one.
func (s *Store) beginAnswer(ctx context.Context, t *tx, q LinkRequest, c *citizenRow) (code string, allowed bool, err error) {
	n, err := t.count(ctx, `DELETE FROM link_request WHERE id = $1`, q.Number)
	if err != nil || n == 0 {
		return "", false, err
	}
	index := s.addressIndex(q.Application, q.Address)
	if allowed, err = t.mayLink(ctx, q.Application, index); err != nil || !allowed || !q.Code {
		return "", allowed, err
	}
	number, err := rand.Int(rand.Reader, big.NewInt(1_000_000))
	if err != nil {
		return "", false, err
	}
	code = fmt.Sprintf("%06d", number)
	asker, hash := linkHash(q.Asker), s.codeHash(index, code)
	var citizen any
	if c != nil {
		citizen = c.id
	} else {
		rand.Read(hash) // never fails; no code has it
	}
	_, err = t.exec(ctx, `INSERT INTO sign_in_code (application, address, asker, citizen, code, tries, expires_at) VALUES ($1, $2, $3, $4, $5, 0, $6)
		ON CONFLICT (application, address, asker) DO UPDATE SET citizen = excluded.citizen, code = excluded.code, tries = 0, expires_at = excluded.expires_at`,
		q.Application, index, asker, citizen, hash, t.now.Add(codeLife))
	return code, err == nil, err
}

// answerLink makes the mail with the link, or the code, to one citizen ready.
func (s *Store) answerLink(ctx context.Context, t *tx, c *citizenRow, q LinkRequest, m Mailer, code string) error {
	way, subscription, err := t.mailWay(ctx, q.Application, m)
	if err != nil || way == "" {
		return err
	}
	g, err := s.groundsOf(ctx, t, c, consent.PreferenceLinkEmail, "")
	if err != nil {
		return err
	}
	if !sameAddress(g.Details.Email, q.Address) {
		return nil // which is another one since the citizen was found by it
	}
	g.Address, g.Locale, g.Code, g.Centre = q.Address, q.Locale, code, q.Centre
	if q.Code {
		g.Expires = g.At.Add(codeLife)
	} else {
		g.Expires = g.At.Add(linkLife)
		if g.Token, err = t.issueSingle(ctx, q.Application, c.id, preferenceLinks, consent.Platform.ID, g.Expires); err != nil {
			return err
		}
	}
	_, err = t.post(ctx, c, m, way, subscription, g)
	return err
}

// What single tokens are called that the platform makes.
const (
	preferenceLinks = "preference-link"
	signInCodes     = "sign-in-code"
)

func (s *Store) codeHash(address []byte, code string) []byte {
	return s.index.Index("sign-in code "+string(address), code)
}

// RedeemCode gives the grounds of a token of the citizen to whom a code was sent, once, to
// whoever asked for it. It is false for whatever is wrong with the code; the fifth wrong
// one ends it. A wrong one is counted whether anybody has the address or not, so that it
// takes the same work. After too many of an application within an hour none is good until
// it is over.
func (s *Store) RedeemCode(ctx context.Context, application int64, address consent.Email, asker, code string, expires consent.Instant) (TokenGrounds, bool, error) {
	index := s.addressIndex(application, address)
	hash, form := s.codeHash(index, code), linkHash(asker)
	var g *TokenGrounds
	var full string // the application, with the wrong code that was one too many
	err := s.update(ctx, func(ctx context.Context, t *tx) error {
		g, full = nil, ""
		var kept []byte
		var citizen sql.NullInt64
		err := t.row(ctx, `UPDATE sign_in_code SET tries = tries + 1 WHERE application = $1 AND address = $2 AND asker = $3 AND tries < $4 AND expires_at > $5
			AND NOT EXISTS (SELECT 1 FROM wrong_code w WHERE w.application = $1 AND w.codes >= $6 AND w.since > $7) RETURNING citizen, code`,
			application, index, form, codeTries, t.now, maxWrongCodes, t.now.Add(-wrongCodeTime)).Scan(&citizen, &kept)
		switch {
		case errors.Is(err, sql.ErrNoRows):
			return nil
		case err != nil:
			return err
		case !hmac.Equal(kept, hash) || !citizen.Valid:
			full, err = t.countWrongCode(ctx, application)
			return err
		}
		if _, err := t.exec(ctx, `DELETE FROM sign_in_code WHERE application = $1 AND address = $2 AND asker = $3`, application, index, form); err != nil {
			return err
		}
		issued, err := t.issueSingle(ctx, application, citizen.Int64, signInCodes, consent.Platform.ID, expires)
		g = &issued
		return err
	})
	redeemed, err := outcome(&g, err)
	if err == nil && full != "" {
		s.log.Warn("too many wrong codes: links are sent in their place until the hour is over", "application", full, "codes", maxWrongCodes)
	}
	if err != nil || redeemed == nil {
		return TokenGrounds{}, false, err
	}
	return *redeemed, true, nil
}

// How many wrong codes an application bears within a time that begins with the first: one
// in ten thousand such times somebody guesses one, however many addresses they try.
const (
	maxWrongCodes = 100
	wrongCodeTime = time.Hour
)

// countWrongCode counts a wrong code of an application, and names it at the one that is as
// many as it bears.
func (t *tx) countWrongCode(ctx context.Context, application int64) (full string, err error) {
	var n int
	err = t.row(ctx, `INSERT INTO wrong_code (application, codes, since) VALUES ($1, 1, $2)
		ON CONFLICT (application) DO UPDATE SET codes = CASE WHEN wrong_code.since <= $3 THEN 1 ELSE wrong_code.codes + 1 END,
			since = CASE WHEN wrong_code.since <= $3 THEN excluded.since ELSE wrong_code.since END RETURNING codes`,
		application, t.now, t.now.Add(-wrongCodeTime)).Scan(&n)
	if err != nil || n != maxWrongCodes {
		return "", err
	}
	err = t.row(ctx, `SELECT public_id FROM application WHERE id = $1`, application).Scan(&full)
	return full, err
}

// TakesCodes reports whether a code of an application can be redeemed now: not too many
// wrong ones were tried.
func (s *Store) TakesCodes(ctx context.Context, application int64) (bool, error) {
	var n int
	err := s.fixed.QueryRowContext(ctx, `SELECT count(*) FROM wrong_code WHERE application = $1 AND codes >= $2 AND since > $3`, application, maxWrongCodes, now().Add(-wrongCodeTime)).Scan(&n)
	return n == 0, s.classify(err)
}
