//go:build ignore

// Command gen writes the reference page of the metrics to the file it is told.
package main

import (
	"log"
	"os"

	"github.com/opencpm/opencpm/internal/observe"
)

func main() {
	page, err := observe.Reference()
	if err == nil {
		err = os.WriteFile(os.Args[1], []byte(page), 0o644)
	}
	if err != nil {
		log.Fatal(err)
	}
}
