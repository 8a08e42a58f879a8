#!/bin/sh
# An image with a given nats-server and nothing else, as an archive that containerd can import.
#
#   e2e/images/nats.sh ARCHIVE NATS-SERVER-BINARY [NAME:TAG]
set -eu

archive=${1:?"usage: e2e/images/nats.sh ARCHIVE NATS-SERVER-BINARY [NAME:TAG]"}
binary=${2:?"usage: e2e/images/nats.sh ARCHIVE NATS-SERVER-BINARY [NAME:TAG]"}
name=${3:-portcullis-e2e/nats:2.15.2}

root=$(cd "$(dirname "$0")/../.." && pwd)
made_from=$(cat "$root/e2e/images/nats/Dockerfile" "$binary" | sha256sum | cut -d ' ' -f 1)-$name
if [ -s "$archive" ] && [ "$(cat "$archive.made-from" 2>/dev/null)" = "$made_from" ]; then
    exit 0
fi

stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
trap 'exit 130' INT TERM
mkdir -p "$stage/build" "$stage/context"
install -m 0755 "$binary" "$stage/build/nats-server"
"$root/scripts/buildah-archive.sh" "$archive" "$name" \
    --build-context "build=$stage/build" --target runtime --file "$root/e2e/images/nats/Dockerfile" "$stage/context"
printf '%s' "$made_from" > "$archive.made-from"
