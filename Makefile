# `make` lists the targets. Everything needs Go; what else the tests need, `make setup` installs.
.DEFAULT_GOAL := help
.NOTPARALLEL:
SHELL := bash
.SHELLFLAGS := -euo pipefail -c

# The product has no C in it, and one setting for all means that everything is compiled once.
export CGO_ENABLED := 0

VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
FUZZTIME ?= 30s

# Runs a command beside a throwaway PostgreSQL, unless OPENCPM_TEST_DATABASE_URL names a server.
WITH_POSTGRES := internal/store/storetest/with-postgres.sh

# The packages in which goroutines meet. The race detector makes SQLite several times slower, so there it looks at these
# only, and -short asks the property tests for fewer cases; `make soak` runs everything under it.
RACE := $(patsubst %,./%/...,$(wildcard $(addprefix internal/,consent core deliver jobs observe safehttp store)))

.PHONY: help build demo setup check test lint fmt fuzz soak bench generate generate-check clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "%-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## build the static binary bin/opencpm
	go build -trimpath -ldflags '-s -w -X main.version=$(VERSION)' -o bin/opencpm ./cmd/opencpm

demo: build ## run the demo on http://127.0.0.1:8080
	bin/opencpm demo

setup: ## install the Debian packages the tests need and this machine lacks
	scripts/setup

check: lint generate-check test ## everything a change must pass (scripts/check: with set-up before it)

test: ## run all tests on SQLite and PostgreSQL, then those of concurrent code under the race detector
	$(WITH_POSTGRES) go test -count=1 -timeout=30m ./...
	CGO_ENABLED=1 $(WITH_POSTGRES) go test -count=1 -race -short -timeout=30m $(RACE)

lint: ## run the linters pinned in tools/ and look for dead code
	GOBIN=$(CURDIR)/bin go -C tools install tool
	bin/golangci-lint run ./...
	@dead=$$(bin/deadcode -test ./...); [ -z "$$dead" ] || { echo "unreachable, delete it:"; echo "$$dead"; exit 1; }

fmt: ## format the Go code
	GOBIN=$(CURDIR)/bin go -C tools install tool
	bin/golangci-lint fmt ./...

fuzz: ## fuzz every decoder for FUZZTIME (30s) each
	scripts/fuzz $(FUZZTIME)

soak: ## the long run: all tests under the race detector three times, 500 runs of delivery's state machine, every screen, five minutes of fuzzing per decoder
	go test -count=1 -timeout=2h ./internal/deliver -run TestStateMachine -rapid.checks=500
	go test -count=1 -timeout=1h ./internal/portal -run TestPageMatrix -page-matrix=$(CURDIR)/docs/accessibility.md
	go test -count=1 -timeout=1h ./internal/portal -run TestWidgetMatrix -widget-matrix=$(CURDIR)/docs/accessibility.md
	CGO_ENABLED=1 $(WITH_POSTGRES) go test -count=3 -race -shuffle=on -timeout=2h ./...
	scripts/fuzz 5m

bench: build ## measure against the yardsticks of docs/performance.md; BENCH=-quick only shows that it works
	go build -o bin/bench ./test/bench
	$(WITH_POSTGRES) --durable bin/bench $(BENCH)
	go generate ./test/bench

generate: ## write the generated files anew
	go generate ./...

# The content of every file of the working tree; a file that git knows and that was removed says nothing.
TREE = git ls-files -coz --exclude-standard | sort -zu | { xargs -0r sha256sum 2>/dev/null || :; }

generate-check: ## fail if a generated file is not what its source says
	@before=$$($(TREE)); $(MAKE) --no-print-directory generate; after=$$($(TREE)); \
	[ "$$before" = "$$after" ] || { git status --short; echo "generated files were stale: commit what make generate wrote"; exit 1; }

clean: ## remove what was built
	rm -rf bin dist
