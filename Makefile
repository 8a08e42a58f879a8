# Everything a person does here has a target; `make help` lists them.
SHELL := /bin/bash
.DEFAULT_GOAL := help

# Sets the machine up, then shares one build between check, test and demo.
export PORTCULLIS_CACHE ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/portcullis
TOOLS := $(PORTCULLIS_CACHE)/bin
export PATH := $(HOME)/.cargo/bin:$(PATH)

include $(wildcard make/*.mk)

##@ Every day

.PHONY: help
help: ## This list
	@awk 'BEGIN { FS = ":.*## " } \
	  /^##@/ { printf "\n%s\n", substr($$0, 5) } \
	  /^[a-zA-Z0-9_-]+:.*## / { printf "  %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo

.PHONY: check
check: tools-check rules ## Unit and integration tests, no cluster (under two minutes when built)
	cargo test --workspace --exclude portcullis-e2e
	cd rules && cargo test

.PHONY: test
test: setup check cluster-up image-load ## Every test, on a real cluster too (needs root)
	e2e/run

.PHONY: try
try: ## A rule, a hot swap under load, a broken version, on this machine: no root, Go or cluster
	@e2e/try

.PHONY: demo
demo: ## The whole story on a real two-node cluster (needs root; CLUSTER=current uses your kubeconfig)
	@e2e/demo

.PHONY: generate
generate: ## Write what is generated: CRD YAML and docs/reference from the types, constants and tables of the module ABI
	@# With the features of the whole workspace: `cargo run` would compile most dependencies again.
	cargo build -q --workspace --bin crdgen --bin abigen --test generated
	@for generator in crdgen abigen; do \
	  $${CARGO_TARGET_DIR:-target}/$$(rustc --print host-tuple)/debug/$$generator . || exit; \
	done

##@ Parts

.PHONY: setup
setup: ## Install what a fresh machine lacks (Debian packages; needs root)
	@e2e/setup

.PHONY: rules
rules: ## Build the guest modules into rules/dist, and the one of examples/standalone
	@rules/build.sh
	@cp -p rules/dist/bad-bot-blocker-1.0.0.wasm examples/standalone/bad-bot-blocker.wasm

.PHONY: build
build: ## Build all binaries (development profile)
	@# A small test beside them: dependencies then have the features that tests ask for, and are compiled once for both.
	cargo build --workspace --bins --test generated

# Of the workspace, like `build`, which so compiles nothing of it again.
.PHONY: build-try
build-try:
	cargo build --workspace --bin portcullis --bin load --bin upstream --test generated

.PHONY: tools-check
tools-check: ## Fetch what `make check` runs as child processes: nats-server and an OCI registry
	@e2e/cluster/build nats-server registry glua

.PHONY: cluster-up
cluster-up: ## Start the cluster (or verify that it runs)
	@e2e/cluster/up

.PHONY: cluster-down
cluster-down: ## Stop the cluster and remove all it made
	@e2e/cluster/down

.PHONY: cluster-status
cluster-status: ## Nodes, components, addresses
	@e2e/cluster/status
