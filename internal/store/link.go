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

	ID            consent.ID `json:"-"`
	Number        int64      `json:"-"` // rises with time
	Application   int64      `json:"-"`
	ApplicationID string     `json:"-"`
	Unreadable    error      `json:"-"` // why nothing but the ID, the Number and the application is known: the key is not there, or it is damaged
}

func requestContext(id consent.ID) string { return "link request " + id.String() }

// keepRequest is for how long a request is kept that cannot be answered.
const keepRequest = 24 * time.Hour

// KeepLinkRequest keeps a request until AnswerLinkRequest or ForgetMails forgets it.
func (s *Store) KeepLinkRequest(ctx context.Context, v LinkRequest) error {
	plain, err := json.Marshal(v)
	if err != nil {
		return err
	}
	id := NewID()
	sealed := s.keys.Seal(requestContext(id), plain)
	return s.update(ctx, func(ctx context.Context, t *tx) error {
		t.rings |= bellMails
		_, err := t.exec(ctx, `INSERT INTO link_request (public_id, application, sealed, created_at) VALUES ($1, $2, $3, $4)`, id[:], v.Application, sealed, t.now)
		return err
	})
}

// NextLinkRequests gives the oldest requests after one by its number. Each must be
// answered, but for those that are Unreadable.
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
			v.Address, v.Centre, v.Locale, v.Code = opened.Address, opened.Centre, opened.Locale, opened.Code
		}
		return v, nil
	}, `SELECT l.id, l.public_id, l.sealed, l.application, a.public_id FROM link_request l JOIN application a ON a.id = l.application WHERE l.id > $1 ORDER BY l.id LIMIT $2`, after, limit)
	return list, s.classify(err)
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
// of the citizens alone.
func (s *Store) AnswerLinkRequest(ctx context.Context, q LinkRequest, m Mailer, citizens []consent.ID) error {
	if q.Code {
		citizens = citizens[:min(len(citizens), 1)]
	}
	w := &write{}
	allowed := false
	for i, id := range citizens {
		w.citizens = append(w.citizens, &citizenWrite{application: q.Application, key: consent.CitizenKey{ID: id}, apply: func(ctx context.Context, t *tx, c *citizenRow, _ bool) error {
			if i == 0 {
				allowed = false
				n, err := t.count(ctx, `DELETE FROM link_request WHERE id = $1`, q.Number)
				if err != nil || n == 0 {
					return err
				}
				if allowed, err = t.mayLink(ctx, q.Application, s.addressIndex(q.Application, q.Address)); err != nil {
					return err
				}
			}
			if !allowed {
				return nil
			}
			return s.answerLink(ctx, t, c, q, m)
		}})
	}
	if len(citizens) == 0 {
		w.run = func(ctx context.Context, t *tx) error {
			_, err := t.exec(ctx, `DELETE FROM link_request WHERE id = $1`, q.Number)
			return err
		}
	}
	return s.do(ctx, w)
}

func (s *Store) answerLink(ctx context.Context, t *tx, c *citizenRow, q LinkRequest, m Mailer) error {
	way, subscription, err := t.mailWay(ctx, q.Application, m)
	if err != nil || way == "" {
		return err
	}
	g, err := s.groundsOf(ctx, t, c, consent.PreferenceLinkEmail, "")
	if err != nil {
		return err
	}
	g.Address, g.Locale = q.Address, q.Locale
	if q.Code {
		number, err := rand.Int(rand.Reader, big.NewInt(1_000_000))
		if err != nil {
			return err
		}
		g.Code, g.Expires = fmt.Sprintf("%06d", number), g.At.Add(codeLife)
		index := s.addressIndex(q.Application, q.Address)
		if _, err := t.exec(ctx, `INSERT INTO sign_in_code (application, address, citizen, code, tries, expires_at) VALUES ($1, $2, $3, $4, 0, $5)
			ON CONFLICT (application, address) DO UPDATE SET citizen = excluded.citizen, code = excluded.code, tries = 0, expires_at = excluded.expires_at`,
			q.Application, index, c.id, s.codeHash(index, g.Code), g.Expires); err != nil {
			return err
		}
	} else {
		g.Expires = g.At.Add(linkLife)
		if g.Token, err = t.issueSingle(ctx, q.Application, c.id, "preference-link", consent.Platform.ID, g.Expires); err != nil {
			return err
		}
	}
	_, err = t.post(ctx, c, m, way, subscription, g)
	return err
}

func (s *Store) codeHash(address []byte, code string) []byte {
	return s.index.Index("sign-in code "+string(address), code)
}

// RedeemCode gives the grounds of a token of the citizen to whom a code was sent, once. It
// is false for whatever is wrong with the code, after the same work; the fifth wrong one
// ends it.
func (s *Store) RedeemCode(ctx context.Context, application int64, address consent.Email, code string, expires consent.Instant) (TokenGrounds, bool, error) {
	index := s.addressIndex(application, address)
	hash := s.codeHash(index, code)
	var g *TokenGrounds
	err := s.update(ctx, func(ctx context.Context, t *tx) error {
		g = nil
		var citizen int64
		var kept []byte
		err := t.row(ctx, `UPDATE sign_in_code SET tries = tries + 1 WHERE application = $1 AND address = $2 AND tries < $3 AND expires_at > $4 RETURNING citizen, code`,
			application, index, codeTries, t.now).Scan(&citizen, &kept)
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		if err != nil || !hmac.Equal(kept, hash) {
			return err
		}
		if _, err := t.exec(ctx, `DELETE FROM sign_in_code WHERE application = $1 AND address = $2`, application, index); err != nil {
			return err
		}
		issued, err := t.issueSingle(ctx, application, citizen, "sign-in-code", consent.Platform.ID, expires)
		g = &issued
		return err
	})
	redeemed, err := outcome(&g, err)
	if err != nil || redeemed == nil {
		return TokenGrounds{}, false, err
	}
	return *redeemed, true, nil
}
