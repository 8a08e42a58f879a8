#!/bin/sh
# Builds the image from binaries that are already there and writes it into an archive that containerd, podman and
# docker can import. Needs buildah, neither Docker nor a registry: the Dockerfile's stage `build` is replaced by a folder.
#
#   scripts/image.sh ARCHIVE [debug|release] [NAME:TAG]
#
# Does nothing when the archive is there and was made from the same files.
set -eu

archive=${1:?"usage: scripts/image.sh ARCHIVE [debug|release] [NAME:TAG]"}
profile=${2:-debug}
name=${3:-portcullis-e2e/portcullis:dev}

root=$(cd "$(dirname "$0")/.." && pwd)
target=${CARGO_TARGET_DIR:-$root/target}/$(rustc --print host-tuple)/$profile
certificates=${SSL_CERT_FILE:-/etc/ssl/certs/ca-certificates.crt}

for file in "$target/operator" "$target/node-agent" "$target/portcullis"; do
    if [ ! -x "$file" ]; then
        echo "image.sh: $file is missing; build it first: cargo build --workspace --bins" >&2
        exit 1
    fi
done
if [ ! -s "$certificates" ]; then
    echo "image.sh: no CA certificates at $certificates; install ca-certificates or set SSL_CERT_FILE" >&2
    exit 1
fi

made_from=$(cat "$root/Dockerfile" "$0" "$target/operator" "$target/node-agent" "$target/portcullis" "$certificates" \
    | sha256sum | cut -d ' ' -f 1)-$name
if [ -s "$archive" ] && [ "$(cat "$archive.made-from" 2>/dev/null)" = "$made_from" ]; then
    exit 0
fi

stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
trap 'exit 130' INT TERM
mkdir -p "$stage/build/etc/ssl/certs" "$stage/context"
strip -o "$stage/build/operator" "$target/operator"
strip -o "$stage/build/node-agent" "$target/node-agent"
strip -o "$stage/build/portcullis" "$target/portcullis"
cp "$certificates" "$stage/build/etc/ssl/certs/ca-certificates.crt"

revision=$(git -C "$root" rev-parse HEAD 2>/dev/null || echo unknown)
"$root/scripts/buildah-archive.sh" "$archive" "$name" \
    --build-context "build=$stage/build" --target runtime --build-arg "REVISION=$revision" \
    --file "$root/Dockerfile" "$stage/context"
printf '%s' "$made_from" > "$archive.made-from"
