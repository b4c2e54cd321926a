# README's commands are make run and make test; CI runs make check.
GO      ?= go
BIN     := bin/postrider
ARGS    ?=
BENCH   ?= .
FUZZ    ?= 30s
N       ?= 200000
SOAK    ?= 30m
VERSION_FLAGS := -trimpath

.DEFAULT_GOAL := build
.PHONY: build run demo test lint generate check fuzz fault model bench soak help

build: ## the binary, in bin/
	$(GO) build $(VERSION_FLAGS) -o $(BIN) ./cmd/postrider

run: build ## serve with a durable store; ARGS="--listen …" adds flags
	@.ci/need.sh redis-server=redis-server
	$(BIN) serve $(ARGS)

demo: build ## everything in one process, nothing kept
	$(BIN) demo $(ARGS)

test: ## all tests with the race detector, drawn histories without it, and what was skipped
	@.ci/need.sh redis-server=redis-server dovecot=dovecot-imapd postfix=postfix python3=python3
	@.ci/peers.sh
	@.ci/test.sh

lint: ## formatting, vet, staticcheck, go fix
	@files=$$($(GO) tool gofumpt -l .) && test -z "$$files" || { echo "gofumpt:"; echo "$$files"; exit 1; }
	$(GO) vet ./...
	$(GO) tool staticcheck ./...
	$(GO) fix -omitzero=false -diff ./... # omitempty is how our optional fields are recognised

generate: ## generated files: schemas and the OpenAPI document
	$(GO) generate ./...

check: generate lint build test ## what CI runs; generated files must be committed
	@git diff --exit-code

fuzz: ## every fuzz target for FUZZ (30s)
	@.ci/fuzz.sh $(FUZZ)

fault: ## every Redis command, question, answer and byte of a recorded sync fails once (hours)
	POSTRIDER_FAULTS=all GOGC=400 $(GO) test -count=1 -timeout 24h -run 'TestFault|TestCut|TestStall|TestAnswer|_cut$$' ./imapsync

model: ## drawn histories, about N (200000) things happening to every tier, and a twentieth of it on every real server
	@.ci/need.sh dovecot=dovecot-imapd
	@.ci/peers.sh
	POSTRIDER_MODEL=$(N) $(GO) test -count=1 -timeout 24h -run TestOracle -v ./imapsync
	POSTRIDER_MODEL=$$(($(N) / 20)) $(GO) test -count=1 -timeout 24h -run TestEngine_history_on_real_servers -v ./imapsync

bench: ## the figures of README, also as JSON lines in bench.jsonl; BENCH=Crowd/1000 chooses
	@.ci/need.sh redis-server=redis-server dovecot=dovecot-imapd
	@rm -f bench.jsonl
	POSTRIDER_BENCH_OUT=$(CURDIR)/bench.jsonl $(GO) test -count=1 -timeout 90m -p 1 -run '^$$' -bench '$(BENCH)' -benchtime 1x ./imapsync/wire ./cmd/postrider

soak: ## 500 accounts, a cut a second, storms of BYE, for SOAK (30m); what is held must not grow
	@.ci/need.sh redis-server=redis-server
	POSTRIDER_SOAK=$(SOAK) $(GO) test -count=1 -timeout 3h -v -run '^TestSoak$$' ./cmd/postrider

help:
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/'
