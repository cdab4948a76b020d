package store

import "sync"

// bell is a set of things that somebody may wait for.
type bell uint16

// The bells. Ringing one costs nothing when it rings already; who hears it looks
// in the database for what is new.
const (
	bellLanes   bell = 1 << iota // there is something to deliver for which somebody waits
	bellBulk                     // there is something else to deliver
	bellStored                   // something in the failures store is due before its time
	bellSetup                    // catalogue, subscriptions or credentials changed
	bellChanges                  // the feed of changes has something new
	bellJobs                     // the state or the progress of a job changed
	bellMails                    // there is a mail for the mail server, or somebody asked for a link
	bellAll     = bellLanes | bellBulk | bellStored | bellSetup | bellChanges | bellJobs | bellMails
)

// doorbells wakes those who wait, within the process and, by the dialect's relay,
// in other processes on the same data.
type doorbells struct {
	mu      sync.Mutex
	waiting map[chan struct{}]bell
	setups  int64         // how often bellSetup rang here
	first   chan struct{} // tells the relay that somebody waits where nobody did
	out     chan struct{} // wakes the relay
	pending bell          // for the relay
}

func newDoorbells() *doorbells {
	return &doorbells{waiting: map[chan struct{}]bell{}, first: make(chan struct{}, 1), out: make(chan struct{}, 1)}
}

// ring wakes everyone here and lets the relay tell the other processes.
func (d *doorbells) ring(b bell) {
	if b == 0 {
		return
	}
	d.ringHere(b)
	d.mu.Lock()
	d.pending |= b
	d.mu.Unlock()
	select {
	case d.out <- struct{}{}:
	default:
	}
}

func (d *doorbells) ringHere(b bell) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if b&bellSetup != 0 {
		d.setups++
	}
	for c, wants := range d.waiting {
		if wants&b != 0 {
			select {
			case c <- struct{}{}:
			default:
			}
		}
	}
}

// take gives what the relay has to tell and forgets it.
func (d *doorbells) take() bell {
	d.mu.Lock()
	defer d.mu.Unlock()
	b := d.pending
	d.pending = 0
	return b
}

// heard reports whether anybody waits.
func (d *doorbells) heard() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.waiting) > 0
}

func (d *doorbells) listen(b bell) (<-chan struct{}, func()) {
	c := make(chan struct{}, 1)
	d.mu.Lock()
	d.waiting[c] = b
	if len(d.waiting) == 1 {
		select {
		case d.first <- struct{}{}:
		default:
		}
	}
	d.mu.Unlock()
	return c, func() {
		d.mu.Lock()
		delete(d.waiting, c)
		d.mu.Unlock()
	}
}

// LanesChanged gives a channel that receives after there is something new of a kind to
// deliver, people's, in bulk or stored; several occasions may make one receive. Call stop when done.
func (s *Store) LanesChanged(kind Waiting) (c <-chan struct{}, stop func()) {
	return s.doorbells.listen([]bell{bellLanes, bellBulk, bellStored}[kind])
}

// SetupChanged gives a channel that receives after the set-up may have changed,
// here or in another process. Call stop when done.
func (s *Store) SetupChanged() (c <-chan struct{}, stop func()) { return s.doorbells.listen(bellSetup) }

// Setups counts how often the set-up may have changed, as far as this process knows:
// what was read of it at another count may be out of date.
func (s *Store) Setups() int64 {
	s.doorbells.mu.Lock()
	defer s.doorbells.mu.Unlock()
	return s.doorbells.setups
}

// ChangesMade gives a channel that receives after the state of a citizen may have
// changed, here or in another process. Call stop when done.
func (s *Store) ChangesMade() (c <-chan struct{}, stop func()) {
	return s.doorbells.listen(bellChanges)
}

// JobsChanged gives a channel that receives after a job may have changed, here or in
// another process. Call stop when done.
func (s *Store) JobsChanged() (c <-chan struct{}, stop func()) { return s.doorbells.listen(bellJobs) }
