package main

import (
	"bufio"
	"bytes"
	"context"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// receiver is the system that webhooks go to: it reads every message, shows it to whoever measures and answers 204. It
// costs as little as a receiver can.
type receiver struct {
	url      string
	listener net.Listener
	show     atomic.Pointer[func(body []byte, at time.Time)]
	done     sync.WaitGroup

	mu    sync.Mutex
	conns map[net.Conn]bool
}

func newReceiver(ctx context.Context) (*receiver, error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	r := &receiver{url: "http://" + listener.Addr().String() + "/hook", listener: listener, conns: map[net.Conn]bool{}}
	r.use(func([]byte, time.Time) {})
	r.done.Go(r.accept)
	return r, nil
}

// use shows the messages from now on to a function, which several connections call at a time. What it is given is
// valid until it returns; the answer waits for that.
func (r *receiver) use(show func(body []byte, at time.Time)) { r.show.Store(&show) }

func (r *receiver) close() {
	_ = r.listener.Close()
	r.mu.Lock()
	for conn := range r.conns {
		_ = conn.Close()
	}
	r.mu.Unlock()
	r.done.Wait()
}

func (r *receiver) accept() {
	for {
		conn, err := r.listener.Accept()
		if err != nil {
			return
		}
		r.mu.Lock()
		r.conns[conn] = true
		r.mu.Unlock()
		r.done.Go(func() {
			r.serve(conn)
			_ = conn.Close()
			r.mu.Lock()
			delete(r.conns, conn)
			r.mu.Unlock()
		})
	}
}

// serve answers until the other end, or close, ends the connection.
func (r *receiver) serve(conn net.Conn) {
	in := bufio.NewReaderSize(conn, 8<<10)
	var body []byte
	for {
		length, _, err := readHead(in)
		if err != nil {
			return
		}
		if body, err = appendFrom(body[:0], in, length); err != nil {
			return
		}
		(*r.show.Load())(body, time.Now())
		if _, err := conn.Write([]byte("HTTP/1.1 204 No Content\r\n\r\n")); err != nil {
			return
		}
	}
}

// tally counts messages until as many have come as were expected.
type tally struct {
	expected int64
	begun    chan struct{} // closed by the first message
	done     chan struct{} // closed by the last
	count    atomic.Int64
	from, to time.Time // of the first and of the last; read after done
	sample   []byte    // the first; read after begun
}

func newTally(expected int) *tally {
	return &tally{expected: int64(expected), begun: make(chan struct{}), done: make(chan struct{})}
}

func (t *tally) note(body []byte, at time.Time) {
	switch t.count.Add(1) {
	case 1:
		t.from, t.sample = at, bytes.Clone(body)
		close(t.begun)
	case t.expected:
		<-t.begun
		t.to = at
		close(t.done)
	}
}

// rate is messages per second between the first and the last.
func (t *tally) rate() float64 { return float64(t.expected-1) / t.to.Sub(t.from).Seconds() }

// follow matches changes with the messages that bring them. A change is made out in the citizen's state by its number,
// which it carries as its channel.
type follow struct {
	mu      sync.Mutex
	waiting map[int]change // by citizen: the newest change of each that has not arrived
	empty   *sync.Cond     // when nothing waits
	took    []float64      // milliseconds
	last    time.Time      // when something arrived
}

type change struct {
	number int64
	begun  time.Time
}

func newFollow() *follow {
	f := &follow{waiting: map[int]change{}}
	f.empty = sync.NewCond(&f.mu)
	return f
}

// begin notes that a change is about to be sent.
func (f *follow) begin(citizen int, number int64, at time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.waiting[citizen] = change{number, at}
}

// note takes a message.
func (f *follow) note(body []byte, at time.Time) {
	citizen, number := changeIn(body)
	f.mu.Lock()
	defer f.mu.Unlock()
	c, waits := f.waiting[citizen]
	if !waits || number < c.number {
		return
	}
	delete(f.waiting, citizen)
	f.took, f.last = append(f.took, inMilliseconds(at.Sub(c.begun))), at
	if len(f.waiting) == 0 {
		f.empty.Broadcast()
	}
}

// await waits until every change has arrived and gives the instant of the last one.
func (f *follow) await(ctx context.Context) (time.Time, error) {
	stop := context.AfterFunc(ctx, func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.empty.Broadcast()
	})
	defer stop()
	f.mu.Lock()
	defer f.mu.Unlock()
	for len(f.waiting) > 0 && ctx.Err() == nil {
		f.empty.Wait()
	}
	return f.last, ctx.Err()
}

// changeIn reads the number of the citizen that a message is about, and the highest number of a change in it.
func changeIn(body []byte) (citizen int, number int64) {
	_, ref, _ := bytes.Cut(body, []byte(`"externalRef":"`+refPrefix))
	citizen = int(digits(ref))
	for found := true; found; {
		var channel []byte
		if _, channel, found = bytes.Cut(body, []byte(`"channel":"`+channelPrefix)); found {
			number = max(number, digits(channel))
			body = channel
		}
	}
	return citizen, number
}

// digits reads the number at the beginning of a text.
func digits(text []byte) int64 {
	end := 0
	for end < len(text) && text[end] >= '0' && text[end] <= '9' {
		end++
	}
	n, _ := strconv.ParseInt(string(text[:end]), 10, 64) // no number at all is zero, which no change has
	return n
}
