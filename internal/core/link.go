package core

import (
	"context"
	"crypto/rand"
	"errors"
	"maps"
	mathrand "math/rand/v2"
	"strings"
	"time"

	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/internal/store"
)

// LinkRequest is what somebody asks for who wants to see their own page.
type LinkRequest struct {
	ApplicationID string
	Centre        string // the reference of the page where it was asked
	Email         string
	Locale        string
	Code          bool   // a code of six digits in place of a link
	Asker         string // the number of the form, from NewAsker, which redeems a code
	Visitor       Visitor
}

// NewAsker makes the number of a form that asks for a code. Only who has the form can try
// the code, so that no stranger guesses it, or spends its tries.
func NewAsker() string { return rand.Text() }

// RequestLink sends the link, or a code, to the own page to an address where it is known,
// within limits. Whether it is, is looked up later: the answer and its time are the same.
func (s *Service) RequestLink(ctx context.Context, q LinkRequest) error {
	if err := s.visitors.Take(q.Visitor.Address); err != nil {
		return err
	}
	snap, err := s.snapshot(ctx, q.ApplicationID)
	if err != nil {
		return err
	}
	if snap == nil {
		return consent.Errorf(consent.NotFound, "There is no such application.")
	}
	var faults consent.Faults
	address, err := consent.ParseEmail(q.Email)
	if err != nil {
		faults.Add("emailAddress", "%v", err)
		return faults.Err()
	}
	return s.store.KeepLinkRequest(ctx, store.LinkRequest{Address: address, Centre: q.Centre, Locale: q.Locale, Code: q.Code, Asker: q.Asker, Application: snap.Application})
}

// TakesCodes reports whether codes of an application can be redeemed now; where too many
// wrong ones were tried within an hour a link is to be sent in place of one.
func (s *Service) TakesCodes(ctx context.Context, applicationID string) (bool, error) {
	snap, err := s.snapshot(ctx, applicationID)
	if err != nil || snap == nil {
		return false, err
	}
	return s.store.TakesCodes(ctx, snap.Application)
}

// codeSession is for how long the token is good that a code is redeemed for.
const codeSession = time.Hour

// RedeemCode gives a token for the code that an address was sent, to whoever shows the
// number of the form that asked for it. Whatever is wrong with it the answer is the same;
// the fifth wrong one ends it.
func (s *Service) RedeemCode(ctx context.Context, applicationID, email, asker, code string, v Visitor) (string, error) {
	if err := s.visitors.Take(v.Address); err != nil {
		return "", err
	}
	snap, err := s.snapshot(ctx, applicationID)
	if err != nil {
		return "", err
	}
	address, wrong := consent.ParseEmail(email)
	if snap == nil || wrong != nil {
		return "", ErrUnauthenticated
	}
	expires := consent.At(time.Now().Add(codeSession))
	g, good, err := s.store.RedeemCode(ctx, snap.Application, address, asker, strings.ReplaceAll(code, " ", ""), expires) // many type it in groups
	if err != nil {
		return "", err
	}
	if !good {
		return "", ErrUnauthenticated
	}
	return s.WriteToken(g, expires), nil
}

// linkBatch is how many requests are read at once.
const linkBatch = 50

// lateLink is a request that could not be answered.
type lateLink struct {
	tries int
	again time.Time // when it is tried again
}

// longestLinkPause is how long a request waits at most until it is tried again.
const longestLinkPause = 10 * time.Minute

// later is the request after one more attempt that failed.
func (l lateLink) later() lateLink {
	pause := min(5*time.Second<<min(l.tries, 10), longestLinkPause)
	return lateLink{l.tries + 1, time.Now().Add(pause)}
}

// linkPause gives how long requests for links wait to be answered: about a second, and not
// for the request itself. What the answer costs then falls at no time that who asked knows,
// and cannot be seen in how long their next request takes.
func linkPause() time.Duration { return time.Second/2 + mathrand.N(time.Second) }

// RunLinks answers requests for links until ctx ends. Any number of nodes may run it.
func (s *Service) RunLinks(ctx context.Context) {
	next := time.NewTimer(linkPause())
	defer next.Stop()
	late := map[consent.ID]lateLink{}
	for {
		select {
		case <-ctx.Done():
			return
		case <-next.C:
		}
		if err := s.answerLinks(ctx, late); err != nil && ctx.Err() == nil {
			s.log.Warn("requests for links cannot be read; trying again", "error", err)
		}
		next.Reset(linkPause())
	}
}

// answerLinks answers the requests that wait. One that cannot be answered holds up no
// other: it is late, and tried again after a pause that gets longer, until the store has
// forgotten it.
func (s *Service) answerLinks(ctx context.Context, late map[consent.ID]lateLink) error {
	waiting := map[consent.ID]bool{}
	for after := int64(0); ; {
		list, err := s.store.NextLinkRequests(ctx, after, linkBatch)
		if err != nil {
			return err
		}
		for _, q := range list {
			after, waiting[q.ID] = q.Number, true
			if time.Now().Before(late[q.ID].again) {
				continue
			}
			if err := s.answerLink(ctx, q); err != nil && ctx.Err() == nil {
				s.log.Warn("a request for a link cannot be answered; trying again", "request", q.ID, "application", q.ApplicationID, "error", err)
				late[q.ID] = late[q.ID].later()
			}
		}
		if len(list) < linkBatch {
			maps.DeleteFunc(late, func(id consent.ID, _ lateLink) bool { return !waiting[id] })
			return nil
		}
	}
}

// maxLinks is how many mails one request leads to at most: one for each citizen who has
// the address.
const maxLinks = 3

func (s *Service) answerLink(ctx context.Context, q store.LinkRequest) error {
	if q.Unreadable != nil {
		return q.Unreadable
	}
	snap, err := s.snapshot(ctx, q.ApplicationID)
	if err != nil {
		return err
	}
	if snap == nil || s.manageURL(snap, q.Centre) == "" { // it was there when it was asked for
		return s.store.DropLinkRequest(ctx, q)
	}
	citizens, err := s.store.HoldersOf(ctx, q.Application, q.Address, maxLinks)
	if err != nil {
		return err
	}
	err = s.store.AnswerLinkRequest(ctx, q, s.mailer(snap), citizens)
	if errors.Is(err, store.ErrNoCitizen) {
		return nil // one was erased meanwhile: it is answered for the others in the next round
	}
	return err
}
