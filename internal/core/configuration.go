package core

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/internal/store"
)

// ExportCatalogue gives the catalogue of an application to whoever holds the data.
func (s *Service) ExportCatalogue(ctx context.Context, applicationID string) (consent.Catalogue, error) {
	snap, err := s.ownSnapshot(ctx, applicationID)
	if err != nil {
		return consent.Catalogue{}, err
	}
	return snap.Catalogue, nil
}

// Configuration gives the catalogue of an application.
func (s *Service) Configuration(ctx context.Context, a Actor, applicationID string) (consent.Catalogue, error) {
	if _, err := s.authorise(ctx, a, consent.ConfigurationRead, applicationID); err != nil {
		return consent.Catalogue{}, err
	}
	return s.ExportCatalogue(ctx, applicationID)
}

// Offer gives the catalogue to whoever may read permissions, to name what they are
// for.
func (s *Service) Offer(ctx context.Context, a Actor, applicationID string) (consent.Catalogue, error) {
	snap, err := s.authorise(ctx, a, consent.ConsentRead, applicationID)
	if err != nil {
		return consent.Catalogue{}, err
	}
	return snap.Catalogue, nil
}

// Difference says what an import changes, one line each.
type Difference struct {
	Action string // add, change or archive
	Kind   string
	Key    string
	// ID is what the API and the widgets call the item; empty for one that a dry run would
	// add, whose id is only made then, where that is not its key.
	ID string
	// Set and Cleared are the fields of a changed item that get another value, and those
	// that it has no longer.
	Set, Cleared []string
}

// Imported is what came of an import.
type Imported struct {
	Differences []Difference
	// Warnings say, by place in the document, what is allowed and does not work as it is.
	Warnings consent.Faults
}

// Import is how a document is brought into a catalogue.
type Import struct {
	Prune  bool           // archive what the document lacks, which else stays
	DryRun bool           // check and compare only
	Found  consent.Faults // what was wrong with the document already, told with the rest
}

// ImportCatalogue brings the catalogue of an application to what a document says,
// for whoever holds the data. What is equal is left alone, so a second import
// changes nothing. Everything is checked before anything is changed.
func (s *Service) ImportCatalogue(ctx context.Context, applicationID string, doc consent.Catalogue, how Import) (Imported, error) {
	return s.importCatalogue(ctx, applicationID, Operator, doc, how)
}

// PutConfiguration is ImportCatalogue for an actor.
func (s *Service) PutConfiguration(ctx context.Context, a Actor, applicationID string, doc consent.Catalogue, how Import) (Imported, error) {
	if _, err := s.authorise(ctx, a, consent.ConfigurationWrite, applicationID); err != nil {
		return Imported{}, err
	}
	return s.importCatalogue(ctx, applicationID, a.ID, doc, how)
}

func (s *Service) importCatalogue(ctx context.Context, applicationID, actor string, doc consent.Catalogue, how Import) (out Imported, err error) {
	wanted, err := doc.Items()
	if err != nil {
		return out, err
	}
	var whole consent.Catalogue
	written, err := s.editCatalogue(ctx, applicationID, actor, store.Once{}, func(present []consent.Revision) (changes []consent.Revision, err error) {
		if out.Differences, changes, whole, err = difference(present, wanted, how); err == nil && how.DryRun {
			err = s.checkCentres(ctx, applicationID, changes)
			changes = nil
		}
		return changes, err
	})
	if err != nil {
		return Imported{}, err
	}
	for i, v := range written {
		out.Differences[i].ID = v.ID
	}
	out.Warnings, err = s.unreachable(ctx, applicationID, whole, len(doc.PreferenceCentres), s.mailServer || actor == Operator)
	return out, err
}

// checkCentres fails as the import of changes would where another application has the
// address of a preference centre among them.
func (s *Service) checkCentres(ctx context.Context, applicationID string, changes []consent.Revision) error {
	snap, err := s.ownSnapshot(ctx, applicationID)
	if err != nil {
		return err
	}
	return s.store.CheckCentres(ctx, snap.Application, changes)
}

// unreachable says which of the first n preference centres of a catalogue do not work for
// visitors as the application is set up. Whether there is a mail server the command line
// does not know.
func (s *Service) unreachable(ctx context.Context, applicationID string, c consent.Catalogue, n int, mailServer bool) (warnings consent.Faults, err error) {
	snap, err := s.ownSnapshot(ctx, applicationID)
	if err != nil {
		return nil, err
	}
	mails, err := s.store.MailsLeave(ctx, snap.Application, store.Mailer{SMTP: mailServer && c.Application.Sender != nil})
	if err != nil {
		return nil, err
	}
	const noMail = "no mail can leave without application.sender and a mail server, or a citizen-emails subscription"
	for i, v := range c.PreferenceCentres[:n] {
		at := fmt.Sprintf("preferenceCentres[%d]", i)
		switch {
		case v.Closed:
		case v.Type == consent.SignUpCentre && !c.Application.UnauthenticatedCapture:
			warnings.Add(at, "is closed to visitors: application.unauthenticatedCapture is off")
		case v.Type == consent.SignUpCentre && !mails:
			warnings.Add(at, "takes sign-ups that nobody can confirm: %s", noMail)
		case v.Type == consent.LinkCentre && !mails:
			warnings.Add(at, "is closed to visitors: %s", noMail)
		}
	}
	return warnings, nil
}

// difference says what brings a catalogue to what is wanted, once that is checked: what
// differs, the revision of each to be written, and the catalogue as it would be, in which
// the items that are wanted come first.
func difference(present []consent.Revision, wanted []consent.Item, how Import) (differences []Difference, changes []consent.Revision, catalogue consent.Catalogue, err error) {
	type key struct{ kind, key string }
	before, named := map[key]consent.Revision{}, map[key]bool{}
	for _, v := range present {
		before[key{v.Kind, v.Key}] = v
	}
	add := func(d Difference, v consent.Revision) {
		d.Kind, d.Key = v.Kind, v.Key
		differences = append(differences, d)
		changes = append(changes, v)
	}
	for i, it := range wanted {
		k := key{it.Kind, it.Key}
		named[k] = true
		old, exists := before[k]
		switch {
		case !exists || old.Archived:
			add(Difference{Action: "add", ID: old.ID}, consent.Revision{Item: it, Position: i})
		case !bytes.Equal(old.Body, it.Body):
			d := Difference{Action: "change", ID: old.ID}
			if d.Set, d.Cleared, err = old.Compare(it); err != nil {
				return nil, nil, catalogue, err
			}
			add(d, consent.Revision{Item: it, Position: i})
		}
	}
	// The items of the document come first in the whole, so that a fault in them is
	// reported at its place in the document.
	whole := slices.Clone(wanted)
	for _, v := range present {
		switch {
		case v.Archived || named[key{v.Kind, v.Key}]:
		case how.Prune:
			v.Archived = true
			add(Difference{Action: "archive", ID: v.ID}, v)
		default:
			whole = append(whole, v.Item)
		}
	}
	if catalogue, err = consent.Assemble(whole); err != nil {
		return nil, nil, catalogue, err
	}
	found := slices.Clone(how.Found)
	for _, f := range catalogue.Faults(present) {
		found.Add(f.Location, "%s", f.Message)
	}
	return differences, changes, catalogue, found.Err()
}

// maxEdits is how often an edit of a catalogue is tried while other processes are
// faster: one of them always is through, and among three it is seldom that one
// misses ten times.
const maxEdits = 50

// editCatalogue writes the revisions that edit makes of the newest ones, archived
// items included, and gives them as they were written; of none it writes nothing.
// Where another process was faster it starts again, so that nobody has to know.
func (s *Service) editCatalogue(ctx context.Context, applicationID, actor string, once store.Once, edit func(present []consent.Revision) ([]consent.Revision, error)) (written []consent.Revision, err error) {
	s.editing.Lock()
	defer s.editing.Unlock()
	for try := 1; ; try++ {
		snap, err := s.ownSnapshot(ctx, applicationID)
		if err != nil {
			return nil, err
		}
		// Whatever changes from here on makes the write fail.
		present, err := s.store.CatalogueItems(ctx, snap.Application, "")
		if err != nil {
			return nil, err
		}
		// An earlier request with the same key is asked for only now: if it was in time to
		// be in what was read, its outcome is there as well.
		var earlier []consent.Revision
		if done, err := s.store.Outcome(ctx, once, &earlier); err != nil {
			return nil, err
		} else if done {
			return earlier, nil
		}
		changes, err := edit(present)
		if err != nil || len(changes) == 0 {
			return nil, err
		}
		application := store.Application{Number: snap.Application, ID: snap.ApplicationID, Revision: snap.Revision}
		written, err = s.store.ChangeCatalogue(ctx, application, changes, actor, once)
		if err == nil {
			err = s.refresh(ctx)
		}
		if !errors.Is(err, store.ErrOvertaken) || try == maxEdits {
			return written, err
		}
	}
}

// ItemName names an item of a catalogue: by the application, the kind, and the id
// or reference.
type ItemName struct{ ApplicationID, Kind, ID string }

// in finds the item by its id, or else by its reference.
func (n ItemName) in(items []consent.Revision) (consent.Revision, error) {
	i := slices.IndexFunc(items, func(v consent.Revision) bool { return v.Kind == n.Kind && v.ID == n.ID })
	if i < 0 {
		i = slices.IndexFunc(items, func(v consent.Revision) bool { return v.Kind == n.Kind && v.Key == n.ID })
	}
	if i < 0 {
		return consent.Revision{}, consent.Errorf(consent.NotFound, "There is no such %s.", consent.Words(n.Kind))
	}
	return items[i], nil
}

// CreateItem adds an item to a catalogue. Where an archived one has its key it
// comes back as that one's next revision; a live one is a Conflict.
func (s *Service) CreateItem(ctx context.Context, a Actor, r Request, applicationID, kind string, fields consent.Fields) (consent.Revision, error) {
	once := r.once(a, "create "+kind)
	if _, err := s.authoriseFor(ctx, a, consent.ConfigurationWrite, applicationID, r.Found); err != nil {
		return consent.Revision{}, err
	}
	item, err := consent.NewItem(kind, fields)
	if err != nil {
		return consent.Revision{}, err
	}
	return s.editItem(ctx, a, once, applicationID, func(present []consent.Revision) (v consent.Revision, found consent.Faults, err error) {
		v = consent.Revision{Item: item}
		for _, other := range present {
			v.Position = max(v.Position, other.Position+1)
		}
		return v, r.Found, nil
	})
}

// ChangeItem replaces the fields of an item that are given; null clears. The key
// cannot be changed, and what is archived has to be created anew.
func (s *Service) ChangeItem(ctx context.Context, a Actor, r Request, n ItemName, fields consent.Fields) (consent.Revision, error) {
	if _, err := s.authorise(ctx, a, consent.ConfigurationWrite, n.ApplicationID); err != nil {
		return consent.Revision{}, err
	}
	return s.editItem(ctx, a, store.Once{}, n.ApplicationID, func(present []consent.Revision) (v consent.Revision, found consent.Faults, err error) {
		if v, err = n.in(present); err == nil && v.Archived {
			err = consent.Errorf(consent.Conflict, "The %s is archived. Creating it anew brings it back.", consent.Words(n.Kind))
		}
		if err != nil {
			return v, nil, err
		}
		found = slices.Clone(r.Found)
		v.Item, err = v.Edit(fields, &found)
		return v, found, err
	})
}

// ArchiveItem takes an item out of the catalogue; its revisions stay. While others
// need it, that is a Conflict.
func (s *Service) ArchiveItem(ctx context.Context, a Actor, n ItemName) error {
	if _, err := s.authorise(ctx, a, consent.ConfigurationWrite, n.ApplicationID); err != nil {
		return err
	}
	_, err := s.editItem(ctx, a, store.Once{}, n.ApplicationID, func(present []consent.Revision) (v consent.Revision, found consent.Faults, err error) {
		v, err = n.in(present)
		v.Archived = true
		return v, nil, err
	})
	return err
}

// editItem writes the next revision of one item, unless it is as the last one, and
// gives the newest. Edit says what it is to be, the zero revision for one that must
// be new, and what was wrong with it already.
func (s *Service) editItem(ctx context.Context, a Actor, once store.Once, applicationID string, edit func(present []consent.Revision) (consent.Revision, consent.Faults, error)) (consent.Revision, error) {
	var newest consent.Revision
	written, err := s.editCatalogue(ctx, applicationID, a.ID, once, func(present []consent.Revision) ([]consent.Revision, error) {
		next, found, err := edit(present)
		if err != nil {
			return nil, err
		}
		needed, err := checkItem(present, next, found)
		if err != nil {
			return nil, err
		}
		for _, v := range present {
			switch {
			case v.Kind != next.Kind || v.Key != next.Key:
			case next.Revision == 0 && !v.Archived:
				return nil, consent.Errorf(consent.Conflict, "This %s exists already; nothing was changed.", consent.Words(v.Kind))
			case v.Archived == next.Archived && bytes.Equal(v.Body, next.Body):
				newest = v
				return nil, nil
			}
		}
		if needed != nil {
			return nil, consent.Errorf(consent.Conflict, "It is needed as it is by: %s. Nothing was changed.", strings.Join(needed, ", "))
		}
		return []consent.Revision{next}, nil
	})
	if len(written) == 1 {
		newest = written[0]
	}
	return newest, err
}

// checkItem checks the catalogue as it is with the next revision of one item. What is
// wrong in the item is told by its place in the item, together with what was found
// before; where something is wrong elsewhere, somebody needs the item as it was.
func checkItem(present []consent.Revision, next consent.Revision, found consent.Faults) (needed []string, err error) {
	var items []consent.Item
	if !next.Archived {
		items = append(items, next.Item)
	}
	for _, v := range present {
		if !v.Archived && (v.Kind != next.Kind || v.Key != next.Key) {
			items = append(items, v.Item)
		}
	}
	catalogue, err := consent.Assemble(items)
	if err != nil {
		return nil, err
	}
	found = slices.Clone(found)
	for _, f := range catalogue.Faults(present) {
		kind, key, within := catalogue.Locate(f.Location)
		if kind == next.Kind && key == next.Key {
			found.Add(within, "%s", f.Message)
		} else if other := fmt.Sprintf("%s %q", consent.Words(kind), key); !slices.Contains(needed, other) {
			needed = append(needed, other)
		}
	}
	return needed, found.Err()
}

// Item reads an item of a catalogue, archived or not.
func (s *Service) Item(ctx context.Context, a Actor, n ItemName) (consent.Revision, error) {
	items, err := s.Items(ctx, a, n.ApplicationID, n.Kind)
	if err != nil {
		return consent.Revision{}, err
	}
	return n.in(items)
}

// Items lists the items of one kind in a catalogue, archived ones among them, in the
// order of the document.
func (s *Service) Items(ctx context.Context, a Actor, applicationID, kind string) ([]consent.Revision, error) {
	snap, err := s.authorise(ctx, a, consent.ConfigurationRead, applicationID)
	if err != nil {
		return nil, err
	}
	return s.store.CatalogueItems(ctx, snap.Application, kind)
}

// ItemRevisions lists the revisions of an item before one of that number, the newest
// first, and how many there are in all.
func (s *Service) ItemRevisions(ctx context.Context, a Actor, n ItemName, before int64, limit, offset int) ([]consent.Revision, int64, error) {
	snap, err := s.authorise(ctx, a, consent.ConfigurationRead, n.ApplicationID)
	if err != nil {
		return nil, 0, err
	}
	items, err := s.store.CatalogueItems(ctx, snap.Application, n.Kind)
	if err != nil {
		return nil, 0, err
	}
	newest, err := n.in(items)
	if err != nil {
		return nil, 0, err
	}
	revisions, err := s.store.ItemRevisions(ctx, snap.Application, n.Kind, newest.Key, before, limit, offset)
	return revisions, newest.Revision, err // which counts them
}
