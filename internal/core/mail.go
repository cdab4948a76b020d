package core

import (
	"cmp"
	"context"
	"slices"
	"strings"

	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/internal/mail"
	"github.com/opencpm/opencpm/internal/store"
)

// mailer makes mails of an application ready. Those leave by the mail server where there
// is one and the application says who they are from, unless a subscription gets them.
func (s *Service) mailer(snap *consent.Snapshot) store.Mailer {
	return store.Mailer{
		SMTP:    s.mailServer && snap.Catalogue.Application.Sender != nil,
		Compose: func(g store.MailGrounds) (consent.CitizenEmail, error) { return s.compose(snap, g) },
	}
}

// compose writes a mail to a citizen.
func (s *Service) compose(snap *consent.Snapshot, g store.MailGrounds) (consent.CitizenEmail, error) {
	settings := &snap.Catalogue.Application
	locale := cmp.Or(g.Locale, snap.DefaultLocale())
	v := consent.CitizenEmail{
		ApplicationID: snap.ApplicationID, CitizenID: g.CitizenID, ExternalRef: consent.Text(g.ExternalRef), SentAt: consent.Timestamp(g.At),
		EventID: g.ID, EventType: consent.CitizenMail, Sequence: g.Sequence, ChangedBy: consent.Text(g.ChangedBy), Version: consent.CitizenEmailVersion,
		Kind: g.Kind, Recipient: consent.EmailAddress{Address: g.Address.String(), Name: consent.Text(nameOf(g.Details))},
		Locale: locale, Purposes: purposesOf(snap, g.Changes, locale), Headers: map[string]string{"Auto-Submitted": "auto-generated"},
	}
	if from := settings.Sender; from != nil {
		v.Sender = consent.EmailSender{Name: consent.Text(from.Name), Address: consent.Text(from.Address)}
		v.ReplyTo = consent.Text(from.ReplyTo)
	}
	wording, custom := wordingOf(snap, g.Kind, g.Template)
	v.Template = consent.EmailTemplate{Reference: string(g.Kind), Name: consent.Text(g.Kind), Version: "1"}
	if custom {
		v.Template = consent.EmailTemplate{ID: consent.Text(wording.Reference), Reference: wording.Reference, Name: consent.Text(wording.Name), Version: "1"}
	}
	content := mail.Content{
		Kind: g.Kind, Locale: locale, DefaultLocale: snap.DefaultLocale(), Application: settings.Name, Name: string(v.Recipient.Name),
		Expires: g.Expires, Code: g.Code, Wording: wording,
	}
	if face, ok := faceOf(snap); ok {
		content.Owner, content.Accent = face.Title(), face.Brand.Accent
	}
	for _, p := range v.Purposes {
		content.Purposes = append(content.Purposes, string(p.Name))
	}
	switch {
	case g.Link != "":
		content.URL = s.baseURL + "/confirm/" + g.Link
	case g.Code == "":
		content.URL = strings.ReplaceAll(s.manageURL(snap, g.Centre), tokenMark, s.WriteToken(g.Token, g.Expires))
	}
	written := mail.Compose(content)
	v.Subject, v.HTML, v.Text = written.Subject, written.HTML, written.Text
	if content.URL != "" {
		v.Action = &consent.EmailAction{URL: content.URL, Label: written.Label, ExpiresAt: consent.Timestamp(g.Expires)}
	}
	return v, nil
}

func nameOf(d consent.Details) string {
	return strings.Join(slices.DeleteFunc([]string{d.GivenName, d.AdditionalName, d.FamilyName}, func(part string) bool { return part == "" }), " ")
}

// wordingOf gives the application's own wording of a kind of mail, and false where it has
// none: that for the template before that for all.
func wordingOf(snap *consent.Snapshot, kind consent.EmailKind, template string) (found consent.EmailText, ok bool) {
	for _, text := range snap.Catalogue.Emails {
		if text.Kind == kind && (text.Template == template || text.Template == "" && !ok) {
			found, ok = text, true
			if text.Template != "" {
				return found, true
			}
		}
	}
	return found, ok
}

// purposesOf gives what changes are about, each purpose once. A group stands for itself.
func purposesOf(snap *consent.Snapshot, changes []consent.Change, locale string) []consent.EmailPurpose {
	list := []consent.EmailPurpose{}
	for _, c := range changes {
		k := consent.Key{Type: c.OptionType, ID: c.OptionID}
		name, _ := snap.NamesOf(k, locale)
		p := consent.EmailPurpose{ID: cmp.Or(snap.About(k).Option.Purpose, k.ID), Name: consent.Text(name)}
		if !slices.Contains(list, p) {
			list = append(list, p)
		}
	}
	return list
}

// ConfirmItem is one thing that a link asks to confirm, in words.
type ConfirmItem struct {
	Purpose   string
	Channel   string // empty for a group
	Statement string // the wording that was shown
}

// invitation asks to confirm what a request records as PENDING of a form, nil for none.
func (s *Service) invitation(snap *consent.Snapshot, form *consent.ShownForm) store.Invitation {
	inv := store.Invitation{Mailer: s.mailer(snap), LinkEnd: snap.Catalogue.Application.LinkEnd}
	if form != nil {
		inv.Template, inv.Locale = form.Ref, form.Locale
	}
	return inv
}

// noWayWarning is what a client is told whose citizens cannot be asked to confirm.
const noWayWarning = "No mail could be made ready that asks to confirm what is PENDING: the application has no sender, or the server no mail server, and no citizen-emails subscription is active."

// mailWithheld notes that an address was asked to confirm often enough, for whoever tries
// it out and waits for a mail.
func (s *Service) mailWithheld(applicationID string) {
	s.log.Info("a mail was not made: one was made for this address and template within a day, or three that nobody confirmed", "application", applicationID)
}

// Mails lists the mails to a citizen, the newest first, and how many there are.
func (s *Service) Mails(ctx context.Context, a Actor, citizen consent.ID, limit, offset int) ([]store.Mail, int64, error) {
	snap, err := s.applicationOfCitizen(ctx, a, consent.ConsentRead, citizen)
	if err != nil {
		return nil, 0, err
	}
	return s.store.Mails(ctx, snap.Application, consent.CitizenKey{ID: citizen}, limit, offset)
}
