package store

import (
	"context"
	"time"

	"github.com/opencpm/opencpm/internal/consent"
)

// Claim is the right to renew the token of a subscription, which nobody else has until
// then.
type Claim struct {
	Registered // as it was when the claim was made
	Until      consent.Instant
}

// ClaimToken gives a subscription as it is, and to one caller of all who ask the right to
// renew its token for as long as ttl by the database's clock. There is no right, and Until
// is zero, where somebody else has it, or where the token is not the stale one any more:
// then somebody has renewed or replaced it.
func (s *Store) ClaimToken(ctx context.Context, subscription int64, stale string, ttl time.Duration) (Claim, error) {
	var c Claim
	err := s.update(ctx, func(ctx context.Context, t *tx) (err error) {
		c = Claim{}
		var busy consent.Instant
		if c.Registered, busy, err = s.lockTokens(ctx, t, subscription); err != nil {
			return err
		}
		at, err := s.dialect.clock(ctx, t)
		if err != nil || c.Secrets.Token != stale || busy > at {
			return err
		}
		c.Until = at.Add(ttl)
		_, err = t.exec(ctx, `UPDATE subscription SET refreshing_until = $2 WHERE id = $1`, subscription, c.Until)
		return err
	})
	return outcome(&c, err)
}

// lockTokens reads a subscription under the lock of its row, and until when somebody
// renews its token.
func (s *Store) lockTokens(ctx context.Context, t *tx, subscription int64) (v Registered, busy consent.Instant, err error) {
	n, err := changed(ctx, t, `UPDATE subscription SET refreshing_until = refreshing_until WHERE id = $1`, subscription)
	if err == nil && n == 0 {
		err = errNoSubscription
	}
	if err != nil {
		return v, 0, err
	}
	if err := t.row(ctx, `SELECT refreshing_until FROM subscription WHERE id = $1`, subscription).Scan(&busy); err != nil {
		return v, 0, err
	}
	list, err := collect(ctx, t, s.scanSubscription, `SELECT `+subscriptionColumns+` FROM `+subscriptionTables+` WHERE s.id = $1`, subscription)
	if err != nil {
		return v, 0, err
	}
	return list[0], busy, nil
}

// Unclaim ends a claim that led to nothing.
func (s *Store) Unclaim(ctx context.Context, c Claim) error {
	return s.update(ctx, func(ctx context.Context, t *tx) error {
		return t.unclaim(ctx, c)
	})
}

func (t *tx) unclaim(ctx context.Context, c Claim) error {
	_, err := t.exec(ctx, `UPDATE subscription SET refreshing_until = 0 WHERE id = $1 AND refreshing_until = $2`, c.Number, c.Until)
	return err
}

// Token is what a token endpoint answered.
type Token struct {
	Access  string
	Refresh string          // the next refresh token; empty: the one that was used goes on
	Got     consent.Instant // by the clock of this machine, before it was asked for
	Lives   time.Duration   // 0: not known
}

// KeepToken stores what a claim led to, ends it, and gives the subscription as it is now.
// What somebody changed meanwhile stays: an access token that was set is not replaced, and
// where the token would be got in another way by now nothing is kept at all.
func (s *Store) KeepToken(ctx context.Context, c Claim, token Token) (Registered, error) {
	var v Registered
	err := s.update(ctx, func(ctx context.Context, t *tx) (err error) {
		if v, _, err = s.lockTokens(ctx, t, c.Number); err != nil {
			return err
		}
		if err := t.unclaim(ctx, c); err != nil {
			return err
		}
		before, _ := c.Grant()
		if now, _ := v.Grant(); now != before {
			return nil
		}
		if token.Refresh != "" && before.RefreshToken != "" {
			v.Secrets.RefreshToken = token.Refresh
		}
		if v.Secrets.Token == c.Secrets.Token {
			v.Secrets.SetToken(token.Access, token.Got, token.Lives)
		}
		_, secrets, err := s.subscriptionParts(v.Subscription)
		if err != nil {
			return err
		}
		if _, err := t.exec(ctx, `UPDATE subscription SET secrets = $2 WHERE id = $1`, c.Number, secrets); err != nil {
			return err
		}
		t.rings |= bellSetup
		return t.audit(ctx, v.Application, consent.Platform.ID, "subscription.token.refresh", v.ID.String())
	})
	return outcome(&v, err)
}
