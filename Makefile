# The commands of the project. `make up` and `make test` are all that a newcomer needs.

BINARY := target/release/oxikube
UP_FLAGS ?=
E2E_FLAGS ?=
export PATH := $(PATH):/usr/sbin:/sbin

.PHONY: up down status build test e2e sim lint spec bench clean help fuzz

help:
	@echo "make up      install what is missing, build, start a cluster on this host"
	@echo "make down    stop it and remove what it made (make down DOWN_FLAGS=--delete-data: its state too)"
	@echo "make test    every test, the end-to-end tests with real containers included (as root)"
	@echo "make sim     the store in a simulated world: 1,000 seeds (SEEDS=n: more; SEED=n: one, with its story)"
	@echo "make lint    rustfmt, clippy, the repository's own rules"
	@echo "make fuzz    each decoder against odd input, for FUZZ_SECONDS"
	@echo "make bench   speed and size, each beside its target"
	@echo "make spec    compare with upstream's data (OXIKUBE_SPEC=folder)"

up: build
	@scripts/deps run
	@$(BINARY) up $(UP_FLAGS)

down:
	@$(BINARY) down $(DOWN_FLAGS)

status:
	@$(BINARY) status

build:
	@scripts/deps build
	cargo build --release --package oxikube

test: build
	@scripts/deps run test
	cargo test --workspace --quiet
	$(MAKE) e2e

# The end-to-end tests start real clusters in network namespaces of their own, so they run beside a cluster on the host.
e2e: build
	@scripts/deps run test
	cargo run --quiet --package testkit --bin e2e -- --binary $(BINARY) $(E2E_FLAGS)

# Optimized, with the checks of a debug build. Variables: SEEDS, FIRST (the first seed), SEED, MEMBERS, STEPS.
sim:
	@scripts/deps build
	cargo test --quiet --profile sim --package store --lib $(if $(SEED),many_seeds,sim::tests) -- --include-ignored --skip a_rare --nocapture --test-threads 1

lint:
	@scripts/deps build
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --quiet -- -D warnings
	cargo xtask facts --check
	cargo xtask tidy
	@if command -v cargo-deny >/dev/null; then cargo deny --log-level error check licenses bans sources; else echo "cargo-deny is not installed: licences not checked"; fi

# OXIKUBE_SPEC: a folder with upstream's resources.tsv, openapi-v2.json and objects/ (v1.36).
spec:
	@test -n "$(OXIKUBE_SPEC)" || { echo "make spec: set OXIKUBE_SPEC to the folder with upstream's data"; exit 1; }
	OXIKUBE_SPEC=$(OXIKUBE_SPEC) cargo test --quiet --package kinds --package apiserver -- --ignored spec

# FUZZ_SECONDS: for each target of fuzz/targets. Needs a nightly toolchain and cargo-fuzz.
FUZZ_SECONDS ?= 60
fuzz:
	@command -v cargo-fuzz >/dev/null || { echo "make fuzz: run 'rustup toolchain install nightly && cargo install cargo-fuzz' first"; exit 1; }
	@for target in $$(cargo fuzz list); do echo "fuzzing $$target"; cargo +nightly fuzz run $$target -- -max_total_time=$(FUZZ_SECONDS) -max_len=65536 || exit 1; done

bench: build
	@scripts/deps run test
	cargo run --quiet --release --package testkit --bin bench -- --binary $(BINARY)

clean:
	cargo clean
