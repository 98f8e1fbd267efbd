#!/usr/bin/env bash
# The long form of docs/reliability.md: kills, damaged input, soak, fuzzing. Fuzzing alone takes 40 minutes.
#
#   ./setup cpu-plugin && cargo install cargo-fuzz && scripts/reliability_long.sh
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

RESNET_XLA_KILL_ROUNDS=200 cargo test --release --test kill -- --nocapture
RESNET_XLA_HOSTILE_CASES=5000 cargo test --release --lib hostile -- --nocapture
RESNET_XLA_SOAK_STEPS=2000 cargo test --release --test soak -- --nocapture
cargo test --release --test faults --test resume -- --nocapture
scripts/fuzz.sh 300
