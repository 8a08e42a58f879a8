##@ Benchmarks

.PHONY: bench-engine
bench-engine: rules ## One evaluation: this engine beside a naive wasmtime host and native Rust; prefilters; memory
	cargo run --release -p portcullis-engine --example bench

.PHONY: bench-engine-against
bench-engine-against: rules ## bench-engine beside that of another commit, in turns (COMMIT=...)
	scripts/bench_against.py $(or $(COMMIT),$(error set COMMIT, for example COMMIT=HEAD~1))

.PHONY: bench-compile
bench-compile: rules ## Compiling the worst modules, loading compiled ones, and what requests notice meanwhile
	cargo run --release -p portcullis-engine --example compile -- rules/dist/secbeat-bad-bot.wasm rules/dist/bad-bot-blocker-2.0.0.wasm

# The packages are those of `make check`: another selection would build wasmtime again.
.PHONY: bench-operator
bench-operator: ## What one change of the fleet costs an operator with 10,000 rules: allocations and time
	cargo test --workspace --exclude portcullis-e2e --lib -- --nocapture one_change_of_the_fleet

# Of the workspace, like `build`.
.PHONY: bench-proxy
bench-proxy: rules ## CPU per request beside nginx and HAProxy, with 0 to 100 rules (Debian: nginx-light haproxy wrk)
	cargo build --release --workspace --bin portcullis
	scripts/bench_proxy.py $${CARGO_TARGET_DIR:-target}/$$(rustc --print host-tuple)/release/portcullis
