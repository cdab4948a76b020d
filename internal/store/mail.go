package store

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/opencpm/opencpm/internal/consent"
)

// mailWay says how a mail leaves.
type mailWay string

// The ways. A citizen-emails subscription that is active is used and the mail server is
// not.
const (
	bySMTP    mailWay = "smtp"
	byWebhook mailWay = "webhook"
)

// Mailer makes mails ready within the commit of what they are about.
type Mailer struct {
	// SMTP says that mails of the application can leave by a mail server.
	SMTP bool
	// Compose writes the mail on its grounds. It does nothing else: it may be called more
	// than once for a mail.
	Compose func(g MailGrounds) (consent.CitizenEmail, error)
}

// MailGrounds are what the store knows of a mail that is to be written.
type MailGrounds struct {
	Kind        consent.EmailKind
	ID          consent.ID // of the mail
	CitizenID   consent.ID
	ExternalRef string
	Details     consent.Details
	Address     consent.Email
	Sequence    int64
	ChangedBy   string
	At, Expires consent.Instant
	Link        string       // the secret of a double opt-in
	Code        string       // in place of a link to the own page
	Token       TokenGrounds // of a link to the own page
	Centre      string       // the reference of the preference centre where that was asked for, empty for none
	Locale      string
	Template    string // the reference of the template that was answered, empty for none
	Changes     []consent.Change
}

// takesMails finds the subscription that gets the mails of an application: the oldest
// active one alone, or the citizen would get the mail twice.
const takesMails = `SELECT id FROM subscription WHERE application = $1 AND status = 'active' AND update_type = 'citizen-emails' ORDER BY id LIMIT 1`

// way says how a mail of an application can leave now, and to which subscription, which
// is what takesMails found. It is empty where there is no way.
func (m Mailer) way(found *sql.Row) (way mailWay, subscription int64, err error) {
	err = found.Scan(&subscription)
	switch {
	case err == nil:
		return byWebhook, subscription, nil
	case !errors.Is(err, sql.ErrNoRows):
		return "", 0, err
	case m.SMTP:
		return bySMTP, 0, nil
	}
	return "", 0, nil
}

// mailWay is the way at which a mail is made.
func (t *tx) mailWay(ctx context.Context, application int64, m Mailer) (way mailWay, subscription int64, err error) {
	return m.way(t.row(ctx, takesMails, application))
}

// MailsLeave reports whether mails of an application can leave now.
func (s *Store) MailsLeave(ctx context.Context, application int64, m Mailer) (bool, error) {
	way, _, err := m.way(s.fixed.QueryRowContext(ctx, takesMails, application))
	return way != "", s.classify(err)
}

// post makes a mail to a citizen ready to leave, and gives the store's number for it.
func (t *tx) post(ctx context.Context, c *citizenRow, m Mailer, way mailWay, subscription int64, g MailGrounds) (number int64, err error) {
	v, err := m.Compose(g)
	if err != nil {
		return 0, err
	}
	plain, err := json.Marshal(v)
	if err != nil {
		return 0, err
	}
	sealed := c.key.Seal(c.mailContext(g.At), plain)
	var change any
	body := sealed
	if way == byWebhook {
		// An entry of no application is content for the receipt, and no change of anything; the
		// feed and the lists, which are of applications, leave it out. In place of the change before it it has
		// its end.
		var entry int64
		if err := t.row(ctx, `INSERT INTO change (position, citizen, application, version, changed_at, previous, event, changed_by, body)
			VALUES (0, $1, 0, $2, $3, $4, $5, $6, $7) RETURNING id`, c.id, g.Sequence, g.At, g.Expires, string(consent.CitizenMail), g.ChangedBy, sealed).Scan(&entry); err != nil {
			return 0, err
		}
		if _, err := t.exec(ctx, `INSERT INTO receipt (subscription, citizen, change, shard, changed_at, attempts, due_at, stored, reason, bulk)
			VALUES ($1, $2, $3, $4, $5, 0, $5, 0, '', 0)`, subscription, c.id, entry, c.id%shards, g.At); err != nil {
			return 0, err
		}
		change, body = entry, nil
		t.rings |= bellLanes
	} else {
		t.rings |= bellMails
	}
	err = t.row(ctx, `INSERT INTO mail (public_id, application, citizen, kind, way, state, change, body, created_at, expires_at, due_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $9) RETURNING id`,
		g.ID[:], c.application, c.id, string(g.Kind), string(way), string(consent.EmailWaiting), change, body, g.At, g.Expires).Scan(&number)
	return number, err
}

// mailContext binds what a mail says to when it was made.
func (c *citizenRow) mailContext(at consent.Instant) string {
	return fmt.Sprintf("%s %d", c.context("mail"), int64(at))
}

// newLink makes the secret of a link and what is kept of it.
func newLink() (secret string, hash []byte) {
	raw := make([]byte, 32)
	rand.Read(raw) // never fails; see its documentation
	secret = base64.RawURLEncoding.EncodeToString(raw)
	return secret, linkHash(secret)
}

func linkHash(secret string) []byte {
	sum := sha256.Sum256([]byte(secret))
	return sum[:]
}

// addressIndex is the blind index of an address for the limits of mail to it.
func (s *Store) addressIndex(application int64, e consent.Email) []byte {
	return s.index.Index("mail address "+strconv.FormatInt(application, 10), e.Contact().Key)
}

// The limits of mail that nobody has confirmed, for each address and template (UWG §7),
// and how long they are remembered.
const (
	mailPause   = 24 * time.Hour
	maxMails    = 3
	keepLimit   = 365 * 24 * time.Hour
	linkPause   = time.Minute
	linksPerDay = 10
	// To one mailbox, whatever the template and the tag of the address, which a stranger
	// may choose.
	mailsPerDay = 5
)

// What is counted apart from templates. No reference of one holds a control character, and
// PostgreSQL takes no NUL.
const (
	linkLimits    = "\tlink"
	mailboxLimits = "\tmailbox"
)

// mayInvite counts a mail to an address that asks to confirm, unless it is one too many for
// the address and the template, or for the mailbox.
func (t *tx) mayInvite(ctx context.Context, application int64, address, mailbox []byte, template string) (bool, error) {
	var full bool
	if err := t.row(ctx, `SELECT EXISTS (SELECT 1 FROM mail_limit WHERE application = $1 AND address = $2 AND template = $3 AND mails >= $4 AND first_at > $5)`,
		application, mailbox, mailboxLimits, mailsPerDay, t.now.Add(-mailPause)).Scan(&full); err != nil || full {
		return false, err
	}
	n, err := t.count(ctx, `INSERT INTO mail_limit (application, address, template, mails, first_at, last_at) VALUES ($1, $2, $3, 1, $4, $4)
		ON CONFLICT (application, address, template) DO UPDATE SET mails = mail_limit.mails + 1, last_at = excluded.last_at
		WHERE mail_limit.last_at <= $5 AND mail_limit.mails < $6`, application, address, template, t.now, t.now.Add(-mailPause), maxMails)
	if err != nil || n == 0 {
		return false, err
	}
	return t.withinDay(ctx, application, mailbox, mailboxLimits, 0, mailsPerDay)
}

// mayLink counts a mail with a link, or a code, to the own page, unless it is one too many.
func (t *tx) mayLink(ctx context.Context, application int64, address []byte) (bool, error) {
	return t.withinDay(ctx, application, address, linkLimits, linkPause, linksPerDay)
}

// withinDay counts a mail, unless it comes before a pause is over or is one more than there
// may be in a day.
func (t *tx) withinDay(ctx context.Context, application int64, address []byte, limits string, pause time.Duration, most int) (bool, error) {
	n, err := t.count(ctx, `INSERT INTO mail_limit (application, address, template, mails, first_at, last_at) VALUES ($1, $2, $3, 1, $4, $4)
		ON CONFLICT (application, address, template) DO UPDATE SET last_at = excluded.last_at,
			mails = CASE WHEN mail_limit.first_at <= $6 THEN 1 ELSE mail_limit.mails + 1 END,
			first_at = CASE WHEN mail_limit.first_at <= $6 THEN excluded.last_at ELSE mail_limit.first_at END
		WHERE mail_limit.last_at <= $5 AND (mail_limit.mails < $7 OR mail_limit.first_at <= $6)`,
		application, address, limits, t.now, t.now.Add(-pause), t.now.Add(-mailPause), most)
	return n > 0, err
}

// count runs a prepared statement and gives the number of rows it changed.
func (t *tx) count(ctx context.Context, query string, args ...any) (int64, error) {
	r, err := t.exec(ctx, query, args...)
	if err != nil {
		return 0, err
	}
	return r.RowsAffected()
}

// Mail is what is known of a mail to a citizen, without what it said.
type Mail struct {
	ID        consent.ID
	Kind      consent.EmailKind
	Webhook   bool // handed to a citizen-emails subscription, and not to a mail server
	State     consent.EmailState
	CreatedAt consent.Instant
	ExpiresAt consent.Instant // of the link in it
	EndedAt   consent.Instant // when it was sent, or ended otherwise; zero while it waits
	Attempts  int             // by the mail server that failed
	Reason    string          // of the last failure
}

// Mails lists the mails to a citizen, the newest first, and how many there are.
func (s *Store) Mails(ctx context.Context, application int64, key consent.CitizenKey, limit, offset int) ([]Mail, int64, error) {
	c, err := s.readCitizen(ctx, application, key)
	if err != nil {
		return nil, 0, err
	}
	var total int64
	if err := s.fixed.QueryRowContext(ctx, `SELECT count(*) FROM mail WHERE citizen = $1`, c.id).Scan(&total); err != nil {
		return nil, 0, s.classify(err)
	}
	list, err := collect(ctx, s.fixed, scanMail, `SELECT `+mailColumns+` FROM mail m WHERE m.citizen = $1 ORDER BY m.id DESC LIMIT $2 OFFSET $3`, c.id, limit, offset)
	return list, total, s.classify(err)
}

const mailColumns = `m.public_id, m.kind, m.way, m.state, m.created_at, m.expires_at, m.ended_at, m.attempts, m.reason`

func scanMail(r *sql.Rows) (v Mail, err error) {
	var way mailWay
	err = r.Scan(&v.ID, &v.Kind, &way, &v.State, &v.CreatedAt, &v.ExpiresAt, &v.EndedAt, &v.Attempts, &v.Reason)
	v.Webhook = way == byWebhook
	return v, err
}

// DueMail is a mail that one node is to hand to the mail server until its claim ends.
type DueMail struct {
	Number       int64
	Application  int64
	Attempts     int
	ExpiresAt    consent.Instant
	ClaimedUntil consent.Instant
	Unreadable   error // why only EventID and CitizenID of the mail are known: its key is not there, or it is damaged
	consent.CitizenEmail
}

// ClaimMails gives mails that are due to the one node that asks, for as long as ttl. Those
// whose link has ended are ended here. next is when the next one is due, zero for none.
func (s *Store) ClaimMails(ctx context.Context, limit int, ttl time.Duration) (list []DueMail, next consent.Instant, err error) {
	type claimed struct {
		DueMail
		c    citizenRow
		made consent.Instant
		body []byte
	}
	const waits = `SELECT min(CASE WHEN claimed_until > due_at THEN claimed_until ELSE due_at END) FROM mail WHERE state = 'waiting' AND way = 'smtp'`
	var first sql.NullInt64
	if err := s.fixed.QueryRowContext(ctx, waits).Scan(&first); err != nil || !first.Valid || consent.Instant(first.Int64) > now() {
		return nil, consent.Instant(first.Int64), s.classify(err)
	}
	var got struct {
		rows []claimed
		next consent.Instant
	}
	err = s.update(ctx, func(ctx context.Context, t *tx) error {
		got.rows, got.next = nil, 0
		if _, err := t.exec(ctx, `UPDATE mail SET state = $1, ended_at = $2, body = NULL WHERE state = 'waiting' AND expires_at <= $2`, string(consent.EmailExpired), t.now); err != nil {
			return err
		}
		until := t.now.Add(ttl)
		rows, err := collect(ctx, t, func(r *sql.Rows) (v claimed, err error) {
			err = r.Scan(&v.Number, &v.EventID, &v.made, &v.Application, &v.Attempts, &v.ExpiresAt, &v.body, &v.c.publicID, &v.c.wrapped)
			v.CitizenID = v.c.publicID
			v.ClaimedUntil = until
			return v, err
		}, `UPDATE mail SET claimed_until = $1 WHERE id IN (SELECT id FROM mail WHERE state = 'waiting' AND way = 'smtp' AND due_at <= $2 AND claimed_until <= $2 ORDER BY due_at LIMIT CAST($3 AS BIGINT))
			AND state = 'waiting' AND claimed_until <= $2
			RETURNING id, public_id, created_at, application, attempts, expires_at, body, (SELECT c.public_id FROM citizen c WHERE c.id = mail.citizen), (SELECT k.wrapped FROM citizen_key k WHERE k.citizen = mail.citizen)`,
			until, t.now, limit)
		if err != nil {
			return err
		}
		var at sql.NullInt64
		err = t.row(ctx, waits).Scan(&at)
		got.rows, got.next = rows, consent.Instant(at.Int64)
		return err
	})
	set, err := outcome(&got, err)
	if err != nil {
		return nil, 0, err
	}
	for _, v := range set.rows {
		v.c.key, err = s.keys.Unwrap(v.c.context("citizen key"), v.c.wrapped)
		var plain []byte
		if err == nil {
			plain, err = v.c.key.Open(v.c.mailContext(v.made), v.body)
		}
		if err == nil {
			err = json.Unmarshal(plain, &v.CitizenEmail)
		}
		v.Unreadable = err
		list = append(list, v.DueMail)
	}
	return list, set.next, nil
}

// SettleMail notes what became of an attempt to send a mail: its end, or, in the state
// waiting, when it is tried again. Whoever lost the claim meanwhile changes nothing.
func (s *Store) SettleMail(ctx context.Context, m DueMail, state consent.EmailState, reason string, again consent.Instant) error {
	return s.update(ctx, func(ctx context.Context, t *tx) error {
		ended, failed := t.now, 1
		if state == consent.EmailWaiting {
			ended = 0
		}
		if state == consent.EmailSent {
			failed = 0
		}
		_, err := t.exec(ctx, `UPDATE mail SET state = $1, reason = $2, due_at = $3, attempts = attempts + $4, ended_at = $5, claimed_until = 0, body = CASE WHEN $1 = 'waiting' THEN body END
			WHERE id = $6 AND state = 'waiting' AND claimed_until = $7`, string(state), reason, max(again, 0), failed, ended, m.Number, m.ClaimedUntil)
		return err
	})
}

// settleMail notes how a mail ended that went to a subscription.
func (t *tx) settleMail(ctx context.Context, v Settlement) error {
	if v.Log == nil || v.Log.EventType != consent.CitizenMail {
		return nil
	}
	state := consent.EmailSent
	if v.Log.Outcome == OutcomeExpired {
		state = consent.EmailExpired
	}
	return t.endMail(ctx, v.Lane.Change, state, v.At)
}

// endMail notes how a mail ended, by the entry that its receipt is of. One that was
// redelivered stays sent.
func (t *tx) endMail(ctx context.Context, change int64, state consent.EmailState, at consent.Instant) error {
	_, err := t.exec(ctx, `UPDATE mail SET state = $2, ended_at = $3 WHERE change = $1 AND state <> 'sent'`, change, string(state), at)
	return err
}

// useMail ends the mail of a sign-up whose link was used, for then it has arrived whatever
// is known of it, and forgets what was written: nobody needs another one.
func (t *tx) useMail(ctx context.Context, signUp int64) error {
	if _, err := t.exec(ctx, `UPDATE mail SET state = 'sent', ended_at = $2 WHERE id = (SELECT mail FROM sign_up WHERE id = $1) AND state = 'waiting'`, signUp, t.now); err != nil {
		return err
	}
	for _, q := range []string{
		`UPDATE mail SET body = NULL WHERE id = (SELECT mail FROM sign_up WHERE id = $1)`,
		`UPDATE change SET body = NULL WHERE id = (SELECT m.change FROM mail m JOIN sign_up u ON u.mail = m.id WHERE u.id = $1)`,
	} {
		if _, err := t.exec(ctx, q, signUp); err != nil {
			return err
		}
	}
	return nil
}

// mailOf gives the mail that an entry is of, zero where it is of none.
func (t *tx) mailOf(ctx context.Context, change int64) (id consent.ID, err error) {
	err = t.row(ctx, `SELECT public_id FROM mail WHERE change = $1`, change).Scan(&id)
	if errors.Is(err, sql.ErrNoRows) {
		err = nil
	}
	return id, err
}

// eraseMails ends what waits for a citizen who is erased, and forgets what was written.
func (t *tx) eraseMails(ctx context.Context, c *citizenRow) error {
	if _, err := t.exec(ctx, `UPDATE mail SET state = 'erased', ended_at = $2 WHERE citizen = $1 AND state = 'waiting'`, c.id, t.now); err != nil {
		return err
	}
	for _, q := range []string{
		`UPDATE mail SET body = NULL WHERE citizen = $1`,
		`UPDATE change SET body = NULL WHERE id IN (SELECT change FROM mail WHERE citizen = $1)`,
		`UPDATE sign_up SET sealed = NULL WHERE citizen = $1`,
		`DELETE FROM parked_capture WHERE citizen = $1`,
		`DELETE FROM sign_in_code WHERE citizen = $1`,
	} {
		if _, err := t.exec(ctx, q, c.id); err != nil {
			return err
		}
	}
	return nil
}

// MailsDue gives a channel that receives after there is something new for the mail server.
// Call stop when done.
func (s *Store) MailsDue() (c <-chan struct{}, stop func()) { return s.doorbells.listen(bellMails) }

// ForgetMails forgets what was written in mails whose links have ended, requests that
// nobody answers, and limits of long ago.
func (s *Store) ForgetMails(ctx context.Context) error {
	return s.update(ctx, func(ctx context.Context, t *tx) error {
		for _, q := range []struct {
			text string
			at   consent.Instant
		}{
			{`UPDATE mail SET state = 'expired', ended_at = $1 WHERE state = 'waiting' AND expires_at <= $1`, t.now},
			{`UPDATE change SET body = NULL WHERE id IN (SELECT change FROM mail WHERE change IS NOT NULL AND expires_at <= $1)`, t.now.Add(-keepBody)},
			{`UPDATE mail SET body = NULL, change = NULL WHERE (body IS NOT NULL OR change IS NOT NULL) AND expires_at <= $1`, t.now.Add(-keepBody)},
			{`DELETE FROM mail_limit WHERE last_at <= $1`, t.now.Add(-keepLimit)},
			{`DELETE FROM sign_in_code WHERE expires_at <= $1`, t.now},
			{`DELETE FROM link_request WHERE created_at <= $1`, t.now.Add(-keepLinkRequests)},
		} {
			if _, err := t.exec(ctx, q.text, q.at); err != nil {
				return err
			}
		}
		return nil
	})
}

// keepBody is for how long what a mail said is kept after its link has ended: a message
// that is under way at that moment ends by itself.
const keepBody = time.Hour
