package deliver

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/internal/store"
)

// MailOptions say how mails to citizens leave by a mail server.
type MailOptions struct {
	// Send hands a mail to the mail server. refused says that the server will never take
	// it for this recipient. No error holds an address.
	Send func(context.Context, consent.CitizenEmail) (refused bool, err error)
	Log  *slog.Logger // nil means slog.Default
	// Ended, where set, is told of every attempt, and of what became of the mail. It must not
	// block.
	Ended func(consent.EmailState)
}

// mailPauses are the pauses after the attempts on a mail that failed; the last one
// repeats until the link in the mail ends.
var mailPauses = []time.Duration{time.Minute, 5 * time.Minute, 15 * time.Minute, time.Hour}

// Of one node so many mails are under way at once, each claimed for so long.
const (
	mailsAtOnce = 4
	mailClaim   = 2 * time.Minute // longer than handing it over may take
)

// RunMails hands mails to the mail server until ctx ends, then lets what is under way
// finish. Any number of nodes may do it: each mail is claimed by one. A node that dies
// between the answer of the server and the note of it causes a second mail.
func RunMails(ctx context.Context, st *store.Store, o MailOptions) {
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.Ended == nil {
		o.Ended = func(consent.EmailState) {}
	}
	due, stop := st.MailsDue()
	defer stop()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-due:
		case <-timer.C:
		}
		wait := lookAnyway
		for ctx.Err() == nil {
			list, next, err := st.ClaimMails(ctx, mailsAtOnce, mailClaim)
			if err != nil {
				if ctx.Err() == nil {
					o.Log.Warn("due mails cannot be read; trying again", "error", err)
				}
				wait = time.Second
				break
			}
			var all sync.WaitGroup
			for _, m := range list {
				all.Go(func() { o.send(ctx, st, m) })
			}
			all.Wait()
			if len(list) < mailsAtOnce {
				if next != 0 {
					wait = min(wait, max(0, time.Until(next.Time())))
				}
				break
			}
		}
		timer.Reset(wait)
	}
}

// send makes one attempt on a mail and notes what came of it.
func (o MailOptions) send(ctx context.Context, st *store.Store, m store.DueMail) {
	finish := context.WithoutCancel(ctx) // what has begun is finished
	refused, err := false, m.Unreadable
	if err == nil {
		refused, err = o.Send(finish, m.CitizenEmail)
	}
	state, reason, again := consent.EmailSent, "", consent.Instant(0)
	switch {
	case err != nil && refused:
		state, reason = consent.EmailRefused, err.Error()
	case err != nil:
		state, reason = consent.EmailWaiting, err.Error()
		again = consent.At(time.Now().Add(mailPauses[min(m.Attempts, len(mailPauses)-1)]))
		if again >= m.ExpiresAt {
			state = consent.EmailExpired
		}
	}
	if err != nil {
		level := slog.LevelInfo
		if !refused && m.Attempts == 0 { // it is the server, not the address
			level = slog.LevelWarn
		}
		o.Log.Log(finish, level, "mail not sent", "mail", m.EventID, "citizen", m.CitizenID, "attempt", m.Attempts+1, "reason", reason, "state", string(state))
	}
	for pause := time.Second; ; pause = min(2*pause, 10*time.Second) {
		if err = st.SettleMail(finish, m, state, reason, again); err == nil || ctx.Err() != nil || consent.At(time.Now()) >= m.ClaimedUntil {
			break
		}
		time.Sleep(pause) // the database is away: the claim lasts a while
	}
	if err != nil {
		o.Log.Warn("what became of a mail cannot be recorded; it may be sent again", "mail", m.EventID, "error", err)
	}
	o.Ended(state)
}
