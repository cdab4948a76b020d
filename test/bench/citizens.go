package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync/atomic"
	"time"
)

// clients is how many clients call at a time.
const clients = 64

// What the references of citizens and the channels of changes begin with, before a number.
const (
	refPrefix     = "CUST-"
	channelPrefix = "web-"
)

// options are those of the catalogue.
var options = []string{
	"newsletter-email", "newsletter-sms", "offers-email", "offers-sms", "events-email", "events-sms", "research-email", "research-sms",
}

// Where changes are recorded, and where many citizens are created at once.
const (
	transactions = "/v1/permissions/transactions"
	bulk         = "/v1/citizens/bulk"
)

// seedBatch is how many citizens one request creates.
const seedBatch = 250

// appendTransaction writes the body of a transaction about one citizen. The channel carries the number of the change, so
// that it can be found again in what is delivered.
func appendTransaction(body []byte, citizen int, number int64, options []string, state string) []byte {
	body = append(body, `{"applicationId":"`+application+`","externalRef":"`+refPrefix...)
	body = strconv.AppendInt(body, int64(citizen), 10)
	body = append(body, `","channel":"`+channelPrefix...)
	body = strconv.AppendInt(body, number, 10)
	body = append(body, `","privacyPolicyRef":"policy-01","permissionStatementRef":"statement-01",`...)
	return append(appendChanges(body, options, state), '}')
}

func appendChanges(body []byte, options []string, state string) []byte {
	body = append(body, `"changes":[`...)
	for i, option := range options {
		if i > 0 {
			body = append(body, ',')
		}
		body = append(body, `{"optionType":"option","optionId":"`...)
		body = append(body, option...)
		body = append(body, `","justification":"consent","state":"`...)
		body = append(body, state...)
		body = append(body, `"}`...)
	}
	return append(body, ']')
}

// headers are those of every request.
func (s *store) headers() string { return "X-API-Key: " + s.key + "\r\n" }

// change writes the request that changes one option of a citizen.
func (s *store) change(w *writer, citizen int, number int64) []byte {
	state := "GRANTED"
	if number%2 == 0 {
		state = "DENIED"
	}
	option := int(number/2) % len(options)
	w.body = appendTransaction(w.body[:0], citizen, number, options[option:option+1], state)
	return w.post(transactions, s.headers())
}

// seed writes the request that creates citizens from one to another with an answer to each option.
func (s *store) seed(w *writer, from, to int) []byte {
	w.body = append(w.body[:0], `{"applicationId":"`+application+`","channel":"`+channelPrefix+`0","privacyPolicyRef":"policy-01","permissionStatementRef":"statement-01","citizens":[`...)
	for citizen := from; citizen <= to; citizen++ {
		if citizen > from {
			w.body = append(w.body, ',')
		}
		w.body = append(w.body, `{"externalRef":"`+refPrefix...)
		w.body = strconv.AppendInt(w.body, int64(citizen), 10)
		w.body = append(w.body, `",`...)
		w.body = append(appendChanges(w.body, options, "GRANTED"), '}')
	}
	w.body = append(w.body, "]}"...)
	return w.post(bulk, s.headers())
}

// seedTo brings the store to n citizens. No subscription hears of it.
func (s *store) seedTo(ctx context.Context, n int) error {
	began, from := time.Now(), s.citizens
	err := s.during(ctx, recording, func(server *server) error {
		if err := s.unsubscribe(ctx, server); err != nil {
			return err
		}
		var next atomic.Int64
		next.Store(int64(from + 1))
		_, _, err := callAll(ctx, server.address, 4, func(_ int, w *writer) []byte {
			last := int(next.Add(seedBatch)) - 1
			if first := last - seedBatch + 1; first <= n {
				return s.seed(w, first, min(last, n))
			}
			return nil
		})
		return err
	})
	if err != nil {
		return fmt.Errorf("seeding: %w", err)
	}
	s.citizens = n
	s.b.say("%s: %s citizens with %d options each, %s more in %.1f s", s.kind, grouped(n), len(options), grouped(n-from), time.Since(began).Seconds())
	return s.settle(ctx)
}

// once makes one call for each citizen from one to another.
func (s *store) once(ctx context.Context, server *server, from, to int, request func(w *writer, citizen int) []byte) error {
	var last atomic.Int64
	last.Store(int64(from - 1))
	_, _, err := callAll(ctx, server.address, clients, func(_ int, w *writer) []byte {
		citizen := int(last.Add(1))
		if citizen > to {
			return nil
		}
		return request(w, citizen)
	})
	return err
}

// anyOf picks one of the citizens that belong to a client alone, so that changes of one citizen follow each other.
func (s *store) anyOf(client int) int {
	share := (s.citizens - client + clients - 1) / clients
	return 1 + client + clients*rand.IntN(share)
}
