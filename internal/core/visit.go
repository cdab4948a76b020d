package core

import (
	"context"
	"encoding/binary"
	"time"

	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/internal/store"
	"github.com/opencpm/opencpm/internal/token"
)

// VisitTime is how long a citizen can go on on our pages after they came by a link.
const VisitTime = time.Hour

// BeginVisit gives, for a citizen token, the token of a visit to the pages of one
// application: it opens nothing but those, lasts VisitTime whatever the other one lasts,
// and is revoked together with it.
func (s *Service) BeginVisit(ctx context.Context, applicationID, text string) (string, error) {
	claims, _, err := s.byToken(ctx, text, token.Manage)
	if err != nil {
		return "", err
	}
	if snap, err := s.snapshot(ctx, applicationID); err != nil {
		return "", err
	} else if snap == nil || snap.Application != claims.Application {
		return "", ErrUnauthenticated
	}
	claims.Scope, claims.Expires = token.Visit, consent.At(time.Now().Add(VisitTime))
	return s.tokens.Load().Mint(claims), nil
}

// ByVisit says whose visit it is.
func (s *Service) ByVisit(ctx context.Context, applicationID, text string) (Actor, error) {
	claims, a, err := s.byToken(ctx, text, token.Visit)
	if err != nil {
		return Actor{}, err
	}
	if snap, err := s.snapshot(ctx, applicationID); err != nil {
		return Actor{}, err
	} else if snap == nil || snap.Application != claims.Application {
		return Actor{}, ErrUnauthenticated
	}
	return a, nil
}

// byToken says who presents a token of a scope, and what it says.
func (s *Service) byToken(ctx context.Context, text string, scope token.Scope) (token.Claims, Actor, error) {
	var h store.TokenHolder
	claims, good, err := s.verified(ctx, text, func(c token.Claims) (keys int64, err error) {
		h, keys, err = s.store.TokenHolder(ctx, c.Citizen, c.Issue)
		return keys, err
	})
	switch {
	case err != nil:
		return claims, Actor{}, err
	case !good, claims.Scope != scope, h.CitizenID.IsZero(), h.Application != claims.Application, h.Generation != claims.Generation:
		return claims, Actor{}, ErrUnauthenticated
	}
	return claims, Actor{ID: "citizen " + h.CitizenID.String(), Applications: []int64{h.Application}, Citizen: h.CitizenID}, nil
}

// markTime is how long a form can be sent after it was shown.
const markTime = 24 * time.Hour

const markPurpose = "page shown: "

// MarkPage makes the proof that a form was shown, bound to what it was made for.
func (s *Service) MarkPage(of string) string {
	now := binary.BigEndian.AppendUint64(nil, uint64(consent.At(time.Now())))
	return s.tokens.Load().Sign(markPurpose+of, now)
}

// WasShown reports whether a form that is sent was shown, for the same purpose, and not
// too long ago.
func (s *Service) WasShown(ctx context.Context, mark, of string) bool {
	_, good := s.shownAt(ctx, mark, of, markTime)
	return good
}

// shownAt gives when a form was shown whose mark is sent, and false where that was not for
// the same purpose, or longer ago than life.
func (s *Service) shownAt(ctx context.Context, mark, of string, life time.Duration) (at consent.Instant, good bool) {
	payload, good := s.signed(ctx, markPurpose+of, mark)
	if !good || len(payload) != 8 {
		return 0, false
	}
	at, now := consent.Instant(binary.BigEndian.Uint64(payload)), consent.At(time.Now())
	return at, at <= now && now < at.Add(life)
}

// Person is what a page says of the citizen it is for.
type Person struct {
	Citizen consent.Citizen
	Email   string // empty for none
	Masked  string // as much of it as its owner needs to know it
	State   store.State
	Pauses  []consent.Pause
	// CanPause is whether there is direct marketing that a pause would silence.
	CanPause bool
	Catalog  consent.Catalogue
}

// Person gives what is known of the citizen that asks.
func (s *Service) Person(ctx context.Context, a Actor) (Person, error) {
	snap, err := s.ownApplication(ctx, a)
	if err != nil {
		return Person{}, err
	}
	key := consent.CitizenKey{ID: a.Citizen}
	p := Person{Catalog: snap.Catalogue}
	if p.Citizen, err = s.store.Citizen(ctx, snap.Application, key); err != nil {
		return Person{}, err
	}
	if p.State, err = s.store.State(ctx, snap.Application, key); err != nil {
		return Person{}, err
	}
	email, err := s.store.EmailOf(ctx, snap.Application, key)
	if err != nil && consent.KindOf(err) != consent.NotFound {
		return Person{}, err
	}
	if err == nil {
		p.Email, p.Masked = email.String(), email.Masked()
	}
	now := consent.At(time.Now())
	p.Pauses = p.State.Projection.Paused(now)
	p.CanPause = len(snap.PauseChanges(p.State.Projection, now, now.Add(24*time.Hour))) > 0
	return p, nil
}
