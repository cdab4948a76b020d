package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/opencpm/opencpm/internal/consent"
)

// Invitation asks the owner of an address to confirm what is recorded as PENDING, by a
// mail that is made ready in the same commit.
type Invitation struct {
	Mailer
	Template string // the reference of what was answered, empty for none
	Locale   string
	LinkEnd  func(sent consent.Instant) consent.Instant
	// Address is that of a capture, which becomes the citizen's where they have none. Empty
	// means the citizen's own.
	Address consent.Email
	// Answers are recorded when the rest is confirmed.
	Answers []consent.Answer
	// Telephone is what a stranger named beside the address. It becomes the citizen's when
	// the rest is confirmed, where they have none then.
	Telephone consent.Telephone
	// OnlyWithMail records nothing where no mail can be made.
	OnlyWithMail bool
	// OnceAMail records nothing where a mail would be one too many: who asks is a stranger,
	// and could fill the history of anybody whose address they know.
	OnceAMail bool
	// Stays lets what is PENDING have no end where nobody is asked to confirm it: the client
	// that records it may have another way.
	Stays bool
}

// Invited says what became of an invitation.
type Invited struct {
	Mail    consent.ID // zero where none was made
	NoWay   bool       // mails of the application can leave neither by a mail server nor by a subscription
	TooMany bool       // the address was sent as many as it may be
}

// invitation is an Invitation while its citizen is written.
type invitation struct {
	*Invitation
	address      consent.Email
	index        []byte
	way          mailWay // empty where no mail is made
	subscription int64
	until        consent.Instant // when what is PENDING ends, zero where it does not
	created      bool            // nothing but sign-ups has been recorded of the citizen, who was made by one
}

// signUpState says what has become of a sign-up.
type signUpState string

const (
	signUpOpen      signUpState = "open"
	signUpConfirmed signUpState = "confirmed"
	signUpRefused   signUpState = "refused"
	signUpWithdrawn signUpState = "withdrawn"
)

// signUpContent is what is sealed of a sign-up.
type signUpContent struct {
	Address      consent.Email              `json:"address"`
	Locale       string                     `json:"locale"`
	Transactions []consent.ID               `json:"pending"`
	Until        map[string]consent.Instant `json:"until,omitempty"` // what was asked of an option that ends with the link meanwhile
	Answers      []consent.Answer           `json:"answers,omitempty"`
	Confirmed    []consent.ID               `json:"confirmed,omitempty"`
	Lifted       []consent.ID               `json:"lifted,omitempty"` // entries of the do-not-contact list, with the confirmation
	Submitted    int                        `json:"submitted,omitzero"`
	Telephone    consent.Telephone          `json:"telephone,omitempty"`
	Taken        bool                       `json:"taken,omitempty"` // the telephone number became the citizen's
}

func (c *citizenRow) signUpContext(id consent.ID) string { return c.context("sign-up " + id.String()) }

// RecordInviting is Record for transactions of which some answers are PENDING, which end
// with the link by which they can be confirmed. Where no mail is made they end when its
// link would have, unless the invitation says that they stay.
func (s *Store) RecordInviting(ctx context.Context, application int64, key consent.CitizenKey, list []consent.Transaction, inv Invitation, once Once) ([]Recorded, Invited, error) {
	var out struct {
		Recorded []Recorded
		Invited  Invited
	}
	w := s.inviting(application, key, list, inv, &out.Recorded, &out.Invited)
	w.create = true
	once.guard(w, &out, func() { repeat(out.Recorded) })
	whole := &write{citizens: []*citizenWrite{w}}
	if inv.OnceAMail { // it is refused when somebody may have been created already: then all is rolled back
		whole.run = func(context.Context, *tx) error { return nil }
	}
	switch err := s.do(ctx, whole); {
	case errors.Is(err, errOnceAMail):
		return nil, Invited{TooMany: true}, nil
	case err != nil:
		return nil, Invited{}, err
	}
	return out.Recorded, out.Invited, nil
}

var errOnceAMail = consent.Errorf(consent.Throttled, "The address was sent as many mails as it may be.")

// repeat says of what was recorded that it was by an earlier request.
func repeat(list []Recorded) {
	for i := range list {
		list[i].Repeated = true
	}
}

// inviting is the write of transactions and of the mail that asks to confirm what of them
// is PENDING.
func (s *Store) inviting(application int64, key consent.CitizenKey, list []consent.Transaction, inv Invitation, out *[]Recorded, invited *Invited) *citizenWrite {
	return &citizenWrite{application: application, key: key, apply: func(ctx context.Context, t *tx, c *citizenRow, created bool) error {
		*out, *invited = nil, Invited{}
		p, err := c.profile(s.keys)
		if err != nil {
			return err
		}
		transactions := slices.Clone(list)
		return s.invite(ctx, t, c, created, &inv, transactions, invited, func() error {
			before, err := c.record(t.now, transactions, nil)
			for _, v := range transactions {
				*out = append(*out, c.recordedOf(p.ExternalRef, v, before, t.now))
			}
			return err
		})
	}}
}

// invite lets record write transactions, of which what is PENDING ends with the link in
// the mail that is made ready with them. Where nothing is PENDING it does nothing else.
func (s *Store) invite(ctx context.Context, t *tx, c *citizenRow, created bool, inv *Invitation, list []consent.Transaction, invited *Invited, record func() error) error {
	if inv == nil || !slices.ContainsFunc(list, AsksToConfirm) {
		return record()
	}
	v, err := s.prepareInvitation(ctx, t, c, inv, invited)
	if err != nil || inv.OnlyWithMail && v.way == "" {
		return err
	}
	if inv.OnceAMail && invited.TooMany {
		return errOnceAMail // so that nobody is created for it either
	}
	// A client that creates a citizen knows them.
	if v.created, err = t.onlySignUps(ctx, c, created && list[0].Client.ID == consent.Platform.ID); err != nil {
		return err
	}
	content := signUpContent{Address: v.address, Locale: inv.Locale, Answers: inv.Answers, Telephone: inv.Telephone, Until: map[string]consent.Instant{}}
	var asked []consent.Change
	for i := range list {
		if !AsksToConfirm(list[i]) {
			continue
		}
		content.Transactions = append(content.Transactions, list[i].ID)
		list[i].Changes = slices.Clone(list[i].Changes)
		for k := range list[i].Changes {
			change := &list[i].Changes[k]
			if change.State != consent.Pending {
				continue
			}
			asked = append(asked, *change)
			if change.ValidUntil != 0 {
				content.Until[untilKey(*change)] = change.ValidUntil
			}
			if v.until != 0 && (change.ValidUntil == 0 || change.ValidUntil > v.until) {
				change.ValidUntil = v.until
			}
		}
	}
	if err := record(); err != nil {
		return err
	}
	switch {
	case v.way != "":
		invited.Mail, err = s.signUp(ctx, t, c, v, content, asked, list[0].Client.ID)
	case v.created:
		err = t.keepSignUp(ctx, c, v, NewID(), nil, nil, nil) // which nobody can confirm, and which is to be purged
	}
	return err
}

// AsksToConfirm reports whether something in a transaction is PENDING.
func AsksToConfirm(t consent.Transaction) bool {
	return slices.ContainsFunc(t.Changes, func(c consent.Change) bool { return c.State == consent.Pending })
}

func untilKey(c consent.Change) string { return string(c.OptionType) + " " + c.OptionID }

// prepareInvitation finds the address and the way of the mail, and when its link ends.
func (s *Store) prepareInvitation(ctx context.Context, t *tx, c *citizenRow, inv *Invitation, invited *Invited) (v invitation, err error) {
	v.Invitation, v.index = inv, []byte{}
	if !inv.Stays {
		v.until = inv.LinkEnd(t.now)
	}
	p, _, err := s.wholeProfile(ctx, t, c)
	if err != nil {
		return v, err
	}
	v.address, _ = consent.ParseEmail(p.Details.Email)
	switch {
	case inv.Address != "" && p.Details.Email == "":
		if err := t.setEmail(ctx, c, inv.Address); err != nil {
			return v, err
		}
		v.address = inv.Address
	case inv.Address != "":
		v.address = inv.Address // by which the citizen was found
	case v.address == "":
		return v, nil // nobody can be asked
	}
	v.index = s.addressIndex(c.application, v.address)
	way, subscription, err := t.mailWay(ctx, c.application, inv.Mailer)
	if err != nil || way == "" {
		invited.NoWay = true
		return v, err
	}
	may, err := t.mayInvite(ctx, c.application, v.index, s.addressIndex(c.application, v.address.Mailbox()), inv.Template)
	if err != nil {
		return v, err
	}
	if v.until = inv.LinkEnd(t.now); may {
		v.way, v.subscription = way, subscription
		return v, nil
	}
	// The link that was sent last is the one by which it can still be confirmed.
	invited.TooMany = true
	err = t.row(ctx, `SELECT expires_at FROM sign_up WHERE citizen = $1 AND address = $2 AND template = $3 AND state = 'open' AND link IS NOT NULL AND expires_at > $4 ORDER BY id DESC LIMIT 1`,
		c.id, v.index, inv.Template, t.now).Scan(&v.until)
	if errors.Is(err, sql.ErrNoRows) {
		err = nil
	}
	return v, err
}

// onlySignUps reports whether nothing but sign-ups has been recorded of a citizen, who was
// created for the first of them.
func (t *tx) onlySignUps(ctx context.Context, c *citizenRow, created bool) (bool, error) {
	if created || c.seq == 0 {
		return created, nil
	}
	var seq, only int64
	err := t.row(ctx, `SELECT seq, created FROM sign_up WHERE citizen = $1 ORDER BY id DESC LIMIT 1`, c.id).Scan(&seq, &only)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	if err != nil || only == 0 {
		return false, err
	}
	return t.nothingSince(ctx, c, seq)
}

// nothingSince reports whether nothing was recorded of a citizen after a record of theirs.
// What the do-not-contact list says of the address is nothing that they said.
func (t *tx) nothingSince(ctx context.Context, c *citizenRow, seq int64) (bool, error) {
	if slices.ContainsFunc(c.records, func(r record) bool { return r.seq > seq && r.kind != recordSuppression }) {
		return false, nil
	}
	var n int
	err := t.row(ctx, `SELECT count(*) FROM ledger WHERE citizen = $1 AND seq > $2 AND kind <> $3`, c.id, seq, recordSuppression).Scan(&n)
	return n == 0, err
}

// countSignUps notes that all that is recorded of a citizen until now are sign-ups.
func (t *tx) countSignUps(ctx context.Context, c *citizenRow) error {
	_, err := t.exec(ctx, `UPDATE sign_up SET seq = $2 WHERE citizen = $1`, c.id, c.seq)
	return err
}

// adopt keeps a citizen who was created by a sign-up: a client knows them now.
func (t *tx) adopt(ctx context.Context, c *citizenRow) error {
	_, err := t.exec(ctx, `UPDATE sign_up SET created = 0 WHERE citizen = $1 AND created = 1`, c.id)
	return err
}

// signUp makes the mail of an invitation and notes what its link confirms.
func (s *Store) signUp(ctx context.Context, t *tx, c *citizenRow, v invitation, content signUpContent, asked []consent.Change, by string) (mail consent.ID, err error) {
	secret, hash := newLink()
	g, err := s.groundsOf(ctx, t, c, consent.DoubleOptInEmail, by)
	if err != nil {
		return mail, err
	}
	g.Address, g.Expires, g.Link, g.Locale, g.Template, g.Changes = v.address, v.until, secret, v.Locale, v.Template, asked
	number, err := t.post(ctx, c, v.Mailer, v.way, v.subscription, g)
	if err != nil {
		return mail, err
	}
	id := NewID()
	sealed, err := c.sealSignUp(id, content)
	if err != nil {
		return mail, err
	}
	return g.ID, t.keepSignUp(ctx, c, v, id, number, hash, sealed)
}

// keepSignUp notes a sign-up, with the mail by whose link it can be confirmed where one
// was made.
func (t *tx) keepSignUp(ctx context.Context, c *citizenRow, v invitation, id consent.ID, mail, link, sealed any) error {
	created := 0
	if v.created {
		created = 1
	}
	_, err := t.exec(ctx, `INSERT INTO sign_up (public_id, application, citizen, mail, link, template, address, state, created, seq, sealed, created_at, expires_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)`,
		id[:], c.application, c.id, mail, link, v.Template, v.index, string(signUpOpen), created, c.seq, sealed, t.now, v.until)
	return err
}

func (c *citizenRow) sealSignUp(id consent.ID, content signUpContent) ([]byte, error) {
	plain, err := json.Marshal(content)
	if err != nil {
		return nil, err
	}
	return c.key.Seal(c.signUpContext(id), plain), nil
}

// groundsOf gives what any mail to a citizen is made of.
func (s *Store) groundsOf(ctx context.Context, t *tx, c *citizenRow, kind consent.EmailKind, by string) (MailGrounds, error) {
	p, _, err := s.wholeProfile(ctx, t, c)
	return MailGrounds{
		Kind: kind, ID: NewID(), CitizenID: c.publicID, ExternalRef: p.ExternalRef, Details: p.Details,
		Sequence: c.version, ChangedBy: by, At: t.now / stampUnit * stampUnit,
	}, err
}

// SignUp is what the link of a double opt-in is about.
type SignUp struct {
	ID            consent.ID
	Application   int64
	ApplicationID string
	CitizenID     consent.ID
	Template      string
	Address       consent.Email
	Locale        string
	Pending       []consent.Transaction // what was answered
	Answers       []consent.Answer      // that are recorded with it
	Telephone     consent.Telephone     // that was named with it
	Mail          Mail
	Confirmed     bool
	Refused       bool // it was refused by the citizen after it was answered
	Withdrawn     bool // by whoever got the mail
	CreatedAt     consent.Instant
	ExpiresAt     consent.Instant
	EndedAt       consent.Instant // zero while it can be confirmed, or has expired and can be asked for anew

	number int64
}

// ErrNoSignUp is the answer for a link that is not known, or not any more.
var ErrNoSignUp = consent.Errorf(consent.NotFound, "There is no such link.")

// SignUp reads what a link is about.
func (s *Store) SignUp(ctx context.Context, link string) (SignUp, error) {
	v, _, err := s.findSignUp(ctx, s.read, `u.link = $1`, linkHash(link))
	return v, err
}

func (s *Store) findSignUp(ctx context.Context, q querier, where string, arg any) (v SignUp, content signUpContent, err error) {
	var c citizenRow
	var sealed []byte
	var state signUpState
	var way mailWay
	m := &v.Mail
	err = q.QueryRowContext(ctx, `SELECT u.id, u.public_id, u.application, a.public_id, u.citizen, c.public_id, k.wrapped, u.template, u.state, u.sealed, u.created_at, u.expires_at, u.ended_at, `+mailColumns+`
		FROM sign_up u JOIN application a ON a.id = u.application JOIN citizen c ON c.id = u.citizen JOIN mail m ON m.id = u.mail
			LEFT JOIN citizen_key k ON k.citizen = u.citizen WHERE `+where, arg).
		Scan(&v.number, &v.ID, &v.Application, &v.ApplicationID, &c.id, &v.CitizenID, &c.wrapped, &v.Template, &state, &sealed, &v.CreatedAt, &v.ExpiresAt, &v.EndedAt,
			&m.ID, &m.Kind, &way, &m.State, &m.CreatedAt, &m.ExpiresAt, &m.EndedAt, &m.Attempts, &m.Reason)
	switch {
	case errors.Is(err, sql.ErrNoRows), err == nil && (c.wrapped == nil || sealed == nil):
		return SignUp{}, content, ErrNoSignUp
	case err != nil:
		return SignUp{}, content, s.classify(err)
	}
	m.Webhook, c.publicID = way == byWebhook, v.CitizenID
	v.Confirmed, v.Refused, v.Withdrawn = state == signUpConfirmed, state == signUpRefused, state == signUpWithdrawn
	if c.key, err = s.keys.Unwrap(c.context("citizen key"), c.wrapped); err != nil {
		return SignUp{}, content, fmt.Errorf("key of citizen %s: %w", c.publicID, err)
	}
	plain, err := c.key.Open(c.signUpContext(v.ID), sealed)
	if err == nil {
		err = json.Unmarshal(plain, &content)
	}
	if err != nil {
		return SignUp{}, content, fmt.Errorf("sign-up %s: %w", v.ID, err)
	}
	v.Address, v.Locale, v.Answers, v.Telephone = content.Address, content.Locale, content.Answers, content.Telephone
	for _, pending := range content.Transactions {
		r := record{}
		var body string
		err := q.QueryRowContext(ctx, `SELECT seq, recorded_at, kind, body, sealed FROM ledger WHERE id = $1`, pending[:]).Scan(&r.seq, &r.recordedAt, &r.kind, &body, &r.sealed)
		if err != nil {
			return SignUp{}, content, s.classify(err)
		}
		r.id, r.body = pending, []byte(body)
		e, err := r.entry(&c)
		if err != nil {
			return SignUp{}, content, err
		}
		v.Pending = append(v.Pending, *e.Transaction)
	}
	return v, content, nil
}

// Confirming is what confirms a sign-up.
type Confirming struct {
	Evidence consent.Evidence // of the act; what was shown is that of the sign-up
	OpenedAt consent.Instant  // when the page with the button was shown
	// Grant gives the change that a PENDING one becomes, and false where the catalogue has
	// it no more.
	Grant func(pending consent.Change) (consent.Change, bool)
	// Submissions makes submissions of the answers that waited.
	Submissions func([]consent.Answer) []consent.Submission
}

// Confirm records what a link confirms, once. What was refused after it had been answered
// stays refused; where that is all of it the sign-up ends as refused. What the sign-up is
// then is given back, whether it changed or not, with what was recorded just now.
func (s *Store) Confirm(ctx context.Context, link string, by Confirming) (SignUp, []Recorded, error) {
	v, _, err := s.findSignUp(ctx, s.read, `u.link = $1`, linkHash(link))
	if err != nil {
		return SignUp{}, nil, err
	}
	var out []Recorded
	err = s.do(ctx, &write{citizens: []*citizenWrite{{application: v.Application, key: consent.CitizenKey{ID: v.CitizenID}, apply: func(ctx context.Context, t *tx, c *citizenRow, _ bool) error {
		out = nil
		found, content, err := s.findSignUp(ctx, t, `u.id = $1`, v.number)
		if err != nil || found.EndedAt != 0 || found.ExpiresAt <= t.now {
			return err
		}
		granted, err := s.granted(ctx, t, c, found, content, by)
		if err != nil {
			return err
		}
		if granted == nil {
			return t.endSignUp(ctx, c, found, content, signUpRefused)
		}
		for _, transaction := range granted {
			var r Recorded
			if err := s.recording(found.Application, consent.CitizenKey{ID: found.CitizenID}, transaction, &r).apply(ctx, t, c, false); err != nil {
				return err
			}
			out, content.Confirmed = append(out, r), append(content.Confirmed, transaction.ID)
			lifted, err := t.liftAfter(ctx, c, found.Address, transaction)
			if err != nil {
				return err
			}
			content.Lifted = append(content.Lifted, lifted...)
		}
		if content.Taken, err = t.offerTelephone(ctx, c, content.Telephone); err != nil {
			return err
		}
		if list := by.Submissions(content.Answers); len(list) > 0 {
			var submitted Submitted
			if err := s.submission(found.Application, consent.CitizenKey{ID: found.CitizenID}, list, &submitted).apply(ctx, t, c, false); err != nil {
				return err
			}
		}
		if _, err := t.exec(ctx, `DELETE FROM mail_limit WHERE application = $1 AND address = $2 AND template = $3`,
			found.Application, s.addressIndex(found.Application, found.Address), found.Template); err != nil {
			return err
		}
		return t.endSignUp(ctx, c, found, content, signUpConfirmed)
	}}}})
	if errors.Is(err, ErrNoCitizen) {
		return SignUp{}, nil, ErrNoSignUp // erased meanwhile
	}
	if err != nil {
		return SignUp{}, nil, err
	}
	v, err = s.SignUp(ctx, link)
	return v, out, err
}

// granted makes the transactions that confirm a sign-up, none where all was refused
// meanwhile.
func (s *Store) granted(ctx context.Context, t *tx, c *citizenRow, v SignUp, content signUpContent, by Confirming) ([]consent.Transaction, error) {
	records, err := c.ledger(ctx, t)
	if err != nil {
		return nil, err
	}
	whole, err := c.fold(records, 0)
	if err != nil {
		return nil, err
	}
	var list []consent.Transaction
	for i := range v.Pending {
		pending := &v.Pending[i]
		if _, err := c.revertible(records, pending.ID); err != nil {
			if isRefusal(err) {
				continue // it was undone
			}
			return nil, err
		}
		transaction := consent.Transaction{Evidence: by.Evidence}
		transaction.ID, transaction.Policy, transaction.Statement, transaction.Form = NewID(), pending.Policy, pending.Statement, pending.Form
		transaction.Channel, transaction.Campaign = pending.Channel, pending.Campaign
		transaction.Confirms = &consent.Confirmed{SignUp: v.ID, TransactionID: pending.ID, Mail: v.Mail.ID, OpenedAt: by.OpenedAt}
		if v.Mail.State == consent.EmailSent {
			transaction.Confirms.SentAt = v.Mail.EndedAt
		}
		for _, change := range pending.Changes {
			if change.State != consent.Pending || refusedSince(whole, change, &pending.Evidence) {
				continue
			}
			if grant, known := by.Grant(change); known {
				grant.ValidUntil = content.Until[untilKey(change)]
				transaction.Changes = append(transaction.Changes, grant)
			}
		}
		if len(transaction.Changes) > 0 {
			list = append(list, transaction)
		}
	}
	return list, nil
}

// refusedSince reports whether what a change answers for was refused, in whole or in part,
// after it.
func refusedSince(p *consent.Projection, change consent.Change, e *consent.Evidence) bool {
	return p.RefusedAfter(consent.Key{Type: change.OptionType, ID: change.OptionID}, e) ||
		slices.ContainsFunc(change.Covers, func(m consent.Cover) bool {
			return p.RefusedAfter(consent.Key{Type: consent.OptionSingle, ID: m.OptionID}, e)
		})
}

// liftAfter takes the address, which is still the citizen's, off the do-not-contact lists
// of what its owner granted (rule 9), and gives the entries.
func (t *tx) liftAfter(ctx context.Context, c *citizenRow, address consent.Email, granted consent.Transaction) ([]consent.ID, error) {
	p, _, err := t.store.wholeProfile(ctx, t, c)
	if err != nil {
		return nil, err
	}
	if now, err := consent.ParseEmail(p.Details.Email); err != nil || now.Contact().Key != address.Contact().Key {
		return nil, nil //nolint:nilerr // there is no address that could be on a list
	}
	var channels []string
	for _, change := range granted.Changes {
		channels = append(channels, change.Medium)
		for _, m := range change.Covers {
			channels = append(channels, m.Medium)
		}
	}
	return t.liftSuppressions(ctx, c, consent.EmailContact, channels, granted.Client, "double opt-in")
}

// endSignUp notes how a sign-up ended, by its link.
func (t *tx) endSignUp(ctx context.Context, c *citizenRow, v SignUp, content signUpContent, state signUpState) error {
	sealed, err := c.sealSignUp(v.ID, content)
	if err != nil {
		return err
	}
	if err := t.useMail(ctx, v.number); err != nil {
		return err
	}
	_, err = t.exec(ctx, `UPDATE sign_up SET state = $2, ended_at = $3, sealed = $4 WHERE id = $1`, v.number, string(state), t.now, sealed)
	return err
}

// Withdraw undoes what a link asked to confirm, and what it confirmed, for somebody who
// did not sign up: what had been displaced applies again, and the do-not-contact list says
// what it had said. The reversions have the evidence.
func (s *Store) Withdraw(ctx context.Context, link string, e consent.Evidence) (SignUp, error) {
	v, _, err := s.findSignUp(ctx, s.read, `u.link = $1`, linkHash(link))
	if err != nil {
		return SignUp{}, err
	}
	err = s.do(ctx, &write{citizens: []*citizenWrite{{application: v.Application, key: consent.CitizenKey{ID: v.CitizenID}, apply: func(ctx context.Context, t *tx, c *citizenRow, _ bool) error {
		found, content, err := s.findSignUp(ctx, t, `u.id = $1`, v.number)
		if err != nil || found.Withdrawn || found.Refused {
			return err
		}
		only, err := t.onlySignUps(ctx, c, false)
		if err != nil {
			return err
		}
		// First, so that nothing is permitted in between.
		if err := t.relist(ctx, c, content.Lifted, e.Client); err != nil {
			return err
		}
		for _, undone := range append(slices.Clone(content.Confirmed), content.Transactions...) {
			reversion := consent.Transaction{Evidence: e, Reverts: undone}
			reversion.ID = NewID()
			var r Recorded
			if err := s.reverting(found.Application, found.CitizenID, reversion, &r).apply(ctx, t, c, false); err != nil && !isRefusal(err) {
				return err // what was undone before stays so
			}
		}
		if content.Taken {
			if err := t.takeTelephone(ctx, c, content.Telephone); err != nil {
				return err
			}
		}
		if err := t.endSignUp(ctx, c, found, content, signUpWithdrawn); err != nil || !only {
			return err
		}
		return t.countSignUps(ctx, c) // one that was undone is no reason to keep the citizen
	}}}})
	if err != nil {
		return SignUp{}, err
	}
	return s.SignUp(ctx, link)
}

// keepUnconfirmed is for how long a sign-up that nobody confirmed is kept.
const keepUnconfirmed = 14 * 24 * time.Hour

// PurgeSignUps forgets sign-ups that nobody has confirmed for two weeks, and erases the
// citizens of whom nothing else was ever recorded, and whom no client has changed. more says that there are others.
func (s *Store) PurgeSignUps(ctx context.Context, limit int) (more bool, err error) {
	type unconfirmed struct {
		number, application int64
		citizen             consent.ID
	}
	list, err := collect(ctx, s.fixed, func(r *sql.Rows) (v unconfirmed, err error) {
		return v, r.Scan(&v.number, &v.application, &v.citizen)
	}, `SELECT u.id, u.application, c.public_id FROM sign_up u JOIN citizen c ON c.id = u.citizen WHERE u.state <> 'confirmed' AND u.created_at <= $1 ORDER BY u.created_at LIMIT $2`,
		now().Add(-keepUnconfirmed), limit)
	if err != nil {
		return false, s.classify(err)
	}
	for _, v := range list {
		err := s.do(ctx, &write{citizens: []*citizenWrite{{application: v.application, key: consent.CitizenKey{ID: v.citizen}, bulk: true, apply: func(ctx context.Context, t *tx, c *citizenRow, _ bool) error {
			var last int64
			err := t.row(ctx, `SELECT id FROM sign_up WHERE citizen = $1 ORDER BY id DESC LIMIT 1`, c.id).Scan(&last)
			if errors.Is(err, sql.ErrNoRows) {
				return nil // another node was first
			}
			if err != nil {
				return err
			}
			only, err := t.onlySignUps(ctx, c, false)
			if err != nil {
				return err
			}
			if last == v.number && only {
				if err := s.erasure(v.application, consent.CitizenKey{ID: v.citizen}, consent.Platform.ID).apply(ctx, t, c, false); err != nil {
					return err
				}
			}
			_, err = t.exec(ctx, `DELETE FROM sign_up WHERE id = $1`, v.number)
			return err
		}}}})
		if errors.Is(err, ErrNoCitizen) { // erased otherwise
			err = s.update(ctx, func(ctx context.Context, t *tx) error {
				_, err := t.exec(ctx, `DELETE FROM sign_up WHERE id = $1 AND state <> 'confirmed'`, v.number)
				return err
			})
		}
		if err != nil {
			return false, err
		}
	}
	return len(list) == limit, nil
}
