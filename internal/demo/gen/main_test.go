package main

import (
	"bytes"
	"os"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestTheCommittedFileIsWhatGenMakes(t *testing.T) {
	committed, err := os.ReadFile("../data/citizens.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	var made bytes.Buffer
	if err := write(&made); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(committed, made.Bytes()) {
		t.Error("data/citizens.jsonl is not what gen makes: run go generate ./internal/demo")
	}
}
