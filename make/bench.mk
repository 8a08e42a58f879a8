##@ Benchmarks

.PHONY: bench-engine
bench-engine: rules ## One evaluation: this engine beside a naive wasmtime host and native Rust; prefilters; memory
	cargo run --release -p portcullis-engine --example bench
