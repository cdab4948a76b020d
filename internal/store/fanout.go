package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"slices"

	"github.com/opencpm/opencpm/internal/consent"
)

// subscriber is an active subscription that is told of changes.
type subscriber struct {
	number  int64
	updates consent.UpdateType
	consent.SubscriptionOptions
}

// subscribers gives the active subscriptions of an application that follow changes, once
// for each transaction. One that is made, paused or changed by another node meanwhile is
// as if that had happened a moment later.
func (t *tx) subscribers(ctx context.Context, application int64) ([]subscriber, error) {
	if list, known := t.told[application]; known {
		return list, nil
	}
	list, err := collect(ctx, t, func(r *sql.Rows) (v subscriber, err error) {
		var options string
		if err = r.Scan(&v.number, &v.updates, &options); err == nil {
			err = json.Unmarshal([]byte(options), &v.SubscriptionOptions)
		}
		return v, err
	}, `SELECT id, update_type, options FROM subscription WHERE application = $1 AND status = 'active' AND update_type <> 'citizen-emails' ORDER BY id`, application)
	if err == nil {
		if t.told == nil {
			t.told = map[int64][]subscriber{}
		}
		t.told[application] = list
	}
	return list, err
}

// note is what must be delivered to one subscription of what happened to a citizen: one
// change as a message of its own, or the full state, for a number of changes.
type note struct {
	subscription int64
	version      int64 // of the change, or of the full state
	whole        bool
	count        int64
}

// notes says what must be delivered of what happened to a citizen.
func (t *tx) notes(ctx context.Context, c *citizenRow) ([]note, error) {
	if len(c.changes)+len(c.renewals) == 0 {
		return nil, nil
	}
	list, err := t.subscribers(ctx, c.application)
	if err != nil {
		return nil, err
	}
	var out []note
	for i := range list {
		s := &list[i]
		placed, err := t.placement(ctx, c.application, s.Filter)
		if err != nil {
			return nil, err
		}
		whole := note{subscription: s.number, version: c.version, whole: true}
		for j := range c.changes {
			switch h := &c.changes[j]; {
			case !s.wants(h, placed):
			case s.updates == consent.ConsentReceipts || s.MessagePerChange:
				out = append(out, note{subscription: s.number, version: h.version})
			default:
				whole.count++
			}
		}
		if s.updates != consent.ConsentReceipts {
			for _, by := range c.renewals {
				// Whoever must not hear of its own writes is told when one of them did not win, or it
				// would believe for ever that it did.
				if !s.OnlyOnStateChange || slices.Contains(s.IgnoreClients, by) {
					whole.count++
				}
			}
		}
		if whole.count > 0 {
			out = append(out, whole)
		}
	}
	return out, nil
}

// bulk is 1 where nobody waits for what must be delivered of the citizen.
func (c *citizenRow) bulk() int64 {
	if c.person {
		return 0
	}
	return 1
}

// wants reports whether a subscription is told of a change. The erasure of a citizen and
// a new reference are told to all.
func (s *subscriber) wants(h *change, placed consent.Placement) bool {
	if h.news.Empty() {
		return true
	}
	if s.OnlyOnStateChange && !h.shifts || h.echo && slices.Contains(s.IgnoreClients, h.changedBy) {
		return false
	}
	return !s.Filter.Select(h.news, placed).Empty()
}

// placement reads the placement of a catalogue where the filter needs it.
func (t *tx) placement(ctx context.Context, application int64, f consent.Filter) (consent.Placement, error) {
	if len(f.Options)+len(f.Channels) == 0 {
		return consent.Placement{}, nil
	}
	return t.store.placement(ctx, t, application)
}

// placed is the placement of a catalogue at a revision.
type placed struct {
	revision int64
	consent.Placement
}

// Placement gives the placement of an application's catalogue, for its filters.
func (s *Store) Placement(ctx context.Context, application int64) (consent.Placement, error) {
	p, err := s.placement(ctx, s.fixed, application)
	return p, s.classify(err)
}

func (s *Store) placement(ctx context.Context, q reader, application int64) (consent.Placement, error) {
	var revision int64
	if err := q.QueryRowContext(ctx, `SELECT revision FROM application WHERE id = $1`, application).Scan(&revision); err != nil {
		return consent.Placement{}, err
	}
	if known, ok := s.placements.Load(application); ok && known.(placed).revision == revision {
		return known.(placed).Placement, nil
	}
	items, err := catalogueItems(ctx, q, application, "")
	if err != nil {
		return consent.Placement{}, err
	}
	p, err := consent.Place(items)
	if err == nil {
		s.placements.Store(application, placed{revision, p})
	}
	return p, err
}
