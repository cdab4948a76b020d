package core

import (
	"context"
	"errors"
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
	Code          bool // a code of six digits in place of a link
	Visitor       Visitor
}

// RequestLink sends the link, or a code, to the own page to an address where it is known,
// within limits. Whether it is, is looked up later: the answer and its time are the same.
func (s *Service) RequestLink(ctx context.Context, q LinkRequest) error {
	if err := s.visitors.take(q.Visitor.Address); err != nil {
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
	return s.store.KeepLinkRequest(ctx, store.LinkRequest{Address: address, Centre: q.Centre, Locale: q.Locale, Code: q.Code, Application: snap.Application})
}

// codeSession is for how long the token is good that a code is redeemed for.
const codeSession = time.Hour

// RedeemCode gives a token for the code that an address was sent. Whatever is wrong with
// it the answer is the same; the fifth wrong one ends it.
func (s *Service) RedeemCode(ctx context.Context, applicationID, email, code string, v Visitor) (string, error) {
	if err := s.visitors.take(v.Address); err != nil {
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
	g, good, err := s.store.RedeemCode(ctx, snap.Application, address, strings.ReplaceAll(code, " ", ""), expires) // many type it in groups
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

// RunLinks answers requests for links until ctx ends. Any number of nodes may run it.
func (s *Service) RunLinks(ctx context.Context) {
	due, stop := s.store.MailsDue()
	defer stop()
	poll := time.NewTicker(5 * time.Second)
	defer poll.Stop()
	for {
		if err := s.answerLinks(ctx); err != nil && ctx.Err() == nil {
			s.log.Warn("requests for links cannot be answered; trying again", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-due:
		case <-poll.C:
		}
	}
}

func (s *Service) answerLinks(ctx context.Context) error {
	for {
		list, err := s.store.NextLinkRequests(ctx, linkBatch)
		if err != nil {
			return err
		}
		for _, q := range list {
			if err := s.answerLink(ctx, q); err != nil {
				return err
			}
		}
		if len(list) < linkBatch {
			return nil
		}
	}
}

// maxLinks is how many mails one request leads to at most: one for each citizen who has
// the address.
const maxLinks = 3

func (s *Service) answerLink(ctx context.Context, q store.LinkRequest) error {
	snap, err := s.snapshot(ctx, q.ApplicationID)
	if err != nil || snap == nil {
		return err
	}
	known, err := s.store.CitizensByEmail(ctx, q.Application, q.Address)
	if err != nil {
		return err
	}
	var citizens []consent.ID
	for _, c := range known[:min(len(known), maxLinks)] {
		citizens = append(citizens, c.ID)
	}
	_, err = s.store.AnswerLinkRequest(ctx, q, s.mailer(snap), citizens)
	if errors.Is(err, store.ErrNoCitizen) {
		return nil // one was erased meanwhile: it is answered for the others in the next round
	}
	return err
}
