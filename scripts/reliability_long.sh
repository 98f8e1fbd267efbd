#!/usr/bin/env bash
# The long form of docs/reliability.md: faults, kills, signals, damaged input, soaks, dependencies, fuzzing. It takes
# hours on 2 cores with 300 seconds of fuzzing a parser, an hour with 60:
#
#   ./setup cpu-plugin && cargo install --locked cargo-fuzz cargo-deny && scripts/reliability_long.sh [SECONDS]
#
# Ends at the first part that fails; each part that passes prints a line that begins with "passed".
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

part() {
    local start=$SECONDS
    echo "== $*"
    env "$@"
    echo "passed in $((SECONDS - start)) s: $*"
}

part cargo test --release --lib checkpoint -- --nocapture
part cargo test --release --test faults --test resume -- --nocapture
part RESNET_XLA_KILL_ROUNDS=200 cargo test --release --test kill -- --nocapture
part RESNET_XLA_SIGNAL_ROUNDS=8 cargo test --release --test resume at_depth_164 -- --nocapture
part RESNET_XLA_HOSTILE_CASES=2000 cargo test --release --lib fuzzing -- --nocapture
part RESNET_XLA_SOAK_STEPS=2000 cargo test --release --test soak -- --nocapture
part RESNET_XLA_SOAK_STEPS=500 RESNET_XLA_SOAK_ARGS="--depth 164 --batch-size 128" \
    cargo test --release --test soak -- --nocapture
part scripts/audit.sh
part scripts/fuzz.sh "${1:-300}"
