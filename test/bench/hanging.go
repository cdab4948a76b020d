package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"

	"github.com/opencpm/opencpm/client"
)

// How many endpoints there are, and how many of them hang.
const (
	endpoints = 100
	hung      = 10
)

// hanging measures what endpoints that hang cost the others: deliveries to 90 that answer, beside 10 that take messages and
// never answer, and without those.
func (b *bench) hanging(ctx context.Context, s *store) error {
	trap, err := newTrap(ctx)
	if err != nil {
		return err
	}
	defer trap.close()
	n := max(1, min(b.plan.backlog/(endpoints-hung), s.citizens))
	figures, err := b.interleave(
		func() (float64, error) { return b.hangingOnce(ctx, s, n, trap.url, hung) },
		func() (float64, error) { return b.hangingOnce(ctx, s, n, trap.url, 0) },
	)
	if err != nil {
		return err
	}
	trip := row{Trip: fmt.Sprintf("drain to %d endpoints, %d more hang", endpoints-hung, hung), Unit: perSecond, Judged: ratio, Yardstick: "the same without those", Goal: 0.95}
	b.add(s, trip.against(figures[0], figures[1]))
	return nil
}

// hangingOnce lets n changes wait for 90 endpoints and some that hang, and gives the rate of the deliveries to the former.
func (b *bench) hangingOnce(ctx context.Context, s *store, n int, trap string, hang int) (float64, error) {
	var ids []string
	err := s.during(ctx, recording, func(v *server) error {
		if err := s.unsubscribe(ctx, v); err != nil {
			return err
		}
		if err := s.asClient(v, func(c *client.Client) error {
			for i := range endpoints - hung + hang {
				url := fmt.Sprintf("%s/%d", b.receiver.url, i)
				if i < hang {
					url = fmt.Sprintf("%s/%d", trap, i)
				}
				made, err := c.CreateSubscription(ctx, client.Subscription{
					ApplicationID: application, Name: fmt.Sprint(i), URL: url, UpdateType: client.EffectivePermission,
				})
				if err != nil {
					return err
				}
				ids = append(ids, made.ID)
			}
			return nil
		}); err != nil {
			return err
		}
		return s.changeEach(ctx, v, n)
	})
	if err != nil {
		return 0, err
	}
	arrived := newTally(n * (endpoints - hung))
	b.receiver.use(arrived.note)
	err = s.during(ctx, complete, func(v *server) error {
		err := b.await(ctx, arrived.done)
		return errors.Join(err, s.asClient(v, func(c *client.Client) (err error) {
			for _, id := range ids {
				err = errors.Join(err, c.DeleteSubscription(ctx, id))
			}
			return err
		}))
	})
	return arrived.rate(), err
}

// trap is an endpoint that takes whatever comes and never answers.
type trap struct {
	url      string
	listener net.Listener
	done     sync.WaitGroup
}

func newTrap(ctx context.Context) (*trap, error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	t := &trap{url: "http://" + listener.Addr().String(), listener: listener}
	t.done.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			t.done.Go(func() {
				_, _ = io.Copy(io.Discard, conn) // until the other end has had enough
				_ = conn.Close()
			})
		}
	})
	return t, nil
}

// close waits for those who called to give up, which the end of their process makes them do.
func (t *trap) close() {
	_ = t.listener.Close()
	t.done.Wait()
}
