package core

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/base32"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/internal/store"
)

// Capture is what somebody answers who shows no token. Either Email or Reference is given.
type Capture struct {
	ApplicationID string
	// Form has the answers of a template; without blocks they are Changes and Answers, for
	// which Shown says what was shown.
	Form    consent.Form
	Changes []consent.Change
	Answers []consent.Answer
	Shown   Origin

	Email, Reference          string
	Telephone                 string // with its country; empty for none
	Locale, Channel, Campaign string
	Origin                    string // of the web page; empty: one of ours
	Pending                   bool   // with a Reference: consents wait for a confirmation
	Visitor                   Visitor
}

// errNoCapture is the answer where an application takes nothing without a token.
var errNoCapture = consent.Errorf(consent.NotFound, "There is no such application, or it takes nothing without a token.")

// Capture records what somebody answers without a token, where the application has
// switched that on, from its allowed origins and our own pages. With an address consents
// become PENDING, for its owner to confirm, and nothing else is recorded before; where a
// mail would be one too many nothing is. With a reference nobody has, the answers are recorded; for one that somebody has they wait
// until they are accepted. A telephone number goes with the answers, and takes the place
// of none that is known. An idempotency key counts within the application, for the pages of
// one origin: nobody has a credential, and whoever sends the key of another learns that it
// was used.
func (s *Service) Capture(ctx context.Context, r Request, v Capture) error {
	snap, err := s.capturingFor(ctx, v)
	if err != nil {
		return cmp.Or(r.Found.Err(), err) // what cannot be read may be what names the application
	}
	once := r.once(Actor{ID: "nobody in " + snap.ApplicationID}, "capture from "+v.Origin)
	faults := r.Found
	var address consent.Email
	switch {
	case faults.At("emailAddress"), faults.At("uniqueReference"): // it was given, and cannot be read
	case v.Email == "" && v.Reference == "":
		faults.Add("uniqueReference", "either uniqueReference or emailAddress must be given")
	case v.Email != "" && v.Reference != "":
		faults.Add("uniqueReference", "only one of uniqueReference and emailAddress may be given")
	case v.Reference != "":
		consent.CheckText(&faults, "uniqueReference", v.Reference, 1, 100)
	default:
		if address, err = consent.ParseEmail(v.Email); err != nil {
			faults.Add("emailAddress", "%v", err)
		}
	}
	var telephone consent.Telephone
	if v.Telephone != "" && !faults.At("telephone") {
		if telephone, err = consent.ParseTelephone(v.Telephone, ""); err != nil {
			faults.Add("telephone", "%v", err)
		}
	}
	v.Pending = v.Pending || v.Email != ""
	answered, err := s.captured(ctx, snap, v, &faults)
	asked := onlyPending(answered.transactions)
	if err == nil && v.Email != "" && faults == nil && len(asked) == 0 && len(answered.answers) > 0 {
		faults.Add(v.answeredIn(), "must give a consent: with an e-mail address preferences are recorded once it is confirmed, and not alone")
	}
	if err == nil {
		err = faults.Err()
	}
	if err == nil { // what cannot be recorded costs a visitor nothing
		err = s.visitors.Take(v.Visitor.Address)
	}
	if err != nil {
		return err
	}
	inv := s.invitation(snap, answered.evidence.Form)
	inv.Locale = cmp.Or(inv.Locale, v.Locale)
	if address == "" {
		out := store.Captured{Transactions: answered.transactions, Submissions: submissionsOf(answered.evidence, answered.answers), Telephone: telephone}
		recorded, err := s.store.Capture(ctx, snap.Application, v.Reference, out, inv, once)
		return s.tellAll(recorded, err)
	}
	inv.Address, inv.Answers, inv.Telephone, inv.OnceAMail = address, answered.answers, telephone, true
	return s.captureByMail(ctx, snap, asked, inv, once)
}

// captured is what was answered, to be recorded.
type captured struct {
	evidence     consent.Evidence
	transactions []consent.Transaction
	answers      []consent.Answer
}

// captured reads what was answered: a form, or changes and answers.
func (s *Service) captured(ctx context.Context, snap *consent.Snapshot, v Capture, faults *consent.Faults) (out captured, err error) {
	actor := Actor{ID: consent.Platform.ID, Name: consent.Platform.Name}
	origin := v.Shown
	origin.ObtainedAt, origin.Channel, origin.Campaign = 0, cmp.Or(v.Channel, origin.Channel), cmp.Or(v.Campaign, origin.Campaign)
	origin.Attribution = consent.Attribution{Source: v.Origin, VisitorAddress: v.Visitor.Address, VisitorAgent: v.Visitor.Agent}
	if v.Form.Blocks != nil {
		if v.Email != "" {
			onlyConsents(v.Form, faults)
		}
		form, err := s.resolveForm(ctx, snap, actor, FormAnswer{Form: v.Form, Citizen: consent.CitizenKey{ExternalRef: v.Reference}, Origin: origin, Pending: v.Pending}, faults)
		out.evidence = form.evidence
		nobody, now := &consent.Projection{}, consent.At(time.Now())
		form.Agree(nobody, faults)
		out.transactions, _ = form.records(nobody, now)
		out.answers = form.Against(nobody, now).Answers // a question that was left alone answers nothing
		return out, err
	}
	if n := len(v.Changes) + len(v.Answers); n == 0 || n > maxChanges {
		faults.Add("changes", "must hold 1 to %d answers, together with preferences", maxChanges)
		v.Changes, v.Answers = nil, nil
	}
	if v.Pending {
		v.Changes = pendingOf(v.Changes, v.Email != "", faults)
	}
	out.evidence = origin.evidence(actor, snap, faults)
	transaction := consent.Transaction{Evidence: out.evidence}
	transaction.ID = store.NewID()
	transaction.Changes, _ = snap.Resolve(v.Changes, faults)
	if len(transaction.Changes) > 0 {
		out.transactions = []consent.Transaction{transaction}
	}
	out.answers = snap.ResolveAnswers(v.Answers, faults)
	return out, nil
}

// answeredIn is the field of a capture in which its answers are.
func (v *Capture) answeredIn() string {
	if v.Form.Blocks != nil {
		return "blocks"
	}
	return "changes"
}

// onlyPending leaves what waits for a confirmation.
func onlyPending(list []consent.Transaction) []consent.Transaction {
	var out []consent.Transaction
	for _, t := range list {
		t.Changes = slices.DeleteFunc(slices.Clone(t.Changes), func(c consent.Change) bool { return c.State != consent.Pending })
		if len(t.Changes) > 0 {
			out = append(out, t)
		}
	}
	return out
}

// captureByMail records what is PENDING for whoever has an address, or for somebody new.
func (s *Service) captureByMail(ctx context.Context, snap *consent.Snapshot, list []consent.Transaction, inv store.Invitation, once store.Once) error {
	if len(list) == 0 {
		return nil // there is nothing to confirm
	}
	known, err := s.store.HoldersOf(ctx, snap.Application, inv.Address, 1)
	if err != nil {
		return err
	}
	key := consent.CitizenKey{ExternalRef: newReference()}
	if len(known) > 0 {
		key = consent.CitizenKey{ID: known[0]}
	}
	recorded, invited, err := s.store.RecordInviting(ctx, snap.Application, key, list, inv, once)
	if invited.NoWay {
		s.log.Warn("a sign-up cannot be confirmed: "+noWayWarning, "application", snap.ApplicationID)
	}
	if invited.TooMany {
		s.mailWithheld(snap.ApplicationID)
	}
	return s.tellAll(recorded, err)
}

func (s *Service) tellAll(list []store.Recorded, err error) error {
	for _, r := range list {
		if err == nil {
			_, err = s.tell(Recorded{Recorded: r}, nil)
		}
	}
	return err
}

// newReference makes the reference of a citizen of whom nothing but an address is known.
func newReference() string {
	raw := make([]byte, 10)
	rand.Read(raw) // never fails; see its documentation
	return "signup-" + strings.ToLower(base32.StdEncoding.EncodeToString(raw))
}

// pendingOf gives what waits for a confirmation: a consent that is given. With only set a
// refusal is nothing, and nothing else may be there.
func pendingOf(changes []consent.Change, only bool, faults *consent.Faults) []consent.Change {
	var list []consent.Change
	for i, c := range changes {
		switch {
		case c.Justification == consent.Consent && (c.State == consent.Granted || c.State == consent.Pending):
			c.State = consent.Pending
			list = append(list, c)
		case !only, c.Justification.States() == nil: // whose fault is told where it stands
			list = append(list, c)
		case c.Justification == consent.Consent && c.State == consent.Denied:
		default:
			faults.Add("changes["+strconv.Itoa(i)+"].state", "must be PENDING, on the lawful basis consent: with an e-mail address nothing else is recorded")
		}
	}
	return list
}

// onlyConsents finds what a form with an e-mail address answers and nobody can confirm: an
// objection, or that it is taken back. What is not answered, and a consent that is not
// given, is nothing.
func onlyConsents(f consent.Form, faults *consent.Faults) {
	for i, b := range f.Blocks {
		for k, o := range b.Options {
			if o.Selected != nil && o.Justification == consent.LegitimateInterest {
				faults.Add(fmt.Sprintf("blocks[%d].options[%d].selected", i, k), "must be null: with an e-mail address nothing is recorded but consents, which its owner confirms; an objection needs another way")
			}
		}
	}
}

// Captures lists what waits to be accepted of an application, the oldest first, after one
// by its number, and how many there are.
func (s *Service) Captures(ctx context.Context, a Actor, applicationID string, after int64, limit, offset int) ([]store.ParkedCapture, int64, error) {
	snap, err := s.authorise(ctx, a, consent.ConsentWrite, applicationID)
	if err != nil {
		return nil, 0, err
	}
	return s.store.ParkedCaptures(ctx, snap.Application, after, limit, offset)
}

// AcceptCapture records what waits, as it was obtained, by the actor. Who has an address is
// asked to confirm what of it is PENDING.
func (s *Service) AcceptCapture(ctx context.Context, a Actor, id consent.ID) error {
	if err := a.may(consent.ConsentWrite); err != nil {
		return err
	}
	recorded, err := s.store.DecideCapture(ctx, a.Applications, id, a.ID, func(applicationID string, v *store.Captured) (store.Invitation, error) {
		snap, err := s.snapshot(ctx, applicationID)
		if err == nil && snap == nil {
			err = store.ErrNoCapture
		}
		if err != nil {
			return store.Invitation{}, err
		}
		var form *consent.ShownForm
		for i := range v.Transactions {
			v.Transactions[i].Client, form = a.recorder(), v.Transactions[i].Form
		}
		for i := range v.Submissions {
			v.Submissions[i].Client = a.recorder()
		}
		return s.invitation(snap, form), nil
	})
	return s.tellAll(recorded, err)
}

// RejectCapture ends what waits without a record.
func (s *Service) RejectCapture(ctx context.Context, a Actor, id consent.ID) error {
	if err := a.may(consent.ConsentWrite); err != nil {
		return err
	}
	_, err := s.store.DecideCapture(ctx, a.Applications, id, a.ID, nil)
	return err
}
