#!/bin/sh
# Runs `buildah build` as root without a daemon, in a storage of its own, and writes the image into a docker archive.
#
#   scripts/buildah-archive.sh ARCHIVE NAME:TAG BUILD-ARGUMENT...
set -eu

archive=${1:?"usage: scripts/buildah-archive.sh ARCHIVE NAME:TAG BUILD-ARGUMENT..."}
name=${2:?"usage: scripts/buildah-archive.sh ARCHIVE NAME:TAG BUILD-ARGUMENT..."}
shift 2

if ! command -v buildah > /dev/null; then
    echo "buildah-archive.sh: buildah is missing; on Debian: apt-get install buildah" >&2
    exit 1
fi

storage=$(mktemp -d)
trap 'rm -rf "$storage"' EXIT
trap 'exit 130' INT TERM

on_storage() {
    command=$1
    shift
    buildah "$command" --root "$storage/root" --runroot "$storage/run" --storage-driver vfs "$@"
}

# The date is a constant, so that the same files give the same image.
on_storage build --isolation chroot --timestamp 0 --quiet --tag "$name" "$@" > /dev/null
mkdir -p "$(dirname "$archive")"
# A half-written archive is never found under its name.
rm -f "$archive.part"
on_storage push --quiet "$name" "docker-archive:$archive.part:$name"
mv "$archive.part" "$archive"
