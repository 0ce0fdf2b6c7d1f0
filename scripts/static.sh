#!/bin/sh
# Builds evertoken without any shared library, for an image FROM scratch, and says where it is. Arguments go to cargo (`--release`).
# The C library is glibc's own: names and groups are looked up by the files and DNS code inside it, without modules.
set -eu
cd "$(dirname "$0")/.."
host=$(rustc -vV | sed -n 's/^host: //p')
target="${CARGO_TARGET_DIR:-target}/static"
# By --target, so that build scripts and macros, which must stay dynamic, do not get the flag.
variable="CARGO_TARGET_$(echo "$host" | tr 'a-z-' 'A-Z_')_RUSTFLAGS"
export "$variable=-C target-feature=+crt-static"
cargo build --quiet --locked --bin evertoken --target "$host" --target-dir "$target" "$@" >&2
case " $* " in *" --release "*) profile=release ;; *) profile=debug ;; esac
echo "$target/$host/$profile/evertoken"
