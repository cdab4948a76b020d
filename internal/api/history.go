package api

import (
	"context"
	"encoding/hex"
	"reflect"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/internal/core"
	"github.com/opencpm/opencpm/internal/store"
)

type listChangesInput struct {
	ApplicationID string `query:"applicationId" required:"true" maxLength:"50"`
	Cursor        string `query:"cursor" maxLength:"200" doc:"Where an earlier answer ended; left out, the first change of all; latest, the end of the feed."`
	Limit         int    `query:"limit" minimum:"1" maximum:"100" default:"20"`
	Wait          int    `query:"wait" minimum:"0" maximum:"20" default:"0" doc:"For how many seconds to wait for a change where there is none."`
}

// changeList is a part of the feed of changes.
type changeList struct {
	Changes    []citizenChanged `json:"changes" doc:"The changes in the order in which they were made; each citizen's in their own order."`
	NextCursor string           `json:"nextCursor" doc:"Where to go on; never null, since the feed has no end."`
}

// citizenChanged is one change, in the form of a receipt.
type citizenChanged struct {
	ApplicationID string            `json:"applicationId"`
	CitizenID     consent.ID        `json:"citizenId"`
	ExternalRef   consent.Text      `json:"externalRef"`
	Permissions   jsontext.Value    `json:"permissions"`
	Preferences   jsontext.Value    `json:"preferences"`
	EventType     consent.EventType `json:"eventType" enum:"citizen.changed,citizen.deleted"`
	Sequence      int64             `json:"sequence"`
	ChangedAt     consent.Timestamp `json:"changedAt"`
	ChangedBy     consent.Text      `json:"changedBy"`
}

// TransformSchema says what the lists hold, which are written as they are stored.
func (citizenChanged) TransformSchema(r huma.Registry, s *huma.Schema) *huma.Schema {
	state := r.Schema(reflect.TypeFor[citizenState](), true, "")
	for state.Ref != "" {
		state = r.SchemaFromRef(state.Ref)
	}
	s.Properties["permissions"] = &huma.Schema{Type: huma.TypeArray, Items: r.Schema(reflect.TypeFor[changedPermission](), true, ""), Description: "What changed of the permissions."}
	s.Properties["preferences"] = state.Properties["preferences"]
	return s
}

// changedPermission is an entry that changed.
type changedPermission struct{ consent.Permission }

// TransformSchema says that it may have ceased.
func (changedPermission) TransformSchema(_ huma.Registry, s *huma.Schema) *huma.Schema {
	state := *s.Properties["state"]
	state.Nullable, state.Description = true, "What was decided under the lawful basis; null where the entry ceased."
	s.Properties["state"] = &state
	return s
}

func (s *server) listChanges(ctx context.Context, actor core.Actor, in *listChangesInput) (changeList, error) {
	q := core.ChangesQuery{ApplicationID: in.ApplicationID, Limit: in.Limit, Wait: time.Duration(in.Wait) * time.Second, Latest: in.Cursor == "latest"}
	if !q.Latest {
		var faults consent.Faults
		readCursor(&faults, in.Cursor, "changes", &q.After.Major, &q.After.Minor)
		if err := faults.Err(); err != nil {
			return changeList{}, err
		}
	}
	found, end, err := s.Core.Changes(ctx, actor, q)
	out := changeList{make([]citizenChanged, len(found)), string(cursorOf("changes", end.Major, end.Minor))}
	for i, v := range found {
		out.Changes[i] = citizenChanged{
			ApplicationID: in.ApplicationID, CitizenID: v.CitizenID, ExternalRef: consent.Text(v.ExternalRef),
			EventType: v.Event, Sequence: v.Version, ChangedAt: consent.Timestamp(v.ChangedAt), ChangedBy: consent.Text(v.ChangedBy),
		}
		if err := json.Unmarshal(v.News, &out.Changes[i]); err != nil { // permissions and preferences, as they are
			return changeList{}, err
		}
	}
	return out, err
}

// HistoryPage asks for a part of a history.
type HistoryPage struct {
	Limit  int    `query:"limit" minimum:"1" maximum:"100" default:"20"`
	Cursor string `query:"cursor" maxLength:"200"`
}

type getHistoryInput struct {
	CitizenPath
	HistoryPage
}

// citizenHistory is what was recorded of one citizen.
type citizenHistory struct {
	ApplicationID string          `json:"applicationId"`
	CitizenID     consent.ID      `json:"citizenId"`
	History       []historyRecord `json:"history" doc:"Everything that was recorded, in the order in which it was."`
	Page
}

// historyRecord is one record of a citizen's chain: a transaction, a submission or a
// suppression.
type historyRecord struct {
	Seq         int64            `json:"seq" doc:"Its place in the chain of the citizen's records, from 1."`
	Hash        string           `json:"hash" doc:"SHA-256 over the record as it is stored and the hash before it, in hexadecimal."`
	Kind        string           `json:"kind" enum:"transaction,submission,suppression" doc:"What was recorded."`
	ByCitizen   bool             `json:"byCitizen" doc:"Whether the citizen did it in person."`
	Visitor     *visitor         `json:"visitor" doc:"The browser of the citizen, where they acted in person or signed up."`
	Transaction *pastTransaction `json:"transaction" doc:"The transaction; null for anything else."`
	Submission  *submission      `json:"submission" doc:"The submission; null for anything else."`
	Suppression *pastSuppression `json:"suppression" doc:"The change of the do-not-contact list; null for anything else."`
	Shown       documents        `json:"shown" doc:"What was shown when it was obtained."`
}

// TransformSchema says that a record is one of them.
func (historyRecord) TransformSchema(_ huma.Registry, s *huma.Schema) *huma.Schema {
	for _, name := range []string{"visitor", "transaction", "submission", "suppression"} {
		s.Properties[name] = orNull(s.Properties[name])
	}
	return s
}

// pastTransaction is a transaction with what the platform made of it.
type pastTransaction struct {
	TransactionID consent.ID `json:"transactionId"`
	Reverts       idOrNull   `json:"reverts"`
	Provenance
	Confirms *confirmation `json:"confirms" doc:"How a sign-up was confirmed, where this does it."`
	Changes  []pastChange  `json:"changes"`
}

// TransformSchema says that few confirm.
func (pastTransaction) TransformSchema(_ huma.Registry, s *huma.Schema) *huma.Schema {
	s.Properties["confirms"] = orNull(s.Properties["confirms"])
	return s
}

// confirmation is how the owner of an address confirmed what was answered in their name.
type confirmation struct {
	SignUpID      consent.ID        `json:"signUpId" doc:"The sign-up, whose link was in the mail."`
	TransactionID consent.ID        `json:"transactionId" doc:"The transaction by which they signed up."`
	EmailID       consent.ID        `json:"emailId" doc:"The mail."`
	SentAt        consent.Timestamp `json:"sentAt" doc:"When the mail server, or the subscription, took the mail."`
	OpenedAt      consent.Timestamp `json:"openedAt" doc:"When the page behind the link was opened."`
}

// visitor is what is known of a browser.
type visitor struct {
	Address consent.Text `json:"address" doc:"The address in the network."`
	Agent   consent.Text `json:"agent" doc:"What the browser calls itself."`
}

func confirmationOf(c *consent.Confirmed) *confirmation {
	if c == nil {
		return nil
	}
	return &confirmation{c.SignUp, c.TransactionID, c.Mail, consent.Timestamp(c.SentAt), consent.Timestamp(c.OpenedAt)}
}

func visitorIn(a consent.Attribution) *visitor {
	if a.VisitorAddress == "" && a.VisitorAgent == "" {
		return nil
	}
	return &visitor{consent.Text(a.VisitorAddress), consent.Text(a.VisitorAgent)}
}

type pastChange struct {
	Change
	About
	Upheld bool    `json:"upheld" doc:"The objection was upheld at once and stands as OBJECTION_UPHELD."`
	Covers []cover `json:"covers" doc:"The options that a group change answered for, as the group was then."`
}

type cover struct {
	OptionID   string            `json:"optionId"`
	ValidUntil consent.Timestamp `json:"validUntil"`
}

// documents are the policy, the statement and the template that were shown.
type documents struct {
	PrivacyPolicy       *shownPolicy    `json:"privacyPolicy" doc:"The privacy policy; null where none was named."`
	PermissionStatement *shownStatement `json:"permissionStatement" doc:"The permission statement; null where none was named."`
	Template            *shownTemplate  `json:"template" doc:"The template; null where none was named."`
}

// TransformSchema says that none need have been named.
func (documents) TransformSchema(_ huma.Registry, s *huma.Schema) *huma.Schema {
	for name, p := range s.Properties {
		s.Properties[name] = orNull(p)
	}
	return s
}

// ShownDocument says which version of a document was shown.
type ShownDocument struct {
	ID        string `json:"id" doc:"The document."`
	Reference string `json:"reference" doc:"Its reference."`
	Revision  int64  `json:"revision" doc:"Its revision, counted from 1."`
	Proven    bool   `json:"proven" doc:"Whether it is proven that this revision was shown. Otherwise it was the newest when the record was made."`
}

type shownPolicy struct {
	ShownDocument
	Name    string `json:"name" doc:"What the policy was called."`
	Version string `json:"version" doc:"What the policy calls its version."`
	URL     string `json:"url" doc:"Where it could be read."`
}

type shownStatement struct {
	ShownDocument
	Text map[string]string `json:"text" doc:"The words by locale; an empty locale is the default one."`
}

type shownTemplate struct {
	ShownDocument
	Locale consent.Text `json:"locale" doc:"The language in which it was shown."`
}

func documentOf(c *consent.Citation) ShownDocument {
	return ShownDocument{c.ID, c.Ref, c.Version, !c.Unproven}
}

func (s *server) getHistory(ctx context.Context, actor core.Actor, in *getHistoryInput) (citizenHistory, error) {
	return s.historyOf(ctx, actor, consent.ID(in.CitizenID), &in.HistoryPage)
}

func (s *server) getOwnHistory(ctx context.Context, actor core.Actor, in *HistoryPage) (citizenHistory, error) {
	return s.historyOf(ctx, actor, actor.Citizen, in)
}

func (s *server) historyOf(ctx context.Context, actor core.Actor, citizen consent.ID, in *HistoryPage) (citizenHistory, error) {
	p := Paging{Limit: in.Limit, Cursor: in.Cursor, IncludeTotal: true}
	var after int64
	if err := p.place("history", &after); err != nil {
		return citizenHistory{}, err
	}
	h, err := s.Core.History(ctx, actor, citizen, after, in.Limit)
	if err != nil {
		return citizenHistory{}, err
	}
	return citizenHistory{
		h.ApplicationID, citizen, recordsIn(h),
		p.page("history", len(h.Entries), h.Total, func() []any { return []any{h.Entries[len(h.Entries)-1].Seq} }),
	}, nil
}

// Kept gives what is recorded of a citizen, and the mails to them, as the history and the
// evidence of the API list them: for the file that citizens take elsewhere.
func Kept(h core.History) (history, emails any) { return recordsIn(h), emailsIn(h) }

func recordsIn(h core.History) []historyRecord {
	list := make([]historyRecord, len(h.Entries))
	for i, e := range h.Entries {
		list[i] = historyRecordOf(h, e)
	}
	return list
}

func emailsIn(h core.History) []sentMail {
	list := make([]sentMail, len(h.Mails))
	for i, m := range h.Mails {
		list[i] = emailOf(m)
	}
	return list
}

func historyRecordOf(h core.History, e store.Entry) historyRecord {
	evidence := e.Evidence()
	r := historyRecord{
		Seq: e.Seq, Hash: hex.EncodeToString(e.Hash), Kind: "submission", ByCitizen: evidence.ByCitizen, Visitor: visitorIn(evidence.Attribution), Shown: shownWith(h, evidence),
	}
	switch {
	case e.Transaction != nil:
		r.Kind, r.Transaction = "transaction", &pastTransaction{
			e.Transaction.ID,
			idOrNull{e.Transaction.Reverts},
			provenanceOf(e), confirmationOf(e.Transaction.Confirms),
			make([]pastChange, len(e.Transaction.Changes)),
		}
		for i, c := range e.Transaction.Changes {
			covers := make([]cover, len(c.Covers))
			for k, m := range c.Covers {
				covers[k] = cover{m.OptionID, consent.Timestamp(m.ValidUntil)}
			}
			r.Transaction.Changes[i] = pastChange{changeOf(c), aboutOf(h.Snapshot, consent.Key{Type: c.OptionType, ID: c.OptionID}), c.Upheld, covers}
		}
	case e.Suppression != nil:
		r.Kind, r.Suppression = "suppression", pastSuppressionOf(h.Snapshot, e.Suppression)
	default:
		v := submissionOf(e)
		r.Submission = &v
	}
	return r
}

// shownWith gives the documents that a record cites, as they were.
func shownWith(h core.History, e *consent.Evidence) documents {
	var d documents
	if c := e.Policy; c != nil {
		p, v := h.PolicyShown(e)
		d.PrivacyPolicy = &shownPolicy{ShownDocument: documentOf(c), Name: p.Name, Version: v.Version, URL: v.URL}
	}
	if c := e.Statement; c != nil {
		d.PermissionStatement = &shownStatement{documentOf(c), h.Statements[*c].Text}
	}
	if f := e.Form; f != nil {
		d.Template = &shownTemplate{documentOf(&f.Citation), consent.Text(f.Locale)}
	}
	return d
}
