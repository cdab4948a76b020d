// Command gen writes the token block of the style sheets.
package main

import (
	"flag"
	"fmt"
	"os"

	"github.com/opencpm/opencpm/internal/web"
)

func main() {
	out := flag.String("out", "../../web/tokens.css", "the `file` to write")
	flag.Parse()
	if err := os.WriteFile(*out, []byte(web.TokensCSS()), 0o644); err != nil {
		fmt.Fprintln(os.Stderr, "gen:", err)
		os.Exit(1)
	}
}
