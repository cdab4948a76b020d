package core

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/internal/store"
)

// ConfirmState says what has become of what a link asks to confirm.
type ConfirmState string

// The states.
const (
	ConfirmOpen      ConfirmState = "open"
	ConfirmConfirmed ConfirmState = "confirmed"
	ConfirmExpired   ConfirmState = "expired"
	ConfirmRefused   ConfirmState = "refused"   // the citizen said no after they had signed up
	ConfirmWithdrawn ConfirmState = "withdrawn" // whoever got the mail had not signed up
	ConfirmUnknown   ConfirmState = "unknown"
)

// Confirmation is what the link of a double opt-in is about.
type Confirmation struct {
	State         ConfirmState
	ApplicationID string // empty where the link is unknown
	Locale        string
	Masked        string // the address, as its owner knows it
	Telephone     string // that was named at the sign-up, likewise; empty for none
	Items         []ConfirmItem
	At            consent.Instant // when it was confirmed, refused or withdrawn
	// Mark proves, in the form behind the button, that the page was shown: what follows a link by
	// itself has none. It is good for an hour.
	Mark      string
	Renewable bool // it has expired, and a mail with a new link can leave
}

// ErrNoProof is the answer to whoever confirms without the page, or with one of long ago:
// the page must be opened again.
var ErrNoProof = consent.Errorf(consent.Gone, "The page was not opened, or too long ago; open the link again.")

// Confirmation says what a link is about, and changes nothing.
func (s *Service) Confirmation(ctx context.Context, link string) (Confirmation, error) {
	v, err := s.store.SignUp(ctx, link)
	if errors.Is(err, store.ErrNoSignUp) {
		return Confirmation{State: ConfirmUnknown}, nil
	}
	if err != nil {
		return Confirmation{}, err
	}
	return s.confirmation(ctx, link, v)
}

func (s *Service) confirmation(ctx context.Context, link string, v store.SignUp) (Confirmation, error) {
	now := consent.At(time.Now())
	c := Confirmation{
		State: ConfirmOpen, ApplicationID: v.ApplicationID, Locale: v.Locale, Masked: v.Address.Masked(), At: v.EndedAt,
		Mark: s.MarkPage("confirm " + link),
	}
	if v.Telephone != "" {
		c.Telephone = v.Telephone.Masked()
	}
	switch {
	case v.Confirmed:
		c.State = ConfirmConfirmed
	case v.Refused:
		c.State = ConfirmRefused
	case v.Withdrawn:
		c.State = ConfirmWithdrawn
	case v.ExpiresAt <= now:
		c.State = ConfirmExpired
	}
	snap, err := s.snapshot(ctx, v.ApplicationID)
	if err != nil || snap == nil {
		return Confirmation{State: ConfirmUnknown}, err
	}
	if c.State == ConfirmExpired && v.EndedAt == 0 { // else the address is the citizen's no more
		if c.Renewable, err = s.store.MailsLeave(ctx, snap.Application, s.mailer(snap)); err != nil {
			return Confirmation{}, err
		}
	}
	if snap, err = s.wholeSnapshot(ctx, snap); err != nil { // what was asked may be archived since
		return Confirmation{}, err
	}
	statements := map[consent.Citation]consent.PermissionStatement{}
	for i := range v.Pending {
		pending := &v.Pending[i]
		if err := shown(ctx, s.store, snap.Application, consent.KindStatement, pending.Statement, statements); err != nil {
			return Confirmation{}, err
		}
		statement := ""
		if pending.Statement != nil {
			statement = snap.Say(statements[*pending.Statement].Text, v.Locale)
		}
		for _, change := range pending.Changes {
			if change.State == consent.Pending {
				purpose, channel := snap.NamesOf(consent.Key{Type: change.OptionType, ID: change.OptionID}, v.Locale)
				c.Items = append(c.Items, ConfirmItem{purpose, channel, statement})
			}
		}
	}
	return c, nil
}

// Confirm records what a link asks to confirm, by who pressed the button of its page.
// Whatever it was already it stays: a second time changes nothing.
func (s *Service) Confirm(ctx context.Context, link, mark string, v Visitor) (Confirmation, error) {
	opened, good := s.opened(ctx, link, mark)
	if !good {
		return Confirmation{}, ErrNoProof
	}
	before, err := s.store.SignUp(ctx, link)
	if errors.Is(err, store.ErrNoSignUp) {
		return Confirmation{State: ConfirmUnknown}, nil
	}
	if err != nil {
		return Confirmation{}, err
	}
	snap, err := s.snapshot(ctx, before.ApplicationID)
	if err != nil || snap == nil {
		return Confirmation{State: ConfirmUnknown}, err
	}
	evidence := inPerson(v)
	now, recorded, err := s.store.Confirm(ctx, link, store.Confirming{
		Evidence: evidence, OpenedAt: opened,
		Grant: func(pending consent.Change) (consent.Change, bool) {
			var faults consent.Faults
			grant := consent.Change{OptionType: pending.OptionType, OptionID: pending.OptionID, Justification: pending.Justification, State: consent.Granted, ValidFrom: pending.ValidFrom}
			list, _ := snap.Resolve([]consent.Change{grant}, &faults)
			return list[0], faults == nil
		},
		Submissions: func(answers []consent.Answer) []consent.Submission {
			return submissionsOf(evidence, answersInForce(snap, answers))
		},
	})
	if errors.Is(err, store.ErrNoSignUp) {
		return Confirmation{State: ConfirmUnknown}, nil
	}
	if err := s.tellAll(recorded, err); err != nil {
		return Confirmation{}, err
	}
	return s.confirmation(ctx, link, now)
}

// answersInForce gives those answers that the catalogue still takes.
func answersInForce(snap *consent.Snapshot, answers []consent.Answer) []consent.Answer {
	return slices.DeleteFunc(slices.Clone(answers), func(a consent.Answer) bool {
		var faults consent.Faults
		snap.ResolveAnswers([]consent.Answer{a}, &faults)
		return faults != nil
	})
}

// inPerson is the evidence of what a citizen did on a page of ours.
func inPerson(v Visitor) consent.Evidence {
	return consent.Evidence{
		Client: consent.InPerson, ByCitizen: true,
		Attribution: consent.Attribution{VisitorAddress: v.Address, VisitorAgent: v.Agent},
	}
}

// UndoConfirmation is for whoever got a mail and had not signed up: what was asked to
// confirm ends, and what was confirmed is undone, so that what stood before applies again.
func (s *Service) UndoConfirmation(ctx context.Context, link, mark string, v Visitor) (Confirmation, error) {
	if _, good := s.opened(ctx, link, mark); !good {
		return Confirmation{}, ErrNoProof
	}
	now, err := s.store.Withdraw(ctx, link, inPerson(v))
	if errors.Is(err, store.ErrNoSignUp) || errors.Is(err, store.ErrNoCitizen) {
		return Confirmation{State: ConfirmUnknown}, nil
	}
	if err != nil {
		return Confirmation{}, err
	}
	return s.confirmation(ctx, link, now)
}

// ResendConfirmation sends a new link in the place of one that has ended, within the
// limits of mail. Whatever comes of it the answer is the same.
func (s *Service) ResendConfirmation(ctx context.Context, link string, v Visitor) error {
	if err := s.visitors.Take(v.Address); err != nil {
		return err
	}
	old, err := s.store.SignUp(ctx, link)
	if errors.Is(err, store.ErrNoSignUp) {
		return nil
	}
	if err != nil {
		return err
	}
	snap, err := s.snapshot(ctx, old.ApplicationID)
	if err != nil || snap == nil || old.EndedAt != 0 || old.ExpiresAt > consent.At(time.Now()) {
		return err
	}
	var list []consent.Transaction
	for _, pending := range old.Pending {
		again := consent.Transaction{Evidence: inPerson(v)}
		again.ID, again.Policy, again.Statement, again.Form = store.NewID(), pending.Policy, pending.Statement, pending.Form
		again.ByCitizen, again.Client = false, consent.Platform // nobody has shown to be the owner of the address
		again.Channel, again.Campaign = pending.Channel, pending.Campaign
		for _, c := range pending.Changes {
			if c.State == consent.Pending {
				again.Changes = append(again.Changes, consent.Change{OptionType: c.OptionType, OptionID: c.OptionID, Justification: c.Justification, State: consent.Pending, ValidFrom: c.ValidFrom})
			}
		}
		var faults consent.Faults
		if again.Changes, _ = snap.Resolve(again.Changes, &faults); faults == nil && len(again.Changes) > 0 {
			list = append(list, again)
		}
	}
	if len(list) == 0 {
		return nil
	}
	inv := s.invitation(snap, nil)
	inv.Template, inv.Locale, inv.Address, inv.Answers, inv.OnlyWithMail = old.Template, old.Locale, old.Address, old.Answers, true
	inv.Telephone = old.Telephone
	recorded, _, err := s.store.RecordInviting(ctx, snap.Application, consent.CitizenKey{ID: old.CitizenID}, list, inv, store.Once{})
	if errors.Is(err, store.ErrNoCitizen) {
		return nil // erased meanwhile
	}
	return s.tellAll(recorded, err)
}

// confirmLife is for how long after the page of a link was shown its button works.
const confirmLife = time.Hour

// opened gives when the page of a link was shown whose form has the mark, and false where
// it was not, or too long ago.
func (s *Service) opened(ctx context.Context, link, mark string) (at consent.Instant, good bool) {
	return s.shownAt(ctx, mark, "confirm "+link, confirmLife)
}
