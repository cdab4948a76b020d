package web

import (
	"fmt"
	"strings"
)

// Token is one colour of the design language, as a pair: the page follows the
// theme of the system. Other style sheets name colours by token only.
type Token struct {
	Name        string
	Light, Dark string // #rrggbb
	Use         string
}

// Tokens are the colours of console, citizen pages and demo. The style sheet block
// is generated from this table, and the contrast of every pair that may meet is
// tested on it.
var Tokens = []Token{
	{"canvas", "#f4f6f5", "#0d1314", "page"},
	{"surface", "#ffffff", "#141c1d", "cards, inputs"},
	{"sunken", "#f7f9f8", "#101718", "table head, code"},
	{"hover", "#eef2f1", "#1b2627", "hover"},
	{"line", "#dfe5e4", "#263335", "decorative hairline, not for controls"},
	{"line-strong", "#7a888a", "#6f8285", "control borders"},
	{"ink", "#12211f", "#e7eeed", "text"},
	{"ink-2", "#43524f", "#b4c2c1", "secondary text"},
	{"ink-3", "#5a6967", "#93a4a4", "hints, labels"},
	{"accent", "#0a5c6b", "#63c7d6", "links, primary, checked"},
	{"on-accent", "#ffffff", "#04181c", "text on accent"},
	{"accent-hi", "#084a57", "#8ad7e2", "hover of primary"},
	{"accent-soft", "#e0f0f2", "#10343a", "selected row, navigation"},
	{"ok", "#17653a", "#6fd197", "delivered, granted"},
	{"ok-soft", "#e1f3e8", "#12301f", "behind ok"},
	{"warn", "#854700", "#f0b65a", "waiting"},
	{"warn-soft", "#fcefd8", "#38260a", "behind warn"},
	{"bad", "#a9231c", "#ff9d94", "failing, errors"},
	{"bad-soft", "#fce8e6", "#411713", "behind bad"},
	{"info", "#1c4f9c", "#9cc1ff", "notes"},
	{"info-soft", "#e5eefb", "#14284a", "behind info"},
	{"mute-soft", "#e9eeed", "#212c2d", "neutral badge, segment"},
	{"chart-1", "#3f8896", "#4aa0af", "normal series"},
	{"chart-2", "#c8432f", "#f07c66", "failure series"},
	{"focus", "#0a5c6b", "#8ad7e2", "focus ring"},
}

// TokensCSS writes the token block: light values, dark ones where the system asks
// for them, and either by data-theme on the root. It does without light-dark(),
// which older browsers cannot read.
func TokensCSS() string {
	var b strings.Builder
	b.WriteString("/* Generated from internal/web/tokens.go; change that. */\n@layer tokens {\n")
	block := func(indent, selector, scheme string, value func(Token) string) {
		fmt.Fprintf(&b, "%s%s {\n%s  color-scheme: %s;\n", indent, selector, indent, scheme)
		for _, t := range Tokens {
			fmt.Fprintf(&b, "%s  --%s: %s;\n", indent, t.Name, value(t))
		}
		fmt.Fprintf(&b, "%s}\n", indent)
	}
	light := func(t Token) string { return t.Light }
	dark := func(t Token) string { return t.Dark }
	block("  ", ":root", "light", light)
	b.WriteString("  @media (prefers-color-scheme: dark) {\n")
	block("    ", ":root:not([data-theme=light])", "dark", dark)
	b.WriteString("  }\n")
	block("  ", ":root[data-theme=dark]", "dark", dark)
	b.WriteString("}\n")
	return b.String()
}
