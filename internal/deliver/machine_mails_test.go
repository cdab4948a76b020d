package deliver

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/go-json-experiment/json"
	"pgregory.net/rapid"

	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/internal/safehttp"
	"github.com/opencpm/opencpm/internal/store"
)

// mailsURL is where the machine's subscription to mails goes: below that of the receipts,
// for a mail is the same in every attempt, too.
const mailsURL = receipts + "/mails"

// mailModel is one mail that asks to confirm a sign-up.
type mailModel struct {
	citizen consent.ID
	link    string
	expires time.Time
	webhook bool   // a subscription took the mails when it was made
	says    string // the first time it left

	left     time.Time // last
	underway bool
	answered time.Time
	failures int  // that are sure to be noted
	arrived  bool // the citizen may have it
	accepted bool
	refused  bool
	doubt    bool               // a crash may have lost the last outcome
	lost     bool               // one ever has, or may have
	again    bool               // an operator asked for it
	over     time.Time          // the citizen answered it, or is gone
	erased   bool               // for the latter
	state    consent.EmailState // as the store said last
}

// mailMode is what the mail server does.
type mailMode struct {
	name    string
	takes   time.Duration
	fails   error
	refused bool
	arrives bool
}

var mailModes = []mailMode{
	{name: "accepts", arrives: true},
	{name: "accepts slowly", takes: 3 * time.Second, arrives: true},
	{name: "defers", fails: errors.New("the mail server answered 451")},
	{name: "defers slowly", takes: 20 * time.Second, fails: errors.New("the mail server answered 451")},
	{name: "refuses", fails: errors.New("the mail server answered 550"), refused: true},
	{name: "takes it and breaks off", takes: 10 * time.Second, fails: errors.New("the mail server broke off"), arrives: true},
}

// mailLeaves holds a mail that leaves against the machine.
func (m *machine) mailLeaves(id, says string, webhook bool) *mailModel {
	l, now := m.mails[id], time.Now()
	if l == nil {
		m.fault("mail %s: it left although nobody had signed up", id)
		return &mailModel{}
	}
	late := now
	if webhook {
		late = now.Add(-fresh) // which is for how long it may have been waiting for its slot
	}
	switch since := now.Sub(l.left); {
	case l.webhook != webhook:
		m.fault("mail %s: made for a subscription: %v; left for one: %v", id, l.webhook, webhook)
	case !late.Before(l.expires):
		m.fault("mail %s: it left %v after its link had ended", id, now.Sub(l.expires))
	case !l.over.IsZero() && late.After(l.over):
		m.fault("mail %s: it left %v after the citizen had answered it, or was gone", id, now.Sub(l.over))
	case l.says != "" && l.says != says:
		m.fault("mail %s: it said %s, and now %s", id, l.says, says)
	case l.underway:
		m.fault("mail %s: it left while it was under way", id)
	case l.again || webhook && l.doubt:
	case l.doubt && since < mailPauses[0]:
		m.fault("mail %s: it left again %v after it was lost sight of", id, since)
	case l.doubt:
	case l.accepted, l.refused:
		m.fault("mail %s: it left again after it was accepted (%v) or refused (%v)", id, l.accepted, l.refused)
	case !webhook && l.failures > 0 && now.Sub(l.answered) < mailPauses[min(l.failures, len(mailPauses))-1]:
		m.fault("mail %s: it left %v after failure %d", id, now.Sub(l.answered), l.failures)
	}
	if l.doubt {
		l.doubt, l.failures = false, 0
	}
	l.says, l.left, l.underway, l.again = says, now, true, false
	return l
}

// mailAnswered notes what came of an attempt on a mail.
func (m *machine) mailAnswered(l *mailModel, accepted, refused bool) {
	l.underway, l.answered = false, time.Now()
	if m.dying {
		l.doubt, l.lost = true, true
		return
	}
	if l.accepted, l.refused = l.accepted || accepted, refused; !accepted {
		l.failures++
	}
}

// sendMail is the mail server.
func (m *machine) sendMail(_ context.Context, v consent.CitizenEmail) (bool, error) {
	says, err := json.Marshal(v, json.Deterministic(true))
	m.mu.Lock()
	if err != nil {
		m.fault("mail %s: %v", v.EventID, err)
	}
	does := m.server
	l := m.mailLeaves(v.EventID.String(), string(says), false)
	m.mu.Unlock()
	time.Sleep(does.takes)
	m.mu.Lock()
	defer m.mu.Unlock()
	l.arrived = l.arrived || does.arrives
	m.mailAnswered(l, does.fails == nil, does.refused)
	if m.dying {
		runtime.Goexit() // nothing is noted any more
	}
	return does.refused, does.fails
}

// takeMail is the endpoint of the subscription to mails. It has read what came, whatever it
// answers.
func (m *machine) takeMail(a arrival) (safehttp.Response, error) {
	m.mu.Lock()
	does := m.modes[a.url]
	m.mayCall(a)
	l := m.mailLeaves(a.body.EventID, string(a.raw), true)
	l.arrived = true
	m.mu.Unlock()
	time.Sleep(does.takes)
	m.mu.Lock()
	defer m.mu.Unlock()
	reply := does.answer()
	m.mailAnswered(l, does.accepts(), false)
	if reply.Header != nil {
		m.hushed[a.url] = time.Now()
	}
	return reply, does.fails
}

// startMails begins to hand mails to the mail server.
func (m *machine) startMails() {
	run, cancel := context.WithCancel(ctx)
	var runs sync.WaitGroup
	runs.Go(func() { RunMails(run, m.w.st, MailOptions{Send: m.sendMail}) })
	m.cancelMails = cancel
	m.stopMails = func() { cancel(); runs.Wait() }
}

// signUp records a consent that is PENDING of somebody new, whose link is good for a while.
func (m *machine) signUp(life time.Duration) {
	m.mu.Lock()
	name := fmt.Sprint("new-", len(m.mails))
	m.mu.Unlock()
	compose := func(g store.MailGrounds) (consent.CitizenEmail, error) {
		m.mu.Lock()
		defer m.mu.Unlock()
		_, paused := m.paused[mailsURL]
		m.posted = append(m.posted, g.ID.String())
		m.mails[g.ID.String()] = &mailModel{citizen: g.CitizenID, link: g.Link, expires: g.Expires.Time(), webhook: !paused, state: consent.EmailWaiting}
		return mailer.Compose(g)
	}
	m.w.inviteBy(store.Mailer{SMTP: true, Compose: compose}, name, life)
}

// withMail lets a step be taken with a mail that fits, where there is one.
func (m *machine) withMail(rt *rapid.T, fits func(*mailModel) bool, step func(*mailModel)) {
	m.mu.Lock()
	var list []*mailModel
	for _, id := range m.posted {
		if l := m.mails[id]; fits(l) {
			list = append(list, l)
		}
	}
	m.mu.Unlock()
	if len(list) > 0 {
		step(list[rapid.IntRange(0, len(list)-1).Draw(rt, "mail")])
	}
}

// ended notes that a mail has done what it was for.
func (m *machine) ended(l *mailModel, erased bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	l.erased = l.erased || erased
	if l.over.IsZero() {
		l.over = time.Now()
	}
}

// mailSteps are what can happen to mails.
func (m *machine) mailSteps() map[string]func(*rapid.T) {
	st := m.w.st
	evidence := consent.Evidence{Client: consent.InPerson, ByCitizen: true}
	hasLink := func(l *mailModel) bool { return l.arrived && !l.erased }
	return map[string]func(*rapid.T){
		"sign up": func(rt *rapid.T) {
			m.signUp(rapid.SampledFrom([]time.Duration{90 * time.Second, 20 * time.Minute, 2 * time.Hour}).Draw(rt, "life"))
		},
		"mail server": func(rt *rapid.T) {
			does := rapid.IntRange(0, len(mailModes)-1).Draw(rt, "mode")
			m.mu.Lock()
			defer m.mu.Unlock()
			m.server = mailModes[does]
		},
		"confirm": func(rt *rapid.T) {
			m.withMail(rt, hasLink, func(l *mailModel) {
				v, _, err := st.Confirm(ctx, l.link, store.Confirming{
					Evidence:    evidence,
					Grant:       func(c consent.Change) (consent.Change, bool) { c.State = consent.Granted; return c, true },
					Submissions: func([]consent.Answer) []consent.Submission { return nil },
				})
				if err != nil {
					rt.Fatal(err)
				}
				if v.Confirmed || v.Withdrawn {
					m.ended(l, false)
				}
			})
		},
		"withdraw": func(rt *rapid.T) {
			m.withMail(rt, hasLink, func(l *mailModel) {
				if _, err := st.Withdraw(ctx, l.link, evidence); err != nil {
					rt.Fatal(err)
				}
				m.ended(l, false)
			})
		},
		"erase": func(rt *rapid.T) {
			m.withMail(rt, func(l *mailModel) bool { return !l.erased }, func(l *mailModel) {
				if err := st.EraseCitizen(ctx, m.w.app, consent.CitizenKey{ID: l.citizen}, "test"); err != nil {
					rt.Fatal(err)
				}
				m.ended(l, true)
			})
		},
		"forget": func(rt *rapid.T) {
			if err := st.ForgetMails(ctx); err != nil {
				rt.Fatal(err)
			}
		},
	}
}

// checkMails holds what the store says of the mails against the machine: once a mail has
// ended it stays so, and one that the citizen answered has.
func (m *machine) checkMails() {
	m.mu.Lock()
	ids := slices.Clone(m.posted)
	m.mu.Unlock()
	for _, id := range ids {
		m.mu.Lock()
		l := m.mails[id]
		erased, citizen := l.erased, l.citizen
		m.mu.Unlock()
		if erased {
			continue
		}
		says := m.w.mailOf(citizen)
		m.mu.Lock()
		switch {
		case says.Webhook != l.webhook || (says.State == consent.EmailWaiting) != (says.EndedAt == 0):
			m.fault("mail %s is %+v", id, says)
		case l.state != consent.EmailWaiting && says.State != l.state:
			m.fault("mail %s had ended as %s, and now as %s", id, l.state, says.State)
		case says.State == consent.EmailWaiting && !l.over.IsZero():
			m.fault("mail %s waits although the citizen has answered it", id)
		}
		l.state = says.State
		m.mu.Unlock()
	}
}

// checkMailsEnded requires that each mail has ended as it had to, after everything has been
// up since an instant.
func (m *machine) checkMailsEnded(up time.Time) {
	m.checkMails()
	m.mu.Lock()
	defer m.mu.Unlock()
	for id, l := range m.mails {
		want := consent.EmailExpired
		switch {
		case l.erased:
			continue
		case l.lost || !l.over.IsZero():
			want = l.state
		case l.accepted:
			want = consent.EmailSent
		case l.refused:
			want = consent.EmailRefused
		case l.expires.Sub(up) > 75*time.Minute: // the longest pause between attempts is over
			want = consent.EmailSent
		}
		if l.state != want || l.state == consent.EmailWaiting {
			m.fault("mail %s ended as %s, want %s: %+v", id, l.state, want, *l)
		}
	}
}
