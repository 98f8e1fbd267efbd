#!/usr/bin/env bash
# Fuzzes every parser of input from outside, SECONDS each (300 unless told otherwise):
#
#   ./setup && cargo install cargo-fuzz && scripts/fuzz.sh [SECONDS] [PARSER...]
#
# Begins with good input and with what earlier calls found (fuzz/corpus/). Ends with an error at the first input that
# crashes a parser, hangs it or takes more memory than it may; cargo-fuzz says where it has put that input.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
seconds=${1:-300}
shift || true

RESNET_XLA_SEEDS=$PWD/fuzz/corpus \
    cargo test --quiet --release --lib fuzzing::tests::the_seeds_are_what_the_parsers_expect

# cargo-fuzz uses switches that are unstable: this has a stable compiler take them.
export RUSTC_BOOTSTRAP=1
# The same variables as .cargo/config.toml sets, for a workspace of its own.
export XLA_EXTENSION_DIR=${XLA_EXTENSION_DIR:-$PWD/.xla}
export LIBCLANG_PATH=${LIBCLANG_PATH:-$PWD/.xla/libclang/lib} CLANG_PATH=${CLANG_PATH:-$PWD/xla_runtime/c_headers}
export LD_LIBRARY_PATH=$XLA_EXTENSION_DIR/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}

targets=("$@")
if ((${#targets[@]} == 0)); then
    mapfile -t targets < <(cargo fuzz list)
fi
log=$(mktemp)
trap 'rm "$log"' EXIT
counts=()
for target in "${targets[@]}"; do
    echo "== $target, $seconds s"
    # The address sanitizer has nothing to find in the parsers, which are safe Rust; the XLA runtime is not built for it.
    cargo fuzz run --sanitizer none "$target" -- \
        -max_total_time="$seconds" -timeout=10 -rss_limit_mb=3072 -max_len=65536 2>&1 | tee "$log"
    counts+=("$target: $(grep '^Done' "$log")")
done
printf '%s\n' "${counts[@]}"
