package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/opencpm/opencpm/internal/config"
	"github.com/opencpm/opencpm/internal/consent"
	"github.com/opencpm/opencpm/internal/core"
)

type tokensCommand struct {
	RotateKey tokensRotateKeyCommand `cmd:"" help:"Make a new key, which signs from now on; what the others signed stays good. Beside running servers."`
	Keys      tokensKeysCommand      `cmd:"" help:"List the keys: which one signs, which verify, and from when on nobody misses them."`
	RetireKey tokensRetireKeyCommand `cmd:"" help:"End every token that a key has signed, at once and for good; links to unsubscribe stay good."`
}

// tokenKey is what is shown of a key.
type tokenKey struct {
	ID        byte              `json:"id"`
	Role      string            `json:"role"` // signs, verifies or retired
	CreatedAt consent.Timestamp `json:"createdAt"`
	CreatedBy string            `json:"createdBy"`
	SpentAt   consent.Timestamp `json:"spentAt"`
	RetiredAt consent.Timestamp `json:"retiredAt"`
	RetiredBy *string           `json:"retiredBy"`
}

// The roles of a key of citizen tokens.
const (
	tokenKeySigns    = "signs"
	tokenKeyVerifies = "verifies"
	tokenKeyRetired  = "retired"
)

func shownKey(k core.TokenKey) tokenKey {
	v := tokenKey{
		ID: k.ID, Role: tokenKeyVerifies, CreatedAt: consent.Timestamp(k.CreatedAt), CreatedBy: k.CreatedBy,
		SpentAt: consent.Timestamp(k.SpentAt), RetiredAt: consent.Timestamp(k.RetiredAt),
	}
	switch {
	case k.Signs:
		v.Role = tokenKeySigns
	case k.RetiredAt != 0:
		v.Role, v.RetiredBy = tokenKeyRetired, &k.RetiredBy
	}
	return v
}

// sentence says what a key does and what becomes of it.
func sentence(k core.TokenKey) string {
	line := fmt.Sprintf("%d: made %s by %s. ", k.ID, k.CreatedAt, k.CreatedBy)
	switch {
	case k.Signs:
		return line + "It signs."
	case k.RetiredAt != 0:
		return line + fmt.Sprintf("Retired %s by %s: it verifies links to unsubscribe and nothing else.", k.RetiredAt, k.RetiredBy)
	}
	return line + fmt.Sprintf("It verifies. The last token it signed expires by %s, but for links to unsubscribe.", k.SpentAt)
}

type tokensKeysCommand struct {
	config.Store
	JSON bool `env:"-" help:"Answer as JSON."`
}

// Run lists the keys.
func (c *tokensKeysCommand) Run(ctx context.Context, io streams) error {
	return withData(ctx, c.Store, func(s *core.Service) error {
		keys, err := s.TokenKeys(ctx)
		if err != nil {
			return err
		}
		if c.JSON {
			list := []tokenKey{}
			for _, k := range keys {
				list = append(list, shownKey(k))
			}
			return json.NewEncoder(io.out).Encode(map[string]any{"keys": list})
		}
		var text strings.Builder
		for _, k := range keys {
			fmt.Fprintln(&text, sentence(k))
		}
		_, err = fmt.Fprint(io.out, text.String())
		return err
	})
}

type tokensRotateKeyCommand struct {
	config.Store
}

// Run makes the key.
func (c *tokensRotateKeyCommand) Run(ctx context.Context, io streams) error {
	return withData(ctx, c.Store, func(s *core.Service) error {
		id, err := s.RotateTokenKey(ctx)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(io.out, "Made the key %d. It signs from now on, within a second on every server that runs; what the others signed stays good.\n"+
			"To end what another one signed, run opencpm tokens retire-key; opencpm tokens keys says from when on nobody will notice.\n", id)
		return err
	})
}

type tokensRetireKeyCommand struct {
	config.Store
	ID byte `arg:"" help:"The key, by its number in opencpm tokens keys."`
}

// Run retires the key.
func (c *tokensRetireKeyCommand) Run(ctx context.Context, io streams) error {
	return withData(ctx, c.Store, func(s *core.Service) error {
		if err := s.RetireTokenKey(ctx, c.ID); err != nil {
			return err
		}
		_, err := fmt.Fprintf(io.out, "The key %d is retired: every token that it signed is refused on every server from now on, but for links to unsubscribe.\n", c.ID)
		return err
	})
}
