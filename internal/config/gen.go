//go:build ignore

// Command gen writes the reference page of the settings to the file it is told.
package main

import (
	"log"
	"os"

	"github.com/opencpm/opencpm/internal/config"
)

func main() {
	if err := os.WriteFile(os.Args[1], []byte(config.Reference()), 0o644); err != nil {
		log.Fatal(err)
	}
}
