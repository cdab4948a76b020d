package store

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/opencpm/opencpm/internal/consent"
)

// Endpoint is how the endpoint of a subscription has been doing. Its instants are zero
// where there was none.
type Endpoint struct {
	FailingSince  consent.Instant // the first failure after the last success
	DownSince     consent.Instant // nothing but probes is sent since
	ProbeAt       consent.Instant // when the next probe may leave
	WaitUntil     consent.Instant // the endpoint asked for a pause until then
	ReleasedAt    consent.Instant // when it last came back
	LastSuccessAt consent.Instant
	LastFailureAt consent.Instant
	LastReason    string // of the last failure
	GoneAt        consent.Instant
	Delivered     int64 // messages, ever
	Failed        int64 // attempts, ever
}

const endpointColumns = `COALESCE(e.failing_since, 0), COALESCE(e.down_since, 0), COALESCE(e.probe_at, 0), COALESCE(e.wait_until, 0), COALESCE(e.released_at, 0),
	COALESCE(e.last_success_at, 0), COALESCE(e.last_failure_at, 0), COALESCE(e.last_reason, ''), COALESCE(e.gone_at, 0), COALESCE(e.delivered, 0), COALESCE(e.failed, 0)`

func (e *Endpoint) fields() []any {
	return []any{
		&e.FailingSince, &e.DownSince, &e.ProbeAt, &e.WaitUntil, &e.ReleasedAt,
		&e.LastSuccessAt, &e.LastFailureAt, &e.LastReason, &e.GoneAt, &e.Delivered, &e.Failed,
	}
}

// endpoint makes sure that the row of a subscription's endpoint is there, and locks it.
// Where the subscription is gone it reports so.
func (t *tx) endpoint(ctx context.Context, subscription int64) (known bool, err error) {
	n, err := changed(ctx, t, `INSERT INTO endpoint (subscription) SELECT id FROM subscription WHERE id = $1
		ON CONFLICT (subscription) DO UPDATE SET subscription = excluded.subscription`, subscription)
	return n == 1, err
}

// MarkDown notes that an endpoint is down since an instant and when the first probe may
// leave. It reports whether that is news.
func (s *Store) MarkDown(ctx context.Context, subscription int64, at consent.Instant, pause time.Duration) (bool, error) {
	var news bool
	err := s.update(ctx, func(ctx context.Context, t *tx) error {
		if known, err := t.endpoint(ctx, subscription); !known || err != nil {
			return err
		}
		n, err := changed(ctx, t, `UPDATE endpoint SET down_since = $2, probe_at = $3, probe_pause = $4 WHERE subscription = $1 AND down_since = 0`,
			subscription, at, at.Add(pause), int64(pause/time.Microsecond))
		news = n == 1
		t.rings |= bellSetup
		return err
	})
	return outcome(&news, err)
}

// ClaimProbe gives the caller, of all who ask, the right to send one probe to an endpoint
// that is down, if it is time for one. No other one leaves before busy, by which the probe
// has been answered.
func (s *Store) ClaimProbe(ctx context.Context, subscription int64, now, busy consent.Instant) (bool, error) {
	var mine bool
	err := s.update(ctx, func(ctx context.Context, t *tx) error {
		n, err := changed(ctx, t, `UPDATE endpoint SET probe_at = $3 WHERE subscription = $1 AND down_since > 0 AND probe_at <= $2`, subscription, now, busy)
		mine = n == 1
		return err
	})
	return outcome(&mine, err)
}

// ProbeFailed notes that the endpoint is still down, doubles the pause before the next
// probe up to longest, and gives when that may leave.
func (s *Store) ProbeFailed(ctx context.Context, subscription int64, now consent.Instant, longest time.Duration) (consent.Instant, error) {
	var next consent.Instant
	err := s.update(ctx, func(ctx context.Context, t *tx) error {
		err := t.row(ctx, `UPDATE endpoint SET probe_pause = CASE WHEN 2 * probe_pause > $3 THEN $3 ELSE 2 * probe_pause END,
				probe_at = $2 + CASE WHEN 2 * probe_pause > $3 THEN $3 ELSE 2 * probe_pause END
			WHERE subscription = $1 AND down_since > 0 RETURNING probe_at`, subscription, now, int64(longest/time.Microsecond)).Scan(&next)
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		t.rings |= bellSetup
		return err
	})
	return outcome(&next, err)
}

// MarkBack notes that an endpoint which was down is back: what failed before is due. It
// reports whether that is news.
func (s *Store) MarkBack(ctx context.Context, subscription int64, at consent.Instant) (bool, error) {
	var news bool
	err := s.update(ctx, func(ctx context.Context, t *tx) error {
		n, err := changed(ctx, t, `UPDATE endpoint SET down_since = 0, probe_at = 0, released_at = $2 WHERE subscription = $1 AND down_since > 0`, subscription, at)
		news = n == 1
		t.rings |= bellSetup
		return err
	})
	return outcome(&news, err)
}

// Hush notes that an endpoint asked for a pause until an instant.
func (s *Store) Hush(ctx context.Context, subscription int64, until consent.Instant) error {
	return s.update(ctx, func(ctx context.Context, t *tx) error {
		if known, err := t.endpoint(ctx, subscription); !known || err != nil {
			return err
		}
		t.rings |= bellSetup
		_, err := t.exec(ctx, `UPDATE endpoint SET wait_until = $2 WHERE subscription = $1 AND wait_until < $2`, subscription, until)
		return err
	})
}

// Tally is what one process saw of an endpoint since it last said so. The instants are
// zero where there was none.
type Tally struct {
	Subscription  int64
	Delivered     int64 // messages
	Failed        int64 // attempts
	LastSuccessAt consent.Instant
	FailingSince  consent.Instant // the first failure after LastSuccessAt
	LastFailureAt consent.Instant
	LastReason    string
	Gone          bool // the last failure was a 410
}

// Count adds up what processes saw of endpoints.
func (s *Store) Count(ctx context.Context, list []Tally) error {
	return s.update(ctx, func(ctx context.Context, t *tx) error {
		for _, v := range list {
			known, err := t.endpoint(ctx, v.Subscription)
			if err != nil {
				return err
			}
			if !known {
				continue
			}
			// Another process may have seen a success after the first failure that this one saw.
			gone := consent.Instant(0)
			if v.Gone {
				gone = v.LastFailureAt
			}
			if _, err := t.exec(ctx, `UPDATE endpoint SET delivered = delivered + $2, failed = failed + $3,
				failing_since = CASE WHEN CAST($4 AS BIGINT) > last_failure_at AND CAST($5 AS BIGINT) = 0 THEN 0
					WHEN CAST($4 AS BIGINT) = 0 AND failing_since > 0 THEN failing_since
					WHEN CAST($5 AS BIGINT) > last_success_at THEN CAST($5 AS BIGINT) ELSE failing_since END,
				gone_at = CASE WHEN CAST($8 AS BIGINT) > 0 THEN CASE WHEN gone_at > 0 THEN gone_at ELSE CAST($8 AS BIGINT) END
					WHEN $4 > 0 OR CAST($6 AS BIGINT) > 0 THEN 0 ELSE gone_at END,
				last_success_at = CASE WHEN $4 > last_success_at THEN $4 ELSE last_success_at END,
				last_reason = CASE WHEN $6 > last_failure_at THEN $7 ELSE last_reason END,
				last_failure_at = CASE WHEN $6 > last_failure_at THEN $6 ELSE last_failure_at END
				WHERE subscription = $1`,
				v.Subscription, v.Delivered, v.Failed, v.LastSuccessAt, v.FailingSince, v.LastFailureAt, v.LastReason, gone); err != nil {
				return err
			}
		}
		return nil
	})
}

// Notice is something that the operator should be told of an endpoint.
type Notice struct {
	Registered
	Kind NoticeKind
}

// NoticeKind says what there is to tell.
type NoticeKind string

// The kinds of notice.
const (
	NoticeFailing   NoticeKind = "failing"   // for an hour at least, and again every day
	NoticeGone      NoticeKind = "gone"      // it answered 410
	NoticeRecovered NoticeKind = "recovered" // after a notice that it fails
)

// The pauses before the operator is told that an endpoint fails, and told again.
const (
	noticeAfter = time.Hour
	noticeAgain = 24 * time.Hour
)

// FailingLong counts the active subscriptions whose endpoints have been failing for an
// hour at least.
func (s *Store) FailingLong(ctx context.Context) (n int64, err error) {
	err = s.fixed.QueryRowContext(ctx, `SELECT count(*) FROM endpoint e JOIN subscription s ON s.id = e.subscription
		WHERE s.status = 'active' AND e.failing_since > 0 AND e.failing_since <= $1`, now().Add(-noticeAfter)).Scan(&n)
	return n, s.classify(err)
}

// Notices gives what the operator should be told now. Each is given to one caller once;
// tell that it could not be passed on by Renotice.
func (s *Store) Notices(ctx context.Context) ([]Notice, error) {
	at := now()
	due := []struct {
		kind NoticeKind
		mark string // of notified_at
		when string
	}{
		{NoticeRecovered, `0`, `e.failing_since = 0 AND e.notified_at > 0`},
		{NoticeGone, `CAST($1 AS BIGINT)`, `e.gone_at > 0 AND e.notified_at = 0`},
		{NoticeFailing, `CAST($1 AS BIGINT)`, `e.failing_since > 0 AND (e.notified_at = 0 AND e.failing_since <= $2 OR e.notified_at > 0 AND e.notified_at <= $3)`},
	}
	args := []any{at, at.Add(-noticeAfter), at.Add(-noticeAgain)}
	var any bool
	if err := s.fixed.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM endpoint e JOIN subscription s ON s.id = e.subscription
		WHERE s.status = 'active' AND (e.notified_at > 0 AND (e.failing_since = 0 OR e.notified_at <= $2)
			OR e.notified_at = 0 AND (e.gone_at > 0 OR e.failing_since > 0 AND e.failing_since <= $1)))`, args[1:]...).Scan(&any); err != nil || !any {
		return nil, s.classify(err)
	}
	var out []Notice
	err := s.update(ctx, func(ctx context.Context, t *tx) error {
		out = nil
		for _, d := range due {
			list, err := collect(ctx, t, s.scanSubscription, `SELECT `+subscriptionColumns+` FROM `+subscriptionTables+`
				WHERE s.status = 'active' AND `+d.when+` AND CAST($1 AS BIGINT) + CAST($2 AS BIGINT) + CAST($3 AS BIGINT) > 0 ORDER BY s.id`, args...)
			if err != nil {
				return err
			}
			for _, v := range list {
				// Under the lock of the row: of two nodes that look at once one finds it told.
				n, err := changed(ctx, t, `UPDATE endpoint AS e SET notified_at = `+d.mark+` WHERE `+d.when+` AND e.subscription = $4 AND CAST($1 AS BIGINT) + CAST($2 AS BIGINT) + CAST($3 AS BIGINT) > 0`, append(args, v.Number)...)
				if err != nil {
					return err
				}
				if n == 1 {
					out = append(out, Notice{v, d.kind})
				}
			}
		}
		return nil
	})
	return outcome(&out, err)
}

// Renotice makes a notice that could not be passed on due again.
func (s *Store) Renotice(ctx context.Context, n Notice) error {
	return s.update(ctx, func(ctx context.Context, t *tx) error {
		was := consent.Instant(0)
		if n.Kind == NoticeRecovered {
			was = 1
		}
		_, err := t.exec(ctx, `UPDATE endpoint SET notified_at = $2 WHERE subscription = $1`, n.Number, was)
		return err
	})
}
