package deliver

import (
	"context"

	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/internal/store"
)

// citizenToken lets the receiver of a message give the citizen a link to their own data.
// It is made for each attempt and kept nowhere.
type citizenToken struct {
	Token      string            `json:"token"`
	ExpiryDate consent.Timestamp `json:"expiryDate"`
}

// grounds reads what the tokens of the citizens of lanes carry, where the subscription
// includes them in its messages.
func (e *Engine) grounds(ctx context.Context, sub store.Registered, lanes []store.Lane) (map[int64]store.TokenGrounds, error) {
	if !sub.IncludeCitizenToken || e.o.MintToken == nil {
		return nil, nil
	}
	citizens := make([]int64, len(lanes))
	for i, l := range lanes {
		citizens[i] = l.Citizen
	}
	return e.store.SubscriptionGrounds(ctx, sub, citizens)
}
