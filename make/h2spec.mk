##@ Conformance

.PHONY: h2spec
h2spec: ## HTTP/2 to clients against h2spec, with and without TLS (needs Go)
	@e2e/cluster/build h2spec
	cargo build --workspace --bin portcullis --bin upstream --test generated
	@e2e/h2spec

.PHONY: autobahn
autobahn: ## WebSocket through the proxy against Autobahn's test suite (needs Python 2.7)
	cargo build --workspace --bin portcullis --test generated
	@e2e/autobahn
