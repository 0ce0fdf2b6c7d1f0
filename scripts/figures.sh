#!/bin/sh
# Prints every figure that README and docs claim and writes docs/figures.md: `scripts/figures.sh`; with --quick a short run that only prints.
# The first run builds the release binary and installs requests and boto3 into target/.
set -eu
cd "$(dirname "$0")/.."
cargo build --release --bin evertoken
venv=target/figures/venv
if [ ! -x "$venv/bin/python" ] || ! "$venv/bin/python" -c 'import boto3, requests' 2>/dev/null; then
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet requests boto3
fi
write='--write docs/figures.md'
for word in "$@"; do
    if [ "$word" = --quick ]; then write=; fi
done
# shellcheck disable=SC2086 # an absent option must vanish
exec cargo bench --quiet --profile dev --bench figures -- --program target/release/evertoken --python "$venv/bin/python" $write "$@"
