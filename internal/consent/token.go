package consent

import "time"

// The bounds of the life of a citizen token: ten seconds and three calendar months.
const (
	minTokenLife    = 10 * time.Second
	maxTokenMonths  = 3
	tokenClockSkew  = time.Minute // how far the clock of who asks for one may differ
	tokenExpiryUnit = 1000        // it is published in milliseconds

	leastRegeneration = Instant(24 * time.Hour / time.Microsecond)
	mostTokenLife     = 92 * leastRegeneration // as long as three months can be
)

// TokenExpiry gives when a citizen token that is made now expires: when it is asked to,
// within the bounds, which are kept to where a clock that is a minute wrong would miss
// them; what is further off is a fault. Where nothing is asked it is ten seconds from now.
func TokenExpiry(asked, now Instant, faults *Faults) Instant {
	least, most := now.Add(minTokenLife), At(now.Time().AddDate(0, maxTokenMonths, 0))
	if asked != 0 && (asked < least.Add(-tokenClockSkew) || asked > most.Add(tokenClockSkew)) {
		faults.Add("expiryDate", "must lie between 10 seconds and 3 months from now")
	}
	return min(max(asked, least), most) / tokenExpiryUnit * tokenExpiryUnit
}

// TokenExpiry gives when the citizen token of a message that is sent at an instant
// expires.
func (o SubscriptionOptions) TokenExpiry(sent Instant) Instant {
	period, err := parsePeriod(o.CitizenTokenValidity)
	if err != nil {
		return sent // Check has refused it
	}
	return after(sent, period) / tokenExpiryUnit * tokenExpiryUnit
}

// Expiry gives when tokens expire that are made at an instant, on schedule: within three
// months, as all do.
func (r TokenRegeneration) Expiry(at Instant) Instant {
	most := At(at.Time().AddDate(0, maxTokenMonths, 0))
	period, err := parsePeriod(r.ValidFor)
	if err != nil {
		return most // Check has refused it
	}
	return min(after(at, period), most) / tokenExpiryUnit * tokenExpiryUnit
}

// TokensSpent gives an instant at which every token has expired that was made until another
// one.
func TokensSpent(until Instant) Instant { return until + mostTokenLife }

// DueBefore gives the instant before which tokens were last made where new ones are due
// at another.
func (r TokenRegeneration) DueBefore(at Instant) Instant {
	period, err := parsePeriod(r.Every)
	if err != nil {
		return 0 // Check has refused it
	}
	return before(at, period)
}
