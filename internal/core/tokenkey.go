package core

import (
	"context"
	"time"

	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/internal/store"
	"github.com/opencpm/opencpm/internal/token"
)

// tokenKeys are the keys of citizen tokens at one revision.
type tokenKeys struct {
	*token.Keys
	revision int64
}

func (s *Service) useKeys(keys store.TokenKeys) {
	s.tokens.Store(&tokenKeys{token.NewKeys(keys.Secrets(), keys.Retired()...), keys.Revision()})
}

// learnKeys takes up the keys as they are in the store, if they are others.
func (s *Service) learnKeys(ctx context.Context) error {
	revision, err := s.store.TokenKeysRevision(ctx)
	if err != nil || revision == s.tokens.Load().revision {
		return err
	}
	keys, err := s.store.TokenKeys(ctx)
	if err == nil {
		s.useKeys(keys)
	}
	return err
}

// verified gives what a token says, and false where it is none of ours or has ended. look
// is asked what the store knows of it, whatever it is, and gives the revision of the keys
// besides: where they have changed the token is read anew. So a key that is made or retired
// counts at once on every node, and one that does not exist costs nothing.
func (s *Service) verified(ctx context.Context, text string, look func(token.Claims) (revision int64, err error)) (token.Claims, bool, error) {
	for {
		keys := s.tokens.Load()
		claims, good := keys.Verify(text, consent.At(time.Now()))
		revision, err := look(claims)
		if err == nil && revision != keys.revision {
			if err = s.learnKeys(ctx); err == nil {
				continue
			}
		}
		return claims, good && err == nil, err
	}
}

// lookForKeys is how often at most a node looks for keys that somebody names.
const lookForKeys = 100 * time.Millisecond

// signed gives what was signed for a purpose, perhaps on another node by a key that this one
// has not heard of yet: then it looks for it, but not again and again.
func (s *Service) signed(ctx context.Context, purpose, text string) (payload []byte, ok bool) {
	if !s.tokens.Load().Knows(text) {
		s.lookForKey(ctx)
	}
	return s.tokens.Load().Signed(purpose, text)
}

func (s *Service) lookForKey(ctx context.Context) {
	s.looking.Lock()
	defer s.looking.Unlock()
	if time.Since(s.looked) < lookForKeys {
		return
	}
	s.looked = time.Now()
	if err := s.learnKeys(ctx); err != nil && ctx.Err() == nil {
		s.log.Warn("the keys of citizen tokens cannot be read; the last ones known are used", "error", err)
	}
}

// TokenKey is a key that signs citizen tokens, as far as it may be shown.
type TokenKey struct {
	ID        byte
	CreatedAt consent.Instant
	CreatedBy string
	RetiredAt consent.Instant // zero: it verifies
	RetiredBy string
	Signs     bool
	// SpentAt is when the last token expires that the key has signed, but for links to
	// unsubscribe; zero of the one that signs.
	SpentAt consent.Instant
}

// TokenKeys lists the keys that sign citizen tokens, the newest first. It is for whoever
// holds the data, by the command line, as what follows.
func (s *Service) TokenKeys(ctx context.Context) ([]TokenKey, error) {
	keys, err := s.store.TokenKeys(ctx)
	var list []TokenKey
	for i := len(keys) - 1; i >= 0; i-- {
		v := TokenKey{ID: keys[i].ID, CreatedAt: keys[i].CreatedAt, CreatedBy: keys[i].CreatedBy, RetiredAt: keys[i].RetiredAt, RetiredBy: keys[i].RetiredBy}
		if v.Signs = i == len(keys)-1; !v.Signs {
			v.SpentAt = consent.TokensSpent(keys[i+1].CreatedAt.Add(keysNoticed))
		}
		list = append(list, v)
	}
	return list, err
}

// keysNoticed is how long after a key was made every node signs by it, at the latest.
const keysNoticed = 2 * time.Second

// RotateTokenKey makes the key that signs citizen tokens from now on, and gives its id. The
// others go on verifying.
func (s *Service) RotateTokenKey(ctx context.Context) (byte, error) {
	return s.store.CreateTokenKey(ctx, Operator)
}

// RetireTokenKey ends, at once and for good, every token that a key has signed, but no link
// to unsubscribe. It waits until every node signs by another key.
func (s *Service) RetireTokenKey(ctx context.Context, id byte) error {
	keys, err := s.store.TokenKeys(ctx)
	if err != nil {
		return err
	}
	noticed := time.Until(keys[len(keys)-1].CreatedAt.Add(keysNoticed).Time())
	select {
	case <-time.After(min(noticed, keysNoticed)): // at most, whatever the clock of who made it was
	case <-ctx.Done():
		return ctx.Err()
	}
	return s.store.RetireTokenKey(ctx, id, Operator)
}
