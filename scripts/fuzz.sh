#!/usr/bin/env bash
# Fuzzes with other seeds each round, in an optimized build: scripts/fuzz.sh [target] [minutes]. Targets are the tests of tests/fuzz.rs; all
# of them unless one is named. Ends at the first input that fails, which is printed.
set -euo pipefail
cd "$(dirname "$0")/.."
target=${1:-}
minutes=${2:-60}
# Optimized, with the checks of a debug build; without the long link of a release.
export CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 CARGO_PROFILE_RELEASE_STRIP=none
export CARGO_PROFILE_RELEASE_OVERFLOW_CHECKS=true CARGO_PROFILE_RELEASE_DEBUG_ASSERTIONS=true
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-target}/fuzz
cargo test --locked --quiet --release --test fuzz --no-run
end=$((SECONDS + minutes * 60))
total=0
round=1
while [ "$SECONDS" -lt "$end" ]; do
    begun=$(date +%s%N)
    if ! said=$(EVERTOKEN_FUZZ=$round cargo test --locked --quiet --release --test fuzz -- --nocapture ${target:+"$target" --exact} 2>&1); then
        printf '%s\n' "$said"
        echo "fuzz: a finding in round $round, after $total executions" >&2
        exit 1
    fi
    done=$(printf '%s\n' "$said" | awk '/^fuzz .* executions$/ { sum += $(NF - 1) } END { print sum + 0 }')
    [ "$done" -gt 0 ] || { echo "fuzz: no such target: $target" >&2; exit 2; }
    total=$((total + done))
    took=$((($(date +%s%N) - begun) / 1000000 + 1))
    echo "fuzz: round $round, $done executions ($((done * 1000 / took))/s), $total in all, 0 findings, $(((end - SECONDS) / 60)) min left"
    round=$((round + 1))
done
