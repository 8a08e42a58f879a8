##@ Hardening

# Modules at random, by their seeds. A failure names its seed; SEEDS=17..18 runs that one alone.
SEEDS ?= 0..1000000
# Seconds for each fuzz target.
FUZZ_TIME ?= 60
FUZZ_HOST := $(shell rustc -vV 2>/dev/null | sed -n 's/^host: //p')
FUZZ_TARGETS := $(foreach crate,view engine proxy,$(patsubst $(crate)/fuzz/fuzz_targets/%.rs,fuzz-$(crate)-%,$(wildcard $(crate)/fuzz/fuzz_targets/*.rs)))

# The packages are those of `make check`: another selection would build wasmtime again.
.PHONY: hostile
hostile: ## A million modules at random through the sandbox (SEEDS=FROM..TO for others)
	PORTCULLIS_SEEDS=$(SEEDS) cargo test --workspace --exclude portcullis-e2e --test hostile -- --nocapture modules_at_random

# A hundred thousand of them are part of `make test`, within `make check`.
test: export PORTCULLIS_SEEDS := 0..100000
# Heads whose lines keep their order on the way to rules and upstream.
test: export PORTCULLIS_HEADS := 1000000

.PHONY: fuzz
fuzz: $(FUZZ_TARGETS) ## Every fuzz target for FUZZ_TIME=60 seconds (needs a nightly toolchain)

# What `cargo fuzz run` does, without cargo-fuzz. What it finds is left in target/fuzz/artifacts.
.PHONY: $(FUZZ_TARGETS)
$(FUZZ_TARGETS): fuzz-%:
	@crate=$(word 1,$(subst -, ,$*)); target=$(word 2,$(subst -, ,$*)); seeds=$$crate/fuzz/corpus/$$target; \
	mkdir -p target/fuzz/corpus/$$crate-$$target target/fuzz/artifacts && \
	RUSTFLAGS="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares -Zsanitizer=address -Ctarget-feature=-crt-static -Ccodegen-units=1 --cfg fuzzing" \
	cargo +nightly build --release --manifest-path $$crate/fuzz/Cargo.toml --target $(FUZZ_HOST) --target-dir target/fuzz --bin $$target && \
	target/fuzz/$(FUZZ_HOST)/release/$$target -max_total_time=$(FUZZ_TIME) -max_len=70000 -timeout=30 -rss_limit_mb=4096 \
	  -artifact_prefix=target/fuzz/artifacts/$$crate-$$target- target/fuzz/corpus/$$crate-$$target $$(ls -d $$seeds 2> /dev/null)

.PHONY: soak
soak: cluster-up image-load ## The long modes on a cluster: drains in every order, ten minutes of a tenant at its quota (about an hour, needs root)
	PORTCULLIS_SOAK=1 PORTCULLIS_SOAK_SECONDS=600 e2e/run --test truth --test tenants
