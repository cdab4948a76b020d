package core

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/internal/store"
	"github.com/opencpm/opencpm/internal/words"
)

// FormQuery asks for the form of a template.
type FormQuery struct {
	ApplicationID string // may be left out by citizens
	TemplateID    string // the id or, but in public, the reference
	Citizen       consent.CitizenKey
	RuleSet       string // shows only part of the template; empty for all
	// Locale is the language that is wanted; where it is not to be had, what a browser
	// accepts decides.
	Locale, AcceptLanguage string
	Draft                  bool // what is being edited, in place of what is published
}

var errNoTemplate = consent.Errorf(consent.NotFound, "There is no such template.")

// Form gives a template merged with the state of a citizen, with a snapshot that proves
// what is shown. One whose reference nobody has reads as never answered. Citizens may ask
// for their own.
func (s *Service) Form(ctx context.Context, a Actor, q FormQuery) (consent.Form, error) {
	snap, err := s.authoriseOneself(ctx, a, consent.ConsentRead, q.ApplicationID, &q.Citizen, nil)
	if err != nil {
		return consent.Form{}, err
	}
	if q.Draft {
		if err := a.may(consent.ConfigurationRead); err != nil {
			return consent.Form{}, err
		}
	}
	if q.Citizen.ExternalRef != "" {
		var faults consent.Faults
		if consent.CheckExternalRef(q.Citizen.ExternalRef, &faults); faults != nil {
			return consent.Form{}, faults.Err()
		}
	}
	return s.form(ctx, snap, q)
}

// PublicForm gives the form of a template to whoever asks, about nobody, where the
// application lets sign-up widgets and pages record without a token, and the page that
// asks is of one of its origins. The empty origin is that of our own pages.
func (s *Service) PublicForm(ctx context.Context, q FormQuery, origin string) (consent.Form, error) {
	snap, err := s.capturing(ctx, q.ApplicationID, q.TemplateID, origin)
	if err != nil {
		return consent.Form{}, err
	}
	q.Citizen, q.Draft = consent.CitizenKey{}, false
	return s.form(ctx, snap, q)
}

// Reaches reports whether a form lets somebody consent to what reaches them at a kind of
// address.
func (s *Service) Reaches(ctx context.Context, f consent.Form, kind consent.ContactKind) (bool, error) {
	snap, err := s.snapshot(ctx, f.ApplicationID)
	return snap != nil && snap.Reaches(f, kind), err
}

func (s *Service) form(ctx context.Context, snap *consent.Snapshot, q FormQuery) (consent.Form, error) {
	t, ok := snap.Template(q.TemplateID)
	if !ok {
		return consent.Form{}, errNoTemplate
	}
	if q.Draft {
		var err error
		if t.Template, err = s.draft(ctx, snap, t.Ref); err != nil {
			return consent.Form{}, err
		}
	}
	ask := consent.FormQuestion{Template: t, At: consent.At(time.Now())}
	if q.RuleSet != "" {
		if ask.Rules = snap.RuleSet(q.RuleSet); ask.Rules == nil {
			return consent.Form{}, consent.Errorf(consent.NotFound, "There is no such rule set.")
		}
	}
	var known store.State
	if q.Citizen != (consent.CitizenKey{}) {
		var err error
		known, err = s.store.State(ctx, snap.Application, q.Citizen)
		if err != nil && (!errors.Is(err, store.ErrNoCitizen) || !q.Citizen.ID.IsZero()) {
			return consent.Form{}, err
		}
		ask.State = known.Projection
	}
	ask.Locale = consent.Choose(snap.Locales(&t.Template), q.Locale, q.AcceptLanguage)
	f, shown := snap.Form(ask)
	f.Direction = words.Direction(f.Locale)
	f.ExternalRef = consent.Text(cmp.Or(known.ExternalRef, q.Citizen.ExternalRef))
	if !known.CitizenID.IsZero() {
		f.CitizenID = consent.Text(known.CitizenID.String())
	}
	if q.Draft {
		return f, nil // it has no revision that could be proven
	}
	var err error
	f.Snapshot, err = s.sign(snap, shown, known.CitizenID, q.Citizen.ExternalRef)
	return f, err
}

// snapshotLife is for how long what was shown can be answered with proof.
const snapshotLife = 24 * time.Hour

const snapshotPurpose = "snapshot of a form"

// signedForm is what the snapshot of a form says.
type signedForm struct {
	consent.Shown
	Application int64           `json:"a"`
	Citizen     string          `json:"c,omitempty"` // by id
	Reference   []byte          `json:"x,omitempty"` // a hash; of one whom nobody knew yet
	Nonce       []byte          `json:"n"`
	Expires     consent.Instant `json:"e"`
}

func (f *signedForm) hash(ref string) []byte {
	h := sha256.Sum256(append(slices.Clone(f.Nonce), ref...))
	return h[:16]
}

// sign makes the snapshot of a form that is shown to a citizen: who is known, or will be
// by a reference, or to anybody where both are empty.
func (s *Service) sign(snap *consent.Snapshot, shown consent.Shown, citizen consent.ID, ref string) (string, error) {
	f := signedForm{Shown: shown, Application: snap.Application, Nonce: make([]byte, 12), Expires: consent.At(time.Now().Add(snapshotLife))}
	_, _ = rand.Read(f.Nonce) // never fails
	switch {
	case !citizen.IsZero():
		f.Citizen = citizen.String()
	case ref != "":
		f.Reference = f.hash(ref)
	}
	payload, err := json.Marshal(f)
	return s.tokens.Load().Sign(snapshotPurpose, payload), err
}

// prove gives what the snapshot of a form proves that a citizen answers; nobody's form
// proves nothing about a citizen but for what was shown. Anything wrong with it is a fault.
func (s *Service) prove(ctx context.Context, snap *consent.Snapshot, snapshot string, citizen consent.CitizenKey, faults *consent.Faults) (*consent.FormProof, error) {
	var f signedForm
	payload, ok := s.signed(ctx, snapshotPurpose, snapshot)
	if ok {
		ok = json.Unmarshal(payload, &f) == nil && f.Application == snap.Application && f.Expires > consent.At(time.Now())
	}
	if ok && (f.Citizen != "" || f.Reference != nil) {
		var err error
		if ok, err = s.shownTo(ctx, snap, &f, citizen); err != nil {
			return nil, err
		}
	}
	if !ok {
		faults.Add("snapshot", "must be one that was made here for this application and citizen less than 24 hours ago")
		return nil, nil
	}
	proof := &consent.FormProof{Shown: f.Shown}
	if t, ok := snap.Template(f.Template.ID); ok && t.Version == f.Template.Version {
		proof.Revision = t.Template
		return proof, nil
	}
	revisions, err := s.store.ItemRevisions(ctx, snap.Application, consent.KindTemplate, f.Template.Ref, f.Template.Version+1, 1, 0)
	if err != nil {
		return nil, err
	}
	if len(revisions) == 0 {
		return nil, fmt.Errorf("revision %d of the template %s is gone", f.Template.Version, f.Template.ID)
	}
	return proof, json.Unmarshal(revisions[0].Body, &proof.Revision)
}

// shownTo reports whether a form was shown to a citizen.
func (s *Service) shownTo(ctx context.Context, snap *consent.Snapshot, f *signedForm, citizen consent.CitizenKey) (bool, error) {
	if citizen == (consent.CitizenKey{}) {
		return false, nil
	}
	c, err := s.store.Citizen(ctx, snap.Application, citizen)
	switch {
	case errors.Is(err, store.ErrNoCitizen):
		c.ExternalRef = citizen.ExternalRef
	case err != nil:
		return false, err
	case f.Citizen != "":
		return c.ID.String() == f.Citizen, nil
	}
	return f.Citizen == "" && bytes.Equal(f.hash(c.ExternalRef), f.Reference), nil
}

// FormAnswer is a form that came back.
type FormAnswer struct {
	consent.Form
	Citizen consent.CitizenKey
	Origin
	Pending bool // grants wait until they are confirmed
}

// Answered is the outcome of a form.
type Answered struct {
	store.Answered
	Warnings []string
}

// Answer records what differs in a form from the state of the citizen, each statement's
// answers as a transaction and each preference's as a submission, all or none. A citizen
// named by an unknown reference is created. Citizens may answer for themselves.
func (s *Service) Answer(ctx context.Context, a Actor, r Request, v FormAnswer) (Answered, error) {
	once := r.once(a, "answer")
	snap, err := s.authoriseOneself(ctx, a, consent.ConsentWrite, v.ApplicationID, &v.Citizen, r.Found)
	if err != nil {
		return Answered{}, err
	}
	faults := r.Found
	checkCitizenKey(v.Citizen, &faults)
	form, err := s.resolveForm(ctx, snap, a, v, &faults)
	if err == nil && form.Doubtful() {
		err = s.agree(ctx, snap, form, v.Citizen, once, &faults)
	}
	if err == nil {
		err = faults.Err()
	}
	if err != nil {
		return Answered{}, err
	}
	done, err := s.store.Answer(ctx, snap.Application, v.Citizen, form.records, s.invitation(snap, form.evidence.Form), once)
	if err != nil {
		return Answered{}, err
	}
	out := Answered{Answered: done}
	if done.Invited.TooMany {
		s.mailWithheld(snap.ApplicationID)
	}
	if done.Invited.NoWay {
		out.Warnings = append(out.Warnings, noWayWarning)
	}
	if !done.Repeated {
		s.tellAnswered(done)
	}
	return out, nil
}

// agree finds where a form contradicts itself, by the state of its citizen. One that was
// recorded before, and has changed that state, has its answer.
func (s *Service) agree(ctx context.Context, snap *consent.Snapshot, form formRecords, citizen consent.CitizenKey, once store.Once, faults *consent.Faults) error {
	if repeated, err := s.store.Outcome(ctx, once, &store.Answered{}); err != nil || repeated {
		return err
	}
	known, err := s.store.State(ctx, snap.Application, citizen)
	if errors.Is(err, store.ErrNoCitizen) {
		known.Projection, err = &consent.Projection{}, nil
	}
	if err == nil {
		form.Agree(known.Projection, faults)
	}
	return err
}

// tellAnswered tells of a form that was recorded just now.
func (s *Service) tellAnswered(done store.Answered) {
	for _, t := range done.Transactions {
		s.counted(len(t.Transaction.Changes))
		s.recorded(Recorded{Recorded: t})
	}
	if done.Submitted != nil {
		s.counted(len(done.Submitted.Submissions))
		s.submitted(*done.Submitted)
	}
}

// formRecords is what a form that came back is about to record.
type formRecords struct {
	consent.FormAnswers
	evidence consent.Evidence // of every record, but for its id and the statement
}

// resolveForm reads a form that came back and says what it is about to record.
func (s *Service) resolveForm(ctx context.Context, snap *consent.Snapshot, a Actor, v FormAnswer, faults *consent.Faults) (formRecords, error) {
	var proof *consent.FormProof
	if v.Snapshot != "" {
		var err error
		if proof, err = s.prove(ctx, snap, v.Snapshot, v.Citizen, faults); err != nil {
			return formRecords{}, err
		}
		if proof == nil {
			return formRecords{}, nil // nothing is told of what it would have proven
		}
	}
	out := formRecords{evidence: v.evidence(a, snap, faults)}
	if !a.Citizen.IsZero() {
		out.evidence.ByCitizen, out.evidence.Client = true, consent.InPerson
		claims := &out.evidence.Attribution
		claims.RecordedBy, claims.RecordedByName, claims.DelegatedAuthorityID, claims.DelegatedAuthorityName = "", "", "", ""
	}
	out.FormAnswers = snap.ResolveForm(v.Form, proof, v.Pending, faults)
	citeForm(&out.evidence, snap, v.Form, proof, faults)
	return out, nil
}

// citeForm says which template and which privacy policy were shown: by the proof, or else
// the ones that the form names, or the template's, in the newest version.
func citeForm(e *consent.Evidence, snap *consent.Snapshot, f consent.Form, proof *consent.FormProof, faults *consent.Faults) {
	t, known := snap.Template(f.TemplateID)
	named := e.Policy
	if p := f.PrivacyPolicy; p != nil && named == nil {
		named = cite(snap.Policy, "privacyPolicy.id", "privacyPolicy.reference", p.ID, p.Reference, faults)
	}
	switch {
	case proof != nil:
		e.Form = &consent.ShownForm{Citation: proof.Template, Locale: proof.Locale}
		if f.TemplateID != "" && f.TemplateID != proof.Template.ID && f.TemplateID != proof.Template.Ref {
			faults.Add("templateId", "must name the template of the snapshot")
		}
		if named != nil && (proof.Policy == nil || named.ID != proof.Policy.ID) {
			faults.Add("privacyPolicy", "must name the one of the snapshot")
		}
		e.Policy = proof.Policy
		return
	case f.TemplateID == "":
	case !known:
		faults.Add("templateId", "names no template of the application")
	default:
		t.Unproven = true
		e.Form = &consent.ShownForm{Citation: t.Citation, Locale: f.Locale}
		if c, ok := snap.Policy(t.PrivacyPolicy); ok && named == nil {
			c.Unproven = true
			named = &c
		}
	}
	e.Policy = named
}

// records makes the records of what differs from a citizen's state.
func (f formRecords) records(state *consent.Projection, at consent.Instant) (transactions []consent.Transaction, submissions []consent.Submission) {
	differ := f.Against(state, at)
	for _, part := range differ.Parts {
		t := consent.Transaction{Evidence: f.evidence, Changes: part.Changes}
		t.ID = store.NewID()
		if part.Statement != nil {
			t.Statement = part.Statement
		}
		transactions = append(transactions, t)
	}
	return transactions, submissionsOf(f.evidence, differ.Answers)
}

// defaults gives what is recorded first of every citizen who is created in an application.
func (s *Service) defaults(application int64) []consent.Transaction {
	for _, snap := range *s.snapshots.Load() {
		if snap.Application != application {
			continue
		}
		parts, policy := snap.Defaults()
		var e consent.Evidence
		e.Policy, e.Client = policy, consent.Platform
		list, _ := formRecords{consent.FormAnswers{Parts: parts}, e}.records(&consent.Projection{}, 0)
		return list
	}
	return nil
}
