package core

import (
	"context"
	"errors"
	"time"

	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/internal/store"
	"github.com/opencpm/opencpm/internal/token"
)

// UnsubscribeRequest asks for a link with which a citizen leaves one option or group.
type UnsubscribeRequest struct {
	ApplicationID string
	Citizen       consent.CitizenKey
	Leaves        consent.Key
}

// UnsubscribeLink is a link for the mails about one option, which is good for ever and
// opens nothing else.
type UnsubscribeLink struct{ Token, URL string }

// MintUnsubscribe makes the link with which a citizen leaves an option or a group. It is
// the same each time, as long as the same key signs.
func (s *Service) MintUnsubscribe(ctx context.Context, a Actor, r Request, q UnsubscribeRequest) (UnsubscribeLink, error) {
	snap, err := s.authoriseFor(ctx, a, consent.TokensCreate, q.ApplicationID, r.Found)
	if err != nil {
		return UnsubscribeLink{}, err
	}
	faults := r.Found
	checkCitizenKey(q.Citizen, &faults)
	switch q.Leaves.Type {
	case "":
		q.Leaves.Type = consent.OptionSingle
	case consent.OptionSingle, consent.OptionGroup:
	default:
		faults.Add("optionType", "must be %s or %s", consent.OptionSingle, consent.OptionGroup)
	}
	if !faults.At("optionId") && !faults.At("optionType") {
		checkLeavable(snap, q.Leaves, "optionId", &faults)
	}
	if err := faults.Err(); err != nil {
		return UnsubscribeLink{}, err
	}
	g, err := s.store.UnsubscribeGrounds(ctx, snap.Application, q.Citizen, q.Leaves)
	if err != nil {
		return UnsubscribeLink{}, err
	}
	text := s.WriteUnsubscribe(g)
	return UnsubscribeLink{text, s.baseURL + "/u/" + text}, nil
}

// WriteUnsubscribe writes a token with which a citizen leaves what its Issue is the number
// of, on grounds that the store gave.
func (s *Service) WriteUnsubscribe(g store.TokenGrounds) string {
	return s.tokens.Load().Mint(token.Claims{Scope: token.Unsubscribe, Application: g.Application, Citizen: g.Citizen, Issue: g.Issue})
}

// Leaving is what a link to unsubscribe is about, and whether that is done.
type Leaving struct {
	ApplicationID string
	Known         bool // it is a link of ours; of one that is not the rest is empty
	Leaves        consent.Key
	Left          bool       // nothing is left to leave, or there is nobody any more
	TransactionID consent.ID // that did it just now; zero where it was done before

	snap *consent.Snapshot // in which it can be understood
}

// Named gives what it is about in a locale: the names of a purpose and of a channel, or
// that of a group alone. They are empty of one that is not Known.
func (l Leaving) Named(locale string) (purpose, channel string) {
	if !l.Known {
		return "", ""
	}
	return l.snap.NamesOf(l.Leaves, locale)
}

// Leaving says what a link to unsubscribe is about. It changes nothing.
func (s *Service) Leaving(ctx context.Context, text string) (Leaving, error) {
	who, snap, err := s.leaver(ctx, text)
	if err != nil || who.CitizenID.IsZero() {
		return Leaving{}, err
	}
	out := leavingOf(who, snap)
	if who.Erased {
		return out, nil
	}
	state, err := s.store.State(ctx, who.Application, consent.CitizenKey{ID: who.CitizenID})
	if errors.Is(err, store.ErrNoCitizen) {
		out.Left, err = true, nil
		return out, err
	}
	if err != nil {
		return Leaving{}, err
	}
	out.Left = len(snap.Leave(who.Leaves, state.Projection, consent.At(time.Now()), nil)) == 0
	return out, nil
}

// unsubscribeChannel is the channel of what is recorded by a link to unsubscribe.
const unsubscribeChannel = "unsubscribe-link"

// onPage is the source of what is refused by the button of a page, which can be undone there.
const onPage = "page"

// Leave refuses what a link to unsubscribe is about, in the name of its citizen; oneClick
// says that a mail program did so for its reader (RFC 8058). What was refused already is
// not refused again, unless it could still be undone by the page on which it was: somebody
// else may have that open. A link that is none changes nothing, and is no error: it is
// not Known.
func (s *Service) Leave(ctx context.Context, text string, v Visitor, oneClick bool) (Leaving, error) {
	who, snap, err := s.leaver(ctx, text)
	if err != nil || who.CitizenID.IsZero() {
		return Leaving{}, err
	}
	out := leavingOf(who, snap)
	if who.Erased {
		return out, nil
	}
	record := consent.Transaction{Evidence: consent.Evidence{
		ID: store.NewID(), Channel: unsubscribeChannel, ByCitizen: true, Client: consent.Recorder{ID: "citizen " + who.CitizenID.String()},
		Attribution: consent.Attribution{Source: onPage, VisitorAddress: v.Address, VisitorAgent: v.Agent},
	}}
	if oneClick {
		record.Attribution.Source = "one-click"
	}
	done, left, err := s.store.RecordDecided(ctx, who.Application, who.CitizenID, record, func(p *consent.Projection, at consent.Instant) ([]consent.Change, error) {
		return snap.Leave(who.Leaves, p, at, func(e *consent.Evidence) bool {
			return e.Channel == unsubscribeChannel && e.Attribution.Source == onPage && at < e.RecordedAt.Add(UndoTime)
		}), nil
	})
	if errors.Is(err, store.ErrNoCitizen) { // erased this moment
		err = nil
	}
	if left {
		out.TransactionID = record.ID
		_, err = s.tell(Recorded{Recorded: done}, err)
	}
	if err != nil {
		return Leaving{}, err
	}
	out.Left = true
	return out, nil
}

// leaver finds whom a link to unsubscribe was made for, and a catalogue in which it can be
// understood. Whatever is wrong with one it takes one signature and one look at the store
// to find nobody.
func (s *Service) leaver(ctx context.Context, text string) (store.Leaver, *consent.Snapshot, error) {
	var who store.Leaver
	claims, good, err := s.verified(ctx, text, func(c token.Claims) (keys int64, err error) {
		who, keys, err = s.store.Leaver(ctx, c.Citizen, c.Issue)
		return keys, err
	})
	if err != nil || !good || claims.Scope != token.Unsubscribe || who.Application != claims.Application || who.CitizenID.IsZero() {
		return store.Leaver{}, nil, err
	}
	snap, err := s.snapshot(ctx, who.ApplicationID)
	if err != nil || snap.HasOption(who.Leaves) {
		return who, snap, err
	}
	snap, err = s.wholeSnapshot(ctx, snap) // an old mail must let its reader leave what is archived since
	return who, snap, err
}

// wholeSnapshot gives the catalogue of an application with what is archived in it.
func (s *Service) wholeSnapshot(ctx context.Context, snap *consent.Snapshot) (*consent.Snapshot, error) {
	if known, ok := s.wholes.Load(snap.Application); ok && known.(*consent.Snapshot).Revision == snap.Revision {
		return known.(*consent.Snapshot), nil
	}
	items, err := s.store.CatalogueItems(ctx, snap.Application, "")
	if err != nil {
		return nil, err
	}
	for i := range items {
		items[i].Archived = false
	}
	whole, err := consent.NewSnapshot(snap.ApplicationID, snap.Application, snap.Revision, items)
	if err == nil {
		s.wholes.Store(snap.Application, whole)
	}
	return whole, err
}

func leavingOf(who store.Leaver, snap *consent.Snapshot) Leaving {
	return Leaving{ApplicationID: who.ApplicationID, Known: true, Leaves: who.Leaves, Left: who.Erased, snap: snap}
}
