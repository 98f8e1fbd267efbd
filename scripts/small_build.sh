#!/usr/bin/env bash
# Builds the program without the XLA runtime, one file that needs no ./setup, and puts it where tests/small_build.rs
# looks for it: target/small/resnet-xla.
#
# The full program is built anew the next time: both are built in the same place, so that they share what they are made of.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
target=${CARGO_TARGET_DIR:-target}

cargo build --release --no-default-features --bin resnet-xla
mkdir -p "$target/small"
cp "$target/release/resnet-xla" "$target/small/resnet-xla"
git rev-parse HEAD >"$target/small/commit"
ls -l "$target/small/resnet-xla"
