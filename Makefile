# What can be made here: `make help`.

VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)

# The same for all that ships and for the black-box tests, so that nothing is
# compiled twice.
export CGO_ENABLED := 0
BUILD := go build -trimpath

# Tools are installed here, each under its version.
TOOLS := $(CURDIR)/.tools
GOLANGCI_LINT := $(TOOLS)/golangci-lint-2.15.0
GOTESTSUM := $(TOOLS)/gotestsum-1.13.0

FUZZTIME := 10s

.PHONY: help run build test soak bench scale lint fmt fuzz clean

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 8

run: build ## take a real disk image in and out, and leave a server to play with
	scripts/demo.sh

build: ## bin/shale, one static binary
	$(BUILD) -ldflags '-s -w -X main.version=$(VERSION)' -o bin/shale ./cmd/shale

test: build $(GOTESTSUM) ## every test, in some ten minutes on two cores
	GOTESTSUM=$(GOTESTSUM) test/run.sh

soak: build ## the long campaigns, two hours of them; SOAK=1 is one percent
	test/soak.sh

bench: build ## measure against the reference server; BENCH=-quick is a smoke test
	$(BUILD) -o bin/bench ./bench
	$(BUILD) -o bin/bench-reference ./bench/reference
	bin/bench $(BENCH)

scale: build ## what must stay flat, on a store of 10^7 blocks; SCALE=-quick is a smoke test
	$(BUILD) -o bin/scale ./bench/scale
	bin/scale $(SCALE)

lint: $(GOLANGCI_LINT) ## gofumpt, go vet and the rules of .golangci.yml
	go vet ./...
	$(GOLANGCI_LINT) run

fmt: $(GOLANGCI_LINT) ## format the code as lint wants it
	$(GOLANGCI_LINT) fmt

fuzz: ## run every fuzz target for FUZZTIME each
	@test/fuzz.sh $(FUZZTIME)

clean: ## remove what was built and installed here
	rm -rf bin .tools .venv test/javascript/node_modules test/oracle/node_modules test/java/target

$(GOLANGCI_LINT):
	GOBIN=$(TOOLS) go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
	mv $(TOOLS)/golangci-lint $@

$(GOTESTSUM):
	GOBIN=$(TOOLS) go install gotest.tools/gotestsum@v1.13.0
	mv $(TOOLS)/gotestsum $@
