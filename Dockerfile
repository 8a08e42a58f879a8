# One image with the three binaries: /operator, /node-agent and /portcullis.
#
#   docker build -t portcullis .
#
# The runtime stage takes everything from the stage `build`, so a folder with the same files can take its place:
# scripts/image.sh does that, where there is neither Docker nor a registry for base images.

FROM docker.io/library/rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
# .cargo/config.toml makes the binaries static. The target folder is a cache and no part of a layer, hence the install.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked \
        --package portcullis-operator --package portcullis-node-agent --package portcullis-cli \
    && install --strip -t / "target/$(rustc --print host-tuple)/release/operator" \
        "target/$(rustc --print host-tuple)/release/node-agent" \
        "target/$(rustc --print host-tuple)/release/portcullis"

FROM scratch AS runtime
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Portcullis" \
      org.opencontainers.image.description="Web application firewall rules as sandboxed Wasm modules" \
      org.opencontainers.image.source="https://github.com/portcullis-dev/portcullis" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
# Registries over TLS are verified against these.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /operator /node-agent /portcullis /
# `nonroot` of the distroless images; a number, so that the kubelet can see that it is not root.
USER 65532:65532
ENTRYPOINT ["/portcullis"]
