##@ Conformance

.PHONY: h2spec
h2spec: ## HTTP/2 to clients against h2spec, with and without TLS (needs Go)
	@e2e/cluster/build h2spec
	cargo build --workspace --bin portcullis --bin upstream --test generated
	@e2e/h2spec
