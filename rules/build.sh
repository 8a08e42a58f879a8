#!/usr/bin/env bash
# Builds every guest module into rules/dist; nothing to do takes a second. Needs no root if the active Rust toolchain
# has the target wasm32-unknown-unknown or rustup can fetch it; else it installs Debian's own Rust by apt-get.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

readonly TARGET=wasm32-unknown-unknown
RUST_VERSION=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
readonly RUST_VERSION

say() { echo "rules: $*" >&2; }

fail() {
  say "$1"
  say "$2"
  exit 1
}

new_enough() { # RUSTC
  local version
  version=$("$1" --version | cut -d' ' -f2)
  printf '%s\n' "$RUST_VERSION" "$version" | sort -CV
}

# === Which Rust ===
# Both set CARGO, the cargo to run; FLAGS, what every build for the guest's target gets; TARGET_DIR.

# The toolchain the host's side is built with.
active_toolchain() {
  command -v cargo >/dev/null && command -v rustc >/dev/null && rustc --version >/dev/null 2>&1 || return 1
  new_enough rustc || return 1
  if ! has_target && command -v rustup >/dev/null; then
    say "adding the target $TARGET to the active toolchain by rustup"
    rustup target add "$TARGET" >&2 || say "rustup could not fetch $TARGET"
  fi
  has_target || return 1
  CARGO=cargo
  FLAGS=()
  TARGET_DIR=target
}

has_target() { compgen -G "$(rustc --print sysroot)/lib/rustlib/$TARGET/lib/libstd-*.rlib" >/dev/null; }

# Debian's Rust for web browsers, kept current by the security archive. It brings no standard library for the target
# but its source, which cargo compiles with `-Zbuild-std`; RUSTC_BOOTSTRAP lets a stable cargo do so.
debian_toolchain() {
  command -v apt-get >/dev/null || fail \
    "expected Rust $RUST_VERSION or newer with the target $TARGET, found neither that nor apt-get" \
    "install Rust from https://rustup.rs, run 'rustup target add $TARGET', then run this again"
  debian_packages rustc-web cargo-web rust-web-src
  new_enough /usr/bin/rustc || fail \
    "expected rustc-web $RUST_VERSION or newer, found $(/usr/bin/rustc --version)" \
    "enable Debian's security archive (bookworm-security main), run 'apt-get update', then run this again"
  local llvm
  llvm=$(/usr/bin/rustc -vV | sed -n 's/^LLVM version: \([0-9]*\).*/\1/p')
  debian_packages "lld-$llvm"
  # Explicit, because rustup's proxies may come first on the PATH.
  export RUSTC=/usr/bin/rustc RUSTDOC=/usr/bin/rustdoc RUSTC_BOOTSTRAP=1
  export CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER="/usr/bin/wasm-ld-$llvm"
  CARGO=/usr/bin/cargo
  FLAGS=('-Zbuild-std=std,panic_abort')
  TARGET_DIR=target/debian
}

debian_packages() { # PACKAGE...
  local package missing=() root=()
  for package in "$@"; do
    [[ $(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) == installed ]] || missing+=("$package")
  done
  ((${#missing[@]})) || return 0
  say "installing ${missing[*]} by apt-get (about 15 seconds)"
  ((EUID == 0)) || root=(sudo)
  # Never at the price of a package someone else installed: rustc-web conflicts with Debian's rustc and rustup.
  if ! logged env DEBIAN_FRONTEND=noninteractive "${root[@]}" apt-get update ||
    ! logged env DEBIAN_FRONTEND=noninteractive "${root[@]}" apt-get install -y --no-install-recommends --no-remove "${missing[@]}"; then
    fail "apt-get could not install ${missing[*]}; its last words are above" \
      "resolve that, or make 'rustup target add $TARGET' work, then run this again"
  fi
}

# === Building ===

# Runs a command; its output is shown only if it fails.
logged() {
  "$@" >>target/build.log 2>&1 || {
    local status=$?
    tail -n 40 target/build.log >&2
    return "$status"
  }
}

keep() { # FILE NAME: a file that is right already keeps its time stamp
  local built=$TARGET_DIR/$TARGET/release/$1
  cmp -s "$built" "dist/$2" && return
  cp "$built" "dist/.$2.new"
  mv "dist/.$2.new" "dist/$2"
  say "wrote dist/$2 ($(stat -c %s "dist/$2") bytes)"
}

cargo_build() { # SUBCOMMAND ARGUMENT...
  logged "$CARGO" "$1" --locked --target-dir "$TARGET_DIR" "${@:2}" ||
    fail "cargo $1 failed; its last words are above" "all of it is in rules/target/build.log"
}

# All that decides what is in dist, and what is: cargo alone would compile the second version on each run, as both
# have one file name.
state() {
  "${RUSTC:-rustc}" --version
  find . -name target -prune -o -type f ! -name '*.md' -print0 | sort -z | xargs -0 sha256sum
}

mkdir -p dist target
exec 9>target/build.lock
flock -n 9 || {
  say "waiting for another build"
  flock 9
}
: >target/build.log

active_toolchain || debian_toolchain
if [[ -f target/state && $(state) == "$(<target/state)" ]]; then
  say "rules/dist is up to date"
  exit 0
fi
say "building with $("${RUSTC:-rustc}" --version)"

cargo_build wasm "${FLAGS[@]}" -p bad-bot-blocker -p version-probe -p sdk-probe
keep bad_bot_blocker.wasm bad-bot-blocker-1.0.0.wasm
keep version_probe.wasm version-probe-v1.wasm
keep sdk_probe.wasm sdk-probe.wasm

cargo_build wasm "${FLAGS[@]}" -p bad-bot-blocker -p version-probe \
  --features bad-bot-blocker/scripted-clients,version-probe/v2
keep bad_bot_blocker.wasm bad-bot-blocker-2.0.0.wasm
keep version_probe.wasm version-probe-v2.wasm

# With the very command of its documentation. It has the name of a crate of ours, hence a folder of its own.
TARGET_DIR+=/secbeat
cargo_build build "${FLAGS[@]}" --manifest-path examples/secbeat-bad-bot/Cargo.toml --release --target "$TARGET"
keep bad_bot_blocker.wasm secbeat-bad-bot.wasm

TARGET_DIR=${TARGET_DIR%/secbeat}
cargo_build run -p fixtures -- dist
state >target/state
say "$(find dist -name '*.wasm' | wc -l) modules in rules/dist"
