package api

import (
	"context"
	"fmt"
	"reflect"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/internal/core"
	"github.com/opencpm/opencpm/internal/store"
)

// deliveryID names an entry of the delivery log, which the API calls a delivery.
func deliveryID(id int64) string { return fmt.Sprintf("%016x", uint64(id)) }

// entryOf reads what deliveryID wrote. Anything else names an entry that does not exist.
func entryOf(id string) int64 {
	n, err := strconv.ParseInt(id, 16, 64)
	if err != nil || n <= 0 || len(id) != 16 {
		return -1
	}
	return n
}

// Delivered is an entry of the delivery log.
type Delivered struct {
	ID         string               `json:"id" doc:"What it is called in requests: the deliveryId."`
	At         consent.Timestamp    `json:"at" doc:"When the attempt, or the message, ended."`
	CitizenID  consent.ID           `json:"citizenId"`
	EventID    idOrNull             `json:"eventId" doc:"The message; null where several ended at once."`
	EventType  consent.EventType    `json:"eventType" doc:"What the message is about." enum:"citizen.changed,citizen.deleted,citizen.email,token.refreshed,resync,test"`
	Sequence   int64                `json:"sequence"`
	Attempt    int                  `json:"attempt" doc:"Which attempt on the message, from 1; 0 where nothing was sent."`
	Outcome    store.AttemptOutcome `json:"outcome" doc:"What came of it."`
	StatusCode *int64               `json:"statusCode" doc:"The status of the answer; null where there was none."`
	Class      string               `json:"class" doc:"ok, status (an answer that is not 2xx), or why there was no answer, such as timeout, dns, connect or tls."`
	Reason     consent.Text         `json:"reason" doc:"Why the message was not accepted, a sentence; null where it was."`
	Duration   *float64             `json:"durationMs" doc:"How long the answer took, in milliseconds; null where nothing was sent."`
	NextAt     consent.Timestamp    `json:"nextAttemptAt" doc:"When it is tried again; null where it is not."`
	Coalesced  int64                `json:"coalesced" doc:"How many changes the message carried, or how many messages ended."`
}

func deliveredOf(a store.Attempt) Delivered {
	out := Delivered{
		ID: deliveryID(a.ID), At: consent.Timestamp(a.At()), CitizenID: a.CitizenID, EventID: idOrNull{a.Event}, EventType: a.EventType, Sequence: a.Sequence, Attempt: a.Number,
		Outcome: a.Outcome, Class: a.Class, Reason: consent.Text(a.Reason), NextAt: consent.Timestamp(a.Next), Coalesced: a.Coalesced,
	}
	if a.Number > 0 {
		out.StatusCode, out.Duration = statusOf(a.Status), milliseconds(a.Took)
	}
	return out
}

func statusOf(code int) *int64 {
	if code == 0 {
		return nil
	}
	status := int64(code)
	return &status
}

func milliseconds(d time.Duration) *float64 {
	ms := float64(d.Microseconds()) / 1000
	return &ms
}

type deliveryList struct {
	Deliveries []Delivered  `json:"deliveries" doc:"The entries of the log, the newest first."`
	NextCursor consent.Text `json:"nextCursor"`
}

// CitizenFilter are the parameters that name one citizen in a list.
type CitizenFilter struct {
	CitizenID   idParam `query:"citizenId" doc:"Only those of this citizen."`
	ExternalRef string  `query:"externalRef" maxLength:"500" doc:"Only those of the citizen with this reference."`
}

func (f CitizenFilter) key() *consent.CitizenKey {
	if consent.ID(f.CitizenID).IsZero() && f.ExternalRef == "" {
		return nil
	}
	return &consent.CitizenKey{ID: consent.ID(f.CitizenID), ExternalRef: f.ExternalRef}
}

type listDeliveriesInput struct {
	SubscriptionPath
	CitizenFilter
	Outcome    string  `query:"outcome" enum:"delivered,retrying,waiting,deferred,discarded,erased,expired" doc:"Only those with this outcome."`
	StatusCode int     `query:"statusCode" minimum:"-1" maximum:"999" default:"-1" doc:"Only attempts with this status; 0, those without an answer."`
	EventID    idParam `query:"eventId" doc:"Only those of this message."`
	Since      moment  `query:"since" doc:"Only those from this instant on."`
	Before     moment  `query:"before" doc:"Only those before this instant."`
	Cursor     string  `query:"cursor" maxLength:"200"`
	Limit      int     `query:"limit" minimum:"1" maximum:"100" default:"20"`
}

func (s *server) listDeliveries(ctx context.Context, actor core.Actor, in *listDeliveriesInput) (deliveryList, error) {
	q := core.DeliveriesQuery{Citizen: in.key(), AttemptFilter: store.AttemptFilter{
		Event: consent.ID(in.EventID), Outcome: store.AttemptOutcome(in.Outcome), Since: in.Since.Instant, Before: in.Before.Instant, Limit: in.Limit,
	}}
	if in.StatusCode >= 0 {
		status := int64(in.StatusCode)
		q.Status = &status
	}
	var faults consent.Faults
	readCursor(&faults, in.Cursor, "deliveries", &q.Under)
	if err := faults.Err(); err != nil {
		return deliveryList{}, err
	}
	found, next, err := s.Core.Deliveries(ctx, actor, consent.ID(in.ID), q)
	out := deliveryList{Deliveries: make([]Delivered, len(found))}
	for i, a := range found {
		out.Deliveries[i] = deliveredOf(a)
	}
	if next != 0 {
		out.NextCursor = cursorOf("deliveries", next)
	}
	return out, err
}

// DeliveryPath names one entry of the delivery log of a subscription.
type DeliveryPath struct {
	SubscriptionPath
	DeliveryID string `path:"deliveryId" maxLength:"50" doc:"The entry of the log."`
}

// delivery is an entry of the log with what was sent and answered.
type delivery struct {
	Delivered
	State    store.MessageState `json:"state" doc:"What has become of the message." enum:"sending,retrying,waiting,delivered,superseded,discarded,erased,expired"`
	Request  *sentRequest       `json:"request" doc:"What was sent; null where it is not kept, or cannot be read since the citizen was erased."`
	Answer   *sentAnswer        `json:"answer" doc:"What was answered; null where there is no request."`
	Attempts []Delivered        `json:"attempts" doc:"All entries of the same message, the newest first."`
}

// TransformSchema says that there need not be a request.
func (delivery) TransformSchema(_ huma.Registry, s *huma.Schema) *huma.Schema {
	s.Properties["request"], s.Properties["answer"] = orNull(s.Properties["request"]), orNull(s.Properties["answer"])
	return s
}

type sentRequest struct {
	URL     string              `json:"url" doc:"Where it went, without a token."`
	Headers map[string][]string `json:"headers" doc:"Its headers; what is secret is masked."`
	Body    jsontext.Value      `json:"body" doc:"Its body; citizen tokens are masked."`
}

// TransformSchema says that the body is an object.
func (sentRequest) TransformSchema(_ huma.Registry, s *huma.Schema) *huma.Schema {
	s.Properties["body"] = &huma.Schema{Type: huma.TypeObject, AdditionalProperties: true, Description: s.Properties["body"].Description}
	return s
}

type sentAnswer struct {
	Headers   map[string][]string `json:"headers" doc:"Its headers, up to 4 KiB."`
	Body      string              `json:"body" doc:"Its body, up to 4 KiB; control characters are written by their numbers."`
	Truncated bool                `json:"truncated" doc:"Whether this is not the whole of it."`
}

func exchangeOf(x *store.Exchange) (*sentRequest, *sentAnswer) {
	if x == nil {
		return nil, nil
	}
	named := func(h map[string][]string) map[string][]string {
		if h == nil {
			return map[string][]string{}
		}
		return h
	}
	return &sentRequest{x.URL, named(x.Header), x.Body}, &sentAnswer{named(x.AnswerHeader), x.AnswerBody, x.Truncated}
}

func (s *server) getDelivery(ctx context.Context, actor core.Actor, in *DeliveryPath) (delivery, error) {
	d, err := s.Core.Delivery(ctx, actor, consent.ID(in.ID), entryOf(in.DeliveryID))
	out := delivery{Delivered: deliveredOf(d.Attempt), State: d.State, Attempts: make([]Delivered, len(d.Attempts))}
	out.Request, out.Answer = exchangeOf(d.Exchange)
	for i, a := range d.Attempts {
		out.Attempts[i] = deliveredOf(a)
	}
	return out, err
}

type waitingMessage struct {
	CitizenID consent.ID         `json:"citizenId"`
	Sequence  int64              `json:"sequence"`
	State     store.MessageState `json:"state" enum:"sending,retrying,waiting" doc:"Whether it is due or under way, tried again in a moment, or tried hourly."`
	Attempts  int                `json:"attempts" doc:"How many attempts have failed."`
	NextAt    consent.Timestamp  `json:"nextAttemptAt" doc:"When it is tried next."`
	ChangedAt consent.Timestamp  `json:"firstChangeAt" doc:"When the first change that it tells was made."`
	Changes   int64              `json:"changes" doc:"How many changes it tells; 0 for a state that an operator asked for."`
	Reason    consent.Text       `json:"reason" doc:"Why the last attempt failed, where it is tried hourly."`
}

type waitingList struct {
	Waiting    []waitingMessage `json:"waiting" doc:"What waits, in the order in which it is due."`
	NextCursor consent.Text     `json:"nextCursor"`
}

type listWaitingInput struct {
	SubscriptionPath
	CitizenFilter
	Cursor string `query:"cursor" maxLength:"200"`
	Limit  int    `query:"limit" minimum:"1" maximum:"100" default:"20"`
}

func (s *server) listWaiting(ctx context.Context, actor core.Actor, in *listWaitingInput) (waitingList, error) {
	var at store.WaitingPlace
	var faults consent.Faults
	readCursor(&faults, in.Cursor, "waiting", &at.DueAt, &at.Citizen, &at.Change)
	if err := faults.Err(); err != nil {
		return waitingList{}, err
	}
	found, err := s.Core.Waiting(ctx, actor, consent.ID(in.ID), in.key(), at, in.Limit)
	out := waitingList{Waiting: make([]waitingMessage, len(found))}
	now := consent.At(time.Now())
	for i, w := range found {
		out.Waiting[i] = waitingMessage{
			w.CitizenID, w.Sequence, w.State(now), w.Attempts, consent.Timestamp(w.DueAt), consent.Timestamp(w.ChangedAt), w.Changes, consent.Text(w.Reason),
		}
	}
	if n := len(found); n == in.Limit {
		out.NextCursor = cursorOf("waiting", int64(found[n-1].DueAt), found[n-1].Citizen, found[n-1].Change)
	}
	return out, err
}

// trial is what came of a message that was sent to try an endpoint.
type trial struct {
	Accepted   bool         `json:"accepted" doc:"Whether the endpoint accepted the message."`
	StatusCode *int64       `json:"statusCode" doc:"The status of the answer; null where there was none."`
	Class      string       `json:"class" doc:"ok, status (an answer that is not 2xx), or why there was no answer."`
	Reason     consent.Text `json:"reason" doc:"Why the message was not accepted, a sentence; null where it was."`
	Duration   *float64     `json:"durationMs" doc:"How long the answer took, in milliseconds."`
	Request    sentRequest  `json:"request" doc:"What was sent, without secrets."`
	Answer     sentAnswer   `json:"answer" doc:"What was answered."`
}

func trialOf(v store.Trial) trial {
	request, answer := exchangeOf(&v.Exchange)
	return trial{v.Delivered, statusOf(v.Status), v.Class, consent.Text(v.Reason), milliseconds(v.Took), *request, *answer}
}

func (s *server) testSubscription(ctx context.Context, actor core.Actor, in *SubscriptionPath) (trial, error) {
	v, err := s.Core.TrySubscription(ctx, actor, consent.ID(in.ID))
	return trialOf(v), err
}

type testSettingsInput struct{ body[newSubscription] }

func (s *server) testSettings(ctx context.Context, actor core.Actor, in *testSettingsInput) (trial, error) {
	value, request := in.read()
	v := consent.Subscription{ApplicationID: string(value.ApplicationID.value)}
	(*subscriptionChange)(&value).apply(&v)
	out, err := s.Core.TrySettings(ctx, actor, request, v)
	return trialOf(out), err
}

// begun is the answer of a call that may begin a job.
type begun struct {
	Messages int64 `json:"messages" doc:"How many messages the call dealt with by itself."`
	Job      *job  `json:"job" doc:"The job that deals with many; null where none was needed."`
}

// TransformSchema says that there need not be a job.
func (begun) TransformSchema(r huma.Registry, s *huma.Schema) *huma.Schema {
	s.Properties["job"] = orNull(r.Schema(reflect.TypeFor[job](), true, ""))
	s.Properties["job"].Description = "The job that deals with many; null where none was needed."
	return s
}

func (s *server) begunOf(messages int64, j *store.Job) begun {
	out := begun{Messages: messages}
	if j != nil {
		started := s.jobOf(*j)
		out.Job = &started
	}
	return out
}

type redelivery struct {
	DeliveryID *string `json:"deliveryId,omitempty" maxLength:"50" doc:"An entry of the log: its message is sent again at once."`
	Since      *moment `json:"since,omitempty" doc:"Everything that failed since and was not accepted is sent at once, by a job."`
}

type redeliverInput struct {
	SubscriptionPath
	body[redelivery]
}

func (s *server) redeliver(ctx context.Context, actor core.Actor, in *redeliverInput) (begun, error) {
	value, request := in.read()
	var v core.Redelivery
	if value.DeliveryID != nil {
		v.Entry = entryOf(*value.DeliveryID)
	}
	if value.Since != nil {
		v.Since = value.Since.Instant
	}
	j, err := s.Core.Redeliver(ctx, actor, request, consent.ID(in.ID), v)
	if j == nil {
		return s.begunOf(1, nil), err
	}
	return s.begunOf(0, j), err
}

type resync struct {
	Since         *moment `json:"since,omitempty" doc:"Only of those who changed since; left out, of everybody."`
	RatePerSecond *int64  `json:"ratePerSecond,omitempty" doc:"The most states a second that may be asked for, 1 to 100000; left out, no limit."`
}

type resyncInput struct {
	SubscriptionPath
	body[resync]
}

func (s *server) resync(ctx context.Context, actor core.Actor, in *resyncInput) (begun, error) {
	value, request := in.read()
	v := core.Resync{PerSecond: value.RatePerSecond}
	if value.Since != nil {
		v.Since = value.Since.Instant
	}
	j, err := s.Core.Resync(ctx, actor, request, consent.ID(in.ID), v)
	return s.begunOf(0, j), err
}

type discarding struct {
	DeliveryID *string  `json:"deliveryId,omitempty" maxLength:"50" doc:"An entry of the log, whose message is to end."`
	CitizenID  *idParam `json:"citizenId,omitempty" doc:"A citizen of whom nothing is to be sent any more that waits."`
	All        bool     `json:"all,omitempty" doc:"Whether everything that waits is to end, by a job."`
	Before     *moment  `json:"before,omitempty" doc:"Only what tells changes made before; left out, made by now."`
}

type discardInput struct {
	SubscriptionPath
	body[discarding]
}

func (s *server) discard(ctx context.Context, actor core.Actor, in *discardInput) (begun, error) {
	value, request := in.read()
	v := core.Discarding{All: value.All}
	if value.DeliveryID != nil {
		v.Entry = entryOf(*value.DeliveryID)
	}
	if value.CitizenID != nil {
		v.Citizen = &consent.CitizenKey{ID: consent.ID(*value.CitizenID)}
	}
	if value.Before != nil {
		v.Before = value.Before.Instant
	}
	ended, j, err := s.Core.Discard(ctx, actor, request, consent.ID(in.ID), v)
	return s.begunOf(ended, j), err
}
